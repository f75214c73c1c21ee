#!/bin/sh
# Builds codex-pool and the shim for use, into the folder OUT: sh scripts/build.sh OUT [TARGET]
# TARGET is a Rust target; without it the host's. install.sh and the release workflow call this.
set -eu

out=$1 target=${2:-}
mkdir -p "$out"
out=$(cd "$out" && pwd)
checkout=$(cd "$(dirname "$0")/.." && pwd -P)
cd "$checkout"
built=${CARGO_TARGET_DIR:-$checkout/target}
mkdir -p "$built"
built=$(cd "$built" && pwd)
# cargo and rustup look for settings, with programs to run, in every folder above the one they are called in. Those above
# a checkout in a temporary folder can be anybody's. So it is said here what the checkout's own file would say.
toolchain=$(sh "$checkout/scripts/toolchain.sh") || toolchain=''
cd /
if [ -n "$toolchain" ] && [ -z "${RUSTUP_TOOLCHAIN:-}" ] && command -v rustup >/dev/null &&
    { rustup run "$toolchain" rustc --version || rustup toolchain install "$toolchain" --profile minimal; } >/dev/null 2>&1; then
    export RUSTUP_TOOLCHAIN="$toolchain"
fi
host=$(rustc -vV | sed -n 's/^host: //p')
target=${target:-$host}

# What is C in it is compiled for musl's headers, too. What is for another machine is compiled and linked by zig, if
# cargo-zigbuild is here.
cargo=cargo
case $target in
    "$host") ;;
    "${host%%-*}"-*-linux-musl)
        ! command -v musl-gcc >/dev/null || export "CC_$(printf %s "$target" | tr - _)=musl-gcc"
        ;;
    *) ! command -v cargo-zigbuild >/dev/null || cargo="cargo-zigbuild" ;;
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

# Builds PACKAGE's program NAME for a target. `--target` even where it is the host: no setting of the user's may move the
# result elsewhere.
compile() { # TARGET PACKAGE NAME [RUSTC-OPTION…]
    for=$1 package=$2 name=$3
    shift 3
    "$cargo" rustc --manifest-path "$checkout/Cargo.toml" --release --locked --target "$for" --target-dir "$built" \
        -p "$package" --bin "$name" -- "$@"
}

static_shim() {
    shim_target=$1
    compile "$1" codex-shim codex -C target-feature=+crt-static -C relocation-model=static
}

plain_shim() {
    shim_target=$target
    compile "$target" codex-shim codex
}

compile "$target" codex-pool codex-pool
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
