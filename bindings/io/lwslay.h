/* SPDX-License-Identifier: MIT
 *
 * lwslay.h - the functions of wslay, which is opened when the first connection becomes a WebSocket.
 * The library is optional, as that of lmhd.h.
 */
#ifndef LMPE_LWSLAY_H
#define LMPE_LWSLAY_H

#if defined LMPE_WSLAY && defined LMPE_MHD

#include <sys/types.h>
#include <wslay/wslay.h>

/* Those that are used, by name. */
#define LMPE_WSLAY_MAP(X)                                                                          \
    X(context_server_init)                                                                         \
    X(context_free)                                                                                \
    X(config_set_max_recv_msg_length)                                                              \
    X(recv)                                                                                        \
    X(send)                                                                                        \
    X(queue_msg)                                                                                   \
    X(queue_close)                                                                                 \
    X(set_error)                                                                                   \
    X(want_write)                                                                                  \
    X(get_read_enabled)                                                                            \
    X(get_close_received)                                                                          \
    X(get_status_code_received)                                                                    \
    X(get_status_code_sent)

typedef struct lmpe_wslay_api {
#define LMPE_WSLAY_MEMBER(name) __typeof__(wslay_event_##name) *name;
    LMPE_WSLAY_MAP(LMPE_WSLAY_MEMBER)
#undef LMPE_WSLAY_MEMBER
    /* Of GnuTLS, which libmicrohttpd has with it: the hash of the handshake, and TLS. */
    int (*hash_fast)(int algorithm, const void *text, size_t size, void *digest);
    ssize_t (*record_recv)(void *session, void *to, size_t room);
    ssize_t (*record_send)(void *session, const void *bytes, size_t size);
} lmpe_wslay_api;

extern lmpe_wslay_api lmpe_wslay; /* filled in by lmpe_wslay_load */

/* Opens the library. NULL, or the reason why there is none. Any thread. */
const char *lmpe_wslay_load(void);

#endif
#endif
