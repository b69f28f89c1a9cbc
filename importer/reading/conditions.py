"""The conditions of a format on whole columns at once, and the values it takes out of them."""

import re
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property, reduce
from typing import Self
from unicodedata import decimal

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from importer.formats.cells import TRUTH, caseless
from importer.formats.language import Source, Test, named_group
from schemas.vocabulary import Role

EXTENSION = r"\d{2,5}"
"""What an internal number looks like where neither the operator nor the agents file says more."""

LONG_EXTENSION_DIGITS = 6
"""From so many digits on, an extension has the length that a customer's number may have too."""

SERIAL, SERIAL_DIGITS = "-[0-9a-f]+$", "0123456789abcdef"
"""The end of a pattern that asks for a serial number, and what such a number is made of."""

_DIGITS = re.compile("[0-9(][0-9 ()./-]*")
"""What a country code can stand before."""

_TEXT = pd.StringDtype(na_value=np.nan)
"""What pandas calls "str"."""

_NOTHING = pd.Series([""], dtype=_TEXT)

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]

LOOKS = {
    "number": r"(?i)(tel|callto|sips?):[+(]*[0-9][0-9 ().-]{5,}.*|[0-9]{1,6}[pw]+[+0-9].*|[0-9]*x{2,}.*|##+|"
    r"unknown|anonymous|private|restricted|withheld|unavailable|n/a",
    "code": r"[*#][0-9*#]{0,8}|[A-Za-z].*",
}
"""A number written as an address, with a pause or hidden digits, or its absence in a word; a code or a name."""

SPELT_EXTENSION = re.compile("[\"'\u201c-\u201e]?(\\d{1,7})(?:[.,]0{1,2})?[\"'\u201c-\u201e]?")
"""Extension 101 as pandas and Excel write it among numbers (101.0, 101,00), in quotes, or in other digits."""


def bare_extension(text: str) -> str:
    """Return an extension in plain digits; any other text as it is."""
    found = SPELT_EXTENSION.fullmatch(text)
    return "".join(str(decimal(digit)) for digit in found[1]) if found else text


@dataclass(frozen=True, slots=True)
class Extensions:
    """Our own internal numbers: those of the agents file (see `caseless`), and what looks like one here.

    ``roles`` are those that the rows of the file prove of names. ``trunks`` is the operator's pattern of the names
    of lines to the outside; with ``is_chosen`` ``pattern`` is the operator's too. Both outrank the proofs.
    """

    pattern: str = EXTENSION
    known: frozenset[str] = frozenset()
    roles: Mapping[str, Role] = field(default_factory=dict)
    trunks: str = ""
    is_chosen: bool = False

    def are_extensions(self, values: pd.Series) -> Flags:
        """Return which of these texts are internal numbers, however they are written (`bare_extension`)."""
        odd = ~matches(values, r"[\w+*#/:@ -]*")
        if odd.any():
            values = values.mask(odd, values[odd].map(bare_extension))
        alike = matches(values, self.pattern)
        if self.trunks:
            alike &= ~matches(values, self.trunks)
        return self.are_proved(values) | alike

    def are_proved(self, values: pd.Series) -> Flags:
        """Return which of these texts are telephones by more than their look."""
        proved = {caseless(name) for name, role in self.roles.items() if role is Role.TELEPHONE}
        found = _is_one_of(values, sorted(self.known | proved))
        if self.is_chosen:
            found |= matches(values, self.pattern)
        return found & ~matches(values, self.trunks) if self.trunks else found

    def may_be_extensions(self, values: pd.Series) -> Flags:
        """Return which of these texts are no internal numbers, but as long as a long one, proved or listed."""
        telephones = {name for name, role in self.roles.items() if role is Role.TELEPHONE} | self.known
        lengths = {len(name) for name in telephones if name.isdigit() and len(name) >= LONG_EXTENSION_DIGITS}
        if self.is_chosen or not lengths:
            return np.zeros(len(values), dtype=np.bool_)
        alike = matches(values, "|".join(f"[0-9]{{{length}}}" for length in sorted(lengths)))
        return alike & ~self.are_extensions(values)

    def roles_of(self, values: pd.Series) -> list[Role]:
        """Return what stands behind each of these names, which is unproved of empty text.

        The operator's patterns and the agents file outrank the proofs, and these what a name looks like.
        """
        trunks = matches(values, self.trunks) if self.trunks else np.zeros(len(values), dtype=np.bool_)
        telephones = matches(values, self.pattern)
        found = []
        for name, is_trunk, is_telephone in zip(values, trunks.tolist(), telephones.tolist(), strict=True):
            if is_trunk:
                found.append(Role.TRUNK)
            elif (self.is_chosen and is_telephone) or (self.known and caseless(name) in self.known):
                found.append(Role.TELEPHONE)
            else:
                found.append(self.roles.get(name, Role.TELEPHONE if is_telephone else Role.UNPROVED))
        return found


