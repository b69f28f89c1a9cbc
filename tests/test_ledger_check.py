"""When the whole ledger is read for damage: always while it is small, else when its last end leaves a doubt."""

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from conftest import Program
from importer.errors import ExitCode, LedgerError
from importer.ledger.beside import GENERATION, WAL, companion, file_mark, read_generation, write_generation
from importer.ledger.reader import open_reader
from importer.ledger.schema import ALWAYS_CHECKED_BYTES, connect, create_ledger
from ledgers import CREATED, LATER_RUN, call, opened, take


def filled(path: Path, size: int) -> Path:
    """Make a ledger of that size and more, left by a run that ended well, with a summary that no run reads."""
    create_ledger(path, now=CREATED)
    with opened(path) as ledger:
        take(ledger, call())
        ledger.finish_run(ExitCode.OK, " " * size)
    return path


@pytest.fixture(scope="module")
def original(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a large ledger once."""
    return filled(tmp_path_factory.mktemp("large") / "ledger.sqlite", ALWAYS_CHECKED_BYTES)


@pytest.fixture
def large(original: Path, tmp_path: Path) -> Path:
    """Return a copy of the large ledger that counts as the file that the last run closed."""
    path = tmp_path / "ledger.sqlite"
    for each in (original, companion(original, GENERATION)):
        shutil.copy(each, path.with_name(each.name))
    mark(path)
    return path


def mark(path: Path) -> None:
    """Make the file as it is the one that the last run closed."""
    generation = read_generation(path).number
    assert generation is not None
    write_generation(path, generation, file_mark(path))


def rot(path: Path, *, unnoticed: bool = True) -> None:
    """Damage a page that no run reads, as a disk does ``unnoticed``: the file system shows no write."""
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2 // 4096 * 4096)
        file.write(b"\xff" * 4096)
    if unnoticed:
        mark(path)


def test_large_ledger_that_was_closed_is_not_read_through(large: Path) -> None:
    """After an end that left no doubt, run after run begins without reading every page."""
    rot(large)
    for number in range(2):
        with opened(large, LATER_RUN) as ledger:
            assert ledger.pending_count() == 1, number


def leave_a_commit(path: Path) -> None:
    """Leave a commit in the -wal file, as a kill does before the run has touched the witness."""
    connection = connect(path, mode="rw", busy_seconds=0)
    connection.execute("PRAGMA wal_autocheckpoint = 0")
    connection.execute("INSERT INTO meta VALUES ('new', 1)")
    left = {each: each.read_bytes() for each in (path, companion(path, WAL))}
    connection.close()
    for each, content in left.items():
        each.write_bytes(content)
    mark(path)


DOUBTS: dict[str, Callable[[Path], object]] = {
    "no end": lambda path: write_generation(path, read_generation(path).number or 0),
    "copied": lambda path: shutil.copy(path, path.with_name("copy")) and path.with_name("copy").replace(path),
    "written to": lambda path: rot(path, unnoticed=False),
    "a commit in the -wal file": leave_a_commit,
}


@pytest.mark.fault(108)
@pytest.mark.parametrize("doubt", DOUBTS.values(), ids=DOUBTS.keys())
def test_doubt_has_the_large_ledger_read_through(large: Path, doubt: Callable[[Path], object]) -> None:
    """Where the last end is not known to have left this file, damage anywhere is exit 74, at every start."""
    rot(large)
    doubt(large)
    for _ in range(2):
        with pytest.raises(LedgerError):
            opened(large, LATER_RUN)


@pytest.mark.fault(108)
def test_small_ledger_is_always_read_through(tmp_path: Path) -> None:
    """Damage in a small ledger is found at the next start, whatever the last end was."""
    path = filled(tmp_path / "ledger.sqlite", 200_000)
    rot(path)
    with pytest.raises(LedgerError):
        opened(path, LATER_RUN)


def test_damage_is_not_copied(program: Program, tmp_path: Path) -> None:
    """`ledger backup` of a damaged ledger is 74 and leaves nothing, so that no good copy gives way to it."""
    path = filled(tmp_path / "ledger.sqlite", 200_000)
    rot(path)
    ran = program("ledger", "backup", "--ledger", path, tmp_path / "backup")
    assert (ran.code, "is damaged" in ran.stderr, list(tmp_path.glob("backup*"))) == (74, True, [])


def test_call_missing_in_an_index(tmp_path: Path) -> None:
    """A pending call that the index of open calls lacks, so that no run would send it, is damage."""
    path = filled(tmp_path / "ledger.sqlite", 1)
    with closing(connect(path, mode="rw", busy_seconds=0)) as connection:
        connection.execute("PRAGMA writable_schema = ON")
        query = "SELECT type, name, tbl_name, rootpage, sql FROM sqlite_schema WHERE name = 'calls_open'"
        index = connection.execute(query).fetchone()
        connection.execute("DELETE FROM sqlite_schema WHERE name = 'calls_open'")
        connection.execute("PRAGMA writable_schema = RESET")
        connection.execute("INSERT INTO calls (call_id, fingerprint, seq) VALUES ('a2', x'00', 2)")
        connection.execute("PRAGMA writable_schema = ON")
        connection.execute("INSERT INTO sqlite_schema VALUES (?, ?, ?, ?, ?)", index)
    with pytest.raises(LedgerError, match="damaged"):
        opened(path, LATER_RUN)


def test_end_that_leaves_a_doubt(tmp_path: Path) -> None:
    """Only a run that has moved all of the ledger into its own file says that it closed it."""
    path = filled(tmp_path / "ledger.sqlite", 1)
    assert read_generation(path).closed == file_mark(path)
    with opened(path) as ledger:
        assert read_generation(path).closed is None
        ledger._failed = True
    assert read_generation(path).closed is None
    with open_reader(path) as reader, opened(path):
        reader._connection.execute("BEGIN")
        reader.pending_count()
    assert read_generation(path).closed is None
    with opened(path):
        shutil.copy(path, path.with_name("copy"))
        path.with_name("copy").replace(path)
    assert read_generation(path).closed is None


def test_status_check(program: Program, large: Path) -> None:
    """`status --check` reads every page: it says that the ledger is whole or ends with 74; `status` reads few."""
    whole = program("status", "--ledger", large, "--check")
    assert (whole.code, "read through and is whole" in whole.stdout) == (0, True)
    rot(large)
    assert program("status", "--ledger", large).code == 0
    for options in ((), ("--json",), ("--runs",), ("--html", large.with_name("page.html"))):
        damaged = program("status", "--ledger", large, "--check", *options)
        assert (damaged.code, '"exit": 74' in damaged.stdout) == (74, options == ("--json",)), options
        assert "pending" not in damaged.stdout
        assert "damaged" in damaged.stderr
