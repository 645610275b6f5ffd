/* SPDX-License-Identifier: MIT
 *
 * ltask_int.h - shared by the files of this room.
 */
#ifndef LTASK_INT_H
#define LTASK_INT_H

#include "task/ltask.h"

/* ---- ltask.c ---- */

/* Pushes the table of the tasks that have not ended: place -> task, or the next free place. */
void lmpe_push_anchors(lua_State *L);
/* Keeps the task on top of the stack alive until lmpe_drop_anchor. */
void lmpe_anchor(lua_State *L, lmpe *S, lmpe_task *t);
void lmpe_drop_anchor(lua_State *L, lmpe *S, lmpe_task *t);
/* The data that the Lua side keeps with the task at an index: a table; or only the traceback of
 * its error. */
void lmpe_push_extra(lua_State *L, int task);
/* Takes the value from the top. */
void lmpe_set_extra(lua_State *L, int task);
void lmpe_free_wait(lmpe *S, lmpe_task *t);
/* Pushes a coroutine that is ready for a function. */
lua_State *lmpe_take_thread(lua_State *L, lmpe *S);
/* The coroutine of an ended task is on top of the stack: keeps or drops it. */
void lmpe_give_thread(lua_State *L, lmpe *S, lmpe_task *t, lua_State *co);

/* ---- lrun.c, ltask_methods.c, ltask_report.c, ltask_joinall.c ---- */

/* The core module and the metatable of tasks are on top. */
void lmpe_open_spawn(lua_State *L, lmpe *S);
/* The core module is on top. */
void lmpe_open_methods(lua_State *L, lmpe *S);
void lmpe_open_report(lua_State *L, lmpe *S);
void lmpe_open_names(lua_State *L, lmpe *S);
void lmpe_open_describe(lua_State *L, lmpe *S);
void lmpe_open_sample(lua_State *L, lmpe *S);
/* ltask_report.c: pushes the first argument of the function in which a task waits: 1; or 0. */
int lmpe_push_subject(lua_State *L, lmpe_task *t);
/* Replaces the value on top by what it represents: a list by its owner, a list of one by that one. */
void lmpe_resolve_subject(lua_State *L);
/* lcoqueue.c: is a queue of mp.co at that index? Then pushes its name, or nil. */
int lmpe_coqueue_label(lua_State *L, int idx, uint32_t *place);
/* lwaitlist.c: the place of a labelled list, of that index; 0. */
uint32_t lmpe_waitlist_place(lua_State *L, int idx);
/* joinall(tasks [, timeout]) -> those that have ended, in the order in which they ended */
int lmpe_joinall(lua_State *L);

/* ltask_methods.c: kills the task at -2 with the error on top, popped; one that has ended, or is
 * being killed, is left as it is. Does not wait. */
void lmpe_kill(lua_State *L, lmpe *S, lmpe_task *t);
/* ltask.c: does a C function run that a task has called? */
int lmpe_is_in_task(const lmpe *S);
/* lhost_tasks.c: such a task has ended, and is on top of the stack. */
void lmpe_host_task_ended(lua_State *L, lmpe_task *t);

/* ---- ltrace.c: what a trace is told of tasks ---- */

void lmpe_trace_task(lmpe_task *t, uint32_t what, uint64_t object, uint64_t more);
void lmpe_trace_spawn(lua_State *L, lmpe_task *t);
void lmpe_trace_run(lmpe_task *t);
/* It waits in a list, in a function whose first argument is at 1. */
void lmpe_trace_list(lua_State *L, lmpe_task *t);
/* The state is being opened, and closed. */
void lmpe_trace_open(lua_State *L);
void lmpe_trace_forget(lmpe *S);
/* Is the program traced? */
static inline int
lmpe_is_traced(const lmpe *S)
{
    return *S->trace != 0;
}

/* ---- waits: lwait.c, lawait.c, lwaitlist.c ---- */

