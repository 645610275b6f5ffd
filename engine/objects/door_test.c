/* SPDX-License-Identifier: MIT */
/* The door of every call of an object: what is refused, in which order, and that it changes nothing. */
#include "objects/doors.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <pthread.h>
#include <stdio.h>
#include <string.h>

static const mpe_bytes text = {"text", 4};
static mpe_buf buf;
static mpe_message message;
static uint64_t many;
static mpe_limiter_wait *limiter_wait;
static mpe_cache_flight flight;
static uint32_t few, more;
static int taken;
static mpe_waiter waiter;

static int
edit(const uint8_t *value, size_t size, uint8_t out[16], size_t *out_size, void *ud)
{
    (void)value, (void)size, (void)out, (void)out_size, (void)ud;
    return MPE_ENOENT;
}

static int
try_again(mpe_engine *e, mpe_object *o, void *ud)
{
    (void)e, (void)o, (void)ud;
    return MPE_OK;
}

/* Calls that return a status. */
#define ACQUIRABLE (MPE__KIND(LOCK) | MPE__KIND(RLOCK) | MPE__SEMAPHORES | MPE__KIND(CONDITION))

#define CALLS(X)                                                                                   \
    X(mpe_barrier_arrive, MPE__KIND(BARRIER), &few, &more)                                         \
    X(mpe_barrier_open, MPE__KIND(BARRIER), 0)                                                     \
    X(mpe_barrier_poll, MPE__KIND(BARRIER), 0)                                                     \
    X(mpe_cache_get, MPE__KIND(CACHE), text, &buf)                                                 \
    X(mpe_cache_put, MPE__KIND(CACHE), text, text, 0, 0, MPE_CACHE_SET)                            \
    X(mpe_cache_remove, MPE__KIND(CACHE), text)                                                    \
    X(mpe_cache_touch, MPE__KIND(CACHE), text, 0)                                                  \
    X(mpe_cache_ttl, MPE__KIND(CACHE), text, &many)                                                \
    X(mpe_cache_edit, MPE__KIND(CACHE), text, 0, edit, NULL)                                       \
    X(mpe_cache_keys, MPE__KIND(CACHE), 1, &buf, &many)                                            \
    X(mpe_cache_fetch, MPE__KIND(CACHE), text, 1, 0, &buf, &flight)                                \
    X(mpe_cache_fetch_again, MPE__KIND(CACHE), &flight, &buf)                                      \
    X(mpe_cache_fetch_end, MPE__KIND(CACHE), &flight, text, 0, 0)                                  \
    X(mpe_cache_fetch_fail, MPE__KIND(CACHE), &flight, text, 0)                                    \
    X(mpe_condition_enlist, MPE__KIND(CONDITION), &few)                                            \
    X(mpe_condition_notified, MPE__KIND(CONDITION), 0)                                             \
    X(mpe_condition_leave, MPE__KIND(CONDITION), 0)                                                \
    X(mpe_descriptor_take, MPE__KIND(DESCRIPTOR), &taken)                                          \
    X(mpe_dict_get, MPE__KIND(DICT), text, &buf, NULL)                                             \
    X(mpe_dict_put, MPE__KIND(DICT), text, text, 0)                                                \
    X(mpe_dict_put_new, MPE__KIND(DICT), text, text, 0)                                            \
    X(mpe_dict_put_if, MPE__KIND(DICT), text, 0, text, 0)                                          \
    X(mpe_dict_remove_if, MPE__KIND(DICT), text, 0)                                                \
    X(mpe_dict_remove, MPE__KIND(DICT), text, NULL)                                                \
    X(mpe_dict_pop_any, MPE__KIND(DICT), &buf, &buf)                                               \
    X(mpe_dict_edit, MPE__KIND(DICT), text, edit, NULL)                                            \
    X(mpe_dict_snapshot, MPE__KIND(DICT), &buf, &many)                                             \
    X(mpe_dict_update, MPE__KIND(DICT), &many, 1, 0)                                               \
    X(mpe_event_wait, MPE__KIND(EVENT), &many)                                                     \
    X(mpe_list_get, MPE__KIND(LIST), 0, &buf)                                                      \
    X(mpe_list_set, MPE__KIND(LIST), 0, text, 0)                                                   \
    X(mpe_list_insert, MPE__KIND(LIST), 0, text, 0)                                                \
    X(mpe_list_extend, MPE__KIND(LIST), &text, 1, 0)                                               \
    X(mpe_list_remove, MPE__KIND(LIST), 0, NULL)                                                   \
    X(mpe_list_remove_if, MPE__KIND(LIST), 0, 0)                                                   \
    X(mpe_list_snapshot, MPE__KIND(LIST), &buf, NULL, NULL)                                        \
    X(mpe_list_reorder, MPE__KIND(LIST), 0, &many, 1)                                              \
    X(mpe_lock_acquire, MPE__KIND(LOCK), 1)                                                        \
    X(mpe_rlock_acquire, MPE__RLOCKS, 1)                                                           \
    X(mpe_lock_release, MPE__KIND(LOCK))                                                           \
    X(mpe_rlock_release, MPE__RLOCKS, 1)                                                           \
    X(mpe_rlock_release_all, MPE__RLOCKS, 1, &few)                                                 \
    X(mpe_queue_put, MPE__QUEUES, &text, 1, 0)                                                     \
    X(mpe_queue_get, MPE__QUEUES, &message)                                                        \
    X(mpe_queue_get_leased, MPE__QUEUES, &many, &message)                                          \
    X(mpe_queue_task_done, MPE__QUEUES)                                                            \
    X(mpe_queue_join, MPE__QUEUES)                                                                 \
    X(mpe_semaphore_acquire, MPE__SEMAPHORES)                                                      \
    X(mpe_semaphore_release, MPE__SEMAPHORES)                                                      \
    X(mpe_limiter_try, MPE__KIND(RATE_LIMITER), 1)                                                 \
    X(mpe_limiter_acquire, MPE__KIND(RATE_LIMITER), 1, &limiter_wait)                              \
    X(mpe_limiter_put_back, MPE__KIND(RATE_LIMITER), 1)                                            \
    X(mpe_limiter_take, MPE__KIND(RATE_LIMITER), 1, MPE_NOW)                                       \
    X(mpe_acquire, ACQUIRABLE, MPE_NOW)                                                            \
    X(mpe_release, ACQUIRABLE)                                                                     \
    X(mpe_put, MPE__QUEUES, "x", 1, MPE_NOW)                                                       \
    X(mpe_get, MPE__QUEUES, &message, MPE_NOW)                                                     \
    X(mpe_await, MPE__ANY_KIND, MPE_EVENT_READY, MPE_NOW, try_again, NULL)

