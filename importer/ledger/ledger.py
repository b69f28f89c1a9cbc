"""What a run, and a person between runs, may do with the calls of the ledger.

Every write is one transaction and durable when its method returns; a step that the states of a call forbid
changes nothing and is a `LedgerInvariantError`. Free of HTTP, pacing and files of calls.
"""

import hmac
import sqlite3
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager

from importer.errors import ConfigurationError, ExitCode, TryLaterError, UsageError
from importer.ledger import beside, schema, upkeep
from importer.ledger.reader import RUNS
from importer.ledger.staging import AHEAD_SECONDS, OPEN_CALL, Staging, Systems, call_of, expect_rows, select_in
from importer.ledger.values import Claimed, Decision, LedgerInvariantError, ReportedCall, Restored, RunRecord
from importer.ledger.writer import LedgerWriter
from importer.records import Receipt
from schemas.vocabulary import ATTENDED, CallState

_CRASH_HINT = (
    "The run that sent this call ended before the answer was recorded. Look in Zoho whether it arrived, "
    "then settle it with: cdr-importer resolve"
)
_DECIDED = {
    Decision.SENT: (CallState.ACCEPTED, "resolved_sent"),
    Decision.NOT_SENT: (CallState.PENDING, "resolved_not_sent"),
    Decision.CLOSE: (CallState.CLOSED, "closed"),
}
_TO_BE_SENT = "ledger_state = 'pending'"
_ORDERS = {
    "oldest": "seq",
    "newest": "substr(start_time, 1, 10) DESC, seq",
    "own": "staged_run = :run DESC, seq",
}
"""How pending calls may be lined up: as they were taken in, the newest day first, or those of this run first."""
MOST_LISTED = 200_000
"""So many rejected rows are remembered: some 20 MB."""
_SHOWN_ATTENDED = "SELECT call_id FROM calls WHERE attended_at != '' AND call_id"
_REMINDERS = "SELECT call_id FROM attended_since WHERE call_id"
_SETTLED = frozenset({CallState.ACCEPTED, CallState.REFUSED, CallState.CLOSED})
_LONGEST_SHOWN_ID = 64


