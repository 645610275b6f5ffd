/* SPDX-License-Identifier: MIT */
/* Waiting for descriptors, on a loop of the engine and on the host's loop. */
#include "loop/loop.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <fcntl.h>
#include <sys/resource.h>
#include <sys/socket.h>
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
    EXPECT_EQ(e->loop->fds.waited, 0u);
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
    EXPECT_EQ(e->loop->fds.waited, 0u);
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

static void
wait_readable(mpe_engine *e, struct mpe_test_waiter *r, int fd, int edge)
{
    *r = mpe_test_waiter_new();
    REQUIRE_OK(mpe_wait_fd(e, &r->w, fd, MPE_READABLE | (edge ? MPE_EDGE : 0), MPE_FOREVER));
}

/* Sends a byte, and receives it when the waiter has fired. */
static void
pass_byte(mpe_engine *e, struct mpe_test_waiter *r, const int fd[2])
{
    char byte;
    REQUIRE(write(fd[1], "x", 1) == 1);
    EXPECT_OK(mpe_run_until(e, &r->fired));
    EXPECT_OK(r->status);
    EXPECT_EQ(read(fd[0], &byte, 1), 1);
}

static void
new_pipe(int fd[2])
{
    REQUIRE(pipe2(fd, O_NONBLOCK) == 0);
}

TEST(a_number_that_was_closed_unseen_stands_for_its_new_file)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2], again[2];
    struct mpe_test_waiter r;
    for (int edge = 0; edge < 2; edge++) {
        new_pipe(fd);
        wait_readable(e, &r, fd[0], 0);
        pass_byte(e, &r, fd);
        close(fd[0]);
        close(fd[1]);
        new_pipe(again);
        EXPECT_EQ(again[0], fd[0]);
        wait_readable(e, &r, again[0], edge);
        pass_byte(e, &r, again);
        mpe_fd_closing(e, again[0]);
        close(again[0]);
        close(again[1]);
    }
    mpe_close(e);
}

TEST(a_file_that_lives_on_under_another_number_does_not_disturb)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2], other[2];
    struct mpe_test_waiter r, o;
    new_pipe(fd);
    new_pipe(other);
    wait_readable(e, &r, fd[0], 0);
    pass_byte(e, &r, fd);
    int kept = dup(fd[0]);
    close(fd[0]);
    REQUIRE(write(fd[1], "x", 1) == 1); /* an event of a file that has no number here */
    wait_readable(e, &o, other[0], 0);
    pass_byte(e, &o, other);
    struct mpe_test_waiter t = mpe_test_waiter_new();
    REQUIRE_OK(mpe_wait_timer(e, &t.w, mpe_now() + 1000000));
    uint32_t rounds = e->loop->rounds;
    EXPECT_OK(mpe_run_until(e, &t.fired));
    EXPECT(e->loop->rounds - rounds < 20);
    wait_readable(e, &r, kept, 0);
    EXPECT_OK(mpe_run_until(e, &r.fired));
    EXPECT_OK(r.status);
    mpe_close(e);
}

TEST(an_event_without_a_waiter_wakes_the_process_once)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2];
    struct mpe_test_waiter r, t = mpe_test_waiter_new();
    new_pipe(fd);
    wait_readable(e, &r, fd[0], 1);
    pass_byte(e, &r, fd);
    REQUIRE(write(fd[1], "x", 1) == 1);
    wait_readable(e, &r, fd[1], 1); /* keeps the loop alive */
    uint32_t rounds = e->loop->rounds;
    REQUIRE_OK(mpe_wait_timer(e, &t.w, mpe_now() + 20000000));
    EXPECT_OK(mpe_run_until(e, &t.fired));
    EXPECT(e->loop->rounds - rounds < 10);
    wait_readable(e, &t, fd[0], 1);
    EXPECT_OK(mpe_run_until(e, &t.fired));
    mpe_close(e);
}

TEST(a_descriptor_that_is_not_open_and_one_that_is_always_ready_are_refused)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_waiter r = mpe_test_waiter_new();
    int file = open("/proc/self/exe", O_RDONLY);
    EXPECT_EQ(mpe_wait_fd(e, &r.w, -1, MPE_READABLE, MPE_FOREVER), MPE_ESYS);
    EXPECT_EQ(mpe_wait_fd(e, &r.w, 987, MPE_READABLE, MPE_FOREVER), MPE_ESYS);
    EXPECT_EQ(errno, EBADF);
    EXPECT_EQ(mpe_wait_fd(e, &r.w, file, MPE_READABLE, MPE_FOREVER), MPE_ESYS);
    EXPECT_EQ(errno, EPERM);
    EXPECT_EQ(e->loop->fds.waited, 0u);
    mpe_close(e);
}

