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
from importer.reading import Conditions, Extensions
from importer.reading.conditions import arrow_of, extracted, joined, seconds_of, text_series

EXTENSIONS = Extensions(r"\d{2,5}", frozenset({"emma", "7001234"}))
TEXTS = st.text(st.characters(exclude_categories=("Cs",), exclude_characters="\0\x1f"), max_size=6)


def _column(*cells: str) -> pd.Series:
    return pd.Series(list(cells), dtype="str")


def _holds(cell: str, **parts: object) -> bool:
    frame = pd.DataFrame({"cell": _column(cell)})
    return bool(Conditions(frame, EXTENSIONS).hold({"cell": Condition.model_validate(parts)})[0])


# Conditions


@table(
    ("cell", "words", "holds"),
    [
        ("busy", "busy", True),
        ("BUSY", ["no answer", "Busy"], True),
        ("busy ", "busy", False),
        ("busy signal", "busy", False),
        ("", "busy", False),
        ("", ["", "busy"], True),
        ("Größe außerhalb", "größe AUßERHALB", True),
        ("ÉCHEC", "échec", True),
    ],
)
def test_any_of(cell: str, words: str | list[str], holds: bool) -> None:
    """A cell is one of the words as a whole, without regard to letter case in any language."""
    assert _holds(cell, any_of=words) is holds


@table(
    ("cell", "pattern", "holds"),
    [
        ("SIP/105", "SIP/.*", True),
        ("xSIP/105", "SIP/.*", False),
        ("sip/105", "SIP/.*", False),
        ("busyx", "busy|gone", False),
        ("xgone", "busy|gone", False),
        ("busy\n", "busy", False),
        ("busy\ngone", "busy", False),
        ("", "", True),
        ("a(b", r"a\(b", True),
    ],
)
def test_matches(cell: str, pattern: str, holds: bool) -> None:
    """A regular expression speaks of the whole cell, in letter case."""
    assert _holds(cell, matches=pattern) is holds


@table(("cell", "empty"), [("", True), ("0", False), ("x", False)])
def test_empty(cell: str, empty: bool) -> None:
    """A cell is empty when it has no text at all."""
    assert (_holds(cell, empty=True), _holds(cell, empty=False)) == (empty, not empty)


@table(
    ("cell", "extension"),
    [
        ("105", True),
        ("12345", True),
        ("123456", False),
        ("1", False),
        ("Emma", True),
        ("7001234", True),
        ("", False),
    ],
)
def test_extension(cell: str, extension: bool) -> None:
    """An extension looks like one in this format, or stands in the agents file in whatever letter case."""
    assert (_holds(cell, extension=True), _holds(cell, extension=False)) == (extension, not extension)


@table(
    ("cell", "holds"),
    [("0", False), ("10", False), ("10.5", True), ("00:00:11", True), ("", False), ("long", False)],
)
def test_over(cell: str, holds: bool) -> None:
    """A duration is over so many seconds only if it is known to be."""
    assert _holds(cell, over=10) is holds


def test_all_parts() -> None:
    """Every part of a condition must hold."""
    assert _holds("105", extension=True, matches="1.*", any_of=["105"])
    assert not _holds("105", extension=True, matches="2.*", any_of=["105"])


def test_all_columns() -> None:
    """Every column's condition must hold, row by row."""
    frame = pd.DataFrame({"a": _column("x", "x", "y"), "b": _column("1", "", "1")})
    conditions = Conditions(frame, EXTENSIONS)
    tests = {"a": Condition(any_of=("x",)), "b": Condition(empty=False)}
    assert conditions.hold(tests).tolist() == [True, False, False]


def test_no_condition() -> None:
    """No condition at all holds for every row."""
    assert Conditions(pd.DataFrame({"a": _column("x", "")}), EXTENSIONS).hold({}).tolist() == [True, True]


def test_conditions_stay() -> None:
    """An answer given once is not changed by the conditions asked with it."""
    conditions = Conditions(pd.DataFrame({"a": _column("x", "y")}), EXTENSIONS)
    both = {"a": Condition(empty=False)}
    first = conditions.hold(both)
    first &= False
    assert conditions.hold(both).tolist() == [True, True]


@table("test", [Condition(any_of=("x",)), Condition(matches="x"), Condition(extension=True), Condition(over=1)])
def test_no_rows(test: Condition) -> None:
    """A frame without rows answers with no flags."""
    assert len(Conditions(pd.DataFrame({"a": _column()}), EXTENSIONS).hold({"a": test})) == 0


@given(st.lists(TEXTS, max_size=8), TEXTS)
def test_any_of_any_text(cells: list[str], word: str) -> None:
    """A word written as in the cell is always found, in a column of any text."""
    frame = pd.DataFrame({"a": _column(*cells, word)})
    assert Conditions(frame, EXTENSIONS).hold({"a": Condition(any_of=(word,))})[-1]


# Values


