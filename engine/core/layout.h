/* The contents of an arena: the header, the slots and the object entries. Offsets, never
 * pointers; zeroed memory is a valid empty structure. The format word is computed from these
 * sizes, so programs with another layout refuse to attach.
 *
 *   [header][slots][places][object table (sparse)][chunk table (sparse)][owner words (sparse)][heap ...]
 *
 * Memory is type-stable: a lock word stays a lock word for the life of the arena.
 */
#ifndef MPE_CORE_LAYOUT_H
#define MPE_CORE_LAYOUT_H

#include "base/defs.h"

#include <pthread.h>

#define MPE__SLOTS 256u
#define MPE__SLOT_WORDS (MPE__SLOTS / 64u)
#define MPE__EVENTS 3u   /* MPE_EVENTS of the public header */
#define MPE__INTENTS 16u /* locks one thread may hold or be taking at once, reaping included */
#define MPE__INFLIGHT 4u /* blocks one call may own at once */
#define MPE__PLACES 1024u
#define MPE__PLACE_BYTES 128u

/* A set of slots. */
struct mpe__slotset {
    mpe__a64 bits[MPE__SLOT_WORDS];
};

/* The intention of a mutation, written before its committing store. While active, "the word at
 * link equals value" shows a reaper that the commit happened. */
struct mpe__op {
    mpe__a32 active;
    mpe__a32 object;       /* index of the object mutated */
    mpe__a64 link;         /* offset of the 64-bit word whose store commits */
    mpe__a64 value;        /* the value stored */
    mpe__a64 new_block[2]; /* become the object's at the commit, 0: none */
    mpe__a64 old_block[2]; /* are freed after the commit, 0: none */
    mpe__a64 taken;        /* leaves the object for the slot at the commit, 0: none */
};

#define MPE__REDO_WORDS 32u

/* Words that are being written over others in place: those from offset `to` on become `words`,
 * and then the word at head, a version in its upper half, which is odd meanwhile, becomes
 * `value`. The store of count commits: from then on a reaper repeats the writes. */
struct mpe__redo {
    mpe__a32 count; /* words; 0: none in progress */
    mpe__a64 head, value, to;
    uint64_t words[MPE__REDO_WORDS];
};

enum { MPE__SLOT_FREE = 0, MPE__SLOT_STARTING = 1, MPE__SLOT_LIVE = 2 };
/* IN_POLL_ALONE: with nothing shared waited for, so that other processes may start and exit
 * unnoticed. SPINNING: about to sleep, and checking its bell; AWAKE: runs, and may not check for
 * long. */
enum { MPE__AWAKE, MPE__IN_FUTEX, MPE__IN_POLL, MPE__RUNG, MPE__IN_POLL_ALONE, MPE__SPINNING };

/* One attached thread of execution. Only its owner writes it, except: bell and sleep (ringers),
 * everything (the reaper, which holds life). */
struct mpe__slot {
    mpe__a32 state;             /* MPE__SLOT_... */
    mpe__a32 generation;        /* bumped when the slot is freed */
    pthread_mutex_t life;       /* robust, locked from attach to death */
    mpe__a32 starter;           /* STARTING: slot + 1 of the process that starts it */
    mpe__a32 parent;            /* slot + 1 */
    mpe__a64 child;             /* STARTING: generation << 32 | pid, when that is known */
    _Alignas(64) mpe__a32 bell; /* pending wake-ups: bits of object buckets, MPE__BROADCAST */
    mpe__a32 sleep;             /* MPE__AWAKE ... */
    mpe__a32 rung_on;           /* processor + 1 of the last ringer, a hint: loop/sleep.c */
    mpe__a32 quiet;             /* waits for other processes only: loop/deadlock.c; 0: no */
    _Alignas(64) mpe__a64 intents[MPE__INTENTS]; /* see ilock.c */
    struct mpe__op op;
    mpe__a64 inflight[MPE__INFLIGHT]; /* blocks being allocated or owned by the call under way */
    mpe__a32 making;                  /* index of the object being made or destroyed, 0: none */
    mpe__a32 unlisted;                /* more blocks than fit into inflight: search all blocks */
    mpe__a32 pid;
    mpe__a32 thread; /* the owner of life, by its number in the system */
    char name[48];
    mpe__a32 tasks;   /* tasks of its script that have not ended, for readers */
    mpe__a32 answers; /* it answers the questions of readers: a signal asks */
    mpe__a64 bound;   /* generation << 32 | slot + 1 of the process whose end ends it; 0: none */
    struct mpe__redo redo;
};

/* A line of a script where objects were made, for readers. Written once; see label.c. */
struct mpe__place {
    char text[MPE__PLACE_BYTES];
};

/* The entry of one shared object, for every kind. Index 0 names no object: its entry, never live or held,
 * is the Lock of the output, see loop/output.c. */
struct mpe_object {
    mpe__a32 state;      /* MPE__OBJECT_... */
    mpe__a32 generation; /* bumped when the entry is freed */
    mpe__a32 ilock;      /* intent lock for what the kind says */
    mpe__a16 kind;       /* enum mpe_kind */
    mpe__a16 flags;      /* MPE__OBJECT_STORED ... */
    struct mpe__slotset holders;
    struct mpe__slotset waiters[MPE__EVENTS];
    mpe__a64 word;  /* lock word, or the kind's one committing word */
    mpe__a64 body;  /* offset of the block with the rest, 0: none */
    mpe__a64 label; /* MPE__LABEL; 0: it has neither name nor place */
};

