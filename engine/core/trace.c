/* Tracing. A reader makes a memory file with a ring for each slot, and writes into the header of the
 * arena its pid and the number of the file: that word is the switch, and 0 while no reader
 * traces. Each place where something is noted loads the word, which shares its cache line with
 * constants. A process that finds a new word opens the reader's file, commits and maps the ring
 * of its slot, and notes its pid and name; where that fails it is not traced, and does not try again for
 * this word.
 *
 * The rings are the reader's memory: what a killed process has noted stays readable, and nothing is
 * left in the arena when the reader ends. A reader that was killed leaves its word behind: the next
 * process that attaches to it finds the file gone, and clears the word; one that has mapped its
 * ring looks once per LOOK_EVERY records. A death between two stores leaves a record that does
 * not count.
 *
 * A ring is overwritten when it is full; the reader copies it faster than that, or counts what it
 * missed.
 */
#include "core/trace.h"

#include "os/os.h"
#include "core/door.h"

#include <errno.h>
#include <string.h>

#define LOOK_EVERY 4096u
#define TEXT_BYTES MPE_TRACE_TEXT_BYTES

_Static_assert(offsetof(mpe_trace_record, number) == TEXT_BYTES, "a text has the first fields");

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
map_ring(mpe_engine *e, int fd)
{
    uint64_t at = MPE__TRACE_BYTES * e->slot;
    if (fd < 0 || mpe__memfd_commit(fd, at, MPE__TRACE_BYTES) != 0)
        return 0;
    e->trace.ring = mpe__memfd_part(fd, at, MPE__TRACE_BYTES);
    return e->trace.ring != NULL;
}

/* After a fork the mapping, a copy, is that of the parent's slot. */
static void
attach(mpe_engine *e, uint64_t word)
{
    struct mpe__trace *t = &e->trace;
    int saved = errno;
    forget_ring(t);
    t->word = word;
    t->slot = e->slot;
    int fd = mpe__process_file(mpe__trace_pid(word), mpe__trace_fd(word), MPE__TRACE_FILE);
    if (map_ring(e, fd)) {
        mpe_trace_add(e, MPE_TRACE_PROCESS, mpe__load32(&e->self->pid), 0,
                      mpe__load32(&e->self->parent));
        mpe_trace_text(e, e->self->name, strlen(e->self->name));
    } else if (fd == MPE__NO_FILE) {
        end_trace(e, word);
    }
    if (fd >= 0)
        mpe__fd_close(fd);
    errno = saved;
}

static mpe_trace_record *
next_record(mpe_engine *e)
{
    uint64_t word = mpe__load64(&e->header->trace);
    struct mpe__trace *t = &e->trace;
    if (!word || !e->self)
        return NULL;
    if (t->word != word || t->slot != e->slot)
        attach(e, word);
    if (!t->ring)
        return NULL;
    uint64_t n = mpe__load64(&t->ring->count);
    if (MPE__UNLIKELY(n % LOOK_EVERY == LOOK_EVERY - 1) &&
        mpe__process_user(mpe__trace_pid(word)) < 0) {
        end_trace(e, word);
        return NULL;
    }
    return &t->ring->records[n % MPE__TRACE_RECORDS];
}

static void
count_record(mpe_engine *e)
{
    mpe__store64(&e->trace.ring->count, mpe__load64(&e->trace.ring->count) + 1);
}

void
mpe_trace_add(mpe_engine *e, uint32_t what, uint32_t number, uint64_t object, uint64_t more)
{
    mpe_trace_record *r = next_record(e);
    if (!r)
        return;
    *r = (mpe_trace_record){
        .object = object, .more = more, .at = mpe_now(), .number = number, .what = what};
    count_record(e);
}

void
mpe_trace_text(mpe_engine *e, const char *text, size_t size)
{
    for (size_t at = 0; at < size; at += TEXT_BYTES) {
        mpe_trace_record *r = next_record(e);
        if (!r)
            return;
        uint32_t n = (uint32_t)(size - at < TEXT_BYTES ? size - at : TEXT_BYTES);
        *r = (mpe_trace_record){.number = n, .what = MPE_TRACE_TEXT};
        memcpy(r, text + at, n);
        count_record(e);
    }
}

const uint64_t *
mpe_trace_word(mpe_engine *e)
{
    return mpe__is_ours(e) ? (const uint64_t *)&e->header->trace : NULL;
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
