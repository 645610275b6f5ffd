/* SPDX-License-Identifier: MIT
 *
 * lload.c - see lload.h.
 */
#include "io/lload.h"
#include "mpengine_core.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

static void *
open_library(const char *library)
{
    unsigned held = mpe_standard_hold();
    void *lib = dlopen(library, RTLD_NOW | RTLD_LOCAL);
    mpe_standard_release(held);
    return lib;
}

void
lmpe_load_library(const char *library, const char *user, const struct lmpe_load_name *names,
                  void *into, char *error)
{
    void *lib = open_library(library);
    if (!lib) {
        const char *why = dlerror();
        snprintf(error, LMPE_LOAD_ERROR, "%s needs %s, which cannot be opened: %s%s", user, library,
                 why, strstr(why, strerror(EMFILE)) ? " (ulimit -n)" : "");
        return;
    }
    for (; names->name; names++) {
        void *f = dlsym(lib, names->name);
        if (!f) {
            snprintf(error, LMPE_LOAD_ERROR, "%s needs a newer %s: this one has no %s", user,
                     library, names->name);
            return;
        }
        memcpy((char *)into + names->offset, &f, sizeof f);
    }
}

const char *
lmpe_load_first(struct lmpe_load_once *once, void (*load)(char *error))
{
    static _Thread_local char error[LMPE_LOAD_ERROR];
    pthread_mutex_lock(&once->lock);
    error[0] = '\0';
    if (!once->done)
        load(error);
    once->done = !error[0];
    pthread_mutex_unlock(&once->lock);
    return error[0] ? error : NULL;
}
