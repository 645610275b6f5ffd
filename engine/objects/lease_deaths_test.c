/* SPDX-License-Identifier: MIT */
/* Leases. A worker is killed before each store while it takes a task, runs its items and sends
 * their results: then the owner finds, for each item, one result, or that it ran, or that it is
 * left for another worker. An owner is killed in each of its calls, and its worker goes on. */
#define MPE_TEST_KILL_POINTS_OWN
#include "mpengine_core.h"

#include "testing/deaths.h"
#include "testing/kill_points.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"
#include "testing/queues.h"

#include <string.h>

#define ITEMS 5
#define IN_BUFFER 2 /* results; then they are sent */

/* The objects of a pool with one worker and one place. */
static struct pool {
    mpe_object *board, *buffer, *runs; /* runs: how often each item has run */
    mpe_object *tasks, *results;
} pool;

static void
drop_pool(mpe_engine *e)
{
    mpe_object *all[] = {pool.board, pool.buffer, pool.runs, pool.tasks, pool.results};
    for (size_t i = 0; i < MPE__COUNTOF(all); i++)
        if (all[i])
            mpe_drop(e, all[i]);
    memset(&pool, 0, sizeof pool);
}

static mpe_leases
board(mpe_engine *e)
{
    mpe_leases b;
    REQUIRE_OK(mpe_lease_board(e, pool.board, &b));
    return b;
}

static mpe_lease_buffer
buffer(mpe_engine *e)
{
    mpe_lease_buffer b;
    REQUIRE_OK(mpe_lease_buffer_of(e, pool.buffer, &b));
    return b;
}

static mpe__a32 *
runs(mpe_engine *e)
{
    char type;
    uint64_t length;
    return mpe_array_data(e, pool.runs, &type, &length);
}

static void *
new_pool(mpe_engine *e)
{
    drop_pool(e);
    REQUIRE_OK(mpe_lease_create(e, 1, 1, &pool.board));
    REQUIRE_OK(
        mpe_array_create(e, 'B', 16 + IN_BUFFER * sizeof(uint32_t), MPE_ARRAY_RAW, &pool.buffer));
    REQUIRE_OK(mpe_array_create(e, 'I', ITEMS, MPE_ARRAY_RAW, &pool.runs));
    pool.tasks = mpe_test_new_queue(e, 0, 0);
    pool.results = mpe_test_new_queue(e, 0, 0);
    return &pool;
}

/* A pool with a task, at a place that had another task before. */
static void *
pool_with_a_task(mpe_engine *e)
{
    new_pool(e);
    mpe_leases b = board(e);
    mpe_lease_reclaim(&b, 0);
    mpe_lease_offer(&b, 0);
    REQUIRE_OK(mpe_test_put_number(e, pool.tasks, 0));
    return &pool;
}

/* ---- a worker ---- */

static void
send_results(mpe_engine *e)
{
    mpe_lease_buffer to = buffer(e);
    mpe_lease_results r;
    if (mpe_lease_salvage(&to, &r) != MPE_OK)
        return;
    mpe_bytes parts[2] = {{&r, sizeof r}, r.bytes};
    mpe_queue_put(e, pool.results, parts, 2, 0);
    mpe_lease_clear(&to);
}

/* The result of an item is its number. */
static void
publish(mpe_engine *e, uint32_t number, uint32_t item)
{
    mpe_lease_buffer to = buffer(e);
    mpe_bytes part = {&item, sizeof item};
    if (mpe_lease_publish(&to, number, item, &part, 1) == MPE_OK)
        return;
    send_results(e);
    REQUIRE_OK(mpe_lease_publish(&to, number, item, &part, 1));
}

/* With a kill point before and after the work of the item. */
static void
run_item(mpe_engine *e, uint32_t item)
{
    mpe_test_point(__FILE__, __LINE__);
    atomic_fetch_add(&runs(e)[item], 1);
    mpe_test_point(__FILE__, __LINE__);
}

typedef int begin_call(const mpe_leases *b, uint64_t worker, uint64_t place, uint32_t number,
                       uint32_t item);

