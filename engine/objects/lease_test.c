/* SPDX-License-Identifier: MIT */
/* Leases: each item of a task is claimed once or reclaimed, a stop meets the item that was meant,
 * and results are published in order. Deaths are in lease_deaths_test.c. */
#include "mpengine_core.h"

#include "base/defs.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"
#include "testing/queues.h"

#include <sched.h>
#include <signal.h>
#include <string.h>

#define WORKERS 3
#define PLACES 5
#define BUFFER 64

static mpe_object *board_object, *buffer_object;

static mpe_leases
new_board(mpe_engine *e)
{
    mpe_leases b;
    REQUIRE_OK(mpe_lease_create(e, WORKERS, PLACES, &board_object));
    REQUIRE_OK(mpe_lease_board(e, board_object, &b));
    return b;
}

static mpe_lease_buffer
new_buffer(mpe_engine *e, uint64_t size)
{
    mpe_lease_buffer buffer;
    REQUIRE_OK(mpe_array_create(e, 'B', size, MPE_ARRAY_RAW, &buffer_object));
    REQUIRE_OK(mpe_lease_buffer_of(e, buffer_object, &buffer));
    return buffer;
}

/* ---- boards ---- */

TEST(a_board_has_its_workers_and_places)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_leases b = new_board(e);
    mpe_object *o;
    EXPECT_EQ(b.workers, WORKERS);
    EXPECT_EQ(b.places, PLACES);
    EXPECT_EQ(mpe_lease_create(e, 0, 1, &o), MPE_EINVAL);
    EXPECT_EQ(mpe_lease_create(e, 1, 0, &o), MPE_EINVAL);
    mpe_drop(e, board_object);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(other_objects_are_neither_boards_nor_buffers)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *others[] = {mpe_test_event(e), NULL, NULL, NULL};
    REQUIRE_OK(mpe_array_create(e, 'Q', 100, 0, &others[1])); /* has a lock: not raw */
    REQUIRE_OK(mpe_array_create(e, 'Q', 100, MPE_ARRAY_RAW, &others[2]));
    REQUIRE_OK(mpe_array_create(e, 'B', 15, MPE_ARRAY_RAW, &others[3]));
    for (size_t i = 0; i < MPE__COUNTOF(others); i++) {
        mpe_leases b;
        mpe_lease_buffer buffer;
        EXPECT_EQ(mpe_lease_board(e, others[i], &b), MPE_EINVAL);
        EXPECT_EQ(mpe_lease_buffer_of(e, others[i], &buffer), MPE_EINVAL);
    }
    char type;
    uint64_t length, *words = mpe_array_data(e, others[2], &type, &length);
    mpe_leases b;
    words[0] = 12; /* more workers than there is room for, places included */
    EXPECT_EQ(mpe_lease_board(e, others[2], &b), MPE_EINVAL);
    words[0] = 11;
    EXPECT_OK(mpe_lease_board(e, others[2], &b));
    EXPECT_EQ(b.places, 4);
    mpe_close(e);
}

/* ---- claims ---- */

TEST(items_are_claimed_once_and_in_order)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_leases b = new_board(e);
    mpe_lease_offer(&b, 2);
    EXPECT_EQ(mpe_lease_begin(&b, 0, 2, 7, 1), MPE_ENOENT);
    EXPECT_OK(mpe_lease_begin(&b, 0, 2, 7, 0));
    EXPECT_EQ(mpe_lease_begin(&b, 1, 2, 7, 0), MPE_ENOENT);
    EXPECT_OK(mpe_lease_end(&b, 0));
    EXPECT_OK(mpe_lease_begin(&b, 0, 2, 7, 1));
    EXPECT_OK(mpe_lease_begin(&b, 1, 3, 8, 0)); /* another place */
    EXPECT_EQ(mpe_lease_reclaim(&b, 2), 2);
    EXPECT_EQ(mpe_lease_reclaim(&b, 3), 1);
    mpe_close(e);
}

