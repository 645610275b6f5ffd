/* SPDX-License-Identifier: MIT
 *
 * lwaitlist.c - the parts of waits on the Lua side: lists of waiting tasks inside this process,
 * descriptors, and waiting for any of several things.
 */
#include "base/lfinalize.h"
#include "base/llabel.h"
#include "base/lobject.h"
#include "task/ltask_int.h"

#include <stdlib.h>
#include <string.h>

/* ---- waitlists: the base of the co.* objects ---- */

typedef struct waitlist {
    mpe_waitlist list;
    uint32_t place; /* where its owner was made; 0: unknown */
} waitlist;

/* The metatable is upvalue 2: cheaper to compare with than to look up. */
static waitlist *
check_waitlist(lua_State *L)
{
    waitlist *w = lua_touserdata(L, 1);
    if (!w || !lua_getmetatable(L, 1))
        return luaL_checkudata(L, 1, LMPE_WAITLIST);
    if (!lua_rawequal(L, -1, lua_upvalueindex(2)))
        luaL_checkudata(L, 1, LMPE_WAITLIST);
    lua_pop(L, 1);
    return w;
}

mpe_waitlist *
lmpe_check_waitlist(lua_State *L, int idx)
{
    return &((waitlist *)luaL_checkudata(L, idx, LMPE_WAITLIST))->list;
}

uint32_t
lmpe_waitlist_place(lua_State *L, int idx)
{
    const waitlist *w = luaL_testudata(L, idx, LMPE_WAITLIST);
    return w ? w->place : 0;
}

/* waitlist([owner [, true]]) -> an empty one; reports name the owner as the object waited for, and, with
 * true, the line of the script that runs as its place */
static int
new_waitlist(lua_State *L)
{
    int is_placed = lua_toboolean(L, 2);
    lua_settop(L, 1);
    waitlist *w = lua_newuserdatauv(L, sizeof *w, 1);
    memset(w, 0, sizeof *w);
    w->place = is_placed ? lmpe_place_here(L, lmpe_self(L)) : 0;
    luaL_setmetatable(L, LMPE_WAITLIST);
    lua_insert(L, 1);
    lua_setiuservalue(L, 1, 1);
    return 1;
}

static int
finish_list(lua_State *L, lmpe *S, int status)
{
    (void)S;
    if (status == MPE_OK) {
        lua_pushboolean(L, 1);
        return 1;
    }
    luaL_pushfail(L);
    lua_pushliteral(L, "timeout");
    return 2;
}

/* list:wait([timeout]) -> true | nil, "timeout": a wake grants this task its turn, which it
 * keeps even if it is killed then */
static int
waitlist_wait(lua_State *L)
{
    waitlist *w = check_waitlist(L);
    return lmpe_wait(L, lmpe_self(L), &w->list, lmpe_check_deadline(L, 2), finish_list);
}

/* list:wait_shielded(): the same, but no kill ends it */
static int
waitlist_wait_shielded(lua_State *L)
{
    return lmpe_wait_shielded(L, lmpe_self(L), &check_waitlist(L)->list, finish_list);
}

/* list:wake([n]) -> how many were woken, in arrival order; all of them without n */
static int
waitlist_wake(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    waitlist *w = check_waitlist(L);
    lua_Integer n = luaL_optinteger(L, 2, UINT32_MAX);
    lua_pushinteger(L, mpe_waitlist_wake(S->e, &w->list, (uint32_t)n));
    return 1;
}

/* wake_one(self, metatable, call) -> the number of the task of the list self.waiting that was woken, 0: there
 * is none; raises for an object of another type */
static int
wake_one(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_check_type_of(L, 1);
    lua_getfield(L, 1, "waiting");
    lua_replace(L, 1);
    mpe_waitlist *list = &check_waitlist(L)->list;
    lua_pushinteger(L, list->head ? lmpe_waiter_id(list->head) : 0);
    mpe_waitlist_wake(S->e, list, 1);
    return 1;
}

static int
waitlist_empty(lua_State *L)
{
    lua_pushboolean(L, check_waitlist(L)->list.head == NULL);
    return 1;
}

/* ---- descriptors ---- */

static int
attempt_fd(lmpe *S, lmpe_await *a)
{
    (void)S;
    a->source = LMPE_FD;
    a->event = (uint8_t)a->scratch[1];
    if (a->scratch[0]++ == 0)
        return MPE_EAGAIN;
    return a->ending == LMPE_GOES_ON ? MPE_OK : MPE_ETIMEDOUT;
}

/* wait_fd(fd, "r" | "w" [, timeout [, edge]]) -> true | nil, "timeout". edge: it was found not
 * ready, and fd_closing is called before each close. */
