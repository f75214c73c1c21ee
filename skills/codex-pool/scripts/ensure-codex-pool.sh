#!/bin/sh
# Sees whether Codex and codex-pool are here, the latter at least in the version that this skill was written for.
# Changes nothing, unless CODEX_POOL_INSTALL_APPROVED=1 says that the user has agreed: then it installs that
# version with the release's own installer, after checking the installer's SHA-256.
#
# Exit status: 0 all is well, 1 something is wrong, 3 the user has to be asked first.
set -u

VERSION=0.2.0
# The release workflow writes OWNER/NAME and the installer's checksum here. Empty: a copy from the sources.
RELEASE_REPOSITORY=""
INSTALLER_SHA256=""

die() { # ERROR NEXT
    printf 'error: %s\n  next: %s\n' "$1" "$2" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

# Whether version $1 is $2 or newer: three numbers, compared as such; what follows a `-` or `+` does not count.
at_least() {
    old_ifs=$IFS
    IFS=.
    # shellcheck disable=SC2086  # to be split at the dots
    set -- ${1%%[-+]*} $2
    IFS=$old_ifs
    [ $# -eq 6 ] || return 1
    [ "$1" -gt "$4" ] || { [ "$1" -eq "$4" ] && { [ "$2" -gt "$5" ] || { [ "$2" -eq "$5" ] && [ "$3" -ge "$6" ]; }; }; }
}

main() {
    codex --version </dev/null >/dev/null 2>&1 ||
        die 'the official Codex CLI is not here, or does not run' 'its usual install: npm install -g @openai/codex'
    tool_dir=${INSTALL_DIR:-${HOME:?}/.local/bin}
    tool=$(command -v codex-pool) || tool=$tool_dir/codex-pool
    # What is said below is read by an agent, which may take it for the truth: so nothing in it is another's text.
    for text in "$tool_dir" "$tool" "${CODEX_POOL_HOME:-}"; do
        case $text in
            *[[:cntrl:]]*)
                die 'a path with control characters cannot be used' 'see to PATH, INSTALL_DIR and CODEX_POOL_HOME'
                ;;
        esac
    done
    found=$("$tool" --version </dev/null 2>/dev/null) || found=''
    found=${found#codex-pool }
    case $found in *[!0-9A-Za-z.+-]*) found='' ;; esac
    if [ -n "$found" ] && at_least "$found" "$VERSION" 2>/dev/null; then
        printf 'codex-pool %s is here: %s\n' "$found" "$tool"
        return 0
    fi

    releases=${CODEX_POOL_RELEASES:-${RELEASE_REPOSITORY:+https://github.com/$RELEASE_REPOSITORY/releases}}
    [ -z "$releases" ] || check_url
    printf 'codex-pool is %s; this skill needs %s.\n' "${found:-not installed}" "$VERSION"
    [ -n "$releases" ] || die 'this copy of the skill does not know where releases are' \
        "run install.sh in a checkout of codex-pool, or set CODEX_POOL_RELEASES=https://github.com/OWNER/NAME/releases"
    if [ "${CODEX_POOL_INSTALL_APPROVED:-}" != 1 ]; then
        cat <<EOF
Installing it downloads release v$VERSION from $releases,
verifies its SHA-256, and writes $tool_dir/codex-pool, ${CODEX_POOL_HOME:-$HOME/.codex-pool}
and one line in the shell's start file (not with NO_MODIFY_PATH=1).
Nothing was changed. Ask the user; after a yes run this again with CODEX_POOL_INSTALL_APPROVED=1.
EOF
        exit 3
    fi
    install_pinned
    found=$("$tool_dir/codex-pool" --version </dev/null)
    [ "$found" = "codex-pool $VERSION" ] ||
        die "$tool_dir/codex-pool does not answer as version $VERSION" "see what it says to this: $tool_dir/codex-pool doctor"
    now=$(command -v codex-pool) || now=''
    [ "$now" = "$tool_dir/codex-pool" ] ||
        printf 'In this shell call it as %s (PATH finds %s).\n' "$tool_dir/codex-pool" "${now:-none}"
}

# https anywhere, plain http only to this machine; and no character that is not an address's.
check_url() {
    case $releases in
        *[!0-9A-Za-z:/._~%-]*) ;;
        https://?* | http://127.0.0.1:* | http://localhost:*) return 0 ;;
    esac
    die 'releases come over https, or http from this machine; CODEX_POOL_RELEASES names no such place' \
        'name one there, such as https://github.com/OWNER/NAME/releases'
}

install_pinned() {
    [ -n "$(checksum </dev/null)" ] ||
        die 'no tool to verify the download (sha256sum, shasum or openssl)' 'install one of them, and try again'
    folder=$(mktemp -d) || die 'cannot make a temporary folder' 'make room there, or name another in TMPDIR'
    trap 'rm -rf "$folder"' EXIT
    trap 'exit 130' INT
    trap 'exit 143' HUP TERM
    from=${releases%/}/download/v$VERSION/install.sh
    if [ -n "$INSTALLER_SHA256" ]; then
        expected=$INSTALLER_SHA256
    else
        fetch "$from.sha256" "$folder/sum"
        read -r expected _ <"$folder/sum" || [ -n "${expected:-}" ] ||
            die "$from.sha256 is empty" 'tell the user: that release is not whole'
    fi
    fetch "$from" "$folder/install.sh"
    actual=$(checksum <"$folder/install.sh")
    [ "$actual" = "$expected" ] ||
        die "$from is not the published one: SHA-256 is $actual, should be $expected. Nothing was installed" \
            'tell the user, and do not run it'
    VERSION=$VERSION CODEX_POOL_RELEASES=$releases INSTALL_DIR=$tool_dir sh "$folder/install.sh" ||
        die 'the installer failed' 'do what it says above'
}

# Redirects may lead to https only; wget cannot be told so, but its headers tell where it has been.
fetch() { # URL FILE
    have curl || have wget || die 'curl or wget is needed to download a release' 'install one of them, and try again'
    (
        # An installer is small and soon here: at most 512 kB, in a minute.
        ulimit -f 1024 2>/dev/null || :
        if have curl; then
            curl -fsSL --proto '=https,http' --proto-redir '=https' --max-time 60 "$1" >"$2"
        else
            limit=''
            ! have timeout || limit='timeout 60'
            $limit wget -q -S -O - "$1" >"$2" 2>"$2.headers" && ! grep -qi '^ *location: *http:' "$2.headers"
        fi
    ) || die "cannot download $1" 'see whether it is there, and try again'
}

checksum() {
    if have sha256sum; then
        sha256sum
    elif have shasum; then
        shasum -a 256
    elif have openssl; then
        openssl dgst -sha256 -r
    else
        return 1
    fi | cut -d ' ' -f 1
}

main "$@"
