/* The chunk table: which chunks of the heap are free, cut into small blocks, or part of a run;
 * which have memory behind them; returning that memory. All of it changes under the arena lock.
 *
 * Death: bodies of a run are marked first and its head last, and it is freed head first. So a
 * dead owner leaves bodies without a head, which mpe__arena_recover frees. A chunk is returned
 * when all of its blocks are claimed; a dead owner leaves claims, which are lifted. Memory is
 * committed before it is counted and returned before that is counted: recovery counts anew. The
 * arena's total growth is a hint for sweeps and collectors, and lacks such a step then.
 */
#include "core/chunk.h"

#include "os/os.h"
#include "core/ilock.h"

#include <string.h>

#define COMMIT_AHEAD 8u       /* chunks backed at once when the heap grows */
#define LARGE_FROM (4u << 20) /* ... from so many bytes on, the chunks of a whole large page */
#define LARGE_CHUNKS (MPE__LARGE_PAGE / MPE__CHUNK_BYTES)
#define GIVE_BACK_CHUNKS 64u /* runs of this size return their memory to the system */

/* ---- committing memory, under the arena lock ---- */

int
mpe__commit(mpe_engine *e, uint64_t off, uint64_t bytes)
{
    struct mpe__header *h = e->header;
    uint64_t now = mpe__load64(&h->committed_bytes);
    if (bytes > h->limit_bytes || now > h->limit_bytes - bytes)
        return MPE_EARENA;
    if (mpe__memfd_commit(e->fd, off, bytes) != 0)
        return MPE_EARENA;
    mpe__store64(&h->committed_bytes, now + bytes);
    mpe__store64(&h->grown_bytes, mpe__load64(&h->grown_bytes) + bytes);
    return MPE_OK;
}

static uint32_t
tables_step(uint32_t i, uint32_t stride)
{
    return i * stride % MPE__CHUNK_BYTES == 0;
}

/* Extends the chunk table to top. */
static int
raise_top(mpe_engine *e, uint64_t top)
{
    struct mpe__header *h = e->header;
    if (top > h->chunks_max)
        return MPE_EARENA;
    for (uint32_t i = mpe__load32(&h->chunks_top); i < top; i++) {
        if (tables_step(i, sizeof(struct mpe__chunk))) {
            uint64_t off = h->chunks_off + (uint64_t)i * sizeof(struct mpe__chunk);
            int rc = mpe__commit(e, off, MPE__CHUNK_BYTES);
            if (rc != MPE_OK)
                return rc;
        }
        mpe__store32(&h->chunks_top, i + 1);
    }
    return MPE_OK;
}

/* Commits the chunks that are not; they then read as zeros. */
static int
back_chunks(mpe_engine *e, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count;) {
        if (mpe__load32(&mpe__chunk_at(e, i)->state) != MPE__FRESH) {
            i++;
            continue;
        }
        uint64_t end = i;
        while (end < first + count && mpe__load32(&mpe__chunk_at(e, end)->state) == MPE__FRESH)
            end++;
        int rc = mpe__commit(e, mpe__chunk_offset(e, i), (end - i) * MPE__CHUNK_BYTES);
        if (rc != MPE_OK)
            return rc;
        for (; i < end; i++)
            mpe__store32(&mpe__chunk_at(e, i)->state, MPE__BACKED);
    }
    return MPE_OK;
}

static int
is_free(uint32_t state)
{
    return state == MPE__FRESH || state == MPE__BACKED;
}

/* Finds count free chunks in a row, raising the top of the heap if needed. */
static int
find_chunks(mpe_engine *e, uint64_t count, uint64_t *first)
{
    uint32_t top = mpe__load32(&e->header->chunks_top);
    uint64_t row = 0;
    for (uint32_t i = 0; i < top; i++) {
        row = is_free(mpe__load32(&mpe__chunk_at(e, i)->state)) ? row + 1 : 0;
        if (row == count) {
            *first = i + 1 - count;
            return MPE_OK;
        }
    }
    *first = top - row;
    return raise_top(e, *first + count);
}

/* ---- runs ---- */

