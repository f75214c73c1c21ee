#!/usr/bin/env bash
# Runs the tests that use the real Codex with several versions of it, and writes docs/compatibility.md.
# Usage: scripts/compatibility.sh [VERSION…]
set -euo pipefail
cd "$(dirname "$0")/.."

versions=("$@")
[ "${#versions[@]}" -gt 0 ] || versions=(0.120.0 0.140.0 0.150.0 0.159.3 0.169.0)
results=$(mktemp)
trap 'rm -f "$results"' EXIT

# What a test runs for a version: its name and how it ended.
suite() {
    CODEX_POOL_TEST_VERSIONS=$1 cargo test --quiet --locked --no-fail-fast "${@:2}" -- \
        --test-threads=2 --format=pretty 2>/dev/null | sed -nE 's/^test (.*) \.\.\. (ok|FAILED)$/\1 \2/p' || true
}

for version in "${versions[@]}"; do
    printf 'Codex %s\n' "$version" >&2
    for tests in "-p codex-pool --test proof real::" "-p codex-pool --test refresh real::" \
        "-p codex-pool --test life real::" "-p testkit --test real"; do
        # shellcheck disable=SC2086 # several words
        suite "$version" $tests | while read -r name end; do
            printf '%s %s %s\n' "${name##*::}" "$version" "$end"
        done
    done >>"$results"
done

{
    # shellcheck disable=SC2016 # the backticks are Markdown's
    printf '# Compatibility\n\nWritten by `scripts/compatibility.sh`, which runs the tests that use the real Codex, with each of these versions,\n'
    printf 'against the stand-in service.\n\n| what holds |'
    printf ' %s |' "${versions[@]}"
    printf '\n|---|'
    printf -- '---|%.0s' "${versions[@]}"
    printf '\n'
    cut -d' ' -f1 "$results" | sort -u | while read -r name; do
        printf '| %s |' "${name//_/ }"
        for version in "${versions[@]}"; do
            case $(grep -F "$name $version " "$results" | cut -d' ' -f3 | sort -u) in
            ok) printf ' yes |' ;;
            "") printf ' – |' ;;
            *) printf ' **no** |' ;;
            esac
        done
        printf '\n'
    done
} >docs/compatibility.md
! grep -q FAILED "$results"
