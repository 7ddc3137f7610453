#!/usr/bin/env bash
# What sync(2) and syncfs(2) do for files that were made here and never fsynced: after sync(2) they outlive a loss of power, since
# all they consist of (extent files, the home's log) lies on the tier's file system, which sync(2) writes out too. Of syncfs(2) on
# the mount the kernel tells a FUSE daemon nothing, so nothing is promised; what was there is told. Root; a loop-mounted ext4.
#   perf/soak/sync.sh          see ../lib.sh for FOREBAY, VERIFY, UP_FLAGS, KEEP
if [[ -z ${OWN_MOUNTS:-} ]]; then
    # The kernel's boot id is the daemon's sign of a boot: another one is bound over it, where only this script sees it.
    OWN_MOUNTS=1 exec unshare --mount "$0" "$@"
fi
source "$(dirname "$0")/../lib.sh"
let_go_of_others
failed=0
binaries
WORK=${WORK:-$(mktemp -d -p "${TMPDIR:-/var/tmp}" forebay-perf.XXXXXX)}
tier=$WORK/tier CACHE=$WORK/tier/cache UP_FLAGS="${UP_FLAGS:-} --write-mode transient"
mkdir -p "$tier"

plug_in() {
    cat /proc/sys/kernel/random/uuid >"$WORK/boot_id"
    mount --bind "$WORK/boot_id" /proc/sys/kernel/random/boot_id || die "cannot stand in for the boot id"
    # No commit of ext4's own comes in between.
    mount -o loop,commit=300 "$WORK/tier.img" "$tier" || die "the ext4 does not mount any more"
}

pull_plug() {
    "$VERIFY" power-loss "$tier" || die "the ext4 cannot be shut down"
    slay
    local _
    for _ in $(seq 200); do umount "$tier" 2>/dev/null && break; sleep 0.05; done
    mountpoint -q "$tier" && die "the ext4 stays mounted"
    umount /proc/sys/kernel/random/boot_id
    plug_in
    up
}

# Files in a directory, one of them renamed and one appended to.
work() {
    local n
    mkdir "$M/$1"
    for n in $(seq 40); do head -c $((n * 10007)) /dev/urandom >"$M/$1/f$n" || return 1; done
    mv "$M/$1/f1" "$M/$1/renamed" && echo more >>"$M/$1/f2" && ln "$M/$1/f3" "$M/$1/link"
    (cd "$M/$1" && sha256sum -- *) >"$WORK/$1.sums"
}
intact() { (cd "$M/$1" 2>/dev/null && sha256sum --quiet -c "$WORK/$1.sums") >"$WORK/$1.check" 2>&1; }

truncate -s 2G "$WORK/tier.img"
mkfs.ext4 -qF "$WORK/tier.img" || die "mkfs.ext4 failed"
plug_in
scratch
trap 'umount -l "$M" "$tier" 2>/dev/null; cleanup' EXIT
up
work by_sync && sync && pull_plug
if intact by_sync; then echo "after sync(2): all is there"; else
    echo "FAILED: sync(2) returned and this is missing:"
    head -n 5 "$WORK/by_sync.check"
    failed=1
fi
work by_syncfs && sync -f "$M" && pull_plug
if intact by_syncfs; then echo "after syncfs(2) on the mount: all is there, though nothing is promised"; else
    echo "after syncfs(2) on the mount: $(grep -c . "$WORK/by_syncfs.check") lines of what is missing, as nothing is promised"
fi
intact by_sync || { echo "FAILED: what sync(2) covered went with a later loss"; failed=1; }
down
[[ $failed == 0 ]] || echo "everything is kept in $WORK"
exit "$failed"
