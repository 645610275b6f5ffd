/* Tracing. A reader makes a memory file with a ring for each slot, and writes into the header of the
 * arena its pid and the number of the file: that word is the switch, and 0 while no reader
 * traces, or the one that does lets the program rest. Another word says which reader has the program.
 * Each place where something is noted loads the switch, which shares its cache line with constants. A
 * process that finds a new word opens the reader's file, commits and maps the ring of its slot, and notes
 * its pid and name; where that fails it is not traced, and does not try again for this word.
 *
 * A ring is overwritten when it is full; the reader copies it faster than that, or counts what it
 * missed. It is written in steps. At the beginning of each the process notes its pid and name again:
 * what is left of a ring that was overwritten says whose it is. The first time round it also commits
 * the memory of the step, later it looks once per round whether the reader is still there.
 *
 * Most of what a record costs is the clock, so its time is in ticks of the processor where the reader
 * has seen that the kernel trusts them; the word says so.
 *
 * The rings are the reader's memory: what a killed process has noted stays readable, the next
 * process in its slot goes on behind it, and nothing is left in the arena when the reader ends. A
 * reader that was killed leaves its words behind: the next process that looks for its file, at its
 * first record or at a step, finds it gone, and clears the switch; so does the next reader, which takes the
 * other word.
 *
 * A death between two stores leaves a record that does not count, and that the next process in the
 * slot overwrites. The stores are in order, so while a record is written the count says that all
 * before it, but one, are whole: that one may be the one that is overwritten.
 */
#include "core/trace.h"

#include "core/door.h"
#include "os/os.h"
#include "os/ticks.h"

#include <errno.h>
#include <string.h>

#define TEXT_BYTES MPE_TRACE_TEXT_BYTES
#define AHEAD 16 /* records */

_Static_assert(offsetof(mpe_trace_record, number) == TEXT_BYTES, "a text has the first fields");
_Static_assert(MPE__TRACE_RECORDS % MPE__TRACE_STEP == 0, "a ring is full at the end of a step");

static void
forget_ring(struct mpe__trace *t)
{
    if (t->ring)
        mpe__memfd_unmap(t->ring, MPE__TRACE_BYTES);
    t->ring = NULL;
}

/* The reader has gone, and could not say so. */
static void
end_trace(mpe_engine *e, uint64_t word)
{
    atomic_compare_exchange_strong(&e->header->trace, &word, 0);
}

static int
commit_part(const mpe_engine *e, int fd, uint64_t offset, uint64_t bytes)
{
    return mpe__memfd_commit(fd, MPE__TRACE_BYTES * e->slot + offset, bytes) == 0;
}

/* The memory of the step that has record n. */
static int
commit_step(mpe_engine *e, int fd, uint64_t n)
{
    uint64_t first = n % MPE__TRACE_RECORDS / MPE__TRACE_STEP * MPE__TRACE_STEP;
    const struct mpe__traced *from = &e->trace.ring->records[first];
    uint64_t at = offsetof(struct mpe__ring, records) + first * sizeof *from;
    if (n >= MPE__TRACE_RECORDS) /* the ring has been full once */
        return 1;
    if (!commit_part(e, fd, at, MPE__TRACE_STEP * sizeof *from))
        return 0;
    mpe__will_read(from, from + MPE__TRACE_STEP);
    return 1;
}

static int
map_ring(mpe_engine *e, int fd)
{
    if (fd < 0 || !commit_part(e, fd, 0, offsetof(struct mpe__ring, records)))
        return 0;
    e->trace.ring = mpe__memfd_part(fd, MPE__TRACE_BYTES * e->slot, MPE__TRACE_BYTES);
    return e->trace.ring && commit_step(e, fd, mpe__load64(&e->trace.ring->count));
}

static void
note_name(mpe_engine *e, uint32_t what)
{
    mpe_trace_add(e, what, mpe__load32(&e->self->pid), 0, mpe__load32(&e->self->parent));
    mpe_trace_text(e, e->self->name, strlen(e->self->name));
}

static int
open_rings(uint64_t word)
{
    return mpe__process_file(mpe__trace_pid(word), mpe__trace_fd(word), MPE__TRACE_FILE);
}

/* After a fork the mapping, a copy, is that of the parent's slot. */
static void
attach(mpe_engine *e, uint64_t word)
{
    struct mpe__trace *t = &e->trace;
    int saved = errno, fd = open_rings(word);
    forget_ring(t);
    t->word = word;
    t->slot = e->slot;
    if (map_ring(e, fd)) {
        t->step = mpe__load64(&t->ring->count);
        note_name(e, MPE_TRACE_PROCESS);
    } else {
        forget_ring(t);
    }
    if (fd == MPE__NO_FILE)
        end_trace(e, word);
    if (fd >= 0)
        mpe__fd_close(fd);
    errno = saved;
}

