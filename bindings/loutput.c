/* SPDX-License-Identifier: MIT
 *
 * loutput.c - print and io.write, so that what ends in a newline reaches the terminal or pipe
 * whole, with several processes writing: pieces are collected and leave in one write under the
 * program's output lock. A program that has started no other process buffers io.write as stdio
 * does; print is flushed at once, as in stock Lua. Nothing is ever written twice after a fork,
 * since the buffer is emptied before it.
 */
#include "lmpe.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_MAX 65536u

typedef struct lmpe_output {
    mpe_buf buf;     /* what was written to stdout and has not left yet */
    int by_line;     /* a newline at the end makes it leave */
    int unbuffered;  /* setvbuf("no") */
} lmpe_output;

void
lmpe_output_flush(lmpe *S)
{
    lmpe_output *out = S->output;
    if (!out || out->buf.len == 0)
        return;
    fflush(stdout); /* what C code has printed before */
    mpe_write_whole(S->e, STDOUT_FILENO, out->buf.data, out->buf.len);
    mpe_buf_reset(&out->buf, BUFFER_MAX);
}

void
lmpe_output_forked(lmpe *S)
{
    S->output->by_line = 1;
    S->output->buf.len = 0;
}

/* Appends the strings and numbers first..last; raises for anything else. */
static void
collect(lua_State *L, mpe_buf *b, int first)
{
    int top = lua_gettop(L);
    for (int i = first; i <= top; i++) {
        size_t n;
        const char *s = luaL_checklstring(L, i, &n);
        if (mpe_buf_append(b, s, n) != MPE_OK)
            luaL_error(L, "write: out of memory");
    }
}

static int
ends_line(const mpe_buf *b)
{
    return b->len > 0 && b->data[b->len - 1] == '\n';
}

static int
write_stdout(lua_State *L, lmpe *S, int first)
{
    lmpe_output *out = S->output;
    size_t before = out->buf.len;
    int top = lua_gettop(L);
    for (int i = first; i <= top; i++) /* nothing half done */
        luaL_checkstring(L, i);
    collect(L, &out->buf, first);
    if (out->buf.len >= BUFFER_MAX || out->unbuffered ||
        (out->by_line && out->buf.len > before && ends_line(&out->buf)))
        lmpe_output_flush(S);
    return 0;
}

static int
print(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    mpe_buf *b = &S->output->buf;
    int n = lua_gettop(L);
    size_t before = b->len, len;
    for (int i = 1; i <= n; i++) {
        const char *s = luaL_tolstring(L, i, &len); /* may raise or print itself */
        if (i > 1)
            mpe_buf_append(b, "\t", 1);
        mpe_buf_append(b, s, len);
        lua_pop(L, 1);
    }
    (void)before;
    if (mpe_buf_append(b, "\n", 1) != MPE_OK)
        return luaL_error(L, "print: out of memory");
    lmpe_output_flush(S);
    return 0;
}

static FILE *
file_of(lua_State *L, int idx)
{
    luaL_Stream *s = luaL_testudata(L, idx, LUA_FILEHANDLE);
    return s && s->closef ? s->f : NULL;
}

/* Calls the library's own function, upvalue 2, with all arguments. */
static int
call_original(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int
write_stderr(lua_State *L, lmpe *S, int first)
{
    luaL_Buffer b;
    int top = lua_gettop(L);
    for (int i = first; i <= top; i++)
        luaL_checkstring(L, i);
    luaL_buffinit(L, &b);
    for (int i = first; i <= top; i++) {
        lua_pushvalue(L, i);
        luaL_addvalue(&b);
    }
    luaL_pushresult(&b);
    size_t n;
    const char *s = lua_tolstring(L, -1, &n);
    fflush(stderr);
    mpe_write_whole(S->e, STDERR_FILENO, s, n);
    return 0;
}

static int
write_to(lua_State *L, FILE *f, int first)
{
    lmpe *S = lmpe_self(L);
    if (f == stdout)
        return write_stdout(L, S, first);
    return write_stderr(L, S, first);
}

/* io.write(...) */
static int
io_write(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "_IO_output");
    FILE *f = file_of(L, -1);
    if (f != stdout && f != stderr) {
        lua_pop(L, 1);
        return call_original(L);
    }
    lua_insert(L, 1);
    write_to(L, f, 2);
    lua_settop(L, 1);
    return 1;
}

/* file:write(...) */
static int
file_write(lua_State *L)
{
    FILE *f = file_of(L, 1);
    if (f != stdout && f != stderr)
        return call_original(L);
    write_to(L, f, 2);
    lua_settop(L, 1);
    return 1;
}

/* io.flush(), file:flush(), file:seek(), file:close(), io.read(), io.close(): what was written goes
 * first. */
static int
flush_first(lua_State *L)
{
    lmpe_output_flush(lmpe_self(L));
    return call_original(L);
}

/* file:setvbuf(mode) */
static int
file_setvbuf(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    if (file_of(L, 1) != stdout)
        return call_original(L);
    const char *mode = luaL_checkstring(L, 2);
    S->output->unbuffered = strcmp(mode, "no") == 0;
    S->output->by_line = strcmp(mode, "full") != 0;
    lmpe_output_flush(S);
    return call_original(L);
}

/* flush(): for the Lua side, before it hands the descriptors on */
static int
flush(lua_State *L)
{
    lmpe_output_flush(lmpe_self(L));
    fflush(NULL);
    return 0;
}

/* write_error(text): one whole write to stderr */
static int
write_error(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    lmpe *S = lmpe_self(L);
    fflush(stderr);
    mpe_write_whole(S->e, STDERR_FILENO, s, n);
    return 0;
}

static void
replace(lua_State *L, lmpe *S, const char *name, lua_CFunction f)
{
    lua_pushlightuserdata(L, S);
    lua_getfield(L, -2, name);
    lua_pushcclosure(L, f, 2);
    lua_setfield(L, -2, name);
}

void
lmpe_open_output(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"flush", flush}, {"write_error", write_error}, {NULL, NULL}};
    S->output = calloc(1, sizeof *S->output);
    if (!S->output)
        luaL_error(L, "out of memory");
    mpe_buf_init(&S->output->buf);
    S->output->by_line = isatty(STDOUT_FILENO);
    lmpe_setfuncs(L, S, functions);
    lua_pushlightuserdata(L, S);
    lua_pushcclosure(L, print, 1);
    lua_setglobal(L, "print");
    if (lua_getglobal(L, "io") == LUA_TTABLE) {
        replace(L, S, "write", io_write);
        replace(L, S, "flush", flush_first);
        replace(L, S, "read", flush_first);
        replace(L, S, "close", flush_first);
    }
    lua_pop(L, 1);
    if (luaL_getmetatable(L, LUA_FILEHANDLE) == LUA_TTABLE &&
        lua_getfield(L, -1, "__index") == LUA_TTABLE) {
        replace(L, S, "write", file_write);
        replace(L, S, "flush", flush_first);
        replace(L, S, "seek", flush_first);
        replace(L, S, "close", flush_first);
        replace(L, S, "setvbuf", file_setvbuf);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}
