/* SPDX-License-Identifier: MIT
 *
 * lmpe.h - what the binding files share: the state that belongs to one Lua universe, tasks, the one
 * way to wait, the userdata of shared objects, and checked arguments.
 *
 * Every C function of the module has the lmpe state as its first upvalue; methods of a type have
 * the type's metatable as the second.
 */
#ifndef LMPE_H
#define LMPE_H

#include <lauxlib.h>
#include <lua.h>

#include "mpengine.h"

typedef struct lmpe lmpe;
typedef struct lmpe_task lmpe_task;
typedef struct lmpe_await lmpe_await;

/* ---- waiting: lsched.c -------------------------------------------------------------------- */

enum lmpe_source { LMPE_OBJECT, LMPE_LIST, LMPE_TIMER, LMPE_FD, LMPE_PROCESS, LMPE_MANY };
enum lmpe_ending { LMPE_GOES_ON, LMPE_TIMED_OUT, LMPE_KILLED };

/* One wait of one task. A call fills in what it waits for, attempt and finish, and returns
 * lmpe_await(). attempt asks the engine, without Lua: a status, MPE_EAGAIN to wait. It is called
 * once more when the wait ends by its deadline, and, if it cleans_up, by a kill (ending tells), and
 * may then set shielded and go on waiting for what must not be left undone. finish turns the status into Lua
 * values, or raises. Neither may touch the struct after something else has waited. */
struct lmpe_await {
    mpe_waiter w;
    lmpe_task *task;
    int (*attempt)(lmpe *S, lmpe_await *a);
    int (*finish)(lua_State *L, lmpe *S, lmpe_await *a, int status);
    uint64_t deadline;
    const char *reason; /* of a timeout: what follows nil */
    union {
        mpe_object *object;
        mpe_waitlist *list;
        mpe_process *process;
        int fd;
        void *many;
    } on;
    uint64_t scratch[3]; /* the call's own */
    mpe_object *object;  /* the call's own */
    uint8_t source;      /* enum lmpe_source */
    uint8_t event;       /* of an object or descriptor */
    uint8_t ending;      /* enum lmpe_ending */
    uint8_t shielded;
    uint8_t cleans_up; /* attempt wants to be called when the wait is killed */
    uint8_t in_place;
    uint8_t timed_out;
    uint8_t granted; /* woken by its list, which stands whatever else comes */
    int fired;
};

/* The await of the current task, cleared and ready to be filled in. */
lmpe_await *lmpe_await_new(lmpe *S, uint64_t deadline, const char *reason);
/* Waits: yields the task, or drives the loop in place where nothing can yield. The value of a
 * C function: return lmpe_await(L, S, a). */
int lmpe_await_run(lua_State *L, lmpe *S, lmpe_await *a);
/* Raises when the current task is cancelled, for calls that do something before they wait. */
void lmpe_await_check(lua_State *L, lmpe *S);
/* A finish that pushes true, or nil and the reason. */
int lmpe_finish_true(lua_State *L, lmpe *S, lmpe_await *a, int status);
/* nil and the word for an expected status; raises for the others. */
int lmpe_outcome(lua_State *L, int status, const char *reason);

/* A scope of cancellation on a task: a deadline, or a flag. In the frame of with_timeout. */
typedef struct lmpe_scope {
    struct lmpe_scope *outer;
    uint64_t deadline;
    int cancelled;
} lmpe_scope;

enum lmpe_task_state { LMPE_NEW, LMPE_READY, LMPE_RUNNING, LMPE_WAITING, LMPE_DONE };

struct lmpe_task {
    mpe_job job;
    lmpe *S;
    lua_State *co; /* NULL: the main task, or done */
    uint32_t id;   /* names the task in lock words */
    uint8_t state;
    int8_t outcome; /* 1 returned, 0 raised, -1 killed; when DONE */
    uint8_t killed;
    uint8_t closing; /* waits inside close handlers are still allowed until close_deadline */
    int nresults;
    mpe_waitlist joiners;
    lmpe_scope *scopes;
    uint64_t close_deadline;
    lmpe_await await;
};

/* A patched coroutine.resume or wrap under way: outer runs inner. */
typedef struct lmpe_link {
    struct lmpe_link *prev;
    lua_State *outer, *inner;
} lmpe_link;

struct lmpe {
    mpe_engine *e;
    lua_State *main;   /* the state's main thread */
    lmpe_task *main_task, *current;
    lua_State *driver; /* the thread that drives the loop now; tasks are resumed from it */
    uint32_t next_task_id;
    uint32_t live_tasks;
    int yielded;       /* a task is on its way out to the scheduler */
    int drive_depth;
    int interrupted;   /* for the main task, which is not the one that drives */
    lmpe_link *links;
    mpe_buf scratch;   /* for encoding; no call that uses it runs Lua code meanwhile */
    mpe_message message; /* between attempt and finish of a get */
    int is_command;
    struct lmpe_child *children; /* lprocess.c */
    struct lmpe_output *output;  /* loutput.c */
};

