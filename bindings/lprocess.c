/* SPDX-License-Identifier: MIT
 *
 * lprocess.c - child processes: starting, waiting, signals, and the end of a process. What a
 * Process object is for scripts lies in mpengine/process.lua.
 *
 * The children are kept in a list of their own, since at the end of the program they are waited for
 * when every userdata may have been collected already.
 */
#include "lmpe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define CHILD "mpengine.child"

typedef struct lmpe_child lmpe_child;
struct lmpe_child {
    struct lmpe_child *next;
    mpe_process *p;
    int daemon, ended, code;
    int dropped; /* its userdata is gone */
};

static lmpe_child *
check_child(lua_State *L)
{
    return *(lmpe_child **)luaL_checkudata(L, 1, CHILD);
}

mpe_process *
lmpe_test_process(lua_State *L, int idx)
{
    lmpe_child **c = luaL_testudata(L, idx, CHILD);
    return c ? (*c)->p : NULL;
}

static void
forget(lmpe *S, lmpe_child *c)
{
    lmpe_child **at = &S->children;
    while (*at && *at != c)
        at = &(*at)->next;
    if (*at)
        *at = c->next;
}

/* 1 when it has ended. */
static int
poll_child(lmpe *S, lmpe_child *c)
{
    if (!c->ended && mpe_process_poll(S->e, c->p, &c->code) == MPE_OK) {
        c->ended = 1;
        forget(S, c);
    }
    return c->ended;
}

static void
free_child(lmpe *S, lmpe_child *c)
{
    mpe_process_free(S->e, c->p);
    free(c);
}

/* ---- the end of a process ---- */

void
lmpe_children_end(lmpe *S)
{
    int code;
    for (lmpe_child *c = S->children; c; c = c->next)
        if (c->daemon)
            mpe_process_signal(S->e, c->p, SIGTERM);
    while (S->children) {
        lmpe_child *c = S->children;
        siginfo_t info;
        if (mpe_process_poll(S->e, c->p, &code) != MPE_OK) {
            int rc = waitid(P_PID, (id_t)mpe_process_pid(c->p), &info, WEXITED | WNOWAIT);
            if (rc != 0 && errno == EINTR)
                continue;
            mpe_process_poll(S->e, c->p, &code);
        }
        c->ended = 1;
        c->code = code;
        S->children = c->next;
        mpe_reap_dead(S->e);
    }
}

/* Ends this process now: what it holds is given up, nothing is unwound or collected. */
static int
end_process(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    int code = (int)luaL_checkinteger(L, 1);
    lmpe_output_flush(S);
    fflush(NULL);
    mpe_leave(S->e);
    _exit(code & 0xff);
}

/* leave(): gives up what this process holds, before an exit that unwinds nothing */
static int
leave(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    mpe_engine *e = S->e;
    lmpe_output_flush(S);
    S->e = NULL;
    mpe_leave(e);
    return 0;
}

/* ---- interrupts ---- */

static lmpe *interrupted; /* whose main task a SIGINT is for; set once, by the command */

static void
raise_interrupted(lua_State *L, lua_Debug *ar)
{
    (void)ar;
    lua_sethook(L, NULL, 0, 0);
    luaL_error(L, "interrupted!");
}

/* Wakes the loop, and interrupts Lua code that runs, by a hook. */
static void
on_interrupt(int sig)
{
    lmpe *S = interrupted;
    signal(sig, SIG_DFL); /* a second one ends the program at once */
    if (!S || !S->e)
        return;
    lua_State *L = S->current->co ? S->current->co : S->driver;
    if (S->current->state == LMPE_RUNNING)
        lua_sethook(L, raise_interrupted, LUA_MASKCALL | LUA_MASKRET | LUA_MASKCOUNT, 1);
    else
        mpe_interrupt(S->e);
}

static int
catch_interrupts(lua_State *L)
{
    interrupted = lmpe_self(L);
    signal(SIGINT, on_interrupt);
    return 0;
}

/* children_end(): see lmpe_children_end */
static int
children_end(lua_State *L)
{
    lmpe_children_end(lmpe_self(L));
    return 0;
}

/* ---- starting ---- */

static void
in_child(lua_State *L, lmpe *S)
{
    signal(SIGINT, SIG_DFL);
    signal(SIGTERM, SIG_DFL);
    S->children = NULL; /* the parent's: their memory stays with their userdata */
    lmpe_output_forked(S);
    lmpe_sched_forked(L, S);
    lua_gc(L, LUA_GCSTOP); /* until the child's own main decides: see mpengine/process.lua */
}

