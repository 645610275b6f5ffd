/* SPDX-License-Identifier: MIT
 *
 * emulated.c - preloaded into programs that run under qemu-user: its own thread is not seen among theirs.
 */
#include <dlfcn.h>
#include <string.h>
#include <sys/stat.h>

int
stat(const char *restrict path, struct stat *restrict st)
{
    int (*next)(const char *,
                struct stat *) = (int (*)(const char *, struct stat *))dlsym(RTLD_NEXT, "stat");
    int rc = next(path, st);
    if (rc == 0 && strcmp(path, "/proc/self/task") == 0)
        st->st_nlink--;
    return rc;
}
