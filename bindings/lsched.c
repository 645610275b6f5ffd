/* SPDX-License-Identifier: MIT
 *
 * lsched.c - Lua coroutines as tasks of the engine, and the one await.
 *
 * A task is a userdata with a coroutine. Its body runs under pcall inside the coroutine, so that
 * close handlers of an unwinding task may wait. The main chunk is the main task: it has no
 * coroutine and waits by driving the loop in place, as does a task where Lua cannot yield (in a
 * sort comparator, say); everybody else yields. A yield of the scheduler passes through the user's
 * own coroutines by means of lcoroutine.c.
 *
 * A kill is sticky: it is raised at the wait under way and at every later one, except while a
 * close handler runs, which may wait for CLOSE_SECONDS more. A scope (with_timeout) is the same,
 * limited to a stretch of the task's stack.
 */
#include "lmpe.h"

#include <stdlib.h>
#include <string.h>

#define TASK "mpengine.Task"
#define CLOSE_NS (2 * MPE_NS_PER_S)
#define MAX_DRIVE_DEPTH 60 /* nested in-place waits; each takes C stack */

enum { UV_THREAD = 1, UV_RESULT = 2, UV_EXTRA = 3 }; /* user values of a task */

static const char anchors_key;

/* ---- the task's userdata ---- */

static lmpe_task *
check_task(lua_State *L, int idx)
{
    return luaL_checkudata(L, idx, TASK);
}

/* Keeps the userdata of a task alive while it runs: anchors[task] = userdata. */
static void
anchor(lua_State *L, lmpe_task *t, int idx)
{
    idx = lua_absindex(L, idx);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &anchors_key);
    if (idx)
        lua_pushvalue(L, idx);
    else
        lua_pushnil(L);
    lua_rawsetp(L, -2, t);
    lua_pop(L, 1);
}

static void
push_task(lua_State *L, lmpe_task *t)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, &anchors_key);
    lua_rawgetp(L, -1, t);
    lua_remove(L, -2);
}

/* ---- cancellation ---- */

/* Is some function on the stack a close handler, called with the value it closes? */
static int
in_close_handler(lua_State *L)
{
    lua_Debug ar;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        int top = lua_gettop(L), found = 0;
        if (!lua_checkstack(L, 6))
            return 0;
        if (lua_getlocal(L, &ar, 1) && luaL_getmetafield(L, -1, "__close") != LUA_TNIL) {
            lua_getinfo(L, "f", &ar);
            found = lua_rawequal(L, -1, -2);
        }
        lua_settop(L, top);
        if (found)
            return 1;
    }
    return 0;
}

static lmpe_scope *
expired_scope(lmpe_task *t, uint64_t now)
{
    lmpe_scope *found = NULL;
    for (lmpe_scope *s = t->scopes; s; s = s->outer)
        if (s->cancelled || s->deadline <= now)
            found = s; /* the outermost one wins */
    return found;
}

/* Must the task leave its wait? Close handlers get a bounded time. */
static int
is_cancelled(lua_State *L, lmpe_task *t)
{
    if (!t->killed && !t->scopes)
        return 0;
    uint64_t now = t->scopes ? mpe_now() : 0;
    if (!t->killed && !expired_scope(t, now))
        return 0;
    if (!t->closing) {
        if (!in_close_handler(L))
            return 1;
        t->closing = 1;
        t->close_deadline = mpe_now() + CLOSE_NS;
    } else if (!in_close_handler(L)) {
        return 1;
    }
    return mpe_now() >= t->close_deadline;
}

static uint64_t
effective_deadline(lmpe_task *t, uint64_t deadline)
{
    if (t->closing)
        return deadline < t->close_deadline ? deadline : t->close_deadline;
    for (lmpe_scope *s = t->scopes; s; s = s->outer)
        if (s->deadline < deadline)
            deadline = s->deadline;
    return deadline;
}