/* Runs main(bytes) on a thread of its own, so that tracebacks begin there; never returns. */
static void
run_child(lua_State *L, lmpe *S, int status)
{
    int nres;
    if (status != MPE_OK)
        _exit(1); /* the parent died at the same moment */
    in_child(L, S);
    lua_pushthread(L); /* both coroutines are below everything that will run, and nobody's */
    lua_setfield(L, LUA_REGISTRYINDEX, "mpengine.forked_in");
    lua_State *co = lua_newthread(L);
    lua_setfield(L, LUA_REGISTRYINDEX, "mpengine.child_main");
    lua_pushvalue(L, 3);
    lua_pushvalue(L, 4);
    lua_xmove(L, co, 2);
    S->driver = co;
    lua_resume(co, L, 1, &nres); /* main ends the process */
    _exit(1);
}

/* fork(name, daemon, main, bytes) -> child userdata, in the parent; the child calls main(bytes) and
 * does not return. */
static int
fork_child(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    const char *name = luaL_checkstring(L, 1);
    int daemon = lua_toboolean(L, 2), is_child;
    luaL_checktype(L, 3, LUA_TFUNCTION);
    luaL_checkstring(L, 4);
    lmpe_child *c = calloc(1, sizeof *c);
    if (!c)
        return lmpe_raise(L, MPE_ENOMEM, "start");
    *(lmpe_child **)lua_newuserdatauv(L, sizeof c, 0) = c;
    lmpe_output_flush(S);
    fflush(NULL);
    int rc = mpe_process_fork(S->e, name, daemon ? MPE_PROCESS_DAEMON : 0, &c->p, &is_child);
    if (is_child)
        run_child(L, S, rc);
    if (rc != MPE_OK) {
        free(c);
        return lmpe_raise(L, rc, "start");
    }
    luaL_setmetatable(L, CHILD);
    c->daemon = daemon;
    c->next = S->children;
    S->children = c;
    return 1;
}

/* ---- a child, from its parent ---- */

static int
child_gc(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_child *c = check_child(L);
    if (S->e && c->ended)
        free_child(S, c);
    return 0; /* one that runs stays on the list */
}

static int
child_pid(lua_State *L)
{
    lua_pushinteger(L, mpe_process_pid(check_child(L)->p));
    return 1;
}

/* poll(child) -> exit code, nil while it runs */
static int
child_poll(lua_State *L)
{
    lmpe_child *c = check_child(L);
    if (!mpe_process_is_mine(c->p) || !poll_child(lmpe_self(L), c))
        return 0;
    lua_pushinteger(L, c->code);
    return 1;
}

static int
child_is_mine(lua_State *L)
{
    lua_pushboolean(L, mpe_process_is_mine(check_child(L)->p));
    return 1;
}

static int
child_signal(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_child *c = check_child(L);
    if (!poll_child(S, c))
        mpe_process_signal(S->e, c->p, (int)luaL_checkinteger(L, 2));
    return 0;
}

static int
attempt_wait(lmpe *S, lmpe_await *a)
{
    lmpe_child *c = (lmpe_child *)(uintptr_t)a->scratch[0];
    a->source = LMPE_PROCESS;
    a->on.process = c->p;
    return poll_child(S, c) ? MPE_OK : MPE_EAGAIN;
}

/* wait(child [, timeout]) -> true | nil, "timeout" */
static int
child_wait(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_child *c = check_child(L);
    lmpe_await *a = lmpe_await_new(S, lmpe_check_deadline(L, 2), "timeout");
    a->scratch[0] = (uintptr_t)c;
    a->attempt = attempt_wait;
    a->finish = lmpe_finish_true;
    return lmpe_await_run(L, S, a);
}

/* ---- this process ---- */

static int
process_name(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    if (lua_isstring(L, 1))
        mpe_self_set_name(S->e, lua_tostring(L, 1));
    lua_pushstring(L, mpe_self_name(S->e));
    return 1;
}

static int
process_pid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

/* parent() -> pid, name, is alive; nothing in the first process */
static int
process_parent(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    int alive, pid = mpe_parent_pid(S->e, &alive);
    if (pid == 0)
        return 0;
    lua_pushinteger(L, pid);
    lua_pushstring(L, mpe_parent_name(S->e));
    lua_pushboolean(L, alive);
    return 3;
}

/* kill(pid, signal) -> true | nil, message: for any process */
static int
process_kill(lua_State *L)
{
    int rc = kill((pid_t)luaL_checkinteger(L, 1), (int)luaL_checkinteger(L, 2));
    return luaL_fileresult(L, rc == 0, NULL);
}

void
lmpe_open_process(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"fork", fork_child},          {"child_pid", child_pid},     {"child_poll", child_poll},
        {"child_is_mine", child_is_mine}, {"child_signal", child_signal},
        {"child_wait", child_wait},    {"process_name", process_name}, {"pid", process_pid},
        {"parent", process_parent},    {"kill_pid", process_kill},   {"end_process", end_process},
        {"children_end", children_end}, {"leave", leave},
        {"catch_interrupts", catch_interrupts},
        {NULL, NULL},
    };
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, CHILD);
    lua_pushlightuserdata(L, S);
    lua_pushcclosure(L, child_gc, 1);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
