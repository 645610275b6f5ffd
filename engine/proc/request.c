/* The start method forkserver, client side. The server is a small clean program, started when it
 * is first needed, that forks children on request; server.c is the other side. Requests are
 * datagrams to a name that is derived from the arena, so every process of the program finds the
 * same server, and there is nothing in the file system. With a request travels the write end of
 * a pipe, through which the server reports pid, failure and exit code. Its read end serves the
 * parent like a pidfd of a child of its own.
 *
 * Death of the server: its socket and the requests in it vanish, so the pipe of an unanswered
 * request ends, and the request is sent again to a new server. Children live on without it.
 */
#include "os/os.h"
#include "proc/server.h"
#include "core/door.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define ATTEMPTS 3

socklen_t
mpe__server_address(const mpe_engine *e, struct sockaddr_un *a)
{
    a->sun_family = AF_UNIX;
    a->sun_path[0] = '\0';
    int n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "mpengine-%016llx-server",
                     (unsigned long long)e->header->nonce);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

char *
mpe__environment_text(const mpe_engine *e, uint32_t *size)
{
    size_t total = 0;
    for (char **v = environ; v && *v; v++)
        total += strlen(*v) + 1;
    char *text = mpe__new(&e->memory, total + 1), *at = text;
    if (!text)
        return NULL;
    for (char **v = environ; v && *v; v++)
        at = stpcpy(at, *v) + 1;
    *size = (uint32_t)total;
    return text;
}

/* ---- starting the server ---- */

/* Its socket, bound; -1 with EADDRINUSE when there is a server already. */
static int
open_server_socket(const mpe_engine *e)
{
    struct sockaddr_un a;
    socklen_t n = mpe__server_address(e, &a);
    int on = 1, fd = mpe_fd_lift(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 &&
        bind(fd, (struct sockaddr *)&a, n) == 0)
        return fd;
    mpe__fd_close(fd);
    return -1;
}

static void
reap_old_server(struct mpe__proc *p)
{
    if (p->server_pid > 0)
        waitpid(p->server_pid, NULL, WNOHANG);
    p->server_pid = 0;
}

/* Another process may do the same at the same time: the one that binds the name first starts it. */
static int
start_server(mpe_engine *e, const mpe_start *s)
{
    char text[32];
    pid_t pid;
    int fd = open_server_socket(e);
    if (fd < 0)
        return errno == EADDRINUSE ? MPE_OK : MPE_ESYS;
    reap_old_server(e->proc);
    snprintf(text, sizeof text, "server %d", (int)getpid());
    struct mpe__program program = {s, text, fd, -1, 1};
    int rc = mpe__spawn(e, &program, &pid);
    mpe__fd_close(fd);
    if (rc == MPE_OK)
        e->proc->server_pid = (int)pid;
    return rc;
}

void
mpe_end_server(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return;
    pid_t pid = e->proc->server_pid;
    if (pid <= 0)
        return;
    kill(pid, SIGKILL);
    while (waitpid(pid, NULL, 0) < 0 && errno == EINTR)
        ;
    e->proc->server_pid = 0;
}

/* ---- a request ---- */

struct outgoing {
    struct mpe__request request;
    char directory[PATH_MAX];
    char *environment;
    int fds[MPE__REQUEST_FDS], count;
};

static void
add_fds(struct outgoing *o, int status_fd, int life)
{
    o->fds[o->count++] = status_fd;
    for (int fd = 0; fd < 3; fd++) {
        if (fcntl(fd, F_GETFD) < 0)
            continue;
        o->fds[o->count++] = fd;
        o->request.fds |= 1u << fd;
    }
    if (life < 0)
        return;
    o->fds[o->count++] = life;
    o->request.fds |= 8u;
}

static int
fill(mpe_engine *e, struct outgoing *o, const mpe_start *s, const mpe_process *p, int status_fd,
     int life)
{
    mpe_handle start_messages;
    int rc = mpe__start_messages(e, s, p->slot, &start_messages);
    if (rc != MPE_OK)
        return rc;
    memset(&o->request, 0, sizeof o->request);
    o->count = 0;
    o->request.nonce = e->header->nonce;
    o->request.birth = (struct mpe__birth){p->slot, p->generation, start_messages, s->flags};
    if (!getcwd(o->directory, sizeof o->directory)) /* removed meanwhile: the server's is used */
        o->directory[0] = '\0';
    o->request.directory_size = (uint32_t)strlen(o->directory) + 1;
    o->environment = mpe__environment_text(e, &o->request.environment_size);
    if (!o->environment)
        return MPE_ENOMEM;
    add_fds(o, status_fd, life);
    return MPE_OK;
}

