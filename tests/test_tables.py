"""Rows that are no lines of delimited cells: sheets of workbooks, JSON objects, printed columns."""

import csv
import gzip
import io
import json
import re
import sys
import zipfile
from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
import xlsxwriter
from hypothesis import given
from hypothesis import strategies as st

import samples
from conftest import CASE_FILES, Program, cases, read_results, table
from importer.errors import ConfigurationError, InputUnusableError
from importer.files.export import open_tables
from importer.files.json_objects import FIRST_RECORDS, LONGEST_VALUE, rows_of_cells, rows_of_objects
from importer.files.workbooks import OLE2
from importer.formats.detected import Detection
from importer.formats.detection import detect
from importer.formats.language import CdrFormat
from importer.formats.sample import spilled
from importer.reading.chunks import read_chunks
from importer.settings.options import Settings

CASES = cases("tables")

Rows = list[list[str]]
MOMENT = re.compile(r"\d{4}-(?!02-3)\d\d-\d\d \d\d:[0-5]\d:\d\d")
WHOLE = re.compile(r"0|[1-9]\d{0,14}")
FEW = {"asterisk-csv/day.csv", "dialpad/calls.csv", "callnotify/day.csv"}
LONGEST_CELL = 32_767
"""Excel's limit."""


def rows_of(path: Path) -> Rows:
    """Return all records of a sample as cells of one width, each on one line and no longer than Excel has them.

    Cells that a delimiter without quotes has split are one again.
    """
    found = samples.detected(path)
    rows = [[*spilled(row, found.field_count, found.spill)] for row in samples.cells_of(path)]
    width = max(map(len, rows))
    return [
        [re.sub(r"[\r\n]+", " ", cell)[:LONGEST_CELL] for cell in [*row, *[""] * (width - len(row))]]
        for row in rows
    ]


def write_csv(path: Path, rows: Rows) -> Path:
    """Write rows as comma-separated text."""
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
    return path


def write_sheet(path: Path, rows: Rows, *, typed: bool = False) -> Path:
    """Write rows as a workbook of text cells; with ``typed`` moments and whole numbers as what they are."""
    book = xlsxwriter.Workbook(path, {"strings_to_urls": False})
    sheet = book.add_worksheet("Calls")
    moment = book.add_format({"num_format": "yyyy-mm-dd hh:mm:ss"})
    for place, row in enumerate(rows):
        for column, cell in enumerate(row):
            if typed and MOMENT.fullmatch(cell):
                sheet.write_datetime(place, column, datetime.fromisoformat(cell), moment)
            elif typed and WHOLE.fullmatch(cell):
                sheet.write_number(place, column, int(cell))
            elif cell:
                sheet.write_string(place, column, cell)
    book.close()
    return path


def assert_same_outcomes(path: Path, expected: Path, of: Detection, higher: int = 0) -> None:
    """Assert that a row of a file, so many lines ``higher``, has the outcome that it has in the expected one."""
    files = []
    for each, more in ((path, higher), (expected, 0)):
        found = samples.detected_as(each, of.format)
        chunks = [*read_chunks(found)]
        lines = [
            line + more
            for chunk in chunks
            for line in (*chunk.frame["call.line"], *(bad.line for bad in chunk.bad))
        ]
        files.append((samples.rows_read(found), lines, found, more))
    if files[0][:2] == files[1][:2]:
        return
    plan = samples.plan_for(of.format.name)
    listed = [
        [(each.place.line + more, samples.content_of(each)) for each in samples.prepared([found], plan).listed]
        for *_, found, more in files
    ]
    assert listed[0] == listed[1]


WRITINGS: dict[str, Callable[[list[dict[str, str]]], str]] = {
    "lines": lambda objects: "".join(f"{json.dumps(each, ensure_ascii=False)}\n" for each in objects),
    "array": json.dumps,
    "envelope": lambda objects: json.dumps({"page": 0, "calls": objects, "next_page_uri": None}),
}


