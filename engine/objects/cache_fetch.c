/* SPDX-License-Identifier: MIT */
/* Caches: one computation of a value for all that ask for it. A flight is a block in the list of the
 * shard of its key, from the first fetch that finds the key absent to the last that has its result.
 * Its owner computes; the others wait for an event, which the first of them makes, until the flight
 * has a result or no owner. Of those that find no owner the first one is the next.
 *
 *   owner    slot + 1 << 32 | task; 0: none. Its store commits a change of owner
 *   result   a block: the value or the error, for those that wait. Its store commits the end; the
 *            value is in the cache before
 *   waits    how many waits each slot has: those of a dead slot do not count
 *
 * A flight is freed when it has no owner or a result, and no waits. All is guarded by the lock of
 * the shard; the event is set without it.
 *
 * Death: that of an owner, or between a change and the event that announces it, is told to those
 * that wait by the move of death. It takes away owner and waits of the dead slot, sets the events of
 * all flights that it finds with a result or without an owner, and frees those without waits. The
 * lists and blocks follow by the operation record.
 */
#include "objects/cache_int.h"

#include "core/bell.h"
#include "objects/doors.h"

enum { VALUE, ERROR };

struct result {
    uint64_t size;
    uint32_t what;
    uint32_t handles;
    uint8_t bytes[];
};

static uint64_t
owner_word(mpe_engine *e, uint32_t task)
{
    return (uint64_t)(e->slot + 1) << 32 | task;
}

static struct mpe__flight *
flight_at(mpe_engine *e, uint64_t off)
{
    return off ? mpe__at(e, off) : NULL;
}

/* The shard of the flight that this caller has. */
static struct mpe__cache_view
view_of(mpe_engine *e, mpe_object *o, const mpe_cache_flight *f)
{
    return mpe__cache_view_of(mpe__cache_body(e, o), f->shard);
}

/* ---- events ---- */

/* Sets the event of that handle, if it still exists. It may be called during a repair: the hold is
 * a bit only, and what it leaves without a holder is left to a sweep. */
static void
set_event(mpe_engine *e, mpe_handle h)
{
    uint32_t index = mpe__handle_index(e, h);
    if (h == 0 || index >= mpe__load32(&e->header->objects_top))
        return;
    mpe_object *event = &e->objects[index];
    int was_held = mpe__object_borrow(e, event);
    if (mpe__object_settles_live(e, event) && mpe_handle_of(e, event) == h)
        mpe_event_set(e, event);
    if (was_held)
        return;
    mpe__set_remove(&event->holders, e->slot);
    if (mpe__set_empty(&event->holders))
        mpe__store32(&e->header->sweep_wanted, 1);
}

/* ---- flights; locked ---- */

static int
is_over(const struct mpe__flight *f)
{
    return mpe__load64(&f->result) != 0;
}

/* The flight of a key that has no result yet. */
static struct mpe__flight *
find_flight(mpe_engine *e, struct mpe__cache_shard *s, mpe_bytes key)
{
    struct mpe__flight *f = flight_at(e, mpe__load64(&s->flights));
    for (; f; f = flight_at(e, mpe__load64(&f->next)))
        if (!is_over(f) && f->key_size == key.size && memcmp(f->key, key.data, key.size) == 0)
            return f;
    return NULL;
}

static int
has_waits(const struct mpe__flight *f)
{
    for (uint32_t i = 0; i < MPE__SLOTS; i++)
        if (mpe__load16(&f->waits[i]))
            return 1;
    return 0;
}

/* Unlinks and frees a flight that is of no use any more. 1: it was. */
static int
free_if_unused(mpe_engine *e, mpe_object *o, struct mpe__cache_shard *s, struct mpe__flight *f)
{
    mpe__a64 *link = &s->flights;
    uint64_t off = mpe__offset(e, f);
    if ((mpe__load64(&f->owner) && !is_over(f)) || has_waits(f))
        return 0;
    while (mpe__load64(link) != off)
        link = &flight_at(e, mpe__load64(link))->next;
    struct mpe__change c = {.object = o,
                            .link = link,
                            .value = mpe__load64(&f->next),
                            .old_block = {off, mpe__load64(&f->result)}};
    mpe__commit_change(e, &c);
    return 1;
}