/* Raises what cancels the task: the kill's error object, or the scope's token. */
static int
raise_cancelled(lua_State *L, lmpe_task *t)
{
    lmpe_scope *s = t->killed ? NULL : expired_scope(t, mpe_now());
    if (s) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, s);
    } else {
        push_task(L, t);
        lua_getiuservalue(L, -1, UV_RESULT);
    }
    return lua_error(L);
}

/* ---- the await ---- */

static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    lmpe_await *a = (lmpe_await *)w; /* its first member */
    a->timed_out = status == MPE_ETIMEDOUT;
    a->granted = status == MPE_OK && a->source == LMPE_LIST;
    a->fired = 1;
    if (!a->in_place) {
        a->task->state = LMPE_READY;
        mpe_post(e, &a->task->job);
    }
}

lmpe_await *
lmpe_await_new(lmpe *S, uint64_t deadline, const char *reason)
{
    lmpe_await *a = &S->current->await;
    a->task = S->current;
    a->w.fire = on_fire;
    a->w.fired = 0;
    a->w.list = NULL;
    a->w.object = NULL;
    a->w.heap_index = 0;
    a->deadline = deadline;
    a->reason = reason;
    a->ending = LMPE_GOES_ON;
    a->shielded = a->timed_out = a->cleans_up = a->granted = 0;
    a->scratch[0] = a->scratch[1] = a->scratch[2] = 0;
    return a;
}

static int
file_waiter(lmpe *S, lmpe_await *a, uint64_t deadline)
{
    switch (a->source) {
    case LMPE_OBJECT:
        return mpe_wait_object(S->e, &a->w, a->on.object, a->event, deadline);
    case LMPE_LIST:
        return mpe_wait_list(S->e, &a->w, a->on.list, deadline);
    case LMPE_FD:
        return mpe_wait_fd(S->e, &a->w, a->on.fd, a->event, deadline);
    case LMPE_PROCESS:
        return mpe_process_wait(S->e, a->on.process, &a->w, deadline);
    default:
        return mpe_wait_timer(S->e, &a->w, deadline);
    }
}

/* Takes back a waiter that has not fired. */
static void
end_waiter(lmpe *S, lmpe_await *a)
{
    if (!a->w.list && !a->w.heap_index)
        return;
    mpe_wait_stop(S->e, &a->w);
    if (a->source == LMPE_FD)
        mpe_fd_waiter_gone(S->e, a->on.fd);
}

/* Can the whole chain from this coroutine to the task's own yield? */
static int
can_yield(lua_State *L, lmpe *S)
{
    if (!S->current->co || !lua_isyieldable(L))
        return 0;
    for (lmpe_link *l = S->links; l && L != S->current->co; l = l->prev) {
        if (l->inner != L)
            return 0; /* resumed by something else than our coroutine library */
        L = l->outer;
        if (!lua_isyieldable(L))
            return 0;
    }
    return L == S->current->co;
}

static int
deadlock_error(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "mpengine.deadlock");
    if (lua_isfunction(L, -1))
        lua_call(L, 0, 1);
    else
        lua_pushliteral(L, "every task waits for something that can never come");
    return lua_error(L);
}

/* Drives the loop until the wait fires. */
static void
wait_in_place(lua_State *L, lmpe *S, lmpe_await *a)
{
    lmpe_task *t = S->current;
    lua_State *driver = S->driver;
    lmpe_link *links = S->links;
    if (S->drive_depth >= MAX_DRIVE_DEPTH) {
        end_waiter(S, a);
        luaL_error(L, "cannot wait here: %d waits are nested in places that cannot yield",
                   MAX_DRIVE_DEPTH);
    }
    t->state = LMPE_WAITING;
    S->driver = L;
    S->drive_depth++;
    int rc = mpe_run_until(S->e, &a->fired);
    S->drive_depth--;
    S->driver = driver;
    S->links = links;
    S->current = t;
    t->state = LMPE_RUNNING;
    if (rc == MPE_EINTR && t->co) { /* the main task's business */
        S->interrupted = 1;
        rc = mpe_run_until(S->e, &a->fired);
    }
    if (rc == MPE_OK)
        return;
    end_waiter(S, a);
    if (rc == MPE_EINTR)
        luaL_error(L, "interrupted!");
    deadlock_error(L);
}

