/* One process's view of an arena: private memory, one per attached thread. The upper layers hang
 * their own state on it by pointers that this layer never follows.
 */
#ifndef MPE_CORE_ENGINE_H
#define MPE_CORE_ENGINE_H

#include "mpengine_core.h"
#include "base/buf.h"
#include "core/kind.h"
#include "core/layout.h"

#define MPE__CLASSES 24u
#define MPE__RECENT 8u

/* Where this process notes what it does: core/trace.c. */
struct mpe__trace {
    uint64_t word; /* of the header, when it was looked at */
    uint32_t slot; /* that the ring is of */
    uint64_t step; /* the record that the last step began with */
    struct mpe__ring *ring;
};

struct mpe_engine {
    uint8_t *base;
    struct mpe__mapping *mapping; /* core/region.c */
    struct mpe__header *header;
    struct mpe__slot *slots, *self;
    mpe_object *objects;
    uint64_t objects_bytes;               /* of the whole table */
    uint64_t seal;                        /* of the arena, in each of its handles: object.c */
    uint64_t thread;                      /* door.c: the number of the thread that has it */
    struct mpe__memory memory;            /* for all that is private */
    uint32_t forks;                       /* door.c: the forks before it was opened */
    uint32_t owners;                      /* numbers of owners given */
    const struct mpe__kind *const *kinds; /* by enum mpe_kind */

    uint32_t slot;
    uint32_t depth; /* intent locks held */
    uint32_t cpus;
    uint32_t wake_from;       /* slot where the last wake-one stopped */
    uint32_t has_rung;        /* 1: it has rung another one since its last sleep */
    int owes_wakes;           /* leaves with current waits, which may have been given a turn */
    int fd;                   /* of the arena */
    int spare_fd;             /* kept so that there is one for bell_fd, -1 when it was used */
    int bell_fd;              /* datagram socket, -1 until needed */
    uint32_t bell_generation; /* the slot generation that bell_fd is bound to */
    int parent_pid;           /* of the process that started this one, 0: none */
    char parent_name[48];

    uint64_t class_hint[MPE__CLASSES];          /* allocator: where to look first */
    uint64_t recent[MPE__CLASSES][MPE__RECENT]; /* recently freed blocks, as hints */
    uint8_t recent_count[MPE__CLASSES];
    uint32_t object_hint;
    uint32_t *holds; /* core/object.c: holds of this process by object index */
    uint32_t holds_capacity;
    mpe_object **pins; /* core/handles.c: objects held for bytes not yet decoded */
    uint32_t pins_count, pins_capacity;
    struct mpe__trace trace;
    struct mpe__limiter_line *limiter_lines; /* objects/limiter.c */
    struct mpe__loop *loop;                  /* loop/ */
    struct mpe__proc *proc;                  /* proc/ */
    struct mpe_guest *guest;                 /* proc/guest.c; NULL: none */
    void *block;                             /* of memory, which this struct is in */
    size_t block_bytes;
};

/* Frees the struct itself. */
static inline void
mpe__engine_release(mpe_engine *e)
{
    struct mpe__memory m = e->memory;
    mpe__delete(&m, e->block, e->block_bytes);
}

static inline void *
mpe__at(const mpe_engine *e, uint64_t off)
{
    return e->base + off;
}

static inline uint64_t
mpe__offset(const mpe_engine *e, const volatile void *p)
{
    return (uint64_t)((const volatile uint8_t *)p - e->base);
}

static inline uint32_t
mpe__index_of(const mpe_engine *e, const mpe_object *o)
{
    return (uint32_t)(o - e->objects);
}

/* The kind of an object. */
static inline const struct mpe__kind *
mpe__kind_of(const mpe_engine *e, const mpe_object *o)
{
    return e->kinds[atomic_load_explicit(&o->kind, memory_order_relaxed)];
}

/* The kind named by a handle; that of no object when there is no such kind. */
static inline const struct mpe__kind *
mpe__kind_named(const mpe_engine *e, mpe_handle h)
{
    int kind = mpe_handle_kind(h);
    return e->kinds[kind < MPE_KIND_COUNT ? kind : MPE_KIND_NONE];
}

#endif
