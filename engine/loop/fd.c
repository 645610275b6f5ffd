/* Waiting for descriptors. There is one poll handle per descriptor, with its readers and
 * writers. It is closed as soon as no waiter is left, since the owner of the descriptor may
 * close it then. */
#include "loop/loop.h"
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct mpe__fd {
    uv_poll_t poll; /* first: freed as a handle */
    struct mpe__fd *next;
    mpe_engine *e;
    int fd; /* a duplicate, so that a close elsewhere cannot confuse the poll set; see take_copy */
    int watched; /* the caller's descriptor */
    mpe_waitlist readers, writers;
};

static void
close_copy(struct mpe__fd *f)
{
    if (f->fd != f->watched)
        close(f->fd);
}

static void
drop(struct mpe__fd *f)
{
    struct mpe__fd **p = &f->e->loop->fds;
    while (*p != f)
        p = &(*p)->next;
    *p = f->next;
    f->e->loop->own_active--;
    uv_poll_stop(&f->poll);
    mpe__uv_drop(f->e, (uv_handle_t *)&f->poll);
    close_copy(f);
}

static void on_event(uv_poll_t *handle, int status, int events);

/* Sets the handle to the events that are waited for, or drops it. */
static void
refresh(struct mpe__fd *f)
{
    int events = (f->readers.head ? UV_READABLE | UV_DISCONNECT : 0) |
                 (f->writers.head ? UV_WRITABLE : 0);
    if (events)
        uv_poll_start(&f->poll, events, on_event);
    else
        drop(f);
}

static void
on_event(uv_poll_t *handle, int status, int events)
{
    struct mpe__fd *f = (struct mpe__fd *)handle;
    if (status < 0)
        events = UV_READABLE | UV_WRITABLE; /* let them find the error themselves */
    if (events & (UV_READABLE | UV_DISCONNECT))
        mpe_waitlist_wake(f->e, &f->readers, 1);
    if (events & UV_WRITABLE)
        mpe_waitlist_wake(f->e, &f->writers, 1);
    refresh(f);
}

/* libuv makes the descriptor non-blocking, and with it all its duplicates, also in other
 * programs (a terminal for example): this is undone at once. */
static int
init_poll(uv_loop_t *uv, struct mpe__fd *f)
{
    int flags = fcntl(f->fd, F_GETFL);
    int rc = uv_poll_init(uv, &f->poll, f->fd);
    if (flags >= 0 && !(flags & O_NONBLOCK))
        fcntl(f->fd, F_SETFL, flags);
    if (rc != 0)
        errno = -rc;
    return rc;
}

/* A duplicate to watch; the caller's own descriptor where none is left. */
static int
take_copy(struct mpe__fd *f, int fd)
{
    f->watched = fd;
    f->fd = mpe__fd_copy(fd);
    if (f->fd < 0 && (errno == EMFILE || errno == ENFILE))
        f->fd = fd;
    return f->fd;
}

static struct mpe__fd *
open_fd(mpe_engine *e, int fd)
{
    struct mpe__fd *f = calloc(1, sizeof *f);
    uv_loop_t *uv = mpe_loop(e);
    if (!f || !uv || take_copy(f, fd) < 0 || init_poll(uv, f) != 0) {
        if (f && f->fd > 0 && f->fd != fd)
            mpe__fd_close(f->fd);
        free(f);
        return NULL;
    }
    f->e = e;
    e->loop->own_active++; /* from the refresh that follows */
    f->next = e->loop->fds;
    e->loop->fds = f;
    return f;
}

/* Finds the handle that serves a descriptor. */
static struct mpe__fd *
find_fd(mpe_engine *e, int fd)
{
    struct mpe__fd *f = e->loop->fds;
    while (f && f->watched != fd)
        f = f->next;
    return f;
}

int
mpe_wait_fd(mpe_engine *e, mpe_waiter *w, int fd, int events, uint64_t deadline)
{
    struct mpe__fd *f = find_fd(e, fd);
    if (!f && !(f = open_fd(e, fd)))
        return MPE_ESYS;
    int rc = mpe_wait_list(e, w, events & MPE_WRITABLE ? &f->writers : &f->readers, deadline);
    refresh(f);
    return rc;
}

void
mpe_fd_waiter_gone(mpe_engine *e, int fd)
{
    struct mpe__fd *f = find_fd(e, fd);
    if (f)
        refresh(f);
}

void
mpe_fd_closing(mpe_engine *e, int fd)
{
    struct mpe__fd *f = find_fd(e, fd);
    if (!f)
        return;
    mpe_waitlist_wake(e, &f->readers, UINT32_MAX);
    mpe_waitlist_wake(e, &f->writers, UINT32_MAX);
    drop(f);
}

void
mpe__fds_close(mpe_engine *e)
{
    while (e->loop->fds)
        drop(e->loop->fds);
}

void
mpe__fds_forget(mpe_engine *e)
{
    for (struct mpe__fd *f = e->loop->fds; f; f = f->next)
        close_copy(f); /* the memory is the old loop's: leave it */
    e->loop->fds = NULL;
}
