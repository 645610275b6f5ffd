/* SPDX-License-Identifier: MIT */
/* A taker that is killed at every point: the descriptor is there or closed, and never left open. */
#include "mpengine_core.h"

#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <poll.h>
#include <unistd.h>

static int reading = -1;
static mpe_object *queue;

/* A queue with one, whose only other end is `reading`. */
static void *
new_item(mpe_engine *e)
{
    int ends[2];
    mpe_object *o;
    mpe_buf b;
    mpe_test_forget(e);
    if (reading >= 0)
        close(reading);
    REQUIRE(mpe_pipe(ends) == 0);
    reading = ends[0];
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    mpe_test_it = queue;
    REQUIRE_OK(mpe_descriptor_create(e, ends[1], (mpe_bytes){NULL, 0}, MPE_DESCRIPTOR_ONCE, &o));
    close(ends[1]);
    mpe_bytes bytes = mpe_test_handle_bytes(&b, mpe_handle_of(e, o));
    REQUIRE_OK(mpe_queue_put(e, queue, &bytes, 1, 1));
    mpe_buf_free(&b);
    mpe_drop(e, o);
    return queue;
}

static int
take(mpe_engine *e, int *fd)
{
    mpe_message m;
    mpe_object *o;
    int rc = mpe_queue_get(e, queue, &m);
    if (rc != MPE_OK)
        return rc;
    rc = mpe_unpack(e, m.data, m.size, "o", &o);
    mpe_message_free(e, &m);
    if (rc != MPE_OK)
        return rc;
    rc = mpe_descriptor_take(e, o, fd);
    mpe_drop(e, o);
    return rc;
}

static void
take_and_keep(mpe_engine *e, void *arg)
{
    int fd;
    (void)arg;
    take(e, &fd);
}

static void
is_there_or_closed(mpe_engine *e, void *arg, bool has_ended)
{
    struct pollfd p = {.fd = reading, .events = POLLIN};
    int fd;
    char byte;
    (void)arg;
    mpe_test_reap(e);
    mpe_test_sweep(e);
    if (mpe_queue_size(e, queue) > 0) {
        EXPECT(!has_ended);
        REQUIRE_OK(take(e, &fd));
        EXPECT_EQ(poll(&p, 1, 0), 0);
        close(fd);
    }
    EXPECT_EQ(poll(&p, 1, 5000), 1);
    EXPECT_EQ(read(reading, &byte, 1), 0);
    mpe_test_check(e);
}

TEST_LIMIT(a_descriptor_is_taken, 60)
{
    mpe_test_deaths_everywhere(
        (struct mpe_test_deaths){new_item, NULL, take_and_keep, is_there_or_closed});
}

TEST_LIMIT(a_descriptor_is_taken_while_reapers_die, 100)
{
    mpe_test_deaths_of_reapers(
        (struct mpe_test_deaths){new_item, NULL, take_and_keep, is_there_or_closed});
}
