/* SPDX-License-Identifier: MIT
 *
 * lhttpd.c - a daemon of libmicrohttpd, as a userdata: it is made, given connections and closed, and
 * tells next() what has arrived. lhttpd_loop.c runs the library, lhttpd_connection.c has its
 * connections.
 *
 * Fork: all of it belongs to the parent. The child closes its copies of the descriptors, and
 * leaves the memory alone.
 */
#include "base/lfinalize.h"
#include "base/lsystem.h"
#include "io/lhttpd.h"

#ifdef LMPE_MHD

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FDINFO_LINE 160
#define CONNECTION_MEMORY ((size_t)32 << 10) /* for a header; cleared for each request */

static uint32_t forks; /* of this process */

/* ---- a daemon ---- */

void
lmpe_httpd_post(lmpe_httpd *h)
{
    if (lmpe_httpd_is_open(h))
        mpe_post(h->S->e, &h->job);
}

int
lmpe_httpd_is_ours(const lmpe_httpd *h)
{
    return h->forks == forks;
}

int
lmpe_httpd_is_open(const lmpe_httpd *h)
{
    return h && h->mhd && h->S && h->S->e && h->forks == forks;
}

/* Those whose job was on the run queue when their state was closed: the queue knows them until its
 * engine is gone, which it is when this thread opens the next state. */
static __thread lmpe_httpd *unqueued;

static void
free_httpd(lmpe_httpd *h)
{
    free(h->lingering);
    free(h->cert);
    free(h->key);
    free(h);
}

/* A state has a list of its daemons until they are freed, or it is closed. */
static void
forget(lmpe_httpd *h)
{
    lmpe_httpd **p = h->S ? &h->S->httpds : NULL;
    while (p && *p && *p != h)
        p = &(*p)->next;
    if (p && *p)
        *p = h->next;
}

void
lmpe_httpd_drop(lmpe_httpd *h)
{
    if (--h->refs > 0 || (h->job.queued && h->S))
        return; /* its job frees it */
    forget(h);
    free_httpd(h);
}

static void
free_unqueued(void)
{
    while (unqueued) {
        lmpe_httpd *h = unqueued;
        unqueued = h->next;
        free_httpd(h);
    }
}

static lmpe_httpd *
check_httpd(lua_State *L)
{
    lmpe_httpd *h = *(lmpe_httpd **)luaL_checkudata(L, 1, LMPE_HTTPD);
    luaL_argcheck(L, lmpe_httpd_is_open(h), 1, "the server is closed");
    return h;
}

/* The library must find no connection suspended when it stops. */
static void
let_go(lmpe_httpd *h)
{
    for (struct lmpe_connection *c = h->connections; c; c = c->next) {
        if (c->request && c->request->fd >= 0)
            lmpe_request_end_upgrade(c->request);
        else if (c->request)
            lmpe_request_resume(c->request);
    }
}

static void
close_httpd(lmpe_httpd *h)
{
    struct MHD_Daemon *mhd = h->mhd;
    h->draining = 2;
    lmpe_httpd_run(h); /* answers that were given last */
    let_go(h);
    h->mhd = NULL;
    mpe_wait_stop(h->S->e, &h->timer);
    mpe_wait_stop(h->S->e, &h->readable);
    mpe_fd_closing(h->S->e, h->epoll);
    lmpe_mhd.stop_daemon(mhd);
    while (h->first) {
        lmpe_request *r = h->first;
        h->first = r->next;
        lmpe_request_drop(r);
    }
    h->last = &h->first;
    while (h->lingering_count)
        close(h->lingering[--h->lingering_count]);
    mpe_waitlist_wake(h->S->e, &h->takers, UINT32_MAX);
}

/* httpd:close(): ends all connections at once */
static int
httpd_close(lua_State *L)
{
    lmpe_httpd *h = *(lmpe_httpd **)luaL_checkudata(L, 1, LMPE_HTTPD);
    if (lmpe_httpd_is_open(h))
        close_httpd(h);
    return 0;
}

static int
httpd_gc(lua_State *L)
{
    lmpe_httpd **box = lmpe_finalized(L, LMPE_HTTPD, sizeof *box);
    if (!box || !*box)
        return 0;
    lmpe_httpd *h = *box;
    *box = NULL;
    if (lmpe_httpd_is_open(h))
        close_httpd(h);
    if (lmpe_httpd_is_ours(h))
        lmpe_httpd_drop(h);
    return 0;
}

static char *
copy_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    const char *text = lua_tostring(L, -1);
    char *copy = text ? strdup(text) : NULL;
    lua_pop(L, 1);
    return copy;
}

static uint64_t
count_field(lua_State *L, const char *name)
{
    lua_getfield(L, 1, name);
    uint64_t n = lua_isnil(L, -1) ? UINT64_MAX : (uint64_t)lua_tointeger(L, -1);
    lua_pop(L, 1);
    return n;
}

