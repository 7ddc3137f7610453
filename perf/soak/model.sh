#!/usr/bin/env bash
# The mount and a POSIX model in memory get the same random operations, and must agree after each. Persist, evict,
# restart, kill -9, dropped kernel caches and changes of the under file system are among them.
#   perf/soak/model.sh [OPS [SEEDS [FIRST_SEED]]]     20000 operations, 3 seeds
# ACTS: which of `persist evict restart kill drop outside` (all). EVERY: one operation in so many is one of them (300).
# FLAGS: more flags for `forebay-verify model`. A failing run is made shorter and written to $WORK/seed-N.json; `forebay-verify replay` runs it again.
source "$(dirname "$0")/../lib.sh"
acts=${ACTS-persist evict restart kill drop outside} failed=0

# How the tool calls back: this script with the name of an act.
if [[ ${1:-} == act ]]; then
    daemon=$(cat "$WORK/pid")
    M=$WORK/mnt CACHE=$WORK/cache
    case $2 in
        persist) barrier ;;
        evict) "$FOREBAY" fs free "$M" >/dev/null ;;
        restart) down && up ;;
        kill) slay && up ;;
        drop) sync && echo 3 >/proc/sys/vm/drop_caches ;;
    esac
    exit
fi

binaries
scratch
trap 'daemon=$(cat "$WORK/pid"); cleanup' EXIT
export WORK UFS FOREBAY VERIFY UP_FLAGS LOG
self=$(realpath "$0")
flags=()
UP_FLAGS="${UP_FLAGS:-} --metadata-ttl 1s"
for act in $acts; do
    case $act in
        outside) [[ $UFS == "$WORK/ufs" && $acts == *persist* ]] && flags+=(--ufs "$UFS") ;;
        drop) [[ -w /proc/sys/vm/drop_caches ]] && flags+=(--drop-caches "$self act drop") ;;
        *) flags+=("--$act" "$self act $act") ;;
    esac
done
up
# shellcheck disable=SC2086
"$VERIFY" model "$M" --ops "${1:-20000}" --seeds "${2:-3}" --seed "${3:-1}" --act-every "${EVERY:-300}" --failures "$WORK" ${FLAGS:-} "${flags[@]}" || failed=1
daemon=$(cat "$WORK/pid")
down
[[ $failed == 0 ]] || echo "everything is kept in $WORK"
exit "$failed"
