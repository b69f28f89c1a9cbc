"""A file as a stream of UTF-8 blocks with one kind of line end, whatever its own encoding and line ends."""

import codecs
import re
from collections.abc import Iterator
from typing import BinaryIO

from importer.files import ExportFile
from importer.formats import Detection
from importer.formats.cells import cut_line

BLOCK_BYTES = 6 << 20
_LINE_END = re.compile(rb"(?:\r\n?|\n)(?:\xef\xbb?)?\Z")
UTF8_NAMES = ("utf-8", "utf-8-sig", "ascii")


def text_blocks(file: ExportFile, encoding: str, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the file as UTF-8 without byte order mark, every line end (CR LF, CR, LF) as LF.

    Raises InputUnusableError when the file changes while it is read: half of an export must not be sent.
    """
    with file.open() as source:
        before = file.identity(source)
        held = b""
        try:
            for text in _without_mark(_decoded(source, encoding, block_bytes)):
                whole, held = _split_line_end(held + text)
                if whole:
                    yield _unix_lines(whole)
        except UnicodeError as error:
            # Detection decoded all of it: it was another file then.
            raise file.changed() from error
        if held:
            yield _unix_lines(held)
    if file.identity_now() != before:
        raise file.changed()


def record_blocks(detection: Detection, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the file as `text_blocks` does, lines of printed text cut into cells.

    A last line that has no line end and breaks off before the end of the last column is one cell: it is not whole.
    """
    blocks = text_blocks(detection.file, detection.encoding, block_bytes)
    spans = detection.format.file.spans
    if not spans:
        yield from blocks
        return
    rest = b""
    for block in blocks:
        whole, line_end, rest = (rest + block).rpartition(b"\n")
        if line_end:
            yield "".join(f"{cut_line(line, spans)}\n" for line in whole.decode("utf-8").split("\n")).encode(
                "utf-8"
            )
    last = rest.decode("utf-8")
    yield (cut_line(last, spans) if len(last) >= spans[-1][1] else " ".join(last.split())).encode("utf-8")


def _decoded(source: BinaryIO, encoding: str, block_bytes: int) -> Iterator[bytes]:
    decoder = None if encoding in UTF8_NAMES else codecs.getincrementaldecoder(encoding)()
    while block := source.read(block_bytes):
        yield block if decoder is None else decoder.decode(block).encode("utf-8")
    if decoder is not None:
        yield decoder.decode(b"", final=True).encode("utf-8")


def _without_mark(blocks: Iterator[bytes]) -> Iterator[bytes]:
    """Leave out a byte order mark at the very beginning; an ``--encoding utf-8`` does not know of it."""
    start = b""
    for block in blocks:
        start += block
        if len(start) >= len(codecs.BOM_UTF8):
            break
    yield start.removeprefix(codecs.BOM_UTF8)
    yield from blocks


def _split_line_end(text: bytes) -> tuple[bytes, bytes]:
    """Keep a line end at the end of a block back: the next one may open with its LF, or with a byte order mark."""
    end = _LINE_END.search(text, len(text) - 4 if len(text) > 4 else 0)
    return (text[: end.start()], end[0]) if end else (text, b"")


def _unix_lines(text: bytes) -> bytes:
    """Return the text with LF as line end, without the byte order marks of files that were put behind another."""
    if b"\r" in text:
        text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    # One byte is searched for twenty times as fast as four.
    return text.replace(b"\n" + codecs.BOM_UTF8, b"\n") if codecs.BOM_UTF8[:1] in text else text
