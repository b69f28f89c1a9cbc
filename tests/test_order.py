"""Which calls go first, which at all when there is a limit, and what a person is asked and told about that."""

import os
from contextlib import suppress
from pathlib import Path

import pytest

from conftest import Program, call_row, write_export
from importer.errors import StoppedError
from importer.formats import load_catalogue
from importer.ledger import open_reader
from importer.pipeline import Listener, Outlook, Run, deliver_pending
from importer.settings import load_credentials, load_settings
from ledgers import UNCERTAIN, bring_to, call, make_waiting, opened
from misbehaviour import Simulator
from runs import imported, ledger_counts

OLD, MIDDLE, NEW = "2026-03-01", "2026-03-02", "2026-03-05"


def at_nine(number: int, day: str) -> str:
    """Return the row of a call of that day."""
    return call_row(number, start_time=f"{day} 09:00:{number:02}")


@pytest.fixture(name="backlog")
def make_backlog(program: Program, account: Simulator, tmp_path: Path) -> Path:
    """Leave one sent call and four pending ones, and return an export of one of them and a new one.

    Taken in were calls of the old, the new and the middle day, in this order.
    """
    rows = [at_nine(number, day) for number, day in enumerate((OLD, OLD, NEW, MIDDLE, MIDDLE))]
    ran = program("import", "--init-ledger", "--limit", "1", write_export(tmp_path / "old.csv", rows))
    assert (ran.code, ran.stderr, ledger_counts(tmp_path)) == (0, "", {"accepted": 1, "pending": 4})
    return write_export(tmp_path / "fresh.csv", [at_nine(9, NEW), rows[3]])


def sent(account: Simulator) -> list[int]:
    """Return the numbers of the calls sent behind the first one, in order."""
    return [int(arrival.fields["id"][-2:]) for arrival in account.arrivals[1:]]


@pytest.mark.parametrize(
    ("command", "numbers", "left"),
    [
        (["deliver"], [2, 3, 4, 1], 0),
        (["deliver", "--order", "oldest"], [1, 2, 3, 4], 0),
        (["deliver", "--limit", "2"], [2, 3], 2),
        (["import"], [3, 9, 1, 2, 4], 0),
        (["import", "--order", "oldest"], [1, 2, 3, 4, 9], 0),
        (["import", "--limit", "1"], [3], 4),
        (["import", "--limit", "5", "--order", "oldest"], [3, 9], 3),
    ],
)
def test_order(
    backlog: Path, program: Program, account: Simulator, command: list[str], numbers: list[int], left: int
) -> None:
    """`deliver` sends the newest day first, `import` the calls of its files, with a limit only those."""
    files = [backlog] if command[0] == "import" else []
    ran = program(*command, "--results", backlog.with_name("results.csv"), *files)
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")
    assert (sent(account), ledger_counts(backlog.parent).get("pending", 0)) == (numbers, left)


@pytest.mark.usefixtures("backlog")
def test_deliver_asks(account: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """`deliver` asks as `import` does, about what goes now; a no leaves all pending and no results."""
    monkeypatch.delenv("CDR_IMPORTER_YES")
    asked: list[Outlook] = []
    listener = Listener(confirm=lambda outlook: bool(asked.append(outlook)))
    settings = load_settings({"limit": "3", "results": str(tmp_path / "no.csv")}, os.environ)
    with pytest.raises(StoppedError, match="as you said"):
        deliver_pending(Run(settings, load_catalogue(), listener), load_credentials(os.environ))
    assert [(each.calls, each.left_pending, each.from_earlier) for each in asked] == [(3, 1, 3)]
    assert (asked[0].first, asked[0].last) == (f"{MIDDLE} 09:00:03", f"{NEW} 09:00:02")
    assert (len(account.arrivals), ledger_counts(tmp_path)) == (1, {"accepted": 1, "pending": 4})
    assert sorted(path.name for path in tmp_path.glob("no.csv*")) == []
    with open_reader(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.runs(1)[0].exit_code == 130


def test_no_leaves_uncertain_calls(account: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A no to `deliver --on-uncertain resend` leaves uncertain what was uncertain, a yes sends it again."""
    monkeypatch.delenv("CDR_IMPORTER_YES")
    make_waiting(tmp_path / "ledger.sqlite", 1)
    with opened(tmp_path / "ledger.sqlite") as ledger:
        bring_to(ledger, UNCERTAIN, call("b1"))
    for answer, counts in ((False, {"pending": 1, "uncertain": 1}), (True, {"accepted": 2})):
        settings = load_settings({"on_uncertain": "resend", "results": f"{answer}.csv"}, os.environ)
        run = Run(settings, load_catalogue(), Listener(confirm=lambda _, answer=answer: answer))
        with suppress(StoppedError):
            deliver_pending(run, load_credentials(os.environ))
        assert ledger_counts(tmp_path) == counts
    assert len(account.accepted) == 2


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"limit": "1"}, "Look at it in Zoho, then `cdr-importer deliver` sends the other 4 calls."),
        ({"limit": "9"}, "Look at them in Zoho, then `cdr-importer deliver` sends the other 3 calls."),
        ({}, None),
    ],
)
def test_what_is_next(backlog: Path, options: dict[str, str], line: str | None) -> None:
    """A run with a limit says at its end what sends the calls that it left."""
    notes: list[str] = []
    imported(backlog, Listener(note=notes.append), init_ledger=False, **options)
    assert notes == ([line] if line else [])
