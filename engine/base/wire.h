/* SPDX-License-Identifier: MIT */
/*
** wire.h - the format of values as engine files see it: the public part is all there is.
*/
#ifndef MPE_BASE_WIRE_H
#define MPE_BASE_WIRE_H

#include "base/buf.h"
#include "mpengine_wire.h"

#endif
