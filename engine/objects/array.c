/* Typed arrays: a block with a 16-byte head, or a larger one of structs, and the elements. The
 * object's word is the array's own recursive lock. Length, type and shape never change. An element of
 * up to 8 aligned bytes is never torn; a bulk store that dies in the middle leaves a prefix. */
#include "core/arena.h"
#include "core/object.h"
#include "objects/array.h"
#include "objects/lock.h"
#include "objects/doors.h"

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
mpe__array_begin(mpe_engine *e, unsigned flags, uint64_t bytes, mpe_object **out)
{
    static const int kinds[4] = {MPE_KIND_ARRAY, MPE_KIND_VALUE, MPE_KIND_RAW_ARRAY,
                                 MPE_KIND_RAW_VALUE};
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    return mpe__object_begin(e, kinds[flags & 3], bytes, out);
}

/* A new array of one dimension, or of rows of so many columns. */
static int
create(mpe_engine *e, char type, uint64_t length, uint32_t columns, unsigned flags,
       mpe_object **out)
{
    size_t size = mpe_type_size(type);
    if (!out || size == 0)
        return MPE_EINVAL;
    if (length > (UINT64_MAX >> 8) / size)
        return MPE_EARENA;
    mpe_object *o;
    int rc = mpe__array_begin(e, flags, length * size, &o);
    if (rc != MPE_OK)
        return rc;
    struct mpe__array *a = mpe__body(e, o);
    a->length = length;
    a->type = (uint32_t)type;
    a->columns = columns;
    return mpe__object_finish(e, o, out);
}

int
mpe_array_create(mpe_engine *e, char type, uint64_t length, unsigned flags, mpe_object **out)
{
    return create(e, type, length, 0, flags, out);
}

int
mpe_matrix_create(mpe_engine *e, char type, uint64_t rows, uint32_t columns, unsigned flags,
                  mpe_object **out)
{
    uint64_t length;
    if (columns == 0)
        return MPE_EINVAL;
    if (__builtin_mul_overflow(rows, (uint64_t)columns, &length))
        return MPE_EARENA;
    return create(e, type, length, columns, flags, out);
}

static void *
first_of(struct mpe__array *a)
{
    return a->type == MPE_STRUCT ? (void *)((struct mpe__struct_array *)a + 1) : a + 1;
}

void *
mpe_array_data(mpe_engine *e, mpe_object *o, char *type, uint64_t *length)
{
    if (!mpe__admits(e, o, MPE__ARRAYS))
        return NULL;
    struct mpe__array *a = mpe__body(e, o);
    if (type)
        *type = (char)a->type;
    if (length)
        *length = a->length;
    return first_of(a);
}

static mpe_elements
elements_of(mpe_engine *e, mpe_object *o)
{
    if (mpe_kind_of(o) == MPE_KIND_ARRAY_VIEW) {
        const struct mpe__array_view *v = mpe__body(e, o);
        return (mpe_elements){.first = mpe__at(e, v->first_off),
                              .length = v->length,
                              .step = v->step,
                              .columns = v->columns,
                              .size = v->size,
                              .type = (char)v->type};
    }
    struct mpe__array *a = mpe__body(e, o);
    char type = (char)a->type;
    size_t size = type == MPE_STRUCT ? ((struct mpe__struct_array *)a)->size : mpe_type_size(type);
    return (mpe_elements){.first = first_of(a),
                          .length = a->length,
                          .step = 1,
                          .columns = a->columns,
                          .size = size,
                          .type = type};
}

int
mpe_array_elements(mpe_engine *e, mpe_object *o, mpe_elements *out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__ARRAYS_AND_VIEWS))
        return mpe__refusal(e, o, MPE__ARRAYS_AND_VIEWS);
    *out = elements_of(e, o);
    return MPE_OK;
}

void
mpe__array_measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes)
{
    *depth = elements_of(e, o).length;
    *bytes = 0;
}

const struct mpe__kind mpe__array_kind = {
    .body_bytes = sizeof(struct mpe__array),
    .death = mpe__array_death,
    .ready = mpe__lock_ready,
    .measure = mpe__array_measure,
    .wake = {[MPE_EVENT_READY] = {.turn = MPE__TURN_ONE}},
    .facets = 1u << MPE_KIND_RLOCK,
};

/* Its word is not used: there is nothing to acquire, to wait for, or to release. */
const struct mpe__kind mpe__raw_array_kind = {
    .body_bytes = sizeof(struct mpe__array),
    .measure = mpe__array_measure,
};
