/* The allocator. The heap is cut into 64 KiB chunks. A chunk is free, holds blocks of one size
 * class, or is part of a run of chunks that is one large block; the chunk table says which. Strides
 * are fixed, so the heap can always be parsed.
 *
 * Each block has one owner word, outside the chunk, so it stays an owner word whatever the chunk is
 * used for: 0 free, slot + 1 in flight, MPE__ATTACHED | object in use. Taking a small block is a
 * note in the slot's journal and one compare-and-swap; freeing it is one store, by anybody. There
 * is no second word to disagree with.
 *
 * Death: between note and swap, the block is not ours and the note is ignored; after the swap the
 * reaper finds note and owner word in agreement and frees the block, or, when the chunk had become
 * something else under the taker, what the taker claimed in it. Chunk states, runs and commits
 * change under the arena lock: bodies of a run first, its head last, so a dead owner leaves bodies
 * without a head, which mpe__arena_recover frees. has_free and class hints are only hints.
 */
#include "shm/arena.h"

#include "os/os.h"
#include "sync/death.h"
#include "sync/ilock.h"

#include <string.h>

enum { FRESH = 0, BACKED = 1, RUN = 2, BODY = 3, SMALL = 0x100 }; /* SMALL | class */
#define TRIMMING 0x7fffffffu /* owner word of a block of a chunk being given back */
#define SMALL_MAX 16384u
#define COMMIT_AHEAD 8u      /* chunks backed at once when the heap grows */
#define GIVE_BACK_CHUNKS 64u /* runs of this size return their memory to the system */

struct mpe__chunk {
    mpe__a32 state;
    mpe__a32 owner;    /* RUN: owner word */
    mpe__a32 chunks;   /* RUN: length */
    mpe__a32 has_free; /* SMALL: worth a look */
};
_Static_assert(sizeof(struct mpe__chunk) == 16, "chunk table stride");

static const uint16_t class_size[MPE__CLASSES] = {32,   48,   64,   80,   96,   128,  160,   192,
                                                  256,  320,  384,  512,  768,  1024, 1536,  2048,
                                                  3072, 4096, 5120, 6528, 8192, 9344, 10880, 16384};

static uint32_t
class_of(uint64_t size)
{
    uint32_t c = size > 1024 ? 14 : size > 192 ? 8 : 0;
    while (class_size[c] < size)
        c++;
    return c;
}

static uint32_t
blocks_in(uint32_t class)
{
    return MPE__CHUNK_BYTES / class_size[class];
}

static struct mpe__chunk *
chunk_at(const mpe_engine *e, uint64_t i)
{
    return (struct mpe__chunk *)mpe__at(e, e->header->chunks_off) + i;
}

static mpe__a32 *
words_of(const mpe_engine *e, uint64_t chunk)
{
    return (mpe__a32 *)mpe__at(e, e->header->owners_off) + chunk * MPE__CHUNK_WORDS;
}

static uint64_t
chunk_offset(const mpe_engine *e, uint64_t chunk)
{
    return e->header->heap_off + chunk * MPE__CHUNK_BYTES;
}

static uint64_t
chunk_index(const mpe_engine *e, uint64_t off)
{
    return (off - e->header->heap_off) / MPE__CHUNK_BYTES;
}

/* The owner word of a block, NULL when off names none. */
static mpe__a32 *
owner_of(const mpe_engine *e, uint64_t off, uint64_t *bytes)
{
    if (off < e->header->heap_off)
        return NULL;
    uint64_t i = chunk_index(e, off), within = (off - e->header->heap_off) % MPE__CHUNK_BYTES;
    if (i >= mpe__load32(&e->header->chunks_top))
        return NULL;
    struct mpe__chunk *c = chunk_at(e, i);
    uint32_t state = mpe__load32(&c->state);
    if (state == RUN) {
        *bytes = (uint64_t)mpe__load32(&c->chunks) * MPE__CHUNK_BYTES;
        return within == 0 ? &c->owner : NULL;
    }
    if (!(state & SMALL) || (state & 0xff) >= MPE__CLASSES)
        return NULL;
    *bytes = class_size[state & 0xff];
    return &words_of(e, i)[within / class_size[state & 0xff]];
}

