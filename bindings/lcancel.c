/* SPDX-License-Identifier: MIT
 *
 * lcancel.c - cancellation of tasks: kills, and scopes with a deadline or a flag, which are kills of
 * a stretch of a task's stack.
 *
 * It is raised as an error at the wait under way and at every later one. While a close handler
 * runs, waits work for CLOSE_NS more. If a protected call swallows the error, a hook raises it
 * again as soon as that call is left, so each level of pcall can swallow it once and a loop around
 * one cannot live on. Code that does not wait at all is found by a ticker: a signal for each
 * TICK_NS of processor time that this thread has used, only while there is something to look for;
 * a process that sleeps is never woken by it. The same ticker serves the watchdog.
 */
#include "lmpe.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define CLOSE_NS (2 * MPE_NS_PER_S)
#define TICK_NS 10000000
#define IDLE_TICKS 20 /* with nothing to look for, before the timer is stopped */
#define TICK_SIGNAL SIGURG

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

/* Keys of the registry. */
static const char raised_key;    /* the error whose traceback was noted last */
static const char traceback_key; /* and the traceback */

struct lmpe_ticker {
    timer_t timer;
    int made, ticking;
    int idle_ticks;
    int hogs;           /* the hook that is set may raise anywhere */
    int report;         /* and shall tell the watchdog's story */
    uint32_t deadlines; /* scopes with one */
    uint32_t switches;  /* as of the last tick */
    uint64_t since;     /* when the run began that has lasted since then */
    uint64_t watch_ns;  /* 0: no watchdog */
    int reported;
    lua_CFunction pcall, xpcall;
    char library[256]; /* how the sources of our own Lua code begin */
};

static lmpe *ticked; /* whose ticker the signal is for */

/* ---- what lies on the stacks of a task ---- */

/* The coroutine around l's, on the way from L to the task's own; NULL at its end. */
static lua_State *
outwards(lmpe *S, lua_State *L, lmpe_link **l)
{
    if (L == S->current->co || !*l || (*l)->inner != L)
        return NULL;
    L = (*l)->outer;
    *l = (*l)->prev;
    return L;
}

static int
has_temporary(lua_State *L, lua_Debug *ar, int n)
{
    if (!lua_getlocal(L, ar, n))
        return 0;
    lua_pop(L, 1);
    return 1;
}

/* How many values a C function has on its stack below the function that it calls. */
static int
count_temporaries(lua_State *L, lua_Debug *ar)
{
    int low = 0, high = 1;
    while (has_temporary(L, ar, high)) {
        low = high;
        high *= 2;
    }
    while (low + 1 < high) {
        int middle = (low + high) / 2;
        if (has_temporary(L, ar, middle))
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* When an error unwinds the stack, a close handler is called by the protected call that caught it;
 * right below it lie the value that is closed and the error. */
static int
is_unwinding_call(lua_State *L, int level, lua_Debug *handler)
{
    lua_Debug caller;
    if (!lua_getstack(L, level + 1, &caller))
        return 0;
    lua_getinfo(L, "S", &caller);
    int n = *caller.what == 'C' ? count_temporaries(L, &caller) : 0;
    if (n < 2)
        return 0;
    int top = lua_gettop(L), found = 0;
    lua_getlocal(L, &caller, n - 1);
    if (luaL_getmetafield(L, -1, "__close") != LUA_TNIL) {
        lua_getinfo(L, "f", handler);
        found = lua_rawequal(L, -1, -2);
    }
    lua_settop(L, top);
    return found;
}

/* Is some function on this stack a close handler? */
static int
has_close_handler(lua_State *L)
{
    lua_Debug ar;
    if (!lua_checkstack(L, 6))
        return 0;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "n", &ar);
        if (*ar.namewhat == 'm' && strcmp(ar.name, "close") == 0)
            return 1;
        if (is_unwinding_call(L, level, &ar))
            return 1;
    }
    return 0;
}

static int
in_close_handler(lua_State *L, lmpe *S)
{
    lmpe_link *l = S->links;
    for (; L; L = outwards(S, L, &l))
        if (has_close_handler(L))
            return 1;
    return S->resetting > 0;
}

/* How many calls on this stack would swallow an error. */
static int
protected_calls(lua_State *L, const struct lmpe_ticker *k)
{
    lua_Debug ar;
    int n = 0;
    if (!lua_checkstack(L, 2))
        return 0;
    for (int level = 0; lua_getstack(L, level, &ar); level++) {
        lua_getinfo(L, "f", &ar);
        lua_CFunction f = lua_tocfunction(L, -1);
        n += f && (f == k->pcall || f == k->xpcall);
        lua_pop(L, 1);
    }
    return n;
}

