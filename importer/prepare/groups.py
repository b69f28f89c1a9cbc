"""Which rows are one call, and what the call comes to, wherever its rows stand in the input.

Every row of an outgoing call leaves about fifty bytes in the index, whatever its length; when all files are
read, one sort puts the rows of each call together. So order, distance and chunk size cannot matter.
"""

from dataclasses import dataclass, fields
from enum import IntEnum

import numpy as np
import numpy.typing as npt

from schemas.vocabulary import ATTENDED

Ints = npt.NDArray[np.int64]

LINES_PER_FILE = 1 << 40
"""Places are numbered file * LINES_PER_FILE + line, so that they sort in input order."""

NO_START = np.iinfo(np.int64).max


class Rank(IntEnum):
    """What a row says of its call, best evidence first; a row of rank PROBLEM could not be understood.

    INCOMING rows are here only where a format says that one of them decides for its call.
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
    PROBLEM = 12


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


SKIPPED_FOR = {
    Decision.ATTENDED: ATTENDED,
    Decision.OTHER_LEG: "other_leg",
    Decision.CANCELLED: "cancelled",
    Decision.OUR_SIDE: "our_side",
    Decision.NOT_FINAL: "not_final",
    Decision.AGENT_LEG: "agent_leg",
    Decision.INCOMING: "incoming",
}
"""Decisions that skip a row, with the reason in the results file."""


@dataclass(frozen=True, slots=True)
class IndexRows:
    """What the index keeps of some rows, one array each, all of one length.

    ``key_high`` and ``key_low`` are 128 bits of the call's key; ``start`` epoch seconds (NO_START: unknown);
    ``content`` tells rows of a call apart; ``place`` numbers file and line; ``agent`` numbers the agent's names;
    ``legs`` is false where a call is one row only.
    """

    key_high: npt.NDArray[np.uint64]
    key_low: npt.NDArray[np.uint64]
    rank: npt.NDArray[np.uint8]
    secondary: npt.NDArray[np.bool_]
    start: Ints
    content: npt.NDArray[np.uint64]
    place: Ints
    agent: npt.NDArray[np.int32]
    legs: npt.NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.rank)


@dataclass(frozen=True, slots=True)
class Resolved:
    """For each row of the index, in its order: decision, start of its call, and a row worth naming.

    ``witness`` is the place of the row that decided: the one taken for the call, or the one not understood.
    ``leg_agent`` numbers the agent that the earliest row of rank AGENT_LEG names, -1 without one.
    """

    decision: npt.NDArray[np.uint8]
    start: Ints
    witness: Ints
    leg_agent: npt.NDArray[np.int32]


def joined_rows(parts: list[IndexRows]) -> IndexRows:
    """Return the rows of all parts, in their order."""
    return IndexRows(*(np.concatenate([getattr(part, each.name) for part in parts]) for each in fields(IndexRows)))


def resolve(rows: IndexRows) -> Resolved:
    """Decide every row from all rows of its call.

    A call with an incoming row is incoming. Else attended beats all. A row that was not understood makes the
    unattended rows of its call unclear, since it might have been the one that was attended or the earliest. Else
    the best evidence is the call, the first of equal rows in the input; further rows with the same content are
    duplicates, others legs, or in a format whose calls are one row, contradictions.
    """
    if not len(rows):
        empty = np.zeros(0, dtype=np.int64)
        return Resolved(empty.astype(np.uint8), empty, empty, empty.astype(np.int32))
    order = np.lexsort(
        (rows.place, rows.content, rows.start, rows.secondary, rows.rank, rows.key_low, rows.key_high)
    )
    high, low, rank = rows.key_high[order], rows.key_low[order], rows.rank[order]
    opens = np.concatenate(([True], (high[1:] != high[:-1]) | (low[1:] != low[:-1])))
    first = np.flatnonzero(opens)
    group = np.cumsum(opens) - 1
    worst = np.maximum.reduceat(rank, first)
    problem_at = np.concatenate((first[1:], [len(rank)])) - 1  # problems sort last in their group
    unclear = worst == Rank.PROBLEM
    decision = _decisions(rows, order, first, group, unclear)
    witness = np.where(unclear, rows.place[order][problem_at], rows.place[order][first])
    start = np.minimum.reduceat(rows.start[order], first)
    leg_agent = _leg_agents(rank, rows.agent[order], first)
    back = np.empty_like(order)
    back[order] = np.arange(len(order))
    per_row = group[back]
    return Resolved(decision[back], start[per_row], witness[per_row], leg_agent[per_row])


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
    decision[rank == Rank.PROBLEM] = Decision.PROBLEM
    return decision


_ALONE = (
    (Rank.CANCELLED, Decision.CANCELLED),
    (Rank.OUR_SIDE, Decision.OUR_SIDE),
    (Rank.IGNORE, Decision.NOT_FINAL),
    (Rank.AGENT_LEG, Decision.AGENT_LEG),
)
