"""Files as they come: packed, piped, by pattern or folder; what cannot be used is named."""

import bz2
import gzip
import io
import json
import os
import stat
import sys
import threading
import zipfile
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pytest

from conftest import Program, call_row, cases, read_results, table, write_export
from importer.errors import CannotCreateError, ImporterError, InputUnusableError, NoInputError
from importer.files.export import ExportFile, named_files, open_export
from misbehaviour import Simulator

CASES = cases("files")

TEXT = b"id,from,to,start_time,state\n" + b"".join(
    f"call{number},+12125550101,+1212555{number:04},2026-03-02 10:00:00,busy\n".encode() for number in range(300)
)
SMALL = 1 << 20


def zstd(data: bytes) -> bytes:
    """Return one zstd frame."""
    sink = pa.BufferOutputStream()
    with pa.CompressedOutputStream(sink, "zstd") as stream:
        stream.write(data)
    return bytes(sink.getvalue().to_pybytes())


def zipped(*members: tuple[str, bytes], method: int = zipfile.ZIP_DEFLATED) -> bytes:
    """Return a zip archive."""
    target = io.BytesIO()
    with zipfile.ZipFile(target, "w", method) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return target.getvalue()


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gzip": gzip.compress,
    "bzip2": bz2.compress,
    "zstd": zstd,
    "zip": lambda data: zipped(("export.csv", data)),
}


def content(file: ExportFile) -> bytes:
    """Return all bytes of an export."""
    with file.open() as source:
        return source.read()


def written(folder: Path, data: bytes, name: str = "export.dat") -> Path:
    """Return a file of these bytes."""
    path = folder / name
    path.write_bytes(data)
    return path


def refusal(path: Path, *most_bytes: int) -> ImporterError:
    """Return why a file is not usable."""
    with pytest.raises(InputUnusableError) as caught:
        open_export(path, *most_bytes)
    return caught.value


@table(("text", "what"), CASES["no_exports"])
@table("encoding", ["utf-8", "utf-16"])
def test_text_that_is_no_export(tmp_path: Path, text: str, what: str, encoding: str) -> None:
    """What other programs write is named as what it is, in the encoding of PowerShell too, and what to do."""
    if what == "a PostgreSQL dump":
        encoding = "utf-8"
    problem = refusal(written(tmp_path, text.encode(encoding)))
    assert (f"is {what}, not" in problem.message, "CSV" in problem.hint) == (True, True)


@table("text", [*CASES["perhaps_exports"], "--" + "\n--" * 2000, "/* " * 1300])
def test_text_that_may_be_an_export(tmp_path: Path, text: str) -> None:
    """What an export may begin with is left to detection, however odd it looks."""
    assert content(open_export(written(tmp_path, text.encode()))) == text.encode()


@table("packing", PACKERS)
def test_packed_file(tmp_path: Path, packing: str) -> None:
    """A packed file is known by its content, whatever its name, and each reader is at a place of its own."""
    file = open_export(written(tmp_path, PACKERS[packing](TEXT), "export.csv"))
    assert (file.packing, content(file), content(file)) == (packing, TEXT, TEXT)
    with file.open() as one, file.open_text("utf-8") as other:
        assert (one.read(5), other.read(9), one.read(4)) == (TEXT[:5], TEXT[:9].decode(), TEXT[5:9])


@table("packing", ["gzip", "bzip2", "zstd"])
def test_packed_parts_in_a_row(tmp_path: Path, packing: str) -> None:
    """Parts packed one by one and joined are one file, as for `gzip -d`; anything else behind it is damage."""
    pack = PACKERS[packing]
    assert content(open_export(written(tmp_path, pack(TEXT[:50]) + pack(b"") + pack(TEXT[50:])))) == TEXT
    assert "damaged or cut off" in refusal(written(tmp_path, pack(TEXT) + b"call300,+12125550101")).message


@table("packing", PACKERS)
def test_cut_off_anywhere(tmp_path: Path, packing: str) -> None:
    """A packed file that lacks its end, be it one byte, is not used."""
    packed = PACKERS[packing](TEXT)
    for length in {*range(12, len(packed), 37), *range(len(packed) - 30, len(packed))}:
        assert "damaged or cut off" in refusal(written(tmp_path, packed[:length])).message


