"""The ledger's tables, and SQLite set up so that a commit survives a power cut."""

import os
import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from importer.errors import ConfigurationError, LedgerError, TryLaterError
from importer.ledger import beside
from importer.ledger.values import LedgerInvariantError
from importer.private_files import make_folders, make_private_file, os_errors_as, put, sync_folder, whose

APPLICATION_ID = 0x43445231
"""``CDR1``, in the header of every ledger: https://www.sqlite.org/pragma.html#pragma_application_id."""

FINGERPRINT_KEY_BYTES = 32

BUSY_SECONDS = 5.0
"""How long another program's hold on the file is waited for before it counts as busy."""

ALWAYS_CHECKED_BYTES = 16 * 2**20
"""Up to this size a ledger is read through at every start: a quarter of a second, some 180,000 calls."""

# A payload is a row of its own so that its pages are used again once its call is settled: a ledger grows by
# the key, the fingerprint and the fate of a call only. A call has a seq exactly while it has a payload.
MIGRATIONS: tuple[tuple[str, ...], ...] = (
    (
        f"PRAGMA application_id = {APPLICATION_ID}",
        "CREATE TABLE meta (key TEXT PRIMARY KEY NOT NULL, value ANY NOT NULL) STRICT, WITHOUT ROWID",
        """CREATE TABLE runs (
            number INTEGER PRIMARY KEY,
            run_id TEXT NOT NULL UNIQUE,
            started_at TEXT NOT NULL,
            version TEXT NOT NULL,
            finished_at TEXT,
            exit_code INTEGER,
            summary TEXT
        ) STRICT""",
        """CREATE TABLE calls (
            call_id TEXT PRIMARY KEY NOT NULL,
            fingerprint BLOB NOT NULL,
            state TEXT NOT NULL DEFAULT 'pending'
                CHECK (state IN ('pending', 'sending', 'accepted', 'refused', 'uncertain', 'closed')),
            seq INTEGER,
            attempts INTEGER NOT NULL DEFAULT 0,
            resends INTEGER NOT NULL DEFAULT 0,
            sent_run INTEGER REFERENCES runs (number),
            sent_at TEXT NOT NULL DEFAULT '',
            http_status INTEGER,
            code TEXT NOT NULL DEFAULT '',
            reason TEXT NOT NULL DEFAULT '',
            hint TEXT NOT NULL DEFAULT '',
            CHECK ((seq IS NOT NULL) = (state IN ('pending', 'sending', 'uncertain')))
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX calls_open ON calls (state, seq) WHERE seq IS NOT NULL",
        """CREATE TABLE payloads (
            seq INTEGER PRIMARY KEY,
            state TEXT NOT NULL,
            agent_number TEXT NOT NULL,
            customer_number TEXT NOT NULL,
            start_time TEXT NOT NULL,
            zohouser TEXT NOT NULL,
            voiceuri TEXT NOT NULL,
            source_id TEXT NOT NULL,
            file TEXT NOT NULL,
            line INTEGER NOT NULL,
            staged_run INTEGER NOT NULL REFERENCES runs (number),
            staged_at TEXT NOT NULL
        ) STRICT""",
        """CREATE VIEW open_calls AS
            SELECT calls.state AS ledger_state, calls.seq, calls.call_id, payloads.state, agent_number,
                customer_number, start_time, zohouser, voiceuri, source_id, file, line, staged_run,
                staged_at, attempts, sent_run, sent_at, http_status, code, reason, hint
            FROM calls JOIN payloads ON payloads.seq = calls.seq""",
        """CREATE TABLE decisions (
            number INTEGER PRIMARY KEY,
            call_id TEXT NOT NULL REFERENCES calls (call_id),
            decision TEXT NOT NULL CHECK (decision IN ('sent', 'not_sent', 'close')),
            note TEXT NOT NULL,
            who TEXT NOT NULL,
            decided_at TEXT NOT NULL,
            run INTEGER NOT NULL REFERENCES runs (number)
        ) STRICT""",
    ),
    (
        "ALTER TABLE runs ADD COLUMN command TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD COLUMN results TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE runs ADD COLUMN settings TEXT NOT NULL DEFAULT '{}'",
        "ALTER TABLE runs ADD COLUMN inputs TEXT NOT NULL DEFAULT '[]'",
        "INSERT OR IGNORE INTO meta (key, value) VALUES ('generation', 0)",
        "CREATE INDEX decisions_of_call ON decisions (call_id)",
    ),
    (
        # When an export first showed attended a call that is here as not attended; empty where none did.
        "ALTER TABLE calls ADD COLUMN attended_at TEXT NOT NULL DEFAULT ''",
        "CREATE INDEX calls_attended ON calls (state) WHERE attended_at != ''",
        """CREATE VIEW attended_since AS SELECT call_id, attended_at, sent_at FROM calls
            WHERE state = 'accepted' AND attended_at != '' AND NOT EXISTS (SELECT 1 FROM decisions
                WHERE decisions.call_id = calls.call_id AND decision = 'close')""",
    ),
    (
        # Rejected rows that the results of a run have listed: keyed hashes, and when they last did.
        """CREATE TABLE listed_rows (
            fingerprint BLOB PRIMARY KEY NOT NULL,
            listed_at TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
        "CREATE INDEX listed_rows_by_age ON listed_rows (listed_at)",
        # What was to be posted of calls that a person settled, until the next run that sends: to take it back.
        """CREATE TABLE reopenable (
            call_id TEXT PRIMARY KEY NOT NULL,
            seq INTEGER NOT NULL,
            state TEXT NOT NULL,
            agent_number TEXT NOT NULL,
            customer_number TEXT NOT NULL,
            start_time TEXT NOT NULL,
            zohouser TEXT NOT NULL,
            voiceuri TEXT NOT NULL,
            source_id TEXT NOT NULL,
            file TEXT NOT NULL,
            line INTEGER NOT NULL,
            staged_run INTEGER NOT NULL REFERENCES runs (number),
            staged_at TEXT NOT NULL
        ) STRICT, WITHOUT ROWID""",
    ),
)
"""Statements that lead from each schema version to the next; never edited once released, only added to."""

# WAL with FULL syncs every commit once; Python's defaults can undo a commit after a power cut (measured with
# SQLite 3.40.1: DELETE journal with FULL lost a committed row when the journal's unlink was lost).
_PRAGMAS = (
    ("journal_mode", "WAL", "wal"),
    ("synchronous", "FULL", 2),
    ("foreign_keys", "ON", 1),
    ("secure_delete", "ON", 1),
    ("cache_size", "-32768", -32768),
    # The -wal file is begun anew by `Ledger` only, which then counts a generation on; it keeps the reserve.
    ("wal_autocheckpoint", "0", 0),
    ("journal_size_limit", str(beside.RESERVE_BYTES), beside.RESERVE_BYTES),
)


@contextmanager
def translated_errors(path: Path) -> Iterator[None]:
    """Turn every SQLite error inside into one with its name and a hint, and never a value out of the ledger."""
    try:
        yield
    except (sqlite3.Error, UnicodeDecodeError) as error:  # the latter where SQLite quotes damaged text
        name = getattr(error, "sqlite_errorname", type(error).__name__)
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_NOTADB:
            raise LedgerError(
                f"{path} is no ledger, or its beginning is damaged ({name})",
                hint="Correct --ledger. Restore the latest backup only if this is the ledger.",
            ) from error
        if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            raise TryLaterError(
                f"another program is writing to the ledger {path} ({name})",
                hint="Close what has the ledger open, then run again.",
            ) from error
        if code == sqlite3.SQLITE_FULL:
            raise LedgerError(
                f"the ledger {path} cannot be written: its disk is full ({name})",
                hint="Free some space there, then run again: what was done until now is in the ledger.",
            ) from error
        is_right = code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM)
        raise LedgerError(
            f"the ledger {path} cannot be read or written ({name}){f'; {whose(path)}' if is_right else ''}",
            hint="Look at rights (`ls -l`) and disk (space, mount, errors). Restore the latest backup only if the "
            "file is damaged.",
        ) from error