def as_objects(folder: Path, found: Detection, rows: Rows, writing: str) -> None:
    """Assert that rows below a header, written as JSON objects, have the outcomes of their CSV."""
    if not found.header or len({*filter(None, found.header)}) < len(found.header):
        return
    body = rows.index([*found.header, *[""] * (len(rows[0]) - len(found.header))]) + 1
    objects = [dict(zip(found.header, row, strict=False)) for row in rows[body:]]
    (folder / "export.json").write_text(WRITINGS[writing](objects), encoding="utf-8")
    expected = write_csv(folder / "body.csv", [[*found.header], *([*each.values()] for each in objects)])
    assert_same_outcomes(folder / "export.json", expected, found, higher=1)


@pytest.mark.parametrize("path", samples.for_each(samples.INPUTS, FEW))
def test_sample_as_a_table(tmp_path: Path, path: Path) -> None:
    """A sample on a sheet, or as JSON objects a line higher, has the outcomes of its CSV, row by row."""
    number, found, rows = samples.INPUTS.index(path), samples.detected(path), rows_of(path)
    if found.format.file.columns:
        return  # printed text is no sheet
    sheet = write_sheet(tmp_path / "export.xlsx", rows, typed=number % 4 != 0)
    assert_same_outcomes(sheet, write_csv(tmp_path / "export.csv", rows), found)
    as_objects(tmp_path, found, rows, [*WRITINGS][number % len(WRITINGS)])


# workbooks ----------------------------------------------------------------------------------------------------
HEADER = ["id", "from", "to", "start_time", "state"]


def call(number: int) -> list[object]:
    """Return a row of the format `callnotify`."""
    moment = datetime(2026, 3, 2, 9, 14, number % 60)
    return [f"call{number}", "+12125550101", f"+1212555{number:04}", moment, "busy"]


def book_of(
    path: Path, sheets: dict[str, list[list[object]]], hidden: tuple[str, ...] = (), **options: bool
) -> Path:
    """Write a workbook of these sheets; cells keep their type, texts that begin with `=` are formulas."""
    book = xlsxwriter.Workbook(path, {"default_date_format": "yyyy-mm-dd hh:mm:ss", **options})
    for name, rows in sheets.items():
        sheet = book.add_worksheet(name)
        for place, row in enumerate(rows):
            sheet.write_row(place, 0, row)
        if name == hidden:
            sheet.hide()
    book.close()
    return path


def lines_of(path: Path, sheet: str | None = None) -> list[str]:
    """Return the CSV text of a workbook's only sheet, without the empty cells at the ends of lines."""
    ((only,),) = open_tables(path, sheet)
    with only.open_text("utf-8") as source:
        return [line.rstrip(",\n") for line in source]


def refusal(path: Path, sheet: str | None = None) -> str:
    """Return why a file is not usable, and what to do."""
    with pytest.raises(InputUnusableError) as caught:
        detect(path, list(samples.catalogue().formats.values()), Settings(sheet=sheet))
    return f"{caught.value.message} | {caught.value.hint}"


def test_cells_as_text(tmp_path: Path) -> None:
    """Each kind of cell has its text; a number of more than 15 digits is shown as the destroyed one that it is."""
    book = xlsxwriter.Workbook(tmp_path / "cells.xlsx")
    sheet = book.add_worksheet()
    moment, day, at = "yyyy-mm-dd hh:mm:ss", datetime(2026, 3, 2), datetime(2026, 3, 2, 9, 14, 7)
    rows = [
        [(at, moment), (at.time(), "hh:mm:ss"), 12125550142, True],
        [(day, moment), (timedelta(hours=30, seconds=5), "[h]:mm:ss"), 177443123456789012, "0123"],
        [(at.replace(microsecond=250_000), moment), (day.date(), "yyyy-mm-dd"), 0.25, "two\r\nlines"],
    ]
    formulas = (("=1+1", 2), ("=NA()", "#N/A"), ("=NOW()", ""))
    for place, (row, (formula, result)) in enumerate(zip(rows, formulas, strict=True)):
        for column, cell in enumerate(row):
            if isinstance(cell, tuple):
                sheet.write_datetime(place, column, cell[0], book.add_format({"num_format": cell[1]}))
            else:
                sheet.write(place, column, cell)
        sheet.write_formula(place, len(row), formula, None, result)
    book.close()
    assert lines_of(tmp_path / "cells.xlsx") == [
        "2026-03-02 09:14:07,09:14:07,12125550142,TRUE,2",
        "2026-03-02 00:00:00,30:00:05,1.77443E+17,0123,#N/A",
        "2026-03-02 09:14:07.250,2026-03-02,0.25,two lines,#VALUE!",
    ]


