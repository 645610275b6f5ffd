/* SPDX-License-Identifier: MIT */
/*
** lcodec.c - the calls of lcodec.h: fast paths, the Lua module, and what a lua_State keeps.
**
** Messages that contain only scalars are written and read here, with no table, no allocation and
** nothing that raises. Everything else needs an encoder or decoder: scratch memory that belongs
** to a userdata and is reused. One that is in use (by an outer call, or one that an error left)
** is never touched: a new one takes its place, and the collector frees it.
*/
#include <stdlib.h>
#include <string.h>

#include "base/lfinalize.h"
#include "codec/lcodec_int.h"

#define KEPT_BYTES (1u << 16) /* scratch above this is freed after each message */
#define KEPT_MARKS 64         /* so is a larger table of marked values */

static const lmpe_codec_hooks none;
_Atomic(const lmpe_codec_hooks *) lmpe_codec_hooks_set = &none;

static const char keep_key = 0;

/* ------------------------------------------------------------------------ what is kept */

static void
set_weak(lua_State *L, const char *mode)
{
    lua_createtable(L, 0, 1);
    lua_pushstring(L, mode);
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
}

static void
keep_new(lua_State *L)
{
    lua_createtable(L, LMPE_KEEP_N, 0);
    luaL_getsubtable(L, LUA_REGISTRYINDEX, LUA_LOADED_TABLE);
    lua_rawseti(L, -2, LMPE_KEEP_LOADED);
    lua_getglobal(L, "require");
    lua_rawseti(L, -2, LMPE_KEEP_REQUIRE);
    lua_newtable(L);
    lua_rawseti(L, -2, LMPE_KEEP_CLASSES);
    lua_newtable(L);
    set_weak(L, "k");
    lua_rawseti(L, -2, LMPE_KEEP_DUMPS);
    lua_newtable(L);
    set_weak(L, "v");
    lua_rawseti(L, -2, LMPE_KEEP_PROTOTYPES);
    lua_newtable(L);
    lua_rawseti(L, -2, LMPE_KEEP_CODE);
    lua_newtable(L);
    lua_rawseti(L, -2, LMPE_KEEP_CODE_OLD);
    lmpe_plain_probe(L);
    lua_pushvalue(L, -1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &keep_key);
}

void
lmpe_codec_keep(lua_State *L)
{
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &keep_key) == LUA_TTABLE)
        return;
    lua_pop(L, 1);
    keep_new(L);
}

/* Pushes the scratch that is kept at `slot`, or a new one when that is in use. */
static void *
take(lua_State *L, int keep, int slot, size_t size, lua_CFunction gc, int (*is_busy)(void *))
{
    void *p;

    lua_rawgeti(L, keep, slot);
    p = lua_touserdata(L, -1);
    if (p != NULL && !is_busy(p))
        return p;
    lua_pop(L, 1);
    p = lua_newuserdatauv(L, size, 2);
    memset(p, 0, size);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_pushvalue(L, -1);
    lua_rawseti(L, keep, slot);
    return p;
}

/* ----------------------------------------------------------------------------- encoding */

/* The scalar at idx: 0, ENOMEM, or 1 when it is not a scalar. */
static int
put_scalar(lua_State *L, int idx, mpe_buf *out)
{
    const char *s;
    size_t n;

    switch (lua_type(L, idx)) {
    case LUA_TNIL:
        return mpe_wire_put_nil(out);
    case LUA_TBOOLEAN:
        return mpe_wire_put_bool(out, lua_toboolean(L, idx));
    case LUA_TNUMBER:
        if (lua_isinteger(L, idx))
            return mpe_wire_put_int(out, lua_tointeger(L, idx));
        return mpe_wire_put_float(out, lua_tonumber(L, idx));
    case LUA_TSTRING:
        s = lua_tolstring(L, idx, &n);
        return mpe_wire_put_str(out, s, n);
    default:
        return 1;
    }
}

static int
encoder_is_busy(void *p)
{
    return ((lmpe_encoder *)p)->busy;
}

static int
encoder_gc(lua_State *L)
{
    lmpe_encoder *e = lmpe_finalized(L, NULL, sizeof *e);

    if (!e)
        return 0;
    lmpe_memo_free(&e->memo);
    free(e->frames);
    free(e->plain);
    if (e->code.data != NULL)
        mpe_buf_free(&e->code);
    e->frames = NULL;
    e->plain = NULL;
    e->busy = 1;
    return 0;
}

static void
encoder_give_back(lmpe_encoder *e)
{
    if (e->frames_cap * sizeof *e->frames > KEPT_BYTES) {
        free(e->frames);
        e->frames = NULL;
        e->frames_cap = 0;
    }
    mpe_buf_reset(&e->code, KEPT_BYTES);
    e->busy = 0;
}

