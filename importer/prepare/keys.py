"""Which call a row is of: the key that all rows of its call share, the id that the API gets, ids that are cut."""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator
from functools import partial
from itertools import chain, compress, islice, product

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from importer.formats.language import CdrFormat
from importer.reading.conditions import Flags, arrow_of, joined, matches
from schemas.call import CALL_ID

_PLAIN_ID = re.compile(CALL_ID)

UUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
"""An id that some programs (SQL Server) write with large letters and others (PostgreSQL) with small ones."""

PLUS = r"\+([0-9]{7})"
"""A plus before a number: some programs drop it."""

_PRINTED = re.compile(r"\+?(?=.* |.*[(./-].*[)./-])[0-9(](?:[() ./-]{0,2}[0-9]){8,14}")
"""A number as a person writes it, with brackets, spaces, hyphens or dots."""

_CUT = r"[-+]?[0-9](?:[.,][0-9]+)?[Ee]\+[0-9]{1,3}"
"""How Excel and LibreOffice show a long number in a narrow column, and pandas one beside an empty cell."""

PART_OF_A_DAY = "0[.]0[0-9]{4,}"
"""How a workbook holds a duration: 25 s are 0.000289351851852."""

_TO_PRINT = re.compile(r"(?:\+|0{0,2})([1-9][0-9]{0,4}?|)([0-9]{3})([0-9]{3})([0-9]{4})(?:\.0)?")
"""A number in digits: its first ones, and those that Excel prints `(212) 555-0142`."""

_CLOCK = "([0-9]{1,2})((?::[0-9]{2}){1,2})"
_DATE = "(?:[A-Za-z]{3},? )?(?:[0-9]{1,4}/){2}[0-9]{2,4}"
_FULL_MINUTE = r"((?:^u|[\x1f ])[0-9]{1,2}:[0-9]{2}):00\b"
"""A time with the seconds that a spreadsheet program adds to one without."""
_NEEDLESS = (
    r"\(([0-9]+)\) ([0-9]{3})-(?=[0-9]{4}\b)",
    r"(^u|[\x1f ])0{1,2}([1-9][0-9]{6}|[0-9]:[0-9]{2})",
    r"(^u|\b)0([0-9]/)",
    r"((?:^u|\x1f)[0-9]{1,15})\.0{1,2}(\b)",
    r"((?:^u|\x1f)[0-9]{9,10}\.[0-9]*[1-9])0+(\b)",
    r"(^u|\x1f)1([0-9]{10}\b)",
)
"""Signs of a printed number, zeros, and the country code of North America; \\1 and \\2 stand beside them."""
MOST_SPELLINGS = 1300
MOST_LOST_ZEROS = 4


def call_keys(rows: pd.DataFrame, cdr_format: CdrFormat) -> tuple[pd.Series, pd.Series]:
    """Return the export's own id of each row's call ("" without one), and the key (what makes the call).

    The id is the first of the format's of which no part is empty; by the rule `least` the least of the filled
    cells, as text. The key is "" where the row has neither an id nor all the columns that make a call unique.
    """
    call = cdr_format.call
    source_id = pd.Series("", index=rows.index, dtype="str")
    for candidate in call.id:
        parts = [rows[name] for name in candidate]
        taken = source_id == ""
        if call.id_rule == "least":
            taken = (parts[0] != "") & (taken | (parts[0] < source_id))
        if taken.any():
            value = parts[0]
            if len(parts) > 1:
                value = joined(parts).str.replace("\x1f", ".").where(all_filled(parts), "")
            source_id = value if taken.all() else source_id.where(~taken, value)
    keyless = source_id == ""
    key = "i" + source_id
    if keyless.any():
        key = key.where(~keyless, "")
        if call.unique_by:
            parts = [rows[name] for name in call.unique_by]
            key = key.where(~(keyless & all_filled(parts)), "u" + joined(parts))
            for _, _, cut in cuts(rows, cdr_format, of_ids=False):
                key = key.where(~(keyless & cut), "")
    for _, _, cut in cuts(rows, cdr_format):
        key = key.where(~cut, "") if cut.any() else key
    return source_id, key