@dataclass(frozen=True)
class Coded:
    """A text column as its distinct values (some may be equal) and the place of each row's value among them."""

    values: pd.Series
    codes: Places

    @classmethod
    def of(cls, column: pd.Series) -> Self:
        """Return a text column by its distinct values."""
        if not pc.max(pc.binary_length(arrow_of(column)), min_count=0).as_py():  # the file may lack the column
            return cls.empty(len(column))
        codes, values = pd.factorize(column)
        return cls(pd.Series(values, dtype=_TEXT), codes)

    @classmethod
    def empty(cls, rows: int) -> Self:
        """Return a column of empty cells."""
        return cls(_NOTHING, np.zeros(rows, dtype=np.intp))

    @cached_property
    def filled(self) -> Flags:
        """Return for each row whether its cell is not empty."""
        return np.asarray((self.values != "").to_numpy(dtype=np.bool_)[self.codes], dtype=np.bool_)

    def text(self, index: pd.Index) -> pd.Series:
        """Return the cells row by row."""
        return self.values.take(self.codes).set_axis(index)


@dataclass(eq=False)
class Conditions:
    """Evaluates a format's conditions on one frame of text columns, each once, and takes values out of its cells.

    All is done on the distinct values of a column. A regular expression on 200 extensions costs nothing, on 30,000
    cells some milliseconds; finding the distinct ones costs one.

    A column of ``derived`` is made of its sources when it is first used, maybe for some of the rows only.
    ``lists`` returns whether the agents file lists a text, ``has`` whether the file has a column, or one of those
    that a derived one is taken from. ``whole`` are the conditions on a larger frame, with the rows of it that are
    here.
    """

    frame: pd.DataFrame
    extensions: Extensions
    derived: Mapping[str, tuple[Source, ...]] = field(default_factory=dict)
    lists: Callable[[str], bool] | None = None
    has: Callable[[str], bool] = bool
    whole: tuple["Conditions", Flags] | None = None
    _known: dict[tuple[str, Test], Flags] = field(default_factory=dict, init=False)
    _equal: dict[tuple[str, str], Flags] = field(default_factory=dict, init=False)
    _coded: dict[str, Coded] = field(default_factory=dict, init=False)
    _headed: dict[str, Coded] = field(default_factory=dict, init=False)

    def select(self, kept: Flags, frame: pd.DataFrame) -> Self:
        """Return the same for some of the rows, whose frame may have further columns."""
        return replace(self, frame=frame, whole=(self, kept))

    def column(self, name: str) -> Coded:
        """Return a column of the frame, or a derived one: for each row the first of its sources that is filled."""
        if name not in self._coded:
            whole, kept = self.whole or (self, np.zeros(0, dtype=np.bool_))
            known = whole._coded.get(name)
            if known is not None:
                self._coded[name] = Coded(known.values, known.codes[kept])
            elif name in self.derived:
                found = self.value(self.derived[name][0])
                for source in self.derived[name][1:]:
                    if found.filled.all():
                        break
                    other = self.value(source, ~found.filled)
                    if other.filled.any():
                        values = pd.concat([found.values, other.values], ignore_index=True)
                        codes = np.where(found.filled, found.codes, other.codes + len(found.values))
                        found = Coded(values, codes)
                self._coded[name] = found
            elif name in self.frame:
                self._coded[name] = Coded.of(self.frame[name])
            else:  # the export lacks it
                self._coded[name] = Coded.empty(len(self.frame))
        return self._coded[name]

    def with_texts(self, names: Iterable[str]) -> pd.DataFrame:
        """Return the frame, to which these derived columns are added as text."""
        for name in names:
            self.frame[name] = self.column(name).text(self.frame.index)
        return self.frame

    def value(self, source: Source, rows: Flags | None = None) -> Coded:
        """Return the value that a source takes out of its column, for these rows at least."""
        if source.when:
            wanted = self.hold(source.when)
            rows = wanted if rows is None else wanted & rows
            if not rows.any():
                return Coded.empty(len(self.frame))
        found, index = self._extracted(source.column, source.extract), self.frame.index
        if source.country_code is not None:  # any text but digits stays as it is
            codes = self.column(source.country_code).text(index).tolist()
            pairs = zip(found.text(index).tolist(), codes, strict=True)
            texts = [f"+{code} {text}" if code and _DIGITS.fullmatch(text) else text for text, code in pairs]
            found = Coded.of(pd.Series(texts, index, dtype=_TEXT))
        if source.end_of is not None:
            longer = self.column(source.end_of).text(index).tolist()
            pairs = zip(found.text(index).tolist(), longer, strict=True)
            texts = [text if text != other and other.endswith(text) else "" for text, other in pairs]
            found = Coded.of(pd.Series(texts, index, dtype=_TEXT))
        if source.agent and self.lists is not None:  # it counts where the agents file lists it
            listed = [text if self.lists(text) else "" for text in found.values]
            found = Coded(pd.Series(listed, dtype=_TEXT), found.codes)
        if not source.when or rows is None:
            return found
        values = pd.concat([found.values, _NOTHING], ignore_index=True)
        return Coded(values, np.where(rows, found.codes, len(found.values)))

    def hold(self, tests: Mapping[str, Test]) -> Flags:
        """Return for each row whether every condition holds."""
        result = np.ones(len(self.frame), dtype=np.bool_)
        for column, test in tests.items():
            if (column, test) not in self._known:
                if not result.any():
                    break
                self._known[column, test] = self._evaluated(column, test)
            result &= self._known[column, test]
        return result

    def _evaluated(self, column: str, test: Test) -> Flags:
        if test.matches is not None and self._begins_otherwise(column, test.matches):
            return np.zeros(len(self.frame), dtype=np.bool_)
        coded, extensions = self.column(column), self.extensions
        values = coded.values
        holds = np.ones(len(values), dtype=np.bool_)
        if test.any_of is not None:
            words = {caseless(word) for word in test.any_of}
            words |= {each for word in words & TRUTH.keys() for each in TRUTH[word]}
            holds &= _is_one_of(values, words)
        if test.matches is not None:
            holds &= matches(values, test.matches)
        if test.looks_like is not None:
            holds &= matches(values, LOOKS[test.looks_like])
        if test.empty is not None:
            holds &= (values == "").to_numpy(dtype=np.bool_) == test.empty
        if test.extension is not None:
            holds &= extensions.are_extensions(values) == test.extension
        if test.maybe_extension is not None:
            holds &= extensions.may_be_extensions(values) == test.maybe_extension
        if test.role is not None:
            holds &= np.array([role in test.role for role in extensions.roles_of(values)], dtype=np.bool_)
        if test.proved is not None:
            holds &= extensions.are_proved(values) == test.proved
        if test.present is not None:
            holds &= self.has(column) == test.present
        if test.over is not None:
            holds &= (seconds_of(values) > test.over).to_numpy(dtype=np.bool_)
        result = holds[coded.codes]
        for name, wanted in ((test.equals, True), (test.differs, False)):
            if name is None:
                continue
            other = self.column(name)
            both = coded.filled & other.filled
            if (column, name) not in self._equal and both.any():  # without letter case
                mine, theirs = (pc.utf8_lower(arrow_of(each.values)).combine_chunks() for each in (coded, other))
                place = pc.fill_null(pc.index_in(theirs, value_set=mine), -1).to_numpy(zero_copy_only=False)
                first = pc.index_in(mine, value_set=mine).to_numpy(zero_copy_only=False)
                self._equal[column, name] = np.asarray(place[other.codes] == first[coded.codes], dtype=np.bool_)
            result = result & both & (self._equal.get((column, name), both) == wanted)
        return result

    def _extracted(self, column: str, pattern: str | None) -> Coded:
        """Return the one group of a pattern in a column, empty where it does not match; all without a pattern.

        Asterisk ends the name of a channel with `-0000002a`, so that each is another. Where every match of the
        pattern ends in such a serial number, 25,000 channels are 200 telephones, and it is tried on those only.
        """
        if pattern is None:
            return self.column(column)
        if pattern.startswith("^") and self._begins_otherwise(column, pattern):
            return Coded.empty(len(self.frame))
        within_groups = re.sub(r"\(\?:[\w|]*\)", "", pattern)
        ends_in_serial = pattern.endswith(SERIAL) and re.search(r"\||\(\?[^:]", within_groups) is None
        if column in self.frame and ends_in_serial:
            if column not in self._headed:
                texts = arrow_of(self.frame[column])
                heads = pc.ascii_rtrim(texts, characters=SERIAL_DIGITS)
                heads = pc.if_else(pc.equal(heads, texts), "", heads)  # one without a serial number is emptied
                self._headed[column] = Coded.of(text_series(heads, self.frame.index))
            coded, pattern = self._headed[column], pattern.removesuffix(SERIAL) + "-$"
        else:
            coded = self.column(column)
        groups = pc.extract_regex(arrow_of(coded.values), pattern=named_group(pattern))
        found = Coded.of(text_series(pc.fill_null(pc.struct_field(groups, "value"), ""), coded.values.index))
        return Coded(found.values, found.codes[coded.codes])

    def _begins_otherwise(self, column: str, pattern: str) -> bool:
        """Return whether no cell of a column begins with the letters with which all matches of the pattern begin.

        Few files have channels called `Local/`: this costs less than to find the distinct ones of 50,000 channels.
        """
        if column in self._coded or column not in self.frame or "|" in pattern or "(?i" in pattern:
            return False
        found = re.match(r"\^?\(?([A-Za-z0-9/]+)([?*{]?)", pattern)
        begin = "" if found is None else found[1][:-1] if found[2] else found[1]
        return bool(begin) and not pc.any(pc.starts_with(arrow_of(self.frame[column]), begin), min_count=0).as_py()


