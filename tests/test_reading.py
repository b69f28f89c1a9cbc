"""Reading: cells and lines as they stand in the file, whatever its line ends and quotes; damage named by line."""

import csv
import io
import os
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from conftest import cases, table
from importer.errors import InputUnusableError
from importer.formats.cells import Dialect, Quotes, plain_cell
from importer.formats.detected import Detection
from importer.formats.detection import detect
from importer.formats.language import CdrFormat, Detect, Layout
from importer.reading.chunks import LONGEST_RECORD_BYTES, SURPLUS_CELLS, BadRow, read_chunks, verbatim_records
from importer.reading.columns import clean_columns
from importer.reading.scanning import OPEN_RECORD_BYTES, scan
from importer.settings.options import Settings
from samples import detected_as

CASES = cases("reading")

NAMES = ("caller", "called", "begun")
HEADER = "Caller,Called,Begun\n"
ROW = "105,+442079460000,2026-03-02 09:14:07\n"
LONG = "b" * LONGEST_RECORD_BYTES

Row = tuple[int, tuple[str, ...]]
Read = tuple[list[Row], list[BadRow]]


def _format(empty_words: tuple[str, ...] = (), *, asks_empty: bool = False, **file: Any) -> CdrFormat:
    """Return a format of three columns, which may ask whether one is empty; ``file`` is its table of that name."""
    with_header = file.get("header", True)
    shape: dict[str, Any] = (
        {"columns": {name: name.title() for name in NAMES}} if with_header else {"layouts": [{"columns": NAMES}]}
    )
    return CdrFormat.model_validate(
        {
            "name": "small",
            "title": "Small",
            "certainty": "src",
            "file": file,
            **shape,
            "empty_words": empty_words,
            "direction": [
                {"when": {"caller": {"empty": False} if asks_empty else {"matches": ".*"}}, "is": "outgoing"}
            ],
            "outcome": [{"when": {"called": {"matches": ".*"}}, "is": "busy"}],
            "time": {"columns": "begun", "formats": ["%Y-%m-%d %H:%M:%S"]},
            "call": {"customer": "called", "agent": "caller", "row": NAMES, "unique_by": NAMES},
        }
    )


def _detected(path: Path, content: str | bytes, cdr_format: CdrFormat) -> Detection:
    path.write_bytes(content if isinstance(content, bytes) else content.encode("utf-8"))
    return detected_as(path, cdr_format)


def _read(detection: Detection, chunk_rows: int = 100_000, block_bytes: int = 1 << 20) -> Read:
    """Return (line, cells) of all rows, and the bad ones, having checked that no line comes twice or too late."""
    rows: list[Row] = []
    bad: list[BadRow] = []
    lines: list[int] = []
    for chunk in read_chunks(detection, chunk_rows, block_bytes=block_bytes):
        assert 0 < len(chunk) <= chunk_rows
        cells = chunk.frame[list(NAMES)].itertuples(index=False, name=None)
        rows += zip(chunk.frame["call.line"].tolist(), cells, strict=True)
        bad += chunk.bad
        lines += sorted([*chunk.frame["call.line"].tolist(), *(each.line for each in chunk.bad)])
    assert lines == sorted({*lines})
    return rows, bad


def _read_text(folder: Path, text: str | bytes, **file: Any) -> Read:
    return _read(_detected(folder / "export.csv", text, _format(**file)))


def _reasons(bad: list[BadRow]) -> list[tuple[int, str]]:
    return [(each.line, each.reason) for each in bad]


def _fates(folder: Path, text: str, **file: Any) -> dict[int, str]:
    """Return what becomes of each line: `row`, or why it is none."""
    rows, bad = _read_text(folder, text, **file)
    fates = {line: "row" for line, _ in rows} | dict(_reasons(bad))
    assert len(fates) == len(rows) + len(bad)
    return fates


def _is_solid(text: str, delimiter: str) -> bool:
    """Say whether a record is more than delimiters, quotes and blanks."""
    return bool(text.strip(f'{delimiter} \t"\n'))


# Tables that csv.writer wrote
LETTERS = st.one_of(
    st.sampled_from(list("ab1+ \t\"',;|\n\u00e9\u6f22\U0001f4de\ufeff\u2028\x0b\x85")),
    st.characters(exclude_characters="\0\x1f\r", exclude_categories=("Cs",)),
)
CELLS = st.text(LETTERS, max_size=8)
TABLES = st.lists(st.tuples(CELLS, CELLS, CELLS), max_size=12)
CHUNK_ROWS = st.sampled_from([1, 7, 100_000])
BLOCK_BYTES = st.one_of(st.integers(1, 50), st.just(1 << 20))


