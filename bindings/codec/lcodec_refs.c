/* SPDX-License-Identifier: MIT */
/*
** lcodec_refs.c - references, names, code and handles in a message.
**
** References to earlier values (marked values are in a table, in the order of their tags, so a
** reference by offset is a binary search), names of modules and registered metatables, code, and
** shared objects. Functions that return int return 0 with one value pushed, or a negative code
** with a message pushed.
*/
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "codec/lcodec_int.h"

int
lmpe_decode_fail(lua_State *L, int code, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    lua_pushvfstring(L, format, args);
    va_end(args);
    return code;
}

int
lmpe_decode_damaged(lmpe_decoder *d)
{
    return lmpe_decode_fail(d->L, MPE_ECORRUPT, "damaged data at byte %d of the message",
                            (int)(d->r.at - d->r.base));
}

int
lmpe_decode_no_memory(lmpe_decoder *d)
{
    return lmpe_decode_fail(d->L, MPE_ENOMEM, "not enough memory");
}

int
lmpe_decode_grow(void *vector, size_t *cap, size_t used, size_t size)
{
    size_t n = *cap ? *cap * 2 : 16;
    void *p;

    if (used < *cap)
        return MPE_OK;
    memcpy(&p, vector, sizeof p);
    p = realloc(p, n * size);
    if (p == NULL)
        return MPE_ENOMEM;
    memcpy(vector, &p, sizeof p);
    *cap = n;
    return MPE_OK;
}

/* ---------------------------------------------------------------------------- references */

int
lmpe_decode_reserve(lmpe_decoder *d, size_t at)
{
    lua_State *L = d->L;

    if (lmpe_decode_grow(&d->marks, &d->marks_cap, d->nmarks, sizeof *d->marks) != MPE_OK)
        return lmpe_decode_no_memory(d);
    if (d->nmarks == 0) {
        if (lua_getiuservalue(L, d->keep + 2, 1) != LUA_TTABLE) {
            lua_pop(L, 1);
            lua_createtable(L, 4, 0);
            lua_pushvalue(L, -1);
            lua_setiuservalue(L, d->keep + 2, 1);
        }
        lua_replace(L, d->keep + 1);
    }
    d->marks[d->nmarks++] = at;
    return MPE_OK;
}

void
lmpe_decode_keep(lmpe_decoder *d, size_t place)
{
    lua_pushvalue(d->L, -1);
    lua_rawseti(d->L, d->keep + 1, (lua_Integer)place);
}

static int
mark(lmpe_decoder *d, size_t at)
{
    int rc = lmpe_decode_reserve(d, at);

    if (rc == MPE_OK)
        lmpe_decode_keep(d, d->nmarks);
    return rc;
}

/* The place of the value marked at this offset, from 1; 0: none was. */
static size_t
marked_at(const lmpe_decoder *d, size_t at)
{
    size_t low = 0, high = d->nmarks;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (d->marks[middle] == at)
            return middle + 1;
        if (d->marks[middle] < at)
            low = middle + 1;
        else
            high = middle;
    }
    return 0;
}

/* There is no value yet when the message refers to a function inside its own code. */
static int
push_place(lmpe_decoder *d, size_t place)
{
    if (lua_rawgeti(d->L, d->keep + 1, (lua_Integer)place) == LUA_TNIL)
        return lmpe_decode_damaged(d);
    return MPE_OK;
}

int
lmpe_decode_refnew(lmpe_decoder *d, size_t at)
{
    size_t place = marked_at(d, at);

    if (place == 0)
        return lmpe_decode_damaged(d);
    if (lmpe_decode_grow(&d->numbers, &d->numbers_cap, d->nnumbers, sizeof *d->numbers) != MPE_OK)
        return lmpe_decode_no_memory(d);
    d->numbers[d->nnumbers++] = (uint32_t)place;
    return push_place(d, place);
}

int
lmpe_decode_ref(lmpe_decoder *d, size_t number)
{
    if (number >= d->nnumbers)
        return lmpe_decode_damaged(d);
    return push_place(d, d->numbers[number]);
}

/* -------------------------------------------------------------- names, code and handles */

int
lmpe_decode_module(lmpe_decoder *d, const mpe_wire_item *module)
{
    mpe_wire_item part;
    size_t i;
    int rc;

    if (d->flags & LMPE_DECODE_OUTSIDE)
        return lmpe_decode_fail(d->L, MPE_EPERM, "the message has what belongs to a module");
    if (module->n > 16)
        return lmpe_decode_damaged(d);
    for (i = 0; i <= module->n; i++) {
        if (mpe_wire_read(&d->r, &part) != 1 || part.kind != MPE_WIRE_STR || part.marked)
            return lmpe_decode_damaged(d);
        lua_pushlstring(d->L, (const char *)part.u.bytes, part.n);
    }
    rc = lmpe_names_resolve(d->L, d->keep, (int)module->n, (d->flags & LMPE_DECODE_FUNCTIONS) != 0);
    if (rc == MPE_OK && module->marked)
        rc = mark(d, module->at);
    return rc;
}

int
lmpe_decode_is_module(const lmpe_decoder *d, const mpe_wire_item *item)
{
    uint32_t place;

    if (item->kind == MPE_WIRE_MODULE)
        return 1;
    if (item->kind != MPE_WIRE_REF && item->kind != MPE_WIRE_REFNEW)
        return 0;
    place = d->numbers[item->kind == MPE_WIRE_REF ? item->n : d->nnumbers - 1];
    return d->r.base[d->marks[place - 1]] == (MPE_TAG_MODULE | 1);
}

