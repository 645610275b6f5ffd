/* SPDX-License-Identifier: MIT
 *
 * structs.c - an array of structs that two processes have. Both read it as an array of their own
 * struct; the sum is that of one field.
 */
#include "mpengine.h"

#include <stdio.h>

struct point {
    double x, y;
    int id;
    char name[16];
};
#define POINT "x:d,y:d,id:i,name:c16"

static int
number_all(mpe_engine *e, const void *args, size_t size, mpe_buf *result)
{
    mpe_object *points;
    uint64_t n;
    (void)result;
    if (mpe_unpack(e, args, size, "o", &points) != MPE_OK)
        return 1;
    struct point *p = (struct point *)mpe_array_data(e, points, NULL, &n);
    for (uint64_t i = 0; i < n; i++) {
        p[i].x += (double)i;
        p[i].id = (int)i + 1;
        snprintf(p[i].name, sizeof p[i].name, "no. %d", p[i].id);
    }
    mpe_drop(e, points);
    return 0;
}

static void
on_end(mpe_engine *e, void *done, int status, const void *result, size_t size)
{
    (void)e, (void)result, (void)size;
    *(int *)done = status == MPE_OK;
}

/* Has a worker number all points: whether it did. */
static int
number_elsewhere(mpe_engine *e, mpe_object *points)
{
    mpe_pool *pool = NULL;
    mpe_buf b;
    int done = 0;
    mpe_buf_init(&b);
    if (mpe_pool_open(e, MPE_FORK, 1, &pool) == MPE_OK && mpe_pack(e, &b, "o", points) == MPE_OK)
        mpe_pool_submit(pool, "number_all", b.data, b.len, MPE_FOREVER, on_end, &done);
    mpe_pool_close(pool, MPE_FOREVER);
    mpe_buf_free(&b);
    return done;
}

int
main(void)
{
    static const mpe_named_function functions[] = {{"number_all", number_all}, {NULL, NULL}};
    mpe_config config = MPE_CONFIG_INIT;
    mpe_engine *e = NULL;
    mpe_object *points = NULL, *xs = NULL;
    double sum = 0;
    config.functions = functions;
    int rc = mpe_open(&config, &e);
    if (rc == MPE_OK)
        rc = mpe_struct_create(e, POINT, 1000, 0, 0, &points);
    if (rc != MPE_OK || mpe_struct_size(POINT) != sizeof(struct point))
        return fprintf(stderr, "%s\n", mpe_strerror(rc)), 1;
    struct point *p = (struct point *)mpe_array_data(e, points, NULL, NULL);
    for (int i = 0; i < 1000; i++)
        p[i].x = 0.5;
    if (!number_elsewhere(e, points) || mpe_field_view(e, points, "x", 0, &xs) != MPE_OK)
        return 1;
    mpe_array_sum(e, xs, &sum);
    printf("%d, '%s': %.1f\n", p[999].id, p[999].name, p[999].x);
    printf("the sum of x is %.1f\n", sum);
    mpe_drop(e, xs);
    mpe_drop(e, points);
    mpe_close(e);
    return 0;
}
