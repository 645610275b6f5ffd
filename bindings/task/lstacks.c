/* SPDX-License-Identifier: MIT
 *
 * lstacks.c - examines the stacks of the running task, from the innermost of the script's own
 * coroutines outwards, for close handlers.
 */
#include "base/lrelease.h"
#include "task/lcancel.h"

#include <string.h>

#define MAX_LEVELS 1000 /* examined from the innermost: each costs as much as it is deep */

/* The coroutine outside l's, on the way from L to the task's own; NULL at its end. */
lua_State *
lmpe_outwards(lmpe *S, lua_State *L, lmpe_link **l)
{
    if (L == S->current->co || !*l || (*l)->inner != L)
        return NULL;
    L = (*l)->outer;
    *l = (*l)->prev;
    return L;
}

static int
has_temporary(lua_State *L, lua_Debug *ar, int n)
{
    if (!lua_getlocal(L, ar, n))
        return 0;
    lua_pop(L, 1);
    return 1;
}

/* How many values a C function has on its stack below the function that it calls. */
static int
count_temporaries(lua_State *L, lua_Debug *ar)
{
    int low = 0, high = 1;
    while (has_temporary(L, ar, high)) {
        low = high;
        high *= 2;
    }
    while (low + 1 < high) {
        int middle = (low + high) / 2;
        if (has_temporary(L, ar, middle))
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* When an error unwinds the stack, a close handler is called by the protected call that caught
 * it. Right below it are the value that is closed and the error. */
static int
is_unwinding_call(lua_State *L, int level, lua_Debug *handler)
{
    lua_Debug caller;
    if (!lmpe_getstack(L, level + 1, &caller))
        return 0;
    lua_getinfo(L, "S", &caller);
    int n = *caller.what == 'C' ? count_temporaries(L, &caller) : 0;
    if (n < 2)
        return 0;
    int top = lua_gettop(L), found = 0;
    lua_getlocal(L, &caller, n - 1);
    if (luaL_getmetafield(L, -1, "__close") != LUA_TNIL) {
        lua_getinfo(L, "f", handler);
        found = lua_rawequal(L, -1, -2);
    }
    lua_settop(L, top);
    return found;
}

/* Is some function on this stack a close handler? */
int
lmpe_has_close_handler(lua_State *L)
{
    lua_Debug ar;
    if (!lua_checkstack(L, 6))
        return 0;
    for (int level = 0; level < MAX_LEVELS && lua_getstack(L, level, &ar); level++) {
        if (LMPE_UNWINDS_IN_PLACE && !lmpe_is_whole(L, &ar))
            return 1;
        lua_getinfo(L, "n", &ar);
        if (LMPE_UNWINDS_IN_PLACE && strcmp(ar.namewhat, "hook") == 0)
            return 1; /* in place of a function in which a hook raised the error */
        if (*ar.namewhat == 'm' && strcmp(ar.name, "close") == 0)
            return 1;
        if (is_unwinding_call(L, level, &ar))
            return 1;
    }
    return 0;
}

int
lmpe_in_close_handler(lua_State *L, lmpe *S)
{
    lmpe_link *l = S->links;
    for (; L; L = lmpe_outwards(S, L, &l))
        if (lmpe_has_close_handler(L))
            return 1;
    return S->resetting > 0;
}
