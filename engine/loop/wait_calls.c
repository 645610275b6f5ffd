/* SPDX-License-Identifier: MIT */
/* The calls of a host that wait for objects: acquire, release, wait, put, get, wait_any, tokens of a
 * limiter. Each one is a step function of the object and mpe_await, which tries, waits for the event
 * and tries again.
 *
 * What an engine acquires here belongs to the owner MPE__OWNER_HOST, which no task of a state ever
 * is. A process that dies in one of these calls is a process that dies between the steps: see the
 * files of the objects.
 */
#include "loop/loop.h"
#include "core/door.h"
#include "objects/doors.h"
#include "objects/lock.h"

typedef int (*step)(mpe_engine *e, mpe_object *o, void *ud);

/* Tries and waits; MPE_NOW says EAGAIN. */
static int
await(mpe_engine *e, mpe_object *o, int event, uint64_t deadline, step try_again, void *ud)
{
    int rc = mpe_await(e, o, event, deadline, try_again, ud);
    return rc == MPE_ETIMEDOUT && deadline == MPE_NOW ? MPE_EAGAIN : rc;
}

/* ---- locks and semaphores ---- */

#define ACQUIRABLE (MPE__KIND(LOCK) | MPE__KIND(RLOCK) | MPE__SEMAPHORES | MPE__KIND(CONDITION))

/* The lock of a condition, held, or the object itself. */
static int
lock_of(mpe_engine *e, mpe_object *o, mpe_object **lock, int *recursive)
{
    mpe_handle h = mpe_handle_of(e, o);
    if (mpe_kind_of(o) == MPE_KIND_CONDITION)
        h = mpe_condition_lock(e, o);
    *recursive = mpe_handle_kind(h) != MPE_KIND_LOCK;
    return mpe_hold(e, h, lock);
}

static int
take_lock(mpe_engine *e, mpe_object *o, void *ud)
{
    int *recursive = ud;
    return *recursive ? mpe__rlock_take(e, o, MPE__OWNER_HOST)
                      : mpe__lock_take(e, o, MPE__OWNER_HOST);
}

static int
take_permit(mpe_engine *e, mpe_object *o, void *ud)
{
    (void)ud;
    return mpe_semaphore_acquire(e, o);
}

int
mpe_acquire(mpe_engine *e, mpe_object *o, uint64_t deadline)
{
    if (!mpe__admits(e, o, ACQUIRABLE))
        return mpe__refusal(e, o, ACQUIRABLE);
    int recursive, kind = mpe_kind_of(o);
    if (kind == MPE_KIND_SEMAPHORE || kind == MPE_KIND_BOUNDED)
        return await(e, o, MPE_EVENT_READY, deadline, take_permit, NULL);
    mpe_object *lock;
    int rc = lock_of(e, o, &lock, &recursive);
    if (rc != MPE_OK)
        return rc;
    rc = await(e, lock, MPE_EVENT_READY, deadline, take_lock, &recursive);
    mpe_drop(e, lock);
    return rc;
}

int
mpe_release(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, ACQUIRABLE))
        return mpe__refusal(e, o, ACQUIRABLE);
    int recursive, kind = mpe_kind_of(o);
    if (kind == MPE_KIND_SEMAPHORE || kind == MPE_KIND_BOUNDED)
        return mpe_semaphore_release(e, o);
    mpe_object *lock;
    int rc = lock_of(e, o, &lock, &recursive);
    if (rc != MPE_OK)
        return rc;
    mpe_lock_state state;
    mpe_lock_state_get(e, lock, &state);
    if (!state.locked)
        rc = MPE_EOVER;
    else
        rc = recursive ? mpe__rlock_give(e, lock, MPE__OWNER_HOST) : mpe__lock_give(e, lock);
    mpe_drop(e, lock);
    return rc;
}

/* ---- rate limiters ---- */

struct tokens {
    double tokens;
    mpe_limiter_wait *wait;
};

