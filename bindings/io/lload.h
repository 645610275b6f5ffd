/* SPDX-License-Identifier: MIT
 *
 * lload.h - libraries that are opened when a feature is used for the first time.
 */
#ifndef LMPE_LLOAD_H
#define LMPE_LLOAD_H

#include <pthread.h>
#include <stddef.h>

/* A function of the library, and the place of its pointer in a struct. */
struct lmpe_load_name {
    const char *name; /* NULL: the last */
    size_t offset;
};

#define LMPE_LOAD_ERROR 256

/* Opens the library and fills in the pointers at `into`. Leaves a message in `error`, which names
 * what needs the library, when that fails.  Threads: any. */
void lmpe_load_library(const char *library, const char *user, const struct lmpe_load_name *names,
                       void *into, char *error);

/* The first use of a library. A failure may be one of the moment, such as a lack of descriptors, so
 * each later use tries again. */
struct lmpe_load_once {
    pthread_mutex_t lock;
    int done;
};
#define LMPE_LOAD_ONCE                                                                             \
    {                                                                                              \
        PTHREAD_MUTEX_INITIALIZER, 0                                                               \
    }

/* Calls load, which leaves a message in `error` (LMPE_LOAD_ERROR bytes) when it fails, unless it has
 * succeeded before. NULL, or the message, until the next call of this thread.  Threads: any. */
const char *lmpe_load_first(struct lmpe_load_once *once, void (*load)(char *error));

#endif
