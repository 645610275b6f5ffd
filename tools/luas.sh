#!/bin/bash
# The specs, and the hosts that run Lua, with several releases of Lua; a table of what came of each.
#
#   tools/luas.sh TREE...    source trees of Lua: with src/lua.h, as its archives have, or lua.h, as its repository
#
# Each is `make spec-lua LUA_DIR=TREE`, in a tree of its own, BUILD/lua-RELEASE, and what it prints is in
# BUILD/lua-RELEASE.log. SPEC and FILTER choose specs. What failed is named below the table. Status 0 when nothing
# has failed. A table of five releases takes as long as six `make spec`.
set -u
cd "$(dirname "$0")/.." || exit 1
[ $# -gt 0 ] || { sed -n '2,/^set/s/^# \{0,1\}//p' "$0" >&2; exit 2; }

build=${BUILD:-build}
mkdir -p "$build"
table=$(mktemp) failures=$(mktemp)
trap 'rm -f "$table" "$failures"' EXIT
status=0
printf '%-8s %8s %8s %8s %8s\n' Lua passed failed skipped seconds >"$table"

for tree in "$@"; do
    header=$(ls "$tree/src/lua.h" "$tree/lua.h" 2>/dev/null | head -n 1)
    [ -n "$header" ] || { echo "luas: no lua.h in $tree or its src" >&2; exit 2; }
    release=$(printf '#include "%s"\nLUA_RELEASE\n' "$(realpath "$header")" | ${CC:-gcc} -E -P - | sed -n '$s/[^0-9.]//gp')
    log=$build/lua-$release.log
    began=$SECONDS
    echo "luas: $release, $log"
    make spec-lua LUA_DIR="$tree" BUILD="$build" >"$log" 2>&1 </dev/null || status=1
    counts=$(sed -n 's/^\([0-9]*\) passed, \([0-9]*\) failed$/\1 \2/p' "$log" | tail -n 1)
    skipped=$(sed -n 's/^\([0-9]*\) skipped:$/\1/p' "$log" | tail -n 1)
    # shellcheck disable=SC2086
    if [ -n "$counts" ]; then
        printf '%-8s %8d %8d %8d %8d\n' "$release" $counts "${skipped:-0}" "$((SECONDS - began))"
    else
        printf '%-8s does not build\n' "$release"
    fi >>"$table"
    sed -n "s/^    FAIL  /$release  /p" "$log" >>"$failures"
done

cat "$table" "$failures"
exit "$status"
