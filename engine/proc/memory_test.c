/* SPDX-License-Identifier: MIT */
/* The allocator of a host: it gets every call with the exact size of the block, and has everything
 * back when the engine is closed. Each scenario is run with its first allocation failing, with its
 * second, and so on: it says ENOMEM or succeeds, works when it is repeated, and loses nothing.
 */
#include "mpengine_core.h"
#include "mpengine_wire.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- the allocator ---- */

static struct host {
    pthread_mutex_t lock;
    pid_t pid;
    size_t blocks, bytes; /* live */
    size_t asked;         /* allocations that could fail */
    size_t fails;         /* the number of the one that does, 0: none */
    size_t wrong;         /* calls with another size than the block's */
} host = {.lock = PTHREAD_MUTEX_INITIALIZER};

/* In front of each block. */
union size {
    size_t n;
    max_align_t align;
};

static void *
move(struct host *h, union size *old, size_t old_size, size_t size)
{
    h->wrong += (old ? old->n : 0) != old_size;
    if (size > old_size && getpid() == h->pid && ++h->asked == h->fails)
        return NULL;
    union size *u = size > 0 ? malloc(sizeof *u + size) : NULL;
    if (u) {
        u->n = size;
        memset(u + 1, 0xa5, size);
        memcpy(u + 1, old ? old + 1 : u + 1, old_size < size ? old_size : size);
    }
    if (old)
        memset(old + 1, 0x5a, old->n);
    free(old);
    h->blocks += (size_t)(u != NULL) - (size_t)(old != NULL);
    h->bytes += size - old_size;
    return u ? u + 1 : NULL;
}

static void *
alloc(void *ud, void *block, size_t old_size, size_t size)
{
    struct host *h = ud;
    pthread_mutex_lock(&h->lock);
    void *found = move(h, block ? (union size *)block - 1 : NULL, old_size, size);
    pthread_mutex_unlock(&h->lock);
    return found;
}

/* ---- functions of the host ---- */

static int
square(mpe_engine *e, const void *args, size_t size, mpe_buf *result)
{
    int64_t n = 0;
    return mpe_unpack(e, args, size, "i", &n) < 0 || mpe_pack(e, result, "i", n * n) < 0;
}

static const mpe_named_function functions[] = {{"square", square}, {NULL, NULL}};

static mpe_config
config_of_host(void)
{
    mpe_config c = MPE_CONFIG_INIT;
    c.functions = functions;
    c.alloc = alloc;
    c.alloc_ud = &host;
    return c;
}

static __attribute__((constructor)) void
be_a_child(void)
{
    mpe_config config = config_of_host();
    int code;
    if (mpe_child_main(&config, &code))
        _exit(code);
}

/* ---- scenarios: each returns its first status that is not OK ---- */

#define TRY(call)                                                                                  \
    do {                                                                                           \
        int status = (call);                                                                       \
        rc = rc == MPE_OK ? status : rc;                                                           \
    } while (0)

static int
objects(mpe_engine *e)
{
    enum { MANY = 600 };
    mpe_object *o[MANY] = {NULL};
    int rc = MPE_OK;
    for (int i = 0; i < MANY; i++)
        TRY(mpe_event_create(e, &o[i]));
    mpe_sweep(e);
    for (int i = 0; i < MANY; i++)
        mpe_drop(e, o[i]);
    return rc;
}

