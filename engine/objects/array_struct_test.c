/* SPDX-License-Identifier: MIT */
/* Arrays of structs, for a program in C. */
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <stddef.h>
#include <string.h>

struct sample {
    char tag;
    double x;
    short h[3];
    char name[5];
    long long id;
    float f;
};
#define SAMPLE "tag:c,x:d,h:h3,name:c5,id:q,f:f"

TEST(a_layout_is_that_of_the_compiler)
{
    static const uint32_t offsets[] = {offsetof(struct sample, tag), offsetof(struct sample, x),
                                       offsetof(struct sample, h),   offsetof(struct sample, name),
                                       offsetof(struct sample, id),  offsetof(struct sample, f)};
    static const uint32_t counts[] = {0, 0, 3, 5, 0, 0};
    mpe_field f;
    EXPECT_EQ(mpe_struct_size(SAMPLE), sizeof(struct sample));
    EXPECT_EQ(mpe_struct_size("a:b"), 1);
    EXPECT_EQ(mpe_struct_size("a:b,b:h,c:B"), 6);
    EXPECT_EQ(mpe_struct_size("a:b1,_b9:u"), 8);
    for (size_t i = 0; i < 6; i++) {
        EXPECT_OK(mpe_struct_field(SAMPLE, i, &f));
        EXPECT_EQ(f.offset, offsets[i]);
        EXPECT_EQ(f.count, counts[i]);
    }
    EXPECT(f.name.size == 1 && memcmp(f.name.data, "f", 1) == 0 && f.type == 'f');
    EXPECT_EQ(mpe_struct_field(SAMPLE, 6, &f), MPE_ERANGE);
}

TEST(what_is_no_layout_is_refused)
{
    static const char *const none[] = {
        "",
        ",",
        "x",
        "x:",
        "x:z",
        ":d",
        "x:d,",
        ",x:d",
        "x:d,,y:d",
        "x:d;y:d",
        "1x:d",
        "x y:d",
        "x:dd",
        "x:d0",
        "x:d01",
        "x:d-1",
        "x:d1000000000",
        "x:d99999999999999999999",
        "x:d,x:i",
        "a:i,b:i,a:i",
        "x:S",
        "x:c16777217",
        " x:d",
        "x:d ",
        "x:{",
        "x:{}",
        "x:{y:d",
        "x:{y:d}}",
        "x:{y:d}3",
        "x:{y:d}z:d",
        "x:{y:d},",
        "x:{,y:d}",
        "x:{y:d,}",
        "x:{y:d,y:i}",
        "x:{y:d},x:{y:d}",
        "x:{y:d},z:i,x:i",
        "x:{y:c16777216},z:c",
        "x:d}",
        "a:{a:{a:{a:{a:{a:{a:{a:{a:{a:{a:{a:{a:{a:{a:{a:{a:{a:d}}}}}}}}}}}}}}}}}",
    };
    mpe_engine *e = mpe_test_engine(0);
    mpe_field f;
    mpe_object *o = NULL;
    for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
        EXPECT_EQ(mpe_struct_size(none[i]), 0);
        EXPECT_EQ(mpe_struct_create(e, none[i], 1, 0, 0, &o), MPE_EINVAL);
    }
    EXPECT_EQ(mpe_struct_size(NULL), 0);
    EXPECT_EQ(mpe_struct_field("x:d,y:z", 1, &f), MPE_EINVAL);
    EXPECT_EQ(mpe_struct_create(e, "x:d", 7, 2, 0, &o), MPE_EINVAL);
    EXPECT_EQ(mpe_struct_create(e, "x:d", UINT64_MAX / 8, 0, 0, &o), MPE_EARENA);
    EXPECT_EQ(mpe_struct_create(e, "x:c16777216", UINT64_MAX >> 9, 0, 0, &o), MPE_EARENA);
    EXPECT(o == NULL);
    mpe_close(e);
}

struct leg {
    short at[2];
    char foot;
};
struct body {
    char tag;
    struct leg left;
    struct {
        float weight;
        struct leg leg;
        double x;
    } rest;
    char last;
};
#define LEG "{at:h2,foot:c}"
#define BODY "tag:c,left:" LEG ",rest:{weight:f,leg:" LEG ",x:d},last:c"

