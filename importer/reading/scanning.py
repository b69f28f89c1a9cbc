"""A file as blocks of UTF-8, and in them where each record begins and ends, its cells and its line.

Blocks have one kind of line end, whatever the encoding and the line ends of the file.
pandas reads fast, but pads short rows, drops blank lines and swallows the rest of a file behind an unclosed
quote without a word. So the structure is found here first, with numpy over whole blocks, and pandas is given
only records whose shape is known. A block whose quotes do not follow RFC 4180 is searched cell by cell instead,
by the rules that `csv` and pandas share: a quote inside an unquoted cell is a letter.
"""

import codecs
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from importer.errors import InputUnusableError
from importer.files.export import ExportFile
from importer.formats.cells import Dialect, Quotes, cut_line, null_cells
from importer.formats.detected import Detection

QUOTE, SPACE, NEWLINE, TAB, BACKSLASH, LETTER = b'" \n\t\\x'
OPEN_RECORD_BYTES = 16 << 20
"""A quote that is still open after so many bytes was never meant to be closed."""
LEADING_SPACES = 64
"""So many spaces before an opening quote are looked through at once; more are left to the search cell by cell."""

Ints = npt.NDArray[np.int64]
Bytes = npt.NDArray[np.uint8]
Flags = npt.NDArray[np.bool_]
Words = npt.NDArray[np.uint64]
"""A bit for each byte of a text, the first the lowest: 64 bytes are looked at as fast as one."""


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


@dataclass(frozen=True, slots=True)
class Records:
    """Whole records inside ``text``: their byte spans (without line end), line and cell count.

    ``broken`` marks records whose quotes cannot be paired. ``last_is_open`` says that the file ends with the last
    record and without a line end, or in a quoted cell of it; then that record is ``broken``, too.
    """

    text: bytes
    starts: Ints
    ends: Ints
    lines: Ints
    cells: Ints
    broken: Flags
    last_is_open: bool = False

    def __len__(self) -> int:
        return len(self.starts)

    def select(self, wanted: slice | Flags) -> "Records":
        """Return the records that ``wanted`` picks."""
        starts, ends, lines, cells = (each[wanted] for each in (self.starts, self.ends, self.lines, self.cells))
        is_open = self.last_is_open and bool((starts[-1:] == self.starts[-1:]).all())
        return Records(self.text, starts, ends, lines, cells, self.broken[wanted], is_open)


@dataclass(frozen=True, slots=True)
class _Marks:
    """Where line ends of records, all line ends and faults stand in a text; delimiters between cells as bits."""

    ends: Ints
    newlines: Ints
    delimiters: Words
    astray: Ints


NOWHERE: Ints = np.zeros(0, dtype=np.int64)


def scan(
    blocks: Iterator[bytes], dialect: Dialect, name: str, first_line: int = 1, *, is_part: bool = False
) -> Iterator[Records]:
    """Yield the records of a file that are more than delimiters and blanks, block by block.

    ``first_line`` is the number of the first line. A quote may still be open where the file ends: whether that
    record is the last, its format decides.
    Raises InputUnusableError naming the line of a quote that is not closed where its cell ends, or for 16 MiB, and
    with ``is_part``, where more of the file follows, for one that is not closed at the end.
    """
    rest, line = b"", first_line
    for block in blocks:
        text = rest + block
        records, used = _scan_text(text, line, dialect)
        _require_closed(records, name)
        rest = text[used:]
        # `bytes.count` takes thrice the time.
        line += int(np.count_nonzero(np.frombuffer(text, dtype=np.uint8)[:used] == NEWLINE))
        if len(rest) > OPEN_RECORD_BYTES:
            if b"\n" in rest:
                raise unclosed(name, line)
            raise InputUnusableError(
                f"{name}: line {line}: the line is longer than {OPEN_RECORD_BYTES >> 20} MiB",
                hint="This is not an export of call records, or it is damaged: export it again.",
            )
        yield records
    if rest and is_part:
        raise unclosed(name, line)
    if rest:
        records, used = _scan_text(rest + b"\n", line, dialect)
        _require_closed(records, name)
        if used <= len(rest):
            end = len(rest.removesuffix(b"\n"))
            marks = _Marks(np.array([end]), NOWHERE, _bits(np.zeros(end + 1, dtype=np.bool_)), np.array([0]))
            records, _ = _records(rest[:end] + b"\n", marks, line, dialect)
        yield replace(records, last_is_open=len(records) > 0)


def _require_closed(records: Records, name: str) -> None:
    """Refuse a quoted cell that goes on over line ends up to a quote that opens another cell."""
    for index in np.flatnonzero(records.broken).tolist():
        if b"\n" in records.text[records.starts[index] : records.ends[index]]:
            raise unclosed(name, int(records.lines[index]))


