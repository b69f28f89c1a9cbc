"""Which rows are one call, and what the call comes to, wherever its rows stand in the input.

Every row of an outgoing call leaves about fifty bytes in the index, whatever its length; when all files are
read, one sort puts the rows of each call together. So order, distance and chunk size cannot matter.
"""

from dataclasses import dataclass, fields, replace
from enum import IntEnum
from typing import TypeVar

import numpy as np
import numpy.typing as npt

from schemas.vocabulary import ATTENDED

Ints = npt.NDArray[np.int64]

LINES_PER_FILE = 1 << 40
"""Places are numbered file * LINES_PER_FILE + line, so that they sort in input order."""

NO_START = np.iinfo(np.int64).max

JOIN_SECONDS = 2 * 3600
"""Rows that share the name of a channel are one call when they start so near to each other: Asterisk numbers its
channels anew when it starts, and names come again."""


class Rank(IntEnum):
    """What a row says of its call, best evidence first; a row of rank PROBLEM could not be understood.

    INCOMING rows are here only where a format says that one of them decides for its call. CAME_IN and
    STAYED_INSIDE rows are here where the file has rows for which they decide: UNDIRECTED ones, of which nothing
    but another row of their call tells which way they went, and secondary ones.
    """

    INCOMING = 0
    ATTENDED = 1
    BUSY = 2
    REJECTED = 3
    BLOCKED = 4
    INVALID = 5
    NOTAVAILABLE = 6
    NOANSWER = 7
    CANCELLED = 8
    OUR_SIDE = 9
    IGNORE = 10
    AGENT_LEG = 11
    CAME_IN = 12
    STAYED_INSIDE = 13
    PROBLEM = 14
    UNDIRECTED = 15
    UNDIRECTED_ATTENDED = 16


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


@dataclass(frozen=True, slots=True)
class IndexRows:
    """What the index keeps of some rows, one array each, all of one length.

    ``key_high`` and ``key_low`` are 128 bits of the call's key; ``start`` epoch seconds (NO_START: unknown);
    ``same`` are two columns of which rows of one key share one at least (0: nothing to hold); ``content`` tells
    rows of a call apart; ``held``: the ledger has a call of this key; ``place`` numbers file and line; ``agent``
    numbers the agent's names; ``legs`` is false where a call is one row only.
    """

    key_high: npt.NDArray[np.uint64]
    key_low: npt.NDArray[np.uint64]
    same: npt.NDArray[np.uint64]
    rank: npt.NDArray[np.uint8]
    secondary: npt.NDArray[np.bool_]
    held: npt.NDArray[np.bool_]
    start: Ints
    content: npt.NDArray[np.uint64]
    place: Ints
    agent: npt.NDArray[np.int32]
    legs: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rank)


@dataclass(frozen=True, slots=True)
class Joins:
    """What makes rows of the index one call whatever their keys: number of the row, hash of a value they share."""

    slot: Ints
    value: npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Resolved:
    """For each row of the index, in its order: decision, start of its call, and a row worth naming.

    ``witness`` is the place of the row that decided: the one taken for the call, or the one not understood.
    ``named_by`` is the place of the row whose id and key are the call's, -1 where they are the row's own;
    ``is_attended`` says that the call was.
    ``leg_agent`` numbers the agent that the earliest row of rank AGENT_LEG names, -1 without one.
    """

    decision: npt.NDArray[np.uint8]
    start: Ints
    witness: Ints
    named_by: Ints
    is_attended: npt.NDArray[np.bool_]
    leg_agent: npt.NDArray[np.int32]


Columns = TypeVar("Columns", IndexRows, Joins)


def concatenated(kind: type[Columns], parts: list[Columns]) -> Columns:
    """Return the arrays of all parts, in their order."""
    return kind(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(kind)))