def call_id_of(site: str, source_id: str, key: str) -> str:
    """Return the id under which the API gets a call: the same on every run, machine and version.

    The export's own id where it is 1 to 64 letters and digits and no site is set; else 32 hexadecimal digits of
    SHA-256 over site and key.
    """
    if not site and _PLAIN_ID.fullmatch(source_id):
        return source_id
    return hashlib.sha256(f"{site}\x1f{key}".encode()).hexdigest()[:32]


def has_id_without(columns: Collection[str], rows: pd.DataFrame, cdr_format: CdrFormat) -> Flags:
    """Return which rows have an id that is made of none of these columns."""
    found = np.zeros(len(rows), dtype=np.bool_)
    for candidate in cdr_format.call.id:
        if not {*columns}.intersection(candidate):
            found |= all_filled([rows[name] for name in candidate])
    return found


def all_filled(cells: list[pd.Series]) -> Flags:
    """Return in which rows none of these columns is empty."""
    return np.asarray(np.logical_and.reduce([(column != "").to_numpy() for column in cells]), dtype=np.bool_)


def cuts(rows: pd.DataFrame, cdr_format: CdrFormat, *, of_ids: bool = True) -> Iterator[tuple[str, str, Flags]]:
    """Yield which cells of a column of ids are cut, with the column and the reason, where any may be.

    Calls of one hour may share what is left of such an id. Without ``of_ids`` of columns that stand in for an id.
    """
    call = cdr_format.call
    stand_ins = chain.from_iterable(map(cdr_format.origins, call.unique_by))
    for column in cdr_format.origins_of_ids() if of_ids else dict.fromkeys(stand_ins):
        if pc.any(pc.match_substring(arrow_of(rows[column]), "+"), min_count=0).as_py():
            yield column, "scientific_notation", matches(rows[column], _CUT)
        if not of_ids:
            if pc.any(pc.starts_with(arrow_of(rows[column]), "0.0"), min_count=0).as_py():
                yield column, "unreadable_duration", matches(rows[column], PART_OF_A_DAY)
            continue
        if pc.any(pc.starts_with(arrow_of(rows[column]), "##"), min_count=0).as_py():  # in a narrow column
            yield column, "cut_id", matches(rows[column], "##+")
        if call.cut_id is not None and matches(rows[column], f"(?:{call.cut_id})(?:,[0-9]+)?").any():
            yield column, "cut_id", matches(rows[column], call.cut_id)
            yield column, "decimal_comma", matches(rows[column], f"(?:{call.cut_id}),[0-9]+")


def without_decimals(rows: pd.DataFrame, cdr_format: CdrFormat) -> pd.DataFrame:
    """Return the rows with cut ids, which pandas writes as 3.0 beside an empty cell, with the 3 that they were."""
    rows, is_cut = rows.copy(), np.zeros(len(rows), dtype=np.bool_)
    for column, _, cut in cuts(rows, cdr_format):
        rows[column] = rows[column].mask(cut, rows[column].str.replace("[.,]0+$", "", regex=True))
        is_cut |= cut
    return rows.loc[is_cut]


# --- Other spellings of a key -----------------------------------------------------------------------------


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
    for sign, pattern in (("+", PLUS), (":00", _FULL_MINUTE)):
        if pc.any(pc.match_substring(arrow_of(keys), sign), min_count=0).as_py():
            keys = keys.str.replace(pattern, r"\1", regex=True)
    without_id = keys.str.startswith("u")
    if without_id.any():
        bare = keys[without_id]
        of_12 = bare.str.contains("[0-9] [AP]M", regex=True)
        of_24 = partial(re.sub, f"{_CLOCK} ([AP])M", lambda clock: f"{_hour_of_24(clock[1], clock[3])}{clock[2]}")
        bare = bare.mask(of_12, bare[of_12].map(of_24))
        for pattern in _NEEDLESS:
            bare = bare.str.replace(pattern, r"\1\2", regex=True)
        keys = keys.mask(without_id, bare)
    return keys


