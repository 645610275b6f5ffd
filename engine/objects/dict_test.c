/* SPDX-License-Identifier: MIT */
/* Dicts of one process: single calls, growing and shrinking, conditional puts, and against a model
 * with random calls. */
#include "testing/dicts.h"

#include "core/arena.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

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

TEST(writes_over_values_in_place)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    static const size_t sizes[] = {0,  1,  2,  7,   8,   9,   10,  11, 15,
                                   16, 17, 90, 240, 249, 250, 260, 300};
    char key[26] = "a key of sixteen", value[300], other[300];
    memset(other, 'z', sizeof other);
    for (size_t k = 1; k < sizeof key; k++) { /* every alignment, next to a neighbour */
        memset(key, 'a' + (int)k, k);
        for (size_t i = 0; i < 4 * MPE__COUNTOF(sizes); i++) {
            size_t n = sizes[i * 5 % MPE__COUNTOF(sizes)];
            mpe_bytes first = {key, k}, second = {key + 1, k};
            mpe_buf b;
            key[k] = '!';
            mpe_buf_init(&b);
            memset(value, 'a' + (int)i % 20, sizeof value);
            EXPECT_OK(mpe_dict_put(e, d, second, (mpe_bytes){other, n}, 0));
            EXPECT_OK(mpe_dict_put(e, d, first, (mpe_bytes){value, n}, 0));
            EXPECT_OK(mpe_dict_get(e, d, first, &b, NULL));
            EXPECT_OK(mpe_dict_get(e, d, second, &b, NULL));
            EXPECT_EQ(b.len, 2 * n);
            EXPECT(memcmp(b.data, value, n) == 0);
            EXPECT(memcmp(b.data + n, other, n) == 0);
            mpe_buf_free(&b);
        }
    }
    mpe_test_check(e);
    mpe_close(e);
}

TEST(a_smaller_value_takes_less_memory)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    char value[200];
    memset(value, 'v', sizeof value - 1);
    EXPECT_OK(put(e, d, "k", "small"));
    uint64_t used = mpe_test_used(e);
    for (size_t n = 1; n < sizeof value; n++) {
        value[n] = 0;
        EXPECT_OK(put(e, d, "k", value));
        EXPECT(mpe_test_used(e) >= used + (n > 32 ? n - 32 : 0));
        EXPECT_OK(put(e, d, "k", "tiny"));
        EXPECT_EQ(mpe_test_used(e), used);
        value[n] = 'v';
    }
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

TEST(other_keys_do_not_change_the_version_of_a_key)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d = new_dict(e);
    char key[16];
    uint64_t version;
    mpe_buf b;
    mpe_buf_init(&b);
    for (int i = 0; i < 100; i++) { /* some of them share a stripe with the key */
        snprintf(key, sizeof key, "%d", i);
        EXPECT_OK(put(e, d, key, "before"));
    }
    EXPECT_OK(mpe_dict_get(e, d, mpe_test_bytes("7"), &b, &version));
    for (int i = 0; i < 100; i++) {
        snprintf(key, sizeof key, "%d", i);
        if (i != 7)
            EXPECT_OK(put(e, d, key, "after"));
    }
    EXPECT_OK(mpe_dict_put_if(e, d, mpe_test_bytes("7"), version, mpe_test_bytes("mine"), 0));
    EXPECT_EQ(mpe_dict_remove_if(e, d, mpe_test_bytes("7"), version), MPE_EAGAIN);
    EXPECT_STR(get(e, d, "7"), "mine");
    mpe_buf_free(&b);
    mpe_close(e);
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

/* The memory of the arena according to the system. */
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

TEST(a_packed_float_that_is_whole_is_the_key_of_the_integer)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *d;
    mpe_buf six, as_float, half;
    mpe_buf_init(&six);
    mpe_buf_init(&as_float);
    mpe_buf_init(&half);
    REQUIRE_OK(mpe_dict_create(e, &d));
    EXPECT_OK(mpe_pack(e, &six, "i", (int64_t)6));
    EXPECT_OK(mpe_pack(e, &as_float, "d", 6.0));
    EXPECT_OK(mpe_pack(e, &half, "d", 6.5));
    mpe_bytes i = {six.data, six.len}, f = {as_float.data, as_float.len}, h = {half.data, half.len};
    EXPECT_OK(mpe_dict_put(e, d, f, mpe_test_bytes("v"), 0));
    EXPECT(mpe_dict_has(e, d, i) && mpe_dict_has(e, d, f) && !mpe_dict_has(e, d, h));
    EXPECT_EQ(mpe_dict_put_new(e, d, f, mpe_test_bytes("w"), 0), MPE_EEXIST);
    EXPECT_OK(mpe_dict_remove(e, d, f, NULL));
    EXPECT_EQ(mpe_dict_count(e, d), 0);
    mpe_buf record;
    uint32_t sizes[2] = {9, 7};
    mpe_buf_init(&record);
    EXPECT_OK(mpe_buf_append(&record, sizes, sizeof sizes));
    EXPECT_OK(mpe_buf_append(&record, f.data, f.size));
    EXPECT_OK(mpe_buf_append(&record, "1234567", 7));
    EXPECT_OK(mpe_dict_update(e, d, record.data, 1, 0));
    EXPECT(mpe_dict_has(e, d, i));
    mpe_buf_free(&record);
    mpe_test_check(e);
    mpe_close(e);
}
