"""What a run, and a person looking on, may do with the ledger.

Every write is one transaction and durable when its method returns; a step that the states of a call forbid
changes nothing and is a `LedgerInvariantError`. Must not know HTTP, pacing or files of calls.
"""

import sqlite3
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from importer.errors import CannotCreateError, ConfigurationError, ExitCode, LedgerError, UsageError
from importer.ledger.lock import LedgerLock, take_lock
from importer.ledger.schema import (
    FINGERPRINT_KEY_BYTES,
    check_health,
    check_identity,
    configure,
    connect,
    make_private_file,
    migrate,
    sync_folder,
    transaction,
    translated_errors,
)
from importer.ledger.staging import Stage, StagingRun, expect_rows, select_in
from importer.ledger.values import (
    Claimed,
    Decision,
    Fate,
    LedgerInvariantError,
    RunInfo,
    RunRecord,
    UncertainCall,
)
from importer.records import Call, Place, Receipt
from schemas.vocabulary import CallState, State

BUSY_SECONDS = 5.0
"""How long another program's hold on the file is waited for before it counts as busy."""

_CRASH_HINT = (
    "The run that sent this call ended before the answer was recorded. Look in Zoho whether it arrived, "
    "then settle it with: cdr-importer resolve"
)
_DECIDED = {
    Decision.SENT: CallState.ACCEPTED,
    Decision.NOT_SENT: CallState.PENDING,
    Decision.CLOSE: CallState.CLOSED,
}
_DECIDED_REASON = {
    Decision.SENT: "resolved_sent",
    Decision.NOT_SENT: "resolved_not_sent",
    Decision.CLOSE: "closed",
}
_SETTLED = frozenset({CallState.ACCEPTED, CallState.REFUSED, CallState.CLOSED})
_ANSWERED = frozenset({CallState.ACCEPTED, CallState.REFUSED, CallState.UNCERTAIN, CallState.PENDING})
_LONGEST_SHOWN_ID = 64
_RUNS = """SELECT run_id, started_at, version, command, results, settings, inputs, finished_at, exit_code, summary
    FROM runs"""


