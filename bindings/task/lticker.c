/* SPDX-License-Identifier: MIT
 *
 * lticker.c - finds tasks that run without waiting. A signal is sent for each TICK_NS of
 * processor time that this thread has used, only while there is something to look for; it never
 * wakes a process that sleeps. A hook (lhook.c) acts on the result: in a cancelled task the
 * error is raised (lcancel.c), and a task that the watchdog watches is reported.
 *
 * A host keeps its signals: there the hook itself is called after so many instructions of a task
 * that has something to look for, and looks at the clock. Such code is slower.
 */
#include "base/lrelease.h"
#include "base/lfinalize.h"
#include "base/lmodules.h"
#include "base/lsystem.h"
#include "task/lcancel.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define TICK_NS 10000000
#define IDLE_TICKS 20 /* with nothing to look for, before the timer is stopped */
#define TICK_SIGNAL MPE_ASK_SIGNAL

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

void (*lmpe_urgent)(const void *siginfo);

static lmpe *profiled; /* the state that the timer of the process is for */

void
lmpe_report_overdue(lua_State *L, lmpe *S)
{
    struct lmpe_ticker *k = S->ticker;
    if (!k->report)
        return;
    k->report = 0;
    if (!lmpe_push_hook(L, "overdue")) {
        lua_pop(L, 1);
        return;
    }
    lmpe_push_traceback_from(L, 0);
    lua_pushnumber(L, (lua_Number)(mpe_now() - k->since) / MPE_NS_PER_S);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK)
        lua_pop(L, 1);
}

static void
set_timer(struct lmpe_ticker *k, long ns)
{
    struct itimerspec t = {{0, ns}, {0, ns}};
    struct itimerval same = {{0, ns / 1000}, {0, ns / 1000}};
    if (k->made == LMPE_OWN_TIMER)
        timer_settime(k->timer, 0, &t, NULL);
    else if (k->made)
        setitimer(ITIMER_PROF, &same, NULL);
    k->ticking = ns != 0;
}

static void
tick(lmpe *S)
{
    struct lmpe_ticker *k = S->ticker;
    lmpe_task *t = S->current;
    int whole = k->switches == S->switches;
    if (!whole) {
        k->switches = S->switches;
        k->since = mpe_now();
        k->reported = k->overdue = 0;
    }
    if (t->state == LMPE_RUNNING && lmpe_is_over(lmpe_running(S), S, t)) {
        k->overdue |= lmpe_count_tick(lmpe_running(S), S, t, whole);
        if (k->overdue)
            lmpe_hook(S, 1);
    } else if (k->watch_ns && !k->reported && mpe_now() - k->since >= k->watch_ns) {
        k->reported = k->report = 1;
        lmpe_hook(S, 1);
    } else if (!k->watch_ns && !k->deadlines && !t->killed && ++k->idle_ticks > IDLE_TICKS) {
        set_timer(k, 0);
    }
}

/* The timer's signal comes to the thread that made it, with its state. */
static void
on_tick(int sig, siginfo_t *info, void *context)
{
    int saved = errno;
    (void)context;
    if (sig == TICK_SIGNAL && info->si_code != SI_TIMER) {
        if (lmpe_urgent)
            lmpe_urgent(info);
        errno = saved;
        return;
    }
    lmpe *S = info->si_code == SI_TIMER ? info->si_value.sival_ptr : profiled;
    if (S && S->ticker && S->ticker->ticking)
        tick(S);
    errno = saved;
}

void
lmpe_tick(lmpe *S)
{
    uint64_t now = mpe_now();
    if (now - S->ticker->looked < TICK_NS)
        return;
    S->ticker->looked = now;
    tick(S);
}

static struct sigaction
tick_action(void)
{
    struct sigaction action = {.sa_sigaction = on_tick, .sa_flags = SA_RESTART | SA_SIGINFO};
    sigfillset(&action.sa_mask);
    return action;
}

void
lmpe_urgent_install(void)
{
    struct sigaction action = tick_action();
    sigaction(TICK_SIGNAL, &action, NULL);
}

/* With no room for a signal in the queue (ulimit -i) there is only the timer of the process. */
static void
make_timer(lmpe *S)
{
    struct lmpe_ticker *k = S->ticker;
    struct sigaction action = tick_action();
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK_SIGNAL};
    event.sigev_value.sival_ptr = S;
    event.sigev_notify_thread_id = gettid();
    sigaction(TICK_SIGNAL, &action, NULL);
    lmpe_signal_unblock(TICK_SIGNAL);
    k->made = LMPE_OWN_TIMER;
    if (timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &k->timer) == 0)
        return;
    k->made = LMPE_PROFILE_TIMER;
    profiled = S;
    sigaction(SIGPROF, &action, NULL);
    lmpe_signal_unblock(SIGPROF);
}

void
lmpe_start_ticking(lmpe *S)
{
    struct lmpe_ticker *k = S->ticker;
    if (!S->is_program) {
        lmpe_hook(S, LMPE_TICK_INSTRUCTIONS);
        return;
    }
    k->idle_ticks = 0;
    if (k->ticking)
        return;
    if (!k->made)
        make_timer(S);
    k->switches = S->switches - 1;
    set_timer(k, TICK_NS);
}

/* watchdog(seconds | nil): reports tasks that run so long without waiting */
static int
watchdog(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    if (lua_isnoneornil(L, 1)) {
        S->ticker->watch_ns = 0;
        return 0;
    }
    lua_Number seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds > 0, 1, "seconds must be a number above 0");
    S->ticker->watch_ns = (uint64_t)(seconds * MPE_NS_PER_S);
    lmpe_start_ticking(S);
    return 0;
}

/* A child has no timer. */
void
lmpe_cancel_forked(lmpe *S)
{
    if (!S->ticker->made && !S->ticker->deadlines && !S->ticker->watch_ns)
        return; /* a store would copy the page */
    S->ticker->made = LMPE_NO_TIMER;
    S->ticker->ticking = 0;
    S->ticker->deadlines = 0;
    S->ticker->watch_ns = 0;
}

static int
ticker_gc(lua_State *L)
{
    struct lmpe_ticker *k = lmpe_finalized(L, NULL, sizeof *k);
    if (!k)
        return 0;
    if (k->made == LMPE_OWN_TIMER)
        timer_delete(k->timer);
    else if (k->made)
        set_timer(k, 0);
    k->made = LMPE_NO_TIMER;
    k->ticking = 0;
    if (profiled && profiled->ticker == k)
        profiled = NULL;
    return 0;
}

void
lmpe_open_ticker(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"watchdog", watchdog},
        {NULL, NULL},
    };
    struct lmpe_ticker *k = lua_newuserdatauv(L, sizeof *k, 0);
    memset(k, 0, sizeof *k);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, ticker_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, k);
    S->ticker = k;
    lmpe_setfuncs(L, S, functions);
}
