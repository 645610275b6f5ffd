/* SPDX-License-Identifier: MIT
 *
 * lshutdown.c - the end of a process and of the program: waits for children, ends daemons, and after
 * an interrupt stops all processes. All of it blocks and runs no task. A wait that takes long is said
 * once, by the first process of a program on a terminal.
 */
#include "process/lprocess.h"

#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/auxv.h>
#include <unistd.h>

#define LINGER_NS MPE_NS_PER_S /* most of an exit, for the takers of files and sockets */

#define GRACE_NS (MPE_NS_PER_S / 2)  /* from SIGTERM to SIGKILL, for daemons at the end */
#define ROUND_NS (MPE_NS_PER_S / 20) /* between two checks of a program that is being stopped */

#define PATIENCE_NS MPE_NS_PER_S /* of the end, before it says what it waits for */
#define NAMED 8                  /* of the processes it waits for; the others are counted */

static struct {
    uint64_t due; /* 0: the wait has not begun */
    int done;
} telling;

static int
has_waiting(lmpe *S, int daemons)
{
    for (lmpe_child *c = S->children; c; c = c->next)
        if (c->daemon == daemons)
            return 1;
    return 0;
}

/* Waits for children of one sort, blocking. 0 when a signal, or the deadline, occurred first. */
static int
wait_for(lmpe *S, int daemons, uint64_t deadline)
{
    for (lmpe_child *c = S->children, *next; c; c = next) {
        next = c->next;
        if (c->daemon != daemons)
            continue;
        int rc;
        do
            rc = mpe_process_join(S->e, c->p, deadline, &c->code);
        while (rc == MPE_EINTR && !lmpe_signal_raised());
        if (rc == MPE_EINTR || rc == MPE_ETIMEDOUT)
            return 0;
        if (rc == MPE_ESTALE)
            c->code = MPE_EXIT_LOST;
        lmpe_child_ended(S, c);
        mpe_reap_dead(S->e);
    }
    return 1;
}

/* ---- saying so ---- */

/* When to say what is waited for, MPE_FOREVER: not, or it has been said. */
static uint64_t
telling_due(lmpe *S)
{
    int alive;
    if (telling.done || !S->is_program || mpe_parent_pid(S->e, &alive) || !isatty(STDERR_FILENO))
        return MPE_FOREVER;
    if (!telling.due)
        telling.due = mpe_now() + PATIENCE_NS;
    return telling.due;
}

struct line {
    char text[1024]; /* NAMED names fit */
    int length;
};

static void
add_process(lmpe *S, const lmpe_child *c, struct line *l)
{
    mpe_slot_info info;
    uint32_t at = 0;
    const char *name = "?"; /* it has just exited */
    while (mpe_slot_next(S->e, &at, &info) == MPE_OK)
        if (info.pid == c->pid) {
            name = info.name;
            break;
        }
    l->length += snprintf(l->text + l->length, sizeof l->text - (size_t)l->length, "%s (pid %d)",
                          name, (int)c->pid);
}

/* Names the children in the order of their starts; the list has the last one first. Returns how
 * many there are. */
static int
add_children(lmpe *S, const lmpe_child *c, struct line *l)
{
    if (!c)
        return 0;
    int before = add_children(S, c->next, l);
    if (c->daemon)
        return before;
    if (before > 0 && before < NAMED)
        l->length += snprintf(l->text + l->length, sizeof l->text - (size_t)l->length, ", ");
    if (before < NAMED)
        add_process(S, c, l);
    return before + 1;
}

static void
tell(lmpe *S)
{
    struct line l = {.length = 0}, all;
    char more[32] = "";
    telling.done = 1;
    int count = add_children(S, S->children, &l);
    if (count > NAMED)
        snprintf(more, sizeof more, " and %d more", count - NAMED);
    all.length = snprintf(all.text, sizeof all.text, "mpengine: waiting for %d process%s: %.*s%s",
                          count, count == 1 ? "" : "es", l.length, l.text, more);
    if (count > 0)
        S->print_error(S, all.text, (size_t)all.length);
}

/* A stopped process handles its signal when it is continued. */
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
    if (!S->children)
        return;
    signal_daemons(S, SIGTERM);
    if (wait_for(S, 1, mpe_now() + GRACE_NS))
        return;
    signal_daemons(S, SIGKILL);
    wait_for(S, 1, MPE_FOREVER);
}

/* Signals every process of the program except this one, children of children too. Returns how
 * many. */
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

/* Ends the whole program except this process: it was interrupted. Repeats, since a child may be
 * starting another. */
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
        uint64_t due = telling_due(S);
        wait_for(S, 0, due);
        if (mpe_now() >= due)
            tell(S);
        stop = lmpe_signal_raised();
    }
    if (stop && mpe_parent_pid(S->e, &alive) == 0)
        stop_program(S);
    end_daemons(S);
    mpe_end_server(S->e);
}

