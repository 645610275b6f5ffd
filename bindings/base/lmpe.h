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
#include <signal.h>

#include "base/lcheck.h"
#include "base/lfinalize.h"
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
    uint8_t timed_out;
    uint8_t stays;     /* what it finds at once is dealt with before the others run */
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

/* ---- the simple wait, of what lies inside this process: lsched.c ---- */

/* Waits in a list (NULL: for the deadline alone). finish gets MPE_OK when the list woke the task,
 * which is then its turn even if a kill or the deadline came meanwhile, or MPE_ETIMEDOUT. */
typedef int (*lmpe_finish_fn)(lua_State *L, lmpe *S, int status);
int lmpe_wait(lua_State *L, lmpe *S, mpe_waitlist *list, uint64_t deadline, lmpe_finish_fn finish);
/* The same, and no cancellation ends it. */
int lmpe_wait_shielded(lua_State *L, lmpe *S, mpe_waitlist *list, lmpe_finish_fn finish);
/* lwait.c: a list, whose user value is its owner or nil; waiting for any of a list, its user value. */
#define LMPE_WAITLIST "mpengine.waitlist"
#define LMPE_ANY "mpengine.any"
/* The list of the waitlist userdata at idx. */
mpe_waitlist *lmpe_check_waitlist(lua_State *L, int idx);
/* Does one that waits in a task's list of joiners hear its error? */
int lmpe_is_heard(const mpe_waitlist *joiners);
/* Lets the other tasks run once; may be cancelled. */
int lmpe_give_way(lua_State *L, lmpe *S, lmpe_finish_fn finish);
/* Takes back what a waiting task has filed. */
void lmpe_unfile(lmpe *S, lmpe_task *t);
/* In a child: a task of the parent waits no more. */
void lmpe_wait_forked(lmpe *S, lmpe_task *t);
/* ldrive.c: drives the loop until the wait of the current task has ended, or was given up. */
void lmpe_wait_in_place(lua_State *L, lmpe *S, lmpe_task *t);
/* It was given up: pushes the error, which comes instead of a cancellation. */
void lmpe_push_failure(lua_State *L, lmpe_task *t);
/* Takes a task out of its wait, which then finds out why. */
void lmpe_interrupt_wait(lua_State *L, lmpe *S, lmpe_task *t);

/* ---- tasks: ltask.c ---- */

enum lmpe_task_state { LMPE_NEW, LMPE_READY, LMPE_RUNNING, LMPE_WAITING, LMPE_DONE };

/* What has come of a cancellation: how often it was raised, and for how many ticks of processor time the
 * code has run since. */
typedef struct lmpe_raised {
    uint16_t times, ticks;
} lmpe_raised;

/* A stretch of a task's stack that can be cancelled: by its deadline, or by a flag. */
typedef struct lmpe_scope {
    struct lmpe_scope *outer;
    lua_State *L; /* the coroutine that is in it */
    uint64_t deadline;
    int cancelled;
    lmpe_raised raised;
} lmpe_scope;

/* What only some tasks need; lives until the task has ended. */
typedef struct lmpe_rare {
    struct lmpe_rare *next; /* among the spare ones */
    lmpe_scope *scopes;
    uint64_t close_deadline;
    lmpe_raised kill;
    lmpe_await await;
} lmpe_rare;

/* Small, since there may be a million of them: waiting it is a waiter, ready it is a job. */
struct lmpe_task {
    union {
        mpe_job job;
        mpe_waiter w;
    };
    lmpe *S;
    lua_State *co; /* NULL: the main task, or done */
    lmpe_rare *rare;
    mpe_waitlist joiners;
    uint32_t id;     /* names the task in lock words */
    uint32_t site;   /* where it was spawned: lsite.c */
    uint32_t anchor; /* its place in the table that keeps it alive; ended: the number of its end */
    int fired;       /* a wait in place has ended */
    int32_t nresults;
    uint8_t state;
    int8_t outcome; /* 1 returned, 0 raised, -1 killed; when DONE */
    uint8_t killed;
    uint8_t closing;    /* waits inside close handlers are allowed until close_deadline */
    uint8_t background; /* not the program's: nobody waits for its end */
    uint8_t leaked;     /* the script has seen its coroutine, which is not used again */
    uint8_t hooked;     /* the hook of lhook.c may be set on its coroutine */
    uint8_t heavy;      /* waits by its await, not by w */
    uint8_t in_place;
    uint8_t timed_out;
    uint8_t granted;
    uint8_t shielded;
    uint8_t hears;   /* it waits in the joiners of another task, whose error it will raise */
    uint8_t leaving; /* the wait under way is left by an error: ldrive.c */
    uint8_t of_luv;  /* a callback of luv's */
};

