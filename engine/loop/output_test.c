/* SPDX-License-Identifier: MIT */
/* Output of several processes: whole writes, and the lock for what is written in pieces. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <string.h>
#include <unistd.h>

static int fds[2];

static void
write_b(mpe_engine *e, void *arg)
{
    (void)arg;
    REQUIRE_OK(mpe_write_whole(e, fds[1], "b\n", 2));
}

static void
expect_read(const char *text)
{
    char bytes[64] = {0};
    size_t n = 0;
    while (n < strlen(text))
        n += (size_t)read(fds[0], bytes + n, strlen(text) - n);
    EXPECT(strcmp(bytes, text) == 0);
}

TEST(no_output_comes_between_the_pieces_of_the_lock_owner)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *lock = mpe_output_lock(e);
    REQUIRE(pipe(fds) == 0);
    EXPECT_OK(mpe_lock_acquire(e, lock, 1));
    REQUIRE(write(fds[1], "a", 1) == 1);
    mpe_process *p = mpe_test_start(e, write_b, NULL);
    EXPECT_OK(mpe_write_whole(e, fds[1], "a", 1)); /* its own */
    REQUIRE(write(fds[1], "a\n", 2) == 2);
    EXPECT_OK(mpe_lock_release(e, lock));
    EXPECT_EQ(mpe_test_join(e, p), 0);
    expect_read("aaa\nb\n");
    mpe_close(e);
}

static void
hold_and_die(mpe_engine *e, void *arg)
{
    (void)arg;
    REQUIRE_OK(mpe_lock_acquire(e, mpe_output_lock(e), 1));
    REQUIRE(write(fds[1], "half", 4) == 4);
    _exit(0);
}

TEST(a_death_between_two_pieces_blocks_no_process)
{
    mpe_test_needs_deaths();
    mpe_engine *e = mpe_test_engine(0);
    REQUIRE(pipe(fds) == 0);
    mpe_test_join(e, mpe_test_start(e, hold_and_die, NULL));
    write_b(e, NULL);
    expect_read("halfb\n");
    mpe_close(e);
}

TEST(an_interrupt_stays_noted_while_a_writer_waits)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *lock = mpe_output_lock(e);
    int never = 0;
    REQUIRE(pipe(fds) == 0);
    EXPECT_OK(mpe_lock_acquire(e, lock, 1));
    mpe_process *p = mpe_test_start(e, write_b, NULL);
    EXPECT_OK(mpe_lock_release(e, lock));
    mpe_interrupt(e);
    write_b(e, NULL);
    EXPECT_EQ(mpe_run_until(e, &never), MPE_EINTR);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    expect_read("b\nb\n");
    mpe_close(e);
}
