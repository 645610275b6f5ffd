/* SPDX-License-Identifier: MIT
 *
 * lprocess.c - child processes, from the parent's side, and queries of a process about itself.
 * lspawn.c starts them, lshutdown.c ends everything; the Process object of scripts is in
 * mpengine/process.lua.
 */
#include "base/lfinalize.h"
#include "base/lsystem.h"
#include "task/ltask.h"
#include "process/lprocess.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define NEAR_CHILDREN 4 /* whose notes are next to S: see lmpe_place */

lmpe_child *
lmpe_check_child(lua_State *L, int idx)
{
    lmpe_child *c = *(lmpe_child **)luaL_checkudata(L, idx, LMPE_CHILD);
    luaL_argcheck(L, c, idx, "the object has been collected");
    return c;
}

static int
file_end(lua_State *L, lmpe *S, int idx, mpe_waiter *w)
{
    lmpe_child **c = luaL_testudata(L, idx, LMPE_CHILD);
    if (!c || !*c)
        return MPE_ETYPE;
    if (!(*c)->p)
        return mpe_wait_timer(S->e, w, mpe_now());
    return mpe_process_wait(S->e, (*c)->p, w, MPE_FOREVER);
}

static int
is_near(const lmpe *S, const lmpe_child *c)
{
    return (const uint8_t *)c > (const uint8_t *)S && (const uint8_t *)c < S->room_end;
}

/* Notes are kept for the next child, until the library is closed. */
static void
free_child(lmpe *S, lmpe_child *c)
{
    if (!S->e) {
        if (!is_near(S, c))
            free(c);
        return;
    }
    c->next = S->spare_children;
    S->spare_children = c;
}

void
lmpe_child_ended(lmpe *S, lmpe_child *c)
{
    lmpe_child **at = &S->children;
    while (*at && *at != c)
        at = &(*at)->next;
    if (*at)
        *at = c->next;
    c->ended = 1;
    S->ended_children++;
    mpe_process_free(S->e, c->p);
    c->p = NULL;
    if (c->dropped)
        free_child(S, c);
}

int
lmpe_poll_child(lmpe *S, lmpe_child *c)
{
    int rc = c->ended ? MPE_EAGAIN : mpe_process_poll(S->e, c->p, &c->code);
    if (rc == MPE_ESTALE)
        c->code = MPE_EXIT_LOST;
    if (rc == MPE_OK || rc == MPE_ESTALE)
        lmpe_child_ended(S, c);
    return c->ended;
}

void
lmpe_reap_children(lmpe *S)
{
    for (lmpe_child *c = S->children, *next; c; c = next) {
        next = c->next;
        lmpe_poll_child(S, c);
    }
}

/* child_new() -> the userdata of a child that has not started yet */
static int
child_new(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_child **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    lmpe_child *c = S->spare_children;
    if (c)
        S->spare_children = c->next;
    else if (!(c = malloc(sizeof *c)))
        return luaL_error(L, "start: out of memory");
    memset(c, 0, sizeof *c);
    *box = c;
    luaL_setmetatable(L, LMPE_CHILD);
    return 1;
}

static int
is_mine(const lmpe_child *c)
{
    return c->owner == getpid();
}

/* ---- a child ---- */

static int
child_gc(lua_State *L)
{
    lmpe *S = lmpe_self_or_closed(L);
    lmpe_child **box = lmpe_finalized(L, LMPE_CHILD, sizeof *box), *c = box ? *box : NULL;
    if (!c)
        return 0;
    *box = NULL;
    if (c->ended || !c->p)
        free_child(S, c);
    else
        c->dropped = 1; /* it stays on the list */
    return 0;
}

/* dropped_child() -> a child that runs, is no daemon, and whose userdata has been collected, as a new
 * userdata; or nil */
static int
dropped_child(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_child *c = S->children;
    while (c && (c->daemon || !c->dropped))
        c = c->next;
    if (!c)
        return 0;
    lmpe_child **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = c;
    c->dropped = 0;
    luaL_setmetatable(L, LMPE_CHILD);
    return 1;
}

static int
child_pid(lua_State *L)
{
    const lmpe_child *c = lmpe_check_child(L, 1);
    if (!c->pid)
        return 0;
    lua_pushinteger(L, c->pid);
    return 1;
}

/* poll(child) -> exit code, nil while it runs */
static int
child_poll(lua_State *L)
{
    lmpe_child *c = lmpe_check_child(L, 1);
    if (!is_mine(c) || !lmpe_poll_child(lmpe_self(L), c))
        return 0;
    lua_pushinteger(L, c->code);
    return 1;
}

/* child_code(child) -> exit code, if its exit is known already */
static int
child_code(lua_State *L)
{
    lmpe_child *c = lmpe_check_child(L, 1);
    if (!c->ended)
        return 0;
    lua_pushinteger(L, c->code);
    return 1;
}