static int
protected_depth(lua_State *L, lmpe *S)
{
    lmpe_link *l = S->links;
    int n = protected_calls(L, S->ticker);
    while ((L = outwards(S, L, &l)) != NULL)
        n += 1 + protected_calls(L, S->ticker); /* resume swallows, too */
    return n;
}

/* ---- is it cancelled? ---- */

/* A scope counts while the coroutine that is in it is under way: a generator of the script's may
 * have yielded out of one. */
static int
is_under_way(lua_State *L, lmpe *S, const lmpe_scope *s)
{
    lmpe_link *l = S->links;
    for (; L; L = outwards(S, L, &l))
        if (L == s->L)
            return 1;
    return 0;
}

static lmpe_scope *
expired_scope(lua_State *L, lmpe *S, lmpe_task *t, uint64_t now)
{
    lmpe_scope *found = NULL;
    for (lmpe_scope *s = t->rare->scopes; s; s = s->outer)
        if ((s->cancelled || s->deadline <= now) && is_under_way(L, S, s))
            found = s; /* the outermost one wins */
    return found;
}

static int
is_over(lua_State *L, lmpe *S, lmpe_task *t)
{
    return t->killed || (t->rare && t->rare->scopes && expired_scope(L, S, t, mpe_now()));
}

int
lmpe_is_cancelled(lua_State *L, lmpe *S, lmpe_task *t)
{
    if (!is_over(L, S, t))
        return 0;
    if (!in_close_handler(L, S))
        return 1;
    lmpe_rare *r = lmpe_rare_of(t);
    if (!t->closing) {
        t->closing = 1;
        r->close_deadline = mpe_now() + CLOSE_NS;
    }
    return mpe_now() >= r->close_deadline;
}

uint64_t
lmpe_effective_deadline(lua_State *L, lmpe *S, lmpe_task *t, uint64_t deadline)
{
    if (!t->rare)
        return deadline;
    if (t->closing)
        return deadline < t->rare->close_deadline ? deadline : t->rare->close_deadline;
    for (lmpe_scope *s = t->rare->scopes; s; s = s->outer)
        if (s->deadline < deadline && is_under_way(L, S, s))
            deadline = s->deadline;
    return deadline;
}

int
lmpe_close_handler_waits(lua_State *L, lmpe_task *t)
{
    lua_State *co = t->co;
    int found = t->closing;
    for (; co && !found; co = lmpe_resumed_by(L, co))
        found = has_close_handler(co);
    if (found && !t->closing) {
        t->closing = 1;
        lmpe_rare_of(t)->close_deadline = mpe_now() + CLOSE_NS;
    }
    return found;
}

/* ---- raising it ---- */

static void hound(lua_State *L, lua_Debug *ar);
static void start_ticking(lmpe *S);

/* The error goes outwards; where a protected call may catch it, it is waited for outside. */
static void
set_hooks(lua_State *L, lmpe *S, lmpe_task *t)
{
    lmpe_link *l = S->links;
    t->hooked = 1;
    for (; L; L = outwards(S, L, &l))
        lua_sethook(L, hound, LUA_MASKCOUNT, 1);
}

void
lmpe_unhook(lmpe_task *t, lua_State *co)
{
    t->hooked = 0;
    if (lua_gethook(co) == hound)
        lua_sethook(co, NULL, 0, 0);
}

/* A scope that was entered is kept in the registry; its user value is what it raises. */
static void
push_token(lua_State *L, const lmpe_scope *s)
{
    lua_rawgetp(L, LUA_REGISTRYINDEX, s);
    lua_getiuservalue(L, -1, 1);
    lua_remove(L, -2);
}

static void
push_cancellation(lua_State *L, lmpe *S, lmpe_task *t)
{
    lmpe_scope *s = t->killed ? NULL : expired_scope(L, S, t, mpe_now());
    if (s) {
        push_token(L, s);
        return;
    }
    lmpe_push_task(L, t);
    lmpe_push_kill(L, -1);
}

int
lmpe_raise_cancelled(lua_State *L, lmpe *S, lmpe_task *t)
{
    int depth = protected_depth(L, S);
    luaL_checkstack(L, 8, NULL);
    lmpe_rare_of(t)->raised_depth = depth;
    if (depth > 0) {
        set_hooks(L, S, t);
        start_ticking(S);
    }
    push_cancellation(L, S, t);
    return lua_error(L);
}

