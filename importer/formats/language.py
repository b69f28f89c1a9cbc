"""The language of `schemas/formats/*.toml`, what one export layout is made of, and of `schemas/causes/*.toml`.

A format is tables only. It names the columns of the export (by header or by position), says how the values
it needs are taken out of them, and gives ordered decision tables for direction and outcome: the first rule
that holds decides. Regular expressions are RE2's (no look-around); letter case counts. The keys are explained in
`schemas/formats/README.md`; the docstrings have what that page leaves open. All values are frozen and checked.
"""

import re
from collections.abc import Collection, Mapping
from typing import Annotated, Final, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    ValidationInfo,
    field_validator,
    model_validator,
)

from importer.formats.cells import Quotes, caseless
from schemas.vocabulary import Direction, Role, Verdict

_ONE_OR_MORE: Final = BeforeValidator(lambda value: (value,) if isinstance(value, str) else value)

Texts = Annotated[tuple[str, ...], _ONE_OR_MORE]
"""One text or a list of texts."""

BUILT_IN = {"patterns": "sound"}
"""Validation context of the built-in formats: the tests check their patterns and times, and a run does not."""


def _sound_pattern(pattern: str, info: ValidationInfo) -> str:
    if info.context is BUILT_IN:
        return pattern
    import pyarrow as pa
    import pyarrow.compute as pc

    try:
        re.compile(pattern)
        # Arrow compiles a pattern only when there is a cell to look at (checked with 26.0): not an empty array.
        pc.match_substring_regex(pa.array([""], type=pa.large_string()), pattern=f"^(?:{pattern})$")
    except (re.error, pa.ArrowInvalid) as error:
        raise ValueError(f"regular expression {pattern!r}: {error}") from None
    except RecursionError:
        raise ValueError("a regular expression has too many brackets inside each other") from None
    return pattern


Pattern = Annotated[str, AfterValidator(_sound_pattern)]
"""A regular expression, which Python's own `re` understands and Arrow's RE2."""


def named_group(extract: str) -> str:
    """Return an ``extract`` with its one group named ``value``, as RE2 in Arrow wants it."""
    return re.sub(r"(?<!\\)\((?!\?)", "(?P<value>", extract, count=1)


def _one_group(extract: str, info: ValidationInfo) -> str:
    if info.context is BUILT_IN:
        return extract
    compiled = re.compile(extract)
    if compiled.groups != 1 or compiled.groupindex:
        raise ValueError(f"regular expression {extract!r} must have exactly one group, without a name")
    if dict(re.compile(named_group(extract)).groupindex) != {"value": 1}:
        raise ValueError(f"regular expression {extract!r}: write \\( for a bracket that opens no group")
    return extract


Extract = Annotated[Pattern, AfterValidator(_one_group)]
"""A regular expression whose one group is what is wanted."""


class Table(BaseModel):
    """A table of a TOML file: frozen, and without keys that are not known."""

    model_config = ConfigDict(frozen=True, extra="forbid")


def word_key(word: str) -> str:
    """Return a status word in the form in which words are compared: without case, spaces, `-` and `_`."""
    return re.sub(r"[\s_-]+", "", caseless(word))


class Cause(Table):
    """The meaning of a word of a cause table, which may depend on whether the far end rang or talked."""

    otherwise: Verdict
    rang: Verdict | None = None
    talked: Verdict | None = None


class CauseTable(Table):
    """The words of one vocabulary of outcomes, each with its meaning; the first of equal words counts."""

    name: str = ""
    title: str = ""
    words: Mapping[
        str,
        Annotated[Cause, BeforeValidator(lambda value: {"otherwise": value} if isinstance(value, str) else value)],
    ]


ZONE_SOURCES: Final = ("option", "value")
"""Where the zone of naive times comes from, when the format does not name an IANA zone itself."""


class Test(Table):
    """One condition on one column; every part that is given must hold.

    Words and other columns are compared without letter case.
    """

    any_of: Texts | None = None
    matches: Pattern | None = None
    looks_like: Literal["number", "code"] | None = None
    empty: bool | None = None
    extension: bool | None = None
    maybe_extension: bool | None = None
    role: Annotated[tuple[Role, ...], _ONE_OR_MORE] | None = None
    proved: bool | None = None
    equals: str | None = None
    differs: str | None = None
    over: int | None = None
    present: bool | None = None


