/* SPDX-License-Identifier: MIT
 *
 * lhttp.c - one HTTP request as a userdata that a task waits on. What scripts call, the checking of what
 * they give, the look-up of names and the following of redirects are in mpengine/http.lua and mpengine/http/.
 *
 * A transfer is closed by its scope in Lua (__close), so a task that is killed or times out
 * removes its request from libcurl as it ends.
 */
#include "task/ltask.h"
#include "io/lhttp.h"

#include <stdio.h>
#include <string.h>

#define TRANSFER "mpengine.transfer"

/* User values of a transfer: memory that curl points into. */
enum { UV_BODY = 1, UV_COOKIES, UV_CONNECTIONS, UV_LAST = UV_CONNECTIONS };

typedef struct request {
    lmpe_transfer t;
    const char
        *upload; /* a PUT's body, or a piece of one that is fed, and how much has been read */
    size_t upload_size, upload_at;
    int fed, hungry, whole; /* by a function in Lua: curl waits for a piece; there is no other */
} request;

static request *
check_request(lua_State *L)
{
    return lmpe_transfer_check(L, TRANSFER);
}

/* ---- options ---- */

static void
set(lua_State *L, request *r, CURLoption option, ...)
{
    va_list args;
    va_start(args, option);
    CURLcode rc = option < CURLOPTTYPE_OBJECTPOINT
                      ? lmpe_libcurl.easy_setopt(r->t.easy, option, va_arg(args, long))
                      : lmpe_libcurl.easy_setopt(r->t.easy, option, va_arg(args, void *));
    va_end(args);
    if (rc != CURLE_OK)
        luaL_error(L, "%s", lmpe_libcurl.easy_strerror(rc));
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
    if (n == 0 && r->fed && !r->whole) {
        r->hungry = 1;
        mpe_waitlist_wake(r->t.S->e, &r->t.waiters, UINT32_MAX);
        return CURL_READFUNC_PAUSE;
    }
    n = n < size * count ? n : size * count;
    if (n > 0) /* without a body there is no memory either */
        memcpy(to, r->upload + r->upload_at, n);
    r->upload_at += n;
    return n;
}

/* Rewinds to the start, when a redirect or a login asks for the body again. */
static int
seek_upload(void *ud, curl_off_t offset, int origin)
{
    request *r = ud;
    if (r->fed || origin != SEEK_SET || offset < 0 || (size_t)offset > r->upload_size)
        return CURL_SEEKFUNC_FAIL;
    r->upload_at = (size_t)offset;
    return CURL_SEEKFUNC_OK;
}

static void
set_upload(lua_State *L, request *r, const char *body, curl_off_t n)
{
    r->upload = body;
    r->upload_size = body ? (size_t)n : 0;
    set(L, r, CURLOPT_UPLOAD, 1L);
    lmpe_libcurl.easy_setopt(r->t.easy, CURLOPT_READFUNCTION, read_upload);
    lmpe_libcurl.easy_setopt(r->t.easy, CURLOPT_READDATA, r);
    lmpe_libcurl.easy_setopt(r->t.easy, CURLOPT_SEEKFUNCTION, seek_upload);
    lmpe_libcurl.easy_setopt(r->t.easy, CURLOPT_SEEKDATA, r);
    lmpe_libcurl.easy_setopt(r->t.easy, CURLOPT_INFILESIZE_LARGE, n);
}

/* The userdata is on top of the stack. */
static void
set_method(lua_State *L, request *r)
{
    size_t n = 0;
    const char *method = lmpe_text_field(L, "method");
    lua_getfield(L, 1, "body");
    const char *body = lua_tolstring(L, -1, &n);
    lua_setiuservalue(L, -2, UV_BODY); /* curl does not copy it */
    if (strcmp(method, "HEAD") == 0) {
        set(L, r, CURLOPT_NOBODY, 1L);
        return;
    }
    if (r->fed) { /* of unknown length: chunked */
        set_upload(L, r, NULL, -1);
        set(L, r, CURLOPT_CUSTOMREQUEST, method);
        return;
    }
    if (strcmp(method, "PUT") == 0) {
        set_upload(L, r, body ? body : "", (curl_off_t)n);
        return;
    }
    if (strcmp(method, "POST") == 0 && !body)
        body = "";
    if (body) {
        set(L, r, CURLOPT_POST, 1L);
        lmpe_libcurl.easy_setopt(r->t.easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)n);
        set(L, r, CURLOPT_POSTFIELDS, body);
    }
    if (strcmp(method, body ? "POST" : "GET") != 0)
        set(L, r, CURLOPT_CUSTOMREQUEST, method);
}

/* The strings of a list in the table at index 1, added to *list; absent is empty. */
static void
add_all(lua_State *L, const char *field, struct curl_slist **list)
{
    if (lua_getfield(L, 1, field) == LUA_TTABLE)
        for (lua_Integer i = 1, n = luaL_len(L, -1); i <= n; i++) {
            lua_rawgeti(L, -1, i);
            struct curl_slist *longer = lmpe_libcurl.slist_append(*list, lua_tostring(L, -1));
            if (!longer)
                luaL_error(L, "out of memory");
            *list = longer;
            lua_pop(L, 1);
        }
    lua_pop(L, 1);
}

static void
set_lists(lua_State *L, request *r)
{
    add_all(L, "headers", &r->t.headers);
    set(L, r, CURLOPT_HTTPHEADER, r->t.headers);
    add_all(L, "resolve", &r->t.resolve);
    set(L, r, CURLOPT_RESOLVE, r->t.resolve);
}

