/* SPDX-License-Identifier: MIT
 *
 * ldescriptors.h - which descriptors a worker closes.
 */
#ifndef LDESCRIPTORS_H
#define LDESCRIPTORS_H

#include "base/lmpe.h"

/* fd is a pipe to a program, or is not any more. */
void lmpe_note_pipe(int fd, int is_open);

#endif
