/* SPDX-License-Identifier: MIT */
/* Queues for tests: of numbers, and the queue of a test of deaths. */
#ifndef MPE_TEST_QUEUES_H
#define MPE_TEST_QUEUES_H

#include "mpengine_core.h"

mpe_object *mpe_test_new_queue(mpe_engine *e, uint32_t max_items, unsigned flags);
int mpe_test_put_number(mpe_engine *e, mpe_object *q, uint32_t n);
/* Gets a number that must be there. */
uint32_t mpe_test_get_number(mpe_engine *e, mpe_object *q);
/* The number in a message; frees the message. */
uint32_t mpe_test_number_of(mpe_engine *e, mpe_message *m);

/* ---- mpe_test_it (testing/deaths.h) as a queue of numbered items ---- */

#define MPE_TEST_SMALL 20
#define MPE_TEST_MIDDLE 1300 /* three fill a first segment */
#define MPE_TEST_LARGE 5000  /* in a block of its own */

/* Functions for tests of deaths: fresh, and bodies. */
void *mpe_test_empty_queue(mpe_engine *e);
void mpe_test_put_small(mpe_engine *e, void *arg); /* number 0 */
void mpe_test_put_large(mpe_engine *e, void *arg);
void mpe_test_get_one(mpe_engine *e, void *arg); /* gets one and frees it */

/* Puts without waiting, whether there is room or not. */
void mpe_test_put_item(mpe_engine *e, int number, size_t size);
/* A queue with items of a size, numbered from 0, in place of the last one. */
void *mpe_test_queue_of(mpe_engine *e, uint32_t bound, unsigned flags, int count, size_t size);
/* Takes all items of the queue, numbered from first, of a size. Returns their number. */
int mpe_test_drain(mpe_engine *e, int first, size_t size);
/* The queue takes and gives another item, and has no more blocks than when it was made, except
 * for more bytes of its largest segment. */
void mpe_test_check_queue(mpe_engine *e, uint64_t more);

#endif
