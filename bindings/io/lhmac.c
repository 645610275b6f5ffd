/* SPDX-License-Identifier: MIT
 *
 * lhmac.c - what authentication needs: HMAC-SHA256 of OpenSSL's libcrypto, a comparison that takes
 * the same time whatever differs, random bytes, and the mode of a file with a key. The library is
 * opened at the first use, so that a program which authenticates nothing does without it.
 */
#include "io/lhmac.h"
#include "base/lsystem.h"
#include "base/lfinalize.h"
#include "io/lload.h"

#include <dlfcn.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>

#define MAC "mpengine.mac"
#define RANDOM_MAX 256 /* what getrandom gives whole */

static struct {
    const void *(*sha256)(void);
    unsigned char *(*hmac)(const void *kind, const void *key, int key_size,
                           const unsigned char *data, size_t size, unsigned char *digest,
                           unsigned *digest_size);
    int (*compare)(const void *a, const void *b, size_t size);
    void *(*context_new)(void);
    void (*context_free)(void *context);
    int (*init)(void *context, const void *key, int key_size, const void *kind, void *engine);
    int (*update)(void *context, const unsigned char *data, size_t size);
    int (*final)(void *context, unsigned char *digest, unsigned *digest_size);
} crypto;

static struct lmpe_load_once loaded = LMPE_LOAD_ONCE;

static void
find(void *library, const char *name, void *to, char *error)
{
    void *f = dlsym(library, name);
    if (f)
        memcpy(to, &f, sizeof f);
    else
        snprintf(error, LMPE_LOAD_ERROR, "this libcrypto has no %s", name);
}

static void
open_library(char *error)
{
    static const char *const names[] = {"libcrypto.so.3", "libcrypto.so.1.1"};
    static const struct {
        const char *name;
        void *to;
    } wanted[] = {{"EVP_sha256", &crypto.sha256},          {"HMAC", &crypto.hmac},
                  {"CRYPTO_memcmp", &crypto.compare},      {"HMAC_CTX_new", &crypto.context_new},
                  {"HMAC_CTX_free", &crypto.context_free}, {"HMAC_Init_ex", &crypto.init},
                  {"HMAC_Update", &crypto.update},         {"HMAC_Final", &crypto.final}};
    void *library = NULL;
    for (size_t i = 0; i < sizeof names / sizeof names[0] && !library; i++)
        library = dlopen(names[i], RTLD_NOW | RTLD_LOCAL);
    if (!library)
        snprintf(error, LMPE_LOAD_ERROR,
                 "OpenSSL's libcrypto is needed for authentication, and cannot be opened: %s",
                 dlerror());
    for (size_t i = 0; library && i < sizeof wanted / sizeof wanted[0]; i++)
        find(library, wanted[i].name, wanted[i].to, error);
}

static void
load(char *error)
{
    unsigned held = mpe_standard_hold();
    open_library(error);
    mpe_standard_release(held);
}

static void
need_crypto(lua_State *L)
{
    const char *why = lmpe_load_first(&loaded, load);
    if (why)
        luaL_error(L, "%s", why);
}

/* hmac_sha256(key, bytes) -> 32 bytes */
static int
hmac_sha256(lua_State *L)
{
    size_t key_size, size;
    unsigned char digest[LMPE_DIGEST_SIZE];
    const char *key = luaL_checklstring(L, 1, &key_size);
    const char *bytes = luaL_checklstring(L, 2, &size);
    need_crypto(L);
    luaL_argcheck(L, key_size <= INT32_MAX, 1, "too long");
    if (!crypto.hmac(crypto.sha256(), key, (int)key_size, (const unsigned char *)bytes, size,
                     digest, NULL))
        return luaL_error(L, "libcrypto's HMAC failed");
    lua_pushlstring(L, (const char *)digest, sizeof digest);
    return 1;
}

/* ---- a key that is prepared once ---- */

struct lmpe_mac {
    void *context;
};

static int
mac_free(lua_State *L)
{
    lmpe_mac *mac = lmpe_finalized(L, MAC, sizeof *mac);
    if (mac && mac->context)
        crypto.context_free(mac->context);
    return 0;
}

/* mac_key(key) -> the key, for the calls that sign and verify */
static int
mac_key(lua_State *L)
{
    size_t size;
    const char *key = luaL_checklstring(L, 1, &size);
    need_crypto(L);
    luaL_argcheck(L, size <= INT32_MAX, 1, "too long");
    lmpe_mac *mac = lua_newuserdatauv(L, sizeof *mac, 0);
    mac->context = NULL;
    luaL_setmetatable(L, MAC);
    mac->context = crypto.context_new();
    if (!mac->context || !crypto.init(mac->context, key, (int)size, crypto.sha256(), NULL))
        return luaL_error(L, "libcrypto's HMAC failed");
    return 1;
}

lmpe_mac *
lmpe_opt_mac(lua_State *L, int idx)
{
    return lua_isnoneornil(L, idx) ? NULL : luaL_checkudata(L, idx, MAC);
}

void
lmpe_mac_sign(lua_State *L, lmpe_mac *mac, const mpe_bytes *parts, int count,
              unsigned char digest[LMPE_DIGEST_SIZE])
{
    int ok = crypto.init(mac->context, NULL, 0, NULL, NULL); /* with the same key */
    for (int i = 0; i < count && ok; i++)
        ok = crypto.update(mac->context, parts[i].data, parts[i].size);
    if (!ok || !crypto.final(mac->context, digest, NULL))
        luaL_error(L, "libcrypto's HMAC failed");
}

int
lmpe_mac_same(const void *a, const void *b)
{
    return crypto.compare(a, b, LMPE_DIGEST_SIZE) == 0;
}

/* same_bytes(a, b) -> whether they are equal; the time tells only whether their lengths are */
static int
same_bytes(lua_State *L)
{
    size_t n, m;
    const char *a = luaL_checklstring(L, 1, &n), *b = luaL_checklstring(L, 2, &m);
    need_crypto(L);
    lua_pushboolean(L, n == m && crypto.compare(a, b, n) == 0);
    return 1;
}

/* random_bytes(n) -> as many, at most 256, for keys */
static int
random_bytes(lua_State *L)
{
    char bytes[RANDOM_MAX];
    lua_Integer n = luaL_checkinteger(L, 1);
    luaL_argcheck(L, n > 0 && n <= RANDOM_MAX, 1, "from 1 to 256 expected");
    ssize_t got;
    do
        got = getrandom(bytes, (size_t)n, 0);
    while (got < 0 && errno == EINTR);
    if (got != n)
        return luaL_error(L, "no random bytes: %s", lmpe_reason(errno));
    lua_pushlstring(L, bytes, (size_t)n);
    return 1;
}

/* file_mode(path) -> its permission bits | nil, message */
static int
file_mode(lua_State *L)
{
    struct stat st;
    if (stat(luaL_checkstring(L, 1), &st) != 0) {
        luaL_pushfail(L);
        lua_pushstring(L, lmpe_reason(errno));
        return 2;
    }
    lua_pushinteger(L, st.st_mode & 07777);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"hmac_sha256", hmac_sha256},   {"mac_key", mac_key},     {"same_bytes", same_bytes},
        {"random_bytes", random_bytes}, {"file_mode", file_mode}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, MAC);
    lua_pushcfunction(L, mac_free);
    lua_setfield(L, -2, "__gc");
    lua_pop(L, 1);
}

const lmpe_module lmpe_hmac_module = {.open = on_open};
