/* SPDX-License-Identifier: MIT
 *
 * lpoll.c - descriptors, for modules in Lua: waiting for any of several, and reading and writing
 * without waiting.
 *
 * attempt files a set of waiters; attempt and finish withdraw it, so that no waiter outlives its
 * wait. A set left by a wait that an error ended does nothing when it fires, and is freed with
 * the userdata.
 */
#include "base/lfinalize.h"
#include "base/lsystem.h"
#include "io/ldescriptors.h"
#include "io/lpoll.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <unistd.h>

#define POLLSET "mpengine.pollset"
#define READ_MAX (64u << 10)

/* ---- waiting for several ---- */

static int attempt_poll(lmpe *S, lmpe_await *a);

static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    lmpe_poll_part *p = (lmpe_poll_part *)w;
    lmpe_await *a = p->set->await;
    (void)status;
    p->filed = 0;
    if (a->attempt != attempt_poll || a->scratch[0] != (uintptr_t)p->set ||
        a->task->state != LMPE_WAITING)
        return;
    a->w.fire(e, &a->w, MPE_OK);
}

void
lmpe_pollset_unfile(lmpe_pollset *set)
{
    for (nfds_t i = 0; i < set->count; i++) {
        lmpe_poll_part *p = &set->parts[i];
        if (!p->filed)
            continue;
        p->filed = 0;
        mpe_wait_stop(set->S->e, &p->w);
        mpe_fd_waiter_gone(set->S->e, set->fds[i].fd);
    }
}

static int
file(lmpe_pollset *set)
{
    for (nfds_t i = 0; i < set->count; i++) {
        lmpe_poll_part *p = &set->parts[i];
        int events = set->fds[i].events == POLLOUT ? MPE_WRITABLE : MPE_READABLE;
        int rc = mpe_wait_fd(set->S->e, &p->w, set->fds[i].fd, events, MPE_FOREVER);
        if (rc != MPE_OK)
            return rc;
        p->filed = 1;
    }
    return MPE_EAGAIN;
}

static int
attempt_poll(lmpe *S, lmpe_await *a)
{
    lmpe_pollset *set = (lmpe_pollset *)(uintptr_t)a->scratch[0];
    (void)S;
    a->source = LMPE_MANY;
    lmpe_pollset_unfile(set);
    if (a->ending == LMPE_KILLED || poll(set->fds, set->count, 0) > 0)
        return MPE_OK;
    return a->ending == LMPE_GOES_ON ? file(set) : MPE_EAGAIN;
}

/* The descriptors of one kind that are ready, as keys of a table. */
static void
push_ready(lua_State *L, lmpe_pollset *set, int events)
{
    lua_newtable(L);
    for (nfds_t i = 0; i < set->count; i++) {
        if (set->fds[i].events != events || !set->fds[i].revents)
            continue;
        lua_pushboolean(L, 1);
        lua_rawseti(L, -2, set->fds[i].fd);
    }
}

static int
finish_poll(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lmpe_pollset *set = (lmpe_pollset *)(uintptr_t)a->scratch[0];
    (void)S;
    lmpe_pollset_unfile(set);
    if (status != MPE_OK)
        return lmpe_outcome(L, status, "timeout");
    push_ready(L, set, POLLIN);
    push_ready(L, set, POLLOUT);
    return 2;
}

static int
pollset_gc(lua_State *L)
{
    lmpe_pollset *set = luaL_testudata(L, 1, POLLSET);
    if (set && set->S->e && lmpe_is_finalizing(L))
        lmpe_pollset_unfile(set);
    return 0;
}

lmpe_pollset *
lmpe_pollset_new(lua_State *L, lmpe *S, size_t room)
{
    size_t size = sizeof(lmpe_pollset) + room * (sizeof(lmpe_poll_part) + sizeof(struct pollfd));
    lmpe_pollset *set = lua_newuserdatauv(L, size, 1);
    memset(set, 0, size);
    set->S = S;
    set->fds = (struct pollfd *)(set->parts + room);
    luaL_setmetatable(L, POLLSET);
    return set;
}

void
lmpe_pollset_add(lmpe_pollset *set, int fd, short events, uint32_t at)
{
    lmpe_poll_part *p = &set->parts[set->count];
    set->fds[set->count].fd = fd;
    set->fds[set->count].events = events;
    p->w.fire = on_fire;
    p->set = set;
    p->at = at;
    set->count++;
}

