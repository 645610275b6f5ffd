/* The allocator. The heap is cut into 64 KiB chunks. A chunk is free, holds blocks of one size
 * class, or is part of a run of chunks that is one large block; the chunk table (chunk.c) says which.
 * Strides are fixed, so the heap can always be parsed.
 *
 * Each block has one owner word, outside the chunk, so it stays an owner word whatever the chunk
 * is used for: 0 free, slot + 1 in flight, MPE__ATTACHED | object in use. Taking a small block
 * is a note in the slot's journal and one compare-and-swap. Freeing it is one store, by any
 * process. There is no second word that could disagree, and no count: used blocks are counted
 * when the number is asked for.
 *
 * Death: between note and swap, the block is not ours and the note is ignored. After the swap
 * the reaper finds note and owner word in agreement and frees the block; if the chunk's use had
 * changed under the taker, it frees what the taker claimed in it. has_free and class hints are
 * only hints.
 *
 * Order: a process that takes a block has swapped the word that its last owner stored, so it sees what
 * that one did with it, and the state that the chunk has had since. A block that is freed while a search marks the
 * chunk full may be passed over until the next one is freed there, or a trim.
 */
#include "core/arena.h"

#include "core/chunk.h"
#include "core/death.h"

#include <string.h>

const uint16_t mpe__class_size[MPE__CLASSES] = {32,   48,   64,   80,   96,   128,  160,   192,
                                                256,  320,  384,  512,  768,  1024, 1536,  2048,
                                                3072, 4096, 5120, 6528, 8192, 9344, 10880, 16384};

static uint32_t
class_of(uint64_t size)
{
    uint32_t c = size > 1024 ? 14 : size > 192 ? 8 : 0;
    while (mpe__class_size[c] < size)
        c++;
    return c;
}

int
mpe__same_class(uint64_t size, uint64_t other)
{
    return size <= MPE__SMALL_MAX && other <= MPE__SMALL_MAX && class_of(size) == class_of(other);
}

