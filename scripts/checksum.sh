#!/bin/sh
# Writes FILE.sha256 beside FILE, in the format of sha256sum: sh scripts/checksum.sh FILE
set -eu

cd "$(dirname "$1")"
name=$(basename "$1")
if command -v sha256sum >/dev/null; then
    sha256sum "$name" >"$name.sha256"
else
    shasum -a 256 "$name" >"$name.sha256"
fi
