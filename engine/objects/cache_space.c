/* SPDX-License-Identifier: MIT */
/* Caches: the memory of a shard, in cells of 64 bytes. What an item needs is taken in runs of
 * cells: one where there is a free run that is long enough, otherwise several that are linked. So
 * whatever is free is of use for any size, and no cell belongs to a size. A run that is given back
 * is joined with its free neighbours.
 *
 * A bit per cell says whether it is free. A free run has its links and length in its first cell,
 * and where it begins in its last. All of it, bits and lists, is derived from the index, and made
 * anew by recovery: so its stores are plain ones, under the lock of the shard.
 */
#include "objects/cache_int.h"

#define NO_MAP_BITS 64u

/* A free run, in its first cell. */
struct free_run {
    mpe__cell previous, next;
    uint32_t cells;
};

static struct free_run *
run_at(struct mpe__cache_view *v, mpe__cell cell)
{
    return mpe__cell_at(v, cell);
}

/* The word in the last cell of a free run that says where it begins. */
static mpe__cell *
begin_of(struct mpe__cache_view *v, mpe__cell last)
{
    return (mpe__cell *)((uint8_t *)mpe__cell_at(v, last) + MPE__CELL_BYTES - sizeof(mpe__cell));
}

static int
is_free(const struct mpe__cache_view *v, mpe__cell cell)
{
    return (int)(v->map[cell / NO_MAP_BITS] >> cell % NO_MAP_BITS & 1);
}

static uint32_t
log2_of(uint32_t cells)
{
    return 31u - (uint32_t)__builtin_clz(cells);
}

/* The bits from one cell on, up to n of them, that are in its word of the map. */
static uint64_t
mask_at(mpe__cell cell, uint32_t *n)
{
    uint32_t at = cell % NO_MAP_BITS, room = NO_MAP_BITS - at;
    if (*n > room)
        *n = room;
    return (*n == NO_MAP_BITS ? UINT64_MAX : (1ull << *n) - 1) << at;
}

static void
set_free(struct mpe__cache_view *v, mpe__cell first, uint32_t cells, int free)
{
    while (cells > 0) {
        uint32_t n = cells;
        uint64_t mask = mask_at(first, &n);
        if (free)
            v->map[first / NO_MAP_BITS] |= mask;
        else
            v->map[first / NO_MAP_BITS] &= ~mask;
        first += n;
        cells -= n;
    }
}

/* ---- lists of free runs ---- */

static void
list(struct mpe__cache_view *v, mpe__cell first, uint32_t cells)
{
    mpe__cell *head = &v->shard->runs[log2_of(cells)];
    *run_at(v, first) = (struct free_run){0, *head, cells};
    if (*head)
        run_at(v, *head)->previous = first;
    *head = first;
    *begin_of(v, first + cells - 1) = first;
}

static void
unlist(struct mpe__cache_view *v, mpe__cell first)
{
    struct free_run *r = run_at(v, first);
    if (r->next)
        run_at(v, r->next)->previous = r->previous;
    if (r->previous)
        run_at(v, r->previous)->next = r->next;
    else
        v->shard->runs[log2_of(r->cells)] = r->next;
}

/* Takes cells from the front of a free run. */
static void
take_from(struct mpe__cache_view *v, mpe__cell first, uint32_t cells)
{
    uint32_t all = run_at(v, first)->cells;
    unlist(v, first);
    if (all > cells)
        list(v, first + cells, all - cells);
    set_free(v, first, cells, 0);
    v->shard->free_cells -= cells;
}

static void
give(struct mpe__cache_view *v, mpe__cell first, uint32_t cells)
{
    set_free(v, first, cells, 1);
    v->shard->free_cells += cells;
    if (is_free(v, first - 1)) {
        mpe__cell before = *begin_of(v, first - 1);
        cells += first - before;
        first = before;
        unlist(v, first);
    }
    mpe__cell behind = first + cells;
    if (behind < v->cache->cells && is_free(v, behind)) {
        cells += run_at(v, behind)->cells;
        unlist(v, behind);
    }
    list(v, first, cells);
}

