"""Which format a file is of, decided by its content alone: exactly one must match."""

import csv
import io
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from importer.errors import InputUnusableError
from importer.files import ExportFile, open_export
from importer.formats.cells import plain_cell
from importer.formats.dates import bare_time, column_layouts, restorations
from importer.formats.detected import Detection, Overrides, OwnOutput
from importer.formats.encoding import certain_encoding, fallback_encoding
from importer.formats.language import CdrFormat, Layout, LookAlike, Quotes, Shape
from importer.formats.rewriting import rewriting_of
from schemas.vocabulary import RESULT_COLUMNS

__all__ = ["Detection", "Overrides", "OwnOutput", "column_key", "detect", "spilled"]

SAMPLE_CHARACTERS = 256 * 1024
HEADER_RECORDS = 20
SAMPLE_ROWS = 200
UNKNOWN_TODO = "See `cdr-importer formats`, or draft a format of your own with `cdr-importer formats new`."
LEAST_SHARE = 0.6
"""Share of the first rows that must fit an export without header; the others are its bad rows."""

MOST_NULS = 4
"""More than one NUL among so many characters makes a text UTF-16 that nothing marks."""

RESAVED_DELIMITERS = (",", ";", "\t", "|")
"""What spreadsheets write, by the machine's region and the kind of file chosen, whatever the system wrote."""

_T_IN_ISO = re.compile(r"(?<=\d-\d\d)[Tt](?=\d\d:)| {2,}(?=\d\d:)")

SEPARATOR_LINE = re.compile(r'\ufeff?"?sep=([^0-9A-Za-z"\r\n])"?[,;\t| ]*(?:\r\n?|\n|\Z)', re.IGNORECASE)
"""The first line by which Excel is told the delimiter; not a row, and no part of any export's layout."""


@dataclass(frozen=True, slots=True)
class _Writing:
    """One way in which a file may be written down."""

    delimiter: str
    quotes: Quotes
    skip_initial_space: bool


@dataclass(frozen=True, slots=True)
class _Match:
    writing: _Writing
    header_line: int | None
    header: tuple[str, ...]
    positions: Mapping[str, int]
    field_count: int
    rows: tuple[tuple[str, ...], ...]
    fitting: int
    open_end: bool = False


@dataclass(frozen=True, slots=True)
class Nearest:
    """A format that a file is near to, and the columns it misses; ``otherwise`` is what else is different."""

    name: str
    missing: tuple[str, ...]
    otherwise: str = ""

    def told(self) -> str:
        """Return what is missing or different, for a person."""
        return f"missing: {', '.join(self.missing)}" if self.missing else self.otherwise


class UnknownFormatError(InputUnusableError):
    """A file is of no format known here, or not of the one that was named; ``nearest`` are at most three."""

    def __init__(self, message: str, nearest: tuple[Nearest, ...]) -> None:
        near = "".join(f"Nearest: {each.name} ({each.told()}). " for each in nearest)
        super().__init__(message, hint=f"{near}{UNKNOWN_TODO}")
        self.nearest = nearest


_Records = list[tuple[int, tuple[str, ...]]]


