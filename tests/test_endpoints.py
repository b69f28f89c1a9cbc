"""Whose end is it: what the rows of a whole file prove of the names at both ends, whatever these look like."""

import random
import re
from collections import Counter
from pathlib import Path

import pytest

from importer.prepare.agents import AgentBook
from importer.prepare.file_evidence import shown_roles
from samples import INPUTS, Result, detected, plan_for, prepared, sample_name
from schemas.vocabulary import Role

FAMILIES = ("asterisk-csv", "freepbx", "issabel", "freeswitch-csv", "freeswitch-sql", "3cx-", "yeastar-")
RENAMED = [path for path in INPUTS if sample_name(path).startswith(FAMILIES)]
ALWAYS = {"asterisk-csv/day.csv": 7, "freepbx/26-columns.csv": 9, "freeswitch-csv/day.csv": 3}
"""How long extensions are made of these samples in the normal run."""
EXTENSION = re.compile(r"(?<![\w.+:-])1[0-9]{2}(?=\b)(?![:.]\d)")
TRUNK = re.compile(r"\b(?:trunk|carrier)-[a-z]\b")
IDS = ("uniqueid", "linkedid")
FIELD = Path(__file__).parent / "field"


def renamed(text: str, digits: int, chance: random.Random) -> str:
    """Return an export whose extensions have so many digits, and whose trunks are named by digits too."""
    names: dict[str, str] = {}

    def name_of(found: re.Match[str], first: str, count: int) -> str:
        return names.setdefault(found[0], first + "".join(chance.choices("0123456789", k=count - 1)))

    text = EXTENSION.sub(lambda found: name_of(found, "2", digits), text)
    return TRUNK.sub(lambda found: name_of(found, "4", 5), text)


def without_ids(path: Path) -> bool:
    """Take the ids out of an export of Asterisk's, in place: those below a header, or behind the 16th cell."""
    found = detected(path)
    is_master = found.format.name == "asterisk-csv" and next(iter(found.positions)) == "accountcode"
    if found.format.family != "asterisk" or not (found.header or is_master):
        return False
    places = [found.positions[name] for name in IDS if name in found.positions]
    lines = []
    for number, line in enumerate(path.read_text(encoding=found.encoding).splitlines()):
        cells = re.split(r',(?=(?:[^"]*"[^"]*")*[^"]*$)', line)
        if found.header and number >= (found.header_line or 0):
            cells = ["" if place in places else cell for place, cell in enumerate(cells)]
        is_whole = found.header or len(cells) != found.field_count
        lines.append(",".join(cells if is_whole else cells[:16]))
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return True


def sent(result: Result) -> Counter[tuple[str, str]]:
    """Return how often each customer would be notified of a call of each start."""
    return Counter((call.customer_number, call.start_time) for call in result.calls())


def prepared_so(path: Path, format_name: str) -> Result:
    """Prepare an export with a default agent only."""
    return prepared([detected(path)], plan_for(format_name, agents=AgentBook(default_number="+12125550199")))


@pytest.mark.parametrize(
    ("path", "digits"),
    [
        *((path, ALWAYS[sample_name(path)]) for path in RENAMED if sample_name(path) in ALWAYS),
        *(
            pytest.param(path, (3, 5, 7, 10)[number % 4], marks=pytest.mark.slow)
            for number, path in enumerate(RENAMED)
        ),
    ],
    ids=lambda each: sample_name(each) if isinstance(each, Path) else "",
)
def test_no_call_is_invented(path: Path, digits: int, tmp_path: Path) -> None:
    """Whatever trunks and extensions are called, and without ids, only calls sent before are sent, once."""
    before = sent(prepared_so(path, path.parent.name))
    copy = tmp_path / "export.csv"
    text = renamed(path.read_text(encoding=detected(path).encoding), digits, random.Random(digits))
    copy.write_text(text, encoding="utf-8", newline="")
    assert sent(prepared_so(copy, path.parent.name)) <= before
    if without_ids(copy):
        assert sent(prepared_so(copy, path.parent.name)) <= before, "without ids"


SHUFFLED = ("asterisk-click-to-call-local", "asterisk-trunk-named-by-digits", "freepbx-long-extension")


def test_order_of_proofs_does_not_matter(tmp_path: Path) -> None:
    """What the last row of a file proves counts for its first, however the file is cut into chunks."""
    for case in (*SHUFFLED, "asterisk-incoming-to-peer-pbx", "asterisk-local-leg-without-linkedid"):
        lines = (FIELD / case / "in.csv").read_text(encoding="utf-8").splitlines(keepends=True)
        head = 1 if case.startswith("freepbx") else 0
        results = []
        for backwards in (False, True):
            rows = lines[head:][::-1] if backwards else lines[head:]
            chunk_rows = (len(rows) + 1) // 2 if backwards else 1000
            path = tmp_path / f"{case}-{backwards}.csv"
            path.write_text("".join(lines[:head] + rows), encoding="utf-8")
            found = detected(path)
            agents = AgentBook(default_number="+12125550199")
            plan = plan_for(found.format.name, agents=agents, chunk_rows=chunk_rows, timezone="UTC")
            results.append(prepared([found], plan).content())
        assert results[0] == results[1], case


def test_shown_roles() -> None:
    """`detect` shows trunks and telephones in one line, and what is in doubt in others."""
    roles = {"102": Role.TELEPHONE, "101": Role.TELEPHONE, "trunk-a": Role.TRUNK, "40001": Role.UNPROVED}
    lines = shown_roles(roles)
    assert lines[0] == "trunks: trunk-a; telephones: 101, 102"
    assert lines[1].startswith("neither proved")
    assert lines[1].endswith(": 40001")
    assert shown_roles(dict.fromkeys(map(str, range(20)), Role.TRUNK))[0].endswith(" and 8 more")
