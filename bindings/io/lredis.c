/* SPDX-License-Identifier: MIT
 *
 * lredis.c - the protocol of Redis as Lua values: hiredis makes commands and reads replies. The
 * library is opened at the first use. A reply is a string, an integer, a table of replies, false for
 * nil, or for an error a table with a field err.
 */
#include "base/lfinalize.h"
#include "base/lmpe.h"
#include "io/lload.h"

#include <stddef.h>
#include <stdint.h>

#if __has_include(<hiredis/hiredis.h>)
#include <hiredis/hiredis.h>
#include <stdio.h>
#include <string.h>

#define READER "mpengine.redis_reader"
#define WORDS_MAX 1000000 /* of one command */

#define QUOTE_(x) #x
#define QUOTE(x) QUOTE_(x)
#define LIBRARY "libhiredis.so." QUOTE(HIREDIS_SONAME)

#if HIREDIS_MAJOR >= 1
typedef size_t array_size;
typedef long long command_size;
#else
typedef int array_size;
typedef int command_size;
#endif

struct functions {
    __typeof__(redisReaderCreateWithFunctions) *create;
    __typeof__(redisReaderFree) *release;
    __typeof__(redisReaderFeed) *feed;
    __typeof__(redisReaderGetReply) *get;
    __typeof__(redisFormatCommandArgv) *format;
    __typeof__(redisFreeCommand) *free;
};
static struct functions redis;

static struct lmpe_load_once loaded = LMPE_LOAD_ONCE;

static void
load(char *error)
{
    static const struct lmpe_load_name names[] = {
        {"redisReaderCreateWithFunctions", offsetof(struct functions, create)},
        {"redisReaderFree", offsetof(struct functions, release)},
        {"redisReaderFeed", offsetof(struct functions, feed)},
        {"redisReaderGetReply", offsetof(struct functions, get)},
        {"redisFormatCommandArgv", offsetof(struct functions, format)},
        {"redisFreeCommand", offsetof(struct functions, free)},
        {NULL, 0}};
    lmpe_load_library(LIBRARY, "a Manager of a URL", names, &redis, error);
}

static void
need_library(lua_State *L)
{
    const char *why = lmpe_load_first(&loaded, load);
    if (why)
        luaL_error(L, "%s", why);
}

/* ---- replies ----
 *
 * The user value of a reader has the tables that are not complete: at depth + 1, the outermost at 1.
 * hiredis gets that number as the object. A reply that is no table is at ONLY. While hiredis reads, L
 * has the user value at `tables`, and nothing raises but for want of memory: then the reader is of no
 * further use, as its caller closes the connection for any error. */

typedef struct reader {
    redisReader *r;
    lua_State *L;
    int tables;
} reader;

#define ONLY 1000 /* deeper than hiredis reads */

static intptr_t
depth_of(const redisReadTask *task)
{
    return task->parent ? 1 + depth_of(task->parent) : 1;
}

/* Stores the value on the top of the stack, and pops it. */
static void *
store(const redisReadTask *task)
{
    reader *d = task->privdata;
    if (task->parent) {
        lua_rawgeti(d->L, d->tables, (intptr_t)task->parent->obj);
        lua_insert(d->L, -2);
        lua_rawseti(d->L, -2, task->idx + 1);
        lua_pop(d->L, 1);
    } else {
        lua_rawseti(d->L, d->tables, ONLY);
    }
    return (void *)(intptr_t)ONLY;
}

static void *
on_string(const redisReadTask *task, char *bytes, size_t size)
{
    reader *d = task->privdata;
    if (task->type != REDIS_REPLY_ERROR) {
        lua_pushlstring(d->L, bytes, size);
        return store(task);
    }
    lua_createtable(d->L, 0, 1);
    lua_pushlstring(d->L, bytes, size);
    lua_setfield(d->L, -2, "err");
    return store(task);
}

static void *
on_array(const redisReadTask *task, array_size count)
{
    reader *d = task->privdata;
    intptr_t at = depth_of(task);
    lua_createtable(d->L, count < 1000 ? (int)count : 1000, 0);
    lua_pushvalue(d->L, -1);
    lua_rawseti(d->L, d->tables, at);
    store(task);
    return (void *)at;
}

static void *
on_integer(const redisReadTask *task, long long n)
{
    reader *d = task->privdata;
    lua_pushinteger(d->L, n);
    return store(task);
}

static void *
on_nil(const redisReadTask *task)
{
    reader *d = task->privdata;
    lua_pushboolean(d->L, 0);
    return store(task);
}

