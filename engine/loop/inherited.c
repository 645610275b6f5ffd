/* SPDX-License-Identifier: MIT */
/* Freeing the loop of an engine that a child has inherited by fork(2). The epoll sets are shared
 * with the parent: taking a descriptor out of one would take it from the parent. So a loop of the
 * engine's own is first made anew by uv_loop_fork. A host decides about its own loop itself; there
 * libuv is kept from its set while the engine's handles are closed. Their memory is in use until
 * the host runs that loop, which frees the engine with the last of them.
 */
#include "loop/loop.h"
#include "os/os.h"

static void
on_closed(uv_handle_t *handle)
{
    mpe_engine *e = handle->data;
    mpe__uv_closed(e);
}

static void
close_own(mpe_engine *e, uv_handle_t *handle)
{
    handle->data = e;
    e->loop->own_closing++;
    uv_close(handle, on_closed);
}

static void
leave_host_loop(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    int set = l->uv->backend_fd;
    l->uv->backend_fd = -1;
    mpe__watch_stop(e);
    for (struct mpe__end *end = l->ends; end; end = end->next)
        if (end->poll)
            mpe__uv_drop(e, end->poll);
    close_own(e, (uv_handle_t *)&l->before_poll);
    if (l->bell_ready) {
        close_own(e, (uv_handle_t *)&l->bell);
        close_own(e, (uv_handle_t *)&l->timer);
    }
    if (l->is_served) {
        close_own(e, (uv_handle_t *)&l->after_poll);
        close_own(e, (uv_handle_t *)&l->again);
    }
    mpe__fds_close(e);
    l->uv->backend_fd = set;
}

static int
make_anew(uv_loop_t *uv)
{
    unsigned held = mpe_standard_hold();
    int rc = uv_loop_fork(uv);
    mpe_standard_release(held);
    return rc;
}

int
mpe__loop_forget(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    mpe__send_forget(e);
    if (l->uv && l->uv_is_own && make_anew(l->uv) != 0) {
        mpe__uv_abandon(e); /* no descriptors: its memory stays */
        l->uv = NULL;
    }
    if (!l->uv || l->uv_is_own) {
        mpe__loop_close(e);
        return 0;
    }
    leave_host_loop(e);
    l->is_forgotten = 1;
    mpe__loop_free(e);
    mpe__fd_close(e->bell_fd);
    e->bell_fd = -1;
    return 1;
}
