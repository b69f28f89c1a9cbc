"""Zones: what of them is proposed, shown and needed; what contradicts them stands in field and gallery."""

from datetime import UTC, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

from conftest import SAMPLES, Program, asterisk_row, cases, table
from importer.prepare.zones import offset_text
from samples import prepared_text
from schemas.zones import fixed_advice, is_fixed, zone_advice

CASES = cases("zones")

NEW_YORK = "America/New_York"
MARCH_2 = datetime(2026, 3, 2, 14, 0, tzinfo=UTC)


def agreeing(count: int, first: datetime = MARCH_2, step: timedelta = timedelta(minutes=7)) -> str:
    """Return calls whose clock shows New York."""
    zone, moments = ZoneInfo(NEW_YORK), [first + step * number for number in range(count)]
    return "".join(asterisk_row(made, made.astimezone(zone), number) for number, made in enumerate(moments))


def test_offset_text() -> None:
    """An offset is written with its sign, hours and minutes."""
    assert [*map(offset_text, (0, -12_600, 50_400))] == ["UTC+00:00", "UTC-03:30", "UTC+14:00"]


def test_detect_shows_the_evidence(program: Program, tmp_path: Path) -> None:
    """`detect` names the offsets over the whole file, their rows and zones that fit, and what is contradicted."""
    path = tmp_path / "Master.csv"
    path.write_text(agreeing(30, step=timedelta(days=1)), encoding="utf-8")
    said = " ".join(program("detect", "--timezone", "Europe/London", path).stdout.split())
    assert "ids of 30 rows prove that the clock stood at UTC-05:00 to UTC-04:00" in said
    assert "UTC-05:00 in 6 rows, UTC-04:00 in 24 rows" in said
    assert "zones that fit: America/New_York" in said
    assert "--timezone Europe/London is contradicted" in said
    assert "contradicted" not in program("detect", "--timezone", NEW_YORK, path).stdout


def test_zone_that_is_proposed() -> None:
    """What a person may write for a zone is not taken, and the zone that is likely meant is named first."""
    for text, zone in dict(CASES["proposed"]).items():
        assert zone_advice(text).startswith(f"likely meant: {zone}"), text


@table(("zone", "place"), CASES["fixed"])
def test_zone_without_summer_time(zone: str, place: str) -> None:
    """A bare offset is told from a place and from GMT, and the places that may be meant are named."""
    assert is_fixed(zone)
    assert not any(map(is_fixed, ("EST5EDT", "CET", "UTC", "GMT", "Etc/UTC", "Etc/GMT+0", NEW_YORK)))
    assert fixed_advice(zone).endswith(f"name the place that is meant, {place}")


def test_offsets_need_no_zone(program: Program, tmp_path: Path) -> None:
    """A file of which all starts carry an offset needs no --timezone; a row without one among them is rejected."""
    text = agreeing(9).replace('",,"', '-05",,"') + agreeing(1)
    path = tmp_path / "Master.csv"
    options = ("--country", "US", "--agents", SAMPLES / "agents.csv", "--results", tmp_path / "results.csv")
    path.write_text(text, encoding="utf-8")
    assert program("check", *options, path).code == 78
    before = MARCH_2 - timedelta(hours=1)
    path.write_text(agreeing(300).replace('",,"', '-05",,"') + agreeing(1, first=before), encoding="utf-8")
    ran = program("check", *options, path)
    assert (ran.code, "1 no_zone" in ran.stderr, "would_send=300" in ran.stderr) == (3, True, True), ran.stderr
    assert "each carries its offset" in program("detect", path).stdout


def test_offset_without_id_or_zone(tmp_path: Path) -> None:
    """A call that is known by its local time needs the zone, so that no other export makes another call of it."""
    no_id = agreeing(1).replace('",,"', '-05",,"').replace(f"{int(MARCH_2.timestamp())}.0", "")
    assert prepared_text(tmp_path, no_id, timezone=None).outcomes() == ["no_zone"]
    plain = agreeing(1).replace(f"{int(MARCH_2.timestamp())}.0", "")
    ids = {prepared_text(tmp_path, text, timezone=NEW_YORK).calls()[0].call_id for text in (no_id, plain)}
    assert len(ids) == 1
