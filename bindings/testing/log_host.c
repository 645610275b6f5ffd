/* SPDX-License-Identifier: MIT
 *
 * log_host.c - the log of a host: what no call of the script returns is told to it, and to it
 * alone.
 */
#include "testing/host.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/wait.h>

#define MESSAGES 16

/* What the log was told; in a child it goes to the pipe of the parent. */
static struct told {
    int count, level[MESSAGES];
    size_t size[MESSAGES];
    char text[MESSAGES][2000];
    int fd;
    mpe_engine *e; /* which the log uses */
    mpe_object *queue;
} told;

static void
on_log(void *ud, int level, const char *text, size_t n)
{
    struct told *t = ud;
    CHECK_EQ(text[n], '\0');
    CHECK(n > 0 && text[n - 1] != '\n');
    if (t->fd > 0 && write(t->fd, text, n) != (ssize_t)n)
        return;
    if (t->queue)
        CHECK_EQ(mpe_put(t->e, t->queue, text, n, MPE_NOW), MPE_OK);
    if (!CHECK(t->count < MESSAGES))
        return;
    t->level[t->count] = level;
    t->size[t->count] = n;
    memcpy(t->text[t->count++], text, n < 1999 ? n + 1 : 0);
}

/* A state whose host has a log; nothing was told yet. */
static lua_State *
open_with_log(mpe_engine **e)
{
    mpe_config config = MPE_CONFIG_INIT;
    memset(&told, 0, sizeof told);
    config.log = on_log;
    config.log_ud = &told;
    *e = open_engine(&config);
    lua_State *L = open_state(*e);
    RUN(L, "mp = require 'mpengine' co = mp.co");
    return L;
}

/* The message number i has this level, and each of the texts, in their order. */
static void
check_told(int i, int level, const char *a, const char *b, const char *c)
{
    const char *at = i < told.count ? strstr(told.text[i], a) : NULL;
    at = at && b ? strstr(at, b) : at;
    at = at && c ? strstr(at, c) : at;
    if (!CHECK(at) || !CHECK_EQ(told.level[i], level))
        printf("message %d of %d: %d %s\n", i, told.count, told.level[i], told.text[i]);
}

static void
tells_the_error_of_a_task_once_with_its_traceback(void)
{
    mpe_engine *e;
    lua_State *L = open_with_log(&e);
    RUN(L,
        "co.spawn(function() local function inner() error 'lost' end inner() end) co.sleep(0.001)");
    CHECK_EQ(told.count, 1);
    check_told(0, MPE_LOG_ERROR, "lost", "traceback", "inner");
    RUN(L, "local t = co.spawn(function() error 'heard' end) assert(not pcall(t.get, t))");
    CHECK_EQ(told.count, 1);
    lua_close(L);
    mpe_close(e);
}

static void
tells_the_bytes_as_they_are(void)
{
    mpe_engine *e;
    lua_State *L = open_with_log(&e);
    RUN(L, "local l = mp.get_logger() l:error('a\\0b') l:error('lines\\n\\n') l:warning(12)\n"
           "l:info('%d%%', 5)");
    CHECK_EQ(told.count, 4);
    CHECK(told.size[0] == 3 && memcmp(told.text[0], "a\0b", 4) == 0);
    CHECK(strcmp(told.text[1], "lines") == 0);
    CHECK(strcmp(told.text[2], "12") == 0);
    CHECK(strcmp(told.text[3], "5%") == 0);
    lua_close(L);
    mpe_close(e);
}

static void
tells_every_level_until_the_script_sets_one(void)
{
    mpe_engine *e;
    lua_State *L = open_with_log(&e);
    RUN(L,
        "l = mp.get_logger()\n"
        "for _, n in ipairs { 'debug', 'info', 'warning', 'error', 'critical' } do l[n](l, n) end\n"
        "l:log(25, 'a level between')");
    check_told(0, MPE_LOG_DEBUG, "debug", NULL, NULL);
    check_told(1, MPE_LOG_INFO, "info", NULL, NULL);
    check_told(2, MPE_LOG_WARNING, "warning", NULL, NULL);
    check_told(3, MPE_LOG_ERROR, "error", NULL, NULL);
    check_told(4, MPE_LOG_ERROR, "critical", NULL, NULL);
    check_told(5, MPE_LOG_INFO, "between", NULL, NULL);
    RUN(L, "l:set_level('error') l:warning('no') l:error('yes')");
    CHECK_EQ(told.count, 7);
    check_told(6, MPE_LOG_ERROR, "yes", NULL, NULL);
    lua_close(L);
    mpe_close(e);
}

static void
tells_what_the_watchdog_and_callbacks_find(void)
{
    mpe_engine *e;
    lua_State *L = open_with_log(&e);
    RUN(L, "co.watchdog(0.01)\n"
           "co.spawn(function() local till = os.clock() + 0.1 while os.clock() < till do end "
           "end):join()\n"
           "co.watchdog(nil)");
    CHECK_EQ(told.count, 1);
    check_told(0, MPE_LOG_WARNING, "watchdog", "traceback", NULL);
    RUN(L,
        "pool = mp.get_context('fork').Pool(1)\n"
        "local opts = { callback = function() error 'callback' end }\n"
        "pool:apply_async(function() return 1 end, {}, opts):wait() pool:terminate() pool:join()");
    CHECK_EQ(told.count, 2);
    check_told(1, MPE_LOG_ERROR, "callback", "traceback", NULL);
    lua_close(L);
    mpe_close(e);
}

