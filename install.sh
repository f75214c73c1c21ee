#!/bin/sh
# Installs codex-pool and its `codex` shim: built here when run from a checkout, else from a verified release.
# `sh install.sh --help` says more. Everything is in functions that are called on the last line, so that a
# script cut off on its way does nothing.
#
# shellcheck disable=SC2016  # `$HOME` in single quotes is meant for the shell that reads the line later
# shellcheck disable=SC2015  # in `A && B || die` it does not matter which of them failed

# The release workflow writes OWNER/NAME here. Empty: this copy has no release source.
RELEASE_REPOSITORY=""

# What every shim carries (core writes it there) and no other `codex` does.
MARKER="codex-pool-shim-marker"

usage() {
    cat <<'EOF'
Installs codex-pool and its `codex` shim, for this user, without sudo.

  sh install.sh               from a checkout: build and install; else: download, verify and install a release
  sh install.sh --uninstall   remove both programs again; asks before it removes the accounts in the pool

Options:
  --yes          with --uninstall: do not ask; the pool's data stays
  --purge        with --uninstall: do not ask; the pool's data goes, too
  --help         this text

Environment:
  VERSION=1.2.3            this release instead of the newest
  INSTALL_DIR=DIR          where codex-pool goes (default: ~/.local/bin)
  CODEX_POOL_HOME=DIR      where the pool and the shim live (default: ~/.codex-pool)
  NO_MODIFY_PATH=1         leave the shell's start files (and GITHUB_PATH) alone
  CODEX_POOL_RELEASES=URL  where releases are (https, or http on this machine), instead of the built-in place
EOF
}

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
die() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

main() {
    # zsh has its own idea of what a trap in a function is.
    [ -z "${ZSH_VERSION:-}" ] || emulate sh
    set -u
    umask 022
    action=install data=ask
    while [ $# -gt 0 ]; do
        case $1 in
            --uninstall) action=uninstall ;;
            --yes | -y) data=keep ;;
            --purge) data=purge ;;
            --help | -h)
                usage
                return 0
                ;;
            *)
                usage >&2
                exit 2
                ;;
        esac
        shift
    done
    find_places
    case $action in
        uninstall) uninstall ;;
        *) install ;;
    esac
}

find_places() {
    [ -n "${HOME:-}" ] || die "HOME is not set"
    pool=$(absolute "${CODEX_POOL_HOME:-$HOME/.codex-pool}")
    receipt=$pool/receipt.json
    shim_dir=$pool/bin
    shim=$shim_dir/codex
    # What was once put elsewhere is replaced there, and taken away from there.
    recorded=$(receipt_value binary)
    recorded=${recorded%/codex-pool}
    tool_dir=$(absolute "${INSTALL_DIR:-${recorded:-$HOME/.local/bin}}")
    tool=$tool_dir/codex-pool
    case $pool$tool_dir in
        *[[:cntrl:]]*) die "a path with control characters cannot be used" ;;
    esac
    home_line=''
    [ "$pool" != "$HOME/.codex-pool" ] || home_line=1
}

