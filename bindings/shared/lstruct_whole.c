/* SPDX-License-Identifier: MIT
 *
 * lstruct_whole.c - whole elements, which are read and written under the lock of their array or value,
 * where it has one: they are of one moment. A lock whose owner died stays so for the script, which
 * has not asked for it and is told by its own next acquire.
 */
#include "shared/larray.h"
#include "task/lturn.h"

#include <string.h>

enum step { LOAD, STORE, UPDATE };

/* One of them, in private memory. */
typedef struct whole {
    enum step step;
    lmpe_struct_place at; /* which element; in it, the struct that is asked for */
    size_t size;          /* bytes of the element */
    mpe_object *o;        /* what has it */
    lmpe_box *lock;       /* whose lock; NULL: there is none */
    const void *source;   /* the struct in shared memory that is the value; NULL: it is there */
    uint8_t *value;       /* size bytes */
    uint8_t *old;         /* UPDATE: as many, of the element as it is */
    uint8_t *chosen;      /* UPDATE: for each byte, is it to be changed? */
} whole;

#define PARTS 3  /* value, old, chosen */
#define ROOM 256 /* bytes of an element for which there is room on the C stack */

static void
place(whole *w, void *memory)
{
    w->value = memory;
    w->old = w->value + w->size;
    w->chosen = w->old + w->size;
}

/* ---- with the lock ---- */

static int
take_step(mpe_engine *e, const whole *w)
{
    if (w->step == LOAD)
        return mpe_struct_load(e, w->o, w->at.index, w->value);
    if (w->source)
        lmpe_structs_copy(w->at.t, w->value + w->at.offset, 0, w->source, 0, 1);
    if (w->step == STORE)
        return mpe_struct_store(e, w->o, w->at.index, w->value);
    int rc = mpe_struct_load(e, w->o, w->at.index, w->old);
    if (rc != MPE_OK)
        return rc;
    for (size_t i = 0; i < w->size; i++)
        w->old[i] = w->chosen[i] ? w->value[i] : w->old[i];
    return mpe_struct_store(e, w->o, w->at.index, w->old);
}

static int
finish(lua_State *L, const whole *w, int rc)
{
    if (rc != MPE_OK)
        return lmpe_raise(L, rc, "Array");
    if (w->step != LOAD)
        return 0;
    lmpe_struct_push(L, w->at.t, w->value + w->at.offset);
    return 1;
}

/* The lock is held. */
static int
take_locked_step(lua_State *L, const whole *w, int has_died)
{
    lmpe *S = w->lock->S;
    int rc = take_step(S->e, w);
    if (has_died)
        mpe_rlock_abandon(S->e, w->lock->o, S->current->id);
    else
        mpe_rlock_release(S->e, w->lock->o, S->current->id);
    return finish(L, w, rc);
}

/* ---- acquiring it ---- */

/* The results of acquire are on top. */
static int
acquired(lua_State *L, int status, lua_KContext at)
{
    (void)status;
    return take_locked_step(L, lua_touserdata(L, (int)at), !lua_isnil(L, -1));
}

/* Suspends the task until the lock at an index is its own. */
static int
wait_for_lock(lua_State *L, const whole *w, int lock)
{
    whole *kept = lua_newuserdatauv(L, sizeof *kept + PARTS * w->size, 0);
    int at = lua_gettop(L);
    *kept = *w;
    place(kept, memcpy(kept + 1, w->value, PARTS * w->size));
    luaL_getmetafield(L, lock, "methods");
    lua_getfield(L, -1, "acquire");
    lua_pushvalue(L, lock);
    lua_callk(L, 1, 2, at, acquired);
    return acquired(L, LUA_OK, at);
}

/* The index of the box whose lock is that of the array, value or view at an index; 0: it has none. */
static int
push_lock(lua_State *L, int box)
{
    lmpe_box *b = lua_touserdata(L, box);
    if (mpe_handle_kind(b->h) == MPE_KIND_ARRAY_VIEW) {
        int rc = lmpe_push_handle(L, b->S, mpe_array_whole(b->S->e, b->o));
        if (rc != MPE_OK)
            lmpe_raise(L, rc, "ArrayView");
        box = lua_gettop(L);
        b = lua_touserdata(L, box);
    }
    int kind = mpe_handle_kind(b->h);
    return kind == MPE_KIND_ARRAY || kind == MPE_KIND_VALUE ? box : 0;
}

static int
take(lua_State *L, whole *w)
{
    int lock = push_lock(L, w->at.box);
    if (!lock)
        return finish(L, w, take_step(lmpe_self(L)->e, w));
    w->lock = lua_touserdata(L, lock);
    int rc = mpe_rlock_acquire(w->lock->S->e, w->lock->o, w->lock->S->current->id);
    if (rc == MPE_EAGAIN)
        return wait_for_lock(L, w, lock);
    if (rc < 0)
        return lmpe_raise(L, rc, "Array");
    return take_locked_step(L, w, rc == MPE_OWNER_DIED);
}

/* ---- the steps ---- */

/* In the given room, or on the stack of L. */
static whole
whole_of(lua_State *L, const lmpe_struct_place *at, enum step step, uint64_t *room)
{
    const lmpe_box *b = lua_touserdata(L, at->box);
    size_t size = lmpe_element_of_box(b)->size;
    void *p = size <= ROOM ? room : lua_newuserdatauv(L, PARTS * size, 0);
    whole w = {.step = step, .at = *at, .size = size, .o = b->o};
    place(&w, memset(p, 0, PARTS * size)); /* also between the fields */
    return w;
}

int
lmpe_struct_read(lua_State *L, const lmpe_struct_place *from)
{
    uint64_t room[PARTS * ROOM / 8];
    whole w = whole_of(L, from, LOAD, room);
    return take(L, &w);
}

int
lmpe_struct_write(lua_State *L, const lmpe_struct_place *to, int idx, const lmpe_where *where)
{
    uint64_t room[PARTS * ROOM / 8];
    whole w = whole_of(L, to, STORE, room);
    if (to->t->as.size < w.size) { /* the rest stays */
        w.step = UPDATE;
        memset(w.chosen + to->offset, 1, to->t->as.size);
    }
    w.source = lmpe_struct_referred(L, idx, to->t);
    if (!w.source)
        lmpe_struct_convert(L, idx, to->t, w.value + to->offset, where);
    return take(L, &w);
}

int
lmpe_struct_update(lua_State *L, const lmpe_struct_place *to, int idx, const lmpe_where *where)
{
    uint64_t room[PARTS * ROOM / 8];
    whole w = whole_of(L, to, UPDATE, room);
    lmpe_struct_convert_some(L, idx, to->t, w.value + to->offset, w.chosen + to->offset, where);
    return take(L, &w);
}
