/* SPDX-License-Identifier: MIT */
/* Arenas with a name. */
#include "mpengine_core.h"

#include "base/hash.h"
#include "core/engine.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <dirent.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#define OTHER_USER 65534u

static char arena[64];

/* Before the first fork of a case. */
static void
name_arena(void)
{
    if (!*arena)
        snprintf(arena, sizeof arena, "named_test %d/%llx", (int)getpid(),
                 (unsigned long long)mpe_now());
}

static int
enter(unsigned flags, mpe_engine **out)
{
    mpe_config c = MPE_CONFIG_INIT;
    name_arena();
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

/* A program that enters the arena and stays; returns once it is there. */
static pid_t
start_program(void)
{
    int ready[2];
    char byte;
    mpe_engine *e;
    name_arena();
    REQUIRE(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        if (enter(0, &e) == MPE_OK)
            (void)!write(ready[1], "x", 1);
        close(ready[0]);
        close(ready[1]);
        for (;;)
            pause();
    }
    close(ready[1]);
    REQUIRE(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    return child;
}

static void
kill_program(pid_t child)
{
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
}

static int
open_descriptors(void)
{
    int n = 0;
    DIR *d = opendir("/proc/self/fd");
    REQUIRE(d != NULL);
    while (readdir(d))
        n++;
    closedir(d);
    return n;
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
    snprintf(arena, sizeof arena, "gone %d", (int)getpid());
    EXPECT_EQ(enter(MPE_ARENA_EXISTING, &e), MPE_ENOENT);
    pid_t child = start_program();
    REQUIRE_OK(enter(MPE_ARENA_EXISTING, &e));
    mpe_close(e);
    kill_program(child);
    EXPECT_EQ(enter(MPE_ARENA_EXISTING, &e), MPE_ENOENT);
}

TEST(an_arena_stays_when_the_program_that_made_it_leaves)
{
    mpe_engine *first, *second, *third;
    mpe_object *o;
    REQUIRE_OK(enter(0, &first));
    REQUIRE_OK(mpe_name(first, "event", mpe_test_event(first)));
    pid_t child = start_program();
    mpe_close(first);
    REQUIRE_OK(enter(MPE_ARENA_EXISTING, &second));
    REQUIRE_OK(mpe_find(second, "event", MPE_NOW, &o));
    kill_program(child);
    mpe_reap_dead(second);
    REQUIRE_OK(enter(MPE_ARENA_EXISTING, &third));
    EXPECT_OK(mpe_find(third, "event", MPE_NOW, &o));
    mpe_test_check(third);
    mpe_close(second);
    mpe_close(third);
    EXPECT_EQ(enter(MPE_ARENA_EXISTING, &first), MPE_ENOENT);
}

TEST(a_name_is_free_when_all_its_programs_are_killed)
{
    enum { PROGRAMS = 4 };
    pid_t children[PROGRAMS];
    mpe_engine *e;
    mpe_object *o;
    mpe_stats stats;
    for (int i = 0; i < PROGRAMS; i++)
        children[i] = start_program();
    REQUIRE_OK(enter(MPE_ARENA_EXISTING, &e));
    EXPECT_OK(mpe_name(e, "event", mpe_test_event(e)));
    mpe_close(e);
    for (int i = 0; i < PROGRAMS; i++)
        kill(children[i], SIGKILL);
    for (int i = 0; i < PROGRAMS; i++)
        waitpid(children[i], NULL, 0);
    EXPECT_EQ(enter(MPE_ARENA_EXISTING, &e), MPE_ENOENT);
    REQUIRE_OK(enter(0, &e));
    EXPECT_EQ(mpe_find(e, "event", MPE_NOW, &o), MPE_ENOENT);
    mpe_stats_get(e, &stats);
    EXPECT_EQ(stats.processes, 1);
    mpe_close(e);
}

/* Files that have the name in theirs; those of the system come and go. */
static int
files_with(const char *dir, const char *text)
{
    int n = 0;
    struct dirent *entry;
    DIR *d = opendir(dir);
    while (d && (entry = readdir(d)) != NULL)
        n += strstr(entry->d_name, text) != NULL;
    if (d)
        closedir(d);
    return n;
}

static int
files_left(void)
{
    static const char *const dirs[] = {"/dev/shm", "/tmp", "/run", "/var/tmp"};
    char hash[40];
    int n = 0;
    snprintf(hash, sizeof hash, "%016llx", (unsigned long long)mpe__hash(arena, strlen(arena), 1));
    for (size_t i = 0; i < sizeof dirs / sizeof *dirs; i++)
        n += files_with(dirs[i], hash) + files_with(dirs[i], arena);
    return n;
}

TEST(a_name_is_no_file)
{
    mpe_engine *e;
    snprintf(arena, sizeof arena, "no-file-%d", (int)getpid());
    pid_t child = start_program();
    REQUIRE_OK(enter(0, &e));
    EXPECT_EQ(files_left(), 0);
    mpe_close(e);
    kill_program(child);
    EXPECT_EQ(files_left(), 0);
}

TEST(an_arena_of_another_layout_is_refused_and_stays)
{
    mpe_engine *e, *f;
    REQUIRE_OK(enter(0, &e));
    int descriptors = open_descriptors();
    e->header->format ^= 1;
    EXPECT_EQ(enter(0, &f), MPE_EVERSION);
    EXPECT_EQ(enter(MPE_ARENA_EXISTING, &f), MPE_EVERSION);
    EXPECT_EQ(open_descriptors(), descriptors);
    e->header->format ^= 1;
    REQUIRE_OK(enter(MPE_ARENA_EXISTING, &f));
    mpe_test_check(f);
    mpe_close(f);
    mpe_close(e);
}

/* ---- other users ---- */

/* Runs body as another user, in a process whose descriptors that user's programs may see. */
static void
as_other_user(void (*body)(void))
{
    pid_t child = fork();
    if (child == 0) {
        REQUIRE(setgid(OTHER_USER) == 0 && setuid(OTHER_USER) == 0);
        prctl(PR_SET_DUMPABLE, 1);
        body();
        _exit(mpe_test_failures() > 0);
    }
    expect_exit(child);
}

static void
find_nothing_of_root(void)
{
    mpe_engine *e, *f;
    mpe_object *o;
    EXPECT_EQ(enter(MPE_ARENA_EXISTING, &e), MPE_ENOENT);
    REQUIRE_OK(enter(0, &e)); /* its own */
    EXPECT_EQ(mpe_find(e, "event", MPE_NOW, &o), MPE_ENOENT);
    REQUIRE_OK(mpe_name(e, "mine", mpe_test_event(e)));
    REQUIRE_OK(enter(MPE_ARENA_EXISTING, &f));
    EXPECT_OK(mpe_find(f, "mine", MPE_NOW, &o));
    mpe_close(f);
    mpe_close(e);
}

static void
need_root(void)
{
    if (geteuid() != 0)
        mpe_test_skip("only root can become another user");
}

TEST(an_arena_is_of_one_user)
{
    mpe_engine *e;
    mpe_object *o;
    need_root();
    REQUIRE_OK(enter(0, &e));
    REQUIRE_OK(mpe_name(e, "event", mpe_test_event(e)));
    as_other_user(find_nothing_of_root);
    EXPECT_EQ(mpe_find(e, "mine", MPE_NOW, &o), MPE_ENOENT);
    mpe_test_check(e);
    mpe_close(e);
}

/* What programs of the user root would wait at. */
static socklen_t
gate_of_root(struct sockaddr_un *a)
{
    size_t n = strlen(arena);
    a->sun_family = AF_UNIX;
    a->sun_path[0] = '\0';
    int length = snprintf(a->sun_path + 1, sizeof a->sun_path - 1, "mpengine-%016llx%016llx-0",
                          (unsigned long long)mpe__hash(arena, n, 1),
                          (unsigned long long)mpe__hash(arena, n, 2));
    return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + 1 + (size_t)length);
}

TEST(another_user_at_the_gate_is_no_permission)
{
    struct sockaddr_un a;
    mpe_engine *e;
    int ready[2];
    char byte;
    need_root();
    snprintf(arena, sizeof arena, "squatted %d", (int)getpid());
    REQUIRE(pipe(ready) == 0);
    pid_t child = fork();
    if (child == 0) {
        socklen_t n = gate_of_root(&a);
        int fd = socket(AF_UNIX, SOCK_STREAM, 0);
        if (setuid(OTHER_USER) == 0 && bind(fd, (struct sockaddr *)&a, n) == 0 &&
            listen(fd, 5) == 0)
            (void)!write(ready[1], "x", 1);
        for (;;)
            pause();
    }
    REQUIRE(read(ready[0], &byte, 1) == 1);
    EXPECT_EQ(enter(0, &e), MPE_EPERM);
    EXPECT_EQ(enter(MPE_ARENA_EXISTING, &e), MPE_EPERM);
    kill_program(child);
    REQUIRE_OK(enter(0, &e));
    mpe_close(e);
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
