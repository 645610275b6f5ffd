/* Life lines. A process that must not outlive another is bound to a pipe whose only write end
 * the other has. When that process exits, for whatever reason, the kernel closes the end and
 * signals all bound processes, whatever they are doing: SIGKILL for daemons, SIGTERM for other
 * children, which may clean up. No thread and no polling is involved. The process counts, not the
 * thread that made the child, on which PR_SET_PDEATHSIG depends; and a change of the user, which
 * clears that, keeps the line. The descriptor's owner and signal are kept per open file, so every
 * bound process opens the pipe anew.
 *
 * A process that ignores SIGTERM, or is stopped, would stay. So all but daemons open the pipe a
 * second time, for SIGCONT, which continues them. Its handler, and those of SIGTERM that call
 * mpe_bound_signal, set a timer of the kernel that kills the process GRACE_NS later. What takes
 * neither signal, because it blocks both or has other handlers, gets SIGTERM alone.
 *
 * A daemon is bound to its starter. Another child is bound to what its starter is bound to, and
 * so, along a chain of starts, to the first process or to one that is not bound itself.
 *
 * Where it cannot be opened anew, because there is no /proc, each bound child has a pipe of its
 * own, whose write end stays with its note in its starter until the child has exited; and SIGTERM
 * alone.
 *
 * Tails. Where pidfds are refused, a child keeps the write end of a pipe for as long as it
 * lives: its exit is seen at the read end, which its starter has in place of a pidfd.
 *
 * A death of the parent between the start of a child and its binding is found by a check after
 * binding. A forked child has the write end for a moment; it closes that first.
 */
#include "os/os.h"
#include "proc/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define DESCRIPTORS "/proc/self/fd"
#define GRACE_NS (5 * MPE_NS_PER_S)

static _Atomic(mpe_engine *) bound; /* this process is bound by this engine */

static void
close_both(struct mpe__proc *p)
{
    for (int i = 0; i < 2; i++)
        if (p->life[i] >= 0)
            close(p->life[i]);
    p->life[0] = p->life[1] = -1;
}

static int
is_reopenable(void)
{
    return access(DESCRIPTORS, X_OK) == 0;
}

/* ---- in the starter ---- */

/* The pipe of all children, or one of its own. */
int
mpe__life_open(mpe_engine *e, mpe_process *p, unsigned flags, struct mpe__lines *out)
{
    struct mpe__proc *own = e->proc;
    int ends[2];
    *out = (struct mpe__lines){-1, -1};
    p->is_daemon = (flags & MPE_PROCESS_DAEMON) != 0;
    if (!(flags & MPE__LINED))
        return MPE_OK;
    if (is_reopenable()) {
        if (!p->is_daemon && own->bound_fd >= 0) {
            out->life = own->bound_fd;
            return MPE_OK;
        }
        if (own->life[0] < 0 && mpe_pipe(own->life) != 0)
            return MPE_ESYS;
        out->life = own->life[0];
        return MPE_OK;
    }
    if (mpe_pipe(ends) != 0)
        return MPE_ESYS;
    out->life = ends[0];
    p->life_fd = ends[1];
    p->next_lined = own->lined;
    own->lined = p;
    return MPE_OK;
}

int
mpe__lines_open(mpe_engine *e, mpe_process *p, unsigned flags, struct mpe__lines *out)
{
    int ends[2], rc = mpe__life_open(e, p, flags, out);
    if (rc != MPE_OK || !mpe__pidfds_are_refused())
        return rc;
    if (mpe_pipe(ends) != 0) {
        mpe__lines_close(e, out);
        return MPE_ESYS;
    }
    p->end.fd = ends[0];
    out->tail = ends[1];
    return MPE_OK;
}

/* The child has its own by now, or there is no child. */
void
mpe__lines_close(mpe_engine *e, const struct mpe__lines *l)
{
    mpe__fd_close(l->tail);
    if (l->life != e->proc->life[0] && l->life != e->proc->bound_fd)
        mpe__fd_close(l->life);
}

void
mpe__life_let_go(mpe_engine *e, mpe_process *p)
{
    if (p->life_fd < 0)
        return;
    mpe_process **at = &e->proc->lined;
    while (*at != p)
        at = &(*at)->next_lined;
    *at = p->next_lined;
    mpe__fd_close(p->life_fd);
    p->life_fd = -1;
}

/* ---- in the child ---- */

