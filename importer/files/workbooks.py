"""The sheets of a workbook (.xlsx, .xlsm, .xlsb, .xls, .ods) as rows of text, by calamine.

A cell becomes the text that an export has for it: a whole number all its digits, a date `2026-03-02`, a time
`09:14:07`, both with a space between, a duration `00:01:05`, truth `TRUE` or `FALSE`. Of a formula the value that
was saved counts. Excel keeps 15 digits of a number: a longer one has lost the rest, and is written `1.77443E+17`,
as Excel itself shows it and as rows are rejected for (`scientific_notation`). calamine gives cells with an error
(`#N/A`) as empty ones, so in .xlsx files they are looked up in the XML: an error is no empty cell.
"""

import posixpath
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import date, datetime, time, timedelta
from functools import reduce
from itertools import islice
from typing import BinaryIO, Final

from importer.errors import InputUnusableError
from importer.files.spooling import BLOCK_BYTES, most_unpacked

MOST_CELLS = 25_000_000
"""calamine keeps every cell between the first and the last of a sheet: so many take a gigabyte."""
MOST_WORKBOOK_BYTES = 1 << 30
HEAD_ROWS = 20
"""Titles and header stand among so many rows."""
EMPTY_COLUMNS = 8
"""So many empty cells are written behind each row: a sheet ends with its last filled column, while an export
without a header may have columns behind it that happen to be empty on all its rows."""
SPARE_COLUMNS = 32
"""A cell so far to the right of the first rows is a stray one, and widens its own row only."""
FEWEST_LOST = 10**15
"""Whole numbers from here on have more than the 15 digits that Excel keeps."""

OLE2: Final = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ZIP: Final = b"PK\x03\x04"
_ENCRYPTED: Final = "EncryptedPackage".encode("utf-16-le")
"""The stream in which Office keeps a workbook with a password (MS-OFFCRYPTO, section 2.3.4.4)."""
_OPEN_XML: Final = "[Content_Types].xml"
_OPEN_DOCUMENT: Final = b"mimetypeapplication/vnd.oasis.opendocument"
_FIRST_MEMBERS: Final = (_OPEN_XML.encode(), b"_rels/.rels", b"docProps/", _OPEN_DOCUMENT)
_BOOKS: Final = ("xl/workbook.xml", "xl/workbook.bin", "content.xml")

_CELL: Final = re.compile(rb"<(?:\w+:)?c ([^>]*[^/>])>(.*?)</(?:\w+:)?c>", re.DOTALL)
_PLACE: Final = re.compile(rb'(?:^| )r="([A-Z]{1,3})(\d{1,7})"')
_ERROR_TEXT: Final = re.compile(rb"<(?:\w+:)?v>(#[^<]*)<")
_FORMULA: Final = re.compile(rb"<(?:\w+:)?f[ >/]")
_SAVED: Final = re.compile(rb"<(?:\w+:)?v[^>/]*>[^<]")
_WIDE_COLUMNS: Final = re.compile(rb' r="([A-Z]{2,3})\d')
_ROW_NUMBERS: Final = re.compile(rb' r="[A-Z]{0,3}(\d{1,7})"')
_ODS_ROW: Final = re.compile(
    rb'<table:table-row\b(?:[^>]*number-rows-repeated="(\d{1,9})")?[^>]*>(.*?)</table:table-row>', re.DOTALL
)
_ODS_REPEATED: Final = re.compile(rb'number-columns-repeated="(\d{1,9})"')
_ROW_TAGS: Final = (b"<row ", b"<x:row ", b"<table:table-row")
"""`x:` is written by the Open XML SDK of Microsoft."""
LONGEST_ROW_BYTES = 16 << 20

Cell = str | float | bool | date | time | timedelta
Errors = dict[int, dict[int, str]]
"""Text of the cells that hold an error, by row and then column, both from 0."""


def is_workbook(opened: Callable[[], BinaryIO]) -> bool:
    """Return whether a file is a workbook, or a document of the same kind, by its content."""
    with opened() as source:
        start = source.read(512)
        if not start.startswith(ZIP):
            return start.startswith(OLE2)
        try:
            with zipfile.ZipFile(source) as archive:
                names = archive.namelist()
                is_open_document = "mimetype" in names and "content.xml" in names
                return _OPEN_XML in names or is_open_document
        except (zipfile.BadZipFile, NotImplementedError, ValueError):
            return start[30:].startswith(_FIRST_MEMBERS)


