"""The round trip: rejected rows, mended in a spreadsheet program, are imported again and posted, and no others."""

import csv
import io
import re
from pathlib import Path

import pytest

from conftest import SAMPLES, Program, read_results, sample_options
from misbehaviour import Simulator

Rows = list[list[str]]


def opened(path: Path, *, quoted: bool) -> Rows:
    """Return a file of rejects as a spreadsheet program shows it."""
    text = path.read_text(encoding="utf-8")
    if not quoted:
        return [line.split(",") for line in text.splitlines()]
    return list(csv.reader(io.StringIO(text, newline="")))


def saved(path: Path, rows: Rows) -> Path:
    """Save rows as a German spreadsheet program does: semicolons, a mark, all quoted, dates with the day first."""
    date = re.compile(r"(\d{4})[-/](0\d|1[0-2])[-/](\d\d)( \d\d:\d\d:\d\d)")
    shown = [[date.sub(r"\3.\2.\1\4", cell) for cell in row] for row in rows]
    with path.open("w", encoding="utf-8-sig", newline="") as target:
        csv.writer(target, delimiter=";", quoting=csv.QUOTE_ALL).writerows(shown)
    return path


def mended(rows: Rows, changes: dict[str, str]) -> Rows:
    """Return the rows with these texts replaced, wherever they stand."""
    for old, new in changes.items():
        rows = [[cell.replace(old, new) for cell in row] for row in rows]
    return rows


CASES: dict[str, tuple[dict[str, str], bool]] = {
    "asterisk-csv": ({"212555XXXX": "2125550190", "5550159": "2125550191"}, True),
    "3cx-cdr": ({"212555****": "+12125550190", "5550154": "+12125550191"}, False),
}


@pytest.mark.parametrize("name", CASES)
def test_mended_rows_are_posted(program: Program, account: Simulator, tmp_path: Path, name: str) -> None:
    """Rows without header, mended and saved by a spreadsheet program, are posted; the others stay rejected."""
    changes, quoted = CASES[name]
    sample = SAMPLES / name / "day.csv"
    options = sample_options(sample)
    written = ("--rejects", tmp_path / "rejects.csv", "--results", tmp_path / "1.csv")
    first = program("import", "--init-ledger", *options, *written, sample)
    posted = len(account.accepted)
    rows = opened(tmp_path / "rejects.csv", quoted=quoted)
    assert len(rows) == int(first.summary()["rejected"])
    again = saved(tmp_path / "mended.csv", mended(rows, changes))
    arguments = ("--format", name, "--date-order", "day-month", "--results", tmp_path / "results.csv")
    second = program("import", *options, *arguments, again)
    assert [call["to"] for call in account.accepted[posted:]] == ["+12125550190", "+12125550191"]
    results = read_results(tmp_path / "results.csv")
    assert [row["to"] for row in results if row["outcome"] == "accepted"] == ["+12125550190", "+12125550191"]
    assert second.summary()["rejected"] == str(len(rows) - 2)
    assert all(re.match(r"2026-03-0[23] ", row["start_time"]) for row in results if row["outcome"] == "accepted")
