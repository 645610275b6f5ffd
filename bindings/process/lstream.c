/* SPDX-License-Identifier: MIT
 *
 * lstream.c - output to stdout or stderr while the tasks that wrote it wait. Bytes are appended
 * to the stream's buffer in the order of the calls and are sent in that order: as soon as the
 * descriptor takes more, a waiter of the loop continues to write. So a task that is killed
 * leaves no half line behind. The rest at the end of the process is written then, blocking.
 *
 * The descriptor is shared with other programs, so it is not made non-blocking: poll says
 * whether it takes a piece of PIPE_BUF, which then fits. The lock of the output is held while a
 * unit is sent: the bytes that were due when the lock was acquired. Before the first byte of a
 * unit the lock is released again when nothing can be written. In the middle it is kept, so that
 * no output of other processes comes in between. A single piece written to another file than
 * stdout needs no lock: it is whole by itself. A line that is edited on the same terminal is off the
 * screen from the first byte of a text to its last.
 */
#include "process/lstream.h"

#include "process/leditor.h"
#include "task/lturn.h"

#include <errno.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OWNER 1 /* of the output lock: the process, whichever of its tasks writes */
#define BUFFER_MAX 65536u

int
lmpe_stream_append(lmpe_stream *st, const void *bytes, size_t size)
{
    return mpe_buf_append(&st->buf, bytes, size);
}

/* Exits like a program whose reader is gone. */
static void
end_by_pipe(lmpe *S)
{
    sigset_t one;
    mpe_leave(S->e);
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, SIGPIPE);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    kill(getpid(), SIGPIPE);
    _exit(128 + SIGPIPE);
}

/* ---- the lock ---- */

int
lmpe_stream_is_apart(const lmpe_stream *st)
{
    struct stat own, out;
    return st->fd != STDOUT_FILENO && fstat(st->fd, &own) == 0 && fstat(STDOUT_FILENO, &out) == 0 &&
           (own.st_dev != out.st_dev || own.st_ino != out.st_ino);
}

static int
needs_lock(const lmpe_stream *st)
{
    return st->due - st->left > PIPE_BUF || !lmpe_stream_is_apart(st);
}

static int
take_lock(lmpe_stream *st)
{
    mpe_engine *e = st->S->e;
    mpe_object *lock = mpe_output_lock(e);
    int rc = mpe_lock_acquire(e, lock, OWNER);
    if (rc == MPE_EAGAIN && mpe_spin_for(e, lock, MPE_EVENT_READY))
        rc = mpe_lock_acquire(e, lock, OWNER);
    st->wants_lock = rc == MPE_EAGAIN;
    if (st->wants_lock)
        return rc;
    st->is_locked = 1;
    st->unit = st->due;
    st->has_begun = 0;
    return MPE_OK;
}

static void
release_lock(lmpe_stream *st)
{
    if (st->is_locked)
        mpe_lock_release(st->S->e, mpe_output_lock(st->S->e));
    st->is_locked = 0;
}

/* ---- writing ---- */

static void
compact(lmpe_stream *st)
{
    if (st->left < st->buf.len && st->left < BUFFER_MAX)
        return;
    memmove(st->buf.data, st->buf.data + st->left, st->buf.len - st->left);
    st->buf.len -= st->left;
    st->due -= st->left;
    st->unit -= st->is_locked ? st->left : 0;
    st->left = 0;
    if (st->buf.len == 0)
        mpe_buf_reset(&st->buf, BUFFER_MAX);
}

/* The cursor is neither at the beginning of a line nor, by an escape code, where it was before. */
static int
ends_mid_line(const uint8_t *text, size_t size)
{
    return text[size - 1] != '\n' && !(size > 1 && memcmp(text + size - 2, "\0338", 2) == 0);
}

/* Everything due was sent, or cannot be sent. */
static int
end_writing(lmpe_stream *st, int error)
{
    if (error == EPIPE && st->fd == STDOUT_FILENO)
        end_by_pipe(st->S);
    if (st->due > 0)
        st->mid_line = ends_mid_line(st->buf.data, st->due);
    lmpe_editor_show_again(st->mid_line);
    st->left = st->due;
    st->error = error;
    release_lock(st);
    compact(st);
    errno = error;
    return error ? MPE_ESYS : MPE_OK;
}

static int
never_waits(int fd)
{
    struct stat file;
    return fstat(fd, &file) == 0 && S_ISREG(file.st_mode);
}

/* As write(2), for the bytes due; EAGAIN when it would block. */
static ssize_t
write_piece(const lmpe_stream *st)
{
    size_t size = (st->is_locked ? st->unit : st->due) - st->left;
    struct pollfd p = {.fd = st->fd, .events = POLLOUT};
    if (size > PIPE_BUF && !never_waits(st->fd))
        size = PIPE_BUF;
    if (poll(&p, 1, 0) == 0) {
        errno = EAGAIN;
        return -1;
    }
    lmpe_editor_make_room(st->fd, st->buf.data + st->left, size);
    return write(st->fd, st->buf.data + st->left, size);
}