static int
is_ours(lua_State *L, lua_Debug *ar, const struct lmpe_ticker *k)
{
    lua_getinfo(L, "S", ar);
    return k->library[0] && strncmp(ar->source, k->library, strlen(k->library)) == 0;
}

static void report_hog(lua_State *L, lmpe *S);

/* The hook of a task that is cancelled and runs on. */
static void
hound(lua_State *L, lua_Debug *ar)
{
    lmpe *S = lmpe_of(L);
    struct lmpe_ticker *k = S->ticker;
    lmpe_task *t = S->current;
    if (!is_over(L, S, t)) {
        lua_sethook(L, NULL, 0, 0);
        k->hogs = 0;
        report_hog(L, S);
        return;
    }
    if (is_ours(L, ar, k) || !lmpe_is_cancelled(L, S, t))
        return;
    int depth = protected_depth(L, S);
    if (depth >= t->rare->raised_depth && !k->hogs)
        return;
    k->hogs = 0;
    lmpe_raise_cancelled(L, S, t);
}

/* ---- the ticker ---- */

static void
report_hog(lua_State *L, lmpe *S)
{
    struct lmpe_ticker *k = S->ticker;
    if (!k->report)
        return;
    k->report = 0;
    lua_getfield(L, LUA_REGISTRYINDEX, "mpengine.hog");
    if (!lua_isfunction(L, -1)) {
        lua_pop(L, 1);
        return;
    }
    luaL_traceback(L, L, NULL, 0);
    lua_pushnumber(L, (lua_Number)(mpe_now() - k->since) / MPE_NS_PER_S);
    if (lua_pcall(L, 2, 0, 0) != LUA_OK)
        lua_pop(L, 1);
}

/* In the signal handler: makes the code that runs come to the hook. */
static void
call_hook(lmpe *S)
{
    lmpe_link *l = S->links;
    lua_State *L = lmpe_running(S);
    S->current->hooked = 1;
    for (; L; L = outwards(S, L, &l))
        lua_sethook(L, hound, LUA_MASKCOUNT, 1);
}

static void
set_timer(struct lmpe_ticker *k, long ns)
{
    struct itimerspec t = {{0, ns}, {0, ns}};
    timer_settime(k->timer, 0, &t, NULL);
    k->ticking = ns != 0;
}

static void
on_tick(int sig)
{
    int saved = errno;
    lmpe *S = ticked;
    struct lmpe_ticker *k = S ? S->ticker : NULL;
    (void)sig;
    if (!k || !k->ticking)
        return;
    lmpe_task *t = S->current;
    if (k->switches != S->switches) {
        k->switches = S->switches;
        k->since = mpe_now();
        k->reported = 0;
    }
    if (t->state == LMPE_RUNNING && is_over(lmpe_running(S), S, t)) {
        k->hogs = 1;
        call_hook(S);
    } else if (k->watch_ns && !k->reported && mpe_now() - k->since >= k->watch_ns) {
        k->reported = k->report = 1;
        call_hook(S);
    } else if (!k->watch_ns && !k->deadlines && !t->killed && ++k->idle_ticks > IDLE_TICKS) {
        set_timer(k, 0);
    }
    errno = saved;
}

static void
make_timer(lmpe *S)
{
    struct lmpe_ticker *k = S->ticker;
    struct sigaction action = {.sa_handler = on_tick, .sa_flags = SA_RESTART};
    struct sigevent event = {.sigev_notify = SIGEV_THREAD_ID, .sigev_signo = TICK_SIGNAL};
    event.sigev_notify_thread_id = gettid();
    sigemptyset(&action.sa_mask);
    sigaction(TICK_SIGNAL, &action, NULL);
    k->made = timer_create(CLOCK_THREAD_CPUTIME_ID, &event, &k->timer) == 0;
}

static void
start_ticking(lmpe *S)
{
    struct lmpe_ticker *k = S->ticker;
    ticked = S;
    k->idle_ticks = 0;
    if (k->ticking)
        return;
    if (!k->made)
        make_timer(S);
    k->switches = S->switches - 1;
    if (k->made)
        set_timer(k, TICK_NS);
}

/* watchdog(seconds | nil): reports tasks that run so long without waiting */
static int
watchdog(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    if (lua_isnoneornil(L, 1)) {
        S->ticker->watch_ns = 0;
        return 0;
    }
    lua_Number seconds = luaL_checknumber(L, 1);
    luaL_argcheck(L, seconds > 0, 1, "seconds must be a number above 0");
    S->ticker->watch_ns = (uint64_t)(seconds * MPE_NS_PER_S);
    start_ticking(S);
    return 0;
}

