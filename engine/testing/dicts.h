/* SPDX-License-Identifier: MIT */
/* Shared by the tests of dicts. */
#ifndef MPE_TEST_DICTS_H
#define MPE_TEST_DICTS_H

#include "testing/mpe_test.h"
#include "testing/procs.h"

#include <stdio.h>
#include <string.h>

static inline mpe_object *
new_dict(mpe_engine *e)
{
    mpe_object *o;
    REQUIRE_OK(mpe_dict_create(e, &o));
    return o;
}

static inline int
put(mpe_engine *e, mpe_object *d, const char *key, const char *value)
{
    return mpe_dict_put(e, d, mpe_test_bytes(key), mpe_test_bytes(value), 0);
}

/* The value of a key as a string, NULL when it is absent; valid until the next call. */
static inline const char *
get(mpe_engine *e, mpe_object *d, const char *key)
{
    static mpe_buf b;
    if (!b.data)
        mpe_buf_init(&b);
    b.len = 0;
    int rc = mpe_dict_get(e, d, mpe_test_bytes(key), &b, NULL);
    EXPECT(rc == MPE_OK || rc == MPE_ENOENT);
    REQUIRE_OK(mpe_buf_append(&b, "", 1));
    return rc == MPE_OK ? (const char *)b.data : NULL;
}

/* In the form that mpe_dict_update accepts. */
static inline void
add_record(mpe_buf *records, const char *key, const char *value)
{
    uint32_t sizes[2] = {(uint32_t)strlen(key), (uint32_t)strlen(value)};
    REQUIRE_OK(mpe_buf_append(records, sizes, sizeof sizes));
    REQUIRE_OK(mpe_buf_append(records, key, sizes[0]));
    REQUIRE_OK(mpe_buf_append(records, value, sizes[1]));
    REQUIRE_OK(mpe_buf_append(records, "\0\0\0\0\0\0\0", -(sizes[0] + sizes[1]) & 7));
}

/* Keys 0 to count - 1 get the value. */
static inline int
update(mpe_engine *e, mpe_object *d, int count, const char *value)
{
    mpe_buf b;
    mpe_buf_init(&b);
    for (int i = 0; i < count; i++) {
        char key[16];
        snprintf(key, sizeof key, "%d", i);
        add_record(&b, key, value);
    }
    int rc = mpe_dict_update(e, d, b.data, (uint64_t)count, 0);
    mpe_buf_free(&b);
    return rc;
}

/* Adds 1 to a value that is a uint64_t. */
static inline int
increment(const uint8_t *value, size_t size, uint8_t out[16], size_t *out_size, void *ud)
{
    uint64_t n = 0;
    (void)ud;
    if (value)
        memcpy(&n, value, size);
    n++;
    memcpy(out, &n, sizeof n);
    *out_size = sizeof n;
    return MPE_OK;
}

#endif
