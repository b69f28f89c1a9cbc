"""Groups: every row's decision against a plain model of the rules, wherever the rows stand."""

from contextlib import closing
from dataclasses import dataclass, replace
from itertools import pairwise
from random import Random

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from conftest import table
from importer.prepare.groups import (
    INDEX_ROW,
    JOIN,
    JOIN_SECONDS,
    LINES_PER_FILE,
    NO_START,
    SKIPPED_FOR,
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


@dataclass(frozen=True)
class Fate:
    """What `resolve` says of one row."""

    decision: Decision
    start: int
    decided_by: int
    leg_agent: int


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


def _resolved(rows: list[Row]) -> list[Fate]:
    found = _found(rows)
    columns = (found[name].tolist() for name in ("decision", "start", "decided_by", "leg_agent"))
    return [Fate(Decision(decision), *others) for decision, *others in zip(*columns, strict=True)]


def _decisions(rows: list[Row]) -> list[Decision]:
    return [fate.decision for fate in _resolved(_placed(rows))]


def _placed(rows: list[Row]) -> list[Row]:
    """Return the rows on the lines from 2 on."""
    return [replace(row, place=line) for line, row in enumerate(rows, 2)]


# The model


def _strength(row: Row) -> tuple[int, bool, int, int, int]:
    return row.rank, row.secondary, row.start, row.content, row.place


def _model(rows: list[Row]) -> list[Fate]:
    calls = _calls(rows)
    return [_fate(row, calls[index]) for index, row in enumerate(rows)]


def _calls(rows: list[Row]) -> list[list[Row]]:
    """Return for each row the rows of its call, those of unknown direction as what another row makes of them."""
    linked = [{index} for index in range(len(rows))]
    for index, row in enumerate(rows):
        for other, each in enumerate(rows):
            if row.key == each.key or any(_are_joined(rows, value, index, other) for value in row.joins):
                linked[index].add(other)
    while True:
        grown = [set().union(*(linked[other] for other in each)) for each in linked]
        if grown == linked:
            break
        linked = grown
    return [[_directed(rows[other], [rows[each] for each in call]) for other in sorted(call)] for call in linked]


def _are_joined(rows: list[Row], value: int, one: int, other: int) -> bool:
    """Say whether two rows share a value, with no longer gap between the starts of the rows that have it."""
    starts = sorted(row.start for row in rows if value in row.joins and row.start != NO_START)
    between = sorted((rows[one].start, rows[other].start))
    if value not in rows[other].joins or NO_START in between:
        return False
    inside = [start for start in starts if between[0] <= start <= between[1]]
    return all(late - early <= JOIN_SECONDS for early, late in pairwise(inside))


def _directed(row: Row, call: list[Row]) -> Row:
    leading = [each.rank for each in call if not each.secondary]
    if (row.secondary or row.rank >= Rank.UNDIRECTED) and Rank.CAME_IN in leading:
        row = replace(row, rank=Rank.CAME_IN)
    elif row.secondary and Rank.STAYED_INSIDE in leading:
        row = replace(row, rank=Rank.STAYED_INSIDE)
    if row.rank is Rank.UNDIRECTED:
        row = replace(row, rank=Rank.PROBLEM)
    return replace(row, start=NO_START) if row.rank in (Rank.CAME_IN, Rank.STAYED_INSIDE) else row


def _fate(row: Row, call: list[Row]) -> Fate:
    row = next(each for each in call if each.place == row.place)
    problems = [each for each in call if each.rank >= Rank.PROBLEM]
    decided_by = max(problems, key=_strength) if problems else min(call, key=_strength)
    legs = sorted((each for each in call if each.rank is Rank.AGENT_LEG), key=_strength)
    start = min(each.start for each in call)
    return Fate(_decision(row, call), start, decided_by.place, legs[0].agent if legs else -1)


def _decision(row: Row, call: list[Row]) -> Decision:
    best = min(call, key=_strength)
    alike = [each for each in call if each.key == row.key and each.same != (0, 0)]
    if (
        row.rank in STATES
        and row in alike
        and all(len({each.same[place] for each in alike}) > 1 for place in (0, 1))
    ):
        return Decision.SHARED_ID
    if row.rank in _BY_THEMSELVES:
        return _BY_THEMSELVES[row.rank]
    if best.rank is Rank.INCOMING:
        return Decision.INCOMING if row.rank is Rank.INCOMING else Decision.OTHER_LEG
    if best.rank is Rank.ATTENDED:
        return Decision.ATTENDED if row.rank is Rank.ATTENDED else Decision.OTHER_LEG
    if best.rank in STATES:
        return _state_decision(row, call, best) if row.rank in STATES else Decision.OTHER_LEG
    return _ALONE[best.rank] if row is best else Decision.OTHER_LEG


def _state_decision(row: Row, call: list[Row], best: Row) -> Decision:
    states = [each for each in call if each.rank in STATES]
    if any(each.rank >= Rank.PROBLEM for each in call):
        return Decision.UNCLEAR_CALL
    if any(not each.legs and each.content != best.content for each in states):
        return Decision.CONFLICT
    if row is best:
        return Decision.CALL
    return Decision.DUPLICATE if row.content == best.content else Decision.OTHER_LEG


_BY_THEMSELVES = {
    Rank.PROBLEM: Decision.PROBLEM,
    Rank.CAME_IN: Decision.INCOMING,
    Rank.STAYED_INSIDE: Decision.INTERNAL,
    Rank.UNDIRECTED_ATTENDED: Decision.ATTENDED,
}
_ALONE = {
    Rank.CANCELLED: Decision.CANCELLED,
    Rank.OUR_SIDE: Decision.OUR_SIDE,
    Rank.IGNORE: Decision.NOT_FINAL,
    Rank.AGENT_LEG: Decision.AGENT_LEG,
}

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
def test_resolve(rows: list[Row]) -> None:
    """Every row is decided as the model decides it."""
    assert _resolved(rows) == _model(rows)


@given(INPUTS, st.randoms(use_true_random=False))
def test_resolve_order(rows: list[Row], random: Random) -> None:
    """The order in which rows are read changes no row's decision."""
    shuffled = random.sample(range(len(rows)), len(rows))
    fates = _resolved(rows)
    assert _resolved([rows[index] for index in shuffled]) == [fates[index] for index in shuffled]


@given(INPUTS)
def test_one_call(rows: list[Row]) -> None:
    """The rows of one key make one call at most."""
    calls = [row.key for row, fate in zip(rows, _resolved(rows), strict=True) if fate.decision is Decision.CALL]
    assert len(calls) == len(set(calls))


@given(INPUTS)
def test_every_call_is_accounted_for(rows: list[Row]) -> None:
    """A key with a row of a state gives a call, or a row that is incoming, attended, a problem or in conflict."""
    reasons = {*Decision} - {*_ALONE.values(), Decision.OTHER_LEG, Decision.DUPLICATE, Decision.UNCLEAR_CALL}
    rows = [replace(row, joins=()) for row in rows]
    told = {row.key for row, fate in zip(rows, _resolved(rows), strict=True) if fate.decision in reasons}
    assert {row.key for row in rows if row.rank in STATES} <= told


def test_resolve_nothing() -> None:
    """An input without rows is resolved to nothing."""
    assert _resolved([]) == []


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


# The rules one by one


@table("rank", [rank for rank in Rank if Rank.ATTENDED < rank < Rank.CAME_IN])
def test_attended_beats(rank: Rank) -> None:
    """A call with one attended row is attended, whatever its other rows say."""
    assert _decisions([Row(1, rank, 1), Row(1, Rank.ATTENDED, 2)]) == [Decision.OTHER_LEG, Decision.ATTENDED]


@table("rank", [rank for rank in Rank if Rank.INCOMING < rank < Rank.CAME_IN])
def test_incoming_beats(rank: Rank) -> None:
    """A call that one row makes an incoming one is nothing to notify, even if another was attended."""
    assert _decisions([Row(1, rank, 1), Row(1, Rank.INCOMING, 2)]) == [Decision.OTHER_LEG, Decision.INCOMING]


@table(("better", "worse"), [*zip(STATES, [*STATES[1:], Rank.OUR_SIDE], strict=True)])
def test_best_evidence(better: Rank, worse: Rank) -> None:
    """The best evidence is the call, in the order of the contract; the rest are other legs."""
    assert _decisions([Row(1, worse, 1), Row(1, better, 2)]) == [Decision.OTHER_LEG, Decision.CALL]


def test_secondary_loses() -> None:
    """Of equal evidence a secondary row loses, even if it began earlier."""
    rows = [Row(1, Rank.BUSY, 1, start=5, secondary=True), Row(1, Rank.BUSY, 2, start=9)]
    assert _decisions(rows) == [Decision.OTHER_LEG, Decision.CALL]


def test_secondary_with_better_evidence() -> None:
    """Better evidence wins even from a secondary row."""
    rows = [Row(1, Rank.BUSY, 1, secondary=True), Row(1, Rank.NOANSWER, 2)]
    assert _decisions(rows) == [Decision.CALL, Decision.OTHER_LEG]


def test_duplicate() -> None:
    """Of equal rows the first in the input is the call and the others are duplicates."""
    assert _decisions([Row(1, Rank.BUSY, 7)] * 3) == [Decision.CALL, Decision.DUPLICATE, Decision.DUPLICATE]


def test_duplicate_across_files() -> None:
    """A row of the second file is the duplicate, even if its line number is lower."""
    rows = [Row(1, Rank.BUSY, 7, place=LINES_PER_FILE + 2), Row(1, Rank.BUSY, 7, place=900)]
    assert [fate.decision for fate in _resolved(rows)] == [Decision.DUPLICATE, Decision.CALL]


def test_contradiction() -> None:
    """Where a call is one row, rows that differ are all in conflict, their duplicates too."""
    contents = [7, 8, 7]
    rows = [Row(1, Rank.BUSY, content, legs=False) for content in contents]
    assert _decisions(rows) == [Decision.CONFLICT] * 3


def test_contradiction_of_evidence() -> None:
    """Where a call is one row, two states are a contradiction and no legs."""
    rows = [Row(1, Rank.BUSY, 7, legs=False), Row(1, Rank.NOANSWER, 8, legs=False)]
    assert _decisions(rows) == [Decision.CONFLICT] * 2


def test_contradicting_attended() -> None:
    """Where a call is one row, an attended row still beats a state: nothing is sent."""
    rows = [Row(1, Rank.BUSY, 7, legs=False), Row(1, Rank.ATTENDED, 8, legs=False)]
    assert _decisions(rows) == [Decision.OTHER_LEG, Decision.ATTENDED]


def test_unclear_call() -> None:
    """A row not understood keeps every state row of its call from being sent."""
    rows = [Row(1, Rank.BUSY, 1), Row(1, Rank.PROBLEM, 2), Row(1, Rank.NOANSWER, 3)]
    assert _decisions(rows) == [Decision.UNCLEAR_CALL, Decision.PROBLEM, Decision.UNCLEAR_CALL]


def test_unclear_call_attended() -> None:
    """A call that was attended is no less so for a row not understood."""
    rows = [Row(1, Rank.BUSY, 1), Row(1, Rank.PROBLEM, 2), Row(1, Rank.ATTENDED, 3)]
    assert _decisions(rows) == [Decision.OTHER_LEG, Decision.PROBLEM, Decision.ATTENDED]


def test_problem_elsewhere() -> None:
    """A row not understood says nothing of other calls."""
    assert _decisions([Row(1, Rank.BUSY), Row(2, Rank.PROBLEM)]) == [Decision.CALL, Decision.PROBLEM]


@table(("rank", "decision"), list(_ALONE.items()))
def test_nothing_of_the_customer(rank: Rank, decision: Decision) -> None:
    """A call without any state is skipped once under its reason, its other rows as legs."""
    assert _decisions([Row(1, rank, 7), Row(1, rank, 7)]) == [decision, Decision.OTHER_LEG]
    assert decision in SKIPPED_FOR


@table("rank", [rank for rank in Rank if rank not in (Rank.CAME_IN, Rank.STAYED_INSIDE)])
def test_start(rank: Rank) -> None:
    """A call begins with the earliest of its rows that has a time, whatever that row says."""
    rows = _placed([Row(1, Rank.BUSY, start=50), Row(1, rank, 1, start=40), Row(1, Rank.NOANSWER, 2)])
    assert [fate.start for fate in _resolved(rows)] == [40] * 3


def test_start_unknown() -> None:
    """A call none of whose rows has a time has none."""
    assert _resolved([Row(1, Rank.BUSY)])[0].start == NO_START


def test_row_that_decides_a_call() -> None:
    """The row taken for the call decides it."""
    rows = _placed([Row(1, Rank.NOANSWER, 1), Row(1, Rank.BUSY, 2), Row(1, Rank.BUSY, 2)])
    assert [fate.decided_by for fate in _resolved(rows)] == [3, 3, 3]


def test_row_that_makes_a_call_unclear() -> None:
    """The row not understood decides an unclear call."""
    rows = _placed([Row(1, Rank.BUSY, 1), Row(1, Rank.PROBLEM, 2)])
    assert [fate.decided_by for fate in _resolved(rows)] == [3, 3]


def test_leg_agent() -> None:
    """An agent's own leg names the agent for all rows of its call and of no other."""
    rows = _placed([Row(1, Rank.BUSY, agent=4), Row(1, Rank.AGENT_LEG, 1, agent=9), Row(2, Rank.BUSY, agent=5)])
    assert [fate.leg_agent for fate in _resolved(rows)] == [9, 9, -1]


def test_leg_agent_of_two() -> None:
    """Of several legs of agents the earliest names the agent, wherever it stands."""
    rows = [Row(1, Rank.AGENT_LEG, 1, start=50, agent=9), Row(1, Rank.AGENT_LEG, 2, start=40, agent=3)]
    assert [fate.leg_agent for fate in _resolved(_placed(rows))] == [3, 3]


def test_keys_that_share_a_half() -> None:
    """Calls are told apart by both halves of their key."""
    keys = [1, 1 << 64, (1 << 64) + 1]
    assert _decisions([Row(key, Rank.BUSY) for key in keys]) == [Decision.CALL] * 3


def test_joined_call() -> None:
    """Rows that share the name of a channel are one call, which has the key of its earliest row of a state."""
    rows = _placed(
        [
            Row(1, Rank.OUR_SIDE, 1, start=10, joins=(7,)),
            Row(2, Rank.NOANSWER, 2, start=20, joins=(7, 8)),
            Row(3, Rank.BUSY, 3, start=30, secondary=True, joins=(8,)),
        ]
    )
    assert _decisions(rows) == [Decision.OTHER_LEG, Decision.OTHER_LEG, Decision.CALL]
    assert _found(rows)["named_by"].tolist() == [-1, -1, 3]
    assert [fate.start for fate in _resolved(rows)] == [10] * 3


def test_joined_call_that_the_ledger_holds() -> None:
    """A joined call keeps the key under which the ledger holds it, although a better row has come since."""
    rows = [Row(1, Rank.BUSY, 1, start=30, secondary=True, held=True, joins=(7,))]
    rows = _placed([*rows, Row(2, Rank.BUSY, 2, start=20, joins=(7,))])
    assert _found(rows)["named_by"].tolist() == [-1, rows[0].place]


def test_joined_only_within_hours() -> None:
    """A channel of the same name hours later is another call: Asterisk numbers them anew when it starts."""
    late = JOIN_SECONDS + 1
    rows = [Row(1, Rank.BUSY, 1, start=0, joins=(7,)), Row(2, Rank.ATTENDED, 2, start=late, joins=(7,))]
    assert _decisions(rows) == [Decision.CALL, Decision.ATTENDED]


def test_undirected() -> None:
    """A row of unknown direction came in where another of its call did; else it is a problem, if not attended."""
    rows = [
        Row(1, Rank.UNDIRECTED),
        Row(1, Rank.CAME_IN),
        Row(2, Rank.UNDIRECTED),
        Row(3, Rank.UNDIRECTED_ATTENDED),
    ]
    assert _decisions(rows) == [Decision.INCOMING, Decision.INCOMING, Decision.PROBLEM, Decision.ATTENDED]


def test_came_in_decides_for_undirected_only() -> None:
    """An outgoing row beside one that came in, as after a transfer, is a call of its own start."""
    rows = _placed([Row(1, Rank.BUSY, 1, start=20), Row(1, Rank.CAME_IN, 2, start=10)])
    assert [fate.decision for fate in _resolved(rows)] == [Decision.CALL, Decision.INCOMING]
    assert [fate.start for fate in _resolved(rows)] == [20, 20]


def test_secondary_goes_with_its_call() -> None:
    """A secondary row came in, or stayed inside, with a row of its call that did and is not secondary itself."""
    rows = [
        Row(1, Rank.BUSY, secondary=True),
        Row(1, Rank.STAYED_INSIDE),
        Row(1, Rank.CAME_IN),
        Row(2, Rank.BUSY, secondary=True),
        Row(2, Rank.STAYED_INSIDE),
        Row(3, Rank.BUSY, secondary=True),
        Row(3, Rank.CAME_IN, secondary=True),
    ]
    expected = ["INCOMING", "INTERNAL", "INCOMING", "INTERNAL", "INTERNAL", "CALL", "INCOMING"]
    assert [decision.name for decision in _decisions(rows)] == expected


def test_shared_id() -> None:
    """Rows with one id, but of other channels and customers, are rejected; an attended one hides none of them."""
    rows = [
        Row(1, Rank.ATTENDED, 1, same=(1, 1)),
        Row(1, Rank.NOANSWER, 2, same=(2, 2)),
        Row(2, Rank.NOANSWER, 3, same=(3, 3)),
        Row(2, Rank.ATTENDED, 4, same=(4, 3)),
    ]
    decisions = [Decision.ATTENDED, Decision.SHARED_ID, Decision.OTHER_LEG, Decision.ATTENDED]
    assert _decisions(rows) == decisions
