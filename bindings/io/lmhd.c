/* SPDX-License-Identifier: MIT
 *
 * lmhd.c - libmicrohttpd, opened at run time, so that programs without a server do not load it.
 */
#include "io/lmhd.h"
#include "io/lload.h"

#ifdef LMPE_MHD

#include <stddef.h>

lmpe_mhd_api lmpe_mhd;
static struct lmpe_load_once loaded = LMPE_LOAD_ONCE;

static void
load(char *error)
{
    static const struct lmpe_load_name names[] = {
#define LMPE_MHD_NAME(name) {"MHD_" #name, offsetof(lmpe_mhd_api, name)},
        LMPE_MHD_MAP(LMPE_MHD_NAME)
#undef LMPE_MHD_NAME
            {NULL, 0}};
    lmpe_load_library("libmicrohttpd.so.12", "http.serve", names, &lmpe_mhd, error);
}

const char *
lmpe_mhd_load(void)
{
    return lmpe_load_first(&loaded, load);
}

#endif