def _written(rows: list[tuple[str, ...]], delimiter: str, quoting: int, line_end: str) -> str:
    stream = io.StringIO()
    csv.writer(stream, delimiter=delimiter, quoting=quoting, lineterminator="\n").writerows(rows)  # type: ignore[arg-type]
    return stream.getvalue().replace("\n", line_end)


def _expected(rows: list[tuple[str, ...]], delimiter: str) -> list[Row]:
    expected, line = [], 2
    for cells in rows:
        if _is_solid("".join(cells), delimiter):
            expected.append((line, tuple(plain_cell(cell) for cell in cells)))
        line += 1 + sum(cell.count("\n") for cell in cells)
    return expected


@pytest.mark.fault(12, 13)
@given(
    TABLES,
    st.sampled_from([",", ";", "\t", "|"]),
    st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    CHUNK_ROWS,
    BLOCK_BYTES,
)
@example([("\ufeff", "a", ""), ('\ufeff"', "\n", "")], ",", csv.QUOTE_MINIMAL, "\n", "utf-8", 1, 1)
def test_any_table(
    folder: Path,
    rows: list[tuple[str, ...]],
    delimiter: str,
    quoting: int,
    line_end: str,
    encoding: str,
    chunk_rows: int,
    block_bytes: int,
) -> None:
    """Whatever csv.writer writes is read back cell by cell with its lines, in chunks and blocks of any size."""
    text = _written([NAMES, *rows], delimiter, quoting, line_end)
    detection = _detected(folder / "table.csv", text.encode(encoding), _format(delimiters=[delimiter]))
    assert _read(detection, chunk_rows, block_bytes) == (_expected(rows, delimiter), [])


# Any text at all, against a reader that goes letter by letter
class UnclosedError(Exception):
    """A quote is not closed where its cell ends."""


class OddEscapeError(Exception):
    """A backslash stands right behind a closing quote, which no program writes."""


ModelRecord = tuple[int, list[str] | None, str]


def _model(text: str, dialect: Dialect) -> list[ModelRecord]:
    """Split as csv.reader does, letter by letter: (line, cells, record as it stands).

    The cells are None of a last record whose quoted cell, or escaped letter, the end of the text leaves open.
    """
    records: list[ModelRecord] = []
    line = start_line = 1
    start, cells, cell, state = 0, list[str](), "", "begin"
    spread = escaped = False
    for at, letter in enumerate(text):
        doubled = state == "closed" and letter == '"' and text[at - 1] == '"'
        if letter == "\n":
            line += 1
        if escaped:
            cell, escaped = cell + letter, False
        elif letter == "\\" and dialect.quotes is Quotes.BACKSLASH:
            if state == "closed":
                raise OddEscapeError
            state, escaped = "quoted" if state == "quoted" else "plain", True
            if spread and state == "plain":
                raise UnclosedError
        elif state == "quoted":
            spread |= letter == "\n"
            state, cell = ("closed", cell) if letter == '"' else (state, cell + letter)
        elif letter in ("\n", dialect.delimiter):
            cells, cell, state, spread = [*cells, cell], "", "begin", False
            if letter == "\n":
                records.append((start_line, cells, text[start:at]))
                start, start_line, cells = at + 1, line, []
        elif state == "begin" and letter == '"':
            state = "quoted"
        elif doubled:
            state, cell = "quoted", cell + '"'
        elif not (state == "begin" and letter == " " and dialect.skip_initial_space):
            if spread and letter != " ":
                raise UnclosedError
            state, cell = "plain", cell + letter
    if state == "quoted" or escaped:
        records.append((start_line, None, text[start:].removesuffix("\n")))
    elif text[start:]:
        records.append((start_line, [*cells, cell], text[start:]))
    return records


TEXTS = st.text(st.sampled_from('ab1 ,"\n\\'), max_size=60)


