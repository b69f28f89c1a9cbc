"""Agents: which of several names decides, what stands in, and what is said about a broken agents file."""

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import SAMPLES, Program, cases, read_results, table
from importer.errors import ConfigurationError
from importer.formats.cells import caseless
from importer.prepare.agents import Agent, AgentBook, load_agents
from importer.reading.conditions import Extensions
from schemas.numbers import NumberBook
from schemas.plans import NumberRules

CASES = cases("agents")

HEADER = "extension,number,zohouser,email,name\n"
ANN = "101,+12125550101,501,ann.lee@example.com,Ann Lee\n"
BEN = "102,+12125550102,502,ben.ortiz@example.com,Ben Ortiz\n"
EXTENSIONS = Extensions(r"\d{2,5}")
NUMBERS = NumberBook(NumberRules("US"))


def _load(folder: Path, text: str, country: str | None = None) -> AgentBook:
    path = folder / "agents.csv"
    path.write_text(text, encoding="utf-8")
    return replace(load_agents(path, country), default_number="+12125550190", default_zohouser="599")


@pytest.fixture
def book(tmp_path: Path) -> AgentBook:
    """Return a book of two agents and defaults."""
    return _load(tmp_path, HEADER + ANN + BEN)


@table(("candidates", "number", "zohouser"), CASES["decisions"])
def test_agents_file_decides_before_numbers_and_the_default(
    candidates: tuple[str, ...], number: str, zohouser: str, book: AgentBook
) -> None:
    """The first name the file knows by any key decides; else a number, not beside an extension; else defaults."""
    assert book.find(candidates, NUMBERS, EXTENSIONS) == Agent(number, zohouser)


def test_listed_agent_without_number_is_known_by_the_number_exported(tmp_path: Path) -> None:
    """An agent listed without number keeps their user; the export's number stands in unless it is a caller id."""
    book = _load(tmp_path, HEADER + "101,,501,,Ann Lee\n")
    assert book.find(("Ann Lee", "+12125550155"), NUMBERS, EXTENSIONS) == Agent("+12125550155", "501")
    assert book.find(("101", "+12125550155"), NUMBERS, EXTENSIONS) == Agent("+12125550190", "501")


def test_hint_is_true_of_an_agent_listed_without_number(program: Program, tmp_path: Path) -> None:
    """Whether the file lacks the agent or only their number, the hint says that it has no number for them."""
    agents, results = tmp_path / "agents.csv", tmp_path / "results.csv"
    agents.write_text(f"{HEADER}119,,501,,Ann Lee\n", encoding="utf-8")
    where = ("--timezone", "America/New_York", "--country", "US", "--agents", agents, "--results", results)
    program("check", *where, SAMPLES / "asterisk-csv" / "day.csv")
    hints = [row["hint"] for row in read_results(results) if row["reason"] == "no_agent_number"]
    assert any('"119"' in hint for hint in hints)  # listed
    assert any('"101"' in hint for hint in hints)
    assert all("the agents file has no number for it: add it there" in hint for hint in hints)


def test_book_says_whom_it_lists(book: AgentBook) -> None:
    """A text is an agent when the file lists it under any key, numbers compared as E.164."""
    listed = ["101", "12125550102", "Ben Ortiz"]
    assert [each for each in (*listed, "119", "", "+12125550155") if book.listed(each, NUMBERS)] == listed


MULLER = (
    'Name,Team,E-Mail,ZohoUser,Number,Extension\n"Müller, Ann",Sales,ann@example.com,501,"=""+12125550101""",101\n'
)
MULLER += "\n,,,,\nBen,,,502,+12125550102,102,,\n"


@table("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "cp1250"])
@table("line_end", ["\n", "\r\n", "\r"])
@table("delimiter", [",", ";", "\t", "|"])
def test_agents_file_of_a_spreadsheet(encoding: str, line_end: str, delimiter: str, tmp_path: Path) -> None:
    """Code pages, delimiters, line ends, forced text, blank lines, order and surplus of columns do no harm."""
    text = MULLER.replace(",", delimiter).replace(f"Müller{delimiter} Ann", "Müller, Ann").replace("\n", line_end)
    for told in ("", f"sep={delimiter}{line_end}"):
        (tmp_path / "agents.csv").write_bytes((told + text).encode(encoding))
        book = load_agents(tmp_path / "agents.csv", None)
        assert book.find(("MÜLLER, ann",), NUMBERS, EXTENSIONS) == Agent("+12125550101", "501")
        assert book.find(("Ben",), NUMBERS, EXTENSIONS) == Agent("+12125550102", "502")


@table(("text", "encoding"), [("Анна", "cp1251"), ("Λένα", "cp1253"), ("Łukasz Ćma", "cp1250")])
def test_other_code_pages_are_named(text: str, encoding: str, tmp_path: Path) -> None:
    """What is neither UTF-8 nor marked is read in the encoding that --encoding names, UTF-8 for what it is."""
    path = tmp_path / "agents.csv"
    for written in (encoding, "utf-8", "utf-16"):
        path.write_bytes(f"{HEADER}101,,501,,{text}\n".encode(written))
        assert load_agents(path, None, encoding=encoding).find((text,), NUMBERS, EXTENSIONS).zohouser == "501"


@table(("listed", "named"), CASES["names"])
def test_names_are_equal_whatever_their_unicode_form(listed: str, named: str, tmp_path: Path) -> None:
    """Composed and decomposed, wide and narrow, in capitals, with no-break spaces: one name, both ways round."""
    for ours, theirs in ((listed, named), (named, listed)):
        book = _load(tmp_path, f"{HEADER}101,+12125550101,501,,{ours}\n")
        assert book.find((theirs,), NUMBERS, EXTENSIONS) == Agent("+12125550101", "501")
        assert book.listed(theirs, NUMBERS)
    assert caseless("Ann\r\nLee") == caseless("Ann Lee")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=20))
def test_caseless_text_stays_as_it_is(text: str) -> None:
    """The form for comparing is reached at once, from every normal form and case of a text."""
    assert caseless(caseless(text)) == caseless(text)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert caseless(unicodedata.normalize(form, text)) == caseless(text)
    assert caseless(text.casefold()) == caseless(text)


@table(("text", "said"), CASES["broken"])
def test_broken_agents_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    """A broken agents file is refused with line, column, value and rule, and without any telephone number."""
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, f"{text}\n" if text else "")
    assert "agents.csv: line" in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint
    assert "555" not in caught.value.message + caught.value.hint
