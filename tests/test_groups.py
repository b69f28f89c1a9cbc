"""Groups: what becomes of every row by the rules, wherever the rows stand."""

from contextlib import closing
from dataclasses import dataclass, replace
from random import Random

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from importer.prepare.groups import (
    INDEX_ROW,
    JOIN,
    JOIN_SECONDS,
    LINES_PER_FILE,
    LONGEST_CALL_SECONDS,
    NO_START,
    Decision,
    Rank,
    Rows,
    keys_of,
)
from importer.prepare.index import INDEX_ROWS, Index

STATES = (Rank.BUSY, Rank.REJECTED, Rank.BLOCKED, Rank.INVALID, Rank.NOTAVAILABLE, Rank.NOANSWER)
LARGEST = (1 << 64) - 1


@dataclass(frozen=True)
class Row:
    """One row of the index."""

    key: int
    rank: Rank
    content: int = 0
    start: int = NO_START
    place: int = 0
    secondary: bool = False
    held: bool = False
    agent: int = 0
    legs: bool = True
    same: tuple[int, int] = (0, 0)
    joins: tuple[int, ...] = ()


def _index(rows: list[Row]) -> Rows:
    columns = ("same", "start", "content", "place", "agent", "rank", "secondary", "held", "legs")
    index = np.zeros(len(rows), INDEX_ROW)
    halves = np.array([divmod(row.key, 1 << 64) for row in rows], dtype=np.uint64).reshape(-1, 2)
    index["key"], index["slot"] = keys_of(halves[:, 0], halves[:, 1]), np.arange(len(rows))
    for name in columns if rows else ():
        index[name] = [getattr(row, name) for row in rows]
    return index


def _joins(rows: list[Row], index: Rows) -> Rows:
    pairs = [(at, value) for at, row in enumerate(rows) for value in row.joins if row.start != NO_START]
    joins = np.zeros(len(pairs), JOIN)
    for place, (at, value) in enumerate(pairs):
        joins[place] = (index["key"][at], value, index["start"][at])
    return joins


def _found(rows: list[Row], most_rows: int = INDEX_ROWS) -> Rows:
    """Return what the index says of all rows."""
    index = Index(most_rows)
    with closing(index):
        index.add(_index(rows), _joins(rows, _index(rows)))
        index.keep_file()
        index.resolve()
        return index.of(np.arange(len(rows)))


KEYS = st.sampled_from([0, 1, 1 << 64, (1 << 64) + 1, LARGEST, LARGEST << 64])
ROWS = st.builds(
    Row,
    key=KEYS,
    rank=st.sampled_from(Rank),
    content=st.sampled_from([0, 1, LARGEST]),
    start=st.sampled_from([-1, 0, 6_000, 12_000, 1_772_442_847, NO_START]),
    secondary=st.booleans(),
    held=st.booleans(),
    agent=st.integers(0, 3),
    legs=st.booleans(),
    same=st.sampled_from([(0, 0), (1, 1), (1, 2), (2, 1), (2, 2)]),
    joins=st.sampled_from([(), (), (1,), (1, 2), (2, 3)]),
)
PLACES = st.integers(0, 3 * LINES_PER_FILE)
INPUTS = st.lists(ROWS, max_size=14).flatmap(
    lambda rows: st.lists(PLACES, min_size=len(rows), max_size=len(rows), unique=True).map(
        lambda places: [replace(row, place=place) for row, place in zip(rows, places, strict=True)]
    )
)


@given(INPUTS)
@example([])
def test_every_call_is_accounted_for(rows: list[Row]) -> None:
    """A key with a row of a state gives one call, or a row incoming, attended, a problem or in conflict."""
    beside = {Decision.OTHER_LEG, Decision.DUPLICATE, Decision.UNCLEAR_CALL, Decision.AGENT_LEG}
    reasons = {*Decision} - beside - {Decision.CANCELLED, Decision.OUR_SIDE, Decision.NOT_FINAL}
    rows = [replace(row, joins=()) for row in rows]
    decided = [
        (row.key, Decision(made)) for row, made in zip(rows, _found(rows)["decision"].tolist(), strict=True)
    ]
    assert {row.key for row in rows if row.rank in STATES} <= {key for key, made in decided if made in reasons}
    calls = [key for key, made in decided if made is Decision.CALL]
    assert len(calls) == len(set(calls))


@given(INPUTS, st.randoms(use_true_random=False))
def test_order_does_not_matter(rows: list[Row], random: Random) -> None:
    """The order in which rows are read changes no row's decision."""
    order = random.sample(range(len(rows)), len(rows))
    found, shuffled = _found(rows), _found([rows[place] for place in order])
    for name in ("decision", "start", "decided_by", "leg_agent"):
        assert shuffled[name].tolist() == found[name][order].tolist(), name


