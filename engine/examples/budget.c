/* SPDX-License-Identifier: MIT
 *
 * budget.c - an allocator of the host: the engine gets its private memory from a budget. A call for
 * which there is none left fails and changes nothing; mpe_close gives all back.
 */
#include "mpengine_wire.h"

#include <stdio.h>
#include <stdlib.h>

struct budget {
    size_t used, most;
};

/* As lua_Alloc: old_size is 0 for a new block, size 0 frees. */
static void *
on_alloc(void *ud, void *block, size_t old_size, size_t size)
{
    struct budget *b = (struct budget *)ud;
    void *found = NULL;
    if (size > old_size && b->used - old_size + size > b->most)
        return NULL;
    if (size == 0)
        free(block);
    else if (!(found = realloc(block, size)))
        return NULL;
    b->used += size - old_size;
    return found;
}

int
main(void)
{
    struct budget budget = {0, 64 << 10};
    static const char large[100 << 10] = {0};
    mpe_config config = MPE_CONFIG_INIT;
    mpe_engine *e;
    mpe_buf b;
    config.alloc = on_alloc;
    config.alloc_ud = &budget;
    int rc = mpe_open(&config, &e);
    if (rc != MPE_OK)
        return fprintf(stderr, "%s\n", mpe_strerror(rc)), 1;
    printf("open: %s\n", budget.used > 0 ? "some is used" : "nothing is used");
    mpe_buf_init(&b);
    rc = mpe_pack(e, &b, "is", (int64_t)7, (const void *)large, sizeof large);
    printf("100 KiB: %s, %zu bytes are packed\n", mpe_strerror(rc), b.len);
    rc = mpe_pack(e, &b, "is", (int64_t)7, (const void *)large, (size_t)1000);
    printf("1000 bytes: %s, %zu bytes are packed\n", mpe_strerror(rc), b.len);
    mpe_buf_free(&b);
    mpe_close(e);
    printf("closed: %zu bytes are used\n", budget.used);
    return 0;
}