absolute() {
    case $1 in
        /*) path=$1 ;;
        *) path=$PWD/$1 ;;
    esac
    while [ "$path" != "${path%/}" ]; do path=${path%/}; done
    printf '%s\n' "$path"
}

# The string at one key of the receipt; nothing if there is none. We write one key per line.
receipt_value() {
    [ ! -f "$receipt" ] || sed -n 's/^ *"'"$1"'": "\(.*\)",*$/\1/p' "$receipt" | sed 's/\\\(["\\]\)/\1/g'
}

is_shim() { LC_ALL=C grep -a -q "$MARKER" "$1" 2>/dev/null; }

refuse_foreign_shim() {
    if [ -e "$shim" ] || [ -L "$shim" ]; then
        if [ -d "$shim" ] || ! is_shim "$shim"; then
            die "$shim is not codex-pool's shim, so it stays as it is. Move it away and try again."
        fi
    fi
}

refuse_other_installer() {
    owner=$(receipt_value installer)
    case $owner in
        '' | install.sh) ;;
        *) die "codex-pool was installed by $owner; use that to update or remove it" ;;
    esac
}

install() {
    refuse_other_installer
    refuse_foreign_shim
    [ ! -d "$tool" ] || die "$tool is a folder"
    find_source
    make_stages
    if [ "$method" = source ]; then build; else download; fi
    check_new
    write_companions
    put_in_place
    say "Installed codex-pool $version: $tool"
    say "and the codex shim: $shim"
    set_path
    say 'Next: codex-pool init'
}

# From a checkout if that is where this file lies, unless a release is asked for.
find_source() {
    method=release version=${VERSION:-} checkout=''
    case $0 in
        */install.sh) checkout=${0%/*} ;;
        install.sh) checkout=. ;;
    esac
    if [ -n "$checkout" ] && [ -z "$version${CODEX_POOL_RELEASES:-}" ] &&
        [ -f "$checkout/shim/Cargo.toml" ] && grep -q '^name = "codex-pool"' "$checkout/Cargo.toml" 2>/dev/null; then
        method=source
        checkout=$(cd "$checkout" && pwd) || die "cannot enter $checkout"
        version=$(sh "$checkout/scripts/version.sh")
        return 0
    fi
    releases=${CODEX_POOL_RELEASES:-}
    if [ -z "$releases" ]; then
        [ -n "$RELEASE_REPOSITORY" ] || die 'this copy of install.sh does not know where releases are.
Run it from a checkout to build codex-pool, or set CODEX_POOL_RELEASES=https://github.com/OWNER/NAME/releases'
        releases=https://github.com/$RELEASE_REPOSITORY/releases
    fi
    releases=${releases%/}
    check_url "$releases"
    target=$(platform) || exit 1
    find_checksum_tool
    if [ -n "$version" ]; then
        version=${version#v}
        check_version "$version"
    fi
}

# The platform's name in the archives.
platform() {
    os=$(uname -s) cpu=$(uname -m)
    # A shell under Rosetta says x86_64 on a machine that is not.
    if [ "$os" = Darwin ] && [ "$(sysctl -n hw.optional.arm64 2>/dev/null)" = 1 ]; then cpu=arm64; fi
    case $cpu in
        x86_64 | amd64) cpu=x86_64 ;;
        aarch64 | arm64) cpu=aarch64 ;;
        *) cpu='' ;;
    esac
    case $os in
        Linux) system=unknown-linux-musl ;;
        Darwin) system=apple-darwin ;;
        *) system='' ;;
    esac
    [ -n "$cpu" ] && [ -n "$system" ] || die "codex-pool runs on Linux and macOS, on x86_64 and aarch64; this is $(uname -sm)"
    printf '%s\n' "$cpu-$system"
}

check_version() {
    printf '%s\n' "$1" | LC_ALL=C grep -Eq '^[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.-]+)?$' ||
        die "'$1' is not a version like 1.2.3"
}

# Both folders get a place of their own for new files: a rename inside one file system is all or nothing.
make_stages() {
    tool_stage='' shim_stage=''
    trap remove_stages EXIT
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
    mkdir -p "$tool_dir" && tool_stage=$(mktemp -d "$tool_dir/.codex-pool-install.XXXXXX") ||
        die "cannot write to $tool_dir. Choose another folder with INSTALL_DIR=…"
    # The pool will contain credentials: no other user may read it.
    mkdir -p "$shim_dir" && chmod 700 "$pool" && shim_stage=$(mktemp -d "$shim_dir/.codex-pool-install.XXXXXX") ||
        die "cannot write to $pool. Choose another folder with CODEX_POOL_HOME=…"
}

remove_stages() {
    [ -z "$tool_stage" ] || rm -rf "$tool_stage"
    [ -z "$shim_stage" ] || rm -rf "$shim_stage"
}

# The new programs must run here and be what they should be, before anything is replaced. The shim gets an empty
# environment: a program that is not our shim must not find a Codex to start.
check_new() {
    for name in codex-pool codex; do
        [ -f "$tool_stage/$name" ] && [ ! -L "$tool_stage/$name" ] || die "the new $name is no file"
    done
    mv "$tool_stage/codex" "$shim_stage/codex" || die "cannot write to $shim_dir"
    chmod 755 "$tool_stage/codex-pool" "$shim_stage/codex" || die "cannot make the new programs executable"
    answer=$("$tool_stage/codex-pool" --version </dev/null) || die "the new codex-pool does not run here"
    [ "$answer" = "codex-pool $version" ] || die "the new codex-pool says '$answer', not 'codex-pool $version'"
    is_shim "$shim_stage/codex" || die "the new codex is not codex-pool's shim"
    answer=$(env -i CODEX_POOL_SHIM_VERSION=1 "$shim_stage/codex" </dev/null) || die "the new shim does not run here"
    [ "$answer" = "codex-shim $version" ] || die "the new shim says '$answer', not 'codex-shim $version'"
}

# The files that go with the programs are written before anything is replaced, too: a full disk shows now.
write_companions() {
    {
        write_env_sh "$(quote_sh "$shim_dir")" >"$shim_stage/env" &&
            write_env_fish "$(quote_fish "$shim_dir")" >"$shim_stage/env.fish" &&
            write_receipt >"$shim_stage/receipt.json" &&
            ln -s "$tool" "$shim_stage/codex-pool" &&
            chmod 600 "$shim_stage/env" "$shim_stage/env.fish" "$shim_stage/receipt.json"
    } || die "cannot write to $shim_dir"
}

write_receipt() {
    url=null
    [ "$method" = source ] || url=$(quote_json "$releases")
    cat <<EOF
{
  "schema": 1,
  "installer": "install.sh",
  "method": "$method",
  "version": "$version",
  "releases": $url,
  "binary": $(quote_json "$tool"),
  "shim": $(quote_json "$shim"),
  "installed_at": $(date +%s)
}
EOF
}

# Both or neither: if the second rename fails, the first is taken back.
put_in_place() {
    previous=''
    if [ -e "$tool" ]; then
        previous=$tool_stage/previous
        ln "$tool" "$previous" 2>/dev/null || cp -p "$tool" "$previous" || die "cannot keep the present $tool"
    fi
    mv -f "$tool_stage/codex-pool" "$tool" || die "cannot replace $tool"
    if ! mv -f "$shim_stage/codex" "$shim"; then
        if [ -n "$previous" ]; then mv -f "$previous" "$tool"; else rm -f "$tool"; fi
        die "cannot replace $shim; everything is as it was"
    fi
    for name in env env.fish receipt.json; do
        mv -f "$shim_stage/$name" "$pool/$name" || die "cannot write $pool/$name"
    done
    # The shim finds codex-pool there, and PATH does, too.
    [ "$shim_dir" = "$tool_dir" ] || mv -f "$shim_stage/codex-pool" "$shim_dir/codex-pool" || die "cannot write to $shim_dir"
}

build() {
    have cargo && have rustc || die 'Rust is needed to build codex-pool: https://rustup.rs'
    say "Building codex-pool $version in $checkout"
    sh "$checkout/scripts/build.sh" "$tool_stage" || die "the build failed"
}

download() {
    if [ -z "$version" ]; then
        fetch "$releases/latest/download/version.txt" "$tool_stage/version.txt"
        read -r version <"$tool_stage/version.txt" || [ -n "$version" ] || die "$releases names no newest version"
        check_version "$version"
    fi
    archive=codex-pool-$version-$target.tar.gz
    from=$releases/download/v$version/$archive
    say "Downloading $from"
    fetch "$from.sha256" "$tool_stage/$archive.sha256"
    fetch "$from" "$tool_stage/$archive"
    verify
    (cd "$tool_stage" && tar -xzf "$archive" codex-pool codex) || die "cannot unpack $archive"
}

# https anywhere, plain http only to this machine. No user name: it would end up in the receipt.
check_url() {
    rest=${1#*://}
    place=${rest%%/*}
    case $1 in
        *[[:space:][:cntrl:]\\\?\#\"]*) place=bad ;;
        https://?*) scheme=https ;;
        http://?*)
            scheme=http
            port=${place##*:}
            case $place in
                127.0.0.1 | localhost | '[::1]') ;;
                127.0.0.1:* | localhost:* | '[::1]':*) case $port in '' | *[!0-9]*) place=bad ;; esac ;;
                *) place=bad ;;
            esac
            ;;
        *) place=bad ;;
    esac
    case $place in
        bad | *@*) die "releases come over https, or http from this machine, not from '$1'" ;;
    esac
}

fetch() { # URL FILE
    if have curl; then
        fetch_curl "$1" "$2" || die "cannot download $1"
    elif have wget; then
        fetch_wget "$1" "$2" || die "cannot download $1"
    else
        die 'curl or wget is needed to download a release'
    fi
}

# Redirects may not leave https. Output goes through the shell, because some packaged curls may not write to
# hidden folders themselves.
fetch_curl() {
    if [ "$scheme" = http ]; then
        (no_proxy && curl -fsS --proto '=http' --connect-timeout 30 "$1" >"$2")
    else
        curl -fsSL --proto '=https' --tlsv1.2 --connect-timeout 30 --retry 3 "$1" >"$2"
    fi
}

# wget cannot be told to stay on https, so the headers tell where it has been; nothing was used until then.
fetch_wget() {
    tries=''
    ! wget --help 2>&1 | grep -q -e --tries || tries=--tries=3
    (
        [ "$scheme" = https ] || no_proxy
        # shellcheck disable=SC2086  # nothing, or one option
        LC_ALL=C wget -q -S $tries -O - "$1" >"$2" 2>"$2.headers"
    ) || {
        cat "$2.headers" >&2
        return 1
    }
    moved=$(sed -n 's/^ *[Ll]ocation: *//p' "$2.headers")
    [ "$scheme" = https ] || [ -z "$moved" ] || return 1
    [ -z "$moved" ] || ! printf '%s\n' "$moved" | grep -q -v -e '^https://' -e '^/'
}

