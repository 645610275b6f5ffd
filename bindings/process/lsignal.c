/* SPDX-License-Identifier: MIT
 *
 * lsignal.c - signals, for the one Lua universe that is the program (the command, or stock lua): a host
 * keeps its signals to itself.
 *
 * In the main process SIGINT and SIGTERM raise an error in the main chunk: at its current wait,
 * which is left as by a kill, or, while Lua runs, by the hook of lhook.c. A task that computes
 * meanwhile and does not yield is killed with it. A second signal ends the program at once. A
 * child ends by them as by default, but at a point where its output can be flushed. If it
 * reaches no such point soon, because C code blocks, the handler writes what it can.
 *
 * mp.signal(name, f): the handler records the signal. In a process that waits, it wakes the
 * loop, which runs f as a task. In one that runs Lua code, the hook runs f as a task
 * immediately, until it waits for the first time.
 */
#include "task/ltask.h"
#include "base/lmodules.h"
#include "base/lsystem.h"
#include "process/lprocess.h"
#include "process/lview.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#define LAST_SIGNAL 64
#define LATE_MICROSECONDS                                                                          \
    100000 /* a child that has reached no safe point by then dies in the handler */
#define INTERRUPT "mp.interrupt" /* metatable of the two errors in the registry: */
#define INTERRUPTED "mpengine.interrupted"
#define TERMINATED "mpengine.terminated"
#define PATIENCE_INSTRUCTIONS                                                                      \
    100000 /* for a task that computes while the main one is interrupted */

