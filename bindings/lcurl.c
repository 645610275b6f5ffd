/* SPDX-License-Identifier: MIT
 *
 * lcurl.c - libcurl's multi interface on the engine's loop. For each socket curl names, a waiter
 * per direction; for its timer, a waiter with a deadline. A waiter that fires only notes the fact
 * and posts the job of the multi handle; curl itself is called from that job and from tasks, never
 * from inside a fire, since it may close the very descriptor that is being served.
 *
 * No Lua here: the callbacks gather bytes and wake whoever waits for the transfer.
 *
 * Fork: the multi handle and all its transfers are the parent's. The child closes its copies of the
 * sockets, leaves the memory alone and makes a handle of its own when it needs one.
 */
#include "lcurl.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define HOLD_BACK (256u << 10)              /* bytes of a streamed body kept for its reader */
#define RETRY_NS (20 * MPE_NS_PER_S / 1000) /* when a descriptor could not be watched */

/* ---- the library ---- */

static lmpe_curl_api api;
static const char *load_error;
static char load_error_text[256];
static pthread_once_t loaded = PTHREAD_ONCE_INIT;

static void
load(void)
{
    static const struct {
        const char *name;
        size_t offset;
    } names[] = {
#define LMPE_CURL_NAME(name) {"curl_" #name, offsetof(lmpe_curl_api, name)},
        LMPE_CURL_MAP(LMPE_CURL_NAME)
#undef LMPE_CURL_NAME
    };
    void *lib = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
    if (!lib) {
        snprintf(load_error_text, sizeof load_error_text,
                 "libcurl is needed for http, and cannot be opened: %s", dlerror());
        load_error = load_error_text;
        return;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        void *f = dlsym(lib, names[i].name);
        if (!f) {
            snprintf(load_error_text, sizeof load_error_text,
                     "this libcurl is too old: it has no %s", names[i].name);
            load_error = load_error_text;
            return;
        }
        memcpy((char *)&api + names[i].offset, &f, sizeof f);
    }
    if (api.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        load_error = "libcurl cannot be initialised";
}

const lmpe_curl_api *
lmpe_curl_load(const char **why)
{
    unsigned held = mpe_standard_hold();
    pthread_once(&loaded, load);
    mpe_standard_release(held);
    *why = load_error;
    return load_error ? NULL : &api;
}

/* ---- sockets and the timer ---- */

enum { READ, WRITE };
static const int engine_events[] = {MPE_READABLE, MPE_WRITABLE};
static const int curl_events[] = {CURL_CSELECT_IN, CURL_CSELECT_OUT};

struct direction {
    mpe_waiter w; /* first: a fire finds its direction by it */
    struct watched *of;
    int index, wanted, filed;
};

/* A socket that curl wants watched. */
struct watched {
    struct watched *next, **link; /* all of the multi handle */
    struct watched *next_ready, **ready_link;
    struct lmpe_curl *curl;
    int fd;
    int ready; /* CURL_CSELECT_ bits */
    struct direction dirs[2];
};

/* Descriptors that are curl's, so that a child can close its copies. */
struct descriptor {
    struct descriptor *next;
    int fd;
};

struct lmpe_curl {
    lmpe *S;
    CURLM *multi;
    pid_t owner;
    mpe_job job;
    mpe_waiter timer, retry;
    int timer_due, retry_due;
    struct watched *sockets, *ready;
    struct watched *current; /* whose event curl is being told; NULL once curl gave it up */
    struct descriptor *descriptors;
};

#define FROM_TIMER(w) ((struct lmpe_curl *)((char *)(w)-offsetof(struct lmpe_curl, timer)))
#define FROM_RETRY(w) ((struct lmpe_curl *)((char *)(w)-offsetof(struct lmpe_curl, retry)))
#define FROM_JOB(j) ((struct lmpe_curl *)((char *)(j)-offsetof(struct lmpe_curl, job)))

static void
on_timer(mpe_engine *e, mpe_waiter *w, int status)
{
    struct lmpe_curl *c = FROM_TIMER(w);
    (void)status;
    c->timer_due = 1;
    mpe_post(e, &c->job);
}

static void
on_retry(mpe_engine *e, mpe_waiter *w, int status)
{
    struct lmpe_curl *c = FROM_RETRY(w);
    (void)status;
    c->retry_due = 1;
    mpe_post(e, &c->job);
}

static void
unlink_ready(struct watched *s)
{
    if (!s->ready)
        return;
    *s->ready_link = s->next_ready;
    if (s->next_ready)
        s->next_ready->ready_link = s->ready_link;
    s->ready = 0;
}

static void
on_socket_event(mpe_engine *e, mpe_waiter *w, int status)
{
    struct direction *d = (struct direction *)w;
    struct watched *s = d->of;
    struct lmpe_curl *c = s->curl;
    (void)status;
    d->filed = 0;
    if (!s->ready) {
        s->ready_link = &c->ready;
        s->next_ready = c->ready;
        if (c->ready)
            c->ready->ready_link = &s->next_ready;
        c->ready = s;
    }
    s->ready |= curl_events[d->index];
    mpe_post(e, &c->job);
}

/* Makes the waiters of a socket agree with what curl wants. */
static void
refile(struct watched *s)
{
    mpe_engine *e = s->curl->S->e;
    int stopped = 0;
    for (int i = 0; i < 2; i++) {
        struct direction *d = &s->dirs[i];
        if (d->wanted && !d->filed) {
            d->filed = mpe_wait_fd(e, &d->w, s->fd, engine_events[i], MPE_FOREVER) == MPE_OK;
            if (!d->filed) /* no descriptor or memory left: again in a moment */
                mpe_wait_stop(e, &s->curl->retry),
                    mpe_wait_timer(e, &s->curl->retry, mpe_now() + RETRY_NS);
        } else if (!d->wanted && d->filed) {
            mpe_wait_stop(e, &d->w);
            d->filed = 0;
            stopped = 1;
        }
    }
    if (stopped)
        mpe_fd_waiter_gone(e, s->fd);
}

static struct watched *
watch(struct lmpe_curl *c, int fd)
{
    struct watched *s = calloc(1, sizeof *s);
    if (!s)
        return NULL;
    s->curl = c;
    s->fd = fd;
    for (int i = 0; i < 2; i++) {
        s->dirs[i].w.fire = on_socket_event;
        s->dirs[i].of = s;
        s->dirs[i].index = i;
    }
    s->link = &c->sockets;
    s->next = c->sockets;
    if (s->next)
        s->next->link = &s->next;
    c->sockets = s;
    return s;
}

static void
unwatch(struct watched *s)
{
    s->dirs[READ].wanted = s->dirs[WRITE].wanted = 0;
    refile(s);
    unlink_ready(s);
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    if (s->curl->current == s)
        s->curl->current = NULL;
    free(s);
}

/* ---- what curl calls ---- */

static int
on_want(CURL *easy, curl_socket_t fd, int what, void *ud, void *socketp)
{
    struct lmpe_curl *c = ud;
    struct watched *s = socketp;
    (void)easy;
    if (what == CURL_POLL_REMOVE) {
        if (s)
            unwatch(s);
        return 0;
    }
    if (!s && !(s = watch(c, fd)))
        return -1;
    api.multi_assign(c->multi, fd, s);
    s->dirs[READ].wanted = (what & CURL_POLL_IN) != 0;
    s->dirs[WRITE].wanted = (what & CURL_POLL_OUT) != 0;
    refile(s);
    return 0;
}

static int
on_want_timer(CURLM *multi, long ms, void *ud)
{
    struct lmpe_curl *c = ud;
    mpe_engine *e = c->S->e;
    (void)multi;
    c->timer_due = 0;
    mpe_wait_stop(e, &c->timer);
    if (ms == 0) {
        c->timer_due = 1;
        mpe_post(e, &c->job);
    } else if (ms > 0) {
        uint64_t deadline = mpe_now() + (uint64_t)ms * (MPE_NS_PER_S / 1000);
        return mpe_wait_timer(e, &c->timer, deadline) == MPE_OK ? 0 : -1;
    }
    return 0;
}

static curl_socket_t
on_open_socket(void *ud, curlsocktype purpose, struct curl_sockaddr *a)
{
    struct lmpe_curl *c = ud;
    struct descriptor *d = malloc(sizeof *d);
    int fd = d ? mpe_fd_lift(socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol)) : -1;
    (void)purpose;
    if (fd < 0) {
        free(d);
        return CURL_SOCKET_BAD;
    }
    d->fd = fd;
    d->next = c->descriptors;
    c->descriptors = d;
    return fd;
}