/* May a wait of this task be cut short? Then the full check is due before anything is taken. */
static inline int
lmpe_is_doomed(const lmpe_task *t)
{
    return t->killed || (t->rare && t->rare->scopes);
}

/* The rare part of a task, made at the first need. Raises out of memory. */
lmpe_rare *lmpe_rare_of(lmpe_task *t);
/* The userdata of a task that has not ended. */
void lmpe_push_task(lua_State *L, lmpe_task *t);
lmpe_task *lmpe_check_task(lua_State *L, int idx);
lmpe_task *lmpe_test_task(lua_State *L, int idx);
void lmpe_make_ready(lmpe_task *t);
#define LMPE_BARE_YIELD                                                                            \
    "coroutine.yield() in a task's own body (to let other tasks run, use co.sleep(0))"
/* lcoroutine.c: does a suspended coroutine wait, rather than yield? */
int lmpe_is_parked(lua_State *L, lua_State *co);
/* If it waits in a coroutine that it resumed, that one; else NULL. */
lua_State *lmpe_resumed_by(lua_State *L, lua_State *co);

/* The coroutine that runs now, as far as is known here. */
lua_State *lmpe_running(lmpe *S);
/* The coroutine inside a suspended task's that waits. */
lua_State *lmpe_innermost(lua_State *L, lua_State *co);

/* Where spawn was called, as a number; pushes it as lines "\n\tscript.lua:2: in function 'f'". */
uint32_t lmpe_site_here(lua_State *L, lmpe *S);
int lmpe_push_site(lua_State *L, lmpe *S, uint32_t site);
/* luaL_error with the innermost line of the script, for functions that Lua code of ours calls. */
int lmpe_script_error(lua_State *L, lmpe *S, const char *format, ...);

/* ---- what rooms above hand down ---- */

/* Signals, as lsignal.c has them, for a task that waits (ldrive.c) and for code that runs (lhook.c). */
typedef struct lmpe_signal_hooks {
    /* A wait ended with EINTR: starts the tasks of mp.signal; 1 when the wait must be left, with the
     * error that take gives. */
    int (*pending)(lua_State *L, lmpe *S);
    /* Is one to be raised in the main task, later? */
    int (*is_due)(lmpe *S);
    /* Pushes the error of that signal, which from now on is raised: in the main task, or as a kill. */
    void (*take)(lua_State *L, lmpe *S);
    /* Has a signal come that the code which runs is to be interrupted for? Then act runs its handler, or
     * raises. A child that is to end by one ends here. */
    int (*wants)(lmpe *S);
    void (*act)(lua_State *L, lmpe *S);
    /* The number of the signal that the error at idx stands for; 0. */
    int (*number_of)(lua_State *L, int idx);
} lmpe_signal_hooks;

/* Tasks that run a callback: lluv.c counts them. */
typedef struct lmpe_callback_hooks {
    void (*begun)(lmpe *S);
    void (*ended)(lmpe *S);
} lmpe_callback_hooks;

/* What a userdata offers that can be waited for (lwait.c): its metatable has this under LMPE_WAITABLE, as a
 * light userdata. file files a waiter for its end. Errors: ETYPE, it is none; those of the engine. */
#define LMPE_WAITABLE "mpengine.waitable"
typedef struct lmpe_waitable {
    int (*file)(lua_State *L, lmpe *S, int idx, mpe_waiter *w);
} lmpe_waitable;

/* ---- cancellation: lcancel.c ---- */

/* Must the task leave its wait? */
int lmpe_is_cancelled(lua_State *L, lmpe *S, lmpe_task *t);
/* Raises what cancels the task. */
int lmpe_raise_cancelled(lua_State *L, lmpe *S, lmpe_task *t);
/* The deadline of a wait, or of what cancels it. */
uint64_t lmpe_effective_deadline(lua_State *L, lmpe *S, lmpe_task *t, uint64_t deadline);
/* Does a suspended task wait in a close handler? Its time is bounded from then on. */
int lmpe_close_handler_waits(lua_State *L, lmpe_task *t);
/* lticker.c: looks for code that runs without waiting, as long as there may be some to find. */
void lmpe_start_ticking(lmpe *S);
/* lhook.c: soon, and after so many instructions at the latest, whatever has to interrupt the code that
 * runs is asked. May be called by a signal handler that blocks all signals. */
