/* The state of an engine's loop, and the functions its files provide to each other. */
#ifndef MPE_LOOP_LOOP_H
#define MPE_LOOP_LOOP_H

#include "base/heap.h"
#include "core/bell.h"
#include "core/engine.h"

#include <uv.h>

/* The waiters of this process for one event of one object. */
struct mpe__entry {
    struct mpe__entry *next; /* in its bucket */
    mpe_object *object;
    int event;
    int armed;        /* this slot's bit was set in the object's waiter set */
    uint32_t pending; /* waiters that were fired and have not reported the outcome */
    mpe_waitlist list;
    struct mpe__clock *clock; /* waiter.c; NULL: it has needed none */
};

struct mpe__fd; /* fd.c */

/* fd.c: the descriptors that this process waits for. */
struct mpe__fds {
    int epoll;           /* the set, or -1 */
    uv_poll_t *poll;     /* which is on the loop by this handle, unreferenced without waiters */
    struct mpe__fd **of; /* by number */
    uint32_t room;       /* numbers that there is room for */
    uint32_t waited;     /* descriptors with waiters */
};

struct mpe__work; /* offload.c */
struct mpe__call; /* send.c */

/* exits.c: for example a descriptor that is readable when a process has exited. In the caller's
 * memory. */
struct mpe__end {
    int fd;
    uint32_t slot, generation;          /* of the process */
    void (*over)(struct mpe__end *end); /* again and again, until it is no longer watched */
    struct mpe__end *next, **at;        /* on the list of all watched ends; NULL when it is not */
    uv_poll_t *poll;                    /* while it is on the libuv loop */
};

#define MPE__SPIN_SCORE_MAX 16u /* a spin that pays raises the score, one that does not lowers it */

struct mpe__loop {
    mpe_job *jobs_head, *jobs_tail;
    struct mpe__heap timers;
    struct mpe__entry *buckets[MPE__BUCKETS];
    struct mpe__entry *spare; /* entries for reuse */
    uint32_t entries;
    uint32_t keep_alive;
    struct mpe__end *ends;    /* processes awaited */
    uint32_t ends_apart;      /* how many of them are not on the libuv loop */
    uint32_t ends_blind;      /* of those, the ones without a descriptor */
    uint32_t rounds;          /* how often it slept, or was about to */
    uint32_t stride;          /* jobs between two looks at the clock, see loop.c */
    uint32_t until_look;      /* jobs until the next read */
    uint64_t looked;          /* time of that read, 0: it has slept since */
    uint64_t clock;           /* the last time that was read, for readers */
    uint64_t polled;          /* when descriptors were last polled */
    uint32_t spin_score[2];   /* how often spinning has paid lately, up to MPE__SPIN_SCORE_MAX: the
                               * second beside descriptors, after it has rung a process */
    uint32_t quiet;           /* deadlock.c: the last mark, 0: something has been done since */
    uint32_t still_since;     /* deadlock.c: the first mark since something was done */
    int in_deadlock;          /* the last EDEADLK was one of all processes */
    mpe_object *report_queue; /* the queue for the report, owned by the finder */
    mpe__a32 interrupted;

    uv_loop_t *uv; /* NULL until needed */
    int uv_is_own;
    uint32_t own_active;  /* handles of the engine's that keep the loop alive, */
    uint32_t own_closing; /* and those that are being closed */
    int is_forgotten;     /* inherited.c: the engine is freed with the last of them */
    mpe_turn_hook *hooks;
    int (*in_task)(void *ud); /* see mpe_ask_in_task */
    void *in_task_ud;
    int bell_ready;                 /* the two handles below are on the loop */
    uv_poll_t bell;                 /* the doorbell socket, unreferenced */
    uv_timer_t timer;               /* the next deadline while in poll, unreferenced */
    uv_prepare_t before_poll;       /* checks whether the poll may block, unreferenced */
    const int *awaited;             /* ends the current sleep in poll; NULL: there is none */
    uint64_t poll_deadline;         /* the time the timer was set to */
    int due;                        /* the timer has fired */
    uint32_t watched_epoch;         /* membership that the watches below stand for */
    int blind;                      /* some of them could not be opened */
    uv_poll_t *watches[MPE__SLOTS]; /* watch.c: pidfds of live slots */
    struct mpe__fds fds;
    int host_polls;        /* mpe_poll_begin was called, and mpe_poll not since */
    int is_served;         /* serve.c: a run of the libuv loop serves the engine, */
    uv_check_t after_poll; /* by this handle, referenced while a wait can end, */
    uv_idle_t again;       /* and this one, unreferenced, while there is more to do at once */
    int keeps_loop;        /* after_poll is referenced */
    uint32_t turning;      /* turns of libuv that the engine makes itself */
    uint32_t serving;      /* nested calls of serve.c, in which the engine cannot be freed: */
    void (*close_after)(mpe_engine *e);   /* NULL, or what closes it behind them */
    struct mpe__work *offloads;           /* offload.c: work whose done has not been called */
    struct mpe__work *offload_done;       /* that threads have ended, under the lock of offload.c */
    _Atomic(struct mpe__call *) sent;     /* send.c: by any thread, the newest first */
    struct mpe__call *calls, *calls_last; /* in order, for send_job */
    mpe_job send_job;
    mpe__a32 closing; /* nothing more may be sent */
    struct mpe__question
        *questions; /* names.c: that are being asked, or were until the last asker left */
};

