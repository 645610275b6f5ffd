/* SPDX-License-Identifier: MIT */
/* Rate limiters: a token bucket for all processes.
 *
 * The bucket is one word, the time at which it is full again: each token that is taken moves it
 * on by the time that a token takes to come. Times are in ticks of 1/64 ns and wrap around; only
 * their differences are used.
 *
 * Waiters stand in one line over all processes. Each has a ticket, and each slot shows the ticket
 * and the cost of its first waiter, its place; the other waiters of a process are in a list of its
 * own. The least ticket that is shown is the head of the line. Any process that looks takes the
 * tokens for the head as soon as they are there, marks its place GRANTED and rings it, and goes on
 * with the next head. So the line moves although the process of its head computes or is stopped.
 * Without waiters a call takes its tokens by a compare-and-swap of the word, and no lock.
 *
 * No process looks without a reason: each of them sleeps until the tokens for all that are before
 * its first waiter, and for that one, will be there (due). This time comes earlier only when a
 * waiter leaves the line. Then the new head, if it sleeps for longer than it must, is rung, and
 * sleeps again for the time that is right.
 *
 * Death: a place is one word, so its waiters are in the line or not; the reaper clears it and
 * looks. Tokens are taken before the place says GRANTED, so the tokens of a process that dies
 * there, or of a waiter that dies with a grant, are used up: what a limiter lets through never
 * exceeds its rate.
 */
#include "core/bell.h"
#include "core/ilock.h"
#include "core/object.h"
#include "objects/doors.h"
#include "objects/limiter.h"

#include <math.h>

#define TICKS_PER_NS 64.0
#define TICKS_PER_S (TICKS_PER_NS * (double)MPE_NS_PER_S)
#define RATE_MAX 1e9
#define FILL_S_MAX (366 * 86400.0) /* of an empty bucket: far less than half of what 64 bits hold */

#define GRANTED 1ull

/* The first waiter of a slot. Written under the ilock. */
struct place {
    mpe__a64 word;     /* its ticket << 1, and GRANTED; 0: none waits */
    mpe__a64 cost;     /* ticks */
    mpe__a64 looks_at; /* when its process will look, ns; MPE_FOREVER: not yet known */
};

/* The word of the object is the time at which the bucket is full. */
struct limiter {
    double rate, burst; /* tokens per second; tokens */
    uint64_t room;      /* ticks that an empty bucket takes to fill */
    mpe__a64 tickets;   /* given so far; ilock */
    struct place places[MPE__SLOTS];
};

/* A waiter of this process. */
struct mpe_limiter_wait {
    struct mpe_limiter_wait *next, *prev;
    uint64_t ticket, cost;
};

/* The waiters of this process for one limiter, in order of their tickets. */
struct mpe__limiter_line {
    struct mpe__limiter_line *next;
    mpe_object *object;
    mpe_limiter_wait *head, *tail;
};

static struct limiter *
body(mpe_engine *e, const mpe_object *o)
{
    return mpe__body(e, o);
}

static uint64_t
ticks_now(void)
{
    return mpe_now() * (uint64_t)TICKS_PER_NS;
}

static uint64_t
ticks_of(const struct limiter *l, double tokens)
{
    return (uint64_t)llround(tokens * TICKS_PER_S / l->rate);
}

/* ---- the bucket ---- */

/* Ticks until the bucket is full. */
static uint64_t
lacking(mpe_object *o, uint64_t now)
{
    int64_t ticks = (int64_t)(mpe__load64(&o->word) - now);
    return ticks > 0 ? (uint64_t)ticks : 0;
}

/* Takes that many ticks' worth of tokens, if they are there. */
static int
take(const struct limiter *l, mpe_object *o, uint64_t cost)
{
    uint64_t word = mpe__load64(&o->word), after;
    do {
        uint64_t now = ticks_now();
        after = ((int64_t)(word - now) > 0 ? word : now) + cost;
        if (after - now > l->room)
            return 0;
    } while (!atomic_compare_exchange_weak(&o->word, &word, after));
    return 1;
}