Tests = Mapping[
    str,
    Annotated[
        Test, BeforeValidator(lambda value: {"any_of": value} if isinstance(value, str | list | tuple) else value)
    ],
]
"""Column -> condition; all must hold. A text or list of texts stands for ``any_of``."""


class FileSpec(Table):
    """How the file is written down; ``columns`` by position stand in a file without header."""

    header: bool = True
    delimiters: Texts = (",", ";", "\t", "|")
    quotes: Quotes = Quotes.DOUBLED
    skip_initial_space: bool = False
    encodings: Texts = ("utf-8",)
    drop_rows: tuple[Tests, ...] = ()
    spill: str | None = None
    columns: Mapping[str, tuple[int, int]] = Field(default_factory=dict)

    @model_validator(mode="after")
    def _has_columns_in_order(self) -> Self:
        before, end = "", 0
        for name, (first, last) in self.columns.items():
            if first < 1 or last < first:
                raise ValueError(f"column {name!r} [{first}, {last}]: the first position, from 1, then the last")
            if first <= end:
                raise ValueError(f"column {name!r} begins at {first}, but {before!r} before it ends at {end}")
            before, end = name, last
        return self


class Layout(Table):
    """One order of the columns of an export without header."""

    columns: tuple[str, ...]
    where: Mapping[str, Pattern] = Field(default_factory=dict)
    open_end: bool = False


class Detect(Table):
    """What must hold for a file to be of this format, beyond its columns being there."""

    patterns: Mapping[str, Pattern] = Field(default_factory=dict)
    forbidden: Texts = ()


class Source(Table):
    """A value taken from a column: all of it, or the one group of ``extract``, empty without a match.

    The agents file may list it under any key; with ``country_code`` digits become ``+44 7700...``.
    """

    column: str
    country_code: str | None = None
    extract: Extract | None = None
    when: Tests = Field(default_factory=dict)
    agent: bool = False
    end_of: str | None = None

    def columns(self) -> tuple[str, ...]:
        """Return the columns that this value depends on."""
        compared = (name for test in self.when.values() for name in (test.equals, test.differs) if name)
        return (self.column, *filter(None, (self.country_code, self.end_of)), *self.when, *compared)


class EndpointRule(Table):
    """What proves a role; proofs outrank ``unproved``, and ``contradicted`` outranks those of a telephone."""

    of: str
    value: Role = Field(alias="is")
    when: Tests = Field(default_factory=dict)
    where_any: Tests = Field(default_factory=dict)


class DirectionRule(Table):
    """The direction of rows for which ``when`` holds; ``unknown`` rejects them whatever the next rules decide."""

    when: Tests
    value: Direction | Literal["unknown"] = Field(alias="is")


class OutcomeRule(Table):
    """Either a decision or a look-up of a column's word in ``words`` and ``table``.

    A row with an empty cell goes to the next rule. Where none decides, it is rejected for the unknown word.
    """

    when: Tests = Field(default_factory=dict)
    value: Verdict | Literal["unknown"] | None = Field(default=None, alias="is")
    column: str | None = None
    table: str | None = None
    words: Mapping[str, str] = Field(default_factory=dict)
    unknown: str = Field(default="reject", pattern="^(reject|next)$")

    @model_validator(mode="after")
    def _is_one_of_two(self) -> Self:
        if (self.value is None) == (self.column is None):
            raise ValueError("give either `is` with `when`, or `column` with `table` or `words`")
        if self.column is not None and not (self.table or self.words):
            raise ValueError("a `column` needs a `table` or `words` to look its values up in")
        if self.column is None and self.unknown == "next":
            raise ValueError("`unknown` needs a `column` to look values up in")
        return self


SECONDS_FROM_1601_TO_1970 = 11_644_473_600
CUT_EPOCH = r"(?:.+-)?(\d{9,10})"
"""An id of an epoch and a count, such as Asterisk's, of which a spreadsheet program has cut the count."""


