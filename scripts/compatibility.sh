#!/usr/bin/env bash
# Runs the tests that use the real Codex with several versions of it, and writes their rows in docs/compatibility.md.
# Usage: scripts/compatibility.sh [VERSION…]      `newest` is the newest version that npm has.
# COMPATIBILITY_RESULTS=<file> keeps the results there. A version that has results is not run again.
set -euo pipefail
cd "$(dirname "$0")/.."

page=docs/compatibility.md
suites=(launch homes life refresh proof real) # the columns of the page
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
results=${COMPATIBILITY_RESULTS:-$work/results}
touch "$results"

versions=()
[ $# -gt 0 ] || set -- 0.120.0 0.140.0 0.150.0 0.159.3 0.169.0
for version in "$@"; do
    [ "$version" != newest ] || version=$(npm view @openai/codex version)
    versions+=("$version")
done

# Runs the tests of a suite whose names contain one of the words, or all of them, and writes down how each test that
# used the real Codex ended.
suite() { # VERSION PACKAGE SUITE [WORD…]
    local version=$1 package=$2 name=$3
    rm -f "$work/used" && touch "$work/used"
    CODEX_POOL_TEST_ALL=1 CODEX_POOL_TEST_VERSIONS=$version CODEX_POOL_TEST_USED=$work/used cargo test --quiet --locked \
        -p "$package" --test "$name" -- --test-threads=2 --format=pretty "${@:4}" >"$work/output" 2>&1 || true
    grep -q '^test result' "$work/output" || { tail -n 20 "$work/output" >&2 && exit 1; }
    [ -s "$work/used" ] || { printf 'no test of %s used the real Codex\n' "$name" >&2 && exit 1; }
    sed -nE 's/^test (.*) \.\.\. (ok|FAILED)$/\1 \2/p' "$work/output" | while read -r test end; do
        ! grep -qxF "$test" "$work/used" || printf '%s %s %s %s\n' "$name" "$test" "$version" "$end"
    done >>"$results"
    # The failures, with their reasons.
    if grep -q '\.\.\. FAILED$' "$work/output"; then
        sed -n '/^failures:$/,$p' "$work/output" >&2
    fi
}

count() { grep -cE "$1" "$results" || true; }

# The version's row: how many of a suite's tests passed, and of how many if not all did.
row() {
    local passed all
    printf '| %s |' "$1"
    for name in "${suites[@]}"; do
        passed=$(count "^$name [^ ]+ ${1//./\\.} ok$") all=$(count "^$name [^ ]+ ${1//./\\.} ")
        if [ "$passed" = "$all" ]; then printf ' %s |' "$all"; else printf ' **%s of %s** |' "$passed" "$all"; fi
    done
    printf '\n'
}

for version in "${versions[@]}"; do
    printf 'Codex %s\n' "$version" >&2
    if ! grep -qF " $version " "$results"; then
        suite "$version" codex-pool homes
        # The other tests of these suites do not use the real Codex, and take long.
        for name in life refresh proof; do
            suite "$version" codex-pool "$name" real::
        done
        suite "$version" codex-pool launch server:: rotation:: adoption:: real_codex keyring why_names_first \
            sessions_on_three twenty_launches two_copies absent_codex_home
        suite "$version" testkit real
    fi
    # The table ends the page; the rows of other versions stay.
    {
        sed '/^| [0-9]/d' "$page"
        { grep '^| [0-9]' "$page" | grep -vF "| $version |" || true; row "$version"; } | sort -V
    } >"$work/page"
    cat "$work/page" >"$page"
done
! grep -q ' FAILED$' "$results"