@given(TEXTS, st.sampled_from(["doubled", "backslash"]), st.booleans(), CHUNK_ROWS, BLOCK_BYTES)
@example('a,b",c\n', "doubled", False, 100_000, 50)
@example(",,1,", "doubled", False, 1, 1 << 20)
@example('"\n"1\\', "backslash", False, 1, 1 << 20)
@example('a,"b"c,"d\n', "doubled", False, 1, 1)
@example('a,  "b,b",c\n', "doubled", True, 1, 1 << 20)
@example('"\n,,', "doubled", False, 1, 1 << 20)
@example('"1\n,,"', "doubled", False, 1, 1 << 20)
@example('"\\"a\\\\",\\"b\\,1\\",1\\\n1\na', "backslash", False, 1, 1)
def test_any_rows(folder: Path, body: str, quotes: str, skip: bool, chunk_rows: int, block_bytes: int) -> None:
    """Below a header, rows of any text become the cells of csv.reader or bad rows, and never more or fewer."""
    detection = _detected(folder / "rows.csv", HEADER + body, _format(skip_initial_space=skip, quotes=quotes))
    try:
        records = _model(HEADER + body, Dialect(",", detection.dialect.quotes, skip))[1:]
    except OddEscapeError:
        return
    except UnclosedError:
        if body.endswith("\\"):  # the file may go on: an unfinished row, unless it takes in a whole one
            return
        records = [(2, None, "\n1,2,3")]
    is_open = bool(records) and (records[-1][1] is None or body.endswith(records[-1][2] or "\0"))
    if is_open and len(records[-1][1] or ()) >= 3:  # whether its last cell is whole is a matter of its own
        (folder / "rows.csv").write_text(f"{HEADER}{body}\n", encoding="utf-8")
        is_open = False
    is_torn = is_open and records[-1][1] is None and _is_solid(records[-1][2], ",")
    swallowed = records[-1][2].split("\n")[1:] if is_torn else []
    if any(line.count(",") >= 2 for line in swallowed):
        with pytest.raises(InputUnusableError):
            _read(detection, chunk_rows, block_bytes)
        return
    wanted, wrong = [], []
    for number, (line, cells, record) in enumerate(records, 1):
        is_moved = len(cells or ()) > 3 and plain_cell(cells[2]) != ""  # no text is a start
        if cells and len(cells) >= 3 and not (is_moved or any(cell.strip() for cell in cells[3:])):
            wanted.append((line, tuple(plain_cell(cell) for cell in cells[:3])))
        else:
            wrong.append((line, "unfinished_row" if is_open and number == len(records) else "wrong_cell_count"))
        if not _is_solid(record, ","):
            (wanted if wanted and wanted[-1][0] == line else wrong).pop()
    rows, bad = _read(detection, chunk_rows, block_bytes)
    assert (rows, _reasons(bad)) == (wanted, wrong)


# Damage
@pytest.mark.fault(7)
@table(
    ("body", "line"),
    [
        ('105,"+1555\n' + ROW * 3, 2),
        (ROW + '105,"+1555,x\n' + '"105","+1555","x"\n' * 3, 3),  # up to a quote that opens another cell
        ('1,"a\n2,b,c\n3,"d,e\n' + ROW, 2),  # two that would pair up
        ('1,"a\n2,b\n3,"c\n', 2),
        (ROW * 2 + '105,b,"2026\n' + ROW[:-4], 4),
        ('a,b"b,c\n105,"+1555\n' + ROW, 3),  # behind a stray quote
        ('105,"+1555\n' + 'a,b"b,c\n' * 40_000, 2),
    ],
)
def test_unclosed_quote(tmp_path: Path, body: str, line: int) -> None:
    """A quote that is not closed where its cell ends stops the file and is named by its line."""
    with pytest.raises(InputUnusableError, match=rf"export\.csv: line {line}: a quote"):
        _read_text(tmp_path, HEADER + body)


def test_unclosed_quote_bounded() -> None:
    """An unclosed quote is found out when 16 MiB are read, however long the file is."""
    taken = []

    def endless() -> Iterator[bytes]:
        yield b'a,"b\n'
        while True:
            taken.append(1 << 20)
            yield (b"c" * 4093 + b",d\n") * (1 << 8)

    with pytest.raises(InputUnusableError, match="line 1: a quote"):
        list(scan(endless(), Dialect(",", Quotes.DOUBLED), "export.csv"))
    assert sum(taken) <= OPEN_RECORD_BYTES + (1 << 20)


def test_endless_line() -> None:
    """A line without end is found out when 16 MiB are read, and is not called a quote."""
    with pytest.raises(InputUnusableError, match="line 1: the line is longer than 16 MiB"):
        list(scan(iter([b"x" * (1 << 20)] * 17), Dialect(",", Quotes.DOUBLED), "export.csv"))


