/* SPDX-License-Identifier: MIT
 *
 * lprocess.c - child processes: starting, waiting, signals, and the end of a process. What a
 * Process object is for scripts lies in mpengine/process.lua.
 *
 * The children are kept in a list of their own, since at the end of the program they are waited for
 * when every userdata may have been collected already.
 */
#include "lmpe.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CHILD "mpengine.child"
#define GRACE_NS (MPE_NS_PER_S / 2)  /* from SIGTERM to SIGKILL, for daemons at the end */
#define ROUND_NS (MPE_NS_PER_S / 20) /* between two looks at a program that is being stopped */
#define HEAP_KB_MIN 256              /* collecting a smaller heap than this costs nothing */

typedef struct lmpe_child lmpe_child;
struct lmpe_child {
    struct lmpe_child *next;
    mpe_process *p;
    int daemon, ended, code;
    int dropped; /* its userdata is gone */
};

static lmpe_child *
check_child(lua_State *L)
{
    return *(lmpe_child **)luaL_checkudata(L, 1, CHILD);
}

mpe_process *
lmpe_test_process(lua_State *L, int idx)
{
    lmpe_child **c = luaL_testudata(L, idx, CHILD);
    return c ? (*c)->p : NULL;
}

static void
forget(lmpe *S, lmpe_child *c)
{
    lmpe_child **at = &S->children;
    while (*at && *at != c)
        at = &(*at)->next;
    if (*at)
        *at = c->next;
}

/* 1 when it has ended. */
static int
poll_child(lmpe *S, lmpe_child *c)
{
    if (!c->ended && mpe_process_poll(S->e, c->p, &c->code) == MPE_OK) {
        c->ended = 1;
        forget(S, c);
    }
    return c->ended;
}

static void
free_child(lmpe *S, lmpe_child *c)
{
    mpe_process_free(S->e, c->p);
    free(c);
}

/* ---- the end of a process ---- */

static int
has_waiting(lmpe *S, int daemons)
{
    for (lmpe_child *c = S->children; c; c = c->next)
        if (c->daemon == daemons)
            return 1;
    return 0;
}

/* Waits for children of one sort, blocking. 0 when a signal, or the deadline, came first. */
static int
wait_for(lmpe *S, int daemons, uint64_t deadline)
{
    for (lmpe_child *c = S->children, *next; c; c = next) {
        next = c->next;
        if (c->daemon != daemons)
            continue;
        int rc = mpe_process_join(S->e, c->p, deadline, &c->code);
        if (rc == MPE_EINTR || rc == MPE_ETIMEDOUT)
            return 0;
        c->ended = 1;
        forget(S, c);
        mpe_reap_dead(S->e);
    }
    return 1;
}

/* One that is stopped takes its signal when it goes on. */
static void
terminate(lmpe *S, mpe_process *p)
{
    mpe_process_signal(S->e, p, SIGTERM);
    mpe_process_signal(S->e, p, SIGCONT);
}

static void
signal_daemons(lmpe *S, int number)
{
    for (lmpe_child *c = S->children; c; c = c->next)
        if (c->daemon && number == SIGTERM)
            terminate(S, c->p);
        else if (c->daemon)
            mpe_process_signal(S->e, c->p, number);
}

static void
end_daemons(lmpe *S)
{
    signal_daemons(S, SIGTERM);
    if (wait_for(S, 1, mpe_now() + GRACE_NS))
        return;
    signal_daemons(S, SIGKILL);
    wait_for(S, 1, MPE_FOREVER);
}

/* Signals every process of the program but this one, the children of children too. How many. */
static int
signal_program(lmpe *S, int number)
{
    mpe_slot_info info;
    uint32_t at = 0, self = mpe_self_slot(S->e);
    int count = 0;
    while (mpe_slot_next(S->e, &at, &info) == MPE_OK) {
        if (info.slot == self || info.pid <= 0 || info.pid == getpid())
            continue;
        count++;
        kill(info.pid, number);
        if (number == SIGTERM)
            kill(info.pid, SIGCONT);
    }
    for (lmpe_child *c = S->children; c; c = c->next) { /* also one that has no slot yet */
        mpe_process_signal(S->e, c->p, number);
        count++;
    }
    return count;
}

