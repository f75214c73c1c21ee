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
# Programs grow unseen, with what they come to depend on. KB: the admin program has 6,700, of which a pool on several
# machines may take 3,000; the shim has 2,000, its C library included, and must stay small.
for limit in codex-pool:8800 codex:2200; do
    size=$(($(wc -c <"$folder/${limit%:*}") / 1000))
    if [ "$size" -gt "${limit#*:}" ]; then
        echo "package.sh: ${limit%:*} has $size KB, more than ${limit#*:}" >&2
        exit 1
    fi
done
cp "$here/../LICENSE-MIT" "$here/../LICENSE-APACHE" "$folder"
sh "$here/install-notes.sh" "${CODEX_POOL_RELEASE_REPOSITORY:-OWNER/NAME}" >"$folder/INSTALL.md"
sh "$here/pack.sh" "$dist/$archive" "$folder" codex-pool codex INSTALL.md LICENSE-MIT LICENSE-APACHE
sh "$here/checksum.sh" "$dist/$archive"
