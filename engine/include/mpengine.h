/* SPDX-License-Identifier: MIT
 *
 * mpengine.h - processes, shared objects and a task scheduler for C programs.
 *
 * This is the only public header of the engine; it knows nothing of Lua.
 *
 * The picture.  An *engine* is one process's view of an *arena*: a sealed memory file that every
 * process of the program maps at once.  Shared *objects* (locks, queues, arrays, dicts...) are
 * in the arena and are named by 64-bit *handles* that mean the same in every process.  A
 * process, or a thread that uses the engine, owns one *slot* of the arena; when it exits or is
 * killed, the kernel marks the slot, and the first process to notice repairs what it was doing.
 *
 * Waiting.  No call of an object blocks.  A call that cannot finish now returns MPE_EAGAIN and
 * names the *event* of the object to wait for.  mpe_wait_object() files a waiter; the engine's
 * loop fires it when trying again makes sense; mpe_await() is the ready-made blocking form for
 * hosts.
 *
 * Conventions.  Functions return MPE_OK (0) or a negative MPE_E... code; results go through
 * out-parameters, written only on success.  Times are absolute nanoseconds of mpe_now(), or
 * MPE_NOW / MPE_FOREVER.  An engine belongs to the thread that opened it.  Nothing here exits,
 * aborts or prints.
 *
 * The comment of a function starts with what it does.  Then, where they apply: *Ownership*, what
 * the caller must free, or may use how long; *Blocks*, for how long, since a call that does not
 * say so does not block; *Threads*, since a call that does not say so is for the engine's thread
 * alone; *Errors*, the codes without MPE_, since a call that does not name any does not fail.
 */
#ifndef MPENGINE_H
#define MPENGINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MPE_API
#define MPE_API __attribute__((visibility("default")))
#endif

#define MPE_VERSION "0.1.0"

struct uv_loop_s; /* libuv's loop; include <uv.h> to use it */

/* ---- status codes ------------------------------------------------------------------------- */

#define MPE_STATUS_MAP(X)                                                                          \
    X(OK, 0, "ok")                                                                                 \
    X(EAGAIN, -1, "would block")                                                                   \
    X(ETIMEDOUT, -2, "timeout")                                                                    \
    X(ECLOSED, -3, "closed")                                                                       \
    X(EBROKEN, -4, "broken")                                                                       \
    X(ECANCELED, -5, "killed")                                                                     \
    X(ENOMEM, -6, "out of memory")                                                                 \
    X(EARENA, -7, "shared memory exhausted")                                                       \
    X(EINVAL, -8, "invalid argument")                                                              \
    X(ERANGE, -9, "out of range")                                                                  \
    X(ENOENT, -10, "no such entry")                                                                \
    X(EPERM, -11, "not held by the caller")                                                        \
    X(EOVER, -12, "released too many times")                                                       \
    X(ESTALE, -13, "object no longer exists")                                                      \
    X(ECORRUPT, -14, "damaged data")                                                               \
    X(ESLOTS, -15, "too many processes")                                                           \
    X(EDEADLK, -16, "would wait forever")                                                          \
    X(EINTR, -17, "interrupted")                                                                   \
    X(ESYS, -18, "system call failed")                                                             \
    X(EVERSION, -19, "incompatible engine version")                                                \
    X(ETYPE, -20, "wrong type")                                                                    \
    X(EEXIST, -21, "already exists")                                                               \
    X(ETHREADS, -22, "cannot fork while other threads run in this process")                        \
    X(ESERVER, -23, "the fork server does not answer")                                             \
    X(EFILESIZE, -24, "the limit of file sizes (ulimit -f) leaves no room for shared memory")      \
    X(EADDRESSES, -25, "the limit of addresses (ulimit -v) leaves no room for shared memory")      \
    X(EVARIABLE, -26,                                                                              \
      "MPENGINE_SHM_LIMIT is not accepted (bytes, 1M or more, such as 512M or 2G expected)")

enum mpe_status {
#define MPE_STATUS_ENUM(name, value, text) MPE_##name = (value),
    MPE_STATUS_MAP(MPE_STATUS_ENUM)
#undef MPE_STATUS_ENUM
        MPE_OWNER_DIED = 1 /* success, and the previous owner of the lock died holding it */
};

/* Returns the message of a code, a static string.  Threads: any. */
MPE_API const char *mpe_strerror(int status);

/* ---- time --------------------------------------------------------------------------------- */

#define MPE_NOW 0ull           /* deadline: do not wait */
#define MPE_FOREVER UINT64_MAX /* deadline: no limit */
#define MPE_NS_PER_S 1000000000ull

/* Returns the nanoseconds of the monotonic clock.  Threads: any. */
MPE_API uint64_t mpe_now(void);

/* ---- environment -------------------------------------------------------------------------- */

