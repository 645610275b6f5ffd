/* SPDX-License-Identifier: MIT */
/*
 * Killing a call at every kill point (testing/kill_points.h): a child runs the call and is
 * killed before the first, the second, ... store to shared memory, until it ends by itself. So a
 * test tries every instant that matters, one after the other, and checks the remaining state.
 */
#ifndef MPE_TEST_DEATHS_H
#define MPE_TEST_DEATHS_H

#include "mpengine_core.h"

#include <stdbool.h>

typedef void mpe_test_body(mpe_engine *e, void *arg);

/* Starts a child that runs prepare (may be NULL), then body, and is killed at the point-th point
 * of body, or at its end; 0: at its end. True when it ended before: then all of body ran. Blocks
 * until the child is gone: its slot is marked dead, and nothing of it is reaped. */
bool mpe_test_kill_at(mpe_engine *e, mpe_test_body *prepare, mpe_test_body *body, void *arg,
                      long point);
/* The same with the points of the child's whole life: it takes its slot, runs body and leaves
 * normally. *p, not reaped or polled, is for mpe_process_poll and free. */
bool mpe_test_kill_child_at(mpe_engine *e, mpe_test_body *body, void *arg, long point,
                            mpe_process **p);
/* Where the last child died, for messages. */
const char *mpe_test_death(void);

/* One call that is killed. Its object is made anew for each death, and checked after it, when
 * nothing has been reaped yet. prepare, called by the victim before, may be NULL. */
struct mpe_test_deaths {
    void *(*fresh)(mpe_engine *e);
    mpe_test_body *prepare, *body;
    void (*check)(mpe_engine *e, void *arg, bool has_ended);
};
/* A death at each point of body, until all of it runs. */
void mpe_test_kill_everywhere(mpe_engine *e, const struct mpe_test_deaths *d);
/* The same where the heap has no chunk with room for what body allocates. */
void mpe_test_kill_in_an_empty_heap(mpe_engine *e, const struct mpe_test_deaths *d);
/* The same, and for each of these deaths the reaper is killed too, at every seventh of its own
 * points, with a different first one each time, and at every other of those the reaper of both
 * as well. */
void mpe_test_kill_reapers_everywhere(mpe_engine *e, const struct mpe_test_deaths *d);

/* A partner that waits while the call is made: it must return in any case. */
struct mpe_test_wait {
    struct mpe_test_deaths deaths;
    mpe_test_body *wait; /* what the partner does: sleeps for arg, and returns */
    /* Called when the dead process has been reaped: must the partner return now? NULL: always. */
    bool (*is_due)(mpe_engine *e, void *arg);
    mpe_test_body *release; /* makes it return otherwise */
};
/* Blocks until the process sleeps permanently, or is dead. */
void mpe_test_wait_until_asleep(mpe_engine *e, const mpe_process *p);
/* It must end within 5 s, by itself: otherwise a failure that says after which death it did not.
 * Frees it. */
void mpe_test_expect_end(mpe_engine *e, mpe_process *p, const char *after);
/* A death at each point of body while the partner sleeps. */
void mpe_test_kill_beside_a_waiter(mpe_engine *e, const struct mpe_test_wait *w);

/* ---- whole cases, each with an engine of its own ---- */

/* The object of a case: made by fresh, dropped after the case. */
extern mpe_object *mpe_test_it;
/* Drops it, and expects that nothing is left of it. */
void mpe_test_forget(mpe_engine *e);
void mpe_test_deaths_everywhere(struct mpe_test_deaths d);
void mpe_test_deaths_in_an_empty_heap(struct mpe_test_deaths d);
void mpe_test_deaths_of_reapers(struct mpe_test_deaths d);
void mpe_test_deaths_beside_a_waiter(struct mpe_test_wait w);

/* ---- afterwards ---- */

/* Reaps until nothing is left to be reaped, and expects an arena without a violation. */
void mpe_test_reap(mpe_engine *e);
/* Frees unreachable objects. */
void mpe_test_sweep(mpe_engine *e);
/* The next point after this one: the next, or a later one where all runs slower. */
long mpe_test_next_point(long point);

#endif
