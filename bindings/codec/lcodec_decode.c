/* SPDX-License-Identifier: MIT */
/*
** lcodec_decode.c - a message as Lua values.
**
** A worklist of frames replaces recursion. Each frame is a table or function that still lacks
** contents; it has that object, and a key that waits for its value, on the Lua stack. A complete
** value is delivered to the frame on top.
**
** The bytes are not trusted. Tables are made at the size they claim, so claims must be covered:
** `owed` is the number of values that all open frames still wait for, each at least one byte,
** and never more than the remaining bytes. Marked values go to a table from which references
** take them; the others are not remembered.
*/
#include <math.h>
#include <string.h>

#include "codec/lcodec_int.h"

#define STACK_ROOM 24 /* more than any step of the codec uses */
#define STACK_STEP 64
#define FRAME_STACK 4 /* most slots that a frame keeps */

static size_t
left(const lmpe_decoder *d)
{
    return (size_t)(d->r.end - d->r.at);
}

/* -------------------------------------------------------------------------------- frames */

static int
push_frame(lmpe_decoder *d, int kind, const mpe_wire_item *item, size_t owes)
{
    lmpe_dframe *f;

    /* Each claimed value must be covered by at least one byte. */
    d->owed += owes;
    if (d->owed > left(d))
        return lmpe_decode_damaged(d);
    if (lmpe_decode_grow(&d->frames, &d->frames_cap, d->depth, sizeof *d->frames) != MPE_OK)
        return lmpe_decode_no_memory(d);
    f = &d->frames[d->depth++];
    *f = (lmpe_dframe){.idx = lua_gettop(d->L), .kind = (uint8_t)kind, .n = item->n, .owes = owes};
    return MPE_OK;
}

/* Room for one more frame, and for all that a step pushes beside it. */
static int
need_stack(lmpe_decoder *d)
{
    if (d->room < STACK_ROOM + FRAME_STACK) {
        if (!lua_checkstack(d->L, STACK_ROOM + STACK_STEP))
            return lmpe_decode_fail(d->L, MPE_ERANGE, "tables nested too deep");
        d->room = STACK_ROOM + STACK_STEP;
    }
    d->room -= FRAME_STACK;
    return MPE_OK;
}

static int
size_hint(size_t n)
{
    return n < (1u << 30) ? (int)n : 1 << 30;
}

/* Stack index of a class known here, or of the name of an unknown one. */
static int
class_of(const lmpe_dframe *f)
{
    return f->idx - f->has_meta - 1;
}

static int
is_known_class(lmpe_decoder *d, const lmpe_dframe *f)
{
    return lua_type(d->L, class_of(f)) == LUA_TTABLE;
}

static int
begin_table(lmpe_decoder *d, const mpe_wire_item *item, int has_class, int has_meta)
{
    /* An open table has more than half of the pairs it asks room for. */
    size_t owes = item->n + (item->open ? item->npairs : 2 * item->npairs);
    lmpe_dframe *f;
    int rc = need_stack(d);

    if (rc != MPE_OK)
        return rc;
    lua_pushnil(d->L); /* the table's place: it is made after its claim is checked */
    rc = push_frame(d, LMPE_FRAME_TABLE, item, owes);
    if (rc != MPE_OK)
        return rc;
    lua_createtable(d->L, size_hint(item->n), size_hint(item->npairs));
    lua_replace(d->L, -2);
    f = &d->frames[d->depth - 1];
    f->npairs = item->npairs;
    f->open = (uint8_t)item->open;
    f->has_meta = (uint8_t)has_meta;
    f->has_class = (uint8_t)has_class;
    if (has_class && !is_known_class(d, f))
        lmpe_decode_new_class(d, class_of(f));
    if (!item->marked)
        return MPE_OK;
    rc = lmpe_decode_reserve(d, item->at);
    if (rc != MPE_OK)
        return rc;
    lua_pushvalue(d->L, has_class && is_known_class(d, f) ? class_of(f) : f->idx);
    lua_rawseti(d->L, d->keep + 1, (lua_Integer)d->nmarks);
    return MPE_OK;
}

/* --------------------------------------------------------------- metatables and functions */

