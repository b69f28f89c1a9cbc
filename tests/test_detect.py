"""`detect`: what is told of a file that is known, and of one that is not, in 80 columns."""

import re
from pathlib import Path

import pytest

from conftest import SAMPLES, Program, cases, sample_files, sample_options, table
from importer.cli.output import table as table_of

CASES = cases("detect")

WIDE = ("asterisk-csv", "cucm", "webex-calling")
ASTERISK = (SAMPLES / "asterisk-csv" / "day.csv").read_text(encoding="utf-8").splitlines()[0]
ASTERISK = ASTERISK.replace("NO ANSWER", "VANISHED")
ONE_OF_EACH = list({path.parent.name: path for path in sample_files() if path.parent.name in WIDE}.values())


def told(program: Program, *arguments: str | Path) -> dict[str, str]:
    """Return what `detect` says by the first word of each line."""
    ran = program("detect", *arguments)
    assert ran.code == 0
    return {line.split(" ")[0]: line for line in reversed(ran.stdout.splitlines()) if line.strip()}


def cells(line: str) -> list[str]:
    """Return the cells of a line of a table."""
    return re.split(" {2,}", line)


def test_facts_mapping_and_rows_before_and_after(program: Program) -> None:
    """Format, encoding, delimiter, header, zone, each column with the first rows, and what becomes of them."""
    said = told(program, SAMPLES / "callnotify" / "day.csv")
    assert cells(said["format"])[1].startswith("callnotify: ")
    assert cells(said["encoding"]) == ["encoding", "utf-8"]
    assert cells(said["delimiter"]) == ["delimiter", "comma, 9 cells per row"]
    assert cells(said["header"]) == ["header", "line 1"]
    assert cells(said["times"]) == ["times", "zone: UTC"]
    assert cells(said["cell"]) == ["cell", "column", "row 1", "row 2", "row 3"]
    assert cells(said["line"]) == ["line", "what it is", "from", "to", "start (GMT)"]


def test_country_of_the_numbers(program: Program) -> None:
    """The country is shown as the zone is, where an export has numbers without country code."""
    sample = SAMPLES / "starface-calls" / "output.csv"
    shown = program("detect", "--timezone", "Europe/London", "--country", "GB", sample).stdout
    assert "without country code they are read as of GB" in shown
    assert "numbers" not in told(program, SAMPLES / "callnotify" / "day.csv")


def test_mapping_names_header_and_meaning(program: Program) -> None:
    """A header that is spelt otherwise than the format's column stands with both; unused cells are counted."""
    out = program("detect", SAMPLES / "twilio" / "spaced.csv").stdout
    assert re.search(r"^\d+ +Call Sid = sid ", out, re.MULTILINE)
    assert re.search(r"^\d+ +Start Time ", out, re.MULTILINE)
    assert re.search(r"^(\d+ other cells are|1 other cell is) passed over$", out, re.MULTILINE)


def test_row_of_no_use_is_told_with_its_hint(program: Program, tmp_path: Path) -> None:
    """Among the first rows, one that is rejected says why and what to do."""
    path = tmp_path / "export.csv"
    path.write_text("state,id,from,to,start_time\nbusy,1,+12125550101,12,2026-03-02 09:00:00\n", encoding="utf-8")
    out = program("detect", path).stdout
    assert re.search(r"^2 +unusable: [a-z_]+", out, re.MULTILINE)
    assert "line 2: Column to holds" in out


@table("sample", ONE_OF_EACH)
def test_nothing_is_wider_than_80_columns(sample: Path, program: Program) -> None:
    """Whatever the export, its tables fit a terminal of 80 columns."""
    ran = program("detect", *sample_options(sample), sample)
    assert [line for line in ran.stdout.splitlines()[1:] if len(line) > 80] == []


@table(("text", "nearest", "why"), CASES["unknown"])
def test_unknown_file_and_the_nearest(text: str, nearest: str, why: str, program: Program, tmp_path: Path) -> None:
    """Exit 65, and at most three formats with what keeps the file from each, the nearest first."""
    path = tmp_path / "export.csv"
    path.write_text(text, encoding="utf-8")
    ran = program("detect", path)
    assert ran.code == 65
    named = re.findall(r"Nearest: (\S+) \((.+?)\)\. ", ran.stderr)
    assert 1 <= len(named) <= 3
    assert (named[0][0], named[0][1].startswith(why)) == (nearest, True)


def test_table_narrows_the_widest_column(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cells that are too long go on below; nothing is lost and short columns stay whole."""
    monkeypatch.setenv("COLUMNS", "40")
    lines = table_of(("a", "b", "c"), [("1", "x" * 40, "one two three")])
    assert max(map(len, lines)) <= 40
    assert "".join(line[3:].split("  ")[0].strip() for line in lines[2:]).count("x") == 40
    assert all(line.startswith(("a", "-", "1", " ")) for line in lines)
