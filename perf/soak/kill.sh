#!/usr/bin/env bash
# Nothing acknowledged is lost when the daemon dies: ROUNDS times, a load of creates, overwrites, appends, truncates,
# renames over, links, mapped stores and fsyncs, a kill -9 at a random moment, a restart, and a check of every name and
# byte against the ledger of what was acknowledged. Every fifth round, and at the end, all is persisted and the under file system
# must equal the mount byte for byte.
#   perf/soak/kill.sh [ROUNDS]          200 rounds; 20 in CI
# FULL=SIZE: with a cache of that size, too small for the load (writes may be refused with ENOSPC, nothing may be lost).
# UP_FLAGS='--write-mode transient': the local path alone, nothing is carried. SEED: first seed (1). See ../lib.sh for FOREBAY, VERIFY, UFS, UP_FLAGS, KEEP.
source "$(dirname "$0")/../lib.sh"
rounds=${1:-200} seed=${SEED:-1} failed=0
binaries
scratch
trap cleanup EXIT
read -ra load_flags <<<"${LOAD_FLAGS:-}"
if [[ -n ${FULL:-} ]]; then
    UP_FLAGS="${UP_FLAGS:-} --cache-size $FULL"
    load_flags+=(--may-be-full)
fi

equal() {
    # What is never carried cannot be compared with the under file system.
    [[ ${UP_FLAGS:-} == *transient* ]] && return 0
    barrier || { echo "round $round: the barrier failed"; failed=1; return; }
    [[ $UFS == "$WORK/ufs" ]] || return 0
    # shellcheck disable=SC2086
    "$VERIFY" compare ${COMPARE_FLAGS:-} "$M" "$UFS" || { echo "round $round: the under file system differs"; failed=1; }
}

up
for round in $(seq "$rounds"); do
    "$VERIFY" crash load "$M" --ledger "$WORK/ledger" --seconds 30 --seed $((seed + round)) "${load_flags[@]}" >"$WORK/load" 2>&1 &
    load=$!
    # On a busy machine the load may take its time to begin.
    for _ in $(seq 600); do [[ -d $M/shared ]] && break; sleep 0.05; done
    ms=$(between 100 3000)
    sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
    slay
    wait "$load"
    status=$?
    printf 'round %d: killed after %d ms; %s\n' "$round" "$ms" "$(tail -n 1 "$WORK/load")"
    if [[ $status != 0 ]]; then
        cat "$WORK/load"
        failed=1
        break
    fi
    up
    "$VERIFY" crash check "$M" --ledger "$WORK/ledger" || { failed=1; break; }
    ((round % 5 == 0)) && equal
    [[ $failed == 0 ]] || break
done
[[ $failed == 0 ]] && equal
down
if [[ $failed != 0 ]]; then
    echo "FAILED in round $round; everything is kept in $WORK"
    exit 1
fi
echo "$rounds rounds: nothing acknowledged was lost"
