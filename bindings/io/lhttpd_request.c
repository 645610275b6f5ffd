/* SPDX-License-Identifier: MIT
 *
 * lhttpd_request.c - what arrives: the lines of a request, whose form the library has checked, its
 * body, and the userdata by which a task reads them.
 *
 * A request belongs to its connection from the first line on, and to the userdata from when a task
 * takes it; the connection may end first, or the userdata be collected first. It is taken when it is
 * complete, or, on a server that streams, when its header is there and a body follows.
 *
 * What the library lets pass and could be read in two ways is refused here (RFC 9112, 6.3 and 5.1):
 * two lengths, a length and a transfer coding, a coding other than chunked, two hosts or none, a name
 * or a target with a space.
 */
#include "base/lfinalize.h"
#include "io/lhttpd.h"
#include "io/lhttpd_url.h"
#include "task/lturn.h"

#ifdef LMPE_MHD

#include <arpa/inet.h>
#include <netdb.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/socket.h>

#define HOLD_BACK ((size_t)64 << 10) /* bytes of a streamed body kept for its reader */
/* Of a header, in bytes and lines: beside it an answer's must fit in the memory of the connection. */
#define HEADER_MAX ((size_t)12 << 10)
#define LINES_MAX 200
#define TARGET_MAX ((size_t)8 << 10)

/* ---- life ---- */

void *
lmpe_request_begins(void *ud, const char *target, struct MHD_Connection *mhd)
{
    lmpe_httpd *h = ud;
    struct lmpe_connection *c =
        lmpe_mhd.get_connection_info(mhd, MHD_CONNECTION_INFO_SOCKET_CONTEXT)->socket_context;
    lmpe_request *r = c ? calloc(1, sizeof *r) : NULL;
    if (!r)
        return NULL;
    if (!(r->target = strdup(target))) {
        free(r);
        return NULL;
    }
    if (c->request) {
        h->active--;
        lmpe_request_drop(c->request);
    }
    h->active++;
    r->h = h;
    r->c = c;
    r->mhd = mhd;
    r->refs = 1;
    r->fd = -1;
    r->peer = c->peer;
    mpe_buf_init(&r->header);
    mpe_buf_init(&r->body);
    mpe_buf_init(&r->extra);
    c->request = r;
    h->refs++;
    lmpe_connection_due(c);
    return r;
}

void
lmpe_request_drop(lmpe_request *r)
{
    if (--r->refs > 0)
        return;
    if (r->response)
        lmpe_mhd.destroy_response(r->response);
    mpe_buf_free(&r->header);
    mpe_buf_free(&r->body);
    mpe_buf_free(&r->extra);
    free(r->target);
    lmpe_httpd_drop(r->h);
    free(r);
}

void
lmpe_request_ends(void *ud, struct MHD_Connection *mhd, void **request,
                  enum MHD_RequestTerminationCode why)
{
    lmpe_request *r = *request;
    lmpe_httpd *h = ud;
    (void)mhd, (void)why;
    if (!r || !r->c)
        return;
    struct lmpe_connection *c = r->c;
    h->files -= r->is_file;
    h->active--;
    r->c = NULL;
    r->mhd = NULL;
    r->upgrade = NULL;
    r->fd = -1;
    c->request = NULL;
    if (h->S->e)
        mpe_waitlist_wake(h->S->e, &r->waiters, UINT32_MAX);
    lmpe_request_drop(r);
    lmpe_connection_due(c);
    c->answers = 1;
    if (h->draining)
        lmpe_connection_shut(c, SHUT_RD);
}

void
lmpe_request_suspend(lmpe_request *r)
{
    lmpe_mhd.suspend_connection(r->mhd);
    r->suspended = 1;
    lmpe_connection_not_due(r->c);
}

void
lmpe_request_resume(lmpe_request *r)
{
    if (!r->suspended)
        return;
    r->suspended = 0;
    lmpe_mhd.resume_connection(r->mhd);
    lmpe_httpd_post(r->h);
}

/* For a task to take it. */
static void
offer(lmpe_request *r)
{
    lmpe_httpd *h = r->h;
    lmpe_request_suspend(r);
    r->refs++;
    r->next = NULL;
    *h->last = r;
    h->last = &r->next;
}

/* ---- the header ---- */

struct looked_at {
    mpe_buf *header; /* gets a copy */
    int is_short, lines, lengths, codings, hosts, is_bad, is_unknown, expects;
    uint64_t length;
};

