/* SPDX-License-Identifier: MIT
 *
 * loutput.c - print and io.write, so that text ending in a newline reaches the terminal or pipe
 * whole, with several processes writing. Pieces are collected and written together (lstream.c),
 * and the task that wrote them waits until that is done. A program that has started no other
 * process buffers io.write as stdio does; print is flushed at once, as in stock Lua. Nothing is
 * ever written twice after a fork, since the buffer is emptied before it.
 *
 * Once the library is closed, Lua's own functions are used again.
 *
 * In a host all of this is the host's: print and io stay as they are.
 *
 * A reader that is gone (EPIPE) ends the program as SIGPIPE does, also when a library has made
 * that signal ignored.
 */
#define LMPE_AS_LUA /* the messages are those of the replaced functions */
#include "base/lmodules.h"
#include "process/lprocess.h"
#include "process/lstream.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define BUFFER_MAX 65536u
#define LONGEST_LINE (16u << 20) /* a longer line leaves in pieces */

typedef struct lmpe_output {
    lmpe_stream out, err;
    int by_line;    /* a line is written when it is complete */
    int shared;     /* other processes write to the same descriptor */
    int unbuffered; /* setvbuf("no") */
    int full;       /* setvbuf("full") */
} lmpe_output;

/* Everything written must be sent, after the output of C code. */
static lmpe_stream *
all_of_stdout(lmpe *S)
{
    lmpe_stream *out = &S->output->out;
    fflush(stdout);
    out->due = out->buf.len;
    return out;
}

/* Blocks. */
void
lmpe_output_flush(lmpe *S)
{
    if (!S->output || !S->e)
        return;
    if (S->output->out.buf.len > 0)
        lmpe_stream_drain(all_of_stdout(S));
    lmpe_stream_drain(&S->output->err);
}

void
lmpe_output_forked(lmpe *S)
{
    lmpe_output *o = S->output;
    if (o->shared && o->by_line && o->out.buf.len == 0 && o->err.buf.len == 0)
        return; /* the usual case: a store would copy the page */
    o->by_line = o->shared = 1;
    lmpe_stream_forked(&o->out);
    lmpe_stream_forked(&o->err);
}

void
lmpe_output_shared(lmpe *S)
{
    lmpe_output_flush(S);
    S->output->shared = 1;
    if (!S->output->full)
        S->output->by_line = 1;
}

int
lmpe_output_is_mid_line(const lmpe *S)
{
    return S->output->out.mid_line || S->output->err.mid_line;
}

void
lmpe_output_rescue(lmpe *S)
{
    lmpe_stream *out = S->output ? &S->output->out : NULL;
    if (out && out->buf.len > out->left &&
        write(STDOUT_FILENO, out->buf.data + out->left, out->buf.len - out->left) < 0)
        return;
}

/* The end of the last complete line that begins at or after from. */
static size_t
complete(const mpe_buf *b, size_t from)
{
    const void *at = b->len > from ? memrchr(b->data + from, '\n', b->len - from) : NULL;
    return at ? (size_t)((const uint8_t *)at - b->data) + 1 : 0;
}

/* The amount to send after bytes were added at position before. */
static size_t
due_after(const lmpe_output *o, size_t before)
{
    const lmpe_stream *out = &o->out;
    size_t due = o->by_line ? complete(&out->buf, before) : 0;
    if (due < out->due)
        due = out->due;
    if (o->unbuffered)
        return out->buf.len;
    if (out->buf.len - due < BUFFER_MAX)
        return due;
    if (!o->shared)
        return out->buf.len;
    if (due == 0)
        return out->buf.len < LONGEST_LINE ? complete(&out->buf, 0) : out->buf.len;
    return due;
}

