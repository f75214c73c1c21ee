#!/bin/sh
# Prints the version of Rust that the project is tested with.
sed -n 's/^channel = "\(.*\)"/\1/p' "$(dirname "$0")/../rust-toolchain.toml"
