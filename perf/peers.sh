#!/usr/bin/env bash
# The whole table side by side: Forebay, the local file system, and rclone mount, s3fs and JuiceFS over the same S3 server, measured in
# turn by `forebay bench` with the same commands. Prints the section of RESULTS.md: medians, spread, ratios of neighbours.
#   perf/peers.sh                        RUNS=3 FILES=2000 (of 100 KiB; the whole proof is 100000) SIZE=4GiB (the checkpoint)
#   INTO=perf/RESULTS.md perf/peers.sh   puts the section there; on a machine with something else to do only with BUSY=1
# CANDIDATES, JOBS: some of the words below; forebay-uring is Forebay over io_uring, where the kernel has it. IO_SIZE, RANDOM_SIZE: bytes of each of the 8 and 4 large files (128MiB, 16MiB).
# WARM_ONLY=1: of the small files only what comes before the cache is emptied, which is a third of the time.
# FOREBAY: the daemon; BENCH: another binary that measures (FOREBAY). WITHIN: seconds for one measurement (3600).
# What is missing of the peers is installed (peers/have.sh); what cannot be had is told and left out. Needs root, for the mounts.
# Takes twice what is written: 2.5 x SIZE, or FILES x 200 KiB. See lib.sh for UNDER, TMPDIR, KEEP.
source "$(dirname "$0")/lib.sh"
asked=$(for one in CANDIDATES JOBS IO_SIZE RANDOM_SIZE WARM_ONLY; do [[ -v $one ]] && printf '%s="%s" ' "$one" "${!one}"; done)
runs=${RUNS:-3} files=${FILES:-2000} size=${SIZE:-4GiB} failed=0 load=$(cut -d' ' -f1 /proc/loadavg)
CANDIDATES=${CANDIDATES:-local forebay rclone s3fs juicefs juicefs-writeback} JOBS=${JOBS:-small checkpoint io names}
if [[ -n ${INTO:-} && -z ${BUSY:-} ]] && ((${load%.*} >= 1)); then
    die "the load is $load: figures of a busy machine are not written down; BUSY=1 does it all the same"
fi
VERIFY=${VERIFY:-none} binaries
BENCH=${BENCH:-$FOREBAY}
scratch
export M WORK FOREBAY WITHIN=${WITHIN:-3600}
mount_point=$M results=$WORK/results
trap cleanup EXIT
# Who is being measured has a process group of his own, with all that serves him. It ends with the script, at once: a mount
# whose store went before it would keep for ever who writes to it.
trap '[[ -n ${measuring:-} ]] && kill -KILL -- "-$measuring"; exit 143' TERM INT
for part in have store mounts; do source "$top/perf/peers/$part.sh"; done
have_all
[[ -n ${WEED:-} ]] || die "without an S3 server there is nothing to hold the peers against"

# One measurement; its report is LABEL.json. What fails is in there too, and ends nothing.
bench() {
    local label=$1
    shift
    require_mount
    # shellcheck disable=SC2086
    ${UNDER:-} timeout --foreground "$WITHIN" "$BENCH" bench "$1" "$M" --json "${@:2}" >"$into/$label.json" 2>"$into/$label.err" ||
        echo "$candidate: $label: $(tail -n 2 "$into/$label.err" | tr '\n' ' ')" >&2
    require_mount
}
# Where a mount is gone, the directory below it answers as well.
require_mount() { [[ $candidate == local ]] || is_mounted "fuse.${candidate%-*}" || die "$candidate is not mounted on $M"; }
drained() { require_mount && "$top/perf/peers/drained" "$candidate"; }

# The life of a data set, twice listed, looked at and read: as it was left, and from the store into an empty cache.
job_small() {
    local of=(small-files --name small --count "$files" --sizes 100KiB)
    bench small-create "${of[@]}" --phases create --keep --then "$top/perf/peers/drained $candidate"
    [[ $candidate == local ]] || has_them_all || die "$candidate says all is in the store, which has $(stored) objects of $files"
    bench small-warm "${of[@]}" --phases list,stat,read --kept
    [[ -z ${WARM_ONLY:-} ]] || return 0
    anew "$candidate"
    bench small-cold "${of[@]}" --phases list,stat,read,delete --kept --cold
    rm -rf "$M/forebay-bench-small"
}
has_them_all() { [[ $(stored) -ge $files ]]; }

# The stall of a training job that writes a checkpoint of 8 ranks, and of one that starts from it on an empty cache.
job_checkpoint() {
    local of=(checkpoint --ranks 8 --size "$size" --device "$WORK/floor")
    bench checkpoint "${of[@]}" --keep
    drained
    anew "$candidate"
    bench restore "${of[@]}" --check
    rm -rf "$M/forebay-bench-checkpoint"
}

# Large files in order and at random, with fsync.
job_io() {
    bench io-order fuse-io --name order --files 2 --file-size "${IO_SIZE:-128MiB}" --verify --phases write,read,rewrite
    bench io-random fuse-io --name random --files 1 --file-size "${RANDOM_SIZE:-16MiB}" --buffer 4KiB --random --phases write,read,rewrite
}

job_names() { bench names metadata --files 250 --duration "${SECONDS_EACH:-3}s"; }

# A candidate with a store, a cache and processes of its own, whatever becomes of it.
measure() {
    set +m
    trap clear_away EXIT
    M=$mount_point
    [[ $candidate == local ]] && M=$WORK/local
    begins "$candidate"
    local job
    for job in $JOBS; do
        "job_$job"
        drained || die "$candidate did not get all into the store"
    done
    ends "$candidate"
}
clear_away() {
    local pid
    uring_as_before
    for pid in ${daemon:-} ${redis:-} ${store:-}; do kill -KILL "$pid" 2>/dev/null; done
    [[ $M == "$mount_point" ]] && umount -l "$M" 2>/dev/null
    rm -rf "$WORK/store" "$WORK/meta" "$CACHE" "$WORK/local"
}

mkdir -p "$WORK/floor" "$results"
there=() words=()
for candidate in $CANDIDATES; do
    if is_there "$candidate"; then there+=("$candidate"); else words+=(--absent "$candidate"); fi
done
for ((run = 0; run < runs; run++)); do
    # Each begins a round in its turn, so that what drifts drifts for all.
    for ((at = 0; at < ${#there[@]}; at++)); do
        candidate=${there[$(((at + run) % ${#there[@]}))]}
        into=$results/$run/$candidate
        mkdir -p "$into"
        echo "run $((run + 1)) of $runs: $candidate (after $SECONDS s)" >&2
        set -m
        (measure) &
        measuring=$!
        set +m
        wait "$measuring" || { failed=1; echo "$candidate did not come to its end" >&2; }
    done
done
for candidate in "${there[@]}"; do words+=(--candidate "$candidate" "$(version_of "$candidate")" "$(options_of "$candidate")"); done
line="${asked}RUNS=$runs FILES=$files SIZE=$size perf/peers.sh"
"$top/perf/peers/section.py" "$results" ${INTO:+--into "$INTO"} --command "$line" --load "$load" \
    --store "$(version_of store)${REDIS:+, $(version_of redis)}" "${words[@]}" || failed=1
exit "$failed"
