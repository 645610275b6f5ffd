/* SPDX-License-Identifier: MIT */
/* Objects kept alive by containers, and objects that a sweep frees. */
#include "core/object.h"

#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <stdio.h>
#include <string.h>

TEST(a_stored_handle_keeps_its_object_alive)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *dict, *o = mpe_test_event(e), *out;
    mpe_handle h = mpe_handle_of(e, o);
    mpe_buf b;
    REQUIRE_OK(mpe_dict_create(e, &dict));
    mpe_test_put_handle(e, dict, "k", h);
    mpe_drop(e, o);
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 2);

    mpe_buf_init(&b);
    uint32_t mark = mpe_pin_mark(e);
    REQUIRE_OK(mpe_dict_remove(e, dict, mpe_test_bytes("k"), &b));
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 2);
    REQUIRE_OK(mpe_hold(e, h, &out));
    mpe_unpin(e, mark);
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 2);
    mpe_drop(e, out);
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 1);
    EXPECT_EQ(mpe_hold(e, h, &out), MPE_ESTALE);
    mpe_buf_free(&b);
    mpe_close(e);
}

TEST(every_kind_of_container_keeps_the_objects_it_mentions)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *c[4], *o[4], *out;
    mpe_handle h[4];
    mpe_buf b;
    REQUIRE_OK(mpe_dict_create(e, &c[0]));
    REQUIRE_OK(mpe_list_create(e, &c[1]));
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &c[2]));
    for (int i = 0; i < 4; i++) {
        REQUIRE_OK(mpe_lock_create(e, 1, &o[i]));
        h[i] = mpe_handle_of(e, o[i]);
    }
    mpe_test_put_handle(e, c[0], "k", h[0]);
    mpe_bytes bytes = mpe_test_handle_bytes(&b, h[1]);
    REQUIRE_OK(mpe_list_insert(e, c[1], 0, bytes, 1));
    bytes = mpe_test_handle_bytes(&b, h[2]);
    REQUIRE_OK(mpe_queue_put(e, c[2], &bytes, 1, 1));
    REQUIRE_OK(mpe_condition_create(e, h[3], &c[3]));
    for (int i = 0; i < 4; i++)
        mpe_drop(e, o[i]);
    mpe_test_sweep(e);
    for (int i = 0; i < 4; i++) {
        EXPECT_OK(mpe_hold(e, h[i], &out));
        mpe_drop(e, out);
        mpe_drop(e, c[i]);
    }
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 0);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(a_blob_keeps_its_bytes_as_long_as_a_container_mentions_it)
{
    static char large[100000];
    mpe_engine *e = mpe_test_engine(2u << 20);
    mpe_object *queue, *o, *out;
    mpe_message m;
    mpe_buf b;
    memset(large, 'x', sizeof large);
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    for (int i = 0; i < 3; i++) {
        size_t size = i == 0 ? 0 : i == 1 ? 5 : sizeof large;
        REQUIRE_OK(mpe_blob_create(e, (mpe_bytes){large, size}, &o));
        mpe_handle h = mpe_handle_of(e, o);
        EXPECT_EQ(mpe_handle_kind(h), MPE_KIND_BLOB);
        mpe_bytes bytes = mpe_test_handle_bytes(&b, h);
        REQUIRE_OK(mpe_queue_put(e, queue, &bytes, 1, 1));
        mpe_drop(e, o);
        mpe_test_sweep(e);
        REQUIRE_OK(mpe_queue_get(e, queue, &m));
        REQUIRE_OK(mpe_hold(e, h, &out));
        mpe_message_free(e, &m);
        bytes = mpe_blob_bytes(e, out);
        EXPECT_EQ(bytes.size, size);
        EXPECT(memcmp(bytes.data, large, size) == 0);
        mpe_drop(e, out);
        mpe_test_sweep(e);
        EXPECT_EQ(mpe_hold(e, h, &out), MPE_ESTALE);
    }
    EXPECT_EQ(mpe_blob_create(e, (mpe_bytes){large, SIZE_MAX / 2}, &o), MPE_EARENA);
    mpe_drop(e, queue);
    EXPECT_EQ(mpe_test_objects(e), 0);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

/* A dict that is mentioned by itself, so that no drop frees it, with a value of that many bytes. */
static void
drop_dict_with(mpe_engine *e, size_t size)
{
    static char large[2u << 20];
    mpe_object *dict;
    REQUIRE_OK(mpe_dict_create(e, &dict));
    mpe_test_put_handle(e, dict, "self", mpe_handle_of(e, dict));
    REQUIRE_OK(mpe_dict_put(e, dict, mpe_test_bytes("k"), (mpe_bytes){large, size}, 0));
    mpe_drop(e, dict);
}

TEST(the_contents_of_dropped_containers_count_for_a_sweep)
{
    mpe_engine *e = mpe_test_engine(0);
    for (int i = 0; i < 10; i++) {
        drop_dict_with(e, 2u << 20);
        EXPECT(mpe_test_objects(e) <= 3); /* swept when new memory is taken */
    }
    EXPECT(mpe_test_used(e) < 8u << 20);
    mpe_close(e);
}

TEST(containers_that_cost_no_new_memory_wait_for_others)
{
    mpe_engine *e = mpe_test_engine(0);
    drop_dict_with(e, 100); /* the arena's first memory */
    mpe_sweep(e);
    for (int i = 0; i < 10; i++)
        drop_dict_with(e, 100);
    EXPECT_EQ(mpe_test_objects(e), 10);
    mpe_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 0);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(growth_counts_returned_memory_too)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o;
    uint64_t before = mpe_growth(e);
    for (uint64_t i = 1; i <= 3; i++) {
        REQUIRE_OK(mpe_array_create(e, 'b', 8u << 20, MPE_ARRAY_RAW, &o));
        EXPECT(mpe_growth(e) >= before + i * (8u << 20));
        mpe_drop(e, o);
    }
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(frees_cycles_of_containers_without_a_holder)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *a, *b, *c;
    REQUIRE_OK(mpe_dict_create(e, &a));
    REQUIRE_OK(mpe_dict_create(e, &b));
    REQUIRE_OK(mpe_list_create(e, &c));
    mpe_test_put_handle(e, a, "b", mpe_handle_of(e, b));
    mpe_test_put_handle(e, b, "a", mpe_handle_of(e, a));
    mpe_test_put_handle(e, b, "b", mpe_handle_of(e, b));
    mpe_test_put_handle(e, a, "c", mpe_handle_of(e, c));
    mpe_drop(e, b);
    mpe_drop(e, c);
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 3);
    mpe_drop(e, a);
    mpe_test_sweep(e);
    EXPECT_EQ(mpe_test_objects(e), 0);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(many_dropped_objects_are_swept_without_being_asked)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *dict;
    REQUIRE_OK(mpe_dict_create(e, &dict));
    for (int i = 0; i < 10000; i++) {
        mpe_object *o = mpe_test_event(e);
        mpe_test_put_handle(e, dict, "k", mpe_handle_of(e, o));
        mpe_drop(e, o);
    }
    EXPECT(mpe_test_objects(e) < 200);
    mpe_close(e);
}