/* A free run for so many cells: one of a list whose runs are all long enough, or the first of the
 * list before, or the longest there is. 0: none. */
static mpe__cell
find_run(struct mpe__cache_view *v, uint32_t cells)
{
    struct mpe__cache_shard *s = v->shard;
    uint32_t log2 = log2_of(cells);
    if (s->runs[log2] && run_at(v, s->runs[log2])->cells >= cells)
        return s->runs[log2];
    for (uint32_t i = log2 + 1; i < MPE__CACHE_SIZES; i++)
        if (s->runs[i])
            return s->runs[i];
    for (uint32_t i = log2 + 1; i-- > 0;)
        if (s->runs[i])
            return s->runs[i];
    return 0;
}

/* ---- taking and giving ---- */

/* Takes a run for so many bytes behind a head; *held: how many it has. 0: none. */
static mpe__cell
take_run(struct mpe__cache_view *v, uint64_t head, uint64_t bytes, uint64_t *held)
{
    uint32_t cells = mpe__cells_for(head + bytes);
    mpe__cell first = find_run(v, cells);
    if (!first)
        return 0;
    if (run_at(v, first)->cells < cells)
        cells = run_at(v, first)->cells;
    take_from(v, first, cells);
    struct mpe__cache_run *r = mpe__cell_at(v, first);
    r->next = 0;
    r->cells = cells;
    *held = (uint64_t)cells * MPE__CELL_BYTES - head;
    return first;
}

mpe__cell
mpe__cache_space_take(struct mpe__cache_view *v, uint64_t bytes)
{
    uint64_t held;
    if (mpe__cells_for(MPE__CACHE_ITEM_HEAD + bytes) > v->shard->free_cells)
        return 0;
    mpe__cell first = take_run(v, MPE__CACHE_ITEM_HEAD, bytes, &held), run = first;
    while (run && held < bytes) {
        bytes -= held;
        struct mpe__cache_run *previous = mpe__cell_at(v, run);
        run = take_run(v, sizeof(struct mpe__cache_run), bytes, &held);
        previous->next = run;
    }
    if (first && !run)
        mpe__cache_space_give(v, first);
    return run ? first : 0;
}

mpe__cell
mpe__cache_space_take_one(struct mpe__cache_view *v)
{
    mpe__cell cell = find_run(v, 1);
    if (cell)
        take_from(v, cell, 1);
    return cell;
}

void
mpe__cache_space_give(struct mpe__cache_view *v, mpe__cell first)
{
    while (first) {
        const struct mpe__cache_run *r = mpe__cell_at(v, first);
        mpe__cell next = r->next;
        give(v, first, r->cells);
        first = next;
    }
}

void
mpe__cache_space_give_one(struct mpe__cache_view *v, mpe__cell cell)
{
    give(v, cell, 1);
}

/* ---- rebuilding ---- */

void
mpe__cache_space_begin(struct mpe__cache_view *v)
{
    uint32_t words = (v->cache->cells + NO_MAP_BITS - 1) / NO_MAP_BITS;
    memset(v->map, 0, words * sizeof *v->map);
    set_free(v, 1, v->cache->cells - 1, 1);
    memset(v->shard->runs, 0, sizeof v->shard->runs);
    v->shard->free_cells = v->cache->cells - 1;
}

void
mpe__cache_space_mark(struct mpe__cache_view *v, mpe__cell first, uint32_t cells)
{
    set_free(v, first, cells, 0);
    v->shard->free_cells -= cells;
}

void
mpe__cache_space_finish(struct mpe__cache_view *v)
{
    mpe__cell first = 0;
    for (mpe__cell cell = 1; cell <= v->cache->cells; cell++) {
        int free = cell < v->cache->cells && is_free(v, cell);
        if (free && !first)
            first = cell;
        if (!free && first) {
            list(v, first, cell - first);
            first = 0;
        }
    }
}

void
mpe__cache_space_reset(struct mpe__cache_view *v)
{
    mpe__cache_space_begin(v);
    list(v, 1, v->cache->cells - 1);
}
