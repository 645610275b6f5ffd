/* SPDX-License-Identifier: MIT */
/* Typed arrays: the C types of their letters, zeroed, aligned, seen by every process. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <wchar.h>

static mpe_object *
new_array(mpe_engine *e, char type, uint64_t length)
{
    mpe_object *o;
    REQUIRE_OK(mpe_array_create(e, type, length, 0, &o));
    return o;
}

TEST(knows_the_sizes_of_the_types_of_c)
{
    EXPECT_EQ(mpe_type_size('c'), 1);
    EXPECT_EQ(mpe_type_size('B'), 1);
    EXPECT_EQ(mpe_type_size('u'), sizeof(wchar_t));
    EXPECT_EQ(mpe_type_size('h'), sizeof(short));
    EXPECT_EQ(mpe_type_size('I'), sizeof(unsigned));
    EXPECT_EQ(mpe_type_size('l'), sizeof(long));
    EXPECT_EQ(mpe_type_size('Q'), sizeof(unsigned long long));
    EXPECT_EQ(mpe_type_size('f'), sizeof(float));
    EXPECT_EQ(mpe_type_size('d'), sizeof(double));
    EXPECT_EQ(mpe_type_size('x'), 0);
    EXPECT_EQ(mpe_type_size('\0'), 0);
}

TEST(is_zeroed_and_aligned_and_reports_its_type)
{
    mpe_engine *e = mpe_test_engine(0);
    for (uint64_t n = 0; n < 20000; n = n * 3 + 1) {
        char type;
        uint64_t length;
        mpe_object *o = new_array(e, 'd', n);
        double *d = mpe_array_data(e, o, &type, &length);
        EXPECT_EQ(type, 'd');
        EXPECT_EQ(length, n);
        EXPECT_EQ((uintptr_t)d % 16, 0);
        for (uint64_t i = 0; i < n; i++) {
            EXPECT(d[i] == 0);
            d[i] = 1.5;
        }
        mpe_drop(e, o);
    }
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(refuses_unknown_types_and_impossible_lengths)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o;
    EXPECT_EQ(mpe_array_create(e, 'x', 1, 0, &o), MPE_EINVAL);
    EXPECT_EQ(mpe_array_create(e, 'd', UINT64_MAX, 0, &o), MPE_EARENA);
    EXPECT_EQ(mpe_array_create(e, 'd', UINT64_MAX / 8, 0, &o), MPE_EARENA);
    EXPECT_EQ(mpe_array_create(e, 'd', 1ull << 50, 0, &o), MPE_EARENA);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

static void
fill(mpe_engine *e, void *arg)
{
    char type;
    uint64_t length;
    int *n = mpe_array_data(e, arg, &type, &length);
    for (uint64_t i = 0; i < length; i++)
        n[i] = (int)(i * i);
}

TEST(what_one_process_writes_another_reads)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = new_array(e, 'i', 10000);
    char type;
    uint64_t length;
    EXPECT_EQ(mpe_test_join(e, mpe_test_start(e, fill, o)), 0);
    int *n = mpe_array_data(e, o, &type, &length);
    for (int i = 0; i < 10000; i++)
        EXPECT_EQ(n[i], i * i);
    mpe_close(e);
}