class LedgerReader:
    """Reads of the ledger; made by `open_reader`, and what a run's `Ledger` can do besides writing.

    Methods raise `LedgerError` when the disk fails and `TryLaterError` when another program is in the way.
    """

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._path = path
        # One connection for all threads; reentrant, so that a staging may read what it has just written.
        self._guard = threading.RLock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connection; harmless when done before."""
        with self._guard:
            self._connection.close()

    def counts(self) -> dict[CallState, int]:
        """Return how many calls stand in each state; reads the whole table: 0.07 s for 300,000."""
        counted = dict(self._rows("SELECT state, count(*) FROM calls GROUP BY state"))
        return {state: counted.get(state, 0) for state in CallState}

    def pending_count(self) -> int:
        """Return how many calls wait to be sent, without looking at the others."""
        query = "SELECT count(*) FROM calls WHERE state = 'pending' AND seq IS NOT NULL"
        return int(self._rows(query)[0][0])

    def oldest_pending(self) -> str | None:
        """Return when the pending call that waits longest was staged, in GMT; None when none is pending."""
        query = """SELECT staged_at FROM open_calls WHERE ledger_state = 'pending' AND seq IS NOT NULL
            ORDER BY seq LIMIT 1"""
        rows = self._rows(query)
        return rows[0][0] if rows else None

    def uncertain_calls(self, limit: int) -> list[UncertainCall]:
        """Return the calls that wait for a person, oldest first, at most ``limit``."""
        query = """SELECT call_id, open_calls.state, agent_number, customer_number, start_time, zohouser,
                voiceuri, source_id, file, line,
                reason, hint, http_status, code, attempts, sent_at, ledger_state, coalesce(run_id, '')
            FROM open_calls LEFT JOIN runs ON runs.number = sent_run
            WHERE ledger_state = 'uncertain' AND seq IS NOT NULL ORDER BY seq LIMIT ?"""
        return [UncertainCall(_call(row[:10]), _fate(row[10:17]), row[17]) for row in self._rows(query, (limit,))]

    def fates(self, call_ids: Sequence[str]) -> dict[str, Fate]:
        """Return where calls stand, by call id; ids that the ledger does not know are left out."""
        query = """SELECT call_id, reason, hint, http_status, code, attempts, sent_at, state
            FROM calls WHERE call_id"""
        with self._guard, translated_errors(self._path):
            return {row[0]: _fate(row[1:]) for row in select_in(self._connection, query, call_ids)}

    def runs(self, limit: int) -> list[RunRecord]:
        """Return the latest runs, newest first, at most ``limit``."""
        return [RunRecord(*row) for row in self._rows(f"{_RUNS} ORDER BY number DESC LIMIT ?", (limit,))]

    def run_fates(self, run_id: str) -> dict[str, Fate]:
        """Return where the calls stand whose last request that run began, by call id; reads the whole table."""
        query = """SELECT call_id, reason, hint, http_status, code, attempts, sent_at, state FROM calls
            WHERE sent_run = (SELECT number FROM runs WHERE run_id = ?)"""
        return {row[0]: _fate(row[1:]) for row in self._rows(query, (run_id,))}

    def sent_since(self, moment: str) -> list[str]:
        """Return when each request that began at this GMT moment or later began, so that a new run counts them."""
        return [row[0] for row in self._rows("SELECT sent_at FROM calls WHERE sent_at >= ?", (moment,))]

    def held_until(self) -> str | None:
        """Return the time, as `Ledger.hold_until` was given it, before which nothing is to be sent."""
        rows = self._rows("SELECT value FROM meta WHERE key = 'not_before'")
        return rows[0][0] if rows else None

    def backup(self, target: Path) -> None:
        """Copy the ledger as it stands to a new file of mode 0600, also while a run goes on.

        Raises `CannotCreateError` when something is there already or the copy cannot be written. Copying
        the file with other tools loses what is only in the ``-wal`` file beside it.
        """
        try:
            make_private_file(target)
        except OSError as error:
            raise CannotCreateError(
                f"cannot write a backup to {target}: {error.strerror}",
                hint="Give a path where nothing is yet, in a folder where you may write.",
            ) from error
        try:
            self._copy(target)
            sync_folder(target.parent)
        except BaseException:
            target.unlink(missing_ok=True)
            raise

    def _copy(self, target: Path) -> None:
        with self._guard, translated_errors(self._path):
            if self._connection.in_transaction:
                raise LedgerInvariantError("a backup was asked for inside a transaction")
            copy = connect(target, mode="rw", busy_seconds=0)
            try:
                self._connection.backup(copy)
            finally:
                copy.close()

    def _rows(self, query: str, parameters: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        with self._guard, translated_errors(self._path):
            return self._connection.execute(query, parameters).fetchall()


class Ledger(LedgerReader):
    """The ledger of one run, which alone writes to it; made by `Ledger.open`.

    Methods may be called from any thread. After an error of the disk every further write is refused: after
    a failed sync nobody knows what is on disk, so only a new run may look again.
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, *, lock: LedgerLock, now: Callable[[], str]
    ) -> None:
        super().__init__(connection, path)
        self._lock = lock
        self._now = now
        self._failed = False
        self._run_number = 0
        self._fingerprint_key = b""

    @classmethod
    def open(cls, path: Path, *, run: RunInfo, now: Callable[[], str], busy_seconds: float = BUSY_SECONDS) -> Self:
        """Lock, check and open the ledger of this run, and note the run in it.

        ``now`` gives GMT text. Raises `ConfigurationError` when there is no ledger or a newer program wrote
        it, `TryLaterError` when another run has it, `LedgerError` when it is damaged or not a ledger.
        """
        path = _existing(path)
        lock = take_lock(path, run_id=run.run_id, since=run.started_at)
        ledger: Self | None = None
        try:
            with translated_errors(path):
                ledger = cls(connect(path, mode="rw", busy_seconds=busy_seconds), path, lock=lock, now=now)
                ledger._start(run)
            return ledger
        except BaseException:
            if ledger is not None:
                ledger._connection.close()
            lock.release()
            raise

    def close(self) -> None:
        """Close the connection, leave no payload in the ``-wal`` file, then give the lock back."""
        with self._guard:
            # Best effort: a reader may be looking on, and the next run's close comes round to it.
            with suppress(sqlite3.Error):
                self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._connection.close()
            self._lock.release()

    def recover(self) -> int:
        """Make every call that a dead run was sending `uncertain`, and return how many; may be repeated."""
        with self._transaction() as connection:
            query = "SELECT count(*) FROM calls WHERE state = 'sending' AND seq IS NOT NULL"
            found = int(connection.execute(query).fetchone()[0])
            changed = connection.execute(
                """UPDATE calls SET state = 'uncertain', reason = 'crash', hint = ?, http_status = NULL, code = ''
                    WHERE state = 'sending' AND seq IS NOT NULL""",
                (_CRASH_HINT,),
            )
            expect_rows(changed.rowcount, found)
        return found

    @contextmanager
    def staging(self) -> Iterator[Stage]:
        """Take calls in as one transaction: all of them are durable at the end, or none after an exception."""
        run = StagingRun(self._run_number, self._now(), self._fingerprint_key)
        with self._transaction() as connection:
            stage = Stage(connection, run, self._path)
            try:
                stage.begin()
                yield stage
                stage.end()
            finally:
                stage.abandon()

    def claim(self, batch_size: int, *, after: int) -> list[Claimed]:
        """Return the next pending calls in staging order, after that ``seq``; changes nothing."""
        query = """SELECT call_id, state, agent_number, customer_number, start_time, zohouser, voiceuri,
                source_id, file, line, seq, attempts, staged_run
            FROM open_calls WHERE ledger_state = 'pending' AND seq > ? ORDER BY seq LIMIT ?"""
        return [
            Claimed(row[10], _call(row[:10]), row[11], row[12] == self._run_number)
            for row in self._rows(query, (after, batch_size))
        ]

    def mark_sending(self, call_id: str) -> None:
        """Make durable that a request for this pending call is about to begin; before its first byte leaves."""
        with self._transaction() as connection:
            changed = connection.execute(
                """UPDATE calls SET state = 'sending', attempts = attempts + 1, sent_at = ?, sent_run = ?
                    WHERE call_id = ? AND state = 'pending'""",
                (self._now(), self._run_number, call_id),
            )
            expect_rows(changed.rowcount, 1)

    def settle(self, receipt: Receipt) -> None:
        """Make durable what the answer to a request proves; the call must be `sending`.

        Attempts and time are the ledger's own. ``reason``, ``hint`` and ``code`` outlast the payload, which
        goes in the same transaction once the call is accepted or refused: they must hold no number.
        """
        if receipt.state not in _ANSWERED:
            raise LedgerInvariantError(f"no answer makes a call {receipt.state}")
        with self._transaction():
            self._leave(CallState.SENDING, receipt)

    def note_unsent(self, call_id: str, *, reason: str, hint: str = "") -> None:
        """Note why a pending call was not sent; it stays pending."""
        with self._transaction():
            self._leave(CallState.PENDING, Receipt(call_id, CallState.PENDING, reason=reason, hint=hint))

    def resolve(self, call_ids: Sequence[str], decision: Decision, *, note: str, who: str) -> None:
        """Settle uncertain calls as a person found out, all of them or none, and keep who, why and when.

        Raises `UsageError` naming the first call that is not uncertain.
        """
        wanted = list(dict.fromkeys(call_ids))
        with self._transaction() as connection:
            fates = self.fates(wanted)
            for call_id in wanted:
                _check_uncertain(call_id, fates.get(call_id))
                reason = _DECIDED_REASON[decision]
                self._leave(CallState.UNCERTAIN, Receipt(call_id, _DECIDED[decision], reason=reason))
            at = self._now()
            written = connection.executemany(
                """INSERT INTO decisions (call_id, decision, note, who, decided_at, run)
                    VALUES (?, ?, ?, ?, ?, ?)""",
                [(call_id, decision, note, who, at, self._run_number) for call_id in wanted],
            )
            expect_rows(written.rowcount, len(wanted))

    def hold_until(self, not_before: str | None) -> None:
        """Keep for later runs that nothing is to be sent before that time; None lifts it."""
        with self._transaction() as connection:
            if not_before is None:
                connection.execute("DELETE FROM meta WHERE key = 'not_before'")
            else:
                connection.execute(
                    "INSERT OR REPLACE INTO meta (key, value) VALUES ('not_before', ?)", (not_before,)
                )

    def finish_run(self, exit_code: ExitCode, summary_json: str) -> None:
        """Note how this run ended."""
        with self._transaction() as connection:
            changed = connection.execute(
                "UPDATE runs SET finished_at = ?, exit_code = ?, summary = ? WHERE number = ?",
                (self._now(), exit_code, summary_json, self._run_number),
            )
            expect_rows(changed.rowcount, 1)

    def note_results(self, path: Path) -> None:
        """Keep where this run writes its results, so that a later run can finish them if this one dies."""
        self._update_run("UPDATE runs SET results = ? WHERE number = ?", str(path.absolute()))

    def note_inputs(self, inputs_json: str) -> None:
        """Keep which files this run read: a JSON list of ``{file, sha256, bytes, rows}``."""
        self._update_run("UPDATE runs SET inputs = ? WHERE number = ?", inputs_json)

    def unfinished_runs(self) -> list[RunRecord]:
        """Return the runs before this one that did not note their end, oldest first: they died."""
        query = f"{_RUNS} WHERE finished_at IS NULL AND number < ? ORDER BY number"
        return [RunRecord(*row) for row in self._rows(query, (self._run_number,))]

    def finish_dead_run(self, run_id: str, summary_json: str) -> None:
        """Note for an earlier run that died that this one has written its results; its exit code stays unknown.

        Raises `LedgerInvariantError` unless that run is one of `unfinished_runs`.
        """
        with self._transaction() as connection:
            changed = connection.execute(
                """UPDATE runs SET finished_at = ?, summary = ?
                    WHERE run_id = ? AND finished_at IS NULL AND number < ?""",
                (self._now(), summary_json, run_id, self._run_number),
            )
            expect_rows(changed.rowcount, 1)

    def _update_run(self, statement: str, value: str) -> None:
        with self._transaction() as connection:
            expect_rows(connection.execute(statement, (value, self._run_number)).rowcount, 1)

    def _start(self, run: RunInfo) -> None:
        check_identity(self._connection, self._path)
        check_health(self._connection, self._path)
        configure(self._connection, self._path)
        migrate(self._connection)
        found = self._rows("SELECT value FROM meta WHERE key = 'fingerprint_key'")
        if not found or len(found[0][0]) != FINGERPRINT_KEY_BYTES:
            raise LedgerError(
                f"the ledger {self._path} has lost the key of its fingerprints",
                hint="Restore the latest backup: without the key no call is known again.",
            )
        self._fingerprint_key = found[0][0]
        with self._transaction() as connection:
            # A run id met again is the same run, opening its ledger once more.
            connection.execute(
                """INSERT INTO runs (run_id, started_at, version, command, results, settings, inputs)
                    VALUES (?, ?, ?, ?, ?, ?, ?) ON CONFLICT DO NOTHING""",
                (
                    run.run_id,
                    run.started_at,
                    run.version,
                    run.command,
                    run.results,
                    run.settings,
                    run.inputs,
                ),
            )
            query = "SELECT number FROM runs WHERE run_id = ?"
            (self._run_number,) = connection.execute(query, (run.run_id,)).fetchone()

    @contextmanager
    def _transaction(self) -> Iterator[sqlite3.Connection]:
        with self._guard:
            if self._failed:
                raise LedgerError(
                    f"the ledger {self._path} failed before in this run", hint="Mend the disk, then run again."
                )
            if self._connection.in_transaction:
                raise LedgerInvariantError("a write was asked for inside a staging")
            try:
                with translated_errors(self._path), transaction(self._connection):
                    yield self._connection
            except LedgerError:
                self._failed = True
                raise

    def _leave(self, state: CallState, receipt: Receipt) -> None:
        """Move one call out of a state; its payload goes when nothing is to be sent or decided any more."""
        settled = receipt.state in _SETTLED
        if settled:
            payload = "DELETE FROM payloads WHERE seq = (SELECT seq FROM calls WHERE call_id = ? AND state = ?)"
            expect_rows(self._connection.execute(payload, (receipt.call_id, state)).rowcount, 1)
        changed = self._connection.execute(
            """UPDATE calls SET state = ?, seq = iif(?, NULL, seq), reason = ?, hint = ?, http_status = ?, code = ?
                WHERE call_id = ? AND state = ?""",
            (
                receipt.state,
                settled,
                receipt.reason,
                receipt.hint,
                receipt.http_status,
                receipt.code,
                receipt.call_id,
                state,
            ),
        )
        expect_rows(changed.rowcount, 1)


