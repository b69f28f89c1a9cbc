"""Times: what a text is as GMT under the format declared, or why it is none, in every zone and clock change."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import table
from schemas.times import (
    REASONS,
    filetime_seconds,
    layouts_of,
    offsets_of,
    proved_offsets,
    read_times,
    wire_text,
    written_times,
)
from schemas.zones import is_zone

ISO = "%Y-%m-%d %H:%M:%S"
BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
DAY_FIRST, MONTH_FIRST = "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"
NINE, NINE_PM = "2024-01-02 09:05:00", "2024-01-02 21:05:00"


def epoch(text: str) -> int:
    """Return the epoch second of a GMT time."""
    return int(datetime.strptime(text, ISO).replace(tzinfo=UTC).timestamp())


def read(text: str, formats: tuple[str, ...] = (ISO,), zone: str | None = "UTC", made: int | None = None) -> str:
    """Return the wire text of one time, or its reason."""
    evidence = pd.Series([made], dtype="Int64")
    frame = read_times(pd.Series([text], dtype="str"), formats, zone, evidence)
    return str(wire_text(frame["utc"])[0] or frame["reason"][0])


@table(
    ("time_format", "texts"),
    [
        (ISO, {"2024-02-29 23:05:09": "2024-02-29 23:05:09", "2024-2-9 3:05:09": "2024-02-09 03:05:09"}),
        ("%d/%m/%Y %H:%M:%S", {"01/02/2024 10:00:00": "2024-02-01 10:00:00"}),
        ("%m/%d/%Y %H:%M:%S", {"01/02/2024 10:00:00": "2024-01-02 10:00:00"}),
        ("%d.%m.%Y %H:%M", {"01.02.2024 10:05": "2024-02-01 10:05:00"}),
        ("%m/%d/%y %I:%M %p", {"1/2/24 1:05 PM": "2024-01-02 13:05:00"}),
        ("%m/%d/%Y %I:%M %p", {"01/02/2024 12:05 AM": "2024-01-02 00:05:00"}),
        ("%m/%d/%Y %I:%M %p", {"01/02/2024 12:05 p.m.": "2024-01-02 12:05:00"}),
        ("%m/%d/%Y %I:%M %p", dict.fromkeys(("01/02/2024 9:05\u202fPM", "01/02/2024 9:05\u00a0pm"), NINE_PM)),
        ("%a %m/%d/%Y %I:%M %p", {"Tue 01/02/2024 9:05 AM": NINE}),
        ("%A, %d %B %Y %H:%M", {"tuesday, 2 JANUARY 2024 09:05": NINE}),
        ("%b %d %Y %H:%M:%S", {"Jan  2 2024 09:05:00": NINE}),
        ("%Y%m%d%H%M", {"202401020905": NINE}),
        ("%Y%m%dT%H%M%S", {"20240102T090500": NINE}),
        ("%Y-%m-%d %H:%M:%S.%f", {"2024-01-02 09:05:00.999999": NINE}),
        ("%Y-%m-%d %H:%M:%S%z", {"2017-05-22 17:49:30+05:30": "2017-05-22 12:19:30"}),
        ("%Y-%m-%d %H:%M:%S%z", {"2026-08-21 08:33:31-06": "2026-08-21 14:33:31"}),
        ("%Y-%m-%d %H:%M:%S %Z", {"2024-01-02 09:05:00 UTC": NINE}),
        ("%d/%m/%Y 100%% %H:%M", {"01/02/2024 100% 10:05": "2024-02-01 10:05:00"}),
        ("iso8601", dict.fromkeys(("2024-01-02T09:05:00Z", "2024-01-02 09:05:00", "2024-01-02T09:05"), NINE)),
        ("iso8601", {"2024-01-02T09:05:00.1234567Z": NINE, "2024-01-01 01:00:00.5 +02:00": "2023-12-31 23:00:00"}),
        ("iso8601", {"2019-06-28T15:30:00+0000": "2019-06-28 15:30:00"}),
        ("rfc2822", {"Wed, 18 Aug 2010 20:20:06 +0000": "2010-08-18 20:20:06"}),
        ("rfc2822", {"18 Aug 2010 20:20 PDT": "2010-08-19 03:20:00"}),
        ("rfc2822", {"Wed, 18 Aug 2010 20:20:06 +0200 (CEST)": "2010-08-18 18:20:06"}),
        ("epoch", dict.fromkeys(("1704186300", "1704186300.75"), NINE)),
        ("epoch_ms", {"1704186300999": NINE}),
        (ISO, dict.fromkeys(('="2024-01-02 09:05:00"', "'2024-01-02 09:05:00"), NINE)),
        (ISO, {"\ufeff２０２４-01-02 09:05:00 ": NINE}),  # noqa: RUF001
        # Years before 2001 and after 2100 are a wrong clock, such as one that lost its battery, or a wrong format.
        (ISO, {each: each for each in ("2001-01-01 00:00:00", "2100-12-31 23:59:59")}),
        (ISO, dict.fromkeys(("2000-12-31 23:59:59", "2101-01-01 00:00:00"), "impossible_year")),
        (ISO, dict.fromkeys(("0000-01-01 00:00:00", "9999-12-31 23:59:59"), "impossible_year")),
        ("%m/%d/%y %H:%M", {"01/02/68 10:00": "2068-01-02 10:00:00", "01/02/69 10:00": "impossible_year"}),
        ("epoch", dict.fromkeys(("0", "20240102"), "impossible_year")),
        # Empty cells and the words and zeros that databases write for them are missing times.
        (ISO, dict.fromkeys(("", "  ", "NULL", "\\N", "N/A", "-", "0000-00-00 00:00:00"), "missing_time")),
    ],
)
def test_declared_format(time_format: str, texts: dict[str, str]) -> None:
    """A text is read by the declared format only, and sub-seconds are cut off."""
    assert {text: read(text, (time_format,)) for text in texts} == texts


@pytest.mark.fault(134)
@table(
    ("time_format", "texts"),
    [
        (ISO, ("now", "today", "2024-02-30 01:00:00", "2023-02-29 01:00:00", "2024-13-01 01:00:00")),
        (ISO, ("2024-00-01 01:00:00", "2024-01-00 01:00:00", "2024-01-02 24:00:00", "2016-12-31 23:59:60")),
        (ISO, ("2024-01-02 23:60:00", "24-01-02 09:05:00", "2024-01-02 09:05:0:", "2024-01-02 09:05:/0")),
        (ISO, ("2024-01-02 09:05", "2024-01-02", "2024-01-02 09:05:00\n2024-01-02 09:05:01", "1704186300")),
        ("%d/%m/%Y %H:%M:%S", ("13/13/2024 10:00:00", "01/02/24 10:00:00")),
        ("%m/%d/%y %H:%M", ("01/02/2024 10:00",)),
        ("%m/%d/%Y %I:%M %p", ("01/02/2024 13:05 PM", "01/02/2024 00:05 AM", "01/02/2024 09:05")),
        ("%Y%m%d%H%M", ("2024010295",)),
        ("%Y-%m-%d %H:%M:%S%z", ("2024-01-02 09:05:00+16:00", "2024-01-02 09:05:00+0199")),
        ("%Y-%m-%d %H:%M:%S %Z", ("2024-01-02 09:05:00 IST",)),
        ("iso8601", ("2024-1-2T09:05:00Z", "2024-01-02T24:00:00Z")),
        ("rfc2822", ("Thu, 18 Aug 2010 20:20:06 +0000", "18 Aug 2010 20:20:06")),
        ("epoch", ("1704186300999", "-1", "1.7E+09")),
        ("epoch_ms", ("1704186300",)),
        ("%a %m/%d/%Y %H:%M", ("Mon 01/02/2024 09:05",)),  # a Tuesday: the date was damaged
    ],
)
def test_unreadable(time_format: str, texts: tuple[str, ...]) -> None:
    """What the declared format does not say exactly is not read."""
    assert {text: read(text, (time_format,)) for text in texts} == dict.fromkeys(texts, "unreadable_time")


def test_without_zone() -> None:
    """Without a zone only values that carry an offset, and epochs, are instants."""
    found = {"2024-01-02 09:05:00": "no_zone", "2024-01-02 09:05:00Z": NINE, "1704186300": NINE}
    assert {text: read(text, ("iso8601", "epoch"), None) for text in found} == found


def test_formats_in_order() -> None:
    """A later format sees only what the earlier ones left."""
    texts = pd.Series(["01/02/2024 10:00", "01/13/2024 10:00"], dtype="str")
    for formats, first in ((DAY_FIRST, MONTH_FIRST), "2024-02-01"), ((MONTH_FIRST, DAY_FIRST), "2024-01-02"):
        found = wire_text(read_times(texts, formats, "UTC")["utc"]).tolist()
        assert found == [f"{first} 10:00:00", "2024-01-13 10:00:00"]


@pytest.mark.fault(126, 127)
@table(
    ("zone", "found"),
    [
        (BERLIN, {"2024-03-31 01:59:59": "2024-03-31 00:59:59", "2024-03-31 02:00:00": "nonexistent_time"}),
        (BERLIN, {"2024-03-31 02:59:59": "nonexistent_time", "2024-03-31 03:00:00": "2024-03-31 01:00:00"}),
        (BERLIN, {"2024-10-27 01:59:59": "2024-10-26 23:59:59", "2024-10-27 02:00:00": "ambiguous_time"}),
        (BERLIN, {"2024-10-27 02:59:59": "ambiguous_time", "2024-10-27 03:00:00": "2024-10-27 02:00:00"}),
        (BERLIN, {"2099-10-25 02:30:00": "ambiguous_time"}),
        (NEW_YORK, {"2024-03-10 02:30:00": "nonexistent_time", "2024-11-03 01:30:00": "ambiguous_time"}),
        (NEW_YORK, {"2024-11-03 02:00:00": "2024-11-03 07:00:00"}),
        (LORD_HOWE, {"2024-10-06 02:15:00": "nonexistent_time", "2024-10-06 02:30:00": "2024-10-05 15:30:00"}),
        (LORD_HOWE, {"2024-04-07 01:45:00": "ambiguous_time", "2024-04-07 01:15:00": "2024-04-06 14:15:00"}),
        ("UTC", {"2024-03-31 02:30:00": "2024-03-31 02:30:00"}),
    ],
)
def test_clock_changes(zone: str, found: dict[str, str]) -> None:
    """Without evidence a skipped or doubled time is rejected, and the seconds beside it are read."""
    assert {text: read(text, zone=zone) for text in found} == found


@table(
    ("zone", "text", "made", "expected"),
    [
        (BERLIN, "2024-10-27 02:30:00", "2024-10-27 00:30:00", "2024-10-27 00:30:00"),
        (BERLIN, "2024-10-27 02:30:00", "2024-10-27 01:30:00", "2024-10-27 01:30:00"),
        (BERLIN, "2024-10-27 02:30:00", "2024-10-27 00:28:00", "2024-10-27 00:30:00"),
        (BERLIN, "2024-10-27 02:30:00", "2024-10-27 00:32:00", "2024-10-27 00:30:00"),
        # A channel made in between cannot belong to the first: a row does not start before its channel.
        (BERLIN, "2024-10-27 02:30:00", "2024-10-27 00:32:01", "2024-10-27 01:30:00"),
        (BERLIN, "2024-10-27 02:30:00", "2024-10-27 00:27:59", "ambiguous_time"),
        (BERLIN, "2024-10-27 02:30:00", "2024-10-26 20:00:00", "ambiguous_time"),
        (BERLIN, "2024-10-27 02:30:00", "2024-10-27 01:32:01", "ambiguous_time"),
        (BERLIN, "2024-03-31 02:30:00", "2024-03-31 01:30:00", "2024-03-31 01:30:00"),
        (BERLIN, "2024-03-31 02:30:00", "2024-03-31 00:30:00", "2024-03-31 00:30:00"),
        (BERLIN, "2024-03-31 02:30:00", "2024-03-30 12:00:00", "nonexistent_time"),
        (NEW_YORK, "2024-11-03 01:30:00", "2024-11-03 05:30:05", "2024-11-03 05:30:00"),
        (NEW_YORK, "2024-11-03 01:30:00", "2024-11-03 06:29:55", "2024-11-03 06:30:00"),
        (LORD_HOWE, "2024-04-07 01:45:00", "2024-04-06 14:45:00", "2024-04-06 14:45:00"),
        (LORD_HOWE, "2024-04-07 01:45:00", "2024-04-06 15:15:00", "2024-04-06 15:15:00"),
        # A time that has one instant needs no evidence and is not moved by it.
        (BERLIN, "2024-10-27 04:30:00", "2020-01-01 00:00:00", "2024-10-27 03:30:00"),
    ],
)
def test_evidence(zone: str, text: str, made: str, expected: str) -> None:
    """When the channel was made settles which of two instants is meant, or nothing does."""
    assert read(text, zone=zone, made=epoch(made)) == expected


HALF = (
    *("iso", "%Y-%m-%d", "%H:%M:%S", "%m-%d %H:%M", "%Y-%m-%d %H", "%Y-%m-%d %I:%M", "%Y-%m-%d %H:%M %p"),
    *("%Y-%Y-%m-%d %H:%M", "%Y-%j %H:%M", "%c", "%Y-%m-%d %H:%M%"),
)


@table("time_format", HALF)
def test_format_refused(time_format: str) -> None:
    """A format that leaves a part of the time to be guessed is none."""
    with pytest.raises(ValueError):
        layouts_of(time_format)


@table(
    ("known", "names"),
    [
        (True, (BERLIN, "UTC", "Etc/GMT+1")),
        (False, ("", "Europe", "Europe/Atlantis", "/etc/localtime", "../Europe/Berlin", "localtime")),
        (False, ("right/Europe/Berlin", "zone.tab", "Europe/Berlin\0", "x" * 5000)),
    ],
)
def test_zone(known: bool, names: tuple[str, ...]) -> None:
    """Zones are names of the IANA database, not files, folders or the machine's own setting."""
    assert {name: is_zone(name) for name in names} == dict.fromkeys(names, known)


