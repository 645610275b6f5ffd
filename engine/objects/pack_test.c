/* SPDX-License-Identifier: MIT */
/* Values and C. */
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>

static mpe_engine *e;
static mpe_buf b;

static void
begin(void)
{
    e = mpe_test_engine(0);
    mpe_buf_init(&b);
}

TEST(what_was_packed_is_unpacked)
{
    mpe_object *o, *same;
    int yes = 0;
    int64_t i = 0;
    double d = 0;
    char text[4];
    const void *s;
    size_t n;
    begin();
    REQUIRE_OK(mpe_event_create(e, &o));
    EXPECT_OK(mpe_pack(e, &b, "nbidzso", 7, (int64_t)-300, 0.5, "abc", "x\0y", (size_t)3, o));
    EXPECT_OK(
        mpe_unpack(e, b.data, b.len, "nbidzso", &yes, &i, &d, text, sizeof text, &s, &n, &same));
    EXPECT(yes == 1 && i == -300 && d == 0.5 && strcmp(text, "abc") == 0);
    EXPECT(n == 3 && memcmp(s, "x\0y", 3) == 0 && same == o);
    mpe_drop(e, same);
    EXPECT_OK(mpe_unpack(e, b.data, b.len, "???????"));
    EXPECT_OK(mpe_unpack(e, b.data, b.len, "nbidzso", NULL, NULL, NULL, NULL, (size_t)0, NULL, NULL,
                         NULL));
    mpe_test_check(e);
}

