/* SPDX-License-Identifier: MIT */
/* Gates between programs, and memory files by name.
 *
 * A gate is a name in the abstract namespace that one process at a time has bound and listens on.
 * Others connect to it, which needs no accept, and sleep until the connection ends: when the first
 * one closes its socket, or dies. Nothing is in the file system, and nothing is left.
 *
 * A memory file is found by the links of /proc/PID/fd of the user's own processes, and opened
 * anew there. So it needs no server: it can be found exactly as long as a process has it open.
 */
#include "os/os.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "mpengine_core.h"

static socklen_t
address_of(struct sockaddr_un *a, const char *name)
{
    a->sun_family = AF_UNIX;
    a->sun_path[0] = '\0';
    int n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "%s-%u", name, (unsigned)geteuid());
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

static int
new_socket(void)
{
    return mpe_fd_lift(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

/* Is what this socket is connected to another user's? */
static int
is_foreign(int fd)
{
    struct ucred peer;
    socklen_t size = sizeof peer;
    return getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size) == 0 && peer.uid != geteuid();
}

/* Sleeps until the process that has the gate leaves it. 0: try again. */
static int
wait_outside(const struct sockaddr_un *a, socklen_t n)
{
    int fd = new_socket(), rc = 0, error = 0;
    if (fd < 0)
        return -1;
    if (connect(fd, (const struct sockaddr *)a, n) != 0) {
        sched_yield(); /* it has bound the name and does not listen yet, or has just left */
    } else if (is_foreign(fd)) {
        rc = -1;
        error = EPERM;
    } else {
        struct pollfd p = {.fd = fd, .events = POLLIN};
        while (poll(&p, 1, -1) < 0 && errno == EINTR)
            ;
    }
    close(fd);
    errno = error;
    return rc;
}

int
mpe__gate_enter(const char *name)
{
    struct sockaddr_un a;
    socklen_t n = address_of(&a, name);
    for (;;) {
        int fd = new_socket();
        if (fd < 0)
            return -1;
        if (bind(fd, (struct sockaddr *)&a, n) == 0 && listen(fd, SOMAXCONN) == 0)
            return fd;
        int error = errno;
        close(fd);
        errno = error;
        if (error != EADDRINUSE || wait_outside(&a, n) != 0)
            return -1;
    }
}

/* ---- memory files ---- */

struct quest {
    char link[300]; /* what the links are */
    int (*visit)(void *ud, int fd);
    void *ud;
};

/* 1 when visit has taken it. */
static int
try_file(const struct quest *q, const char *path)
{
    char link[300];
    struct stat st;
    ssize_t n = readlink(path, link, sizeof link - 1);
    if (n < 0)
        return 0;
    link[n] = '\0';
    if (strcmp(link, q->link) != 0)
        return 0;
    int fd = mpe_fd_lift(open(path, O_RDWR | O_CLOEXEC));
    if (fd < 0)
        return 0;
    if (fstat(fd, &st) == 0 && st.st_uid == geteuid() && q->visit(q->ud, fd))
        return 1;
    close(fd);
    return 0;
}

/* The files of one process. */
static int
search_process(const struct quest *q, const char *pid)
{
    char path[64];
    struct stat st;
    struct dirent *entry;
    int taken = 0;
    snprintf(path, sizeof path, "/proc/%.20s/fd", pid);
    DIR *dir = stat(path, &st) == 0 && st.st_uid == geteuid() ? opendir(path) : NULL;
    while (dir && !taken && (entry = readdir(dir)) != NULL) {
        char file[96];
        snprintf(file, sizeof file, "%s/%.20s", path, entry->d_name);
        taken = try_file(q, file);
    }
    if (dir)
        closedir(dir);
    return taken;
}

int
mpe__memfd_find(const char *name, int (*visit)(void *ud, int fd), void *ud)
{
    struct quest q = {.visit = visit, .ud = ud};
    struct dirent *entry;
    int taken = 0;
    snprintf(q.link, sizeof q.link, "/memfd:%s (deleted)", name);
    DIR *dir = opendir("/proc");
    if (!dir)
        return -1;
    while (!taken && (entry = readdir(dir)) != NULL)
        if (entry->d_name[0] >= '1' && entry->d_name[0] <= '9')
            taken = search_process(&q, entry->d_name);
    closedir(dir);
    return taken;
}
