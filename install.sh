#!/bin/sh
# Installs codex-pool and its `codex` shim: built here when run from a checkout, else from a verified release.
# `sh install.sh --help` says more. Everything is in functions that are called on the last line, so that a
# script cut off on its way does nothing.
#
# shellcheck disable=SC2016  # `$HOME` in single quotes is meant for the shell that reads the line later
# shellcheck disable=SC2015  # in `A && B || die` it does not matter which of them failed
# shellcheck disable=SC3013  # every shell knows `-ef`, though POSIX does not

# The release workflow writes OWNER/NAME here. Empty: this copy has no release source.
RELEASE_REPOSITORY=""

# What every shim carries (core writes it there) and no other `codex` does.
MARKER="codex-pool-shim-marker"

# A release has about 10 MB, and 20 MB unpacked. Checksums and version names have less than 100 bytes.
ARCHIVE_KB=65536
UNPACKED_KB=262144
TEXT_KB=64

# What the pool puts into its folder; `bin` is looked at by itself.
POOL_NAMES="accounts.json accounts.v1.json auth usage.json standings state.json launches lost+found config.toml
pool.lock refresh.lock homes logins native threads moving moves.json blanked history share.toml share.json
log.jsonl log.1.jsonl"

# What else is put where it is looked for, and the last line that tells it from the files of others.
EXTRAS="man bash zsh fish"
EXTRA_MARK="Written by codex-pool's install.sh; replaced and removed with it."

usage() {
    cat <<'EOF'
Installs codex-pool and its `codex` shim, for this user, without sudo.

  sh install.sh               from a checkout: build and install; else: download, verify and install a release
  sh install.sh --uninstall   remove both programs again; asks before it removes the accounts in the pool

Options:
  -v             while it builds: show all that cargo says
  --yes          with --uninstall: do not ask; the pool's data stays
  --purge        with --uninstall: do not ask; the pool's data goes, too
  --dry-run      with --uninstall: only say what would go
  --help         this text

Environment:
  VERSION=1.2.3            this release instead of the newest
  INSTALL_DIR=DIR          where codex-pool goes (default: ~/.local/bin)
  CODEX_POOL_HOME=DIR      where the pool and the shim live (default: ~/.codex-pool)
  XDG_DATA_HOME=DIR        where the manual page and the completions of bash and zsh go (default: ~/.local/share)
  XDG_CONFIG_HOME=DIR      where fish has its files (default: ~/.config)
  NO_MODIFY_PATH=1         leave the shell's start files (and GITHUB_PATH) alone
  CODEX_POOL_RELEASES=URL  where releases are (https, or http on this machine), instead of the built-in place
  DOWNLOAD_SECONDS=900     how long a download may take
EOF
}

say() { printf '%s\n' "$*"; }
warn() { printf 'warning: %s\n' "$*" >&2; }
# Ends with an error, and what to do next. The status is 1.
die() { # ERROR NEXT [STATUS]
    printf 'error: %s\n  next: %s\n' "$1" "$2" >&2
    exit "${3:-1}"
}
# What others say, for a terminal: its first line, without what is no plain character.
plain() { printf '%s\n' "$1" | head -n 1 | LC_ALL=C sed 's/[^ -~]/?/g' | cut -c 1-80; }
have() { command -v "$1" >/dev/null 2>&1; }

