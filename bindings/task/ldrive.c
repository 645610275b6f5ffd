/* SPDX-License-Identifier: MIT
 *
 * ldrive.c - driving the loop in place. The main chunk, which has no coroutine, waits in this
 * way, and so does a task where Lua cannot yield. The tasks that the loop runs meanwhile run on
 * top of its C stack.
 *
 * The loop can end such a wait: for a signal, a deadlock, or a pool that stops the running item.
 * The wait is then left as by a kill, so that necessary steps, such as reacquiring a lock, are
 * done first. The error is kept until lmpe_raise_cancelled raises it.
 */
#include "base/lmodules.h"
#include "base/lsystem.h"
#include "task/ltask_int.h"
#include "task/lturn.h"

#include <errno.h>
#include <string.h>

/* Pushes the message, or a function that determines it when the task no longer waits. */
static void
push_deadlock(lua_State *L)
{
    if (!lmpe_push_hook(L, "deadlock") || lua_pcall(L, 0, 1, 0) != LUA_OK)
        lua_pushliteral(L, "every task waits for something that can never come");
}

/* Pushes the error of a wait that the loop has ended. */
static void
push_error_of(lua_State *L, lmpe *S, int rc)
{
    int error = errno;
    if (rc == MPE_EDEADLK) {
        push_deadlock(L);
    } else if (rc == MPE_EINTR && !S->stopped) {
        S->signals->take(L, S);
    } else if (rc ==
               MPE_ESYS) { /* the loop, or a descriptor for a doorbell or an end, is not there */
        luaL_where(L, 1);
        lua_pushfstring(L, "cannot wait for processes or descriptors: %s", lmpe_reason(error));
        lua_concat(L, 2);
    } else {
        lmpe_push_place(L);
        lua_pushstring(L, rc == MPE_EINTR ? "stopped by the pool" : mpe_strerror(rc));
        lua_concat(L, 2);
        S->stopped = 0;
    }
}

void
lmpe_keep_failure(lua_State *L, lmpe_task *t)
{
    t->leaving = 1;
    lua_rawsetp(L, LUA_REGISTRYINDEX, &t->leaving);
}

void
lmpe_push_failure(lua_State *L, lmpe_task *t)
{
    t->leaving = 0;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &t->leaving);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &t->leaving);
    if (lua_isfunction(L, -1))
        lua_call(L, 0, 1);
}

/* Must the wait of the current task be left, now that the loop was interrupted? If not, and the
 * interrupt concerns what follows this wait, the loop is interrupted again later. */
static int
must_leave(lua_State *L, lmpe *S, int *again)
{
    if ((S->signals->pending(L, S) || S->stopped) && !S->current->shielded)
        return 1;
    *again |= S->stopped || S->signals->is_due(S);
    return 0;
}

/* Values that the loop changes while the current task drives it. */
struct drive {
    lua_State *driver;
    lmpe_link *links;
    lmpe_task *task;
};

static struct drive
begin_drive(lua_State *L, lmpe *S, int state)
{
    struct drive d = {S->driver, S->links, S->current};
    d.task->state = (uint8_t)state;
    S->current = S->callback;
    S->driver = L;
    S->drive_depth++;
    return d;
}

static void
end_drive(lmpe *S, const struct drive *d)
{
    S->drive_depth--;
    S->driver = d->driver;
    S->links = d->links;
    S->current = d->task;
    S->switches++;
    lmpe_new_turn(S);
}

static void
check_depth(lua_State *L, lmpe *S, lmpe_task *t)
{
    if (S->drive_depth < LMPE_DRIVE_DEPTH)
        return;
    if (t)
        lmpe_unfile(S, t);
    luaL_error(L, "cannot wait here: %d waits are nested in places that cannot yield",
               LMPE_DRIVE_DEPTH);
}

void
lmpe_wait_in_place(lua_State *L, lmpe *S, lmpe_task *t)
{
    int rc, again = 0;
    check_depth(L, S, t);
    struct drive d = begin_drive(L, S, LMPE_WAITING);
    while ((rc = mpe_drive(S->e, &t->fired)) == MPE_EINTR) {
        S->current = t;
        if (must_leave(L, S, &again))
            break;
        S->current = S->callback;
    }
    int error = errno;
    end_drive(S, &d);
    errno = error;
    if (rc != MPE_OK) {
        push_error_of(L, S, rc); /* while it still waits */
        lmpe_unfile(S, t);
        lmpe_keep_failure(L, t);
    }
    t->state = LMPE_RUNNING;
    if (lmpe_is_traced(S))
        lmpe_trace_run(t);
    if (again)
        mpe_interrupt(S->e);
    if (S->signals->is_due(S))
        lmpe_hook(S, 1); /* there may be no other wait */
    if (rc == MPE_OK || !t->shielded)
        return;
    lmpe_push_failure(L, t);
    lua_error(L);
}

int
lmpe_go_round(lua_State *L, lmpe *S)
{
    int leave = 0, again = 0;
    check_depth(L, S, NULL);
    struct drive d = begin_drive(L, S, LMPE_READY);
    int rc = mpe_go_round(S->e);
    end_drive(S, &d);
    d.task->state = LMPE_RUNNING;
    if (rc == MPE_EINTR)
        leave = must_leave(L, S, &again);
    if (leave || again)
        mpe_interrupt(S->e); /* for its next wait */
    return leave;
}

int
lmpe_raise_interrupted(lua_State *L, lmpe *S)
{
    push_error_of(L, S, MPE_EINTR);
    return lua_error(L);
}

int
lmpe_drive_for_host(lua_State *L, lmpe *S, const int *done)
{
    int rc, again = 0, state = S->current->state;
    check_depth(L, S, NULL);
    struct drive d = begin_drive(L, S, S->current == S->callback ? state : LMPE_READY);
    do {
        rc = done ? mpe_drive(S->e, done) : mpe_go_round(S->e);
        S->current = d.task;
        if (rc != MPE_EINTR || !S->is_program || must_leave(L, S, &again))
            break;
        S->current = S->callback;
    } while (done);
    int error = errno;
    end_drive(S, &d);
    d.task->state = (uint8_t)state;
    if (again)
        mpe_interrupt(S->e);
    errno = error;
    if (rc == MPE_EINTR && !S->is_program)
        lua_pushstring(L, mpe_strerror(rc));
    else if (rc != MPE_OK)
        push_error_of(L, S, rc);
    return rc;
}
