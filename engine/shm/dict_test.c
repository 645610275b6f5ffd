/* SPDX-License-Identifier: MIT */
/* Dicts against a model with random calls, growing and shrinking, conditional puts, snapshots under
 * writers, and deaths in the middle of a change. */
#include "shm/dict.h"

#include "shm/arena.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static mpe_object *
new_dict(mpe_engine *e)
{
    mpe_object *o;
    REQUIRE_OK(mpe_dict_create(e, &o));
    return o;
}

static int
put(mpe_engine *e, mpe_object *d, const char *key, const char *value)
{
    return mpe_dict_put(e, d, mpe_test_bytes(key), mpe_test_bytes(value), 0);
}

/* The value of a key as a string, NULL when it is absent; valid until the next call. */
static const char *
get(mpe_engine *e, mpe_object *d, const char *key)
{
    static mpe_buf b;
    if (!b.data)
        mpe_buf_init(&b);
    b.len = 0;
    int rc = mpe_dict_get(e, d, mpe_test_bytes(key), &b, NULL);
    EXPECT(rc == MPE_OK || rc == MPE_ENOENT);
    REQUIRE_OK(mpe_buf_append(&b, "", 1));
    return rc == MPE_OK ? (const char *)b.data : NULL;
}

TEST(keeps_replaces_and_removes)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    EXPECT_STR(get(e, d, "a"), NULL);
    EXPECT_EQ(mpe_dict_has(e, d, mpe_test_bytes("a")), 0);
    EXPECT_OK(put(e, d, "a", "one"));
    EXPECT_OK(put(e, d, "b", ""));
    EXPECT_STR(get(e, d, "a"), "one");
    EXPECT_STR(get(e, d, "b"), "");
    EXPECT_OK(put(e, d, "a", "two"));
    EXPECT_STR(get(e, d, "a"), "two");
    EXPECT_OK(put(e, d, "a", "a longer value than before"));
    EXPECT_STR(get(e, d, "a"), "a longer value than before");
    EXPECT_EQ(mpe_dict_has(e, d, mpe_test_bytes("a")), 1);
    EXPECT_EQ(mpe_dict_count(e, d), 2);
    EXPECT_OK(mpe_dict_remove(e, d, mpe_test_bytes("a"), NULL));
    EXPECT_EQ(mpe_dict_remove(e, d, mpe_test_bytes("a"), NULL), MPE_ENOENT);
    EXPECT_EQ(mpe_dict_count(e, d), 1);
    mpe_close(e);
}

TEST(takes_the_empty_key_and_keys_of_any_bytes)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_bytes none = {NULL, 0}, zero = {"\0", 1}, zeros = {"\0\0", 2};
    EXPECT_OK(mpe_dict_put(e, d, none, mpe_test_bytes("none"), 0));
    EXPECT_OK(mpe_dict_put(e, d, zero, mpe_test_bytes("zero"), 0));
    EXPECT_OK(mpe_dict_put(e, d, zeros, none, 0));
    EXPECT_EQ(mpe_dict_count(e, d), 3);
    EXPECT_STR(get(e, d, ""), "none");
    EXPECT_OK(mpe_dict_remove(e, d, zero, NULL));
    EXPECT_EQ(mpe_dict_has(e, d, zeros), 1);
    mpe_close(e);
}

TEST(replaces_small_values_of_the_same_size_in_place)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    char key[26] = "a key of sixteen", value[12] = "123456789ab";
    for (size_t k = 1; k < sizeof key; k++) { /* every alignment, next to a neighbour */
        memset(key, 'a' + (int)k, k);
        for (size_t n = 0; n < sizeof value; n++) {
            mpe_bytes first = {key, k}, second = {key + 1, k}, seen;
            mpe_buf b;
            key[k] = '!';
            mpe_buf_init(&b);
            EXPECT_OK(mpe_dict_put(e, d, first, (mpe_bytes){value, n}, 0));
            EXPECT_OK(mpe_dict_put(e, d, second, (mpe_bytes){"zzzzzzzzzzzzz", n}, 0));
            EXPECT_OK(mpe_dict_put(e, d, first, (mpe_bytes){"abcdefghijklm", n}, 0));
            EXPECT_OK(mpe_dict_put(e, d, first, (mpe_bytes){"axcdefghijklm", n}, 0));
            EXPECT_OK(mpe_dict_get(e, d, first, &b, NULL));
            EXPECT_OK(mpe_dict_get(e, d, second, &b, NULL));
            seen = (mpe_bytes){b.data, b.len};
            EXPECT_EQ(seen.size, 2 * n);
            EXPECT(memcmp(b.data, "axcdefghijklm", n) == 0);
            EXPECT(memcmp(b.data + n, "zzzzzzzzzzzzz", n) == 0);
        }
    }
    mpe_test_check(e);
    mpe_close(e);
}