main() {
    # zsh has its own idea of what a trap in a function is.
    [ -z "${ZSH_VERSION:-}" ] || emulate sh
    set -u
    umask 022
    newline='
'
    # With it, `cd` speaks.
    unset CDPATH
    action=install data=ask dry='' verbose=''
    while [ $# -gt 0 ]; do
        case $1 in
            --uninstall) action=uninstall ;;
            --yes | -y) data=keep ;;
            --purge) data=purge ;;
            --dry-run) dry=1 ;;
            -v | --verbose) verbose=1 ;;
            --help | -h)
                usage
                return 0
                ;;
            *) die "there is no option '$(plain "$1")'" 'one of --uninstall, --yes, --purge, --dry-run, -v, --help' 2 ;;
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
    [ -n "${HOME:-}" ] || die "HOME is not set" "set it to your home folder, and try again"
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
        *[[:cntrl:]]*)
            die "a path with control characters cannot be used" "choose others with CODEX_POOL_HOME and INSTALL_DIR"
            ;;
    esac
    data_home=$(xdg_folder "${XDG_DATA_HOME:-}" .local/share)
    config_home=$(xdg_folder "${XDG_CONFIG_HOME:-}" .config)
    # Where they were put before; the same if that is not known.
    data_home_before=$(receipt_value data_home)
    case $data_home_before in /*) ;; *) data_home_before=$data_home ;; esac
    config_home_before=$(receipt_value config_home)
    case $config_home_before in /*) ;; *) config_home_before=$config_home ;; esac
    home_line=''
    [ "$pool" != "$HOME/.codex-pool" ] || home_line=1
    check_pool
    refuse_other_users
}

# The pool's folder gets closed to others, and its files are removed one day: it is to hold nothing but the pool.
check_pool() {
    place=$pool
    # What `..` means behind a folder that is not there cannot be known yet.
    while [ ! -e "${place:-/}" ]; do
        [ "${place##*/}" != .. ] || die "$place is not there" "name the pool's folder without '..' in CODEX_POOL_HOME"
        place=${place%/*}
    done
    for place in "$HOME" "$PWD" "${CODEX_HOME:-$HOME/.codex}" /; do
        place=$(cd "$place" 2>/dev/null && pwd -P) || continue
        while :; do
            [ ! "$pool" -ef "${place:-/}" ] ||
                die "CODEX_POOL_HOME is $pool, which is the home folder, the current folder,
Codex's own or a folder above one of them" "name a folder of its own for the pool, such as $HOME/.codex-pool"
            [ -n "$place" ] || break
            place=${place%/*}
        done
    done
}

# Root would write through the links of whoever has the home.
refuse_other_users() {
    [ "$(id -u 2>/dev/null)" = 0 ] || return 0
    for place in "$HOME" "$pool" "$tool_dir"; do
        [ -z "$(find "$place/." -prune ! -user 0 2>/dev/null)" ] ||
            die "$place belongs to another user" "run this as that user, without sudo, or with HOME=/root"
    done
}

absolute() {
    case $1 in
        /*) path=$1 ;;
        *) path=$PWD/$1 ;;
    esac
    while [ "$path" != "${path%/}" ]; do path=${path%/}; done
    printf '%s\n' "${path:-/}"
}

# A folder of the XDG specification, by which a relative one counts as none.
xdg_folder() { # VALUE DEFAULT
    case $1 in
        *[[:cntrl:]]*) absolute "$HOME/$2" ;;
        /*) absolute "$1" ;;
        *) absolute "$HOME/$2" ;;
    esac
}

# The string at one key of the receipt; nothing if there is none. We write one key per line.
receipt_value() {
    [ ! -f "$receipt" ] || sed -n 's/^ *"'"$1"'": "\(.*\)",*$/\1/p' "$receipt" | sed 's/\\\(["\\]\)/\1/g'
}

is_shim() { [ -f "$1" ] && LC_ALL=C grep -a -q "$MARKER" "$1" 2>/dev/null; }

refuse_foreign_shim() {
    if [ -e "$shim" ] || [ -L "$shim" ]; then
        is_shim "$shim" ||
            die "$shim is not codex-pool's shim, so it stays as it is" "move it away, and try again"
    fi
}

refuse_other_installer() {
    owner=$(receipt_value installer)
    case $owner in
        '' | install.sh) ;;
        *) die "codex-pool was installed by $(plain "$owner")" "use that to update or remove it" ;;
    esac
}

install() {
    refuse_other_installer
    refuse_foreign_shim
    [ ! -d "$tool" ] || die "$tool is a folder" "move it away, or choose another place with INSTALL_DIR=…"
    find_source
    before=$(receipt_value version)
    is_version "$before" && [ "$before" != "$version" ] || before=''
    make_stages
    if [ "$method" = source ]; then build; else download; fi
    check_new
    make_extras
    write_companions
    put_in_place
    say "Installed codex-pool $version${before:+ (it was $before)}: $tool"
    say "and the codex shim: $shim"
    place_extras
    # The new receipt does not name their folder any more.
    for_each_old_extra remove_extra
    set_path
    say 'Next: codex-pool init'
}

# From a checkout if that is where this file lies, unless a release is asked for. A published copy never builds: what
# lies beside it, in a folder of downloads, can be anybody's.
find_source() {
    method=release version=${VERSION:-} checkout=''
    another_source='try again later, take another release with VERSION=1.2.3, or build a checkout with its install.sh'
    case $0 in
        */install.sh) checkout=${0%/*} ;;
        install.sh) checkout=. ;;
    esac
    if [ -n "$checkout" ] && [ -z "$version${CODEX_POOL_RELEASES:-}$RELEASE_REPOSITORY" ] &&
        [ -f "$checkout/shim/Cargo.toml" ] && [ -f "$checkout/Cargo.toml" ] &&
        grep -q '^name = "codex-pool"' "$checkout/Cargo.toml"; then
        method=source
        checkout=$(cd "$checkout" && pwd -P) || die "cannot enter $checkout" "take a checkout that is yours"
        check_checkout
        another_source='take a fresh checkout, or install a release: CODEX_POOL_RELEASES=URL'
        version=$(sh "$checkout/scripts/version.sh")
        check_version "$version" "$another_source"
        return 0
    fi
    releases=${CODEX_POOL_RELEASES:-}
    if [ -z "$releases" ]; then
        [ -n "$RELEASE_REPOSITORY" ] || die 'this copy of install.sh does not know where releases are' \
            'run it from a checkout to build it, or set CODEX_POOL_RELEASES=https://github.com/OWNER/NAME/releases'
        releases=https://github.com/$RELEASE_REPOSITORY/releases
    fi
    releases=${releases%/}
    check_url "$releases"
    seconds=${DOWNLOAD_SECONDS:-900}
    case $seconds in
        0* | *[!0-9]*)
            die "DOWNLOAD_SECONDS is '$(plain "$seconds")', which is no number of seconds" \
                'give one, such as DOWNLOAD_SECONDS=900'
            ;;
    esac
    target=$(platform) || exit 1
    find_checksum_tool ||
        die 'no tool to verify the download (sha256sum, shasum or openssl), so nothing was downloaded' \
            'install one of them, and try again'
    if [ -n "$version" ]; then
        version=${version#v}
        check_version "$version" 'name one in VERSION, or none for the newest'
    fi
}

# What lies in a checkout is run. So nobody but the caller or root may have written it, or put another folder in its
# place. A group that is the user's alone, as many systems have it, is nobody else.
check_checkout() {
    uid=$(id -u 2>/dev/null) || uid=0
    writable='-perm -0002 -o -perm -0020'
    [ -z "$(id -un 2>/dev/null)" ] || [ "$(id -un)" != "$(id -gn)" ] || writable="$writable ! -group $(id -g)"
    # shellcheck disable=SC2086  # to be split
    exposed=$(find "$checkout" \( -name .git -o -name target \) -prune -o ! -type l \( $writable \) -print \
        -o ! -user 0 ! -user "$uid" -print | head -n 1)
    place=$checkout
    while [ -n "$place" ] && [ -z "$exposed" ]; do
        place=${place%/*}
        # What is in a sticky folder only its owner can rename; and whom root lets into its folders is root's affair.
        # shellcheck disable=SC2086
        exposed=$(find "${place:-/}" -prune \( ! -perm -1000 -perm -0002 -o \
            ! -perm -1000 ! -user 0 \( $writable \) -o ! -user 0 ! -user "$uid" \) -print)
    done
    [ -z "$exposed" ] ||
        die "$exposed belongs to another user, or others can write to it. So $checkout is not built" \
            'take a checkout that is yours alone (chmod -R go-w), or install a release: CODEX_POOL_RELEASES=URL'
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
    [ -n "$cpu" ] && [ -n "$system" ] ||
        die "codex-pool runs on Linux and macOS, on x86_64 and aarch64; this is $(uname -sm)" \
            'install it on one of those'
    printf '%s\n' "$cpu-$system"
}

check_version() { # VERSION NEXT
    is_version "$1" || die "'$(plain "$1")' is not a version like 1.2.3" "$2"
}

is_version() {
    case $1 in
        *[!0-9A-Za-z.+-]*) return 1 ;;
    esac
    printf '%s\n' "$1" | LC_ALL=C grep -Eq '^[0-9]+\.[0-9]+\.[0-9]+([-+][0-9A-Za-z.-]+)?$'
}

# Whether version $1 comes before $2. Of two with a dash and the same numbers neither does.
is_older() {
    dashes=''
    case ${1%%+*} in *-*) dashes=1 ;; esac
    case ${2%%+*} in *-*) dashes=${dashes}2 ;; esac
    old_ifs=$IFS
    IFS=.
    # shellcheck disable=SC2086  # to be split at the dots
    set -- ${1%%[-+]*} ${2%%[-+]*}
    IFS=$old_ifs
    [ "$1" -eq "$4" ] || { [ "$1" -lt "$4" ] && return 0 || return 1; }
    [ "$2" -eq "$5" ] || { [ "$2" -lt "$5" ] && return 0 || return 1; }
    [ "$3" -eq "$6" ] || { [ "$3" -lt "$6" ] && return 0 || return 1; }
    [ "$dashes" = 1 ]
}

# The newest release may be older than what is here, by a mistake or by malice.
check_downgrade() {
    [ -n "$before" ] && is_older "$version" "$before" || return 0
    [ -n "${VERSION:-}" ] || [ "$method" = source ] ||
        die "codex-pool $before is installed, and newer than the newest release" \
            "VERSION=$version goes back to that one"
    warn "this goes back from codex-pool $before to $version"
}

# Both folders get a place of their own for new files: a rename inside one file system is all or nothing.
make_stages() {
    tool_stage='' shim_stage='' extra_stage=''
    trap remove_stages EXIT
    end_on_signals
    mkdir -p "$tool_dir" && tool_stage=$(mktemp -d "$tool_dir/.codex-pool-install.XXXXXX") ||
        die "cannot write to $tool_dir" "choose another folder with INSTALL_DIR=…"
    # The pool will contain credentials: no other user may read it.
    mkdir -p "$shim_dir" && chmod 700 "$pool" && shim_stage=$(mktemp -d "$shim_dir/.codex-pool-install.XXXXXX") ||
        die "cannot write to $pool" "choose another folder with CODEX_POOL_HOME=…"
}

# By `exit`, so that what was begun is cleared away.
end_on_signals() {
    trap 'exit 129' HUP
    trap 'exit 130' INT
    trap 'exit 143' TERM
}

remove_stages() {
    [ -z "$tool_stage" ] || rm -rf "$tool_stage"
    [ -z "$shim_stage" ] || rm -rf "$shim_stage"
    [ -z "$extra_stage" ] || rm -f "$extra_stage"
}

die_of_disk() { # ERROR
    die "$1" "see to room and rights there, or choose other folders with INSTALL_DIR=… and CODEX_POOL_HOME=…"
}

# The new programs must run here and be what they should be, before anything is replaced. The shim gets an empty
# environment: a program that is not our shim must not find a Codex to start.
check_new() {
    for name in codex-pool codex; do
        [ -s "$tool_stage/$name" ] && [ ! -L "$tool_stage/$name" ] || die "the new $name is no file" "$another_source"
    done
    mv "$tool_stage/codex" "$shim_stage/codex" || die_of_disk "cannot write to $shim_dir"
    chmod 755 "$tool_stage/codex-pool" "$shim_stage/codex" || die_of_disk "cannot make the new programs executable"
    sign "$tool_stage/codex-pool"
    sign "$shim_stage/codex"
    answer=$("$tool_stage/codex-pool" --version </dev/null) ||
        die "the new codex-pool does not run here" "$another_source"
    [ "$answer" = "codex-pool $version" ] ||
        die "the new codex-pool says '$(plain "$answer")', not 'codex-pool $version'" "$another_source"
    is_shim "$shim_stage/codex" || die "the new codex is not codex-pool's shim" "$another_source"
    answer=$(env -i CODEX_POOL_SHIM_VERSION=1 "$shim_stage/codex" </dev/null) ||
        die "the new shim does not run here" "$another_source"
    [ "$answer" = "codex-shim $version" ] ||
        die "the new shim says '$(plain "$answer")', not 'codex-shim $version'" "$another_source"
}

# macOS wants every program signed, be it by nobody, and asks about those that came from elsewhere. It looks once: so
# this comes before a program first runs.
sign() { # FILE
    [ "$(uname -s)" = Darwin ] || return 0
    ! have xattr || xattr -d com.apple.quarantine "$1" 2>/dev/null || :
    ! have codesign || codesign --force --sign - "$1" 2>/dev/null || warn "cannot sign $1"
}

extra_file() { # KIND DATA CONFIG
    case $1 in
        man) printf '%s\n' "$2/man/man1/codex-pool.1" ;;
        bash) printf '%s\n' "$2/bash-completion/completions/codex-pool" ;;
        zsh) printf '%s\n' "$2/zsh/site-functions/_codex-pool" ;;
        fish) printf '%s\n' "$3/fish/completions/codex-pool.fish" ;;
    esac
}

# Never through a link: what a link leads to is somebody's.
is_extra() { # FILE
    [ ! -L "$1" ] && [ -f "$1" ] && [ "$(tail -n 1 "$1" | LC_ALL=C grep -a -c -F -e "$EXTRA_MARK")" = 1 ]
}

# Where nobody else can put another file or folder in the place of ours.
is_own_folder() { [ -n "$(find "$1/." -prune -user "$(id -u)" ! -perm -0002 2>/dev/null)" ]; }

# The new program writes them. One that cannot has none.
make_extras() {
    for kind in $EXTRAS; do
        what="completions $kind" comment='#'
        [ "$kind" != man ] || what=man comment='.\"'
        # shellcheck disable=SC2086  # to be split
        "$tool_stage/codex-pool" $what </dev/null >"$tool_stage/$kind" 2>/dev/null && [ -s "$tool_stage/$kind" ] &&
            printf '%s %s\n' "$comment" "$EXTRA_MARK" >>"$tool_stage/$kind" || rm -f "$tool_stage/$kind"
    done
}

# The programs do without them, so no failure here ends the installation.
place_extras() {
    placed=''
    for kind in $EXTRAS; do
        [ -s "$tool_stage/$kind" ] || continue
        file=$(extra_file "$kind" "$data_home" "$config_home")
        if { [ -e "$file" ] || [ -L "$file" ]; } && ! is_extra "$file"; then
            say "$file is not codex-pool's, so it stays as it is"
        elif place_extra "$tool_stage/$kind" "$file"; then
            placed="$placed${placed:+, }$kind"
        else
            warn "$file was left out: its folder cannot be written, or is not yours alone"
        fi
    done
    [ -z "$placed" ] || say "and help for man and the shells ($placed), in $data_home and $config_home/fish"
}

place_extra() { # NEW FILE
    folder=${2%/*}
    place=$folder
    while [ ! -e "${place:-/}" ]; do place=${place%/*}; done
    is_own_folder "$place" && mkdir -p "$folder" 2>/dev/null && is_own_folder "$folder" || return 1
    extra_stage=$(mktemp "$folder/.codex-pool-install.XXXXXX" 2>/dev/null) && cat "$1" >"$extra_stage" &&
        chmod 644 "$extra_stage" && mv -f "$extra_stage" "$2" || return 1
    extra_stage=''
}

# Runs a command with a file if it is ours.
with_extra() { # COMMAND FILE
    ! is_extra "$2" || ! is_own_folder "${2%/*}" || "$1" "$2"
}

# With each file that is ours, where they go now and where they once went.
for_each_extra() { # COMMAND
    for kind in $EXTRAS; do
        with_extra "$1" "$(extra_file "$kind" "$data_home" "$config_home")"
    done
    for_each_old_extra "$1"
}

# With each file that is ours where they once went, if they go elsewhere now.
for_each_old_extra() { # COMMAND
    for kind in $EXTRAS; do
        file=$(extra_file "$kind" "$data_home" "$config_home")
        old=$(extra_file "$kind" "$data_home_before" "$config_home_before")
        [ "${old%/*}" -ef "${file%/*}" ] || with_extra "$1" "$old"
    done
}

remove_extra() { # FILE
    if rm -f "$1"; then
        extras_removed=1
        # Two folders may have been made for it.
        rmdir "${1%/*}" 2>/dev/null && rmdir "${1%/*/*}" 2>/dev/null || :
    else
        warn "cannot remove $1"
        left=1
    fi
}

