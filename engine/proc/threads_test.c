/* SPDX-License-Identifier: MIT */
/* The core run by threads of one process, so that a race checker sees both sides of each protocol. */
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

struct work {
    mpe_engine *e;
    mpe_handle objects[5]; /* lock, queue, dict, list, cache */
    long *count;
    mpe_engine *twin;
    int rounds;
};

static mpe_object *
held(mpe_engine *e, mpe_handle h)
{
    mpe_object *o;
    REQUIRE_OK(mpe_hold(e, h, &o));
    return o;
}

static void
use_dict(mpe_engine *e, mpe_object *d, int i)
{
    char key[16], text[16];
    mpe_buf b;
    mpe_buf_init(&b);
    snprintf(key, sizeof key, "%d", i % 50);
    snprintf(text, sizeof text, "%d", i);
    REQUIRE_OK(mpe_dict_put(e, d, mpe_test_bytes(key), mpe_test_bytes(text), 0));
    mpe_dict_get(e, d, mpe_test_bytes(key), &b, NULL);
    if (i % 7 == 0)
        mpe_dict_remove(e, d, mpe_test_bytes(key), NULL);
    mpe_buf_free(&b);
}

static void
use_list(mpe_engine *e, mpe_object *l, int i)
{
    REQUIRE_OK(mpe_list_insert(e, l, UINT64_MAX, mpe_test_bytes("item"), 0));
    if (i % 2)
        mpe_list_remove(e, l, 0, NULL);
}

/* More than there is room for; and a computation, in which the other threads have a part. */
static void
use_cache(mpe_engine *e, mpe_object *c, int i)
{
    static const char large[3000];
    mpe_cache_flight flight;
    char key[16];
    mpe_buf b;
    mpe_buf_init(&b);
    snprintf(key, sizeof key, "%d", i * 7 % 300);
    mpe_bytes k = mpe_test_bytes(key), v = {large, (size_t)(i % 10 ? i % 200 : 3000)};
    REQUIRE_OK(mpe_cache_put(e, c, k, v, 0, i % 3 ? 0 : 1000, MPE_CACHE_SET));
    mpe_cache_get(e, c, k, &b);
    if (i % 11 == 0)
        mpe_cache_remove(e, c, k);
    if (i % 500 == 0)
        mpe_cache_clear(e, c);
    int rc = mpe_cache_fetch(e, c, mpe_test_bytes("fetched"), 1, 0, &b, &flight);
    if (rc == MPE_EAGAIN)
        rc = mpe_cache_fetch_again(e, c, &flight, &b);
    if (rc == MPE_EAGAIN)
        mpe_cache_fetch_leave(e, c, &flight);
    else if (rc == MPE_ENOENT)
        REQUIRE_OK(mpe_cache_fetch_end(e, c, &flight, v, 0, 1000));
    mpe_buf_free(&b);
}

/* Counts under the lock, sends and receives, changes dict, list and cache, makes and drops an
 * object. */
static void *
work(void *arg)
{
    struct work *w = arg;
    mpe_engine *e = mpe_test_twin(w->e);
    mpe_object *lock = held(e, w->objects[0]), *queue = held(e, w->objects[1]);
    mpe_object *dict = held(e, w->objects[2]), *list = held(e, w->objects[3]), *own;
    mpe_object *cache = held(e, w->objects[4]);
    static char large[4000];
    mpe_message m;
    for (int i = 0; i < w->rounds; i++) {
        REQUIRE_OK(mpe_test_lock(e, lock));
        ++*w->count;
        REQUIRE_OK(mpe_lock_release(e, lock));
        REQUIRE_OK(mpe_test_put(e, queue, large, i % 5 ? 30 : sizeof large));
        REQUIRE_OK(mpe_test_get(e, queue, &m));
        mpe_message_free(e, &m);
        use_dict(e, dict, i);
        use_list(e, list, i);
        use_cache(e, cache, i);
        REQUIRE_OK(mpe_array_create(e, 'i', 10, 0, &own));
        mpe_drop(e, own);
    }
    mpe_drop(e, lock);
    mpe_drop(e, queue);
    mpe_drop(e, dict);
    mpe_drop(e, list);
    mpe_drop(e, cache);
    mpe_test_twin_close(e);
    return NULL;
}

