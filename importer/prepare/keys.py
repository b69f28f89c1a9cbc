"""Which call a row is of: the key that it shares with the other rows of its call, and the id that the API gets."""

import hashlib
import re
from collections.abc import Iterable
from functools import partial
from itertools import chain, compress, islice, product

import pandas as pd
import pyarrow.compute as pc

from importer.formats.language import CdrFormat
from importer.prepare.damage import all_filled, cuts
from importer.reading.conditions import arrow_of, joined
from schemas.call import CALL_ID

_PLAIN_ID = re.compile(CALL_ID)

UUID = "[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}"
"""An id that some programs (SQL Server) write with large letters and others (PostgreSQL) with small ones."""

PLUS = r"\+([0-9]{7})"
"""A plus before a number: some programs drop it."""

_PRINTED = re.compile(r"\+?(?=.* |.*[(./-].*[)./-])[0-9(](?:[() ./-]{0,2}[0-9]){8,14}")
"""A number as a person writes it, with brackets, spaces, hyphens or dots."""

_CLOCK = "([0-9]{1,2})((?::[0-9]{2}){1,2})"
_DATE = "(?:[A-Za-z]{3},? )?(?:[0-9]{1,4}/){2}[0-9]{2,4}"
_NEEDLESS_ZEROS = (
    r"(^u|[\x1f ])0{1,2}([1-9][0-9]{6}|[0-9]:[0-9]{2})",
    r"(^u|\b)0([0-9]/)",
    r"((?:^u|\x1f)[0-9]{1,15})\.0{1,2}(\b)",
)
MOST_SPELLINGS = 600


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
    if pc.any(pc.match_substring(arrow_of(keys), "+"), min_count=0).as_py():
        keys = keys.str.replace(PLUS, r"\1", regex=True)
    without_id = keys.str.startswith("u")
    if without_id.any():
        bare = keys[without_id]
        of_12 = bare.str.contains("[0-9] [AP]M", regex=True)
        of_24 = partial(re.sub, f"{_CLOCK} ([AP])M", lambda clock: f"{_hour_of_24(clock[1], clock[3])}{clock[2]}")
        bare = bare.mask(of_12, bare[of_12].map(of_24))
        for pattern in _NEEDLESS_ZEROS:
            bare = bare.str.replace(pattern, r"\1\2", regex=True)
        keys = keys.mask(without_id, bare)
    return keys


def other_keys(key: str, customer: str = "") -> list[str]:
    """Return the keys of a call without an id, or with one of several columns or a UUID, as others write them.

    Numbers begin with a plus, zeros or neither, days, months, hours and durations with a 0 or not. 21:14 is
    9:14 PM, 0:00:25 is 12:00:25 AM, 101 is 101.0 or 101.00. The letters of a UUID are large or small ones.
    (212) 555-0142 is 2125550142, and with the country code of the ``customer``'s E.164 number 12125550142.
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


def _hour_of_24(hour: str, noon: str) -> int:
    return int(hour) % 12 + 12 * (noon == "P") if noon else int(hour)
