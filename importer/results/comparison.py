"""Two results files of one input, line by line: what was expected and what was found."""

import csv
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

from importer.errors import InputUnusableError
from schemas.vocabulary import RESULT_COLUMNS

COMPARED = tuple(
    name
    for name in RESULT_COLUMNS
    if name not in {"file", "line", "hint", "http_status", "code", "attempts", "sent_at"}
)
"""Columns that tell what becomes of a row. Paths differ by place, hints are prose, and the rest is delivery's."""

ABSENT = "(no such row)"


@dataclass(frozen=True, slots=True)
class Difference:
    """One cell of the row at ``line`` that differs; column `row` where only one of the two has the row."""

    line: str
    column: str
    expected: str
    found: str


def differences(expected: Path, found: Path) -> list[Difference]:
    """Return every difference between two results files, in the order of lines.

    Raises InputUnusableError where one of them is no results file.
    """
    rows_expected, rows_found = _rows(expected), _rows(found)
    lines = sorted({*rows_expected, *rows_found}, key=lambda line: (len(line), line))
    return [each for line in lines for each in _of_line(line, rows_expected[line], rows_found[line])]


def _rows(path: Path) -> defaultdict[str, list[dict[str, str]]]:
    """Return the rows of a results file by the line of their record."""
    with path.open(encoding="utf-8", newline="") as source:
        reader = csv.DictReader(source)
        if tuple(reader.fieldnames or ()) != RESULT_COLUMNS:
            raise InputUnusableError(
                f"{path} is no results file: its header is not that of `check --all-rows`",
                hint="Write the expected file with `cdr-importer check --all-rows --results ...`.",
            )
        rows: defaultdict[str, list[dict[str, str]]] = defaultdict(list)
        for row in reader:
            rows[row["line"]].append(row)
    return rows


def _of_line(line: str, expected: list[dict[str, str]], found: list[dict[str, str]]) -> list[Difference]:
    different = [
        Difference(line, name, one[name], other[name])
        for one, other in zip(expected, found, strict=False)
        for name in COMPARED
        if one[name] != other[name]
    ]
    different += [Difference(line, "row", _told(row), ABSENT) for row in expected[len(found) :]]
    different += [Difference(line, "row", ABSENT, _told(row)) for row in found[len(expected) :]]
    return different


def _told(row: dict[str, str]) -> str:
    return " ".join(filter(None, (row["outcome"], row["reason"] or row["state"])))
