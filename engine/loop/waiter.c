/* Waiters. For each (object, event) this process keeps one entry: the waiters in arrival order,
 * and whether its bit is set in the object's waiter set. A waker that clears the bit rings the
 * bell with the bucket of the object; the entries of that bucket whose bit is gone are served.
 *
 * Serving fires the first waiter, which tries again and then either files itself again, in
 * front, or reports that it is done. Then the bit is set again for the waiters behind it, and if
 * the object looks ready the next one is served at once, here or in another process. So a
 * wake-up is never lost with a waiter that timed out, was cancelled, or found nothing. How many
 * waiters are fired, and which process is next, is the policy that the kind states for the event
 * (struct mpe__wake).
 *
 * What time alone makes ready, the kind says for the entry (due): then its first waiter is served as
 * if the object had rung. Of an event whose turn is assigned, one waiter at a time is fired, so that
 * the order of arrival stays when it finds nothing.
 *
 * A waiter that succeeds right after it was filed may leave others behind it that had no bit set
 * when the object changed. When it leaves, it checks on their behalf.
 */
#include "loop/loop.h"
#include "core/door.h"

#define SPIN_NS 2000u

/* ---- lists ---- */

void
mpe__waitlist_append(mpe_waitlist *list, mpe_waiter *w)
{
    w->list = list;
    w->next = NULL;
    w->prev = list->tail;
    if (list->tail)
        list->tail->next = w;
    else
        list->head = w;
    list->tail = w;
}

static void
put_first(mpe_waitlist *list, mpe_waiter *w)
{
    w->list = list;
    w->prev = NULL;
    w->next = list->head;
    if (list->head)
        list->head->prev = w;
    else
        list->tail = w;
    list->head = w;
}

void
mpe__waitlist_remove(mpe_waiter *w)
{
    mpe_waitlist *list = w->list;
    if (!list)
        return;
    if (w->prev)
        w->prev->next = w->next;
    else
        list->head = w->next;
    if (w->next)
        w->next->prev = w->prev;
    else
        list->tail = w->prev;
    w->list = NULL;
}

static int
set_deadline(mpe_engine *e, mpe_waiter *w, uint64_t deadline)
{
    w->deadline = deadline;
    w->heap_index = 0;
    w->is_aside = 0;
    mpe__has_work(e);
    return deadline == MPE_FOREVER ? MPE_OK : mpe__heap_push(&e->loop->timers, &e->memory, w);
}

/* ---- entries ---- */

static struct mpe__entry **
find_entry(mpe_engine *e, mpe_object *o, int event)
{
    struct mpe__entry **p = &e->loop->buckets[mpe__bucket(mpe__index_of(e, o))];
    while (*p && ((*p)->object != o || (*p)->event != event))
        p = &(*p)->next;
    return p;
}

static struct mpe__entry *
make_entry(mpe_engine *e, mpe_object *o, int event, struct mpe__entry **at)
{
    struct mpe__entry *n = e->loop->spare;
    if (n)
        e->loop->spare = n->next;
    else if (!(n = mpe__new(&e->memory, sizeof *n)))
        return NULL;
    *n = (struct mpe__entry){.object = o, .event = event};
    *at = n;
    e->loop->entries++;
    mpe__has_work(e);
    return n;
}

struct mpe__clock {
    mpe_waiter timer;
    struct mpe__entry *entry;
};

void
mpe__entry_free(mpe_engine *e, struct mpe__entry *n)
{
    mpe__delete(&e->memory, n->clock, sizeof *n->clock);
    mpe__delete(&e->memory, n, sizeof *n);
}

static void
free_if_unused(mpe_engine *e, struct mpe__entry **at)
{
    struct mpe__entry *n = *at;
    if (n->list.head || n->pending)
        return;
    if (n->clock) {
        mpe__heap_remove(&e->loop->timers, &n->clock->timer);
        mpe__delete(&e->memory, n->clock, sizeof *n->clock);
        n->clock = NULL;
    }
    *at = n->next;
    n->next = e->loop->spare;
    e->loop->spare = n;
    e->loop->entries--;
}

static int
is_ready(mpe_engine *e, mpe_object *o, int event)
{
    const struct mpe__kind *kind = mpe__kind_of(e, o);
    return kind->ready ? kind->ready(e, o, event) : 0;
}

int
mpe_spin_for(mpe_engine *e, mpe_object *o, int event)
{
    if (!mpe__admits(e, o, MPE__ANY_KIND))
        return 0;
    struct mpe__loop *l = e->loop;
    if (l->jobs_head || l->spin_score[0] == 0 || !mpe__may_spin(e))
        return 0;
    uint64_t until = mpe_now() + SPIN_NS;
    do {
        for (int i = 0; i < 16; i++) {
            if (is_ready(e, o, event))
                return 1;
            mpe__pause();
        }
    } while (mpe_now() < until);
    return 0;
}

