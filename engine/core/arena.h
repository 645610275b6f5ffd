/* The allocator of an arena: blocks by offset, safe against death at any instant. See arena.c. */
#ifndef MPE_CORE_ARENA_H
#define MPE_CORE_ARENA_H

#include "core/engine.h"

#define MPE__CHUNK_BYTES 65536u
#define MPE__CHUNK_WORDS 2048u /* owner words per chunk: one per block of the smallest class */

/* Allocates a block of at least size bytes, aligned to 16 (to 64 from 4 KiB on). It is in flight:
 * journaled, owned by this slot, freed by the reaper if this process dies, until an operation
 * record or mpe__attach makes it an object's. Contents are undefined.
 * Errors: EARENA. */
int mpe__alloc(mpe_engine *e, uint64_t size, uint64_t *off);
/* The same, filled with zeros. */
int mpe__alloc_zeroed(mpe_engine *e, uint64_t size, uint64_t *off);
/* A block in flight becomes the object's. */
void mpe__attach(mpe_engine *e, uint64_t off, uint32_t object);
/* Frees a block of this slot or of an object that no other process can reach. */
void mpe__free(mpe_engine *e, uint64_t off);
/* Do blocks for both sizes have one class? Then what fits into one fits into the other. */
int mpe__same_class(uint64_t size, uint64_t other);
/* Usable bytes of a block. */
uint64_t mpe__block_bytes(mpe_engine *e, uint64_t off);
/* Moves a block from one owner word to another; 0 when it is not owned by from. Own: the
 * previous owner's. */
int mpe__take(mpe_engine *e, uint64_t off, uint32_t from, uint32_t to);
void mpe__own(mpe_engine *e, uint64_t off, uint32_t owner);
/* A dead slot had noted off, and may have claimed its word when the use of the chunk had already
 * changed: frees such claims in that chunk. */
void mpe__free_strays(mpe_engine *e, uint64_t off, uint32_t owner);
/* Notes and drops a block in the slot's journal. When the journal is full, it records that there
 * are more blocks. */
void mpe__journal_note(mpe_engine *e, uint64_t off);
void mpe__journal_forget(mpe_engine *e, uint64_t off);

/* Frees every block with this owner word: of an unreachable object, or of a dead slot. */
void mpe__free_owned_by(mpe_engine *e, uint32_t owner);
/* Returns chunks without a used block to the system. */
void mpe__trim(mpe_engine *e);
/* Calls visit for every block in use with its owner word. For checks and sweeps. */
void mpe__each_block(mpe_engine *e, void (*visit)(uint64_t off, uint32_t owner, void *ud),
                     void *ud);
/* Bytes in blocks, of all owners; reads every block of the arena. */
uint64_t mpe__used_bytes(mpe_engine *e);
/* As the dead owner of the arena lock: makes the chunk table consistent. */
void mpe__arena_recover(mpe_engine *e);
/* Reports what is wrong with the chunk table, while no process works on it. For checks. */
void mpe__arena_check(mpe_engine *e, void (*violation)(void *ud, const char *what, uint64_t where),
                      void *ud);
/* Backs [off, off + bytes) of a table with memory. Arena lock held. Errors: EARENA. */
int mpe__commit(mpe_engine *e, uint64_t off, uint64_t bytes);

#endif
