/* SPDX-License-Identifier: MIT
 *
 * lhttpd_answer.c - what is sent: a string, pieces, a part of a file, or the handing over of the
 * connection.
 *
 * The library takes a response when a request is complete, or when its header is. An answer in
 * between waits until the rest of the body has arrived, which is discarded.
 *
 * Pieces are given by a task, one at a time, and copied by the library when the socket has room. In
 * between the connection is suspended. A task that is killed gives no more: the peer sees an end
 * that is none.
 */
#include "io/lhttpd.h"
#include "base/lsystem.h"

#ifdef LMPE_MHD

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIECES_BLOCK ((size_t)16 << 10) /* of one copy */
#define REFUSAL_MAX 64
#define HEADERS_MAX ((size_t)8 << 10) /* what the memory of a connection has room for in any case */
#define AROUND_LINE 4                 /* ": " and the end */

/* ---- responses ---- */

struct MHD_Response *
lmpe_refusal(unsigned status)
{
    char text[REFUSAL_MAX];
    int n = snprintf(text, sizeof text, "%u %s\n", status, lmpe_mhd.get_reason_phrase_for(status));
    struct MHD_Response *response = lmpe_mhd.create_response_from_buffer((size_t)n, text,
                                                                         MHD_RESPMEM_MUST_COPY);
    if (response) {
        lmpe_mhd.add_response_header(response, "Connection", "close");
        lmpe_mhd.add_response_header(response, "Content-Type", "text/plain");
    }
    return response;
}

static void
queue(lmpe_request *r, unsigned status, struct MHD_Response *response)
{
    r->c->lingers |= r->phase == LMPE_HELD;
    r->phase = LMPE_ANSWERED;
    lmpe_mhd.queue_response(r->mhd, status, response); /* if it is refused, the library closes */
    lmpe_mhd.destroy_response(response);
    lmpe_request_resume(r);
}

void
lmpe_request_respond(lmpe_request *r, unsigned status, struct MHD_Response *response)
{
    if (response && r->refused) {
        lmpe_mhd.destroy_response(response);
        response = lmpe_refusal(status = r->refused);
        r->c->lingers = 1;
    }
    if (!response)
        return;
    if (r->phase != LMPE_BODY) {
        queue(r, status, response);
        return;
    }
    r->response = response;
    r->status = status;
    r->discards = 1;
    lmpe_connection_due(r->c);
    lmpe_request_resume(r);
}

/* ---- headers ---- */

/* The room that a line takes, without the name; 0: it is none. A number is written in at most 24. */
static size_t
size_of_line(lua_State *L, int idx)
{
    size_t n = 24;
    if (lua_type(L, idx) == LUA_TSTRING && strcspn(lua_tolstring(L, idx, &n), "\r\n") != n)
        return 0;
    return lua_type(L, idx) == LUA_TSTRING || lua_type(L, idx) == LUA_TNUMBER ? n + AROUND_LINE : 0;
}

/* The same of the value of a header, a line or a list of lines, with its name. */
static size_t
size_of_header(lua_State *L, int idx, size_t name)
{
    size_t all = 0, line = 1;
    if (!lua_istable(L, idx))
        return (line = size_of_line(L, idx)) ? line + name : 0;
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, idx); i <= n && line; i++) {
        lua_rawgeti(L, idx, i);
        line = size_of_line(L, -1);
        all += line + name;
        lua_pop(L, 1);
    }
    return line ? all + 1 : 0;
}

/* Raises unless the value at idx is nil or a table of headers. */
static void
check_headers(lua_State *L, int idx)
{
    size_t all = 0;
    if (lua_isnoneornil(L, idx))
        return;
    if (!lua_istable(L, idx))
        luaL_error(L, "http.serve: the headers of an answer must be a table, got %s",
                   luaL_typename(L, idx));
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        size_t n = 0;
        const char *name = lua_type(L, -2) == LUA_TSTRING ? lua_tolstring(L, -2, &n) : NULL;
        if (!name || n == 0 || strcspn(name, " \t\r\n:") != n)
            luaL_error(L, "http.serve: '%s' is not a valid name of a header",
                       name ? name : luaL_typename(L, -2));
        size_t size = size_of_header(L, lua_gettop(L), n);
        if (size == 0)
            luaL_error(L, "http.serve: header '%s' must be one line, or a list of them", name);
        all += size;
    }
    if (all > HEADERS_MAX)
        luaL_error(L, "http.serve: the headers of an answer are more than 8 KiB");
}