static int
queue_items(mpe_engine *e)
{
    mpe_object *q = NULL;
    mpe_buf b;
    mpe_message m;
    int rc = mpe_queue_create(e, 1, 0, &q);
    mpe_buf_init(&b);
    if (rc != MPE_OK)
        return rc;
    for (int i = 0; i < 20 && rc == MPE_OK; i++) { /* objects, which a get pins */
        mpe_object *o = NULL, *sent[20];
        TRY(mpe_event_create(e, &o));
        for (int k = 0; k < 20; k++)
            sent[k] = o;
        b.len = 0;
        TRY(mpe_pack(e, &b, "oooooooooooooooooooo", o, o, o, o, o, o, o, o, o, o, o, o, o, o, o, o,
                     o, o, o, o));
        if (rc == MPE_OK)
            TRY(mpe_put(e, q, b.data, b.len, MPE_NOW));
        mpe_drop(e, o);
        if (rc != MPE_OK || (rc = mpe_get(e, q, &m, MPE_NOW)) != MPE_OK)
            break;
        TRY(mpe_unpack(e, m.data, m.size, "oooooooooooooooooooo", &sent[0], &sent[1], &sent[2],
                       &sent[3], &sent[4], &sent[5], &sent[6], &sent[7], &sent[8], &sent[9],
                       &sent[10], &sent[11], &sent[12], &sent[13], &sent[14], &sent[15], &sent[16],
                       &sent[17], &sent[18], &sent[19]));
        for (int k = 0; rc == MPE_OK && k < 20; k++)
            mpe_drop(e, sent[k]);
        mpe_message_free(e, &m);
    }
    mpe_buf_free(&b);
    mpe_drop(e, q);
    return rc;
}

static int
waits(mpe_engine *e)
{
    mpe_object *o[12] = {NULL}, *q = NULL;
    mpe_message m;
    int rc = mpe_queue_create(e, 1, 0, &q);
    for (int i = 0; i < 12; i++)
        TRY(mpe_event_create(e, &o[i]));
    if (rc == MPE_OK && (rc = mpe_get(e, q, &m, mpe_now() + 1000)) == MPE_ETIMEDOUT)
        rc = mpe_wait_any(e, o, 12, mpe_now() + 1000, NULL);
    if (rc == MPE_ETIMEDOUT)
        rc = MPE_OK;
    for (int i = 0; i < 12; i++)
        mpe_drop(e, o[i]);
    mpe_drop(e, q);
    return rc;
}

static int
limited(mpe_engine *e)
{
    mpe_object *o = NULL;
    int rc = mpe_limiter_create(e, 1000, 1, &o);
    for (int i = 0; i < 3 && rc == MPE_OK; i++)
        rc = mpe_limiter_take(e, o, 1, MPE_FOREVER);
    mpe_drop(e, o);
    return rc;
}

static int
values(mpe_engine *e)
{
    enum { SIZE = 3000 };
    static char text[SIZE + 1], back[SIZE + 1];
    mpe_object *dict = NULL, *list = NULL;
    mpe_buf key, value, all;
    uint64_t n, version, order[2] = {1, 0};
    int rc = mpe_dict_create(e, &dict);
    memset(text, 'x', SIZE);
    mpe_buf_init(&key);
    mpe_buf_init(&value);
    mpe_buf_init(&all);
    TRY(mpe_list_create(e, &list));
    TRY(mpe_pack(e, &key, "z", text));
    TRY(mpe_pack(e, &value, "z", text));
    if (rc == MPE_OK) {
        mpe_bytes k = {key.data, key.len}, v = {value.data, value.len};
        TRY(mpe_unpack(e, v.data, v.size, "z", back, sizeof back));
        TRY(mpe_dict_put(e, dict, k, v, 0));
        TRY(mpe_dict_snapshot(e, dict, &all, &n));
        mpe_buf_reset(&all, 0);
        TRY(mpe_dict_get(e, dict, k, &all, NULL));
        mpe_buf_reset(&all, 0);
        TRY(mpe_list_insert(e, list, 0, v, 0));
        TRY(mpe_list_insert(e, list, 0, v, 0));
        TRY(mpe_list_snapshot(e, list, &all, &n, &version));
        TRY(mpe_list_reorder(e, list, version, order, 2));
        mpe_buf_reset(&all, 0);
        TRY(mpe_list_get(e, list, 0, &all));
        mpe_buf_reset(&all, 0);
        TRY(mpe_list_remove(e, list, 0, &all));
        mpe_buf_reset(&all, 0);
        mpe_buf_reset(&key, 0);
        TRY(mpe_dict_pop_any(e, dict, &key, &all));
    }
    mpe_buf_free(&key);
    mpe_buf_free(&value);
    mpe_buf_free(&all);
    mpe_drop(e, dict);
    mpe_drop(e, list);
    return rc;
}

