/* A thin layer over the operating system: every call of the engine that is not plain memory.
 * Functions return 0 or a value on success, -1 with errno on failure, unless they say otherwise.
 * Nothing here depends on an object or an engine. */
#ifndef MPE_OS_OS_H
#define MPE_OS_OS_H

#include "base/defs.h"

#include <sys/types.h>

/* standard.c: no descriptor of the engine is 0, 1 or 2; see mpe_fd_lift and mpe_standard_hold as well. */
/* Are so many descriptors available? fd is any open one. For libraries that abort when there are
 * none. */
#define MPE__FD_ROOM_MAX 8
int mpe__fd_room(int fd, int count);
int mpe__fd_copy(int fd);   /* closed by exec */
void mpe__fd_close(int fd); /* harmless with -1; keeps errno */

/* limits.c: UINT64_MAX without a limit. */
uint64_t mpe__limit_file_bytes(void); /* a file may not be larger (ulimit -f) */
/* A mapping should not be larger: half of the remaining addresses (ulimit -v), since the
 * program, its heap and its threads need some too. */
uint64_t mpe__limit_map_bytes(void);

/* memfd.c: a memory file that can grow but never shrink, mapped once at its full size. */
int mpe__memfd_create(const char *name, uint64_t bytes);
void *mpe__memfd_map(int fd, uint64_t bytes);
/* A mapping that can only be read, or NULL (errno). */
void *mpe__memfd_view(int fd, uint64_t bytes);
/* Maps a part of a memory file, or the beginning of one that was opened to be read; NULL (errno). */
void *mpe__memfd_part(int fd, uint64_t offset, uint64_t bytes);
void *mpe__memfd_rewrite(int fd, uint64_t bytes);
/* Gives its memory back; mappings of it read zeros. */
void mpe__memfd_empty(int fd, uint64_t bytes);
void mpe__memfd_unmap(void *base, uint64_t bytes);
/* Makes [offset, offset + bytes) backed by memory now, so that touching it cannot fail. */
int mpe__memfd_commit(int fd, uint64_t offset, uint64_t bytes);
/* Returns the memory of a range to the system; it reads as zeros afterwards. */
int mpe__memfd_release(void *base, uint64_t offset, uint64_t bytes);
/* Asks for large pages in a range that was just committed and not yet touched: one fault instead
 * of 512, in each process. Does nothing where the kernel cannot or may not. */
#define MPE__LARGE_PAGE (2ull << 20)
void mpe__memfd_join(void *base, uint64_t offset, uint64_t bytes);

/* pages.c: the range will be used: all its pages at once instead of a fault each. Only advice. */
void mpe__will_read(const void *from, const void *to);

/* thread.c: a detached thread that takes no signals. */
int mpe__thread_start(void *(*run)(void *ud), void *ud);

/* futex.c: sleep on shared 32-bit words. */
#define MPE__FUTEX_MAX 128
struct mpe__futex_wait {
    const mpe__a32 *word;
    uint32_t value;
};
/* Sleeps until woken or the word differs. timeout_ns UINT64_MAX: no limit. Any return is a hint. */
void mpe__futex_wait(mpe__a32 *word, uint32_t value, uint64_t timeout_ns);
/* The same on several words at once, up to an absolute deadline. Falls back to words[0] alone where
 * the kernel has no futex_waitv, and then returns after some milliseconds at the latest. */
void mpe__futex_wait_any(const struct mpe__futex_wait *words, int count, uint64_t deadline);
void mpe__futex_wake(mpe__a32 *word, int count);

/* gate.c: sleeps until no other process of this user is inside the gate of that name, and enters it.
 * It is left by closing the descriptor that is returned. -1: EPERM, another user's. */
int mpe__gate_enter(const char *name);
/* Opens the memory files of that name that processes of this user have open, one after the other,
 * until visit takes one and returns 1; so does this. 0: none was taken. */
int mpe__memfd_find(const char *name, int (*visit)(void *ud, int fd), void *ud);