/* Does the await still wait for what its waiter was filed for? */
static int
same_target(const lmpe_await *a, const mpe_waiter *w)
{
    return a->source == LMPE_OBJECT && w->object == a->on.object && w->event == a->event;
}

/* One attempt after the wait was fired. The waiter's turn is kept aside meanwhile. */
static int
attempt_again(lmpe *S, lmpe_await *a)
{
    mpe_waiter turn = a->w;
    a->w.fired = 0;
    int rc = a->attempt(S, a);
    if (rc == MPE_EAGAIN && same_target(a, &turn))
        a->w.fired = turn.fired;
    else
        mpe_wait_done(S->e, &turn);
    return rc;
}

/* The wait has ended somehow: says how, and tries again. A killed task takes nothing more. */
static int
woken(lua_State *L, lmpe *S, lmpe_await *a)
{
    end_waiter(S, a);
    if (a->timed_out)
        a->ending = LMPE_TIMED_OUT;
    if (!a->shielded && !a->granted && is_cancelled(L, a->task)) {
        a->ending = LMPE_KILLED;
        if (!a->cleans_up) {
            mpe_wait_done(S->e, &a->w);
            return MPE_ECANCELED;
        }
    }
    return attempt_again(S, a);
}

static int await_k(lua_State *L, int status, lua_KContext ctx);

/* The change may have come before the waiter was filed. 1 when there is still something to wait
 * for, and it is the same. */
static int
look_again(lmpe *S, lmpe_await *a, int *rc)
{
    *rc = a->attempt(S, a);
    if (*rc == MPE_EAGAIN && same_target(a, &a->w))
        return 1;
    mpe_wait_stop(S->e, &a->w);
    return 0;
}

/* Goes on until attempt has a status to finish with. 1 when the caller must yield now. */
static int
go_on(lua_State *L, lmpe *S, lmpe_await *a, int *rc)
{
    while (*rc == MPE_EAGAIN) {
        lmpe_task *t = a->task;
        uint64_t deadline = a->shielded ? MPE_FOREVER : effective_deadline(t, a->deadline);
        if (a->ending != LMPE_GOES_ON && !a->shielded) {
            *rc = MPE_ETIMEDOUT;
            mpe_wait_done(S->e, &a->w);
            break;
        }
        a->fired = 0;
        a->timed_out = a->granted = 0;
        if ((*rc = file_waiter(S, a, deadline)) != MPE_OK)
            break;
        if (a->source == LMPE_OBJECT && !look_again(S, a, rc))
            continue;
        a->in_place = !can_yield(L, S);
        if (!a->in_place)
            return 1;
        wait_in_place(L, S, a);
        *rc = woken(L, S, a);
    }
    return 0;
}

static int
finish(lua_State *L, lmpe *S, lmpe_await *a, int rc)
{
    lmpe_task *t = a->task;
    if (a->ending == LMPE_KILLED) {
        int top = lua_gettop(L);
        if (a->cleans_up)
            a->finish(L, S, a, rc);
        lua_settop(L, top);
        return raise_cancelled(L, t);
    }
    return a->finish(L, S, a, rc);
}

static int
yield_out(lua_State *L, lmpe *S, lmpe_await *a)
{
    S->yielded = 1;
    a->task->state = LMPE_WAITING;
    return lua_yieldk(L, 0, (lua_KContext)a->task, await_k);
}

/* Back in the task: its wait has fired, or it is being cancelled. */
static int
await_k(lua_State *L, int status, lua_KContext ctx)
{
    lmpe_task *t = (lmpe_task *)ctx;
    lmpe *S = t->S;
    lmpe_await *a = &t->await;
    (void)status;
    if (S->current != t)
        return luaL_error(L, "cannot resume a coroutine that waits in another task");
    int rc = woken(L, S, a);
    if (go_on(L, S, a, &rc))
        return yield_out(L, S, a);
    return finish(L, S, a, rc);
}

