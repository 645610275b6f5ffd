/* Event: the word is epoch << 1 | set. Setting raises the epoch, so that a process that was
 * waiting when the event was set returns although it was cleared again at once. One store
 * commits; a setter that dies before its wake is covered by the reaper's broadcast.
 *
 * Order: a process that clears the event and then looks for what it announces, while another one
 * stores that and then sets the event: the clear finds it set anew, or what was stored is seen. So a
 * set that finds the event set looks once more after a fence, and a clear is one. */
#include "core/bell.h"
#include "core/object.h"
#include "core/trace.h"
#include "objects/doors.h"

int
mpe_event_create(mpe_engine *e, mpe_object **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    return mpe__object_create(e, MPE_KIND_EVENT, out);
}

void
mpe_event_set(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(EVENT)))
        return;
    uint64_t word = mpe__load64(&o->word);
    if (word & 1) {
        mpe__fence();
        word = mpe__load64(&o->word);
    }
    if (!(word & 1))
        mpe__trace_did(e, MPE_DID_SET, 1, o); /* before a waiter sees it */
    do {
        if (word & 1)
            return;
    } while (!atomic_compare_exchange_weak(&o->word, &word, (word + 2) | 1));
    mpe__wake_all(e, o, MPE_EVENT_READY);
}

void
mpe_event_clear(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(EVENT)))
        return;
    if (atomic_fetch_and(&o->word, ~1ull) & 1)
        mpe__trace_did(e, MPE_DID_CLEAR, 1, o);
    mpe__fence_after();
}

int
mpe_event_is_set(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(EVENT)))
        return 0;
    (void)e;
    return (int)(mpe__load64(&o->word) & 1);
}

int
mpe_event_wait(mpe_engine *e, mpe_object *o, uint64_t *epoch)
{
    if (!epoch)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(EVENT)))
        return mpe__refusal(e, o, MPE__KIND(EVENT));
    uint64_t word = atomic_load(&o->word);
    (void)e;
    if (word & 1 || (*epoch != UINT64_MAX && word >> 1 != *epoch))
        return MPE_OK;
    *epoch = word >> 1;
    return MPE_EAGAIN;
}

static int
ready(mpe_engine *e, mpe_object *o, int event)
{
    (void)event;
    return mpe_event_is_set(e, o);
}

const struct mpe__kind mpe__event_kind = {
    .ready = ready,
    .wake = {[MPE_EVENT_READY] = {.turn = MPE__TURN_ALL}},
};