def sheets_of(source: BinaryIO, shown: str, wanted: str | None) -> Iterator[tuple[str, Iterator[list[str]]]]:
    """Yield name and rows of each sheet that is not hidden, or of the one that is ``wanted``.

    The rows start with the first of the sheet. Raises InputUnusableError for a workbook that is damaged,
    encrypted, too large, none at all or without the sheet, and where calamine is not installed.
    """
    errors = _checked(source, shown)
    try:
        from python_calamine import CalamineWorkbook, SheetTypeEnum, SheetVisibleEnum
    except ImportError:
        raise InputUnusableError(
            f"{shown} is a workbook, and what reads workbooks is not installed",
            hint="Install it into the environment of this program, pip install 'cdr-importer[xlsx]', or save the "
            "sheet as `CSV UTF-8` and import that file.",
        ) from None
    with _failures_named(shown):
        book = CalamineWorkbook.from_filelike(source)
    sheets = {each.name: each for each in book.sheets_metadata if each.typ == SheetTypeEnum.WorkSheet}
    shown_sheets = [name for name, each in sheets.items() if each.visible == SheetVisibleEnum.Visible]
    chosen = shown_sheets if wanted is None else [name for name in sheets if name.casefold() == wanted.casefold()]
    if not chosen:
        named = repr(wanted) if wanted else "that is not hidden"
        hint = f"Name one with --sheet: {', '.join(sheets) or 'there is none'}."
        raise InputUnusableError(f"{shown} has no sheet {named}", hint=hint)
    for name in chosen:
        with _failures_named(shown):
            sheet = book.get_sheet_by_name(name)
        first_column = sheet.start[1] if sheet.start else 0
        number = list(book.sheet_names).index(name)
        yield name, _rows(sheet.iter_rows, errors[number] if number < len(errors) else {}, first_column)


def _with_password(shown: str) -> InputUnusableError:
    return InputUnusableError(
        f"{shown} is a workbook with a password", hint="Save it without one, or as `CSV UTF-8`, and import that."
    )


@contextmanager
def _failures_named(shown: str) -> Iterator[None]:
    """Raise InputUnusableError for any failure of calamine."""
    from python_calamine import PasswordError

    try:
        yield
    except PasswordError:
        raise _with_password(shown) from None
    except BaseException as error:
        # A panic of Rust is no Exception, and its class can only be known by its name.
        if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
            raise
        reason = " ".join(str(error).split())[:120]
        raise InputUnusableError(
            f"{shown} is no workbook that can be read ({reason})",
            hint="If it is one, save it anew as .xlsx or `CSV UTF-8` in a spreadsheet program.",
        ) from error


def _rows(cells: Callable[[], Iterator[list[Cell]]], errors: Errors, first_column: int) -> Iterator[list[str]]:
    """Yield the rows of a sheet as text, from its column A on, all of one width except rows with stray cells.

    calamine leaves out empty columns on the left, which an export without a header counts.
    """
    widths: list[int] = []
    with_clock: set[int] = set()
    for row in cells():
        # How many cells a row has up to the last that is not empty.
        widths.append(next((place for place in range(len(row), 0, -1) if row[place - 1] != ""), 0))
        with_clock.update(place for place, cell in enumerate(row) if isinstance(cell, datetime))
    # The widest row but one: a stray cell may stand beside one of the first rows, too.
    head = sorted([0, *islice(filter(None, widths), HEAD_ROWS)])
    usual = min(max(widths, default=0), head[-2:][0] + SPARE_COLUMNS)
    for number, (row, width) in enumerate(zip(cells(), widths, strict=True)):
        texts = [_text(cell, place in with_clock) for place, cell in enumerate(row[:width])]
        if width or number in errors:
            texts = [*[""] * first_column, *texts, *[""] * (usual - width + EMPTY_COLUMNS)]
        for place, text in errors.get(number, {}).items():
            texts[place : place + 1] = [text]
        yield texts


def _text(cell: Cell, is_moment: bool) -> str:
    """Return a cell as text; with ``is_moment`` a date is in a column of moments and becomes one at midnight."""
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "TRUE" if cell else "FALSE"
    if isinstance(cell, int | float):
        number = float(cell)
        if number.is_integer():
            return f"{number:.0f}" if abs(number) < FEWEST_LOST else f"{number:.5E}"
        return f"{number:f}" if "e" in repr(number) else repr(number)
    if isinstance(cell, datetime):
        return cell.isoformat(" ", "milliseconds" if cell.microsecond else "seconds")
    if isinstance(cell, date):
        return f"{cell.isoformat()} 00:00:00" if is_moment else cell.isoformat()
    if isinstance(cell, time):
        return cell.isoformat("milliseconds" if cell.microsecond else "seconds")
    seconds, rest = divmod(cell.total_seconds(), 1)
    clock = f"{int(seconds) // 3600:02}:{int(seconds) // 60 % 60:02}:{int(seconds) % 60:02}"
    return f"{clock}.{round(rest * 1000):03}" if round(rest * 1000) else clock


