/* SPDX-License-Identifier: MIT
 *
 * lsocket.c - receive and send of a stream, with the results of LuaSocket's methods.
 *
 * A call is one unit: calls in one direction are served in the order in which they were made. The
 * turn is handed from task to task, so that none comes in between. Input that a receive has when
 * it is cancelled stays in the buffer; one that times out returns it, as LuaSocket's does.
 *
 * The last recv that got less than it had room for has left nothing behind. Then the next
 * receive waits first, since its first recv would get nothing.
 */
#include "io/lsocket.h"
#include "base/lsystem.h"
#include "task/lturn.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define ROOM_MIN ((size_t)4 << 10)
#define ROOM_MAX ((size_t)256 << 10) /* of one recv */
#define TURN_BYTES (4u << 20)        /* of one attempt: then the others run, and deadlines count */

static uint32_t forks; /* of this process: turns of before belong to tasks of the parent */

enum wanted { COUNT, LINE, ALL };

/* ---- turns ---- */

static int
take_turn(struct lmpe_turns *t, lmpe_await *a)
{
    if (!t->owner)
        t->owner = a->task;
    if (t->owner == a->task)
        return 1;
    a->source = LMPE_LIST;
    a->on.list = &t->waiting;
    return 0;
}

static void
end_turn(lmpe *S, struct lmpe_turns *t, const lmpe_task *task)
{
    mpe_waiter *next = t->waiting.head;
    if (t->owner != task)
        return;
    t->owner = next ? ((lmpe_await *)next)->task : NULL;
    if (next)
        mpe_waitlist_wake(S->e, &t->waiting, 1);
}

/* ---- input ---- */

size_t
lmpe_socket_available(const lmpe_socket *s)
{
    return s->end - s->first;
}

uint64_t
lmpe_socket_taken(const lmpe_socket *s)
{
    return s->received + (s->reading.owner ? lmpe_socket_available(s) : 0);
}

static void
drop_input(lmpe_socket *s)
{
    free(s->bytes);
    s->bytes = NULL;
    s->first = s->end = s->room = s->scanned = 0;
}

/* Room for so many bytes behind the end. */
static int
make_room(lmpe_socket *s, size_t count)
{
    size_t held = lmpe_socket_available(s), room = s->room;
    if (s->room - s->end >= count)
        return MPE_OK;
    while (room < held + count)
        room = room ? room * 2 : ROOM_MIN;
    char *bytes = malloc(room);
    if (!bytes)
        return MPE_ENOMEM;
    if (held)
        memcpy(bytes, s->bytes + s->first, held);
    free(s->bytes);
    s->bytes = bytes;
    s->room = room;
    s->end = held;
    s->first = 0;
    return MPE_OK;
}

/* One recv: OK, EAGAIN, ECLOSED, ENOMEM, or ESYS with the errno in s->error. */
static int
fill(lmpe_socket *s)
{
    ssize_t n;
    size_t count = lmpe_socket_available(s) < ROOM_MIN ? ROOM_MIN : lmpe_socket_available(s);
    if (make_room(s, count < ROOM_MAX ? count : ROOM_MAX) != MPE_OK)
        return MPE_ENOMEM;
    size_t room = s->room - s->end;
    do
        n = recv(s->fd, s->bytes + s->end, room, 0);
    while (n < 0 && errno == EINTR);
    s->drained = n < (ssize_t)room;
    if (n == 0)
        return MPE_ECLOSED;
    if (n < 0) {
        s->error = errno;
        return errno == EAGAIN ? MPE_EAGAIN : MPE_ESYS;
    }
    s->end += (size_t)n;
    return MPE_OK;
}

static int
is_there(lmpe_socket *s, enum wanted what, size_t count)
{
    size_t have = lmpe_socket_available(s);
    if (what == COUNT)
        return have > 0 && have >= count; /* none wanted: some must have arrived */
    if (what == ALL || have == s->scanned)
        return 0;
    const char *from = s->bytes + s->first + s->scanned;
    const char *end = memchr(from, '\n', have - s->scanned);
    s->scanned = end ? (size_t)(end - s->bytes) - s->first : have;
    return end != NULL;
}

/* ---- receive ---- */

#define WANTED_SHIFT 62

static int
wait_at(lmpe_socket *s, lmpe_await *a, int event)
{
    a->source = LMPE_FD;
    a->on.fd = s->fd;
    a->event = (uint8_t)event;
    return MPE_EAGAIN;
}

