/* SPDX-License-Identifier: MIT
 *
 * lload.h - libraries that are opened when a feature is used for the first time.
 */
#ifndef LMPE_LLOAD_H
#define LMPE_LLOAD_H

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

#endif
