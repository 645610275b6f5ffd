/* Process identity in the kernel, and two facts about the machine. */
#include "os/os.h"

#include "mpengine_core.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

int
mpe__pidfd_open(pid_t pid)
{
    return mpe_fd_lift((int)syscall(SYS_pidfd_open, pid, 0));
}

#define PIDFD_THREAD_FLAG O_EXCL /* its name is newer than some headers */

int
mpe__pidfd_open_thread(pid_t pid, pid_t thread)
{
    int fd = mpe_fd_lift((int)syscall(SYS_pidfd_open, thread, PIDFD_THREAD_FLAG));
    return fd < 0 && errno == EINVAL && thread == pid ? mpe__pidfd_open(pid) : fd;
}

int
mpe__pidfds_are_refused(void)
{
    static _Atomic int known = -1;
    if (known >= 0)
        return known;
    int fd = mpe__pidfd_open(getpid());
    if (fd >= 0 || (errno != EMFILE && errno != ENFILE)) /* otherwise try again later */
        known = fd < 0;
    mpe__fd_close(fd);
    return known > 0;
}

int
mpe__process_is_over(pid_t pid)
{
    struct pollfd fd = {.fd = mpe__pidfd_open(pid), .events = POLLIN};
    if (fd.fd < 0)
        return errno == ESRCH || (kill(pid, 0) != 0 && errno == ESRCH);
    int is_over = poll(&fd, 1, 0) > 0;
    close(fd.fd);
    return is_over;
}

uint32_t
mpe_cpu_count(void)
{
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) == 0)
        return (uint32_t)CPU_COUNT(&set);
    long n = sysconf(_SC_NPROCESSORS_ONLN);
    return n > 0 ? (uint32_t)n : 1;
}

uint32_t
mpe__processor(void)
{
    int cpu = sched_getcpu();
    return cpu < 0 ? 0 : (uint32_t)cpu;
}

uint64_t
mpe__random64(void)
{
    uint64_t v;
    if (getrandom(&v, sizeof v, 0) != (ssize_t)sizeof v)
        v = mpe_now() * 0x9E3779B97F4A7C15ull ^ (uint64_t)getpid();
    return v;
}

void
mpe__process_show_name(const char *name)
{
    prctl(PR_SET_NAME, name);
}
