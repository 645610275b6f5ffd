/* The trace of a program: what its processes do, noted in rings for a reader. See trace.c. */
#ifndef MPE_CORE_TRACE_H
#define MPE_CORE_TRACE_H

#include "core/engine.h"

#define MPE__TRACE_FILE "trace-mpengine" /* no arena: mpe__process_files compares beginnings */
#define MPE__TRACE_RECORDS 65536u        /* of a ring: a power of two */
#define MPE__TRACE_STEP 4096u            /* records */
#define MPE__TRACE_BYTES (sizeof(struct mpe__ring))

/* The words of a record, as mpe_trace_record has them. */
struct mpe__traced {
    mpe__a64 at, object, more, number_what; /* the number is its lower half */
};

_Static_assert(sizeof(struct mpe__traced) == sizeof(mpe_trace_record), "a record is four words");

/* One slot's. Only the process that has the slot writes; a record counts when count is above it. */
struct mpe__ring {
    mpe__a64 count; /* records ever written */
    _Alignas(4096) struct mpe__traced records[MPE__TRACE_RECORDS];
};

#define MPE__TRACE_TICKS (1ull << 63) /* in the word: times are ticks, os/ticks.h */

/* The word in the header: the reader that traces. */
static inline uint64_t
mpe__trace_word_of(int pid, int fd, uint32_t number)
{
    return (uint64_t)(number & 0x7fff) << 48 | (uint64_t)(fd & 0xffff) << 32 | (uint32_t)pid;
}

static inline int
mpe__trace_pid(uint64_t word)
{
    return (int)(uint32_t)word;
}

static inline int
mpe__trace_fd(uint64_t word)
{
    return (int)(word >> 32 & 0xffff);
}

static inline int
mpe__is_traced(const mpe_engine *e)
{
    return MPE__UNLIKELY(mpe__load64(&e->header->trace) != 0);
}

/* Notes an event, if the program is traced. */
static inline void
mpe__trace(mpe_engine *e, uint32_t what, uint32_t number, const mpe_object *o)
{
    if (mpe__is_traced(e))
        mpe_trace_add(e, what, number, o ? mpe_handle_of(e, o) : 0, 0);
}

/* The same of what was done with an object. */
static inline void
mpe__trace_did(mpe_engine *e, enum mpe_trace_did did, uint32_t number, const mpe_object *o)
{
    if (mpe__is_traced(e))
        mpe_trace_add(e, MPE_TRACE_DID, number, mpe_handle_of(e, o), did);
}

/* This process, or thread, has got its slot, or leaves it. */
void mpe__trace_enter(mpe_engine *e);
void mpe__trace_leave(mpe_engine *e);

#endif
