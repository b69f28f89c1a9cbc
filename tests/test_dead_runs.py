"""The results of a run killed with -9: no line is lost, and the next run finishes them."""

import csv
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from conftest import Died, Program, call_row, outcomes_in, read_results, write_export
from importer.errors import ExitCode
from importer.ledger.reader import open_reader
from importer.pipeline.dead_runs import evidence_of
from importer.records import Call, Place
from importer.report.data import history_report
from importer.results.cells import cells_of
from ledgers import RUN, opened
from misbehaviour import Simulator
from runs import imported
from schemas.vocabulary import RESULT_COLUMNS, CallState, Outcome, State
from steps import Step, at

CALLS = 5


@pytest.fixture
def export(tmp_path: Path, program: Program, account: Simulator) -> Path:
    """Return an export with a row that cannot be used, and a ledger that is there."""
    program("import", "--init-ledger", "--results", tmp_path / "none.csv", write_export(tmp_path / "none", []))
    assert account.accepted == ()
    rows = [call_row(number) for number in range(CALLS)]
    return write_export(tmp_path / "export.csv", [*rows[:2], call_row(9, state="nonsense"), *rows[2:]])


def without_times(path: Path) -> list[dict[str, str]]:
    """Return results without when each call was sent."""
    return [row | {"sent_at": "" if row["sent_at"] else "never"} for row in read_results(path)]


