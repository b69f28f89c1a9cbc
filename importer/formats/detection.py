"""Which format a file is of, decided by its content alone: exactly one must match."""

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from types import MappingProxyType

from importer.errors import InputUnusableError
from importer.files import EMPTY_COLUMNS, ExportFile, open_tables, sql_dump
from importer.formats.cells import Dialect, plain_cell
from importer.formats.dates import bare_time, column_layouts, restorations
from importer.formats.detected import Detection, Overrides, OwnOutput
from importer.formats.encoding import certain_encoding, fallback_encoding
from importer.formats.language import CdrFormat, Layout, LookAlike, Quotes, Shape
from importer.formats.patterns import fits_whole
from importer.formats.rewriting import rewriting_of
from importer.formats.sample import (
    HEADER_RECORDS,
    PRINTED,
    RESAVED_DELIMITERS,
    SAMPLE_ROWS,
    Records,
    Sample,
    column_key,
    outline_of,
    sample_text,
)
from schemas.vocabulary import RESULT_COLUMNS

__all__ = ["Detection", "Overrides", "OwnOutput", "detect"]

UNKNOWN_TODO = "See `cdr-importer formats`, or draft a format of your own with `cdr-importer formats new`."
HEADER_TODO = "If the system can write the names of the columns above the rows, export the file with them. "
LEAST_SHARE = 0.6
"""Share of the first rows that must fit an export without header; the others are its bad rows."""

NEAR_SHARE = 0.5
"""So many of a format's columns, or of the patterns of its cells, make it one that a file is near to."""

MOST_NULS = 4
"""More than one NUL among so many characters makes a text UTF-16 that nothing marks."""

_T_IN_ISO = re.compile(r"(?<=\d-\d\d)[Tt](?=\d\d:)| {2,}(?=\d\d:)")


@dataclass(frozen=True, slots=True)
class _Match:
    dialect: Dialect
    header_line: int | None
    header: tuple[str, ...]
    positions: Mapping[str, int]
    field_count: int
    rows: tuple[tuple[str, ...], ...]
    fitting: int
    open_end: bool = False
    titles: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Nearest:
    """A format that a file is near to, and the columns it misses; ``otherwise`` is what else is different."""

    name: str
    missing: tuple[str, ...]
    otherwise: str = ""

    def told(self) -> str:
        """Return what is missing or different, for a person."""
        return f"missing: {', '.join(self.missing)}" if self.missing else self.otherwise


class EmptyFileError(InputUnusableError):
    """A file, or a sheet of a workbook, has nothing in it."""


class UnknownFormatError(InputUnusableError):
    """A file is of no format known here, or not of the one that was named; ``nearest`` are at most three."""

    def __init__(self, message: str, nearest: tuple[Nearest, ...], *, has_header: bool) -> None:
        near = "".join(f"Nearest: {each.name} ({each.told()}). " for each in nearest)
        header = "" if has_header else HEADER_TODO
        super().__init__(message, hint=f"{near}{header}{UNKNOWN_TODO}")
        self.nearest = nearest


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
    tables = open_tables(path, overrides.sheet)
    if len(tables) == 1:
        return _detect(tables[0], formats, overrides, lookalikes)
    return _only_sheet(tables, lambda table: _detect(table, formats, overrides, lookalikes))


def _detect(
    file: ExportFile, formats: Sequence[CdrFormat], overrides: Overrides, lookalikes: Sequence[LookAlike]
) -> Detection | OwnOutput:
    if file.is_table:
        # Written by us: what the operator says of the text of other files does not hold for it.
        overrides = replace(overrides, encoding="utf-8", delimiter=",")
    encoding = certain_encoding(file, overrides.encoding)
    text, is_cut = sample_text(file, encoding or "latin-1")
    if not text.strip("\ufeff \t\r\n"):
        raise EmptyFileError(
            f"{file.shown} is empty", hint="An export of a day without calls has at least its header line."
        )
    if encoding == "utf-8" and text.count("\0") > len(text) // MOST_NULS:
        raise _unmarked_utf16(file)
    if overrides.format is None and _is_own_output(text):
        return OwnOutput(file.path)
    candidates = [overrides.format] if overrides.format else formats
    if file.is_table:
        candidates = [_without_spill(each) for each in candidates]
    sample = Sample(text, file.first_line, EMPTY_COLUMNS if file.sheet is not None else 0, is_cut=is_cut)
    matches = [(each, found) for each in candidates if (found := _match(sample, each, overrides))]
    if not matches and file.sheet is not None:  # its last columns may be empty on all rows
        sample = Sample(text, file.first_line, is_cut=is_cut)
        matches = [(each, found) for each in candidates if (found := _match(sample, each, overrides))]
    if not matches:
        alike = next((each for each in lookalikes if _match(sample, each, overrides)), None)
        unknown = _unknown(file, sample, candidates, overrides)
        if not unknown.nearest and text.lstrip("\ufeff \t\r\n").upper().startswith("INSERT INTO "):
            raise sql_dump(file.shown)
        raise _refused(file, alike) if alike else unknown
    if len(matches) > 1:
        raise _ambiguous(file, [each.name for each, _ in matches])
    detection = _detection(file, sample, *matches[0], encoding)
    return replace(detection, rewriting=rewriting_of(detection, overrides.date_order))


