/* SPDX-License-Identifier: MIT
 *
 * lterminal.c - the terminal of a reader that shows something live: keys are read one by one.
 * What was set before is restored at the exit of the process, whichever way it exits by itself.
 */
#include "base/lmodules.h"
#include "base/lmpe.h"

#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static struct termios before;
static int is_raw;

static void
restore(void)
{
    if (is_raw)
        tcsetattr(STDIN_FILENO, TCSAFLUSH, &before);
    is_raw = 0;
}

/* terminal_keys(on): keys are read one by one, and not shown; Ctrl-C stays a signal -> whether there is
 * a terminal */
static int
terminal_keys(lua_State *L)
{
    static int registered;
    int on = lua_toboolean(L, 1), ok = 1;
    if (!on) {
        restore();
    } else if (!is_raw && (ok = tcgetattr(STDIN_FILENO, &before) == 0)) {
        struct termios raw = before;
        raw.c_lflag &= ~(tcflag_t)(ICANON | ECHO);
        raw.c_cc[VMIN] = 1;
        raw.c_cc[VTIME] = 0;
        ok = is_raw = tcsetattr(STDIN_FILENO, TCSAFLUSH, &raw) == 0;
        if (!registered)
            registered = atexit(restore) == 0;
    }
    lua_pushboolean(L, ok);
    return 1;
}

static void
on_open(lua_State *L, lmpe *S)
{
    static const luaL_Reg functions[] = {{"terminal_keys", terminal_keys}, {NULL, NULL}};
    lmpe_setfuncs(L, S, functions);
}

const lmpe_module lmpe_terminal_module = {.open = on_open};