static void
child_waits(mpe_engine *e, void *arg)
{
    const int *fd = arg;
    struct mpe_test_waiter r;
    wait_readable(e, &r, fd[0], 1);
    pass_byte(e, &r, fd);
    mpe_fd_closing(e, fd[0]);
}

TEST(a_forked_child_waits_for_what_its_parent_waits_for)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2];
    struct mpe_test_waiter r;
    new_pipe(fd);
    wait_readable(e, &r, fd[0], 1);
    EXPECT_EQ(mpe_test_join(e, mpe_test_start(e, child_waits, fd)), 0);
    EXPECT_EQ(r.fired, 0);
    pass_byte(e, &r, fd);
    mpe_close(e);
}

TEST(an_end_that_came_together_with_the_last_bytes_is_reported)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2];
    char bytes[8];
    struct mpe_test_waiter r;
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0);
    wait_readable(e, &r, fd[0], 1);
    REQUIRE(write(fd[1], "last", 4) == 4);
    close(fd[1]);
    EXPECT_OK(mpe_run_until(e, &r.fired));
    EXPECT_EQ(read(fd[0], bytes, sizeof bytes), 4); /* less than there was room for */
    for (int i = 0; i < 2; i++) {
        wait_readable(e, &r, fd[0], 1);
        EXPECT_OK(mpe_run_until(e, &r.fired));
        EXPECT_EQ(read(fd[0], bytes, sizeof bytes), 0);
    }
    mpe_close(e);
}

TEST(what_came_while_no_waiter_was_there_ends_the_next_wait)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2], other[2];
    struct mpe_test_waiter r, o;
    new_pipe(fd);
    new_pipe(other);
    wait_readable(e, &r, fd[0], 1);
    pass_byte(e, &r, fd);
    REQUIRE(write(fd[1], "x", 1) == 1);
    wait_readable(e, &o, other[0], 1);
    pass_byte(e, &o, other);
    wait_readable(e, &r, fd[0], 1);
    EXPECT_OK(mpe_run_until(e, &r.fired));
    mpe_close(e);
}

TEST(a_reader_that_leaves_something_leaves_it_to_the_next)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2];
    struct mpe_test_waiter r[3];
    char byte;
    new_pipe(fd);
    for (int i = 0; i < 3; i++)
        wait_readable(e, &r[i], fd[0], 0);
    REQUIRE(write(fd[1], "abc", 3) == 3);
    for (int i = 0; i < 3; i++) {
        EXPECT_OK(mpe_run_until(e, &r[i].fired));
        EXPECT_EQ(read(fd[0], &byte, 1), 1);
    }
    wait_readable(e, &r[0], fd[0], 0);
    EXPECT_EQ(r[0].fired, 0);
    mpe_close(e);
}

/* Closes its descriptor when it fires. */
struct closer {
    mpe_waiter w;
    int fd, fired;
};

static void
close_at_once(mpe_engine *e, mpe_waiter *w, int status)
{
    struct closer *c = (struct closer *)w;
    (void)status;
    c->fired++;
    mpe_fd_closing(e, c->fd);
    close(c->fd);
}

TEST(a_waiter_may_close_its_descriptor_when_it_fires)
{
    mpe_engine *e = mpe_test_engine(0);
    int fd[2];
    struct mpe_test_waiter w = mpe_test_waiter_new();
    REQUIRE(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fd) == 0);
    struct closer c = {.w = {.fire = close_at_once}, .fd = fd[0]};
    REQUIRE_OK(mpe_wait_fd(e, &c.w, fd[0], MPE_READABLE, MPE_FOREVER));
    REQUIRE_OK(mpe_wait_fd(e, &w.w, fd[0], MPE_WRITABLE, MPE_FOREVER)); /* in the same event */
    close(fd[1]);
    EXPECT_OK(mpe_run_until(e, &w.fired));
    EXPECT_EQ(c.fired, 1);
    EXPECT_EQ(w.fired, 1);
    EXPECT_EQ(e->loop->fds.waited, 0u);
    mpe_close(e);
}