static int
cached(mpe_engine *e)
{
    enum { SIZE = 3000 };
    static char text[SIZE];
    mpe_bytes key = {"\5", 1}, value = {text, SIZE};
    mpe_object *cache = NULL;
    mpe_cache_flight flight;
    mpe_buf out;
    uint64_t n;
    int rc = mpe_cache_create(e, 1 << 20, MPE_FOREVER, &cache);
    mpe_buf_init(&out);
    TRY(rc == MPE_OK ? mpe_cache_put(e, cache, key, value, 0, 0, MPE_CACHE_SET) : rc);
    TRY(rc == MPE_OK ? mpe_cache_get(e, cache, key, &out) : rc);
    mpe_buf_reset(&out, 0);
    TRY(rc == MPE_OK ? mpe_cache_keys(e, cache, 9, &out, &n) : rc);
    TRY(rc == MPE_OK ? mpe_cache_fetch(e, cache, key, 1, 0, &out, &flight) : rc);
    mpe_buf_free(&out);
    mpe_drop(e, cache);
    return rc;
}

/* Tables in tables, which a reader that skips them remembers. */
static int
nested(mpe_engine *e)
{
    enum { DEPTH = 200 };
    mpe_buf b; /* the host's alone: no call of an engine writes to it */
    size_t marks[DEPTH];
    int rc = MPE_OK;
    mpe_buf_init(&b);
    for (int i = 0; i < DEPTH; i++)
        TRY(mpe_wire_begin_table(&b, i + 1 < DEPTH, &marks[i]));
    for (int i = DEPTH - 1; i >= 0; i--)
        TRY(mpe_wire_end_table(&b, marks[i], 0));
    TRY(mpe_unpack(e, b.data, b.len, "?"));
    mpe_buf_free(&b);
    return rc;
}

static int
names(mpe_engine *e)
{
    mpe_object *o = NULL, *found = NULL;
    int rc = mpe_event_create(e, &o);
    TRY(mpe_name(e, "an object", o));
    if (rc == MPE_OK)
        TRY(mpe_find(e, "an object", MPE_NOW, &found));
    mpe_drop(e, found);
    mpe_name(e, "an object", NULL);
    mpe_drop(e, o);
    return rc;
}

static void
note_call(mpe_engine *e, void *ud)
{
    (void)e;
    *(int *)ud = 1;
}

static int
sent_calls(mpe_engine *e)
{
    int done[3] = {0, 0, 0}, rc = MPE_OK;
    for (int i = 0; i < 3 && rc == MPE_OK; i++)
        if ((rc = mpe_send(e, note_call, &done[i])) == MPE_OK)
            rc = mpe_run_until(e, &done[i]);
    return rc;
}

static void
work(void *ud)
{
    (void)ud;
}

static void
note_end(mpe_engine *e, void *ud, int status)
{
    (void)e, (void)status;
    *(int *)ud = 1;
}

static int
offloaded(mpe_engine *e)
{
    int done = 0, rc = mpe_offload(e, work, note_end, &done);
    return rc == MPE_OK ? mpe_run_until(e, &done) : rc;
}

static int
lookup(mpe_engine *e)
{
    mpe_lookup *l = NULL;
    int rc = mpe_lookup_start(e, MPE_LOOKUP_ADDRESSES, "127.0.0.1", NULL, &l);
    struct mpe_test_waiter w = mpe_test_waiter_new();
    if (rc != MPE_OK)
        return rc;
    while (rc == MPE_OK && !mpe_lookup_answered(l)) {
        w.fired = 0;
        if ((rc = mpe_wait_list(e, &w.w, mpe_lookup_waiters(l), MPE_FOREVER)) == MPE_OK)
            rc = mpe_run_until(e, &w.fired);
    }
    mpe_lookup_free(e, l);
    return rc;
}