/* Pushes why the caller cannot wait here at all, or returns 0. */
int lmpe_cannot_wait(lua_State *L, lmpe *S);
/* A wait begins. The main task may have run for long since the loop has read the clock. */
void lmpe_note_wait(lmpe *S, lmpe_task *t);
/* Returns to the loop; k goes on in the task. */
int lmpe_yield_task(lua_State *L, lmpe *S, lmpe_task *t, lua_KContext ctx, lua_KFunction k);

/* lwaitlist.c: a list, whose user value is its owner or nil; waiting for any of a list, its user
 * value. */
#define LMPE_WAITLIST "mpengine.waitlist"
#define LMPE_ANY "mpengine.any"
/* Does a waiter in a task's list of joiners hear its error? */
int lmpe_is_heard(const mpe_waitlist *joiners);
/* The number of the task whose simple wait that is, as core.current_id gives it; -1: another waiter. */
lua_Integer lmpe_waiter_id(const mpe_waiter *w);
/* Withdraws the waiter of a waiting task. */
void lmpe_unfile(lmpe *S, lmpe_task *t);
/* In a child: a task of the parent no longer waits. */
void lmpe_wait_forked(lmpe *S, lmpe_task *t);
/* lwaitlist.c: the slot and the task number of the owner of the lock that a task waits for, -1 for an
 * owner that is not a task of Lua; the slot and 0 of the process whose exit it waits for; or 0. */
int lmpe_find_owner(lmpe_task *t, uint32_t *slot, lua_Integer *number);
/* ldrive.c: drives the loop until the wait of the current task has ended, or the loop has ended
 * it. */
void lmpe_wait_in_place(lua_State *L, lmpe *S, lmpe_task *t);
/* Drives the loop for a wait of the host's until *done; NULL: runs what is ready, once. On an error
 * it is pushed, as the loop's waits raise it. */
int lmpe_drive_for_host(lua_State *L, lmpe *S, const int *done);
/* Pops the error that ends the wait of the current task, instead of a cancellation. */
void lmpe_keep_failure(lua_State *L, lmpe_task *t);
/* The loop ended the wait: pushes the error, which takes the place of a cancellation. */
void lmpe_push_failure(lua_State *L, lmpe_task *t);
/* Ends the wait of a task, which then finds out why. */
void lmpe_interrupt_wait(lua_State *L, lmpe *S, lmpe_task *t);
/* The list of the waitlist userdata at idx. */
mpe_waitlist *lmpe_check_waitlist(lua_State *L, int idx);

/* ---- tasks and coroutines: ltask.c, lcoroutine.c ---- */

/* A patched coroutine.resume or wrap in progress: outer runs inner. */
typedef struct lmpe_link {
    struct lmpe_link *prev;
    lua_State *outer, *inner;
} lmpe_link;

/* ltask_describe.c: is the frame at that level the script's? Of C functions those count that the
 * script has called by a name. Fills in ar: with what "Sl" gives, of a C function "n" too. */
int lmpe_is_shown(lua_State *co, lua_Debug *ar, int level);
/* The coroutines of a task, from the innermost outwards, after co; NULL behind the last. */
lua_State *lmpe_next_coroutine(lua_State *L, lmpe_task *t, lua_State *co, lmpe_link **l);
/* Pushes the name of the task on top of the stack, and may leave more below it. */
void lmpe_push_task_name(lua_State *L, lmpe_task *t);
/* lcoroutine.c: does a suspended coroutine wait, rather than yield? */
int lmpe_is_parked(lua_State *L, lua_State *co);
/* If it waits in a coroutine that it resumed, that one; else NULL. */
lua_State *lmpe_resumed_by(lua_State *L, lua_State *co);
/* The coroutine that runs now, as far as it is known here. */
lua_State *lmpe_running(lmpe *S);
/* The waiting coroutine inside that of a suspended task. */
lua_State *lmpe_innermost(lua_State *L, lua_State *co);
/* The wait of a task, made when it is first needed. Raises out of memory. */
lmpe_task_wait *lmpe_wait_of(lmpe_task *t);
void lmpe_make_ready(lmpe_task *t);
lmpe_task *lmpe_check_task(lua_State *L, int idx);
lmpe_task *lmpe_test_task(lua_State *L, int idx);

#endif
