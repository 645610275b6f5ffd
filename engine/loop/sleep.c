/* Sleeping. First comes a short spin on the own bell, while that has recently paid: a wake-up
 * within microseconds then costs a tenth of a microsecond instead of twenty. Spinning cannot pay
 * while the other process needs this processor, so a ring records where it came from. A process
 * that watches descriptors as well sleeps for these too, which a spin does not see. So what has
 * paid there is counted apart for the sleeps after it has rung a process, which may answer at once.
 * Then the process sleeps. With only shared waits and timers pending, it sleeps in a futex on the
 * bell and the life words of the others, so that a death wakes one sleeper, which repairs and rings
 * the rest. With libuv handles active, it sleeps in libuv's poll, where pidfds report deaths
 * (watch.c). With only the ends of processes pending, it sleeps in a poll of its own (exits.c).
 *
 * Going to sleep: publish where, then check the bell, then sleep; core/bell.c explains why.
 */
#include "loop/loop.h"
#include "os/os.h"
#include "core/death.h"
#include "core/slot.h"

#define SPIN_NS 20000u /* longer than a wake-up, so that two that answer each other stay in step */
#define ANSWER_NS 40000u /* a wake-up, and what the other process does before it answers */
#define SHORT_SLEEP_NS 40000u
#define SPIN_PROBE 64u /* without credit, one sleep in so many tries spinning again */

int
mpe__bell_rung(mpe_engine *e)
{
    return atomic_load(&e->self->bell) != 0 || mpe__load32(&e->loop->interrupted);
}

/* The process that rang last will most likely be the next to ring. If it is on this processor,
 * it cannot run before this process sleeps. When it is woken elsewhere, its next ring shows
 * that. */
int
mpe__may_spin(mpe_engine *e)
{
    return e->cpus > 1 && mpe__load32(&e->self->rung_on) != mpe__processor() + 1;
}

/* 1 when the bell rang in the meantime. */
static int
spin_on_bell(mpe_engine *e, uint64_t ns)
{
    uint64_t until = mpe_now() + ns;
    do {
        for (int i = 0; i < 32; i++) {
            if (mpe__bell_rung(e))
                return 1;
            mpe__pause();
        }
    } while (mpe_now() < until);
    return 0;
}

static uint32_t *
score_of(mpe_engine *e)
{
    return &e->loop->spin_score[e->has_rung && mpe__uv_alive(e)];
}

static int
spin(mpe_engine *e, uint32_t *score)
{
    struct mpe__loop *l = e->loop;
    if (l->entries == 0 || (*score == 0 && l->rounds % SPIN_PROBE != 0) || !mpe__may_spin(e))
        return 0;
    mpe__store32(&e->self->sleep, MPE__SPINNING);
    int rung = spin_on_bell(e, score == &l->spin_score[1] ? ANSWER_NS : SPIN_NS);
    mpe__store32(&e->self->sleep, MPE__AWAKE);
    if (rung)
        *score += *score < MPE__SPIN_SCORE_MAX;
    else
        *score -= *score > 0;
    return rung;
}

int
mpe__others_live(mpe_engine *e)
{
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++)
        if (i != e->slot && mpe__load32(&e->slots[i].state) != MPE__SLOT_FREE)
            return 1;
    return 0;
}

/* Fills in the words to sleep on; -1 when a peer is dead and must be reaped. */
static int
words_to_watch(mpe_engine *e, uint32_t epoch, struct mpe__futex_wait *words, uint64_t *deadline)
{
    int n = 0;
    words[n++] = (struct mpe__futex_wait){&e->self->bell, 0};
    if (e->loop->entries == 0)
        return n;
    words[n++] = (struct mpe__futex_wait){&e->header->live_epoch, epoch};
    int lives = n;
    n = mpe__watch_lives(e, words, n, deadline);
    for (int i = lives; i < n; i++)
        if (words[i].value & FUTEX_OWNER_DIED)
            return -1;
    return n;
}

static void
sleep_in_futex(mpe_engine *e, uint32_t epoch, uint64_t deadline, int (*is_awake)(mpe_engine *e))
{
    struct mpe__futex_wait words[MPE__FUTEX_MAX];
    atomic_store(&e->self->sleep, MPE__IN_FUTEX);
    int n = words_to_watch(e, epoch, words, &deadline);
    if (n > 0 && !is_awake(e))
        mpe__futex_wait_any(words, n, deadline);
    atomic_store(&e->self->sleep, MPE__AWAKE);
}

static int
has_bits(mpe_engine *e)
{
    return atomic_load(&e->self->bell) != 0;
}

/* An interrupt stays recorded; it does not end this sleep. */
void
mpe__sleep_for_bell(mpe_engine *e)
{
    uint32_t epoch = mpe__load32(&e->header->live_epoch);
    sleep_in_futex(e, epoch, MPE_FOREVER, has_bits);
    mpe__reap_all(e);
}

int
mpe__sleep(mpe_engine *e, const int *done)
{
    struct mpe__loop *l = e->loop;
    uint64_t awaited, deadline = mpe__next_timer(e, &awaited);
    /* read first: a process that arrives or leaves later changes it, and wakes us or prevents
     * the sleep */
    uint32_t epoch = mpe__load32(&e->header->live_epoch);
    l->rounds++;
    mpe__tell_turn(e);
    if (l->jobs_head || *done)
        return MPE_OK;
    uint32_t *score = score_of(e);
    e->has_rung = 0;
    if (spin(e, score)) {
        mpe__uv_passed(e);
        return MPE_OK;
    }
    int unseen = mpe__ends_settle(e);
    int polls = mpe__uv_alive(e);
    if (!polls && !l->ends_apart && l->keep_alive == 0 && awaited == MPE_FOREVER &&
        (l->entries == 0 || !mpe__others_live(e)) && !mpe__bell_rung(e) && !mpe__is_orphan(e)) {
        mpe__deadlock_over(e); /* this is a new deadlock */
        return MPE_EDEADLK;
    }
    if (mpe__quiet_begin(e, awaited))
        return MPE_EDEADLK;
    uint64_t from = l->clock = mpe_now();
    if (unseen && deadline > from + MPE__ENDS_LOOK_NS)
        deadline = from + MPE__ENDS_LOOK_NS;
    if (polls)
        mpe__uv_sleep(e, deadline, done);
    else if (mpe__ends_alone(e))
        mpe__ends_sleep(e, deadline);
    else
        sleep_in_futex(e, epoch, deadline, mpe__bell_rung);
    if (unseen)
        mpe__ends_look(e);
    if (!polls)
        mpe__uv_passed(e);
    l->looked = 0; /* everything was checked just now */
    l->until_look = l->stride;
    l->clock = mpe_now();
    if (l->clock - from < SHORT_SLEEP_NS && *score < MPE__SPIN_SCORE_MAX && mpe__may_spin(e))
        (*score)++; /* so short that most of it was the wake-up: spinning may pay */
    if (mpe__quiet_end(e))
        return MPE_EDEADLK;
    mpe__reap_all(e);
    return MPE_OK;
}
