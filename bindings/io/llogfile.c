/* SPDX-License-Identifier: MIT
 *
 * llogfile.c - a file of log lines that several processes may write, each with a file of its own here.
 * A line is written under the lock of the open file (flock), which the kernel releases with its
 * process. The one that finds the file full renames it; the others see then that the path is another
 * file, and open that. So does a file that another program has moved away.
 *
 * A process that dies between two renames leaves a gap in the numbers of the old files. One that is
 * killed in the middle of a line leaves a part of it, which the next line does not continue. A forked
 * child closes its copies at once: they would keep the lock of a process that is killed.
 */
#include "base/lfinalize.h"
#include "base/lsystem.h"
#include "base/lmpe.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#define LOGFILE "mpengine.logfile"
#define NUMBER_CHARACTERS 24

struct lmpe_logfile {
    int fd;          /* -1: closed, or it could not be opened again */
    off_t whole;     /* at this size its last byte is the end of a line */
    lua_Integer max; /* bytes, 0: it has no bound */
    lua_Integer keep;
    char *path;
    struct lmpe_logfile *next, **link; /* of the state */
};

static void
close_file(struct lmpe_logfile *f)
{
    if (f->fd >= 0)
        close(f->fd);
    f->fd = -1;
}

/* An errno. */
static int
open_file(struct lmpe_logfile *f)
{
    f->fd = mpe_fd_lift(open(f->path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0666));
    f->whole = 0;
    return f->fd < 0 ? errno : 0;
}

/* A file system without locks has none. */
static void
lock(int fd)
{
    while (flock(fd, LOCK_EX) != 0 && errno == EINTR)
        ;
}

/* Opens it, unless it is, and locks it: the one that the path names now. An errno. */
static int
lock_file(struct lmpe_logfile *f, struct stat *now)
{
    for (;;) {
        struct stat named;
        int rc = f->fd >= 0 ? 0 : open_file(f);
        if (rc != 0)
            return rc;
        lock(f->fd);
        if (fstat(f->fd, now) != 0)
            return errno;
        if (stat(f->path, &named) == 0 && named.st_ino == now->st_ino &&
            named.st_dev == now->st_dev)
            return 0;
        close_file(f);
    }
}

/* path.2 becomes path.3, path.1 path.2, path path.1. An errno: the file has still its name. */
static int
rotate(const struct lmpe_logfile *f)
{
    char from[PATH_MAX], to[PATH_MAX];
    if (f->keep == 0)
        return unlink(f->path) == 0 ? 0 : errno;
    if (strlen(f->path) + NUMBER_CHARACTERS > sizeof to)
        return ENAMETOOLONG;
    for (lua_Integer n = f->keep; n > 1; n--) { /* one that is not there is left out */
        snprintf(to, sizeof to, "%s." LUA_INTEGER_FMT, f->path, n);
        snprintf(from, sizeof from, "%s." LUA_INTEGER_FMT, f->path, n - 1);
        (void)rename(from, to);
    }
    snprintf(to, sizeof to, "%s.1", f->path);
    return rename(f->path, to) == 0 ? 0 : errno;
}

/* Does the file end in a part of a line? */
static int
ends_torn(struct lmpe_logfile *f, off_t size)
{
    char last = '\n';
    if (size == f->whole)
        return 0;
    int fd = mpe_fd_lift(open(f->path, O_RDONLY | O_CLOEXEC));
    if (fd < 0)
        return 0;
    ssize_t n = pread(fd, &last, 1, size - 1);
    close(fd);
    return n == 1 && last != '\n';
}

/* All of it. An errno. */
static int
write_parts(int fd, struct iovec *parts, int count)
{
    while (count > 0) {
        ssize_t n = writev(fd, parts, count);
        if (n < 0 && errno != EINTR)
            return errno;
        for (size_t left = n > 0 ? (size_t)n : 0; count > 0; parts++, count--) {
            if (left < parts->iov_len) {
                parts->iov_base = (char *)parts->iov_base + left;
                parts->iov_len -= left;
                break;
            }
            left -= parts->iov_len;
        }
    }
    return 0;
}

/* The kernel would send SIGXFSZ. */
static int
exceeds_limit(off_t size)
{
    struct rlimit most;
    return getrlimit(RLIMIT_FSIZE, &most) == 0 && most.rlim_cur != RLIM_INFINITY &&
           (rlim_t)size > most.rlim_cur;
}

