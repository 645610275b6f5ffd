/* SPDX-License-Identifier: MIT */
/* Pipes: two ends, their handles and queues. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

static mpe_object *
queue_from(mpe_engine *e, mpe_object *pipe, int end)
{
    mpe_object *queue;
    REQUIRE_OK(mpe_hold(e, mpe_pipe_queue(e, pipe, end), &queue));
    return queue;
}

TEST(both_ends_have_a_handle_that_names_the_pipe)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *pipe, *end;
    REQUIRE_OK(mpe_pipe_create(e, 1, &pipe));
    EXPECT(mpe_pipe_handle(e, pipe, 0) != mpe_pipe_handle(e, pipe, 1));
    EXPECT_EQ(mpe_handle_kind(mpe_pipe_handle(e, pipe, 0)), MPE_KIND_PIPE);
    EXPECT_EQ(mpe_handle_kind(mpe_pipe_handle(e, pipe, 1)), MPE_KIND_PIPE_OTHER);
    for (int i = 0; i < 2; i++) {
        REQUIRE_OK(mpe_hold(e, mpe_pipe_handle(e, pipe, i), &end));
        EXPECT(end == pipe);
        mpe_drop(e, end);
    }
    mpe_close(e);
}

TEST(a_pipe_that_is_not_duplex_sends_from_end_1_alone)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *one_way, *two_ways;
    REQUIRE_OK(mpe_pipe_create(e, 0, &one_way));
    REQUIRE_OK(mpe_pipe_create(e, 1, &two_ways));
    EXPECT_EQ(mpe_pipe_queue(e, one_way, 0), 0);
    EXPECT(mpe_pipe_queue(e, one_way, 1) != 0);
    EXPECT(mpe_pipe_queue(e, two_ways, 0) != mpe_pipe_queue(e, two_ways, 1));
    mpe_close(e);
}

TEST(closing_the_last_end_closes_both_queues_and_what_was_sent_is_still_there)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *pipe;
    mpe_message m;
    REQUIRE_OK(mpe_pipe_create(e, 1, &pipe));
    mpe_object *there = queue_from(e, pipe, 0), *back = queue_from(e, pipe, 1);
    REQUIRE_OK(mpe_test_put(e, there, "x", 1));
    mpe_pipe_close(e, pipe, 0);
    EXPECT_EQ(mpe_queue_is_closed(e, there), 1);
    EXPECT_EQ(mpe_queue_is_closed(e, back), 1);
    REQUIRE_OK(mpe_queue_get(e, there, &m));
    EXPECT_EQ(m.size, 1);
    mpe_message_free(e, &m);
    EXPECT_EQ(mpe_queue_get(e, there, &m), MPE_ECLOSED);
    mpe_close(e);
}

static void
use_and_end(mpe_engine *e, void *arg)
{
    mpe_pipe_use(e, arg, 0);
}

TEST(an_end_stays_open_while_one_process_has_it)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *pipe;
    REQUIRE_OK(mpe_pipe_create(e, 1, &pipe));
    EXPECT_EQ(mpe_test_join(e, mpe_test_start(e, use_and_end, pipe)), 0);
    mpe_notice_deaths(e);
    mpe_object *there = queue_from(e, pipe, 0);
    EXPECT_EQ(mpe_queue_is_closed(e, there), 0);
    mpe_pipe_close(e, pipe, 0);
    EXPECT_EQ(mpe_queue_is_closed(e, there), 1);
    mpe_close(e);
}
