# Sourced by ../peers.sh after have.sh: an S3 server (SeaweedFS) with one empty bucket, started anew for every candidate, so that
# none finds the garbage of another. It listens on 127.0.0.1 alone, on free ports, and reports to nobody.

free_ports() {
    python3 -c 'import socket, sys
held = [socket.socket() for _ in range(int(sys.argv[1]))]
[one.bind(("127.0.0.1", 0)) for one in held]
print(*[one.getsockname()[1] for one in held])' "$1"
}

# Sets endpoint; the bucket is `bucket`.
store_begins() {
    local master master_grpc volume volume_grpc filer filer_grpc s3 s3_grpc
    read -r master master_grpc volume volume_grpc filer filer_grpc s3 s3_grpc < <(free_ports 8)
    mkdir -p "$WORK/store"
    # Keys in its environment would make it ask everybody for them, and the count of objects comes without.
    # shellcheck disable=SC2086
    ${UNDER:-} env -u AWS_ACCESS_KEY_ID -u AWS_SECRET_ACCESS_KEY TMPDIR="$WORK" "$WEED" server -dir="$WORK/store" -ip=127.0.0.1 -ip.bind=127.0.0.1 -master.telemetry=false \
        -master.port="$master" -master.port.grpc="$master_grpc" -master.volumeSizeLimitMB=1024 \
        -volume.port="$volume" -volume.port.grpc="$volume_grpc" -volume.max=0 \
        -filer.port="$filer" -filer.port.grpc="$filer_grpc" -filer.localSocket="$WORK/filer.sock" \
        -s3 -s3.port="$s3" -s3.port.grpc="$s3_grpc" -s3.localSocket="$WORK/s3.sock" -s3.port.iceberg=0 -s3.port.lance=0 \
        >"$WORK/store.log" 2>&1 </dev/null &
    store=$!
    disown
    endpoint=http://127.0.0.1:$s3
    within 60 curl -sf -o /dev/null -X PUT "$endpoint/bucket" && return
    tail -n 20 "$WORK/store.log" >&2
    die "the S3 server did not start"
}

store_ends() {
    [[ -n ${store:-} ]] || return 0
    kill -TERM "$store" 2>/dev/null
    within 30 is_gone "$store" || kill -KILL "$store" 2>/dev/null
    store=
    rm -rf "$WORK/store"
}

is_gone() { ! kill -0 "$1" 2>/dev/null; }

# How many objects with bytes in them the bucket has.
stored() {
    python3 -c 'import sys, urllib.parse, urllib.request, xml.etree.ElementTree as xml
space, count, after = "{http://s3.amazonaws.com/doc/2006-03-01/}", 0, None
while count == 0 or after:
    query = {"list-type": "2"} | ({"continuation-token": after} if after else {})
    with urllib.request.urlopen(f"{sys.argv[1]}?{urllib.parse.urlencode(query)}", timeout=60) as answer:
        page = xml.parse(answer).getroot()
    count += sum(int(size.text) > 0 for size in page.iter(f"{space}Size"))
    after = page.findtext(f"{space}NextContinuationToken")
    if after is None:
        break
print(count)' "$endpoint/bucket"
}
