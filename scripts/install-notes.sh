#!/bin/sh
# Prints INSTALL.md, which each archive of a release has: every way to install this version:
# sh scripts/install-notes.sh OWNER/NAME
set -eu

repository=$1
version=$(sh "$(dirname "$0")/version.sh")
url=https://github.com/$repository

cat <<EOT
# Installing codex-pool $version

Each way ends with \`codex-pool init\`. It puts the shim \`codex\` first on \`PATH\` and takes over the login that you
have.

## The installer

    curl -fsSLO $url/releases/download/v$version/install.sh
    VERSION=$version sh install.sh

It verifies the SHA-256 of the archive. \`codex-pool update\` installs later versions, and \`sh install.sh --uninstall\`
removes everything again.

## Homebrew

The release has a formula, which goes into a tap of your own:

    brew tap-new --no-git local/codex-pool
    curl -fsSL $url/releases/download/v$version/codex-pool.rb \\
        -o "\$(brew --repository local/codex-pool)/Formula/codex-pool.rb"
    brew install local/codex-pool/codex-pool

For another version, fetch its formula and run \`brew upgrade\`, then \`codex-pool init\`.

## cargo

With Rust $(sed -n 's/^rust-version = "\(.*\)"/\1/p' "$(dirname "$0")/../Cargo.toml") or later:

    cargo install --locked --git $url --tag v$version codex-pool codex-shim

This also puts the shim into cargo's folder of programs. It runs the next \`codex\` on \`PATH\`.

## Containers and GitHub Actions

The repository has a \`Containerfile\`, and an action: \`uses: $repository@v$version\`.
EOT
