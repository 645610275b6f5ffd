/* SPDX-License-Identifier: MIT */
/* The smallest useful host: processes of its own square numbers. */
#include "mpengine.h"

#include <stdio.h>

static int
square(mpe_engine *e, const void *args, size_t size, mpe_buf *result)
{
    int64_t n = 0;
    return mpe_unpack(e, args, size, "i", &n) < 0 || mpe_pack(e, result, "i", n * n) < 0;
}

static void
on_square(mpe_engine *e, void *sum, int status, const void *result, size_t size)
{
    int64_t n = 0;
    if (status == MPE_OK && mpe_unpack(e, result, size, "i", &n) == MPE_OK)
        *(int64_t *)sum += n;
}

int
main(void)
{
    static const mpe_named_function functions[] = {{"square", square}, {NULL, NULL}};
    mpe_config config = MPE_CONFIG_INIT;
    mpe_engine *e = NULL;
    mpe_pool *pool = NULL;
    mpe_buf b;
    int64_t sum = 0;
    config.functions = functions;
    int rc = mpe_open(&config, &e);
    if (rc == MPE_OK)
        rc = mpe_pool_open(e, MPE_FORK, 2, &pool);
    mpe_buf_init(&b);
    for (int64_t i = 1; i <= 10 && rc == MPE_OK; i++, mpe_buf_reset(&b, 0))
        if ((rc = mpe_pack(e, &b, "i", i)) == MPE_OK)
            rc = mpe_pool_submit(pool, "square", b.data, b.len, MPE_FOREVER, on_square, &sum);
    mpe_buf_free(&b);
    mpe_pool_close(pool, MPE_FOREVER);
    mpe_close(e);
    printf("the sum of ten squares is %d (%s)\n", (int)sum, mpe_strerror(rc));
    return rc != MPE_OK;
}
