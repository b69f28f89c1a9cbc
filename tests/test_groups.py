"""Groups: every row's decision against a plain model of the rules, wherever the rows stand."""

from dataclasses import dataclass, fields, replace
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from importer.prepare.groups import (
    LINES_PER_FILE,
    NO_START,
    SKIPPED_FOR,
    Decision,
    IndexRows,
    Rank,
    joined_rows,
    resolve,
)

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
    agent: int = 0
    legs: bool = True


@dataclass(frozen=True)
class Fate:
    """What `resolve` says of one row."""

    decision: Decision
    start: int
    witness: int
    leg_agent: int


def _index(rows: list[Row]) -> IndexRows:
    return IndexRows(
        key_high=np.array([row.key >> 64 for row in rows], dtype=np.uint64),
        key_low=np.array([row.key & LARGEST for row in rows], dtype=np.uint64),
        rank=np.array([row.rank for row in rows], dtype=np.uint8),
        secondary=np.array([row.secondary for row in rows], dtype=np.bool_),
        start=np.array([row.start for row in rows], dtype=np.int64),
        content=np.array([row.content for row in rows], dtype=np.uint64),
        place=np.array([row.place for row in rows], dtype=np.int64),
        agent=np.array([row.agent for row in rows], dtype=np.int32),
        legs=np.array([row.legs for row in rows], dtype=np.bool_),
    )


def _resolved(rows: list[Row]) -> list[Fate]:
    found = resolve(_index(rows))
    columns = (found.decision, found.start, found.witness, found.leg_agent)
    assert [len(column) for column in columns] == [len(rows)] * 4
    return [
        Fate(Decision(decision), start, witness, agent)
        for decision, start, witness, agent in zip(*(column.tolist() for column in columns), strict=True)
    ]


def _decisions(rows: list[Row]) -> list[Decision]:
    return [fate.decision for fate in _resolved(_placed(rows))]


def _placed(rows: list[Row]) -> list[Row]:
    """Return the rows on the lines from 2 on."""
    return [replace(row, place=line) for line, row in enumerate(rows, 2)]


# The model


def _strength(row: Row) -> tuple[int, bool, int, int, int]:
    return row.rank, row.secondary, row.start, row.content, row.place


def _model(rows: list[Row]) -> list[Fate]:
    return [_fate(row, [other for other in rows if other.key == row.key]) for row in rows]


def _fate(row: Row, call: list[Row]) -> Fate:
    problems = [each for each in call if each.rank is Rank.PROBLEM]
    witness = max(problems, key=_strength) if problems else min(call, key=_strength)
    legs = sorted((each for each in call if each.rank is Rank.AGENT_LEG), key=_strength)
    start = min(each.start for each in call)
    return Fate(_decision(row, call), start, witness.place, legs[0].agent if legs else -1)


def _decision(row: Row, call: list[Row]) -> Decision:
    best = min(call, key=_strength)
    if row.rank is Rank.PROBLEM:
        return Decision.PROBLEM
    if best.rank is Rank.INCOMING:
        return Decision.INCOMING if row.rank is Rank.INCOMING else Decision.OTHER_LEG
    if best.rank is Rank.ATTENDED:
        return Decision.ATTENDED if row.rank is Rank.ATTENDED else Decision.OTHER_LEG
    if best.rank in STATES:
        return _state_decision(row, call, best) if row.rank in STATES else Decision.OTHER_LEG
    return _ALONE[best.rank] if row is best else Decision.OTHER_LEG


def _state_decision(row: Row, call: list[Row], best: Row) -> Decision:
    states = [each for each in call if each.rank in STATES]
    if any(each.rank is Rank.PROBLEM for each in call):
        return Decision.UNCLEAR_CALL
    if any(not each.legs and each.content != best.content for each in states):
        return Decision.CONFLICT
    if row is best:
        return Decision.CALL
    return Decision.DUPLICATE if row.content == best.content else Decision.OTHER_LEG


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
    start=st.sampled_from([-1, 0, 1_772_442_847, NO_START]),
    secondary=st.booleans(),
    agent=st.integers(0, 3),
    legs=st.booleans(),
)
PLACES = st.integers(0, 3 * LINES_PER_FILE)
INPUTS = st.lists(ROWS, max_size=14).flatmap(
    lambda rows: st.lists(PLACES, min_size=len(rows), max_size=len(rows), unique=True).map(
        lambda places: [replace(row, place=place) for row, place in zip(rows, places, strict=True)]
    )
)


@settings(deadline=None)
@given(INPUTS)
def test_resolve(rows: list[Row]) -> None:
    """Every row is decided as the model decides it."""
    assert _resolved(rows) == _model(rows)