def test_wire_text() -> None:
    """GMT is written to the second whatever the unit, and an unusable time as nothing, on the same index."""
    utc = pd.Series(
        pd.DatetimeIndex(["2024-01-02 09:05:00.999", "NaT"], dtype="datetime64[ns]"), index=[5, 3], name="start"
    )
    written = wire_text(utc)
    assert written.tolist() == ["2024-01-02 09:05:00", ""]
    assert (written.index.tolist(), written.name, str(written.dtype)) == ([5, 3], "start", "str")


def test_written_with_offset() -> None:
    """A time is written in the layout of its format, also where that has the offset and the time is unusable."""
    utc = pd.Series(pd.DatetimeIndex(["2026-03-02 14:15:00", "2026-07-02 14:15:00", "NaT"], dtype="datetime64[s]"))
    written = written_times(utc, BERLIN, "%Y-%m-%dT%H:%M:%S%z")
    assert written[:2].tolist() == ["2026-03-02T15:15:00+0100", "2026-07-02T16:15:00+0200"]
    assert (written.isna().tolist(), str(written.dtype)) == ([False, False, True], "str")


@table("texts", [[], [None, None]])
def test_column_without_text(texts: list[None]) -> None:
    """A column of no rows or of missing values keeps its shape and types."""
    frame = read_times(pd.Series(texts, dtype="str"), (ISO, "iso8601", "%b %d %Y %H:%M"), BERLIN)
    assert frame["reason"].tolist() == ["missing_time"] * len(texts)
    assert [str(dtype) for dtype in frame.dtypes] == ["datetime64[s]", "str", "bool"]
    assert wire_text(frame["utc"]).tolist() == [""] * len(texts)


