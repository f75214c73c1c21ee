#!/bin/sh
# Adds to DIST what a release has beside the archives: install.sh and the skill, which both learn here where releases
# are, a Homebrew formula, and version.txt, by which the newest version is found: sh scripts/release-files.sh OWNER/NAME DIST
set -eu

repository=$1
dist=$(cd "$2" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
version=$(sh "$here/version.sh")

# Copies FILE to TO with NAME="" filled in; a line that is not there any more is an error.
fill() { # FILE TO NAME VALUE
    grep -q "^$3=\"\"\$" "$1" || {
        echo "$1 has no line $3=\"\"" >&2
        exit 1
    }
    sed "s|^$3=\"\"\$|$3=\"$4\"|" "$1" >"$2"
}

fill "$here/../install.sh" "$dist/install.sh" RELEASE_REPOSITORY "$repository"
sh "$here/checksum.sh" "$dist/install.sh"
read -r installer _ <"$dist/install.sh.sha256"

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cp -R "$here/../skills/codex-pool" "$folder/"
script=scripts/ensure-codex-pool.sh
fill "$here/../skills/codex-pool/$script" "$folder/half-filled" RELEASE_REPOSITORY "$repository"
fill "$folder/half-filled" "$folder/codex-pool/$script" INSTALLER_SHA256 "$installer"
skill=codex-pool-skill-$version.tar.gz
sh "$here/pack.sh" "$dist/$skill" "$folder" codex-pool
sh "$here/checksum.sh" "$dist/$skill"

sh "$here/formula.sh" "$repository" "$dist" >"$dist/codex-pool.rb"

printf '%s\n' "$version" >"$dist/version.txt"