static int
on_close_socket(void *ud, curl_socket_t fd)
{
    struct lmpe_curl *c = ud;
    for (struct descriptor **p = &c->descriptors, *d; (d = *p) != NULL; p = &d->next) {
        if (d->fd != fd)
            continue;
        *p = d->next;
        free(d);
        break;
    }
    if (c->S->e)
        mpe_fd_closing(c->S->e, fd);
    return close(fd);
}

static size_t
on_header(char *line, size_t size, size_t count, void *ud)
{
    lmpe_transfer *t = ud;
    size_t n = size * count;
    if (n >= 5 && memcmp(line, "HTTP/", 5) == 0)
        t->head.len = 0; /* of another response: what came before was a redirect */
    if (mpe_buf_append(&t->head, line, n) == MPE_OK)
        return n;
    t->failed = MPE_ENOMEM;
    return 0;
}

static size_t
on_body(char *bytes, size_t size, size_t count, void *ud)
{
    lmpe_transfer *t = ud;
    size_t n = size * count;
    if (t->streaming && t->body.len >= HOLD_BACK) {
        t->paused = 1;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (mpe_buf_append(&t->body, bytes, n) != MPE_OK) {
        t->failed = MPE_ENOMEM;
        return 0;
    }
    if (t->streaming)
        mpe_waitlist_wake(t->curl->S->e, &t->waiters, UINT32_MAX);
    return n;
}

/* ---- the job ---- */

/* Notes which transfers have ended. */
static void
collect(struct lmpe_curl *c)
{
    CURLMsg *m;
    int left;
    while ((m = api.multi_info_read(c->multi, &left)) != NULL) {
        char *private = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode result = m->data.result;
        api.easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &private);
        lmpe_transfer *t = (lmpe_transfer *)private;
        t->result = result;
        t->done = 1;
        mpe_waitlist_wake(c->S->e, &t->waiters, UINT32_MAX);
    }
}

