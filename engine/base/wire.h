/* SPDX-License-Identifier: MIT */
/*
** wire.h - the format of values as engine files see it: the public part, and a step of walking values.
*/
#ifndef MPE_BASE_WIRE_H
#define MPE_BASE_WIRE_H

#include "base/buf.h"
#include "mpengine_wire.h"

/* How many values follow as parts of an item, the pairs of an open table not counted. */
uint64_t mpe__wire_parts(const mpe_wire_item *item);

#endif
