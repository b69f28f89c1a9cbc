"""Conditions of a format on text columns: what holds, what is taken out of a cell, and how long seconds are."""

import math
import re

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import cases, table
from importer.formats.language import Source
from importer.formats.language import Test as Condition
from importer.reading.conditions import Conditions, Extensions, seconds_of

CASES = cases("conditions")

EXTENSIONS = Extensions(r"\d{2,5}", frozenset({"emma", "7001234"}))


def _column(*cells: str) -> pd.Series:
    return pd.Series(list(cells), dtype="str")


@table(("condition", "holding", "others"), CASES["conditions"])
def test_condition(condition: dict[str, object], holding: tuple[str, ...], others: tuple[str, ...]) -> None:
    """Each condition holds for its cells and for no others; a frame without rows answers with no flags."""
    for cells in ((*holding, *others), ()):
        conditions = Conditions(pd.DataFrame({"cell": _column(*cells)}), EXTENSIONS)
        holds = conditions.hold({"cell": Condition.model_validate(condition)}).tolist()
        assert holds == [cell in holding for cell in cells]


def extracted(cells: list[str], pattern: str) -> list[str]:
    """Return what a pattern takes out of the cells of a column."""
    frame = pd.DataFrame({"cell": _column(*cells)})
    conditions = Conditions(frame, EXTENSIONS, {"value": (Source(column="cell", extract=pattern),)})
    return conditions.column("value").text(frame.index).tolist()


@table(("pattern", "values"), CASES["extracted"])
def test_extracted(pattern: str, values: dict[str, str]) -> None:
    """The one group of a pattern is taken out where it is first found; without a match the value is empty."""
    assert extracted([*values], pattern) == [*values.values()]


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
    assert extracted(cells, pattern) == [(found[1] or "") if found else "" for found in matches]


@table(("seconds", "texts"), [*CASES["seconds"], (math.nan, ("9" * 5000, "9" * 5000 + "s"))])
def test_seconds_of(seconds: float, texts: tuple[str, ...]) -> None:
    """Durations are understood in the ways telephone systems write them; what is none has no seconds."""
    assert seconds_of(_column(*texts)).tolist() == [pytest.approx(seconds, nan_ok=True)] * len(texts)
