/* Handles in bytes: what containers and messages mention. */
#include "core/object.h"

#include "core/arena.h"
#include "core/door.h"

uint32_t
mpe_pin_mark(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return 0;
    return e->pins_count;
}

void
mpe_unpin(mpe_engine *e, uint32_t mark)
{
    if (!mpe__is_ours(e))
        return;
    while (e->pins_count > mark) {
        mpe_object *o = e->pins[--e->pins_count];
        const struct mpe__kind *kind = mpe__kind_of(e, o);
        if (kind->is_urgent && kind->is_urgent(e, o, 0))
            mpe__sweep_soon(e);
        mpe_drop(e, o);
    }
}

static int
pin(void *ud, uint64_t handle)
{
    mpe_engine *e = ud;
    mpe_object *o;
    if (e->pins_count == e->pins_capacity) {
        uint32_t capacity = e->pins_capacity ? e->pins_capacity * 2 : 16;
        mpe_object **pins = mpe__renew(&e->memory, e->pins, e->pins_capacity * sizeof *pins,
                                       capacity * sizeof *pins);
        if (!pins)
            return 0; /* at worst the receiver finds a stale handle */
        e->pins = pins;
        e->pins_capacity = capacity;
    }
    if (mpe_hold(e, handle, &o) != MPE_OK)
        return 0;
    e->pins[e->pins_count++] = o;
    const struct mpe__kind *kind = mpe__kind_named(e, handle);
    if (kind->arrived)
        kind->arrived(e, o, e->slot);
    return 0;
}

void
mpe__pin_handles(mpe_engine *e, const void *bytes, size_t size)
{
    mpe_wire_scan_handles(bytes, size, pin, e);
}

struct storing {
    mpe_engine *e;
    mpe_object *into;
};

static int
mark_stored(void *ud, uint64_t handle)
{
    const struct storing *s = ud;
    mpe_engine *e = s->e;
    uint32_t index = mpe__handle_index(e, handle);
    if (index && index < mpe__load32(&e->header->objects_top))
        atomic_fetch_or(&e->objects[index].flags, MPE__OBJECT_STORED);
    if (mpe__kind_named(e, handle)->is_urgent)
        atomic_fetch_or(&s->into->flags, MPE__OBJECT_URGENT);
    return 0;
}

int
mpe__note_stored(mpe_engine *e, mpe_object *o, const void *bytes, size_t size)
{
    atomic_fetch_or(&o->flags, MPE__OBJECT_CONTAINS);
    struct storing s = {e, o};
    return mpe_wire_scan_handles(bytes, size, mark_stored, &s);
}

static int
add_removed(void *ud, uint64_t handle)
{
    mpe_engine *e = ud;
    uint32_t index = mpe__handle_index(e, handle);
    if (index == 0 || index >= mpe__load32(&e->header->objects_top))
        return 0;
    mpe_object *o = &e->objects[index];
    uint64_t body = mpe__load64(&o->body);
    const struct mpe__kind *kind = mpe__kind_named(e, handle);
    mpe__sweep_note(e, body ? mpe__block_bytes(e, body) : 0);
    if (body && kind->is_urgent && mpe_kind_of(o) == mpe_handle_kind(handle) &&
        kind->is_urgent(e, o, 1))
        mpe__sweep_soon(e);
    return 0;
}

void
mpe__note_removed(mpe_engine *e, const void *bytes, size_t size)
{
    mpe_wire_scan_handles(bytes, size, add_removed, e);
}
