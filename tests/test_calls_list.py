"""`resolve --from`: uncertain calls looked up in an export of Zoho's Calls module; a person decides."""

import csv
import io
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from conftest import AtTerminal, Program, call_row, cases, table, write_export
from importer.errors import ExitCode
from importer.ledger.schema import create_ledger
from importer.pipeline.calls_list import COLUMNS, look_up
from importer.records import Call, Place
from ledgers import CREATED, bring_to, call, opened
from misbehaviour import Simulator
from runs import ledger_counts
from schemas.vocabulary import State
from states import UNCERTAIN

CASES = cases("calls_list")

HEADER = "Call Owner,Call Type,Call Start Time,Call Status,Dialled Number,Caller ID"
LIST = (
    HEADER,
    "Ann Example,Outbound,2026-03-02 09:00:00,Attended Dialled,+12125550100,",
    "Ann Example,Outbound,2026-03-02 08:59:30,Unattended Dialled,+12125550101,",
    "Ann Example,Inbound,2026-03-02 09:00:02,,,+12125550102",
    "Bob Example,Outbound,2026-03-02 14:00:02,Unattended Dialled,+12125550102,",
)
ZONE = ("--timezone", "America/New_York")


@pytest.fixture
def uncertain(account: Simulator, tmp_path: Path) -> Path:
    """Leave three uncertain calls, at 14:00:00, :01 and :02 GMT, and return the list of Zoho's calls."""
    create_ledger(tmp_path / "ledger.sqlite", now=CREATED)
    with opened(tmp_path / "ledger.sqlite") as ledger:
        for number in range(3):
            moment = {"start_time": f"2026-03-02 14:00:0{number}", "customer_number": f"+1212555010{number}"}
            bring_to(ledger, UNCERTAIN, replace(call(f"call0000{number}"), **moment))
        ledger.finish_run(ExitCode.UNCERTAIN, "{}")
    return write_list(tmp_path, *LIST)


def write_list(folder: Path, *lines: str, encoding: str = "utf-8") -> Path:
    """Write a list of calls."""
    path = folder / "calls.csv"
    path.write_bytes("\r\n".join((*lines, "")).encode(encoding))
    return path


def found(output: str) -> list[tuple[str, ...]]:
    """Return call, whether it was found, line and seconds apart of each row that was printed as CSV."""
    return [tuple(row[place] for place in (0, 2, 3, 4)) for row in list(csv.reader(io.StringIO(output)))[1:]]


def test_without_a_terminal(program: Program, uncertain: Path, tmp_path: Path) -> None:
    """What was found is printed as CSV, without a number, and nothing is changed (4)."""
    ran = program("resolve", "--from", uncertain, *ZONE)
    assert ran.code == 4
    assert ran.stdout.splitlines() == [
        "call,start (GMT),found,line,apart,type,status",
        "call00000,2026-03-02 14:00:00,yes,2,'+0 s,Outbound,Attended Dialled",
        "call00001,2026-03-02 14:00:01,yes,3,'-31 s,Outbound,Unattended Dialled",
        "call00002,2026-03-02 14:00:02,no,5,'+18000 s,Outbound,Unattended Dialled",
    ]
    assert ran.stderr.splitlines() == [
        "cdr-importer: calls.csv: 3 calls, read on the clock of America/New_York",
        "cdr-importer: 1 call was not found, and is in the list hours apart: it may show another clock",
        "  Name the time zone of the Zoho user who exported it: --timezone Europe/London.",
    ]
    assert ledger_counts(tmp_path) == {"uncertain": 3}


def test_at_a_terminal(
    at_terminal: AtTerminal, account: Simulator, uncertain: Path, tmp_path: Path, program: Program
) -> None:
    """A person sees the table and is asked; a yes to that settles those found as sent, a no none."""
    for answer, counts in (("n", {"uncertain": 3}), ("y", {"uncertain": 1, "accepted": 2})):
        terminal = at_terminal(["resolve", "--from", uncertain, *ZONE], typed_ahead="y")
        terminal.expect("Settle those found (2) as sent?")
        terminal.type(answer)
        assert terminal.finish() == 4
        left = "3 calls are" if answer == "n" else "1 call is"
        assert f"{left} uncertain now; a call that is not in the list" in terminal.shown
        assert ledger_counts(tmp_path) == counts
    assert max(map(len, terminal.lines())) <= 80
    assert program("status").code == 4


def test_nothing_is_uncertain(program: Program, account: Simulator, tmp_path: Path) -> None:
    """Without an uncertain call there is nothing to ask (0)."""
    program("import", "--init-ledger", write_export(tmp_path / "day.csv", [call_row(1)]))
    ran = program("resolve", "--from", write_list(tmp_path, *LIST), *ZONE)
    assert (ran.code, found(ran.stdout)) == (0, [])


