/* SPDX-License-Identifier: MIT
 *
 * lmessage.c - values as messages of the engine: encoding into the scratch of a state, with
 * errors that name the call, and decoding the message of a get.
 */
#include "base/lsite.h"
#include "codec/lmessage.h"
#include "codec/lcodec.h"
#include "base/lfinalize.h"
#include "base/lobject.h"

#include <string.h>

/* Not those of a message that a finalizer has interrupted. */
void
lmpe_drop_passed(lua_State *L, lmpe *S)
{
    if (S->encoding > 0 || lmpe_is_finalizing(L))
        return;
    while (S->passed_count > 0)
        mpe_drop(S->e, S->passed[--S->passed_count]);
}

/* Into separate scratch: a finalizer may encode in the meantime. The message comes after the bytes of
 * `before`. */
static int
try_encode(lua_State *L, lmpe *S, int first, int n, lmpe_encode_opts *opts, int *handles,
           const mpe_bytes *before, int count)
{
    *handles = 0;
    if (S->encoding == LMPE_SCRATCHES) {
        lua_pushliteral(L, "too many nested finalizers are encoding values");
        return MPE_ENOMEM;
    }
    if (opts->passes != LMPE_PASS_NONE)
        lmpe_sent(L, S);
    mpe_buf *out = &S->scratches[S->encoding++];
    mpe_buf_reset(out, 1 << 16);
    int rc = MPE_OK;
    for (int i = 0; i < count && rc == MPE_OK; i++)
        rc = mpe_buf_append(out, before[i].data, before[i].size);
    if (rc == MPE_OK)
        rc = lmpe_encode(L, first, n, out, opts);
    else
        lua_pushliteral(L, "out of memory");
    S->encoding--;
    S->scratch = out;
    *handles = opts->has_handles;
    return rc;
}

int
lmpe_try_encode(lua_State *L, lmpe *S, int first, int n, lmpe_encode_opts *opts, int *handles)
{
    return try_encode(L, S, first, n, opts, handles, NULL, 0);
}

static int
encode(lua_State *L, lmpe *S, int first, int n, lmpe_encode_opts *opts, const char *where)
{
    int handles;
    if (lmpe_try_encode(L, S, first, n, opts, &handles) < 0)
        return lmpe_script_error(L, S, "%s: %s", where, lua_tostring(L, -1));
    return handles;
}

int
lmpe_encode_values(lua_State *L, lmpe *S, int first, int n, int leading, const char *where)
{
    static const char *const names[] = {"target", "shared", "mode", "task"};
    lmpe_encode_opts opts = {.root = "args",
                             .names = names,
                             .nnames = leading,
                             .in_program = 1,
                             .passes = LMPE_PASS_ONCE};
    return encode(L, S, first, n, &opts, where);
}

int
lmpe_encode_whole(lua_State *L, lmpe *S, int first, int n, const char *where)
{
    static const char *const names[] = {"function"};
    lmpe_encode_opts opts = {.root = "args", .names = names, .nnames = 1};
    return encode(L, S, first, n, &opts, where);
}

int
lmpe_encode_value(lua_State *L, lmpe *S, int idx, const char *root, const char *where)
{
    lmpe_encode_opts opts = {
        .names = &root, .nnames = 1, .in_program = 1, .passes = LMPE_PASS_KEPT};
    return encode(L, S, idx, 1, &opts, where);
}

int
lmpe_encode_item(lua_State *L, lmpe *S, int idx, const char *where)
{
    static const char *const name = "item";
    lmpe_encode_opts opts = {
        .names = &name, .nnames = 1, .in_program = 1, .passes = LMPE_PASS_ONCE};
    return encode(L, S, idx, 1, &opts, where);
}

void
lmpe_encode_outside(lua_State *L, lmpe *S, int idx, const char *root, const char *where,
                    const mpe_bytes *before, int count)
{
    lmpe_encode_opts opts = {.names = &root, .nnames = 1, .outside = 1};
    int handles;
    if (try_encode(L, S, idx, 1, &opts, &handles, before, count) < 0)
        lmpe_script_error(L, S, "%s: %s", where, lua_tostring(L, -1));
}

static int
withdraw(void *ud, uint64_t handle)
{
    mpe_engine *e = ud;
    mpe_object *o;
    if (mpe_handle_kind(handle) != MPE_KIND_DESCRIPTOR || mpe_hold(e, handle, &o) != MPE_OK)
        return 0;
    mpe_descriptor_withdraw(e, o);
    mpe_drop(e, o);
    return 0;
}

void
lmpe_unsent(lmpe *S, const void *bytes, size_t size)
{
    mpe_wire_scan_handles(bytes, size, withdraw, S->e);
}

int
lmpe_decode_values(lua_State *L, lmpe *S, const void *data, size_t size, uint32_t pins)
{
    int n;
    int rc = lmpe_decode(L, data, size, &n, LMPE_DECODE_FUNCTIONS);
    mpe_unpin(S->e, pins);
    if (rc < 0)
        return lua_error(L);
    return n;
}

struct large {
    lmpe *S;
    mpe_message *m;
    mpe_object *queue; /* NULL: it is no item of one */
};

/* Decodes a message that is stored outside the struct or pins objects, which must be freed in
 * any case. */
static int
decode_protected(lua_State *L)
{
    struct large *l = lua_touserdata(L, 1);
    lua_settop(L, 0);
    if (l->queue && !lmpe_has_room(L, l->m->data, l->m->size)) {
        lmpe_keep_item(L, l->S, l->queue, l->m->data, l->m->size);
        return luaL_error(L, LMPE_NO_ROOM);
    }
    return lmpe_decode_values(L, l->S, l->m->data, l->m->size, mpe_pin_mark(l->S->e));
}

