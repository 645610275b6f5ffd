/* SPDX-License-Identifier: MIT
 *
 * leditor.c - line editing in the interactive mode, by libedit, whose licence lets any program open
 * it. libedit asks for characters one by one; the answer waits in the loop, so tasks run between
 * two keys. They may print: the line is taken off the screen before the text and drawn again below
 * it (lstream.c calls both). No error of Lua passes through libedit: what ends a wait, such as
 * Ctrl-C, is kept, and raised when libedit has returned.
 *
 * libedit needs the user's encoding, and Lua its own: the locale is the thread's, and only while
 * libedit runs. A process that exits while a line is edited restores the terminal; a child that is
 * forked meanwhile has no line.
 */
#include "process/leditor.h"
#include "base/lmpe.h"
#include "process/llibedit.h"
#include "process/lprocess.h"

enum lmpe_editor_state lmpe_editor_state;

#ifdef LMPE_EDIT

#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>
#include <wchar.h>

#define COLUMNS 80 /* of a terminal that does not say */
#define TAB 8
#define TERMINAL "vt100" /* when TERM does not say */

static struct {
    EditLine *line;
    History *history;
    locale_t locale; /* the user's */
    lua_State *L;    /* edits a line */
    char *prompt;
    int has_failed; /* the error is in the registry */
    struct termios before;
} editor;

static const char wait_key, complete_key, error_key; /* in the registry */

/* ---- the screen ---- */

static int
columns_of_terminal(void)
{
    struct winsize size;
    return ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) == 0 && size.ws_col > 0 ? size.ws_col : COLUMNS;
}

struct place {
    int row, column;
};

/* As libedit draws a character. */
static int
width_of(wchar_t c, int column)
{
    if (c == L'\t')
        return TAB - column % TAB;
    if (c < L' ' || c == 0x7f)
        return 2; /* ^X */
    int width = wcwidth(c);
    return width >= 0 ? width : c > 0xffff ? 8 : 7; /* \U+xxxx */
}

static void
go_over(struct place *p, const wchar_t *text, size_t n, int columns)
{
    for (size_t i = 0; i < n; i++) {
        int width = text[i] == L'\n' ? columns : width_of(text[i], p->column);
        if (text[i] != L'\n' && p->column + width > columns) {
            p->row++;
            p->column = 0;
        }
        p->column += width;
        if (p->column >= columns) {
            p->row++;
            p->column = 0;
        }
    }
}

/* Where the cursor is, and the end of the line, counted from the beginning of the prompt. */
static void
look_at_line(struct place *cursor, struct place *end)
{
    struct place p = {0, 0};
    int columns = columns_of_terminal();
    const LineInfoW *line = lmpe_libedit.el_wline(editor.line);
    wchar_t prompt[256];
    size_t n = mbstowcs(prompt, editor.prompt, sizeof prompt / sizeof *prompt);
    if (n != (size_t)-1)
        go_over(&p, prompt, n, columns);
    go_over(&p, line->buffer, (size_t)(line->cursor - line->buffer), columns);
    *cursor = p;
    go_over(&p, line->cursor, (size_t)(line->lastchar - line->cursor), columns);
    *end = p;
}

static void
write_out(const char *text)
{
    if (write(STDOUT_FILENO, text, strlen(text)) < 0)
        return;
}

/* An escape code with a number, which may be 0. */
static void
move(int n, char direction)
{
    char code[32];
    snprintf(code, sizeof code, "\033[%d%c", n, direction);
    if (n > 0)
        write_out(code);
}

static void
erase(void)
{
    struct place cursor, end;
    locale_t before = uselocale(editor.locale);
    look_at_line(&cursor, &end);
    uselocale(before);
    fflush(stdout);
    write_out("\r");
    move(cursor.row, 'A');
    write_out("\033[J");
}

/* The line stays on the screen as it is, and the cursor goes behind it. */
static void
leave(void)
{
    struct place cursor, end;
    look_at_line(&cursor, &end);
    move(end.row - cursor.row, 'B');
    write_out("\r");
    move(end.column, 'C');
}

static void
draw(void)
{
    locale_t before = uselocale(editor.locale);
    lmpe_libedit.el_set(editor.line, EL_REFRESH);
    uselocale(before);
}

/* Text that saves the cursor first and restores it last moves nothing. */
static int
stays_in_place(const char *bytes, size_t size)
{
    return size >= 4 && memcmp(bytes, "\0337", 2) == 0 && memcmp(bytes + size - 2, "\0338", 2) == 0;
}

void
lmpe_editor_make_room(int fd, const void *bytes, size_t size)
{
    if (lmpe_editor_state != LMPE_EDITOR_SHOWN || stays_in_place(bytes, size) || !isatty(fd))
        return;
    erase();
    lmpe_editor_state = LMPE_EDITOR_AWAY;
}

