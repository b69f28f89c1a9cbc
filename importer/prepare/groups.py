"""Which rows are one call, and what the call comes to, wherever its rows stand in the input.

Every row of an outgoing call leaves 72 bytes in the index, whatever its length; when all files are read, a sort
puts the rows of each call together. So order, distance and chunk size cannot matter, and memory does not grow
with the rows.
"""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from importer.prepare.spool import Parts
from importer.reading.conditions import Flags
from schemas.vocabulary import ATTENDED, LONGEST_CALL_SECONDS

Ints = npt.NDArray[np.int64]
Keys = npt.NDArray[np.bytes_]
Rows = npt.NDArray[np.void]

LINES_PER_FILE = 1 << 40
"""Places are numbered file * LINES_PER_FILE + line, so that they sort in input order."""

NO_START = np.iinfo(np.int64).max

INDEX_ROWS = 250_000
"""So many rows are in memory at once; to decide them takes no more of it than a chunk that is read."""

JOIN_SECONDS = 2 * 3600
"""Rows that share the name of a channel are one call when they start so near to each other: Asterisk numbers its
channels anew when it starts, and names come again."""


class Rank(IntEnum):
    """The evidence of a row about its call, the best first; a row of rank PROBLEM could not be understood.

    INCOMING rows are indexed only in formats in which one of them decides for its call. CAME_IN and STAYED_INSIDE
    rows are indexed where they decide for other rows of the file: secondary ones, and UNDIRECTED ones, whose
    direction only another row of their call shows. A MISSHAPEN row stands for a record of another shape that may
    be of the call. It counts as a PROBLEM, but the results list the record by itself. OUR_SIDE_COUNTED is our own
    failure that a policy counts as a state: it says less of the customer than any other row of a state.
    """

    INCOMING = 0
    ATTENDED = 1
    BUSY = 2
    REJECTED = 3
    BLOCKED = 4
    INVALID = 5
    NOTAVAILABLE = 6
    NOANSWER = 7
    OUR_SIDE_COUNTED = 8
    CANCELLED = 9
    OUR_SIDE = 10
    IGNORE = 11
    AGENT_LEG = 12
    CAME_IN = 13
    STAYED_INSIDE = 14
    PROBLEM = 15
    MISSHAPEN = 16
    UNDIRECTED = 17
    UNDIRECTED_ATTENDED = 18


STATE_RANKS = (Rank.BUSY, Rank.OUR_SIDE_COUNTED)
"""The first and the last rank of rows that show one of the states; calls are made of these alone."""


class Decision(IntEnum):
    """What became of a row when all rows of its call were known."""

    CALL = 0
    ATTENDED = 1
    OTHER_LEG = 2
    CANCELLED = 3
    OUR_SIDE = 4
    NOT_FINAL = 5
    AGENT_LEG = 6
    DUPLICATE = 7
    CONFLICT = 8
    UNCLEAR_CALL = 9
    PROBLEM = 10
    INCOMING = 11
    SHARED_ID = 12
    INTERNAL = 13
    LISTED = 14


SKIPPED_FOR = {
    Decision.ATTENDED: ATTENDED,
    Decision.OTHER_LEG: "other_leg",
    Decision.CANCELLED: "cancelled",
    Decision.OUR_SIDE: "our_side",
    Decision.NOT_FINAL: "not_final",
    Decision.AGENT_LEG: "agent_leg",
    Decision.INCOMING: "incoming",
    Decision.INTERNAL: "internal",
}
"""Decisions that skip a row, with the reason in the results file."""


INDEX_ROW = np.dtype(
    [
        ("key", "S16"),
        ("same", "u8", 2),
        ("start", "i8"),
        ("content", "u8"),
        ("place", "i8"),
        ("slot", "i8"),
        ("agent", "i4"),
        ("rank", "u1"),
        ("secondary", "?"),
        ("held", "?"),
        ("legs", "?"),
    ]
)
"""What the index keeps of a row. ``key`` is 128 bits of the call's key; ``same`` are two columns, by default agent
and customer, of which rows of one key share one at least (0: nothing to hold); ``start`` is in epoch seconds
(NO_START: unknown); ``content`` tells rows of a call apart; ``place`` numbers file and line, ``slot`` the rows of
the index, ``agent`` the agent's names; ``held``: the ledger has a call of this key; ``legs`` is false where a call
is one row only."""

JOIN = np.dtype([("key", "S16"), ("value", "u8"), ("start", "i8")])
"""Key and start of a row that is of one call with others whatever their keys: those that share the ``value``, the
hash of a channel's name."""

