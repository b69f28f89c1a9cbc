"""Which record is the header of a format, and which headers are refused because cells could be misread."""

import re
from collections.abc import Container, Iterable, Mapping, Sequence

from importer.errors import InputUnusableError
from importer.formats.cells import plain_cell
from importer.formats.detected import Detection
from importer.formats.language import CdrFormat, Shape
from importer.formats.sample import Sample, column_key

TWO_LAYOUTS = (
    "Exports of two layouts were put together into this file: import each by itself. Nothing of this file was "
    "used."
)
LEAST_SHARE_OF_COLUMNS = 0.6
"""So many of its columns a header names that another program has written for a format without one."""

_UNIT = re.compile(r"[(\[{,;/]| - |_[xy]$|\.[0-9]$")
"""What stands between the name of a column and its unit (`Duration (min)`), or what a merge in pandas adds."""


def header_positions(
    cells: Sequence[str], cdr_format: Shape, positions: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Return where the columns of a format stand if the record is a header of it, else nothing.

    A file of a format without header may have one where another program's export was appended to it. It is looked
    for only with ``positions``, those of the columns in the rows of the file.
    """
    keys = [column_key(cell) for cell in cells]
    spellings: Mapping[str, Sequence[str]] = {}
    if has_columns(keys, cdr_format):
        spellings = {**cdr_format.columns, **cdr_format.optional_columns}
    elif cdr_format.layouts:
        spellings = {name: (name,) for name in positions or ()}
    # Each by the first spelling that is there.
    there = {name: [key for key in map(column_key, texts) if key in keys] for name, texts in spellings.items()}
    found = {name: keys.index(some[0]) for name, some in there.items() if some}
    is_enough = not cdr_format.layouts or len(found) >= LEAST_SHARE_OF_COLUMNS * len(positions or ())
    return found if is_enough else {}


def has_columns(keys: Container[str], cdr_format: Shape) -> bool:
    """Return whether all columns that a header of the format has are among these keys."""
    required = cdr_format.columns.values()
    return bool(required) and all(any(column_key(text) in keys for text in texts) for texts in required)


def format_of_header(names: Iterable[str], shapes: Iterable[Shape]) -> str:
    """Return the name of the first format whose columns are all among these names, "" if they are no header."""
    keys = {*map(column_key, names)}
    return next((each.name for each in shapes if has_columns(keys, each)), "")


def cells_by_any_delimiter(cells: Sequence[str], delimiter: str) -> list[str]:
    """Return the cells of a line that ``delimiter`` has divided, divided by the other usual delimiters too."""
    return re.split(r"[,;|\t]", delimiter.join(cells))


def title_key(cells: Sequence[str]) -> str:
    """Return the text with which a line above a header begins, up to the first digit or colon.

    Dates and counts follow there, which differ from file to file.
    """
    return column_key(re.split(r"[\d:]", next(filter(None, map(plain_cell, cells)), ""), maxsplit=1)[0])


def without_empty_tail(cells: Sequence[str]) -> tuple[str, ...]:
    """Return cells up to the last one that is filled."""
    filled = [place for place, cell in enumerate(cells, start=1) if cell.strip()]
    return tuple(cells[: filled[-1]]) if filled else ()


def call_places(cdr_format: Shape, positions: Mapping[str, int]) -> tuple[int, ...]:
    """Return where start time and customer stand, except in the first cell: a row without both is no call."""
    if not isinstance(cdr_format, CdrFormat):
        return ()
    origins = cdr_format.origins(*cdr_format.time.columns, cdr_format.call.customer)
    return tuple(place for name, place in positions.items() if name in origins and place > 0)


def forbidden_in(cells: Sequence[str], cdr_format: Shape) -> list[str]:
    """Return the columns named in a record that a header of the format never has."""
    return [name for name in cdr_format.detect.forbidden if column_key(name) in map(column_key, cells)]


def require_clear(cells: Sequence[str], positions: Mapping[str, int], cdr_format: Shape, shown: str) -> None:
    """Raise InputUnusableError where a header has a column of the format twice, or apostrophes for quotes."""
    if all(re.fullmatch("'.+'", cell) for cell in cells if cell):
        raise InputUnusableError(
            f"{shown} has its cells between apostrophes, which would count as parts of them",
            hint="Export it with double quotes, or none.",
        )
    keys = [column_key(cell) for cell in cells]
    for name in cdr_format.used_columns() if isinstance(cdr_format, CdrFormat) else ():
        one = positions.get(name)
        if one is not None and keys.count(keys[one]) > 1:
            two = keys.index(keys[one], one + 1)
            raise InputUnusableError(
                f"{shown}: the header has column {cells[one]!r} twice (cells {one + 1} and {two + 1})",
                hint="Remove one of the two columns from the export.",
            )


def require_sound(sample: Sample, detection: Detection, formats: Iterable[CdrFormat]) -> None:
    """Raise InputUnusableError where rows would be missed, or a column with a unit or zone behind its name.

    With such an optional column it would perhaps be missed who answered. Rows between the header of another format
    and that of the file are calls, and would be taken for lines of a title.
    """
    if not detection.sample and any(re.search("[\v\f\u2028\u2029]", cell) for cell in detection.header):
        raise InputUnusableError(
            f"{detection.file.shown}: other signs stand for line ends (vertical tab, form feed, U+2028 or U+2029)",
            hint="Save it with the line ends of Windows or Unix.",
        )
    used = {*detection.positions.values()}
    others = [cell.strip() for place, cell in enumerate(detection.header) if place not in used]
    with_unit = {column_key(_UNIT.split(cell, maxsplit=1)[0]): cell for cell in others}
    for name, texts in detection.format.optional_columns.items():
        cell = next((with_unit[key] for key in map(column_key, texts) if key in with_unit), None)
        if cell and name in detection.format.used_columns() and name not in detection.positions:
            raise InputUnusableError(
                f"{detection.file.shown}: {cell!r} in the header may be column {texts[0]!r} of "
                f"{detection.format.name}",
                hint="Name it so if it holds the same in the same unit and zone, else remove it.",
            )
    for line, cells in sample.records(detection.dialect):
        if line >= (detection.header_line or 0):
            return
        if other := format_of_header(cells_by_any_delimiter(cells, detection.dialect.delimiter), formats):
            raise InputUnusableError(
                f"{detection.file.shown}: a header of {other} stands in line {line}, and one of "
                f"{detection.format.name} in line {detection.header_line}",
                hint=TWO_LAYOUTS,
            )
