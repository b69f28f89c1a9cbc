"""What a program asked of the system, read from strace: order of syncs and requests, what a power cut leaves."""

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from conftest import ROOT, call_row, write_export
from judge.checker import violations
from judge.history import History, ledger_of, posts_of
from misbehaviour import Simulator

CALLS = "fdatasync,fsync,sendto,sendmsg,write,pwrite64,ftruncate,fallocate"
SYNCS = frozenset({"fdatasync", "fsync"})
WRITES = frozenset({"pwrite64", "ftruncate", "fallocate", "write"})
REQUEST = b"POST /phonebridge/"

_BEGUN = re.compile(r"(\d+) +(\w+)\((.*?)(?:\) += (-?\d+).*| <unfinished \.\.\.>)$", re.DOTALL)
_RESUMED = re.compile(r"(\d+) +<\.\.\. (\w+) resumed>(.*)\) += (-?\d+).*$", re.DOTALL)
_ARGUMENTS = re.compile(r'\d+<([^>]*)>(?:, "([^"]*)")?(.*)', re.DOTALL)


@dataclass(frozen=True)
class Event:
    """One call of the system; ``began`` and ``ended`` are places in the trace.

    ``numbers`` are the arguments after the data: length and offset of a write, length of a truncation.
    """

    name: str
    path: str
    data: bytes
    numbers: tuple[int, ...]
    began: int
    ended: int


def has_strace() -> bool:
    """Say whether strace is there and may trace."""
    command = ["strace", "-qq", "-o", "/dev/null", "true"]
    return shutil.which("strace") is not None and subprocess.run(command, capture_output=True).returncode == 0


def events(lines: Sequence[str]) -> list[Event]:
    """Return the calls that succeeded, in the order of their beginning."""
    open_calls: dict[tuple[str, str], tuple[int, str]] = {}
    found = []
    for place, line in enumerate(lines):
        resumed = _RESUMED.match(line)
        if resumed:
            began, arguments = open_calls.pop((resumed[1], resumed[2]))
            found.append(_event(resumed[2], arguments + resumed[3], int(resumed[4]), began, place))
            continue
        begun = _BEGUN.match(line)
        if begun and begun[4] is None:
            open_calls[begun[1], begun[2]] = (place, begun[3])
        elif begun:
            found.append(_event(begun[2], begun[3], int(begun[4]), place, place))
    # A call that never returned may have had its effect: a request counts as begun, a sync as not done.
    for (_, name), (began, arguments) in open_calls.items():
        found.append(_event(name, arguments, 0, began, sys.maxsize))
    return sorted((event for event in found if event is not None), key=lambda event: event.began)


def _event(name: str, arguments: str, returned: int, began: int, ended: int) -> Event | None:
    found = _ARGUMENTS.match(arguments)
    if found is None or returned < 0:
        return None
    data = bytes.fromhex((found[2] or "").replace("\\x", ""))
    path = bytes.fromhex(found[1].replace("\\x", "")).decode() if found[1].startswith("\\x") else found[1]
    numbers = tuple(int(word) for word in re.findall(r"-?\b\d+\b", found[3]))
    return Event(name, path, data, numbers, began, ended)


def requests(trace: Sequence[Event]) -> list[Event]:
    """Return the writes that begin a request."""
    sends = (event for event in trace if event.name in ("sendto", "sendmsg", "write"))
    return [event for event in sends if event.data.startswith(REQUEST)]


def call_of(trace: Sequence[Event], request: Event) -> str:
    """Return the call that a request is about; its form goes out in the same write as its head or in the next."""
    sent = (event.data for event in trace if event.path == request.path and event.began >= request.began)
    return next(found[1].decode() for data in sent if (found := re.search(rb"(?:^|&|\n)id=([A-Za-z0-9]+)", data)))


def after_power_cut(trace: Sequence[Event], paths: Sequence[str], moment: int) -> Mapping[str, bytes]:
    """Return what files hold when the power fails at that place of the trace: writes before their last whole sync.

    The harshest of the worlds a disk may leave: nothing unsynced got there by luck.
    """
    left = {}
    for path in paths:
        ours = [event for event in trace if event.path == path]
        synced = max((event.began for event in ours if event.name in SYNCS and event.ended < moment), default=-1)
        left[path] = _replayed(event for event in ours if event.name in WRITES and event.ended < synced)
    return left


def _replayed(writes: Iterator[Event]) -> bytes:
    content = bytearray()
    for event in writes:
        if event.name == "pwrite64":
            offset = event.numbers[-1]
            content.extend(bytes(max(0, offset + len(event.data) - len(content))))
            content[offset : offset + len(event.data)] = event.data
        elif event.name == "ftruncate":
            (length,) = event.numbers
            del content[length:]
            content.extend(bytes(max(0, length - len(content))))
        elif event.name == "fallocate":
            content.extend(bytes(max(0, sum(event.numbers[-2:]) - len(content))))
        else:
            content.extend(event.data)
    return bytes(content)


def trace_of_import(
    folder: Path, account: Simulator, calls: int, *, package_root: Path = ROOT, workers: int = 1
) -> list[Event]:
    """Import under strace and return what the system was asked."""
    path = write_export(folder / "export.csv", (call_row(number) for number in range(calls)))
    own = {"LEDGER": str(folder / "ledger.sqlite"), "RATE": "1000/second", "YES": "true"}
    environment = os.environ | account.environment() | {f"CDR_IMPORTER_{name}": word for name, word in own.items()}
    environment |= {"PYTHONPATH": str(package_root), "HOME": str(folder)}
    command = [sys.executable, "-m", "importer", "import", "--init-ledger", "--workers", str(workers), str(path)]
    # Names of files and all data come in hexadecimal.
    strace = ["strace", *("-f", "-y", "-xx", "-s", "10000000", "-qq", "--signal=none", "-e", f"trace={CALLS}")]
    strace += ["-o", str(folder / "trace")]
    subprocess.run([*strace, *command], env=environment, cwd=package_root, check=True, timeout=120)
    trace, ledger = events((folder / "trace").read_text().splitlines()), str(folder / "ledger.sqlite")
    # A ledger is made under another name and linked into place: it is the same file.
    return [replace(event, path=ledger) if event.path == f"{ledger}.new" else event for event in trace]


def power_cut_breaches(trace: list[Event], folder: Path, account: Simulator) -> list[str]:
    """Cut the power as each request begins, and at the end; let the judge look at what is left."""
    ledger, posts = folder / "ledger.sqlite", {post.call_id: post for post in posts_of(account.arrivals)}
    paths = [str(ledger), f"{ledger}-wal"]
    begun = {call_of(trace, request): request.began for request in requests(trace)}
    assert set(begun) == set(posts)
    found = []
    for moment in (*begun.values(), sys.maxsize):
        left = after_power_cut(trace, paths, moment)
        scene = folder / "left.sqlite"
        for path, suffix in zip(paths, ("", "-wal"), strict=True):
            scene.with_name(scene.name + suffix).write_bytes(left[path])
        held, integrity = ledger_of(scene)
        for file in folder.glob("left.sqlite*"):
            file.unlink()
        sent = [posts[call_id] for call_id, began in begun.items() if began <= moment]
        told = History(posts=sent, ledger=held, integrity=integrity, is_recovered=False)
        found += [f"power cut after {len(sent)} requests: {sentence}" for sentence in violations(told)]
    return found