/* What identifies a metatable, then the table that gets it. */
static int
begin_meta(lmpe_decoder *d, int has_class)
{
    lua_State *L = d->L;
    mpe_wire_item item;
    int rc = mpe_wire_read(&d->r, &item) == 1 ? need_stack(d) : lmpe_decode_damaged(d);

    if (rc == MPE_OK)
        rc = item.kind == MPE_WIRE_MODULE ? lmpe_decode_module(d, &item)
                                          : lmpe_decode_name(d, &item);
    if (rc != MPE_OK)
        return rc;
    if (lua_type(L, -1) == LUA_TSTRING) {
        if (lmpe_decode_class(d) != LUA_TTABLE)
            return lmpe_decode_fail(L, MPE_ETYPE,
                                    "metatable '%s' is not registered here (see "
                                    "mp.register)",
                                    lua_tostring(L, -2));
        lua_remove(L, -2);
    } else if (!lmpe_decode_is_module(d, &item)) {
        return lmpe_decode_damaged(d);
    }
    if (lua_type(L, -1) != LUA_TTABLE)
        return lmpe_decode_fail(L, MPE_ETYPE, "a metatable in the message is no table here");
    if (mpe_wire_read(&d->r, &item) != 1 || item.kind != MPE_WIRE_TABLE)
        return lmpe_decode_damaged(d);
    return begin_table(d, &item, has_class, 1);
}

/* The name of a registered metatable, then its contents. */
static int
begin_class(lmpe_decoder *d)
{
    mpe_wire_item item;
    int rc = mpe_wire_read(&d->r, &item) == 1 ? need_stack(d) : lmpe_decode_damaged(d);

    if (rc == MPE_OK)
        rc = lmpe_decode_name(d, &item);
    if (rc != MPE_OK)
        return rc;
    if (lua_type(d->L, -1) != LUA_TSTRING)
        return lmpe_decode_damaged(d);
    if (lmpe_decode_class(d) == LUA_TTABLE)
        lua_remove(d->L, -2);
    else
        lua_pop(d->L, 1);
    if (mpe_wire_read(&d->r, &item) != 1)
        return lmpe_decode_damaged(d);
    if (item.kind == MPE_WIRE_META)
        return begin_meta(d, 1);
    return item.kind == MPE_WIRE_TABLE ? begin_table(d, &item, 1, 0) : lmpe_decode_damaged(d);
}

static int
begin_function(lmpe_decoder *d, const mpe_wire_item *item)
{
    lua_Debug ar;
    size_t place;
    int rc = need_stack(d);

    /* Remembered in any case, since its upvalues may be referred to again. */
    if (rc == MPE_OK)
        rc = lmpe_decode_reserve(d, item->at);
    place = d->nmarks;
    if (rc == MPE_OK)
        rc = lmpe_decode_code(d);
    if (rc != MPE_OK)
        return rc;
    lmpe_decode_keep(d, place);
    lua_pushvalue(d->L, -1);
    lua_getinfo(d->L, ">u", &ar);
    if (ar.nups != item->n)
        return lmpe_decode_damaged(d);
    rc = push_frame(d, LMPE_FRAME_FUNC, item, item->n);
    if (rc == MPE_OK)
        d->frames[d->depth - 1].memo = (uint32_t)place;
    return rc;
}

/* ------------------------------------------------------------------------------- values */

static int
whole(int rc)
{
    return rc == MPE_OK ? 1 : rc;
}

/* Reads a value and pushes it: 1 when it is whole, 0 when a frame was opened for it. */
static int
push_value(lmpe_decoder *d)
{
    lua_State *L = d->L;
    mpe_wire_item item;

    if (mpe_wire_read(&d->r, &item) != 1)
        return lmpe_decode_damaged(d);
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
    case MPE_WIRE_STR:
        return whole(lmpe_decode_str(d, &item));
    case MPE_WIRE_REF:
        return whole(lmpe_decode_ref(d, item.n));
    case MPE_WIRE_REFNEW:
        return whole(lmpe_decode_refnew(d, item.n));
    case MPE_WIRE_GLOBALS:
        if (d->flags & LMPE_DECODE_OUTSIDE)
            return lmpe_decode_fail(L, MPE_EPERM, "the message has the globals");
        lua_pushglobaltable(L);
        return 1;
    case MPE_WIRE_MODULE:
        return whole(lmpe_decode_module(d, &item));
    case MPE_WIRE_HANDLE:
        return whole(lmpe_decode_handle(d, &item));
    case MPE_WIRE_TABLE:
        return begin_table(d, &item, 0, 0);
    case MPE_WIRE_META:
        return begin_meta(d, 0);
    case MPE_WIRE_CLASS:
        return begin_class(d);
    case MPE_WIRE_FUNC:
        return begin_function(d, &item);
    default:
        return lmpe_decode_damaged(d);
    }
}

