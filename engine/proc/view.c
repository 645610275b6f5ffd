/* SPDX-License-Identifier: MIT */
/* Views: a program as a reader sees it. The reader has no slot and holds nothing; it maps the arena
 * so that a store would be a fault of its own, and calls only what loads. So it cannot harm the
 * program, and works on one that is stopped or has lost its first process.
 *
 * The memory that a view reads may be freed and used again meanwhile. Offsets are checked against
 * the mapping where they are followed; numbers may be wrong for a moment, and are only shown.
 */
#include "core/arena.h"
#include "core/bell.h"
#include "core/door.h"
#include "core/label.h"
#include "core/object.h"
#include "core/region.h"
#include "core/slot.h"
#include "objects/doors.h"
#include "objects/lease.h"
#include "objects/queue.h"
#include "objects/seen.h"
#include "os/os.h"
#include "proc/proc.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FILE_NAME "mpengine"
#define PROGRAMS_MAX 1024

struct mpe_view {
    mpe_engine e;
    int is_mapped; /* by this view */
};

/* ---- opening ---- */

static mpe_view *
new_view(void)
{
    mpe_view *v = calloc(1, sizeof *v);
    if (!v)
        return NULL;
    mpe__adopt(&v->e);
    v->e.kinds = mpe__kinds;
    return v;
}

/* Has the program any process; one with that pid? */
static int
has_process(mpe_view *v, int pid)
{
    uint32_t top = mpe__load32(&v->e.header->slots_top);
    for (uint32_t i = 0; i < top; i++)
        if (mpe__is_running(&v->e.slots[i]) &&
            (!pid || (int)mpe__load32(&v->e.slots[i].pid) == pid))
            return 1;
    return 0;
}

struct search {
    int pid; /* 0: any process will do */
    int status;
    mpe_view *found;
};

static int
map_file(void *ud, int fd)
{
    struct search *s = ud;
    mpe_view *v = new_view();
    int rc = v ? mpe__region_view(&v->e, fd) : MPE_ENOMEM;
    if (rc != MPE_OK) {
        s->status = rc;
        free(v);
        return 0;
    }
    v->is_mapped = 1;
    if (!has_process(v, s->pid)) {
        mpe_view_close(v);
        return 0;
    }
    s->found = v;
    mpe__fd_close(fd);
    return 1;
}

/* A fork server has the file open and no slot. */
static int
search_files(int pid, struct search *s)
{
    int rc = mpe__process_files(pid, FILE_NAME, map_file, s);
    if (rc < 0)
        return errno == EACCES || errno == EPERM ? MPE_EPERM : MPE_ENOENT;
    if (rc == 0 && s->pid) {
        s->pid = 0;
        rc = mpe__process_files(pid, FILE_NAME, map_file, s);
    }
    return rc == 1 ? MPE_OK : s->status;
}

int
mpe_view_open(int pid, mpe_view **out)
{
    if (!out || pid <= 0)
        return MPE_EINVAL;
    long user = mpe__process_user(pid);
    if (user < 0)
        return mpe__processes_are_shown() ? MPE_ENOENT : MPE_ESYS;
    if (user != (long)geteuid())
        return MPE_EPERM;
    struct search s = {.pid = pid, .status = MPE_ETYPE};
    int rc = search_files(pid, &s);
    if (rc == MPE_OK)
        *out = s.found;
    return rc;
}

int
mpe_view_own(mpe_engine *e, mpe_view **out)
{
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    mpe_view *v = new_view();
    if (!v)
        return MPE_ENOMEM;
    v->e.base = e->base;
    v->e.header = e->header;
    v->e.slots = e->slots;
    v->e.objects = e->objects;
    v->e.objects_bytes = e->objects_bytes;
    v->e.seal = e->seal;
    *out = v;
    return MPE_OK;
}

void
mpe_view_close(mpe_view *v)
{
    if (v && v->is_mapped)
        mpe__region_view_end(&v->e);
    free(v);
}

/* ---- all programs ---- */

struct programs {
    void (*visit)(void *ud, int pid, int status, mpe_view *v);
    void *ud;
    struct {
        dev_t dev;
        ino_t ino;
    } known[PROGRAMS_MAX];
    int count;
    int pid; /* whose files are being looked at */
};

static int
is_known(struct programs *p, int fd)
{
    struct stat st;
    if (fstat(fd, &st) != 0 || p->count == PROGRAMS_MAX)
        return 1;
    for (int i = 0; i < p->count; i++)
        if (p->known[i].dev == st.st_dev && p->known[i].ino == st.st_ino)
            return 1;
    p->known[p->count].dev = st.st_dev;
    p->known[p->count++].ino = st.st_ino;
    return 0;
}

static int
visit_file(void *ud, int fd)
{
    struct programs *p = ud;
    if (is_known(p, fd))
        return 0;
    mpe_view *v = new_view();
    int rc = v ? mpe__region_view(&v->e, fd) : MPE_ENOMEM;
    if (rc != MPE_OK) {
        free(v);
        p->visit(p->ud, p->pid, rc, NULL);
        return 0;
    }
    v->is_mapped = 1;
    if (has_process(v, 0) && !mpe__load32(&v->e.header->is_reader))
        p->visit(p->ud, p->pid, MPE_OK, v);
    else
        mpe_view_close(v);
    return 0;
}

