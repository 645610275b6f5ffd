/* SPDX-License-Identifier: MIT */
/* Work on threads: its completion, limits that leave no thread, forks and closing beside it. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <errno.h>
#include <pthread.h>
#include <semaphore.h>
#include <sys/resource.h>
#include <unistd.h>

#define COUNT 64

struct tally {
    int left, all_done;
};

struct job {
    sem_t *gate; /* waits for it, unless NULL */
    int ran, done, status;
    struct tally *tally;
    int then; /* what done asks for next */
};

static void
work(void *ud)
{
    struct job *j = ud;
    if (j->gate)
        sem_wait(j->gate);
    j->ran = 1;
}

static void
on_done(mpe_engine *e, void *ud, int status)
{
    struct job *j = ud;
    j->done = 1;
    j->status = status;
    if (j->then-- > 0) {
        EXPECT_OK(mpe_offload(e, work, on_done, j));
        return;
    }
    j->tally->all_done = --j->tally->left == 0;
}

TEST(all_work_runs_and_calls_done)
{
    mpe_engine *e = mpe_test_engine(0);
    struct job jobs[COUNT];
    struct tally tally = {.left = COUNT};
    for (int i = 0; i < COUNT; i++) {
        jobs[i] = (struct job){.tally = &tally, .then = i % 3};
        REQUIRE_OK(mpe_offload(e, work, on_done, &jobs[i]));
    }
    EXPECT_OK(mpe_run_until(e, &tally.all_done));
    for (int i = 0; i < COUNT; i++)
        EXPECT(jobs[i].ran && jobs[i].done && jobs[i].status == MPE_OK);
    EXPECT(mpe__offload_threads() <= mpe__pool_threads());
    mpe_close(e);
}

TEST(waiting_for_work_alone_needs_no_libuv_loop_and_is_no_deadlock)
{
    mpe_engine *e = mpe_test_engine(0);
    sem_t gate;
    int never = 0;
    struct tally tally = {.left = 1}, first = {.left = 1};
    sem_init(&gate, 0, 0);
    struct job j = {.gate = &gate, .tally = &tally}, opener = {.tally = &first};
    REQUIRE_OK(mpe_offload(e, work, on_done, &j));
    REQUIRE_OK(mpe_offload(e, work, on_done, &opener));
    EXPECT_OK(mpe_run_until(e, &first.all_done));
    EXPECT_EQ(j.done, 0);
    sem_post(&gate);
    EXPECT_EQ(mpe_run_until(e, &never), MPE_EDEADLK); /* not before the last has ended */
    EXPECT_EQ(j.done, 1);
    EXPECT(e->loop->uv == NULL);
    mpe_close(e);
}

TEST(without_any_thread_it_is_refused_and_works_later)
{
    mpe_engine *e = mpe_test_engine(0);
    struct rlimit none = {1, 1000}, normal;
    struct tally tally = {.left = 1};
    struct job j = {.tally = &tally};
    if (getuid() == 0 && setuid(65534) != 0)
        mpe_test_skip("the limit of processes does not hold for this user");
    REQUIRE(getrlimit(RLIMIT_NPROC, &normal) == 0);
    none.rlim_max = normal.rlim_max;
    REQUIRE(setrlimit(RLIMIT_NPROC, &none) == 0);
    errno = 0;
    EXPECT_EQ(mpe_offload(e, work, on_done, &j), MPE_ESYS);
    EXPECT_EQ(errno, EAGAIN);
    EXPECT_EQ(mpe__offload_threads(), 0);
    REQUIRE(setrlimit(RLIMIT_NPROC, &normal) == 0);
    REQUIRE_OK(mpe_offload(e, work, on_done, &j));
    EXPECT_OK(mpe_run_until(e, &tally.all_done));
    mpe_close(e);
}

TEST(one_thread_is_enough_for_all_work)
{
    mpe_engine *e = mpe_test_engine(0);
    struct rlimit none = {1, 1000}, normal;
    struct job jobs[COUNT];
    struct tally tally = {.left = COUNT};
    if (getuid() == 0 && setuid(65534) != 0)
        mpe_test_skip("the limit of processes does not hold for this user");
    REQUIRE(getrlimit(RLIMIT_NPROC, &normal) == 0);
    none.rlim_max = normal.rlim_max;
    for (int i = 0; i < COUNT; i++) {
        jobs[i] = (struct job){.tally = &tally};
        REQUIRE_OK(mpe_offload(e, work, on_done, &jobs[i]));
        REQUIRE(setrlimit(RLIMIT_NPROC, &none) == 0);
    }
    EXPECT_EQ(mpe__offload_threads(), 1);
    EXPECT_OK(mpe_run_until(e, &tally.all_done));
    REQUIRE(setrlimit(RLIMIT_NPROC, &normal) == 0); /* for checkers, at the exit */
    mpe_close(e);
}

TEST(a_forked_child_has_threads_of_its_own_and_none_of_the_work)
{
    mpe_engine *e = mpe_test_engine(0);
    sem_t gate;
    struct tally tally = {.left = 1};
    int is_child, code = -1;
    mpe_process *p;
    sem_init(&gate, 0, 0);
    struct job j = {.gate = &gate, .tally = &tally};
    REQUIRE_OK(mpe_offload(e, work, on_done, &j));
    REQUIRE_OK(mpe_process_fork(e, "child", 0, (mpe_bytes){0}, &p, &is_child));
    if (is_child) {
        struct tally own = {.left = 1};
        struct job k = {.tally = &own};
        EXPECT_OK(mpe_offload(e, work, on_done, &k));
        EXPECT_OK(mpe_run_until(e, &own.all_done));
        int bad = !k.done || j.done || mpe__offload_threads() != 1;
        mpe_leave(e);
        _exit(bad);
    }
    EXPECT_OK(mpe_process_join(e, p, MPE_FOREVER, &code));
    EXPECT_EQ(code, 0);
    mpe_process_free(e, p);
    sem_post(&gate);
    EXPECT_OK(mpe_run_until(e, &tally.all_done));
    mpe_close(e);
}

TEST(closing_the_engine_does_not_wait_for_work)
{
    mpe_engine *e = mpe_test_engine(0), *next;
    static sem_t gate;
    static struct tally tally = {.left = COUNT};
    static struct job jobs[COUNT];
    sem_init(&gate, 0, 0);
    for (int i = 0; i < COUNT; i++) {
        jobs[i] = (struct job){.gate = &gate, .tally = &tally};
        REQUIRE_OK(mpe_offload(e, work, on_done, &jobs[i]));
    }
    mpe_close(e);
    for (int i = 0; i < COUNT; i++)
        sem_post(&gate);
    next = mpe_test_engine(0);
    struct tally one = {.left = 1};
    struct job j = {.tally = &one};
    REQUIRE_OK(mpe_offload(next, work, on_done, &j));
    EXPECT_OK(mpe_run_until(next, &one.all_done));
    EXPECT_EQ(tally.left, COUNT);
    mpe_close(next);
}
