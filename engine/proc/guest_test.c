/* SPDX-License-Identifier: MIT */
/* The guest of an engine. */
#include "mpengine_core.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <pthread.h>

static mpe_engine *closed;

static void
on_closing(mpe_engine *e, mpe_guest *guest)
{
    (void)guest;
    closed = e;
}

TEST(an_engine_has_one_guest)
{
    mpe_engine *e;
    mpe_guest a = {on_closing}, b = {on_closing}, none = {NULL};
    EXPECT_OK(mpe_open(NULL, &e));
    EXPECT_EQ(mpe_guest_enter(NULL, &a), MPE_EINVAL);
    EXPECT_EQ(mpe_guest_enter(e, &none), MPE_EINVAL);
    EXPECT_OK(mpe_guest_enter(e, &a));
    EXPECT_OK(mpe_guest_enter(e, &a));
    EXPECT_EQ(mpe_guest_enter(e, &b), MPE_EEXIST);
    mpe_guest_leave(e, &b);
    EXPECT_EQ(mpe_guest_enter(e, &b), MPE_EEXIST);
    mpe_guest_leave(e, &a);
    EXPECT_OK(mpe_guest_enter(e, &b));
    mpe_close(e);
}

TEST(the_guest_is_told_when_the_engine_is_closed)
{
    mpe_engine *e;
    mpe_guest a = {on_closing}, b = {on_closing};
    EXPECT_OK(mpe_open(NULL, &e));
    EXPECT_OK(mpe_guest_enter(e, &a));
    mpe_engine *was = e;
    mpe_close(e);
    EXPECT(closed == was);
    closed = NULL;
    EXPECT_OK(mpe_open(NULL, &e));
    EXPECT_OK(mpe_guest_enter(e, &b));
    mpe_guest_leave(e, &b);
    mpe_close(e);
    EXPECT(!closed);
}

static void *
may_call(void *ud)
{
    return mpe_may_call(ud) == MPE_EPERM ? ud : NULL;
}

TEST(only_the_thread_of_an_engine_may_call_it)
{
    pthread_t t;
    void *refused = NULL;
    mpe_engine *e = mpe_test_engine(0);
    EXPECT_OK(mpe_may_call(e));
    EXPECT_EQ(mpe_may_call(NULL), MPE_EINVAL);
    REQUIRE(pthread_create(&t, NULL, may_call, e) == 0);
    pthread_join(t, &refused);
    EXPECT(refused == e);
    mpe_close(e);
}
