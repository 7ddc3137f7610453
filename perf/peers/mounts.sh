# Sourced by ../peers.sh after store.sh: how each candidate is mounted on $M with its cache in $CACHE, over the bucket at
# $endpoint; what its options are, in words; how it ends.
# The cache of each is a directory on the same disk, and each may have 64 requests with the store at once, as Forebay has.
# What the store has is believed for five minutes, as rclone does by itself; s3fs believes it for fifteen, and JuiceFS, whose
# metadata says what there is, for ever.
# FOREBAY_FLAGS, RCLONE_FLAGS, S3FS_OPTIONS, JUICEFS_FLAGS: options to take instead of these.
FOREBAY_FLAGS=${FOREBAY_FLAGS:---metadata-ttl 300s}
RCLONE_FLAGS=${RCLONE_FLAGS:---vfs-cache-mode full --vfs-write-back 1s --transfers 64}
S3FS_OPTIONS=${S3FS_OPTIONS:-parallel_count=64,multireq_max=64}
JUICEFS_FLAGS=${JUICEFS_FLAGS:---max-uploads 64}
URING=/sys/module/fuse/parameters/enable_uring
export AWS_ACCESS_KEY_ID=peers AWS_SECRET_ACCESS_KEY=peerspeers AWS_DEFAULT_REGION=us-east-1

# What a reader has to know of a candidate: its options, and what close and fsync promise with them.
options_of() {
    local meta=SQLite
    [[ -n ${REDIS:-} ]] && meta="Redis (append only file, every second)"
    local juicefs="metadata in $meta, no trash, \`--cache-dir DIR $JUICEFS_FLAGS"
    case $1 in
        local) echo "$(findmnt -nT "$WORK" -o FSTYPE) on $(findmnt -nT "$WORK" -o SOURCE), no store" ;;
        forebay*) echo "\`up --cache DIR $FOREBAY_FLAGS\` over $(channel_of "$1"), write-back: fsync makes durable on the local disk, the store gets it later" ;;
        rclone) echo "\`mount --cache-dir DIR $RCLONE_FLAGS\`: fsync does nothing, the store gets it later" ;;
        s3fs) echo "\`use_cache=DIR,$S3FS_OPTIONS\`: close and fsync put it into the store" ;;
        juicefs) echo "$juicefs\`: close and fsync put it into the store" ;;
        juicefs-writeback) echo "$juicefs --writeback\`: fsync makes durable on the local disk, the store gets it later" ;;
    esac
}

# A new file system on an empty store, mounted.
begins() {
    rm -rf "$CACHE" "$WORK/meta"
    mkdir -p "$M" "$CACHE" "$WORK/meta"
    [[ $1 == local ]] && return
    store_begins
    [[ $1 == juicefs* ]] && juicefs_begins
    mounts "$1"
}

mounts() {
    case $1 in
        local) ;;
        forebay*) forebay_mounts "$(channel_of "$1")" ;;
        # shellcheck disable=SC2086
        rclone) peer rclone "$RCLONE" mount ":s3,provider=Other,env_auth,region=us-east-1,endpoint='$endpoint':bucket" "$M" \
            --config /dev/null --cache-dir "$CACHE" --allow-other --rc --rc-addr "unix://$WORK/rclone.sock" --rc-no-auth $RCLONE_FLAGS ;;
        s3fs) peer s3fs "$S3FS" bucket "$M" -f -o "url=$endpoint,use_path_request_style,endpoint=us-east-1,allow_other" \
            -o "use_cache=$CACHE,$S3FS_OPTIONS" ;;
        juicefs) juicefs_mounts ;;
        juicefs-writeback) juicefs_mounts --writeback ;;
    esac
}

channel_of() { [[ $1 == forebay-uring ]] && echo uring || echo dev-fuse; }

# The kernel offers io_uring to mounts that are made while it is switched on.
forebay_mounts() {
    [[ $1 == uring ]] && uring_before=$(<"$URING") && echo Y >"$URING"
    UFS=s3://bucket UP_FLAGS="--ufs-option endpoint=$endpoint --ufs-option region=us-east-1 -o channel=$1 $FOREBAY_FLAGS" up
    uring_as_before
}
uring_as_before() { [[ -z ${uring_before:-} ]] || echo "$uring_before" >"$URING"; }

# Starts what serves $M, in the foreground; returns when it is mounted.
peer() {
    local type=fuse.$1
    shift
    # shellcheck disable=SC2086
    ${UNDER:-} "$@" >"$WORK/out" 2>>"$WORK/log" </dev/null &
    daemon=$!
    disown
    within "${UP_WITHIN:-60}" is_decided "$type"
    is_mounted "$type" && return
    tail -n 20 "$WORK/log" "$WORK/out" >&2
    die "$type was not mounted"
}

is_decided() { is_mounted "$1" || is_gone "$daemon"; }

juicefs_begins() {
    meta=sqlite3://$WORK/meta/juicefs.db
    if [[ -n ${REDIS:-} ]]; then
        # shellcheck disable=SC2086
        ${UNDER:-} "$REDIS" --port 0 --unixsocket "$WORK/redis.sock" --dir "$WORK/meta" --appendonly yes --save "" >"$WORK/redis.log" 2>&1 </dev/null &
        redis=$!
        disown
        within 30 test -S "$WORK/redis.sock" || die "Redis did not start: $(tail -n 3 "$WORK/redis.log")"
        meta=unix://$WORK/redis.sock
    fi
    "$JUICEFS" format --storage s3 --bucket "$endpoint/bucket" --access-key "$AWS_ACCESS_KEY_ID" --secret-key "$AWS_SECRET_ACCESS_KEY" \
        --trash-days 0 "$meta" peers >"$WORK/out" 2>&1 || die "juicefs format failed: $(tail -n 3 "$WORK/out")"
}

juicefs_mounts() {
    # shellcheck disable=SC2086
    peer juicefs "$JUICEFS" mount "$meta" "$M" --cache-dir "$CACHE" --no-usage-report --backup-meta 0 \
        --metrics "127.0.0.1:$(free_ports 1)" $JUICEFS_FLAGS "$@"
}

# Takes the mount away in order.
unmounts() {
    [[ $1 == local ]] && return
    [[ $1 == juicefs* ]] && timeout 120 "$JUICEFS" umount "$M" >>"$WORK/log" 2>&1
    down
    daemon=
}

# Mounts it anew with an empty cache: what is read next comes from the store. The drained file system itself stays.
anew() {
    [[ $1 == local ]] && return
    unmounts "$1"
    rm -rf "$CACHE"
    mkdir -p "$CACHE"
    mounts "$1"
}

ends() {
    unmounts "$1"
    redis_ends
    store_ends
    rm -rf "$CACHE" "$WORK/meta" "$WORK/local"
}

redis_ends() {
    [[ -n ${redis:-} ]] || return 0
    kill -TERM "$redis" 2>/dev/null
    within 30 is_gone "$redis" || kill -KILL "$redis" 2>/dev/null
    redis=
}
