/* The memory file behind an arena. It lives only in the processes that have it open, so nothing is
 * left when the last one is killed. F_SEAL_SHRINK: nobody can cut pages away under a mapping, and
 * pages are committed by fallocate before use, so running out is an error code and never SIGBUS. */
#include "os/os.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif

int
mpe__memfd_create(const char *name, uint64_t bytes)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* kernels before 6.3 */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    if (fd < 0)
        return -1;
    if (ftruncate(fd, (off_t)bytes) != 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) != 0) {
        int saved = errno;
        close(fd);
        errno = saved;
        return -1;
    }
    return fd;
}

void *
mpe__memfd_map(int fd, uint64_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE, fd, 0);
    if (base == MAP_FAILED)
        return NULL;
    madvise(base, bytes, MADV_DONTDUMP);
    return base;
}

void
mpe__memfd_unmap(void *base, uint64_t bytes)
{
    munmap(base, bytes);
}

int
mpe__memfd_commit(int fd, uint64_t offset, uint64_t bytes)
{
    int rc;
    do
        rc = fallocate(fd, 0, (off_t)offset, (off_t)bytes);
    while (rc != 0 && errno == EINTR);
    return rc;
}

int
mpe__memfd_release(void *base, uint64_t offset, uint64_t bytes)
{
    return madvise((char *)base + offset, bytes, MADV_REMOVE);
}