def _without_spill(cdr_format: CdrFormat) -> CdrFormat:
    """Return a format for cells that are told apart already: none holds a delimiter that nothing quotes."""
    if cdr_format.file.spill is None:
        return cdr_format
    return cdr_format.model_copy(update={"file": cdr_format.file.model_copy(update={"spill": None})})


def _only_sheet(
    sheets: Sequence[ExportFile], detected: Callable[[ExportFile], Detection | OwnOutput]
) -> Detection | OwnOutput:
    """Return the one sheet that a format knows, the first of those without rows if none has any.

    Raises InputUnusableError where two have rows: taking the first would leave out the calls of the other, night
    by night and in silence. Where no sheet is known, raises what is wrong with the first that is not empty.
    """
    found: list[tuple[ExportFile, Detection | OwnOutput]] = []
    unknown: list[InputUnusableError] = []
    for sheet in sheets:
        try:
            found.append((sheet, detected(sheet)))
        except (UnknownFormatError, EmptyFileError) as error:
            unknown.append(error)
    with_rows = [each for each in found if isinstance(each[1], OwnOutput) or each[1].sample]
    if len(with_rows) > 1:
        names = ", ".join(repr(sheet.sheet) for sheet, _ in with_rows)
        raise InputUnusableError(
            f"{replace(sheets[0], sheet=None).shown} has calls on more than one sheet: {names}",
            hint="Say with --sheet NAME which one is meant; for each further one, import the file again.",
        )
    if not found:
        raise next((error for error in unknown if isinstance(error, UnknownFormatError)), unknown[0])
    return (with_rows or found)[0][1]


def title_key(cells: Sequence[str]) -> str:
    """Return how a line above a header begins, up to the first digit or colon: dates and counts behind it vary."""
    return column_key(re.split(r"[\d:]", next(filter(None, map(plain_cell, cells)), ""), maxsplit=1)[0])


def header_positions(cells: Sequence[str], cdr_format: Shape, positions: Mapping[str, int]) -> dict[str, int]:
    """Return where the columns stand that a record names if it is a header of the format, nothing if it is none.

    ``positions`` are those of the file. A file without header has one where another program's export was put
    behind it: it names most of the columns.
    """
    keys = [column_key(cell) for cell in cells]
    if cdr_format.columns and next(_missing_columns(keys, cdr_format), None) is None:
        spellings: Mapping[str, Sequence[str]] = {**cdr_format.columns, **cdr_format.optional_columns}
    elif cdr_format.layouts:
        spellings = {name: (name,) for name in positions}
    else:
        return {}
    wanted = {name: {*map(column_key, texts)} for name, texts in spellings.items()}
    found = {
        name: next(place for place, key in enumerate(keys) if key in texts)
        for name, texts in wanted.items()
        if not texts.isdisjoint(keys)
    }
    return found if not cdr_format.layouts or len(found) >= LEAST_SHARE * len(positions) else {}


def _is_own_output(text: str) -> bool:
    first = text.lstrip("\ufeff").splitlines()[0] if text.strip() else ""
    return next(csv.reader([first]), []) == list(RESULT_COLUMNS)


def _match(sample: Sample, cdr_format: Shape, overrides: Overrides) -> _Match | None:
    """Return how a file is read in this format: by the delimiter, then the quoting, that fit best.

    A format that the operator names need not be proved by what its cells look like: rows to be mended may be few.
    """
    least_share = 0.0 if overrides.format else LEAST_SHARE
    # The rows below a header fit a layout too, so the header is looked for first.
    matches = (_match_header,) * bool(cdr_format.columns) + (_match_layout,) * bool(cdr_format.layouts)
    if spans := cdr_format.file.spans:
        return _match_layout(sample, cdr_format, replace(PRINTED, spans=spans), least_share)
    for match, delimiter in product(matches, _delimiters(sample, cdr_format, overrides)):
        found = [
            fit
            for dialect in _dialects(sample, cdr_format, delimiter)
            if sample.has_cells(dialect) and (fit := match(sample, cdr_format, dialect, least_share))
        ]
        if found:
            return max(found, key=lambda fit: fit.fitting)
    return None