/* Appends the arguments from first on, or raises and appends nothing. */
static void
append(lua_State *L, lmpe_stream *st, int first)
{
    size_t before = st->buf.len, n;
    int top = lua_gettop(L);
    for (int i = first; i <= top; i++)
        luaL_checkstring(L, i);
    for (int i = first; i <= top; i++) {
        const char *s = lua_tolstring(L, i, &n);
        if (lmpe_stream_append(st, s, n) != MPE_OK) {
            st->buf.len = before;
            luaL_error(L, "write: out of memory");
        }
    }
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
finish_print(lua_State *L, lmpe *S, int status)
{
    (void)L, (void)S, (void)status;
    return 0;
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
    append(L, &S->output->out, n + 1);
    return lmpe_stream_let_go(L, all_of_stdout(S), finish_print);
}

static FILE *
file_of(lua_State *L, int idx)
{
    luaL_Stream *s = luaL_testudata(L, idx, LUA_FILEHANDLE);
    return s && s->closef ? s->f : NULL;
}

/* The file, which is at index 1, or nil, message, errno. */
static int
finish_write(lua_State *L, const lmpe_stream *st)
{
    errno = st->error;
    if (st->error)
        return luaL_fileresult(L, 0, NULL);
    lua_settop(L, 1);
    return 1;
}

static int
finish_out(lua_State *L, lmpe *S, int status)
{
    (void)status;
    return finish_write(L, &S->output->out);
}

static int
finish_err(lua_State *L, lmpe *S, int status)
{
    (void)status;
    return finish_write(L, &S->output->err);
}

/* The file, stdout or stderr, is at index 1, the text to write after it. */
static int
write_to(lua_State *L, lmpe *S, FILE *f)
{
    lmpe_output *o = S->output;
    lmpe_stream *st = f == stdout ? &o->out : &o->err;
    size_t before = st->buf.len;
    append(L, st, 2);
    fflush(f);
    st->due = f == stdout ? due_after(o, before) : st->buf.len;
    return lmpe_stream_let_go(L, st, f == stdout ? finish_out : finish_err);
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
    return write_to(L, lmpe_self(L), f);
}

/* file:write(...) */
static int
file_write(lua_State *L)
{
    FILE *f = file_of(L, 1);
    if ((f != stdout && f != stderr) || !lmpe_self_or_closed(L)->e)
        return call_original(L);
    return write_to(L, lmpe_self(L), f);
}

static int
then_call_original(lua_State *L, lmpe *S, int status)
{
    (void)status;
    S->output->out.mid_line = 0;
    return call_original(L);
}

/* The same, or nil, message, errno when the pending output could not be written. */
static int
then_call_or_tell(lua_State *L, lmpe *S, int status)
{
    errno = S->output->out.error;
    return errno ? luaL_fileresult(L, 0, NULL) : then_call_original(L, S, status);
}

static int
flush_then(lua_State *L, lmpe_finish_fn finish)
{
    lmpe *S = lmpe_self_or_closed(L);
    if (S->e)
        S->output->out.mid_line = S->output->err.mid_line = 0;
    if (!S->e || S->output->out.buf.len == 0)
        return call_original(L);
    return lmpe_stream_let_go(L, all_of_stdout(S), finish);
}

/* io.read(), io.popen(), os.execute(): pending output is sent first. What follows it on a terminal is not
 * known, but mostly ends the line. */
static int
flush_first(lua_State *L)
{
    return flush_then(L, then_call_original);
}

/* file:flush(), file:seek(), file:close(): the same for stdout and its kind, and their result says whether
 * it was written. */
static int
flush_file(lua_State *L)
{
    return file_of(L, 1) == stdout ? flush_then(L, then_call_or_tell) : call_original(L);
}

/* io.flush(), io.close([file]): the same, by default for the file that io.write writes to. */
static int
flush_current(lua_State *L)
{
    if (!lua_isnone(L, 1))
        return flush_file(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_IO_output");
    FILE *f = file_of(L, -1);
    lua_pop(L, 1);
    return f == stdout ? flush_then(L, then_call_or_tell) : call_original(L);
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
    return lmpe_stream_let_go(L, all_of_stdout(S), then_call_or_tell);
}

/* flush(): for the Lua side, before it passes the descriptors on */
static int
flush(lua_State *L)
{
    lmpe_output_flush(lmpe_self_or_closed(L));
    fflush(NULL);
    return 0;
}

/* let_go(): sends everything written to stdout; the caller waits for that */
static int
let_go(lua_State *L)
{
    lmpe *S = lmpe_self(L);
    return lmpe_stream_let_go(L, all_of_stdout(S), finish_print);
}

static int
print_error(lmpe *S, const char *s, size_t n)
{
    fflush(stderr);
    if (!S->e) {
        fwrite(s, 1, n, stderr);
        return MPE_OK;
    }
    lmpe_output *o = S->output;
    if (lmpe_stream_append(&o->err, s, n) != MPE_OK)
        return MPE_ENOMEM;
    o->err.due = o->err.buf.len;
    if (o->out.has_begun && o->out.is_locked && !lmpe_stream_is_apart(&o->err))
        lmpe_stream_drain(&o->out); /* in the middle of a line */
    lmpe_stream_drain(&o->err);
    return MPE_OK;
}

/* write_error(text): one whole write to stderr, which blocks */
static int
write_error(lua_State *L)
{
    size_t n;
    const char *s = luaL_checklstring(L, 1, &n);
    if (print_error(lmpe_self_or_closed(L), s, n) != MPE_OK)
        return luaL_error(L, "out of memory");
    return 0;
}

/* report(level, text): something that no call returns: for a program on stderr, for a host in its
 * log */
static int
report(lua_State *L)
{
    int level = (int)luaL_checkinteger(L, 1);
    luaL_checkstring(L, 2);
    lua_settop(L, 2);
    lmpe_report(L, lmpe_self_or_closed(L), level);
    return 0;
}

/* has_log() -> would a host get what is reported? */
static int
has_log(lua_State *L)
{
    const lmpe *S = lmpe_self_or_closed(L);
    lua_pushboolean(L, S->is_host && S->e && mpe_has_log(S->e));
    return 1;
}

/* A line by itself, after everything that was printed. */
static void
print_report(lmpe *S, const char *text, size_t n)
{
    lmpe_output_flush(S);
    fflush(NULL);
    if (S->e && lmpe_stream_append(&S->output->err, text, n) != MPE_OK)
        return;
    if (!S->e)
        print_error(S, text, n);
    print_error(S, "\n", 1);
}

static void
replace(lua_State *L, lmpe *S, const char *name, lua_CFunction f)
{
    lua_pushlightuserdata(L, S);
    lua_getfield(L, -2, name);
    lua_pushcclosure(L, f, 2);
    lua_setfield(L, -2, name);
}

static void
begin(lmpe_stream *st, lmpe *S, int fd)
{
    mpe_buf_init(&st->buf);
    st->S = S;
    st->fd = fd;
}

static void
on_fork(lua_State *L, lmpe *S)
{
    (void)L;
    lmpe_output_forked(S);
}

static void
on_close(lua_State *L, lmpe *S)
{
    (void)L;
    lmpe_output_flush(S);
}

/* print, and what reads or writes standard files. */
static void
replace_all(lua_State *L, lmpe *S)
{
    lua_pushlightuserdata(L, S);
    lua_getglobal(L, "print");
    lua_pushcclosure(L, print, 2);
    lmpe_set_global(L, "print");
    if (lua_getglobal(L, "io") == LUA_TTABLE) {
        replace(L, S, "write", io_write);
        replace(L, S, "flush", flush_current);
        replace(L, S, "read", flush_first);
        replace(L, S, "close", flush_current);
        replace(L, S, "popen", flush_first);
    }
    lua_pop(L, 1);
    if (lua_getglobal(L, "os") == LUA_TTABLE)
        replace(L, S, "execute", flush_first);
    lua_pop(L, 1);
    if (luaL_getmetatable(L, LUA_FILEHANDLE) == LUA_TTABLE &&
        lua_getfield(L, -1, "__index") == LUA_TTABLE) {
        replace(L, S, "write", file_write);
        replace(L, S, "flush", flush_file);
        replace(L, S, "seek", flush_file);
        replace(L, S, "close", flush_file);
        replace(L, S, "setvbuf", file_setvbuf);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {
        {"flush", flush},   {"let_go", let_go},   {"write_error", write_error},
        {"report", report}, {"has_log", has_log}, {NULL, NULL},
    };
    S->output = lmpe_place(S, sizeof *S->output);
    if (!S->output)
        luaL_error(L, "out of memory");
    begin(&S->output->out, S, STDOUT_FILENO);
    begin(&S->output->err, S, STDERR_FILENO);
    S->output->by_line = isatty(STDOUT_FILENO);
    S->print_error = print_report;
    lmpe_setfuncs(L, S, functions);
    if (S->is_program)
        replace_all(L, S);
}

const lmpe_module lmpe_output_module = {.open = on_open, .forked = on_fork, .close = on_close};
