/* Descriptors that are kept for other processes of the user, each under a ticket, and the thread that
 * hands them out. The keeper duplicates what it is given, so its giver may close its own at once.
 *
 * A process that wants one asks the keeper's socket, by a datagram that carries one end of a
 * connected pair; the answer, a descriptor of SCM_RIGHTS, comes back on that. The keeper's process may
 * compute or sleep meanwhile: the thread alone serves, and runs nothing else. It never blocks on an
 * asker, since the answer fits the pair's buffer. A keeper that has exited is known by its name
 * or by the end of the pair, of which the unread question had the other end. So an asker waits for a
 * moment, or, when the keeper is stopped, for PATIENCE_S.
 *
 * Why not otherwise: pidfd_getfd(2) needs the right to trace, which a child has not over its parent;
 * /proc/PID/fd opens no sockets; a socket that all processes share keeps what was sent in order, but
 * items are taken in any order, or never; and what is in flight there outlives its sender.
 *
 * The tickets, the socket and the thread belong to the process, not to an engine, under one lock,
 * which is taken around a fork. A forked child begins without all three: it closes its copies, so that
 * the keeper's exit, and the release of a ticket, are seen.
 *
 * Strangers can reach the socket: a question counts when the kernel says that it comes from the
 * same user, and it names the arena of the ticket. */
#include "os/os.h"

#include "mpengine_core.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#define PATIENCE_S 10
#define INDEX_BITS 20 /* of a ticket's number; the rest counts */
#define TICKETS_MAX (1u << INDEX_BITS)

struct kept {
    const void *owner; /* NULL: the entry is free */
    uint64_t arena, number;
    int once; /* the first taker has it */
    int fd;   /* of a free entry: the next free one, or -1 */
};

/* FETCH leaves the descriptor with the keeper, TAKE does not; RELEASE is not answered. */
enum { FETCH, TAKE, RELEASE };