/* Links a flight that this caller computes. */
static int
begin_flight(mpe_engine *e, mpe_object *o, struct mpe__cache_shard *s, mpe_bytes key, uint32_t task,
             struct mpe__flight **out)
{
    uint64_t off;
    int rc = mpe__alloc_zeroed(e, sizeof(struct mpe__flight) + key.size, &off);
    if (rc != MPE_OK)
        return rc;
    struct mpe__flight *f = mpe__at(e, off);
    f->key_size = (uint32_t)key.size;
    memcpy(f->key, key.data, key.size);
    mpe__store64(&f->next, mpe__load64(&s->flights));
    mpe__store64(&f->owner, owner_word(e, task));
    struct mpe__change c = {.object = o, .link = &s->flights, .value = off, .new_block = {off}};
    mpe__commit_change(e, &c);
    *out = f;
    return MPE_OK;
}

/* ---- beginning ---- */

static void
describe(mpe_engine *e, struct mpe__cache_place *p, const struct mpe__flight *f, uint32_t task,
         mpe_cache_flight *out)
{
    out->at = mpe__offset(e, f);
    out->shard = (uint32_t)(p->v.shard - p->v.cache->all);
    out->slot = e->slot;
    out->task = task;
}

/* Is there a value, fresh or stale enough? Appends it. */
static int
read_place(mpe_engine *e, struct mpe__cache_place *p, uint64_t stale, mpe_buf *out)
{
    uint64_t now = mpe_now();
    if (!mpe__cache_is_fresh(p, now) && !(stale > 0 && p->item && now - p->item->expires < stale))
        return MPE_ENOENT;
    return mpe__cache_copy_value(e, p, out);
}

/* Waits for a flight from now on: by its event, or the one given, which becomes that. */
static int
join_flight(mpe_engine *e, struct mpe__flight *f, mpe_object *event, mpe_cache_flight *out)
{
    mpe_handle h = mpe__load64(&f->event);
    if (h == 0 || mpe_hold(e, h, &out->event) != MPE_OK) {
        if (!event)
            return 0;
        mpe_hold(e, mpe_handle_of(e, event), &out->event);
        mpe__store64(&f->event, mpe_handle_of(e, event));
    }
    mpe__store16(&f->waits[e->slot], (uint16_t)(mpe__load16(&f->waits[e->slot]) + 1));
    return 1;
}

enum { NEEDS_EVENT = 1 };

/* Locked: what a fetch finds. event: NULL, or one that may become that of the flight. */
static int
fetch_locked(mpe_engine *e, mpe_object *o, struct mpe__cache_place *p, mpe_bytes key,
             uint64_t stale, mpe_object *event, mpe_buf *out, mpe_cache_flight *flight)
{
    struct mpe__cache_shard *s = p->v.shard;
    uint32_t task = flight->task;
    mpe__cache_find(p, key);
    int rc = read_place(e, p, 0, out);
    if (rc != MPE_ENOENT)
        return rc;
    struct mpe__flight *f = find_flight(e, s, key);
    if (f && mpe__load64(&f->owner) == owner_word(e, task))
        return MPE_EDEADLK;
    if (f && mpe__load64(&f->owner) && (rc = read_place(e, p, stale, out)) != MPE_ENOENT)
        return rc;
    if (!f) {
        rc = begin_flight(e, o, s, key, task, &f);
        if (rc == MPE_OK)
            describe(e, p, f, task, flight);
        return rc == MPE_OK ? MPE_ENOENT : rc;
    }
    if (mpe__load64(&f->owner) == 0) {
        mpe__store64(&f->owner, owner_word(e, task));
        describe(e, p, f, task, flight);
        return MPE_ENOENT;
    }
    if (mpe__load16(&f->waits[e->slot]) == UINT16_MAX)
        return MPE_EARENA;
    if (!join_flight(e, f, event, flight))
        return NEEDS_EVENT;
    describe(e, p, f, task, flight);
    s->waited++;
    return MPE_EAGAIN;
}