int
mpe__run_alloc(mpe_engine *e, uint64_t size, int zeroed, uint64_t *off)
{
    uint64_t count = mpe__round_up(size, MPE__CHUNK_BYTES) / MPE__CHUNK_BYTES, first;
    if (count > e->header->chunks_max)
        return MPE_EARENA;
    mpe__ilock(e, &e->header->arena_lock, 0);
    int rc = find_chunks(e, count, &first);
    uint64_t dirty = 0;
    if (rc == MPE_OK) {
        for (uint64_t i = first; i < first + count; i++)
            dirty += mpe__load32(&mpe__chunk_at(e, i)->state) == MPE__BACKED;
        rc = back_chunks(e, first, count);
    }
    if (rc == MPE_OK) {
        mpe__journal_note(e, mpe__chunk_offset(e, first));
        struct mpe__chunk *head = mpe__chunk_at(e, first);
        for (uint64_t i = first + 1; i < first + count; i++)
            mpe__store32(&mpe__chunk_at(e, i)->state, MPE__BODY);
        mpe__store32(&head->owner, e->slot + 1);
        mpe__store32(&head->chunks, (uint32_t)count);
        mpe__store32(&head->state, MPE__RUN);
    }
    mpe__iunlock(e, &e->header->arena_lock);
    if (rc != MPE_OK)
        return rc;
    *off = mpe__chunk_offset(e, first);
    if (!dirty)
        mpe__memfd_join(e->base, *off, count * MPE__CHUNK_BYTES);
    if (zeroed && dirty)
        memset(mpe__at(e, *off), 0, count * MPE__CHUNK_BYTES);
    return MPE_OK;
}

void
mpe__run_free(mpe_engine *e, uint64_t off)
{
    mpe__ilock(e, &e->header->arena_lock, 0);
    uint64_t first = mpe__chunk_index(e, off);
    struct mpe__chunk *head = mpe__chunk_at(e, first);
    uint32_t count = mpe__load32(&head->chunks), state = MPE__BACKED;
    mpe__store32(&head->owner, 0);
    if (count >= GIVE_BACK_CHUNKS &&
        mpe__memfd_release(e->base, off, (uint64_t)count * MPE__CHUNK_BYTES) == 0) {
        state = MPE__FRESH;
        mpe__store64(&e->header->committed_bytes,
                     mpe__load64(&e->header->committed_bytes) - (uint64_t)count * MPE__CHUNK_BYTES);
    }
    mpe__store32(&head->state, state);
    for (uint64_t i = first + 1; i < first + count; i++)
        mpe__store32(&mpe__chunk_at(e, i)->state, state);
    mpe__iunlock(e, &e->header->arena_lock);
}

/* ---- chunks of small blocks ---- */

/* Commits the owner words of the first count blocks of a chunk. */
static int
back_words(mpe_engine *e, uint64_t chunk, uint32_t count)
{
    struct mpe__chunk *c = mpe__chunk_at(e, chunk);
    uint64_t pages = mpe__round_up(count * sizeof(mpe__a32), MPE__PAGE) / MPE__PAGE;
    uint64_t have = atomic_load(&c->word_pages);
    if (pages <= have)
        return MPE_OK;
    int rc = mpe__commit(e, mpe__offset(e, mpe__words_of(e, chunk)) + have * MPE__PAGE,
                         (pages - have) * MPE__PAGE);
    if (rc == MPE_OK)
        atomic_store(&c->word_pages, (uint16_t)pages);
    return rc;
}

/* How many chunks to commit at once, from this fresh one on: those of a whole large page when
 * none of it is in use and the program is not small; otherwise a few, and not beyond the large
 * page. */
static uint64_t
chunks_ahead(mpe_engine *e, uint64_t chunk)
{
    uint32_t top = mpe__load32(&e->header->chunks_top);
    uint64_t begun = mpe__chunk_offset(e, chunk) % MPE__LARGE_PAGE / MPE__CHUNK_BYTES;
    uint64_t left = LARGE_CHUNKS - begun, count = 0;
    if (mpe__load64(&e->header->committed_bytes) >= LARGE_FROM)
        while (count < left && (chunk + count >= top ||
                                mpe__load32(&mpe__chunk_at(e, chunk + count)->state) == MPE__FRESH))
            count++;
    if (count == LARGE_CHUNKS)
        return count;
    return left < COMMIT_AHEAD ? left : COMMIT_AHEAD;
}

