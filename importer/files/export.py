"""Names on the command line to exports: bytes that can be read as often as needed, and their encoding.

A name is a file, a folder, or a pattern that no shell has replaced. The encoding is found by byte order mark, then
UTF-8 strictly, then as format or operator name it.
"""

import codecs
import glob
import io
import os
import re
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace
from fnmatch import fnmatch
from pathlib import Path
from typing import BinaryIO, Final, TextIO

from importer.errors import InputUnusableError, NoInputError
from importer.files import json_objects
from importer.files.json_objects import IsHeader, LackingError
from importer.files.packing import Packing, content_of, packing_of, usable_start
from importer.files.remote import is_remote
from importer.files.spooling import BLOCK_BYTES, LARGEST_BYTES, csv_blocks, most_unpacked, spooled
from importer.files.workbooks import is_workbook, sheets_of
from importer.private_files import os_errors_as
from schemas.vocabulary import counted

STANDARD_INPUT = Path("-")
UNFINISHED_SUFFIX = ".part"
"""End of the name of our own results until they are whole, and of files that many programs are still writing."""
OPEN_WORKBOOK = "~$"
"""Excel marks a workbook that someone has open with a file beside it, which is no export: `~$calls.xlsx`."""

_NEXT: Final = re.compile(r"(?i)(.*[.@])?(has_?more|next)(_?(page|link|ur[il]|token|data|marker)s?){0,2}(\..*)?")
_PAGE: Final = re.compile(r"(?i)(.*[.@])?(current(?:_?page)?|page_?number)")
_PAGES: Final = re.compile(r"(?i)(.*[.@])?(total_?pages|page_?count|last_?page)")

