#!/usr/bin/env bash
# Builds the container of Containerfile and looks whether its programs answer, with podman, buildah or docker. Says that
# it is skipped where none of them can build: scripts/container.sh
set -euo pipefail
cd "$(dirname "$0")/.."

image=codex-pool-test
version=$(sh scripts/version.sh)
for builder in podman docker; do
    if command -v "$builder" >/dev/null && "$builder" info >/dev/null 2>&1; then
        "$builder" build --file Containerfile --tag "$image" .
        said=$("$builder" run --rm "$image" sh -c 'codex-pool --version && CODEX_POOL_SHIM_VERSION=1 codex && id -u')
        "$builder" image rm "$image" >/dev/null
        [ "$said" = "codex-pool $version"$'\n'"codex-shim $version"$'\n'1000 ]
        exit 0
    fi
done
echo 'skipped: no podman or docker that can build is here'