def resolve(rows: IndexRows, joins: Joins) -> Resolved:
    """Decide every row from all rows of its call.

    A call with an incoming row is incoming. Else attended beats all. A row that was not understood makes the
    unattended rows of its call unclear, since it might have been the one that was attended or the earliest. Else
    the best evidence is the call, the first of equal rows in the input; further rows with the same content are
    duplicates, others legs, or in a format whose calls are one row, contradictions. Rows of different channels
    that share an id are of calls that cannot be told apart.
    """
    if not len(rows):
        empty = np.zeros(0, dtype=np.int64)
        return Resolved(
            empty.astype(np.uint8), empty, empty, empty, empty.astype(np.bool_), empty.astype(np.int32)
        )
    shared = _shared_ids(rows)
    rows = replace(rows, same=rows.same[:0])  # sixteen bytes a row, and no longer needed
    labels = _joined_labels(rows, joins)
    own, rows = rows, _with_directions(_with_joined_keys(rows, labels))
    named_by = _named_by(own, rows, labels)
    order = np.lexsort(
        (rows.place, rows.content, rows.start, rows.secondary, rows.rank, rows.key_low, rows.key_high)
    )
    high, low, rank = rows.key_high[order], rows.key_low[order], rows.rank[order]
    opens = np.concatenate(([True], (high[1:] != high[:-1]) | (low[1:] != low[:-1])))
    first = np.flatnonzero(opens)
    group = np.cumsum(opens) - 1
    worst = np.maximum.reduceat(rank, first)
    problem_at = np.concatenate((first[1:], [len(rank)])) - 1  # problems sort last in their group
    unclear = worst >= Rank.PROBLEM
    decision = _decisions(rows, order, first, group, unclear)
    witness = np.where(unclear, rows.place[order][problem_at], rows.place[order][first])
    start = np.minimum.reduceat(rows.start[order], first)
    leg_agent = _leg_agents(rank, rows.agent[order], first)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    per_row = group[back]
    decision = decision[back]
    decision[shared & (rows.rank >= Rank.BUSY) & (rows.rank <= Rank.NOANSWER)] = Decision.SHARED_ID
    is_attended = rank[first][per_row] == Rank.ATTENDED
    return Resolved(decision, start[per_row], witness[per_row], named_by, is_attended, leg_agent[per_row])


def _shared_ids(rows: IndexRows) -> npt.NDArray[np.bool_]:
    """Say which rows have an id of several channels and customers: what is left of ids that were cut."""
    shared = np.zeros(len(rows), dtype=np.bool_)
    held = np.flatnonzero(rows.same[:, 0])
    _, number, count = np.unique(rows.key_low[held], return_inverse=True, return_counts=True)
    held = held[count[number] > 1]
    if not len(held):
        return shared
    order = held[np.lexsort((rows.key_low[held], rows.key_high[held]))]
    high, low, same = rows.key_high[order], rows.key_low[order], rows.same[order]
    opens = np.concatenate(([True], (high[1:] != high[:-1]) | (low[1:] != low[:-1])))
    first = np.flatnonzero(opens)
    differs = (np.minimum.reduceat(same, first) != np.maximum.reduceat(same, first)).all(axis=1)
    shared[order] = differs[np.cumsum(opens) - 1]
    return shared


def _with_joined_keys(rows: IndexRows, labels: Ints) -> IndexRows:
    """Give the rows of each joined call one key, that of its first row in the index."""
    member = np.flatnonzero(labels >= 0)
    if not len(member):
        return rows
    _, first, call = np.unique(labels[member], return_index=True, return_inverse=True)
    high, low = rows.key_high.copy(), rows.key_low.copy()
    high[member], low[member] = high[member[first]][call], low[member[first]][call]
    return replace(rows, key_high=high, key_low=low)


def _with_directions(rows: IndexRows) -> IndexRows:
    """Rank rows by the rows of their call that came in or stayed inside, where these decide for them.

    A row of unknown direction came in where another one did, else it is a problem. Secondary rows go with the call
    that they are part of: with one inside too, such as a telephone that rings on at a number outside.
    """
    undirected = rows.rank >= Rank.UNDIRECTED
    directed = (rows.rank == Rank.CAME_IN) | (rows.rank == Rank.STAYED_INSIDE)
    if not (undirected.any() or directed.any()):
        return rows
    some = np.flatnonzero(undirected | directed | rows.secondary)
    _, call = np.unique(np.stack((rows.key_high, rows.key_low))[:, some], axis=1, return_inverse=True)
    call = call.ravel()
    rank, some_rank, secondary = rows.rank.copy(), rows.rank[some], rows.secondary[some]
    for decided, led in ((Rank.STAYED_INSIDE, secondary), (Rank.CAME_IN, secondary | undirected[some])):
        decides = np.zeros(call.max() + 1, dtype=np.bool_)
        decides[call[(some_rank == decided) & ~secondary]] = True
        rank[some[decides[call] & led]] = decided
    rank[rank == Rank.UNDIRECTED] = Rank.PROBLEM
    decided_rows = (rank == Rank.CAME_IN) | (rank == Rank.STAYED_INSIDE)
    return replace(rows, rank=rank, start=np.where(decided_rows, NO_START, rows.start))


def _named_by(own: IndexRows, rows: IndexRows, labels: Ints) -> Ints:
    """Return the place of the row whose key is that of a joined call, for its rows with another key; else -1.

    That is one that the ledger holds, since an export may have ended between the rows when it was imported before;
    else the earliest of its rows that could be notified, one of a Local channel only where there is no other.
    """
    named_by = np.full(len(rows), -1, dtype=np.int64)
    member = np.flatnonzero((labels >= 0) & (rows.rank >= Rank.BUSY) & (rows.rank <= Rank.NOANSWER))
    if not len(member):
        return named_by
    columns = (own.key_low, own.key_high, rows.start, rows.secondary, ~rows.held, labels)
    order = member[np.lexsort([column[member] for column in columns])]
    opens = np.concatenate(([True], labels[order][1:] != labels[order][:-1]))
    leader = order[np.flatnonzero(opens)][np.cumsum(opens) - 1]
    foreign = (own.key_high[order] != own.key_high[leader]) | (own.key_low[order] != own.key_low[leader])
    named_by[order[foreign]] = rows.place[leader[foreign]]
    return named_by


