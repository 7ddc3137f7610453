#!/usr/bin/env bash
# What goes through the daemon (passthrough switched off), against the same fio job on the tier's file system, in turn: writes
# by O_DIRECT over a file that is there, at several depths, and to a new one, and 4 KiB random reads that the device has to answer.
#   perf/through.sh          SIZE=2G RUNS=5 CHANNEL=uring
# While the daemon takes 1 MiB writes, perf(1) says where it spends its time. The share of its own copying must stay below
# COPY_MAX percent (2); what the kernel copies out of the program's memory into ours is printed beside it. uring wants: echo Y > /sys/module/fuse/parameters/enable_uring. See lib.sh for FOREBAY, KEEP.
source "$(dirname "$0")/lib.sh"
size=${SIZE:-2G} failed=0 copy_max=${COPY_MAX:-2}
VERIFY=${VERIFY:-none} binaries
scratch
trap cleanup EXIT
json=${JSON:-$WORK/through.json}
configured "channel = \"${CHANNEL:-uring}\"" "passthrough = false"
up
watch_memory
mkdir -p "$WORK/ceiling"
job() { "$top/perf/fio-ratio" --json "$json" "$@" --thread --direct=1 || failed=1; }
fresh() { ${UNDER:-} fio --name=fill --filename="$1" --size="$size" --rw=write --bs=1M --direct=1 --ioengine=psync --end_fsync=1 >"$WORK/fill.out" || die "$(cat "$WORK/fill.out")"; }
fresh "$M/data"
fresh "$WORK/ceiling/data"

write=(--ioengine=psync --rw=write --bs=1M --size="$size")
job --label "1 MiB writes, O_DIRECT, 1 writer" --floor 0.90 "$M/data" "$WORK/ceiling/data" -- "${write[@]}"
job --label "1 MiB writes, O_DIRECT, 4 writers" --floor 0.90 "$M/data" "$WORK/ceiling/data" -- "${write[@]}" --numjobs=4 --group_reporting --offset_increment=25% --size=25%
for depth in 4 8; do
    job --label "1 MiB writes, O_DIRECT, $depth at one time" --floor 0.90 "$M/data" "$WORK/ceiling/data" -- "${write[@]}" --ioengine=libaio --iodepth="$depth"
done
job --label "4 MiB writes, O_DIRECT, 1 writer" --floor 0.90 "$M/data" "$WORK/ceiling/data" -- "${write[@]}" --bs=4M
job --label "1 MiB writes, O_DIRECT, new file, fsync" --fresh "$M/new" "$WORK/ceiling/new" -- "${write[@]}" --end_fsync=1

# Where the time goes meanwhile.
perf record -q -g -F 999 -o "$WORK/perf.data" -p "$daemon" -- ${UNDER:-} fio --name=profiled --filename="$M/data" "${write[@]}" --direct=1 --time_based --runtime=6 >"$WORK/profiled.out" 2>&1 ||
    die "perf(1) failed: $(cat "$WORK/profiled.out")"
perf report -i "$WORK/perf.data" --no-children --stdio -g none --sort symbol 2>/dev/null | awk '/^ +[0-9]/ { print $1, $2, $3 }' >"$WORK/perf.txt"
head -n 12 "$WORK/perf.txt"
copying() { awk -v where="$1" 'index($2, where) && /memcpy|memmove|copy_user|rep_movs/ { sum += $1 } END { printf "%.2f", sum }' "$WORK/perf.txt"; }
echo "copying: $(copying "[.]") % of the samples by the daemon, $(copying "[k]") % by the kernel"
awk -v share="$(copying "[.]")" -v max="$copy_max" 'BEGIN { exit !(share < max) }' || { echo "that is not below $copy_max %"; failed=1; }

# All pages are given back before each run, so that the device answers; a ratio of 0.87 is 1.15 times the latency. A program that
# is moved to another core at each answer waits for that core to wake: so it is measured free to move, and on one core each.
read=(--ioengine=psync --rw=randread --bs=4k --norandommap --size="$size" --time_based --runtime=2 --readonly --randrepeat=0)
reads() { job --label "4 KiB random reads of the device, $1" --iops --cold "${@:3}" "$M/data" "$WORK/ceiling/data" -- "${read[@]}" ${2:+"$2"}; }
reads "1 reader" "" --floor 0.87
for core in 0 1; do reads "on core $core" "--cpus_allowed=$core"; done
memory_report || failed=1
down
exit "$failed"
