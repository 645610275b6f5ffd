/* What a host without Lua waits for: ns per operation.
 * usage: host queue|send|find|pool
 *   queue  one item of 8 bytes from one thread to another, each with an engine of its own
 *   send   mpe_send from another thread, until the call runs on the engine's, which slept
 *   find   a name that an object has
 *   pool   a task of a pool of two processes, which does nothing */
#include <mpengine.h>
#include <string.h>

#include "../raw/wake.h"

static mpe_engine *e;
static mpe_object *o;
static mpe_handle queue;
static mpe_pool *pool;

static void
must(int status)
{
    if (status == MPE_OK)
        return;
    fprintf(stderr, "host: %s\n", mpe_strerror(status));
    exit(1);
}

/* ---- queue ---- */

static void *
produce(void *arg)
{
    mpe_engine *mine;
    mpe_object *q;
    must(mpe_open_thread(e, "producer", &mine));
    must(mpe_hold(mine, queue, &q));
    for (long i = 0; i < *(long *)arg; i++)
        must(mpe_put(mine, q, &i, sizeof i, MPE_FOREVER));
    mpe_drop(mine, q);
    mpe_close(mine);
    return NULL;
}

static void
consume(long n)
{
    pthread_t t;
    bench_check(pthread_create(&t, NULL, produce, &n) == 0, "pthread_create");
    for (long i = 0; i < n; i++) {
        mpe_message m;
        must(mpe_get(e, o, &m, MPE_FOREVER));
        mpe_message_free(e, &m);
    }
    pthread_join(t, NULL);
}

static void
measure_queue(void)
{
    must(mpe_queue_create(e, 1024, 0, &o));
    queue = mpe_handle_of(e, o);
    mpe_keep_alive(e, 1); /* the producer begins without an engine */
    bench_ns(consume, 10000);
    mpe_keep_alive(e, -1);
}

/* ---- send ---- */

static int done;

static void
on_call(mpe_engine *mine, void *ud)
{
    (void)mine;
    (void)ud;
    wake_arrive();
}

static void
on_end(mpe_engine *mine, void *ud)
{
    (void)mine;
    (void)ud;
    done = 1;
}

static void
kick(void)
{
    must(mpe_send(e, on_call, NULL));
}

static void *
sender(void *arg)
{
    wake_measure(NULL, kick);
    must(mpe_send(e, on_end, NULL));
    return arg;
}

static void
measure_send(void)
{
    pthread_t t;
    mpe_keep_alive(e, 1);
    bench_check(pthread_create(&t, NULL, sender, NULL) == 0, "pthread_create");
    must(mpe_run_until(e, &done));
    pthread_join(t, NULL);
    mpe_keep_alive(e, -1);
}

/* ---- find ---- */

static void
find(long n)
{
    mpe_object *found;
    for (long i = 0; i < n; i++) {
        must(mpe_find(e, "the name of an object", MPE_NOW, &found));
        mpe_drop(e, found);
    }
}

static void
measure_find(void)
{
    must(mpe_queue_create(e, 0, 0, &o));
    must(mpe_name(e, "the name of an object", o));
    bench_ns(find, 1000);
}

/* ---- pool ---- */

static long left;

static int
nothing(mpe_engine *mine, const void *args, size_t size, mpe_buf *result)
{
    (void)mine;
    (void)args;
    (void)size;
    (void)result;
    return 0;
}

static void
on_result(mpe_engine *mine, void *ud, int status, const void *result, size_t size)
{
    (void)mine;
    (void)ud;
    (void)result;
    (void)size;
    must(status);
    done = --left == 0;
}

static void
submit(long n)
{
    left = n;
    done = 0;
    for (long i = 0; i < n; i++)
        must(mpe_pool_submit(pool, "nothing", &i, sizeof i, MPE_FOREVER, on_result, NULL));
    must(mpe_run_until(e, &done));
}

static void
measure_pool(void)
{
    must(mpe_pool_open(e, MPE_FORK, 2, &pool));
    submit(100);
    bench_ns(submit, 1000);
    mpe_pool_close(pool, MPE_FOREVER);
}

int
main(int argc, char **argv)
{
    static const mpe_named_function functions[] = {{"nothing", nothing}, {NULL, NULL}};
    static const struct {
        const char *name;
        void (*measure)(void);
    } rows[] = {{"queue", measure_queue}, {"send", measure_send}, {"find", measure_find},
                {"pool", measure_pool}};
    mpe_config config = MPE_CONFIG_INIT;
    config.functions = functions;
    must(mpe_open(&config, &e));
    for (size_t i = 0; argc == 2 && i < sizeof rows / sizeof *rows; i++)
        if (strcmp(argv[1], rows[i].name) == 0) {
            rows[i].measure();
            mpe_close(e);
            return 0;
        }
    return fprintf(stderr, "usage: host queue|send|find|pool\n"), 2;
}
