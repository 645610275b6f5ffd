/* SPDX-License-Identifier: MIT
 *
 * lcurl_idle.c - closing idle connections.
 *
 * libcurl closes idle connections only when it makes another one, so this file makes that
 * happen. A timer aside adds a transfer that gets no socket (the sweeper), and while libcurl
 * handles it, it drops all connections that are too old or that the peer has closed.
 */
#include "io/lcurl_int.h"

#define SLACK_NS (MPE_NS_PER_S / 100) /* libcurl's clock may be a little behind */

#define FROM_IDLE(w) ((struct lmpe_curl *)((char *)(w)-offsetof(struct lmpe_curl, idle)))

void
lmpe_curl_on_idle(mpe_engine *e, mpe_waiter *w, int status)
{
    struct lmpe_curl *c = FROM_IDLE(w);
    (void)status;
    c->idle_filed = 0;
    c->idle_due = 1;
    mpe_post(e, &c->job);
}

static void
file_idle(struct lmpe_curl *c, uint64_t when)
{
    if (!c->idle_filed)
        c->idle_filed = mpe_wait_timer_aside(c->S->e, &c->idle, when) == MPE_OK;
}

void
lmpe_curl_set_idle(struct lmpe_curl *c, int fd, uint64_t since)
{
    struct descriptor *d = c->descriptors;
    while (d && d->fd != fd)
        d = d->next;
    if (!d)
        return;
    d->idle_since = since;
    if (since)
        file_idle(c, since + c->idle_ns + SLACK_NS);
}

void
lmpe_curl_end_sweep(struct lmpe_curl *c)
{
    if (!c->sweeper)
        return;
    lmpe_libcurl.multi_remove_handle(c->multi, c->sweeper);
    lmpe_libcurl.easy_cleanup(c->sweeper);
    c->sweeper = NULL;
}

long
lmpe_curl_oldest(uint64_t idle_ns)
{
    long seconds = (long)((idle_ns + MPE_NS_PER_S - 1) / MPE_NS_PER_S);
    return seconds > 1 ? seconds - 1 : 1;
}

/* Makes libcurl look for a connection in vain. */
static void
begin_sweep(struct lmpe_curl *c)
{
    CURL *easy = c->sweeper = lmpe_libcurl.easy_init();
    if (!easy)
        return;
    lmpe_libcurl.easy_setopt(easy, CURLOPT_URL, "http://127.0.0.1:1/");
    lmpe_libcurl.easy_setopt(easy, CURLOPT_PROXY, "");
    lmpe_libcurl.easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    lmpe_libcurl.easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
    lmpe_libcurl.easy_setopt(easy, CURLOPT_MAXAGE_CONN, lmpe_curl_oldest(c->idle_ns));
    lmpe_libcurl.easy_setopt(easy, CURLOPT_OPENSOCKETFUNCTION, lmpe_curl_open_socket);
    lmpe_libcurl.easy_setopt(easy, CURLOPT_OPENSOCKETDATA, NULL);
    if (lmpe_libcurl.multi_add_handle(c->multi, easy) != CURLM_OK) {
        lmpe_libcurl.easy_cleanup(easy);
        c->sweeper = NULL;
    }
}

void
lmpe_curl_look_for_idle(struct lmpe_curl *c, uint64_t not_before)
{
    uint64_t first = MPE_FOREVER, now = mpe_now();
    lmpe_curl_forget_closed(c);
    for (struct descriptor *d = c->descriptors; d; d = d->next)
        if (d->idle_since && d->idle_since + c->idle_ns + SLACK_NS < first)
            first = d->idle_since + c->idle_ns + SLACK_NS;
    if (first == MPE_FOREVER || c->sweeper)
        return;
    first = first > not_before ? first : not_before;
    if (first > now)
        file_idle(c, first);
    else
        begin_sweep(c);
}