/* The variables that the engine and its bindings read. */
enum mpe_variable {
    MPE_VARIABLE_SHM_LIMIT,    /* MPENGINE_SHM_LIMIT; the value is bytes */
    MPE_VARIABLE_DEADLOCK,     /* MPENGINE_DEADLOCK; 0 report, 1 off */
    MPE_VARIABLE_START_METHOD, /* MPENGINE_START_METHOD; 0 fork, 1 spawn, 2 forkserver */
    MPE_VARIABLE_EXECUTABLE,   /* MPENGINE_EXECUTABLE, a text */
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

/* ---- engine ------------------------------------------------------------------------------- */

typedef struct mpe_engine mpe_engine;
typedef struct mpe_object mpe_object; /* a shared object, valid while held */
typedef uint64_t mpe_handle;          /* its name in every process of the program; 0 is none */

typedef struct mpe_config {
    size_t size;            /* sizeof(mpe_config) */
    uint64_t max_bytes;     /* limit of shared memory; 0: MPENGINE_SHM_LIMIT or 64 GiB */
    struct uv_loop_s *loop; /* the host's loop, or NULL: the engine makes one when needed */
    const char *name;       /* name of this process, NULL: "MainProcess" */
} mpe_config;

#define MPE_CONFIG_INIT                                                                            \
    {                                                                                              \
        sizeof(mpe_config), 0, NULL, NULL                                                          \
    }

/* Makes a new arena and attaches the calling thread to it. config may be NULL. Where the limits of
 * the process (ulimit -f, -v) allow no arena of that size, it is smaller; mpe_stats_get tells.
 * Ownership: the caller must mpe_close it.
 * Errors: ENOMEM, ESYS (errno), EFILESIZE, EADDRESSES, EVARIABLE (mpe_variables_check tells more),
 * EVERSION (config->size). */
MPE_API int mpe_open(const mpe_config *config, mpe_engine **out);

/* Detaches and frees the engine. Releases what this process holds, as its exit would. The arena
 * vanishes with its last process. */
MPE_API void mpe_close(mpe_engine *e);
/* Detaches without freeing memory, for a process that is about to exit: releases what it holds and
 * its slot. No other call on the engine may follow. */
MPE_API void mpe_leave(mpe_engine *e);

/* Returns the engine's libuv loop, made on first use; NULL with errno when it cannot be made.
 * Ownership: the engine's, unless the host gave it. */
MPE_API struct uv_loop_s *mpe_loop(mpe_engine *e);

/* Makes mpe_run_until return MPE_EINTR, for a signal handler.  Threads: async-signal-safe. */
MPE_API void mpe_interrupt(mpe_engine *e);
/* Withdraws an interrupt. Returns 1 when it was pending, else 0. */
MPE_API int mpe_interrupt_clear(mpe_engine *e);

typedef struct mpe_slot_info {
    uint32_t slot;
    int pid;
    int parent_slot;   /* -1: none */
    uint32_t sleeping; /* 0 awake, 1 futex, 2 event loop */
    char name[48];
} mpe_slot_info;

typedef struct mpe_stats {
    uint64_t arena_limit_bytes;     /* most it may become */
    uint64_t arena_committed_bytes; /* memory taken from the system */
    uint64_t arena_used_bytes;      /* in blocks that objects or calls under way own */
    uint32_t objects;               /* live shared objects */
    uint32_t processes;             /* attached slots */
} mpe_stats;

/* Counts what the arena has and uses. Walks all slots, objects and blocks. */
MPE_API void mpe_stats_get(mpe_engine *e, mpe_stats *out);
/* Finds the attached slot with the lowest number >= *slot and advances *slot past it.
 * Errors: ENOENT (no more). */
MPE_API int mpe_slot_next(mpe_engine *e, uint32_t *slot, mpe_slot_info *out);
/* Describes one slot.  Errors: ENOENT (no process is attached there). */
MPE_API int mpe_slot_get(mpe_engine *e, uint32_t slot, mpe_slot_info *out);
/* Returns the number of this process's slot. */
MPE_API uint32_t mpe_self_slot(mpe_engine *e);
/* Returns the name of this process.  Ownership: the engine's, valid until the name is set. */
MPE_API const char *mpe_self_name(mpe_engine *e);
/* Sets the name of this process, as other processes see it; 47 bytes of it are kept. */
MPE_API void mpe_self_set_name(mpe_engine *e, const char *name);
/* Repairs what every process that has exited since left behind, and returns how many those were.
 * Waits do this by themselves. */
MPE_API int mpe_reap_dead(mpe_engine *e);
/* Repairs the same, and closes the pipe ends of those processes, for a process that goes on
 * without waiting. Reads a word per process when none has exited. mpe_run_until, mpe_go_round and
 * mpe_poll do it, too. */
MPE_API void mpe_notice_deaths(mpe_engine *e);
/* Checks the consistency of the whole arena, for tests and debugging; no other process may be
 * active. Returns the number of violations and describes each through report, unless it is NULL.
 */
MPE_API int mpe_check_arena(mpe_engine *e, void (*report)(const char *what, void *ud), void *ud);

/* ---- objects ------------------------------------------------------------------------------ */

/* Kinds of objects: name, number, text, and whose moves it has, which concerns the engine alone. */
#define MPE_KIND_MAP(X)                                                                            \
    X(LOCK, 1, "Lock", lock)                                                                       \
    X(RLOCK, 2, "RLock", lock)                                                                     \
    X(SEMAPHORE, 3, "Semaphore", semaphore)                                                        \
    X(EVENT, 4, "Event", event)                                                                    \
    X(CONDITION, 5, "Condition", condition)                                                        \
    X(BARRIER, 6, "Barrier", barrier)                                                              \
    X(QUEUE, 7, "Queue", queue)                                                                    \
    X(ARRAY, 8, "Array", array)                                                                    \
    X(DICT, 9, "Dict", dict)                                                                       \
    X(LIST, 10, "List", list)                                                                      \
    X(PIPE, 11, "Pipe", pipe)                                                                      \
    X(VALUE, 12, "Value", array) /* an array of one element */                                     \
    X(RAW_ARRAY, 13, "RawArray", raw_array)                                                        \
    X(RAW_VALUE, 14, "RawValue", raw_array)                                                        \
    X(PIPE_OTHER, 15, "Pipe", pipe_other) /* names the second end of a MPE_KIND_PIPE */            \
    X(BLOB, 16, "Blob", blob)                                                                      \
    X(JOINABLE, 17, "JoinableQueue", queue)                                                        \
    X(BOUNDED, 18, "BoundedSemaphore", semaphore)

enum mpe_kind {
    MPE_KIND_NONE = 0,
#define MPE_KIND_ENUM(name, number, text, moves) MPE_KIND_##name = (number),
    MPE_KIND_MAP(MPE_KIND_ENUM)
#undef MPE_KIND_ENUM
        MPE_KIND_COUNT
};

/* The text of a kind, a static string; NULL: there is no such kind. */
MPE_API const char *mpe_kind_name(int kind);

/* The events of an object that can be waited for. */
#define MPE_EVENT_READY 0 /* lock free, permit there, event set, notified, item there */
#define MPE_EVENT_SPACE 1 /* room in a bounded queue; the notification of a condition */
#define MPE_EVENT_DONE 2  /* every item of a joinable queue is done */
#define MPE_EVENTS 3

/* Takes hold of the object that a handle names: it lives at least until the matching drop.
 * Ownership: the caller must mpe_drop it.  Errors: ESTALE, ENOMEM. */
MPE_API int mpe_hold(mpe_engine *e, mpe_handle h, mpe_object **out);
/* Releases one hold. The object's memory returns to the arena after the last one. */
MPE_API void mpe_drop(mpe_engine *e, mpe_object *o);
/* Frees every object that no process holds and no live container contains. The engine does it by
 * itself now and then; a host that gets EARENA can drop what it does not need, sweep and retry. */
MPE_API void mpe_sweep(mpe_engine *e);
/* Returns how many bytes the arena has taken from the system since it was made, by all processes,
 * whatever it returned. A host whose objects wait for a garbage collector decides by it when to
 * collect. */
MPE_API uint64_t mpe_growth(const mpe_engine *e);
/* Returns a mark for mpe_unpin. Bytes copied out of a queue, dict or list may contain handles; the
 * engine pins those objects, so that they live until the bytes are decoded. */
MPE_API uint32_t mpe_pin_mark(mpe_engine *e);
/* Releases all pins made since the mark. */
MPE_API void mpe_unpin(mpe_engine *e, uint32_t mark);
/* Returns the handle of a held object. */
MPE_API mpe_handle mpe_handle_of(mpe_engine *e, const mpe_object *o);
/* Returns the handle of the recursive lock that an array, value or condition carries. */
MPE_API mpe_handle mpe_lock_facet(mpe_engine *e, const mpe_object *o);
/* Returns the enum mpe_kind of a held object. */
MPE_API int mpe_kind_of(const mpe_object *o);
static inline int
mpe_handle_kind(mpe_handle h)
{
    return (int)(h >> 56);
}

typedef struct mpe_object_info {
    mpe_handle handle;
    int kind;
    uint32_t holders; /* processes that hold it */
    uint32_t waiters; /* processes with a task that waits for it */
    uint64_t bytes;   /* arena bytes of its own */
    uint64_t depth;   /* items of a queue, entries of a dict or list, elements of an array */
} mpe_object_info;

/* Describes a held object.  Blocks: until the internal locks of a dict or list are free, briefly.
 */
MPE_API void mpe_object_info_get(mpe_engine *e, mpe_object *o, mpe_object_info *out);
/* Walks the live objects: *index starts at 0 and is advanced.  Errors: ENOENT (no more). */
MPE_API int mpe_object_next(mpe_engine *e, uint32_t *index, mpe_object_info *out);

/* ---- typed arrays ------------------------------------------------------------------------- */

/* Element types, by the letters of Python's array module: c u b B h H i I l L q Q f d.
 * Elements are contiguous C values, aligned to 16 bytes at the start, zeroed. */

/* Returns the bytes of an element type; 0: no such type.  Threads: any. */
MPE_API size_t mpe_type_size(char type);
#define MPE_ARRAY_VALUE 1u /* it is one value: MPE_KIND_VALUE */
#define MPE_ARRAY_RAW 2u   /* without a lock of its own: MPE_KIND_RAW_ARRAY, MPE_KIND_RAW_VALUE */
/* Makes an array of length zeros.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EINVAL (type), EARENA, ENOMEM. */
MPE_API int mpe_array_create(mpe_engine *e, char type, uint64_t length, unsigned flags,
                             mpe_object **out);
/* Returns the elements, with their type and number.  Ownership: valid while the object is held. */
MPE_API void *mpe_array_data(mpe_engine *e, mpe_object *o, char *type, uint64_t *length);

/* ---- blobs --------------------------------------------------------------------------------- */

typedef struct mpe_bytes {
    const void *data;
    size_t size;
} mpe_bytes;

/* Makes an object of bytes that never change. A message can carry the handle instead of the bytes,
 * as it does for the code of Lua functions.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_blob_create(mpe_engine *e, mpe_bytes bytes, mpe_object **out);
/* Returns the bytes.  Ownership: valid while the object is held. */
MPE_API mpe_bytes mpe_blob_bytes(mpe_engine *e, const mpe_object *o);

/* ---- queues ------------------------------------------------------------------------------- */

#define MPE_QUEUE_JOINABLE 1u

/* Makes a queue of byte messages: many producers, many consumers, first in first out.
 * max_items 0: no bound.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_queue_create(mpe_engine *e, uint32_t max_items, unsigned flags, mpe_object **out);

/* Appends the concatenation of the parts as one message. handles 1: the bytes contain handles of
 * objects, which then stay alive while stored.
 * Errors: EAGAIN (full; wait for MPE_EVENT_SPACE), ECLOSED, EARENA. */
MPE_API int mpe_queue_put(mpe_engine *e, mpe_object *o, const mpe_bytes *parts, int count,
                          int handles);

/* A message that was taken from a queue. Small ones are in the struct itself, large ones in an
 * arena block that the caller owns until mpe_message_free. */
#define MPE_MESSAGE_SMALL 2048
typedef struct mpe_message {
    const uint8_t *data;
    size_t size;
    uint64_t block; /* private */
    uint32_t seq;   /* number of the message on its queue, from 0, wraps */
    uint32_t pins;  /* private */
    uint8_t small[MPE_MESSAGE_SMALL];
} mpe_message;

/* Takes the first message.
 * Ownership: the caller must mpe_message_free it.
 * Errors: EAGAIN (empty; wait for MPE_EVENT_READY), ECLOSED (closed and drained), ECORRUPT. */
MPE_API int mpe_queue_get(mpe_engine *e, mpe_object *o, mpe_message *out);
/* Takes the first message as mpe_queue_get does, and stores its seq + 1 in *lease, a word in
 * shared memory, before it leaves the queue: after a crash of the taker other processes can tell
 * what it had taken.
 * Ownership, Errors: as for mpe_queue_get. */
MPE_API int mpe_queue_get_leased(mpe_engine *e, mpe_object *o, uint64_t *lease, mpe_message *out);
/* Frees a message's block and releases the pins of the objects in it. */
MPE_API void mpe_message_free(mpe_engine *e, mpe_message *m);
/* Returns how many messages are in the queue. */
MPE_API uint32_t mpe_queue_size(mpe_engine *e, mpe_object *o);
/* Returns the most messages that may be in the queue; 0: no bound. */
MPE_API uint32_t mpe_queue_bound(mpe_engine *e, mpe_object *o);
/* Reads the numbers of the next message to be put and to be got, as mpe_message.seq. */
MPE_API void mpe_queue_seqs(mpe_engine *e, mpe_object *o, uint32_t *put_seq, uint32_t *get_seq);
/* Returns 1 when the queue is closed, else 0. */
MPE_API int mpe_queue_is_closed(mpe_engine *e, mpe_object *o);
/* Closes the queue for every process: later puts fail, gets go on until it is empty, and all
 * waiters wake. */
MPE_API void mpe_queue_close(mpe_engine *e, mpe_object *o);
/* Counts one message taken from a joinable queue as done.
 * Errors: EOVER (all are done), EINVAL (not joinable). */
MPE_API int mpe_queue_task_done(mpe_engine *e, mpe_object *o);
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
/* Owner: clears the lease and the buffer of a worker that has exited, for a new one. An owner
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

/* ---- dicts -------------------------------------------------------------------------------- */

/* Keys and values are byte strings. A key's bytes are its identity. */

/* Makes an empty dict.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_dict_create(mpe_engine *e, mpe_object **out);

typedef struct mpe_buf mpe_buf;

/* Appends a copy of a key's value to out. *version, when not NULL, names the state of the key for
 * mpe_dict_put_if, also when the key is absent.  Errors: ENOENT, ENOMEM. */
MPE_API int mpe_dict_get(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_buf *out,
                         uint64_t *version);
/* Returns 1 when the dict has the key, else 0. */
MPE_API int mpe_dict_has(mpe_engine *e, mpe_object *o, mpe_bytes key);
/* Puts a key and its value, which replaces an older one. handles 1: the value contains handles of
 * objects, which then stay alive while stored.  Errors: EARENA. */
MPE_API int mpe_dict_put(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_bytes value, int handles);
/* Puts a key that is absent.  Errors: EEXIST, EARENA. */
MPE_API int mpe_dict_put_new(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_bytes value,
                             int handles);
/* Puts a key if it has not changed since version was read.  Errors: EAGAIN (changed), EARENA. */
MPE_API int mpe_dict_put_if(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t version,
                            mpe_bytes value, int handles);
/* Removes a key if it has not changed since version was read; an absent key is fine.
 * Errors: EAGAIN (changed). */
MPE_API int mpe_dict_remove_if(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t version);
/* Removes a key; its value is appended to out, unless that is NULL.  Errors: ENOENT, ENOMEM. */
MPE_API int mpe_dict_remove(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_buf *out);
/* Removes some key and appends key and value to the two buffers.
 * Errors: ENOENT (empty), ENOMEM. */
MPE_API int mpe_dict_pop_any(mpe_engine *e, mpe_object *o, mpe_buf *key, mpe_buf *value);
/* Writes the new value of a key, at most 16 bytes, from the present one (NULL, 0 when absent). A
 * negative status refuses. It must not call the engine. */
typedef int (*mpe_edit_fn)(const uint8_t *value, size_t size, uint8_t out[16], size_t *out_size,
                           void *ud);
/* Replaces a value in one step: calls edit under the lock that guards the key.
 * Errors: what edit returned, EARENA. */
MPE_API int mpe_dict_edit(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_edit_fn edit, void *ud);
/* Returns how many keys the dict has. */
MPE_API uint64_t mpe_dict_count(mpe_engine *e, mpe_object *o);
/* Removes all keys, in one step as other processes see it. */
MPE_API void mpe_dict_clear(mpe_engine *e, mpe_object *o);
/* Appends a consistent snapshot to out: *count records (u32 key size, u32 value size, key bytes,
 * value bytes), each padded to 8 bytes.
 * Blocks: until changes in progress are done.  Errors: ENOMEM. */
MPE_API int mpe_dict_snapshot(mpe_engine *e, mpe_object *o, mpe_buf *out, uint64_t *count);
/* Puts count records as a snapshot has them: all or none, in one step as other processes see it,
 * even if this process is killed. handles 1: values may contain handles of objects.  Errors:
 * EARENA. */
MPE_API int mpe_dict_update(mpe_engine *e, mpe_object *o, const void *records, uint64_t count,
                            int handles);

/* ---- lists -------------------------------------------------------------------------------- */

/* A sequence of byte strings; indexes are from 0. */

/* Makes an empty list.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_list_create(mpe_engine *e, mpe_object **out);
/* Returns how many items the list has. */
MPE_API uint64_t mpe_list_count(mpe_engine *e, mpe_object *o);
/* Appends a copy of an item to out.  Errors: ERANGE, ENOMEM. */
MPE_API int mpe_list_get(mpe_engine *e, mpe_object *o, uint64_t index, mpe_buf *out);
/* Replaces an item; an index equal to the count appends.  Errors: ERANGE, EARENA. */
MPE_API int mpe_list_set(mpe_engine *e, mpe_object *o, uint64_t index, mpe_bytes v, int handles);
/* Inserts an item before index; an index of the count or more appends. Negative indexes, as two's
 * complement, count from the end: -1 appends, -2 inserts before the last item, and those before
 * the first item insert there.  Errors: EARENA. */
MPE_API int mpe_list_insert(mpe_engine *e, mpe_object *o, uint64_t index, mpe_bytes v, int handles);
/* Appends all items or none, in one step as other processes see it. If this process is killed in
 * the middle, the first of them stay.  Errors: EARENA. */
MPE_API int mpe_list_extend(mpe_engine *e, mpe_object *o, const mpe_bytes *items, size_t count,
                            int handles);
/* Removes an item; -1, as two's complement, is the last, and so on. The value is appended to out,
 * unless that is NULL.  Errors: ERANGE, ENOMEM, EARENA. */
MPE_API int mpe_list_remove(mpe_engine *e, mpe_object *o, uint64_t index, mpe_buf *out);
/* Removes an item if the list is still at version.  Errors: EAGAIN (changed), ERANGE, EARENA. */
MPE_API int mpe_list_remove_if(mpe_engine *e, mpe_object *o, uint64_t index, uint64_t version);
/* Removes all items, in one step as other processes see it. */
MPE_API void mpe_list_clear(mpe_engine *e, mpe_object *o);
/* Appends all items to out as (u32 size, u32 0, bytes padded to 8), and reads their count and a
 * version for mpe_list_reorder. out NULL: only count and version.  Errors: ENOMEM. */
MPE_API int mpe_list_snapshot(mpe_engine *e, mpe_object *o, mpe_buf *out, uint64_t *count,
                              uint64_t *version);
/* Makes item i the old item order[i], for all count items, in one step, if the list is still at
 * version.  Errors: EAGAIN (changed), ERANGE (order is no permutation), ENOMEM, EARENA. */
MPE_API int mpe_list_reorder(mpe_engine *e, mpe_object *o, uint64_t version, const uint64_t *order,
                             uint64_t count);

/* ---- synchronisation ---------------------------------------------------------------------- */

/* An owner is (process, task): task is any number the caller uses for its own tasks, 1 .. 2^31-1.
 */

/* Makes a free lock.
 * Ownership: the caller holds the object and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_lock_create(mpe_engine *e, int recursive, mpe_object **out);
/* Acquires a free lock. Returns OWNER_DIED instead of OK when its last owner exited holding it.
 * Errors: EAGAIN (held; wait for MPE_EVENT_READY). */
MPE_API int mpe_lock_acquire(mpe_engine *e, mpe_object *o, uint32_t task);
/* Acquires a recursive lock that is free, or one more level of it when the task owns it. Returns
 * OWNER_DIED as mpe_lock_acquire does.
 * Errors: EAGAIN (held; wait for MPE_EVENT_READY), ERANGE (65535 levels). */
MPE_API int mpe_rlock_acquire(mpe_engine *e, mpe_object *o, uint32_t task);
/* Releases a lock, held by any process or task.  Errors: EOVER (free). */
MPE_API int mpe_lock_release(mpe_engine *e, mpe_object *o);
/* Releases one level of a recursive lock.  Errors: EPERM (the task does not own it). */
MPE_API int mpe_rlock_release(mpe_engine *e, mpe_object *o, uint32_t task);
/* Releases all levels at once and reads how many they were, for mpe_rlock_set_levels after the
 * lock is acquired again.  Errors: EPERM (the task does not own it). */
MPE_API int mpe_rlock_release_all(mpe_engine *e, mpe_object *o, uint32_t task, uint32_t *levels);
/* Sets the levels of a recursive lock that this process owns. */
MPE_API void mpe_rlock_set_levels(mpe_engine *e, mpe_object *o, uint32_t levels);
typedef struct mpe_lock_state {
    int locked;
    int abandoned; /* its last owner exited holding it, and it was not acquired since */
    uint32_t slot, task, levels;
} mpe_lock_state;
/* Reads whether a lock is held, and its owner. */
MPE_API void mpe_lock_state_get(mpe_engine *e, const mpe_object *o, mpe_lock_state *out);

/* Makes a semaphore of so many permits. bounded 1: releasing never makes more.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_semaphore_create(mpe_engine *e, uint32_t permits, int bounded, mpe_object **out);
/* Acquires a permit. Those of a killed process return.
 * Errors: EAGAIN (none; wait for MPE_EVENT_READY), ERANGE (this process has 65535). */
MPE_API int mpe_semaphore_acquire(mpe_engine *e, mpe_object *o);
/* Releases a permit, by preference one that this process has acquired; makes a new one when no
 * process has any.  Errors: EOVER (over its bound), ERANGE (2^32-1 permits). */
MPE_API int mpe_semaphore_release(mpe_engine *e, mpe_object *o);
/* Returns how many permits are free. */
MPE_API uint32_t mpe_semaphore_value(mpe_engine *e, mpe_object *o);

/* Makes an event that is not set.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_event_create(mpe_engine *e, mpe_object **out);
/* Sets the event and wakes all waiters. */
MPE_API void mpe_event_set(mpe_engine *e, mpe_object *o);
/* Clears the event. */
MPE_API void mpe_event_clear(mpe_engine *e, mpe_object *o);
/* Returns 1 when the event is set, else 0. */
MPE_API int mpe_event_is_set(mpe_engine *e, mpe_object *o);
/* Tells whether the event is set, or was since *epoch was read. *epoch is UINT64_MAX at the first
 * call of a wait.  Errors: EAGAIN (not set; wait for MPE_EVENT_READY). */
MPE_API int mpe_event_wait(mpe_engine *e, mpe_object *o, uint64_t *epoch);

#define MPE_EVENT_NOTIFIED MPE_EVENT_SPACE
/* The steps of a wait for a condition, whose lock the caller owns: enlist, release the lock, wait
 * for MPE_EVENT_NOTIFIED until notified is OK or the wait ends otherwise (then leave), acquire the
 * lock. The ticket of enlist goes with the rest of the wait: it takes no earlier notification. */

/* Makes a condition. lock 0: it carries a recursive lock of its own (mpe_lock_facet).
 * Ownership: the caller holds it and must mpe_drop it.  Errors: ESTALE (lock), EARENA, ENOMEM. */
MPE_API int mpe_condition_create(mpe_engine *e, mpe_handle lock, mpe_object **out);
/* Returns the handle of the condition's lock. */
MPE_API mpe_handle mpe_condition_lock(mpe_engine *e, mpe_object *o);
/* Begins a wait, by the owner of the lock.  Errors: ERANGE (too many waits of this process). */
MPE_API int mpe_condition_enlist(mpe_engine *e, mpe_object *o, uint32_t *ticket);
/* Ends a wait that is notified: OK once.
 * Errors: EAGAIN (not yet; wait for MPE_EVENT_NOTIFIED). */
MPE_API int mpe_condition_notified(mpe_engine *e, mpe_object *o, uint32_t ticket);
/* Ends a wait: OK when a notification had been assigned after all.  Errors: ETIMEDOUT (none). */
MPE_API int mpe_condition_leave(mpe_engine *e, mpe_object *o, uint32_t ticket);
/* Notifies up to count waits that have begun, by the owner of the lock. */
MPE_API void mpe_condition_notify(mpe_engine *e, mpe_object *o, uint32_t count);

/* Makes a barrier for so many parties. settings: bytes of the caller's that travel with it.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_barrier_create(mpe_engine *e, uint32_t parties, mpe_bytes settings,
                               mpe_object **out);
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
/* Breaks the barrier: all waits, and all later ones until a reset, end with EBROKEN. */
MPE_API void mpe_barrier_abort(mpe_engine *e, mpe_object *o);
/* Makes the barrier empty and whole again; the waits under way end with EBROKEN. */
MPE_API void mpe_barrier_reset(mpe_engine *e, mpe_object *o);
/* Reads the number of parties, how many wait, and whether the barrier is broken. */
MPE_API void mpe_barrier_state(mpe_engine *e, mpe_object *o, uint32_t *parties, uint32_t *waiting,
                               int *broken);

/* ---- scheduling --------------------------------------------------------------------------- */

/* A job is one entry of the run queue; the caller embeds it and owns its memory. */
typedef struct mpe_job mpe_job;
struct mpe_job {
    mpe_job *next; /* private */
    void (*run)(mpe_engine *e, mpe_job *job);
    int queued; /* private: on the run queue */
};

/* Puts a job at the end of the run queue; does nothing when it is on it. */
MPE_API void mpe_post(mpe_engine *e, mpe_job *job);
/* Runs a job that is not on the queue at once: for a callback of libuv that must not be late. */
MPE_API void mpe_run_now(mpe_engine *e, mpe_job *job);

typedef struct mpe_waitlist mpe_waitlist;
typedef struct mpe_waiter mpe_waiter;

/* One wait of one task; the caller embeds it, zeroed at first, and owns its memory, which must
 * stay until fire has been called or mpe_wait_stop. fire is called once, by the loop: MPE_OK means
 * try again, MPE_ETIMEDOUT that the deadline passed. It must not wait. */
struct mpe_waiter {
    void (*fire)(mpe_engine *e, mpe_waiter *w, int status);
    /* the rest is private */
    mpe_waiter *next, *prev;
    mpe_waitlist *list;
    uint64_t deadline;
    uint32_t heap_index; /* 0: on no heap */
    int fired;           /* took a wake-up of its object and has not yet used it */
    int is_aside;        /* a timer that nothing is waited for by */
    mpe_object *object;
    int event;
};

/* Waiters in arrival order, inside one process. Zeroed memory is an empty list. */
struct mpe_waitlist {
    mpe_waiter *head, *tail;
};

/* Files a waiter for (o, event). The caller has tried and got MPE_EAGAIN, and must try once more
 * after this call, since the change may have happened in between; if that succeeds, mpe_wait_stop.
 * Filed again after a fire that led to nothing, the waiter keeps its turn.
 * Ownership: the caller holds o until the wait is over.
 * Errors: EINVAL (objects of this kind have no such event), ENOMEM. */
MPE_API int mpe_wait_object(mpe_engine *e, mpe_waiter *w, mpe_object *o, int event,
                            uint64_t deadline);
/* Files a waiter at the end of a list of this process.  Errors: ENOMEM. */
MPE_API int mpe_wait_list(mpe_engine *e, mpe_waiter *w, mpe_waitlist *list, uint64_t deadline);
/* Spins until (o, event) looks ready; returns 1 when it does. Does nothing while there are jobs to
 * run or spinning has not paid lately. Before mpe_wait_object it saves the waker a ring.
 * Blocks: for at most 2 us. */
MPE_API int mpe_spin_for(mpe_engine *e, mpe_object *o, int event);
#define MPE_READABLE 1
#define MPE_WRITABLE 2
/* Beside one of them: the owner of the descriptor calls mpe_fd_closing before each close of it, so
 * that a wait need not ask the kernel whether the number stands for the same file as before. */
#define MPE_CLOSE_TOLD 4
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
/* Files a waiter that fires at the deadline.  Errors: ENOMEM. */
MPE_API int mpe_wait_timer(mpe_engine *e, mpe_waiter *w, uint64_t deadline);
/* Files a timer for work aside, such as closing what is not used: it does not keep a process whose
 * other waits can never end from being in a deadlock.  Errors: ENOMEM. */
MPE_API int mpe_wait_timer_aside(mpe_engine *e, mpe_waiter *w, uint64_t deadline);
/* Withdraws a waiter; harmless when it has fired. */
MPE_API void mpe_wait_stop(mpe_engine *e, mpe_waiter *w);
/* Ends the turn of a waiter that was woken and took what it waited for, or gave up: lets the next
 * one of this or another process try. Every fire of mpe_wait_object with MPE_OK is followed by
 * exactly one mpe_wait_done or mpe_wait_object of the same waiter. */
MPE_API void mpe_wait_done(mpe_engine *e, mpe_waiter *w);
/* Fires the first count waiters of a list and returns how many they were. */
MPE_API uint32_t mpe_waitlist_wake(mpe_engine *e, mpe_waitlist *list, uint32_t count);

/* Runs jobs, timers and I/O until *done is not 0. Any callback may set it, those of the host's own
 * libuv handles too, and may post, wake, file waits and run the loop itself.
 * Blocks: until then.
 * Errors: EDEADLK (nothing can ever happen: no job, timer, I/O, nor other live process; or all
 * processes wait for each other, see mpe_find_deadlocks), EINTR (mpe_interrupt), ESYS (errno). */
MPE_API int mpe_run_until(mpe_engine *e, const int *done);
/* Switches finding of deadlocks on or off, for the whole program; off at first. When it is on, and
 * all processes wait for shared objects and for the exits of each other, the wait ends with
 * EDEADLK in every one of them. A process with a timer, a deadline, I/O, a mpe_keep_alive, or one
 * that runs or blocks elsewhere, can still do something. */
MPE_API void mpe_find_deadlocks(mpe_engine *e, int on);
typedef struct mpe_deadlock {
    mpe_handle queue;   /* joinable, for what the others have to say; to be held at once. 0: none */
    uint32_t teller;    /* slot of the process that is to tell of it, the lowest */
    uint32_t processes; /* how many are in it */
} mpe_deadlock;
/* Describes the deadlock that EDEADLK told of.
 * Errors: ENOENT (it concerned this process alone). */
MPE_API int mpe_deadlock_get(mpe_engine *e, mpe_deadlock *out);
/* Runs the jobs that are queued now, and serves the bell and timers; descriptors and libuv as
 * often as mpe_run_until does. For a caller that has work of its own but lets other tasks run.
 * Errors: EINTR (mpe_interrupt). */
MPE_API int mpe_go_round(mpe_engine *e);
/* Runs what is ready. Returns 1 when there is more to do at once, else 0. */
MPE_API int mpe_poll(mpe_engine *e);
/* Runs one turn of the libuv loop alone, without blocking. */
MPE_API void mpe_turn(mpe_engine *e);
/* Counts what others than the engine have on the libuv loop that keeps it alive: active and
 * referenced handles, requests in progress and handles being closed. 0: nothing. */
MPE_API uint64_t mpe_loop_others(mpe_engine *e);
/* A hook of the loop. turned is called after each turn of the libuv loop, or where there would be
 * one if anything were on it, and before each sleep: there a change of mpe_loop_others is seen in
 * time. It may post and wake, and must not wait. The caller owns the memory; a forked child has
 * none of its parent's hooks. */
typedef struct mpe_turn_hook mpe_turn_hook;
struct mpe_turn_hook {
    mpe_turn_hook *next; /* private */
    void (*turned)(mpe_engine *e, mpe_turn_hook *hook);
};
/* Adds a hook.  Ownership: its memory stays the caller's and must stay until mpe_off_turn. */
MPE_API void mpe_on_turn(mpe_engine *e, mpe_turn_hook *hook);
/* Removes a hook; harmless when it is not there. */
MPE_API void mpe_off_turn(mpe_engine *e, mpe_turn_hook *hook);
/* Adds delta to the number of things outside the engine's sight that will post a job (a thread, a
 * foreign loop). While it is not 0 it counts as I/O, so waiting is no deadlock. */
MPE_API void mpe_keep_alive(mpe_engine *e, int delta);

/* Runs work(ud) on a thread of the engine's and then, from the loop, done with MPE_OK. The work
 * may use nothing of the engine. done is not called for work that is in progress when the engine
 * is closed.
 * Errors: ENOMEM, ESYS (errno; no thread can be started). */
MPE_API int mpe_offload(mpe_engine *e, void (*work)(void *ud),
                        void (*done)(mpe_engine *e, void *ud, int status), void *ud);

/* Looking up names of hosts, on threads of the engine's own that delay neither each other nor
 * those of mpe_offload, and are no obstacle to a fork. */
enum mpe_lookup_kind {
    MPE_LOOKUP_ADDRESSES, /* of a name, as getaddrinfo gives them */
    MPE_LOOKUP_NAMES,     /* of an address, and of the service, as getnameinfo gives them */
    MPE_LOOKUP_HOST,      /* of a name or IPv4 address, as gethostbyname gives it */
};
/* What an answer has is a sequence of texts that end with a zero byte, each after one of these. */
#define MPE_LOOKUP_INET '4'
#define MPE_LOOKUP_INET6 '6'
#define MPE_LOOKUP_NAME 'n'
#define MPE_LOOKUP_ALIAS 'a'
#define MPE_LOOKUP_SERVICE 's'
typedef struct mpe_lookup mpe_lookup;
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

/* Waits, for hosts: calls try_again until it returns something else than MPE_EAGAIN, which it then
 * returns; in between it waits for (o, event) and runs jobs, timers and I/O.
 * Blocks: up to the deadline.
 * Errors: ETIMEDOUT, those of mpe_wait_object and of mpe_run_until. */
MPE_API int mpe_await(mpe_engine *e, mpe_object *o, int event, uint64_t deadline,
                      int (*try_again)(mpe_engine *e, mpe_object *o, void *ud), void *ud);

/* ---- processes ---------------------------------------------------------------------------- */

typedef struct mpe_process mpe_process; /* a child, as its parent sees it */

/* The exit code of a child when the host ignores SIGCHLD, or has waited for the child itself. */
#define MPE_EXIT_LOST 255

#define MPE_PROCESS_DAEMON 1u /* killed by the kernel when the process that started it is gone */

/* What a child that is a new program, or comes from the fork server, is started with. */
typedef struct mpe_start {
    size_t size;               /* sizeof(mpe_start) */
    const char *name;          /* of the process */
    unsigned flags;            /* MPE_PROCESS_DAEMON */
    const mpe_bytes *messages; /* encoded values; the child reads them with mpe_next_message */
    int count;
    const char *executable;  /* its path; a program that calls mpe_attach */
    const char *const *argv; /* its arguments, as for execv */
} mpe_start;

#define MPE_START_INIT                                                                             \
    {                                                                                              \
        sizeof(mpe_start), "", 0, NULL, 0, NULL, NULL                                              \
    }

/* Forks. The child (*is_child 1, *out NULL) is attached to the same arena with a slot, a run queue
 * and a loop of its own; no task, timer or handle of the parent runs in it; it holds every object
 * the parent held, and has the pipe ends that message (encoded values, or nothing) names. The
 * parent gets *out. A negative status with *is_child 1 means that the parent exited meanwhile: the
 * child should exit.
 * Ownership: the parent must mpe_process_free *out.
 * Errors: ESLOTS, ENOMEM, ESYS (errno), ETHREADS: a child has no other thread than the caller, so
 * a process with threads that mpe_own_threads does not know cannot fork; the other start methods
 * have no such limit. */
MPE_API int mpe_process_fork(mpe_engine *e, const char *name, unsigned flags, mpe_bytes message,
                             mpe_process **out, int *is_child);
/* Adds delta to the number of threads of this process that are no obstacle to a fork: they hold no
 * lock that a child needs. libuv's thread pool is known. A forked child begins with none. */
MPE_API void mpe_own_threads(mpe_engine *e, int delta);
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
/* Returns the pid of a child. */
MPE_API int mpe_process_pid(const mpe_process *p);
/* Returns 1 in the process that started p, 0 in one that was forked since. */
MPE_API int mpe_process_is_mine(const mpe_process *p);
/* Reads the exit code of a child that has exited: n, or -signal.
 * Errors: EAGAIN (it has not), EPERM (another process's child). */
MPE_API int mpe_process_poll(mpe_engine *e, mpe_process *p, int *code);
/* Waits for a child's exit and reads its exit code. Runs no job.
 * Blocks: this thread, up to the deadline.
 * Errors: EINTR (a signal was handled), ETIMEDOUT, EPERM, ESYS (errno). */
MPE_API int mpe_process_join(mpe_engine *e, mpe_process *p, uint64_t deadline, int *code);
/* Files a waiter for a child's exit; it fires from the loop, at once when the child has exited.
 * Errors: ENOMEM, ESYS (errno), EPERM. */
MPE_API int mpe_process_wait(mpe_engine *e, mpe_process *p, mpe_waiter *w, uint64_t deadline);
/* Has sig sent to this thread when a child of the fork server exits; SIGCHLD tells of all others.
 * The handler notes the signal, and mpe_process_poll finds out later which child it was.
 * Errors: ESYS (errno). */
MPE_API int mpe_process_tell(mpe_engine *e, mpe_process *p, int sig);
/* Sends a signal to a child; harmless when it has exited.  Errors: ESYS (errno). */
MPE_API int mpe_process_signal(mpe_engine *e, mpe_process *p, int sig);
/* Frees the parent's view of a child; a child that has not exited goes on. */
MPE_API void mpe_process_free(mpe_engine *e, mpe_process *p);
/* Returns the pid of the process that started this one, 0 in the first; *alive is 1 while it
 * lives. */
MPE_API int mpe_parent_pid(mpe_engine *e, int *alive);
/* Returns the name that the parent had when this process started.  Ownership: the engine's. */
MPE_API const char *mpe_parent_name(mpe_engine *e);
/* Returns a descriptor that becomes readable when the parent exits; -1 with errno.
 * Ownership: the engine's. */
MPE_API int mpe_parent_fd(mpe_engine *e, int *alive);

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

/* Writes all bytes to a descriptor without another process of the program writing in between. Does
 * not acquire the output lock when this process holds it.
 * Blocks: until the lock is free, and as write(2) does.  Errors: ESYS (errno). */
MPE_API int mpe_write_whole(mpe_engine *e, int fd, const void *bytes, size_t size);
/* Returns the lock under which mpe_write_whole writes: a Lock that always exists, to be acquired,
 * waited for and released like others, for what is written in pieces without blocking. */
MPE_API mpe_object *mpe_output_lock(mpe_engine *e);

/* Returns how many processors this process may run on.  Threads: any. */
MPE_API uint32_t mpe_cpu_count(void);

#ifdef __cplusplus
}
#endif

#include "mpengine_wire.h"

#endif
