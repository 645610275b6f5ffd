/* SPDX-License-Identifier: MIT
 *
 * mpengine.h - processes, shared objects and a task scheduler for C programs.
 *
 * This is the only public header of the engine; it knows nothing of Lua.
 *
 * The picture.  An *engine* is one process's view of an *arena*: a sealed memory file that every
 * process of the program maps at once.  Shared *objects* (locks, queues, arrays, dicts...) live in
 * the arena and are named by 64-bit *handles* that mean the same in every process.  A process, or
 * a thread that uses the engine, owns one *slot* of the arena; when it dies, however it dies, the
 * kernel marks the slot and whoever notices first repairs what the dead one was doing.
 *
 * Waiting.  No call of an object blocks.  A call that cannot finish now returns MPE_EAGAIN and
 * names the *event* of the object to wait for.  mpe_wait_object() files a waiter; the engine's loop
 * fires it when trying again makes sense; mpe_await() is the ready-made blocking form for hosts.
 *
 * Conventions.  Functions return MPE_OK (0) or a negative MPE_E... code; results go through
 * out-parameters, written only on success.  Times are absolute nanoseconds of mpe_now(), or
 * MPE_NOW / MPE_FOREVER.  An engine belongs to the thread that opened it: no call on it may be made
 * from another thread unless its comment says so.  Nothing here exits, aborts or prints.
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
    X(EDEADLK, -16, "would wait for ever")                                                         \
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

/* The message of a code, a static string. */
MPE_API const char *mpe_strerror(int status);

/* ---- time --------------------------------------------------------------------------------- */

#define MPE_NOW 0ull           /* deadline: do not wait */
#define MPE_FOREVER UINT64_MAX /* deadline: no limit */
#define MPE_NS_PER_S 1000000000ull

/* Nanoseconds of the monotonic clock. Any thread. */
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
/* Its text and what that means. Errors: ENOENT: unset or empty; EVARIABLE. */
MPE_API int mpe_variable_get(enum mpe_variable which, uint64_t *value, const char **text);
/* Looks at all of them. EVARIABLE, whose text is about the one that mpe_open reads, with a message that names the first that is wrong, and what it
 * accepts. */
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

/* Makes a new arena and attaches the calling thread to it. config may be NULL.
 * Where limits of the process (ulimit -f, -v) allow no such arena,
 * it is smaller, which mpe_stats_get tells.
 * Ownership: mpe_close frees.  Errors: ENOMEM, ESYS (errno is set), EFILESIZE, EADDRESSES,
 * EVARIABLE (mpe_variables_check tells more). */
MPE_API int mpe_open(const mpe_config *config, mpe_engine **out);

/* Detaches: gives up what this process holds as its death would, and frees the engine.
 * The arena vanishes with its last process. */
MPE_API void mpe_close(mpe_engine *e);
/* The first half of it, for a process that is about to end: gives up what it holds and its slot,
 * and frees no memory. No other call on the engine may follow. */
MPE_API void mpe_leave(mpe_engine *e);

/* The engine's libuv loop, made on first use; NULL with errno when it cannot be made. */
MPE_API struct uv_loop_s *mpe_loop(mpe_engine *e);

/* Takes a signal's effect into the loop: async-signal-safe. mpe_run_until then returns MPE_EINTR. */
MPE_API void mpe_interrupt(mpe_engine *e);
/* Takes it back: whether it had not been noticed yet. */
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

MPE_API void mpe_stats_get(mpe_engine *e, mpe_stats *out);
/* The attached slot with number >= *slot; advances *slot past it. MPE_ENOENT at the end. */
MPE_API int mpe_slot_next(mpe_engine *e, uint32_t *slot, mpe_slot_info *out);
/* One slot by number. MPE_ENOENT when nobody is attached there. */
MPE_API int mpe_slot_get(mpe_engine *e, uint32_t slot, mpe_slot_info *out);
MPE_API uint32_t mpe_self_slot(mpe_engine *e);
MPE_API const char *mpe_self_name(mpe_engine *e);
MPE_API void mpe_self_set_name(mpe_engine *e, const char *name);
/* Repairs after every process that has died since; returns how many. Waits do this by themselves. */
MPE_API int mpe_reap_dead(mpe_engine *e);
/* For a process that goes on without waiting: the same, and pipes that the dead left are closed. Reads
 * a word per process when none has died. mpe_run_until, mpe_go_round and mpe_poll do it, too. */
MPE_API void mpe_notice_deaths(mpe_engine *e);
/* Consistency check of the whole arena, for tests and debugging; no other process may be active.
 * Returns the number of violations found; each is described through report when it is not NULL. */
MPE_API int mpe_check_arena(mpe_engine *e, void (*report)(const char *what, void *ud), void *ud);

