/* SPDX-License-Identifier: MIT
 *
 * mpengine_core.h - the rest of the C API: for bindings of languages, and for state machines that
 * wait without blocking.
 *
 * Waiting in steps.  A call that cannot finish now returns MPE_EAGAIN, and its comment names the
 * *event* of the object to wait for.  mpe_wait_object() files a waiter; the engine's loop fires it
 * when trying again makes sense; mpe_await() does both for a caller that may block.
 *
 * The conventions are those of mpengine.h.
 */
#ifndef MPENGINE_CORE_H
#define MPENGINE_CORE_H

#include "mpengine.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- environment -------------------------------------------------------------------------- */

/* The variables that the engine and its bindings read. */
enum mpe_variable {
    MPE_VARIABLE_SHM_LIMIT,    /* MPENGINE_SHM_LIMIT; the value is bytes */
    MPE_VARIABLE_DEADLOCK,     /* MPENGINE_DEADLOCK; 0 report, 1 off */
    MPE_VARIABLE_START_METHOD, /* MPENGINE_START_METHOD; 0 fork, 1 spawn, 2 forkserver */
    MPE_VARIABLE_EXECUTABLE,   /* MPENGINE_EXECUTABLE, a text */
    MPE_VARIABLE_ARENA,        /* MPENGINE_ARENA, a text: mpe_config.arena of the Lua library */
    MPE_VARIABLES
};
/* Reads one variable: its text and what the text means.
 * Ownership: the text belongs to the environment.
 * Errors: ENOENT (unset or empty), EVARIABLE (not accepted). */
MPE_API int mpe_variable_get(enum mpe_variable which, uint64_t *value, const char **text);
/* Checks all variables. A failure puts a message into the buffer of size bytes that names the
 * first wrong variable and says what it accepts.
 * Errors: EVARIABLE, whose own text speaks of the variable that mpe_open reads. */
MPE_API int mpe_variables_check(char *message, size_t size);

/* ---- guests ------------------------------------------------------------------------------- */

/* A binding that lives on a host's engine: a Lua state. An engine has one at most. */
typedef struct mpe_guest {
    /* The engine is being closed, and still works; e NULL: it came by a fork and may not be
     * touched. */
    void (*closing)(mpe_engine *e, struct mpe_guest *guest);
} mpe_guest;
/* Makes it the guest of the engine.
 * Ownership: its memory stays the caller's and must stay until mpe_guest_leave or closing.
 * Errors: EINVAL (NULL), EEXIST (there is one), EPERM (thread). */
MPE_API int mpe_guest_enter(mpe_engine *e, mpe_guest *guest);
/* OK when the calling thread is the engine's, in the process that opened it, for a binding that
 * refuses as the engine does.
 * Errors: EINVAL (NULL), EPERM (another thread, or a fork). */
MPE_API int mpe_may_call(const mpe_engine *e);
/* The guest leaves; harmless when it is none. */
MPE_API void mpe_guest_leave(mpe_engine *e, mpe_guest *guest);

/* Returns the flags that mpe_open was given; 0 for an engine of mpe_open_thread.  Threads: any. */
MPE_API unsigned mpe_flags(const mpe_engine *e);

/* ---- the log ------------------------------------------------------------------------------ */

/* Calls the log of the host (mpe_config.log) with a message of n bytes, zero behind them, without a
 * newline at its end. Does nothing without a log, or with a level that is none of enum
 * mpe_log_level. The engine of a process made by mpe_process_fork has the log of its parent.
 * Ownership: the text is the caller's. */
MPE_API void mpe_log(mpe_engine *e, int level, const char *text, size_t n);
/* Returns 1 when mpe_log would call the host, else 0: a binding need not make the text then. */
MPE_API int mpe_has_log(const mpe_engine *e);

/* ---- handles ------------------------------------------------------------------------------ */

/* Returns how many bytes the arena has taken from the system since it was made, by all processes,
 * whatever it returned. A host whose objects wait for a garbage collector decides by it when to
 * collect. */
MPE_API uint64_t mpe_growth(const mpe_engine *e);
/* Returns a mark for mpe_unpin. Bytes copied out of a queue, dict or list may contain handles; the
 * engine pins those objects, so that they live until the bytes are decoded. */
MPE_API uint32_t mpe_pin_mark(mpe_engine *e);
/* Releases all pins made since the mark. */
MPE_API void mpe_unpin(mpe_engine *e, uint32_t mark);

/* Reads the event that is set when an object gets a name, for steps: try mpe_find with MPE_NOW, wait
 * for MPE_EVENT_READY, try again.
 * Ownership: the arena's, valid as long as the engine.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_names_changed(mpe_engine *e, mpe_object **out);

/* ---- labels ------------------------------------------------------------------------------- */

/* Gives an object a name, any bytes, for readers, and the place where it was made, of
 * mpe_place_note, 0: unknown. A name whose data is NULL is none. For the maker, before another
 * process has the object.
 * Errors: EINVAL, ESTALE, EPERM (thread), EARENA. */
MPE_API int mpe_object_label(mpe_engine *e, mpe_object *o, mpe_bytes name, uint32_t place);
/* Returns the name of a held object; data is NULL when it has none.
 * Ownership: the object's. */
MPE_API mpe_bytes mpe_object_name(mpe_engine *e, const mpe_object *o);
/* Returns the number of a place, a text such as "script.lua:12" of which 127 bytes are kept; 0 when
 * the arena has no room for more places. They stay as long as the arena.
 * Blocks: until the lock of the arena is free, briefly, for a place that is new. */
MPE_API uint32_t mpe_place_note(mpe_engine *e, const char *text);
/* Returns the text of a place, or NULL.  Ownership: the arena's. */
MPE_API const char *mpe_place_text(const mpe_engine *e, uint32_t number);

/* ---- readers ------------------------------------------------------------------------------ */

/* A view of a program, from outside or from one of its processes: its shared memory, mapped so that
 * nothing can be written. Reading takes no lock and makes no process wait; a program that runs
 * changes meanwhile, so what is read at one time need not fit together. A view is used by the
 * thread that opened it. */
