/* SPDX-License-Identifier: MIT
 *
 * lmodules.h - the library's own Lua modules, compiled: what tools/embed.c writes.
 */
#ifndef LMODULES_H
#define LMODULES_H

#include <stddef.h>

/* One module: where its code lies. Numbers and no pointers, which would have to be relocated. */
struct lmpe_module {
    char name[48]; /* "mpengine.co.tasks" */
    unsigned from, size;
};

extern const struct lmpe_module lmpe_modules[]; /* the last one has no name */
extern const unsigned char lmpe_modules_code[];

#endif
