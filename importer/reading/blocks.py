"""A file as a stream of UTF-8 blocks with one kind of line end, whatever its own encoding and line ends."""

import codecs
import os
from collections.abc import Iterator
from pathlib import Path

from importer.errors import InputUnusableError

BLOCK_BYTES = 8 << 20


def text_blocks(path: Path, encoding: str, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the file as UTF-8 without byte order mark, every line end (CR LF, CR, LF) as LF.

    Raises InputUnusableError when the file changes while it is read: half of an export must not be sent.
    """
    with path.open("rb") as source:
        before = _identity(os.fstat(source.fileno()))
        decoder = None if encoding in ("utf-8", "ascii") else codecs.getincrementaldecoder(encoding)()
        held = b""
        while block := source.read(block_bytes):
            text = block if decoder is None else decoder.decode(block).encode("utf-8")
            text, held = _split_carriage_return(held + text)
            yield _unix_lines(text)
        if decoder is not None:
            held += decoder.decode(b"", final=True).encode("utf-8")
        if held:
            yield _unix_lines(held)
        if _identity(path.stat()) != before:
            raise InputUnusableError(
                f"{path.name} changed while it was read; nothing of it was used",
                hint="Import it when the telephone system has finished writing it.",
            )


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    return status.st_ino, status.st_size, status.st_mtime_ns


def _split_carriage_return(text: bytes) -> tuple[bytes, bytes]:
    """Keep a CR at the end of a block back: the LF that belongs to it may open the next one."""
    return (text[:-1], b"\r") if text.endswith(b"\r") else (text, b"")


def _unix_lines(text: bytes) -> bytes:
    if b"\r" not in text:
        return text
    return text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