void lmpe_hook(lmpe *S, int instructions);
/* Takes the hook of a task off its coroutine. */
void lmpe_unhook(lmpe_task *t, lua_State *co);
/* Message handler: keeps the traceback of an error for who reports it. */
int lmpe_note_traceback(lua_State *L);
/* Keeps the traceback from that level on for the error on top. */
void lmpe_keep_traceback(lua_State *L, int level);
/* Pushes the traceback kept for the error at idx, or nil. */
void lmpe_push_traceback(lua_State *L, int idx);
void lmpe_cancel_forked(lmpe *S);
/* The scopes of a task that has ended. */
void lmpe_forget_scopes(lua_State *L, lmpe_task *t);
/* The state is being closed: frees what tasks own. */
void lmpe_tasks_close(lua_State *L, lmpe *S);
/* Pushes the error object that the task at idx is killed with. */
void lmpe_push_kill(lua_State *L, int idx);
/* Takes it from the top: the task at idx is killed from now on. */
void lmpe_set_kill(lua_State *L, int idx);
/* The state of a universe, where it is no upvalue; NULL once it is closed. */
lmpe *lmpe_of(lua_State *L);

/* A patched coroutine.resume or wrap under way: outer runs inner. */
typedef struct lmpe_link {
    struct lmpe_link *prev;
    lua_State *outer, *inner;
} lmpe_link;

/* How much of its turn the current task has left: lturn.c. */
#define LMPE_TURN_STRIDE 32 /* units between two looks at the clock */
struct lmpe_turn {
    int left; /* units until the next look */
    uint32_t used;
    uint64_t began; /* 0: not looked at yet */
};

#define LMPE_SCRATCHES 4

struct lmpe {
    mpe_engine *e;
    lua_CFunction open_core;
    const struct lmpe_module *const *modules, *const *modules_end;
    lua_State *main; /* the state's main thread */
    lmpe_task *main_task, *current;
    lua_State *driver; /* the thread that drives the loop now; tasks are resumed from it */
    struct lmpe_turn turn;
    uint32_t next_task_id;
    uint32_t live_tasks;
    uint32_t anchor_free; /* first free place for a task, see ltask.c */
    uint32_t anchor_top;
    uint32_t ended_tasks;
    const struct lmpe_box_calls *calls[MPE_KIND_COUNT];
    uint32_t boxes, armed_boxes; /* shared objects made so far; when the end was last prepared */
    uint64_t weighed;            /* growth of the arena that the collector was told of */
    uint32_t idle_threads;       /* coroutines kept for reuse */
    lmpe_rare *spare_rare;
    const struct lmpe_signal_hooks *signals;
    const struct lmpe_callback_hooks *callbacks;
    struct lmpe_loading *loads; /* lrequire.c */
    struct lmpe_sites *sites;   /* lsite.c; NULL: none yet */
    struct lmpe_ticker *ticker; /* lcancel.c */
    uint32_t switches;          /* how often a task was run */
    int yielded;                /* a task is on its way out to the scheduler */
    int drive_depth;
    int resetting; /* lua_resetthread runs close handlers */
    lmpe_link *links;
    mpe_buf *scratch; /* what was encoded last; used before anything can allocate Lua memory */
    mpe_buf scratches[LMPE_SCRATCHES]; /* one per encoding under way, within each other */
    int encoding;
    uint8_t header[MPE_WIRE_STR_HEADER]; /* of a string that is put without a copy */
    size_t header_len;
    mpe_message message;         /* between attempt and finish of a get */
    int is_guest;                /* the engine is the host's */
    int stopped;                 /* a pool stops the task that waits in the main task */
    int is_command;              /* the mpengine command, which sees to the end of the program */
    int is_program;              /* this universe is the program: the command, or stock lua */
    struct lmpe_child *children; /* lprocess.c: those that run */
    struct lmpe_child *spare_children;
    uint32_t ended_children;    /* so far */
    int tells_ends;             /* a signal tells of them */
    struct lmpe_output *output; /* loutput.c */
    struct lmpe_curl *curl;     /* lcurl.c */
    struct lmpe_luv *luv;       /* lluv.c; NULL: it was not loaded, or has a loop of its own */
    lmpe_rare *main_rare;       /* of the main task, whether it is in use or not */
    uint8_t *room, *room_end;   /* for lmpe_place */
    lmpe *spare;                /* once closed: the next that was closed */
};