class _Sample:
    """The first records of a file, split once for each way of writing them down.

    ``told`` is the delimiter that a first line `sep=;` tells, "" without one.
    """

    def __init__(self, text: str) -> None:
        first = SEPARATOR_LINE.match(text)
        self.told = first[1] if first else ""
        self._text = text[first.end() :] if first else text
        self._split: dict[_Writing, _Records] = {}

    def records(self, writing: _Writing) -> _Records:
        """Return (line, cells) of the first non-blank records."""
        if writing not in self._split:
            self._split[writing] = self._read(writing)
        return self._split[writing]

    def has_cells(self, writing: _Writing) -> bool:
        """Say whether any of the first records has more than one cell: most delimiters are none of this file."""
        return any(len(cells) > 1 for _, cells in self.records(writing)[:HEADER_RECORDS])

    def has_doubled_quotes(self, delimiter: str) -> bool:
        """Say whether quotes inside cells are doubled, as a spreadsheet writes them, and never bare."""
        edge = re.escape(delimiter) + r"\r\n"
        doubled = re.search(f'[^{edge}]""[^{edge}]', self._text)
        return bool(doubled) and not re.search(f'[^{edge}"]"[^{edge}"]', self._text)

    def has_quoted_cells(self, delimiter: str) -> bool:
        """Say whether there are quotes and all of them are those of RFC 4180."""
        mark = re.escape(delimiter)
        cell = f'(?:"(?:[^"]|"")*+"|[^{mark}"\r\n]*+)'
        return '"' in self._text and bool(re.fullmatch(rf"(?:{cell}(?:{mark}|[\r\n]|\Z))*+", self._text))

    def _read(self, writing: _Writing) -> _Records:
        source = io.StringIO(self._text, newline="")
        quoting: Literal[0, 3] = 3 if writing.quotes is Quotes.NONE else 0
        skip = writing.skip_initial_space
        reader = csv.reader(source, delimiter=writing.delimiter, quoting=quoting, skipinitialspace=skip)
        records = []
        above = 1 if self.told else 0
        line = above + 1
        try:
            for cells in reader:
                if any(cells):
                    records.append((line, tuple(cells)))
                line = above + reader.line_num + 1
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
    if encoding == "utf-8" and text.count("\0") > len(text) // MOST_NULS:
        raise _unmarked_utf16(file)
    sample = _Sample(text)
    if overrides.format is None and _is_own_output(text):
        return OwnOutput(path)
    candidates = [overrides.format] if overrides.format else formats
    matches = [(each, found) for each in candidates if (found := _match(sample, each, overrides))]
    if not matches:
        alike = next((each for each in lookalikes if _match(sample, each, overrides)), None)
        raise _refused(file, alike) if alike else _unknown(file, sample, candidates, overrides)
    if len(matches) > 1:
        raise _ambiguous(file, [each.name for each, _ in matches])
    detection = _detection(file, sample, *matches[0], encoding)
    return replace(detection, rewriting=rewriting_of(detection, overrides.date_order))


def spilled(cells: Sequence[str], field_count: int, spill: int | None) -> tuple[str, ...]:
    """Return the cells of a row with those it has too many joined into the cell at ``spill``, by spaces."""
    surplus = len(cells) - field_count
    if spill is None or surplus <= 0:
        return tuple(cells)
    behind = spill + surplus + 1
    return (*cells[:spill], " ".join(cells[spill:behind]), *cells[behind:])


@lru_cache(maxsize=4096)
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


def _match(sample: _Sample, cdr_format: Shape, overrides: Overrides) -> _Match | None:
    """Return how a file is read in this format: by the delimiter, then the quoting, that fit best.

    A format that the operator names need not be proved by what its cells look like: rows to be mended may be few.
    """
    least_share = 0.0 if overrides.format else LEAST_SHARE
    match = _match_header if cdr_format.file.header else _match_layout
    for delimiter in _delimiters(sample, cdr_format, overrides):
        found = [
            fit
            for writing in _writings(sample, cdr_format, delimiter)
            if sample.has_cells(writing)
            and (fit := match(sample.records(writing), cdr_format, writing, least_share))
        ]
        if found:
            return max(found, key=lambda fit: fit.fitting)
    return None


def _delimiters(sample: _Sample, cdr_format: Shape, overrides: Overrides) -> tuple[str, ...]:
    if overrides.delimiter:
        return (overrides.delimiter,)
    told = (sample.told,) if sample.told else ()
    return tuple(dict.fromkeys((*told, *cdr_format.file.delimiters, *RESAVED_DELIMITERS)))


def _writings(sample: _Sample, cdr_format: Shape, delimiter: str) -> Iterator[_Writing]:
    """Yield the ways in which the cells may be quoted: that of the format, and what a spreadsheet makes of it."""
    spec = cdr_format.file
    own = _Writing(delimiter, spec.quotes, spec.skip_initial_space)
    anew = _Writing(delimiter, Quotes.DOUBLED, spec.skip_initial_space)
    if spec.quotes is Quotes.NONE:
        yield from (anew, own) if sample.has_quoted_cells(delimiter) else (own, anew)
    else:
        yield anew if spec.quotes is Quotes.BARE and sample.has_doubled_quotes(delimiter) else own


