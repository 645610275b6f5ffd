/* SPDX-License-Identifier: MIT
 *
 * lframes.c - how far a stack may be looked at. A function lies above the one that called it, and stays
 * there until it returns, but for the function that raised an error where an old release of Lua calls
 * close handlers in its place (lrelease.h). Where functions lie is read in Lua's private memory, and only
 * with those releases, which change no more.
 */
#include "base/lrelease.h"

#include <lauxlib.h>

/* A slot of the stack, and how struct CallInfo begins, in 5.4.0 to 5.4.2. */
struct slot {
    union {
        void *p;
        lua_Integer i;
        lua_Number n;
    } value;
    unsigned char type; /* with its variant above the low four bits */
};

struct frame {
    const struct slot *function, *top;
    const struct frame *previous, *next;
};

static int
is_above(const struct frame *f, const struct frame *caller)
{
    return caller->function < f->function && (caller->function->type & 0x0f) == LUA_TFUNCTION;
}

int
lmpe_is_whole(lua_State *L, const lua_Debug *ar)
{
    lua_Debug innermost;
    if (!LMPE_UNWINDS_IN_PLACE || !lua_getstack(L, 0, &innermost))
        return 1;
    const struct frame *last = ar ? (const void *)ar->i_ci : NULL;
    const struct frame *f = (const void *)innermost.i_ci;
    /* the outermost is of no function */
    for (; f->previous && f->previous->previous; f = f->previous) {
        if (!is_above(f, f->previous))
            return 0;
        if (f == last)
            return 1;
    }
    return 1;
}

void
lmpe_push_traceback_from(lua_State *L, int level)
{
    lua_Debug ar;
    if (lmpe_is_whole(L, NULL)) {
        luaL_traceback(L, L, NULL, level);
        return;
    }
    lua_pushliteral(L, "stack traceback:");
    for (; lmpe_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "Sl", &ar);
        if (ar.currentline > 0)
            lua_pushfstring(L, "\n\t%s:%d: in a function", ar.short_src, ar.currentline);
        else
            lua_pushfstring(L, "\n\t%s: in a function", ar.short_src);
        lua_concat(L, 2);
    }
}
