/* SPDX-License-Identifier: MIT
 *
 * log_lua.c - the log of a host: what a script has to say that no call returns.
 */
#include "mpengine_lua.h"

#include <lauxlib.h>
#include <lualib.h>
#include <stdio.h>
#include <string.h>

static const char script[] = "local mp = require 'mpengine'\n"
                             "local log = mp.get_logger()\n"
                             "log:info('%d items', 12)\n"
                             "log:warning('slow')\n"
                             "mp.co.spawn(function() error('lost', 0) end)\n"
                             "mp.sleep(0.01)\n";

/* The first line of each message: behind it is the traceback. */
static void
on_log(void *ud, int level, const char *text, size_t n)
{
    const char *end = (const char *)memchr(text, '\n', n);
    fprintf((FILE *)ud, "<%d> %.*s\n", level, (int)(end ? end - text : (long)n), text);
}

int
main(void)
{
    mpe_config config = MPE_CONFIG_INIT;
    mpe_engine *e;
    config.log = on_log;
    config.log_ud = stdout;
    int rc = mpe_open(&config, &e);
    if (rc != MPE_OK)
        return fprintf(stderr, "%s\n", mpe_strerror(rc)), 1;
    lua_State *L = luaL_newstate();
    luaL_openlibs(L);
    mpe_lua_open(L, e);
    if (luaL_dostring(L, script))
        printf("%s\n", lua_tostring(L, -1));
    lua_close(L);
    mpe_close(e);
    return 0;
}