static int
wait_for_input(lmpe_socket *s, lmpe_await *a)
{
    s->drained = 0;
    return wait_at(s, a, MPE_READABLE | MPE_EDGE);
}

static int
attempt_receive(lmpe *S, lmpe_await *a)
{
    lmpe_socket *s = (lmpe_socket *)(uintptr_t)a->scratch[0];
    enum wanted what = (enum wanted)(a->scratch[1] >> WANTED_SHIFT);
    size_t count = (size_t)(a->scratch[1] << 2 >> 2);
    size_t got = 0;
    (void)S;
    if (a->ending == LMPE_KILLED)
        return MPE_EAGAIN;
    if (!take_turn(&s->reading, a))
        return MPE_EAGAIN;
    while (!is_there(s, what, count)) {
        if (s->fd < 0)
            return MPE_ECLOSED;
        if (s->drained && a->ending == LMPE_GOES_ON && a->deadline != MPE_NOW)
            return wait_for_input(s, a);
        if (got >= TURN_BYTES)
            return wait_at(s, a, MPE_READABLE); /* it goes on when the others have run */
        size_t had = lmpe_socket_available(s);
        int rc = fill(s);
        got += lmpe_socket_available(s) - had;
        if (rc == MPE_EAGAIN)
            return wait_for_input(s, a);
        if (rc != MPE_OK)
            return rc == MPE_ECLOSED && what == ALL && lmpe_socket_available(s) ? MPE_OK : rc;
    }
    return MPE_OK;
}

const char *
lmpe_socket_word(int error)
{
    switch (error) {
    case EADDRINUSE:
        return "address already in use";
    case EISCONN:
        return "already connected";
    case EACCES:
        return "permission denied";
    case ECONNREFUSED:
        return "connection refused";
    case ECONNABORTED:
    case ECONNRESET:
    case EPIPE:
        return "closed";
    case ETIMEDOUT:
        return "timeout";
    default:
        return lmpe_reason(error);
    }
}

static const char *
reason_of(const lmpe_socket *s, int status)
{
    return status == MPE_ECLOSED                             ? "closed"
           : status == MPE_EAGAIN || status == MPE_ETIMEDOUT ? "timeout"
           : status == MPE_ESYS                              ? lmpe_socket_word(s->error)
                                                             : mpe_strerror(status);
}

/* Without the carriage returns of a line. */
static void
add_line(luaL_Buffer *b, const char *from, size_t size)
{
    const char *end = from + size, *cr;
    while ((cr = memchr(from, '\r', (size_t)(end - from)))) {
        luaL_addlstring(b, from, (size_t)(cr - from));
        from = cr + 1;
    }
    luaL_addlstring(b, from, (size_t)(end - from));
}

/* Pushes the prefix at index 3 and so many bytes of the input, and takes these. */
static void
push_input(lua_State *L, lmpe_socket *s, enum wanted what, size_t size)
{
    size_t length;
    const char *prefix = lua_tolstring(L, 3, &length);
    const char *from = s->bytes + s->first;
    if (length == 0 && (what != LINE || size == 0 || !memchr(from, '\r', size))) {
        lua_pushlstring(L, size ? from : "", size);
    } else {
        luaL_Buffer b;
        luaL_buffinit(L, &b);
        luaL_addlstring(&b, prefix, length);
        if (what == LINE && size)
            add_line(&b, from, size);
        else if (size)
            luaL_addlstring(&b, from, size);
        luaL_pushresult(&b);
    }
    s->first += size;
    s->received += size;
    s->scanned = 0;
    if (s->first == s->end)
        drop_input(s);
}

/* A further result of LuaSocket's where it is built for debugging. */
static int
with_elapsed(lua_State *L, const lmpe_socket *s, const lmpe_await *a, int n)
{
    if (!s->tells_elapsed)
        return n;
    lua_pushnumber(L, (lua_Number)(mpe_now() - a->scratch[2]) / 1e9);
    return n + 1;
}

/* A call that may not wait, and would have to, lets the other tasks run. */
static int
results(lua_State *L, lmpe *S, const lmpe_await *a, int status, int n)
{
    int looked = a->deadline == MPE_NOW && (status == MPE_EAGAIN || status == MPE_ETIMEDOUT);
    return looked ? lmpe_let_others(L, S, n) : n;
}

