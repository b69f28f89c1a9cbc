"""What is done to a ledger between runs, inside a transaction of `Ledger`: purge, forget, take up a backup."""

import sqlite3
from collections.abc import Iterable, Mapping, Sequence

from importer.ledger import staging
from importer.ledger.beside import hashed
from importer.ledger.schema import keep, kept
from importer.ledger.staging import expect_rows
from importer.ledger.values import ReportedCall, Restored
from schemas.vocabulary import CallState

OPEN_WITH_NUMBER = """SELECT call_id, staged_at FROM open_calls
    WHERE ledger_state IN ('pending', 'uncertain') AND (agent_number = ? OR customer_number = ?)"""
"""The calls with this number that wait for sending or for a person, and when they were staged."""
_RESTORE = """INSERT INTO calls (call_id, fingerprint, state, seq, attempts, sent_at, reason, hint)
    VALUES (?, x'', ?, ?, 1, ?, 'restored', ?)
    ON CONFLICT (call_id) DO UPDATE SET state = excluded.state, seq = excluded.seq, reason = excluded.reason,
        hint = excluded.hint, http_status = NULL, code = '',
        fingerprint = iif(excluded.state = 'accepted', excluded.fingerprint, fingerprint),
        attempts = iif(excluded.state = 'accepted', max(attempts, 1), attempts),
        sent_at = iif(excluded.state = 'accepted', excluded.sent_at, sent_at)"""
KEEP_REOPENABLE = """INSERT OR REPLACE INTO reopenable SELECT call_id, payloads.*
    FROM calls JOIN payloads USING (seq) WHERE call_id = ?"""
TAKE_BACK = (
    """INSERT OR IGNORE INTO payloads SELECT seq, state, agent_number, customer_number, start_time, zohouser,
        voiceuri, source_id, file, line, staged_run, staged_at FROM reopenable WHERE call_id = :call_id""",
    """UPDATE calls SET state = 'uncertain', reason = 'reopened', http_status = NULL, code = '',
        hint = 'A person settled this call and took that back: look in Zoho, then `cdr-importer resolve` again.',
        seq = (SELECT seq FROM reopenable WHERE reopenable.call_id = calls.call_id)
        WHERE call_id = :call_id AND state IN ('accepted', 'pending', 'closed')""",
    "DELETE FROM decisions WHERE number = (SELECT max(number) FROM decisions WHERE call_id = :call_id)",
    "DELETE FROM reopenable WHERE call_id = :call_id",
)
"""Makes a call of `reopenable` uncertain again, without the decision of the person who settled it."""
_DOUBT_PENDING = """UPDATE calls SET state = 'uncertain', reason = 'restored', hint = ?, http_status = NULL,
    code = '' WHERE state = 'pending' AND seq IS NOT NULL"""


def purge(connection: sqlite3.Connection, older_than: str, own_run: int) -> tuple[int, int, int]:
    """Delete the settled calls whose last request began before a moment, and finished runs left without calls.

    Returns how many calls, decisions and runs were deleted.
    The moment is GMT text. A call that was closed without ever being sent counts from that decision, or from when
    an export showed it attended. What was notified and attended since stays until a person closes it. Whatever
    is deleted started less than `AHEAD_SECONDS` after the horizon, which stagings go by from now on. What a run
    that died settled stays until its results, which need that, are complete.
    """
    unfinished = "SELECT min(started_at) FROM runs WHERE finished_at IS NULL AND results != ''"
    (died,) = connection.execute(unfinished).fetchone()
    older_than = min(older_than, died or older_than)
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
    connection.execute("DELETE FROM reopenable WHERE call_id IN (SELECT call_id FROM old)")
    runs = connection.execute(
        """DELETE FROM runs WHERE started_at < ? AND finished_at IS NOT NULL AND number != ? AND number NOT IN
            (SELECT sent_run FROM calls WHERE sent_run IS NOT NULL
            UNION SELECT staged_run FROM payloads UNION SELECT staged_run FROM reopenable
            UNION SELECT run FROM decisions)""",
        (older_than, own_run),
    ).rowcount
    connection.execute("DELETE FROM listed_rows WHERE listed_at < ?", (older_than,))
    connection.execute("DROP TABLE temp.old")
    if calls:
        raise_moment(connection, "horizon", older_than)
    return calls, decisions, runs


