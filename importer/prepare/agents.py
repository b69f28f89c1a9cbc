"""Who dialled: the agents file turns what an export calls an agent into a number and a PhoneBridge user."""

import csv
import io
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import astuple, dataclass, field
from itertools import count
from pathlib import Path

import pandas as pd

from importer.errors import ConfigurationError, InputUnusableError, NoInputError
from importer.files.export import certain_encoding, fallback_encoding, open_export
from importer.files.workbooks import is_workbook
from importer.formats.cells import caseless, plain_cell, without_point
from importer.formats.sample import RESAVED_DELIMITERS, SEPARATOR_LINE, column_key
from importer.private_files import open_small, why
from importer.reading.conditions import Extensions, bare_extension
from schemas.call import DAMAGED_USER, ZOHOUSER
from schemas.numbers import NumberBook
from schemas.plans import NumberRules

AGENT_COLUMNS = ("extension", "number", "zohouser", "email", "name")
KEY_COLUMNS = ("extension", "number", "email", "name")
MOST_BYTES = 16 << 20
"""How large an agents file may be, unpacked: some 200,000 agents."""

FALLBACK_ENCODINGS = ("cp1252",)
"""What Excel writes in western Europe and America; its other code pages look alike and need --encoding."""

SCIENTIFIC = re.compile(r"[+-]?[0-9]+([.,][0-9]*)?E[+-][0-9]+|[0-9]+[.,][0-9]*E[0-9]+", re.IGNORECASE)
_DAMAGED = rf"{SCIENTIFIC.pattern}|[+-]?[0-9]+[.,]0+"
DAMAGED = {"extension": _DAMAGED, "number": _DAMAGED, "zohouser": f"{_DAMAGED}|{DAMAGED_USER}"}
CONTROL_CHARACTERS = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")


@dataclass(frozen=True, slots=True)
class Agent:
    """One of our users; ``number`` is E.164 or empty, ``zohouser`` may be empty."""

    number: str
    zohouser: str


@dataclass(frozen=True, slots=True)
class AgentLine:
    """One line of the agents file as it stands, blanks and spreadsheet's marks around the cells gone."""

    extension: str
    number: str
    zohouser: str
    email: str
    name: str


@dataclass(frozen=True, slots=True)
class AgentBook:
    """The agents by the texts that may name them in an export (see `caseless`), and the defaults."""

    by_key: Mapping[str, Agent] = field(default_factory=dict)
    extensions: frozenset[str] = frozenset()
    default_number: str = ""
    default_zohouser: str = ""

    def find(self, candidates: tuple[str, ...], numbers: NumberBook, extensions: Extensions) -> Agent:
        """Return the agent that an export names by these candidates, in the order the contract sets.

        The agents file decides; else, where no candidate is an extension, one that is a telephone number itself:
        beside an extension it is a caller id, which may be the company's. Else the default. The number is empty
        without any.
        """
        named = [bare_extension(each) for each in candidates if each]
        listed = next((agent for text in named if (agent := self.listed(text, numbers))), Agent("", ""))
        number = listed.number
        if not number:
            number = next((each.e164 for each in map(numbers.read, named) if not each.reason), "")
            if number and extensions.are_extensions(pd.Series(named, dtype="str")).any():
                number = ""
        return Agent(number or self.default_number, listed.zohouser or self.default_zohouser)

    def listed(self, text: str, numbers: NumberBook) -> Agent | None:
        """Return the agent that the agents file knows by this text, None without one."""
        text = without_point(text.strip())  # pandas writes 12125550103.0
        agent, reading = self.by_key.get(caseless(text)), numbers.read(text)
        return agent if agent or reading.reason else self.by_key.get(reading.e164)


