"""Layouts of times: how strptime formats, ISO 8601, RFC 2822 and epochs are written, and which texts are in one.

A layout is made from a format once. Where every field has a fixed width it lists what stands in each place, which
is read seven times as fast as a regular expression.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

Ints: TypeAlias = npt.NDArray[np.int64]
Flags: TypeAlias = npt.NDArray[np.bool_]
# pyarrow 26 has no type information: its arrays are Any to the type checker.
Texts: TypeAlias = Any
Fields: TypeAlias = Mapping[str, Any]

Layout: TypeAlias = str | tuple[str | int, ...]
"""A regular expression (RE2) whose groups are named after the fields; or, for each place of the text, the field of
which a digit stands there, or the byte (UTF-8) that must stand there."""

_MONTH_NAMES: Final = "january|february|march|april|may|june|july|august|september|october|november|december"
_WEEKDAY_NAMES: Final = "monday|tuesday|wednesday|thursday|friday|saturday|sunday"
MONTHS: Final = [name[:3] for name in _MONTH_NAMES.split("|")]
WEEKDAYS: Final = [name[:3] for name in _WEEKDAY_NAMES.split("|")]
_OFFSET: Final = "[Zz]|UTC|GMT|[+-][0-9]{2}(?::?[0-9]{2})?"
_FRACTION: Final = "(?P<cut>[.,][0-9]{1,9})?"
WITH_FRACTION: Final = "(:[0-9]{2})[.,][0-9]{1,9}"
WITH_OFFSET: Final = f"(:[0-9]{{2}}(?: ?[APap]\\.? ?[Mm]\\.?)?) ?(?:{_OFFSET})$"
"""A time with what stands behind its group: the fraction of its second, the offset from GMT."""
# RFC 2822 section 4.3: the only zone names with one meaning.
ZONE_NAME_HOURS: Final[Mapping[str, int]] = {
    name: hours
    for hours, names in {
        0: "UT GMT UTC Z",
        -4: "EDT",
        -5: "EST CDT",
        -6: "CST MDT",
        -7: "MST PDT",
        -8: "PST",
    }.items()
    for name in names.split()
}
_FIXED_WIDTHS: Final[Mapping[str, int]] = {"Y": 4, **dict.fromkeys("ymdHIMS", 2)}
_WORDS: Final[Mapping[str, str]] = {
    "b": f"(?i:{'|'.join(MONTHS)})",
    "B": f"(?i:{_MONTH_NAMES})",
    "a": f"(?i:{'|'.join(WEEKDAYS)})",
    "A": f"(?i:{_WEEKDAY_NAMES})",
    "p": r"(?i:[ap]\.? ?m\.?)",
    "f": "[0-9]{1,9}",
    "z": _OFFSET,
    "Z": "(?i:UTC|GMT|Z)",
}


def _places_of(time_format: str) -> tuple[str | int, ...]:
    """Return the layout of a format whose fields are all of a fixed width."""
    places: list[str | int] = []
    for piece in re.findall(r"%.|[^%]", time_format):
        is_literal = piece[0] != "%" or piece == "%%"
        places.extend(piece[-1].encode() if is_literal else piece[1] * _FIXED_WIDTHS[piece[1]])
    return tuple(places)


_ISO_DATE_TIME: Final = "(?P<Y>[0-9]{4})-(?P<m>[0-9]{2})-(?P<d>[0-9]{2})[Tt ](?P<H>[0-9]{2}):(?P<M>[0-9]{2})"
_ISO8601: Final = (
    _places_of("%Y-%m-%dT%H:%M:%S"),
    _places_of("%Y-%m-%d %H:%M:%S"),
    f"^{_ISO_DATE_TIME}(?::(?P<S>[0-9]{{2}}){_FRACTION})? ?(?P<z>{_OFFSET})?$",
)
_ISO_ANYWHERE: Final = (
    "^(?P<Y>[0-9]{4})-(?P<m>[0-9]{2})-(?P<d>[0-9]{2})(?:[Tt]| +)"
    f"(?P<H>[0-9]{{1,2}}):(?P<M>[0-9]{{2}}):(?P<S>[0-9]{{2}}){_FRACTION}"
)
_RFC2822: Final = (
    f"^(?:(?P<a>{_WORDS['a']}), *)?(?P<d>[0-9]{{1,2}}) +(?P<b>{_WORDS['b']}) +(?P<Y>[0-9]{{4}}) +"
    "(?P<H>[0-9]{2}):(?P<M>[0-9]{2})(?::(?P<S>[0-9]{2}))? +"
    f"(?P<z>[+-][0-9]{{4}}|{'|'.join(ZONE_NAME_HOURS)})(?: *\\([^()]*\\))?$"
)
_SPECIAL_LAYOUTS: Final[Mapping[str, tuple[Layout, ...]]] = {
    "iso8601": _ISO8601,
    "rfc2822": (_RFC2822,),
    "epoch": (r"^(?P<s>[0-9]{1,10})(?:\.[0-9]+)?$",),
    "epoch_ms": (r"^(?P<s>[0-9]{9,10})[0-9]{3}(?:\.[0-9]+)?$",),
}

SPECIAL_FORMATS: Final = frozenset(_SPECIAL_LAYOUTS)
"""The words that stand for layouts which are no strptime formats."""


@lru_cache
def layouts_of(time_format: str) -> tuple[Layout, ...]:
    """Return the layouts of one format, the fast one first; raise ValueError if it cannot be read strictly."""
    special = _SPECIAL_LAYOUTS.get(time_format)
    if special is not None:
        return special
    pieces = re.findall(r"%.|[^%]", time_format)
    if "".join(pieces) != time_format:
        raise ValueError(f"time format {time_format!r} ends in a lone %")
    directives = [piece[1] for piece in pieces if piece[0] == "%" and piece != "%%"]
    unknown = [name for name in directives if name not in _FIXED_WIDTHS and name not in _WORDS]
    if unknown:
        raise ValueError(f"time format {time_format!r}: directive %{unknown[0]} is not known")
    if len(set(directives)) != len(directives):
        raise ValueError(f"time format {time_format!r} names a field twice")
    for choices in ("Yy", "mbB", "d", "HI", "M"):
        if sum(name in choices for name in directives) != 1:
            raise ValueError(f"time format {time_format!r} needs exactly one of %{', %'.join(choices)}")
    if ("I" in directives) != ("p" in directives):
        raise ValueError(f"time format {time_format!r}: %I and %p go together")
    free = f"^{''.join(_free_patterns(pieces))}$"
    if any(name in _WORDS for name in directives):
        return (free,)
    return _places_of(time_format), free


def shape_of(time_format: str) -> str:
    """Return a regular expression of what looks like a format, which may be of a date or a clock alone."""
    special = _SPECIAL_LAYOUTS.get(time_format)
    return str(special[-1]) if special else "".join(_free_patterns(re.findall(r"%.|[^%]", time_format)))


@lru_cache
def variants_of(formats: tuple[str, ...]) -> tuple[str, ...]:
    """Return the layouts of what other programs make of times of these formats, ISO 8601 among them.

    They have ``T`` before the hour, a fraction and, behind the time, an offset. A count of seconds has no zone, so
    that an ISO time in its place must carry its offset: whose clock it was written by is not known.
    """
    plain = [each for each in formats if each not in _SPECIAL_LAYOUTS]
    found = []
    for time_format in plain:
        pieces = re.findall(r"%.|[^%]", time_format)
        patterns = [*_free_patterns(pieces)]
        for place, piece in enumerate(pieces):
            if piece in (" ", "T") and pieces[place + 1 : place + 2] in (["%H"], ["%I"]):
                patterns[place] = "(?:[Tt]| +)"
            if piece == "%S" and "%f" not in pieces:
                patterns[place] += _FRACTION
        if pieces[-1] in ("%M", "%S", "%p") and not {"%z", "%Z"} & {*pieces}:
            patterns.append(f"(?: ?(?P<z>{_OFFSET}))?")
        found.append(f"^{''.join(patterns)}$")
    is_count = not plain and all(each.startswith("epoch") for each in formats)
    return (*found, f"{_ISO_ANYWHERE} ?(?P<z>{_OFFSET}){'' if is_count else '?'}$")


def _free_patterns(pieces: Sequence[str]) -> Iterator[str]:
    """Yield the pattern of each piece: one or two digits where nothing but the separator tells fields apart."""
    is_digits = [piece.isdigit() or (len(piece) == 2 and piece[1] in {*_FIXED_WIDTHS, "f"}) for piece in pieces]
    for place, piece in enumerate(pieces):
        name = piece[-1]
        touches = any(is_digits[max(place - 1, 0) : place]) or any(is_digits[place + 1 : place + 2])
        if piece == " ":
            yield " +"
        elif piece[0] != "%" or piece == "%%":
            yield re.escape(name)
        elif name in _WORDS:
            yield f"(?P<{name}>{_WORDS[name]})"
        else:
            width = "1,2" if name in "mdHI" and not touches else str(_FIXED_WIDTHS[name])
            yield f"(?P<{name}>[0-9]{{{width}}})"


def read_layout(layout: Layout, column: Texts) -> tuple[Flags, Fields]:
    """Return which texts are written in a layout, and give the fields of those that are."""
    if isinstance(layout, str):
        found = pc.extract_regex(column, pattern=layout)
        is_valid = pc.is_valid(found)
        groups = found.filter(is_valid)
        return flags_of(is_valid), {field.name: pc.struct_field(groups, field.name) for field in found.type}
    width = len(layout)
    matched = flags_of(pc.equal(pc.binary_length(column), width))
    wide = np.flatnonzero(matched)
    table = np.zeros((0, width), dtype=np.uint8)  # a row each of the texts that have this many bytes
    if len(wide):
        texts = column if len(wide) == len(column) else column.take(pa.array(wide))
        _, offsets, content = texts.buffers()
        start = int(np.frombuffer(offsets, dtype=np.int64)[texts.offset])
        table = np.frombuffer(content, dtype=np.uint8, count=len(wide) * width, offset=start)
        table = table.reshape(len(wide), width)
    fine = np.ones(len(wide), dtype=np.bool_)
    fields: dict[str, Ints] = {}
    for place, wanted in enumerate(layout):
        if isinstance(wanted, int):
            fine &= table[:, place] == wanted
            continue
        digits = table[:, place] - np.uint8(ord("0"))  # wraps around: what is no digit is above 9
        fine &= digits <= 9
        fields[wanted] = fields[wanted] * 10 + digits if wanted in fields else digits.astype(np.int64)
    matched[wide] = fine
    return matched, fields if fine.all() else {name: values[fine] for name, values in fields.items()}


def flags_of(column: Texts) -> Flags:
    """Return an Arrow column of truth values as an array."""
    return np.asarray(column.to_numpy(zero_copy_only=False), dtype=np.bool_)