static struct {
    lmpe *S;
    volatile sig_atomic_t raised;                 /* for the main task, until it is raised there */
    volatile sig_atomic_t fatal;                  /* this child ends by it */
    volatile sig_atomic_t noted[LAST_SIGNAL + 1]; /* for tasks of mp.signal */
    volatile sig_atomic_t any_noted;
    volatile sig_atomic_t child_ended; /* one or more since the last check */
    char caught[LAST_SIGNAL + 1];      /* by mp.signal */
    int handlers;                      /* how many of them */
    int ended_by;                      /* the signal raised in the main task */
    pthread_t thread;            /* runs Lua; signals that other threads get are sent on to it */
    char taken[LAST_SIGNAL + 1]; /* from a host, which gets them back */
    struct sigaction before[LAST_SIGNAL + 1];
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

static void
signal_take(lua_State *L, lmpe *S)
{
    luaL_checkstack(L, 6, NULL);
    lua_getfield(L, LUA_REGISTRYINDEX, sig.raised == SIGTERM ? TERMINATED : INTERRUPTED);
    if (S->current == S->main_task) {
        sig.ended_by = sig.raised;
        sig.raised = 0;
        mpe_interrupt_clear(S->e);
        return;
    }
    lmpe_keep_traceback(L, 0); /* for the main task, at its own wait */
    lmpe_push_task(L, S->current);
    lua_pushvalue(L, -2);
    lmpe_set_kill(L, -2);
    lua_pop(L, 1);
    lmpe_start_ticking(S); /* it may catch the error */
    mpe_interrupt(S->e);
}

/* Must one be raised in the current task? */
static int
raises(lmpe *S)
{
    return S == sig.S && sig.raised && (S->current == S->main_task || !S->current->killed);
}

static int
is_due(lmpe *S)
{
    return S == sig.S && sig.raised;
}

/* In its own wait a main task runs code of the library only: the wait raises. */
static int
raises_here(lmpe *S)
{
    return raises(S) && S->current->state == LMPE_RUNNING;
}

static int
wants(lmpe *S)
{
    if (S != sig.S || !S->e)
        return 0;
    if (sig.fatal)
        die(S, sig.fatal);
    return sig.any_noted || sig.child_ended || raises_here(S) || lmpe_is_asked(S);
}

static void
look_at_children(lmpe *S)
{
    sig.child_ended = 0;
    lmpe_reap_children(S);
}

/* Calls the hook for each recorded signal. */
static void
start_tasks(lua_State *L, int at_once)
{
    sig.any_noted = 0;
    for (int i = 1; i <= LAST_SIGNAL; i++) {
        if (!sig.noted[i])
            continue;
        sig.noted[i] = 0;
        luaL_checkstack(L, 4, NULL);
        lmpe_push_hook(L, "signal");
        lua_pushinteger(L, i);
        lua_pushboolean(L, at_once);
        if (lua_pcall(L, 2, 0, 0) != LUA_OK)
            lua_pop(L, 1);
    }
}

static void
act(lua_State *L, lmpe *S)
{
    if (S != sig.S)
        return;
    if (sig.child_ended)
        look_at_children(S);
    if (sig.any_noted)
        start_tasks(L, 1);
    if (lmpe_is_asked(S))
        lmpe_answer(L, S);
    if (!raises_here(S))
        return;
    signal_take(L, S);
    if (S->current != S->main_task)
        lmpe_raise_cancelled(L, S, S->current);
    lua_error(L);
}

static int
pending(lua_State *L, lmpe *S)
{
    if (S != sig.S)
        return 0;
    if (sig.fatal)
        die(S, sig.fatal);
    if (sig.child_ended)
        look_at_children(S);
    if (sig.any_noted)
        start_tasks(L, 0);
    if (lmpe_is_asked(S))
        lmpe_answer(L, S);
    return raises(S);
}

int
lmpe_signal_raised(void)
{
    return sig.raised ? sig.raised : sig.ended_by;
}

/* ---- handlers ---- */

void
lmpe_signal_keep(int number)
{
    if (!sig.taken[number] && sig.S && sig.S->is_host)
        sig.taken[number] = sigaction(number, NULL, &sig.before[number]) == 0;
}

/* No two handlers run at a time: they set hooks. */
static void
install(int number, void (*handler)(int), int flags)
{
    struct sigaction a = {.sa_handler = handler, .sa_flags = flags};
    sigfillset(&a.sa_mask);
    lmpe_signal_keep(number);
    sigaction(number, &a, NULL);
}

static int
is_ignored(int number)
{
    struct sigaction a;
    return sigaction(number, NULL, &a) == 0 && a.sa_handler == SIG_IGN;
}

/* A process that is bound to another gets SIGTERM and SIGCONT from its end once. */
static void
note_bond(int number)
{
    if (number == SIGTERM && sig.S && sig.S->e)
        mpe_bound_signal(sig.S->e);
    else if (number == SIGCONT && sig.S && sig.S->e)
        mpe_bound_continued(sig.S->e);
}

static void
on_continue(int number)
{
    int saved = errno;
    note_bond(number);
    errno = saved;
}

/* Another thread got it: it is sent on to the thread that runs Lua. */
static int
sent_on(int number)
{
    if (pthread_equal(pthread_self(), sig.thread))
        return 0;
    pthread_kill(sig.thread, number);
    return 1;
}

void
lmpe_alert(lmpe *S, int instructions)
{
    lmpe_hook(S, instructions);
    mpe_interrupt(S->e);
}

static void
alert(int instructions)
{
    if (sig.S && sig.S->e)
        lmpe_alert(sig.S, instructions);
}

/* The next one ends the program. */
static void
on_program_signal(int number)
{
    int saved = errno;
    if (sent_on(number))
        return;
    signal(number, SIG_DFL);
    sig.raised = number;
    alert(sig.S && sig.S->current != sig.S->main_task ? PATIENCE_INSTRUCTIONS : 1);
    errno = saved;
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
    note_bond(number);
    if (sent_on(number))
        return;
    signal(number, SIG_DFL);
    sig.fatal = number;
    install(SIGALRM, on_late, 0);
    setitimer(ITIMER_REAL, &late, NULL);
    alert(1);
    errno = saved;
}

static void
on_script_signal(int number)
{
    int saved = errno;
    note_bond(number);
    if (sent_on(number))
        return;
    sig.noted[number] = 1;
    sig.any_noted = 1;
    sig.child_ended |= number == SIGCHLD;
    alert(1);
    errno = saved;
}

/* For any child: children of io.popen are not reaped here. While the main task waits, and all
 * tasks with it, no code runs that could be interrupted. */
static void
on_child_end(int number)
{
    int saved = errno;
    if (sent_on(number))
        return;
    sig.child_ended = 1;
    if (!sig.S || !sig.S->e)
        return;
    if (sig.S->current->state == LMPE_WAITING)
        mpe_interrupt(sig.S->e);
    else
        alert(1);
    errno = saved;
}

static void
take(int number, void (*handler)(int), int flags)
{
    sig.thread = pthread_self();
    install(number, handler, flags);
}

/* Without SA_RESTART, so that a blocked read of the main chunk ends too. */
void
lmpe_signals_open(lmpe *S)
{
    sig.S = S;
    take(SIGINT, on_program_signal, 0);
    if (!is_ignored(SIGTERM))
        take(SIGTERM, on_program_signal, 0);
    lmpe_answers_open(S);
}

int
lmpe_signal_children(lmpe *S)
{
    struct sigaction now;
    if (sig.S != S || !S->is_program || sigaction(SIGCHLD, NULL, &now) != 0)
        return 0;
    if (now.sa_handler == SIG_DFL)
        take(SIGCHLD, on_child_end, SA_RESTART | SA_NOCLDSTOP);
    return now.sa_handler == SIG_DFL || now.sa_handler == on_child_end ||
           now.sa_handler == on_script_signal;
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
    if (raised) /* its parent was stopped while it was made */
        die(S, raised);
    take(SIGINT, on_child_signal, 0);
    take(SIGTERM, on_child_signal, 0);
    take(SIGCONT, on_continue, SA_RESTART);
    lmpe_answers_open(S);
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

/* The engine's own use of a signal when no script wants it. */
static void
install_default(lmpe *S, int number)
{
    int is_ours = sig.S == S && (number == SIGINT || number == SIGTERM), alive;
    if (sig.S == S && number == SIGQUIT && !S->is_host)
        lmpe_quit_install();
    else if (sig.S == S && number == SIGCONT)
        take(number, on_continue, SA_RESTART);
    else if (!is_ours)
        signal(number, SIG_DFL);
    else if (mpe_parent_pid(S->e, &alive))
        take(number, on_child_signal, 0);
    else
        take(number, on_program_signal, 0);
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
        return lmpe_fileresult(L, 0, NULL);
    }
    if (!sig.S)
        sig.S = S;
    mpe_keep_alive(S->e, (way == 0) - sig.caught[number]);
    sig.caught[number] = way == 0;
    sig.noted[number] = 0;
    if (way == 0) {
        take(number, on_script_signal, SA_RESTART);
        lmpe_signal_unblock(number);            /* a starter may have left it blocked */
    } else if (way == 1 || number == SIGCONT) { /* it continues one that ignores it, too */
        install_default(S, number);
    } else {
        signal(number, SIG_IGN);
    }
    if (number == SIGCHLD)
        lmpe_signal_children(S);
    lua_pushboolean(L, 1);
    return 1;
}

/* Under the key in the registry: the error, which keeps the number. */
static void
make_error(lua_State *L, const char *key, int number)
{
    lua_newtable(L);
    lua_pushinteger(L, number);
    lua_setfield(L, -2, "signal");
    luaL_setmetatable(L, INTERRUPT);
    lua_setfield(L, LUA_REGISTRYINDEX, key);
}

static int
number_of(lua_State *L, int idx)
{
    int number = 0, top = lua_gettop(L);
    idx = lua_absindex(L, idx);
    if (!lua_istable(L, idx) || !lua_getmetatable(L, idx))
        return 0;
    luaL_getmetatable(L, INTERRUPT);
    if (lua_rawequal(L, -1, -2)) {
        lua_getfield(L, idx, "signal");
        number = (int)lua_tointeger(L, -1);
    }
    lua_settop(L, top);
    return number;
}

/* signal_of(error) -> the number of the signal that raised it, or nil */
static int
signal_of(lua_State *L)
{
    luaL_checkany(L, 1);
    int number = number_of(L, 1);
    if (number == 0)
        return 0;
    lua_pushinteger(L, number);
    return 1;
}

/* meet_interrupt(): raises an interrupt that arrived and was not raised in the script's own code */
static int
meet_interrupt(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    if (!raises(S))
        return 0;
    signal_take(L, S);
    return lua_error(L);
}

/* catch_interrupts(): restores the initial handling of SIGINT and SIGTERM */
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
    lua_getfield(L, 1, "signal");
    lua_pushstring(L, lua_tointeger(L, -1) == SIGTERM ? "terminated" : "interrupted");
    return 1;
}

