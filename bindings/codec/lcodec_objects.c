/* SPDX-License-Identifier: MIT */
/*
** lcodec_objects.c - how a table, function or userdata starts in a message.
**
** Each call writes the value at the top of the stack as the shortest of: a reference, a name, a
** handle, or a header with a frame for the contents (lcodec_encode.c goes on with those). A
** complete value is popped. A value that cannot be sent is detected here, before anything of it
** is written.
*/
#include <stdio.h>
#include <string.h>

#include "codec/lcodec_int.h"

/* Fails if the reader is another program. */
static int
refuse_outside(lmpe_encoder *e, const char *what)
{
    char text[96];

    if (e->opts == NULL || !e->opts->outside)
        return MPE_OK;
    snprintf(text, sizeof text, "cannot send %s to another program", what);
    return lmpe_encode_fail(e, MPE_ETYPE, text);
}

/* Writes the value at the top by its name: 1; 0 when it belongs to no module. */
static int
put_named(lmpe_encoder *e, const void *object)
{
    lua_State *L = e->L;
    const char *name, *end;
    size_t n, nkeys = 0, i;
    int rc;

    if (lmpe_names_has(e->names, object) != LMPE_NAMED)
        return 0;
    if (!lmpe_names_push(L, e->keep, e->names)) {
        if (e->names_fresh)
            return 0;
        e->names_fresh = 1;
        lmpe_names_rebuild(L, e->keep, e->names);
        return put_named(e, object);
    }
    rc = refuse_outside(e, "what belongs to a module");
    if (rc != MPE_OK)
        return rc;
    rc = lmpe_encode_remember(e, object);
    if (rc != MPE_OK)
        return rc;
    name = lua_tolstring(L, -1, &n);
    end = name + n;
    for (i = 0; i < n; i++)
        nkeys += name[i] == '\0';
    rc = lmpe_encode_count(e, MPE_TAG_MODULE, nkeys);
    for (; rc == MPE_OK && name <= end; name += strlen(name) + 1)
        rc = mpe_wire_put_str(e->out, name, strlen(name));
    lua_pop(L, 1);
    return rc == MPE_OK ? 1 : lmpe_encode_no_memory(e);
}

/* Pushes the name that the metatable at the top was registered with, or nil; it is kept. */
static const char *
push_class(lmpe_encoder *e, size_t *n)
{
    lua_State *L = e->L;

    lua_rawgeti(L, e->keep, LMPE_KEEP_CLASSES);
    lua_pushvalue(L, -2);
    lua_rawget(L, -2);
    lua_remove(L, -2);
    return lua_tolstring(L, -1, n);
}

/*
** A registered metatable as a value: its name for a receiver that has registered its own, and its
** contents, which follow, for one that has not.
*/
static int
put_class(lmpe_encoder *e)
{
    size_t n;
    const char *name = push_class(e, &n);
    int rc = MPE_OK;

    if (name != NULL && (rc = lmpe_encode_tag(e, MPE_TAG_CLASS)) == MPE_OK)
        rc = lmpe_encode_string(e, name, name, n);
    lua_pop(e->L, 1);
    return lmpe_encode_checked(e, rc);
}

#define PASSED 1

/*
** The value at idx as a handle, if it has a descriptor and such may travel: PASSED; 0 otherwise, and
** nothing is written.
*/
static int
put_descriptor(lmpe_encoder *e, int idx)
{
    lua_State *L = e->L;
    uint64_t h;
    int rc;

    if (e->opts == NULL || e->opts->passes == LMPE_PASS_NONE ||
        lmpe_codec_hooks_now()->pass == NULL)
        return 0;
    rc = lmpe_codec_hooks_now()->pass(L, idx, e->opts->passes == LMPE_PASS_ONCE, &h);
    if (rc < 0)
        return lmpe_encode_fail(
            e, MPE_ETYPE, lua_isstring(L, -1) ? lua_tostring(L, -1) : "cannot send a descriptor");
    if (rc == 0)
        return 0;
    e->passed++;
    rc = lmpe_encode_remember(e, lua_topointer(L, idx));
    if (rc != MPE_OK)
        return rc;
    e->has_handles = 1;
    rc = lmpe_encode_checked(e, mpe_wire_put_handle(e->out, h));
    return rc == MPE_OK ? PASSED : rc;
}

