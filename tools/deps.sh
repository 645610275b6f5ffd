#!/bin/sh
# What has to be installed, and how: the one place that knows which Debian package has each thing.
#
#   tools/deps.sh check-SET     says what is missing and how to install it; status 1 if anything is
#   tools/deps.sh install-SET   installs what is missing, and only that, with apt-get; without root
#                               it prints the command to run and ends with status 1
#
# SET is engine, build, run, test, lint, bench, model, docs, valgrind or aarch64. With everything in place nothing is
# printed and nothing is downloaded.
set -u

CC=${CC:-gcc}
packages=''
report=''

# need WHAT PACKAGE PROBE...: notes WHAT as missing unless PROBE succeeds. Some probes need a tool
# that may be missing itself (pkg-config, lua5.4), so dpkg has the last word on such a package.
need() {
    what=$1 package=$2
    shift 2
    "$@" >/dev/null 2>&1 && return
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q '^install ok installed' && return
    packages="$packages $package"
    report="$report
  missing: $what (Debian package $package)"
}

library() { pkg-config --exists "$1"; }
lua_module() { lua5.4 -e "require '$1'"; }
python_module() { python3 -c "import $1"; }
header() { echo "#include <$1>" | "$CC" -E -; }
certificates() { [ -n "$(ls /etc/ssl/certs)" ]; }

need_engine() {
    need "the C compiler, $CC" gcc command -v "$CC"
    need "the headers of the C library" libc6-dev header stdio.h
    need "pkg-config" pkg-config command -v pkg-config
    need "libuv and its headers" libuv1-dev library libuv
}

need_build() {
    need_engine
    need "Lua 5.4 and its headers" liblua5.4-dev library lua5.4
    need "libcurl and its headers" libcurl4-openssl-dev library libcurl
}

need_run() {
    need_build
    need "certificates to check HTTPS servers with" ca-certificates certificates
    need "hiredis and its headers, for managers of a URL" libhiredis-dev header hiredis/hiredis.h
    need "libmicrohttpd and its headers, for http.serve" libmicrohttpd-dev header microhttpd.h
    need "wslay and its headers, for WebSockets" libwslay-dev header wslay/wslay.h
    need "libedit and its headers, for the interactive mode" libedit-dev header histedit.h
}

need_test() {
    need_run
    need "the Lua 5.4 interpreter" lua5.4 command -v lua5.4
    need "busted, which runs the specs" lua-busted lua_module busted
    need "LuaSocket" lua-socket lua_module socket
    need "LuaSec" lua-sec lua_module ssl
    need "luv" lua-luv lua_module luv
    need "redis-server" redis-server command -v redis-server
    need "Python 3, for clients and servers that are not ours" python3 command -v /usr/bin/python3
    need "openssl, a client of TLS" openssl command -v openssl
    need "ip, for partitions of networks" iproute2 command -v ip
    need "prlimit, setpriv and unshare" util-linux command -v setpriv
    need "curl, a client of the servers" curl command -v curl
    need "websockets, a client of the servers" python3-websockets python_module websockets
    need "gdb with Python, which looks into processes and cores" gdb gdb -batch -ex 'python 1'
    need "script, which gives a program a terminal" bsdutils command -v script
    need "tmux, a terminal for the programs that show something live" tmux command -v tmux
}

need_lint() {
    need "the Lua 5.4 interpreter" lua5.4 command -v lua5.4
    need "clang-format" clang-format command -v clang-format
    need "luacheck" lua-check command -v luacheck
}

need_bench() {
    need_build
    need "the Lua 5.4 interpreter" lua5.4 command -v lua5.4
    need "luv" lua-luv lua_module luv
    need "cqueues" lua-cqueues lua_module cqueues
    need "gevent" python3-gevent python_module gevent
    need "requests" python3-requests python_module requests
    need "aiohttp" python3-aiohttp python_module aiohttp
    need "redis-server" redis-server command -v redis-server
    need "redis-py" python3-redis python_module redis
    need "RQ" python3-rq python_module rq
    need "Celery" python3-celery python_module celery
    need "curl" curl command -v curl
    need "LMDB and its headers" liblmdb-dev library lmdb
}

need_model() {
    need "the C compiler, $CC" gcc command -v "$CC"
    need "spin, which checks models" spin command -v spin
}

need_docs() {
    need "the Lua 5.4 interpreter" lua5.4 command -v lua5.4
    need "pandoc, which renders the manual" pandoc command -v pandoc
}

need_valgrind() {
    need_engine
    need "valgrind" valgrind command -v valgrind
}

need_aarch64() {
    need_build
    need "the cross compiler for aarch64" gcc-aarch64-linux-gnu command -v aarch64-linux-gnu-gcc
    need "the emulator of programs, qemu-user" qemu-user-static command -v qemu-aarch64-static
    need "busted, which runs the specs" lua-busted lua_module busted
}

install='apt-get install -y --no-install-recommends'

# check: plain `make` must install nothing, so it only says what it lacks.
check() {
    echo "mpengine: not everything is installed:$report" >&2
    if command -v apt-get >/dev/null; then
        echo "install it with: sudo apt-get update && sudo $install$packages" >&2
    else
        echo "install these or their equivalents of this system, then try again" >&2
    fi
    exit 1
}

install() {
    if ! command -v apt-get >/dev/null || [ "$(id -u)" -ne 0 ]; then
        check
    fi
    echo "mpengine: installing with apt-get, as it is missing:$packages"
    log=$(mktemp)
    export DEBIAN_FRONTEND=noninteractive
    # A failing update is not the end: the lists that are there may well know the packages.
    # shellcheck disable=SC2086
    if { apt-get update || true; $install $packages; } </dev/null >"$log" 2>&1; then
        rm -f "$log"
        return
    fi
    cat "$log" >&2
    rm -f "$log"
    echo "mpengine: apt-get could not install:$packages" >&2
    exit 1
}

request=${1:-}
action=${request%%-*} set=${request#*-}
case $action in check | install) ;; *) set='' ;; esac
case $set in
    engine | build | run | test | lint | bench | model | docs | valgrind | aarch64) ;;
    *)
        echo "usage: tools/deps.sh {check|install}-{engine|build|run|test|lint|bench|model|docs|valgrind|aarch64}" >&2
        exit 2
        ;;
esac

"need_$set"
[ -z "$packages" ] || "$action"
