"""Reads of the ledger, for a run and for a person looking on while one goes on; nothing in here changes it."""

import errno
import os
import sqlite3
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Self

from importer.errors import CannotCreateError, ConfigurationError, LedgerError, TryLaterError
from importer.ledger import beside, schema
from importer.ledger.beside import GENERATION, WAL, LedgerLock, check_files, companion, has_wal, share_lock
from importer.ledger.staging import OPEN_CALL, Staging, Systems, call_of, select_in
from importer.ledger.values import Fate, RunRecord
from importer.private_files import making, replace_private_file, why
from importer.records import COMPLETE_EXIT_CODES, STOPPED_REASONS, Call
from schemas.vocabulary import CallState

ATTENDED_SCHEMA = 3
"""The first schema version that remembers what an export showed attended."""

RUNS = """SELECT run_id, started_at, version, command, results, settings, inputs, finished_at, exit_code, summary
    FROM runs"""
"""All that is kept of runs, to be narrowed."""

_RUNS_OF_THE_FIRST_RELEASE = """SELECT run_id, started_at, version, '', '', '{}', '[]', finished_at,
    exit_code, summary FROM runs"""

_FATES = "SELECT call_id, reason, hint, http_status, code, attempts, sent_at, state FROM calls WHERE"
_OF_RUN = "(? IS NULL OR sent_run = (SELECT number FROM runs WHERE run_id = ?))"