def unclosed(name: str, line: int) -> InputUnusableError:
    """Return the error that names the line of a quote which is never closed."""
    return InputUnusableError(
        f"{name}: line {line}: a quote that is opened in this record is never closed",
        hint="The export is damaged or cut off: export it again. Nothing of this file was used.",
    )


def _scan_text(text: bytes, line: int, dialect: Dialect) -> tuple[Records, int]:
    """Return the whole records of ``text`` and how many bytes they take up."""
    data = np.frombuffer(text, dtype=np.uint8)
    if dialect.quotes is Quotes.BARE:
        return _scan_bare(text, data, line, dialect)
    newlines = ends = np.flatnonzero(data == NEWLINE)
    shape = text
    if dialect.quotes is Quotes.BACKSLASH and b"\\" in text:
        text = re.sub(null_cells(dialect.delimiter).encode(), b"  ", text)
        # A letter stands in for each byte that a backslash takes the meaning from.
        data = np.frombuffer(text, dtype=np.uint8).copy()
        at = np.flatnonzero(data == BACKSLASH)
        begins_run = np.concatenate(([True], np.diff(at) > 1))
        run = at[begins_run][np.cumsum(begins_run) - 1]
        escaped = at[(at - run) % 2 == 0] + 1
        data[escaped[escaped < len(data)]] = LETTER
        shape, ends = data.tobytes(), np.flatnonzero(data == NEWLINE)
    delimiters = _bits(data == ord(dialect.delimiter))
    if dialect.quotes is Quotes.NONE or b'"' not in shape:
        return _records(text, _Marks(ends, newlines, delimiters, NOWHERE), line, dialect)
    quotes = _bits(data == QUOTE)
    inside, astray = _parity(quotes), NOWHERE
    beside = _bits((data == NEWLINE) | (data == ord(dialect.delimiter))) | quotes
    before, after = beside << np.uint64(1), beside >> np.uint64(1)
    before[1:] |= beside[:-1] >> np.uint64(63)
    after[:-1] |= beside[1:] << np.uint64(63)
    opens, closes = _places(quotes & inside & ~before), _places(quotes & ~inside & ~after)
    # Else every quote opens a cell, closes one, or is half of a doubled one.
    if not (_begins_cell(data, opens, dialect).all() and _ends_cell(data, closes, dialect).all()):
        borders, astray = _search_cells(shape, dialect)
        turns = np.zeros(len(data), dtype=np.bool_)
        turns[borders[borders < len(data)]] = True
        inside = _parity(_bits(turns))
    outside = ends[inside[ends >> 6] >> (ends & 63).astype(np.uint64) & np.uint64(1) == 0]
    return _records(text, _Marks(outside, newlines, delimiters & ~inside, astray), line, dialect)


