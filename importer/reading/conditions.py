"""The conditions of a format on whole columns at once, and the values it takes out of them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from importer.formats.language import Source, Test, named_group

SAMPLE_ROWS = 1000
"""So many rows tell whether a column repeats itself."""

SERIAL, SERIAL_DIGITS = "-[0-9a-f]+$", "0123456789abcdef"
"""The end of a pattern that asks for a serial number, and what such a number is made of."""

_TEXT = pd.StringDtype(na_value=np.nan)
"""What pandas calls "str"."""

Flags = npt.NDArray[np.bool_]
Places = npt.NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Extensions:
    """Our own internal numbers: those of the agents file (lower case), and what looks like one in this format."""

    pattern: str
    known: frozenset[str] = frozenset()


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
            return _holds(self._frame[column], test, self._extensions)
        distinct, places = found
        return _holds(distinct, test, self._extensions)[places]


def distinct_of(values: pd.Series) -> tuple[pd.Series, Places] | None:
    """Return the distinct values of a column that repeats itself and where each row's is, None for any other.

    A regular expression on two contexts or 200 extensions costs nothing, on 30,000 rows some milliseconds.
    """
    if len(pc.unique(arrow_of(values.iloc[:SAMPLE_ROWS]))) > SAMPLE_ROWS // 2:
        return None
    places, distinct = pd.factorize(values)
    return pd.Series(distinct), places


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
    if source.end_of is not None:
        value = _where_end_of(value, frame[source.end_of])
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


def _where_end_of(values: pd.Series, longer: pd.Series) -> pd.Series:
    """Return the values with which the cell of another column ends after something else, "" for the others."""
    texts, others = arrow_of(values).combine_chunks(), arrow_of(longer).combine_chunks()
    cut = pc.subtract(pc.utf8_length(others), pc.utf8_length(texts))
    could_be = pc.fill_null(pc.and_(pc.greater(cut, 0), pc.not_equal(texts, "")), False)
    keeps = np.zeros(len(values), dtype=np.bool_)
    places = np.flatnonzero(could_be.to_numpy(zero_copy_only=False))
    pairs = zip(others.take(places).to_pylist(), texts.take(places).to_pylist(), strict=True)
    keeps[places] = [other.endswith(text) for other, text in pairs]  # few: most rows have the same in both
    return values.where(keeps, "")


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
        result &= _is_one_of(values, [word.lower() for word in test.any_of])
    if test.matches is not None:
        result &= _matches(values, test.matches)
    if test.empty is not None:
        result &= (values == "").to_numpy(dtype=np.bool_) == test.empty
    if test.extension is not None:
        listed = _is_one_of(values, sorted(extensions.known))
        result &= (listed | _matches(values, extensions.pattern)) == test.extension
    if test.over is not None:
        result &= (seconds_of(values) > test.over).to_numpy(dtype=np.bool_)
    return result


def _is_one_of(values: pd.Series, words: list[str]) -> Flags:
    wanted = pa.array(words, type=pa.large_string())
    return _flags(pc.is_in(pc.utf8_lower(arrow_of(values)), value_set=wanted))


def _matches(values: pd.Series, pattern: str) -> Flags:
    return _flags(pc.match_substring_regex(arrow_of(values), pattern=f"^(?:{pattern})$"))


def _flags(values: pa.ChunkedArray) -> Flags:
    return np.asarray(values.to_numpy(), dtype=np.bool_)
