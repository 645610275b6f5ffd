/* SPDX-License-Identifier: MIT */
/* Views: a program seen from outside, read-only. */
#include "mpengine_core.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

static mpe_view *
view_of(int pid)
{
    mpe_view *v = NULL;
    REQUIRE_OK(mpe_view_open(pid, &v));
    return v;
}

static mpe_view_object
object_of(mpe_view *v, int kind)
{
    mpe_view_object o;
    uint32_t at = 0;
    while (mpe_view_object_next(v, &at, &o) == MPE_OK)
        if (o.kind == kind)
            return o;
    memset(&o, 0, sizeof o);
    return o;
}

TEST(a_view_shows_the_program_and_its_processes)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_view *v = view_of(getpid());
    mpe_view_info info;
    mpe_view_process p;
    uint32_t slot = 0;
    *mpe_self_tasks(e) = 7;
    mpe_view_info_get(v, &info);
    EXPECT_EQ(info.processes, 1);
    EXPECT_EQ(info.tasks, 7);
    EXPECT_EQ(info.objects, 0);
    EXPECT(strstr(info.command, "view_test") != NULL);
    EXPECT(!info.is_reader);
    REQUIRE_OK(mpe_view_process_next(v, &slot, &p));
    EXPECT_EQ(p.pid, getpid());
    EXPECT_EQ(p.parent_slot, -1);
    EXPECT(strcmp(p.name, "MainProcess") == 0);
    EXPECT_EQ(mpe_view_process_next(v, &slot, &p), MPE_ENOENT);
    mpe_view_close(v);
    mpe_close(e);
}

TEST(a_view_shows_objects_as_they_are)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *lock, *queue, *dict, *list, *event, *semaphore, *barrier, *array;
    REQUIRE_OK(mpe_lock_create(e, 0, &lock));
    REQUIRE_OK(mpe_queue_create(e, 20, 0, &queue));
    REQUIRE_OK(mpe_dict_create(e, &dict));
    REQUIRE_OK(mpe_list_create(e, &list));
    REQUIRE_OK(mpe_event_create(e, &event));
    REQUIRE_OK(mpe_semaphore_create(e, 5, 0, &semaphore));
    REQUIRE_OK(mpe_barrier_create(e, 3, (mpe_bytes){NULL, 0}, &barrier));
    REQUIRE_OK(mpe_array_create(e, 'd', 9, 0, &array));
    REQUIRE_OK(mpe_object_label(e, lock, mpe_test_bytes("till"), mpe_place_note(e, "a.lua:3")));
    mpe_view *v = view_of(getpid());
    EXPECT_OK(mpe_lock_acquire(e, lock, mpe_owner_new(e)));
    for (int i = 0; i < 3; i++)
        EXPECT_OK(mpe_test_put(e, queue, "x", 1));
    EXPECT_OK(mpe_dict_put(e, dict, mpe_test_bytes("k"), mpe_test_bytes("v"), 0));
    EXPECT_OK(mpe_list_insert(e, list, 0, mpe_test_bytes("v"), 0));
    mpe_event_set(e, event);
    EXPECT_OK(mpe_semaphore_acquire(e, semaphore));
    mpe_view_object o = object_of(v, MPE_KIND_LOCK);
    EXPECT(o.name.size == 4 && memcmp(o.name.data, "till", 4) == 0);
    EXPECT(o.place && strcmp(o.place, "a.lua:3") == 0);
    EXPECT_EQ(mpe_view_place(v, mpe_place_note(e, "a.lua:3")), o.place);
    EXPECT(mpe_view_place(v, 0) == NULL && mpe_view_place(v, 1000000) == NULL);
    EXPECT(o.lock.locked);
    EXPECT_EQ(o.handle, mpe_handle_of(e, lock));
    o = object_of(v, MPE_KIND_QUEUE);
    EXPECT_EQ(o.depth, 3);
    EXPECT_EQ(o.bound, 20);
    EXPECT_EQ(o.puts, 3);
    EXPECT_EQ(o.holders, 1);
    EXPECT_EQ(object_of(v, MPE_KIND_DICT).depth, 1);
    EXPECT_EQ(object_of(v, MPE_KIND_LIST).depth, 1);
    EXPECT(object_of(v, MPE_KIND_EVENT).is_set);
    EXPECT_EQ(object_of(v, MPE_KIND_SEMAPHORE).depth, 4);
    EXPECT_EQ(object_of(v, MPE_KIND_BARRIER).bound, 3);
    EXPECT_EQ(object_of(v, MPE_KIND_ARRAY).depth, 9);
    mpe_view_close(v);
    mpe_close(e);
}

TEST(the_own_program_can_be_viewed_as_well)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_view *v;
    mpe_view_info info;
    REQUIRE_OK(mpe_view_own(e, &v));
    mpe_view_info_get(v, &info);
    EXPECT_EQ(info.processes, 1);
    mpe_view_close(v);
    mpe_view_close(NULL);
    mpe_close(e);
}

static void
wait_for_event(mpe_engine *e, void *arg)
{
    mpe_wait(e, arg, MPE_FOREVER);
}

