/* Children, from the parent's side: waiting, signals, exit codes. fork.c, spawn.c and server.c
 * start them. A child's exit is seen by its pidfd in the loop, or, when the fork server is its
 * parent, by the pipe through which the server reports the exit code.
 *
 * A child takes a slot that its parent has reserved. Death of the parent between reserving and
 * starting: its reaper frees the slot. Death of the child before it has its slot: the parent
 * frees the slot when it has reaped the child, or any process that needs a slot frees it
 * earlier.
 */
#include "loop/loop.h"
#include "os/os.h"
#include "proc/proc.h"
#include "core/death.h"
#include "core/slot.h"
#include "core/door.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define WORD_DUE_MS 50
#define LOOK_NS (MPE_NS_PER_S / 20)

static mpe_process *
new_note(mpe_engine *e)
{
    for (uint32_t i = 0; i < MPE__NEAR_NOTES; i++) {
        mpe_process *p = &e->proc->near_notes[i];
        if (p->e)
            continue;
        memset(p, 0, sizeof *p);
        return p;
    }
    return mpe__new_zeroed(&e->memory, sizeof(mpe_process));
}

static void
leave_daemons(mpe_process *p)
{
    mpe_process **at = &p->e->proc->daemons;
    while (*at && *at != p)
        at = &(*at)->next_daemon;
    if (*at)
        *at = p->next_daemon;
}

static void
free_note(mpe_engine *e, mpe_process *p)
{
    if (p >= e->proc->near_notes && p < e->proc->near_notes + MPE__NEAR_NOTES)
        p->e = NULL;
    else
        mpe__delete(&e->memory, p, sizeof *p);
}

int
mpe__process_new(mpe_engine *e, const char *name, mpe_process **out)
{
    uint32_t slot;
    int rc = mpe__slot_reserve(e, name, &slot);
    if (rc != MPE_OK)
        return rc;
    mpe_process *p = new_note(e);
    if (!p) {
        mpe__slot_unreserve(e, slot, mpe__load32(&e->slots[slot].generation));
        return MPE_ENOMEM;
    }
    p->slot = slot;
    p->generation = mpe__load32(&e->slots[p->slot].generation);
    p->e = e;
    p->end.fd = p->life_fd = -1;
    *out = p;
    return MPE_OK;
}

void
mpe__process_forget(mpe_engine *e, mpe_process *p)
{
    free_note(e, p);
}

void
mpe__process_unmake(mpe_engine *e, mpe_process *p)
{
    int saved = errno;
    mpe__slot_unreserve(e, p->slot, p->generation);
    mpe__life_let_go(e, p);
    mpe__fd_close(p->end.fd);
    free_note(e, p);
    errno = saved;
}

void
mpe__process_started(mpe_process *p, pid_t pid)
{
    p->pid = pid;
    p->owner = getpid();
    if (p->is_daemon && !p->served) {
        p->next_daemon = p->e->proc->daemons;
        p->e->proc->daemons = p;
    }
    mpe__slot_started(p->e, p->slot, p->generation, pid);
}

int
mpe_process_pid(const mpe_process *p)
{
    return p ? (int)p->pid : MPE_EINVAL;
}

int
mpe_process_is_mine(const mpe_process *p)
{
    return p && p->owner == getpid();
}

static void
stop_watching(mpe_process *p)
{
    mpe__end_unwatch(p->e, &p->end);
    if (p->end.fd >= 0)
        close(p->end.fd);
    p->end.fd = -1;
}

static int
note_end(mpe_process *p, int code)
{
    p->ended = 1;
    p->code = code;
    p->e->loop->quiet = 0;
    stop_watching(p);
    mpe__life_let_go(p->e, p);
    leave_daemons(p);
    mpe__slot_unreserve(p->e, p->slot, p->generation);
    if (mpe__is_dead(&p->e->slots[p->slot]))
        mpe__reap(p->e, p->slot);
    return MPE_OK;
}