static int
make_event(mpe_engine *e, mpe_object **out)
{
    static const char name[] = "Cache:fetch";
    int rc = mpe_event_create(e, out);
    if (rc != MPE_OK)
        return rc;
    mpe_object_label(e, *out, (mpe_bytes){name, sizeof name - 1}, 0); /* at worst it has none */
    return NEEDS_EVENT;
}

int
mpe_cache_fetch(mpe_engine *e, mpe_object *o, mpe_bytes key, uint32_t task, uint64_t stale,
                mpe_buf *out, mpe_cache_flight *flight)
{
    struct mpe__cache_place p;
    uint8_t small[MPE_WIRE_SCALAR_MAX];
    mpe_object *event = NULL;
    if (!out || !flight || mpe__lacks(key))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(CACHE)))
        return mpe__refusal(e, o, MPE__KIND(CACHE));
    mpe__buf_adopt(out, &e->memory);
    if (key.size > INT32_MAX)
        return MPE_ERANGE;
    key = mpe__key_of(key, small);
    mpe__cache_locate(e, o, key, &p);
    memset(flight, 0, sizeof *flight);
    flight->task = task;
    int rc;
    do {
        mpe__cache_lock(e, o, &p.v);
        rc = fetch_locked(e, o, &p, key, stale, event, out, flight);
        mpe__cache_unlock(e, o, &p.v);
        if (rc == NEEDS_EVENT)
            rc = make_event(e, &event);
    } while (rc == NEEDS_EVENT);
    if (event)
        mpe_drop(e, event);
    return rc;
}

/* ---- waiting ---- */

/* The flight of this caller, or NULL when it has none in this process. */
static struct mpe__flight *
own_flight(mpe_engine *e, const mpe_cache_flight *flight)
{
    if (flight->at == 0 || flight->slot != e->slot)
        return NULL;
    return mpe__at(e, flight->at);
}

static void
end_wait(mpe_engine *e, struct mpe__flight *f)
{
    mpe__store16(&f->waits[e->slot], (uint16_t)(mpe__load16(&f->waits[e->slot]) - 1));
}

static void
forget(mpe_engine *e, mpe_cache_flight *flight)
{
    mpe_object *event = flight->event;
    flight->event = NULL;
    flight->at = 0;
    if (event)
        mpe_drop(e, event);
}

static int
copy_result(mpe_engine *e, const struct mpe__flight *f, mpe_buf *out)
{
    const struct result *r = mpe__at(e, mpe__load64(&f->result));
    if (mpe_buf_append(out, r->bytes, r->size) != MPE_OK)
        return MPE_ENOMEM;
    if (r->handles)
        mpe__pin_handles(e, r->bytes, r->size);
    return r->what == VALUE ? MPE_OK : MPE_ECANCELED;
}

int
mpe_cache_fetch_again(mpe_engine *e, mpe_object *o, mpe_cache_flight *flight, mpe_buf *out)
{
    if (!flight || !out)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(CACHE)))
        return mpe__refusal(e, o, MPE__KIND(CACHE));
    mpe__buf_adopt(out, &e->memory);
    struct mpe__flight *f = own_flight(e, flight);
    if (!f || !flight->event)
        return MPE_EINVAL;
    if (!is_over(f) && mpe__load64(&f->owner))
        return MPE_EAGAIN;
    struct mpe__cache_view v = view_of(e, o, flight);
    int rc = MPE_EAGAIN, ends = 1;
    mpe__cache_lock(e, o, &v);
    if (is_over(f)) {
        rc = copy_result(e, f, out);
        end_wait(e, f);
        free_if_unused(e, o, v.shard, f);
    } else if (mpe__load64(&f->owner) == 0) {
        rc = MPE_ENOENT;
        mpe_event_clear(e, flight->event);
        mpe__store64(&f->owner, owner_word(e, flight->task));
        end_wait(e, f);
    } else {
        ends = 0;
    }
    mpe__cache_unlock(e, o, &v);
    if (ends && rc != MPE_ENOENT)
        forget(e, flight);
    if (rc == MPE_ENOENT) { /* from now on it computes */
        mpe_drop(e, flight->event);
        flight->event = NULL;
    }
    return rc;
}