static void
run(mpe_engine *e, mpe_job *job)
{
    struct lmpe_curl *c = FROM_JOB(job);
    struct watched *s;
    int running;
    unsigned held = mpe_standard_hold(); /* curl has descriptors of its own beside its sockets */
    (void)e;
    if (c->timer_due) {
        c->timer_due = 0;
        api.multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    while ((s = c->ready) != NULL) {
        int bits = s->ready;
        unlink_ready(s);
        c->current = s;
        api.multi_socket_action(c->multi, s->fd, bits, &running);
        if (c->current)
            refile(s);
        c->current = NULL;
    }
    if (c->retry_due) {
        c->retry_due = 0;
        for (s = c->sockets; s; s = s->next)
            refile(s);
    }
    mpe_standard_release(held);
    collect(c);
}

/* ---- the multi handle of a state ---- */

static struct lmpe_curl *
open_multi(lmpe *S)
{
    struct lmpe_curl *c = S->curl;
    if (c && c->owner == getpid())
        return c;
    if (!(c = calloc(1, sizeof *c)))
        return NULL;
    unsigned held = mpe_standard_hold();
    c->multi = api.multi_init();
    mpe_standard_release(held);
    if (!c->multi) {
        free(c);
        return NULL;
    }
    c->S = S;
    c->owner = getpid();
    c->job.run = run;
    c->timer.fire = on_timer;
    c->retry.fire = on_retry;
    api.multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_want);
    api.multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    api.multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_want_timer);
    api.multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    S->curl = c;
    return c;
}

void
lmpe_curl_close(lmpe *S)
{
    struct lmpe_curl *c = S->curl;
    S->curl = NULL;
    if (!c || c->owner != getpid())
        return;
    api.multi_cleanup(c->multi);
    mpe_wait_stop(S->e, &c->timer);
    mpe_wait_stop(S->e, &c->retry);
    while (c->sockets)
        unwatch(c->sockets);
    if (!c->job.queued)
        free(c);
}

void
lmpe_curl_forked(lmpe *S)
{
    struct descriptor *d = S->curl ? S->curl->descriptors : NULL;
    for (; d; d = d->next)
        close(d->fd);
    S->curl = NULL;
}

/* ---- transfers ---- */

int
lmpe_transfer_open(const lmpe_curl_api *with, lmpe_transfer *t)
{
    CURL *easy = with->easy_init();
    if (!easy)
        return MPE_ENOMEM;
    t->easy = easy;
    mpe_buf_init(&t->head);
    mpe_buf_init(&t->body);
    with->easy_setopt(easy, CURLOPT_PRIVATE, t);
    with->easy_setopt(easy, CURLOPT_ERRORBUFFER, t->error);
    with->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    with->easy_setopt(easy, CURLOPT_HEADERDATA, t);
    with->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    with->easy_setopt(easy, CURLOPT_WRITEDATA, t);
    with->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    return MPE_OK;
}

const char *
lmpe_transfer_start(lmpe *S, lmpe_transfer *t)
{
    struct lmpe_curl *c = open_multi(S);
    if (!c)
        return "out of memory";
    api.easy_setopt(t->easy, CURLOPT_OPENSOCKETFUNCTION, on_open_socket);
    api.easy_setopt(t->easy, CURLOPT_OPENSOCKETDATA, c);
    api.easy_setopt(t->easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
    api.easy_setopt(t->easy, CURLOPT_CLOSESOCKETDATA, c);
    t->curl = c;
    CURLMcode rc = api.multi_add_handle(c->multi, t->easy);
    if (rc == CURLM_OK) {
        mpe_own_threads(S->e, 1); /* while it resolves a name: no obstacle to a fork */
        return NULL;
    }
    t->curl = NULL;
    return api.multi_strerror(rc);
}

void
lmpe_transfer_resume(lmpe_transfer *t)
{
    if (!t->paused || t->done)
        return;
    t->paused = 0;
    api.easy_pause(t->easy, CURLPAUSE_CONT);
}

void
lmpe_transfer_close(lmpe *S, lmpe_transfer *t)
{
    CURL *easy = t->easy;
    t->easy = NULL;
    mpe_buf_free(&t->head);
    mpe_buf_free(&t->body);
    if (!easy || (t->curl && (t->curl->owner != getpid() || !S->e)))
        return;
    if (t->curl) {
        api.multi_remove_handle(t->curl->multi, easy);
        mpe_own_threads(S->e, -1);
    }
    t->curl = NULL;
    api.easy_cleanup(easy);
}