class TimeSpec(Table):
    """The start of the call: columns, how it is written, and whose clock it is.

    A time of zone ``value`` without an offset is rejected unless the operator gives ``--timezone``. A zone in
    ``zone_column`` outranks ``zone``. ``evidence_time`` is written like the start, and shows the moment of the
    evidence where that is another one.
    """

    columns: Texts
    formats: Annotated[Texts, Field(min_length=1)]
    zone: str = "option"
    zone_default: str | None = None
    zone_column: str | None = None
    evidence: Source | None = None
    evidence_clock: Literal["epoch", "filetime"] = "epoch"
    evidence_time: Texts = ()

    @field_validator("formats", "zone", "zone_default")
    @classmethod
    def _can_be_read(cls, value: str | tuple[str, ...] | None, info: ValidationInfo) -> object:
        if value is None or info.context is BUILT_IN:
            return value
        from schemas.time_layouts import layouts_of  # loads pyarrow
        from schemas.zones import fixed_advice, is_fixed, is_zone

        if not isinstance(value, str):
            for each in value:
                layouts_of(each)
        elif is_fixed(value):
            raise ValueError(fixed_advice(value))
        elif info.field_name == "zone_default" and not is_zone(value):
            raise ValueError(f"{value!r} is not an IANA time zone")
        elif value not in ZONE_SOURCES and not is_zone(value):
            raise ValueError(f"{value!r} is neither `option` nor `value` nor an IANA time zone")
        return value

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        if self.zone_default is not None and self.zone != "option":
            raise ValueError('`zone_default` needs zone = "option"')
        if self.evidence is not None and (len(self.evidence.columns()) > 1 or self.evidence.agent):
            raise ValueError("`evidence` takes `column` and `extract` only")
        return self

    def made_at(self, id_text: str, *, is_cut: bool) -> int | None:
        """Return the epoch second at which the id of a row was made, None for an id without a clock.

        A ``filetime`` is a 64-bit count of 100 ns since 1601 ([MS-DTYP] 2.3.3), written in hexadecimal digits.
        With ``is_cut`` ids are also read from which a spreadsheet program has cut the fraction of the second.
        """
        pattern, digits = self.evidence.extract if self.evidence else None, id_text
        if pattern is not None:
            found = re.search(pattern, id_text, re.ASCII)  # as Arrow's RE2 would
            digits = found[1] or "" if found else ""
        if self.evidence_clock == "filetime":
            count = re.fullmatch("[0-9A-Fa-f]{16}", digits.replace("-", ""))
            return int(count[0], 16) // 10_000_000 - SECONDS_FROM_1601_TO_1970 if count else None
        if is_cut and not digits and (found := re.fullmatch(CUT_EPOCH, id_text, re.ASCII)):
            digits = found[1]
        return int(digits) if re.fullmatch("[0-9]{1,18}", digits) else None


class NumberSpec(Table):
    """What digits without ``+`` mean in this export; never guessed row by row."""

    plain_digits: str = Field(default="national", pattern="^(national|international)$")


class CallSpec(Table):
    """Which columns make the call.

    Rows with one id share one of the columns ``same`` at least, as long as the id is sound. Without ``row`` rows
    of a call are equal when all their cells are. With ``legs`` false a second row with the id of a call must say
    the same. ``sent_number`` counts where it is a usable number, and no outside prefix is taken off it.

    ``duration_seconds`` is the whole call, ringing included, also of calls that nobody answered; a column of 0 for
    those is talk time and must not stand here. It and ``end_time`` bound the ringing where ``ring_seconds`` is not
    there.
    """

    customer: str
    sent_number: str | None = None
    agent: Texts
    id: tuple[Texts, ...] = ()
    id_rule: Literal["first", "least"] = "first"
    unique_by: Texts = ()
    system: str | None = None
    system_id: str | None = None
    cut_id: Pattern | None = None
    same: Annotated[Texts, Field(max_length=2)] = ()
    joins: Texts = ()
    row: Texts = ()
    legs: bool = True
    secondary: Tests = Field(default_factory=dict)
    incoming_decides: bool = False
    ring_seconds: str | None = None
    talk_seconds: str | None = None
    duration_seconds: str | None = None
    answer_time: str | None = None
    end_time: Texts = ()
    zohouser: str | None = None
    voiceuri: str | None = None

    @model_validator(mode="after")
    def _has_comparable_ids(self) -> Self:
        if self.id_rule == "least" and any(len(candidate) != 1 for candidate in self.id):
            raise ValueError('id_rule = "least" needs candidates of one column each')
        if self.system_id is not None and (self.system is None or (self.system_id,) not in self.id):
            raise ValueError("`system_id` is one of the columns of `id`, in a format with `system`")
        return self