/* A child has no timer. */
void
lmpe_cancel_forked(lmpe *S)
{
    S->ticker->made = S->ticker->ticking = 0;
    S->ticker->deadlines = 0;
    S->ticker->watch_ns = 0;
}

/* ---- tracebacks ---- */

static int
is_cancellation(lua_State *L, lmpe_task *t)
{
    if (t->killed)
        return 1;
    for (lmpe_scope *s = t->rare ? t->rare->scopes : NULL; s; s = s->outer) {
        push_token(L, s);
        int same = lua_rawequal(L, 1, -1);
        lua_pop(L, 1);
        if (same)
            return 1;
    }
    return 0;
}

/* An error that goes on outwards through several protected calls keeps its first traceback. */
int
lmpe_note_traceback(lua_State *L)
{
    lmpe *S = lmpe_of(L);
    lua_settop(L, 1);
    if (is_cancellation(L, S->current))
        return 1;
    lua_rawgetp(L, LUA_REGISTRYINDEX, &raised_key);
    int known = !lua_isnil(L, 1) && lua_rawequal(L, 1, -1);
    lua_settop(L, 1);
    if (known)
        return 1;
    luaL_traceback(L, L, NULL, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
    lua_pushvalue(L, 1);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &raised_key);
    return 1;
}

void
lmpe_push_traceback(lua_State *L, int idx)
{
    idx = lua_absindex(L, idx);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &raised_key);
    int same = lua_rawequal(L, -1, idx);
    lua_pop(L, 1);
    if (!same) {
        lua_pushnil(L);
        return;
    }
    lua_rawgetp(L, LUA_REGISTRYINDEX, &traceback_key);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &raised_key);
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
}

/* set_traceback(error, text): what lmpe_push_traceback will give for it */
static int
set_traceback(lua_State *L)
{
    lua_settop(L, 2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &traceback_key);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &raised_key);
    return 0;
}

/* traceback_of(error) -> text | nil; it is given once */
static int
traceback_of(lua_State *L)
{
    luaL_checkany(L, 1);
    lmpe_push_traceback(L, 1);
    return 1;
}

/* ---- scopes and protected calls ---- */

/* Enters the scope at idx. */
static void
enter(lua_State *L, lmpe *S, int idx)
{
    lmpe_scope *s = lua_touserdata(L, idx);
    lmpe_rare *r = lmpe_rare_of(S->current);
    lua_pushvalue(L, idx);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s);
    s->L = L;
    s->outer = r->scopes;
    r->scopes = s;
    if (s->deadline != MPE_FOREVER) {
        S->ticker->deadlines++;
        start_ticking(S);
    }
}

static void
forget(lua_State *L, lmpe *S, lmpe_scope **at)
{
    lmpe_scope *s = *at;
    *at = s->outer;
    S->ticker->deadlines -= s->deadline != MPE_FOREVER;
    lua_pushnil(L);
    lua_rawsetp(L, LUA_REGISTRYINDEX, s);
}

static void
leave(lua_State *L, lmpe *S, lmpe_scope *s)
{
    lmpe_task *t = S->current;
    lmpe_scope **at = &lmpe_rare_of(t)->scopes;
    while (*at && *at != s)
        at = &(*at)->outer;
    if (*at)
        forget(L, S, at);
    if (!t->killed)
        t->closing = 0;
}

void
lmpe_forget_scopes(lua_State *L, lmpe_task *t)
{
    while (t->rare && t->rare->scopes)
        forget(L, t->S, &t->rare->scopes);
}

