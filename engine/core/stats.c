/* Looking at an arena: totals, slots, objects. */
#include "core/arena.h"
#include "os/os.h"
#include "core/object.h"
#include "core/bell.h"
#include "core/death.h"
#include "core/slot.h"
#include "core/door.h"

#include <stdio.h>
#include <string.h>

/* Is it a live object, and none of the engine's own? */
static int
is_counted(mpe_engine *e, uint32_t index)
{
    uint64_t directory = mpe__load64(&e->header->directory);
    return mpe__load32(&e->objects[index].state) == MPE__OBJECT_LIVE &&
           index != MPE__DIRECTORY_DICT(directory) && index != MPE__DIRECTORY_EVENT(directory);
}

/* Of the directory, which is the engine's own. */
static uint64_t
directory_bytes(mpe_engine *e)
{
    uint64_t directory = mpe__load64(&e->header->directory);
    if (directory == 0)
        return 0;
    mpe_object *dict = &e->objects[MPE__DIRECTORY_DICT(directory)];
    uint64_t names, bytes = 0;
    mpe__kind_of(e, dict)->measure(e, dict, &names, &bytes);
    return bytes + mpe__block_bytes(e, mpe__load64(&dict->body));
}

void
mpe_stats_get(mpe_engine *e, mpe_stats *out)
{
    if (!out || !mpe__is_ours(e))
        return;
    struct mpe__header *h = e->header;
    uint32_t top = mpe__load32(&h->slots_top);
    *out = (mpe_stats){.arena_limit_bytes = h->limit_bytes,
                       .arena_committed_bytes = mpe__load64(&h->committed_bytes)};
    out->arena_used_bytes = mpe__used_bytes(e) - directory_bytes(e);
    for (uint32_t i = 0; i < top; i++)
        out->processes += (uint32_t)mpe__is_running(&e->slots[i]);
    top = mpe__load32(&h->objects_top);
    for (uint32_t i = 1; i < top; i++)
        out->objects += is_counted(e, i);
}

static uint32_t
sleeps_in(const struct mpe__slot *s)
{
    uint32_t sleep = mpe__load32(&s->sleep);
    return sleep == MPE__SPINNING ? MPE__AWAKE : sleep;
}

int
mpe_slot_next(mpe_engine *e, uint32_t *slot, mpe_slot_info *out)
{
    if (!slot || !out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = *slot; i < top; i++) {
        struct mpe__slot *s = &e->slots[i];
        if (!mpe__is_running(s))
            continue;
        *out = (mpe_slot_info){.slot = i,
                               .pid = (int)mpe__load32(&s->pid),
                               .parent_slot = (int)mpe__load32(&s->parent) - 1,
                               .sleeping = sleeps_in(s)};
        memcpy(out->name, s->name, sizeof out->name - 1);
        *slot = i + 1;
        return MPE_OK;
    }
    return MPE_ENOENT;
}

int
mpe_slot_get(mpe_engine *e, uint32_t slot, mpe_slot_info *out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    uint32_t at = slot;
    int rc = mpe_slot_next(e, &at, out);
    return rc == MPE_OK && at == slot + 1 ? MPE_OK : MPE_ENOENT;
}

uint32_t
mpe_self_slot(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return 0;
    return e->slot;
}

const char *
mpe_self_name(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return NULL;
    return e->self->name;
}

void
mpe_self_set_name(mpe_engine *e, const char *name)
{
    if (!name || !mpe__is_ours(e))
        return;
    snprintf(e->self->name, sizeof e->self->name, "%s", name);
    if (e->parent_pid)
        mpe__process_show_name(e->self->name);
}

void
mpe_object_info_get(mpe_engine *e, mpe_object *o, mpe_object_info *out)
{
    if (!out || !mpe__admits(e, o, MPE__ANY_KIND))
        return;
    *out = (mpe_object_info){.handle = mpe_handle_of(e, o), .kind = mpe_kind_of(o)};
    out->holders = mpe__set_count(&o->holders);
    struct mpe__slotset both;
    for (uint32_t i = 0; i < MPE__SLOT_WORDS; i++)
        atomic_init(&both.bits[i], mpe__load64(&o->waiters[0].bits[i]) |
                                       mpe__load64(&o->waiters[1].bits[i]) |
                                       mpe__load64(&o->waiters[2].bits[i]));
    out->waiters = mpe__set_count(&both);
    const struct mpe__kind *kind = mpe__kind_of(e, o);
    if (kind->measure)
        kind->measure(e, o, &out->depth, &out->bytes);
    out->bytes += sizeof *o;
    uint64_t body = mpe__load64(&o->body);
    if (body)
        out->bytes += mpe__block_bytes(e, body);
}

int
mpe_object_next(mpe_engine *e, uint32_t *index, mpe_object_info *out)
{
    if (!index || !out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    uint32_t top = mpe__load32(&e->header->objects_top);
    for (uint32_t i = *index + 1; i < top; i++) {
        mpe_object *o;
        if (!is_counted(e, i) || mpe_hold(e, mpe_handle_of(e, &e->objects[i]), &o) != MPE_OK)
            continue;
        mpe_object_info_get(e, o, out);
        out->holders -= e->holds[i] == 1; /* this call's own hold */
        mpe_drop(e, o);
        *index = i;
        return MPE_OK;
    }
    return MPE_ENOENT;
}

int
mpe_reap_dead(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return 0;
    return mpe__reap_all(e) + mpe__slots_free_unborn(e);
}
