"""The conditions of a format on whole columns at once, and the values it takes out of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from importer.formats.cells import caseless
from importer.formats.language import Source, Test, named_group
from schemas.vocabulary import Role

LONG_EXTENSION_DIGITS = 6
"""From so many digits on, an extension has the length that a customer's number may have too."""

SERIAL, SERIAL_DIGITS = "-[0-9a-f]+$", "0123456789abcdef"
"""The end of a pattern that asks for a serial number, and what such a number is made of."""

_TEXT = pd.StringDtype(na_value=np.nan)
"""What pandas calls "str"."""

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Extensions:
    """Our own internal numbers: those of the agents file (see `caseless`), and what looks like one here.

    ``roles`` are those that the rows of the file prove of names. ``trunks`` is what the operator says that lines
    to the outside are called; ``is_told`` says that ``pattern`` is the operator's own. Both outrank the proofs.
    """

    pattern: str
    known: frozenset[str] = frozenset()
    roles: Mapping[str, Role] = field(default_factory=dict)
    trunks: str | None = None
    is_told: bool = False

    def are_extensions(self, values: pd.Series) -> Flags:
        """Say which of these texts are internal numbers."""
        proved = {caseless(name) for name, role in self.roles.items() if role is Role.TELEPHONE}
        found = _is_one_of(values, sorted(self.known | proved)) | _matches(values, self.pattern)
        return found & ~_matches(values, self.trunks) if self.trunks else found

    def may_be_extensions(self, values: pd.Series) -> Flags:
        """Say which of these texts are no internal numbers, but as long as a long one that is proved or listed."""
        telephones = {name for name, role in self.roles.items() if role is Role.TELEPHONE} | self.known
        lengths = {len(name) for name in telephones if name.isdigit() and len(name) >= LONG_EXTENSION_DIGITS}
        if self.is_told or not lengths:
            return np.zeros(len(values), dtype=np.bool_)
        alike = _matches(values, "|".join(f"[0-9]{{{length}}}" for length in sorted(lengths)))
        return alike & ~self.are_extensions(values)

    def roles_of(self, values: pd.Series) -> list[Role]:
        """Return what stands behind each of these names, which is unproved of empty text.

        The operator's patterns and the agents file outrank the proofs, and these what a name looks like.
        """
        trunks = _matches(values, self.trunks) if self.trunks else np.zeros(len(values), dtype=np.bool_)
        telephones = _matches(values, self.pattern)
        found = []
        for name, is_trunk, is_telephone in zip(values, trunks.tolist(), telephones.tolist(), strict=True):
            if is_trunk:
                found.append(Role.TRUNK)
            elif (self.is_told and is_telephone) or caseless(name) in self.known:
                found.append(Role.TELEPHONE)
            else:
                found.append(self.roles.get(name, Role.TELEPHONE if is_telephone else Role.UNPROVED))
        return found


class Conditions:
    """Answers a format's conditions on one frame of text columns, each condition once."""

    def __init__(self, frame: pd.DataFrame, extensions: Extensions) -> None:
        self._frame = frame
        self._extensions = extensions
        self._known: dict[tuple[str, Test], Flags] = {}
        self._distinct: dict[str, tuple[pd.Series, Places] | None] = {}

    def hold(self, tests: Mapping[str, Test]) -> Flags:
        """Say for each row whether every condition holds."""
        result = np.ones(len(self._frame), dtype=np.bool_)
        for column, test in tests.items():
            if (column, test) not in self._known:
                self._known[column, test] = self._answer(column, test)
            result &= self._known[column, test]
        return result

    def _answer(self, column: str, test: Test) -> Flags:
        if column not in self._distinct:
            self._distinct[column] = distinct_of(self._frame[column])
        found = self._distinct[column]
        if found is None:
            result = _holds(self._frame[column], test, self._extensions)
        else:
            distinct, places = found
            result = _holds(distinct, test, self._extensions)[places]
        if test.equals is not None:
            result = result & _are_equal(self._frame[column], self._frame[test.equals])
        if test.differs is not None:
            other = self._frame[test.differs]
            filled = ((self._frame[column] != "") & (other != "")).to_numpy(dtype=np.bool_)
            result = result & filled & ~_are_equal(self._frame[column], other)
        return result


