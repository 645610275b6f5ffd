/* SPDX-License-Identifier: MIT
 *
 * llibedit.c - libedit, opened at run time, so that only the interactive mode loads it.
 */
#include "process/llibedit.h"
#include "io/lload.h"

#ifdef LMPE_EDIT

#include <stddef.h>

lmpe_libedit_api lmpe_libedit;

const char *
lmpe_libedit_load(void)
{
    static char error[LMPE_LOAD_ERROR];
    static const struct lmpe_load_name names[] = {
#define LMPE_LIBEDIT_NAME(name) {#name, offsetof(lmpe_libedit_api, name)},
        LMPE_LIBEDIT_MAP(LMPE_LIBEDIT_NAME)
#undef LMPE_LIBEDIT_NAME
            {NULL, 0}};
    static const char *const libraries[] = {"libedit.so.0", "libedit.so.2"}; /* the last is named */
    for (size_t i = 0; i < sizeof libraries / sizeof *libraries; i++) {
        error[0] = '\0';
        lmpe_load_library(libraries[i], "line editing", names, &lmpe_libedit, error);
        if (!error[0])
            return NULL;
    }
    return error;
}

#endif
