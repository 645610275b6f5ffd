/* SPDX-License-Identifier: MIT */
/* Whole elements that are structs: one store for each word of it, so another process may see some
 * words new and others old, unless both have acquired the lock of the array.
 *
 * A store under that lock is also whole when its process is killed. The new element is written to
 * the array's spare one first; the store of `pending` commits it, and says which element is to be
 * written from there. A death before that store leaves the old element, one after it an element
 * that the reaper writes once more, before it gives the lock away (mpe__array_death). Only the
 * owner of the lock uses the spare element, so a store without the lock, or to an array that has
 * none, is no more than the store of each word.
 */
#include "core/object.h"
#include "objects/array.h"
#include "objects/doors.h"
#include "objects/lock.h"

#include <string.h>

/* A word is as large as the alignment of the elements allows; each number in a struct is inside
 * one. The private side may stand anywhere. */
#define WORDS(T, move)                                                                             \
    for (size_t i = 0; i < size; i += sizeof(T)) {                                                 \
        T word;                                                                                    \
        move;                                                                                      \
    }
#define STORE_WORDS(T)                                                                             \
    WORDS(T, (memcpy(&word, from + i, sizeof word),                                                \
              atomic_store_explicit((_Atomic T *)(to + i), word, memory_order_release)))
#define LOAD_WORDS(T)                                                                              \
    WORDS(T, (word = atomic_load_explicit((const _Atomic T *)(from + i), memory_order_acquire),    \
              memcpy(to + i, &word, sizeof word)))

static void
store_words(uint8_t *to, const uint8_t *from, size_t size)
{
    if (size % 8 == 0)
        STORE_WORDS(uint64_t)
    else if (size % 4 == 0)
        STORE_WORDS(uint32_t)
    else if (size % 2 == 0)
        STORE_WORDS(uint16_t)
    else
        STORE_WORDS(uint8_t)
}

static void
load_words(uint8_t *to, const uint8_t *from, size_t size)
{
    if (size % 8 == 0)
        LOAD_WORDS(uint64_t)
    else if (size % 4 == 0)
        LOAD_WORDS(uint32_t)
    else if (size % 2 == 0)
        LOAD_WORDS(uint16_t)
    else
        LOAD_WORDS(uint8_t)
}

static int
find(mpe_engine *e, mpe_object *o, uint64_t index, mpe_elements *s)
{
    int rc = mpe_array_elements(e, o, s);
    if (rc != MPE_OK)
        return rc;
    if (s->type != MPE_STRUCT)
        return MPE_ETYPE;
    s->first = (uint8_t *)s->first + (int64_t)index * s->step * (int64_t)s->size;
    return index < s->length ? MPE_OK : MPE_ERANGE;
}

int
mpe_struct_load(mpe_engine *e, mpe_object *o, uint64_t index, void *value)
{
    mpe_elements s;
    if (!value)
        return MPE_EINVAL;
    int rc = find(e, o, index, &s);
    if (rc == MPE_OK)
        load_words(value, s.first, s.size);
    return rc;
}

static uint8_t *
spare_of(struct mpe__struct_array *a)
{
    uint64_t used = a->head.length * a->size + a->layout_bytes;
    return (uint8_t *)(a + 1) + ((used + 15) & ~15ull);
}

int
mpe_struct_store(mpe_engine *e, mpe_object *o, uint64_t index, const void *value)
{
    mpe_elements s;
    if (!value)
        return MPE_EINVAL;
    int rc = find(e, o, index, &s);
    if (rc != MPE_OK)
        return rc;
    mpe_object *array = &e->objects[mpe__handle_index(e, mpe_array_whole(e, o))];
    if (!(1u << mpe_kind_of(array) & MPE__RLOCKS) || !mpe__lock_is_of(array, e->slot)) {
        store_words(s.first, value, s.size);
        return MPE_OK;
    }
    struct mpe__struct_array *a = mpe__body(e, array);
    memcpy(spare_of(a), value, s.size);
    mpe__store64(&a->pending, mpe__offset(e, s.first));
    store_words(s.first, value, s.size);
    mpe__store64(&a->pending, 0);
    return MPE_OK;
}

void
mpe__array_death(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    struct mpe__struct_array *a = mpe__body(e, o);
    uint64_t pending;
    if (a->head.type == MPE_STRUCT && mpe__lock_is_of(o, slot) &&
        (pending = mpe__load64(&a->pending)) != 0) {
        store_words(mpe__at(e, pending), spare_of(a), a->size);
        mpe__store64(&a->pending, 0);
    }
    mpe__lock_death(e, o, slot);
}
