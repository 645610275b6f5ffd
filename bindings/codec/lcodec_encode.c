/* SPDX-License-Identifier: MIT */
/*
** lcodec_encode.c - any Lua value as a message, through the Lua API.
**
** A worklist of frames replaces recursion. Each frame is a table or function whose contents are
** being written; it has that object, and a table's current key and value, on the Lua stack. All
** access is raw: no metamethod runs. Tables, functions, upvalue cells and strings are remembered
** by address, so a repeated one becomes a reference.
**
** Tables that may be plain are tried by the fast path of lcodec_plain.c. If that fails, half a
** table is left in the message; then the whole message starts again without it, once.
**
** Functions of this file that return int return 0 or a negative code with a message pushed; then
** only lmpe_encode restores the stack.
*/
#include <stdlib.h>
#include <string.h>

#include "codec/lcodec_int.h"
#include "base/lmodules.h"

#define STACK_ROOM 40 /* more than any step of the codec uses */
#define RUN 16        /* elements of a list that are examined together */
#define RETRY 1       /* the message holds half of a table: start again, without the fast path */

int
lmpe_encode_no_memory(lmpe_encoder *e)
{
    return lmpe_encode_fail(e, MPE_ENOMEM, "not enough memory");
}

int
lmpe_encode_checked(lmpe_encoder *e, int rc)
{
    return rc == MPE_OK ? MPE_OK : lmpe_encode_no_memory(e);
}

static size_t
offset(const lmpe_encoder *e)
{
    return e->out->len - e->start;
}

int
lmpe_encode_count(lmpe_encoder *e, uint8_t tag, uint64_t n)
{
    uint8_t *start = mpe_buf_room(e->out, 1 + MPE_WIRE_VARINT_MAX);

    if (start == NULL)
        return MPE_ENOMEM;
    *start = tag;
    e->out->len += (size_t)(mpe_wire_write_varint(start + 1, n) - start);
    return MPE_OK;
}

int
lmpe_encode_tag(lmpe_encoder *e, uint8_t tag)
{
    return mpe_buf_append(e->out, &tag, 1);
}

/* ---------------------------------------------------------------------------- references */

int
lmpe_encode_ref(lmpe_encoder *e, lmpe_memo_slot *slot)
{
    uint32_t at = slot->at;
    uint8_t *tag;

    if (slot->gen & 1) {
        if (at < MPE_WIRE_NEAR)
            return lmpe_encode_tag(e, (uint8_t)(MPE_TAG_REF0 + at));
        return lmpe_encode_count(e, MPE_TAG_REF, at);
    }
    tag = e->out->data + e->start + at;
    *tag |= *tag < MPE_TAG_REF0 ? 0x20 : 1;
    slot->at = e->memo.numbers++;
    slot->gen |= 1;
    return lmpe_encode_count(e, MPE_TAG_REFNEW, at);
}

int
lmpe_encode_string(lmpe_encoder *e, const void *key, const char *bytes, size_t n)
{
    lmpe_memo_slot *slot = lmpe_memo_find(&e->memo, key);

    if (lmpe_memo_live(&e->memo, slot))
        return lmpe_encode_ref(e, slot);
    if (offset(e) <= INT32_MAX && lmpe_memo_set(&e->memo, slot, key, offset(e)) != MPE_OK)
        return MPE_ENOMEM;
    return mpe_wire_put_str(e->out, bytes, n);
}

int
lmpe_encode_met(lmpe_encoder *e, const void *object)
{
    lmpe_memo_slot *slot = lmpe_memo_find(&e->memo, object);

    if (lmpe_memo_live(&e->memo, slot))
        return lmpe_encode_ref(e, slot) == MPE_OK ? 1 : lmpe_encode_no_memory(e);
    return 0;
}

int
lmpe_encode_remember(lmpe_encoder *e, const void *object)
{
    lmpe_memo_slot *slot = lmpe_memo_find(&e->memo, object);

    if (offset(e) > INT32_MAX)
        return lmpe_encode_fail(e, MPE_ERANGE, "cannot send 2 GiB or more at once");
    return lmpe_encode_checked(e, lmpe_memo_set(&e->memo, slot, object, offset(e)));
}

/* -------------------------------------------------------------------------------- frames */

int
lmpe_encode_push(lmpe_encoder *e, int kind, size_t n)
{
    lmpe_frame *f;

    if (e->depth == e->frames_cap) {
        size_t cap = e->frames_cap ? e->frames_cap * 2 : 32;
        f = realloc(e->frames, cap * sizeof *f);
        if (f == NULL)
            return lmpe_encode_no_memory(e);
        e->frames = f;
        e->frames_cap = cap;
    }
    if (e->depth >= LMPE_MAX_DEPTH || !lua_checkstack(e->L, STACK_ROOM))
        return lmpe_encode_fail(e, MPE_ERANGE, "cannot send tables nested so deep");
    f = &e->frames[e->depth++];
    *f = (lmpe_frame){.idx = lua_gettop(e->L), .kind = (uint8_t)kind, .n = n};
    return MPE_OK;
}

