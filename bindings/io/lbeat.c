/* SPDX-License-Identifier: MIT
 *
 * lbeat.c - a thread that tells a server again and again that this process is alive, whatever its
 * tasks do: it sends the same bytes at intervals, over a connection of its own that it makes again when
 * it is lost. No Lua runs in it, and it shares nothing with the loop but a pipe, into which it writes a
 * byte when the server has answered over another connection than before.
 *
 * Fork: the mutex is held while libcurl runs, never while the thread waits, and by fork, so that a
 * child finds no lock of a library taken. The thread is the parent's; a child makes its own.
 */
#include "base/lfinalize.h"
#include "base/lsystem.h"
#include "io/lhttp.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define BEAT "mpengine.beat"
#define CONNECT_MS 3000
#define ANSWER_MS 5000
#define AGAIN_MS 1000 /* at most, after a failure: a lease is short */

typedef struct beat {
    pthread_t thread;
    pid_t owner;
    lmpe *S;
    struct curl_slist *resolve;
    int stop[2];  /* a pipe: its end is the sign to stop */
    int again[2]; /* a pipe: a byte for each connection after the first one */
    int has_beaten;
    int interval; /* milliseconds */
    char *url, *path, *ca;
    char *greeting, *bytes;
    size_t greeting_size, size;
    CURL *easy;
    CURLM *multi;
    curl_socket_t fd;
} beat;

static pthread_mutex_t running = PTHREAD_MUTEX_INITIALIZER;

static void
before_fork(void)
{
    pthread_mutex_lock(&running);
}

static void
after_fork(void)
{
    pthread_mutex_unlock(&running);
}

static void
add_fork_handlers(void)
{
    pthread_atfork(before_fork, after_fork, after_fork);
}

/* ---- the connection ---- */

static void
disconnect(beat *b)
{
    pthread_mutex_lock(&running);
    if (b->easy && b->multi)
        lmpe_libcurl.multi_remove_handle(b->multi, b->easy);
    if (b->easy)
        lmpe_libcurl.easy_cleanup(b->easy);
    if (b->multi)
        lmpe_libcurl.multi_cleanup(b->multi);
    b->easy = NULL;
    b->multi = NULL;
    b->fd = CURL_SOCKET_BAD;
    pthread_mutex_unlock(&running);
}

static int
prepare(beat *b)
{
    CURL *easy = b->easy = lmpe_libcurl.easy_init();
    b->multi = lmpe_libcurl.multi_init();
    if (!easy || !b->multi)
        return 0;
    lmpe_libcurl.easy_setopt(easy, CURLOPT_URL, b->url);
    lmpe_libcurl.easy_setopt(easy, CURLOPT_CONNECT_ONLY, 1L);
    lmpe_libcurl.easy_setopt(easy, CURLOPT_SSL_ENABLE_ALPN, 0L);
    lmpe_libcurl.easy_setopt(easy, CURLOPT_PROXY, "");
    lmpe_libcurl.easy_setopt(easy, CURLOPT_NOPROXY, "");
    lmpe_libcurl.easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    lmpe_libcurl.easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    if (b->path)
        lmpe_libcurl.easy_setopt(easy, CURLOPT_UNIX_SOCKET_PATH, b->path);
    if (b->ca)
        lmpe_libcurl.easy_setopt(easy, CURLOPT_CAINFO, b->ca);
    if (b->resolve) /* so libcurl starts no thread to look it up, in which a fork would fail */
        lmpe_libcurl.easy_setopt(easy, CURLOPT_RESOLVE, b->resolve);
    return lmpe_libcurl.multi_add_handle(b->multi, easy) == CURLM_OK;
}

/* One step of connecting: 1: there is a connection, 0: not yet, -1: there will be none. */
static int
step(beat *b)
{
    int left, now;
    if (lmpe_libcurl.multi_perform(b->multi, &now) != CURLM_OK)
        return -1;
    CURLMsg *m = lmpe_libcurl.multi_info_read(b->multi, &left);
    if (!m)
        return 0;
    if (m->data.result != CURLE_OK)
        return -1;
    lmpe_libcurl.easy_getinfo(b->easy, CURLINFO_ACTIVESOCKET, &b->fd);
    return b->fd == CURL_SOCKET_BAD ? -1 : 1;
}