def _delimiters(sample: Sample, cdr_format: Shape, overrides: Overrides) -> tuple[str, ...]:
    if overrides.delimiter:
        return (overrides.delimiter,)
    told = (sample.told,) if sample.told else ()
    return tuple(dict.fromkeys((*told, *cdr_format.file.delimiters, *RESAVED_DELIMITERS)))


def _dialects(sample: Sample, cdr_format: Shape, delimiter: str) -> Iterator[Dialect]:
    """Yield the ways in which the cells may be quoted: that of the format, and what a spreadsheet makes of it."""
    spec = cdr_format.file
    own = Dialect(delimiter, spec.quotes, spec.skip_initial_space)
    anew = Dialect(delimiter, Quotes.DOUBLED, spec.skip_initial_space)
    if spec.quotes is Quotes.NONE:
        yield from (anew, own) if sample.has_quoted_cells(delimiter) else (own, anew)
    elif sample.has_escaped_quotes(delimiter):
        yield replace(anew, quotes=Quotes.BACKSLASH)
    elif spec.quotes is Quotes.BACKSLASH:
        yield anew if sample.has_quoted_cells(delimiter) else own
    else:
        yield anew if spec.quotes is Quotes.BARE and sample.has_doubled_quotes(delimiter) else own


def _match_header(sample: Sample, cdr_format: Shape, dialect: Dialect, least_share: float) -> _Match | None:
    records = sample.records(dialect)
    for index, (line, cells) in enumerate(records[:HEADER_RECORDS]):
        keys = [column_key(cell) for cell in cells]
        if next(_missing_columns(keys, cdr_format), None) is not None:
            continue
        if _has_forbidden(cells, cdr_format):
            return None
        positions = _positions(cells, keys, cdr_format)
        field_count = len(cells) if any(cells[-1:]) else len(without_empty_tail(cells))
        spill = positions.get(cdr_format.file.spill or "")
        if any(_is_row(above, field_count, positions, cdr_format) for _, above in records[:index]):
            return None  # a header behind rows is that of another export, put behind this one
        rows = sample.rows(dialect, index + 1, field_count, spill)
        rows = [row for row in rows if not header_positions(row, cdr_format, positions)]
        fitting = sum(_fits(row, positions, cdr_format.detect.patterns, cdr_format) for row in rows)
        if fitting < least_share * len(rows):
            return None
        fitting += sum(_has_shape(row, field_count) for row in rows)
        titles = frozenset(filter(None, (title_key(above) for _, above in records[:index])))
        return _Match(dialect, line, tuple(cells), positions, field_count, tuple(rows), fitting, titles=titles)
    return None


def _is_row(cells: Sequence[str], field_count: int, positions: Mapping[str, int], cdr_format: Shape) -> bool:
    """Say whether a line is no title: as wide as a row, mostly filled, and like rows of the format."""
    is_filled = len(cells) == field_count and 2 * sum(map(bool, cells)) > field_count
    return is_filled and _fits(cells, positions, cdr_format.detect.patterns, cdr_format)


def without_empty_tail(cells: Sequence[str]) -> tuple[str, ...]:
    """Return cells up to the last one that is filled."""
    kept = list(cells)
    while kept and not kept[-1].strip():
        kept.pop()
    return tuple(kept)


def _missing_columns(keys: Sequence[str], cdr_format: Shape) -> Iterator[str]:
    """Yield the columns of a format that a header lacks, by the first of their spellings."""
    for spellings in cdr_format.columns.values():
        if not any(column_key(spelling) in keys for spelling in spellings):
            yield spellings[0]


def _has_forbidden(cells: Sequence[str], cdr_format: Shape) -> bool:
    """Say whether a header, or what may be one, names a column that the format never has."""
    names = {column_key(name) for name in cdr_format.detect.forbidden}
    return bool(names) and any(column_key(cell) in names for cell in cells)


