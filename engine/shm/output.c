/* Whole writes: one process of the program at a time writes to a descriptor, so lines longer than
 * what a pipe takes at once do not mix. A writer that dies leaves a partial line, and its lock is
 * released by the reaper. */
#include "sync/ilock.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

static int
write_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);
        if (n >= 0) {
            bytes += n;
            size -= (size_t)n;
        } else if (errno == EAGAIN) { /* somebody has made it non-blocking */
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            poll(&p, 1, -1);
        } else if (errno != EINTR) {
            return MPE_ESYS;
        }
    }
    return MPE_OK;
}

int
mpe_write_whole(mpe_engine *e, int fd, const void *bytes, size_t size)
{
    mpe__ilock(e, &e->header->output_lock, 0);
    int rc = write_all(fd, bytes, size);
    int saved = errno;
    mpe__iunlock(e, &e->header->output_lock);
    errno = saved;
    return rc;
}
