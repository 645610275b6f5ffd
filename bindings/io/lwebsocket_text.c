/* SPDX-License-Identifier: MIT
 *
 * lwebsocket_text.c - texts of a WebSocket: UTF-8, and the key of the handshake (RFC 6455).
 */
#include "io/lwebsocket.h"

#if defined LMPE_WSLAY && defined LMPE_MHD

#define SHA1 3 /* in GnuTLS */
#define SHA1_SIZE 20

/* Bytes of the character that begins here, in UTF-8; 0: it is none. */
static size_t
character(const unsigned char *s, size_t left)
{
    unsigned char low = 0x80, high = 0xbf;
    size_t n = *s < 0x80 ? 1 : *s >= 0xc2 && *s <= 0xdf ? 2 : *s >= 0xe0 && *s <= 0xef ? 3 : 4;
    if (n == 1)
        return 1;
    if (*s < 0xc2 || *s > 0xf4 || n > left)
        return 0;
    if (*s == 0xe0)
        low = 0xa0;
    else if (*s == 0xed)
        high = 0x9f;
    else if (*s == 0xf0)
        low = 0x90;
    else if (*s == 0xf4)
        high = 0x8f;
    if (s[1] < low || s[1] > high)
        return 0;
    for (size_t i = 2; i < n; i++)
        if (s[i] < 0x80 || s[i] > 0xbf)
            return 0;
    return n;
}

int
lmpe_ws_is_utf8(const char *text, size_t size)
{
    for (size_t i = 0, n; i < size; i += n)
        if ((n = character((const unsigned char *)text + i, size - i)) == 0)
            return 0;
    return 1;
}

/* ---- the handshake ---- */

static void
push_base64(lua_State *L, const unsigned char *bytes, size_t size)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    luaL_Buffer b;
    luaL_buffinit(L, &b);
    for (size_t i = 0; i < size; i += 3) {
        unsigned v = (unsigned)bytes[i] << 16 | (i + 1 < size ? bytes[i + 1] : 0u) << 8 |
                     (i + 2 < size ? bytes[i + 2] : 0u);
        luaL_addchar(&b, digits[v >> 18]);
        luaL_addchar(&b, digits[v >> 12 & 63]);
        luaL_addchar(&b, i + 1 < size ? digits[v >> 6 & 63] : '=');
        luaL_addchar(&b, i + 2 < size ? digits[v & 63] : '=');
    }
    luaL_pushresult(&b);
}

int
lmpe_ws_accept(lua_State *L)
{
    unsigned char digest[SHA1_SIZE];
    size_t size;
    const char *why = lmpe_wslay_load();
    if (why)
        return luaL_error(L, "%s", why);
    luaL_checkstring(L, 1);
    lua_settop(L, 1);
    lua_pushliteral(L, "258EAFA5-E914-47DA-95CA-C5AB0DC85B11");
    lua_concat(L, 2);
    const char *text = lua_tolstring(L, -1, &size);
    if (lmpe_wslay.hash_fast(SHA1, text, size, digest) != 0)
        return luaL_error(L, "a WebSocket needs SHA-1, which this GnuTLS does not have");
    push_base64(L, digest, sizeof digest);
    return 1;
}

#endif
