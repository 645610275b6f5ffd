/* SPDX-License-Identifier: MIT */
/* What mpe_open is told: structs of older and newer headers, and what is refused. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"

#include <stddef.h>
#include <stdio.h>
#include <string.h>

/* A config of a header with more fields than this one. */
struct newer {
    mpe_config known;
    uint64_t unknown[3];
};

static int
opens(const mpe_config *c)
{
    mpe_engine *e = NULL;
    int rc = mpe_open(c, &e);
    if (rc == MPE_OK)
        mpe_close(e);
    else
        EXPECT(!e);
    return rc;
}

TEST(the_number_of_the_library_is_that_of_the_header)
{
    int major, minor, patch;
    EXPECT_EQ(mpe_version(), MPE_VERSION_NUMBER);
    EXPECT_EQ(sscanf(MPE_VERSION, "%d.%d.%d", &major, &minor, &patch), 3);
    EXPECT_EQ(major * 10000 + minor * 100 + patch, MPE_VERSION_NUMBER);
}

TEST(a_smaller_config_is_taken_and_the_rest_of_it_is_zero)
{
    mpe_config c;
    memset(&c, 0xff, sizeof c);
    c.max_bytes = 4 << 20;
    c.loop = NULL;
    c.name = NULL;
    c.size = offsetof(mpe_config, flags);
    EXPECT_OK(opens(&c));
    c.size = offsetof(mpe_config, loop);
    EXPECT_OK(opens(&c));
    c.size = offsetof(mpe_config, max_bytes);
    EXPECT_OK(opens(&c));
}

TEST(a_larger_config_is_taken_when_it_asks_for_nothing_more)
{
    struct newer n = {MPE_CONFIG_INIT, {0, 0, 0}};
    n.known.size = sizeof n;
    EXPECT_OK(opens(&n.known));
    n.unknown[2] = 1;
    EXPECT_EQ(opens(&n.known), MPE_EVERSION);
}

TEST(what_no_library_could_serve_is_refused)
{
    mpe_config c = MPE_CONFIG_INIT;
    EXPECT_EQ(mpe_open(NULL, NULL), MPE_EINVAL);
    c.size = 0;
    EXPECT_EQ(opens(&c), MPE_EINVAL);
    c.size = sizeof c;
    c.flags = 1u << 31;
    EXPECT_EQ(opens(&c), MPE_EINVAL);
    c.flags = MPE_ARENA_EXISTING;
    EXPECT_EQ(opens(&c), MPE_EINVAL);
    c.flags = 0;
    c.arena = "";
    EXPECT_EQ(opens(&c), MPE_EINVAL);
}
