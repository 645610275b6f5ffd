/* SPDX-License-Identifier: MIT
 *
 * lsubprocess.c - other programs: starting one with pipes, and how it ended.
 * mpengine/subprocess.lua and the popen and execute of mpengine/monkey.lua are made of these.
 *
 * This side's ends of the pipes do not block and are closed by exec. The other side's belong to the
 * program alone. The end of a program is seen by its pidfd, which is readable then.
 */
#include "lmpe.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define STREAMS 3

struct program {
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    int ours[STREAMS], theirs[STREAMS]; /* ends of the pipes, or -1 */
};

/* ---- pipes ---- */

static void
close_all(const int fds[STREAMS])
{
    for (int i = 0; i < STREAMS; i++)
        if (fds[i] >= 0)
            close(fds[i]);
}

static int
open_pipe(struct program *p, int stream)
{
    int ends[2];
    if (mpe_pipe(ends) != 0) /* above the standard ones, which the program's ends are copied to */
        return errno;
    int ours = ends[stream == 0], theirs = ends[stream != 0];
    p->ours[stream] = ours;
    p->theirs[stream] = theirs;
    if (fcntl(ours, F_SETFL, O_NONBLOCK) != 0)
        return errno;
    return posix_spawn_file_actions_adddup2(&p->actions, theirs, stream);
}

#if defined(__GLIBC__) && __GLIBC_PREREQ(2, 34)
static int
close_others(struct program *p)
{
    return posix_spawn_file_actions_addclosefrom_np(&p->actions, STREAMS);
}
#else
static int
close_others(struct program *p)
{
    (void)p;
    return 0;
}
#endif

/* ---- starting ---- */

/* What this program ignores or blocks for its own reasons is not for the new one. What a shell or
 * nohup had it ignore stays ignored. */
static int
set_signals(struct program *p)
{
    static const int own[] = {SIGPIPE, SIGXFSZ, SIGCHLD};
    sigset_t none, defaults;
    sigemptyset(&none);
    sigemptyset(&defaults);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        sigaddset(&defaults, own[i]);
    posix_spawnattr_setsigmask(&p->attributes, &none);
    posix_spawnattr_setsigdefault(&p->attributes, &defaults);
    return posix_spawnattr_setflags(&p->attributes, POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF);
}

/* flags: i, o, e for a pipe to a standard stream, c to close all other descriptors. */
static int
prepare(struct program *p, const char *cwd, const char *flags)
{
    static const char streams[STREAMS] = {'i', 'o', 'e'};
    int rc = set_signals(p);
    for (int i = 0; i < STREAMS && rc == 0; i++)
        if (strchr(flags, streams[i]))
            rc = open_pipe(p, i);
    if (rc == 0 && strchr(flags, 'c'))
        rc = close_others(p);
    if (rc == 0 && cwd)
        rc = posix_spawn_file_actions_addchdir_np(&p->actions, cwd);
    return rc;
}

static int
start(struct program *p, char **argv, char **env, const char *cwd, const char *flags, pid_t *pid)
{
    posix_spawn_file_actions_init(&p->actions);
    posix_spawnattr_init(&p->attributes);
    memset(p->ours, -1, sizeof p->ours);
    memset(p->theirs, -1, sizeof p->theirs);
    int rc = prepare(p, cwd, flags);
    if (rc == 0)
        rc = posix_spawnp(pid, argv[0], &p->actions, &p->attributes, argv, env ? env : environ);
    close_all(p->theirs);
    if (rc != 0)
        close_all(p->ours);
    posix_spawn_file_actions_destroy(&p->actions);
    posix_spawnattr_destroy(&p->attributes);
    return rc;
}

/* The strings of the list at idx, which keeps them, ending in NULL; pushes the memory. */
static char **
push_strings(lua_State *L, int idx)
{
    lua_Integer n = (lua_Integer)lua_rawlen(L, idx);
    char **strings = lua_newuserdatauv(L, ((size_t)n + 1) * sizeof *strings, 0);
    for (lua_Integer i = 0; i < n; i++) {
        lua_rawgeti(L, idx, i + 1);
        strings[i] = (char *)luaL_checkstring(L, -1);
        lua_pop(L, 1);
    }
    strings[n] = NULL;
    return strings;
}

