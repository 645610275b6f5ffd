/* SPDX-License-Identifier: MIT */
/* Lists against a model with random calls, and deaths in the middle of a change. */
#include "core/object.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>

#define LAST UINT64_MAX

static mpe_object *
new_list(mpe_engine *e)
{
    mpe_object *o;
    REQUIRE_OK(mpe_list_create(e, &o));
    return o;
}

static mpe_bytes
bytes_of(const uint32_t *n)
{
    return (mpe_bytes){n, *n % 5 == 0 ? 1000 : sizeof *n};
}

/* A number, in an item of a size that follows from it. */
static mpe_bytes
item(uint32_t n)
{
    static uint32_t words[250];
    words[0] = n;
    return bytes_of(words);
}

static uint32_t
number_at(mpe_engine *e, mpe_object *l, uint64_t index)
{
    mpe_buf b;
    uint32_t n;
    mpe_buf_init(&b);
    REQUIRE_OK(mpe_list_get(e, l, index, &b));
    memcpy(&n, b.data, sizeof n);
    EXPECT_EQ(b.len, item(n).size);
    mpe_buf_free(&b);
    return n;
}

TEST(appends_and_reads_by_index)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *l = new_list(e);
    mpe_buf b;
    mpe_buf_init(&b);
    EXPECT_EQ(mpe_list_count(e, l), 0);
    EXPECT_EQ(mpe_list_get(e, l, 0, &b), MPE_ERANGE);
    for (uint32_t i = 0; i < 1000; i++)
        REQUIRE_OK(mpe_list_insert(e, l, LAST, item(i), 0));
    EXPECT_EQ(mpe_list_count(e, l), 1000);
    for (uint32_t i = 0; i < 1000; i++)
        EXPECT_EQ(number_at(e, l, i), i);
    EXPECT_EQ(mpe_list_get(e, l, 1000, &b), MPE_ERANGE);
    mpe_close(e);
}

TEST(sets_inserts_and_removes)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *l = new_list(e);
    EXPECT_EQ(mpe_list_remove(e, l, LAST, NULL), MPE_ERANGE);
    EXPECT_EQ(mpe_list_set(e, l, 1, item(1), 0), MPE_ERANGE);
    EXPECT_OK(mpe_list_insert(e, l, 0, item(2), 0));
    EXPECT_OK(mpe_list_insert(e, l, 0, item(1), 0));
    EXPECT_OK(mpe_list_insert(e, l, 99, item(3), 0));
    EXPECT_OK(mpe_list_set(e, l, 1, item(20), 0));
    EXPECT_EQ(number_at(e, l, 0), 1);
    EXPECT_EQ(number_at(e, l, 1), 20);
    EXPECT_EQ(number_at(e, l, 2), 3);
    EXPECT_OK(mpe_list_remove(e, l, 0, NULL));
    EXPECT_OK(mpe_list_remove(e, l, LAST, NULL));
    EXPECT_EQ(mpe_list_remove(e, l, 1, NULL), MPE_ERANGE);
    EXPECT_EQ(number_at(e, l, 0), 20);
    EXPECT_EQ(mpe_list_count(e, l), 1);
    mpe_close(e);
}

TEST(extends_clears_and_removes_by_version)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *l = new_list(e);
    uint32_t n[3] = {1, 2, 3};
    mpe_bytes items[3] = {bytes_of(&n[0]), bytes_of(&n[1]), bytes_of(&n[2])};
    uint64_t count, version, used = mpe_test_used(e);
    for (uint32_t i = 0; i < 100; i++)
        EXPECT_OK(mpe_list_extend(e, l, items, 3, 0));
    EXPECT_EQ(mpe_list_count(e, l), 300);
    EXPECT_EQ(number_at(e, l, 299), 3);
    EXPECT_OK(mpe_list_snapshot(e, l, NULL, &count, &version));
    EXPECT_EQ(count, 300);
    EXPECT_OK(mpe_list_remove_if(e, l, 0, version));
    EXPECT_EQ(mpe_list_remove_if(e, l, 0, version), MPE_EAGAIN);
    EXPECT_OK(mpe_list_set(e, l, 299, item(4), 0));
    EXPECT_EQ(number_at(e, l, 299), 4);
    mpe_list_clear(e, l);
    EXPECT_EQ(mpe_list_count(e, l), 0);
    EXPECT_EQ(mpe_test_used(e), used);
    mpe_close(e);
}