static int
push_large(lua_State *L, lmpe *S, mpe_message *m, mpe_object *queue)
{
    int top = lua_gettop(L);
    struct large l = {S, m, queue};
    lua_pushcfunction(L, decode_protected);
    lua_pushlightuserdata(L, &l);
    int status = lua_pcall(L, 1, LUA_MULTRET, 0);
    mpe_message_free(S->e, m);
    if (status != LUA_OK)
        return lua_error(L);
    return lua_gettop(L) - top;
}

static int
push_message(lua_State *L, lmpe *S, mpe_object *queue)
{
    mpe_message *m = &S->message;
    int plain = !m->block && m->pins == mpe_pin_mark(S->e);
    if (plain && m->size <= 16)
        return lmpe_decode_values(L, S, m->data, m->size, m->pins);
    mpe_message own; /* decoding may run code that waits, and uses S->message */
    memcpy(&own, m, offsetof(mpe_message, small) + (m->block ? 0 : m->size));
    if (!own.block)
        own.data = own.small;
    if (!plain)
        return push_large(L, S, &own, queue);
    return lmpe_decode_values(L, S, own.data, own.size, own.pins);
}

int
lmpe_push_message(lua_State *L, lmpe *S)
{
    return push_message(L, S, NULL);
}

int
lmpe_push_item(lua_State *L, lmpe *S, mpe_object *queue)
{
    int is_kept = S->item_is_kept;
    S->item_is_kept = 0;
    return is_kept ? lmpe_push_kept_item(L, S, queue) : push_message(L, S, queue);
}

/* encode_args(where, leading, ...) -> bytes [, what keeps the descriptors in them]: the encoded
 * argument list, for calls in Lua. */
static int
encode_args(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    const char *where = luaL_checkstring(L, 1);
    int leading = (int)luaL_checkinteger(L, 2);
    luaL_argcheck(L, leading >= 0 && leading <= LMPE_LEADING_MAX, 2, "out of range");
    lmpe_encode_values(L, S, 3, lua_gettop(L) - 2, leading, where);
    lua_pushlstring(L, (const char *)S->scratch->data, S->scratch->len);
    size_t size;
    const char *bytes = lua_tolstring(L, -1, &size);
    if (S->passed_count == 0 || lmpe_count_descriptors(bytes, size) == 0)
        return 1;
    lmpe_push_holds(L, S, bytes, size);
    return 2;
}

/* unsent(bytes): of encode_args; they were not sent */
static int
unsent(lua_State *L)
{
    size_t size;
    const char *bytes = luaL_checklstring(L, 1, &size);
    lmpe_unsent(lmpe_self(L), bytes, size);
    return 0;
}

static int
is_no_blob(void *ud, uint64_t handle)
{
    (void)ud;
    return mpe_handle_kind(handle) != MPE_KIND_BLOB;
}

/* encode_value(where, name, value) -> bytes, whether there are shared objects in them. Code is
 * not one. */
static int
encode_value(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_settop(L, 3);
    const char *where = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);
    lmpe_encode_opts opts = {.names = &name, .nnames = 1, .in_program = 1};
    encode(L, S, 3, 1, &opts, where);
    lua_pushlstring(L, (const char *)S->scratch->data, S->scratch->len);
    lua_pushboolean(L,
                    mpe_wire_scan_handles(S->scratch->data, S->scratch->len, is_no_blob, NULL) > 0);
    return 2;
}

/* encode_outside(where, name, value [, before]) -> bytes, after those, for another program; raises for
 * what it cannot have */
static int
encode_outside(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_settop(L, 4);
    const char *where = luaL_checkstring(L, 1), *name = luaL_checkstring(L, 2);
    mpe_bytes before;
    before.data = luaL_optlstring(L, 4, "", &before.size);
    lmpe_encode_outside(L, S, 3, name, where, &before, 1);
    lua_pushlstring(L, (const char *)S->scratch->data, S->scratch->len);
    return 1;
}

/* decode_outside(bytes [, first [, last]]) -> true, the value that another program sent | false,
 * message */
static int
decode_outside(lua_State *L)
{
    size_t size;
    int n;
    const char *bytes = luaL_checklstring(L, 1, &size);
    size_t first = (size_t)luaL_optinteger(L, 2, 1),
           last = (size_t)luaL_optinteger(L, 3, (lua_Integer)size);
    luaL_argcheck(L, first >= 1 && first <= size + 1, 2, "beyond the bytes");
    luaL_argcheck(L, last <= size && last + 1 >= first, 3, "beyond the bytes");
    lua_settop(L, 1);
    lua_pushboolean(L, 1);
    int rc = lmpe_decode(L, bytes + first - 1, last + 1 - first, &n, LMPE_DECODE_OUTSIDE);
    if (rc == MPE_OK && n == 1)
        return 2;
    if (rc == MPE_OK)
        lua_pushliteral(L, "the message has not one value");
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

static int
decode_args(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    size_t n;
    const char *bytes = luaL_checklstring(L, 1, &n);
    return lmpe_decode_values(L, S, bytes, n, mpe_pin_mark(S->e));
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"encode_args", encode_args},
                                         {"encode_value", encode_value},
                                         {"encode_outside", encode_outside},
                                         {"decode_outside", decode_outside},
                                         {"decode_args", decode_args},
                                         {"unsent", unsent},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_message_module = {.open = on_open};