@settings(deadline=None)
@given(INPUTS, st.randoms(use_true_random=False))
def test_resolve_order(rows: list[Row], random: Random) -> None:
    """The order in which rows are read changes no row's decision."""
    shuffled = random.sample(range(len(rows)), len(rows))
    fates = _resolved(rows)
    assert _resolved([rows[index] for index in shuffled]) == [fates[index] for index in shuffled]


@settings(deadline=None)
@given(INPUTS)
def test_one_call(rows: list[Row]) -> None:
    """The rows of one key make one call at most."""
    calls = [row.key for row, fate in zip(rows, _resolved(rows), strict=True) if fate.decision is Decision.CALL]
    assert len(calls) == len(set(calls))


@settings(deadline=None)
@given(INPUTS)
def test_every_call_is_accounted_for(rows: list[Row]) -> None:
    """A key with a row of a state gives a call, or a row that is incoming, attended, a problem or in conflict."""
    reasons = (Decision.CALL, Decision.INCOMING, Decision.ATTENDED, Decision.PROBLEM, Decision.CONFLICT)
    told = {row.key for row, fate in zip(rows, _resolved(rows), strict=True) if fate.decision in reasons}
    assert {row.key for row in rows if row.rank in STATES} <= told


def test_joined_rows() -> None:
    """Parts joined are resolved as if they had been one, in their order."""
    rows = _placed([Row(1, Rank.BUSY), Row(2, Rank.NOANSWER), Row(1, Rank.ATTENDED), Row(2, Rank.BUSY)])
    parts = joined_rows([_index(rows[:1]), _index([]), _index(rows[1:])])
    for field in fields(IndexRows):
        np.testing.assert_array_equal(getattr(parts, field.name), getattr(_index(rows), field.name))


def test_resolve_nothing() -> None:
    """An input without rows is resolved to nothing."""
    assert _resolved([]) == []


# The rules one by one


@pytest.mark.parametrize("rank", [rank for rank in Rank if Rank.ATTENDED < rank < Rank.PROBLEM])
def test_attended_beats(rank: Rank) -> None:
    """A call with one attended row is attended, whatever its other rows say."""
    assert _decisions([Row(1, rank, 1), Row(1, Rank.ATTENDED, 2)]) == [Decision.OTHER_LEG, Decision.ATTENDED]


@pytest.mark.parametrize("rank", [rank for rank in Rank if Rank.INCOMING < rank < Rank.PROBLEM])
def test_incoming_beats(rank: Rank) -> None:
    """A call that one row makes an incoming one is nothing to notify, even if another was attended."""
    assert _decisions([Row(1, rank, 1), Row(1, Rank.INCOMING, 2)]) == [Decision.OTHER_LEG, Decision.INCOMING]


@pytest.mark.parametrize(("better", "worse"), [*zip(STATES, [*STATES[1:], Rank.OUR_SIDE], strict=True)])
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


@pytest.mark.parametrize(("rank", "decision"), list(_ALONE.items()))
def test_nothing_of_the_customer(rank: Rank, decision: Decision) -> None:
    """A call without any state is skipped once under its reason, its other rows as legs."""
    assert _decisions([Row(1, rank, 7), Row(1, rank, 7)]) == [decision, Decision.OTHER_LEG]
    assert decision in SKIPPED_FOR


@pytest.mark.parametrize("rank", Rank)
def test_start(rank: Rank) -> None:
    """A call begins with the earliest of its rows that has a time, whatever that row says."""
    rows = _placed([Row(1, Rank.BUSY, start=50), Row(1, rank, 1, start=40), Row(1, Rank.NOANSWER, 2)])
    assert [fate.start for fate in _resolved(rows)] == [40] * 3


def test_start_unknown() -> None:
    """A call none of whose rows has a time has none."""
    assert _resolved([Row(1, Rank.BUSY)])[0].start == NO_START


def test_witness_of_call() -> None:
    """The witness of a decision is the place of the row taken for the call."""
    rows = _placed([Row(1, Rank.NOANSWER, 1), Row(1, Rank.BUSY, 2), Row(1, Rank.BUSY, 2)])
    assert [fate.witness for fate in _resolved(rows)] == [3, 3, 3]


def test_witness_of_unclear_call() -> None:
    """The witness of an unclear call is the place of the row not understood."""
    rows = _placed([Row(1, Rank.BUSY, 1), Row(1, Rank.PROBLEM, 2)])
    assert [fate.witness for fate in _resolved(rows)] == [3, 3]


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