def test_clock_of_the_list(program: Program, uncertain: Path, tmp_path: Path) -> None:
    """The list's clock is that of the option's zone, else of the latest run that had one; it is never guessed."""
    ran = program("resolve", "--from", uncertain)
    assert (ran.code, ran.stdout) == (78, "")
    assert "nobody has said whose clock calls.csv shows" in ran.stderr
    ran = program("resolve", "--from", uncertain, "--timezone", "UTC")
    assert found(ran.stdout)[0] == ("call00000", "no", "2", "'-18000 s")
    program("import", *ZONE, write_export(tmp_path / "day.csv", map(call_row, range(3))))
    ran = program("resolve", "--from", uncertain)
    assert "on the clock of America/New_York, as in the latest run" in ran.stderr
    assert [row[1] for row in found(ran.stdout)] == ["yes", "yes", "no"]


def test_clock_in_doubt(program: Program, uncertain: Path) -> None:
    """A list in which calls are hours apart is one on another clock; one in which any is minutes apart is not."""
    other = "Ann,Outbound,2026-03-02 14:03:00,,+12125550101,"
    for lines, is_said in ((LIST[1:], True), ((LIST[1],), True), ((LIST[1], other), False), ((other,), False)):
        path = write_list(uncertain.parent, HEADER, *lines)
        ran = program("resolve", "--from", path, "--timezone", "UTC")
        assert ("hours apart: it may show another clock" in ran.stderr) == is_said, lines


def test_country_of_the_list(program: Program, uncertain: Path, tmp_path: Path) -> None:
    """National numbers of the list are of the option's country, else of the latest run that had one."""
    path = write_list(uncertain.parent, HEADER, "Ann,Outbound,2026-03-02 09:00:00,,(212) 555-0100,")
    for country, is_found in (("GB", "no"), ("US", "yes")):
        program(
            "import", "--country", country, "--trust-country", write_export(tmp_path / "day.csv", [call_row(1)])
        )
        assert found(program("resolve", "--from", path, *ZONE).stdout)[0][1] == is_found


@table(("start", "options", "is_found"), CASES["starts"])
def test_starts(program: Program, uncertain: Path, start: str, options: Sequence[str], is_found: bool) -> None:
    """The layouts of Zoho's users are read; a start may be a minute off."""
    path = write_list(uncertain.parent, HEADER, f'Ann,Outbound,"{start}",,+12125550100,')
    ran = program("resolve", "--from", path, *ZONE, *options)
    assert found(ran.stdout)[0][1] == ("yes" if is_found else "no"), ran


@table("number", ["+12125550100", "12125550100", "001 (212) 555-0100", "(212) 555-0100", "'+12125550100"])
def test_numbers(program: Program, uncertain: Path, number: str) -> None:
    """A number is the same however it is written; a national one with --country."""
    path = write_list(uncertain.parent, HEADER, f"Ann,Outbound,2026-03-02 09:00:00,,{number},")
    options = ("--country", "GB" if number.startswith("00") else "US")
    assert found(program("resolve", "--from", path, *ZONE, *options).stdout)[0][1] == "yes"


def test_columns_of_another_language(program: Program, uncertain: Path) -> None:
    """Columns with other names are named, in any encoding and with any delimiter."""
    lines = ("Gewählte Nummer;Beginn;Art", "+12125550100;02.03.2026 09:00;Ausgehend")
    path = write_list(uncertain.parent, *lines, encoding="cp1252")
    ran = program("resolve", "--from", path, *ZONE)
    assert ran.code == 65
    assert ran.stderr.splitlines() == [
        "cdr-importer: calls.csv has no column 'Call Start Time' and none 'Dialled Number'",
        "  Export the Calls module with it, or say which column of the list it is: --columns "
        "'start=...,number=...'. The list has: Gewählte Nummer, Beginn, Art.",
    ]
    ran = program("resolve", "--from", path, *ZONE, "--columns", "start=Beginn,number=Gewählte Nummer,type=Art")
    assert ran.stdout.splitlines()[1].endswith("yes,2,'+0 s,Ausgehend,")
    assert program("resolve", "--from", path, *ZONE, "--columns", "begin=Beginn").code == 2


@table(("lines", "options", "code", "said"), CASES["unusable"])
def test_lists_that_will_not_do(
    program: Program, uncertain: Path, lines: Sequence[str], options: Sequence[str], code: int, said: str
) -> None:
    """A list that cannot be understood whole, or is not there, settles and proposes nothing."""
    gone = program("resolve", "--from", uncertain.parent / "no.csv", *ZONE)
    assert (gone.code, "Check the path of --from." in gone.stderr) == (78, True)
    ran = program("resolve", "--from", write_list(uncertain.parent, *lines), *ZONE, *options)
    assert (ran.code, ran.stdout, said in ran.stderr) == (code, "", True), ran
    assert "+1212" not in ran.stderr


@table(("starts", "rows", "expected"), CASES["rows"])
def test_a_row_is_one_call(starts: list[int], rows: list[int], expected: list[list[str]]) -> None:
    """Of calls to one number within a minute, a row stands for the nearest and for no other."""
    nobody = Call("c1", State.BUSY, "", "+12125550101", "", "", "", "", Place("", 2))
    calls = [replace(nobody, start_time=f"2026-03-02 14:00:{at:02}") for at in starts]
    noon = 1_772_460_000
    listed = [(str(line), noon + at, "+12125550101", "", "") for line, at in enumerate(rows, start=2)]
    found = look_up(calls, pd.DataFrame(listed, columns=["line", *COLUMNS]))
    assert [[*row[2:5]] for row in found] == expected
