/* SPDX-License-Identifier: MIT
 *
 * lhttpd_loop.c - runs libmicrohttpd on the loop.
 *
 * The library has an epoll set of its own, which is watched like any descriptor; its deadline and
 * that of the connections are one timer. Both post the job, which runs the library until it has
 * nothing to do at once.
 *
 * Half of a TLS handshake is for the library always something to do. While there are no requests, the
 * daemon waits for the rest all the same: its epoll set tells it. HANDSHAKE_MS is the bound, should
 * it be wrong.
 */
#include "io/lhttpd.h"

#ifdef LMPE_MHD

#include <errno.h>
#include <signal.h>
#include <time.h>

#define FROM_JOB(j) ((lmpe_httpd *)((char *)(j)-offsetof(lmpe_httpd, job)))
#define FROM_READABLE(w) ((lmpe_httpd *)((char *)(w)-offsetof(lmpe_httpd, readable)))
#define FROM_TIMER(w) ((lmpe_httpd *)((char *)(w)-offsetof(lmpe_httpd, timer)))
#define NS_PER_MS (MPE_NS_PER_S / 1000)
#define ROUNDS 8 /* of the library, before the others run */
#define HANDSHAKE_MS 20

static void
on_readable(mpe_engine *e, mpe_waiter *w, int status)
{
    lmpe_httpd *h = FROM_READABLE(w);
    (void)status;
    h->readable_filed = 0;
    mpe_post(e, &h->job);
}

static void
on_timer(mpe_engine *e, mpe_waiter *w, int status)
{
    lmpe_httpd *h = FROM_TIMER(w);
    (void)status;
    h->timer_at = MPE_FOREVER;
    mpe_post(e, &h->job);
}

/* sendfile to a socket without a reader raises SIGPIPE. */
static void
run_without_sigpipe(lmpe_httpd *h)
{
    sigset_t pipe, before, pending;
    struct timespec now = {0, 0};
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    sigpending(&pending);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    lmpe_mhd.run(h->mhd);
    if (!sigismember(&pending, SIGPIPE))
        while (sigtimedwait(&pipe, NULL, &now) < 0 && errno == EINTR)
            ;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
}

/* Milliseconds until the library wants to be run; UINT64_MAX: only when something arrives. */
uint64_t
lmpe_httpd_run(lmpe_httpd *h)
{
    MHD_UNSIGNED_LONG_LONG ms = 0;
    h->running = 1;
    for (int i = 0; i < ROUNDS; i++) {
        if (h->files)
            run_without_sigpipe(h);
        else
            lmpe_mhd.run(h->mhd);
        if (lmpe_mhd.get_timeout(h->mhd, &ms) == MHD_NO)
            ms = UINT64_MAX;
        if (ms > 0)
            break;
    }
    h->running = 0;
    return ms;
}

static void
file_timer(lmpe_httpd *h, uint64_t ms)
{
    uint64_t at = ms == UINT64_MAX ? MPE_FOREVER : mpe_now() + (ms + 1) * NS_PER_MS;
    if (h->first_due && h->first_due->deadline < at)
        at = h->first_due->deadline;
    if (at >= h->timer_at)
        return; /* one that comes early files it again */
    mpe_wait_stop(h->S->e, &h->timer);
    h->timer_at = mpe_wait_timer_aside(h->S->e, &h->timer, at) == MPE_OK ? at : MPE_FOREVER;
}

/* The library has read its epoll set until it was empty: an edge comes with what arrives next. */
static void
file_readable(lmpe_httpd *h)
{
    if (!h->readable_filed)
        h->readable_filed = mpe_wait_fd(h->S->e, &h->readable, h->epoll, MPE_READABLE | MPE_EDGE,
                                        MPE_FOREVER) == MPE_OK;
}

static void
run(mpe_engine *e, mpe_job *job)
{
    lmpe_httpd *h = FROM_JOB(job);
    if (!h->mhd) {
        h->refs++;
        lmpe_httpd_drop(h);
        return;
    }
    uint64_t ms = lmpe_httpd_run(h);
    lmpe_connections_shut_late(h);
    if (ms == 0 && h->cert && h->active == 0)
        ms = HANDSHAKE_MS;
    if (ms == 0)
        mpe_post(e, &h->job);
    file_timer(h, ms);
    file_readable(h);
    if (h->first || h->ended || h->lingering_count)
        mpe_waitlist_wake(e, &h->takers, 1);
}

void
lmpe_httpd_ready(lmpe_httpd *h)
{
    h->job.run = run;
    h->readable.fire = on_readable;
    h->timer.fire = on_timer;
    h->timer_at = MPE_FOREVER;
}

#endif
