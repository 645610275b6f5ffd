/* SPDX-License-Identifier: MIT
 *
 * lmpe.c - arguments, statuses, the memory of a state, and its modules.
 */
#include "base/lmpe.h"
#include "base/lsystem.h"

#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define PAGE 4096
#define STATE_BYTES ((sizeof(lmpe) + 1024 + PAGE - 1) / PAGE * PAGE) /* with some room behind it */

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
    const char *range = max == LUA_MAXINTEGER ? lua_pushfstring(L, ", %I or more", min)
                                              : lua_pushfstring(L, " from %I to %I", min, max);
    const char *text = lua_pushfstring(L, "%s must be an integer%s, got %s", what, range,
                                       luaL_tolstring(L, idx, NULL));
    return luaL_argerror(L, idx, text);
}

lmpe *
lmpe_load(lua_State *L)
{
    lmpe *S = lmpe_of(L);
    if (S)
        return S;
    lua_getglobal(L, "require");
    lua_pushliteral(L, "mpengine");
    lua_call(L, 1, 0);
    S = lmpe_of(L);
    if (!S)
        luaL_error(L, "the library is closed");
    return S;
}

int
lmpe_raise(lua_State *L, int status, const char *where)
{
    const char *text = status == MPE_ESYS && errno ? lmpe_reason(errno) : mpe_strerror(status);
    if (where)
        return luaL_error(L, "%s: %s", where, text);
    return luaL_error(L, "%s", text);
}

lmpe *
lmpe_raise_closed(lua_State *L)
{
    const lmpe *S = lmpe_self_or_closed(L);
    luaL_error(L, "the library is closed (%s)",
               S->outlives ? "the host has closed its engine" : "the Lua state is being closed");
    return NULL;
}

/* The memory of the closed states of this thread, for its next ones, until the thread ends.
 * Finalizers that run after the state's own may read it, and nothing reports when the last has
 * run. */
static _Thread_local lmpe *spare;
static pthread_key_t ends;
static pthread_once_t ends_known = PTHREAD_ONCE_INIT;

static void
free_spare(void *ud)
{
    (void)ud;
    for (lmpe *S; (S = spare) != NULL; free(S))
        spare = S->spare;
}

static void
know_ends(void)
{
    pthread_key_create(&ends, free_spare);
}

lmpe *
lmpe_allocate(void)
{
    pthread_once(&ends_known, know_ends);
    pthread_setspecific(ends, &spare);
    lmpe *S = spare;
    if (S)
        spare = S->spare;
    else if (!(S = aligned_alloc(PAGE, STATE_BYTES)))
        return NULL;
    memset(S, 0, STATE_BYTES);
    S->room = (uint8_t *)(S + 1);
    S->room_end = (uint8_t *)S + STATE_BYTES;
    return S;
}

void
lmpe_give_back(lmpe *S)
{
    S->spare = spare;
    spare = S;
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

lmpe *
lmpe_of(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "mpengine.state");
    lmpe *S = lua_touserdata(L, -1);
    lua_pop(L, 1);
    return S;
}

int
lmpe_is_hosted(lua_State *L)
{
    int is = lua_getfield(L, LUA_REGISTRYINDEX, LMPE_HOST) != LUA_TNIL;
    lua_pop(L, 1);
    return is;
}

void
lmpe_report(lua_State *L, lmpe *S, int level)
{
    size_t n;
    const char *text = lua_tolstring(L, -1, &n);
    if (!S->is_host) {
        S->print_error(S, text, n);
    } else if (S->e && mpe_has_log(S->e)) {
        size_t end = n;
        while (end > 0 && text[end - 1] == '\n')
            end--;
        mpe_log(S->e, level, end < n ? lua_pushlstring(L, text, end) : text, end);
        lua_settop(L, lua_gettop(L) - (end < n));
    }
    lua_pop(L, 1);
}

void
lmpe_setfuncs(lua_State *L, lmpe *S, const luaL_Reg *funcs)
{
    for (; funcs->name; funcs++) {
        lua_pushstring(L, funcs->name);
        if (lua_rawget(L, -2) != LUA_TNIL)
            luaL_error(L, "two functions of the library are named '%s'", funcs->name);
        lua_pop(L, 1);
        lua_pushlightuserdata(L, S);
        lua_pushcclosure(L, funcs->func, 1);
        lua_setfield(L, -2, funcs->name);
    }
}

/* A module that is in the list already: kinds of objects may share one. */
static int
is_repeated(const lmpe *S, const lmpe_module *const *m)
{
    for (const lmpe_module *const *p = S->modules; p < m; p++)
        if (*p == *m)
            return 1;
    return 0;
}

void
lmpe_modules_open(lua_State *L, lmpe *S, const lmpe_module *const *modules)
{
    S->modules = S->modules_end = modules;
    for (; *S->modules_end; S->modules_end++)
        if ((*S->modules_end)->open && !is_repeated(S, S->modules_end))
            (*S->modules_end)->open(L, S);
}

void
lmpe_modules_forked(lua_State *L, lmpe *S)
{
    for (const lmpe_module *const *m = S->modules_end; m > S->modules;)
        if ((*--m)->forked && !is_repeated(S, m))
            (*m)->forked(L, S);
}

void
lmpe_modules_close(lua_State *L, lmpe *S)
{
    for (const lmpe_module *const *m = S->modules_end; m > S->modules;)
        if ((*--m)->close && !is_repeated(S, m))
            (*m)->close(L, S);
}