@pytest.mark.fault(9, 10, 11)
@table(
    ("reason", "records"),
    [
        ("wrong_cell_count", ("a,b", "a", "a,b,c,d", "a,b,c,,,d", "a,b,c" + "," * (SURPLUS_CELLS + 1))),
        ("wrong_cell_count", ("a,b" + ",x" * 50_000,)),
        ("control_character", ("a,b\0b,c", "a,b\0b", "a,b\x1fb,c")),
        ("over_long_row", (f"a,{LONG},c", f'a,"{LONG}",c', f'a"a,{LONG},c')),
    ],
)
@table("drop_rows", [[], [{"caller": "Totals"}]])
def test_bad_row(tmp_path: Path, records: tuple[str, ...], reason: str, drop_rows: list[Any]) -> None:
    """A row of the wrong shape is named by its line, and its neighbours are read."""
    for record in records:
        found = _fates(tmp_path, f"{HEADER}{ROW}{record}\n{ROW}", drop_rows=drop_rows)
        assert found == {2: "row", 3: reason, 4: "row"}, record[:80]


@table(("quotes", "row", "cells"), CASES["spilled"])
def test_surplus_cells_spill(quotes: str, row: str, cells: tuple[str, ...], tmp_path: Path) -> None:
    """What a row has too many cells is joined into the one that the format lets spill, on that row alone."""
    rows, bad = _read_text(tmp_path, f"{HEADER}1,2,3\n{row}\n4,5,6\n7,8\n", quotes=quotes, spill="called")
    end = 4 + row.count("\n")
    assert rows == [(2, ("1", "2", "3")), (3, tuple(cells)), (end, ("4", "5", "6"))]
    assert _reasons(bad) == [(end + 1, "wrong_cell_count")]


def test_cells_behind_an_open_end_are_passed_over(tmp_path: Path) -> None:
    """Where a layout has an open end, rows may have any number of cells behind those it names."""
    cdr_format = _format(header=False).model_copy(update={"layouts": (Layout(columns=NAMES, open_end=True),)})
    rows, bad = _read(_detected(tmp_path / "export.csv", "a,b,c,d,e\nf,g,h\ni,j\nk,l,m,,n\n", cdr_format))
    assert rows == [(1, ("a", "b", "c")), (2, ("f", "g", "h")), (4, ("k", "l", "m"))]
    assert _reasons(bad) == [(3, "wrong_cell_count")]


@table("tail", [",", ",,,", ", ,", ",\t", "," * SURPLUS_CELLS])
@table("where", ["on-some-rows", "on-all-rows", "on-header-too"])
def test_surplus_empty_cells(tmp_path: Path, tail: str, where: str) -> None:
    """Empty cells behind the last column shift nothing, be they on some rows or on all."""
    header = HEADER.rstrip("\n") + (tail if where == "on-header-too" else "")
    plain = "a,b,2026-03-02" if where == "on-some-rows" else f"a,b,2026-03-02{tail}"
    rows, bad = _read_text(tmp_path, f"{header}\na,b,2026-03-02{tail}\n{plain}\n")
    assert (rows, bad) == ([(2, ("a", "b", "2026-03-02")), (3, ("a", "b", "2026-03-02"))], [])


def test_row_torn_apart(tmp_path: Path) -> None:
    """A row with an empty cell too many is none where its start is something else, or empty as all starts."""
    assert _fates(tmp_path, f"{HEADER}Lee,+442079460000,2/3/26 9:14,\n{ROW}") == {2: "row", 3: "row"}
    for number in ("+442079460000", "442079460000"):
        assert _fates(tmp_path, f"{HEADER}Lee,Ann,{number},\n{ROW}") == {2: "wrong_cell_count", 3: "row"}
    assert _fates(tmp_path, f"{HEADER}a,b,,\n{ROW}") == {2: "row", 3: "row"}
    assert _fates(tmp_path, f"{HEADER}0,a,,\n1,b,x,\n") == {2: "wrong_cell_count", 3: "wrong_cell_count"}


@table("tail", ["", ",", ",,"])
def test_row_with_more_cells_than_most(tmp_path: Path, tail: str) -> None:
    """A row with more empty cells at its end than most is none where a cell begins with a space: `Lee, Ann`."""
    plain = "a,b,2026-03-02"
    cells = (plain, plain, "Lee, Ann,2026-03-02,", '"Lee, Ann",b,2026-03-02,', plain)
    rows = "".join(f"{each}{tail}\n" for each in cells)
    fates = {2: "row", 3: "row", 4: "wrong_cell_count", 5: "row", 6: "row"}
    assert _fates(tmp_path, f"{HEADER}{rows}") == fates