TEST(clears_when_there_is_no_memory_for_a_smaller_vector)
{
    mpe_engine *e = mpe_test_engine(3u << 20);
    mpe_object *l = new_list(e), *filler;
    while (mpe_list_insert(e, l, LAST, item(1), 0) == MPE_OK)
        ;
    while (mpe_event_create(e, &filler) == MPE_OK)
        ;
    mpe_list_clear(e, l);
    EXPECT_EQ(mpe_list_count(e, l), 0);
    EXPECT_OK(mpe_list_insert(e, l, LAST, item(1), 0));
    mpe_close(e);
}

TEST(takes_empty_items)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *l = new_list(e);
    mpe_buf b;
    mpe_buf_init(&b);
    EXPECT_OK(mpe_list_insert(e, l, 0, (mpe_bytes){NULL, 0}, 0));
    EXPECT_OK(mpe_list_get(e, l, 0, &b));
    EXPECT_EQ(b.len, 0);
    mpe_close(e);
}

TEST(reorders_all_items_in_one_step)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *l = new_list(e);
    uint64_t order[10], count, version;
    mpe_buf b;
    mpe_buf_init(&b);
    for (uint32_t i = 0; i < 10; i++) {
        REQUIRE_OK(mpe_list_insert(e, l, LAST, item(i), 0));
        order[i] = 9 - i;
    }
    REQUIRE_OK(mpe_list_snapshot(e, l, &b, &count, &version));
    EXPECT_EQ(count, 10);
    EXPECT_OK(mpe_list_reorder(e, l, version, order, 10));
    for (uint32_t i = 0; i < 10; i++)
        EXPECT_EQ(number_at(e, l, i), 9 - i);
    EXPECT_EQ(mpe_list_reorder(e, l, version, order, 10), MPE_EAGAIN);
    REQUIRE_OK(mpe_list_snapshot(e, l, &b, &count, &version));
    order[0] = 10;
    EXPECT_EQ(mpe_list_reorder(e, l, version, order, 10), MPE_ERANGE);
    order[0] = order[1];
    EXPECT_EQ(mpe_list_reorder(e, l, version, order, 10), MPE_ERANGE);
    EXPECT_EQ(number_at(e, l, 0), 9);
    mpe_buf_free(&b);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(reorders_the_empty_list_and_grows_after_it)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *l = new_list(e);
    EXPECT_OK(mpe_list_reorder(e, l, mpe__load64(&l->word), NULL, 0));
    for (uint32_t i = 0; i < 100; i++)
        REQUIRE_OK(mpe_list_insert(e, l, LAST, item(i), 0));
    for (uint32_t i = 0; i < 100; i++)
        EXPECT_EQ(number_at(e, l, i), i);
    mpe_close(e);
}

/* ---- against a model ---- */

#define MOST 400

static uint32_t model[MOST];
static uint32_t count;

static void
model_insert(uint32_t at, uint32_t n)
{
    memmove(model + at + 1, model + at, (count - at) * sizeof *model);
    model[at] = n;
    count++;
}

static void
model_remove(uint32_t at)
{
    count--;
    memmove(model + at, model + at + 1, (count - at) * sizeof *model);
}

static void
check_snapshot(mpe_engine *e, mpe_object *l)
{
    mpe_buf b;
    uint64_t n, version;
    size_t at = 0;
    mpe_buf_init(&b);
    REQUIRE_OK(mpe_list_snapshot(e, l, &b, &n, &version));
    EXPECT_EQ(n, count);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t head[3];
        memcpy(head, b.data + at, sizeof head);
        EXPECT_EQ(head[1], item(model[i]).size);
        EXPECT_EQ(head[2], model[i]);
        at += (8 + (size_t)head[1] + 7) & ~(size_t)7;
    }
    EXPECT_EQ(at, b.len);
    mpe_buf_free(&b);
}

