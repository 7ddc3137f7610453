#!/usr/bin/env python3
"""Makes the section of RESULTS.md from the reports of peers.sh: what was measured, medians with their spread, and how many times as
fast Forebay is as each of the others, as the median of the ratios within a run.

  section.py RESULTS --command LINE --load LOAD --store TEXT [--candidate NAME VERSION OPTIONS]... [--absent NAME]... [--into FILE]

RESULTS/RUN/NAME/LABEL.json are reports of `forebay bench --json`. A measure with failed operations, or without a report, is
shown as `failed` and enters no ratio. --into replaces the section of the same heading in FILE, or adds it; else it is printed.
"""
import argparse
import json
import os
import pathlib
import re
import statistics
import sys
import textwrap

HEADING = "## Side by side: `perf/peers.sh`"
OURS = "forebay"
SHOWN = {"local": "local", "forebay": "Forebay", "forebay-uring": "Forebay io_uring", "rclone": "rclone", "s3fs": "s3fs", "juicefs": "JuiceFS",
         "juicefs-writeback": "JuiceFS wb"}


class Failed(Exception):
    """Something of a measure failed, so that its figure says nothing."""


def phase(report, name):
    found = next((one for one in report["phases"] if one["name"] == name), None)
    if found is None or not found["seconds"] or any(kind["errors"] for kind in found["operations"].values()):
        raise Failed
    return found


def fact(report, name):
    found = [one["value"] for one in report["facts"] if name in one["name"]]
    if not found or any(kind["errors"] for one in report["phases"] for kind in one["operations"].values()):
        raise Failed
    return found[0]


def files(name):
    """Files of the data set a second in a phase, whatever its operations are."""
    return lambda report: report["settings"]["count"] / phase(report, name)["seconds"]


def until_stored(report):
    seconds = phase(report, "create")["seconds"] + fact(report, "after create") / 1e9
    return report["settings"]["count"] / seconds


def bytes_of(name, kind):
    def megabytes(report):
        found = phase(report, name)
        return found["operations"][kind]["bytes"] / found["seconds"] / 1e6
    return megabytes


def calls_of(name, kind, scale=1.0):
    def rate(report):
        found = phase(report, name)
        return found["operations"][kind]["count"] / found["seconds"] / scale
    return rate


def measures():
    """Title, label of the report, how the figure comes from it, whether less is better."""
    small, cold = "100 KiB files", "100 KiB files, cold"
    yield f"{small}: create and close, files/s", "small-create", files("create"), False
    yield f"{small}: create until all are in the store, files/s", "small-create", until_stored, False
    for step in ("list", "stat", "read"):
        yield f"{small}: {step}, files/s", "small-warm", files(step), False
    for step in ("list", "stat", "read"):
        yield f"{cold}: {step}, files/s", "small-cold", files(step), False
    yield f"{small}: delete, files/s", "small-cold", files("delete"), False
    yield "checkpoint: stall, s", "checkpoint", lambda report: fact(report, "stall: ") / 1e9, True
    yield "checkpoint: stall / floor", "checkpoint", lambda report: fact(report, "stall / floor"), True
    yield "checkpoint: read back at once, MB/s", "checkpoint", bytes_of("read", "read"), False
    yield "checkpoint, cold: read back, MB/s", "restore", bytes_of("read", "read"), False
    yield "large files: 1 MiB writes and fsync, MB/s", "io-order", bytes_of("write", "write"), False
    yield "large files: 1 MiB reads, MB/s", "io-order", bytes_of("read", "read"), False
    yield "large files: 1 MiB rewrites and fsync, MB/s", "io-order", bytes_of("rewrite", "write"), False
    yield "large files: 4 KiB writes in order and fsync, k/s", "io-random", calls_of("write", "write", 1e3), False
    yield "large files: 4 KiB reads at random, k/s", "io-random", calls_of("read", "read", 1e3), False
    yield "large files: 4 KiB rewrites at random and fsync, k/s", "io-random", calls_of("rewrite", "write", 1e3), False
    for name in ("create", "stat", "open", "list", "list-located", "rename", "delete"):
        yield f"names: {name}, calls/s", "names", calls_of(name, name), False