/* What a reader is shown of an object: the place where it was made, and its name, a block. */
#define MPE__LABEL(place, name) ((uint64_t)(place) << 40 | (name))
#define MPE__LABEL_NAME(label) ((label)&0xffffffffffull)
#define MPE__LABEL_PLACE(label) ((uint32_t)((label) >> 40))

/* The state of an entry is one of these in its low byte. MAKING (being made or destroyed) and
 * DOUBTED (about to be destroyed, unless it is held after all) carry slot + 1 of the process
 * that set it above that, so that a reaper undoes the steps of its own dead process only. */
enum {
    MPE__OBJECT_FREE = 0,
    MPE__OBJECT_MAKING = 1,
    MPE__OBJECT_LIVE = 2,
    MPE__OBJECT_DOUBTED = 3
};
#define MPE__OBJECT_STATE(word) ((word)&0xffu)
#define MPE__OBJECT_BY(state, slot) ((state) | ((slot) + 1) << 8)
#define MPE__OBJECT_STORED 1u   /* its handle may be in a container */
#define MPE__OBJECT_CONTAINS 2u /* its contents may hold handles */
#define MPE__OBJECT_BOARD 8u    /* a raw array that is the board of a pool: lease.c */
#define MPE__OBJECT_TOUCHED 4u  /* got a holder since the last sweep began */
#define MPE__OBJECT_URGENT 8u   /* its contents may hold such as are swept at once: kind.h */
#define MPE__OBJECT_LEFT 0x100u /* << part: that part lost a user since the last sweep began */
#define MPE__OBJECT_SINCE_SWEEP (MPE__OBJECT_TOUCHED | 0x7fu * MPE__OBJECT_LEFT)

/* The two objects of the directory, by their indexes. */
#define MPE__DIRECTORY(dict, event) ((uint64_t)(event) << 32 | (dict))
#define MPE__DIRECTORY_DICT(word) ((uint32_t)(word))
#define MPE__DIRECTORY_EVENT(word) ((uint32_t)((word) >> 32))

#define MPE__MAGIC 0x0031656e69676e65ull /* "engine1" */

struct mpe__header {
    uint64_t magic;
    uint64_t format;      /* hash of the layout sizes */
    uint64_t nonce;       /* names the arena */
    uint64_t map_bytes;   /* size of the file and of every mapping */
    uint64_t limit_bytes; /* most that may be committed */
    uint64_t objects_off, chunks_off, owners_off, heap_off;
    uint64_t fixed_bytes; /* header and slots; counted as committed, backed as they are used */
    uint32_t objects_max, chunks_max;
    uint64_t created;  /* by the wall clock, ns */
    mpe__a64 trace;    /* switches tracing on, for the reader of that word: core/trace.c */
    mpe__a64 tracer;   /* the word of the reader that has the program; 0: none */
    char command[256]; /* of the process that made it: its arguments, each with its 0 */
    _Alignas(64) mpe__a32 arena_lock; /* intent lock: runs, commits, chunk states */
    mpe__a32 chunks_top;              /* chunks ever used */
    mpe__a32 trimming;                /* chunk + 1 that is being given back */
    mpe__a64 committed_bytes;         /* all memory taken from the system */
    mpe__a64 grown_bytes;             /* the sum of all growth, never reduced */
    mpe__a32 objects_top;             /* object entries ever used */
    mpe__a32 objects_committed;       /* entries backed by memory */
    mpe__a32 objects_free;            /* an entry below the top may be free: worth a search */
    _Alignas(64) mpe__a32 slots_top;  /* slots ever used */
    mpe__a32 live_epoch;              /* bumped when a slot becomes live or free */
    mpe__a32 sweep_lock;              /* intent lock: one sweep at a time */
    mpe__a32 sweep_wanted;            /* an object may have lost its last holder by a death */
    mpe__a32 candidates;              /* dropped objects that wait for a sweep */
    mpe__a64 swept_at;                /* grown_bytes when the last sweep began */
    mpe__a32 finds_deadlocks;         /* whether loop/deadlock.c does anything */
    mpe__a32 quiet_round;             /* deadlock.c: number of the current round */
    mpe__a32 deadlock;                /* the mark of the processes in it, 0: there was none */
    mpe__a32 deadlock_teller;         /* slot of the process that reports it */
    mpe__a32 deadlock_count;          /* processes in it */
    mpe__a64 deadlock_queue;          /* handle, for their parts of the report */
    mpe__a32 places;                  /* how many there are */
    mpe__a32 is_reader;               /* a program that looks at others: not shown as one */
    mpe__a64 directory;               /* MPE__DIRECTORY: loop/directory.c; 0: there are no names */
};

_Static_assert(sizeof(struct mpe_object) == 168, "stride of the object table");
_Static_assert(sizeof(struct mpe__slot) % 64 == 0, "slots do not share cache lines");

#endif