Identity = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One export: ``path`` as it was given, how it came packed, and the spool of its bytes where there is one.

    ``is_table``: the spool is the CSV text of a sheet of a workbook, whose name is ``sheet``, or of JSON objects.
    ``first_line`` is the number of its first line: 0 where the keys of objects were written above them.
    ``pinned`` is the identity of the file that was read: another file, or a changed one, is not opened then. What
    is 0 in it is not compared.
    ``fewest_bytes`` is its size when it was first met: one that got shorter since was begun anew, as logrotate's
    copytruncate does, while one that grew is still written.
    ``fault`` is why it is not to be used where its format is known; by the key ``next_page`` it says that its
    calls go on in another file.
    ``span`` is the part that is read: its first byte and the one behind its last, None for all that follow.
    """

    path: Path
    packing: Packing | None = None
    spool: io.FileIO | None = None
    is_table: bool = False
    sheet: str | None = None
    first_line: int = 1
    pinned: Identity | None = None
    fewest_bytes: int = 0
    span: tuple[int, int | None] = (0, None)
    fault: InputUnusableError | None = None
    next_page: str = ""

    @property
    def shown(self) -> str:
        """The name of the file in messages, with that of the sheet."""
        name = "standard input" if self.path == STANDARD_INPUT else self.path.name
        return name if self.sheet is None else f"{name}, sheet {self.sheet!r}"

    def open(self) -> io.BufferedReader:
        """Return a reader of the bytes, unpacked, from the beginning on.

        Raises InputUnusableError for another file than the one that was pinned, or where it is gone.
        """
        if self.spool is not None:
            return io.BufferedReader(_SpoolReader(self.spool), BLOCK_BYTES)
        try:
            source = self.path.open("rb")
        except FileNotFoundError:
            raise self.changed() from None
        found = self.identity(source) or ()
        is_other = any(was not in (0, now) for was, now in zip(self.pinned or (), found, strict=False))
        if is_other or (found and found[2] < self.fewest_bytes):
            source.close()
            raise self.changed()
        return source

    @property
    def has_objects(self) -> bool:
        """Whether the table was made of JSON objects."""
        return self.is_table and self.sheet is None

    def size(self) -> int:
        """Return how many bytes there are to be read, unpacked; 0 where the file is gone."""
        if self.spool is not None:
            return os.fstat(self.spool.fileno()).st_size
        return (self.identity() or (0, 0, 0, 0))[2]

    def open_text(self, encoding: str) -> TextIO:
        """Return a reader of the text with its line ends as they are."""
        return io.TextIOWrapper(self.open(), encoding=encoding, newline="")

    def identity(self, source: BinaryIO | None = None) -> Identity | None:
        """Return the identity of the file that ``source`` reads: it changes when the file does.

        Without ``source`` it is that of the file at the path now, None when there is none to be seen.
        """
        if self.spool is not None:
            return (0, 0, 0, 0)
        try:
            status = self.path.stat() if source is None or is_remote(self.path) else os.fstat(source.fileno())
        except OSError:
            return None
        return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns or int(status.st_mtime)

    def changed(self) -> InputUnusableError:
        """Return the error for a file that changed."""
        return InputUnusableError(
            f"{self.shown} changed while it was read; nothing of it was used",
            hint="Import it when the telephone system has finished writing it. If it writes at all hours: "
            f"`cat {self.shown} | cdr-importer import ... -` reads what is there now.",
        )


@dataclass(frozen=True, slots=True)
class NamedFiles:
    """The files to be read, each once; notes for a person; errors of names without a file.

    ``beside`` is the file beside which results go by default, None for the working folder.
    """

    paths: tuple[Path, ...]
    beside: Path | None
    notes: tuple[str, ...]
    problems: tuple[NoInputError, ...]


def named_files(names: Sequence[Path]) -> NamedFiles:
    """Return the files of the names, in the order of the names; files of a folder or pattern are sorted by name.

    A folder gives the files right in it, without hidden ones. A pattern (`*`, `?`, `[...]`) gives the files that
    match, unless a file has the pattern itself for a name; one called `*.csv` is among those that match. Marks of
    open workbooks are in neither, and passed over beside other names.
    """
    paths: dict[Path, Path] = {}
    notes: list[str] = []
    problems: list[NoInputError] = []
    for name in [each for each in names if not each.name.startswith(OPEN_WORKBOOK)] or names:
        try:
            with readable(name):
                for path in _files_of(name, notes):
                    if path.absolute() in paths:
                        notes.append(f"{path} is named twice: read once.")
                    paths.setdefault(path.absolute(), path)
        except NoInputError as problem:
            problems.append(problem)
    found = tuple(paths.values())
    beside = next((name for name in found or names if name != STANDARD_INPUT and not is_remote(name)), None)
    if beside is not None and glob.has_magic(str(beside)) and not beside.exists():
        beside = None
    return NamedFiles(found, beside, tuple(notes), tuple(problems))


def _files_of(name: Path, notes: list[str]) -> list[Path]:
    """Return the whole files of one name; a plain name is a file even if it does not exist: opening it fails then.

    Raises NoInputError for a folder or pattern without any, OSError where it cannot be read.
    """
    if name != STANDARD_INPUT and name.is_dir():
        entries = sorted(entry for entry in name.iterdir() if not entry.name.startswith("."))
        if folders := [entry.name for entry in entries if entry.is_dir()]:
            notes.append(f"{counted(len(folders), 'folder')} in {name} passed over: {', '.join(folders)}.")
    elif is_remote(name) and glob.has_magic(str(name)) and not name.is_file():
        entries = sorted(each for each in name.parent.iterdir() if fnmatch(each.name, name.name))
    elif not is_remote(name) and glob.has_magic(str(name)) and ("*" in name.name or not name.exists()):
        with suppress(FileNotFoundError, NotADirectoryError):  # a folder that cannot be read matches nothing
            os.scandir(name.parent).close()
        entries = sorted(Path(match) for match in glob.glob(str(name)))  # noqa: PTH207 Path.glob drops `./` and keeps no `..`
    else:
        return [name]
    files = [entry for entry in entries if entry.is_file() and not entry.name.startswith(OPEN_WORKBOOK)]
    unfinished = [file for file in files if file.name.endswith(UNFINISHED_SUFFIX)]
    notes += [f"{file} is still being written (its name ends in .part): passed over." for file in unfinished]
    if len(files) == len(unfinished):
        # A night job that finds no export must not be silent.
        raise NoInputError(
            f"no file in folder {name}" if name.is_dir() else f"no file matches {name}",
            hint="Check the path, and whether the telephone system has written its export.",
        )
    return [file for file in files if file not in unfinished]


def open_export(path: Path, largest_bytes: int = LARGEST_BYTES) -> ExportFile:
    """Return the export at this path; `-` is standard input. A packed one is unpacked whole, and checked by that.

    Raises NoInputError when it cannot be read, InputUnusableError when it is damaged, packed in a way that is not
    understood or larger than is allowed, CannotCreateError when the temporary file cannot be written.
    """
    with readable(path):
        plain = _as_it_came(path, largest_bytes)
        packing = packing_of(usable_start(plain.open, plain.shown))
        if packing is None or is_workbook(plain.open):
            return plain
        with plain.open() as source:
            most_bytes = most_unpacked(source.seek(0, os.SEEK_END), largest_bytes)
            source.seek(0)
            spool = spooled(content_of(source, packing, plain.shown), f"{plain.shown}, unpacked,", most_bytes)
        unpacked = ExportFile(path, packing, spool)
        inner = packing_of(usable_start(unpacked.open, f"{plain.shown}, unpacked,"))
        if inner is not None and not is_workbook(unpacked.open):
            raise InputUnusableError(
                f"{plain.shown}: the {packing} file holds another packed file",
                hint="Unpack it once and import what is in it.",
            )
    return unpacked


def open_tables(
    path: Path, sheet: str | None = None, is_header: IsHeader = bool
) -> Iterator[tuple[ExportFile, ...]]:
    """Yield the tables at this path, each as an export; the next ones are for where none of these is known.

    Of a workbook these are its sheets: the one that ``sheet`` names, else all that are not hidden and have
    anything in them, else the first. JSON objects become CSV text: themselves, lists of objects and objects inside
    of them where their keys are a header by ``is_header``. Any other file is one table, and then one in which
    objects in cells are taken apart. Raises as `open_export` does.
    """
    file = open_export(path)
    with readable(path):
        if is_workbook(file.open):
            with file.open() as source:
                sheets = sheets_of(source, file.shown, sheet)
                tables = tuple(table_of(file, csv_blocks(rows), name) for name, rows in sheets)
            # One that begins with so many commas and line ends has nothing in it.
            yield tuple(each for each in tables if each.open().read(BLOCK_BYTES).strip(b",\n")) or tables[:1]
        elif json_objects.is_json(file.open):
            yield from _tables_of_objects(file, is_header)
        else:
            yield (file,)
            apart = table_of(file, json_objects.rows_of_cells(file.open))
            if apart.open().read(1):
                yield (replace(apart, first_line=1),)


def _tables_of_objects(file: ExportFile, is_header: IsHeader) -> Iterator[tuple[ExportFile, ...]]:
    """Yield the tables of a JSON file, as `open_tables` does.

    One that some objects lack gets that as its ``fault``, since calls of theirs may be missing.
    """
    found: list[ExportFile] = []
    paging: dict[str, str] = {}
    for places in json_objects.places_of_objects(file.open, file.shown, paging):
        before = len(found)
        lacking: list[tuple[tuple[str, ...], LackingError]] = []
        for place in places:
            is_likely = is_header if found else bool
            rows = json_objects.rows_of_objects(file.open, file.shown, place, is_header=is_likely)
            try:
                found.append(table_of(file, rows))
            except LackingError as fault:
                lacking.append((place or (), fault))
            except InputUnusableError:  # an envelope is no row
                if not found:
                    raise
        for way, error in lacking:
            if len(way) == 1 or len(found) > before:  # else the legs of some calls, say
                rows = json_objects.rows_of_objects(file.open, file.shown, way, may_lack=True, is_header=is_header)
                with suppress(InputUnusableError):
                    found.append(replace(table_of(file, rows), fault=error))
        yield tuple(replace(each, next_page=_next_page(paging)) for each in found[before:])


def _next_page(paging: dict[str, str]) -> str:
    """Return the key by which an answer says that another page follows: of that page, or of its own number."""
    counts = {found[1]: value for key, value in paging.items() if (found := _PAGES.fullmatch(key))}
    for key, value in paging.items():
        count = counts.get(found[1], "") if (found := _PAGE.fullmatch(key)) else ""
        if value.isdecimal() and count.isdecimal() and int(value) < int(count):
            return f"{key} ({value} of {count})"
        if _NEXT.fullmatch(key) and value not in ("0", "false"):
            return key
    return ""


def readable(path: Path) -> AbstractContextManager[None]:
    """Raise NoInputError for an OSError inside, where the file at this path is read."""
    hint = (
        "Check address, network, and the sign-in of fsspec's package." if is_remote(path) else "Check its rights."
    )
    return os_errors_as(NoInputError, f"{path} cannot be read", path, hint)


def table_of(file: ExportFile, text: Iterator[bytes], sheet: str | None = None) -> ExportFile:
    """Return rows of a file, as CSV text, as an export of their own."""
    spool = spooled(text, f"{file.shown}, as text,")
    return ExportFile(file.path, file.packing, spool, True, sheet, first_line=1 if sheet is not None else 0)


def _as_it_came(path: Path, largest_bytes: int) -> ExportFile:
    """Return the file at a path; standard input and a shell's `<(...)`, which come only once, are spooled."""
    file = ExportFile(path)
    opened: AbstractContextManager[BinaryIO]
    if path == STANDARD_INPUT:
        if sys.stdin is None or sys.stdin.isatty():
            raise NoInputError(
                "standard input is no export: nothing is piped into it",
                hint="Pipe the export into it, or name a file instead of `-`.",
            )
        opened = nullcontext(sys.stdin.buffer)
    else:
        try:
            status = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            raise NoInputError(f"input not found: {path}", hint="Check the path of the export.") from None
        if stat.S_ISREG(status.st_mode):
            return replace(file, fewest_bytes=status.st_size)
        if not stat.S_ISFIFO(status.st_mode):
            raise NoInputError(f"{path} is not a file", hint="Name the export itself, or a pattern like *.csv.")
        opened = path.open("rb")
    with opened as source:
        blocks = iter(lambda: source.read(BLOCK_BYTES), b"")
        return ExportFile(path, spool=spooled(blocks, file.shown, largest_bytes))


BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def certain_encoding(file: ExportFile, override: str | None) -> str | None:
    """Return the encoding that the operator or the file itself makes certain, or None when it is not UTF-8.

    Raises InputUnusableError when the file contradicts the operator's ``override``.
    """
    if override is not None:
        return _require(file, override)
    with file.open() as source:
        start = source.read(4)
    for mark, encoding in BYTE_ORDER_MARKS:
        if start.startswith(mark):
            return _require(file, encoding)
    return "utf-8" if first_undecodable(file, "utf-8") is None else None


def fallback_encoding(file: ExportFile, encodings: tuple[str, ...]) -> str:
    """Return the first of a format's single-byte encodings in which a file that is not UTF-8 can be read."""
    others = (each for each in encodings if each != "utf-8" and first_undecodable(file, each) is None)
    return next(others, "") or _require(file, "utf-8")


def first_undecodable(file: ExportFile, encoding: str) -> int | None:
    """Return the offset of the first byte that is not of this encoding, or None when all are."""
    decoder = codecs.getincrementaldecoder(encoding)()
    offset = 0
    with file.open() as source:
        while True:
            block = source.read(BLOCK_BYTES)
            held = len(decoder.getstate()[0])
            if encoding == "utf-8" and block.isascii() and block and not held:
                offset += len(block)  # found in a tenth of the time of decoding
                continue
            try:
                decoder.decode(block, final=not block).encode("utf-8")
            except UnicodeDecodeError as error:
                return offset - held + error.start
            except UnicodeError:  # UTF-16 without its mark; what is no text in UTF-8 either
                return offset
            if not block:
                return None
            offset += len(block)


def _require(file: ExportFile, encoding: str) -> str:
    offset = first_undecodable(file, encoding)
    if offset is None:
        return encoding
    with file.open() as source:
        line = source.read(offset).count(b"\n") + 1
    raise InputUnusableError(
        f"{file.shown}: line {line} holds a letter that is not saved as {encoding.upper()} (byte {offset + 1})",
        hint="Name its encoding, for example --encoding cp1252, or save it anew as UTF-8 (in Excel: CSV UTF-8).",
    )


class _SpoolReader(io.RawIOBase):
    """Reads a spool at a place of its own, so that several readers do not move each other."""

    def __init__(self, spool: io.FileIO) -> None:
        self._spool = spool
        self._place = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        start = {os.SEEK_SET: 0, os.SEEK_CUR: self._place}.get(whence, os.fstat(self._spool.fileno()).st_size)
        self._place = start + offset
        return self._place

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        found = os.pread(self._spool.fileno(), len(buffer), self._place)
        buffer[: len(found)] = found
        self._place += len(found)
        return len(found)