no_proxy() { unset http_proxy HTTP_PROXY all_proxy ALL_PROXY; }

find_checksum_tool() {
    for hasher in sha256sum shasum openssl; do
        ! have "$hasher" || return 0
    done
    die 'no tool to verify the download (sha256sum, shasum or openssl), so nothing was downloaded'
}

checksum() {
    case $hasher in
        sha256sum) sha256sum <"$1" ;;
        shasum) shasum -a 256 <"$1" ;;
        openssl) openssl dgst -sha256 -r <"$1" ;;
    esac | cut -d ' ' -f 1
}

verify() {
    expected='' file=''
    read -r expected file <"$tool_stage/$archive.sha256" || [ -n "$expected" ] || die "$archive.sha256 is empty"
    case $expected in
        *[!0-9a-f]*) expected='' ;;
    esac
    [ ${#expected} -eq 64 ] && [ "${file#\*}" = "$archive" ] || die "$archive.sha256 is not a checksum of $archive"
    actual=$(checksum "$tool_stage/$archive") || die "cannot read $archive"
    [ "$actual" = "$expected" ] ||
        die "$archive is damaged or not the published one: SHA-256 is $actual, should be $expected. Nothing was installed."
}

quote_sh() { printf '%s\n' "$1" | sed "s/'/'\\\\''/g; s/^/'/; s/\$/'/"; }
quote_fish() { printf '%s\n' "$1" | sed "s/[\\\\']/\\\\&/g; s/^/'/; s/\$/'/"; }
quote_json() { printf '%s\n' "$1" | sed 's/[\\"]/\\&/g; s/^/"/; s/$/"/'; }

# The text of src/shell_env/env.sh and env.fish; the folder comes quoted.
write_env_sh() { # BIN
    cat <<EOF
# Written by codex-pool and read by your shell: its \`codex\` goes first on PATH.
case "\$PATH:" in
    $1:*) ;;
    *) PATH=$1:\$PATH ;;