@contextmanager
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """Commit all that is written inside, or nothing of it on any exception, a keyboard interrupt included."""
    try:
        connection.execute("BEGIN IMMEDIATE")
        yield
        connection.execute("COMMIT")
    except BaseException:
        # Some errors (disk full, I/O) have rolled back already; a failing ROLLBACK must not hide the cause.
        if connection.in_transaction:
            with suppress(sqlite3.Error):
                connection.execute("ROLLBACK")
        raise


@dataclass(slots=True)
class _Write:
    act: Callable[[sqlite3.Connection], None]
    turn: threading.Lock = field(default_factory=threading.Lock)
    is_done: bool = False
    failure: BaseException | None = None


@dataclass(slots=True)
class GroupCommit:
    """Commits together what threads write while a commit is under way: a sync takes longer than all else."""

    _transaction: Callable[[int], AbstractContextManager[sqlite3.Connection]]
    _waiting: list[_Write] = field(default_factory=list)
    _is_led: bool = False
    _guard: threading.Lock = field(default_factory=threading.Lock)

    def write(self, act: Callable[[sqlite3.Connection], None]) -> None:
        """Run one write, as if alone, and return once it is durable; raises what it or the commit raised."""
        mine = _Write(act)
        mine.turn.acquire()
        with self._guard:
            self._waiting.append(mine)
            leads, self._is_led = not self._is_led, True
        if not leads:
            mine.turn.acquire()
        if not mine.is_done:
            with self._guard:
                together, self._waiting = self._waiting, []
            self._commit(together)
            with self._guard:
                self._is_led = bool(self._waiting)
                woken = [*self._waiting[:1], *together]
            for write in woken:
                write.turn.release()
        if mine.failure is not None:
            raise mine.failure

    def _commit(self, together: Sequence[_Write]) -> None:
        try:
            with self._transaction(len(together)) as connection:
                for write in together:
                    try:
                        write.act(connection)
                    except (LedgerInvariantError, TryLaterError) as failure:
                        write.failure = failure
                        raise
        except BaseException as failure:
            others = [write for write in together if write.failure is None]
            if len(others) < len(together):
                # What one of them forbids undid the rest.
                self._commit(others) if others else None
            else:
                for write in together:
                    write.failure = failure
        finally:
            for write in together:
                write.is_done = True


