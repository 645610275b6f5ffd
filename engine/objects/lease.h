/* What readers ask of the board of a pool. See lease.c. */
#ifndef MPE_OBJECTS_LEASE_H
#define MPE_OBJECTS_LEASE_H

#include "mpengine_core.h"

/* The process of a worker that has started, 0: it has not. */
uint32_t mpe__lease_pid(const mpe_leases *b, uint64_t worker);
/* When it took its last task, or began its last timed item, by mpe_now. */
uint64_t mpe__lease_since(const mpe_leases *b, uint64_t worker);

#endif
