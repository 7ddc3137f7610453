#!/bin/sh
# Compares Forebay's shard runtime with bare io_uring and with glommio: direct reads of 4 KiB and 1 MiB of the
# same file at the same depth on one core, median of five. Fails when a ratio to bare io_uring is below 0.95.
# usage: perf/runtime.sh [DIR]   DIR holds the 1 GiB test file (default: the build folder); it must take O_DIRECT.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
target=${CARGO_TARGET_DIR:-$here/../target}
cargo build --release --manifest-path "$here/runtime/Cargo.toml" --target-dir "$target"
dir=${1:-$target}
file=$dir/forebay-perf-runtime.data
trap 'rm -f "$file"' EXIT
# Real data, all of it on the device: neither holes nor unwritten extents are read.
dd if=/dev/urandom of="$file" bs=1M count=1024 status=none conv=fsync
"$target/release/forebay-perf-runtime" compare "$file"