static int
descriptor(mpe_engine *e)
{
    int ends[2], rc, many = 80; /* more than the table has room for at first */
    REQUIRE_OK(mpe_pipe(ends));
    REQUIRE(dup2(ends[0], many) == many);
    struct mpe_test_waiter w = mpe_test_waiter_new();
    REQUIRE(write(ends[1], "x", 1) == 1);
    rc = mpe_wait_fd(e, &w.w, many, MPE_READABLE, mpe_now() + 10 * MPE_NS_PER_S);
    if (rc == MPE_OK && (rc = mpe_run_until(e, &w.fired)) != MPE_OK)
        mpe_wait_stop(e, &w.w);
    mpe_fd_closing(e, many);
    close(many);
    close(ends[0]);
    close(ends[1]);
    return rc;
}

static int
polled(mpe_engine *e)
{
    int fd;
    int rc = mpe_poll_begin(e, &fd, NULL);
    mpe_poll(e);
    return rc;
}

static int
thread_engine(mpe_engine *e)
{
    mpe_engine *mine;
    mpe_object *o;
    int rc = mpe_open_thread(e, "thread", &mine);
    if (rc != MPE_OK)
        return rc;
    if ((rc = mpe_event_create(mine, &o)) == MPE_OK)
        mpe_drop(mine, o);
    mpe_close(mine);
    return rc;
}

static int
started(mpe_engine *e, int method)
{
    enum { SOME = 6 }; /* more than have their notes near the engine */
    mpe_process *p[SOME] = {NULL};
    mpe_buf b;
    int rc = MPE_OK, code = 0;
    mpe_buf_init(&b);
    TRY(mpe_pack(e, &b, "i", (int64_t)3));
    for (int i = 0; i < SOME && rc == MPE_OK; i++)
        rc = mpe_start_function(e, method, "square", b.data, b.len, 0, &p[i]);
    for (int i = 0; i < SOME && p[i]; i++) {
        EXPECT_OK(mpe_process_join(e, p[i], MPE_FOREVER, &code));
        EXPECT_EQ(code, 0);
        mpe_process_free(e, p[i]);
    }
    mpe_buf_free(&b);
    return rc;
}

static int
forked(mpe_engine *e)
{
    return started(e, MPE_FORK);
}

static int
spawned(mpe_engine *e)
{
    return started(e, MPE_SPAWN);
}

static int
served(mpe_engine *e)
{
    return started(e, MPE_FORKSERVER);
}

struct sum {
    int told, good;
};

static void
add(mpe_engine *e, void *ud, int status, const void *result, size_t size)
{
    struct sum *s = ud;
    int64_t n = 0;
    s->told++;
    s->good += status == MPE_OK && mpe_unpack(e, result, size, "i", &n) == MPE_OK && n == 49;
    EXPECT(status == MPE_OK || status == MPE_ENOMEM);
}

static int
pool(mpe_engine *e)
{
    mpe_pool *p = NULL;
    mpe_buf b;
    struct sum s = {0, 0};
    int taken = 0, rc = MPE_OK;
    mpe_buf_init(&b);
    TRY(mpe_pack(e, &b, "i", (int64_t)7));
    TRY(mpe_pool_open(e, MPE_FORK, 2, &p));
    for (int i = 0; i < 12 && rc == MPE_OK; i++) {
        rc = mpe_pool_submit(p, "square", b.data, b.len, mpe_now() + 9 * MPE_NS_PER_S, add, &s);
        taken += rc == MPE_OK;
    }
    mpe_pool_close(p, MPE_FOREVER);
    EXPECT_EQ(s.told, taken);
    if (s.good != taken)
        rc = MPE_ENOMEM;
    mpe_buf_free(&b);
    return rc;
}

/* ---- with each allocation failing ---- */

static mpe_engine *
opened(void)
{
    mpe_config c = config_of_host();
    mpe_engine *e;
    host.pid = getpid();
    REQUIRE_OK(mpe_open(&c, &e));
    return e;
}

static void
close_whole(mpe_engine *e)
{
    mpe_test_check(e);
    mpe_close(e);
    EXPECT_EQ(host.blocks, 0);
    EXPECT_EQ(host.bytes, 0);
    EXPECT_EQ(host.wrong, 0);
}