TEST(a_reclaimed_item_is_not_begun_until_it_is_offered_again)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_leases b = new_board(e);
    mpe_lease_offer(&b, 0);
    EXPECT_OK(mpe_lease_begin(&b, 0, 0, 7, 0));
    EXPECT_EQ(mpe_lease_reclaim(&b, 0), 1);
    EXPECT_EQ(mpe_lease_reclaim(&b, 0), 1);
    EXPECT_OK(mpe_lease_end(&b, 0)); /* the running item goes on */
    EXPECT_EQ(mpe_lease_begin(&b, 0, 0, 7, 1), MPE_ENOENT);
    mpe_lease_offer(&b, 0);
    EXPECT_OK(mpe_lease_begin(&b, 0, 0, 8, 0));
    mpe_close(e);
}

/* ---- what runs ---- */

TEST(an_item_runs_from_its_beginning_to_its_end)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_leases b = new_board(e);
    mpe_lease_run run;
    const uint32_t numbers[] = {0, 7, UINT32_MAX}, items[] = {0, 1, 65535};
    for (size_t i = 0; i < MPE__COUNTOF(numbers); i++) {
        for (uint32_t item = 0; item <= items[i]; item++) {
            EXPECT_EQ(mpe_lease_running(&b, 1, &run), MPE_ENOENT);
            REQUIRE_OK(mpe_lease_begin(&b, 1, i, numbers[i], item));
            REQUIRE_OK(mpe_lease_running(&b, 1, &run));
            EXPECT_EQ(run.number, numbers[i]);
            EXPECT_EQ(run.item, item);
            EXPECT_OK(mpe_lease_end(&b, 1));
        }
    }
    EXPECT_EQ(mpe_lease_begin(&b, 1, 0, 7, 5), MPE_ENOENT);
    EXPECT_EQ(mpe_lease_running(&b, 1, &run), MPE_ENOENT);
    mpe_close(e);
}

TEST(the_time_of_a_timed_item_begins_with_it)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_leases b = new_board(e);
    mpe_lease_run run;
    REQUIRE_OK(mpe_lease_begin(&b, 0, 0, 7, 0));
    REQUIRE_OK(mpe_lease_running(&b, 0, &run));
    EXPECT_EQ(run.since, 0); /* it was not taken from a queue */
    EXPECT_OK(mpe_lease_end(&b, 0));
    uint64_t before = mpe_now();
    REQUIRE_OK(mpe_lease_begin_timed(&b, 0, 0, 7, 1));
    REQUIRE_OK(mpe_lease_running(&b, 0, &run));
    EXPECT(run.since >= before && run.since <= mpe_now());
    EXPECT_EQ(mpe_lease_begin_timed(&b, 1, 0, 7, 1), MPE_ENOENT);
    mpe_close(e);
}

TEST(a_stop_meets_the_item_that_was_meant)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_leases b = new_board(e);
    mpe_lease_run run;
    EXPECT_EQ(mpe_lease_stop(&b, 0, 7, 0), MPE_ENOENT);
    REQUIRE_OK(mpe_lease_begin(&b, 0, 0, 7, 0));
    EXPECT_EQ(mpe_lease_stop(&b, 0, 7, 1), MPE_ENOENT);
    EXPECT_EQ(mpe_lease_stop(&b, 0, 8, 0), MPE_ENOENT);
    EXPECT_EQ(mpe_lease_stop(&b, 1, 7, 0), MPE_ENOENT);
    EXPECT_EQ(mpe_lease_is_stopped(&b, 0), 0);
    EXPECT_OK(mpe_lease_stop(&b, 0, 7, 0));
    EXPECT_EQ(mpe_lease_stop(&b, 0, 7, 0), MPE_ENOENT); /* once */
    EXPECT(mpe_lease_is_stopped(&b, 0));
    REQUIRE_OK(mpe_lease_running(&b, 0, &run));
    EXPECT_EQ(run.number, 7);
    EXPECT_EQ(run.item, 0);
    EXPECT_EQ(mpe_lease_end(&b, 0), MPE_ECANCELED);
    EXPECT_EQ(mpe_lease_is_stopped(&b, 0), 0);
    REQUIRE_OK(mpe_lease_begin(&b, 0, 0, 7, 1)); /* the next one is not stopped */
    EXPECT_EQ(mpe_lease_stop(&b, 0, 7, 0), MPE_ENOENT);
    EXPECT_OK(mpe_lease_end(&b, 0));
    mpe_close(e);
}

/* A worker whose item is stopped; its owner dooms it or lets it end. */
static struct mpe_test_gate is_running, may_end;