def other_keys(key: str, customer: str = "") -> list[str]:
    """Return the keys of a call without an id, or with one of several columns or a UUID, as others write them.

    Numbers begin with a plus, zeros or neither, days, months, hours and durations with a 0 or not. 21:14 is
    9:14 PM, 0:00:25 is 12:00:25 AM, 9:14 is 9:14:00, 101 is 101.0 or 101.00, 1772460847.50 may have lost its
    zero. The letters of a UUID are large or small ones.
    (212) 555-0142 is 2125550142, and with the country code of the ``customer``'s E.164 number 12125550142; these
    are (212) 555-0142 and (1212) 555-0142, as Excel prints them.
    """
    mark = "\x1f" if key[0] == "u" else "."
    parts = key[1:].split(mark)
    is_printed = [mark == "\x1f" and _PRINTED.fullmatch(part) is not None for part in parts]
    numbers = [re.sub("[^0-9]", "", part).lstrip("0") for part in parts]
    codes = [customer[1 : -len(number)] for number in compress(numbers, is_printed) if customer.endswith(number)]
    begins = ("", "+", "0", *codes, *(f"+{code}" for code in codes)) if any(is_printed) else ()
    written = [[part, *sorted({*_spellings(part)} - {part})] for part in parts]
    found = [product(*written)]
    for begin in begins:  # the same for all: a program prints every number of a file in one way
        in_digits = [begin + number for number in numbers]
        each = zip(is_printed, in_digits, written, strict=True)
        found.append(product(*([digits] if printed else others for printed, digits, others in each)))
    whole = [_TO_PRINT.fullmatch(part) if mark == "\x1f" else None for part in parts]
    for layout in (r"(\2) \3-\4", r"(\1\2) \3-\4") if any(whole) else ():
        pairs = zip(whole, written, strict=True)
        found.append(product(*([one.expand(layout)] if one else others for one, others in pairs)))
    return [key[0] + mark.join(some) for some in islice(chain.from_iterable(found), 1, MOST_SPELLINGS)]


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
    if found := re.fullmatch(zeros_behind("[0-9]{9,10}"), part):
        return [found[1] + "0" * count for count in range(MOST_LOST_ZEROS + 1)]
    if found := re.fullmatch(r"([0-9]{1,6})(?:\.0{1,2})?", part):
        return [found[1] + zeros for zeros in ("", ".0", ".00")]
    if not (found := re.fullmatch(f"({_DATE})?( ?)(?:{_CLOCK}(?: ([AP])M)?)?", part)):
        return ()
    date, space, hour, rest, noon = found.groups(default="")
    dates = [re.sub(r"\b0?([0-9])\b", zero + r"\1", date) for zero in ("", "0")]
    clocks = [] if hour else [""]
    if hour:
        of_24 = _hour_of_24(hour, noon)
        of_12 = (of_24 - 1) % 12 + 1
        ends = (rest[:3], f"{rest[:3]}:00") if rest[3:] in ("", ":00") else (rest,)
        # 0:25 and 0:25:00 are durations.
        for end in ends if date or of_24 or (noon and not rest[3:]) else (rest,):
            clocks += [f"{of_24}{end}", f"{of_24:02}{end}"]
        for end in ends if of_24 < 24 else ():
            clocks += [f"{each}{end} {'AP'[of_24 > 11]}M" for each in (of_12, f"{of_12:02}")]
    return [f"{day}{space}{clock}" for day, clock in product(dates, clocks)]


def _hour_of_24(hour: str, noon: str) -> int:
    return int(hour) % 12 + 12 * (noon == "P") if noon else int(hour)