void
lmpe_await_check(lua_State *L, lmpe *S)
{
    if (is_cancelled(L, S->current))
        raise_cancelled(L, S->current);
}

int
lmpe_await_run(lua_State *L, lmpe *S, lmpe_await *a)
{
    if (!a->shielded)
        lmpe_await_check(L, S);
    int rc = a->attempt(S, a);
    if (rc == MPE_EAGAIN && a->deadline == MPE_NOW)
        a->ending = LMPE_TIMED_OUT, rc = a->attempt(S, a);
    if (go_on(L, S, a, &rc))
        return yield_out(L, S, a);
    return finish(L, S, a, rc);
}

int
lmpe_outcome(lua_State *L, int status, const char *reason)
{
    switch (status) {
    case MPE_EAGAIN:
    case MPE_ETIMEDOUT:
        break;
    case MPE_ECLOSED:
    case MPE_EBROKEN:
    case MPE_ECANCELED:
        reason = mpe_strerror(status);
        break;
    default:
        return lmpe_raise(L, status, NULL);
    }
    luaL_pushfail(L);
    lua_pushstring(L, reason);
    return 2;
}

int
lmpe_finish_true(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    (void)S;
    if (status < 0)
        return lmpe_outcome(L, status, a->reason);
    lua_pushboolean(L, 1);
    if (status != MPE_OWNER_DIED)
        return 1;
    lua_pushliteral(L, "owner_died");
    return 2;
}

/* ---- running tasks ---- */

/* Message handler of a task's body: notes the traceback beside the error. */
static int
note_traceback(lua_State *L)
{
    lmpe_task *t = lua_touserdata(L, lua_upvalueindex(1));
    if (t->killed || t->scopes)
        return 1;
    luaL_traceback(L, L, NULL, 1);
    push_task(L, t);
    lua_insert(L, -2);
    lua_setiuservalue(L, -2, UV_EXTRA);
    lua_settop(L, 1);
    return 1;
}

static int
body_k(lua_State *L, int status, lua_KContext ctx)
{
    lmpe_task *t = (lmpe_task *)ctx;
    t->outcome = status == LUA_OK || status == LUA_YIELD;
    return lua_gettop(L) - 1;
}

/* The coroutine's function: f and its arguments are on the stack. */
static int
task_body(lua_State *L)
{
    lmpe_task *t = lua_touserdata(L, lua_upvalueindex(1));
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_pushcclosure(L, note_traceback, 1);
    lua_insert(L, 1);
    int status = lua_pcallk(L, lua_gettop(L) - 2, LUA_MULTRET, 1, (lua_KContext)t, body_k);
    return body_k(L, status, (lua_KContext)t);
}

/* Keeps the results: one value as it is, more of them in a table. */
static void
keep_results(lua_State *L, lmpe_task *t, lua_State *co, int n)
{
    t->nresults = n;
    if (n == 0) {
        lua_pushnil(L);
    } else if (n == 1) {
        lua_xmove(co, L, 1);
    } else {
        lua_createtable(L, n, 0);
        for (int i = n; i >= 1; i--) {
            lua_xmove(co, L, 1);
            lua_rawseti(L, -2, i);
        }
    }
}

static void
call_finished(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "mpengine.task_ended");
    lua_insert(L, -2);
    if (lua_isfunction(L, -2)) {
        if (lua_pcall(L, 1, 0, 0) != LUA_OK)
            lua_pop(L, 1);
    } else {
        lua_pop(L, 2);
    }
}