# The files that go with the programs are written before anything is replaced, too: a full disk shows now.
write_companions() {
    {
        write_env_sh "$(quote_sh "$shim_dir")" >"$shim_stage/env" &&
            write_env_fish "$(quote_fish "$shim_dir")" >"$shim_stage/env.fish" &&
            write_receipt >"$shim_stage/receipt.json" &&
            ln -s "$tool" "$shim_stage/codex-pool" &&
            chmod 600 "$shim_stage/env" "$shim_stage/env.fish" "$shim_stage/receipt.json"
    } || die_of_disk "cannot write to $shim_dir"
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
  "data_home": $(quote_json "$data_home"),
  "config_home": $(quote_json "$config_home"),
  "installed_at": $(date +%s)
}
EOF
}

# Both or neither: if the second rename fails, the first is taken back.
put_in_place() {
    previous=''
    if [ -e "$tool" ]; then
        previous=$tool_stage/previous
        ln "$tool" "$previous" 2>/dev/null || cp -p "$tool" "$previous" || die_of_disk "cannot keep the present $tool"
    fi
    mv -f "$tool_stage/codex-pool" "$tool" || die_of_disk "cannot replace $tool"
    if ! mv -f "$shim_stage/codex" "$shim"; then
        if [ -n "$previous" ]; then mv -f "$previous" "$tool"; else rm -f "$tool"; fi
        die_of_disk "cannot replace $shim; everything is as it was"
    fi
    for name in env env.fish receipt.json; do
        mv -f "$shim_stage/$name" "$pool/$name" || die_of_disk "cannot write $pool/$name"
    done
    # The shim finds codex-pool there, and PATH does, too.
    [ "$shim_dir" = "$tool_dir" ] || mv -f "$shim_stage/codex-pool" "$shim_dir/codex-pool" ||
        die_of_disk "cannot write to $shim_dir"
}