static void
on_free(void *object)
{
    (void)object; /* the collector's */
}

static redisReplyObjectFunctions functions = {.createString = on_string,
                                              .createArray = on_array,
                                              .createInteger = on_integer,
                                              .createNil = on_nil,
                                              .freeObject = on_free};

static int
reader_free(lua_State *L)
{
    reader *d = lmpe_finalized(L, READER, sizeof *d);
    if (d && d->r)
        redis.release(d->r);
    return 0;
}

/* redis_reader() -> reader */
static int
new_reader(lua_State *L)
{
    need_library(L);
    reader *d = lua_newuserdatauv(L, sizeof *d, 1);
    memset(d, 0, sizeof *d);
    luaL_setmetatable(L, READER);
    lua_newtable(L);
    lua_setiuservalue(L, -2, 1);
    d->r = redis.create(&functions);
    if (!d->r)
        return luaL_error(L, "out of memory");
    d->r->privdata = d;
    return 1;
}

/* Raises what the server did wrong: no line of the script is at fault. */
static int
no_reply(lua_State *L, const reader *d)
{
    lua_pushstring(L, d->r->errstr);
    return lua_error(L);
}

/* reader:feed(bytes) */
static int
reader_feed(lua_State *L)
{
    reader *d = luaL_checkudata(L, 1, READER);
    size_t size;
    const char *bytes = luaL_checklstring(L, 2, &size);
    if (redis.feed(d->r, bytes, size) != REDIS_OK)
        return no_reply(L, d);
    return 0;
}

/* reader:get() -> the next reply | nil: it is not complete; raises for bytes that are no reply */
static int
reader_get(lua_State *L)
{
    reader *d = luaL_checkudata(L, 1, READER);
    void *object = NULL;
    lua_settop(L, 1);
    lua_getiuservalue(L, 1, 1);
    luaL_checkstack(L, 8, NULL);
    d->L = L;
    d->tables = 2;
    int rc = redis.get(d->r, &object);
    d->L = NULL;
    if (rc != REDIS_OK)
        return no_reply(L, d);
    if (!object) {
        luaL_pushfail(L);
        return 1;
    }
    lua_rawgeti(L, 2, ONLY);
    lua_pushnil(L);
    lua_rawseti(L, 2, ONLY);
    return 1;
}

/* ---- commands ---- */

/* redis_command(list of strings and numbers) -> bytes */
static int
command(lua_State *L)
{
    need_library(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_Integer n = luaL_len(L, 1);
    luaL_argcheck(L, n > 0 && n <= WORDS_MAX, 1, "1 to " QUOTE(WORDS_MAX) " words expected");
    const char **words = lua_newuserdatauv(L, (size_t)n * sizeof *words, 0);
    size_t *sizes = lua_newuserdatauv(L, (size_t)n * sizeof *sizes, 0);
    for (lua_Integer i = 0; i < n; i++) {
        lua_rawgeti(L, 1, i + 1);
        if (lua_type(L, -1) == LUA_TNUMBER) { /* as a string that the list keeps */
            lua_tostring(L, -1);
            lua_pushvalue(L, -1);
            lua_rawseti(L, 1, i + 1);
        }
        words[i] = lua_tolstring(L, -1, &sizes[i]);
        if (!words[i])
            return luaL_error(L, "word %d is a %s", (int)i + 1, luaL_typename(L, -1));
        lua_pop(L, 1);
    }
    char *bytes = NULL;
    command_size size = redis.format(&bytes, (int)n, words, sizes);
    if (size < 0)
        return luaL_error(L, "out of memory");
    lua_pushlstring(L, bytes, (size_t)size);
    redis.free(bytes);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg public[] = {
        {"redis_reader", new_reader}, {"redis_command", command}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"feed", reader_feed}, {"get", reader_get}, {NULL, NULL}};
    lmpe_setfuncs(L, S, public);
    luaL_newmetatable(L, READER);
    lua_pushcfunction(L, reader_free);
    lua_setfield(L, -2, "__gc");
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

#else

static int
absent(lua_State *L)
{
    return luaL_error(L,
                      "a Manager of a URL needs hiredis, whose headers (libhiredis-dev) were not "
                      "there when mpengine was built");
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg public[] = {
        {"redis_reader", absent}, {"redis_command", absent}, {NULL, NULL}};
    lmpe_setfuncs(L, S, public);
}

#endif

const lmpe_module lmpe_redis_module = {.open = on_open};
