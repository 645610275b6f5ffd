/* SPDX-License-Identifier: MIT
 *
 * lmpe.c - the core module: one engine per Lua universe, arguments, statuses, encoded values.
 */
#include "lmpe.h"

#include "lmodules.h"

#include "lcodec.h"

#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096
#define FUNCTIONS_ABOUT 180                                    /* in the core module */
#define WHOLE ((sizeof(lmpe) + 1024 + PAGE - 1) / PAGE * PAGE) /* with some room behind it */

uint64_t
lmpe_deadline_in(double seconds)
{
    if (seconds <= 0)
        return MPE_NOW;
    double ns = seconds * (double)MPE_NS_PER_S;
    if (ns > 9e18)
        return MPE_FOREVER;
    uint64_t whole = (uint64_t)ns;
    return mpe_now() + whole + ((double)whole < ns); /* never early */
}

uint64_t
lmpe_given_deadline(lua_State *L, int idx)
{
    if (lua_isnoneornil(L, idx))
        return MPE_FOREVER;
    lua_Number seconds = lua_type(L, idx) == LUA_TNUMBER ? lua_tonumber(L, idx) : -1;
    luaL_argcheck(L, seconds >= 0, idx, "timeout must be a number of seconds, 0 or more");
    return lmpe_deadline_in(seconds);
}

lua_Integer
lmpe_check_count(lua_State *L, int idx, lua_Integer min, lua_Integer max, const char *what)
{
    int ok;
    lua_Integer n = lua_tointegerx(L, idx, &ok);
    if (ok && lua_type(L, idx) == LUA_TNUMBER && n >= min && n <= max)
        return n;
    const char *text = lua_pushfstring(L, "%s must be an integer from %I to %I, got %s", what,
                                       (LUAI_UACINT)min, (LUAI_UACINT)max,
                                       luaL_tolstring(L, idx, NULL));
    return luaL_argerror(L, idx, text);
}

int
lmpe_raise(lua_State *L, int status, const char *where)
{
    const char *text = status == MPE_ESYS && errno ? strerror(errno) : mpe_strerror(status);
    if (where)
        return luaL_error(L, "%s: %s", where, text);
    return luaL_error(L, "%s", text);
}

/* Into a scratch of their own: a finalizer may encode meanwhile. */
int
lmpe_try_encode(lua_State *L, lmpe *S, int first, int n, lmpe_encode_opts *opts, int *handles)
{
    *handles = 0;
    if (S->encoding == LMPE_SCRATCHES) {
        lua_pushliteral(L, "too many finalizers within each other send values");
        return MPE_ENOMEM;
    }
    mpe_buf *out = &S->scratches[S->encoding++];
    mpe_buf_reset(out, 1 << 16);
    int rc = lmpe_encode(L, first, n, out, opts);
    S->encoding--;
    S->scratch = out;
    *handles = opts->has_handles;
    return rc;
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
    lmpe_encode_opts opts = {.root = "args", .names = names, .nnames = leading, .in_program = 1};
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
    lmpe_encode_opts opts = {.names = &root, .nnames = 1, .in_program = 1};
    return encode(L, S, idx, 1, &opts, where);
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
};

/* Decodes a message that lies outside the struct or pins objects, which must be freed whatever
 * happens. */
static int
decode_protected(lua_State *L)
{
    struct large *l = lua_touserdata(L, 1);
    lua_settop(L, 0);
    return lmpe_decode_values(L, l->S, l->m->data, l->m->size, mpe_pin_mark(l->S->e));
}

static int
push_large(lua_State *L, lmpe *S, mpe_message *m)
{
    int top = lua_gettop(L);
    struct large l = {S, m};
    lua_pushcfunction(L, decode_protected);
    lua_pushlightuserdata(L, &l);
    int status = lua_pcall(L, 1, LUA_MULTRET, 0);
    mpe_message_free(S->e, m);
    if (status != LUA_OK)
        return lua_error(L);
    return lua_gettop(L) - top;
}

int
lmpe_push_message(lua_State *L, lmpe *S)
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
        return push_large(L, S, &own);
    return lmpe_decode_values(L, S, own.data, own.size, own.pins);
}

/* encode_args(where, leading, ...) -> bytes: what an argument list becomes, for calls in Lua. */
static int
encode_args(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    const char *where = luaL_checkstring(L, 1);
    int leading = (int)luaL_checkinteger(L, 2);
    luaL_argcheck(L, leading >= 0 && leading <= LMPE_LEADING_MAX, 2, "out of range");
    lmpe_encode_values(L, S, 3, lua_gettop(L) - 2, leading, where);
    lua_pushlstring(L, (const char *)S->scratch->data, S->scratch->len);
    return 1;
}

static int
is_no_blob(void *ud, uint64_t handle)
{
    (void)ud;
    return mpe_handle_kind(handle) != MPE_KIND_BLOB;
}

