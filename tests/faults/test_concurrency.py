"""Section H: one ledger and several who want it: one sends, the others are told at once and change nothing."""

import os
import shutil
import sqlite3
import threading
from collections import Counter
from contextlib import closing
from pathlib import Path

import pytest

from conftest import Program, read_results
from importer.errors import ExitCode, LedgerError, TryLaterError
from importer.ledger import Ledger, RunInfo, open_reader
from importer.pipeline import Listener
from importer.records import Receipt
from judge.world import ForkServer, World
from misbehaviour import Simulator
from runs import imported
from steps import Step


@pytest.fixture
def part_sent(account: Simulator, program: Program, export: Path) -> Path:
    """Return that export; its first call was sent and the others wait."""
    assert program("import", "--init-ledger", "--limit", "1", export).code == 0
    return export


def held(tmp_path: Path) -> Ledger:
    """Return the ledger held by a run of its own."""
    run = RunInfo("holder", "2026-03-02 14:00:00", "1", "import")
    return Ledger.open(tmp_path / "ledger.sqlite", run=run, now=lambda: "2026-03-02 14:00:00")


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
    with held(tmp_path) as ledger:
        for command in commands:
            ran = program(*command)
            assert (ran.code, f"pid {os.getpid()}, since 2026-03-02 14:00:00" in ran.stderr) == (75, True), command
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
    assert Counter(call["id"] for call in simulator.accepted) == Counter(
        f"call{number:05}" for number in range(12)
    )
    assert world.breaches() == []


@pytest.mark.fault(123)
def test_looking_on_does_not_disturb(
    program: Program, account: Simulator, part_sent: Path, tmp_path: Path
) -> None:
    """`status` at every step of a run, and one that never ends, hold up no commit and see only whole ones."""
    told: list[int] = []

    def look(step: Step) -> None:
        if step in (Step.INTENT_DURABLE, Step.SETTLED):
            with open_reader(tmp_path / "ledger.sqlite") as another:
                told.append(sum(another.counts().values()))
        if step is Step.RUN_FINISHED:
            assert reader.pending_count() == 2
            reader._connection.execute("ROLLBACK")

    with open_reader(tmp_path / "ledger.sqlite") as reader:
        reader._connection.execute("BEGIN")
        assert reader.pending_count() == 2
        summary = imported(part_sent, step=look)
    assert (summary.exit_code, told, program("status").code) == (ExitCode.OK, [3, 3, 3, 3], 0)


@pytest.mark.fault(123)
def test_looking_after_a_crash_changes_no_file(program: Program, part_sent: Path, tmp_path: Path) -> None:
    """`status` on what a killed run left moves nothing from the -wal file: that is for the next run."""
    crashed = tmp_path / "crashed"
    crashed.mkdir()

    def crash(step: Step) -> None:
        if step is Step.SETTLED and not list(crashed.iterdir()):
            for each in tmp_path.glob("ledger.sqlite*"):
                shutil.copy(each, crashed)

    imported(part_sent, step=crash)
    names = ("ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite.witness")
    before = {name: (crashed / name).read_bytes() for name in names}
    ran = program("status", "--ledger", crashed / "ledger.sqlite")
    assert (ran.code, "accepted   2" in ran.stdout) == (0, True)
    assert {name: (crashed / name).read_bytes() for name in names} == before


# a person who has the ledger open ----------------------------------------------------------------------------


@pytest.mark.fault(125)
def test_person_who_holds_the_ledger_for_a_moment(account: Simulator, part_sent: Path, tmp_path: Path) -> None:
    """A write lock of another program, taken when an answer came, is waited out: the answer is recorded."""
    other = sqlite3.connect(tmp_path / "ledger.sqlite", isolation_level=None, check_same_thread=False)
    held_once: list[threading.Timer] = []

    def hold(step: Step) -> None:
        if step is Step.ANSWERED and not held_once:
            other.execute("BEGIN IMMEDIATE")
            held_once.append(threading.Timer(0.3, lambda: other.execute("ROLLBACK")))
            held_once[0].start()

    with closing(other):
        summary = imported(part_sent, step=hold)
        held_once[0].join()
    assert summary.exit_code is ExitCode.OK
    assert [row["outcome"] for row in read_results(tmp_path / "results.csv")] == [
        "already_accepted",
        "accepted",
        "accepted",
    ]


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
    for step, error, sent in ((Step.ROWS_SYNCED, TryLaterError, 1), (Step.ANSWERED, LedgerError, 2)):
        other = connect(tmp_path / "ledger.sqlite", isolation_level=None, check_same_thread=False)

        def hold(told: Step, step: Step = step, other: sqlite3.Connection = other) -> None:
            if told is step and not other.in_transaction:
                other.execute("BEGIN IMMEDIATE" if step is Step.ANSWERED else "BEGIN")
                other.execute("SELECT count(*) FROM calls")

        with closing(other):
            if step is Step.ROWS_SYNCED:
                other.execute("BEGIN EXCLUSIVE")
            with pytest.raises(error):
                imported(part_sent, Listener(unrecorded=unrecorded.append), step=hold)
        assert len(account.arrivals) == sent
    assert [(each.call_id, each.state.value) for each in unrecorded] == [("call00001", "accepted")]