static void
pop_frame(lmpe_encoder *e)
{
    e->depth--;
    lua_settop(e->L, e->frames[e->depth].idx - 1);
}

/* -------------------------------------------------------------------------------- values */

static inline int
is_scalar(int type)
{
    return type <= LUA_TSTRING && type != LUA_TLIGHTUSERDATA;
}

/* Writes the number at idx to p, where there is room for it. */
static inline uint8_t *
write_number(lua_State *L, int idx, uint8_t *p)
{
    if (lua_isinteger(L, idx))
        return mpe_wire_write_int(p, lua_tointegerx(L, idx, NULL));
    return mpe_wire_write_float(p, lua_tonumberx(L, idx, NULL));
}

/* The scalar at idx.  Errors: ENOMEM. */
static int
put_scalar(lmpe_encoder *e, int idx, int type)
{
    mpe_buf *b = e->out;
    uint8_t *p;
    const char *s;
    size_t n;

    if (type == LUA_TSTRING) {
        s = lua_tolstring(e->L, idx, &n);
        return lmpe_encode_string(e, s, s, n);
    }
    p = mpe_buf_room(b, MPE_WIRE_SCALAR_MAX);
    if (p == NULL)
        return MPE_ENOMEM;
    if (type == LUA_TNUMBER)
        p = write_number(e->L, idx, p);
    else if (type == LUA_TBOOLEAN)
        *p++ = lua_toboolean(e->L, idx) ? MPE_TAG_TRUE : MPE_TAG_FALSE;
    else
        *p++ = MPE_TAG_NIL;
    b->len = (size_t)(p - b->data);
    return MPE_OK;
}

/* The table at the top, by the fast path if it is plain; RETRY when it turned out not to be. */
static int
put_table(lmpe_encoder *e)
{
    size_t before = e->out->len;
    int rc;

    if (!e->may_be_plain)
        return lmpe_encode_table(e);
    rc = lmpe_encode_plain(e, lua_topointer(e->L, -1));
    if (rc < 0)
        return lmpe_encode_no_memory(e);
    if (rc == 0)
        return e->out->len == before ? lmpe_encode_table(e) : RETRY;
    lua_pop(e->L, 1);
    return MPE_OK;
}

/* Writes the value at the top: a scalar is popped, a container becomes a frame. */
static int
put_value(lmpe_encoder *e)
{
    int rc, type = lua_type(e->L, -1);

    switch (type) {
    case LUA_TTABLE:
        return put_table(e);
    case LUA_TFUNCTION:
        return lmpe_encode_function(e);
    case LUA_TUSERDATA:
        return lmpe_encode_userdata(e);
    case LUA_TLIGHTUSERDATA:
        return lmpe_encode_fail(e, MPE_ETYPE, "cannot send a light userdata");
    case LUA_TTHREAD:
        return lmpe_encode_fail(e, MPE_ETYPE, "cannot send a coroutine");
    default:
        rc = put_scalar(e, -1, type);
        lua_pop(e->L, 1);
        return lmpe_encode_checked(e, rc);
    }
}

/* ---------------------------------------------------------------------------- the worklist */

static int
is_element(lua_State *L, int idx, size_t n)
{
    return lua_isinteger(L, idx) && (lua_Unsigned)lua_tointegerx(L, idx, NULL) - 1 < n;
}

/*
** Pushes the next elements, up to RUN of them or the first that is no scalar.  The result is the
** number of scalars.  The element that is no scalar, if there is one, is at the top.
*/
static int
push_run(lua_State *L, const lmpe_frame *f, uint8_t types[RUN])
{
    size_t left = f->n - f->i;
    int i, n = left < RUN ? (int)left : RUN;

    for (i = 0; i < n; i++) {
        int type = lua_rawgeti(L, f->idx, (lua_Integer)(f->i + (size_t)i + 1));
        if (!is_scalar(type))
            return i;
        types[i] = (uint8_t)type;
    }
    return n;
}

/* Writes elements: 1 with a container at the top, 0 when all are written, or ENOMEM. */
static int
put_elements(lmpe_encoder *e, lmpe_frame *f)
{
    lua_State *L = e->L;
    uint8_t types[RUN];
    int i, n, rc = MPE_OK, base = lua_gettop(L) + 1;

    while (f->i < f->n && rc == MPE_OK) {
        n = push_run(L, f, types);
        for (i = 0; i < n && rc == MPE_OK; i++)
            rc = put_scalar(e, base + i, types[i]);
        f->i += (size_t)n;
        if (lua_gettop(L) == base + n) {
            f->i++;
            lua_copy(L, -1, base);
            lua_settop(L, base);
            return rc == MPE_OK ? 1 : rc;
        }
        lua_settop(L, base - 1);
    }
    return rc;
}