TEST(a_view_shows_which_process_waits)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *event = mpe_test_event(e);
    mpe_process *p = mpe_test_start(e, wait_for_event, event);
    mpe_view *v = view_of(mpe_process_pid(p)); /* a child stands for its program */
    mpe_view_object o;
    do
        o = object_of(v, MPE_KIND_EVENT);
    while (o.waiters == 0);
    uint32_t slot = 0, at = 0;
    mpe_view_process first, child;
    REQUIRE_OK(mpe_view_process_next(v, &slot, &first));
    REQUIRE_OK(mpe_view_process_next(v, &slot, &child));
    REQUIRE_OK(mpe_view_object_next(v, &at, &o));
    EXPECT_EQ(child.pid, mpe_process_pid(p));
    EXPECT_EQ(child.parent_slot, (int)first.slot);
    EXPECT(mpe_view_waits(v, at, child.slot));
    EXPECT(!mpe_view_waits(v, at, first.slot));
    mpe_event_set(e, event);
    EXPECT_EQ(mpe_test_join(e, p), 0);
    mpe_view_close(v);
    mpe_close(e);
}

TEST(a_view_shows_the_workers_of_a_pool)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_object *board, *queue;
    mpe_leases b;
    mpe_view_worker w;
    mpe_message m;
    uint64_t worker = 0, since;
    uint32_t at = 0;
    mpe_view_object o;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &queue));
    REQUIRE_OK(mpe_lease_create(e, 4, 8, &board));
    REQUIRE_OK(mpe_lease_board(e, board, &b));
    mpe_lease_ready(&b, 2);
    EXPECT_OK(mpe_test_put(e, queue, "x", 1));
    REQUIRE_OK(mpe_lease_take(e, &b, 2, queue, &m, &since));
    mpe_lease_offer(&b, 0);
    EXPECT_OK(mpe_lease_begin(&b, 2, 0, 0, 0));
    mpe_view *v = view_of(getpid());
    while (mpe_view_object_next(v, &at, &o) == MPE_OK && !o.is_board)
        ;
    REQUIRE_OK(mpe_view_worker_next(v, at, &worker, &w));
    EXPECT_EQ(w.worker, 2);
    EXPECT_EQ(w.pid, getpid());
    EXPECT(w.is_running);
    EXPECT_EQ(w.since, since);
    EXPECT_EQ(mpe_view_worker_next(v, at, &worker, &w), MPE_ENOENT);
    mpe_message_free(e, &m);
    mpe_view_close(v);
    mpe_close(e);
}

TEST(what_cannot_be_viewed_is_refused)
{
    mpe_view *v;
    EXPECT_EQ(mpe_view_open(0, &v), MPE_EINVAL);
    EXPECT_EQ(mpe_view_open(getpid(), &v), MPE_ETYPE);
    EXPECT_EQ(mpe_view_open((1 << 22) + 5, &v), MPE_ENOENT);
    if (geteuid() == 0) {
        REQUIRE(seteuid(65534) == 0);
        EXPECT_EQ(mpe_view_open(1, &v), MPE_EPERM);
        REQUIRE(seteuid(0) == 0);
    }
}

TEST(a_program_of_another_layout_is_refused)
{
    char junk[4096] = "of another version";
    mpe_view *v;
    int fd = memfd_create("mpengine", 0);
    REQUIRE(fd >= 0 && write(fd, junk, sizeof junk) == sizeof junk);
    EXPECT_EQ(mpe_view_open(getpid(), &v), MPE_EVERSION);
    close(fd);
}

static int seen;

static void
count_view(void *ud, int pid, int status, mpe_view *v)
{
    (void)pid, (void)status;
    mpe_view_info info;
    if (!v)
        return;
    mpe_view_info_get(v, &info);
    seen += info.nonce == *(uint64_t *)ud;
    mpe_view_close(v);
}

TEST(each_program_is_found_once_and_readers_are_not)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_view *v = view_of(getpid());
    mpe_view_info info;
    mpe_view_info_get(v, &info);
    EXPECT_OK(mpe_views_each(count_view, &info.nonce));
    EXPECT_EQ(seen, 1);
    mpe_view_hide(e);
    EXPECT_OK(mpe_views_each(count_view, &info.nonce));
    EXPECT_EQ(seen, 1);
    mpe_view_close(v);
    mpe_close(e);
}

TEST(a_reader_is_no_program)
{
    mpe_config c = MPE_CONFIG_INIT;
    mpe_engine *e;
    mpe_view *v;
    c.flags = MPE_READER;
    c.arena = "an arena that is not entered";
    REQUIRE_OK(mpe_open(&c, &e));
    EXPECT_EQ(mpe_view_open(getpid(), &v), MPE_ETYPE);
    mpe_close(e);
}

TEST(a_process_that_answers_is_asked_by_a_signal)
{
    mpe_engine *e = mpe_test_engine(0);
    mpe_view *v = view_of(getpid());
    siginfo_t info;
    sigset_t asked;
    EXPECT_EQ(mpe_view_ask(v, 0, 42), MPE_ETYPE);
    sigemptyset(&asked);
    sigaddset(&asked, MPE_ASK_SIGNAL);
    sigprocmask(SIG_BLOCK, &asked, NULL);
    mpe_self_answers(e, 1);
    EXPECT_OK(mpe_view_ask(v, 0, 42));
    EXPECT_EQ(sigwaitinfo(&asked, &info), MPE_ASK_SIGNAL);
    EXPECT_EQ(info.si_value.sival_int, 42);
    EXPECT_EQ(mpe_view_ask(v, 9, 42), MPE_ENOENT);
    mpe_view_close(v);
    mpe_close(e);
}

TEST(the_time_of_the_loop_can_be_read_without_a_call)
{
    mpe_engine *e = mpe_test_engine(0);
    const uint64_t *clock = mpe_loop_clock(e);
    uint64_t before = mpe_now();
    mpe_loop_look(e);
    EXPECT(*clock >= before && *clock <= mpe_now());
    mpe_close(e);
}
