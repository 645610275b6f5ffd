#!/bin/bash
# Engine, bindings, tests and hosts for aarch64, compiled with Debian's cross compiler and warning-free; then
# the unit tests, some scripts and some specs under qemu-user.
#
#   tools/aarch64.sh        from `make aarch64`, which builds what runs here first
#
# The libraries are Debian's packages for arm64, downloaded and unpacked into BUILD/aarch64/sysroot by an apt of
# its own state: nothing of them is installed, and no architecture is added to this system. SYSROOT is another
# tree with them.
#
# qemu-user has no robust futexes, so a death is not seen there: cases that kill are skipped, and so are those of
# tools/emulated.txt; all say why. It starts no program for aarch64 unless the kernel does (binfmt_misc). And it
# has a thread of its own, which tools/emulated.c hides; and notes of its own for each page of a range of addresses,
# so a small arena makes a start ten times faster. Environment: BUILD, MAKE, V, MPE_TEST_SLOW (3),
# MPENGINE_SHM_LIMIT (64M).
set -euo pipefail
cd "$(dirname "$0")/.."

build=${BUILD:-build}
out=$build/aarch64
triple=aarch64-linux-gnu
packages='libc6-dev libgcc-12-dev libuv1-dev liblua5.4-dev libcurl4-openssl-dev libhiredis-dev libmicrohttpd-dev
    libwslay-dev lua5.4'
scripts='pool queue lock dict sync coroutine co_pipeline'
specs='retry list dict sync co_queue queue_wake'

# As apt-get, for arm64, with its lists, its cache and what it takes for installed below the directory at 1.
foreign_apt() {
    local dir=$1
    shift
    apt-get -q -o APT::Architecture=arm64 -o APT::Architectures=arm64 -o Dir::State="$dir" \
        -o Dir::State::status="$dir/status" -o Dir::Cache="$dir" -o Debug::NoLocking=1 "$@"
}

make_sysroot() {
    local work=$out/apt deb
    [ ! -e "$1/complete" ] || return 0
    command -v apt-get >/dev/null || { echo "aarch64: no apt-get: set SYSROOT to a tree for arm64" >&2; exit 1; }
    echo "  APT   $1"
    rm -rf "$1" "$work"
    mkdir -p "$1" "$work/lists/partial" "$work/archives/partial"
    work=$(realpath "$work")
    touch "$work/status"
    # shellcheck disable=SC2086
    { foreign_apt "$work" update && foreign_apt "$work" install -y --no-install-recommends --download-only $packages; } \
        >"$work/log" 2>&1 </dev/null || { tail -20 "$work/log" >&2; exit 1; }
    for deb in "$work"/archives/*.deb; do dpkg -x "$deb" "$1"; done
    rm -rf "$work"
    touch "$1/complete"
}

sysroot=${SYSROOT:-$out/sysroot}
[ -n "${SYSROOT:-}" ] || make_sysroot "$sysroot"
sysroot=$(realpath "$sysroot")

cross="$triple-gcc --sysroot=$sysroot"
export PKG_CONFIG_LIBDIR=$sysroot/usr/lib/$triple/pkgconfig:$sysroot/usr/share/pkgconfig PKG_CONFIG_SYSROOT_DIR=$sysroot
${MAKE:-make} CC="$cross" AR=$triple-ar BUILD="$out" EMBED="$build/tools/embed" DEPS=engine HOST_BUILDS='a-c99 so-c99' tested
unset PKG_CONFIG_LIBDIR PKG_CONFIG_SYSROOT_DIR
$cross -shared -fPIC -O2 -Wall -Wextra -Werror -o "$out/emulated.so" tools/emulated.c

# What specs take for the command and for stock Lua.
emulator="qemu-aarch64-static -L $sysroot -E LD_PRELOAD=$(realpath "$out")/emulated.so"
programs=$out/emulated
mkdir -p "$programs"
ln -sfn ../lua "$programs/lua"
wrap() {
    printf '#!/bin/sh\nexec %s %s "$@"\n' "$emulator" "$2" >"$programs/$1"
    chmod +x "$programs/$1"
}
wrap mpengine "$(realpath "$out/mpengine")"
wrap lua-stock "$sysroot/usr/bin/lua5.4"

export MPENGINE_SHM_LIMIT=${MPENGINE_SHM_LIMIT:-64M}
export MPE_TEST_SLOW=${MPE_TEST_SLOW:-3} MAY_SKIP=1 MPE_TEST_SKIP=$PWD/tools/emulated.txt
status=0
cases=$out/cases.log
BUILD=$out RUNNER=$emulator tools/test.sh unit | tee "$cases" || status=1
for script in $scripts; do
    if timeout 60 "$programs/mpengine" "scripts/$script.lua" >"$out/script.log" 2>&1 </dev/null; then
        echo "script scripts/$script.lua: ended well"
    else
        cat "$out/script.log"
        echo "script scripts/$script.lua: failed"
        status=1
    fi
done
# shellcheck disable=SC2086
BUILD=$build PROGRAMS=$programs SPEC=$(printf 'spec/%s_spec.lua ' $specs) tools/test.sh lua | tee -a "$cases" || status=1

# Names of cases that are no more. The handler of the specs writes `_` for all but letters and digits.
skipped=$(sed -n 's/[^[:alnum:]]\+/_/gp' "$cases")
[ -n "${FILTER:-}" ] || while read -r name _; do
    [[ $skipped != *"_${name}_"* ]] || continue
    echo "aarch64: $MPE_TEST_SKIP: no case $name was skipped"
    status=1
done <"$MPE_TEST_SKIP"
exit "$status"
