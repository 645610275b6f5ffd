/* Event hooks. */
#ifndef MPE_SYNC_EVENT_H
#define MPE_SYNC_EVENT_H

#include "sync/engine.h"

int mpe__event_ready(mpe_engine *e, mpe_object *o, int event);

#endif
