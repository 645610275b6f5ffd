/* SPDX-License-Identifier: MIT */
/*
** What the format of values promises a C program: what is written is read back, in the fewest
** bytes the format has for it, and damaged bytes are refused.
*/
#include <math.h>
#include <string.h>

#include "base/wire.h"
#include "testing/mpe_test.h"

static mpe_buf buf;

static void
start(void)
{
    if (buf.data)
        mpe_buf_free(&buf);
    mpe_buf_init(&buf);
}

/* Reads the only item of the buffer. */
static mpe_wire_item
only(void)
{
    mpe_wire_reader r;
    mpe_wire_item item, more;

    mpe_wire_open(&r, buf.data, buf.len);
    REQUIRE(mpe_wire_read(&r, &item) == 1);
    REQUIRE(mpe_wire_read(&r, &more) == 0);
    return item;
}

static void
integer_takes(int64_t value, size_t bytes)
{
    mpe_wire_item item;

    start();
    REQUIRE_OK(mpe_wire_put_int(&buf, value));
    item = only();
    EXPECT_EQ(item.kind, MPE_WIRE_INT);
    EXPECT_EQ(item.u.i, value);
    EXPECT_EQ(buf.len, bytes);
    mpe_buf_free(&buf);
}

TEST(reads_every_width_of_integer_in_its_fewest_bytes)
{
    integer_takes(0, 1);
    integer_takes(127, 1);
    integer_takes(128, 2);
    integer_takes(255, 2);
    integer_takes(256, 3);
    integer_takes(65536, 4);
    integer_takes(1 << 24, 5);
    integer_takes(UINT32_MAX, 5);
    integer_takes((int64_t)1 << 32, 7);
    integer_takes(((int64_t)1 << 47) - 1, 7);
    integer_takes((int64_t)1 << 47, 9);
    integer_takes(INT64_MAX, 9);
    integer_takes(-1, 2);
    integer_takes(-256, 2);
    integer_takes(-257, 3);
    integer_takes(-((int64_t)1 << 32), 5);
    integer_takes(-((int64_t)1 << 47), 7);
    integer_takes(-((int64_t)1 << 47) - 1, 9);
    integer_takes(INT64_MIN, 9);
}

TEST(keeps_every_power_of_two_and_its_neighbours)
{
    int shift, near;
    mpe_wire_item item;

    for (shift = 0; shift < 63; shift++) {
        for (near = -1; near <= 1; near++) {
            int64_t value = ((int64_t)1 << shift) + near;
            start();
            REQUIRE_OK(mpe_wire_put_int(&buf, value));
            item = only();
            EXPECT_EQ(item.u.i, value);
            buf.len = 0;
            REQUIRE_OK(mpe_wire_put_int(&buf, -value));
            item = only();
            EXPECT_EQ(item.u.i, -value);
        }
    }
}

TEST(keeps_the_bits_of_a_float)
{
    const double values[] = {0.0, -0.0, 1.5, INFINITY, -INFINITY, NAN};
    mpe_wire_item item;
    size_t i;

    for (i = 0; i < sizeof values / sizeof *values; i++) {
        start();
        REQUIRE_OK(mpe_wire_put_float(&buf, values[i]));
        item = only();
        EXPECT_EQ(item.kind, MPE_WIRE_FLOAT);
        EXPECT(memcmp(&item.u.f, &values[i], sizeof(double)) == 0);
    }
}

TEST(keeps_strings_of_any_bytes_and_length)
{
    char text[300];
    size_t n;
    mpe_wire_item item;

    memset(text, 0, sizeof text);
    text[200] = 'x';
    for (n = 0; n <= sizeof text; n++) {
        start();
        REQUIRE_OK(mpe_wire_put_str(&buf, text, n));
        item = only();
        EXPECT_EQ(item.kind, MPE_WIRE_STR);
        EXPECT_EQ(item.n, n);
        EXPECT(memcmp(item.u.bytes, text, n) == 0);
        EXPECT_EQ(buf.len, n + (n <= MPE_WIRE_SHORT ? 1 : n < 128 ? 2 : 3));
        mpe_buf_free(&buf);
    }
}

