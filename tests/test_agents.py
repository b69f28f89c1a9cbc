"""Agents: which of several names decides, what stands in, and what is said about a broken agents file."""

import unicodedata
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import table
from importer.errors import ConfigurationError
from importer.formats.cells import caseless
from importer.prepare import AgentBook, load_agents
from importer.prepare.agents import Agent, AgentLine, agent_lines
from importer.reading.conditions import Extensions
from schemas.numbers import NumberBook, NumberRules

HEADER = "extension,number,zohouser,email,name\n"
ANN = "101,+12125550101,501,ann.lee@example.com,Ann Lee\n"
BEN = "102,+12125550102,502,ben.ortiz@example.com,Ben Ortiz\n"
TWO = HEADER + ANN + "102"
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


@table(
    "named", ["101", "+12125550101", "2125550101", "(212) 555-0101", "ANN.LEE@example.com", "ann lee", " Ann Lee "]
)
def test_agent_is_found_by_any_key(named: str, book: AgentBook) -> None:
    """Extension, number in any spelling, e-mail and name lead to the agent."""
    assert book.find((named,), NUMBERS, EXTENSIONS) == Agent("+12125550101", "501")


@table(
    ("candidates", "number", "zohouser"),
    [
        (("102", "101"), "+12125550102", "502"),
        (("119", "101"), "+12125550101", "501"),
        (("+12125550155", "101"), "+12125550101", "501"),
        (("119", "+12125550155"), "+12125550190", "599"),
        (("Front Desk", "+12125550155"), "+12125550155", "599"),
        (("", "+12125550155"), "+12125550155", "599"),
        (("119", "Front Desk"), "+12125550190", "599"),
        ((), "+12125550190", "599"),
    ],
)
def test_agents_file_decides_before_numbers_and_the_default(
    candidates: tuple[str, ...], number: str, zohouser: str, book: AgentBook
) -> None:
    """The first name that the file knows decides; else a number, but not beside an extension; else the default."""
    assert book.find(candidates, NUMBERS, EXTENSIONS) == Agent(number, zohouser)


def test_listed_agent_without_number_is_known_by_the_number_exported(tmp_path: Path) -> None:
    """An agent listed without number keeps their user; the export's number stands in unless it is a caller id."""
    book = _load(tmp_path, HEADER + "101,,501,,Ann Lee\n")
    assert book.find(("Ann Lee", "+12125550155"), NUMBERS, EXTENSIONS) == Agent("+12125550155", "501")
    assert book.find(("101", "+12125550155"), NUMBERS, EXTENSIONS) == Agent("+12125550190", "501")


def test_nobody_is_found_without_agents_and_default() -> None:
    """Without agents file and default an extension leads nowhere."""
    assert AgentBook().find(("101",), NUMBERS, EXTENSIONS) == Agent("", "")


def test_book_says_whom_it_lists(book: AgentBook) -> None:
    """A text is an agent when the file lists it under any key, numbers compared as E.164."""
    listed = ["101", "12125550102", "Ben Ortiz"]
    assert [each for each in (*listed, "119", "", "+12125550155") if book.lists(each, NUMBERS)] == listed


MULLER = (
    HEADER + '101,"=""+12125550101""",501,ann@example.com,"Müller, Ann"\n\n,,,,\n102,+12125550102,502,,Ben,,\n'
)


@table("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32", "cp1252", "cp1250"])
@table("line_end", ["\n", "\r\n", "\r"])
@table("delimiter", [",", ";", "\t", "|"])
def test_agents_file_is_read_as_spreadsheets_write_it(
    encoding: str, line_end: str, delimiter: str, tmp_path: Path
) -> None:
    """Code pages, delimiters, line ends, forced text, blank lines and surplus empty cells do no harm."""
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


