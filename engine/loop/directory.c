/* SPDX-License-Identifier: MIT */
/* Names of objects in the arena. The directory is a Dict, name -> handle, and an Event that wakes
 * those that look for a name. Both are objects like others that nothing holds: the header names
 * them, and the sweep takes what it names as held. They are made with the first name.
 *
 * A name is given, or taken back, by the dict's own commit; then the event is set and cleared,
 * which wakes all finders. A death in between is told to them by the reaper's broadcast. The word of
 * the header is swapped in once both objects exist: before that a death leaves two objects of the
 * dead slot, after it the directory. Of two processes that make one at once, the second drops its
 * own.
 */
#include "core/bell.h"
#include "core/door.h"
#include "core/object.h"
#include "loop/loop.h"

#include <string.h>

#define NAME_MAX_BYTES 255

struct directory {
    mpe_object *dict, *changed;
};

/* Does a directory exist? */
static int
get_directory(mpe_engine *e, struct directory *out)
{
    uint64_t word = mpe__load64(&e->header->directory);
    out->dict = &e->objects[MPE__DIRECTORY_DICT(word)];
    out->changed = &e->objects[MPE__DIRECTORY_EVENT(word)];
    return word != 0;
}

static void
publish(mpe_engine *e, const struct directory *d)
{
    uint64_t none = 0;
    atomic_fetch_or(&d->dict->flags, MPE__OBJECT_STORED);
    atomic_fetch_or(&d->changed->flags, MPE__OBJECT_STORED);
    atomic_compare_exchange_strong(
        &e->header->directory, &none,
        MPE__DIRECTORY(mpe__index_of(e, d->dict), mpe__index_of(e, d->changed)));
}

static int
make_directory(mpe_engine *e, struct directory *out)
{
    struct directory d;
    if (get_directory(e, out))
        return MPE_OK;
    int rc = mpe_dict_create(e, &d.dict);
    if (rc != MPE_OK)
        return rc;
    rc = mpe_event_create(e, &d.changed);
    if (rc == MPE_OK) {
        publish(e, &d);
        mpe_drop(e, d.changed);
    }
    mpe_drop(e, d.dict);
    get_directory(e, out);
    return rc;
}

/* 0: it can be none. */
static int
read_name(const char *name, mpe_bytes *out)
{
    out->data = name;
    out->size = name ? strnlen(name, NAME_MAX_BYTES + 1) : 0;
    return out->size > 0 && out->size <= NAME_MAX_BYTES;
}

static int
put(mpe_engine *e, const struct directory *d, mpe_bytes name, mpe_object *o)
{
    mpe_buf b;
    mpe__buf_init(&b, &e->memory);
    int rc = mpe_wire_put_handle(&b, mpe_handle_of(e, o));
    if (rc == MPE_OK)
        rc = mpe_dict_put_new(e, d->dict, name, (mpe_bytes){b.data, b.len}, 1);
    mpe_buf_free(&b);
    return rc;
}

int
mpe_name(mpe_engine *e, const char *name, mpe_object *o)
{
    mpe_bytes key;
    struct directory d;
    if (!e || !read_name(name, &key))
        return MPE_EINVAL;
    if (o ? !mpe__admits(e, o, MPE__ANY_KIND) : !mpe__is_ours(e))
        return mpe__refusal(e, o, o ? MPE__ANY_KIND : 0);
    if (!o)
        return get_directory(e, &d) ? mpe_dict_remove(e, d.dict, key, NULL) : MPE_ENOENT;
    int rc = make_directory(e, &d);
    if (rc == MPE_OK)
        rc = put(e, &d, key, o);
    if (rc != MPE_OK)
        return rc == MPE_ENOMEM ? MPE_EARENA : rc;
    mpe_event_set(e, d.changed);
    mpe_event_clear(e, d.changed);
    return MPE_OK;
}

struct search {
    mpe_bytes name;
    mpe_object *found;
};

static int
hold_first(mpe_engine *e, const mpe_buf *b, mpe_object **out)
{
    mpe_wire_reader r;
    mpe_wire_item item;
    mpe_wire_open(&r, b->data, b->len);
    if (mpe_wire_read(&r, &item) <= 0 || item.kind != MPE_WIRE_HANDLE)
        return MPE_ECORRUPT;
    return mpe_hold(e, item.u.h, out);
}

/* Errors: EAGAIN (there is none). */
static int
look(mpe_engine *e, mpe_object *changed, void *ud)
{
    struct search *s = ud;
    struct directory d;
    mpe_buf b;
    (void)changed;
    if (!get_directory(e, &d))
        return MPE_EAGAIN;
    uint32_t mark = mpe_pin_mark(e);
    mpe__buf_init(&b, &e->memory);
    int rc = mpe_dict_get(e, d.dict, s->name, &b, NULL);
    if (rc == MPE_OK)
        rc = hold_first(e, &b, &s->found);
    mpe_buf_free(&b);
    mpe_unpin(e, mark);
    return rc == MPE_ENOENT ? MPE_EAGAIN : rc;
}

int
mpe_find(mpe_engine *e, const char *name, uint64_t deadline, mpe_object **out)
{
    struct search s = {.found = NULL};
    struct directory d;
    if (!e || !out || !read_name(name, &s.name))
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    int rc = look(e, NULL, &s);
    if (rc == MPE_EAGAIN && deadline == MPE_NOW)
        return MPE_ENOENT;
    if (rc == MPE_EAGAIN && (rc = make_directory(e, &d)) == MPE_OK)
        rc = mpe_await(e, d.changed, MPE_EVENT_READY, deadline, look, &s);
    if (rc == MPE_OK)
        *out = s.found;
    return rc;
}

int
mpe_names_changed(mpe_engine *e, mpe_object **out)
{
    struct directory d;
    if (!out)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    int rc = make_directory(e, &d);
    if (rc == MPE_OK)
        *out = d.changed;
    return rc;
}
