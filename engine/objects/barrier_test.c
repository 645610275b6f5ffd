/* SPDX-License-Identifier: MIT */
/* Barriers: generations, resets, breaking, and a party that dies. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>

static mpe_object *
new_barrier(mpe_engine *e, uint32_t parties)
{
    mpe_object *o;
    REQUIRE_OK(mpe_barrier_create(e, parties, (mpe_bytes){NULL, 0}, &o));
    return o;
}

TEST(opens_when_the_last_one_has_arrived)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_barrier(e, 3);
    uint32_t index, generation[3], parties, waiting;
    int broken;
    for (uint32_t round = 0; round < 100; round++) {
        for (uint32_t i = 0; i < 3; i++) {
            EXPECT_EQ(mpe_barrier_arrive(e, o, &index, &generation[i]),
                      i < 2 ? MPE_EAGAIN : MPE_OK);
            EXPECT_EQ(index, i);
            EXPECT_EQ(generation[i], round);
            mpe_barrier_state(e, o, &parties, &waiting, &broken);
            EXPECT_EQ(parties, 3);
            EXPECT_EQ(waiting, i + 1);
            EXPECT_EQ(broken, 0);
        }
        EXPECT_EQ(mpe_barrier_poll(e, o, generation[0]), MPE_EAGAIN);
        EXPECT_OK(mpe_barrier_open(e, o, generation[2]));
        EXPECT_OK(mpe_barrier_poll(e, o, generation[0]));
    }
    mpe_close(e);
}

TEST(a_process_that_arrives_during_the_action_arrives_again)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_barrier(e, 1);
    uint32_t index, generation, late;
    EXPECT_OK(mpe_barrier_arrive(e, o, &index, &generation));
    EXPECT_EQ(mpe_barrier_arrive(e, o, &index, &late), MPE_EAGAIN);
    EXPECT_EQ(index, UINT32_MAX);
    EXPECT_OK(mpe_barrier_open(e, o, generation));
    EXPECT_OK(mpe_barrier_arrive(e, o, &index, &late));
    EXPECT_EQ(index, 0);
    EXPECT_EQ(late, generation + 1);
    mpe_close(e);
}

TEST(stays_broken_until_it_is_reset)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_barrier(e, 2);
    uint32_t index, first, second, parties, waiting;
    int broken;
    EXPECT_EQ(mpe_barrier_arrive(e, o, &index, &first), MPE_EAGAIN);
    mpe_barrier_abort(e, o);
    EXPECT_EQ(mpe_barrier_poll(e, o, first), MPE_EBROKEN);
    EXPECT_EQ(mpe_barrier_arrive(e, o, &index, &second), MPE_EBROKEN);
    EXPECT_EQ(mpe_barrier_open(e, o, first), MPE_EBROKEN);
    mpe_barrier_state(e, o, &parties, &waiting, &broken);
    EXPECT_EQ(broken, 1);
    EXPECT_EQ(waiting, 0);
    mpe_barrier_reset(e, o);
    EXPECT_EQ(mpe_barrier_poll(e, o, first), MPE_EBROKEN);
    EXPECT_EQ(mpe_barrier_arrive(e, o, &index, &second), MPE_EAGAIN);
    EXPECT_OK(mpe_barrier_arrive(e, o, &index, &second));
    EXPECT_OK(mpe_barrier_open(e, o, second));
    mpe_close(e);
}

TEST(a_reset_ends_the_waits)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_barrier(e, 3);
    uint32_t index, generation;
    EXPECT_EQ(mpe_barrier_arrive(e, o, &index, &generation), MPE_EAGAIN);
    mpe_barrier_reset(e, o);
    EXPECT_EQ(mpe_barrier_poll(e, o, generation), MPE_EBROKEN);
    EXPECT_EQ(mpe_barrier_open(e, o, generation), MPE_EBROKEN);
    EXPECT_EQ(mpe_barrier_arrive(e, o, &index, &generation), MPE_EAGAIN);
    EXPECT_EQ(index, 0);
    mpe_close(e);
}

TEST(an_arrival_of_long_ago_does_not_count)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_barrier(e, 2);
    uint32_t index, generation;
    EXPECT_EQ(mpe_barrier_arrive(e, o, &index, &generation), MPE_EAGAIN);
    for (int i = 0; i < 65536; i++)
        mpe_barrier_reset(e, o);
    EXPECT_EQ(mpe_barrier_arrive(e, o, &index, &generation), MPE_EAGAIN);
    EXPECT_EQ(index, 0);
    mpe_close(e);
}

TEST(carries_the_settings_of_its_maker)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o;
    mpe_buf b;
    mpe_buf_init(&b);
    REQUIRE_OK(mpe_wire_put_str(&b, "settings", 8));
    REQUIRE_OK(mpe_barrier_create(e, 2, (mpe_bytes){b.data, b.len}, &o));
    mpe_bytes got = mpe_barrier_settings(e, o);
    EXPECT(got.size == b.len && memcmp(got.data, b.data, b.len) == 0);
    mpe_close(e);
}

struct meeting {
    mpe_object *barrier, *array;
    int rounds;
};

struct arrival {
    uint32_t index, generation;
    int has_arrived;
};

static int
meet(mpe_engine *e, mpe_object *o, void *ud)
{
    struct arrival *a = ud;
    if (a->has_arrived)
        return mpe_barrier_poll(e, o, a->generation);
    int rc = mpe_barrier_arrive(e, o, &a->index, &a->generation);
    a->has_arrived = a->index != UINT32_MAX;
    return rc == MPE_OK ? mpe_barrier_open(e, o, a->generation) : rc;
}

/* No process starts a round before all have ended the last one. */
static void
meet_often(mpe_engine *e, void *arg)
{
    struct meeting *m = arg;
    char type;
    uint64_t length;
    int *count = mpe_array_data(e, m->array, &type, &length);
    for (int i = 0; i < m->rounds; i++) {
        struct arrival a = {0};
        __atomic_add_fetch(count, 1, __ATOMIC_SEQ_CST);
        REQUIRE_OK(mpe_await(e, m->barrier, MPE_EVENT_READY, MPE_FOREVER, meet, &a));
        EXPECT(__atomic_load_n(count, __ATOMIC_SEQ_CST) >= 3 * (i + 1));
        EXPECT(__atomic_load_n(count, __ATOMIC_SEQ_CST) <= 3 * (i + 2));
    }
}

