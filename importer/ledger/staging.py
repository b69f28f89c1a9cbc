"""Taking calls in, in one transaction of `Ledger.staging`: which are new, which it holds, what each comes to."""

import hmac
import json
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from functools import lru_cache
from itertools import chain
from json.encoder import encode_basestring
from operator import attrgetter
from typing import Any

from importer.ledger.beside import hashed
from importer.ledger.schema import keep, kept
from importer.ledger.values import Fate, LedgerInvariantError, Staged
from importer.records import Call, Place
from schemas.vocabulary import (
    ATTENDED,
    ATTENDED_SINCE,
    LONGEST_CALL_SECONDS,
    OTHER_CONTENT,
    WIRE_TIME_FORMAT,
    CallState,
    Outcome,
    State,
)

CLOCKS_APART_SECONDS = 60
"""Of one call two formats may have starts so far apart: one writes whole minutes, or another step of the call."""

AHEAD_SECONDS = 300
"""How far ahead of the clock a call may start and be taken in, so how far it may lie after its own sending."""

RESTORED_HINT = (
    "The ledger was restored from a backup, and the call may have been sent in between. Look in Zoho whether it "
    "arrived, then settle it with: cdr-importer resolve"
)
_ATTENDED_HINT = "An export shows this call attended, or that it came in, so it is not sent."
_NOTIFIED_HINT = (
    "This row shows the call attended, or that it came in, and Zoho was told{when} that the customer did not "
    "attend it. Correct the call in Zoho, then end this reminder with: cdr-importer resolve {call_id} --close "
    "--note TEXT"
)
_PERHAPS_NOTIFIED_HINT = (
    "This row shows the call attended, or that it came in, and Zoho may have been told that the customer did not "
    "attend it. Look in Zoho and correct the call if it is there, then settle it: cdr-importer resolve {call_id} "
    "--close --note TEXT"
)
_SENDING_HINT = "A run is sending this call, or died when it did: look again when that run has ended."
_OTHER_CONTENT = Fate(
    OTHER_CONTENT,
    "A call of this id was taken in before with another state, number, start or user, so this row is not sent. If "
    "the row is right, correct the call in Zoho. If they are two calls, keep their systems apart with --site.",
)
# Half of SHA-256's length is the shortest cut that RFC 2104 section 5 advises.
_FINGERPRINT_BYTES = 16
FORGOTTEN = "forgotten "
"""Before the hash of a number, the key in `meta` of the moment up to which its calls are not sent."""
UNKNOWN_CONTENT = b""
"""Fingerprint of a call known from a results file only: any content is taken for the one that was sent."""

