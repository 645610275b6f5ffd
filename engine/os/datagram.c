/* Doorbell sockets. A name in the abstract namespace is derived from (arena, slot, generation).
 * So any process can ring any other without a descriptor being passed, and the name disappears
 * with its owner. The content of a datagram is never examined: a stranger can cause a spurious
 * wake and nothing else. */
#include "os/os.h"

#include "mpengine_core.h"

#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/un.h>

static socklen_t
address_of(struct sockaddr_un *a, uint64_t nonce, uint32_t slot, uint32_t generation)
{
    a->sun_family = AF_UNIX;
    a->sun_path[0] = '\0';
    int n = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "mpengine-%016llx-%u-%u",
                     (unsigned long long)nonce, slot, generation);
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)n);
}

int
mpe__datagram_open(uint64_t nonce, uint32_t slot, uint32_t generation)
{
    int fd = mpe_fd_lift(socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
    struct sockaddr_un a;
    socklen_t n = address_of(&a, nonce, slot, generation);
    if (fd >= 0 && bind(fd, (struct sockaddr *)&a, n) == 0)
        return fd;
    mpe__fd_close(fd);
    return -1;
}

void
mpe__datagram_ring(int fd, uint64_t nonce, uint32_t slot, uint32_t generation)
{
    struct sockaddr_un a;
    socklen_t n = address_of(&a, nonce, slot, generation);
    while (sendto(fd, "!", 1, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&a, n) < 0 &&
           errno == EINTR)
        ;
}

void
mpe__datagram_drain(int fd)
{
    char byte;
    while (recv(fd, &byte, 1, MSG_DONTWAIT) >= 0 || errno == EINTR)
        ;
}
