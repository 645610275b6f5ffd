/* SPDX-License-Identifier: MIT */
/* The kinds of object that the calls of this layer take, for core/door.h. */
#ifndef MPE_OBJECTS_DOORS_H
#define MPE_OBJECTS_DOORS_H

#include "core/door.h"

#define MPE__QUEUES (MPE__KIND(QUEUE) | MPE__KIND(JOINABLE))
#define MPE__SEMAPHORES (MPE__KIND(SEMAPHORE) | MPE__KIND(BOUNDED))
#define MPE__ARRAYS                                                                                \
    (MPE__KIND(ARRAY) | MPE__KIND(VALUE) | MPE__KIND(RAW_ARRAY) | MPE__KIND(RAW_VALUE))
#define MPE__ARRAYS_AND_VIEWS (MPE__ARRAYS | MPE__KIND(ARRAY_VIEW))
/* A recursive lock, and the objects that carry one. */
#define MPE__RLOCKS (MPE__KIND(RLOCK) | MPE__KIND(ARRAY) | MPE__KIND(VALUE) | MPE__KIND(CONDITION))

#endif