static int
is_token(const char *name)
{
    static const char others[] = "!#$%&'*+-.^_`|~";
    for (; *name; name++)
        if (!((*name >= 'a' && *name <= 'z') || (*name >= 'A' && *name <= 'Z') ||
              (*name >= '0' && *name <= '9') || strchr(others, *name)))
            return 0;
    return 1;
}

static enum MHD_Result
look_at(void *ud, enum MHD_ValueKind kind, const char *name, const char *value)
{
    struct looked_at *l = ud;
    (void)kind;
    value = value ? value : "";
    l->is_short |= mpe_buf_append(l->header, name, strlen(name) + 1) != MPE_OK ||
                   mpe_buf_append(l->header, value, strlen(value) + 1) != MPE_OK;
    l->lines++;
    l->is_bad |= !*name || !is_token(name);
    if (strcasecmp(name, "content-length") == 0) {
        l->lengths++;
        l->length = strtoull(value, NULL, 10); /* it has digits only */
    } else if (strcasecmp(name, "transfer-encoding") == 0) {
        l->codings++;
        l->is_unknown = strcasecmp(value, "chunked") != 0;
    } else if (strcasecmp(name, "host") == 0) {
        l->hosts++;
    } else if (strcasecmp(name, "expect") == 0) {
        l->expects = strcasecmp(value, "100-continue") != 0;
    }
    return MHD_YES;
}

/* The status with which the request is refused; 0. */
static unsigned
judge(const lmpe_request *r, const struct looked_at *l, const char *version)
{
    size_t size = l->header->len + 2 * (size_t)l->lines + strlen(r->target);
    int is_old = strcmp(version, MHD_HTTP_VERSION_1_1) != 0;
    if (strlen(r->target) > TARGET_MAX)
        return MHD_HTTP_URI_TOO_LONG;
    if (size > HEADER_MAX || l->lines > LINES_MAX)
        return MHD_HTTP_REQUEST_HEADER_FIELDS_TOO_LARGE;
    if (l->is_bad || l->lengths + l->codings > 1 || l->hosts > 1 || strchr(r->target, ' '))
        return MHD_HTTP_BAD_REQUEST;
    if (is_old ? l->codings : !l->hosts)
        return MHD_HTTP_BAD_REQUEST;
    if (l->is_unknown)
        return MHD_HTTP_NOT_IMPLEMENTED;
    if (l->expects)
        return MHD_HTTP_EXPECTATION_FAILED;
    if (l->lengths && l->length > r->h->max_body)
        return MHD_HTTP_CONTENT_TOO_LARGE;
    return 0;
}

static enum MHD_Result
refuse(lmpe_request *r, unsigned status)
{
    struct MHD_Response *response = lmpe_refusal(status);
    if (!response)
        return MHD_NO;
    r->c->lingers = 1;
    r->phase = LMPE_ANSWERED;
    enum MHD_Result rc = lmpe_mhd.queue_response(r->mhd, status, response);
    lmpe_mhd.destroy_response(response);
    return rc;
}

static enum MHD_Result
take_header(lmpe_request *r, const char *method, const char *version)
{
    struct looked_at l = {.header = &r->header};
    lmpe_mhd.get_connection_values(r->mhd, MHD_HEADER_KIND, look_at, &l);
    unsigned status = judge(r, &l, version);
    if (l.is_short)
        return MHD_NO;
    if (status)
        return refuse(r, status);
    r->method = method;
    r->streams = r->h->streams && (l.codings || l.length > 0);
    r->phase = r->streams ? LMPE_HELD : LMPE_BODY;
    if (r->streams)
        offer(r);
    return MHD_YES;
}

/* ---- the body ---- */

static void
wake(lmpe_request *r)
{
    mpe_waitlist_wake(r->h->S->e, &r->waiters, UINT32_MAX);
}

/* Takes what there is room for. */
static enum MHD_Result
take_body(lmpe_request *r, const char *bytes, size_t *size)
{
    size_t held = r->body.len - r->taken, room = r->wanted > HOLD_BACK ? r->wanted : HOLD_BACK;
    if (r->discards || r->refused) {
        *size = 0;
        return MHD_YES;
    }
    if (r->received + *size > r->h->max_body) {
        r->refused = MHD_HTTP_CONTENT_TOO_LARGE;
        *size = 0;
        wake(r);
        return MHD_YES;
    }
    if (r->streams && held >= room) {
        lmpe_request_suspend(r);
        return MHD_YES;
    }
    if (held == 0)
        r->body.len = r->taken = 0;
    if (mpe_buf_append(&r->body, bytes, *size) != MPE_OK)
        return MHD_NO;
    r->received += *size;
    *size = 0;
    if (r->streams) {
        lmpe_connection_due(r->c);
        wake(r);
    }
    return MHD_YES;
}

