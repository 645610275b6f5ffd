/* A host and its script use one dict: keys and values that either has packed are read by the other,
 * and where C has stored bytes that are no value the script gets an error. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

#include "mpengine_lua.h"

static const char *const readers[] = {
    "return d.x",
    "return d:get('x')",
    "for k, v in pairs(d) do end",
    "return d:items()",
    "return d:values()",
    "return d:copy()",
    "return d:modify('x', function(v) return v end)",
    "return d:setdefault('x', 1)",
    "return d:pop('x')",
    "d.x = nil return d:popitem()",
    "return l[1]",
    "for i, v in ipairs(l) do end",
    "return l:copy()",
    "return l:index(3)",
    "l:sort()",
    "return l:pop()",
};

static void
set_global(lua_State *L, mpe_object *o, const char *name)
{
    mpe_lua_push(L, o);
    lua_setglobal(L, name);
}

/* The number at a key, or -1. */
static long long
number_at(mpe_engine *e, mpe_object *d, const char *format, double key)
{
    mpe_buf k, v;
    int64_t n = -1;
    mpe_buf_init(&k);
    mpe_buf_init(&v);
    mpe_pack(e, &k, format, key);
    mpe_bytes bytes = {k.data, k.len};
    if (mpe_dict_get(e, d, bytes, &v, NULL) == MPE_OK)
        mpe_unpack(e, v.data, v.len, "i", &n);
    mpe_buf_free(&k);
    mpe_buf_free(&v);
    return n;
}

static void
share_keys(lua_State *L, mpe_engine *e, mpe_object *d)
{
    mpe_buf b;
    mpe_bytes value = {"\x07", 1};
    mpe_buf_init(&b);
    mpe_pack(e, &b, "z", "from C");
    mpe_bytes key = {b.data, b.len};
    mpe_dict_put(e, d, key, value, 0);
    if (luaL_dostring(L, "d[6.0] = d['from C'] + 35 d[6.5] = 1 return d['from C']") != LUA_OK)
        printf("%s\n", lua_tostring(L, -1));
    printf("the script reads %d, C reads %lld and %lld\n", (int)lua_tointeger(L, -1),
           number_at(e, d, "d", 6), number_at(e, d, "d", 6.5));
    lua_settop(L, 0);
    mpe_dict_clear(e, d);
    mpe_buf_free(&b);
}

/* How many readers raise an error that says so. */
static int
read_all(lua_State *L, mpe_engine *e, mpe_object *d, mpe_object *l, mpe_bytes bytes)
{
    int told = 0;
    mpe_bytes x = {"\x81x", 2}, y = {"\x81y", 2};
    for (size_t i = 0; i < sizeof readers / sizeof readers[0]; i++) {
        mpe_dict_clear(e, d);
        mpe_list_clear(e, l);
        mpe_dict_put(e, d, x, bytes, 0);
        mpe_dict_put(e, d, y, bytes, 0);
        mpe_list_set(e, l, 0, bytes, 0);
        mpe_list_set(e, l, 1, bytes, 0);
        int failed = luaL_dostring(L, readers[i]) != LUA_OK;
        int says = failed && strstr(lua_tostring(L, -1), "damaged data") != NULL;
        if (!says)
            printf("%s: %s\n", readers[i], failed ? lua_tostring(L, -1) : "no error");
        told += says;
        lua_settop(L, 0);
    }
    return told;
}

int
main(void)
{
    static const mpe_bytes contents[] = {{"raw", 3}, {"", 0}, {"\xff", 1}, {"\xe0\xe0", 2}};
    mpe_engine *e;
    mpe_object *d, *l;
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    if (mpe_open(NULL, &e) != MPE_OK || mpe_lua_open(L, e) != MPE_OK)
        return 1;
    if (mpe_dict_create(e, &d) != MPE_OK || mpe_list_create(e, &l) != MPE_OK)
        return 1;
    set_global(L, d, "d");
    set_global(L, l, "l");
    share_keys(L, e, d);
    for (size_t i = 0; i < sizeof contents / sizeof contents[0]; i++)
        printf("%d errors\n", read_all(L, e, d, l, contents[i]));
    mpe_bytes bad = {"plain", 5}, one = {"\x01", 1};
    mpe_dict_clear(e, d);
    mpe_dict_put(e, d, bad, one, 0);
    printf("%s\n", luaL_dostring(L, "return d:keys()") ? lua_tostring(L, -1) : "no error");
    lua_close(L);
    mpe_drop(e, d);
    mpe_drop(e, l);
    mpe_close(e);
    return 0;
}