static void
run_and_end(mpe_engine *e, void *arg)
{
    mpe_leases b;
    REQUIRE_OK(mpe_lease_board(e, arg, &b));
    REQUIRE_OK(mpe_lease_begin(&b, 0, 0, 7, 0));
    mpe_test_gate_open(is_running);
    mpe_test_gate_wait(may_end);
    mpe_lease_end(&b, 0);
    EXPECT_OK(mpe_lease_begin(&b, 0, 0, 7, 1));
}

static mpe_process *
start_running(mpe_engine *e)
{
    is_running = mpe_test_gate_new();
    may_end = mpe_test_gate_new();
    mpe_process *p = mpe_test_start(e, run_and_end, board_object);
    mpe_test_gate_wait(is_running);
    return p;
}

TEST(a_doomed_worker_begins_nothing_until_it_is_killed)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_leases b = new_board(e);
    mpe_lease_run run;
    mpe_process *p = start_running(e);
    EXPECT_EQ(mpe_lease_doom(&b, 0, 7, 0), MPE_ENOENT); /* it is not stopped */
    EXPECT_OK(mpe_lease_stop(&b, 0, 7, 0));
    EXPECT_OK(mpe_lease_doom(&b, 0, 7, 0));
    EXPECT_EQ(mpe_lease_doom(&b, 0, 7, 0), MPE_ENOENT);
    mpe_test_gate_open(may_end);
    while (mpe_lease_running(&b, 0, &run) == MPE_OK) /* until it has ended the item */
        sched_yield();
    mpe_test_kill(p);
    EXPECT_EQ(mpe_test_join(e, p), -SIGKILL);
    EXPECT_EQ(mpe_lease_reclaim(&b, 0), 1);
    mpe_close(e);
}

TEST(a_worker_that_has_ended_its_item_is_not_doomed)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_leases b = new_board(e);
    mpe_process *p = start_running(e);
    EXPECT_OK(mpe_lease_stop(&b, 0, 7, 0));
    mpe_test_gate_open(may_end);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    EXPECT_EQ(mpe_lease_doom(&b, 0, 7, 0), MPE_ENOENT);
    EXPECT_EQ(mpe_lease_reclaim(&b, 0), 2);
    mpe_close(e);
}

/* ---- tasks ---- */

TEST(a_lease_names_the_task_that_was_taken_last)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_leases b = new_board(e);
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
    mpe_message m;
    mpe_lease_run run;
    uint64_t since;
    EXPECT_EQ(mpe_lease_take(e, &b, 1, q, &m, &since), MPE_EAGAIN);
    for (uint32_t i = 0; i < 3; i++)
        REQUIRE_OK(mpe_test_put_number(e, q, 100 + i));
    for (uint32_t i = 0; i < 3; i++) {
        REQUIRE_OK(mpe_lease_take(e, &b, i % 2, q, &m, &since));
        EXPECT_EQ(mpe_test_number_of(e, &m), 100 + i);
        REQUIRE_OK(mpe_lease_taken(e, &b, i % 2, q, &run));
        EXPECT_EQ(run.number, i);
        EXPECT_EQ(run.item, 0);
        EXPECT_EQ(run.since, since);
    }
    EXPECT_OK(mpe_lease_taken(e, &b, 1, q, &run));
    EXPECT_EQ(run.number, 1);
    EXPECT_EQ(mpe_lease_taken(e, &b, 2, q, &run), MPE_ENOENT);
    mpe_close(e);
}

TEST(a_worker_that_is_retired_takes_no_task)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_leases b = new_board(e);
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
    mpe_message m;
    uint64_t since;
    REQUIRE_OK(mpe_test_put_number(e, q, 5));
    EXPECT_EQ(mpe_lease_is_retired(&b, 0), 0);
    mpe_lease_retire(&b, 0);
    EXPECT(mpe_lease_is_retired(&b, 0));
    EXPECT_EQ(mpe_lease_take(e, &b, 0, q, &m, &since), MPE_ECLOSED);
    REQUIRE_OK(mpe_lease_take(e, &b, 1, q, &m, &since));
    EXPECT_EQ(mpe_test_number_of(e, &m), 5);
    mpe_close(e);
}

