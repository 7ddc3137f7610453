#!/usr/bin/env bash
# A cold sequential read over S3 through the mount, against the same bytes fetched by a bare client in parallel, in turn.
#   perf/cold-s3.sh            SIZE=1G RUNS=5 FLOOR=0.90
# RATE, DELAY_MS: the line, in bytes a second and milliseconds of a round trip (400 MB/s and 20 ms; 0 for none). It is
# drawn by the store itself (perf/cold says why and how), so that netem is not needed. GETS, GET_LEN: what the bare client
# does (16 GETs of 8 MiB; the best of what was tried at 400 MB/s and 20 ms).
# Every run through the mount has a daemon of its own and an empty cache. Both must bring the same bytes.
# A table on standard output, a line of JSON in ${JSON:-$WORK/cold.json}. See lib.sh for FOREBAY, UP_FLAGS, KEEP.
source "$(dirname "$0")/lib.sh"
size=$(numfmt --from=iec "${SIZE:-1G}") runs=${RUNS:-5} floor=${FLOOR:-0.90} failed=0
rate=${RATE:-400000000} delay=${DELAY_MS:-20} gets=${GETS:-16} get_len=$(numfmt --from=iec "${GET_LEN:-8M}")
VERIFY=${VERIFY:-none} binaries
scratch
ends() { [[ -n ${server:-} ]] && kill "$server" 2>/dev/null; cleanup; }
trap ends EXIT
json=${JSON:-$WORK/cold.json}

if [[ -z ${COLD:-} ]]; then
    (cd "$top/perf/cold" && CARGO_TARGET_DIR=$WORK/target cargo build --quiet --release) || die "perf/cold does not build"
    COLD=$WORK/target/release/cold-s3
fi
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
${UNDER:-} "$COLD" serve "$port" "$size" "$rate" "$delay" >"$WORK/server" 2>&1 &
server=$!
for _ in $(seq 600); do grep -q ^ready "$WORK/server" && break; sleep 0.1; done
grep -q ^ready "$WORK/server" || die "the store did not start"
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none
UFS=s3://bucket UP_FLAGS="${UP_FLAGS:-} --ufs-option endpoint=http://127.0.0.1:$port --ufs-option region=us-east-1"

for ((run = 0; run < runs; run++)); do
    ${UNDER:-} "$COLD" fetch "$port" "$size" "$gets" "$get_len" | sed 's/^/bare /' || die "the bare client failed"
    rm -rf "$CACHE"
    mkdir -p "$CACHE"
    up
    ${UNDER:-} "$COLD" read "$M/big" | sed 's/^/mount /' || die "the mount failed"
    grep VmHWM "/proc/$daemon/status" >"$WORK/memory"
    down
done >"$WORK/runs"
[[ $(wc -l <"$WORK/runs") == $((2 * runs)) ]] || die "not every run ended"

judge='
import json, statistics, sys
floor, path, size, rate, delay = float(sys.argv[1]), sys.argv[2], *map(int, sys.argv[3:6])
speeds, sums = {"bare": [], "mount": []}, set()
for who, bytes, seconds, checksum in map(str.split, sys.stdin):
    speeds[who].append(int(bytes) / float(seconds) / 1e6)
    sums.add((bytes, checksum))
assert sums == {(str(size), checksum) for _, checksum in sums} and len(sums) == 1, f"different bytes: {sums}"
medians = {who: statistics.median(all) for who, all in speeds.items()}
ratio = statistics.median(mount / bare for mount, bare in zip(speeds["mount"], speeds["bare"]))
count = len(speeds["mount"])
line = f"{rate / 1e6:.0f} MB/s, {delay} ms" if rate or delay else "unshaped"
print(f"cold sequential read of {size >> 20} MiB over S3 ({line}), medians of {count}")
for who, all in speeds.items():
    print(f"  {who:<6} {medians[who]:8.1f} MB/s   ({min(all):.1f} to {max(all):.1f})")
print(f"  ratio  {ratio:8.3f}        (floor {floor})")
json.dump({"label": "cold-s3", "rate": rate, "delay_ms": delay, "size": size, "ratio": ratio, **medians}, open(path, "a"))
sys.exit(ratio < floor)'
python3 -c "$judge" "$floor" "$json" "$size" "$rate" "$delay" <"$WORK/runs" || failed=1
sed 's/^/daemon memory at its highest: /' "$WORK/memory"
exit "$failed"
