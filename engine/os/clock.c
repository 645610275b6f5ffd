/* The clocks. */
#include "os/os.h"

#include "mpengine_core.h"

#include <time.h>

uint64_t
mpe_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * MPE_NS_PER_S + (uint64_t)t.tv_nsec;
}

uint64_t
mpe__wall_now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return (uint64_t)t.tv_sec * MPE_NS_PER_S + (uint64_t)t.tv_nsec;
}
