/* SPDX-License-Identifier: MIT
 *
 * ldescriptor.c - files, sockets and pipes in messages, as Descriptors of the engine. What belongs to
 * one beside the descriptor is the note, which mpengine/passing.lua writes and reads.
 *
 * An object is held from its making until the next message is made, by S->passed; by then its own
 * message is in a container, or was not sent.
 */
#include "shared/lshared.h"
#include "base/lsystem.h"
#include "base/lmodules.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* Too many are open: those that a script no longer refers to are closed first. Once. */
static int
may_try_again(lua_State *L, int status, int *tries)
{
    if (status != MPE_ESYS || (errno != EMFILE && errno != ENFILE) || (*tries)++ > 0)
        return 0;
    lua_gc(L, LUA_GCCOLLECT);
    return 1;
}

static const char *
reason_of(int status)
{
    return status == MPE_ESYS ? lmpe_start_reason(errno) : mpe_strerror(status);
}

/* ---- sending ---- */

static int
remember(lmpe *S, mpe_object *o)
{
    if (S->passed_count == S->passed_room) {
        uint32_t room = S->passed_room ? S->passed_room * 2 : 8;
        mpe_object **passed = realloc(S->passed, room * sizeof *passed);
        if (!passed)
            return MPE_ENOMEM;
        S->passed = passed;
        S->passed_room = room;
    }
    S->passed[S->passed_count++] = o;
    return MPE_OK;
}

/* The descriptor at -2 with the note at -1. */
static int
make(lua_State *L, lmpe *S, int once, uint64_t *h)
{
    mpe_bytes note;
    mpe_object *o;
    int rc, tries = 0, fd = (int)lua_tointeger(L, -2);
    note.data = lua_tolstring(L, -1, &note.size);
    do
        rc = mpe_descriptor_create(S->e, fd, note, once ? MPE_DESCRIPTOR_ONCE : 0, &o);
    while (may_try_again(L, rc, &tries) || lmpe_try_again(L, S, rc, &tries));
    if (rc == MPE_OK && (rc = remember(S, o)) != MPE_OK)
        mpe_drop(S->e, o);
    if (rc == MPE_OK) {
        *h = mpe_handle_of(S->e, o);
        return 1;
    }
    lua_pushfstring(L, "cannot send a descriptor: %s", reason_of(rc));
    return rc;
}

int
lmpe_descriptor_pass(lua_State *L, int idx, int once, uint64_t *h)
{
    lmpe *S = lmpe_of(L);
    int top = lua_gettop(L), rc = 0;
    if (!S || !lmpe_push_hook(L, "pass")) {
        lua_settop(L, top);
        return 0;
    }
    lua_pushvalue(L, idx);
    if (lua_pcall(L, 1, 2, 0) != LUA_OK)
        return MPE_ETYPE; /* its message */
    if (lua_isinteger(L, -2))
        rc = make(L, S, once, h);
    else if (!lua_isnil(L, -2))
        return MPE_ETYPE;
    if (rc >= 0)
        lua_settop(L, top);
    return rc;
}

void
lmpe_descriptor_take_back(lua_State *L, size_t n)
{
    lmpe *S = lmpe_of(L);
    for (; S && n > 0 && S->passed_count > 0; n--)
        mpe_drop(S->e, S->passed[--S->passed_count]);
}

/* ---- receiving ---- */

/* Pushes the hook, and its arguments: the descriptor, or nil when it was closed on its way, and the
 * note. 0, or negative with a message pushed. */
static int
push_taken(lua_State *L, lmpe *S, mpe_object *o, int *fd)
{
    int rc, tries = 0;
    mpe_bytes note = mpe_descriptor_note(S->e, o);
    *fd = -1;
    if (!lmpe_push_hook(L, "receive"))
        return MPE_ETYPE;
    lua_pushnil(L);
    lua_pushlstring(L, note.data, note.size);
    do
        rc = mpe_descriptor_take(S->e, o, fd);
    while (may_try_again(L, rc, &tries));
    if (rc == MPE_ECLOSED)
        return MPE_OK;
    if (rc != MPE_OK) {
        lua_pushfstring(L, "cannot receive a descriptor: %s",
                        rc == MPE_ETIMEDOUT ? "its sender is stopped" : reason_of(rc));
        return rc;
    }
    lua_pushinteger(L, *fd);
    lua_replace(L, -3);
    return MPE_OK;
}

int
lmpe_descriptor_receive(lua_State *L, uint64_t h)
{
    lmpe *S = lmpe_of(L);
    mpe_object *o;
    int fd, top = lua_gettop(L), rc = S ? mpe_hold(S->e, h, &o) : MPE_ESTALE;
    if (rc != MPE_OK) {
        lua_pushliteral(L, "a descriptor in the message no longer exists");
        return rc;
    }
    rc = push_taken(L, S, o, &fd);
    mpe_drop(S->e, o);
    if (rc == MPE_OK && lua_pcall(L, 2, 1, 0) != LUA_OK) {
        if (fd >= 0)
            close(fd);
        rc = MPE_ETYPE;
    }
    if (rc != MPE_OK) { /* only the message stays */
        lua_insert(L, top + 1);
        lua_settop(L, top + 1);
    }
    return rc;
}

static void
on_open(lua_State *L, lmpe *S)
{
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_DESCRIPTOR});
}

/* The engine closes what was not taken. */
static void
on_close(lua_State *L, lmpe *S)
{
    (void)L;
    free(S->passed);
    free(S->kept);
    S->passed = NULL;
    S->kept = NULL;
    S->kept_count = S->kept_room = 0;
    S->passed_count = S->passed_room = 0;
}

const lmpe_module lmpe_descriptor_module = {.open = on_open, .close = on_close};
