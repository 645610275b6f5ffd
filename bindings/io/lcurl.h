/* SPDX-License-Identifier: MIT
 *
 * lcurl.h - libcurl on the engine's loop, without Lua: the functions of the library, which is
 * opened when the first request is made, and multi handles with their transfers and connections.
 */
#ifndef LMPE_LCURL_H
#define LMPE_LCURL_H

#include "base/lmpe.h"

#define CURL_DISABLE_TYPECHECK /* the functions are called through pointers */
#define CURL_DISABLE_DEPRECATION
#include <curl/curl.h>

/* The functions of the library that are used, by name. */
#define LMPE_CURL_MAP(X)                                                                           \
    X(global_init)                                                                                 \
    X(easy_init)                                                                                   \
    X(easy_setopt)                                                                                 \
    X(easy_getinfo)                                                                                \
    X(easy_send)                                                                                   \
    X(easy_recv)                                                                                   \
    X(easy_pause)                                                                                  \
    X(easy_strerror)                                                                               \
    X(easy_cleanup)                                                                                \
    X(multi_init)                                                                                  \
    X(multi_setopt)                                                                                \
    X(multi_assign)                                                                                \
    X(multi_add_handle)                                                                            \
    X(multi_remove_handle)                                                                         \
    X(multi_perform)                                                                               \
    X(multi_wait)                                                                                  \
    X(multi_socket_action)                                                                         \
    X(multi_info_read)                                                                             \
    X(multi_strerror)                                                                              \
    X(multi_cleanup)                                                                               \
    X(share_init)                                                                                  \
    X(share_setopt)                                                                                \
    X(share_cleanup)                                                                               \
    X(slist_append)                                                                                \
    X(slist_free_all)                                                                              \
    X(url)                                                                                         \
    X(url_set)                                                                                     \
    X(url_get)                                                                                     \
    X(url_cleanup)                                                                                 \
    X(free)

typedef struct lmpe_curl_api {
#define LMPE_CURL_MEMBER(name) __typeof__(curl_##name) *name;
    LMPE_CURL_MAP(LMPE_CURL_MEMBER)
#undef LMPE_CURL_MEMBER
} lmpe_curl_api;

extern lmpe_curl_api lmpe_libcurl; /* filled in by lmpe_curl_load */

/* One request. The caller opens it, sets options, starts it, waits on the list until there is
 * data, and closes it. */
typedef struct lmpe_transfer {
    lmpe *S;
    struct lmpe_curl *curl; /* NULL: not in progress */
    CURL *easy;
    struct curl_slist *headers, *resolve; /* that options point into */
    uint64_t deadline;                    /* of the waits for it */
    mpe_waitlist waiters;
    mpe_buf head;  /* the header lines of the last response */
    mpe_buf body;  /* data that has arrived and was not taken */
    int streaming; /* the body is taken in pieces: hold the peer back when it grows */
    int paused;
    int follows;       /* the body of a redirect is not needed */
    int status, moved; /* of the response whose header arrives; it has a Location */
    int socket_error;  /* errno of the last socket that could not be made */
    int done;
    int failed; /* a status of the engine, when memory was short */
    CURLcode result;
    char error[CURL_ERROR_SIZE];
} lmpe_transfer;

/* Connections that the transfers of one owner reuse, and that are closed when they have been
 * idle for a time. The caller embeds it, zeroed at first, and sets S and idle_ns. */
typedef struct lmpe_connections {
    lmpe *S;
    uint64_t idle_ns;
    struct lmpe_curl *curl; /* NULL: none yet */
} lmpe_connections;

/* Closes them, once the transfers in progress have ended; harmless when they are a parent
 * process's. */
void lmpe_connections_close(lmpe_connections *from);

/* The functions, or NULL and the reason. Any thread. */
const lmpe_curl_api *lmpe_curl_load(const char **why);
/* Makes an easy handle whose callbacks are the transfer's, which is zeroed. Errors: ENOMEM. */
int lmpe_transfer_open(lmpe *S, lmpe_transfer *t);
/* Starts it. NULL, or the reason why it cannot start. */
const char *lmpe_transfer_start(lmpe_connections *from, lmpe_transfer *t);
/* The data has been taken: continues if the transfer was held back. */
void lmpe_transfer_resume(lmpe_transfer *t);
/* Ends it, in any state; harmless when it is closed, or is a parent process's. */
void lmpe_transfer_close(lmpe_transfer *t);

#endif
