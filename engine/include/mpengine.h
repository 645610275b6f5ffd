/* SPDX-License-Identifier: MIT
 *
 * mpengine.h - processes, shared objects and a task scheduler for C programs: what a host needs.
 *
 * It reads from top to bottom: opening, being driven, waiting, values, names, objects, processes,
 * pools, and last looking inside. It knows nothing of Lua (mpengine_lua.h does). The steps from
 * which bindings and state machines build waits of their own are in mpengine_core.h.
 *
 * The picture.  An *engine* is one process's view of an *arena*: a sealed memory file that every
 * process of the program maps at once.  Shared *objects* (locks, queues, arrays, dicts...) are
 * in the arena and are named by 64-bit *handles* that mean the same in every process.  A
 * process, or a thread that uses the engine, owns one *slot* of the arena; when it exits or is
 * killed, the kernel marks the slot, and the first process to notice repairs what it was doing.
 *
 * Conventions.  Functions return MPE_OK (0) or a negative MPE_E... code; results go through
 * out-parameters, written only on success.  Times are absolute nanoseconds of mpe_now(), or
 * MPE_NOW / MPE_FOREVER.  A call that has a deadline waits; no other call of an object does: one
 * that cannot finish now returns MPE_EAGAIN.  Nothing here exits, aborts or prints.
 *
 * Refusals, in this order: EINVAL (an engine, object or required pointer is NULL), EPERM (the
 * engine belongs to another thread, or was inherited by fork(2)), ESTALE (the object or handle is
 * of another arena, or is gone), ETYPE (an object of another kind).  Comments do not repeat them.  A
 * function that returns no status does nothing then, and returns 0 or NULL.
 *
 * Structs that a host fills in begin with their size.  A smaller one, of an older header, is
 * taken, and what it lacks is zero; a larger one is taken when what is unknown in it is zero.
 *
 * The comment of a function starts with what it does.  Then, where they apply: *Ownership*, what
 * the caller must free, or may use how long; *Blocks*, for how long, since a call that does not
 * say so does not block; *Threads*, since a call that does not say so is for the engine's thread
 * alone; *Errors*, the codes without MPE_, since a call that does not name any does not fail
 * otherwise.
 */
#ifndef MPENGINE_H
#define MPENGINE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#ifndef MPE_API
#define MPE_API __attribute__((visibility("default"))) /* is part of the interface */
#endif

/* ---- status codes and time ---------------------------------------------------------------- */

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
/* The status codes. */
enum mpe_status {
#define MPE_STATUS_ENUM(name, value, text) MPE_##name = (value),
    MPE_STATUS_MAP(MPE_STATUS_ENUM)
#undef MPE_STATUS_ENUM
        MPE_OWNER_DIED = 1 /* success, and the previous owner of the lock died holding it */
};

/* Returns the message of a code, a static string.  Threads: any. */
MPE_API const char *mpe_strerror(int status);

#define MPE_NOW 0ull           /* deadline: do not wait */
#define MPE_FOREVER UINT64_MAX /* deadline: no limit */
#define MPE_NS_PER_S 1000000000ull

/* Returns the nanoseconds of the monotonic clock.  Threads: any. */
MPE_API uint64_t mpe_now(void);

/* ---- types -------------------------------------------------------------------------------- */

typedef struct mpe_engine mpe_engine;   /* an arena as one thread of a process sees it */
typedef struct mpe_object mpe_object;   /* a shared object, valid while held */
typedef uint64_t mpe_handle;            /* its name in every process of the program; 0 is none */
typedef struct mpe_process mpe_process; /* a child, as its parent sees it */
typedef struct mpe_buf mpe_buf;         /* bytes that grow; see mpengine_wire.h */

/* Bytes of the caller's. */
typedef struct mpe_bytes {
    const void *data;
    size_t size;
} mpe_bytes;

/* ---- opening ------------------------------------------------------------------------------ */

/* A program that opens an engine has an arena of its own, which its children join.
 *
 *     mpe_config config = MPE_CONFIG_INIT;
 *     mpe_engine *e;
 *     config.max_bytes = 1 << 30;
 *     int rc = mpe_open(&config, &e);
 *     if (rc != MPE_OK)
 *         return fprintf(stderr, "%s\n", mpe_strerror(rc)), 1;
 *     ...
 *     mpe_close(e);
 */

#define MPE_VERSION "0.1.0"    /* of this header */
#define MPE_VERSION_NUMBER 100 /* the same: major * 10000 + minor * 100 + patch */
/* Returns the number of the library's own version, to compare with MPE_VERSION_NUMBER.
 * Threads: any. */
MPE_API int mpe_version(void);

/* How grave a message of the log is. */
enum mpe_log_level { MPE_LOG_ERROR = 1, MPE_LOG_WARNING, MPE_LOG_INFO, MPE_LOG_DEBUG };

/* A C function that runs as a process or as a task of a pool: reads args, appends to result, and
 * returns 0, or a positive code of its own with a message in result.
 * Ownership: args and result are the engine's. */
typedef int (*mpe_function)(mpe_engine *e, const void *args, size_t size, mpe_buf *result);
/* A function and the name by which it is found, in a new program too. */
typedef struct mpe_named_function {
    const char *name;
    mpe_function call;
} mpe_named_function;

/* uv_run of the host, on config.loop or mpe_loop, serves the engine. It keeps the loop alive exactly
 * while a task waits for what can come: time, I/O, another process or thread. In a callback,
 * mpe_close is allowed: behind a call that the engine makes itself it frees the engine when that
 * returns. */
#define MPE_SERVED_BY_LOOP 1u
#define MPE_ARENA_EXISTING 2u /* with arena: ENOENT when no program has it open */
#define MPE_LUA_PROGRAM 4u /* Lua takes print, io.write, os.exit and signals, as in the command */
#define MPE_READER 8u      /* looks at other programs, and is not found as one; arena is ignored */

struct uv_loop_s; /* libuv's loop; include <uv.h> to use it */

/* What mpe_open is told. Zero in a field asks for what its comment calls the default. Strings are
 * copied, the functions are not. */
typedef struct mpe_config {
    size_t size;            /* sizeof(mpe_config) */
    uint64_t max_bytes;     /* limit of shared memory; 0: MPENGINE_SHM_LIMIT or 64 GiB */
    struct uv_loop_s *loop; /* the host's loop, or NULL: the engine makes one when needed */
    const char *name;       /* name of this process, NULL: "MainProcess" */
    unsigned flags;         /* MPE_SERVED_BY_LOOP and the others */
    /* NULL: an arena of this program alone. Otherwise the programs of this user that give the same
     * name share it: made by the first, gone with the last. */
    const char *arena;
    const mpe_named_function *functions; /* up to one without a name; NULL: none */
    /* All memory that is not shared; NULL: malloc. As lua_Alloc: a new block has block NULL and
     * old_size 0; size 0 frees; old_size is always the block's; making a block smaller may not
     * fail. It must not call the engine. Also for buffers (mpe_buf) that a call with an engine
     * fills, until they are freed; not for what the C library, libuv and a Lua state allocate, nor
     * for mpe_offload and look-ups, whose threads are the process's.
     * Threads: the engine's, and those of mpe_send and mpe_call_finish. */
    void *(*alloc)(void *ud, void *block, size_t old_size, size_t size);
    void *alloc_ud; /* the first argument of alloc */
    /* What the engine and the Lua library have to say: the error of a task that no call waits for,
     * a report of the watchdog, mp.get_logger(). One call for each message, with its traceback, at
     * a level of enum mpe_log_level; n bytes, which may be zero, with a zero and no newline behind
     * them. It may call what does not wait. NULL: nothing is reported. Not called once mpe_close
     * has returned. Threads: the engine's. */
    void (*log)(void *ud, int level, const char *text, size_t n);
    void *log_ud; /* the first argument of log */
} mpe_config;

