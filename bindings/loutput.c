/* SPDX-License-Identifier: MIT
 *
 * loutput.c - print and io.write, so that what ends in a newline reaches the terminal or pipe
 * whole, with several processes writing: pieces are collected and leave in one write under the
 * program's output lock. A program that has started no other process buffers io.write as stdio
 * does; print is flushed at once, as in stock Lua. Nothing is ever written twice after a fork,
 * since the buffer is emptied before it.
 *
 * Once the library is closed, Lua's own functions do it again.
 *
 * A reader that is gone (EPIPE) ends the program as SIGPIPE does, also when some library has made
 * that signal be ignored.
 */
#define LMPE_AS_LUA /* the messages are those of what is replaced */
#include "lmpe.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_MAX 65536u
#define LONGEST_LINE (16u << 20) /* a longer line leaves in pieces */

typedef struct lmpe_output {
    mpe_buf buf;    /* what was written to stdout and has not left yet */
    int by_line;    /* a line leaves when it is complete */
    int shared;     /* other processes write to the same descriptor */
    int unbuffered; /* setvbuf("no") */
    int full;       /* setvbuf("full") */
} lmpe_output;

/* Dies as a program does whose reader is gone. */
static void
end_by_pipe(lmpe *S)
{
    sigset_t one;
    mpe_leave(S->e);
    signal(SIGPIPE, SIG_DFL);
    sigemptyset(&one);
    sigaddset(&one, SIGPIPE);
    sigprocmask(SIG_UNBLOCK, &one, NULL);
    kill(getpid(), SIGPIPE);
    _exit(128 + SIGPIPE);
}

/* Writes the first size bytes of the buffer and keeps the rest. What cannot be written is lost, as with
 * stdio. The status of mpe_write_whole. */
static int
flush_first_bytes(lmpe *S, size_t size)
{
    lmpe_output *out = S->output;
    size_t rest = out->buf.len - size;
    fflush(stdout); /* what C code has printed before */
    int rc = mpe_write_whole(S->e, STDOUT_FILENO, out->buf.data, size);
    int saved = errno;
    memmove(out->buf.data, out->buf.data + size, rest);
    out->buf.len = rest;
    if (rest == 0)
        mpe_buf_reset(&out->buf, BUFFER_MAX);
    if (rc != MPE_OK && saved == EPIPE)
        end_by_pipe(S);
    errno = saved;
    return rc;
}

void
lmpe_output_flush(lmpe *S)
{
    if (S->output && S->e && S->output->buf.len > 0)
        flush_first_bytes(S, S->output->buf.len);
}

void
lmpe_output_forked(lmpe *S)
{
    lmpe_output *out = S->output;
    if (out->shared && out->by_line && out->buf.len == 0)
        return; /* the usual case: a store would copy the page */
    out->by_line = out->shared = 1;
    out->buf.len = 0;
}

void
lmpe_output_shared(lmpe *S)
{
    lmpe_output_flush(S);
    S->output->shared = 1;
    if (!S->output->full)
        S->output->by_line = 1;
}

void
lmpe_output_rescue(lmpe *S)
{
    lmpe_output *out = S->output;
    if (out && out->buf.len > 0 && write(STDOUT_FILENO, out->buf.data, out->buf.len) < 0)
        return;
}

/* The end of the last complete line that begins at or after from. */
static size_t
complete(const mpe_buf *b, size_t from)
{
    const void *at = b->len > from ? memrchr(b->data + from, '\n', b->len - from) : NULL;
    return at ? (size_t)((const uint8_t *)at - b->data) + 1 : 0;
}

/* Lets go what is due after bytes were added behind before. */
static int
let_go(lmpe *S, size_t before)
{
    lmpe_output *out = S->output;
    size_t lines = out->by_line ? complete(&out->buf, before) : 0;
    if (out->unbuffered)
        lines = out->buf.len;
    else if (out->buf.len - lines >= BUFFER_MAX && !out->shared)
        lines = out->buf.len;
    else if (out->buf.len - lines >= BUFFER_MAX && lines == 0)
        lines = out->buf.len < LONGEST_LINE ? complete(&out->buf, 0) : out->buf.len;
    return lines ? flush_first_bytes(S, lines) : MPE_OK;
}

static int
write_stdout(lua_State *L, lmpe *S, int first)
{
    mpe_buf *b = &S->output->buf;
    size_t before = b->len, n;
    int top = lua_gettop(L);
    for (int i = first; i <= top; i++) /* nothing half done */
        luaL_checkstring(L, i);
    for (int i = first; i <= top; i++) {
        const char *s = lua_tolstring(L, i, &n);
        if (mpe_buf_append(b, s, n) != MPE_OK) {
            b->len = before;
            return luaL_error(L, "write: out of memory");
        }
    }
    return let_go(S, before);
}

