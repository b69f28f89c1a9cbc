"""Writes of several threads in one commit: none is lost, none is held to account for another."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from importer.errors import LedgerError
from importer.ledger.schema import GroupCommit
from importer.ledger.values import LedgerInvariantError

WRITES = 6


class Bench:
    """A table, and commits that wait until they are let go."""

    def __init__(self, path: Path) -> None:
        self.connection = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.connection.execute("CREATE TABLE written (number INTEGER)")
        self.commits = self.writes = 0
        self.under_way = threading.Event()
        self.let_go = threading.Event()
        self.fails_from = 1_000

    @contextmanager
    def transaction(self, writes: int) -> Iterator[sqlite3.Connection]:
        """Make a transaction whose commit takes as long as we want; what is raised inside undoes it."""
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield self.connection
        except LedgerInvariantError:
            self.connection.execute("ROLLBACK")
            raise
        self.under_way.set()
        assert self.let_go.wait(10)
        self.commits += 1
        self.writes += writes
        if self.commits >= self.fails_from:
            self.connection.execute("ROLLBACK")
            raise LedgerError("disk full")
        self.connection.execute("COMMIT")

    def written(self) -> list[int]:
        """Return what is in the table."""
        return sorted(number for (number,) in self.connection.execute("SELECT number FROM written"))


@pytest.fixture
def bench(tmp_path: Path) -> Iterator[Bench]:
    """Return a table to write to."""
    made = Bench(tmp_path / "table.sqlite")
    with closing(made.connection):
        yield made


def write_together(bench: Bench, refused: frozenset[int] = frozenset()) -> list[BaseException | None]:
    """Let write 0 commit while all others come in; return what each raised."""
    commits = GroupCommit(bench.transaction)
    begun = threading.Semaphore(0)

    def write(number: int) -> None:
        def act(connection: sqlite3.Connection) -> None:
            connection.execute("INSERT INTO written VALUES (?)", (number,))
            if number in refused:
                raise LedgerInvariantError("forbidden")

        begun.release()
        commits.write(act)

    with ThreadPoolExecutor(WRITES) as pool:
        first = pool.submit(write, 0)
        assert bench.under_way.wait(10)
        others = [pool.submit(write, number) for number in range(1, WRITES)]
        for _ in range(WRITES):
            assert begun.acquire(timeout=10)
        while len(commits._waiting) < WRITES - 1:
            pass
        bench.let_go.set()
        return [future.exception() for future in (first, *others)]


def test_what_waits_is_committed_together(bench: Bench) -> None:
    """Five writes that come in while the first is synced are one commit."""
    assert write_together(bench) == [None] * WRITES
    assert (bench.commits, bench.writes, bench.written()) == (2, WRITES, list(range(WRITES)))


def test_forbidden_write_fails_alone(bench: Bench) -> None:
    """A write that the states forbid is undone and raised to its own thread only."""
    raised = write_together(bench, frozenset({2, 3}))
    assert [number for number, error in enumerate(raised) if isinstance(error, LedgerInvariantError)] == [2, 3]
    assert bench.written() == [0, 1, 4, 5]


def test_failed_commit_fails_all_of_it(bench: Bench) -> None:
    """When the disk does not take a commit, every write of it raises and none of them is there."""
    bench.fails_from = 2
    raised = write_together(bench)
    assert [type(error) for error in raised] == [type(None)] + [LedgerError] * (WRITES - 1)
    assert bench.written() == [0]