def load_agents(path: Path, country: str | None, encoding: str | None = None) -> AgentBook:
    """Read an agents file: CSV with the columns of AGENT_COLUMNS, in any order, written down as exports are.

    ``encoding`` is that of a file that is not UTF-8 and has no byte order mark. Raises ConfigurationError naming
    line and column for a file that cannot be read, a missing column, a row of more or fewer cells, a number or
    user id that is none, or a key that two agents share.
    """
    numbers = NumberBook(NumberRules(country))
    first_line: dict[str, tuple[Agent, int]] = {}  # of each key, with its agent
    extensions = set()
    for line, row in _rows(path, encoding):
        reading = numbers.read(row["number"]) if row["number"] else None
        if reading is not None and reading.reason:
            raise _refused(
                f"{path.name}: line {line}, column number: {_shown(row['number'], 'number')} is not a telephone "
                f"number ({reading.reason})",
                f"Write it internationally with + and country code{'' if country else ', or give --country'}.",
            )
        agent = Agent(reading.e164 if reading else "", row["zohouser"])
        for column in KEY_COLUMNS:
            key = agent.number if column == "number" else caseless(row[column])
            if not key:
                continue
            other, its_line = first_line.setdefault(key, (agent, line))
            if other != agent:
                raise _refused(
                    f"{path.name}: line {line}, column {column}: {_shown(row[column], column)} stands in line "
                    f"{its_line} for another agent",
                    "Each extension, number, e-mail and name may stand for one agent only.",
                )
        extensions.update({caseless(row["extension"])} - {""})
    return AgentBook({key: agent for key, (agent, _) in first_line.items()}, frozenset(extensions))


def agents_text(lines: Iterable[AgentLine], *, is_draft: bool = False) -> str:
    """Return an agents file of these lines; a draft has a column more, which says what each still misses."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow((*AGENT_COLUMNS, "missing") if is_draft else AGENT_COLUMNS)
    for line in lines:
        missing = " ".join(name for name in ("number", "zohouser") if not getattr(line, name))
        writer.writerow((*astuple(line), missing) if is_draft else astuple(line))
    return text.getvalue()


def agent_lines(path: Path, encoding: str | None = None) -> list[AgentLine]:
    """Return the lines of an agents file as they stand; raises as `load_agents`, but looks at no number."""
    return [AgentLine(**row) for _, row in _rows(path, encoding)]


def _rows(path: Path, encoding: str | None) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line and cells of each agent, by the names of AGENT_COLUMNS; blank lines are none."""
    records = csv_records(path, encoding)
    line, header = next(records, (1, []))
    names = [column_key(cell) for cell in header]
    for name in AGENT_COLUMNS:
        if names.count(name) != 1:
            fault = f"column {name!r} is {'there twice' if name in names else 'missing'}; there are "
            found = ", ".join(_shown(cell, "") for cell in header[:8])  # perhaps no header, but an agent's cells
            raise _refused(
                f"agents file {path.name}: line {line}: {fault + found if header else 'the file is empty'}",
                f"The header must name the columns {', '.join(AGENT_COLUMNS)}.",
            )
    width = max(place for place, name in enumerate(names, start=1) if name)
    for line, cells in records:
        whole = cells + [""] * (width - len(cells))
        row = {name: whole[names.index(name)] for name in AGENT_COLUMNS}
        # More empty cells at the end than in the header may come from a comma that split a cell: a decimal comma
        # makes the user `2` and the e-mail `00685E+10` of a user id.
        is_odd = len(cells) not in (width, len(header))
        is_no_email = row["email"] != "" and "@" not in row["email"]
        is_shifted = is_odd and (is_no_email or re.fullmatch(r"[0-9.,E+-]+", row["name"]))
        if len(cells) < width or any(cells[width:]) or is_shifted:
            raise _refused(
                f"{path.name}: line {line}: the row has {len(cells)} cells, the header {width}",
                "Put quotes around a cell that holds a comma or whatever else separates cells, and leave out "
                "no cell: an empty one keeps its comma.",
            )
        for column, text in row.items():
            if CONTROL_CHARACTERS.search(text):
                fault = "holds a line break or a control character"
                hint = (
                    "Write it on one line. If it holds the text of several cells, a quote before it is not closed."
                )
            elif column in DAMAGED and re.fullmatch(DAMAGED[column], text, re.IGNORECASE):
                fault = "is what a spreadsheet made of a number"
                hint = "Its digits may be lost: write it anew, in a column that the spreadsheet keeps as text."
            elif column == "zohouser" and not re.fullmatch(ZOHOUSER, text):
                fault = "is no user id: one has only letters, digits, `.`, `_` and `-`, at most 64"
                hint = "`cdr-importer users` lists the ids that PhoneBridge knows."
            else:
                continue
            raise _refused(f"{path.name}: line {line}, column {column}: {_shown(text, column)} {fault}", hint)
        yield line, row