TEST(puts_new_keys_only_once)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_bytes k = mpe_test_bytes("k");
    EXPECT_OK(mpe_dict_put_new(e, d, k, mpe_test_bytes("1"), 0));
    EXPECT_EQ(mpe_dict_put_new(e, d, k, mpe_test_bytes("2"), 0), MPE_EEXIST);
    EXPECT_STR(get(e, d, "k"), "1");
    mpe_close(e);
}

TEST(puts_and_removes_only_when_nothing_has_changed)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_bytes k = mpe_test_bytes("k");
    uint64_t version;
    mpe_buf b;
    mpe_buf_init(&b);
    EXPECT_EQ(mpe_dict_get(e, d, k, &b, &version), MPE_ENOENT);
    EXPECT_OK(mpe_dict_put_if(e, d, k, version, mpe_test_bytes("1"), 0));
    EXPECT_EQ(mpe_dict_put_if(e, d, k, version, mpe_test_bytes("2"), 0), MPE_EAGAIN);
    EXPECT_EQ(mpe_dict_remove_if(e, d, k, version), MPE_EAGAIN);
    EXPECT_OK(mpe_dict_get(e, d, k, &b, &version));
    EXPECT_OK(put(e, d, "k", "3"));
    EXPECT_EQ(mpe_dict_put_if(e, d, k, version, mpe_test_bytes("4"), 0), MPE_EAGAIN);
    EXPECT_STR(get(e, d, "k"), "3");
    EXPECT_OK(mpe_dict_get(e, d, k, &b, &version));
    EXPECT_OK(mpe_dict_remove_if(e, d, k, version));
    EXPECT_EQ(mpe_dict_has(e, d, k), 0);
    mpe_close(e);
}

static int
increment(const uint8_t *value, size_t size, uint8_t out[16], size_t *out_size, void *ud)
{
    uint64_t n = 0;
    (void)ud;
    if (value)
        memcpy(&n, value, size);
    n++;
    memcpy(out, &n, sizeof n);
    *out_size = sizeof n;
    return MPE_OK;
}

static int
refuse(const uint8_t *value, size_t size, uint8_t out[16], size_t *out_size, void *ud)
{
    (void)value, (void)size, (void)out, (void)out_size, (void)ud;
    return MPE_ETYPE;
}

TEST(edits_a_value_in_one_step)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_bytes k = mpe_test_bytes("n");
    for (int i = 0; i < 10; i++)
        EXPECT_OK(mpe_dict_edit(e, d, k, increment, NULL));
    EXPECT_EQ(*(const uint64_t *)get(e, d, "n"), 10);
    EXPECT_EQ(mpe_dict_edit(e, d, k, refuse, NULL), MPE_ETYPE);
    EXPECT_EQ(*(const uint64_t *)get(e, d, "n"), 10);
    EXPECT_EQ(mpe_dict_count(e, d), 1);
    mpe_close(e);
}

TEST_LIMIT(holds_a_hundred_thousand_entries_and_shrinks_again, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    uint64_t used = mpe_test_used(e);
    char key[32];
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        REQUIRE_OK(put(e, d, key, key + 4));
    }
    EXPECT_EQ(mpe_dict_count(e, d), 100000);
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        if (!EXPECT_STR(get(e, d, key), key + 4))
            break;
    }
    for (int i = 0; i < 100000; i++) {
        snprintf(key, sizeof key, "key %d", i);
        REQUIRE_OK(mpe_dict_remove(e, d, mpe_test_bytes(key), NULL));
    }
    EXPECT_EQ(mpe_dict_count(e, d), 0);
    EXPECT(mpe_test_used(e) < used + 32 * 200);
    mpe_test_check(e);
    mpe_close(e);
}

/* What the system says the arena takes. */
static uint64_t
taken_from_system(mpe_engine *e)
{
    struct stat st;
    REQUIRE(fstat(e->fd, &st) == 0);
    return (uint64_t)st.st_blocks * 512;
}

