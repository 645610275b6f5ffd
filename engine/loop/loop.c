/* The run loop: jobs, the bell, timers, descriptors; sleep when there is none of them. While
 * there are jobs, the clock is read after every few of them: so few that the reads are LOOK_NS
 * apart however long the jobs take. Then timers and the bell are served, and, POLL_NS apart,
 * descriptors. Everything runs on the thread that opened the engine. Only that thread touches
 * this state, so a death of the process leaves nothing of it behind. */
#include "loop/loop.h"

#include "core/object.h"
#include "core/death.h"
#include "core/door.h"

#include <string.h>

#define STRIDE_MAX 16u  /* jobs between two reads of the clock */
#define LOOK_NS 100000u /* the stride is such that they are not further apart */
#define POLL_NS 50000u  /* between two polls of descriptors while there are jobs */

void
mpe_post(mpe_engine *e, mpe_job *job)
{
    if (!job || !mpe__is_ours(e))
        return;
    struct mpe__loop *l = e->loop;
    if (job->queued)
        return;
    job->queued = 1;
    job->next = NULL;
    if (l->jobs_tail)
        l->jobs_tail->next = job;
    else {
        l->jobs_head = job;
        mpe__has_work(e);
    }
    l->jobs_tail = job;
}

static mpe_job *
next_job(struct mpe__loop *l)
{
    mpe_job *job = l->jobs_head;
    l->jobs_head = job->next;
    if (!l->jobs_head)
        l->jobs_tail = NULL;
    job->queued = 0;
    return job;
}

void
mpe_turn(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return;
    if (mpe__uv_alive(e)) {
        mpe__uv_turn(e);
        return;
    }
    mpe__uv_passed(e);
    mpe__tell_turn(e);
}

static void
poll_descriptors(mpe_engine *e)
{
    mpe__ends_to_uv(e);
    if (e->loop->ends_apart) /* no descriptors are left for them */
        mpe__ends_look(e);
    mpe_turn(e);
}

static void
set_stride(struct mpe__loop *l, uint64_t now)
{
    uint64_t passed = l->looked ? now - l->looked : LOOK_NS;
    if (passed > LOOK_NS)
        l->stride = (uint32_t)(l->stride * LOOK_NS / passed);
    else if (passed < LOOK_NS / 2 && l->stride < STRIDE_MAX)
        l->stride *= 2;
    if (l->stride == 0)
        l->stride = 1;
    l->until_look = l->stride;
    l->looked = l->clock = now;
}

const uint64_t *
mpe_loop_clock(mpe_engine *e)
{
    return mpe__is_ours(e) ? &e->loop->clock : NULL;
}

void
mpe_loop_look(mpe_engine *e)
{
    if (mpe__is_ours(e))
        e->loop->clock = mpe_now();
}

void
mpe_loop_look_next(mpe_engine *e)
{
    if (mpe__is_ours(e))
        e->loop->until_look = 1;
}

/* Deaths wake sleepers; a process that does not sleep checks for them here. */
void
mpe_notice_deaths(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return;
    mpe__reap_all(e);
    mpe__sweep_if_wanted(e); /* closes the pipes that they held */
}

static MPE__COLD void
look_around(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    uint64_t now = mpe_now();
    set_stride(l, now);
    mpe_notice_deaths(e);
    mpe__dispatch_bell(e);
    mpe__expire_timers(e);
    if (l->jobs_head && now - l->polled < POLL_NS)
        return;
    l->polled = now;
    poll_descriptors(e);
}

/* After a job, or anything that counts as one. */
static inline void
count_job(mpe_engine *e)
{
    if (--e->loop->until_look == 0)
        look_around(e);
}

/* Runs the jobs that are queued now; those they post wait for the next round. */
static void
run_jobs(mpe_engine *e, const int *done)
{
    struct mpe__loop *l = e->loop;
    mpe_job *last = l->jobs_tail;
    if (last)
        l->quiet = 0;
    while (l->jobs_head) {
        mpe_job *job = next_job(l);
        int was_last = job == last; /* the job may free itself */
        job->run(e, job);
        count_job(e);
        if (was_last || *done)
            return;
    }
}