build() {
    check_downgrade
    have cargo && have rustc || die 'Rust is needed to build codex-pool' \
        'install it (https://rustup.rs), open a new terminal, and try again'
    say "Building codex-pool $version in $checkout. cargo fetches and compiles what it needs:"
    say "1 to 10 minutes the first time, by the machine. What it makes stays in ${CARGO_TARGET_DIR:-$checkout/target}"
    if [ -n "$verbose" ]; then
        sh "$checkout/scripts/build.sh" "$tool_stage" ||
            die "the build failed" 'what cargo says above tells why'
        return 0
    fi
    {
        sh "$checkout/scripts/build.sh" "$tool_stage" 2>&1 && : >"$tool_stage/built"
    } | show_progress >"$tool_stage/build.log"
    [ -e "$tool_stage/built" ] || {
        tail -n 40 "$tool_stage/build.log" >&2
        die "the build failed" 'run this again with -v, which shows all that cargo says'
    }
}

# Passes on what cargo says, and shows one line that changes, on a terminal.
show_progress() {
    crates=0
    while IFS= read -r text; do
        printf '%s\n' "$text"
        [ -t 2 ] || continue
        case $text in *'  Compiling '*) ;; *) continue ;; esac
        crate=${text#*Compiling }
        crate=${crate%% *}
        case $crate in *[!A-Za-z0-9_-]*) continue ;; esac
        crates=$((crates + 1))
        printf '\r  crate %d: %-40.40s' "$crates" "$crate" >&2
    done
    [ "$crates" = 0 ] || printf '\r%60s\r' '' >&2
}

