"""The language of `schemas/formats/*.toml`: what one export layout is made of, as frozen, checked values.

A format is tables only. It names the columns of the export (by header or by position), says how the values
it needs are taken out of them, and gives ordered decision tables for direction and outcome: the first rule
that holds decides. Regular expressions are RE2's (no look-around); letter case counts.
"""

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Annotated, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator

from schemas.vocabulary import Direction, Verdict

DEFAULT_EXTENSION = r"\d{2,5}"
"""What an internal number looks like where neither the agents file nor the format says more."""


def _tuple_of(value: object) -> object:
    return (value,) if isinstance(value, str) else value


Texts = Annotated[tuple[str, ...], BeforeValidator(_tuple_of)]
"""One text or a list of texts."""


class _Table(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=False)


class Quotes(StrEnum):
    """How the export quotes: inner quotes doubled (RFC 4180), left bare inside quoted cells, or no quoting."""

    DOUBLED = "doubled"
    BARE = "bare"
    NONE = "none"


class Zone(StrEnum):
    """Where the zone of naive times comes from, when the format does not name an IANA zone itself."""

    OPTION = "option"
    VALUE = "value"


class Test(_Table):
    """One condition on one column; every part that is given must hold.

    ``any_of`` compares without letter case; ``matches`` is a regular expression for the whole cell;
    ``extension`` asks whether the cell is one of our own internal numbers; ``over`` compares seconds.
    """

    any_of: Texts | None = None
    matches: str | None = None
    empty: bool | None = None
    extension: bool | None = None
    over: int | None = None


def _test_of(value: object) -> object:
    return {"any_of": value} if isinstance(value, str | list | tuple) else value


Tests = Mapping[str, Annotated[Test, BeforeValidator(_test_of)]]
"""Column -> condition; all must hold. A text or list of texts stands for ``any_of``."""


class FileSpec(_Table):
    """How the file is written down."""

    header: bool = True
    delimiters: Texts = (",", ";", "\t", "|")
    quotes: Quotes = Quotes.DOUBLED
    skip_initial_space: bool = False
    encodings: Texts = ("utf-8",)
    drop_rows: tuple[Tests, ...] = ()


class Layout(_Table):
    """One order of the columns of an export without header; ``where`` tells layouts of equal length apart."""

    columns: tuple[str, ...]
    where: Mapping[str, str] = Field(default_factory=dict)


class Detect(_Table):
    """What must hold for a file to be of this format, beyond its columns being there."""

    patterns: Mapping[str, str] = Field(default_factory=dict)
    forbidden: Texts = ()


class Source(_Table):
    """A value taken from a column: all of it, or the first group of ``extract`` (empty without a match)."""

    column: str
    extract: str | None = None
    when: Tests = Field(default_factory=dict)


class DirectionRule(_Table):
    """Rows for which ``when`` holds went this way."""

    when: Tests
    value: Direction = Field(alias="is")


class OutcomeRule(_Table):
    """Either a decision (``when`` and ``is``) or a look-up of a column's word in ``words`` and ``table``.

    An empty cell, or the word ``next``, hands the row to the rule below.
    """

    when: Tests = Field(default_factory=dict)
    value: Verdict | None = Field(default=None, alias="is")
    column: str | None = None
    table: str | None = None
    words: Mapping[str, str] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.value is None) == (self.column is None):
            raise ValueError("give either `is` with `when`, or `column` with `table` or `words`")
        if self.column is not None and not (self.table or self.words):
            raise ValueError("a `column` needs a `table` or `words` to look its values up in")
        return self


class TimeSpec(_Table):
    """The start of the call: columns (joined by a space), how it is written, and whose clock it is.

    ``zone`` is ``option`` (the operator's ``--timezone``), ``value`` (each value carries its offset) or an IANA
    name. ``evidence`` finds the epoch second at which the channel was made, where the id carries one.
    """

    columns: Texts
    formats: Texts
    zone: str = Zone.OPTION
    evidence: Source | None = None


class NumberSpec(_Table):
    """What digits without ``+`` mean in this export; never guessed row by row."""

    plain_digits: str = Field(default="national", pattern="^(national|international)$")
    outside_prefix: str = Field(default="", pattern=r"^\d*$")
    extension: str = DEFAULT_EXTENSION


class CallSpec(_Table):
    """Which columns make the call.

    ``id`` lists candidates for the export's own id of the call, ``unique_by`` what makes a call unique
    without one. ``row`` tells the rows of a call apart; without it rows are equal when all their cells are.
    ``legs`` false: a call is one row, and a second row with its id must say the same. ``secondary`` rows lose
    against the other rows of their call. ``agent`` candidates are tried in turn.
    """

    customer: str
    agent: Texts
    id: tuple[Texts, ...] = ()
    unique_by: Texts = ()
    row: Texts = ()
    legs: bool = True
    secondary: Tests = Field(default_factory=dict)
    ring_seconds: str | None = None
    talk_seconds: str | None = None
    answer_time: str | None = None
    zohouser: str | None = None
    voiceuri: str | None = None


