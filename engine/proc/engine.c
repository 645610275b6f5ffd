/* Opening and closing an engine: region, slot, objects and loop put together. */
#include "loop/loop.h"
#include "os/os.h"
#include "proc/proc.h"
#include "shm/arena.h"
#include "shm/object.h"
#include "shm/region.h"
#include "sync/slot.h"

#include <stdlib.h>
#include <string.h>

#define PAGE 4096
#define DEFAULT_LIMIT (64ull << 30)

/* MPENGINE_SHM_LIMIT: bytes, with an optional K, M or G. */
static uint64_t
limit_from_environment(void)
{
    const char *text = getenv("MPENGINE_SHM_LIMIT");
    char *end;
    if (!text || !*text)
        return DEFAULT_LIMIT;
    uint64_t n = strtoull(text, &end, 10);
    const char units[] = "KMGT", *unit = strchr(units, *end & ~0x20);
    uint32_t shift = *end && unit ? 10 * (uint32_t)(unit - units + 1) : 0;
    return n && n < UINT64_MAX >> shift ? n << shift : DEFAULT_LIMIT;
}

/* All private state, on as few pages as it needs: a forked child writes to each part of it, and every
 * page costs a copy. */
struct whole {
    mpe_engine engine;
    struct mpe__proc proc;
    struct mpe__loop loop;
};

mpe_engine *
mpe__engine_new(void)
{
    struct whole *w = aligned_alloc(PAGE, (sizeof *w + PAGE - 1) / PAGE * PAGE);
    if (!w)
        return NULL;
    memset(w, 0, sizeof *w);
    mpe_engine *e = &w->engine;
    e->proc = &w->proc;
    e->loop = &w->loop;
    mpe__proc_init(e->proc);
    e->fd = e->bell_fd = e->spare_fd = -1;
    e->cpus = mpe_cpu_count();
    e->kinds = mpe__kinds;
    e->free_block = mpe__free;
    e->take_block = mpe__take;
    e->own_block = mpe__own;
    e->free_strays = mpe__free_strays;
    e->recover_arena = mpe__arena_recover;
    e->free_making = mpe__free_making;
    e->free_owned = mpe__free_owned_by;
    return e;
}

void
mpe__engine_free(mpe_engine *e)
{
    mpe__proc_close(e);
    mpe__region_unmap(e);
    free(e->holds);
    free(e->pins);
    free(e); /* the first of the whole */
}

int
mpe_open(const mpe_config *config, mpe_engine **out)
{
    static const mpe_config defaults = MPE_CONFIG_INIT;
    const mpe_config *c = config ? config : &defaults;
    if (c->size != sizeof *c)
        return MPE_EVERSION;
    mpe_engine *e = mpe__engine_new();
    if (!e)
        return MPE_ENOMEM;
    mpe__loop_open(e, c->loop);
    int rc = mpe__region_create(e, c->max_bytes ? c->max_bytes : limit_from_environment());
    if (rc == MPE_OK)
        rc = mpe__slot_attach(e, c->name ? c->name : "MainProcess");
    if (rc != MPE_OK) {
        mpe__engine_free(e);
        return rc;
    }
    *out = e;
    return MPE_OK;
}

void
mpe_leave(mpe_engine *e)
{
    e->owes_wakes = e->loop->entries > 0;
    mpe__slot_detach(e);
}

void
mpe_close(mpe_engine *e)
{
    e->owes_wakes = e->loop->entries > 0;
    mpe__loop_close(e);
    mpe__slot_detach(e);
    mpe__engine_free(e);
}
