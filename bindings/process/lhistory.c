/* SPDX-License-Identifier: MIT
 *
 * lhistory.c - the file that keeps what was typed in the interactive mode, a line for each entry. Several
 * programs append to it at a time, each under a lock of the file, so no line is torn. A file that has
 * grown too long loses its older half: what is kept is written to the front, and then the file is cut.
 * A process that is killed in between leaves all of it, or some lines twice; one that is killed while it
 * appends, a part of its line, after which the next one begins a new line.
 */
#include "base/lmpe.h"
#include "base/lsystem.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define FILE_MAX (256 << 10) /* bytes */
#define FILE_KEPT (FILE_MAX / 2)

/* Makes the directories of a path, for the user alone. */
static void
make_directories(const char *path)
{
    char *copy = strdup(path);
    for (char *at = copy; at && (at = strchr(at + 1, '/'));) {
        *at = '\0';
        if (mkdir(copy, 0700) != 0 && errno != EEXIST)
            break;
        *at = '/';
    }
    free(copy);
}

/* A pipe is not waited for. */
static int
open_locked(const char *path, int flags, int lock)
{
    flags |= O_CLOEXEC | O_NONBLOCK;
    int fd = open(path, flags, 0600);
    if (fd < 0 && errno == ENOENT && flags & O_CREAT) {
        make_directories(path);
        fd = open(path, flags, 0600);
    }
    if (fd >= 0 && flock(fd, lock) != 0) {
        close(fd);
        fd = -1;
    }
    return fd;
}

/* Moves the end of the file, from a whole line on, to the front. */
static void
drop_the_older_half(int fd, off_t size)
{
    char *kept = malloc(FILE_KEPT);
    ssize_t n = kept ? pread(fd, kept, FILE_KEPT, size - FILE_KEPT) : -1;
    const char *line = n > 0 ? memchr(kept, '\n', (size_t)n) : NULL;
    size_t left = line ? (size_t)(kept + n - line - 1) : 0;
    if (left > 0 && pwrite(fd, line + 1, left, 0) == (ssize_t)left &&
        ftruncate(fd, (off_t)left) != 0)
        errno = 0; /* longer than it need be */
    free(kept);
}

static int
append(int fd, const char *line, size_t n)
{
    char last = '\n';
    off_t size = lseek(fd, 0, SEEK_END);
    if (size < 0 || (size > 0 && pread(fd, &last, 1, size - 1) != 1))
        return -1;
    if (last != '\n' && write(fd, "\n", 1) != 1)
        return -1;
    if (write(fd, line, n) != (ssize_t)n)
        return -1;
    if (size + (off_t)n > FILE_MAX)
        drop_the_older_half(fd, size + (off_t)n);
    return 0;
}

/* history_append(path, line): the line ends in a newline -> true; or nil and why not */
static int
history_append(lua_State *L)
{
    size_t n;
    const char *path = luaL_checkstring(L, 1), *line = luaL_checklstring(L, 2, &n);
    int fd = open_locked(path, O_RDWR | O_CREAT, LOCK_EX);
    int failed = fd < 0 || append(fd, line, n) != 0;
    int error = errno;
    if (fd >= 0)
        close(fd);
    errno = error;
    return lmpe_fileresult(L, !failed, path);
}

/* Other files may have no end. */
static int
is_file(int fd)
{
    struct stat st;
    return fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
}

/* history_read(path) -> the text of the file, "" when there is none */
static int
history_read(lua_State *L)
{
    luaL_Buffer text;
    ssize_t n = 0;
    int fd = open_locked(luaL_checkstring(L, 1), O_RDONLY, LOCK_SH), reads = is_file(fd);
    luaL_buffinit(L, &text);
    while (reads && (n = read(fd, luaL_prepbuffer(&text), LUAL_BUFFERSIZE)) > 0)
        luaL_addsize(&text, (size_t)n);
    if (fd >= 0)
        close(fd);
    luaL_pushresult(&text);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"history_append", history_append}, {"history_read", history_read}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_history_module = {.open = on_open};