static void
count_bytes(mpe_engine *e, int64_t bytes)
{
    mpe__a64 *used = &e->self->used_bytes; /* only this slot writes it */
    atomic_store_explicit(used, atomic_load_explicit(used, memory_order_relaxed) + (uint64_t)bytes,
                          memory_order_relaxed);
}

void
mpe__journal_note(mpe_engine *e, uint64_t off)
{
    for (uint32_t i = 0; i < MPE__INFLIGHT; i++) {
        if (atomic_load_explicit(&e->self->inflight[i], memory_order_relaxed) != 0)
            continue;
        mpe__store64(&e->self->inflight[i], off);
        return;
    }
    mpe__store32(&e->self->unlisted, 1); /* a caller may own any number of large messages */
}

void
mpe__journal_forget(mpe_engine *e, uint64_t off)
{
    for (uint32_t i = 0; i < MPE__INFLIGHT; i++)
        if (atomic_load_explicit(&e->self->inflight[i], memory_order_relaxed) == off)
            mpe__store64(&e->self->inflight[i], 0);
}

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
    return MPE_OK;
}

static uint32_t
tables_step(uint32_t i, uint32_t stride)
{
    return i * stride % MPE__CHUNK_BYTES == 0;
}

/* Makes the chunk table reach top. */
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

/* Backs those of the chunks that are not; they then read as zeros. */
static int
back_chunks(mpe_engine *e, uint64_t first, uint64_t count)
{
    for (uint64_t i = first; i < first + count;) {
        if (mpe__load32(&chunk_at(e, i)->state) != FRESH) {
            i++;
            continue;
        }
        uint64_t end = i;
        while (end < first + count && mpe__load32(&chunk_at(e, end)->state) == FRESH)
            end++;
        int rc = mpe__commit(e, chunk_offset(e, i), (end - i) * MPE__CHUNK_BYTES);
        if (rc != MPE_OK)
            return rc;
        for (; i < end; i++)
            mpe__store32(&chunk_at(e, i)->state, BACKED);
    }
    return MPE_OK;
}

static int
is_free(uint32_t state)
{
    return state == FRESH || state == BACKED;
}

/* Finds count free chunks in a row, raising the top of the heap if needed. */
static int
find_chunks(mpe_engine *e, uint64_t count, uint64_t *first)
{
    uint32_t top = mpe__load32(&e->header->chunks_top);
    uint64_t row = 0;
    for (uint32_t i = 0; i < top; i++) {
        row = is_free(mpe__load32(&chunk_at(e, i)->state)) ? row + 1 : 0;
        if (row == count) {
            *first = i + 1 - count;
            return MPE_OK;
        }
    }
    *first = top - row;
    return raise_top(e, *first + count);
}

/* ---- runs ---- */

static int
alloc_run(mpe_engine *e, uint64_t size, int zeroed, uint64_t *off)
{
    uint64_t count = mpe__round_up(size, MPE__CHUNK_BYTES) / MPE__CHUNK_BYTES, first;
    if (count > e->header->chunks_max)
        return MPE_EARENA;
    mpe__ilock(e, &e->header->arena_lock, 0);
    int rc = find_chunks(e, count, &first);
    uint64_t dirty = 0;
    if (rc == MPE_OK) {
        for (uint64_t i = first; i < first + count; i++)
            dirty += mpe__load32(&chunk_at(e, i)->state) == BACKED;
        rc = back_chunks(e, first, count);
    }
    if (rc == MPE_OK) {
        mpe__journal_note(e, chunk_offset(e, first));
        struct mpe__chunk *head = chunk_at(e, first);
        for (uint64_t i = first + 1; i < first + count; i++)
            mpe__store32(&chunk_at(e, i)->state, BODY);
        mpe__store32(&head->owner, e->slot + 1);
        mpe__store32(&head->chunks, (uint32_t)count);
        mpe__store32(&head->state, RUN);
        count_bytes(e, (int64_t)(count * MPE__CHUNK_BYTES));
    }
    mpe__iunlock(e, &e->header->arena_lock);
    if (rc != MPE_OK)
        return rc;
    *off = chunk_offset(e, first);
    if (zeroed && dirty)
        memset(mpe__at(e, *off), 0, count * MPE__CHUNK_BYTES);
    return MPE_OK;
}

