/* SPDX-License-Identifier: MIT */
/* Allocating and freeing blocks of all sizes, growing the heap and trimming it, killed at every
 * point: no block is lost or has two owners, zeroed memory is zero, every byte is counted once. */
#include "core/arena.h"
#include "core/chunk.h"
#include "core/object.h"
#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>

#define RUN (200u << 10)
#define HUGE_RUN (80u * MPE__CHUNK_BYTES) /* returns its memory when it is freed */

static uint64_t kept; /* a block in use all the time */
static uint64_t committed_at_first;

static void *
nothing(mpe_engine *e)
{
    if (!kept)
        REQUIRE_OK(mpe__alloc(e, 700, &kept));
    memset(mpe__at(e, kept), 0x11, 700);
    return NULL;
}

static void
close_engine(mpe_engine *e)
{
    mpe__free(e, kept);
    kept = 0;
    mpe_test_check(e);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

/* Blocks are zero where required, and have one owner. */
static void
use_all(mpe_engine *e)
{
    uint64_t off[12];
    for (int i = 0; i < 12; i++) {
        REQUIRE_OK(mpe__alloc_zeroed(e, i % 4 ? 700 : RUN, &off[i]));
        const uint8_t *p = mpe__at(e, off[i]);
        for (int k = 0; k < 700; k++)
            EXPECT_EQ(p[k], 0);
        memset(mpe__at(e, off[i]), 0xee, i % 4 ? 700 : RUN);
    }
    for (int i = 0; i < 12; i++)
        mpe__free(e, off[i]);
}

static void
check(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    mpe_test_reap(e);
    EXPECT_EQ(mpe_test_used(e), mpe__block_bytes(e, kept));
    use_all(e);
    const uint8_t *p = mpe__at(e, kept);
    for (int k = 0; k < 700; k++)
        EXPECT_EQ(p[k], 0x11);
    mpe__trim(e);
    mpe_test_check(e);
    EXPECT_EQ(mpe_test_used(e), mpe__block_bytes(e, kept));
    if (committed_at_first == 0)
        committed_at_first = mpe_test_committed(e);
    EXPECT(mpe_test_committed(e) <= committed_at_first + HUGE_RUN);
}

static void
kill_everywhere(struct mpe_test_deaths d)
{
    mpe_engine *e = mpe_test_engine(0);
    committed_at_first = 0;
    mpe_test_kill_everywhere(e, &d);
    mpe_test_kill_in_an_empty_heap(e, &d);
    close_engine(e);
}

static void
alloc_each_class(mpe_engine *e, void *arg)
{
    uint64_t off;
    (void)arg;
    for (uint32_t c = 0; c < MPE__CLASSES; c++)
        if (mpe__alloc(e, mpe__class_size[c], &off) == MPE_OK)
            mpe__free(e, off);
}

TEST_LIMIT(blocks_of_each_class, 60)
{
    kill_everywhere((struct mpe_test_deaths){nothing, NULL, alloc_each_class, check});
}

static void
alloc_runs(mpe_engine *e, void *arg)
{
    uint64_t small, run, huge;
    (void)arg;
    mpe__alloc(e, 700, &small);
    mpe__alloc(e, RUN, &run);
    mpe__alloc_zeroed(e, HUGE_RUN, &huge);
    mpe__free(e, huge);
    mpe__free(e, small);
    mpe__free(e, run);
}

TEST_LIMIT(runs_of_chunks, 60)
{
    kill_everywhere((struct mpe_test_deaths){nothing, NULL, alloc_runs, check});
}

static void
dirty(mpe_engine *e, void *arg)
{
    uint64_t off;
    (void)arg;
    for (uint32_t size = 32; size <= MPE__SMALL_MAX; size *= 8) {
        REQUIRE_OK(mpe__alloc(e, size, &off));
        memset(mpe__at(e, off), 0xdd, size);
        mpe__free(e, off);
    }
}

static void
trim(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe__trim(e);
}

TEST_LIMIT(chunks_given_back, 60)
{
    kill_everywhere((struct mpe_test_deaths){nothing, dirty, trim, check});
}

/* More blocks in flight than the journal has room for. */
static void
alloc_many(mpe_engine *e, void *arg)
{
    uint64_t off[8];
    (void)arg;
    for (int i = 0; i < 8; i++)
        mpe__alloc(e, i % 3 ? 96 : RUN, &off[i]);
    for (int i = 0; i < 8; i++)
        mpe__free(e, off[i]);
}

TEST_LIMIT(more_blocks_than_are_noted, 60)
{
    kill_everywhere((struct mpe_test_deaths){nothing, NULL, alloc_many, check});
}

TEST_LIMIT(all_of_it_while_reapers_die, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_test_kill_reapers_everywhere(e,
                                     &(struct mpe_test_deaths){nothing, NULL, alloc_runs, check});
    mpe_test_kill_reapers_everywhere(e, &(struct mpe_test_deaths){nothing, dirty, trim, check});
    close_engine(e);
}

/* A limit that is reached in the middle. */
static void
alloc_too_much(mpe_engine *e, void *arg)
{
    uint64_t off[3];
    (void)arg;
    int n = 0;
    while (n < 3 && mpe__alloc(e, 1u << 20, &off[n]) == MPE_OK)
        n++;
    while (n-- > 0)
        mpe__free(e, off[n]);
}

static void
check_little(mpe_engine *e, void *arg, bool has_ended)
{
    (void)arg, (void)has_ended;
    mpe_test_reap(e);
    EXPECT_EQ(mpe_test_used(e), mpe__block_bytes(e, kept));
    uint64_t off;
    EXPECT_OK(mpe__alloc(e, 1u << 20, &off));
    mpe__free(e, off);
    mpe__trim(e);
    mpe_test_check(e);
}

TEST_LIMIT(memory_that_runs_out, 60)
{
    mpe_engine *e = mpe_test_engine(4u << 20);
    mpe_test_kill_everywhere(
        e, &(struct mpe_test_deaths){nothing, NULL, alloc_too_much, check_little});
    close_engine(e);
}
