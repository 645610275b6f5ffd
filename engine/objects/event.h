/* Event hooks. */
#ifndef MPE_OBJECTS_EVENT_H
#define MPE_OBJECTS_EVENT_H

#include "core/engine.h"

int mpe__event_ready(mpe_engine *e, mpe_object *o, int event);

#endif