download() {
    if [ -z "$version" ]; then
        fetch "$releases/latest/download/version.txt" "$tool_stage/version.txt" "$TEXT_KB"
        read -r version <"$tool_stage/version.txt" || [ -n "$version" ] ||
            die "$releases names no newest version" 'name one with VERSION=1.2.3'
        check_version "$version" 'name one with VERSION=1.2.3'
        [ "$before" != "$version" ] || before=''
    fi
    check_downgrade
    archive=codex-pool-$version-$target.tar.gz
    from=$releases/download/v$version/$archive
    say "Downloading $from"
    fetch "$from.sha256" "$tool_stage/$archive.sha256" "$TEXT_KB"
    fetch "$from" "$tool_stage/$archive" "$ARCHIVE_KB"
    verify
    unpack
}

# Only what is in the two programs is taken: not the owner, the rights and the names that an archive gives them. Root's
# tar would take over all of that.
unpack() {
    limited "$UNPACKED_KB" gzip -dc <"$tool_stage/$archive" >"$tool_stage/tar" ||
        die "cannot unpack $archive" "$another_source"
    for name in codex-pool codex; do
        limited "$UNPACKED_KB" tar -xOf "$tool_stage/tar" "$name" >"$tool_stage/$name" ||
            die "cannot unpack $archive" "$another_source"
    done
}

