"""Which format a file is of, decided by its content alone: exactly one must match."""

import csv
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from itertools import chain, islice, product, zip_longest
from pathlib import Path

from importer.errors import InputUnusableError
from importer.files import export
from importer.files.export import ExportFile
from importer.files.packing import sql_dump
from importer.files.spooling import csv_blocks
from importer.files.workbooks import EMPTY_COLUMNS
from importer.formats import headers
from importer.formats.cells import Dialect, plain_cell, without_point
from importer.formats.dates import DateOrder, bare_time, column_layouts, written_back
from importer.formats.detected import Detection
from importer.formats.language import CdrFormat, LookAlike, Shape
from importer.formats.resaved import with_rewritten
from importer.formats.sample import (
    HEADER_RECORDS,
    ONE_COLUMN_TODO,
    RESAVED_DELIMITERS,
    SAMPLE_ROWS,
    Records,
    Sample,
    column_key,
    outline_of,
    sample_text,
)
from importer.settings.options import Settings
from schemas.vocabulary import REASON_COLUMNS, RESULT_COLUMNS

UNKNOWN_TODO = (
    "Answer questions about it at a terminal: `cdr-importer init --from FILE`, or see `cdr-importer formats`."
)
HEADER_TODO = "If the system can write the names of the columns above the rows, export the file with them. "
LEAST_SHARE = 0.6
"""Share of the first rows that must fit an export without header; the others are its bad rows."""

NEAR_SHARE = 0.5
"""So many of a format's columns, or of the patterns of its cells, make it one that a file is near to."""

LATIN_ENCODINGS = frozenset({"utf-8", "cp1252", "latin-1"})

MOST_NULS = 4
"""More than one NUL among so many characters makes a text UTF-16 that nothing marks."""

_T_IN_ISO = re.compile(r"(?<=\d-\d\d)[Tt](?=\d\d:)| {2,}(?=\d\d:)")

Match = tuple[int, partial[Detection]]
"""How many rows fit a format, and how the file is read in it: all but file, format and encoding."""


class UnknownFormatError(InputUnusableError):
    """A file is of no format known here, or not of the one that was named."""


def detect(
    path: Path, formats: Sequence[CdrFormat], settings: Settings, lookalikes: Sequence[LookAlike] = ()
) -> Detection | None:
    """Return how this file is to be read, None for a results file of this program, which is to be passed over.

    `-` is standard input, and a packed file is unpacked. What the operator says about the file in ``settings``
    outranks what is found; where that is a format, ``formats`` has this one only. Raises NoInputError when it
    cannot be read at all, InputUnusableError when it is damaged, empty, in no encoding that could be decided, one
    of the ``lookalikes``, of no format known here, or of more than one.
    """
    with export.readable(path):
        # The one sheet that a format knows, the first of those without rows if none has any. Where two have rows,
        # taking the first would leave out the calls of the other, night by night and in silence.
        found: list[tuple[ExportFile, Detection | None]] = []
        unknown: list[UnknownFormatError] = []
        is_header = partial(headers.format_of_header, shapes=(*formats, *lookalikes))
        for tables in export.open_tables(path, settings.sheet, is_header):
            for table in tables:
                try:
                    found.append((table, _detect(table, formats, settings, lookalikes)))
                except UnknownFormatError as error:
                    unknown.append(error)
            if found:
                break
        with_rows = [each for each in found if each[1] is None or each[1].sample]
        if all(_is_same(with_rows[0][1], each) for _, each in with_rows[1:]):
            del with_rows[1:]
        if len(with_rows) > 1:
            first = found[0][0]
            if first.sheet is None:
                raise InputUnusableError(
                    f"{first.shown} has calls in more than one list of objects",
                    hint="Save each list in a file of its own.",
                )
            names = ", ".join(repr(table.sheet) for table, _ in with_rows)
            raise InputUnusableError(
                f"{replace(first, sheet=None).shown} has calls on more than one sheet: {names}",
                hint="Say with --sheet NAME which one is meant; for each further one, import the file again.",
            )
        if not found:
            raise unknown[0]
        for table, _ in with_rows:
            if table.fault is not None:  # a page with an answer of a fault, or calls in two lists
                raise table.fault
        return (with_rows or found)[0][1]


