"""What is done to a ledger between runs: old calls purged, a number forgotten, a restored backup taken up.

Each function works inside a transaction that `Ledger` opens. Must not know what is sent how.
"""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from importer.ledger.forgotten import hashed
from importer.ledger.staging import AHEAD_SECONDS, FORGOTTEN, RESTORED_HINT, expect_rows, insert_payload, later
from importer.ledger.values import Purged, Restored, Told
from schemas.vocabulary import CallState

_OPEN_WITH_NUMBER = """SELECT call_id, staged_at FROM open_calls
    WHERE ledger_state IN ('pending', 'uncertain') AND (agent_number = ? OR customer_number = ?)"""
_ACCEPT = """UPDATE calls SET state = 'accepted', seq = NULL, fingerprint = x'', reason = 'restored', hint = '',
    http_status = NULL, code = '', attempts = max(attempts, 1), sent_at = ? WHERE call_id = ?"""
_ADD_ACCEPTED = """INSERT INTO calls (call_id, fingerprint, state, attempts, sent_at, reason)
    VALUES (?, x'', 'accepted', 1, ?, 'restored')"""
_DOUBT = """UPDATE calls SET state = 'uncertain', seq = ?, reason = 'restored', hint = ?, http_status = NULL,
    code = '' WHERE call_id = ?"""
_ADD_DOUBT = """INSERT INTO calls (call_id, fingerprint, state, seq, attempts, sent_at, reason, hint)
    VALUES (?, x'', 'uncertain', ?, 1, ?, 'restored', ?)"""


def purge(connection: sqlite3.Connection, older_than: str, own_run: int) -> Purged:
    """Delete the settled calls whose last request began before a moment, and finished runs left without calls.

    The moment is GMT text. A call that was closed without ever being sent counts from that decision, or from when
    an export showed it attended. What was notified and attended since stays until a person closes it. Whatever
    is deleted started less than `AHEAD_SECONDS` after the horizon, which stagings go by from now on.
    """
    connection.execute("CREATE TEMP TABLE old (call_id TEXT PRIMARY KEY NOT NULL) WITHOUT ROWID")
    calls = connection.execute(
        # Without a request or a decision the moment is NULL, which is before none.
        """INSERT INTO old SELECT call_id FROM calls WHERE seq IS NULL AND coalesce(nullif(sent_at, ''),
            (SELECT max(decided_at) FROM decisions WHERE decisions.call_id = calls.call_id),
            nullif(attended_at, '')) < ? AND call_id NOT IN (SELECT call_id FROM attended_since)""",
        (older_than,),
    ).rowcount
    decisions = connection.execute("DELETE FROM decisions WHERE call_id IN (SELECT call_id FROM old)").rowcount
    expect_rows(connection.execute("DELETE FROM calls WHERE call_id IN (SELECT call_id FROM old)").rowcount, calls)
    runs = connection.execute(
        """DELETE FROM runs WHERE started_at < ? AND finished_at IS NOT NULL AND number != ? AND number NOT IN
            (SELECT sent_run FROM calls WHERE sent_run IS NOT NULL
            UNION SELECT staged_run FROM payloads UNION SELECT run FROM decisions)""",
        (older_than, own_run),
    ).rowcount
    connection.execute("DROP TABLE temp.old")
    if calls:
        raise_moment(connection, "horizon", older_than)
    return Purged(calls, decisions, runs)


def open_calls_with(connection: sqlite3.Connection, number: str) -> dict[str, str]:
    """Return when each call was staged that waits for sending or for a person and holds this number, by id."""
    return dict(connection.execute(_OPEN_WITH_NUMBER, (number, number)))


def raise_moment(connection: sqlite3.Connection, key: str, moment: str) -> None:
    """Keep a moment in `meta`, but never an earlier one than is there."""
    connection.execute(
        """INSERT INTO meta (key, value) VALUES (?, ?)
            ON CONFLICT (key) DO UPDATE SET value = max(value, excluded.value)""",
        (key, moment),
    )


@dataclass(frozen=True, slots=True)
class _Known:
    state: CallState
    seq: int | None