void
lmpe_editor_show_again(int is_mid_line)
{
    if (lmpe_editor_state != LMPE_EDITOR_AWAY)
        return;
    lmpe_editor_state = LMPE_EDITOR_SHOWN;
    if (is_mid_line)
        write_out("\r\n");
    draw();
}

/* editor_redraw(): the terminal has another size, or the program goes on after a stop */
static int
editor_redraw(lua_State *L)
{
    (void)L;
    if (lmpe_editor_state != LMPE_EDITOR_SHOWN)
        return 0;
    erase();
    lmpe_libedit.el_set(editor.line, EL_PREP_TERM, 0);
    lmpe_libedit.el_set(editor.line, EL_PREP_TERM, 1);
    lmpe_libedit.el_resize(editor.line);
    draw();
    return 0;
}

/* ---- what libedit calls ---- */

static char *
show_prompt(EditLine *line)
{
    (void)line;
    return editor.prompt;
}

/* The error on top ends the editing. */
static void
keep_error(lua_State *L)
{
    lua_rawsetp(L, LUA_REGISTRYINDEX, &error_key);
    editor.has_failed = 1;
}

static int
wait_for_key(lua_State *L)
{
    locale_t own = uselocale(LC_GLOBAL_LOCALE);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &wait_key);
    int ok = lua_pcall(L, 0, 0, 0) == LUA_OK;
    if (!ok)
        keep_error(L);
    uselocale(own);
    return ok;
}

/* 1 and a character; 0 at the end of the input; -1: the editing ends. Bytes that the user's encoding does
 * not have are left out. */
static int
take_character(EditLine *line, wchar_t *out)
{
    mbstate_t state;
    char byte;
    (void)line;
    memset(&state, 0, sizeof state);
    while (!editor.has_failed && wait_for_key(editor.L)) {
        ssize_t n = read(STDIN_FILENO, &byte, 1);
        if (n < 0 && (errno == EINTR || errno == EAGAIN))
            continue;
        if (n <= 0)
            return 0;
        size_t used = mbrtowc(out, &byte, 1, &state);
        if (used == (size_t)-1)
            memset(&state, 0, sizeof state);
        else if (used != (size_t)-2)
            return 1;
    }
    return -1;
}

/* The function complete of editor_open, with the text before the cursor. */
static int
call_complete(lua_State *L)
{
    const LineInfo *line = lua_touserdata(L, 1);
    lua_rawgetp(L, LUA_REGISTRYINDEX, &complete_key);
    lua_pushlstring(L, line->buffer, (size_t)(line->cursor - line->buffer));
    lua_call(L, 1, 1);
    return 1;
}

/* Bound to the Tab key. */
static unsigned char
complete(EditLine *line, int key)
{
    lua_State *L = editor.L;
    const LineInfo *info = lmpe_libedit.el_line(line);
    unsigned char result = CC_REFRESH_BEEP;
    (void)key;
    locale_t own = uselocale(LC_GLOBAL_LOCALE);
    lua_pushcfunction(L, call_complete);
    lua_pushlightuserdata(L, (void *)info);
    int status = lua_pcall(L, 1, 1, 0);
    uselocale(own);
    if (status != LUA_OK) {
        keep_error(L);
        return CC_EOF;
    }
    const char *text = lua_tostring(L, -1);
    if (text && (!*text || lmpe_libedit.el_insertstr(line, text) == 0))
        result = CC_REFRESH;
    lua_pop(L, 1);
    return result;
}

/* ---- for mpengine/repl.lua ---- */

static void
restore_terminal(void)
{
    if (lmpe_editor_state == LMPE_EDITOR_IDLE)
        return;
    tcsetattr(STDIN_FILENO, TCSADRAIN, &editor.before);
    write_out("\r\n");
    lmpe_editor_state = LMPE_EDITOR_IDLE;
}

static void
bind_keys(EditLine *line)
{
    static const char *const keys[][2] = {
        {"^I", "mpengine-complete"},   {"^R", "em-inc-search-prev"},
        {"^W", "ed-delete-prev-word"}, {"\\e[1~", "ed-move-to-beg"},
        {"\\e[4~", "ed-move-to-end"},  {"\\e[H", "ed-move-to-beg"},
        {"\\e[F", "ed-move-to-end"},   {"\\e[3~", "ed-delete-next-char"},
        {"\\e[1;5C", "em-next-word"},  {"\\e[1;5D", "ed-prev-word"},
    };
    for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
        lmpe_libedit.el_set(line, EL_BIND, keys[i][0], keys[i][1], NULL);
}

/* editor_open(wait, complete, entries) -> true; or nil and the reason why there is no line editing.
 * wait() returns when there is input; complete(text) is what Tab does; so many lines are kept. */
