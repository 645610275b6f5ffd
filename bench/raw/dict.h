/* The data of the dict rows, as in rows/dict.lua: COUNT keys of 16 bytes in random order, each a string of its own
 * somewhere in memory, and one value of 64 bytes. Included once per program. */
#ifndef DICT_H
#define DICT_H

#include <string.h>

#include "bench.h"

enum { COUNT = 100000, KEY = 16, VALUE = 64 };

static char *keys[COUNT], value[VALUE];

static inline void
make_keys(void)
{
    memset(value, 'v', sizeof value);
    for (int i = 0; i < COUNT; i++) {
        bench_check((keys[i] = malloc(KEY + 1)) != NULL, "malloc");
        snprintf(keys[i], KEY + 1, "key:%012d", i + 1);
    }
    srand(1);
    for (int i = COUNT - 1; i > 0; i--) {
        int j = rand() % (i + 1);
        char *held = keys[i];
        keys[i] = keys[j];
        keys[j] = held;
    }
}

#endif