def _is_same(one: Detection | None, other: Detection | None) -> bool:
    """Return whether two lists of objects are the same calls in all that their format requires of each.

    An API that gives its list a new name answers with both for a while: Zoom Phone with call_logs and call_history
    (developers.zoom.us/changelog/phone, upcoming deprecation of Call Log APIs).
    """
    if one is None or other is None or one.file.sheet is not None or one.format.name != other.format.name:
        return False
    with suppress(csv.Error):  # a cell that is longer than such a reader takes
        return all(first == second for first, second in zip_longest(*map(_required_cells, (one, other))))
    return False


def _required_cells(found: Detection) -> Iterator[list[str]]:
    places = found.places(found.format.columns)
    with found.file.open_text(found.encoding) as text:
        yield from ([cells[place] for place in places] for cells in islice(csv.reader(text), 1, None) if cells)


def _detect(
    file: ExportFile, formats: Sequence[CdrFormat], settings: Settings, lookalikes: Sequence[LookAlike]
) -> Detection | None:
    if file.is_table:
        # Written by us: what the operator says of other files does not hold, and delimiters are quoted.
        settings = replace(settings, encoding="utf-8", delimiter=",")
        formats = [
            each.model_copy(update={"file": each.file.model_copy(update={"spill": None})}) for each in formats
        ]
    encoding = export.certain_encoding(file, settings.encoding)
    text, is_cut = sample_text(file, encoding or "latin-1")
    if not text and file.has_objects:
        if settings.format is None:
            raise InputUnusableError(
                f"{file.shown} is an empty list, so nothing says which system wrote it",
                hint="Name its format, with --format or in the config file: then it is of a day without calls.",
            )
        file = export.table_of(file, csv_blocks([[names[0] for names in formats[0].columns.values()]]))
        text, is_cut = sample_text(file, "utf-8")
    _require_text(text, encoding, file.shown)
    header = tuple(next(csv.reader(text.lstrip("\ufeff").splitlines()[:1]), ()))
    if settings.format is None and header in (RESULT_COLUMNS, REASON_COLUMNS):
        return None
    # The last columns of a sheet may be empty on all rows, so they are looked at only where it fits nothing else.
    for of_table, left_out in product((False, True), (EMPTY_COLUMNS, 0) if file.sheet is not None else (0,)):
        sample = Sample(text, file.first_line, left_out, of_table=of_table, is_cut=is_cut, shown=file.shown)
        if matches := [(each, found) for each in formats if (found := _match(sample, each, settings))]:
            break
    if not matches:
        # A header of other letters, as Excel saves it in Russia. Else bytes that are no UTF-8 are Latin letters.
        named = {each for one in formats for each in one.file.encodings if encoding is None} - LATIN_ENCODINGS
        for other in sorted(each for each in named if export.first_undecodable(file, each) is None):
            with suppress(UnknownFormatError):
                return _detect(file, formats, replace(settings, encoding=other), lookalikes)
        raise _unfit(file, sample, formats, settings, lookalikes)
    if len(matches) > 1:
        raise InputUnusableError(
            f"{file.shown} fits more than one format: {' and '.join(each.name for each, _ in matches)}",
            hint="Say which one it is with --format NAME.",
        )
    cdr_format, (_, read_by) = matches[0]
    encoding = encoding or export.fallback_encoding(file, cdr_format.file.encodings)
    detection = read_by(file=file, format=cdr_format, encoding=encoding)
    headers.require_sound(sample, detection, formats)
    return with_rewritten(detection, settings.date_order)