/* The defaults. */
#define MPE_CONFIG_INIT                                                                            \
    {                                                                                              \
        sizeof(mpe_config), 0, NULL, NULL, 0, NULL, NULL, NULL, NULL, NULL, NULL                   \
    }

/* Makes a new arena and attaches the calling thread to it. config may be NULL. Where the limits of
 * the process (ulimit -f, -v) allow no arena of that size, it is smaller; mpe_stats_get tells.
 * Ownership: the caller must mpe_close it.
 * With config.arena it enters the arena of that name, which keeps its maker's limit; nothing of it is
 * in the file system, and it is gone with its last program, however that ends.
 * Blocks: while another program opens the same arena.
 * Errors: ENOENT (MPE_ARENA_EXISTING), EPERM (the name is in use by another user), ESLOTS,
 * ENOMEM, ESYS (errno), EFILESIZE, EADDRESSES, EVARIABLE (mpe_variables_check tells more),
 * EVERSION (config is larger than the library knows, and asks for something there), EINVAL (a flag
 * that the library does not know; an arena without a name or with one over 255 bytes;
 * MPE_ARENA_EXISTING without an arena). */
MPE_API int mpe_open(const mpe_config *config, mpe_engine **out);

/* Another thread joins in: makes an engine of its own in the arena of e, with a slot of its own, so
 * that it waits, owns locks and dies like a process: what it held when it ends without mpe_close is
 * released, and told, as that of a process. It has the functions, alloc and log of e. While it is
 * there, this process cannot fork (mpe_process_fork: ETHREADS).
 * Ownership: belongs to the calling thread, which must mpe_close it before it ends; the engines of
 * an arena may be closed in any order.
 * Threads: any, while e is open.
 * Errors: ENOMEM, ESYS, ESLOTS. */
MPE_API int mpe_open_thread(mpe_engine *e, const char *name, mpe_engine **out);

/* Detaches and frees the engine. Releases what this process holds, as its exit would; ends its
 * daemons and the fork server that it has started. The arena vanishes with its last process. In a
 * process that has inherited the engine by fork(2) it frees memory and touches nothing shared; no
 * other call of an inherited engine is allowed but mpe_leave, which does nothing.
 * Blocks: until its daemons have ended. */
MPE_API void mpe_close(mpe_engine *e);
/* Detaches without freeing memory, for a process that is about to exit: releases what it holds and
 * its slot. No other call on the engine may follow but mpe_descriptor_linger. */
MPE_API void mpe_leave(mpe_engine *e);

/* ---- being driven ------------------------------------------------------------------------- */

/* Tasks, timers and I/O of an engine go on while a call of it waits. A host with a loop of its own
 * serves them from there: mpe_run_until as its main loop, or mpe_poll once a frame.
 *
 *     for (;;) {
 *         draw_a_frame();
 *         while (mpe_poll(e) > 0)
 *             ;
 *     }
 *
 * A host whose loop is libuv's opens the engine with MPE_SERVED_BY_LOOP and calls uv_run. One with a
 * poll of its own asks mpe_poll_begin what to sleep on:
 *
 *     struct pollfd p = {.events = POLLIN};
 *     uint64_t deadline;
 *     for (;;) {
 *         mpe_poll_begin(e, &p.fd, &deadline);
 *         poll(&p, 1, milliseconds_until(deadline));
 *         mpe_poll(e);
 *     }
 */

/* Returns the engine's libuv loop, made on first use; NULL with errno when it cannot be made.
 * Ownership: the engine's, unless the host gave it. */
MPE_API struct uv_loop_s *mpe_loop(mpe_engine *e);
/* Runs jobs, timers and I/O until *done is not 0. Any callback may set it, those of the host's own
 * libuv handles too, and may post, wake, file waits and run the loop itself.
 * Blocks: until then.
 * Errors: EDEADLK (nothing can ever happen: no job, timer, I/O, nor other live process; or all
 * processes wait for each other, see mpe_find_deadlocks), EINTR (mpe_interrupt), ESYS (errno). */
MPE_API int mpe_run_until(mpe_engine *e, const int *done);
/* Runs what is ready. Returns 1 when there is more to do at once, else 0.
 * Errors: EDEADLK (inside a Lua task). */
MPE_API int mpe_poll(mpe_engine *e);
/* For a loop that is not libuv's: what to sleep on, and how long. Poll *fd for reading until
 * *deadline, then call mpe_poll, which ends the sleep, as any other call does. *fd is the same for
 * the engine's life. *deadline at or before mpe_now(): there is something to do at once;
 * MPE_FOREVER: nothing that time alone would bring. Either may be NULL.
 * Errors: ESYS (errno). */
MPE_API int mpe_poll_begin(mpe_engine *e, int *fd, uint64_t *deadline);
/* Makes mpe_run_until return MPE_EINTR, for a signal handler.  Threads: async-signal-safe. */
MPE_API void mpe_interrupt(mpe_engine *e);
/* Withdraws an interrupt. Returns 1 when it was pending, else 0. */
MPE_API int mpe_interrupt_clear(mpe_engine *e);
/* Has run(e, ud) called once from the loop of e, also when it sleeps: how other threads reach the
 * engine. Calls sent by one thread run in their order, a bounded number per turn of the loop; those
 * that are left run in mpe_close. run may wait.
 * Threads: any.
 * Errors: ENOMEM, ECLOSED (from within mpe_close); run is not called then. */
MPE_API int mpe_send(mpe_engine *e, void (*run)(mpe_engine *e, void *ud), void *ud);
/* Adds delta to the number of things outside the engine's sight that will call mpe_send or post a
 * job (a thread, a foreign loop). While it is not 0 it counts as I/O, so waiting is no deadlock. */
MPE_API void mpe_keep_alive(mpe_engine *e, int delta);
/* Switches finding of deadlocks on or off, for the whole program; off at first. When it is on, and
 * all processes wait for shared objects and for the exits of each other, the wait ends with
 * EDEADLK in every one of them. A process with a timer, a deadline, I/O, a mpe_keep_alive, or one
 * that runs or blocks elsewhere, can still do something. */
MPE_API void mpe_find_deadlocks(mpe_engine *e, int on);

/* Runs work(ud) on a thread of the engine's and then, from the loop, done with MPE_OK. The work
 * may use nothing of the engine. done is not called for work that is in progress when the engine
 * is closed.
 * Errors: ENOMEM, ESYS (errno; no thread can be started). */
MPE_API int mpe_offload(mpe_engine *e, void (*work)(void *ud),
                        void (*done)(mpe_engine *e, void *ud, int status), void *ud);

/* One wait of one task; the caller embeds it, zeroed at first, and owns its memory, which must
 * stay until fire has been called or mpe_wait_stop. fire is called once, by the loop: MPE_OK means
 * try again, MPE_ETIMEDOUT that the deadline passed. It must not wait. */
