#!/bin/sh
# Starts a command in the container. The volume gets what a launch needs of an installation: a link to codex-pool, by
# which the shim refreshes usage and renews tokens.
set -eu

pool=${CODEX_POOL_HOME:-$HOME/.codex-pool}
programs=$(dirname "$(command -v codex-pool)")
mkdir -p "$pool/bin"
chmod 700 "$pool"
[ "$(readlink "$pool/bin/codex-pool" || :)" = "$programs/codex-pool" ] || ln -sfn "$programs/codex-pool" "$pool/bin/codex-pool"
exec "$@"