static int
is_no_key(lua_State *L)
{
    return lua_isnil(L, -1) ||
           (lua_type(L, -1) == LUA_TNUMBER && isnan((double)lua_tonumber(L, -1)));
}

/* Gives the value at the top to the frame on top. */
static int
deliver(lmpe_decoder *d)
{
    lua_State *L = d->L;
    lmpe_dframe *f = &d->frames[d->depth - 1];

    if (f->kind == LMPE_FRAME_FUNC) {
        lua_setupvalue(L, f->idx, (int)++f->i);
    } else if (f->i < f->n) {
        lua_rawseti(L, f->idx, (lua_Integer)++f->i);
    } else if (f->has_key) {
        lua_rawset(L, f->idx);
        f->has_key = 0;
        f->npairs--;
    } else if (is_no_key(L)) {
        return lmpe_decode_damaged(d);
    } else {
        f->has_key = 1;
    }
    return MPE_OK;
}

/* The upvalue that comes next: 1 when its value follows, 0 when it was seen before. */
static int
next_cell(lmpe_decoder *d, lmpe_dframe *f)
{
    lua_State *L = d->L;
    mpe_wire_item item;
    const lmpe_cell *cell;

    if (mpe_wire_read(&d->r, &item) != 1)
        return lmpe_decode_damaged(d);
    if (item.kind == MPE_WIRE_CELL) {
        if (lmpe_decode_grow(&d->cells, &d->cells_cap, d->ncells, sizeof *d->cells) != MPE_OK)
            return lmpe_decode_no_memory(d);
        d->cells[d->ncells++] = (lmpe_cell){f->memo, (uint32_t)f->i + 1};
        return 1;
    }
    if (item.kind != MPE_WIRE_CELLREF || item.n >= d->ncells)
        return lmpe_decode_damaged(d);
    cell = &d->cells[item.n];
    lua_rawgeti(L, d->keep + 1, cell->memo);
    lua_upvaluejoin(L, f->idx, (int)++f->i, -1, (int)cell->upvalue);
    lua_pop(L, 1);
    return 0;
}

/* Whether the frame on top is complete. */
static int
is_complete(lmpe_decoder *d, const lmpe_dframe *f)
{
    if (f->i < f->n || f->has_key)
        return 0;
    if (f->kind == LMPE_FRAME_FUNC)
        return 1;
    if (!f->open)
        return f->npairs == 0;
    if (left(d) == 0 || *d->r.at != MPE_TAG_END)
        return 0;
    d->r.at++;
    return 1;
}

/* A class that is known here is used as it is here: its contents in the message are ignored. */
static void
end_class(lmpe_decoder *d)
{
    lua_State *L = d->L;

    if (lua_type(L, -2) == LUA_TTABLE)
        lua_pop(L, 1);
    else
        lua_remove(L, -2);
}

static void
end_frame(lmpe_decoder *d)
{
    lua_State *L = d->L;
    const lmpe_dframe *f = &d->frames[--d->depth];

    d->owed -= f->owes;
    d->room += FRAME_STACK;
    if (f->has_meta) {
        lua_pushvalue(L, -2);
        lua_setmetatable(L, -2);
        lua_remove(L, -2);
    }
    if (f->has_class)
        end_class(d);
}

/* mpe_wire_read_int where 8 bytes can be read: one load instead of a copy of unknown length. */
static inline int64_t
read_wide_int(uint8_t tag, const uint8_t *p, unsigned width)
{
    uint64_t u;

    memcpy(&u, p, 8);
    u = mpe_wire_le64(u) & (UINT64_MAX >> (64 - 8 * width));
    if (tag == MPE_TAG_INT6)
        return (int64_t)(u << 16) >> 16;
    return (int64_t)(tag >= MPE_TAG_NEG1 && tag < MPE_TAG_INT6 ? ~u : u);
}

