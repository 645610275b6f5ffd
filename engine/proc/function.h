/* SPDX-License-Identifier: MIT */
/* Processes that run a C function by its name, and what pool.c shares with them. */
#ifndef MPE_PROC_FUNCTION_H
#define MPE_PROC_FUNCTION_H

#include "proc/proc.h"

/* The function of that name, or NULL. */
mpe_function mpe__function_find(const mpe_engine *e, const char *name);
/* Do the bytes name shared objects, in values as mpe_pack makes them? */
int mpe__names_objects(const void *data, size_t size);

/* Starts a process that runs a function, or as a worker of a pool: what begins with a byte. */
enum mpe__role { MPE__ROLE_FUNCTION = 'f', MPE__ROLE_WORKER = 'w' };
int mpe__start_role(mpe_engine *e, int method, enum mpe__role role, const char *name,
                    mpe_bytes args, unsigned flags, mpe_process **out);
/* pool.c: the main function of a worker. Returns its exit code. */
int mpe__worker_run(mpe_engine *e, const void *args, size_t size);
/* pool.c: closes the pools that are still open. */
void mpe__pools_close(mpe_engine *e);

#endif