/* The task that runs from here on begins its turn. */
static inline void
lmpe_new_turn(lmpe *S)
{
    S->turn = (struct lmpe_turn){LMPE_TURN_STRIDE, 0, 0};
}

/* Zeroed memory that lies close to S and lives as long, or NULL. What every start of a process writes
 * to, in the parent and in the child, belongs on few pages: each is copied once per fork. */
void *lmpe_place(lmpe *S, size_t size);
/* The memory of a state, zeroed, or NULL; of one that was closed, if this thread has such. */
lmpe *lmpe_allocate(void);
/* It is closed. Its memory stays readable and serves the next one of this thread. */
void lmpe_give_back(lmpe *S);

/* The state of this universe, closed or not (S->e is NULL then); inside functions that have it as
 * upvalue 1. For what works without the engine too: finalizers, and what takes the place of a function
 * of Lua's own. */
static inline lmpe *
lmpe_self_or_closed(lua_State *L)
{
    return lua_touserdata(L, lua_upvalueindex(1));
}

/* Raises "the library is closed". */
lmpe *lmpe_raise_closed(lua_State *L);

/* The same, for everything else: raises when the state is closed. */
static inline lmpe *
lmpe_self(lua_State *L)
{
    lmpe *S = lmpe_self_or_closed(L);
    return S->e ? S : lmpe_raise_closed(L);
}

/* A part of the library. lopen.c has the list of them. Each function may be NULL. */
typedef struct lmpe_module {
    /* Adds its functions to the table on top of the stack. */
    void (*open)(lua_State *L, lmpe *S);
    /* In a child that was forked: gives up what is the parent's. */
    void (*forked)(lua_State *L, lmpe *S);
    /* The Lua state is being closed; the engine is still there. */
    void (*close)(lua_State *L, lmpe *S);
} lmpe_module;

/* Those of a state, lower rooms first; the last is NULL. They are opened in this order, the other
 * two go the other way. */
void lmpe_modules_open(lua_State *L, lmpe *S, const lmpe_module *const *modules);
void lmpe_modules_forked(lua_State *L, lmpe *S);
void lmpe_modules_close(lua_State *L, lmpe *S);

/* Registers functions with the state as upvalue into the table on top. */
void lmpe_setfuncs(lua_State *L, lmpe *S, const luaL_Reg *funcs);

/* ---- objects: lobject.c ------------------------------------------------------------------- */

/* The userdata of every shared object. */
typedef struct lmpe_box {
    const void *tag; /* &lmpe_box_tag: no other userdata begins with it */
    mpe_object *o;   /* held; NULL when never acquired */
    mpe_handle h;
    lmpe *S;
    uint32_t extra;  /* the type's own; of an array its type code */
    void *data;      /* the elements of an array, where they stay as long as it is held;
                      * of a condition the box of its lock, once known */
    uint64_t length; /* how many there are; 0 when it is not held */
} lmpe_box;

/* Pushes the userdata for an object this call holds; takes the hold, also on an error. */
int lmpe_push_object(lua_State *L, lmpe *S, mpe_object *o, mpe_handle h);
/* Pushes the userdata for a handle, holding it. Errors: ESTALE. */
int lmpe_push_handle(lua_State *L, lmpe *S, mpe_handle h);
/* ---- shared memory and the collector: lmemory.c ---- */

/* Tells the collector what the arena has grown by since the last time. */
void lmpe_weigh_growth(lua_State *L, lmpe *S);
/* Gives back the memory of objects that nothing refers to. 0 when it cannot be done here. */
int lmpe_collect(lua_State *L, lmpe *S);
/* The status of a call that takes shared memory: 1 when it is to be made once more, since there may be
 * more now. tries is 0 before the first. */
static inline int
lmpe_try_again(lua_State *L, lmpe *S, int status, int *tries)
{
    return status == MPE_EARENA && (*tries)++ == 0 && lmpe_collect(L, S);
}

/* The result of a create call: pushes *o, or raises for its status. A pointer, so that both may be
 * arguments of one call. */