TEST(clearing_a_large_dict_gives_its_memory_back)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    char key[32], value[200];
    uint64_t committed = mpe_test_committed(e);
    memset(value, 'v', sizeof value);
    value[199] = 0;
    for (int i = 0; i < 50000; i++) {
        snprintf(key, sizeof key, "%d", i);
        REQUIRE_OK(put(e, d, key, value));
    }
    EXPECT(mpe_test_committed(e) > committed + 10000000);
    EXPECT(taken_from_system(e) <= mpe_test_committed(e) + 65536);
    mpe_dict_clear(e, d);
    EXPECT_EQ(mpe_dict_count(e, d), 0);
    EXPECT(mpe_test_committed(e) < committed + 2000000);
    EXPECT(taken_from_system(e) <= mpe_test_committed(e) + 65536); /* of large pages too */
    EXPECT_OK(put(e, d, "a", "b"));
    EXPECT_STR(get(e, d, "a"), "b");
    mpe_test_check(e);
    mpe_close(e);
}

TEST(running_out_of_memory_leaves_the_dict_as_it_was)
{
    mpe_engine *e = mpe_test_engine(3u << 20);
    mpe_object *d = new_dict(e);
    static char value[3000];
    char key[16];
    int count = 0, rc;
    memset(value, 'v', sizeof value - 1);
    for (;; count++) {
        snprintf(key, sizeof key, "%d", count);
        if ((rc = put(e, d, key, value)) != MPE_OK)
            break;
    }
    EXPECT_EQ(rc, MPE_EARENA);
    EXPECT_EQ(mpe_dict_count(e, d), count);
    EXPECT_EQ(mpe_dict_has(e, d, mpe_test_bytes(key)), 0);
    EXPECT_STR(get(e, d, "0"), value);
    EXPECT_OK(mpe_dict_remove(e, d, mpe_test_bytes("0"), NULL));
    EXPECT_OK(put(e, d, key, value));
    mpe_test_check(e);
    mpe_close(e);
}

/* ---- against a model ---- */

#define KEYS 700

static char *model[KEYS]; /* the value of key i, NULL when it is absent */

static const char *
key_of(int i)
{
    static char key[40];
    snprintf(key, sizeof key, i % 3 ? "k%d" : "%d is a somewhat longer key", i);
    return key;
}

static int
index_of(const mpe_buf *key)
{
    const char *text = (const char *)key->data;
    return atoi(text[0] == 'k' ? text + 1 : text);
}

static void
set_model(int i, const char *value)
{
    free(model[i]);
    model[i] = value ? strdup(value) : NULL;
}

static int
model_count(void)
{
    int count = 0;
    for (int i = 0; i < KEYS; i++)
        count += model[i] != NULL;
    return count;
}

static const char *
random_value(uint32_t *seed)
{
    static char value[400];
    uint32_t size = mpe_test_random(seed) % 3 ? 3 : mpe_test_random(seed) % sizeof value;
    memset(value, 'a' + (int)(mpe_test_random(seed) % 26), size);
    value[size < sizeof value ? size : size - 1] = 0;
    return value;
}

static void
check_snapshot(mpe_engine *e, mpe_object *d)
{
    mpe_buf b;
    uint64_t count;
    mpe_buf_init(&b);
    REQUIRE_OK(mpe_dict_snapshot(e, d, &b, &count));
    EXPECT_EQ(count, model_count());
    for (size_t at = 0; at < b.len;) {
        uint32_t sizes[2];
        memcpy(sizes, b.data + at, sizeof sizes);
        mpe_buf key = {.data = b.data + at + 8};
        const char *expected = model[index_of(&key)];
        const char *value = (const char *)b.data + at + 8 + sizes[0];
        REQUIRE(expected != NULL);
        EXPECT(strlen(expected) == sizes[1] && memcmp(expected, value, sizes[1]) == 0);
        at += (8 + (size_t)sizes[0] + sizes[1] + 7) & ~(size_t)7;
    }
    mpe_buf_free(&b);
}

