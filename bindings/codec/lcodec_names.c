/* SPDX-License-Identifier: MIT */
/*
** lcodec_names.c - functions and tables that belong to a loaded module, and their names.
**
** A name is a module and the keys that lead from it to the value, "string", "format". The name
** with the fewest keys is used, and among those the first in byte order, so every process finds
** the same one. The names are found by walking package.loaded breadth-first with raw access, to
** MAX_KEYS keys. They are found again when package.loaded has changed, which one pass over its
** entries shows. Of the globals only the C functions count: a function that a script defined
** there is its own, and is sent by value.
**
** The map goes from addresses to names and keeps nothing alive, so an address may now belong to
** another object: a name is resolved again and compared before it is used.
*/
#include <stdlib.h>
#include <string.h>

#include "base/lfinalize.h"
#include "codec/lcodec_int.h"

#define MAX_KEYS 3        /* only C functions have so many keys */
#define MAX_NAMES 100000u /* a program with more has some sent by value */
#define CLASS_NAME UINT32_MAX

struct entry {
    const void *object;
    uint32_t name; /* in the list of names; 0: free; CLASS_NAME: a registered metatable */
};

struct lmpe_names {
    struct entry *slots;
    uint32_t mask;
    uint32_t used; /* slots */
    uint32_t n;    /* names */
    uint64_t seen; /* fingerprint of package.loaded */
};

/* The stack of a build. */
struct build {
    lua_State *L;
    lmpe_names *names;
    const void *globals;
    int list, values; /* the names; what they name */
    uint32_t level;   /* first name of this level */
};

/* ------------------------------------------------------------------------------- the map */

static struct entry *
find(const lmpe_names *names, const void *object)
{
    uint64_t h = (uint64_t)(uintptr_t)object * UINT64_C(0x9e3779b97f4a7c15);
    uint32_t i = (uint32_t)(h >> 32) & names->mask;

    while (names->slots[i].name != 0 && names->slots[i].object != object)
        i = (i + 1) & names->mask;
    return &names->slots[i];
}

static int
resize(lmpe_names *names, uint32_t nslots)
{
    struct entry *old = names->slots;
    uint32_t i, nold = old == NULL ? 0 : names->mask + 1;
    struct entry *slots = calloc(nslots, sizeof *slots);

    if (slots == NULL)
        return MPE_ENOMEM;
    names->slots = slots;
    names->mask = nslots - 1;
    for (i = 0; i < nold; i++)
        if (old[i].name != 0)
            *find(names, old[i].object) = old[i];
    free(old);
    return MPE_OK;
}

int
lmpe_names_has(const lmpe_names *names, const void *object)
{
    uint32_t name = find(names, object)->name;

    if (name == 0)
        return LMPE_UNNAMED;
    return name == CLASS_NAME ? LMPE_CLASS : LMPE_NAMED;
}

/* ----------------------------------------------------------------------------- building */

static int
name_is_less(lua_State *L, int a, int b)
{
    size_t na, nb;
    const char *sa = lua_tolstring(L, a, &na);
    const char *sb = lua_tolstring(L, b, &nb);
    int order = memcmp(sa, sb, na < nb ? na : nb);

    return order != 0 ? order < 0 : na < nb;
}

/* A slot for an object that has none; NULL when there are too many. */
static struct entry *
add(lmpe_names *names, const void *object)
{
    struct entry *e;

    if (names->used >= MAX_NAMES)
        return NULL;
    if (names->used * 2 > names->mask && resize(names, (names->mask + 1) * 2) != MPE_OK)
        return NULL;
    e = find(names, object);
    e->object = object;
    names->used++;
    return e;
}

/* Takes value and name, at the top, if that is the value's best name so far. */
static void
offer(struct build *b)
{
    lua_State *L = b->L;
    struct entry *e = find(b->names, lua_topointer(L, -2));

    if (e->name >= b->level) {
        lua_rawgeti(L, b->list, e->name);
        if (!name_is_less(L, -2, -1)) {
            lua_pop(L, 2);
            return;
        }
        lua_pop(L, 1);
        lua_rawseti(L, b->list, e->name);
        return;
    }
    e = e->name == 0 ? add(b->names, lua_topointer(L, -2)) : NULL;
    if (e == NULL) {
        lua_pop(L, 1);
        return;
    }
    e->name = ++b->names->n;
    lua_rawseti(L, b->list, e->name);
    lua_pushvalue(L, -1);
    lua_rawseti(L, b->values, e->name);
}