def _require_text(text: str, encoding: str | None, shown: str) -> None:
    """Raise InputUnusableError for an empty file, and for UTF-16 that was read as UTF-8."""
    if not text.strip("\ufeff \t\r\n"):
        raise InputUnusableError(
            f"{shown} is empty",
            hint="An export of a day without calls has at least its header line. One that never has a header, "
            "like Asterisk's Master.csv, is empty when a rotation has just begun it anew: import the file before "
            "it too.",
        )
    if encoding == "utf-8" and text.count("\0") > len(text) // MOST_NULS:
        raise InputUnusableError(
            f"{shown} seems to be UTF-16 text without a byte order mark: every other byte is zero",
            hint="Say so with --encoding utf-16-le (or utf-16-be), or save it as UTF-8.",
        )


def _match(sample: Sample, cdr_format: Shape, settings: Settings) -> Match | None:
    """Return how a file is read in this format: by the delimiter, then the quoting, that fit best.

    A format that the operator names need not be proved by what its cells look like: rows to be mended may be few.
    """
    least_share = 0.0 if settings.format else LEAST_SHARE
    # The rows below a header fit a layout too, so the header is looked for first.
    matches = (_match_header,) * bool(cdr_format.columns) + (_match_layout,) * bool(cdr_format.layouts)
    for match, delimiter in product(matches, _delimiters(sample, cdr_format, settings)):
        found = [
            fit
            for dialect in sample.dialects(cdr_format.file, delimiter)
            if any(len(cells) > 1 for _, cells in sample.records(dialect)[:HEADER_RECORDS])
            and (fit := match(sample, cdr_format, dialect, least_share))
        ]
        if found:
            return max(found, key=lambda fit: fit[0])
    return None


def _delimiters(sample: Sample, cdr_format: Shape, settings: Settings) -> tuple[str, ...]:
    if cdr_format.file.columns:
        return ("\t",)  # of printed text, which is cut into cells
    if settings.delimiter:
        return (settings.delimiter,)
    named = (sample.separator,) if sample.separator else ()
    return tuple(dict.fromkeys((*named, *cdr_format.file.delimiters, *RESAVED_DELIMITERS)))


def _match_header(sample: Sample, cdr_format: Shape, dialect: Dialect, least_share: float) -> Match | None:
    records = sample.records(dialect)
    if not headers.has_columns(sample.header_keys[dialect], cdr_format):
        return None
    patterns = cdr_format.detect.patterns
    for index, (line, cells) in enumerate(records[:HEADER_RECORDS]):
        positions = headers.header_positions(cells, cdr_format)
        if not positions:
            continue
        if headers.forbidden_in(cells, cdr_format):
            return None
        headers.require_clear(cells, positions, cdr_format, sample.shown)
        field_count = len(cells) if any(cells[-1:]) else len(headers.without_empty_tail(cells))
        for line_above, above in records[:index]:
            if headers.header_positions(headers.cells_by_any_delimiter(above, dialect.delimiter), cdr_format):
                raise InputUnusableError(
                    f"{sample.shown}: a header stands in line {line_above}, and again in line {line} with another "
                    "delimiter",
                    hint=headers.TWO_LAYOUTS,
                )
        needed = headers.call_places(cdr_format, positions)
        for _, above in records[:index]:
            is_full = len(above) == field_count and 2 * sum(map(bool, above)) > field_count
            is_call = needed and all(re.search(r"\d", "".join(above[place : place + 1])) for place in needed)
            if (is_full or is_call) and _fitting([above], positions, patterns, cdr_format):
                return None  # it is the header of another export, put behind this one
        rows = sample.rows(dialect, index + 1, field_count, positions.get(cdr_format.file.spill or ""))
        rows = [row for row in rows if not headers.header_positions(row, cdr_format, positions)]
        fitting = len(_fitting(rows, positions, patterns, cdr_format))
        if fitting < least_share * len(rows):
            return None
        fitting += sum(_has_shape(row, field_count) for row in rows)
        return fitting, partial(
            Detection,
            dialect=dialect,
            header_line=line,
            header=cells,
            positions=positions,
            field_count=field_count,
            sample=tuple(rows),
            last_line_above=line,
            titles=frozenset(filter(None, (headers.title_key(above) for _, above in records[:index]))),
        )
    return None


