/* The clocks. */
#include "os/os.h"

#include "mpengine_core.h"
#include "os/ticks.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

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

/* The C library's timer_create may allocate. */
int
mpe__end_after(uint64_t ns)
{
    struct sigevent how = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGKILL};
    struct itimerspec when = {.it_value = {(time_t)(ns / MPE_NS_PER_S), (long)(ns % MPE_NS_PER_S)}};
    int timer;
    if (syscall(SYS_timer_create, CLOCK_MONOTONIC, &how, &timer) != 0)
        return -1;
    return (int)syscall(SYS_timer_settime, timer, 0, &when, NULL);
}

int
mpe__ticks_are_kept(void)
{
    char source[32] = "";
    FILE *f = fopen("/sys/devices/system/clocksource/clocksource0/current_clocksource", "re");
    if (!f)
        return 0;
    if (fscanf(f, "%31s", source) != 1)
        source[0] = '\0';
    fclose(f);
    return source[0] && strcmp(source, MPE__TICKS_SOURCE) == 0;
}