esac
export PATH
EOF
}

write_env_fish() { # BIN
    cat <<EOF
# Written by codex-pool and read by fish: its \`codex\` goes first on PATH.
test "\$PATH[1]" = $1; or set -gx PATH $1 \$PATH
EOF
}

# The line for a start file. Without its file it does nothing: `.` of a missing file ends some shells.
source_line() { # sh|fish
    if [ "$1" = fish ]; then
        file=$(quote_fish "$pool/env.fish")
        [ -z "$home_line" ] || file='"$HOME/.codex-pool/env.fish"'
        printf 'not test -f %s; or source %s\n' "$file" "$file"
    else
        file=$(quote_sh "$pool/env")
        [ -z "$home_line" ] || file='"$HOME/.codex-pool/env"'
        printf '[ ! -f %s ] || . %s\n' "$file" "$file"
    fi
}

set_path() {
    case $pool in
        *:*)
            warn "$pool cannot be on PATH, because of the colon in its name; choose another with CODEX_POOL_HOME"
            return 0
            ;;
    esac
    shell=${SHELL:-sh}
    shell=${shell##*/}
    line=$(source_line "$shell")
    changed=''
    if [ "${NO_MODIFY_PATH:-0}" != 1 ]; then
        if [ -n "${GITHUB_PATH:-}" ]; then
            printf '%s\n' "$shim_dir" >>"$GITHUB_PATH" || warn "cannot write to GITHUB_PATH"
        fi
        case $shell in
            zsh) add_line "${ZDOTDIR:-$HOME}/.zshrc" ;;
            fish) add_line "${XDG_CONFIG_HOME:-$HOME/.config}/fish/config.fish" ;;
            bash)
                add_line "$HOME/.bashrc"
                # The first of these is all that a login shell reads.
                login=$HOME/.profile
                for file in "$HOME/.bash_login" "$HOME/.bash_profile"; do
                    [ ! -e "$file" ] || login=$file
                done
                add_line "$login"
                ;;
            *) add_line "$HOME/.profile" ;;
        esac
    fi
    tell_about_path
}