typedef struct mpe_view mpe_view;
/* What a program is. */
typedef struct mpe_view_info {
    uint64_t created_ns; /* by the wall clock */
    uint64_t nonce;      /* names the program as long as it runs */
    uint64_t limit_bytes, committed_bytes;
    uint32_t processes, tasks, objects;
    int is_reader;       /* it looks at programs: mpe_view_hide */
    const char *command; /* the arguments of its first process, each with its 0, an empty one at the
                          * end. Ownership: the view's */
} mpe_view_info;
/* One process of a program. */
typedef struct mpe_view_process {
    uint32_t slot, generation;
    int pid;
    int parent_slot; /* -1: it is the first one */
    int sleeps;      /* it waits in the engine, for anything */
    int answers;     /* it can be asked: mpe_view_ask */
    uint32_t tasks;
    char name[48];
} mpe_view_process;
/* One object of a program. */
typedef struct mpe_view_object {
    mpe_handle handle;
    int kind;
    mpe_bytes name;       /* data NULL: none. Ownership: the view's; the bytes may change */
    const char *place;    /* where it was made; NULL: unknown. Ownership: the view's */
    uint32_t holders;     /* processes that hold it */
    uint32_t waiters;     /* processes with a task that waits for it */
    uint64_t depth;       /* items, entries, elements, free permits, parties that wait */
    uint64_t bound;       /* of a queue or barrier; 0: none */
    uint32_t puts, gets;  /* of a queue, since it was made, modulo 2^32 */
    int is_set;           /* an event */
    int is_closed;        /* a queue */
    int is_board;         /* the board of a pool: mpe_view_worker_next */
    mpe_handle queues[2]; /* of a pipe; 0: none */
    mpe_lock_state lock;  /* of a lock, and of what has one */
} mpe_view_object;
/* A worker of a pool. */
typedef struct mpe_view_worker {
    uint64_t worker;
    int pid;
    int is_running;        /* it runs an item */
    uint32_t number, item; /* of the task that it took last */
    uint64_t since;        /* when it took that, or began the timed item, by mpe_now */
    uint64_t items, busy_ns;
} mpe_view_worker;

/* Opens a view of the program that a process belongs to.
 * Ownership: the caller must mpe_view_close it.
 * Errors: ENOENT (there is no such process), ETYPE (it belongs to no program), EPERM (it is another
 * user's, or may not be looked at), EVERSION (it runs another version), ESYS (errno; ENOENT: there is
 * no /proc), ENOMEM. */
MPE_API int mpe_view_open(int pid, mpe_view **out);
/* The same, of the engine's own program.
 * Errors: EINVAL, EPERM (thread), ENOMEM. */
MPE_API int mpe_view_own(mpe_engine *e, mpe_view **out);
/* Closes a view; NULL is allowed. */
MPE_API void mpe_view_close(mpe_view *v);
/* Calls visit once for each program of this user: with a view, which it must close, or, when the
 * program cannot be read, with NULL and the status of mpe_view_open; pid is one of its processes.
 * Errors: ESYS (errno; ENOENT: there is no /proc), ENOMEM. */
MPE_API int mpe_views_each(void (*visit)(void *ud, int pid, int status, mpe_view *v), void *ud);
/* Describes the program. */
MPE_API void mpe_view_info_get(mpe_view *v, mpe_view_info *out);
/* Walks the processes: *slot starts at 0 and is advanced.  Errors: ENOENT (no more). */
MPE_API int mpe_view_process_next(mpe_view *v, uint32_t *slot, mpe_view_process *out);
/* Walks the objects: *index starts at 0 and becomes that of the object.  Errors: ENOENT (no more). */
MPE_API int mpe_view_object_next(mpe_view *v, uint32_t *index, mpe_view_object *out);
/* Has a process a task that waits for the object of that index? 1 or 0. */
MPE_API int mpe_view_waits(mpe_view *v, uint32_t index, uint32_t slot);
/* Returns the text of a place of mpe_place_note, or NULL.  Ownership: the view's. */
MPE_API const char *mpe_view_place(const mpe_view *v, uint32_t number);
/* Walks the workers of a pool that have started; index is the board's, *worker starts at 0 and is
 * advanced.  Errors: ENOENT (no more). */
MPE_API int mpe_view_worker_next(mpe_view *v, uint32_t index, uint64_t *worker,
                                 mpe_view_worker *out);
/* Asks a process: it gets MPE_ASK_SIGNAL with the value. The signal does nothing to a process that
 * does not answer.
 * Errors: ENOENT (it is gone), ETYPE (it does not answer), ESYS (errno). */
#define MPE_ASK_SIGNAL 23 /* SIGURG */
MPE_API int mpe_view_ask(mpe_view *v, uint32_t slot, int value);
/* Says whether this process answers, when it is asked. */
MPE_API void mpe_self_answers(mpe_engine *e, int answers);
/* Returns the word in which readers see the number of tasks of this process; its owner stores there.
 * A child has another one, a fork server none: NULL.
 * Ownership: the arena's. */
MPE_API uint32_t *mpe_self_tasks(mpe_engine *e);
/* The engine's own program is a reader, which others leave out of their lists. */
MPE_API void mpe_view_hide(mpe_engine *e);

/* ---- tracing ------------------------------------------------------------------------------ */

/* What a process has done. */
enum mpe_trace_what {
    MPE_TRACE_TEXT = 1, /* a part of the text that belongs to the record before: number bytes */
    MPE_TRACE_PROCESS, /* begins its notes: number is its pid, more the slot + 1 of its parent; its name
                         * follows */
    MPE_TRACE_EXIT,  /* number is its pid */
    MPE_TRACE_START, /* starts a child in the slot number */
    MPE_TRACE_PUT,   /* item number of a queue */
    MPE_TRACE_GET,
    MPE_TRACE_LOCK, /* number is the owner's */
    MPE_TRACE_UNLOCK,
    MPE_TRACE_SITE,  /* number is that of a function that is spawned; its name follows */
    MPE_TRACE_SPAWN, /* task number, of the site in more */
    MPE_TRACE_RUN,   /* task number, of the site in more, runs from now on */
    MPE_TRACE_WAIT, /* task number waits: for the object, or for what more says, whose title object has
                      * the number of; of a process it is the pid */
    MPE_TRACE_PAUSE,    /* task number lets others run */
    MPE_TRACE_END,      /* of task number; more 0: by an error */
    MPE_TRACE_ITEM,     /* begins item more of pool task number; one that was begun has ended */
    MPE_TRACE_ITEM_END, /* the item that was begun has ended */
    MPE_TRACE_OBJECT,   /* the object has got its name, or place, which follows */
    MPE_TRACE_TITLE, /* what is no object, and has the number, is what follows: its kind and place, or
                         * its kind, a zero and its name */
    MPE_TRACE_DID, /* has done with the object what more says: enum mpe_trace_did; number: how many */
    MPE_TRACE_WAKE,    /* the task that runs, or has just ended, wakes task number of its process */
    MPE_TRACE_DEATH,   /* has found that process number was killed */
    MPE_TRACE_PART,    /* the object is a part of the object in more */
    MPE_TRACE_OFFLOAD, /* task number waits for a thread that runs a function */
    MPE_TRACE_OFFLOAD_END, /* of task number */
    MPE_TRACE_STILL,       /* as MPE_TRACE_PROCESS, of the process that has noted what is before */
    MPE_TRACE_LOST,        /* more records were overwritten here: made by mpe_tracer_read */
    MPE_TRACE_PAUSED       /* nothing was noted from at to object: made by a reader that pauses */
};
#define MPE_TRACE_MAIN UINT64_MAX /* the site of the main task */
/* Of what is no object (more of MPE_TRACE_WAIT). */
enum mpe_trace_source {
    MPE_TRACE_OF_OBJECT,
    MPE_TRACE_OF_TASKS, /* something of its own process */
    MPE_TRACE_OF_TIME,
    MPE_TRACE_OF_FD,
    MPE_TRACE_OF_PROCESS,
    MPE_TRACE_OF_MANY
};
/* What was done with an object (more of MPE_TRACE_DID), before another process can see it where that
 * may wake a waiter. */
