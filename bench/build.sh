#!/bin/sh
# Builds the raw programs of the benchmarks, bench/raw/*.c, into the given folder (build/bench). Needs a C compiler
# only; a program whose library is not installed is left out, and the harness prints it as missing.
# usage: bench/build.sh [FOLDER]
set -eu

raw=$(dirname "$0")/raw
out=${1:-build/bench}
cc=${CC:-gcc}
mkdir -p "$out"

has_header() {
  echo "#include <$1>" | $cc -E -x c - >/dev/null 2>&1
}

for source in "$raw"/*.c; do
  name=$(basename "$source" .c)
  libs=
  if [ "$name" = lmdb ]; then
    has_header lmdb.h || { echo "bench: no lmdb.h (liblmdb-dev): its rows are left out"; continue; }
    libs=-llmdb
  fi
  if [ ! "$out/$name" -nt "$source" ] || [ ! "$out/$name" -nt "$raw/bench.h" ]; then
    $cc -std=gnu11 -O2 -Wall -Wextra -o "$out/$name" "$source" $libs
  fi
done