# Few lengths of IN lists, so that SQLite's statements are used again; SQLite takes 32,766 parameters.
_LIST_LENGTHS = (1, 30, 300, 1_000, 3_000, 10_000, 30_000)
_ROWS_PER_INSERT = 100
_MEET = "INSERT INTO temp.met (call_id, fingerprint) VALUES (?, ?)"
INSERT_PAYLOAD = """INSERT INTO payloads (state, agent_number, customer_number, start_time, zohouser, voiceuri,
    source_id, file, line, staged_run, staged_at, seq) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_UPDATE_PAYLOAD = """UPDATE payloads SET state = ?, agent_number = ?, customer_number = ?, start_time = ?,
    zohouser = ?, voiceuri = ?, source_id = ?, file = ?, line = ?, staged_run = ? WHERE seq = ?"""
_RENEW = "UPDATE calls SET fingerprint = ? WHERE call_id = ? AND state = 'pending'"
_REOPEN = """UPDATE calls SET state = ?, reason = ?, hint = ?, fingerprint = ?, seq = ?, resends = resends + ?,
    http_status = NULL, code = '' WHERE call_id = ? AND state = ?"""
_REOPEN_UNCERTAIN = """UPDATE calls SET state = 'pending', resends = resends + 1, http_status = NULL, code = '',
    reason = '', hint = '' WHERE state = 'uncertain' AND seq IS NOT NULL AND attended_at = ''"""
_INSERT_CALL = "INSERT INTO calls (call_id, fingerprint, seq, state, reason, hint) VALUES (?, ?, ?, ?, ?, ?)"
_NOTE_LISTED = "INSERT OR REPLACE INTO temp.listed (fingerprint, file, times) VALUES (?, ?, ?)"
_IN_ORDER = (_MEET, INSERT_PAYLOAD, _UPDATE_PAYLOAD, _INSERT_CALL, _RENEW, _REOPEN)
_SHOW_ATTENDED = """UPDATE calls SET attended_at = ? WHERE call_id = ? AND attended_at = ''"""
_CLOSE_ATTENDED = """UPDATE calls SET attended_at = ?, state = 'closed', seq = NULL, reason = ?, hint = ?,
    http_status = NULL, code = '' WHERE call_id = ? AND state IN ('pending', 'refused')"""
_RESTORED = Fate(reason="restored", hint=RESTORED_HINT)
_AS_PENDING = (CallState.PENDING, "", "")
_AS_DOUBTFUL = (CallState.UNCERTAIN, _RESTORED.reason, _RESTORED.hint)
_NEVER_SENT = Fate()
_FORGOTTEN = Fate(reason="forgotten")
_UNCHANGED = {
    CallState.ACCEPTED: Outcome.ALREADY_ACCEPTED,
    CallState.REFUSED: Outcome.REFUSED,
    CallState.UNCERTAIN: Outcome.UNCERTAIN,
    CallState.CLOSED: Outcome.SKIPPED,
}

_STATES = {state.value: state for state in CallState}  # CallState(text) takes ten times as long
_POSTED = attrgetter("call_id", "state", "agent_number", "customer_number", "start_time", "zohouser", "voiceuri")
PAYLOAD_OF = attrgetter(
    *("state", "agent_number", "customer_number", "start_time", "zohouser", "voiceuri", "source_id"),
    *("place.file", "place.line"),
)
"""Gives what is kept of a call while it is open, as the columns of `payloads` before ``staged_run``."""

_KNOWN = """SELECT call_id, state, seq, fingerprint, attended_at, reason, hint, http_status, code, attempts,
    sent_at FROM calls WHERE call_id"""
_Known = tuple[Any, ...]
"""The columns of `_KNOWN` after the first; those from ``reason`` on are a `Fate`."""

Writes = dict[str, list[tuple[object, ...]]]
"""What one chunk of calls changes: for each statement of `_IN_ORDER` the parameters of its rows."""

Systems = Mapping[str, tuple[str, str]]
"""By format the telephone system, and the column whose ids its other formats give too, "" for none."""


class Staging:
    """One staging: everything added is in the ledger when it ends well, nothing of it otherwise.

    A dry one only says what it would come to: it writes nothing, knows pending calls as `pending`, and takes those
    that a run is sending, or was, for `uncertain`.
    """

    def __init__(
        self,
        connection: sqlite3.Connection,
        run: int,
        now: str,
        key: bytes,
        systems: Systems | None = None,
        *,
        is_dry: bool = False,
    ) -> None:
        """Make ready, at a moment (GMT text); `LedgerInvariantError` if a call is `sending`: recover it first."""
        self._connection, self._is_dry, self._systems = connection, is_dry, systems or {}
        self._run, self._now, self._key = run, now, key
        sending = "SELECT count(*) FROM calls WHERE state = 'sending' AND seq IS NOT NULL"
        if not is_dry and self._connection.execute(sending).fetchone() != (0,):
            raise LedgerInvariantError("calls were staged before the ledger was recovered")
        # A table and not a dict: a backfill of millions of calls must not grow the process.
        self._connection.execute(
            "CREATE TEMP TABLE met (call_id TEXT PRIMARY KEY NOT NULL, fingerprint BLOB NOT NULL) WITHOUT ROWID"
        )
        self._connection.execute(
            """CREATE TEMP TABLE IF NOT EXISTS listed (
                fingerprint BLOB PRIMARY KEY NOT NULL, file TEXT NOT NULL, times INTEGER NOT NULL
            ) WITHOUT ROWID"""
        )
        self._next_seq: int = kept(self._connection, "next_seq")
        self._horizon = kept(self._connection, "horizon") or ""
        self._stale_before = later(self._horizon, AHEAD_SECONDS) if self._horizon else ""
        self._doubt_before = kept(self._connection, "doubt_before") or ""
        # Not `?1`: Python 3.12.0 to 3.12.3 take it for a name, and warn of a sequence of values.
        query = "SELECT substr(key, length(?) + 1), value FROM meta WHERE substr(key, 1, length(?)) = ?"
        self._forgotten: dict[str, str] = dict(self._connection.execute(query, (FORGOTTEN,) * 3))
        spans = json.loads(kept(self._connection, "spans") or "[]")
        self._spans: dict[tuple[str, ...], tuple[str, str]] = {
            (*scheme,): (*span,) for scheme, span in spans if scheme
        }

    def add(self, calls: Sequence[Call], *, retry_refused: bool, resend_uncertain: bool) -> list[Staged]:
        """Take calls in; return for each, in order, that it is pending now or what is known of it.

        ``retry_refused`` makes unchanged refused calls pending again, ``resend_uncertain`` uncertain ones. What is
        posted of a call is known again by the start of a keyed hash of it, as a JSON list without spaces.
        """
        wanted = {CallState.REFUSED: retry_refused, CallState.UNCERTAIN: resend_uncertain}
        again = frozenset(state for state, is_wanted in wanted.items() if is_wanted)
        call_ids = [call.call_id for call in calls]
        writes: Writes = {statement: [] for statement in _IN_ORDER}
        staged = []
        known = self._known(call_ids)
        query = "SELECT call_id, fingerprint FROM temp.met WHERE call_id"
        met: dict[str, bytes] = dict(select_in(self._connection, query, call_ids))
        # Keyed, because a plain hash of a telephone number is undone by trying all numbers.
        keyed = hmac.new(self._key, digestmod="sha256")
        for call in calls:
            content = keyed.copy()  # the key is taken in once
            content.update(f"[{','.join(map(encode_basestring, _POSTED(call)))}]".encode())
            fingerprint = content.digest()[:_FINGERPRINT_BYTES]
            if call.call_id in met:
                same = met[call.call_id] == fingerprint
                outcome = Outcome.DUPLICATE if same else Outcome.CONFLICT
                staged.append(Staged(call.call_id, outcome, _NEVER_SENT if same else _OTHER_CONTENT))
                continue
            met[call.call_id] = fingerprint
            writes[_MEET].append((call.call_id, fingerprint))
            staged.append(self._take(call, fingerprint, known.get(call.call_id), again, writes))
            start, (first, last) = call.start_time, self._spans.get(call.id_scheme, ("9999", ""))
            if not first <= start <= last and staged[-1].outcome is not Outcome.REJECTED:
                self._spans[call.id_scheme] = min(start, first), max(start, last)
        for statement, rows in writes.items():
            if statement is _MEET or not self._is_dry:
                self._write(statement, rows)
        return staged

    def close(self) -> None:
        """Keep what later stagings need to know of this one."""
        self._connection.execute("DROP TABLE temp.met")
        keep(self._connection, "next_seq", self._next_seq)
        keep(self._connection, "spans", json.dumps([*self._spans.items()]))

    def _write(self, statement: str, rows: Sequence[tuple[object, ...]]) -> None:
        """Run a statement for each row, an INSERT for many rows at a time."""
        # SQLite builds the list of states of the table's CHECK for each statement: as much work as all the rest.
        start, marks = statement.rpartition(" VALUES ")[::2]
        whole = len(rows) - len(rows) % _ROWS_PER_INSERT if start else 0
        many = f"{statement}{f', {marks}' * (_ROWS_PER_INSERT - 1)}"
        written = 0
        for first in range(0, whole, _ROWS_PER_INSERT):
            part = tuple(chain.from_iterable(rows[first : first + _ROWS_PER_INSERT]))
            written += self._connection.execute(many, part).rowcount
        if rows[whole:]:
            written += self._connection.executemany(statement, rows[whole:]).rowcount
        expect_rows(written, len(rows))

    def listed(self, rows: Sequence[tuple[str, ...]]) -> list[bool]:
        """Note rejected rows, each by its file, site, reason and content, for `Ledger.keep_listed`.

        Returns for each whether the results of an earlier run have listed it: an equal row of another file is the
        same one, a further one of its own file is not.
        """
        texts = ("\x1f".join(row[1:]).encode("utf-8", "backslashreplace") for row in rows)
        hashes = [self._row_hash(text) for text in texts]
        query = "SELECT fingerprint, file, times FROM temp.listed WHERE fingerprint"
        met = {each: (file, times) for each, file, times in select_in(self._connection, query, hashes)}
        numbered = []
        for each, (file, *_) in zip(hashes, rows, strict=True):
            before, times = met.get(each, ("", 0))
            met[each] = file, times + 1 if before == file else 1
            numbered.append(self._row_hash(each + b"%d" % times) if before == file else each)
        query = "SELECT fingerprint FROM listed_rows WHERE fingerprint"
        known = {row[0] for row in select_in(self._connection, query, numbered)}
        further = [(each, "", 0) for each in numbered if each not in met]
        found = [(each, *where) for each, where in met.items()]
        self._connection.executemany(_NOTE_LISTED, further + found)
        return [each in known for each in numbered]

    def _row_hash(self, text: bytes) -> bytes:
        return hmac.digest(self._key, b"row " + text, "sha256")[:_FINGERPRINT_BYTES]

    def show_attended(self, shown: Sequence[tuple[str, str, str]]) -> list[Staged]:
        """Take in that the input shows these calls attended, each once, which the ledger holds as not attended.

        ``shown`` are ids with customer and start (GMT text), empty where unknown.
        What Zoho has is a `conflict` from now on, until a person closes it; what it may have stays `uncertain`.
        What it does not have is closed, so that it is never sent. For calls that were open, ``call`` is what was
        to be posted; without ``outcome`` their fate is the ledger's, since they were pending until now.
        """
        query = f"SELECT {OPEN_CALL} FROM open_calls WHERE seq = ?"  # noqa: S608 no value in it
        known, staged = self._known([call_id for call_id, *_ in shown]), []
        for call_id, customer, start in shown:
            state, seq, _, _, *others = known[call_id]
            fate, call = Fate(*others), None
            if self._is_other_call(seq, customer, start):
                staged.append(Staged(call_id, Outcome.SKIPPED, Fate(ATTENDED)))
                continue
            if row := self._connection.execute(query, (seq,)).fetchone():
                call = call_of(row)
            if state in (CallState.ACCEPTED, CallState.UNCERTAIN):
                if not self._is_dry:
                    self._connection.execute(_SHOW_ATTENDED, (self._now, call_id))
                outcome, reason, hint = Outcome.UNCERTAIN, fate.reason, _PERHAPS_NOTIFIED_HINT
                if state == CallState.ACCEPTED:
                    outcome, reason, hint = Outcome.CONFLICT, ATTENDED_SINCE, _NOTIFIED_HINT
                hint = hint.format(call_id=call_id, when=f" on {fate.sent_at} GMT" if fate.sent_at else "")
                staged.append(Staged(call_id, outcome, replace(fate, reason=reason, hint=hint), call))
                continue
            if not self._is_dry:
                closed = (self._now, ATTENDED, _ATTENDED_HINT, call_id)
                expect_rows(self._connection.execute(_CLOSE_ATTENDED, closed).rowcount, 1)
                self._connection.execute("DELETE FROM payloads WHERE seq = ?", (seq,))
            is_settled = call is None or self._is_dry
            fate = replace(fate, reason=ATTENDED, hint=_ATTENDED_HINT)
            staged.append(Staged(call_id, Outcome.SKIPPED if is_settled else None, fate, call))
        return staged

    def reopen_uncertain(self) -> int:
        """Make uncertain calls pending again and return how many; one that was shown attended stays uncertain."""
        return self._connection.execute(_REOPEN_UNCERTAIN).rowcount

    def _take(
        self, call: Call, fingerprint: bytes, before: _Known | None, again: frozenset[CallState], writes: Writes
    ) -> Staged:
        """Return the result of staging a call that is new in this staging, and note what that writes."""
        state, seq, kept, attended_at, *fate = before or (None, None, None, "")
        outcome, standing = None, _AS_PENDING
        if before is not None:
            same = kept in (fingerprint, UNKNOWN_CONTENT)
            outcome = judge(_STATES[state], same, frozenset() if attended_at else again)
            if outcome is None and not same and self._is_other_call(seq, call.customer_number, call.start_time):
                outcome = Outcome.CONFLICT
        elif call.start_time < self._stale_before:
            hint = (
                f"Calls sent before {self._horizon} GMT were purged from the ledger, so nobody knows if this "
                "one was among them: it is not sent. Cut such old calls off with --since."
            )
            return Staged(call.call_id, Outcome.REJECTED, Fate("stale", hint))
        elif hint := self._other_columns(call):
            return Staged(call.call_id, Outcome.REJECTED, Fate("other_id_columns", hint))
        if outcome is None and (before is None or state == CallState.REFUSED):
            for number in (call.agent_number, call.customer_number) if self._forgotten else ():
                if call.start_time <= self._forgotten.get(hashed(number, self._key), ""):
                    return Staged(call.call_id, Outcome.SKIPPED, _FORGOTTEN)
            if call.start_time < self._doubt_before:
                # After the backup it may have been sent, a refused one with this very content.
                standing = _AS_DOUBTFUL
        if outcome is None:
            self._open_call(call, fingerprint, (state, seq, kept), standing, writes)
            if standing is _AS_DOUBTFUL:
                return Staged(call.call_id, Outcome.UNCERTAIN, _RESTORED)
            if self._is_dry and state == CallState.PENDING:
                outcome = Outcome.PENDING
        if outcome is Outcome.CONFLICT:
            fate[:2] = _OTHER_CONTENT.reason, _OTHER_CONTENT.hint
        return Staged(call.call_id, outcome, Fate(*fate) if any(fate) else _NEVER_SENT)

    def _is_other_call(self, seq: int | None, customer_number: str, start_time: str) -> bool:
        """Return whether an id was used again: what waits here has another customer, and starts days apart."""
        query = "SELECT start_time FROM payloads WHERE seq = ? AND customer_number != ?"
        held = self._connection.execute(query, (seq, customer_number)).fetchone()
        if held is None or not (customer_number and start_time):
            return False
        first, last = sorted((str(held[0]), start_time))
        return later(first, LONGEST_CALL_SECONDS) < last

    def _other_columns(self, call: Call) -> str:
        """Return what is said of an unknown call to which another export may have given another id, else ""."""
        site, name, *own = call.id_scheme
        system, system_id = self._systems.get(name, (name, ""))
        for (other_site, other, *columns), (first, last) in self._spans.items():
            other_system, other_id = self._systems.get(other, (other, ""))
            is_same = other == name
            alike = columns == own if is_same else system_id in own and other_id in columns
            if alike or (other_site, other_system) != (site, system):
                continue
            apart = 0 if is_same else CLOCKS_APART_SECONDS
            if later(first, -apart) <= call.start_time <= later(last, apart):
                sides = (("with", {*columns} - {*own}), ("without", {*own} - {*columns}))
                which = " and ".join(f"{word} {', '.join(sorted(names))}" for word, names in sides if names)
                which = which if is_same else f"in format {other}"
                return (
                    f"Earlier exports {which} gave the calls from {first} to {last} GMT other ids, and this one "
                    f"may have been among them, so it is not sent; later ones are. Export again {which}, or cut "
                    "such calls off with --since; give another telephone system a --site of its own."
                )
        return ""

    def _open_call(
        self,
        call: Call,
        fingerprint: bytes,
        before: tuple[str | None, int | None, bytes | None],
        standing: tuple[CallState, str, str],
        writes: Writes,
    ) -> None:
        state, seq, kept = before
        if seq is not None:
            writes[_UPDATE_PAYLOAD].append((*PAYLOAD_OF(call), self._run, seq))
        else:
            seq = self._next_seq
            self._next_seq += 1
            writes[INSERT_PAYLOAD].append((*PAYLOAD_OF(call), self._run, self._now, seq))
        if state is None:
            writes[_INSERT_CALL].append((call.call_id, fingerprint, seq, *standing))
        elif state != CallState.PENDING:
            resends = int(state == CallState.UNCERTAIN)
            writes[_REOPEN].append((*standing, fingerprint, seq, resends, call.call_id, state))
        elif kept != fingerprint:
            writes[_RENEW].append((fingerprint, call.call_id))

    def _known(self, call_ids: Sequence[str]) -> dict[str, _Known]:
        found = {row[0]: row[1:] for row in select_in(self._connection, _KNOWN, call_ids)}
        for call_id, row in found.items() if self._is_dry else ():
            if row[0] == CallState.SENDING:
                found[call_id] = (CallState.UNCERTAIN, *row[1:4], "sending", _SENDING_HINT, *row[6:])
        return found


OPEN_CALL = """call_id, open_calls.state, agent_number, customer_number, start_time, zohouser, voiceuri, source_id,
    file, line"""
"""Columns of `open_calls` that make a call."""


def call_of(row: Sequence[Any]) -> Call:
    """Return the call that the columns `OPEN_CALL` hold."""
    call_id, state, agent, customer, start_time, zohouser, voiceuri, source_id, file, line = row
    place = Place(file, line)
    return Call(call_id, State(state), agent, customer, start_time, zohouser, voiceuri, source_id, place)


def judge(state: CallState, same: bool, again: frozenset[CallState]) -> Outcome | None:
    """Return what meeting a known call again comes to; None when it is to be sent.

    ``same`` says whether what would be posted is what was posted, or was to be, before; ``again`` has the states
    in which the operator wants even that sent again.
    """
    if state is CallState.PENDING:
        return None
    if not same:
        return None if state is CallState.REFUSED else Outcome.CONFLICT
    return None if state in again else _UNCHANGED[state]


@lru_cache  # of the same few moments for each call
def later(moment: str, seconds: int) -> str:
    """Return the GMT text of a moment so many seconds after another; ValueError for what is no moment."""
    return f"{datetime.strptime(moment, WIRE_TIME_FORMAT) + timedelta(seconds=seconds):{WIRE_TIME_FORMAT}}"


def select_in(
    connection: sqlite3.Connection, query: str, values: Sequence[str] | Sequence[bytes]
) -> Iterator[tuple[Any, ...]]:
    """Run a query that ends in ``WHERE column`` for the rows whose column is one of the values."""
    longest = _LIST_LENGTHS[-1]
    for start in range(0, len(values), longest):
        part = values[start : start + longest]
        length = next(length for length in _LIST_LENGTHS if length >= len(part))
        marks = ",".join("?" * length)
        # NULL is in no list, so it fills the list up.
        parameters = [*part, *[None] * (length - len(part))]
        yield from connection.execute(f"{query} IN ({marks})", parameters)


def expect_rows(written: int, expected: int) -> None:
    """Raise `LedgerInvariantError` unless a statement changed as many rows as it had to."""
    if written != expected:
        raise LedgerInvariantError(f"the ledger changed {written} rows where {expected} had to change")