static void
arm(mpe_engine *e, struct mpe__entry *n)
{
    n->armed = 1;
    mpe__set_add(&n->object->waiters[n->event], e->slot);
    mpe__fence(); /* the bit is set, then the object is checked again */
}

static const struct mpe__wake *
wake_of(const mpe_engine *e, const struct mpe__entry *n)
{
    return &mpe__kind_of(e, n->object)->wake[n->event];
}

static int
has_event(const mpe_engine *e, const mpe_object *o, int event)
{
    return event >= 0 && event < MPE_EVENTS &&
           mpe__kind_of(e, o)->wake[event].turn != MPE__TURN_NONE;
}

static void serve(mpe_engine *e, struct mpe__entry *n);

/* The time has come that the kind has given. */
static void
on_clock(mpe_engine *e, mpe_waiter *w, int status)
{
    struct mpe__entry *n = MPE__CONTAINER(w, struct mpe__clock, timer)->entry;
    (void)status;
    mpe__set_remove(&n->object->waiters[n->event], e->slot);
    n->pending++; /* stays meanwhile */
    serve(e, n);
    n->pending--;
    free_if_unused(e, find_entry(e, n->object, n->event));
}

/* After the bit is set: a change that is not in this answer finds it. */
static int
set_clock(mpe_engine *e, struct mpe__entry *n)
{
    const struct mpe__wake *wake = wake_of(e, n);
    if (!wake->due || !n->list.head)
        return MPE_OK;
    if (!n->clock && !(n->clock = mpe__new_zeroed(&e->memory, sizeof *n->clock)))
        return MPE_ENOMEM;
    n->clock->entry = n;
    n->clock->timer.fire = on_clock;
    mpe__heap_remove(&e->loop->timers, &n->clock->timer);
    return set_deadline(e, &n->clock->timer, wake->due(e, n->object));
}

/* Does this process have a turn that it does not use? Then the next waiter, here or elsewhere,
 * gets it. */
static void
pass_on(mpe_engine *e, struct mpe__entry *n)
{
    if (n->list.head && !n->armed)
        arm(e, n);
    set_clock(e, n); /* where the one before was: there is room */
    if (!is_ready(e, n->object, n->event))
        return;
    const struct mpe__wake *wake = wake_of(e, n);
    if (wake->wake) {
        wake->wake(e, n->object);
    } else if (wake->turn != MPE__TURN_ASSIGNED) {
        mpe__wake_one(e, n->object, n->event);
    } else if (n->list.head) {
        mpe__set_remove(&n->object->waiters[n->event], e->slot);
        mpe__ring(e, e->slot, 1u << mpe__bucket(mpe__index_of(e, n->object)));
    }
}

static void
fire(mpe_engine *e, struct mpe__entry *n, mpe_waiter *w)
{
    mpe__waitlist_remove(w);
    mpe__heap_remove(&e->loop->timers, w);
    w->fired = 1;
    n->pending++;
    w->fire(e, w, MPE_OK);
}

static void
serve(mpe_engine *e, struct mpe__entry *n)
{
    const struct mpe__wake *wake = wake_of(e, n);
    mpe_waiter *last = wake->turn == MPE__TURN_ALL ? n->list.tail : n->list.head;
    n->armed = 0;
    e->loop->quiet = 0;
    if (wake->turn == MPE__TURN_ASSIGNED && n->pending > 1)
        return; /* the one that was fired reports, and then the object is looked at */
    if (wake->awake)
        wake->awake(e, n->object);
    while (last && n->list.head) {
        mpe_waiter *w = n->list.head;
        fire(e, n, w);
        if (w == last)
            break;
    }
}

static void
serve_bucket(mpe_engine *e, uint32_t bucket, int everything)
{
    for (struct mpe__entry **at = &e->loop->buckets[bucket], *n; (n = *at) != NULL;) {
        struct mpe__slotset *set = &n->object->waiters[n->event];
        n->pending++; /* stays, whatever its waiters do when fired */
        if (n->armed && everything)
            mpe__set_remove(set, e->slot);
        if (n->armed && (everything || !mpe__set_has(set, e->slot)))
            serve(e, n);
        n->pending--;
        at = find_entry(e, n->object, n->event); /* those before it may be gone */
        free_if_unused(e, at);
        if (*at == n)
            at = &n->next;
    }
}

void
mpe__dispatch_bell(mpe_engine *e)
{
    if (MPE__LIKELY(atomic_load_explicit(&e->self->bell, memory_order_relaxed) == 0))
        return;
    uint32_t bits = atomic_exchange(&e->self->bell, 0);
    int everything = (bits & MPE__BROADCAST) != 0;
    if (everything)
        bits = ~0u;
    if (bits & MPE__DELIVERY) {
        mpe__offload_dispatch(e);
        mpe__send_dispatch(e);
    }
    for (uint32_t i = 0; i < MPE__BUCKETS && e->loop->entries; i++)
        if (bits >> i & 1)
            serve_bucket(e, i, everything);
}

