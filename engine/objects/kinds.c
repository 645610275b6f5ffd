/* The kinds of shared objects: what recovery, waiting, freeing and looking call for each; and the
 * making of those whose state machine is in a file of its own. */
#include "objects/array.h"
#include "objects/dict.h"
#include "objects/list.h"
#include "core/object.h"
#include "objects/pipe.h"
#include "objects/queue.h"
#include "objects/barrier.h"
#include "objects/condition.h"
#include "objects/event.h"
#include "objects/lock.h"
#include "objects/semaphore.h"

#include <string.h>

static const struct mpe__kind_ops none = {.recover = mpe__sweep_recover};
static const struct mpe__kind_ops lock_ops = {.death = mpe__lock_death,
                                              .ready = mpe__lock_ready,
                                              .wake = {[MPE_EVENT_READY] = MPE__WAKE_ONE}};
static const struct mpe__kind_ops semaphore_ops = {.death = mpe__semaphore_death,
                                                   .ready = mpe__semaphore_ready,
                                                   .wake = {[MPE_EVENT_READY] = MPE__WAKE_ONE}};
static const struct mpe__kind_ops event_ops = {.ready = mpe__event_ready,
                                               .wake = {[MPE_EVENT_READY] = MPE__WAKE_ALL}};
/* A barrier may mention objects in its settings. */
static void
scan_barrier(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud)
{
    mpe_bytes settings = mpe_barrier_settings(e, o);
    mpe_wire_scan_handles(settings.data, settings.size, visit, ud);
}

static const struct mpe__kind_ops barrier_ops = {.death = mpe__barrier_death,
                                                 .ready = mpe__barrier_ready,
                                                 .scan = scan_barrier,
                                                 .wake = {[MPE_EVENT_READY] = MPE__WAKE_ALL}};
static const struct mpe__kind_ops array_ops = {.death = mpe__lock_death,
                                               .ready = mpe__lock_ready,
                                               .measure = mpe__array_measure,
                                               .wake = {[MPE_EVENT_READY] = MPE__WAKE_ONE}};
static const struct mpe__kind_ops queue_ops = {.recover = mpe__queue_recover,
                                               .death = mpe__queue_death,
                                               .ready = mpe__queue_ready,
                                               .destroy = mpe__queue_destroy,
                                               .scan = mpe__queue_scan,
                                               .measure = mpe__queue_measure,
                                               .wake = {[MPE_EVENT_READY] = MPE__WAKE_CALLED,
                                                        [MPE_EVENT_SPACE] = MPE__WAKE_ONE,
                                                        [MPE_EVENT_DONE] = MPE__WAKE_ALL}};
static const struct mpe__kind_ops dict_ops = {.recover = mpe__dict_recover,
                                              .destroy = mpe__dict_destroy,
                                              .scan = mpe__dict_scan,
                                              .measure = mpe__dict_measure};
static const struct mpe__kind_ops list_ops = {
    .destroy = mpe__list_destroy, .scan = mpe__list_scan, .measure = mpe__list_measure};

static const struct mpe__kind_ops pipe_ops = {.death = mpe__pipe_death,
                                              .scan = mpe__pipe_scan,
                                              .arrived = mpe__pipe_arrived,
                                              .swept = mpe__pipe_swept};
/* Names the second end of an object whose kind is PIPE. */
static const struct mpe__kind_ops pipe_other_ops = {.arrived = mpe__pipe_other_arrived, .part = 1};

/* A condition mentions the lock that goes with it. */
static void
scan_condition(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t h), void *ud)
{
    visit(ud, mpe_condition_lock(e, o));
}

static const struct mpe__kind_ops condition_ops = {
    .death = mpe__condition_death,
    .ready = mpe__condition_ready,
    .scan = scan_condition,
    .wake = {[MPE_EVENT_READY] = MPE__WAKE_ONE, [MPE_EVENT_NOTIFIED] = MPE__WAKE_ASSIGNED}};

