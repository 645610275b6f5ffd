/* SPDX-License-Identifier: MIT
 *
 * lsuspend.c - C functions that suspend the calling task and are finished later, from any thread.
 *
 * A call is one entry of a table of the process, under one lock, by a number that is never used
 * twice, so that a late finish finds nothing. The entries stay and are reused. What a thread
 * finishes is told to the engine by mpe_send; the task looks at the entry when it is woken, and
 * there it is decided, once, whether push or cancel is called.
 *
 * Sending wakes the engine's thread, which needs the lock at once, so the lock is released before
 * it. A finish holds `sending` for reading instead until it is over, and a state that closes takes
 * it for writing: after that, no thread uses the engine for a call of the state. `sending` comes
 * before the lock.
 */
#include "mpengine_lua.h"
#include "task/lturn.h"

#include <pthread.h>
#include <stdlib.h>

#define ENTRY_BITS 24

enum { FREE, STARTING, PENDING, FINISHED };

typedef struct entry {
    struct entry *next; /* among the free ones */
    mpe_call number;
    mpe_engine *e;
    int state, status;
    const mpe_call_ops *ops;
    void *ud;
    mpe_waitlist waiters;
} entry;

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_rwlock_t sending = PTHREAD_RWLOCK_INITIALIZER;
static pthread_once_t prepared = PTHREAD_ONCE_INIT;
static entry **entries;
static uint32_t count, capacity;
static entry *spare;

static void
take_lock(void)
{
    pthread_mutex_lock(&lock);
}

static void
release_lock(void)
{
    pthread_mutex_unlock(&lock);
}

static void
before_fork(void)
{
    pthread_rwlock_wrlock(&sending);
    take_lock();
}

static void
after_fork(void)
{
    release_lock();
    pthread_rwlock_unlock(&sending);
}

/* The thread that locked it has another number here. */
static void
in_child(void)
{
    release_lock();
    pthread_rwlock_init(&sending, NULL);
}

static void
prepare(void)
{
    pthread_atfork(before_fork, after_fork, in_child);
}

/* Under the lock. NULL: no memory. */
static entry *
make_entry(void)
{
    if (count == capacity) {
        uint32_t larger = capacity ? capacity * 2 : 64;
        entry **moved = realloc(entries, larger * sizeof *moved);
        if (!moved)
            return NULL;
        entries = moved;
        capacity = larger;
    }
    entry *c = count + 1 < 1u << ENTRY_BITS ? calloc(1, sizeof *c) : NULL;
    if (!c)
        return NULL;
    c->number = count + 1;
    entries[count++] = c;
    return c;
}

static entry *
begin(mpe_engine *e, const mpe_call_ops *ops, void *ud)
{
    pthread_once(&prepared, prepare);
    take_lock();
    entry *c = spare;
    if (c)
        spare = c->next;
    else
        c = make_entry();
    if (c) {
        c->number += 1ull << ENTRY_BITS;
        c->state = STARTING;
        c->e = e;
        c->ops = ops;
        c->ud = ud;
    }
    release_lock();
    if (c)
        mpe_keep_alive(e, 1);
    return c;
}

static void
end(entry *c)
{
    mpe_engine *e = c->e;
    take_lock();
    c->state = FREE;
    c->e = NULL;
    c->next = spare;
    spare = c;
    release_lock();
    mpe_keep_alive(e, -1);
}

/* Under the lock. */
static entry *
find(mpe_engine *e, mpe_call number)
{
    uint64_t place = number & ((1u << ENTRY_BITS) - 1);
    entry *c = place > 0 && place <= count ? entries[place - 1] : NULL;
    return c && c->state != FREE && c->number == number && c->e == e ? c : NULL;
}

static void
wake(mpe_engine *e, void *ud)
{
    take_lock();
    entry *c = find(e, (mpe_call)(uintptr_t)ud);
    release_lock();
    if (c) /* only this thread ends it */
        mpe_waitlist_wake(e, &c->waiters, UINT32_MAX);
}

/* Returns the state of a call before it was finished here. FREE: there is none; FINISHED: it was. */
static int
mark_finished(mpe_engine *e, mpe_call number, int status)
{
    take_lock();
    entry *c = find(e, number);
    int before = c ? c->state : FREE;
    if (c && before != FINISHED) {
        c->state = FINISHED;
        c->status = status;
    }
    release_lock();
    return before;
}

/* Returns 0 when the task has already seen that it was finished. */
static int
unmark_finished(mpe_engine *e, mpe_call number)
{
    take_lock();
    entry *c = find(e, number);
    if (c)
        c->state = PENDING;
    release_lock();
    return c != NULL;
}

