/* SPDX-License-Identifier: MIT
 *
 * lspawn.c - starting children, and the first steps of a child. mpengine/process.lua decides
 * what is sent to it, and when.
 */
#include "base/lrelease.h"
#include "base/lsystem.h"
#include "codec/lmessage.h"
#include "task/ltask.h"
#include "process/lprocess.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE 23
#endif
#define HEAP_KB_MIN 256 /* collecting a smaller heap than this costs nothing */

static int
start_error(lua_State *L, int status)
{
    if (status == MPE_ETHREADS)
        return luaL_error(L,
                          "start: %s (use the start method \"forkserver\" or \"spawn\": "
                          "mp.set_start_method)",
                          mpe_strerror(status));
    if (status == MPE_ESYS)
        return luaL_error(L, "start: cannot start a process: %s", lmpe_start_reason(errno));
    return luaL_error(L, "start: cannot start a process: %s", mpe_strerror(status));
}

/* The present heap, an interpreter's own or one shared with the parent, has no garbage: the
 * collector does not touch it before as much has been allocated again. */
void
lmpe_put_off_collection(lua_State *L)
{
    int kilobytes = lua_gc(L, LUA_GCCOUNT);
    if (LMPE_GC_GIVES_BACK || lua_gc(L, LUA_GCISRUNNING) != 1)
        lua_gc(L, LUA_GCRESTART); /* which forgets what was allocated */
    lmpe_gc_put_off(L, kilobytes > HEAP_KB_MIN ? kilobytes : HEAP_KB_MIN);
}

/* Runs the function and the n arguments on top of the stack on a thread of its own, so that
 * tracebacks begin there, and Lua counts the C calls from there, also in deeply nested children.
 * It ends the process, and returns only if it fails itself. */
static void
run_main(lua_State *L, lmpe *S, int n)
{
    int nres;
    lua_State *co = lua_newthread(L);
    lmpe_seed_random(L);
    lua_insert(L, -(n + 2));
    lua_xmove(L, co, n + 1);
    S->driver = co;
    int status = lua_resume(co, lmpe_count_calls_from(L), n, &nres);
    if (status == LUA_YIELD) /* by the original function of coroutine.yield */
        lua_pushliteral(co, LMPE_BARE_YIELD);
    if (status != LUA_OK && lua_isstring(co, -1)) {
        lua_pushfstring(co, "Process %s:\n", mpe_self_name(S->e));
        lua_insert(co, -2);
        lua_concat(co, 2);
        lmpe_report(co, S, MPE_LOG_ERROR);
    }
    lmpe_process_end(S, 1);
}

/* Before another process is made: sends pending output, and from now on lines are written whole. */
static void
flush_output(lmpe *S)
{
    lmpe_output_shared(S);
    fflush(NULL);
}

/* The child at 1 has started, unless status says otherwise. */
static int
started(lua_State *L, lmpe *S, mpe_process *p, int daemon, int status)
{
    lmpe_sent(L, S);
    if (status != MPE_OK)
        return start_error(L, status);
    lmpe_child *c = lmpe_check_child(L, 1);
    c->p = p;
    c->pid = mpe_process_pid(p);
    c->owner = getpid();
    c->daemon = daemon;
    c->next = S->children;
    S->children = c;
    if (S->tells_ends)
        mpe_process_tell(S->e, p, SIGCHLD);
    return 0;
}

/* Before a child is started: reaps those that have exited. */
static void
make_way(lmpe *S)
{
    S->tells_ends = lmpe_signal_children(S);
    if (!S->tells_ends)
        lmpe_reap_children(S);
}

/* In a forked child: main and its arguments are from 4 on. Does not return. */
static void
enter_child(lua_State *L, lmpe *S, int status, const sigset_t *mask)
{
    if (status != MPE_OK)
        _exit(1); /* the parent died at the same moment */
    lmpe_modules_forked(L, S);
    sigprocmask(SIG_SETMASK, mask, NULL);
    lmpe_signals_inherited();
    lmpe_put_off_collection(L);
    run_main(L, S, lua_gettop(L) - 4);
}

