/* Watching peers from inside libuv's poll, where a process cannot sleep on life words: an
 * unreferenced poll handle on a pidfd per live slot, of the thread that owns it, updated when the
 * membership has changed, and only while something shared is waited for. Which of them died does
 * not matter: all dead ones are reaped. While there are no descriptors left for some of them, or
 * the kernel has none for threads, the poll ends now and then to check. */
#include "loop/loop.h"
#include "os/os.h"
#include "core/death.h"
#include "core/slot.h"

#include <unistd.h>

static void
unwatch(mpe_engine *e, uint32_t slot)
{
    struct mpe__loop *l = e->loop;
    uv_poll_t *w = l->watches[slot];
    int fd = w->io_watcher.fd;
    l->watches[slot] = NULL;
    mpe__uv_drop(e, w);
    close(fd);
}

static void
on_death(uv_poll_t *handle, int status, int events)
{
    mpe_engine *e = handle->data;
    (void)status, (void)events;
    for (uint32_t i = 0; i < MPE__SLOTS; i++)
        if (e->loop->watches[i] == handle)
            unwatch(e, i);
    mpe__reap_all(e);
}

static void
watch(mpe_engine *e, uint32_t slot)
{
    uv_poll_t *w = mpe__new(&e->memory, sizeof *w);
    struct mpe__slot *s = &e->slots[slot];
    pid_t pid = (pid_t)mpe__load32(&s->pid), thread = (pid_t)mpe__slot_thread(s);
    int fd = w && thread ? mpe__pidfd_open_thread(pid, thread) : -1;
    if (fd < 0 || uv_poll_init(e->loop->uv, w, fd) != 0) {
        if (fd >= 0)
            close(fd);
        mpe__delete(&e->memory, w, sizeof *w);
        if (!mpe__is_dead(s))
            e->loop->blind = 1;
        return;
    }
    w->data = e;
    e->loop->watches[slot] = w;
    uv_poll_start(w, UV_READABLE, on_death);
    uv_unref((uv_handle_t *)w);
}

void
mpe__watch_peers(mpe_engine *e)
{
    struct mpe__loop *l = e->loop;
    uint32_t epoch = atomic_load(&e->header->live_epoch);
    if (l->entries == 0 || (epoch == l->watched_epoch && !l->blind))
        return;
    l->blind = 0;
    uint32_t top = mpe__load32(&e->header->slots_top);
    for (uint32_t i = 0; i < top; i++) {
        if (l->watches[i])
            unwatch(e, i);
        if (i != e->slot && mpe__is_live(&e->slots[i]))
            watch(e, i);
    }
    l->watched_epoch = epoch;
    mpe__reap_all(e); /* processes that died before their pidfd was open  */
}

void
mpe__watch_stop(mpe_engine *e)
{
    for (uint32_t i = 0; i < MPE__SLOTS; i++)
        if (e->loop->watches[i])
            unwatch(e, i);
}