def _positions(cells: Sequence[str], keys: Sequence[str], cdr_format: Shape) -> dict[str, int]:
    """Return where each column of a format stands; of several spellings the first that the header has counts."""
    positions = {}
    for name, spellings in {**cdr_format.columns, **cdr_format.optional_columns}.items():
        wanted = next((key for key in map(column_key, spellings) if key in keys), None)
        found = [index for index, key in enumerate(keys) if key == wanted]
        if len(found) > 1 and name in cdr_format.used_columns():
            raise InputUnusableError(
                f"the header has column {cells[found[0]]!r} twice (cells {found[0] + 1} and {found[1] + 1})",
                hint="Remove one of the two columns from the export.",
            )
        if found:
            positions[name] = found[0]
    return positions


def _match_layout(sample: Sample, cdr_format: Shape, dialect: Dialect, least_share: float) -> _Match | None:
    best: _Match | None = None
    if any(_has_forbidden(cells, cdr_format) for _, cells in sample.records(dialect)[:HEADER_RECORDS]):
        return None
    for layout in cdr_format.layouts:
        count = len(layout.columns)
        positions = {name: index for index, name in enumerate(layout.columns)}
        spill = positions.get(cdr_format.file.spill or "")
        rows = sample.rows(dialect, 0, count, spill)
        fitting = sum(_fits_layout(cells, layout, positions, cdr_format) for cells in rows)
        found = _Match(dialect, None, (), positions, count, tuple(rows), fitting, layout.open_end)
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
    if fits_whole(pattern, text):
        return True
    bare = bare_time(text)
    if fits_whole(pattern, _T_IN_ISO.sub(" ", bare)):
        return True
    if not isinstance(cdr_format, CdrFormat):
        return False
    parts = column_layouts(cdr_format.time.formats, len(cdr_format.time.columns))
    return any(fits_whole(pattern, before) for part in parts for before in restorations(bare, part))


def _detection(
    file: ExportFile, sample: Sample, cdr_format: CdrFormat, match: _Match, encoding: str | None
) -> Detection:
    return Detection(
        file=file,
        format=cdr_format,
        encoding=encoding or fallback_encoding(file, cdr_format.file.encodings),
        delimiter=match.dialect.delimiter,
        header_line=match.header_line,
        header=match.header,
        positions=match.positions,
        field_count=match.field_count,
        sample=match.rows,
        last_line_above=match.header_line or (1 if sample.told else 0),
        quotes=match.dialect.quotes,
        open_end=match.open_end,
        titles=match.titles,
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
    file: ExportFile, sample: Sample, formats: Sequence[CdrFormat], overrides: Overrides
) -> UnknownFormatError:
    seen = outline_of(sample, overrides.delimiter)
    shown = ", ".join(cell.strip()[:40] for cell in seen.header[:12] if _is_header_word(cell))
    found = f"column names found: {shown}" if shown else "no line of it looks like a header"
    what = f"is not of format {formats[0].name}" if overrides.format else "is of no format known here"
    return UnknownFormatError(
        f"{file.shown} {what}; {found}", tuple(_nearest(sample, formats, overrides)), has_header=bool(shown)
    )


def _is_header_word(cell: str) -> bool:
    """Say whether a cell can be shown as a column name: a value with digits in a row may be a number."""
    return bool(re.fullmatch(r"[^\d\n]{1,40}\d?", cell.strip()))


def _nearest(sample: Sample, formats: Sequence[CdrFormat], overrides: Overrides) -> list[Nearest]:
    """Return the three formats that miss least, the nearest first, each once.

    One that shares a word or two only is none, unless the operator named it.
    """
    scored: list[tuple[float, Nearest]] = []
    for cdr_format in formats:
        if spans := cdr_format.file.spans:
            scored += _near_layout(sample.records(replace(PRINTED, spans=spans)), cdr_format)
            continue
        for delimiter in _delimiters(sample, cdr_format, overrides):
            records = sample.records(next(_dialects(sample, cdr_format, delimiter)))
            scored += (*_near_header(records, cdr_format), *_near_layout(records, cdr_format))
    best: dict[str, Nearest] = {}
    for share, found in sorted(scored, key=lambda pair: -pair[0]):
        if share >= NEAR_SHARE or overrides.format:
            best.setdefault(found.name, found)
    return list(best.values())[:3]


def _near_header(records: Records, cdr_format: CdrFormat) -> Iterator[tuple[float, Nearest]]:
    """Yield for each line that could be the header which share of the columns it has, and what it misses."""
    for index, (_, cells) in enumerate(records[:HEADER_RECORDS] if cdr_format.columns else ()):
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


def _near_layout(records: Records, cdr_format: CdrFormat) -> Iterator[tuple[float, Nearest]]:
    """Yield for each layout which share of its patterns the rows have, and what is different."""
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