def _match_header(records: _Records, cdr_format: Shape, writing: _Writing, least_share: float) -> _Match | None:
    for index, (line, cells) in enumerate(records[:HEADER_RECORDS]):
        keys = [column_key(cell) for cell in cells]
        if next(_missing_columns(keys, cdr_format), None) is not None:
            continue
        if any(column_key(name) in keys for name in cdr_format.detect.forbidden):
            return None
        positions = _positions(cells, keys, cdr_format)
        field_count = len(cells) if any(cells[-1:]) else len(_without_empty_tail(cells))
        spill = positions.get(cdr_format.file.spill or "")
        rows = [spilled(each, field_count, spill) for _, each in records[index + 1 :]][:SAMPLE_ROWS]
        fitting = sum(_fits(row, positions, cdr_format.detect.patterns, cdr_format) for row in rows)
        if fitting < least_share * len(rows):
            return None
        fitting += sum(_has_shape(row, field_count) for row in rows)
        return _Match(writing, line, tuple(cells), positions, field_count, tuple(rows), fitting)
    return None


def _without_empty_tail(cells: Sequence[str]) -> tuple[str, ...]:
    kept = list(cells)
    while kept and not kept[-1].strip():
        kept.pop()
    return tuple(kept)


def _missing_columns(keys: Sequence[str], cdr_format: Shape) -> Iterator[str]:
    """Yield the columns of a format that a header lacks, by the first of their spellings."""
    for spellings in cdr_format.columns.values():
        if not any(column_key(spelling) in keys for spelling in spellings):
            yield spellings[0]


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


def _match_layout(records: _Records, cdr_format: Shape, writing: _Writing, least_share: float) -> _Match | None:
    best: _Match | None = None
    for layout in cdr_format.layouts:
        count = len(layout.columns)
        positions = {name: index for index, name in enumerate(layout.columns)}
        spill = positions.get(cdr_format.file.spill or "")
        rows = [spilled(cells, count, spill) for _, cells in records[:SAMPLE_ROWS]]
        fitting = sum(_fits_layout(cells, layout, positions, cdr_format) for cells in rows)
        found = _Match(writing, None, (), positions, count, tuple(rows), fitting, layout.open_end)
        if fitting and fitting >= LEAST_SHARE * len(rows):
            return found
        if fitting > (best.fitting if best else 0) and fitting >= least_share * len(rows):
            best = found
    return best


def _fits_layout(cells: Sequence[str], layout: Layout, positions: Mapping[str, int], cdr_format: Shape) -> bool:
    count = len(layout.columns)
    if not _has_shape(cells[:count] if layout.open_end else cells, count):
        return False
    return _fits(cells, positions, {**cdr_format.detect.patterns, **layout.where}, cdr_format)


def _has_shape(cells: Sequence[str], count: int) -> bool:
    return len(cells) >= count and not any(cell.strip() for cell in cells[count:])


def _fits(
    cells: Sequence[str], positions: Mapping[str, int], patterns: Mapping[str, str], cdr_format: Shape
) -> bool:
    """Say whether a row matches every pattern.

    A time may be one that another program wrote anew: with a fraction, an offset, in ISO 8601, or in the way of a
    spreadsheet.
    """
    return all(
        name in positions
        and positions[name] < len(cells)
        and _matches(cells[positions[name]], pattern, cdr_format)
        for name, pattern in patterns.items()
    )


def _matches(cell: str, pattern: str, cdr_format: Shape) -> bool:
    text = plain_cell(cell)
    if re.fullmatch(pattern, text):
        return True
    bare = bare_time(text)
    if re.fullmatch(pattern, _T_IN_ISO.sub(" ", bare)):
        return True
    if not isinstance(cdr_format, CdrFormat):
        return False
    parts = column_layouts(cdr_format.time.formats, len(cdr_format.time.columns))
    return any(re.fullmatch(pattern, before) for part in parts for before in restorations(bare, part))


def _detection(
    file: ExportFile, sample: _Sample, cdr_format: CdrFormat, match: _Match, encoding: str | None
) -> Detection:
    return Detection(
        file=file,
        format=cdr_format,
        encoding=encoding or fallback_encoding(file, cdr_format.file.encodings),
        delimiter=match.writing.delimiter,
        header_line=match.header_line,
        header=match.header,
        positions=match.positions,
        field_count=match.field_count,
        sample=match.rows,
        last_line_above=match.header_line or (1 if sample.told else 0),
        quotes=match.writing.quotes,
        open_end=match.open_end,
    )