/* The ring has memory for record n, the first of a step, and the reader is still there. */
static int
look_for_reader(mpe_engine *e, uint64_t n)
{
    if (n >= MPE__TRACE_RECORDS && n % MPE__TRACE_RECORDS != 0)
        return 1; /* looked at by an earlier step of this time round */
    int saved = errno, fd = open_rings(e->trace.word), is_there = fd >= 0 && commit_step(e, fd, n);
    if (fd == MPE__NO_FILE)
        end_trace(e, e->trace.word);
    if (fd >= 0)
        mpe__fd_close(fd);
    errno = saved;
    return is_there;
}

static void
begin_step(mpe_engine *e, uint64_t n)
{
    e->trace.step = n;
    if (look_for_reader(e, n))
        note_name(e, MPE_TRACE_STILL);
    else
        forget_ring(&e->trace);
}

static inline int
is_step(const struct mpe__trace *t, uint64_t n)
{
    return n % MPE__TRACE_STEP == 0 && t->step != n;
}

/* Where record *n goes; NULL: this process is not traced. */
static MPE__COLD struct mpe__traced *
look_for_place(mpe_engine *e, uint64_t *n)
{
    struct mpe__trace *t = &e->trace;
    uint64_t word = mpe__load64(&e->header->trace);
    if (!word || !e->self)
        return NULL;
    if (t->word != word || t->slot != e->slot)
        attach(e, word);
    if (t->ring && is_step(t, mpe__load64(&t->ring->count)))
        begin_step(e, mpe__load64(&t->ring->count));
    if (!t->ring)
        return NULL;
    *n = mpe__load64(&t->ring->count);
    return &t->ring->records[*n % MPE__TRACE_RECORDS];
}

/* The same; the records are asked for in advance, as the processor has forgotten them since it came
 * by the last time. */
static inline struct mpe__traced *
next_place(mpe_engine *e, uint64_t word, uint64_t *n)
{
    struct mpe__trace *t = &e->trace;
    if (MPE__UNLIKELY(t->word != word || t->slot != e->slot || !t->ring))
        return look_for_place(e, n);
    *n = mpe__load64(&t->ring->count);
    if (MPE__UNLIKELY(is_step(t, *n)))
        return look_for_place(e, n);
    mpe__will_write(&t->ring->records[(*n + AHEAD) % MPE__TRACE_RECORDS]);
    return &t->ring->records[*n % MPE__TRACE_RECORDS];
}

static inline void
write_record(mpe_engine *e, struct mpe__traced *r, const uint64_t words[4], uint64_t n)
{
    mpe__store64(&r->at, words[0]);
    mpe__store64(&r->object, words[1]);
    mpe__store64(&r->more, words[2]);
    mpe__store64(&r->number_what, words[3]);
    mpe__store64(&e->trace.ring->count, n + 1);
}

void
mpe_trace_add(mpe_engine *e, uint32_t what, uint32_t number, uint64_t object, uint64_t more)
{
    uint64_t n, word = mpe__load64(&e->header->trace);
    struct mpe__traced *r = next_place(e, word, &n);
    if (MPE__UNLIKELY(!r))
        return;
    uint64_t at = MPE__LIKELY(word & MPE__TRACE_TICKS) ? mpe__ticks() : mpe_now();
    write_record(e, r, (uint64_t[]){at, object, more, (uint64_t)what << 32 | number}, n);
}

void
mpe_trace_text(mpe_engine *e, const char *text, size_t size)
{
    for (size_t at = 0; at < size; at += TEXT_BYTES) {
        uint64_t n, w[4] = {0}, bytes = size - at < TEXT_BYTES ? size - at : TEXT_BYTES;
        struct mpe__traced *r = next_place(e, mpe__load64(&e->header->trace), &n);
        if (!r)
            return;
        memcpy(w, text + at, bytes);
        w[3] = (uint64_t)MPE_TRACE_TEXT << 32 | bytes;
        write_record(e, r, w, n);
    }
}

const uint64_t *
mpe_trace_word(mpe_engine *e)
{
    return mpe__is_ours(e) ? (const uint64_t *)&e->header->trace : NULL;
}

uint64_t
mpe_trace_part(const mpe_engine *e)
{
    const struct mpe__ring *ring = e->trace.ring;
    return ring ? mpe__load64(&ring->count) / (MPE__TRACE_RECORDS / 2) : 0;
}

void
mpe__trace_enter(mpe_engine *e)
{
    uint64_t word = mpe__load64(&e->header->trace);
    if (word)
        attach(e, word);
}

void
mpe__trace_leave(mpe_engine *e)
{
    if (e->trace.ring && e->trace.slot == e->slot)
        mpe__trace(e, MPE_TRACE_EXIT, mpe__load32(&e->self->pid), NULL);
    forget_ring(&e->trace);
    e->trace.word = 0;
}
