/* Shared by the files of this layer: the state of an engine's own process, and a child. */
#ifndef MPE_PROC_PROC_H
#define MPE_PROC_PROC_H

#include "loop/loop.h"

/* How many children have their notes next to the engine, on pages that a fork copies anyway. */
#define MPE__NEAR_NOTES 4

struct mpe_process {
    mpe_engine *e;
    pid_t pid;
    pid_t owner; /* pid of the process whose child it is */
    uint32_t slot, generation;
    int ended, code;
    int is_lost;         /* another waited for it: how it ended is not known */
    int served;          /* started by the fork server, which reaps it; its pipe is the end */
    struct mpe__end end; /* its fd: a pidfd while it is watched; a line's; or -1 */
    int life_fd;         /* life.c: the write end of a line of its own, or -1 */
    int is_daemon;       /* a child of this process that ends with it */
    int is_freed;        /* by its starter: the engine frees it with its end */
    mpe_process *next_daemon;
    mpe_process *next_lined;
    mpe_waitlist waiters;
};

struct mpe__proc {
    int life[2];  /* life.c: a pipe that ends with this process, -1 until needed */
    int bound_fd; /* life.c: the end of the starter's pipe that this process is bound to, or -1 */
    int wake_fd;  /* life.c: the same end, which continues a stopped process, or -1 */
    _Atomic int is_ending; /* life.c: the kernel kills this process soon */
    int tail_fd;          /* life.c: closed by this process's exit, which the starter sees; or -1 */
    mpe_process *lined;   /* children with a life line of their own */
    mpe_process *daemons; /* children to be ended and reaped by mpe_close */
    int status_fd;        /* of a child of the fork server: where it reports its exit code, or -1 */
    int server_fd;        /* in the fork server itself: its socket, or -1 */
    int server_client;    /* in the fork server: the process that started it */
    int server_pid;       /* of the fork server, when this process has started it, or 0 */
    int ask_fd;           /* to send requests to the fork server, -1 until needed */
    int parent_fd;        /* a pidfd, -1 until asked for */
    uint32_t parent_slot, parent_generation;
    struct mpe_process near_notes[MPE__NEAR_NOTES];               /* free: without an engine */
    unsigned flags;                                               /* of the config */
    const mpe_named_function *functions;                          /* of the host, or NULL */
    void (*log)(void *ud, int level, const char *text, size_t n); /* log.c; NULL: none */
    void *log_ud;
    mpe_pool *pools;  /* pool.c: that are open */
    uint32_t threads; /* threads declared by the engine's user, see mpe_own_threads */
    /* The queue of messages this process was started with, until it is held, and then. */
    mpe_handle start_messages;
    mpe_object *start_queue;
};

/* The information for a starting child, passed by memory or by its environment. */
struct mpe__birth {
    uint32_t slot, generation;
    mpe_handle start_messages;
    unsigned flags;
};

/* Messages of the fork server on a status pipe. */
enum { MPE__STATUS_PID, MPE__STATUS_FAILED, MPE__STATUS_ENDED, MPE__STATUS_ENDING };
struct mpe__status {
    int32_t kind;
    int32_t value; /* pid, errno, exit code (n, or -signal) */
};

/* config.c: looks at what a start was told. Errors: EINVAL, EPERM, EVERSION. */
int mpe__start_check(const mpe_engine *e, const mpe_start *s);
/* config.c: what mpe_open and mpe_attach are told, whatever its size; given may be NULL.
 * Errors: EINVAL, EVERSION. */
int mpe__config_read(const mpe_config *given, mpe_config *out);
/* config.c: what the engine needs of it later; and the same of an engine of another thread. */
void mpe__config_keep(mpe_engine *e, const mpe_config *c);
void mpe__config_share(mpe_engine *e, const mpe_engine *with);

/* guest.c: the engine is about to be closed; the guest is given it as usable, or NULL. */
void mpe__guest_close(mpe_engine *e, mpe_engine *usable);

void mpe__proc_init(struct mpe__proc *p); /* zeroed memory */
void mpe__proc_close(mpe_engine *e);
/* process.c: ends and reaps the daemons that this process has started by fork or spawn. */
void mpe__daemons_end(mpe_engine *e);

/* process.c: the parent's note of a child, with a reserved slot. */
int mpe__process_new(mpe_engine *e, const char *name, mpe_process **out);
/* Undoes mpe__process_new: no child was started. Keeps errno. */
void mpe__process_unmake(mpe_engine *e, mpe_process *p);
/* In the child itself: the note belongs to its parent. */
void mpe__process_forget(mpe_engine *e, mpe_process *p);
void mpe__process_started(mpe_process *p, pid_t pid);

/* engine.c */
mpe_engine *mpe__engine_new(const struct mpe__memory *m);
void mpe__engine_free(mpe_engine *e);

/* named.c: enters or makes the arena of c->arena, and takes a slot there. Errors: ESYS, EPERM,
 * EVERSION, ENOENT, and those of mpe__region_create. */
int mpe__named_open(mpe_engine *e, const mpe_config *c, uint64_t limit);

/* birth.c: the child's side, whatever the start method. */
int mpe__birth_take(mpe_engine *e, const struct mpe__birth *b);

/* life.c: descriptors for a child, -1: none. */
#define MPE__LINED (MPE_PROCESS_DAEMON | MPE_PROCESS_BOUND)
struct mpe__lines {
    int life; /* to be bound to, for one of MPE__LINED */
    int tail; /* to be kept, where there are no pidfds; not for one of the fork server's */
};
/* For the future child p, which has exited, or was never started, at mpe__life_let_go. Errors:
 * ESYS. */
int mpe__lines_open(mpe_engine *e, mpe_process *p, unsigned flags, struct mpe__lines *out);
int mpe__life_open(mpe_engine *e, mpe_process *p, unsigned flags, struct mpe__lines *out);
void mpe__lines_close(mpe_engine *e, const struct mpe__lines *l);
void mpe__life_let_go(mpe_engine *e, mpe_process *p);
/* In the child. */
int mpe__life_bind(mpe_engine *e, int fd, unsigned flags);
void mpe__life_forked(mpe_engine *e);
int mpe__lines_forked(mpe_engine *e, const struct mpe__lines *l, unsigned flags);

/* spawn.c: starts a program with a text in its environment and up to two descriptors. */
#define MPE__CHILD_VARIABLE "MPENGINE_CHILD"
struct mpe__program {
    const mpe_start *start;
    const char *text; /* the value of MPE__CHILD_VARIABLE */
    int second_fd;    /* beside the arena's, -1: none */
    int tail_fd;      /* behind those, the same */
    int quiet;        /* standard input and output are /dev/null */
};
int mpe__spawn(mpe_engine *e, const struct mpe__program *p, pid_t *pid);
/* A queue with the messages of a start, held by the child's slot. */
int mpe__start_messages(mpe_engine *e, const mpe_start *s, uint32_t slot, mpe_handle *out);
#define MPE__ARENA_FD 3 /* numbers in the new program */
#define MPE__SECOND_FD 4
#define MPE__BIRTH_TAIL 0x100u /* beside flags: a tail is behind them */

#endif