@table(("text", "fates"), CASES["lines"])
def test_lines(tmp_path: Path, text: str, fates: dict[str, str]) -> None:
    """Title, blank lines and a header over two lines count as lines, and each line below is a row or a bad one."""
    assert {str(line): fate for line, fate in _fates(tmp_path, text).items()} == fates


# A last row that is not written to its end
@pytest.mark.fault(15)
@table("quote", ["", '"'])
@table("quotes", ["doubled", "bare", "backslash"])
def test_cut_off(tmp_path: Path, quotes: str, quote: str) -> None:
    """Cut off near any border of a cell, the rows above are read and the last one is unfinished, or read whole."""
    whole = tuple(ROW.strip().split(","))
    last = ",".join(f"{quote}{cell}{quote}" for cell in whole) + "\n"
    ends = [at for at, character in enumerate(last) if character in ",\n"]
    for cut in sorted({1, 2, *(at + by for at in ends for by in (-1, 0, 1) if at + by < len(last))}):
        rows, bad = _read_text(tmp_path, HEADER + last * 2 + last[:cut], quotes=quotes)
        assert rows[:2] == [(2, whole), (3, whole)]
        if last[:cut] == '"':
            assert (rows[2:], bad) == ([], []), "a quote alone is a blank line"
        elif cut == len(last) - 1:
            assert (rows[2:], bad) == ([(4, whole)], [])
        else:
            assert (rows[2:], _reasons(bad)) == ([], [(4, "unfinished_row")]), last[:cut]


@table(("begun", "reasons"), CASES["last_cells"])
@table("chunk_rows", [1, 100])
def test_end_inside_the_last_cell(tmp_path: Path, begun: list[str], reasons: list[str], chunk_rows: int) -> None:
    """Without a line end, a cell that tells the calls apart must be proved whole by itself or by those above."""
    text = HEADER + "\n".join(f"105,+442079460000,{each}" for each in begun)
    rows, bad = _read(_detected(tmp_path / "export.csv", text, _format()), chunk_rows)
    assert ([each.reason for each in bad], len(rows) + len(bad)) == (reasons, len(begun))
    assert all("add a line end" in each.hint for each in bad)


# Long rows
def test_chunk_is_bounded_by_text_too(tmp_path: Path) -> None:
    """A chunk holds a few blocks of text at most, however many rows it may have."""
    row = "a" * 1000 + ",b,c\n"
    detection = _detected(tmp_path / "export.csv", HEADER + row * 200, _format())
    chunks = list(read_chunks(detection, 100_000, block_bytes=10_000))
    assert (sum(map(len, chunks)), max(map(len, chunks)) * len(row) <= 50_000) == (200, True)


# Files that change
def _grow(path: Path) -> None:
    with path.open("a") as stream:
        stream.write(ROW)


def _replace(path: Path) -> None:
    """Replace a file by one of the same size and times."""
    times, other = path.stat(), path.with_name("other.csv")
    other.write_bytes(path.read_bytes())
    os.utime(other, ns=(times.st_atime_ns, times.st_mtime_ns))
    other.replace(path)


@pytest.mark.fault(16)
@table("change", [_grow, _replace, Path.unlink])
def test_changing_file(tmp_path: Path, change: Callable[[Path], None]) -> None:
    """A file that grows, is removed or replaced by one of the same size while it is read is not used."""
    detection = _detected(tmp_path / "export.csv", HEADER + ROW * 20, _format())
    chunks = read_chunks(detection, 1, block_bytes=100)
    next(chunks)
    change(detection.path)
    with pytest.raises(InputUnusableError, match="changed while it was read") as refused:
        list(chunks)
    assert "cat export.csv | cdr-importer import" in refused.value.hint


def test_file_begun_anew(tmp_path: Path) -> None:
    """A file that got shorter after its detection is not used; one that grew is read to its end."""
    detection = _detected(tmp_path / "export.csv", HEADER + ROW * 3, _format())
    with detection.path.open("a", encoding="utf-8") as export:
        export.write(ROW)
    assert len(_read(detection)[0]) == 4
    for text in ("", HEADER + ROW):
        detection.path.write_text(text, encoding="utf-8")
        with pytest.raises(InputUnusableError, match="changed while it was read"):
            _read(detection)


def test_file_of_another_encoding(tmp_path: Path) -> None:
    """A file that was exchanged for one of another encoding after its detection is not used."""
    detection = _detected(tmp_path / "export.csv", (HEADER + ROW).encode("utf-16"), _format())
    detection.path.write_bytes(HEADER.encode("utf-16") + b"\x00\xd8\x00\xd8")
    with pytest.raises(InputUnusableError, match="changed while it was read"):
        _read(detection)