/*
** The fast path for the most frequent table contents. Pushes the next value if it is a number, a
** boolean, nil, an unmarked short string or a near reference: 1; otherwise nothing is read: 0.
*/
static int
push_simple(lmpe_decoder *d)
{
    lua_State *L = d->L;
    const uint8_t *p = d->r.at;
    size_t n = left(d);
    uint8_t tag;

    if (n < MPE_WIRE_SCALAR_MAX)
        return 0;
    tag = *p++;
    if (tag < MPE_TAG_STR0) {
        lua_pushinteger(L, tag);
    } else if (tag < MPE_TAG_STR0_MARKED) {
        size_t len = tag - MPE_TAG_STR0;
        if (len >= n)
            return 0;
        lua_pushlstring(L, (const char *)p, len);
        p += len;
    } else if (tag >= MPE_TAG_POS1 && tag <= MPE_TAG_INT8) {
        unsigned width = mpe_wire_int_width(tag);
        lua_pushinteger(L, read_wide_int(tag, p, width));
        p += width;
    } else if (tag == MPE_TAG_FLOAT) {
        uint64_t bits = (uint64_t)mpe_wire_read_int(MPE_TAG_INT8, p, 8);
        double f;
        memcpy(&f, &bits, 8);
        lua_pushnumber(L, f);
        p += 8;
    } else if (tag >= MPE_TAG_REF0 && tag < MPE_TAG_NIL &&
               (size_t)(tag - MPE_TAG_REF0) < d->nnumbers) {
        lua_rawgeti(L, d->keep + 1, d->numbers[tag - MPE_TAG_REF0]);
    } else if (tag == MPE_TAG_FALSE || tag == MPE_TAG_TRUE) {
        lua_pushboolean(L, tag == MPE_TAG_TRUE);
    } else {
        return 0;
    }
    d->r.at = p;
    return 1;
}

/* The same for a key: a float takes the slow path, which refuses NaN. */
static int
push_simple_key(lmpe_decoder *d)
{
    const uint8_t *at = d->r.at;

    if (!push_simple(d))
        return 0;
    if (lua_type(d->L, -1) != LUA_TNUMBER || lua_isinteger(d->L, -1))
        return 1;
    lua_pop(d->L, 1);
    d->r.at = at;
    return 0;
}

/* Fills the table on top with elements and counted pairs, as long as they are simple. */
static void
fill(lmpe_decoder *d, lmpe_dframe *f)
{
    lua_State *L = d->L;
    size_t got = f->i;
    size_t pairs = f->npairs;

    while (f->i < f->n && push_simple(d))
        lua_rawseti(L, f->idx, (lua_Integer)++f->i);
    got = f->i - got;
    while (f->i == f->n && pairs > 0 && push_simple_key(d)) {
        got++;
        f->has_key = 1;
        if (!push_simple(d))
            break;
        got++;
        f->has_key = 0;
        lua_rawset(L, f->idx);
        pairs--;
    }
    f->npairs = pairs;
    f->owes -= got;
    d->owed -= got;
}

/* Gives the frame the next of the values it waits for. */
static void
settle(lmpe_decoder *d, lmpe_dframe *f)
{
    if (f->owes > 0) {
        f->owes--;
        d->owed--;
    }
}

/* One value, or the end of a frame: 1 when a complete value is at the top. */
static int
step(lmpe_decoder *d)
{
    lmpe_dframe *f;

    if (d->depth == 0)
        return push_value(d);
    f = &d->frames[d->depth - 1];
    if (f->kind == LMPE_FRAME_TABLE && !f->open && !f->has_key)
        fill(d, f);
    if (is_complete(d, f)) {
        end_frame(d);
        return 1;
    }
    settle(d, f);
    if (f->kind == LMPE_FRAME_FUNC) {
        int rc = next_cell(d, f);
        if (rc <= 0)
            return rc;
    }
    return push_value(d);
}

int
lmpe_read_values(lmpe_decoder *d, int *n)
{
    int rc = MPE_OK;

    d->depth = d->nmarks = d->nnumbers = d->ncells = 0;
    d->room = d->owed = 0;
    for (*n = 0; left(d) > 0 || d->depth > 0;) {
        if (d->depth == 0)
            rc = need_stack(d);
        if (rc == MPE_OK)
            rc = step(d);
        if (rc == 1 && d->depth == 0)
            ++*n;
        else if (rc == 1)
            rc = deliver(d);
        if (rc < 0)
            return rc;
        rc = MPE_OK;
    }
    return MPE_OK;
}
