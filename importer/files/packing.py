"""How a file is packed, by its first bytes and never by its name, and its content block by block.

Sources of the first bytes: RFC 1952 (gzip), RFC 8878 (zstd), the bzip2 and ZIP specifications, and the lists of
`file(1)` for files that cannot be used. Each unpacker yields at most a megabyte at once, also of a hostile file.
"""

import bz2
import codecs
import gzip
import re
import zipfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import IO, BinaryIO, Final, Literal

from importer.errors import InputUnusableError
from importer.files.spooling import BLOCK_BYTES

FIRST_BYTES = 4096
"""So many bytes at the beginning are read to recognise a file."""

Packing = Literal["gzip", "bzip2", "zstd", "zip"]
"""The packings of one export that are unpacked."""

_MARKS: Final[tuple[tuple[re.Pattern[bytes], Packing], ...]] = (
    (re.compile(rb"\x1f\x8b"), "gzip"),
    (re.compile(rb"\x28\xb5\x2f\xfd|[\x50-\x5f]\x2a\x4d\x18"), "zstd"),  # the second begins a skippable frame
    (re.compile(rb"PK(?:\x03\x04|\x05\x06)"), "zip"),
    (re.compile(rb"BZh[1-9](?:1AY&SY|\x17rE8P\x90)"), "bzip2"),
)
_UNUSABLE_MARKS: Final = (
    (0, b"\xfd7zXZ\x00", "an xz file"),
    (0, b"7z\xbc\xaf\x27\x1c", "a 7z archive"),
    (0, b"Rar!\x1a\x07", "a RAR archive"),
    (0, b"PK\x07\x08", "a part of a zip archive"),
    (0, b"%PDF-", "a PDF document"),
    (0, b"\x89PNG", "a picture"),
    (0, b"\xff\xd8\xff", "a picture"),
    (0, b"SQLite format 3\x00", "an SQLite database"),
    (0, b"PGDMP", "a PostgreSQL dump"),
    (257, b"ustar", "a tar archive"),
)
_UNUSABLE_TEXTS: Final = (
    (
        re.compile(
            r"(?:<\?xml[^>]*>\s*)?(?:<!--(?s:.*?)-->\s*)*<(?:!doctype\s+html|html|head|body|meta|style|table)\b"
        ),
        "an HTML page",
        "Some systems call a page with a table `.xls`: open it in a spreadsheet program, save it as `CSV UTF-8` "
        "and import that. If it is a page to sign in on, or an error, sign in and export again.",
    ),
    (
        re.compile(r"<\?xml\b|<cdrs?\b"),
        "an XML file",
        "Export as CSV instead, or open it in a spreadsheet program and save it as `CSV UTF-8`.",
    ),
    (
        # mysqldump, MariaDB's (its first line is a comment for its client), pg_dump, phpMyAdmin, HeidiSQL, SQLite.
        # A text that begins with INSERT INTO is not among them: a telephone system may write just that.
        re.compile(
            r"(?:--[^\n]*\n)*?--[^\n]*\bdump\b|(?:\s+|--[^\n]*\n|/\*(?!m?!\d)(?s:.*?)\*/;?)*+(?:/\*m?!\d{5,6}|"
            r"(?:create|drop)\s+(?:table|database)\b|lock\s+tables\b|set\s+[@\w.]+\s*=[^\n]*;|use\s+[`\[\"]|"
            r"pragma\s[^\n]*;|(?:begin|start)\s+transaction;|copy\s[^;\n]*\sfrom\s+stdin;)"
        ),
        "an SQL dump",
        "Export the table as CSV, with its header: in phpMyAdmin choose the format CSV, in psql use \\copy with "
        "CSV HEADER, in MySQL Workbench export the rows that a SELECT gives.",
    ),
)
"""Beginnings, in small letters, of texts that are no exports, with their kind and a hint."""

_ZIP_METHODS: Final = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED_FLAG: Final = 0x1


def packing_of(start: bytes) -> Packing | None:
    """Return how a file that begins with these bytes is packed, None for a plain one."""
    return next((packing for mark, packing in _MARKS if mark.match(start)), None)


