/* SPDX-License-Identifier: MIT
 *
 * Preloaded by a spec into a server: fdatasync takes SLOW_SYNC milliseconds longer, as on a slow disk. */
#include <dlfcn.h>
#include <stdlib.h>
#include <unistd.h>

int
fdatasync(int fd)
{
    int (*real)(int);
    const char *ms = getenv("SLOW_SYNC");
    *(void **)&real = dlsym(RTLD_NEXT, "fdatasync");
    if (ms)
        usleep((useconds_t)atoi(ms) * 1000);
    return real(fd);
}
