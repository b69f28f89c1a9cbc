"""What is done to a ledger between runs, inside a transaction of `Ledger`: purge, forget, take up a backup."""

import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

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
    VALUES (?, x'', ?, ?, 1, ?, ?, ?)
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
    an export showed it attended. What was notified and attended since stays until a person closes it. What a run
    that died settled stays until its results, which need that, are complete. Stagings go by the latest of these
    moments from now on: whatever is deleted started less than `AHEAD_SECONDS` after it. A later one, by a clock
    that is ahead, would keep calls to come from being sent.
    """
    unfinished = "SELECT min(started_at) FROM runs WHERE finished_at IS NULL AND results != ''"
    (died,) = connection.execute(unfinished).fetchone()
    older_than = min(older_than, died or older_than)
    connection.execute("CREATE TEMP TABLE old (call_id TEXT PRIMARY KEY, moment TEXT NOT NULL) WITHOUT ROWID")
    calls = connection.execute(
        # Without a request or a decision the moment is NULL, which is before none.
        """INSERT INTO old SELECT * FROM (SELECT call_id, coalesce(nullif(sent_at, ''),
            (SELECT max(decided_at) FROM decisions WHERE decisions.call_id = calls.call_id),
            nullif(attended_at, '')) AS moment FROM calls WHERE seq IS NULL)
            WHERE moment < ? AND call_id NOT IN (SELECT call_id FROM attended_since)""",
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
    (latest,) = connection.execute("SELECT max(moment) FROM old").fetchone()
    connection.execute("DROP TABLE temp.old")
    if latest:
        raise_moment(connection, "horizon", latest)
    return calls, decisions, runs


def raise_moment(connection: sqlite3.Connection, key: str, moment: str) -> None:
    """Keep a moment in `meta`, but never an earlier one than is there."""
    keep(connection, key, max(moment, kept(connection, key) or ""))


def restore(
    connection: sqlite3.Connection,
    run: tuple[int, str, bytes],
    reported: Iterable[ReportedCall],
    decisions: Mapping[str, str],
    *,
    complete: bool,
) -> tuple[Restored, list[str]]:
    """Take a restored backup up; return the counts, and the open calls closed as their number was forgotten since.

    ``run`` is its number, its time (GMT text) and the ledger's key. ``reported`` names each call once. The
    ``decisions`` of `read_decisions` outrank doubt; no call of a forgotten number from before that is sent. Unless
    ``complete``, what is left pending becomes uncertain, and so do unknown calls from before now, when staged.
    """
    run_number, now, key = run
    states = {call_id: CallState(word) for call_id, word in decisions.items() if word in {*CallState}}
    settled = [ReportedCall(*each) for each in states.items() if each[1] in (CallState.ACCEPTED, CallState.CLOSED)]
    forgotten = {each: word for each, word in decisions.items() if each not in states}
    # Where the backup has an earlier word, a person took that back.
    query = "SELECT call_id, state FROM calls WHERE call_id IN (SELECT call_id FROM reopenable)"
    taken_back = {each for each, state in connection.execute(query) if states.get(each, state) != state}
    for call_id in taken_back:
        for statement in TAKE_BACK:
            connection.execute(statement, {"call_id": call_id})
    connection.execute("DELETE FROM reopenable")
    # Results may show such a call accepted by the very word that was taken back.
    reported = chain((one for one in reported if one.call_id not in taken_back), settled)
    doubted = set(taken_back)
    counts = _take_reported(connection, run_number, now, reported, doubted)
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
    made = (counts["accepted"], counts["added"], uncertain, doubt_before, len(gone), counts["closed"])
    return Restored(*made), gone


def _take_reported(
    connection: sqlite3.Connection, run: int, now: str, reported: Iterable[ReportedCall], doubted: set[str]
) -> Counter[str]:
    """Return how many calls became ``accepted`` as reported, were ``added`` as that, or ``closed``.

    Adds to ``doubted`` what became uncertain, and takes from it what did not stay so.
    """
    next_seq: int = kept(connection, "next_seq")
    counts: Counter[str] = Counter()
    query = "SELECT state, seq, sent_at FROM calls WHERE call_id = ?"
    for one in reported:
        before, seq, sent_at = connection.execute(query, (one.call_id,)).fetchone() or (None, None, "")
        if before in (one.state, CallState.ACCEPTED, CallState.CLOSED):
            continue
        reason, hint = "restored", ""
        if one.state is CallState.UNCERTAIN:
            hint = staging.RESTORED_HINT
            doubted.add(one.call_id)
            if seq is None and one.call is not None:
                seq, next_seq = next_seq, next_seq + 1
                # Not now: if its number was forgotten since, it was so after this moment.
                staged_at = one.sent_at or one.call.start_time
                connection.execute(staging.INSERT_PAYLOAD, (*staging.PAYLOAD_OF(one.call), run, staged_at, seq))
        else:
            if one.state is CallState.CLOSED:
                reason = "closed"
                counts["closed"] += 1
            else:
                counts["accepted" if before else "added"] += 1
            doubted.discard(one.call_id)
            if seq is not None:
                expect_rows(connection.execute("DELETE FROM payloads WHERE seq = ?", (seq,)).rowcount, 1)
                seq = None
        values = (one.call_id, one.state, seq, one.sent_at or sent_at or now, reason, hint)
        expect_rows(connection.execute(_RESTORE, values).rowcount, 1)
    keep(connection, "next_seq", next_seq)
    return counts


def scrub(connection: sqlite3.Connection, call_ids: Sequence[str]) -> None:
    """Close open calls for good, as forgotten, and delete their payloads; the keys stay, so none is sent."""
    for call_id in call_ids:
        payload = "DELETE FROM payloads WHERE seq = (SELECT seq FROM calls WHERE call_id = ?)"
        expect_rows(connection.execute(payload, (call_id,)).rowcount, 1)
        closed = """UPDATE calls SET state = 'closed', seq = NULL, reason = 'forgotten', hint = '',
            http_status = NULL, code = '' WHERE call_id = ?"""
        expect_rows(connection.execute(closed, (call_id,)).rowcount, 1)
