/* A kind of shared object: the functions that the core and the loop call for it. Each kind
 * defines its own `const struct mpe__kind mpe__NAME_kind` beside its state machine in objects/,
 * with the function that creates it; objects/kinds.c has the table. No file below objects/
 * refers to a kind by its name.
 */
#ifndef MPE_CORE_KIND_H
#define MPE_CORE_KIND_H

#include "mpengine_core.h"
#include "core/layout.h"

/* Which of the waiters of an event get a turn when the object is ready. */
enum mpe__turn {
    MPE__TURN_NONE = 0, /* the kind has no such event: it cannot be waited for */
    MPE__TURN_ONE,      /* the first waiter of one process; it passes on what it does not use */
    MPE__TURN_ALL,      /* every waiter of every process */
    MPE__TURN_ASSIGNED, /* the first waiter of the process that the object has chosen */
};

/* The wake policy of an event. The moves are for a kind that keeps a record of its own of the
 * process that it wakes. */
struct mpe__wake {
    enum mpe__turn turn;
    /* Wakes a process that waits. NULL: mpe__wake_one. */
    void (*wake)(mpe_engine *e, mpe_object *o);
    /* This process was woken; after this call its first waiter tries. */
    void (*awake)(mpe_engine *e, mpe_object *o);
    /* This process no longer waits; after this call the object is looked at. */
    void (*leave)(mpe_engine *e, mpe_object *o);
    /* When the first waiter of this process must try again though nothing has changed, by mpe_now; or
     * MPE_FOREVER. Asked whenever a waiter is filed or has left. NULL: never. */
    uint64_t (*due)(mpe_engine *e, mpe_object *o);
};

/* Every move may be NULL. */
struct mpe__kind {
    /* Bytes of the body, which is zeroed; mpe__object_begin may ask for more. 0: no body of a fixed
     * size. */
    uint64_t body_bytes;
    /* Called as the dead owner of the intent lock at lock_off: recompute what is derived. */
    void (*recover)(mpe_engine *e, mpe_object *o, uint64_t lock_off);
    /* A slot has died or left: release what it held of this object. Repeatable. */
    void (*death)(mpe_engine *e, mpe_object *o, uint32_t slot);
    /* Is (o, event) worth a try? A hint without locks; a false "no" must be impossible. */
    int (*ready)(mpe_engine *e, mpe_object *o, int event);
    struct mpe__wake wake[MPE__EVENTS]; /* by event */
    /* Should an object that may have become garbage be swept at once? removed: a container mentions it
     * no longer; else a message that has brought it is done with. */
    int (*is_urgent)(mpe_engine *e, const mpe_object *o, int removed);
    /* Frees the blocks of an object that no process holds. */
    void (*destroy)(mpe_engine *e, mpe_object *o);
    /* Calls visit for each handle inside; locks what it needs. */
    void (*scan)(mpe_engine *e, mpe_object *o, int (*visit)(void *ud, uint64_t handle), void *ud);
    /* Items, entries, elements; and bytes of its own blocks. */
    void (*measure)(mpe_engine *e, mpe_object *o, uint64_t *depth, uint64_t *bytes);
    /* A handle of this kind has reached a slot with a message, which is still in its container,
     * or is given to a slot that is being started. */
    void (*arrived)(mpe_engine *e, mpe_object *o, uint32_t slot);
    /* At the end of a sweep that found the object alive. Bit i of mentioned: some container holds a
     * handle of a kind whose part is i. */
    void (*swept)(mpe_engine *e, mpe_object *o, uint32_t mentioned);
    /* A set of 1 << kind: handles of these kinds name an object of this one, too. */
    uint32_t facets;
    uint8_t part; /* which part of an object, 0 to 6, a handle of this kind names */
};

_Static_assert(MPE_KIND_COUNT <= 32, "a set of kinds is 32 bits");

#endif
