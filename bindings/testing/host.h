/* SPDX-License-Identifier: MIT
 *
 * host.h - what the test programs of this directory share. Each is a host as others would write
 * it; it prints what is wrong, and exits with 0 when nothing is.
 */
#ifndef HOST_H
#define HOST_H

#include <lauxlib.h>
#include <lualib.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>
#include <uv.h>

#include "mpengine_lua.h"

static _Atomic int failures;
static struct sigaction dispositions[65];

#define CHECK(x) check((x) != 0, #x, __LINE__)
#define CHECK_EQ(a, b) check_eq((long long)(a), (long long)(b), #a " == " #b, __LINE__)
/* Runs a text of Lua that must not fail; its results are on the stack. */
#define RUN(L, text) must_run(L, text, __LINE__)

static inline int
check(int good, const char *what, int line)
{
    if (!good)
        printf("line %d: %s\n", line, what);
    failures += !good;
    return good;
}

static inline int
check_eq(long long a, long long b, const char *what, int line)
{
    if (a != b)
        printf("line %d: %s (%lld, %lld)\n", line, what, a, b);
    failures += a != b;
    return a == b;
}

/* Pushes its results, or the message. */
static inline int
run_text(lua_State *L, const char *text)
{
    return luaL_loadbuffer(L, text, strlen(text), "=script") != LUA_OK ||
           lua_pcall(L, 0, LUA_MULTRET, 0) != LUA_OK;
}

static inline void
must_run(lua_State *L, const char *text, int line)
{
    if (run_text(L, text)) {
        printf("line %d: %s\n", line, lua_tostring(L, -1));
        exit(1);
    }
}

/* Runs a text that must fail, with a message that has this part. */
static inline void
must_fail(lua_State *L, const char *text, const char *part, int line)
{
    int failed = run_text(L, text);
    const char *message = failed ? luaL_tolstring(L, -1, NULL) : "no error";
    if (!failed || !strstr(message, part))
        failures += printf("line %d: expected an error '%s', got: %s\n", line, part, message) > 0;
    lua_settop(L, 0);
}
#define FAIL(L, text, part) must_fail(L, text, part, __LINE__)

static inline mpe_engine *
open_engine(const mpe_config *config)
{
    mpe_engine *e = NULL;
    int rc = mpe_open(config, &e);
    if (rc != MPE_OK) {
        printf("mpe_open: %s\n", mpe_strerror(rc));
        exit(1);
    }
    return e;
}

static inline lua_State *
open_state(mpe_engine *e)
{
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    CHECK_EQ(mpe_lua_open(L, e), MPE_OK);
    return L;
}

static inline void
note_signals(void)
{
    for (int i = 1; i <= 64; i++)
        sigaction(i, NULL, &dispositions[i]);
}

static inline void
check_signals(void)
{
    for (int i = 1; i <= 64; i++) {
        struct sigaction now;
        if (sigaction(i, NULL, &now) == 0 && now.sa_handler != dispositions[i].sa_handler)
            failures += printf("signal %d was taken\n", i) > 0;
    }
}

#endif