enum mpe_trace_did {
    MPE_DID_ACQUIRE = 1, /* a permit */
    MPE_DID_RELEASE,
    MPE_DID_SET,
    MPE_DID_CLEAR,
    MPE_DID_ARRIVE, /* as party number */
    MPE_DID_OPEN,   /* a barrier, for all that wait */
    MPE_DID_ABORT,
    MPE_DID_RESET,
    MPE_DID_NOTIFY, /* up to number waiters; UINT32_MAX: all */
    MPE_DID_INSERT,
    MPE_DID_REMOVE,
    MPE_DID_UPDATE, /* number entries or items at once */
    MPE_DID_CLOSE
};
/* One of MPE_TRACE_TEXT has the bytes of its text in the first three fields. */
typedef struct mpe_trace_record {
    uint64_t at; /* by mpe_tracer_clock */
    uint64_t object, more;
    uint32_t number, what;
} mpe_trace_record;
#define MPE_TRACE_TEXT_BYTES 24

/* Returns the place of a word that is not 0 while the program is traced: to be tested before
 * mpe_trace_add, so that this costs nothing otherwise.
 * Ownership: the arena's. */
MPE_API const uint64_t *mpe_trace_word(mpe_engine *e);
/* Notes an event of this process, with the time; does nothing while the program is not traced. */
MPE_API void mpe_trace_add(mpe_engine *e, uint32_t what, uint32_t number, uint64_t object,
                           uint64_t more);
/* Adds a text to the event noted last. */
MPE_API void mpe_trace_text(mpe_engine *e, const char *text, size_t size);
/* Returns a number that grows whenever this process has written half of its ring: what it has noted
 * once may be overwritten after two of them. */
MPE_API uint64_t mpe_trace_part(const mpe_engine *e);
/* Switches tracing on for the engine's own program, by the word of a tracer of the process that
 * started this one.  Errors: EPERM (it is not that one's; thread). */
MPE_API int mpe_trace_begin(mpe_engine *e, uint64_t word);

/* A tracer has the memory in which the processes of a program note what they do: a ring of 65536
 * records for each slot, which takes memory when its process first writes to it. */
typedef struct mpe_tracer mpe_tracer;
/* Makes a tracer. Ownership: the caller must mpe_tracer_free it.
 * Errors: EINVAL, ENOMEM, ESYS. */
MPE_API int mpe_tracer_new(mpe_tracer **out);
/* Returns what mpe_trace_begin expects. */
MPE_API uint64_t mpe_tracer_word(const mpe_tracer *t);
/* Switches tracing on: the processes of the program note what they do from now on.
 * Errors: EINVAL, ENOENT (it has ended), EAGAIN (process *by traces it). */
MPE_API int mpe_tracer_start(mpe_tracer *t, mpe_view *v, int *by);
/* Switches tracing off for a time, in which the program is the tracer's still; and on again. */
MPE_API void mpe_tracer_pause(mpe_tracer *t, int paused);
/* Copies records of a slot that were not read yet; where some were overwritten before, the first one is
 * MPE_TRACE_LOST. room is at least 2.
 * Returns how many there are; 0: none. */
MPE_API size_t mpe_tracer_read(mpe_tracer *t, uint32_t slot, mpe_trace_record *out, size_t room);
/* Leaves out what was not read yet, and returns how many records that are. */
MPE_API uint64_t mpe_tracer_skip(mpe_tracer *t, uint32_t slot);
/* What the records call a time, and what mpe_now calls it: both grow evenly. */
MPE_API void mpe_tracer_clock(const mpe_tracer *t, uint64_t *ticks, uint64_t *ns);
/* Switches tracing off, and frees the memory; NULL is allowed. */
MPE_API void mpe_tracer_free(mpe_tracer *t);

/* ---- the run queue ------------------------------------------------------------------------ */

/* A job is one entry of the run queue; the caller embeds it and owns its memory. */
typedef struct mpe_job {
    struct mpe_job *next; /* private */
    void (*run)(mpe_engine *e, struct mpe_job *job);
    int queued; /* private: on the run queue */
} mpe_job;
/* Puts a job at the end of the run queue; does nothing when it is on it. */
MPE_API void mpe_post(mpe_engine *e, mpe_job *job);
/* Runs a job that is not on the queue at once: for a callback of libuv that must not be late. */
MPE_API void mpe_run_now(mpe_engine *e, mpe_job *job);

/* Returns the place of the time that the loop has read last, by mpe_now: while jobs run it is a tenth
 * of a millisecond old at most, or as old as the job that runs. For notes of when something began
 * that must cost nothing.
 * Ownership: the engine's. */
MPE_API const uint64_t *mpe_loop_clock(mpe_engine *e);
/* Sets it to the time it is. */
MPE_API void mpe_loop_look(mpe_engine *e);
/* Says that the job that runs takes long: timers, bell and descriptors are served right after it. The
 * loop looks after them by the number of jobs, as many as took a tenth of a millisecond before. */
MPE_API void mpe_loop_look_next(mpe_engine *e);

/* ---- waiters ------------------------------------------------------------------------------ */

