/* SPDX-License-Identifier: MIT
 *
 * lcurl_int.h - a multi handle, for lcurl.c and lcurl_idle.c.
 */
#ifndef LMPE_LCURL_INT_H
#define LMPE_LCURL_INT_H

#include "io/lcurl.h"

struct watched; /* lcurl.c */

/* Sockets that belong to curl, so that a child can close its copies. libcurl closes those that were
 * never connected without a word, so each has its number in the system too: when the descriptor is
 * another file by now, the record is out of date. */
struct descriptor {
    struct descriptor *next;
    int fd;
    ino_t number;
    uint64_t idle_since; /* 0: libcurl watches it */
};

struct lmpe_curl {
    struct lmpe_curl *next; /* of the state */
    lmpe *S;
    lmpe_connections *home; /* NULL: to be closed with the last transfer */
    CURLM *multi;           /* NULL: closed, and freed when its job runs */
    pid_t owner;
    uint32_t transfers;
    mpe_job job;
    mpe_waiter timer, retry, idle;
    int timer_due, retry_due, idle_due, idle_filed;
    uint64_t idle_ns;
    CURL *sweeper;
    struct watched *sockets, *ready;
    struct watched *current; /* curl handles its event; NULL once curl dropped it */
    struct descriptor *descriptors;
};

/* The socket that curl asks for; ud: the transfer, NULL: none is given. */
curl_socket_t lmpe_curl_open_socket(void *ud, curlsocktype purpose, struct curl_sockaddr *a);

/* Drops the records that are out of date. */
void lmpe_curl_forget_closed(struct lmpe_curl *c);

/* lcurl_idle.c: a descriptor is idle since then, 0: it is in use. */
void lmpe_curl_set_idle(struct lmpe_curl *c, int fd, uint64_t since);
/* Sweeps when a sweep is due, libcurl at most once a second; otherwise waits for that. */
void lmpe_curl_look_for_idle(struct lmpe_curl *c, uint64_t not_before);
void lmpe_curl_end_sweep(struct lmpe_curl *c);
/* The age in whole seconds, as libcurl counts it, above which connections are closed. */
long lmpe_curl_oldest(uint64_t idle_ns);
void lmpe_curl_on_idle(mpe_engine *e, mpe_waiter *w, int status);

#endif