TEST_LIMIT(three_processes_meet_again_and_again, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    struct meeting m = {new_barrier(e, 3), NULL, 2000};
    mpe_process *p[3];
    REQUIRE_OK(mpe_array_create(e, 'i', 1, 0, &m.array));
    for (int i = 0; i < 3; i++)
        p[i] = mpe_test_start(e, meet_often, &m);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    mpe_close(e);
}

struct party {
    mpe_object *barrier;
    struct mpe_test_gate ready;
};

static void
arrive_and_stay(mpe_engine *e, void *arg)
{
    struct party *p = arg;
    uint32_t index, generation;
    EXPECT_EQ(mpe_barrier_arrive(e, p->barrier, &index, &generation), MPE_EAGAIN);
    mpe_test_gate_open(p->ready);
    mpe_test_gate_wait(mpe_test_gate_new());
}

TEST(the_death_of_one_that_has_arrived_breaks_it_for_all)
{
    mpe_engine *e = mpe_test_engine(0);
    struct party c = {new_barrier(e, 3), mpe_test_gate_new()};
    mpe_process *p = mpe_test_start(e, arrive_and_stay, &c);
    struct arrival a = {0};
    mpe_test_gate_wait(c.ready);
    mpe_test_kill(p);
    EXPECT_EQ(mpe_await(e, c.barrier, MPE_EVENT_READY, MPE_FOREVER, meet, &a), MPE_EBROKEN);
    mpe_test_join(e, p);
    mpe_close(e);
}

static void
arrive_late_and_stay(mpe_engine *e, void *arg)
{
    (void)e;
    mpe_test_gate_open(((struct party *)arg)->ready);
    mpe_test_gate_wait(mpe_test_gate_new());
}

TEST(the_death_of_one_that_has_not_arrived_breaks_nothing)
{
    mpe_engine *e = mpe_test_engine(0);
    struct party c = {new_barrier(e, 2), mpe_test_gate_new()};
    mpe_process *p = mpe_test_start(e, arrive_late_and_stay, &c);
    uint32_t index, generation;
    mpe_test_gate_wait(c.ready);
    EXPECT_EQ(mpe_barrier_arrive(e, c.barrier, &index, &generation), MPE_EAGAIN);
    mpe_test_kill(p);
    EXPECT_EQ(mpe_reap_dead(e), 1);
    EXPECT_EQ(mpe_barrier_poll(e, c.barrier, generation), MPE_EAGAIN);
    EXPECT_OK(mpe_barrier_arrive(e, c.barrier, &index, &generation));
    mpe_test_join(e, p);
    mpe_close(e);
}
