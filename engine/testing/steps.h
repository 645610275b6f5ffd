/* SPDX-License-Identifier: MIT */
/*
 * Killing a call at an instruction of one's choice: the child runs under ptrace, one instruction
 * at a time. So a test can try every instant at which a process may die.
 */
#ifndef MPE_TEST_STEPS_H
#define MPE_TEST_STEPS_H

#include "mpengine.h"

#include <stdbool.h>

/* Starts a child that runs prepare (may be NULL), then body under single steps, and kills it after
 * so many of them. False when body had ended before: then it ran whole. The child's slot is marked
 * dead, and nothing of it is reaped. Ends the case as skipped where ptrace is not allowed. */
bool mpe_test_kill_at(mpe_engine *e, void (*prepare)(mpe_engine *e, void *arg),
                      void (*body)(mpe_engine *e, void *arg), void *arg, long steps);

/* Finds out how many instructions body takes, and does this for so many deaths evenly among them,
 * and once for none: fresh, kill_at, check. MPE_TEST_DEATHS=n makes them n times as many, up to one
 * at every instruction. */
void mpe_test_kill_everywhere(mpe_engine *e, void *(*fresh)(mpe_engine *e),
                              void (*body)(mpe_engine *e, void *arg),
                              void (*check)(mpe_engine *e, void *arg, bool has_ended), long deaths);

#endif
