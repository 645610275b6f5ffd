/* SPDX-License-Identifier: MIT */
/* What a host asks of mpe_open: a struct whose size tells which header the host was compiled with.
 * A smaller one lacks fields, which are then zero; a larger one may have fields that this library
 * does not know, as long as they ask for nothing.
 */
#include "proc/proc.h"
#include "core/door.h"

#include <string.h>

#define KNOWN_FLAGS (MPE_SERVED_BY_LOOP | MPE_ARENA_EXISTING | MPE_LUA_PROGRAM | MPE_READER)

int
mpe_version(void)
{
    return MPE_VERSION_NUMBER;
}

static int
is_zero(const uint8_t *bytes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (bytes[i])
            return 0;
    return 1;
}

int
mpe__config_read(const mpe_config *given, mpe_config *out)
{
    static const mpe_config defaults = MPE_CONFIG_INIT;
    size_t size = given ? given->size : 0;
    mpe_config c = defaults;
    if (given && size < sizeof given->size)
        return MPE_EINVAL;
    if (size > sizeof c && !is_zero((const uint8_t *)given + sizeof c, size - sizeof c))
        return MPE_EVERSION;
    if (given)
        memcpy(&c, given, size < sizeof c ? size : sizeof c);
    c.size = sizeof c;
    if (c.flags & ~KNOWN_FLAGS)
        return MPE_EINVAL;
    if (c.arena ? !*c.arena || strnlen(c.arena, 256) > 255 : (c.flags & MPE_ARENA_EXISTING) != 0)
        return MPE_EINVAL;
    *out = c;
    return MPE_OK;
}

void
mpe__config_keep(mpe_engine *e, const mpe_config *c)
{
    e->proc->flags = c->flags;
    e->proc->functions = c->functions;
    e->proc->log = c->log;
    e->proc->log_ud = c->log_ud;
}

void
mpe__config_share(mpe_engine *e, const mpe_engine *with)
{
    e->proc->functions = with->proc->functions;
    e->proc->log = with->proc->log;
    e->proc->log_ud = with->proc->log_ud;
}

unsigned
mpe_flags(const mpe_engine *e)
{
    return e ? e->proc->flags : 0;
}

int
mpe__start_check(const mpe_engine *e, const mpe_start *s)
{
    if (!s || s->size < sizeof *s)
        return MPE_EINVAL;
    if (!s->name || !s->executable || s->count < 0 || (s->count > 0 && !s->messages))
        return MPE_EINVAL;
    if (s->size > sizeof *s && !is_zero((const uint8_t *)s + sizeof *s, s->size - sizeof *s))
        return MPE_EVERSION;
    return mpe__is_ours(e) ? MPE_OK : mpe__refusal(e, NULL, 0);
}