/* Waits for the children and ends the daemons, blocking. Where no command and no host has seen to
 * it, an interrupt of the program takes effect now. */
static void
on_close(lua_State *L, lmpe *S)
{
    (void)L;
    int told = lmpe_signal_raised();
    if (!S->is_host && !told)
        lmpe_signals_open(S);            /* lua has reset them */
    int is_over = told && S->is_command; /* which has handled it */
    end_children(S, told && !is_over);
    if (S->is_host || is_over)
        return;
    if (!lmpe_signal_raised())
        return;
    if (!told && lmpe_signal_raised() == SIGINT) /* the interpreter got no error to report */
        fputs("mpengine: interrupted\n", stderr);
    lmpe_process_end(S, 128 + lmpe_signal_raised());
}

/* Ends this process now: releases everything it holds; nothing is unwound or collected. */
void
lmpe_process_end(lmpe *S, int code)
{
    lmpe_output_flush(S);
    fflush(NULL);
    mpe_report_exit(S->e, code);
    mpe_leave(S->e);
    mpe_descriptor_linger(S->e, mpe_now() + LINGER_NS);
    _exit(code);
}

/* end_process(code) */
static int
end_process(lua_State *L)
{
    lmpe_process_end(lmpe_self(L), (int)luaL_checkinteger(L, 1) & 0xff);
    return 0;
}

/* leave(): releases everything this process holds, before an exit that unwinds nothing */
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

/* patience() -> seconds until tell_waiting is due; nil when it is not */
static int
patience(lua_State *L)
{
    uint64_t due = telling_due(lmpe_self(L)), now = mpe_now();
    if (due == MPE_FOREVER)
        return 0;
    lua_pushnumber(L, due > now ? (lua_Number)(due - now) / (lua_Number)MPE_NS_PER_S : 0);
    return 1;
}

/* tell_waiting(): says which children the end of the program waits for */
static int
tell_waiting(lua_State *L)
{
    tell(lmpe_self(L));
    return 0;
}

/* children_end(stop): waits for the children and ends the daemons; stop: ends all processes */
static int
children_end(lua_State *L)
{
    end_children(lmpe_self(L), lua_toboolean(L, 1));
    return 0;
}

/* is_program() -> does the script have the exit of the process? */
static int
is_program(lua_State *L)
{
    lua_pushboolean(L, lmpe_self(L)->is_program);
    return 1;
}

/* is_host() -> is Lua inside a host, rather than the command or stock lua? */
static int
is_host(lua_State *L)
{
    lua_pushboolean(L, lmpe_self(L)->is_host);
    return 1;
}

/* Decides by its name, and by the globals that lua and the command leave. Without /proc, by the
 * name it was started by. */
static int
looks_like_program(lua_State *L)
{
    char path[PATH_MAX];
    ssize_t n = readlink("/proc/self/exe", path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    const char *file = n > 0 ? path : (const char *)getauxval(AT_EXECFN);
    const char *slash = file ? strrchr(file, '/') : NULL;
    const char *name = slash ? slash + 1 : file;
    int has_arg = lua_getglobal(L, "arg") == LUA_TTABLE;
    lua_pop(L, 1);
    return has_arg && name && strncmp(name, "lua", 3) == 0;
}

/* MPENGINE_DEADLOCK: "report" or "off"; the command's default is to report. */
static int
wants_deadlocks_found(const lmpe *S)
{
    const char *text;
    uint64_t off;
    return mpe_variable_get(MPE_VARIABLE_DEADLOCK, &off, &text) == MPE_OK ? !off : S->is_command;
}

static void
find_program(lua_State *L, lmpe *S)
{
    int alive, is_child = mpe_parent_pid(S->e, &alive) != 0;
    S->is_command = lua_getfield(L, LUA_REGISTRYINDEX, "mpengine.command") == LUA_TBOOLEAN;
    lua_pop(L, 1);
    S->is_host = lmpe_is_hosted(L) || !(S->is_command || looks_like_program(L));
    S->is_program = !S->is_host || (mpe_flags(S->e) & MPE_LUA_PROGRAM);
    if (S->is_program)
        lmpe_signals_inherited();
    if (!S->is_program || mpe_is_server(S->e))
        return;
    if (is_child) { /* from its first moment on: nothing but its end is known of it yet */
        lmpe_signals_child(S);
        return;
    }
    lmpe_signals_open(S);
    mpe_find_deadlocks(S->e, wants_deadlocks_found(S));
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"end_process", end_process},
                                         {"children_end", children_end},
                                         {"patience", patience},
                                         {"tell_waiting", tell_waiting},
                                         {"leave", leave},
                                         {"is_program", is_program},
                                         {"is_host", is_host},
                                         {NULL, NULL}};
    find_program(L, S);
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_shutdown_module = {.open = on_open, .close = on_close};
