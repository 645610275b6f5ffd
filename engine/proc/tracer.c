/* SPDX-License-Identifier: MIT */
/* The reader's side of tracing: core/trace.c. A tracer has the memory file of the rings, and reads
 * each from where it has read last. It writes two words of the program through a mapping of the header
 * alone: first the one that says which reader has the program, then the switch. One that dies between
 * them has left a word that names a file which is gone: the next reader takes its place.
 */
#include "core/door.h"
#include "core/trace.h"
#include "os/os.h"
#include "os/ticks.h"
#include "proc/proc.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PAGE 4096u /* of the header: the word is in it */

_Static_assert(offsetof(struct mpe__header, tracer) + 8 <= PAGE,
               "both words are in the first page");

struct mpe_tracer {
    int fd; /* of the rings */
    uint64_t word;
    struct mpe__header *header; /* the first page; NULL: not switched on yet */
    struct mpe__ring *rings;
    uint64_t read[MPE__SLOTS]; /* records read of each */
};

int
mpe_tracer_new(mpe_tracer **out)
{
    if (!out)
        return MPE_EINVAL;
    mpe_tracer *t = calloc(1, sizeof *t);
    if (!t)
        return MPE_ENOMEM;
    t->fd = mpe__memfd_create(MPE__TRACE_FILE, MPE__TRACE_BYTES * MPE__SLOTS);
    t->rings = t->fd < 0 ? NULL : mpe__memfd_view(t->fd, MPE__TRACE_BYTES * MPE__SLOTS);
    if (!t->rings || t->fd > 0xffff) {
        mpe_tracer_free(t);
        return MPE_ESYS;
    }
    t->word = mpe__trace_word_of(getpid(), t->fd, (uint32_t)(mpe_now() >> 16) | 1);
    if (mpe__ticks_are_kept())
        t->word |= MPE__TRACE_TICKS;
    *out = t;
    return MPE_OK;
}

uint64_t
mpe_tracer_word(const mpe_tracer *t)
{
    return t->word;
}

/* The file of the arena that a view shows, among those of a process. */
struct search {
    uint64_t nonce;
    struct mpe__header *found;
};

static int
map_header(void *ud, int fd)
{
    struct search *s = ud;
    struct mpe__header *h = mpe__memfd_rewrite(fd, PAGE);
    if (!h)
        return 0;
    if (h->magic != MPE__MAGIC || h->nonce != s->nonce) {
        mpe__memfd_unmap(h, PAGE);
        return 0;
    }
    s->found = h;
    mpe__fd_close(fd);
    return 1;
}

static int
is_there(uint64_t word)
{
    int fd = mpe__process_file(mpe__trace_pid(word), mpe__trace_fd(word), MPE__TRACE_FILE);
    if (fd >= 0)
        mpe__fd_close(fd);
    return fd != MPE__NO_FILE;
}

/* The program is this reader's. One that was killed has left its words. */
static int
take_program(mpe_tracer *t, int *by)
{
    uint64_t seen = 0;
    while (!atomic_compare_exchange_strong(&t->header->tracer, &seen, t->word)) {
        if (seen == t->word) /* since it began: mpe_trace_begin */
            return MPE_OK;
        *by = mpe__trace_pid(seen);
        if (is_there(seen))
            return MPE_EAGAIN;
    }
    return MPE_OK;
}

int
mpe_tracer_start(mpe_tracer *t, mpe_view *v, int *by)
{
    mpe_view_process p;
    mpe_view_info info;
    uint32_t slot = 0;
    int other = 0;
    if (!t || !v)
        return MPE_EINVAL;
    mpe_view_info_get(v, &info);
    struct search s = {info.nonce, NULL};
    while (!s.found && mpe_view_process_next(v, &slot, &p) == MPE_OK)
        mpe__process_files(p.pid, "mpengine", map_header, &s);
    if (!s.found)
        return MPE_ENOENT;
    t->header = s.found;
    int rc = take_program(t, by ? by : &other);
    if (rc == MPE_OK) {
        mpe__store64(&t->header->trace, t->word);
        return MPE_OK;
    }
    mpe__memfd_unmap(t->header, PAGE);
    t->header = NULL;
    return rc;
}

