"""Whose end is it: what the rows of a whole file prove of the names at both ends, whatever these look like."""

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from importer.prepare import no_agents
from samples import INPUTS, Result, detected, plan_for, prepared, sample_name

FAMILIES = ("asterisk-csv", "freepbx", "issabel", "freeswitch-csv", "freeswitch-sql", "3cx-", "yeastar-")
RENAMED = [path for path in INPUTS if sample_name(path).startswith(FAMILIES)]
ALWAYS = ("asterisk-csv/day.csv", "freepbx/26-columns.csv", "issabel/grid.csv", "freeswitch-csv/day.csv")
EXTENSION = re.compile(r"(?<![\w.+:-])1[0-9]{2}(?=\b)(?![:.]\d)")
TRUNK = re.compile(r"\b(?:trunk|carrier)-[a-z]\b")
IDS = ("uniqueid", "linkedid")


def renamed(text: str, digits: int, chance: random.Random) -> str:
    """Return an export whose extensions have so many digits, and whose trunks are named by digits too."""
    names: dict[str, str] = {}

    def name_of(found: re.Match[str], first: str, count: int) -> str:
        return names.setdefault(found[0], first + "".join(chance.choices("0123456789", k=count - 1)))

    text = EXTENSION.sub(lambda found: name_of(found, "2", digits), text)
    return TRUNK.sub(lambda found: name_of(found, "4", 5), text)


def without_ids(path: Path) -> Path:
    """Empty the ids of an export of Asterisk's in place."""
    found = detected(path)
    places = [found.positions[name] for name in IDS if name in found.positions and found.format.family]
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    for number, line in enumerate(lines[found.header_line or 0 :], start=found.header_line or 0):
        cells = re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', line)
        if len(cells) > max(places, default=0):
            lines[number] = ",".join("" if place in places else cell for place, cell in enumerate(cells))
    path.write_text("".join(lines), encoding="utf-8")
    return path


def sent(result: Result) -> Counter[tuple[str, str]]:
    """Return how often each customer would be notified of a call of each start."""
    return Counter((call.customer_number, call.start_time) for call in result.calls())


def prepared_so(path: Path, format_name: str) -> Result:
    """Prepare an export with a default agent only."""
    return prepared([detected(path)], plan_for(format_name, agents=no_agents("+12125550199")))


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(path, id=sample_name(path), marks=() if sample_name(path) in ALWAYS else pytest.mark.slow)
        for path in RENAMED
    ],
)
def test_no_call_is_invented(path: Path, tmp_path: Path) -> None:
    """Whatever trunks and extensions are called, and without ids, only calls sent before are sent, once."""
    before = sent(prepared_so(path, path.parent.name))
    for digits in (3, 5, 7, 10):
        text = renamed(path.read_text(encoding="utf-8"), digits, random.Random(digits))
        for ids in (True, False):
            copy = tmp_path / f"{digits}-{ids}.csv"
            copy.write_text(text, encoding="utf-8", newline="")
            copy = copy if ids else without_ids(copy)
            assert sent(prepared_so(copy, path.parent.name)) <= before, f"{digits} digits, ids: {ids}"