class Shape(Table):
    """By what a file is recognised: its columns, how it is written down, and what its cells look like."""

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    title: str
    certainty: str
    file: FileSpec = FileSpec()
    columns: Mapping[str, Texts] = Field(default_factory=dict)
    optional_columns: Mapping[str, Texts] = Field(default_factory=dict)
    layouts: tuple[Layout, ...] = ()
    detect: Detect = Detect()

    @model_validator(mode="before")
    @classmethod
    def _has_the_layout_of_its_positions(cls, tables: object) -> object:
        """Take columns by position for what they are besides: the one layout of a file without header."""
        file = tables.get("file") if isinstance(tables, dict) else None
        columns = file.get("columns") if isinstance(file, dict) else None
        if not isinstance(tables, dict) or not isinstance(file, dict) or not isinstance(columns, dict):
            return tables
        if tables.keys() & {"columns", "optional_columns", "layouts"} or file.get("header"):
            raise ValueError("a format with `columns` by position in `[file]` has no header and no other columns")
        return {**tables, "file": {**file, "header": False}, "layouts": [{"columns": list(columns)}]}

    @model_validator(mode="after")
    def _has_columns(self) -> Self:
        if self.file.header != bool(self.columns):
            raise ValueError("a format has `columns`, found by the header, unless [file] says `header = false`")
        if not (self.columns or self.layouts):
            raise ValueError("a format without a header has `layouts`")
        return self


class LookAlike(Shape):
    """An export that no call can be taken from, though it comes from a telephone system: refused by name.

    ``why`` ends the sentence "... is a <title>: "; ``todo`` says what to import instead.
    """

    why: str
    todo: str


