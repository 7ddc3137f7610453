# Sourced by soaks after ../lib.sh: an S3 server (moto, installed by ci/servers) with faulty.py in front of it.
# The daemon sees the proxy; what the bucket holds is looked at past it.

# Starts both; sets UFS and UP_FLAGS so that `up` mounts the bucket through the proxy, whose faults may strike its first question
# as well. Call s3_ends at the end.
s3_begins() {
    local servers
    servers=$("$top/ci/servers") || die "ci/servers failed"
    eval "$servers"
    python=$FOREBAY_TEST_VENV/bin/python
    local port _
    read -r server_port port < <(python3 -c 'import socket
both = [socket.socket() for _ in range(2)]
[one.bind(("127.0.0.1", 0)) for one in both]
print(*[one.getsockname()[1] for one in both])')
    "$FOREBAY_TEST_VENV/bin/moto_server" -H 127.0.0.1 -p "$server_port" >"$WORK/server.log" 2>&1 &
    server=$!
    for _ in $(seq 300); do curl -sf -X PUT "http://127.0.0.1:$server_port/bucket" >/dev/null && break; sleep 0.1; done
    honest
    "$python" "$top/perf/soak/faulty.py" "$port" "$server_port" "$WORK/plan" >"$WORK/struck" 2>"$WORK/proxy.log" &
    proxy=$!
    for _ in $(seq 100); do grep -q ^ready "$WORK/struck" && break; sleep 0.1; done
    export AWS_ACCESS_KEY_ID=soak AWS_SECRET_ACCESS_KEY=soak AWS_DEFAULT_REGION=us-east-1 FOREBAY
    UFS=s3://bucket/a/prefix
    UP_FLAGS="${UP_FLAGS:-} --ufs-option endpoint=http://127.0.0.1:$port --ufs-option region=us-east-1 --ufs-option connect_timeout=1m --metadata-ttl 2s"
}

faults() { printf '{"share": %s, "kinds": %s}' "$1" "$2" >"$WORK/plan.new" && mv "$WORK/plan.new" "$WORK/plan"; }
failing() { faults "${SHARE:-0.1}" '["500", "503", "refuse", "lose", "cut", "hang", "stall", "slow"]'; }
lying() { faults 0.5 '["tag", "short", "cut"]'; }
honest() { faults 0 '[]'; }

# Whether the bucket holds what the mount shows, byte for byte; waits until all is carried.
bucket_equals() { AWS_ENDPOINT_URL=http://127.0.0.1:$server_port "$python" "$top/ci/suites/objects.py" "$M" bucket a/prefix settled; }

# Says which faults struck, and ends the proxy.
struck() {
    kill "$proxy" 2>/dev/null && wait "$proxy" 2>/dev/null
    tail -n +2 "$WORK/struck" | tr '\n' ';' | sed 's/^/faults that struck: /; s/;$/\n/'
}

s3_ends() { kill ${proxy:+"$proxy"} ${server:+"$server"} 2>/dev/null; }