static int
is_candidate(struct build *b, int keys, int of_globals)
{
    lua_State *L = b->L;

    if (lua_type(L, -2) != LUA_TSTRING)
        return 0;
    if (keys == MAX_KEYS || of_globals)
        return lua_iscfunction(L, -1);
    return lua_type(L, -1) == LUA_TFUNCTION ||
           (lua_type(L, -1) == LUA_TTABLE && lua_topointer(L, -1) != b->globals);
}

/* Offers the fields of the table at the top; prefix is the stack index of its name, or 0. */
static void
offer_fields(struct build *b, int prefix, int keys, int of_globals)
{
    lua_State *L = b->L;
    int t = lua_gettop(L);

    lua_pushnil(L);
    while (lua_next(L, t)) {
        if (is_candidate(b, keys, of_globals)) {
            if (prefix != 0) {
                lua_pushvalue(L, prefix);
                lua_pushlstring(L, "", 1);
                lua_pushvalue(L, -4);
                lua_concat(L, 3);
            } else {
                lua_pushvalue(L, -2);
            }
            offer(b);
        }
        lua_settop(L, t + 1);
    }
}

static void
offer_level(struct build *b, int keys, uint32_t from, uint32_t to)
{
    lua_State *L = b->L;
    uint32_t i;

    for (i = from; i < to; i++) {
        if (lua_rawgeti(L, b->values, i) == LUA_TTABLE) {
            lua_rawgeti(L, b->list, i);
            lua_insert(L, -2);
            offer_fields(b, lua_gettop(L) - 1, keys, 0);
            lua_pop(L, 1);
        }
        lua_pop(L, 1);
    }
    if (keys == 1) {
        lua_pushliteral(L, "_G");
        lua_pushglobaltable(L);
        offer_fields(b, lua_gettop(L) - 1, keys, 1);
        lua_pop(L, 2);
    }
}