int lmpe_created(lua_State *L, lmpe *S, int status, mpe_object *const *o, const char *function);
/* What a kind does itself when something happens to a box of it; each may be NULL. */
typedef struct lmpe_box_calls {
    void (*held)(lmpe_box *b);      /* it holds its object from now on */
    void (*arrived)(lmpe_box *b);   /* it has come with a message */
    void (*collected)(lmpe_box *b); /* it is collected, and still holds its object */
} lmpe_box_calls;
typedef struct lmpe_type {
    int kind;
    const char *name; /* as in mp.NAME */
    const luaL_Reg *methods, *meta;
    const lmpe_box_calls *calls; /* NULL: none */
} lmpe_type;
/* Makes the metatable of a kind. */
void lmpe_new_type(lua_State *L, lmpe *S, const lmpe_type *type);
/* The box on top has come with a message. */
void lmpe_box_arrived(lmpe_box *b);
/* The object at idx, of the type whose metatable is upvalue 2. */
lmpe_box *lmpe_check_self(lua_State *L, int idx);
extern const char lmpe_box_tag;
/* Boxes that were checked lately, by address; they are taken out when they are collected. Only of a
 * userdata that is large enough may the tag be read, and asking Lua for its size each time would
 * take longer than all the rest of the check. */
#define LMPE_KNOWN 8
extern _Thread_local const void *lmpe_known[LMPE_KNOWN];
static inline const void **
lmpe_known_at(const void *box)
{
    return &lmpe_known[(uintptr_t)box / 64 % LMPE_KNOWN];
}
/* Is the userdata b at idx a box? Then it is known from now on. */
int lmpe_get_to_know(lua_State *L, int idx, const lmpe_box *b);
/* The same for methods that are called often: kinds is a set of 1 << kind. */
static inline lmpe_box *
lmpe_check_kinds(lua_State *L, int idx, uint32_t kinds)
{
    lmpe_box *b = lua_touserdata(L, idx);
    if (b && (*lmpe_known_at(b) == b || lmpe_get_to_know(L, idx, b)) && b->tag == &lmpe_box_tag &&
        b->o && kinds >> mpe_handle_kind(b->h) & 1)
        return b;
    return lmpe_check_self(L, idx); /* raises */
}
/* A shared object of any kind at idx, or NULL. */
lmpe_box *lmpe_test_any(lua_State *L, int idx);
lmpe_box *lmpe_check_kind(lua_State *L, int idx, int kind, const char *name);
/* "mp.Lock: 0x2a40" and the first part of its description, for __tostring. */
void lmpe_push_identity(lua_State *L, lmpe_box *b, const char *name);

#define LMPE_ARRAY_KINDS                                                                           \
    (1u << MPE_KIND_ARRAY | 1u << MPE_KIND_VALUE | 1u << MPE_KIND_RAW_ARRAY |                      \
     1u << MPE_KIND_RAW_VALUE)
/* What the methods of a lock do, also for what carries one; arguments from index 2 on: llock.c. */
int lmpe_lock_acquire(lua_State *L, lmpe_box *lock);
int lmpe_lock_release(lua_State *L, lmpe_box *lock);
int lmpe_lock_locked(lua_State *L, lmpe_box *lock);
/* Does a get of the queue return at once, with an item or since it is closed? lqueue.c */
int lmpe_queue_is_ready(const lmpe_box *queue);

/* ---- arguments and errors: lmpe.c --------------------------------------------------------- */

/* Seconds at idx as a deadline: absent or nil for ever, 0 not at all; NaN or negative raises. */
uint64_t lmpe_given_deadline(lua_State *L, int idx);
static inline uint64_t
lmpe_check_deadline(lua_State *L, int idx)
{
    return lua_gettop(L) < idx ? MPE_FOREVER : lmpe_given_deadline(L, idx);
}
uint64_t lmpe_deadline_in(double seconds);
/* An integer in a range; what names it in the message. */
lua_Integer lmpe_check_count(lua_State *L, int idx, lua_Integer min, lua_Integer max,
                             const char *what);
/* Raises for a status that is a mistake or a failure; where says which call. */
int lmpe_raise(lua_State *L, int status, const char *where);
/* Encodes the value at idx into *S->scratch, raising with the path of what cannot be sent.
 * Returns whether it holds handles. */
int lmpe_encode_value(lua_State *L, lmpe *S, int idx, const char *root, const char *where);
/* The same for an argument list; the first leading values (at most LMPE_LEADING_MAX) are not args[1]
 * and so on in messages, but what goes with them. */