static void
fail_each(int (*scenario)(mpe_engine *e))
{
    for (size_t n = 1, met = 1; met; n++) {
        mpe_engine *e = opened();
        host.asked = 0;
        host.fails = n;
        int rc = scenario(e);
        met = host.asked >= n;
        host.fails = 0;
        if (rc != MPE_ENOMEM) /* it did without */
            EXPECT_OK(rc);
        EXPECT_OK(scenario(e));
        EXPECT(host.blocks > 0);
        close_whole(e);
    }
}

TEST(opening_says_that_there_is_no_memory)
{
    size_t n = 0;
    for (int rc = MPE_ENOMEM; rc == MPE_ENOMEM;) {
        mpe_config c = config_of_host();
        mpe_engine *e = NULL;
        host.pid = getpid();
        host.asked = 0;
        host.fails = ++n;
        rc = mpe_open(&c, &e);
        EXPECT(rc == MPE_ENOMEM ? !e : host.asked < n);
        if (rc == MPE_OK)
            mpe_close(e);
        EXPECT_EQ(host.blocks, 0);
    }
    EXPECT(n > 2);
    EXPECT_EQ(host.wrong, 0);
}

TEST(opening_a_named_arena_says_that_there_is_no_memory)
{
    size_t n = 0;
    for (int rc = MPE_ENOMEM; rc == MPE_ENOMEM;) {
        mpe_config c = config_of_host();
        mpe_engine *e = NULL, *second = NULL;
        char name[32];
        snprintf(name, sizeof name, "memory_test-%d", (int)getpid());
        c.arena = name;
        host.pid = getpid();
        host.asked = 0;
        host.fails = ++n;
        rc = mpe_open(&c, &e);
        if (rc == MPE_OK && (rc = mpe_open(&c, &second)) == MPE_OK)
            mpe_close(second);
        EXPECT(rc == MPE_ENOMEM || host.asked < n);
        if (e)
            mpe_close(e);
        EXPECT_EQ(host.blocks, 0);
    }
    EXPECT_EQ(host.wrong, 0);
}