@table(
    ("cell", "pattern", "value"),
    [
        ("Ext.105", r"^Ext\.(.+)$", "105"),
        ("Emma (105)", r"\((\d+)\)", "105"),
        ("Emma (105)", r"^(.*?) *\([^()]*\)$", "Emma"),
        ("SIP/105-0a", "^(?:SIP|PJSIP)/([^-]+)-", "105"),
        ("105", r"^Ext\.(.+)$", ""),
        ("", "(.*)", ""),
        ("a1 b2", r"([0-9])", "1"),
        ("ab", "^a(x)?b$", ""),
    ],
)
def test_extracted(cell: str, pattern: str, value: str) -> None:
    """The one group of a pattern is taken out where it is first found; without a match the value is empty."""
    assert extracted(_column(cell), pattern).tolist() == [value]


@given(st.lists(TEXTS, max_size=8))
def test_extracted_any_text(cells: list[str]) -> None:
    """A group is taken out of any text as Python's own regular expressions do."""
    pattern = "^[^a0]*([a0]+)"
    matches = [re.search(pattern, cell) for cell in cells]
    assert extracted(_column(*cells), pattern).tolist() == [found[1] if found else "" for found in matches]


@given(
    st.lists(st.text("S/x0af-A", max_size=8), max_size=8),
    st.sampled_from(
        (
            "^(?:S|x)/([^@/]+?)(?:@[^/]*)?-[0-9a-f]+$",
            "(S.*)-[0-9a-f]+$",
            "^(?:S|(.*))-[0-9a-f]+$",
            "^(S)|x-[0-9a-f]+$",
            "(?i)^(.*)-[0-9a-f]+$",
            "^(.*[0-9a-f])-?-[0-9a-f]+$",
        )
    ),
)
def test_extracted_before_a_serial_number(cells: list[str], pattern: str) -> None:
    """A group before a serial number is what Python's own regular expressions find, whatever the pattern."""
    matches = [re.search(pattern, cell) for cell in cells]
    assert extracted(_column(*cells), pattern).tolist() == [(found[1] or "") if found else "" for found in matches]


def test_extracted_index() -> None:
    """Values stay with their rows, whatever these are numbered."""
    values = _column("Ext.1", "x").set_axis([7, 3])
    assert extracted(values, r"^Ext\.(.+)$").to_dict() == {7: "1", 3: ""}


def values_of(frame: pd.DataFrame, sources: tuple[Source, ...], extensions: Extensions) -> pd.Series:
    """Return the first value of the sources for each row."""
    return Conditions(frame, extensions).first_of(sources).text(frame.index)


def test_values_of() -> None:
    """The first source that has something gives the value, each only where its own condition holds."""
    cells = {"number": ["105", "9105", "", "9105"], "name": ["Emma", "Emma", "Ext.7", ""]}
    frame = pd.DataFrame(cells, index=[4, 9, 2, 5], dtype="str")
    sources = (
        Source(column="number", when={"number": {"extension": True}, "name": {"empty": False}}),
        Source(column="name", extract=r"^Ext\.(\d+)$"),
        Source(column="name", when={"name": {"matches": "[A-Z].*"}}),
    )
    assert values_of(frame, sources, Extensions(r"\d{3}")).to_dict() == {4: "105", 9: "Emma", 2: "7", 5: ""}


def test_values_of_is_pure() -> None:
    """Taking values leaves the columns they come from as they were."""
    frame = pd.DataFrame({"a": _column("", "x"), "b": _column("y", "z")})
    values_of(frame, (Source(column="a"), Source(column="b")), EXTENSIONS)
    assert frame["a"].tolist() == ["", "x"]


@given(st.lists(st.tuples(TEXTS, TEXTS, TEXTS), min_size=1, max_size=8))
def test_joined(rows: list[tuple[str, ...]]) -> None:
    """Cells joined come apart again as they were."""
    columns = [_column(*cells) for cells in zip(*rows, strict=True)]
    assert [tuple(text.split("\x1f")) for text in joined(columns)] == rows


@given(st.lists(TEXTS, max_size=8))
def test_text_series(cells: list[str]) -> None:
    """A column through Arrow and back is the same column of text."""
    values = _column(*cells)
    back = text_series(arrow_of(values), values.index)
    pd.testing.assert_series_equal(back, values)


# Seconds


@table(
    ("text", "seconds"),
    [
        ("0", 0),
        ("12", 12),
        (" 12 ", 12),
        ("12.75", 12.75),
        ("0:12", 12),
        ("00:01:05", 65),
        ("1:00:00", 3600),
        ("00:00:12.345", 12.345),
        ("00:01'05", 65),
        ("1m 15s", 75),
        ("1m15s", 75),
        ("1min 15s", 75),
        ("2h 3m 4s", 7384),
        ("45s", 45),
        ("2h", 7200),
    ],
)
def test_seconds_of(text: str, seconds: float) -> None:
    """Durations are understood in the ways telephone systems write them."""
    assert seconds_of(_column(text)).tolist() == [pytest.approx(seconds)]


@table(
    "text",
    [
        "",
        " ",
        "-1",
        "+5",
        "abc",
        "1:2",
        "12,5",
        "1e3",
        "nan",
        "inf",
        "::",
        "s",
        "9" * 5000,
        "9" * 5000 + "s",
        "1:2:3:4",
    ],
)
def test_no_seconds(text: str) -> None:
    """What is no duration has no seconds, and stops nothing."""
    assert math.isnan(seconds_of(_column(text))[0])


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