/* The library writes these itself. */
static int
is_its_own(const char *name)
{
    return strcasecmp(name, "content-length") == 0 || strcasecmp(name, "transfer-encoding") == 0;
}

static void
add_headers(lua_State *L, struct MHD_Response *response, int idx)
{
    if (lua_isnoneornil(L, idx))
        return;
    for (lua_pushnil(L); lua_next(L, idx); lua_pop(L, 1)) {
        const char *name = lua_tostring(L, -2);
        if (is_its_own(name))
            continue;
        if (!lua_istable(L, -1)) {
            lmpe_mhd.add_response_header(response, name, lua_tostring(L, -1));
            continue;
        }
        for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, -1); i <= n; i++) {
            lua_rawgeti(L, -1, i);
            lmpe_mhd.add_response_header(response, name, lua_tostring(L, -1));
            lua_pop(L, 1);
        }
    }
}

/* ---- the calls of answers ---- */

/* The request at 1, the status at 2, the headers at 3. */
static lmpe_request *
check_answer(lua_State *L)
{
    lmpe_request *r = lmpe_check_request(L);
    luaL_checkinteger(L, 2);
    check_headers(L, 3);
    return r;
}

static int
can_answer(const lmpe_request *r)
{
    return r->c && r->phase != LMPE_ANSWERED && !r->response && r->fd < 0;
}

static void
respond(lua_State *L, lmpe_request *r, struct MHD_Response *response, int closes)
{
    if (!response)
        luaL_error(L, "out of memory");
    add_headers(L, response, 3);
    if (closes || r->h->draining)
        lmpe_mhd.add_response_header(response, "Connection", "close");
    lmpe_request_respond(r, (unsigned)lua_tointeger(L, 2), response);
}

/* request:answer(status, headers, body, closes) -> whether the connection was still there */
static int
request_answer(lua_State *L)
{
    size_t n;
    lmpe_request *r = check_answer(L);
    const char *body = luaL_optlstring(L, 4, "", &n);
    int can = can_answer(r);
    if (can)
        respond(
            L, r,
            lmpe_mhd.create_response_from_buffer(n, (void *)(uintptr_t)body, MHD_RESPMEM_MUST_COPY),
            lua_toboolean(L, 5));
    lua_pushboolean(L, can);
    return 1;
}

static ssize_t
give_nothing(void *ud, uint64_t at, char *to, size_t room)
{
    (void)ud, (void)at, (void)to, (void)room;
    return MHD_CONTENT_READER_END_WITH_ERROR;
}

/* request:answer_head(status, headers, size): to HEAD, where the body would have so many bytes */
static int
request_answer_head(lua_State *L)
{
    lmpe_request *r = check_answer(L);
    uint64_t size = (uint64_t)luaL_checkinteger(L, 4);
    if (can_answer(r))
        respond(
            L, r,
            lmpe_mhd.create_response_from_callback(size, PIECES_BLOCK, give_nothing, NULL, NULL),
            0);
    return 0;
}