static void
free_run(mpe_engine *e, uint64_t off)
{
    mpe__ilock(e, &e->header->arena_lock, 0);
    uint64_t first = chunk_index(e, off);
    struct mpe__chunk *head = chunk_at(e, first);
    uint32_t count = mpe__load32(&head->chunks), state = BACKED;
    mpe__store32(&head->owner, 0);
    if (count >= GIVE_BACK_CHUNKS &&
        mpe__memfd_release(e->base, off, (uint64_t)count * MPE__CHUNK_BYTES) == 0) {
        state = FRESH;
        mpe__store64(&e->header->committed_bytes,
                     mpe__load64(&e->header->committed_bytes) - (uint64_t)count * MPE__CHUNK_BYTES);
    }
    mpe__store32(&head->state, state);
    for (uint64_t i = first + 1; i < first + count; i++)
        mpe__store32(&chunk_at(e, i)->state, state);
    mpe__iunlock(e, &e->header->arena_lock);
    count_bytes(e, -(int64_t)count * MPE__CHUNK_BYTES);
}

/* ---- small blocks ---- */

enum { CHUNK_CHANGED = -1 };

/* Tries to take block i of a chunk that is, or was, one of the class. */
static int
take_at(mpe_engine *e, uint64_t chunk, uint32_t class, uint32_t i, uint64_t *off)
{
    mpe__a32 *word = &words_of(e, chunk)[i];
    uint64_t block = chunk_offset(e, chunk) + (uint64_t)i * class_size[class];
    uint32_t none = 0;
    mpe__journal_note(e, block);
    if (!atomic_compare_exchange_strong(word, &none, e->slot + 1)) {
        mpe__journal_forget(e, block);
        return 0;
    }
    /* a used block pins the state of its chunk: now it can be trusted */
    if (mpe__load32(&chunk_at(e, chunk)->state) == (SMALL | class)) {
        *off = block;
        return 1;
    }
    mpe__store32(word, 0);
    mpe__journal_forget(e, block);
    return CHUNK_CHANGED;
}

/* Takes one of the blocks that this process freed lately: they are warm, and need no search. */
static int
take_recent(mpe_engine *e, uint32_t class, uint64_t *off)
{
    while (e->recent_count[class] > 0) {
        uint64_t hint = e->recent[class][--e->recent_count[class]];
        if (mpe__load32(&chunk_at(e, hint >> 16)->state) == (SMALL | class) &&
            take_at(e, hint >> 16, class, (uint32_t)(hint & 0xffff), off) == 1)
            return 1;
    }
    return 0;
}

/* Takes one free block of the chunk, starting the search at block from. */
static int
take_from_chunk(mpe_engine *e, uint64_t chunk, uint32_t class, uint32_t from, uint64_t *off)
{
    mpe__a32 *words = words_of(e, chunk);
    uint32_t count = blocks_in(class);
    for (uint32_t k = 0; k < count; k++) {
        uint32_t i = from + k < count ? from + k : from + k - count;
        if (atomic_load_explicit(&words[i], memory_order_relaxed) != 0)
            continue;
        int taken = take_at(e, chunk, class, i, off);
        if (taken == CHUNK_CHANGED)
            return 0;
        if (taken) {
            e->class_hint[class] = chunk << 16 | (i + 1 < count ? i + 1 : 0);
            return 1;
        }
    }
    return 0;
}

