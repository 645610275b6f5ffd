/* SPDX-License-Identifier: MIT */
/* Descriptors on their way to other processes: which keep them open, and until when. */
#include "mpengine_core.h"

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

static int ends[2]; /* of a pipe whose writing end is sent */

static mpe_object *
sent(mpe_engine *e, unsigned flags)
{
    mpe_object *o;
    REQUIRE(mpe_pipe(ends) == 0);
    REQUIRE_OK(mpe_descriptor_create(e, ends[1], mpe_test_bytes("note"), flags, &o));
    close(ends[1]);
    return o;
}

/* Sleeps until no process has the writing end. */
static int
has_ended(void)
{
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    char byte;
    return poll(&p, 1, 5000) == 1 && read(ends[0], &byte, 1) == 0;
}

static int
is_open(void)
{
    struct pollfd p = {.fd = ends[0], .events = POLLIN};
    return poll(&p, 1, 0) == 0;
}

static void
put(mpe_engine *e, mpe_object *queue, mpe_object *o)
{
    mpe_buf b;
    mpe_bytes bytes = mpe_test_handle_bytes(&b, mpe_handle_of(e, o));
    REQUIRE_OK(mpe_queue_put(e, queue, &bytes, 1, 1));
    mpe_buf_free(&b);
    mpe_drop(e, o);
}

static int
get(mpe_engine *e, mpe_object *queue, mpe_object **o)
{
    mpe_message m;
    REQUIRE_OK(mpe_test_get(e, queue, &m));
    int rc = mpe_unpack(e, m.data, m.size, "o", o);
    mpe_message_free(e, &m);
    return rc;
}

static void
write_byte(int fd)
{
    EXPECT_EQ(write(fd, "x", 1), 1);
    close(fd);
}

/* ---- taking ---- */

static void
take_and_write(mpe_engine *e, void *queue)
{
    mpe_object *o;
    int fd;
    REQUIRE_OK(get(e, queue, &o));
    mpe_bytes note = mpe_descriptor_note(e, o);
    EXPECT(note.size == 4 && memcmp(note.data, "note", 4) == 0);
    REQUIRE_OK(mpe_descriptor_take(e, o, &fd));
    EXPECT(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    EXPECT_EQ(mpe_descriptor_take(e, o, &fd), MPE_ECLOSED);
    write_byte(fd);
    mpe_drop(e, o);
}

TEST(another_process_takes_it_once_though_its_maker_computes)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    mpe_process *p = mpe_test_start(e, take_and_write, queue);
    put(e, queue, sent(e, MPE_DESCRIPTOR_ONCE));
    while (is_open()) /* no call of the engine */
        ;
    char byte;
    EXPECT_EQ(read(ends[0], &byte, 1), 1);
    EXPECT(has_ended());
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_test_check(e);
    mpe_close(e);
}

TEST(its_own_process_takes_it_too)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = sent(e, MPE_DESCRIPTOR_ONCE);
    int fd;
    REQUIRE_OK(mpe_descriptor_take(e, o, &fd));
    EXPECT_EQ(mpe_descriptor_take(e, o, &fd), MPE_ECLOSED);
    EXPECT(is_open());
    close(fd);
    EXPECT(has_ended());
    mpe_drop(e, o);
    mpe_close(e);
}

static void
take_twice(mpe_engine *e, void *arg)
{
    int fd;
    for (int i = 0; i < 2; i++) {
        REQUIRE_OK(mpe_descriptor_take(e, arg, &fd));
        write_byte(fd);
    }
}

TEST(one_that_is_kept_is_open_until_it_is_freed)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = sent(e, 0);
    char bytes[9];
    EXPECT_EQ(mpe_test_join(e, mpe_test_start(e, take_twice, o)), 0);
    EXPECT_EQ(read(ends[0], bytes, sizeof bytes), 2);
    EXPECT(is_open());
    mpe_drop(e, o);
    EXPECT(has_ended());
    mpe_close(e);
}

/* ---- what is not taken ---- */

TEST(a_dropped_queue_closes_what_is_in_it)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    put(e, queue, sent(e, MPE_DESCRIPTOR_ONCE));
    EXPECT(is_open());
    mpe_drop(e, queue);
    EXPECT(has_ended());
    mpe_close(e);
}

TEST(what_is_replaced_in_a_dict_is_closed)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *dict, *o = sent(e, 0);
    REQUIRE_OK(mpe_dict_create(e, &dict));
    mpe_test_put_handle(e, dict, "k", mpe_handle_of(e, o));
    mpe_drop(e, o);
    EXPECT(is_open());
    REQUIRE_OK(mpe_dict_put(e, dict, mpe_test_bytes("k"), mpe_test_bytes("v"), 0));
    REQUIRE_OK(mpe_event_create(e, &o)); /* one of the calls that sweep, when that is due */
    EXPECT(has_ended());
    mpe_close(e);
}

TEST(a_withdrawn_one_is_closed)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = sent(e, 0);
    int fd;
    mpe_descriptor_withdraw(e, o);
    EXPECT(has_ended());
    EXPECT_EQ(mpe_descriptor_take(e, o, &fd), MPE_ECLOSED);
    mpe_drop(e, o);
    mpe_close(e);
}

