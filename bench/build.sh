#!/bin/sh
# Builds the C programs of the benchmarks, raw/*.c and rows/*.c, into the given folder (build/bench), which lies in that of
# the engine's libraries. Needs a C compiler only; a program whose library is not installed is left out, and the harness
# prints it as missing.
# usage: bench/build.sh [FOLDER]
set -eu

here=$(dirname "$0")
out=${1:-build/bench}
cc=${CC:-gcc}
mkdir -p "$out"

has_header() {
  echo "#include <$1>" | $cc -E -x c - >/dev/null 2>&1
}

for source in "$here"/raw/*.c "$here"/rows/*.c; do
  name=$(basename "$source" .c)
  flags= libs= made=
  case $source in
    */raw/lmdb.c)
      has_header lmdb.h || { echo "bench: no lmdb.h (liblmdb-dev): its rows are left out"; continue; }
      libs=-llmdb ;;
    */raw/luafork.c)
      flags=$(pkg-config --cflags lua5.4) libs=$(pkg-config --libs lua5.4) ;;
    */rows/suspend.c)
      made=$out/../libmpengine_lua.a
      flags="-I$here/../engine/include -I$here/../bindings $(pkg-config --cflags lua5.4)"
      libs="-Wl,-E $made $out/../libmpengine.a $(pkg-config --libs lua5.4 libuv) -lpthread -lm -ldl" ;;
    */rows/*)
      made=$out/../libmpengine.a
      flags="-I$here/../engine/include -I$here/raw" libs="$made $(pkg-config --libs libuv) -lpthread -lm" ;;
  esac
  if [ ! "$out/$name" -nt "$source" ] || [ ! "$out/$name" -nt "$here/raw/bench.h" ] ||
    [ ! "$out/$name" -nt "$here/raw/wake.h" ] ||
    { [ -n "$made" ] && [ ! "$out/$name" -nt "$made" ]; }; then
    $cc -std=gnu11 -O2 -Wall -Wextra $flags -o "$out/$name" "$source" $libs
  fi
done
