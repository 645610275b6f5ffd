/* Opening and closing an engine: region, slot, objects and loop put together. */
#include "loop/loop.h"
#include "os/os.h"
#include "proc/function.h"
#include "proc/proc.h"
#include "core/arena.h"
#include "core/door.h"
#include "core/object.h"
#include "core/region.h"
#include "core/slot.h"
#include "objects/limiter.h"

#include <stdlib.h>
#include <string.h>

#define PAGE 4096
#define DEFAULT_LIMIT (64ull << 30)

/* The configured limit, or that of the environment. Errors: EVARIABLE. */
static int
limit_of(const mpe_config *c, uint64_t *bytes)
{
    const char *text;
    *bytes = c->max_bytes;
    if (*bytes)
        return MPE_OK;
    int rc = mpe_variable_get(MPE_VARIABLE_SHM_LIMIT, bytes, &text);
    if (rc == MPE_ENOENT)
        *bytes = DEFAULT_LIMIT;
    return rc == MPE_ENOENT ? MPE_OK : rc;
}

/* All private state, on as few pages as possible: a forked child writes to each part of it, and
 * every page costs a copy. */
struct whole {
    mpe_engine engine;
    struct mpe__proc proc;
    struct mpe__loop loop;
};

mpe_engine *
mpe__engine_new(const struct mpe__memory *m)
{
    size_t bytes = mpe__round_up(sizeof(struct whole), PAGE), more = m->call ? PAGE : 0;
    char *block = m->call ? mpe__new(m, bytes + more) : aligned_alloc(PAGE, bytes);
    if (!block)
        return NULL;
    struct whole *w = (struct whole *)(block + (-(uintptr_t)block & (PAGE - 1)));
    memset(w, 0, sizeof *w);
    mpe__program_note();
    mpe_engine *e = &w->engine;
    e->memory = *m;
    e->block = block;
    e->block_bytes = bytes + more;
    e->proc = &w->proc;
    e->loop = &w->loop;
    mpe__adopt(e);
    mpe__proc_init(e->proc);
    e->fd = e->bell_fd = e->spare_fd = -1;
    e->cpus = mpe_cpu_count();
    e->kinds = mpe__kinds;
    return e;
}

static void
free_lists(mpe_engine *e)
{
    mpe__delete(&e->memory, e->holds, e->holds_capacity * sizeof *e->holds);
    mpe__delete(&e->memory, e->pins, e->pins_capacity * sizeof *e->pins);
    mpe__limiter_lines_free(e);
}

void
mpe__engine_free(mpe_engine *e)
{
    mpe__proc_close(e);
    mpe__region_unmap(e);
    free_lists(e);
    mpe__engine_release(e);
}

static int
open_own(mpe_engine *e, const mpe_config *c, uint64_t limit)
{
    int rc = mpe__region_create(e, limit, c->flags & MPE_READER ? "reader" : "mpengine");
    if (rc != MPE_OK)
        return rc;
    mpe__output_create(e);
    return mpe__slot_attach(e, c->name ? c->name : "MainProcess");
}

int
mpe_open(const mpe_config *config, mpe_engine **out)
{
    mpe_config c;
    uint64_t limit = 0;
    int rc = out ? mpe__config_read(config, &c) : MPE_EINVAL;
    if (rc == MPE_OK)
        rc = limit_of(&c, &limit);
    if (rc != MPE_OK)
        return rc;
    mpe_engine *e = mpe__engine_new(&(struct mpe__memory){c.alloc, c.alloc_ud});
    if (!e)
        return MPE_ENOMEM;
    mpe__config_keep(e, &c);
    mpe__loop_open(e, c.loop, c.flags);
    rc = c.arena && !(c.flags & MPE_READER) ? mpe__named_open(e, &c, limit)
                                            : open_own(e, &c, limit);
    if (rc != MPE_OK) {
        mpe__engine_free(e);
        return rc;
    }
    *out = e;
    return MPE_OK;
}

int
mpe_open_thread(mpe_engine *e, const char *name, mpe_engine **out)
{
    if (!e || !name || !out)
        return MPE_EINVAL;
    if (mpe__is_inherited(e))
        return MPE_EPERM;
    mpe_engine *own = mpe__engine_new(&e->memory);
    if (!own)
        return MPE_ENOMEM;
    mpe__config_share(own, e);
    mpe__loop_open(own, NULL, 0);
    mpe__region_share(own, e);
    int rc = mpe__slot_attach(own, name);
    if (rc != MPE_OK) {
        mpe__engine_free(own);
        return rc;
    }
    *out = own;
    return MPE_OK;
}

void
mpe_leave(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return;
    e->owes_wakes = e->loop->entries > 0;
    mpe__slot_detach(e);
}

/* In a child of fork(2): memory and descriptors of this process, nothing that is shared. */
static void
forget(mpe_engine *e)
{
    mpe__life_forked(e);
    int is_later = mpe__loop_forget(e);
    mpe__proc_close(e);
    mpe__region_unmap(e);
    free_lists(e);
    if (!is_later)
        mpe__engine_release(e);
}

static void
close_now(mpe_engine *e)
{
    e->owes_wakes = e->loop->entries > 0;
    mpe_end_server(e);
    mpe__loop_close(e);
    mpe__slot_detach(e);
    mpe__tickets_release_of(e);
    mpe__daemons_end(e);
    mpe__engine_free(e);
}

/* From within a call that the engine makes, its frames below still need it. */
void
mpe_close(mpe_engine *e)
{
    if (!mpe__is_ours(e)) {
        if (e && mpe__is_inherited(e)) {
            mpe__guest_close(e, NULL);
            forget(e);
        }
        return;
    }
    mpe__guest_close(e, e);
    mpe__pools_close(e);
    mpe__send_close(e);
    e->proc->log = NULL;
    if (e->loop->serving)
        e->loop->close_after = close_now;
    else
        close_now(e);
}