/* In the file that is locked. What was written of a line that has no room is taken away. An errno. */
static int
append(struct lmpe_logfile *f, const struct stat *now, const char *line, size_t size)
{
    char end[] = "\n";
    int is_file = S_ISREG(now->st_mode), torn = is_file && ends_torn(f, now->st_size);
    off_t after = now->st_size + torn + (off_t)size + 1;
    struct iovec parts[] = {{end, (size_t)torn}, {(void *)(uintptr_t)line, size}, {end, 1}};
    if (is_file && exceeds_limit(after))
        return EFBIG;
    int rc = write_parts(f->fd, parts, 3);
    if (rc == 0)
        f->whole = after;
    else if (is_file && ftruncate(f->fd, now->st_size) != 0)
        f->whole = 0;
    return rc;
}

static int
is_over(const struct lmpe_logfile *f, const struct stat *now, size_t size)
{
    return f->max > 0 && S_ISREG(now->st_mode) && now->st_size > 0 &&
           now->st_size + (off_t)size + 1 > f->max;
}

/* Writes the line, also when the file cannot begin anew, which is then the error. An errno. */
static int
write_line(struct lmpe_logfile *f, const char *line, size_t size)
{
    struct stat now;
    int refused = 0, rc = lock_file(f, &now);
    while (rc == 0 && !refused && is_over(f, &now, size)) {
        refused = rotate(f);
        if (refused == 0)
            rc = lock_file(f, &now); /* another one by now */
    }
    if (rc == 0)
        rc = append(f, &now, line, size);
    if (f->fd >= 0)
        flock(f->fd, LOCK_UN);
    return rc ? rc : refused;
}

/* ---- for mpengine/log/handlers.lua ---- */

static struct lmpe_logfile *
check_file(lua_State *L)
{
    struct lmpe_logfile *f = luaL_checkudata(L, 1, LOGFILE);
    luaL_argcheck(L, f->path, 1, "the file is closed");
    return f;
}

/* logfile(path, max, keep) -> a file | nil, message: appends; max: bytes or 0 */
static int
logfile(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    const char *path = luaL_checkstring(L, 1);
    struct lmpe_logfile *f = lua_newuserdatauv(L, sizeof *f, 0);
    *f = (struct lmpe_logfile){
        .fd = -1, .max = luaL_checkinteger(L, 2), .keep = luaL_checkinteger(L, 3)};
    luaL_setmetatable(L, LOGFILE);
    if (!(f->path = strdup(path)))
        return luaL_error(L, "out of memory");
    f->next = S->logfiles;
    f->link = &S->logfiles;
    if (f->next)
        f->next->link = &f->next;
    S->logfiles = f;
    errno = open_file(f);
    return errno == 0 ? 1 : lmpe_fileresult(L, 0, path);
}

/* logfile_write(file, line) -> true | nil, message */
static int
logfile_write(lua_State *L)
{
    struct lmpe_logfile *f = check_file(L);
    size_t size;
    const char *line = luaL_checklstring(L, 2, &size);
    errno = write_line(f, line, size);
    return lmpe_fileresult(L, errno == 0, f->path);
}

/* logfile_close(file): a second time it does nothing */
static int
logfile_close(lua_State *L)
{
    struct lmpe_logfile *f = luaL_checkudata(L, 1, LOGFILE);
    close_file(f);
    if (!f->path)
        return 0;
    free(f->path);
    f->path = NULL;
    *f->link = f->next;
    if (f->next)
        f->next->link = f->link;
    return 0;
}

static int
logfile_gc(lua_State *L)
{
    return lmpe_finalized(L, LOGFILE, sizeof(struct lmpe_logfile)) ? logfile_close(L) : 0;
}

static void
on_fork(lua_State *L, lmpe *S)
{
    (void)L;
    for (struct lmpe_logfile *f = S->logfiles; f; f = f->next)
        close_file(f);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"logfile", logfile},
                                         {"logfile_write", logfile_write},
                                         {"logfile_close", logfile_close},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, LOGFILE);
    lua_pushcfunction(L, logfile_gc);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

const lmpe_module lmpe_logfile_module = {.open = on_open, .forked = on_fork};