typedef struct mpe_waiter {
    void (*fire)(mpe_engine *e, struct mpe_waiter *w, int status);
    /* the rest is private */
    struct mpe_waiter *next, *prev;
    struct mpe_waitlist *list;
    uint64_t deadline;
    uint32_t heap_index; /* 0: on no heap */
    int fired;           /* took a wake-up of its object and has not yet used it */
    int is_aside;        /* a timer that nothing is waited for by */
    mpe_object *object;
    int event;
} mpe_waiter;

/* Files a waiter that fires at the deadline.  Errors: ENOMEM. */
MPE_API int mpe_wait_timer(mpe_engine *e, mpe_waiter *w, uint64_t deadline);
/* Withdraws a waiter; harmless when it has fired. */
MPE_API void mpe_wait_stop(mpe_engine *e, mpe_waiter *w);

/* ---- waiting ------------------------------------------------------------------------------ */

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
/* Frees a message's block and releases the pins of the objects in it. */
MPE_API void mpe_message_free(mpe_engine *e, mpe_message *m);

/* Waiting calls have a deadline. What is ready is taken even if that has passed; MPE_NOW tries and
 * says EAGAIN. Meanwhile tasks, timers and I/O of this engine go on.
 *
 *     mpe_message m;
 *     if (mpe_acquire(e, lock, MPE_FOREVER) >= 0) {
 *         rc = mpe_get(e, queue, &m, mpe_now() + MPE_NS_PER_S);
 *         mpe_release(e, lock);
 *     }
 *
 * A C function that a Lua task has called must not wait: it gets EDEADLK where it would have to, and
 * nothing has changed then; see mpe_lua_suspend.
 *
 * Each of them also has the errors EDEADLK (nothing can end the wait), EINTR (mpe_interrupt), and
 * ENOMEM and ESYS. */

/* Acquires a lock, recursive lock, semaphore, or the lock of a condition. Its owner is this engine,
 * which no task of a Lua state is. Returns OWNER_DIED instead of OK when the last owner of the lock
 * exited holding it.
 * Blocks: up to the deadline.
 * Errors: EAGAIN, ETIMEDOUT, ERANGE (65535 levels or permits). */
MPE_API int mpe_acquire(mpe_engine *e, mpe_object *o, uint64_t deadline);
/* Releases what mpe_acquire acquires; a lock that is not recursive, whatever holds it.
 * Errors: EPERM (a recursive lock of another owner), EOVER (a lock that is free, a semaphore over
 * its bound). */
MPE_API int mpe_release(mpe_engine *e, mpe_object *o);
/* Waits until an event is set, all parties are at a barrier, every item of a joinable queue is
 * done, or a condition is notified. The lock of the condition must be held by mpe_acquire, and is
 * so again afterwards; OWNER_DIED then means that its owner in between exited holding it. A wait
 * for a barrier that ends without its parties breaks it; with MPE_NOW it arrives only as the last.
 * Blocks: up to the deadline, and until the lock of the condition is free.
 * Errors: EAGAIN, ETIMEDOUT, EBROKEN (barrier), EPERM (the lock is not held). */
MPE_API int mpe_wait(mpe_engine *e, mpe_object *o, uint64_t deadline);
/* Puts one message on a queue; the objects named in it are kept alive.
 * Blocks: up to the deadline.
 * Errors: EAGAIN (full), ETIMEDOUT, ECLOSED, EARENA. */
MPE_API int mpe_put(mpe_engine *e, mpe_object *queue, const void *data, size_t size,
                    uint64_t deadline);
/* Takes the first message of a queue.
 * Ownership: the caller must mpe_message_free it.
 * Blocks: up to the deadline.
 * Errors: EAGAIN (empty), ETIMEDOUT, ECLOSED (closed and drained), ECORRUPT. */
MPE_API int mpe_get(mpe_engine *e, mpe_object *queue, mpe_message *out, uint64_t deadline);
/* Takes tokens of a rate limiter. Waiters of all processes are served in the order of their arrival;
 * one that is killed takes none.
 * Blocks: up to the deadline.
 * Errors: EAGAIN, ETIMEDOUT, EINVAL (tokens is not above 0), ERANGE (tokens over the burst). */
MPE_API int mpe_limiter_take(mpe_engine *e, mpe_object *o, double tokens, uint64_t deadline);
/* Waits until one of n objects is ready, and reads the index of the first that is: a lock is free,
 * a semaphore has a permit, an event is set, a queue has an item or is closed. Takes nothing.
 * Blocks: up to the deadline.
 * Errors: EAGAIN, ETIMEDOUT, EINVAL (n is 0). */
MPE_API int mpe_wait_any(mpe_engine *e, mpe_object *const *objects, size_t n, uint64_t deadline,
                         size_t *index);

/* ---- values ------------------------------------------------------------------------------- */

/* Bytes that a script reads as values, and the other way round.
 *
 *     mpe_buf b;
 *     mpe_buf_init(&b);
 *     mpe_pack(e, &b, "zi", "answer", (int64_t)42);
 *     mpe_put(e, queue, b.data, b.len, MPE_FOREVER);
 *     mpe_buf_free(&b);
 */

/* Appends values, a letter of the format each: n nil, b int (boolean), i int64_t, d double, z text
 * up to its zero, s const void * and size_t, o mpe_object *. All of them or none.
 * Errors: ENOMEM, EINVAL (a letter; a text or bytes that are NULL). */
MPE_API int mpe_pack(mpe_engine *e, mpe_buf *out, const char *format, ...);
/* Reads values. For each letter a pointer to its type, or NULL: i takes a float that is whole, d an
 * integer; z takes char * and size_t, and copies the text with its zero; s takes const void ** and
 * size_t *; n and ? take nothing, and ? skips any value. Writes all or nothing.
 * Ownership: the bytes of s are inside data; an object of o is held, and the caller must mpe_drop
 * it.
 * Errors: ETYPE (another value, another number of them, a text with a zero inside), ERANGE (a text
 * that does not fit), ECORRUPT, ESTALE, ENOMEM, EINVAL (a letter). */
MPE_API int mpe_unpack(mpe_engine *e, const void *data, size_t size, const char *format, ...);
/* Reads the next entry of the snapshot of a dict, or item of that of a list, whose key is empty.
 * *at is 0 at first.
 * Ownership: key and value are inside the snapshot.  Threads: any.
 * Errors: ENOENT (no more), ECORRUPT. */
MPE_API int mpe_next(const mpe_buf *snapshot, size_t *at, mpe_bytes *key, mpe_bytes *value);

/* ---- objects ------------------------------------------------------------------------------ */

/* Every object is made by a _create, held by each process that uses it, and gone when no process
 * holds it and no container has it. A handle names it in bytes that go to another process.
 *
 *     mpe_object *queue, *same;
 *     mpe_queue_create(e, 0, 0, &queue);
 *     mpe_handle h = mpe_handle_of(e, queue);
 *     ...                                  in another process:  mpe_hold(e, h, &same);
 *     mpe_drop(e, queue);
 */

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
    X(BOUNDED, 18, "BoundedSemaphore", semaphore)                                                  \
    X(RATE_LIMITER, 19, "RateLimiter", limiter)                                                    \
    X(CACHE, 20, "Cache", cache)                                                                   \
    X(DESCRIPTOR, 21, "Descriptor", descriptor)                                                    \
    X(ARRAY_VIEW, 22, "ArrayView", array_view)

