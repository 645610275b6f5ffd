/* SPDX-License-Identifier: MIT
 *
 * ldescriptors.c - the inherited descriptors that a pool's worker does not keep after a fork:
 * sockets, and the pipes to programs that its parent runs. While a copy is open, the other side
 * sees no end of file, however often the parent closes its own.
 *
 * The numbers stay occupied, by /dev/null: objects of the parent, of which the worker has
 * copies, will close them some day, and must not close a new descriptor in their place. The
 * engine's own sockets are closed by then, and made anew when they are needed.
 */
#include "io/ldescriptors.h"

#include <dirent.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define STANDARD 3
#define NUMBERS 4096 /* pipes with larger numbers are not recorded */

static unsigned char pipes[NUMBERS]; /* is the descriptor a pipe to a program? */

void
lmpe_note_pipe(int fd, int is_open)
{
    if (fd >= 0 && fd < NUMBERS)
        pipes[fd] = is_open != 0;
}

static int
is_for_the_parent(int fd)
{
    struct stat st;
    return (fd < NUMBERS && pipes[fd]) || (fstat(fd, &st) == 0 && S_ISSOCK(st.st_mode));
}

static void
give_up(int fd, int null)
{
    if (fd < STANDARD || fd == null || !is_for_the_parent(fd))
        return;
    lmpe_note_pipe(fd, 0);
    if (null < 0 || dup3(null, fd, O_CLOEXEC) < 0)
        close(fd);
}

static void
give_up_up_to_the_limit(int null)
{
    struct rlimit limit;
    int n = getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < NUMBERS ? (int)limit.rlim_cur
                                                                              : NUMBERS;
    for (int fd = STANDARD; fd < n; fd++)
        give_up(fd, null);
}

/* drop_inherited() */
static int
drop_inherited(lua_State *L)
{
    DIR *dir = opendir("/proc/self/fd");
    int null = mpe_fd_lift(open("/dev/null", O_RDWR | O_CLOEXEC));
    (void)L;
    if (!dir)
        give_up_up_to_the_limit(null);
    for (struct dirent *d; dir && (d = readdir(dir));)
        if (d->d_name[0] != '.')
            give_up(atoi(d->d_name), null);
    if (dir)
        closedir(dir);
    if (null >= 0)
        close(null);
    return 0;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"drop_inherited", drop_inherited}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_descriptors_module = {.open = on_open};