static void
visit_process(void *ud, pid_t pid)
{
    struct programs *p = ud;
    p->pid = pid;
    mpe__process_files(pid, FILE_NAME, visit_file, p);
}

int
mpe_views_each(void (*visit)(void *ud, int pid, int status, mpe_view *v), void *ud)
{
    struct programs *p = calloc(1, sizeof *p);
    if (!p)
        return MPE_ENOMEM;
    p->visit = visit;
    p->ud = ud;
    int rc = mpe__processes_each(visit_process, p);
    free(p);
    return rc == 0 ? MPE_OK : MPE_ESYS;
}

/* ---- the program and its processes ---- */

static int
is_live_object(mpe_engine *e, uint32_t index)
{
    uint64_t directory = mpe__load64(&e->header->directory);
    return mpe__load32(&e->objects[index].state) == MPE__OBJECT_LIVE &&
           index != MPE__DIRECTORY_DICT(directory) && index != MPE__DIRECTORY_EVENT(directory);
}

void
mpe_view_info_get(mpe_view *v, mpe_view_info *out)
{
    if (!v || !out)
        return;
    mpe_engine *e = &v->e;
    struct mpe__header *h = e->header;
    *out = (mpe_view_info){.created_ns = h->created,
                           .nonce = h->nonce,
                           .limit_bytes = h->limit_bytes,
                           .committed_bytes = mpe__load64(&h->committed_bytes),
                           .is_reader = mpe__load32(&h->is_reader) != 0,
                           .command = h->command};
    uint32_t top = mpe__load32(&h->slots_top);
    for (uint32_t i = 0; i < top; i++) {
        int there = mpe__is_running(&e->slots[i]);
        out->processes += (uint32_t)there;
        out->tasks += there ? mpe__load32(&e->slots[i].tasks) : 0;
    }
    top = mpe__load32(&h->objects_top);
    for (uint32_t i = 1; i < top; i++)
        out->objects += (uint32_t)is_live_object(e, i);
}

int
mpe_view_process_next(mpe_view *v, uint32_t *slot, mpe_view_process *out)
{
    if (!v || !slot || !out)
        return MPE_EINVAL;
    uint32_t top = mpe__load32(&v->e.header->slots_top);
    for (uint32_t i = *slot; i < top; i++) {
        struct mpe__slot *s = &v->e.slots[i];
        if (!mpe__is_running(s))
            continue;
        uint32_t sleep = mpe__load32(&s->sleep);
        *out = (mpe_view_process){.slot = i,
                                  .generation = mpe__load32(&s->generation),
                                  .pid = (int)mpe__load32(&s->pid),
                                  .parent_slot = (int)mpe__load32(&s->parent) - 1,
                                  .sleeps = sleep != MPE__AWAKE && sleep != MPE__SPINNING,
                                  .answers = mpe__load32(&s->answers) != 0,
                                  .tasks = mpe__load32(&s->tasks)};
        memcpy(out->name, s->name, sizeof out->name - 1);
        *slot = i + 1;
        return MPE_OK;
    }
    return MPE_ENOENT;
}

/* ---- objects ---- */

static void
look_at_queue(mpe_engine *e, mpe_object *o, mpe_view_object *out)
{
    const struct mpe__queue *q = mpe__body(e, o);
    out->gets = mpe__load32(&q->get_count);
    out->puts = mpe__load32(&q->put_count);
    out->depth = (int32_t)(out->puts - out->gets) > 0 ? out->puts - out->gets : 0;
    out->bound = q->max_items;
    out->is_closed = mpe__load32(&q->closed) != 0;
}

static void
look_at_barrier(mpe_engine *e, mpe_object *o, mpe_view_object *out)
{
    uint32_t parties = 0, waiting = 0;
    int broken = 0;
    mpe_barrier_state(e, o, &parties, &waiting, &broken);
    out->depth = waiting;
    out->bound = parties;
    out->is_closed = broken;
}

/* What its kind has to show. */
static void
look_at_state(mpe_engine *e, mpe_object *o, mpe_view_object *out)
{
    uint64_t body = mpe__load64(&o->body);
    if (1u << out->kind & (MPE__RLOCKS | MPE__KIND(LOCK)))
        mpe_lock_state_get(e, o, &out->lock);
    if (out->kind == MPE_KIND_EVENT)
        out->is_set = mpe_event_is_set(e, o);
    if (body < e->header->heap_off || body >= e->header->map_bytes)
        return;
    if (1u << out->kind & MPE__QUEUES)
        look_at_queue(e, o, out);
    else if (1u << out->kind & MPE__SEMAPHORES)
        out->depth = mpe_semaphore_value(e, o);
    else if (1u << out->kind & MPE__ARRAYS_AND_VIEWS)
        mpe__kinds[out->kind]->measure(e, o, &out->depth, &(uint64_t){0});
    else if (out->kind == MPE_KIND_BARRIER)
        look_at_barrier(e, o, out);
    else if (out->kind == MPE_KIND_DICT)
        out->depth = mpe__dict_count_seen(e, o);
    else if (out->kind == MPE_KIND_LIST)
        out->depth = mpe__list_count_seen(e, o);
    else if (out->kind == MPE_KIND_PIPE)
        for (int end = 0; end < 2; end++)
            out->queues[end] = mpe_pipe_queue(e, o, end);
}

