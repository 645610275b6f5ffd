/* SPDX-License-Identifier: MIT
 *
 * call_host.c - tasks that a host spawns and kills, and calls of Lua functions that may wait.
 */
#include "testing/host.h"

#include <pthread.h>

typedef struct outcome {
    int calls, status, nresults, inside;
    char text[2000];
} outcome;

static int spawning;

static void
done(lua_State *L, void *ud, int status, int nresults)
{
    outcome *o = ud;
    o->calls++;
    o->status = status;
    o->nresults = nresults;
    o->inside = spawning;
    o->text[0] = 0;
    for (int i = 1; i <= nresults; i++) {
        size_t used = strlen(o->text);
        snprintf(o->text + used, sizeof o->text - used, "%s|", luaL_tolstring(L, i, NULL));
        lua_pop(L, 1);
    }
}

static int
spawn(lua_State *L, const char *name, int n, outcome *o, mpe_task *task)
{
    lua_getglobal(L, name);
    for (int i = 1; i <= n; i++)
        lua_pushinteger(L, i);
    spawning = 1;
    int rc = mpe_lua_spawn(L, n, o ? done : NULL, o, task);
    spawning = 0;
    return rc;
}

static void
run_for(mpe_engine *e, int milliseconds)
{
    mpe_object *event;
    CHECK_EQ(mpe_event_create(e, &event), MPE_OK);
    CHECK_EQ(mpe_wait(e, event, mpe_now() + (uint64_t)milliseconds * 1000000), MPE_ETIMEDOUT);
    mpe_drop(e, event);
}

static const char functions[] =
    "co = require 'mpengine'.co\n"
    "function returns(...) co.sleep(0) return select('#', ...), ... end\n"
    "function raises(x) co.sleep(0) error('broken') end\n"
    "function begins() started = true end\n"
    "function waits() started = true co.sleep(100) end\n"
    "function stuck() require 'mpengine'.Event():wait() end\n"
    "function catches() pcall(co.sleep, 100) return 'caught' end\n"
    "function computes() while true do end end\n"
    "function closes() local x <close> = setmetatable({}, {__close = function() closed = true "
    "end})\n"
    "  co.sleep(100) end\n"
    "function takes() local q = require 'mpengine'.Queue() q:put(7) return q:get() end\n"
    "function lasts() co.sleep(0.002) return 'lasted' end\n";

static void
spawns_and_kills(mpe_engine *e, lua_State *L)
{
    outcome o = {0}, other = {0};
    mpe_task task = 0, second = 0;
    CHECK_EQ(spawn(L, "returns", 2, &o, &task), MPE_OK);
    CHECK(task != 0 && o.calls == 0 && lua_gettop(L) == 0);
    run_for(e, 5);
    CHECK(o.calls == 1 && o.status == MPE_OK && o.nresults == 3 && !o.inside);
    CHECK(strcmp(o.text, "2|1|2|") == 0);
    CHECK_EQ(mpe_lua_kill(L, task, NULL), MPE_ESTALE);
    CHECK_EQ(mpe_lua_kill(L, 0, NULL), MPE_ESTALE);

    CHECK_EQ(spawn(L, "raises", 1, &o, NULL), MPE_OK);
    run_for(e, 5);
    CHECK(o.calls == 2 && o.status == MPE_EINVAL && o.nresults == 2);
    CHECK(strstr(o.text, "script:3: broken|") && strstr(o.text, "stack traceback"));

    CHECK_EQ(spawn(L, "begins", 0, &o, &task), MPE_OK);
    CHECK_EQ(mpe_lua_kill(L, task, "no longer"), MPE_OK);
    CHECK_EQ(o.calls, 2);
    run_for(e, 5);
    CHECK(o.calls == 3 && o.status == MPE_ECANCELED && strstr(o.text, "killed"));
    RUN(L, "assert(not started)");

    CHECK_EQ(spawn(L, "waits", 0, &o, &task), MPE_OK);
    CHECK_EQ(spawn(L, "catches", 0, &other, &second), MPE_OK);
    CHECK(second != task);
    run_for(e, 5);
    CHECK_EQ(mpe_lua_kill(L, task, NULL), MPE_OK);
    CHECK_EQ(mpe_lua_kill(L, second, NULL), MPE_OK);
    run_for(e, 5);
    RUN(L, "assert(started)");
    CHECK(o.calls == 4 && o.status == MPE_ECANCELED);
    CHECK(other.calls == 1 && other.status == MPE_OK && strcmp(other.text, "caught|") == 0);

    lua_settop(L, 0);
    lua_pushliteral(L, "kept");
    CHECK_EQ(spawn(L, "nothing", 2, &o, &task), MPE_ETYPE);
    CHECK_EQ(lua_gettop(L), 1);
    CHECK_EQ(mpe_lua_spawn(L, 5, NULL, NULL, NULL), MPE_EINVAL);
    CHECK_EQ(mpe_lua_spawn(NULL, 0, NULL, NULL, NULL), MPE_EINVAL);
    CHECK_EQ(spawn(L, "begins", 0, NULL, NULL), MPE_OK);
    run_for(e, 5);
    CHECK_EQ(o.calls, 4);
    lua_settop(L, 0);
}

