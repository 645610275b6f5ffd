/* The arena as a whole: creating its file and mapping it. */
#ifndef MPE_CORE_REGION_H
#define MPE_CORE_REGION_H

#include "core/engine.h"

/* Makes a new arena of at most limit bytes and maps it into e. Errors: ESYS,
 * EFILESIZE, EADDRESSES. */
int mpe__region_create(mpe_engine *e, uint64_t limit_bytes);
/* Maps the arena behind fd, which e then owns. Errors: ESYS, EVERSION. */
int mpe__region_attach(mpe_engine *e, int fd);
void mpe__region_unmap(mpe_engine *e);

#endif