def test_dates_from_1904(tmp_path: Path) -> None:
    """A workbook of an old Macintosh counts days from 1904; its dates are the same."""
    assert lines_of(book_of(tmp_path / "a.xlsx", {"S": [[datetime(2026, 3, 2, 9, 14, 7)]]}, date_1904=True)) == [
        "2026-03-02 09:14:07"
    ]


def test_titles_blank_rows_and_columns(tmp_path: Path) -> None:
    """Titles, blank rows and columns and a stray cell far away leave the rows and their lines as they are."""
    rows = [["Calls of March"], [], ["", *HEADER], ["", *call(1)], [], ["", *call(2)]]
    rows.append(["", *call(3), *[""] * 200, "x"])
    found = samples.detected(book_of(tmp_path / "a.xlsx", {"S": rows}))
    listed = samples.prepared([found], samples.plan_for("callnotify")).listed
    fates = [(each.place.line, getattr(each, "reason", "call")) for each in listed]
    assert fates == [(4, "call"), (6, "call"), (7, "wrong_cell_count")]


def test_sheet_that_a_format_fits(tmp_path: Path) -> None:
    """The one sheet with calls is taken, wherever it stands; hidden ones only by name, whatever the case."""
    sheets = {"Notes": [["hello"]], "Blank": [], "March": [HEADER, call(1)], "Old": [HEADER, call(2)]}
    path = book_of(tmp_path / "a.xlsx", sheets, hidden="Old")
    every = list(samples.catalogue().formats.values())
    names = [
        found.file.sheet
        for wanted in (None, "old", "MARCH")
        if isinstance(found := detect(path, every, Settings(sheet=wanted)), Detection)
    ]
    assert names == ["March", "Old", "March"]
    assert "Name one with --sheet: Notes, Blank, March, Old." in refusal(path, "April")
    assert "a.xlsx, sheet 'Notes' is of no format known here" in refusal(path, "Notes")
    assert "a.xlsx, sheet 'Blank' is empty" in refusal(path, "Blank")


def test_calls_on_two_sheets(tmp_path: Path, program: Program) -> None:
    """Two sheets with calls are refused by name: one would be left out in silence. --sheet settles it."""
    path = book_of(tmp_path / "a.xlsx", {"March": [HEADER, call(1)], "April": [HEADER, call(2)], "May": [HEADER]})
    assert "calls on more than one sheet: 'March', 'April' | Say with --sheet NAME" in refusal(path)
    ran = program("check", "--sheet", "April", "--results", tmp_path / "results.csv", path)
    assert [(row["line"], row["source_id"]) for row in read_results(tmp_path / "results.csv")] == [("2", "call2")]
    assert ran.code == 0


def test_header_of_an_unknown_sheet(tmp_path: Path) -> None:
    """The header of a sheet that no format fits is seen, however few columns it has."""
    for width in (2, 3, 12):
        names = [f"{letter} column" for letter in "abcdefghijkl"[:width]]
        path = book_of(tmp_path / f"{width}.xlsx", {"S": [names, ["2026-03-02 09:14:07", *["1"] * (width - 1)]]})
        assert f"column names found: {', '.join(names)}" in refusal(path)


def test_packed_workbook(tmp_path: Path) -> None:
    """A workbook packed once more, as it comes by mail, is read all the same."""
    path = book_of(tmp_path / "a.xlsx", {"S": [HEADER, call(1)]})
    (tmp_path / "a.gz").write_bytes(gzip.compress(path.read_bytes()))
    assert lines_of(tmp_path / "a.gz") == lines_of(path)


