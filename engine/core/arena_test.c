/* SPDX-License-Identifier: MIT */
/* The allocator: no byte has two owners, all memory returns, and running out is an ordinary
 * error. */
#include "core/arena.h"

#include "core/death.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>

#define BLOCKS 600

static uint64_t blocks[BLOCKS], sizes[BLOCKS];

static uint8_t *
bytes_of(mpe_engine *e, int i)
{
    return mpe__at(e, blocks[i]);
}

static void
alloc_one(mpe_engine *e, int i, uint64_t size)
{
    sizes[i] = size;
    REQUIRE_OK(mpe__alloc(e, size, &blocks[i]));
    EXPECT(mpe__block_bytes(e, blocks[i]) >= size);
    memset(bytes_of(e, i), i & 0xff, size);
}

static void
check_and_free(mpe_engine *e, int i)
{
    const uint8_t *p = bytes_of(e, i);
    uint64_t k = 0;
    while (k < sizes[i] && p[k] == (i & 0xff))
        k++;
    EXPECT_EQ(k, sizes[i]);
    mpe__free(e, blocks[i]);
}

TEST(gives_blocks_of_every_size_that_do_not_overlap)
{
    mpe_engine *e = mpe_test_engine(0);
    uint64_t base = mpe_test_used(e);
    for (int i = 0; i < BLOCKS; i++)
        alloc_one(e, i, (uint64_t)(i < 500 ? 1 + i * 37 : 20000 + i * 300));
    for (int i = 0; i < BLOCKS; i++)
        check_and_free(e, i);
    EXPECT_EQ(mpe_test_used(e), base);
    mpe_close(e);
}

TEST(aligns_blocks_to_16_and_large_ones_to_64)
{
    mpe_engine *e = mpe_test_engine(0);
    for (int i = 0; i < BLOCKS; i++) {
        alloc_one(e, i, 1 + (uint64_t)i * 40);
        EXPECT_EQ(blocks[i] % (sizes[i] >= 4096 ? 64 : 16), 0);
    }
    mpe_close(e);
}

TEST(zeroes_memory_that_was_used_before)
{
    mpe_engine *e = mpe_test_engine(0);
    static const uint64_t wanted[] = {1, 100, 5000, 16384, 70000, 300000};
    for (int round = 0; round < 3; round++)
        for (int i = 0; i < 6; i++) {
            REQUIRE_OK(mpe__alloc_zeroed(e, wanted[i], &blocks[i]));
            for (uint64_t k = 0; k < wanted[i]; k++)
                if (!EXPECT_EQ(bytes_of(e, i)[k], 0))
                    return;
            memset(bytes_of(e, i), 0xff, mpe__block_bytes(e, blocks[i]));
            mpe__free(e, blocks[i]);
        }
    mpe_close(e);
}

TEST(reuses_freed_memory)
{
    mpe_engine *e = mpe_test_engine(0);
    uint64_t committed = 0;
    for (int round = 0; round < 50; round++) {
        for (int i = 0; i < 300; i++)
            alloc_one(e, i, (uint64_t)(1 + i * 91));
        for (int i = 0; i < 300; i++)
            check_and_free(e, i);
        if (round == 0)
            committed = mpe_test_committed(e);
    }
    EXPECT_EQ(mpe_test_committed(e), committed);
    mpe_close(e);
}

/* Allocates blocks of a size until there is no memory, each linked to the one before; returns
 * how many. */
static int
exhaust(mpe_engine *e, uint64_t size, uint64_t *last)
{
    uint64_t off;
    int count = 0, rc;
    for (*last = 0; (rc = mpe__alloc(e, size, &off)) == MPE_OK; *last = off, count++)
        memcpy(mpe__at(e, off), last, sizeof *last);
    EXPECT_EQ(rc, MPE_EARENA);
    return count;
}

static void
free_chain(mpe_engine *e, uint64_t last)
{
    while (last) {
        uint64_t before;
        memcpy(&before, mpe__at(e, last), sizeof before);
        mpe__free(e, last);
        last = before;
    }
}

