"""The list of faults and the tests that say they play them, held together."""

import ast
import tomllib
from collections import defaultdict
from collections.abc import Mapping

from conftest import ROOT

TESTS = ROOT / "tests"
LISTED = tomllib.loads((TESTS / "faults" / "matrix.toml").read_text(encoding="utf-8"))["faults"]
WHY_NOT = {each["number"]: each["why"] for each in LISTED if "why" in each}


def played() -> Mapping[int, list[str]]:
    """Return where each fault is played; a mark has at least one fault, each as a plain number."""
    places: dict[int, list[str]] = defaultdict(list)
    for path in sorted(TESTS.rglob("test_*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and ast.unparse(node.func) == "pytest.mark.fault":
                place = f"{path.relative_to(TESTS)}:{node.lineno}"
                assert node.args, f"{place} plays no fault"
                for number in node.args:
                    assert isinstance(number, ast.Constant), f"{place} is no plain number"
                    places[int(str(number.value))].append(place)
    return places


def test_every_fault_is_played() -> None:
    """Each fault of the list, from 1 without a gap, is played by a test, or the list says why none plays it."""
    assert [each["number"] for each in LISTED] == list(range(1, 158))
    assert len({each["gist"] for each in LISTED}) == len(LISTED)
    places = played()
    assert set(places) | set(WHY_NOT) == {each["number"] for each in LISTED}
    assert {number: places[number] for number in WHY_NOT if number in places} == {}
