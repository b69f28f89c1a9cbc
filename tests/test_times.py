"""Times: what a text is as GMT under the format declared, or why it is none, in every zone and clock change."""

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import cases, table
from schemas.time_layouts import layouts_of
from schemas.times import REASONS, offsets_of, proved_offsets, read_times, wire_text, written_times

CASES = cases("times")

ISO = "%Y-%m-%d %H:%M:%S"
BERLIN, NEW_YORK, LORD_HOWE = "Europe/Berlin", "America/New_York", "Australia/Lord_Howe"
DAY_FIRST, MONTH_FIRST = "%d/%m/%Y %H:%M", "%m/%d/%Y %H:%M"


def epoch(text: str) -> int:
    """Return the epoch second of a GMT time."""
    return int(datetime.strptime(text, ISO).replace(tzinfo=UTC).timestamp())


def read(text: str, formats: tuple[str, ...] = (ISO,), zone: str | None = "UTC", made: int | None = None) -> str:
    """Return the wire text of one time, or its reason."""
    evidence = pd.Series([made], dtype="Int64")
    frame = read_times(pd.Series([text], dtype="str"), formats, zone, evidence)
    return str(wire_text(frame["utc"])[0] or frame["reason"][0])


@table(("time_format", "texts"), CASES["read"])
def test_declared_format(time_format: str, texts: dict[str, str]) -> None:
    """A text is read by the declared format only, and sub-seconds are cut off."""
    assert {text: read(text, (time_format,)) for text in texts} == texts


@pytest.mark.fault(134)
@table(("time_format", "texts"), CASES["unreadable"])
def test_unreadable(time_format: str, texts: tuple[str, ...]) -> None:
    """What the declared format does not say exactly is not read."""
    assert {text: read(text, (time_format,)) for text in texts} == dict.fromkeys(texts, "unreadable_time")


def test_without_zone() -> None:
    """Without a zone only values that carry an offset, and epochs, are instants."""
    nine = "2024-01-02 09:05:00"
    found = {nine: "no_zone", f"{nine}Z": nine, "1704186300": nine}
    assert {text: read(text, ("iso8601", "epoch"), None) for text in found} == found


def test_formats_in_order() -> None:
    """A later format sees only what the earlier ones left."""
    texts = pd.Series(["01/02/2024 10:00", "01/13/2024 10:00"], dtype="str")
    for formats, first in ((DAY_FIRST, MONTH_FIRST), "2024-02-01"), ((MONTH_FIRST, DAY_FIRST), "2024-01-02"):
        found = wire_text(read_times(texts, formats, "UTC")["utc"]).tolist()
        assert found == [f"{first} 10:00:00", "2024-01-13 10:00:00"]


@pytest.mark.fault(126, 127)
@table(("zone", "found"), CASES["clock_changes"])
def test_clock_changes(zone: str, found: dict[str, str]) -> None:
    """Without evidence a skipped or doubled time is rejected, and the seconds beside it are read."""
    assert {text: read(text, zone=zone) for text in found} == found


@table(("zone", "text", "made", "expected"), CASES["evidence"])
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


@given(instant=INSTANTS, zone=ZONES, late=st.integers(-120, 120))
def test_local_time_reads_back(instant: int, zone: str, late: int) -> None:
    """Local time read back gives the instant, with the epoch of the channel beside it also where it came twice."""
    wall = datetime.fromtimestamp(instant, ZoneInfo(zone)).replace(fold=0)
    is_doubled = wall.utcoffset() != wall.replace(fold=1).utcoffset()
    gmt = datetime.fromtimestamp(instant, UTC).strftime(ISO)
    assert read(_wall(instant, zone), zone=zone) == ("ambiguous_time" if is_doubled else gmt)
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
