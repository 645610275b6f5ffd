/* SPDX-License-Identifier: MIT
 *
 * lsubprocess.c - other programs: starting one, with pipes or other descriptors as its standard
 * streams, and its exit status. mpengine/subprocess.lua and the popen and execute of
 * mpengine/monkey.lua are built on this.
 *
 * This side's ends of the pipes do not block and are closed by exec. The other side's belong to
 * the program only. A descriptor that is given to a program is made to block, since programs expect
 * that; the flag is one of the open file, so this side's copy blocks too. The exit of a program is
 * seen by its pidfd, which becomes readable. A program ends with the process that started it,
 * whatever ends that process, unless it is detached: the kernel kills it.
 */
#include "io/ldescriptors.h"
#include "base/lsystem.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

#define STREAMS 3
#define PIPE_ROOM (1 << 20) /* what /proc/sys/fs/pipe-max-size allows where it was not changed */

struct program {
    char **argv, **env;
    const char *cwd;     /* or NULL */
    int ours[STREAMS];   /* ends of the pipes, or -1 */
    int theirs[STREAMS]; /* what the program gets, or -1: it inherits */
    int joined;          /* its stderr is its stdout */
    int closes_others, detached;
    pid_t parent;
    volatile int
        failed; /* errno of the new process, which shares this memory until it is the program */
};

/* ---- pipes ---- */

static void
close_all(const int fds[STREAMS])
{
    for (int i = 0; i < STREAMS; i++)
        if (fds[i] >= 0) {
            lmpe_note_pipe(fds[i], 0);
            close(fds[i]);
        }
}

static int
open_pipe(struct program *p, int stream)
{
    int ends[2];
    if (mpe_pipe(ends) != 0) /* above the standard ones, which the program's ends are copied to */
        return errno;
    p->ours[stream] = ends[stream == 0];
    lmpe_note_pipe(p->ours[stream], 1);
    p->theirs[stream] = ends[stream != 0];
    return fcntl(p->ours[stream], F_SETFL, O_NONBLOCK) != 0 ? errno : 0;
}

/* A copy of fd, above the standard ones. */
static int
lend(struct program *p, int stream, int fd)
{
    int flags = fcntl(fd, F_GETFL);
    if (flags < 0)
        return errno;
    p->theirs[stream] = fcntl(fd, F_DUPFD_CLOEXEC, STREAMS);
    if (p->theirs[stream] < 0)
        return errno;
    return flags & O_NONBLOCK && fcntl(fd, F_SETFL, flags & ~O_NONBLOCK) != 0 ? errno : 0;
}

static int
open_null(struct program *p, int stream)
{
    p->theirs[stream] = mpe_fd_lift(open("/dev/null", O_RDWR | O_CLOEXEC));
    return p->theirs[stream] < 0 ? errno : 0;
}

/* ---- the new process ----
 *
 * It runs in the memory of this one, whose thread waits meanwhile: nothing here may change what is not
 * its own, and no handler of this program may run. */

/* Undoes what this program catches, ignores or blocks for its own reasons. Signals that a shell
 * or nohup made it ignore stay ignored. */
static void
set_signals(void)
{
    static const int own[] = {SIGPIPE, SIGXFSZ, SIGCHLD};
    struct sigaction a;
    sigset_t none;
    for (int i = 1; i < NSIG; i++)
        if (sigaction(i, NULL, &a) == 0 && a.sa_handler != SIG_IGN && a.sa_handler != SIG_DFL)
            signal(i, SIG_DFL);
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++)
        signal(own[i], SIG_DFL);
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

static void
close_from(int first)
{
    if (syscall(SYS_close_range, first, ~0u, 0) == 0)
        return;
    long n = sysconf(_SC_OPEN_MAX);
    for (int fd = first; fd < n; fd++)
        close(fd);
}

/* Makes the kernel kill it when its parent ends; fails if the parent is already gone. */
static int
end_with_parent(const struct program *p)
{
    if (prctl(PR_SET_PDEATHSIG, SIGKILL) != 0)
        return errno;
    if (getppid() != p->parent)
        _exit(127);
    return 0;
}

static int
become(struct program *p)
{
    set_signals();
    int rc = p->detached ? 0 : end_with_parent(p);
    if (rc != 0)
        return rc;
    for (int i = 0; i < STREAMS; i++)
        if (p->theirs[i] >= 0 && dup2(p->theirs[i], i) < 0)
            return errno;
    if (p->joined && dup2(1, 2) < 0)
        return errno;
    if (p->closes_others)
        close_from(STREAMS);
    if (p->cwd && chdir(p->cwd) != 0)
        return errno;
    execvpe(p->argv[0], p->argv, p->env);
    return errno;
}

/* ---- starting ---- */

static pid_t
start_process(struct program *p)
{
    pid_t pid = vfork();
    if (pid == 0) {
        p->failed = become(p);
        _exit(127);
    }
    return pid;
}

/* With all signals blocked, so that no handler runs in the shared memory. errno, or 0. */
static int
start_blocked(struct program *p, pid_t *pid)
{
    sigset_t all, before;
    int status;
    p->parent = getpid();
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before);
    *pid = start_process(p);
    int rc = *pid < 0 ? errno : p->failed;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (*pid > 0 && rc != 0)
        while (waitpid(*pid, &status, 0) < 0 && errno == EINTR)
            ;
    return rc;
}