/* ended_children() -> how many are known to have exited */
static int
ended_children(lua_State *L)
{
    lua_pushinteger(L, lmpe_self(L)->ended_children);
    return 1;
}

static int
child_is_mine(lua_State *L)
{
    lua_pushboolean(L, is_mine(lmpe_check_child(L, 1)));
    return 1;
}

/* child_signal(child, number). A finalizer may come after the child's own, when the state is closed:
 * then nothing, for the close ends the child. */
static int
child_signal(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_child *c = *(lmpe_child **)luaL_checkudata(L, 1, LMPE_CHILD);
    if (c && !lmpe_poll_child(S, c))
        mpe_process_signal(S->e, c->p, (int)luaL_checkinteger(L, 2));
    return 0;
}

static int
attempt_wait(lmpe *S, lmpe_await *a)
{
    lmpe_child *c = (lmpe_child *)(uintptr_t)a->scratch[0];
    a->source = LMPE_PROCESS;
    a->on.process = c->p;
    return lmpe_poll_child(S, c) ? MPE_OK : MPE_EAGAIN;
}

static int
finish_wait(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    if (status != MPE_ESYS)
        return lmpe_finish_true(L, S, a, status);
    lua_pushfstring(L, "join: cannot wait for a process: %s", lmpe_reason(errno));
    return lua_error(L);
}

/* wait(child [, timeout]) -> true | nil, "timeout" */
static int
child_wait(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_child *c = lmpe_check_child(L, 1);
    lmpe_await *a = lmpe_await_new(S, lmpe_check_deadline(L, 2), "timeout");
    a->scratch[0] = (uintptr_t)c;
    a->attempt = attempt_wait;
    a->finish = finish_wait;
    return lmpe_await_run(L, S, a);
}

/* ---- this process ---- */

static int
process_name(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    if (lua_isstring(L, 1))
        mpe_self_set_name(S->e, lua_tostring(L, 1)), lmpe_title_show(S);
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

/* parent_fd() -> a descriptor that is readable once the parent has exited; nil when it has */
static int
parent_fd(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    int alive, fd = mpe_parent_fd(S->e, &alive);
    if (!alive)
        return 0;
    if (fd < 0)
        return lmpe_raise(L, MPE_ESYS, "parent_process: pidfd_open");
    lua_pushinteger(L, fd);
    return 1;
}

/* wall_time() -> seconds since 1970 */
static int
wall_time(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

/* kill(pid, signal) -> true | nil, message: for any process */
static int
process_kill(lua_State *L)
{
    int rc = kill((pid_t)luaL_checkinteger(L, 1), (int)luaL_checkinteger(L, 2));
    return lmpe_fileresult(L, rc == 0, NULL);
}

/* The notes of the first children are next to S, on pages that a fork copies anyway. */
static void
set_notes_aside(lmpe *S)
{
    lmpe_child *near = lmpe_place(S, NEAR_CHILDREN * sizeof *near);
    for (int i = 0; near && i < NEAR_CHILDREN; i++) {
        near[i].next = S->spare_children;
        S->spare_children = &near[i];
    }
}

static void
on_fork(lua_State *L, lmpe *S)
{
    (void)L;
    S->children = NULL; /* their memory stays with their userdata */
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"child_new", child_new},
                                         {"dropped_child", dropped_child},
                                         {"child_pid", child_pid},
                                         {"child_poll", child_poll},
                                         {"child_code", child_code},
                                         {"ended_children", ended_children},
                                         {"child_is_mine", child_is_mine},
                                         {"child_signal", child_signal},
                                         {"child_wait", child_wait},
                                         {"process_name", process_name},
                                         {"pid", process_pid},
                                         {"parent", process_parent},
                                         {"parent_fd", parent_fd},
                                         {"kill_pid", process_kill},
                                         {"wall_time", wall_time},
                                         {NULL, NULL}};
    static const lmpe_waitable waitable = {file_end};
    set_notes_aside(S);
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, LMPE_CHILD);
    lua_pushlightuserdata(L, S);
    lua_pushcclosure(L, child_gc, 1);
    lua_setfield(L, -2, "__gc");
    lua_pushlightuserdata(L, (void *)&waitable);
    lua_setfield(L, -2, LMPE_WAITABLE);
    lua_pop(L, 1);
}

/* All children have ended. */
static void
on_close(lua_State *L, lmpe *S)
{
    (void)L;
    for (lmpe_child *c; (c = S->spare_children) != NULL;) {
        S->spare_children = c->next;
        if (!is_near(S, c))
            free(c);
    }
}

const lmpe_module lmpe_process_module = {.open = on_open, .forked = on_fork, .close = on_close};
