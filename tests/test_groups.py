"""Groups: what becomes of every row by the rules, wherever the rows stand."""

from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from importer.prepare.groups import (
    INDEX_ROW,
    INDEX_ROWS,
    JOIN,
    JOIN_SECONDS,
    LINES_PER_FILE,
    NO_START,
    Decision,
    Index,
    Rank,
    Rows,
)
from schemas.vocabulary import LONGEST_CALL_SECONDS

STATES = tuple(map(Rank, range(Rank.BUSY, Rank.OUR_SIDE_COUNTED + 1)))
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
    index["key"], index["slot"] = halves.astype(">u8").view("S16").ravel(), np.arange(len(rows))
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
    """Each rule holds: rows as key, rank, content and what else matters, then a column and its values."""
    text = (Path(__file__).parent / "cases/groups.txt").read_text(encoding="utf-8").replace("\n->", " ->")
    text = text.replace("DAYS", str(LONGEST_CALL_SECONDS + 1)).replace("NONE", str(NO_START))
    text = text.replace("LATE", str(JOIN_SECONDS + 1)).replace("NEXT", str(LINES_PER_FILE + 2))
    for rule in (line for line in text.split("\n") if line and not line.startswith("#")):
        rows, *columns = rule.split(" -> ")
        found = _found([_row(line, row) for line, row in enumerate(rows.split(" | "), 2)])
        for name, *values in map(str.split, columns):
            said = found[name].tolist()
            assert [Decision(each).name if name == "decision" else str(each) for each in said] == values, rule
