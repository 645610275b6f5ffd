/* SPDX-License-Identifier: MIT
 *
 * lhttpd_url.c - see lhttpd_url.h. A percent sign without two digits behind it stands for itself.
 */
#include "io/lhttpd_url.h"
#include "base/lmpe.h"

#include <string.h>

static int
digit(char c)
{
    return c >= '0' && c <= '9'   ? c - '0'
           : c >= 'a' && c <= 'f' ? c - 'a' + 10
           : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                  : -1;
}

/* plus: a plus sign is a space, as in forms. */
static void
push_decoded(lua_State *L, const char *from, size_t size, char plus)
{
    luaL_Buffer b;
    if (!memchr(from, '%', size) && (plus == '+' || !memchr(from, '+', size))) {
        lua_pushlstring(L, from, size);
        return;
    }
    char *to = luaL_buffinitsize(L, &b, size);
    size_t n = 0;
    for (size_t i = 0; i < size; i++) {
        int high = from[i] == '%' && i + 2 < size ? digit(from[i + 1]) : -1;
        int low = high >= 0 ? digit(from[i + 2]) : -1;
        to[n++] = low >= 0 ? (char)(high * 16 + low) : from[i] == '+' ? plus : from[i];
        i += low >= 0 ? 2 : 0;
    }
    luaL_pushresultsize(&b, n);
}

void
lmpe_push_path(lua_State *L, const char *target)
{
    const char *scheme = *target == '/' ? NULL : strstr(target, "://");
    if (scheme) {
        target = scheme + 3 + strcspn(scheme + 3, "/?#");
        if (*target != '/')
            target = "/";
    }
    push_decoded(L, target, strcspn(target, "?#"), '+');
}

void
lmpe_add_field(lua_State *L)
{
    lua_pushvalue(L, -2);
    int type = lua_rawget(L, -4);
    if (type == LUA_TNIL) {
        lua_pop(L, 1);
        lua_rawset(L, -3);
        return;
    }
    if (type != LUA_TTABLE) {
        lua_createtable(L, 2, 0);
        lua_insert(L, -2);
        lua_rawseti(L, -2, 1);
    }
    lua_insert(L, -2);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
    lua_rawset(L, -3);
}

int
lmpe_query(lua_State *L)
{
    const char *at = strchr(luaL_checkstring(L, 1), '?');
    lua_newtable(L);
    while (at && *at && *at != '#') {
        size_t size = strcspn(++at, "&#");
        const char *equals = memchr(at, '=', size);
        size_t name = equals ? (size_t)(equals - at) : size;
        if (size > 0) {
            push_decoded(L, at, name, ' ');
            push_decoded(L, at + name + (equals != NULL), size - name - (equals != NULL), ' ');
            lmpe_add_field(L);
        }
        at += size;
    }
    return 1;
}
