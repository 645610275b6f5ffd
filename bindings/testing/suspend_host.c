/* SPDX-License-Identifier: MIT
 *
 * suspend_host.c - C functions that suspend a task, and values that C and Lua hand to each other.
 */
#include "testing/host.h"

#include <pthread.h>

typedef struct request {
    mpe_engine *e;
    mpe_call call;
    int how, value;
    uv_timer_t timer;
} request;

enum { AT_ONCE, BY_TIMER, BY_THREAD, FAILS, NEVER, COLLECTED };

static int pushed, cancelled, refused, begun;
static mpe_call last;
static request *waiting[1000];
static int waiting_count;

static void
on_closed(uv_handle_t *h)
{
    free(h->data);
}

static void
on_timer(uv_timer_t *t)
{
    request *r = t->data;
    CHECK_EQ(mpe_call_finish(r->e, r->call, 2), MPE_OK);
    refused += mpe_call_finish(r->e, r->call, 3) == MPE_ESTALE;
}

static void *
on_thread(void *ud)
{
    request *r = ud;
    mpe_engine *e = r->e;
    mpe_call_finish(e, r->call, 4);
    return NULL;
}

static int
start(mpe_engine *e, mpe_call c, void *ud)
{
    request *r = ud;
    pthread_t t;
    begun++;
    last = r->call = c;
    r->e = e;
    switch (r->how) {
    case AT_ONCE:
        CHECK_EQ(mpe_call_finish(e, c, 1), MPE_OK);
        CHECK_EQ(mpe_call_finish(e, c, 1), MPE_ESTALE);
        break;
    case BY_TIMER:
        uv_timer_init(mpe_loop(e), &r->timer);
        r->timer.data = r;
        uv_timer_start(&r->timer, on_timer, 2, 0);
        break;
    case BY_THREAD:
        pthread_create(&t, NULL, on_thread, r);
        pthread_detach(t);
        break;
    case FAILS:
        return MPE_ESYS;
    case COLLECTED:
        waiting[waiting_count++] = r;
        break;
    }
    return MPE_OK;
}

static void
done_with(request *r)
{
    if (r->how == BY_TIMER)
        uv_close((uv_handle_t *)&r->timer, on_closed);
    else
        free(r);
}

static int
push(lua_State *L, int status, void *ud)
{
    pushed++;
    done_with(ud);
    if (status < 0)
        return luaL_error(L, "failed with %s", mpe_strerror(status));
    lua_pushinteger(L, status);
    return 1;
}

static void
cancel(mpe_engine *e, mpe_call c, void *ud)
{
    CHECK(e != NULL || c == 0); /* it could not begin */
    cancelled++;
    done_with(ud);
}

static const mpe_call_ops ops = {start, push, cancel};

static int
call(lua_State *L)
{
    request *r = calloc(1, sizeof *r);
    r->how = (int)luaL_checkinteger(L, 1);
    return mpe_lua_suspend(L, &ops, r);
}

static int
call_nothing(lua_State *L)
{
    return mpe_lua_suspend(L, NULL, NULL);
}

static void *
finish_quarter(void *ud)
{
    for (int i = *(int *)ud; i < 1000; i += 4)
        CHECK_EQ(mpe_call_finish(waiting[i]->e, waiting[i]->call, i), MPE_OK);
    return NULL;
}

static int
finish_all(lua_State *L)
{
    pthread_t t[4];
    int from[4];
    CHECK_EQ(waiting_count, 1000);
    for (int i = 0; i < 4; i++) {
        from[i] = i;
        pthread_create(&t[i], NULL, finish_quarter, &from[i]);
    }
    for (int i = 0; i < 4; i++)
        pthread_join(t[i], NULL);
    (void)L;
    return 0;
}

static void
suspends_and_finishes(void)
{
    mpe_engine *e = open_engine(NULL);
    lua_State *L = open_state(e);
    lua_register(L, "call", call);
    lua_register(L, "finish_all", finish_all);
    RUN(L,
        "co = require 'mpengine'.co\n"
        "local function all()\n"
        "  return call(0) .. call(1) .. call(2) .. tostring(select(2, pcall(call, 3))):sub(1, 6)\n"
        "end\n"
        "assert(all() == '124failed')\n"
        "assert(co.spawn(all):get() == '124failed')\n"
        "assert(coroutine.wrap(all)() == '124failed')\n"
        "assert(co.spawn(function() return coroutine.wrap(all)() end):get() == '124failed')\n"
        "assert(select(2, pcall(all)) == '124failed')\n"
        "table.sort({3, 1, 2}, function(a, b) call(1) return a < b end)");
    CHECK(refused >= 5);
    CHECK_EQ(cancelled, 0);
    RUN(L,
        "local t = co.spawn(call, 4) co.sleep(0) t:kill() assert(select(2, t:get()) == 'killed')\n"
        "assert(select(2, co.with_timeout(0.01, call, 4)) == 'timeout')");
    CHECK_EQ(cancelled, 2);
    RUN(L, "local n = 0 local t = co.spawn(function() while true do n = n + call(0) end end)\n"
           "co.sleep(0.005) t:kill() t:join() assert(n > 0)");
    CHECK_EQ(cancelled, 3);
    CHECK_EQ(mpe_call_finish(e, last, 0), MPE_ESTALE);
    CHECK_EQ(mpe_call_finish(e, 0, 0), MPE_ESTALE);
    RUN(L, "local t, sum = {}, 0\n"
           "for i = 1, 1000 do t[i] = co.spawn(call, 5) end co.sleep(0) finish_all()\n"
           "for i = 1, 1000 do sum = sum + t[i]:get() end assert(sum == 999 * 1000 // 2)");
    lua_register(L, "call_nothing", call_nothing);
    FAIL(L, "call_nothing()", "mpe_lua_suspend: ");
    FAIL(L, "require 'mpengine'.Event():wait()", "can never come");
    RUN(L, "co.spawn(call, 4) co.sleep(0)");
    lua_close(L);
    CHECK_EQ(cancelled, 4);
    CHECK_EQ(pushed + cancelled, begun);
    CHECK_EQ(mpe_call_finish(e, last, 0), MPE_ESTALE);
    mpe_close(e);
}