TEST(a_struct_in_a_struct_lies_as_in_c)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_field f;
    mpe_object *a, *x, *y, *o = NULL;
    double sum;
    int64_t n;
    EXPECT_EQ(mpe_struct_size(BODY), sizeof(struct body));
    EXPECT_EQ(mpe_struct_size("a:b,b:{c:b,d:{e:h}}"), 6);
    EXPECT_EQ(mpe_struct_size("a:{a:{a:{a:{a:{a:{a:{a:{a:{a:d}}}}}}}}}"), 8);
    EXPECT_OK(mpe_struct_field(BODY, 1, &f));
    EXPECT(f.offset == offsetof(struct body, left) && f.size == sizeof(struct leg));
    EXPECT(f.type == MPE_STRUCT && f.count == 0);
    EXPECT_OK(mpe_struct_field(f.layout, 1, &f));
    EXPECT(f.offset == offsetof(struct leg, foot) && f.type == 'c' && f.layout == NULL);
    EXPECT_OK(mpe_struct_field(BODY, 2, &f));
    EXPECT(f.offset == offsetof(struct body, rest) && f.size == sizeof(((struct body *)0)->rest));
    EXPECT_EQ(mpe_struct_field(f.layout, 3, &f), MPE_ERANGE);
    EXPECT_OK(mpe_struct_field(BODY, 3, &f));
    EXPECT_EQ(f.offset, offsetof(struct body, last));

    REQUIRE_OK(mpe_struct_create(e, BODY, 20, 0, MPE_ARRAY_RAW, &a));
    struct body *p = mpe_array_data(e, a, NULL, NULL);
    for (int i = 0; i < 20; i++)
        p[i].rest.x = i, p[i].rest.leg.at[1] = (short)(2 * i);
    REQUIRE_OK(mpe_field_view(e, a, "rest.x", 0, &x));
    REQUIRE_OK(mpe_field_view(e, a, "rest.leg.at", 1, &y));
    EXPECT_OK(mpe_array_sum(e, x, &sum));
    EXPECT_OK(mpe_array_sum(e, y, &n));
    EXPECT(sum == 190 && n == 380);
    static const char *const none[] = {"rest.z", "rest.", "tag.x", "left.at.x", ".left", "rest..x"};
    for (size_t i = 0; i < sizeof none / sizeof *none; i++)
        EXPECT_EQ(mpe_field_view(e, a, none[i], 0, &o), MPE_ERANGE);
    EXPECT_EQ(mpe_field_view(e, a, "rest.leg", 0, &o), MPE_ETYPE);
    EXPECT(o == NULL);
    mpe_close(e);
}

static void
write_second(mpe_engine *e, void *arg)
{
    uint64_t length;
    char type;
    struct sample *p = mpe_array_data(e, arg, &type, &length);
    if (type != MPE_STRUCT || length != 4)
        return;
    p[1] = (struct sample){.tag = 't', .x = 2.5, .h = {1, 2, 3}, .id = 7, .f = 0.5f};
    strcpy(p[1].name, "abc");
}