/* Ends the whole program but this process: it was interrupted. Again and again, since a child may
 * be starting another. */
static void
stop_program(lmpe *S)
{
    uint64_t grace = mpe_now() + GRACE_NS;
    int number = SIGTERM;
    while (signal_program(S, number) > 0) {
        uint64_t until = mpe_now() + ROUND_NS;
        wait_for(S, 0, until);
        wait_for(S, 1, until);
        mpe_reap_dead(S->e);
        if (!S->children)
            usleep(ROUND_NS / 1000 / 10);
        if (mpe_now() > grace)
            number = SIGKILL;
        if (mpe_now() > grace + GRACE_NS)
            return;
    }
}

/* stop: the program was interrupted. */
static void
end_children(lmpe *S, int stop)
{
    int alive;
    while (!stop && has_waiting(S, 0)) {
        wait_for(S, 0, MPE_FOREVER);
        stop = lmpe_signal_raised();
    }
    if (stop && mpe_parent_pid(S->e, &alive) == 0)
        stop_program(S);
    end_daemons(S);
    mpe_end_server(S->e);
}

void
lmpe_program_end(lmpe *S)
{
    int told = lmpe_signal_raised();
    if (S->is_program && !told)
        lmpe_signals_open(S); /* lua has taken them back */
    if (S->is_command || !S->is_program) {
        end_children(S, 0);
        return;
    }
    end_children(S, told);
    if (!lmpe_signal_raised())
        return;
    if (!told && lmpe_signal_raised() == SIGINT) /* the interpreter has had no error to tell */
        fputs("mpengine: interrupted\n", stderr);
    lmpe_process_end(S, 128 + lmpe_signal_raised());
}

/* Ends this process now: what it holds is given up, nothing is unwound or collected. */
void
lmpe_process_end(lmpe *S, int code)
{
    lmpe_output_flush(S);
    fflush(NULL);
    mpe_report_exit(S->e, code);
    mpe_leave(S->e);
    _exit(code);
}

/* end_process(code) */
static int
end_process(lua_State *L)
{
    lmpe_process_end(lmpe_self(L), (int)luaL_checkinteger(L, 1) & 0xff);
    return 0;
}

/* leave(): gives up what this process holds, before an exit that unwinds nothing */
static int
leave(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    mpe_engine *e = S->e;
    lmpe_output_flush(S);
    S->e = NULL;
    mpe_leave(e);
    return 0;
}

/* children_end(stop): waits for the children and ends the daemons; stop: ends all processes */
static int
children_end(lua_State *L)
{
    end_children(lmpe_self(L), lua_toboolean(L, 1));
    return 0;
}

/* is_program() -> the command or stock lua, rather than a host with Lua inside? */
static int
is_program(lua_State *L)
{
    lua_pushboolean(L, lmpe_self(L)->is_program);
    return 1;
}

/* By its name, and by what lua and the command leave in the globals. */
static int
looks_like_program(lua_State *L)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    const char *name = strrchr(path, '/');
    int has_arg = lua_getglobal(L, "arg") == LUA_TTABLE;
    lua_pop(L, 1);
    return has_arg && name && strncmp(name, "/lua", 4) == 0;
}

/* MPENGINE_DEADLOCK: "report" or "off"; the command's default is to report. */
static int
wants_deadlocks_found(const lmpe *S)
{
    const char *text = getenv("MPENGINE_DEADLOCK");
    return text && *text ? strcmp(text, "report") == 0 : S->is_command;
}