static int
connect_again(beat *b)
{
    struct curl_waitfd stop = {.fd = b->stop[0], .events = CURL_WAIT_POLLIN};
    pthread_mutex_lock(&running);
    int state = prepare(b) ? 0 : -1;
    while (state == 0) {
        state = step(b);
        pthread_mutex_unlock(&running);
        int ready = 0;
        if (state == 0)
            lmpe_libcurl.multi_wait(b->multi, &stop, 1, 100, &ready);
        pthread_mutex_lock(&running);
        if (stop.revents)
            state = -1;
    }
    pthread_mutex_unlock(&running);
    return state == 1;
}

/* Waits for the descriptor or the sign to stop: 1: it is ready. */
static int
wait_for(beat *b, short events, int ms)
{
    struct pollfd set[2] = {{.fd = b->fd, .events = events}, {.fd = b->stop[0], .events = POLLIN}};
    return poll(set, 2, ms) > 0 && !set[1].revents;
}

static CURLcode
send_some(beat *b, const char *bytes, size_t size, size_t *n)
{
    pthread_mutex_lock(&running);
    CURLcode rc = lmpe_libcurl.easy_send(b->easy, bytes, size, n);
    pthread_mutex_unlock(&running);
    return rc;
}

static int
send_all(beat *b, const char *bytes, size_t size)
{
    while (size > 0) {
        size_t n = 0;
        CURLcode rc = send_some(b, bytes, size, &n);
        if (rc == CURLE_AGAIN ? !wait_for(b, POLLOUT, ANSWER_MS) : rc != CURLE_OK)
            return 0;
        bytes += n;
        size -= n;
    }
    return 1;
}

/* Reads what is there: how many bytes, -1: the connection is lost. */
static long
drain(beat *b)
{
    char bytes[512];
    long all = 0;
    for (;;) {
        size_t n = 0;
        pthread_mutex_lock(&running);
        CURLcode rc = lmpe_libcurl.easy_recv(b->easy, bytes, sizeof bytes, &n);
        pthread_mutex_unlock(&running);
        if (rc == CURLE_AGAIN)
            return all;
        if (rc != CURLE_OK || n == 0)
            return -1;
        all += (long)n;
    }
}

/* One beat, and some answer to it. */
static int
beat_once(beat *b)
{
    int is_new = b->fd == CURL_SOCKET_BAD;
    if (is_new && !(connect_again(b) && send_all(b, b->greeting, b->greeting_size)))
        return 0;
    if (drain(b) < 0 || !send_all(b, b->bytes, b->size))
        return 0;
    long n = 0;
    while (n == 0 && wait_for(b, POLLIN, ANSWER_MS))
        n = drain(b);
    if (n > 0 && is_new && b->has_beaten)
        (void)!write(b->again[1], "", 1);
    b->has_beaten |= n > 0;
    return n > 0;
}

/* After a failure it is tried sooner, as a part of the lease is over. */
static int
pause_of(const beat *b, int ok)
{
    if (ok)
        return b->interval;
    return b->interval / 4 < AGAIN_MS ? b->interval / 4 : AGAIN_MS;
}

static void *
run(void *ud)
{
    beat *b = ud;
    struct pollfd stop = {.fd = b->stop[0], .events = POLLIN};
    pthread_setname_np(pthread_self(), "mpe-beat");
    do {
        int ok = beat_once(b);
        if (!ok)
            disconnect(b);
        int rc = poll(&stop, 1, pause_of(b, ok));
        if (rc < 0 && errno != EINTR)
            break;
    } while (!stop.revents);
    disconnect(b);
    return NULL;
}

/* ---- the object ---- */

static void
release(beat *b)
{
    free(b->url);
    free(b->path);
    free(b->ca);
    free(b->greeting);
    free(b->bytes);
    if (b->resolve)
        lmpe_libcurl.slist_free_all(b->resolve);
}

static void
close_pair(int pair[2])
{
    for (int i = 0; i < 2; i++) {
        if (pair[i] >= 0)
            close(pair[i]);
        pair[i] = -1;
    }
}