/* ---- objects ------------------------------------------------------------------------------ */

enum mpe_kind {
    MPE_KIND_NONE = 0,
    MPE_KIND_LOCK,
    MPE_KIND_RLOCK,
    MPE_KIND_SEMAPHORE,
    MPE_KIND_EVENT,
    MPE_KIND_CONDITION,
    MPE_KIND_BARRIER,
    MPE_KIND_QUEUE,
    MPE_KIND_ARRAY,
    MPE_KIND_DICT,
    MPE_KIND_LIST,
    MPE_KIND_PIPE,
    MPE_KIND_VALUE, /* an array of one element */
    MPE_KIND_RAW_ARRAY,
    MPE_KIND_RAW_VALUE,
    MPE_KIND_PIPE_OTHER, /* names the second end of a MPE_KIND_PIPE */
    MPE_KIND_BLOB,
    MPE_KIND_JOINABLE, /* a queue */
    MPE_KIND_BOUNDED,  /* a semaphore */
    MPE_KIND_COUNT
};

/* The events of an object that can be waited for. */
#define MPE_EVENT_READY 0 /* lock free, permit there, event set, notified, item there */
#define MPE_EVENT_SPACE 1 /* room in a bounded queue; the notification of a condition */
#define MPE_EVENT_DONE 2  /* every item of a joinable queue is done */
#define MPE_EVENTS 3

/* Takes hold of the object that a handle names: it lives at least until the matching drop.
 * Errors: ESTALE. */
MPE_API int mpe_hold(mpe_engine *e, mpe_handle h, mpe_object **out);
/* Gives up one hold. The object's memory returns to the arena after the last one. */
MPE_API void mpe_drop(mpe_engine *e, mpe_object *o);
/* Frees what no process holds and no container that lives mentions. The engine does it by itself now and
 * then; a host that is told EARENA can drop what it does not need, sweep, and try again. */
MPE_API void mpe_sweep(mpe_engine *e);
/* How many bytes the arena has taken from the system since it was made, by whichever process, and
 * whatever it gave back. For a host whose objects wait for a garbage collector: when to run it. */
MPE_API uint64_t mpe_growth(const mpe_engine *e);
/* Bytes copied out of a queue, dict or list may hold handles. The engine pins those objects, so
 * that they live until the bytes are decoded; give the pins up, down to an earlier mark, then. */
MPE_API uint32_t mpe_pin_mark(mpe_engine *e);
MPE_API void mpe_unpin(mpe_engine *e, uint32_t mark);
MPE_API mpe_handle mpe_handle_of(mpe_engine *e, const mpe_object *o);
/* The handle of the recursive lock that an array, value or condition carries. */
MPE_API mpe_handle mpe_lock_facet(mpe_engine *e, const mpe_object *o);
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
    uint32_t waiters; /* processes with somebody waiting on it */
    uint64_t bytes;   /* arena bytes of its own */
    uint64_t depth;   /* items of a queue, entries of a dict or list, elements of an array */
} mpe_object_info;

MPE_API void mpe_object_info_get(mpe_engine *e, mpe_object *o, mpe_object_info *out);
/* Walks live objects: *index starts at 0 and is advanced. MPE_ENOENT at the end. */
MPE_API int mpe_object_next(mpe_engine *e, uint32_t *index, mpe_object_info *out);

/* ---- typed arrays ------------------------------------------------------------------------- */

/* Element types, by the letters of Python's array module: c u b B h H i I l L q Q f d.
 * Elements are contiguous C values, aligned to 16 bytes at the start, zeroed. */
MPE_API size_t mpe_type_size(char type); /* 0: no such type */
#define MPE_ARRAY_VALUE 1u               /* it is one value: MPE_KIND_VALUE */
#define MPE_ARRAY_RAW 2u /* without a lock of its own: MPE_KIND_RAW_ARRAY, MPE_KIND_RAW_VALUE */
/* Errors: EINVAL (type), EARENA. */
MPE_API int mpe_array_create(mpe_engine *e, char type, uint64_t length, unsigned flags,
                             mpe_object **out);
/* The elements; valid while the object is held. */
MPE_API void *mpe_array_data(mpe_engine *e, mpe_object *o, char *type, uint64_t *length);

/* ---- blobs --------------------------------------------------------------------------------- */

typedef struct mpe_bytes {
    const void *data;
    size_t size;
} mpe_bytes;

/* Bytes that never change. A message can carry the handle instead of the bytes: so it is with the
 * code of Lua functions.  Errors: EARENA. */
MPE_API int mpe_blob_create(mpe_engine *e, mpe_bytes bytes, mpe_object **out);
/* The bytes; valid while the object is held. */
MPE_API mpe_bytes mpe_blob_bytes(mpe_engine *e, const mpe_object *o);