static void
pop_one(mpe_engine *e, mpe_object *d)
{
    mpe_buf key, value;
    mpe_buf_init(&key);
    mpe_buf_init(&value);
    int rc = mpe_dict_pop_any(e, d, &key, &value);
    EXPECT_EQ(rc, model_count() ? MPE_OK : MPE_ENOENT);
    if (rc == MPE_OK) {
        REQUIRE_OK(mpe_buf_append(&key, "", 1));
        REQUIRE_OK(mpe_buf_append(&value, "", 1));
        int i = index_of(&key);
        EXPECT_STR((const char *)key.data, key_of(i));
        EXPECT_STR((const char *)value.data, model[i]);
        set_model(i, NULL);
    }
    mpe_buf_free(&key);
    mpe_buf_free(&value);
}

static void
one_random_call(mpe_engine *e, mpe_object *d, uint32_t *seed)
{
    int i = (int)(mpe_test_random(seed) % KEYS), rc;
    mpe_bytes key = mpe_test_bytes(key_of(i));
    const char *value = random_value(seed);
    switch (mpe_test_random(seed) % 10) {
    case 0:
    case 1:
    case 2:
        EXPECT_OK(mpe_dict_put(e, d, key, mpe_test_bytes(value), 0));
        set_model(i, value);
        break;
    case 3:
        rc = mpe_dict_put_new(e, d, key, mpe_test_bytes(value), 0);
        EXPECT_EQ(rc, model[i] ? MPE_EEXIST : MPE_OK);
        if (rc == MPE_OK)
            set_model(i, value);
        break;
    case 4:
    case 5:
    case 6:
        EXPECT_EQ(mpe_dict_remove(e, d, key, NULL), model[i] ? MPE_OK : MPE_ENOENT);
        set_model(i, NULL);
        break;
    case 7:
        pop_one(e, d);
        break;
    default:
        EXPECT_STR(get(e, d, key_of(i)), model[i]);
        EXPECT_EQ(mpe_dict_has(e, d, key), model[i] != NULL);
    }
}

TEST_LIMIT(agrees_with_a_model_after_random_calls, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    uint32_t seed = 42;
    for (int round = 0; round < 100000; round++) {
        one_random_call(e, d, &seed);
        if (round % 5000 == 0)
            check_snapshot(e, d);
        if (round % 20000 == 19999) {
            mpe_dict_clear(e, d);
            for (int i = 0; i < KEYS; i++)
                set_model(i, NULL);
        }
    }
    EXPECT_EQ(mpe_dict_count(e, d), model_count());
    mpe_test_check(e);
    mpe_drop(e, d);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

/* ---- between processes ---- */

static void
count_up(mpe_engine *e, void *arg)
{
    uint32_t seed = mpe_self_slot(e);
    for (int i = 0; i < 20000; i++) {
        char key[16];
        snprintf(key, sizeof key, "%u", mpe_test_random(&seed) % 10);
        REQUIRE_OK(mpe_dict_edit(e, arg, mpe_test_bytes(key), increment, NULL));
    }
}

TEST(no_increment_of_three_processes_is_lost)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_process *p[3];
    uint64_t sum = 0;
    for (int i = 0; i < 3; i++)
        p[i] = mpe_test_start(e, count_up, d);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    for (int i = 0; i < 10; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        sum += *(const uint64_t *)get(e, d, key);
    }
    EXPECT_EQ(sum, 60000);
    mpe_close(e);
}

static void
write_a_lot(mpe_engine *e, void *arg)
{
    char mine[16];
    snprintf(mine, sizeof mine, "p%u ", mpe_self_slot(e));
    for (int i = 0; i < 30000; i++) {
        char key[32];
        snprintf(key, sizeof key, "%s%d", mine, i % 2000);
        if (i / 2000 % 2 == 0)
            REQUIRE_OK(put(e, arg, key, key));
        else
            REQUIRE_OK(mpe_dict_remove(e, arg, mpe_test_bytes(key), NULL));
        if (i % 3000 == 0)
            EXPECT(get(e, arg, key) == NULL || strcmp(get(e, arg, key), key) == 0);
    }
}

