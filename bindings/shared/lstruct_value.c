/* SPDX-License-Identifier: MIT
 *
 * lstruct_value.c - elements that are structs, as Lua values. A table is converted into private memory
 * first, where an error changes nothing shared. What stores it is in lstruct_whole.c.
 */
#include "shared/lbytes.h"
#include "shared/lstruct.h"

#include <string.h>

const char *
lmpe_push_where(lua_State *L, const lmpe_where *where)
{
    if (where->outer)
        return lua_pushfstring(L, "%s: field '%s'", lmpe_push_where(L, where->outer),
                               where->field->name);
    return where->element ? lua_pushfstring(L, "%s: element %I", where->call, where->element)
                          : lua_pushstring(L, where->call);
}

/* ---- from Lua ---- */

static void
convert_text(lua_State *L, int idx, const lmpe_field *f, uint8_t *to, const lmpe_where *where)
{
    size_t size = 0;
    const char *s = lua_type(L, idx) == LUA_TSTRING ? lua_tolstring(L, idx, &size) : NULL;
    if (!s || size > f->count)
        luaL_error(L, "%s: field '%s' must be a string of at most %d bytes, got %s",
                   lmpe_push_where(L, where), f->name, (int)f->count,
                   s ? lua_pushfstring(L, "one of %I", (lua_Integer)size) : lmpe_type_name(L, idx));
    memcpy(to, s, size);
    memset(to + size, 0, f->count - size);
}

static int
has_length(lua_State *L, int idx)
{
    if (lua_type(L, idx) != LUA_TUSERDATA)
        return lua_istable(L, idx);
    if (luaL_getmetafield(L, idx, "__len") == LUA_TNIL)
        return 0;
    lua_pop(L, 1);
    return 1;
}

static void
convert_list(lua_State *L, int idx, const lmpe_field *f, uint8_t *to, const lmpe_where *where)
{
    int is_list = has_length(L, idx);
    lua_Integer n = is_list ? luaL_len(L, idx) : 0;
    if (n != (lua_Integer)f->count)
        luaL_error(L, "%s: field '%s' must be a list of %d elements, got %s",
                   lmpe_push_where(L, where), f->name, (int)f->count,
                   is_list ? lua_pushfstring(L, "one of %I", n) : lmpe_type_name(L, idx));
    int value = lua_gettop(L) + 1;
    for (lua_Integer i = 1; i <= n; i++, to += f->type->size) {
        uint64_t bits;
        lua_geti(L, idx, i);
        if (!lmpe_element_from(L, -1, f->type, &bits))
            lmpe_element_refuse(L, value, f->type,
                                lua_pushfstring(L, "%s: field '%s': element %I",
                                                lmpe_push_where(L, where), f->name, i));
        lmpe_element_store(f->type, to, bits);
        lua_pop(L, 1);
    }
}

/* A value that is no number that fits. */
static void
convert_other(lua_State *L, int idx, const lmpe_field *f, uint8_t *to, const lmpe_where *where)
{
    if (lmpe_field_struct(f))
        lmpe_struct_convert(L, idx, lmpe_field_struct(f), to,
                            &(lmpe_where){.outer = where, .field = f});
    else if (lmpe_field_is_text(f))
        convert_text(L, idx, f, to, where);
    else if (f->count)
        convert_list(L, idx, f, to, where);
    else
        lmpe_element_refuse(
            L, idx, f->type,
            lua_pushfstring(L, "%s: field '%s'", lmpe_push_where(L, where), f->name));
}

/* The value at idx to a field of a struct. */
static void
convert_field(lua_State *L, int idx, const lmpe_field *f, uint8_t *element, const lmpe_where *where)
{
    uint64_t bits;
    if (!f->count && !lmpe_field_struct(f) && lmpe_element_from(L, idx, f->type, &bits))
        lmpe_element_store(f->type, element + f->offset, bits);
    else
        convert_other(L, lua_absindex(L, idx), f, element + f->offset, where);
}

/* The field of the key at idx of a table. Keys are names or, of a list, places. */
static const lmpe_field *
field_of_key(lua_State *L, int idx, const lmpe_struct *t, int is_list, const lmpe_where *where)
{
    lua_Integer i = is_list ? lua_tointeger(L, idx) : 0;
    const lmpe_field *f = NULL;
    if (!is_list)
        f = lmpe_field_of(L, idx, t);
    else if (i >= 1 && i <= (lua_Integer)t->fields_count)
        f = &t->fields[i - 1];
    if (!f)
        lmpe_field_unknown(L, idx, t, where);
    return f;
}

static int
is_list(lua_State *L, int idx)
{
    int type = lua_rawgeti(L, idx, 1);
    lua_pop(L, 1);
    return type != LUA_TNIL;
}

/* Converts the fields that the table at idx has; how many they are. chosen may be NULL. */
static uint32_t
convert_present(lua_State *L, int idx, const lmpe_struct *t, void *to, uint8_t *chosen,
                const lmpe_where *where)
{
    uint32_t n = 0;
    int listed = is_list(L, idx);
    luaL_checkstack(L, 8, NULL);
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1), n++) {
        const lmpe_field *f = field_of_key(L, -2, t, listed, where);
        convert_field(L, -1, f, to, where);
        if (chosen)
            memset(chosen + f->offset, 1, lmpe_field_bytes(f));
    }
    return n;
}

