#!/usr/bin/env bash
# A fresh checkpoint: a new file of 4 GiB, written in 1 MiB requests and synced, through the mount against the same fio job
# straight on the tier's file system, in turn. TOUCH GiB of memory are written to before each (5), since a virtual machine gives what
# the last run left free back to its host, and fetches it again page by page.
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
job() { "$top/perf/fio-ratio" --json "$json" --fresh --touch "${TOUCH:-5}" "$@" --ioengine=psync --rw=write --bs=1M --fallocate=none --end_fsync=1 --thread || failed=1; }
job --label "fresh $size, 1 writer, fsync" --floor "$floor" "$M/ckpt" "$WORK/ceiling/ckpt" -- --size="$size"
memory_report || failed=1
down
[[ $failed == 0 ]] || echo "a ratio is below $floor"
exit "$failed"
