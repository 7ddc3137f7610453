"""What a mount over S3 promises, seen from both sides: through the mount, and by boto3 straight in the bucket.

    objects.py MOUNT BUCKET PREFIX PHASE        with the endpoint and the keys in the usual AWS variables

PHASE is a function below. `write` and `again` belong together: the mount is started anew in between. Ends with an
assertion that says what was seen, or in silence.
"""

import hashlib
import os
import stat
import subprocess
import sys
import time
import urllib.parse
import urllib.request

import boto3

MOUNT, BUCKET, PREFIX, PHASE = sys.argv[1:5]
FOREBAY = os.environ["FOREBAY"]
# How soon the mount must show what others did: the mount's metadata_ttl. A look that begins later than that, and a little
# for a question that was under way to the store, must see it, however long the look itself takes.
TTL = 1.0
SLACK = 0.25
s3 = boto3.client("s3")

# Names that are objects like any other, though they need care on the way: each part is a file's whole name.
NAMES = ["plain", "two words", "100%", "a+b&c=d?e#f", "quo'te\"", "tilde~!@$^*()[]{}|;:,<>", "ünï-ü", "...", "%2F", "back\\slash"]


def key(path):
    return f"{PREFIX}/{path}"


def at(path):
    return os.path.join(MOUNT, path)


def body(seed, length):
    return hashlib.shake_128(seed.encode()).digest(length)


def write(path, data, mode=None):
    with open(at(path), "wb") as file:
        file.write(data)
    if mode is not None:
        os.chmod(at(path), mode)


def read(path):
    with open(at(path), "rb") as file:
        return file.read()


def put(path, data, **more):
    s3.put_object(Bucket=BUCKET, Key=key(path), Body=data, **more)


def get(path):
    return s3.get_object(Bucket=BUCKET, Key=key(path))["Body"].read()


def objects(below=""):
    pages = s3.get_paginator("list_objects_v2").paginate(Bucket=BUCKET, Prefix=f"{PREFIX}/{below}")
    return {one["Key"][len(PREFIX) + 1 :]: one["Size"] for page in pages for one in page.get("Contents", [])}


def persist():
    subprocess.run([FOREBAY, "fs", "persist", "--wait", MOUNT], check=True, stdout=subprocess.DEVNULL)


def same(seen, expected, what):
    assert seen == expected, f"{what}: {seen!r}, expected {expected!r}"


def soon(look, expected, what):
    """What others did shows within the time that the mount may believe what it knows."""
    until = time.monotonic() + TTL + SLACK
    while True:
        began = time.monotonic()
        try:
            seen = look()
        except OSError as error:
            seen = error.errno
        if seen == expected:
            return
        assert began < until, f"{what}: still {seen!r}, expected {expected!r}"
        time.sleep(0.05)