/* *fresh: how many were committed for this one. */
static int
open_locked(mpe_engine *e, uint32_t class, uint64_t *chunk, uint64_t *fresh)
{
    *fresh = 0;
    int rc = find_chunks(e, 1, chunk);
    if (rc != MPE_OK)
        return rc;
    struct mpe__chunk *c = mpe__chunk_at(e, *chunk);
    if (mpe__load32(&c->state) == MPE__FRESH) {
        uint64_t ahead = chunks_ahead(e, *chunk);
        if (raise_top(e, *chunk + ahead) == MPE_OK && back_chunks(e, *chunk, ahead) == MPE_OK)
            *fresh = ahead;
        if (mpe__load32(&c->state) == MPE__FRESH && (rc = back_chunks(e, *chunk, 1)) != MPE_OK)
            return rc; /* one would have been enough */
    }
    if ((rc = back_words(e, *chunk, mpe__blocks_in(class))) != MPE_OK)
        return rc;
    atomic_store(&c->has_free, 1);
    mpe__store32(&c->state, MPE__SMALL | class);
    return MPE_OK;
}

int
mpe__chunk_open(mpe_engine *e, uint32_t class, uint64_t *chunk)
{
    uint64_t fresh;
    mpe__ilock(e, &e->header->arena_lock, 0);
    int rc = open_locked(e, class, chunk, &fresh);
    mpe__iunlock(e, &e->header->arena_lock);
    if (fresh == LARGE_CHUNKS)
        mpe__memfd_join(e->base, mpe__chunk_offset(e, *chunk), MPE__LARGE_PAGE);
    return rc;
}

/* ---- trimming and recovery ---- */

/* Claims every block of a chunk; 0, with nothing changed, when one is in use. A process that
 * looked for a free block in the meantime may have found the chunk full, although it is not. */
static int
claim_whole(struct mpe__chunk *c, mpe__a32 *words, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (atomic_load_explicit(&words[i], memory_order_relaxed) != 0)
            return 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t none = 0;
        if (atomic_compare_exchange_strong(&words[i], &none, MPE__TRIMMING))
            continue;
        while (i-- > 0)
            mpe__store32(&words[i], 0);
        atomic_store(&c->has_free, 1);
        return 0;
    }
    return 1;
}

static void
unclaim(mpe__a32 *words, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t trimming = MPE__TRIMMING;
        atomic_compare_exchange_strong(&words[i], &trimming, 0);
    }
}

/* Owner words that are all 0 read the same without memory. A process that still tries to take a
 * block of the chunk finds its state changed. */
static void
give_back_words(mpe_engine *e, uint64_t chunk)
{
    struct mpe__header *h = e->header;
    struct mpe__chunk *c = mpe__chunk_at(e, chunk);
    uint64_t bytes = (uint64_t)atomic_load(&c->word_pages) * MPE__PAGE;
    atomic_store(&c->word_pages, 0);
    mpe__store64(&h->committed_bytes, mpe__load64(&h->committed_bytes) - bytes);
    mpe__memfd_release(e->base, mpe__offset(e, mpe__words_of(e, chunk)), bytes);
}

/* The chunk has no owner. Returns its new state. A death before that is stored leaves a chunk
 * that is marked as backed, and gets memory when it is touched. */
static uint32_t
give_back(mpe_engine *e, uint32_t i)
{
    struct mpe__header *h = e->header;
    if (mpe__memfd_release(e->base, mpe__chunk_offset(e, i), MPE__CHUNK_BYTES) != 0)
        return MPE__BACKED;
    mpe__store64(&h->committed_bytes, mpe__load64(&h->committed_bytes) - MPE__CHUNK_BYTES);
    return MPE__FRESH;
}

void
mpe__trim(mpe_engine *e)
{
    struct mpe__header *h = e->header;
    mpe__ilock(e, &h->arena_lock, 0);
    for (uint32_t i = 0; i < mpe__load32(&h->chunks_top); i++) {
        struct mpe__chunk *c = mpe__chunk_at(e, i);
        uint32_t state = mpe__load32(&c->state);
        if (state == MPE__BACKED) /* freed, or backed ahead of its use */
            mpe__store32(&c->state, give_back(e, i));
        if (!(state & MPE__SMALL))
            continue;
        mpe__store32(&h->trimming, i + 1);
        if (!claim_whole(c, mpe__words_of(e, i), mpe__blocks_in(state & 0xff)))
            continue;
        mpe__store32(&c->state, give_back(e, i));
        unclaim(mpe__words_of(e, i), mpe__blocks_in(state & 0xff));
        give_back_words(e, i);
    }
    mpe__store32(&h->trimming, 0);
    mpe__iunlock(e, &h->arena_lock);
}