NOON = epoch("2024-07-01 12:00:00")


def _wall(instant: int, zone: str) -> str:
    return datetime.fromtimestamp(instant, ZoneInfo(zone)).strftime(ISO)


def test_zone_offsets() -> None:
    """A row proves the offset that the clock showed; long calls do not tell, and an offset is held against GMT."""
    rows = [
        ("2024-07-01 12:00:00", epoch("2024-07-01 10:00:00")),
        ("2024-07-01 12:01:30", epoch("2024-07-01 10:00:00")),
        ("2024-01-01 12:00:00", epoch("2024-01-01 11:00:30")),
        ("2024-07-01 12:01:31", epoch("2024-07-01 10:00:00")),
        ("2024-07-03 12:00:00", epoch("2024-07-01 10:00:00")),
        ("2024-07-01T12:00:00Z", epoch("2024-07-01 12:00:00")),
        ("2024-07-01 12:00:00", None),
        ("nonsense", epoch("2024-07-01 10:00:00")),
        *((_wall(NOON, zone), NOON) for zone in ("Pacific/Marquesas", "Asia/Kathmandu", "Pacific/Kiritimati")),
    ]
    texts = pd.Series([text for text, _ in rows], dtype="str")
    evidence = pd.Series([made for _, made in rows], dtype="Int64")
    told, stated = proved_offsets(texts, ("iso8601",), evidence)
    places, offsets, epochs = told
    assert places.tolist() == [0, 1, 2, 8, 9, 10]
    assert offsets.tolist() == [7200, 7200, 3600, -34_200, 20_700, 50_400]
    assert (stated[0].tolist(), stated[1].tolist()) == ([5], [0])
    assert offsets_of(epochs[:3], BERLIN).tolist() == [7200, 7200, 3600]


