/* Processes. A child takes a slot that its parent has reserved and marked as a holder of all the
 * parent holds, so nothing that the child knows can vanish before it runs. Its end is seen by its
 * pidfd in the loop; the exit status is known to the parent alone.
 *
 * Death of the parent between reserving and forking: its reaper frees the slot. Between fork and
 * the child's first step: child and reaper race for the slot's life mutex; a child that
 * loses reports ESTALE. Death of the child before it has its slot: the parent frees it when it has
 * waited for the child.
 */
#include "loop/loop.h"
#include "os/os.h"
#include "shm/object.h"
#include "sync/death.h"
#include "sync/slot.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

struct mpe_process {
    mpe_engine *e;
    pid_t pid;
    pid_t owner;         /* pid of the process whose child it is */
    uint32_t slot, generation;
    int ended, code;
    int pidfd;           /* -1: not watched */
    uv_poll_t *poll;
    mpe_waitlist waiters;
};

/* ---- in the child ---- */

static int
start_child(mpe_engine *e, uint32_t slot, uint32_t generation, unsigned flags)
{
    pid_t parent = (pid_t)mpe__load32(&e->self->pid);
    snprintf(e->parent_name, sizeof e->parent_name, "%s", e->self->name);
    e->parent_pid = parent;
    if (flags & MPE_PROCESS_DAEMON) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) /* it died before the line above */
            return MPE_ESTALE;
    }
    int rc = mpe__slot_take_reserved(e, slot, generation);
    return rc == MPE_OK ? mpe__loop_abandon(e) : rc;
}

/* ---- in the parent ---- */

int
mpe_process_fork(mpe_engine *e, const char *name, unsigned flags, mpe_process **out, int *is_child)
{
    mpe_process *p = calloc(1, sizeof *p);
    *is_child = 0;
    if (!p)
        return MPE_ENOMEM;
    int rc = mpe__slot_reserve(e, name, &p->slot);
    if (rc != MPE_OK) {
        free(p);
        return rc;
    }
    p->generation = mpe__load32(&e->slots[p->slot].generation);
    mpe__holds_copy_bits(e, p->slot);
    pid_t pid = fork();
    if (pid == 0) {
        uint32_t slot = p->slot, generation = p->generation;
        *is_child = 1;
        *out = NULL;
        free(p);
        return start_child(e, slot, generation, flags);
    }
    if (pid < 0) {
        int saved = errno;
        mpe__slot_unreserve(e, p->slot, p->generation);
        free(p);
        errno = saved;
        return MPE_ESYS;
    }
    p->e = e;
    p->pid = pid;
    p->owner = getpid();
    p->pidfd = -1;
    *out = p;
    return MPE_OK;
}

int
mpe_process_pid(const mpe_process *p)
{
    return (int)p->pid;
}

int
mpe_process_is_mine(const mpe_process *p)
{
    return p->owner == getpid();
}

static void
on_closed(uv_handle_t *handle)
{
    free(handle);
}

static void
stop_watching(mpe_process *p)
{
    if (p->poll) {
        uv_poll_stop(p->poll);
        uv_close((uv_handle_t *)p->poll, on_closed);
    }
    if (p->pidfd >= 0)
        close(p->pidfd);
    p->poll = NULL;
    p->pidfd = -1;
}

static void
note_end(mpe_process *p, int code)
{
    p->ended = 1;
    p->code = code;
    stop_watching(p);
    mpe__slot_unreserve(p->e, p->slot, p->generation);
    if (mpe__is_dead(&p->e->slots[p->slot]))
        mpe__reap(p->e, p->slot);
    mpe_waitlist_wake(p->e, &p->waiters, UINT32_MAX);
}

int
mpe_process_poll(mpe_engine *e, mpe_process *p, int *code)
{
    int status;
    (void)e;
    if (!p->ended && !mpe_process_is_mine(p)) /* its watch is on the loop of another process */
        return MPE_EPERM;
    if (!p->ended) {
        pid_t rc = waitpid(p->pid, &status, WNOHANG);
        if (rc == 0 || (rc < 0 && errno == EINTR))
            return MPE_EAGAIN;
        if (rc < 0) /* somebody else has waited for it: its status is lost */
            note_end(p, 0);
        else
            note_end(p, WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
    }
    *code = p->code;
    return MPE_OK;
}

static void
on_exit_event(uv_poll_t *handle, int status, int events)
{
    mpe_process *p = handle->data;
    int code;
    (void)status, (void)events;
    mpe_process_poll(p->e, p, &code);
}

static int
start_watching(mpe_process *p)
{
    uv_loop_t *uv = mpe_loop(p->e);
    if (p->poll)
        return MPE_OK;
    if (!uv || (p->poll = malloc(sizeof *p->poll)) == NULL)
        return MPE_ENOMEM;
    p->pidfd = mpe__pidfd_open(p->pid);
    if (p->pidfd < 0 || uv_poll_init(uv, p->poll, p->pidfd) != 0) {
        free(p->poll);
        p->poll = NULL;
        stop_watching(p);
        return MPE_ESYS;
    }
    p->poll->data = p;
    uv_poll_start(p->poll, UV_READABLE, on_exit_event);
    return MPE_OK;
}

int
mpe_process_wait(mpe_engine *e, mpe_process *p, mpe_waiter *w, uint64_t deadline)
{
    if (!p->ended && !mpe_process_is_mine(p))
        return MPE_EPERM;
    int rc = p->ended ? MPE_OK : start_watching(p);
    if (rc != MPE_OK)
        return rc;
    return mpe_wait_list(e, w, &p->waiters, p->ended ? mpe_now() : deadline);
}

int
mpe_process_signal(mpe_engine *e, mpe_process *p, int sig)
{
    (void)e;
    if (p->ended || kill(p->pid, sig) == 0 || errno == ESRCH)
        return MPE_OK;
    return MPE_ESYS;
}

void
mpe_process_free(mpe_engine *e, mpe_process *p)
{
    (void)e;
    if (mpe_process_is_mine(p))
        stop_watching(p);
    else if (p->pidfd >= 0)
        close(p->pidfd);
    free(p);
}

int
mpe_parent_pid(mpe_engine *e, int *alive)
{
    *alive = e->parent_pid != 0 && getppid() == e->parent_pid;
    return e->parent_pid;
}

const char *
mpe_parent_name(mpe_engine *e)
{
    return e->parent_name;
}
