/* SPDX-License-Identifier: MIT
 *
 * ldirectory.c - mp.name and mp.find.
 */
#include "base/lobject.h"
#include "task/lturn.h"

#include <string.h>

#define NAME_MAX_BYTES 255

static const char *
check_name(lua_State *L)
{
    size_t size;
    const char *name = lmpe_checklstring(L, 1, &size);
    if (size == 0 || size > NAME_MAX_BYTES || memchr(name, '\0', size))
        lmpe_argerror(L, 1, "a name of 1 to 255 bytes without a zero expected");
    return name;
}

/* mp.name(name, object | nil) */
static int
give_name(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    const char *name = check_name(L);
    lmpe_box *b = lua_isnil(L, 2) ? NULL : lmpe_test_any(L, 2);
    int rc, tries = 0;
    if (!b && lua_type(L, 2) != LUA_TNIL)
        return lmpe_typeerror(L, 2, "shared object or nil");
    do
        rc = mpe_name(S->e, name, b ? b->o : NULL);
    while (lmpe_try_again(L, S, rc, &tries));
    if (rc == MPE_EEXIST)
        return lmpe_error(L, "name: '%s' is taken", name);
    if (rc == MPE_ENOENT)
        return lmpe_error(L, "name: there is no '%s'", name);
    return rc == MPE_OK ? 0 : lmpe_raise(L, rc, "name");
}

/* The name is on the stack of the call, below. */
static int
attempt_find(lmpe *S, lmpe_await *a)
{
    int rc = mpe_find(S->e, (const char *)(uintptr_t)a->scratch[0], MPE_NOW, &a->object);
    if (rc != MPE_ENOENT)
        return rc;
    a->source = LMPE_OBJECT;
    a->event = MPE_EVENT_READY;
    rc = mpe_names_changed(S->e, &a->on.object);
    return rc == MPE_OK ? MPE_EAGAIN : rc;
}

static int
finish_find(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    if (status != MPE_OK)
        return lmpe_outcome(L, status, a->reason);
    mpe_object *o = a->object;
    lmpe_push_object(L, S, o, mpe_handle_of(S->e, o));
    return 1;
}

/* mp.find(name [, timeout]) -> object | nil, "timeout" */
static int
find(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    const char *name = check_name(L);
    uint64_t deadline = lmpe_check_deadline(L, 2);
    lmpe_await *a = lmpe_await_new(S, deadline, "timeout");
    a->scratch[0] = (uintptr_t)name;
    a->attempt = attempt_find;
    a->finish = finish_find;
    return lmpe_await_run(L, S, a);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"name", give_name}, {"find", find}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_directory_module = {.open = on_open};