/* The kinds of objects. */
enum mpe_kind {
    MPE_KIND_NONE = 0,
#define MPE_KIND_ENUM(name, number, text, moves) MPE_KIND_##name = (number),
    MPE_KIND_MAP(MPE_KIND_ENUM)
#undef MPE_KIND_ENUM
        MPE_KIND_COUNT
};
/* The text of a kind, a static string; NULL: there is no such kind. */
MPE_API const char *mpe_kind_name(int kind);
/* Takes hold of the object that a handle names: it lives at least until the matching drop.
 * Ownership: the caller must mpe_drop it.  Errors: ESTALE, ENOMEM. */
MPE_API int mpe_hold(mpe_engine *e, mpe_handle h, mpe_object **out);
/* Releases one hold. The object's memory returns to the arena after the last one. */
MPE_API void mpe_drop(mpe_engine *e, mpe_object *o);
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
/* Frees every object that no process holds and no live container contains. The engine does it by
 * itself now and then; a host that gets EARENA can drop what it does not need, sweep and retry. */
MPE_API void mpe_sweep(mpe_engine *e);

/* ---- names -------------------------------------------------------------------------------- */

/* How programs that share an arena, and C and Lua (mp.name, mp.find), meet.
 *
 *     mpe_name(e, "jobs", queue);
 *     ...                                  in another program with the same config.arena:
 *     rc = mpe_find(e, "jobs", mpe_now() + 5 * MPE_NS_PER_S, &queue);
 */

/* Gives an object a name in the arena, which keeps it alive until the name is taken back; o NULL
 * takes it back. A name has 1 to 255 bytes.
 * Errors: EINVAL, EEXIST (another object has it), ENOENT (nothing has it), EARENA. */
MPE_API int mpe_name(mpe_engine *e, const char *name, mpe_object *o);
/* Finds the object of a name, as soon as there is one.
 * Ownership: the caller holds it and must mpe_drop it.
 * Blocks: up to the deadline, and lets tasks, timers and I/O go on.
 * Errors: EINVAL, ENOENT (MPE_NOW), ETIMEDOUT, EINTR, EDEADLK, EARENA, ENOMEM. */
MPE_API int mpe_find(mpe_engine *e, const char *name, uint64_t deadline, mpe_object **out);

/* ---- objects: queues ---------------------------------------------------------------------- */

/* mpe_put and mpe_get wait; those here take parts and do not.
 *
 *     mpe_bytes parts[2] = {{&head, sizeof head}, {text, size}};
 *     rc = mpe_queue_put(e, queue, parts, 2, 0);
 *     if (rc == MPE_EAGAIN)
 *         ...                              it is full
 */

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
/* Takes the first message.
 * Ownership: the caller must mpe_message_free it.
 * Errors: EAGAIN (empty; wait for MPE_EVENT_READY), ECLOSED (closed and drained), ECORRUPT. */
MPE_API int mpe_queue_get(mpe_engine *e, mpe_object *o, mpe_message *out);
/* Returns how many messages are in the queue. */
MPE_API uint32_t mpe_queue_size(mpe_engine *e, mpe_object *o);
/* Returns the most messages that may be in the queue; 0: no bound. */
MPE_API uint32_t mpe_queue_bound(mpe_engine *e, mpe_object *o);
/* Returns 1 when the queue is closed, else 0. */
MPE_API int mpe_queue_is_closed(mpe_engine *e, mpe_object *o);
/* Closes the queue for every process: later puts fail, gets go on until it is empty, and all
 * waiters wake. */
MPE_API void mpe_queue_close(mpe_engine *e, mpe_object *o);
/* Counts one message taken from a joinable queue as done.
 * Errors: EOVER (all are done), EINVAL (not joinable). */
MPE_API int mpe_queue_task_done(mpe_engine *e, mpe_object *o);

/* ---- objects: typed arrays and bytes ------------------------------------------------------ */

/* Element types, by the letters of Python's array module: c u b B h H i I l L q Q f d.
 * Elements are contiguous C values, aligned to 16 bytes at the start, zeroed.
 *
 *     int64_t one = 1, now;
 *     mpe_array_create(e, 'q', 100, 0, &array);
 *     mpe_array_add(e, array, 7, &one, &now);
 *     int64_t *elements = mpe_array_data(e, array, &type, &length);
 */

/* Returns the bytes of an element type; 0: no such type.  Threads: any. */
MPE_API size_t mpe_type_size(char type);
#define MPE_ARRAY_VALUE 1u /* it is one value: MPE_KIND_VALUE */
#define MPE_ARRAY_RAW 2u   /* without a lock of its own: MPE_KIND_RAW_ARRAY, MPE_KIND_RAW_VALUE */
/* Makes an array of length zeros.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EINVAL (type), EARENA, ENOMEM. */
MPE_API int mpe_array_create(mpe_engine *e, char type, uint64_t length, unsigned flags,
                             mpe_object **out);
/* Makes an array of rows * columns zeros, a row after the other.
 * Ownership: the caller holds it and must mpe_drop it.
 * Errors: EINVAL (type, columns is 0), EARENA, ENOMEM. */
MPE_API int mpe_matrix_create(mpe_engine *e, char type, uint64_t rows, uint32_t columns,
                              unsigned flags, mpe_object **out);
/* Returns the elements, with their type and number; NULL for a view, see mpe_array_elements.
 * Ownership: valid while the object is held. */
MPE_API void *mpe_array_data(mpe_engine *e, mpe_object *o, char *type, uint64_t *length);
/* Where the elements of an array or a view are. */
typedef struct mpe_elements {
    void *first;
    uint64_t length;
    int64_t step;     /* elements in memory from one to the next: 1 for an array */
    size_t size;      /* bytes of an element */
    uint32_t columns; /* of each of the length / columns rows; 0: one dimension */
    char type;        /* MPE_STRUCT: see below */
} mpe_elements;
/* Reads the place of the elements.  Ownership: valid while the object is held. */
MPE_API int mpe_array_elements(mpe_engine *e, mpe_object *o, mpe_elements *out);
/* Some elements of an array or a view: first, first + step, ... */
typedef struct mpe_part {
    uint64_t first, length;
    int64_t step;     /* not 0; below 0: backwards */
    uint32_t columns; /* of each row; 0: one dimension */
} mpe_part;
/* Makes a view: an object of the same elements, which keeps the array alive. It has no lock of its
 * own. mpe_array_add and mpe_array_exchange take views too.
 * Ownership: the caller holds it and must mpe_drop it.
 * Errors: EINVAL (step is 0, or length is not whole rows), ERANGE (outside of o), EARENA, ENOMEM. */
MPE_API int mpe_array_view(mpe_engine *e, mpe_object *o, const mpe_part *part, mpe_object **out);
/* Returns the handle of the array that a view is of; of an array its own. */
MPE_API mpe_handle mpe_array_whole(mpe_engine *e, mpe_object *o);

/* Elements may be structs, with the offsets and the size that a C compiler gives them. A layout is
 * a text: for each field name:type, or name:typeN for an array of N, with commas between them. The
 * type may be a struct: its layout in braces, as in "at:{x:d,y:d},id:i".
 *
 *     struct point { double x, y; int id; char name[16]; };
 *     mpe_struct_create(e, "x:d,y:d,id:i,name:c16", 1000, 0, 0, &points);
 *     struct point *p = mpe_array_data(e, points, NULL, NULL);
 *     mpe_field_view(e, points, "x", 0, &xs);
 *     mpe_array_sum(e, xs, &sum);
 *
 * Names are those of C. Such an array has views; it is no operand of calculations, and
 * mpe_array_add and mpe_array_exchange take only views of its fields. */