static void
one_random_call(mpe_engine *e, mpe_object *l, uint32_t *seed, int growing)
{
    uint32_t n = mpe_test_random(seed) % 1000, at = mpe_test_random(seed) % (count + 1);
    uint32_t what = mpe_test_random(seed) % 10;
    if (what < 3 || (what < 5 && growing)) {
        if (count == MOST)
            return;
        EXPECT_OK(mpe_list_insert(e, l, what ? at : LAST, item(n), 0));
        model_insert(what ? at : count, n);
    } else if (what < 8) {
        int is_last = what == 7;
        EXPECT_EQ(mpe_list_remove(e, l, is_last ? LAST : at, NULL),
                  count > (is_last ? 0 : at) ? MPE_OK : MPE_ERANGE);
        if (is_last ? count > 0 : at < count)
            model_remove(is_last ? count - 1 : at);
    } else if (at < count) {
        EXPECT_EQ(number_at(e, l, at), model[at]);
        EXPECT_OK(mpe_list_set(e, l, at, item(n), 0));
        model[at] = n;
    }
}

TEST_LIMIT(agrees_with_a_model_after_random_calls, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *l = new_list(e);
    uint32_t seed = 9;
    for (int round = 0; round < 60000; round++) {
        one_random_call(e, l, &seed, round / 3000 % 2 == 0);
        if (round % 1000 == 0)
            check_snapshot(e, l);
    }
    check_snapshot(e, l);
    while (count-- > 0)
        REQUIRE_OK(mpe_list_remove(e, l, 0, NULL));
    mpe_test_check(e);
    mpe_drop(e, l);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(running_out_of_memory_leaves_the_list_as_it_was)
{
    mpe_engine *e = mpe_test_engine(3u << 20);
    mpe_object *l = new_list(e);
    uint32_t n = 0;
    int rc;
    while ((rc = mpe_list_insert(e, l, LAST, item(n * 5), 0)) == MPE_OK)
        n++;
    EXPECT_EQ(rc, MPE_EARENA);
    EXPECT_EQ(mpe_list_count(e, l), n);
    EXPECT_EQ(number_at(e, l, n - 1), (n - 1) * 5);
    EXPECT_OK(mpe_list_remove(e, l, LAST, NULL));
    mpe_test_check(e);
    mpe_close(e);
}

/* ---- between processes ---- */

static void
append_many(mpe_engine *e, void *arg)
{
    for (uint32_t i = 0; i < 5000; i++)
        REQUIRE_OK(mpe_list_insert(e, arg, LAST, item(i), 0));
}

TEST(appends_of_two_processes_are_all_there)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *l = new_list(e);
    mpe_process *p[2];
    uint64_t sum = 0;
    for (int i = 0; i < 2; i++)
        p[i] = mpe_test_start(e, append_many, l);
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    EXPECT_EQ(mpe_list_count(e, l), 10000);
    for (uint32_t i = 0; i < 10000; i++)
        sum += number_at(e, l, i);
    EXPECT_EQ(sum, 2 * (5000ull * 4999 / 2));
    mpe_close(e);
}

static void
change_until_killed(mpe_engine *e, void *arg)
{
    mpe_handle *h = arg;
    mpe_object *l;
    uint32_t seed = mpe_self_slot(e) * 31;
    REQUIRE_OK(mpe_hold(e, *h, &l));
    for (int round = 0;; round++)
        one_random_call(e, l, &seed, count < 100);
}

TEST_LIMIT(a_writer_killed_anywhere_leaves_a_whole_list, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    for (int round = 0; round < 60; round++) {
        mpe_object *l = new_list(e);
        mpe_handle h = mpe_handle_of(e, l);
        mpe_process *p = mpe_test_start(e, change_until_killed, &h);
        uint32_t last = 0;
        for (int i = 0; i < 20 + round * 40 || last < 10; i++)
            last = (uint32_t)mpe_list_count(e, l);
        mpe_test_kill(p);
        EXPECT_OK(mpe_list_insert(e, l, LAST, item(7), 0));
        uint32_t n = (uint32_t)mpe_list_count(e, l);
        for (uint32_t i = 0; i < n; i++)
            number_at(e, l, i);
        mpe_test_join(e, p);
        mpe_reap_dead(e);
        mpe_test_check(e);
        mpe_drop(e, l);
        EXPECT(mpe_test_used(e) < 4096);
    }
    mpe_close(e);
}
