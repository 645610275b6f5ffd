/* SPDX-License-Identifier: MIT */
/* What another process moves about while a sweep goes through the containers. The other process is a second
 * engine on the same arena, which acts at the moment when the sweep comes to a certain container. */
#include "objects/pipe.h"

#include "core/object.h"

#include "testing/deaths.h"
#include "testing/mpe_test.h"
#include "testing/procs.h"

static struct mpe__kind changed[MPE_KIND_COUNT];
static const struct mpe__kind *kinds[MPE_KIND_COUNT], *const *plain;
static mpe_object *stage; /* the container before whose scan act is called, once */
static void (*act)(void);
static mpe_engine *other;

static void
scan_staged(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud)
{
    if (o == stage) {
        stage = NULL;
        act();
    }
    plain[mpe_kind_of(o)]->scan(e, o, visit, ud);
}

static mpe_engine *
begin(void)
{
    mpe_engine *e = mpe_test_engine(0);
    plain = e->kinds;
    for (int i = 0; i < MPE_KIND_COUNT; i++) {
        changed[i] = *plain[i];
        if (changed[i].scan)
            changed[i].scan = scan_staged;
        kinds[i] = &changed[i];
    }
    e->kinds = kinds;
    other = mpe_test_twin(e);
    return e;
}

static void
end(mpe_engine *e)
{
    EXPECT(stage == NULL);
    mpe_test_check(e);
    mpe_test_twin_close(other);
    mpe_close(e);
}

static void
sweep_and_meet(mpe_engine *e, mpe_object *at, void (*what)(void))
{
    stage = at;
    act = what;
    mpe_sweep(e);
}

static mpe_handle from, to, moving; /* dicts, and what lies in the first under "k" */
static mpe_object *taken;

static void
take(void)
{
    mpe_object *dict;
    mpe_buf b;
    mpe_buf_init(&b);
    uint32_t mark = mpe_pin_mark(other);
    REQUIRE_OK(mpe_hold(other, from, &dict));
    REQUIRE_OK(mpe_dict_remove(other, dict, mpe_test_bytes("k"), &b));
    REQUIRE_OK(mpe_hold(other, moving, &taken));
    mpe_unpin(other, mark);
    mpe_drop(other, dict);
    mpe_buf_free(&b);
}

static void
move(void)
{
    mpe_object *dict;
    take();
    REQUIRE_OK(mpe_hold(other, to, &dict));
    mpe_test_put_handle(other, dict, "k", moving);
    mpe_drop(other, dict);
    mpe_drop(other, taken);
}

/* Two dicts that e holds; the sweep comes to *late after the other one. In that one lies a dict, in which
 * lies a dict, in which lies an event: the innermost is returned. */
static mpe_handle
nested(mpe_engine *e, mpe_object **late)
{
    mpe_object *o = mpe_test_event(e), *outer, *early;
    mpe_handle innermost = mpe_handle_of(e, o);
    for (int i = 0; i < 2; i++) {
        REQUIRE_OK(mpe_dict_create(e, &outer));
        mpe_test_put_handle(e, outer, "k", mpe_handle_of(e, o));
        mpe_drop(e, o);
        o = outer;
    }
    REQUIRE_OK(mpe_dict_create(e, late));
    REQUIRE_OK(mpe_dict_create(e, &early));
    mpe_test_put_handle(e, *late, "k", mpe_handle_of(e, o));
    mpe_test_put_handle(e, early, "late", mpe_handle_of(e, *late));
    moving = mpe_handle_of(e, o);
    mpe_drop(e, o);
    from = mpe_handle_of(e, *late);
    to = mpe_handle_of(e, early);
    return innermost;
}

