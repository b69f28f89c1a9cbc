"""Writing to the ledger: one run holds it, each write is a transaction, and each is durable when it returns.

The ``-wal`` file is begun anew from time to time. Its reserve lets answers be recorded on a full disk, and the
generation file shows later that a ledger was restored from a backup.
"""

import os
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import astuple
from pathlib import Path
from typing import Self

from importer.errors import ConfigurationError, ImporterError, LedgerError, TryLaterError
from importer.ledger import beside, schema
from importer.ledger.beside import LedgerLock
from importer.ledger.reader import LedgerReader, existing
from importer.ledger.staging import expect_rows
from importer.ledger.values import LedgerInvariantError, RunInfo
from importer.private_files import open_ours, os_errors_as


class LedgerWriter(LedgerReader):
    """The ledger of one run, which alone writes to it.

    Methods may be called from any thread. After an error of the disk every further write is refused: after
    a failed sync nobody knows what is on disk, so only a new run may look again.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, *, lock: LedgerLock, now: Callable[[], str]
    ) -> None:
        super().__init__(connection, path, lock)
        self._now = now
        self._failed = False
        self._group = schema.GroupCommit(self._transaction)
        self._run_number = 0
        self._fingerprint_key = b""
        self._commits = 0
        self._wal = beside.companion(path, beside.WAL)
        self._wal_inode = (0, 0)
        self._restored: ConfigurationError | None = None

    @classmethod
    def open(
        cls,
        path: Path,
        *,
        run: RunInfo,
        now: Callable[[], str],
        busy_seconds: float = schema.BUSY_SECONDS,
        restored: bool = False,
        wait: Callable[[TryLaterError], bool] = lambda _: False,
    ) -> Self:
        """Lock, check and open the ledger of this run, and note the run in it.

        ``now`` gives GMT text. ``restored`` is for `accept_restore` only: it lets a ledger in that is older than
        its generation file, from which nothing can be sent before it is accepted. Raises `ConfigurationError`
        when there is no ledger, a newer program wrote it, it was restored or its place is not safe,
        `TryLaterError` when another run has it, `LedgerError` when it is damaged, no ledger, or its disk full.
        """
        path = existing(path)
        beside.check_place(path)
        lock = None
        while lock is None:
            try:
                lock = beside.take_lock(path, f"since={now()} run={run.run_id}")
            except TryLaterError as held:
                if not wait(held):
                    raise
        with ExitStack() as undo, schema.translated_errors(path):
            undo.callback(lock.release)
            if restored:
                beside.check_wal(path, discard=True)
            connection = undo.enter_context(closing(schema.connect(path, busy_seconds=busy_seconds)))
            ledger = cls(connection, path, lock=lock, now=now)
            ledger._start(run, restored=restored)
            # In a sticky folder others may have made a file in the moment before SQLite did.
            beside.check_files(path)
            undo.pop_all()
        return ledger

    def close(self) -> None:
        """Close the connection, leave no payload in the ``-wal`` file, then give the lock back.

        The generation file names the ledger that was left only when that holds all and is synced: else the next
        run reads it through.
        """
        with self._guard:
            # Best effort: the ledger may be ahead of its generation file, a reader may be looking on, and the next
            # run's close comes round to it. A copy of the file made while this run went on is now behind.
            generation, is_whole = None, False
            with suppress(sqlite3.Error, ImporterError):
                if not (self._failed or self._restored or self._connection.in_transaction):
                    generation = self._count_generation()
            with suppress(sqlite3.Error):
                is_busy, *_ = self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
                is_whole = not is_busy and self._lock.holds(self._path)
            self._connection.close()
            with suppress(OSError, ImporterError):
                if generation is not None:
                    closed = beside.file_mark(self._path) if is_whole else ""
                    beside.write_generation(self._path, generation, closed)
            self._lock.release()

    def _start(self, run: RunInfo, *, restored: bool) -> None:
        closed = beside.read_generation(self._path).closed
        schema.check_health(self._connection, self._path, closed=closed)
        try:
            self.check_latest()
        except ConfigurationError as error:
            if not restored:
                raise
            self._restored = error
        schema.configure(self._connection, self._path)
        self._fingerprint_key = self._kept("fingerprint_key") or b""
        if len(self._fingerprint_key) != schema.FINGERPRINT_KEY_BYTES:
            raise LedgerError(
                f"the ledger {self._path} has lost the key of its fingerprints",
                hint="Restore the latest backup: without the key no call is known again.",
            )
        with self._transaction() as connection:
            # A run id met again is the same run, opening its ledger once more.
            connection.execute(
                """INSERT INTO runs (run_id, started_at, version, command, results, settings, inputs)
                    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
                astuple(run),
            )
            query = "SELECT number FROM runs WHERE run_id = ?"
            (self._run_number,) = connection.execute(query, (run.run_id,)).fetchone()
        if self._restored is None:
            self._begin_wal_anew()

    def _require_own_files(self) -> None:
        """Raise `LedgerError` where a file of the ledger was replaced or deleted; begin a new -wal in its turn."""
        with self._guard:
            is_whole = False
            with suppress(OSError):
                wal = self._wal.lstat()
                is_whole = self._lock.holds(self._path) and (wal.st_dev, wal.st_ino) == self._wal_inode
            if not is_whole:
                self._failed = True
                raise LedgerError(
                    f"the ledger {self._path} was replaced or its -wal file deleted while this run used it",
                    hint="Leave the ledger's files alone while a run goes on. Nothing more was sent.",
                )
            if self._commits >= beside.COMMITS_PER_TURN:
                self._begin_wal_anew()

    def _begin_wal_anew(self) -> None:
        """Move the commits so far into the ledger's file, and make sure of the reserve for those to come.

        The new generation is the first commit that only the -wal file holds: whoever loses that file is left
        with a ledger behind its generation file. Called between calls only, so that none is in between.
        """
        reserve = beside.RESERVE_BYTES
        what = f"cannot keep {reserve >> 20} MiB in reserve beside the ledger {self._path}"
        hint = "Free some space on its disk: answers must find room even when it is full."
        try:
            with self._guard, schema.translated_errors(self._path):
                # A reader may keep some commits from moving; then the file grows, and the next turn tries again.
                self._connection.execute("PRAGMA wal_checkpoint(PASSIVE)")
                full = os_errors_as(LedgerError, what, self._path, hint)
                # The new bytes are zero, which no valid frame is, so SQLite reads none of them. It takes no fcntl
                # lock on this file, so that closing a descriptor of it frees none.
                with full, os.fdopen(open_ours(self._wal, os.O_RDWR), "r+b") as wal:
                    os.posix_fallocate(wal.fileno(), 0, reserve)
                    found = os.fstat(wal.fileno())
                self._wal_inode = (found.st_dev, found.st_ino)
                beside.write_generation(self._path, self._count_generation())
                self._commits = 0
        except LedgerError:
            self._failed = True
            raise

    def _count_generation(self) -> int:
        with schema.translated_errors(self._path), schema.transaction(self._connection):
            generation: int = schema.kept(self._connection, "generation") + 1
            schema.keep(self._connection, "generation", generation)
            return generation

    @contextmanager
    def _transaction(self, writes: int = 1) -> Iterator[sqlite3.Connection]:
        with self._guard:
            if self._failed:
                raise LedgerError(
                    f"the ledger {self._path} failed before in this run", hint="Mend the disk, then run again."
                )
            if self._connection.in_transaction:
                raise LedgerInvariantError("a write was asked for inside a staging")
            try:
                with schema.translated_errors(self._path), schema.transaction(self._connection):
                    yield self._connection
            except LedgerError:
                self._failed = True  # every further write is refused
                raise
            self._commits += writes

    def _write(self, statement: str, parameters: Sequence[object] = (), *, rows: int | None = None) -> int:
        """Run a statement as a transaction and return how many rows it changed; ``rows`` is how many it must."""
        with self._transaction() as connection:
            changed = connection.execute(statement, parameters).rowcount
            expect_rows(changed, changed if rows is None else rows)
        return changed