static void
find_program(lua_State *L, lmpe *S)
{
    int alive;
    S->is_command = lua_getfield(L, LUA_REGISTRYINDEX, "mpengine.command") == LUA_TBOOLEAN;
    lua_pop(L, 1);
    S->is_program = !S->is_guest && (S->is_command || looks_like_program(L));
    if (S->is_program && !mpe_is_server(S->e))
        lmpe_signals_open(S);
    if (S->is_program && !mpe_is_server(S->e) && mpe_parent_pid(S->e, &alive) == 0)
        mpe_find_deadlocks(S->e, wants_deadlocks_found(S));
}

/* ---- starting ---- */

static int
push_child(lua_State *L, lmpe *S, lmpe_child *c, int daemon)
{
    c->daemon = daemon;
    c->next = S->children;
    S->children = c;
    *(lmpe_child **)lua_touserdata(L, -1) = c;
    luaL_setmetatable(L, CHILD);
    return 1;
}

static int
start_error(lua_State *L, int status)
{
    if (status == MPE_ETHREADS)
        return luaL_error(L,
                          "start: %s (use the start method \"forkserver\" or \"spawn\": "
                          "mp.set_start_method)",
                          mpe_strerror(status));
    if (status == MPE_ESYS)
        return luaL_error(L, "start: cannot start a process: %s", strerror(errno));
    return luaL_error(L, "start: cannot start a process: %s", mpe_strerror(status));
}

/* Everything a child has of its parent but must not use. */
static void
forget_parent(lua_State *L, lmpe *S)
{
    S->children = NULL; /* their memory stays with their userdata */
    lmpe_signals_child(S);
    lmpe_output_forked(S);
    lmpe_curl_forked(S);
    lmpe_luv_forked(L, S);
    lmpe_sched_forked(L, S);
}

/* The collector does not touch the heap that is shared with the parent before the child has
 * allocated as much again: until then there is nothing it needs to find. */
static void
put_off_collection(lua_State *L)
{
    int kilobytes = lua_gc(L, LUA_GCCOUNT);
    lua_gc(L, LUA_GCRESTART);
    lua_gc(L, LUA_GCSTEP, -(kilobytes > HEAP_KB_MIN ? kilobytes : HEAP_KB_MIN));
}

/* Runs the function and the n arguments on top of the stack on a thread of its own, so that
 * tracebacks begin there. It ends the process, and does not come back but for a failure of its own. */
static void
run_main(lua_State *L, lmpe *S, int n)
{
    int nres;
    lua_State *co = lua_newthread(L);
    lua_insert(L, -(n + 2));
    lua_xmove(L, co, n + 1);
    S->driver = co;
    if (lua_resume(co, L, n, &nres) != LUA_OK && lua_isstring(co, -1))
        fprintf(stderr, "Process %s:\n%s\n", mpe_self_name(S->e), lua_tostring(co, -1));
    lmpe_process_end(S, 1);
}

/* A new note of a child on top of the stack; its metatable comes when it has started. */
static lmpe_child *
new_child(lua_State *L, lmpe *S)
{
    lua_newuserdatauv(L, sizeof(lmpe_child *), 0);
    lmpe_child *c = calloc(1, sizeof *c);
    if (!c)
        start_error(L, MPE_ENOMEM);
    lmpe_output_shared(S);
    fflush(NULL);
    return c;
}

/* In a forked child: main and its argument are at 3 and 4. Does not return. */
static void
enter_child(lua_State *L, lmpe *S, int status, const sigset_t *mask)
{
    if (status != MPE_OK)
        _exit(1); /* the parent died at the same moment */
    forget_parent(L, S);
    sigprocmask(SIG_SETMASK, mask, NULL);
    put_off_collection(L);
    lua_settop(L, 4);
    run_main(L, S, 1);
}

/* fork(name, daemon, main, bytes) -> child userdata, in the parent; the child calls main(bytes) and
 * does not return. */
