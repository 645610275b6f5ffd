/* SPDX-License-Identifier: MIT
 *
 * lhttp.c - one HTTP request as a userdata that a task waits on, and the cookies of a session. What
 * scripts call, and the checking of what they give, is in mpengine/http.lua.
 *
 * A transfer is closed by its scope in Lua (__close), so a task that is killed or times out takes
 * its request off libcurl on its way out.
 */
#include "lmpe.h"

#include "lcurl.h"

#include <stdio.h>
#include <string.h>

#define TRANSFER "mpengine.transfer"
#define COOKIES "mpengine.cookies"

enum { UV_BODY = 1, UV_COOKIES = 2 }; /* user values of a transfer: what curl points into */

typedef struct request {
    lmpe_transfer t;
    lmpe *S;
    const lmpe_curl_api *curl;
    struct curl_slist *headers;
    const char *upload; /* a PUT's body, and how much of it has been read */
    size_t upload_size, upload_at;
    uint64_t started, deadline;
} request;

static const lmpe_curl_api *
check_curl(lua_State *L)
{
    const char *why;
    const lmpe_curl_api *curl = lmpe_curl_load(&why);
    if (!curl)
        luaL_error(L, "%s", why);
    return curl;
}

static request *
check_request(lua_State *L)
{
    request *r = luaL_checkudata(L, 1, TRANSFER);
    if (!r->S->e)
        lmpe_raise_closed(L);
    return r;
}

/* ---- options ---- */

static void
set(lua_State *L, request *r, CURLoption option, ...)
{
    va_list args;
    va_start(args, option);
    CURLcode rc = option < CURLOPTTYPE_OBJECTPOINT
                      ? r->curl->easy_setopt(r->t.easy, option, va_arg(args, long))
                      : r->curl->easy_setopt(r->t.easy, option, va_arg(args, void *));
    va_end(args);
    if (rc != CURLE_OK)
        luaL_error(L, "%s", r->curl->easy_strerror(rc));
}

/* The string field of the table at index 1, or NULL; it lives as long as the table. */
static const char *
text(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    const char *s = lua_tostring(L, -1);
    lua_pop(L, 1);
    return s;
}

static int
flag(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    int on = lua_toboolean(L, -1);
    lua_pop(L, 1);
    return on;
}

static size_t
read_upload(char *to, size_t size, size_t count, void *ud)
{
    request *r = ud;
    size_t n = r->upload_size - r->upload_at;
    n = n < size * count ? n : size * count;
    memcpy(to, r->upload + r->upload_at, n);
    r->upload_at += n;
    return n;
}

