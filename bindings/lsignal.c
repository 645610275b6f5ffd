/* SPDX-License-Identifier: MIT
 *
 * lsignal.c - signals, for the one Lua universe that is the program (the command, or stock lua): a host
 * keeps its signals to itself.
 *
 * In the main process SIGINT and SIGTERM raise an error in the main chunk: at the wait it is in, or,
 * while Lua runs, by a hook; the other tasks are in its way no longer than that. A second one ends the
 * program at once. A child ends by them as by default, but at a point where its output can be
 * flushed; when none comes soon, because C code blocks, the handler does what it can.
 *
 * mp.signal(name, f): the handler notes the signal and wakes the loop, which runs f as a task.
 */
#include "lmpe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define LAST_SIGNAL 64
#define LATE_MICROSECONDS                                                                          \
    100000 /* a child that has reached no safe point by then dies in the handler */
#define INSIST_INSTRUCTIONS 1000000 /* a task that catches the error meets it again after so many */

static struct {
    lmpe *S;
    volatile sig_atomic_t raised;                 /* for the main task, until it is raised there */
    volatile sig_atomic_t fatal;                  /* this child ends by it */
    volatile sig_atomic_t noted[LAST_SIGNAL + 1]; /* for tasks of mp.signal */
    volatile sig_atomic_t any_noted;
    char caught[LAST_SIGNAL + 1]; /* by mp.signal */
    int handlers;                 /* how many of them */
    int ended_by;                 /* what was raised in the main task */
} sig;

static const struct {
    const char *name;
    int number;
} names[] = {{"HUP", SIGHUP},   {"INT", SIGINT},     {"QUIT", SIGQUIT}, {"USR1", SIGUSR1},
             {"USR2", SIGUSR2}, {"PIPE", SIGPIPE},   {"ALRM", SIGALRM}, {"TERM", SIGTERM},
             {"CHLD", SIGCHLD}, {"CONT", SIGCONT},   {"TSTP", SIGTSTP}, {"TTIN", SIGTTIN},
             {"TTOU", SIGTTOU}, {"WINCH", SIGWINCH}, {"URG", SIGURG},   {"IO", SIGIO}};

/* ---- safe points ---- */

/* Ends this process by a signal, from a place where the engine and stdio are whole. */
static void
die(lmpe *S, int number)
{
    sigset_t one;
    lmpe_output_flush(S);
    fflush(NULL);
    if (S->e)
        mpe_leave(S->e);
    signal(number, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, number);
    kill(getpid(), number);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    _exit(128 + number);
}

void
lmpe_signal_raise(lua_State *L, lmpe *S)
{
    luaL_checkstack(L, 6, NULL);
    lua_getfield(L, LUA_REGISTRYINDEX, "mpengine.interrupt");
    if (S->current == S->main_task) {
        sig.ended_by = sig.raised;
        sig.raised = 0;
        mpe_interrupt_clear(S->e);
    } else { /* this task ends, and the main one meets it at its own wait */
        lmpe_push_task(L, S->current);
        lua_pushvalue(L, -2);
        lmpe_set_kill(L, -2);
        lua_pop(L, 1);
        mpe_interrupt(S->e);
    }
    lua_error(L);
}

static void
on_safe_point(lua_State *L, lua_Debug *ar)
{
    lmpe *S = sig.S;
    (void)ar;
    if (S && sig.fatal)
        die(S, sig.fatal);
    if (!S || !S->e || !sig.raised) {
        lua_sethook(L, NULL, 0, 0);
        return;
    }
    if (S->current == S->main_task && S->main_task->state == LMPE_WAITING)
        return; /* code of the library beside its wait, which is where it is raised */
    if (S->current == S->main_task)
        lua_sethook(L, NULL, 0, 0);
    else
        lua_sethook(L, on_safe_point, LUA_MASKCOUNT, INSIST_INSTRUCTIONS);
    lmpe_signal_raise(L, S);
}

/* On every thread that may be the one that runs. */
static void
set_hooks(lmpe *S)
{
    const int mask = LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT;
    lua_sethook(S->main, on_safe_point, mask, 1);
    lua_sethook(S->driver, on_safe_point, mask, 1);
    if (S->current->co)
        lua_sethook(S->current->co, on_safe_point, mask, 1);
    for (lmpe_link *l = S->links; l; l = l->prev)
        lua_sethook(l->inner, on_safe_point, mask, 1);
}

static void
reach_safe_point(void)
{
    lmpe *S = sig.S;
    if (!S || !S->e)
        return;
    set_hooks(S);
    mpe_interrupt(S->e);
}

/* Calls the dispatcher of mpengine/signal.lua for each signal noted. */
static void
start_tasks(lua_State *L)
{
    sig.any_noted = 0;
    for (int i = 1; i <= LAST_SIGNAL; i++) {
        if (!sig.noted[i])
            continue;
        sig.noted[i] = 0;
        luaL_checkstack(L, 4, NULL);
        lua_getfield(L, LUA_REGISTRYINDEX, "mpengine.on_signal");
        lua_pushinteger(L, i);
        if (lua_pcall(L, 1, 0, 0) != LUA_OK)
            lua_pop(L, 1);
    }
}

int
lmpe_signal_pending(lua_State *L, lmpe *S)
{
    if (S != sig.S)
        return 0;
    if (sig.fatal)
        die(S, sig.fatal);
    if (sig.any_noted)
        start_tasks(L);
    return sig.raised != 0;
}

int
lmpe_signal_raised(void)
{
    return sig.raised ? sig.raised : sig.ended_by;
}

/* ---- handlers ---- */

static void
install(int number, void (*handler)(int), int flags)
{
    struct sigaction a = {.sa_handler = handler, .sa_flags = flags};
    sigaction(number, &a, NULL);
}

