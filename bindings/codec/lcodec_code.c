/* SPDX-License-Identifier: MIT */
/*
** lcodec_code.c - the code of Lua functions, and how it is sent only once.
**
** Code (lua_dump, debug information kept) never changes. A message that stays in the program
** names it by the handle of a blob, an object in the arena that the first sender of the function
** has made. Messages that may leave the program carry it whole, and so do all messages when no
** blob can be made. A blob is an object like any other: containers, senders and receivers keep
** it alive, and the sweep frees it.
**
** A function keeps the representation of its code, a blob or a string, for as long as it lives.
** Another function of the same prototype finds it by that, or else by the bytes. A receiver
** keeps blobs by handle, and with each a function that makes closures of its code
** (lcodec_maker.c), since reading code costs more than everything else in a message.
**
** The cache of both has two halves. When the young half is full it becomes the old one, and
** entries found in the old one move to the young one. So the cache keeps the recently used
** entries, and no more than twice CACHE_BYTES, however many functions are sent.
*/
#include <string.h>

#include "codec/lcodec_int.h"

#define CACHE_BYTES (256u << 10) /* of code, in each half of the cache */
#define ENTRY_BYTES 256          /* size of an entry, added to its code */

/* ------------------------------------------------------------------------------- the cache */

/* Pushes the value of the key at the top, which is replaced, or nil. */
static int
cache_get(lua_State *L, int keep)
{
    int key = lua_gettop(L), type;

    lua_rawgeti(L, keep, LMPE_KEEP_CODE);
    lua_pushvalue(L, key);
    type = lua_rawget(L, -2);
    if (type == LUA_TNIL) {
        lua_settop(L, key);
        lua_rawgeti(L, keep, LMPE_KEEP_CODE_OLD);
        lua_pushvalue(L, key);
        type = lua_rawget(L, -2);
    }
    lua_replace(L, key);
    lua_settop(L, key);
    return type;
}

/* Pushes the young half, with room for an entry of that much code. */
static void
push_young(lua_State *L, int keep, size_t bytes)
{
    lua_Integer used;

    lua_rawgeti(L, keep, LMPE_KEEP_CODE);
    lua_rawgeti(L, -1, 0);
    used = lua_tointeger(L, -1) + (lua_Integer)bytes + ENTRY_BYTES;
    lua_pop(L, 1);
    if (used > CACHE_BYTES) {
        lua_rawseti(L, keep, LMPE_KEEP_CODE_OLD);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawseti(L, keep, LMPE_KEEP_CODE);
        used = (lua_Integer)bytes + ENTRY_BYTES;
    }
    lua_pushinteger(L, used);
    lua_rawseti(L, -2, 0);
}

/* The key below the top has the value at the top; both stay. */
static void
cache_put(lua_State *L, int keep, size_t bytes)
{
    int value = lua_gettop(L);

    push_young(L, keep, bytes);
    lua_pushvalue(L, value - 1);
    lua_pushvalue(L, value);
    lua_rawset(L, -3);
    lua_settop(L, value);
}

/* ------------------------------------------------------------------------------- dumping */

static int
append(lua_State *L, const void *bytes, size_t n, void *buf)
{
    (void)L;
    return mpe_buf_append(buf, bytes, n);
}

/* Replaces the function at the top by its entry in the table of dumps; returns its type. */
static int
dumped(lmpe_encoder *e)
{
    lua_State *L = e->L;
    int type;

    lua_rawgeti(L, e->keep, LMPE_KEEP_DUMPS);
    lua_insert(L, -2);
    type = lua_rawget(L, -2);
    lua_remove(L, -2);
    return type;
}

