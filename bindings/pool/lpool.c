/* SPDX-License-Identifier: MIT
 *
 * lpool.c - the pool's side of what lpool.h describes: it puts tasks and makes the owner's calls on the
 * leases of its workers; lpool_results.c receives results. mpengine/pool.lua and mpengine/pool/ decide
 * what to do when.
 */
#include "base/lobject.h"
#include "codec/lmessage.h"
#include "codec/lcodec.h"
#include "pool/lpool.h"

#include <signal.h>
#include <string.h>

/* ---- the control ---- */

mpe_leases
lmpe_check_control(lua_State *L, int idx)
{
    mpe_leases b = {NULL, 0, 0};
    lmpe_box *box = lmpe_test_any(L, idx);
    int is_board = box && box->o && mpe_lease_board(box->S->e, box->o, &b) == MPE_OK;
    luaL_argcheck(L, is_board, idx, "a pool's control expected");
    return b;
}

uint64_t
lmpe_check_worker(lua_State *L, int idx, const mpe_leases *b)
{
    return (uint64_t)lmpe_check_count(L, idx, 1, (lua_Integer)b->workers, "worker") - 1;
}

static uint64_t
check_place(lua_State *L, int idx, const mpe_leases *b)
{
    return (uint64_t)lmpe_check_count(L, idx, 1, (lua_Integer)b->places, "place") - 1;
}

mpe_lease_buffer
lmpe_check_buffer(lua_State *L, int idx)
{
    mpe_lease_buffer buffer = {NULL, 0};
    lmpe_box *b = lmpe_check_kind(L, idx, MPE_KIND_RAW_ARRAY);
    luaL_argcheck(L, mpe_lease_buffer_of(b->S->e, b->o, &buffer) == MPE_OK, idx,
                  "a worker's buffer expected");
    return buffer;
}

/* pool_control(workers, places, name) -> a control on which no worker has taken anything */
static int
pool_control(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    mpe_object *o = NULL;
    int rc, tries = 0;
    uint32_t workers = (uint32_t)luaL_checkinteger(L, 1),
             places = (uint32_t)luaL_checkinteger(L, 2);
    lua_settop(L, 3);
    do
        rc = mpe_lease_create(S->e, workers, places, &o);
    while (lmpe_try_again(L, S, rc, &tries));
    return lmpe_created(L, S, rc, &o, "Pool", 3);
}

/* ---- heads ---- */

size_t
lmpe_pool_head(uint8_t out[HEAD_MAX], const void *head, size_t size)
{
    size_t n = mpe_wire_str_header(out, size);
    memcpy(out + n, head, size);
    return n + size;
}

int
lmpe_pool_read_head(void *head, size_t head_size, const uint8_t **data, size_t *size)
{
    uint8_t expected[MPE_WIRE_STR_HEADER];
    size_t n = mpe_wire_str_header(expected, head_size);
    if (*size < n + head_size || memcmp(*data, expected, n) != 0)
        return 0;
    memcpy(head, *data + n, head_size);
    *data += n + head_size;
    *size -= n + head_size;
    return 1;
}

/* ---- tasks ---- */

static int
is_scalar(lua_State *L, int idx)
{
    int type = lua_type(L, idx);
    return type <= LUA_TBOOLEAN || type == LUA_TNUMBER || type == LUA_TSTRING;
}

/* Encodes the items first .. first + n - 1 of the table at idx, which are pushed and stay;
 * returns whether there are handles among them. */
static int
encode_items(lua_State *L, lmpe *S, int idx, uint32_t mode, const char *where)
{
    char name[32];
    const char *const names[] = {name};
    lua_Integer first = luaL_checkinteger(L, idx + 1);
    int n = (int)lmpe_check_count(L, idx + 2, 0, 1000000, "number of items"), handles = 0;
    luaL_checkstack(L, n + 8, "too many items");
    int base = lua_gettop(L) + 1;
    for (int i = 0; i < n; i++)
        lua_geti(L, idx, first + i);
    lmpe_encode_opts opts = {
        .root = mode & MODE_APPLY ? "args" : "items", .in_program = 1, .passes = LMPE_PASS_ONCE};
    if (!(mode & MODE_APPLY) && n == 1) {
        snprintf(name, sizeof name, "items[%lld]", (long long)first);
        opts.names = names;
        opts.nnames = 1;
    }
    if (lmpe_try_encode(L, S, base, n, &opts, &handles) < 0)
        luaL_error(L, "%s: %s", where, lua_tostring(L, -1));
    return handles;
}

