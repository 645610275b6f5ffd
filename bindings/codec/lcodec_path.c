/* SPDX-License-Identifier: MIT */
/*
** lcodec_path.c - how the path to a value that cannot be sent is written: args[2].conn.
**
** The frames of the encoder show where it is, so nothing is kept in the normal case. The middle
** of a very long path is left out.
*/
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "codec/lcodec_int.h"

#define SHOWN 8 /* steps shown at each end of a long path */
#define MAX_TEXT 60

static void
add(mpe_buf *b, const char *text)
{
    /* Without memory the path is shorter; the error itself matters more. */
    (void)mpe_buf_append(b, text, strlen(text));
}

static int
is_name(const char *s, size_t n)
{
    size_t i;

    if (n == 0 || n > MAX_TEXT || isdigit((unsigned char)s[0]))
        return 0;
    for (i = 0; i < n; i++)
        if (!isalnum((unsigned char)s[i]) && s[i] != '_')
            return 0;
    return 1;
}

static void
add_quoted(mpe_buf *b, const char *s, size_t n)
{
    char text[MAX_TEXT + 8];
    size_t i, shown = n < MAX_TEXT ? n : MAX_TEXT;

    for (i = 0; i < shown; i++)
        text[i] = isprint((unsigned char)s[i]) ? s[i] : '?';
    snprintf(text + shown, sizeof text - shown, "%s", n > shown ? "..." : "");
    add(b, "[\"");
    add(b, text);
    add(b, "\"]");
}

static void
add_key(lua_State *L, mpe_buf *b, int idx)
{
    char text[64];
    const char *s;
    size_t n;

    switch (lua_type(L, idx)) {
    case LUA_TSTRING:
        s = lua_tolstring(L, idx, &n);
        if (is_name(s, n)) {
            add(b, ".");
            add(b, s);
        } else {
            add_quoted(b, s, n);
        }
        return;
    case LUA_TNUMBER:
        if (lua_isinteger(L, idx))
            snprintf(text, sizeof text, "[%lld]", (long long)lua_tointeger(L, idx));
        else
            snprintf(text, sizeof text, "[%.14g]", (double)lua_tonumber(L, idx));
        break;
    case LUA_TBOOLEAN:
        snprintf(text, sizeof text, "[%s]", lua_toboolean(L, idx) ? "true" : "false");
        break;
    default:
        snprintf(text, sizeof text, "[%s %p]", luaL_typename(L, idx), lua_topointer(L, idx));
        break;
    }
    add(b, text);
}

static void
add_root(lmpe_encoder *e, mpe_buf *b)
{
    const lmpe_encode_opts *o = e->opts;
    const char *root = o != NULL && o->root != NULL ? o->root : "value";
    int i = e->current - e->first;
    int named = o != NULL ? o->nnames : 0;
    char text[32];

    if (i < named) {
        add(b, o->names[i]);
        return;
    }
    add(b, root);
    if (e->n - named == 1 && (o == NULL || o->root == NULL))
        return;
    snprintf(text, sizeof text, "[%d]", i - named + 1);
    add(b, text);
}

static void
add_step(lmpe_encoder *e, mpe_buf *b, const lmpe_frame *f)
{
    char text[32];
    const char *name;

    if (f->kind == LMPE_FRAME_FUNC) {
        name = lua_getupvalue(e->L, f->idx, (int)f->i);
        if (name != NULL)
            lua_pop(e->L, 1);
        add(b, ".upvalue '");
        add(b, name == NULL || *name == '\0' ? "?" : name);
        add(b, "'");
        return;
    }
    if (f->phase == LMPE_AT_LIST) {
        snprintf(text, sizeof text, "[%zu]", f->i);
        add(b, text);
        return;
    }
    add_key(e->L, b, f->idx + 1);
    if (f->phase == LMPE_AT_KEY)
        add(b, " (the key)");
}

int
lmpe_encode_fail(lmpe_encoder *e, int code, const char *what)
{
    mpe_buf *b = &e->code;
    char text[48];
    size_t i;

    b->len = 0;
    add_root(e, b);
    for (i = 0; i < e->depth; i++) {
        if (i == SHOWN && e->depth > 2 * SHOWN) {
            snprintf(text, sizeof text, "...(%zu levels)...", e->depth - 2 * SHOWN);
            add(b, text);
            i = e->depth - SHOWN;
        }
        add_step(e, b, &e->frames[i]);
    }
    add(b, ": ");
    add(b, what);
    lua_pushlstring(e->L, (const char *)b->data, b->len);
    return code;
}
