"""Text to GMT: declared formats, one zone, and evidence for the hours a clock shows twice or never.

Own layouts instead of ``pandas.to_datetime``: pandas 3.1 reads ``now`` as this machine's clock, second 60 as
the next minute, and doubled spaces and one-digit fields in any format; pyarrow's ``strptime`` takes 30 February.
Here a text is read place by place or by a regular expression, and exact arithmetic, in less time.

What database clients and workbooks make of a time is read in every format, behind its own layouts: a fraction of
the second (which is cut), an offset or ``Z`` behind the time (which decides), ``T`` for the space, ISO 8601.
"""

from collections.abc import Mapping, Sequence
from datetime import datetime, timedelta
from itertools import chain
from typing import Final, NamedTuple
from zoneinfo import ZoneInfo

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from schemas import data, time_layouts
from schemas.time_layouts import Fields, Flags, Ints, Texts

REASONS: Final[Mapping[str, str]] = data("hints")["times"]

DOUBTFUL: Final = ("nonexistent_time", "ambiguous_time")
"""Reasons that evidence may settle."""

EVIDENCE_TOLERANCE_SECONDS: Final = 120
"""How far a record's start may lie from the making of its channel and still be the same moment."""

_SLUGS: Final = ("", *REASONS)
_CODES: Final[Mapping[str, int]] = {reason: code for code, reason in enumerate(_SLUGS)}
# MySQL writes a time that never was as zeros.
_MISSING: Final = r"^(?i:|null|nil|none|nan|nat|n/?a|-+|\\n|0000-00-00([ T]00:00:00)?)$"
_EARLIEST_SECOND: Final = 978_307_200  # 2001-01-01: a clock that was lost begins in 1970, 1980 or 2000
_LATEST_SECOND: Final = 4_133_980_799  # 2100-12-31 23:59:59
_QUARTER_SECONDS: Final = 900
_QUARTER_TOLERANCE_SECONDS: Final = 90
_OFFSET_RANGE_SECONDS: Final = (-12 * 3600, 14 * 3600)
_LARGEST_OFFSET_SECONDS: Final = 15 * 3600
_NEVER: Final = -(2**40)
"""Stands for the epoch second at which a channel was made where no id carries it; it is near no start."""


def read_times(
    texts: pd.Series, formats: tuple[str, ...], zone: str | None, evidence: pd.Series | None = None
) -> pd.DataFrame:
    """Return columns ``utc`` (naive GMT, ``datetime64[s]``, NaT when unusable) and ``reason`` ("" when fine).

    ``formats`` are strptime formats, or the words ``iso8601``, ``rfc2822``, ``epoch``, ``epoch_ms``, tried
    strictly in this order on what is still unread. ``zone`` is the IANA zone of values that carry no offset;
    None: every value must carry its own offset or be an epoch.

    ``is_own`` (bool) says that the text is written in a layout of the format; for ``iso8601`` that is so where it
    is the first and there is no fraction, or where there are no seconds. Other text is another program's.

    ``evidence``, row by row beside ``texts``, is the epoch second at which the channel was made, as some
    systems write it into the record's id. It decides between the two instants of a time that the zone's clock
    shows twice or skips, and nothing else does: neighbours, order and chunks do not matter. Sub-seconds are cut.
    """
    cleaned = _cleaned(texts)
    seconds, is_read, is_absolute, is_own = _read_wall(cleaned, formats)
    codes = np.zeros(len(texts), dtype=np.int64)
    unread = np.flatnonzero(~is_read)
    is_missing = time_layouts.flags_of(pc.match_substring_regex(cleaned.take(pa.array(unread)), pattern=_MISSING))
    codes[unread] = np.where(is_missing, _CODES["missing_time"], _CODES["unreadable_time"])
    in_range = (seconds >= _EARLIEST_SECOND) & (seconds <= _LATEST_SECOND)
    codes[is_read & ~in_range] = _CODES["impossible_year"]
    naive = np.flatnonzero((codes == 0) & ~is_absolute)
    if zone is None:
        codes[naive] = _CODES["no_zone"]
    elif len(naive):
        made_at = np.full(len(naive), _NEVER)
        if evidence is not None:
            made_at = evidence.iloc[naive].astype("Int64").to_numpy("int64", na_value=_NEVER)
        seconds[naive], codes[naive] = _instants(seconds[naive], zone, made_at)
    instants = seconds.astype("datetime64[s]")
    instants[codes != 0] = np.datetime64("NaT", "s")
    slugs = pd.array(list(_SLUGS), dtype="str").take(codes)
    return pd.DataFrame({"utc": instants, "reason": slugs, "is_own": is_own}, index=texts.index)


