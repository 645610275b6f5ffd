/* SPDX-License-Identifier: MIT
 *
 * lhttpd.h - libmicrohttpd on the engine's loop: a daemon, its connections and their requests.
 *
 * lhttpd.c has the daemon, lhttpd_loop.c runs it, lhttpd_connection.c has its connections,
 * lhttpd_request.c what arrives, lhttpd_answer.c what is sent, and lwebsocket.c the connections that
 * are handed over. The library parses and writes HTTP; it calls
 * back from MHD_run only, which runs in the job of the daemon, and no Lua runs inside it. A request
 * that is complete waits in a list of the daemon, with its connection suspended, until a task takes
 * it; the answer resumes the connection.
 */
#ifndef LMPE_LHTTPD_H
#define LMPE_LHTTPD_H

#include "io/lmhd.h"
#include "task/ltask.h"

#ifdef LMPE_MHD

#include <netinet/in.h>

typedef struct lmpe_httpd lmpe_httpd;
typedef struct lmpe_request lmpe_request;

/* One connection; lives as long as the library's. */
struct lmpe_connection {
    struct lmpe_connection *next, **link;      /* all of the daemon */
    struct lmpe_connection *later, **due_link; /* those with a deadline; due_link NULL: none */
    uint64_t deadline;
    lmpe_httpd *h;
    lmpe_request *request;    /* that arrives or is answered; it has a reference */
    struct sockaddr_in6 peer; /* large enough for IPv4, too */
    int fd;
    uint8_t answers; /* an answer was sent */
    uint8_t lingers; /* its input was not read to the end: see lhttpd_connection.c */
    uint8_t ending;  /* this side has ended it */
};

struct lmpe_httpd {
    lmpe_httpd *next; /* of the state */
    lmpe *S;
    struct MHD_Daemon *mhd; /* NULL: closed */
    uint32_t forks;         /* of this process, when it was made: it is of no use in a child */
    int epoll;
    uint32_t refs; /* the userdata, and each request */
    mpe_job job;
    mpe_waiter readable, timer;
    uint8_t readable_filed, running, draining, streams;
    uint64_t timer_at;   /* MPE_FOREVER: it is not filed */
    uint64_t timeout_ns; /* MPE_FOREVER: none */
    uint64_t max_body;
    struct lmpe_connection *connections;
    struct lmpe_connection *first_due, **last_due;
    lmpe_request *first, **last; /* requests for next() */
    uint32_t active;             /* requests that are not over */
    uint32_t ended;              /* connections that have ended since next() told it */
    int *lingering;              /* sockets for next() */
    uint32_t lingering_count, lingering_room;
    struct sockaddr_in6 adding; /* the peer of the connection that is being added */
    uint32_t files;             /* answers that send a file: without a reader they raise SIGPIPE */
    mpe_waitlist takers;        /* in next() */
    char *cert, *key;
    char log[256];
};

enum lmpe_phase {
    LMPE_HEADERS,  /* its lines arrive */
    LMPE_HELD,     /* its handler runs, and has not asked for the body: suspended */
    LMPE_BODY,     /* its body arrives */
    LMPE_COMPLETE, /* all has arrived: suspended until it is answered */
    LMPE_ANSWERED
};

struct lmpe_request {
    lmpe_request *next; /* in the list of the daemon */
    lmpe_httpd *h;
    struct lmpe_connection *c;  /* NULL: the request is over */
    struct MHD_Connection *mhd; /* the same */
    char *target;
    const char *method; /* the library's, as long as mhd */
    uint32_t refs;      /* the connection, the userdata, the list */
    uint8_t phase;      /* enum lmpe_phase */
    uint8_t suspended, streams, discards, is_head;
    uint16_t refused; /* the status with which it is, when its body has arrived; 0 */
    struct sockaddr_in6 peer;
    mpe_buf header;       /* names and values, each with a zero byte behind it */
    mpe_buf body;         /* from `taken` on */
    size_t taken, wanted; /* wanted: by its reader */
    uint64_t received;
    mpe_waitlist waiters; /* the task of its handler: body, room for a piece, the upgrade */
    struct MHD_Response *response; /* for when the rest of its body was discarded */
    unsigned status;
    const char *piece; /* of an answer in pieces; its string is kept by the task */
    size_t piece_size;
    uint8_t hungry, last, failed; /* a piece is waited for; there is no other; nor will there be */
    uint8_t is_file;
    struct MHD_UpgradeResponseHandle *upgrade; /* NULL with TLS */
    int fd;                                    /* of the connection that was handed over; -1 */
    mpe_buf extra;                             /* what had arrived behind its request */
};

#define LMPE_HTTPD "mpengine.httpd"
#define LMPE_REQUEST "mpengine.httpd.request"

/* ---- lhttpd.c ---- */

/* Has the library look at its connections, soon. */
void lmpe_httpd_post(lmpe_httpd *h);
/* Is it this process's, and open? */
int lmpe_httpd_is_open(const lmpe_httpd *h);
/* Is it this process's, open or not, and not a copy of its parent's? */
int lmpe_httpd_is_ours(const lmpe_httpd *h);
void lmpe_httpd_drop(lmpe_httpd *h);

/* ---- lhttpd_loop.c ---- */

/* Sets what the loop calls. */
void lmpe_httpd_ready(lmpe_httpd *h);
/* Runs the library. Milliseconds until it wants to be run; UINT64_MAX: only when something arrives. */
uint64_t lmpe_httpd_run(lmpe_httpd *h);

/* ---- lhttpd_connection.c ---- */

/* The library has a new connection, or is about to close one. */
void lmpe_connection_notified(void *h, struct MHD_Connection *mhd, void **socket_context,
                              enum MHD_ConnectionNotificationCode what);
/* Shuts down those whose deadline has passed. */
void lmpe_connections_shut_late(lmpe_httpd *h);
/* The time to receive a request begins, or ends. */
void lmpe_connection_due(struct lmpe_connection *c);
void lmpe_connection_not_due(struct lmpe_connection *c);
/* shutdown(2); the peer gets no answer for it. */
void lmpe_connection_shut(struct lmpe_connection *c, int how);

/* ---- lhttpd_request.c ---- */

void *lmpe_request_begins(void *h, const char *target, struct MHD_Connection *mhd);
enum MHD_Result lmpe_request_arrives(void *h, struct MHD_Connection *mhd, const char *url,
                                     const char *method, const char *version, const char *bytes,
                                     size_t *size, void **request);
void lmpe_request_ends(void *h, struct MHD_Connection *mhd, void **request,
                       enum MHD_RequestTerminationCode why);
void lmpe_request_drop(lmpe_request *r);
/* Pushes the userdata of a request, with the caller's reference; and its method, target, path and,
 * when it has arrived, its body: 5 values. */
int lmpe_request_push(lua_State *L, lmpe_request *r);
lmpe_request *lmpe_check_request(lua_State *L);
void lmpe_request_suspend(lmpe_request *r);
void lmpe_request_resume(lmpe_request *r);

/* ---- lhttpd_answer.c ---- */

/* Answers with the response, as soon as the request is so far; takes it over. */
void lmpe_request_respond(lmpe_request *r, unsigned status, struct MHD_Response *response);
/* A response of a line of text after which the connection is closed, or NULL. */
struct MHD_Response *lmpe_refusal(unsigned status);
/* The connection was handed over, and is no longer used. */
void lmpe_request_end_upgrade(lmpe_request *r);

#endif
#endif
