/* SPDX-License-Identifier: MIT
 *
 * lmemory.c - shared memory and Lua's collector. The collector sees a userdata of some fifty
 * bytes for each shared object. At each new object it is told by how much the arena has grown,
 * in any process. When a call finds no memory, all garbage is collected and swept, and the call
 * is made once more.
 */
#include "base/lrelease.h"
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
        lmpe_gc_step(L, kib < WEIGHED_MAX ? (unsigned)kib : WEIGHED_MAX);
}

/* Finalizers may encode and send values: the data encoded by the current call is kept from them.
 * Collects twice, since the objects that a finalizer refers to are garbage only after it. */
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
