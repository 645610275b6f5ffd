/* SPDX-License-Identifier: MIT */
/*
 * Helpers for tests of shared objects, beside mpe_test.h: an engine, processes that run a
 * function, gates by which one process lets another go on, and the blocking forms of a few
 * calls. Any failure here ends the case.
 */
#ifndef MPE_TEST_PROCS_H
#define MPE_TEST_PROCS_H

#include "mpengine_core.h"

/* An engine with an arena of at most max_bytes, 0: the default. */
mpe_engine *mpe_test_engine(uint64_t max_bytes);

/* A child that runs body and ends with status 0. */
mpe_process *mpe_test_start(mpe_engine *e, void (*body)(mpe_engine *e, void *arg), void *arg);
/* Blocks until it has exited; its exit status or the negative number of its signal. Frees it. */
int mpe_test_join(mpe_engine *e, mpe_process *p);
/* Kills it and blocks until the system has marked its slot. Nothing of it is reaped. */
void mpe_test_kill(mpe_process *p);

/* Opened once for each waiting process. */
struct mpe_test_gate {
    int fd[2];
};
struct mpe_test_gate mpe_test_gate_new(void);
void mpe_test_gate_open(struct mpe_test_gate g);
void mpe_test_gate_wait(struct mpe_test_gate g);

/* A waiter that records its outcome. */
struct mpe_test_waiter {
    mpe_waiter w;
    int fired, status;
    uint64_t at;
};
struct mpe_test_waiter mpe_test_waiter_new(void);

/* Blocking forms, without a limit. */
int mpe_test_put(mpe_engine *e, mpe_object *queue, const void *bytes, size_t size);
int mpe_test_get(mpe_engine *e, mpe_object *queue, mpe_message *m);
int mpe_test_lock(mpe_engine *e, mpe_object *lock);

mpe_bytes mpe_test_bytes(const char *text);
uint64_t mpe_test_used(mpe_engine *e);
uint64_t mpe_test_committed(mpe_engine *e);
uint32_t mpe_test_objects(mpe_engine *e);
mpe_object *mpe_test_event(mpe_engine *e);
/* A message that is one handle, in a buffer that is initialized; and a dict's value that is one
 * handle. */
mpe_bytes mpe_test_handle_bytes(mpe_buf *b, mpe_handle h);
void mpe_test_put_handle(mpe_engine *e, mpe_object *dict, const char *key, mpe_handle h);
/* Expects an arena without a violation. */
void mpe_test_check(mpe_engine *e);

/* A sequence of numbers that looks random and is always the same. */
uint32_t mpe_test_random(uint32_t *state);

/* Another engine on the mapping of e, for the calling thread, so that the core can run as
 * threads. */
mpe_engine *mpe_test_twin(mpe_engine *e);
void mpe_test_twin_close(mpe_engine *twin);
/* For a thread that has exited without freeing it. */
void mpe_test_twin_free(mpe_engine *twin);

#endif
