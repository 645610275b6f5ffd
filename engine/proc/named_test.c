/* SPDX-License-Identifier: MIT */
/* Arenas with a name. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static char arena[64];

static int
enter(unsigned flags, mpe_engine **out)
{
    mpe_config c = MPE_CONFIG_INIT;
    if (!*arena)
        snprintf(arena, sizeof arena, "named_test %d/%llx", (int)getpid(),
                 (unsigned long long)mpe_now());
    c.arena = arena;
    c.flags = flags;
    c.max_bytes = 8 << 20;
    return mpe_open(&c, out);
}

static void
expect_exit(pid_t child)
{
    int status;
    REQUIRE(waitpid(child, &status, 0) == child);
    EXPECT_EQ(status, 0);
}

TEST(programs_that_give_the_same_name_share_an_arena)
{
    mpe_engine *e, *mine;
    mpe_object *o;
    REQUIRE_OK(enter(0, &e));
    pid_t child = fork();
    if (child == 0) {
        REQUIRE_OK(enter(MPE_ARENA_EXISTING, &mine));
        REQUIRE_OK(mpe_find(mine, "event", mpe_now() + 5 * MPE_NS_PER_S, &o));
        mpe_event_set(mine, o);
        mpe_close(mine);
        _exit(mpe_test_failures() > 0);
    }
    mpe_object *event = mpe_test_event(e);
    EXPECT_OK(mpe_name(e, "event", event));
    expect_exit(child);
    EXPECT(mpe_event_is_set(e, event));
    mpe_test_check(e);
    mpe_close(e);
}

TEST(an_arena_is_gone_with_its_last_program)
{
    mpe_engine *e;
    int ready[2];
    char byte;
    snprintf(arena, sizeof arena, "gone %d", (int)getpid());
    EXPECT_EQ(enter(MPE_ARENA_EXISTING, &e), MPE_ENOENT);
    REQUIRE(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        if (enter(0, &e) == MPE_OK)
            (void)!write(ready[1], "x", 1);
        for (;;)
            pause();
    }
    REQUIRE(read(ready[0], &byte, 1) == 1);
    REQUIRE_OK(enter(MPE_ARENA_EXISTING, &e));
    mpe_close(e);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    EXPECT_EQ(enter(MPE_ARENA_EXISTING, &e), MPE_ENOENT);
}

TEST(entered_twice_by_one_process_it_has_two_slots)
{
    mpe_engine *e, *f;
    REQUIRE_OK(enter(0, &e));
    REQUIRE_OK(enter(0, &f));
    EXPECT(mpe_self_slot(e) != mpe_self_slot(f));
    mpe_close(e);
    EXPECT_OK(mpe_name(f, "x", mpe_test_event(f)));
    mpe_test_check(f);
    mpe_close(f);
}

TEST(programs_that_come_at_once_make_one_arena)
{
    enum { PROGRAMS = 8 };
    pid_t children[PROGRAMS];
    int go[2], up[2];
    char byte;
    mpe_engine *e;
    mpe_stats stats;
    snprintf(arena, sizeof arena, "race %d", (int)getpid());
    REQUIRE(pipe(go) == 0 && pipe(up) == 0);
    for (int i = 0; i < PROGRAMS; i++) {
        if ((children[i] = fork()) != 0)
            continue;
        close(go[1]);
        (void)!read(go[0], &byte, 1);
        if (enter(0, &e) == MPE_OK)
            (void)!write(up[1], "x", 1);
        for (;;)
            pause();
    }
    close(go[1]);
    for (int i = 0; i < PROGRAMS; i++)
        REQUIRE(read(up[0], &byte, 1) == 1);
    REQUIRE_OK(enter(MPE_ARENA_EXISTING, &e));
    mpe_stats_get(e, &stats);
    EXPECT_EQ(stats.processes, PROGRAMS + 1);
    for (int i = 0; i < PROGRAMS; i++) {
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
    }
    mpe_reap_dead(e);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(names_that_can_be_none_are_invalid)
{
    mpe_engine *e;
    mpe_config c = MPE_CONFIG_INIT;
    char longest[257];
    memset(longest, 'n', 256);
    longest[256] = '\0';
    c.arena = longest;
    EXPECT_EQ(mpe_open(&c, &e), MPE_EINVAL);
    c.arena = "";
    EXPECT_EQ(mpe_open(&c, &e), MPE_EINVAL);
    c.arena = NULL;
    c.flags = MPE_ARENA_EXISTING;
    EXPECT_EQ(mpe_open(&c, &e), MPE_EINVAL);
}