RESOLVED = np.dtype(
    [
        ("slot", "i8"),
        ("start", "i8"),
        ("decided_by", "i8"),
        ("named_by", "i8"),
        ("leg_agent", "i4"),
        ("decision", "u1"),
        ("is_attended", "?"),
    ],
    align=True,
)
"""What became of a row of the index: the decision, the start of its call, and rows worth naming. ``decided_by`` is
the place of the row that decided: the one taken for the call, or the one not understood. ``named_by`` is the place
of the row whose id and key are the call's, -1 where they are the row's own; ``is_attended``: the call was.
``leg_agent`` numbers the agent that the earliest row of rank AGENT_LEG names, -1 without one."""


@dataclass(frozen=True, slots=True)
class Joined:
    """The keys that are of one call with other keys, sorted, and for each the least key of its call."""

    keys: Keys
    calls: Keys

    def calls_of(self, keys: Keys) -> tuple[Keys, Flags]:
        """Return for each key the one of its call, and whether it is joined to others."""
        is_joined = np.isin(keys, self.keys)
        calls = keys.copy()
        calls[is_joined] = self.calls[np.searchsorted(self.keys, keys[is_joined])]
        return calls, is_joined


def joined_calls(joins: Iterable[Rows]) -> Joined:
    """Return which keys are of one call, also by way of others; all ``joins`` of a value stand in one array."""
    pairs = [np.empty((0, 2), "S16")]
    for some in joins:
        some = some.take(np.lexsort((some["start"], some["value"])))
        opens = _opens(some["value"])
        opens[1:] |= np.diff(some["start"]) > JOIN_SECONDS
        first = some["key"][opens][np.cumsum(opens) - 1]
        unlike = np.flatnonzero(first != some["key"])
        pairs.append(np.stack((first[unlike], some["key"][unlike]), axis=1))
    keys, node = np.unique(np.concatenate(pairs), return_inverse=True)
    node = node.reshape(-1, 2)
    label = np.arange(len(keys))
    while True:
        lower = label.copy()
        np.minimum.at(lower, node, label[node].min(axis=1, keepdims=True))
        lower = lower[lower]
        if (lower == label).all():
            return Joined(keys, keys[label])
        label = lower


def resolve(rows: Rows, joined: Joined) -> Rows:
    """Decide every row (INDEX_ROW, one at least) from all rows of its call; return what became of each (RESOLVED).

    A call with an incoming row is incoming. Else attended beats all. A row that was not understood makes the
    unattended rows of its call unclear, since it might have been the one that was attended or the earliest. Else
    the best evidence is the call, the first of equal rows in the input; further rows with the same content are
    duplicates, others legs, or in a format whose calls are one row, contradictions. Rows of different channels,
    agents and customers, or days that share an id are of calls that cannot be told apart.
    """
    call, is_joined = joined.calls_of(rows["key"])
    rank, start = _directed(rows, call)
    # Nearly all calls are one row: for these half of the key, a number, is sorted in a tenth of the time.
    half = call.view(">u8")[::2].astype(np.uint64)
    order = np.argsort(half)
    opens = _opens(half[order])
    unsorted = np.flatnonzero(~(opens & np.append(opens[1:], True)))
    several, columns = order[unsorted], (rows["place"], rows["content"], start, rows["secondary"], rank, call)
    order[unsorted] = several[np.lexsort([column[several] for column in columns])]
    opens = _opens(call[order])
    first, group = np.flatnonzero(opens), np.cumsum(opens) - 1
    ranks, places = rank[order], rows["place"][order]
    problem_at = np.append(first[1:], len(rows)) - 1  # problems sort last in their group
    unclear = (np.maximum.reduceat(ranks, first) >= Rank.PROBLEM) & _is_state(ranks[first])
    resolved = np.empty(len(rows), RESOLVED)
    resolved["slot"] = rows["slot"]
    resolved["start"][order] = np.minimum.reduceat(start[order], first)[group]
    resolved["decided_by"][order] = np.where(unclear, places[problem_at], places[first])[group]
    resolved["named_by"] = _named_by(rows, start, call, is_joined & _is_state(rank))
    leg_at = np.where(ranks == Rank.AGENT_LEG, np.arange(len(rows)), len(rows))  # -1 where there is none
    leg_agents = np.append(rows["agent"][order], np.int32(-1))[np.minimum.reduceat(leg_at, first)]
    resolved["leg_agent"][order] = leg_agents[group]
    resolved["decision"][order] = _decisions(ranks, rows, order, first, group, unclear)
    resolved["is_attended"][order] = (ranks[first] == Rank.ATTENDED)[group]
    # Where calls are one row, contradictions are found by their contents, but for an attended one, which wins.
    is_open = rows["legs"][order] | (ranks[first] == Rank.ATTENDED)[group]
    many = order[(np.diff(first, append=len(rows)) > 1)[group] & is_open]
    shared = _shared(rows, many)
    resolved["decision"][shared[_is_state(rank[shared])]] = Decision.SHARED_ID
    return resolved


