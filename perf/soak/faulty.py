"""A proxy in front of an S3 server that fails, stalls, cuts and lies.

    faulty.py PORT SERVER_PORT PLAN

PLAN is a file of one JSON object, read anew when it changes: {"share": 0.1, "kinds": ["500", "slow", ...]}. That share of
the requests meets one of the kinds, drawn at random; an absent or empty plan leaves all alone. A line on standard output
for each kind and how often it struck, when the proxy is ended.

    500, 503     the request does not reach the server; an error with S3's document
    refuse       the request does not reach the server; the connection is cut
    lose         the request takes effect; the connection is cut before the answer
    cut          the answer ends in the middle of its body
    hang         the request does not reach the server; nothing comes for HANG seconds
    stall        the answer stops in the middle for HANG seconds, then the connection is cut
    slow         the answer comes in pieces over SLOW seconds
    tag          (content alone) the answer bears another version than the one that was asked for
    short        (content alone) the answer claims a shorter range, and is as short
"""

import asyncio
import collections
import json
import os
import random
import re
import signal
import sys

HANG, SLOW = 12.0, 3.0
PORT, SERVER, PLAN = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3]
struck = collections.Counter()
plan, plan_read = {}, 0

DOCUMENTS = {
    "500": ("500 Internal Server Error", "InternalError"),
    "503": ("503 Slow Down", "SlowDown"),
}


def draw(first_line):
    """What happens to a request."""
    global plan, plan_read
    try:
        changed = os.stat(PLAN).st_mtime_ns
        if changed != plan_read:
            with open(PLAN) as file:
                plan, plan_read = json.load(file), changed
    except (OSError, ValueError):
        # Absent, or just being written.
        pass
    if random.random() >= plan.get("share", 0):
        return None
    kind = random.choice(plan["kinds"])
    content = first_line.startswith(b"GET ") and b"?" not in first_line
    if kind in ("tag", "short") and not content:
        return None
    struck[kind] += 1
    return kind


def header(head, name):
    found = re.search(rb"(?im)^" + name + rb":[ \t]*([^\r\n]*)", head)
    return found and found.group(1)


async def read_message(stream):
    head = await stream.readuntil(b"\r\n\r\n")
    body = await stream.readexactly(int(header(head, b"content-length") or 0))
    return head, body


async def ask(head, body):
    """The server's whole answer, with its length in the head."""
    reader, writer = await asyncio.open_connection("127.0.0.1", SERVER)
    head = re.sub(rb"(?im)^connection:[^\r\n]*\r\n", b"", head)
    writer.write(head[:-2] + b"Connection: close\r\n\r\n" + body)
    answer = await reader.read(-1)
    writer.close()
    end = answer.index(b"\r\n\r\n") + 4
    found, rest = answer[:end], answer[end:]
    found = re.sub(rb"(?im)^connection:[^\r\n]*\r\n", b"", found)
    if header(found, b"content-length") is None and not head.startswith(b"HEAD "):
        found = found[:-2] + b"Content-Length: %d\r\n\r\n" % len(rest)
    return found, rest


def lie(kind, head, body):
    if kind == "tag":
        return re.sub(rb'(?im)^(etag:[ \t]*")[^"]*', rb"\g<1>feedfacefeedface", head), body
    half = len(body) // 2
    ranged = re.search(rb"(?im)^content-range: bytes (\d+)-\d+/(\d+)", head)
    if kind != "short" or not ranged or half == 0:
        return head, body
    first, total = int(ranged.group(1)), int(ranged.group(2))
    head = re.sub(rb"(?im)^content-range:[^\r\n]*", b"Content-Range: bytes %d-%d/%d" % (first, first + half - 1, total), head)
    return re.sub(rb"(?im)^content-length:[^\r\n]*", b"Content-Length: %d" % half, head), body[:half]


async def serve_one(reader, writer):
    """One request; false ends the connection."""
    head, body = await read_message(reader)
    kind = draw(head)
    if kind in DOCUMENTS:
        status, code = DOCUMENTS[kind]
        text = f"<Error><Code>{code}</Code><Message>as planned</Message></Error>".encode()
        text = b"" if head.startswith(b"HEAD ") else text
        writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(text)}\r\n\r\n".encode() + text)
        return True
    if kind == "hang":
        await asyncio.sleep(HANG)
    if kind in ("refuse", "hang"):
        return False
    head, body = lie(kind, *await ask(head, body))
    if kind == "lose":
        return False
    if kind in ("cut", "stall"):
        writer.write(head + body[: len(body) // 2])
        await writer.drain()
        await asyncio.sleep(HANG if kind == "stall" else 0)
        return False
    writer.write(head)
    if kind == "slow" and body:
        step = -(-len(body) // 10)
        for at in range(0, len(body), step):
            writer.write(body[at : at + step])
            await writer.drain()
            await asyncio.sleep(SLOW / 10)
        return True
    writer.write(body)
    await writer.drain()
    return True


async def serve(reader, writer):
    try:
        while await serve_one(reader, writer):
            pass
    except (OSError, ValueError, asyncio.IncompleteReadError):
        # Either end went away in the middle.
        pass
    finally:
        writer.transport.abort() if writer.transport.get_write_buffer_size() == 0 else writer.close()


async def main():
    server = await asyncio.start_server(serve, "127.0.0.1", PORT, limit=1 << 20)
    ended = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, ended.set)
    print("ready", flush=True)
    async with server:
        await ended.wait()
    for kind, times in sorted(struck.items()):
        print(f"{kind} {times}", flush=True)


asyncio.run(main())