struct question {
    uint64_t arena, number;
    uint32_t what;
    uint32_t unused;
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t released; /* a ticket was */
static pthread_once_t prepared = PTHREAD_ONCE_INIT;
static struct {
    int socket; /* -1: there is no keeper yet */
    uint64_t name;
    struct kept *all;
    uint32_t top, room; /* entries ever used; allocated */
    int free;           /* the first free one below top, or -1 */
    uint64_t count;     /* tickets given so far */
    uint32_t threads;
} keeper;

/* ---- tickets; under the lock ---- */

static struct kept *
find(uint64_t arena, uint64_t number)
{
    uint64_t i = number & (TICKETS_MAX - 1);
    if (i >= keeper.top || !keeper.all[i].owner || keeper.all[i].number != number ||
        keeper.all[i].arena != arena)
        return NULL;
    return &keeper.all[i];
}

static void
release(struct kept *k)
{
    close(k->fd);
    k->owner = NULL;
    k->fd = keeper.free;
    keeper.free = (int)(k - keeper.all);
    pthread_cond_signal(&released);
}

static struct kept *
new_entry(void)
{
    if (keeper.free >= 0) {
        struct kept *k = &keeper.all[keeper.free];
        keeper.free = k->fd;
        return k;
    }
    if (keeper.top == keeper.room) {
        uint32_t room = keeper.room ? keeper.room * 2 : 16;
        struct kept *all = room <= TICKETS_MAX ? realloc(keeper.all, room * sizeof *all) : NULL;
        if (!all) {
            errno = ENOMEM;
            return NULL;
        }
        keeper.all = all;
        keeper.room = room;
    }
    return &keeper.all[keeper.top++];
}

/* ---- the thread ---- */

static socklen_t
address_of(struct sockaddr_un *a, uint64_t name)
{
    a->sun_family = AF_UNIX;
    a->sun_path[0] = '\0';
    int n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "mpengine-keeper-%016llx",
                     (unsigned long long)name);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

union fd_control {
    struct cmsghdr align;
    char bytes[CMSG_SPACE(sizeof(int))];
};

/* Sends bytes, and a descriptor unless it is -1. */
static ssize_t
send_with(int socket, struct msghdr *m, int fd, int flags)
{
    union fd_control control;
    if (fd >= 0) {
        memset(&control, 0, sizeof control);
        m->msg_control = &control;
        m->msg_controllen = sizeof control;
        struct cmsghdr *c = CMSG_FIRSTHDR(m);
        c->cmsg_level = SOL_SOCKET;
        c->cmsg_type = SCM_RIGHTS;
        c->cmsg_len = CMSG_LEN(sizeof fd);
        memcpy(CMSG_DATA(c), &fd, sizeof fd);
    }
    ssize_t n;
    do
        n = sendmsg(socket, m, flags | MSG_NOSIGNAL);
    while (n < 0 && errno == EINTR);
    m->msg_control = NULL;
    m->msg_controllen = 0;
    return n;
}

/* The answer is an errno, 0 with the descriptor. */
static void
answer(int to, int fd, int error)
{
    struct iovec part = {&error, sizeof error};
    struct msghdr m = {.msg_iov = &part, .msg_iovlen = 1};
    if (send_with(to, &m, fd, MSG_DONTWAIT) >= 0 || fd < 0)
        return;
    error = errno; /* too many descriptors of this user are on their way */
    send_with(to, &m, -1, MSG_DONTWAIT);
}

static void
serve_one(const struct question *q, int to)
{
    pthread_mutex_lock(&lock);
    struct kept *k = find(q->arena, q->number);
    if (q->what != RELEASE && to >= 0)
        answer(to, k ? k->fd : -1, k ? 0 : ESTALE);
    if (q->what != FETCH && k)
        release(k);
    pthread_mutex_unlock(&lock);
}

/* The control messages of a question: the asker's end of its pair, or -1, and its user. */
static int
read_control(struct msghdr *m, int *to)
{
    uid_t user = (uid_t)-1;
    *to = -1;
    for (struct cmsghdr *c = CMSG_FIRSTHDR(m); c; c = CMSG_NXTHDR(m, c)) {
        struct ucred sender;
        if (c->cmsg_level != SOL_SOCKET)
            continue;
        if (c->cmsg_type == SCM_CREDENTIALS) {
            memcpy(&sender, CMSG_DATA(c), sizeof sender);
            user = sender.uid;
        } else if (c->cmsg_type == SCM_RIGHTS) {
            memcpy(to, CMSG_DATA(c), sizeof *to);
        }
    }
    return user == geteuid();
}

static void *
serve(void *ud)
{
    int socket = (int)(intptr_t)ud;
    for (;;) {
        union {
            struct cmsghdr align;
            char bytes[CMSG_SPACE(sizeof(int)) + CMSG_SPACE(sizeof(struct ucred))];
        } control;
        struct question q;
        struct iovec part = {&q, sizeof q};
        struct msghdr m = {.msg_iov = &part,
                           .msg_iovlen = 1,
                           .msg_control = &control,
                           .msg_controllen = sizeof control};
        int to;
        ssize_t n = recvmsg(socket, &m, MSG_CMSG_CLOEXEC);
        if (n < 0)
            continue; /* EINTR, or no memory for a moment */
        if (read_control(&m, &to) && n == sizeof q)
            serve_one(&q, to);
        mpe__fd_close(to);
    }
    return NULL;
}

/* ---- around a fork ---- */

static void
before_fork(void)
{
    pthread_mutex_lock(&lock);
}

static void
after_fork(void)
{
    pthread_mutex_unlock(&lock);
}

static void
make_signal(void)
{
    pthread_condattr_t a;
    pthread_condattr_init(&a);
    pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
    pthread_cond_init(&released, &a);
    pthread_condattr_destroy(&a);
}

static void
begin(void)
{
    pthread_mutex_init(&lock, NULL);
    make_signal();
    for (uint32_t i = 0; i < keeper.top; i++)
        if (keeper.all[i].owner)
            close(keeper.all[i].fd);
    mpe__fd_close(keeper.socket);
    keeper.socket = keeper.free = -1;
    keeper.top = keeper.threads = 0;
}

static void
prepare(void)
{
    keeper.socket = keeper.free = -1;
    make_signal();
    pthread_atfork(before_fork, after_fork, begin);
}

/* ---- the keeper's process ---- */

static int
open_socket(uint64_t name)
{
    struct sockaddr_un a;
    socklen_t n = address_of(&a, name);
    int on = 1, fd = mpe_fd_lift(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (fd >= 0 && setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &on, sizeof on) == 0 &&
        bind(fd, (struct sockaddr *)&a, n) == 0)
        return fd;
    mpe__fd_close(fd);
    return -1;
}

/* Under the lock. */
static int
open_keeper(void)
{
    if (keeper.socket >= 0)
        return 0;
    uint64_t name = mpe__random64();
    int fd = open_socket(name);
    if (fd < 0)
        return -1;
    if (mpe__thread_start(serve, (void *)(intptr_t)fd) != 0) {
        mpe__fd_close(fd);
        return -1;
    }
    keeper.socket = fd;
    keeper.name = name;
    keeper.threads = 1;
    return 0;
}

/* Under the lock. */
static int
keep(const void *owner, uint64_t arena, int fd, int once, struct mpe__ticket *out)
{
    struct kept *k;
    if (open_keeper() != 0)
        return -1;
    int copy = mpe__fd_copy(fd);
    if (copy < 0)
        return -1;
    if (!(k = new_entry())) {
        mpe__fd_close(copy);
        return -1;
    }
    uint64_t number = ++keeper.count << INDEX_BITS | (uint64_t)(k - keeper.all);
    *k = (struct kept){owner, arena, number, once, copy};
    *out = (struct mpe__ticket){keeper.name, number};
    return 0;
}

int
mpe__ticket_new(const void *owner, uint64_t arena, int fd, int once, struct mpe__ticket *out)
{
    pthread_once(&prepared, prepare);
    pthread_mutex_lock(&lock);
    int rc = keep(owner, arena, fd, once, out);
    pthread_mutex_unlock(&lock);
    return rc;
}

void
mpe__tickets_release_of(const void *owner)
{
    pthread_once(&prepared, prepare);
    pthread_mutex_lock(&lock);
    for (uint32_t i = 0; i < keeper.top; i++)
        if (keeper.all[i].owner == owner)
            release(&keeper.all[i]);
    pthread_mutex_unlock(&lock);
}

/* Under the lock. */
static int
has_awaited(const void *owner)
{
    for (uint32_t i = 0; i < keeper.top; i++)
        if (keeper.all[i].owner == owner && keeper.all[i].once)
            return 1;
    return 0;
}

void
mpe__tickets_wait(const void *owner, uint64_t deadline)
{
    struct timespec t = {(time_t)(deadline / MPE_NS_PER_S), (long)(deadline % MPE_NS_PER_S)};
    pthread_once(&prepared, prepare);
    pthread_mutex_lock(&lock);
    while (has_awaited(owner) && pthread_cond_timedwait(&released, &lock, &t) == 0)
        ;
    pthread_mutex_unlock(&lock);
}

uint32_t
mpe__ticket_threads(void)
{
    pthread_once(&prepared, prepare);
    pthread_mutex_lock(&lock);
    uint32_t n = keeper.threads;
    pthread_mutex_unlock(&lock);
    return n;
}

/* ---- other processes ---- */

/* The ticket is one of this process: 1, with a copy of the descriptor, or -1 there. */
static int
serve_own(uint64_t arena, const struct mpe__ticket *t, uint32_t what, int *fd)
{
    pthread_once(&prepared, prepare);
    pthread_mutex_lock(&lock);
    int is_own = keeper.socket >= 0 && keeper.name == t->keeper;
    struct kept *k = is_own ? find(arena, t->number) : NULL;
    *fd = -1;
    errno = ESTALE;
    if (k && what != RELEASE)
        *fd = mpe__fd_copy(k->fd);
    if (k && (what == RELEASE || (what == TAKE && *fd >= 0)))
        release(k);
    pthread_mutex_unlock(&lock);
    return is_own;
}

/* By way of that socket. */
static int
ask_by(int fd, const struct mpe__ticket *t, const struct question *q, int reply, int flags)
{
    struct sockaddr_un a;
    struct iovec part = {(void *)q, sizeof *q};
    struct msghdr m = {.msg_name = &a,
                       .msg_namelen = address_of(&a, t->keeper),
                       .msg_iov = &part,
                       .msg_iovlen = 1};
    return send_with(fd, &m, reply, flags) < 0 ? -1 : 0;
}

static int
ask(const struct mpe__ticket *t, const struct question *q, int reply)
{
    int fd = mpe_fd_lift(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0));
    if (fd < 0)
        return -1;
    int rc = ask_by(fd, t, q, reply, MSG_DONTWAIT);
    if (rc != 0 && errno == EAGAIN) { /* others are before */
        struct timeval patience = {.tv_sec = PATIENCE_S};
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
        rc = ask_by(fd, t, q, reply, 0);
    }
    mpe__fd_close(fd);
    return rc;
}