#define MPE_STRUCT 'S'             /* the type of such elements */
#define MPE_STRUCT_BYTES (1 << 24) /* the greatest size of one */
#define MPE_STRUCT_DEPTH 16        /* structs may be in structs that are in structs ... */
typedef struct mpe_field {
    mpe_bytes name;
    uint32_t offset;    /* bytes from the start of the struct */
    uint32_t count;     /* elements; 0: it is no array */
    uint32_t size;      /* bytes of an element */
    char type;          /* MPE_STRUCT: one in this one */
    const char *layout; /* of that one, up to its brace, for mpe_struct_field; else NULL */
} mpe_field;
/* Returns the bytes of a struct; 0: the layout is none.  Threads: any. */
MPE_API size_t mpe_struct_size(const char *layout);
/* Reads a field, by its place from 0 on.
 * Ownership: name and layout are parts of the layout.  Threads: any.
 * Errors: ERANGE (no such), EINVAL. */
MPE_API int mpe_struct_field(const char *layout, size_t index, mpe_field *out);
/* Makes an array of length zeroed structs; columns: of each row, 0: one dimension.
 * Ownership: the caller holds it and must mpe_drop it.
 * Errors: EINVAL (layout, or length is not whole rows), EARENA, ENOMEM. */
MPE_API int mpe_struct_create(mpe_engine *e, const char *layout, uint64_t length, uint32_t columns,
                              unsigned flags, mpe_object **out);
/* Returns the layout of an array or a view of structs; NULL for others.
 * Ownership: valid while the object is held. */
MPE_API const char *mpe_struct_layout(mpe_engine *e, mpe_object *o);
/* Reads one element, as it may also be read where mpe_array_data says. Its fields are of one moment
 * when the caller owns the lock of the array.  Errors: ETYPE (no structs), ERANGE (no such element). */
MPE_API int mpe_struct_load(mpe_engine *e, mpe_object *o, uint64_t index, void *value);
/* Writes one element. By the owner of the lock of the array that happens as a whole or not at all,
 * also when the process is killed; without the lock others may see a part of it.
 * Errors: ETYPE (no structs), ERANGE (no such element). */
MPE_API int mpe_struct_store(mpe_engine *e, mpe_object *o, uint64_t index, const void *value);
/* Makes a view of one field of all structs of an array or a view: of a field that is an array, the
 * element at an index from 0 on. The path is a name, or "at.x" for a field of a field.
 * Ownership: the caller holds it and must mpe_drop it.
 * Errors: ETYPE (no structs, or the field is one), ERANGE (no such field or index), EARENA, ENOMEM. */
MPE_API int mpe_field_view(mpe_engine *e, mpe_object *o, const char *path, uint32_t index,
                           mpe_object **out);

/* Calculations with the elements of arrays and views of numbers. A number is an int64_t for the
 * integer types (for L and Q its two's complement) and a double for f and d. Other processes that
 * change elements meanwhile are not kept out: acquire the lock when that matters.
 *
 *     double sum;
 *     mpe_array_sum(e, prices, &sum);
 *
 * Errors of each: ETYPE (no numbers, or arrays of two types), EINVAL (two lengths). */

/* Reads the sum. One of integers wraps around at 64 bits; one of floats is added as doubles, in
 * an order of its own that depends on the length alone. */
MPE_API int mpe_array_sum(mpe_engine *e, mpe_object *o, void *sum);
/* Reads the least element; NaN when there is one.  Errors: ERANGE (no elements). */
MPE_API int mpe_array_least(mpe_engine *e, mpe_object *o, void *number);
/* Reads the greatest element; NaN when there is one.  Errors: ERANGE (no elements). */
MPE_API int mpe_array_greatest(mpe_engine *e, mpe_object *o, void *number);
/* Reads the sum of the products of two arrays of one type and length, as mpe_array_sum adds. */
MPE_API int mpe_array_dot(mpe_engine *e, mpe_object *a, mpe_object *b, void *sum);
/* Multiplies all elements by a number.
 * Errors: ERANGE (a product does not fit the type: nothing has changed). */
MPE_API int mpe_array_scale(mpe_engine *e, mpe_object *o, const void *factor);
/* Adds factor * x to y, element by element, as x was before.
 * Errors: ERANGE (a result does not fit the type: nothing has changed), ENOMEM (x and y overlap). */
MPE_API int mpe_array_axpy(mpe_engine *e, mpe_object *y, const void *factor, mpe_object *x);

/* Adds to one element, in one step as other processes see it. amount points to a C value of the
 * element type, and *now, when not NULL, is the sum.
 * Errors: ERANGE (no such element, or a sum that does not fit), ETYPE (no numbers). */
MPE_API int mpe_array_add(mpe_engine *e, mpe_object *array, uint64_t index, const void *amount,
                          void *now);
/* Replaces one element that has the expected value, in one step as other processes see it. *now,
 * when not NULL, is the value afterwards, also with EAGAIN.
 * Errors: EAGAIN (another value is there), ERANGE (no such element), ETYPE (no numbers). */
MPE_API int mpe_array_exchange(mpe_engine *e, mpe_object *array, uint64_t index,
                               const void *expected, const void *desired, void *now);

/* Makes an object of bytes that never change. A message can carry the handle instead of the bytes,
 * as it does for the code of Lua functions.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_blob_create(mpe_engine *e, mpe_bytes bytes, mpe_object **out);
/* Returns the bytes.  Ownership: valid while the object is held. */
MPE_API mpe_bytes mpe_blob_bytes(mpe_engine *e, const mpe_object *o);

/* ---- objects: descriptors ----------------------------------------------------------------- */

/* A descriptor for another process of the program, whatever started that. The object's handle goes
 * into a message; the receiver holds the object and takes a descriptor of the same open file or socket.
 *
 *     mpe_descriptor_create(e, fd, note, MPE_DESCRIPTOR_ONCE, &o);
 *     mpe_pack(e, &item, "o", o);
 *     ...                                  put it on a queue, mpe_drop(e, o), close(fd)
 *     rc = mpe_descriptor_take(e, same, &fd);
 */
#define MPE_DESCRIPTOR_ONCE 1u /* the first that takes it has it */

/* Makes one. The calling process keeps a copy of fd until it is taken for good, or the object is
 * freed; a thread of it answers, also while it computes. With its exit the descriptor is closed on its
 * way. fd -1: it is closed from the start. note: bytes for the receiver.
 * Ownership: fd stays the caller's; the object is held, and must be dropped.
 * Errors: EARENA, ENOMEM, ESYS (errno: EMFILE, EBADF; EAGAIN, there is no thread). */
MPE_API int mpe_descriptor_create(mpe_engine *e, int fd, mpe_bytes note, unsigned flags,
                                  mpe_object **out);
/* Gives a descriptor, closed by exec. Without MPE_DESCRIPTOR_ONCE it can be taken again and again.
 * Ownership: fd is the caller's.
 * Blocks: for an answer of the maker's thread; no task or I/O goes on meanwhile.
 * Errors: ECLOSED (taken, withdrawn, or its maker has exited), ESYS (errno: EMFILE; it is not lost),
 * ETIMEDOUT (its maker has been stopped for ten seconds). */
MPE_API int mpe_descriptor_take(mpe_engine *e, mpe_object *descriptor, int *fd);
/* Closes it on its way. */
MPE_API void mpe_descriptor_withdraw(mpe_engine *e, mpe_object *descriptor);
/* For a process that is about to exit, after mpe_leave: lets others take what it has sent with
 * MPE_DESCRIPTOR_ONCE, since its exit closes what is still on its way.
 * Blocks: until all of them were taken, freed or withdrawn, up to the deadline. */