/* The status of a call; its values are on the stack. */
static int
call(lua_State *L, const char *name, int n, int nresults, uint64_t deadline)
{
    lua_settop(L, 0);
    lua_pushliteral(L, "kept");
    lua_getglobal(L, name);
    for (int i = 1; i <= n; i++)
        lua_pushinteger(L, i);
    int rc = mpe_lua_call(L, n, nresults, deadline);
    CHECK(strcmp(lua_tostring(L, 1), "kept") == 0);
    if (rc != MPE_OK)
        CHECK_EQ(lua_gettop(L), 3);
    return rc;
}

static uint64_t
soon(void)
{
    return mpe_now() + 10 * 1000000;
}

static int
calls(lua_State *L)
{
    lua_getglobal(L, "returns");
    lua_pushinteger(L, mpe_lua_call(L, 0, 0, MPE_FOREVER));
    return 1;
}

static void
calls_and_waits(lua_State *L)
{
    CHECK_EQ(call(L, "returns", 2, LUA_MULTRET, MPE_FOREVER), MPE_OK);
    CHECK(lua_gettop(L) == 4 && lua_tointeger(L, 2) == 2 && lua_tointeger(L, 4) == 2);
    CHECK_EQ(call(L, "returns", 2, 1, MPE_FOREVER), MPE_OK);
    CHECK_EQ(lua_gettop(L), 2);
    CHECK_EQ(call(L, "returns", 2, 5, soon()), MPE_OK);
    CHECK(lua_gettop(L) == 6 && lua_isnil(L, 6));
    CHECK_EQ(call(L, "lasts", 0, 1, MPE_FOREVER), MPE_OK);

    CHECK_EQ(call(L, "raises", 2, 0, MPE_FOREVER), MPE_EINVAL);
    CHECK(strcmp(lua_tostring(L, 2), "script:3: broken") == 0);
    CHECK(strstr(lua_tostring(L, 3), "in function 'raises'") != NULL);
    CHECK_EQ(call(L, "nothing", 2, 0, MPE_FOREVER), MPE_EINVAL);
    CHECK(strstr(lua_tostring(L, 2), "attempt to call a nil value") != NULL);

    CHECK_EQ(call(L, "closes", 0, 0, soon()), MPE_ETIMEDOUT);
    RUN(L, "assert(closed) closed = false");
    CHECK_EQ(call(L, "computes", 0, 0, soon()), MPE_ETIMEDOUT);
    CHECK_EQ(call(L, "takes", 0, 1, MPE_NOW), MPE_OK);
    CHECK_EQ(lua_tointeger(L, 2), 7);
    CHECK_EQ(call(L, "takes", 0, 1, 1), MPE_OK);
    CHECK_EQ(call(L, "closes", 0, 1, MPE_NOW), MPE_ETIMEDOUT);
    RUN(L, "assert(closed)");

    CHECK_EQ(call(L, "stuck", 0, 0, MPE_FOREVER), MPE_EDEADLK);
    CHECK(strstr(lua_tostring(L, 2), "script:6") != NULL);
    lua_register(L, "calls", calls);
    CHECK_EQ(call(L, "calls", 0, 1, MPE_FOREVER), MPE_OK);
    CHECK_EQ(lua_tointeger(L, 2), MPE_EDEADLK);
    RUN(L, "assert(calls() == 0) assert(co.spawn(calls):get() < 0)");
    lua_settop(L, 0);
}

static void *
from_another_thread(void *ud)
{
    lua_State *L = ud;
    lua_settop(L, 0);
    lua_getglobal(L, "begins");
    CHECK_EQ(mpe_lua_spawn(L, 0, NULL, NULL, NULL), MPE_EPERM);
    CHECK_EQ(mpe_lua_call(L, 0, 0, MPE_NOW), MPE_EPERM);
    CHECK_EQ(mpe_lua_kill(L, 1, NULL), MPE_EPERM);
    CHECK_EQ(lua_gettop(L), 1);
    return NULL;
}

static void
refuses_other_threads(lua_State *L)
{
    pthread_t t;
    CHECK_EQ(pthread_create(&t, NULL, from_another_thread, L), 0);
    pthread_join(t, NULL);
    lua_settop(L, 0);
}

int
main(void)
{
    note_signals();
    mpe_engine *e = open_engine(NULL);
    lua_State *L = open_state(e);
    outcome o = {0};
    RUN(L, functions);
    spawns_and_kills(e, L);
    calls_and_waits(L);
    refuses_other_threads(L);
    CHECK_EQ(spawn(L, "waits", 0, &o, NULL), MPE_OK);
    CHECK_EQ(spawn(L, "begins", 0, &o, NULL), MPE_OK);
    lua_close(L);
    CHECK(o.calls == 2 && o.status == MPE_ECANCELED);
    mpe_close(e);
    check_signals();
    return failures != 0;
}
