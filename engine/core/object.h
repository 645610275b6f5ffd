/* The object table: making, holding and dropping (object.c), handles in bytes (handles.c), and the
 * sweep (sweep.c). */
#ifndef MPE_CORE_OBJECT_H
#define MPE_CORE_OBJECT_H

#include "core/engine.h"

extern const struct mpe__kind *const mpe__kinds[MPE_KIND_COUNT];

/* Claims an entry, with a zeroed body of the size the kind states and so many bytes more. It
 * belongs to this slot until mpe__object_finish makes it live, with one hold, or
 * mpe__object_abandon releases it. Errors: EARENA. */
int mpe__object_begin(mpe_engine *e, int kind, uint64_t more, mpe_object **out);
int mpe__object_finish(mpe_engine *e, mpe_object *o, mpe_object **out);
void mpe__object_abandon(mpe_engine *e, mpe_object *o);
/* Both at once, for an object that needs nothing else. */
int mpe__object_create(mpe_engine *e, int kind, mpe_object **out);
/* The handle of an object as one of another kind, one of the facets of its own. */
mpe_handle mpe__handle_as(mpe_engine *e, const mpe_object *o, int kind);

/* Before bytes with handles are stored: their objects are marked as possibly living in containers,
 * and o as such a container. Errors: ECORRUPT. */
int mpe__note_stored(mpe_engine *e, mpe_object *o, const void *bytes, size_t size);
/* Bytes with handles are about to leave a container unread: the objects they name may become
 * garbage. */
void mpe__note_removed(mpe_engine *e, const void *bytes, size_t size);
/* Before bytes with handles leave a container, under its lock: their objects are pinned. */
void mpe__pin_handles(mpe_engine *e, const void *bytes, size_t size);

/* Marks a reserved slot as a holder of everything this process holds; the child that takes the
 * slot inherits the local counts by fork. */
void mpe__holds_copy_bits(mpe_engine *e, uint32_t to_slot);
/* Something may have become garbage, with so many bytes in its body; the garbage is to be swept at
 * once. */
void mpe__sweep_note(mpe_engine *e, uint64_t bytes);
void mpe__sweep_soon(mpe_engine *e);
/* At a point where no lock is held: frees unreachable objects, when it is time. */
void mpe__sweep_if_wanted(mpe_engine *e);
/* Frees an object unless a slot holds it or it has one of the flags that spare it. 1 when it is
 * gone. */
int mpe__object_destroy(mpe_engine *e, mpe_object *o, uint16_t spare);
/* Makes this slot a holder for a moment, whatever the entry is by now; whether it was one before. The
 * object may be used if mpe__object_settles_live says so. Nothing is swept by these two, so they may
 * be called while the slot gives up all it holds. */
int mpe__object_borrow(mpe_engine *e, mpe_object *o);
void mpe__object_return(mpe_engine *e, mpe_object *o, int was_held);
/* Frees an entry that the slot was making or destroying. */
void mpe__free_making(mpe_engine *e, uint32_t index, uint32_t slot);

/* A handle is kind << 56 | generation << 32 | index, with the seal of the arena over all bits that
 * are not the kind's nor needed for an index: a handle of another arena names no object here. */
#define MPE__INDEX_BITS 23
#define MPE__HANDLE_SEAL ((1ull << 56) - (1ull << MPE__INDEX_BITS))

/* The index of the object that a handle names; beyond all of them when it is of another arena. */
static inline uint32_t
mpe__handle_index(const mpe_engine *e, mpe_handle h)
{
    return (uint32_t)(h ^ e->seal);
}

static inline void *
mpe__body(mpe_engine *e, const mpe_object *o)
{
    return mpe__at(e, mpe__load64(&o->body));
}

#endif