static int
wait_fd(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    int fd = (int)luaL_checkinteger(L, 1);
    const char *mode = luaL_checkstring(L, 2);
    lmpe_await *a = lmpe_await_new(S, lmpe_check_deadline(L, 3), "timeout");
    a->on.fd = fd;
    a->scratch[1] = *mode == 'w' ? MPE_WRITABLE : MPE_READABLE;
    if (lua_toboolean(L, 4))
        a->scratch[1] |= MPE_EDGE;
    a->attempt = attempt_fd;
    a->finish = lmpe_finish_true;
    return lmpe_await_run(L, S, a);
}

/* fd_closing(fd): wakes the tasks that wait for it */
static int
fd_closing(lua_State *L)
{
    lmpe *S = lmpe_self_or_closed(L);
    int fd = (int)luaL_checkinteger(L, 1);
    if (S->e)
        mpe_fd_closing(S->e, fd);
    return 0;
}

/* ---- any of several ---- */

struct any_part {
    mpe_waiter w;
    struct any *any;
    int fd; /* or -1 */
};

struct any {
    lmpe *S;
    lmpe_await *a; /* of the task, once it waits */
    int fired;
    int count;
    struct any_part parts[];
};

static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    struct any *any = ((struct any_part *)w)->any;
    (void)status;
    any->fired = 1;
    if (any->a)
        any->a->w.fire(e, &any->a->w, MPE_OK);
}

/* A type that an upper room has declared to be waitable. */
static int
file_other(lua_State *L, lmpe *S, int idx, mpe_waiter *w)
{
    if (lua_type(L, idx) != LUA_TUSERDATA || !luaL_getmetafield(L, idx, LMPE_WAITABLE))
        return MPE_ETYPE;
    const lmpe_waitable *waitable = lua_islightuserdata(L, -1) ? lua_touserdata(L, -1) : NULL;
    lua_pop(L, 1);
    return waitable ? waitable->file(L, S, idx, w) : MPE_ETYPE;
}

static int
file_part(lua_State *L, struct any *any, struct any_part *p, int idx)
{
    mpe_engine *e = any->S->e;
    lmpe_box *b = lmpe_test_any(L, idx);
    p->fd = -1;
    if (b && b->o)
        return mpe_wait_object(e, &p->w, b->o, MPE_EVENT_READY, MPE_FOREVER);
    void *list = luaL_testudata(L, idx, LMPE_WAITLIST);
    if (list)
        return mpe_wait_list(e, &p->w, &((waitlist *)list)->list, MPE_FOREVER);
    lmpe_task *t = lmpe_test_task(L, idx);
    if (t)
        return mpe_wait_list(e, &p->w, &t->joiners, MPE_FOREVER);
    if (lua_isinteger(L, idx)) {
        p->fd = (int)lua_tointeger(L, idx);
        return mpe_wait_fd(e, &p->w, p->fd, MPE_READABLE, MPE_FOREVER);
    }
    return file_other(L, any->S, idx, &p->w);
}

static int
take_back(struct any *any)
{
    for (int i = 0; i < any->count && any->S->e; i++) {
        mpe_wait_stop(any->S->e, &any->parts[i].w);
        if (any->parts[i].fd >= 0)
            mpe_fd_waiter_gone(any->S->e, any->parts[i].fd);
    }
    any->count = 0;
    any->a = NULL;
    return 0;
}

static int
unfile(lua_State *L)
{
    return take_back(luaL_checkudata(L, 1, LMPE_ANY));
}

static int
any_gc(lua_State *L)
{
    struct any *any = luaL_testudata(L, 1, LMPE_ANY);
    return any && lmpe_is_finalizing(L) ? take_back(any) : 0;
}

/* file_any(list) -> the filed waiters; list: shared objects, waitlists, tasks, children, fds.
 * The caller checks whether something is ready after this, and then waits with wait_any. */
static int
file_any(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    luaL_checktype(L, 1, LUA_TTABLE);
    int n = (int)lua_rawlen(L, 1);
    struct any *any = lua_newuserdatauv(L, sizeof *any + (size_t)n * sizeof any->parts[0], 1);
    memset(any, 0, sizeof *any + (size_t)n * sizeof any->parts[0]);
    any->S = S;
    luaL_setmetatable(L, LMPE_ANY);
    lua_pushvalue(L, 1);
    lua_setiuservalue(L, -2, 1); /* the objects waited for live as long */
    for (int i = 0; i < n; i++) {
        any->parts[i].any = any;
        any->parts[i].w.fire = on_fire;
        lua_rawgeti(L, 1, i + 1);
        int rc = file_part(L, any, &any->parts[i], -1);
        any->count = i + (rc == MPE_OK);
        if (rc != MPE_OK)
            return luaL_error(L, "wait: element %d cannot be waited for (%s)", i + 1,
                              luaL_typename(L, -1));
        lua_pop(L, 1);
    }
    return 1;
}