static void
read_settings(lua_State *L, lmpe_httpd *h)
{
    lua_getfield(L, 1, "timeout");
    h->timeout_ns = lua_isnil(L, -1) ? MPE_FOREVER
                                     : lmpe_deadline_in(lua_tonumber(L, -1)) - mpe_now();
    lua_getfield(L, 1, "streams");
    h->streams = lua_toboolean(L, -1) != 0;
    lua_pop(L, 2);
    h->max_body = count_field(L, "max_body");
    h->cert = copy_field(L, "cert");
    h->key = copy_field(L, "key");
}

static void
on_log(void *cls, const char *format, va_list args)
{
    lmpe_httpd *h = cls;
    vsnprintf(h->log, sizeof h->log, format, args);
}

static size_t
leave_escaped(void *cls, struct MHD_Connection *mhd, char *text)
{
    (void)cls, (void)mhd;
    return strlen(text);
}

/* In whole seconds, for a peer that does not read its answer. */
static unsigned
idle_seconds(const lmpe_httpd *h)
{
    if (h->timeout_ns == MPE_FOREVER || h->timeout_ns > UINT32_MAX * (uint64_t)MPE_NS_PER_S)
        return 0;
    return (unsigned)(h->timeout_ns / MPE_NS_PER_S) + 1;
}

static struct MHD_Daemon *
start_library(lmpe_httpd *h)
{
    unsigned flags = MHD_USE_EPOLL | MHD_USE_NO_LISTEN_SOCKET | MHD_ALLOW_SUSPEND_RESUME |
                     MHD_ALLOW_UPGRADE | MHD_USE_ERROR_LOG;
    struct MHD_OptionItem tls[] = {{MHD_OPTION_HTTPS_MEM_CERT, 0, h->cert},
                                   {MHD_OPTION_HTTPS_MEM_KEY, 0, h->key},
                                   {MHD_OPTION_END, 0, NULL}};
    struct MHD_OptionItem none[] = {{MHD_OPTION_END, 0, NULL}};
    unsigned held = mpe_standard_hold();
    struct MHD_Daemon *mhd = lmpe_mhd.start_daemon(
        flags | (h->cert ? MHD_USE_TLS : MHD_USE_TURBO), 0, NULL, NULL, lmpe_request_arrives, h,
        MHD_OPTION_EXTERNAL_LOGGER, on_log, (void *)h, MHD_OPTION_NOTIFY_CONNECTION,
        lmpe_connection_notified, (void *)h, MHD_OPTION_NOTIFY_COMPLETED, lmpe_request_ends,
        (void *)h, MHD_OPTION_URI_LOG_CALLBACK, lmpe_request_begins, (void *)h,
        MHD_OPTION_UNESCAPE_CALLBACK, leave_escaped, (void *)h, MHD_OPTION_CONNECTION_TIMEOUT,
        idle_seconds(h), MHD_OPTION_CONNECTION_LIMIT, UINT32_MAX >> 1,
        MHD_OPTION_CONNECTION_MEMORY_LIMIT, CONNECTION_MEMORY, MHD_OPTION_SIGPIPE_HANDLED_BY_APP, 1,
        MHD_OPTION_ARRAY, h->cert ? tls : none, MHD_OPTION_END);
    mpe_standard_release(held);
    return mhd;
}

/* httpd{ timeout =, max_body =, streams =, cert =, key = } -> a daemon without connections | nil,
 * message. Numbers that are absent are no limits. */
static int
new_httpd(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *why = lmpe_mhd_load();
    if (why)
        return luaL_error(L, "%s", why);
    lmpe_httpd **box = lua_newuserdatauv(L, sizeof *box, 0);
    lmpe_httpd *h = *box = calloc(1, sizeof *h);
    if (!h)
        return luaL_error(L, "out of memory");
    h->S = S;
    h->refs = 1;
    h->forks = forks;
    lmpe_httpd_ready(h);
    h->last = &h->first;
    h->last_due = &h->first_due;
    luaL_setmetatable(L, LMPE_HTTPD);
    read_settings(L, h);
    h->mhd = start_library(h);
    if (!h->mhd) {
        luaL_pushfail(L);
        lua_pushstring(L, h->log[0] ? h->log : lmpe_reason(errno));
        return 2;
    }
    h->epoll = lmpe_mhd.get_daemon_info(h->mhd, MHD_DAEMON_INFO_EPOLL_FD)->epoll_fd;
    h->next = S->httpds;
    S->httpds = h;
    mpe_post(S->e, &h->job);
    return 1;
}

/* httpd:add(fd) -> whether it has become a connection; it is closed in any case */
static int
httpd_add(lua_State *L)
{
    lmpe_httpd *h = check_httpd(L);
    int fd = (int)luaL_checkinteger(L, 2);
    socklen_t size = sizeof h->adding;
    uint32_t ended = h->ended;
    memset(&h->adding, 0, sizeof h->adding);
    getpeername(fd, (struct sockaddr *)&h->adding, &size);
    int added = lmpe_mhd.add_connection(h->mhd, fd, (struct sockaddr *)&h->adding, size) == MHD_YES;
    h->ended = added ? h->ended : ended; /* the caller knows */
    mpe_post(h->S->e, &h->job);
    lua_pushboolean(L, added);
    return 1;
}

