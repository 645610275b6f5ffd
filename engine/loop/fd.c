/* SPDX-License-Identifier: MIT */
/* Waiting for descriptors. All that this process waits for are in one epoll set of the engine's
 * own, which is itself one handle of the libuv loop. A record per descriptor, found by its number,
 * has the readers and the writers.
 *
 * The set reports edges: each arrival once, whether or not a waiter is there. So a descriptor stays
 * in the set while it is open, and costs nothing when it is not waited for. A wait names it to the
 * kernel, which then looks at its state, and reports it again if it is ready. A caller that knows
 * better (MPE_EDGE) has found it not ready, and what arrived since is in the record: no call of the
 * kernel then.
 *
 * The kernel knows open files by number and file. When a number was closed unseen, its file leaves
 * the set with its last descriptor, and the number may stand for another file: the kernel finds that
 * when the next wait names it. So callers that use MPE_EDGE report each close. A file that lives
 * on elsewhere may report events for a number that has another by now, which wakes a waiter for
 * nothing.
 */
#include "loop/loop.h"
#include "os/os.h"
#include "core/door.h"

#include <errno.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#define EVENTS 128 /* taken from the set at once; the loop comes again for the others */
#define READS ((uint32_t)EPOLLIN | (uint32_t)EPOLLRDHUP)
#define WRITES ((uint32_t)EPOLLOUT)
#define FAILS ((uint32_t)EPOLLERR | (uint32_t)EPOLLHUP) /* always reported */
#define ENDS (FAILS | (uint32_t)EPOLLRDHUP)             /* nothing will be reported after it */

struct mpe__fd {
    int fd;
    uint32_t set;  /* events that the set reports; 0: it is not in the set */
    uint32_t came; /* of these: that no waiter was there for, since the kernel last looked */
    int told;      /* its owner reports each close: the set has the file of this number */
    int waited;    /* it counts among those that keep the loop alive */
    mpe_waitlist readers, writers;
};

/* ---- records ---- */

static struct mpe__fd *
find(const struct mpe__fds *s, int fd)
{
    return fd >= 0 && (uint32_t)fd < s->room ? s->of[fd] : NULL;
}

static int
grow(mpe_engine *e, uint32_t fd)
{
    struct mpe__fds *s = &e->loop->fds;
    uint32_t room = s->room ? s->room : 64;
    while (room <= fd)
        room *= 2;
    struct mpe__fd **of = mpe__renew(&e->memory, s->of, s->room * sizeof(struct mpe__fd *),
                                     room * sizeof(struct mpe__fd *));
    if (!of)
        return -1;
    memset(of + s->room, 0, (room - s->room) * sizeof(struct mpe__fd *));
    s->of = of;
    s->room = room;
    return 0;
}

static struct mpe__fd *
find_or_make(mpe_engine *e, int fd)
{
    struct mpe__fds *s = &e->loop->fds;
    struct mpe__fd *f = find(s, fd);
    if (f)
        return f;
    if (fd < 0) {
        errno = EBADF;
        return NULL;
    }
    if ((uint32_t)fd >= s->room && grow(e, (uint32_t)fd) != 0)
        return NULL;
    f = mpe__new_zeroed(&e->memory, sizeof *f);
    if (f)
        f->fd = fd;
    return s->of[fd] = f;
}

/* Waits keep the loop alive, registrations do not. */
static void
count(mpe_engine *e, struct mpe__fd *f)
{
    struct mpe__fds *s = &e->loop->fds;
    int waited = f->readers.head || f->writers.head;
    if (waited == f->waited)
        return;
    f->waited = waited;
    if (waited && s->waited++ == 0) {
        uv_ref((uv_handle_t *)s->poll);
        e->loop->own_active++;
    } else if (!waited && --s->waited == 0) {
        uv_unref((uv_handle_t *)s->poll);
        e->loop->own_active--;
    }
}

/* ---- the set ---- */

static int
control(struct mpe__fds *s, int op, const struct mpe__fd *f, uint32_t events)
{
    struct epoll_event event = {.events = events | (uint32_t)EPOLLET, .data.fd = f->fd};
    return epoll_ctl(s->epoll, op, f->fd, &event);
}

/* Has the kernel look at the descriptor, and report these events. The number may be that of
 * another file by now: it is added, then. */
static int
watch(struct mpe__fds *s, struct mpe__fd *f, uint32_t events)
{
    int rc = control(s, f->set ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, f, events);
    if (rc != 0 && errno == ENOENT)
        rc = control(s, EPOLL_CTL_ADD, f, events);
    else if (rc != 0 && errno == EEXIST)
        rc = control(s, EPOLL_CTL_MOD, f, events);
    f->set = rc == 0 ? events : 0;
    f->came = 0;
    return rc;
}

static uint32_t
waited_for(const struct mpe__fd *f)
{
    return (f->readers.head ? READS : 0) | (f->writers.head ? WRITES : 0);
}

