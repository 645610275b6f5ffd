/* SPDX-License-Identifier: MIT
 *
 * larray_view.c - views of arrays, and arrays of rows and columns. A view is a shared object of its
 * own, which names the array and keeps it; its elements are the array's. Rows lie one after the
 * other, so a matrix is an array that knows the length of its rows.
 */
#include "base/llabel.h"
#include "shared/larray.h"

static mpe_elements
look(const lmpe_box *b)
{
    mpe_elements s = {.length = 0};
    mpe_array_elements(b->S->e, b->o, &s);
    return s;
}

lmpe_array
lmpe_array_of_view(const lmpe_box *b)
{
    const lmpe_element *t = lmpe_element_of_box(b);
    return (lmpe_array){t, b->data, b->length, look(b).step * (int64_t)t->size};
}

/* Pushes the view that was made. */
static int
push_made(lua_State *L, lmpe_box *b, int rc, mpe_object *o, const char *call)
{
    if (rc != MPE_OK)
        return lmpe_raise(L, rc, call);
    lua_settop(L, 1);
    lua_pushnil(L);
    return lmpe_created(L, b->S, rc, &o, call, 2);
}

static int
push_view(lua_State *L, lmpe_box *b, const mpe_part *part, const char *call)
{
    mpe_object *o = NULL;
    int rc, tries = 0;
    do
        rc = mpe_array_view(b->S->e, b->o, part, &o);
    while (lmpe_try_again(L, b->S, rc, &tries));
    return push_made(L, b, rc, o, call);
}

/* How many elements i, i + step .. j has. */
static uint64_t
count(lua_Integer i, lua_Integer j, lua_Integer step)
{
    if (step > 0 ? i > j : i < j)
        return 0;
    uint64_t size = step > 0 ? (uint64_t)step : 0 - (uint64_t)step;
    return (step > 0 ? (uint64_t)j - (uint64_t)i : (uint64_t)i - (uint64_t)j) / size + 1;
}

/* a:view([i [, j [, step]]]): as in a for loop */
int
lmpe_array_view(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    lua_Integer length = (lua_Integer)b->length;
    lua_Integer step = lmpe_array_opt_integer(L, 4, 1, "Array:view", "step");
    lua_Integer i = lmpe_array_opt_integer(L, 2, step > 0 ? 1 : length, "Array:view", "i");
    lua_Integer j = lmpe_array_opt_integer(L, 3, step > 0 ? length : 1, "Array:view", "j");
    if (step == 0)
        return luaL_error(L, "Array:view: step must not be 0");
    uint64_t n = count(i, j, step);
    lua_Integer least = n > 0 ? 1 : 0, most = n > 0 ? length : length + 1;
    if (i < least || i > most || j < least || j > most)
        return luaL_error(L, "Array:view: %s must be an index from 1 to %I, got %I",
                          i < least || i > most ? "i" : "j", length, i < least || i > most ? i : j);
    return push_view(L, b,
                     &(mpe_part){.first = n > 0 ? (uint64_t)i - 1 : 0, .length = n, .step = step},
                     "Array:view");
}

/* a:field(path [, k]) */
int
lmpe_array_field(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    const lmpe_struct *t = lmpe_struct_of(lmpe_element_of_box(b));
    if (!t)
        return luaL_error(L, "Array:field: the elements must be structs, not of type '%c'",
                          (int)b->extra);
    const lmpe_field *f = lmpe_field_at(L, 2, t);
    if (!f)
        return lmpe_field_unknown(L, 2, t, &(lmpe_where){.call = "Array:field"});
    if (lmpe_field_struct(f))
        return luaL_error(
            L, "Array:field: field '%s' is a struct, it must be a field of that: '%s.%s'", f->name,
            lua_tostring(L, 2), lmpe_field_struct(f)->fields[0].name);
    if (!f->count && !lua_isnoneornil(L, 3))
        return luaL_error(L, "Array:field: field '%s' is not an array: k must be absent", f->name);
    lua_Integer k = f->count ? lmpe_array_integer(L, 3, "Array:field", "k") : 1;
    if (f->count && (k < 1 || k > (lua_Integer)f->count))
        return luaL_error(L, "Array:field: k must be an integer from 1 to %d, got %I",
                          (int)f->count, k);
    mpe_object *o = NULL;
    int rc, tries = 0;
    do
        rc = mpe_field_view(b->S->e, b->o, lua_tostring(L, 2), (uint32_t)k - 1, &o);
    while (lmpe_try_again(L, b->S, rc, &tries));
    return push_made(L, b, rc, o, "Array:field");
}