void
mpe_run_now(mpe_engine *e, mpe_job *job)
{
    if (!job || !mpe__is_ours(e))
        return;
    e->loop->quiet = 0;
    atomic_store(&e->self->quiet, 0); /* stored before the turn that this is part of */
    job->run(e, job);
}

static int
take_interrupt(struct mpe__loop *l)
{
    if (!mpe__load32(&l->interrupted))
        return 0;
    mpe__store32(&l->interrupted, 0);
    return 1;
}

void
mpe_ask_in_task(mpe_engine *e, int (*in_task)(void *ud), void *ud)
{
    if (!mpe__is_ours(e))
        return;
    e->loop->in_task = in_task;
    e->loop->in_task_ud = ud;
}

int
mpe__is_in_task(mpe_engine *e)
{
    return e->loop->in_task && e->loop->in_task(e->loop->in_task_ud);
}

int
mpe__may_wait(mpe_engine *e, uint64_t deadline)
{
    if (!mpe__is_in_task(e))
        return MPE_OK;
    return deadline != MPE_FOREVER && deadline <= mpe_now() ? MPE_ETIMEDOUT : MPE_EDEADLK;
}

int
mpe_run_until(mpe_engine *e, const int *done)
{
    if (!done)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    return mpe__is_in_task(e) ? MPE_EDEADLK : mpe_drive(e, done);
}

int
mpe_drive(mpe_engine *e, const int *done)
{
    if (!done || !mpe__is_ours(e))
        return done ? mpe__refusal(e, NULL, 0) : MPE_EINVAL;
    struct mpe__loop *l = e->loop;
    l->quiet = 0; /* the caller has done something */
    while (!*done) {
        run_jobs(e, done);
        mpe__dispatch_bell(e);
        if (*done)
            break;
        if (take_interrupt(l))
            return MPE_EINTR;
        if (MPE__UNLIKELY(l->close_after))
            return MPE_ECLOSED;
        if (l->jobs_head)
            continue;
        mpe__expire_timers(e);
        if (l->jobs_head || *done)
            continue;
        mpe__sweep_if_wanted(e);
        int rc = mpe__sleep(e, done);
        if (rc != MPE_OK)
            return rc;
        mpe__dispatch_bell(e); /* before jobs that may run long: the queue may have called this
                                * process */
        count_job(e);          /* it may only have spun */
    }
    return MPE_OK;
}

int
mpe_go_round(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    int done = 0;
    e->loop->quiet = 0;
    run_jobs(e, &done);
    mpe__dispatch_bell(e);
    mpe__expire_timers(e);
    count_job(e);
    return take_interrupt(e->loop) ? MPE_EINTR : MPE_OK;
}

int
mpe__round(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    if (mpe__is_in_task(e))
        return MPE_EDEADLK;
    int done = 0;
    mpe_notice_deaths(e);
    mpe__dispatch_bell(e);
    mpe__expire_timers(e);
    run_jobs(e, &done);
    return e->loop->jobs_head != NULL;
}

int
mpe_poll(mpe_engine *e)
{
    if (e->loop->host_polls) {
        e->loop->host_polls = 0;
        atomic_store(&e->self->sleep, MPE__AWAKE);
        mpe__uv_turn_always(e);
    } else {
        poll_descriptors(e);
    }
    return mpe__round(e);
}

void
mpe_keep_alive(mpe_engine *e, int delta)
{
    if (!mpe__is_ours(e))
        return;
    e->loop->keep_alive += (uint32_t)delta;
    mpe__has_work(e);
}

void
mpe_interrupt(mpe_engine *e)
{
    mpe__store32(&e->loop->interrupted, 1);
    mpe__ring(e, e->slot,
              MPE__BROADCAST); /* what is waited for may have changed, as by a retirement */
}