TEST(a_new_worker_finds_nothing_of_the_one_before)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_leases b = new_board(e);
    mpe_lease_buffer buffer = new_buffer(e, BUFFER);
    mpe_object *q = mpe_test_new_queue(e, 0, 0);
    mpe_message m;
    mpe_lease_run run;
    mpe_lease_results r;
    mpe_bytes part = mpe_test_bytes("x");
    uint64_t items, busy, since;
    REQUIRE_OK(mpe_test_put_number(e, q, 5));
    for (uint64_t w = 0; w < 2; w++)
        mpe_lease_ready(&b, w);
    REQUIRE_OK(mpe_lease_take(e, &b, 0, q, &m, &since));
    REQUIRE_OK(mpe_lease_begin(&b, 0, 0, 0, 0));
    REQUIRE_OK(mpe_lease_publish(&buffer, 0, 0, &part, 1));
    mpe_lease_count(&b, 0, 3, 40);
    mpe_lease_count(&b, 0, 1, 2);
    mpe_lease_counts(&b, 0, &items, &busy);
    EXPECT_EQ(items, 4);
    EXPECT_EQ(busy, 42);
    mpe_lease_retire(&b, 0);
    mpe_lease_forget(&b, 0, &buffer);
    EXPECT_EQ(mpe_lease_taken(e, &b, 0, q, &run), MPE_ENOENT);
    EXPECT_EQ(mpe_lease_running(&b, 0, &run), MPE_ENOENT);
    EXPECT_EQ(mpe_lease_salvage(&buffer, &r), MPE_ENOENT);
    EXPECT_EQ(mpe_lease_is_retired(&b, 0), 0);
    EXPECT_EQ(mpe_lease_is_ready(&b, 0), 0);
    mpe_lease_counts(&b, 0, &items, &busy);
    EXPECT_EQ(items + busy, 0);
    EXPECT(mpe_lease_is_ready(&b, 1)); /* the others are as they were */
    mpe_close(e);
}

/* ---- results ---- */

TEST(results_are_published_one_after_the_other)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_lease_buffer buffer = new_buffer(e, BUFFER);
    mpe_lease_results r;
    mpe_bytes parts[2] = {mpe_test_bytes("ab"), mpe_test_bytes("c")};
    EXPECT_EQ(mpe_lease_salvage(&buffer, &r), MPE_ENOENT);
    for (uint32_t item = 3; item < 6; item++)
        EXPECT_OK(mpe_lease_publish(&buffer, 9, item, parts, 2));
    REQUIRE_OK(mpe_lease_salvage(&buffer, &r));
    EXPECT_EQ(r.number, 9);
    EXPECT_EQ(r.first, 3);
    EXPECT_EQ(r.count, 3);
    EXPECT_EQ(r.bytes.size, 9);
    EXPECT(memcmp(r.bytes.data, "abcabcabc", 9) == 0);
    mpe_lease_clear(&buffer);
    EXPECT_EQ(mpe_lease_salvage(&buffer, &r), MPE_ENOENT);
    EXPECT_OK(mpe_lease_publish(&buffer, 10, 0, parts, 1));
    REQUIRE_OK(mpe_lease_salvage(&buffer, &r));
    EXPECT_EQ(r.number, 10);
    EXPECT_EQ(r.first, 0);
    EXPECT_EQ(r.bytes.size, 2);
    mpe_close(e);
}

TEST(a_result_without_bytes_counts)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_lease_buffer buffer = new_buffer(e, 16); /* no room at all */
    mpe_lease_results r;
    mpe_bytes part = {"", 0};
    EXPECT_OK(mpe_lease_publish(&buffer, 0, 0, &part, 1));
    REQUIRE_OK(mpe_lease_salvage(&buffer, &r));
    EXPECT_EQ(r.count, 1);
    EXPECT_EQ(r.bytes.size, 0);
    mpe_close(e);
}