TEST(gives_the_header_of_a_string_alone)
{
    uint8_t header[MPE_WIRE_STR_HEADER];

    start();
    REQUIRE_OK(mpe_wire_put_str(&buf, "0123456789012345678901234567890123456789", 40));
    EXPECT_EQ(mpe_wire_str_header(header, 40), 2);
    EXPECT(memcmp(header, buf.data, 2) == 0);
}

TEST(reads_nil_booleans_and_handles)
{
    mpe_wire_reader r;
    mpe_wire_item item;

    start();
    REQUIRE_OK(mpe_wire_put_nil(&buf));
    REQUIRE_OK(mpe_wire_put_bool(&buf, 1));
    REQUIRE_OK(mpe_wire_put_bool(&buf, 0));
    REQUIRE_OK(mpe_wire_put_handle(&buf, UINT64_C(0x8123456789abcdef)));
    mpe_wire_open(&r, buf.data, buf.len);
    EXPECT(mpe_wire_read(&r, &item) == 1 && item.kind == MPE_WIRE_NIL);
    EXPECT(mpe_wire_read(&r, &item) == 1 && item.kind == MPE_WIRE_BOOL && item.u.i == 1);
    EXPECT(mpe_wire_read(&r, &item) == 1 && item.kind == MPE_WIRE_BOOL && item.u.i == 0);
    EXPECT(mpe_wire_read(&r, &item) == 1 && item.kind == MPE_WIRE_HANDLE);
    EXPECT(item.u.h == UINT64_C(0x8123456789abcdef));
    EXPECT_EQ(mpe_wire_read(&r, &item), 0);
}

static mpe_wire_item
table_with_pairs(size_t npairs)
{
    mpe_wire_reader r;
    mpe_wire_item item;
    size_t mark, i;

    start();
    REQUIRE_OK(mpe_wire_begin_table(&buf, 1, &mark));
    REQUIRE_OK(mpe_wire_put_nil(&buf));
    for (i = 0; i < 2 * npairs; i++)
        REQUIRE_OK(mpe_wire_put_int(&buf, 1));
    REQUIRE_OK(mpe_wire_end_table(&buf, mark, npairs));
    mpe_wire_open(&r, buf.data, buf.len);
    REQUIRE(mpe_wire_read(&r, &item) == 1);
    EXPECT_EQ(item.kind, MPE_WIRE_TABLE);
    EXPECT_EQ(item.n, 1);
    return item;
}

TEST(counts_the_pairs_of_a_small_table)
{
    mpe_wire_item item = table_with_pairs(127);

    EXPECT_EQ(item.open, 0);
    EXPECT_EQ(item.npairs, 127);
}

TEST(hints_at_the_pairs_of_a_large_table)
{
    EXPECT_EQ(table_with_pairs(128).npairs, 128);
    EXPECT_EQ(table_with_pairs(129).npairs, 256);
    EXPECT_EQ(table_with_pairs(1000).open, 1);
    EXPECT_EQ(buf.data[buf.len - 1], MPE_TAG_END);
}

static int
read_all(const void *data, size_t len)
{
    mpe_wire_reader r;
    mpe_wire_item item;
    int rc;

    mpe_wire_open(&r, data, len);
    while ((rc = mpe_wire_read(&r, &item)) > 0)
        continue;
    return rc;
}

TEST(refuses_an_item_that_is_cut_short)
{
    size_t n;

    start();
    REQUIRE_OK(mpe_wire_put_float(&buf, 1.5));
    for (n = 1; n < buf.len; n++)
        EXPECT_EQ(read_all(buf.data, n), MPE_ECORRUPT);
    buf.len = 0;
    REQUIRE_OK(mpe_wire_put_str(&buf, "0123456789012345678901234567890123456789", 40));
    for (n = 1; n < buf.len; n++)
        EXPECT_EQ(read_all(buf.data, n), MPE_ECORRUPT);
}

