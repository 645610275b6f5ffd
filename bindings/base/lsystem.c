/* SPDX-License-Identifier: MIT
 *
 * lsystem.c - queries of the Lua side about the process, its surroundings and the arena.
 */
#include "base/lmpe.h"
#include "base/lsystem.h"

#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <unistd.h>

static int
is_limited(int resource)
{
    struct rlimit most;
    return getrlimit(resource, &most) == 0 && most.rlim_cur != RLIM_INFINITY;
}

const char *
lmpe_reason(int number)
{
    if (number == EMFILE)
        return "Too many open files (ulimit -n)";
    if (number == ENFILE)
        return "Too many open files in system (sysctl fs.file-max)";
    if (number == EFBIG && is_limited(RLIMIT_FSIZE))
        return "File too large (ulimit -f)";
    if (number == ENOMEM && is_limited(RLIMIT_AS))
        return "Cannot allocate memory (ulimit -v)";
    return strerror(number);
}

const char *
lmpe_start_reason(int number)
{
    if (number == EAGAIN)
        return "Resource temporarily unavailable (ulimit -u, or the pids of a cgroup)";
    return lmpe_reason(number);
}

int
lmpe_fileresult(lua_State *L, int ok, const char *name)
{
    int number = errno;
    if (ok) {
        lua_pushboolean(L, 1);
        return 1;
    }
    luaL_pushfail(L);
    if (name)
        lua_pushfstring(L, "%s: %s", name, lmpe_reason(number));
    else
        lua_pushstring(L, lmpe_reason(number));
    lua_pushinteger(L, number);
    return 3;
}

void
lmpe_signal_unblock(int number)
{
    sigset_t one;
    sigemptyset(&one);
    sigaddset(&one, number);
    pthread_sigmask(SIG_UNBLOCK, &one, NULL);
}

/* is_closed() -> is the Lua state being closed, and the library closed already? */
static int
is_closed(lua_State *L)
{
    lua_pushboolean(L, !lmpe_self_or_closed(L)->e);
    return 1;
}

static int
now(lua_State *L)
{
    lua_pushnumber(L, (lua_Number)mpe_now() / (lua_Number)MPE_NS_PER_S);
    return 1;
}

static int
cpu_count(lua_State *L)
{
    lua_pushinteger(L, mpe_cpu_count());
    return 1;
}

/* isatty(fd) -> is it a terminal? */
static int
is_terminal(lua_State *L)
{
    lua_pushboolean(L, isatty((int)luaL_checkinteger(L, 1)));
    return 1;
}

/* terminal_size(fd) -> rows, columns; nothing when it is no terminal or has no size */
static int
terminal_size(lua_State *L)
{
    struct winsize size;
    if (ioctl((int)luaL_checkinteger(L, 1), TIOCGWINSZ, &size) != 0 || size.ws_row == 0)
        return 0;
    lua_pushinteger(L, size.ws_row);
    lua_pushinteger(L, size.ws_col);
    return 2;
}

static void
add_violation(const char *what, void *ud)
{
    lua_State *L = ud;
    lua_pushstring(L, what);
    lua_rawseti(L, -2, (lua_Integer)lua_rawlen(L, -2) + 1);
}

/* check_arena() -> what is wrong with the arena: a list of texts. Only while no other process
 * works. */
static int
check_arena(lua_State *L)
{
    lua_newtable(L);
    mpe_check_arena(lmpe_self(L)->e, add_violation, L);
    return 1;
}

/* stats() -> totals table, list of objects, list of processes */
static int
stats(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    mpe_stats t;
    mpe_stats_get(S->e, &t);
    lua_createtable(L, 0, 5);
    lua_pushinteger(L, (lua_Integer)t.arena_limit_bytes);
    lua_setfield(L, -2, "limit");
    lua_pushinteger(L, (lua_Integer)t.arena_committed_bytes);
    lua_setfield(L, -2, "committed");
    lua_pushinteger(L, (lua_Integer)t.arena_used_bytes);
    lua_setfield(L, -2, "used");
    lua_newtable(L);
    mpe_object_info info;
    uint32_t at = 0;
    for (lua_Integer n = 1; mpe_object_next(S->e, &at, &info) == MPE_OK; n++) {
        lua_createtable(L, 0, 6);
        lua_pushinteger(L, (lua_Integer)info.handle);
        lua_setfield(L, -2, "handle");
        lua_pushstring(L, mpe_kind_name(info.kind));
        lua_setfield(L, -2, "kind");
        lua_pushinteger(L, info.holders);
        lua_setfield(L, -2, "holders");
        lua_pushinteger(L, info.waiters);
        lua_setfield(L, -2, "waiters");
        lua_pushinteger(L, (lua_Integer)info.bytes);
        lua_setfield(L, -2, "bytes");
        lua_pushinteger(L, (lua_Integer)info.depth);
        lua_setfield(L, -2, "depth");
        lua_rawseti(L, -2, n);
    }
    lua_newtable(L);
    mpe_slot_info slot;
    at = 0;
    for (lua_Integer n = 1; mpe_slot_next(S->e, &at, &slot) == MPE_OK; n++) {
        lua_createtable(L, 0, 3);
        lua_pushinteger(L, slot.pid);
        lua_setfield(L, -2, "pid");
        lua_pushstring(L, slot.name);
        lua_setfield(L, -2, "name");
        lua_pushboolean(L, slot.sleeping != 0);
        lua_setfield(L, -2, "sleeping");
        lua_rawseti(L, -2, n);
    }
    return 3;
}

/* variable(name) -> what the environment variable MPENGINE_name says, nil when it is unset or empty */
static int
variable(lua_State *L)
{
    static const char *const names[] = {"SHM_LIMIT", "DEADLOCK", "START_METHOD", "EXECUTABLE",
                                        NULL};
    const char *text;
    uint64_t value;
    if (mpe_variable_get((enum mpe_variable)luaL_checkoption(L, 1, NULL, names), &value, &text) !=
        MPE_OK)
        return 0;
    lua_pushstring(L, text);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"is_closed", is_closed},
                                         {"now", now},
                                         {"cpu_count", cpu_count},
                                         {"variable", variable},
                                         {"stats", stats},
                                         {"isatty", is_terminal},
                                         {"check_arena", check_arena},
                                         {"terminal_size", terminal_size},
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_system_module = {.open = on_open};