def test_damaged_workbook(tmp_path: Path) -> None:
    """A workbook that is cut anywhere or has a byte changed is refused, or reads as the whole one does."""
    whole = book_of(tmp_path / "a.xlsx", {"S": [HEADER, *map(call, range(40))]})
    text, data, path = lines_of(whole), whole.read_bytes(), tmp_path / "b.xlsx"
    damaged = [data[:length] for length in range(100, len(data), 397)]
    damaged += [data[:at] + bytes([data[at] ^ 0x55]) + data[at + 1 :] for at in range(60, len(data), 211)]
    refused = 0
    for each in damaged:
        path.write_bytes(each)
        try:
            assert lines_of(path) == text
        except InputUnusableError as error:
            refused += 1
            assert "damaged" in error.message or "no workbook" in error.message or "zip" in error.message
    assert refused > len(damaged) // 2


def test_what_only_looks_like_a_workbook(tmp_path: Path) -> None:
    """Documents, encrypted workbooks and cells that would fill the memory are refused as what they are."""
    path = tmp_path / "a.xlsx"
    document = io.BytesIO()
    with zipfile.ZipFile(document, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("word/document.xml", "<document/>")
    path.write_bytes(document.getvalue())
    assert "a document of an office program, no workbook" in refusal(path)
    path.write_bytes(OLE2.ljust(2048, b"\0"))
    assert "no workbook that can be read" in refusal(path)
    path.write_bytes(OLE2.ljust(2048, b"\0") + "EncryptedPackage".encode("utf-16-le"))
    assert "is a workbook with a password" in refusal(path)
    book = xlsxwriter.Workbook(path)
    sheet = book.add_worksheet()
    sheet.write_string(0, 0, "id")
    sheet.write_string(1_048_575, 16_383, "far away")
    book.close()
    assert "down to row 1048576 and out to column 16384: too many" in refusal(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("[Content_Types].xml", "<Types/>")
        archive.writestr("xl/workbook.xml", "<workbook/>")
        archive.infolist()[1].file_size = 65 << 20
    assert "unpacks to more than 64 MB" in refusal(path)


def open_document(path: Path, rows: str) -> Path:
    """Write an .ods file with this XML for the rows of its one sheet."""
    names = ("office", "table", "text")
    spaces = " ".join(f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"' for name in names)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr(
            "META-INF/manifest.xml", '<m:manifest xmlns:m="urn:oasis:names:tc:opendocument:xmlns:manifest:1.0"/>'
        )
        archive.writestr(
            "content.xml",
            f"<office:document-content {spaces}><office:body><office:spreadsheet>"
            f'<table:table table:name="S">{rows}</table:table>'
            "</office:spreadsheet></office:body></office:document-content>",
        )
    return path


def test_open_document(tmp_path: Path) -> None:
    """An .ods file is read as well; repeated cells count, unless they would fill the memory."""
    number = 'office:value-type="float" office:value="12125550142"'
    cell = f"<table:table-cell {number}{{}}><text:p>1</text:p></table:table-cell>"
    tail = '<table:table-cell table:number-columns-repeated="16000"/></table:table-row>'
    twice = ' table:number-columns-repeated="2"'
    rows = f"<table:table-row>{cell.format(twice)}{tail}"
    blank = f'<table:table-row table:number-rows-repeated="1048500">{tail}'
    assert lines_of(open_document(tmp_path / "a.ods", rows + blank)) == ["12125550142,12125550142"]
    many = f'<table:table-row table:number-rows-repeated="1000000">{cell.format(twice.replace("2", "16000"))}'
    assert "too many" in refusal(open_document(tmp_path / "b.ods", f"{many}</table:table-row>"))


def test_workbook_without_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where calamine is not installed, the message says what to install or to do instead."""
    monkeypatch.setitem(sys.modules, "python_calamine", None)
    said = refusal(book_of(tmp_path / "a.xlsx", {"S": [HEADER, call(1)]}))
    assert "what reads workbooks is not installed" in said
    assert "pip install 'cdr-importer[xlsx]'" in said


# JSON ---------------------------------------------------------------------------------------------------------
def json_lines(text: str | bytes, folder: Path) -> list[str]:
    """Return the CSV text of JSON, its first line the header."""
    path = folder / "export.json"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    with next(open_tables(path))[0].open_text("utf-8") as source:
        return source.read().split("\n")


@table(
    ("text", "lines"),
    CASES["json"],
)  # fmt: skip
def test_json_as_rows(tmp_path: Path, text: str, lines: list[str]) -> None:
    """Each way of writing objects gives their rows, each on the line on which its object starts."""
    for encoding in ("utf-8", "utf-8-sig", "utf-16"):
        assert json_lines(text.encode(encoding), tmp_path) == lines


@table(
    ("text", "words"),
    [
        *CASES["no_json"],
        ('[{"a":' + "[" * 100_000 + "]" * 100_000 + "}]", "nested too deep"),
        (b'[{"a":"\xe9"}]', "is not utf-8 text"),
        (json.dumps([{f"k{number}": 1 for number in range(1001)}]), "more than 1000 different keys"),
    ],
)
def test_json_that_is_refused(tmp_path: Path, text: str | bytes, words: str) -> None:
    """JSON that is damaged, or holds something else than objects, is refused with its line."""
    with pytest.raises(InputUnusableError) as caught:
        json_lines(text, tmp_path)
    assert words in caught.value.message


def test_json_of_a_day_without_calls(tmp_path: Path) -> None:
    """An empty list has no rows where its format is named; else nobody knows which system wrote it."""
    path = tmp_path / "export.json"
    paging = '"from": "2026-03-02", "uri": "https://example.com/1234567"'
    envelopes = ('{"calls": []}', f'{{{paging}, "errors": [], "_embedded": {{"calls": []}}}}')
    for text in ("[]", "\ufeff[\n]\n", *envelopes):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputUnusableError, match=r"empty list|no format known"):
            samples.detected(path)
        for name in ("aircall-api", "callnotify"):
            found = detect(path, [samples.catalogue().formats[name]], Settings(format=name))
            assert found is not None and sum(map(len, read_chunks(found))) == 0
    call = '{"to": "+12125550142", "tags": []}'  # of another layout
    faults = ('{"message": "No access", "calls": []}', '{"calls": [], "older": [{"a": 1}]}')
    for text in ("{}", *faults, call, f'{{"a": {{"b": {{"c": [{call}]}}}}, "calls": []}}'):
        path.write_text(text, encoding="utf-8")
        with pytest.raises(InputUnusableError, match=r"no objects|is not of format callnotify"):
            detect(path, [samples.catalogue().formats["callnotify"]], Settings(format="callnotify"))


def test_json_of_pages_with_calls_in_two_places(tmp_path: Path) -> None:
    """A second list or object of calls is found on whatever page it begins."""
    one = {"id": "a1", "from": "+12125550101", "to": "+12125550142", "start_time": "2026-03-02", "state": "busy"}
    path = tmp_path / "export.json"
    for none, some in (([], [one]), (None, [one]), (None, one)):
        pages = {"answered": some, "missed": none}, {"answered": some, "missed": some}
        for first, last in (pages, ({"answered": some}, pages[1]), ({"data": pages[0]}, {"data": pages[1]})):
            if isinstance(some, dict) and "data" in first:
                continue  # so deep no object is looked for
            for text in (json.dumps((first, last)), json.dumps(first) + "\n" + json.dumps(last)):
                path.write_text(text, encoding="utf-8")
                assert "has calls in more than one list of objects" in refusal(path)


def test_objects_in_json_that_are_no_calls_are_not_copied(tmp_path: Path) -> None:
    """A long log of another kind is refused by the keys of the first objects at each place."""
    path = tmp_path / "export.json"
    path.write_text(json.dumps({"at": 1, "steps": [{"step": 1}], "user": {"name": "x"}}) + "\n", encoding="utf-8")
    path.write_text(path.read_text(encoding="utf-8") * (FIRST_RECORDS + 1), encoding="utf-8")
    assert "of no format known here" in refusal(path)
    asked = list[set[str]]()
    tables = open_tables(path, is_header=lambda keys: asked.append({*keys}) is not None)
    assert [*map(len, tables)] == [1, 0, 0]
    assert asked == [{"step"}, {"name"}]


def test_objects_in_cells_are_taken_apart() -> None:
    """A column of objects, of JSON or Python's, becomes columns of their keys; lines, width and the end stay."""
    rows = [
        ["id", "who", "note"],
        ["1", '{"name": "Ann", "n": 1.50}', "{x}"],
        ["2", "{'name': \"O'Lee\",\n 'ok': True, 'none': None}", '{"a": 1}'],
        ["3", ""],
        ["4", "", "\u00e4"],
    ]
    target = io.StringIO(newline="")
    csv.writer(target, lineterminator="\n").writerows(rows)
    data = target.getvalue().encode()
    apart = ["id,who.name,who.n,who.ok,who.none,note", "1,Ann,1.50,,,{x}", '2,O\'Lee,,true,,"{""a"": 1}"', ""]
    text = "\n".join([*apart, '"3,"', "4,,,,,\u00e4"])
    assert b"".join(rows_of_cells(lambda: io.BytesIO(data))).decode() == f"{text}\n"
    assert b"".join(rows_of_cells(lambda: io.BytesIO(data.rstrip()))).decode() == text
    some = b'a,c\n"{""b"": 1}",1\n{},2\n'
    assert b"".join(rows_of_cells(lambda: io.BytesIO(some))) == b"a.b,c\n1,1\n,2\n"
    cells = ("{[]: 1}", "{'b': {(1, 2): 3}}", "{'b': '\\d', 2}", '{"b": 1, "b": 2}', "{}")
    none = ['a\n"{}"\n'.format(cell.replace('"', '""')).encode() for cell in cells]
    none += [b"", b"a,b\n1,2\n", b'a,b\n1,"{\n', b'a\n"{""b"": 1}"\n{\n', b'a\n"{""b"": 1}"\n\xe4\n']
    for other in none:
        assert [*rows_of_cells(lambda other=other: io.BytesIO(other))] == []


def test_csv_of_one_line_does_not_fill_the_memory() -> None:
    """Objects in cells are not looked for in a file with a line that is longer than any record."""
    for count, is_read in ((9, True), (LONGEST_VALUE // 2, False)):
        data = b'a,c\n"{""b"": 1}",1\n' + b",x" * count
        assert bool([*rows_of_cells(lambda data=data: io.BytesIO(data))]) == is_read


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=6)
OBJECTS = st.lists(
    st.dictionaries(st.sampled_from(["a", "b b", 'c"', "d"]), VALUES, min_size=1), min_size=1, max_size=5
)


@given(OBJECTS, st.sampled_from([None, 1]), st.integers(1, 30))
def test_json_survives_blocks(objects: list[dict[str, object]], indent: int | None, block: int) -> None:
    """However an array is laid out and wherever a block ends, each value arrives at its key."""
    data = json.dumps(objects, indent=indent).encode()

    class Dripping(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            return super().read(min(size or 0, block))

    text = b"".join(rows_of_objects(lambda: Dripping(data), "export", ())).decode()
    header, *rows = [row for row in csv.reader(io.StringIO(text, newline="")) if any(row)]
    assert [dict(zip(header, row, strict=True)) for row in rows] == [
        {key: text_of(each.get(key)) for key in header} for each in objects if any(map(text_of, each.values()))
    ]


def text_of(value: object) -> str:
    """Return a JSON value as the text of a cell."""
    if isinstance(value, bool):
        return str(value).lower()
    return "" if value is None else re.sub(r"[\r\n]+", " ", str(value))


def test_json_export(tmp_path: Path, program: Program) -> None:
    """The answer of an API is detected by its keys; results and rejects name the lines and text of its objects."""
    call = {"from": "+12125550101", "to": "+12125550142", "direction": "outbound-api"}
    calls = [
        {"sid": f"CA{n:032}", **call, "status": "busy", "start_time": f"2026-03-02T14:0{n}:00Z"} for n in (1, 2, 3)
    ]
    calls[2]["status"] = "x"
    ids = [each["sid"] for each in calls]
    path = tmp_path / "calls.json"
    path.write_text(json.dumps({"calls": calls, "next_page_uri": None}, indent=1), encoding="utf-8")
    options = ("--results", tmp_path / "results.csv", "--rejects", tmp_path / "mend.csv")
    assert program("check", *options, path).code == 3
    shown = [(row["line"], row["outcome"], row["source_id"]) for row in read_results(tmp_path / "results.csv")]
    assert shown == [("3", "would_send", ids[0]), ("11", "would_send", ids[1]), ("19", "rejected", ids[2])]
    assert (tmp_path / "mend.csv").read_text(encoding="utf-8").splitlines() == [
        "sid,from,to,direction,status,start_time",
        f"{ids[2]},+12125550101,+12125550142,outbound-api,x,2026-03-02T14:03:00Z",
    ]
    assert "(JSON)" in program("detect", path).stdout.splitlines()[0]


# printed text -------------------------------------------------------------------------------------------------
PRINTED = (CASE_FILES / "printed_format.toml").read_text(encoding="utf-8")
"""A format of columns by position."""
PRINTED_ROW = "{:<4} +12125550142 2026-03-02 09:14:07 busy"


def printed_format(folder: Path, text: str = PRINTED) -> CdrFormat:
    """Return a format of columns by position."""
    path = folder / "printed.toml"
    path.write_text(text, encoding="utf-8")
    return samples.catalogue().pick(str(path))


def printed_rows(folder: Path, text: str, block_bytes: int = 1 << 20, encoding: str = "utf-8") -> list[object]:
    """Return line and id of each row of a printed file, and the reasons of those that cannot be read."""
    path = folder / "export.txt"
    path.write_bytes(text.encode(encoding))
    rows: list[object] = []
    for chunk in read_chunks(samples.detected_as(path, printed_format(folder)), block_bytes=block_bytes):
        rows += zip(chunk.frame["call.line"], chunk.frame["id"], strict=True)
        assert {*chunk.frame["dialled"]} <= {"", "+12125550142"}
        rows += [(bad.line, bad.reason) for bad in chunk.bad]
    return rows


A, B = PRINTED_ROW.format("a"), PRINTED_ROW.format("b")


@table(
    ("text", "rows"),
    [
        # Blank lines are no rows, and form feeds have no width.
        (A + "  \r\n\r\n\f" + PRINTED_ROW.format('ü"1') + "\r\n   b \r\n", [(1, "a"), (3, 'ü"1'), (4, "b")]),
        # With something between or behind the columns the cells would be cut wrong.
        *(
            (f"{A}\n{line}\n", [(1, "a"), (2, "wrong_cell_count")])
            for line in (f" {B}", B.replace(" +", "x+"), f"{B}1", f"{B}      x")
        ),
        # A last line that does not reach the last position may lack digits.
        (f"{A}\n{B}", [(1, "a"), (2, "b")]),
        (f"{A}\n{B}"[:-1], [(1, "a"), (2, "unfinished_row")]),
    ],
)
def test_printed_rows(tmp_path: Path, text: str, rows: list[tuple[int, str]]) -> None:
    """Lines are cut at the positions, which are characters and no bytes, wherever a block ends."""
    for block_bytes in (1, 7, 50, 1 << 20):
        assert printed_rows(tmp_path, text, block_bytes) == rows
    assert printed_rows(tmp_path, f"\ufeff{text}", encoding="utf-16-le") == rows


@table(("line", "wrong", "words"), CASES["positions"])
def test_positions_are_checked(tmp_path: Path, line: str, wrong: str, words: str) -> None:
    """Positions that overlap, are reversed or stand beside other columns are refused when the format is loaded."""
    with pytest.raises(ConfigurationError, match=words):
        printed_format(tmp_path, PRINTED.replace(line, wrong))