/* Each of them may free the process, and start another one in its place. */
static void
tell_waiters(mpe_engine *e, mpe_process *p)
{
    mpe_waitlist told = {NULL, NULL};
    while (p->waiters.head) {
        mpe_waiter *w = p->waiters.head;
        mpe__waitlist_remove(w);
        mpe__waitlist_append(&told, w);
    }
    mpe_waitlist_wake(e, &told, UINT32_MAX);
}

static int
poll_own(mpe_process *p)
{
    int status;
    pid_t rc = waitpid(p->pid, &status, WNOHANG);
    if (rc == 0 || (rc < 0 && errno == EINTR))
        return MPE_EAGAIN;
    if (rc < 0) {
        p->is_lost = 1;
        return note_end(p, MPE_EXIT_LOST);
    }
    return note_end(p, WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
}

/* Has the child left its slot? Then the server's report is due, and worth a moment. */
static int
ends_now(const mpe_process *p)
{
    struct mpe__slot *s = &p->e->slots[p->slot];
    struct pollfd fd = {.fd = p->end.fd, .events = POLLIN};
    if (mpe__load32(&s->generation) == p->generation && !mpe__is_dead(s))
        return 0;
    return poll(&fd, 1, WORD_DUE_MS) > 0;
}

/* The server's report counts. Without a server, the end of the pipe shows that the child is
 * gone, and the child's own last report how; a child without a report was killed. */
static int
poll_served(mpe_process *p)
{
    struct mpe__status s;
    for (;;) {
        ssize_t n = read(p->end.fd, &s, sizeof s);
        if (n == (ssize_t)sizeof s && s.kind == MPE__STATUS_ENDING)
            p->code = s.value;
        else if (n == (ssize_t)sizeof s && s.kind == MPE__STATUS_ENDED)
            return note_end(p, s.value);
        else if (n == 0)
            return note_end(p, p->code);
        else if (n < 0 && errno != EINTR && !ends_now(p))
            return MPE_EAGAIN;
    }
}

int
mpe_process_poll(mpe_engine *e, mpe_process *p, int *code)
{
    if (!p)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    (void)e;
    if (!p->ended && !mpe_process_is_mine(p)) /* its watch is on the loop of another process */
        return MPE_EPERM;
    int rc = p->ended ? MPE_OK : p->served ? poll_served(p) : poll_own(p);
    if (rc != MPE_OK)
        return rc;
    if (p->is_lost)
        rc = MPE_ESTALE;
    else if (code)
        *code = p->code;
    tell_waiters(e, p);
    return rc;
}

/* OK: look again. */
static int
outcome(int ready, int error, int looks_again)
{
    if (ready > 0 || (ready == 0 && looks_again))
        return MPE_OK;
    return ready == 0 ? MPE_ETIMEDOUT : error == EINTR ? MPE_EINTR : MPE_ESYS;
}

/* Sleeps until it may have exited. When no descriptor is left, waitpid, which has no timeout,
 * needs none. Errors: EINTR, ETIMEDOUT, ESYS. */
static int
sleep_on(mpe_process *p, uint64_t deadline)
{
    uint64_t now = mpe_now();
    struct pollfd fd = {.fd = p->end.fd >= 0 ? p->end.fd : mpe__pidfd_open(p->pid),
                        .events = POLLIN};
    if (fd.fd < 0 && deadline == MPE_FOREVER) {
        siginfo_t info;
        return waitid(P_PID, (id_t)p->pid, &info, WEXITED | WNOWAIT) != 0 && errno == EINTR
                   ? MPE_EINTR
                   : MPE_OK; /* ECHILD: the status is lost, which the next look finds */
    }
    uint64_t left = deadline > now ? deadline - now : 0;
    int looks_again = fd.fd < 0 && left > LOOK_NS;
    left = looks_again ? LOOK_NS : left;
    struct timespec ts = {(time_t)(left / MPE_NS_PER_S), (long)(left % MPE_NS_PER_S)};
    int ready = ppoll(&fd, fd.fd >= 0, deadline == MPE_FOREVER ? NULL : &ts, NULL), error = errno;
    if (p->end.fd < 0)
        mpe__fd_close(fd.fd);
    errno = error;
    return outcome(ready, error, looks_again);
}

int
mpe_process_join(mpe_engine *e, mpe_process *p, uint64_t deadline, int *code)
{
    if (!p)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    for (;;) {
        int rc = mpe_process_poll(e, p, code);
        if (rc != MPE_EAGAIN)
            return rc;
        if ((rc = sleep_on(p, deadline)) ==
            MPE_ETIMEDOUT) { /* without a descriptor it saw nothing */
            rc = mpe_process_poll(e, p, code);
            return rc == MPE_EAGAIN ? MPE_ETIMEDOUT : rc;
        }
        if (rc != MPE_OK)
            return rc;
    }
}

static void
on_over(struct mpe__end *end)
{
    mpe_process *p = MPE__CONTAINER(end, struct mpe_process, end);
    int code;
    mpe_process_poll(p->e, p, &code);
}

static void
start_watching(mpe_process *p)
{
    if (!p->end.at && p->end.fd < 0)
        p->end.fd = mpe__pidfd_open(p->pid); /* otherwise it is checked */
    p->end.over = on_over;
    p->end.slot = p->slot;
    p->end.generation = p->generation;
    mpe__end_watch(p->e, &p->end);
}

int
mpe_process_wait(mpe_engine *e, mpe_process *p, mpe_waiter *w, uint64_t deadline)
{
    if (!p || !w)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    if (!p->ended && !mpe_process_is_mine(p))
        return MPE_EPERM;
    if (p->ended)
        return mpe_wait_timer(e, w, mpe_now());
    start_watching(p);
    return mpe_wait_list(e, w, &p->waiters, deadline);
}

/* Through the pipe, for a child that the fork server has started; the server must not get our
 * signals. */
int
mpe_process_tell(mpe_engine *e, mpe_process *p, int sig)
{
    if (!p)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    struct f_owner_ex owner = {F_OWNER_TID, gettid()};
    struct pollfd fd = {.fd = p->end.fd, .events = POLLIN};
    (void)e;
    if (!p->served || p->ended)
        return MPE_OK;
    if (fcntl(fd.fd, F_SETSIG, sig) != 0 || fcntl(fd.fd, F_SETOWN_EX, &owner) != 0 ||
        fcntl(fd.fd, F_SETFL, fcntl(fd.fd, F_GETFL) | O_ASYNC) != 0)
        return MPE_ESYS;
    if (poll(&fd, 1, 0) > 0) /* data that arrived before */
        raise(sig);
    return MPE_OK;
}

int
mpe_process_signal(mpe_engine *e, mpe_process *p, int sig)
{
    if (!p)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    (void)e;
    if (p->ended || kill(p->pid, sig) == 0 || errno == ESRCH)
        return MPE_OK;
    return MPE_ESYS;
}

/* A daemon is reaped by mpe_close at the latest, so its note stays until it has ended. */
static void
free_ended_daemons(mpe_engine *e)
{
    for (mpe_process *p = e->proc->daemons, *next; p; p = next) {
        next = p->next_daemon;
        if (p->is_freed && poll_own(p) == MPE_OK)
            free_note(e, p);
    }
}

void
mpe__daemons_end(mpe_engine *e)
{
    for (mpe_process *p = e->proc->daemons, *next; p; p = next) {
        next = p->next_daemon;
        if (waitpid(p->pid, NULL, WNOHANG) == 0) { /* so the number is still its */
            kill(p->pid, SIGKILL);
            while (waitpid(p->pid, NULL, 0) < 0 && errno == EINTR)
                ;
        }
        mpe__life_let_go(e, p);
        mpe__fd_close(p->end.fd); /* its watch has ended with the loop */
        free_note(e, p);
    }
    e->proc->daemons = NULL;
}

void
mpe_process_free(mpe_engine *e, mpe_process *p)
{
    if (!p || !mpe__is_ours(e))
        return;
    if (mpe_process_is_mine(p))
        stop_watching(p);
    else if (p->end.fd >= 0)
        close(p->end.fd);
    p->is_freed = p->is_daemon && !p->served && !p->ended && mpe_process_is_mine(p);
    if (p->is_freed)
        free_ended_daemons(e);
    else
        free_note(e, p);
}