# Encodings and line ends


@pytest.mark.fault(14)
@table("block_bytes", [1, 2, 7, 1 << 20])
def test_mixed_line_ends(tmp_path: Path, block_bytes: int) -> None:
    """CR LF, lone CR and LF end a line each, also all in one file and cut apart by a block."""
    text = HEADER + "a,b,c\r\nd,e,f\rg,h,i\n\r\n\r\rj,k,l\r\n"
    detection = _detected(tmp_path / "export.csv", text, _format())
    rows, _ = _read(detection, block_bytes=block_bytes)
    assert [(line, cells[0]) for line, cells in rows] == [(2, "a"), (3, "d"), (4, "g"), (8, "j")]


# Cells
@table(("written", "meant"), CASES["cells"])
def test_cell_as_it_was_meant(tmp_path: Path, written: str, meant: str) -> None:
    """Forced text is unwrapped, direction marks go, no-break spaces are spaces; what belongs to a name stays."""
    assert _read_text(tmp_path, f"{HEADER}x,y,{written}\n{ROW}")[0][0] == (2, ("x", "y", meant))


def test_words_for_nothing(tmp_path: Path) -> None:
    """They are empty where a format asks whether a cell is, and else a text."""
    words = ["NA", "N/A", "n/a", "#N/A", "#REF!", "-" * 12, "\u2010", "\u2212" * 4, "(blank)", "[]", "{}"]
    words += ["Null", "none", "nil", "NIL", "undefined", "False", "false", "FALSE"]
    text = HEADER + "".join(f"{word},x,{word}\n" for word in words) + ROW
    rows, _ = _read(_detected(tmp_path / "export.csv", text, _format(asks_empty=True)))
    assert [cells for _, cells in rows[:-1]] == [("", "x", word) for word in words]


MARKS = "\u00a0\u202f\u2007\u200b\u200c\u200e\u202a\u2066\ufeff\u00ad\u061c"
MARKED = st.lists(st.sampled_from(["\\N", *("a1+ \t\"'=(\n" + MARKS)]), max_size=8).map("".join)


@given(st.lists(MARKED, min_size=1, max_size=5))
@example(['="\n"'])
@example(["'+\n"])
def test_cleaning_of_columns(cells: list[str]) -> None:
    """Whole columns are cleaned as single cells are."""
    column = pa.array(cells, type=pa.large_string())
    ((_, cleaned),) = clean_columns({0: column}, "\n".join(cells).encode("utf-8"), ())
    assert cleaned.to_pylist() == [plain_cell(cell) for cell in cells]


def test_empty_words(tmp_path: Path) -> None:
    """A format's words for `nothing` become empty text as whole trimmed cells only, in their own letter case."""
    text = HEADER + "NA, NA ,na\nNAN,- NA,NA\n"
    detection = _detected(tmp_path / "export.csv", text, _format(empty_words=("NA", "-", "")))
    assert _read(detection)[0] == [(2, ("", "", "na")), (3, ("NAN", "- NA", ""))]


# Rows that are none
TOTALS = [{"caller": {"matches": "Totals?:?"}}]


@table("footer", ["Totals", "Totals,2", "Totals,2,3", "Totals,2,3,,", '"Totals"', " Totals ,,"])
def test_dropped_row(tmp_path: Path, footer: str) -> None:
    """A line of totals, of whatever length and with or without line end, is no row."""
    for line_end in ("\n", ""):
        assert _fates(tmp_path, f"{HEADER}{ROW}{footer}{line_end}", drop_rows=TOTALS) == {2: "row"}


@table("chunk_rows", [1, 2, 100])
def test_dropped_row_in_the_middle(tmp_path: Path, chunk_rows: int) -> None:
    """Totals between the rows leave no gap in their numbers, in chunks of any size."""
    text = f"{HEADER}{ROW}Totals,1\n{ROW}a,b\nTotals,2\n{ROW}"
    rows, bad = _read(_detected(tmp_path / "export.csv", text, _format(drop_rows=TOTALS)), chunk_rows)
    assert ([line for line, _ in rows], _reasons(bad)) == ([2, 4, 7], [(5, "wrong_cell_count")])


@table("line", CASES["no_rows"])
def test_line_that_is_no_row(tmp_path: Path, line: str) -> None:
    """Totals, what database clients print around rows, and the header again, is no row, wherever it stands."""
    assert _fates(tmp_path, f"{HEADER}{line}\n{ROW}{line}\n{ROW}{line}") == {3: "row", 5: "row"}