/* All n values, with references between them. */
static int
encode_all(lua_State *L, int first, int n, mpe_buf *out, lmpe_encode_opts *opts)
{
    int rc, top = lua_gettop(L);
    lmpe_encoder *e;

    if (!lua_checkstack(L, 40)) {
        lua_pushliteral(L, "the stack is full");
        return MPE_ERANGE;
    }
    lmpe_codec_keep(L);
    e = take(L, top + 1, LMPE_KEEP_ENCODER, sizeof *e, encoder_gc, encoder_is_busy);
    if (e->code.data == NULL)
        mpe_buf_init(&e->code);
    e->busy = 1;
    e->L = L;
    e->out = out;
    e->start = out->len;
    e->opts = opts;
    e->first = first;
    e->n = n;
    e->keep = top + 1;
    lua_pushglobaltable(L);
    e->globals = lua_topointer(L, -1);
    lua_pop(L, 1);
    e->names = lmpe_names_get(L, e->keep);
    e->names_fresh = 0;
    e->passed = 0;
    rc = lmpe_write_values(e);
    if (rc != MPE_OK)
        lmpe_encode_take_back(e);
    encoder_give_back(e);
    if (rc == MPE_OK) {
        lua_settop(L, top);
        return MPE_OK;
    }
    out->len = e->start;
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
    return rc;
}

int
lmpe_encode(lua_State *L, int first, int n, mpe_buf *out, lmpe_encode_opts *opts)
{
    size_t before = out->len;
    int i, rc = MPE_OK;

    first = lua_absindex(L, first);
    if (opts != NULL)
        opts->has_handles = 0;
    for (i = 0; rc == MPE_OK && i < n; i++)
        rc = put_scalar(L, first + i, out);
    if (rc == MPE_OK)
        return MPE_OK;
    out->len = before;
    if (rc == 1)
        return encode_all(L, first, n, out, opts);
    lua_pushliteral(L, "not enough memory");
    return rc;
}

int
lmpe_encode_is_bytes(lua_State *L, int idx, const char **bytes, size_t *len,
                     uint8_t header[MPE_WIRE_STR_HEADER], size_t *header_len)
{
    if (lua_type(L, idx) != LUA_TSTRING)
        return 0;
    *bytes = lua_tolstring(L, idx, len);
    *header_len = mpe_wire_str_header(header, *len);
    return 1;
}

/* ----------------------------------------------------------------------------- decoding */

/* The message is one scalar: pushes it and returns 1, else 0. */
static int
push_single(lua_State *L, const void *data, size_t len)
{
    mpe_wire_reader r;
    mpe_wire_item item;

    mpe_wire_open(&r, data, len);
    if (mpe_wire_read(&r, &item) != 1 || r.at != r.end || item.kind > MPE_WIRE_STR)
        return 0;
    switch (item.kind) {
    case MPE_WIRE_NIL:
        lua_pushnil(L);
        return 1;
    case MPE_WIRE_BOOL:
        lua_pushboolean(L, (int)item.u.i);
        return 1;
    case MPE_WIRE_INT:
        lua_pushinteger(L, item.u.i);
        return 1;
    case MPE_WIRE_FLOAT:
        lua_pushnumber(L, item.u.f);
        return 1;
    default:
        lua_pushlstring(L, (const char *)item.u.bytes, item.n);
        return 1;
    }
}

static int
decoder_is_busy(void *p)
{
    return ((lmpe_decoder *)p)->busy;
}

static int
decoder_gc(lua_State *L)
{
    lmpe_decoder *d = lmpe_finalized(L, NULL, sizeof *d);

    if (!d)
        return 0;
    free(d->frames);
    free(d->marks);
    free(d->numbers);
    free(d->cells);
    memset(d, 0, sizeof *d);
    d->busy = 1;
    return 0;
}

static void
decoder_give_back(lmpe_decoder *d)
{
    size_t bytes = d->frames_cap * sizeof *d->frames + d->marks_cap * sizeof *d->marks +
                   d->numbers_cap * sizeof *d->numbers + d->cells_cap * sizeof *d->cells;

    d->busy = 0;
    if (bytes <= KEPT_BYTES)
        return;
    free(d->frames);
    free(d->marks);
    free(d->numbers);
    free(d->cells);
    memset(d, 0, sizeof *d);
}

/* Empties the table of marked values, or drops it when it has become large. */
static void
forget_marks(lmpe_decoder *d)
{
    lua_State *L = d->L;
    size_t i;

    if (d->nmarks > KEPT_MARKS) {
        lua_pushnil(L);
        lua_setiuservalue(L, d->keep + 2, 1);
        return;
    }
    for (i = 1; i <= d->nmarks; i++) {
        lua_pushnil(L);
        lua_rawseti(L, d->keep + 1, (lua_Integer)i);
    }
}

