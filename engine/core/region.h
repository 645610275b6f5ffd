/* The arena as a whole: creating its file and mapping it. */
#ifndef MPE_CORE_REGION_H
#define MPE_CORE_REGION_H

#include "core/engine.h"

/* Makes a new arena of at most limit bytes, a file of that name, and maps it into e. Errors: ESYS,
 * EFILESIZE, EADDRESSES. */
int mpe__region_create(mpe_engine *e, uint64_t limit_bytes, const char *name);
/* Maps the arena behind fd, which e then owns; not after an error. Errors: ESYS, EVERSION. */
int mpe__region_attach(mpe_engine *e, int fd);
/* Has e use the mapping of another engine of this process. Any thread. */
void mpe__region_share(mpe_engine *e, mpe_engine *with);
void mpe__region_unmap(mpe_engine *e);
/* Maps the arena behind fd so that nothing can be written, into an e that has no slot: only for calls
 * that load. The descriptor stays the caller's. Errors: ESYS, EVERSION. */
int mpe__region_view(mpe_engine *e, int fd);
void mpe__region_view_end(mpe_engine *e);

#endif