/* A full chunk stops being looked at until somebody frees in it. */
static int
take_or_mark_full(mpe_engine *e, uint64_t chunk, uint32_t class, uint32_t from, uint64_t *off)
{
    struct mpe__chunk *c = chunk_at(e, chunk);
    if (mpe__load32(&c->state) != (SMALL | class))
        return 0;
    if (take_from_chunk(e, chunk, class, from, off))
        return 1;
    mpe__store32(&c->has_free, 0);
    if (!take_from_chunk(e, chunk, class, 0, off)) /* a free may have come between */
        return 0;
    mpe__store32(&c->has_free, 1);
    return 1;
}

/* Makes a free chunk one of the class. Arena lock held. */
static int
open_chunk(mpe_engine *e, uint32_t class, uint64_t *chunk)
{
    int rc = find_chunks(e, 1, chunk);
    if (rc != MPE_OK)
        return rc;
    struct mpe__chunk *c = chunk_at(e, *chunk);
    if (mpe__load32(&c->state) == FRESH) {
        if (raise_top(e, *chunk + COMMIT_AHEAD) == MPE_OK)
            back_chunks(e, *chunk, COMMIT_AHEAD); /* as far as memory goes; one is enough */
        if (mpe__load32(&c->state) == FRESH && (rc = back_chunks(e, *chunk, 1)) != MPE_OK)
            return rc;
    }
    uint64_t words = mpe__offset(e, words_of(e, *chunk));
    uint64_t bytes = mpe__round_up(blocks_in(class) * sizeof(mpe__a32), 4096);
    if (mpe__memfd_commit(e->fd, words, bytes) != 0)
        return MPE_EARENA;
    mpe__store32(&c->has_free, 1);
    mpe__store32(&c->state, SMALL | class);
    return MPE_OK;
}

static int
find_chunk(mpe_engine *e, uint32_t class, uint64_t *off)
{
    uint32_t top = mpe__load32(&e->header->chunks_top);
    for (uint32_t i = 0; i < top; i++) {
        struct mpe__chunk *c = chunk_at(e, i);
        if (mpe__load32(&c->state) == (SMALL | class) && mpe__load32(&c->has_free) &&
            take_or_mark_full(e, i, class, 0, off))
            return MPE_OK;
    }
    uint64_t chunk;
    mpe__ilock(e, &e->header->arena_lock, 0);
    int rc = open_chunk(e, class, &chunk);
    mpe__iunlock(e, &e->header->arena_lock);
    if (rc != MPE_OK)
        return rc;
    /* others may have emptied the new chunk already: then look again */
    return take_or_mark_full(e, chunk, class, e->slot % blocks_in(class), off)
               ? MPE_OK
               : find_chunk(e, class, off);
}

static int
alloc_once(mpe_engine *e, uint64_t size, int zeroed, uint64_t *off)
{
    if (size > SMALL_MAX)
        return alloc_run(e, size, zeroed, off);
    uint32_t class = class_of(size);
    uint64_t hint = e->class_hint[class];
    int rc = MPE_OK;
    if (!take_recent(e, class, off) &&
        !take_or_mark_full(e, hint >> 16, class, (uint32_t)(hint & 0xffff), off))
        rc = find_chunk(e, class, off);
    if (rc != MPE_OK)
        return rc;
    count_bytes(e, class_size[class]);
    if (zeroed)
        memset(mpe__at(e, *off), 0, size);
    return MPE_OK;
}

/* When memory is short, chunks that no block of their class uses are made free for all first. */
static int
alloc(mpe_engine *e, uint64_t size, int zeroed, uint64_t *off)
{
    int rc = alloc_once(e, size, zeroed, off);
    if (rc != MPE_EARENA)
        return rc;
    mpe__trim(e);
    return alloc_once(e, size, zeroed, off);
}

int
mpe__alloc(mpe_engine *e, uint64_t size, uint64_t *off)
{
    return alloc(e, size, 0, off);
}