MPE_API void mpe_descriptor_linger(mpe_engine *e, uint64_t deadline);
/* Returns the note.  Ownership: valid while the object is held. */
MPE_API mpe_bytes mpe_descriptor_note(mpe_engine *e, const mpe_object *descriptor);

/* ---- objects: dicts ----------------------------------------------------------------------- */

/* Keys and values are byte strings. A key's bytes are its identity. For a script each is one value,
 * as mpe_pack makes it: "z" or "s", "i", "d" or "b" for a key, and a float key that is whole is
 * that integer. A script gets an error, "damaged data", where the bytes are no such value.
 *
 *     mpe_pack(e, &key, "z", "answer");
 *     mpe_pack(e, &value, "i", (int64_t)42);
 *     mpe_dict_put(e, dict, (mpe_bytes){key.data, key.len}, (mpe_bytes){value.data, value.len}, 0);
 *     mpe_dict_snapshot(e, dict, &all, &count);
 *     for (size_t at = 0; mpe_next(&all, &at, &k, &v) == MPE_OK;)
 *         mpe_unpack(e, v.data, v.size, "i", &n);
 */

/* Makes an empty dict.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_dict_create(mpe_engine *e, mpe_object **out);
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

/* ---- objects: caches ---------------------------------------------------------------------- */

/* A dict of a fixed size, which it never exceeds: when it is full, what was not used lately leaves.
 * Keys and values are those of dicts. A time to live is in nanoseconds from now; 0 means that of the
 * cache, MPE_FOREVER that it never expires.
 *
 *     mpe_cache_create(e, 64 << 20, 60 * MPE_NS_PER_S, &cache);
 *     if (mpe_cache_get(e, cache, key, &value) == MPE_ENOENT)
 *         mpe_cache_put(e, cache, key, computed, 0, 0, MPE_CACHE_SET);
 */

#define MPE_CACHE_MIN_BYTES 4096u

/* Makes a cache that takes so many bytes for everything, MPE_CACHE_MIN_BYTES or more, at once.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EINVAL (bytes, ttl), EARENA, ENOMEM.
 */
MPE_API int mpe_cache_create(mpe_engine *e, uint64_t bytes, uint64_t ttl, mpe_object **out);
/* Appends a copy of a key's value to out.  Errors: ENOENT (absent or expired), ENOMEM. */
MPE_API int mpe_cache_get(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_buf *out);
/* What a put asks for: nothing, that the key is absent, that it is there. */
enum mpe_cache_put { MPE_CACHE_SET, MPE_CACHE_ADD, MPE_CACHE_REPLACE };
/* Puts a key and its value. handles 1: the value contains handles of objects, which then stay alive
 * while stored.
 * Errors: EEXIST (ADD), ENOENT (REPLACE), ERANGE (larger than the cache, or than a part of it, which is
 * a quarter or 16 MiB at least; nothing has changed). */
MPE_API int mpe_cache_put(mpe_engine *e, mpe_object *o, mpe_bytes key, mpe_bytes value, int handles,
                          uint64_t ttl, enum mpe_cache_put how);
/* Removes a key.  Errors: ENOENT. */
MPE_API int mpe_cache_remove(mpe_engine *e, mpe_object *o, mpe_bytes key);
/* Gives a key a new time to live.  Errors: ENOENT. */
MPE_API int mpe_cache_touch(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t ttl);
/* Reads how long a key has to live, MPE_FOREVER: for ever.  Errors: ENOENT. */
MPE_API int mpe_cache_ttl(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t *ttl);
/* Replaces a value in one step, as mpe_dict_edit. A key that was there keeps its time to live, any
 * other gets ttl.  Errors: what edit returned, ERANGE, ENOMEM. */
MPE_API int mpe_cache_edit(mpe_engine *e, mpe_object *o, mpe_bytes key, uint64_t ttl,
                           mpe_edit_fn edit, void *ud);
/* Removes all keys, in one step as other processes see it. */
MPE_API void mpe_cache_clear(mpe_engine *e, mpe_object *o);
/* Appends at most max keys to out, as records of a snapshot with empty values, and counts them. It
 * is no snapshot: keys that come or go meanwhile may be there or not.  Errors: ENOMEM. */
MPE_API int mpe_cache_keys(mpe_engine *e, mpe_object *o, uint64_t max, mpe_buf *out,
                           uint64_t *count);
/* A part in a computation of a value for all that ask for it: this caller computes, or it waits. */
typedef struct mpe_cache_flight {
    mpe_object *event; /* while this caller waits: an Event, which it holds; else NULL */
    uint64_t at;       /* the rest is private */
    uint32_t shard, slot, task;
} mpe_cache_flight;
/* Begins a fetch, once a get has found nothing: one caller computes the value of a key, and the others
 * wait for it. task: numbers the callers of this process. With stale, in ns, an item that has expired
 * for no longer than that is good for all but the one that computes.
 *
 *     rc = mpe_cache_get(e, cache, key, &value);
 *     if (rc == MPE_ENOENT)
 *         rc = mpe_cache_fetch(e, cache, key, 1, 0, &value, &flight);
 *     while (rc == MPE_EAGAIN) {
 *         mpe_wait(e, flight.event, MPE_FOREVER);
 *         rc = mpe_cache_fetch_again(e, cache, &flight, &value);
 *     }
 *     if (rc == MPE_ENOENT)
 *         mpe_cache_fetch_end(e, cache, &flight, computed, 0, 0);
 *
 * Errors: ENOENT (this caller must compute, and end or leave the flight), EAGAIN (another one does:
 * wait for the event and try again, or leave), EDEADLK (this caller is computing this key), EARENA,
 * ENOMEM. */
MPE_API int mpe_cache_fetch(mpe_engine *e, mpe_object *o, mpe_bytes key, uint32_t task,
                            uint64_t stale, mpe_buf *out, mpe_cache_flight *flight);
/* The result of the computation that was waited for, appended to out.
 * Errors: EAGAIN (wait on), ENOENT (the one that computed has left: now this caller computes),
 * ECANCELED (it has failed: out has the bytes of its mpe_cache_fetch_fail), ENOMEM. */
MPE_API int mpe_cache_fetch_again(mpe_engine *e, mpe_object *o, mpe_cache_flight *flight,
                                  mpe_buf *out);
/* Ends the computation: puts the value, and gives it to all that wait.
 * Errors: ERANGE, EARENA (the flight goes on: fail or leave it). */
MPE_API int mpe_cache_fetch_end(mpe_engine *e, mpe_object *o, mpe_cache_flight *flight,
                                mpe_bytes value, int handles, uint64_t ttl);
/* Ends it without a value: all that wait get the bytes.  Errors: EARENA (the flight was left). */
MPE_API int mpe_cache_fetch_fail(mpe_engine *e, mpe_object *o, mpe_cache_flight *flight,
                                 mpe_bytes bytes, int handles);
/* Leaves a flight: another caller computes, or this one no longer waits. Harmless when it is over,
 * and in a child that was forked meanwhile. */
