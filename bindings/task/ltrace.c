/* SPDX-License-Identifier: MIT
 *
 * ltrace.c - what a trace is told of tasks. The callers have seen that there is one. A task is told by
 * its number; where it was spawned by the number of the site, whose name is told once per trace.
 */
#include "base/lmodules.h"
#include "base/lsite.h"
#include "task/ltask_int.h"

#include <string.h>

#define SITES 4096u

struct lmpe_told {
    uint64_t trace; /* that was told */
    uint8_t sites[SITES];
};

void
lmpe_trace_task(lmpe_task *t, uint32_t what, uint64_t object, uint64_t more)
{
    mpe_trace_add(t->S->e, what, (uint32_t)lmpe_task_number(t), object, more);
}

void
lmpe_trace_run(lmpe_task *t)
{
    lmpe_trace_task(t, MPE_TRACE_RUN, 0, t == t->S->main_task ? MPE_TRACE_MAIN : t->site);
}

/* What this trace was told; made when the first site is. */
static struct lmpe_told *
told(lua_State *L, lmpe *S)
{
    if (!S->told) {
        S->told = lua_newuserdatauv(L, sizeof *S->told, 0);
        S->told->trace = 0;
        lua_rawsetp(L, LUA_REGISTRYINDEX, S->told);
    }
    if (S->told->trace != *S->trace)
        memset(S->told, 0, sizeof *S->told);
    S->told->trace = *S->trace;
    return S->told;
}

static void
tell_site(lua_State *L, lmpe *S, uint32_t site)
{
    size_t size;
    struct lmpe_told *t = told(L, S);
    if (site >= SITES || t->sites[site])
        return;
    t->sites[site] = 1;
    lmpe_push_site_name(L, site);
    const char *name = lua_tolstring(L, -1, &size);
    if (name) {
        mpe_trace_add(S->e, MPE_TRACE_SITE, site, 0, size);
        mpe_trace_text(S->e, name, size);
    }
    lua_pop(L, 1);
}

void
lmpe_trace_spawn(lua_State *L, lmpe_task *t)
{
    if (t->site)
        tell_site(L, t->S, t->site);
    lmpe_trace_task(t, MPE_TRACE_SPAWN, 0, t->site);
}