int
mpe__alloc_zeroed(mpe_engine *e, uint64_t size, uint64_t *off)
{
    return alloc(e, size, 1, off);
}

void
mpe__free(mpe_engine *e, uint64_t off)
{
    uint64_t bytes;
    mpe__a32 *word = owner_of(e, off, &bytes);
    if (!word)
        return;
    struct mpe__chunk *c = chunk_at(e, chunk_index(e, off));
    if (word == &c->owner) {
        free_run(e, off);
    } else {
        uint32_t class = mpe__load32(&c->state) & 0xff;
        mpe__store32(word, 0);
        if (!atomic_load_explicit(&c->has_free, memory_order_relaxed))
            mpe__store32(&c->has_free, 1);
        if (e->recent_count[class] < MPE__RECENT)
            e->recent[class][e->recent_count[class]++] = chunk_index(e, off) << 16 |
                                                         (off - e->header->heap_off) %
                                                             MPE__CHUNK_BYTES / bytes;
        count_bytes(e, -(int64_t)bytes);
    }
    mpe__journal_forget(e, off);
}

int
mpe__take(mpe_engine *e, uint64_t off, uint32_t from, uint32_t to)
{
    uint64_t bytes;
    mpe__a32 *word = owner_of(e, off, &bytes);
    return word && atomic_compare_exchange_strong(word, &from, to);
}

void
mpe__own(mpe_engine *e, uint64_t off, uint32_t owner)
{
    uint64_t bytes;
    mpe__a32 *word = owner_of(e, off, &bytes);
    if (word)
        atomic_store(word, owner);
}

void
mpe__free_strays(mpe_engine *e, uint64_t off, uint32_t owner)
{
    uint64_t chunk = off < e->header->heap_off ? UINT64_MAX : chunk_index(e, off);
    if (chunk >= mpe__load32(&e->header->chunks_top))
        return;
    mpe__a32 *words = words_of(e, chunk);
    for (uint32_t i = 0; i < MPE__CHUNK_WORDS; i++) {
        uint32_t seen = owner;
        if (atomic_load_explicit(&words[i], memory_order_relaxed) == owner)
            atomic_compare_exchange_strong(&words[i], &seen, 0);
    }
}

void
mpe__attach(mpe_engine *e, uint64_t off, uint32_t object)
{
    mpe__take(e, off, e->slot + 1, MPE__ATTACHED | object);
    mpe__journal_forget(e, off);
}

uint64_t
mpe__block_bytes(mpe_engine *e, uint64_t off)
{
    uint64_t bytes = 0;
    owner_of(e, off, &bytes);
    return bytes;
}

/* ---- walking and mending ---- */

void
mpe__each_block(mpe_engine *e, void (*visit)(uint64_t off, uint32_t owner, void *ud), void *ud)
{
    uint32_t top = mpe__load32(&e->header->chunks_top);
    for (uint32_t i = 0; i < top; i++) {
        struct mpe__chunk *c = chunk_at(e, i);
        uint32_t state = mpe__load32(&c->state);
        if (state == RUN && mpe__load32(&c->owner))
            visit(chunk_offset(e, i), mpe__load32(&c->owner), ud);
        if (!(state & SMALL))
            continue;
        mpe__a32 *words = words_of(e, i);
        for (uint32_t k = 0; k < blocks_in(state & 0xff); k++) {
            uint32_t owner = mpe__load32(&words[k]);
            if (owner && owner != TRIMMING)
                visit(chunk_offset(e, i) + (uint64_t)k * class_size[state & 0xff], owner, ud);
        }
    }
}

struct free_owned {
    mpe_engine *e;
    uint32_t owner;
};

static void
free_if_owned(uint64_t off, uint32_t owner, void *ud)
{
    struct free_owned *f = ud;
    if (owner == f->owner)
        mpe__free(f->e, off);
}

void
mpe__free_owned_by(mpe_engine *e, uint32_t owner)
{
    struct free_owned f = {e, owner};
    mpe__each_block(e, free_if_owned, &f);
}