static void
work(mpe_engine *e, begin_call *begin)
{
    mpe_leases b = board(e);
    static mpe_message m;
    uint64_t since;
    mpe_lease_ready(&b, 0);
    if (mpe_lease_take(e, &b, 0, pool.tasks, &m, &since) != MPE_OK)
        return;
    for (uint32_t i = 0; i < ITEMS && begin(&b, 0, 0, m.seq, i) == MPE_OK; i++) {
        run_item(e, i);
        mpe_lease_end(&b, 0);
        publish(e, m.seq, i);
    }
    send_results(e);
    mpe_lease_count(&b, 0, ITEMS, 1);
}

static void
work_task(mpe_engine *e, void *arg)
{
    (void)arg;
    work(e, mpe_lease_begin);
}

static void
work_timed_task(mpe_engine *e, void *arg)
{
    (void)arg;
    work(e, mpe_lease_begin_timed);
}

/* ---- the owner, after the worker has exited ---- */

/* Receives results; those of items before `got` are there already, and are dropped. */
static uint32_t
have(mpe_engine *e, uint32_t got, const mpe_lease_results *r, const uint8_t *bytes)
{
    if (r->first < got) {
        EXPECT(r->first + r->count <= got);
        return got;
    }
    EXPECT_EQ(r->number, 0);
    EXPECT_EQ(r->first, got);
    EXPECT_EQ(r->bytes.size, r->count * sizeof(uint32_t));
    for (uint32_t i = 0; i < r->count; i++) {
        uint32_t item;
        memcpy(&item, bytes + i * sizeof item, sizeof item);
        EXPECT_EQ(item, got + i);
        EXPECT_EQ(runs(e)[item], 1);
    }
    return got + r->count;
}

static uint32_t
receive_results(mpe_engine *e)
{
    static mpe_message m;
    mpe_lease_results r;
    uint32_t got = 0;
    while (mpe_queue_get(e, pool.results, &m) == MPE_OK) {
        REQUIRE(m.size >= sizeof r);
        memcpy(&r, m.data, sizeof r);
        got = have(e, got, &r, m.data + sizeof r);
        mpe_message_free(e, &m);
    }
    return got;
}

/* At most one item is claimed and has no result: it ran, or was about to run. */
static void
check_lost(mpe_engine *e, const mpe_leases *b, uint32_t got, uint32_t claimed)
{
    mpe_lease_run run;
    EXPECT(claimed == got || claimed == got + 1);
    for (uint32_t i = got; i < claimed; i++) {
        int is_running = mpe_lease_running(b, 0, &run) == MPE_OK && run.number == 0 &&
                         run.item == i;
        EXPECT(runs(e)[i] == 1 || (runs(e)[i] == 0 && is_running));
    }
    for (uint32_t i = claimed; i < ITEMS; i++)
        EXPECT_EQ(runs(e)[i], 0);
}

/* A new worker finds a clear lease. */
static void
check_next(mpe_engine *e, const mpe_leases *b)
{
    mpe_lease_buffer of = buffer(e);
    mpe_lease_run run;
    uint64_t items, busy;
    mpe_lease_forget(b, 0, &of);
    EXPECT_EQ(mpe_lease_taken(e, b, 0, pool.tasks, &run), MPE_ENOENT);
    EXPECT_EQ(mpe_lease_running(b, 0, &run), MPE_ENOENT);
    mpe_lease_counts(b, 0, &items, &busy);
    EXPECT_EQ(items + busy, 0);
    EXPECT(!mpe_lease_is_ready(b, 0));
}

static void
check_task(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_leases b = board(e);
    mpe_lease_buffer of = buffer(e);
    mpe_lease_run run;
    mpe_lease_results r;
    (void)arg;
    mpe_test_reap(e);
    uint32_t got = receive_results(e), claimed;
    if (mpe_lease_taken(e, &b, 0, pool.tasks, &run) == MPE_OK) {
        EXPECT_EQ(run.number, 0);
        EXPECT_EQ(mpe_queue_size(e, pool.tasks), 0);
        if (mpe_lease_salvage(&of, &r) == MPE_OK)
            got = have(e, got, &r, r.bytes.data);
        claimed = mpe_lease_reclaim(&b, 0);
        check_lost(e, &b, got, claimed);
        EXPECT_EQ(mpe_lease_begin(&b, 0, 0, 0, claimed), MPE_ENOENT);
    } else { /* killed before it took the task, which is left for others */
        EXPECT_EQ(mpe_queue_size(e, pool.tasks), 1);
        EXPECT_EQ(mpe_lease_reclaim(&b, 0), 0);
        check_lost(e, &b, 0, 0);
    }
    EXPECT(!has_ended || (got == ITEMS && mpe_lease_is_ready(&b, 0)));
    check_next(e, &b);
}