/* ---- hooks ---- */

void
mpe_on_turn(mpe_engine *e, mpe_turn_hook *hook)
{
    if (!hook || !mpe__is_ours(e))
        return;
    hook->next = e->loop->hooks;
    e->loop->hooks = hook;
}

void
mpe_off_turn(mpe_engine *e, mpe_turn_hook *hook)
{
    if (!hook || !mpe__is_ours(e))
        return;
    mpe_turn_hook **at = &e->loop->hooks;
    while (*at && *at != hook)
        at = &(*at)->next;
    if (*at)
        *at = hook->next;
}

void
mpe__tell_turn(mpe_engine *e)
{
    for (mpe_turn_hook *h = e->loop->hooks; h; h = h->next)
        h->turned(e, h);
}

/* ---- the blocking form ---- */

struct awaiting {
    mpe_waiter waiter;
    int fired, status;
};

static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    struct awaiting *a = MPE__CONTAINER(w, struct awaiting, waiter);
    (void)e;
    a->fired = 1;
    a->status = status;
}

int
mpe_await(mpe_engine *e, mpe_object *o, int event, uint64_t deadline,
          int (*try_again)(mpe_engine *e, mpe_object *o, void *ud), void *ud)
{
    if (!try_again)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__ANY_KIND))
        return mpe__refusal(e, o, MPE__ANY_KIND);
    struct awaiting a = {.waiter = {.fire = on_fire}};
    int rc = try_again(e, o, ud);
    while (rc == MPE_EAGAIN) {
        if (deadline == MPE_NOW)
            count_job(e); /* otherwise a loop of these sees no death */
        if (deadline == MPE_NOW || a.status == MPE_ETIMEDOUT)
            return MPE_ETIMEDOUT;
        if ((rc = mpe__may_wait(e, deadline)) != MPE_OK)
            return rc;
        a.fired = 0;
        if ((rc = mpe_wait_object(e, &a.waiter, o, event, deadline)) != MPE_OK)
            return rc;
        if ((rc = try_again(e, o, ud)) != MPE_EAGAIN) {
            mpe_wait_stop(e, &a.waiter);
            return rc;
        }
        if ((rc = mpe_run_until(e, &a.fired)) != MPE_OK) {
            mpe_wait_stop(e, &a.waiter);
            return rc;
        }
        rc = try_again(e, o, ud);
        if (rc != MPE_EAGAIN)
            mpe_wait_done(e, &a.waiter);
    }
    return rc;
}

/* ---- opening and closing ---- */

static void
begin(struct mpe__loop *l, uv_loop_t *host_loop)
{
    memset(l, 0, sizeof *l);
    l->uv = host_loop;
    l->fds.epoll = -1;
    l->spin_score[0] = l->spin_score[1] = MPE__SPIN_SCORE_MAX;
    l->stride = l->until_look = STRIDE_MAX;
}

void
mpe__loop_open(mpe_engine *e, uv_loop_t *host_loop, unsigned flags)
{
    begin(e->loop, host_loop);
    e->loop->is_served = (flags & MPE_SERVED_BY_LOOP) != 0;
    if (host_loop)
        mpe__uv_begin(e);
}

void
mpe__loop_free(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    mpe__heap_free(&l->timers, &e->memory);
    for (uint32_t i = 0; i <= MPE__BUCKETS; i++) {
        struct mpe__entry *n = i < MPE__BUCKETS ? l->buckets[i] : l->spare, *next;
        for (; n; n = next) {
            next = n->next;
            mpe__entry_free(e, n);
        }
    }
}

int
mpe__loop_abandon(mpe_engine *e)
{
    mpe__uv_abandon(e);
    begin(e->loop, NULL);
    return MPE_OK;
}

void
mpe__loop_close(mpe_engine *e)
{
    mpe__offload_close(e);
    mpe__uv_close(e);
    mpe__loop_free(e);
}