/* The events of an object that can be waited for. */
/* The events of an object that can be waited for. */
#define MPE_EVENT_READY 0 /* lock free, permit there, event set, notified, item there */
#define MPE_EVENT_SPACE 1 /* room in a bounded queue; the notification of a condition */
#define MPE_EVENT_DONE 2  /* every item of a joinable queue is done */
#define MPE_EVENTS 3

/* Waiters in arrival order, inside one process. Zeroed memory is an empty list. */
typedef struct mpe_waitlist {
    mpe_waiter *head, *tail;
} mpe_waitlist;
/* Files a waiter for (o, event). The caller has tried and got MPE_EAGAIN, and must try once more
 * after this call, since the change may have happened in between; if that succeeds, mpe_wait_stop.
 * Filed again after a fire that led to nothing, the waiter keeps its turn.
 * Ownership: the caller holds o until the wait is over.
 * Errors: EINVAL (objects of this kind have no such event), ENOMEM. */
MPE_API int mpe_wait_object(mpe_engine *e, mpe_waiter *w, mpe_object *o, int event,
                            uint64_t deadline);
/* Ends the turn of a waiter that was woken and took what it waited for, or gave up: lets the next
 * one of this or another process try. Every fire of mpe_wait_object with MPE_OK is followed by
 * exactly one mpe_wait_done or mpe_wait_object of the same waiter. */
MPE_API void mpe_wait_done(mpe_engine *e, mpe_waiter *w);
/* Files a waiter at the end of a list of this process.  Errors: ENOMEM. */
MPE_API int mpe_wait_list(mpe_engine *e, mpe_waiter *w, mpe_waitlist *list, uint64_t deadline);
/* Fires the first count waiters of a list and returns how many they were. */
MPE_API uint32_t mpe_waitlist_wake(mpe_engine *e, mpe_waitlist *list, uint32_t count);
/* Spins until (o, event) looks ready; returns 1 when it does. Does nothing while there are jobs to
 * run or spinning has not paid lately. Before mpe_wait_object it saves the waker a ring.
 * Blocks: for at most 2 us. */
MPE_API int mpe_spin_for(mpe_engine *e, mpe_object *o, int event);
/* Files a timer for work aside, such as closing what is not used: it does not keep a process whose
 * other waits can never end from being in a deadlock.  Errors: ENOMEM. */
MPE_API int mpe_wait_timer_aside(mpe_engine *e, mpe_waiter *w, uint64_t deadline);
#define MPE_READABLE 1
#define MPE_WRITABLE 2
/* Beside one of them: the caller has found the descriptor not ready since the last event that it
 * waited for, and its owner calls mpe_fd_closing before each close. Then a wait costs no call of
 * the kernel. */
#define MPE_EDGE 4
/* Files a waiter for one of the two events of a descriptor. A wait that ended without its event
 * (timeout, stop) is followed by mpe_fd_waiter_gone. The descriptor may be closed during a wait only
 * after mpe_fd_closing.  Errors: ENOMEM, ESYS (errno; EPERM: files of this type are always
 * ready). */
MPE_API int mpe_wait_fd(mpe_engine *e, mpe_waiter *w, int fd, int events, uint64_t deadline);
/* A waiter of a descriptor was withdrawn: without others, the descriptor no longer keeps the loop
 * alive. */
MPE_API void mpe_fd_waiter_gone(mpe_engine *e, int fd);
/* Fires all waiters of a descriptor and stops watching it. */
MPE_API void mpe_fd_closing(mpe_engine *e, int fd);
/* Waits, for hosts: calls try_again until it returns something else than MPE_EAGAIN, which it then
 * returns; in between it waits for (o, event) and runs jobs, timers and I/O.
 * Blocks: up to the deadline.
 * Errors: ETIMEDOUT, those of mpe_wait_object and of mpe_run_until. */
MPE_API int mpe_await(mpe_engine *e, mpe_object *o, int event, uint64_t deadline,
                      int (*try_again)(mpe_engine *e, mpe_object *o, void *ud), void *ud);

/* ---- the loop ----------------------------------------------------------------------------- */

/* mpe_run_until, for a binding that waits on behalf of its tasks, also inside one.
 * Blocks, Errors: as for mpe_run_until, but for the refusal inside a task. */
MPE_API int mpe_drive(mpe_engine *e, const int *done);
/* Sets what tells whether a C function runs that a task has called. There, waits of the host are
 * refused with EDEADLK: they would keep the other tasks of the same stack from going on. */
MPE_API void mpe_ask_in_task(mpe_engine *e, int (*in_task)(void *ud), void *ud);
/* Runs the jobs that are queued now, and serves the bell and timers; descriptors and libuv as
 * often as mpe_run_until does. For a caller that has work of its own but lets other tasks run.
 * Errors: EINTR (mpe_interrupt). */
MPE_API int mpe_go_round(mpe_engine *e);
/* Runs one turn of the libuv loop alone, without blocking. */
MPE_API void mpe_turn(mpe_engine *e);
/* Counts what others than the engine have on the libuv loop that keeps it alive: active and
 * referenced handles, requests in progress and handles being closed. 0: nothing. */
MPE_API uint64_t mpe_loop_others(mpe_engine *e);
/* A hook of the loop. turned is called after each turn of the libuv loop, or where there would be
 * one if anything were on it, and before each sleep: there a change of mpe_loop_others is seen in
 * time. It may post and wake, and must not wait. The caller owns the memory; a forked child has
 * none of its parent's hooks. */
typedef struct mpe_turn_hook {
    struct mpe_turn_hook *next; /* private */
    void (*turned)(mpe_engine *e, struct mpe_turn_hook *hook);
} mpe_turn_hook;
/* Adds a hook.  Ownership: its memory stays the caller's and must stay until mpe_off_turn. */
MPE_API void mpe_on_turn(mpe_engine *e, mpe_turn_hook *hook);
/* Removes a hook; harmless when it is not there. */
MPE_API void mpe_off_turn(mpe_engine *e, mpe_turn_hook *hook);
/* A deadlock that was found. */
typedef struct mpe_deadlock {
    mpe_handle queue;   /* joinable, for what the others have to say; to be held at once. 0: none */
    uint32_t teller;    /* slot of the process that is to tell of it, the lowest */
    uint32_t processes; /* how many are in it */
} mpe_deadlock;
/* Describes the deadlock that EDEADLK told of.
 * Errors: ENOENT (it concerned this process alone). */