class CdrFormat(_Table):
    """One export layout, complete and checked; see the comment on top of its TOML file for its sources."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    certainty: str
    notes: tuple[str, ...] = ()
    file: FileSpec = FileSpec()
    columns: Mapping[str, Texts] = Field(default_factory=dict)
    optional_columns: Mapping[str, Texts] = Field(default_factory=dict)
    layouts: tuple[Layout, ...] = ()
    detect: Detect = Detect()
    derived: Mapping[str, tuple[Source, ...]] = Field(default_factory=dict)
    empty_words: Texts = ()
    direction: tuple[DirectionRule, ...]
    outcome: tuple[OutcomeRule, ...]
    time: TimeSpec
    numbers: NumberSpec = NumberSpec()
    call: CallSpec

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.file.header == bool(self.layouts):
            raise ValueError("a format has either `columns` (with a header) or `layouts` (without)")
        unknown = sorted(self._references() - self.known_columns())
        if unknown:
            raise ValueError(f"column {unknown[0]!r} is used but neither read nor derived")
        wrong = sorted(name for name in self.known_columns() if not re.fullmatch(r"[a-z][a-z0-9_]*", name))
        if wrong:
            raise ValueError(f"column name {wrong[0]!r} must be lower case letters, digits and underscores")
        for pattern in self._patterns():
            re.compile(pattern)
        for sources in self.derived.values():
            for source in sources:
                if source.extract is not None and re.compile(source.extract).groups != 1:
                    raise ValueError(f"extract {source.extract!r} must have exactly one group")
        return self

    def read_columns(self) -> tuple[str, ...]:
        """Return the names of all columns that the file itself may have."""
        if self.layouts:
            return tuple(dict.fromkeys(name for layout in self.layouts for name in layout.columns))
        return (*self.columns, *self.optional_columns)

    def known_columns(self) -> set[str]:
        """Return the names of all columns, read or derived."""
        return {*self.read_columns(), *self.derived}

    def used_columns(self) -> tuple[str, ...]:
        """Return the columns of the file that preparing needs, in the order of the file."""
        used = self._references()
        return tuple(name for name in self.read_columns() if name in used)

    def needs_timezone(self) -> bool:
        """Say whether times can be read only when the operator names their zone."""
        return self.time.zone == Zone.OPTION

    def shown(self, name: str) -> str:
        """Return a column as the operator finds it in the export: its header, or where a derived one is taken."""
        while name in self.derived:
            name = self.derived[name][0].column
        spellings = self.columns.get(name) or self.optional_columns.get(name)
        return spellings[0] if spellings else name

    def _references(self) -> set[str]:
        call = self.call
        names = {*call.agent, call.customer, *call.unique_by, *call.row, *call.secondary, *self.time.columns}
        names.update(name for candidate in call.id for name in candidate)
        singles = (call.ring_seconds, call.talk_seconds, call.answer_time, call.zohouser, call.voiceuri)
        names.update(name for name in singles if name)
        names.update(name for tests in self._all_tests() for name in tests)
        names.update(rule.column for rule in self.outcome if rule.column)
        names.update(source.column for sources in self.derived.values() for source in sources)
        names.update(self.detect.patterns)
        if self.time.evidence:
            names.add(self.time.evidence.column)
        return names

    def _all_tests(self) -> list[Tests]:
        tests = [rule.when for rule in self.direction] + [rule.when for rule in self.outcome]
        tests += [source.when for sources in self.derived.values() for source in sources]
        return [*tests, *self.file.drop_rows]

    def _patterns(self) -> list[str]:
        patterns = [self.numbers.extension, *self.detect.patterns.values()]
        patterns += [pattern for layout in self.layouts for pattern in layout.where.values()]
        tests = [test for tests in (*self._all_tests(), self.call.secondary) for test in tests.values()]
        return patterns + [test.matches for test in tests if test.matches]


class Cause(_Table):
    """What a word of a cause table means, where it may depend on whether the far end rang or talked."""

    otherwise: Verdict
    rang: Verdict | None = None
    talked: Verdict | None = None


def _cause_of(value: object) -> object:
    return {"otherwise": value} if isinstance(value, str) else value


class CauseTable(_Table):
    """The words of one vocabulary of outcomes, each with its meaning."""

    name: str
    title: str
    words: Mapping[str, Annotated[Cause, BeforeValidator(_cause_of)]]
