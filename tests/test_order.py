"""Which calls go first, which at all when there is a limit, and what a person is asked and told about that."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from conftest import SAMPLES, Program, call_row, cases, write_export
from importer.cli.screen import outlook_lines
from importer.errors import ExitCode, StoppedError
from importer.ledger.reader import open_reader
from importer.ledger.schema import create_ledger
from importer.pipeline.run import Listener, Outlook
from ledgers import CREATED, bring_to, call, make_waiting, opened, take
from misbehaviour import Simulator
from runs import delivered, imported, ledger_counts
from states import ACCEPTED, UNCERTAIN

CASES = cases("order")

OLD, MIDDLE, NEW = "2026-03-01", "2026-03-02", "2026-03-05"


@pytest.fixture
def _asked(account: Simulator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave out the answer that other tests give beforehand."""
    monkeypatch.delenv("CDR_IMPORTER_YES")


def at_nine(number: int, day: str) -> str:
    """Return the row of a call of that day."""
    return call_row(number, start_time=f"{day} 09:00:{number:02}")


@pytest.fixture(name="backlog")
def make_backlog(account: Simulator, tmp_path: Path) -> Path:
    """Leave one sent call and four pending ones, and return an export of one of them and a new one."""
    create_ledger(tmp_path / "ledger.sqlite", now=CREATED)
    first, *others = (
        replace(call(f"call{number:05}"), start_time=f"{day} 09:00:{number:02}")
        for number, day in enumerate((OLD, OLD, NEW, MIDDLE, MIDDLE))
    )
    with opened(tmp_path / "ledger.sqlite") as ledger:
        bring_to(ledger, ACCEPTED, first)
        take(ledger, *others)
        ledger.finish_run(ExitCode.OK, "{}")
    return write_export(tmp_path / "fresh.csv", [at_nine(9, NEW), at_nine(3, MIDDLE)])


def sent(account: Simulator) -> list[int]:
    """Return the numbers of the calls sent, in order."""
    return [int(arrival.fields["id"][-2:]) for arrival in account.arrivals]


@pytest.mark.parametrize(("command", "numbers", "left"), CASES["orders"])
def test_order(
    backlog: Path, program: Program, account: Simulator, command: list[str], numbers: list[int], left: int
) -> None:
    """`deliver` sends the newest day first, `import` the calls of its files, with a limit only those."""
    files = [backlog] if command[0] == "import" else []
    ran = program(*command, "--results", backlog.with_name("results.csv"), *files)
    assert (ran.code, ran.stdout, ran.stderr) == (0, "", "")
    assert (sent(account), ledger_counts(backlog.parent).get("pending", 0)) == (numbers, left)


@pytest.mark.usefixtures("_asked", "backlog")
def test_deliver_asks(account: Simulator, tmp_path: Path) -> None:
    """`deliver` asks as `import` does, about what goes now; a no leaves all pending and no results."""
    asked: list[Outlook] = []
    listener = Listener(confirm=lambda outlook: bool(asked.append(outlook)))
    with pytest.raises(StoppedError, match="as you said"):
        delivered(listener, {"limit": "3", "results": str(tmp_path / "no.csv")})
    assert [(each.calls, each.left_pending, each.from_earlier) for each in asked] == [(3, 1, 3)]
    assert (asked[0].first, asked[0].last) == (f"{MIDDLE} 09:00:03", f"{NEW} 09:00:02")
    assert (account.arrivals, ledger_counts(tmp_path)) == ((), {"accepted": 1, "pending": 4})
    assert sorted(path.name for path in tmp_path.glob("no.csv*")) == []
    with open_reader(tmp_path / "ledger.sqlite") as ledger:
        assert ledger.runs(1)[0].exit_code == 130


@pytest.mark.usefixtures("_asked")
def test_no_leaves_uncertain_calls(account: Simulator, tmp_path: Path) -> None:
    """A no to `deliver --on-uncertain resend` leaves uncertain what was uncertain, a yes sends it again."""
    make_waiting(tmp_path / "ledger.sqlite", 1)
    with opened(tmp_path / "ledger.sqlite") as ledger:
        bring_to(ledger, UNCERTAIN, call("b1"))
    for answer, counts in ((False, {"pending": 1, "uncertain": 1}), (True, {"accepted": 2})):
        listener = Listener(confirm=lambda _, answer=answer: answer)
        with suppress(StoppedError):
            delivered(listener, {"on_uncertain": "resend", "results": f"{answer}.csv"})
        assert ledger_counts(tmp_path) == counts
    assert len(account.accepted) == 2


@pytest.mark.parametrize(("options", "line"), CASES["next"])
def test_what_is_next(backlog: Path, options: dict[str, str], line: str) -> None:
    """A run with a limit says at its end what sends the calls that it left."""
    notes: list[str] = []
    imported(backlog, Listener(note=notes.append), init_ledger=False, **options)
    assert notes == ([line] if line else [])


def days_ago(days: int) -> str:
    """Return a GMT time so many days before now, as a row writes it."""
    return f"{datetime.now(UTC) - timedelta(days):%Y-%m-%d %H:%M:%S}"