/* Writes as long as it need not wait: MPE_OK when everything due was sent, MPE_EAGAIN, or
 * MPE_ESYS. */
static int
pump(lmpe_stream *st)
{
    while (st->left < st->due) {
        if (!st->is_locked && needs_lock(st) && take_lock(st) != MPE_OK)
            return MPE_EAGAIN;
        ssize_t n = write_piece(st);
        if (n < 0 && errno == EINTR)
            continue;
        if (n < 0 && errno == EAGAIN) {
            if (!st->has_begun)
                release_lock(st);
            compact(st);
            return MPE_EAGAIN;
        }
        if (n < 0)
            return end_writing(st, errno);
        st->left += (size_t)n;
        st->has_begun = 1;
        if (st->is_locked && st->left == st->unit)
            release_lock(st);
    }
    return end_writing(st, 0);
}

/* ---- continuing in the background ---- */

enum { NOTHING, THE_LOCK, THE_DESCRIPTOR }; /* what the waiter is filed for */

static void
stop_watching(lmpe_stream *st)
{
    mpe_engine *e = st->S->e;
    mpe_wait_stop(e, &st->waiter);
    if (st->watches == THE_DESCRIPTOR)
        mpe_fd_waiter_gone(e, st->fd);
    st->watches = NOTHING;
}

static void go_on_later(mpe_engine *e, mpe_waiter *w, int status);

static int
is_locked(mpe_engine *e)
{
    mpe_lock_state state;
    mpe_lock_state_get(e, mpe_output_lock(e), &state);
    return state.locked;
}

/* Files the waiter for the lock or the descriptor. 0: there is nothing to wait for, or it fails. */
static int
watch(lmpe_stream *st)
{
    mpe_engine *e = st->S->e;
    int rc, what = st->wants_lock ? THE_LOCK : THE_DESCRIPTOR;
    if (st->watches == what)
        return 1;
    if (st->watches != NOTHING)
        stop_watching(st);
    st->waiter.fire = go_on_later;
    if (what == THE_LOCK) {
        rc = mpe_wait_object(e, &st->waiter, mpe_output_lock(e), MPE_EVENT_READY, MPE_FOREVER);
    } else {
        mpe_wait_done(e, &st->waiter); /* of the lock */
        rc = mpe_wait_fd(e, &st->waiter, st->fd, MPE_WRITABLE, MPE_FOREVER);
    }
    st->watches = rc == MPE_OK ? what : NOTHING;
    return rc == MPE_OK && (what == THE_DESCRIPTOR || is_locked(e));
}

/* Writes what can be written now, and arranges for the rest. As pump. */
static int
go_on(lmpe_stream *st)
{
    int rc = pump(st);
    if (rc == MPE_EAGAIN && watch(st))
        return rc;
    if (rc == MPE_EAGAIN)
        return lmpe_stream_drain(st);
    stop_watching(st);
    mpe_waitlist_wake(st->S->e, &st->callers, UINT32_MAX);
    return rc;
}

static void
go_on_later(mpe_engine *e, mpe_waiter *w, int status)
{
    lmpe_stream *st = (lmpe_stream *)((char *)w - offsetof(lmpe_stream, waiter));
    (void)e, (void)status;
    st->watches = NOTHING;
    go_on(st);
}

/* ---- for the callers ---- */

int
lmpe_stream_drain(lmpe_stream *st)
{
    int error = 0;
    const uint8_t *bytes = st->buf.data + st->left;
    size_t size = st->due - st->left;
    if (size == 0)
        return MPE_OK;
    lmpe_editor_make_room(st->fd, bytes, size);
    if (mpe_write_whole(st->S->e, st->fd, bytes, size) != MPE_OK)
        error = errno;
    stop_watching(st);
    mpe_waitlist_wake(st->S->e, &st->callers, UINT32_MAX);
    return end_writing(st, error);
}

int
lmpe_stream_let_go(lua_State *L, lmpe_stream *st, lmpe_finish_fn finish)
{
    lmpe *S = st->S;
    int rc;
    st->error = 0;
    if (S->live_tasks == 0 || !lmpe_may_go_round(L, S))
        rc = lmpe_stream_drain(st);
    else
        rc = go_on(st);
    if (rc == MPE_EAGAIN && !lmpe_is_cancelled(L, S, S->current))
        return lmpe_wait(L, S, &st->callers, MPE_FOREVER, finish);
    return lmpe_did(L, S, LMPE_DID, finish(L, S, rc == MPE_EAGAIN ? MPE_OK : rc));
}

void
lmpe_stream_forked(lmpe_stream *st)
{
    st->buf.len = st->left = st->due = 0;
    st->is_locked = st->has_begun = st->wants_lock = st->watches = 0;
    memset(&st->waiter, 0, sizeof st->waiter);
    memset(&st->callers, 0, sizeof st->callers);
}
