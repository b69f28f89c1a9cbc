"""A file as a stream of UTF-8 blocks with one kind of line end, whatever its own encoding and line ends."""

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace

from importer.errors import InputUnusableError
from importer.files.export import ExportFile
from importer.formats.cells import cut_line
from importer.formats.detected import Detection

BLOCK_BYTES = 6 << 20
LONGEST_LINE_BYTES = 1 << 20
_LINE_END = re.compile(rb"(?:\r\n?|\n)(?:\xef\xbb?)?\Z")
UTF8_NAMES = ("utf-8", "utf-8-sig", "ascii")


def text_blocks(file: ExportFile, encoding: str, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the file, or its span, as UTF-8 without byte order mark, every line end (CR LF, CR, LF) as LF.

    Raises InputUnusableError when the file changes while it is read: half of an export must not be sent.
    """
    decoder = None if encoding in UTF8_NAMES else codecs.getincrementaldecoder(encoding)()
    mark = codecs.BOM_UTF8
    held, is_start, is_end = b"", True, False
    with file.open() as source:
        before = file.identity(source)
        place = source.seek(file.span[0])
        while not is_end:
            block = source.read(block_bytes if file.span[1] is None else min(block_bytes, file.span[1] - place))
            place += len(block)
            is_end = not block
            try:
                held += block if decoder is None else decoder.decode(block, final=is_end).encode("utf-8")
            except UnicodeError as error:
                # Detection decoded all of it: it was another file then.
                raise file.changed() from error
            if is_start and len(held) < len(mark) and not is_end:
                continue
            if is_start:  # an ``--encoding utf-8`` leaves the mark in
                held, is_start = held.removeprefix(mark), False
            # A line end at the end of a block waits: the next one may open with its LF, or with a byte order mark.
            end = None if is_end else _LINE_END.search(held, max(len(held) - 4, 0))
            text, held = (held[: end.start()], end[0]) if end else (held, b"")
            if b"\r" in text:
                text = text.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
            if mark[:1] in text:  # of a file that was put behind another; one byte is found much faster than four
                text = text.replace(b"\n" + mark, b"\n")
            if text:
                yield text
    if file.identity() != before:
        raise file.changed()


def record_blocks(detection: Detection, block_bytes: int = BLOCK_BYTES) -> Iterator[bytes]:
    """Yield the file as `text_blocks` does, lines of printed text cut into cells.

    A last line that has no line end and breaks off before the end of the last column is one cell: it is not whole.
    """
    blocks = text_blocks(detection.file, detection.encoding, block_bytes)
    spans = detection.dialect.spans
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


def parts_of(detection: Detection, part_bytes: int) -> Iterator[Detection]:
    """Yield the file in equal parts of about so many bytes: a large one at the end would be waited for.

    Each begins behind a line end and knows the number of its first line. Whether that is the start of a record
    shows when the part before it is read: its last record is whole then, else that raises InputUnusableError. A
    file is one part if a byte of a line end may be part of another character in its encoding.
    """
    file, start, line = detection.file, 0, detection.file.first_line
    has_plain_line_ends = detection.encoding in UTF8_NAMES
    if not has_plain_line_ends:
        characters = bytes(range(256)).decode(detection.encoding, "replace")  # as many as bytes, where each is one
        has_plain_line_ends = len(characters) == 256 and characters[:32] == bytes(range(32)).decode()
    size = file.size() if has_plain_line_ends else 0
    part_bytes = size // max(1, size // part_bytes)
    with suppress(OSError, InputUnusableError), file.open() as source:  # reading the part gives the error
        while size - start > part_bytes * 3 // 2:
            text = source.read(part_bytes) + source.readline(LONGEST_LINE_BYTES)
            end = start + len(text)
            if not text.endswith(b"\n") or size - end < part_bytes // 2:
                break
            yield replace(detection, file=replace(file, span=(start, end), first_line=line))
            line += text.count(b"\n") + (text.count(b"\r") - text.count(b"\r\n") if b"\r" in text else 0)
            start = end
    yield replace(detection, file=replace(file, span=(start, None), first_line=line))