int
mpe_limiter_create(mpe_engine *e, double rate, double burst, mpe_object **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    if (burst == 0)
        burst = rate > 1 ? rate : 1;
    if (!(rate > 0) || !(burst > 0))
        return MPE_EINVAL;
    if (rate > RATE_MAX || burst / rate > FILL_S_MAX)
        return MPE_ERANGE;
    mpe_object *o;
    int rc = mpe__object_begin(e, MPE_KIND_RATE_LIMITER, 0, &o);
    if (rc != MPE_OK)
        return rc;
    struct limiter *l = body(e, o);
    l->rate = rate;
    l->burst = burst;
    l->room = ticks_of(l, burst);
    mpe__store64(&o->word, ticks_now());
    return mpe__object_finish(e, o, out);
}

void
mpe_limiter_state_get(mpe_engine *e, mpe_object *o, mpe_limiter_state *out)
{
    if (!out || !mpe__admits(e, o, MPE__KIND(RATE_LIMITER)))
        return;
    const struct limiter *l = body(e, o);
    double lack = (double)lacking(o, ticks_now()) / TICKS_PER_S * l->rate;
    *out = (mpe_limiter_state){l->rate, l->burst, lack < l->burst ? l->burst - lack : 0};
}

/* ---- the line of all processes ---- */

static int
waits(uint64_t word)
{
    return word != 0 && !(word & GRANTED);
}

/* The slot of the head, -1: none waits. */
static int
head_of(mpe_engine *e, const struct limiter *l)
{
    uint32_t top = mpe__load32(&e->header->slots_top);
    uint64_t least = UINT64_MAX;
    int slot = -1;
    for (uint32_t i = 0; i < top; i++) {
        uint64_t word = mpe__load64(&l->places[i].word);
        if (waits(word) && word < least) {
            least = word;
            slot = (int)i;
        }
    }
    return slot;
}

/* When the tokens are there for a place and for all before it. ilock held. */
static uint64_t
due_of(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    const struct limiter *l = body(e, o);
    uint64_t now_ns = mpe_now(), mine = mpe__load64(&l->places[slot].word);
    uint64_t ticks = lacking(o, now_ns * (uint64_t)TICKS_PER_NS);
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++) {
        uint64_t word = mpe__load64(&l->places[i].word);
        if (waits(word) && word <= mine)
            ticks += mpe__load64(&l->places[i].cost);
    }
    return ticks <= l->room ? now_ns
                            : now_ns + (uint64_t)ceil((double)(ticks - l->room) / TICKS_PER_NS);
}

static void
ring(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    mpe__fence();
    mpe__set_remove(&o->waiters[MPE_EVENT_READY], slot);
    mpe__ring(e, slot, 1u << mpe__bucket(mpe__index_of(e, o)));
}

static int
shows(mpe_engine *e, mpe_object *o, uint32_t slot, const mpe_limiter_wait *w)
{
    return w && slot == e->slot && mpe__load64(&body(e, o)->places[slot].word) >> 1 == w->ticket;
}

/* Grants what is there, in order; then sees to it that the head wakes in time. A waiter that calls
 * looks for itself. ilock held. */
static void
look(mpe_engine *e, mpe_object *o, const mpe_limiter_wait *caller)
{
    struct limiter *l = body(e, o);
    int head;
    while ((head = head_of(e, l)) >= 0) {
        struct place *p = &l->places[head];
        if (!take(l, o, mpe__load64(&p->cost)))
            break;
        mpe__store64(&p->word, mpe__load64(&p->word) | GRANTED);
        if (!shows(e, o, (uint32_t)head, caller))
            ring(e, o, (uint32_t)head);
    }
    if (head >= 0 && !shows(e, o, (uint32_t)head, caller) &&
        mpe__load64(&l->places[head].looks_at) > due_of(e, o, (uint32_t)head))
        ring(e, o, (uint32_t)head);
}

/* ---- the waiters of this process ---- */