#define EACH_FAILS(scenario)                                                                       \
    TEST(each_allocation_may_fail_in_##scenario)                                                   \
    {                                                                                              \
        fail_each(scenario);                                                                       \
    }
EACH_FAILS(objects)
EACH_FAILS(queue_items)
EACH_FAILS(waits)
EACH_FAILS(limited)
EACH_FAILS(values)
EACH_FAILS(cached)
EACH_FAILS(nested)
EACH_FAILS(names)
EACH_FAILS(sent_calls)
EACH_FAILS(lookup)
EACH_FAILS(descriptor)
EACH_FAILS(polled)
EACH_FAILS(thread_engine)
EACH_FAILS(forked)
EACH_FAILS(spawned)
EACH_FAILS(served)
EACH_FAILS(pool)

/* ---- whose memory ---- */

static void *
open_on_a_thread(void *ud)
{
    mpe_engine *mine;
    size_t before = host.blocks;
    REQUIRE_OK(mpe_open_thread(ud, "thread", &mine));
    EXPECT(host.blocks > before);
    REQUIRE_OK(objects(mine));
    mpe_close(mine);
    EXPECT_EQ(host.blocks, before);
    return NULL;
}

TEST(an_engine_of_a_thread_has_the_allocator)
{
    mpe_engine *e = opened();
    pthread_t thread;
    pthread_create(&thread, NULL, open_on_a_thread, e);
    pthread_join(thread, NULL);
    close_whole(e);
}

/* Functions, allocator and arena, also from an engine that has them so. */
static void *
start_from_a_chain(void *ud)
{
    mpe_engine *mine, *next;
    mpe_object *named = NULL;
    mpe_process *p;
    int code = -1;
    int64_t three = 3;
    mpe_buf b;
    REQUIRE_OK(mpe_open_thread(ud, "thread", &mine));
    REQUIRE_OK(mpe_open_thread(mine, "next", &next));
    mpe_buf_init(&b);
    EXPECT_OK(mpe_pack(next, &b, "i", three));
    EXPECT_EQ(mpe_start_function(next, MPE_SPAWN, "nothing", b.data, b.len, 0, &p), MPE_ENOENT);
    REQUIRE_OK(mpe_start_function(next, MPE_SPAWN, "square", b.data, b.len, 0, &p));
    EXPECT_OK(mpe_process_join(next, p, MPE_FOREVER, &code));
    EXPECT_EQ(code, 0);
    mpe_process_free(next, p);
    mpe_buf_free(&b);
    EXPECT_OK(mpe_find(next, "of the first", MPE_NOW, &named));
    mpe_drop(next, named);
    mpe_close(mine);
    REQUIRE_OK(objects(next));
    mpe_close(next);
    return NULL;
}

TEST(an_engine_of_a_thread_has_functions_allocator_and_arena)
{
    mpe_engine *e = opened();
    mpe_object *o;
    pthread_t thread;
    REQUIRE_OK(mpe_event_create(e, &o));
    REQUIRE_OK(mpe_name(e, "of the first", o));
    size_t before = host.blocks;
    pthread_create(&thread, NULL, start_from_a_chain, e);
    pthread_join(thread, NULL);
    EXPECT_EQ(host.blocks, before);
    mpe_drop(e, o);
    close_whole(e);
}

TEST(the_last_engine_of_an_arena_frees_the_mapping)
{
    mpe_engine *e = opened(), *mine;
    REQUIRE_OK(mpe_open_thread(e, "thread", &mine));
    mpe_close(e);
    EXPECT(host.blocks > 0);
    close_whole(mine);
}

static void *
send_on_a_thread(void *ud)
{
    static int done;
    size_t before = host.blocks;
    EXPECT_OK(mpe_send(ud, note_call, &done));
    EXPECT_EQ(host.blocks, before + 1);
    return NULL;
}

TEST(a_call_that_a_thread_sends_is_of_the_allocator)
{
    mpe_engine *e = opened();
    pthread_t thread;
    pthread_create(&thread, NULL, send_on_a_thread, e);
    pthread_join(thread, NULL);
    close_whole(e); /* the call runs there */
}

TEST(a_buffer_that_a_call_has_filled_is_of_the_allocator)
{
    mpe_engine *e = opened();
    char text[2000];
    mpe_buf b;
    size_t before = host.bytes;
    memset(text, 'x', sizeof text);
    mpe_buf_init(&b);
    EXPECT_OK(mpe_pack(e, &b, "s", (const void *)text, sizeof text));
    EXPECT_EQ(host.bytes, before + b.cap);
    EXPECT_OK(mpe_buf_append(&b, text, sizeof text));
    EXPECT_EQ(host.bytes, before + b.cap);
    mpe_buf_free(&b);
    EXPECT_EQ(host.bytes, before);
    EXPECT_OK(mpe_buf_append(&b, text, sizeof text)); /* without an engine: malloc */
    EXPECT_EQ(host.bytes, before);
    mpe_buf_free(&b);
    close_whole(e);
}

TEST(work_of_threads_is_not_of_the_allocator)
{
    mpe_engine *e = opened();
    EXPECT_OK(offloaded(e));
    close_whole(e);
}

TEST(what_is_open_goes_with_the_engine)
{
    mpe_engine *e = opened();
    mpe_pool *p;
    mpe_lookup *l;
    mpe_process *started;
    EXPECT_OK(mpe_pool_open(e, MPE_FORK, 2, &p));
    EXPECT_OK(mpe_start_function(e, MPE_FORKSERVER, "square", "", 0, MPE_PROCESS_DAEMON, &started));
    EXPECT_OK(objects(e));
    EXPECT_OK(polled(e));
    EXPECT_OK(mpe_lookup_start(e, MPE_LOOKUP_ADDRESSES, "127.0.0.1", NULL, &l));
    mpe_lookup_free(e, l);
    mpe_process_free(e, started);
    close_whole(e);
}
