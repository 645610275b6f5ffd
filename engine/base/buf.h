/* SPDX-License-Identifier: MIT */
/*
** buf.h - the byte buffer as engine files see it: the public part is all there is.
*/
#ifndef MPE_BASE_BUF_H
#define MPE_BASE_BUF_H

#include "mpengine_wire.h"

#endif