/* httpd:drain(): ends the connections without a request, and each other one after its answer */
static int
httpd_drain(lua_State *L)
{
    lmpe_httpd *h = check_httpd(L);
    lmpe_httpd_run(h); /* answers that were given last */
    h->draining = 1;
    for (struct lmpe_connection *c = h->connections; c; c = c->next)
        if (!c->request)
            lmpe_connection_shut(c, SHUT_RDWR);
    mpe_post(h->S->e, &h->job);
    return 0;
}

static int
attempt_next(lmpe *S, lmpe_await *a)
{
    lmpe_httpd *h = (lmpe_httpd *)(uintptr_t)a->scratch[0];
    (void)S;
    a->source = LMPE_LIST;
    a->on.list = &h->takers;
    return !h->mhd || h->first || h->ended || h->lingering_count ? MPE_OK : MPE_EAGAIN;
}

static int
finish_next(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lmpe_httpd *h = (lmpe_httpd *)(uintptr_t)a->scratch[0];
    (void)S;
    if (status != MPE_OK)
        return lmpe_outcome(L, status, "timeout");
    if (!h->mhd)
        return 0;
    if (h->first) {
        lmpe_request *r = h->first;
        h->first = r->next;
        if (!h->first)
            h->last = &h->first;
        return lmpe_request_push(L, r);
    }
    if (h->ended) {
        lua_pushinteger(L, h->ended);
        h->ended = 0;
        return 1;
    }
    lua_pushboolean(L, 0);
    lua_pushinteger(L, h->lingering[--h->lingering_count]);
    return 2;
}

/* httpd:next() -> a request, its method, target, path, body or nil | a count of connections that
 * have ended | false, the socket of one whose input is to be read to its end | nothing: closed */
static int
httpd_next(lua_State *L)
{
    lmpe_httpd *h = *(lmpe_httpd **)luaL_checkudata(L, 1, LMPE_HTTPD);
    if (!lmpe_httpd_is_open(h))
        return 0;
    lmpe_await *a = lmpe_await_new(h->S, MPE_FOREVER, "timeout");
    a->scratch[0] = (uintptr_t)h;
    a->attempt = attempt_next;
    a->finish = finish_next;
    a->stays = 1;
    return lmpe_await_run(L, h->S, a);
}

/* ---- the module ---- */

/* The descriptors in an epoll set of the library that are its own. */
static void
close_copies_of_set(int epoll)
{
    char name[48], line[FDINFO_LINE];
    snprintf(name, sizeof name, "/proc/self/fdinfo/%d", epoll);
    FILE *f = fopen(name, "re");
    while (f && fgets(line, sizeof line, f)) {
        int fd;
        if (sscanf(line, "tfd: %d", &fd) == 1)
            close(fd);
    }
    if (f)
        fclose(f);
    close(epoll);
}

static void
on_fork(lua_State *L, lmpe *S)
{
    (void)L;
    for (lmpe_httpd *h = S->httpds; h; h = h->next) {
        if (!h->mhd)
            continue;
        close_copies_of_set(h->epoll); /* first: it opens a file, under a number of its own */
        for (struct lmpe_connection *c = h->connections; c; c = c->next)
            close(c->fd);
        for (uint32_t i = 0; i < h->lingering_count; i++)
            close(h->lingering[i]);
    }
    S->httpds = NULL;
    forks++;
}

static void
on_close(lua_State *L, lmpe *S)
{
    (void)L;
    for (lmpe_httpd *h = S->httpds; h; h = h->next)
        if (h->mhd)
            close_httpd(h);
    while (S->httpds) {
        lmpe_httpd *h = S->httpds;
        S->httpds = h->next;
        h->S = NULL;
        if (h->refs == 0 && !S->is_guest) {
            h->next = unqueued;
            unqueued = h;
        }
    }
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"httpd", new_httpd}, {NULL, NULL}};
    free_unqueued();
    static const luaL_Reg meta[] = {{"__gc", httpd_gc}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"add", httpd_add},
                                       {"next", httpd_next},
                                       {"drain", httpd_drain},
                                       {"close", httpd_close},
                                       {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, LMPE_HTTPD);
    lmpe_setfuncs(L, S, meta);
    lua_newtable(L);
    lmpe_setfuncs(L, S, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

const lmpe_module lmpe_httpd_module = {.open = on_open, .forked = on_fork, .close = on_close};

#else

static int
no_httpd(lua_State *L)
{
    return luaL_error(L, "http.serve needs libmicrohttpd (Debian package libmicrohttpd-dev), which "
                         "was not there when mpengine was built");
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"httpd", no_httpd}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_httpd_module = {.open = on_open};

#endif
