/* SPDX-License-Identifier: MIT
 *
 * embedded_host.c - what a host keeps: its signals, print, io and os.exit, its exit functions and
 * its coroutines; and where its callbacks may wait.
 */
#include "testing/host.h"

#include <pthread.h>
#include <sys/wait.h>

static int printed, exit_called;
static lua_State *state;
static char said[200];

static int
host_print(lua_State *L)
{
    (void)L;
    printed++;
    return 0;
}

static void
keeps_print_io_and_exit(void)
{
    mpe_engine *e = open_engine(NULL);
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    lua_register(L, "print", host_print);
    RUN(L, "function functions()\n"
           "  local found = {}\n"
           "  for k, v in pairs(_G) do\n"
           "    local is_free = k == 'coroutine' or k == 'require' or k == 'package' or k == '_G'\n"
           "    if not is_free and k ~= 'before' then found[k] = v end\n"
           "    if type(v) == 'table' and not is_free and k ~= 'before' then\n"
           "      for n, f in pairs(v) do found[k .. '.' .. tostring(n)] = f end\n"
           "    end\n"
           "  end\n"
           "  for n, f in pairs(getmetatable(io.stdout).__index) do found['file:' .. n] = f end\n"
           "  return found\n"
           "end\n"
           "before = functions()");
    CHECK_EQ(mpe_lua_open(L, e), MPE_OK);
    RUN(L, "local mp = require 'mpengine' print('here')\n"
           "mp.co.spawn(function() print('in a task') end):join()\n"
           "mp.co.with_timeout(1, function() mp.sleep(0.001) end)\n"
           "local now = functions()\n"
           "for k, v in pairs(now) do assert(before[k] == v, k) end\n"
           "for k, v in pairs(before) do assert(now[k] == v, k) end");
    CHECK_EQ(printed, 2);
    lua_close(L);
    mpe_close(e);
}

/* The state of a host that gives the script what a program of Lua has. */
static lua_State *
open_as_program(mpe_engine **e)
{
    mpe_config config = MPE_CONFIG_INIT;
    config.flags = MPE_LUA_PROGRAM;
    *e = open_engine(&config);
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    RUN(L, "before = { print, io.write, io.stdout.write, os.exit }");
    CHECK_EQ(mpe_lua_open(L, *e), MPE_OK);
    RUN(L, "mp = require 'mpengine' co = mp.co");
    return L;
}

static void
on_host_signal(int number)
{
    (void)number;
}

