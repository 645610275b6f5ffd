/* SPDX-License-Identifier: MIT */
/* A host whose loop is poll(2): it sleeps on a descriptor of its own and on that of the engine, which
 * says when its timers are due. A pool of C functions works meanwhile. */
#include "mpengine.h"

#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

struct host {
    int written[2]; /* a pipe of the host's */
    int results, bytes, ticked;
};

static int
upper(mpe_engine *e, const void *args, size_t size, mpe_buf *result)
{
    const char *text = (const char *)args;
    (void)e;
    for (size_t i = 0; i < size; i++) {
        char c = text[i] >= 'a' && text[i] <= 'z' ? (char)(text[i] - 'a' + 'A') : text[i];
        if (mpe_buf_append(result, &c, 1) != MPE_OK)
            return 1;
    }
    return 0;
}

/* From mpe_poll: writes the result to the host's own pipe. */
static void
on_upper(mpe_engine *e, void *ud, int status, const void *result, size_t size)
{
    struct host *h = (struct host *)ud;
    (void)e;
    h->results++;
    if (status != MPE_OK || write(h->written[1], result, size) < 0)
        fprintf(stderr, "foreign_loop: %s\n", mpe_strerror(status));
}

static struct host *timer_host;
static void
on_timer(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)w, (void)status;
    timer_host->ticked = 1;
}

static int
milliseconds_until(uint64_t deadline)
{
    uint64_t now = mpe_now();
    if (deadline == MPE_FOREVER)
        return -1;
    return deadline <= now ? 0 : (int)((deadline - now + 999999) / 1000000);
}

static int
loop(mpe_engine *e, struct host *h)
{
    while (h->results < 2 || h->bytes < 10 || !h->ticked) {
        struct pollfd p[2];
        uint64_t deadline;
        char text[64];
        int rc = mpe_poll_begin(e, &p[0].fd, &deadline);
        if (rc != MPE_OK)
            return rc;
        p[1].fd = h->written[0];
        p[0].events = p[1].events = POLLIN;
        p[0].revents = p[1].revents = 0;
        if (poll(p, 2, milliseconds_until(deadline)) > 0 && p[1].revents & POLLIN)
            h->bytes += (int)read(h->written[0], text, sizeof text);
        while ((rc = mpe_poll(e)) > 0)
            ;
        if (rc < 0)
            return rc;
    }
    return MPE_OK;
}

int
main(void)
{
    static const mpe_named_function functions[] = {{"upper", upper}, {NULL, NULL}};
    struct host h;
    mpe_config config = MPE_CONFIG_INIT;
    mpe_engine *e;
    mpe_pool *pool;
    mpe_waiter timer;
    memset(&h, 0, sizeof h);
    memset(&timer, 0, sizeof timer);
    timer.fire = on_timer;
    timer_host = &h;
    config.functions = functions;
    int rc = pipe(h.written) != 0 ? MPE_ESYS : mpe_open(&config, &e);
    if (rc != MPE_OK || (rc = mpe_pool_open(e, MPE_FORK, 2, &pool)) != MPE_OK) {
        fprintf(stderr, "foreign_loop: %s\n", mpe_strerror(rc));
        return 1;
    }
    mpe_wait_timer(e, &timer, mpe_now() + MPE_NS_PER_S / 50);
    mpe_pool_submit(pool, "upper", "hello", 5, MPE_FOREVER, on_upper, &h);
    mpe_pool_submit(pool, "upper", "world", 5, MPE_FOREVER, on_upper, &h);
    rc = loop(e, &h);
    printf("%d results, %d bytes, the timer %s: %s\n", h.results, h.bytes,
           h.ticked ? "ticked" : "stood still", mpe_strerror(rc));
    mpe_pool_close(pool, MPE_NOW);
    mpe_close(e);
    close(h.written[0]);
    close(h.written[1]);
    return rc != MPE_OK;
}