@pytest.mark.usefixtures("_asked")
def test_answer_no(account: Simulator, tmp_path: Path) -> None:
    """A no leaves neither calls nor results, and the question named all that would have been sent."""
    rows = [call_row(number, start_time=days_ago(number)) for number in (1, 2, 3)]
    asked: list[Outlook] = []
    listener = Listener(confirm=lambda outlook: bool(asked.append(outlook)))
    with pytest.raises(StoppedError, match="as you said"):
        imported(write_export(tmp_path / "export.csv", rows), listener, limit=2)
    assert ledger_counts(tmp_path) == {}
    assert sorted(path.name for path in tmp_path.glob("results*")) == []
    assert account.arrivals == ()
    assert [(each.calls, each.left_pending, each.from_earlier) for each in asked] == [(2, 1, 0)]
    assert (asked[0].first[:10], asked[0].last[:10]) == (days_ago(2)[:10], days_ago(1)[:10])


@pytest.mark.usefixtures("_asked", "account")
def test_examples(tmp_path: Path) -> None:
    """The question shows region, zone and two calls as they are sent, and as the file has them, dates too."""
    asked: list[Sequence[str]] = []
    listener = Listener(confirm=lambda outlook: bool(asked.append([*outlook.examples()])))
    options = {"timezone": "America/New_York", "country": "US", "default_agent_number": "+12125550101"}
    export = tmp_path / "day.csv"
    for sample in ("asterisk-csv/day.csv", "freepbx/table-25-columns-day-first.csv"):
        export.write_bytes((SAMPLES / sample).read_bytes())
        with pytest.raises(StoppedError, match="as you said"):
            imported(export, listener, **options, since="2020-01-01")
    assert asked[0] == [
        "Read with national numbers as of US and local times as of America/New_York:",
        "  day.csv, line 1: 2125550142, PJSIP/2125550142@trunk-a, 2026-03-02 09:14:07",
        "    goes as +12125550142, 2026-03-02 14:14:07 GMT, noanswer",
        "  day.csv, line 2: +12125550143, PJSIP/+12125550143@trunk, 2026-03-02 09:16:40",
        "    goes as +12125550143, 2026-03-02 14:16:40 GMT, busy",
    ]
    assert asked[1][1].endswith(", 02/03/2026 09:14:07")
    assert asked[1][2] == "    goes as +12125550142, 2026-03-02 14:14:07 GMT, noanswer"


@pytest.mark.usefixtures("_asked")
def test_answer_yes_and_nothing_new(account: Simulator, tmp_path: Path) -> None:
    """A yes sends; the same file again asks nothing, since nothing new would be sent."""
    export = write_export(tmp_path / "export.csv", [call_row(1, start_time=days_ago(1))])
    asked: list[Outlook] = []
    listener = Listener(confirm=lambda outlook: asked.append(outlook) is None)
    imported(export, listener)
    export.with_name("results.csv").unlink()
    imported(export, listener)
    assert (len(asked), len(account.accepted)) == (1, 1)


@pytest.mark.usefixtures("_asked")
def test_first_import_of_old_calls(program: Program, account: Simulator, tmp_path: Path) -> None:
    """Calls older than 30 days on a ledger that has sent nothing need --since or --yes, terminal or not."""
    export = write_export(tmp_path / "export.csv", [call_row(1, start_time=days_ago(31)), call_row(2)])
    ran = program("import", "--init-ledger", "--results", tmp_path / "1.csv", export)
    assert (ran.code, len(account.arrivals)) == (ExitCode.CONFIGURATION, 0)
    assert "and this ledger has sent nothing yet" in ran.stderr
    assert "Give --since 30d to leave older calls out, or --yes" in ran.stderr
    assert ledger_counts(tmp_path) == {}
    old = write_export(tmp_path / "old.csv", [call_row(3, start_time=days_ago(40))])
    since = ("--ledger", tmp_path / "other.sqlite", "--results", tmp_path / "0.csv", "--since", "60d")
    assert program("import", "--init-ledger", *since, old).code == 0
    assert program("import", "--results", tmp_path / "2.csv", "--limit", "1", "--yes", export).code == 0
    assert program("import", "--results", tmp_path / "3.csv", export).code == 0
    assert len(account.accepted) == 3


def test_outlook_in_words() -> None:
    """The question names number, dates and duration, rounded up to the next minute, and fits 80 columns."""
    durations = {
        0.0: "up to a minute",
        60.0: "up to a minute",
        61.0: "about 2 minutes",
        7200.0: "about 2 h 00 min",
    }
    for seconds, words in durations.items():
        assert f"takes {words}." in outlook_lines(Outlook(1, 0, 0, "", "", float(seconds)), "60/minute")[2]
    outlook = Outlook(104_720, 12, 1_000, "2023-11-27 08:00:01", "2026-11-25 17:59:59", 104_660.0)
    lines = outlook_lines(outlook, "60/minute")
    assert lines == [
        "About to notify 104,720 calls to Zoho, from",
        "2023-11-27 08:00:01 to 2026-11-25 17:59:59 GMT.",
        "At 60/minute this takes about 1 d 5 h 05 min.",
        "Each may open a window on its agent's screen.",
        "Among them: 1,000 calls that earlier runs left pending.",
        "Left pending, because of --limit: 12 calls.",
    ]
    one = outlook_lines(Outlook(1, 1, 1, "2026-11-25 17:59:59", "2026-11-25 17:59:59", 0.0), "60/minute")
    assert (one[0], one[-1]) == (
        "About to notify 1 call to Zoho, from",
        "Left pending, because of --limit: 1 call.",
    )
    assert max(map(len, lines)) <= 80
