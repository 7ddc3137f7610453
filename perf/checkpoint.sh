#!/usr/bin/env bash
# A fresh checkpoint: a new file of 4 GiB, written in 1 MiB requests and synced, through the mount against the same fio job
# straight on the tier's file system, in turn, after one that counts for neither: a virtual machine may have given the memory for
# so many pages back to its host, and whoever writes first fetches it again.
#   perf/checkpoint.sh       SIZE=4G RUNS=5 FLOOR=0.95
# See lib.sh for FOREBAY, KEEP.
source "$(dirname "$0")/lib.sh"
size=${SIZE:-4G} floor=${FLOOR:-0.95} failed=0
VERIFY=${VERIFY:-none} binaries
scratch
trap cleanup EXIT
json=${JSON:-$WORK/checkpoint.json}
configured
up
watch_memory
mkdir -p "$WORK/ceiling"
job() { "$top/perf/fio-ratio" --json "$json" --fresh --warm "$@" --ioengine=psync --rw=write --bs=1M --fallocate=none --end_fsync=1 --thread || failed=1; }
job --label "fresh $size, 1 writer, fsync" --floor "$floor" "$M/ckpt" "$WORK/ceiling/ckpt" -- --size="$size"
memory_report || failed=1
down
[[ $failed == 0 ]] || echo "a ratio is below $floor"
exit "$failed"