/* request:answer_file(status, headers, fd, offset, size): a part of a file */
static int
request_answer_file(lua_State *L)
{
    lmpe_request *r = check_answer(L);
    uint64_t offset = (uint64_t)luaL_checkinteger(L, 5), size = (uint64_t)luaL_checkinteger(L, 6);
    if (!can_answer(r))
        return 0;
    int fd = fcntl((int)luaL_checkinteger(L, 4), F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (fd < 0)
        return luaL_error(L, "http.serve: cannot send the file: %s", lmpe_reason(errno));
    r->is_file = 1;
    r->h->files++;
    respond(L, r, lmpe_mhd.create_response_from_fd_at_offset64(size, fd, offset), 0);
    return 0;
}

/* file_part(file) -> its descriptor, position, the bytes from there on, and when it was changed, in
 * nanoseconds | nil, why it cannot be sent: an open file of Lua */
static int
file_part(lua_State *L)
{
    luaL_Stream *s = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    struct stat st;
    const char *why = NULL;
    off_t at = 0;
    if (!s->closef)
        why = "is closed";
    else if (fstat(fileno(s->f), &st) != 0)
        why = lmpe_reason(errno);
    else if (!S_ISREG(st.st_mode))
        why = "is no regular file";
    else if ((at = ftello(s->f)) < 0)
        why = lmpe_reason(errno);
    if (why) {
        luaL_pushfail(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_pushinteger(L, fileno(s->f));
    lua_pushinteger(L, at);
    lua_pushinteger(L, st.st_size > at ? st.st_size - at : 0);
    lua_pushinteger(L,
                    (lua_Integer)(st.st_mtim.tv_sec * (int64_t)MPE_NS_PER_S + st.st_mtim.tv_nsec));
    return 4;
}

/* ---- pieces ---- */

static ssize_t
give_piece(void *ud, uint64_t at, char *to, size_t room)
{
    lmpe_request *r = ud;
    size_t n = r->piece_size < room ? r->piece_size : room;
    (void)at;
    if (r->failed)
        return MHD_CONTENT_READER_END_WITH_ERROR;
    if (n > 0) {
        memcpy(to, r->piece, n);
        r->piece += n;
        r->piece_size -= n;
    } else if (r->last) {
        return MHD_CONTENT_READER_END_OF_STREAM;
    } else {
        lmpe_request_suspend(r);
    }
    if (r->piece_size == 0)
        mpe_waitlist_wake(r->h->S->e, &r->waiters, UINT32_MAX);
    return (ssize_t)n;
}

/* request:answer_pieces(status, headers): those that piece() gives from now on */
static int
request_answer_pieces(lua_State *L)
{
    lmpe_request *r = check_answer(L);
    if (can_answer(r))
        respond(L, r,
                lmpe_mhd.create_response_from_callback(MHD_SIZE_UNKNOWN, PIECES_BLOCK, give_piece,
                                                       r, NULL),
                0);
    return 0;
}

/* scratch[1]: the bytes of the piece that are still to be given, scratch[2]: it was given. */
static int
attempt_piece(lmpe *S, lmpe_await *a)
{
    lmpe_request *r = (lmpe_request *)(uintptr_t)a->scratch[0];
    (void)S;
    a->source = LMPE_LIST;
    a->on.list = &r->waiters;
    if (a->ending == LMPE_KILLED) {
        r->piece_size = 0;
        r->failed = 1;
        if (r->c)
            lmpe_request_resume(r);
        return MPE_OK;
    }
    if (!r->c)
        return MPE_ECLOSED;
    if (!a->scratch[2]) {
        a->scratch[2] = 1;
        r->piece = (const char *)(uintptr_t)a->object;
        r->piece_size = (size_t)a->scratch[1];
        if (r->phase == LMPE_ANSWERED)
            lmpe_request_resume(r);
    }
    return r->piece_size == 0 ? MPE_OK : MPE_EAGAIN;
}

static int
finish_piece(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    (void)S, (void)a;
    if (status != MPE_OK && status != MPE_ECLOSED)
        return lmpe_outcome(L, status, "timeout");
    lua_pushboolean(L, status == MPE_OK);
    return 1;
}

/* request:piece(bytes) -> true when they were sent, false when the connection has ended;
 * request:piece(): that was all; request:piece(false): there will be no more, which is a failure */
static int
request_piece(lua_State *L)
{
    size_t n;
    lmpe_request *r = lmpe_check_request(L);
    if (lua_isnoneornil(L, 2) || lua_isboolean(L, 2)) {
        r->last = 1;
        r->failed = lua_isboolean(L, 2);
        if (r->c && r->phase == LMPE_ANSWERED)
            lmpe_request_resume(r);
        return 0;
    }
    const char *bytes = luaL_checklstring(L, 2, &n);
    lmpe_await *a = lmpe_await_new(r->h->S, MPE_FOREVER, "timeout");
    a->scratch[0] = (uintptr_t)r;
    a->scratch[1] = n;
    a->object = (mpe_object *)(uintptr_t)bytes;
    a->attempt = attempt_piece;
    a->finish = finish_piece;
    a->cleans_up = 1;
    return lmpe_await_run(L, r->h->S, a);
}

/* ---- handing over ---- */

static void
on_upgrade(void *ud, struct MHD_Connection *mhd, void *context, const char *extra, size_t size,
           MHD_socket fd, struct MHD_UpgradeResponseHandle *upgrade)
{
    lmpe_request *r = ud;
    (void)mhd, (void)context;
    r->upgrade = upgrade;
    r->fd = fd;
    r->failed = size > 0 && mpe_buf_append(&r->extra, extra, size) != MPE_OK;
    mpe_waitlist_wake(r->h->S->e, &r->waiters, UINT32_MAX);
}

void
lmpe_request_end_upgrade(lmpe_request *r)
{
    struct MHD_UpgradeResponseHandle *upgrade = r->upgrade;
    if (r->fd < 0)
        return;
    r->upgrade = NULL;
    mpe_fd_closing(r->h->S->e, r->fd);
    r->fd = -1;
    if (upgrade)
        lmpe_mhd.upgrade_action(upgrade, MHD_UPGRADE_ACTION_CLOSE);
    else
        lmpe_request_resume(r);
    lmpe_httpd_post(r->h);
}

/* request:take_over() -> whether the connection is this task's now: with TLS, where the library hands
 * over a pair of sockets with a few bytes of room between. It stays suspended instead, and its owner
 * reads and writes by its session; 101 is not sent. */
static int
request_take_over(lua_State *L)
{
    lmpe_request *r = lmpe_check_request(L);
    luaL_argcheck(L, can_answer(r) && r->phase == LMPE_COMPLETE, 1, "it cannot be handed over");
    if (r->h->cert)
        r->fd = r->c->fd;
    lua_pushboolean(L, r->fd >= 0);
    return 1;
}

static int
attempt_upgrade(lmpe *S, lmpe_await *a)
{
    lmpe_request *r = (lmpe_request *)(uintptr_t)a->scratch[0];
    (void)S;
    a->source = LMPE_LIST;
    a->on.list = &r->waiters;
    return r->upgrade || !r->c ? MPE_OK : MPE_EAGAIN;
}

static int
finish_upgrade(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lmpe_request *r = (lmpe_request *)(uintptr_t)a->scratch[0];
    (void)S;
    if (status != MPE_OK)
        return lmpe_outcome(L, status, "timeout");
    lua_pushboolean(L, r->upgrade && !r->failed);
    return 1;
}

/* request:upgrade(headers) -> whether the connection is this task's now: answers with 101 */
static int
request_upgrade(lua_State *L)
{
    lmpe_request *r = lmpe_check_request(L);
    check_headers(L, 2);
    luaL_argcheck(L, can_answer(r) && r->phase == LMPE_COMPLETE, 1, "it cannot be handed over");
    struct MHD_Response *response = lmpe_mhd.create_response_for_upgrade(on_upgrade, r);
    if (!response)
        return luaL_error(L, "out of memory");
    add_headers(L, response, 2);
    lmpe_request_respond(r, MHD_HTTP_SWITCHING_PROTOCOLS, response);
    lmpe_await *a = lmpe_await_new(r->h->S, MPE_FOREVER, "timeout");
    a->scratch[0] = (uintptr_t)r;
    a->attempt = attempt_upgrade;
    a->finish = finish_upgrade;
    return lmpe_await_run(L, r->h->S, a);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg methods[] = {{"answer", request_answer},
                                       {"answer_head", request_answer_head},
                                       {"answer_file", request_answer_file},
                                       {"answer_pieces", request_answer_pieces},
                                       {"piece", request_piece},
                                       {"upgrade", request_upgrade},
                                       {"take_over", request_take_over},
                                       {NULL, NULL}};
    static const luaL_Reg functions[] = {{"file_part", file_part}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_getmetatable(L, LMPE_REQUEST);
    lua_getfield(L, -1, "__index");
    lmpe_setfuncs(L, S, methods);
    lua_pop(L, 2);
}

const lmpe_module lmpe_httpd_answer_module = {.open = on_open};

#else

const lmpe_module lmpe_httpd_answer_module = {.open = NULL};

#endif
