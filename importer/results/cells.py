"""Rows of a results file as cells: written with no formula that a spreadsheet would run, read back, compared."""

import csv
import re
import string
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO

from importer.errors import InputUnusableError, NoInputError
from importer.ledger.values import Fate
from importer.private_files import os_errors_as
from importer.records import Call, ResultRow
from schemas.vocabulary import E164, RESULT_COLUMNS, Outcome

PART = ".part"
"""The end of the name of results that are not whole yet."""
COMPARED = RESULT_COLUMNS[2:11]
"""``call_id`` to ``reason``. Paths differ by place, hints are prose, and the rest is delivery's."""
ABSENT = "(no such row)"
FATE_COLUMNS = RESULT_COLUMNS[-6:]
"""From ``reason`` on: what became of the call."""

Difference = tuple[str, str, str, str]
"""One cell that differs: its line and column, expected and found; column `row` where only one has the row."""

_NUMBER = re.compile(E164)
_HARMLESS_START = frozenset(("", *string.digits, *string.ascii_letters))
_FORMULA_START = frozenset("=+-@\t\r\n")
_NO_FATE = [""] * len(FATE_COLUMNS)
_OUTCOMES = frozenset(Outcome)


def write_rows(stream: IO[str], rows: Iterable[Iterable[str]]) -> None:
    """Write rows of a results file, or its header."""
    writer = csv.writer(stream, lineterminator="\r\n")
    for cells in rows:
        row = [*cells]
        line = ",".join(row)
        if line.count(",") >= len(row) or '"' in line or "\r" in line or "\n" in line:
            writer.writerow(row)
        else:  # nothing to quote: `csv` looks at each letter, in thrice the time
            stream.write(line + "\r\n")


def cells_of(row: ResultRow | Call, calls_are: Outcome) -> list[str]:
    """Return a row as the cells of the results file; a bare call is a row with the outcome ``calls_are``."""
    if isinstance(row, ResultRow):
        outcome, numbers = row.outcome, [defused(row.agent_number), defused(row.customer_number)]
        fate = fate_cells(row)
    else:  # numbers of a call are E.164, and its fate is open
        outcome, numbers, fate = calls_are, [row.agent_number, row.customer_number], _NO_FATE
    return [
        defused(row.place.file),
        str(row.place.line) if row.place.line else "",
        row.call_id,
        outcome,
        row.state,
        *numbers,
        row.start_time,
        defused(row.zohouser),
        defused(row.source_id),
        *fate,
    ]


def fate_cells(fate: Fate | ResultRow) -> list[str]:
    """Return a fate as the cells of `FATE_COLUMNS`."""
    return [
        fate.reason,
        defused(fate.hint),
        "" if fate.http_status is None else str(fate.http_status),
        defused(fate.code),
        str(fate.attempts) if fate.attempts else "",
        fate.sent_at,
    ]


def defused(text: str) -> str:
    """Return a cell that no spreadsheet runs as a formula; strict E.164 stays as it is."""
    # The dangerous first characters are OWASP's (CSV Injection), also behind blanks and invisible characters.
    if text[:1] in _HARMLESS_START:
        return text
    bare = text.lstrip(" \u00a0")
    while bare and unicodedata.category(bare[0]) == "Cf":
        bare = bare[1:].lstrip(" \u00a0")
    first = unicodedata.normalize("NFKC", bare[:1])
    if first not in _FORMULA_START or not first or _NUMBER.fullmatch(text):
        return text
    return "'" + text


def fused(text: str) -> str:
    """Return the cell as it was before `defused`."""
    bare = text[1:]
    return bare if text[:1] == "'" and defused(bare) == text else text


def read_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield the rows of a results file, or of a part, by column name; raises NoInputError, InputUnusableError."""
    try:
        with os_errors_as(NoInputError, f"results file {path} cannot be read", path, "Check its path and rights."):
            yield from raw_rows(path)
    except (csv.Error, UnicodeDecodeError) as error:
        raise no_results_file(path, "it is damaged") from error


def raw_rows(path: Path) -> Iterator[dict[str, str]]:
    """Yield rows as `read_rows` does; raises OSError, csv.Error and UnicodeDecodeError as they come too."""
    # A part may end in the middle of a row, because a run died: that row is left out.
    is_part = path.suffix == PART
    with path.open(encoding="utf-8", errors="replace" if is_part else "strict", newline="\n") as stream:
        lines = (line for line in stream if line.endswith("\n")) if is_part else stream
        reader = csv.reader(lines, strict=not is_part)
        header = tuple(next(reader, ()))
        if header != RESULT_COLUMNS and (header or not is_part):
            raise no_results_file(path, "its header is another one")
        for cells in reader:
            row = dict(zip(RESULT_COLUMNS, cells, strict=False))
            if len(cells) == len(RESULT_COLUMNS) and row["outcome"] in _OUTCOMES:
                yield row
            elif not is_part:
                raise no_results_file(path, f"line {reader.line_num} is no row of results")


def no_results_file(path: Path, why: str) -> InputUnusableError:
    """Return the error for a file that is not as this program wrote it."""
    return InputUnusableError(
        f"{path} is not a results file of this program: {why}",
        hint="Give a file that `import`, `check` or `deliver` wrote, as it was written.",
    )


def differences(expected: Path, found: Path) -> list[Difference]:
    """Return every difference between two results files of one input, in the order of lines."""
    by_line: defaultdict[str, tuple[list[Mapping[str, str]], list[Mapping[str, str]]]]
    by_line = defaultdict(lambda: ([], []))
    for side, path in enumerate((expected, found)):
        for row in read_rows(path):
            by_line[row["line"]][side].append(row)
    different: list[Difference] = []
    for line, (one, other) in sorted(by_line.items(), key=lambda each: (len(each[0]), each[0])):
        different += [
            (line, name, wanted[name], got[name])
            for wanted, got in zip(one, other, strict=False)
            for name in COMPARED
            if wanted[name] != got[name]
        ]
        different += [(line, "row", _shown(row), ABSENT) for row in one[len(other) :]]
        different += [(line, "row", ABSENT, _shown(row)) for row in other[len(one) :]]
    return different


def _shown(row: Mapping[str, str]) -> str:
    return " ".join(filter(None, (row["outcome"], row["reason"] or row["state"])))