TEST_LIMIT(two_processes_insert_and_remove_at_once, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_process *p[2];
    for (int i = 0; i < 2; i++)
        p[i] = mpe_test_start(e, write_a_lot, d);
    for (int i = 0; i < 2; i++)
        EXPECT_EQ(mpe_test_join(e, p[i]), 0);
    EXPECT_EQ(mpe_dict_count(e, d), 2 * 2000);
    mpe_test_check(e);
    mpe_drop(e, d);
    mpe_reap_dead(e);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

/* Writes the same number into key after key: a snapshot in between sees a step of one at most. */
static void
write_in_order(mpe_engine *e, void *arg)
{
    for (uint64_t n = 1; n <= 1500; n++)
        for (int i = 0; i < 40; i++) {
            char key[16];
            snprintf(key, sizeof key, "%d", i);
            mpe_bytes value = {&n, sizeof n};
            REQUIRE_OK(mpe_dict_put(e, arg, mpe_test_bytes(key), value, 0));
        }
}

/* The values of a snapshot by key. */
static void
read_snapshot(const mpe_buf *b, uint64_t values[40])
{
    for (size_t at = 0; at < b->len;) {
        uint32_t sizes[2];
        char key[8] = {0};
        memcpy(sizes, b->data + at, sizeof sizes);
        memcpy(key, b->data + at + 8, sizes[0]);
        memcpy(&values[atoi(key)], b->data + at + 8 + sizes[0], sizeof values[0]);
        at += (8 + (size_t)sizes[0] + sizes[1] + 7) & ~(size_t)7;
    }
}

TEST_LIMIT(a_snapshot_is_one_instant, 30)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_process *p = mpe_test_start(e, write_in_order, d);
    uint64_t values[40] = {0}, count;
    mpe_buf b;
    mpe_buf_init(&b);
    while (values[39] < 1500) {
        memset(values, 0, sizeof values);
        b.len = 0;
        REQUIRE_OK(mpe_dict_snapshot(e, d, &b, &count));
        read_snapshot(&b, values);
        for (int i = 1; i < 40; i++) /* later keys never ahead of earlier ones, one step at most */
            if (!EXPECT(values[i] <= values[i - 1] && values[0] - values[i] <= 1))
                mpe_test_stop();
    }
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_buf_free(&b);
    mpe_close(e);
}

static void
change_until_killed(mpe_engine *e, void *arg)
{
    mpe_handle *shared = arg;
    mpe_object *d;
    uint32_t seed = mpe_self_slot(e) * 77;
    REQUIRE_OK(mpe_hold(e, shared[0], &d));
    for (uint32_t i = 0;; i++) {
        char key[16];
        static char value[600];
        snprintf(key, sizeof key, "%u", mpe_test_random(&seed) % 400);
        memset(value, 'x', sizeof value - 1);
        value[mpe_test_random(&seed) % 590] = 0;
        if (mpe_test_random(&seed) % 5 == 0)
            mpe_dict_remove(e, d, mpe_test_bytes(key), NULL);
        else
            put(e, d, key, value);
        if (i % 3000 == 2999)
            mpe_dict_clear(e, d);
    }
}

TEST_LIMIT(a_writer_killed_anywhere_leaves_a_whole_dict, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    for (int round = 0; round < 60; round++) {
        mpe_object *d = new_dict(e);
        mpe_handle h = mpe_handle_of(e, d);
        mpe_process *p = mpe_test_start(e, change_until_killed, &h);
        for (int i = 0; i < 20 + round * 40 || mpe_dict_count(e, d) < 10; i++)
            get(e, d, "1");
        mpe_test_kill(p);
        EXPECT_OK(put(e, d, "mine", "yes"));
        EXPECT_STR(get(e, d, "mine"), "yes");
        mpe_test_join(e, p);
        mpe_reap_dead(e);
        uint64_t count = mpe_dict_count(e, d), snapshot;
        mpe_buf b;
        mpe_buf_init(&b);
        EXPECT_OK(mpe_dict_snapshot(e, d, &b, &snapshot));
        EXPECT_EQ(snapshot, count);
        mpe_buf_free(&b);
        mpe_test_check(e);
        mpe_drop(e, d);
        EXPECT(mpe_test_used(e) < 4096);
    }
    mpe_close(e);
}

/* ---- many keys in one step ---- */

static void
add_record(mpe_buf *records, const char *key, const char *value)
{
    uint32_t sizes[2] = {(uint32_t)strlen(key), (uint32_t)strlen(value)};
    REQUIRE_OK(mpe_buf_append(records, sizes, sizeof sizes));
    REQUIRE_OK(mpe_buf_append(records, key, sizes[0]));
    REQUIRE_OK(mpe_buf_append(records, value, sizes[1]));
    REQUIRE_OK(mpe_buf_append(records, "\0\0\0\0\0\0\0", -(sizes[0] + sizes[1]) & 7));
}

