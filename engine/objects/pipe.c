/* Pipes: two queues, one from each end, and per end the set of processes that have it. When nobody
 * has an end any more, both queues are closed: the other side drains what was sent and then finds
 * it closed, and its sends fail.
 *
 * A process has an end when it made the pipe, was sent the end, or used it. An end that lies in a
 * message on some queue is had by nobody and must not count as closed: once an end was stored
 * somewhere, losing its last user only asks for a sweep, which knows what is mentioned
 * (sweep.c); taking the message out gives the end to the taker before it leaves.
 *
 * Death: the reaper takes the dead slot out of both sets, each by one store. It may hold locks of
 * other objects, one of the queues even, so closing them is left to the sweep that every process
 * rung by the reaper looks for before it sleeps again; closing can be repeated. One that died
 * after its bit had gone and before it had closed all leaves an end with no user and no closed.
 */
#include "objects/pipe.h"

#include "core/object.h"
#include "core/bell.h"

static struct mpe__pipe *
body(mpe_engine *e, const mpe_object *o)
{
    return mpe__body(e, o);
}

int
mpe__pipe_end(mpe_handle h)
{
    int kind = mpe_handle_kind(h);
    return kind == MPE_KIND_PIPE ? 0 : kind == MPE_KIND_PIPE_OTHER ? 1 : -1;
}

/* A queue that lives as long as the pipe mentions it. */
static int
make_queue(mpe_engine *e, mpe_object *pipe, int end)
{
    mpe_object *q;
    int rc = mpe_queue_create(e, 0, 0, &q);
    if (rc != MPE_OK)
        return rc;
    atomic_fetch_or(&q->flags, MPE__OBJECT_STORED);
    atomic_fetch_or(&pipe->flags, MPE__OBJECT_CONTAINS);
    mpe__store64(&body(e, pipe)->queue[end], mpe_handle_of(e, q));
    mpe__set_add(&body(e, pipe)->users[end], e->slot);
    mpe_drop(e, q);
    return MPE_OK;
}

int
mpe_pipe_create(mpe_engine *e, int duplex, mpe_object **out)
{
    mpe_object *made, *o;
    int rc = mpe__object_begin_with_body(e, MPE_KIND_PIPE, sizeof(struct mpe__pipe), &made);
    if (rc == MPE_OK)
        rc = mpe__object_finish(e, made, &o); /* first: making nests no other making */
    if (rc != MPE_OK)
        return rc;
    mpe__set_add(&body(e, o)->users[0], e->slot);
    rc = make_queue(e, o, 1);
    if (rc == MPE_OK && duplex)
        rc = make_queue(e, o, 0);
    if (rc != MPE_OK) {
        mpe_drop(e, o);
        return rc;
    }
    *out = o;
    return MPE_OK;
}

mpe_handle
mpe_pipe_handle(mpe_engine *e, const mpe_object *o, int end)
{
    mpe_handle h = mpe_handle_of(e, o) & ~(0xffull << 56);
    return h | (uint64_t)(end ? MPE_KIND_PIPE_OTHER : MPE_KIND_PIPE) << 56;
}

mpe_handle
mpe_pipe_queue(mpe_engine *e, mpe_object *o, int from_end)
{
    return mpe__load64(&body(e, o)->queue[from_end]);
}

void
mpe__pipe_give(mpe_engine *e, mpe_object *o, int end, uint32_t slot)
{
    mpe__set_add(&body(e, o)->users[end], slot);
}

void
mpe_pipe_use(mpe_engine *e, mpe_object *o, int end)
{
    if (!mpe__set_has(&body(e, o)->users[end], e->slot))
        mpe__pipe_give(e, o, end, e->slot);
}

void
mpe__pipe_arrived(mpe_engine *e, mpe_object *o)
{
    mpe_pipe_use(e, o, 0);
}

void
mpe__pipe_other_arrived(mpe_engine *e, mpe_object *o)
{
    mpe_pipe_use(e, o, 1);
}

static void
close_end(mpe_engine *e, mpe_object *o, int end)
{
    struct mpe__pipe *p = body(e, o);
    for (int i = 0; i < 2; i++) {
        mpe_handle h = mpe__load64(&p->queue[i]);
        if (h)
            mpe_queue_close(e, &e->objects[(uint32_t)h]);
    }
    mpe__store32(&p->closed[end], 1); /* last: until then a sweep closes them once more */
}

static void
remove_user(mpe_engine *e, mpe_object *o, int end, uint32_t slot)
{
    struct mpe__pipe *p = body(e, o);
    if (!mpe__set_has(&p->users[end], slot))
        return;
    mpe__set_remove(&p->users[end], slot);
    if (!mpe__set_empty(&p->users[end]))
        return;
    if (slot != e->slot || e->depth > 0 || atomic_load(&o->flags) & MPE__OBJECT_STORED)
        mpe__store32(&e->header->sweep_wanted, 1);
    else
        close_end(e, o, end);
}

void
mpe_pipe_close(mpe_engine *e, mpe_object *o, int end)
{
    remove_user(e, o, end, e->slot);
    mpe__sweep_if_wanted(e);
}

void
mpe__pipe_death(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    struct mpe__pipe *p = body(e, o);
    for (int end = 0; end < 2; end++) {
        remove_user(e, o, end, slot);
        /* it may have gone before, and died closing the queues */
        if (mpe__set_empty(&p->users[end]) && !mpe__load32(&p->closed[end]))
            mpe__store32(&e->header->sweep_wanted, 1);
    }
}

void
mpe__pipe_scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud)
{
    for (int i = 0; i < 2; i++) {
        mpe_handle h = mpe__load64(&body(e, o)->queue[i]);
        if (h)
            visit(ud, h);
    }
}

void
mpe__pipe_swept(mpe_engine *e, mpe_object *o, uint32_t mentioned)
{
    struct mpe__pipe *p = body(e, o);
    for (int end = 0; end < 2; end++)
        if (!(mentioned >> end & 1) && !mpe__load32(&p->closed[end]) &&
            mpe__set_empty(&p->users[end]))
            close_end(e, o, end);
}