int
lmpe_decode_str(lmpe_decoder *d, const mpe_wire_item *item)
{
    lua_pushlstring(d->L, (const char *)item->u.bytes, item->n);
    return item->marked ? mark(d, item->at) : MPE_OK;
}

int
lmpe_decode_name(lmpe_decoder *d, const mpe_wire_item *item)
{
    if (item->kind == MPE_WIRE_STR)
        return lmpe_decode_str(d, item);
    if (item->kind == MPE_WIRE_REF)
        return lmpe_decode_ref(d, item->n);
    return item->kind == MPE_WIRE_REFNEW ? lmpe_decode_refnew(d, item->n) : lmpe_decode_damaged(d);
}

/* Is there a class of the name on the top of the stack? Pushes it, or something else. */
static int
get_class(lmpe_decoder *d)
{
    lua_rawgeti(d->L, d->keep, LMPE_KEEP_CLASSES);
    lua_pushvalue(d->L, -2);
    int type = lua_rawget(d->L, -2);
    lua_remove(d->L, -2);
    return type;
}

/* A class that is named "module:class" is registered when its module is loaded. */
static void
load_class(lmpe_decoder *d)
{
    const char *name = lua_tostring(d->L, -1), *colon = strchr(name, ':');
    if (!(d->flags & LMPE_DECODE_FUNCTIONS) || !colon)
        return;
    lua_pushlstring(d->L, name, (size_t)(colon - name));
    lmpe_names_resolve(d->L, d->keep, 0, 1); /* its error gives way to ours */
    lua_pop(d->L, 1);
}

int
lmpe_decode_class(lmpe_decoder *d)
{
    lua_State *L = d->L;
    int type = get_class(d);

    if (type != LUA_TTABLE && !d->brings_classes) {
        lua_pop(L, 1);
        load_class(d);
        return get_class(d);
    }
    if (type == LUA_TTABLE)
        return type;
    lua_getiuservalue(L, d->keep + 2, 2);
    lua_replace(L, -2);
    lua_pushvalue(L, -2);
    type = lua_rawget(L, -2);
    lua_remove(L, -2);
    return type;
}

/* Registered from its beginning on, so that it may have instances in its own contents. */
void
lmpe_decode_new_class(lmpe_decoder *d, int name)
{
    lua_State *L = d->L;

    if (!(d->flags & LMPE_DECODE_FUNCTIONS))
        return;
    if (!d->brings_classes) {
        lua_newtable(L);
        lua_setiuservalue(L, d->keep + 2, 2);
        d->brings_classes = 1;
    }
    lua_getiuservalue(L, d->keep + 2, 2);
    lua_pushvalue(L, name);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

/* A module that the message needed may have registered its own in the meantime. */
void
lmpe_decode_register(lmpe_decoder *d)
{
    lua_State *L = d->L;

    lua_getiuservalue(L, d->keep + 2, 2);
    lua_rawgeti(L, d->keep, LMPE_KEEP_CLASSES);
    lua_pushnil(L);
    while (lua_next(L, -3)) {
        lua_pushvalue(L, -2);
        if (lua_rawget(L, -4) != LUA_TTABLE) {
            lua_pop(L, 1);
            lmpe_codec_add_class(L, d->keep);
        } else {
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
}

int
lmpe_decode_code(lmpe_decoder *d)
{
    mpe_wire_item item;
    const char *code;
    size_t n;
    int rc = mpe_wire_read(&d->r, &item) == 1 ? MPE_OK : lmpe_decode_damaged(d);

    if (rc != MPE_OK)
        return rc;
    if (item.kind == MPE_WIRE_HANDLE)
        return lmpe_code_load_shared(d, item.u.h);
    if (item.kind == MPE_WIRE_STR && !item.marked)
        return lmpe_code_load(d, (const char *)item.u.bytes, item.n);
    rc = lmpe_decode_name(d, &item);
    if (rc != MPE_OK)
        return rc;
    if (lua_type(d->L, -1) != LUA_TSTRING)
        return lmpe_decode_damaged(d);
    code = lua_tolstring(d->L, -1, &n);
    rc = lmpe_code_load(d, code, n);
    lua_remove(d->L, -2);
    return rc;
}

int
lmpe_decode_object(lmpe_decoder *d, uint64_t h)
{
    int rc;

    if (lmpe_codec_hooks_now()->from_handle == NULL)
        return lmpe_decode_fail(d->L, MPE_ESTALE,
                                "the message has a shared object, and there are "
                                "none here");
    rc = lmpe_codec_hooks_now()->from_handle(d->L, h);
    return rc < 0 ? lmpe_decode_fail(d->L, rc, "a shared object in the message no longer exists")
                  : MPE_OK;
}

int
lmpe_decode_handle(lmpe_decoder *d, const mpe_wire_item *item)
{
    int rc, kind = mpe_handle_kind(item->u.h);

    if (d->flags & LMPE_DECODE_OUTSIDE)
        return lmpe_decode_fail(d->L, MPE_EPERM, "the message has a shared object");
    if (kind == MPE_KIND_BLOB) /* never a value, only a part of one */
        return lmpe_decode_damaged(d);
    rc = kind == MPE_KIND_DESCRIPTOR && lmpe_codec_hooks_now()->receive != NULL
             ? lmpe_codec_hooks_now()->receive(d->L, item->u.h)
             : lmpe_decode_object(d, item->u.h);
    return rc == MPE_OK && item->marked ? mark(d, item->at) : rc;
}