/* ---- queues ------------------------------------------------------------------------------- */

#define MPE_QUEUE_JOINABLE 1u

/* A queue of byte messages: many producers, many consumers, first in first out.
 * max_items 0: no bound.  Errors: EARENA. */
MPE_API int mpe_queue_create(mpe_engine *e, uint32_t max_items, unsigned flags, mpe_object **out);

/* Appends the concatenation of the parts as one message.  handles says that the bytes contain
 * handles of objects, which then stay alive while stored.
 * Errors: EAGAIN (full; wait for MPE_EVENT_SPACE), ECLOSED, EARENA. */
MPE_API int mpe_queue_put(mpe_engine *e, mpe_object *o, const mpe_bytes *parts, int count,
                          int handles);

/* A message that was taken off. Small ones lie in the struct itself, large ones in
 * an arena block that belongs to the caller until mpe_message_free. */
#define MPE_MESSAGE_SMALL 2048
typedef struct mpe_message {
    const uint8_t *data;
    size_t size;
    uint64_t block; /* private */
    uint32_t seq;   /* number of the message on its queue, from 0, wraps */
    uint32_t pins;  /* private */
    uint8_t small[MPE_MESSAGE_SMALL];
} mpe_message;

/* Takes the first message.  Errors: EAGAIN (empty; wait for MPE_EVENT_READY), ECLOSED (closed and
 * drained), ENOMEM. */
MPE_API int mpe_queue_get(mpe_engine *e, mpe_object *o, mpe_message *out);
/* The same, and stores the message's seq + 1 in *lease, a word in shared memory, before the message
 * leaves the queue: whoever finds the taker dead can tell what it had taken. */
MPE_API int mpe_queue_get_leased(mpe_engine *e, mpe_object *o, uint64_t *lease, mpe_message *out);
MPE_API void mpe_message_free(mpe_engine *e, mpe_message *m);
MPE_API uint32_t mpe_queue_size(mpe_engine *e, mpe_object *o);
MPE_API uint32_t mpe_queue_bound(mpe_engine *e, mpe_object *o);
/* Numbers of the next message to be put and to be got, as mpe_message.seq. */
MPE_API void mpe_queue_seqs(mpe_engine *e, mpe_object *o, uint32_t *put_seq, uint32_t *get_seq);
MPE_API int mpe_queue_is_closed(mpe_engine *e, mpe_object *o);
/* For everybody: later puts fail, gets go on until it is empty, waiters wake. */
MPE_API void mpe_queue_close(mpe_engine *e, mpe_object *o);
/* Joinable: one taken message is done. Errors: EOVER, EINVAL (not joinable). */
MPE_API int mpe_queue_task_done(mpe_engine *e, mpe_object *o);
/* Joinable: OK when every message that was put is done, else EAGAIN (wait for MPE_EVENT_DONE), or
 * EINVAL when it is not joinable. */
MPE_API int mpe_queue_join(mpe_engine *e, mpe_object *o);

/* ---- pipes -------------------------------------------------------------------------------- */

/* Two ends, 0 and 1, each with a handle of its own. Not duplex: end 0 receives, end 1 sends. The
 * maker has both ends. An end that no process has any more, and that lies in no container, is
 * closed: both of the pipe's queues are. */
MPE_API int mpe_pipe_create(mpe_engine *e, int duplex, mpe_object **out);
MPE_API mpe_handle mpe_pipe_handle(mpe_engine *e, const mpe_object *o, int end);
/* The queue that carries what an end sends; 0: that end does not send. */
MPE_API mpe_handle mpe_pipe_queue(mpe_engine *e, mpe_object *o, int from_end);
/* This process has the end from now on; it has it no more. */
MPE_API void mpe_pipe_use(mpe_engine *e, mpe_object *o, int end);
MPE_API void mpe_pipe_close(mpe_engine *e, mpe_object *o, int end);

/* ---- dicts -------------------------------------------------------------------------------- */

/* Keys and values are byte strings. A key's bytes are its identity. */
MPE_API int mpe_dict_create(mpe_engine *e, mpe_object **out);

typedef struct mpe_buf mpe_buf;

/* Copies the value of a key to the end of out.  *version, when not NULL, names the state of the
 * key for mpe_dict_put_if, also when it is absent.  Errors: ENOENT, ENOMEM. */
MPE_API int mpe_dict_get(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_buf *out,
                         uint64_t *version);
MPE_API int mpe_dict_has(mpe_engine *e, mpe_object *o, mpe_bytes key);
MPE_API int mpe_dict_put(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_bytes value, int handles);
/* Puts only when the key is absent; else EEXIST. */
MPE_API int mpe_dict_put_new(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_bytes value,
                             int handles);
