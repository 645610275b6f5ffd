/* SPDX-License-Identifier: MIT
 *
 * lmessage_kept.c - items that have left their queue and cannot be received, since there is no room for
 * the descriptors in them. They stay with this process, in order, and the next gets of it find them first.
 * Room is looked for before the first descriptor is taken, which can be done once.
 *
 * S->kept has the handles of their queues, the registry a list for each: of every item its bytes and
 * a list of the shared objects that they name, so that these stay alive.
 */
#include "base/lobject.h"
#include "codec/lcodec.h"
#include "codec/lmessage.h"

#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define MORE 3   /* descriptors that receiving takes beside the one that arrives */
#define MOST 256 /* that are tried for */

static const char kept_key = 0;

/* ---- room ---- */

static int
count_descriptor(void *ud, uint64_t h)
{
    *(int *)ud += mpe_handle_kind(h) == MPE_KIND_DESCRIPTOR;
    return 0;
}

int
lmpe_count_descriptors(const void *bytes, size_t size)
{
    int n = 0;
    mpe_wire_scan_handles(bytes, size, count_descriptor, &n);
    return n;
}

static int
has_room(int n)
{
    int made[MOST], count = 0;
    if (n > MOST)
        n = MOST;
    while (count < n && (made[count] = eventfd(0, EFD_CLOEXEC)) >= 0)
        count++;
    for (int i = 0; i < count; i++)
        close(made[i]);
    return count == n;
}

int
lmpe_has_room(lua_State *L, const void *bytes, size_t size)
{
    int n = lmpe_count_descriptors(bytes, size);
    if (n == 0 || has_room(n + MORE))
        return 1;
    lua_gc(L, LUA_GCCOLLECT); /* closes what a script no longer refers to */
    return has_room(n + MORE);
}

/* ---- the items ---- */

struct holding {
    lua_State *L;
    lmpe *S;
};

static int
hold_object(void *ud, uint64_t h)
{
    const struct holding *k = ud;
    if (lmpe_push_handle(k->L, k->S, h) == MPE_OK)
        lua_rawseti(k->L, -2, (lua_Integer)lua_rawlen(k->L, -2) + 1);
    return 0;
}

void
lmpe_push_holds(lua_State *L, lmpe *S, const void *bytes, size_t size)
{
    struct holding k = {L, S};
    lua_newtable(L);
    mpe_wire_scan_handles(bytes, size, hold_object, &k);
}

/* Pushes the list of a queue. */
static void
push_list(lua_State *L, uint64_t queue)
{
    luaL_checkstack(L, 8, NULL);
    if (lua_rawgetp(L, LUA_REGISTRYINDEX, &kept_key) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawsetp(L, LUA_REGISTRYINDEX, &kept_key);
    }
    if (lua_rawgeti(L, -1, (lua_Integer)queue) != LUA_TTABLE) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_rawseti(L, -3, (lua_Integer)queue);
    }
    lua_remove(L, -2);
}

static int
note(lmpe *S, uint64_t queue)
{
    if (S->kept_count == S->kept_room) {
        uint32_t room = S->kept_room ? S->kept_room * 2 : 8;
        uint64_t *kept = realloc(S->kept, room * sizeof *kept);
        if (!kept)
            return MPE_ENOMEM;
        S->kept = kept;
        S->kept_room = room;
    }
    S->kept[S->kept_count++] = queue;
    return MPE_OK;
}

void
lmpe_keep_item(lua_State *L, lmpe *S, mpe_object *queue, const void *bytes, size_t size)
{
    uint64_t h = mpe_handle_of(S->e, queue);
    push_list(L, h);
    lua_createtable(L, 2, 0);
    lua_pushlstring(L, bytes, size);
    lua_rawseti(L, -2, 1);
    lmpe_push_holds(L, S, bytes, size);
    lua_rawseti(L, -2, 2);
    if (note(S, h) == MPE_OK)
        lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    else
        lua_pop(L, 1);
    lua_pop(L, 1);
}

uint32_t
lmpe_kept_items(lmpe *S, mpe_object *queue)
{
    uint64_t h = mpe_handle_of(S->e, queue);
    uint32_t n = 0;
    for (uint32_t i = 0; i < S->kept_count; i++)
        n += S->kept[i] == h;
    return n;
}

static void
forget(lmpe *S, uint64_t queue)
{
    for (uint32_t i = 0; i < S->kept_count; i++)
        if (S->kept[i] == queue) {
            S->kept[i] = S->kept[--S->kept_count];
            return;
        }
}

/* Removes the first element of the list at idx. */
static void
shift(lua_State *L, int idx)
{
    lua_Integer n = (lua_Integer)lua_rawlen(L, idx);
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, idx, i + 1);
        lua_rawseti(L, idx, i);
    }
}

int
lmpe_push_kept_item(lua_State *L, lmpe *S, mpe_object *queue)
{
    uint64_t h = mpe_handle_of(S->e, queue);
    size_t size;
    push_list(L, h);
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -1, 1);
    const char *bytes = lua_tolstring(L, -1, &size);
    if (!lmpe_has_room(L, bytes, size))
        return luaL_error(L, LMPE_NO_ROOM);
    shift(L, lua_gettop(L) - 2);
    forget(S, h);
    return lmpe_decode_values(L, S, bytes, size, mpe_pin_mark(S->e));
}