/* Its memory is the caller's. */
void mpe__loop_open(mpe_engine *e, uv_loop_t *host_loop, unsigned flags);
void mpe__loop_close(mpe_engine *e);
/* loop.c: frees the memory that is not libuv's. */
void mpe__loop_free(mpe_engine *e);
/* inherited.c: in a child of fork(2), frees all and touches nothing that the parent has. 1: the
 * engine's own memory is freed later, by the loop of the host. */
int mpe__loop_forget(mpe_engine *e);
/* uv.c: one of the handles being closed is. */
void mpe__uv_closed(mpe_engine *e);
/* send.c: drops the calls that were sent. */
void mpe__send_forget(mpe_engine *e);
/* loop.c: a C function that a Lua task has called is running, which must not wait. */
int mpe__is_in_task(mpe_engine *e);
/* The same, for a call that would have to wait. Errors: EDEADLK, or ETIMEDOUT if its time is over. */
int mpe__may_wait(mpe_engine *e, uint64_t deadline);
/* In a forked child: drops the parent's jobs, waiters and handles, and closes the inherited
 * descriptors only. The next use makes a new loop. The memory behind them stays as it is, shared
 * with the parent: freeing it would copy its pages. */
int mpe__loop_abandon(mpe_engine *e);

/* loop.c: deaths, bell, timers and the jobs that are queued now; 1 when there are more. */
int mpe__round(mpe_engine *e);
/* loop.c: calls the hooks. */
void mpe__tell_turn(mpe_engine *e);

/* waiter.c */
void mpe__dispatch_bell(mpe_engine *e);
/* Its waiters are gone with the engine. */
void mpe__entry_free(mpe_engine *e, struct mpe__entry *n);
void mpe__expire_timers(mpe_engine *e);
/* The next deadline, or MPE_FOREVER; *awaited: the next one that a wait depends on, or
 * MPE_FOREVER. */
uint64_t mpe__next_timer(mpe_engine *e, uint64_t *awaited);
void mpe__waitlist_remove(mpe_waiter *w);
void mpe__waitlist_append(mpe_waitlist *list, mpe_waiter *w);

/* sleep.c: can something that this process waits for happen while it spins? */
int mpe__may_spin(mpe_engine *e);
/* sleep.c: blocks until there may be something to do, or *done is not 0. Errors: EDEADLK. */
int mpe__sleep(mpe_engine *e, const int *done);
int mpe__bell_rung(mpe_engine *e);
/* Blocks until the bell is rung; deaths are repaired, nothing else is done. */
void mpe__sleep_for_bell(mpe_engine *e);

/* sleep.c: can another process still change something that is waited for? */
int mpe__others_live(mpe_engine *e);

/* deadlock.c: before a sleep; 1 when all processes wait for each other. After a sleep, the same. */
int mpe__quiet_begin(mpe_engine *e, uint64_t deadline);
int mpe__quiet_end(mpe_engine *e);
/* Drops the deadlock that was found: this process goes on. */
void mpe__deadlock_over(mpe_engine *e);