static void
stop(beat *b)
{
    if (b->stop[1] < 0)
        return;
    close(b->stop[1]);
    b->stop[1] = -1;
    if (b->owner == getpid()) {
        pthread_join(b->thread, NULL);
        release(b);
        if (b->S->e)
            mpe_own_threads(b->S->e, -1);
    }
    close_pair(b->stop);
    close_pair(b->again);
}

/* beat:again_fd() -> a descriptor that is readable when there is another connection than before. */
static int
again_fd(lua_State *L)
{
    beat *b = luaL_checkudata(L, 1, BEAT);
    lua_pushinteger(L, b->again[0]);
    return 1;
}

/* beat:forget_again(): it is readable when there is another one than now. */
static int
forget_again(lua_State *L)
{
    beat *b = luaL_checkudata(L, 1, BEAT);
    char bytes[64];
    while (read(b->again[0], bytes, sizeof bytes) == sizeof bytes)
        ;
    return 0;
}

static int
beat_gc(lua_State *L)
{
    beat *b = lmpe_finalized(L, BEAT, sizeof *b);
    if (b)
        stop(b);
    return 0;
}

static char *
copy(lua_State *L, const char *name, size_t *size)
{
    size_t n;
    lua_getfield(L, 1, name);
    const char *s = lua_tolstring(L, -1, &n);
    char *to = s ? malloc(n + 1) : NULL;
    if (to)
        memcpy(to, s, n + 1);
    if (size)
        *size = to ? n : 0;
    lua_pop(L, 1);
    return to;
}

static int
start(beat *b)
{
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread handles no signal */
    int rc = pthread_create(&b->thread, NULL, run, b);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static int
make_pipe(int pair[2], int flags)
{
    int ends[2];
    if (pipe2(ends, O_CLOEXEC | flags) != 0)
        return -1;
    pair[0] = mpe_fd_lift(ends[0]);
    pair[1] = mpe_fd_lift(ends[1]);
    return 0;
}

static int
fail(lua_State *L, beat *b, const char *what, int error)
{
    close_pair(b->stop);
    close_pair(b->again);
    release(b);
    return luaL_error(L, "cannot %s: %s", what, lmpe_reason(error));
}

static void
read_options(lua_State *L, beat *b)
{
    b->url = copy(L, "url", NULL);
    b->path = copy(L, "path", NULL);
    b->ca = copy(L, "ca", NULL);
    b->greeting = copy(L, "greeting", &b->greeting_size);
    b->bytes = copy(L, "bytes", &b->size);
    char *resolve = copy(L, "resolve", NULL);
    b->resolve = resolve ? lmpe_libcurl.slist_append(NULL, resolve) : NULL;
    free(resolve);
}

/* beat(options) -> an object; the beats end when it is collected. Fields: url, path, ca and resolve
 * as of stream, greeting and bytes to send, seconds between beats. */
static int
new_beat(lua_State *L)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    lmpe_check_curl(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    pthread_once(&once, add_fork_handlers);
    beat *b = lua_newuserdatauv(L, sizeof *b, 0);
    *b = (beat){.owner = getpid(),
                .S = lmpe_self(L),
                .stop = {-1, -1},
                .again = {-1, -1},
                .fd = CURL_SOCKET_BAD};
    lua_getfield(L, 1, "seconds");
    b->interval = (int)(luaL_checknumber(L, -1) * 1000);
    lua_pop(L, 1);
    if (make_pipe(b->stop, 0) != 0 || make_pipe(b->again, O_NONBLOCK) != 0)
        return fail(L, b, "make a pipe", errno);
    read_options(L, b);
    int rc = b->url && b->greeting && b->bytes ? start(b) : ENOMEM;
    if (rc != 0)
        return fail(L, b, "start a thread", rc);
    luaL_setmetatable(L, BEAT);
    mpe_own_threads(b->S->e, 1);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"beat", new_beat}, {NULL, NULL}};
    static const luaL_Reg methods[] = {
        {"again_fd", again_fd}, {"forget_again", forget_again}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    lmpe_http_kind(L, BEAT, methods, beat_gc, beat_gc);
}

const lmpe_module lmpe_beat_module = {.open = on_open};