/* Puts only when nothing has changed the key since version was read; else EAGAIN. */
MPE_API int mpe_dict_put_if(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t version,
                            mpe_bytes value, int handles);
/* Removes it under the same condition; an absent key is fine. Errors: EAGAIN. */
MPE_API int mpe_dict_remove_if(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t version);
/* Removes a key; its value goes to the end of out when that is not NULL. Errors: ENOENT, ENOMEM. */
MPE_API int mpe_dict_remove(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_buf *out);
/* Removes some key: key and value are appended to the two buffers. Errors: ENOENT. */
MPE_API int mpe_dict_pop_any(mpe_engine *e, mpe_object *o, mpe_buf *key, mpe_buf *value);
/* Atomic replacement of a value in one step under the key's lock: edit sees the present value
 * (NULL, 0 when absent) and writes at most 16 new bytes; it may refuse by a negative status.
 * It must not call the engine. */
typedef int (*mpe_edit_fn)(const uint8_t *value, size_t size, uint8_t out[16], size_t *out_size,
                           void *ud);
MPE_API int mpe_dict_edit(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_edit_fn edit, void *ud);
MPE_API uint64_t mpe_dict_count(mpe_engine *e, mpe_object *o);
/* Removes all, in one step for everybody else. */
MPE_API void mpe_dict_clear(mpe_engine *e, mpe_object *o);
/* A consistent snapshot: a sequence of (u32 key size, u32 value size, key bytes, value bytes), each
 * record padded to 8 bytes, appended to out; *count records. */
MPE_API int mpe_dict_snapshot(mpe_engine *e, mpe_object *o, mpe_buf *out, uint64_t *count);
/* Puts count records as a snapshot has them: all or none, in one step for everybody else, however
 * this process dies. handles: may values mention objects?  Errors: EARENA. */
MPE_API int mpe_dict_update(mpe_engine *e, mpe_object *o, const void *records, uint64_t count,
                            int handles);

/* ---- lists -------------------------------------------------------------------------------- */

/* A sequence of byte strings; indexes are from 0. */
MPE_API int mpe_list_create(mpe_engine *e, mpe_object **out);
MPE_API uint64_t mpe_list_count(mpe_engine *e, mpe_object *o);
/* Errors: ERANGE. */
MPE_API int mpe_list_get(mpe_engine *e, mpe_object *o, uint64_t index, mpe_buf *out);
/* Replaces an item; an index equal to the count appends. Errors: ERANGE, EARENA. */
MPE_API int mpe_list_set(mpe_engine *e, mpe_object *o, uint64_t index, mpe_bytes v, int handles);
/* Inserts before index, at most the count. Negative ones, as two's complement, count from the end: -1
 * appends, -2 inserts before the last; far ones insert before the first. */
MPE_API int mpe_list_insert(mpe_engine *e, mpe_object *o, uint64_t index, mpe_bytes v, int handles);
/* Appends all or nothing, in one step for everybody else; a death in the middle leaves the first
 * of them. Errors: EARENA. */
MPE_API int mpe_list_extend(mpe_engine *e, mpe_object *o, const mpe_bytes *items, size_t count,
                            int handles);
/* Removes; -1, as two's complement, is the last, and so on. The value goes to out when not NULL.
 * Errors: ERANGE. */
MPE_API int mpe_list_remove(mpe_engine *e, mpe_object *o, uint64_t index, mpe_buf *out);
/* Removes it if the list is still at version. Errors: EAGAIN (changed meanwhile), ERANGE. */
MPE_API int mpe_list_remove_if(mpe_engine *e, mpe_object *o, uint64_t index, uint64_t version);
/* Removes all, in one step for everybody else. */
MPE_API void mpe_list_clear(mpe_engine *e, mpe_object *o);
/* All items as (u32 size, u32 0, bytes padded to 8), and a version for mpe_list_reorder.
 * out NULL: only their count and the version. */
MPE_API int mpe_list_snapshot(mpe_engine *e, mpe_object *o, mpe_buf *out, uint64_t *count,
                              uint64_t *version);
/* Makes item i the old item order[i], for all count items, in one step, if the list is still at
 * version. Errors: EAGAIN (changed meanwhile), ERANGE. */
MPE_API int mpe_list_reorder(mpe_engine *e, mpe_object *o, uint64_t version, const uint64_t *order,
                             uint64_t count);

/* ---- synchronisation ---------------------------------------------------------------------- */

/* Owners are (process, task): task is any number the caller uses for its own tasks, 1 .. 2^31-1. */