static int
take_tokens(mpe_engine *e, mpe_object *o, void *ud)
{
    struct tokens *t = ud;
    return mpe_limiter_acquire(e, o, t->tokens, &t->wait);
}

int
mpe_limiter_take(mpe_engine *e, mpe_object *o, double tokens, uint64_t deadline)
{
    if (!mpe__admits(e, o, MPE__KIND(RATE_LIMITER)))
        return mpe__refusal(e, o, MPE__KIND(RATE_LIMITER));
    if (deadline == MPE_NOW)
        return mpe_limiter_try(e, o, tokens);
    struct tokens t = {tokens, NULL};
    int rc = mpe_await(e, o, MPE_EVENT_READY, deadline, take_tokens, &t);
    if (t.wait && mpe_limiter_leave(e, o, &t.wait) == MPE_OK)
        rc = MPE_OK;
    return rc;
}

/* ---- events, barriers, joinable queues, conditions ---- */

#define WAITABLE                                                                                   \
    (MPE__KIND(EVENT) | MPE__KIND(BARRIER) | MPE__KIND(JOINABLE) | MPE__KIND(CONDITION))

static int
is_set(mpe_engine *e, mpe_object *o, void *ud)
{
    return mpe_event_wait(e, o, ud);
}

static int
is_joined(mpe_engine *e, mpe_object *o, void *ud)
{
    (void)ud;
    return mpe_queue_join(e, o);
}

struct party {
    uint32_t index, generation;
    int arrived;
};

/* Arrives, once, or again when all were there; then asks whether the barrier has opened. */
static int
pass(mpe_engine *e, mpe_object *o, void *ud)
{
    struct party *p = ud;
    if (p->arrived)
        return mpe_barrier_poll(e, o, p->generation);
    int rc = mpe_barrier_arrive(e, o, &p->index, &p->generation);
    if (rc == MPE_OK)
        return mpe_barrier_open(e, o, p->generation);
    p->arrived = rc == MPE_EAGAIN && p->index != UINT32_MAX;
    return rc;
}

static int
wait_barrier(mpe_engine *e, mpe_object *o, uint64_t deadline)
{
    struct party p = {0};
    uint32_t parties = 0, waiting = 0;
    int broken = 0;
    mpe_barrier_state(e, o, &parties, &waiting, &broken);
    if (!broken && waiting + 1 < parties) { /* one that may not wait does not arrive either */
        if (deadline == MPE_NOW)
            return MPE_EAGAIN;
        if (mpe__may_wait(e, deadline) == MPE_EDEADLK)
            return MPE_EDEADLK;
    }
    int rc = await(e, o, MPE_EVENT_READY, deadline, pass, &p);
    if (rc != MPE_OK && rc != MPE_EBROKEN && p.arrived)
        mpe_barrier_abort(e, o);
    return rc;
}

static int
is_notified(mpe_engine *e, mpe_object *o, void *ud)
{
    return mpe_condition_notified(e, o, *(uint32_t *)ud);
}

/* Acquires the lock of a condition again, whatever interrupts it. */
static int
retake(mpe_engine *e, mpe_object *lock, int recursive, uint32_t levels, int rc)
{
    int got;
    do {
        got = mpe_await(e, lock, MPE_EVENT_READY, MPE_FOREVER, take_lock, &recursive);
        if (got == MPE_EINTR)
            rc = MPE_EINTR;
    } while (got == MPE_EINTR);
    if (got >= MPE_OK && recursive)
        mpe_rlock_set_levels(e, lock, levels);
    return got == MPE_OK || rc != MPE_OK ? rc : got;
}

