#!/usr/bin/env bash
# Runs the tests that use the real Codex with several versions of it, and writes docs/compatibility.md.
# Usage: scripts/compatibility.sh [VERSION…]
# COMPATIBILITY_RESULTS=<file> keeps the results there; a version that has some is not run again.
set -euo pipefail
cd "$(dirname "$0")/.."

versions=("$@")
[ "${#versions[@]}" -gt 0 ] || versions=(0.120.0 0.140.0 0.150.0 0.159.3 0.169.0)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
results=${COMPATIBILITY_RESULTS:-$work/results}
touch "$results"

# Runs the tests of a suite whose names contain one of the words, or all, and notes of each that used the real Codex
# how it ended.
suite() {
    local version=$1 package=$2 name=$3
    rm -f "$work/used" && touch "$work/used"
    CODEX_POOL_TEST_VERSIONS=$version CODEX_POOL_TEST_USED=$work/used cargo test --quiet --locked \
        -p "$package" --test "$name" -- --test-threads=2 --format=pretty "${@:4}" >"$work/output" 2>&1 || true
    grep -q '^test result' "$work/output" || { tail -n 20 "$work/output" >&2 && exit 1; }
    sed -nE 's/^test (.*) \.\.\. (ok|FAILED)$/\1 \2/p' "$work/output" | while read -r test end; do
        ! grep -qxF "$test" "$work/used" || printf '%s %s %s %s\n' "$name" "$test" "$version" "$end"
    done >>"$results"
    # What failed is shown, with its reason.
    if grep -q '\.\.\. FAILED$' "$work/output"; then
        sed -n '/^failures:$/,$p' "$work/output" >&2
    fi
}

for version in "${versions[@]}"; do
    printf 'Codex %s\n' "$version" >&2
    ! grep -qF " $version " "$results" || continue
    suite "$version" codex-pool homes
    # The other tests of these do without the real Codex, and take their time.
    for name in life refresh proof; do
        suite "$version" codex-pool "$name" real::
    done
    suite "$version" codex-pool launch server:: rotation:: adoption:: real_codex keyring why_names_first \
        sessions_on_three twenty_launches two_copies absent_codex_home
    suite "$version" testkit real
done

count() { grep -cE "$1" "$results" || true; }

{
    # shellcheck disable=SC2016 # the backticks are Markdown's
    printf '# Compatibility\n\nWritten by `scripts/compatibility.sh`, which runs every test that uses the real Codex with each of these versions,\n'
    # shellcheck disable=SC2016
    printf 'against the stand-in service. `–`: the version does not have what the test is about. `real`: the tests of the\n'
    printf 'stand-in service itself, against Codex without the pool.\n\n'
    cat <<'EOF'
What the older versions lack, and what the pool does about it:

- Before 0.159 there is no background server, and no `--no-daemon`: the shim asks the installed Codex, and adds nothing it does not know.
  Session logs do not say who made them: a session goes to whoever was in its folder when it began.
- Before 0.140 Codex does not hold SQLite's lock on its databases: an editor or desktop app of that age is not seen in
  the main home unless the shim started it.
- Before 0.140 `codex login` revokes nothing, and Codex does not renew its tokens ahead of time.

EOF
    printf '| suite | what holds |'
    printf ' %s |' "${versions[@]}"
    printf '\n|---|---|'
    printf -- '---|%.0s' "${versions[@]}"
    printf '\n'
    cut -d' ' -f1,2 "$results" | sort -u | while read -r name test; do
        what=${test##*::}
        printf '| %s | %s |' "$name" "${what//_/ }"
        for version in "${versions[@]}"; do
            case $(grep -F "$name $test $version " "$results" | cut -d' ' -f4 | sort -u) in
            ok) printf ' yes |' ;;
            "") printf ' – |' ;;
            *) printf ' **no** |' ;;
            esac
        done
        printf '\n'
    done
    printf '| | tests |'
    for version in "${versions[@]}"; do
        printf ' %s of %s |' "$(count " $version ok$")" "$(count " $version ")"
    done
    printf '\n'
} >docs/compatibility.md
! grep -q FAILED "$results"