def _unmarked_utf16(file: ExportFile) -> InputUnusableError:
    return InputUnusableError(
        f"{file.shown} seems to be UTF-16 text without a byte order mark: every other byte is zero",
        hint="Say so with --encoding utf-16-le (or utf-16-be), or save it as UTF-8.",
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
) -> UnknownFormatError:
    plain = _Writing(overrides.delimiter or sample.told or ",", Quotes.DOUBLED, skip_initial_space=False)
    first = next(iter(sample.records(plain)), (1, ()))[1]
    shown = ", ".join(cell.strip()[:40] for cell in first[:12] if _is_header_word(cell)) or "none found"
    what = f"is not of format {formats[0].name}" if overrides.format else "is of no format known here"
    return UnknownFormatError(
        f"{file.shown} {what}; column names found: {shown}", tuple(_nearest(sample, formats, overrides))
    )


def _is_header_word(cell: str) -> bool:
    """Say whether a cell can be shown as a column name: a value with digits in a row may be a number."""
    return bool(re.fullmatch(r"[^\d\n]{1,40}\d?", cell.strip()))


def _nearest(sample: _Sample, formats: Sequence[CdrFormat], overrides: Overrides) -> list[Nearest]:
    """Return the three formats that miss least, the nearest first, each once; none that has nothing in common."""
    scored: list[tuple[float, Nearest]] = []
    for cdr_format in formats:
        for delimiter in _delimiters(sample, cdr_format, overrides):
            records = sample.records(next(_writings(sample, cdr_format, delimiter)))
            near = _near_layout if cdr_format.layouts else _near_header
            scored += near(records, cdr_format)
    best: dict[str, Nearest] = {}
    for share, found in sorted(scored, key=lambda pair: -pair[0]):
        if share > 0:
            best.setdefault(found.name, found)
    return list(best.values())[:3]


def _near_header(records: _Records, cdr_format: CdrFormat) -> Iterator[tuple[float, Nearest]]:
    """Yield for each line that could be the header which share of the columns it has, and what it misses."""
    for index, (_, cells) in enumerate(records[:HEADER_RECORDS]):
        keys = [column_key(cell) for cell in cells]
        missing = tuple(_missing_columns(keys, cdr_format))
        share = 1 - len(missing) / len(cdr_format.columns)
        if missing:
            yield share, Nearest(cdr_format.name, missing)
            continue
        forbidden = [name for name in cdr_format.detect.forbidden if column_key(name) in keys]
        if forbidden:
            yield share, Nearest(cdr_format.name, (), f"it has the column {forbidden[0]} of another system")
            continue
        rows = [row for _, row in records[index + 1 :]][:SAMPLE_ROWS]
        unlike = _unlike(rows, {name: keys.index(key) for name, key in _first_keys(keys, cdr_format)}, cdr_format)
        yield (
            share,
            Nearest(cdr_format.name, (), f"the cells look different in {', '.join(unlike) or 'some rows'}"),
        )


def _first_keys(keys: Sequence[str], cdr_format: CdrFormat) -> Iterator[tuple[str, str]]:
    for name, spellings in cdr_format.columns.items():
        yield name, next(key for key in map(column_key, spellings) if key in keys)


def _near_layout(records: _Records, cdr_format: CdrFormat) -> Iterator[tuple[float, Nearest]]:
    """Yield for each layout which share of its patterns the rows have, where it is at least half of them."""
    rows = [cells for _, cells in records[:SAMPLE_ROWS]]
    for layout in cdr_format.layouts:
        positions = {name: index for index, name in enumerate(layout.columns)}
        unlike = _unlike(rows, positions, cdr_format, layout.where)
        count = len(layout.columns)
        has_shape = sum(_has_shape(cells, count) or layout.open_end for cells in rows) >= LEAST_SHARE * len(rows)
        wanted = len({**cdr_format.detect.patterns, **layout.where}) + 1
        share = 1 - (len(unlike) + (not has_shape)) / wanted
        cells = "" if has_shape else f"rows have not {count} cells"
        looks = f"the cells look different in {', '.join(unlike)}" if unlike else ""
        if share >= 0.5:
            yield share, Nearest(cdr_format.name, (), ", and ".join(filter(None, (cells, looks))))


def _unlike(
    rows: Sequence[Sequence[str]],
    positions: Mapping[str, int],
    cdr_format: CdrFormat,
    where: Mapping[str, str] = MappingProxyType({}),
) -> list[str]:
    """Return the columns, as the operator sees them, whose pattern most rows do not match."""
    return [
        cdr_format.shown(name)
        for name, pattern in {**cdr_format.detect.patterns, **where}.items()
        if name not in positions
        or sum(_fits(row, {name: positions[name]}, {name: pattern}, cdr_format) for row in rows)
        < LEAST_SHARE * len(rows)
    ]
