/* SPDX-License-Identifier: MIT */
/* Views of arrays: some of the elements of an array, as an object that can be sent like the array.
 * A view mentions its array, as a container does, so the array lives as long as any view. A view of
 * a view names the array itself: views form no chains.
 *
 * A death while a view is made leaves an object that is not live, which the reaper frees; the flag
 * that the array may be mentioned somewhere only makes its end a matter of the sweep.
 */
#include "core/object.h"
#include "objects/array.h"
#include "objects/doors.h"

/* Are all elements of the part elements of s? */
static int
is_inside(const mpe_elements *s, const mpe_part *part)
{
    int64_t last;
    if (part->length == 0)
        return part->first <= s->length;
    if (part->first >= s->length || part->length - 1 > INT64_MAX)
        return 0;
    return !__builtin_mul_overflow((int64_t)(part->length - 1), part->step, &last) &&
           !__builtin_add_overflow((int64_t)part->first, last, &last) && last >= 0 &&
           (uint64_t)last < s->length;
}

/* The array that an array or view is of. */
static mpe_handle
array_of(mpe_engine *e, mpe_object *o)
{
    if (mpe_kind_of(o) != MPE_KIND_ARRAY_VIEW)
        return mpe_handle_of(e, o);
    const struct mpe__array_view *v = mpe__body(e, o);
    return mpe__load64(&v->array);
}

/* Makes the view, of an array that the caller holds. */
static int
make(mpe_engine *e, mpe_object *array, const mpe_elements *s, const char *layout, mpe_object **out)
{
    mpe_object *o;
    int rc = mpe__object_begin(e, MPE_KIND_ARRAY_VIEW, 0, &o);
    if (rc != MPE_OK)
        return rc;
    const uint8_t *origin = mpe__at(e, 0);
    struct mpe__array_view *v = mpe__body(e, o);
    v->first_off = (uint64_t)((const uint8_t *)s->first - origin);
    v->length = s->length;
    v->step = s->step;
    v->columns = s->columns;
    v->type = (uint32_t)s->type;
    v->size = (uint32_t)s->size;
    v->layout_off = s->type == MPE_STRUCT ? (uint64_t)((const uint8_t *)layout - origin) : 0;
    mpe__store64(&v->array, mpe_handle_of(e, array));
    atomic_fetch_or(&array->flags, MPE__OBJECT_STORED); /* as if its handle were stored in it */
    atomic_fetch_or(&o->flags, MPE__OBJECT_CONTAINS);
    return mpe__object_finish(e, o, out);
}

int
mpe__array_view_create(mpe_engine *e, mpe_object *o, const mpe_elements *s, mpe_object **out)
{
    mpe_object *array;
    int rc = mpe_hold(e, array_of(e, o), &array);
    if (rc != MPE_OK)
        return rc;
    rc = make(e, array, s, mpe_struct_layout(e, o), out);
    mpe_drop(e, array);
    return rc;
}

int
mpe_array_view(mpe_engine *e, mpe_object *o, const mpe_part *part, mpe_object **out)
{
    mpe_elements s;
    if (!out || !part || part->step == 0)
        return MPE_EINVAL;
    int rc = mpe_array_elements(e, o, &s);
    if (rc != MPE_OK)
        return rc;
    if (part->columns && part->length % part->columns)
        return MPE_EINVAL;
    if (!is_inside(&s, part))
        return MPE_ERANGE;
    s.first = (uint8_t *)s.first + (int64_t)part->first * s.step * (int64_t)s.size;
    s.length = part->length;
    s.step *= part->step;
    s.columns = part->columns;
    return mpe__array_view_create(e, o, &s, out);
}

mpe_handle
mpe_array_whole(mpe_engine *e, mpe_object *o)
{
    return mpe__admits(e, o, MPE__ARRAYS_AND_VIEWS) ? array_of(e, o) : 0;
}

static void
scan(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t handle), void *ud)
{
    visit(ud, array_of(e, o));
}

/* Its word is not used: the lock is that of the array. */
const struct mpe__kind mpe__array_view_kind = {
    .body_bytes = sizeof(struct mpe__array_view),
    .scan = scan,
    .measure = mpe__array_measure,
};
