"""One export as bytes that can be read from the beginning as often as needed, wherever they come from."""

import io
import os
import stat
import sys
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, TextIO

from importer.errors import InputUnusableError, NoInputError
from importer.files.packing import FIRST_BYTES, Packing, content_of, packing_of, require_usable
from importer.files.spooling import BLOCK_BYTES, Limits, Spooled, TooLargeError

STANDARD_INPUT = Path("-")

Identity = tuple[int, int, int]


@dataclass(frozen=True, slots=True)
class ExportFile:
    """One export: ``path`` as it was given, how it came packed, and the spool of its bytes where there is one."""

    path: Path
    packing: Packing | None = None
    spool: Spooled | None = None

    @property
    def shown(self) -> str:
        """The name of the file in messages."""
        return "standard input" if self.path == STANDARD_INPUT else self.path.name

    def open(self) -> io.BufferedReader:
        """Return a reader of the bytes, unpacked, from the beginning on."""
        return self.path.open("rb") if self.spool is None else self.spool.open()

    def open_as_it_came(self) -> io.BufferedReader:
        """Return a reader of the bytes as they came, packed or not."""
        return self.path.open("rb") if self.packing is not None and self.path != STANDARD_INPUT else self.open()

    def open_text(self, encoding: str) -> TextIO:
        """Return a reader of the text with its line ends as they are."""
        return io.TextIOWrapper(self.open(), encoding=encoding, newline="")

    def identity(self, source: BinaryIO) -> Identity:
        """Return what changes when the file does, of the file that ``source`` reads."""
        return (0, 0, 0) if self.spool is not None else _identity(os.fstat(source.fileno()))

    def identity_now(self) -> Identity | None:
        """Return the same of the file that stands at the path now, None when there is none."""
        if self.spool is not None:
            return (0, 0, 0)
        try:
            return _identity(self.path.stat())
        except FileNotFoundError:
            return None


def open_export(path: Path, limits: Limits | None = None) -> ExportFile:
    """Return the export at this path; `-` is standard input. A packed one is unpacked whole, and checked by that.

    Raises NoInputError when it cannot be read, InputUnusableError when it is damaged, packed in a way that is not
    understood or larger than the limits allow, CannotCreateError when the temporary file cannot be written.
    """
    limits = limits or Limits()
    try:
        plain = _as_it_came(path, limits)
        start = _start_of(plain)
        require_usable(start, plain.shown)
        packing = packing_of(start)
        return plain if packing is None else _unpacked(plain, packing, limits)
    except OSError as error:
        raise NoInputError(f"{path} cannot be read: {error.strerror}", hint="Check its rights.") from error


def _as_it_came(path: Path, limits: Limits) -> ExportFile:
    if path == STANDARD_INPUT:
        return _spooled(ExportFile(path), _standard_input(), limits)
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        raise NoInputError(f"input not found: {path}", hint="Check the path of the export.") from None
    if stat.S_ISFIFO(mode):  # what a shell makes of <(...)
        return _spooled(ExportFile(path), path.open("rb"), limits)
    if not stat.S_ISREG(mode):
        raise NoInputError(f"{path} is not a file", hint="Name the export itself, or a pattern like *.csv.")
    return ExportFile(path)


def _standard_input() -> AbstractContextManager[BinaryIO]:
    if sys.stdin is None or sys.stdin.isatty():
        raise NoInputError(
            "standard input is no export: nothing is piped into it",
            hint="Pipe the export into it, or name a file instead of `-`.",
        )
    return nullcontext(sys.stdin.buffer)


def _spooled(file: ExportFile, opened: AbstractContextManager[BinaryIO], limits: Limits) -> ExportFile:
    with opened as source:
        try:
            blocks = iter(lambda: source.read(BLOCK_BYTES), b"")
            spool = Spooled(blocks, limits.largest_bytes)
        except TooLargeError:
            raise _too_large(f"{file.shown} is larger than {limits.largest_bytes} bytes") from None
    return ExportFile(file.path, None, spool)


def _unpacked(file: ExportFile, packing: Packing, limits: Limits) -> ExportFile:
    with file.open() as source:
        packed_bytes = source.seek(0, os.SEEK_END)
        source.seek(0)
        most_bytes = min(limits.largest_bytes, max(limits.free_bytes, limits.most_times * packed_bytes))
        try:
            spool = Spooled(content_of(source, packing, file.shown), most_bytes)
        except TooLargeError:
            raise _too_large(
                f"{file.shown}: the {packing} file holds more than {most_bytes} bytes in {packed_bytes}"
            ) from None
    unpacked = ExportFile(file.path, packing, spool)
    start = _start_of(unpacked)
    require_usable(start, f"{file.shown}, unpacked,")
    if packing_of(start) is not None:
        raise InputUnusableError(
            f"{file.shown}: the {packing} file holds another packed file",
            hint="Unpack it once and import what is in it.",
        )
    return unpacked


def _start_of(file: ExportFile) -> bytes:
    with file.open() as source:
        return source.read(FIRST_BYTES)


def _too_large(what: str) -> InputUnusableError:
    return InputUnusableError(
        what, hint="If that is really an export, unpack it on a disk with room and import the plain file."
    )


def _identity(status: os.stat_result) -> Identity:
    return status.st_ino, status.st_size, status.st_mtime_ns
