/* SPDX-License-Identifier: MIT
 *
 * Preloaded by specs: names that end in ".test" are those of this host, and the answer to one with "slow"
 * in it is held back until something writes to the FIFO that SLOW_NAMES names. With NO_THREADS in the
 * environment no thread can be started. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int
getaddrinfo(const char *node, const char *service, const struct addrinfo *hints,
            struct addrinfo **result)
{
    int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
    *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
    const char *gate = getenv("SLOW_NAMES");
    if (node && gate && strstr(node, "slow"))
        close(open(gate, O_RDONLY));
    return real(node && strstr(node, ".test") ? "127.0.0.1" : node, service, hints, result);
}

int
pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*start)(void *), void *arg)
{
    int (*real)(pthread_t *, const pthread_attr_t *, void *(*)(void *), void *);
    *(void **)&real = dlsym(RTLD_NEXT, "pthread_create");
    return getenv("NO_THREADS") ? EAGAIN : real(thread, attr, start, arg);
}
