/* SPDX-License-Identifier: MIT
 *
 * llayout.c - what a debugger needs to find the tasks of a process, or of its core, without debug
 * information: the list of open states, and a table with the places of some members. The program
 * itself reads neither. packaging/gdb/mpengine.py is the reader; a change of the table's form changes
 * its version there and here.
 */
#include "task/ltask_int.h"

#include <pthread.h>
#include <stddef.h>

#define VISIBLE __attribute__((visibility("default"), used))
#define PLACE(member) (int32_t) offsetof(struct lmpe, member)
#define TASK_PLACE(member) (int32_t) offsetof(struct lmpe_task, member)

struct lmpe_layout {
    char magic[16];                                 /* with its final zero */
    int32_t main, main_task, current, driver, next; /* in struct lmpe */
    int32_t task_size, task_state_of, task_thread, task_id, task_progress;
    int32_t id_mask; /* of the number in task_id */
    int32_t version; /* of this table */
};

extern const struct lmpe_layout mpe_lua_layout;
extern lmpe *mpe_lua_states;

VISIBLE const struct lmpe_layout mpe_lua_layout = {
    .magic = "mpengine layout",
    .main = PLACE(main),
    .main_task = PLACE(main_task),
    .current = PLACE(current),
    .driver = PLACE(driver),
    .next = PLACE(next_open),
    .task_size = sizeof(struct lmpe_task),
    .task_state_of = TASK_PLACE(S),
    .task_thread = TASK_PLACE(co),
    .task_id = TASK_PLACE(id),
    .task_progress = TASK_PLACE(state),
    .id_mask = MPE_OWNER_FIRST - 1,
    .version = 1,
};

/* The open states of all threads; a fork is refused while another thread has one. */
VISIBLE lmpe *mpe_lua_states;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;

void
lmpe_layout_add(lmpe *S)
{
    pthread_mutex_lock(&lock);
    S->next_open = mpe_lua_states;
    mpe_lua_states = S;
    pthread_mutex_unlock(&lock);
}

void
lmpe_layout_remove(lmpe *S)
{
    pthread_mutex_lock(&lock);
    lmpe **at = &mpe_lua_states;
    while (*at && *at != S)
        at = &(*at)->next_open;
    if (*at)
        *at = S->next_open;
    pthread_mutex_unlock(&lock);
}