/* Reads the answer: 0 with the descriptor, or -1. */
static int
hear(int from, int *fd)
{
    union fd_control control;
    int error = ESTALE;
    struct iovec part = {&error, sizeof error};
    struct msghdr m = {.msg_iov = &part,
                       .msg_iovlen = 1,
                       .msg_control = &control,
                       .msg_controllen = sizeof control};
    struct pollfd p = {.fd = from, .events = POLLIN};
    uint64_t deadline = mpe_now() + PATIENCE_S * MPE_NS_PER_S, now;
    while (poll(&p, 1, PATIENCE_S * 1000) < 0 && errno == EINTR && (now = mpe_now()) < deadline)
        ;
    ssize_t n = recvmsg(from, &m, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
    if (n < 0)
        return -1; /* EAGAIN: it is stopped */
    struct cmsghdr *c = CMSG_FIRSTHDR(&m);
    if (n == sizeof error && error == 0 && c && c->cmsg_type == SCM_RIGHTS) {
        memcpy(fd, CMSG_DATA(c), sizeof *fd);
        *fd = mpe_fd_lift(*fd);
        return *fd < 0 ? -1 : 0;
    }
    errno = error != 0 ? error : EMFILE;
    return -1;
}

int
mpe__ticket_fetch(uint64_t arena, const struct mpe__ticket *t, int once, int *fd)
{
    struct question q = {arena, t->number, once ? TAKE : FETCH, 0};
    int pair[2];
    if (serve_own(arena, t, q.what, fd))
        return *fd < 0 ? -1 : 0;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair) != 0)
        return -1;
    int rc = ask(t, &q, pair[1]);
    mpe__fd_close(pair[1]);
    if (rc == 0)
        rc = hear(pair[0], fd);
    else if (errno == ECONNREFUSED || errno == ENOENT)
        errno = ESTALE;
    mpe__fd_close(pair[0]);
    return rc;
}

void
mpe__ticket_release(uint64_t arena, const struct mpe__ticket *t, int by)
{
    struct question q = {arena, t->number, RELEASE, 0};
    int fd;
    if (serve_own(arena, t, RELEASE, &fd))
        return;
    if (ask_by(by, t, &q, -1, MSG_DONTWAIT) != 0 && errno == EAGAIN)
        ask(t, &q, -1);
}
