/* Barriers. Arrivals are counted per slot and stamped with their generation, so opening the
 * barrier is one store of the word. A party that dies after arriving breaks the barrier for all,
 * since the others would wait forever. A process that arrives while the last one's action still
 * runs has not arrived, and arrives again when the barrier has been opened. */
#include "objects/barrier.h"

#include "core/bell.h"
#include "core/ilock.h"
#include "core/object.h"
#include "core/trace.h"
#include "objects/doors.h"

#include <string.h>

#define BROKEN (1ull << 32)

static struct mpe__barrier *
body(mpe_engine *e, const mpe_object *o)
{
    return mpe__body(e, o);
}

int
mpe_barrier_create(mpe_engine *e, uint32_t parties, mpe_bytes settings, mpe_object **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    mpe_object *o;
    int rc = mpe__object_begin(e, MPE_KIND_BARRIER, settings.size, &o);
    if (rc != MPE_OK)
        return rc;
    struct mpe__barrier *b = body(e, o);
    b->parties = parties;
    b->settings_size = (uint32_t)settings.size;
    if (settings.size) {
        memcpy(b->settings, settings.data, settings.size);
        mpe__note_stored(e, o, settings.data, settings.size);
    }
    return mpe__object_finish(e, o, out);
}

static uint32_t
generation_of(uint64_t word)
{
    return (uint32_t)(word >> 33);
}

static uint64_t
reset_bit(uint32_t generation)
{
    return 1ull << generation % 32;
}

static uint32_t
arrivals(const struct mpe__barrier *b, uint32_t slot, uint32_t generation)
{
    uint64_t a = mpe__load64(&b->arrived[slot]);
    return a >> 32 == generation ? (uint32_t)a : 0;
}

static uint32_t
all_arrivals(mpe_engine *e, const struct mpe__barrier *b, uint32_t generation)
{
    uint32_t sum = 0, top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++)
        sum += arrivals(b, i, generation);
    return sum;
}

mpe_bytes
mpe_barrier_settings(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(BARRIER)))
        return (mpe_bytes){NULL, 0};
    struct mpe__barrier *b = body(e, o);
    return (mpe_bytes){b->settings, b->settings_size};
}

int
mpe_barrier_arrive(mpe_engine *e, mpe_object *o, uint32_t *index, uint32_t *generation)
{
    if (!index || !generation)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(BARRIER)))
        return mpe__refusal(e, o, MPE__KIND(BARRIER));
    struct mpe__barrier *b = body(e, o);
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    uint64_t word = mpe__load64(&o->word);
    uint32_t g = generation_of(word), before = all_arrivals(e, b, g);
    int rc = MPE_EBROKEN;
    if (!(word & BROKEN) && before >= b->parties) {
        rc = MPE_EAGAIN;
        *index = UINT32_MAX;
        *generation = g;
    } else if (!(word & BROKEN)) {
        mpe__store64(&b->arrived[e->slot], (uint64_t)g << 32 | (arrivals(b, e->slot, g) + 1));
        rc = before + 1 == b->parties ? MPE_OK : MPE_EAGAIN;
        *index = before;
        *generation = g;
    }
    mpe__iunlock(e, &o->ilock);
    if (rc != MPE_EBROKEN && *index != UINT32_MAX)
        mpe__trace_did(e, MPE_DID_ARRIVE, *index + 1, o);
    return rc;
}

int
mpe_barrier_open(mpe_engine *e, mpe_object *o, uint32_t generation)
{
    if (!mpe__admits(e, o, MPE__KIND(BARRIER)))
        return mpe__refusal(e, o, MPE__KIND(BARRIER));
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    uint64_t word = mpe__load64(&o->word);
    int rc = MPE_EBROKEN;
    if (!(word & BROKEN) && generation_of(word) == generation) {
        uint64_t outcomes = (word & UINT32_MAX) & ~reset_bit(generation);
        mpe__store64(&o->word, (uint64_t)(generation + 1) << 33 | outcomes);
        rc = MPE_OK;
        mpe__trace_did(e, MPE_DID_OPEN, 1, o);
    }
    mpe__iunlock(e, &o->ilock);
    mpe__wake_all(e, o, MPE_EVENT_READY);
    return rc;
}

int
mpe_barrier_poll(mpe_engine *e, mpe_object *o, uint32_t generation)
{
    if (!mpe__admits(e, o, MPE__KIND(BARRIER)))
        return mpe__refusal(e, o, MPE__KIND(BARRIER));
    uint64_t word = atomic_load(&o->word);
    (void)e;
    if (generation_of(word) == generation)
        return word & BROKEN ? MPE_EBROKEN : MPE_EAGAIN;
    return word & reset_bit(generation) ? MPE_EBROKEN : MPE_OK;
}

void
mpe_barrier_abort(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(BARRIER)))
        return;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    mpe__store64(&o->word, mpe__load64(&o->word) | BROKEN);
    mpe__trace_did(e, MPE_DID_ABORT, 1, o);
    mpe__iunlock(e, &o->ilock);
    mpe__wake_all(e, o, MPE_EVENT_READY);
}

void
mpe_barrier_reset(mpe_engine *e, mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(BARRIER)))
        return;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    uint64_t word = mpe__load64(&o->word);
    uint32_t g = generation_of(word);
    mpe__store64(&o->word, (uint64_t)(g + 1) << 33 | ((word & UINT32_MAX) | reset_bit(g)));
    mpe__trace_did(e, MPE_DID_RESET, 1, o);
    mpe__iunlock(e, &o->ilock);
    mpe__wake_all(e, o, MPE_EVENT_READY);
}

void
mpe_barrier_state(mpe_engine *e, mpe_object *o, uint32_t *parties, uint32_t *waiting, int *broken)
{
    if (!mpe__admits(e, o, MPE__KIND(BARRIER)))
        return;
    struct mpe__barrier *b = body(e, o);
    uint64_t word = mpe__load64(&o->word);
    int is_broken = (word & BROKEN) != 0;
    if (parties)
        *parties = b->parties;
    if (broken)
        *broken = is_broken;
    if (waiting)
        *waiting = is_broken ? 0 : all_arrivals(e, b, generation_of(word));
}

static void
death(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    uint64_t word = mpe__load64(&o->word);
    if (arrivals(body(e, o), slot, generation_of(word)) > 0 && !(word & BROKEN))
        mpe_barrier_abort(e, o);
    mpe__store64(&body(e, o)->arrived[slot], 0);
}

static int
ready(mpe_engine *e, mpe_object *o, int event)
{
    (void)e, (void)o, (void)event;
    return 0; /* every change of the word wakes all */
}

/* The settings may mention objects. */
static void
scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud)
{
    mpe_bytes settings = mpe_barrier_settings(e, o);
    mpe_wire_scan_handles(settings.data, settings.size, visit, ud);
}

const struct mpe__kind mpe__barrier_kind = {
    .body_bytes = sizeof(struct mpe__barrier),
    .death = death,
    .ready = ready,
    .scan = scan,
    .wake = {[MPE_EVENT_READY] = {.turn = MPE__TURN_ALL}},
};