MPE_API int mpe_deadlock_get(mpe_engine *e, mpe_deadlock *out);

/* ---- looking up names of hosts ------------------------------------------------------------ */

/* Looking up names of hosts, on threads of the engine's own that delay neither each other nor
 * those of mpe_offload, and are no obstacle to a fork. */
enum mpe_lookup_kind {
    MPE_LOOKUP_ADDRESSES, /* of a name, as getaddrinfo gives them */
    MPE_LOOKUP_NAMES,     /* of an address, and of the service, as getnameinfo gives them */
    MPE_LOOKUP_HOST,      /* of a name or IPv4 address, as gethostbyname gives it */
};
/* What an answer has is a sequence of texts that end with a zero byte, each after one of these. */
#define MPE_LOOKUP_INET '4'           /* an IPv4 address */
#define MPE_LOOKUP_INET6 '6'          /* an IPv6 address */
#define MPE_LOOKUP_NAME 'n'           /* the name of the host */
#define MPE_LOOKUP_ALIAS 'a'          /* another name of it */
#define MPE_LOOKUP_SERVICE 's'        /* the name of the service */
typedef struct mpe_lookup mpe_lookup; /* one look-up */
/* The answer to one. */
typedef struct mpe_lookup_answer {
    int error;  /* 0, or EAI_ of getaddrinfo; of MPE_LOOKUP_HOST a value of h_errno */
    int number; /* errno, for EAI_SYSTEM and NETDB_INTERNAL */
    mpe_bytes text;
} mpe_lookup_answer;
/* Starts a look-up; name or service may be NULL. Equal ones in progress share one question.
 * Ownership: the caller must mpe_lookup_free it.
 * Errors: ENOMEM, ESYS (errno; no thread can be started). */
MPE_API int mpe_lookup_start(mpe_engine *e, enum mpe_lookup_kind kind, const char *name,
                             const char *service, mpe_lookup **out);
/* Returns the answer, or NULL when there is none yet.  Ownership: it lives as long as the look-up.
 */
MPE_API const mpe_lookup_answer *mpe_lookup_answered(mpe_lookup *l);
/* Returns the list of waiters that wake when the answer arrives. */
MPE_API mpe_waitlist *mpe_lookup_waiters(mpe_lookup *l);
/* Frees a look-up, answered or not, and wakes its waiters. */
MPE_API void mpe_lookup_free(mpe_engine *e, mpe_lookup *l);

/* ---- synchronisation, in steps ------------------------------------------------------------ */

/* An owner is (process, task). The number of a task, 1 .. 2^31-1, comes from mpe_owner_new; those
 * below MPE_OWNER_FIRST are the caller's to choose. mpe_acquire has an owner of its own. */

#define MPE_OWNER_FIRST 0x40000000u /* the least number that mpe_owner_new gives */
/* Returns a number for a task that owns locks, which no other task of this engine has. */
MPE_API uint32_t mpe_owner_new(mpe_engine *e);

/* Acquires a free lock. Returns OWNER_DIED instead of OK when its last owner exited holding it.
 * Errors: EAGAIN (held; wait for MPE_EVENT_READY), EINVAL (task). */
MPE_API int mpe_lock_acquire(mpe_engine *e, mpe_object *o, uint32_t task);
/* Acquires a recursive lock that is free, or one more level of it when the task owns it. Returns
 * OWNER_DIED as mpe_lock_acquire does.
 * Errors: EAGAIN (held; wait for MPE_EVENT_READY), ERANGE (65535 levels), EINVAL (task). */
MPE_API int mpe_rlock_acquire(mpe_engine *e, mpe_object *o, uint32_t task);
/* Releases a lock, held by any process or task.  Errors: EOVER (free). */
MPE_API int mpe_lock_release(mpe_engine *e, mpe_object *o);
/* Releases one level of a recursive lock.  Errors: EPERM (the task does not own it). */
MPE_API int mpe_rlock_release(mpe_engine *e, mpe_object *o, uint32_t task);
/* Releases a lock that the task owns once, and leaves it as that of an owner that died: for a call
 * that got MPE_OWNER_DIED and is not the one to be told.  Errors: EPERM. */
MPE_API int mpe_rlock_abandon(mpe_engine *e, mpe_object *o, uint32_t task);
/* Releases all levels at once and reads how many they were, for mpe_rlock_set_levels after the
 * lock is acquired again.  Errors: EPERM (the task does not own it). */
MPE_API int mpe_rlock_release_all(mpe_engine *e, mpe_object *o, uint32_t task, uint32_t *levels);
/* Sets the levels of a recursive lock that this process owns. */
MPE_API void mpe_rlock_set_levels(mpe_engine *e, mpe_object *o, uint32_t levels);

/* Acquires a permit. Those of a killed process return.
 * Errors: EAGAIN (none; wait for MPE_EVENT_READY), ERANGE (this process has 65535). */
MPE_API int mpe_semaphore_acquire(mpe_engine *e, mpe_object *o);
/* Releases a permit, by preference one that this process has acquired; makes a new one when no
 * process has any.  Errors: EOVER (over its bound), ERANGE (2^32-1 permits). */
MPE_API int mpe_semaphore_release(mpe_engine *e, mpe_object *o);

/* The place of a waiter in the line of a rate limiter. */
typedef struct mpe_limiter_wait mpe_limiter_wait;
/* Takes tokens that are there, if there is no waiter.
 * Errors: EAGAIN, EINVAL (tokens is not above 0), ERANGE (tokens over the burst). */
MPE_API int mpe_limiter_try(mpe_engine *e, mpe_object *o, double tokens);
/* One step of a wait for tokens. *wait is NULL at the first one; from EAGAIN on it is the place in the
 * line, until the call succeeds or mpe_limiter_leave gives it up.
 * Errors: EAGAIN (wait for MPE_EVENT_READY), EINVAL, ERANGE, ENOMEM. */
MPE_API int mpe_limiter_acquire(mpe_engine *e, mpe_object *o, double tokens,
                                mpe_limiter_wait **wait);
/* Leaves the line: OK when the tokens have been taken after all.  Errors: ETIMEDOUT (not yet). */
MPE_API int mpe_limiter_leave(mpe_engine *e, mpe_object *o, mpe_limiter_wait **wait);
/* Gives back tokens that were taken and not used.  Errors: EINVAL, ERANGE (tokens over the burst). */
MPE_API int mpe_limiter_put_back(mpe_engine *e, mpe_object *o, double tokens);