def raise_moment(connection: sqlite3.Connection, key: str, moment: str) -> None:
    """Keep a moment in `meta`, but never an earlier one than is there."""
    keep(connection, key, max(moment, kept(connection, key) or ""))


def restore(
    connection: sqlite3.Connection,
    run: tuple[int, str, bytes],
    reported: Iterable[ReportedCall],
    forgotten: Mapping[str, str],
    *,
    complete: bool,
) -> tuple[Restored, list[str]]:
    """Take a restored backup up; return the counts, and the open calls closed as their number was forgotten since.

    ``run`` is its number, its time (GMT text) and the ledger's key. ``reported`` names each call once.
    ``forgotten`` has when (GMT text) by the number's hash; calls of such a number from before are not sent, known
    or not. Unless ``complete``, what is left pending becomes uncertain, and unknown calls that started before now
    do so when they are staged.
    """
    run_number, now, key = run
    connection.execute("DELETE FROM reopenable")
    accepted, added, doubted = _take_reported(connection, run_number, now, reported)
    query = "SELECT call_id, staged_at, agent_number, customer_number FROM open_calls"
    gone = [
        call_id
        for call_id, staged_at, *numbers in (connection.execute(query) if forgotten else ())
        if any(staged_at <= forgotten.get(hashed(number, key), "") for number in numbers)
    ]
    scrub(connection, gone)
    for hash_of_number, at in forgotten.items():
        raise_moment(connection, staging.FORGOTTEN + hash_of_number, at)
    uncertain = len(doubted.difference(gone))
    if not complete:
        uncertain += connection.execute(_DOUBT_PENDING, (staging.RESTORED_HINT,)).rowcount
        raise_moment(connection, "doubt_before", staging.later(now, staging.AHEAD_SECONDS))
    doubt_before = kept(connection, "doubt_before")
    return Restored(accepted, added, uncertain, doubt_before, len(gone)), gone


def _take_reported(
    connection: sqlite3.Connection, run: int, now: str, reported: Iterable[ReportedCall]
) -> tuple[int, int, set[str]]:
    """Return how many known calls became accepted, as reported, how many unknown ones, and which uncertain."""
    next_seq: int = kept(connection, "next_seq")
    accepted = added = 0
    doubted: set[str] = set()
    for one in reported:
        call_id, state = one.call.call_id, CallState.ACCEPTED if one.accepted else CallState.UNCERTAIN
        known = connection.execute("SELECT state, seq FROM calls WHERE call_id = ?", (call_id,)).fetchone()
        before, seq = known or (None, None)
        if before in (state, CallState.ACCEPTED, CallState.CLOSED):
            continue
        if one.accepted:
            accepted, added = accepted + bool(known), added + (not known)
            if seq is not None:
                expect_rows(connection.execute("DELETE FROM payloads WHERE seq = ?", (seq,)).rowcount, 1)
                seq = None
        else:
            doubted.add(call_id)
            if seq is None:
                seq, next_seq = next_seq, next_seq + 1
                # Not now: if its number was forgotten since, it was so after this moment.
                staged_at = one.sent_at or one.call.start_time
                connection.execute(staging.INSERT_PAYLOAD, (*staging.PAYLOAD_OF(one.call), run, staged_at, seq))
        hint = "" if one.accepted else staging.RESTORED_HINT
        expect_rows(connection.execute(_RESTORE, (call_id, state, seq, one.sent_at or now, hint)).rowcount, 1)
    keep(connection, "next_seq", next_seq)
    return accepted, added, doubted


def scrub(connection: sqlite3.Connection, call_ids: Sequence[str]) -> None:
    """Close open calls for good, as forgotten, and delete their payloads; the keys stay, so none is sent."""
    for call_id in call_ids:
        payload = "DELETE FROM payloads WHERE seq = (SELECT seq FROM calls WHERE call_id = ?)"
        expect_rows(connection.execute(payload, (call_id,)).rowcount, 1)
        closed = """UPDATE calls SET state = 'closed', seq = NULL, reason = 'forgotten', hint = '',
            http_status = NULL, code = '' WHERE call_id = ?"""
        expect_rows(connection.execute(closed, (call_id,)).rowcount, 1)
