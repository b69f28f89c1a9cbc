"""Sections F to H: bugs, full disks, no descriptors, and several who want one ledger: it says what is proved."""

import os
import shutil
import sqlite3
import subprocess
import sys
import threading
from collections import Counter
from contextlib import closing
from functools import partial
from pathlib import Path

import pytest

from conftest import Program, call_row, read_results, write_export
from disks import filling_disk
from importer.errors import CannotCreateError, ExitCode, ImporterError, LedgerError, TryLaterError
from importer.ledger.reader import open_reader
from importer.pipeline.run import Listener
from importer.records import Receipt, RunSummary
from judge.world import ForkServer, World
from ledgers import CREATED, opened
from misbehaviour import Simulator
from runs import imported, ledger_counts
from schemas.vocabulary import Outcome
from steps import Step, at

CALLS = 3


@pytest.fixture
def part_sent(account: Simulator, program: Program, export: Path) -> Path:
    """Return that export; its first call was sent and the others wait."""
    assert program("import", "--init-ledger", "--limit", "1", export).code == 0
    return export


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


@pytest.mark.fault(106)
def test_folder_of_rejects_taken_away(account: Simulator, tmp_path: Path) -> None:
    """Without the folder of its rejects a run ends with 73 when all is sent, and says how they are had."""
    export = write_export(tmp_path / "export.csv", [call_row(8), call_row(9, to="no number")])
    rejects = tmp_path / "rejects" / "rejects.csv"
    rejects.parent.mkdir()
    told: list[ImporterError] = []
    listener, step = Listener(problem=told.append), at(Step.SETTLED, 1, rejects.parent.rmdir)
    assert imported(export, listener, step=step, rejects=str(rejects)).exit_code == 73
    assert ["with --rejects once more" in (problem.hint or "") for problem in told] == [True]
    assert ledger_counts(tmp_path) == {"accepted": 1}


@pytest.mark.fault(106)
@pytest.mark.parametrize("taken", ["folder", "parts"])
def test_results_taken_away(
    program: Program, account: Simulator, part_sent: Path, tmp_path: Path, taken: str
) -> None:
    """A run whose results are deleted meanwhile ends with 73 and right counts; the next one writes them."""
    results = tmp_path / "folder" / "results.csv"
    results.parent.mkdir()

    def take_away() -> None:
        for part in results.parent.iterdir():
            part.unlink()
        if taken == "folder":
            results.parent.rmdir()

    seen: list[RunSummary] = []
    with pytest.raises(CannotCreateError, match="No such file") as failed:
        more = write_export(tmp_path / "more.csv", [call_row(8), call_row(9, to="no number")])
        imported(more, Listener(broke_off=seen.append), step=at(Step.SETTLED, 2, take_away), results=str(results))
    assert "then run the same again: what was sent is safe in the ledger" in (failed.value.hint or "")
    (said,) = seen
    counts = (said.rows, said.carried, said.outcomes[Outcome.ACCEPTED], said.outcomes[Outcome.REJECTED])
    assert (counts, said.adds_up()) == ((2, 2, 3, 1), True)
    assert not results.exists()
    if taken == "folder":
        results = tmp_path / f"cdr-importer.results-{said.run_id}.csv"
    assert f"{results}, as the ledger has them" in program("deliver", "--verbose").stderr
    assert [row["outcome"] for row in read_results(results)] == ["accepted"] * 3
    with open_reader(tmp_path / "ledger.sqlite") as reader:
        assert all(run.finished_at for run in reader.runs(-1))


@pytest.mark.fault(97, 98, 103, 104)
@pytest.mark.parametrize(
    ("step", "kind"),
    [
        (Step.ANSWERED, MemoryError),
        *((step, LedgerError) for step in (Step.ROWS_SYNCED, Step.BEFORE_INTENT)),
        *(pytest.param(step, RuntimeError, marks=[] if step in CHEAP else pytest.mark.slow) for step in BUGS),
    ],
)
def test_failure_at_a_step(
    program: Program, account: Simulator, export: Path, tmp_path: Path, step: Step, kind: type[Exception]
) -> None:
    """A bug, no memory or a full disk leaves what is proved; the next run doubles no call and loses none."""
    with filling_disk() as fill, pytest.raises(kind):

        def fail() -> None:
            if kind is LedgerError:
                fill()
            else:
                raise kind("+447700900111 canary")

        imported(export, step=at(step, 1, fail))
    wanted, sent = BUGS[step]
    assert (ledger_counts(tmp_path), len(account.arrivals) <= sent) == (wanted, True)
    doubtful = wanted.get("uncertain", 0) + wanted.get("sending", 0)
    assert program("import", "--results", tmp_path / "next.csv", export).code == (4 if doubtful else 0)
    left = {"accepted": CALLS - doubtful, "uncertain": doubtful}
    assert ledger_counts(tmp_path) == {state: count for state, count in left.items() if count}
    whole = Counter(arrival.fields["id"] for arrival in account.arrivals if arrival.complete)
    assert set(whole.values()) == {1}
    assert len(read_results(tmp_path / "next.csv")) >= CALLS


@pytest.mark.fault(105)
def test_reserve_takes_the_answers(account: Simulator, export: Path, tmp_path: Path) -> None:
    """On a disk that is full from the first intent on, every answer still finds its place in the ledger."""
    with filling_disk(lambda: (tmp_path / "ledger.sqlite-wal").stat().st_size) as fill:
        summary = imported(export, step=at(Step.BEFORE_INTENT, 1, fill))
    assert (int(summary.exit_code), ledger_counts(tmp_path)) == (0, {"accepted": CALLS})


