/* SPDX-License-Identifier: MIT
 *
 * llist_order.c - sort and reverse of mp.List. They work on a snapshot, and start again when the
 * list has changed before the new order could be stored.
 */
#include "shared/llist.h"

/* A sort in progress: the comparison at 2 (nil: <), the items at 3. */
static int
less(lua_State *L, uint64_t a, uint64_t b)
{
    if (lua_isnil(L, 2)) {
        lua_rawgeti(L, 3, (lua_Integer)a + 1);
        lua_rawgeti(L, 3, (lua_Integer)b + 1);
        int result = lua_compare(L, -2, -1, LUA_OPLT);
        lua_pop(L, 2);
        return result;
    }
    lua_pushvalue(L, 2);
    lua_rawgeti(L, 3, (lua_Integer)a + 1);
    lua_rawgeti(L, 3, (lua_Integer)b + 1);
    lua_call(L, 2, 1);
    int result = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return result;
}

/* Merges two sorted neighbours of from into to; equal ones stay in order. */
static void
merge(lua_State *L, const uint64_t *from, uint64_t *to, uint64_t lo, uint64_t mid, uint64_t hi)
{
    uint64_t i = lo, j = mid;
    for (uint64_t k = lo; k < hi; k++) {
        if (i < mid && (j == hi || !less(L, from[j], from[i])))
            to[k] = from[i++];
        else
            to[k] = from[j++];
    }
}

/* The sorted order of the items at 3; in one of two halves of a userdata that is pushed. An
 * inconsistent comparison cannot make it fail. */
static uint64_t *
sorted_order(lua_State *L, uint64_t count)
{
    uint64_t *from = lua_newuserdatauv(L, count * 2 * sizeof *from, 0), *to = from + count;
    for (uint64_t i = 0; i < count; i++)
        from[i] = i;
    for (uint64_t width = 1; width < count; width *= 2) {
        for (uint64_t lo = 0; lo < count; lo += 2 * width) {
            uint64_t mid = lo + width < count ? lo + width : count;
            uint64_t hi = mid + width < count ? mid + width : count;
            merge(L, from, to, lo, mid, hi);
        }
        uint64_t *other = from;
        from = to;
        to = other;
    }
    return from;
}

static int
sort_protected(lua_State *L)
{
    lmpe_store *s = lmpe_store_of(L);
    int rc, tries = 0;
    do {
        uint64_t version, count = lmpe_list_snapshot(L, s, &version);
        lua_settop(L, 2);
        lmpe_list_push_items(L, s, count);
        uint64_t *order = sorted_order(L, count);
        rc = mpe_list_reorder(s->S->e, s->o, version, order, count);
    } while (rc == MPE_EAGAIN || lmpe_try_again(L, s->S, rc, &tries));
    lmpe_store_check(L, s, rc);
    return 0;
}

/* l:sort([less]): stable */
int
lmpe_list_sort(lua_State *L)
{
    lmpe_store s;
    lmpe_box *b = lmpe_check_self(L, 1);
    lua_settop(L, 2);
    if (!lua_isnil(L, 2) && lua_type(L, 2) != LUA_TFUNCTION)
        return luaL_error(L, "List:sort: the comparison must be a function, got %s",
                          luaL_typename(L, 2));
    lmpe_store_open(&s, b, "List:sort");
    return lmpe_store_call(L, &s, sort_protected, 1, 0);
}

/* l:reverse() */
int
lmpe_list_reverse(lua_State *L)
{
    lmpe_box *b = lmpe_check_self(L, 1);
    mpe_engine *e = b->S->e;
    int rc, tries = 0;
    do {
        uint64_t version, count;
        rc = mpe_list_snapshot(e, b->o, NULL, &count, &version);
        lua_settop(L, 1);
        uint64_t *order = lua_newuserdatauv(L, count * sizeof *order, 0);
        for (uint64_t i = 0; i < count; i++)
            order[i] = count - 1 - i;
        if (rc == MPE_OK)
            rc = mpe_list_reorder(e, b->o, version, order, count);
    } while (rc == MPE_EAGAIN || lmpe_try_again(L, b->S, rc, &tries));
    return rc == MPE_OK ? 0 : lmpe_raise(L, rc, "List:reverse");
}
