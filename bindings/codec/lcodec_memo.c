/* SPDX-License-Identifier: MIT */
/*
** lcodec_memo.c - the parts of the memo that are not on the path of every value.
*/
#include <stdlib.h>
#include <string.h>

#include "codec/lcodec_memo.h"
#include "mpengine_core.h"

#define FIRST_SLOTS 64u
#define KEPT_SLOTS (1u << 17) /* a larger map is given back when the next message starts */

static int
resize(lmpe_memo *m, uint32_t nslots)
{
    lmpe_memo old = *m;
    uint32_t i;

    m->slots = calloc(nslots, sizeof *m->slots);
    if (m->slots == NULL) {
        m->slots = old.slots;
        return MPE_ENOMEM;
    }
    m->mask = nslots - 1;
    for (i = 0; old.slots != NULL && i <= old.mask; i++)
        if (lmpe_memo_live(&old, &old.slots[i]))
            *lmpe_memo_find(m, old.slots[i].key) = old.slots[i];
    free(old.slots);
    return MPE_OK;
}

int
lmpe_memo_grow(lmpe_memo *m)
{
    if (m->mask >= UINT32_MAX / 2)
        return MPE_ENOMEM;
    return resize(m, (m->mask + 1) * 2);
}

int
lmpe_memo_start(lmpe_memo *m)
{
    m->used = 0;
    m->numbers = 0;
    m->gen += 2;
    if (m->slots != NULL && m->mask + 1 > KEPT_SLOTS)
        lmpe_memo_free(m);
    if (m->gen == 0 && m->slots != NULL)
        memset(m->slots, 0, ((size_t)m->mask + 1) * sizeof *m->slots);
    if (m->gen == 0)
        m->gen = 2; /* 0 is the gen of slots never used */
    return m->slots != NULL ? MPE_OK : resize(m, FIRST_SLOTS);
}

void
lmpe_memo_free(lmpe_memo *m)
{
    free(m->slots);
    m->slots = NULL;
    m->mask = 0;
}