def arrow_of(values: pd.Series) -> pa.ChunkedArray:
    """Return a text column as Arrow sees it, without a copy."""
    array = pa.array(values.array, type=pa.large_string())
    return array if isinstance(array, pa.ChunkedArray) else pa.chunked_array([array])


def text_series(values: pa.ChunkedArray, index: pd.Index) -> pd.Series:
    """Return an Arrow text column as a pandas text column under ``index``."""
    # A sixth of the time of a cast. pandas-stubs 3.1 does not know the argument.
    array = pd.arrays.ArrowStringArray(values, dtype=_TEXT)  # type: ignore[call-arg]
    return pd.Series(array, index=index)


def joined(columns: list[pd.Series]) -> pd.Series:
    """Return the cells of each row joined by the unit separator, which no cell of an export holds."""
    parts = [arrow_of(column).combine_chunks() for column in columns]
    values = pc.binary_join_element_wise(*parts, pa.scalar("\x1f", pa.large_string()))
    return text_series(pa.chunked_array([values]), columns[0].index)


def seconds_of(values: pd.Series) -> pd.Series:
    """Return durations in seconds (float64, NaN where there is none) of `12`, `0:00:12`, `00:01'05`, `1m 15s`.

    pandas writes `0 days 00:00:12`.
    """
    codes, distinct = pd.factorize(values)
    seconds = np.full(len(distinct) + 1, np.nan)  # the last stands for a missing value, whose code is -1
    for place, written in enumerate(distinct):
        text = written.strip().removeprefix("0 days ").replace("'", ":")
        if re.fullmatch(r"\d{1,9}(:\d\d){0,2}(\.\d+)?", text):
            seconds[place] = reduce(lambda total, part: total * 60 + float(part), text.split(":"), 0.0)
            continue
        units = re.fullmatch(r"(?:(\d{1,9})h)? ?(?:(\d{1,9})m(?:in)?)? ?(?:(\d{1,9})s)?", text)
        if text and units:
            hours, minutes, rest = (int(part or 0) for part in units.groups())
            seconds[place] = hours * 3600 + minutes * 60 + rest
    return pd.Series(seconds[codes], index=values.index)


def _is_one_of(values: pd.Series, words: Collection[str]) -> Flags:
    """Return which texts are among words in the form of `caseless`; only texts beyond ASCII need it themselves."""
    texts = arrow_of(values)
    among = pc.is_in(pc.utf8_lower(texts), value_set=pa.array([*words], type=pa.large_string()))
    found = np.array(among.to_numpy(), dtype=np.bool_)
    foreign = ~np.asarray(pc.string_is_ascii(texts).to_numpy(), dtype=np.bool_)
    if foreign.any():
        places, distinct = pd.factorize(values[foreign])
        found[foreign] = np.array([caseless(text) in words for text in distinct], dtype=np.bool_)[places]
    return found


def matches(values: pd.Series, pattern: str) -> Flags:
    """Return which texts a pattern matches from end to end."""
    found = pc.match_substring_regex(arrow_of(values), pattern=f"^(?:{pattern})$")
    return np.asarray(found.to_numpy(), dtype=np.bool_)