static void
on_fork(lua_State *L, lmpe *S)
{
    (void)L;
    lmpe_signals_child(S);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"signal_number", signal_number},   {"catch_signal", catch_signal},
        {"signal_of", signal_of},           {"catch_interrupts", catch_interrupts},
        {"meet_interrupt", meet_interrupt}, {NULL, NULL}};
    static const lmpe_signal_hooks hooks = {.pending = pending,
                                            .is_due = is_due,
                                            .take = signal_take,
                                            .wants = wants,
                                            .act = act,
                                            .number_of = number_of};
    S->signals = &hooks;
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, INTERRUPT);
    lua_pushcfunction(L, interrupt_tostring);
    lua_setfield(L, -2, "__tostring");
    lua_pop(L, 1);
    make_error(L, INTERRUPTED, SIGINT);
    make_error(L, TERMINATED, SIGTERM);
}

/* The program of a host goes on. */
static void
on_close(lua_State *L, lmpe *S)
{
    (void)L;
    if (sig.S != S || !S->is_host)
        return;
    for (int i = 1; i <= LAST_SIGNAL; i++)
        if (sig.taken[i])
            sigaction(i, &sig.before[i], NULL);
    memset(&sig, 0, sizeof sig);
}

const lmpe_module lmpe_signal_module = {.open = on_open, .forked = on_fork, .close = on_close};