def facts(path):
    found = os.lstat(at(path))
    return stat.filemode(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns, found.st_size


# --- written through the mount ------------------------------------------------------------------------------------

WRITTEN = {"w/empty": 0, "w/one": 1, "w/page": 1 << 20, "w/part": 8 << 20, "w/parts": (20 << 20) + 12345}


def write_all():
    os.mkdir(at("w"))
    for path, length in WRITTEN.items():
        write(path, body(path, length))
    for name in NAMES:
        write(f"w/{name}", body(name, 1000))
    os.mkdir(at("w/empty dir"), 0o750)
    os.makedirs(at("w/deep/er/est"))
    write("w/deep/er/est/leaf", b"leaf")
    os.symlink("deep/er/../er/ünï 100%", at("w/link"))


def check_written():
    for path, length in WRITTEN.items():
        same(hashlib.sha256(get(path)).digest(), hashlib.sha256(body(path, length)).digest(), f"bytes of {path}")
        same(read(path) == body(path, length), True, f"{path} through the mount")
    for name in NAMES:
        same(get(f"w/{name}"), body(name, 1000), f"bytes of w/{name}")
    same(objects("w/empty dir/"), {"w/empty dir/": 0}, "the marker of an empty directory")
    same(get("w/deep/er/est/leaf"), b"leaf", "a file below directories")
    same(os.readlink(at("w/link")), "deep/er/../er/ünï 100%", "a link")


def attributes_first():
    """Modes, owners and times ride with the upload; a later chmod stays here and copies nothing."""
    write("w/attrs", b"attributes", 0o640)
    os.chown(at("w/attrs"), 12, 34)
    os.utime(at("w/attrs"), ns=(1, 1_000_000_000_123_456_789))
    persist()
    meta = s3.head_object(Bucket=BUCKET, Key=key("w/attrs"))
    same(meta["Metadata"]["forebay-mode"], "0640", "the mode in the object")
    same(meta["Metadata"]["forebay-owner"], "12:34", "the owner in the object")
    same(meta["Metadata"]["forebay-mtime"], "1000000000.123456789", "the time in the object")
    os.chmod(at("w/attrs"), 0o604)
    persist()
    again = s3.head_object(Bucket=BUCKET, Key=key("w/attrs"))
    same(again["LastModified"], meta["LastModified"], "a chmod alone puts no object")


def attributes_stay():
    mode, uid, gid, mtime, size = facts("w/attrs")
    same((mode, uid, gid, size), ("-rw----r--", 12, 34, 10), "attributes")
    same(mtime, 1_000_000_000_123_456_789, "the time")


def names_move():
    """Rename, overwrite and remove reach the bucket under the final names, and nothing else stays."""
    os.mkdir(at("m"))
    write("m/a", b"first")
    write("m/b", b"second")
    persist()
    os.rename(at("m/a"), at("m/b"))
    os.mkdir(at("m/dir"))
    for n in range(5):
        write(f"m/dir/f{n}", body(f"m{n}", 3000))
    persist()
    os.rename(at("m/dir"), at("m/moved"))
    os.mkdir(at("m/gone"))
    write("m/gone/x", b"x")
    persist()
    os.unlink(at("m/gone/x"))
    os.rmdir(at("m/gone"))
    write("m/tmp", b"temporary then renamed")
    os.rename(at("m/tmp"), at("m/final"))
    persist()
    expected = {"m/b": 5, "m/final": 22, **{f"m/moved/f{n}": 3000 for n in range(5)}}
    seen = {name: size for name, size in objects("m/").items() if not name.endswith("/")}
    same(seen, expected, "objects after renames")
    same(get("m/b"), b"first", "what was renamed over")
    same(sorted(os.listdir(at("m"))), ["b", "final", "moved"], "names after renames")
    os.unlink(at("m/b"))
    os.unlink(at("m/final"))
    for n in range(5):
        os.unlink(at(f"m/moved/f{n}"))
    persist()
    same(os.listdir(at("m/moved")), [], "a directory that was emptied stays")
    same("m/moved/" in objects("m/"), True, "its marker")


def links_of_equal_bytes():
    """A link in the place of a removed file of the same bytes, whose version in the store is the same: mode and time too."""
    for length in (0, 100):
        write("w/linked", body("equal", length), 0o640)
        write("w/removed", body("equal", length), 0o755)
        persist()
        os.remove(at("w/removed"))
        os.link(at("w/linked"), at("w/removed"))
        persist()
        kept = [s3.head_object(Bucket=BUCKET, Key=key(name))["Metadata"] for name in ("w/removed", "w/linked")]
        for one in kept:
            del one["forebay-put"]  # tells one put from another
        same(kept[0], kept[1], f"what the store holds with a link of {length} bytes")
        for name in ("w/removed", "w/linked"):
            os.remove(at(name))
        persist()


# --- put by others ------------------------------------------------------------------------------------------------


def outside():
    """What others put, replace and take away shows, byte for byte, within the time to live."""
    put("o/file", body("o1", 5 << 20))
    put("o/deep/er/file", b"deep")
    for name in NAMES:
        put(f"o/{name}", body(name, 999))
    soon(lambda: read("o/file") == body("o1", 5 << 20), True, "a new object")
    same(read("o/deep/er/file"), b"deep", "a file below prefixes without markers")
    for name in NAMES:
        same(read(f"o/{name}"), body(name, 999), f"o/{name}")
    same(sorted(os.listdir(at("o"))), sorted(NAMES + ["deep", "file"]), "the listing")
    put("o/file", body("o2", 3 << 20))
    soon(lambda: read("o/file") == body("o2", 3 << 20), True, "a replaced object")
    s3.delete_object(Bucket=BUCKET, Key=key("o/file"))
    soon(lambda: os.path.exists(at("o/file")), False, "a deleted object")
    same("file" in os.listdir(at("o")), False, "a deleted object in the listing")
    os.path.exists(at("o/later"))
    put("o/later", b"later")
    soon(lambda: read("o/later"), b"later", "an object after a name that was not there")


def open_keeps():
    """A handle keeps the content it was opened on, or says that it is gone: never a mixture."""
    old, new = body("k1", 6 << 20), body("k2", 6 << 20)
    put("k", old)
    soon(lambda: os.stat(at("k")).st_size, len(old), "a new object")
    with open(at("k"), "rb", buffering=0) as file:
        first = file.read(1 << 20)
        put("k", new)
        soon(lambda: read("k") == new, True, "a replaced object")
        try:
            rest = file.read()
        except OSError as error:
            same(error.errno, 116, "the error of a handle whose content is gone")
            rest = None
    same(first, old[: 1 << 20], "the first part")
    same(rest is None or old[len(first) :].startswith(rest), True, "the rest is of the same content, or an error")


def markers():
    """Directories by markers and by prefixes, and an object that has the name of a directory."""
    put("d/marked/", b"")
    put("d/both", b"an object")
    put("d/both/inside", b"inside")
    put("d/prefix/x", b"x")
    soon(lambda: sorted(os.listdir(at("d"))), ["both", "both.forebay-object", "marked", "prefix"], "kinds of directories")
    same(os.listdir(at("d/marked")), [], "an empty marker")
    same(stat.S_ISDIR(os.lstat(at("d/both")).st_mode), True, "the directory has the name")
    same(read("d/both.forebay-object"), b"an object", "the object under its other name")
    same(read("d/both/inside"), b"inside", "what is inside")
    os.rmdir(at("d/marked"))
    os.unlink(at("d/both.forebay-object"))
    persist()
    same(sorted(objects("d/")), ["d/both/inside", "d/prefix/x"], "objects after removals")


def foreign_attributes():
    """What another node put is shown with its mode, owner and time, also when a listing came first."""
    meta = {"forebay-mode": "0600", "forebay-owner": "77:88", "forebay-mtime": "1234567890.5"}
    meta["forebay-mtime"] = "1234567890.500000000"
    for n in range(150):
        put(f"f/{n}", b"secret", Metadata=meta)
    soon(lambda: len(os.listdir(at("f"))), 150, "new objects")
    with os.scandir(at("f")) as entries:
        for entry in entries:
            found = entry.stat()
            seen = (stat.S_IMODE(found.st_mode), found.st_uid, found.st_gid, found.st_mtime_ns)
            same(seen, (0o600, 77, 88, 1_234_567_890_500_000_000), f"attributes of f/{entry.name}")
    time.sleep(TTL + 0.2)
    os.listdir(at("f"))
    same(facts("f/0")[:3], ("-rw-------", 77, 88), "attributes after another listing")


def conflict():
    """The bucket changed under a dirty file: theirs keeps the name, ours stands beside it."""
    write("c", b"ours, first")
    persist()
    with open(at("c"), "r+b") as file:
        file.write(b"ours, second")
        put("c", b"theirs")
    persist()
    same(get("c"), b"theirs", "the name")
    beside = [name for name in objects() if name.startswith("c.conflict-")]
    same([get(name) for name in beside], [b"ours, second"], f"what stands beside it ({beside})")
    soon(lambda: read("c"), b"theirs", "the name through the mount")


# --- the phases ---------------------------------------------------------------------------------------------------


def write_phase():
    write_all()
    persist()
    check_written()
    attributes_first()
    attributes_stay()
    time.sleep(TTL + 0.2)
    os.listdir(at("w"))
    attributes_stay()
    names_move()
    links_of_equal_bytes()


def again_phase():
    attributes_stay()
    same(stat.S_IMODE(os.stat(at("w/empty dir")).st_mode), 0o750, "the mode of a directory")
    check_written()
    outside()
    open_keeps()
    markers()
    foreign_attributes()
    conflict()


def bare_phase():
    """What a listing tells is all: nothing is asked of what was listed, nothing is sent along, and nothing that others sent shows."""
    theirs = [f"b/{n}" for n in range(300)]
    for path in theirs:
        put(path, body(path, 100), Metadata={"forebay-mode": "0600", "forebay-owner": "12:34"})
    put("b/empty", b"")
    time.sleep(TTL + SLACK)
    same(len(os.listdir(at("b"))), len(theirs) + 1, "names that are listed")
    before = looks()
    for path in theirs:
        found = os.stat(at(path))
        same((stat.S_IMODE(found.st_mode), found.st_uid, found.st_size), (0o644, os.getuid(), 100), path)
    same(stat.S_ISREG(os.lstat(at("b/empty")).st_mode), True, "what is empty is a file")
    asked = looks() - before
    assert asked < 20, f"{asked} looks at objects that were listed"
    same(read("b/7"), body("b/7", 100), "bytes of others")
    write("b/ours", b"ours", 0o600)
    persist()
    head = s3.head_object(Bucket=BUCKET, Key=key("b/ours"))
    same([name for name in head["Metadata"] if name != "forebay-put"], [], "what rides with an object")
    time.sleep(TTL + SLACK)
    same(facts("b/ours")[0], "-rw-------", "a mode that was set here stays here")


def looks():
    with urllib.request.urlopen(f"http://{os.environ['METRICS']}/metrics", timeout=10) as page:
        counts = [line for line in page.read().decode().splitlines() if 'op="stat"' in line]
    return sum(float(line.split()[-1]) for line in counts if line.startswith("forebay_ufs_request_seconds_count"))


def settled_phase():
    """After a barrier the bucket holds what the mount shows, and nothing more."""
    persist()
    expected = {}
    for top, dirs, files in os.walk(MOUNT):
        below = os.path.relpath(top, MOUNT)
        for name in [*dirs, *files]:
            path = os.path.normpath(os.path.join(below, name))
            mode = os.lstat(at(path)).st_mode
            if stat.S_ISREG(mode):
                expected[path] = hashlib.sha256(read(path)).hexdigest()
            elif stat.S_ISLNK(mode):
                expected[path] = "-> " + os.readlink(at(path))
            elif stat.S_ISDIR(mode) and not os.listdir(at(path)):
                expected[path + "/"] = "directory"
    # A marker may stay in a directory that is no longer empty.
    found = {name: digest(name) for name in objects() if not name.endswith("/") or name in expected}
    differing = [name for name in {*expected, *found} if expected.get(name) != found.get(name)]
    for name in sorted(differing)[:20]:
        print(f"{name}: mount {expected.get(name)}, bucket {found.get(name)}", file=sys.stderr)
    same(len(differing), 0, f"names that differ, of {len(expected)}")


def digest(name):
    found = s3.get_object(Bucket=BUCKET, Key=key(name))
    link = found["Metadata"].get("forebay-link")
    if link is not None:
        return "-> " + urllib.parse.unquote(link)
    return "directory" if name.endswith("/") else hashlib.sha256(found["Body"].read()).hexdigest()


{"write": write_phase, "again": again_phase, "bare": bare_phase, "settled": settled_phase}[PHASE]()
