/* SPDX-License-Identifier: MIT
 *
 * ltask.h - the door of the room task. The room owns the tasks of a state, the coroutines that they
 * run in, the one place where a call waits, cancellation and the hook that interrupts running
 * code. It offers waits, tasks and cancellation to the rooms above, and takes from them the tables
 * of functions by which it calls them (at the end). lturn.h beside it has the cost of calls that
 * need not wait.
 */
#ifndef LMPE_TASK_H
#define LMPE_TASK_H

#include "base/lmpe.h"

typedef struct lmpe_await lmpe_await;

/* ---- waiting: lwait.c, lawait.c ----------------------------------------------------------- */

enum lmpe_source { LMPE_OBJECT, LMPE_LIST, LMPE_TIMER, LMPE_FD, LMPE_PROCESS, LMPE_MANY };
enum lmpe_ending { LMPE_GOES_ON, LMPE_TIMED_OUT, LMPE_KILLED };

/* One wait of one task. A call fills in the object to wait for, attempt and finish, and returns
 * lmpe_await(). attempt asks the engine, without Lua: a status, MPE_EAGAIN to wait. It is called
 * once more when the wait ends by its deadline, and, if it cleans_up, by a kill (see ending). It
 * may then set shielded and wait on for an operation that must be completed. finish turns the
 * status into Lua values, or raises. Neither may touch the struct after something else has
 * waited. */