/* Keys 0 to count - 1 get the value. */
static int
update(mpe_engine *e, mpe_object *d, int count, const char *value)
{
    mpe_buf b;
    mpe_buf_init(&b);
    for (int i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        add_record(&b, key, value);
    }
    int rc = mpe_dict_update(e, d, b.data, (uint64_t)count, 0);
    mpe_buf_free(&b);
    return rc;
}

TEST(updates_many_keys)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    EXPECT_OK(put(e, d, "0", "before"));
    EXPECT_OK(put(e, d, "mine", "stays"));
    EXPECT_OK(update(e, d, 0, ""));
    EXPECT_OK(update(e, d, 1, "one"));
    EXPECT_STR(get(e, d, "0"), "one");
    EXPECT_OK(update(e, d, 1000, "a value of some length"));
    EXPECT_EQ(mpe_dict_count(e, d), 1001);
    EXPECT_STR(get(e, d, "0"), "a value of some length");
    EXPECT_STR(get(e, d, "999"), "a value of some length");
    EXPECT_STR(get(e, d, "mine"), "stays");
    mpe_test_check(e);
    mpe_drop(e, d);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(an_update_takes_the_last_of_two_records_of_a_key)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_buf b;
    mpe_buf_init(&b);
    add_record(&b, "k", "one");
    add_record(&b, "other", "");
    add_record(&b, "k", "two");
    EXPECT_OK(mpe_dict_update(e, d, b.data, 3, 0));
    EXPECT_STR(get(e, d, "k"), "two");
    EXPECT_EQ(mpe_dict_count(e, d), 2);
    mpe_buf_free(&b);
    mpe_drop(e, d);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(an_update_that_does_not_fit_changes_nothing)
{
    mpe_engine *e = mpe_test_engine(3u << 20);
    mpe_object *d = new_dict(e);
    static char value[3000];
    EXPECT_OK(put(e, d, "0", "before"));
    uint64_t used = mpe_test_used(e);
    memset(value, 'v', sizeof value - 1);
    EXPECT_EQ(update(e, d, 2000, value), MPE_EARENA);
    EXPECT_EQ(mpe_dict_count(e, d), 1);
    EXPECT_STR(get(e, d, "0"), "before");
    EXPECT(mpe_test_used(e) < used + 32 * 1024); /* tables may have grown */
    EXPECT_OK(put(e, d, "1", value));
    EXPECT_OK(update(e, d, 100, "small"));
    EXPECT_EQ(mpe_dict_count(e, d), 100);
    mpe_test_check(e);
    mpe_close(e);
}

#define MANY 40

/* Keys 0 to 39 get the same number, ever higher; at times they all go first. */
static void
update_all(mpe_engine *e, void *arg)
{
    for (int n = 1000; n <= 1700; n++) {
        char value[16];
        snprintf(value, sizeof value, "%d", n);
        if (n % 10 == 0)
            mpe_dict_clear(e, arg);
        REQUIRE_OK(update(e, arg, MANY, value));
    }
}

static int
number_at(mpe_engine *e, mpe_object *d, const char *key)
{
    const char *value = get(e, d, key);
    return value ? atoi(value) : 0;
}

static void
check_all_or_none(mpe_engine *e, mpe_object *d)
{
    mpe_buf b;
    uint64_t count, of_all;
    mpe_buf_init(&b);
    REQUIRE_OK(mpe_dict_snapshot(e, d, &b, &count));
    REQUIRE(count == 0 || count == MANY);
    for (size_t at = 0; at < b.len;) {
        uint32_t sizes[2];
        memcpy(sizes, b.data + at, sizeof sizes);
        REQUIRE(sizes[1] == 4);
        if (at == 0)
            memcpy(&of_all, b.data + at + 8 + sizes[0], 4);
        REQUIRE(memcmp(&of_all, b.data + at + 8 + sizes[0], 4) == 0);
        at += (8 + (size_t)sizes[0] + sizes[1] + 7) & ~(size_t)7;
    }
    mpe_buf_free(&b);
}

TEST_LIMIT(nobody_sees_a_part_of_an_update_or_a_clear, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    mpe_process *p = mpe_test_start(e, update_all, d);
    for (int first = 0; first < 1700;) {
        check_all_or_none(e, d);
        first = number_at(e, d, "0"); /* key by key neither, what comes later is never older */
        int last = number_at(e, d, "39");
        REQUIRE(last == 0 || last >= first);
        EXPECT(mpe_dict_count(e, d) <= MANY);
    }
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_close(e);
}
