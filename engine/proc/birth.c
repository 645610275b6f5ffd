/* The child's side of a start: the information it gets, its slot, its parent. A forked child has
 * the parent's memory; a child in a new program finds a text in its environment, and attaches to
 * the arena by a descriptor it was given.
 *
 * Death of the parent meanwhile: its reaper and the child race for the reserved slot, and a
 * child that loses reports ESTALE and has touched nothing.
 */
#include "loop/loop.h"
#include "os/os.h"
#include "proc/proc.h"
#include "core/region.h"
#include "core/slot.h"
#include "core/door.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* What a child with these flags is bound to (life.c): its starter, or what that is bound to. */
static uint64_t
bound_to(mpe_engine *e, uint32_t starter, unsigned flags)
{
    struct mpe__slot *s = &e->slots[starter];
    uint64_t of_starter = mpe__load64(&s->bound);
    if (!(flags & MPE__LINED))
        return 0;
    if (!(flags & MPE_PROCESS_DAEMON) && of_starter)
        return of_starter;
    return (uint64_t)mpe__load32(&s->generation) << 32 | (starter + 1);
}

/* The starter records itself in the slot. */
static int
note_parent(mpe_engine *e, uint32_t slot)
{
    struct mpe__proc *p = e->proc;
    uint32_t starter = mpe__load32(&e->slots[slot].starter);
    if (starter == 0 || starter > MPE__SLOTS)
        return MPE_ESTALE;
    struct mpe__slot *s = &e->slots[starter - 1];
    p->parent_slot = starter - 1;
    p->parent_generation = mpe__load32(&s->generation);
    e->parent_pid = (int)mpe__load32(&s->pid);
    memcpy(e->parent_name, s->name, sizeof e->parent_name - 1); /* no printf after a fork */
    e->parent_name[sizeof e->parent_name - 1] = '\0';
    return MPE_OK;
}

int
mpe__birth_take(mpe_engine *e, const struct mpe__birth *b)
{
    if (b->slot >= MPE__SLOTS)
        return MPE_EINVAL;
    int rc = note_parent(e, b->slot);
    uint64_t bound = rc == MPE_OK ? bound_to(e, e->proc->parent_slot, b->flags) : 0;
    if (rc == MPE_OK)
        rc = mpe__slot_take_reserved(e, b->slot, b->generation);
    if (rc == MPE_OK) {
        mpe__store64(&e->self->bound, bound);
        mpe__process_show_name(e->self->name);
    }
    e->proc->start_messages = b->start_messages;
    return rc;
}

/* The slot's hold of the queue, set by the starter, becomes this process's with the first call. */
int
mpe_next_message(mpe_engine *e, mpe_message *out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    struct mpe__proc *p = e->proc;
    if (p->start_messages && mpe_hold(e, p->start_messages, &p->start_queue) != MPE_OK)
        p->start_queue = NULL;
    p->start_messages = 0;
    if (!p->start_queue)
        return MPE_ENOENT;
    int rc = mpe_queue_get(e, p->start_queue, out);
    if (mpe_queue_size(e, p->start_queue) == 0) {
        mpe_drop(e, p->start_queue);
        p->start_queue = NULL;
    }
    return rc == MPE_EAGAIN ? MPE_ENOENT : rc;
}

int
mpe_parent_pid(mpe_engine *e, int *alive)
{
    if (!alive || !mpe__is_ours(e))
        return 0;
    *alive = 0;
    if (e->parent_pid == 0)
        return 0;
    struct mpe__slot *s = &e->slots[e->proc->parent_slot];
    *alive = mpe__is_running(s) && mpe__load32(&s->generation) == e->proc->parent_generation;
    return e->parent_pid;
}

/* Liveness is checked after opening, so that it is not a later process with the same number. */
int
mpe_parent_fd(mpe_engine *e, int *alive)
{
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    struct mpe__proc *p = e->proc;
    if (p->parent_fd < 0 && e->parent_pid)
        p->parent_fd = mpe__pidfd_open((pid_t)e->parent_pid);
    int saved = errno;
    mpe_parent_pid(e, alive);
    errno = saved;
    return p->parent_fd;
}

const char *
mpe_parent_name(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return NULL;
    return e->parent_name;
}

/* The exit code reaches the parent even when the fork server is gone by then. */
void
mpe_report_exit(mpe_engine *e, int code)
{
    if (!mpe__is_ours(e))
        return;
    struct mpe__status s = {MPE__STATUS_ENDING, code};
    if (e->proc->status_fd >= 0 && write(e->proc->status_fd, &s, sizeof s) < 0)
        return; /* the parent is gone, or does not read: the server reports it */
}

int
mpe_is_server(const mpe_engine *e)
{
    return e->proc->server_fd >= 0;
}

static void
close_on_exec(int fd)
{
    fcntl(fd, F_SETFD, FD_CLOEXEC);
}

/* Reads the text written by mpe_process_spawn and by the starter of a fork server. */
static int
begin(mpe_engine *e, const char *text)
{
    struct mpe__birth b;
    unsigned long long start_messages;
    int client;
    if (sscanf(text, "server %d", &client) == 1) {
        e->proc->server_fd = MPE__SECOND_FD;
        e->proc->server_client = client;
        close_on_exec(MPE__SECOND_FD);
        return MPE_OK;
    }
    if (sscanf(text, "child %u %u %llx %u", &b.slot, &b.generation, &start_messages, &b.flags) != 4)
        return MPE_EINVAL;
    b.start_messages = start_messages;
    int next = MPE__SECOND_FD, rc = MPE_OK;
    if (b.flags & MPE__LINED) {
        rc = mpe__life_bind(e, next, b.flags);
        close(next++);
    }
    if (b.flags & MPE__BIRTH_TAIL) {
        e->proc->tail_fd = next;
        close_on_exec(next);
    }
    return rc == MPE_OK ? mpe__birth_take(e, &b) : rc;
}

int
mpe_attach(const mpe_config *config, mpe_engine **out)
{
    mpe_config c;
    const char *variable = getenv(MPE__CHILD_VARIABLE);
    char text[128];
    if (!variable)
        return MPE_ENOENT;
    int rc = out ? mpe__config_read(config, &c) : MPE_EINVAL;
    if (rc != MPE_OK)
        return rc;
    snprintf(text, sizeof text, "%s", variable);
    unsetenv(MPE__CHILD_VARIABLE); /* it is for this process only, not for its children */
    mpe_engine *e = mpe__engine_new(&(struct mpe__memory){c.alloc, c.alloc_ud});
    if (!e)
        return MPE_ENOMEM;
    close_on_exec(MPE__ARENA_FD);
    mpe__config_keep(e, &c);
    mpe__loop_open(e, c.loop, c.flags);
    rc = mpe__region_attach(e, MPE__ARENA_FD);
    if (rc == MPE_OK)
        rc = begin(e, text);
    if (rc != MPE_OK) {
        mpe__engine_free(e);
        return rc;
    }
    *out = e;
    return MPE_OK;
}

int
mpe_interrupt_clear(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return 0;
    return (int)atomic_exchange(&e->loop->interrupted, 0);
}
