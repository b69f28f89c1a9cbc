"""What other programs make of keys: written in other ways, or destroyed like 1.74E+09 and lost seconds."""

import re
from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice, product

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from importer.formats.dates import OFFSET, column_layouts, is_own
from importer.formats.language import CdrFormat
from importer.prepare.groups import Rank
from importer.prepare.hints import value_hints
from importer.prepare.plan import Rules
from importer.reading.conditions import Flags, arrow_of, matches, seconds_of

_CUT = r"[-+]?[0-9](?:[.,][0-9]+)?[Ee]\+[0-9]{1,3}"
"""How Excel and LibreOffice show a long number in a narrow column, and pandas one beside an empty cell."""

_WITH_SECONDS = "[:.][0-9]{2}[:.][0-9]{2}"
_ISO_MINUTE = rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[ T][0-9]{{2}}:[0-9]{{2}}(?: ?{OFFSET})?"
"""What spreadsheet programs show where dates are ISO's, as in Sweden and Canada."""


UUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
"""An id that some programs (SQL Server) write with large letters and others (PostgreSQL) with small ones."""

PLUS = r"\+([0-9]{7})"
"""A plus before a number: some programs drop it."""

_CLOCK = "([0-9]{1,2})((?::[0-9]{2}){1,2})"
_DATE = "(?:[A-Za-z]{3},? )?(?:[0-9]{1,4}/){2}[0-9]{2,4}"
_NEEDLESS_ZEROS = (
    r"(^u|[\x1f ])0{1,2}([1-9][0-9]{6}|[0-9]:[0-9]{2})",
    r"(^u|\b)0([0-9]/)",
    r"((?:^u|\x1f)[0-9]{1,15})\.0{1,2}(\b)",
)
MOST_SPELLINGS = 600


def zeros_behind(cut_id: str, mark: str = "") -> str:
    """Return the pattern of an id behind a mark, whose groups are what a program leaves of it, and zeros.

    Spreadsheet programs and pandas take 1772460847.50 for a number and write 1772460847.5. No system makes calls
    enough in one second to have both.
    """
    return rf"({mark}(?:{cut_id})\.[0-9]*[1-9])(0*)"


def plain_keys(keys: pd.Series) -> pd.Series:
    """Return the keys of calls in one of the ways in which programs write them (`other_keys`)."""
    if pc.any(pc.match_substring(arrow_of(keys), "-"), min_count=0).as_py():  # a tenth of the time of the pattern
        keys = keys.mask(keys.str.contains(UUID, regex=True), keys.str.lower())
    if pc.any(pc.match_substring(arrow_of(keys), "+"), min_count=0).as_py():
        keys = keys.str.replace(PLUS, r"\1", regex=True)
    without_id = keys.str.startswith("u")
    if without_id.any():
        bare = keys[without_id]
        of_12 = bare.str.contains("[0-9] [AP]M", regex=True)
        bare = bare.mask(of_12, bare[of_12].map(lambda key: re.sub(f"{_CLOCK} ([AP])M", _of_24, key)))
        for pattern in _NEEDLESS_ZEROS:
            bare = bare.str.replace(pattern, r"\1\2", regex=True)
        keys = keys.mask(without_id, bare)
    return keys


def other_keys(key: str) -> list[str]:
    """Return the keys of a call without an id, or with one of several columns or a UUID, as others write them.

    Numbers begin with a plus, zeros or neither, days, months, hours and durations with a 0 or not. 21:14 is
    9:14 PM, 0:00:25 is 12:00:25 AM, 101 is 101.0 or 101.00. The letters of a UUID are large or small ones.
    """
    mark = "\x1f" if key[0] == "u" else "."
    spellings = [[part, *sorted({*_spellings(part)} - {part})] for part in key[1:].split(mark)]
    return [key[0] + mark.join(parts) for parts in islice(product(*spellings), 1, MOST_SPELLINGS)]


def grouped_keys(keys: Iterable[str]) -> list[str]:
    """Return the keys that ids with parted thousands had while these marks were taken for a part of them."""
    ids = [re.split("(?<![0-9])([1-9][0-9]{3,})", key, maxsplit=1) for key in keys if key[0] == "i"]
    parted = [(begin, f"{int(digits):,}", end) for begin, digits, end in (each for each in ids if len(each) > 1)]
    return [begin + digits.replace(",", mark) + end for begin, digits, end in parted for mark in ",. '\u2019"]


