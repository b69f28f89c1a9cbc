"""What a program asked of the system, read from strace: order of syncs and requests, what a power cut leaves."""

import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

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
    return (
        shutil.which("strace") is not None
        and not subprocess.run(
            ["strace", "-qq", "-o", "/dev/null", "true"], capture_output=True, check=False
        ).returncode
    )


def traced(command: Sequence[str], trace: Path) -> list[str]:
    """Return a command under strace, with names of files and all data in hexadecimal."""
    options = ("-f", "-y", "-xx", "-s", "10000000", "-qq", "--signal=none", "-e", f"trace={CALLS}")
    return ["strace", *options, "-o", str(trace), *command]


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
    return [
        event for event in trace if event.name in ("sendto", "sendmsg", "write") and event.data.startswith(REQUEST)
    ]


def call_of(trace: Sequence[Event], request: Event) -> str:
    """Return the call that a request is about; its form goes out in the same write as its head or in the next."""
    sent = (event.data for event in trace if event.path == request.path and event.began >= request.began)
    return next(found[1].decode() for data in sent if (found := re.search(rb"(?:^|&|\n)id=([A-Za-z0-9]+)", data)))


def unordered_requests(trace: Sequence[Event], wal: str) -> list[str]:
    """Return a sentence for every request not preceded by a write to the ``-wal`` of its own and a sync of it."""
    found = []
    before = -1
    for number, request in enumerate(requests(trace), start=1):
        writes = [
            event for event in trace if event.path == wal and event.name in WRITES and event.began < request.began
        ]
        last = max((event.ended for event in writes), default=-1)
        if last <= before:
            found.append(f"request {number} has no write to the -wal of its own")
        elif not _is_synced(trace, wal, last, request.began):
            found.append(f"request {number} began before what was written to the -wal was synced")
        before = request.began
    return found


def _is_synced(trace: Sequence[Event], path: str, after: int, before: int) -> bool:
    return any(
        event.name in SYNCS and event.path == path and after < event.began and event.ended < before
        for event in trace
    )


def after_power_cut(trace: Sequence[Event], paths: Sequence[str], moment: int) -> Mapping[str, bytes]:
    """Return what files hold when the power fails at that place of the trace: writes before their last whole sync.

    The harshest of the worlds a disk may leave: nothing unsynced got there by luck.
    """
    return {path: _replayed(_durable(trace, path, moment)) for path in paths}


def _durable(trace: Sequence[Event], path: str, moment: int) -> Iterator[Event]:
    ours = [event for event in trace if event.path == path]
    synced = max((event.began for event in ours if event.name in SYNCS and event.ended < moment), default=-1)
    return (event for event in ours if event.name in WRITES and event.ended < synced)


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
