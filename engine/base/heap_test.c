/* SPDX-License-Identifier: MIT */
/* The deadline heap: the smallest first, whatever was pushed and removed in whatever order. */
#include "base/heap.h"

#include "testing/mpe_test.h"

#define COUNT 1000

static mpe_waiter waiters[COUNT];
static struct mpe__heap heap;
static const struct mpe__memory memory;
static uint32_t seed = 7;

static uint32_t
random_number(void)
{
    seed = seed * 1664525u + 1013904223u;
    return seed >> 8;
}

static void
push_all(uint32_t range)
{
    for (int i = 0; i < COUNT; i++) {
        waiters[i].deadline = random_number() % range;
        REQUIRE_OK(mpe__heap_push(&heap, &memory, &waiters[i]));
    }
}

/* Takes the first until none is left; returns how many were in order. */
static int
drain(void)
{
    uint64_t last = 0;
    int count = 0;
    for (mpe_waiter *w; (w = mpe__heap_first(&heap)) != NULL; count++) {
        EXPECT(w->deadline >= last);
        last = w->deadline;
        mpe__heap_remove(&heap, w);
        EXPECT_EQ(w->heap_index, 0);
    }
    return count;
}

TEST(is_empty_at_first)
{
    EXPECT(mpe__heap_first(&heap) == NULL);
    mpe__heap_remove(&heap, &waiters[0]);
    mpe__heap_free(&heap, &memory);
}

TEST(gives_the_earliest_deadline_first)
{
    push_all(UINT32_MAX);
    EXPECT_EQ(drain(), COUNT);
    mpe__heap_free(&heap, &memory);
}

TEST(keeps_all_of_many_equal_deadlines)
{
    push_all(3);
    EXPECT_EQ(drain(), COUNT);
    mpe__heap_free(&heap, &memory);
}

TEST(removes_from_the_middle)
{
    push_all(500);
    for (int i = 0; i < COUNT; i += 2)
        mpe__heap_remove(&heap, &waiters[(i * 7) % COUNT]);
    EXPECT_EQ(heap.count, COUNT / 2);
    for (uint32_t i = 1; i <= heap.count; i++)
        EXPECT_EQ(heap.at[i]->heap_index, i);
    EXPECT_EQ(drain(), COUNT / 2);
    mpe__heap_free(&heap, &memory);
}

TEST(removing_twice_changes_nothing)
{
    push_all(500);
    mpe__heap_remove(&heap, &waiters[3]);
    mpe__heap_remove(&heap, &waiters[3]);
    EXPECT_EQ(drain(), COUNT - 1);
    mpe__heap_free(&heap, &memory);
}