static void
task_ended(lmpe_task *t, lua_State *L, int status, int nresults)
{
    lmpe *S = t->S;
    push_task(L, t);
    if (status != LUA_OK) { /* an error outside the body's pcall: out of memory, C stack */
        t->outcome = 0;
        nresults = 1;
    }
    keep_results(L, t, t->co, nresults);
    if (t->killed && t->outcome == 0)
        t->outcome = -1;
    lua_setiuservalue(L, -2, UV_RESULT);
    lua_pushnil(L);
    lua_setiuservalue(L, -2, UV_THREAD);
    t->co = NULL;
    t->state = LMPE_DONE;
    S->live_tasks--;
    anchor(L, t, 0);
    int waited_for = t->joiners.head != NULL;
    mpe_waitlist_wake(S->e, &t->joiners, UINT32_MAX);
    lua_pushvalue(L, -1);
    lua_getiuservalue(L, -1, UV_EXTRA);
    int interesting = lua_type(L, -1) == LUA_TTABLE || (t->outcome == 0 && !waited_for);
    lua_pop(L, 1);
    if (interesting)
        call_finished(L);
    else
        lua_pop(L, 1);
    lua_pop(L, 1);
}

/* A task that was killed before it ever ran. */
static void
end_unstarted(lmpe_task *t, lua_State *L)
{
    push_task(L, t);
    lua_getiuservalue(L, -1, UV_RESULT);
    lua_settop(t->co, 0);
    lua_xmove(L, t->co, 1);
    lua_pop(L, 1);
    t->outcome = 0;
    task_ended(t, L, LUA_OK, 1);
}

static void
run_task(mpe_engine *e, mpe_job *job)
{
    lmpe_task *t = (lmpe_task *)job; /* its first member */
    lmpe *S = t->S;
    lua_State *L = S->driver;
    lmpe_task *previous = S->current;
    lmpe_link *links = S->links;
    int nresults, nargs = t->state == LMPE_NEW ? lua_gettop(t->co) - 1 : 0;
    (void)e;
    luaL_checkstack(L, 10, NULL);
    if (t->state == LMPE_NEW && t->killed) {
        end_unstarted(t, L);
        return;
    }
    S->current = t;
    S->links = NULL;
    S->yielded = 0;
    t->state = LMPE_RUNNING;
    int status = lua_resume(t->co, L, nargs, &nresults);
    S->links = links;
    S->current = previous;
    if (status == LUA_YIELD && S->yielded) {
        S->yielded = 0;
        return;
    }
    task_ended(t, L, status, nresults);
}

/* spawn(f, ...) -> task */
static int
spawn(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    int n = lua_gettop(L);
    lmpe_task *t = lua_newuserdatauv(L, sizeof *t, 3);
    memset(t, 0, sizeof *t);
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_setmetatable(L, -2);
    t->job.run = run_task;
    t->S = S;
    t->id = ++S->next_task_id & 0x7fffffff;
    t->co = lua_newthread(L);
    lua_setiuservalue(L, -2, UV_THREAD);
    lua_insert(L, 1);
    lua_pushlightuserdata(t->co, t);
    lua_pushcclosure(t->co, task_body, 1);
    luaL_checkstack(t->co, n, "too many arguments");
    lua_xmove(L, t->co, n);
    anchor(L, t, 1);
    S->live_tasks++;
    mpe_post(S->e, &t->job);
    return 1;
}

/* ---- task methods, as functions of the core module ---- */

static int
attempt_join(lmpe *S, lmpe_await *a)
{
    lmpe_task *t = (lmpe_task *)(uintptr_t)a->scratch[0];
    (void)S;
    a->source = LMPE_LIST;
    a->on.list = &t->joiners;
    return t->state == LMPE_DONE ? MPE_OK : MPE_EAGAIN;
}

/* join(task [, timeout]) -> true | nil, "timeout" */
static int
join(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_task *t = check_task(L, 1);
    lmpe_await *a = lmpe_await_new(S, lmpe_check_deadline(L, 2), "timeout");
    if (t == S->current)
        return luaL_error(L, "a task cannot join itself");
    a->scratch[0] = (uintptr_t)t;
    a->attempt = attempt_join;
    a->finish = lmpe_finish_true;
    return lmpe_await_run(L, S, a);
}

/* Takes a task out of its wait, which it ends by itself: it takes nothing from now on. */
static void
interrupt_wait(lmpe *S, lmpe_task *t)
{
    if (t->state != LMPE_WAITING || t->await.shielded)
        return;
    end_waiter(S, &t->await);
    if (t->await.in_place) {
        t->await.fired = 1;
    } else {
        t->state = LMPE_READY;
        mpe_post(S->e, &t->job);
    }
}