def _match_layout(sample: Sample, cdr_format: Shape, dialect: Dialect, least_share: float) -> Match | None:
    found: list[Match] = []
    if any(headers.forbidden_in(cells, cdr_format) for _, cells in sample.records(dialect)[:HEADER_RECORDS]):
        return None
    for layout in cdr_format.layouts:
        count = len(layout.columns)
        positions = {name: index for index, name in enumerate(layout.columns)}
        patterns = {**cdr_format.detect.patterns, **layout.where}
        rows = sample.rows(dialect, 0, count, positions.get(cdr_format.file.spill or ""))
        shaped = [row for row in rows if _has_shape(row[:count] if layout.open_end else row, count)]
        fitting = len(_fitting(shaped, positions, patterns, cdr_format))
        read_by = partial(
            Detection,
            dialect=dialect,
            positions=positions,
            field_count=count,
            sample=tuple(rows),
            last_line_above=1 if sample.separator else 0,
            open_end=layout.open_end,
        )
        if fitting:
            found.append((fitting, read_by))
        if fitting >= LEAST_SHARE * len(rows):
            break
    # Lines that are no rows fit no layout: without them an earlier one, which has more columns, may fit enough.
    most = max((fitting for fitting, _ in found), default=0)
    is_enough = most >= least_share * len(rows)
    return next((match for match in found if is_enough and match[0] >= LEAST_SHARE * most), None)


def _has_shape(cells: Sequence[str], count: int) -> bool:
    return len(cells) >= count and not any(cell.strip() for cell in cells[count:])


def _fitting(
    rows: Sequence[Sequence[str]], positions: Mapping[str, int], patterns: Mapping[str, str], cdr_format: Shape
) -> list[Sequence[str]]:
    """Return the rows that match every pattern from end to end.

    A time may be one that another program wrote anew: with a fraction, an offset, in ISO 8601, or in the way of a
    spreadsheet.
    """
    left, choices = [*rows], []
    if isinstance(cdr_format, CdrFormat):
        parts = column_layouts(cdr_format.time.formats, len(cdr_format.time.columns))
        choices = [*product(chain.from_iterable(parts), DateOrder)]
    for name, pattern in patterns.items():
        if not left or name not in positions:
            return []
        texts = [plain_cell(cells[positions[name]]) if positions[name] < len(cells) else None for cells in left]
        filled = {text for text in texts if text is not None}
        sound = _whole(filled, pattern)
        spelt: dict[str, set[str]] = {}
        for text in filled - sound:
            bare = bare_time(text)
            spelt[text] = {without_point(text), _T_IN_ISO.sub(" ", bare)}
            spelt[text] |= {written_back(bare, (layout,), order, fill_seconds=True) for layout, order in choices}
        others_sound = _whole(set().union(*spelt.values()), pattern)
        sound |= {text for text, others in spelt.items() if others & others_sound}
        left = [cells for cells, text in zip(left, texts, strict=True) if text in sound]
    return left


def _whole(texts: set[str], pattern: str) -> set[str]:
    if not texts:
        return set()
    import pyarrow as pa
    import pyarrow.compute as pc

    cells = pa.array([*texts], pa.large_string())
    return {*cells.filter(pc.match_substring_regex(cells, pattern=f"^(?:{pattern})$")).to_pylist()}