static int
send_it(mpe_engine *e, struct outgoing *o)
{
    struct sockaddr_un a;
    union {
        struct cmsghdr align;
        char bytes[CMSG_SPACE(sizeof o->fds)];
    } control;
    struct iovec parts[] = {{&o->request, sizeof o->request},
                            {o->directory, o->request.directory_size},
                            {o->environment, o->request.environment_size}};
    struct msghdr m = {.msg_name = &a, .msg_iov = parts, .msg_iovlen = 3};
    m.msg_namelen = mpe__server_address(e, &a);
    m.msg_control = &control;
    m.msg_controllen = CMSG_SPACE((size_t)o->count * sizeof(int));
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN((size_t)o->count * sizeof(int));
    memcpy(CMSG_DATA(c), o->fds, (size_t)o->count * sizeof(int));
    ssize_t n;
    do
        n = sendmsg(e->proc->ask_fd, &m, MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    return n < 0 ? MPE_ESYS : MPE_OK;
}

/* OK when a server, old or new, has it; EAGAIN when each server was gone before it could answer. */
static int
deliver(mpe_engine *e, const mpe_start *s, struct outgoing *o)
{
    if (e->proc->ask_fd < 0)
        e->proc->ask_fd = mpe_fd_lift(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (e->proc->ask_fd < 0)
        return MPE_ESYS;
    int rc = send_it(e, o);
    for (int i = 0; rc == MPE_ESYS && errno == ECONNREFUSED && i < ATTEMPTS; i++) {
        rc = start_server(e, s);
        if (rc == MPE_OK)
            rc = send_it(e, o);
    }
    return rc == MPE_ESYS && errno == ECONNREFUSED ? MPE_EAGAIN : rc;
}

/* The pid or an errno from the status pipe; EAGAIN when the server died. A child that exits
 * quickly may have reported how before that. */
static int
read_answer(mpe_process *p, pid_t *pid)
{
    struct mpe__status s;
    ssize_t n;
    p->code = -SIGKILL; /* unless there is a report */
    do {
        n = read(p->end.fd, &s, sizeof s);
        if (n == (ssize_t)sizeof s && s.kind == MPE__STATUS_ENDING)
            p->code = s.value;
    } while (n < 0 ? errno == EINTR : n > 0 && s.kind == MPE__STATUS_ENDING);
    if (n != (ssize_t)sizeof s)
        return MPE_EAGAIN;
    if (s.kind == MPE__STATUS_FAILED) {
        errno = s.value;
        return MPE_ESYS;
    }
    *pid = s.value;
    return MPE_OK;
}

static int
ask_once(mpe_engine *e, const mpe_start *s, mpe_process *p, pid_t *pid)
{
    struct outgoing o;
    struct mpe__lines lines;
    int status[2];
    if (mpe_pipe(status) != 0)
        return MPE_ESYS;
    p->end.fd = status[0];
    int rc = mpe__life_open(e, p, s->flags, &lines);
    if (rc == MPE_OK && (rc = fill(e, &o, s, p, status[1], lines.life)) == MPE_OK) {
        rc = deliver(e, s, &o);
        mpe__delete(&e->memory, o.environment, o.request.environment_size + 1);
    }
    mpe__lines_close(e, &lines);
    mpe__fd_close(status[1]);
    return rc == MPE_OK ? read_answer(p, pid) : rc;
}

int
mpe_process_request(mpe_engine *e, const mpe_start *s, mpe_process **out)
{
    mpe_process *p;
    pid_t pid;
    int rc = out ? mpe__start_check(e, s) : MPE_EINVAL;
    if (rc != MPE_OK)
        return rc;
    rc = MPE_EAGAIN;
    for (int i = 0; rc == MPE_EAGAIN && i < ATTEMPTS; i++) {
        rc = mpe__process_new(e, s->name, &p);
        if (rc != MPE_OK)
            return rc;
        rc = ask_once(e, s, p, &pid);
        if (rc != MPE_OK)
            mpe__process_unmake(e, p);
    }
    if (rc != MPE_OK)
        return rc == MPE_EAGAIN ? MPE_ESERVER : rc;
    p->served = 1;
    fcntl(p->end.fd, F_SETFL, O_NONBLOCK);
    mpe__process_started(p, pid);
    *out = p;
    return MPE_OK;
}