int
lmpe_decode(lua_State *L, const void *data, size_t len, int *n, unsigned flags)
{
    int rc, top = lua_gettop(L);
    lmpe_decoder *d;

    if (push_single(L, data, len)) {
        *n = 1;
        return MPE_OK;
    }
    if (!lua_checkstack(L, 40))
        return lmpe_decode_fail(L, MPE_ERANGE, "the stack is full");
    lmpe_codec_keep(L);
    lua_pushnil(L); /* becomes the table of marked values */
    d = take(L, top + 1, LMPE_KEEP_DECODER, sizeof *d, decoder_gc, decoder_is_busy);
    d->busy = 1;
    d->L = L;
    d->keep = top + 1;
    d->flags = flags;
    mpe_wire_open(&d->r, data, len);
    d->brings_classes = 0;
    rc = lmpe_read_values(d, n);
    forget_marks(d);
    if (d->brings_classes) {
        if (rc == MPE_OK)
            lmpe_decode_register(d);
        lua_pushnil(L);
        lua_setiuservalue(L, d->keep + 2, 2);
    }
    decoder_give_back(d);
    if (rc == MPE_OK) {
        lua_rotate(L, top + 1, *n);
        lua_settop(L, top + *n);
        return MPE_OK;
    }
    lua_replace(L, top + 1);
    lua_settop(L, top + 1);
    return rc;
}

/* -------------------------------------------------------------------------- the Lua side */

void
lmpe_codec_set_hooks(const lmpe_codec_hooks *hooks)
{
    lmpe_codec_hooks_set = hooks;
}

/* Removes a name of the metatable at the top, which is popped: it is sent by another name, if it
 * has one. */
static void
lose_class_name(lua_State *L, int classes, int name)
{
    int mt = lua_gettop(L);

    lua_pushvalue(L, mt);
    lua_pushnil(L);
    while (lua_next(L, classes)) {
        if (lua_rawequal(L, -1, mt) && !lua_rawequal(L, -2, name)) {
            lua_pop(L, 1);
            break;
        }
        lua_pop(L, 1);
    }
    if (lua_gettop(L) == mt + 1)
        lua_pushnil(L);
    lua_rawset(L, classes);
    lua_settop(L, mt - 1);
}

void
lmpe_codec_add_class(lua_State *L, int keep)
{
    int mt = lua_gettop(L), name = mt - 1, classes = mt + 1;

    lua_rawgeti(L, keep, LMPE_KEEP_CLASSES);
    lua_pushvalue(L, name);
    if (lua_rawget(L, classes) == LUA_TTABLE)
        lose_class_name(L, classes, name);
    lua_settop(L, classes);
    lua_pushvalue(L, name);
    lua_pushvalue(L, mt);
    lua_rawset(L, classes);
    lua_pushvalue(L, mt);
    lua_pushvalue(L, name);
    lua_rawset(L, classes);
    lua_settop(L, mt);
    lmpe_names_expire(L, keep);
}

static void
expect(lua_State *L, int arg, int type, const char *what)
{
    if (lua_type(L, arg) != type)
        luaL_error(L, "%s: expected a %s, got %s", what, lua_typename(L, type),
                   luaL_typename(L, arg));
}

int
lmpe_codec_register(lua_State *L)
{
    expect(L, 1, LUA_TSTRING, "mp.register: name");
    expect(L, 2, LUA_TTABLE, "mp.register: metatable");
    lua_settop(L, 2);
    lmpe_codec_keep(L);
    lua_insert(L, 1);
    lmpe_codec_add_class(L, 1);
    return 1;
}

static int
buf_gc(lua_State *L)
{
    mpe_buf *b = lmpe_finalized(L, NULL, sizeof *b);
    if (b)
        mpe_buf_free(b);
    return 0;
}

static mpe_buf *
new_buf(lua_State *L)
{
    mpe_buf *b = lua_newuserdatauv(L, sizeof *b, 0);

    mpe_buf_init(b);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_setmetatable(L, -2);
    return b;
}

/* encode(...) -> string */
static int
codec_encode(lua_State *L)
{
    int n = lua_gettop(L);
    mpe_buf *b = new_buf(L);

    if (lmpe_encode(L, 1, n, b, NULL) != MPE_OK) {
        luaL_where(L, 1);
        lua_insert(L, -2);
        lua_concat(L, 2);
        return lua_error(L);
    }
    lua_pushlstring(L, (const char *)b->data, b->len);
    mpe_buf_free(b);
    return 1;
}

/* decode(string [, {functions = true}]) -> ... */
static int
codec_decode(lua_State *L)
{
    unsigned flags = 0;
    const char *s;
    size_t len;
    int n;

    expect(L, 1, LUA_TSTRING, "mp.codec.decode: bytes");
    if (!lua_isnoneornil(L, 2)) {
        expect(L, 2, LUA_TTABLE, "mp.codec.decode: options");
        lua_getfield(L, 2, "functions");
        flags |= lua_toboolean(L, -1) ? LMPE_DECODE_FUNCTIONS : 0;
    }
    lua_settop(L, 1);
    s = lua_tolstring(L, 1, &len);
    if (lmpe_decode(L, s, len, &n, flags) == MPE_OK)
        return n;
    luaL_where(L, 1);
    lua_pushliteral(L, "cannot decode: ");
    lua_rotate(L, -3, 2);
    lua_concat(L, 3);
    return lua_error(L);
}

int
luaopen_mpengine_codec(lua_State *L)
{
    lmpe_codec_keep(L);
    lua_pop(L, 1);
    lua_createtable(L, 0, 2);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, buf_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcclosure(L, codec_encode, 1);
    lua_setfield(L, -2, "encode");
    lua_pushcfunction(L, codec_decode);
    lua_setfield(L, -2, "decode");
    return 1;
}
