/* SPDX-License-Identifier: MIT
 *
 * lselect.c - socket.select after mp.monkey.patch_all(), with LuaSocket's results: of the objects to
 * be read those with input in a buffer come first, all others in the order of their descriptors; each
 * table also has the objects as keys. A call that finds something makes these two tables and no
 * others. One that waits keeps its objects, since the script may change its lists meanwhile.
 */
#include "io/lpoll.h"
#include "io/lsocket.h"
#include "task/lturn.h"

#include <stdlib.h>

/* Upvalues, behind the state. */
enum { STATES = 2, RAISE, LAST = RAISE };

/* The stack: the arguments, then the results and the set. */
enum { RECEIVERS = 1, SENDERS, TIMEOUT, READABLE, WRITABLE, SET };

/* Bits of the place of an object in its list. */
#define SENDS ((uint32_t)1 << 31)

/* ---- the lists ---- */

/* The objects of a list, at most; the list ends at the first nil. */
static lua_Unsigned
count_of(lua_State *L, int list)
{
    if (lua_isnil(L, list))
        return 0;
    if (!luaL_getmetafield(L, list, "__index"))
        return lua_rawlen(L, list);
    lua_pop(L, 1);
    lua_Unsigned n = 0;
    while (lua_geti(L, list, (lua_Integer)n + 1) != LUA_TNIL) {
        lua_pop(L, 1);
        n++;
    }
    lua_pop(L, 1);
    return n;
}

/* Calls the method of the object on top, which stays: 1 with its result pushed; 0: it has none. */
static int
call_method(lua_State *L, const char *name)
{
    if (lua_getfield(L, -1, name) == LUA_TNIL) {
        lua_pop(L, 1);
        return 0;
    }
    lua_pushvalue(L, -2);
    lua_call(L, 1, 1);
    return 1;
}

/* The descriptor of the object on top; negative: it is left out. */
static int
fd_of(lua_State *L)
{
    if (!call_method(L, "getfd"))
        return -1;
    lua_Number fd = lua_isnumber(L, -1) ? lua_tonumber(L, -1) : -1;
    lua_pop(L, 1);
    return fd >= 0 ? (int)fd : -1;
}

/* Has the object on top input in a buffer? */
static int
is_dirty(lua_State *L)
{
    lua_pushvalue(L, -1);
    lua_rawget(L, lua_upvalueindex(STATES));
    const lmpe_socket *s = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (s && s->is_stream)
        return lmpe_socket_available(s) > 0;
    if (!call_method(L, "dirty"))
        return 0;
    int dirty = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return dirty;
}

/* Adds the object on top to a table of results, and pops it. */
static void
add_result(lua_State *L, int results)
{
    lua_Integer n = (lua_Integer)lua_rawlen(L, results) + 1;
    lua_pushvalue(L, -1);
    lua_rawseti(L, results, n);
    lua_pushinteger(L, n);
    lua_rawset(L, results);
}

static void
collect(lua_State *L, lmpe_pollset *set, int list, lua_Unsigned count)
{
    for (lua_Unsigned i = 1; i <= count; i++) {
        if (lua_geti(L, list, (lua_Integer)i) == LUA_TNIL) {
            lua_pop(L, 1);
            return;
        }
        int fd = fd_of(L);
        if (fd >= 0 && list == RECEIVERS && is_dirty(L)) {
            add_result(L, READABLE);
            continue;
        }
        if (fd >= 0)
            lmpe_pollset_add(set, fd, list == SENDERS ? POLLOUT : POLLIN,
                             (uint32_t)i | (list == SENDERS ? SENDS : 0));
        lua_pop(L, 1);
    }
}

/* A list of the objects of the set, in its order, becomes its user value. */
static void
keep_objects(lua_State *L, lmpe_pollset *set)
{
    lua_createtable(L, (int)set->count, 0);
    for (nfds_t i = 0; i < set->count; i++) {
        uint32_t at = set->parts[i].at;
        lua_geti(L, at & SENDS ? SENDERS : RECEIVERS, (lua_Integer)(at & ~SENDS));
        lua_rawseti(L, -2, (lua_Integer)i + 1);
    }
    lua_setiuservalue(L, SET, 1);
}

/* ---- the results ---- */

struct ready {
    int fd;
    uint32_t place; /* in the set */
};

static int
by_fd(const void *a, const void *b)
{
    const struct ready *x = a, *y = b;
    if (x->fd != y->fd)
        return x->fd < y->fd ? -1 : 1;
    return x->place < y->place ? -1 : x->place > y->place;
}

