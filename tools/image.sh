#!/bin/sh
# Builds the image of the Dockerfile from the committed sources, with no daemon, and uses it.
#
#   tools/image.sh       as root; needs buildah and mmdebstrap of Debian, and its archive in reach
#
# The base image is made from Debian's archive by mmdebstrap, under the name that the Dockerfile has it
# by, so no registry of images is needed; BASE=pull gets it from there instead. The steps run in a chroot
# and not in containers of their own, which a sandbox may forbid. Prints `image: ok` and ends with status 0
# when all work.
set -eu
cd "$(dirname "$0")/.."

. tools/packing.sh
base=$(sed -n 's/^FROM \([^ ]*\).*/\1/p' Dockerfile | tail -1)

images() { buildah --root "$work/storage" --runroot "$work/run" --storage-driver vfs "$@"; }

clean() {
    images rm --all >/dev/null 2>&1 || true
    rm -rf "$work"
}
trap clean EXIT

pull=--pull
if [ "${BASE:-}" != pull ]; then
    pull=--pull-never
    quiet mmdebstrap --variant=minbase "$(echo "$base" | sed 's/.*://; s/-slim$//')" "$work/base.tar"
    made=$(images from scratch)
    quiet images add "$made" "$work/base.tar" /
    quiet images commit "$made" "docker.io/library/$base"
    rm "$work/base.tar"
fi
echo "image: $base is there"

quiet images build --isolation chroot "$pull" --tag mpengine "$sources"
echo "image: built"

# As `docker run` would, for each test anew.
use() {
    container=$(images from --pull-never mpengine)
    images run --isolation chroot --volume "$sources/scripts:/app:ro" "$container" -- "$@"
}
test "$(use id -un)" = mpengine
test "$(use mpengine -e 'print(require("mpengine").Value("q", 42).value)')" = 42
test "$(use lua5.4 -e 'print(require("mpengine").Value("q", 42).value)')" = 42
for script in pool process queue dict supervisor; do
    use mpengine "$script.lua" >"$work/log" 2>&1 && test -s "$work/log"
done
test "$(images inspect --type image --format '{{index .OCIv1.Config.Entrypoint 0}} {{.OCIv1.Config.User}}' mpengine)" = 'mpengine mpengine'
echo "image: ok"
