/* SPDX-License-Identifier: MIT */
/* Labels: what a reader is shown of an object, besides its state: the name that its maker gave it,
 * and the place, a line of a script. The entry has one word for both.
 *
 * A name is a block of the object's: its length and its bytes. Places are few, since a program makes
 * objects at few lines: each is a text in a table of the arena, which only grows, under the arena
 * lock, and the label has its number. When the table is full, further lines have none.
 *
 * Death: the label is committed as every other change of an object (death.c), so a name is either
 * the object's or freed. A place counts once `places` says so; a text above it is written again.
 */
#include "core/trace.h"
#include "core/arena.h"
#include "core/death.h"
#include "core/door.h"
#include "core/ilock.h"
#include "core/label.h"
#include "os/os.h"

#include <stdio.h>
#include <stdio.h>
#include <string.h>

#define PAGE 4096u

static struct mpe__place *
place_at(const mpe_engine *e, uint32_t number)
{
    uint64_t all = MPE__PLACES * sizeof(struct mpe__place);
    return (struct mpe__place *)mpe__at(e, e->header->fixed_bytes - all) + (number - 1);
}

static uint32_t
find(const mpe_engine *e, const char *text, uint32_t from, uint32_t to)
{
    for (uint32_t n = from; n <= to; n++)
        if (strncmp(place_at(e, n)->text, text, MPE__PLACE_BYTES - 1) == 0)
            return n;
    return 0;
}

/* Arena lock held. 0: there is no room. */
static uint32_t
add(mpe_engine *e, const char *text)
{
    uint32_t n = mpe__load32(&e->header->places) + 1;
    if (n > MPE__PLACES)
        return 0;
    struct mpe__place *p = place_at(e, n);
    uint64_t off = mpe__offset(e, p);
    if (off % PAGE == 0 && mpe__memfd_commit(e->fd, off, PAGE) != 0)
        return 0;
    snprintf(p->text, sizeof p->text, "%s", text);
    mpe__store32(&e->header->places, n);
    return n;
}

uint32_t
mpe_place_note(mpe_engine *e, const char *text)
{
    if (!text || !mpe__is_ours(e))
        return 0;
    uint32_t seen = mpe__load32(&e->header->places), n = find(e, text, 1, seen);
    if (n)
        return n;
    mpe__ilock(e, &e->header->arena_lock, 0);
    n = find(e, text, seen + 1, mpe__load32(&e->header->places));
    if (!n)
        n = add(e, text);
    mpe__iunlock(e, &e->header->arena_lock);
    return n;
}

const char *
mpe__place_text(const mpe_engine *e, uint32_t number)
{
    int is_one = number > 0 && number <= mpe__load32(&e->header->places);
    return is_one ? place_at(e, number)->text : NULL;
}

const char *
mpe_place_text(const mpe_engine *e, uint32_t number)
{
    return mpe__is_ours(e) ? mpe__place_text(e, number) : NULL;
}

/* A trace has the names of objects that are gone when it is read. */
static void
trace_label(mpe_engine *e, const mpe_object *o, mpe_bytes name, uint32_t place)
{
    char title[64 + MPE__PLACE_BYTES];
    const char *where = mpe__place_text(e, place);
    int shown = name.size < 64 ? (int)name.size : 64;
    if (name.data)
        snprintf(title, sizeof title, "'%.*s'", shown, (const char *)name.data);
    else
        snprintf(title, sizeof title, "(%s)", where ? where : "?");
    mpe_trace_add(e, MPE_TRACE_OBJECT, 0, mpe_handle_of(e, o), 0);
    mpe_trace_text(e, title, strlen(title));
}

int
mpe_object_label(mpe_engine *e, mpe_object *o, mpe_bytes name, uint32_t place)
{
    if (mpe__lacks(name))
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__ANY_KIND))
        return mpe__refusal(e, o, MPE__ANY_KIND);
    uint64_t off = 0, size = name.size;
    uint64_t old = MPE__LABEL_NAME(mpe__load64(&o->label));
    if (name.data) {
        int rc = mpe__alloc(e, sizeof size + size, &off);
        if (rc != MPE_OK)
            return rc;
        memcpy(mpe__at(e, off), &size, sizeof size);
        memcpy((char *)mpe__at(e, off) + sizeof size, name.data, size);
    }
    struct mpe__change c = {.object = o, .link = &o->label, .value = MPE__LABEL(place, off)};
    c.new_block[0] = off;
    c.old_block[0] = old;
    if (off || old)
        mpe__commit_change(e, &c);
    else
        mpe__store64(&o->label, c.value);
    if (MPE__UNLIKELY(mpe__load64(&e->header->trace) != 0))
        trace_label(e, o, name, place);
    return MPE_OK;
}

mpe_bytes
mpe__label_name(const mpe_engine *e, uint64_t label)
{
    uint64_t off = MPE__LABEL_NAME(label), size, map = e->header->map_bytes;
    if (off < e->header->heap_off || off > map - sizeof size)
        return (mpe_bytes){NULL, 0};
    memcpy(&size, mpe__at(e, off), sizeof size);
    if (size > map - sizeof size - off)
        return (mpe_bytes){NULL, 0};
    return (mpe_bytes){(char *)mpe__at(e, off) + sizeof size, size};
}

mpe_bytes
mpe_object_name(mpe_engine *e, const mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__ANY_KIND))
        return (mpe_bytes){NULL, 0};
    return mpe__label_name(e, mpe__load64(&o->label));
}
