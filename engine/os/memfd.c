/* The memory file of an arena. It exists only in the processes that have it open, so nothing is
 * left when the last one is killed. With F_SEAL_SHRINK no process can remove pages from under a
 * mapping. Pages are committed by fallocate before use, so running out of memory is an error
 * code and never SIGBUS. */
#include "os/os.h"

#include "base/defs.h"
#include "mpengine_core.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/mman.h>
#include <unistd.h>

#ifndef MFD_NOEXEC_SEAL
#define MFD_NOEXEC_SEAL 0x0008U
#endif
#ifndef MADV_COLLAPSE
#define MADV_COLLAPSE 25
#endif

int
mpe__memfd_create(const char *name, uint64_t bytes)
{
    int fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING | MFD_NOEXEC_SEAL);
    if (fd < 0 && errno == EINVAL) /* kernels before 6.3 */
        fd = memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING);
    fd = mpe_fd_lift(fd);
    if (fd >= 0 && ftruncate(fd, (off_t)bytes) == 0 && fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK) == 0)
        return fd;
    mpe__fd_close(fd);
    return -1;
}

/* The address is a multiple of a large page, since only aligned parts of the file can become
 * one. */
void *
mpe__memfd_map(int fd, uint64_t bytes)
{
    uint8_t *room = mmap(NULL, bytes + MPE__LARGE_PAGE, PROT_NONE,
                         MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED)
        return NULL;
    uint8_t *base = (uint8_t *)mpe__round_up((uintptr_t)room, MPE__LARGE_PAGE);
    munmap(base + bytes, (size_t)(room + MPE__LARGE_PAGE - base));
    if (base > room)
        munmap(room, (size_t)(base - room));
    if (mmap(base, bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_NORESERVE | MAP_FIXED, fd, 0) ==
        MAP_FAILED) {
        munmap(base, bytes);
        return NULL;
    }
    madvise(base, bytes, MADV_DONTDUMP);
    return base;
}

void *
mpe__memfd_view(int fd, uint64_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ, MAP_SHARED | MAP_NORESERVE, fd, 0);
    return base == MAP_FAILED ? NULL : base;
}

void *
mpe__memfd_part(int fd, uint64_t offset, uint64_t bytes)
{
    void *base = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, (off_t)offset);
    if (base == MAP_FAILED)
        return NULL;
    madvise(base, bytes, MADV_DONTDUMP);
    return base;
}

void *
mpe__memfd_rewrite(int fd, uint64_t bytes)
{
    char path[32];
    snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
    int writable = open(path, O_RDWR | O_CLOEXEC);
    void *base = writable < 0 ? NULL : mpe__memfd_part(writable, 0, bytes);
    mpe__fd_close(writable);
    return base;
}

void
mpe__memfd_empty(int fd, uint64_t bytes)
{
    if (fd >= 0)
        fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, (off_t)bytes);
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

void
mpe__memfd_join(void *base, uint64_t offset, uint64_t bytes)
{
    uint64_t first = mpe__round_up(offset, MPE__LARGE_PAGE);
    uint64_t end = (offset + bytes) / MPE__LARGE_PAGE * MPE__LARGE_PAGE;
    if (first < end)
        madvise((char *)base + first, end - first, MADV_COLLAPSE);
}