void
mpe_tracer_pause(mpe_tracer *t, int paused)
{
    if (t && t->header)
        mpe__store64(&t->header->trace, paused ? 0 : t->word);
}

int
mpe_trace_begin(mpe_engine *e, uint64_t word)
{
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    if (getppid() != mpe__trace_pid(word))
        return MPE_EPERM;
    mpe__store64(&e->header->tracer, word);
    mpe__store64(&e->header->trace, word);
    return MPE_OK;
}

static void
copy_record(mpe_trace_record *out, const struct mpe__traced *r)
{
    uint64_t last;
    out->at = mpe__load64(&r->at);
    out->object = mpe__load64(&r->object);
    out->more = mpe__load64(&r->more);
    last = mpe__load64(&r->number_what);
    out->number = (uint32_t)last;
    out->what = (uint32_t)(last >> 32);
}

/* Where the records begin that cannot be overwritten while count is there. */
static uint64_t
oldest(uint64_t count)
{
    return count < MPE__TRACE_RECORDS ? 0 : count - MPE__TRACE_RECORDS + 1;
}

size_t
mpe_tracer_read(mpe_tracer *t, uint32_t slot, mpe_trace_record *out, size_t room)
{
    if (!t || slot >= MPE__SLOTS || !out || room < 2)
        return 0;
    struct mpe__ring *ring = &t->rings[slot];
    uint64_t count = mpe__load64(&ring->count), read = t->read[slot];
    uint64_t from = oldest(count) > read ? oldest(count) : read;
    uint64_t at = from > read; /* room for what tells of the loss */
    uint64_t n = count - from < room - at ? count - from : room - at;
    for (uint64_t i = 0; i < n; i++)
        copy_record(&out[at + i], &ring->records[(from + i) % MPE__TRACE_RECORDS]);
    uint64_t whole = oldest(mpe__load64(&ring->count)); /* the rest was overwritten meanwhile */
    uint64_t skip = whole <= from ? 0 : whole - from < n ? whole - from : n;
    t->read[slot] = from + n;
    if (from + skip == read)
        return (size_t)n;
    uint64_t left = n - skip;
    memmove(out + 1, out + at + skip, (size_t)left * sizeof *out);
    out[0] = (mpe_trace_record){.what = MPE_TRACE_LOST, .more = from + skip - read};
    out[0].at = left > 0 ? out[1].at : 0;
    return (size_t)left + 1;
}

uint64_t
mpe_tracer_skip(mpe_tracer *t, uint32_t slot)
{
    if (!t || slot >= MPE__SLOTS)
        return 0;
    uint64_t read = t->read[slot];
    t->read[slot] = mpe__load64(&t->rings[slot].count);
    return t->read[slot] - read;
}

void
mpe_tracer_clock(const mpe_tracer *t, uint64_t *ticks, uint64_t *ns)
{
    uint64_t best = UINT64_MAX;
    for (int i = 0; i < 8; i++) { /* the pair that was read in the shortest time */
        uint64_t before = mpe_now(), seen = mpe__ticks(), after = mpe_now();
        if (after - before >= best)
            continue;
        best = after - before;
        *ns = before + best / 2;
        *ticks = t->word & MPE__TRACE_TICKS ? seen : *ns;
    }
}

void
mpe_tracer_free(mpe_tracer *t)
{
    if (!t)
        return;
    if (t->header) {
        uint64_t word = t->word;
        mpe__store64(&t->header->trace, 0);
        atomic_compare_exchange_strong(&t->header->tracer, &word, 0);
        mpe__memfd_unmap(t->header, PAGE);
    }
    if (t->rings)
        mpe__memfd_unmap(t->rings, MPE__TRACE_BYTES * MPE__SLOTS);
    mpe__memfd_empty(t->fd, MPE__TRACE_BYTES * MPE__SLOTS);
    mpe__fd_close(t->fd);
    free(t);
}
