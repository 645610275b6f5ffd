/* SPDX-License-Identifier: MIT */
/* Processes as /proc shows them to a reader: whose they are, and which memory files they have open.
 * Nothing here writes, and a process that ends meanwhile is one that is not there. */
#include "os/os.h"

#include "mpengine_core.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#define LINK "/memfd:"

int
mpe__processes_are_shown(void)
{
    struct stat st;
    return stat("/proc/self", &st) == 0;
}

long
mpe__process_user(pid_t pid)
{
    char path[32];
    struct stat st;
    snprintf(path, sizeof path, "/proc/%d", (int)pid);
    return stat(path, &st) == 0 ? (long)st.st_uid : -1;
}

/* The file behind a link, if its name begins so; -1. */
static int
open_file(int dir, const char *entry, const char *name)
{
    char link[300];
    ssize_t n = readlinkat(dir, entry, link, sizeof link - 1);
    if (n < 0)
        return -1;
    link[n] = '\0';
    if (strncmp(link, LINK, sizeof LINK - 1) != 0 ||
        strncmp(link + sizeof LINK - 1, name, strlen(name)) != 0)
        return -1;
    return openat(dir, entry, O_RDONLY | O_CLOEXEC);
}

int
mpe__process_files(pid_t pid, const char *name, int (*visit)(void *ud, int fd), void *ud)
{
    char path[32];
    struct dirent *entry;
    int taken = 0;
    snprintf(path, sizeof path, "/proc/%d/fd", (int)pid);
    DIR *dir = opendir(path);
    if (!dir)
        return -1;
    while (!taken && (entry = readdir(dir)) != NULL) {
        int fd = open_file(dirfd(dir), entry->d_name, name);
        if (fd < 0)
            continue;
        taken = visit(ud, fd);
        if (!taken)
            close(fd);
    }
    closedir(dir);
    return taken;
}

int
mpe__process_file(pid_t pid, int number, const char *name)
{
    char path[48], link[300];
    snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)pid, number);
    ssize_t n = readlink(path, link, sizeof link - 1);
    if (n < 0)
        return errno == ENOENT ? MPE__NO_FILE : -1;
    link[n] = '\0';
    if (strncmp(link, LINK, sizeof LINK - 1) != 0 ||
        strncmp(link + sizeof LINK - 1, name, strlen(name)) != 0)
        return MPE__NO_FILE;
    return open(path, O_RDWR | O_CLOEXEC);
}

int
mpe__processes_each(void (*visit)(void *ud, pid_t pid), void *ud)
{
    struct dirent *entry;
    DIR *dir = mpe__processes_are_shown() ? opendir("/proc") : NULL;
    if (!dir)
        return -1;
    while ((entry = readdir(dir)) != NULL) {
        pid_t pid = (pid_t)strtol(entry->d_name, NULL, 10);
        if (pid > 0 && mpe__process_user(pid) == (long)geteuid())
            visit(ud, pid);
    }
    closedir(dir);
    return 0;
}

void
mpe__process_command(char *out, size_t size)
{
    int fd = open("/proc/self/cmdline", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, out, size - 2);
    if (fd >= 0)
        close(fd);
    n = n < 0 ? 0 : n;
    out[n] = out[n + 1] = '\0';
}

int
mpe__thread_signal(pid_t pid, pid_t thread, int number, int value)
{
    siginfo_t info;
    memset(&info, 0, sizeof info);
    info.si_code = SI_QUEUE;
    info.si_pid = getpid();
    info.si_uid = getuid();
    info.si_value.sival_int = value;
    return (int)syscall(SYS_rt_tgsigqueueinfo, pid, thread, number, &info);
}