int
mpe_call_finish(mpe_engine *e, mpe_call number, int status)
{
    if (!e)
        return MPE_EINVAL;
    int rc = MPE_OK;
    pthread_rwlock_rdlock(&sending);
    int before = mark_finished(e, number, status);
    if (before == PENDING)
        rc = mpe_send(e, wake, (void *)(uintptr_t)number);
    if (rc != MPE_OK && !unmark_finished(e, number))
        rc = MPE_OK;
    pthread_rwlock_unlock(&sending);
    return before == FREE || before == FINISHED ? MPE_ESTALE : rc;
}

/* ---- in the task ---- */

static int
is_finished(entry *c)
{
    take_lock();
    int is = c->state == FINISHED;
    if (!is)
        c->state = PENDING;
    release_lock();
    return is;
}

static void
cancel(entry *c)
{
    const mpe_call_ops *ops = c->ops;
    mpe_call number = c->number;
    mpe_engine *e = c->e;
    void *ud = c->ud;
    end(c);
    ops->cancel(e, number, ud);
}

/* A call that is finished at once yields all the same when its task's turn is over. */
static int
attempt(lmpe *S, lmpe_await *a)
{
    entry *c = (entry *)(uintptr_t)a->scratch[0];
    if (a->ending == LMPE_KILLED) {
        cancel(c);
        return MPE_ECANCELED;
    }
    int is_first = a->scratch[1]++ == 0;
    if (!is_finished(c)) {
        a->source = LMPE_LIST;
        a->on.list = &c->waiters;
        a->deadline = MPE_FOREVER;
        return MPE_EAGAIN;
    }
    if (!is_first || !lmpe_takes(S, LMPE_DID))
        return MPE_OK;
    a->source = LMPE_TIMER;
    a->deadline = 1;
    return MPE_EAGAIN;
}

static int
finish(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    entry *c = (entry *)(uintptr_t)a->scratch[0];
    (void)S;
    if (a->ending == LMPE_KILLED)
        return 0;
    if (status != MPE_OK) { /* there is nothing to wait with */
        cancel(c);
        return lmpe_raise(L, status, NULL);
    }
    const mpe_call_ops *ops = c->ops;
    void *ud = c->ud;
    status = c->status;
    end(c);
    return ops->push(L, status, ud);
}

static int
load(lua_State *L)
{
    lmpe_load(L);
    return 0;
}

/* The library, loaded if the script has not required it; NULL: it cannot be, and the error is on
 * top. */
static lmpe *
library(lua_State *L)
{
    lmpe *S = lmpe_of(L);
    if (S)
        return S;
    luaL_checkstack(L, 2, NULL);
    lua_pushcfunction(L, load);
    return lua_pcall(L, 0, 0, 0) == LUA_OK ? lmpe_of(L) : NULL;
}

int
mpe_lua_suspend(lua_State *L, const mpe_call_ops *ops, void *ud)
{
    if (!ops || !ops->start || !ops->push || !ops->cancel)
        return luaL_error(L, "mpe_lua_suspend: %s", mpe_strerror(MPE_EINVAL));
    lmpe *S = library(L);
    int is_cancelled = S && lmpe_is_cancelled(L, S, S->current);
    entry *c = S && !is_cancelled ? begin(S->e, ops, ud) : NULL;
    if (!c) {
        ops->cancel(S ? S->e : NULL, 0, ud);
        if (is_cancelled)
            return lmpe_raise_cancelled(L, S, S->current);
        return S ? luaL_error(L, "out of memory") : lua_error(L);
    }
    lmpe_await *a = lmpe_await_new(S, MPE_FOREVER, NULL);
    a->scratch[0] = (uintptr_t)c;
    a->attempt = attempt;
    a->finish = finish;
    a->cleans_up = a->acted = a->stays = 1;
    int rc = ops->start(S->e, c->number, ud);
    if (rc < 0)
        mpe_call_finish(S->e, c->number, rc);
    return lmpe_await_run(L, S, a);
}

/* ---- the state ---- */

/* The calls of an engine; f is called without the lock. */
static void
each(mpe_engine *e, void (*f)(entry *c))
{
    for (uint32_t i = 0;; i++) {
        take_lock();
        entry *c = i < count ? entries[i] : NULL;
        int is_its = c && c->state != FREE && c->e == e;
        release_lock();
        if (!c)
            return;
        if (is_its)
            f(c);
    }
}

static void
on_fork(lua_State *L, lmpe *S)
{
    (void)L;
    each(S->e, end);
}

static void
on_close(lua_State *L, lmpe *S)
{
    (void)L;
    each(S->e, cancel);
    pthread_rwlock_wrlock(&sending);
    pthread_rwlock_unlock(&sending);
}

const lmpe_module lmpe_suspend_module = {.forked = on_fork, .close = on_close};