/* The owner word of a block, NULL when off names none. */
static mpe__a32 *
owner_of(const mpe_engine *e, uint64_t off, uint64_t *bytes)
{
    if (off < e->header->heap_off)
        return NULL;
    uint64_t i = mpe__chunk_index(e, off), within = (off - e->header->heap_off) % MPE__CHUNK_BYTES;
    if (i >= mpe__load32(&e->header->chunks_top))
        return NULL;
    struct mpe__chunk *c = mpe__chunk_at(e, i);
    uint32_t state = mpe__load32(&c->state);
    if (state == MPE__RUN) {
        *bytes = (uint64_t)mpe__load32(&c->chunks) * MPE__CHUNK_BYTES;
        return within == 0 ? &c->owner : NULL;
    }
    if (!(state & MPE__SMALL) || (state & 0xff) >= MPE__CLASSES)
        return NULL;
    *bytes = mpe__class_size[state & 0xff];
    return &mpe__words_of(e, i)[within / mpe__class_size[state & 0xff]];
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

/* ---- small blocks ---- */

enum { CHUNK_CHANGED = -1 };

/* Tries to take block i of a chunk that is, or was, one of the class. */
static int
take_at(mpe_engine *e, uint64_t chunk, uint32_t class, uint32_t i, uint64_t *off)
{
    mpe__a32 *word = &mpe__words_of(e, chunk)[i];
    uint64_t block = mpe__chunk_offset(e, chunk) + (uint64_t)i * mpe__class_size[class];
    uint32_t none = 0;
    mpe__journal_note(e, block);
    if (!atomic_compare_exchange_strong(word, &none, e->slot + 1)) {
        mpe__journal_forget(e, block);
        return 0;
    }
    /* a used block pins the state of its chunk: now it can be trusted */
    if (mpe__load32(&mpe__chunk_at(e, chunk)->state) == (MPE__SMALL | class)) {
        *off = block;
        return 1;
    }
    mpe__store32(word, 0);
    mpe__journal_forget(e, block);
    return CHUNK_CHANGED;
}

/* Takes one of the blocks that this process freed recently: they are in the cache, and need no
 * search. */
static int
take_recent(mpe_engine *e, uint32_t class, uint64_t *off)
{
    while (e->recent_count[class] > 0) {
        uint64_t hint = e->recent[class][--e->recent_count[class]];
        if (mpe__load32(&mpe__chunk_at(e, hint >> 16)->state) == (MPE__SMALL | class) &&
            take_at(e, hint >> 16, class, (uint32_t)(hint & 0xffff), off) == 1)
            return 1;
    }
    return 0;
}

/* Takes one free block of the chunk, starting the search at block from. */
static int
take_from_chunk(mpe_engine *e, uint64_t chunk, uint32_t class, uint32_t from, uint64_t *off)
{
    mpe__a32 *words = mpe__words_of(e, chunk);
    uint32_t count = mpe__blocks_in(class);
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

/* A full chunk is skipped until a process frees a block in it. */
static int
take_or_mark_full(mpe_engine *e, uint64_t chunk, uint32_t class, uint32_t from, uint64_t *off)
{
    struct mpe__chunk *c = mpe__chunk_at(e, chunk);
    if (mpe__load32(&c->state) != (MPE__SMALL | class))
        return 0;
    if (take_from_chunk(e, chunk, class, from, off))
        return 1;
    atomic_store(&c->has_free, 0);
    if (!take_from_chunk(e, chunk, class, 0, off)) /* a block may have been freed in the meantime */
        return 0;
    atomic_store(&c->has_free, 1);
    return 1;
}

static int
find_chunk(mpe_engine *e, uint32_t class, uint64_t *off)
{
    uint32_t top = mpe__load32(&e->header->chunks_top);
    for (uint32_t i = 0; i < top; i++) {
        struct mpe__chunk *c = mpe__chunk_at(e, i);
        if (mpe__load32(&c->state) == (MPE__SMALL | class) && atomic_load(&c->has_free) &&
            take_or_mark_full(e, i, class, 0, off))
            return MPE_OK;
    }
    uint64_t chunk;
    int rc = mpe__chunk_open(e, class, &chunk);
    if (rc != MPE_OK)
        return rc;
    /* others may have emptied the new chunk already: then search again */
    return take_or_mark_full(e, chunk, class, e->slot % mpe__blocks_in(class), off)
               ? MPE_OK
               : find_chunk(e, class, off);
}

static int
alloc_once(mpe_engine *e, uint64_t size, int zeroed, uint64_t *off)
{
    if (size > MPE__SMALL_MAX)
        return mpe__run_alloc(e, size, zeroed, off);
    uint32_t class = class_of(size);
    uint64_t hint = e->class_hint[class];
    int rc = MPE_OK;
    if (!take_recent(e, class, off) &&
        !take_or_mark_full(e, hint >> 16, class, (uint32_t)(hint & 0xffff), off))
        rc = find_chunk(e, class, off);
    if (rc != MPE_OK)
        return rc;
    if (zeroed)
        memset(mpe__at(e, *off), 0, size);
    return MPE_OK;
}

/* When memory is short, chunks without a used block are first made free for all classes. */
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
    struct mpe__chunk *c = mpe__chunk_at(e, mpe__chunk_index(e, off));
    if (word == &c->owner) {
        mpe__run_free(e, off);
    } else {
        uint32_t class = mpe__load32(&c->state) & 0xff;
        mpe__store32(word, 0);
        if (!atomic_load_explicit(&c->has_free, memory_order_relaxed))
            atomic_store(&c->has_free, 1);
        if (e->recent_count[class] < MPE__RECENT)
            e->recent[class][e->recent_count[class]++] = mpe__chunk_index(e, off) << 16 |
                                                         (off - e->header->heap_off) %
                                                             MPE__CHUNK_BYTES / bytes;
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
    uint64_t chunk = off < e->header->heap_off ? UINT64_MAX : mpe__chunk_index(e, off);
    if (chunk >= mpe__load32(&e->header->chunks_top))
        return;
    mpe__a32 *words = mpe__words_of(e, chunk);
    for (uint32_t i = 0; i < mpe__words_backed(e, chunk); i++) {
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

/* ---- walking ---- */

void
mpe__each_block(mpe_engine *e, void (*visit)(uint64_t off, uint32_t owner, void *ud), void *ud)
{
    uint32_t top = mpe__load32(&e->header->chunks_top);
    for (uint32_t i = 0; i < top; i++) {
        struct mpe__chunk *c = mpe__chunk_at(e, i);
        uint32_t state = mpe__load32(&c->state);
        if (state == MPE__RUN && mpe__load32(&c->owner))
            visit(mpe__chunk_offset(e, i), mpe__load32(&c->owner), ud);
        if (!(state & MPE__SMALL))
            continue;
        mpe__a32 *words = mpe__words_of(e, i);
        for (uint32_t k = 0; k < mpe__blocks_in(state & 0xff); k++) {
            uint32_t owner = mpe__load32(&words[k]);
            if (owner && owner != MPE__TRIMMING)
                visit(mpe__chunk_offset(e, i) + (uint64_t)k * mpe__class_size[state & 0xff], owner,
                      ud);
        }
    }
}

uint64_t
mpe__used_bytes(mpe_engine *e)
{
    uint32_t top = mpe__load32(&e->header->chunks_top);
    uint64_t sum = 0;
    for (uint32_t i = 0; i < top; i++) {
        struct mpe__chunk *c = mpe__chunk_at(e, i);
        uint32_t state = mpe__load32(&c->state), count = 0;
        if (state == MPE__RUN && mpe__load32(&c->owner))
            sum += (uint64_t)mpe__load32(&c->chunks) * MPE__CHUNK_BYTES;
        if (!(state & MPE__SMALL))
            continue;
        mpe__a32 *words = mpe__words_of(e, i);
        for (uint32_t k = 0; k < mpe__blocks_in(state & 0xff); k++) {
            uint32_t owner = atomic_load_explicit(&words[k], memory_order_relaxed);
            count += owner && owner != MPE__TRIMMING;
        }
        sum += (uint64_t)count * mpe__class_size[state & 0xff];
    }
    return sum;
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
    for (uint32_t i = 0; !(owner & MPE__ATTACHED) && i < mpe__load32(&e->header->chunks_top); i++)
        mpe__free_strays(e, mpe__chunk_offset(e, i), owner);
}