#define LMPE_LEADING_MAX 4
int lmpe_encode_values(lua_State *L, lmpe *S, int first, int n, int leading, const char *where);
/* The same for a message that no other process reads: the code of functions goes with it. */
int lmpe_encode_whole(lua_State *L, lmpe *S, int first, int n, const char *where);
/* Encodes n values into *S->scratch as opts say (the hooks are its own); how many handles are in it. Less
 * than 0: a message is pushed, as by lmpe_encode. */
struct lmpe_encode_opts;
int lmpe_try_encode(lua_State *L, lmpe *S, int first, int n, struct lmpe_encode_opts *opts,
                    int *handles);
/* Decodes n bytes and returns how many values were pushed; raises. pins: mark to unpin to. */
int lmpe_decode_values(lua_State *L, lmpe *S, const void *data, size_t size, uint32_t pins);

/* Pushes the values of S->message, which a get has just filled, and frees it; how many. */
int lmpe_push_message(lua_State *L, lmpe *S);

/* The engine that a host gave to this state, or NULL: lembed.c. */
mpe_engine *lmpe_host_engine(lua_State *L);

/* ---- opening ------------------------------------------------------------------------------ */

/* Each adds its functions to the table on top of the stack. */
void lmpe_open_cancel(lua_State *L, lmpe *S);

/* Keeps the collector off the heap there is now, and lets it run if it was stopped: lstart.c. */
void lmpe_put_off_collection(lua_State *L);
/* Gives math.random a seed that no other process or thread has: lrandom.c. */
void lmpe_seed_random(lua_State *L);
/* Unblocks a signal in this thread. */
void lmpe_signal_unblock(int number);
/* Faults in the pages of this memory for writing, at once: lstart.c. */
void lmpe_fault_in(const void *at, size_t bytes);

/* ---- the library's Lua modules: lmodules.c ---- */

#define LMPE_LIBRARY "=mpengine/" /* how the sources of our own Lua code begin */
/* Is this the source of our own Lua code? */
int lmpe_is_library(const char *source);
/* Lets require find the modules in this state; a second time does nothing. */
void lmpe_add_modules(lua_State *L);
/* Takes a value from the top: package.loaded[name]; the same for a function that replaces a global
 * one. What a script takes away there is put back when it requires the library again. */
void lmpe_set_loaded(lua_State *L, const char *name);
void lmpe_set_global(lua_State *L, const char *name);
/* Pushes the table of the modules that are loaded, by their names. */
void lmpe_push_modules(lua_State *L);
/* Pushes the module of that name if it is there: it is required again. */
int lmpe_push_known(lua_State *L, const char *name);
/* And mpengine.core, which open_core opens, with them. */
void lmpe_preload(lua_State *L, lua_CFunction open_core);
/* Puts a searcher behind the one of package.preload. */
void lmpe_add_searcher(lua_State *L, lua_CFunction f);

/* Steps of a fork in the child, and of the end of a process. */
void lmpe_output_flush(lmpe *S);
void lmpe_output_forked(lmpe *S);
/* Other processes will write to the same descriptors: flushes, and lines leave whole from now on. */
void lmpe_output_shared(lmpe *S);
/* From a signal handler that ends the process: writes what can be written. */
void lmpe_output_rescue(lmpe *S);
void lmpe_process_end(lmpe *S, int code);

/* ---- signals: lsignal.c ------------------------------------------------------------------- */

/* This universe is the program: it takes SIGINT and SIGTERM. */
void lmpe_signals_open(lmpe *S);
/* In a child. Between the fork and this, signals are held back. */
void lmpe_signals_child(lmpe *S);
void lmpe_signals_hold(sigset_t *before);
/* linherit.c: undoes what the starter of this process did to signals that the library needs. In a
 * forked child after the mask is restored. */
void lmpe_signals_inherited(void);
/* Before a child is started: from now on SIGCHLD has lmpe_reap_children called soon after a child's end,
 * unless somebody else has taken it. 1 when it is so. */
int lmpe_signal_children(lmpe *S);
/* lprocess.c: takes note of the children that have ended, which leaves nothing of them in the system. */
void lmpe_reap_children(lmpe *S);
/* The signal that ended, or is about to end, the main chunk; 0. */
int lmpe_signal_raised(void);

/* The module, for hosts: leaves the core table on the stack. */
MPE_API int luaopen_mpengine_core(lua_State *L);

#endif
