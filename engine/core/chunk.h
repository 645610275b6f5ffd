/* The chunk table, shared by core/chunk.c and core/arena.c. See chunk.c. */
#ifndef MPE_CORE_CHUNK_H
#define MPE_CORE_CHUNK_H

#include "core/arena.h"

enum {
    MPE__FRESH = 0,    /* free, no memory behind it; reads as zeros once it has */
    MPE__BACKED = 1,   /* free, with memory, full of old bytes */
    MPE__RUN = 2,      /* head of a run */
    MPE__BODY = 3,     /* the rest of a run */
    MPE__SMALL = 0x100 /* | class: cut into blocks */
};
#define MPE__SMALL_MAX 16384u
#define MPE__PAGE 4096u
#define MPE__TRIMMING 0x7fffffffu /* owner word of a block of a chunk that is being trimmed */

struct mpe__chunk {
    mpe__a32 state;      /* arena lock */
    mpe__a32 owner;      /* RUN: owner word */
    mpe__a32 chunks;     /* RUN: length; arena lock */
    mpe__a16 has_free;   /* SMALL: worth a search */
    mpe__a16 word_pages; /* pages of owner words with memory; arena lock */
};
_Static_assert(sizeof(struct mpe__chunk) == 16, "chunk table stride");

extern const uint16_t mpe__class_size[MPE__CLASSES];

static inline uint32_t
mpe__blocks_in(uint32_t class)
{
    return MPE__CHUNK_BYTES / mpe__class_size[class];
}

static inline struct mpe__chunk *
mpe__chunk_at(const mpe_engine *e, uint64_t i)
{
    return (struct mpe__chunk *)mpe__at(e, e->header->chunks_off) + i;
}

static inline mpe__a32 *
mpe__words_of(const mpe_engine *e, uint64_t chunk)
{
    return (mpe__a32 *)mpe__at(e, e->header->owners_off) + chunk * MPE__CHUNK_WORDS;
}

static inline uint64_t
mpe__chunk_offset(const mpe_engine *e, uint64_t chunk)
{
    return e->header->heap_off + chunk * MPE__CHUNK_BYTES;
}

static inline uint64_t
mpe__chunk_index(const mpe_engine *e, uint64_t off)
{
    return (off - e->header->heap_off) / MPE__CHUNK_BYTES;
}

/* Owner words of a chunk that have memory; the others read as zeros. */
static inline uint32_t
mpe__words_backed(const mpe_engine *e, uint64_t chunk)
{
    return atomic_load(&mpe__chunk_at(e, chunk)->word_pages) *
           (MPE__PAGE / (uint32_t)sizeof(mpe__a32));
}

/* A run of chunks of at least size bytes, in flight. Errors: EARENA. */
int mpe__run_alloc(mpe_engine *e, uint64_t size, int zeroed, uint64_t *off);
void mpe__run_free(mpe_engine *e, uint64_t off);
/* Opens a free chunk for the class. Errors: EARENA. */
int mpe__chunk_open(mpe_engine *e, uint32_t class, uint64_t *chunk);

#endif