ZONES = st.sampled_from(
    (
        *(BERLIN, NEW_YORK, LORD_HOWE, "UTC", "Etc/GMT+1", "Asia/Kathmandu", "Asia/Tehran", "Africa/Casablanca"),
        *("America/St_Johns", "America/Caracas", "Europe/Dublin", "Pacific/Apia", "Pacific/Chatham"),
        "Antarctica/Troll",
    )
)
# Half of the instants lie in the nights in which clocks change in Europe, the Americas and Australia.
INSTANTS = st.one_of(
    st.integers(epoch("2001-01-02 00:00:00"), epoch("2100-12-30 00:00:00")),
    st.builds(
        lambda day, second: epoch(f"{day} 00:00:00") + second,
        st.sampled_from(["2024-03-31", "2024-10-27", "2024-03-10", "2024-11-03", "2024-04-06", "2024-10-05"]),
        st.integers(0, 100_000),
    ),
)


@given(instant=INSTANTS, zone=ZONES)
def test_local_time_reads_back(instant: int, zone: str) -> None:
    """Local time read back gives the instant, or is called ambiguous exactly where the clock shows it twice."""
    wall = datetime.fromtimestamp(instant, ZoneInfo(zone)).replace(fold=0)
    is_doubled = wall.utcoffset() != wall.replace(fold=1).utcoffset()
    gmt = datetime.fromtimestamp(instant, UTC).strftime(ISO)
    assert read(_wall(instant, zone), zone=zone) == ("ambiguous_time" if is_doubled else gmt)