@pytest.mark.fault(113)
@pytest.mark.slow
@pytest.mark.parametrize("most", [7, 9, 10])
def test_no_descriptors_left(program: Program, account: Simulator, part_sent: Path, most: int) -> None:
    """Without descriptors a run ends before it sends anything, and the next one sends all."""
    script = f'ulimit -n {most}; exec "{sys.executable}" -m importer deliver'
    done = subprocess.run(["/bin/sh", "-c", script], capture_output=True, timeout=60, check=False)
    assert (done.returncode in (69, 70, 73, 74, 78), len(account.arrivals)) == (True, 1), done.stderr
    assert set(ledger_counts(part_sent.parent)) == {"accepted", "pending"}
    assert (program("deliver").code, len(account.accepted)) == (0, CALLS)


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


@pytest.mark.fault(115, 124)
def test_commands_beside_a_run(program: Program, account: Simulator, part_sent: Path, tmp_path: Path) -> None:
    """While a run holds the ledger, who would write ends with 75 and its holder's name; who looks on may look."""
    tokens, sent = account.token_requests, len(account.arrivals)
    commands: tuple[tuple[str | Path, ...], ...] = (
        ("import", part_sent),
        ("deliver",),
        ("resolve", "call00001", "--close", "--note", "n"),
        ("ledger", "purge"),
        ("ledger", "forget", "--number", "+12125550101"),
        ("ledger", "accept-restore"),
        ("ledger", "accept-account"),
    )
    with opened(tmp_path / "ledger.sqlite") as ledger:
        for command in commands:
            ran = program(*command)
            assert (ran.code, f"pid {os.getpid()}, since {CREATED[:-1]}" in ran.stderr) == (75, True), command
        assert program("status").code == 0
        assert program("ledger", "backup", tmp_path / "backup.sqlite").code == 0
        assert ledger.counts() == {**dict.fromkeys(ledger.counts(), 0), "accepted": 1, "pending": 2}
    assert (account.token_requests, len(account.arrivals)) == (tokens, sent)
    assert sorted(each.name for each in tmp_path.glob("*.part")) == []


@pytest.mark.fault(116, 133)
@pytest.mark.slow
def test_twenty_runs_at_once(server: ForkServer, simulator: Simulator, tmp_path: Path) -> None:
    """Of twenty runs of one file begun together each call is sent once; the others end with 75 or find it sent."""
    world = World(tmp_path / "world", simulator, server)
    path = world.add_file("day.csv", range(12))
    world.run("import", path, options=("--limit", "1"))
    codes = Counter(map(world.finish, [world.start("import", path) for _ in range(20)]))
    assert codes[ExitCode.OK] >= 1
    assert set(codes) <= {ExitCode.OK, ExitCode.TRY_LATER}
    assert sorted(call["id"] for call in simulator.accepted) == sorted(world.states())
    assert world.breaches() == []


@pytest.mark.fault(123)
def test_looking_after_a_crash_changes_no_file(program: Program, part_sent: Path, tmp_path: Path) -> None:
    """`status` on what a killed run left moves nothing from the -wal file: that is for the next run."""
    crashed = tmp_path / "crashed"
    crashed.mkdir()
    files = tmp_path.glob("ledger.sqlite*")
    imported(part_sent, step=at(Step.SETTLED, 1, lambda: [shutil.copy(each, crashed) for each in files]))
    names = ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite.witness")
    before = {name: (crashed / name).read_bytes() for name in names}
    ran = program("status", "--ledger", crashed / "ledger.sqlite")
    assert (ran.code, "accepted   2" in ran.stdout) == (0, True)
    assert {name: (crashed / name).read_bytes() for name in names} == before


@pytest.mark.fault(125)
def test_person_who_holds_the_ledger_for_a_moment(account: Simulator, part_sent: Path, tmp_path: Path) -> None:
    """A write lock of another program, taken when an answer came, is waited out: the answer is recorded."""
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None, check_same_thread=False)
    release = threading.Timer(0.3, lambda: other.execute("ROLLBACK"))

    def hold() -> None:
        other.execute("BEGIN IMMEDIATE")
        release.start()

    with closing(other):
        summary = imported(part_sent, step=at(Step.ANSWERED, 1, hold))
        release.join()
    assert summary.exit_code is ExitCode.OK
    outcomes = [row["outcome"] for row in read_results(tmp_path / "results.csv")]
    assert outcomes == ["already_accepted", "accepted", "accepted"]


@pytest.mark.fault(125)
def test_person_who_holds_the_ledger_for_good(
    account: Simulator, part_sent: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Before the first byte it is 75 and nothing is sent; after the answer the evidence is told, then it is 74."""
    # SQLite waits a hundredth of the time that the ledger asks for.
    connect = sqlite3.connect
    monkeypatch.setattr(
        sqlite3, "connect", lambda *place, timeout=5.0, **how: connect(*place, timeout=timeout / 100, **how)
    )
    unrecorded: list[Receipt] = []
    before = (Step.LOCKED, "BEGIN EXCLUSIVE", TryLaterError, 1)
    for step, statement, error, sent in (before, (Step.ANSWERED, "BEGIN IMMEDIATE", LedgerError, 2)):
        with closing(connect(tmp_path / "ledger.sqlite", isolation_level=None, check_same_thread=False)) as other:
            hold = partial(other.execute, statement)
            with pytest.raises(error):
                imported(part_sent, Listener(unrecorded=unrecorded.append), step=at(step, 1, hold))
        assert len(account.arrivals) == sent
    told = [(each.call_id, each.state.value, each.http_status, each.code) for each in unrecorded]
    assert told == [("call00001", "accepted", 200, "SUCCESS")]
    assert ledger_counts(tmp_path) == {"accepted": 1, "sending": 1, "pending": 1}
