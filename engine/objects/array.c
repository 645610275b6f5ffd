/* Typed arrays: a block with a 16-byte head and the elements. The object's word is the array's own
 * recursive lock. Length and type never change. An element of up to 8 aligned bytes is never torn;
 * a bulk store that dies in the middle leaves a prefix. */
#include "core/arena.h"
#include "core/object.h"
#include "objects/lock.h"
#include "objects/doors.h"

struct array {
    uint64_t length;
    uint32_t type;
    uint32_t unused;
};
_Static_assert(sizeof(struct array) == 16, "elements start aligned");

size_t
mpe_type_size(char type)
{
    switch (type) {
    case 'c':
    case 'b':
    case 'B':
        return 1;
    case 'h':
    case 'H':
        return sizeof(short);
    case 'u':
        return sizeof(wchar_t);
    case 'i':
    case 'I':
        return sizeof(int);
    case 'l':
    case 'L':
        return sizeof(long);
    case 'q':
    case 'Q':
        return sizeof(long long);
    case 'f':
        return sizeof(float);
    case 'd':
        return sizeof(double);
    default:
        return 0;
    }
}

int
mpe_array_create(mpe_engine *e, char type, uint64_t length, unsigned flags, mpe_object **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    static const int kinds[4] = {MPE_KIND_ARRAY, MPE_KIND_VALUE, MPE_KIND_RAW_ARRAY,
                                 MPE_KIND_RAW_VALUE};
    size_t size = mpe_type_size(type);
    if (size == 0)
        return MPE_EINVAL;
    if (length > (UINT64_MAX >> 8) / size)
        return MPE_EARENA;
    mpe_object *o;
    int rc = mpe__object_begin(e, kinds[flags & 3], length * size, &o);
    if (rc != MPE_OK)
        return rc;
    struct array *a = mpe__body(e, o);
    a->length = length;
    a->type = (uint32_t)type;
    return mpe__object_finish(e, o, out);
}

void *
mpe_array_data(mpe_engine *e, mpe_object *o, char *type, uint64_t *length)
{
    if (!mpe__admits(e, o, MPE__ARRAYS))
        return NULL;
    struct array *a = mpe__body(e, o);
    if (type)
        *type = (char)a->type;
    if (length)
        *length = a->length;
    return a + 1;
}

static void
measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes)
{
    *depth = ((struct array *)mpe__body(e, o))->length;
    *bytes = 0;
}

const struct mpe__kind mpe__array_kind = {
    .body_bytes = sizeof(struct array),
    .death = mpe__lock_death,
    .ready = mpe__lock_ready,
    .measure = measure,
    .wake = {[MPE_EVENT_READY] = {.turn = MPE__TURN_ONE}},
    .facets = 1u << MPE_KIND_RLOCK,
};

/* Its word is not used: there is nothing to acquire, to wait for, or to release. */
const struct mpe__kind mpe__raw_array_kind = {
    .body_bytes = sizeof(struct array),
    .measure = measure,
};