@pytest.mark.fault(101)
def test_results_are_what_the_run_would_have_written(
    export: Path, account: Simulator, program: Program, died: Died, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after three answers, the results come to what a run stopped there by a signal writes."""
    dead, stopped = tmp_path / "dead.csv", tmp_path / "stopped.csv"
    died(Step.SETTLED, dead, "import", export, time=3)
    ran = program("deliver", "--limit", "1", "--results", tmp_path / "next.csv", "-v")
    assert f"which died, were completed: {dead}" in ran.stderr
    assert outcomes_in(dead) == ["accepted", "accepted", "rejected", "accepted", "pending", "pending"]
    assert not list(tmp_path.glob("*.part"))

    monkeypatch.setenv("CDR_IMPORTER_LEDGER", str(tmp_path / "another.sqlite"))
    signals: list[ExitCode] = []
    step = at(Step.SETTLED, 3, lambda: signals.append(ExitCode.TERMINATED))
    imported(export, step=step, results=str(stopped), interrupted=lambda: signals[0] if signals else None)
    assert without_times(dead) == without_times(stopped)


def test_history_counts_what_was_sent(export: Path, program: Program, died: Died, tmp_path: Path) -> None:
    """In the history the runs add up to the calls that the ledger holds, those of a run that died included."""
    died(Step.SETTLED, tmp_path / "dead.csv", "import", export, time=3)
    program("deliver", "--results", tmp_path / "next.csv")
    with open_reader(tmp_path / "ledger.sqlite") as reader:
        history = history_report(reader, tmp_path, None)
    accepted = (history.outcomes[Outcome.ACCEPTED], history.ledger_states[CallState.ACCEPTED])
    assert accepted == (CALLS, CALLS)


@pytest.mark.parametrize(
    ("step", "results", "sent"),
    [(Step.ROWS_SYNCED, ["conflict", "pending"], 2), (Step.STAGED, ["conflict", "skipped"], 1)],
)
def test_attended_since_in_a_run_that_died(
    step: Step, results: list[str], sent: int, account: Simulator, program: Program, died: Died, tmp_path: Path
) -> None:
    """What an export shows attended is taken in with its calls or not at all, and the results say which."""
    early = write_export(tmp_path / "early.csv", [call_row(0), call_row(1)])
    program("import", "--init-ledger", "--limit", "1", "--results", tmp_path / "early-results.csv", early)
    late = write_export(tmp_path / "late.csv", [call_row(number, state="answered") for number in (0, 1)])
    died(step, tmp_path / "dead.csv", "import", late)
    assert program("deliver", "--results", tmp_path / "next.csv").code == 0
    assert (outcomes_in(tmp_path / "dead.csv"), len(account.accepted)) == (results, sent)
    ran = program("import", "--results", tmp_path / "again.csv", late)
    assert (ran.code, outcomes_in(tmp_path / "again.csv")) == (3, ["conflict"] * sent)


@pytest.mark.slow
def test_file_in_the_way(export: Path, account: Simulator, program: Program, died: Died, tmp_path: Path) -> None:
    """A file made meanwhile under the dead run's name stays; its results stand beside it."""
    died(Step.STAGED, tmp_path / "dead.csv", "import", export)
    (tmp_path / "dead.csv").write_text("mine")
    ran = program("deliver", "--results", tmp_path / "next.csv", "-v")
    assert (tmp_path / "dead.csv").read_text() == "mine"
    assert len(read_results(tmp_path / "dead.csv.final.part")) == CALLS + 1
    assert f"are in {tmp_path / 'dead.csv'}.final.part" in ran.stderr
    assert len(account.accepted) == CALLS


@pytest.mark.slow
def test_parts_gone(export: Path, account: Simulator, program: Program, died: Died, tmp_path: Path) -> None:
    """Without its parts, what the ledger knows of calls sent is still written, and is evidence after a restore."""
    dead, following, backup = (tmp_path / name for name in ("dead.csv", "next.csv", "backup"))
    assert program("ledger", "backup", backup).code == 0
    died(Step.ANSWERED, dead, "import", export, time=3)
    for path in tmp_path.glob("dead.csv.*"):
        path.unlink()
    ran = program("deliver", "--results", following, "-v")
    assert "are gone" in ran.stderr
    assert [(row["call_id"], row["outcome"], row["line"]) for row in read_results(dead)] == [
        ("call00000", "accepted", ""),
        ("call00001", "accepted", ""),
        ("call00002", "uncertain", "5"),
    ]
    shutil.copy(backup, tmp_path / "ledger.sqlite")
    ran = program("ledger", "accept-restore", "--complete", dead, following)
    assert (ran.code, "4 accepted ones added" in ran.stdout) == (ExitCode.UNCERTAIN, True)
    program("import", export)
    assert len(account.accepted) == CALLS


def test_row_cut_short(export: Path, account: Simulator, program: Program, died: Died, tmp_path: Path) -> None:
    """The last carried row of a full disk is no row: its call was not sent by the run that died."""
    program("import", "--limit", "1", "--results", tmp_path / "first.csv", export)
    died(Step.TOKEN, tmp_path / "dead.csv", "deliver")
    part = tmp_path / "dead.csv.carried.part"
    part.write_bytes(part.read_bytes()[:-20])
    program("deliver", "--results", tmp_path / "next.csv")
    assert outcomes_in(tmp_path / "dead.csv") == ["pending"] * (CALLS - 2)
    assert len(account.accepted) == CALLS


@pytest.mark.fault(110)
def test_restored_after_death(
    export: Path, account: Simulator, program: Program, died: Died, tmp_path: Path
) -> None:
    """What a dead run left of its results is no proof that a call was not sent: nothing is sent twice."""
    ledger, backup, first, dead = (
        tmp_path / name for name in ("ledger.sqlite", "backup", "first.csv", "dead.csv")
    )
    program("import", "--limit", "1", "--results", first, export)
    assert program("ledger", "backup", backup).code == 0
    died(Step.ANSWERED, dead, "deliver", time=3)
    sent = len(account.accepted)
    assert ledger.with_name("ledger.sqlite-wal").stat().st_size
    shutil.copy(backup, ledger)
    for words in (("status",), ("deliver",), ("ledger", "purge")):
        ran = program(*words)
        assert (ran.code, "accept-restore" in ran.stderr) == (ExitCode.CONFIGURATION, True)
    parts = sorted(tmp_path.glob("*.part"))
    for files in ([first], [first, *parts]):
        ran = program("ledger", "accept-restore", "--complete", *files)
        assert (ran.code, str(parts[0]) in ran.stderr) == (ExitCode.INPUT_UNUSABLE, True)
    ran = program("ledger", "accept-restore", first, *parts)
    assert (ran.code, "4 calls are uncertain now" in ran.stdout) == (ExitCode.UNCERTAIN, True)
    program("deliver")
    assert (len(account.accepted), sent) == (4, 4)


def test_purged_before_its_results_were_complete(
    export: Path, account: Simulator, program: Program, died: Died, tmp_path: Path
) -> None:
    """What a dead run has to report outlasts any purge until it is reported: else it was said never to be sent."""
    dead = tmp_path / "dead.csv"
    died(Step.ANSWERED, dead, "import", export, time=3)
    for expected in (0, 3):
        with opened(tmp_path / "ledger.sqlite", replace(RUN, run_id=f"purge{expected}")) as ledger:
            ledger.recover()
            assert ledger.purge("2100-01-01 00:00:00")[0] == expected
        program("deliver", "--limit", "1")
    assert outcomes_in(dead) == ["accepted", "accepted", "rejected", "uncertain", "pending", "pending"]


def test_part_cut_short(tmp_path: Path) -> None:
    """A part of results makes its open rows doubtful; a row that was never whole was not sent."""
    part = tmp_path / "dead.csv.part"
    call = Call(
        "a1", State.BUSY, "+12025550101", "+447700900101", "2026-11-20 01:02:03", "", "", "é", Place("é", 2)
    )
    with part.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\r\n")
        writer.writerow(RESULT_COLUMNS)
        for number in (1, 2):
            writer.writerow(cells_of(replace(call, call_id=f"a{number}"), Outcome.PENDING))
    whole = part.read_bytes()
    for length in (0, 20):
        part.write_bytes(whole[:length])
        assert evidence_of([part], complete=False) == []
    for length in range(whole.rindex(b"\n", 0, -1) + 1, len(whole)):
        part.write_bytes(whole[:length])
        (one,) = evidence_of([part], complete=False)
        assert (one.call_id, one.state) == ("a1", CallState.UNCERTAIN)
    part.write_bytes(whole)
    assert len(evidence_of([part], complete=False)) == 2
    assert evidence_of([part.rename(tmp_path / "whole.csv")], complete=True) == []
