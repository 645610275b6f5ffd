/* SPDX-License-Identifier: MIT
 *
 * ldescriptors.h - the room io: HTTP by libcurl, sockets, descriptors, names, other programs, luv
 * and the terminal, each with files and mostly a header of its own. They share only this, which
 * descriptors a worker closes, and offer nothing to other rooms: Lua calls them.
 */
#ifndef LDESCRIPTORS_H
#define LDESCRIPTORS_H

#include "base/lmpe.h"

#include <stdio.h>

/* fd is a pipe to a program, or is not any more. */
void lmpe_note_pipe(int fd, int is_open);
/* What the C library has read from a file and was not taken: lsubprocess.c */
size_t lmpe_bytes_buffered(FILE *f);

#endif