/* A chunk of a run that was being made or freed. Its memory may be gone already, or full of old
 * bytes. */
static void
free_chunk(mpe_engine *e, uint32_t i)
{
    int rc = mpe__memfd_release(e->base, mpe__chunk_offset(e, i), MPE__CHUNK_BYTES);
    mpe__store32(&mpe__chunk_at(e, i)->state, rc == 0 ? MPE__FRESH : MPE__BACKED);
}

/* All memory taken from the system, according to the tables. */
static uint64_t
count_committed(mpe_engine *e)
{
    struct mpe__header *h = e->header;
    uint32_t top = mpe__load32(&h->chunks_top);
    uint64_t sum = h->fixed_bytes +
                   mpe__round_up((uint64_t)top * sizeof(struct mpe__chunk), MPE__CHUNK_BYTES) +
                   (uint64_t)mpe__load32(&h->objects_committed) * sizeof(mpe_object);
    for (uint32_t i = 0; i < top; i++) {
        struct mpe__chunk *c = mpe__chunk_at(e, i);
        if (mpe__load32(&c->state) != MPE__FRESH)
            sum += MPE__CHUNK_BYTES;
        sum += (uint64_t)atomic_load(&c->word_pages) * MPE__PAGE;
    }
    return sum;
}

void
mpe__arena_recover(mpe_engine *e)
{
    struct mpe__header *h = e->header;
    uint64_t covered = 0;
    for (uint32_t i = 0; i < mpe__load32(&h->chunks_top); i++) {
        struct mpe__chunk *c = mpe__chunk_at(e, i);
        uint32_t state = mpe__load32(&c->state);
        if (state == MPE__RUN && mpe__load32(&c->owner) != 0)
            covered = i + mpe__load32(&c->chunks);
        else if (state == MPE__RUN || (state == MPE__BODY && i >= covered))
            free_chunk(e, i);
    }
    uint32_t trimming = mpe__load32(&h->trimming);
    if (trimming) {
        struct mpe__chunk *c = mpe__chunk_at(e, trimming - 1);
        if (mpe__load32(&c->state) & MPE__SMALL) { /* its memory may have been returned */
            mpe__memfd_commit(e->fd, mpe__chunk_offset(e, trimming - 1), MPE__CHUNK_BYTES);
            atomic_store(&c->has_free, 1);
        }
        unclaim(mpe__words_of(e, trimming - 1), mpe__words_backed(e, trimming - 1));
    }
    mpe__store32(&h->trimming, 0);
    mpe__store64(&h->committed_bytes, count_committed(e));
}

void
mpe__arena_check(mpe_engine *e, void (*violation)(void *ud, const char *what, uint64_t where),
                 void *ud)
{
    struct mpe__header *h = e->header;
    uint64_t covered = 0, committed = mpe__load64(&h->committed_bytes);
    for (uint32_t i = 0; i < mpe__load32(&h->chunks_top); i++) {
        struct mpe__chunk *c = mpe__chunk_at(e, i);
        uint32_t state = mpe__load32(&c->state);
        if (state == MPE__RUN && mpe__load32(&c->owner) == 0)
            violation(ud, "run of nobody", i);
        if (state == MPE__RUN)
            covered = i + mpe__load32(&c->chunks);
        if ((state == MPE__BODY) != (i < covered && state != MPE__RUN))
            violation(ud, "chunk of a run without a head, or outside its run", i);
        mpe__a32 *words = mpe__words_of(e, i);
        uint32_t used = state & MPE__SMALL ? mpe__blocks_in(state & 0xff) : 0;
        for (uint32_t k = 0; k < mpe__words_backed(e, i); k++)
            if (mpe__load32(&words[k]) != 0 &&
                (k >= used || mpe__load32(&words[k]) == MPE__TRIMMING))
                violation(ud, "owner word of no block", i << 16 | k);
    }
    if (mpe__load32(&h->trimming))
        violation(ud, "chunk still being given back", mpe__load32(&h->trimming));
    if (committed != count_committed(e))
        violation(ud, "committed bytes miscounted", committed);
}
