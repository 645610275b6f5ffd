/* SPDX-License-Identifier: MIT */
/* Descriptors above the standard ones. */
#include "os/os.h"

#include "mpengine_core.h"
#include "testing/mpe_test.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

static int
is_open(int fd)
{
    return fcntl(fd, F_GETFD) >= 0;
}

TEST(a_lifted_descriptor_is_above_the_standard_ones_and_closed_by_exec)
{
    close(0);
    int low = open("/dev/null", O_RDONLY);
    REQUIRE(low == 0);
    int fd = mpe_fd_lift(low);
    EXPECT(fd > 2);
    EXPECT(!is_open(0));
    EXPECT_EQ(fcntl(fd, F_GETFD), FD_CLOEXEC);
    EXPECT_EQ(mpe_fd_lift(fd), fd);
    EXPECT_EQ(mpe_fd_lift(-1), -1);
}

TEST(pipes_are_above_the_standard_ones_whichever_are_closed)
{
    for (int first = 0; first < 3; first++) {
        int ends[2];
        char byte = 'x';
        close(first);
        REQUIRE(mpe_pipe(ends) == 0);
        EXPECT(ends[0] > 2 && ends[1] > 2);
        EXPECT_EQ(write(ends[1], &byte, 1), 1);
        EXPECT_EQ(read(ends[0], &byte, 1), 1);
        EXPECT(!is_open(first));
    }
}

TEST(missing_standard_descriptors_are_held_and_released)
{
    close(0);
    close(2);
    unsigned held = mpe_standard_hold();
    EXPECT_EQ(held, 5);
    EXPECT(is_open(0) && is_open(2));
    mpe_standard_release(held);
    EXPECT(!is_open(0) && is_open(1) && !is_open(2));
    EXPECT_EQ(mpe_standard_hold(), 5);
}

TEST(nothing_is_held_when_nothing_is_missing)
{
    int before = dup(0), after;
    close(before);
    EXPECT_EQ(mpe_standard_hold(), 0);
    after = dup(0);
    EXPECT_EQ(after, before);
}

TEST(a_limit_that_leaves_no_other_number_is_EMFILE_and_leaves_nothing_open)
{
    struct rlimit low = {3, 3};
    for (int fd = 3; fd < 64; fd++)
        close(fd);
    close(0);
    REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
    errno = 0;
    EXPECT_EQ(mpe_fd_lift(open("/dev/null", O_RDONLY)), -1);
    EXPECT_EQ(errno, EMFILE);
    EXPECT(!is_open(0));
    int ends[2];
    EXPECT_EQ(mpe_pipe(ends), -1);
    EXPECT_EQ(errno, EMFILE);
    EXPECT(!is_open(0));
}
