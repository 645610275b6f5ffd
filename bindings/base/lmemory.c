/* SPDX-License-Identifier: MIT
 *
 * lmemory.c - shared memory and Lua's collector, which sees of a shared object a userdata of some fifty
 * bytes. It is told of what the arena has grown by, in whichever process, when the next object comes; and
 * when a call finds no memory, all garbage is collected and swept, and the call is made once more.
 */
#include "base/lobject.h"

#include <string.h>

#define WEIGHED_MAX (1u << 20) /* KiB in one step */

void
lmpe_weigh_growth(lua_State *L, lmpe *S)
{
    uint64_t growth = mpe_growth(S->e), kib = (growth - S->weighed) >> 10;
    if (kib == 0)
        return;
    S->weighed = growth;
    if (lua_gc(L, LUA_GCISRUNNING) == 1)
        lua_gc(L, LUA_GCSTEP, kib < WEIGHED_MAX ? (int)kib : (int)WEIGHED_MAX);
}

/* Finalizers may encode and send values: what the call under way has encoded is kept from them. Twice,
 * since what a finalizer has referred to is garbage only after it. */
int
lmpe_collect(lua_State *L, lmpe *S)
{
    if (S->encoding == LMPE_SCRATCHES)
        return 0;
    mpe_buf *scratch = S->scratch;
    uint8_t header[sizeof S->header];
    size_t header_len = S->header_len;
    memcpy(header, S->header, sizeof header);
    S->encoding++;
    lua_gc(L, LUA_GCCOLLECT);
    lua_gc(L, LUA_GCCOLLECT);
    mpe_reap_dead(S->e);
    mpe_sweep(S->e);
    S->encoding--;
    S->scratch = scratch;
    memcpy(S->header, header, sizeof header);
    S->header_len = header_len;
    return 1;
}
