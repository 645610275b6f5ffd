/* SPDX-License-Identifier: MIT */
/* The conditions a program may be started under: closed descriptors, limits, signals, system
 * calls that are refused. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <unistd.h>

/* ---- descriptors ---- */

/* Descriptors 0 to 2 that are open, as bits. */
static unsigned
standard_open(void)
{
    unsigned open = 0;
    for (int fd = 0; fd < 3; fd++)
        open |= (unsigned)(fcntl(fd, F_GETFD) >= 0) << fd;
    return open;
}

TEST(an_engine_and_its_loop_and_children_take_no_standard_descriptor)
{
    for (int fd = 0; fd < 3; fd++)
        close(fd);
    mpe_engine *e = mpe_test_engine(0);
    EXPECT(mpe_loop(e) != NULL);
    EXPECT_EQ(standard_open(), 0);
    int is_child, code = -1;
    mpe_process *p;
    REQUIRE_OK(mpe_process_fork(e, "child", MPE_PROCESS_DAEMON, (mpe_bytes){0}, &p, &is_child));
    if (is_child) {
        int taken = !mpe_loop(e) || standard_open() != 0;
        mpe_leave(e);
        _exit(taken);
    }
    EXPECT_EQ(standard_open(), 0);
    EXPECT_OK(mpe_process_join(e, p, MPE_FOREVER, &code));
    EXPECT_EQ(code, 0);
    mpe_process_free(e, p);
    mpe_close(e);
    EXPECT_EQ(standard_open(), 0);
}

/* ---- limits ---- */

static void
set_limit(int resource, uint64_t value)
{
    struct rlimit r = {value, value};
    REQUIRE(setrlimit((unsigned)resource, &r) == 0);
}

/* An engine under the limits of this process, and an array of that size in it. */
static int
array_fits(uint64_t bytes, uint64_t *limit)
{
    mpe_engine *e;
    mpe_object *array;
    mpe_stats stats;
    mpe_config config = MPE_CONFIG_INIT;
    REQUIRE_OK(mpe_open(&config, &e));
    mpe_stats_get(e, &stats);
    *limit = stats.arena_limit_bytes;
    int rc = mpe_array_create(e, 'b', bytes, 0, &array);
    mpe_close(e);
    return rc;
}

TEST(an_arena_keeps_to_the_limit_of_file_sizes)
{
    uint64_t limit;
    set_limit(RLIMIT_FSIZE, 32u << 20);
    EXPECT_OK(array_fits(4 << 20, &limit));
    EXPECT(limit > 4u << 20 && limit < 32u << 20);
    EXPECT_EQ(array_fits(32 << 20, &limit), MPE_EARENA);
}

TEST(an_arena_that_was_made_before_a_limit_of_file_sizes_grows_on)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *array;
    set_limit(RLIMIT_FSIZE, 0);
    EXPECT_OK(mpe_array_create(e, 'b', 8 << 20, 0, &array));
    mpe_close(e);
}

TEST(limits_that_leave_no_room_have_statuses_of_their_own)
{
    mpe_engine *e;
    struct rlimit addresses;
    if (MPE_TEST_SANITIZED)
        mpe_test_skip("the sanitizer itself needs addresses");
    REQUIRE(getrlimit(RLIMIT_AS, &addresses) == 0);
    addresses.rlim_cur = 1;
    REQUIRE(setrlimit(RLIMIT_AS, &addresses) == 0);
    EXPECT_EQ(mpe_open(NULL, &e), MPE_EADDRESSES);
    addresses.rlim_cur = addresses.rlim_max;
    REQUIRE(setrlimit(RLIMIT_AS, &addresses) == 0);
    set_limit(RLIMIT_FSIZE, 100000);
    EXPECT_EQ(mpe_open(NULL, &e), MPE_EFILESIZE);
}

TEST(the_requested_limit_is_the_reported_one)
{
    mpe_engine *e = mpe_test_engine(16 << 20);
    mpe_stats stats;
    mpe_stats_get(e, &stats);
    EXPECT_EQ(stats.arena_limit_bytes, 16 << 20);
    mpe_close(e);
}

/* ---- signals ---- */

static void
leave_with_3(mpe_engine *e, void *arg)
{
    (void)arg;
    mpe_leave(e);
    _exit(3);
}

TEST(an_exit_code_that_is_lost_is_not_taken_for_success)
{
    mpe_engine *e = mpe_test_engine(0);
    int code = 0;
    signal(SIGCHLD, SIG_IGN);
    mpe_process *p = mpe_test_start(e, leave_with_3, NULL);
    EXPECT_EQ(mpe_process_join(e, p, MPE_FOREVER, &code), MPE_ESTALE);
    EXPECT_EQ(code, 0);
    mpe_process_free(e, p);
    signal(SIGCHLD, SIG_DFL);
    mpe_close(e);
}

/* ---- refused system calls ---- */