def connect(
    path: Path, *, mode: str = "rw", busy_seconds: float = BUSY_SECONDS, is_new: bool = False
) -> sqlite3.Connection:
    """Open a SQLite file that exists, by a ``mode`` that creates none; it is a ledger unless it ``is_new``.

    ``ro&immutable=1`` reads what nobody writes to: no lock, no file beside it, no look at the ``-wal`` file.
    Raises as `check_wal` does, `LedgerError` for no ledger, `ConfigurationError` for one of a newer program.
    """
    beside.check_wal(path)
    uri = f"{path.absolute().as_uri()}?mode={mode}"
    connection = sqlite3.connect(
        uri, uri=True, timeout=busy_seconds, isolation_level=None, check_same_thread=False
    )
    try:
        (application_id,) = connection.execute("PRAGMA application_id").fetchone()
        if application_id != APPLICATION_ID and not is_new:
            raise LedgerError(
                f"{path} is not a ledger",
                hint="Correct the path. An empty file may stand where a ledger was lost: restore the latest "
                "backup.",
            )
        version = schema_version(connection)
        if version > len(MIGRATIONS):
            raise ConfigurationError(
                f"the ledger {path} has schema {version}, this program knows up to {len(MIGRATIONS)}",
                hint="A newer version of this program wrote it: use that version.",
            )
    except BaseException:
        connection.close()
        raise
    return connection


def configure(
    connection: sqlite3.Connection, path: Path, migrations: Sequence[Sequence[str]] = MIGRATIONS
) -> None:
    """Set the durability the ledger promises, then apply the migrations that the file has not seen, one by one.

    Each setting is read back; raises `LedgerError` if one did not take.
    """
    for name, value, expected in _PRAGMAS:
        connection.execute(f"PRAGMA {name} = {value}").fetchall()
        (actual,) = connection.execute(f"PRAGMA {name}").fetchone()
        if actual != expected:
            raise LedgerError(
                f"SQLite does not take {name}={value} for the ledger {path}, it answers {actual}",
                hint="Keep the ledger on a local disk with an ordinary file system.",
            )
    for number in range(schema_version(connection) + 1, len(migrations) + 1):
        with transaction(connection):
            for statement in migrations[number - 1]:
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {number}")


