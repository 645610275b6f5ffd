/* The shared dict without Lua: the counterpart of raw/lmdb.c, on the same data. ns per get or set.
 * usage: dict get|set */
#include <mpengine.h>
#include <mpengine_wire.h>

#include "../raw/dict.h"

static mpe_engine *e;
static mpe_object *d;
static mpe_buf out;

static void
must(int status)
{
    if (status == MPE_OK)
        return;
    fprintf(stderr, "dict: %s\n", mpe_strerror(status));
    exit(1);
}

static void
get(long n)
{
    for (long i = 0; i < n; i++) {
        out.len = 0;
        must(mpe_dict_get(e, d, (mpe_bytes){keys[i % COUNT], KEY}, &out, NULL));
    }
}

static void
set(long n)
{
    for (long i = 0; i < n; i++)
        must(mpe_dict_put(e, d, (mpe_bytes){keys[i % COUNT], KEY}, (mpe_bytes){value, VALUE}, 0));
}

int
main(int argc, char **argv)
{
    if (argc != 2)
        return fprintf(stderr, "usage: dict get|set\n"), 2;
    make_keys();
    mpe_buf_init(&out);
    must(mpe_open(NULL, &e));
    must(mpe_dict_create(e, &d));
    set(COUNT);
    bench_ns(strcmp(argv[1], "get") == 0 ? get : set, 1000);
    mpe_close(e);
}