/* With its lock held. */
static int
wait_notified(mpe_engine *e, mpe_object *o, mpe_object *lock, int recursive, uint64_t deadline)
{
    mpe_lock_state state;
    mpe_lock_state_get(e, lock, &state);
    if (!state.locked || state.slot != e->slot || state.task != MPE__OWNER_HOST)
        return MPE_EPERM;
    if (deadline == MPE_NOW)
        return MPE_EAGAIN;
    uint32_t ticket, levels = 1;
    int rc = mpe__may_wait(e, deadline); /* asked while the lock is held: it must be so again */
    if (rc == MPE_OK)
        rc = mpe_condition_enlist(e, o, &ticket);
    if (rc != MPE_OK)
        return rc;
    rc = recursive ? mpe_rlock_release_all(e, lock, MPE__OWNER_HOST, &levels)
                   : mpe__lock_give(e, lock);
    if (rc == MPE_OK)
        rc = mpe_await(e, o, MPE_EVENT_NOTIFIED, deadline, is_notified, &ticket);
    if (rc != MPE_OK && mpe_condition_leave(e, o, ticket) == MPE_OK)
        rc = MPE_OK;
    return retake(e, lock, recursive, levels, rc);
}

static int
wait_condition(mpe_engine *e, mpe_object *o, uint64_t deadline)
{
    mpe_object *lock;
    int recursive, rc = lock_of(e, o, &lock, &recursive);
    if (rc != MPE_OK)
        return rc;
    rc = wait_notified(e, o, lock, recursive, deadline);
    mpe_drop(e, lock);
    return rc;
}

int
mpe_wait(mpe_engine *e, mpe_object *o, uint64_t deadline)
{
    uint64_t epoch = UINT64_MAX;
    if (!mpe__admits(e, o, WAITABLE))
        return mpe__refusal(e, o, WAITABLE);
    switch (mpe_kind_of(o)) {
    case MPE_KIND_EVENT:
        return await(e, o, MPE_EVENT_READY, deadline, is_set, &epoch);
    case MPE_KIND_BARRIER:
        return wait_barrier(e, o, deadline);
    case MPE_KIND_JOINABLE:
        return await(e, o, MPE_EVENT_DONE, deadline, is_joined, NULL);
    default:
        return wait_condition(e, o, deadline);
    }
}

/* ---- queues ---- */

struct put {
    mpe_bytes bytes;
    int handles;
};

static int
put(mpe_engine *e, mpe_object *o, void *ud)
{
    struct put *p = ud;
    return mpe_queue_put(e, o, &p->bytes, 1, p->handles);
}

static int
found(void *ud, uint64_t handle)
{
    (void)ud;
    (void)handle;
    return 1;
}

int
mpe_put(mpe_engine *e, mpe_object *queue, const void *data, size_t size, uint64_t deadline)
{
    if (!data && size > 0)
        return MPE_EINVAL;
    if (!mpe__admits(e, queue, MPE__QUEUES))
        return mpe__refusal(e, queue, MPE__QUEUES);
    struct put p = {{data, size}, mpe_wire_scan_handles(data, size, found, NULL) == 1};
    return await(e, queue, MPE_EVENT_SPACE, deadline, put, &p);
}

static int
get(mpe_engine *e, mpe_object *o, void *ud)
{
    return mpe_queue_get(e, o, ud);
}

int
mpe_get(mpe_engine *e, mpe_object *queue, mpe_message *out, uint64_t deadline)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__admits(e, queue, MPE__QUEUES))
        return mpe__refusal(e, queue, MPE__QUEUES);
    return await(e, queue, MPE_EVENT_READY, deadline, get, out);
}

/* ---- the first of several ---- */

#define LOCKS (MPE__KIND(LOCK) | MPE__KIND(RLOCK))
#define SELECTABLE (LOCKS | MPE__SEMAPHORES | MPE__KIND(EVENT) | MPE__QUEUES)

struct choice {
    mpe_waiter waiter;
    int fired; /* with MPE_OK, and its turn not passed on */
    int *done;
};

static void
on_choice(mpe_engine *e, mpe_waiter *w, int status)
{
    struct choice *c = MPE__CONTAINER(w, struct choice, waiter);
    (void)e;
    c->fired = status == MPE_OK;
    *c->done = 1;
}