static int
fork_child(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    const char *name = luaL_checkstring(L, 1);
    unsigned flags = lua_toboolean(L, 2) ? MPE_PROCESS_DAEMON : 0;
    int is_child;
    sigset_t mask;
    mpe_bytes message;
    luaL_checktype(L, 3, LUA_TFUNCTION);
    message.data = luaL_checklstring(L, 4, &message.size);
    lua_settop(L, 4);
    lmpe_child *c = new_child(L, S);
    lmpe_signals_hold(&mask);
    int rc = mpe_process_fork(S->e, name, flags, message, &c->p, &is_child);
    if (is_child)
        enter_child(L, S, rc, &mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    if (rc != MPE_OK) {
        free(c);
        return start_error(L, rc);
    }
    return push_child(L, S, c, flags != 0);
}

typedef int (*starter)(mpe_engine *e, const mpe_start *s, mpe_process **out);

/* start(method, name, daemon, executable, argument, settings, bytes) -> child userdata */
static int
start_program(lua_State *L)
{
    static const char *const methods[] = {"spawn", "forkserver", NULL};
    static const starter starters[] = {mpe_process_spawn, mpe_process_request};
    lmpe *S = lmpe_self(L);
    starter go = starters[luaL_checkoption(L, 1, NULL, methods)];
    const char *argv[] = {luaL_checkstring(L, 4), "-E", "-e", luaL_checkstring(L, 5), NULL};
    mpe_bytes messages[2];
    mpe_start s = MPE_START_INIT;
    s.name = luaL_checkstring(L, 2);
    s.flags = lua_toboolean(L, 3) ? MPE_PROCESS_DAEMON : 0;
    s.executable = argv[0];
    s.argv = argv;
    s.messages = messages;
    s.count = 2;
    for (int i = 0; i < 2; i++)
        messages[i].data = luaL_checklstring(L, 6 + i, &messages[i].size);
    lmpe_child *c = new_child(L, S);
    int rc = go(S->e, &s, &c->p);
    if (rc != MPE_OK)
        free(c);
    if (rc == MPE_ESYS && (errno == ENOENT || errno == EACCES || errno == ENOEXEC))
        return luaL_error(L, "start: cannot start '%s': %s (mp.set_executable)", argv[0],
                          strerror(errno));
    if (rc != MPE_OK)
        return start_error(L, rc);
    return push_child(L, S, c, s.flags != 0);
}

/* serve() in the fork server: returns in its children; the server itself ends here. */
static int
serve(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    int rc = mpe_serve(S->e);
    if (rc != MPE_OK)
        _exit(rc != MPE_ECLOSED);
    forget_parent(L, S);
    put_off_collection(L);
    return 0;
}

/* is_server() -> is this the fork server? */
static int
is_server(lua_State *L)
{
    lua_pushboolean(L, mpe_is_server(lmpe_self(L)->e));
    return 1;
}

/* next_message() -> the values of the next message of the start; raises when they cannot be read */
static int
next_message(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    int rc = mpe_next_message(S->e, &S->message);
    return rc == MPE_OK ? lmpe_push_message(L, S) : lmpe_raise(L, rc, "start");
}

/* become_child(main, ...): in a new program: calls it as a forked child does; does not return */
static int
become_child(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    luaL_checktype(L, 1, LUA_TFUNCTION);
    lmpe_signals_child(S);
    lmpe_output_forked(S);
    run_main(L, S, lua_gettop(L) - 1);
    return 0;
}

/* ---- a child, from its parent ---- */

static int
child_gc(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_child *c = check_child(L);
    if (S->e && c->ended)
        free_child(S, c);
    return 0; /* one that runs stays on the list */
}

static int
child_pid(lua_State *L)
{
    lua_pushinteger(L, mpe_process_pid(check_child(L)->p));
    return 1;
}

/* poll(child) -> exit code, nil while it runs */
static int
child_poll(lua_State *L)
{
    lmpe_child *c = check_child(L);
    if (!mpe_process_is_mine(c->p) || !poll_child(lmpe_self(L), c))
        return 0;
    lua_pushinteger(L, c->code);
    return 1;
}

static int
child_is_mine(lua_State *L)
{
    lua_pushboolean(L, mpe_process_is_mine(check_child(L)->p));
    return 1;
}

static int
child_signal(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_child *c = check_child(L);
    if (!poll_child(S, c))
        mpe_process_signal(S->e, c->p, (int)luaL_checkinteger(L, 2));
    return 0;
}

static int
attempt_wait(lmpe *S, lmpe_await *a)
{
    lmpe_child *c = (lmpe_child *)(uintptr_t)a->scratch[0];
    a->source = LMPE_PROCESS;
    a->on.process = c->p;
    return poll_child(S, c) ? MPE_OK : MPE_EAGAIN;
}

static int
finish_wait(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    if (status != MPE_ESYS)
        return lmpe_finish_true(L, S, a, status);
    lua_pushfstring(L, "join: cannot wait for a process: %s", strerror(errno));
    return lua_error(L);
}

/* wait(child [, timeout]) -> true | nil, "timeout" */
static int
child_wait(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_child *c = check_child(L);
    lmpe_await *a = lmpe_await_new(S, lmpe_check_deadline(L, 2), "timeout");
    a->scratch[0] = (uintptr_t)c;
    a->attempt = attempt_wait;
    a->finish = finish_wait;
    return lmpe_await_run(L, S, a);
}

/* ---- this process ---- */

static int
process_name(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    if (lua_isstring(L, 1))
        mpe_self_set_name(S->e, lua_tostring(L, 1));
    lua_pushstring(L, mpe_self_name(S->e));
    return 1;
}

static int
process_pid(lua_State *L)
{
    lua_pushinteger(L, getpid());
    return 1;
}

/* parent() -> pid, name, is alive; nothing in the first process */
static int
process_parent(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    int alive, pid = mpe_parent_pid(S->e, &alive);
    if (pid == 0)
        return 0;
    lua_pushinteger(L, pid);
    lua_pushstring(L, mpe_parent_name(S->e));
    lua_pushboolean(L, alive);
    return 3;
}

/* parent_fd() -> a descriptor that is readable once the parent has ended; nil when it has */
static int
parent_fd(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    int alive, fd = mpe_parent_fd(S->e, &alive);
    if (!alive)
        return 0;
    if (fd < 0)
        return lmpe_raise(L, MPE_ESYS, "parent_process");
    lua_pushinteger(L, fd);
    return 1;
}

/* own_executable() -> the path of the program that runs */
static int
own_executable(lua_State *L)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path);
    if (n <= 0)
        return luaL_error(L, "start: cannot tell which program runs: %s", strerror(errno));
    lua_pushlstring(L, path, (size_t)n);
    return 1;
}