static int
finish_receive(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lmpe_socket *s = (lmpe_socket *)(uintptr_t)a->scratch[0];
    enum wanted what = (enum wanted)(a->scratch[1] >> WANTED_SHIFT);
    size_t count = (size_t)(a->scratch[1] << 2 >> 2);
    int owns = s->reading.owner == a->task;
    lmpe_await done = *a; /* what waits next may use it */
    end_turn(S, &s->reading, a->task);
    if (a->ending == LMPE_KILLED)
        return 0;
    if (status == MPE_OK) {
        push_input(L, s, what,
                   what == COUNT  ? count
                   : what == LINE ? s->scanned
                                  : lmpe_socket_available(s));
        if (what == LINE) { /* the end of the line */
            s->first++;
            s->received++;
        }
        if (s->first >= s->end)
            drop_input(s);
        lua_pushnil(L);
        lua_pushnil(L);
        return with_elapsed(L, s, &done, 3);
    }
    lua_pushnil(L);
    lua_pushstring(L, reason_of(s, status));
    push_input(L, s, what, owns ? lmpe_socket_available(s) : 0);
    return results(L, S, &done, status, with_elapsed(L, s, &done, 3));
}

/* ---- send ---- */

static int
attempt_send(lmpe *S, lmpe_await *a)
{
    lmpe_socket *s = (lmpe_socket *)(uintptr_t)a->scratch[0];
    uint64_t before = s->sent;
    (void)S;
    if (a->ending == LMPE_KILLED || !take_turn(&s->writing, a))
        return MPE_EAGAIN;
    while (a->scratch[1] > 0) {
        const char *from = (const char *)(uintptr_t)a->object;
        if (s->fd < 0)
            return MPE_ECLOSED;
        if (s->sent - before >= TURN_BYTES)
            return wait_at(s, a, MPE_WRITABLE);
        ssize_t n = send(s->fd, from, (size_t)a->scratch[1], MSG_NOSIGNAL);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN)
            return wait_at(s, a, MPE_WRITABLE | MPE_EDGE);
        if (n < 0) {
            s->error = errno;
            return MPE_ESYS;
        }
        s->sent += (uint64_t)n;
        a->object = (mpe_object *)(uintptr_t)(from + n);
        a->scratch[1] -= (uint64_t)n;
    }
    return s->fd < 0 ? MPE_ECLOSED : MPE_OK;
}

/* Below the data, index 2 of the call, are its first and last index. */
static int
finish_send(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lmpe_socket *s = (lmpe_socket *)(uintptr_t)a->scratch[0];
    lmpe_await done = *a;
    end_turn(S, &s->writing, a->task);
    if (a->ending == LMPE_KILLED)
        return 0;
    lua_Integer last = lua_tointeger(L, 4) - (lua_Integer)done.scratch[1];
    if (status == MPE_OK) {
        lua_pushinteger(L, last);
        lua_pushnil(L);
        lua_pushnil(L);
    } else {
        lua_pushnil(L);
        lua_pushstring(L, reason_of(s, status));
        lua_pushinteger(L, last);
    }
    return results(L, S, &done, status, with_elapsed(L, s, &done, 3));
}

/* ---- the methods ---- */

/* In a forked child the tasks of its turns were the parent's. */
static void
begin(lmpe_socket *s)
{
    if (s->forks == forks)
        return;
    s->reading = s->writing = (struct lmpe_turns){0};
    s->forks = forks;
}

uint64_t
lmpe_socket_deadline(const lmpe_socket *s)
{
    double seconds = s->block;
    if (s->total >= 0 && (seconds < 0 || s->total < seconds))
        seconds = s->total;
    return seconds < 0 ? MPE_FOREVER : seconds == 0 ? MPE_NOW : lmpe_deadline_in(seconds);
}

static lmpe_await *
new_call(lmpe *S, lmpe_socket *s)
{
    lmpe_await *a = lmpe_await_new(S, lmpe_socket_deadline(s), "timeout");
    a->scratch[0] = (uintptr_t)s;
    a->scratch[2] = s->tells_elapsed ? mpe_now() : 0;
    a->cleans_up = 1;
    return a;
}

