/* Descriptors. The numbers 0, 1 and 2 belong to the standard files of the program, even while
 * they are closed: a descriptor of the engine with such a number would be read by io.read and
 * written to by print. So each descriptor of the engine is above them. While a library makes
 * some of its own (libuv's loop, libcurl), the missing standard numbers are held by an eventfd,
 * which needs no file system. */
#include "os/os.h"

#include "mpengine_core.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/eventfd.h>
#include <unistd.h>

#define FIRST_OWN (STDERR_FILENO + 1)

int
mpe__fd_copy(int fd)
{
    int copy = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_OWN);
    if (copy < 0 && errno == EINVAL) /* even that number is not allowed */
        errno = EMFILE;
    return copy;
}

int
mpe_fd_lift(int fd)
{
    if (fd < 0 || fd >= FIRST_OWN)
        return fd;
    int lifted = mpe__fd_copy(fd);
    mpe__fd_close(fd);
    return lifted;
}

void
mpe__fd_close(int fd)
{
    int saved = errno;
    if (fd >= 0)
        close(fd);
    errno = saved;
}

int
mpe__fd_room(int fd, int count)
{
    int copies[MPE__FD_ROOM_MAX], n = 0;
    while (n < count && (copies[n] = mpe__fd_copy(fd)) >= 0)
        n++;
    for (int i = 0; i < n; i++)
        mpe__fd_close(copies[i]);
    return n == count ? 0 : -1;
}

int
mpe_pipe(int ends[2])
{
    int made[2];
    if (pipe2(made, O_CLOEXEC) != 0)
        return -1;
    made[0] = mpe_fd_lift(made[0]);
    made[1] = mpe_fd_lift(made[1]);
    if (made[0] < 0 || made[1] < 0) {
        mpe__fd_close(made[0]);
        mpe__fd_close(made[1]);
        return -1;
    }
    ends[0] = made[0];
    ends[1] = made[1];
    return 0;
}

/* A new descriptor has the lowest free number, so the first one above 2 shows that none is
 * missing. */
unsigned
mpe_standard_hold(void)
{
    unsigned held = 0;
    int fd;
    while ((fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK)) >= 0 && fd < FIRST_OWN)
        held |= 1u << fd;
    mpe__fd_close(fd);
    return held;
}

void
mpe_standard_release(unsigned held)
{
    for (int fd = 0; fd < FIRST_OWN; fd++)
        if (held & 1u << fd)
            mpe__fd_close(fd);
}
