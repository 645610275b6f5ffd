/* SPDX-License-Identifier: MIT */
/* Look-ups of names, and timers aside. spec/names_spec.lua shows that slow names delay nothing. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>
#include <unistd.h>

/* Runs the loop until the look-up is answered. */
static const mpe_lookup_answer *
answer_of(mpe_engine *e, mpe_lookup *l)
{
    struct mpe_test_waiter w = mpe_test_waiter_new();
    if (!mpe_lookup_answered(l)) {
        REQUIRE_OK(mpe_wait_list(e, &w.w, mpe_lookup_waiters(l), MPE_FOREVER));
        REQUIRE_OK(mpe_run_until(e, &w.fired));
    }
    return mpe_lookup_answered(l);
}

TEST(a_name_is_answered_with_addresses_and_a_wrong_one_with_an_error)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_lookup *good, *bad, *host;
    REQUIRE_OK(mpe_lookup_start(e, MPE_LOOKUP_ADDRESSES, "127.0.0.1", NULL, &good));
    REQUIRE_OK(mpe_lookup_start(e, MPE_LOOKUP_ADDRESSES, "no such name", NULL, &bad));
    REQUIRE_OK(mpe_lookup_start(e, MPE_LOOKUP_HOST, "127.0.0.1", NULL, &host));
    const mpe_lookup_answer *a = answer_of(e, good);
    EXPECT_EQ(a->error, 0);
    EXPECT_EQ(memcmp(a->text.data, "4127.0.0.1", a->text.size), 0);
    EXPECT_EQ(answer_of(e, bad)->error != 0, 1);
    answer_of(e, host);
    mpe_lookup_free(e, good);
    mpe_lookup_free(e, bad);
    mpe_lookup_free(e, host);
    EXPECT_EQ(e->loop->keep_alive, 0);
    EXPECT(e->loop->questions == NULL);
    mpe_close(e);
}

TEST(a_look_up_may_be_left_at_any_time)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_lookup *l, *other;
    for (int i = 0; i < 100; i++) {
        REQUIRE_OK(mpe_lookup_start(e, MPE_LOOKUP_NAMES, "127.0.0.1", "80", &l));
        REQUIRE_OK(mpe_lookup_start(e, MPE_LOOKUP_NAMES, "127.0.0.1", "80", &other));
        mpe_lookup_free(e, i % 2 ? l : other);
        if (i % 3 == 0)
            EXPECT_EQ(answer_of(e, i % 2 ? other : l)->error, 0);
        mpe_lookup_free(e, i % 2 ? other : l);
    }
    EXPECT_EQ(e->loop->keep_alive, 0);
    mpe_close(e); /* whatever its threads are still doing */
}

TEST(a_forked_child_begins_without_look_ups_and_can_make_its_own)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_lookup *l, *own;
    mpe_process *p;
    int is_child;
    REQUIRE_OK(mpe_lookup_start(e, MPE_LOOKUP_ADDRESSES, "127.0.0.1", NULL, &l));
    REQUIRE_OK(mpe_process_fork(e, "child", 0, (mpe_bytes){NULL, 0}, &p, &is_child));
    if (is_child) {
        mpe_lookup_free(e, l); /* of the parent: no effect */
        int rc = mpe_lookup_start(e, MPE_LOOKUP_ADDRESSES, "127.0.0.1", NULL, &own);
        _exit(rc == MPE_OK && answer_of(e, own)->error == 0 ? 0 : 1);
    }
    int code = -1;
    REQUIRE_OK(mpe_process_join(e, p, MPE_FOREVER, &code));
    EXPECT_EQ(code, 0);
    EXPECT_EQ(answer_of(e, l)->error, 0);
    mpe_lookup_free(e, l);
    mpe_process_free(e, p);
    mpe_close(e);
}

TEST(a_timer_aside_fires_but_does_not_hide_a_deadlock)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_waiter aside = mpe_test_waiter_new(), awaited = mpe_test_waiter_new();
    int never = 0;
    REQUIRE_OK(mpe_wait_timer_aside(e, &aside.w, mpe_now() + MPE_NS_PER_S / 100));
    EXPECT_EQ(mpe_run_until(e, &never), MPE_EDEADLK);
    REQUIRE_OK(mpe_wait_timer(e, &awaited.w, mpe_now() + MPE_NS_PER_S / 50));
    REQUIRE_OK(mpe_run_until(e, &awaited.fired));
    EXPECT_EQ(aside.fired, 1);
    REQUIRE_OK(mpe_wait_timer_aside(e, &aside.w, mpe_now() + MPE_NS_PER_S));
    mpe_wait_stop(e, &aside.w);
    REQUIRE_OK(mpe_wait_timer(e, &aside.w, mpe_now() + MPE_NS_PER_S / 100));
    aside.fired = 0;
    EXPECT_OK(mpe_run_until(e, &aside.fired)); /* filed again, it is an ordinary timer */
    mpe_close(e);
}