/* Back to the start, when a redirect or a login asks for the body again. */
static int
seek_upload(void *ud, curl_off_t offset, int origin)
{
    request *r = ud;
    if (origin != SEEK_SET || offset < 0 || (size_t)offset > r->upload_size)
        return CURL_SEEKFUNC_FAIL;
    r->upload_at = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static void
set_upload(lua_State *L, request *r, const char *body, size_t n)
{
    r->upload = body;
    r->upload_size = n;
    set(L, r, CURLOPT_UPLOAD, 1L);
    r->curl->easy_setopt(r->t.easy, CURLOPT_READFUNCTION, read_upload);
    r->curl->easy_setopt(r->t.easy, CURLOPT_READDATA, r);
    r->curl->easy_setopt(r->t.easy, CURLOPT_SEEKFUNCTION, seek_upload);
    r->curl->easy_setopt(r->t.easy, CURLOPT_SEEKDATA, r);
    r->curl->easy_setopt(r->t.easy, CURLOPT_INFILESIZE_LARGE, (curl_off_t)n);
}

/* The userdata is on top of the stack. */
static void
set_method(lua_State *L, request *r)
{
    size_t n = 0;
    const char *method = text(L, "method");
    lua_getfield(L, 1, "body");
    const char *body = lua_tolstring(L, -1, &n);
    lua_setiuservalue(L, -2, UV_BODY); /* curl does not copy it */
    if (strcmp(method, "HEAD") == 0) {
        set(L, r, CURLOPT_NOBODY, 1L);
        return;
    }
    if (strcmp(method, "PUT") == 0) {
        set_upload(L, r, body ? body : "", n);
        return;
    }
    if (strcmp(method, "POST") == 0 && !body)
        body = "";
    if (body) {
        set(L, r, CURLOPT_POST, 1L);
        r->curl->easy_setopt(r->t.easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
        set(L, r, CURLOPT_POSTFIELDS, body);
    }
    if (strcmp(method, body ? "POST" : "GET") != 0)
        set(L, r, CURLOPT_CUSTOMREQUEST, method);
}

static void
set_headers(lua_State *L, request *r)
{
    lua_getfield(L, 1, "headers");
    for (lua_Integer i = 1, n = luaL_len(L, -1); i <= n; i++) {
        lua_rawgeti(L, -1, i);
        struct curl_slist *list = r->curl->slist_append(r->headers, lua_tostring(L, -1));
        if (!list)
            luaL_error(L, "out of memory");
        r->headers = list;
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    set(L, r, CURLOPT_HTTPHEADER, r->headers);
}

static void
set_verify(lua_State *L, request *r)
{
    const char *file = text(L, "ca_file");
    if (flag(L, "insecure")) {
        set(L, r, CURLOPT_SSL_VERIFYPEER, 0L);
        set(L, r, CURLOPT_SSL_VERIFYHOST, 0L);
    } else if (file) {
        set(L, r, CURLOPT_CAINFO, file);
    }
}

static void
set_cookies(lua_State *L, request *r)
{
    lua_getfield(L, 1, "cookies");
    CURLSH **share = luaL_testudata(L, -1, COOKIES);
    if (share) {
        set(L, r, CURLOPT_SHARE, *share);
        set(L, r, CURLOPT_COOKIEFILE, ""); /* reads none, but keeps those that come */
    }
    lua_setiuservalue(L, -2, UV_COOKIES);
}

static void
set_options(lua_State *L, request *r)
{
    lua_getfield(L, 1, "redirects");
    long redirects = (long)lua_tointeger(L, -1);
    lua_pop(L, 1);
    set(L, r, CURLOPT_URL, text(L, "url"));
    set(L, r, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    set(L, r, CURLOPT_REDIR_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    set(L, r, CURLOPT_FOLLOWLOCATION, redirects > 0 ? 1L : 0L);
    set(L, r, CURLOPT_MAXREDIRS, redirects);
    set(L, r, CURLOPT_USERAGENT, "mpengine/" MPE_VERSION);
    set(L, r, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    r->curl->easy_setopt(r->t.easy, CURLOPT_ACCEPT_ENCODING, ""); /* all it knows, or none */
    if (text(L, "proxy"))
        set(L, r, CURLOPT_PROXY, text(L, "proxy"));
    if (text(L, "auth"))
        set(L, r, CURLOPT_USERPWD, text(L, "auth"));
    set_method(L, r);
    set_headers(L, r);
    set_verify(L, r);
    set_cookies(L, r);
}

/* ---- a transfer ---- */

static int
end_request(request *r)
{
    lmpe_transfer_close(r->S, &r->t);
    if (r->headers)
        r->curl->slist_free_all(r->headers);
    r->headers = NULL;
    return 0;
}

static int
request_close(lua_State *L)
{
    return end_request(check_request(L));
}

static int
request_gc(lua_State *L)
{
    request *r = lmpe_finalized(L, TRANSFER, sizeof *r);
    return r && r->S->e ? end_request(r) : 0;
}

/* transfer(options) -> transfer: starts a request. Fields: method, url, headers (list of lines),
 * body, timeout, redirects, insecure, ca_file, proxy, auth, streaming, cookies. */
static int
new_transfer(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    const lmpe_curl_api *curl = check_curl(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    lua_settop(L, 1);
    lua_getfield(L, 1, "timeout");
    uint64_t deadline = lmpe_check_deadline(L, 2);
    lmpe_await_check(L, S);
    request *r = lua_newuserdatauv(L, sizeof *r, 2);
    memset(r, 0, sizeof *r);
    r->S = S;
    r->curl = curl;
    r->deadline = deadline;
    r->started = mpe_now();
    if (lmpe_transfer_open(curl, &r->t) != MPE_OK)
        return luaL_error(L, "out of memory");
    luaL_setmetatable(L, TRANSFER);
    r->t.streaming = flag(L, "streaming");
    set_options(L, r);
    const char *why = lmpe_transfer_start(S, &r->t);
    if (why)
        return luaL_error(L, "%s", why);
    return 1;
}

static int
attempt_read(lmpe *S, lmpe_await *a)
{
    request *r = (request *)(uintptr_t)a->scratch[0];
    (void)S;
    a->source = LMPE_LIST;
    a->on.list = &r->t.waiters;
    if (r->t.done)
        return MPE_OK;
    int late = r->deadline != MPE_FOREVER && r->deadline <= mpe_now();
    return r->t.streaming && r->t.body.len > 0 && !late ? MPE_OK : MPE_EAGAIN;
}

static int
push_failure(lua_State *L, request *r)
{
    luaL_pushfail(L);
    if (r->t.result == CURLE_OPERATION_TIMEDOUT)
        lua_pushliteral(L, "timeout");
    else if (r->t.failed)
        lua_pushstring(L, mpe_strerror(r->t.failed));
    else
        lua_pushstring(L, r->t.error[0] ? r->t.error : r->curl->easy_strerror(r->t.result));
    return 2;
}

static int
finish_read(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    request *r = (request *)(uintptr_t)a->scratch[0];
    (void)S;
    if (status != MPE_OK)
        return lmpe_outcome(L, status, "timeout");
    if (r->t.streaming && r->t.body.len > 0) {
        lua_pushlstring(L, (const char *)r->t.body.data, r->t.body.len);
        r->t.body.len = 0;
        lmpe_transfer_resume(&r->t);
        return 1;
    }
    if (r->t.result != CURLE_OK)
        return push_failure(L, r);
    lua_pushboolean(L, 0);
    return 1;
}

/* transfer:read() -> the next piece of a streamed body | false at its end | nil, message */
static int
request_read(lua_State *L)
{
    request *r = check_request(L);
    luaL_argcheck(L, r->t.easy, 1, "the transfer is closed");
    lmpe_await *a = lmpe_await_new(r->S, r->deadline, "timeout");
    a->scratch[0] = (uintptr_t)r;
    a->attempt = attempt_read;
    a->finish = finish_read;
    return lmpe_await_run(L, r->S, a);
}

/* transfer:result() -> status, header lines, body, URL, seconds; when read gave false */
static int
request_result(lua_State *L)
{
    request *r = check_request(L);
    long status = 0;
    char *url = NULL;
    luaL_argcheck(L, r->t.easy && r->t.done, 1, "the transfer has not ended");
    r->curl->easy_getinfo(r->t.easy, CURLINFO_RESPONSE_CODE, &status);
    r->curl->easy_getinfo(r->t.easy, CURLINFO_EFFECTIVE_URL, &url);
    lua_pushinteger(L, status);
    lua_pushlstring(L, (const char *)r->t.head.data, r->t.head.len);
    lua_pushlstring(L, (const char *)r->t.body.data, r->t.body.len);
    lua_pushstring(L, url);
    lua_pushnumber(L, (lua_Number)(mpe_now() - r->started) / (lua_Number)MPE_NS_PER_S);
    return 5;
}

/* ---- cookies ---- */

static int
cookies_close(lua_State *L)
{
    CURLSH **share = lmpe_finalized(L, COOKIES, sizeof *share);
    if (share && *share)
        check_curl(L)->share_cleanup(*share);
    if (share)
        *share = NULL;
    return 0;
}

/* cookies() -> what the requests of one session share */
static int
new_cookies(lua_State *L)
{
    const lmpe_curl_api *curl = check_curl(L);
    CURLSH **share = lua_newuserdatauv(L, sizeof *share, 0);
    *share = curl->share_init();
    if (!*share)
        return luaL_error(L, "out of memory");
    luaL_setmetatable(L, COOKIES);
    curl->share_setopt(*share, CURLSHOPT_SHARE, CURL_LOCK_DATA_COOKIE);
    return 1;
}

void
lmpe_open_http(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"transfer", new_transfer}, {"cookies", new_cookies}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"read", request_read}, {"result", request_result}, {"close", request_close}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__close", request_close}, {"__gc", request_gc}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, COOKIES);
    lua_pushcfunction(L, cookies_close);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
    luaL_newmetatable(L, TRANSFER);
    luaL_setfuncs(L, meta, 0);
    luaL_newlib(L, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}
