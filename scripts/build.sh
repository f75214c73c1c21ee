#!/bin/sh
# Builds codex-pool and the shim for use, into the folder OUT: sh scripts/build.sh OUT [TARGET]
# TARGET is a Rust target; without it the host's. install.sh and the release workflow call this.
set -eu

out=$1
host=$(rustc -vV | sed -n 's/^host: //p')
target=${2:-$host}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")/.."
built=${CARGO_TARGET_DIR:-$PWD/target}

# What is C in it is compiled for musl's headers, too.
case $target in
    *-linux-musl) ! command -v musl-gcc >/dev/null || export "CC_$(printf %s "$target" | tr - _)=musl-gcc" ;;
esac

# Whether Rust can build for a target: its library is here, or rustup brings it.
has_target() {
    [ -d "$(rustc --print target-libdir --target "$1" 2>/dev/null)" ] ||
        { command -v rustup && rustup target add "$1"; } >/dev/null 2>&1
}

# Whether glibc can be linked into a program.
has_static_glibc() {
    [ "$target" = "$host" ] && [ -f "$(cc -print-file-name=libc.a 2>/dev/null)" ]
}

# `--target` even where it is the host: no setting of the user's may move the result elsewhere.
cargo_for() {
    verb=$1 for=$2
    shift 2
    cargo "$verb" --release --locked --target "$for" --target-dir "$built" "$@"
}

static_shim() {
    shim_target=$1
    cargo_for rustc "$1" -p codex-shim --bin codex -- -C target-feature=+crt-static -C relocation-model=static
}

plain_shim() {
    shim_target=$target
    cargo_for build "$target" -p codex-shim --bin codex
}

cargo_for build "$target" -p codex-pool --bin codex-pool
# To load and set up a C library would take longer than all the rest of a launch. So the shim is static where that can
# be had, and best with musl, which needs no setting up.
musl=${target%-gnu}-musl
case $target in
    *-linux-musl) static_shim "$target" ;;
    *-linux-gnu)
        { has_target "$musl" && static_shim "$musl"; } ||
            { has_static_glibc && static_shim "$target"; } ||
            plain_shim
        ;;
    *) plain_shim ;;
esac
cp "$built/$target/release/codex-pool" "$built/$shim_target/release/codex" "$out/"
