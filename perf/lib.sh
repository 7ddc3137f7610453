# Sourced by the scripts below perf/: the binaries, and a daemon on a scratch mount.
# FOREBAY, VERIFY: the binaries (release builds of this tree if not given). WORK: a scratch directory (made if not given).
# UNDER: a command before the daemon and before what loads it (chrt -f 10, on a machine that others keep busy).
# UP_WITHIN: how many seconds a start may take (60).
# TAKEOVER: how long the mount waits for another daemon when this one is killed (0s: what is proved here is how a fresh start
# finds what was left; takeover.sh proves the other).
# UFS: another under file system. UP_FLAGS: more flags for `forebay up`. CONFIG: a file for `forebay node` instead. KEEP=1 leaves the scratch directory.
set -uo pipefail
export FOREBAY_FUSE_TAKEOVER_TIMEOUT=${TAKEOVER:-0s}
top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

die() { echo "$*" >&2; failed=1; exit 2; }

binaries() {
    [[ -n ${FOREBAY:-} && -n ${VERIFY:-} ]] && return
    (cd "$top" && cargo build --locked --quiet --release -p forebay-cli -p forebay-verify ${FEATURES:+--features "$FEATURES"}) || die "the build failed"
    local target
    target=$(cd "$top" && cargo metadata --format-version 1 --no-deps | python3 -c 'import json,sys; print(json.load(sys.stdin)["target_directory"])')
    FOREBAY=${FOREBAY:-$target/release/forebay} VERIFY=${VERIFY:-$target/release/forebay-verify}
}

# In a tree of mounts of its own: lets go of what others have mounted, who could not unmount it for good as long as it is
# here too. What the work or the under file system lies on stays. Without a look at the place itself, whose daemon may be dead.
let_go_of_others() {
    local at kind from
    while read -r at kind from; do
        [[ $kind == fuse* || $from == /dev/loop* ]] || continue
        [[ ${WORK:-${TMPDIR:-/var/tmp}}/ == "$at"/* || ${UFS:-}/ == "$at"/* ]] || umount -l -c "$at"
    done < <(findmnt -nr -o TARGET,FSTYPE,SOURCE)
}

scratch() {
    WORK=${WORK:-$(mktemp -d -p "${TMPDIR:-/var/tmp}" forebay-perf.XXXXXX)}
    M=$WORK/mnt CACHE=${CACHE:-$WORK/cache}
    mkdir -p "$M" "$CACHE" "$WORK/ufs"
    UFS=${UFS:-$WORK/ufs}
}

# Has `up` start the daemon by a configuration in write-back, with more lines for [fuse]. What is written is not carried for an
# hour, so that the under file system, which is on the same disk, stays out of the measurement.
configured() {
    CONFIG=$WORK/config.toml
    cat >"$CONFIG" <<TOML
[cache]
dir = "$CACHE"
[fuse]
dir = "$M"
options = "allow_other"
$(printf '%s\n' "$@")
[[mounts]]
ufs = "$UFS"
[mounts.policy]
write_mode = "write-back"
persist_delay = "1h"
TOML
}

# Starts the daemon on $M; returns when the mount can be used, or fails with its log.
up() {
    : >"$WORK/out"
    if [[ -n ${CONFIG:-} ]]; then
        # shellcheck disable=SC2086
        FOREBAY_LOG_FILTER=${LOG:-warn} ${UNDER:-} "$FOREBAY" node --config "$CONFIG" >"$WORK/out" 2>>"$WORK/log" </dev/null &
    else
        # shellcheck disable=SC2086
        ${UNDER:-} "$FOREBAY" up "$UFS" "$M" --cache "$CACHE" -o allow_other,suid,dev --log "${LOG:-warn}" ${UP_FLAGS:-} >"$WORK/out" 2>>"$WORK/log" </dev/null &
    fi
    daemon=$!
    disown
    echo "$daemon" >"$WORK/pid"
    local _
    for _ in $(seq $((${UP_WITHIN:-60} * 10))); do
        if grep -q ^ready "$WORK/out"; then
            is_mounted fuse.forebay && return
            die "the daemon says ready and $M is not its mount"
        fi
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    tail -n 20 "$WORK/log" >&2
    die "the mount did not come up"
}

# Tries a command ten times a second until it succeeds; fails after so many seconds.
within() {
    local until=$((SECONDS + $1))
    shift
    until "$@"; do
        ((SECONDS < until)) || return 1
        sleep 0.1
    done
}

is_mounted() { [[ $(findmnt -nT "$M" -o FSTYPE) == "$1" ]]; }

# Ends the daemon in order.
down() {
    kill -TERM "$daemon" 2>/dev/null
    local _
    for _ in $(seq 1200); do
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$daemon" 2>/dev/null && echo "the daemon did not stop within two minutes" >&2
    gone
    unmount
}

# Ends the daemon without warning and takes its dead mount away.
slay() {
    kill -KILL "$daemon" 2>/dev/null
    gone
    unmount
}

# Waits until the daemon's process is gone, whichever shell started it.
gone() {
    while kill -0 "$daemon" 2>/dev/null; do sleep 0.02; done
}

unmount() {
    local _
    for _ in $(seq 100); do
        grep -q " $M " /proc/self/mountinfo || return 0
        umount -l "$M" 2>/dev/null
        sleep 0.05
    done
    die "$M stays mounted"
}

# The memory that the daemon may take, in MiB, by its own word: node.memory, or what it derived from the machine's.
memory_budget() {
    "$FOREBAY" info --on "$M" --json | python3 -c 'import json, sys; print(json.load(sys.stdin)["memory"]["budget"] >> 20)'
}

# Notes ten times a second what the daemon takes, until memory_report. Pages of files are the kernel's and do not count.
watch_memory() {
    (while grep -E '^(RssAnon|RssShmem|HugetlbPages):' "/proc/$daemon/status" 2>/dev/null | awk '{sum += $2} END {print int(sum / 1024)}'; do
        kill -0 "$daemon" 2>/dev/null || break
        sleep 0.1
    done >"$WORK/memory") &
    watcher=$!
    disown
}

# Says the highest that was seen; fails above the budget.
memory_report() {
    kill "$watcher" 2>/dev/null
    local most budget
    most=$(sort -n "$WORK/memory" | tail -n 1)
    budget=$(memory_budget) || { echo "the daemon does not say what its memory may be" && return 1; }
    echo "daemon memory: at most $most MiB of $budget MiB, $(wc -l <"$WORK/memory") samples"
    [[ $most -le $budget ]] || { echo "that is over its budget" && return 1; }
}

# Waits until all that is dirty was carried to the under file system.
barrier() { "$FOREBAY" fs persist --wait "$M" >"$WORK/persist" 2>&1 || { tail -n 5 "$WORK/persist" >&2; return 1; }; }

# Has files carried whoever writes: else a load that never pauses is killed before anything of it is.
at_once() { "$FOREBAY" mount set "$M" persist_yield=0s >/dev/null; }

# A whole number from LOW up to HIGH.
between() { echo $(($1 + ((RANDOM << 15) | RANDOM) % ($2 - $1 + 1))); }

cleanup() {
    [[ -n ${watcher:-} ]] && kill "$watcher" 2>/dev/null
    [[ -n ${daemon:-} ]] && kill -KILL "$daemon" 2>/dev/null
    [[ -n ${M:-} ]] && umount -l "$M" 2>/dev/null
    [[ -z ${KEEP:-} && -n ${WORK:-} && ${failed:-0} == 0 ]] && rm -rf "$WORK"
    return 0
}