/* procfs.c: processes and memory files as a reader finds them. Is there a /proc? If not: errno ENOENT. */
int mpe__processes_are_shown(void);
/* The owner of a process; -1: there is no such process. */
long mpe__process_user(pid_t pid);
/* Opens, to be read, each memory file whose name begins so and that the process has open, until visit
 * returns 1, which it then has taken. 1; 0: none was taken; -1 (errno): its files cannot be seen. */
int mpe__process_files(pid_t pid, const char *name, int (*visit)(void *ud, int fd), void *ud);
/* Opens a memory file of that name, by its number in another process, to be written. -1 (errno);
 * MPE__NO_FILE: there is no such process, or file. */
#define MPE__NO_FILE (-2)
int mpe__process_file(pid_t pid, int number, const char *name);
/* Calls visit for each process of this user. -1 (errno; ENOENT: there is no /proc). */
int mpe__processes_each(void (*visit)(void *ud, pid_t pid), void *ud);
/* The arguments of this process, each with its 0, as far as they fit. */
void mpe__process_command(char *out, size_t size);
/* Sends a signal with a value to a thread. Errors: errno. */
int mpe__thread_signal(pid_t pid, pid_t thread, int number, int value);

/* The wall clock, ns. */
uint64_t mpe__wall_now(void);
/* Has the kernel kill this process after so long, whatever it does by then, also stopped; a fork does not
 * inherit that, and an exec ends it. -1 (errno). Threads: any, and handlers of signals. */
int mpe__end_after(uint64_t ns);

/* program.c: call it before the working directory can change. */
void mpe__program_note(void);

/* procid.c: identity of processes. */
int mpe__pidfd_open(pid_t pid);
/* Of one thread of a process; kernels before 6.9 have it for a process's first thread only, and as
 * one of the whole process. */
int mpe__pidfd_open_thread(pid_t pid, pid_t thread);
/* Does the kernel, or a filter of system calls, refuse all pidfds? */
int mpe__pidfds_are_refused(void);
/* Whether a process that was started has exited, reaped or not. In doubt it has not. */
int mpe__process_is_over(pid_t pid);
/* What lists of processes show as the command of this process, if the main thread calls it. */
void mpe__process_show_name(const char *name);
uint64_t mpe__random64(void);
/* The processor that this thread runs on; the thread may have moved since. One load with glibc's
 * rseq. */
uint32_t mpe__processor(void);

/* datagram.c: abstract unix datagram sockets, the doorbell of a process that sleeps in epoll. */
int mpe__datagram_open(uint64_t nonce, uint32_t slot, uint32_t generation);
/* Sends one byte without blocking; on failure no process sleeps there any more, or it is already
 * rung. */
void mpe__datagram_ring(int fd, uint64_t nonce, uint32_t slot, uint32_t generation);
void mpe__datagram_drain(int fd);

/* passing.c: descriptors that this process keeps for others of the user, and fetching them. */
struct mpe__ticket {
    uint64_t keeper, number;
};
/* Keeps a copy of fd, until it is taken or released, or its owner is. Starts a thread at first. */
int mpe__ticket_new(const void *owner, uint64_t arena, int fd, int once, struct mpe__ticket *out);
/* A copy of what is kept, closed by exec. once: as when it was kept; it is kept no longer. Blocks for a moment, also while
 * the keeper computes; EAGAIN after ten seconds, when it is stopped. ESTALE: it is not kept any more, or
 * its keeper has exited. */
int mpe__ticket_fetch(uint64_t arena, const struct mpe__ticket *t, int takes, int *fd);
/* by: any datagram socket of this kind, since there may be no descriptor for a new one. */
void mpe__ticket_release(uint64_t arena, const struct mpe__ticket *t, int by);
void mpe__tickets_release_of(const void *owner);
/* Sleeps until none of its owner's is left that is taken once. */
void mpe__tickets_wait(const void *owner, uint64_t deadline);
uint32_t mpe__ticket_threads(void); /* of this process */

#endif