TEST_LIMIT(threads_share_all_kinds_of_objects, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *lock, *queue, *dict, *list, *cache;
    long count = 0;
    pthread_t threads[3];
    REQUIRE_OK(mpe_lock_create(e, 0, &lock));
    REQUIRE_OK(mpe_queue_create(e, 4, 0, &queue));
    REQUIRE_OK(mpe_dict_create(e, &dict));
    REQUIRE_OK(mpe_list_create(e, &list));
    REQUIRE_OK(mpe_cache_create(e, 64 << 10, MPE_FOREVER, &cache));
    struct work w = {.e = e, .count = &count, .rounds = 2000};
    mpe_object *all[] = {lock, queue, dict, list, cache};
    for (int i = 0; i < 5; i++)
        w.objects[i] = mpe_handle_of(e, all[i]);
    for (int i = 0; i < 3; i++)
        REQUIRE(pthread_create(&threads[i], NULL, work, &w) == 0);
    for (int i = 0; i < 3; i++)
        pthread_join(threads[i], NULL);
    EXPECT_EQ(count, 6000);
    mpe_test_check(e);
    mpe_close(e);
}

static void *
die_with_the_lock(void *arg)
{
    struct work *w = arg;
    mpe_engine *e = mpe_test_twin(w->e);
    EXPECT_OK(mpe_lock_acquire(e, held(e, w->objects[0]), 1));
    w->twin = e;
    return NULL; /* the thread ends, and with it its slot */
}

TEST(the_death_of_a_thread_is_that_of_its_slot)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *lock;
    pthread_t thread;
    REQUIRE_OK(mpe_lock_create(e, 0, &lock));
    struct work w = {.e = e, .objects = {mpe_handle_of(e, lock)}};
    REQUIRE(pthread_create(&thread, NULL, die_with_the_lock, &w) == 0);
    pthread_join(thread, NULL);
    EXPECT_EQ(mpe_test_lock(e, lock), MPE_OWNER_DIED);
    mpe_test_twin_free(w.twin);
    mpe_close(e);
}

/* What is there is gone at once: nearly every call waits in the line of all threads. */
static void *
take_tokens(void *arg)
{
    struct work *w = arg;
    mpe_engine *e = mpe_test_twin(w->e);
    mpe_object *limiter = held(e, w->objects[0]);
    for (int i = 0; i < w->rounds; i++) {
        int rc = mpe_limiter_take(e, limiter, 1, i % 5 ? MPE_FOREVER : mpe_now() + 1000);
        EXPECT(rc == MPE_OK || (i % 5 == 0 && rc == MPE_ETIMEDOUT));
        if (rc == MPE_OK)
            __atomic_add_fetch(w->count, 1, __ATOMIC_RELAXED);
    }
    mpe_drop(e, limiter);
    mpe_test_twin_close(e);
    return NULL;
}

TEST_LIMIT(threads_stand_in_line_for_tokens, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *limiter;
    long count = 0;
    pthread_t threads[4];
    REQUIRE_OK(mpe_limiter_create(e, 5000, 1, &limiter));
    struct work w = {e, {mpe_handle_of(e, limiter)}, &count, NULL, 100};
    uint64_t began = mpe_now();
    for (size_t i = 0; i < 4; i++)
        pthread_create(&threads[i], NULL, take_tokens, &w);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    EXPECT(count >= 4 * 80);
    EXPECT(mpe_now() - began >= (uint64_t)(count - 1) * MPE_NS_PER_S / 5000);
    EXPECT_OK(mpe_limiter_take(e, limiter, 1, MPE_FOREVER));
    mpe_drop(e, limiter);
    mpe_test_check(e);
    mpe_close(e);
}