MPE_API void mpe_cache_fetch_leave(mpe_engine *e, mpe_object *o, mpe_cache_flight *flight);
/* What a cache has and has done. */
typedef struct mpe_cache_stats {
    uint64_t max_bytes; /* the size */
    uint64_t entries;   /* not expired */
    uint64_t bytes;     /* that the items take, expired ones included */
    uint64_t hits, misses;
    uint64_t evictions; /* items that left for others, and had not expired */
    uint64_t expired;   /* items that were found to be */
    uint64_t computed;  /* values that fetches have stored */
    uint64_t waited;    /* fetches that waited for another one's */
} mpe_cache_stats;
/* Counts what a cache has and has done. Looks at all items when one may have expired. */
MPE_API void mpe_cache_stats_get(mpe_engine *e, mpe_object *o, mpe_cache_stats *out);

/* ---- objects: lists ----------------------------------------------------------------------- */

/* A sequence of byte strings; indexes are from 0.
 *
 *     mpe_bytes v = {b.data, b.len};
 *     mpe_list_insert(e, list, UINT64_MAX, v, 0);        appends
 *     rc = mpe_list_get(e, list, 0, &out);
 */

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
/* Appends all items to out as (u32 0, u32 size, bytes padded to 8), and reads their count and a
 * version for mpe_list_reorder. out NULL: only count and version.  Errors: ENOMEM. */
MPE_API int mpe_list_snapshot(mpe_engine *e, mpe_object *o, mpe_buf *out, uint64_t *count,
                              uint64_t *version);
/* Makes item i the old item order[i], for all count items, in one step, if the list is still at
 * version.  Errors: EAGAIN (changed), ERANGE (order is no permutation), ENOMEM, EARENA. */
MPE_API int mpe_list_reorder(mpe_engine *e, mpe_object *o, uint64_t version, const uint64_t *order,
                             uint64_t count);

/* ---- objects: synchronisation ------------------------------------------------------------- */

/* mpe_acquire, mpe_release, mpe_wait and mpe_wait_any act on all of these.
 *
 *     if (mpe_acquire(e, lock, MPE_FOREVER) == MPE_OWNER_DIED)
 *         repair_what_the_lock_protects();
 *     mpe_release(e, lock);
 *     mpe_event_set(e, ready);
 */

/* Makes a free lock.
 * Ownership: the caller holds the object and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_lock_create(mpe_engine *e, int recursive, mpe_object **out);
typedef struct mpe_lock_state {
    int locked;
    int abandoned; /* its last owner exited holding it, and it was not acquired since */
    uint32_t slot, task, levels;
} mpe_lock_state;
/* Reads whether a lock is held, and its owner. An object that has no lock is never held. */
MPE_API void mpe_lock_state_get(mpe_engine *e, const mpe_object *o, mpe_lock_state *out);

/* Makes a semaphore of so many permits. bounded 1: releasing never makes more.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_semaphore_create(mpe_engine *e, uint32_t permits, int bounded, mpe_object **out);
/* Returns how many permits are free. */
MPE_API uint32_t mpe_semaphore_value(mpe_engine *e, mpe_object *o);

/* Makes a rate limiter: a bucket of burst tokens that is full at first and gets rate tokens a second,
 * by the monotonic clock. burst 0: the larger of 1 and rate.
 * Ownership: the caller holds it and must mpe_drop it.
 * Errors: EINVAL (rate or burst is not above 0), ERANGE (rate over 1e9, or a bucket that takes more
 * than a year to fill), EARENA, ENOMEM. */
MPE_API int mpe_limiter_create(mpe_engine *e, double rate, double burst, mpe_object **out);
typedef struct mpe_limiter_state {
    double rate, burst;
    double tokens; /* there now */
} mpe_limiter_state;
/* Reads the settings of a rate limiter, and how many tokens it has. */
MPE_API void mpe_limiter_state_get(mpe_engine *e, mpe_object *o, mpe_limiter_state *out);

/* Makes an event that is not set.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_event_create(mpe_engine *e, mpe_object **out);
/* Sets the event and wakes all waiters. */
MPE_API void mpe_event_set(mpe_engine *e, mpe_object *o);
/* Clears the event. */
MPE_API void mpe_event_clear(mpe_engine *e, mpe_object *o);
/* Returns 1 when the event is set, else 0. */
MPE_API int mpe_event_is_set(mpe_engine *e, mpe_object *o);

/* Makes a condition. lock 0: it carries a recursive lock of its own (mpe_lock_facet).
 * Ownership: the caller holds it and must mpe_drop it.  Errors: ESTALE (lock), EARENA, ENOMEM. */
MPE_API int mpe_condition_create(mpe_engine *e, mpe_handle lock, mpe_object **out);
/* Returns the handle of the condition's lock. */
MPE_API mpe_handle mpe_condition_lock(mpe_engine *e, mpe_object *o);
/* Notifies up to count waits that have begun, by the owner of the lock. */
MPE_API void mpe_condition_notify(mpe_engine *e, mpe_object *o, uint32_t count);

/* Makes a barrier for so many parties. settings: bytes of the caller's that travel with it.
 * Ownership: the caller holds it and must mpe_drop it.  Errors: EARENA, ENOMEM. */
MPE_API int mpe_barrier_create(mpe_engine *e, uint32_t parties, mpe_bytes settings,
                               mpe_object **out);
/* Breaks the barrier: all waits, and all later ones until a reset, end with EBROKEN. */
MPE_API void mpe_barrier_abort(mpe_engine *e, mpe_object *o);
/* Makes the barrier empty and whole again; the waits under way end with EBROKEN. */
MPE_API void mpe_barrier_reset(mpe_engine *e, mpe_object *o);
/* Reads the number of parties, how many wait, and whether the barrier is broken. */
MPE_API void mpe_barrier_state(mpe_engine *e, mpe_object *o, uint32_t *parties, uint32_t *waiting,
                               int *broken);

/* ---- processes ---------------------------------------------------------------------------- */

/* A child shares the arena. It may be a fork of this process, whatever that is doing:
 *
 *     int is_child;
 *     mpe_process *p;
 *     int rc = mpe_process_fork(e, "worker", 0, (mpe_bytes){NULL, 0}, &p, &is_child);
 *     if (is_child) {
 *         int code = rc == MPE_OK ? work(e) : 1;
 *         mpe_leave(e);
 *         _exit(code);
 *     }
 *     rc = mpe_process_join(e, p, mpe_now() + 5 * MPE_NS_PER_S, &code);
 *     mpe_process_free(e, p);
 */

#define MPE_EXIT_LOST 255 /* the exit code that stands for one that is not known */
/* How a child ends with another process that has exited, was killed or has closed its engine: the
 * kernel sends the signal, whatever the two do, and whichever thread started the child. Without a
 * flag it goes on. A daemon ends with its starter. The other flag binds to what the starter is bound
 * to, or to the starter, if that is not bound: to the first process, along a chain of starts. */
#define MPE_PROCESS_DAEMON 1u /* SIGKILL; and mpe_close waits for it */
#define MPE_PROCESS_BOUND 2u  /* SIGTERM, which a handler may take, and SIGKILL after 5 s */
/* To be called first in a handler of SIGTERM, which blocks SIGTERM, in a process that may be bound: the
 * kernel signals it again when other bound processes exit, and this ends that. From the first signal of
 * its bond on the process has 5 s; then the kernel kills it.
 * Threads: any, and handlers of signals. */
MPE_API void mpe_bound_signal(mpe_engine *e);
/* The same for SIGCONT, which a bound process gets beside SIGTERM, so that one that is stopped goes on, and
 * one that ignores SIGTERM has 5 s. The engine handles SIGCONT in it if the host does not.
 * Threads: any, and handlers of signals. */
