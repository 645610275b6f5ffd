/* SPDX-License-Identifier: MIT */
/* Arenas with a name, which programs of one user share. The name is that of the memory file, as a
 * hash; a program that comes finds the file with a process that has it open (os/gate.c), maps it and
 * takes a slot. It does so, or makes a new arena, inside a gate, so that two that come at once make
 * one arena.
 *
 * An arena counts as long as a slot is live or reserved. One without is left over: its last process
 * is about to exit, or the fork server has it still. It is never entered again, and the next program
 * makes a new one. A process that leaves while another comes was there before or after: the slot
 * of the one that comes is taken in the arena that was seen to be live.
 *
 * Death: inside the gate, it opens; before the slot is taken nothing is changed; afterwards the
 * slot is reaped, or the arena is gone with its only process.
 */
#include "base/hash.h"
#include "core/arena.h"
#include "core/death.h"
#include "core/region.h"
#include "core/slot.h"
#include "os/os.h"
#include "proc/proc.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* "mpengine-" and 128 bits of the name. */
static void
file_name(const char *arena, char *out, size_t size)
{
    size_t n = strlen(arena);
    snprintf(out, size, "mpengine-%016llx%016llx", (unsigned long long)mpe__hash(arena, n, 1),
             (unsigned long long)mpe__hash(arena, n, 2));
}

static int
is_inhabited(const mpe_engine *e)
{
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++)
        if (mpe__load32(&e->slots[i].state) != MPE__SLOT_FREE && !mpe__is_dead(&e->slots[i]))
            return 1;
    return 0;
}

struct joining {
    mpe_engine *e;
    int status;
};

/* 1: it is the one, or nothing more is to be looked for. */
static int
enter(void *ud, int fd)
{
    struct joining *j = ud;
    j->status = mpe__region_attach(j->e, fd);
    if (j->status != MPE_OK) {
        mpe__fd_close(fd);
        return 1;
    }
    if (is_inhabited(j->e))
        return 1;
    mpe__region_unmap(j->e);
    j->status = MPE_ENOENT;
    return 0;
}

static int
enter_or_make(mpe_engine *e, const mpe_config *c, uint64_t limit, const char *file)
{
    struct joining j = {e, MPE_ENOENT};
    if (mpe__memfd_find(file, enter, &j) < 0)
        return MPE_ESYS;
    if (j.status != MPE_ENOENT || c->flags & MPE_ARENA_EXISTING)
        return j.status;
    int rc = mpe__region_create(e, limit, file);
    if (rc == MPE_OK)
        mpe__output_create(e);
    return rc;
}

int
mpe__named_open(mpe_engine *e, const mpe_config *c, uint64_t limit)
{
    char file[48];
    file_name(c->arena, file, sizeof file);
    int gate = mpe__gate_enter(file);
    if (gate < 0)
        return errno == EPERM ? MPE_EPERM : MPE_ESYS;
    int rc = enter_or_make(e, c, limit, file);
    if (rc == MPE_OK)
        rc = mpe__slot_attach(e, c->name ? c->name : "MainProcess");
    mpe__fd_close(gate);
    if (rc == MPE_OK)
        mpe__reap_all(e);
    return rc;
}