@given(INPUTS, st.sampled_from([1, 7]))
def test_few_rows_in_memory(rows: list[Row], most_rows: int) -> None:
    """With one row or seven in memory at once every row is decided as with all of them there."""
    np.testing.assert_array_equal(_found(rows, most_rows), _found(rows))


@given(INPUTS, INPUTS, st.sampled_from([1, 7, INDEX_ROWS]))
def test_drop_file(kept: list[Row], dropped: list[Row], most_rows: int) -> None:
    """A file that is not kept changes nothing of the rows before and after it."""
    index, rows = Index(most_rows), _index(kept)
    half = len(kept) // 2
    with closing(index):
        index.add(rows[:half], _joins(kept[:half], rows))
        index.keep_file()
        index.add(_index(dropped), _joins(dropped, _index(dropped)))
        index.drop_file()
        index.add(rows[half:], _joins(kept[half:], rows[half:]))
        index.keep_file()
        index.resolve()
        np.testing.assert_array_equal(index.of(rows["slot"]), _found(kept))


# The rules one by one: rows as key, rank, content and what else matters, then a column of theirs and its values

RULES = """
# Of equal evidence a secondary row loses, even if it began earlier; better evidence wins even from one.
1 BUSY 1 start=5 secondary | 1 BUSY 2 start=9 -> decision OTHER_LEG CALL
1 BUSY 1 secondary | 1 NOANSWER 2 -> decision CALL OTHER_LEG
# Of equal rows the first in the input is the call; one of the second file is later, even on a lower line.
1 BUSY 7 | 1 BUSY 7 | 1 BUSY 7 -> decision CALL DUPLICATE DUPLICATE
1 BUSY 7 place=NEXT | 1 BUSY 7 place=900 -> decision DUPLICATE CALL
# Where a call is one row, rows that differ are all in conflict, their duplicates too; an attended one still wins.
1 BUSY 7 alone | 1 BUSY 8 alone | 1 BUSY 7 alone -> decision CONFLICT CONFLICT CONFLICT
1 BUSY 7 alone | 1 NOANSWER 8 alone -> decision CONFLICT CONFLICT
1 BUSY 7 alone | 1 ATTENDED 8 alone -> decision OTHER_LEG ATTENDED
# A row not understood keeps every state row of its call from being sent, not an attended one, no other call.
1 BUSY 1 | 1 PROBLEM 2 | 1 NOANSWER 3 -> decision UNCLEAR_CALL PROBLEM UNCLEAR_CALL
1 BUSY 1 | 1 PROBLEM 2 | 1 ATTENDED 3 -> decision OTHER_LEG PROBLEM ATTENDED
1 BUSY | 2 PROBLEM -> decision CALL PROBLEM
# The row taken for the call decides it, the row not understood an unclear one.
1 NOANSWER 1 | 1 BUSY 2 | 1 BUSY 2 -> decided_by 3 3 3
1 BUSY 1 | 1 PROBLEM 2 -> decided_by 3 3
# The earliest of its agents' own legs names the agent for all rows of a call and of no other.
1 BUSY agent=4 | 1 AGENT_LEG 1 agent=9 | 2 BUSY agent=5 -> leg_agent 9 9 -1
1 AGENT_LEG 1 start=50 agent=9 | 1 AGENT_LEG 2 start=40 agent=3 -> leg_agent 3 3
# Calls are told apart by both halves of their key.
1 BUSY | 18446744073709551616 BUSY | 18446744073709551617 BUSY -> decision CALL CALL CALL
# Rows that share the name of a channel are one call, which has the key of its earliest row of a state.
1 OUR_SIDE 1 start=10 joins=7 | 2 NOANSWER 2 start=20 joins=7,8 | 3 BUSY 3 start=30 secondary joins=8
-> decision OTHER_LEG OTHER_LEG CALL -> named_by -1 -1 3 -> start 10 10 10
# A joined call keeps the key under which the ledger holds it, although a better row has come since.
1 BUSY 1 start=30 secondary held joins=7 | 2 BUSY 2 start=20 joins=7 -> named_by -1 2
# A channel of the same name hours later is another call: Asterisk numbers them anew when it starts.
1 BUSY 1 start=0 joins=7 | 2 ATTENDED 2 start=LATE joins=7 -> decision CALL ATTENDED
# A row of unknown direction came in where another of its call did; else it is a problem, if not attended.
1 UNDIRECTED | 1 CAME_IN | 2 UNDIRECTED | 3 UNDIRECTED_ATTENDED -> decision INCOMING INCOMING PROBLEM ATTENDED
# An outgoing row beside one that came in, as after a transfer, is a call of its own start.
1 BUSY 1 start=20 | 1 CAME_IN 2 start=10 -> decision CALL INCOMING -> start 20 20
# A secondary row came in, or stayed inside, with a row of its call that did and is not secondary itself.
1 BUSY secondary | 1 STAYED_INSIDE | 1 CAME_IN -> decision INCOMING INTERNAL INCOMING
2 BUSY secondary | 2 STAYED_INSIDE -> decision INTERNAL INTERNAL
3 BUSY secondary | 3 CAME_IN secondary -> decision CALL INCOMING
# Rows with one id, but of other channels and customers, are rejected; an attended one hides none of them.
1 ATTENDED 1 same=1,1 | 1 NOANSWER 2 same=2,2 -> decision ATTENDED SHARED_ID
2 NOANSWER 3 same=3,3 | 2 ATTENDED 4 same=4,3 -> decision OTHER_LEG ATTENDED
# So are rows of calls that began days apart, but where nothing is to be held, as under a UUID: a call back.
1 BUSY 1 start=0 same=1,1 | 1 NOANSWER 2 start=DAYS same=1,1 | 1 OUR_SIDE 3 start=9 same=1,1
-> decision SHARED_ID SHARED_ID OTHER_LEG
1 ATTENDED 1 start=0 same=1,1 | 1 NOANSWER 2 start=DAYS same=1,1 | 2 BUSY start=DAYS
-> decision ATTENDED SHARED_ID CALL
1 BUSY 7 start=0 same=1,1 alone | 1 BUSY 8 start=DAYS same=1,1 alone -> decision CONFLICT CONFLICT
1 BUSY 7 start=0 same=1,1 alone | 1 ATTENDED 8 start=DAYS same=1,1 alone -> decision SHARED_ID ATTENDED
1 BUSY 7 start=0 | 1 NOANSWER 8 start=DAYS -> decision CALL OTHER_LEG
# A record of another shape makes the call unclear that it may be of, and is listed by itself.
1 BUSY 1 | 1 MISSHAPEN | 2 BUSY | 3 MISSHAPEN -> decision UNCLEAR_CALL LISTED CALL LISTED
1 BUSY 1 | 1 ATTENDED 2 | 1 MISSHAPEN -> decision OTHER_LEG ATTENDED LISTED
# A call none of whose rows has a time has none.
1 BUSY -> start NONE
# A row of no state is never its call's conflict, duplicate or unclear row, and makes no row of a state one.
1 BUSY 7 alone | 1 CANCELLED 8 alone -> decision CALL OTHER_LEG
1 BUSY 7 alone | 1 NOANSWER 8 alone | 1 CANCELLED 9 -> decision CONFLICT CONFLICT OTHER_LEG
1 BUSY 7 | 1 CANCELLED 7 | 2 BUSY 7 | 2 OUR_SIDE 8 | 2 PROBLEM 9
-> decision CALL OTHER_LEG UNCLEAR_CALL OTHER_LEG PROBLEM
# Where no row has a state the best says what the call is, the others are legs of it.
1 CANCELLED | 2 OUR_SIDE | 3 IGNORE | 4 AGENT_LEG -> decision CANCELLED OUR_SIDE NOT_FINAL AGENT_LEG
1 CANCELLED | 1 OUR_SIDE | 2 OUR_SIDE | 2 AGENT_LEG -> decision CANCELLED OTHER_LEG OUR_SIDE OTHER_LEG
1 INCOMING 1 | 1 BUSY 2 | 1 INCOMING 3 | 2 ATTENDED 1 | 2 BUSY 2 | 2 ATTENDED 3
-> decision INCOMING OTHER_LEG INCOMING ATTENDED OTHER_LEG ATTENDED
"""