def _spellings(part: str) -> Iterable[str]:
    if re.search(UUID, part):
        return part.lower(), part.upper()
    if found := re.fullmatch(r"(?:\+|0{0,2})([1-9][0-9]{6,14})(?:\.0)?", part):
        return [*(begin + found[1] for begin in ("", "+", "0", "00")), f"{found[1]}.0"]
    if found := re.fullmatch(r"([0-9]{1,6})(?:\.0{1,2})?", part):
        return [found[1] + zeros for zeros in ("", ".0", ".00")]
    if not (found := re.fullmatch(f"({_DATE})?( ?)(?:{_CLOCK}(?: ([AP])M)?)?", part)):
        return ()
    date, space, hour, rest, noon = found.groups(default="")
    dates = [re.sub(r"\b0?([0-9])\b", zero + r"\1", date) for zero in ("", "0")]
    clocks = [""]
    if hour:
        of_24 = _hour_of_24(hour, noon)
        clocks = [f"{of_24}{rest}", f"{of_24:02}{rest}"]
        of_12 = (of_24 - 1) % 12 + 1
        clocks += [f"{each}{rest} {'AP'[of_24 > 11]}M" for each in (of_12, f"{of_12:02}") if of_24 < 24]
    return [f"{day}{space}{clock}" for day, clock in product(dates, clocks)]


def _of_24(clock: re.Match[str]) -> str:
    return f"{_hour_of_24(clock[1], clock[3])}{clock[2]}"


def _hour_of_24(hour: str, noon: str) -> int:
    return int(hour) % 12 + 12 * (noon == "P") if noon else int(hour)


def unmeasured(durations: pd.Series) -> Flags:
    """Say which cells hold a duration that cannot be read, or one that a spreadsheet shows as a part of a day."""
    written = ~matches(durations, "[^1-9#]*")
    lost = seconds_of(durations).isna().to_numpy() | matches(durations, "0[.]0[0-9]{4,}")
    return np.asarray(written & lost, dtype=np.bool_)


def add_unmeasured(rows: pd.DataFrame, was_cancelled: Flags, rules: Rules) -> None:
    """Add ``call.problem`` and its hint where talk, or the ringing of a call that was given up, cannot be read.

    `####` in place of the time of the answer may be one, or a date of zero.
    """
    call, derived = rules.format.call, rules.format.derived
    tests = [test for rule in rules.format.outcome for test in rule.when.items()]
    talk = {call.talk_seconds or "", *(name for name, test in tests if test.over is not None)}
    answers = {call.answer_time or "", *(name for name, test in tests if test.empty is not None)}
    for name in sorted(answers & {*rows}):
        hidden = (rows["call.rank"] <= Rank.NOANSWER).to_numpy() & matches(rows[name], "##+")
        if hidden.any():
            faults = pd.Series("unreadable_time", index=rows.index[hidden])
            rows.loc[faults.index, "call.problem"] = faults
            rows.loc[faults.index, "call.hint"] = value_hints(faults, rows[name], rows, rules, name)
    is_open = (rows["call.rank"].between(Rank.BUSY, Rank.NOANSWER) & (rows["call.problem"] == "")).to_numpy()
    for name in (*sorted(talk), call.ring_seconds or "", call.duration_seconds or ""):
        asked = is_open if name in talk else is_open & was_cancelled
        columns = [source.column for source in derived.get(name, ()) if source.extract is None] or [name]
        for column in (each for each in columns if each in rows and asked.any()):
            lost = asked.copy()
            lost[asked] = unmeasured(rows[column][asked])
            if lost.any():
                faults = pd.Series("unreadable_duration", index=rows.index[lost])
                rows.loc[lost, "call.problem"] = "unreadable_duration"
                rows.loc[lost, "call.hint"] = value_hints(faults, rows[column], rows, rules, column)