/* The flags of a start: how the child ends with this process. */
static unsigned
check_bond(lua_State *L, int arg)
{
    static const char *const bonds[] = {"none", "bound", "daemon", NULL};
    static const unsigned flags[] = {0, MPE_PROCESS_BOUND, MPE_PROCESS_DAEMON};
    return flags[luaL_checkoption(L, arg, NULL, bonds)];
}

/* fork(child, name, bond, main, bytes, ...): the child calls main(bytes, ...) and does not return. */
static int
fork_child(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    const char *name = luaL_checkstring(L, 2);
    unsigned flags = check_bond(L, 3);
    int is_child;
    sigset_t mask;
    mpe_bytes message;
    mpe_process *p;
    lmpe_check_child(L, 1);
    luaL_checktype(L, 4, LUA_TFUNCTION);
    message.data = luaL_checklstring(L, 5, &message.size);
    flush_output(S);
    make_way(S);
    lmpe_title_prepare(S);
    lmpe_signals_hold(&mask);
    int rc = mpe_process_fork(S->e, name, flags, message, &p, &is_child);
    if (is_child)
        enter_child(L, S, rc, &mask);
    sigprocmask(SIG_SETMASK, &mask, NULL);
    return started(L, S, p, flags == MPE_PROCESS_DAEMON, rc);
}

typedef int (*starter)(mpe_engine *e, const mpe_start *s, mpe_process **out);

/* start_program(child, method, name, bond, executable, argument, settings, bytes) */
static int
start_program(lua_State *L)
{
    static const char *const methods[] = {"spawn", "forkserver", NULL};
    static const starter starters[] = {mpe_process_spawn, mpe_process_request};
    lmpe *S = lmpe_self(L);
    starter go = starters[luaL_checkoption(L, 2, NULL, methods)];
    const char *argv[] = {luaL_checkstring(L, 5), "-E", "-e", luaL_checkstring(L, 6), NULL};
    mpe_bytes messages[2];
    mpe_start s = MPE_START_INIT;
    mpe_process *p;
    lmpe_check_child(L, 1);
    s.name = luaL_checkstring(L, 3);
    s.flags = check_bond(L, 4);
    s.executable = argv[0];
    s.argv = argv;
    s.messages = messages;
    s.count = 2;
    for (int i = 0; i < 2; i++)
        messages[i].data = luaL_checklstring(L, 7 + i, &messages[i].size);
    flush_output(S);
    make_way(S);
    int rc = go(S->e, &s, &p);
    if (rc == MPE_ESYS && (errno == ENOENT || errno == EACCES || errno == ENOEXEC))
        return luaL_error(L,
                          "start: cannot start '%s': %s (mp.set_executable, MPENGINE_EXECUTABLE)",
                          argv[0], lmpe_reason(errno));
    return started(L, S, p, s.flags == MPE_PROCESS_DAEMON, rc);
}

/* serve() in the fork server: returns in its children; the server itself ends here. */
static int
serve(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    int rc = mpe_serve(S->e);
    if (rc != MPE_OK)
        _exit(rc != MPE_ECLOSED);
    lmpe_modules_forked(L, S);
    lmpe_signals_inherited();
    lmpe_put_off_collection(L);
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
    lmpe_output_forked(S);
    lmpe_put_off_collection(L);
    run_main(L, S, lua_gettop(L) - 1);
    return 0;
}

/* own_executable() -> the path that starts the running program again */
static int
own_executable(lua_State *L)
{
    char path[PATH_MAX];
    const char *own = mpe_own_program(path, sizeof path);
    if (!own)
        return luaL_error(L, "start: cannot find the running program: %s (mp.set_executable)",
                          lmpe_reason(errno));
    lua_pushstring(L, own);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"fork", fork_child},
                                         {"start_program", start_program},
                                         {"serve", serve},
                                         {"is_server", is_server},
                                         {"next_message", next_message},
                                         {"become_child", become_child},
                                         {"own_executable", own_executable},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_spawn_module = {.open = on_open};