TEST(packing_is_all_or_nothing)
{
    begin();
    EXPECT_EQ(mpe_pack(e, &b, "iz", (int64_t)1, NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_pack(e, &b, "ix", (int64_t)1), MPE_EINVAL);
    EXPECT_EQ(mpe_pack(e, &b, "s", NULL, (size_t)1), MPE_EINVAL);
    EXPECT_EQ(mpe_pack(NULL, &b, "n"), MPE_EINVAL);
    EXPECT_EQ(mpe_pack(e, NULL, "n"), MPE_EINVAL);
    EXPECT_EQ(mpe_pack(e, &b, NULL), MPE_EINVAL);
    EXPECT_EQ(b.len, 0);
    EXPECT_OK(mpe_pack(e, &b, "s", NULL, (size_t)0));
    EXPECT_EQ(b.len, 1);
}

TEST(numbers_are_read_as_one_another_where_they_are_whole)
{
    int64_t i = 0;
    double d = 0;
    begin();
    EXPECT_OK(mpe_pack(e, &b, "di", 6.0, (int64_t)7));
    EXPECT_OK(mpe_unpack(e, b.data, b.len, "id", &i, &d));
    EXPECT(i == 6 && d == 7.0);
    b.len = 0;
    EXPECT_OK(mpe_pack(e, &b, "d", 6.5));
    EXPECT_EQ(mpe_unpack(e, b.data, b.len, "i", &i), MPE_ETYPE);
}

TEST(texts_fit_and_have_no_zero_inside)
{
    char text[3] = "??";
    begin();
    EXPECT_OK(mpe_pack(e, &b, "z", "abc"));
    EXPECT_EQ(mpe_unpack(e, b.data, b.len, "z", text, sizeof text), MPE_ERANGE);
    b.len = 0;
    EXPECT_OK(mpe_pack(e, &b, "s", "a\0", (size_t)2));
    EXPECT_EQ(mpe_unpack(e, b.data, b.len, "z", text, sizeof text), MPE_ETYPE);
    EXPECT_EQ(text[0], '?');
}

TEST(a_wrong_count_type_or_byte_writes_and_holds_nothing)
{
    mpe_object *o, *got = NULL;
    int64_t i = 77;
    begin();
    REQUIRE_OK(mpe_event_create(e, &o));
    EXPECT_OK(mpe_pack(e, &b, "ion", (int64_t)1, o));
    EXPECT_EQ(mpe_unpack(e, b.data, b.len, "io", &i, &got), MPE_ETYPE);
    EXPECT_EQ(mpe_unpack(e, b.data, b.len, "ionn", &i, &got), MPE_ETYPE);
    EXPECT_EQ(mpe_unpack(e, b.data, b.len, "ioi", &i, &got, &i), MPE_ETYPE);
    EXPECT_EQ(mpe_unpack(e, b.data, b.len, "ion!", &i, &got), MPE_EINVAL);
    EXPECT_EQ(mpe_unpack(e, b.data, b.len - 2, "io", &i, &got), MPE_ECORRUPT);
    EXPECT(i == 77 && !got);
    mpe_drop(e, o);
    mpe_sweep(e);
    EXPECT_EQ(mpe_unpack(e, b.data, b.len, "ion", &i, &got), MPE_ESTALE);
    EXPECT_EQ(mpe_test_objects(e), 0);
}

TEST(any_value_is_skipped_and_a_damaged_one_refused)
{
    static const uint8_t open[] = {0xf0, 0x01, 0x80, 0x01, 0x02, 0xf0, 0x00, 0x00, 0xfe, 0x05};
    static const uint8_t again[] = {0xa2, 'h', 'i', 0xf9, 0x00, 0xc0};
    static const uint8_t wild[] = {0x01, 0xc0}, short_one[] = {0xf0, 0x02, 0x00, 0x01};
    int64_t i = 0;
    char text[3];
    size_t mark;
    begin();
    EXPECT_OK(mpe_wire_begin_table(&b, 2, &mark));
    EXPECT_OK(mpe_pack(e, &b, "iz", (int64_t)1, "two"));
    EXPECT_OK(mpe_wire_end_table(&b, mark, 0));
    EXPECT_OK(mpe_pack(e, &b, "i", (int64_t)9));
    EXPECT_OK(mpe_unpack(e, b.data, b.len, "?i", &i));
    EXPECT_EQ(i, 9);
    EXPECT_OK(mpe_unpack(e, open, sizeof open, "?i", &i));
    EXPECT_EQ(i, 5);
    EXPECT_OK(mpe_unpack(e, again, sizeof again, "??z", text, sizeof text));
    EXPECT_EQ(strcmp(text, "hi"), 0);
    EXPECT_EQ(mpe_unpack(e, wild, sizeof wild, "i?", &i), MPE_ECORRUPT);
    EXPECT_EQ(mpe_unpack(e, short_one, sizeof short_one, "?"), MPE_ECORRUPT);
    EXPECT_EQ(mpe_unpack(e, "\xfe", 1, "?"), MPE_ECORRUPT);
}

TEST(a_snapshot_is_walked_to_its_end)
{
    mpe_object *d, *l;
    mpe_bytes key, value;
    uint64_t count;
    size_t at = 0;
    begin();
    REQUIRE_OK(mpe_dict_create(e, &d));
    REQUIRE_OK(mpe_list_create(e, &l));
    EXPECT_OK(mpe_dict_put(e, d, mpe_test_bytes("key"), mpe_test_bytes("a value"), 0));
    EXPECT_OK(mpe_list_insert(e, l, 0, mpe_test_bytes("item"), 0));
    EXPECT_OK(mpe_dict_snapshot(e, d, &b, &count));
    EXPECT_OK(mpe_next(&b, &at, &key, &value));
    EXPECT(key.size == 3 && memcmp(key.data, "key", 3) == 0);
    EXPECT(value.size == 7 && memcmp(value.data, "a value", 7) == 0);
    EXPECT_EQ(mpe_next(&b, &at, &key, &value), MPE_ENOENT);
    EXPECT_EQ(mpe_next(&b, &at, NULL, NULL), MPE_ENOENT);
    b.len -= 8;
    at = 0;
    EXPECT_EQ(mpe_next(&b, &at, &key, &value), MPE_ECORRUPT);
    b.len = at = 0;
    EXPECT_OK(mpe_list_snapshot(e, l, &b, &count, NULL));
    EXPECT_OK(mpe_next(&b, &at, &key, &value));
    EXPECT(key.size == 0 && value.size == 4 && memcmp(value.data, "item", 4) == 0);
    EXPECT_EQ(mpe_next(&b, &at, NULL, NULL), MPE_ENOENT);
    EXPECT_EQ(mpe_next(NULL, &at, NULL, NULL), MPE_EINVAL);
    EXPECT_EQ(mpe_next(&b, NULL, NULL, NULL), MPE_EINVAL);
}
