/* What concerns libuv: the loop is made when the first descriptor is to be watched, or is the
 * host's. While this process sleeps in it, the doorbell is a datagram socket.
 *
 * Fork: a child that stopped or closed a handle of the parent's loop would take it out of the
 * parent's epoll set, since the two share it. So the child closes the inherited descriptors with
 * plain close(2), which disturbs nobody, leaves the old loop's memory alone and makes a new one.
 */
#include "loop/loop.h"

#include "os/os.h"
#include "sync/slot.h"

#include <stdlib.h>
#include <unistd.h>

#define BLIND_NS (MPE_NS_PER_S / 20) /* between two looks for deaths while descriptors are short */

uv_loop_t *
mpe_loop(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    if (l->uv)
        return l->uv;
    uv_loop_t *uv = malloc(sizeof *uv);
    unsigned held = mpe_standard_hold();
    int rc = uv ? uv_loop_init(uv) : UV_ENOMEM;
    mpe_standard_release(held);
    if (rc != 0) {
        free(uv);
        return NULL;
    }
    l->uv = uv;
    l->uv_is_own = 1;
    return uv;
}

int
mpe__uv_alive(mpe_engine *e)
{
    return e->loop->uv && uv_loop_alive(e->loop->uv);
}

static void
on_bell(uv_poll_t *handle, int status, int events)
{
    mpe_engine *e = handle->data;
    (void)status, (void)events;
    mpe__datagram_drain(e->bell_fd);
}

static void
on_timer(uv_timer_t *timer)
{
    (void)timer; /* it only has to end the poll */
}

static int
open_bell(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    if (l->bell_ready)
        return MPE_OK;
    if (mpe__bell_socket(e) < 0 || uv_poll_init(l->uv, &l->bell, e->bell_fd) != 0)
        return MPE_ESYS;
    uv_timer_init(l->uv, &l->timer);
    l->bell.data = e;
    uv_poll_start(&l->bell, UV_READABLE, on_bell);
    uv_unref((uv_handle_t *)&l->bell);
    uv_unref((uv_handle_t *)&l->timer);
    l->bell_ready = 1;
    return MPE_OK;
}

static void
set_timer(struct mpe__loop *l, uint64_t deadline)
{
    uint64_t now = mpe_now(), ms = 0;
    if (deadline == MPE_FOREVER)
        return;
    uv_update_time(l->uv);
    if (deadline > now)
        ms = (deadline - now + 999999) / 1000000; /* never early */
    /* repeating: uv_run fires what is due before it polls, and would then poll for ever */
    uv_timer_start(&l->timer, on_timer, ms, 1);
}

void
mpe__uv_poll(mpe_engine *e, int block, uint64_t deadline)
{
    struct mpe__loop *l = e->loop;
    if (!block || open_bell(e) != MPE_OK) {
        uv_run(l->uv, UV_RUN_NOWAIT);
        return;
    }
    atomic_store(&e->self->sleep, l->entries ? MPE__IN_POLL : MPE__IN_POLL_ALONE);
    mpe__watch_peers(e); /* now: whoever attaches from here on rings */
    uint64_t limit = l->blind ? mpe_now() + BLIND_NS : MPE_FOREVER;
    set_timer(l, deadline < limit ? deadline : limit);
    int rung = atomic_load(&e->self->bell) != 0 || mpe__load32(&l->interrupted);
    uv_run(l->uv, rung ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    atomic_store(&e->self->sleep, MPE__AWAKE);
    uv_timer_stop(&l->timer);
}

void
mpe__uv_abandon(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    if (e->bell_fd >= 0)
        close(e->bell_fd);
    e->bell_fd = -1;
    if (e->spare_fd < 0) /* the parent has used its own */
        e->spare_fd = mpe__fd_copy(e->fd);
    if (!l->uv)
        return;
    mpe__fds_forget(e);
    int fds[] = {l->uv->backend_fd, l->uv->signal_pipefd[0], l->uv->signal_pipefd[1],
                 l->uv->async_io_watcher.fd, l->uv->async_wfd};
    for (size_t i = 0; i < MPE__COUNTOF(fds); i++)
        if (fds[i] > 2)
            close(fds[i]);
    for (uint32_t i = 0; i < MPE__SLOTS; i++)
        if (l->watches[i])
            close(l->watches[i]->io_watcher.fd);
}

static void
close_handle(uv_handle_t *handle, void *arg)
{
    (void)arg;
    if (!uv_is_closing(handle))
        uv_close(handle, NULL);
}

void
mpe__uv_close(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    if (l->offloaded) /* threads still use the loop */
        l->uv = NULL;
    if (l->uv) {
        mpe__watch_stop(e);
        if (l->bell_ready) {
            uv_close((uv_handle_t *)&l->bell, NULL);
            uv_close((uv_handle_t *)&l->timer, NULL);
        }
        mpe__fds_close(e);
        if (l->uv_is_own)
            uv_walk(l->uv, close_handle, NULL);
        uv_run(l->uv, l->uv_is_own ? UV_RUN_DEFAULT : UV_RUN_NOWAIT);
        if (l->uv_is_own && uv_loop_close(l->uv) == 0)
            free(l->uv);
    }
    if (e->bell_fd >= 0)
        close(e->bell_fd);
    e->bell_fd = -1;
}