/* uv.c: functions that concern libuv. */
int mpe__uv_alive(mpe_engine *e);
/* The loop exists now: installs the handle that checks before each poll. */
void mpe__uv_begin(mpe_engine *e);
/* One turn that does not block. */
void mpe__uv_turn(mpe_engine *e);
/* Time has passed in which the loop was not run: the next libuv timer counts from now. */
void mpe__uv_passed(mpe_engine *e);
/* Closes a handle that was allocated, and frees it when it is closed. */
void mpe__uv_drop(mpe_engine *e, uv_poll_t *handle);
/* The same, whatever is on the loop. After mpe__uv_arm. */
void mpe__uv_turn_always(mpe_engine *e);
/* This process is about to sleep in a poll of the loop's descriptors: its bell and the deaths of
 * others are among them. Errors: ESYS. */
int mpe__uv_arm(mpe_engine *e);
/* The time at which that sleep must end where descriptors are short, or MPE_FOREVER. */
uint64_t mpe__uv_look_by(mpe_engine *e);
/* Has a timer of the loop end the next poll. */
void mpe__uv_wake_at(mpe_engine *e, uint64_t deadline);
/* serve.c: the handles of a loop that serves the engine. */
void mpe__serve_begin(mpe_engine *e);
void mpe__serve_end(mpe_engine *e);
void mpe__serve_before_poll(mpe_engine *e);
/* There may be something to wait for: a loop that serves the engine stays alive to see. */
MPE__COLD void mpe__keep_loop(mpe_engine *e);
static inline void
mpe__has_work(mpe_engine *e)
{
    if (MPE__UNLIKELY(e->loop->is_served && !e->loop->keeps_loop))
        mpe__keep_loop(e);
}
/* A turn that blocks until something may have changed: I/O, *done, a job, the bell, the
 * deadline. */
void mpe__uv_sleep(mpe_engine *e, uint64_t deadline, const int *done);
void mpe__uv_abandon(mpe_engine *e);
void mpe__uv_close(mpe_engine *e);
/* watch.c: in poll, pidfds report the deaths of other processes. */
void mpe__watch_peers(mpe_engine *e);
void mpe__watch_stop(mpe_engine *e);
/* exits.c. Watching twice is harmless, and so is unwatching. */
void mpe__end_watch(mpe_engine *e, struct mpe__end *end);
void mpe__end_unwatch(mpe_engine *e, struct mpe__end *end);
/* Settle: moves the ends to where this process will sleep; 1 when some will not be seen there,
 * for lack of descriptors, so that they must be checked. To uv: to the libuv loop. Errors:
 * ENOMEM, ESYS. */
int mpe__ends_to_uv(mpe_engine *e);
int mpe__ends_settle(mpe_engine *e);
/* Sleeps until one has occurred, the bell rings or the deadline has passed. */
void mpe__ends_sleep(mpe_engine *e, uint64_t deadline);
/* Will the process sleep there? */
int mpe__ends_alone(mpe_engine *e);
/* Checks the ends that are not on the libuv loop. */
void mpe__ends_look(mpe_engine *e);
#define MPE__ENDS_LOOK_NS (MPE_NS_PER_S / 20)
/* send.c: has the calls that threads have sent run as a job. */
void mpe__send_dispatch(mpe_engine *e);
/* Refuses more calls, and runs those there are. */
void mpe__send_close(mpe_engine *e);
/* offload.c: calls done for completed work. */
void mpe__offload_dispatch(mpe_engine *e);
void mpe__offload_close(mpe_engine *e);
uint32_t mpe__offload_threads(void); /* of this process */
/* Maximum number of the engine's own threads, and of libuv's pool. */
unsigned mpe__pool_threads(void);
/* The same as mpe_offload on threads of another pool, for work that blocks long and uses no
 * processor. The caller declares by mpe_keep_alive that its completion is waited for. dropped is
 * called in place of done, on any thread, when the engine is closed before it. */
int mpe__offload_slow(mpe_engine *e, void (*run)(void *ud),
                      void (*done)(mpe_engine *e, void *ud, int status), void (*dropped)(void *ud),
                      void *ud);
/* output.c: makes the lock of a new arena's output. */
void mpe__output_create(mpe_engine *e);
/* fd.c: makes the set, for which there may be no descriptor later.  Errors: errno. */
int mpe__fds_prepare(mpe_engine *e);
void mpe__fds_forget(mpe_engine *e);
void mpe__fds_close(mpe_engine *e);

#endif