/* wall_time() -> seconds since 1970 */
static int
wall_time(lua_State *L)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    lua_pushnumber(L, (lua_Number)now.tv_sec + (lua_Number)now.tv_nsec / 1e9);
    return 1;
}

/* kill(pid, signal) -> true | nil, message: for any process */
static int
process_kill(lua_State *L)
{
    int rc = kill((pid_t)luaL_checkinteger(L, 1), (int)luaL_checkinteger(L, 2));
    return luaL_fileresult(L, rc == 0, NULL);
}

void
lmpe_open_process(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"fork", fork_child},
        {"child_pid", child_pid},
        {"child_poll", child_poll},
        {"child_is_mine", child_is_mine},
        {"child_signal", child_signal},
        {"child_wait", child_wait},
        {"process_name", process_name},
        {"pid", process_pid},
        {"parent", process_parent},
        {"kill_pid", process_kill},
        {"end_process", end_process},
        {"children_end", children_end},
        {"leave", leave},
        {"start_program", start_program},
        {"serve", serve},
        {"is_server", is_server},
        {"next_message", next_message},
        {"become_child", become_child},
        {"own_executable", own_executable},
        {"wall_time", wall_time},
        {"parent_fd", parent_fd},
        {"is_program", is_program},
        {NULL, NULL},
    };
    find_program(L, S);
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, CHILD);
    lua_pushlightuserdata(L, S);
    lua_pushcclosure(L, child_gc, 1);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}
