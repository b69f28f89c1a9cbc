"""The commands under `ledger`, and what they leave for the runs after them."""

import shutil
from pathlib import Path

import pytest

from conftest import Program, call_row, outcomes_in, write_export
from misbehaviour import Fault, Simulator
from runs import ledger_counts


def is_narrow(text: str) -> bool:
    """Return whether no line of a text is wider than a terminal of 80 columns."""
    return max(map(len, text.splitlines())) <= 80


def rows(count: int) -> list[str]:
    """Return calls to different customers, none of whom has the agent's number."""
    return [call_row(number, sender="+12125550199") for number in range(count)]


@pytest.fixture
def export(account: Simulator, program: Program, tmp_path: Path) -> Path:
    """Return an export of three calls of which the first was sent and the others wait."""
    path = write_export(tmp_path / "export.csv", rows(3))
    assert program("import", "--init-ledger", "--limit", "1", path).code == 0
    return path


def test_purge(program: Program, export: Path, tmp_path: Path) -> None:
    """A purge of nothing old deletes nothing; an age or number that is none is a wrong option, not repeated."""
    ran = program("ledger", "purge")
    assert (ran.code, ran.stdout.split(" ")[0], is_narrow(ran.stdout)) == (0, "0", True)
    assert ledger_counts(tmp_path) == {"accepted": 1, "pending": 2}
    for age in ("0d", "400", "-1d", "1w"):
        assert program("ledger", "purge", "--older-than", age).code == 2
    ran = program("ledger", "forget", "--number", "02125550101")
    assert (ran.code, "02125550101" in ran.stderr) == (2, False)


@pytest.mark.fault(155)
def test_forget(program: Program, account: Simulator, export: Path, tmp_path: Path) -> None:
    """A forgotten number's open calls are never sent, not even when they are imported again, and never printed."""
    number = rows(2)[1].split(",")[4]
    ran = program("ledger", "forget", "--number", number)
    assert (ran.code, ran.stdout.startswith("1 call was closed"), is_narrow(ran.stdout)) == (0, True, True)
    assert number not in ran.stdout + ran.stderr
    assert program("import", "--results", tmp_path / "again.csv", "--all-rows", export).code == 0
    assert outcomes_in(tmp_path / "again.csv") == ["already_accepted", "skipped", "accepted"]
    assert [call["id"] for call in account.accepted] == ["call00000", "call00002"]


@pytest.fixture
def restored(program: Program, export: Path, tmp_path: Path) -> Path:
    """Return the results of a run whose ledger was then replaced by a backup from before it."""
    ledger = tmp_path / "ledger.sqlite"
    assert [program("ledger", "backup", tmp_path / "backup.sqlite").code for _ in range(2)] == [0, 73]
    more = write_export(tmp_path / "more.csv", rows(5))
    assert program("import", "--results", tmp_path / "lost.csv", more).code == 0
    shutil.copy(tmp_path / "backup.sqlite", ledger)
    return more


@pytest.mark.fault(110)
def test_restore_with_all_results(program: Program, account: Simulator, restored: Path, tmp_path: Path) -> None:
    """An import is refused until all results since the backup are accepted; then what they tell is known."""
    ran = program("import", restored)
    assert (ran.code, "ledger accept-restore" in ran.stderr) == (78, True)
    ran = program("ledger", "accept-restore", "--complete", tmp_path / "lost.csv")
    assert (ran.code, ran.stdout.splitlines()[0]) == (0, "2 calls were made accepted, 2 accepted ones added.")
    assert is_narrow(ran.stdout)
    assert ran.stdout.splitlines()[-1].startswith("Import the exports since the backup again")
    assert program("import", "--results", tmp_path / "after.csv", restored).code == 0
    assert outcomes_in(tmp_path / "after.csv") == ["already_accepted"] * 5
    assert len(account.accepted) == 5


