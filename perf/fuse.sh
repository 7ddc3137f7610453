#!/bin/sh
# Compares the FUSE channels with a bare FUSE-over-io_uring server that answers at once: 4 KiB reads through the daemon
# (1 and 8 clients; what backs the file is held in memory), create+close and stat with all timeouts 0; median of
# five. Needs root, and io_uring switched on:
# echo Y > /sys/module/fuse/parameters/enable_uring
# usage: perf/fuse.sh [DIR]   DIR holds mounts and caches (default: a fresh one in /var/tmp). FOREBAY: the binary.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
cargo build --release --manifest-path "$here/fuse/Cargo.toml" --target-dir "$target"
[ -n "${FOREBAY:-}" ] || { (cd "$here/.." && cargo build --locked --release -p forebay-cli); FOREBAY=$target/release/forebay; }
dir=${1:-$(mktemp -d /var/tmp/forebay-perf-fuse.XXXXXX)}
"$target/release/forebay-perf-fuse" compare "$FOREBAY" "$dir"
