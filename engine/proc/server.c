/* The fork server: a program with only the arena's mapping and the modules its host has loaded,
 * one thread, no slot and no loop. It waits for requests, forks, reaps the children and reports
 * to their parents how they exited. Of a child it keeps a pid and a pipe.
 *
 * It serves every process of the program, and exits when none of its clients lives: a later
 * request starts another one. Its death leaves its children alone (request.c). Strangers can
 * reach its socket: a request counts when the kernel says that it comes from the same user, and
 * its nonce is the arena's.
 */
#include "os/os.h"
#include "proc/server.h"
#include "core/door.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define LOOK_S 1 /* between two checks for clients that are gone, where pidfds are refused */

struct child {
    pid_t pid;
    int status_fd;
};

struct server {
    mpe_engine *e;
    struct pollfd *watched; /* the socket, then a pidfd per client */
    pid_t *clients;         /* by index in watched */
    uint32_t watched_count, watched_capacity, clients_capacity;
    struct child *children;
    uint32_t children_count, children_capacity;
    sigset_t mask; /* the one to wait with, and of children */
    char *environment;
    uint32_t environment_size;
    uint8_t *buffer;
};

struct incoming {
    struct mpe__request request;
    const char *directory, *environment;
    int fds[MPE__REQUEST_FDS], count;
    struct ucred sender;
};

static void
on_child_end(int sig)
{
    (void)sig; /* it only has to end the wait */
}

/* Room for one more; 0 when there is none. */
static int
reach(mpe_engine *e, void **list, uint32_t *capacity, uint32_t count, size_t item)
{
    if (count < *capacity)
        return 1;
    uint32_t more = *capacity ? *capacity * 2 : 16;
    void *larger = mpe__renew(&e->memory, *list, *capacity * item, more * item);
    if (!larger)
        return 0;
    *list = larger;
    *capacity = more;
    return 1;
}

static int
watch(struct server *v, int fd, pid_t pid)
{
    if (!reach(v->e, (void **)&v->watched, &v->watched_capacity, v->watched_count,
               sizeof *v->watched) ||
        !reach(v->e, (void **)&v->clients, &v->clients_capacity, v->watched_count,
               sizeof *v->clients))
        return 0;
    v->watched[v->watched_count] = (struct pollfd){.fd = fd, .events = POLLIN};
    v->clients[v->watched_count++] = pid;
    return 1;
}

static int
is_gone(pid_t pid)
{
    return kill(pid, 0) != 0 && errno == ESRCH;
}

/* 0 when it has already exited. */
static int
know_client(struct server *v, pid_t pid)
{
    for (uint32_t i = 1; i < v->watched_count; i++)
        if (v->clients[i] == pid)
            return 1;
    int fd = mpe__pidfd_open(pid);
    if (fd < 0 && (!mpe__pidfds_are_refused() || is_gone(pid)))
        return 0;
    if (watch(v, fd, pid))
        return 1;
    mpe__fd_close(fd);
    return 0;
}

static void
forget_dead_clients(struct server *v)
{
    for (uint32_t i = v->watched_count; i-- > 1;) {
        if (v->watched[i].fd >= 0 ? !v->watched[i].revents : !is_gone(v->clients[i]))
            continue;
        mpe__fd_close(v->watched[i].fd);
        v->watched[i] = v->watched[--v->watched_count];
        v->clients[i] = v->clients[v->watched_count];
    }
}

static void
tell(int fd, int kind, int value)
{
    struct mpe__status s = {kind, value};
    while (write(fd, &s, sizeof s) < 0 && errno == EINTR)
        ; /* a parent that is gone does not need the report */
}

static void
reap_children(struct server *v)
{
    int status;
    pid_t pid;
    while ((pid = waitpid(-1, &status, WNOHANG)) > 0) {
        for (uint32_t i = 0; i < v->children_count; i++) {
            if (v->children[i].pid != pid)
                continue;
            tell(v->children[i].status_fd, MPE__STATUS_ENDED,
                 WIFSIGNALED(status) ? -WTERMSIG(status) : WEXITSTATUS(status));
            close(v->children[i].status_fd);
            v->children[i] = v->children[--v->children_count];
            break;
        }
    }
}