def written_times(utc: pd.Series, zone: str, layout: str) -> pd.Series:
    """Return naive GMT times as text in a strptime layout, on the clock of the zone."""
    aware = utc.dt.tz_localize("UTC").dt.tz_convert(ZoneInfo(zone))
    if "%z" in layout:
        return pd.Series(aware.dt.strftime(layout), dtype="str")
    local = aware.dt.tz_localize(None)
    # Arrow writes a million times in a second, `Series.dt.strftime` in eight.
    written = pc.strftime(pa.array(local.astype("datetime64[s]"), from_pandas=True), format=layout, locale="C")
    return pd.Series(written.to_pylist(), index=utc.index, dtype="str")


def wire_text(utc: pd.Series) -> pd.Series:
    """Return naive GMT times as ``yyyy-MM-dd HH:mm:ss``, "" for NaT."""
    seconds = pa.array(utc.to_numpy().astype("datetime64[s]"), from_pandas=True)
    written = pc.fill_null(seconds.cast(pa.large_string()), "")
    return pd.Series(pd.arrays.ArrowExtensionArray(written), index=utc.index, name=utc.name).astype("str")


class ProvedOffsets(NamedTuple):
    """Rows that prove an offset from GMT: their places, these offsets in seconds, and the epochs in their ids."""

    places: Ints
    offsets: Ints
    epochs: Ints