/* The state of this universe; inside functions that have it as upvalue 1. */
static inline lmpe *
lmpe_self(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* Registers functions with the state (and, when there is one on top, a metatable) as upvalues, into
 * the table below. */
void lmpe_setfuncs(lua_State *L, lmpe *S, const luaL_Reg *funcs);
void lmpe_setmethods(lua_State *L, lmpe *S, const luaL_Reg *methods);

/* ---- objects: lobject.c ------------------------------------------------------------------- */

/* The userdata of every shared object. */
typedef struct lmpe_box {
    mpe_object *o; /* held; NULL when never acquired */
    mpe_handle h;
    lmpe *S;
    uint32_t extra; /* the type's own */
} lmpe_box;

/* Pushes the userdata for an object this call holds; takes the hold, also on an error. */
int lmpe_push_object(lua_State *L, lmpe *S, mpe_object *o, mpe_handle h);
/* Pushes the userdata for a handle, holding it. Errors: ESTALE. */
int lmpe_push_handle(lua_State *L, lmpe *S, mpe_handle h);
/* The result of a create call: pushes *o, or raises for its status. A pointer, so that both may be
 * arguments of one call. */
int lmpe_created(lua_State *L, lmpe *S, int status, mpe_object *const *o, const char *function);
/* Makes the metatable of a kind: name as in mp.NAME. Methods and metamethods. */
void lmpe_new_type(lua_State *L, lmpe *S, int kind, const char *name, const luaL_Reg *methods,
                   const luaL_Reg *meta);
/* The object at idx, of the type whose metatable is upvalue 2. */
lmpe_box *lmpe_check_self(lua_State *L, int idx);
/* A shared object of any kind at idx, or NULL. */
lmpe_box *lmpe_test_any(lua_State *L, int idx);
lmpe_box *lmpe_check_kind(lua_State *L, int idx, int kind, const char *name);
/* "mp.Lock: 0x2a40" and the first part of its description, for __tostring. */
void lmpe_push_identity(lua_State *L, lmpe_box *b, const char *name);

/* ---- arguments and errors: lmpe.c --------------------------------------------------------- */

/* Seconds at idx as a deadline: absent or nil for ever, 0 not at all; NaN or negative raises. */
uint64_t lmpe_check_deadline(lua_State *L, int idx);
uint64_t lmpe_deadline_in(double seconds);
/* Raises for a status that is a mistake or a failure; where says which call. */
int lmpe_raise(lua_State *L, int status, const char *where);
/* Encodes the value at idx into S->scratch, raising with the path of what cannot be sent.
 * Returns whether it holds handles. */
int lmpe_encode_value(lua_State *L, lmpe *S, int idx, const char *root, const char *where);
int lmpe_encode_values(lua_State *L, lmpe *S, int first, int n, const char *root,
                       const char *where);
/* Decodes n bytes and returns how many values were pushed; raises. pins: mark to unpin to. */
int lmpe_decode_values(lua_State *L, lmpe *S, const void *data, size_t size, uint32_t pins);

/* Pushes the values of S->message, which a get has just filled, and frees it; how many. */
int lmpe_push_message(lua_State *L, lmpe *S);

/* ---- opening ------------------------------------------------------------------------------ */

/* Each adds its functions to the table on top of the stack. */
void lmpe_open_sched(lua_State *L, lmpe *S);
void lmpe_open_coroutine(lua_State *L, lmpe *S);
void lmpe_open_object(lua_State *L, lmpe *S);
void lmpe_open_lock(lua_State *L, lmpe *S);
void lmpe_open_semaphore(lua_State *L, lmpe *S);
void lmpe_open_event(lua_State *L, lmpe *S);
void lmpe_open_condition(lua_State *L, lmpe *S);
void lmpe_open_barrier(lua_State *L, lmpe *S);
void lmpe_open_queue(lua_State *L, lmpe *S);
void lmpe_open_array(lua_State *L, lmpe *S);
void lmpe_open_dict(lua_State *L, lmpe *S);
void lmpe_open_list(lua_State *L, lmpe *S);
void lmpe_open_process(lua_State *L, lmpe *S);
void lmpe_open_output(lua_State *L, lmpe *S);
void lmpe_open_wait(lua_State *L, lmpe *S);
void lmpe_open_pool(lua_State *L, lmpe *S);

/* Steps of a fork in the child, and of the end of a process. */
void lmpe_sched_forked(lua_State *L, lmpe *S);
void lmpe_output_flush(lmpe *S);
void lmpe_output_forked(lmpe *S);
/* Ends the daemons and waits for the other children, blocking. */
void lmpe_children_end(lmpe *S);
/* The process of a child userdata at idx, or NULL. */
mpe_process *lmpe_test_process(lua_State *L, int idx);

/* The module, for hosts: leaves the core table on the stack. */
MPE_API int luaopen_mpengine_core(lua_State *L);

#endif
