/* SPDX-License-Identifier: MIT */
/* Engines that are driven by a loop of the host.
 *
 * MPE_SERVED_BY_LOOP: the host runs the libuv loop. A prepare handle, the last before the poll, and
 * a check handle behind it run what is ready. Before the poll they publish that this process
 * sleeps there, as the engine's own sleep in the loop does (uv.c), and set the timer. The check
 * handle is referenced exactly while a wait can still end, so that it keeps the loop alive no longer.
 * That is computed in each turn; what begins a wait or posts a job references it, since libuv may
 * look only before the first turn. In a turn that the engine makes itself, for a wait of its own or
 * a look at descriptors, both handles do nothing.
 *
 * mpe_poll_begin: the host polls the loop's descriptors. Whatever was not yet told to the kernel is
 * told in a turn that does not block.
 *
 * All of it is private to this process.
 */
#include "loop/loop.h"

#include "core/door.h"

#define NS_PER_MS 1000000u

static void
set_kept(mpe_engine *e, int kept)
{
    struct mpe__loop *l = e->loop;
    if (l->keeps_loop == kept)
        return;
    l->keeps_loop = kept;
    if (kept) {
        l->own_active++;
        uv_ref((uv_handle_t *)&l->after_poll);
    } else {
        l->own_active--;
        uv_unref((uv_handle_t *)&l->after_poll);
    }
}

void
mpe__keep_loop(mpe_engine *e)
{
    if (mpe_loop(e)) /* not without descriptors: then the host's call of it fails as well */
        set_kept(e, 1);
}

static int
has_more(mpe_engine *e)
{
    return e->loop->jobs_head || atomic_load(&e->self->bell) != 0;
}

/* Is there, or can there come, anything to do? What libuv waits for keeps the loop by itself. */
static int
can_go_on(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    uint64_t awaited;
    mpe__next_timer(e, &awaited);
    return has_more(e) || awaited != MPE_FOREVER || l->keep_alive > 0 || l->ends_apart > 0 ||
           (l->entries > 0 && mpe__others_live(e));
}

/* 0: the engine is gone. */
static int
serve(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    uv_idle_stop(&l->again); /* a wait inside would not sleep */
    l->serving++;
    mpe__tell_turn(e);
    mpe__round(e);
    if (--l->serving == 0 && l->close_after) {
        l->close_after(e);
        return 0;
    }
    return 1;
}

static void
on_again(uv_idle_t *handle)
{
    (void)handle; /* that it is active keeps the poll from blocking */
}

static void
settle(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    set_kept(e, can_go_on(e));
    if (has_more(e))
        uv_idle_start(&l->again, on_again);
}

void
mpe__serve_before_poll(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    if (!l->is_served || l->turning || l->serving || !serve(e))
        return;
    settle(e);
    if (has_more(e) || mpe__uv_arm(e) != MPE_OK)
        return;
    uint64_t awaited, first = mpe__next_timer(e, &awaited), limit = mpe__uv_look_by(e);
    mpe__uv_wake_at(e, first < limit ? first : limit);
    if (has_more(e)) /* rung after the last look, before this process said that it sleeps */
        uv_idle_start(&l->again, on_again);
}

static void
on_after_poll(uv_check_t *handle)
{
    mpe_engine *e = handle->data;
    struct mpe__loop *l = e->loop;
    if (l->awaited || l->turning || l->serving || !mpe__is_ours(e))
        return;
    atomic_store(&e->self->sleep, MPE__AWAKE);
    if (l->bell_ready)
        uv_timer_stop(&l->timer);
    if (serve(e))
        settle(e);
}

void
mpe__serve_begin(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    uv_check_init(l->uv, &l->after_poll);
    uv_idle_init(l->uv, &l->again);
    l->after_poll.data = e;
    uv_check_start(&l->after_poll, on_after_poll);
    uv_unref((uv_handle_t *)&l->after_poll);
    uv_unref((uv_handle_t *)&l->again);
}

void
mpe__serve_end(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    if (!l->is_served)
        return;
    set_kept(e, 0);
    uv_close((uv_handle_t *)&l->after_poll, NULL);
    uv_close((uv_handle_t *)&l->again, NULL);
}

/* ---- a loop that is not libuv's ---- */

/* Has the loop something that the kernel's set does not know yet? */
static int
has_untold(const uv_loop_t *uv)
{
    return *(void *const *)&uv->watcher_queue != (const void *)&uv->watcher_queue;
}

/* When the loop's own timers and closed handles are due. */
static uint64_t
loop_deadline(mpe_engine *e)
{
    if (!mpe__uv_alive(e))
        return MPE_FOREVER;
    uv_update_time(e->loop->uv);
    int ms = uv_backend_timeout(e->loop->uv);
    return ms < 0 ? MPE_FOREVER : mpe_now() + (uint64_t)ms * NS_PER_MS;
}

static uint64_t
least(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

int
mpe_poll_begin(mpe_engine *e, int *fd, uint64_t *deadline)
{
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    uv_loop_t *uv = mpe_loop(e);
    if (!uv)
        return mpe__failure();
    if (mpe__uv_arm(e) != MPE_OK)
        return MPE_ESYS;
    if (has_untold(uv))
        mpe__uv_turn_always(e);
    e->loop->host_polls = 1;
    if (fd)
        *fd = uv_backend_fd(uv);
    if (!deadline)
        return MPE_OK;
    uint64_t awaited;
    *deadline = least(least(mpe__next_timer(e, &awaited), mpe__uv_look_by(e)), loop_deadline(e));
    if (e->loop->jobs_head || mpe__bell_rung(e))
        *deadline = mpe_now();
    return MPE_OK;
}