MPE_API int mpe_lock_create(mpe_engine *e, int recursive, mpe_object **out);
/* OK, OWNER_DIED (held now, the last owner died), or EAGAIN (wait for MPE_EVENT_READY). */
MPE_API int mpe_lock_acquire(mpe_engine *e, mpe_object *o, uint32_t task);
MPE_API int mpe_rlock_acquire(mpe_engine *e, mpe_object *o, uint32_t task);
/* A lock may be released by anybody; EOVER when it is free. */
MPE_API int mpe_lock_release(mpe_engine *e, mpe_object *o);
/* A recursive lock by its owner only: EPERM. */
MPE_API int mpe_rlock_release(mpe_engine *e, mpe_object *o, uint32_t task);
/* Gives up all levels at once and says how many; take them back after acquiring once. */
MPE_API int mpe_rlock_release_all(mpe_engine *e, mpe_object *o, uint32_t task, uint32_t *levels);
MPE_API void mpe_rlock_set_levels(mpe_engine *e, mpe_object *o, uint32_t levels);
typedef struct mpe_lock_state {
    int locked;
    int abandoned; /* its last owner died and nobody has acquired it since */
    uint32_t slot, task, levels;
} mpe_lock_state;
MPE_API void mpe_lock_state_get(mpe_engine *e, const mpe_object *o, mpe_lock_state *out);

MPE_API int mpe_semaphore_create(mpe_engine *e, uint32_t permits, int bounded, mpe_object **out);
MPE_API int mpe_semaphore_acquire(mpe_engine *e, mpe_object *o); /* OK or EAGAIN */
MPE_API int mpe_semaphore_release(mpe_engine *e, mpe_object *o); /* EOVER: over its bound */
MPE_API uint32_t mpe_semaphore_value(mpe_engine *e, mpe_object *o);

MPE_API int mpe_event_create(mpe_engine *e, mpe_object **out);
MPE_API void mpe_event_set(mpe_engine *e, mpe_object *o);
MPE_API void mpe_event_clear(mpe_engine *e, mpe_object *o);
MPE_API int mpe_event_is_set(mpe_engine *e, mpe_object *o);
/* OK when set, or set since *epoch was read; else EAGAIN. *epoch: UINT64_MAX at the first call. */
MPE_API int mpe_event_wait(mpe_engine *e, mpe_object *o, uint64_t *epoch);

#define MPE_EVENT_NOTIFIED MPE_EVENT_SPACE
/* A condition. lock 0: it carries its own recursive lock (mpe_lock_facet). The caller holds the
 * lock for enlist and notify; the steps of a wait are: enlist, release the lock, wait for
 * MPE_EVENT_NOTIFIED until notified() is OK or the wait ends otherwise (then leave), take the lock.
 * enlist gives a ticket for the rest of the wait: nobody takes a notification that came before. */
MPE_API int mpe_condition_create(mpe_engine *e, mpe_handle lock, mpe_object **out);
MPE_API mpe_handle mpe_condition_lock(mpe_engine *e, mpe_object *o);
MPE_API int mpe_condition_enlist(mpe_engine *e, mpe_object *o, uint32_t *ticket); /* or ERANGE */
MPE_API int mpe_condition_notified(mpe_engine *e, mpe_object *o,
                                   uint32_t ticket); /* OK, once, or EAGAIN */
/* OK when a notification had been assigned after all, else ETIMEDOUT; one waiter fewer either way. */
MPE_API int mpe_condition_leave(mpe_engine *e, mpe_object *o, uint32_t ticket);
MPE_API void mpe_condition_notify(mpe_engine *e, mpe_object *o, uint32_t count);

/* A barrier. arrive: OK and *index (0 .. parties-1) when the caller is the last and must run the
 * action, then call mpe_barrier_open; else EAGAIN with *generation to pass to poll. An *index of
 * UINT32_MAX beside EAGAIN: all parties are there already and their action runs; has not arrived,
 * must do so again after MPE_EVENT_READY. */
/* settings: bytes of the caller's that travel with the barrier (mpe_barrier_settings). */
MPE_API int mpe_barrier_create(mpe_engine *e, uint32_t parties, mpe_bytes settings,
                               mpe_object **out);
MPE_API mpe_bytes mpe_barrier_settings(mpe_engine *e, mpe_object *o);
MPE_API int mpe_barrier_arrive(mpe_engine *e, mpe_object *o, uint32_t *index, uint32_t *generation);
MPE_API int mpe_barrier_open(mpe_engine *e, mpe_object *o, uint32_t generation);
MPE_API int mpe_barrier_poll(mpe_engine *e, mpe_object *o, uint32_t generation); /* or EBROKEN */
MPE_API void mpe_barrier_abort(mpe_engine *e, mpe_object *o);
MPE_API void mpe_barrier_reset(mpe_engine *e, mpe_object *o);
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