/* What a standard stream of a program is. */
enum { INHERITED = -1, PIPE = -2, NULL_DEVICE = -3 };

static const char *const streams[] = {"inherit", "pipe", "null", NULL};

static int
open_stream(struct program *p, int stream, int what)
{
    switch (what) {
    case INHERITED:
        return 0;
    case PIPE:
        return open_pipe(p, stream);
    case NULL_DEVICE:
        return open_null(p, stream);
    default:
        return lend(p, stream, what);
    }
}

static int
start(struct program *p, const int what[STREAMS], pid_t *pid)
{
    int rc = 0;
    memset(p->ours, -1, sizeof p->ours);
    memset(p->theirs, -1, sizeof p->theirs);
    for (int i = 0; i < STREAMS && rc == 0; i++)
        rc = open_stream(p, i, what[i]);
    if (rc == 0)
        rc = start_blocked(p, pid);
    close_all(p->theirs);
    if (rc != 0)
        close_all(p->ours);
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

/* The stream at idx: a word of streams, or a descriptor. */
static int
check_stream(lua_State *L, int idx)
{
    if (lua_isinteger(L, idx))
        return (int)lua_tointeger(L, idx);
    return INHERITED - luaL_checkoption(L, idx, "inherit", streams);
}

/* launch(argv, env or nil, cwd or nil, flags, stdin, stdout, stderr) -> pid, pidfd, this side's ends
 * of the pipes | nil, message, number. env is a list of "NAME=value"; flags: c to close all other
 * descriptors, d for a program that outlives this process, j for a stderr that is its stdout. A
 * stream is "inherit", "pipe", "null" or a descriptor. */
static int
launch(lua_State *L)
{
    struct program p = {.cwd = luaL_optstring(L, 3, NULL)};
    int what[STREAMS];
    pid_t pid = 0;
    luaL_checktype(L, 1, LUA_TTABLE);
    const char *flags = luaL_checkstring(L, 4);
    for (int i = 0; i < STREAMS; i++)
        what[i] = check_stream(L, 5 + i);
    p.closes_others = strchr(flags, 'c') != NULL;
    p.detached = strchr(flags, 'd') != NULL;
    p.joined = strchr(flags, 'j') != NULL;
    p.argv = push_strings(L, 1);
    p.env = lua_isnoneornil(L, 2) ? environ : push_strings(L, 2);
    luaL_argcheck(L, p.argv[0], 1, "must have the name of a program");
    int rc = start(&p, what, &pid);
    if (rc != 0) {
        luaL_pushfail(L);
        lua_pushfstring(L, "%s: %s", p.cwd && access(p.cwd, X_OK) != 0 ? p.cwd : p.argv[0],
                        lmpe_start_reason(rc));
        lua_pushinteger(L, rc);
        return 3;
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

/* Closes a file whose reading and writing are done elsewhere, if it was not closed before. */
static int
close_stream(lua_State *L)
{
    luaL_Stream *s = lua_touserdata(L, 1);
    lmpe_note_pipe(fileno(s->f), 0);
    return luaL_fileresult(L, fclose(s->f) == 0, NULL);
}

/* fd_file(fd, mode) -> a file of the io library over the descriptor, which it owns from now on */
static int
fd_file(lua_State *L)
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
size_t
lmpe_bytes_buffered(FILE *f)
{
    return (size_t)(f->_IO_read_end - f->_IO_read_ptr);
}
#else
size_t
lmpe_bytes_buffered(FILE *f)
{
    (void)f;
    return 0;
}
#endif

static const char *
mode_of(int fd)
{
    int flags = fcntl(fd, F_GETFL) & O_ACCMODE;
    return flags == O_RDONLY ? "r" : flags == O_WRONLY ? "w" : "rw";
}

/* fileno(file) -> its descriptor, for another program, and "r", "w" or "rw": what was written is
 * flushed, and what was read ahead of the script is given back, where it can be | nil, message,
 * number */
static int
file_number(lua_State *L)
{
    luaL_Stream *s = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    luaL_argcheck(L, s->closef, 1, "the file is closed");
    if (fflush(s->f) != 0 && errno != ESPIPE && errno != EBADF)
        return luaL_fileresult(L, 0, NULL);
    lua_pushinteger(L, fileno(s->f));
    lua_pushstring(L, mode_of(fileno(s->f)));
    return 2;
}

/* pipe_grow(fd): room for more between this process and a program that move much, as far as the
 * system allows */
static int
pipe_grow(lua_State *L)
{
    fcntl((int)luaL_checkinteger(L, 1), F_SETPIPE_SZ, PIPE_ROOM);
    return 0;
}

/* buffered(file) -> bytes that the C library has read from it and that were not taken, or
 * nothing */
static int
buffered(lua_State *L)
{
    luaL_Stream *s = luaL_checkudata(L, 1, LUA_FILEHANDLE);
    size_t n = s->closef ? lmpe_bytes_buffered(s->f) : 0;
    luaL_Buffer b;
    if (n == 0)
        return 0;
    char *to = luaL_buffinitsize(L, &b, n);
    luaL_pushresultsize(&b, fread(to, 1, n, s->f));
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"launch", launch},
                                         {"reap", reap},
                                         {"fd_file", fd_file},
                                         {"buffered", buffered},
                                         {"fileno", file_number},
                                         {"pipe_grow", pipe_grow},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_subprocess_module = {.open = on_open};
