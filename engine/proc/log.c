/* SPDX-License-Identifier: MIT */
/* What the engine and its binding have to say to the host: config.log. Private memory of the
 * process. */
#include "core/door.h"
#include "proc/proc.h"

#include "mpengine_core.h"

int
mpe_has_log(const mpe_engine *e)
{
    return mpe__is_ours(e) && e->proc->log;
}

void
mpe_log(mpe_engine *e, int level, const char *text, size_t n)
{
    if (!mpe_has_log(e) || !text || level < MPE_LOG_ERROR || level > MPE_LOG_DEBUG)
        return;
    e->proc->log(e->proc->log_ud, level, text, n);
}
