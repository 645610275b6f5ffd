/* Everything that concerns libuv. The loop is made when the first descriptor is to be watched,
 * or is the host's. While this process sleeps in it, the doorbell is a datagram socket.
 *
 * libuv calls timers, idle and prepare handles in the same turn in which it then polls. Any of
 * these callbacks may post a job, end what is waited for, file a wait of its own, or even sleep
 * in this loop. So before the poll blocks, a prepare handle of the engine checks last whether
 * everything is still as it was when this process went to sleep. libuv calls prepare handles
 * from the one started last to the one started first: ours is the first on each loop.
 *
 * Fork: a child that stopped or closed a handle of the parent's loop would take it out of the
 * parent's epoll set, since the two share it. So the child closes the inherited descriptors with
 * plain close(2), which affects no other process, leaves the old loop's memory alone and makes a
 * new one.
 */
#include "loop/loop.h"

#include "os/os.h"
#include "core/slot.h"
#include "core/door.h"

#include <errno.h>
#include <unistd.h>

#define UV_DESCRIPTORS 7             /* that a loop, libuv itself and the set of fd.c start with */
#define BLIND_NS (MPE_NS_PER_S / 20) /* between two checks for deaths while descriptors are short */

static uint32_t
where_to_sleep(const struct mpe__loop *l)
{
    return l->entries ? MPE__IN_POLL : MPE__IN_POLL_ALONE;
}

static int
must_wake(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    mpe_waiter *first = mpe__heap_first(&l->timers);
    return l->jobs_head || *l->awaited || l->due || mpe__bell_rung(e) ||
           atomic_load(&e->self->sleep) != where_to_sleep(l) ||
           (first && first->deadline < l->poll_deadline);
}

static void
on_before_poll(uv_prepare_t *handle)
{
    mpe_engine *e = handle->data;
    if (!mpe__is_ours(e)) { /* a child that runs the loop of its host */
        if (e->loop->is_served)
            uv_unref((uv_handle_t *)&e->loop->after_poll);
        return;
    }
    if (!e->loop->awaited) {
        mpe__serve_before_poll(e);
        return;
    }
    mpe__tell_turn(e);
    if (must_wake(e))
        uv_stop(handle->loop); /* ends this turn, and the poll in it does not block */
}

static void
start_again(uv_handle_t *handle, void *ours)
{
    uv_prepare_t *prepare = (uv_prepare_t *)handle;
    if (handle == ours || uv_handle_get_type(handle) != UV_PREPARE || !uv_is_active(handle))
        return;
    uv_prepare_stop(prepare);
    uv_prepare_start(prepare, prepare->prepare_cb);
}

void
mpe__uv_begin(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    uv_prepare_init(l->uv, &l->before_poll);
    l->before_poll.data = e;
    uv_prepare_start(&l->before_poll, on_before_poll);
    uv_unref((uv_handle_t *)&l->before_poll);
    uv_walk(l->uv, start_again, &l->before_poll); /* those that the host has started before */
    mpe__fds_prepare(e);
    if (l->is_served)
        mpe__serve_begin(e);
}

uv_loop_t *
mpe_loop(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return NULL;
    struct mpe__loop *l = e->loop;
    if (l->uv)
        return l->uv;
    if (mpe__fd_room(e->fd, UV_DESCRIPTORS) != 0) /* libuv aborts without the descriptors of its
                                                   * signals */
        return NULL;
    uv_loop_t *uv = mpe__new(&e->memory, sizeof *uv);
    unsigned held = mpe_standard_hold();
    int rc = uv ? uv_loop_init(uv) : UV_ENOMEM;
    mpe_standard_release(held);
    if (rc != 0) {
        mpe__delete(&e->memory, uv, sizeof *uv);
        errno = -rc;
        return NULL;
    }
    l->uv = uv;
    l->uv_is_own = 1;
    mpe__uv_begin(e);
    return uv;
}

int
mpe__uv_alive(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    if (!l->keeps_loop)
        return l->uv && uv_loop_alive(l->uv);
    uv_unref((uv_handle_t *)&l->after_poll);
    int alive = uv_loop_alive(l->uv);
    uv_ref((uv_handle_t *)&l->after_poll);
    return alive;
}

static void
on_bell(uv_poll_t *handle, int status, int events)
{
    mpe_engine *e = handle->data;
    (void)status, (void)events;
    if (mpe__is_ours(e))
        mpe__datagram_drain(e->bell_fd);
}