static int
is_ignored(int number)
{
    struct sigaction a;
    return sigaction(number, NULL, &a) == 0 && a.sa_handler == SIG_IGN;
}

static void
on_program_signal(int number)
{
    sig.raised = number;
    reach_safe_point();
}

static void
on_late(int number)
{
    (void)number;
    if (sig.S)
        lmpe_output_rescue(sig.S);
    signal(sig.fatal, SIG_DFL);
    kill(getpid(), sig.fatal);
}

static void
on_child_signal(int number)
{
    const struct itimerval late = {{0, 0}, {0, LATE_MICROSECONDS}};
    int saved = errno;
    sig.fatal = number;
    install(SIGALRM, on_late, 0);
    setitimer(ITIMER_REAL, &late, NULL);
    reach_safe_point();
    errno = saved;
}

static void
on_script_signal(int number)
{
    int saved = errno;
    sig.noted[number] = 1;
    sig.any_noted = 1;
    if (sig.S && sig.S->e)
        mpe_interrupt(sig.S->e);
    errno = saved;
}

/* Without SA_RESTART, so that a blocked read of the main chunk ends too. */
void
lmpe_signals_open(lmpe *S)
{
    sig.S = S;
    install(SIGINT, on_program_signal, SA_RESETHAND);
    if (!is_ignored(SIGTERM))
        install(SIGTERM, on_program_signal, SA_RESETHAND);
}

/* In a child, before its own code; in a forked one the two signals are blocked since before the fork. */
void
lmpe_signals_child(lmpe *S)
{
    int raised = sig.raised;
    for (int i = 1; i <= LAST_SIGNAL; i++)
        if (sig.caught[i])
            signal(i, SIG_DFL);
    memset(&sig, 0, sizeof sig);
    sig.S = S;
    if (raised) /* its parent was stopped as it was made */
        die(S, raised);
    install(SIGINT, on_child_signal, SA_RESETHAND);
    install(SIGTERM, on_child_signal, SA_RESETHAND);
}

void
lmpe_signals_hold(sigset_t *before)
{
    sigset_t held;
    sigemptyset(&held);
    sigaddset(&held, SIGINT);
    sigaddset(&held, SIGTERM);
    for (int i = 1; i <= LAST_SIGNAL; i++)
        if (sig.caught[i])
            sigaddset(&held, i);
    sigprocmask(SIG_BLOCK, &held, before);
}

/* ---- for mpengine/signal.lua ---- */

/* signal_number(name or number) -> number, nil when there is no such signal */
static int
signal_number(lua_State *L)
{
    if (lua_isinteger(L, 1)) {
        lua_Integer n = lua_tointeger(L, 1);
        if (n < 1 || n > LAST_SIGNAL)
            return 0;
        lua_pushinteger(L, n);
        return 1;
    }
    const char *name = luaL_checkstring(L, 1);
    if (strncmp(name, "SIG", 3) == 0)
        name += 3;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (strcmp(names[i].name, name) == 0) {
            lua_pushinteger(L, names[i].number);
            return 1;
        }
    return 0;
}

/* What the engine itself does with a signal when no script wants it. */
static void
install_default(lmpe *S, int number)
{
    int is_ours = sig.S == S && (number == SIGINT || number == SIGTERM), alive;
    if (!is_ours)
        signal(number, SIG_DFL);
    else if (mpe_parent_pid(S->e, &alive))
        install(number, on_child_signal, SA_RESETHAND);
    else
        install(number, on_program_signal, SA_RESETHAND);
}

/* catch_signal(number, "task" | "default" | "ignore") -> true | nil, message */
static int
catch_signal(lua_State *L)
{
    static const char *const ways[] = {"task", "default", "ignore", NULL};
    lmpe *S = lmpe_self(L);
    int number = (int)luaL_checkinteger(L, 1), way = luaL_checkoption(L, 2, NULL, ways);
    struct sigaction old;
    if (number < 1 || number > LAST_SIGNAL || sigaction(number, NULL, &old) != 0 ||
        number == SIGKILL || number == SIGSTOP) {
        errno = EINVAL;
        return luaL_fileresult(L, 0, NULL);
    }
    if (!sig.S)
        sig.S = S;
    mpe_keep_alive(S->e, (way == 0) - sig.caught[number]);
    sig.caught[number] = way == 0;
    sig.noted[number] = 0;
    if (way == 0)
        install(number, on_script_signal, SA_RESTART);
    else if (way == 1)
        install_default(S, number);
    else
        signal(number, SIG_IGN);
    lua_pushboolean(L, 1);
    return 1;
}

/* signal_raised() -> the number of the signal that ended the main chunk, or nil */
static int
signal_raised(lua_State *L)
{
    if (!lmpe_signal_raised())
        return 0;
    lua_pushinteger(L, lmpe_signal_raised());
    return 1;
}

/* catch_interrupts(): takes SIGINT and SIGTERM as at first, once more */
static int
catch_interrupts(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    sig.ended_by = 0;
    if (S->is_program)
        lmpe_signals_open(S);
    return 0;
}

static int
interrupt_tostring(lua_State *L)
{
    lua_pushstring(L, sig.ended_by == SIGTERM ? "terminated" : "interrupted");
    return 1;
}

void
lmpe_open_signal(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"signal_number", signal_number},
                                         {"catch_signal", catch_signal},
                                         {"signal_raised", signal_raised},
                                         {"catch_interrupts", catch_interrupts},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    lua_newtable(L);
    lua_createtable(L, 0, 2);
    lua_pushcfunction(L, interrupt_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pushliteral(L, "mp.interrupt");
    lua_setfield(L, -2, "__name");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_setfield(L, LUA_REGISTRYINDEX, "mpengine.interrupt");
    lua_setfield(L, -2, "interrupt");
}