def open_reader(path: Path, *, busy_seconds: float = BUSY_SECONDS) -> LedgerReader:
    """Open a ledger for looking on while a run may be writing: no lock, nothing created in it.

    Raises `ConfigurationError` when there is none or a newer program wrote it, `LedgerError` when it is
    not a ledger.
    """
    path = _existing(path)
    with translated_errors(path):
        connection = connect(path, mode="ro", busy_seconds=busy_seconds)
        try:
            check_identity(connection, path)
        except BaseException:
            connection.close()
            raise
    return LedgerReader(connection, path)


def _existing(path: Path) -> Path:
    """Return the ledger's true path: links to one ledger must lead to one lock."""
    path = path.resolve()
    if not path.exists():
        raise ConfigurationError(
            f"no ledger at {path}",
            hint="Correct the path, or make a new ledger with `cdr-importer import --init-ledger` or "
            "`cdr-importer init`; a new ledger knows of no call sent before.",
        )
    if not path.is_file():
        raise LedgerError(f"{path} is not a ledger but a folder or a device", hint="Correct the path.")
    return path


def _check_uncertain(call_id: str, fate: Fate | None) -> None:
    if fate is None or fate.state is not CallState.UNCERTAIN:
        shown = ascii(call_id[:_LONGEST_SHOWN_ID])
        found = f"is {fate.state}" if fate else "is not in the ledger"
        raise UsageError(
            f"call {shown} {found}, only an uncertain call can be resolved; nothing was changed",
            hint="`cdr-importer status` lists the uncertain calls.",
        )


def _call(row: Sequence[Any]) -> Call:
    call_id, state, agent, customer, start_time, zohouser, voiceuri, source_id, file, line = row
    place = Place(file, line)
    return Call(call_id, State(state), agent, customer, start_time, zohouser, voiceuri, source_id, place)


def _fate(row: Sequence[Any]) -> Fate:
    reason, hint, http_status, code, attempts, sent_at, state = row
    return Fate(reason, hint, http_status, code, attempts, sent_at, CallState(state))
