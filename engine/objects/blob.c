/* Blobs: bytes that never change, which messages name by handle instead of carrying them. A blob
 * is one block, written before the object is live, so a death never leaves half of one. */
#include "core/object.h"
#include "objects/doors.h"

#include <string.h>

struct blob {
    uint64_t size;
    uint8_t bytes[];
};

int
mpe_blob_create(mpe_engine *e, mpe_bytes bytes, mpe_object **out)
{
    if (!out || mpe__lacks(bytes))
        return MPE_EINVAL;
    if (!mpe__is_ours(e))
        return mpe__refusal(e, NULL, 0);
    mpe_object *o;
    int rc = mpe__object_begin(e, MPE_KIND_BLOB, bytes.size, &o);
    if (rc != MPE_OK)
        return rc;
    struct blob *b = mpe__body(e, o);
    b->size = bytes.size;
    if (bytes.size)
        memcpy(b->bytes, bytes.data, bytes.size);
    return mpe__object_finish(e, o, out);
}

mpe_bytes
mpe_blob_bytes(mpe_engine *e, const mpe_object *o)
{
    if (!mpe__admits(e, o, MPE__KIND(BLOB)))
        return (mpe_bytes){NULL, 0};
    const struct blob *b = mpe__body(e, o);
    return (mpe_bytes){b->bytes, b->size};
}

const struct mpe__kind mpe__blob_kind = {.body_bytes = sizeof(struct blob)};
