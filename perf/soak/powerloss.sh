#!/usr/bin/env bash
# Nothing that fsync returned for is lost when the power goes: ROUNDS times, a load with many fsyncs on a mount whose cache directory is on a
# loop-mounted ext4, EXT4_IOC_SHUTDOWN without log flush at a random moment, the daemon killed, ext4 mounted again as after a boot, a
# restart, and a check of every name and byte against the ledger: all that was synced is there, and no page is zero where data was.
# In every other round files are carried while the load makes others; in the rest they give way to it.
#   perf/soak/powerloss.sh [ROUNDS]      100 rounds; 10 in CI; root
# NO_FSYNC=1: with a daemon whose fsync calls do nothing (build feature `fault-injection`); succeeds when the check finds the losses.
# TIER_SIZE: of the ext4 (4G). SEED: first seed (1). LOAD_FLAGS: more flags for the load. See ../lib.sh for FOREBAY, VERIFY, UFS, UP_FLAGS, KEEP.
if [[ -z ${OWN_MOUNTS:-} ]]; then
    # The kernel's boot id is the daemon's sign of a boot: another one is bound over it, where only this script sees it.
    OWN_MOUNTS=1 exec unshare --mount "$0" "$@"
fi
[[ -n ${NO_FSYNC:-} ]] && export FEATURES=forebay-cli/fault-injection FOREBAY_TEST_SKIP_FSYNC=1
source "$(dirname "$0")/../lib.sh"
let_go_of_others
rounds=${1:-100} seed=${SEED:-1} failed=0 lost=0
binaries
WORK=${WORK:-$(mktemp -d -p "${TMPDIR:-/var/tmp}" forebay-perf.XXXXXX)}
tier=$WORK/tier CACHE=$WORK/tier/cache
mkdir -p "$tier"

plug_in() {
    cat /proc/sys/kernel/random/uuid >"$WORK/boot_id"
    mount --bind "$WORK/boot_id" /proc/sys/kernel/random/boot_id || die "cannot stand in for the boot id"
    mount -o loop "$WORK/tier.img" "$tier" || die "the ext4 does not mount any more"
}

# Stops every thread of the daemon, each behind the system call it is in.
halt() {
    kill -STOP "$daemon"
    local _
    for _ in $(seq 500); do
        grep -qhv '^[0-9]* (.*) T' /proc/"$daemon"/task/*/stat || return 0
        sleep 0.01
    done
    die "the daemon does not halt"
}

# A machine without power does nothing: the daemon is halted first, or it would go on changing the under file system for a
# while with calls on the dead ext4 that had not noticed. What the load, which goes on, was told from here on counts as under way.
pull_plug() {
    : >"$WORK/pulled"
    halt
    "$VERIFY" power-loss "$tier" || die "the ext4 cannot be shut down"
    kill -KILL "$daemon"
    wait "$load"
    slay
    local _
    for _ in $(seq 200); do
        umount "$tier" 2>/dev/null && break
        sleep 0.05
    done
    mountpoint -q "$tier" && die "the ext4 stays mounted"
    umount /proc/sys/kernel/random/boot_id
}

truncate -s "${TIER_SIZE:-4G}" "$WORK/tier.img"
mkfs.ext4 -qF "$WORK/tier.img" || die "mkfs.ext4 failed"
plug_in
scratch
trap 'umount -l "$M" "$tier" 2>/dev/null; cleanup' EXIT
up
for round in $(seq "$rounds"); do
    rm -f "$WORK/pulled"
    ((round % 2)) && at_once
    # shellcheck disable=SC2086
    "$VERIFY" crash load "$M" --ledger "$WORK/ledger" --loss power --until "$WORK/pulled" --seconds 60 --seed $((seed + round)) ${LOAD_FLAGS:-} >"$WORK/load" 2>&1 &
    load=$!
    ms=$(between 300 4000)
    sleep "$(printf '%d.%03d' $((ms / 1000)) $((ms % 1000)))"
    pull_plug
    printf 'round %d: plug pulled after %d ms; %s\n' "$round" "$ms" "$(tail -n 1 "$WORK/load")"
    if grep FINDING "$WORK/load"; then
        failed=1
        break
    fi
    plug_in
    if ! up; then
        failed=1
        break
    fi
    "$VERIFY" crash check "$M" --ledger "$WORK/ledger" --loss power >"$WORK/check" 2>&1
    status=$?
    tail -n 3 "$WORK/check"
    [[ $status == 0 ]] && continue
    lost=1
    break
done
if [[ -n ${NO_FSYNC:-} ]]; then
    [[ $lost == 1 ]] || { echo "FAILED: without fsync nothing was found missing: this test shows nothing"; exit 1; }
    echo "without fsync the check finds what is lost, as it must"
    exit 0
fi
if [[ $failed == 1 || $lost == 1 ]]; then
    failed=1
    echo "FAILED in round $round; everything is kept in $WORK"
    exit 1
fi
down
echo "$rounds rounds: all that fsync returned for was there"