static struct mpe__limiter_line **
find_line(mpe_engine *e, const mpe_object *o)
{
    struct mpe__limiter_line **at = &e->limiter_lines;
    while (*at && (*at)->object != o)
        at = &(*at)->next;
    return at;
}

/* The last in the line. ilock held. */
static int
join_line(mpe_engine *e, mpe_object *o, uint64_t cost, mpe_limiter_wait **out)
{
    struct mpe__limiter_line **at = find_line(e, o), *line = *at;
    mpe_limiter_wait *w = mpe__new(&e->memory, sizeof *w);
    if (w && !line && (line = *at = mpe__new_zeroed(&e->memory, sizeof *line)) != NULL)
        line->object = o;
    if (!w || !line) {
        mpe__delete(&e->memory, w, sizeof *w);
        return MPE_ENOMEM;
    }
    mpe__a64 *tickets = &body(e, o)->tickets;
    mpe__store64(tickets, mpe__load64(tickets) + 1);
    *w = (mpe_limiter_wait){NULL, line->tail, mpe__load64(tickets), cost};
    *(line->tail ? &line->tail->next : &line->head) = w;
    line->tail = *out = w;
    return MPE_OK;
}

/* Shows the first waiter of this process, if it is another than before. ilock held. */
static void
show_first(mpe_engine *e, mpe_object *o)
{
    const struct mpe__limiter_line *line = *find_line(e, o);
    struct place *p = &body(e, o)->places[e->slot];
    uint64_t ticket = line ? line->head->ticket : 0;
    if (mpe__load64(&p->word) >> 1 == ticket)
        return;
    mpe__store64(&p->word, 0);
    if (!line)
        return;
    mpe__store64(&p->cost, line->head->cost);
    mpe__store64(&p->looks_at, MPE_FOREVER);
    mpe__store64(&p->word, ticket << 1);
}

/* ilock held. */
static void
leave_line(mpe_engine *e, mpe_object *o, mpe_limiter_wait **wait)
{
    struct mpe__limiter_line **at = find_line(e, o), *line = *at;
    mpe_limiter_wait *w = *wait;
    *(w->prev ? &w->prev->next : &line->head) = w->next;
    *(w->next ? &w->next->prev : &line->tail) = w->prev;
    if (!line->head) {
        *at = line->next;
        mpe__delete(&e->memory, line, sizeof *line);
    }
    mpe__delete(&e->memory, w, sizeof *w);
    *wait = NULL;
    show_first(e, o);
    look(e, o, NULL);
}

void
mpe__limiter_lines_free(mpe_engine *e)
{
    for (struct mpe__limiter_line *line; (line = e->limiter_lines) != NULL;) {
        e->limiter_lines = line->next;
        for (mpe_limiter_wait *w; (w = line->head) != NULL;) {
            line->head = w->next;
            mpe__delete(&e->memory, w, sizeof *w);
        }
        mpe__delete(&e->memory, line, sizeof *line);
    }
}

static int
is_granted(mpe_engine *e, mpe_object *o, const mpe_limiter_wait *w)
{
    return mpe__load64(&body(e, o)->places[e->slot].word) == (w->ticket << 1 | GRANTED);
}

/* ---- calls ---- */

static int
check_tokens(mpe_engine *e, const mpe_object *o, double tokens, uint64_t *cost)
{
    if (!mpe__admits(e, o, MPE__KIND(RATE_LIMITER)))
        return mpe__refusal(e, o, MPE__KIND(RATE_LIMITER));
    if (!(tokens > 0))
        return MPE_EINVAL;
    if (tokens > body(e, o)->burst)
        return MPE_ERANGE;
    *cost = ticks_of(body(e, o), tokens);
    return MPE_OK;
}

/* Does a task of this process wait that its place does not show, since the first has a grant? */
static int
hides_waiters(mpe_engine *e, const mpe_object *o)
{
    const struct mpe__limiter_line *line = *find_line(e, o);
    return line && line->head->next;
}

