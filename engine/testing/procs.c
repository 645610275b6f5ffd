/* SPDX-License-Identifier: MIT */
/* Processes, gates and blocking calls for tests; see procs.h. */
#include "testing/procs.h"

#include "loop/loop.h"
#include "core/door.h"
#include "core/slot.h"
#include "objects/limiter.h"
#include "testing/mpe_test.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* The thread sanitizer runs a thread of its own, which a fork would refuse. */
static void
own_the_threads_of_checkers(mpe_engine *e)
{
#ifdef __SANITIZE_THREAD__
    mpe_own_threads(e, 1);
#else
    (void)e;
#endif
}

mpe_engine *
mpe_test_engine(uint64_t max_bytes)
{
    mpe_config config = MPE_CONFIG_INIT;
    mpe_engine *e;
    config.max_bytes = max_bytes;
    REQUIRE_OK(mpe_open(&config, &e));
    own_the_threads_of_checkers(e);
    return e;
}

mpe_process *
mpe_test_start(mpe_engine *e, void (*body)(mpe_engine *e, void *arg), void *arg)
{
    mpe_process *p;
    int is_child;
    REQUIRE_OK(mpe_process_fork(e, "child", 0, (mpe_bytes){NULL, 0}, &p, &is_child));
    if (!is_child)
        return p;
    body(e, arg);
    fflush(stdout);
    _exit(0);
}

static void
wait_for_end(mpe_process *p)
{
    siginfo_t info;
    while (waitid(P_PID, (id_t)mpe_process_pid(p), &info, WEXITED | WNOWAIT) != 0)
        REQUIRE(errno == EINTR);
}

int
mpe_test_join(mpe_engine *e, mpe_process *p)
{
    int code;
    wait_for_end(p);
    REQUIRE_OK(mpe_process_poll(e, p, &code));
    mpe_process_free(e, p);
    return code;
}

void
mpe_test_kill(mpe_process *p)
{
    mpe_test_needs_deaths();
    kill(mpe_process_pid(p), SIGKILL);
    wait_for_end(p);
}

struct mpe_test_gate
mpe_test_gate_new(void)
{
    struct mpe_test_gate g;
    REQUIRE(pipe(g.fd) == 0);
    return g;
}

void
mpe_test_gate_open(struct mpe_test_gate g)
{
    REQUIRE(write(g.fd[1], "!", 1) == 1);
}

void
mpe_test_gate_wait(struct mpe_test_gate g)
{
    char byte;
    while (read(g.fd[0], &byte, 1) != 1)
        REQUIRE(errno == EINTR);
}

static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    struct mpe_test_waiter *x = MPE__CONTAINER(w, struct mpe_test_waiter, w);
    (void)e;
    x->fired++;
    x->status = status;
    x->at = mpe_now();
}

struct mpe_test_waiter
mpe_test_waiter_new(void)
{
    return (struct mpe_test_waiter){.w = {.fire = on_fire}};
}

static int
try_put(mpe_engine *e, mpe_object *o, void *ud)
{
    return mpe_queue_put(e, o, ud, 1, 0);
}

int
mpe_test_put(mpe_engine *e, mpe_object *queue, const void *bytes, size_t size)
{
    mpe_bytes part = {bytes, size};
    return mpe_await(e, queue, MPE_EVENT_SPACE, MPE_FOREVER, try_put, &part);
}

static int
try_get(mpe_engine *e, mpe_object *o, void *ud)
{
    return mpe_queue_get(e, o, ud);
}

int
mpe_test_get(mpe_engine *e, mpe_object *queue, mpe_message *m)
{
    return mpe_await(e, queue, MPE_EVENT_READY, MPE_FOREVER, try_get, m);
}

static int
try_lock(mpe_engine *e, mpe_object *o, void *ud)
{
    (void)ud;
    return mpe_lock_acquire(e, o, 1);
}

int
mpe_test_lock(mpe_engine *e, mpe_object *lock)
{
    return mpe_await(e, lock, MPE_EVENT_READY, MPE_FOREVER, try_lock, NULL);
}

mpe_bytes
mpe_test_bytes(const char *text)
{
    return (mpe_bytes){text, strlen(text)};
}

uint64_t
mpe_test_used(mpe_engine *e)
{
    mpe_stats s;
    mpe_stats_get(e, &s);
    return s.arena_used_bytes;
}

uint64_t
mpe_test_committed(mpe_engine *e)
{
    mpe_stats s;
    mpe_stats_get(e, &s);
    return s.arena_committed_bytes;
}

uint32_t
mpe_test_objects(mpe_engine *e)
{
    mpe_stats s;
    mpe_stats_get(e, &s);
    return s.objects;
}

mpe_object *
mpe_test_event(mpe_engine *e)
{
    mpe_object *o;
    REQUIRE_OK(mpe_event_create(e, &o));
    return o;
}

mpe_bytes
mpe_test_handle_bytes(mpe_buf *b, mpe_handle h)
{
    mpe_buf_init(b);
    REQUIRE_OK(mpe_wire_put_handle(b, h));
    return (mpe_bytes){b->data, b->len};
}

void
mpe_test_put_handle(mpe_engine *e, mpe_object *dict, const char *key, mpe_handle h)
{
    mpe_buf b;
    mpe_bytes bytes = mpe_test_handle_bytes(&b, h);
    REQUIRE_OK(mpe_dict_put(e, dict, mpe_test_bytes(key), bytes, 1));
    mpe_buf_free(&b);
}

static void
report(const char *what, void *ud)
{
    (void)ud;
    mpe_test_fail(__FILE__, __LINE__, "arena: %s", what);
}

void
mpe_test_check(mpe_engine *e)
{
    EXPECT_EQ(mpe_check_arena(e, report, NULL), 0);
}

uint32_t
mpe_test_random(uint32_t *state)
{
    *state = *state * 1664525u + 1013904223u;
    return *state >> 8;
}

mpe_engine *
mpe_test_twin(mpe_engine *e)
{
    mpe_engine *twin = malloc(sizeof *twin);
    REQUIRE(twin != NULL);
    *twin = (mpe_engine){.base = e->base,
                         .header = e->header,
                         .slots = e->slots,
                         .objects = e->objects,
                         .objects_bytes = e->objects_bytes,
                         .seal = e->seal,
                         .kinds = e->kinds,
                         .cpus = e->cpus,
                         .fd = e->fd,
                         .spare_fd = -1,
                         .bell_fd = -1};
    twin->loop = malloc(sizeof *twin->loop);
    REQUIRE(twin->loop != NULL);
    mpe__loop_open(twin, NULL, 0);
    mpe__adopt(twin);
    REQUIRE_OK(mpe__slot_attach(twin, "thread"));
    return twin;
}

void
mpe_test_twin_close(mpe_engine *twin)
{
    mpe__slot_detach(twin);
    mpe_test_twin_free(twin);
}

void
mpe_test_twin_free(mpe_engine *twin)
{
    mpe__loop_close(twin);
    free(twin->loop);
    free(twin->holds);
    free(twin->pins);
    mpe__limiter_lines_free(twin);
    free(twin);
}