class Ledger(LedgerWriter):
    """The ledger of one run, made by `Ledger.open`."""

    _new_account: bytes | None = None

    def recover(self) -> int:
        """Make every call that a dead run was sending `uncertain`, and return how many; may be repeated."""
        return self._write(
            """UPDATE calls SET state = 'uncertain', reason = 'crash', hint = ?, http_status = NULL, code = ''
                WHERE state = 'sending' AND seq IS NOT NULL""",
            (_CRASH_HINT,),
        )

    @contextmanager
    def staging(self, systems: Systems | None = None) -> Iterator[Staging]:
        """Take calls in as one transaction: all of them are durable at the end, or none after an exception."""
        with self._transaction() as connection:
            stage = Staging(connection, self._run_number, self._now(), self._fingerprint_key, systems)
            yield stage
            stage.close()
        # Many pages were written: the reserve is whole again only after a new beginning.
        self._commits = beside.COMMITS_PER_TURN

    def keep_listed(self, most: int = MOST_LISTED) -> None:
        """Remember the rejected rows of this staging, of all only the ``most`` that were listed last."""
        # The last write of a run: the results of one that died did not list them.
        with self._transaction() as connection:
            keep = "INSERT OR REPLACE INTO listed_rows SELECT fingerprint, ? FROM temp.listed"
            connection.execute(keep, (self._now(),))
            connection.execute("DELETE FROM temp.listed")
            connection.execute(
                """DELETE FROM listed_rows WHERE fingerprint IN (SELECT fingerprint FROM listed_rows
                    ORDER BY listed_at DESC, fingerprint DESC LIMIT -1 OFFSET ?)""",
                (most,),
            )

    def line_up(self, order: str, own_only: bool = False, limit: int | None = None) -> tuple[int, int, str, str]:
        """Put the pending calls in an order of `_ORDERS`, for `claim`: 0.2 s for 300,000 of them.

        ``own_only`` leaves out the calls that this run's input did not hold, ``limit`` all after so many. Returns
        how many there are, how many of them earlier runs left, and their earliest and latest start (GMT text).
        """
        # A table and not a list: a backlog of millions of calls must not grow the process.
        select = f"""SELECT seq FROM open_calls WHERE {_TO_BE_SENT} AND seq IS NOT NULL
            AND (staged_run = :run OR NOT :own_only) ORDER BY {_ORDERS[order]} LIMIT :limit"""  # noqa: S608
        chosen = {"run": self._run_number, "own_only": own_only, "limit": -1 if limit is None else limit}
        with self._guard, schema.translated_errors(self._path):
            self._connection.execute("DROP TABLE IF EXISTS temp.queue")
            self._connection.execute("CREATE TEMP TABLE queue (turn INTEGER PRIMARY KEY, seq INTEGER NOT NULL)")
            self._connection.execute(f"INSERT INTO temp.queue (seq) {select}", chosen)
        query = """SELECT count(*), coalesce(sum(staged_run != ?), 0), coalesce(min(start_time), ''),
            coalesce(max(start_time), '') FROM temp.queue CROSS JOIN payloads USING (seq)"""
        ((calls, from_earlier, first, last),) = self._rows(query, (self._run_number,))
        return calls, from_earlier, first, last

    def claim(self, batch_size: int, *, after: int) -> list[Claimed]:
        """Return the next calls of `line_up` that are still pending, after that ``turn``; changes nothing."""
        query = f"""SELECT {OPEN_CALL}, turn, attempts, staged_run FROM temp.queue CROSS JOIN open_calls
            USING (seq) WHERE turn > ? AND {_TO_BE_SENT} ORDER BY turn LIMIT ?"""  # noqa: S608
        return [
            Claimed(row[10], call_of(row[:10]), row[11], row[12] == self._run_number)
            for row in self._rows(query, (after, batch_size))
        ]

    def mark_sending(self, call_id: str) -> None:
        """Make durable that a request for this pending call is about to begin; before its first byte leaves.

        Raises `LedgerError` when the ledger's files were replaced or deleted under the run, and `TryLaterError`
        when another run has begun on it, as it may where locks do not hold.
        """
        if self._restored is not None:
            raise LedgerInvariantError("a call was to be sent from a ledger that was restored and not accepted")
        self._require_own_files()

        def mark(connection: sqlite3.Connection) -> None:
            # No request begins before its call, whatever a clock says that was set back since the call was staged:
            # `purge` would take what was just sent for old, and the next import would send it again.
            changed = connection.execute(
                """UPDATE calls SET state = 'sending', attempts = attempts + 1, sent_run = ?,
                    sent_at = (SELECT max(?, datetime(start_time, ?)) FROM payloads WHERE seq = calls.seq)
                    WHERE call_id = ? AND state = 'pending' AND (SELECT max(number) FROM runs) = ?""",
                (self._run_number, self._now(), f"-{AHEAD_SECONDS} seconds", call_id, self._run_number),
            )
            if not changed.rowcount and self._rows("SELECT max(number) FROM runs") != [(self._run_number,)]:
                raise TryLaterError(
                    f"another run has begun on the ledger {self._path} while this one went on",
                    hint="Keep the ledger on a local disk and do not touch its lock file. Nothing more was sent.",
                )
            expect_rows(changed.rowcount, 1)

        self._group.write(mark)

    def settle(self, receipt: Receipt) -> None:
        """Make durable what the answer to a request proves; the call must be `sending`.

        Attempts and time are the ledger's own. ``reason``, ``hint`` and ``code`` outlast the payload, which
        goes in the same transaction once the call is accepted or refused: they must hold no number.
        """
        self._group.write(lambda _: self._leave(CallState.SENDING, receipt))

    def note_unsent(self, receipt: Receipt) -> None:
        """Note why a pending call was not sent; it stays pending."""
        self._group.write(lambda _: self._leave(CallState.PENDING, receipt))

    def resolve(self, call_ids: Sequence[str], decision: Decision, *, note: str, who: str) -> list[str]:
        """Settle uncertain calls as a person found out, all of them or none, and keep who, why and when.

        `CLOSE` also ends the reminder of an accepted call that an export showed attended, which stays accepted.
        `NOT_SENT` closes the calls that an export showed attended; their ids are returned. Raises `UsageError`
        naming the first call that is neither.
        """
        wanted = list(dict.fromkeys(call_ids))
        decided = dict.fromkeys(wanted, CallState.CLOSED)
        with self._transaction() as connection:
            fates = self.fates(wanted)
            shown = [row[0] for row in select_in(connection, _SHOWN_ATTENDED, wanted)]
            kept_back = shown if decision is Decision.NOT_SENT else []
            reminders = {row[0] for row in select_in(connection, _REMINDERS, wanted)}
            for call_id in wanted:
                if decision is Decision.CLOSE and call_id in reminders:
                    continue
                fate = fates.get(call_id)
                if fate is None or fate.state is not CallState.UNCERTAIN:
                    found = f"is {fate.state}" if fate else "is not in the ledger"
                    raise UsageError(
                        f"call {call_id[:_LONGEST_SHOWN_ID]!a} {found}: only an uncertain call can be resolved; "
                        "nothing was changed",
                        hint="`cdr-importer status` lists the uncertain calls, and those attended since, for "
                        "--close alone. Until the next send --reopen takes a decision back.",
                    )
                connection.execute(upkeep.KEEP_REOPENABLE, (call_id,))
                state, reason = (CallState.CLOSED, ATTENDED) if call_id in kept_back else _DECIDED[decision]
                self._leave(CallState.UNCERTAIN, Receipt(call_id, state, reason=reason))
                decided[call_id] = state
            self._note_decisions(connection, wanted, decision, note, who)
            beside.keep_decisions(self._path, decided)
        return kept_back

    def reopen(self, call_ids: Sequence[str]) -> None:
        """Make calls uncertain again that a person settled since the last send: all, or none and `UsageError`."""
        with self._transaction() as connection:
            for call_id in dict.fromkeys(call_ids):
                settled = connection.execute("SELECT 1 FROM reopenable WHERE call_id = ?", (call_id,))
                if not settled.fetchone():
                    raise UsageError(
                        f"nobody has settled call {call_id[:_LONGEST_SHOWN_ID]!a} since the last run that sent; "
                        "nothing was changed",
                        hint="A decision can be taken back until the next send (`cdr-importer status --runs`); "
                        "from then on put the call right in Zoho by hand.",
                    )
                payload, *others = upkeep.TAKE_BACK
                connection.execute(payload, {"call_id": call_id})
                for statement in others:
                    expect_rows(connection.execute(statement, {"call_id": call_id}).rowcount, 1)
            beside.keep_decisions(self._path, dict.fromkeys(call_ids, CallState.UNCERTAIN))

    def end_reopening(self) -> None:
        """Delete what `resolve` left for `reopen`: a run is about to send."""
        self._write("DELETE FROM reopenable")

    def _note_decisions(
        self, connection: sqlite3.Connection, call_ids: Sequence[str], decision: Decision, note: str, who: str
    ) -> None:
        at = self._now()
        written = connection.executemany(
            """INSERT INTO decisions (call_id, decision, note, who, decided_at, run)
                VALUES (?, ?, ?, ?, ?, ?)""",
            [(call_id, decision, note, who, at, self._run_number) for call_id in call_ids],
        )
        # An empty list leaves rowcount at -1.
        expect_rows(max(written.rowcount, 0), len(call_ids))

    def forget(self, number: str, *, who: str) -> dict[CallState, int]:
        """Close every open call of this number (E.164), scrub its payload and keep who asked and when.

        The call ids stay, so that no later import sends them, and a keyed hash of the number beside the ledger, so
        that no backup brings it back. Returns how many stood in which state.
        """
        with self._transaction() as connection:
            staged_at = dict(connection.execute(upkeep.OPEN_WITH_NUMBER, (number, number)))
            call_ids = list(staged_at)
            # A call staged while the clock was ahead is forgotten with the others.
            at = max([self._now(), *staged_at.values()])
            beside.keep_decisions(self._path, {beside.hashed(number, self._fingerprint_key): at})
            stood = [fate.state for fate in self.fates(call_ids).values()]
            upkeep.scrub(connection, call_ids)
            settled = "DELETE FROM reopenable WHERE agent_number = ? OR customer_number = ?"
            connection.execute(settled, (number, number))
            self._note_decisions(connection, call_ids, Decision.CLOSE, "forgotten", who)
        return {state: stood.count(state) for state in (CallState.PENDING, CallState.UNCERTAIN)}

    def purge(self, older_than: str) -> tuple[int, int, int]:
        """Delete settled calls whose last request began before that moment (GMT text), and free their bytes.

        Returns how many calls, decisions and runs were deleted. From then on unknown calls from before it are
        `stale` and never sent. Takes as much room on the disk again as the ledger that is left.
        """
        with self._guard, schema.translated_errors(self._path):
            # Deleting a run would look for its calls in the whole table, for each run.
            self._connection.execute("PRAGMA foreign_keys = OFF")
            try:
                with self._transaction() as connection:
                    purged = upkeep.purge(connection, older_than, self._run_number)
                    expect_rows(len(connection.execute("PRAGMA foreign_key_check").fetchall()), 0)
            finally:
                self._connection.execute("PRAGMA foreign_keys = ON")
            self._connection.execute("VACUUM")
            self._connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            self._begin_wal_anew()
        return purged

    def accept_restore(self, reported: Iterable[ReportedCall], *, complete: bool) -> Restored:
        """Take up a ledger that was restored from a backup, by what results files report of the time since.

        ``reported`` names each call once. Unless it is ``complete``, every call still pending becomes `uncertain`,
        and so do calls unknown that started before now when they are staged. Decisions of people since the backup
        hold again. Raises `UsageError` when the ledger is the one that the last run left.
        """
        if self._restored is None:
            raise UsageError(
                f"the ledger {self._path} is the one that the last run left: there is nothing to accept",
                hint="Just go on with it.",
            )
        self.recover()
        kept, decisions = beside.read_generation(self._path), beside.read_decisions(self._path)
        with self._transaction() as connection:
            run = (self._run_number, self._now(), self._fingerprint_key)
            counts, gone = upkeep.restore(connection, run, reported, decisions, complete=complete)
            self._note_decisions(connection, gone, Decision.CLOSE, "forgotten", "accept-restore")
            # What was corrected in Zoho is accepted still, and not to be reminded of.
            closed = self.held([call_id for call_id, word in decisions.items() if word == CallState.CLOSED])
            corrected = [call_id for call_id, is_reminded in closed.items() if is_reminded]
            self._note_decisions(connection, corrected, Decision.CLOSE, "restored", "accept-restore")
            generation = max(schema.kept(connection, "generation"), kept.number or 0)
            schema.keep(connection, "generation", generation)
        self._restored = None
        self._begin_wal_anew()
        return counts

    def check_account(self, label: str) -> None:
        """Raise `ConfigurationError` when calls of this ledger were sent to another account than this one."""
        account = hmac.digest(self._fingerprint_key, b"account " + label.encode(), "sha256")
        bound = self._kept("account")
        if bound is None:
            self._new_account = account
        elif not hmac.compare_digest(bound, account):
            raise ConfigurationError(
                f"the ledger {self._path} belongs to another account than the one signed in to",
                hint="Name this account's own ledger with --ledger, or correct --data-center and credentials. If "
                "the same account just got a new client: cdr-importer ledger accept-account",
            )

    def bind_account(self) -> None:
        """Keep which account this ledger's calls are sent to: the one checked, if there was none."""
        if self._new_account is None:
            return
        with self._guard:
            if self._new_account is not None:
                with self._transaction() as connection:
                    schema.keep(connection, "account", self._new_account)
                self._new_account = None

    def forget_account(self) -> bool:
        """Let the next run bind this ledger to its account; return whether it was bound."""
        return self._write("DELETE FROM meta WHERE key = 'account'") == 1

    def hold_until(self, not_before: str | None) -> None:
        """Keep for later runs that nothing is to be sent before that time; None lifts it."""
        if not_before is None:
            self._write("DELETE FROM meta WHERE key = 'not_before'")
        else:
            with self._transaction() as connection:
                schema.keep(connection, "not_before", not_before)

    def seconds_set_forward(self, boot: str, ahead: float) -> float:
        """Return by how many seconds the wall clock was set forward since the run before; 0 also when set back.

        ``ahead`` is how far it is ahead of the monotonic clock, kept for the next run; that one begins anew with
        each start of the machine, which ``boot`` names.
        """
        with self._transaction() as connection:
            before, _, seconds = (schema.kept(connection, "clock") or "").partition(" ")
            schema.keep(connection, "clock", f"{boot} {ahead:.3f}")
        return max(0.0, ahead - float(seconds)) if boot and before == boot else 0.0

    def finish_run(self, exit_code: ExitCode, summary_json: str) -> None:
        """Note how this run ended."""
        query = "UPDATE runs SET finished_at = ?, exit_code = ?, summary = ? WHERE number = ?"
        self._write(query, (self._now(), exit_code, summary_json, self._run_number), rows=1)

    def note_inputs(self, inputs_json: str) -> None:
        """Keep which files this run read: a JSON list of ``{file, sha256, bytes, rows}``."""
        self._write("UPDATE runs SET inputs = ? WHERE number = ?", (inputs_json, self._run_number), rows=1)

    def unfinished_runs(self) -> list[RunRecord]:
        """Return the runs before this one that did not note their end, oldest first: they died."""
        query = f"{RUNS} WHERE finished_at IS NULL AND number < ? ORDER BY number"
        return [RunRecord(*row) for row in self._rows(query, (self._run_number,))]

    def finish_dead_run(self, run_id: str, summary_json: str) -> None:
        """Note that this run has written the results of one of `unfinished_runs`; its exit code stays unknown."""
        query = """UPDATE runs SET finished_at = ?, summary = ?
            WHERE run_id = ? AND finished_at IS NULL AND number < ?"""
        self._write(query, (self._now(), summary_json, run_id, self._run_number), rows=1)

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
                *(receipt.state, settled, receipt.reason, receipt.hint, receipt.http_status, receipt.code),
                *(receipt.call_id, state),
            ),
        )
        expect_rows(changed.rowcount, 1)
