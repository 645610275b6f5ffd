/* SPDX-License-Identifier: MIT
 *
 * lask.c - a reader's questions: see lview.h. A question is a userdata that waits for nothing; its
 * descriptor is readable when there is news.
 */
#include "process/lview.h"
#include "base/lsystem.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define QUESTION "mpengine.question"

typedef struct question {
    int file, news, writing; /* -1: closed; writing keeps the pipe open until the answer begins */
} question;

static void
close_one(int *fd)
{
    if (*fd >= 0)
        close(*fd);
    *fd = -1;
}

static int
question_close(lua_State *L)
{
    question *q = luaL_checkudata(L, 1, QUESTION);
    close_one(&q->file);
    close_one(&q->news);
    close_one(&q->writing);
    return 0;
}

static int
prepare(question *q, const char *text, size_t size)
{
    int ends[2];
    char head[32];
    q->file = memfd_create(LMPE_QUESTION, MFD_CLOEXEC);
    if (q->file < 0 || pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return -1;
    q->news = ends[0];
    q->writing = ends[1];
    int n = snprintf(head, sizeof head, "%d ", q->news);
    int ok = write(q->file, head, (size_t)n) == n && write(q->file, text, size) == (ssize_t)size;
    return ok ? 0 : -1;
}

/* ask(view, slot, text) -> question | nil, "gone" | "mute" | message */
static int
ask(lua_State *L)
{
    size_t size;
    mpe_view *v = lmpe_check_view(L, 1);
    uint32_t slot = (uint32_t)luaL_checkinteger(L, 2);
    const char *text = luaL_checklstring(L, 3, &size);
    question *q = lua_newuserdatauv(L, sizeof *q, 0);
    *q = (question){-1, -1, -1};
    luaL_setmetatable(L, QUESTION);
    int rc = prepare(q, text, size) == 0 ? mpe_view_ask(v, slot, q->file) : MPE_ESYS;
    if (rc == MPE_OK)
        return 1;
    luaL_pushfail(L);
    lua_pushstring(L, rc == MPE_ENOENT || (rc == MPE_ESYS && errno == ESRCH) ? "gone"
                      : rc == MPE_ETYPE                                      ? "mute"
                                                                             : lmpe_reason(errno));
    return 2;
}

/* q:again(view, slot): the signal may have met another one of its kind, which hides it */
static int
question_again(lua_State *L)
{
    question *q = luaL_checkudata(L, 1, QUESTION);
    mpe_view_ask(lmpe_check_view(L, 2), (uint32_t)luaL_checkinteger(L, 3), q->file);
    return 0;
}

/* q:descriptor() -> the number to wait for */
static int
question_descriptor(lua_State *L)
{
    lua_pushinteger(L, ((question *)luaL_checkudata(L, 1, QUESTION))->news);
    return 1;
}

/* q:news() -> "begun" | "done" | "dead" | nil: none */
static int
question_news(lua_State *L)
{
    question *q = luaL_checkudata(L, 1, QUESTION);
    char c;
    ssize_t n = read(q->news, &c, 1);
    if (n < 0)
        return 0;
    close_one(&q->writing);
    lua_pushstring(L, n == 0 ? "dead" : c == LMPE_ANSWER_DONE ? "done" : "begun");
    return 1;
}

/* q:answer() -> the bytes */
static int
question_answer(lua_State *L)
{
    question *q = luaL_checkudata(L, 1, QUESTION);
    off_t size = lseek(q->file, 0, SEEK_END);
    if (size <= 0) {
        lua_pushliteral(L, "");
        return 1;
    }
    void *bytes = mmap(NULL, (size_t)size, PROT_READ, MAP_PRIVATE, q->file, 0);
    if (bytes == MAP_FAILED)
        return luaL_error(L, "cannot read an answer: %s", lmpe_reason(errno));
    lua_pushlstring(L, bytes, (size_t)size);
    munmap(bytes, (size_t)size);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"ask", ask}, {NULL, NULL}};
    static const luaL_Reg methods[] = {{"again", question_again},
                                       {"descriptor", question_descriptor},
                                       {"news", question_news},
                                       {"answer", question_answer},
                                       {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
    luaL_newmetatable(L, QUESTION);
    lua_createtable(L, 0, 4);
    lmpe_setfuncs(L, S, methods);
    lua_setfield(L, -2, "__index");
    lua_pushcfunction(L, question_close);
    lua_pushvalue(L, -1);
    lua_setfield(L, -3, "__gc");
    lua_setfield(L, -2, "__close");
    lua_pop(L, 1);
}

const lmpe_module lmpe_ask_module = {.open = on_open};