# Runs a command that can write no file larger than this. If the user's own limit is lower, that one stays.
limited() { # KILOBYTES COMMAND…
    (
        # In blocks of 512 bytes; some shells have larger ones.
        ulimit -f $(($1 * 2)) 2>/dev/null || :
        shift
        "$@"
    )
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
        bad | *@*)
            die "releases come over https, or http from this machine, not from '$(plain "$1")'" \
                'name a place such as CODEX_POOL_RELEASES=https://github.com/OWNER/NAME/releases'
            ;;
    esac
}

fetch() { # URL FILE KILOBYTES
    if have curl; then
        limited "$3" fetch_curl "$1" "$2" || die_of_download "$1" "$3"
    elif have wget; then
        limited "$3" fetch_wget "$1" "$2" || die_of_download "$1" "$3"
    else
        die 'curl or wget is needed to download a release' 'install one of them, and try again'
    fi
}

die_of_download() { # URL KILOBYTES
    die "cannot download $1 (in $seconds s, and up to $2 kB)" \
        'see whether it is there; on a slow network, DOWNLOAD_SECONDS allows more time'
}

# Redirects may not leave https. Output goes through the shell, because some packaged curls may not write to
# hidden folders themselves.
fetch_curl() {
    if [ "$scheme" = http ]; then
        no_proxy
        curl -fsS --proto '=http' --connect-timeout 30 --max-time "$seconds" "$1" >"$2"
    else
        curl -fsSL --proto '=https' --tlsv1.2 --connect-timeout 30 --max-time "$seconds" --retry 3 \
            --retry-max-time "$seconds" "$1" >"$2"
    fi
}

# wget cannot be told to stay on https, so the headers tell where it has been; nothing was used until then.
fetch_wget() {
    [ "$scheme" = https ] || no_proxy
    tries='' limit=''
    ! wget --help 2>&1 | grep -q -e --tries || tries=--tries=3
    # A server that sends a byte now and then keeps within every limit of wget's own.
    ! have timeout || limit="timeout $seconds"
    # shellcheck disable=SC2086  # nothing, or a few words
    LC_ALL=C $limit wget -q -S $tries -O - "$1" >"$2" 2>"$2.headers" || {
        LC_ALL=C sed 's/[^ -~]/?/g' "$2.headers" >&2
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
    return 1
}

# Of what it reads.
checksum() {
    case $hasher in
        sha256sum) sha256sum ;;
        shasum) shasum -a 256 ;;
        openssl) openssl dgst -sha256 -r ;;
    esac | cut -d ' ' -f 1
}

verify() {
    expected='' file=''
    read -r expected file <"$tool_stage/$archive.sha256" || [ -n "$expected" ] ||
        die "$archive.sha256 is empty" "$another_source"
    case $expected in
        *[!0-9a-f]*) expected='' ;;
    esac
    [ ${#expected} -eq 64 ] && [ "${file#\*}" = "$archive" ] ||
        die "$archive.sha256 is not a checksum of $archive" "$another_source"
    actual=$(checksum <"$tool_stage/$archive") || die "cannot read $archive" "$another_source"
    [ "$actual" = "$expected" ] ||
        die "$archive is damaged or not the published one: SHA-256 is $actual, should be $expected;
nothing was installed" "$another_source"
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
            zsh)
                add_line "${ZDOTDIR:-$HOME}/.zshrc"
                add_line "$(zshenv)"
                ;;
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

# The file that every zsh reads, also without a terminal. It may set ZDOTDIR for the other ones.
zshenv() {
    if [ -e "$HOME/.zshenv" ]; then
        printf '%s\n' "$HOME/.zshenv"
    else
        printf '%s\n' "${ZDOTDIR:-$HOME}/.zshenv"
    fi
}

add_line() { # FILE
    if [ -e "$1" ] && [ ! -f "$1" ]; then
        warn "$1 is no file, so it stays as it is"
        return 0
    fi
    if has_line "$1"; then
        changed=1
        return 0
    fi
    gap=''
    # A last line without its line break must not swallow ours.
    [ ! -s "$1" ] || [ "$(tail -c 1 "$1" && echo x)" = "${newline}x" ] || gap=$newline
    if mkdir -p "${1%/*}" && printf '%s%s\n' "$gap" "$line" >>"$1"; then
        changed=1
        say "Added to $1: $line"
    else
        warn "cannot write to $1"
    fi
}

has_line() { [ -f "$1" ] && LC_ALL=C grep -a -q -x -F -e "$line" "$1"; }

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
    if [ -n "$dry" ]; then
        would_remove
        return 0
    fi
    is_pool=''
    [ ! -f "$receipt" ] && [ ! -f "$pool/accounts.json" ] || is_pool=1
    removed=''
    if [ -f "$tool" ] || [ -L "$tool" ]; then
        rm -f "$tool" || die_of_removal "$tool"
        removed="$tool"
    fi
    if is_shim "$shim"; then
        rm -f "$shim" || die_of_removal "$shim"
        removed="$removed${removed:+ and }$shim"
    fi
    [ -z "$removed" ] || say "Removed $removed"
    extras_removed='' left=''
    for_each_extra remove_extra
    if [ -n "$extras_removed" ]; then
        say "Removed the manual page and the completions"
        removed=1
    fi
    [ ! -L "$shim_dir/codex-pool" ] || rm -f "$shim_dir/codex-pool"
    for file in "$pool/env" "$pool/env.fish"; do
        [ ! -f "$file" ] || ! grep -q '^# Written by codex-pool' "$file" || rm -f "$file"
    done
    [ "$owner" != install.sh ] || rm -f "$receipt"
    rmdir "$shim_dir" 2>/dev/null || :
    line=$(source_line sh)
    for file in .bashrc .bash_profile .bash_login .profile; do drop_line "$HOME/$file"; done
    drop_line "${ZDOTDIR:-$HOME}/.zshrc"
    drop_line "$(zshenv)"
    line=$(source_line fish)
    drop_line "${XDG_CONFIG_HOME:-$HOME/.config}/fish/config.fish"
    remove_data
}

