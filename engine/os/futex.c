/* Futexes on shared words, by raw system calls (glibc wraps none of them). */
#include "os/os.h"

#include "mpengine_core.h"

#include <errno.h>
#include <linux/futex.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#ifndef SYS_futex_waitv
#define SYS_futex_waitv 449
#endif

struct waitv {
    uint64_t value, address;
    uint32_t flags, reserved;
};
#define WAITV_SIZE_U32 2u

#define FALLBACK_NS 5000000u /* without futex_waitv, the other words are looked at so often */

/* The thread sanitizer keeps a signal until the thread makes a call that it knows, and a wait here is
 * none. So each of them ends as one without futex_waitv does. */
#ifdef __SANITIZE_THREAD__
#define SEES_SIGNALS 0
#else
#define SEES_SIGNALS 1
#endif

/* cleared at the first refusal; every thread gets the same */
static _Atomic int have_waitv = SEES_SIGNALS;

static struct timespec
to_timespec(uint64_t ns)
{
    return (struct timespec){.tv_sec = (time_t)(ns / MPE_NS_PER_S),
                             .tv_nsec = (long)(ns % MPE_NS_PER_S)};
}

void
mpe__futex_wait(mpe__a32 *word, uint32_t value, uint64_t timeout_ns)
{
    struct timespec t = to_timespec(timeout_ns);
    syscall(SYS_futex, word, FUTEX_WAIT, value, timeout_ns == UINT64_MAX ? NULL : &t, NULL, 0);
}

void
mpe__futex_wake(mpe__a32 *word, int count)
{
    syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

static void
wait_one(const struct mpe__futex_wait *w, uint64_t deadline, uint64_t timeout)
{
    if (deadline != UINT64_MAX) {
        uint64_t now = mpe_now(), left = deadline > now ? deadline - now : 0;
        timeout = left < timeout ? left : timeout;
    }
    mpe__futex_wait((mpe__a32 *)w->word, w->value, timeout);
}

void
mpe__futex_wait_any(const struct mpe__futex_wait *words, int count, uint64_t deadline)
{
    if (count == 1 || !have_waitv) {
        wait_one(words, deadline, count == 1 && SEES_SIGNALS ? UINT64_MAX : FALLBACK_NS);
        return;
    }
    struct waitv v[MPE__FUTEX_MAX];
    if (count > MPE__FUTEX_MAX)
        count = MPE__FUTEX_MAX;
    for (int i = 0; i < count; i++)
        v[i] = (struct waitv){words[i].value, (uint64_t)(uintptr_t)words[i].word, WAITV_SIZE_U32,
                              0};
    struct timespec t = to_timespec(deadline);
    long rc = syscall(SYS_futex_waitv, v, count, 0, deadline == UINT64_MAX ? NULL : &t,
                      CLOCK_MONOTONIC);
    if (rc < 0 &&
        (errno == ENOSYS || errno == EPERM)) { /* or a filter of system calls refuses it */
        have_waitv = 0;
        wait_one(words, deadline, FALLBACK_NS);
    }
}
