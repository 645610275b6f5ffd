/* SPDX-License-Identifier: MIT
 *
 * memory_host.c - the allocator of a host beneath a script: what the engine has for it comes from
 * there, is all given back by mpe_close, and may be refused at any time.
 */
#include "testing/host.h"

static struct {
    size_t blocks, bytes, asked, fails, wrong;
    pid_t pid;
} told;

/* The size is in front of each block. */
static void *
alloc(void *ud, void *block, size_t old_size, size_t size)
{
    max_align_t *old = block ? (max_align_t *)block - 1 : NULL, *now = NULL;
    (void)ud;
    told.wrong += (old ? *(size_t *)old : 0) != old_size;
    if (size > old_size && getpid() == told.pid && ++told.asked == told.fails)
        return NULL;
    if (size > 0)
        now = realloc(old, sizeof *now + size);
    else
        free(old);
    if (now)
        *(size_t *)now = size;
    told.blocks += (size_t)(now != NULL) - (size_t)(old != NULL);
    told.bytes += size - old_size;
    return now ? now + 1 : NULL;
}

static const char script[] =
    "local mp = require 'mpengine' local co = mp.co\n"
    "local q, d, l = mp.Queue(), mp.Dict(), mp.List()\n"
    "local many = {} for i = 1, 300 do many[i] = mp.Event() end\n"
    "d.long = ('x'):rep(5000) assert(#d.long == 5000)\n"
    "l:extend { 1, ('y'):rep(5000), 3 } l:reverse() assert(l[1] == 3)\n"
    "local tasks = {} for i = 1, 20 do tasks[i] = co.spawn(function() co.sleep(0.001) return "
    "q:get() end) end\n"
    "for i = 1, 20 do q:put { i, many } end\n"
    "for _, t in ipairs(tasks) do assert(#t:get()[2] == 300) end\n"
    "assert(co.offload(function(n) return n + 1 end, 1) == 2)\n"
    "local p = {} for i = 1, 6 do p[i] = mp.get_context('fork').Process { target = q.put, args = { "
    "q, i } } "
    "p[i]:start() end\n"
    "for i = 1, 6 do q:get() p[i]:join() end\n"
    "local pool = mp.get_context('fork').Pool(2)\n"
    "assert(#pool:map(function(n) return n * n end, { 1, 2, 3 }) == 3) pool:close() pool:join()\n";

static mpe_engine *
open_counted(void)
{
    mpe_config config = MPE_CONFIG_INIT;
    config.alloc = alloc;
    memset(&told, 0, sizeof told);
    told.pid = getpid();
    return open_engine(&config);
}

static void
check_whole(void)
{
    CHECK_EQ(told.blocks, 0);
    CHECK_EQ(told.bytes, 0);
    CHECK_EQ(told.wrong, 0);
}

static void
gives_everything_back_in_either_order(void)
{
    for (int engine_first = 0; engine_first < 2; engine_first++) {
        mpe_engine *e = open_counted();
        lua_State *L = open_state(e);
        RUN(L, script);
        RUN(L, "kept = { require 'mpengine'.Queue(), require 'mpengine'.co.spawn(function() "
               "require 'mpengine'.sleep(60) end) }");
        CHECK(told.blocks > 3);
        if (!engine_first)
            lua_close(L);
        mpe_close(e);
        check_whole();
        if (engine_first)
            lua_close(L);
        check_whole();
    }
}

/* Each allocation in turn, as many as the script makes. */
static void
says_that_there_is_no_memory(void)
{
    int failed = 0;
    for (size_t n = 1, met = 1; met; n++) {
        mpe_engine *e = open_counted();
        lua_State *L = open_state(e);
        told.asked = 0;
        told.fails = n;
        if (run_text(L, script)) {
            failed++;
            if (!CHECK(strstr(luaL_tolstring(L, -1, NULL), "memory")))
                printf("allocation %zu: %s\n", n, lua_tostring(L, -1));
        }
        met = told.asked >= n;
        told.fails = 0;
        lua_close(L);
        mpe_close(e);
        check_whole();
    }
    CHECK(failed > 3);
}

int
main(void)
{
    setvbuf(stdout, NULL, _IONBF, 0);
    gives_everything_back_in_either_order();
    says_that_there_is_no_memory();
    return failures != 0;
}