@table(("fate", "lines"), CASES["resembling"])
def test_line_that_resembles_such(tmp_path: Path, fate: str, lines: tuple[str, ...]) -> None:
    """What only resembles such a line is a row, or a bad one."""
    for line in lines:
        assert _fates(tmp_path, f"{HEADER}{line}\n{ROW}") == {2: fate, 3: "row"}, line


@table("title", ["Calls of {} March", "{} calls", "Report: {},,"])
def test_title_again(tmp_path: Path, title: str) -> None:
    """A line above the header that comes again with other figures is no row, if it begins with a word."""
    text = f"{title.format(1)}\n{HEADER}{ROW}{title.format(22)}\n{HEADER}{ROW}"
    bad = {4: "wrong_cell_count"} if title.startswith("{") else {}
    assert _fates(tmp_path, text) == {3: "row", 6: "row", **bad}


@table("again", ["Called,Caller,Begun", "Caller,Called,Begun,Note", "Begun,Caller,Called"])
@table("before", ["", "105,+442079460000,2026-03-02 09:14:07"])
def test_header_of_another_layout(tmp_path: Path, again: str, before: str) -> None:
    """Rows of two layouts in one file are refused by the line of the second header, or their columns would mix."""
    with pytest.raises(InputUnusableError, match="line 3: a header stands here again"):
        _read_text(tmp_path, f"{HEADER}{ROW}{before}{again}\n{ROW}")


@table("above", [f"{HEADER}105;{ROW}", HEADER.upper(), f"Calls of March\n{HEADER}{ROW}"])
def test_rows_above_a_header_with_another_delimiter(tmp_path: Path, above: str) -> None:
    """They are refused and not passed over like lines of a title."""
    path = tmp_path / "export.csv"
    path.write_text(above + (HEADER + ROW * 3).replace(",", ";"), encoding="utf-8")
    proved = _format().model_copy(update={"detect": Detect(patterns={"begun": r"\d{4}-.*"})})
    with pytest.raises(InputUnusableError, match=r"export\.csv: a header stands .* another delimiter"):
        detect(path, [proved], Settings())


def test_rows_above_the_header(tmp_path: Path) -> None:
    """A row with most cells empty is no line of a title either, where it has a start and a number."""
    sparse, header = ",,,+442079460000,,2026-03-02 09:14:07,,\n", ",,,Called,Caller,Begun,,\n"
    with pytest.raises(InputUnusableError):
        _read_text(tmp_path, f"{sparse}{header}")
    assert _read_text(tmp_path, f"Calls,,,,,2026-03-02,,\n{header}{sparse}")[0][0][0] == 3


@table("block_bytes", [1, 2, 3, 5, 1 << 20])
@table("line_end", ["\n", "\r\n", "\r"])
def test_mark_inside_a_joined_file(tmp_path: Path, block_bytes: int, line_end: str) -> None:
    """The byte order mark of a file put behind another is no part of a cell, quoted or not."""
    text = f'{HEADER}{ROW}\ufeff"105","a","b"\n\ufeff106,a,b\n'.replace("\n", line_end)
    rows, bad = _read(_detected(tmp_path / "export.csv", text, _format()), block_bytes=block_bytes)
    assert ([cells[0] for _, cells in rows], bad) == (["105", "105", "106"], [])


# Files that a spreadsheet wrote anew
@table("line", ["sep=;", "SEP=;", '"sep=;"', "\ufeffsep=;", "sep=;;;"])
@table("line_end", ["\n", "\r\n", "\r"])
@table("header", [True, False])
def test_separator_line(tmp_path: Path, line: str, line_end: str, header: bool) -> None:
    """Excel's line `sep=;` is no row, counts as a line and tells the delimiter, with a header and without."""
    text = f"{line}\n{HEADER if header else ''}{ROW}".replace(",", ";").replace("\n", line_end)
    rows, bad = _read_text(tmp_path, text, header=header)
    assert (rows, bad) == ([(3 if header else 2, tuple(ROW.strip().split(",")))], [])


# Exports that quote in their own way
UNAMBIGUOUS = CELLS.map(lambda text: text.replace("\n", " ")).filter(
    lambda text: re.search(r'",|, *"|""', text) is None
)


