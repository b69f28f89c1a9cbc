"""Conditions of a format on text columns: what holds, what is taken out of a cell, and how long seconds are."""

import math
import re

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import table
from importer.formats.language import Source
from importer.formats.language import Test as Condition
from importer.reading.conditions import Conditions, Extensions, extracted, joined, seconds_of

EXTENSIONS = Extensions(r"\d{2,5}", frozenset({"emma", "7001234"}))
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\x1f"), max_size=6)


def _column(*cells: str) -> pd.Series:
    return pd.Series(list(cells), dtype="str")


# Conditions


@table(
    ("condition", "holding", "others"),
    [
        # A cell is one of the words as a whole, without regard to letter case in any language.
        ({"any_of": ["Busy", "no answer"]}, ("busy", "BUSY"), ("busy ", "busy signal", "")),
        ({"any_of": "busy"}, ("busy",), ("",)),
        ({"any_of": ["", "busy"]}, ("",), ()),
        ({"any_of": "größe AUßERHALB"}, ("Größe außerhalb",), ()),
        ({"any_of": "échec"}, ("ÉCHEC",), ()),
        # A regular expression speaks of the whole cell, in letter case.
        ({"matches": "SIP/.*"}, ("SIP/105",), ("xSIP/105", "sip/105")),
        ({"matches": "busy|gone"}, ("busy", "gone"), ("busyx", "xgone", "busy\n", "busy\ngone")),
        ({"matches": ""}, ("",), ("x",)),
        ({"matches": r"a\(b"}, ("a(b",), ()),
        # A cell is empty when it has no text at all.
        ({"empty": True}, ("",), ("0", "x")),
        ({"empty": False}, ("0", "x"), ("",)),
        # An extension looks like one in this format, or stands in the agents file in whatever letter case.
        ({"extension": True}, ("105", "12345", "Emma", "7001234"), ("123456", "1", "")),
        ({"extension": False}, ("123456", "1", ""), ("105", "12345", "Emma", "7001234")),
        # A duration is over so many seconds only if it is known to be.
        ({"over": 10}, ("10.5", "00:00:11"), ("0", "10", "", "long")),
        # Every part of a condition must hold.
        ({"extension": True, "matches": "1.*", "any_of": ["105", "205"]}, ("105",), ("205", "106")),
    ],
)
def test_condition(condition: dict[str, object], holding: tuple[str, ...], others: tuple[str, ...]) -> None:
    """Each condition holds for its cells and for no others; a frame without rows answers with no flags."""
    for cells in ((*holding, *others), ()):
        conditions = Conditions(pd.DataFrame({"cell": _column(*cells)}), EXTENSIONS)
        holds = conditions.hold({"cell": Condition.model_validate(condition)}).tolist()
        assert holds == [cell in holding for cell in cells]


def test_all_columns() -> None:
    """Every column's condition must hold, row by row; none at all holds always, and an answer given once stays."""
    frame = pd.DataFrame({"a": _column("x", "x", "y"), "b": _column("1", "", "1")})
    conditions = Conditions(frame, EXTENSIONS)
    tests = {"a": Condition(any_of=("x",)), "b": Condition(empty=False)}
    first = conditions.hold(tests)
    assert first.tolist() == [True, False, False]
    first &= False
    assert conditions.hold(tests).tolist() == [True, False, False]
    assert conditions.hold({}).tolist() == [True, True, True]


@given(st.lists(TEXTS, max_size=8), TEXTS)
def test_any_of_any_text(cells: list[str], word: str) -> None:
    """A word written as in the cell is always found, in a column of any text."""
    frame = pd.DataFrame({"a": _column(*cells, word)})
    assert Conditions(frame, EXTENSIONS).hold({"a": Condition(any_of=(word,))})[-1]


# Values


@table(
    ("pattern", "values"),
    [
        (r"^Ext\.(.+)$", {"Ext.105": "105", "105": ""}),
        (r"\((\d+)\)", {"Emma (105)": "105"}),
        (r"^(.*?) *\([^()]*\)$", {"Emma (105)": "Emma"}),
        ("^(?:SIP|PJSIP)/([^-]+)-", {"SIP/105-0a": "105"}),
        ("(.*)", {"": ""}),
        (r"([0-9])", {"a1 b2": "1"}),
        ("^a(x)?b$", {"ab": ""}),
    ],
)
def test_extracted(pattern: str, values: dict[str, str]) -> None:
    """The one group of a pattern is taken out where it is first found; without a match the value is empty."""
    index = range(7, 7 + len(values))
    assert extracted(_column(*values).set_axis(index), pattern).to_dict() == dict(
        zip(index, values.values(), strict=True)
    )


