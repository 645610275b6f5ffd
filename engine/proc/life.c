/* Life lines. A process that must not outlive another is bound to a pipe whose only write end the
 * other has: when that process is gone, however it went, the kernel closes the end and sends SIGKILL
 * to all that are bound, whatever they are doing. No thread, no signal handler and no polling is
 * involved, and it is the process that counts, not the thread that made the child, which is what
 * PR_SET_PDEATHSIG looks at. The descriptor's owner and signal are kept per open file, so everybody
 * who is bound opens the pipe anew.
 *
 * Death between the start of a child and its binding is found by a look after binding. A child that
 * was forked has the write end for a moment; it closes that first.
 */
#include "proc/proc.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static void
close_both(struct mpe__proc *p)
{
    for (int i = 0; i < 2; i++)
        if (p->life[i] >= 0)
            close(p->life[i]);
    p->life[0] = p->life[1] = -1;
}

/* The end that a child of this process is given; -1 with errno. */
int
mpe__life_read_end(mpe_engine *e)
{
    struct mpe__proc *p = e->proc;
    if (p->life[0] < 0 && mpe_pipe(p->life) != 0)
        p->life[0] = p->life[1] = -1;
    return p->life[0];
}

/* Binds the calling process to the pipe behind fd. Errors: ESYS, ESTALE (the other is gone). */
int
mpe__life_bind(mpe_engine *e, int fd)
{
    char path[40];
    struct pollfd look = {.events = POLLIN};
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    look.fd = mpe_fd_lift(open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC));
    if (look.fd < 0)
        return MPE_ESYS;
    e->proc->bound_fd = look.fd;
    if (fcntl(look.fd, F_SETOWN, getpid()) != 0 || fcntl(look.fd, F_SETSIG, SIGKILL) != 0 ||
        fcntl(look.fd, F_SETFL, O_NONBLOCK | O_ASYNC) != 0)
        return MPE_ESYS;
    return poll(&look, 1, 0) > 0 && (look.revents & POLLHUP) ? MPE_ESTALE : MPE_OK;
}

/* In a forked child: what it has of its parent's own is closed, so that it keeps nobody alive. The
 * parent's bound end has the parent for its owner, and closing this copy changes nothing there. */
void
mpe__life_forked(mpe_engine *e)
{
    struct mpe__proc *p = e->proc;
    close_both(p);
    if (p->bound_fd >= 0)
        close(p->bound_fd);
    if (p->status_fd >= 0)
        close(p->status_fd);
    if (p->parent_fd >= 0)
        close(p->parent_fd);
    if (p->ask_fd >= 0)
        close(p->ask_fd);
    p->bound_fd = p->status_fd = p->parent_fd = p->ask_fd = -1;
    p->server_pid = 0;
    p->threads = 0; /* none of them is here */
}

void
mpe__proc_init(struct mpe__proc *p)
{
    p->life[0] = p->life[1] = p->bound_fd = p->status_fd = p->server_fd = p->ask_fd = -1;
    p->parent_fd = -1;
}

/* Closing the write end ends those that are bound to this engine. */
void
mpe__proc_close(mpe_engine *e)
{
    struct mpe__proc *p = e->proc;
    const int fds[] = {p->bound_fd, p->status_fd, p->server_fd, p->ask_fd, p->parent_fd};
    close_both(p);
    for (size_t i = 0; i < MPE__COUNTOF(fds); i++)
        if (fds[i] >= 0)
            close(fds[i]);
}