def proved_offsets(
    texts: pd.Series, formats: tuple[str, ...], evidence: pd.Series
) -> tuple[ProvedOffsets, ProvedOffsets]:
    """Return the offsets from GMT that the ids of rows prove: of local times, and of times that carry an offset.

    The offset of a local time is the time minus the epoch in the row's id (``evidence``), rounded to a quarter
    hour. A row more than 90 s off a quarter hour proves nothing: it is a later leg of a long call. A time that
    carries an offset is compared as GMT, so that the result is 0 where its offset is right.
    """
    seconds, is_read, carries_offset, _ = _read_wall(_cleaned(texts), formats)
    made_at = evidence.astype("Int64").to_numpy("int64", na_value=_NEVER).astype(np.int64)
    lowest, highest = _OFFSET_RANGE_SECONDS
    found = []
    for is_absolute in (False, True):
        places = np.flatnonzero(is_read & (carries_offset == is_absolute))
        differences = seconds[places] - made_at[places]
        offsets = (differences + _QUARTER_SECONDS // 2) // _QUARTER_SECONDS * _QUARTER_SECONDS
        proves = np.abs(differences - offsets) <= _QUARTER_TOLERANCE_SECONDS
        proves &= (offsets >= lowest) & (offsets <= highest)
        found.append(ProvedOffsets(places[proves], offsets[proves], made_at[places[proves]]))
    return found[0], found[1]


def offsets_of(epochs: npt.NDArray[np.int64], zone: str) -> npt.NDArray[np.int64]:
    """Return the offset from GMT in seconds that a zone has at each epoch second."""
    instants = pd.DatetimeIndex(epochs.astype("datetime64[s]")).tz_localize("UTC")
    walls = instants.tz_convert(ZoneInfo(zone)).tz_localize(None).to_numpy().astype("datetime64[s]")
    return np.asarray(walls.astype(np.int64) - epochs, dtype=np.int64)


# --- Text ------------------------------------------------------------------------------------------------


def _cleaned(texts: pd.Series) -> Texts:
    """Plain ASCII spelling: no wrapping quotes, no invisible characters, ordinary spaces and digits."""
    column = pa.array(texts.astype("str"), type=pa.large_string(), from_pandas=True)
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks()
    column = pc.fill_null(column, "")
    if not pc.all(pc.string_is_ascii(column), min_count=0).as_py():
        # Excel puts U+202F or U+00A0 before AM and PM on some machines.
        column = pc.utf8_normalize(column, form="NFKC")
        column = pc.replace_substring_regex(column, pattern=r"\p{Cf}", replacement="")
        column = pc.replace_substring_regex(column, pattern=r"\p{Zs}", replacement=" ")
    return pc.utf8_trim(column, characters=" \t\r\n\"'=")


# --- Wall clock ------------------------------------------------------------------------------------------


def _read_wall(column: Texts, formats: tuple[str, ...]) -> tuple[Ints, Flags, Flags, Flags]:
    """Read each text by the first format that takes it, what none takes by their variants.

    Return the seconds since 1970 on the clock that the texts show, or of GMT; which are read; of which it is GMT;
    and which are written in a layout of the format, as `read_times` says.
    """
    size = len(column)
    seconds = np.zeros(size, dtype=np.int64)
    is_read, is_absolute, is_own = np.zeros((3, size), dtype=np.bool_)
    declared = (
        (layout, time_format != "iso8601" or place == 0)
        for place, time_format in enumerate(formats)
        for layout in time_layouts.layouts_of(time_format)
    )
    for layout, is_format_own in chain(declared, ((each, False) for each in time_layouts.variants_of(formats))):
        unread = np.flatnonzero(~is_read)
        if not len(unread):
            break
        matched, fields = time_layouts.read_layout(
            layout, column if len(unread) == size else column.take(pa.array(unread))
        )
        rows = unread[matched]
        if not len(rows):
            continue
        offsets, is_absolute[rows], offset_fine = _offsets(fields, len(rows))
        shown, fine = _seconds(fields, len(rows))
        seconds[rows], is_read[rows] = shown - offsets, fine & offset_fine
        is_own[rows] = is_format_own
        if "cut" in fields:
            is_own[rows] &= time_layouts.flags_of(pc.equal(fields["cut"], ""))
            is_own[rows] |= time_layouts.flags_of(pc.equal(fields["S"], ""))
    return seconds, is_read, is_absolute, is_own


def _seconds(fields: Fields, size: int) -> tuple[Ints, Flags]:
    """Return seconds since 1970 and whether the fields name a real date and time (no hour 24, no second 60).

    A weekday, where one is named, must be that of the day.
    """
    if "s" in fields:
        return _ints(fields, "s", size), np.ones(size, dtype=np.bool_)
    if "Y" in fields:
        years = _ints(fields, "Y", size)
    else:
        # POSIX: 69 to 99 are 1969 to 1999.
        short = _ints(fields, "y", size)
        years = short + np.where(short >= 69, 1900, 2000)
    month_field = next((name for name in ("b", "B") if name in fields), "")
    months = (
        _word_places(fields[month_field], time_layouts.MONTHS) + 1 if month_field else _ints(fields, "m", size)
    )
    fine = (months >= 1) & (months <= 12)
    serial = (years - 1970) * 12 + np.where(fine, months, 1) - 1
    first, last = int(serial.min()), int(serial.max())
    starts = np.arange(first, last + 2).astype("datetime64[M]").astype("datetime64[D]").astype(np.int64)
    month_starts, next_starts = starts[serial - first], starts[serial - first + 1]
    days = month_starts + _ints(fields, "d", size) - 1
    fine &= (days >= month_starts) & (days < next_starts)
    for weekday_field in {"a", "A"} & fields.keys():
        named = _word_places(fields[weekday_field], time_layouts.WEEKDAYS)
        fine &= (named == (days + 3) % 7) | (named < 0)
    if "H" in fields:
        hours = _ints(fields, "H", size)
        fine &= hours < 24
    else:
        on_the_face = _ints(fields, "I", size)
        fine &= (on_the_face >= 1) & (on_the_face <= 12)
        is_afternoon = time_layouts.flags_of(pc.starts_with(fields["p"], "p", ignore_case=True))
        hours = on_the_face % 12 + np.where(is_afternoon, 12, 0)
    minutes, seconds = _ints(fields, "M", size), _ints(fields, "S", size)
    fine &= (minutes < 60) & (seconds < 60)
    return days * 86_400 + hours * 3600 + minutes * 60 + seconds, fine


def _ints(fields: Fields, name: str, size: int) -> Ints:
    """Return a field of digits as numbers, 0 where the text leaves it out."""
    if name not in fields:
        return np.zeros(size, dtype=np.int64)
    digits = fields[name]
    if isinstance(digits, np.ndarray):
        return digits
    if name == "S":
        digits = pc.if_else(pc.equal(digits, ""), "0", digits)
    return np.asarray(pc.cast(digits, pa.int64()).to_numpy(zero_copy_only=False), dtype=np.int64)


def _word_places(column: Texts, words: Sequence[str]) -> Ints:
    """Return the place of each word (by its first three letters) among ``words``, -1 where there is none."""
    encoded = column.dictionary_encode()
    places = [words.index(word[:3].lower()) if word else -1 for word in encoded.dictionary.to_pylist()]
    found: Ints = np.asarray(places, dtype=np.int64)[encoded.indices.to_numpy(zero_copy_only=False)]
    return found


def _offsets(fields: Fields, size: int) -> tuple[Ints, Flags, Flags]:
    """Return the offsets from GMT the texts carry, in seconds, which carry one, and which can be so."""
    name = next((name for name in ("z", "Z") if name in fields), "")
    if not name:
        known = np.full(size, "s" in fields, dtype=np.bool_)
        return np.zeros(size, dtype=np.int64), known, np.ones(size, dtype=np.bool_)
    encoded = fields[name].dictionary_encode()
    places = encoded.indices.to_numpy(zero_copy_only=False)
    words = encoded.dictionary.to_pylist()
    seconds = []
    for word in words:
        if word[:1] in ("+", "-"):
            digits = word[1:].replace(":", "").ljust(4, "0")
            distance = int(digits[:2]) * 3600 + int(digits[2:]) * 60
            seconds.append(-distance if word[0] == "-" else distance)
        else:
            seconds.append(time_layouts.ZONE_NAME_HOURS.get(word.upper(), 0) * 3600)
    offsets = np.asarray(seconds, dtype=np.int64)[places]
    known = np.asarray([word != "" for word in words], dtype=np.bool_)[places]
    minutes_fine = np.asarray([word[-2:] < "60" or len(word) < 5 for word in words], dtype=np.bool_)[places]
    return offsets, known, minutes_fine & (np.abs(offsets) <= _LARGEST_OFFSET_SECONDS)


# --- Zone and evidence -----------------------------------------------------------------------------------


def _instants(walls: Ints, zone: str, made_at: Ints) -> tuple[Ints, Ints]:
    """Return GMT seconds and reason codes (0: known) of wall-clock seconds in the zone.

    Between the two instants of a wall time the moment at which its channel was made decides alone. A row cannot
    start before that. Of the instants this leaves, the one within the tolerance of it is taken, else the only one
    left; a row of a call made hours before stays in doubt.
    """
    zone_info = ZoneInfo(zone)
    index = pd.DatetimeIndex(walls.astype("datetime64[s]"))
    localized = index.tz_localize(zone_info, ambiguous="NaT", nonexistent="NaT").tz_convert(None)
    instants = localized.to_numpy().astype("datetime64[s]").astype(np.int64)
    codes = np.zeros(len(walls), dtype=np.int64)
    doubtful = np.flatnonzero(localized.isna())
    if not len(doubtful):
        return instants, codes
    distinct, places = np.unique(walls[doubtful], return_inverse=True)
    both = np.zeros((len(distinct), 2), dtype=np.int64)  # with the offset before and after the change (PEP 495)
    for place, wall_seconds in enumerate(distinct.tolist()):
        wall = datetime(1970, 1, 1) + timedelta(seconds=wall_seconds)
        for fold in (0, 1):
            offset = wall.replace(tzinfo=zone_info, fold=fold).utcoffset() or timedelta()
            both[place, fold] = wall_seconds - round(offset.total_seconds())
    pairs, made = both[places], made_at[doubtful, None]
    is_possible = made <= pairs + EVIDENCE_TOLERANCE_SECONDS
    is_near = is_possible & (np.abs(pairs - made) <= EVIDENCE_TOLERANCE_SECONDS)
    chosen = np.where(is_near.any(axis=1)[:, None], is_near, is_possible)
    is_one = pairs[:, 0] == pairs[:, 1]
    is_settled = is_one | (chosen.sum(axis=1) == 1)
    instants[doubtful] = np.where(chosen[:, 0] | is_one, pairs[:, 0], pairs[:, 1])
    # In a skipped hour fold 0 has the smaller offset, so the later instant.
    reasons = np.where(pairs[:, 0] > pairs[:, 1], _CODES["nonexistent_time"], _CODES["ambiguous_time"])
    codes[doubtful] = np.where(is_settled, 0, reasons)
    return instants, codes