/* ---- a request ---- */

static void
close_all(const int *fds, int count)
{
    for (int i = 0; i < count; i++)
        close(fds[i]);
}

static void
take_control(struct msghdr *m, struct incoming *in)
{
    in->count = 0;
    in->sender.uid = (uid_t)-1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        size_t n = c->cmsg_len - CMSG_LEN(0);
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_CREDENTIALS && n == sizeof in->sender)
            memcpy(&in->sender, CMSG_DATA(c), n);
        if (c->cmsg_type == SCM_RIGHTS && n <= sizeof in->fds) {
            memcpy(in->fds, CMSG_DATA(c), n);
            in->count = (int)(n / sizeof(int));
        }
    }
}

static int
is_sound(const struct server *v, const struct incoming *in, size_t size)
{
    const struct mpe__request *r = &in->request;
    return in->sender.uid == geteuid() && r->nonce == v->e->header->nonce &&
           in->count == 1 + __builtin_popcount(r->fds & 15u) && r->directory_size > 0 &&
           r->directory_size <= size && r->environment_size == size - r->directory_size &&
           in->directory[r->directory_size - 1] == '\0';
}

/* 1 when there is a valid request. */
static int
receive(struct server *v, struct incoming *in)
{
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof in->fds) + CMSG_SPACE(sizeof in->sender)];
    } control;
    struct iovec parts[] = {{&in->request, sizeof in->request}, {v->buffer, MPE__REQUEST_MAX}};
    struct msghdr m = {.msg_iov = parts,
                       .msg_iovlen = 2,
                       .msg_control = &control,
                       .msg_controllen = sizeof control};
    ssize_t n = recvmsg(v->e->proc->server_fd, &m, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
    if (n < 0)
        return 0;
    take_control(&m, in);
    in->directory = (const char *)v->buffer;
    in->environment = in->directory + in->request.directory_size;
    if (n >= (ssize_t)sizeof in->request && !(m.msg_flags & (MSG_TRUNC | MSG_CTRUNC)) &&
        is_sound(v, in, (size_t)n - sizeof in->request))
        return 1;
    if ((m.msg_flags & MSG_CTRUNC) && in->count > 0 && in->sender.uid == geteuid())
        tell(in->fds[0], MPE__STATUS_FAILED, EMFILE); /* there was no room here for the others */
    close_all(in->fds, in->count);
    return 0;
}

/* ---- in the child ---- */

static void
use_environment(const struct server *v, const struct incoming *in)
{
    uint32_t size = in->request.environment_size;
    if (size == v->environment_size && memcmp(in->environment, v->environment, size) == 0)
        return;
    char *copy = malloc(size + 1); /* the process's from now on, and not the engine's */
    if (!copy)
        return;
    memcpy(copy, in->environment, size);
    copy[size] = '\0';
    clearenv();
    for (char *at = copy; at < copy + size; at += strlen(at) + 1)
        putenv(at);
}

static int
use_fds(mpe_engine *e, const struct incoming *in)
{
    int next = 1, rc = MPE_OK;
    e->proc->status_fd = in->fds[0];
    for (int fd = 0; fd < 3; fd++) {
        if (in->request.fds & 1u << fd) {
            dup2(in->fds[next], fd);
            close(in->fds[next++]);
        } else {
            close(fd);
        }
    }
    if (in->request.fds & 8u) {
        rc = mpe__life_bind(e, in->fds[next], in->request.birth.flags);
        close(in->fds[next]);
    }
    return rc;
}