/* Neither needs the script to have required the library; both raise when it is closed. */
static void
loads_the_library(void)
{
    mpe_engine *e = open_engine(NULL);
    lua_State *L = open_state(e), *other = luaL_newstate();
    int before = cancelled;
    lua_register(L, "call", call);
    RUN(L, "assert(call(0) == 1)");
    mpe_close(e);
    FAIL(L, "call(0)", "the library is closed");
    CHECK_EQ(cancelled, before + 1);
    lua_close(L);
    luaL_openlibs(other);
    RUN(other, "package.path, package.cpath = '', ''");
    lua_register(other, "call", call);
    FAIL(other, "call(0)", "mpengine");
    CHECK_EQ(cancelled, before + 2);
    lua_close(other);
}

static int
push_queue(lua_State *L)
{
    mpe_lua_push(L, lua_touserdata(L, lua_upvalueindex(1)));
    return 1;
}

static void *
finish_often(void *ud)
{
    mpe_engine *e = ud;
    for (int i = 0; i < 1000; i++)
        mpe_call_finish(e, __atomic_load_n(&last, __ATOMIC_SEQ_CST), i);
    return NULL;
}

/* A finish is over, or finds nothing, when the state is closed: the engine may go then. */
static void
closes_beside_threads_that_finish(void)
{
    for (int i = 0; i < 20; i++) {
        mpe_engine *e = open_engine(NULL);
        lua_State *L = open_state(e);
        pthread_t t[2];
        lua_register(L, "call", call);
        RUN(L, "co = require 'mpengine'.co for i = 1, 10 do co.spawn(call, 4) end co.sleep(0)");
        for (int k = 0; k < 2; k++)
            pthread_create(&t[k], NULL, finish_often, e);
        lua_close(L);
        mpe_close(e);
        for (int k = 0; k < 2; k++)
            pthread_join(t[k], NULL);
    }
}

static void
hands_objects_and_values_over(void)
{
    mpe_engine *e = open_engine(NULL);
    lua_State *L = open_state(e);
    mpe_object *q;
    mpe_buf b;
    mpe_buf_init(&b);
    CHECK_EQ(mpe_queue_create(e, 0, 0, &q), MPE_OK);
    mpe_lua_push(L, q);
    CHECK(mpe_lua_to(L, -1) == q);
    lua_setglobal(L, "q");
    mpe_drop(e, q);
    RUN(L, "mp = require 'mpengine' q:put(5) assert(q:get() == 5) return mp.Event(), 1");
    CHECK(mpe_lua_to(L, -1) == NULL);
    CHECK(mpe_lua_to(L, -2) != NULL);
    lua_settop(L, 0);
    RUN(L, "return 'kept', 1, nil, {2, x = q}");
    CHECK_EQ(mpe_lua_encode(L, 3, &b), MPE_OK);
    CHECK_EQ(lua_gettop(L), 1);
    CHECK_EQ(mpe_lua_decode(L, b.data, b.len), 3);
    CHECK_EQ(lua_gettop(L), 4);
    lua_getfield(L, 4, "x");
    CHECK(mpe_lua_to(L, -1) == q);
    lua_settop(L, 1);
    size_t before = b.len;
    lua_pushinteger(L, 1);
    lua_pushvalue(L, LUA_REGISTRYINDEX);
    CHECK(mpe_lua_encode(L, 2, &b) < 0);
    CHECK(b.len == before && lua_gettop(L) == 2 && lua_isstring(L, 2));
    CHECK_EQ(mpe_lua_decode(L, "\xff\xff", 2), MPE_ECORRUPT);
    CHECK(lua_gettop(L) == 3 && lua_isstring(L, 3));
    mpe_buf_free(&b);
    lua_pushlightuserdata(L, q);
    lua_pushcclosure(L, push_queue, 1);
    lua_setglobal(L, "push_queue");
    mpe_close(e);
    FAIL(L, "push_queue()", "the library is closed");
    lua_close(L);
}

int
main(void)
{
    note_signals();
    suspends_and_finishes();
    loads_the_library();
    closes_beside_threads_that_finish();
    hands_objects_and_values_over();
    check_signals();
    return failures != 0;
}
