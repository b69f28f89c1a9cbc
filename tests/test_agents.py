"""Agents: which of several names decides, what stands in, and what is said about a broken agents file."""

from pathlib import Path

import pytest

from importer.errors import ConfigurationError
from importer.prepare import AgentBook, load_agents, no_agents
from importer.prepare.agents import Agent
from schemas.numbers import NumberBook, NumberRules

HEADER = "extension,number,zohouser,email,name\n"
ANN = "101,+12125550101,501,ann.lee@example.com,Ann Lee\n"
BEN = "102,+12125550102,502,ben.ortiz@example.com,Ben Ortiz\n"
NUMBERS = NumberBook(NumberRules("US"))


def _load(folder: Path, text: str, country: str | None = None) -> AgentBook:
    path = folder / "agents.csv"
    path.write_text(text, encoding="utf-8")
    return load_agents(path, country, "+12125550190", "599")


@pytest.fixture
def book(tmp_path: Path) -> AgentBook:
    """Return a book of two agents and defaults."""
    return _load(tmp_path, HEADER + ANN + BEN)


@pytest.mark.parametrize(
    "named",
    ["101", "+12125550101", "2125550101", "(212) 555-0101", "ANN.LEE@example.com", "ann lee", " Ann Lee "],
)
def test_agent_is_found_by_any_key(named: str, book: AgentBook) -> None:
    """Extension, number in any spelling, e-mail and name lead to the agent."""
    assert book.find((named,), NUMBERS) == Agent("+12125550101", "501")


@pytest.mark.parametrize(
    ("candidates", "number", "zohouser"),
    [
        (("102", "101"), "+12125550102", "502"),
        (("119", "101"), "+12125550101", "501"),
        (("+12125550155", "101"), "+12125550101", "501"),
        (("119", "+12125550155"), "+12125550155", "599"),
        (("", "+12125550155"), "+12125550155", "599"),
        (("119", "Front Desk"), "+12125550190", "599"),
        ((), "+12125550190", "599"),
    ],
)
def test_agents_file_decides_before_numbers_and_the_default(
    candidates: tuple[str, ...], number: str, zohouser: str, book: AgentBook
) -> None:
    """The first name that the file knows decides; else the first that is a number; else the default."""
    assert book.find(candidates, NUMBERS) == Agent(number, zohouser)


def test_listed_agent_without_number_is_known_by_the_number_exported(tmp_path: Path) -> None:
    """An agent listed without number keeps their user, and the export's own number stands in."""
    book = _load(tmp_path, HEADER + "101,,501,,\n")
    assert book.find(("101", "+12125550155"), NUMBERS) == Agent("+12125550155", "501")


def test_nobody_is_found_without_agents_and_default() -> None:
    """Without agents file and default an extension leads nowhere."""
    assert no_agents().find(("101",), NUMBERS) == Agent("", "")


@pytest.mark.parametrize(
    ("text", "listed"),
    [
        ("101", True),
        ("12125550102", True),
        ("Ben Ortiz", True),
        ("119", False),
        ("", False),
        ("+12125550155", False),
    ],
)
def test_book_says_whom_it_lists(text: str, listed: bool, book: AgentBook) -> None:
    """A text is an agent when the file lists it under any key, numbers compared as E.164."""
    assert book.lists(text, NUMBERS) is listed


@pytest.mark.parametrize(
    "text", ["\ufeff" + HEADER + ANN, (HEADER + ANN).replace(",", ";"), (HEADER + ANN).upper()]
)
def test_agents_file_is_read_as_spreadsheets_write_it(text: str, tmp_path: Path) -> None:
    """A byte order mark, semicolons and another letter case of the header do no harm."""
    assert _load(tmp_path, text).find(("101",), NUMBERS).number == "+12125550101"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (HEADER.replace("email,", "") + ANN, ["line 1", "'email'"]),
        ("", ["line 1", "'extension'"]),
        (HEADER + ANN + "102,Ben,502,,\n", ["line 3, column number", "letters_in_number"]),
        (HEADER + ANN + "102,2125550102,502,,\n", ["line 3, column number", "no_country"]),
        (HEADER + ANN + "101,+12125550102,502,,\n", ["line 3, column extension"]),
        (HEADER + ANN + "102,+12125550101,502,,\n", ["line 3, column number"]),
        (HEADER + ANN + "102,,502,ANN.LEE@example.com,\n", ["line 3, column email"]),
        (HEADER + ANN + "102,,502,,ann lee\n", ["line 3, column name"]),
    ],
)
def test_broken_agents_file_is_refused(text: str, said: list[str], tmp_path: Path) -> None:
    """A broken agents file is refused with line, column and rule, and without any number."""
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, text)
    assert all(part in caught.value.message for part in ["agents.csv", *said])
    assert "555" not in caught.value.message + caught.value.hint


def test_agents_file_that_is_missing_is_refused(tmp_path: Path) -> None:
    """A path without a file is a configuration error."""
    with pytest.raises(ConfigurationError, match="cannot be read: FileNotFoundError"):
        load_agents(tmp_path / "gone.csv", None)


def test_agents_file_that_is_not_utf8_is_refused(tmp_path: Path) -> None:
    """A file in another encoding is refused, not misread."""
    (tmp_path / "agents.csv").write_bytes((HEADER + ANN.replace("Lee", "L\xe9e")).encode("latin-1"))
    with pytest.raises(ConfigurationError, match="UnicodeDecodeError"):
        load_agents(tmp_path / "agents.csv", None)