def test_header_in_another_order_and_case_with_further_columns(tmp_path: Path) -> None:
    """Columns are found by name, whatever else stands between them."""
    text = "Name,Team,E-Mail,ZohoUser,Number,Extension,\nAnn Lee,Sales,ann@example.com,501,+12125550101,101\n"
    assert _load(tmp_path, text).find(("101",), NUMBERS, EXTENSIONS) == Agent("+12125550101", "501")


@table(
    ("listed", "named"),
    [
        ("ann müller", "Ann Müller"),
        ("Ann Mu\u0308ller", "Ann M\u00fcller"),
        ("Ann M\u00fcller", "Ann Mu\u0308ller"),
        ("Ann Lee", "Ann\u00a0Lee"),
        ("Ann Lee", "Ann\u202fLee"),
        ("Ann Lee", "Ann  Lee"),
        ("\uff21\uff4e\uff4e\u3000\uff2c\uff45\uff45", "ann lee"),
        ("Jürgen Groß", "JÜRGEN GROSS"),
        ("İrem Şahin", "i̇rem şahin"),
        ("Σίσυφος", "ΣΊΣΥΦΟΣ"),
        ("Soﬁa", "SOFIA"),
    ],
)
def test_names_are_equal_whatever_their_unicode_form(listed: str, named: str, tmp_path: Path) -> None:
    """Composed and decomposed, wide and narrow, in capitals, with no-break spaces: one name, both ways round."""
    for ours, theirs in ((listed, named), (named, listed)):
        book = _load(tmp_path, f"{HEADER}101,+12125550101,501,,{ours}\n")
        assert book.find((theirs,), NUMBERS, EXTENSIONS) == Agent("+12125550101", "501")
        assert book.lists(theirs, NUMBERS)
    assert caseless("Ann\r\nLee") == caseless("Ann Lee")


@given(st.text(alphabet=st.characters(exclude_categories=["Cs", "Cc"]), max_size=20))
def test_caseless_text_stays_as_it_is(text: str) -> None:
    """The form for comparing is reached at once, from every normal form and case of a text."""
    assert caseless(caseless(text)) == caseless(text)
    for form in ("NFC", "NFD", "NFKC", "NFKD"):
        assert caseless(unicodedata.normalize(form, text)) == caseless(text)
    assert caseless(text.casefold()) == caseless(text)


SPREADSHEET = "is what a spreadsheet made of a number"
MADE_USERS = ("2,00685E+10", "2.00685E10", "2E+10", "20068510101.0", "20068510101,00")