/* Raises for the first field that the table at idx lacks. */
static void
refuse_missing(lua_State *L, int idx, const lmpe_struct *t, void *to, const lmpe_where *where)
{
    int listed = is_list(L, idx);
    for (uint32_t i = 0; i < t->fields_count; i++) {
        if (!listed)
            lua_pushstring(L, t->fields[i].name);
        if (listed)
            lua_rawgeti(L, idx, (lua_Integer)i + 1);
        else
            lua_rawget(L, idx);
        if (lua_isnil(L, -1))
            convert_field(L, -1, &t->fields[i], to, where);
        lua_pop(L, 1);
    }
}

void
lmpe_struct_convert(lua_State *L, int idx, const lmpe_struct *t, void *to, const lmpe_where *where)
{
    idx = lua_absindex(L, idx);
    const void *from = lmpe_struct_referred(L, idx, t);
    if (from)
        lmpe_structs_copy(t, to, 0, from, 0, 1);
    else if (!lua_istable(L, idx))
        luaL_error(L, "%s must be a table of fields %s, got %s", lmpe_push_where(L, where), t->text,
                   lmpe_type_name(L, idx));
    else if (convert_present(L, idx, t, to, NULL, where) < t->fields_count)
        refuse_missing(L, idx, t, to, where);
}

void
lmpe_struct_convert_some(lua_State *L, int idx, const lmpe_struct *t, void *to, uint8_t *chosen,
                         const lmpe_where *where)
{
    idx = lua_absindex(L, idx);
    if (!lua_istable(L, idx))
        luaL_error(L, "%s must be a table of fields %s, got %s", lmpe_push_where(L, where), t->text,
                   lmpe_type_name(L, idx));
    convert_present(L, idx, t, to, chosen, where);
}

void
lmpe_structs_convert(lua_State *L, int idx, const lmpe_struct *t, void *to, size_t n,
                     const char *call)
{
    lmpe_where where = {.call = call};
    uint8_t *p = to;
    for (size_t i = 1; i <= n; i++, p += t->as.size) {
        where.element = (lua_Integer)i;
        lua_geti(L, idx, where.element);
        lmpe_struct_convert(L, -1, t, p, &where);
        lua_pop(L, 1);
    }
}

/* ---- shared memory ---- */

/* Elements are copied by words of their alignment: each number is inside one. */
static const lmpe_element *
word_of(const lmpe_struct *t)
{
    return lmpe_element_of(t->align == 8 ? 'Q' : t->align == 4 ? 'I' : t->align == 2 ? 'H' : 'B');
}

void
lmpe_structs_copy(const lmpe_struct *t, void *to, int64_t to_stride, const void *from,
                  int64_t from_stride, size_t n)
{
    const lmpe_element *word = word_of(t);
    uint8_t *p = to;
    const uint8_t *q = from;
    for (size_t i = 0; i < n; i++, p += to_stride, q += from_stride)
        lmpe_elements_copy(word, p, word->size, q, word->size, t->as.size / word->size);
}

static void
copy_field(const lmpe_field *f, uint8_t *to, const uint8_t *from)
{
    lmpe_elements_copy(f->type, to + f->offset, f->type->size, from + f->offset, f->type->size,
                       f->count ? f->count : 1);
}

void
lmpe_field_assign(lua_State *L, int idx, const lmpe_field *f, void *element,
                  const lmpe_where *where)
{
    uint64_t room[32];
    size_t bytes = f->offset + lmpe_field_bytes(f);
    int top = lua_gettop(L);
    idx = lua_absindex(L, idx);
    void *value = bytes <= sizeof room ? room : lua_newuserdatauv(L, bytes, 0);
    convert_field(L, idx, f, value, where);
    copy_field(f, element, value);
    lua_settop(L, top);
}

/* ---- to Lua ---- */

void
lmpe_field_push(lua_State *L, const lmpe_field *f, const void *element)
{
    const uint8_t *p = (const uint8_t *)element + f->offset;
    if (lmpe_field_struct(f)) {
        lmpe_struct_push(L, lmpe_field_struct(f), p);
    } else if (lmpe_field_is_text(f)) {
        size_t size = f->count;
        while (size > 0 && p[size - 1] == 0)
            size--;
        lua_pushlstring(L, (const char *)p, size);
    } else if (f->count) {
        lmpe_elements_push(L, f->type, p, f->type->size, f->count);
    } else {
        lmpe_element_push(L, f->type, p);
    }
}

void
lmpe_struct_push(lua_State *L, const lmpe_struct *t, const void *element)
{
    luaL_checkstack(L, 8, NULL);
    lua_createtable(L, 0, (int)t->fields_count);
    for (uint32_t i = 0; i < t->fields_count; i++) {
        lmpe_field_push(L, &t->fields[i], element);
        lua_setfield(L, -2, t->fields[i].name);
    }
}