TEST(what_is_taken_out_of_a_container_during_a_sweep_keeps_its_contents)
{
    mpe_engine *e = begin();
    mpe_object *late, *o;
    mpe_handle innermost = nested(e, &late);
    sweep_and_meet(e, late, take);
    EXPECT_OK(mpe_hold(e, innermost, &o));
    mpe_drop(e, o);
    mpe_drop(other, taken);
    mpe_sweep(e);
    EXPECT_EQ(mpe_hold(e, innermost, &o), MPE_ESTALE);
    end(e);
}

TEST(what_moves_behind_a_sweep_keeps_its_contents)
{
    mpe_engine *e = begin();
    mpe_object *late, *o;
    mpe_handle innermost = nested(e, &late);
    sweep_and_meet(e, late, move);
    EXPECT_OK(mpe_hold(e, innermost, &o));
    mpe_drop(e, o);
    mpe_sweep(e);
    EXPECT_OK(mpe_hold(e, innermost, &o));
    end(e);
}

/* ---- ends of pipes ---- */

/* The queue that carries what end 1 sends. */
static mpe_object *
pipe_queue(mpe_engine *e, mpe_object *pipe)
{
    mpe_object *queue;
    REQUIRE_OK(mpe_hold(e, mpe_pipe_queue(e, pipe, 1), &queue));
    return queue;
}

static mpe_object *moved_pipe, *early_queue, *late_queue;

/* The other process takes end 1 out of one queue and puts it into the one that was scanned. */
static void
move_end(void)
{
    mpe_message m;
    mpe_buf b;
    REQUIRE_OK(mpe_queue_get(other, late_queue, &m));
    mpe_bytes bytes = mpe_test_handle_bytes(&b, mpe_pipe_handle(other, moved_pipe, 1));
    REQUIRE_OK(mpe_queue_put(other, early_queue, &bytes, 1, 1));
    mpe_pipe_close(other, moved_pipe, 1);
    mpe_message_free(other, &m);
    mpe_buf_free(&b);
}

TEST(an_end_of_a_pipe_that_moves_behind_a_sweep_stays_open)
{
    mpe_engine *e = begin();
    mpe_buf b;
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &late_queue));
    REQUIRE_OK(mpe_queue_create(e, 0, 0, &early_queue));
    REQUIRE_OK(mpe_pipe_create(e, 0, &moved_pipe));
    mpe_bytes bytes = mpe_test_handle_bytes(&b, mpe_pipe_handle(e, moved_pipe, 1));
    REQUIRE_OK(mpe_queue_put(e, late_queue, &bytes, 1, 1));
    mpe_pipe_close(e, moved_pipe, 1);
    mpe_buf_free(&b);
    bytes = mpe_test_handle_bytes(&b, mpe_handle_of(e, late_queue));
    REQUIRE_OK(mpe_queue_put(e, early_queue, &bytes, 1, 1));
    mpe_buf_free(&b);
    mpe_object *queue = pipe_queue(e, moved_pipe);
    sweep_and_meet(e, late_queue, move_end);
    EXPECT(!mpe_queue_is_closed(e, queue));
    mpe_sweep(e);
    EXPECT(!mpe_queue_is_closed(e, queue));
    end(e);
}

static void
close_end(void)
{
    mpe_pipe_close(other, moved_pipe, 1);
}

TEST(an_end_whose_last_user_leaves_during_a_sweep_is_closed_by_it)
{
    mpe_engine *e = begin();
    mpe_object *dict;
    REQUIRE_OK(mpe_dict_create(e, &dict));
    REQUIRE_OK(mpe_pipe_create(e, 0, &moved_pipe));
    mpe_test_put_handle(e, dict, "k", mpe_pipe_handle(e, moved_pipe, 0));
    mpe_pipe_use(other, moved_pipe, 1);
    mpe_pipe_close(e, moved_pipe, 1);
    mpe_object *queue = pipe_queue(e, moved_pipe);
    EXPECT(!mpe_queue_is_closed(e, queue));
    sweep_and_meet(e, dict, close_end);
    EXPECT(mpe_queue_is_closed(e, queue));
    end(e);
}
