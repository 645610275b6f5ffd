/* SPDX-License-Identifier: MIT */
/* The path of this process's own program. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"

#include <limits.h>
#include <sys/stat.h>

TEST(the_own_program_is_the_file_that_runs)
{
    char path[PATH_MAX];
    struct stat named, running;
    const char *own = mpe_own_program(path, sizeof path);
    REQUIRE(own != NULL);
    REQUIRE(stat(own, &named) == 0);
    REQUIRE(stat("/proc/self/exe", &running) == 0);
    EXPECT_EQ(named.st_ino, running.st_ino);
    EXPECT_EQ(named.st_dev, running.st_dev);
}

TEST(a_path_that_was_cut_off_is_not_given)
{
    char path[4];
    struct stat named, running;
    const char *own = mpe_own_program(path, sizeof path);
    REQUIRE(own != NULL);
    REQUIRE(stat(own, &named) == 0);
    REQUIRE(stat("/proc/self/exe", &running) == 0);
    EXPECT_EQ(named.st_ino, running.st_ino);
}