static void
run_case(void (*kill_all)(mpe_engine *e, const struct mpe_test_deaths *d),
         const struct mpe_test_deaths *d)
{
    mpe_engine *e = mpe_test_engine(0);
    kill_all(e, d);
    drop_pool(e);
    mpe_test_forget(e);
    mpe_test_check(e);
    mpe_close(e);
}

static void
deaths_everywhere(struct mpe_test_deaths d)
{
    run_case(mpe_test_kill_everywhere, &d);
}

TEST_LIMIT(a_worker_killed_in_a_task, 60)
{
    deaths_everywhere((struct mpe_test_deaths){pool_with_a_task, NULL, work_task, check_task});
}

TEST_LIMIT(a_worker_killed_in_a_task_and_the_process_that_repairs_it, 60)
{
    struct mpe_test_deaths d = {pool_with_a_task, NULL, work_task, check_task};
    run_case(mpe_test_kill_reapers_everywhere, &d);
}

TEST_LIMIT(a_worker_killed_in_a_task_with_a_timeout, 60)
{
    deaths_everywhere(
        (struct mpe_test_deaths){pool_with_a_task, NULL, work_timed_task, check_task});
}

/* The owner stops the first item and reclaims the others meanwhile. */
static void
work_reclaimed(mpe_engine *e, void *arg)
{
    mpe_leases b = board(e);
    (void)arg;
    EXPECT_OK(mpe_lease_begin(&b, 0, 0, 0, 0));
    run_item(e, 0);
    EXPECT_OK(mpe_lease_stop(&b, 0, 0, 0));
    mpe_lease_reclaim(&b, 0);
    EXPECT_EQ(mpe_lease_end(&b, 0), MPE_ECANCELED);
    publish(e, 0, 0);
    EXPECT_EQ(mpe_lease_begin(&b, 0, 0, 0, 1), MPE_ENOENT);
    send_results(e);
}

static void
check_reclaimed(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_leases b = board(e);
    mpe_lease_buffer of = buffer(e);
    mpe_lease_results r;
    (void)arg;
    mpe_test_reap(e);
    uint32_t got = receive_results(e);
    if (mpe_lease_salvage(&of, &r) == MPE_OK)
        got = have(e, got, &r, r.bytes.data);
    check_lost(e, &b, got, mpe_lease_reclaim(&b, 0));
    EXPECT(!has_ended || got == 1);
    check_next(e, &b);
}

TEST_LIMIT(a_worker_killed_in_a_task_that_was_stopped, 60)
{
    deaths_everywhere(
        (struct mpe_test_deaths){pool_with_a_task, NULL, work_reclaimed, check_reclaimed});
}

/* ---- an owner ---- */

/* This process is the worker, which runs the first item. */
static void *
pool_that_runs(mpe_engine *e)
{
    pool_with_a_task(e);
    mpe_leases b = board(e);
    static mpe_message m;
    uint64_t since;
    REQUIRE_OK(mpe_lease_take(e, &b, 0, pool.tasks, &m, &since));
    REQUIRE_OK(mpe_lease_begin(&b, 0, 0, 0, 0));
    return &pool;
}

static void
put_task(mpe_engine *e, void *arg)
{
    mpe_leases b = board(e);
    (void)arg;
    mpe_lease_offer(&b, 0);
    mpe_test_put_number(e, pool.tasks, 0);
}

/* A pool whose one place had a task. */
static void *
pool_without_a_task(mpe_engine *e)
{
    new_pool(e);
    mpe_leases b = board(e);
    mpe_lease_reclaim(&b, 0);
    return &pool;
}

static void
check_put(mpe_engine *e, void *arg, bool has_ended)
{
    static mpe_message m;
    mpe_leases b = board(e);
    uint64_t since;
    (void)arg;
    mpe_test_reap(e);
    int rc = mpe_lease_take(e, &b, 0, pool.tasks, &m, &since);
    EXPECT(rc == MPE_OK || (rc == MPE_EAGAIN && !has_ended));
    if (rc == MPE_OK) { /* what is on the queue can be claimed */
        EXPECT_OK(mpe_lease_begin(&b, 0, 0, m.seq, 0));
        mpe_message_free(e, &m);
    }
}