struct lmpe_await {
    mpe_waiter w;
    lmpe_task *task;
    int (*attempt)(lmpe *S, lmpe_await *a);
    int (*finish)(lua_State *L, lmpe *S, lmpe_await *a, int status);
    uint64_t deadline;
    const char *reason; /* of a timeout: the value after nil */
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
    uint8_t acted; /* so it does when the task is cancelled by now: the call has done something */
    uint8_t timed_out;
    uint8_t stays;     /* an immediate success is handled before the others run */
    uint8_t has_begun; /* it has waited before */
    uint8_t collected; /* shared memory was short, and garbage has been collected for it */
    lua_State *L;      /* where it waits */
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

/* ---- the simple wait, of what lies inside this process: lwait.c ---- */

/* Waits in a list (NULL: for the deadline only). finish gets MPE_OK when the list woke the task,
 * which then has its turn even if a kill or the deadline arrived meanwhile, or MPE_ETIMEDOUT. */
typedef int (*lmpe_finish_fn)(lua_State *L, lmpe *S, int status);
int lmpe_wait(lua_State *L, lmpe *S, mpe_waitlist *list, uint64_t deadline, lmpe_finish_fn finish);
/* The same, and no cancellation ends it. */
int lmpe_wait_shielded(lua_State *L, lmpe *S, mpe_waitlist *list, lmpe_finish_fn finish);
/* Lets the other tasks run once; may be cancelled. */
int lmpe_give_way(lua_State *L, lmpe *S, lmpe_finish_fn finish);

/* ---- tasks: ltask.c ---- */

enum lmpe_task_state { LMPE_NEW, LMPE_READY, LMPE_RUNNING, LMPE_WAITING, LMPE_DONE };

/* The progress of a cancellation: how often it was raised, and for how many ticks of processor
 * time the code has run since. */
typedef struct lmpe_raised {
    uint16_t times, ticks;
} lmpe_raised;

/* A part of a task's stack that can be cancelled: by its deadline, or by a flag. */
typedef struct lmpe_scope {
    struct lmpe_scope *outer;
    lua_State *L; /* the coroutine that is in it */
    uint64_t deadline;
    int cancelled;
    lmpe_raised raised;
} lmpe_scope;

/* Fields that only some tasks need; they live until the task has ended. */
typedef struct lmpe_task_wait {
    struct lmpe_task_wait *next; /* among the spare ones */
    lmpe_scope *scopes;
    uint64_t close_deadline;
    lmpe_raised kill;
    lmpe_await await;
} lmpe_task_wait;

/* Small, since there may be a million of them: a waiting task is a waiter, a ready one is a job. */
struct lmpe_task {
    union {
        mpe_job job;
        mpe_waiter w;
    };
    lmpe *S;
    lua_State *co; /* NULL: the main task, or done */
    lmpe_task_wait *wait;
    mpe_waitlist joiners;
    uint32_t id;     /* names the task in lock words */
    uint32_t site;   /* where it was spawned: lsite.c */
    uint32_t anchor; /* place in the table that keeps it alive; ended: the number of its end */
    int fired;       /* a wait in place has ended */
    int32_t nresults;
    uint32_t since; /* when its wait began: lmpe_moment */
    uint8_t state;
    int8_t outcome; /* 1 returned, 0 raised, -1 killed; when DONE */
    uint8_t killed;
    uint8_t closing;    /* waits inside close handlers are allowed until close_deadline */
    uint8_t background; /* not the program's: no task waits for its end */
    uint8_t leaked;     /* the script has seen its coroutine, which is not reused */
    uint8_t hooked;     /* the hook of lhook.c may be set on its coroutine */
    uint8_t uses_await; /* waits by its await, not by w */
    uint8_t in_place;
    uint8_t timed_out;
    uint8_t granted;
    uint8_t shielded;
    uint8_t hears;    /* it waits in the joiners of another task, whose error it will raise */
    uint8_t leaving;  /* an error ends the current wait: ldrive.c */
    uint8_t of_luv;   /* a callback of luv's */
    uint8_t of_host;  /* the host hears its error: lhost_tasks.c */
    uint8_t recorded; /* which is told its end */
};

/* A time of mpe_now as a number of about a millisecond each, of which a difference counts. */
static inline uint32_t
lmpe_moment(uint64_t now)
{
    return (uint32_t)(now >> 20);
}

/* The number of a task as scripts see it: they count from 1. */
static inline lua_Integer
lmpe_task_number(const lmpe_task *t)
{
    return t->id & (MPE_OWNER_FIRST - 1);
}

/* May a wait of this task be interrupted? Then the full check is due before anything is taken. */
static inline int
lmpe_may_be_cancelled(const lmpe_task *t)
{
    return t->killed || (t->wait && t->wait->scopes);
}

/* The userdata of a task that has not ended. */
void lmpe_push_task(lua_State *L, lmpe_task *t);
#define LMPE_BARE_YIELD                                                                            \
    "coroutine.yield() in a task's own body (to let other tasks run, use co.sleep(0))"

/* llayout.c: a state is open, or is closed now, for debuggers. */
void lmpe_layout_add(lmpe *S);
void lmpe_layout_remove(lmpe *S);

/* ---- cancellation: lcancel.c ---- */

/* Is it killed, or in a scope that is cancelled or past its deadline? */
int lmpe_is_over(lua_State *L, lmpe *S, lmpe_task *t);
/* Must the task leave its wait? */
int lmpe_is_cancelled(lua_State *L, lmpe *S, lmpe_task *t);
/* Raises the cancellation of the task. */
int lmpe_raise_cancelled(lua_State *L, lmpe *S, lmpe_task *t);
/* lticker.c: looks for code that runs without waiting, as long as there may be any. */
void lmpe_start_ticking(lmpe *S);
/* lticker.c: takes the signal of its timer, which readers use as well (lanswer.c); what does not come
 * from the timer is passed on. */
void lmpe_urgent_install(void);
extern void (*lmpe_urgent)(const void *siginfo);
/* lhook.c: soon, and after so many instructions at the latest, asks everything that may
 * interrupt the running code. May be called by a signal handler that blocks all signals. */
void lmpe_hook(lmpe *S, int instructions);
/* Keeps the traceback from that level on for the error on top. */
void lmpe_keep_traceback(lua_State *L, int level);
/* Pops the error: the task at idx is killed from now on. */
void lmpe_set_kill(lua_State *L, int idx);
/* Pushes a function that runs a callback, a function and its arguments, in a task of its own
 * that begins at once. */
void lmpe_push_run_callback(lua_State *L);

/* ---- tables that upper rooms hand down ---- */

/* Signals, implemented by lsignal.c, for a task that waits (ldrive.c) and for running code
 * (lhook.c). */
typedef struct lmpe_signal_hooks {
    /* A wait ended with EINTR: starts the tasks of mp.signal; 1 when the wait must be left, with the
     * error that take gives. */
    int (*pending)(lua_State *L, lmpe *S);
    /* Must a signal be raised in the main task, later? */
    int (*is_due)(lmpe *S);
    /* Pushes the error of that signal, which counts as raised from now on: in the main task, or
     * as a kill. */
    void (*take)(lua_State *L, lmpe *S);
    /* Has a signal arrived for which the running code must be interrupted? Then act runs its
     * handler, or raises. A child that a signal must end ends here. */
    int (*wants)(lmpe *S);
    void (*act)(lua_State *L, lmpe *S);
    /* The number of the signal whose error is at idx; 0. */
    int (*number_of)(lua_State *L, int idx);
} lmpe_signal_hooks;

/* Tasks that run a callback: lluv.c counts them. */
typedef struct lmpe_callback_hooks {
    void (*begun)(lmpe *S);
    void (*ended)(lmpe *S);
} lmpe_callback_hooks;

/* The interface of a userdata that can be waited for (lwaitlist.c): its metatable has this under
 * LMPE_WAITABLE, as a light userdata. file files a waiter for its end. Errors: ETYPE (not one);
 * those of the engine. */
#define LMPE_WAITABLE "mpengine.waitable"
typedef struct lmpe_waitable {
    int (*file)(lua_State *L, lmpe *S, int idx, mpe_waiter *w);
} lmpe_waitable;

#endif