/* Tells whether the event is set, or was since *epoch was read. *epoch is UINT64_MAX at the first
 * call of a wait.  Errors: EAGAIN (not set; wait for MPE_EVENT_READY). */
MPE_API int mpe_event_wait(mpe_engine *e, mpe_object *o, uint64_t *epoch);

#define MPE_EVENT_NOTIFIED MPE_EVENT_SPACE
/* The steps of a wait for a condition, whose lock the caller owns: enlist, release the lock, wait
 * for MPE_EVENT_NOTIFIED until notified is OK or the wait ends otherwise (then leave), acquire the
 * lock. The ticket of enlist goes with the rest of the wait: it takes no earlier notification. */

/* Begins a wait, by the owner of the lock.  Errors: ERANGE (too many waits of this process). */
MPE_API int mpe_condition_enlist(mpe_engine *e, mpe_object *o, uint32_t *ticket);
/* Ends a wait that is notified: OK once.
 * Errors: EAGAIN (not yet; wait for MPE_EVENT_NOTIFIED). */
MPE_API int mpe_condition_notified(mpe_engine *e, mpe_object *o, uint32_t ticket);
/* Ends a wait: OK when a notification had been assigned after all.  Errors: ETIMEDOUT (none). */
MPE_API int mpe_condition_leave(mpe_engine *e, mpe_object *o, uint32_t ticket);

/* Returns the settings.  Ownership: valid while the object is held. */
MPE_API mpe_bytes mpe_barrier_settings(mpe_engine *e, mpe_object *o);
/* Arrives. OK and *index (0 .. parties-1): the caller is the last party, must run the action and
 * then call mpe_barrier_open.
 * Errors: EAGAIN with *index and *generation (wait for MPE_EVENT_READY and mpe_barrier_poll);
 * EAGAIN with *index UINT32_MAX (all parties are there already and the action runs: the caller has
 * not arrived and must arrive again after MPE_EVENT_READY); EBROKEN. */
MPE_API int mpe_barrier_arrive(mpe_engine *e, mpe_object *o, uint32_t *index, uint32_t *generation);
/* Opens the barrier after the action and wakes all parties.
 * Errors: EBROKEN (it broke, or was reset, meanwhile). */
MPE_API int mpe_barrier_open(mpe_engine *e, mpe_object *o, uint32_t generation);
/* Tells whether the barrier of that generation has opened.
 * Errors: EAGAIN (not yet; wait for MPE_EVENT_READY), EBROKEN. */
MPE_API int mpe_barrier_poll(mpe_engine *e, mpe_object *o, uint32_t generation);

/* ---- queues, in steps --------------------------------------------------------------------- */

/* Takes the first message as mpe_queue_get does, and stores its seq + 1 in *lease, a word in
 * shared memory, before it leaves the queue: after a crash of the taker other processes can tell
 * what it had taken.
 * Ownership, Errors: as for mpe_queue_get. */
MPE_API int mpe_queue_get_leased(mpe_engine *e, mpe_object *o, uint64_t *lease, mpe_message *out);
/* Reads the numbers of the next message to be put and to be got, as mpe_message.seq. */
MPE_API void mpe_queue_seqs(mpe_engine *e, mpe_object *o, uint32_t *put_seq, uint32_t *get_seq);
/* Tells whether every message that was put on a joinable queue is done.
 * Errors: EAGAIN (not yet; wait for MPE_EVENT_DONE), EINVAL (not joinable). */
MPE_API int mpe_queue_join(mpe_engine *e, mpe_object *o);

/* ---- leases: the task board of a pool ------------------------------------------------------ */

/* A pool of worker processes keeps its bookkeeping in shared memory, so that a worker that is
 * killed, at any instant, costs the item that it ran and nothing else.
 *
 * The owner puts tasks of one or more items on one queue. A worker takes a task, claims its items
 * in order, runs them, and sends their results through another queue. A *board* holds a lease for
 * each worker, the task it took and the item it runs, and a word for each *place*: how many items
 * of the task at that place are claimed. A *buffer* holds the results of one worker that are not
 * sent yet. Workers, places and the items of a task are numbered from 0.
 *
 *     worker                                owner
 *     mpe_lease_take                        mpe_lease_offer, mpe_queue_put
 *       each item: mpe_lease_begin          mpe_lease_reclaim: takes unclaimed items back
 *                  mpe_lease_end            mpe_lease_running, mpe_lease_stop, mpe_lease_doom
 *                  mpe_lease_publish        after the crash of a worker, and after its messages:
 *       mpe_lease_salvage, mpe_queue_put      mpe_lease_taken, mpe_lease_salvage,
 *       mpe_lease_clear                       mpe_lease_reclaim, mpe_lease_forget
 *
 * A task keeps its place until the worker that took it has finished with it or has exited. The
 * number of a task is the seq of its message; the owner knows it before the put when no other
 * process puts on that queue.
 *
 * Threads: the calls without an engine may be made by any thread; of one worker, and of the owner,
 * by one thread at a time. */
typedef struct mpe_leases {
    uint64_t *words;
    uint64_t workers, places;
} mpe_leases;
/* Makes a board with no task taken. Send its handle to the workers.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EINVAL (no worker or no place),
 * EARENA, ENOMEM. */
MPE_API int mpe_lease_create(mpe_engine *e, uint32_t workers, uint32_t places, mpe_object **out);
/* Gives a view of an object that is a board: a raw array that mpe_lease_create made.
 * Ownership: valid while the object is held.  Errors: EINVAL. */
MPE_API int mpe_lease_board(mpe_engine *e, mpe_object *o, mpe_leases *out);
/* Owner: marks all items of the task that it puts next as unclaimed. The put publishes the mark;
 * an owner killed before the put leaves a place without a task.
 * Threads: see above. */
MPE_API void mpe_lease_offer(const mpe_leases *b, uint64_t place);
/* Owner: withdraws the unclaimed items of a task: no worker begins them any more. Returns how many
 * are claimed. An owner killed before it leaves all items to the workers, one killed after it a
 * task that ends early.
 * Threads: see above. */
MPE_API uint32_t mpe_lease_reclaim(const mpe_leases *b, uint64_t place);
/* What a worker runs. */
typedef struct mpe_lease_run {
    uint32_t number, item;
    uint64_t since; /* mpe_now() when the task was taken, or the item begun by _begin_timed */
} mpe_lease_run;
/* Reads the task that a worker took last; item is 0. For a worker that was killed, call it after
 * its slot is repaired, as by mpe_process_join or mpe_reap_dead.
 * Errors: ENOENT (no task, or killed before the task left the queue). */
