/* SPDX-License-Identifier: MIT
 *
 * lmhd.c - libmicrohttpd, opened at run time, so that programs without a server do not load it.
 */
#include "io/lmhd.h"
#include "io/lload.h"

#ifdef LMPE_MHD

#include <pthread.h>
#include <stddef.h>

lmpe_mhd_api lmpe_mhd;
static char error[LMPE_LOAD_ERROR];
static pthread_once_t loaded = PTHREAD_ONCE_INIT;

static void
load(void)
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
    pthread_once(&loaded, load);
    return error[0] ? error : NULL;
}

#endif