/*
** Writes the pairs after the key at the top: 1 when one has a container, which f->phase says to be
** its key or its value; 0 when all are written; or ENOMEM.
*/
static int
put_pairs(lmpe_encoder *e, lmpe_frame *f)
{
    lua_State *L = e->L;
    int rc = MPE_OK, key = f->idx + 1, value = f->idx + 2;

    while (rc == MPE_OK && lua_next(L, f->idx)) {
        int type = lua_type(L, key);
        if (type != LUA_TNUMBER || !is_element(L, key, f->n)) {
            f->npairs++;
            f->phase = LMPE_AT_KEY;
            if (!is_scalar(type))
                return 1;
            rc = put_scalar(e, key, type);
            f->phase = LMPE_AT_VALUE;
            type = lua_type(L, value);
            if (rc == MPE_OK && !is_scalar(type))
                return 1;
            if (rc == MPE_OK)
                rc = put_scalar(e, value, type);
        }
        lua_settop(L, key);
    }
    return rc;
}

static int
end_table(lmpe_encoder *e, lmpe_frame *f)
{
    int rc = mpe_wire_end_table(e->out, f->mark, f->npairs);

    if (rc != MPE_OK)
        return lmpe_encode_no_memory(e);
    pop_frame(e);
    return MPE_OK;
}

/* Goes on with a table until a container opens a frame, or to its end. */
static int
step_table(lmpe_encoder *e, lmpe_frame *f)
{
    lua_State *L = e->L;
    int rc;

    if (f->phase == LMPE_AT_KEY) { /* the key was a container: its value is next */
        f->phase = LMPE_AT_VALUE;
        return put_value(e);
    }
    if (f->phase == LMPE_AT_LIST) {
        rc = put_elements(e, f);
        if (rc != 0)
            return rc > 0 ? put_value(e) : lmpe_encode_no_memory(e);
        lua_pushnil(L);
    }
    rc = put_pairs(e, f);
    if (rc < 0)
        return lmpe_encode_no_memory(e);
    if (rc == 0)
        return end_table(e, f);
    if (f->phase == LMPE_AT_KEY)
        lua_pushvalue(L, -2); /* a copy: the key itself stays for lua_next */
    return put_value(e);
}

/*
** The value of an upvalue, at the top.  An _ENV that only looks like the globals, a table with a
** metatable of which the receiver knows nothing, becomes the receiver's globals, and so does that of the
** library's own functions.
*/
static int
put_upvalue(lmpe_encoder *e, const char *name)
{
    if (strcmp(name, "_ENV") == 0 && lua_type(e->L, -1) == LUA_TTABLE &&
        (lmpe_encode_is_strange(e) || lmpe_is_library_env(e->L, -1))) {
        lua_pop(e->L, 1);
        return lmpe_encode_checked(e, lmpe_encode_tag(e, MPE_TAG_GLOBALS));
    }
    return put_value(e);
}

static int
step_function(lmpe_encoder *e, lmpe_frame *f)
{
    lua_State *L = e->L;
    lmpe_memo_slot *slot;
    const void *cell;

    if (f->i == f->n) {
        pop_frame(e);
        return MPE_OK;
    }
    f->i++;
    cell = lua_upvalueid(L, f->idx, (int)f->i);
    slot = lmpe_memo_find(&e->memo, cell);
    if (lmpe_memo_live(&e->memo, slot))
        return lmpe_encode_checked(e, lmpe_encode_count(e, MPE_TAG_CELLREF, slot->at));
    if (lmpe_memo_set(&e->memo, slot, cell, e->cells++) != MPE_OK ||
        lmpe_encode_tag(e, MPE_TAG_CELL) != MPE_OK)
        return lmpe_encode_no_memory(e);
    return put_upvalue(e, lua_getupvalue(L, f->idx, (int)f->i));
}

static int
run(lmpe_encoder *e)
{
    int rc = MPE_OK;

    while (rc == MPE_OK && e->depth > 0) {
        lmpe_frame *f = &e->frames[e->depth - 1];
        rc = f->kind == LMPE_FRAME_TABLE ? step_table(e, f) : step_function(e, f);
    }
    return rc;
}

void
lmpe_encode_take_back(lmpe_encoder *e)
{
    if (e->passed > 0)
        lmpe_codec_hooks_now()->take_back(e->L, e->passed);
    e->passed = 0;
}

static int
run_all(lmpe_encoder *e)
{
    int rc = lmpe_memo_start(&e->memo);

    lmpe_encode_take_back(e);
    e->depth = 0;
    e->cells = 0;
    e->has_handles = 0;
    e->current = e->first;
    if (rc != MPE_OK)
        return lmpe_encode_no_memory(e);
    for (; rc == MPE_OK && e->current < e->first + e->n; e->current++) {
        lua_pushvalue(e->L, e->current);
        rc = put_value(e);
        if (rc == MPE_OK)
            rc = run(e);
        if (rc != MPE_OK)
            return rc;
    }
    return MPE_OK;
}

int
lmpe_write_values(lmpe_encoder *e)
{
    int rc, top = lua_gettop(e->L);

    e->may_be_plain = 1;
    rc = run_all(e);
    if (rc == RETRY) {
        e->out->len = e->start;
        lua_settop(e->L, top);
        e->may_be_plain = 0;
        rc = run_all(e);
    }
    if (e->opts != NULL)
        e->opts->has_handles = e->has_handles;
    return rc;
}