def csv_records(
    path: Path, encoding: str | None, *, kind: str = "agents file", option: str = "--agents"
) -> Iterator[tuple[int, list[str]]]:
    """Yield line and cells of each record that is not blank, the header first, however a program saved the file.

    Raises ConfigurationError, which calls the file by its ``kind`` and ``option``.
    """
    text = _text(path, encoding, kind, option)
    if "\0" in text:
        line = len(re.split(r"\r\n?|\n", text[: text.index("\0")]))
        hint = f"Save the {kind} anew, as UTF-8 (in Excel: CSV UTF-8)."
        raise _refused(f"{path.name}: line {line} holds a NUL character", hint, kind)
    separator = SEPARATOR_LINE.match(text)
    body = text[separator.end() :] if separator else text
    first = re.split(r"[\r\n]", body.lstrip("\ufeff \r\n"), maxsplit=1)[0]
    delimiter = separator[1] if separator else max(RESAVED_DELIMITERS, key=first.count)
    reader = csv.reader(io.StringIO(body, newline=""), delimiter=delimiter, strict=True)
    above = 1 if separator else 0
    while True:
        line = above + reader.line_num + 1
        try:
            cells = [plain_cell(cell) for cell in next(reader)]
        except StopIteration:
            return
        except csv.Error as error:
            fault = f"{path.name}: line {line}: a quote that opens there is not closed where its cell ends"
            hint = "Close it, or take it away; a quote inside quotes is doubled."
            raise _refused(fault, hint, kind) from error
        if any(cells):
            yield line, cells


def _text(path: Path, encoding: str | None, kind: str, option: str) -> str:
    """Return the text of the file: by its byte order mark, else UTF-8, ``encoding``, or what Excel writes."""
    try:
        open_small(path, MOST_BYTES).close()
        file = open_export(path, MOST_BYTES)
        if is_workbook(file.open):
            raise InputUnusableError("it is a workbook", hint="")
        known = certain_encoding(file, None)
        if known is None:
            named = encoding and certain_encoding(file, encoding)
            known = named or fallback_encoding(file, FALLBACK_ENCODINGS)
        with file.open_text(known) as source:
            return source.read()
    except (OSError, NoInputError) as error:
        cause = why(error, path) if isinstance(error, OSError) and error.strerror else error
        raise _refused(f"{kind} {path} cannot be read: {cause}", f"Check the path of {option}.", kind) from error
    except InputUnusableError as error:
        raise _refused(
            f"{kind} {path.name} cannot be read: {error.message.removeprefix(f'{path.name}: ')}",
            "Save it as a CSV file in UTF-8 (in Excel: CSV UTF-8), or name its encoding with --encoding.",
            kind,
        ) from error


def _refused(fault: str, hint: str, kind: str = "agents file") -> ConfigurationError:
    return ConfigurationError(fault, hint=hint, reason=kind.replace(" ", "_"))


def _shown(text: str, column: str) -> str:
    """Return a cell for a message. Telephone numbers are never printed: digits behind the fourth are hidden."""
    if not SCIENTIFIC.fullmatch(text) and (column != "zohouser" or text.startswith("+")):
        digits = count()
        text = "".join("*" if char.isdigit() and next(digits) >= 4 else char for char in text)
    return f'"{text[:80]}"'
