#!/usr/bin/env bash
# What a full tier does, on a real mount over a small loop-mounted ext4 (root only): writers wait while anything can be
# carried away and get ENOSPC if nothing can; reads are served without being kept; what was freed can be used at once.
#   perf/full-tier.sh        TIER=256M (the file system), QUOTA=96MiB (of it, the cache)
# See lib.sh for FOREBAY, KEEP.
source "$(dirname "$0")/lib.sh"
tier=${TIER:-256M} quota=${QUOTA:-96MiB} failed=0
VERIFY=${VERIFY:-none} binaries
scratch
trap 'gone_with_tier' EXIT
gone_with_tier() {
    [[ -n ${daemon:-} ]] && kill -KILL "$daemon" 2>/dev/null && gone
    umount -l "$M" 2>/dev/null
    umount -l "$CACHE" 2>/dev/null
    cleanup
}
[[ $EUID == 0 ]] || die "only root can mount a small file system"
truncate -s "$tier" "$WORK/image"
mkfs.ext4 -q -m 0 "$WORK/image" && mount -o loop "$WORK/image" "$CACHE" || die "no loop mount"

check() {
    local what=$1 since=$SECONDS
    shift
    if "$@" >"$WORK/said" 2>&1; then echo "ok    $what ($((SECONDS - since)) s)"; else
        echo "FAIL  $what ($((SECONDS - since)) s): $(tail -n 1 "$WORK/said")"
        failed=1
    fi
}
write_mib() { head -c "$2M" /dev/urandom >"$1"; }
start() { UP_FLAGS="--cache-size $quota $*" up; }

# Files of 4 MiB, four times as much as the tier holds, each closed before the next is made.
many_files() {
    local n
    mkdir -p "$M/many"
    for n in $(seq 96); do write_mib "$M/many/$n" 4 || { echo "file $n was refused"; return 1; }; done
}
# One file larger than the tier: open, so nothing of it can be carried away.
too_large() { ! write_mib "$M/large" 300 && grep -q 'No space' "$WORK/said"; }
# While nothing can be carried away, a full tier is found out about soon.
until_refused() {
    local n
    for n in $(seq 60); do timeout 30 head -c 4M /dev/urandom >"$M/t$n" || { [[ $n -gt 10 ]]; return; }; done
    echo "nothing was refused"
    return 1
}
reads_are_served() { local n; for n in 1 2 3 4; do cmp "$WORK/ufs/src/$n" "$M/src/$n" || return 1; done; }
same_as_below() { diff -r "$M/many" "$WORK/ufs/many"; }

mkdir -p "$WORK/ufs/src"
for n in 1 2 3 4; do write_mib "$WORK/ufs/src/$n" 40; done

start
check "384 MiB in small files through a tier of $quota" many_files
check "all of it is carried" barrier
check "and is the same there" same_as_below
check "160 MiB are read through it" reads_are_served
check "one open file that is too large gets ENOSPC" too_large
rm -f "$M/large"
check "what it took is free again" write_mib "$M/after" 40
check "and is carried" barrier
down

start --write-mode transient
check "where nothing can be carried away a writer gets ENOSPC" until_refused
check "reads are served while everything is taken" reads_are_served
rm -f "$M"/t*
check "what was removed is free again" write_mib "$M/t1" 40
grep -E 'WARN|ERROR' "$WORK/log" | tail -n 5
down
exit "$failed"