TEST_LIMIT(an_owner_killed_while_it_puts_a_task, 60)
{
    deaths_everywhere((struct mpe_test_deaths){pool_without_a_task, NULL, put_task, check_put});
}

static void
reclaim(mpe_engine *e, void *arg)
{
    mpe_leases b = board(e);
    (void)arg;
    mpe_lease_reclaim(&b, 0);
}

/* The worker can claim the next item, or none. */
static void
check_reclaim(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_leases b = board(e);
    (void)arg;
    EXPECT_OK(mpe_lease_end(&b, 0));
    int rc = mpe_lease_begin(&b, 0, 0, 0, 1);
    EXPECT_EQ(rc, has_ended ? MPE_ENOENT : MPE_OK);
    EXPECT_EQ(mpe_lease_reclaim(&b, 0), rc == MPE_OK ? 2 : 1);
    mpe_test_reap(e);
}

TEST_LIMIT(an_owner_killed_while_it_reclaims_items, 60)
{
    deaths_everywhere((struct mpe_test_deaths){pool_that_runs, NULL, reclaim, check_reclaim});
}

static void
stop_and_doom(mpe_engine *e, void *arg)
{
    mpe_leases b = board(e);
    (void)arg;
    mpe_lease_stop(&b, 0, 0, 0);
    mpe_lease_doom(&b, 0, 0, 0);
}

/* What is doomed was stopped. The calls can be repeated. */
static void
check_stop(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_leases b = board(e);
    (void)arg;
    int is_stopped = mpe_lease_is_stopped(&b, 0);
    EXPECT(is_stopped || !has_ended);
    EXPECT_EQ(mpe_lease_stop(&b, 0, 0, 0), is_stopped ? MPE_ENOENT : MPE_OK);
    EXPECT_EQ(mpe_lease_doom(&b, 0, 0, 0), has_ended ? MPE_ENOENT : MPE_OK);
    mpe_test_reap(e);
    check_next(e, &b);
}

TEST_LIMIT(an_owner_killed_while_it_stops_an_item, 60)
{
    deaths_everywhere((struct mpe_test_deaths){pool_that_runs, NULL, stop_and_doom, check_stop});
}

static void
retire(mpe_engine *e, void *arg)
{
    mpe_leases b = board(e);
    (void)arg;
    mpe_lease_retire(&b, 0);
}

static void
check_retire(mpe_engine *e, void *arg, bool has_ended)
{
    static mpe_message m;
    mpe_leases b = board(e);
    uint64_t since;
    (void)arg;
    EXPECT_OK(mpe_lease_end(&b, 0)); /* the running item goes on */
    EXPECT_EQ(mpe_lease_is_retired(&b, 0), has_ended);
    EXPECT_EQ(mpe_lease_take(e, &b, 0, pool.tasks, &m, &since),
              has_ended ? MPE_ECLOSED : MPE_EAGAIN);
    mpe_test_reap(e);
}

TEST_LIMIT(an_owner_killed_while_it_retires_a_worker, 60)
{
    deaths_everywhere((struct mpe_test_deaths){pool_that_runs, NULL, retire, check_retire});
}

static void
forget(mpe_engine *e, void *arg)
{
    mpe_leases b = board(e);
    mpe_lease_buffer of = buffer(e);
    (void)arg;
    mpe_lease_forget(&b, 0, &of);
}

/* The call can be repeated. */
static void
check_forget(mpe_engine *e, void *arg, bool has_ended)
{
    mpe_leases b = board(e);
    mpe_lease_run run;
    (void)arg;
    EXPECT(!has_ended || mpe_lease_taken(e, &b, 0, pool.tasks, &run) == MPE_ENOENT);
    mpe_test_reap(e);
    check_next(e, &b);
}

TEST_LIMIT(an_owner_killed_while_it_forgets_a_worker, 60)
{
    deaths_everywhere((struct mpe_test_deaths){pool_that_runs, NULL, forget, check_forget});
}