static enum MHD_Result
complete(lmpe_request *r)
{
    r->phase = LMPE_COMPLETE;
    if (r->refused && !r->streams)
        return refuse(r, r->refused);
    if (r->response) {
        struct MHD_Response *response = r->response;
        r->response = NULL;
        r->phase = LMPE_ANSWERED;
        lmpe_connection_not_due(r->c);
        enum MHD_Result rc = lmpe_mhd.queue_response(r->mhd, r->status, response);
        lmpe_mhd.destroy_response(response);
        return rc;
    }
    if (!r->streams) {
        offer(r);
        return MHD_YES;
    }
    lmpe_request_suspend(r);
    wake(r);
    return MHD_YES;
}

enum MHD_Result
lmpe_request_arrives(void *ud, struct MHD_Connection *mhd, const char *url, const char *method,
                     const char *version, const char *bytes, size_t *size, void **request)
{
    lmpe_request *r = *request;
    (void)ud, (void)mhd, (void)url;
    if (!r)
        return MHD_NO;
    switch ((enum lmpe_phase)r->phase) {
    case LMPE_HEADERS:
        return take_header(r, method, version);
    case LMPE_HELD: /* its reader asks for the body */
        r->phase = LMPE_BODY;
        return MHD_YES;
    case LMPE_BODY:
        return *size > 0 ? take_body(r, bytes, size) : complete(r);
    case LMPE_COMPLETE: /* resumed without an answer: it was handed over, or the daemon ends */
    case LMPE_ANSWERED:
        break;
    }
    return MHD_NO;
}

/* ---- the userdata ---- */

/* For what it has kept; NULL is one that was finalized, when the program ends. */
static lmpe_request *
check_known(lua_State *L)
{
    lmpe_request *r = *(lmpe_request **)luaL_checkudata(L, 1, LMPE_REQUEST);
    luaL_argcheck(L, r, 1, "the program ends");
    return r;
}

lmpe_request *
lmpe_check_request(lua_State *L)
{
    lmpe_request *r = *(lmpe_request **)luaL_checkudata(L, 1, LMPE_REQUEST);
    luaL_argcheck(L, r && lmpe_httpd_is_open(r->h), 1, "the server is closed");
    return r;
}

int
lmpe_request_push(lua_State *L, lmpe_request *r)
{
    lmpe_request **box = lua_newuserdatauv(L, sizeof *box, 1);
    *box = r;
    luaL_setmetatable(L, LMPE_REQUEST);
    lua_pushstring(L, r->mhd ? r->method : "");
    lua_pushstring(L, r->target);
    lmpe_push_path(L, r->target);
    if (r->streams)
        lua_pushnil(L);
    else
        lua_pushlstring(L, (const char *)r->body.data, r->body.len);
    if (!r->streams)
        mpe_buf_free(&r->body);
    return 5;
}

static int
request_gc(lua_State *L)
{
    lmpe_request **box = lmpe_finalized(L, LMPE_REQUEST, sizeof *box);
    if (!box || !*box)
        return 0;
    lmpe_request *r = *box;
    *box = NULL;
    if (!lmpe_httpd_is_ours(r->h))
        return 0;
    if (r->c && lmpe_httpd_is_open(r->h) && r->phase != LMPE_ANSWERED && !r->response)
        lmpe_request_respond(r, MHD_HTTP_INTERNAL_SERVER_ERROR,
                             lmpe_refusal(MHD_HTTP_INTERNAL_SERVER_ERROR));
    lmpe_request_drop(r);
    return 0;
}

static void
push_lower(lua_State *L, const char *name, size_t n)
{
    luaL_Buffer b;
    char *to = luaL_buffinitsize(L, &b, n);
    for (size_t i = 0; i < n; i++)
        to[i] = (char)(name[i] >= 'A' && name[i] <= 'Z' ? name[i] + 32 : name[i]);
    luaL_pushresultsize(&b, n);
}