#define DEFINE(call, kinds, ...)                                                                   \
    static int on_##call(mpe_engine *e, mpe_object *o)                                             \
    {                                                                                              \
        return call(e, o, ##__VA_ARGS__);                                                          \
    }
CALLS(DEFINE)

static const struct {
    const char *name;
    int (*call)(mpe_engine *e, mpe_object *o);
    uint32_t kinds;
} calls[] = {
#define ENTRY(call, kinds, ...) {#call, on_##call, kinds},
    CALLS(ENTRY)
#undef ENTRY
};

/* Calls that return none: 0 or NULL, when they return anything, and nothing has happened. */
static int
silent(mpe_engine *e, mpe_object *o)
{
    int broken = 7;
    mpe_lock_state state = {.locked = 7};
    mpe_limiter_state limiter = {.rate = 7};
    mpe_cache_stats cache = {.entries = 7};
    mpe_object_info info = {.kind = 77};
    mpe_barrier_abort(e, o);
    mpe_barrier_reset(e, o);
    mpe_barrier_state(e, o, NULL, NULL, &broken);
    mpe_cache_clear(e, o);
    mpe_cache_stats_get(e, o, &cache);
    mpe_cache_fetch_leave(e, o, &flight);
    mpe_condition_notify(e, o, 1);
    mpe_dict_clear(e, o);
    mpe_event_set(e, o);
    mpe_event_clear(e, o);
    mpe_list_clear(e, o);
    mpe_rlock_set_levels(e, o, 3);
    mpe_lock_state_get(e, o, &state);
    mpe_limiter_state_get(e, o, &limiter);
    mpe_descriptor_withdraw(e, o);
    mpe_pipe_use(e, o, 0);
    mpe_pipe_close(e, o, 0);
    mpe_queue_close(e, o);
    mpe_queue_seqs(e, o, &few, &more);
    mpe_object_info_get(e, o, &info);
    return broken == 7 && limiter.rate == 7 && cache.entries == 7 && !state.locked &&
           !mpe_array_data(e, o, NULL, NULL) && !mpe_barrier_settings(e, o).data &&
           !mpe_blob_bytes(e, o).data && !mpe_descriptor_note(e, o).data &&
           !mpe_condition_lock(e, o) && !mpe_dict_count(e, o) && !mpe_dict_has(e, o, text) &&
           !mpe_event_is_set(e, o) && !mpe_list_count(e, o) && !mpe_lock_facet(e, o) &&
           !mpe_pipe_handle(e, o, 0) && !mpe_pipe_queue(e, o, 0) && !mpe_queue_size(e, o) &&
           !mpe_queue_bound(e, o) && !mpe_queue_is_closed(e, o) && !mpe_semaphore_value(e, o) &&
           info.kind == (o && mpe__is_ours(e) && mpe__is_in_arena(e, o) ? mpe_kind_of(o) : 77);
}

#define OBJECTS 17
static mpe_object *objects[OBJECTS];

static mpe_engine *
begin(void)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object **o = objects;
    REQUIRE_OK(mpe_queue_create(e, 4, 0, o++));
    REQUIRE_OK(mpe_queue_create(e, 4, MPE_QUEUE_JOINABLE, o++));
    REQUIRE_OK(mpe_dict_create(e, o++));
    REQUIRE_OK(mpe_list_create(e, o++));
    REQUIRE_OK(mpe_array_create(e, 'i', 100, 0, o++));
    REQUIRE_OK(mpe_array_create(e, 'i', 1, MPE_ARRAY_RAW, o++));
    REQUIRE_OK(mpe_lock_create(e, 0, o++));
    REQUIRE_OK(mpe_lock_create(e, 1, o++));
    REQUIRE_OK(mpe_semaphore_create(e, 1, 0, o++));
    REQUIRE_OK(mpe_event_create(e, o++));
    REQUIRE_OK(mpe_limiter_create(e, 1, 0, o++));
    REQUIRE_OK(mpe_condition_create(e, 0, o++));
    REQUIRE_OK(mpe_barrier_create(e, 2, (mpe_bytes){NULL, 0}, o++));
    REQUIRE_OK(mpe_pipe_create(e, 1, o++));
    REQUIRE_OK(mpe_blob_create(e, text, o++));
    REQUIRE_OK(mpe_descriptor_create(e, 2, text, 0, o++));
    REQUIRE_OK(mpe_cache_create(e, MPE_CACHE_MIN_BYTES, MPE_FOREVER, o++));
    mpe_buf_init(&buf);
    return e;
}