def _opens(values: npt.NDArray[np.generic]) -> Flags:
    """Return which values differ from the one before."""
    opens = np.ones(len(values), dtype=np.bool_)
    opens[1:] = values[1:] != values[:-1]
    return opens


def _is_state(rank: npt.NDArray[np.uint8]) -> Flags:
    return (rank >= STATE_RANKS[0]) & (rank <= STATE_RANKS[1])


def _shared(rows: Rows, some: Ints) -> Ints:
    """Return those of some rows whose id is of several calls: of several channels and customers, or days apart."""
    some = some[rows["same"][some, 0] != 0]
    same, start = rows["same"][some], rows["start"][some]
    _, first, number = np.unique(rows["key"][some], return_index=True, return_inverse=True)
    differs = np.zeros((len(first), 2), dtype=np.bool_)
    np.logical_or.at(differs, number, same != same[first][number])
    is_shared, earliest = differs[:, 0] & differs[:, 1], np.full(len(first), NO_START)
    np.minimum.at(earliest, number, start)
    is_shared[number[(start != NO_START) & (start - earliest[number] > LONGEST_CALL_SECONDS)]] = True
    return some[is_shared[number]]


def _directed(rows: Rows, call: Keys) -> tuple[npt.NDArray[np.uint8], Ints]:
    """Return rank and start of rows, by those of their call that came in or stayed inside where these decide.

    A row of unknown direction came in where another one did, else it is a problem. Secondary rows go with the call
    that they are part of: with one inside too, such as a telephone that rings on at a number outside, and as a leg
    with one that went out.
    """
    rank, secondary = rows["rank"].copy(), rows["secondary"]
    undirected = rank >= Rank.UNDIRECTED
    directed = (rank == Rank.CAME_IN) | (rank == Rank.STAYED_INSIDE)
    if not (undirected.any() or directed.any()):
        return rank, rows["start"]
    some = np.flatnonzero(undirected | directed | secondary)
    _, number = np.unique(call[some], return_inverse=True)
    some_rank, secondary = rank[some], secondary[some]
    for decided, led in ((Rank.STAYED_INSIDE, secondary), (Rank.CAME_IN, secondary | undirected[some])):
        decides = np.zeros(len(some), dtype=np.bool_)
        decides[number[(some_rank == decided) & ~secondary]] = True
        rank[some[decides[number] & led]] = decided
    lone = np.flatnonzero(rank == Rank.UNDIRECTED)
    if lone.size:
        made = call[(rank >= Rank.ATTENDED) & (rank <= Rank.IGNORE)]
        is_leg = rows["secondary"][lone] & np.isin(call[lone], made)
        # In formats where a row that came in decides, it has a rank of its own.
        came_in = np.isin(call[lone], call[rank == Rank.INCOMING])
        rank[lone] = np.select([is_leg, came_in], [Rank.IGNORE, Rank.CAME_IN], Rank.PROBLEM)
    return rank, np.where((rank == Rank.CAME_IN) | (rank == Rank.STAYED_INSIDE), NO_START, rows["start"])


def _named_by(rows: Rows, start: Ints, call: Keys, is_member: Flags) -> Ints:
    """Return the place of the row whose key is that of a joined call, for its rows with another key; else -1.

    That is one that the ledger holds, since an export may have ended between the rows when it was imported before;
    else the earliest of its rows that could be notified, one of a Local channel only where there is no other.
    """
    named_by = np.full(len(rows), -1, dtype=np.int64)
    member = np.flatnonzero(is_member)
    columns = (rows["key"], start, rows["secondary"], ~rows["held"], call)
    order = member[np.lexsort([column[member] for column in columns])]
    opens = _opens(call[order])
    leader = order[opens][np.cumsum(opens) - 1]
    foreign = rows["key"][order] != rows["key"][leader]
    named_by[order[foreign]] = rows["place"][leader[foreign]]
    return named_by