/* Passes objects from dict to dict, so that at every instant one of the two mentions each. */
static void
move_about(mpe_engine *e, void *arg)
{
    mpe_handle *dicts = arg;
    mpe_object *d[2];
    uint32_t seed = mpe_self_slot(e);
    mpe_buf key, value;
    REQUIRE_OK(mpe_hold(e, dicts[0], &d[0]));
    REQUIRE_OK(mpe_hold(e, dicts[1], &d[1]));
    mpe_buf_init(&key);
    mpe_buf_init(&value);
    for (int i = 0; i < 6000; i++) {
        int from = mpe_test_random(&seed) % 2;
        uint32_t mark = mpe_pin_mark(e);
        key.len = value.len = 0;
        if (mpe_dict_pop_any(e, d[from], &key, &value) != MPE_OK)
            continue;
        mpe_bytes k = {key.data, key.len}, v = {value.data, value.len};
        REQUIRE_OK(mpe_dict_put(e, d[!from], k, v, 1));
        mpe_unpin(e, mark);
        if (i % 50 == 0)
            atomic_store(&e->header->sweep_wanted, 1);
        mpe__sweep_if_wanted(e);
    }
    mpe_buf_free(&key);
    mpe_buf_free(&value);
}

TEST_LIMIT(a_sweep_frees_nothing_that_moves_about, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d[2], *o;
    mpe_handle dicts[2], h[40];
    mpe_process *p[3];
    for (int i = 0; i < 2; i++) {
        REQUIRE_OK(mpe_dict_create(e, &d[i]));
        dicts[i] = mpe_handle_of(e, d[i]);
    }
    for (int i = 0; i < 40; i++) {
        char key[8] = {'k', (char)('0' + i / 10), (char)('0' + i % 10)};
        o = mpe_test_event(e);
        h[i] = mpe_handle_of(e, o);
        mpe_test_put_handle(e, d[i % 2], key, h[i]);
        mpe_drop(e, o);
    }
    for (int i = 0; i < 3; i++)
        p[i] = mpe_test_start(e, move_about, dicts);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    mpe_test_sweep(e);
    for (int i = 0; i < 40; i++)
        EXPECT_OK(mpe_hold(e, h[i], &o));
    EXPECT_EQ(mpe_dict_count(e, d[0]) + mpe_dict_count(e, d[1]), 40);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(objects_that_are_replaced_in_a_container_bring_a_sweep_about)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *dict, *made;
    REQUIRE_OK(mpe_dict_create(e, &dict));
    for (int i = 0; i < 100; i++) { /* all are stored before the first is taken out */
        mpe_buf b;
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        mpe_buf_init(&b);
        REQUIRE_OK(mpe_event_create(e, &made));
        mpe_wire_put_handle(&b, mpe_handle_of(e, made));
        EXPECT_OK(mpe_dict_put(e, dict, mpe_test_bytes(key), (mpe_bytes){b.data, b.len}, 1));
        mpe_drop(e, made);
        mpe_buf_free(&b);
    }
    mpe_stats s;
    mpe_stats_get(e, &s);
    EXPECT_EQ(s.objects, 101);
    mpe_dict_clear(e, dict);
    REQUIRE_OK(mpe_event_create(e, &made));
    mpe_stats_get(e, &s);
    EXPECT_EQ(s.objects, 2);
    mpe_close(e);
}