static void
push_fd(lua_State *L, int fd)
{
    if (fd >= 0)
        lua_pushinteger(L, fd);
    else
        luaL_pushfail(L);
}

/* launch(argv, env or nil, cwd or nil, flags) -> pid, pidfd, this side's ends of its stdin, stdout
 * and stderr | nil, message, number. env is a list of "NAME=value". */
static int
launch(lua_State *L)
{
    struct program p;
    pid_t pid;
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *cwd = luaL_optstring(L, 3, NULL), *flags = luaL_checkstring(L, 4);
    char **argv = push_strings(L, 1);
    char **env = lua_isnoneornil(L, 2) ? NULL : push_strings(L, 2);
    luaL_argcheck(L, argv[0], 1, "must have the name of a program");
    int rc = start(&p, argv, env, cwd, flags, &pid);
    if (rc != 0) {
        errno = rc;
        return luaL_fileresult(L, 0, cwd && access(cwd, X_OK) != 0 ? cwd : argv[0]);
    }
    int pidfd = mpe_fd_lift((int)syscall(SYS_pidfd_open, pid, 0));
    lua_pushinteger(L, pid);
    push_fd(L, pidfd);
    for (int i = 0; i < STREAMS; i++)
        push_fd(L, p.ours[i]);
    return 2 + STREAMS;
}

/* reap(pid) -> "exit" | "signal", number; nothing while it runs */
static int
reap(lua_State *L)
{
    pid_t pid = (pid_t)luaL_checkinteger(L, 1), rc;
    int status = 0;
    do
        rc = waitpid(pid, &status, WNOHANG);
    while (rc < 0 && errno == EINTR);
    if (rc == 0)
        return 0;
    int signaled = rc > 0 && WIFSIGNALED(status);
    lua_pushstring(L, signaled ? "signal" : "exit");
    lua_pushinteger(L, signaled ? WTERMSIG(status) : rc > 0 ? WEXITSTATUS(status) : MPE_EXIT_LOST);
    return 2;
}

/* ---- files ---- */

/* What closes a file whose reading and writing are done elsewhere, when nobody has closed it. */
static int
close_stream(lua_State *L)
{
    luaL_Stream *s = lua_touserdata(L, 1);
    return luaL_fileresult(L, fclose(s->f) == 0, NULL);
}

/* stream(fd, mode) -> a file of the io library over the descriptor, which is its own from now on */
static int
stream(lua_State *L)
{
    int fd = (int)luaL_checkinteger(L, 1);
    const char *mode = luaL_checkstring(L, 2);
    luaL_Stream *s = lua_newuserdatauv(L, sizeof *s, 0);
    s->closef = NULL;
    luaL_setmetatable(L, LUA_FILEHANDLE);
    s->f = fdopen(fd, mode);
    if (!s->f)
        return luaL_fileresult(L, 0, NULL);
    s->closef = close_stream;
    return 1;
}

#if defined(__GLIBC__)
static size_t
bytes_buffered(FILE *f)
{
    return (size_t)(f->_IO_read_end - f->_IO_read_ptr);
}
#else
static size_t
bytes_buffered(FILE *f)
{
    (void)f;
    return 0;
}
#endif

/* buffered(file) -> what the C library has read from it and nobody has taken, or nothing */
static int
buffered(lua_State *L)
{
    luaL_Stream *s = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    size_t n = s->closef ? bytes_buffered(s->f) : 0;
    luaL_Buffer b;
    if (n == 0)
        return 0;
    char *to = luaL_buffinitsize(L, &b, n);
    luaL_pushresultsize(&b, fread(to, 1, n, s->f));
    return 1;
}

void
lmpe_open_subprocess(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"launch", launch},
                                         {"reap", reap},
                                         {"stream", stream},
                                         {"buffered", buffered},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}