static uint32_t
count_waiters(const mpe_object *o)
{
    struct mpe__slotset all;
    for (uint32_t i = 0; i < MPE__SLOT_WORDS; i++)
        atomic_init(&all.bits[i], mpe__load64(&o->waiters[0].bits[i]) |
                                      mpe__load64(&o->waiters[1].bits[i]) |
                                      mpe__load64(&o->waiters[2].bits[i]));
    return mpe__set_count(&all);
}

int
mpe_view_object_next(mpe_view *v, uint32_t *index, mpe_view_object *out)
{
    if (!v || !index || !out)
        return MPE_EINVAL;
    mpe_engine *e = &v->e;
    uint32_t top = mpe__load32(&e->header->objects_top);
    for (uint32_t i = *index + 1; i < top; i++) {
        if (!is_live_object(e, i))
            continue;
        mpe_object *o = &e->objects[i];
        uint64_t label = mpe__load64(&o->label);
        uint16_t flags = atomic_load_explicit(&o->flags, memory_order_relaxed);
        *out = (mpe_view_object){.handle = mpe_handle_of(e, o),
                                 .kind = mpe_kind_of(o),
                                 .name = mpe__label_name(e, label),
                                 .place = mpe__place_text(e, MPE__LABEL_PLACE(label)),
                                 .holders = mpe__set_count(&o->holders),
                                 .waiters = count_waiters(o),
                                 .is_board = (flags & MPE__OBJECT_BOARD) != 0};
        look_at_state(e, o, out);
        *index = i;
        return MPE_OK;
    }
    return MPE_ENOENT;
}

int
mpe_view_waits(mpe_view *v, uint32_t index, uint32_t slot)
{
    if (!v || slot >= MPE__SLOTS || index == 0 || index >= mpe__load32(&v->e.header->objects_top))
        return 0;
    const mpe_object *o = &v->e.objects[index];
    return mpe__set_has(&o->waiters[0], slot) || mpe__set_has(&o->waiters[1], slot) ||
           mpe__set_has(&o->waiters[2], slot);
}

int
mpe_view_worker_next(mpe_view *v, uint32_t index, uint64_t *worker, mpe_view_worker *out)
{
    mpe_leases b;
    if (!v || !worker || !out || index == 0 || index >= mpe__load32(&v->e.header->objects_top))
        return MPE_EINVAL;
    if (mpe_lease_board(&v->e, &v->e.objects[index], &b) != MPE_OK)
        return MPE_ENOENT;
    for (uint64_t i = *worker; i < b.workers; i++) {
        int pid = (int)mpe__lease_pid(&b, i);
        if (!pid)
            continue;
        mpe_lease_run run = {0, 0, 0};
        *out = (mpe_view_worker){.worker = i, .pid = pid, .since = mpe__lease_since(&b, i)};
        out->is_running = mpe_lease_running(&b, i, &run) == MPE_OK;
        out->number = run.number;
        out->item = run.item;
        mpe_lease_counts(&b, i, &out->items, &out->busy_ns);
        *worker = i + 1;
        return MPE_OK;
    }
    return MPE_ENOENT;
}

const char *
mpe_view_place(const mpe_view *v, uint32_t number)
{
    return v ? mpe__place_text(&v->e, number) : NULL;
}

/* ---- asking ---- */

int
mpe_view_ask(mpe_view *v, uint32_t slot, int value)
{
    if (!v || slot >= mpe__load32(&v->e.header->slots_top))
        return MPE_ENOENT;
    struct mpe__slot *s = &v->e.slots[slot];
    if (!mpe__is_running(s))
        return MPE_ENOENT;
    if (!mpe__load32(&s->answers))
        return MPE_ETYPE;
    pid_t pid = (pid_t)mpe__load32(&s->pid), thread = (pid_t)mpe__slot_thread(s);
    return mpe__thread_signal(pid, thread, MPE_ASK_SIGNAL, value) == 0 ? MPE_OK : MPE_ESYS;
}

void
mpe_self_answers(mpe_engine *e, int answers)
{
    if (mpe__is_ours(e) && e->self)
        mpe__store32(&e->self->answers, answers != 0);
}

uint32_t *
mpe_self_tasks(mpe_engine *e)
{
    return mpe__is_ours(e) && e->self ? (uint32_t *)&e->self->tasks : NULL;
}

void
mpe_view_hide(mpe_engine *e)
{
    if (mpe__is_ours(e))
        mpe__store32(&e->header->is_reader, 1);
}