/* From here on this process, and its children, have no pidfds. */
static void
refuse_pidfds(void)
{
    struct sock_filter code[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_pidfd_open, 0, 1),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | EPERM),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog filter = {sizeof code / sizeof *code, code};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0 ||
        prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &filter) != 0)
        mpe_test_skip("no filter of system calls can be made");
}

static void
wait_for_ever(mpe_engine *e, void *arg)
{
    (void)e, (void)arg;
    for (;;)
        pause();
}

TEST(without_pidfds_a_join_sees_the_end_and_keeps_its_deadline)
{
    refuse_pidfds();
    mpe_engine *e = mpe_test_engine(0);
    int code = 0;
    mpe_process *p = mpe_test_start(e, wait_for_ever, NULL);
    EXPECT_EQ(mpe_process_join(e, p, mpe_now() + 1000000, &code), MPE_ETIMEDOUT);
    EXPECT_OK(mpe_process_signal(e, p, SIGKILL));
    EXPECT_OK(mpe_process_join(e, p, MPE_FOREVER, &code));
    EXPECT_EQ(code, -SIGKILL);
    mpe_process_free(e, p);
    mpe_close(e);
}

TEST(without_pidfds_the_loop_sees_ends_also_beside_other_children)
{
    refuse_pidfds();
    mpe_engine *e = mpe_test_engine(0);
    mpe_process *p[3];
    struct mpe_test_waiter w[3];
    int code;
    for (int i = 0; i < 3; i++) {
        p[i] = mpe_test_start(e, wait_for_ever, NULL);
        w[i] = mpe_test_waiter_new();
        REQUIRE_OK(mpe_process_wait(e, p[i], &w[i].w, MPE_FOREVER));
    }
    for (int i = 0; i < 3; i++) { /* each was forked while those before it ran */
        EXPECT_OK(mpe_process_signal(e, p[i], SIGKILL));
        EXPECT_OK(mpe_run_until(e, &w[i].fired));
        EXPECT_OK(mpe_process_poll(e, p[i], &code));
        mpe_process_free(e, p[i]);
    }
    mpe_close(e);
}

/* ---- descriptors that are short ---- */

struct few {
    struct rlimit normal;
    int taken[40], n;
};

/* Takes all descriptors. */
static void
take_descriptors(struct few *f)
{
    REQUIRE(getrlimit(RLIMIT_NOFILE, &f->normal) == 0);
    struct rlimit low = {40, f->normal.rlim_max};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &low) == 0);
    for (f->n = 0; f->n < 40 && (f->taken[f->n] = dup(1)) >= 0;)
        f->n++;
}

static void
give_descriptors(struct few *f, int count)
{
    while (count-- > 0 && f->n > 0)
        close(f->taken[--f->n]);
}

TEST(without_descriptors_there_is_no_libuv_loop_and_later_there_is)
{
    mpe_engine *e = mpe_test_engine(0);
    struct few f;
    take_descriptors(&f);
    for (int missing = 7; missing > 0; missing--) { /* none, or too few */
        errno = 0;
        EXPECT(mpe_loop(e) == NULL);
        EXPECT_EQ(errno, EMFILE);
        give_descriptors(&f, 1);
    }
    EXPECT(mpe_loop(e) != NULL);
    give_descriptors(&f, 40);
    mpe_close(e);
}

/* Kills each of them and waits for its end in the loop. */
static void
end_all(mpe_engine *e, mpe_process *const *p, struct mpe_test_waiter *w, int count)
{
    int code;
    for (int i = 0; i < count; i++) {
        EXPECT_EQ(w[i].fired, 0);
        EXPECT_OK(mpe_process_signal(e, p[i], SIGKILL));
        EXPECT_OK(mpe_run_until(e, &w[i].fired));
        EXPECT_OK(mpe_process_poll(e, p[i], &code));
        EXPECT_EQ(code, -SIGKILL);
        mpe_process_free(e, p[i]);
    }
}

TEST(without_descriptors_the_loop_sees_ends_of_processes)
{
    for (int with_object = 0; with_object < 2; with_object++) {
        mpe_engine *e = mpe_test_engine(0);
        mpe_process *p[12]; /* more than are slept for in a poll of their own */
        struct mpe_test_waiter w[12], other = mpe_test_waiter_new();
        mpe_object *event;
        struct few f;
        REQUIRE_OK(mpe_event_create(e, &event));
        if (with_object) /* libuv would be needed for that */
            REQUIRE_OK(mpe_wait_object(e, &other.w, event, MPE_EVENT_READY, MPE_FOREVER));
        for (int i = 0; i < 12; i++) {
            p[i] = mpe_test_start(e, wait_for_ever, NULL);
            w[i] = mpe_test_waiter_new();
            if (i == 3)
                take_descriptors(&f);
            REQUIRE_OK(mpe_process_wait(e, p[i], &w[i].w, MPE_FOREVER));
        }
        end_all(e, p, w, 12);
        give_descriptors(&f, 40);
        mpe_wait_stop(e, &other.w);
        mpe_drop(e, event);
        mpe_close(e);
        REQUIRE(setrlimit(RLIMIT_NOFILE, &f.normal) == 0);
    }
}