int
lmpe_pollset_wait(lua_State *L, lmpe *S, lmpe_pollset *set, uint64_t deadline,
                  int (*finish)(lua_State *L, lmpe *S, lmpe_await *a, int status))
{
    lmpe_await *a = lmpe_await_new(S, deadline, "timeout");
    set->await = a;
    a->scratch[0] = (uintptr_t)set;
    a->attempt = attempt_poll;
    a->finish = finish;
    a->cleans_up = 1;
    return lmpe_await_run(L, S, a);
}

static void
add_all(lua_State *L, lmpe_pollset *set, int idx, short events)
{
    for (lua_Integer i = 1, n = (lua_Integer)lua_rawlen(L, idx); i <= n; i++) {
        lua_rawgeti(L, idx, i);
        lmpe_pollset_add(set, (int)luaL_checkinteger(L, -1), events, 0);
        lua_pop(L, 1);
    }
}

/* poll(readers, writers [, timeout]) -> the readable and the writable ones, as tables with the
 * descriptors as keys | nil, "timeout". In error, and not open, count as both. */
static int
poll_any(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    luaL_checktype(L, 2, LUA_TTABLE);
    uint64_t deadline = lmpe_check_deadline(L, 3);
    lmpe_pollset *set = lmpe_pollset_new(L, S, lua_rawlen(L, 1) + lua_rawlen(L, 2));
    add_all(L, set, 1, POLLIN);
    add_all(L, set, 2, POLLOUT);
    return lmpe_pollset_wait(L, S, set, deadline, finish_poll);
}

/* ---- reading and writing ---- */

static int
push_errno(lua_State *L, int err)
{
    luaL_pushfail(L);
    if (err == EAGAIN)
        lua_pushliteral(L, "again");
    else
        lua_pushstring(L, lmpe_reason(err));
    lua_pushinteger(L, err);
    return 3;
}

/* fd_read(fd [, max]) -> bytes, "" at the end | nil, "again" | nil, message, number */
static int
fd_read(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    lua_Integer max = luaL_optinteger(L, 2, READ_MAX);
    luaL_Buffer b;
    luaL_argcheck(L, max > 0, 2, "must be more than 0");
    ssize_t n;
    char *to = luaL_buffinitsize(L, &b, (size_t)max);
    do
        n = read(fd, to, (size_t)max);
    while (n < 0 && errno == EINTR);
    int err = errno;
    luaL_pushresultsize(&b, n > 0 ? (size_t)n : 0);
    return n >= 0 ? 1 : push_errno(L, err);
}

/* write(2), without the signal when there is no reader any more. */
static ssize_t
write_quietly(int fd, const char *bytes, size_t n)
{
    sigset_t pipe, before, pending;
    struct timespec now = {0, 0};
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    ssize_t done;
    do
        done = write(fd, bytes, n);
    while (done < 0 && errno == EINTR);
    int err = errno;
    if (done < 0 && err == EPIPE && !sigismember(&pending, SIGPIPE))
        while (sigtimedwait(&pipe, NULL, &now) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    errno = err;
    return done;
}

/* fd_write(fd, bytes [, first]) -> index of the last byte written | nil, "again" | nil, message,
 * number */
static int
fd_write(lua_State *L)
{
    size_t n;
    int fd = (int)luaL_checkinteger(L, 1);
    const char *bytes = luaL_checklstring(L, 2, &n);
    lua_Integer first = luaL_optinteger(L, 3, 1);
    luaL_argcheck(L, first >= 1 && (size_t)first <= n + 1, 3, "out of range");
    ssize_t done = write_quietly(fd, bytes + first - 1, n - (size_t)first + 1);
    if (done < 0)
        return push_errno(L, errno);
    lua_pushinteger(L, first - 1 + done);
    return 1;
}

/* fd_close(fd): wakes the tasks that wait for it, and closes it */
static int
fd_close(lua_State *L)
{
    lmpe *S = lmpe_self_or_closed(L);
    int fd = (int)luaL_checkinteger(L, 1);
    if (S->e)
        mpe_fd_closing(S->e, fd);
    lmpe_note_pipe(fd, 0);
    close(fd);
    return 0;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"poll", poll_any},
                                         {"fd_read", fd_read},
                                         {"fd_write", fd_write},
                                         {"fd_close", fd_close},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, POLLSET);
    lua_pushcfunction(L, pollset_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

const lmpe_module lmpe_poll_module = {.open = on_open};