/* Fails for the table whose metatable is at the top, and names it as that says. */
static int
fail_metatable(lmpe_encoder *e)
{
    lua_State *L = e->L;
    char text[128];

    lua_pushliteral(L, "__name");
    if (lua_rawget(L, -2) != LUA_TSTRING)
        return lmpe_encode_fail(e, MPE_ETYPE,
                                "cannot send a table with a metatable that is not "
                                "registered (see mp.register)");
    lua_pushliteral(L, "__instead");
    int says = lua_rawget(L, -3) == LUA_TSTRING;
    snprintf(text, sizeof text, "cannot send a %.40s%.60s", lua_tostring(L, -2),
             says ? lua_tostring(L, -1) : ": its metatable is not registered (see mp.register)");
    return lmpe_encode_fail(e, MPE_ETYPE, text);
}

/*
** Writes how the receiver finds the metatable at the top; it stays there. PASSED: the table below it is
** written instead, since it has a descriptor.
*/
static int
put_metatable(lmpe_encoder *e)
{
    lua_State *L = e->L;
    const void *mt = lua_topointer(L, -1);
    const char *name;
    size_t n;
    int rc;

    if (lmpe_encode_tag(e, MPE_TAG_META) != MPE_OK)
        return lmpe_encode_no_memory(e);
    name = push_class(e, &n);
    lua_pop(L, 1);
    if (name != NULL)
        return lmpe_encode_checked(e, lmpe_encode_string(e, name, name, n));
    rc = lmpe_names_has(e->names, mt) == LMPE_NAMED ? lmpe_encode_met(e, mt) : 0;
    if (rc == 0)
        rc = put_named(e, mt);
    if (rc != 0)
        return rc < 0 ? rc : MPE_OK;
    e->out->len--; /* the tag */
    rc = put_descriptor(e, lua_absindex(L, -2));
    return rc != 0 ? rc : fail_metatable(e);
}

int
lmpe_encode_table(lmpe_encoder *e)
{
    lua_State *L = e->L;
    const void *object = lua_topointer(L, -1);
    size_t narr, mark;
    int rc;

    if (object == e->globals) {
        rc = refuse_outside(e, "the globals");
        if (rc != MPE_OK)
            return rc;
        lua_pop(L, 1);
        return lmpe_encode_checked(e, lmpe_encode_tag(e, MPE_TAG_GLOBALS));
    }
    rc = lmpe_encode_met(e, object);
    if (rc == 0)
        rc = put_named(e, object);
    if (rc != 0) {
        if (rc > 0)
            lua_pop(L, 1);
        return rc > 0 ? MPE_OK : rc;
    }
    if (lmpe_names_has(e->names, object) == LMPE_CLASS) {
        rc = put_class(e);
        if (rc != MPE_OK)
            return rc;
    }
    if (lua_getmetatable(L, -1)) {
        rc = put_metatable(e);
        if (rc < 0)
            return rc;
        lua_pop(L, rc == PASSED ? 2 : 1);
        if (rc == PASSED)
            return MPE_OK;
    }
    rc = lmpe_encode_remember(e, object);
    if (rc != MPE_OK)
        return rc;
    narr = (size_t)lua_rawlen(L, -1);
    if (mpe_wire_begin_table(e->out, narr, &mark) != MPE_OK)
        return lmpe_encode_no_memory(e);
    rc = lmpe_encode_push(e, LMPE_FRAME_TABLE, narr);
    if (rc == MPE_OK)
        e->frames[e->depth - 1].mark = mark;
    return rc;
}

static int
count_upvalues(lua_State *L)
{
    lua_Debug ar;

    lua_pushvalue(L, -1);
    lua_getinfo(L, ">u", &ar);
    return ar.nups;
}

