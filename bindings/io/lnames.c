/* SPDX-License-Identifier: MIT
 *
 * lnames.c - looking up host names, as a userdata that tasks wait on. It may be asked again
 * after a wait that timed out, and is dropped by its scope, or when it is collected.
 */
#include "base/lfinalize.h"
#include "base/lsystem.h"
#include "io/lsocket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>

#define LOOKUP "mpengine.lookup"

typedef struct lookup {
    lmpe *S;
    mpe_lookup *l; /* NULL: dropped */
    int by_host;   /* its errors are those of gethostbyname */
} lookup;

/* The texts are those of LuaSocket, with which scripts compare. */
static const char *
words_of(const lookup *x, const mpe_lookup_answer *a)
{
    static const struct {
        int error;
        const char *words;
    } known[] = {
        {EAI_AGAIN, "temporary failure in name resolution"},
        {EAI_BADFLAGS, "invalid value for ai_flags"},
        {EAI_FAIL, "non-recoverable failure in name resolution"},
        {EAI_FAMILY, "ai_family not supported"},
        {EAI_MEMORY, "memory allocation failure"},
        {EAI_NONAME, "host or service not provided, or not known"},
        {EAI_OVERFLOW, "argument buffer overflow"},
        {EAI_SERVICE, "service not supported for socket type"},
        {EAI_SOCKTYPE, "ai_socktype not supported"},
        {HOST_NOT_FOUND, "host not found"},
    };
    if (a->error == EAI_SYSTEM || (x->by_host && a->error == NETDB_INTERNAL))
        return lmpe_reason(a->number);
    for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
        if (known[i].error == a->error)
            return known[i].words;
    return x->by_host ? hstrerror(a->error) : gai_strerror(a->error);
}

static const char *
name_of(char tag)
{
    static const struct {
        char tag;
        const char *name;
    } names[] = {{MPE_LOOKUP_INET, "inet"},
                 {MPE_LOOKUP_INET6, "inet6"},
                 {MPE_LOOKUP_ALIAS, "alias"},
                 {MPE_LOOKUP_SERVICE, "service"}};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        if (names[i].tag == tag)
            return names[i].name;
    return "name";
}

static lookup *
check_lookup(lua_State *L)
{
    lookup *x = luaL_checkudata(L, 1, LOOKUP);
    if (!x->S->e)
        lmpe_raise_closed(L);
    luaL_argcheck(L, x->l, 1, "the look-up is closed");
    return x;
}

static int
lookup_close(lua_State *L)
{
    lookup *x = luaL_checkudata(L, 1, LOOKUP);
    if (x->l && x->S->e)
        mpe_lookup_free(x->S->e, x->l);
    x->l = NULL;
    return 0;
}

static int
lookup_gc(lua_State *L)
{
    lookup *x = lmpe_finalized(L, LOOKUP, sizeof *x);
    if (x && x->l && x->S->e)
        mpe_lookup_free(x->S->e, x->l);
    if (x)
        x->l = NULL;
    return 0;
}

/* lookup(kind, name [, service]) -> look-up | nil, message: no thread is available; kind:
 * "addresses", "names" or "host" */
static int
new_lookup(lua_State *L)
{
    static const char *const kinds[] = {"addresses", "names", "host", NULL};
    lmpe *S = lmpe_self(L);
    int kind = luaL_checkoption(L, 1, NULL, kinds);
    const char *name = luaL_optstring(L, 2, NULL), *service = luaL_optstring(L, 3, NULL);
    lmpe_await_check(L, S);
    lookup *x = lua_newuserdatauv(L, sizeof *x, 0);
    *x = (lookup){.S = S, .by_host = kind == MPE_LOOKUP_HOST};
    luaL_setmetatable(L, LOOKUP);
    int rc = mpe_lookup_start(S->e, (enum mpe_lookup_kind)kind, name, service, &x->l);
    if (rc == MPE_OK)
        return 1;
    luaL_pushfail(L);
    lua_pushfstring(L, "no thread can be started to look up '%s': %s", name ? name : "",
                    rc == MPE_ESYS ? lmpe_start_reason(errno) : mpe_strerror(rc));
    return 2;
}

/* A list of { family = "inet", addr = "127.0.0.1" }. */
static int
push_answer(lua_State *L, const lookup *x)
{
    const mpe_lookup_answer *a = mpe_lookup_answered(x->l);
    if (a->error) {
        luaL_pushfail(L);
        lua_pushstring(L, words_of(x, a));
        return 2;
    }
    const char *at = a->text.data, *end = at + a->text.size;
    lua_newtable(L);
    for (lua_Integer i = 1; at < end; i++) {
        lua_createtable(L, 0, 2);
        lua_pushstring(L, name_of(*at));
        lua_setfield(L, -2, "family");
        lua_pushstring(L, at + 1);
        lua_setfield(L, -2, "addr");
        lua_rawseti(L, -2, i);
        at += strlen(at) + 1;
    }
    return 1;
}

static int
attempt_wait(lmpe *S, lmpe_await *a)
{
    lookup *x = (lookup *)(uintptr_t)a->scratch[0];
    (void)S;
    if (!x->l || mpe_lookup_answered(x->l))
        return MPE_OK;
    a->source = LMPE_LIST;
    a->on.list = mpe_lookup_waiters(x->l);
    return MPE_EAGAIN;
}

static int
finish_wait(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lookup *x = (lookup *)(uintptr_t)a->scratch[0];
    (void)S;
    if (status != MPE_OK)
        return lmpe_outcome(L, status, "timeout");
    return x->l ? push_answer(L, x) : lmpe_outcome(L, MPE_ECLOSED, NULL);
}

/* lookup:wait([timeout]) -> list | nil, "timeout" | nil, message */
static int
lookup_wait(lua_State *L)
{
    lookup *x = check_lookup(L);
    uint64_t deadline = lmpe_check_deadline(L, 2);
    lmpe_await *a = lmpe_await_new(x->S, deadline, "timeout");
    a->scratch[0] = (uintptr_t)x;
    a->attempt = attempt_wait;
    a->finish = finish_wait;
    return lmpe_await_run(L, x->S, a);
}

/* An IPv6 address may have a scope, which is anything. */
int
lmpe_is_address(const char *host)
{
    struct in_addr a;
    return strchr(host, ':') || inet_pton(AF_INET, host, &a) == 1;
}

/* is_address(host): it needs no look-up */
static int
is_address(lua_State *L)
{
    lua_pushboolean(L, lmpe_is_address(luaL_checkstring(L, 1)));
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"lookup", new_lookup}, {"is_address", is_address}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"wait", lookup_wait}, {"close", lookup_close}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__close", lookup_close}, {"__gc", lookup_gc}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, LOOKUP);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

const lmpe_module lmpe_names_module = {.open = on_open};
