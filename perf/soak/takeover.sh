#!/usr/bin/env bash
# A daemon that is killed and started again goes on with its mount: JOBS fio jobs write and verify for DURATION seconds, half
# of them on files that the kernel writes itself and half through the daemon, beside a load of names with a ledger, while the
# daemon is killed (kill -9) every EVERY seconds. No job may see an error or hang, every acknowledged name and byte is there.
# Then UPGRADES upgrades in place under the same load. At last the daemon is killed for good: whoever waits gets an error
# within TAKEOVER_LAST, nobody hangs, and the mount can be taken away.
#   JOBS=64 DURATION=180 perf/soak/takeover.sh
# EVERY: seconds between two kills (20). UPGRADES: 20. SEED: of the load of names (1). CHANNEL: dev-fuse, the only one that can
# be taken over. See ../lib.sh for FOREBAY, VERIFY, UFS, KEEP.
TAKEOVER=${TAKEOVER:-120s}
source "$(dirname "$0")/../lib.sh"
jobs=${JOBS:-64} duration=${DURATION:-180} every=${EVERY:-20} upgrades=${UPGRADES:-20} last=${TAKEOVER_LAST:-5}
failed=0 began=$SECONDS kills=0
UP_FLAGS="${UP_FLAGS:-} -o channel=${CHANNEL:-dev-fuse}"
LOG=${LOG:-info}
binaries
scratch
trap cleanup EXIT
size=2M

wrong() {
    echo "FAILED: $*"
    failed=1
}

# Half of the jobs on files that are born here, which the kernel writes itself; half on files of which nothing is here when
# they are opened, which go through the daemon.
fio_jobs() {
    local seconds=$1
    mkdir -p "$M/born"
    fio --thread --group_reporting --minimal --output="$WORK/fio.$2" --ioengine=psync --bs=16k --size="$size" --rw=randwrite \
        --verify=crc32c --verify_backlog=16 --verify_fatal=1 --verify_state_save=0 --time_based --runtime="$seconds" --fsync=64 \
        --name="born$2" --directory="$M/born" --numjobs=$((jobs / 2)) \
        --name="there" --directory="$M/there" --numjobs=$((jobs / 2)) >"$WORK/fio.said" 2>&1
}

there() {
    mkdir -p "$UFS/there" "$UFS/names"
    local n
    for n in $(seq 0 $((jobs / 2 - 1))); do
        head -c "$size" /dev/urandom >"$UFS/there/there.$n.0"
    done
}

names() { "$VERIFY" crash load "$M/names" --ledger "$WORK/ledger" --seconds "$1" --seed "${SEED:-1}" >"$WORK/load" 2>&1; }

# Fio ends with the number of jobs that failed, of which a shell sees the lowest eight bits.
fio_failed() { ! wait "$fio" || grep -qE 'error|failed' "$WORK/fio.said"; }

# Processes that wait for the mount where no signal reaches them.
stuck() { ps -eo stat,pid,wchan:32,args | awk '$1 ~ /^D/ && ($3 ~ /fuse|request_wait/) && /fio|forebay-verify/'; }

# Waits for a job to end, at most so long.
ended() {
    local pid=$1 _
    for _ in $(seq $(($2 * 10))); do
        kill -0 "$pid" 2>/dev/null || return 0
        sleep 0.1
    done
    stuck
    return 1
}

load() {
    names "$1" &
    names=$!
    fio_jobs "$1" "$2" &
    fio=$!
}

load_ended() {
    ended "$fio" "$1" || { wrong "fio hangs"; return; }
    fio_failed && { tail -n 5 "$WORK"/fio.*; wrong "a job of fio saw an error"; }
    ended "$names" "$1" || { wrong "the load of names hangs"; return; }
    wait "$names" || { tail -n 5 "$WORK/load"; wrong "the load of names saw an error"; }
    grep -q 'stopped answering' "$WORK/load" && wrong "the mount stopped answering: $(tail -n 1 "$WORK/load")"
    "$VERIFY" crash check "$M/names" --ledger "$WORK/ledger" >"$WORK/check" || { cat "$WORK/check"; wrong "not all is there"; }
    tail -n 1 "$WORK/load"
}

killed_again_and_again() {
    local until=$((SECONDS + duration)) worst=0 was
    load "$duration" 1
    while ((SECONDS + every < until)); do
        sleep "$every"
        was=$(date +%s%N)
        kill -KILL "$daemon"
        gone
        up
        kills=$((kills + 1))
        was=$((($(date +%s%N) - was) / 1000000))
        ((was > worst)) && worst=$was
    done
    load_ended $((duration + 120))
    echo "$kills kills with $jobs jobs: nobody was served for at most $worst ms, requests that had been done already: $(grep -c 'had been done' "$WORK/log")"
    local taken lost
    taken=$(grep -c 'is open again' "$WORK/log") lost=$(grep 'is open again' "$WORK/log" | grep -vc 'lost=0')
    [[ $taken == "$kills" && $lost == 0 ]] || wrong "$taken of $kills took over, $lost of them not with all that was open"
}

upgraded_again_and_again() {
    local n pid=$daemon worst=0 took
    load $((upgrades * 3)) 2
    for n in $(seq "$upgrades"); do
        "$FOREBAY" upgrade --binary "$FOREBAY" --on "$M" --json >"$WORK/upgrade" 2>&1 || { cat "$WORK/upgrade"; wrong "upgrade $n"; break; }
        took=$(python3 -c 'import json, sys; print(json.load(sys.stdin)["took_ms"])' <"$WORK/upgrade")
        ((took > worst)) && worst=$took
        sleep 1
    done
    load_ended $((upgrades * 3 + 120))
    [[ $daemon == "$pid" ]] && kill -0 "$pid" || wrong "the daemon is another process"
    echo "$upgrades upgrades with $jobs jobs: the longest took $worst ms"
}

killed_for_good() {
    "$FOREBAY" fs persist --wait "$M" >/dev/null 2>&1
    down
    FOREBAY_FUSE_TAKEOVER_TIMEOUT=${last}s up
    load 3600 3
    sleep 3
    kill -KILL "$daemon"
    gone
    local was=$SECONDS
    ended "$fio" $((last + 60)) || wrong "a job of fio hangs"
    ended "$names" $((last + 60)) || wrong "the load of names hangs"
    fio_failed || wrong "fio saw no error"
    echo "killed for good: all had ended after $((SECONDS - was)) s, $last s of them for another daemon to come"
    timeout 30 umount "$M" || wrong "the mount cannot be taken away"
    [[ -z $(stuck) ]] || wrong "processes hang: $(stuck)"
    up
    "$VERIFY" crash check "$M/names" --ledger "$WORK/ledger" >"$WORK/check" || { cat "$WORK/check"; wrong "not all is there"; }
}

there
up
killed_again_and_again
[[ $failed == 0 && $upgrades -gt 0 ]] && upgraded_again_and_again
[[ $failed == 0 ]] && killed_for_good
[[ $failed == 0 ]] && down
if [[ $failed != 0 ]]; then
    echo "everything is kept in $WORK"
    exit 1
fi
echo "$kills kills and $upgrades upgrades in $((SECONDS - began)) s: no request failed, nothing hung, nothing acknowledged was lost"
