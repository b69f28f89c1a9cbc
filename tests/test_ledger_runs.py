"""What the ledger keeps of runs, and the upgrade of a ledger of the first release."""

import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from importer.errors import ConfigurationError, ExitCode
from importer.ledger.ledger import Ledger
from importer.ledger.reader import open_reader
from importer.ledger.schema import MIGRATIONS
from importer.ledger.values import LedgerInvariantError, RunRecord
from importer.records import Receipt
from ledgers import AGENT, CREATED, LATER_RUN, RUN, bring_to, call, claimed, opened, take
from schemas.vocabulary import CallState, Outcome
from states import ACCEPTED, SENDING, UNCERTAIN


def made_by_the_first_release(path: Path) -> None:
    """Make a ledger with the tables of schema version 1 and a call in every state."""
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA journal_mode = WAL")
    for statement in (*MIGRATIONS[0], "PRAGMA user_version = 1"):
        other.execute(statement)
    meta = [("created_at", CREATED), ("fingerprint_key", b"k" * 32), ("next_seq", 4)]
    other.executemany("INSERT INTO meta VALUES (?, ?)", meta)
    other.execute("INSERT INTO runs (run_id, started_at, version) VALUES ('old', ?, '0.1.0')", (CREATED,))
    open_seqs = {"pending": 1, "sending": 2, "uncertain": 3}
    for state in CallState:
        seq = open_seqs.get(state)
        columns = "(call_id, fingerprint, state, seq, sent_run, sent_at, attempts)"
        other.execute(
            f"INSERT INTO calls {columns} VALUES (?, ?, ?, ?, 1, ?, 1)", (state, b"f", state, seq, CREATED)
        )
        if seq:
            other.execute(
                "INSERT INTO payloads VALUES (?, 'busy', ?, '+447700900456', ?, '', '', '', 'f', 2, 1, ?)",
                (seq, AGENT, CREATED, CREATED),
            )
    other.execute("INSERT INTO decisions VALUES (1, 'closed', 'close', 'n', 'ann', ?, 1)", (CREATED,))
    other.close()


def test_upgrade_keeps_every_call(tmp_path: Path) -> None:
    """A ledger of schema 1 opens with every call where it stood and its runs as they were."""
    path = tmp_path / "old.sqlite"
    made_by_the_first_release(path)
    with opened(path, LATER_RUN) as ledger:
        assert {one: fate.state for one, fate in ledger.fates(list(CallState)).items()} == {
            state: state for state in CallState
        }
        assert ledger.recover() == 1
        assert ledger.runs(9)[1] == RunRecord("old", CREATED, "0.1.0")
        assert [one.call.call_id for one in claimed(ledger)] == ["pending"]
        with ledger.staging() as stage:
            shown = stage.show_attended([("accepted", "", ""), ("pending", "", "")])
        assert ([one.outcome for one in shown], ledger.attended_since()) == (
            [Outcome.CONFLICT, None],
            ["accepted"],
        )
    opened(path).close()


def test_upgrade_is_not_for_readers(tmp_path: Path) -> None:
    """`status` on a ledger of schema 1 reads it as it is and changes nothing; `check` refuses it."""
    path = tmp_path / "old.sqlite"
    made_by_the_first_release(path)
    before = path.read_bytes()
    with open_reader(path) as reader:
        assert reader.counts()[CallState.ACCEPTED] == 1
        assert reader.pending_count() == 1
        assert (reader.attended_since(), reader.uncertain_since()) == ([], (1, CREATED))
        assert reader.held(["accepted", "closed", "none"]) == {"accepted": True, "closed": False}
        assert reader.runs(9) == [RunRecord("old", CREATED, "0.1.0")]
        with pytest.raises(ConfigurationError, match="earlier version"), reader.dry_staging(CREATED):
            pass
    assert path.read_bytes() == before


@pytest.mark.parametrize("run_id", ["nobody", "done", LATER_RUN.run_id])
def test_only_dead_runs_are_finished_for_them(path: Path, run_id: str) -> None:
    """A run unknown, finished or our own cannot be finished as a dead one."""
    with opened(path, replace(RUN, run_id="done")) as ledger:
        ledger.finish_run(ExitCode.OK, "{}")
    with opened(path, LATER_RUN) as ledger, pytest.raises(LedgerInvariantError):
        ledger.finish_dead_run(run_id, "{}")


def test_run_fates(path: Path) -> None:
    """A run's calls are those whose last request it began, with the fate they have now."""
    with opened(path) as ledger:
        bring_to(ledger, ACCEPTED, call("a1"))
        bring_to(ledger, CallState.PENDING, call("a2"))
        bring_to(ledger, SENDING, call("a3"))
        ledger.settle(Receipt("a3", CallState.PENDING))
        bring_to(ledger, SENDING, call("a4"))
    with opened(path, LATER_RUN) as ledger:
        ledger.recover()
        ledger.mark_sending("a3")
        states = {one: fate.state for one, fate in ledger.run_fates(RUN.run_id).items()}
        assert states == {"a1": ACCEPTED, "a4": UNCERTAIN}
        assert list(ledger.run_fates(LATER_RUN.run_id)) == ["a3"]
        assert ledger.run_fates("nobody") == {}
        ledger.settle(Receipt("a3", ACCEPTED))
        assert take(ledger, call("a3"))[0].outcome is Outcome.ALREADY_ACCEPTED


def test_clock_set_forward_between_runs(ledger: Ledger) -> None:
    """The clock is held against that of an earlier run on the same start of the machine, where this has a name."""
    moves = [("", 1.0), ("", 9.0), ("a", 9.0), ("a", 12.5), ("a", 3.0), ("b", 60.0)]
    assert [ledger.seconds_set_forward(*each) for each in moves] == [0.0, 0.0, 0.0, 3.5, 0.0, 0.0]