def _checked(source: BinaryIO, shown: str) -> list[Errors]:
    """Return the cells with errors of each sheet, in the order of the sheets; nothing where they are not found.

    calamine unpacks into memory without a limit and aborts the process where memory ends, so size and extent are
    looked at here, and every member against its check sum. Raises InputUnusableError.
    """
    size = source.seek(0, 2)
    source.seek(0)
    if source.read(4) != ZIP:
        if size <= MOST_WORKBOOK_BYTES and _ENCRYPTED in source.read():
            raise _with_password(shown)
        source.seek(0)
        return []
    most_bytes = min(MOST_WORKBOOK_BYTES, most_unpacked(size))
    parts: dict[str, Errors] = {}
    try:
        with zipfile.ZipFile(source) as archive:
            members = archive.infolist()
            if not {*_BOOKS} & {member.filename for member in members}:
                raise InputUnusableError(
                    f"{shown} is a document of an office program, no workbook",
                    hint="Import the export itself: a CSV file, or a workbook.",
                )
            if sum(member.file_size for member in members) > most_bytes:
                raise InputUnusableError(
                    f"{shown}: the workbook unpacks to more than {most_bytes >> 20} MB",
                    hint="Save the sheet as `CSV UTF-8` and import that file.",
                )
            for member in members:
                parts[member.filename] = _errors_in(archive, member, shown)
            sheets = _sheet_parts(archive)
    except (EOFError, ValueError, zlib.error, zipfile.BadZipFile, RuntimeError, KeyError) as error:
        raise InputUnusableError(
            f"{shown}: the workbook is damaged or cut off",
            hint="Copy it again, or save it anew in a spreadsheet program. Nothing of it was used.",
        ) from error
    source.seek(0)
    return [parts.get(name, {}) for name in sheets]


def _errors_in(archive: zipfile.ZipFile, member: zipfile.ZipInfo, shown: str) -> Errors:
    """Read a member to its end, which proves its check sum, and return the cells with errors if it is a sheet.

    An error is also a formula whose value was never saved.
    """
    is_sheet = "/worksheets/" in member.filename and member.filename.endswith(".xml")
    is_book = member.filename == "content.xml"
    found: Errors = {}
    held, reach, block = b"", (0, 26, 0), b" "
    with archive.open(member) as stream:
        while block:
            block = stream.read(BLOCK_BYTES)
            if not is_sheet and not is_book:
                continue
            # Behind the beginning of the last row there may be half a cell.
            held += block
            cut = max(0, *(held.rfind(tag) for tag in _ROW_TAGS)) if block else len(held)
            part, held = held[:cut], held[cut:]
            reach = _reach(part, is_book, reach)
            is_long = len(held) > LONGEST_ROW_BYTES
            rows, columns, _ = _reach(held, is_book, reach) if is_long else reach
            if is_long or rows * columns > MOST_CELLS:
                raise InputUnusableError(
                    f"{shown}: a sheet has cells down to row {rows} and out to column {columns}: too many",
                    hint="Delete what stands far below or beside the calls, or save the sheet as `CSV UTF-8`.",
                )
            may_have_errors = is_sheet and (b't="e"' in part or _FORMULA.search(part))
            for attributes, content in _CELL.findall(part) if may_have_errors else ():
                place = _PLACE.search(attributes)
                is_error = b't="e"' in attributes
                is_open = b't="str"' not in attributes and _FORMULA.search(content) and not _SAVED.search(content)
                if place is not None and (is_error or is_open):
                    error = _ERROR_TEXT.search(content) if is_error else None
                    text = error[1].decode("utf-8", "replace") if error else "#VALUE!"
                    found.setdefault(int(place[2]) - 1, {})[_column(place[1])] = text
    return found


def _reach(part: bytes, is_open_document: bool, reach: tuple[int, int, int]) -> tuple[int, int, int]:
    """Return how far the cells of a sheet reach, at least, with this part of its XML: rows, columns, empty rows.

    calamine takes memory for every cell between; empty rows at the end do not count.
    """
    rows, columns, empty_rows = reach
    if not is_open_document:
        rows = max([rows, *(int(each) for each in _ROW_NUMBERS.findall(part[-4096:]))])
        columns = max([columns, *(_column(each) + 1 for each in {*_WIDE_COLUMNS.findall(part)})])
    for row in _ODS_ROW.finditer(part) if is_open_document else ():
        count, cells = int(row[1] or 1), row[2]
        filled, end, _ = cells.rpartition(b"</table:table-cell>")
        if not end:
            empty_rows += count
            continue
        rows, empty_rows = rows + empty_rows + count, 0
        repeated = [int(each) - 1 for each in _ODS_REPEATED.findall(filled)]
        columns = max(columns, filled.count(b"<table:") + sum(repeated))
    return rows, columns, empty_rows


def _column(letters: bytes) -> int:
    """Return the number of a column, from 0, by its letters."""
    return reduce(lambda number, letter: number * 26 + letter - 64, letters, 0) - 1


def _sheet_parts(archive: zipfile.ZipFile) -> list[str]:
    """Return the members that hold the sheets of an .xlsx file, in the order of its sheets; nothing of others."""
    if "xl/workbook.xml" not in archive.namelist():
        return []
    relations = archive.read("xl/_rels/workbook.xml.rels").decode("utf-8", "replace")
    targets = {}
    for tag in re.findall(r"<(?:\w+:)?Relationship [^>]*>", relations):
        attributes = dict(re.findall(r'(\w+)="([^"]*)"', tag))
        targets[attributes.get("Id", "")] = posixpath.join("/xl", attributes.get("Target", "")).removeprefix("/")
    tags = re.findall(r"<(?:\w+:)?sheet [^>]*>", archive.read("xl/workbook.xml").decode("utf-8", "replace"))
    ids = [re.search(r'\w+:id="([^"]*)"', tag) for tag in tags]
    return [targets.get(each[1], "") if each else "" for each in ids]