@table("packing", ["gzip", "bzip2", "zip"])
def test_damaged_byte(tmp_path: Path, packing: str) -> None:
    """A byte that was changed is found out by a check sum or the structure, or changes nothing of the content."""
    packed = bytearray(PACKERS[packing](TEXT))
    for place in range(len(packed) // 3, len(packed) - 60, 41):
        packed[place] ^= 0x55
        try:
            assert content(open_export(written(tmp_path, bytes(packed)))) == TEXT
        except InputUnusableError as error:
            assert "damaged or cut off" in error.message or "zip file" in error.message
        packed[place] ^= 0x55


@pytest.mark.fault(148)
@table("packing", PACKERS)
def test_too_large(tmp_path: Path, packing: str) -> None:
    """A file that comes to far more than its size, or than may be spooled, is refused before it fills the disk."""
    bomb = written(tmp_path, PACKERS[packing](b"\0" * (3 << 20)))
    assert "comes to more than" in refusal(bomb, SMALL).message
    path = written(tmp_path, PACKERS[packing](os.urandom(1 << 20) + b"x"))
    assert "comes to more than 1 MB" in refusal(path, SMALL).message


def test_zip_of_the_finder(tmp_path: Path) -> None:
    """What macOS puts beside the one file that was packed does not count."""
    extra = (("day/", b""), ("__MACOSX/day/._export.csv", b"\0"), ("day/.DS_Store", b"\0"))
    assert content(open_export(written(tmp_path, zipped(("day/export.csv", TEXT), *extra)))) == TEXT


def test_spool_is_private_and_nameless(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is unpacked has mode 0600 and no name: nothing of it stays behind, however the run ends."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    file = open_export(written(tmp_path, gzip.compress(TEXT)))
    assert file.spool is not None
    status = os.fstat(file.spool.fileno())
    assert (stat.S_IMODE(status.st_mode), status.st_nlink) == (0o600, 0)
    assert list((tmp_path / "temporary").iterdir()) == []


def test_no_folder_for_temporary_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a place to unpack to the run ends before anything is sent, and says which folder it is, if any."""
    gone, path = str(tmp_path / "gone"), written(tmp_path, gzip.compress(TEXT))
    monkeypatch.setattr("tempfile._candidate_tempdir_list", lambda: [gone])
    for folder in (gone, None):
        monkeypatch.setattr("tempfile.tempdir", folder)
        with pytest.raises(CannotCreateError, match="temporary file") as caught:
            open_export(path)
        assert folder is None or folder in caught.value.hint


@pytest.fixture
def piped(monkeypatch: pytest.MonkeyPatch) -> Callable[[bytes], None]:
    """Return a function that puts bytes on standard input."""

    def pipe(data: bytes) -> None:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))

    return pipe


def test_standard_input_without_end(piped: Callable[[bytes], None]) -> None:
    """What is piped in may not be larger than may be spooled."""
    piped(b"x" * (SMALL + 1))
    assert "standard input comes to more than 1 MB" in refusal(Path("-"), SMALL).message


@pytest.mark.fault(25)
def test_named_pipe(tmp_path: Path) -> None:
    """A named pipe, as a shell makes for <(...), is read to its end."""
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_bytes(TEXT))
    writer.start()
    assert content(open_export(tmp_path / "pipe")) == TEXT
    writer.join()


@pytest.mark.parametrize("packing", [None, *PACKERS])
def test_import_of_a_file_that_is_no_plain_one(
    program: Program, account: Simulator, tmp_path: Path, piped: Callable[[bytes], None], packing: str | None
) -> None:
    """Results of a packed file have its own name, of a piped one `-`, and lines of the text; rejects the text."""
    plain = write_export(tmp_path / "export.csv", [call_row(1), call_row(2, to="nobody")]).read_bytes()
    path: str | Path = "-"
    if packing:
        path = written(tmp_path, PACKERS[packing](plain), "export.packed")
    else:
        piped(plain)
    ran = program("import", "--init-ledger", "--rejects", tmp_path / "rejects.csv", path)
    rows = read_results(tmp_path / ran.summary()["results"])
    name = str(path) if packing else "'-"
    told = [(row["file"], row["line"], row["outcome"]) for row in rows]
    assert told == [(name, "2", "accepted"), (name, "3", "rejected")]
    assert (tmp_path / "rejects.csv").read_text().splitlines()[1] == call_row(2, to="nobody")
    assert len(account.accepted) == 1


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with two exports, a hidden file, a mark of Excel, an unfinished file and another folder."""
    path = tmp_path / "spool"
    (path / "older").mkdir(parents=True)
    for name in ("b.csv", "a.csv.gz", ".hidden.csv", "~$b.csv", "a.csv.results-1.csv.part", "older/c.csv"):
        (path / name).write_bytes(TEXT)
    return path


def test_folder(folder: Path) -> None:
    """A folder stands for the files right in it, sorted; what is passed over but for hidden files is said."""
    found = named_files([folder])
    assert found.paths == (folder / "a.csv.gz", folder / "b.csv")
    assert [note.split(": ")[0] for note in found.notes] == [
        f"1 folder in {folder} passed over",
        f"{folder / 'a.csv.results-1.csv.part'} is still being written (its name ends in .part)",
    ]


@table(("pattern", "names"), CASES["patterns"])
def test_pattern(folder: Path, pattern: str, names: list[str]) -> None:
    """A pattern that no shell has replaced, as in a systemd unit, stands for the files it matches, sorted."""
    assert named_files([folder / pattern]).paths == tuple(folder / name for name in names)


def test_names(folder: Path) -> None:
    """A name is a file of that name, one that is not there is left to the opening, one met twice is read once."""
    path, gone = written(folder.parent, TEXT, "[2026].csv"), folder / "gone.csv"
    assert named_files([path, gone]).paths == (path, gone)
    mark = folder / "~$b.csv"  # a shell's `*.csv` has it too
    assert (named_files([mark, path]).paths, named_files([mark]).paths) == ((path,), (mark,))
    with pytest.raises(NoInputError, match="not found"):
        open_export(gone)
    found = named_files([folder / "b.csv", folder, folder / "*.csv"])
    assert found.paths == (folder / "b.csv", folder / "a.csv.gz")
    assert sum("named twice" in note for note in found.notes) == 2
    star = written(folder, TEXT, "*.csv")  # `> *.csv` makes it in an empty folder
    assert named_files([star]).paths == (star, folder / "b.csv")
    star.unlink()
    (folder / "empty").mkdir()
    for name in ("none-*.csv", "empty"):
        found = named_files([folder / name, folder / "b.csv"])
        assert (found.paths, "no file" in found.problems[0].message) == ((folder / "b.csv",), True)


def test_page_before_the_last(program: Program, tmp_path: Path) -> None:
    """An answer of JSON whose last page says that another one follows is read, and a person gets to know of it."""
    call = dict(zip(("id", "from", "to", "start_time", "state"), ("1", "+1", "+2", "x", "busy"), strict=True))
    ends = (
        *({"next_page_token": "a1"}, {"hasMore": True}, {"paging": {"next": {"after": "2"}}}),
        *({"@odata.nextLink": "https://x.example"}, {"meta": {"next_page_link": "https://x.example"}}),
        *({"nextPageMarker": "a1"}, {"meta": {"current": 1, "total_pages": 2}}),
        {"pageNumber": "9", "pageCount": "10"},
    )
    last = (
        {},
        {"next_page_token": ""},
        {"hasMore": False},
        {"meta": {"next_page_link": None}},
        {"next_call": "5"},
        {"meta": {"current": 2, "total_pages": 2}},
        {"page": {"pageNumber": 1}, "total_pages": 2},
    )
    for pages in [*([each] for each in (*ends, *last)), [ends[0], last[0]], [last[1], ends[1]]]:
        export = tmp_path / "calls.json"
        export.write_text("\n".join(json.dumps({"calls": [call], **page}) for page in pages), encoding="utf-8")
        ran = program("check", "--verbose", "--results", tmp_path / "results.csv", export)
        (tmp_path / "results.csv").unlink()
        assert ("says that another page of calls follows" in ran.stderr) is (pages[-1] in ends), pages