static int
is_ready(mpe_engine *e, mpe_object *o)
{
    mpe_lock_state state;
    switch (mpe_kind_of(o)) {
    case MPE_KIND_SEMAPHORE:
    case MPE_KIND_BOUNDED:
        return mpe_semaphore_value(e, o) > 0;
    case MPE_KIND_EVENT:
        return mpe_event_is_set(e, o);
    case MPE_KIND_QUEUE:
    case MPE_KIND_JOINABLE:
        return mpe_queue_size(e, o) > 0 || mpe_queue_is_closed(e, o);
    default:
        mpe_lock_state_get(e, o, &state);
        return !state.locked;
    }
}

/* The index of the first that is ready, n: none. */
static size_t
first_ready(mpe_engine *e, mpe_object *const *objects, size_t n)
{
    size_t i = 0;
    while (i < n && !is_ready(e, objects[i]))
        i++;
    return i;
}

/* Files one waiter for each, and waits until one of them fires, unless one is ready by then. */
static int
wait_choices(mpe_engine *e, mpe_object *const *objects, size_t n, uint64_t deadline,
             struct choice *choices)
{
    int done = 0, rc = MPE_OK;
    size_t filed = 0;
    for (; filed < n && rc == MPE_OK; filed++) {
        choices[filed] = (struct choice){.waiter = {.fire = on_choice}, .done = &done};
        rc = mpe_wait_object(e, &choices[filed].waiter, objects[filed], MPE_EVENT_READY, deadline);
    }
    if (rc == MPE_OK && first_ready(e, objects, n) == n)
        rc = mpe_run_until(e, &done);
    for (size_t i = 0; i < filed; i++)
        if (choices[i].fired)
            mpe_wait_done(e, &choices[i].waiter);
        else
            mpe_wait_stop(e, &choices[i].waiter);
    return rc;
}

/* Why the objects are refused, in the order of refusals. */
static int
refuse_any(mpe_engine *e, mpe_object *const *objects, size_t n)
{
    int rc = MPE_OK;
    for (size_t i = 0; i < n; i++)
        if (!objects[i])
            return MPE_EINVAL;
    for (size_t i = 0; i < n; i++) {
        int why = mpe__admits(e, objects[i], SELECTABLE) ? MPE_OK
                                                         : mpe__refusal(e, objects[i], SELECTABLE);
        if (why != MPE_OK && (rc == MPE_OK || why != MPE_ETYPE))
            rc = why;
        if (rc != MPE_OK && rc != MPE_ETYPE)
            break;
    }
    return rc;
}

int
mpe_wait_any(mpe_engine *e, mpe_object *const *objects, size_t n, uint64_t deadline, size_t *index)
{
    struct choice few[8], *choices = few;
    if (!e || !objects)
        return MPE_EINVAL;
    int rc = n == 0 ? MPE_EINVAL : refuse_any(e, objects, n);
    if (n == 0 && !mpe__is_ours(e))
        rc = MPE_EPERM;
    if (rc != MPE_OK)
        return rc;
    size_t i = first_ready(e, objects, n);
    if (i == n && deadline != MPE_NOW && (rc = mpe__may_wait(e, deadline)) != MPE_OK)
        return rc;
    if (i == n && deadline != MPE_NOW && n > 8 &&
        !(choices = mpe__new_zeroed(&e->memory, n * sizeof *choices)))
        return MPE_ENOMEM;
    for (int late = 0; rc == MPE_OK && i == n; i = first_ready(e, objects, n)) {
        if (deadline == MPE_NOW || late) {
            mpe_notice_deaths(e);
            rc = deadline == MPE_NOW ? MPE_EAGAIN : MPE_ETIMEDOUT;
            break;
        }
        rc = wait_choices(e, objects, n, deadline, choices);
        late = deadline != MPE_FOREVER && mpe_now() >= deadline;
    }
    if (choices != few)
        mpe__delete(&e->memory, choices, n * sizeof *choices);
    if (rc == MPE_OK && index)
        *index = i;
    return rc;
}
