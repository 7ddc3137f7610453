#!/usr/bin/env bash
# Nothing acknowledged is lost when the daemon dies: ROUNDS times, a load of creates, overwrites, appends, truncates,
# renames over, links, mapped stores and fsyncs, a kill -9 at a random moment, a restart, and a check of every name and
# byte against the ledger of what was acknowledged; no file's time may be before its last write. Every fifth round, and
# at the end, all is persisted and the under file system must equal the mount byte for byte. In every other round files are
# carried while the load makes others; in the rest they give way to it.
#   perf/soak/kill.sh [ROUNDS]          200 rounds; 20 in CI
# FULL=SIZE: with a cache of that size, too small for the load (writes may be refused with ENOSPC, nothing may be lost).
# FAULTS=1: over S3 with a store that fails (SHARE of all requests, 0.1: 500s, SlowDown, refused, lost and cut connections,
# silence, slow bodies; faulty.py). It fails during the load, the kill, the start and the check; it is well while all is
# carried and the bucket is compared, past the proxy. S3=1: the same with a store that is well.
# EVERY: rounds between two comparisons (5; 1 with FAULTS or FULL). UP_FLAGS='--write-mode transient': nothing is carried.
# SEED: first seed (1). MOST_MS: a kill comes within that time (3000; over S3 6000). See ../lib.sh for FOREBAY, VERIFY, UFS, KEEP.
source "$(dirname "$0")/../lib.sh"
source "$(dirname "$0")/s3.sh"
rounds=${1:-200} seed=${SEED:-1} failed=0 began=$SECONDS
binaries
scratch
ends() {
    s3_ends
    cleanup
}
trap ends EXIT
[[ -n ${FAULTS:-} ]] && S3=1
# What was being carried is looked into first, for five minutes at most; over a store that fails one never knows.
[[ -n ${FAULTS:-} ]] && UP_WITHIN=${UP_WITHIN:-310}
every=${EVERY:-5} most_ms=${MOST_MS:-3000}
[[ -n ${FULL:-}${FAULTS:-} ]] && every=${EVERY:-1}
if [[ -n ${S3:-} ]]; then
    s3_begins
    most_ms=${MOST_MS:-6000}
fi
read -ra load_flags <<<"${LOAD_FLAGS:-}"
if [[ -n ${FULL:-} ]]; then
    UP_FLAGS="${UP_FLAGS:-} --cache-size $FULL"
    load_flags+=(--may-be-full)
fi

ill() { [[ -z ${FAULTS:-} ]] || failing; }
well() { [[ -z ${FAULTS:-} ]] || honest; }

# A barrier tells of what fails while it waits: requests that met a fault before the store was well again may end in it.
carried() {
    local _
    for _ in $(seq "$([[ -n ${FAULTS:-} ]] && echo 5 || echo 1)"); do barrier 2>>"$WORK/barriers" && return; done
    tail -n 5 "$WORK/barriers"
    return 1
}

# How much the tier holds, to see whether it was full at all.
fill() { [[ -z ${FULL:-} ]] || printf ' (%s MiB of %s taken)' "$(du -sm "$CACHE/store" | cut -f 1)" "$FULL"; }

equal() {
    # What is never carried cannot be compared with the under file system.
    [[ ${UP_FLAGS:-} == *transient* ]] && return 0
    well
    carried || { echo "round $round: the barrier failed"; failed=1; return; }
    if [[ -n ${S3:-} ]]; then
        bucket_equals || { echo "round $round: the bucket differs"; failed=1; }
    elif [[ $UFS == "$WORK/ufs" ]]; then
        # shellcheck disable=SC2086
        "$VERIFY" compare ${COMPARE_FLAGS:-} "$M" "$UFS" || { echo "round $round: the under file system differs"; failed=1; }
    fi
    # Being carried changes nothing.
    "$VERIFY" crash check "$M" --ledger "$WORK/ledger" >"$WORK/again" && return
    cat "$WORK/again"
    echo "round $round: not all is there after it was carried"
    failed=1
}

up
for round in $(seq "$rounds"); do
    ((round % 2)) && at_once
    ill
    "$VERIFY" crash load "$M" --ledger "$WORK/ledger" --seconds 60 --seed $((seed + round)) "${load_flags[@]}" >"$WORK/load" 2>&1 &
    load=$!
    # On a busy machine the load may take its time to begin.
    for _ in $(seq 600); do [[ -d $M/shared ]] && break; sleep 0.05; done
    ms=$(between 100 "$most_ms")
    sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
    slay
    wait "$load"
    status=$?
    printf 'round %d: killed after %d ms; %s%s\n' "$round" "$ms" "$(tail -n 1 "$WORK/load")" "$(fill)"
    if [[ $status != 0 ]]; then
        cat "$WORK/load"
        failed=1
        break
    fi
    up
    "$VERIFY" crash check "$M" --ledger "$WORK/ledger" || { failed=1; break; }
    ((round % every == 0)) && equal
    [[ $failed == 0 ]] || break
done
[[ $failed == 0 ]] && equal
down
[[ -z ${FAULTS:-} ]] || struck
if [[ $failed != 0 ]]; then
    echo "FAILED in round $round; everything is kept in $WORK"
    exit 1
fi
echo "$rounds rounds in $((SECONDS - began)) s: nothing acknowledged was lost"
