"""Which format a file is of, decided by its content alone: exactly one must match."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from importer.errors import InputUnusableError
from importer.files import ExportFile, open_export
from importer.formats.encoding import certain_encoding, fallback_encoding
from importer.formats.language import CdrFormat, Layout, LookAlike, Quotes, Shape
from schemas.vocabulary import RESULT_COLUMNS

SAMPLE_CHARACTERS = 256 * 1024
HEADER_RECORDS = 20
SAMPLE_ROWS = 200
LEAST_SHARE = 0.6
"""Share of the first rows that must fit an export without header; the others are its bad rows."""


@dataclass(frozen=True, slots=True)
class Detection:
    """How one file is to be read: its format, and where each column of the format stands.

    ``positions`` maps the format's column names to positions from 0; ``field_count`` is the number of cells a
    row has, at least where ``open_end`` is set; ``header_line`` is the physical line of the header, None without
    one; ``sample`` holds the cells of the first rows.
    """

    file: ExportFile
    format: CdrFormat
    encoding: str
    delimiter: str
    header_line: int | None
    header: tuple[str, ...]
    positions: Mapping[str, int]
    field_count: int
    sample: tuple[tuple[str, ...], ...]
    open_end: bool = False

    @property
    def spill(self) -> int | None:
        """Where the cell stands that takes a row's surplus cells, None when no cell does."""
        return None if self.format.file.spill is None else self.positions.get(self.format.file.spill)

    @property
    def path(self) -> Path:
        """The path of the file as it was given."""
        return self.file.path


@dataclass(frozen=True, slots=True)
class OwnOutput:
    """A results file of this program among the inputs: to be passed over."""

    path: Path


@dataclass(frozen=True, slots=True)
class Overrides:
    """What the operator says about a file, over what detection finds."""

    format: CdrFormat | None = None
    encoding: str | None = None
    delimiter: str | None = None


@dataclass(frozen=True, slots=True)
class _Match:
    delimiter: str
    header_index: int | None
    header_line: int | None
    header: tuple[str, ...]
    positions: Mapping[str, int]
    field_count: int
    rows: tuple[tuple[str, ...], ...]
    open_end: bool = False