MPE_API int mpe_lease_taken(mpe_engine *e, const mpe_leases *b, uint64_t worker, mpe_object *queue,
                            mpe_lease_run *out);
/* Reads the item that a worker runs, or is about to claim.
 * Threads: see above.  Errors: ENOENT (none). */
MPE_API int mpe_lease_running(const mpe_leases *b, uint64_t worker, mpe_lease_run *out);
/* Owner: marks an item as stopped if the worker still runs it. The owner then interrupts the
 * worker, for example by a signal; one killed in between leaves a mark that mpe_lease_end returns.
 * Threads: see above.  Errors: ENOENT (not running, or stopped already). */
MPE_API int mpe_lease_stop(const mpe_leases *b, uint64_t worker, uint32_t number, uint32_t item);
/* Owner: marks a worker that still runs a stopped item as doomed. It begins no other item, so the
 * SIGKILL that the owner sends next costs none. An owner killed in between leaves a worker that
 * blocks in mpe_lease_end; a daemon is killed with its parent.
 * Threads: see above.  Errors: ENOENT (not running or not stopped, or doomed already). */
MPE_API int mpe_lease_doom(const mpe_leases *b, uint64_t worker, uint32_t number, uint32_t item);
/* Owner: tells a worker to take no more tasks. The owner wakes it if it may be waiting for one.
 * Threads: see above. */
MPE_API void mpe_lease_retire(const mpe_leases *b, uint64_t worker);
/* Returns 1 after mpe_lease_ready, else 0.
 * Threads: any. */
MPE_API int mpe_lease_is_ready(const mpe_leases *b, uint64_t worker);
/* Reads the sums of what a worker passed to mpe_lease_count.
 * Threads: any. */
MPE_API void mpe_lease_counts(const mpe_leases *b, uint64_t worker, uint64_t *items,
                              uint64_t *busy_ns);
/* Worker: declares that it has started. A crash before it is a failure to start, a crash after it
 * was caused by a task.
 * Threads: see above. */
MPE_API void mpe_lease_ready(const mpe_leases *b, uint64_t worker);
/* Worker: takes the next task, and stores its number in the lease before it leaves the queue.
 * *since is when. A worker killed before that leaves the task on the queue, one killed after it a
 * task with no item claimed.
 * Ownership, Errors: as for mpe_queue_get; ECLOSED also after mpe_lease_retire. */
MPE_API int mpe_lease_take(mpe_engine *e, const mpe_leases *b, uint64_t worker, mpe_object *queue,
                           mpe_message *out, uint64_t *since);
/* Worker: claims an item of the task at a place, and runs it until mpe_lease_end. A worker killed
 * before the claim leaves the item to others, one killed after it an item that ran, perhaps in
 * part.
 * Blocks: as mpe_lease_end, when it fails.  Threads: see above.
 * Errors: ENOENT (not the next item, or reclaimed; a stop of it has no effect any more). */
MPE_API int mpe_lease_begin(const mpe_leases *b, uint64_t worker, uint64_t place, uint32_t number,
                            uint32_t item);
/* Worker: claims an item as mpe_lease_begin does, and sets `since` of its lease to now.
 * Blocks, Threads, Errors: as for mpe_lease_begin. */
MPE_API int mpe_lease_begin_timed(const mpe_leases *b, uint64_t worker, uint64_t place,
                                  uint32_t number, uint32_t item);
/* Worker: ends the item that it runs; a later stop of that item has no effect. A worker killed
 * before or after it leaves a claimed item without a result.
 * Blocks: until SIGKILL, when the worker is doomed.  Threads: see above.
 * Errors: ECANCELED (the item was stopped). */
MPE_API int mpe_lease_end(const mpe_leases *b, uint64_t worker);
/* Returns 1 when the item that the worker runs is stopped, else 0.
 * Threads: any; signal handlers too. */
MPE_API int mpe_lease_is_stopped(const mpe_leases *b, uint64_t worker);
/* Returns 1 after mpe_lease_retire, else 0.
 * Threads: any; signal handlers too. */
MPE_API int mpe_lease_is_retired(const mpe_leases *b, uint64_t worker);
/* Worker: adds to what mpe_lease_counts reads.
 * Threads: see above. */
MPE_API void mpe_lease_count(const mpe_leases *b, uint64_t worker, uint64_t items,
                             uint64_t busy_ns);
/* A raw array of type 'B', zeroed; 16 of its bytes are not for results. */
typedef struct mpe_lease_buffer {
    void *memory;
    uint64_t size;
} mpe_lease_buffer;
/* Gives a view of an object that is a buffer.
 * Ownership: valid while the object is held.  Errors: EINVAL. */
MPE_API int mpe_lease_buffer_of(mpe_engine *e, mpe_object *o, mpe_lease_buffer *out);
/* Worker: appends the concatenation of the parts as the result of an item. The results in a buffer
 * are those of successive items of one task. A worker killed before it leaves an item that ran
 * without a result, one killed after it the result.
 * Threads: see above.  Errors: EAGAIN (no room left; send and clear first). */
MPE_API int mpe_lease_publish(const mpe_lease_buffer *buffer, uint32_t number, uint32_t item,
                              const mpe_bytes *parts, int count);
/* The results in a buffer. */
typedef struct mpe_lease_results {
    uint32_t number, first; /* the task, and the item of the first result */
    uint32_t count;
    mpe_bytes bytes; /* in the buffer */
} mpe_lease_results;
/* Reads the published results: the worker to send them, the owner after the worker has exited. A
 * worker killed between the put and mpe_lease_clear leaves both, so the owner must drop results
 * that it has received.
 * Ownership: valid until the next publish or clear.  Threads: see above.
 * Errors: ENOENT (none), ECORRUPT. */
MPE_API int mpe_lease_salvage(const mpe_lease_buffer *buffer, mpe_lease_results *out);
/* Worker: empties the buffer, after its results are put.
 * Threads: see above. */
MPE_API void mpe_lease_clear(const mpe_lease_buffer *buffer);
/* Owner: clears the lease and the buffer (NULL: it has none) of a worker that has exited, for a
 * new one. An owner
 * killed in it leaves some words; the call may be repeated.
 * Threads: see above. */