TEST(elements_are_structs_in_every_process)
{
    mpe_test_needs_deaths();
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *a;
    mpe_elements s;
    REQUIRE_OK(mpe_struct_create(e, SAMPLE, 4, 2, 0, &a));
    EXPECT_STR(mpe_struct_layout(e, a), SAMPLE);
    EXPECT_EQ(mpe_test_join(e, mpe_test_start(e, write_second, a)), 0);
    struct sample *p = mpe_array_data(e, a, NULL, NULL);
    EXPECT_EQ((uintptr_t)p % 16, 0);
    EXPECT(p[0].x == 0 && p[1].x == 2.5 && p[1].h[2] == 3 && p[1].id == 7 && p[2].id == 0);
    EXPECT_STR(p[1].name, "abc");
    EXPECT_OK(mpe_array_elements(e, a, &s));
    EXPECT(s.first == p && s.size == sizeof *p && s.columns == 2 && s.type == MPE_STRUCT);
    EXPECT_EQ(mpe_kind_of(a), MPE_KIND_ARRAY);
    mpe_drop(e, a);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(a_field_is_a_view_of_numbers)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *a, *x, *h, *back, *last;
    mpe_elements s;
    double sum, two = 2;
    int64_t n;
    short by = 5, now;
    REQUIRE_OK(mpe_struct_create(e, SAMPLE, 3000, 0, MPE_ARRAY_RAW, &a));
    struct sample *p = mpe_array_data(e, a, NULL, NULL);
    for (int i = 0; i < 3000; i++)
        p[i] = (struct sample){.tag = 'c', .x = i, .h = {0, (short)i, 0}, .id = -1, .f = 1};
    REQUIRE_OK(mpe_field_view(e, a, "x", 0, &x));
    REQUIRE_OK(mpe_field_view(e, a, "h", 1, &h));
    EXPECT_EQ(mpe_array_whole(e, x), mpe_handle_of(e, a));
    REQUIRE_OK(mpe_array_view(e, a, &(mpe_part){.first = 2999, .length = 1500, .step = -2}, &back));
    EXPECT_STR(mpe_struct_layout(e, back), SAMPLE);
    REQUIRE_OK(mpe_field_view(e, back, "x", 0, &last));
    mpe_drop(e, back);
    mpe_drop(e, a);
    EXPECT_OK(mpe_array_sum(e, x, &sum));
    EXPECT(sum == 2999 * 1500);
    EXPECT_OK(mpe_array_sum(e, h, &n));
    EXPECT_EQ(n, 2999 * 1500);
    EXPECT_OK(mpe_array_scale(e, last, &two));
    EXPECT(p[2999].x == 5998 && p[2998].x == 2998 && p[1].x == 2 && p[0].x == 0);
    EXPECT_OK(mpe_array_add(e, h, 7, &by, &now));
    EXPECT(now == 12 && p[7].h[1] == 12 && p[7].h[0] == 0 && p[7].h[2] == 0);
    EXPECT(p[7].id == -1 && p[7].f == 1 && p[7].tag == 'c');
    EXPECT_OK(mpe_array_elements(e, last, &s));
    EXPECT(s.size == 8 && s.type == 'd' && s.length == 1500);
    EXPECT_EQ(s.step, -2 * (int64_t)sizeof *p / 8);
    mpe_drop(e, x);
    mpe_drop(e, h);
    mpe_drop(e, last);
    mpe_sweep(e);
    EXPECT_EQ(mpe_test_used(e), 0);
    mpe_close(e);
}

TEST(structs_are_no_numbers)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *a, *n, *v = NULL;
    uint64_t room[2] = {0};
    REQUIRE_OK(mpe_struct_create(e, "x:d,y:i2", 3, 0, 0, &a));
    REQUIRE_OK(mpe_array_create(e, 'd', 3, 0, &n));
    EXPECT_EQ(mpe_array_sum(e, a, room), MPE_ETYPE);
    EXPECT_EQ(mpe_array_least(e, a, room), MPE_ETYPE);
    EXPECT_EQ(mpe_array_scale(e, a, room), MPE_ETYPE);
    EXPECT_EQ(mpe_array_dot(e, a, a, room), MPE_ETYPE);
    EXPECT_EQ(mpe_array_axpy(e, n, room, a), MPE_ETYPE);
    EXPECT_EQ(mpe_array_add(e, a, 0, room, room), MPE_ETYPE);
    EXPECT_EQ(mpe_array_exchange(e, a, 0, room, room, room), MPE_ETYPE);
    EXPECT_EQ(mpe_field_view(e, n, "x", 0, &v), MPE_ETYPE);
    EXPECT_EQ(mpe_field_view(e, a, "z", 0, &v), MPE_ERANGE);
    EXPECT_EQ(mpe_field_view(e, a, "x", 1, &v), MPE_ERANGE);
    EXPECT_EQ(mpe_field_view(e, a, "y", 2, &v), MPE_ERANGE);
    EXPECT_EQ(mpe_field_view(e, a, NULL, 0, &v), MPE_EINVAL);
    EXPECT_EQ(mpe_array_create(e, MPE_STRUCT, 3, 0, &v), MPE_EINVAL);
    EXPECT(v == NULL && mpe_struct_layout(e, n) == NULL);
    mpe_close(e);
}
