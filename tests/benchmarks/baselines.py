"""What `check` is measured against, each in a process of its own: ``python baselines.py NAME IN OUT [ROWS]``."""

import csv
import sys
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from zoneinfo import ZoneInfo

REGION, ZONE, WRITTEN = "DE", "Europe/Berlin", "%Y-%m-%d %H:%M:%S"


def e164(text: str | None) -> str | None:
    """Return a number as E.164, None where it is not valid."""
    import phonenumbers

    try:
        number = phonenumbers.parse(text or "", REGION)
    except phonenumbers.NumberParseException:
        return None
    is_valid = phonenumbers.is_valid_number(number)
    return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164) if is_valid else None


def read_csv(source: str, _target: str) -> None:
    """Read all columns with pandas as text."""
    import pandas

    pandas.read_csv(source, header=None, dtype=str)


def loop(source: str, target: str, rows: str) -> None:
    """Do the plain thing, row by row: csv, phonenumbers and datetime."""
    zone = ZoneInfo(ZONE)
    with Path(source).open(newline="") as stream, Path(target).open("w", newline="") as results:
        writer = csv.writer(results)
        for row in islice(csv.reader(stream), int(rows)):
            start = datetime.strptime(row[9], WRITTEN).replace(tzinfo=zone).astimezone(UTC)
            writer.writerow((row[16], e164(row[1]), e164(row[2]), row[14], start.strftime(WRITTEN)))


def polars(source: str, target: str) -> None:
    """Do what of the work can be compared: direction, numbers once per text, times to GMT, filter, results.

    Lines are not numbered, rows of one call do not meet, nothing has a reason.
    """
    import polars as pl

    wanted = {1: "src", 2: "dst", 3: "context", 9: "start", 14: "disposition", 16: "id"}
    names = [wanted.get(place, f"unused{place}") for place in range(18)]
    frame = pl.scan_csv(source, has_header=False, infer_schema=False, new_columns=names).select(*wanted.values())
    own = pl.col("src", "dst").str.contains(r"^\d{3,4}$")
    direction = pl.when(pl.col("context") == "from-trunk").then(pl.lit("incoming"))
    direction = direction.when(pl.all_horizontal(own)).then(pl.lit("internal")).otherwise(pl.lit("outgoing"))
    frame = frame.with_columns(direction=direction).with_columns(
        far=pl.when(pl.col("direction") == "incoming").then("src").otherwise("dst")
    )
    texts = frame.select(pl.col("far").unique()).collect(engine="streaming")["far"].to_list()
    numbers = pl.LazyFrame({"far": texts, "number": list(map(e164, texts))})
    local = pl.col("start").str.to_datetime(WRITTEN, strict=False, time_unit="ms")
    gmt = local.dt.replace_time_zone(ZONE, ambiguous="null", non_existent="null").dt.convert_time_zone("UTC")
    is_sound = pl.col("id").str.contains(r"^\d+\.\d+$") & gmt.is_not_null()
    frame = frame.join(numbers, on="far", how="left").with_columns(gmt=gmt.dt.strftime(WRITTEN), ok=is_sound)
    unattended = (pl.col("direction") == "outgoing") & (pl.col("disposition") != "ANSWERED")
    frame.filter(unattended).collect(engine="streaming").write_csv(target)


if __name__ == "__main__":
    globals()[sys.argv[1]](*sys.argv[2:])