/* kill(task, error object): does not wait. */
static int
kill_task(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_task *t = check_task(L, 1);
    luaL_checkany(L, 2);
    if (t->state == LMPE_DONE || t->killed)
        return 0;
    t->killed = 1;
    lua_pushvalue(L, 2);
    lua_setiuservalue(L, 1, UV_RESULT);
    interrupt_wait(S, t);
    return 0;
}

/* state(task) -> "new" | ..., outcome: true returned, false raised, nil killed */
static int
task_state(lua_State *L)
{
    static const char *const names[] = {"new", "ready", "running", "waiting", "done"};
    lmpe_task *t = check_task(L, 1);
    lua_pushstring(L, names[t->state]);
    if (t->state == LMPE_DONE && t->outcome < 0)
        lua_pushnil(L);
    else
        lua_pushboolean(L, t->state == LMPE_DONE && t->outcome > 0);
    lua_pushinteger(L, t->id);
    return 3;
}

/* results(task) -> all its results, or the one error value */
static int
results(lua_State *L)
{
    lmpe_task *t = check_task(L, 1);
    lua_getiuservalue(L, 1, UV_RESULT);
    if (t->nresults == 0)
        return 0;
    if (t->nresults == 1)
        return 1;
    luaL_checkstack(L, t->nresults, "too many results");
    for (int i = 1; i <= t->nresults; i++)
        lua_rawgeti(L, 2, i);
    return t->nresults;
}

/* extra(task [, value]): what the Lua side keeps with a task: a traceback string or a table. */
static int
extra(lua_State *L)
{
    check_task(L, 1);
    if (lua_gettop(L) > 1) {
        lua_settop(L, 2);
        lua_setiuservalue(L, 1, UV_EXTRA);
        return 0;
    }
    lua_getiuservalue(L, 1, UV_EXTRA);
    return 1;
}

/* current() -> the running task, and its number */
static int
current(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    push_task(L, S->current);
    lua_pushinteger(L, S->current->id);
    return 2;
}

/* thread(task) -> its coroutine, for tracebacks */
static int
thread(lua_State *L)
{
    check_task(L, 1);
    lua_getiuservalue(L, 1, UV_THREAD);
    return 1;
}

/* tasks() -> list of the tasks that have not ended */
static int
tasks(lua_State *L)
{
    lua_Integer n = 0;
    lua_newtable(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &anchors_key);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        lua_rawseti(L, -4, ++n);
    }
    lua_pop(L, 1);
    return 1;
}

static int
attempt_sleep(lmpe *S, lmpe_await *a)
{
    (void)S;
    a->source = LMPE_TIMER;
    return a->ending == LMPE_GOES_ON ? MPE_EAGAIN : MPE_ETIMEDOUT;
}

static int
finish_nothing(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    (void)L, (void)S, (void)a, (void)status;
    return 0;
}

static int
attempt_done(lmpe *S, lmpe_await *a)
{
    (void)S, (void)a;
    return MPE_OK;
}

/* Lets the others run once: behind the jobs that are ready. */
static int
give_way(lua_State *L, lmpe *S)
{
    lmpe_task *t = S->current;
    lmpe_await *a = lmpe_await_new(S, mpe_now(), NULL);
    a->attempt = attempt_sleep;
    a->finish = finish_nothing;
    if (!can_yield(L, S)) /* a timer that is due: the loop goes round once */
        return lmpe_await_run(L, S, a);
    if (is_cancelled(L, t))
        return raise_cancelled(L, t);
    a->attempt = attempt_done;
    a->source = LMPE_TIMER;
    a->fired = 1;
    a->in_place = 0;
    mpe_post(S->e, &t->job);
    S->yielded = 1;
    t->state = LMPE_READY;
    return lua_yieldk(L, 0, (lua_KContext)t, await_k);
}

