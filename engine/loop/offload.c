/* Work for threads: libuv's pool runs it, the loop hears of its end. Nothing of the engine may be
 * used by the work itself. A program that ends does not wait for work under way: see mpe__uv_close. */
#include "loop/loop.h"

#include <stdlib.h>

struct work {
    uv_work_t req; /* first: it is found by it */
    mpe_engine *e;
    void (*run)(void *ud);
    void (*done)(mpe_engine *e, void *ud, int status);
    void *ud;
};

static void
on_thread(uv_work_t *req)
{
    struct work *w = (struct work *)req;
    w->run(w->ud);
}

static void
on_end(uv_work_t *req, int status)
{
    struct work *w = (struct work *)req;
    w->e->loop->offloaded--;
    w->done(w->e, w->ud, status == 0 ? MPE_OK : MPE_ECANCELED);
    free(w);
}

int
mpe_offload(mpe_engine *e, void (*run)(void *ud), void (*done)(mpe_engine *e, void *ud, int status),
            void *ud)
{
    uv_loop_t *uv = mpe_loop(e);
    struct work *w = malloc(sizeof *w);
    if (!uv || !w) {
        free(w);
        return MPE_ENOMEM;
    }
    *w = (struct work){.e = e, .run = run, .done = done, .ud = ud};
    if (uv_queue_work(uv, &w->req, on_thread, on_end) != 0) {
        free(w);
        return MPE_ENOMEM;
    }
    e->loop->offloaded++;
    return MPE_OK;
}