def _joined_labels(rows: IndexRows, joins: Joins) -> Ints:
    """Return for each row the number of the call that it is joined to, -1 where its key stands alone."""
    alone = np.full(len(rows), -1, dtype=np.int64)
    start = rows.start[joins.slot]
    timed = start != NO_START
    order = np.flatnonzero(timed)[np.lexsort((start[timed], joins.value[timed]))]
    slot, value, start = joins.slot[order], joins.value[order], start[order]
    if len(slot) < 2:
        return alone
    apart = (value[1:] != value[:-1]) | (start[1:] - start[:-1] > JOIN_SECONDS)
    link = np.concatenate(([0], np.cumsum(apart)))
    keys = np.stack((rows.key_high, rows.key_low))
    unlike = (keys[:, slot][:, 1:] != keys[:, slot][:, :-1]).any(axis=0) & ~apart
    if not unlike.any():
        return alone
    linked = np.isin(link, link[1:][unlike])
    distinct, node = np.unique(keys[:, slot[linked]], axis=1, return_inverse=True)
    _, link = np.unique(link[linked], return_inverse=True)
    label = _least_labels(node.ravel(), link.ravel(), distinct.shape[1])
    # Rows without a value to share are joined by their key.
    some = np.flatnonzero(np.isin(rows.key_high, distinct[0]))
    _, code = np.unique(np.concatenate((distinct, keys[:, some]), axis=1), axis=1, return_inverse=True)
    code = code.ravel()
    label_of = np.full(code.max() + 1, -1, dtype=np.int64)
    label_of[code[: len(label)]] = label
    alone[some] = label_of[code[len(label) :]]
    return alone


def _least_labels(node: Ints, link: Ints, nodes: int) -> Ints:
    """Return for each node the least node that it is connected to, by edges from ``node`` to ``link``."""
    label = np.arange(nodes)
    while True:
        least = np.full(link.max() + 1, nodes)
        np.minimum.at(least, link, label[node])
        lower = label.copy()
        np.minimum.at(lower, node, least[link])
        if (lower == label).all():
            return label
        label = lower


def _leg_agents(rank: npt.NDArray[np.uint8], agent: npt.NDArray[np.int32], first: Ints) -> npt.NDArray[np.int32]:
    """Return for each call the agent of its first row of rank AGENT_LEG in sorted order, -1 without one."""
    at = np.where(rank == Rank.AGENT_LEG, np.arange(len(rank)), len(rank))
    return np.append(agent, np.int32(-1))[np.minimum.reduceat(at, first)]


def _decisions(
    rows: IndexRows, order: Ints, first: Ints, group: Ints, unclear: npt.NDArray[np.bool_]
) -> npt.NDArray[np.uint8]:
    """Return the decision of each row in sorted order."""
    rank, content, legs = rows.rank[order], rows.content[order], rows.legs[order]
    best, is_first = rank[first][group], np.zeros(len(rank), dtype=np.bool_)
    is_first[first] = True
    same = content == content[first][group]
    state = (rank >= Rank.BUSY) & (rank <= Rank.NOANSWER)
    called = (best >= Rank.BUSY) & (best <= Rank.NOANSWER)
    contradicted = np.zeros(len(first), dtype=np.bool_)
    np.logical_or.at(contradicted, group, called & state & ~same & ~legs)
    decision = np.full(len(rank), Decision.OTHER_LEG, dtype=np.uint8)
    decision[(best == Rank.INCOMING) & (rank == Rank.INCOMING)] = Decision.INCOMING
    decision[(best == Rank.ATTENDED) & (rank == Rank.ATTENDED)] = Decision.ATTENDED
    for each, found in _ALONE:
        decision[is_first & (best == each)] = found
    decision[is_first & called] = Decision.CALL
    decision[~is_first & called & state & same] = Decision.DUPLICATE
    decision[called & state & contradicted[group]] = Decision.CONFLICT
    decision[called & state & unclear[group]] = Decision.UNCLEAR_CALL
    decision[rank == Rank.CAME_IN] = Decision.INCOMING
    decision[rank == Rank.STAYED_INSIDE] = Decision.INTERNAL
    decision[rank == Rank.PROBLEM] = Decision.PROBLEM
    decision[rank == Rank.UNDIRECTED_ATTENDED] = Decision.ATTENDED
    return decision


_ALONE = (
    (Rank.CANCELLED, Decision.CANCELLED),
    (Rank.OUR_SIDE, Decision.OUR_SIDE),
    (Rank.IGNORE, Decision.NOT_FINAL),
    (Rank.AGENT_LEG, Decision.AGENT_LEG),
)