def usable_start(opened: Callable[[], BinaryIO], shown: str) -> bytes:
    """Return the first bytes of a file; raises InputUnusableError for a known kind that is not read here."""
    with opened() as source:
        start = source.read(FIRST_BYTES)
    for place, mark, kind in _UNUSABLE_MARKS:
        if start[place : place + len(mark)] == mark:
            raise InputUnusableError(
                f"{shown} is {kind}, not a CSV export",
                hint="Save or unpack it as CSV and import that; .gz, .zst, .bz2 and .zip are unpacked here.",
            )
    is_utf16 = start.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))  # of PowerShell
    text = start.decode("utf-16" if is_utf16 else "utf-8", "replace").lstrip("\ufeff \t\r\n")
    for beginning, kind, hint in _UNUSABLE_TEXTS:
        if beginning.match(text.replace("\r", "\n").lower()):
            raise InputUnusableError(f"{shown} is {kind}, not a CSV export", hint=hint)
    return start


def sql_dump(shown: str) -> InputUnusableError:
    """Return the error for a file that is an SQL dump."""
    _, kind, hint = _UNUSABLE_TEXTS[-1]
    return InputUnusableError(f"{shown} is {kind}, not a CSV export", hint=hint)


def content_of(source: BinaryIO, packing: Packing, shown: str) -> Iterator[bytes]:
    """Yield the content in blocks of at most a megabyte.

    Raises InputUnusableError for a file that is cut off, damaged, encrypted or has not exactly one member, and
    OSError when it cannot be read.
    """
    try:
        if packing == "bzip2":
            # BZ2File passes over the bytes behind the first stream: half of a damaged file would look whole.
            waiting = source.read(BLOCK_BYTES)
            while waiting:
                unpacker = bz2.BZ2Decompressor()
                while not unpacker.eof:
                    waiting = waiting or (source.read(BLOCK_BYTES) if unpacker.needs_input else b"")
                    if unpacker.needs_input and not waiting:
                        raise EOFError
                    yield unpacker.decompress(waiting, BLOCK_BYTES)
                    waiting = b""
                waiting = unpacker.unused_data or source.read(BLOCK_BYTES)
            return
        with _stream(source, packing, shown) as stream:
            while block := stream.read(BLOCK_BYTES):
                yield block
    except (EOFError, ValueError, zlib.error, zipfile.BadZipFile, NotImplementedError, OSError) as error:
        # bz2, gzip and Arrow raise an OSError without a number for content that is no stream of theirs.
        if isinstance(error, OSError) and error.errno is not None:
            raise
        raise InputUnusableError(
            f"{shown}: the {packing} file is damaged or cut off",
            hint="Copy it again, or pack the export again. Nothing of it was used.",
        ) from error


def _stream(source: BinaryIO, packing: Packing, shown: str) -> AbstractContextManager[IO[bytes] | gzip.GzipFile]:
    """Return a reader of the content; raises InputUnusableError for a zip file that has not one usable member."""
    if packing == "gzip":
        return gzip.GzipFile(fileobj=source)
    if packing == "zstd":
        # Arrow brings zstd along, and refuses windows over 128 MiB. It takes its time to load: only where needed.
        import pyarrow as pa

        zstd: AbstractContextManager[IO[bytes]] = pa.CompressedInputStream(pa.PythonFile(source, mode="r"), "zstd")
        return zstd
    archive = zipfile.ZipFile(source)
    files = [member for member in archive.infolist() if not member.is_dir()]
    # Members that the Finder of macOS adds to the one file that was packed.
    members = [each for each in files if not re.match(r"__MACOSX/|(?:.*/)?\.DS_Store\Z", each.filename)]
    if len(members) != 1:
        raise InputUnusableError(
            f"{shown}: the zip file must hold exactly one file, and holds {len(members) or 'none'}",
            hint="Unpack it and name the exports themselves, or the folder they are in.",
        )
    if members[0].flag_bits & _ENCRYPTED_FLAG:
        raise InputUnusableError(
            f"{shown}: the zip file is encrypted", hint="Unpack it with its password and import the export in it."
        )
    if members[0].compress_type not in _ZIP_METHODS:
        # zipfile unpacks bzip2 and lzma members without a bound on memory.
        raise InputUnusableError(
            f"{shown}: the zip file is packed by method {members[0].compress_type}, which is not read here",
            hint="Unpack it and import the export in it, or pack it again in the ordinary way (deflate).",
        )
    return archive.open(members[0])