def distinct_of(values: pd.Series) -> tuple[pd.Series, Places] | None:
    """Return the distinct values of a column that repeats itself and where each row's is, None for any other.

    A regular expression on two contexts or 200 extensions costs nothing, on 30,000 rows some milliseconds; telling
    30,000 values apart costs one.
    """
    places, distinct = pd.factorize(values)
    return None if 2 * len(distinct) > len(values) else (pd.Series(distinct), places)


def values_of(frame: pd.DataFrame, sources: tuple[Source, ...], extensions: Extensions) -> pd.Series:
    """Return for each row the first non-empty value that ``sources`` give, else empty text."""
    found = _value(frame, sources[0], extensions)
    for source in sources[1:]:
        empty = found == ""
        if not empty.any():
            break
        rest = _value(frame.loc[empty, [*dict.fromkeys(source.columns())]], source, extensions)
        found = found.where(~empty, rest.reindex(found.index, fill_value=""))
    return found


def _value(frame: pd.DataFrame, source: Source, extensions: Extensions) -> pd.Series:
    value = extracted(frame[source.column], source.extract)
    if source.country_code is not None:
        value = _international(value, frame[source.country_code])
    if source.when:
        value = value.where(Conditions(frame, extensions).hold(source.when), "")
    return value


def _international(numbers: pd.Series, codes: pd.Series) -> pd.Series:
    """Return numbers with their country code in front; what is not of digits alone stays, and so does ``+...``."""
    texts, codes = arrow_of(numbers).combine_chunks(), arrow_of(codes).combine_chunks()
    plus, space, nothing = (pa.scalar(text, pa.large_string()) for text in ("+", " ", ""))
    joined_texts = pc.binary_join_element_wise(plus, codes, space, texts, nothing)
    is_national = pc.and_(
        pc.match_substring_regex(texts, pattern=r"^[0-9(][0-9 ()./-]*$"), pc.not_equal(codes, "")
    )
    return text_series(pa.chunked_array([pc.if_else(is_national, joined_texts, texts)]), numbers.index)


def extracted(values: pd.Series, pattern: str | None) -> pd.Series:
    """Return the one group of ``pattern`` in each value, empty where it does not match."""
    if pattern is None:
        return values
    if _ends_in_serial(pattern):
        values, pattern = _without_serials(values, pattern)
    repeated = distinct_of(values)
    if repeated is not None:
        distinct, places = repeated
        return _extracted(distinct, pattern).take(places).set_axis(values.index)
    return _extracted(values, pattern)


def _without_serials(values: pd.Series, pattern: str) -> tuple[pd.Series, str]:
    """Return values without the serial number that ``pattern`` has last, and the pattern that is left.

    Asterisk ends the name of a channel with `-0000002a`, so that each is another; without it, 25,000 channels are
    200 telephones, and the pattern need be tried on those only. A value without a serial number is emptied.
    """
    texts = arrow_of(values)
    heads = pc.utf8_rtrim(texts, characters=SERIAL_DIGITS)
    numbered = pc.if_else(pc.equal(heads, texts), "", heads)
    return text_series(numbered, values.index), pattern.removesuffix(SERIAL) + "-$"


def _ends_in_serial(pattern: str) -> bool:
    """Say whether every match of a pattern ends in a serial number, of lower case: no `|` or flag is about."""
    within_groups = re.sub(r"\(\?:[\w|]*\)", "", pattern)
    return pattern.endswith(SERIAL) and re.search(r"\||\(\?[^:]", within_groups) is None


def _extracted(values: pd.Series, pattern: str) -> pd.Series:
    groups = pc.extract_regex(arrow_of(values), pattern=named_group(pattern))
    return text_series(pc.fill_null(pc.struct_field(groups, "value"), ""), values.index)


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