#define KEPT_MOST 256 /* bytes of scalars that are kept encoded */

/* For a call, the data to put it again with the arguments as they are now: the bytes, and
 * whether objects in them must be kept alive; or nothing for long scalars, and for descriptors, which
 * these bytes have sent. */
static int
push_kept(lua_State *L, int first, const mpe_bytes *bytes, int handles)
{
    int scalars = 1;
    for (int i = first; scalars && i < lua_gettop(L); i++)
        scalars = is_scalar(L, i);
    if (scalars ? bytes->size > KEPT_MOST
                : handles && lmpe_count_descriptors(bytes->data, bytes->size) > 0)
        return 0;
    lua_pushlstring(L, bytes->data, bytes->size);
    lua_pushboolean(L, handles);
    return 2;
}

/* pool_put(queue, control, where, place, function, shared, mode, items, first, count) -> number of
 * the task [, bytes, has objects]. items is a table, or the bytes of an earlier put. */
static int
pool_put(lua_State *L)
{
    lmpe_box *q = lmpe_check_kind(L, 1, MPE_KIND_QUEUE);
    lmpe *S = q->S;
    mpe_leases b = lmpe_check_control(L, 2);
    const char *where = luaL_checkstring(L, 3);
    uint64_t place = check_place(L, 4, &b);
    struct lmpe_task_head head = {.place = (uint32_t)place,
                                  .function = (uint32_t)luaL_checkinteger(L, 5),
                                  .shared = (uint32_t)luaL_checkinteger(L, 6),
                                  .mode = (uint32_t)luaL_checkinteger(L, 7)};
    head.items = head.mode & MODE_APPLY ? 1 : (uint32_t)luaL_checkinteger(L, 10);
    uint8_t bytes[HEAD_MAX];
    mpe_bytes parts[2] = {{bytes, lmpe_pool_head(bytes, &head, sizeof head)}};
    int handles = 1, kept = lua_type(L, 8) == LUA_TSTRING;
    if (kept) {
        parts[1].data = lua_tolstring(L, 8, &parts[1].size);
    } else {
        lua_settop(L, 10);
        handles = encode_items(L, S, 8, head.mode, where);
        parts[1] = (mpe_bytes){S->scratch->data, S->scratch->len};
    }
    uint32_t number, got;
    int rc, tries = 0;
    do { /* a finalizer may put another task in between */
        mpe_queue_seqs(S->e, q->o, &number, &got);
        mpe_lease_offer(&b, place);
        rc = mpe_queue_put(S->e, q->o, parts, 2, handles);
    } while (lmpe_try_again(L, S, rc, &tries));
    if (rc != MPE_OK && handles)
        lmpe_unsent(S, parts[1].data, parts[1].size);
    lmpe_sent(L, S);
    if (rc == MPE_ECLOSED)
        return luaL_error(L, "%s: the pool is closed", where);
    if (rc != MPE_OK)
        return lmpe_raise(L, rc, where);
    lua_pushinteger(L, number);
    if (kept || !(head.mode & MODE_APPLY))
        return 1;
    return 1 + push_kept(L, 11, &parts[1], handles);
}

/* ---- workers ---- */

/* pool_reclaim(control, place) -> how many items were claimed; the others return to the caller */
static int
pool_reclaim(lua_State *L)
{
    mpe_leases b = lmpe_check_control(L, 1);
    lua_pushinteger(L, mpe_lease_reclaim(&b, check_place(L, 2, &b)));
    return 1;
}

static void
push_age(lua_State *L, const mpe_lease_run *run)
{
    lua_pushnumber(L, (lua_Number)(mpe_now() - run->since) / 1e9);
}

/* pool_lease(queue, control, worker) -> number of the task it took last and seconds since then,
 * or nothing: none, or a task that had not left the queue yet */
static int
pool_lease(lua_State *L)
{
    lmpe_box *q = lmpe_check_kind(L, 1, MPE_KIND_QUEUE);
    mpe_leases b = lmpe_check_control(L, 2);
    mpe_lease_run run;
    if (mpe_lease_taken(q->S->e, &b, lmpe_check_worker(L, 3, &b), q->o, &run) != MPE_OK)
        return 0;
    lua_pushinteger(L, run.number);
    push_age(L, &run);
    return 2;
}

