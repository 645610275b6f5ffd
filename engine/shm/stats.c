/* Looking at an arena: totals, slots, and the consistency check for tests. */
#include "shm/arena.h"
#include "shm/object.h"
#include "sync/bell.h"
#include "sync/death.h"
#include "sync/slot.h"

#include <stdio.h>
#include <string.h>

void
mpe_stats_get(mpe_engine *e, mpe_stats *out)
{
    struct mpe__header *h = e->header;
    uint32_t top = mpe__load32(&h->slots_top);
    *out = (mpe_stats){.arena_limit_bytes = h->limit_bytes,
                       .arena_committed_bytes = mpe__load64(&h->committed_bytes)};
    int64_t used = (int64_t)mpe__load64(&h->retired_bytes);
    for (uint32_t i = 0; i < top; i++) {
        used += (int64_t)mpe__load64(&e->slots[i].used_bytes);
        out->processes += (uint32_t)mpe__is_live(&e->slots[i]);
    }
    out->arena_used_bytes = used > 0 ? (uint64_t)used : 0;
    top = mpe__load32(&h->objects_top);
    for (uint32_t i = 1; i < top; i++)
        out->objects += mpe__load32(&e->objects[i].state) == MPE__OBJECT_LIVE;
}

int
mpe_slot_next(mpe_engine *e, uint32_t *slot, mpe_slot_info *out)
{
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = *slot; i < top; i++) {
        struct mpe__slot *s = &e->slots[i];
        if (!mpe__is_live(s))
            continue;
        *out = (mpe_slot_info){.slot = i,
                               .pid = (int)mpe__load32(&s->pid),
                               .parent_slot = (int)mpe__load32(&s->parent) - 1,
                               .sleeping = mpe__load32(&s->sleep)};
        memcpy(out->name, s->name, sizeof out->name - 1);
        *slot = i + 1;
        return MPE_OK;
    }
    return MPE_ENOENT;
}

int
mpe_slot_get(mpe_engine *e, uint32_t slot, mpe_slot_info *out)
{
    uint32_t at = slot;
    int rc = mpe_slot_next(e, &at, out);
    return rc == MPE_OK && at == slot + 1 ? MPE_OK : MPE_ENOENT;
}

uint32_t
mpe_self_slot(mpe_engine *e)
{
    return e->slot;
}

const char *
mpe_self_name(mpe_engine *e)
{
    return e->self->name;
}

void
mpe_self_set_name(mpe_engine *e, const char *name)
{
    snprintf(e->self->name, sizeof e->self->name, "%s", name);
}

int
mpe_reap_dead(mpe_engine *e)
{
    return mpe__reap_all(e);
}

/* ---- the check ---- */

struct check {
    mpe_engine *e;
    void (*report)(const char *what, void *ud);
    void *ud;
    int violations;
};

static void
violation(struct check *c, const char *what, uint64_t where)
{
    char text[128];
    c->violations++;
    snprintf(text, sizeof text, "%s at %llx", what, (unsigned long long)where);
    if (c->report)
        c->report(text, c->ud);
}

static void
check_block(uint64_t off, uint32_t owner, void *ud)
{
    struct check *c = ud;
    uint32_t object = owner & ~MPE__ATTACHED;
    if (!(owner & MPE__ATTACHED)) {
        if (owner > MPE__SLOTS || !mpe__is_live(&c->e->slots[owner - 1]))
            violation(c, "block in flight of no live slot", off);
    } else if (object >= mpe__load32(&c->e->header->objects_top) ||
               mpe__load32(&c->e->objects[object].state) != MPE__OBJECT_LIVE) {
        violation(c, "block of no live object", off);
    }
}

static void
check_object(struct check *c, mpe_object *o)
{
    mpe_engine *e = c->e;
    uint32_t state = mpe__load32(&o->state);
    if (state != MPE__OBJECT_FREE && state != MPE__OBJECT_LIVE)
        violation(c, "object left half made", mpe__index_of(e, o));
    if (state != MPE__OBJECT_LIVE)
        return;
    if (mpe__load32(&o->ilock))
        violation(c, "intent lock still held", mpe__index_of(e, o));
    uint64_t depth, bytes;
    const struct mpe__kind_ops *ops = e->kinds[mpe_kind_of(o)];
    if (ops->measure)
        ops->measure(e, o, &depth, &bytes);
}

int
mpe_check_arena(mpe_engine *e, void (*report)(const char *what, void *ud), void *ud)
{
    struct check c = {e, report, ud, 0};
    for (uint32_t i = 1; i < mpe__load32(&e->header->objects_top); i++)
        check_object(&c, &e->objects[i]);
    mpe__each_block(e, check_block, &c);
    if (mpe__load32(&e->header->arena_lock))
        violation(&c, "arena lock still held", 0);
    return c.violations;
}