/* What a receive asks for; 0: it is not a pattern. */
static int
read_pattern(lua_State *L, uint64_t *wanted)
{
    int is_number;
    lua_Number n = lua_tonumberx(L, 2, &is_number);
    if (is_number) {
        if (!(n >= 0 && n < 0x1p60))
            return 0;
        *wanted = (uint64_t)n;
        return 1;
    }
    const char *pattern = lua_isnoneornil(L, 2) ? "*l" : lua_tostring(L, 2);
    if (!pattern || pattern[0] != '*' || (pattern[1] != 'l' && pattern[1] != 'a'))
        return 0;
    *wanted = (uint64_t)(pattern[1] == 'l' ? LINE : ALL) << WANTED_SHIFT;
    return 1;
}

/* receive([pattern [, prefix]]) -> data | nil, reason, the part that there is */
int
lmpe_socket_receive(lua_State *L, lmpe *S, lmpe_socket *s)
{
    size_t prefix = 0;
    uint64_t wanted;
    begin(s);
    lua_settop(L, 3);
    if (lua_isnil(L, 3)) {
        lua_pushliteral(L, "");
        lua_replace(L, 3);
    }
    if (!lua_tolstring(L, 3, &prefix) || !read_pattern(L, &wanted))
        return LMPE_MISUSED;
    if (wanted >> WANTED_SHIFT == COUNT && prefix > 0) {
        if (wanted <= prefix) {
            lua_pushnil(L);
            lua_pushnil(L);
            return 3; /* the prefix is all */
        }
        wanted -= prefix;
    }
    lmpe_await *a = new_call(S, s);
    a->scratch[1] = wanted;
    a->attempt = attempt_receive;
    a->finish = finish_receive;
    return lmpe_await_run(L, S, a);
}

/* The bounds of a send in a string of that size, as those of string.sub. */
static int
read_bounds(lua_State *L, lua_Integer size)
{
    int ok_first = 1, ok_last = 1;
    lua_Integer first = lua_isnoneornil(L, 3) ? 1 : lua_tointegerx(L, 3, &ok_first);
    lua_Integer last = lua_isnoneornil(L, 4) ? -1 : lua_tointegerx(L, 4, &ok_last);
    if (!ok_first || !ok_last)
        return 0;
    first = first < 0 ? size + first + 1 : first;
    last = last < 0 ? size + last + 1 : last;
    lua_settop(L, 2);
    lua_pushinteger(L, first < 1 ? 1 : first);
    lua_pushinteger(L, last > size ? size : last);
    return 1;
}

/* send(data [, first [, last]]) -> index of the last byte sent | nil, reason, that index */
int
lmpe_socket_send(lua_State *L, lmpe *S, lmpe_socket *s)
{
    size_t size = 0;
    const char *bytes = lua_tolstring(L, 2, &size);
    begin(s);
    if (!bytes || !read_bounds(L, (lua_Integer)size))
        return LMPE_MISUSED;
    lua_Integer first = lua_tointeger(L, 3), last = lua_tointeger(L, 4);
    if (last < first) { /* nothing to send: the last byte is the one before */
        last = first - 1;
        lua_pushinteger(L, last);
        lua_replace(L, 4);
    }
    lmpe_await *a = new_call(S, s);
    a->object = (mpe_object *)(uintptr_t)(bytes + first - 1);
    a->scratch[1] = (uint64_t)(last - first + 1);
    a->attempt = attempt_send;
    a->finish = finish_send;
    return lmpe_await_run(L, S, a);
}

/* ---- the state ---- */

lmpe_socket *
lmpe_socket_new(lua_State *L)
{
    lmpe_socket *s = lua_newuserdatauv(L, sizeof *s, 0);
    memset(s, 0, sizeof *s);
    s->fd = -1;
    s->block = s->total = -1;
    s->forks = forks;
    s->drained = 1; /* most sockets are first read before there is anything */
    luaL_setmetatable(L, LMPE_SOCKET);
    return s;
}

int
lmpe_socket_append(lmpe_socket *s, const char *bytes, size_t size)
{
    if (size == 0)
        return MPE_OK;
    if (make_room(s, size) != MPE_OK)
        return MPE_ENOMEM;
    memcpy(s->bytes + s->end, bytes, size);
    s->end += size;
    return MPE_OK;
}

void
lmpe_socket_closing(lmpe *S, lmpe_socket *s)
{
    int fd = s->fd;
    s->fd = -1;
    drop_input(s);
    if (S->e && fd >= 0)
        mpe_fd_closing(S->e, fd);
}

static void
on_fork(lua_State *L, lmpe *S)
{
    (void)L, (void)S;
    forks++;
}

const lmpe_module lmpe_socket_module = {.forked = on_fork};