die_of_removal() { # FILE
    die "cannot remove $1" "see to the rights of its folder, and run this again"
}

# What a removal would take away, and what stays.
would_remove() {
    found=''
    for file in "$tool" "$shim"; do
        [ ! -f "$file" ] && [ ! -L "$file" ] || would "$file"
    done
    for_each_extra would
    line=$(source_line sh)
    for file in "$HOME/.bashrc" "$HOME/.bash_profile" "$HOME/.bash_login" "$HOME/.profile" \
        "${ZDOTDIR:-$HOME}/.zshrc" "$(zshenv)"; do
        ! has_line "$file" || would "our line in $file"
    done
    line=$(source_line fish)
    file=${XDG_CONFIG_HOME:-$HOME/.config}/fish/config.fish
    ! has_line "$file" || would "our line in $file"
    if [ -d "$pool" ]; then
        case $data in
            purge) would "the accounts, and all else of codex-pool in $pool" ;;
            *) say "The accounts would stay in $pool; --purge takes them, too" ;;
        esac
    fi
    [ -n "$found" ] || say "codex-pool is not installed in $tool_dir or $pool"
}

would() { found=1 && say "Would remove $1"; }

# Takes our line out of a start file. Where that is not certain, the file stays: the line does nothing any more.
drop_line() { # FILE
    start_copy=''
    trap '[ -z "$start_copy" ] || rm -f "$start_copy"' EXIT
    end_on_signals
    while has_line "$1"; do
        if write_without_line "$1"; then
            say "Removed our line from $1"
            removed=1
        else
            [ -z "$start_copy" ] || rm -f "$start_copy"
            left=1
            warn "$1 stays as it is. This line can be removed from it: $line"
            return 0
        fi
    done
}

# Puts a copy without our line in the file's place. The copy has the file's mode, and with the line it is, byte for byte,
# what the file is. What has other names, is somebody else's or is not to be written cannot be replaced so.
write_without_line() { # FILE
    file=$(end_of_links "$1") && [ -w "$file" ] && find_checksum_tool || return 1
    [ -z "$(find "$file" -prune \( -links +1 -o ! -user "$(id -u)" \))" ] || return 1
    number=$(LC_ALL=C grep -a -n -x -F -e "$line" "$file" | head -n 1 | cut -d : -f 1)
    now=$(checksum <"$file")
    start_copy=$(mktemp "${file%/*}/.codex-pool-uninstall.XXXXXX") && cp -p "$file" "$start_copy" &&
        {
            lines_before "$file"
            tail -n "+$((number + 1))" "$file"
        } >"$start_copy" || return 1
    again=$({
        lines_before "$start_copy"
        printf '%s\n' "$line"
        tail -n "+$number" "$start_copy"
    } | checksum)
    [ -n "$now" ] && [ "$again" = "$now" ] && [ "$(checksum <"$file")" = "$now" ] && mv -f "$start_copy" "$file"
}

lines_before() { [ "$number" -eq 1 ] || head -n "$((number - 1))" "$1"; }

