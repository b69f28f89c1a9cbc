"""A power cut loses what was not synced: the order of syncs and requests, and the ledger that would be left."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import ROOT, call_row, table, write_export
from judge.checker import violations
from judge.history import History, ledger_of, posts_of
from judge.trace import Event, after_power_cut, call_of, events, has_strace, requests, traced, unordered_requests
from misbehaviour import Simulator

CALLS = 30
WAL = "/l-wal"
SOCKET = "socket:[1234]"


def hexed(data: bytes) -> str:
    """Return data as strace -xx shows it."""
    return "".join(f"\\x{byte:02x}" for byte in data)


def write_line(data: bytes, offset: int, path: str = WAL) -> str:
    """Return a line of a trace that writes to a file."""
    return f'7 pwrite64(5<{hexed(path.encode())}>, "{hexed(data)}", {len(data)}, {offset}) = {len(data)}'


SYNC = f"7 fdatasync(5<{hexed(WAL.encode())}>) = 0"
SEND = f'9 sendto(6<{hexed(SOCKET.encode())}>, "{hexed(b"POST /phonebridge/v3")}", 20, 0, NULL, 0) = 20'
HALF_SYNC = f"7 fdatasync(5<{hexed(WAL.encode())}> <unfinished ...>"
REST_OF_SYNC = "7 <... fdatasync resumed>) = 0"
INTENT = write_line(b"intent", 0)


FAILED_SYNC = SYNC.replace("= 0", "= -1 EIO")
LATE, NONE = "began before what was written to the -wal was synced", "has no write to the -wal of its own"


@table(
    ("lines", "wanted"),
    [
        ([INTENT, SYNC, SEND], []),
        ([INTENT, HALF_SYNC, REST_OF_SYNC, SEND], []),
        ([INTENT, SEND, SYNC], [f"request 1 {LATE}"]),
        ([INTENT, HALF_SYNC, SEND, REST_OF_SYNC], [f"request 1 {LATE}"]),
        ([SYNC, INTENT, SEND], [f"request 1 {LATE}"]),
        ([INTENT, SYNC, SEND, SEND], [f"request 2 {NONE}"]),
        ([SEND, INTENT, SYNC], [f"request 1 {NONE}"]),
        ([INTENT, FAILED_SYNC, SEND], [f"request 1 {LATE}"]),
        ([INTENT, SYNC, SEND, INTENT, SEND, SYNC], [f"request 2 {LATE}"]),
    ],
)
def test_order_of_a_trace(lines: list[str], wanted: list[str]) -> None:
    """A request without a sync of its own intent before it is found in a trace."""
    assert unordered_requests(events(lines), WAL) == wanted


def test_what_a_power_cut_leaves() -> None:
    """Only what a completed sync covers is left, with the lengths that truncations gave."""
    path = hexed(WAL.encode())
    lines = [
        write_line(b"abcd", 2),
        f"7 ftruncate(5<{path}>, 5) = 0",
        f"7 fallocate(5<{path}>, 0, 0, 8) = 0",
        HALF_SYNC,
        write_line(b"lost", 0),
        REST_OF_SYNC,
        write_line(b"lost", 4),
    ]
    assert after_power_cut(events(lines), [WAL], 99) == {WAL: b"\0\0abc\0\0\0"}
    assert after_power_cut(events(lines), [WAL], 5) == {WAL: b""}


def trace_of_import(
    folder: Path, account: Simulator, package_root: Path = ROOT, calls: int = CALLS, workers: int = 1
) -> list[Event]:
    """Import under strace and return what the system was asked."""
    path = write_export(folder / "export.csv", (call_row(number) for number in range(calls)))
    environment = {
        **os.environ,
        **account.environment(),
        "PYTHONPATH": str(package_root),
        "CDR_IMPORTER_LEDGER": str(folder / "ledger.sqlite"),
        "CDR_IMPORTER_RATE": "1000/second",
        "CDR_IMPORTER_YES": "true",
        "HOME": str(folder),
    }
    command = [sys.executable, "-m", "importer", "import", "--init-ledger", "--workers", str(workers), str(path)]
    subprocess.run(traced(command, folder / "trace"), env=environment, cwd=package_root, check=True, timeout=120)
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


@pytest.mark.fault(102)
@pytest.mark.slow
@pytest.mark.skipif(not has_strace(), reason="strace is missing or may not trace")
@pytest.mark.parametrize("workers", [1, 4])
def test_every_intent_is_durable_before_its_request(simulator: Simulator, tmp_path: Path, workers: int) -> None:
    """No byte of a request leaves before its intent is synced, and a power cut as it leaves hides none."""
    simulator.latency_seconds = 0.01
    trace = trace_of_import(tmp_path, simulator, workers=workers)
    assert len(requests(trace)) == CALLS
    if workers == 1:  # several workers share a commit, so only the ledger that is left can tell
        assert unordered_requests(trace, f"{tmp_path / 'ledger.sqlite'}-wal") == []
    assert power_cut_breaches(trace, tmp_path, simulator) == []
