/* SPDX-License-Identifier: MIT */
/* What mpe_open is told: structs of older and newer headers, and what is refused. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <pthread.h>
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

static struct told {
    int count, level;
    size_t size;
    char text[64];
} told;

static void
note(void *ud, int level, const char *text, size_t n)
{
    struct told *t = ud;
    t->count++;
    t->level = level;
    t->size = n;
    memcpy(t->text, text, n + 1);
}

static mpe_engine *
open_with_log(void)
{
    mpe_engine *e;
    mpe_config c = MPE_CONFIG_INIT;
    memset(&told, 0, sizeof told);
    c.log = note;
    c.log_ud = &told;
    REQUIRE_OK(mpe_open(&c, &e));
    return e;
}

TEST(the_log_is_told_bytes_at_a_level)
{
    mpe_engine *e = open_with_log();
    EXPECT(mpe_has_log(e));
    mpe_log(e, MPE_LOG_WARNING, "a\0b", 3);
    EXPECT_EQ(told.count, 1);
    EXPECT_EQ(told.level, MPE_LOG_WARNING);
    EXPECT_EQ(told.size, 3);
    EXPECT(memcmp(told.text, "a\0b", 4) == 0);
    mpe_log(e, 0, "no level", 8);
    mpe_log(e, MPE_LOG_DEBUG + 1, "no level", 8);
    mpe_log(e, MPE_LOG_DEBUG, NULL, 0);
    EXPECT_EQ(told.count, 1);
    mpe_close(e);
}

TEST(an_engine_without_a_log_tells_nothing)
{
    mpe_engine *e = mpe_test_engine(0);
    EXPECT(!mpe_has_log(e));
    mpe_log(e, MPE_LOG_ERROR, "lost", 4);
    mpe_log(NULL, MPE_LOG_ERROR, "lost", 4);
    mpe_close(e);
}

static void *
log_on_a_thread(void *ud)
{
    mpe_engine *mine;
    mpe_log(ud, MPE_LOG_ERROR, "of another thread", 17);
    EXPECT(!mpe_has_log(ud));
    REQUIRE_OK(mpe_open_thread(ud, "other", &mine));
    mpe_log(mine, MPE_LOG_INFO, "inherited", 9);
    mpe_close(mine);
    return NULL;
}

TEST(an_engine_of_a_thread_has_the_log_and_no_flags)
{
    mpe_engine *e, *mine;
    pthread_t thread;
    mpe_config c = MPE_CONFIG_INIT;
    memset(&told, 0, sizeof told);
    c.log = note;
    c.log_ud = &told;
    c.flags = MPE_LUA_PROGRAM;
    REQUIRE_OK(mpe_open(&c, &e));
    pthread_create(&thread, NULL, log_on_a_thread, e);
    pthread_join(thread, NULL);
    EXPECT_EQ(told.count, 1);
    EXPECT_STR(told.text, "inherited");
    REQUIRE_OK(mpe_open_thread(e, "same thread", &mine));
    EXPECT_EQ(mpe_flags(e), MPE_LUA_PROGRAM);
    EXPECT_EQ(mpe_flags(mine), 0);
    mpe_close(e);
    mpe_log(mine, MPE_LOG_INFO, "still", 5);
    EXPECT_STR(told.text, "still");
    mpe_close(mine);
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
