rockspec_format = "3.0"
package = "mpengine"
version = "0.1.0-1"
-- The archive of `make dist`. `luarocks make` does not read it: it builds the tree that it is run in.
source = { url = "file://mpengine-0.1.0.tar.gz" }
description = {
  summary = "Processes, shared objects, pools and coroutines",
  detailed = [[
    Processes, shared objects, pools and coroutines for Lua, in the manner of Python's
    multiprocessing and gevent. Shared objects live in shared memory; there is no server process.
    Nothing hangs when a process is killed.
  ]],
  license = "MIT",
}
supported_platforms = { "linux" }
dependencies = { "lua >= 5.4, < 5.6" }
-- libuv and libcurl are found by pkg-config; what is missing is named, with its package, by make.
build = {
  type = "make",
  variables = {
    BUILD = "build/rock",
    CFLAGS = "$(CFLAGS)",
    LUA_CFLAGS = "-I$(LUA_INCDIR)",
    ROCK_LUA = "$(LUADIR)",
    ROCK_LIB = "$(LIBDIR)",
    ROCK_BIN = "$(BINDIR)",
    ROCK_PREFIX = "$(PREFIX)",
  },
  build_target = "rock",
  install_target = "install-rock",
  copy_directories = { "docs", "scripts" },
}