/* Tag, count and code of the Lua function at the top. */
static int
put_code(lmpe_encoder *e, int nups)
{
    lmpe_code code;
    int rc;

    if (lmpe_encode_count(e, MPE_TAG_FUNC, (uint64_t)nups) != MPE_OK ||
        lmpe_code_push(e, &code) != MPE_OK)
        return lmpe_encode_no_memory(e);
    if (code.handle != 0) {
        e->has_handles = 1;
        rc = mpe_wire_put_handle(e->out, code.handle);
    } else {
        rc = lmpe_encode_string(e, code.bytes, code.bytes, code.n);
    }
    lua_pop(e->L, 1);
    return lmpe_encode_checked(e, rc);
}

int
lmpe_encode_function(lmpe_encoder *e)
{
    lua_State *L = e->L;
    const void *object = lua_topointer(L, -1);
    int nups, rc = refuse_outside(e, "a function");

    if (rc == MPE_OK)
        rc = lmpe_encode_met(e, object);
    if (rc == 0)
        rc = put_named(e, object);
    if (rc == 0 && lua_iscfunction(L, -1) && !e->names_fresh) {
        e->names_fresh = 1;
        lmpe_names_rebuild(L, e->keep, e->names);
        rc = put_named(e, object);
    }
    if (rc != 0) {
        if (rc > 0)
            lua_pop(L, 1);
        return rc > 0 ? MPE_OK : rc;
    }
    if (lua_iscfunction(L, -1))
        return lmpe_encode_fail(e, MPE_ETYPE, "cannot send a C function of no module");
    nups = count_upvalues(L);
    rc = lmpe_encode_remember(e, object);
    if (rc == MPE_OK)
        rc = put_code(e, nups);
    return rc == MPE_OK ? lmpe_encode_push(e, LMPE_FRAME_FUNC, (size_t)nups) : rc;
}

/* Fails for the userdata at the top. */
static int
fail_userdata(lmpe_encoder *e)
{
    lua_State *L = e->L;
    const char *name;
    char text[96];

    if (luaL_getmetafield(L, -1, "__name") != LUA_TSTRING)
        return lmpe_encode_fail(e, MPE_ETYPE, "cannot send a userdata");
    name = lua_tostring(L, -1);
    const char *hint = strcmp(name, LUA_FILEHANDLE) == 0 ? " (open file)" : "";
    if (luaL_getmetafield(L, -2, "__instead") == LUA_TSTRING)
        hint = lua_tostring(L, -1);
    snprintf(text, sizeof text, "cannot send a %.40s%.50s", name, hint);
    return lmpe_encode_fail(e, MPE_ETYPE, text);
}

int
lmpe_encode_userdata(lmpe_encoder *e)
{
    lua_State *L = e->L;
    uint64_t h;
    int rc;

    if (lmpe_codec_hooks_now()->to_handle != NULL &&
        lmpe_codec_hooks_now()->to_handle(L, lua_gettop(L), &h) == 1) {
        rc = refuse_outside(e, "a shared object");
        if (rc != MPE_OK)
            return rc;
        lua_pop(L, 1);
        e->has_handles = 1;
        return lmpe_encode_checked(e, mpe_wire_put_handle(e->out, h));
    }
    rc = lmpe_encode_met(e, lua_topointer(L, -1));
    if (rc == 0)
        rc = put_descriptor(e, lua_gettop(L));
    if (rc == 0)
        return fail_userdata(e);
    if (rc > 0)
        lua_pop(L, 1);
    return rc > 0 ? MPE_OK : rc;
}

int
lmpe_encode_is_strange(lmpe_encoder *e)
{
    lua_State *L = e->L;
    size_t n;
    int strange;

    if (lmpe_names_has(e->names, lua_topointer(L, -1)) != LMPE_UNNAMED || !lua_getmetatable(L, -1))
        return 0;
    strange = push_class(e, &n) == NULL &&
              lmpe_names_has(e->names, lua_topointer(L, -2)) != LMPE_NAMED;
    lua_pop(L, 2);
    return strange;
}
