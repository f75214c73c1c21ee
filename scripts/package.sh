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
sh "$here/install-notes.sh" "${CODEX_POOL_RELEASE_REPOSITORY:-OWNER/NAME}" >"$folder/INSTALL.md"
sh "$here/pack.sh" "$dist/$archive" "$folder" codex-pool codex INSTALL.md LICENSE-MIT LICENSE-APACHE
sh "$here/checksum.sh" "$dist/$archive"
