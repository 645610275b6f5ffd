/* SPDX-License-Identifier: MIT */
/*
 * Killing a call at every kill point (testing/kill_points.h): a child runs the call and dies before
 * the first, the second, ... store to shared memory, until it ends by itself. So a test tries every
 * instant that matters, one after the other, and looks at what is left.
 */
#ifndef MPE_TEST_DEATHS_H
#define MPE_TEST_DEATHS_H

#include "mpengine.h"

#include <stdbool.h>

typedef void mpe_test_body(mpe_engine *e, void *arg);

/* Starts a child that runs prepare (may be NULL), then body, and is killed at the point-th point of
 * body, or at its end. True when it ended before: then body ran whole. Blocks until the child is
 * gone: its slot is marked dead, and nothing of it is reaped. */
bool mpe_test_kill_at(mpe_engine *e, mpe_test_body *prepare, mpe_test_body *body, void *arg,
                      long point);
/* The same with the points of the child's whole life: it takes its slot, runs body and leaves in
 * good order. *p, not reaped or polled, is for mpe_process_poll and free. */
bool mpe_test_kill_child_at(mpe_engine *e, mpe_test_body *body, void *arg, long point,
                            mpe_process **p);
/* Where the last child died, for messages. */
const char *mpe_test_death(void);

/* fresh, kill_at, check; for each point, until body runs whole. */
void mpe_test_kill_everywhere(mpe_engine *e, void *(*fresh)(mpe_engine *e), mpe_test_body *body,
                              void (*check)(mpe_engine *e, void *arg, bool has_ended));
/* The next point after this one: the next, or a later one where all runs slower. */
long mpe_test_next_point(long point);

/* Makes the store with these arguments, as written in the source, a mutant in this program from now
 * on: it is left out, or it is done only at the next point. */
enum mpe_test_mutation { MPE_TEST_LEAVE_OUT, MPE_TEST_DELAY };
void mpe_test_mutate(enum mpe_test_mutation what, const char *store);

#endif