/* ---- ending ---- */

/* Is this caller the one that computes? */
static int
is_owner(mpe_engine *e, const mpe_cache_flight *flight, const struct mpe__flight *f)
{
    return f && !flight->event && !is_over(f) &&
           mpe__load64(&f->owner) == owner_word(e, flight->task);
}

static int
make_result(mpe_engine *e, mpe_object *o, mpe_bytes bytes, uint32_t what, int handles,
            uint64_t *off)
{
    if (handles)
        mpe__note_stored(e, o, bytes.data, bytes.size);
    int rc = mpe__alloc(e, sizeof(struct result) + bytes.size, off);
    if (rc != MPE_OK)
        return rc;
    struct result *r = mpe__at(e, *off);
    *r = (struct result){bytes.size, what, handles != 0};
    if (bytes.size > 0)
        memcpy(r->bytes, bytes.data, bytes.size);
    return MPE_OK;
}

/* Gives a result to those that wait, if there are any; returns the handle of their event. */
static mpe_handle
give_result(mpe_engine *e, mpe_object *o, struct mpe__cache_view *v, struct mpe__flight *f,
            uint64_t result)
{
    mpe_handle event = mpe__load64(&f->event);
    if (!has_waits(f)) {
        if (result)
            mpe__free(e, result);
        mpe__store64(&f->owner, 0);
        free_if_unused(e, o, v->shard, f);
        return 0;
    }
    struct mpe__change c = {
        .object = o, .link = &f->result, .value = result, .new_block = {result}};
    mpe__commit_change(e, &c);
    return event;
}

int
mpe_cache_fetch_end(mpe_engine *e, mpe_object *o, mpe_cache_flight *flight, mpe_bytes value,
                    int handles, uint64_t ttl)
{
    struct mpe__cache_place p;
    uint64_t result = 0;
    mpe_handle event = 0;
    if (!flight || mpe__lacks(value))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(CACHE)))
        return mpe__refusal(e, o, MPE__KIND(CACHE));
    struct mpe__flight *f = own_flight(e, flight);
    if (!is_owner(e, flight, f))
        return MPE_EINVAL;
    mpe_bytes key = {f->key, f->key_size};
    uint64_t expires = mpe__cache_expiry(mpe__cache_body(e, o), ttl);
    if (handles)
        mpe__note_stored(e, o, value.data, value.size);
    mpe__cache_locate(e, o, key, &p);
    mpe__cache_lock(e, o, &p.v);
    int rc = has_waits(f) ? make_result(e, o, value, VALUE, handles, &result) : MPE_OK;
    if (rc == MPE_OK) {
        mpe__cache_find(&p, key);
        rc = mpe__cache_store(e, &p, key, value, handles, expires);
        if (rc != MPE_OK && result)
            mpe__free(e, result);
    }
    if (rc == MPE_OK) {
        p.v.shard->computed++;
        event = give_result(e, o, &p.v, f, result);
    }
    mpe__cache_unlock(e, o, &p.v);
    set_event(e, event);
    if (rc == MPE_OK)
        forget(e, flight);
    return rc;
}

int
mpe_cache_fetch_fail(mpe_engine *e, mpe_object *o, mpe_cache_flight *flight, mpe_bytes bytes,
                     int handles)
{
    uint64_t result = 0;
    mpe_handle event = 0;
    if (!flight || mpe__lacks(bytes))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(CACHE)))
        return mpe__refusal(e, o, MPE__KIND(CACHE));
    struct mpe__flight *f = own_flight(e, flight);
    if (!is_owner(e, flight, f))
        return MPE_EINVAL;
    struct mpe__cache_view v = view_of(e, o, flight);
    mpe__cache_lock(e, o, &v);
    int rc = has_waits(f) ? make_result(e, o, bytes, ERROR, handles, &result) : MPE_OK;
    if (rc == MPE_OK)
        event = give_result(e, o, &v, f, result);
    mpe__cache_unlock(e, o, &v);
    set_event(e, event);
    if (rc == MPE_OK)
        forget(e, flight);
    else
        mpe_cache_fetch_leave(e, o, flight);
    return rc;
}