class CdrFormat(Shape):
    """One export layout, complete and checked; see the comment on top of its TOML file for its sources."""

    family: str | None = None
    notes: tuple[str, ...] = ()
    derived: Mapping[str, tuple[Source, ...]] = Field(default_factory=dict)
    endpoint: tuple[EndpointRule, ...] = ()
    empty_words: Texts = ()
    direction: tuple[DirectionRule, ...]
    outcome: tuple[OutcomeRule, ...]
    time: TimeSpec
    numbers: NumberSpec = NumberSpec()
    call: CallSpec

    @model_validator(mode="after")
    def _is_consistent(self) -> Self:
        known = {*self.read_columns(), *self.derived}
        unknown = sorted({*self._references(), *self.detect.patterns} - known)
        if unknown:
            raise ValueError(f"column {unknown[0]!r} is used but neither read nor derived")
        known = set(self.read_columns())
        for name, sources in self.derived.items():
            early = sorted({column for source in sources for column in source.columns()} - known)
            if early:
                raise ValueError(f"derived column {name!r} is taken from {early[0]!r}, which stands below it")
            known.add(name)
        wrong = sorted(name for name in known if not re.fullmatch(r"[a-z][a-z0-9_]*", name))
        if wrong:
            raise ValueError(f"column name {wrong[0]!r} must be lower case letters, digits and underscores")
        return self

    def read_columns(self) -> tuple[str, ...]:
        """Return the names of all columns that the file itself may have."""
        by_position = (name for layout in self.layouts for name in layout.columns)
        return tuple(dict.fromkeys((*self.columns, *self.optional_columns, *by_position)))

    def used_columns(self) -> tuple[str, ...]:
        """Return the columns of the file that preparing needs, in the order of the file.

        Where no columns are named that distinguish rows, those by which a file is recognised are among them.
        """
        used = self._references() if self.call.row else {*self._references(), *self.detect.patterns}
        return tuple(name for name in self.read_columns() if name in used)

    def origins(self, *names: str) -> tuple[str, ...]:
        """Return the columns of the file that these are taken from, the first choice of each first."""
        found: dict[str, None] = {}
        for name in names:
            sources = [source.column for source in self.derived.get(name, ())]
            found |= dict.fromkeys(self.origins(*sources) if name in self.derived else (name,))
        return tuple(found)

    def shown(self, name: str) -> str:
        """Return a column as the operator finds it in the export: its header, or where a derived one is taken."""
        name = self.origins(name)[0]
        spellings = self.columns.get(name) or self.optional_columns.get(name)
        return spellings[0] if spellings else name

    def needs_timezone(self, columns: Collection[str] = ()) -> bool:
        """Return whether the operator must give --timezone: the times are local and no zone stands in.

        ``columns`` are those that the file has: one of them may name the zone of each row.
        """
        time = self.time
        return time.zone == "option" and time.zone_default is None and time.zone_column not in columns

    def id_columns(self) -> set[str]:
        """Return the columns that make the key of a call, and those of the file that these are taken from."""
        names = {*self.call.unique_by, *(name for candidate in self.call.id for name in candidate)}
        return names.union(self.origins(*names))

    def origins_of_ids(self) -> tuple[str, ...]:
        """Return the columns of the file that the id of a call is taken from, the first choice first."""
        return self.origins(*(name for candidate in self.call.id for name in candidate))

    def text_columns(self) -> set[str]:
        """Return the columns whose cells preparing reads itself; of the others only conditions are evaluated."""
        call, time = self.call, self.time
        singles = [call.ring_seconds, call.talk_seconds, call.duration_seconds, call.answer_time, call.zohouser]
        singles += [call.voiceuri, call.sent_number, time.zone_column, *(rule.column for rule in self.outcome)]
        singles += time.evidence.columns() if time.evidence else ()
        names = {*call.agent, call.customer, *call.row, *call.end_time, *time.columns, *time.evidence_time}
        return names.union(self.id_columns(), filter(None, singles))

    def columns_tested_for_emptiness(self) -> set[str]:
        """Return the columns of the file that a condition asks to be empty or filled, except those of words."""
        names = {name for tests in self._tests() for name, test in tests.items() if test.empty is not None}
        return {*self.origins(*(names - {rule.column for rule in self.outcome}))}

    def columns_of_words(self) -> set[str]:
        """Return the columns of words, codes and durations in which 486.0 is 486: no test asks for the point."""
        call, time = self.call, self.time
        tests = [each for tests in self._tests() for each in tests.items()]
        pointed = {name for name, test in tests if re.search(r"\\\.|\.0", f"{test.matches} {test.any_of}")}
        others = [call.customer, call.sent_number, call.zohouser, call.voiceuri, call.answer_time, *call.agent]
        others += [*call.end_time, *time.columns, *(time.evidence.columns() if time.evidence else ())]
        return {*self.used_columns()}.difference(self.origins(*filter(None, others)), self.id_columns(), pointed)

    def _tests(self) -> list[Mapping[str, Test]]:
        sources = [source for sources in self.derived.values() for source in sources]
        tests = [rule.when for rules in (self.endpoint, self.direction, self.outcome, sources) for rule in rules]
        return [*tests, *(rule.where_any for rule in self.endpoint), *self.file.drop_rows, self.call.secondary]

    def _references(self) -> set[str]:
        sources = [source for sources in self.derived.values() for source in sources]
        names = {*self.text_columns(), *self.call.same, *self.call.joins, *(rule.of for rule in self.endpoint)}
        names.update(name for source in sources for name in source.columns())
        for each in self._tests():
            names.update(each)
            names.update(name for test in each.values() for name in (test.equals, test.differs) if name)
        return names if self.file.spill is None else {*names, self.file.spill}
