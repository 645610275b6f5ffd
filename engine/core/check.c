/* The check of an arena in which no process works, for tests and for suspected damage. Nothing
 * is left half done, nothing is owned or held by an absent slot, every count is right. */
#include "core/arena.h"
#include "core/object.h"
#include "core/bell.h"
#include "core/death.h"
#include "core/slot.h"
#include "core/door.h"

#include <stdio.h>

struct check {
    mpe_engine *e;
    void (*report)(const char *what, void *ud);
    void *ud;
    int violations;
};

static void
violation(void *ud, const char *what, uint64_t where)
{
    struct check *c = ud;
    char text[128];
    c->violations++;
    snprintf(text, sizeof text, "%s at %llx", what, (unsigned long long)where);
    if (c->report)
        c->report(text, c->ud);
}

static int
is_free_slot(struct check *c, uint32_t slot)
{
    return mpe__load32(&c->e->slots[slot].state) == MPE__SLOT_FREE;
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

/* The slots of a set exist. */
static void
check_set(struct check *c, const struct mpe__slotset *set, const char *what, uint32_t index)
{
    for (uint32_t i = 0; i < MPE__SLOTS; i++)
        if (mpe__set_has(set, i) && is_free_slot(c, i))
            violation(c, what, (uint64_t)index << 8 | i);
}

static void
check_object(struct check *c, mpe_object *o)
{
    mpe_engine *e = c->e;
    uint32_t state = mpe__load32(&o->state), index = mpe__index_of(e, o);
    if (state != MPE__OBJECT_FREE && state != MPE__OBJECT_LIVE)
        violation(c, "object left half made", index);
    check_set(c, &o->holders, "object held by no slot in use", index);
    for (int event = 0; event < MPE_EVENTS; event++)
        check_set(c, &o->waiters[event], "object waited for by no slot in use", index);
    if (state != MPE__OBJECT_LIVE)
        return;
    if (mpe__load32(&o->ilock))
        violation(c, "intent lock still held", index);
    uint64_t depth, bytes;
    const struct mpe__kind *kind = mpe__kind_of(e, o);
    if (kind->measure)
        kind->measure(e, o, &depth, &bytes);
}

/* A free slot has nothing in progress. */
static void
check_slot(struct check *c, uint32_t slot)
{
    struct mpe__slot *s = &c->e->slots[slot];
    uint64_t under_way = mpe__load32(&s->making) | mpe__load32(&s->unlisted) |
                         mpe__load32(&s->op.active) | mpe__load32(&s->redo.count);
    for (uint32_t i = 0; i < MPE__INTENTS; i++)
        under_way |= mpe__load64(&s->intents[i]);
    for (uint32_t i = 0; i < MPE__INFLIGHT; i++)
        under_way |= mpe__load64(&s->inflight[i]);
    if (is_free_slot(c, slot) && under_way)
        violation(c, "free slot with something under way", slot);
    if (mpe__is_dead(s))
        violation(c, "dead slot", slot);
}

int
mpe_check_arena(mpe_engine *e, void (*report)(const char *what, void *ud), void *ud)
{
    if (!mpe__is_ours(e))
        return 0;
    struct check c = {e, report, ud, 0};
    struct mpe__header *h = e->header;
    mpe_object *output = &e->objects[0];
    const struct mpe__kind *kind = mpe__kind_of(e, output);
    for (uint32_t i = 1; i < mpe__load32(&h->objects_top); i++)
        check_object(&c, &e->objects[i]);
    for (uint32_t i = 0; i < mpe__load32(&h->slots_top); i++)
        check_slot(&c, i);
    mpe__each_block(e, check_block, &c);
    mpe__arena_check(e, violation, &c);
    if (mpe__load32(&h->arena_lock) || mpe__load32(&h->sweep_lock))
        violation(&c, "lock of the header still held", 0);
    if (kind->ready && !kind->ready(e, output, MPE_EVENT_READY))
        violation(&c, "lock of the output still held", mpe__load64(&output->word));
    return c.violations;
}