static void
gives_the_script_what_it_is_asked_to(void)
{
    mpe_engine *e;
    signal(SIGINT, on_host_signal);
    lua_State *L = open_as_program(&e);
    RUN(L, "for i, f in ipairs { print, io.write, io.stdout.write, os.exit } do\n"
           "  assert(f ~= before[i], i)\n"
           "end\n"
           "assert(mp.get_start_method() == 'forkserver')"); /* its executable is the host */
    raise(SIGINT);
    FAIL(L, "while true do end", "interrupted");
    CHECK(signal(SIGINT, on_host_signal) != on_host_signal);
    CHECK(signal(SIGQUIT, SIG_DFL) == SIG_DFL); /* it would start this program as a reader */
    lua_close(L);
    struct sigaction now;
    CHECK(sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    CHECK(signal(SIGINT, SIG_DFL) == on_host_signal);
    mpe_close(e);
}

/* A thread's engine has not the flag of the one that it shares the arena with. */
static void *
keep_print_on_a_thread(void *with)
{
    mpe_engine *e;
    CHECK_EQ(mpe_open_thread(with, "other", &e), MPE_OK);
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    RUN(L, "before = print");
    CHECK_EQ(mpe_lua_open(L, e), MPE_OK);
    RUN(L, "require 'mpengine' assert(print == before)");
    lua_close(L);
    mpe_close(e);
    return NULL;
}

static void
gives_it_to_the_state_of_that_engine_alone(void)
{
    mpe_engine *e;
    pthread_t thread;
    lua_State *L = open_as_program(&e);
    pthread_create(&thread, NULL, keep_print_on_a_thread, e);
    pthread_join(thread, NULL);
    lua_close(L);
    mpe_close(e);
}

static void *
stop_loops(void *unused)
{
    mpe_engine *e = open_engine(NULL);
    lua_State *L = open_state(e);
    RUN(L, "local co = require 'mpengine'.co\n"
           "local function loop() while true do end end\n"
           "local function inside() return coroutine.wrap(loop)() end\n"
           "local old = coroutine.create(loop)\n"
           "for _, f in ipairs{loop, inside, function() coroutine.resume(old) loop() end} do\n"
           "  assert(select(2, co.with_timeout(0.02, f)) == 'timeout')\n"
           "  assert(co.spawn(function() return select(2, co.with_timeout(0.02, f)) end):get() == "
           "'timeout')\n"
           "end\n"
           "local t = co.spawn(function() pcall(co.sleep, 5) loop() end)\n"
           "co.sleep(0.001) t:kill() assert(select(2, t:get()) == 'killed')");
    lua_close(L);
    mpe_close(e);
    return unused;
}

static void
ends_loops_of_two_threads_by_a_deadline(void)
{
    pthread_t a, b;
    pthread_create(&a, NULL, stop_loops, NULL);
    pthread_create(&b, NULL, stop_loops, NULL);
    pthread_join(a, NULL);
    pthread_join(b, NULL);
}

static void
call_that_waits(uv_timer_t *t)
{
    if (run_text(state, t->data))
        snprintf(said, sizeof said, "%s", lua_tostring(state, -1));
    lua_settop(state, 0);
}

static void
refuses_a_wait_in_a_callback_while_another_waits(void)
{
    uv_timer_t timer;
    mpe_engine *e = open_engine(NULL);
    lua_State *L = state = open_state(e);
    uv_timer_init(mpe_loop(e), &timer);
    const char *waits[] = {"q:get()",
                           "co.sleep(1)",
                           "co.sleep(0.001)",
                           "c:acquire() c:wait()",
                           "co.spawn(co.sleep, 0):join()",
                           "b:wait()",
                           NULL};
    RUN(L, "mp = require 'mpengine' co = mp.co q, c, b, m, n = mp.Queue(), mp.Condition(), "
           "mp.Barrier(2), 0, mp.Queue()");
    for (int i = 0; waits[i]; i++) {
        *said = '\0';
        timer.data = (void *)waits[i];
        uv_timer_start(&timer, call_that_waits, 2, 0);
        RUN(L, "local t = co.spawn(function() co.sleep(0.01) n:put('main') end)\n"
               "assert(n:get() == 'main') t:join() pcall(c.release, c)");
        if (!CHECK(strstr(said, "spawn a task")))
            printf("%s: %s\n", waits[i], said);
    }
    timer.data =
        (void *)"n:put('callback') co.spawn(function() q:put(n:get()) end) assert(q:get(0) == nil)";
    *said = '\0';
    uv_timer_start(&timer, call_that_waits, 2, 0);
    RUN(L, "assert(q:get() == 'callback')");
    CHECK_EQ(*said, '\0');
    uv_close((uv_handle_t *)&timer, NULL);
    RUN(L, "mp.sleep(0.001)");
    lua_close(L);
    mpe_close(e);
}

static void
names_what_to_call_for_a_coroutine_it_resumes(void)
{
    int n;
    mpe_engine *e = open_engine(NULL);
    lua_State *L = open_state(e), *co = lua_newthread(L);
    RUN(L, "mp = require 'mpengine' q = mp.Queue()");
    luaL_loadstring(co, "q:put(1) assert(q:get() == 1) mp.sleep(0.1)");
    CHECK_EQ(lua_resume(co, L, 0, &n), LUA_ERRRUN);
    CHECK(lua_tostring(co, -1) && strstr(lua_tostring(co, -1), "mpe_lua_call"));
    RUN(L, "return coroutine.wrap(function() mp.sleep(0.001) return 1 end)()");
    lua_close(L);
    mpe_close(e);
}

static void
note_exit(void)
{
    exit_called = 1;
    _exit(7);
}

static void
runs_its_exit_functions_after_an_offload(void)
{
    int status = 0;
    pid_t child = fork();
    if (child == 0) {
        atexit(note_exit);
        lua_State *L = open_state(open_engine(NULL));
        RUN(L, "local co = require 'mpengine'.co\n"
               "co.spawn(co.offload, function() while true do end end) co.sleep(0.02) os.exit(0)");
    }
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
}

static void
runs_its_exit_functions_when_the_script_may_exit(void)
{
    int status = 0, ends[2];
    char text[32];
    CHECK_EQ(pipe(ends), 0);
    pid_t child = fork();
    if (child == 0) {
        mpe_engine *e;
        dup2(ends[1], 1);
        atexit(note_exit);
        lua_State *L = open_as_program(&e);
        RUN(L, "co.spawn(function() print('in a task') os.exit(3) end) co.sleep(5)");
    }
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 7);
    CHECK_EQ(read(ends[0], text, sizeof text), 10);
    close(ends[0]);
    close(ends[1]);
}