def _unfit(
    file: ExportFile,
    sample: Sample,
    formats: Sequence[CdrFormat],
    settings: Settings,
    lookalikes: Sequence[LookAlike],
) -> InputUnusableError:
    """Return the error of a file that no format fits; it names the three nearest formats.

    A format is near from `NEAR_SHARE` on, and where the operator named it.
    """
    if alike := next((each for each in lookalikes if _match(sample, each, settings)), None):
        return InputUnusableError(f"{file.shown} is a {alike.title}: {alike.why}", hint=alike.todo)
    near: list[tuple[float, str]] = []
    for cdr_format in formats:
        scored: list[tuple[float, str]] = []
        for delimiter in _delimiters(sample, cdr_format, settings):
            scored += _near(sample.records(next(sample.dialects(cdr_format.file, delimiter))), cdr_format)
        share, difference = max(scored, key=lambda pair: pair[0], default=(-1.0, ""))
        if share >= (0 if settings.format else NEAR_SHARE):
            near.append((share, f"Nearest: {cdr_format.name} ({difference}). "))
    if not near and sample.text.lstrip("\ufeff \t\r\n").upper().startswith("INSERT INTO "):
        return sql_dump(file.shown)
    # A value with digits in a row may be a telephone number: it is not shown.
    outline = outline_of(sample, settings.delimiter, has_keys=file.has_objects)
    header = [cell.strip() for cell in outline.header[:12]]
    shown = ", ".join(cell[:40] for cell in header if re.fullmatch(r"[^\d\n]{1,40}\d?", cell))
    named = f"is not of format {formats[0].name}, which --format or the config file names"
    what = named if settings.format else "is of no format known here"
    columns = f"column names found: {shown}" if shown else "no line of it looks like a header"
    nearest = "".join(text for _, text in sorted(near, key=lambda pair: -pair[0])[:3])
    todo = f"{'' if shown else HEADER_TODO}{UNKNOWN_TODO}" if outline.delimiter else ONE_COLUMN_TODO
    return UnknownFormatError(f"{file.shown} {what}; {columns}", hint=nearest + todo)


def _near(records: Records, cdr_format: CdrFormat) -> Iterator[tuple[float, str]]:
    """Yield which share of a format a file has, and what is missing or different.

    Of the columns, for each line that could be the header; of the patterns of the cells, for each layout.
    """
    for index, (_, cells) in enumerate(records[:HEADER_RECORDS] if cdr_format.columns else ()):
        keys = {*map(column_key, cells)}
        missing = [texts[0] for texts in cdr_format.columns.values() if keys.isdisjoint(map(column_key, texts))]
        if missing:
            difference = f"missing: {', '.join(missing)}"
        elif forbidden := headers.forbidden_in(cells, cdr_format):
            difference = f"it has the column {forbidden[0]} of another system"
        else:
            rows = [row for _, row in records[index + 1 :]][:SAMPLE_ROWS]
            unlike = _unlike(
                rows, headers.header_positions(cells, cdr_format), cdr_format.detect.patterns, cdr_format
            )
            difference = f"the cells look different in {', '.join(unlike) or 'some rows'}"
        yield 1 - len(missing) / len(cdr_format.columns), difference
    rows = [cells for _, cells in records[:SAMPLE_ROWS]]
    for layout in cdr_format.layouts:
        positions = {name: index for index, name in enumerate(layout.columns)}
        patterns = {**cdr_format.detect.patterns, **layout.where}
        unlike = _unlike(rows, positions, patterns, cdr_format)
        count = len(layout.columns)
        has_shape = sum(_has_shape(cells, count) or layout.open_end for cells in rows) >= LEAST_SHARE * len(rows)
        share = 1 - (len(unlike) + (not has_shape)) / (len(patterns) + 1)
        width = "" if has_shape else f"rows have not {count} cells"
        looks = f"the cells look different in {', '.join(unlike)}" if unlike else ""
        yield share, ", and ".join(filter(None, (width, looks)))


def _unlike(
    rows: Sequence[Sequence[str]], positions: Mapping[str, int], patterns: Mapping[str, str], cdr_format: CdrFormat
) -> list[str]:
    """Return the columns, as the operator sees them, whose pattern most rows do not match."""
    return [
        cdr_format.shown(name)
        for name, pattern in patterns.items()
        if name not in positions
        or len(_fitting(rows, {name: positions[name]}, {name: pattern}, cdr_format)) < LEAST_SHARE * len(rows)
    ]
