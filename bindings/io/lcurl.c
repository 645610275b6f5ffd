/* SPDX-License-Identifier: MIT
 *
 * lcurl.c - libcurl's multi interface on the engine's loop. Each socket that curl names has a
 * waiter per direction; its timer is a waiter with a deadline. A waiter that fires only records
 * the fact and posts the job of the multi handle. curl itself is called from that job and from
 * tasks, never from inside a fire, since it may close the very descriptor that is being served.
 *
 * Fork: the multi handles and all their transfers belong to the parent. The child closes its
 * copies of the sockets, leaves the memory alone and makes handles of its own when it needs
 * them.
 */
#include "io/lcurl_int.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define RETRY_NS (20 * MPE_NS_PER_S / 1000) /* when a descriptor could not be watched */

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

/* Makes the waiters of a socket agree with curl's wishes. */
static void
refile(struct watched *s)
{
    mpe_engine *e = s->curl->S->e;
    int stopped = 0;
    for (int i = 0; i < 2; i++) {
        struct direction *d = &s->dirs[i];
        if (d->wanted && !d->filed) {
            d->filed = mpe_wait_fd(e, &d->w, s->fd, engine_events[i], MPE_FOREVER) == MPE_OK;
            if (!d->filed) /* no descriptor or memory left: retry in a moment */
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
    lmpe_curl_set_idle(c, fd, 0);
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
    lmpe_curl_set_idle(s->curl, s->fd, mpe_now());
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
    lmpe_libcurl.multi_assign(c->multi, fd, s);
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

/* ---- records of sockets ---- */

/* 0: it is none, or closed. */
static ino_t
number_of(int fd)
{
    struct stat st;
    return fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode) ? st.st_ino : 0;
}

static void
forget(struct descriptor **at)
{
    struct descriptor *d = *at;
    *at = d->next;
    free(d);
}

void
lmpe_curl_forget_closed(struct lmpe_curl *c)
{
    struct descriptor **p = &c->descriptors;
    while (*p)
        if (number_of((*p)->fd) == (*p)->number)
            p = &(*p)->next;
        else
            forget(p);
}

static void
forget_descriptor(struct lmpe_curl *c, int fd)
{
    struct descriptor **p = &c->descriptors;
    while (*p && (*p)->fd != fd)
        p = &(*p)->next;
    if (*p)
        forget(p);
}

curl_socket_t
lmpe_curl_open_socket(void *ud, curlsocktype purpose, struct curl_sockaddr *a)
{
    lmpe_transfer *t = ud;
    if (!t) /* the sweeper gets no socket */
        return CURL_SOCKET_BAD;
    struct lmpe_curl *c = t->curl;
    struct descriptor *d = calloc(1, sizeof *d);
    int fd = d ? mpe_fd_lift(socket(a->family, a->socktype | SOCK_CLOEXEC, a->protocol)) : -1;
    (void)purpose;
    if (fd < 0) {
        t->socket_error = errno;
        free(d);
        return CURL_SOCKET_BAD;
    }
    forget_descriptor(c, fd); /* closed meanwhile */
    d->fd = fd;
    d->number = number_of(fd);
    d->next = c->descriptors;
    c->descriptors = d;
    return fd;
}

static int
on_close_socket(void *ud, curl_socket_t fd)
{
    struct lmpe_curl *c = ud;
    forget_descriptor(c, fd);
    if (c->S->e)
        mpe_fd_closing(c->S->e, fd);
    return close(fd);
}

/* ---- the job ---- */

/* Records which transfers have ended. */
static void
collect(struct lmpe_curl *c)
{
    CURLMsg *m;
    int left;
    while ((m = lmpe_libcurl.multi_info_read(c->multi, &left)) != NULL) {
        char *private = NULL;
        if (m->msg != CURLMSG_DONE)
            continue;
        CURLcode result = m->data.result;
        if (m->easy_handle == c->sweeper) {
            lmpe_curl_end_sweep(c);
            lmpe_curl_look_for_idle(c, mpe_now() + MPE_NS_PER_S);
            continue;
        }
        lmpe_libcurl.easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &private);
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
    (void)e;
    if (!c->multi) {
        free(c);
        return;
    }
    unsigned held = mpe_standard_hold(); /* curl has descriptors of its own beside its sockets */
    if (c->idle_due) {
        c->idle_due = 0;
        lmpe_curl_look_for_idle(c, 0);
    }
    if (c->timer_due) {
        c->timer_due = 0;
        lmpe_libcurl.multi_socket_action(c->multi, CURL_SOCKET_TIMEOUT, 0, &running);
    }
    while ((s = c->ready) != NULL) {
        int bits = s->ready;
        unlink_ready(s);
        c->current = s;
        lmpe_libcurl.multi_socket_action(c->multi, s->fd, bits, &running);
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

/* ---- multi handles ---- */

static struct lmpe_curl *
open_multi(lmpe_connections *from)
{
    struct lmpe_curl *c = from->curl;
    if (c && c->owner == getpid())
        return c;
    if (!(c = calloc(1, sizeof *c)))
        return NULL;
    unsigned held = mpe_standard_hold();
    c->multi = lmpe_libcurl.multi_init();
    mpe_standard_release(held);
    if (!c->multi) {
        free(c);
        return NULL;
    }
    c->S = from->S;
    c->home = from;
    c->idle_ns = from->idle_ns;
    c->owner = getpid();
    c->job.run = run;
    c->timer.fire = on_timer;
    c->retry.fire = on_retry;
    c->idle.fire = lmpe_curl_on_idle;
    lmpe_libcurl.multi_setopt(c->multi, CURLMOPT_SOCKETFUNCTION, on_want);
    lmpe_libcurl.multi_setopt(c->multi, CURLMOPT_SOCKETDATA, c);
    lmpe_libcurl.multi_setopt(c->multi, CURLMOPT_TIMERFUNCTION, on_want_timer);
    lmpe_libcurl.multi_setopt(c->multi, CURLMOPT_TIMERDATA, c);
    c->next = c->S->curl;
    c->S->curl = c;
    from->curl = c;
    return c;
}

static void
close_multi(struct lmpe_curl *c)
{
    struct lmpe_curl **p = &c->S->curl;
    while (*p != c)
        p = &(*p)->next;
    *p = c->next;
    if (c->home)
        c->home->curl = NULL;
    lmpe_curl_end_sweep(c);
    lmpe_libcurl.multi_cleanup(c->multi);
    while (c->sockets)
        unwatch(c->sockets);
    while (c->descriptors)
        forget(&c->descriptors);
    mpe_wait_stop(c->S->e, &c->timer);
    mpe_wait_stop(c->S->e, &c->retry);
    mpe_wait_stop(c->S->e, &c->idle);
    c->multi = NULL;
    if (!c->job.queued)
        free(c);
}

void
lmpe_connections_close(lmpe_connections *from)
{
    struct lmpe_curl *c = from->curl;
    from->curl = NULL;
    if (!c || c->owner != getpid() || !from->S->e)
        return;
    c->home = NULL;
    if (c->transfers == 0)
        close_multi(c);
}

static void
on_close(lua_State *L, lmpe *S)
{
    (void)L;
    while (S->curl)
        close_multi(S->curl);
}

static void
on_fork(lua_State *L, lmpe *S)
{
    (void)L;
    for (struct lmpe_curl *c = S->curl; c; c = c->next)
        for (struct descriptor *d = c->descriptors; d; d = d->next)
            if (number_of(d->fd) == d->number)
                close(d->fd);
    S->curl = NULL;
}

const lmpe_module lmpe_curl_module = {.forked = on_fork, .close = on_close};

/* ---- transfers ---- */

const char *
lmpe_transfer_start(lmpe_connections *from, lmpe_transfer *t)
{
    struct lmpe_curl *c = open_multi(from);
    if (!c)
        return "out of memory";
    lmpe_libcurl.easy_setopt(t->easy, CURLOPT_MAXAGE_CONN, lmpe_curl_oldest(from->idle_ns) + 1);
    lmpe_libcurl.easy_setopt(t->easy, CURLOPT_FORBID_REUSE, from->idle_ns == 0 ? 1L : 0L);
    lmpe_libcurl.easy_setopt(t->easy, CURLOPT_OPENSOCKETFUNCTION, lmpe_curl_open_socket);
    lmpe_libcurl.easy_setopt(t->easy, CURLOPT_OPENSOCKETDATA, t);
    lmpe_libcurl.easy_setopt(t->easy, CURLOPT_CLOSESOCKETFUNCTION, on_close_socket);
    lmpe_libcurl.easy_setopt(t->easy, CURLOPT_CLOSESOCKETDATA, c);
    t->curl = c;
    CURLMcode rc = lmpe_libcurl.multi_add_handle(c->multi, t->easy);
    if (rc == CURLM_OK) {
        c->transfers++;
        return NULL;
    }
    t->curl = NULL;
    return lmpe_libcurl.multi_strerror(rc);
}

/* Takes the handle out of its multi handle and frees it, before what its options point into. */
static void
end_easy(lmpe_transfer *t, CURL *easy)
{
    struct lmpe_curl *c = t->curl;
    t->curl = NULL;
    if (c)
        lmpe_libcurl.multi_remove_handle(c->multi, easy);
    lmpe_libcurl.easy_cleanup(easy);
    if (c && --c->transfers == 0 && !c->home)
        close_multi(c);
}

void
lmpe_transfer_close(lmpe_transfer *t)
{
    CURL *easy = t->easy;
    t->easy = NULL;
    mpe_buf_free(&t->head);
    mpe_buf_free(&t->body);
    if (easy && t->S->e && (!t->curl || t->curl->owner == getpid()))
        end_easy(t, easy);
    if (t->headers)
        lmpe_libcurl.slist_free_all(t->headers);
    if (t->resolve)
        lmpe_libcurl.slist_free_all(t->resolve);
    t->headers = t->resolve = NULL;
}
