#!/usr/bin/env bash
# Reads of a resident file through the mount against the same fio job on the extent file that backs it, in turn.
#   perf/reads.sh            SIZE=4G RUNS=5 FLOOR=0.95
# Sequential 1 MiB and random 4 KiB, from the page cache and by O_DIRECT. A table on standard output, a line of JSON each in
# ${JSON:-$WORK/reads.json}. Random 4 KiB by `pread` is held against a bare passthrough server as well, and that against the
# file: what is lost between those two is the kernel's own. BARE: forebay-perf-fuse of perf/fuse. See lib.sh for FOREBAY, UFS, UP_FLAGS, KEEP.
source "$(dirname "$0")/lib.sh"
size=${SIZE:-4G} floor=${FLOOR:-0.95} failed=0
VERIFY=${VERIFY:-none} binaries
scratch
trap cleanup EXIT
json=${JSON:-$WORK/reads.json}

head -c "$(numfmt --from=iec "$size")" /dev/urandom >"$UFS/big" || die "no room for the file"
up
watch_memory
"$FOREBAY" fs load "$M/big" >/dev/null 2>&1 || die "the file was not loaded"
extent=$(find "$CACHE" -type f -size "$(numfmt --from=iec "$size")c" | head -n 1)
[[ -n $extent ]] || die "no extent file of that size is below $CACHE"
cmp "$M/big" "$UFS/big" || die "the mount shows other bytes"

# What passthrough costs by itself: a server that hands the file to the kernel and does nothing else.
bare=$WORK/bare
mkdir "$bare"
if [[ -z ${BARE:-} ]]; then
    (cd "$top/perf/fuse" && CARGO_TARGET_DIR=$WORK/target cargo build --quiet --release) || die "perf/fuse does not build"
    BARE=$WORK/target/release/forebay-perf-fuse
fi
${UNDER:-} "$BARE" passthrough "$extent" "$bare" >"$WORK/bare.out" 2>&1 &
ends() { umount "$bare" 2>/dev/null; cleanup; }
trap ends EXIT
for _ in $(seq 100); do grep -q ^ready "$WORK/bare.out" && break; sleep 0.1; done
grep -q ^ready "$WORK/bare.out" || die "the bare server did not start: $(cat "$WORK/bare.out")"

job() { "$top/perf/fio-ratio" --json "$json" "$@" --readonly --size="$size" --thread || failed=1; }
# fio would drop the ceiling's pages before it begins, and not those behind a FUSE file: it must leave both alone.
common=(--ioengine=psync --group_reporting --invalidate=0)
job --label "sequential 1 MiB, page cache" --floor "$floor" "$M/big" "$extent" -- "${common[@]}" --rw=read --bs=1M --loops=2
job --label "random 4 KiB, page cache" --iops --floor "$floor" "$M/big" "$extent" -- "${common[@]}" --rw=randread --bs=4k --norandommap --time_based --runtime=4
job --label "random 4 KiB, page cache, against bare passthrough" --iops --floor "$floor" "$M/big" "$bare/big" -- "${common[@]}" --rw=randread --bs=4k --norandommap --time_based --runtime=4
job --label "(bare passthrough against the file itself)" --iops "$bare/big" "$extent" -- "${common[@]}" --rw=randread --bs=4k --norandommap --time_based --runtime=4
job --label "random 4 KiB, page cache, mmap" --iops --floor "$floor" "$M/big" "$extent" -- "${common[@]}" --ioengine=mmap --rw=randread --bs=4k --norandommap --time_based --runtime=4
job --label "sequential 1 MiB, O_DIRECT" --floor "$floor" "$M/big" "$extent" -- "${common[@]}" --direct=1 --rw=read --bs=1M
job --label "random 4 KiB, O_DIRECT, 4 threads" --iops --floor "$floor" "$M/big" "$extent" -- "${common[@]}" --direct=1 --rw=randread --bs=4k --norandommap --numjobs=4 --time_based --runtime=4
memory_report || failed=1
down
[[ $failed == 0 ]] || echo "a ratio is below $floor"
exit "$failed"