/* Wakes the first waiter. It may close descriptors, this one too: NULL then. */
static struct mpe__fd *
wake_first(mpe_engine *e, int fd, int writes, int is_end)
{
    struct mpe__fd *f = find(&e->loop->fds, fd);
    if (!f)
        return NULL;
    int woken = mpe_waitlist_wake(e, writes ? &f->writers : &f->readers, 1) > 0;
    f = find(&e->loop->fds, fd);
    if (f && (!woken || is_end))
        f->came |= writes ? WRITES : READS;
    return f;
}

static void
on_fd_event(mpe_engine *e, int fd, uint32_t events)
{
    struct mpe__fd *f = NULL;
    int reads = (events & (READS | FAILS)) != 0, writes = (events & (WRITES | FAILS)) != 0;
    if (reads)
        f = wake_first(e, fd, 0, (events & ENDS) != 0);
    if (writes)
        f = wake_first(e, fd, 1, (events & FAILS) != 0);
    if (!f)
        return; /* its owner has closed it */
    if ((reads && f->readers.head) || (writes && f->writers.head))
        watch(&e->loop->fds, f, waited_for(f)); /* the first may leave something for the next */
    count(e, f);
}

static void
on_events(uv_poll_t *handle, int status, int events)
{
    mpe_engine *e = handle->data;
    struct epoll_event told[EVENTS];
    (void)status, (void)events;
    int n = epoll_wait(e->loop->fds.epoll, told, EVENTS, 0);
    for (int i = 0; i < n; i++)
        on_fd_event(e, told[i].data.fd, told[i].events);
}

/* The set, and its handle on the loop. */
static int
open_set(mpe_engine *e)
{
    struct mpe__fds *s = &e->loop->fds;
    uv_loop_t *uv = mpe_loop(e);
    if (s->poll)
        return 0;
    if (!uv || mpe__fds_prepare(e) != 0)
        return -1;
    uv_poll_t *poll = mpe__new(&e->memory, sizeof *poll);
    int rc = poll ? uv_poll_init(uv, poll, s->epoll) : UV_ENOMEM;
    if (rc != 0) {
        mpe__delete(&e->memory, poll, sizeof *poll);
        errno = -rc;
        return -1;
    }
    poll->data = e;
    uv_poll_start(poll, UV_READABLE, on_events);
    uv_unref((uv_handle_t *)poll);
    s->poll = poll;
    return 0;
}

int
mpe__fds_prepare(mpe_engine *e)
{
    struct mpe__fds *s = &e->loop->fds;
    if (s->epoll < 0)
        s->epoll = mpe_fd_lift(epoll_create1(EPOLL_CLOEXEC));
    return s->epoll < 0 ? -1 : 0;
}

/* ---- waiting ---- */

int
mpe_wait_fd(mpe_engine *e, mpe_waiter *w, int fd, int events, uint64_t deadline)
{
    if (!w)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    struct mpe__fds *s = &e->loop->fds;
    int edge = (events & MPE_EDGE) != 0, writes = (events & MPE_WRITABLE) != 0;
    uint32_t wanted = writes ? WRITES : READS;
    struct mpe__fd *f;
    if (open_set(e) != 0 || !(f = find_or_make(e, fd)))
        return mpe__failure();
    int known = edge && f->told && (f->set & wanted) == wanted && !(f->came & wanted);
    if (!known && watch(s, f, (edge ? f->set : waited_for(f)) | wanted) != 0)
        return MPE_ESYS;
    f->told = edge;
    int rc = mpe_wait_list(e, w, writes ? &f->writers : &f->readers, deadline);
    count(e, f);
    return rc;
}

void
mpe_fd_waiter_gone(mpe_engine *e, int fd)
{
    if (!mpe__is_ours(e))
        return;
    struct mpe__fd *f = find(&e->loop->fds, fd);
    if (f)
        count(e, f);
}

void
mpe_fd_closing(mpe_engine *e, int fd)
{
    if (!mpe__is_ours(e))
        return;
    struct mpe__fds *s = &e->loop->fds;
    struct mpe__fd *f = find(s, fd);
    if (!f)
        return;
    if (f->set)
        control(s, EPOLL_CTL_DEL, f, 0); /* now: other processes may keep the file open */
    s->of[fd] = NULL; /* a wait that begins in a call-back has a record of its own */
    mpe_waitlist_wake(e, &f->readers, UINT32_MAX);
    mpe_waitlist_wake(e, &f->writers, UINT32_MAX);
    count(e, f);
    mpe__delete(&e->memory, f, sizeof *f);
}

/* ---- the end ---- */

void
mpe__fds_close(mpe_engine *e)
{
    struct mpe__fds *s = &e->loop->fds;
    if (s->poll)
        mpe__uv_drop(e, s->poll);
    mpe__fd_close(s->epoll);
    for (uint32_t i = 0; i < s->room; i++)
        mpe__delete(&e->memory, s->of[i], sizeof *s->of[i]);
    mpe__delete(&e->memory, s->of, s->room * sizeof(struct mpe__fd *));
    *s = (struct mpe__fds){.epoll = -1};
}

void
mpe__fds_forget(mpe_engine *e)
{
    mpe__fd_close(e->loop->fds.epoll); /* the memory is the old loop's: leave it */
    e->loop->fds = (struct mpe__fds){.epoll = -1};
}
