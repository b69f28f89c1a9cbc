"""Uncertain calls looked up in an export of Zoho's Calls module, for a person to decide: one may come late."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from importer.errors import InputUnusableError, UsageError
from importer.formats.dates import DateOrder, written_back
from importer.formats.sample import column_key
from importer.pipeline.run import epoch_of
from importer.prepare.agents import csv_records
from importer.records import Call
from importer.settings.options import Settings
from schemas.numbers import NumberBook
from schemas.plans import NumberRules
from schemas.times import read_times

COLUMNS = {"start": "Call Start Time", "number": "Dialled Number", "type": "Call Type", "status": "Call Status"}
LOOKED_UP = ("call", "start (GMT)", "found", "line", "apart", "type", "status")
MOST_SECONDS_APART = 60
"""A list may show no seconds."""
_LAYOUTS = ("%Y-%m-%d %H:%M:%S", "%b %d, %Y %I:%M %p", "%d %b %Y %I:%M %p", "%b %d, %Y %H:%M", "%d %b %Y %H:%M")


def read_list(path: Path, columns: Mapping[str, str], zone: str, settings: Settings) -> pd.DataFrame:
    """Return ``line``, ``start`` (epoch second), ``number`` (E.164), ``type``, ``status`` of rows with a number.

    ``columns`` are the names of `COLUMNS`, ``zone`` is the clock of the list. Raises ConfigurationError for a file
    that cannot be read, InputUnusableError for one without these columns or with a start that cannot be read,
    UsageError where the dates can be read with the day first and with the month first.
    """
    records = list(csv_records(path, settings.encoding, kind="list", option="--from"))
    names = [column_key(cell) for cell in records[0][1]] if records else []
    places = {role: names.index(key) for role, name in columns.items() if (key := column_key(name)) in names}
    if missing := [role for role in ("start", "number") if role not in places]:
        named = ",".join(f"{role}=..." for role in missing)
        raise InputUnusableError(
            f"{path.name} has no column {' and none '.join(repr(columns[role]) for role in missing)}",
            hint="Export the Calls module with it, or say which column of the list it is: "
            f"--columns '{named}'. The list has: {', '.join(records[0][1] if records else ())[:300] or 'none'}.",
        )
    texts = [
        (str(line), *("".join(cells[places[role] :][:1]) if role in places else "" for role in COLUMNS))
        for line, cells in records[1:]
    ]
    listed = pd.DataFrame(texts, columns=["line", *COLUMNS], dtype="str").query("number != ''")
    has_dots = listed["start"].str.match(r"\d+\.\d+\.").any()  # in every region that writes them the day is first
    chosen = settings.date_order or (DateOrder.DAY_MONTH if has_dots else None)
    readings = []
    for order in [DateOrder(chosen)] if chosen else DateOrder:
        iso = listed["start"].map(lambda text, order=order: written_back(text, _LAYOUTS, order, fill_seconds=True))
        readings.append(read_times(iso.astype("str"), _LAYOUTS, zone))
    whole = [read["utc"] for read in readings if (read["reason"] == "").all()]
    if not whole:
        line, text = listed.loc[readings[0]["reason"] != "", ["line", "start"]].iloc[0]
        raise InputUnusableError(
            f"{path.name}: line {line}: {text[:40]!r} is no start on the clock of {zone}",
            hint="Export the list as a user with another date format or time zone, or take that row out.",
        )
    if not whole[0].equals(whole[-1]):
        raise UsageError(
            f"{path.name}: nothing tells whether the day or the month comes first in its dates",
            hint="Say it with --date-order day-month or --date-order month-day.",
        )
    book = NumberBook(NumberRules(settings.country))
    numbers = [book.read(text).e164 or "+" + "".join(filter(str.isdecimal, text)) for text in listed["number"]]
    return listed.assign(start=whole[0].astype("int64"), number=numbers)


def hours_apart(rows: Sequence[tuple[str, ...]]) -> int:
    """Return how many calls not found have a row that differs as clocks do, 0 if one differs otherwise."""
    apart = [int(row[4].split()[0]) for row in rows if row[2] == "no" and row[4]]
    return len(apart) if all(abs((each + 900) % 1800 - 900) <= MOST_SECONDS_APART for each in apart) else 0


def look_up(calls: Sequence[Call], listed: pd.DataFrame) -> list[tuple[str, ...]]:
    """Return a row of `LOOKED_UP` for each call: whether it was found, and the nearest row of its number.

    A row within a minute stands for one call only, the nearest; one farther off shows what else is there.
    """
    mine = pd.DataFrame(
        [(place, call.customer_number, int(epoch_of(call.start_time))) for place, call in enumerate(calls)],
        columns=["place", "number", "own"],
    )
    pairs = mine.merge(listed, on="number")
    pairs["later"] = pairs["start"] - pairs["own"]
    pairs["apart"] = pairs["later"].abs()
    nearest: dict[int, tuple[str, ...]] = {}
    taken: set[str] = set()
    for pair in pairs.sort_values(["apart", "place"], kind="stable").to_dict("records"):
        if pair["place"] not in nearest and pair["line"] not in taken:
            is_found = pair["apart"] <= MOST_SECONDS_APART
            taken |= {pair["line"]} if is_found else set()
            shown = pair["line"], f"{pair['later']:+} s", pair["type"], pair["status"]
            nearest[pair["place"]] = "yes" if is_found else "no", *shown
    none = ("no", "", "", "", "")
    return [(call.call_id, call.start_time, *nearest.get(place, none)) for place, call in enumerate(calls)]