class Restoring:
    """Takes a restored backup up: what results files tell of the time since, then doubt about the rest."""

    def __init__(self, connection: sqlite3.Connection, *, run: int, now: str) -> None:
        self._connection = connection
        self._run = run
        self._now = now
        (self._next_seq,) = connection.execute("SELECT value FROM meta WHERE key = 'next_seq'").fetchone()
        self._counts = {"accepted": 0, "added": 0, "uncertain": 0, "forgotten": 0}
        self._doubted: set[str] = set()

    def take(self, told: Iterable[Told]) -> None:
        """Take in what became of calls, each told once: accepted, or perhaps sent."""
        for one in told:
            query = "SELECT state, seq FROM calls WHERE call_id = ?"
            row = self._connection.execute(query, (one.call.call_id,)).fetchone()
            known = _Known(CallState(row[0]), row[1]) if row else None
            if one.accepted:
                self._accept(one, known)
            else:
                self._doubt(one, known)

    def forget(self, forgotten: Mapping[str, str], key: bytes) -> list[str]:
        """Close the open calls staged before their number was forgotten, and return them.

        ``forgotten`` has that moment (GMT text) by the number's hash. From now on calls unknown to the ledger that
        such a number had before it are not sent either.
        """
        query = "SELECT call_id, staged_at, agent_number, customer_number FROM open_calls"
        gone = [
            call_id
            for call_id, staged_at, *numbers in (self._connection.execute(query) if forgotten else ())
            if any(staged_at <= forgotten.get(hashed(number, key), "") for number in numbers)
        ]
        scrub(self._connection, gone)
        for number, at in forgotten.items():
            raise_moment(self._connection, FORGOTTEN + number, at)
        self._counts["forgotten"] = len(gone)
        self._counts["uncertain"] -= len(self._doubted.intersection(gone))
        return gone

    def doubt_the_rest(self) -> None:
        """Hold every call still pending, and those unknown that started before now: nobody knows of them."""
        changed = self._connection.execute(
            """UPDATE calls SET state = 'uncertain', reason = 'restored', hint = ?, http_status = NULL, code = ''
                WHERE state = 'pending' AND seq IS NOT NULL""",
            (RESTORED_HINT,),
        )
        self._counts["uncertain"] += changed.rowcount
        raise_moment(self._connection, "doubt_before", later(self._now, AHEAD_SECONDS))

    def end(self, *, doubt_before: str | None) -> Restored:
        """Keep what the next staging needs to know; return the counts."""
        self._connection.execute("UPDATE meta SET value = ? WHERE key = 'next_seq'", (self._next_seq,))
        return Restored(**self._counts, doubt_before=doubt_before)

    def _accept(self, told: Told, known: _Known | None) -> None:
        sent_at = told.sent_at or self._now
        if known is None:
            self._connection.execute(_ADD_ACCEPTED, (told.call.call_id, sent_at))
            self._counts["added"] += 1
        elif known.state not in (CallState.ACCEPTED, CallState.CLOSED):
            expect_rows(self._connection.execute(_ACCEPT, (sent_at, told.call.call_id)).rowcount, 1)
            if known.seq is not None:
                deleted = self._connection.execute("DELETE FROM payloads WHERE seq = ?", (known.seq,))
                expect_rows(deleted.rowcount, 1)
            self._counts["accepted"] += 1

    def _doubt(self, told: Told, known: _Known | None) -> None:
        if known is not None and known.state not in (CallState.PENDING, CallState.REFUSED):
            return
        call_id = told.call.call_id
        seq = known.seq if known is not None else None
        if seq is None:
            seq = self._next_seq
            self._next_seq += 1
            # Not now: if its number was forgotten since, it was so after this moment.
            staged_at = told.sent_at or told.call.start_time
            insert_payload(self._connection, told.call, run=self._run, now=staged_at, seq=seq)
        if known is None:
            sent_at = told.sent_at or self._now
            self._connection.execute(_ADD_DOUBT, (call_id, seq, sent_at, RESTORED_HINT))
        else:
            expect_rows(self._connection.execute(_DOUBT, (seq, RESTORED_HINT, call_id)).rowcount, 1)
        self._doubted.add(call_id)
        self._counts["uncertain"] += 1


def scrub(connection: sqlite3.Connection, call_ids: Sequence[str]) -> None:
    """Close open calls for good, as forgotten, and delete their payloads; the keys stay, so none is sent."""
    for call_id in call_ids:
        payload = "DELETE FROM payloads WHERE seq = (SELECT seq FROM calls WHERE call_id = ?)"
        expect_rows(connection.execute(payload, (call_id,)).rowcount, 1)
        closed = """UPDATE calls SET state = 'closed', seq = NULL, reason = 'forgotten', hint = '',
            http_status = NULL, code = '' WHERE call_id = ?"""
        expect_rows(connection.execute(closed, (call_id,)).rowcount, 1)