/* encode_value(where, name, value) -> bytes, are there shared objects in them? Code is none. */
static int
encode_value(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_settop(L, 3);
    lmpe_encode_value(L, S, 3, luaL_checkstring(L, 2), luaL_checkstring(L, 1));
    lua_pushlstring(L, (const char *)S->scratch->data, S->scratch->len);
    lua_pushboolean(L,
                    mpe_wire_scan_handles(S->scratch->data, S->scratch->len, is_no_blob, NULL) > 0);
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

/* is_closed() -> is the Lua state being closed, and the library closed already? */
static int
is_closed(lua_State *L)
{
    lua_pushboolean(L, !lmpe_self_or_closed(L)->e);
    return 1;
}

static int
now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)mpe_now() / (lua_Number)MPE_NS_PER_S);
    return 1;
}

static int
cpu_count(lua_State *L)
{
    lua_pushinteger(L, mpe_cpu_count());
    return 1;
}

/* isatty(fd) -> is it a terminal? */
static int
is_terminal(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

static void
add_violation(const char *what, void *ud)
{
    lua_State *L = ud;
    lua_pushstring(L, what);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

/* check_arena() -> what is wrong with the arena: a list of texts. Only while nobody else works. */
static int
check_arena(lua_State *L)
{
    lua_newtable(L);
    mpe_check_arena(lmpe_self(L)->e, add_violation, L);
    return 1;
}

/* stats() -> totals table, list of objects, list of processes */
static int
stats(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    mpe_stats t;
    mpe_stats_get(S->e, &t);
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, (lua_Integer)t.arena_limit_bytes);
    lua_setfield(L, -2, "limit");
    lua_pushinteger(L, (lua_Integer)t.arena_committed_bytes);
    lua_setfield(L, -2, "committed");
    lua_pushinteger(L, (lua_Integer)t.arena_used_bytes);
    lua_setfield(L, -2, "used");
    lua_newtable(L);
    mpe_object_info info;
    uint32_t at = 0;
    for (lua_Integer n = 1; mpe_object_next(S->e, &at, &info) == MPE_OK; n++) {
        lua_createtable(L, 0, 6);
        lua_pushinteger(L, (lua_Integer)info.handle);
        lua_setfield(L, -2, "handle");
        lua_pushinteger(L, info.kind);
        lua_setfield(L, -2, "kind");
        lua_pushinteger(L, info.holders);
        lua_setfield(L, -2, "holders");
        lua_pushinteger(L, info.waiters);
        lua_setfield(L, -2, "waiters");
        lua_pushinteger(L, (lua_Integer)info.bytes);
        lua_setfield(L, -2, "bytes");
        lua_pushinteger(L, (lua_Integer)info.depth);
        lua_setfield(L, -2, "depth");
        lua_rawseti(L, -2, n);
    }
    lua_newtable(L);
    mpe_slot_info slot;
    at = 0;
    for (lua_Integer n = 1; mpe_slot_next(S->e, &at, &slot) == MPE_OK; n++) {
        lua_createtable(L, 0, 3);
        lua_pushinteger(L, slot.pid);
        lua_setfield(L, -2, "pid");
        lua_pushstring(L, slot.name);
        lua_setfield(L, -2, "name");
        lua_pushboolean(L, slot.sleeping != 0);
        lua_setfield(L, -2, "sleeping");
        lua_rawseti(L, -2, n);
    }
    return 3;
}

/* The memory of the closed states of this thread, for its next ones. Finalizers that run after the state's
 * own may look at it, and no one is told when the last has run. */
static _Thread_local lmpe *spare;

lmpe *
lmpe_raise_closed(lua_State *L)
{
    luaL_error(L, "the library is closed (the Lua state is being closed)");
    return NULL;
}

/* At lua_close, behind all finalizers of what was made after the library. Those of what was made before
 * it come later, and with them all there is of the library, which from here on says that it is closed
 * (lmpe_self) or does what Lua's own functions do. */
static int
state_gc(lua_State *L)
{
    lmpe **box = lmpe_finalized(L, NULL, sizeof *box);
    lmpe *S = box ? *box : NULL;
    if (S && S->e) {
        mpe_engine *e = S->e;
        lmpe_output_flush(S);
        lmpe_program_end(S);
        lmpe_curl_close(S);
        lmpe_objects_close(L);
        lua_pushnil(L);
        lua_setfield(L, LUA_REGISTRYINDEX, "mpengine.state");
        S->e = NULL;
        if (!S->is_guest)
            mpe_close(e);
        for (int i = 0; i < LMPE_SCRATCHES; i++)
            mpe_buf_free(&S->scratches[i]);
        S->spare = spare;
        spare = S;
    }
    return 0;
}

static lmpe *
allocate(void)
{
    lmpe *S = spare;
    if (S)
        spare = S->spare;
    else if (!(S = aligned_alloc(PAGE, WHOLE)))
        return NULL;
    memset(S, 0, WHOLE);
    S->room = (uint8_t *)(S + 1);
    S->room_end = (uint8_t *)S + WHOLE;
    return S;
}

void *
lmpe_place(lmpe *S, size_t size)
{
    void *at = S->room;
    size = (size + 15) / 16 * 16;
    if (size > (size_t)(S->room_end - S->room))
        return calloc(1, size);
    S->room += size;
    return at;
}

/* Raises when one of them is wrong, used or not. */
static void
check_variables(lua_State *L)
{
    char message[200];
    if (mpe_variables_check(message, sizeof message) != MPE_OK)
        luaL_error(L, "mpengine: %s", message);
}

/* variable(name) -> what the environment variable MPENGINE_name says, nil when it is unset or empty */
static int
variable(lua_State *L)
{
    static const char *const names[] = {"SHM_LIMIT", "DEADLOCK", "START_METHOD", "EXECUTABLE",
                                        NULL};
    const char *text;
    uint64_t value;
    if (mpe_variable_get((enum mpe_variable)luaL_checkoption(L, 1, NULL, names), &value, &text) !=
        MPE_OK)
        return 0;
    lua_pushstring(L, text);
    return 1;
}

static lmpe *
new_state(lua_State *L)
{
    lmpe **box = lua_newuserdatauv(L, sizeof *box, 0);
    *box = NULL;
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, state_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_setfield(L, LUA_REGISTRYINDEX, "mpengine.sentinel");
    lmpe *S = allocate();
    if (!S)
        luaL_error(L, "out of memory");
    *box = S;
    for (int i = 0; i < LMPE_SCRATCHES; i++)
        mpe_buf_init(&S->scratches[i]);
    S->scratch = S->scratches;
    lua_rawgeti(L, LUA_REGISTRYINDEX, LUA_RIDX_MAINTHREAD);
    S->main = S->driver = lua_tothread(L, -1);
    lua_pop(L, 1);
    S->e = lmpe_host_engine(L);
    S->is_guest = S->e != NULL;
    int rc = S->is_guest ? MPE_OK : mpe_attach(NULL, &S->e);
    if (rc == MPE_ESTALE) /* who started this process is gone already */
        _exit(1);
    if (S->is_guest || rc == MPE_ENOENT)
        check_variables(L);
    if (rc == MPE_ENOENT) /* no other process of a program has started this one */
        rc = mpe_open(NULL, &S->e);
    if (rc != MPE_OK)
        lmpe_raise(L, rc, "mpengine: cannot make the shared arena, a file of memfd_create");
    lua_pushlightuserdata(L, S);
    lua_setfield(L, LUA_REGISTRYINDEX, "mpengine.state");
    return S;
}

int
luaopen_mpengine_core(lua_State *L)
{
    static const luaL_Reg functions[] = {
        {"encode_args", encode_args},
        {"encode_value", encode_value},
        {"decode_args", decode_args},
        {"is_closed", is_closed},
        {"now", now},
        {"cpu_count", cpu_count},
        {"variable", variable},
        {"stats", stats},
        {"isatty", is_terminal},
        {"check_arena", check_arena},
        {NULL, NULL},
    };
    if (lmpe_push_known(L, "mpengine.core"))
        return 1;
    lmpe_add_modules(L);
    lmpe *S = new_state(L);
    lua_createtable(L, 0, FUNCTIONS_ABOUT);
    lmpe_setfuncs(L, S, functions);
    lmpe_open_object(L, S);
    lmpe_open_sched(L, S);
    lmpe_open_coroutine(L, S);
    lmpe_open_require(L, S);
    lmpe_open_lock(L, S);
    lmpe_open_semaphore(L, S);
    lmpe_open_event(L, S);
    lmpe_open_condition(L, S);
    lmpe_open_barrier(L, S);
    lmpe_open_queue(L, S);
    lmpe_open_array(L, S);
    lmpe_open_dict(L, S);
    lmpe_open_list(L, S);
    lmpe_open_process(L, S);
    lmpe_open_output(L, S);
    lmpe_open_signal(L, S);
    lmpe_open_readline(L, S);
    lmpe_open_wait(L, S);
    lmpe_open_turn(L, S);
    lmpe_open_coqueue(L, S);
    lmpe_open_offload(L, S);
    lmpe_open_names(L, S);
    lmpe_open_http(L, S);
    lmpe_open_poll(L, S);
    lmpe_open_subprocess(L, S);
    lmpe_open_luv(L, S);
    lmpe_open_pool(L, S);
    lmpe_open_pipe(L, S);
    lmpe_open_shm(L, S);
    luaopen_mpengine_codec(L);
    lua_pushvalue(L, -1);
    lmpe_set_loaded(L, "mpengine.codec");
    lua_setfield(L, -2, "codec");
    lua_pushcfunction(L, lmpe_codec_register);
    lua_setfield(L, -2, "register");
    lua_pushliteral(L, MPE_VERSION);
    lua_setfield(L, -2, "version");
    lmpe_copy_globals(L); /* with what has been replaced meanwhile */
    lmpe_push_globals(L);
    lua_setfield(L, -2, "globals");
    lmpe_push_modules(L);
    lua_pushvalue(L, -2);
    lua_setfield(L, -2, "mpengine.core");
    lua_setfield(L, -2, "modules");
    return 1;
}
