/* SPDX-License-Identifier: MIT
 *
 * ltask_joinall.c - waiting for the ends of all tasks of a list: one wait, for the last of them that
 * has not ended, instead of one for each.
 */
#include "base/lsite.h"
#include "task/ltask_int.h"
#include "task/lturn.h"

#include <stdlib.h>

struct joined {
    uint32_t count, left; /* those from left on have ended */
    lmpe_task *tasks[];   /* kept alive by a copy of the list */
};

/* Waits for the last one that has not ended: by then most have. */
static int
attempt_joinall(lmpe *S, lmpe_await *a)
{
    struct joined *j = (struct joined *)(uintptr_t)a->scratch[0];
    (void)S;
    while (j->left > 0 && j->tasks[j->left - 1]->state == LMPE_DONE)
        j->left--;
    if (j->left == 0)
        return MPE_OK;
    a->source = LMPE_LIST;
    a->on.list = &j->tasks[j->left - 1]->joiners;
    return MPE_EAGAIN;
}

static int
by_end(const void *a, const void *b)
{
    const lmpe_task *x = *(lmpe_task *const *)a, *y = *(lmpe_task *const *)b;
    int32_t d = (int32_t)(x->anchor - y->anchor); /* numbers may have wrapped */
    return d < 0 ? -1 : d > 0;
}

/* Appends the tasks that have ended since, in that order, to the list at index 3; 4 has the
 * tasks by their addresses. */
static int
finish_joinall(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    struct joined *j = (struct joined *)(uintptr_t)a->scratch[0];
    uint32_t n = 0;
    (void)S, (void)status;
    for (uint32_t i = 0; i < j->count; i++) {
        if (j->tasks[i]->state == LMPE_DONE)
            j->tasks[n++] = j->tasks[i];
    }
    qsort(j->tasks, n, sizeof j->tasks[0], by_end);
    lua_Integer at = (lua_Integer)lua_rawlen(L, 3);
    for (uint32_t i = 0; i < n; i++) {
        lua_rawgetp(L, 4, j->tasks[i]);
        lua_rawseti(L, 3, ++at);
    }
    lua_settop(L, 3);
    return 1;
}

/* Fills index 3 with those that have ended, 4 and j with the others. */
static void
sort_out(lua_State *L, lua_Integer n, struct joined *j)
{
    lua_Integer ended = 0;
    for (lua_Integer i = 1; i <= n; i++) {
        lua_rawgeti(L, 1, i);
        lmpe_task *t = lmpe_test_task(L, -1);
        if (!t)
            lmpe_script_error(L, lmpe_self(L), "joinall: element %d is not a task (a %s)", (int)i,
                              luaL_typename(L, -1));
        if (t->state == LMPE_DONE) {
            lua_rawseti(L, 3, ++ended);
        } else {
            j->tasks[j->count++] = t;
            lua_rawsetp(L, 4, t);
        }
    }
}

int
lmpe_joinall(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    uint64_t deadline = lmpe_check_deadline(L, 2);
    lua_Integer n = (lua_Integer)lua_rawlen(L, 1);
    lmpe_await_check(L, S);
    lua_settop(L, 2);
    lua_newtable(L);
    lua_newtable(L);
    struct joined *j = lua_newuserdatauv(L, sizeof *j + (size_t)n * sizeof j->tasks[0], 0);
    j->count = 0;
    sort_out(L, n, j);
    if (j->count == 0) {
        lua_settop(L, 3);
        return lmpe_did(L, S, LMPE_DID, 1);
    }
    for (uint32_t i = 0; i < j->count; i++) {
        if (j->tasks[i] == S->current)
            return lmpe_script_error(L, S, "joinall: a task cannot wait for itself");
    }
    j->left = j->count;
    lmpe_await *a = lmpe_await_new(S, deadline, "timeout");
    a->scratch[0] = (uintptr_t)j;
    a->attempt = attempt_joinall;
    a->finish = finish_joinall;
    a->cleans_up = 1;
    return lmpe_await_run(L, S, a);
}