def _decisions(
    rank: npt.NDArray[np.uint8], rows: Rows, order: Ints, first: Ints, group: Ints, unclear: Flags
) -> npt.NDArray[np.uint8]:
    """Return the decision of each row in sorted order, in which their ranks are given."""
    content, legs = rows["content"][order], rows["legs"][order]
    best, is_first = rank[first][group], np.zeros(len(rank), dtype=np.bool_)
    is_first[first] = True
    same = content == content[first][group]
    state, called = _is_state(rank), _is_state(best)
    contradicted = np.zeros(len(first), dtype=np.bool_)
    np.logical_or.at(contradicted, group, called & state & ~same & ~legs)
    decision = np.full(len(rank), Decision.OTHER_LEG, dtype=np.uint8)
    decision[(best == Rank.INCOMING) & (rank == Rank.INCOMING)] = Decision.INCOMING
    decision[(best == Rank.ATTENDED) & (rank == Rank.ATTENDED)] = Decision.ATTENDED
    decision[is_first & (rank == Rank.CANCELLED)] = Decision.CANCELLED
    decision[is_first & (rank == Rank.OUR_SIDE)] = Decision.OUR_SIDE
    decision[is_first & (rank == Rank.IGNORE)] = Decision.NOT_FINAL
    decision[is_first & (rank == Rank.AGENT_LEG)] = Decision.AGENT_LEG
    decision[is_first & called] = Decision.CALL
    decision[~is_first & called & state & same] = Decision.DUPLICATE
    decision[called & state & contradicted[group]] = Decision.CONFLICT
    decision[state & unclear[group]] = Decision.UNCLEAR_CALL
    decision[rank == Rank.CAME_IN] = Decision.INCOMING
    decision[rank == Rank.STAYED_INSIDE] = Decision.INTERNAL
    decision[rank == Rank.PROBLEM] = Decision.PROBLEM
    decision[rank == Rank.MISSHAPEN] = Decision.LISTED
    decision[rank == Rank.UNDIRECTED_ATTENDED] = Decision.ATTENDED
    return decision


class Index:
    """The index rows of all files: `add` them, `resolve` them once, then look up what became `of` them.

    Rows wait in blocks, numbered in input order, and are dealt out by the keys of their calls. What became of them
    is dealt back into blocks. So each part and each block is some ``most_rows`` at most: only the rows of one call
    are never torn apart. Memory grows with the keys that are joined to others, and with nothing else.
    """

    def __init__(self, most_rows: int = INDEX_ROWS) -> None:
        self._most = most_rows
        self._rows, self._joins = Parts(INDEX_ROW, most_rows), Parts(JOIN, most_rows)
        self._kept = (0, 0)
        self._resolved = Parts(RESOLVED, most_rows)
        self._block, self._number = np.empty(0, RESOLVED), -1
        self.unasked = np.zeros(len(Decision), dtype=np.int64)

    def __len__(self) -> int:
        return len(self._rows)

    def close(self) -> None:
        """Forget everything."""
        for parts in (self._rows, self._joins, self._resolved):
            parts.close()

    def add(self, rows: Rows, joins: Rows) -> None:
        """Take the next rows (INDEX_ROW) and what joins them to others (JOIN)."""
        for parts, added in ((self._rows, rows), (self._joins, joins)):
            parts.add(added, np.arange(len(parts), len(parts) + len(added)) // self._most)

    def content(self) -> tuple[Rows, Rows]:
        """Return all rows and joins in the order they were added."""
        rows, joins = (np.concatenate([np.empty(0, parts.kind), *parts]) for parts in (self._rows, self._joins))
        return rows, joins

    def keep_file(self) -> None:
        """Keep the rows added so far, whatever becomes of the next file."""
        self._kept = len(self._rows), len(self._joins)

    def drop_file(self) -> None:
        """Forget the rows of a file that is not kept."""
        for parts, rows in zip((self._rows, self._joins), self._kept, strict=True):
            parts.cut(rows)

    def resolve(self) -> Ints:
        """Decide every row of the files kept; return the places of rows that name a joined call (`named_by`)."""
        self.drop_file()
        joins = self._dealt(self._joins, lambda joins: joins["value"])
        joined = joined_calls(joins)
        rows = self._dealt(self._rows, lambda rows: joined.calls_of(rows["key"])[0].view("u8")[::2])
        naming = [np.zeros(0, dtype=np.int64)]
        for part in rows:
            resolved = resolve(part, joined)
            self._resolved.add(resolved, resolved["slot"] // self._most)
            self.unasked += np.bincount(resolved["decision"], minlength=len(Decision))
            naming.append(np.unique(resolved["named_by"]))
        for parts in (joins, rows):
            parts.close()
        return np.setdiff1d(np.concatenate(naming), -1)

    def _dealt(self, blocks: Parts, hashed: Callable[[Rows], Ints]) -> Parts:
        """Return the rows of all blocks in as many parts, those of one hash in one; a single block as it is."""
        if len(blocks) <= self._most:
            return blocks
        count = -(-len(blocks) // self._most)
        dealt = Parts(blocks.kind, self._most)
        for rows in blocks:
            dealt.add(rows, hashed(rows) % np.uint64(count))
        blocks.close()
        return dealt

    def of(self, slots: Ints) -> Rows:
        """Return what became of rows (RESOLVED), each asked for once and in ascending order."""
        found = [np.empty(0, RESOLVED)]
        for number in np.unique(slots // self._most).tolist():
            if number != self._number:
                block = self._resolved.part(number)
                self._block, self._number = block.take(np.argsort(block["slot"])), number
            found.append(self._block.take(slots[slots // self._most == number] - number * self._most))
        resolved = np.concatenate(found)
        self.unasked -= np.bincount(resolved["decision"], minlength=len(Decision))
        return resolved