/* sleep(seconds) */
static int
sleep_for(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    if (lua_isnoneornil(L, 1))
        luaL_checknumber(L, 1);
    uint64_t deadline = lmpe_check_deadline(L, 1);
    if (deadline == MPE_NOW)
        return give_way(L, S);
    lmpe_await *a = lmpe_await_new(S, deadline, NULL);
    a->attempt = attempt_sleep;
    a->finish = finish_nothing;
    return lmpe_await_run(L, S, a);
}

/* ---- scopes ---- */

/* scope(deadline in seconds or nil, token) -> scope: pushed on the current task; the token is what
 * is raised at its waits once the scope is over. */
static int
scope_begin(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    uint64_t deadline = lmpe_check_deadline(L, 1);
    lmpe_scope *s = lua_newuserdatauv(L, sizeof *s, 0);
    s->deadline = deadline == MPE_NOW ? mpe_now() : deadline;
    s->cancelled = 0;
    s->outer = S->current->scopes;
    lua_pushvalue(L, 2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s);
    S->current->scopes = s;
    return 1;
}

/* scope_end(scope) -> was it over? */
static int
scope_end(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_scope *s = lua_touserdata(L, 1);
    lmpe_task *t = S->current;
    lua_pushboolean(L, s->cancelled || s->deadline <= mpe_now());
    while (t->scopes && t->scopes != s)
        t->scopes = t->scopes->outer;
    if (t->scopes)
        t->scopes = s->outer;
    if (!t->killed)
        t->closing = 0;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s);
    return 1;
}

/* scope_cancel(scope, task or nil for the main one): ends the scope of another task now. */
static int
scope_cancel(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_scope *s = lua_touserdata(L, 1);
    lmpe_task *t = lua_isnoneornil(L, 2) ? S->main_task : check_task(L, 2);
    s->cancelled = 1;
    interrupt_wait(S, t);
    return 0;
}

static int
task_gc(lua_State *L)
{
    lmpe_task *t = lua_touserdata(L, 1);
    if (t->S->e && t->state == LMPE_WAITING && !t->await.in_place)
        end_waiter(t->S, &t->await); /* the state is being closed */
    return 0;
}

/* The task of the main chunk: it has no coroutine. */
static void
new_main_task(lua_State *L, lmpe *S)
{
    lmpe_task *t = lua_newuserdatauv(L, sizeof *t, 3);
    memset(t, 0, sizeof *t);
    luaL_setmetatable(L, TASK);
    t->job.run = run_task;
    t->S = S;
    t->id = ++S->next_task_id;
    t->state = LMPE_RUNNING;
    anchor(L, t, -1);
    lua_pop(L, 1);
    S->main_task = S->current = t;
}

void
lmpe_sched_forked(lua_State *L, lmpe *S)
{
    lua_newtable(L);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &anchors_key);
    lua_pushnil(L);
    while (lua_next(L, -2)) { /* the parent's tasks never run here */
        lmpe_task *t = lua_touserdata(L, -1);
        t->state = LMPE_DONE;
        t->outcome = -1;
        t->killed = 1;
        t->joiners = (mpe_waitlist){NULL, NULL};
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &anchors_key);
    S->live_tasks = 0;
    S->links = NULL;
    S->drive_depth = 0;
    new_main_task(L, S);
}

void
lmpe_open_sched(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"join", join},           {"kill", kill_task},           {"task_state", task_state},
        {"results", results},     {"extra", extra},              {"current", current},
        {"thread", thread},       {"tasks", tasks},              {"sleep", sleep_for},
        {"scope", scope_begin},   {"scope_end", scope_end},      {"scope_cancel", scope_cancel},
        {NULL, NULL},
    };
    static const luaL_Reg meta[] = {{"__gc", task_gc}, {NULL, NULL}};
    lua_newtable(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &anchors_key);
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, TASK);
    luaL_setfuncs(L, meta, 0);
    lua_pushlightuserdata(L, S);
    lua_pushvalue(L, -2);
    lua_pushcclosure(L, spawn, 2);
    lua_setfield(L, -3, "spawn");
    lua_setfield(L, -2, "Task");
    new_main_task(L, S);
}