static int
become_child(struct server *v, const struct incoming *in)
{
    mpe_engine *e = v->e;
    signal(SIGCHLD, SIG_DFL);
    signal(SIGINT, SIG_DFL);
    signal(SIGPIPE, SIG_DFL);
    sigprocmask(SIG_SETMASK, &v->mask, NULL);
    for (uint32_t i = 0; i < v->watched_count; i++)
        mpe__fd_close(v->watched[i].fd);
    for (uint32_t i = 0; i < v->children_count; i++)
        close(v->children[i].status_fd);
    e->proc->server_fd = -1;
    int rc = use_fds(e, in);
    use_environment(v, in);
    if (in->directory[0] != '\0' && chdir(in->directory) != 0 && rc == MPE_OK)
        rc = MPE_ESYS;
    return rc == MPE_OK ? mpe__birth_take(e, &in->request.birth) : rc;
}

static void
free_server(struct server *v)
{
    const struct mpe__memory *m = &v->e->memory;
    mpe__delete(m, v->watched, v->watched_capacity * sizeof *v->watched);
    mpe__delete(m, v->clients, v->clients_capacity * sizeof *v->clients);
    mpe__delete(m, v->children, v->children_capacity * sizeof *v->children);
    mpe__delete(m, v->environment, v->environment_size + 1);
    mpe__delete(m, v->buffer, MPE__REQUEST_MAX);
}

/* 1 in the child, with the status of its beginning. */
static int
serve_one(struct server *v, const struct incoming *in, int *status)
{
    int ready = know_client(v, in->sender.pid) &&
                reach(v->e, (void **)&v->children, &v->children_capacity, v->children_count,
                      sizeof *v->children);
    pid_t pid = ready ? fork() : -1;
    if (pid == 0) {
        mpe__adopt(v->e);
        *status = become_child(v, in);
        return 1;
    }
    if (pid < 0)
        tell(in->fds[0], MPE__STATUS_FAILED, ready ? errno : ENOMEM);
    else
        tell(in->fds[0], MPE__STATUS_PID, pid);
    if (pid > 0)
        v->children[v->children_count++] = (struct child){pid, in->fds[0]};
    close_all(in->fds + (pid > 0), in->count - (pid > 0));
    return 0;
}

/* ---- the server ---- */

static int
prepare(struct server *v, mpe_engine *e)
{
    sigset_t blocked;
    struct sigaction a = {.sa_handler = on_child_end};
    v->e = e;
    v->buffer = mpe__new(&e->memory, MPE__REQUEST_MAX);
    v->environment = mpe__environment_text(e, &v->environment_size);
    if (!v->buffer || !v->environment || !watch(v, e->proc->server_fd, 0))
        return MPE_ENOMEM;
    if (!know_client(v, e->proc->server_client))
        return MPE_ECLOSED;
    signal(SIGINT, SIG_IGN); /* of a terminal: the program ends, and the server with it */
    signal(SIGPIPE, SIG_IGN);
    sigaction(SIGCHLD, &a, NULL);
    sigemptyset(&blocked);
    sigaddset(&blocked, SIGCHLD);
    sigprocmask(SIG_BLOCK, &blocked, &v->mask);
    sigdelset(&v->mask, SIGCHLD); /* it may have been blocked before */
    return MPE_OK;
}

static int
run(struct server *v, int *status)
{
    struct incoming in;
    const struct timespec look = {LOOK_S, 0};
    const struct timespec *limit = mpe__pidfds_are_refused() ? &look : NULL;
    while (v->watched_count > 1) {
        int n = ppoll(v->watched, v->watched_count, limit, &v->mask);
        reap_children(v);
        if (n < 0)
            continue;
        while (v->watched[0].revents && receive(v, &in))
            if (serve_one(v, &in, status))
                return 1;
        forget_dead_clients(v);
    }
    return 0;
}

int
mpe_serve(mpe_engine *e)
{
    struct server v = {.e = e};
    int status = prepare(&v, e);
    if (status == MPE_OK && !run(&v, &status))
        status = MPE_ECLOSED;
    free_server(&v);
    return status;
}
