/* A counter of the processor, which takes half the time of the clock to read. It may be read a little
 * before the instructions in front of it have ended. */
#ifndef MPE_OS_TICKS_H
#define MPE_OS_TICKS_H

#include <stdint.h>

/* What the kernel calls the counter when it trusts it as its own clock: the same on all processors,
 * and never slower or stopped. */
#if defined(__x86_64__)
#define MPE__TICKS_SOURCE "tsc"
static inline uint64_t
mpe__ticks(void)
{
    return __builtin_ia32_rdtsc();
}
#elif defined(__aarch64__)
#define MPE__TICKS_SOURCE "arch_sys_counter"
static inline uint64_t
mpe__ticks(void)
{
    uint64_t t;
    __asm__ __volatile__("mrs %0, cntvct_el0" : "=r"(t));
    return t;
}
#else
#define MPE__TICKS_SOURCE ""
static inline uint64_t
mpe__ticks(void)
{
    return 0;
}
#endif

/* Does the kernel keep its time by this counter? */
int mpe__ticks_are_kept(void);

#endif