class _Sample:
    """The first records of a file, split once for each way of writing them down."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._split: dict[tuple[str, Quotes, bool], list[tuple[int, tuple[str, ...]]]] = {}

    def records(self, delimiter: str, cdr_format: Shape) -> list[tuple[int, tuple[str, ...]]]:
        """Return (line, cells) of the first non-blank records."""
        key = (delimiter, cdr_format.file.quotes, cdr_format.file.skip_initial_space)
        if key not in self._split:
            self._split[key] = self._read(*key)
        return self._split[key]

    def _read(self, delimiter: str, quotes: Quotes, skip: bool) -> list[tuple[int, tuple[str, ...]]]:
        source = io.StringIO(self._text, newline="")
        if quotes is Quotes.NONE:
            reader = csv.reader(source, delimiter=delimiter, quoting=csv.QUOTE_NONE, skipinitialspace=skip)
        else:
            reader = csv.reader(source, delimiter=delimiter, skipinitialspace=skip)
        records = []
        line = 1
        try:
            for cells in reader:
                if any(cells):
                    records.append((line, tuple(cells)))
                line = reader.line_num + 1
                if len(records) >= HEADER_RECORDS + SAMPLE_ROWS:
                    break
        except csv.Error:
            pass  # an over-long cell: what was split so far is the sample, reading names the line
        return records


def detect(
    path: Path,
    formats: Sequence[CdrFormat],
    overrides: Overrides,
    lookalikes: Sequence[LookAlike] = (),
) -> Detection | OwnOutput:
    """Say how this file is to be read; `-` is standard input, and a packed file is unpacked.

    Raises NoInputError when it cannot be read at all, InputUnusableError when it is damaged, empty, in no encoding
    that could be decided, one of the ``lookalikes``, of no format known here, or of more than one.
    """
    file = open_export(path)
    encoding = certain_encoding(file, overrides.encoding)
    text = _sample_text(file, encoding or "latin-1")
    if not text.strip("\ufeff \t\r\n"):
        raise InputUnusableError(
            f"{file.shown} is empty", hint="An export of a day without calls has at least its header line."
        )
    sample = _Sample(text)
    if overrides.format is None and _is_own_output(text):
        return OwnOutput(path)
    candidates = [overrides.format] if overrides.format else formats
    matches = [(each, found) for each in candidates if (found := _match(sample, each, overrides.delimiter))]
    if not matches:
        alike = next((each for each in lookalikes if _match(sample, each, overrides.delimiter)), None)
        raise _refused(file, alike) if alike else _unknown(file, sample, candidates, overrides)
    if len(matches) > 1:
        raise _ambiguous(file, [each.name for each, _ in matches])
    return _detection(file, *matches[0], encoding)


def spilled(cells: Sequence[str], field_count: int, spill: int | None) -> tuple[str, ...]:
    """Return the cells of a row with those it has too many joined into the cell at ``spill``, by spaces."""
    surplus = len(cells) - field_count
    if spill is None or surplus <= 0:
        return tuple(cells)
    behind = spill + surplus + 1
    return (*cells[:spill], " ".join(cells[spill:behind]), *cells[behind:])


def column_key(text: str) -> str:
    """Return a header cell in the form in which headers are compared: letters and digits, lower case."""
    return re.sub(r"[^0-9a-z]+", "", text.casefold()) or text.strip().casefold()


def _sample_text(file: ExportFile, encoding: str) -> str:
    with file.open_text(encoding) as source:
        text = source.read(SAMPLE_CHARACTERS)
        whole = not source.read(1)
    if whole:
        return text
    cut = max(text.rfind("\n"), text.rfind("\r"))
    return text[: cut + 1] if cut >= 0 else text


def _is_own_output(text: str) -> bool:
    first = text.lstrip("\ufeff").splitlines()[0] if text.strip() else ""
    return next(csv.reader([first]), []) == list(RESULT_COLUMNS)


def _match(sample: _Sample, cdr_format: Shape, delimiter: str | None) -> _Match | None:
    for candidate in (delimiter,) if delimiter else cdr_format.file.delimiters:
        records = sample.records(candidate, cdr_format)
        found = (
            _match_header(records, cdr_format, candidate)
            if cdr_format.file.header
            else _match_layout(records, cdr_format, candidate)
        )
        if found is not None:
            return found
    return None


def _match_header(records: list[tuple[int, tuple[str, ...]]], cdr_format: Shape, delimiter: str) -> _Match | None:
    for index, (line, cells) in enumerate(records[:HEADER_RECORDS]):
        keys = [column_key(cell) for cell in cells]
        if _missing_columns(keys, cdr_format):
            continue
        if any(column_key(name) in keys for name in cdr_format.detect.forbidden):
            return None
        positions = _positions(cells, keys, cdr_format)
        field_count = len(cells) if any(cells[-1:]) else len(_without_empty_tail(cells))
        spill = positions.get(cdr_format.file.spill or "")
        rows = [spilled(each, field_count, spill) for _, each in records[index + 1 :]][:SAMPLE_ROWS]
        if not _fits(rows, positions, cdr_format.detect.patterns):
            return None
        return _Match(delimiter, index, line, tuple(cells), positions, field_count, tuple(rows))
    return None


def _without_empty_tail(cells: Sequence[str]) -> tuple[str, ...]:
    kept = list(cells)
    while kept and not kept[-1].strip():
        kept.pop()
    return tuple(kept)


def _missing_columns(keys: Sequence[str], cdr_format: Shape) -> list[str]:
    return [
        spellings[0]
        for spellings in cdr_format.columns.values()
        if not any(column_key(spelling) in keys for spelling in spellings)
    ]


def _positions(cells: Sequence[str], keys: Sequence[str], cdr_format: Shape) -> dict[str, int]:
    positions = {}
    for name, spellings in {**cdr_format.columns, **cdr_format.optional_columns}.items():
        wanted = {column_key(spelling) for spelling in spellings}
        found = [index for index, key in enumerate(keys) if key in wanted]
        if len(found) > 1 and name in cdr_format.used_columns():
            raise InputUnusableError(
                f"the header has column {cells[found[0]]!r} twice (cells {found[0] + 1} and {found[1] + 1})",
                hint="Remove one of the two columns from the export.",
            )
        if found:
            positions[name] = found[0]
    return positions


def _match_layout(records: list[tuple[int, tuple[str, ...]]], cdr_format: Shape, delimiter: str) -> _Match | None:
    for layout in cdr_format.layouts:
        count = len(layout.columns)
        positions = {name: index for index, name in enumerate(layout.columns)}
        spill = positions.get(cdr_format.file.spill or "")
        rows = [spilled(cells, count, spill) for _, cells in records[:SAMPLE_ROWS]]
        fitting = [cells for cells in rows if _fits_layout(cells, layout, positions, cdr_format)]
        if fitting and len(fitting) >= LEAST_SHARE * len(rows):
            return _Match(delimiter, None, None, (), positions, count, tuple(rows), layout.open_end)
    return None


def _fits_layout(cells: Sequence[str], layout: Layout, positions: Mapping[str, int], cdr_format: Shape) -> bool:
    count = len(layout.columns)
    surplus = [] if layout.open_end else cells[count:]
    if len(cells) < count or any(cell.strip() for cell in surplus):
        return False
    patterns = {**cdr_format.detect.patterns, **layout.where}
    return _fits([cells], positions, patterns)


def _fits(rows: Sequence[Sequence[str]], positions: Mapping[str, int], patterns: Mapping[str, str]) -> bool:
    """Say whether at least the usual share of the rows match every pattern; no rows contradict nothing."""
    if not rows or not patterns:
        return True
    fitting = sum(
        all(
            name in positions
            and positions[name] < len(cells)
            and re.fullmatch(pattern, cells[positions[name]].strip()) is not None
            for name, pattern in patterns.items()
        )
        for cells in rows
    )
    return fitting >= LEAST_SHARE * len(rows)


def _detection(file: ExportFile, cdr_format: CdrFormat, match: _Match, encoding: str | None) -> Detection:
    return Detection(
        file=file,
        format=cdr_format,
        encoding=encoding or fallback_encoding(file, cdr_format.file.encodings),
        delimiter=match.delimiter,
        header_line=match.header_line,
        header=match.header,
        positions=match.positions,
        field_count=match.field_count,
        sample=match.rows,
        open_end=match.open_end,
    )


def _refused(file: ExportFile, alike: LookAlike) -> InputUnusableError:
    return InputUnusableError(f"{file.shown} is a {alike.title}: {alike.why}", hint=alike.todo)


def _ambiguous(file: ExportFile, names: Sequence[str]) -> InputUnusableError:
    return InputUnusableError(
        f"{file.shown} fits more than one format: {' and '.join(names)}",
        hint="Say which one it is with --format NAME.",
    )


def _unknown(
    file: ExportFile, sample: _Sample, formats: Sequence[CdrFormat], overrides: Overrides
) -> InputUnusableError:
    first = next(iter(sample.records(overrides.delimiter or ",", formats[0])), (1, ()))[1]
    shown = ", ".join(cell.strip()[:40] for cell in first[:12] if _is_header_word(cell)) or "none found"
    nearest = _nearest(sample, formats, overrides.delimiter)
    what = f"is not of format {formats[0].name}" if overrides.format else "is of no format known here"
    near = " ".join(f"Nearest: {name} (missing: {', '.join(missing)})." for name, missing in nearest)
    return InputUnusableError(
        f"{file.shown} {what}; column names found: {shown}",
        hint=f"{near} See `cdr-importer formats`, or describe the export in a format of your own.".strip(),
    )


def _is_header_word(cell: str) -> bool:
    """Say whether a cell can be shown as a column name: a value with digits in a row may be a number."""
    return bool(re.fullmatch(r"[^\d\n]{1,40}\d?", cell.strip()))


def _nearest(sample: _Sample, formats: Sequence[CdrFormat], delimiter: str | None) -> list[tuple[str, list[str]]]:
    scored = []
    for cdr_format in formats:
        if not cdr_format.columns:
            continue
        for candidate in (delimiter,) if delimiter else cdr_format.file.delimiters:
            for _, cells in sample.records(candidate, cdr_format)[:HEADER_RECORDS]:
                missing = _missing_columns([column_key(cell) for cell in cells], cdr_format)
                share = 1 - len(missing) / len(cdr_format.columns)
                scored.append((share, cdr_format.name, missing))
    best: dict[str, list[str]] = {}
    for share, name, missing in sorted(scored, key=lambda entry: -entry[0]):
        if share > 0 and name not in best:
            best[name] = missing
    return list(best.items())[:3]
