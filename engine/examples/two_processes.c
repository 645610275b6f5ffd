/* SPDX-License-Identifier: MIT
 *
 * A host without Lua: two processes add to the elements of one array, under one lock.
 *
 *     cc two_processes.c $(pkg-config --cflags --libs mpengine)
 */
#include "mpengine_core.h"

#include <stdio.h>
#include <string.h>

#define ROUNDS 10000
#define TASK 1 /* this host has one task per process */

/* Says which call has failed. */
static int
check(int status, const char *what)
{
    if (status >= 0)
        return status;
    fprintf(stderr, "two_processes: %s: %s\n", what, mpe_strerror(status));
    return status;
}

static int
try_lock(mpe_engine *e, mpe_object *lock, void *ud)
{
    (void)ud;
    return mpe_lock_acquire(e, lock, TASK);
}

/* Adds 1 to the first element and its own number to the second, many times. */
static int
work(mpe_engine *e, mpe_object *array, mpe_object *lock, int64_t number)
{
    char type;
    uint64_t length;
    int64_t *sums = (int64_t *)mpe_array_data(e, array, &type, &length);
    for (int i = 0; i < ROUNDS; i++) {
        if (check(mpe_await(e, lock, MPE_EVENT_READY, MPE_FOREVER, try_lock, NULL), "lock") < 0)
            return 1;
        sums[0] += 1;
        sums[1] += number;
        mpe_lock_release(e, lock);
    }
    return 0;
}

struct end {
    mpe_waiter waiter;
    int fired;
};

static void
on_end(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)status;
    ((struct end *)w)->fired = 1;
}

static int
wait_for(mpe_engine *e, mpe_process *child)
{
    int code;
    while (mpe_process_poll(e, child, &code) == MPE_EAGAIN) {
        struct end end;
        memset(&end, 0, sizeof end);
        end.waiter.fire = on_end;
        if (check(mpe_process_wait(e, child, &end.waiter, MPE_FOREVER), "wait") < 0 ||
            check(mpe_run_until(e, &end.fired), "run") < 0)
            return 1;
    }
    mpe_process_free(e, child);
    return code;
}

int
main(void)
{
    mpe_engine *e;
    mpe_object *array, *lock;
    mpe_process *child;
    mpe_bytes no_message = {NULL, 0};
    int is_child, status;

    if (check(mpe_open(NULL, &e), "open") < 0 ||
        check(mpe_array_create(e, 'q', 2, 0, &array), "array") < 0 ||
        check(mpe_lock_create(e, 0, &lock), "lock") < 0 ||
        check(mpe_process_fork(e, "adder", MPE_PROCESS_DAEMON, no_message, &child, &is_child),
              "fork") < 0)
        return 1;
    status = work(e, array, lock, is_child ? 3 : 4);
    if (!is_child) {
        char type;
        uint64_t length;
        const int64_t *sums = (const int64_t *)mpe_array_data(e, array, &type, &length);
        status |= wait_for(e, child);
        printf("%d additions of two processes make %d\n", (int)sums[0], (int)sums[1]);
    }
    mpe_drop(e, array);
    mpe_drop(e, lock);
    mpe_close(e);
    return status;
}
