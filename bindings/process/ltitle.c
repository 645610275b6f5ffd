/* SPDX-License-Identifier: MIT
 *
 * ltitle.c - lists of processes show the name of a child: in place of its first argument, where the
 * system reads the arguments of a process. The further ones follow, as far as there is room: it is
 * that of the arguments that the program was started with. A program that is started for a child
 * has arguments of the library's, which are not shown.
 *
 * No code of a Lua program reads these bytes any more. A host's may, so a host's are left alone.
 * They are written by a call that fails where they cannot be, and then nothing is shown. */
#include "base/lmodules.h"
#include "process/lprocess.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

#define ARGUMENTS 48 /* the field of /proc/self/stat where they begin; the next one is their end */
#define FIRST 3      /* the field behind the name of the program */
#define STAT_MAX 2048
#define BYTES_MAX 4096 /* bytes of arguments; of longer ones nothing is shown */

static struct {
    int was_sought;
    char *at; /* where the system reads them; NULL: unknown */
    size_t size;
    char *rest; /* from the second argument on; none: size 0 */
    size_t rest_size;
} arguments;

static size_t
read_stat(char *text)
{
    int fd = open("/proc/self/stat", O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? 0 : read(fd, text, STAT_MAX - 1);
    if (fd >= 0)
        close(fd);
    text[n > 0 ? n : 0] = '\0';
    return n > 0 ? (size_t)n : 0;
}

/* Where they begin and end, 0: unknown. */
static void
find_arguments(uintptr_t *from, uintptr_t *to)
{
    char text[STAT_MAX], *at;
    *from = *to = 0;
    read_stat(text);
    at = strrchr(text, ')');
    for (int field = FIRST; at && field <= ARGUMENTS; field++)
        at = strchr(at + 1, ' ');
    if (!at)
        return;
    *from = strtoull(at, &at, 10);
    *to = strtoull(at, &at, 10);
}

void
lmpe_title_prepare(lmpe *S)
{
    uintptr_t from, to;
    int alive;
    if (arguments.was_sought || S->is_host)
        return;
    arguments.was_sought = 1;
    find_arguments(&from, &to);
    if (from == 0 || to <= from + 1 || to - from > BYTES_MAX)
        return;
    size_t size = to - from;
    arguments.rest = malloc(size);
    if (!arguments.rest)
        return;
    arguments.at = (char *)from;
    arguments.size = size;
    memcpy(arguments.rest, arguments.at, size);
    char *end = memchr(arguments.rest, '\0', size);
    if (end && mpe_parent_pid(S->e, &alive) == 0) {
        arguments.rest_size = size - (size_t)(end + 1 - arguments.rest);
        arguments.rest = end + 1;
    }
}

void
lmpe_title_show(lmpe *S)
{
    int alive;
    char shown[BYTES_MAX];
    if (S->is_host || mpe_parent_pid(S->e, &alive) == 0)
        return;
    lmpe_title_prepare(S);
    if (!arguments.at)
        return;
    const char *name = mpe_self_name(S->e);
    size_t room = arguments.size - 1, n = strlen(name);
    n = n < room ? n : room;
    memset(shown, 0, arguments.size);
    memcpy(shown, name, n);
    size_t behind = n + 1 < room ? room - (n + 1) : 0;
    if (behind > 0)
        memcpy(shown + n + 1, arguments.rest,
               behind < arguments.rest_size ? behind : arguments.rest_size);
    struct iovec from = {shown, arguments.size}, to = {arguments.at, arguments.size};
    (void)!process_vm_writev(getpid(), &from, 1, &to, 1, 0);
}

static void
show(lua_State *L, lmpe *S)
{
    (void)L;
    lmpe_title_show(S);
}

const lmpe_module lmpe_title_module = {.open = show, .forked = show};