void
mpe_cache_fetch_leave(mpe_engine *e, mpe_object *o, mpe_cache_flight *flight)
{
    mpe_handle event = 0;
    if (!flight || !mpe__admits(e, o, MPE__KIND(CACHE)))
        return;
    struct mpe__flight *f = own_flight(e, flight);
    if (!f)
        return;
    struct mpe__cache_view v = view_of(e, o, flight);
    mpe__cache_lock(e, o, &v);
    if (flight->event)
        end_wait(e, f);
    else if (is_owner(e, flight, f))
        mpe__store64(&f->owner, 0);
    if (!free_if_unused(e, o, v.shard, f) && mpe__load64(&f->owner) == 0)
        event = mpe__load64(&f->event);
    mpe__cache_unlock(e, o, &v);
    set_event(e, event);
    forget(e, flight);
}

/* ---- moves ---- */

static int
is_dead(struct mpe__cache_shard *s, uint32_t slot)
{
    return mpe__set_has(&s->dead, slot);
}

static void
settle(mpe_engine *e, mpe_object *o, struct mpe__cache_shard *s, struct mpe__flight *f)
{
    uint32_t owner = (uint32_t)(mpe__load64(&f->owner) >> 32);
    for (uint32_t i = 0; i < MPE__SLOTS; i++)
        if (mpe__load16(&f->waits[i]) && is_dead(s, i))
            mpe__store16(&f->waits[i], 0);
    if (owner > 0 && is_dead(s, owner - 1) && !is_over(f))
        mpe__store64(&f->owner, 0);
    if (free_if_unused(e, o, s, f))
        return;
    if (is_over(f) || mpe__load64(&f->owner) == 0)
        set_event(e, mpe__load64(&f->event));
}

void
mpe__cache_settle_flights(mpe_engine *e, mpe_object *o, struct mpe__cache_shard *s)
{
    struct mpe__flight *next, *f = flight_at(e, mpe__load64(&s->flights));
    for (; f; f = next) {
        next = flight_at(e, mpe__load64(&f->next));
        settle(e, o, s, f);
    }
    for (uint32_t i = 0; i < MPE__SLOT_WORDS; i++)
        mpe__store64(&s->dead.bits[i], 0);
}

/* A shard that is locked is settled by the process that unlocks it, which may be this one, and may
 * itself be waiting for a lock that this one holds. */
void
mpe__cache_death(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    struct mpe__cache *c = mpe__cache_body(e, o);
    for (uint32_t i = 0; i < c->shards; i++) {
        if (mpe__load64(&c->all[i].flights) == 0)
            continue;
        mpe__set_add(&c->all[i].dead, slot);
        mpe__cache_settle_if_free(e, o, &c->all[i]);
    }
}

void
mpe__cache_free_flights(mpe_engine *e, struct mpe__cache_shard *s)
{
    struct mpe__flight *next, *f = flight_at(e, mpe__load64(&s->flights));
    for (; f; f = next) {
        next = flight_at(e, mpe__load64(&f->next));
        if (is_over(f))
            mpe__free(e, mpe__load64(&f->result));
        mpe__free(e, mpe__offset(e, f));
    }
}

void
mpe__cache_scan_flights(mpe_engine *e, struct mpe__cache_shard *s,
                        int (*visit)(void *ud, uint64_t h), void *ud)
{
    struct mpe__flight *f = flight_at(e, mpe__load64(&s->flights));
    for (; f; f = flight_at(e, mpe__load64(&f->next))) {
        const struct result *r = is_over(f) ? mpe__at(e, mpe__load64(&f->result)) : NULL;
        if (r && r->handles)
            mpe_wire_scan_handles(r->bytes, r->size, visit, ud);
    }
}
