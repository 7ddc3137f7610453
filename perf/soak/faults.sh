#!/usr/bin/env bash
# Nothing acknowledged is lost while the store fails: ROUNDS times, a load on a write-back mount over S3 while a share of all
# requests meets 500s, SlowDown, refused, lost and cut connections, silence and slow bodies (faulty.py says which). Then, still
# under faults, the cache is emptied and every name and byte is checked against the ledger of what was acknowledged; then the
# store lies about versions and lengths, and a reader must get the right bytes or an error. At last the faults end, all is
# persisted, and the bucket must hold what the mount shows, byte for byte, seen by boto3 past the proxy.
#   perf/soak/faults.sh [ROUNDS]          3 rounds
# SHARE: of the requests (0.1). SECONDS_OF_LOAD: a round (10). KILL=1: the daemon is killed at the end of each load.
# SEED: first seed (1). See ../lib.sh for FOREBAY, VERIFY, UP_FLAGS, KEEP.
source "$(dirname "$0")/../lib.sh"
source "$(dirname "$0")/s3.sh"
rounds=${1:-3} seed=${SEED:-1} seconds=${SECONDS_OF_LOAD:-10} failed=0
binaries
scratch
ends() {
    s3_ends
    cleanup
}
trap ends EXIT
s3_begins
check() { "$VERIFY" crash check --keep "$M" --ledger "$WORK/ledger" || { echo "round $round: $1"; failed=1; }; }
# What a cold read would get: everything that may go from the cache is gone, and so are the kernel's pages.
cold() { sync "$M"; "$FOREBAY" fs free "$M" >/dev/null 2>&1; }

# Every file is as it was, or cannot be read just now.
right_or_refused='
import hashlib, os, sys
top, wrong, refused, right = sys.argv[1], 0, 0, 0
known = dict(line.rstrip("\n").split("  ", 1)[::-1] for line in open(sys.argv[2]))
for path, digest in known.items():
    try:
        with open(os.path.join(top, path), "rb") as file:
            seen = hashlib.sha256(file.read()).hexdigest()
    except OSError:
        refused += 1
        continue
    right += seen == digest
    wrong += seen != digest
    if seen != digest: print(f"wrong bytes: {path}")
print(f"reads of a lying store: {right} right, {refused} refused, {wrong} wrong")
sys.exit(wrong > 0 or right == 0)'

up
for round in $(seq "$rounds"); do
    failing
    "$VERIFY" crash load "$M" --ledger "$WORK/ledger" --seconds "$seconds" --seed $((seed + round)) >"$WORK/load" 2>&1
    status=$?
    printf 'round %d: %s\n' "$round" "$(tail -n 1 "$WORK/load")"
    [[ $status == 0 ]] || { cat "$WORK/load"; failed=1; break; }
    if [[ -n ${KILL:-} ]]; then
        slay
        up
    fi
    check "not all that was acknowledged is there while the store fails"
    cold
    check "not all that was acknowledged can be read back while the store fails"
    honest
    barrier || { echo "round $round: the barrier failed"; failed=1; break; }
    (cd "$M" && find . -type f -print0 | xargs -0 -r sha256sum) >"$WORK/sums"
    cold
    lying
    python3 -c "$right_or_refused" "$M" "$WORK/sums" || failed=1
    honest
    sleep 2.5
    cold
    (cd "$M" && sha256sum --quiet -c "$WORK/sums") || { echo "round $round: not all can be read after the lies"; failed=1; }
    "$VERIFY" crash check "$M" --ledger "$WORK/ledger" || failed=1
    bucket_equals || failed=1
    [[ $failed == 0 ]] || break
done
down
struck
if [[ $failed != 0 ]]; then
    echo "FAILED in round $round; everything is kept in $WORK"
    exit 1
fi
echo "$rounds rounds: nothing acknowledged was lost while the store failed, and the bucket holds it all"
