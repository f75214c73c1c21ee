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

# `--target` even where it is the host: no setting of the user's may move the result elsewhere.
cargo_for_target() {
    verb=$1
    shift
    cargo "$verb" --release --locked --target "$target" --target-dir "$built" "$@"
}

# What is C in it is compiled for musl's headers, too.
case $target in
    *-linux-musl) ! command -v musl-gcc >/dev/null || export "CC_$(printf %s "$target" | tr - _)=musl-gcc" ;;
esac

# Whether a static program can be linked: musl always brings its library, glibc only if it is installed.
has_static_libc() {
    case $target in
        *-linux-musl) return 0 ;;
        *-linux-gnu) [ "$target" = "$host" ] && [ -f "$(cc -print-file-name=libc.a 2>/dev/null)" ] ;;
        *) return 1 ;;
    esac
}

build_static_shim() {
    cargo_for_target rustc -p codex-shim --bin codex -- -C target-feature=+crt-static -C relocation-model=static
}

cargo_for_target build -p codex-pool --bin codex-pool
# The dynamic loader would take longer than all the rest of a launch, so the shim is static where it can be.
if ! { has_static_libc && build_static_shim; }; then
    cargo_for_target build -p codex-shim --bin codex
fi
cp "$built/$target/release/codex-pool" "$built/$target/release/codex" "$out/"