TEST(running_out_is_an_error_that_changes_nothing)
{
    static const uint64_t wanted[] = {32, 1000, 16384, 65536, 500000};
    mpe_engine *e = mpe_test_engine(8u << 20);
    uint64_t base = mpe_test_used(e), last, off;
    for (int i = 0; i < 5; i++) {
        int count = exhaust(e, wanted[i], &last);
        uint64_t used = mpe_test_used(e), committed = mpe_test_committed(e);
        EXPECT(count * wanted[i] > 5u << 20);
        EXPECT_EQ(mpe__alloc(e, wanted[i], &off), MPE_EARENA);
        EXPECT_EQ(mpe__alloc_zeroed(e, 1u << 30, &off), MPE_EARENA);
        EXPECT_EQ(mpe_test_used(e), used);
        EXPECT_EQ(mpe_test_committed(e), committed);
        EXPECT(committed <= 8u << 20);
        free_chain(e, last);
        EXPECT_EQ(mpe_test_used(e), base);
        mpe__trim(e);
    }
    mpe_close(e);
}

TEST(refuses_sizes_beyond_all_memory)
{
    mpe_engine *e = mpe_test_engine(8u << 20);
    uint64_t off;
    EXPECT_EQ(mpe__alloc(e, UINT64_MAX / 2, &off), MPE_EARENA);
    EXPECT_EQ(mpe__alloc(e, 1ull << 40, &off), MPE_EARENA);
    mpe_close(e);
}

TEST(opens_with_a_limit_too_small_for_anything)
{
    mpe_engine *e = mpe_test_engine(1);
    mpe_object *o;
    EXPECT_EQ(mpe_lock_create(e, 0, &o), MPE_EARENA);
    mpe_close(e);
}

TEST(trimming_returns_memory_and_keeps_used_blocks)
{
    mpe_engine *e = mpe_test_engine(0);
    uint64_t last;
    alloc_one(e, 0, 100);
    mpe__trim(e);
    uint64_t before = mpe_test_committed(e);
    last = 0;
    for (int i = 0; i < 50000; i++) {
        uint64_t off;
        REQUIRE_OK(mpe__alloc(e, 500, &off));
        memcpy(mpe__at(e, off), &last, sizeof last);
        last = off;
    }
    EXPECT(mpe_test_committed(e) > before + 25000000);
    free_chain(e, last);
    mpe__trim(e);
    EXPECT(mpe_test_committed(e) < before + (1u << 20));
    check_and_free(e, 0);
    alloc_one(e, 1, 500);
    check_and_free(e, 1);
    mpe_close(e);
}

TEST(large_runs_return_their_memory_at_once)
{
    mpe_engine *e = mpe_test_engine(0);
    uint64_t before = mpe_test_committed(e);
    for (int i = 0; i < 5; i++) {
        alloc_one(e, 0, 20u << 20);
        EXPECT(mpe_test_committed(e) >= before + (20u << 20));
        check_and_free(e, 0);
    }
    EXPECT(mpe_test_committed(e) < before + (1u << 20));
    mpe_close(e);
}

static void
count_blocks(uint64_t off, uint32_t owner, void *ud)
{
    (void)off, (void)owner;
    ++*(int *)ud;
}

TEST(visits_every_block_in_use)
{
    mpe_engine *e = mpe_test_engine(0);
    int before = 0, during = 0, after = 0;
    mpe__each_block(e, count_blocks, &before);
    for (int i = 0; i < BLOCKS; i++)
        alloc_one(e, i, (uint64_t)(1 + i * 60));
    mpe__each_block(e, count_blocks, &during);
    for (int i = 0; i < BLOCKS; i++)
        check_and_free(e, i);
    mpe__each_block(e, count_blocks, &after);
    EXPECT_EQ(during - before, BLOCKS);
    EXPECT_EQ(after, before);
    mpe_close(e);
}

