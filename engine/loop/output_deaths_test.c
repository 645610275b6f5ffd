/* SPDX-License-Identifier: MIT */
/* A process that writes, or holds the lock of the output between two pieces, may be killed at
 * any point: the others go on writing. */
#include "loop/loop.h"

#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <fcntl.h>

static int sink;

static void *
output_lock(mpe_engine *e)
{
    return mpe_output_lock(e);
}

static void *
held_by_parent(mpe_engine *e)
{
    EXPECT_OK(mpe_lock_acquire(e, mpe_output_lock(e), 1));
    return mpe_output_lock(e);
}

/* The partner already waits: the victim takes over what the parent holds. */
static void
take_over(mpe_engine *e, void *arg)
{
    atomic_store(&((mpe_object *)arg)->word, 1ull << 16 | (e->slot + 1));
}

static void
write_line(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe_write_whole(e, sink, "a line\n", 7);
}

static void
write_and_release(mpe_engine *e, void *arg)
{
    write_line(e, arg);
    mpe_lock_release(e, arg);
}

static void
check_free(mpe_engine *e, void *arg, bool has_ended)
{
    (void)has_ended;
    mpe_test_reap(e);
    int rc = mpe_lock_acquire(e, arg, 1);
    EXPECT(rc == MPE_OK || rc == MPE_OWNER_DIED);
    EXPECT_OK(mpe_lock_release(e, arg));
}

TEST_LIMIT(the_output_is_free_after_its_writer, 60)
{
    sink = open("/dev/null", O_WRONLY);
    mpe_test_deaths_everywhere((struct mpe_test_deaths){output_lock, NULL, write_line, check_free});
}

TEST_LIMIT(a_waiting_writer_writes_though_the_current_one_dies, 60)
{
    sink = open("/dev/null", O_WRONLY);
    mpe_test_deaths_beside_a_waiter((struct mpe_test_wait){
        {held_by_parent, take_over, write_and_release, check_free}, write_line, NULL, NULL});
}