def _records(text: bytes, marks: _Marks, line: int, dialect: Dialect) -> tuple[Records, int]:
    if not len(marks.ends):
        return Records(b"", NOWHERE, NOWHERE, NOWHERE, NOWHERE, np.zeros(0, dtype=np.bool_)), 0
    ends = marks.ends
    starts = np.concatenate(([0], ends[:-1] + 1))
    # The delimiters before each end: those of the words before its own, then those of its own word below it.
    counts = np.bitwise_count(marks.delimiters)
    before = np.cumsum(counts, dtype=np.int64) - counts
    below = (np.uint64(1) << (ends & 63).astype(np.uint64)) - np.uint64(1)
    delimiters = before[ends >> 6] + np.bitwise_count(marks.delimiters[ends >> 6] & below)
    cells = np.diff(delimiters, prepend=0) + 1
    lines = line + np.searchsorted(marks.newlines, starts)
    broken = np.zeros(len(ends), dtype=np.bool_)
    owner = np.searchsorted(ends, marks.astray)
    broken[owner[owner < len(ends)]] = True
    records = Records(text, starts, ends, lines, cells, broken)
    # Solid are records of more than delimiters, quotes and blanks: a few bytes settle that for nearly all.
    data, lengths = np.frombuffer(text, dtype=np.uint8), ends - starts
    filler = np.zeros(256, dtype=np.bool_)
    filler[[ord(dialect.delimiter), QUOTE, SPACE, TAB, NEWLINE]] = True
    solid = np.zeros(len(starts), dtype=np.bool_)
    for eighth in (4, 5, 3, 6, 2, 7, 1, 0):
        unsettled = np.flatnonzero(~solid)
        solid[unsettled] = ~filler[data[starts[unsettled] + lengths[unsettled] * eighth // 8]]
    for index in np.flatnonzero(~solid).tolist():
        solid[index] = not filler[data[starts[index] : ends[index]]].all()
    return (records if solid.all() else records.select(solid)), int(ends[-1]) + 1


def _bits(flags: Flags) -> Words:
    """Return the flags as bits, with at least one bit of nothing behind them."""
    packed = np.zeros((len(flags) // 64 + 1) * 8, dtype=np.uint8)
    packed[: (len(flags) + 7) // 8] = np.packbits(flags, bitorder="little")
    return packed.view("<u8")


def _places(bits: Words) -> Ints:
    """Return where the bits are that are set."""
    filled = np.flatnonzero(bits)
    each = np.unpackbits(bits[filled].view(np.uint8), bitorder="little")
    at = np.flatnonzero(each)
    return filled[at // 64] * 64 + at % 64


def _parity(bits: Words) -> Words:
    """Return the bits that have an odd count of set ones up to them."""
    odd = bits.copy()
    for reach in (1, 2, 4, 8, 16, 32):
        odd ^= odd << np.uint64(reach)
    whole = odd >> np.uint64(63)
    before = np.bitwise_xor.accumulate(whole) ^ whole
    odd ^= before * np.uint64(2**64 - 1)
    return odd


def _begins_cell(data: Bytes, at: Ints, dialect: Dialect) -> Flags:
    """Return for each of these positions whether a cell begins there."""
    before = at - 1
    if dialect.skip_initial_space:
        for _ in range(LEADING_SPACES):
            spaces = (before >= 0) & (data[before] == SPACE)
            if not spaces.any():
                break
            before = before - spaces
    begins: Flags = (before < 0) | (data[before] == ord(dialect.delimiter)) | (data[before] == NEWLINE)
    return begins


def _ends_cell(data: Bytes, at: Ints, dialect: Dialect) -> Flags:
    """Return for each of these positions whether a cell ends right behind it."""
    after = data[np.minimum(at + 1, len(data) - 1)]
    ends: Flags = (after == ord(dialect.delimiter)) | (after == NEWLINE) | (at == len(data) - 1)
    return ends


def _search_cells(text: bytes, dialect: Dialect) -> tuple[Ints, Ints]:
    """Return where quoted parts begin and end in turn, and where text stands behind one that has line ends."""
    delimiter = re.escape(dialect.delimiter.encode())
    spaces = b" *+" if dialect.skip_initial_space else b""
    quoted = b'(?:\\A|[%b\n])%b("[^"]*+(?:""[^"]*+)*+"?)([^%b\n]*+)' % (delimiter, spaces, delimiter)
    borders: list[int] = []
    astray: list[int] = []
    for found in re.finditer(quoted, text):
        start, end = found.span(1)
        borders += (start, end)
        behind = found[2].strip(b" ")
        if behind and text.find(b"\n", start, end) >= 0:
            astray.append(start)
        elif dialect.quotes is Quotes.BACKSLASH and behind[:1] == b"\\":
            astray.append(start)  # right behind a closing quote, `csv` and pandas read a backslash as a letter
    return np.array(borders, dtype=np.int64), np.array(astray, dtype=np.int64)


def _scan_bare(text: bytes, data: Bytes, line: int, dialect: Dialect) -> tuple[Records, int]:
    """Scan an export that does not escape inner quotes: a quote counts only at the edge of a cell.

    One between two delimiters opens a cell, or closes one that ends in a delimiter. A record is one line then.
    Inner quotes are doubled in the text that is handed on, so that pandas agrees.
    """
    ends = np.flatnonzero(data == NEWLINE)
    used = int(ends[-1]) + 1 if len(ends) else 0
    data = data[:used]
    quotes = np.flatnonzero(data == QUOTE)
    begins, finishes = _begins_cell(data, quotes, dialect), _ends_cell(data, quotes, dialect)
    passed = np.concatenate(([0], np.cumsum(begins | finishes)))
    first = np.concatenate(([0], np.searchsorted(quotes, ends)))[np.searchsorted(ends, quotes)]
    inside = (passed[:-1] - passed[first]) % 2 == 1
    opens = begins & ~(finishes & inside)
    closes = finishes & ~opens
    depth = np.concatenate(([0], np.cumsum(opens.astype(np.int64) - closes)))
    depth_at_end = depth[np.searchsorted(quotes, ends)]
    base = np.concatenate(([0], depth_at_end))
    level = depth[1:] - base[np.searchsorted(ends, quotes)]
    astray = np.concatenate((quotes[(level < 0) | (level > 1)], ends[depth_at_end != base[:-1]]))
    is_delimiter = data == ord(dialect.delimiter)
    at = np.flatnonzero(is_delimiter)
    is_delimiter[at] = depth[np.searchsorted(quotes, at)] == base[np.searchsorted(ends, at)]
    records, _ = _records(text, _Marks(ends, ends, _bits(is_delimiter), astray), line, dialect)
    inner = quotes[~opens & ~closes & (level == 1)]
    if len(inner):
        starts, ends = (at + np.searchsorted(inner, at) for at in (records.starts, records.ends))
        doubled = np.insert(data, inner, QUOTE).tobytes()
        records = replace(records, text=doubled, starts=starts, ends=ends)
    return records, used
