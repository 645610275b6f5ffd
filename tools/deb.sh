#!/bin/sh
# Builds the Debian packages of the committed sources, checks them with lintian, installs them into a
# clean chroot and uses them there: the command, the module under stock Lua, a C program.
#
#   tools/deb.sh [DIRECTORY]       leaves the packages in DIRECTORY, when it is given
#
# As root, with dpkg-dev, debhelper, lintian and mmdebstrap of Debian, and its archive in reach. SUITE is
# that of the chroot (bookworm). Prints `deb: ok` and ends with status 0 when all work.
set -eu
cd "$(dirname "$0")/.."

. tools/packing.sh
suite=${SUITE:-bookworm}
version=$(sed -n '1s/.*(\(.*\)).*/\1/p' "$sources/debian/changelog")

(cd "$sources" && quiet dpkg-buildpackage -us -uc -b)
for package in mpengine libmpengine0 libmpengine-dev lua-mpengine; do
    ls "$work/${package}_$version"_*.deb
done
[ -z "${1:-}" ] || { mkdir -p "$1" && cp "$work"/*.deb "$1"; }

lintian --allow-root --fail-on error "$work"/*.changes

# Nothing that they need is named: that is for their dependencies to say.
set --
for package in "$work"/*.deb; do
    case $package in *-dbgsym_*) ;; *) set -- "$@" "--include=$package" ;; esac
done
quiet mmdebstrap --variant=apt --hook-dir=/usr/share/mmdebstrap/hooks/file-mirror-automount "$@" \
    --include=lua5.4,gcc,libc6-dev,pkg-config "$suite" "$work/root"

cp -r "$sources/scripts" "$sources/engine/examples/smallest.c" "$work/root/tmp/"
unshare --mount --pid --fork --mount-proc="$work/root/proc" chroot "$work/root" sh -euc '
    cd /tmp
    test "$(mpengine -e "print(require(\"mpengine\").Value(\"q\", 42).value)")" = 42
    test "$(lua5.4 -e "print(require(\"mpengine\").Value(\"q\", 42).value)")" = 42
    for script in pool process queue dict popen supervisor; do
        mpengine scripts/$script.lua >command.txt 2>&1
        lua5.4 scripts/$script.lua >stock.txt 2>&1
        test -s command.txt && test -s stock.txt
    done
    gcc smallest.c $(pkg-config --cflags --libs mpengine)
    ./a.out
    mpengine ps >/dev/null
    test -f /usr/share/mpengine/luarc.json
    test -f /usr/share/mpengine/library/mpengine.lua
    test -f /usr/share/doc/mpengine/docs/tutorial.md
    test -f /usr/share/mpengine/gdb/mpengine.py
    test -z "$(dpkg -V mpengine libmpengine0 libmpengine-dev lua-mpengine)"
'
echo "deb: ok"