/* Claims every block of a chunk; 0, with nothing changed, when one is in use. Who looked for a free
 * block meanwhile may have found the chunk full: it is not. */
static int
claim_whole(struct mpe__chunk *c, mpe__a32 *words, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++)
        if (atomic_load_explicit(&words[i], memory_order_relaxed) != 0)
            return 0;
    for (uint32_t i = 0; i < count; i++) {
        uint32_t none = 0;
        if (atomic_compare_exchange_strong(&words[i], &none, TRIMMING))
            continue;
        while (i-- > 0)
            mpe__store32(&words[i], 0);
        mpe__store32(&c->has_free, 1);
        return 0;
    }
    return 1;
}

static void
unclaim(mpe__a32 *words, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        uint32_t trimming = TRIMMING;
        atomic_compare_exchange_strong(&words[i], &trimming, 0);
    }
}

void
mpe__trim(mpe_engine *e)
{
    struct mpe__header *h = e->header;
    mpe__ilock(e, &h->arena_lock, 0);
    for (uint32_t i = 0; i < mpe__load32(&h->chunks_top); i++) {
        struct mpe__chunk *c = chunk_at(e, i);
        uint32_t state = mpe__load32(&c->state);
        if (!(state & SMALL))
            continue;
        mpe__store32(&h->trimming, i + 1);
        if (!claim_whole(c, words_of(e, i), blocks_in(state & 0xff)))
            continue;
        uint32_t next = BACKED;
        if (mpe__memfd_release(e->base, chunk_offset(e, i), MPE__CHUNK_BYTES) == 0) {
            next = FRESH;
            mpe__store64(&h->committed_bytes, mpe__load64(&h->committed_bytes) - MPE__CHUNK_BYTES);
        }
        mpe__store32(&c->state, next);
        unclaim(words_of(e, i), blocks_in(state & 0xff));
    }
    mpe__store32(&h->trimming, 0);
    mpe__iunlock(e, &h->arena_lock);
}

/* Of a run that was being made or freed. Its memory may be gone already, or full of old bytes. */
static void
free_chunk(mpe_engine *e, uint32_t i)
{
    int rc = mpe__memfd_release(e->base, chunk_offset(e, i), MPE__CHUNK_BYTES);
    mpe__store32(&chunk_at(e, i)->state, rc == 0 ? FRESH : BACKED);
}

void
mpe__arena_recover(mpe_engine *e)
{
    struct mpe__header *h = e->header;
    uint64_t backed = 0, covered = 0;
    for (uint32_t i = 0; i < mpe__load32(&h->chunks_top); i++) {
        struct mpe__chunk *c = chunk_at(e, i);
        uint32_t state = mpe__load32(&c->state);
        if (state == RUN && mpe__load32(&c->owner) != 0)
            covered = i + mpe__load32(&c->chunks);
        else if (state == RUN || (state == BODY && i >= covered))
            free_chunk(e, i);
        if (mpe__load32(&c->state) != FRESH)
            backed += MPE__CHUNK_BYTES;
    }
    uint32_t trimming = mpe__load32(&h->trimming);
    if (trimming) {
        struct mpe__chunk *c = chunk_at(e, trimming - 1);
        if (mpe__load32(&c->state) & SMALL) { /* its memory may have been given back */
            mpe__memfd_commit(e->fd, chunk_offset(e, trimming - 1), MPE__CHUNK_BYTES);
            mpe__store32(&c->has_free, 1);
        }
        unclaim(words_of(e, trimming - 1), MPE__CHUNK_WORDS);
    }
    mpe__store32(&h->trimming, 0);
    uint64_t tables = mpe__round_up(
        (uint64_t)mpe__load32(&h->chunks_top) * sizeof(struct mpe__chunk), MPE__CHUNK_BYTES);
    mpe__store64(&h->committed_bytes,
                 h->fixed_bytes + tables + backed +
                     (uint64_t)mpe__load32(&h->objects_committed) * sizeof(mpe_object));
}
