/* SPDX-License-Identifier: MIT */
/* Numbers of threads, and what a child of fork(2) inherits: see door.h. */
#include "core/door.h"

#include <pthread.h>

_Thread_local uint64_t mpe__thread;
static mpe__a64 threads; /* numbers given, by this process and by those it was forked from */
static uint32_t forks;   /* how often this process was forked since the program began */

static void
begin_child(void)
{
    forks++;
    mpe__thread = 0;
}

static void
prepare(void)
{
    pthread_atfork(NULL, NULL, begin_child);
}

void
mpe__adopt(mpe_engine *e)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    pthread_once(&once, prepare);
    if (mpe__thread == 0)
        mpe__thread = atomic_fetch_add(&threads, 1) + 1;
    e->thread = mpe__thread;
    e->forks = forks;
}

int
mpe__is_inherited(const mpe_engine *e)
{
    return e->forks != forks;
}

int
mpe__refusal(const mpe_engine *e, const mpe_object *o, uint32_t kinds)
{
    if (!e || (!o && kinds))
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return MPE_EPERM;
    return kinds && !mpe__is_in_arena(e, o) ? MPE_ESTALE : MPE_ETYPE;
}