@given(
    st.lists(st.tuples(UNAMBIGUOUS, UNAMBIGUOUS, UNAMBIGUOUS), max_size=8), st.sampled_from(["", " "]), BLOCK_BYTES
)
def test_bare_quotes(folder: Path, rows: list[tuple[str, ...]], space: str, block_bytes: int) -> None:
    """Cells quoted by plain text substitution are read back where none of their quotes stands beside a comma."""
    lines = [f",{space}".join(f'"{cell}"' for cell in cells) for cells in [NAMES, *rows]]
    cdr_format = _format(quotes="bare", skip_initial_space=True)
    detection = _detected(folder / "bare.csv", "\n".join(lines) + "\n", cdr_format)
    assert _read(detection, block_bytes=block_bytes) == (_expected(rows, ","), [])


@table("record", ['"Clarke, "Em" Emma","b","c"', '"a,",b","c"', '"a","b","c', 'a",b,c', '"a" ,"b","c"', ',"a,b'])
def test_broken_quotes(tmp_path: Path, record: str) -> None:
    """A row whose bare quotes cannot be paired is bad, and its neighbours are read."""
    text = f'{HEADER}",\n{ROW}{record}\n",\n{ROW}'
    found = _fates(tmp_path, text, quotes="bare", skip_initial_space=True)
    assert found == {3: "row", 4: "broken_quotes", 6: "row"}


@table(("body", "quotes", "cells"), CASES["backslashes"])
@table("own", ["doubled", "bare", "backslash"])
def test_backslash_quotes(tmp_path: Path, body: str, quotes: str, cells: tuple[str, ...], own: str) -> None:
    """A backslash takes the meaning from a quote only where the quotes of the file pair so, and only so."""
    detection = _detected(tmp_path / "export.csv", f"{HEADER}{body}\n", _format(quotes=own))
    if own == "doubled" or quotes == "backslash":
        assert detection.dialect.quotes == quotes
        assert _read(detection) == ([(2, tuple(cells))], [])


@table(("quotes", "record", "cells"), CASES["letters"])
def test_quote_that_is_a_letter(tmp_path: Path, quotes: str, record: str, cells: tuple[str, ...]) -> None:
    """Without quoting, and inside a cell where quotes are bare, a quote is a letter; without it, commas part."""
    assert _read_text(tmp_path, f"{HEADER}{record}\n", quotes=quotes) == ([(2, tuple(cells))], [])


# Verbatim
ODD_RECORDS = ('a"a,b,c', '"a","b ""b""",  c ', 'a,"b\r\nb",c', "é,b", 'a,"b"c",d,e', "a,b,c,,,")


@table("line_end", ["\n", "\r\n", "\r"])
@table("encoding", ["utf-8", "utf-8-sig", "utf-16", "cp1252"])
@table("block_bytes", [1, 7, 1 << 20])
def test_verbatim(tmp_path: Path, line_end: str, encoding: str, block_bytes: int) -> None:
    """Records stand in the file of rejects as in the export, with its header but not what stands above that."""
    text = line_end.join(("March,,", HEADER.strip(), "", *ODD_RECORDS)) + line_end
    cdr_format = _format(encodings=["utf-8", "cp1252"])
    detection = _detected(tmp_path / "export.csv", text.encode(encoding), cdr_format)
    found = list(verbatim_records(detection, [4, 5, 6, 8, 9, 10], block_bytes=block_bytes))
    assert found == [*zip((2, 4, 5, 6, 8, 9, 10), (HEADER.strip(), *ODD_RECORDS), strict=True)]


@table("block_bytes", [1, 20, 1 << 20])
def test_verbatim_bare_quotes(tmp_path: Path, block_bytes: int) -> None:
    """The doubling of bare quotes that reading does inside does not show in the file of rejects."""
    records = ['"Emma "Em" Clarke","b","c"', '"Clarke, "Em" Emma","b","c"', '"""","b","c"']
    text = "\n".join([*records, *records, '"x"y","b","c"'])
    detection = _detected(tmp_path / "export.csv", text, _format(header=False, quotes="bare"))
    found = verbatim_records(detection, [1, 2, 3, 7], block_bytes=block_bytes)
    assert [*found] == [*enumerate(records, 1), (7, '"x"y","b","c"')]


def test_verbatim_of_an_unfinished_row(tmp_path: Path) -> None:
    """A last row in which a quote is still open is given as it stands, and does not hide the bad rows above."""
    text = f'{HEADER}{ROW}a,b\r\n105,"+44,\r\n20'
    detection = _detected(tmp_path / "export.csv", text, _format())
    assert _reasons(_read(detection)[1]) == [(3, "wrong_cell_count"), (4, "unfinished_row")]
    found = verbatim_records(detection, [3, 4], block_bytes=7)
    assert [text for _, text in found] == [HEADER.strip(), "a,b", '105,"+44,\r\n20']