def _row(line: int, text: str) -> Row:
    """Return the row that a text of the rules stands for, on a line of the input."""
    key, rank, *rest = text.split()
    row = Row(int(key), Rank[rank], int(rest.pop(0)) if rest and rest[0].isdigit() else 0, place=line)
    for name, _, value in (each.partition("=") for each in rest):
        if name in ("joins", "same"):
            row = replace(row, **{name: tuple(map(int, value.split(",")))})
        elif name == "alone":
            row = replace(row, legs=False)
        else:
            row = replace(row, **{name: int(value) if value else True})
    return row


def test_rule() -> None:
    """Each rule of the table holds."""
    text = (
        RULES.replace("\n->", " ->").replace("DAYS", str(LONGEST_CALL_SECONDS + 1)).replace("NONE", str(NO_START))
    )
    text = text.replace("LATE", str(JOIN_SECONDS + 1)).replace("NEXT", str(LINES_PER_FILE + 2))
    for rule in (line for line in text.split("\n") if line and not line.startswith("#")):
        rows, *columns = rule.split(" -> ")
        found = _found([_row(line, row) for line, row in enumerate(rows.split(" | "), 2)])
        for name, *values in map(str.split, columns):
            said = found[name].tolist()
            assert [Decision(each).name if name == "decision" else str(each) for each in said] == values, rule
