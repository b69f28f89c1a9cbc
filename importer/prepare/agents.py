"""Who dialled: the agents file turns what an export calls an agent into a number and a PhoneBridge user."""

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import astuple, dataclass
from pathlib import Path

import pandas as pd

from importer.errors import ConfigurationError
from importer.reading import Extensions
from schemas.numbers import NumberBook, NumberRules

AGENT_COLUMNS = ("extension", "number", "zohouser", "email", "name")
KEY_COLUMNS = ("extension", "number", "email", "name")


@dataclass(frozen=True, slots=True)
class Agent:
    """One of our users; ``number`` is E.164 or empty, ``zohouser`` may be empty."""

    number: str
    zohouser: str


@dataclass(frozen=True, slots=True)
class AgentLine:
    """One line of the agents file as it stands, blanks around the cells gone."""

    extension: str
    number: str
    zohouser: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class AgentBook:
    """The agents by what an export may call them (lower case), and what stands in where there is no answer."""

    by_key: Mapping[str, Agent]
    extensions: frozenset[str]
    default_number: str = ""
    default_zohouser: str = ""

    def find(self, candidates: tuple[str, ...], numbers: NumberBook, extensions: Extensions) -> Agent:
        """Return the agent that an export names by these candidates, in the order the contract sets.

        The agents file decides; else, where no candidate is an extension, one that is a telephone number itself:
        beside an extension it is a caller id, which may be the company's. Else the default. The number is empty
        when nothing answers.
        """
        named = [candidate for candidate in candidates if candidate]
        listed = next((agent for text in named if (agent := self._listed(text, numbers))), None)
        number = listed.number if listed else ""
        if not number and not (named and extensions.are_extensions(pd.Series(named, dtype="str")).any()):
            number = next((found for text in named if (found := _own_number(text, numbers))), "")
        number = number or self.default_number
        zohouser = listed.zohouser if listed else ""
        return Agent(number, zohouser or self.default_zohouser)

    def lists(self, text: str, numbers: NumberBook) -> bool:
        """Say whether the agents file knows an agent by this text."""
        return bool(self.by_key and text) and self._listed(text, numbers) is not None

    def _listed(self, text: str, numbers: NumberBook) -> Agent | None:
        key = text.strip().casefold()
        return self.by_key.get(key) or self.by_key.get(_own_number(text, numbers) or key)


def no_agents(default_number: str = "", default_zohouser: str = "") -> AgentBook:
    """Return the book of a run without an agents file."""
    return AgentBook({}, frozenset(), default_number, default_zohouser)


def load_agents(
    path: Path, country: str | None, default_number: str = "", default_zohouser: str = ""
) -> AgentBook:
    """Read an agents file: CSV with the columns of AGENT_COLUMNS, in any order.

    Raises ConfigurationError naming line and column for a file that cannot be read, a missing column, a number
    that is none, or a key that two agents share.
    """
    numbers = NumberBook(NumberRules(country))
    by_key: dict[str, Agent] = {}
    extensions = set()
    for line, row in _rows(path):
        agent = Agent(_number(row["number"], numbers, path, line), row["zohouser"])
        for column in KEY_COLUMNS:
            key = agent.number if column == "number" else row[column].casefold()
            if not key:
                continue
            if by_key.setdefault(key, agent) != agent:
                raise ConfigurationError(
                    f"{path.name}: line {line}, column {column}: two agents have the same {column}",
                    hint="Each extension, number, e-mail and name may stand for one agent only.",
                )
        extensions.update({row["extension"].casefold()} - {""})
    return AgentBook(by_key, frozenset(extensions), default_number, default_zohouser)


def agents_text(lines: Iterable[AgentLine]) -> str:
    """Return an agents file of these lines."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(AGENT_COLUMNS)
    writer.writerows(map(astuple, lines))
    return text.getvalue()


def agent_lines(path: Path) -> list[AgentLine]:
    """Return the lines of an agents file as they stand; raises ConfigurationError as `load_agents`."""
    return [AgentLine(**row) for _, row in _rows(path)]


def _rows(path: Path) -> list[tuple[int, dict[str, str]]]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigurationError(
            f"agents file {path.name} cannot be read: {type(error).__name__}",
            hint="Check the path of --agents; the file must be a UTF-8 CSV.",
        ) from error
    delimiter = ";" if text.partition("\n")[0].count(";") > text.partition("\n")[0].count(",") else ","
    reader = csv.DictReader(text.splitlines(), delimiter=delimiter)
    header = [name.strip().casefold() for name in reader.fieldnames or ()]
    reader.fieldnames = header
    missing = [name for name in AGENT_COLUMNS if name not in header]
    if missing:
        raise ConfigurationError(
            f"agents file {path.name}: line 1: column {missing[0]!r} is missing",
            hint=f"The header must name the columns {', '.join(AGENT_COLUMNS)}.",
        )
    return [(reader.line_num, {name: (row.get(name) or "").strip() for name in AGENT_COLUMNS}) for row in reader]


def _number(text: str, numbers: NumberBook, path: Path, line: int) -> str:
    if not text:
        return ""
    reading = numbers.read(text)
    if not reading.valid:
        raise ConfigurationError(
            f"{path.name}: line {line}, column number: not a telephone number ({reading.reason})",
            hint="Write it internationally with + and country code, or give --country.",
        )
    return reading.e164


def _own_number(text: str, numbers: NumberBook) -> str:
    reading = numbers.read(text)
    return reading.e164 if reading.valid else ""