/* Registered metatables have a name of another kind, unless they belong to a module. */
static void
add_classes(lua_State *L, int keep, lmpe_names *names)
{
    struct entry *e;

    lua_rawgeti(L, keep, LMPE_KEEP_CLASSES);
    lua_pushnil(L);
    while (lua_next(L, -2)) {
        const void *object = lua_topointer(L, -1);
        if (lua_type(L, -1) == LUA_TTABLE && lmpe_names_has(names, object) == LMPE_UNNAMED &&
            (e = add(names, object)) != NULL)
            e->name = CLASS_NAME;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

void
lmpe_names_expire(lua_State *L, int keep)
{
    lmpe_names *names;

    lua_rawgeti(L, keep, LMPE_KEEP_NAMES);
    names = lua_touserdata(L, -1);
    if (names != NULL)
        names->seen = 0;
    lua_pop(L, 1);
}

void
lmpe_names_rebuild(lua_State *L, int keep, lmpe_names *names)
{
    struct build b = {.L = L, .names = names, .level = 1};
    uint32_t end;
    int keys, top = lua_gettop(L);

    memset(names->slots, 0, ((size_t)names->mask + 1) * sizeof *names->slots);
    names->used = names->n = 0;
    lua_pushglobaltable(L);
    b.globals = lua_topointer(L, -1);
    lua_rawgeti(L, keep, LMPE_KEEP_NAMES);
    lua_newtable(L);
    b.list = lua_gettop(L);
    lua_pushvalue(L, -1);
    lua_setiuservalue(L, -3, 1);
    lua_newtable(L);
    b.values = lua_gettop(L);

    lua_rawgeti(L, keep, LMPE_KEEP_LOADED);
    offer_fields(&b, 0, 0, 0);
    lua_pop(L, 1);
    for (keys = 1; keys <= MAX_KEYS; keys++) {
        uint32_t from = b.level;
        end = names->n + 1;
        b.level = end;
        offer_level(&b, keys, from, end);
    }
    lua_settop(L, top);
    add_classes(L, keep, names);
}

/* --------------------------------------------------------------------------------- using */

/* Changes when a module is added, removed or replaced. */
static uint64_t
fingerprint(lua_State *L, int keep)
{
    uint64_t sum;

    lua_rawgeti(L, keep, LMPE_KEEP_LOADED);
    sum = lmpe_plain_fingerprint(lua_topointer(L, -1));
    if (sum == 0) {
        sum = 1;
        lua_pushnil(L);
        while (lua_next(L, -2)) {
            uint64_t key = (uint64_t)(uintptr_t)lua_topointer(L, -2);
            uint64_t value = (uint64_t)(uintptr_t)lua_topointer(L, -1);
            sum += (key ^ (value << 1)) * UINT64_C(0x9e3779b97f4a7c15);
            lua_pop(L, 1);
        }
        sum |= 1;
    }
    lua_pop(L, 1);
    return sum;
}

static int
names_gc(lua_State *L)
{
    lmpe_names *names = lmpe_finalized(L, NULL, sizeof *names);

    if (!names)
        return 0;
    free(names->slots);
    names->slots = NULL;
    return 0;
}

static lmpe_names *
names_new(lua_State *L, int keep)
{
    lmpe_names *names = lua_newuserdatauv(L, sizeof *names, 1);

    memset(names, 0, sizeof *names);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, names_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    if (resize(names, 1024) != MPE_OK)
        luaL_error(L, "not enough memory");
    lua_rawseti(L, keep, LMPE_KEEP_NAMES);
    return names;
}

lmpe_names *
lmpe_names_get(lua_State *L, int keep)
{
    lmpe_names *names;
    uint64_t seen = fingerprint(L, keep);

    lua_rawgeti(L, keep, LMPE_KEEP_NAMES);
    names = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (names == NULL || names->slots == NULL) /* finalized: the state is being closed */
        names = names_new(L, keep);
    if (names->seen != seen) {
        names->seen = 0;
        lmpe_names_rebuild(L, keep, names);
        names->seen = seen;
    }
    return names;
}

/* Pushes the current value of a name, found with raw access, or nil. */
static void
push_named(lua_State *L, int keep, const char *name, size_t n)
{
    const char *end = name + n;

    lua_rawgeti(L, keep, LMPE_KEEP_LOADED);
    while (name <= end && lua_type(L, -1) == LUA_TTABLE) {
        size_t part = strlen(name);
        lua_pushlstring(L, name, part);
        lua_rawget(L, -2);
        lua_remove(L, -2);
        name += part + 1;
    }
    if (name <= end) {
        lua_pop(L, 1);
        lua_pushnil(L);
    }
}

int
lmpe_names_push(lua_State *L, int keep, const lmpe_names *names)
{
    const struct entry *e = find(names, lua_topointer(L, -1));
    const char *name;
    size_t n;

    if (e->name == 0 || e->name == CLASS_NAME)
        return 0;
    lua_rawgeti(L, keep, LMPE_KEEP_NAMES);
    lua_getiuservalue(L, -1, 1);
    lua_rawgeti(L, -1, e->name);
    lua_replace(L, -3);
    lua_pop(L, 1);
    name = lua_tolstring(L, -1, &n);
    if (name == NULL) {
        lua_pop(L, 1);
        return 0;
    }
    push_named(L, keep, name, n);
    if (!lua_rawequal(L, -1, -3)) {
        lua_pop(L, 2);
        return 0;
    }
    lua_pop(L, 1);
    return 1;
}

/* Called with package.loaded, require or nil, and the parts of a name: the value. */
static int
resolve(lua_State *L)
{
    int i, nparts = lua_gettop(L) - 2;
    int may_load = !lua_isnil(L, 2);

    lua_pushvalue(L, 3);
    if (lua_rawget(L, 1) == LUA_TNIL) {
        if (!may_load)
            return luaL_error(L,
                              "module '%s' is not loaded, and is only loaded when functions "
                              "are asked for",
                              lua_tostring(L, 3));
        lua_pushvalue(L, 2);
        lua_pushvalue(L, 3);
        lua_call(L, 1, 1);
    }
    for (i = 1; i < nparts; i++) {
        lua_pushvalue(L, 3 + i);
        if (may_load)
            lua_gettable(L, -2); /* a module may load its parts when they are used */
        else if (lua_type(L, -2) == LUA_TTABLE)
            lua_rawget(L, -2);
        else
            lua_pushnil(L);
    }
    if (lua_isnil(L, -1))
        return luaL_error(L, "module '%s' has no '%s' here", lua_tostring(L, 3),
                          lua_tostring(L, 2 + nparts));
    return 1;
}

int
lmpe_names_resolve(lua_State *L, int keep, int nkeys, int may_load)
{
    int first = lua_gettop(L) - nkeys;

    lua_pushcfunction(L, resolve);
    lua_rawgeti(L, keep, LMPE_KEEP_LOADED);
    if (may_load)
        lua_rawgeti(L, keep, LMPE_KEEP_REQUIRE);
    else
        lua_pushnil(L);
    lua_rotate(L, first, 3);
    if (lua_pcall(L, nkeys + 3, 1, 0) == LUA_OK)
        return MPE_OK;
    if (lua_type(L, -1) != LUA_TSTRING) {
        lua_pop(L, 1);
        lua_pushliteral(L, "cannot load a module that the message needs");
    }
    return MPE_ETYPE;
}
