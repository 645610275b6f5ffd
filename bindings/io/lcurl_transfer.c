/* SPDX-License-Identifier: MIT
 *
 * lcurl_transfer.c - libcurl itself, opened at the first request, and its callbacks for one
 * transfer: they gather bytes and wake the tasks that wait for them. No Lua here.
 */
#include "io/lcurl.h"
#include "io/lload.h"

#include <stdio.h>
#include <string.h>
#include <strings.h>

#define HOLD_BACK (256u << 10) /* bytes of a streamed body kept for its reader */

/* ---- the library ---- */

lmpe_curl_api lmpe_libcurl;
static struct lmpe_load_once loaded = LMPE_LOAD_ONCE;

static void
load(char *error)
{
    static const struct lmpe_load_name names[] = {
#define LMPE_CURL_NAME(name) {"curl_" #name, offsetof(lmpe_curl_api, name)},
        LMPE_CURL_MAP(LMPE_CURL_NAME)
#undef LMPE_CURL_NAME
            {NULL, 0}};
    lmpe_load_library("libcurl.so.4", "http", names, &lmpe_libcurl, error);
    if (error[0])
        return;
    unsigned held = mpe_standard_hold();
    if (lmpe_libcurl.global_init(CURL_GLOBAL_DEFAULT) != CURLE_OK)
        snprintf(error, LMPE_LOAD_ERROR, "libcurl cannot be initialised");
    mpe_standard_release(held);
}

const lmpe_curl_api *
lmpe_curl_load(const char **why)
{
    *why = lmpe_load_first(&loaded, load);
    return *why ? NULL : &lmpe_libcurl;
}

/* ---- what curl calls ---- */

static size_t
on_header(char *line, size_t size, size_t count, void *ud)
{
    lmpe_transfer *t = ud;
    size_t n = size * count;
    if (n >= 5 && memcmp(line, "HTTP/", 5) == 0) {
        t->head.len = 0; /* of another response: the earlier one was an interim response */
        t->moved = 0;
        t->status = 0;
        sscanf(line, "HTTP/%*s %3d", &t->status);
    } else if (n >= 9 && strncasecmp(line, "Location:", 9) == 0) {
        t->moved = t->status / 100 == 3;
    }
    if (mpe_buf_append(&t->head, line, n) == MPE_OK)
        return n;
    t->failed = MPE_ENOMEM;
    return 0;
}

static size_t
on_body(char *bytes, size_t size, size_t count, void *ud)
{
    lmpe_transfer *t = ud;
    size_t n = size * count;
    if (t->moved && t->follows)
        return n;
    if (t->streaming && t->body.len >= HOLD_BACK) {
        t->paused = 1;
        return CURL_WRITEFUNC_PAUSE;
    }
    if (mpe_buf_append(&t->body, bytes, n) != MPE_OK) {
        t->failed = MPE_ENOMEM;
        return 0;
    }
    if (t->streaming)
        mpe_waitlist_wake(t->S->e, &t->waiters, UINT32_MAX);
    return n;
}

/* ---- a transfer ---- */

int
lmpe_transfer_open(lmpe *S, lmpe_transfer *t)
{
    const lmpe_curl_api *with = &lmpe_libcurl;
    CURL *easy = with->easy_init();
    if (!easy)
        return MPE_ENOMEM;
    t->S = S;
    t->easy = easy;
    mpe_buf_init(&t->head);
    mpe_buf_init(&t->body);
    with->easy_setopt(easy, CURLOPT_PRIVATE, t);
    with->easy_setopt(easy, CURLOPT_ERRORBUFFER, t->error);
    with->easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    with->easy_setopt(easy, CURLOPT_HEADERDATA, t);
    with->easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    with->easy_setopt(easy, CURLOPT_WRITEDATA, t);
    with->easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    return MPE_OK;
}

void
lmpe_transfer_resume(lmpe_transfer *t)
{
    if (!t->paused || t->done)
        return;
    t->paused = 0;
    lmpe_libcurl.easy_pause(t->easy, CURLPAUSE_CONT);
}
