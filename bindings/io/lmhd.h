/* SPDX-License-Identifier: MIT
 *
 * lmhd.h - the functions of libmicrohttpd, which is opened when the first server starts. The
 * library is optional: without its headers LMPE_MHD is not defined (see the Makefile), and the
 * files that use it have nothing in them but a module that says so.
 */
#ifndef LMPE_LMHD_H
#define LMPE_LMHD_H

#ifdef LMPE_MHD

#include <microhttpd.h>

/* Those that are used, by name. */
#define LMPE_MHD_MAP(X)                                                                            \
    X(start_daemon)                                                                                \
    X(stop_daemon)                                                                                 \
    X(add_connection)                                                                              \
    X(run)                                                                                         \
    X(get_timeout)                                                                                 \
    X(get_daemon_info)                                                                             \
    X(get_connection_info)                                                                         \
    X(get_connection_values)                                                                       \
    X(suspend_connection)                                                                          \
    X(resume_connection)                                                                           \
    X(queue_response)                                                                              \
    X(create_response_from_buffer)                                                                 \
    X(create_response_from_callback)                                                               \
    X(create_response_from_fd_at_offset64)                                                         \
    X(create_response_for_upgrade)                                                                 \
    X(add_response_header)                                                                         \
    X(destroy_response)                                                                            \
    X(upgrade_action)                                                                              \
    X(get_reason_phrase_for)

typedef struct lmpe_mhd_api {
#define LMPE_MHD_MEMBER(name) __typeof__(MHD_##name) *name;
    LMPE_MHD_MAP(LMPE_MHD_MEMBER)
#undef LMPE_MHD_MEMBER
} lmpe_mhd_api;

extern lmpe_mhd_api lmpe_mhd; /* filled in by lmpe_mhd_load */

/* Opens the library. NULL, or the reason why there is none. Any thread. */
const char *lmpe_mhd_load(void);

#endif
#endif
