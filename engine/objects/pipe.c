/* Pipes: two queues, one from each end, and for each end the set of processes that hold it. When
 * no process holds an end any more, both queues are closed: the other side drains what was sent
 * and then finds it closed, and its sends fail.
 *
 * A process holds an end when it made the pipe, was sent the end, or used it. An end in a
 * message on a queue is held by no process and must not count as closed: once an end was stored,
 * losing its last user only asks for a sweep, which finds what is mentioned (sweep.c). Taking
 * the message out gives the end to the taker before it leaves the queue. An end
 * that moves while the sweep goes through the queues may be mentioned nowhere it looks; but then it
 * had a user on the way, which left: LEFT says so. It is set before the user is removed, and the
 * sweep is wanted again.
 *
 * Death: the reaper removes the dead slot from both sets, each by one store. It may hold locks
 * of other objects, even of one of the queues, so closing them is left to the sweep that every
 * process rung by the reaper checks for before it sleeps again; closing can be repeated. A
 * process that died after its bit was removed and before it had closed everything leaves an end
 * without a user and without closed.
 */
#include "objects/pipe.h"

#include "core/bell.h"
#include "core/death.h"
#include "core/object.h"
#include "objects/doors.h"

static struct mpe__pipe *
body(mpe_engine *e, const mpe_object *o)
{
    return mpe__body(e, o);
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
    mpe_drop(e, q);
    return MPE_OK;
}

int
mpe_pipe_create(mpe_engine *e, int duplex, mpe_object **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    mpe_object *made, *o;
    int rc = mpe__object_begin(e, MPE_KIND_PIPE, 0, &made);
    if (rc != MPE_OK)
        return rc;
    for (int end = 0; end < 2; end++) /* before a sweep can see it */
        mpe__set_add(&body(e, made)->users[end], e->slot);
    rc = mpe__object_finish(e, made, &o); /* first: making nests no other making */
    if (rc != MPE_OK)
        return rc;
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
    if (!mpe__admits(e, o, MPE__KIND(PIPE)))
        return 0;
    return mpe__handle_as(e, o, end ? MPE_KIND_PIPE_OTHER : MPE_KIND_PIPE);
}

mpe_handle
mpe_pipe_queue(mpe_engine *e, mpe_object *o, int from_end)
{
    if (!mpe__admits(e, o, MPE__KIND(PIPE)))
        return 0;
    return mpe__load64(&body(e, o)->queue[from_end]);
}

static void
add_user(mpe_engine *e, mpe_object *o, int end, uint32_t slot)
{
    struct mpe__slotset *users = &body(e, o)->users[end];
    if (!mpe__set_has(users, slot))
        mpe__set_add(users, slot);
}

void
mpe_pipe_use(mpe_engine *e, mpe_object *o, int end)
{
    if (!mpe__admits(e, o, MPE__KIND(PIPE)))
        return;
    add_user(e, o, end, e->slot);
}

static void
arrived(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    add_user(e, o, 0, slot);
}

static void
other_arrived(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    add_user(e, o, 1, slot);
}

static void
close_queue(mpe_engine *e, mpe_handle h)
{
    mpe_object *q = &e->objects[mpe__handle_index(e, h)];
    int was_held = mpe__object_borrow(e, q);
    if (mpe__object_settles_live(e, q) && mpe_handle_of(e, q) == h)
        mpe_queue_close(e, q);
    mpe__object_return(e, q, was_held);
}

static void
close_end(mpe_engine *e, mpe_object *o, int end)
{
    struct mpe__pipe *p = body(e, o);
    for (int i = 0; i < 2; i++)
        if (mpe__load64(&p->queue[i]))
            close_queue(e, mpe__load64(&p->queue[i]));
    mpe__store32(&p->closed[end], 1); /* last: until then a sweep closes them once more */
}

static void
remove_user(mpe_engine *e, mpe_object *o, int end, uint32_t slot)
{
    struct mpe__pipe *p = body(e, o);
    if (!mpe__set_has(&p->users[end], slot))
        return;
    atomic_fetch_or(&o->flags, (uint16_t)(MPE__OBJECT_LEFT << end));
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
    if (!mpe__admits(e, o, MPE__KIND(PIPE)))
        return;
    remove_user(e, o, end, e->slot);
    mpe__sweep_if_wanted(e);
}

static void
death(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    struct mpe__pipe *p = body(e, o);
    for (int end = 0; end < 2; end++) {
        remove_user(e, o, end, slot);
        /* the end may have been released before, by a process that died closing the queues */
        if (mpe__set_empty(&p->users[end]) && !mpe__load32(&p->closed[end]))
            mpe__store32(&e->header->sweep_wanted, 1);
    }
}

static void
scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud)
{
    for (int i = 0; i < 2; i++) {
        mpe_handle h = mpe__load64(&body(e, o)->queue[i]);
        if (h)
            visit(ud, h);
    }
}

/* Bit i of mentioned: some container mentions end i. */
static void
swept(mpe_engine *e, mpe_object *o, uint32_t mentioned)
{
    struct mpe__pipe *p = body(e, o);
    for (int end = 0; end < 2; end++) {
        if (mentioned >> end & 1 || mpe__load32(&p->closed[end]) || !mpe__set_empty(&p->users[end]))
            continue;
        if (atomic_load(&o->flags) & MPE__OBJECT_LEFT << end)
            mpe__store32(&e->header->sweep_wanted, 1);
        else
            close_end(e, o, end);
    }
}

const struct mpe__kind mpe__pipe_kind = {
    .body_bytes = sizeof(struct mpe__pipe),
    .death = death,
    .scan = scan,
    .arrived = arrived,
    .swept = swept,
    .facets = 1u << MPE_KIND_PIPE_OTHER,
};

/* For handles only: they name the second end of an object of the kind above. */
const struct mpe__kind mpe__pipe_other_kind = {.arrived = other_arrived, .part = 1};