TEST(one_without_a_descriptor_is_closed_from_the_start)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o;
    int fd;
    REQUIRE_OK(mpe_descriptor_create(e, -1, (mpe_bytes){NULL, 0}, 0, &o));
    EXPECT_EQ(mpe_descriptor_take(e, o, &fd), MPE_ECLOSED);
    EXPECT_EQ(mpe_descriptor_create(e, 9999, (mpe_bytes){NULL, 0}, 0, &o), MPE_ESYS);
    EXPECT_EQ(errno, EBADF);
    EXPECT_EQ(mpe_descriptor_create(e, 0, (mpe_bytes){NULL, 0}, 7, &o), MPE_EINVAL);
    mpe_close(e);
}

TEST(closing_the_engine_closes_what_it_keeps)
{
    mpe_engine *e = mpe_test_engine(0);
    sent(e, 0);
    mpe_close(e);
    EXPECT(has_ended());
}

static void
send_and_wait(mpe_engine *e, void *queue)
{
    put(e, queue, sent(e, MPE_DESCRIPTOR_ONCE));
    pause();
}

TEST(with_its_maker_it_is_closed_on_its_way)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue, *o;
    int fd;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    mpe_process *p = mpe_test_start(e, send_and_wait, queue);
    REQUIRE_OK(get(e, queue, &o));
    mpe_test_kill(p);
    EXPECT_EQ(mpe_descriptor_take(e, o, &fd), MPE_ECLOSED);
    EXPECT_EQ(mpe_test_join(e, p), -9);
    mpe_close(e);
}

static void
send_and_end(mpe_engine *e, void *queue)
{
    put(e, queue, sent(e, MPE_DESCRIPTOR_ONCE));
    sent(e, 0);
    mpe_leave(e);
    mpe_descriptor_linger(e, MPE_FOREVER / 2);
    _exit(7);
}

TEST(a_maker_can_wait_until_it_was_taken)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue, *o;
    int fd;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    mpe_process *p = mpe_test_start(e, send_and_end, queue);
    REQUIRE_OK(get(e, queue, &o));
    REQUIRE_OK(mpe_descriptor_take(e, o, &fd));
    EXPECT_EQ(mpe_test_join(e, p), 7);
    close(fd);
    p = mpe_test_start(e, send_and_end, queue);
    REQUIRE_OK(get(e, queue, &o));
    mpe_drop(e, o); /* unread, and swept when that is due */
    EXPECT_EQ(mpe_test_join(e, p), 7);
    mpe_close(e);
}

static void
wait_with_a_copy(mpe_engine *e, void *gate)
{
    (void)e;
    mpe_test_gate_wait(*(struct mpe_test_gate *)gate);
}

TEST(a_child_started_meanwhile_does_not_keep_it_open)
{
    mpe_engine *e = mpe_test_engine(0);
    struct mpe_test_gate gate = mpe_test_gate_new();
    mpe_object *o = sent(e, 0);
    mpe_process *p = mpe_test_start(e, wait_with_a_copy, &gate);
    mpe_descriptor_withdraw(e, o); /* the child holds the object as well */
    EXPECT(has_ended());
    mpe_test_gate_open(gate);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_close(e);
}

/* ---- without descriptors ---- */

static void
take_at_the_limit(mpe_engine *e, void *arg)
{
    int fd, full[64], n = 0;
    struct rlimit limit = {64, 64};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    while (n < 64 && (full[n] = dup(2)) >= 0)
        n++;
    for (int free = 0; free <= 2; free++) {
        int rc = mpe_descriptor_take(e, arg, &fd);
        if (rc == MPE_OK) {
            write_byte(fd);
            return;
        }
        EXPECT_EQ(rc, MPE_ESYS);
        EXPECT_EQ(errno, EMFILE);
        close(full[--n]);
    }
    close(full[--n]);
    REQUIRE_OK(mpe_descriptor_take(e, arg, &fd));
    write_byte(fd);
}

TEST(a_taker_without_room_can_try_again)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *o = sent(e, MPE_DESCRIPTOR_ONCE);
    char byte;
    EXPECT_EQ(mpe_test_join(e, mpe_test_start(e, take_at_the_limit, o)), 0);
    EXPECT_EQ(read(ends[0], &byte, 1), 1);
    EXPECT(has_ended());
    mpe_drop(e, o);
    mpe_close(e);
}

static void
take_all(mpe_engine *e, void *queue)
{
    for (int i = 0; i < 10000; i++) {
        mpe_object *o;
        int fd;
        REQUIRE_OK(get(e, queue, &o));
        REQUIRE_OK(mpe_descriptor_take(e, o, &fd));
        close(fd);
        mpe_drop(e, o);
    }
}

TEST_LIMIT(ten_thousand_need_no_more_descriptors_than_are_on_their_way, 60)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *queue, *o;
    struct rlimit limit = {64, 64};
    REQUIRE(setrlimit(RLIMIT_NOFILE, &limit) == 0);
    REQUIRE_OK(mpe_queue_create(e, 8, 0, &queue));
    mpe_process *p = mpe_test_start(e, take_all, queue);
    for (int i = 0; i < 10000; i++) {
        mpe_buf b;
        REQUIRE_OK(mpe_descriptor_create(e, 2, (mpe_bytes){NULL, 0}, MPE_DESCRIPTOR_ONCE, &o));
        mpe_bytes bytes = mpe_test_handle_bytes(&b, mpe_handle_of(e, o));
        REQUIRE_OK(mpe_put(e, queue, bytes.data, bytes.size, MPE_FOREVER));
        mpe_buf_free(&b);
        mpe_drop(e, o);
    }
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_test_check(e);
    mpe_close(e);
}
