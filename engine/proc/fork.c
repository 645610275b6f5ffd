/* The start method fork: the child is a copy of this process, with a slot, a run queue and a
 * loop of its own. Before it exists, it is marked as a holder of everything its parent holds, so
 * no object it refers to can vanish before it runs. Only the calling thread exists in a child.
 * The work of other threads, including locks of malloc, stays half done there, so fork is
 * refused while there are threads that are not declared.
 */
#include "loop/loop.h"
#include "os/os.h"
#include "proc/proc.h"
#include "core/door.h"
#include "core/object.h"
#include "core/slot.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The thread sanitizer has a thread of its own, in a process that was forked as well. */
#ifdef __SANITIZE_THREAD__
enum { OF_CHECKERS = 1 };
#else
enum { OF_CHECKERS = 0 };
#endif

/* Are there threads besides those of libuv's pool, which is made anew in a child, of the engine,
 * and those that its user declares? */
static int
has_foreign_threads(mpe_engine *e)
{
    struct stat st;
    if (stat("/proc/self/task", &st) != 0 || st.st_nlink <= 3)
        return 0;
    unsigned long others = st.st_nlink - 3, pool = mpe__pool_threads();
    unsigned long known = e->proc->threads + mpe__offload_threads() + mpe__ticket_threads();
    if (others <= known + OF_CHECKERS)
        return 0;
    return others < pool || others - pool > known;
}

void
mpe_own_threads(mpe_engine *e, int delta)
{
    if (!mpe__is_ours(e))
        return;
    e->proc->threads += (uint32_t)delta;
}

/* The linker's symbols for the bounds of the code that this function is in. */
extern const char __ehdr_start[] __attribute__((visibility("hidden")));
extern const char etext[] __attribute__((visibility("hidden")));

static int
start_child(mpe_engine *e, const struct mpe__birth *b, const struct mpe__lines *lines)
{
    int rc = mpe__lines_forked(e, lines, b->flags);
    e->limiter_lines = NULL; /* of the parent's waiters */
    if (rc == MPE_OK)
        rc = mpe__birth_take(e, b);
    return rc == MPE_OK ? mpe__loop_abandon(e) : rc;
}

/* The child holds the objects that its message names, such as pipe ends, from the moment it has a
 * slot. */
static int
give(void *ud, uint64_t handle)
{
    const mpe_process *p = ud;
    const struct mpe__kind *kind = mpe__kind_named(p->e, handle);
    mpe_object *o;
    if (!kind->arrived || mpe_hold(p->e, handle, &o) != MPE_OK)
        return 0;
    kind->arrived(p->e, o, p->slot);
    mpe_drop(p->e, o);
    return 0;
}

static int
prepare(mpe_engine *e, const char *name, unsigned flags, mpe_bytes message,
        struct mpe__lines *lines, mpe_process **out)
{
    int rc = mpe__process_new(e, name, out);
    if (rc != MPE_OK)
        return rc;
    if ((rc = mpe__lines_open(e, *out, flags, lines)) != MPE_OK) {
        mpe__process_unmake(e, *out);
        return rc;
    }
    mpe__holds_copy_bits(e, (*out)->slot);
    mpe_wire_scan_handles(message.data, message.size, give, *out);
    return MPE_OK;
}

int
mpe_process_fork(mpe_engine *e, const char *name, unsigned flags, mpe_bytes message,
                 mpe_process **out, int *is_child)
{
    if (!name || !out || !is_child || mpe__lacks(message))
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    mpe_process *p;
    struct mpe__lines lines;
    *is_child = 0;
    if (has_foreign_threads(e) || mpe__other_threads_attached(e))
        return MPE_ETHREADS;
    int rc = prepare(e, name, flags, message, &lines, &p);
    if (rc != MPE_OK)
        return rc;
    struct mpe__birth birth = {p->slot, p->generation, 0, flags};
    unsigned held = mpe_standard_hold(); /* libuv makes a pipe anew in the child */
    pid_t pid = fork();
    int refused = errno;
    mpe_standard_release(held);
    if (pid == 0) /* the mappings of the code are not inherited: one fault instead of many */
        mpe__will_read(__ehdr_start, etext);
    if (pid == 0) {
        *is_child = 1;
        *out = NULL;
        mpe__adopt(e);
        rc = start_child(e, &birth, &lines);
        mpe__process_forget(e, p);
        return rc;
    }
    mpe__lines_close(e, &lines);
    if (pid < 0) {
        mpe__process_unmake(e, p);
        errno = refused;
        return MPE_ESYS;
    }
    mpe__process_started(p, pid);
    *out = p;
    return MPE_OK;
}
