/* SPDX-License-Identifier: MIT */
/* Queues for tests; see queues.h. */
#include "testing/queues.h"

#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>

mpe_object *
mpe_test_new_queue(mpe_engine *e, uint32_t max_items, unsigned flags)
{
    mpe_object *o;
    REQUIRE_OK(mpe_queue_create(e, max_items, flags, &o));
    return o;
}

int
mpe_test_put_number(mpe_engine *e, mpe_object *q, uint32_t n)
{
    mpe_bytes part = {&n, sizeof n};
    return mpe_queue_put(e, q, &part, 1, 0);
}

uint32_t
mpe_test_number_of(mpe_engine *e, mpe_message *m)
{
    uint32_t n;
    EXPECT_EQ(m->size, sizeof n);
    memcpy(&n, m->data, sizeof n);
    mpe_message_free(e, m);
    return n;
}

uint32_t
mpe_test_get_number(mpe_engine *e, mpe_object *q)
{
    mpe_message m;
    REQUIRE_OK(mpe_queue_get(e, q, &m));
    return mpe_test_number_of(e, &m);
}

/* ---- numbered items ---- */

static uint64_t used; /* when the queue was new */

void
mpe_test_put_item(mpe_engine *e, int number, size_t size)
{
    static uint8_t bytes[MPE_TEST_LARGE];
    mpe_bytes part = {bytes, size};
    bytes[0] = (uint8_t)number;
    mpe_queue_put(e, mpe_test_it, &part, 1, 0);
}

void
mpe_test_put_small(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe_test_put_item(e, 0, MPE_TEST_SMALL);
}

void
mpe_test_put_large(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe_test_put_item(e, 0, MPE_TEST_LARGE);
}

void
mpe_test_get_one(mpe_engine *e, void *arg)
{
    mpe_message m;
    (void)arg;
    if (mpe_queue_get(e, mpe_test_it, &m) == MPE_OK)
        mpe_message_free(e, &m);
}

void *
mpe_test_queue_of(mpe_engine *e, uint32_t bound, unsigned flags, int count, size_t size)
{
    mpe_test_forget(e);
    REQUIRE_OK(mpe_queue_create(e, bound, flags, &mpe_test_it));
    used = mpe_test_used(e);
    for (int i = 0; i < count; i++)
        mpe_test_put_item(e, i, size);
    return mpe_test_it;
}

void *
mpe_test_empty_queue(mpe_engine *e)
{
    return mpe_test_queue_of(e, 0, 0, 0, 0);
}

int
mpe_test_drain(mpe_engine *e, int first, size_t size)
{
    mpe_message m;
    int count = 0, reported = (int)mpe_queue_size(e, mpe_test_it);
    for (; mpe_queue_get(e, mpe_test_it, &m) == MPE_OK; count++) {
        EXPECT_EQ(m.size, size);
        EXPECT_EQ(m.data[0], first + count);
        mpe_message_free(e, &m);
    }
    EXPECT_EQ(count, reported);
    EXPECT_EQ(mpe_queue_size(e, mpe_test_it), 0);
    return count;
}

void
mpe_test_check_queue(mpe_engine *e, uint64_t more)
{
    mpe_message m;
    mpe_test_put_item(e, 77, MPE_TEST_SMALL);
    EXPECT_OK(mpe_queue_get(e, mpe_test_it, &m));
    EXPECT_EQ(m.data[0], 77);
    mpe_message_free(e, &m);
    mpe_queue_task_done(e, mpe_test_it);
    mpe_test_check(e);
    EXPECT(mpe_test_used(e) <= used + more);
}