static void
set_verify(lua_State *L, request *r)
{
    const char *file = lmpe_text_field(L, "ca_file");
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
    CURLSH **share = luaL_testudata(L, -1, LMPE_COOKIES);
    if (share) {
        set(L, r, CURLOPT_SHARE, *share);
        set(L, r, CURLOPT_COOKIEFILE, ""); /* reads none, but keeps those that arrive */
    }
    lua_setiuservalue(L, -2, UV_COOKIES);
}

/* In milliseconds, at least one: 0 is curl's own default. */
static void
set_connect_timeout(lua_State *L, request *r)
{
    if (lua_getfield(L, 1, "connect_timeout") == LUA_TNUMBER) {
        double ms = (double)lua_tonumber(L, -1) * 1000;
        set(L, r, CURLOPT_CONNECTTIMEOUT_MS, ms < 1 ? 1L : ms > 1e9 ? 1000000000L : (long)ms);
    }
    lua_pop(L, 1);
}

static void
set_options(lua_State *L, request *r)
{
    set(L, r, CURLOPT_URL, lmpe_text_field(L, "url"));
    set(L, r, CURLOPT_PROTOCOLS, (long)(CURLPROTO_HTTP | CURLPROTO_HTTPS));
    set(L, r, CURLOPT_USERAGENT, "mpengine/" MPE_VERSION);
    set(L, r, CURLOPT_SUPPRESS_CONNECT_HEADERS, 1L);
    lmpe_libcurl.easy_setopt(r->t.easy, CURLOPT_ACCEPT_ENCODING, ""); /* all it supports, or none */
    set(L, r, CURLOPT_PROXY,
        lmpe_text_field(L, "proxy")); /* always given: curl reads no variable */
    set(L, r, CURLOPT_NOPROXY, "");
    if (lmpe_text_field(L, "auth"))
        set(L, r, CURLOPT_USERPWD, lmpe_text_field(L, "auth"));
    set_connect_timeout(L, r);
    set_method(L, r);
    set_lists(L, r);
    set_verify(L, r);
    set_cookies(L, r);
}

/* ---- a transfer ---- */

/* transfer(connections, options) -> transfer: starts a request. Fields: method, url, headers (list of
 * lines), body, fed, timeout, connect_timeout, follows, insecure, ca_file, proxy, resolve (list), auth,
 * streaming, cookies. */
static int
new_transfer(lua_State *L)
{
    request *r = lmpe_transfer_new(L, TRANSFER, sizeof *r, UV_LAST);
    r->t.streaming = flag(L, "streaming");
    r->t.follows = flag(L, "follows");
    r->fed = flag(L, "fed");
    set_options(L, r);
    return lmpe_transfer_run(L, &r->t);
}

static int
attempt_read(lmpe *S, lmpe_await *a)
{
    request *r = (request *)(uintptr_t)a->scratch[0];
    (void)S;
    a->source = LMPE_LIST;
    a->on.list = &r->t.waiters;
    if (r->t.done || r->hungry)
        return MPE_OK;
    int late = r->t.deadline != MPE_FOREVER && r->t.deadline <= mpe_now();
    return r->t.streaming && r->t.body.len > 0 && !late ? MPE_OK : MPE_EAGAIN;
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
    if (r->t.done && r->t.result != CURLE_OK)
        return lmpe_transfer_failure(L, &r->t);
    lua_pushboolean(L, !r->t.done);
    return 1;
}

/* transfer:read() -> the next piece of a streamed body | true: a piece of the body to send is wanted |
 * false at its end | nil, message */
static int
request_read(lua_State *L)
{
    request *r = check_request(L);
    luaL_argcheck(L, r->t.easy, 1, "the transfer is closed");
    lmpe_await *a = lmpe_await_new(r->t.S, r->t.deadline, "timeout");
    a->scratch[0] = (uintptr_t)r;
    a->attempt = attempt_read;
    a->finish = finish_read;
    return lmpe_await_run(L, r->t.S, a);
}

/* transfer:feed(piece): the next piece of the body to send, nil: there is no other */
static int
request_feed(lua_State *L)
{
    request *r = check_request(L);
    luaL_argcheck(L, r->t.easy, 1, "the transfer is closed");
    r->upload = luaL_optlstring(L, 2, NULL, &r->upload_size);
    r->upload_at = 0;
    r->whole = lua_isnoneornil(L, 2);
    r->hungry = 0;
    lua_settop(L, 2);
    lua_setiuservalue(L, 1, UV_BODY);
    if (!r->t.done)
        lmpe_libcurl.easy_pause(r->t.easy, r->t.paused ? CURLPAUSE_RECV : CURLPAUSE_CONT);
    return 0;
}

/* transfer:result() -> status, header lines, body, URL, the URL of a redirect or nil; when read gave
 * false */
static int
request_result(lua_State *L)
{
    request *r = check_request(L);
    long status = 0;
    char *url = NULL, *target = NULL;
    luaL_argcheck(L, r->t.easy && r->t.done, 1, "the transfer has not ended");
    lmpe_libcurl.easy_getinfo(r->t.easy, CURLINFO_RESPONSE_CODE, &status);
    lmpe_libcurl.easy_getinfo(r->t.easy, CURLINFO_EFFECTIVE_URL, &url);
    if (r->t.moved)
        lmpe_libcurl.easy_getinfo(r->t.easy, CURLINFO_REDIRECT_URL, &target);
    lua_pushinteger(L, status);
    lua_pushlstring(L, (const char *)r->t.head.data, r->t.head.len);
    lua_pushlstring(L, (const char *)r->t.body.data, r->t.body.len);
    lua_pushstring(L, url);
    lua_pushstring(L, target);
    return 5;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"transfer", new_transfer}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"read", request_read}, {"feed", request_feed}, {"result", request_result}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    lmpe_transfer_kind(L, TRANSFER, sizeof(request), methods);
    lmpe_open_http_session(L, S);
}

const lmpe_module lmpe_http_module = {.open = on_open};