@given(
    st.lists(st.text("S/x0af-A\u00e9\U0001f4de", max_size=8), max_size=8),
    st.sampled_from(
        (
            "^(?:S|x)/([^@/]+?)(?:@[^/]*)?-[0-9a-f]+$",
            "(S.*)-[0-9a-f]+$",
            "^(?:S|(.*))-[0-9a-f]+$",
            "^(S)|x-[0-9a-f]+$",
            "(?i)^(.*)-[0-9a-f]+$",
            "^(.*[0-9a-f])-?-[0-9a-f]+$",
            "^[^a0]*([a0]+)",
        )
    ),
)
def test_extracted_any_text(cells: list[str], pattern: str) -> None:
    """A group, also one before a serial number, is what Python's own regular expressions find in any text."""
    matches = [re.search(pattern, cell) for cell in cells]
    assert extracted(_column(*cells), pattern).tolist() == [(found[1] or "") if found else "" for found in matches]


def values_of(frame: pd.DataFrame, sources: tuple[Source, ...], extensions: Extensions) -> pd.Series:
    """Return the first value of the sources for each row."""
    return Conditions(frame, extensions).first_of(sources).text(frame.index)


def test_values_of() -> None:
    """The first source that has something gives the value, where its own condition holds; the columns stay."""
    cells = {"number": ["105", "9105", "", "9105"], "name": ["Emma", "Emma", "Ext.7", ""]}
    frame = pd.DataFrame(cells, index=[4, 9, 2, 5], dtype="str")
    sources = (
        Source(column="number", when={"number": {"extension": True}, "name": {"empty": False}}),
        Source(column="name", extract=r"^Ext\.(\d+)$"),
        Source(column="name", when={"name": {"matches": "[A-Z].*"}}),
    )
    before = frame.copy()
    assert values_of(frame, sources, Extensions(r"\d{3}")).to_dict() == {4: "105", 9: "Emma", 2: "7", 5: ""}
    pd.testing.assert_frame_equal(frame, before)


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=8))
def test_joined(rows: list[tuple[str, ...]]) -> None:
    """Cells joined come apart again as they were."""
    columns = [_column(*cells) for cells in zip(*rows, strict=True)]
    assert [tuple(text.split("\x1f")) for text in joined(columns)] == rows


# Seconds


@table(
    ("seconds", "texts"),
    [
        (0, ("0",)),
        (12, ("12", " 12 ", "0:12")),
        (12.75, ("12.75",)),
        (12.345, ("00:00:12.345",)),
        (45, ("45s",)),
        (65, ("00:01:05", "00:01'05", "0 days 00:01:05")),
        (75, ("1m 15s", "1m15s", "1min 15s")),
        (3600, ("1:00:00",)),
        (7200, ("2h",)),
        (7384, ("2h 3m 4s",)),
        (math.nan, ("", " ", "-1", "+5", "abc", "1:2", "12,5", "1e3", "nan", "inf", "::", "s", "1:2:3:4")),
        (math.nan, ("9" * 5000, "9" * 5000 + "s")),
    ],
)
def test_seconds_of(seconds: float, texts: tuple[str, ...]) -> None:
    """Durations are understood in the ways telephone systems write them; what is none has no seconds."""
    assert seconds_of(_column(*texts)).tolist() == [pytest.approx(seconds, nan_ok=True)] * len(texts)


@given(st.lists(st.integers(0, 99 * 3600), max_size=20))
def test_seconds_of_column(seconds: list[int]) -> None:
    """Each row has its own seconds, however often a text repeats, under its own index."""
    texts = [f"{each // 3600}:{each // 60 % 60:02}:{each % 60:02}" for each in seconds]
    values = pd.Series(texts, index=range(100, 100 + len(texts)), dtype="str")
    found = seconds_of(values)
    np.testing.assert_array_equal(found.to_numpy(), np.array(seconds, dtype=np.float64))
    assert found.index.equals(values.index)


@table(
    ("cell", "other", "taken"),
    [
        ("07700900142", "907700900142", "07700900142"),
        ("07700900142", "07700900142", ""),
        ("907700900142", "07700900142", ""),
        ("07700900142", "907700900143", ""),
        ("", "907700900142", ""),
        ("142", "", ""),
        ("\u0665", "9\u0665", "\u0665"),
    ],
)
def test_end_of(cell: str, other: str, taken: str) -> None:
    """A value that must end another cell is kept where that cell has something before it."""
    frame = pd.DataFrame({"cell": _column(cell, "x"), "other": _column(other, "y")})
    source = Source(column="cell", end_of="other")
    assert values_of(frame, (source,), EXTENSIONS).tolist() == [taken, ""]
