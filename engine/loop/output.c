/* Output: the processes of the program write to stdout and stderr one at a time, so that texts
 * longer than a pipe takes at once do not mix. The lock for that is a Lock like those of
 * scripts: entry 0 of the object table, which names no object. A writer may wait for it like for
 * any other lock, or blocks here.
 *
 * A writer that is killed leaves a partial line, and the abandoned lock, for the next one to
 * take.
 */
#include "loop/loop.h"
#include "objects/lock.h"
#include "core/door.h"

#include <errno.h>
#include <poll.h>
#include <unistd.h>

void
mpe__output_create(mpe_engine *e)
{
    atomic_store(&e->objects[0].kind, MPE_KIND_LOCK);
}

mpe_object *
mpe_output_lock(mpe_engine *e)
{
    if (!mpe__is_ours(e))
        return NULL;
    return &e->objects[0];
}

static void
on_fire(mpe_engine *e, mpe_waiter *w, int status)
{
    (void)e, (void)w, (void)status; /* w->fired shows it */
}

/* Takes the lock. Nothing else runs meanwhile: as in write(2), this process blocks. */
static void
acquire(mpe_engine *e, mpe_object *lock)
{
    mpe_waiter w = {.fire = on_fire};
    int filed = 0;
    mpe_spin_for(e, lock, MPE_EVENT_READY);
    while (mpe__lock_take(e, lock, MPE__OWNER_HOST) == MPE_EAGAIN) {
        if (!filed || w.fired) {
            filed = mpe_wait_object(e, &w, lock, MPE_EVENT_READY, MPE_FOREVER) == MPE_OK;
        } else {
            mpe__sleep_for_bell(e);
            mpe__dispatch_bell(e);
        }
    }
    if (filed)
        mpe_wait_stop(e, &w);
}

static int
write_all(int fd, const uint8_t *bytes, size_t size)
{
    while (size > 0) {
        ssize_t n = write(fd, bytes, size);
        if (n >= 0) {
            bytes += n;
            size -= (size_t)n;
        } else if (errno == EAGAIN) { /* another process has made it non-blocking */
            struct pollfd p = {.fd = fd, .events = POLLOUT};
            poll(&p, 1, -1);
        } else if (errno != EINTR) {
            return MPE_ESYS;
        }
    }
    return MPE_OK;
}

int
mpe_write_whole(mpe_engine *e, int fd, const void *bytes, size_t size)
{
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    mpe_object *lock = mpe_output_lock(e);
    mpe_lock_state state;
    mpe_lock_state_get(e, lock, &state);
    int is_ours = state.locked && state.slot == e->slot;
    if (!is_ours)
        acquire(e, lock);
    int rc = write_all(fd, bytes, size);
    int saved = errno;
    if (!is_ours)
        mpe__lock_give(e, lock);
    errno = saved;
    return rc;
}