/* Puts a job at the end of the run queue, once. */
MPE_API void mpe_post(mpe_engine *e, mpe_job *job);
/* Runs one that is not on the queue at once: for a callback of libuv that must not come late. */
MPE_API void mpe_run_now(mpe_engine *e, mpe_job *job);

typedef struct mpe_waitlist mpe_waitlist;
typedef struct mpe_waiter mpe_waiter;

/* One wait of one task; the caller embeds it, zeroed at first, and owns its memory, which must stay
 * until fire has been called or mpe_wait_stop. fire is called once, by the loop: MPE_OK means try again,
 * MPE_ETIMEDOUT that the deadline passed. It must not wait. */
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

/* Waiters in arrival order, inside one process. Zeroed memory is an empty one. */
struct mpe_waitlist {
    mpe_waiter *head, *tail;
};

/* Files a waiter. The caller has tried and got MPE_EAGAIN, and must try once more after
 * mpe_wait_object, since the change may have come between; if that succeeds, mpe_wait_stop.
 * Filed again after a fire that led to nothing, the waiter keeps its turn.
 * Errors: EINVAL (objects of this kind have no such event), ENOMEM. */
MPE_API int mpe_wait_object(mpe_engine *e, mpe_waiter *w, mpe_object *o, int event,
                            uint64_t deadline);
MPE_API int mpe_wait_list(mpe_engine *e, mpe_waiter *w, mpe_waitlist *list, uint64_t deadline);
/* Spins for at most 2 us until (o, event) looks ready; 1 when it does. Does nothing while there are
 * jobs to run or spinning has not paid lately. Before mpe_wait_object it saves the waker a ring. */
MPE_API int mpe_spin_for(mpe_engine *e, mpe_object *o, int event);
#define MPE_READABLE 1
#define MPE_WRITABLE 2
/* Waits for one of the two on a descriptor. A wait that ended without its event (timeout, stop) is
 * followed by mpe_fd_waiter_gone; before the descriptor is closed, mpe_fd_closing fires all its
 * waiters. Errors: ENOMEM, ESYS. */
MPE_API int mpe_wait_fd(mpe_engine *e, mpe_waiter *w, int fd, int events, uint64_t deadline);
MPE_API void mpe_fd_waiter_gone(mpe_engine *e, int fd);
MPE_API void mpe_fd_closing(mpe_engine *e, int fd);
MPE_API int mpe_wait_timer(mpe_engine *e, mpe_waiter *w, uint64_t deadline);
/* The same for work aside, such as closing what is not used: what waits for nothing else is in a deadlock
 * in spite of it. */
MPE_API int mpe_wait_timer_aside(mpe_engine *e, mpe_waiter *w, uint64_t deadline);
/* Takes a waiter back; harmless when it has fired. */
MPE_API void mpe_wait_stop(mpe_engine *e, mpe_waiter *w);
/* The waiter is done with what it was woken for (took it, or gave up): lets the next one of this
 * or another process try. Every fire of mpe_wait_object with MPE_OK is followed by exactly one
 * mpe_wait_done or mpe_wait_object of the same waiter. */
MPE_API void mpe_wait_done(mpe_engine *e, mpe_waiter *w);
/* Fires the first count waiters of a list. */
MPE_API uint32_t mpe_waitlist_wake(mpe_engine *e, mpe_waitlist *list, uint32_t count);

/* Runs jobs, timers and I/O until *done is not 0. Any callback may set it, those of the host's own
 * libuv handles too, and may post, wake, file waits and run the loop itself.
 * Errors: EDEADLK (nothing can ever happen: no job, timer, I/O, nor other live process; or all
 * processes wait for each other, see mpe_find_deadlocks), EINTR. */
MPE_API int mpe_run_until(mpe_engine *e, const int *done);
/* Whether the wait of a program whose processes all wait for shared objects, and the ends of each
 * other, ends with EDEADLK in every one of them. For the whole program; off at first. A process with a
 * timer, a deadline, I/O, a mpe_keep_alive, or that runs or blocks elsewhere, can still do something. */
MPE_API void mpe_find_deadlocks(mpe_engine *e, int on);
typedef struct mpe_deadlock {
    mpe_handle queue;   /* joinable, for what the others have to say; to be held at once. 0: none */
    uint32_t teller;    /* slot of the process that is to tell of it, the lowest */
    uint32_t processes; /* how many are in it */
} mpe_deadlock;
/* After EDEADLK: what is known. ENOENT: it concerned this process alone. */
MPE_API int mpe_deadlock_get(mpe_engine *e, mpe_deadlock *out);
/* Runs the jobs that are queued now, and serves what waits for the bell and for timers; descriptors and
 * libuv as often as mpe_run_until does. For a caller that has something to do itself but lets others
 * have their turn. Does not block.  Errors: EINTR. */