class LedgerReader:
    """Reads of the ledger, made by `open_reader`; raises `LedgerError` (disk) and `TryLaterError` (it is busy)."""

    def __init__(self, connection: sqlite3.Connection, path: Path, lock: LedgerLock | None = None) -> None:
        self._connection = connection
        self._path = path
        self._lock = lock or LedgerLock([])
        # One connection for all threads; reentrant, so that a staging may read what it has just written.
        self._guard = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection, then give a lock back; harmless when done before."""
        with self._guard:
            self._connection.close()
            self._lock.release()

    def check(self) -> None:
        """Read the whole file, and raise `LedgerError` when it is damaged: 8 s for 5 million calls."""
        with self._guard, schema.translated_errors(self._path):
            schema.check_health(self._connection, self._path)

    def counts(self) -> dict[CallState, int]:
        """Return how many calls stand in each state; reads the whole table: 0.6 s for 5 million."""
        # Accepted are those left over: to group them with the others takes twice as long.
        query = """SELECT state, count(*) FROM calls WHERE state != 'accepted' GROUP BY state
            UNION ALL SELECT '', count(*) FROM calls"""
        counted = dict(self._rows(query))
        counted[CallState.ACCEPTED] = 2 * counted[""] - sum(counted.values())
        return {state: counted.get(state, 0) for state in CallState}

    def pending_count(self) -> int:
        """Return how many calls wait to be sent, without looking at the others."""
        query = "SELECT count(*) FROM calls WHERE state = 'pending' AND seq IS NOT NULL"
        return int(self._rows(query)[0][0])

    def oldest_pending(self) -> str | None:
        """Return when the pending call that waits longest was staged, in GMT; None when none is pending."""
        query = """SELECT staged_at FROM open_calls WHERE ledger_state = 'pending' AND seq IS NOT NULL
            ORDER BY seq LIMIT 1"""
        return next((row[0] for row in self._rows(query)), None)

    def uncertain_calls(self, limit: int) -> list[tuple[Call, Fate, str]]:
        """Return the calls that wait for a person, oldest first, with fate and the run of the last request."""
        query = f"""SELECT {OPEN_CALL},
                reason, hint, http_status, code, attempts, sent_at, ledger_state, coalesce(run_id, '')
            FROM open_calls LEFT JOIN runs ON runs.number = sent_run
            WHERE ledger_state = 'uncertain' AND seq IS NOT NULL ORDER BY seq LIMIT ?"""  # noqa: S608 no value in it
        return [(call_of(row[:10]), _fate_of(row[10:17]), row[17]) for row in self._rows(query, (limit,))]

    def uncertain_since(self) -> tuple[int, str]:
        """Return how many calls wait for a person, and when the oldest was sent, or else taken in: GMT text."""
        query = """SELECT count(*), min(coalesce(nullif(sent_at, ''), staged_at)) FROM open_calls
            WHERE ledger_state = 'uncertain' AND seq IS NOT NULL"""
        ((count, since),) = self._rows(query)
        return count, since or ""

    def open_files(self) -> set[str]:
        """Return the files of the calls that wait to be sent or for a person, each as it was named."""
        return {row[0] for row in self._rows("SELECT DISTINCT file FROM payloads")}

    def attended_since(self) -> list[str]:
        """Return the ids of accepted calls that an export showed attended and no person closed, oldest first."""
        with self._guard, schema.translated_errors(self._path):
            if schema.schema_version(self._connection) < ATTENDED_SCHEMA:
                return []
        return [row[0] for row in self._rows("SELECT call_id FROM attended_since ORDER BY attended_at, call_id")]

    def has_calls(self) -> bool:
        """Return whether any call is here."""
        return bool(self._rows("SELECT 1 FROM calls LIMIT 1"))

    def held(self, call_ids: Sequence[str]) -> dict[str, bool]:
        """Return which of these calls are here, and whether each may be shown attended: nobody closed it."""
        query = """SELECT call_id, state != 'closed' AND NOT EXISTS (SELECT 1 FROM decisions
            WHERE decisions.call_id = calls.call_id AND decision = 'close') FROM calls WHERE call_id"""
        with self._guard, schema.translated_errors(self._path):
            return {row[0]: bool(row[1]) for row in select_in(self._connection, query, call_ids)}

    def fates(self, call_ids: Sequence[str]) -> dict[str, Fate]:
        """Return where calls stand, by call id; ids that it does not hold are left out."""
        with self._guard, schema.translated_errors(self._path):
            found = select_in(self._connection, f"{_FATES} call_id", call_ids)
            return {row[0]: _fate_of(row[1:]) for row in found}

    def runs(self, limit: int) -> list[RunRecord]:
        """Return the latest runs, newest first, at most ``limit``."""
        with self._guard, schema.translated_errors(self._path):
            first_release = schema.schema_version(self._connection) == 1
        kept = _RUNS_OF_THE_FIRST_RELEASE if first_release else RUNS
        return [RunRecord(*row) for row in self._rows(f"{kept} ORDER BY number DESC LIMIT ?", (limit,))]

    def rows_of_complete_imports(self, site: str, limit: int) -> list[tuple[int, int]]:
        """Return how many rows the latest complete imports of a site read and skipped, newest first."""
        query = f"""SELECT json_extract(summary, '$.rows'), json_extract(summary, '$.skipped') FROM runs
            WHERE command = 'import' AND json_extract(settings, '$.site') = ?
            AND exit_code IN {COMPLETE_EXIT_CODES}
            AND json_extract(summary, '$.reason') NOT IN {STOPPED_REASONS} ORDER BY number DESC LIMIT ?"""  # noqa: S608
        return self._rows(query, (site, limit))

    def run_fates(self, run_id: str) -> dict[str, Fate]:
        """Return where the calls stand whose last request that run began, by call id; reads the whole table."""
        query = f"{_FATES} sent_run = (SELECT number FROM runs WHERE run_id = ?)"  # noqa: S608 no value in it
        return {row[0]: _fate_of(row[1:]) for row in self._rows(query, (run_id,))}

    def requests_over_time(self, span_seconds: int, run_id: str | None = None) -> dict[int, int]:
        """Return how many calls (of a run) had their last request in each span, by its first second (epoch)."""
        query = f"""SELECT CAST(strftime('%s', sent_at) AS INTEGER) / ? * ? AS span, count(*) FROM calls
            WHERE sent_at != '' AND {_OF_RUN} GROUP BY span HAVING span IS NOT NULL"""  # noqa: S608 no value in it
        return dict(self._rows(query, (span_seconds, span_seconds, run_id, run_id)))

    def refusals(self, run_id: str | None = None) -> list[tuple[int | None, str, str, str, int]]:
        """Return status, code, reason, a hint and number of refused calls (of a run), most frequent first."""
        query = f"""SELECT http_status, code, reason, max(hint), count(*) AS calls FROM calls
            WHERE state = 'refused' AND {_OF_RUN} GROUP BY http_status, code, reason
            ORDER BY calls DESC, code LIMIT 200"""  # noqa: S608
        return self._rows(query, (run_id, run_id))

    def sent_since(self, moment: str, now: str, most: int) -> list[str]:
        """Return when each request that began at this GMT moment or later began, the newest, at most ``most``.

        A clock that was ahead noted moments after ``now``. Those of a run count only while no run has ended
        between it and ``moment``.
        """
        query = """SELECT sent_at FROM calls WHERE sent_at >= ? AND (sent_at <= ?
            OR sent_run > (SELECT coalesce(max(number), 0) FROM runs WHERE finished_at < ?))
            ORDER BY sent_at DESC LIMIT ?"""
        return [row[0] for row in self._rows(query, (moment, now, moment, most))]

    def held_until(self) -> str | None:
        """Return the time, as `Ledger.hold_until` was given it, before which nothing is to be sent."""
        moment: str | None = self._kept("not_before")
        return moment

    def check_latest(self) -> int:
        """Return its schema version; raises `ConfigurationError` unless it is the one that the last run left."""
        kept, path = beside.read_generation(self._path), companion(self._path, GENERATION)
        with self._guard, schema.translated_errors(self._path):
            version = schema.schema_version(self._connection)
        generation = self._kept("generation") or 0  # the first release did not count
        if not kept.readable:
            fault = f"{path} is damaged, so nobody knows if the ledger {self._path} is whole"
        elif kept.number is None and version > 1:
            # A copy of the ledger alone, on another machine, has none; only the first release wrote none.
            fault = f"{path} is missing: the ledger {self._path} was moved or restored without it"
        elif kept.number is not None and kept.number > generation:
            fault = (
                f"the ledger {self._path} (generation {generation}) is older than {path} ({kept.number}): "
                "it was restored from a backup, or its -wal file was lost"
            )
        else:
            return version
        raise ConfigurationError(fault, hint=beside.RESTORED_HINT)

    @contextmanager
    def dry_staging(self, now: str, systems: Systems | None = None) -> Iterator[Staging]:
        """Give a staging for an import at this moment (GMT text) that writes nothing; `ConfigurationError`."""
        version = self.check_latest()
        with self._guard, schema.translated_errors(self._path):
            if version < len(schema.MIGRATIONS):
                raise ConfigurationError(
                    f"the ledger {self._path} is of an earlier version of this program",
                    hint="The next `import` or `deliver` brings it up to date.",
                )
            yield Staging(self._connection, 0, now, self._kept("fingerprint_key"), systems, is_dry=True)

    def backup(self, target: Path) -> None:
        """Copy the ledger as it stands to a new file of mode 0600, also while a run goes on.

        The file is there once it is whole, durable, and counts as older than the ledger, so that whoever restores
        it has to say what was sent since. Copying the ledger with other tools loses what is only in the ``-wal``
        file beside it. Raises `LedgerError` when the ledger is damaged, and `CannotCreateError` when something is
        there already or the copy cannot be written.
        """
        try:
            with making(target) as file, self._guard, schema.translated_errors(self._path):
                schema.check_health(self._connection, self._path)  # a copy of damage would replace good ones
                try:
                    with closing(schema.connect(file, busy_seconds=0, is_new=True)) as copy:
                        # Nothing is put beside it that a disk of another kind may not take (shared memory).
                        copy.execute("PRAGMA locking_mode = EXCLUSIVE")
                        self._connection.backup(copy)
                        with schema.transaction(copy):
                            copy.execute("UPDATE meta SET value = value - 1 WHERE key = 'generation'")
                        copy.execute("PRAGMA journal_mode = DELETE")
                except sqlite3.OperationalError as error:
                    # Only the copy is written to.
                    if error.sqlite_errorcode in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR_WRITE):
                        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from error
                    raise
            with suppress(OSError):
                noted = os.fsencode(target.absolute()) + b"\n"
                replace_private_file(companion(self._path, beside.BACKED_UP), noted)
        except BlockingIOError as error:
            raise TryLaterError(
                f"another backup to {target} goes on", hint="Wait until it has ended, or name another file."
            ) from error
        except OSError as error:
            raise CannotCreateError(
                f"cannot write a backup to {target}: {why(error, target)}",
                hint="Give a path where nothing is yet, in a folder with space where you may write.",
            ) from error

    def _kept(self, key: str) -> Any:
        with self._guard, schema.translated_errors(self._path):
            return schema.kept(self._connection, key)

    def _rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._guard, schema.translated_errors(self._path):
            return self._connection.execute(query, parameters).fetchall()


def open_reader(path: Path) -> LedgerReader:
    """Open a ledger for looking on while a run may be writing: no lock, nothing created in it.

    Where its disk is full or read-only, no run may begin until the reader is closed. Raises `ConfigurationError`
    when there is no ledger or a newer program wrote it, `LedgerError` when it is not a ledger.
    """
    path = existing(path)
    check_files(path)
    with schema.translated_errors(path):
        try:
            return LedgerReader(schema.connect(path, mode="ro"), path)
        except sqlite3.OperationalError as error:
            # SQLite shares memory with a run in a file beside the ledger, which it cannot make there.
            if error.sqlite_errorcode & 0xFF not in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_IOERR):
                raise
            # One that nobody can write to is opened without that file.
            lock = share_lock(path)
            if lock is None:
                raise
            try:
                if has_wal(path):
                    raise LedgerError(
                        f"the ledger {path} cannot be read where it is: its disk is full or read-only, and "
                        f"some of it is only in {companion(path, WAL)}",
                        hint="Copy both files to a folder with room, and name the copy with --ledger for this "
                        "command.",
                    ) from error
                return LedgerReader(schema.connect(path, mode="ro&immutable=1", busy_seconds=0), path, lock)
            except BaseException:
                lock.release()
                raise


def held_in(path: Path, call_ids: Sequence[str]) -> dict[str, bool]:
    """Return what `LedgerReader.held` does, in another process than the one that has the ledger open."""
    with open_reader(path) as reader:
        return reader.held(call_ids)


def existing(path: Path) -> Path:
    """Return the ledger's true path: links to one ledger must lead to one lock."""
    given, path = path, Path(os.path.realpath(path))
    if not path.exists():
        origin = "" if given.is_absolute() else f", looked for from the folder {Path.cwd()}"
        raise ConfigurationError(
            f"no ledger at {path}{origin}",
            hint="Correct --ledger, or --config whose file names it; or make a new one with `cdr-importer init` "
            "or `cdr-importer import --init-ledger`: it would notify all calls again that another ledger has.",
            reason="no_ledger",
        )
    if not path.is_file():
        raise LedgerError(f"{path} is not a ledger but a folder or a device", hint="Correct the path.")
    return path


def _fate_of(row: Sequence[Any]) -> Fate:
    """Return the fate that six columns of `calls` hold, and the state after them."""
    reason, hint, http_status, code, attempts, sent_at, state = row
    return Fate(reason, hint, http_status, code, attempts, sent_at, CallState(state))
