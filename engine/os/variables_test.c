/* SPDX-License-Identifier: MIT */
/* Environment variables: what they accept. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"

#include <stdlib.h>
#include <string.h>

static int
size_of(const char *text, uint64_t *value)
{
    const char *got;
    setenv("MPENGINE_SHM_LIMIT", text, 1);
    return mpe_variable_get(MPE_VARIABLE_SHM_LIMIT, value, &got);
}

TEST(sizes_have_units)
{
    static const struct {
        const char *text;
        uint64_t bytes;
    } good[] = {{"1048576", 1 << 20},
                {"1024K", 1 << 20},
                {"16M", 16 << 20},
                {"3g", 3ull << 30},
                {"16777215T", 16777215ull << 40}};
    uint64_t value;
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        EXPECT_OK(size_of(good[i].text, &value));
        EXPECT_EQ(value, good[i].bytes);
    }
}

TEST(other_sizes_are_refused)
{
    static const char *const bad[] = {"0",    "1048575", "16MB", "+5M",       "-1", "0x100000",
                                      "1.5G", " 16M",    "M",    "16777216T", "x"};
    uint64_t value;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
        EXPECT_EQ(size_of(bad[i], &value), MPE_EVARIABLE);
    EXPECT_EQ(size_of("", &value), MPE_ENOENT);
}

TEST(the_first_wrong_variable_is_named_with_its_accepted_values)
{
    char message[200];
    EXPECT_OK(mpe_variables_check(message, sizeof message));
    setenv("MPENGINE_START_METHOD", "teleport", 1);
    EXPECT_EQ(mpe_variables_check(message, sizeof message), MPE_EVARIABLE);
    EXPECT_STR(message, "MPENGINE_START_METHOD: 'teleport' is not accepted "
                        "('fork', 'spawn' or 'forkserver' expected)");
    setenv("MPENGINE_START_METHOD", "spawn", 1);
    EXPECT_OK(mpe_variables_check(message, sizeof message));
}

TEST(an_engine_asks_for_the_limit_only_when_its_host_has_none)
{
    mpe_engine *e;
    mpe_config config = MPE_CONFIG_INIT;
    setenv("MPENGINE_SHM_LIMIT", "half", 1);
    EXPECT_EQ(mpe_open(NULL, &e), MPE_EVARIABLE);
    config.max_bytes = 4 << 20;
    REQUIRE_OK(mpe_open(&config, &e));
    mpe_close(e);
}