def whole_numbers(values: pd.Series) -> pd.Series:
    """Return texts of up to 18 digits as whole numbers (Int64), NA for any other text.

    Arrow's cast takes a tenth of the time of `pandas.to_numeric`.
    """
    texts = arrow_of(values)
    digits = pc.if_else(pc.match_substring_regex(texts, pattern="^[0-9]{1,18}$"), texts, None)
    return pd.Series(pd.arrays.ArrowExtensionArray(digits.cast(pa.int64())), index=values.index).astype("Int64")


def seconds_of(values: pd.Series) -> pd.Series:
    """Return durations in seconds (float64, NaN where there is none) of `12`, `0:00:12`, `00:01'05`, `1m 15s`."""
    codes, distinct = pd.factorize(values)
    seconds = np.array([*(_seconds(text) for text in distinct), np.nan], dtype=np.float64)
    return pd.Series(seconds[codes], index=values.index)


def _seconds(text: str) -> float:
    text = text.strip().replace("'", ":")
    if re.fullmatch(r"\d{1,9}(\.\d+)?", text):
        return float(text)
    if re.fullmatch(r"\d{1,9}(:\d\d){1,2}(\.\d+)?", text):
        total = 0.0
        for part in text.split(":"):
            total = total * 60 + float(part)
        return total
    units = re.fullmatch(r"(?:(\d{1,9})h)? ?(?:(\d{1,9})m(?:in)?)? ?(?:(\d{1,9})s)?", text)
    if text and units:
        hours, minutes, rest = (int(part or 0) for part in units.groups())
        return float(hours * 3600 + minutes * 60 + rest)
    return float("nan")


def _holds(values: pd.Series, test: Test, extensions: Extensions) -> Flags:
    result = np.ones(len(values), dtype=np.bool_)
    if test.any_of is not None:
        result &= _is_one_of(values, [caseless(word) for word in test.any_of])
    if test.matches is not None:
        result &= _matches(values, test.matches)
    if test.empty is not None:
        result &= (values == "").to_numpy(dtype=np.bool_) == test.empty
    if test.extension is not None:
        result &= extensions.are_extensions(values) == test.extension
    if test.maybe_extension is not None:
        result &= extensions.may_be_extensions(values) == test.maybe_extension
    if test.role is not None:
        result &= np.array([role in test.role for role in extensions.roles_of(values)], dtype=np.bool_)
    if test.over is not None:
        result &= (seconds_of(values) > test.over).to_numpy(dtype=np.bool_)
    return result


def _are_equal(values: pd.Series, others: pd.Series) -> Flags:
    """Say for each row whether both cells are filled and equal without letter case."""
    left, right = arrow_of(values).combine_chunks(), arrow_of(others).combine_chunks()
    result = np.asarray(pc.and_(pc.equal(left, right), pc.not_equal(left, "")).to_numpy(zero_copy_only=False))
    alike = pc.and_(pc.equal(pc.binary_length(left), pc.binary_length(right)), pc.not_equal(left, right))
    places = np.flatnonzero(alike.to_numpy(zero_copy_only=False))
    if len(places):  # few: lower case of every cell would cost more than the comparison
        rest = (pc.utf8_lower(side.take(pa.array(places))) for side in (left, right))
        result = result.copy()
        result[places] = pc.equal(*rest).to_numpy(zero_copy_only=False)
    return np.asarray(result, dtype=np.bool_)


def _is_one_of(values: pd.Series, words: list[str]) -> Flags:
    """Say which texts are among words in the form of `caseless`; only texts beyond ASCII need it themselves."""
    texts = arrow_of(values)
    found = _flags(pc.is_in(pc.utf8_lower(texts), value_set=pa.array(words, type=pa.large_string())))
    foreign = ~_flags(pc.string_is_ascii(texts))
    if foreign.any():
        places, distinct = pd.factorize(values[foreign])
        found[foreign] = np.array([caseless(text) in words for text in distinct], dtype=np.bool_)[places]
    return found


def _matches(values: pd.Series, pattern: str) -> Flags:
    return _flags(pc.match_substring_regex(arrow_of(values), pattern=f"^(?:{pattern})$"))


def _flags(values: pa.ChunkedArray) -> Flags:
    return np.asarray(values.to_numpy(), dtype=np.bool_)