MPE_API void mpe_bound_continued(mpe_engine *e);
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
/* Returns the pid of a child. */
MPE_API int mpe_process_pid(const mpe_process *p);
/* Returns 1 in the process that started p, 0 in one that was forked since. */
MPE_API int mpe_process_is_mine(const mpe_process *p);
/* Reads the exit code of a child that has exited: n, or -signal.
 * Errors: EAGAIN (it has not), EPERM (another process's child), ESTALE (it has, but the host ignores
 * SIGCHLD or has waited for it itself, so that its code is lost). */
MPE_API int mpe_process_poll(mpe_engine *e, mpe_process *p, int *code);
/* Waits for a child's exit and reads its exit code. Runs no job.
 * Blocks: this thread, up to the deadline.
 * Errors: EINTR (a signal was handled), ETIMEDOUT, EPERM, ESTALE (as above), ESYS (errno). */
MPE_API int mpe_process_join(mpe_engine *e, mpe_process *p, uint64_t deadline, int *code);
/* Files a waiter for a child's exit; it fires from the loop, at once when the child has exited.
 * Errors: ENOMEM, ESYS (errno), EPERM. */
MPE_API int mpe_process_wait(mpe_engine *e, mpe_process *p, mpe_waiter *w, uint64_t deadline);
/* Sends a signal to a child; harmless when it has exited.  Errors: ESYS (errno). */
MPE_API int mpe_process_signal(mpe_engine *e, mpe_process *p, int sig);
/* Frees the parent's view of a child; a child that has not exited goes on, a daemon until mpe_close.
 * (mpe_close frees that of a daemon, too.)
 * Allowed when it is called from the fire of a wait for the same child. */
MPE_API void mpe_process_free(mpe_engine *e, mpe_process *p);
/* Returns the pid of the process that started this one, 0 in the first; *alive is 1 while it
 * lives. */
MPE_API int mpe_parent_pid(mpe_engine *e, int *alive);
/* Returns the name that the parent had when this process started.  Ownership: the engine's. */
MPE_API const char *mpe_parent_name(mpe_engine *e);
/* Returns a descriptor that becomes readable when the parent exits; -1 with errno.
 * Ownership: the engine's. */
MPE_API int mpe_parent_fd(mpe_engine *e, int *alive);

/* ---- processes and pools of C functions --------------------------------------------------- */

/* Functions that are named in mpe_config run as processes, and as tasks of pools. A child that is
 * a new program finds them by their names, if its main begins with mpe_child_main:
 *
 *     static const mpe_named_function functions[] = {{"square", square}, {NULL, NULL}};
 *     int main(void)
 *     {
 *         mpe_config config = MPE_CONFIG_INIT;
 *         int code;
 *         config.functions = functions;
 *         if (mpe_child_main(&config, &code))
 *             return code;
 *         ...
 *         mpe_pool_open(e, MPE_SPAWN, 4, &pool);
 *         for (int64_t i = 0; i < 100; i++)
 *             mpe_pool_submit(pool, "square", &i, sizeof i, MPE_FOREVER, on_square, &sum);
 *         mpe_pool_close(pool, MPE_FOREVER);
 */

/* Runs the function that this process was started for, and returns 1: main then returns
 * *exit_code. Returns 0 in a program that was not started so, which goes on. To be called first in
 * the main of a program that starts processes other than by fork.
 * Blocks: as long as the function runs. */
MPE_API int mpe_child_main(const mpe_config *config, int *exit_code);
/* How a process is started: as a copy of this one, as a new program, or as a copy of a clean one. */
enum mpe_method { MPE_FORK = 1, MPE_SPAWN, MPE_FORKSERVER };
/* Runs a named function in a process of its own. Its exit code is what the function returned, & 255;
 * its result is dropped. flags: MPE_PROCESS_*. Arguments as mpe_pack makes them keep the objects
 * in them alive until they are read.
 * Ownership: the caller must mpe_process_free *out, also in a fire.
 * Blocks: until the process exists.
 * Errors: ENOENT (no such function), ESLOTS, ENOMEM, EARENA, ESYS, ETHREADS, EINVAL (a method or
 * flag). */
MPE_API int mpe_start_function(mpe_engine *e, int method, const char *function, const void *args,
                               size_t size, unsigned flags, mpe_process **out);

typedef struct mpe_pool mpe_pool;
/* Makes a pool of 1 to 200 workers that run named functions; one that dies is replaced.
 * Ownership: the caller must mpe_pool_close it; mpe_close does it too.
 * Blocks: until the workers exist.
 * Errors: as for mpe_start_function. */
MPE_API int mpe_pool_open(mpe_engine *e, int method, unsigned workers, mpe_pool **out);
/* Is told the end of a task, once, from the loop: OK or the positive code of the function, with its
 * result; ETIMEDOUT (it was stopped, or never ran), ECLOSED (the pool was closed), EBROKEN (its
 * worker died; the result is one packed integer, the exit code or -signal), EARENA (no room for
 * the result). May submit, and close the pool.
 * Ownership: result is the engine's, and valid during the call. */
typedef void (*mpe_result)(mpe_engine *e, void *ud, int status, const void *result, size_t size);
/* Has a worker run a function. The deadline counts from now on: a task that waits longer never runs,
 * one that runs longer is stopped with its worker. done may be NULL, and is not called within.
 * Ownership: args are copied.
 * Errors: ENOENT, ECLOSED, EARENA, ENOMEM: done is not called then. */
MPE_API int mpe_pool_submit(mpe_pool *p, const char *function, const void *args, size_t size,
                            uint64_t deadline, mpe_result done, void *ud);
/* Takes no more tasks, waits until the deadline for those that there are, stops the others, tells
 * their ends, and frees the pool. p may be NULL. Called by a Lua task, it stops them at once.
 * Blocks: up to the deadline and a second. */
MPE_API void mpe_pool_close(mpe_pool *p, uint64_t deadline);

/* ---- looking inside ----------------------------------------------------------------------- */

/*     mpe_slot_info s;
 *     for (uint32_t slot = 0; mpe_slot_next(e, &slot, &s) == MPE_OK;)
 *         printf("%d %s\n", s.pid, s.name);
 */

/* One slot of the arena. */
typedef struct mpe_slot_info {
    uint32_t slot;
    int pid;
    int parent_slot;   /* -1: none */
    uint32_t sleeping; /* 0 awake, 1 futex, 2 event loop */
    char name[48];
} mpe_slot_info;
/* What the arena has and uses. */
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
/* Sets the name of this process, as other processes see it; 47 bytes of it are kept. A process that
 * the engine has started shows 15 of them to the system too, as its command. */
MPE_API void mpe_self_set_name(mpe_engine *e, const char *name);
/* One object of the arena. */
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
/* Checks the consistency of the whole arena, for tests and debugging; no other process may be
 * active. Returns the number of violations and describes each through report, unless it is NULL.
 */
MPE_API int mpe_check_arena(mpe_engine *e, void (*report)(const char *what, void *ud), void *ud);
/* Writes all bytes to a descriptor without another process of the program writing in between. Does
 * not acquire the output lock when this process holds it.
 * Blocks: until the lock is free, and as write(2) does.  Errors: ESYS (errno). */
MPE_API int mpe_write_whole(mpe_engine *e, int fd, const void *bytes, size_t size);
/* Returns how many processors this process may run on.  Threads: any. */
MPE_API uint32_t mpe_cpu_count(void);

#ifdef __cplusplus
}
#endif

#include "mpengine_wire.h"

#endif
