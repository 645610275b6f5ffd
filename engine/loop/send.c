/* SPDX-License-Identifier: MIT */
/* Calls that other threads of this process send to an engine. A sender pushes onto one list, the
 * newest first, without a lock, and rings the engine's bell when the list was empty. The loop takes
 * the whole list, turns it round, and runs it as a job, so many calls per turn. The list holds a
 * call until the loop has taken it, so a sender that is delayed between push and ring only delays
 * the calls that others push meanwhile.
 *
 * All of it is private memory: a death of the process leaves nothing. A forked child begins with
 * empty lists.
 */
#include "loop/loop.h"
#include "core/door.h"

#define PER_TURN 64

struct mpe__call {
    struct mpe__call *next;
    void (*run)(mpe_engine *e, void *ud);
    void *ud;
};

int
mpe_send(mpe_engine *e, void (*run)(mpe_engine *e, void *ud), void *ud)
{
    if (!e || !run)
        return MPE_EINVAL;
    if (mpe__is_inherited(e))
        return MPE_EPERM;
    struct mpe__loop *l = e->loop;
    if (mpe__load32(&l->closing))
        return MPE_ECLOSED;
    struct mpe__call *c = mpe__new(&e->memory, sizeof *c);
    if (!c)
        return MPE_ENOMEM;
    *c = (struct mpe__call){.next = atomic_load(&l->sent), .run = run, .ud = ud};
    struct mpe__call *before = c->next;
    while (!atomic_compare_exchange_weak(&l->sent, &before, c))
        c->next = before;
    if (mpe__is_ours(e))
        mpe__has_work(e);
    if (!before)
        mpe__ring(e, e->slot, MPE__DELIVERY);
    return MPE_OK;
}

/* Moves what was sent behind the calls that are in order already. */
static void
take(struct mpe__loop *l)
{
    struct mpe__call *c = atomic_exchange(&l->sent, NULL), *first = NULL, *last = c, *next;
    if (!c)
        return;
    for (; c; c = next) {
        next = c->next;
        c->next = first;
        first = c;
    }
    if (l->calls)
        l->calls_last->next = first;
    else
        l->calls = first;
    l->calls_last = last;
}

/* The call may wait, and then those behind it run from there. */
static void
run_first(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    struct mpe__call c = *l->calls;
    mpe__delete(&e->memory, l->calls, sizeof *l->calls);
    l->calls = c.next;
    if (l->calls)
        mpe_post(e, &l->send_job);
    c.run(e, c.ud);
}

static void
run_some(mpe_engine *e, mpe_job *job)
{
    (void)job;
    for (int i = 0; i < PER_TURN && e->loop->calls; i++)
        run_first(e);
}

void
mpe__send_dispatch(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    take(l);
    l->send_job.run = run_some;
    if (l->calls)
        mpe_post(e, &l->send_job);
}

void
mpe__send_close(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    mpe__store32(&l->closing, 1);
    l->send_job.run = run_some;
    for (take(l); l->calls; take(l))
        run_first(e);
}

void
mpe__send_forget(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    for (take(l); l->calls;) {
        struct mpe__call *c = l->calls;
        l->calls = c->next;
        mpe__delete(&e->memory, c, sizeof *c);
    }
}
