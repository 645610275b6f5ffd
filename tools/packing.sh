# Sourced by what builds a package of the committed sources, in their root: rock.sh, deb.sh, image.sh.
#
# $work is a directory that is removed at the end, $sources the sources in it, as `make dist` packs them.

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
chmod 755 "$work" # another user may build there

# quiet COMMAND...: its output only when it fails.
quiet() {
    "$@" >"$work/log" 2>&1 || {
        tail -40 "$work/log" >&2
        return 1
    }
}

make -s dist BUILD="$work"
tar -xzf "$work"/mpengine-*.tar.gz -C "$work"
sources=$(find "$work" -maxdepth 1 -type d -name 'mpengine-*')
