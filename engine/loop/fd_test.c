/* SPDX-License-Identifier: MIT */
/* Waiting for descriptors, on a loop of the engine and on the host's loop. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <unistd.h>

TEST(waits_for_a_descriptor_to_become_readable_and_writable)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2];
    char bytes[4096] = {0};
    REQUIRE(pipe2(fd, O_NONBLOCK) == 0);
    struct mpe_test_waiter r = mpe_test_waiter_new(), w = mpe_test_waiter_new();
    REQUIRE_OK(mpe_wait_fd(e, &r.w, fd[0], MPE_READABLE, mpe_now() + 1000000));
    EXPECT_OK(mpe_run_until(e, &r.fired));
    EXPECT_EQ(r.status, MPE_ETIMEDOUT);
    mpe_fd_waiter_gone(e, fd[0]);
    while (write(fd[1], bytes, sizeof bytes) > 0)
        ;
    r = mpe_test_waiter_new();
    REQUIRE_OK(mpe_wait_fd(e, &w.w, fd[1], MPE_WRITABLE, MPE_FOREVER));
    REQUIRE_OK(mpe_wait_fd(e, &r.w, fd[0], MPE_READABLE, MPE_FOREVER));
    EXPECT_OK(mpe_run_until(e, &r.fired));
    EXPECT_OK(r.status);
    EXPECT_EQ(w.fired, 0);
    while (read(fd[0], bytes, sizeof bytes) > 0)
        ;
    EXPECT_OK(mpe_run_until(e, &w.fired));
    EXPECT_OK(w.status);
    EXPECT(e->loop->fds == NULL);
    mpe_close(e);
}

TEST(several_wait_for_one_descriptor_and_all_learn_that_it_closes)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2];
    REQUIRE(pipe2(fd, O_NONBLOCK) == 0);
    struct mpe_test_waiter w[3];
    for (int i = 0; i < 3; i++) {
        w[i] = mpe_test_waiter_new();
        REQUIRE_OK(mpe_wait_fd(e, &w[i].w, fd[0], MPE_READABLE, MPE_FOREVER));
    }
    REQUIRE(write(fd[1], "x", 1) == 1);
    EXPECT_OK(mpe_run_until(e, &w[0].fired));
    mpe_fd_closing(e, fd[0]);
    close(fd[0]);
    for (int i = 0; i < 3; i++)
        EXPECT_EQ(w[i].fired, 1);
    EXPECT(e->loop->fds == NULL);
    mpe_close(e);
}

TEST(closing_the_engine_ends_waits_for_descriptors)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2];
    REQUIRE(pipe2(fd, O_NONBLOCK) == 0);
    struct mpe_test_waiter w = mpe_test_waiter_new();
    REQUIRE_OK(mpe_wait_fd(e, &w.w, fd[0], MPE_READABLE, MPE_FOREVER));
    mpe_close(e);
    EXPECT_EQ(w.fired, 0);
}

TEST(runs_on_the_loop_of_its_host)
{
    uv_loop_t loop;
    mpe_config config = MPE_CONFIG_INIT;
    mpe_engine *e;
    int fd[2];
    REQUIRE(uv_loop_init(&loop) == 0);
    config.loop = &loop;
    REQUIRE_OK(mpe_open(&config, &e));
    EXPECT(mpe_loop(e) == &loop);
    REQUIRE(pipe2(fd, O_NONBLOCK) == 0);
    struct mpe_test_waiter w = mpe_test_waiter_new(), never = mpe_test_waiter_new();
    REQUIRE_OK(mpe_wait_fd(e, &w.w, fd[1], MPE_WRITABLE, MPE_FOREVER));
    REQUIRE_OK(mpe_wait_fd(e, &never.w, fd[0], MPE_READABLE, MPE_FOREVER));
    EXPECT_OK(mpe_run_until(e, &w.fired));
    mpe_close(e);
    EXPECT_EQ(uv_run(&loop, UV_RUN_DEFAULT), 0);
    EXPECT_EQ(uv_loop_close(&loop), 0);
}

TEST(a_process_without_a_descriptor_to_spare_waits_all_the_same)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2], last = 0, next;
    REQUIRE(pipe(fd) == 0);
    REQUIRE(mpe_loop(e) != NULL);
    struct rlimit limit = {64, 64};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    while ((next = dup(fd[0])) >= 0)
        last = next;
    for (int i = 0; i < 2; i++) {
        struct mpe_test_waiter r = mpe_test_waiter_new();
        char byte;
        REQUIRE_OK(mpe_wait_fd(e, &r.w, fd[0], MPE_READABLE, MPE_FOREVER));
        REQUIRE(write(fd[1], "x", 1) == 1);
        EXPECT_OK(mpe_run_until(e, &r.fired));
        EXPECT_OK(r.status);
        EXPECT_EQ(read(fd[0], &byte, 1), 1);
    }
    close(last);
    mpe_close(e);
}
