"""Dates that a spreadsheet program wrote anew: one order for the whole file, proved or told, never guessed."""

from datetime import datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from conftest import call_row, cases, table, write_export
from importer.formats.dates import DateOrder, is_rewritten, written_back
from importer.formats.language import Source, TimeSpec
from samples import detected, plan_for, prepared

CASES = cases("dates")

ISO = ("%Y-%m-%d %H:%M:%S",)
DAY, MONTH = DateOrder.DAY_MONTH, DateOrder.MONTH_DAY


@table(("order", "before", "texts"), CASES["written"])
def test_written_back(order: str, before: str, texts: tuple[str, ...]) -> None:
    """A date in the way of any machine becomes what the system wrote, but for seconds that are not shown."""
    assert {text: written_back(text, ISO, DateOrder(order)) for text in texts} == dict.fromkeys(texts, before)


def test_what_is_no_such_date() -> None:
    """What is no date and time of a spreadsheet, or no date at all, stays as it stands."""
    for text in CASES["no_dates"]:
        assert [written_back(text, ISO, order) for order in DateOrder] == [text, text]


@given(st.datetimes(min_value=datetime(1000, 1, 1)), st.sampled_from(list(DateOrder)), st.sampled_from("/.-"))
def test_any_date_is_written_back(moment: datetime, order: DateOrder, mark: str) -> None:
    """Written by a spreadsheet in an order and read in the same, every moment from 1000 on is itself."""
    year, month, day = f"{moment:%Y}", f"{moment:%m}", f"{moment:%d}"
    parts = (day, month) if order is DAY else (month, day)
    text = f"{mark.join((*parts, year))} {moment:%H:%M:%S}"
    assert is_rewritten(text, ISO)
    assert written_back(text, ISO, order) == f"{year}-{month}-{day} {moment:%H:%M:%S}"


@table("position", [0, 1, 300])
def test_one_row_proves_the_order_of_all(tmp_path: Path, position: int) -> None:
    """A day over 12, wherever it stands, decides for the whole file."""
    texts = ["02/03/2026 09:14:07"] * 301
    texts[position] = "25/03/2026 09:14:07"
    rows = (call_row(number, start_time=start) for number, start in enumerate(texts))
    path = write_export(tmp_path / "export.csv", rows)
    found = [call.start_time for call in prepared([detected(path)], plan_for("callnotify")).calls()]
    assert found[position] == "2026-03-25 09:14:07"
    assert {*found[:position], *found[position + 1 :]} == {"2026-03-02 09:14:07"}


def test_filetime_in_an_id() -> None:
    """Sixteen hexadecimal digits are ticks of 100 ns since 1601; any other text tells nothing."""
    texts = ("01dc-aa4f-2a1b-9380", "019DB1DED53E8000", "", "01dc-aa4f-2a1b-938", "0" * 15 + "g")
    spec = TimeSpec(columns=("start",), formats=ISO, evidence=Source(column="id"), evidence_clock="filetime")
    assert [spec.made_at(text, is_cut=False) for text in texts] == [1772460989, 0, None, None, None]