TEST(a_full_buffer_keeps_what_it_has)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_lease_buffer buffer = new_buffer(e, BUFFER);
    mpe_lease_results r;
    uint8_t bytes[BUFFER] = {1};
    mpe_bytes parts[2] = {{bytes, 20}, {bytes, BUFFER - 16 - 20}};
    EXPECT_OK(mpe_lease_publish(&buffer, 1, 0, parts, 1));
    EXPECT_EQ(mpe_lease_publish(&buffer, 1, 1, parts, 2), MPE_EAGAIN);
    REQUIRE_OK(mpe_lease_salvage(&buffer, &r));
    EXPECT_EQ(r.count, 1);
    EXPECT_EQ(r.bytes.size, 20);
    EXPECT_OK(mpe_lease_publish(&buffer, 1, 1, parts + 1, 1)); /* to the last byte */
    EXPECT_EQ(mpe_lease_publish(&buffer, 1, 2, &(mpe_bytes){bytes, 1}, 1), MPE_EAGAIN);
    REQUIRE_OK(mpe_lease_salvage(&buffer, &r));
    EXPECT_EQ(r.count, 2);
    EXPECT_EQ(r.bytes.size, BUFFER - 16);
    mpe_lease_clear(&buffer);
    parts[1].size = BUFFER;
    EXPECT_EQ(mpe_lease_publish(&buffer, 1, 0, parts, 2), MPE_EAGAIN); /* too large for any */
    mpe_close(e);
}

TEST(a_damaged_buffer_is_not_read)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_lease_buffer buffer = new_buffer(e, BUFFER);
    mpe_lease_results r;
    *(uint64_t *)buffer.memory = 1ull << 32 | (BUFFER - 15);
    EXPECT_EQ(mpe_lease_salvage(&buffer, &r), MPE_ECORRUPT);
    mpe_close(e);
}

/* ---- a pool in C ---- */

#define TASKS 200
#define ITEMS 50

/* Workers run items while the owner reclaims those that they have not claimed. */
static struct pool {
    mpe_object *tasks, *runs; /* runs: how often each item was run */
} pool;

static uint64_t me; /* the number of a worker, in its process */

static int
try_take(mpe_engine *e, mpe_object *o, void *ud)
{
    mpe_leases b;
    uint64_t since;
    REQUIRE_OK(mpe_lease_board(e, board_object, &b));
    return mpe_lease_take(e, &b, me, o, ud, &since);
}

static void
work(mpe_engine *e, void *arg)
{
    mpe_leases b;
    mpe_message m;
    char type;
    uint64_t length;
    mpe__a32 *runs = mpe_array_data(e, pool.runs, &type, &length);
    me = (uintptr_t)arg;
    REQUIRE_OK(mpe_lease_board(e, board_object, &b));
    while (mpe_await(e, pool.tasks, MPE_EVENT_READY, MPE_FOREVER, try_take, &m) == MPE_OK) {
        uint32_t seq = m.seq, place = mpe_test_number_of(e, &m);
        for (uint32_t i = 0; i < ITEMS && mpe_lease_begin(&b, me, place, seq, i) == MPE_OK; i++) {
            atomic_fetch_add(&runs[seq * ITEMS + i], 1);
            EXPECT_OK(mpe_lease_end(&b, me));
        }
    }
}

TEST_LIMIT(an_item_is_run_by_one_worker_or_reclaimed, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_leases b;
    mpe_process *p[WORKERS];
    char type;
    uint64_t length;
    uint32_t claimed[TASKS];
    REQUIRE_OK(mpe_lease_create(e, WORKERS, TASKS, &board_object));
    REQUIRE_OK(mpe_lease_board(e, board_object, &b));
    REQUIRE_OK(mpe_array_create(e, 'I', TASKS * ITEMS, MPE_ARRAY_RAW, &pool.runs));
    pool.tasks = mpe_test_new_queue(e, 0, 0);
    for (uintptr_t i = 0; i < WORKERS; i++)
        p[i] = mpe_test_start(e, work, (void *)i);
    for (uint32_t i = 0; i < TASKS; i++) {
        mpe_lease_offer(&b, i);
        REQUIRE_OK(mpe_test_put_number(e, pool.tasks, i));
        if (i >= WORKERS) /* close behind the workers */
            claimed[i - WORKERS] = mpe_lease_reclaim(&b, i - WORKERS);
    }
    for (uint32_t i = TASKS - WORKERS; i < TASKS; i++)
        claimed[i] = mpe_lease_reclaim(&b, i);
    mpe_queue_close(e, pool.tasks);
    for (int i = 0; i < WORKERS; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    uint32_t *runs = mpe_array_data(e, pool.runs, &type, &length);
    for (uint32_t i = 0; i < TASKS * ITEMS; i++)
        EXPECT_EQ(runs[i], i % ITEMS < claimed[i / ITEMS]);
    mpe_close(e);
}
