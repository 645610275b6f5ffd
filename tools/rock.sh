#!/bin/sh
# Builds the rock in a clean tree, packs it, installs what was packed into empty trees, and uses each.
#
#   tools/rock.sh       the committed sources; needs luarocks (Debian package luarocks)
#
# Three ways lead to an installed rock: `luarocks make` in the sources, the packed binary rock, and the
# packed source rock, which is built anew. As root, where there is mmdebstrap of Debian, the last is also
# installed and used in a clean chroot that has what the build asks for and no more; SUITE is that of the
# chroot (bookworm). Prints `rock: ok` and ends with status 0 when all work.
set -eu
cd "$(dirname "$0")/.."

. tools/packing.sh
scripts=$sources/scripts
rocks="luarocks --lua-version 5.4"

# What README.md says of annotations, which writes .luarc.json; and the directory that this file names.
annotations=$(sed -n '/^rock=.*luarocks/,/^```/p' README.md | grep -v '```')
named='s|.*library": \["\(.*\)"\].*|\1|p'

# use TREE: the module under stock Lua, the command and the annotations, as a user of this tree has them.
use() {
    (
        cd "$work"
        tree=$1
        luarocks() { command luarocks --tree "$tree" "$@"; }
        eval "$($rocks --tree "$1" path)"
        lua5.4 "$scripts/pool.lua" >pool.txt
        "$1/bin/mpengine" "$scripts/pool.lua" >command.txt
        lua5.4 -e 'assert(package.loaded.mpengine == nil and require("mpengine").Value("q", 42).value == 42)
            assert(package.searchpath("mpengine", package.path):find(arg[1], 1, true))' /dev/null "$1"
        test -s pool.txt && test -s command.txt
        eval "$annotations"
        library=$(sed -n "$named" .luarc.json)
        test -s "$library/mpengine.lua" && test "${library#"$1"/}" != "$library"
    )
    echo "rock: $2: used"
}

(cd "$sources" && quiet $rocks make --tree "$work/made")
use "$work/made" "luarocks make"

mkdir "$work/packed"
cd "$work/packed"
quiet $rocks --tree "$work/made" pack mpengine
quiet $rocks --tree "$work/binary" install ./mpengine-*.linux-*.rock
rm -r "$work/made"
use "$work/binary" "packed binary"

# A packed source rock has the archive inside; its address must be absolute.
for rockspec in "$sources"/*.rockspec; do
    sed "s|file://|&$work/|" "$rockspec" >"$(basename "$rockspec")"
done
quiet $rocks pack ./*.rockspec
quiet $rocks --tree "$work/source" install ./mpengine-*.src.rock
use "$work/source" "packed sources"

if [ "$(id -u)" = 0 ] && command -v mmdebstrap >/dev/null; then
    quiet mmdebstrap --variant=apt --include=lua5.4,luarocks,gcc,libc6-dev,make,pkg-config,liblua5.4-dev,libuv1-dev \
        --include=libcurl4-openssl-dev "${SUITE:-bookworm}" "$work/root"
    cp -r ./mpengine-*.src.rock "$scripts" "$work/root/tmp/"
    unshare --mount --pid --fork --mount-proc="$work/root/proc" chroot "$work/root" sh -euc '
        cd /tmp
        luarocks --lua-version 5.4 install ./mpengine-*.src.rock >log 2>&1 || { tail -30 log >&2; exit 1; }
        for script in pool process queue dict popen supervisor; do
            mpengine scripts/$script.lua >command.txt 2>&1
            lua5.4 scripts/$script.lua >stock.txt 2>&1
            test -s command.txt && test -s stock.txt
        done
        test "$(mpengine -i </dev/null)" != ""
        eval "$1"
        test -s "$(sed -n "$2" .luarc.json)/mpengine.lua"
    ' sh "$annotations" "$named"
    echo "rock: packed sources: used in a clean chroot"
fi
echo "rock: ok"