/* Takes what no waiter is before. */
static int
take_freely(mpe_engine *e, mpe_object *o, uint64_t cost)
{
    return head_of(e, body(e, o)) < 0 && !hides_waiters(e, o) && take(body(e, o), o, cost);
}

int
mpe_limiter_try(mpe_engine *e, mpe_object *o, double tokens)
{
    uint64_t cost;
    int rc = check_tokens(e, o, tokens, &cost);
    if (rc != MPE_OK)
        return rc;
    return take_freely(e, o, cost) ? MPE_OK : MPE_EAGAIN;
}

int
mpe_limiter_acquire(mpe_engine *e, mpe_object *o, double tokens, mpe_limiter_wait **wait)
{
    uint64_t cost;
    if (!wait)
        return MPE_EINVAL;
    int rc = check_tokens(e, o, tokens, &cost);
    if (rc != MPE_OK)
        return rc;
    if (!*wait && take_freely(e, o, cost))
        return MPE_OK;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    if (!*wait)
        rc = join_line(e, o, cost, wait);
    if (rc == MPE_OK) {
        show_first(e, o);
        look(e, o, *wait);
        rc = is_granted(e, o, *wait) ? MPE_OK : MPE_EAGAIN;
    }
    if (rc == MPE_OK)
        leave_line(e, o, wait);
    mpe__iunlock(e, &o->ilock);
    return rc;
}

int
mpe_limiter_leave(mpe_engine *e, mpe_object *o, mpe_limiter_wait **wait)
{
    if (!wait || !*wait)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(RATE_LIMITER)))
        return mpe__refusal(e, o, MPE__KIND(RATE_LIMITER));
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    look(e, o, *wait);
    int rc = is_granted(e, o, *wait) ? MPE_OK : MPE_ETIMEDOUT;
    leave_line(e, o, wait);
    mpe__iunlock(e, &o->ilock);
    return rc;
}

int
mpe_limiter_put_back(mpe_engine *e, mpe_object *o, double tokens)
{
    uint64_t cost;
    int rc = check_tokens(e, o, tokens, &cost);
    if (rc != MPE_OK)
        return rc;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    atomic_fetch_sub(&o->word, cost);
    look(e, o, NULL);
    mpe__iunlock(e, &o->ilock);
    return MPE_OK;
}

/* ---- moves ---- */

static void
death(mpe_engine *e, mpe_object *o, uint32_t slot)
{
    mpe__a64 *place = &body(e, o)->places[slot].word;
    if (mpe__load64(place) == 0)
        return;
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    mpe__store64(place, 0);
    look(e, o, NULL);
    mpe__iunlock(e, &o->ilock);
}

static int
ready(mpe_engine *e, mpe_object *o, int event)
{
    (void)event;
    mpe__fence();
    return (mpe__load64(&body(e, o)->places[e->slot].word) & GRANTED) != 0;
}

/* What this process then sleeps for is what the others rely on. */
static uint64_t
due(mpe_engine *e, mpe_object *o)
{
    struct place *p = &body(e, o)->places[e->slot];
    mpe__ilock(e, &o->ilock, mpe__index_of(e, o));
    uint64_t word = mpe__load64(&p->word), at = word & GRANTED ? mpe_now() : MPE_FOREVER;
    if (waits(word))
        at = due_of(e, o, e->slot);
    mpe__store64(&p->looks_at, at);
    mpe__iunlock(e, &o->ilock);
    return at;
}

/* Its depth are the tokens that are there. */
static void
measure(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes)
{
    mpe_limiter_state state = {0};
    mpe_limiter_state_get(e, o, &state);
    *depth = (uint64_t)state.tokens;
    *bytes = 0;
}

const struct mpe__kind mpe__limiter_kind = {
    .body_bytes = sizeof(struct limiter),
    .death = death,
    .ready = ready,
    .wake = {[MPE_EVENT_READY] = {.turn = MPE__TURN_ASSIGNED, .due = due}},
    .measure = measure,
};
