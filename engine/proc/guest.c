/* SPDX-License-Identifier: MIT */
/* The guest of an engine: a binding that must know when the host closes the engine first. Private
 * memory of the process. */
#include "core/door.h"
#include "proc/proc.h"

#include "mpengine_core.h"

int
mpe_guest_enter(mpe_engine *e, mpe_guest *guest)
{
    if (!e || !guest || !guest->closing)
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    if (e->guest && e->guest != guest)
        return MPE_EEXIST;
    e->guest = guest;
    return MPE_OK;
}

int
mpe_may_call(const mpe_engine *e)
{
    if (!e)
        return MPE_EINVAL;
    return mpe__is_ours(e) ? MPE_OK : mpe__refusal(e, NULL, 0);
}

void
mpe_guest_leave(mpe_engine *e, mpe_guest *guest)
{
    if (e && e->guest == guest)
        e->guest = NULL;
}

void
mpe__guest_close(mpe_engine *e, mpe_engine *usable)
{
    mpe_guest *guest = e->guest;
    e->guest = NULL;
    if (guest)
        guest->closing(usable, guest);
}
