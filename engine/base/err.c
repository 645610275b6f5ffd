/* The one table of status codes: number, name, message. */
#include "mpengine.h"

const char *
mpe_strerror(int status)
{
    switch (status) {
#define MPE_STATUS_TEXT(name, value, text)                                                         \
    case MPE_##name:                                                                               \
        return text;
        MPE_STATUS_MAP(MPE_STATUS_TEXT)
#undef MPE_STATUS_TEXT
    case MPE_OWNER_DIED:
        return "owner_died";
    default:
        return "unknown status";
    }
}
