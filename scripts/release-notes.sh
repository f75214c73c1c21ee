#!/bin/sh
# Prints the text of the release's page: how to install it, and its section of CHANGELOG.md:
# sh scripts/release-notes.sh OWNER/NAME
set -eu

repository=$1
here=$(cd "$(dirname "$0")" && pwd)
version=$(sh "$here/version.sh")
changes=$(sed -n "/^## \[$version\]/,/^## /{ /^## /d; p; }" "$here/../CHANGELOG.md")
[ -n "$changes" ] || {
    echo "CHANGELOG.md has no section [$version]" >&2
    exit 1
}

cat <<EOT
## Install

    curl -fsSLO https://github.com/$repository/releases/download/v$version/install.sh
    VERSION=$version sh install.sh

The installer verifies the SHA-256 of what it downloads. \`INSTALL.md\` in each archive has the other ways: Homebrew,
cargo, a container, GitHub Actions. To check from which commit a file was built:

    gh attestation verify install.sh --repo $repository

## Changes
$changes
EOT
