/* The limit of start+join when the child runs Lua: fork, call a Lua function in the child, end it as
 * os.exit does, and wait for it. The program is a bare Lua state with its libraries, as lua5.4 has. ns per pair. */
#include <lauxlib.h>
#include <lua.h>
#include <lualib.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

static lua_State *L;

static void
work(long n)
{
    while (n-- > 0) {
        pid_t pid = fork();
        bench_check(pid >= 0, "fork");
        if (pid == 0) {
            lua_call(L, 0, 0);
            exit(0);
        }
        waitpid(pid, NULL, 0);
    }
}

int
main(void)
{
    L = luaL_newstate();
    bench_check(L != NULL, "luaL_newstate");
    luaL_openlibs(L);
    luaL_loadstring(L, "local function nothing() end nothing()");
    bench_ns(work, 20);
}