/* Index 1 is the handler, 2 true. Results or the error lie above. */
static int
call_k(lua_State *L, int status, lua_KContext ctx)
{
    (void)ctx;
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - 1;
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

/* call(f, ...) -> true and the results | false and the error, whose traceback is kept */
static int
protected_call(lua_State *L)
{
    luaL_checkany(L, 1);
    lua_pushcfunction(L, lmpe_note_traceback);
    lua_insert(L, 1);
    lua_pushboolean(L, 1);
    lua_insert(L, 2);
    int status = lua_pcallk(L, lua_gettop(L) - 3, LUA_MULTRET, 1, 0, call_k);
    return call_k(L, status, 0);
}

static void
push_scope(lua_State *L, uint64_t deadline, int token)
{
    lmpe_scope *s = lua_newuserdatauv(L, sizeof *s, 1);
    *s = (lmpe_scope){NULL, NULL, deadline, 0};
    lua_pushvalue(L, token);
    lua_setiuservalue(L, -2, 1);
}

/* scope(token) -> scope: the token is what is raised in it once it is cancelled */
static int
new_scope(lua_State *L)
{
    luaL_checkany(L, 1);
    push_scope(L, MPE_FOREVER, 1);
    return 1;
}

/* Index 1 is the handler, 2 the scope, 3 true. */
static int
scoped_k(lua_State *L, int status, lua_KContext ctx)
{
    lmpe *S = lmpe_self(L);
    (void)ctx;
    leave(L, S, lua_touserdata(L, 2));
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - 2;
    lua_pushboolean(L, 0);
    lua_insert(L, -2);
    return 2;
}

/* call_in(scope, f, ...) -> as call; in the scope */
static int
call_in(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lua_pushcfunction(L, lmpe_note_traceback);
    lua_insert(L, 1);
    lua_pushboolean(L, 1);
    lua_insert(L, 3);
    enter(L, S, 2);
    int status = lua_pcallk(L, lua_gettop(L) - 4, LUA_MULTRET, 1, 0, scoped_k);
    return scoped_k(L, status, 0);
}

/* Index 1 is the handler, 2 the scope, 3 its token. */
static int
timed_k(lua_State *L, int status, lua_KContext ctx)
{
    lmpe *S = lmpe_self(L);
    (void)ctx;
    leave(L, S, lua_touserdata(L, 2));
    if (status == LUA_OK || status == LUA_YIELD)
        return lua_gettop(L) - 3;
    if (!lua_rawequal(L, -1, 3))
        return lua_error(L);
    luaL_pushfail(L);
    lua_pushliteral(L, "timeout");
    return 2;
}

/* call_until(token, seconds, f, ...) -> the results of f | nil, "timeout" */
static int
call_until(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    uint64_t deadline = lmpe_deadline_in(luaL_checknumber(L, 2));
    push_scope(L, deadline == MPE_NOW ? mpe_now() : deadline, 1);
    lua_replace(L, 2);
    lua_pushcfunction(L, lmpe_note_traceback); /* token scope f ... handler */
    lua_insert(L, 1);                          /* handler token scope f ... */
    lua_pushvalue(L, 2);
    lua_insert(L, 4);
    lua_remove(L, 2); /* handler scope token f ... */
    enter(L, S, 2);
    int status = lua_pcallk(L, lua_gettop(L) - 4, LUA_MULTRET, 1, 0, timed_k);
    return timed_k(L, status, 0);
}

/* cancel_scope(scope, task): the scope of any task */
static int
cancel_scope(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    lmpe_scope *s = lua_touserdata(L, 1);
    lmpe_task *t = lmpe_check_task(L, 2);
    s->cancelled = 1;
    lmpe_interrupt_wait(L, S, t);
    return 0;
}

/* check_cancelled(): raises in a task that is cancelled */
static int
check_cancelled(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    if (S->current->killed || S->current->rare)
        lmpe_await_check(L, S);
    return 0;
}

/* library(prefix): how the sources of our own Lua code begin, where nothing is raised */
static int
set_library(lua_State *L)
{
    struct lmpe_ticker *k = lmpe_self(L)->ticker;
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    if (n < sizeof k->library)
        memcpy(k->library, s, n + 1);
    return 0;
}

static lua_CFunction
global_function(lua_State *L, const char *name)
{
    lua_getglobal(L, name);
    lua_CFunction f = lua_tocfunction(L, -1);
    lua_pop(L, 1);
    return f;
}

static int
ticker_gc(lua_State *L)
{
    struct lmpe_ticker *k = lua_touserdata(L, 1);
    lmpe_tasks_close(L, lmpe_of(L));
    if (k->made)
        timer_delete(k->timer);
    k->made = k->ticking = 0;
    if (ticked && ticked->ticker == k)
        ticked = NULL;
    return 0;
}

void
lmpe_open_cancel(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"call", protected_call},
        {"scope", new_scope},
        {"call_in", call_in},
        {"call_until", call_until},
        {"cancel_scope", cancel_scope},
        {"check_cancelled", check_cancelled},
        {"watchdog", watchdog},
        {"set_traceback", set_traceback},
        {"traceback_of", traceback_of},
        {"set_library", set_library},
        {NULL, NULL},
    };
    struct lmpe_ticker *k = lua_newuserdatauv(L, sizeof *k, 0);
    memset(k, 0, sizeof *k);
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, ticker_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, k);
    k->pcall = global_function(L, "pcall");
    k->xpcall = global_function(L, "xpcall");
    S->ticker = k;
    lmpe_setfuncs(L, S, functions);
}