static int
attempt_any(lmpe *S, lmpe_await *a)
{
    struct any *any = (struct any *)(uintptr_t)a->scratch[0];
    (void)S;
    a->source = LMPE_MANY;
    if (any->fired)
        return MPE_OK;
    return a->ending == LMPE_GOES_ON ? MPE_EAGAIN : MPE_ETIMEDOUT;
}

static int
finish_any(lua_State *L, lmpe *S, lmpe_await *a, int status)
{
    lua_pushcfunction(L, unfile);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 0);
    return lmpe_finish_true(L, S, a, status);
}

/* wait_any(filed [, timeout]) -> true | nil, "timeout"; withdraws the waiters */
static int
wait_any(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    struct any *any = luaL_checkudata(L, 1, LMPE_ANY);
    uint64_t deadline = lmpe_check_deadline(L, 2);
    lmpe_await *a = lmpe_await_new(S, deadline, "timeout");
    a->scratch[0] = (uintptr_t)any;
    any->a = a;
    a->attempt = attempt_any;
    a->finish = finish_any;
    a->cleans_up = a->acted = 1;
    return lmpe_await_run(L, S, a);
}

/* ---- which task waits for which ---- */

static int
find_slot_of(mpe_engine *e, int pid, uint32_t *slot)
{
    mpe_slot_info info;
    for (uint32_t at = 0; mpe_slot_next(e, &at, &info) == MPE_OK;) {
        if (info.pid != pid)
            continue;
        *slot = info.slot;
        return 1;
    }
    return 0;
}

int
lmpe_find_owner(lmpe_task *t, uint32_t *slot, lua_Integer *number)
{
    lmpe_await *a = t->uses_await ? &t->wait->await : NULL;
    mpe_lock_state state;
    if (t->state != LMPE_WAITING || !a)
        return 0;
    *number = 0;
    if (a->source == LMPE_PROCESS)
        return find_slot_of(t->S->e, mpe_process_pid(a->on.process), slot);
    if (a->source != LMPE_OBJECT || a->event != MPE_EVENT_READY)
        return 0;
    mpe_lock_state_get(t->S->e, a->on.object, &state);
    if (!state.locked)
        return 0;
    *slot = state.slot;
    uint32_t owner = state.task - MPE_OWNER_FIRST; /* otherwise a host owns it */
    *number = owner < MPE_OWNER_FIRST ? (lua_Integer)owner : -1;
    return 1;
}

/* waits_on(task) -> what lmpe_find_owner finds | nothing */
static int
waits_on(lua_State *L)
{
    uint32_t slot;
    lua_Integer number;
    if (!lmpe_find_owner(lmpe_check_task(L, 1), &slot, &number))
        return 0;
    lua_pushinteger(L, slot);
    lua_pushinteger(L, number);
    return 2;
}

/* deadlock() -> the queue for the report, the slot of the reporting process, the number of
 * processes; nothing when only this process is deadlocked */
static int
deadlock(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    mpe_deadlock d;
    if (mpe_deadlock_get(S->e, &d) != MPE_OK || d.queue == 0 ||
        lmpe_push_handle(L, S, d.queue) != MPE_OK)
        return 0;
    lua_pushinteger(L, d.teller);
    lua_pushinteger(L, d.processes);
    return 3;
}

static int
own_slot(lua_State *L)
{
    lua_pushinteger(L, mpe_self_slot(lmpe_self(L)->e));
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"waitlist", new_waitlist}, {"wait_fd", wait_fd},
        {"fd_closing", fd_closing}, {"file_any", file_any},
        {"wait_any", wait_any},     {"unfile", unfile},
        {"waits_on", waits_on},     {"deadlock", deadlock},
        {"slot", own_slot},         {NULL, NULL},
    };
    static const luaL_Reg methods[] = {{"wait", waitlist_wait},
                                       {"wait_shielded", waitlist_wait_shielded},
                                       {"wake", waitlist_wake},
                                       {"is_empty", waitlist_empty},
                                       {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, LMPE_WAITLIST);
    lua_newtable(L);
    lua_pushlightuserdata(L, S);
    lua_pushvalue(L, -3);
    luaL_setfuncs(L, methods, 2);
    lua_getfield(L, -1, "wait"); /* the same as functions, for frequent callers */
    lua_setfield(L, -4, "waitlist_wait");
    lua_getfield(L, -1, "wake");
    lua_setfield(L, -4, "waitlist_wake");
    lua_pushlightuserdata(L, S);
    lua_pushvalue(L, -3);
    lua_pushcclosure(L, wake_one, 2);
    lua_setfield(L, -4, "wake_one");
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
    luaL_newmetatable(L, LMPE_ANY);
    lua_pushcfunction(L, any_gc);
    lua_setfield(L, -2, "__gc");
    lua_pushcfunction(L, unfile);
    lua_setfield(L, -2, "__close");
    lua_pop(L, 1);
}

const lmpe_module lmpe_waitlist_module = {.open = on_open};
