/* SPDX-License-Identifier: MIT */
/* What a process may ask of the system about itself. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"

#include <sched.h>

TEST(the_processors_counted_are_those_that_may_be_used)
{
    cpu_set_t all, one;
    REQUIRE(sched_getaffinity(0, sizeof all, &all) == 0);
    EXPECT_EQ(mpe_cpu_count(), CPU_COUNT(&all));
    int cpu = 0;
    while (!CPU_ISSET(cpu, &all))
        cpu++;
    CPU_ZERO(&one);
    CPU_SET(cpu, &one);
    REQUIRE(sched_setaffinity(0, sizeof one, &one) == 0);
    EXPECT_EQ(mpe_cpu_count(), 1);
}