/* ---- public ---- */

int
mpe_wait_object(mpe_engine *e, mpe_waiter *w, mpe_object *o, int event, uint64_t deadline)
{
    if (!w)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__ANY_KIND))
        return mpe__refusal(e, o, MPE__ANY_KIND);
    if (!has_event(e, o, event))
        return MPE_EINVAL;
    if (w->fired && (w->object != o || w->event != event))
        mpe_wait_done(e, w);
    struct mpe__entry **at = find_entry(e, o, event), *n = *at;
    if (!n && !(n = make_entry(e, o, event, at)))
        return MPE_ENOMEM;
    int again = w->fired;
    w->fired = 0;
    w->object = o;
    w->event = event;
    w->list = NULL;
    n->pending -= again != 0;
    int rc = set_deadline(e, w, deadline);
    if (rc != MPE_OK) {
        pass_on(e, n);
        free_if_unused(e, at);
        return rc;
    }
    if (again)
        put_first(&n->list, w);
    else
        mpe__waitlist_append(&n->list, w);
    if (!n->armed)
        arm(e, n);
    rc = set_clock(e, n);
    if (rc != MPE_OK)
        mpe_wait_stop(e, w);
    return rc;
}

int
mpe_wait_list(mpe_engine *e, mpe_waiter *w, mpe_waitlist *list, uint64_t deadline)
{
    if (!w)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    w->object = NULL;
    w->list = NULL;
    w->fired = 0;
    int rc = set_deadline(e, w, deadline);
    if (rc == MPE_OK && list)
        mpe__waitlist_append(list, w);
    return rc;
}

int
mpe_wait_timer(mpe_engine *e, mpe_waiter *w, uint64_t deadline)
{
    return mpe_wait_list(e, w, NULL, deadline);
}

int
mpe_wait_timer_aside(mpe_engine *e, mpe_waiter *w, uint64_t deadline)
{
    if (!w)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    int rc = mpe_wait_timer(e, w, deadline);
    w->is_aside = 1;
    return rc;
}

uint64_t
mpe__next_timer(mpe_engine *e, uint64_t *awaited)
{
    mpe_waiter *w = mpe__heap_first(&e->loop->timers);
    uint64_t first = w ? w->deadline : MPE_FOREVER;
    *awaited = MPE_FOREVER;
    for (uint32_t i = 1; i <= e->loop->timers.count && *awaited == MPE_FOREVER; i++)
        if (!e->loop->timers.at[i]->is_aside)
            *awaited = e->loop->timers.at[i]->deadline;
    return first;
}

/* Takes a filed or fired waiter off its entry. */
static void
leave(mpe_engine *e, mpe_waiter *w)
{
    struct mpe__entry **at = find_entry(e, w->object, w->event), *n = *at;
    int had_turn = w->fired;
    w->object = NULL;
    w->fired = 0;
    if (!n)
        return;
    n->pending -= had_turn != 0;
    if (n->armed && !n->list.head) {
        if (!mpe__set_remove(&n->object->waiters[n->event], e->slot))
            had_turn = 1; /* a waker has chosen us in the meantime */
        n->armed = 0;
        const struct mpe__wake *wake = wake_of(e, n);
        if (wake->leave)
            wake->leave(e, n->object);
    }
    if (had_turn || n->list.head)
        pass_on(e, n);
    free_if_unused(e, at);
}

void
mpe_wait_stop(mpe_engine *e, mpe_waiter *w)
{
    if (!w || !mpe__is_ours(e))
        return;
    int filed = w->list != NULL;
    mpe__waitlist_remove(w);
    mpe__heap_remove(&e->loop->timers, w);
    if (w->object && (filed || w->fired))
        leave(e, w);
}

void
mpe_wait_done(mpe_engine *e, mpe_waiter *w)
{
    if (!w || !mpe__is_ours(e))
        return;
    if (w->object && w->fired)
        leave(e, w);
}

uint32_t
mpe_waitlist_wake(mpe_engine *e, mpe_waitlist *list, uint32_t count)
{
    uint32_t n = 0;
    for (; n < count && list->head; n++) {
        mpe_waiter *w = list->head;
        mpe__waitlist_remove(w);
        mpe__heap_remove(&e->loop->timers, w);
        w->fire(e, w, MPE_OK);
    }
    return n;
}

void
mpe__expire_timers(mpe_engine *e)
{
    mpe_waiter *w = mpe__heap_first(&e->loop->timers);
    if (!w)
        return;
    uint64_t now = mpe_now();
    while ((w = mpe__heap_first(&e->loop->timers)) && w->deadline <= now) {
        mpe_wait_stop(e, w);
        w->fire(e, w, MPE_ETIMEDOUT);
    }
}
