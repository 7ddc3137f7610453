"""A stand-in for an S3 server that holds one prefix of very many empty-handed objects, made up as they are asked for.

    many.py PORT COUNT

It knows the listing (ListObjectsV2 with prefix, delimiter, max-keys and continuation-token), HEAD and GET of `d/f00000000`
and so on, all of 7 bytes, and nothing else; it checks neither signature nor bucket. It is no server of anybody's: it is
there because none that can be installed holds ten million objects in a small memory.
"""

import http.server
import re
import sys
import urllib.parse

PORT, COUNT = int(sys.argv[1]), int(sys.argv[2])
DIGITS = 8
STEM = "d/f"
BODY = b"7 bytes"
KEPT = {"Last_Modified": "Thu, 01 Jan 2026 00:00:00 GMT", "Accept_Ranges": "bytes"}
ENTRY = (
    f"<Contents><Key>{STEM}%0{DIGITS}d</Key><LastModified>2026-01-01T00:00:00.000Z</LastModified>"
    "<ETag>&quot;%032x&quot;</ETag><Size>7</Size><StorageClass>STANDARD</StorageClass></Contents>"
)


def indices(prefix):
    """The range of objects whose keys begin with `prefix`."""
    if STEM.startswith(prefix):
        return 0, COUNT
    digits = prefix.removeprefix(STEM)
    if not prefix.startswith(STEM) or not digits.isascii() or not digits.isdigit() or len(digits) > DIGITS:
        return 0, 0
    span = 10 ** (DIGITS - len(digits))
    return min(int(digits) * span, COUNT), min((int(digits) + 1) * span, COUNT)


def listing(query):
    prefix = query.get("prefix", [""])[0]
    first, end = indices(prefix)
    folded = query.get("delimiter") == ["/"] and "/" not in prefix and first < end
    if folded:
        return "<CommonPrefixes><Prefix>d/</Prefix></CommonPrefixes><IsTruncated>false</IsTruncated>"
    first = max(first, int(query.get("continuation-token", ["0"])[0]))
    until = min(end, first + min(int(query.get("max-keys", ["1000"])[0]), 1000))
    entries = "".join(ENTRY % (n, n) for n in range(first, until))
    if until < end:
        return f"{entries}<IsTruncated>true</IsTruncated><NextContinuationToken>{until}</NextContinuationToken>"
    return f"{entries}<IsTruncated>false</IsTruncated>"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def answer(self, status, body=b"", **headers):
        self.send_response_only(status)
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        if "Content_Length" not in headers:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self):
        url = urllib.parse.urlsplit(self.path)
        query = urllib.parse.parse_qs(url.query, keep_blank_values=True)
        if "list-type" in query:
            text = f"<ListBucketResult>{listing(query)}</ListBucketResult>"
            return self.answer(200, text.encode(), Content_Type="application/xml")
        self.object(url.path, BODY)

    def do_HEAD(self):
        self.object(urllib.parse.urlsplit(self.path).path, b"")

    def object(self, path, body):
        key = path.split("/", 2)[-1]
        first, end = indices(key)
        if len(key) != len(STEM) + DIGITS or first == end:
            text = b"" if self.command == "HEAD" else b"<Error><Code>NoSuchKey</Code></Error>"
            return self.answer(404, text)
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range", ""))
        if asked and body:
            start, last = int(asked[1]), min(int(asked[2] or 6), 6)
            part, span = body[start : last + 1], f"bytes {start}-{last}/7"
            return self.answer(206, part, Content_Range=span, **KEPT, ETag='"%032x"' % first)
        self.answer(200, body, Content_Length="7", **KEPT, ETag='"%032x"' % first)


class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128


print("ready", flush=True)
Server(("127.0.0.1", PORT), Handler).serve_forever()
