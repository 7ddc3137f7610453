#!/usr/bin/env bash
# A directory of very many files over S3: all of them are listed, each once and in order, a sample is stat-ed and read, and
# the daemon must not grow with their number. The store is a stand-in of our own (many.py says what it knows).
#   perf/many.sh               FILES=10000000 SAMPLE=1000 (every so many-th is stat-ed)
# STAT_ALL=1: every file is stat-ed as it is listed, as `ls -l` does.
# The bound is the daemon's own budget (node.memory; FOREBAY_NODE_MEMORY sets it).
# See lib.sh for FOREBAY, UP_FLAGS, KEEP.
source "$(dirname "$0")/lib.sh"
files=${FILES:-10000000} sample=${SAMPLE:-1000} failed=0
VERIFY=${VERIFY:-none} binaries
scratch
ends() { [[ -n ${server:-} ]] && kill "$server" 2>/dev/null; cleanup; }
trap ends EXIT
port=$(python3 -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
python3 "$top/perf/many.py" "$port" "$files" >"$WORK/server" 2>&1 &
server=$!
for _ in $(seq 100); do grep -q ^ready "$WORK/server" && break; sleep 0.1; done
for _ in $(seq 100); do curl -sf "http://127.0.0.1:$port/bucket?list-type=2" >/dev/null && break; sleep 0.1; done
export AWS_ACCESS_KEY_ID=none AWS_SECRET_ACCESS_KEY=none
UFS=s3://bucket/d UP_FLAGS="${UP_FLAGS:-} --ufs-option endpoint=http://127.0.0.1:$port --ufs-option region=us-east-1 -o ro"

walk='
import os, sys, time
top, files, sample, every = sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), sys.argv[4] == "1"
began, count, looked = time.monotonic(), 0, 0
with os.scandir(top) as entries:
    for entry in entries:
        assert entry.name == f"f{count:08}", f"{entry.name} in place {count}"
        if every:
            assert entry.stat(follow_symlinks=False).st_size == 7
        if count % sample == 0:
            found = os.stat(entry.path)
            assert (found.st_size, found.st_ino) == (7, entry.inode()), entry.name
            looked += 1
        if count % (100 * sample) == 0:
            assert open(entry.path).read() == "7 bytes", entry.name
        count += 1
assert count == files, f"{count} files, not {files}"
all_of = ", each stat-ed" if every else ""
took = time.monotonic() - began
print(f"{count} files listed, {looked} stat-ed apart{all_of}, in {took:.0f} s: {count / took:.0f} a second")'

up
watch_memory
sleep 1
before=$(tail -n 1 "$WORK/memory")
python3 -c "$walk" "$M" "$files" "$sample" "${STAT_ALL:-0}" || failed=1
echo "daemon memory: ${before:-?} MiB before"
memory_report || failed=1
down
exit "$failed"
