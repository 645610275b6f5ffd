/* SPDX-License-Identifier: MIT
 *
 * lwslay.c - wslay, opened at run time, so that programs without a WebSocket do not load it.
 */
#include "io/lwslay.h"
#include "io/lload.h"

#if defined LMPE_WSLAY && defined LMPE_MHD

#include <stddef.h>

lmpe_wslay_api lmpe_wslay;
static struct lmpe_load_once loaded = LMPE_LOAD_ONCE;

static void
load(char *error)
{
    static const struct lmpe_load_name names[] = {
#define LMPE_WSLAY_NAME(name) {"wslay_event_" #name, offsetof(lmpe_wslay_api, name)},
        LMPE_WSLAY_MAP(LMPE_WSLAY_NAME)
#undef LMPE_WSLAY_NAME
            {NULL, 0}};
    static const struct lmpe_load_name tls[] = {
        {"gnutls_hash_fast", offsetof(lmpe_wslay_api, hash_fast)},
        {"gnutls_record_recv", offsetof(lmpe_wslay_api, record_recv)},
        {"gnutls_record_send", offsetof(lmpe_wslay_api, record_send)},
        {NULL, 0}};
    lmpe_load_library("libwslay.so.1", "a WebSocket", names, &lmpe_wslay, error);
    if (!error[0])
        lmpe_load_library("libgnutls.so.30", "a WebSocket", tls, &lmpe_wslay, error);
}

const char *
lmpe_wslay_load(void)
{
    return lmpe_load_first(&loaded, load);
}

#endif
