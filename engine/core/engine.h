/* One process's view of an arena: private memory, one per attached thread. The upper layers hang
 * their own state on it by pointers that this layer never follows.
 */
#ifndef MPE_CORE_ENGINE_H
#define MPE_CORE_ENGINE_H

#include "mpengine.h"
#include "core/layout.h"

#define MPE__CLASSES 24u
#define MPE__RECENT 8u

/* Which of those that wait for an event gets a turn when the object is ready. */
enum mpe__wake {
    MPE__WAKE_NONE = 0, /* the kind has no such event: it cannot be waited for */
    MPE__WAKE_ONE,      /* the first waiter of one process; it passes on what it does not use */
    MPE__WAKE_ALL,      /* every waiter of every process */
    MPE__WAKE_CALLED,   /* as ONE, but the process is called first: objects/queue_call.c */
    MPE__WAKE_ASSIGNED, /* the first waiter of the process that the object has chosen */
};

/* What a kind of object brings along for recovery and destruction. Every hook may be NULL. */
struct mpe__kind_ops {
    /* Called as the dead owner of the intent lock at lock_off: recompute what is derived. */
    void (*recover)(mpe_engine *e, mpe_object *o, uint64_t lock_off);
    /* A slot has died or left: give up what it held of this object. Repeatable. */
    void (*death)(mpe_engine *e, mpe_object *o, uint32_t slot);
    /* Is (o, event) worth a try? A hint without locks; a false "no" must be impossible. */
    int (*ready)(mpe_engine *e, mpe_object *o, int event);
    uint8_t wake[MPE__EVENTS]; /* enum mpe__wake, by event */
    /* Frees the blocks of an object nobody holds. */
    void (*destroy)(mpe_engine *e, mpe_object *o);
    /* Calls visit for each handle inside; locks what it needs. */
    void (*scan)(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t handle), void *ud);
    /* Items, entries, elements; and bytes of its own blocks. */
    void (*measure)(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes);
    /* A handle of this kind has come to this process with a message, which is still where it was. */
    void (*arrived)(mpe_engine *e, mpe_object *o);
    /* At the end of a sweep that found the object alive. Bit i of mentioned: some container holds a
     * handle of a kind whose part is i. */
    void (*swept)(mpe_engine *e, mpe_object *o, uint32_t mentioned);
    uint8_t part; /* which part of an object, 0 to 6, a handle of this kind names */
};

struct mpe_engine {
    uint8_t *base;
    struct mpe__header *header;
    struct mpe__slot *slots, *self;
    mpe_object *objects;
    const struct mpe__kind_ops *const *kinds; /* by enum mpe_kind */

    uint32_t slot;
    uint32_t depth; /* intent locks held */
    uint32_t cpus;
    uint32_t wake_from;       /* slot where the last wake-one stopped */
    int owes_wakes;           /* leaves with waits under way, which may have been given a turn */
    int fd;                   /* of the arena */
    int spare_fd;             /* kept so that there is one for bell_fd, -1 when it was used */
    int bell_fd;              /* datagram socket, -1 until needed */
    uint32_t bell_generation; /* the slot generation that bell_fd is bound to */
    int parent_pid;           /* of the process that started this one, 0: none */
    char parent_name[48];

    uint64_t class_hint[MPE__CLASSES];          /* allocator: where to look first */
    uint64_t recent[MPE__CLASSES][MPE__RECENT]; /* blocks freed lately, as hints */
    uint8_t recent_count[MPE__CLASSES];
    uint32_t object_hint;
    uint32_t *holds; /* core/object.c: holds of this process by object index */
    uint32_t holds_capacity;
    mpe_object **pins; /* core/mentions.c: objects held for bytes not yet decoded */
    uint32_t pins_count, pins_capacity;
    struct mpe__loop *loop; /* loop/ */
    struct mpe__proc *proc; /* proc/ */
};

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

#endif