/* request:headers() -> values by name in lower case; a header of several lines is a list */
static int
request_headers(lua_State *L)
{
    lmpe_request *r = check_known(L);
    const char *at = (const char *)r->header.data, *end = at + r->header.len;
    lua_createtable(L, 0, 8);
    while (at < end) {
        size_t n = strlen(at);
        push_lower(L, at, n);
        at += n + 1;
        lua_pushstring(L, at);
        at += strlen(at) + 1;
        lmpe_add_field(L);
    }
    return 1;
}

/* request:peer() -> "ip:port", "[ip]:port" for IPv6, or "unknown" */
static int
request_peer(lua_State *L)
{
    lmpe_request *r = check_known(L);
    char host[NI_MAXHOST], port[NI_MAXSERV];
    if (getnameinfo((struct sockaddr *)&r->peer, sizeof r->peer, host, sizeof host, port,
                    sizeof port, NI_NUMERICHOST | NI_NUMERICSERV) != 0)
        lua_pushliteral(L, "unknown");
    else
        lua_pushfstring(L, strchr(host, ':') ? "[%s]:%s" : "%s:%s", host, port);
    return 1;
}

/* request:is_open() -> whether the connection is there, whether the request was answered */
static int
request_is_open(lua_State *L)
{
    lmpe_request *r = *(lmpe_request **)luaL_checkudata(L, 1, LMPE_REQUEST);
    lua_pushboolean(L, r && lmpe_httpd_is_open(r->h) && r->c);
    lua_pushboolean(L, !r || r->phase == LMPE_ANSWERED || r->response);
    return 2;
}

/* ---- reading a streamed body ---- */

static int
attempt_read(lmpe *S, lmpe_await *a)
{
    lmpe_request *r = (lmpe_request *)(uintptr_t)a->scratch[0];
    size_t held = r->body.len - r->taken, wanted = (size_t)a->scratch[1];
    (void)S;
    a->source = LMPE_LIST;
    a->on.list = &r->waiters;
    if (!r->c || r->phase >= LMPE_COMPLETE || r->refused || r->discards)
        return MPE_OK;
    if (held > 0 && held >= wanted)
        return MPE_OK;
    r->wanted = wanted;
    lmpe_connection_due(r->c);
    lmpe_request_resume(r);
    return MPE_EAGAIN;
}

static int
finish_read(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lmpe_request *r = (lmpe_request *)(uintptr_t)a->scratch[0];
    size_t held = r->body.len - r->taken, wanted = (size_t)a->scratch[1];
    (void)S;
    if (status != MPE_OK)
        return lmpe_outcome(L, status, "timeout");
    if (held > 0 && !r->refused) {
        size_t n = wanted > 0 && wanted < held ? wanted : held;
        lua_pushlstring(L, (const char *)r->body.data + r->taken, n);
        r->taken += n;
        return 1;
    }
    luaL_pushfail(L);
    if (r->refused)
        lua_pushliteral(L, "the body is too large");
    else if (!r->c)
        lua_pushliteral(L, "closed");
    return !r->refused && r->c ? 1 : 2;
}

/* request:read([n]) -> the next n bytes of the body, fewer only at its end; without n what has
 * arrived, at least one byte | nil: that was all | nil, reason */
static int
request_read(lua_State *L)
{
    lmpe_request *r = lmpe_check_request(L);
    lua_Integer n = luaL_optinteger(L, 2, 0);
    luaL_argcheck(L, n > 0 || lua_isnoneornil(L, 2), 2, "a number of bytes, 1 or more, expected");
    luaL_argcheck(L, r->streams || r->phase >= LMPE_COMPLETE, 1, "its body does not stream");
    lmpe_await *a = lmpe_await_new(r->h->S, MPE_FOREVER, "timeout");
    a->scratch[0] = (uintptr_t)r;
    a->scratch[1] = (uint64_t)n;
    a->attempt = attempt_read;
    a->finish = finish_read;
    return lmpe_await_run(L, r->h->S, a);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"http_query", lmpe_query}, {NULL, NULL}};
    static const luaL_Reg meta[] = {{"__gc", request_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"headers", request_headers},
                                       {"peer", request_peer},
                                       {"is_open", request_is_open},
                                       {"read", request_read},
                                       {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, LMPE_REQUEST);
    lmpe_setfuncs(L, S, meta);
    lua_newtable(L);
    lmpe_setfuncs(L, S, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

const lmpe_module lmpe_httpd_request_module = {.open = on_open};

#else

const lmpe_module lmpe_httpd_request_module = {.open = NULL};

#endif