/* Stores the value at the top as the code of the function at `function`, and of others like it. */
static void
remember(lmpe_encoder *e, int function)
{
    lua_State *L = e->L;
    const void *proto = lmpe_plain_prototype(lua_topointer(L, function));

    lua_rawgeti(L, e->keep, LMPE_KEEP_DUMPS);
    lua_pushvalue(L, function);
    lua_pushvalue(L, -3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
    if (proto == NULL)
        return;
    lua_rawgeti(L, e->keep, LMPE_KEEP_PROTOTYPES);
    lua_pushvalue(L, function);
    lua_rawsetp(L, -2, proto);
    lua_pop(L, 1);
}

/* Pushes the representation of the code of the function at the top, or nil, if neither it nor a
 * live function with the same prototype was sent before. */
static int
push_known(lmpe_encoder *e)
{
    lua_State *L = e->L;
    const void *proto;
    int function = lua_gettop(L);

    lua_pushvalue(L, -1);
    if (dumped(e) != LUA_TNIL)
        return 1;
    proto = lmpe_plain_prototype(lua_topointer(L, -2));
    if (proto == NULL)
        return 0;
    lua_pop(L, 1);
    lua_rawgeti(L, e->keep, LMPE_KEEP_PROTOTYPES);
    lua_rawgetp(L, -1, proto);
    lua_remove(L, -2);
    if (lua_isnil(L, -1) || dumped(e) == LUA_TNIL)
        return 0;
    remember(e, function);
    return 1;
}

/* Pushes the representation of the code of the function at the top: the existing one for the
 * same bytes, or a string of them. */
static int
push_dump(lmpe_encoder *e)
{
    lua_State *L = e->L;
    mpe_buf *b = &e->code;
    int function = lua_gettop(L);

    b->len = 0;
    if (lua_dump(L, append, b, 0) != 0)
        return MPE_ENOMEM;
    lua_pushlstring(L, (const char *)b->data, b->len);
    lua_pushvalue(L, -1);
    if (cache_get(L, e->keep) == LUA_TNIL) {
        lua_pop(L, 1);
        lua_pushvalue(L, -1);
        cache_put(L, e->keep, b->len);
    }
    lua_remove(L, -2);
    remember(e, function);
    return MPE_OK;
}

/* The string at the top becomes a blob, if there is room for one. */
static void
share(lmpe_encoder *e, int function)
{
    lua_State *L = e->L;
    size_t n;
    const char *bytes = lua_tolstring(L, -1, &n);

    if (lmpe_codec_hooks_now()->share == NULL ||
        lmpe_codec_hooks_now()->share(L, bytes, n) != MPE_OK)
        return;
    cache_put(L, e->keep, n);
    lua_remove(L, -2);
    remember(e, function);
}

int
lmpe_code_push(lmpe_encoder *e, lmpe_code *code)
{
    lua_State *L = e->L;
    int function = lua_gettop(L);
    int may_share = e->opts != NULL && e->opts->in_program;

    if (!push_known(e)) {
        lua_pop(L, 1);
        if (push_dump(e) != MPE_OK)
            return MPE_ENOMEM;
    }
    if (may_share && lua_type(L, -1) == LUA_TSTRING)
        share(e, function);
    code->handle = 0;
    if (lua_type(L, -1) == LUA_TSTRING)
        code->bytes = lua_tolstring(L, -1, &code->n);
    else if (!may_share)
        code->bytes = lmpe_codec_hooks_now()->shared(L, -1, &code->n);
    else if (lmpe_codec_hooks_now()->to_handle(L, lua_gettop(L), &code->handle) != 1)
        return MPE_ENOMEM;
    return MPE_OK;
}

/* ------------------------------------------------------------------------------- loading */

const char *
lmpe_next_piece(lua_State *L, void *ud, size_t *n)
{
    lmpe_piece *piece = ud;

    (void)L;
    *n = piece->n;
    piece->n = 0;
    return *n > 0 ? piece->bytes : NULL;
}

static int
load(lua_State *L, const char *code, size_t n)
{
    lmpe_piece piece = {code, n};

    switch (lua_load(L, lmpe_next_piece, &piece, "=function", "b")) {
    case LUA_OK:
        return MPE_OK;
    case LUA_ERRMEM:
        lua_pop(L, 1);
        return lmpe_decode_fail(L, MPE_ENOMEM, "not enough memory");
    default:
        lua_pop(L, 1);
        return lmpe_decode_fail(L, MPE_ECORRUPT,
                                "the code of a function is damaged, or of "
                                "another version of Lua");
    }
}

static int
may_load(lmpe_decoder *d)
{
    if (d->flags & LMPE_DECODE_FUNCTIONS)
        return MPE_OK;
    return lmpe_decode_fail(d->L, MPE_EPERM,
                            "the message has a function, and functions were "
                            "not asked for");
}

int
lmpe_code_load(lmpe_decoder *d, const char *code, size_t n)
{
    int rc = may_load(d);

    return rc == MPE_OK ? load(d->L, code, n) : rc;
}

/* Pushes the blob that a handle names, which is kept. */
static int
push_blob(lmpe_decoder *d, uint64_t h)
{
    lua_State *L = d->L;
    size_t n;
    int rc;

    if (mpe_handle_kind(h) != MPE_KIND_BLOB)
        return lmpe_decode_damaged(d);
    lua_pushinteger(L, (lua_Integer)h);
    if (cache_get(L, d->keep) != LUA_TNIL)
        return MPE_OK;
    lua_pop(L, 1);
    lua_pushinteger(L, (lua_Integer)h);
    rc = lmpe_decode_object(d, h);
    if (rc != MPE_OK)
        return rc;
    lmpe_codec_hooks_now()->shared(L, -1, &n);
    cache_put(L, d->keep, n);
    lua_remove(L, -2);
    return MPE_OK;
}

/* Pushes a new closure of the blob at the top, if it has a maker: it gets one at the second use. */
static int
push_made(lua_State *L, const char *code, size_t n)
{
    int blob = lua_gettop(L);

    switch (lua_getiuservalue(L, blob, 1)) {
    case LUA_TFUNCTION:
        break;
    case LUA_TNIL:
        lua_pushboolean(L, 1);
        lua_setiuservalue(L, blob, 1);
        return 0;
    default:
        if (!lua_toboolean(L, -1))
            return 0;
        lmpe_code_maker(L, code, n);
        lua_pushvalue(L, -1);
        lua_setiuservalue(L, blob, 1);
        if (!lua_isfunction(L, -1))
            return 0;
    }
    /* A hook belongs to the script or ends a task, and must not run in there. */
    if (lua_gethookmask(L) != 0)
        return 0;
    lua_call(L, 0, 1);
    return 1;
}

int
lmpe_code_load_shared(lmpe_decoder *d, uint64_t h)
{
    lua_State *L = d->L;
    const char *code;
    size_t n;
    int blob, rc = may_load(d);

    if (rc == MPE_OK)
        rc = push_blob(d, h);
    if (rc != MPE_OK)
        return rc;
    blob = lua_gettop(L);
    code = lmpe_codec_hooks_now()->shared(L, blob, &n);
    if (!push_made(L, code, n))
        rc = load(L, code, n);
    lua_replace(L, blob);
    lua_settop(L, blob);
    return rc;
}