static void
end(mpe_engine *e)
{
    EXPECT_EQ(buf.len, 0);
    mpe_test_check(e);
    for (int i = 0; i < OBJECTS; i++)
        mpe_drop(e, objects[i]);
    mpe_close(e);
}

static void
expect_of_all(mpe_engine *e, mpe_object *o, int status)
{
    for (size_t i = 0; i < MPE__COUNTOF(calls); i++) {
        int rc = calls[i].call(e, o);
        if (!EXPECT_EQ(rc, status))
            printf("    of %s\n", calls[i].name);
    }
}

TEST(an_object_of_another_kind_is_refused_by_every_call)
{
    mpe_engine *e = begin();
    for (int k = 0; k < OBJECTS; k++) {
        uint32_t kind = 1u << mpe_kind_of(objects[k]);
        for (size_t i = 0; i < MPE__COUNTOF(calls); i++) {
            if (calls[i].kinds & kind)
                continue;
            if (!EXPECT_EQ(calls[i].call(e, objects[k]), MPE_ETYPE))
                printf("    of %s on a %s\n", calls[i].name,
                       mpe_kind_name(mpe_kind_of(objects[k])));
        }
    }
    end(e);
}

TEST(no_engine_and_no_object_are_refused_first)
{
    mpe_engine *e = begin();
    expect_of_all(NULL, objects[0], MPE_EINVAL);
    expect_of_all(NULL, NULL, MPE_EINVAL);
    expect_of_all(e, NULL, MPE_EINVAL);
    EXPECT(silent(NULL, objects[0]));
    EXPECT(silent(e, NULL));
    EXPECT_EQ(mpe_queue_get(e, objects[0], NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_queue_put(e, objects[0], NULL, 1, 0), MPE_EINVAL);
    EXPECT_EQ(mpe_queue_put(e, objects[0], &text, -1, 0), MPE_EINVAL);
    EXPECT_EQ(mpe_dict_put(e, objects[2], (mpe_bytes){NULL, 1}, text, 0), MPE_EINVAL);
    EXPECT_EQ(mpe_queue_create(e, 0, 0, NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_wait_object(e, &waiter, objects[0], 77, MPE_NOW), MPE_EINVAL);
    EXPECT_EQ(mpe_lock_acquire(e, objects[6], 0), MPE_EINVAL);
    mpe_close(NULL);
    mpe_leave(NULL);
    mpe_drop(e, NULL);
    mpe_message_free(e, NULL);
    mpe_process_free(e, NULL);
    end(e);
}

TEST(damaged_handles_are_not_put_on_a_queue)
{
    mpe_engine *e = begin();
    EXPECT_EQ(mpe_queue_put(e, objects[0], &(mpe_bytes){"\xff\xff", 2}, 1, 1), MPE_ECORRUPT);
    EXPECT_EQ(mpe_queue_size(e, objects[0]), 0);
    end(e);
}

static void *
use_elsewhere(void *arg)
{
    mpe_engine *e = arg;
    mpe_object *o = NULL;
    expect_of_all(e, objects[0], MPE_EPERM);
    expect_of_all(e, mpe_output_lock(e), MPE_EINVAL); /* which it did not get */
    EXPECT(silent(e, objects[0]));
    EXPECT_EQ(mpe_hold(e, 1, &o), MPE_EPERM);
    EXPECT_EQ(mpe_queue_create(e, 0, 0, &o), MPE_EPERM);
    EXPECT_EQ(mpe_run_until(e, &(int){0}), MPE_EPERM);
    mpe_drop(e, objects[0]);
    mpe_close(e);
    mpe_leave(e);
    return NULL;
}

TEST(the_engine_of_another_thread_is_refused_and_closing_it_does_nothing)
{
    mpe_engine *e = begin(), *own;
    pthread_t t;
    pthread_create(&t, NULL, use_elsewhere, e);
    pthread_join(t, NULL);
    EXPECT_OK(mpe_queue_put(e, objects[0], &text, 1, 0));
    EXPECT_OK(mpe_open(NULL, &own)); /* the same thread may have several */
    EXPECT_OK(mpe_queue_get(e, objects[0], &message));
    mpe_message_free(e, &message);
    mpe_close(own);
    end(e);
}

TEST(an_object_of_another_arena_is_stale_and_so_is_its_handle)
{
    mpe_engine *e = begin(), *other;
    mpe_object *o, *held = NULL;
    REQUIRE_OK(mpe_open(NULL, &other));
    REQUIRE_OK(mpe_queue_create(other, 0, 0, &o));
    expect_of_all(e, o, MPE_ESTALE);
    EXPECT(silent(e, o));
    for (int i = 0; i < OBJECTS; i++) {
        mpe_handle h = mpe_handle_of(e, objects[i]);
        EXPECT_EQ(mpe_handle_kind(h), mpe_kind_of(objects[i]));
        EXPECT_EQ(mpe_hold(other, h, &held), MPE_ESTALE);
    }
    EXPECT_EQ(mpe_handle_of(e, o), 0);
    EXPECT(!held);
    mpe_drop(e, o);
    EXPECT_OK(mpe_queue_put(other, o, &text, 1, 0));
    mpe_close(other);
    end(e);
}

TEST(owners_have_numbers_that_no_caller_chooses)
{
    mpe_engine *e = begin();
    uint32_t a = mpe_owner_new(e), b = mpe_owner_new(e);
    EXPECT(a >= MPE_OWNER_FIRST && b >= MPE_OWNER_FIRST && a != b);
    EXPECT_OK(mpe_rlock_acquire(e, objects[7], a));
    EXPECT_EQ(mpe_rlock_acquire(e, objects[7], b), MPE_EAGAIN);
    EXPECT_EQ(mpe_rlock_acquire(e, objects[7], 1), MPE_EAGAIN);
    EXPECT_EQ(mpe_rlock_acquire(e, objects[7], 0x80000000u), MPE_EINVAL);
    EXPECT_OK(mpe_rlock_release(e, objects[7], a));
    end(e);
}