static void
push_object(lua_State *L, const lmpe_pollset *set, uint32_t place)
{
    uint32_t at = set->parts[place].at;
    if (lua_getiuservalue(L, SET, 1) == LUA_TTABLE) {
        lua_rawgeti(L, -1, (lua_Integer)place + 1);
        lua_remove(L, -2);
        return;
    }
    lua_pop(L, 1);
    lua_geti(L, at & SENDS ? SENDERS : RECEIVERS, (lua_Integer)(at & ~SENDS));
}

/* Adds those that are ready; how many. */
static uint32_t
add_ready(lua_State *L, const lmpe_pollset *set)
{
    uint32_t n = 0, count = 0;
    for (nfds_t i = 0; i < set->count; i++)
        n += set->fds[i].revents != 0;
    if (n == 0)
        return 0;
    struct ready *all = lua_newuserdatauv(L, n * sizeof *all, 0);
    for (nfds_t i = 0; i < set->count; i++)
        if (set->fds[i].revents)
            all[count++] = (struct ready){set->fds[i].fd, (uint32_t)i};
    if (n > 1)
        qsort(all, n, sizeof *all, by_fd);
    for (uint32_t i = 0; i < n; i++) {
        push_object(L, set, all[i].place);
        add_result(L, set->parts[all[i].place].at & SENDS ? WRITABLE : READABLE);
    }
    return n;
}

static int
push_results(lua_State *L, lmpe *S, const lmpe_pollset *set, int may_poll)
{
    uint32_t n = add_ready(L, set);
    int found = n > 0 || lua_rawlen(L, READABLE) > 0;
    lua_pushvalue(L, READABLE);
    lua_pushvalue(L, WRITABLE);
    if (!found)
        lua_pushliteral(L, "timeout");
    if (!may_poll)
        return found ? 2 : 3;
    return found ? lmpe_did(L, S, LMPE_DID, 2) : lmpe_let_others(L, S, 3);
}

static int
finish(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lmpe_pollset *set = (lmpe_pollset *)(uintptr_t)a->scratch[0];
    lmpe_pollset_unfile(set);
    if (a->ending == LMPE_KILLED)
        return 0;
    if (status != MPE_OK && status != MPE_EAGAIN && status != MPE_ETIMEDOUT)
        return lmpe_raise(L, status, "select");
    return push_results(L, S, set, 0);
}

/* ---- the call ---- */

static int
is_list(lua_State *L, int idx)
{
    return lua_isnoneornil(L, idx) || lua_istable(L, idx);
}

static int
raise(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(RAISE));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static uint64_t
deadline_of(lua_State *L)
{
    lua_Number seconds = luaL_optnumber(L, TIMEOUT, -1);
    if (seconds == 0)
        return MPE_NOW;
    return seconds > 0 && seconds < 1e9 ? lmpe_deadline_in(seconds) : MPE_FOREVER;
}

/* select(receivers, senders [, seconds]) -> readable, writable [, "timeout"] */
static int
select_ready(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    if (!is_list(L, RECEIVERS) || !is_list(L, SENDERS) ||
        !(lua_isnoneornil(L, TIMEOUT) || lua_isnumber(L, TIMEOUT)))
        return raise(L);
    lua_settop(L, TIMEOUT);
    lmpe_await_check(L, S);
    lua_Unsigned receivers = count_of(L, RECEIVERS), senders = count_of(L, SENDERS);
    lua_newtable(L);
    lua_newtable(L);
    lmpe_pollset *set = lmpe_pollset_new(L, S, receivers + senders);
    collect(L, set, RECEIVERS, receivers);
    collect(L, set, SENDERS, senders);
    uint64_t deadline = lua_rawlen(L, READABLE) > 0 ? MPE_NOW : deadline_of(L);
    if (poll(set->fds, set->count, 0) > 0 || deadline == MPE_NOW)
        return push_results(L, S, set, 1);
    keep_objects(L, set);
    return lmpe_pollset_wait(L, S, set, deadline, finish);
}

/* select_function(states, raise) -> select. states: of patched sockets their state; raise: LuaSocket's
 * select for calls with wrong arguments */
static int
select_function(lua_State *L)
{
    lua_settop(L, LAST - 1);
    lua_pushvalue(L, lua_upvalueindex(1));
    lua_insert(L, 1);
    lua_pushcclosure(L, select_ready, LAST);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"select_function", select_function}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_select_module = {.open = on_open};
