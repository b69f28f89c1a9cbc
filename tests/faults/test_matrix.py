"""The list of faults and the tests that say they play them, held together."""

import ast
import tomllib
from collections import defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from conftest import ROOT

TESTS = ROOT / "tests"
LISTED = tomllib.loads((TESTS / "faults" / "matrix.toml").read_text(encoding="utf-8"))["faults"]
WHY_NOT = {each["number"]: each["why"] for each in LISTED if "why" in each}


def marked(path: Path) -> Iterator[tuple[int, str]]:
    """Yield the numbers that a file of tests plays, with the place of the mark; only numbers will do."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
            assert node.args, f"{path.name}:{node.lineno} plays no fault"
            for number in node.args:
                assert isinstance(number, ast.Constant), f"{path.name}:{node.lineno} is no plain number"
                yield int(str(number.value)), f"{path.relative_to(TESTS)}:{node.lineno}"


@pytest.fixture(scope="module")
def played() -> Mapping[int, list[str]]:
    """Return where each fault is played."""
    places: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for number, place in marked(path):
            places[number].append(place)
    return places


def test_list_is_whole() -> None:
    """The list counts from 1 without a gap, and no two faults are described alike."""
    assert [each["number"] for each in LISTED] == list(range(1, 158))
    assert len({each["gist"] for each in LISTED}) == len(LISTED)


def test_every_fault_is_played(played: Mapping[int, list[str]]) -> None:
    """Each fault is played by a test, or the list says why none plays it."""
    missing = [each for each in LISTED if each["number"] not in played and each["number"] not in WHY_NOT]
    assert missing == []


def test_no_excuse_outlives_its_reason(played: Mapping[int, list[str]]) -> None:
    """A fault that is played needs no excuse, and no test plays a fault that is not listed."""
    assert {number: played[number] for number in played if number in WHY_NOT} == {}
    assert set(played) <= {each["number"] for each in LISTED}