TEST(refuses_counts_larger_than_what_is_left)
{
    const uint8_t str[] = {MPE_TAG_STR, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0};
    const uint8_t table[] = {MPE_TAG_TABLE, 0x80, 0x80, 0x80, 0x80, 0x80, 0x20, 0, 0};
    const uint8_t pairs[] = {MPE_TAG_TABLE, 0, 128 + 40, 1, 1};
    const uint8_t shift[] = {MPE_TAG_TABLE, 0, 0xff, 1, 1};
    const uint8_t endless[] = {MPE_TAG_STR, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80,
                               0x80,        0x80, 0x80, 0x80, 0x80, 0x80};

    EXPECT_EQ(read_all(str, sizeof str), MPE_ECORRUPT);
    EXPECT_EQ(read_all(table, sizeof table), MPE_ECORRUPT);
    EXPECT_EQ(read_all(pairs, sizeof pairs), MPE_ECORRUPT);
    EXPECT_EQ(read_all(shift, sizeof shift), MPE_ECORRUPT);
    EXPECT_EQ(read_all(endless, sizeof endless), MPE_ECORRUPT);
}

TEST(reads_any_bytes_without_leaving_them)
{
    uint8_t bytes[24];
    uint32_t seed = 1;
    int round;
    size_t i;

    for (round = 0; round < 200000; round++) {
        for (i = 0; i < sizeof bytes; i++) {
            seed = seed * 1664525u + 1013904223u;
            bytes[i] = (uint8_t)(seed >> 24);
        }
        i = read_all(bytes, sizeof bytes) <= 0;
        if (!EXPECT(i))
            return;
    }
}

struct seen {
    uint64_t sum;
    int calls, stop_after;
};

static int
see(void *arg, uint64_t handle)
{
    struct seen *seen = arg;

    seen->sum += handle;
    return ++seen->calls == seen->stop_after ? -7 : 0;
}

TEST(finds_the_handles_of_a_message_wherever_they_are)
{
    struct seen seen = {0, 0, 0};
    uint8_t like_a_handle[16];
    size_t outer, inner;

    memset(like_a_handle, MPE_TAG_HANDLE, sizeof like_a_handle);
    start();
    REQUIRE_OK(mpe_wire_put_handle(&buf, 1));
    REQUIRE_OK(mpe_wire_begin_table(&buf, 2, &outer));
    REQUIRE_OK(mpe_wire_put_handle(&buf, 20));
    REQUIRE_OK(mpe_wire_begin_table(&buf, 0, &inner));
    REQUIRE_OK(mpe_wire_put_str(&buf, like_a_handle, sizeof like_a_handle));
    REQUIRE_OK(mpe_wire_put_handle(&buf, 300));
    REQUIRE_OK(mpe_wire_end_table(&buf, inner, 1));
    REQUIRE_OK(mpe_wire_end_table(&buf, outer, 0));
    EXPECT_OK(mpe_wire_scan_handles(buf.data, buf.len, see, &seen));
    EXPECT_EQ(seen.sum, 321);
    EXPECT_EQ(seen.calls, 3);

    seen = (struct seen){0, 0, 2};
    EXPECT_EQ(mpe_wire_scan_handles(buf.data, buf.len, see, &seen), -7);
    EXPECT_EQ(seen.calls, 2);
    EXPECT_EQ(mpe_wire_scan_handles(buf.data, buf.len - 1, see, &seen), MPE_ECORRUPT);
}

TEST(keeps_small_messages_inside_the_buffer)
{
    mpe_buf b;
    int i;

    mpe_buf_init(&b);
    for (i = 0; i < MPE_BUF_INLINE / 2; i++)
        REQUIRE_OK(mpe_wire_put_bool(&b, 1));
    EXPECT(b.data == b.small);
    for (i = 0; i < 10000; i++)
        REQUIRE_OK(mpe_wire_put_int(&b, i & 127));
    EXPECT(b.data != b.small);
    EXPECT_EQ(b.len, MPE_BUF_INLINE / 2 + 10000);
    EXPECT_EQ(b.data[0], MPE_TAG_TRUE);
    EXPECT_EQ(b.data[b.len - 1], 9999 & 127);
    mpe_buf_reset(&b, 1 << 20);
    EXPECT(b.data != b.small);
    mpe_buf_reset(&b, 1024);
    EXPECT(b.data == b.small);
}

TEST(refuses_to_grow_beyond_the_address_space)
{
    mpe_buf b;

    mpe_buf_init(&b);
    EXPECT_EQ(mpe_buf_grow(&b, SIZE_MAX), MPE_ENOMEM);
    EXPECT_EQ(mpe_buf_grow(&b, SIZE_MAX / 2), MPE_ENOMEM);
    EXPECT(b.data == b.small);
}