add_line() { # FILE
    if [ -f "$1" ] && grep -qxF -e "$line" "$1"; then
        changed=1
        return 0
    fi
    gap=''
    # A last line without its line break must not swallow ours.
    [ ! -s "$1" ] || [ -z "$(tail -c 1 "$1")" ] || gap='
'
    if mkdir -p "${1%/*}" && printf '%s%s\n' "$gap" "$line" >>"$1"; then
        changed=1
        say "Added to $1: $line"
    else
        warn "cannot write to $1"
    fi
}

tell_about_path() {
    now=$(command -v codex 2>/dev/null) || now=''
    if [ "$now" = "$shim" ]; then
        :
    elif [ -n "$changed" ]; then
        case $shell in
            fish) now=${line#*; or } ;;
            *) now=${line#*] || } ;;
        esac
        say "Open a new terminal, or type this here: $now"
    else
        warn "the shim is not first on PATH (\`codex\` is ${now:-not found}). Put this at the end of your shell's start file:
  $line"
    fi
}

uninstall() {
    refuse_other_installer
    removed=''
    if [ -f "$tool" ] || [ -L "$tool" ]; then
        rm -f "$tool" || die "cannot remove $tool"
        removed="$tool"
    fi
    if [ -f "$shim" ] && is_shim "$shim"; then
        rm -f "$shim" || die "cannot remove $shim"
        removed="$removed${removed:+ and }$shim"
    fi
    say "Removed ${removed:-nothing: codex-pool is not installed in $tool_dir or $pool}"
    [ ! -L "$shim_dir/codex-pool" ] || rm -f "$shim_dir/codex-pool"
    rm -f "$pool/env" "$pool/env.fish" "$receipt"
    rmdir "$shim_dir" 2>/dev/null || :
    line=$(source_line sh)
    for file in .bashrc .bash_profile .bash_login .profile; do drop_line "$HOME/$file"; done
    drop_line "${ZDOTDIR:-$HOME}/.zshrc"
    line=$(source_line fish)
    drop_line "${XDG_CONFIG_HOME:-$HOME/.config}/fish/config.fish"
    remove_data
}

drop_line() { # FILE
    if [ -f "$1" ] && grep -qxF -e "$line" "$1"; then
        # Through the file, not over it: it may be a link, and its mode is the user's.
        kept=$(grep -vxF -e "$line" "$1")
        if [ -n "$kept" ]; then printf '%s\n' "$kept" >"$1"; else : >"$1"; fi || warn "cannot write to $1"
        say "Removed our line from $1"
    fi
}

remove_data() {
    [ -d "$pool" ] || return 0
    # Without accounts there is nothing worth a question.
    [ -e "$pool/accounts.json" ] || [ -d "$pool/auth" ] || rm -f "$pool/pool.lock" "$pool/refresh.lock" "$pool/state.json"
    if rmdir "$pool" 2>/dev/null; then return 0; fi
    if [ "$data" = ask ] && (: </dev/tty) 2>/dev/null; then
        printf '%s\n%s' "The pool has credentials of your accounts: $pool. Without it you log in to each of them again." \
            'Remove it, too? End all Codex sessions first. [y/N] ' >/dev/tty
        read -r reply </dev/tty || reply=''
        case $reply in [yY] | [yY][eE][sS]) data=purge ;; esac
    fi
    if [ "$data" != purge ]; then
        say "The accounts stay in $pool"
        return 0
    fi
    keep_live_login
    # Codex's database names sessions through the links in the homes; the sessions lie in the Codex home.
    (
        cd "$pool" || exit
        find . ! -type d ! -path './homes/*sessions' ! -path './homes/*sessions/*' ! -path './bin/*' -exec rm -f {} +
        find . -depth -type d -exec rmdir {} + 2>/dev/null
    )
    rmdir "$pool" 2>/dev/null || :
    if [ -d "$pool" ]; then
        say "Removed the accounts. What Codex needs to find old sessions stays in $pool/homes"
    else
        say "Removed $pool"
    fi
}

# The live auth.json can be a link into the pool; then it becomes a file of its own first.
keep_live_login() {
    live=${CODEX_HOME:-$HOME/.codex}/auth.json
    [ -L "$live" ] && [ -f "$live" ] || return 0
    copy=$(mktemp "$live.XXXXXX") && cat "$live" >"$copy" && mv -f "$copy" "$live" ||
        die "cannot keep the live login $live; the pool was not removed"
}

main "$@"