/* pool_counts(control, worker) -> items it has run, seconds it was busy */
static int
pool_counts(lua_State *L)
{
    mpe_leases b = lmpe_check_control(L, 1);
    uint64_t items, busy_ns;
    mpe_lease_counts(&b, lmpe_check_worker(L, 2, &b), &items, &busy_ns);
    lua_pushinteger(L, (lua_Integer)items);
    lua_pushnumber(L, (lua_Number)busy_ns / 1e9);
    return 2;
}

/* pool_forget(control, worker, buffer): its place is for a new worker */
static int
pool_forget(lua_State *L)
{
    mpe_leases b = lmpe_check_control(L, 1);
    mpe_lease_buffer buffer = lmpe_check_buffer(L, 3);
    mpe_lease_forget(&b, lmpe_check_worker(L, 2, &b), &buffer);
    return 0;
}

/* pool_sweep(queue): frees objects that were stored and taken out now, instead of at the next
 * sweep */
static int
pool_sweep(lua_State *L)
{
    mpe_sweep(lmpe_check_kind(L, 1, MPE_KIND_QUEUE)->S->e);
    return 0;
}

/* pool_is_ready(control, worker) -> has it begun to take tasks? */
static int
pool_is_ready(lua_State *L)
{
    mpe_leases b = lmpe_check_control(L, 1);
    lua_pushboolean(L, mpe_lease_is_ready(&b, lmpe_check_worker(L, 2, &b)));
    return 1;
}

/* pool_retire(control, worker) -> the signal to send to it: it ends when it has no task */
static int
pool_retire(lua_State *L)
{
    mpe_leases b = lmpe_check_control(L, 1);
    mpe_lease_retire(&b, lmpe_check_worker(L, 2, &b));
    lua_pushinteger(L, STOP_SIGNAL);
    return 1;
}

/* pool_running(control, worker) -> number of its task, item that runs (from 0), seconds since it
 * took the task or began the timed item */
static int
pool_running(lua_State *L)
{
    mpe_leases b = lmpe_check_control(L, 1);
    mpe_lease_run run;
    if (mpe_lease_running(&b, lmpe_check_worker(L, 2, &b), &run) != MPE_OK)
        return 0;
    lua_pushinteger(L, run.number);
    lua_pushinteger(L, run.item);
    push_age(L, &run);
    return 3;
}

/* pool_stop(control, worker, number, item) -> the signal to send to the worker | nil: it no
 * longer runs that item */
static int
pool_stop(lua_State *L)
{
    mpe_leases b = lmpe_check_control(L, 1);
    uint64_t w = lmpe_check_worker(L, 2, &b);
    uint32_t number = (uint32_t)luaL_checkinteger(L, 3), item = (uint32_t)luaL_checkinteger(L, 4);
    if (mpe_lease_stop(&b, w, number, item) == MPE_OK)
        lua_pushinteger(L, STOP_SIGNAL);
    else
        lua_pushnil(L);
    return 1;
}

/* pool_doom(control, worker, number, item) -> true if it still runs that item and will begin no
 * other */
static int
pool_doom(lua_State *L)
{
    mpe_leases b = lmpe_check_control(L, 1);
    uint64_t w = lmpe_check_worker(L, 2, &b);
    uint32_t number = (uint32_t)luaL_checkinteger(L, 3), item = (uint32_t)luaL_checkinteger(L, 4);
    lua_pushboolean(L, mpe_lease_doom(&b, w, number, item) == MPE_OK);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"pool_control", pool_control},
        {"pool_put", pool_put},
        {"pool_reclaim", pool_reclaim},
        {"pool_lease", pool_lease},
        {"pool_counts", pool_counts},
        {"pool_forget", pool_forget},
        {"pool_is_ready", pool_is_ready},
        {"pool_sweep", pool_sweep},
        {"pool_retire", pool_retire},
        {"pool_running", pool_running},
        {"pool_stop", pool_stop},
        {"pool_doom", pool_doom},
        {NULL, NULL},
    };
    lmpe_setfuncs(L, S, functions);
    lmpe_open_pool_results(L, S);
    lmpe_open_pool_worker(L, S);
}

const lmpe_module lmpe_pool_module = {.open = on_open};