def add_damage(rows: pd.DataFrame, rules: Rules, starts: pd.Series) -> None:
    """Add ``call.problem`` and ``call.hint`` where no id is left that tells one call from another.

    A start that stands in for an id must have its seconds.
    """
    keyless, time = rows.loc[rows["call.key"] == ""], rules.format.time
    found = chain(cut_numbers(keyless, rules.format), cuts(keyless, rules.format)) if len(keyless) else ()
    for name, reason, cut in found:
        if cut.any():
            faults = pd.Series(reason, index=keyless.index[cut])
            rows.loc[faults.index, "call.problem"] = reason
            rows.loc[faults.index, "call.hint"] = value_hints(faults, rows[name], rows, rules, name)
    exact = zip(time.columns, column_layouts(time.formats, len(time.columns)), strict=True)
    names = [name for name, layouts in exact if any("%S" in layout for layout in layouts)]
    seconds = {each for name in names for each in (name, *rules.format.origins(name))}
    without = [layout for layout in time.formats if "%M" in layout and "%S" not in layout]
    if not (rules.is_resaved or (names and not without)) or seconds.isdisjoint(rules.format.id_columns()):
        return
    if "%S" in time.formats[0] and not rules.shows_seconds:
        without = []  # which layout the system itself had cannot be told any more
    has_id = has_id_without(seconds, rows, rules.format)
    if has_id.all():
        return
    is_short = matches(starts, _ISO_MINUTE) | rules.is_resaved
    has_seconds = pc.match_substring_regex(arrow_of(starts), pattern=_WITH_SECONDS).to_numpy()
    lost = is_short & ~has_id & ~np.asarray(has_seconds, dtype=np.bool_) & (rows["call.problem"] == "").to_numpy()
    lost[lost] = [not is_own(text, without) for text in starts[lost].tolist()]
    rows.loc[lost, "call.problem"] = "lost_seconds"
    rows.loc[lost, "call.hint"] = (
        f"Column {rules.shown(time.columns)[0]} has lost its seconds in a spreadsheet program, and without an id "
        "they tell this call from others: it could be notified twice. Export again and import the file without "
        "opening it there."
    )


def has_id_without(columns: Collection[str], rows: pd.DataFrame, cdr_format: CdrFormat) -> Flags:
    """Say which rows have an id that is made of none of these columns."""
    found = np.zeros(len(rows), dtype=np.bool_)
    for candidate in cdr_format.call.id:
        if not {*columns}.intersection(candidate):
            found |= all_filled([rows[name] for name in candidate])
    return found


def all_filled(cells: list[pd.Series]) -> Flags:
    """Say in which rows none of these columns is empty."""
    return np.asarray(np.logical_and.reduce([(column != "").to_numpy() for column in cells]), dtype=np.bool_)


def cuts(rows: pd.DataFrame, cdr_format: CdrFormat) -> Iterator[tuple[str, str, Flags]]:
    """Yield which cells of a column of ids are cut, with the column and the reason, where any may be.

    Calls of one hour may share what is left of such an id.
    """
    for column in cdr_format.origins_of_ids():
        yield from _in_scientific_notation(rows, column)
        if pc.any(pc.starts_with(arrow_of(rows[column]), "##"), min_count=0).as_py():  # in a narrow column
            yield column, "cut_id", matches(rows[column], "##+")
        cut_id = cdr_format.call.cut_id
        if cut_id is not None and matches(rows[column], f"(?:{cut_id})(?:,[0-9]+)?").any():
            yield column, "cut_id", matches(rows[column], cut_id)
            yield column, "decimal_comma", matches(rows[column], f"(?:{cut_id}),[0-9]+")


def cut_numbers(rows: pd.DataFrame, cdr_format: CdrFormat) -> Iterator[tuple[str, str, Flags]]:
    """Yield the same of the columns that stand in for an id."""
    for column in dict.fromkeys(chain.from_iterable(map(cdr_format.origins, cdr_format.call.unique_by))):
        yield from _in_scientific_notation(rows, column)


def _in_scientific_notation(rows: pd.DataFrame, column: str) -> Iterator[tuple[str, str, Flags]]:
    if pc.any(pc.match_substring(arrow_of(rows[column]), "+"), min_count=0).as_py():
        yield column, "scientific_notation", matches(rows[column], _CUT)


def without_decimals(rows: pd.DataFrame, cdr_format: CdrFormat) -> pd.DataFrame:
    """Return the rows with cut ids, which pandas writes as 3.0 beside an empty cell, with the 3 that they were."""
    rows, is_cut = rows.copy(), np.zeros(len(rows), dtype=np.bool_)
    for column, _, cut in cuts(rows, cdr_format):
        rows[column] = rows[column].mask(cut, rows[column].str.replace("[.,]0+$", "", regex=True))
        is_cut |= cut
    return rows.loc[is_cut]
