/* Descriptors that report the exit of a process: a pidfd, or the pipe that the fork server
 * writes to. A program that starts processes and waits for them needs no more of libuv than
 * this. So while nothing else of libuv is waited for, and nothing shared whose users' deaths
 * count (watch.c), this process sleeps in a ppoll of its own on the ends and its doorbell. That
 * saves a loop with five descriptors, which every child would have to close, and libuv's fork
 * handlers. At the first wait that does need libuv the ends move to its loop, and stay there.
 *
 * An end whose descriptor cannot be opened, or for whose loop there are no descriptors, is
 * checked every MPE__ENDS_LOOK_NS. */
#include "loop/loop.h"
#include "os/os.h"
#include "core/slot.h"

#include <poll.h>

#define ENDS_MAX 8u              /* more are better served by epoll */
#define BACKSTOP_NS MPE_NS_PER_S /* between two checks when there is no descriptor for a doorbell */

static void
on_event(uv_poll_t *handle, int status, int events)
{
    struct mpe__end *end = handle->data;
    (void)status, (void)events;
    end->over(end);
}

static int
to_uv(mpe_engine *e, struct mpe__end *end, uv_loop_t *uv)
{
    uv_poll_t *poll = mpe__new(&e->memory, sizeof *poll);
    if (!poll)
        return MPE_ENOMEM;
    if (uv_poll_init(uv, poll, end->fd) != 0) {
        mpe__delete(&e->memory, poll, sizeof *poll);
        return MPE_ESYS;
    }
    poll->data = end;
    end->poll = poll;
    uv_poll_start(poll, UV_READABLE, on_event);
    e->loop->own_active++;
    return MPE_OK;
}

void
mpe__end_watch(mpe_engine *e, struct mpe__end *end)
{
    struct mpe__loop *l = e->loop;
    if (end->at)
        return;
    int polled = end->fd >= 0 && l->uv && (!l->uv_is_own || uv_loop_alive(l->uv));
    if (!polled || to_uv(e, end, l->uv) != MPE_OK) { /* a later sleep tries it again */
        mpe__has_work(e);
        l->ends_apart++;
        l->ends_blind += end->fd < 0;
    }
    end->next = l->ends;
    end->at = &l->ends;
    if (end->next)
        end->next->at = &end->next;
    l->ends = end;
}

void
mpe__end_unwatch(mpe_engine *e, struct mpe__end *end)
{
    if (!end->at)
        return;
    *end->at = end->next;
    if (end->next)
        end->next->at = end->at;
    end->at = NULL;
    if (end->poll) {
        e->loop->own_active--;
        uv_poll_stop(end->poll);
        mpe__uv_drop(e, end->poll);
        end->poll = NULL;
    } else {
        e->loop->ends_apart--;
        e->loop->ends_blind -= end->fd < 0;
    }
}

int
mpe__ends_alone(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    return l->ends_apart > 0 && l->entries == 0 && l->ends_apart <= ENDS_MAX && !mpe__uv_alive(e);
}

int
mpe__ends_settle(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    if (l->ends_apart == 0)
        return 0;
    if (mpe__ends_alone(e))
        return l->ends_blind > 0;
    mpe__ends_to_uv(e);
    return l->ends_apart > 0;
}

int
mpe__ends_to_uv(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    uv_loop_t *uv = l->ends_apart > l->ends_blind ? mpe_loop(e) : l->uv;
    if (l->ends_apart > l->ends_blind && !uv)
        return mpe__failure();
    for (struct mpe__end *end = l->ends; l->ends_apart > l->ends_blind; end = end->next) {
        if (end->poll || end->fd < 0)
            continue;
        int rc = to_uv(e, end, uv);
        if (rc != MPE_OK)
            return rc;
        l->ends_apart--;
    }
    return MPE_OK;
}

static int
poll_until(struct pollfd *fds, nfds_t n, uint64_t deadline)
{
    if (deadline == MPE_FOREVER)
        return ppoll(fds, n, NULL, NULL);
    uint64_t now = mpe_now(), left = deadline > now ? deadline - now : 0;
    struct timespec t = {(time_t)(left / MPE_NS_PER_S), (long)(left % MPE_NS_PER_S)};
    return ppoll(fds, n, &t, NULL);
}

/* Starts again after each end that has occurred: its callback may take others off the list. */
/* The callback of an end may have freed it, and the process that it is part of. */
static int
is_listed(const struct mpe__loop *l, const struct mpe__end *end)
{
    const struct mpe__end *at = l->ends;
    while (at && at != end)
        at = at->next;
    return at != NULL;
}

void
mpe__ends_look(mpe_engine *e)
{
    struct mpe__end *end = e->loop->ends;
    while (end) {
        if (!end->poll)
            end->over(end);
        end = is_listed(e->loop, end) ? end->next : e->loop->ends;
    }
}

/* The first that has occurred, since its callback may take others off the list. All are apart. */
static void
tell_one(mpe_engine *e, const struct pollfd *fds)
{
    for (struct mpe__end *end = e->loop->ends; end; end = end->next) {
        if ((fds++)->revents == 0)
            continue;
        end->over(end);
        return;
    }
}

void
mpe__ends_sleep(mpe_engine *e, uint64_t deadline)
{
    struct pollfd fds[ENDS_MAX + 1];
    nfds_t n = 1;
    fds[0] = (struct pollfd){.fd = mpe__bell_socket(e), .events = POLLIN};
    for (struct mpe__end *end = e->loop->ends; end; end = end->next)
        fds[n++] = (struct pollfd){.fd = end->fd, .events = POLLIN};
    if (fds[0].fd < 0 && deadline > mpe_now() + BACKSTOP_NS)
        deadline = mpe_now() + BACKSTOP_NS;
    atomic_store(&e->self->sleep, MPE__IN_POLL_ALONE);
    if (atomic_load(&e->self->bell) != 0 || mpe__load32(&e->loop->interrupted))
        deadline = MPE_NOW;
    int ready = poll_until(fds, n, deadline);
    atomic_store(&e->self->sleep, MPE__AWAKE);
    if (ready <= 0)
        return;
    if (fds[0].revents)
        mpe__datagram_drain(fds[0].fd);
    tell_one(e, fds + 1);
}
