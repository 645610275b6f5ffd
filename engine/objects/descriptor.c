/* Descriptors on their way to other processes. The object is a ticket of os/passing.c with a note: the
 * process that made it keeps a copy of the descriptor until the last taker has it, the object is freed,
 * or the process exits; from then on a taker finds it closed. So what is dropped unread closes, and what
 * is in a container stays open like everything that a container mentions.
 *
 * The word is GONE once it was taken for good or withdrawn. It commits nothing: the keeper has the truth.
 *
 * Death of the maker: the kernel closes its copy. Of a taker, before the answer: the object loses its
 * last holder, a sweep frees it, and that releases the ticket; after it, the copy in flight is closed with
 * the taker. Of the process that frees the object, between its claim and the message to the keeper: the
 * copy stays open until its maker exits. */
#include "core/bell.h"
#include "core/door.h"
#include "core/object.h"
#include "objects/doors.h"
#include "os/os.h"

#include <errno.h>
#include <string.h>

enum { THERE, GONE };

struct descriptor {
    struct mpe__ticket ticket;
    uint32_t flags, size;
    uint8_t bytes[];
};

static int
keep(mpe_engine *e, int fd, int once, struct mpe__ticket *t)
{
    *t = (struct mpe__ticket){0, 0};
    if (fd < 0 || mpe__ticket_new(e, e->header->nonce, fd, once, t) == 0)
        return MPE_OK;
    if (errno != EMFILE)
        return MPE_ESYS;
    mpe_sweep(e); /* which releases what was dropped */
    return mpe__ticket_new(e, e->header->nonce, fd, once, t) == 0 ? MPE_OK : MPE_ESYS;
}

static void
forget(mpe_engine *e, const struct mpe__ticket *t)
{
    if (t->number)
        mpe__ticket_release(e->header->nonce, t, mpe__bell_socket(e));
}

int
mpe_descriptor_create(mpe_engine *e, int fd, mpe_bytes note, unsigned flags, mpe_object **out)
{
    if (!out || fd < -1 || mpe__lacks(note) || note.size > UINT32_MAX ||
        flags & ~MPE_DESCRIPTOR_ONCE)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    struct mpe__ticket t;
    mpe_object *o;
    int rc = keep(e, fd, (flags & MPE_DESCRIPTOR_ONCE) != 0, &t);
    if (rc != MPE_OK)
        return rc;
    rc = mpe__object_begin(e, MPE_KIND_DESCRIPTOR, note.size, &o);
    if (rc != MPE_OK) {
        forget(e, &t);
        return rc;
    }
    struct descriptor *d = mpe__body(e, o);
    mpe__store64(&o->word, fd < 0 ? GONE : THERE);
    d->ticket = t;
    d->flags = flags;
    d->size = (uint32_t)note.size;
    if (note.size)
        memcpy(d->bytes, note.data, note.size);
    rc = mpe__object_finish(e, o, out);
    if (rc != MPE_OK)
        forget(e, &t);
    return rc;
}

mpe_bytes
mpe_descriptor_note(mpe_engine *e, const mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(DESCRIPTOR)))
        return (mpe_bytes){NULL, 0};
    const struct descriptor *d = mpe__body(e, o);
    return (mpe_bytes){d->bytes, d->size};
}

int
mpe_descriptor_take(mpe_engine *e, mpe_object *o, int *fd)
{
    if (!fd)
        return MPE_EINVAL;
    if (!mpe__admits(e, o, MPE__KIND(DESCRIPTOR)))
        return mpe__refusal(e, o, MPE__KIND(DESCRIPTOR));
    const struct descriptor *d = mpe__body(e, o);
    int once = (d->flags & MPE_DESCRIPTOR_ONCE) != 0;
    if (mpe__load64(&o->word) == GONE)
        return MPE_ECLOSED;
    if (mpe__ticket_fetch(e->header->nonce, &d->ticket, once, fd) == 0) {
        if (once)
            mpe__store64(&o->word, GONE);
        return MPE_OK;
    }
    if (errno != ESTALE)
        return errno == EAGAIN ? MPE_ETIMEDOUT : MPE_ESYS;
    mpe__store64(&o->word, GONE);
    return MPE_ECLOSED;
}

static void
release(mpe_engine *e, mpe_object *o)
{
    const struct descriptor *d = mpe__body(e, o);
    if (mpe__load64(&o->word) == GONE)
        return;
    mpe__store64(&o->word, GONE);
    forget(e, &d->ticket);
}

void
mpe_descriptor_withdraw(mpe_engine *e, mpe_object *o)
{
    if (mpe__admits(e, o, MPE__KIND(DESCRIPTOR)))
        release(e, o);
}

static int
others_live(const mpe_engine *e)
{
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++)
        if (mpe__load32(&e->slots[i].state) != MPE__SLOT_FREE)
            return 1;
    return 0;
}

void
mpe_descriptor_linger(mpe_engine *e, uint64_t deadline)
{
    if (mpe__is_ours(e) && others_live(e))
        mpe__tickets_wait(e, deadline);
}

/* One that stays with its keeper is dropped by each process that has read it. */
static int
is_urgent(mpe_engine *e, const mpe_object *o, int removed)
{
    const struct descriptor *d = mpe__body(e, o);
    return mpe__load64(&o->word) != GONE && (removed || d->flags & MPE_DESCRIPTOR_ONCE);
}

const struct mpe__kind mpe__descriptor_kind = {
    .body_bytes = sizeof(struct descriptor), .destroy = release, .is_urgent = is_urgent};