static void
may_call_what_does_not_wait(void)
{
    mpe_engine *e;
    mpe_message m;
    lua_State *L = open_with_log(&e);
    CHECK_EQ(mpe_queue_create(e, 0, 0, &told.queue), MPE_OK);
    told.e = e;
    RUN(L, "co.spawn(function() error 'kept' end) co.sleep(0.001)");
    CHECK_EQ(mpe_get(e, told.queue, &m, MPE_NOW), MPE_OK);
    CHECK(m.size == told.size[0]);
    mpe_message_free(e, &m);
    mpe_drop(e, told.queue);
    lua_close(L);
    mpe_close(e);
}

/* A fork of the state has the log; one that is made of a thread's engine, too. */
static void
is_told_by_children_that_were_forked(void)
{
    char text[2000];
    int ends[2];
    mpe_engine *e;
    lua_State *L = open_with_log(&e);
    CHECK_EQ(pipe(ends), 0);
    told.fd = ends[1];
    RUN(L,
        "local p = mp.get_context('fork').Process { name = 'w1', target = function() error 'in w1' "
        "end } p:start() p:join() assert(p.exitcode == 1)");
    close(ends[1]);
    ssize_t n = read(ends[0], text, sizeof text - 1);
    text[n > 0 ? n : 0] = '\0';
    CHECK(strstr(text, "w1") && strstr(text, "in w1") && strstr(text, "traceback"));
    CHECK_EQ(told.count, 0);
    close(ends[0]);
    lua_close(L);
    mpe_close(e);
}

static void *
fail_on_a_thread(void *ud)
{
    mpe_engine *mine;
    CHECK_EQ(mpe_open_thread(ud, "other", &mine), MPE_OK);
    lua_State *L = open_state(mine);
    RUN(L,
        "local co = require 'mpengine'.co co.spawn(function() error 'apart' end) co.sleep(0.001)");
    lua_close(L);
    mpe_close(mine);
    return NULL;
}

static void
is_that_of_a_thread_too(void)
{
    mpe_engine *e;
    pthread_t thread;
    lua_State *L = open_with_log(&e);
    pthread_create(&thread, NULL, fail_on_a_thread, e);
    pthread_join(thread, NULL);
    CHECK_EQ(told.count, 1);
    check_told(0, MPE_LOG_ERROR, "apart", "traceback", NULL);
    lua_close(L);
    mpe_close(e);
}

static void
on_done(lua_State *L, void *ud, int status, int nresults)
{
    (void)ud, (void)status, (void)nresults;
    luaL_error(L, "the done of the host");
}

static void
is_told_what_a_function_of_the_host_raises(void)
{
    mpe_engine *e;
    lua_State *L = open_with_log(&e);
    luaL_loadstring(L, "return 1");
    CHECK_EQ(mpe_lua_spawn(L, 0, on_done, NULL, NULL), MPE_OK);
    RUN(L, "co.sleep(0.001)");
    luaL_loadstring(L, "error 'no done'");
    CHECK_EQ(mpe_lua_spawn(L, 0, NULL, NULL, NULL), MPE_OK);
    RUN(L, "co.sleep(0.001)");
    CHECK_EQ(told.count, 2);
    check_told(0, MPE_LOG_ERROR, "the done of the host", NULL, NULL);
    check_told(1, MPE_LOG_ERROR, "no done", "traceback", NULL);
    lua_close(L);
    mpe_close(e);
}

static void
is_told_nothing_once_the_engine_is_closed(void)
{
    mpe_engine *e;
    lua_State *L = open_with_log(&e);
    RUN(L, "co.spawn(function() error 'before' end)\n"
           "late = setmetatable({}, {__gc = function() mp.get_logger():error('late') end})");
    mpe_close(e);
    int before = told.count;
    RUN(L, "mp.get_logger():error('after')");
    lua_close(L);
    CHECK_EQ(told.count, before);
}

/* Whatever is written to stderr meanwhile. */
static int
begin_catch(int *saved)
{
    int ends[2];
    CHECK_EQ(pipe2(ends, O_NONBLOCK), 0);
    *saved = dup(2);
    dup2(ends[1], 2);
    close(ends[1]);
    return ends[0];
}

static void
check_silent(int fd, int saved)
{
    char text[2000];
    dup2(saved, 2);
    close(saved);
    ssize_t n = read(fd, text, sizeof text - 1);
    if (!CHECK(n <= 0))
        printf("stderr: %.*s\n", (int)n, text);
    close(fd);
}

static void
writes_nothing_without_one(void)
{
    int saved, fd = begin_catch(&saved);
    for (int with_log = 0; with_log < 2; with_log++) {
        mpe_engine *e = NULL;
        lua_State *L = with_log ? open_with_log(&e) : open_state(e = open_engine(NULL));
        RUN(L, "mp = require 'mpengine' co = mp.co\n"
               "co.spawn(function() error 'lost' end) co.sleep(0.001)\n"
               "mp.get_logger():critical('lost')\n"
               "mp.get_context('fork').Process { target = function() error 'lost' end }:start()");
        lua_close(L);
        mpe_close(e);
    }
    check_silent(fd, saved);
}

int
main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    tells_the_error_of_a_task_once_with_its_traceback();
    tells_the_bytes_as_they_are();
    tells_every_level_until_the_script_sets_one();
    tells_what_the_watchdog_and_callbacks_find();
    may_call_what_does_not_wait();
    is_told_by_children_that_were_forked();
    is_that_of_a_thread_too();
    is_told_what_a_function_of_the_host_raises();
    is_told_nothing_once_the_engine_is_closed();
    writes_nothing_without_one();
    return failures != 0;
}
