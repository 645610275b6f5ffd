/* The protocol between a process that asks the fork server, and the server. */
#ifndef MPE_PROC_SERVER_H
#define MPE_PROC_SERVER_H

#include "proc/proc.h"

#include <sys/socket.h>
#include <sys/un.h>

#define MPE__REQUEST_FDS 5 /* status pipe, standard descriptors, life line */
#define MPE__REQUEST_MAX (192u << 10)

/* A request: this struct, the working directory and the environment, as two consecutive texts.
 * The descriptors are sent along: the status pipe first, then those named by fds. */
struct mpe__request {
    uint64_t nonce;
    struct mpe__birth birth;
    uint32_t fds;              /* bit i: standard descriptor i; bit 3: the life line */
    uint32_t directory_size;   /* with its final zero */
    uint32_t environment_size; /* variables, each with its final zero */
};

socklen_t mpe__server_address(const mpe_engine *e, struct sockaddr_un *a);
/* The environment as one text; the caller deletes its size + 1 bytes. */
char *mpe__environment_text(const mpe_engine *e, uint32_t *size);

#endif