MPE_API int mpe_go_round(mpe_engine *e);
/* Runs what is ready, without blocking. Returns 1 when there is more to do at once, else 0. */
MPE_API int mpe_poll(mpe_engine *e);
/* One turn of the libuv loop alone, without blocking. */
MPE_API void mpe_turn(mpe_engine *e);
/* What others than the engine have on the libuv loop that keeps it alive: how many active and
 * referenced handles, requests under way and handles being closed. 0: nothing. */
MPE_API uint64_t mpe_loop_others(mpe_engine *e);
/* turned is called after each turn of the libuv loop, or where there would be one if anything were
 * on it, and before each sleep: there a change of mpe_loop_others can be seen in time. It may post and wake, and must not wait. The caller owns the
 * memory; a forked child has none of its parent's. */
typedef struct mpe_turn_hook mpe_turn_hook;
struct mpe_turn_hook {
    mpe_turn_hook *next; /* private */
    void (*turned)(mpe_engine *e, mpe_turn_hook *hook);
};
MPE_API void mpe_on_turn(mpe_engine *e, mpe_turn_hook *hook);
MPE_API void mpe_off_turn(mpe_engine *e, mpe_turn_hook *hook);
/* Something outside the engine's sight will post a job (a thread, a foreign loop): counts as I/O
 * while held, so that waiting for it is no deadlock. */
MPE_API void mpe_keep_alive(mpe_engine *e, int delta);

/* Runs work(ud) on a thread of the engine's and then, from the loop, done with MPE_OK. The work may
 * use nothing of the engine. What has not ended when the engine is closed is told to nobody.
 * Errors: ENOMEM; ESYS (errno): no thread can be started. */
MPE_API int mpe_offload(mpe_engine *e, void (*work)(void *ud),
                        void (*done)(mpe_engine *e, void *ud, int status), void *ud);

/* Looking up names of hosts, on threads of the engine's own that hold up neither each other nor those
 * of mpe_offload, and are no obstacle to a fork. */
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
/* Asks; name or service may be NULL. Ownership: the caller must mpe_lookup_free it.
 * Errors: ENOMEM; ESYS (errno): no thread can be started. */
MPE_API int mpe_lookup_start(mpe_engine *e, enum mpe_lookup_kind kind, const char *name,
                             const char *service, mpe_lookup **out);
/* The answer, which lives as long as the look-up, or NULL: not yet. Its waiters are woken then. */
MPE_API const mpe_lookup_answer *mpe_lookup_answered(mpe_lookup *l);
MPE_API mpe_waitlist *mpe_lookup_waiters(mpe_lookup *l);
/* Answered or not; never blocks. Wakes its waiters. */
MPE_API void mpe_lookup_free(mpe_engine *e, mpe_lookup *l);

/* The blocking form for hosts: calls try until it returns something else than MPE_EAGAIN, waiting
 * for (o, event) in between and running jobs, timers and I/O. Blocks up to the deadline. */
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
 * and a loop of its own; nothing of the parent's tasks, timers or handles runs in it; it holds
 * every object the parent held, and has the pipe ends that message (encoded values, or nothing)
 * names. The parent gets *out. A negative status with *is_child 1 means
 * that the parent died meanwhile: the child should exit.
 * Errors: ESLOTS, ENOMEM, ESYS (errno), ETHREADS: a child has no other thread than the caller, so
 * with threads that nobody answers for this is refused; the other start methods have no such limit. */
MPE_API int mpe_process_fork(mpe_engine *e, const char *name, unsigned flags, mpe_bytes message,
                             mpe_process **out, int *is_child);
/* Says that delta more threads of this process are no obstacle to a fork: they hold no lock that a
 * child needs. libuv's thread pool is known. A forked child begins with none. */
MPE_API void mpe_own_threads(mpe_engine *e, int delta);
/* Starts a new program in the same arena. It inherits the standard descriptors, the working directory
 * and the environment, and no other descriptor.  Errors: ESLOTS, ENOMEM, EARENA, ESYS (errno, also
 * of exec). */
MPE_API int mpe_process_spawn(mpe_engine *e, const mpe_start *s, mpe_process **out);
/* Has the fork server start it: a clean program that mpe_process_request starts when there is none,
 * by executable and argv, and that calls mpe_attach and mpe_serve. Descriptors, directory and environment
 * of the child are those of the caller.  Blocks until the child exists.
 * Errors: as for mpe_process_spawn; ESERVER: the program started is no server. */
MPE_API int mpe_process_request(mpe_engine *e, const mpe_start *s, mpe_process **out);
/* The path that executes the program of this process once more, also when its file was replaced or
 * removed since: path, of size bytes, or a string of the engine's. NULL with errno. */