static void
on_timer(uv_timer_t *timer)
{
    mpe_engine *e = timer->data;
    e->loop->due = 1;
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
    l->bell.data = l->timer.data = e;
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
    l->due = 0;
    l->poll_deadline = deadline;
    if (deadline == MPE_FOREVER)
        return;
    uv_update_time(l->uv);
    if (deadline > now)
        ms = (deadline - now + 999999) / 1000000; /* never early */
    uv_timer_start(&l->timer, on_timer, ms, 0);
}

void
mpe__uv_turn(mpe_engine *e)
{
    e->loop->turning++;
    uv_run(e->loop->uv, UV_RUN_NOWAIT);
    e->loop->turning--;
    mpe__tell_turn(e);
}

/* libuv tells the kernel of new descriptors only in a turn, and makes none without a handle that
 * keeps the loop alive: the bell does for this one. */
void
mpe__uv_turn_always(mpe_engine *e)
{
    uv_ref((uv_handle_t *)&e->loop->bell);
    mpe__uv_turn(e);
    uv_unref((uv_handle_t *)&e->loop->bell);
}

int
mpe__uv_arm(mpe_engine *e)
{
    if (open_bell(e) != MPE_OK)
        return MPE_ESYS;
    mpe__ends_to_uv(e);
    atomic_store(&e->self->sleep, where_to_sleep(e->loop));
    mpe__watch_peers(e); /* now: a process that attaches from here on rings */
    return MPE_OK;
}

uint64_t
mpe__uv_look_by(mpe_engine *e)
{
    return e->loop->blind || e->loop->ends_apart ? mpe_now() + BLIND_NS : MPE_FOREVER;
}

void
mpe__uv_wake_at(mpe_engine *e, uint64_t deadline)
{
    set_timer(e->loop, deadline);
}

void
mpe__uv_passed(mpe_engine *e)
{
    if (e->loop->uv)
        uv_update_time(e->loop->uv);
}

void
mpe__uv_sleep(mpe_engine *e, uint64_t deadline, const int *done)
{
    struct mpe__loop *l = e->loop;
    const int *outer = l->awaited; /* of a callback that sleeps here in its turn */
    if (open_bell(e) != MPE_OK) {
        mpe__uv_turn(e);
        return;
    }
    atomic_store(&e->self->sleep, where_to_sleep(l));
    mpe__watch_peers(e); /* now: a process that attaches from here on rings */
    uint64_t limit = l->blind ? mpe_now() + BLIND_NS : MPE_FOREVER;
    set_timer(l, deadline < limit ? deadline : limit);
    l->awaited = done;
    uv_run(l->uv, mpe__bell_rung(e) ? UV_RUN_NOWAIT : UV_RUN_ONCE);
    l->awaited = outer;
    atomic_store(&e->self->sleep, MPE__AWAKE);
    uv_timer_stop(&l->timer);
    mpe__tell_turn(e);
}

/* ---- what is on the loop ---- */

void
mpe__uv_closed(mpe_engine *e)
{
    if (--e->loop->own_closing == 0 && e->loop->is_forgotten)
        mpe__engine_release(e);
}

static void
on_closed(uv_handle_t *handle)
{
    mpe_engine *e = handle->data;
    mpe__delete(&e->memory, handle, sizeof(uv_poll_t));
    mpe__uv_closed(e);
}

void
mpe__uv_drop(mpe_engine *e, uv_poll_t *handle)
{
    handle->data = e;
    e->loop->own_closing++;
    uv_close((uv_handle_t *)handle, on_closed);
}

uint64_t
mpe_loop_others(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return 0;
    struct mpe__loop *l = e->loop;
    uint64_t closing = 0;
    if (!l->uv)
        return 0;
    for (uv_handle_t *h = l->uv->closing_handles; h; h = h->next_closing)
        closing++;
    return l->uv->active_handles - l->own_active + l->uv->active_reqs.count + closing -
           l->own_closing;
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
    if (l->uv) {
        mpe__watch_stop(e);
        uv_close((uv_handle_t *)&l->before_poll, NULL);
        mpe__serve_end(e);
        if (l->bell_ready) {
            uv_close((uv_handle_t *)&l->bell, NULL);
            uv_close((uv_handle_t *)&l->timer, NULL);
        }
        mpe__fds_close(e);
        if (l->uv_is_own)
            uv_walk(l->uv, close_handle, NULL);
        uv_run(l->uv, l->uv_is_own ? UV_RUN_DEFAULT : UV_RUN_NOWAIT);
        if (l->uv_is_own && uv_loop_close(l->uv) == 0)
            mpe__delete(&e->memory, l->uv, sizeof *l->uv);
    }
}
