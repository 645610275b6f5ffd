/* SPDX-License-Identifier: MIT
 *
 * lhttp_session.c - the data that requests share: the connections and the cookies of a session,
 * and the parts of URLs.
 */
#include "base/lfinalize.h"
#include "io/lhttp.h"

#include <string.h>

const lmpe_curl_api *
lmpe_check_curl(lua_State *L)
{
    const char *why;
    const lmpe_curl_api *curl = lmpe_curl_load(&why);
    if (!curl)
        luaL_error(L, "%s", why);
    return curl;
}

/* ---- URLs ---- */

static const char *
push_part(lua_State *L, const lmpe_curl_api *curl, CURLU *u, CURLUPart part)
{
    char *text = NULL;
#ifdef CURLU_PUNYCODE
    CURLUcode rc = curl->url_get(u, part, &text, part == CURLUPART_HOST ? CURLU_PUNYCODE : 0);
#else
    CURLUcode rc = curl->url_get(u, part, &text, 0);
#endif
    lua_pushstring(L, rc == CURLUE_OK ? text : NULL);
    if (text)
        curl->free(text);
    return lua_tostring(L, -1);
}

/* url_parts(url) -> scheme, host, port or nil, user or nil | nil: it is none */
static int
url_parts(lua_State *L)
{
    const lmpe_curl_api *curl = lmpe_check_curl(L);
    const char *text = luaL_checkstring(L, 1);
    CURLU *u = curl->url();
    if (!u)
        return luaL_error(L, "out of memory");
    if (curl->url_set(u, CURLUPART_URL, text, CURLU_GUESS_SCHEME | CURLU_NON_SUPPORT_SCHEME)) {
        curl->url_cleanup(u);
        luaL_pushfail(L);
        return 1;
    }
    push_part(L, curl, u, CURLUPART_SCHEME);
    push_part(L, curl, u, CURLUPART_HOST);
    push_part(L, curl, u, CURLUPART_PORT);
    push_part(L, curl, u, CURLUPART_USER);
    curl->url_cleanup(u);
    return 4;
}

/* ---- connections ---- */

static int
connections_close(lua_State *L)
{
    lmpe_connections_close(luaL_checkudata(L, 1, LMPE_CONNECTIONS));
    return 0;
}

static int
connections_gc(lua_State *L)
{
    lmpe_connections *c = lmpe_finalized(L, LMPE_CONNECTIONS, sizeof *c);
    if (c)
        lmpe_connections_close(c);
    return 0;
}

/* connections(seconds) -> an object that closes connections idle for that time */
static int
new_connections(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_Number seconds = luaL_checknumber(L, 1);
    lmpe_check_curl(L);
    lmpe_connections *c = lua_newuserdatauv(L, sizeof *c, 0);
    seconds = seconds < 1e9 ? seconds : 1e9;
    *c = (lmpe_connections){.S = S, .idle_ns = (uint64_t)(seconds * (lua_Number)MPE_NS_PER_S)};
    luaL_setmetatable(L, LMPE_CONNECTIONS);
    return 1;
}

/* ---- cookies ---- */

static int
cookies_close(lua_State *L)
{
    CURLSH **share = lmpe_finalized(L, LMPE_COOKIES, sizeof *share);
    if (share && *share)
        lmpe_check_curl(L)->share_cleanup(*share);
    if (share)
        *share = NULL;
    return 0;
}

/* cookies() -> the cookies that the requests of one session share */
static int
new_cookies(lua_State *L)
{
    const lmpe_curl_api *curl = lmpe_check_curl(L);
    CURLSH **share = lua_newuserdatauv(L, sizeof *share, 0);
    *share = curl->share_init();
    if (!*share)
        return luaL_error(L, "out of memory");
    luaL_setmetatable(L, LMPE_COOKIES);
    curl->share_setopt(*share, CURLSHOPT_SHARE, CURL_LOCK_DATA_COOKIE);
    return 1;
}

void
lmpe_http_kind(lua_State *L, const char *name, const luaL_Reg *methods, lua_CFunction close,
               lua_CFunction gc)
{
    luaL_newmetatable(L, name);
    lua_pushcfunction(L, gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, close);
    lua_setfield(L, -2, "__close");
    lua_newtable(L);
    luaL_setfuncs(L, methods, 0);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

void
lmpe_open_http_session(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"cookies", new_cookies},
                                         {"connections", new_connections},
                                         {"url_parts", url_parts},
                                         {NULL, NULL}};
    static const luaL_Reg of_connections[] = {{"close", connections_close}, {NULL, NULL}};
    static const luaL_Reg none[] = {{NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    lmpe_http_kind(L, LMPE_COOKIES, none, cookies_close, cookies_close);
    lmpe_http_kind(L, LMPE_CONNECTIONS, of_connections, connections_close, connections_gc);
}