@table(
    ("text", "said"),
    [
        (HEADER.replace("email,", "") + ANN, "agents file agents.csv: line 1: column 'email' is missing"),
        ("", "agents file agents.csv: line 1: column 'extension' is missing"),
        ("\n\n" + ANN, "agents file agents.csv: line 3: column 'extension' is missing"),
        (HEADER.replace("email", "name"), "agents file agents.csv: line 1: column 'email' is missing"),
        (HEADER.replace("\n", ",Name\n"), "agents file agents.csv: line 1: column 'name' is there twice"),
        (TWO + ",Ben,502,,", 'line 3, column number: "Ben" is not a telephone number (letters_in_number)'),
        (TWO + ",2125550102,502,,", 'line 3, column number: "2125******" is not a telephone number (no_country)'),
        (HEADER + ANN + "101,,502,,", 'line 3, column extension: "101" stands in line 2 for another agent'),
        (TWO + ",+1 212 555 0101,502,,", 'line 3, column number: "+1 212 *** ****" stands in line 2 for another'),
        (TWO + ",,502,ANN.LEE@example.com,", 'column email: "ANN.LEE@example.com" stands in line 2 for another'),
        (TWO + ",,502,,ann lee", 'line 3, column name: "ann lee" stands in line 2 for another agent'),
        (HEADER + ANN + "\n\n102,,2,00685E+10,,", "agents.csv: line 5: the row has 6 cells, the header 5"),
        (HEADER + "102,,2,00685E+10,,Ben", "agents.csv: line 2: the row has 6 cells, the header 5"),
        (
            "extension,number,zohouser,name,email\n102,,20068510102,5,,",
            "line 2: the row has 6 cells, the header 5",
        ),
        ("extension,number,name,email,zohouser,,\n102,,Ortiz, Ben,,", "line 2: the row has 6 cells, the header 5"),
        (TWO + ",,502,,Ortiz, Ben", "agents.csv: line 3: the row has 6 cells, the header 5"),
        (HEADER + "101,+12125550101,501", "agents.csv: line 2: the row has 3 cells, the header 5"),
        ("sep=;\n" + HEADER.replace(",", ";") + "101;1", "line 3: the row has 2 cells, the header 5"),
        (TWO + ",,5 02,,", 'agents.csv: line 3, column zohouser: "5 02" is no user id'),
        (HEADER + f"1,,{'7' * 65},,", f'agents.csv: line 2, column zohouser: "{"7" * 65}" is no user id'),
        (HEADER + "1,,+12125550101,,", 'agents.csv: line 2, column zohouser: "+1212*******" is no user id'),
        *(
            (f"{HEADER.replace(',', ';')}1;;{text};;", f'column zohouser: "{text}" {SPREADSHEET}')
            for text in MADE_USERS
        ),
        (HEADER + "101,1.21256E+10,501,,", f'column number: "1.21256E+10" {SPREADSHEET}'),
        (HEADER + "101,12125550101.0,501,,", f'column number: "1212*******.*" {SPREADSHEET}'),
        (HEADER + "1E+03,,501,,", f'line 2, column extension: "1E+03" {SPREADSHEET}'),
        (HEADER + "101.0,,501,,", f'line 2, column extension: "101.0" {SPREADSHEET}'),
        (HEADER + '101,,501,,"Ann\n' + BEN + '103,,503,,"Cora"', "agents.csv: line 2: a quote that opens there"),
        (TWO + ',,502,,"Ben', "agents.csv: line 3: a quote that opens there is not closed"),
        (TWO + ',,502,,"Ben" Ortiz', "agents.csv: line 3: a quote that opens there is not closed"),
        (HEADER.replace("\n", "\r") + "101,,5\x001,,\r", "agents.csv: line 2 holds a NUL character"),
    ],
)
def test_broken_agents_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    """A broken agents file is refused with line, column, value and rule, and without any telephone number."""
    with pytest.raises(ConfigurationError) as caught:
        _load(tmp_path, f"{text}\n" if text else "")
    assert "agents.csv: line" in caught.value.message
    assert said in caught.value.message
    assert caught.value.hint
    assert "555" not in caught.value.message + caught.value.hint


@table("encoding", [None, "ascii"])
def test_agents_file_in_an_unknown_encoding_is_refused(encoding: str | None, tmp_path: Path) -> None:
    """A file that is neither UTF-8 nor what --encoding says, nor cp1252, is refused, not misread."""
    (tmp_path / "agents.csv").write_bytes(f"{HEADER}101,,501,,".encode() + b"Ann \x81\xe9\n")
    with pytest.raises(ConfigurationError, match=r"agents.csv cannot be read: line 2 holds a letter") as caught:
        load_agents(tmp_path / "agents.csv", None, encoding=encoding)
    assert "--encoding" in caught.value.hint


def test_lines_are_given_as_they_stand(tmp_path: Path) -> None:
    """`users` gets the same cells, of a file that is sound, whatever its numbers are."""
    path = tmp_path / "agents.csv"
    path.write_text(HEADER + '101,2125550101,"=""501""",,Ann Lee\n', encoding="utf-16")
    assert agent_lines(path) == [AgentLine("101", "2125550101", "501", "", "Ann Lee")]
    path.write_text(HEADER + "101,,2.00685E+10,,Ann Lee\n", encoding="utf-8")
    with pytest.raises(ConfigurationError, match="column zohouser"):
        agent_lines(path)