@pytest.mark.fault(110)
def test_restore_of_calls_settled_since(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A call to be sent again by the backup, and said to be in Zoho since, is not sent; one given up stays so."""
    account.script(Fault.lost_answer(), Fault.lost_answer())
    export = write_export(tmp_path / "export.csv", rows(2))
    assert program("import", "--init-ledger", export).code == 4
    assert program("resolve", "call00000", "--not-sent", "--note", "n").code == 0
    assert program("ledger", "backup", tmp_path / "backup.sqlite").code == 0
    assert program("resolve", "call00000", "--reopen").code == 4
    assert program("resolve", "call00000", "--sent", "--note", "it came late").code == 0
    assert program("resolve", "call00001", "--close", "--note", "n").code == 0
    shutil.copy(tmp_path / "backup.sqlite", tmp_path / "ledger.sqlite")
    assert program("import", "--results", tmp_path / "refused.csv", export).code == 78
    ran = program("ledger", "accept-restore", "--complete", *tmp_path.glob("*results*.csv"))
    said = "1 call was made accepted, 0 accepted ones added, 1 closed, as `resolve` said since the backup."
    assert (ran.code, " ".join(ran.stdout.splitlines()[:2]), is_narrow(ran.stdout)) == (0, said, True)
    sent = len(account.arrivals)
    assert program("import", "--results", tmp_path / "after.csv", "--all-rows", export).code == 0
    assert (outcomes_in(tmp_path / "after.csv"), len(account.arrivals)) == (["already_accepted", "skipped"], sent)


@pytest.mark.parametrize("is_backed_up_first", [True, False])
def test_restore_of_a_word_taken_back(
    program: Program, account: Simulator, tmp_path: Path, is_backed_up_first: bool
) -> None:
    """A call said to be in Zoho by mistake is uncertain, whatever results from before that was taken back say."""
    account.script(Fault(close_after_reading=True))
    export = write_export(tmp_path / "export.csv", rows(1))
    assert program("import", "--init-ledger", export).code == 4
    steps = [("resolve", "call00000", "--sent", "--note", "n"), ("import", export)]
    steps.append(("resolve", "call00000", "--reopen"))
    steps.insert(0 if is_backed_up_first else 3, ("ledger", "backup", tmp_path / "backup.sqlite"))
    assert sorted(program(*step).code for step in steps) == [0, 0, 0, 4]
    shutil.copy(tmp_path / "backup.sqlite", tmp_path / "ledger.sqlite")
    assert program("ledger", "accept-restore", "--complete", *tmp_path.glob("*results*.csv")).code == 0
    assert (ledger_counts(tmp_path), len(account.accepted)) == ({"uncertain": 1}, 0)


def test_restore_of_calls_attended_since(
    program: Program, account: Simulator, export: Path, tmp_path: Path
) -> None:
    """A call that the results tell attended since the backup waits for a person instead of being sent."""
    assert program("ledger", "backup", tmp_path / "backup.sqlite").code == 0
    late = write_export(tmp_path / "late.csv", [row.replace("busy", "answered") for row in rows(2)])
    assert program("import", "--results", tmp_path / "lost.csv", late).code == 3
    assert outcomes_in(tmp_path / "lost.csv") == ["accepted", "conflict", "skipped"]
    shutil.copy(tmp_path / "backup.sqlite", tmp_path / "ledger.sqlite")
    assert program("ledger", "accept-restore", "--complete", tmp_path / "lost.csv").code == 4
    assert program("deliver").code == 4
    assert (ledger_counts(tmp_path), len(account.accepted)) == ({"accepted": 2, "uncertain": 1}, 2)
    assert program("import", "--results", tmp_path / "again.csv", late).code == 4
    assert outcomes_in(tmp_path / "again.csv") == ["conflict", "uncertain"]


def test_restore_needs_a_reason(program: Program, export: Path, tmp_path: Path) -> None:
    """A ledger that is as its last run left it cannot be accepted, nor can a file that is no results file."""
    assert program("ledger", "accept-restore").code == 2
    assert program("ledger", "accept-restore", "--complete").code == 2
    assert program("ledger", "accept-restore", export).code == 65
    assert program("ledger", "accept-restore", tmp_path / "none.csv").code == 66
    assert ledger_counts(tmp_path) == {"accepted": 1, "pending": 2}


@pytest.mark.fault(122)
def test_another_account(
    program: Program, account: Simulator, export: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A ledger bound to one account sends nothing to another, until a person says that it is the same."""
    with Simulator() as other:
        for name, value in other.environment().items():
            monkeypatch.setenv(name, value)
        ran = program("deliver")
        assert (ran.code, "another account" in ran.stderr, len(other.accepted)) == (78, True, 0)
        assert program("ledger", "accept-account").code == 0
        assert program("deliver").code == 0
        assert len(other.accepted) == 2