def figure(path, take):
    """The figure of a report, `None` where there is none or it failed."""
    try:
        return take(json.loads(path.read_text()))
    except (Failed, OSError, ValueError, KeyError):
        return None


def collect(results, candidates):
    """Rows of (title, less is better, {candidate: a figure for each run})."""
    runs = sorted((path for path in results.iterdir() if path.is_dir()), key=lambda path: int(path.name))
    # A job that was not asked for has no report of anybody.
    labels = {path.stem for path in results.glob("*/*/*.json")}
    for title, label, take, less in measures():
        if label in labels:
            yield title, less, {one: [figure(run / one / f"{label}.json", take) for run in runs] for one in candidates}


def number(value):
    return f"{value:.0f}" if abs(value) >= 100 else f"{value:.3g}"


def cell(values):
    if None in values:
        return "failed"
    middle = number(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({number(min(values))}..{number(max(values))})"


def ratios(ours, theirs, less):
    if None in ours or None in theirs:
        return [None]
    return [b / a if less else a / b for a, b in zip(ours, theirs)]


def table(head, rows):
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def wrapped(text, indent=""):
    return textwrap.fill(text, 120, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False)


def machine():
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    memory = int(re.search(r"MemTotal:\s*(\d+)", pathlib.Path("/proc/meminfo").read_text())[1]) / (1 << 20)
    return f"{os.cpu_count()} cores ({cpu[1] if cpu else os.uname().machine}), {memory:.0f} GiB of memory, Linux {os.uname().release}"


def section(args):
    names = [name for name, _, _ in args.candidate]
    rows = list(collect(args.results, names))
    runs = len(next(iter(rows[0][2].values()))) if rows else 0
    others = [name for name in names if name != OURS]
    medians = [[title, *(cell(figures[name]) for name in names)] for title, _, figures in rows]
    times = [[title, *(cell(ratios(figures[OURS], figures[name], less)) for name in others)]
             for title, less, figures in rows if OURS in names]
    how = (f"`{args.command}`; medians of {runs} runs in which the candidates take turns (lowest..highest). {machine()}; load {args.load} "
           f"at the start. The S3 server ({args.store}) is on the same machine and disk, empty for each. Cold: from the store, mounted "
           "anew with an empty cache; of the local file system, its pages dropped.")
    of_each = [wrapped(f"- **{SHOWN[name]}** ({version}): {options}", "  ") for name, version, options in args.candidate]
    parts = [HEADING, wrapped(how), "\n".join(of_each)]
    parts += [f"{SHOWN[name]} is not in the table: it could not be installed." for name in args.absent]
    parts.append(table(["", *(SHOWN[name] for name in names)], medians))
    if times and others:
        parts += ["So many times as fast is Forebay (median of the ratios within a run):",
                  table(["", *(f"than {SHOWN[name]}" for name in others)], times)]
    return "\n\n".join(parts) + "\n"


def put_into(path, text):
    """Replaces the section with this heading, or adds it at the end."""
    old = path.read_text()
    parts = re.split(r"(?m)^(?=## )", old)
    places = [at for at, part in enumerate(parts) if part.startswith(HEADING)]
    if places:
        last = places[0] == len(parts) - 1
        parts[places[0]] = text if last else text + "\n"
        new = "".join(parts)
    else:
        new = f"{old.rstrip()}\n\n{text}"
    path.write_text(new)


def main():
    parser = argparse.ArgumentParser(usage=__doc__)
    parser.add_argument("results", type=pathlib.Path)
    parser.add_argument("--candidate", nargs=3, action="append", default=[])
    parser.add_argument("--absent", action="append", default=[])
    parser.add_argument("--into", type=pathlib.Path)
    for name in ("command", "load", "store"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    text = section(args)
    sys.stdout.write(text)
    if args.into:
        put_into(args.into, text)


if __name__ == "__main__":
    main()
