"""Sections F and G: bugs, full disks, no descriptors at any moment; the ledger says no more than is proved."""

import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from conftest import ROOT, Program, call_row, read_results, write_export
from disks import filling_disk
from importer.errors import LedgerError
from judge.trace import has_strace
from misbehaviour import Simulator
from runs import imported, ledger_counts
from steps import Step, at

CALLS = 3
BUGS = {
    Step.RESULTS_CREATED: ({}, 0),
    Step.ROWS_SYNCED: ({}, 0),
    Step.STAGED: ({"pending": 3}, 0),
    Step.TOKEN: ({"pending": 3}, 0),
    Step.BEFORE_INTENT: ({"pending": 3}, 0),
    Step.INTENT_DURABLE: ({"pending": 2, "uncertain": 1}, 0),
    Step.WRITTEN: ({"pending": 2, "uncertain": 1}, 1),
    Step.ANSWERED: ({"pending": 2, "sending": 1}, 1),
    Step.SETTLED: ({"pending": 2, "accepted": 1}, 1),
    Step.RESULTS_PART_SYNCED: ({"accepted": 3}, 3),
    Step.RUN_FINISHED: ({"accepted": 3}, 3),
}
"""What a bug at a step leaves in the ledger, and the most requests that the service has seen by then."""

CHEAP = (Step.BEFORE_INTENT, Step.WRITTEN)


@pytest.mark.fault(97, 98)
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (Step.ANSWERED, MemoryError),
        *(pytest.param(step, RuntimeError, marks=[] if step in CHEAP else pytest.mark.slow) for step in BUGS),
    ],
)
def test_bug_at_a_step(
    program: Program, account: Simulator, export: Path, tmp_path: Path, step: Step, kind: type[Exception]
) -> None:
    """An exception that nobody expected, or no memory, leaves what is proved; the next run doubles no call."""

    def fail() -> None:
        raise kind("+447700900111 canary")

    with pytest.raises(kind):
        imported(export, step=at(step, 1, fail))
    wanted, sent = BUGS[step]
    assert ledger_counts(tmp_path) == wanted
    assert len(account.arrivals) <= sent
    assert program("import", "--results", tmp_path / "next.csv", export).code in (0, 4)
    whole = Counter(arrival.fields["id"] for arrival in account.arrivals if arrival.complete)
    assert set(whole.values()) == {1}
    assert set(ledger_counts(tmp_path)) <= {"accepted", "uncertain"}
    assert len(read_results(tmp_path / "next.csv")) >= CALLS


# disks -------------------------------------------------------------------------------------------------------


@pytest.mark.fault(103, 104)
@pytest.mark.parametrize(
    ("step", "left"), [(Step.ROWS_SYNCED, {}), (Step.BEFORE_INTENT, {"pending": CALLS})], ids=["staging", "intent"]
)
def test_disk_full_before_a_byte_leaves(
    program: Program, account: Simulator, export: Path, tmp_path: Path, step: Step, left: dict[str, int]
) -> None:
    """A ledger that cannot take the calls, or the intent to send one, is 74: it is undone and no byte leaves."""
    with filling_disk() as fill, pytest.raises(LedgerError):
        imported(export, step=at(step, 1, fill))
    assert (ledger_counts(tmp_path), account.arrivals) == (left, ())
    assert program("import", "--results", tmp_path / "next.csv", export).code == 0
    assert (ledger_counts(tmp_path), len(account.accepted)) == ({"accepted": CALLS}, CALLS)


@pytest.mark.fault(105)
def test_reserve_takes_the_answers(account: Simulator, export: Path, tmp_path: Path) -> None:
    """On a disk that is full from the first intent on, every answer still finds its place in the ledger."""
    with filling_disk(lambda: (tmp_path / "ledger.sqlite-wal").stat().st_size) as fill:
        summary = imported(export, step=at(Step.BEFORE_INTENT, 1, fill))
    assert (int(summary.exit_code), ledger_counts(tmp_path)) == (0, {"accepted": CALLS})


@pytest.mark.fault(113)
@pytest.mark.slow
@pytest.mark.parametrize("most", [7, 9, 10])
def test_no_descriptors_left(
    program: Program, account: Simulator, export: Path, tmp_path: Path, most: int
) -> None:
    """Without descriptors a run ends before it sends anything, and the next one sends all."""
    assert program("import", "--init-ledger", "--limit", "1", export).code == 0
    script = f'ulimit -n {most}; exec "{sys.executable}" -m importer deliver'
    done = subprocess.run(
        ["/bin/sh", "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode in (69, 70, 73, 74, 78), len(account.arrivals)) == (True, 1), done.stderr
    assert set(ledger_counts(tmp_path)) == {"accepted", "pending"}
    assert (program("deliver").code, len(account.accepted)) == (0, CALLS)


@pytest.mark.fault(114)
@pytest.mark.slow
@pytest.mark.skipif(not has_strace(), reason="strace is missing or may not trace")
@pytest.mark.parametrize("number", [3, 9, 14])
def test_quota_exceeded(program: Program, account: Simulator, export: Path, tmp_path: Path, number: int) -> None:
    """A write that the user's quota forbids ends the run as a full disk does, and no call is sent twice."""
    assert program("import", "--init-ledger", "--limit", "1", export).code == 0
    strace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=pwrite64")
    inject = ("-e", f"inject=pwrite64:error=EDQUOT:when={number}+")
    done = subprocess.run(
        [*strace, *inject, sys.executable, "-m", "importer", "deliver"],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        cwd=tmp_path,
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, len(account.arrivals) < CALLS) == (74, True), done.stderr
    assert program("deliver", "--results", tmp_path / "next.csv").code in (0, 4)
    assert set(Counter(arrival.fields["id"] for arrival in account.arrivals).values()) == {1}
    assert set(ledger_counts(tmp_path)) <= {"accepted", "uncertain"}


@pytest.mark.fault(103)
@pytest.mark.parametrize("rows", [150, 3000])
def test_temporary_files_fill_the_disk(program: Program, tmp_path: Path, rows: int) -> None:
    """A `TMPDIR` that fills up while rows wait there, or as the last of them are written, ends the run with 73."""
    path = write_export(tmp_path / "export.csv", [call_row(number) for number in range(rows)])
    with filling_disk(lambda: 8192) as fill:
        fill()
        ran = program("check", path)
    assert (ran.code, "a temporary file cannot be written: File too large" in ran.stderr) == (73, True)


@pytest.mark.fault(103)
@pytest.mark.parametrize(
    "command",
    [("check",), ("import", "--init-ledger"), ("import", "--sandbox"), ("formats", "test", "callnotify")],
    ids=" ".join,
)
def test_no_place_for_temporary_files(
    program: Program, account: Simulator, export: Path, monkeypatch: pytest.MonkeyPatch, command: tuple[str, ...]
) -> None:
    """Without a folder for temporary files a run ends with 73 before anything is sent."""
    monkeypatch.setattr("tempfile.tempdir", str(export.parent / "gone"))
    export.with_name("export.expected.csv").touch()
    ran = program(*command, export)
    assert (ran.code, "TMPDIR" in ran.stderr, account.arrivals) == (73, True, ())