/* Opened anew, or, when the pipe is for this process alone, as it is. */
static int
open_to_bind(int fd)
{
    char path[40];
    if (!is_reopenable())
        return mpe__fd_copy(fd);
    snprintf(path, sizeof path, DESCRIPTORS "/%d", fd);
    return mpe_fd_lift(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
}

static int
has_ended(int fd)
{
    struct pollfd look = {.fd = fd, .events = POLLIN};
    return fd >= 0 && poll(&look, 1, 0) > 0 && (look.revents & POLLHUP);
}

/* Has the kernel send the signal to this process when the last write end is closed. */
static int
subscribe(int fd, int number)
{
    return fd >= 0 && fcntl(fd, F_SETOWN, getpid()) == 0 && fcntl(fd, F_SETSIG, number) == 0 &&
           fcntl(fd, F_SETFL, O_NONBLOCK | O_ASYNC) == 0;
}

static void
on_continue(int number)
{
    (void)number;
    mpe_engine *e = atomic_load(&bound);
    if (e)
        mpe_bound_continued(e);
}

/* A handler of the host, inherited by a fork, stays. */
static void
handle_continue(mpe_engine *e)
{
    struct sigaction now, ours = {.sa_handler = on_continue, .sa_flags = SA_RESTART};
    atomic_store(&bound, e);
    if (sigaction(SIGCONT, NULL, &now) != 0 ||
        (now.sa_handler != SIG_DFL && now.sa_handler != SIG_IGN))
        return;
    sigfillset(&ours.sa_mask);
    sigaction(SIGCONT, &ours, NULL);
}

/* Binds the calling process to the pipe behind fd. Errors: ESYS, ESTALE (the other is gone). */
int
mpe__life_bind(mpe_engine *e, int fd, unsigned flags)
{
    struct mpe__proc *p = e->proc;
    int is_daemon = (flags & MPE_PROCESS_DAEMON) != 0;
    if (!is_daemon && is_reopenable()) {
        p->wake_fd = open_to_bind(fd);
        handle_continue(e);
        if (!subscribe(p->wake_fd, SIGCONT))
            return MPE_ESYS;
    }
    p->bound_fd = open_to_bind(fd);
    if (!subscribe(p->bound_fd, is_daemon ? SIGKILL : SIGTERM))
        return MPE_ESYS;
    return has_ended(p->bound_fd) ? MPE_ESTALE : MPE_OK;
}

/* Is it over with what this very process is bound to? The kernel signals the readers of a pipe without
 * writers again with each of them that closes it. Cleared, the descriptor has no further signal; one
 * that was made before that is pending. */
static int
take_end(mpe_engine *e, int fd)
{
    if (!has_ended(fd) || fcntl(fd, F_GETOWN) != getpid() || fcntl(fd, F_SETFL, O_NONBLOCK) != 0)
        return 0;
    if (!atomic_exchange(&e->proc->is_ending, 1))
        mpe__end_after(GRACE_NS);
    return 1;
}

void
mpe_bound_signal(mpe_engine *e)
{
    const struct timespec none = {0, 0};
    int saved = errno;
    sigset_t one;
    if (take_end(e, e->proc->bound_fd)) {
        sigemptyset(&one);
        sigaddset(&one, SIGTERM);
        while (sigtimedwait(&one, NULL, &none) == SIGTERM)
            ;
    }
    errno = saved;
}

void
mpe_bound_continued(mpe_engine *e)
{
    int saved = errno;
    take_end(e, e->proc->wake_fd);
    errno = saved;
}

/* A timer of the parent is not one of a forked child. */
static void
unbind(mpe_engine *e)
{
    mpe_engine *was = e;
    atomic_compare_exchange_strong(&bound, &was, NULL);
    atomic_store(&e->proc->is_ending, 0);
}

/* In a forked child: closes its copies of the parent's own descriptors, so that it keeps no
 * other process alive. The parent's bound end has the parent as its owner, and closing this copy
 * changes nothing there. */
void
mpe__life_forked(mpe_engine *e)
{
    struct mpe__proc *p = e->proc;
    const int fds[] = {p->bound_fd, p->wake_fd, p->tail_fd, p->status_fd, p->parent_fd, p->ask_fd};
    close_both(p);
    unbind(e);
    for (size_t i = 0; i < MPE__COUNTOF(fds); i++)
        mpe__fd_close(fds[i]);
    while (p->lined)
        mpe__life_let_go(e, p->lined);
    p->bound_fd = p->wake_fd = p->tail_fd = p->status_fd = p->parent_fd = p->ask_fd = -1;
    p->server_pid = 0;
    p->daemons = NULL;
    p->threads = 0; /* none of them is here */
}

/* Takes the lines, after the parent's own ones are closed. Errors: as for mpe__life_bind. */
int
mpe__lines_forked(mpe_engine *e, const struct mpe__lines *l, unsigned flags)
{
    if (l->life == e->proc->life[0])
        e->proc->life[0] = -1;
    else if (l->life == e->proc->bound_fd)
        e->proc->bound_fd = -1;
    mpe__life_forked(e); /* the write end is closed before anything is bound to it */
    e->proc->tail_fd = l->tail;
    int rc = l->life >= 0 ? mpe__life_bind(e, l->life, flags) : MPE_OK;
    mpe__fd_close(l->life);
    return rc;
}

void
mpe__proc_init(struct mpe__proc *p)
{
    p->life[0] = p->life[1] = p->bound_fd = p->status_fd = p->server_fd = p->ask_fd = -1;
    p->parent_fd = p->tail_fd = p->wake_fd = -1;
}

/* Closing the write end ends the processes that are bound to this engine. */
void
mpe__proc_close(mpe_engine *e)
{
    struct mpe__proc *p = e->proc;
    const int fds[] = {p->bound_fd,  p->wake_fd, p->tail_fd,  p->status_fd,
                       p->server_fd, p->ask_fd,  p->parent_fd};
    close_both(p);
    unbind(e);
    for (size_t i = 0; i < MPE__COUNTOF(fds); i++)
        mpe__fd_close(fds[i]);
}
