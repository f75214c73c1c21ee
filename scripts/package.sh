#!/bin/sh
# Builds both programs for TARGET and packs them, with a checksum, into the folder DIST:
# sh scripts/package.sh TARGET DIST. The release workflow calls this once per target.
set -eu

target=$1
mkdir -p "$2"
dist=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
archive=codex-pool-$(sh "$here/version.sh")-$target.tar.gz

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
sh "$here/build.sh" "$folder" "$target"
cp "$here/../LICENSE-MIT" "$here/../LICENSE-APACHE" "$folder"
# COPYFILE_DISABLE: macOS's tar would add a `._` file beside each.
COPYFILE_DISABLE=1 tar -czf "$dist/$archive" -C "$folder" codex-pool codex LICENSE-MIT LICENSE-APACHE
sh "$here/checksum.sh" "$dist/$archive"