def kept(connection: sqlite3.Connection, key: str) -> Any:
    """Return what `meta` keeps under a key, None where there is nothing."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return row[0] if row else None


def keep(connection: sqlite3.Connection, key: str, value: object) -> None:
    """Keep a value under a key of `meta`, in place of another."""
    connection.execute("INSERT OR REPLACE INTO meta (key, value) VALUES (?, ?)", (key, value))


def check_health(connection: sqlite3.Connection, path: Path, *, closed: str | None = None) -> None:
    """Raise `LedgerError` unless SQLite finds the file whole, its indexes too (``PRAGMA integrity_check``)."""
    # A large file that is still the one a run closed is not read through.
    is_known = closed == beside.file_mark(path) and not beside.has_wal(path)
    is_read = not is_known or path.stat().st_size <= ALWAYS_CHECKED_BYTES
    verdict = connection.execute("PRAGMA integrity_check(1)").fetchone() if is_read else ("ok",)
    # SQLite 3.40 fills a last page that is cut short with zeros. While the -wal file holds something, a kill
    # in the middle of a checkpoint leaves the same sight, and the missing bytes are in there.
    is_cut = False
    if not beside.has_wal(path):
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        (page_bytes,) = connection.execute("PRAGMA page_size").fetchone()
        is_cut = path.stat().st_size < int(pages) * int(page_bytes)
    if verdict != ("ok",) or is_cut:
        raise LedgerError(
            f"the ledger {path} is damaged", hint="Keep the file, restore the latest backup; nothing was sent."
        )


def schema_version(connection: sqlite3.Connection) -> int:
    """Return how many migrations the file has seen."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    return int(version)


def create_ledger(path: Path, *, now: str) -> None:
    """Make an empty ledger, mode 0600, with the folders missing above it, mode 0700; ``now`` is GMT text.

    Raises `ConfigurationError` if something is there already, `TryLaterError` if it is being made right now,
    `LedgerError` if the disk does not let us.
    """
    path = Path(os.path.realpath(path))
    made = path.with_name(path.name + ".new")
    generation_path = beside.companion(path, beside.GENERATION)
    for found in (path, beside.companion(path, beside.WAL), generation_path):
        # A death while a ledger was made leaves the file in the making, perhaps a generation file: begun anew.
        if found.exists() and not (made.exists() and found == generation_path):
            raise _exists(found)
    hint = "Give a path with --ledger in a folder where you may write."
    with ExitStack() as undo, os_errors_as(LedgerError, f"cannot make a ledger at {path}", path, hint):
        make_folders(path.parent)
        beside.check_place(path)
        undo.callback(beside.take_lock(path).release)
        if made.exists():
            # A death in here left it, and no run has used it.
            left = beside.read_generation(path)
            if left.number or not left.readable:
                raise _exists(generation_path)
            generation_path.unlink(missing_ok=True)
            for suffix in ("-wal", "-shm", "-journal", ""):
                made.with_name(made.name + suffix).unlink(missing_ok=True)
        make_private_file(made)
        key = secrets.token_bytes(FINGERPRINT_KEY_BYTES)
        with translated_errors(path), closing(connect(made, is_new=True)) as connection:
            configure(connection, made)
            with transaction(connection):
                for each, value in (("created_at", now), ("fingerprint_key", key), ("next_seq", 1)):
                    keep(connection, each, value)
        sync_folder(path.parent)
        beside.write_generation(path, 0)
        try:
            put(made, path)
        except FileExistsError:
            raise _exists(path) from None
        made.unlink(missing_ok=True)
        sync_folder(path.parent)


def _exists(path: Path) -> ConfigurationError:
    return ConfigurationError(
        f"there is something at {path} already, so no ledger is made there",
        hint="Use it as it is, or give another path with --ledger; a new ledger knows of no call sent before. "
        "If only a -wal or .witness file is left, a ledger was lost: restore its backup.",
    )