static void
has_one_state_per_engine(void)
{
    mpe_engine *e = open_engine(NULL), *other = open_engine(NULL);
    lua_State *a = open_state(e), *b = luaL_newstate();
    luaL_openlibs(b);
    CHECK_EQ(mpe_lua_open(a, e), MPE_OK);
    CHECK_EQ(mpe_lua_open(a, other), MPE_EEXIST);
    CHECK_EQ(mpe_lua_open(b, e), MPE_EEXIST);
    FAIL(b, "require 'mpengine'", "no engine");
    CHECK(mpe_lua_engine(b) == NULL);
    CHECK(mpe_lua_engine(a) == e);
    lua_close(a);
    CHECK_EQ(mpe_lua_open(b, e), MPE_OK);
    RUN(b, "require 'mpengine'.sleep(0.001)");
    CHECK(mpe_lua_engine(b) == e);
    lua_close(b);
    CHECK_EQ(mpe_lua_open(NULL, e), MPE_EINVAL);
    mpe_close(e);
    mpe_close(other);
}

static void
closes_the_engine_before_the_state(void)
{
    mpe_engine *e = open_engine(NULL);
    lua_State *L = open_state(e);
    RUN(L, "mp = require 'mpengine' co = mp.co q, d, l, ev = mp.Queue(), mp.Dict(), mp.List(), "
           "mp.Event()\n"
           "q:put{1} d.x = 1 l:append(2) t = co.spawn(function() q:get() q:get() end)\n"
           "co.sleep(0.001) w = coroutine.wrap(function() coroutine.yield(1) return 2 end) w()\n"
           "f = setmetatable({}, {__gc = function() pcall(q.put, q, 1) end})");
    mpe_close(e);
    CHECK(mpe_lua_engine(L) == NULL);
    FAIL(L, "q:put(1)", "the host has closed its engine");
    FAIL(L, "return d.x", "closed");
    FAIL(L, "mp.Queue()", "closed");
    FAIL(L, "mp.sleep(1)", "closed");
    FAIL(L, "t:join()", "closed");
    FAIL(L, "co.spawn(print)", "closed");
    RUN(L, "assert(w() == 2) assert(require 'mpengine' == mp) collectgarbage()");
    lua_close(L);
}

static void
opens_a_state_with_few_libraries(void)
{
    mpe_engine *e = open_engine(NULL);
    lua_State *L = luaL_newstate();
    luaL_requiref(L, "_G", luaopen_base, 1);
    luaL_requiref(L, "package", luaopen_package, 1);
    luaL_requiref(L, "string", luaopen_string, 1);
    CHECK_EQ(mpe_lua_open(L, e), MPE_OK);
    FAIL(L, "require 'mpengine'", "coroutine");
    luaL_requiref(L, "coroutine", luaopen_coroutine, 1);
    RUN(L, "local mp = require 'mpengine' local co = mp.co\n"
           "local q = mp.Queue() local t = co.spawn(function() return q:get() end) q:put{1, 2}\n"
           "assert(#t:get() == 2) mp.get_logger() mp.stats()\n"
           "assert(not (io or os or debug or math or table or utf8))\n"
           "assert(not package.loaded.os and not package.loaded.io)");
    lua_close(L);
    mpe_close(e);
}

int
main(void)
{
    note_signals();
    keeps_print_io_and_exit();
    gives_the_script_what_it_is_asked_to();
    gives_it_to_the_state_of_that_engine_alone();
    runs_its_exit_functions_when_the_script_may_exit();
    ends_loops_of_two_threads_by_a_deadline();
    refuses_a_wait_in_a_callback_while_another_waits();
    names_what_to_call_for_a_coroutine_it_resumes();
    runs_its_exit_functions_after_an_offload();
    has_one_state_per_engine();
    closes_the_engine_before_the_state();
    opens_a_state_with_few_libraries();
    check_signals();
    return failures != 0 || exit_called;
}