/* ---- rows and columns ---- */

/* a:reshape(rows, cols); a:reshape(n): one dimension */
int
lmpe_array_reshape(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    int is_flat = lua_isnoneornil(L, 3);
    lua_Integer rows = lmpe_array_integer(L, 2, "Array:reshape", "rows");
    lua_Integer columns = lmpe_array_opt_integer(L, 3, 1, "Array:reshape", "cols");
    lua_Integer n;
    if (rows < 0 || columns < 1 || columns > UINT32_MAX ||
        __builtin_mul_overflow(rows, columns, &n) || (uint64_t)n != b->length)
        return luaL_error(L, "Array:reshape: %I rows of %I do not make %I elements", rows, columns,
                          (lua_Integer)b->length);
    return push_view(
        L, b,
        &(mpe_part){.length = b->length, .step = 1, .columns = is_flat ? 0 : (uint32_t)columns},
        "Array:reshape");
}

/* What the object at 1 has, which must have rows. */
static mpe_elements
check_matrix(lua_State *L, lmpe_box **b, const char *call)
{
    *b = lmpe_check_self(L, 1);
    mpe_elements s = look(*b);
    if (s.columns == 0)
        luaL_error(L, "%s: the array must have rows and columns: see reshape", call);
    return s;
}

/* a:shape() -> rows, cols; or #a */
int
lmpe_array_shape(lua_State *L)
{
    mpe_elements s = look(lmpe_check_self(L, 1));
    lua_pushinteger(L, (lua_Integer)(s.columns ? s.length / s.columns : s.length));
    if (s.columns)
        lua_pushinteger(L, (lua_Integer)s.columns);
    return s.columns ? 2 : 1;
}

static uint64_t
check_index(lua_State *L, int idx, uint64_t most, const char *call, const char *name)
{
    lua_Integer i = lmpe_array_integer(L, idx, call, name);
    if (i < 1 || (uint64_t)i > most)
        luaL_error(L, "%s: %s must be an integer from 1 to %I, got %I", call, name,
                   (lua_Integer)most, i);
    return (uint64_t)i - 1;
}

/* m:row(i) */
int
lmpe_array_row(lua_State *L)
{
    lmpe_box *b;
    mpe_elements s = check_matrix(L, &b, "Array:row");
    uint64_t i = check_index(L, 2, s.length / s.columns, "Array:row", "i");
    return push_view(L, b, &(mpe_part){.first = i * s.columns, .length = s.columns, .step = 1},
                     "Array:row");
}

/* m:col(j) */
int
lmpe_array_column(lua_State *L)
{
    lmpe_box *b;
    mpe_elements s = check_matrix(L, &b, "Array:col");
    uint64_t j = check_index(L, 2, s.columns, "Array:col", "j"), rows = s.length / s.columns;
    return push_view(L, b, &(mpe_part){.first = rows ? j : 0, .length = rows, .step = s.columns},
                     "Array:col");
}

/* m:get(i, j); nil outside */
int
lmpe_array_get(lua_State *L)
{
    lmpe_box *b;
    mpe_elements s = check_matrix(L, &b, "Array:get");
    uint64_t i = (uint64_t)lmpe_array_integer(L, 2, "Array:get", "i") - 1;
    uint64_t j = (uint64_t)lmpe_array_integer(L, 3, "Array:get", "j") - 1;
    lmpe_array a = lmpe_array_look(b);
    if (i >= s.length / s.columns || j >= s.columns)
        lua_pushnil(L);
    else
        lmpe_array_push(L, 1, &a, lmpe_array_at(&a, i * s.columns + j + 1));
    return 1;
}

/* m:set(i, j, v) */
int
lmpe_array_set_cell(lua_State *L)
{
    lmpe_box *b;
    mpe_elements s = check_matrix(L, &b, "Array:set");
    uint64_t i = check_index(L, 2, s.length / s.columns, "Array:set", "i");
    uint64_t j = check_index(L, 3, s.columns, "Array:set", "j"), at = i * s.columns + j + 1;
    lmpe_array a = lmpe_array_look(b);
    return lmpe_array_put(L, 4, &a, at, "Array:set");
}