/* Calls Lua's own function, upvalue 2, with all arguments. */
static int
call_original(lua_State *L)
{
    lua_pushvalue(L, lua_upvalueindex(2));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, LUA_MULTRET);
    return lua_gettop(L);
}

static int
print(lua_State *L)
{
    lmpe *S = lmpe_self_or_closed(L);
    luaL_Buffer line;
    int n = lua_gettop(L);
    if (!S->e)
        return call_original(L);
    luaL_buffinit(L, &line);
    for (int i = 1; i <= n; i++) {
        if (i > 1)
            luaL_addchar(&line, '\t');
        luaL_tolstring(L, i, NULL); /* may raise, or print itself */
        luaL_addvalue(&line);
    }
    luaL_addchar(&line, '\n');
    luaL_pushresult(&line);
    size_t len;
    const char *s = lua_tolstring(L, -1, &len);
    if (mpe_buf_append(&S->output->buf, s, len) != MPE_OK)
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
    return mpe_write_whole(S->e, STDERR_FILENO, s, n);
}

/* The status of the write. */
static int
write_to(lua_State *L, FILE *f, int first)
{
    lmpe *S = lmpe_self(L);
    if (f == stdout)
        return write_stdout(L, S, first);
    return write_stderr(L, S, first);
}

/* The file, which is at index 1, or nil, message, errno. */
static int
write_result(lua_State *L, int status)
{
    if (status != MPE_OK)
        return luaL_fileresult(L, 0, NULL);
    lua_settop(L, 1);
    return 1;
}

/* io.write(...) */
static int
io_write(lua_State *L)
{
    lua_getfield(L, LUA_REGISTRYINDEX, "_IO_output");
    FILE *f = file_of(L, -1);
    if ((f != stdout && f != stderr) || !lmpe_self_or_closed(L)->e) {
        lua_pop(L, 1);
        return call_original(L);
    }
    lua_insert(L, 1);
    return write_result(L, write_to(L, f, 2));
}

/* file:write(...) */
static int
file_write(lua_State *L)
{
    FILE *f = file_of(L, 1);
    if ((f != stdout && f != stderr) || !lmpe_self_or_closed(L)->e)
        return call_original(L);
    return write_result(L, write_to(L, f, 2));
}

/* io.flush(), file:flush(), file:seek(), file:close(), io.read(), io.close(), io.popen(),
 * os.execute(): what was written goes first. */
static int
flush_first(lua_State *L)
{
    lmpe_output_flush(lmpe_self_or_closed(L));
    return call_original(L);
}

/* file:setvbuf(mode) */
static int
file_setvbuf(lua_State *L)
{
    lmpe *S = lmpe_self_or_closed(L);
    if (file_of(L, 1) != stdout || !S->e)
        return call_original(L);
    const char *mode = luaL_checkstring(L, 2);
    S->output->unbuffered = strcmp(mode, "no") == 0;
    S->output->full = strcmp(mode, "full") == 0;
    S->output->by_line = !S->output->full;
    lmpe_output_flush(S);
    return call_original(L);
}

/* flush(): for the Lua side, before it hands the descriptors on */
static int
flush(lua_State *L)
{
    lmpe_output_flush(lmpe_self_or_closed(L));
    fflush(NULL);
    return 0;
}

/* write_error(text): one whole write to stderr */
static int
write_error(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    lmpe *S = lmpe_self_or_closed(L);
    fflush(stderr);
    if (S->e)
        mpe_write_whole(S->e, STDERR_FILENO, s, n);
    else
        fwrite(s, 1, n, stderr);
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
    S->output = lmpe_place(S, sizeof *S->output);
    if (!S->output)
        luaL_error(L, "out of memory");
    mpe_buf_init(&S->output->buf);
    S->output->by_line = isatty(STDOUT_FILENO);
    lmpe_setfuncs(L, S, functions);
    lua_pushlightuserdata(L, S);
    lua_getglobal(L, "print");
    lua_pushcclosure(L, print, 2);
    lmpe_set_global(L, "print");
    if (lua_getglobal(L, "io") == LUA_TTABLE) {
        replace(L, S, "write", io_write);
        replace(L, S, "flush", flush_first);
        replace(L, S, "read", flush_first);
        replace(L, S, "close", flush_first);
        replace(L, S, "popen", flush_first);
    }
    lua_pop(L, 1);
    if (lua_getglobal(L, "os") == LUA_TTABLE)
        replace(L, S, "execute", flush_first);
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