@given(instant=INSTANTS, zone=ZONES, late=st.integers(-120, 120))
def test_local_time_reads_back_with_evidence(instant: int, zone: str, late: int) -> None:
    """With the epoch of the channel beside it, local time always gives the instant."""
    gmt = datetime.fromtimestamp(instant, UTC).strftime(ISO)
    assert read(_wall(instant, zone), zone=zone, made=instant + late) == gmt


@given(
    wall=st.datetimes(datetime(2001, 1, 2), datetime(2100, 12, 30)),
    zone=ZONES,
    made=st.none() | st.integers(0, 2**33),
)
def test_any_wall_time_has_an_instant_or_a_reason(wall: datetime, zone: str, made: int | None) -> None:
    """An instant that is given shows the text again on the zone's clock, unless the clock skips the text."""
    text = wall.replace(microsecond=0).strftime(ISO)
    result = read(text, zone=zone, made=made)
    aware = wall.replace(microsecond=0, tzinfo=ZoneInfo(zone))
    is_skipped = aware.astimezone(UTC).astimezone(ZoneInfo(zone)).strftime(ISO) != text
    assert result in REASONS or is_skipped or _wall(epoch(result), zone) == text
    assert made is not None or (result == "nonexistent_time") == is_skipped


@given(text=st.one_of(st.text(max_size=30), st.text(alphabet="0123456789-:/ TZ+.apmAPM", max_size=30)))
def test_any_text_has_an_instant_or_a_reason(text: str) -> None:
    """Whatever a cell holds, it ends as an instant or with a known reason."""
    formats = (ISO, "%d/%m/%y %I:%M %p", "%b %d %Y %H:%M", "iso8601", "rfc2822", "epoch", "epoch_ms")
    result = read(text, formats, BERLIN)
    assert result in REASONS or 1989 <= datetime.strptime(result, ISO).year <= 2101


@given(instants=st.lists(INSTANTS, min_size=1, max_size=12), zone=ZONES, data=st.data())
def test_neighbours_do_not_matter(instants: list[int], zone: str, data: st.DataObject) -> None:
    """A row reads beside others, in any order, as it does alone."""
    made = [instant if index % 2 else None for index, instant in enumerate(data.draw(st.permutations(instants)))]
    texts = [_wall(instant, zone) for instant in instants]
    evidence = pd.Series(made, dtype="Int64")
    frame = read_times(pd.Series(texts, dtype="str"), (ISO,), zone, evidence)
    found = wire_text(frame["utc"]) + frame["reason"]
    assert found.tolist() == [read(text, zone=zone, made=each) for text, each in zip(texts, made, strict=True)]


def test_filetime_seconds() -> None:
    """Sixteen hexadecimal digits are ticks of 100 ns since 1601; any other text tells nothing."""
    texts = pd.Series(["01dc-aa4f-2a1b-9380", "019DB1DED53E8000", "", "01dc-aa4f-2a1b-938", "0" * 15 + "g"])
    assert filetime_seconds(texts).to_list() == [1772460989, 0, pd.NA, pd.NA, pd.NA]