/* Allocates, stamps, checks and frees at random. A block with two owners would lose its stamp. */
static void
churn(mpe_engine *e, void *arg)
{
    uint32_t seed = *(uint32_t *)arg, mine = (uint32_t)mpe_self_slot(e) + 1;
    memset(blocks, 0, sizeof blocks);
    for (int round = 0; round < 60000; round++) {
        int i = (int)(mpe_test_random(&seed) % BLOCKS);
        uint32_t size = mpe_test_random(&seed), *word;
        if (blocks[i]) {
            word = mpe__at(e, blocks[i]);
            if (!EXPECT(word[0] == mine && word[1] == (uint32_t)i))
                return;
            mpe__free(e, blocks[i]);
            blocks[i] = 0;
            continue;
        }
        size = size % 64 == 0 ? 20000 + size % 100000 : 8 + size % 2000;
        REQUIRE_OK(mpe__alloc(e, size, &blocks[i]));
        word = mpe__at(e, blocks[i]);
        word[0] = mine;
        word[1] = (uint32_t)i;
        if (round % 10000 == 0)
            mpe__trim(e);
    }
    for (int i = 0; i < BLOCKS; i++)
        if (blocks[i])
            mpe__free(e, blocks[i]);
}

TEST(gives_no_block_to_two_processes)
{
    mpe_engine *e = mpe_test_engine(0);
    uint32_t seeds[3] = {1, 2, 3};
    mpe_process *p[3];
    int count = 0;
    for (int i = 0; i < 3; i++)
        p[i] = mpe_test_start(e, churn, &seeds[i]);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    mpe_reap_dead(e);
    mpe__each_block(e, count_blocks, &count);
    EXPECT_EQ(count, 0);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_test_check(e);
    mpe_close(e);
}

struct holding {
    struct mpe_test_gate ready;
    int count;
};

static void
hold_blocks(mpe_engine *e, void *arg)
{
    struct holding *h = arg;
    for (int i = 0; i < h->count; i++)
        alloc_one(e, i, (uint64_t)(1 + i * 300));
    mpe_test_gate_open(h->ready);
    mpe_test_gate_wait(mpe_test_gate_new());
}

TEST(reclaims_all_blocks_in_flight_of_the_dead)
{
    mpe_engine *e = mpe_test_engine(0);
    static const int counts[] = {1, 4, 5, 300};
    for (int i = 0; i < 4; i++) {
        struct holding h = {mpe_test_gate_new(), counts[i]};
        mpe_process *p = mpe_test_start(e, hold_blocks, &h);
        int left = 0;
        mpe_test_gate_wait(h.ready);
        mpe__each_block(e, count_blocks, &left);
        EXPECT_EQ(left, counts[i]);
        mpe_test_kill(p);
        EXPECT_EQ(mpe_reap_dead(e), 1);
        left = 0;
        mpe__each_block(e, count_blocks, &left);
        EXPECT_EQ(left, 0);
        EXPECT_EQ(mpe_test_used(e), 0);
        mpe_test_join(e, p);
    }
    mpe_close(e);
}

TEST(moves_a_block_from_one_owner_to_another_only_when_it_is_owned_by_that)
{
    mpe_engine *e = mpe_test_engine(0);
    uint64_t off;
    uint32_t me = mpe_self_slot(e) + 1;
    REQUIRE_OK(mpe__alloc(e, 100, &off));
    EXPECT(!mpe__take(e, off, me + 1, me));
    EXPECT(mpe__take(e, off, me, MPE__ATTACHED | 5));
    EXPECT(!mpe__take(e, off, me, MPE__ATTACHED | 5));
    EXPECT(!mpe__take(e, 64, me, me));
    EXPECT(!mpe__take(e, e->header->map_bytes + 64, me, me));
    mpe__free_owned_by(e, MPE__ATTACHED | 5);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

static void
hold_arena_lock(mpe_engine *e, void *arg)
{
    mpe__a32 *word = &e->header->arena_lock;
    atomic_store(&e->self->intents[0], mpe__offset(e, word) >> 2);
    atomic_store(word, e->slot + 1);
    mpe_test_gate_open(*(struct mpe_test_gate *)arg);
    mpe_test_gate_wait(mpe_test_gate_new());
}

TEST(goes_on_after_a_death_under_its_lock)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_gate ready = mpe_test_gate_new();
    mpe_process *p = mpe_test_start(e, hold_arena_lock, &ready);
    uint64_t committed = mpe_test_committed(e);
    mpe_test_gate_wait(ready);
    mpe_test_kill(p);
    alloc_one(e, 0, 100000);
    check_and_free(e, 0);
    EXPECT_EQ(mpe_test_join(e, p), -9);
    EXPECT(mpe_test_committed(e) <= committed + 1000000);
    mpe_test_check(e);
    mpe_close(e);
}