MPE_API const char *mpe_own_program(char *path, size_t size);
/* The beginning of a program that may have been started by the engine: attaches to the arena of its
 * starter, in the place that was kept for it.
 * Errors: ENOENT: it was not, so mpe_open(); ESTALE: the starter is gone, so exit; EVERSION, ESYS. */
MPE_API int mpe_attach(const mpe_config *config, mpe_engine **out);
/* 1 after mpe_attach in the fork server: it has no slot, and no call is allowed but mpe_serve. */
MPE_API int mpe_is_server(const mpe_engine *e);
/* Serves. Returns OK in every child, which is attached then, and a negative status in one that should
 * exit; ECLOSED in the server itself when no process of the program is left. Takes SIGCHLD,
 * ignores SIGINT and SIGPIPE; in a child they are as by default. */
MPE_API int mpe_serve(mpe_engine *e);
/* Ends the fork server if this process has started it; what it has started goes on. */
MPE_API void mpe_end_server(mpe_engine *e);
/* The next message of the start. ENOENT after the last. */
MPE_API int mpe_next_message(mpe_engine *e, mpe_message *out);
/* Tells the parent the exit code that is to come; matters when the fork server has died. */
MPE_API void mpe_report_exit(mpe_engine *e, int code);
MPE_API int mpe_process_pid(const mpe_process *p);
/* 0 in a process that was forked after p was started. */
MPE_API int mpe_process_is_mine(const mpe_process *p);
/* OK and *code (n, or -signal) when it has ended; else EAGAIN, or EPERM when it is not mine. Never
 * blocks. */
MPE_API int mpe_process_poll(mpe_engine *e, mpe_process *p, int *code);
/* Blocks this thread until it has ended; runs no job.  Errors: EINTR (a signal was handled), ETIMEDOUT,
 * EPERM, ESYS. */
MPE_API int mpe_process_join(mpe_engine *e, mpe_process *p, uint64_t deadline, int *code);
/* Files a waiter for its end; fires at once, from the loop, when it has ended. Errors: ENOMEM,
 * ESYS, EPERM. */
MPE_API int mpe_process_wait(mpe_engine *e, mpe_process *p, mpe_waiter *w, uint64_t deadline);
/* Has sig sent to this thread when it ends, if it was started by the fork server; of others SIGCHLD tells.
 * The handler notes it, and mpe_process_poll later finds out whose it was. Errors: ESYS. */
MPE_API int mpe_process_tell(mpe_engine *e, mpe_process *p, int sig);
/* Errors: ESYS. Sending to one that has ended is fine. */
MPE_API int mpe_process_signal(mpe_engine *e, mpe_process *p, int sig);
/* Ownership: takes p back; the process itself goes on if it has not ended. */
MPE_API void mpe_process_free(mpe_engine *e, mpe_process *p);
/* The pid of the process that started this one, 0 for the first; 1 in *alive while it lives. */
MPE_API int mpe_parent_pid(mpe_engine *e, int *alive);
MPE_API const char *mpe_parent_name(mpe_engine *e);
/* A descriptor that becomes readable when that process ends; the engine's own. -1 with errno. */
MPE_API int mpe_parent_fd(mpe_engine *e, int *alive);

/* ---- descriptors -------------------------------------------------------------------------- */

/* The engine has no descriptor 0, 1 or 2, also while those are closed. The same for a host: */
/* Moves fd, which may be -1, to a number above 2, closed by exec; -1 with errno. Any thread. */
MPE_API int mpe_fd_lift(int fd);
/* pipe2 with O_CLOEXEC, both ends above 2; 0, or -1 with errno. Any thread. */
MPE_API int mpe_pipe(int ends[2]);
/* Occupies those of 0, 1 and 2 that are closed, while code is called that makes descriptors
 * of its own; what it returns is for the release, which closes them again. */
MPE_API unsigned mpe_standard_hold(void);
MPE_API void mpe_standard_release(unsigned held);

/* ---- output ------------------------------------------------------------------------------- */

/* Writes all bytes to a descriptor without another process of the program writing between them.
 * Blocks as write(2) does; while this process holds the lock below it goes ahead.  Errors: ESYS. */
MPE_API int mpe_write_whole(mpe_engine *e, int fd, const void *bytes, size_t size);
/* The lock under which it writes: a Lock that is always there, to be acquired, waited for and released
 * like others, for what is written in pieces without blocking. */
MPE_API mpe_object *mpe_output_lock(mpe_engine *e);

/* Processors this process may run on. */
MPE_API uint32_t mpe_cpu_count(void);

#ifdef __cplusplus
}
#endif

#include "mpengine_wire.h"

#endif