const struct mpe__kind_ops *const mpe__kinds[MPE_KIND_COUNT] = {
    [MPE_KIND_NONE] = &none,
    [MPE_KIND_LOCK] = &lock_ops,
    [MPE_KIND_RLOCK] = &lock_ops,
    [MPE_KIND_SEMAPHORE] = &semaphore_ops,
    [MPE_KIND_EVENT] = &event_ops,
    [MPE_KIND_CONDITION] = &condition_ops,
    [MPE_KIND_BARRIER] = &barrier_ops,
    [MPE_KIND_QUEUE] = &queue_ops,
    [MPE_KIND_ARRAY] = &array_ops,
    [MPE_KIND_DICT] = &dict_ops,
    [MPE_KIND_LIST] = &list_ops,
    [MPE_KIND_PIPE] = &pipe_ops,
    [MPE_KIND_VALUE] = &array_ops,
    [MPE_KIND_RAW_ARRAY] = &array_ops,
    [MPE_KIND_RAW_VALUE] = &array_ops,
    [MPE_KIND_PIPE_OTHER] = &pipe_other_ops,
    [MPE_KIND_BLOB] = &none,
    [MPE_KIND_JOINABLE] = &queue_ops,
    [MPE_KIND_BOUNDED] = &semaphore_ops,
};

static int
create_plain(mpe_engine *e, int kind, mpe_object **out)
{
    mpe_object *o;
    int rc = mpe__object_begin(e, kind, &o);
    return rc == MPE_OK ? mpe__object_finish(e, o, out) : rc;
}

int
mpe_lock_create(mpe_engine *e, int recursive, mpe_object **out)
{
    return create_plain(e, recursive ? MPE_KIND_RLOCK : MPE_KIND_LOCK, out);
}

int
mpe_event_create(mpe_engine *e, mpe_object **out)
{
    return create_plain(e, MPE_KIND_EVENT, out);
}

int
mpe_semaphore_create(mpe_engine *e, uint32_t permits, int bounded, mpe_object **out)
{
    mpe_object *o;
    int kind = bounded ? MPE_KIND_BOUNDED : MPE_KIND_SEMAPHORE;
    int rc = mpe__object_begin_with_body(e, kind, sizeof(struct mpe__semaphore), &o);
    if (rc != MPE_OK)
        return rc;
    struct mpe__semaphore *s = mpe__body(e, o);
    mpe__store32(&s->initial, permits);
    mpe__store32(&s->bounded, bounded != 0);
    mpe__store64(&o->word, permits);
    return mpe__object_finish(e, o, out);
}

int
mpe_condition_create(mpe_engine *e, mpe_handle lock, mpe_object **out)
{
    mpe_object *o, *held = NULL;
    int rc = lock ? mpe_hold(e, lock, &held) : MPE_OK;
    if (rc == MPE_OK)
        rc = mpe__object_begin_with_body(e, MPE_KIND_CONDITION, sizeof(struct mpe__condition), &o);
    if (rc == MPE_OK) {
        mpe__store64(&((struct mpe__condition *)mpe__body(e, o))->lock, lock);
        if (held) { /* as if its handle were stored in the condition */
            atomic_fetch_or(&held->flags, MPE__OBJECT_STORED);
            atomic_fetch_or(&o->flags, MPE__OBJECT_CONTAINS);
        }
        rc = mpe__object_finish(e, o, out);
    }
    if (held)
        mpe_drop(e, held);
    return rc;
}

int
mpe_barrier_create(mpe_engine *e, uint32_t parties, mpe_bytes settings, mpe_object **out)
{
    mpe_object *o;
    int rc = mpe__object_begin_with_body(e, MPE_KIND_BARRIER,
                                         sizeof(struct mpe__barrier) + settings.size, &o);
    if (rc != MPE_OK)
        return rc;
    struct mpe__barrier *b = mpe__body(e, o);
    b->parties = parties;
    b->settings_size = (uint32_t)settings.size;
    if (settings.size) {
        memcpy(b->settings, settings.data, settings.size);
        mpe__note_stored(e, o, settings.data, settings.size);
    }
    return mpe__object_finish(e, o, out);
}
