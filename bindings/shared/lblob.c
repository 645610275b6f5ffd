/* SPDX-License-Identifier: MIT
 *
 * lblob.c - the codec's access to shared objects: the handle of an object, the object of a
 * handle, and blobs, the objects of bytes that carry the code of functions.
 */
#include "shared/lshared.h"
#include "codec/lcodec.h"

static int
to_handle(lua_State *L, int idx, uint64_t *h)
{
    lmpe_box *b = lmpe_test_any(L, idx);
    if (!b || !b->o)
        return 0;
    *h = b->h;
    return 1;
}

static int
from_handle(lua_State *L, uint64_t h)
{
    lmpe *S = lmpe_of(L);
    int rc = S ? lmpe_push_handle(L, S, h) : MPE_ESTALE;
    if (rc == MPE_OK)
        lmpe_box_arrived(lua_touserdata(L, -1));
    return rc;
}

/* ---- blobs ---- */

static int
share(lua_State *L, const void *bytes, size_t n)
{
    lmpe *S = lmpe_of(L);
    mpe_object *o;
    int rc = MPE_ESTALE, tries = 0;
    do
        rc = S ? mpe_blob_create(S->e, (mpe_bytes){bytes, n}, &o) : MPE_ESTALE;
    while (lmpe_try_again(L, S, rc, &tries));
    return rc == MPE_OK ? lmpe_push_object(L, S, o, mpe_handle_of(S->e, o)) : rc;
}

static const void *
shared(lua_State *L, int idx, size_t *n)
{
    lmpe_box *b = lmpe_test_any(L, idx);
    if (!b || !b->o || !b->S->e || mpe_handle_kind(b->h) != MPE_KIND_BLOB)
        return NULL;
    mpe_bytes bytes = mpe_blob_bytes(b->S->e, b->o);
    *n = bytes.size;
    return bytes.data;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const lmpe_codec_hooks hooks = {.to_handle = to_handle,
                                           .from_handle = from_handle,
                                           .share = share,
                                           .shared = shared,
                                           .pass = lmpe_descriptor_pass,
                                           .take_back = lmpe_descriptor_take_back,
                                           .receive = lmpe_descriptor_receive};
    lmpe_codec_set_hooks(&hooks);
    lmpe_new_type(L, S, &(lmpe_type){.kind = MPE_KIND_BLOB});
}

const lmpe_module lmpe_blob_module = {.open = on_open};