MPE_API void mpe_lease_forget(const mpe_leases *b, uint64_t worker, const mpe_lease_buffer *buffer);

/* ---- pipes -------------------------------------------------------------------------------- */

/* Makes a pipe of two ends, 0 and 1, each with a handle of its own. Not duplex: end 0 receives,
 * end 1 sends. This process has both ends. An end that no process has any more, and that is in no
 * container, is closed: both of the pipe's queues are.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_pipe_create(mpe_engine *e, int duplex, mpe_object **out);
/* Returns the handle of one end. */
MPE_API mpe_handle mpe_pipe_handle(mpe_engine *e, const mpe_object *o, int end);
/* Returns the handle of the queue that carries what an end sends; 0: that end does not send. */
MPE_API mpe_handle mpe_pipe_queue(mpe_engine *e, mpe_object *o, int from_end);
/* Makes this process one of those that have the end. */
MPE_API void mpe_pipe_use(mpe_engine *e, mpe_object *o, int end);
/* Releases this process's end; the last process to do so closes it for all. */
MPE_API void mpe_pipe_close(mpe_engine *e, mpe_object *o, int end);

/* ---- processes that are new programs ------------------------------------------------------ */

/* What a child that is a new program, or comes from the fork server, is started with. */
typedef struct mpe_start {
    size_t size;               /* sizeof(mpe_start) */
    const char *name;          /* of the process */
    unsigned flags;            /* MPE_PROCESS_* */
    const mpe_bytes *messages; /* encoded values; the child reads them with mpe_next_message */
    int count;
    const char *executable;  /* its path; a program that calls mpe_attach */
    const char *const *argv; /* its arguments, as for execv */
} mpe_start;
/* A start with nothing in it. */
#define MPE_START_INIT                                                                             \
    {                                                                                              \
        sizeof(mpe_start), "", 0, NULL, 0, NULL, NULL                                              \
    }
/* Starts a new program in the same arena. It inherits the standard descriptors, the working
 * directory and the environment, and no other descriptor.
 * Ownership: the caller must mpe_process_free *out.
 * Blocks: until the program is executed.
 * Errors: ESLOTS, ENOMEM, EARENA, ESYS (errno, also of exec). */
MPE_API int mpe_process_spawn(mpe_engine *e, const mpe_start *s, mpe_process **out);
/* Has the fork server start a child: the server is a clean program that this call starts when
 * there is none, by executable and argv, and that calls mpe_attach and mpe_serve. Descriptors,
 * directory and environment of the child are those of the caller.
 * Ownership: the caller must mpe_process_free *out.
 * Blocks: until the child exists.
 * Errors: as for mpe_process_spawn; ESERVER (the program started is no server). */
MPE_API int mpe_process_request(mpe_engine *e, const mpe_start *s, mpe_process **out);
/* Returns a path that executes the program of this process again, also when its file was replaced
 * or removed since; NULL with errno.
 * Ownership: path, a buffer of size bytes, or a string of the engine's.  Threads: any. */
MPE_API const char *mpe_own_program(char *path, size_t size);
/* Attaches to the arena of the process that started this program, in the slot that was reserved
 * for it. The first call of a program that the engine may have started.
 * Ownership: the caller must mpe_close it.
 * Errors: ENOENT (the engine did not start it, so mpe_open), ESTALE (the starter is gone, so
 * exit), EVERSION, ENOMEM, ESYS (errno). */
MPE_API int mpe_attach(const mpe_config *config, mpe_engine **out);
/* Returns 1 after mpe_attach in the fork server, else 0. The server has no slot, and may call
 * nothing but mpe_serve. */
MPE_API int mpe_is_server(const mpe_engine *e);
/* Serves requests. Returns OK in every child, which is attached then, and a negative status in one
 * that should exit. Takes SIGCHLD, ignores SIGINT and SIGPIPE; in a child they are as by default.
 * Blocks: until the program is over.
 * Errors: ECLOSED (in the server: no process of the program is left), ENOMEM. */
MPE_API int mpe_serve(mpe_engine *e);
/* Ends the fork server if this process has started it; its children go on. */
MPE_API void mpe_end_server(mpe_engine *e);
/* Takes the next message of the start.
 * Ownership: the caller must mpe_message_free it.  Errors: ENOENT (after the last). */
MPE_API int mpe_next_message(mpe_engine *e, mpe_message *out);
/* Tells the parent the exit code of this process in advance; matters when the fork server was
 * killed. */
MPE_API void mpe_report_exit(mpe_engine *e, int code);
/* Has sig sent to this thread when a child of the fork server exits; SIGCHLD tells of all others.
 * The handler notes the signal, and mpe_process_poll finds out later which child it was.
 * Errors: ESYS (errno). */
MPE_API int mpe_process_tell(mpe_engine *e, mpe_process *p, int sig);
/* Repairs what every process that has exited since left behind, and returns how many those were.
 * Waits do this by themselves. */
MPE_API int mpe_reap_dead(mpe_engine *e);
/* Repairs the same, and closes the pipe ends of those processes, for a process that goes on
 * without waiting. Reads a word per process when none has exited. mpe_run_until, mpe_go_round and
 * mpe_poll do it, too. */
MPE_API void mpe_notice_deaths(mpe_engine *e);

/* ---- descriptors -------------------------------------------------------------------------- */

/* The engine has no descriptor 0, 1 or 2, also while those are closed. A host does the same with:
 */

/* Moves fd, which may be -1, to a number above 2, closed by exec. Returns that, or -1 with errno.
 * Ownership: takes fd, which is closed when it was moved or could not be.  Threads: any. */
MPE_API int mpe_fd_lift(int fd);
/* Makes a pipe with both ends above 2, closed by exec. Returns 0, or -1 with errno.  Threads: any.
 */
MPE_API int mpe_pipe(int ends[2]);
/* Occupies those of 0, 1 and 2 that are closed, while code is called that makes descriptors of its
 * own. Returns what mpe_standard_release needs.  Threads: any. */
MPE_API unsigned mpe_standard_hold(void);
/* Closes what mpe_standard_hold has opened.  Threads: any. */
MPE_API void mpe_standard_release(unsigned held);

/* ---- output ------------------------------------------------------------------------------- */

/* Returns the lock under which mpe_write_whole writes: a Lock that always exists, to be acquired,
 * waited for and released like others, for what is written in pieces without blocking. */
MPE_API mpe_object *mpe_output_lock(mpe_engine *e);

#ifdef __cplusplus
}
#endif

#endif