# The file that a link leads to in the end.
end_of_links() { # FILE
    end=$1 steps=0
    while [ -L "$end" ]; do
        to=$(readlink "$end") && [ "$steps" -lt 40 ] || return 1
        case $to in
            /*) end=$to ;;
            *) end=${end%/*}/$to ;;
        esac
        steps=$((steps + 1))
    done
    printf '%s\n' "$end"
}

remove_data() {
    nothing="Removed nothing: codex-pool is not installed in $tool_dir or $pool"
    if [ ! -d "$pool" ]; then
        [ -n "$removed" ] && say_all_is_gone || say "$nothing"
        return 0
    fi
    # Without accounts there is nothing worth a question.
    [ -e "$pool/accounts.json" ] || [ -d "$pool/auth" ] || rm -f "$pool/pool.lock" "$pool/refresh.lock" "$pool/state.json"
    if rmdir "$pool" 2>/dev/null; then
        [ -n "$removed" ] && say_all_is_gone || say "$nothing"
        return 0
    fi
    if [ -z "$is_pool" ] && [ -z "$(find "$pool/." ! -name . -prune ! -name homes -print)" ]; then
        [ -z "$removed" ] || nothing='Removed all else'
        say "$nothing. What Codex needs to find old sessions stays in $pool/homes"
        return 0
    fi
    if [ "$data" = ask ] && (: </dev/tty) 2>/dev/null; then
        printf '%s\n%s' "The pool has credentials of your accounts: $pool. Without it you log in to each of them again." \
            'Remove it, too? End all Codex sessions first. [y/N] ' >/dev/tty
        read -r reply </dev/tty || reply=''
        case $reply in [yY] | [yY][eE][sS]) data=purge ;; esac
    fi
    if [ "$data" != purge ]; then
        if [ -n "$removed" ]; then
            say "The accounts stay in $pool"
        elif [ -n "$is_pool" ]; then
            say "Removed nothing: the programs are gone already, and the accounts stay in $pool (--purge takes them, too)"
        else
            say "$nothing"
        fi
        return 0
    fi
    [ -n "$is_pool" ] ||
        die "$pool has neither a registry nor a receipt of codex-pool, so nothing in it was removed" \
            'look at what is in it, and remove it yourself if it was the pool'
    keep_live_login
    remove_homes
    (
        cd "$pool" || exit
        set --
        # shellcheck disable=SC2086  # names to be split
        for name in $POOL_NAMES attend-*.lock .*.codex-pool.tmp; do
            [ "$name" = homes ] || { [ ! -e "$name" ] && [ ! -L "$name" ]; } || set -- "$@" "./$name"
        done
        [ $# -gt 0 ] || exit
        find "$@" ! -type d -exec rm -f {} +
        find "$@" -depth -type d -exec rmdir {} + 2>/dev/null
    )
    if rmdir "$pool" 2>/dev/null; then
        say "Removed $pool"
        say_all_is_gone
    elif [ -d "$pool/homes" ]; then
        say "Removed the accounts. What Codex needs to find old sessions stays in $pool/homes"
    else
        say "Removed the accounts. What is not codex-pool's stays in $pool"
    fi
}

# Removes the accounts' own homes, in the pool or where `homes` leads. The sessions lie in the Codex home. Codex's database
# names some of them through the links in the homes; where it can be told otherwise, no link stays.
remove_homes() {
    homes=$(cd "$pool/homes" 2>/dev/null && pwd -P) || {
        rm -f "$pool/homes" 2>/dev/null
        return 0
    }
    for home in "$homes"/*/*; do
        [ -d "$home" ] && [ ! -L "$home" ] || continue
        named=''
        main=$(cat "${home%/*}/.base" 2>/dev/null) && name_sessions_directly "$home" "$main" || named=1
        for link in "$home/sessions" "$home/archived_sessions"; do
            # A link to a folder without any session is nothing that a session needs.
            [ ! -L "$link" ] || { [ -n "$named" ] && [ -n "$(find "$link/" -type f 2>/dev/null | head -n 1)" ]; } ||
                rm -f "$link"
        done
    done
    (
        cd "$homes" || exit
        find . ! -type d ! -path './*sessions' ! -path './*sessions/*' -exec rm -f {} +
        find . -depth -type d ! -name . -exec rmdir {} + 2>/dev/null
    )
    rmdir "$homes" 2>/dev/null || return 0
    if [ -L "$pool/homes" ]; then
        rm -f "$pool/homes"
        rmdir "${homes%/*}" 2>/dev/null || :
    fi
}

# Lets Codex's databases name the sessions of a home where they lie.
name_sessions_directly() { # HOME MAIN_HOME
    # Databases in a place of the user's own are not looked for.
    ! LC_ALL=C grep -a -q '^[[:space:]]*sqlite_home' "$2/config.toml" 2>/dev/null && [ -z "${CODEX_SQLITE_HOME:-}" ] ||
        return 1
    for database in "$2"/state_*.sqlite "$2"/sqlite/state_*.sqlite; do
        [ -f "$database" ] || continue
        for name in sessions archived_sessions; do
            for old in "$1/$name/" "$pool/homes/${1#"$homes"/}/$name/"; do
                replace_paths "$database" "$old" "$2/$name/" || return 1
            done
        done
    done
}

replace_paths() { # DATABASE OLD NEW
    old=$(sql_text "$2") new=$(sql_text "$3")
    sql="UPDATE threads SET rollout_path = $new || substr(rollout_path, length($old) + 1)
        WHERE substr(rollout_path, 1, length($old)) = $old"
    if command -v sqlite3 >/dev/null 2>&1; then
        said=$(sqlite3 -cmd '.timeout 2000' "$1" "$sql" 2>&1) && return 0
    elif command -v python3 >/dev/null 2>&1; then
        said=$(python3 -c 'import sqlite3, sys
with sqlite3.connect(sys.argv[1], timeout=2) as database:
    database.execute(sys.argv[2])' "$1" "$sql" 2>&1) && return 0
    else
        return 1
    fi
    case $said in *'no such table'* | *'no such column'*) ;; *) return 1 ;; esac
}

sql_text() { printf "'%s'" "$(printf '%s' "$1" | sed "s/'/''/g")"; }

say_all_is_gone() { [ -n "$left" ] || say "Nothing of codex-pool is left; Codex is as it was before"; }

# The live auth.json can be a link into the pool; then it becomes a file of its own first.
keep_live_login() {
    live=${CODEX_HOME:-$HOME/.codex}/auth.json
    [ -L "$live" ] && [ -f "$live" ] || return 0
    copy=$(mktemp "$live.XXXXXX") && cat "$live" >"$copy" && mv -f "$copy" "$live" ||
        die "cannot keep the live login $live; the pool was not removed" \
            'see to room and rights there, and run this again'
}

main "$@"