static int
editor_open(lua_State *L)
{
    HistEvent event;
    const char *why = lmpe_libedit_load();
    luaL_checktype(L, 1, LUA_TFUNCTION);
    luaL_checktype(L, 2, LUA_TFUNCTION);
    int entries = (int)luaL_checkinteger(L, 3);
    if (!why && !editor.locale && !(editor.locale = newlocale(LC_CTYPE_MASK, "", (locale_t)0)))
        editor.locale = newlocale(LC_CTYPE_MASK, "C.UTF-8", (locale_t)0);
    locale_t before = uselocale(editor.locale);
    if (!why && !editor.line) {
        editor.line = lmpe_libedit.el_init("mpengine", stdin, stdout, stderr);
        editor.history = lmpe_libedit.history_init();
    }
    if (!why && (!editor.line || !editor.history))
        why = "line editing: no memory, or the terminal has no description";
    if (!why) {
        EditLine *line = editor.line;
        const char *term = getenv("TERM");
        if (!term || !*term) /* libedit would do without escape codes, which every terminal has */
            lmpe_libedit.el_set(line, EL_TERMINAL, TERMINAL);
        lmpe_libedit.history(editor.history, &event, H_SETSIZE, entries);
        lmpe_libedit.history(editor.history, &event, H_SETUNIQUE, 1);
        lmpe_libedit.el_set(line, EL_HIST, lmpe_libedit.history, editor.history);
        lmpe_libedit.el_set(line, EL_PROMPT, show_prompt);
        lmpe_libedit.el_set(line, EL_EDITOR, "emacs");
        lmpe_libedit.el_set(line, EL_ADDFN, "mpengine-complete", "Complete a name", complete);
        lmpe_libedit.el_set(line, EL_GETCFN, take_character);
        bind_keys(line);
        lmpe_libedit.el_source(line, NULL); /* ~/.editrc */
        atexit(restore_terminal);
    }
    uselocale(before);
    if (why) {
        lua_pushnil(L);
        lua_pushstring(L, why);
        return 2;
    }
    lua_settop(L, 2);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &complete_key);
    lua_rawsetp(L, LUA_REGISTRYINDEX, &wait_key);
    lua_pushboolean(L, 1);
    return 1;
}

/* edit_line(prompt) -> the line; nil at the end of the input. Raises what wait or complete raised. */
static int
edit_line(lua_State *L)
{
    int n = 0;
    lmpe *S = lmpe_self(L);
    const char *prompt = luaL_checkstring(L, 1);
    char *copy = strdup(prompt);
    if (!copy)
        return luaL_error(L, "out of memory");
    lmpe_output_flush(S);
    if (lmpe_output_is_mid_line(S))
        write_out("\r\n");
    free(editor.prompt);
    editor.prompt = copy;
    editor.L = L;
    editor.has_failed = 0;
    tcgetattr(STDIN_FILENO, &editor.before);
    locale_t before = uselocale(editor.locale);
    lmpe_editor_state = LMPE_EDITOR_SHOWN;
    const char *text = lmpe_libedit.el_gets(editor.line, &n);
    lmpe_editor_state = LMPE_EDITOR_IDLE;
    if (editor.has_failed)
        leave();
    uselocale(before);
    if (editor.has_failed) {
        lua_rawgetp(L, LUA_REGISTRYINDEX, &error_key);
        return lua_error(L);
    }
    if (!text || n <= 0)
        return 0;
    lua_pushlstring(L, text, (size_t)n - (text[n - 1] == '\n'));
    return 1;
}

/* editor_remember(text): an earlier line, for the arrow keys */
static int
editor_remember(lua_State *L)
{
    HistEvent event;
    const char *text = luaL_checkstring(L, 1);
    if (editor.history && *text)
        lmpe_libedit.history(editor.history, &event, H_ENTER, text);
    return 0;
}

static void
on_fork(lua_State *L, lmpe *S)
{
    (void)L, (void)S;
    lmpe_editor_state = LMPE_EDITOR_IDLE;
}

#else

void
lmpe_editor_make_room(int fd, const void *bytes, size_t size)
{
    (void)fd, (void)bytes, (void)size;
}

void
lmpe_editor_show_again(int is_mid_line)
{
    (void)is_mid_line;
}

static int
editor_open(lua_State *L)
{
    lua_pushnil(L);
    lua_pushliteral(
        L, "line editing is not in this build: it was made without the headers of libedit");
    return 2;
}

#define on_fork NULL

#endif

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"editor_open", editor_open},
#ifdef LMPE_EDIT
                                         {"edit_line", edit_line},
                                         {"editor_remember", editor_remember},
                                         {"editor_redraw", editor_redraw},
#endif
                                         {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_editor_module = {.open = on_open, .forked = on_fork};
