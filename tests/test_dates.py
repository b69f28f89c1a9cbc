"""Dates that a spreadsheet program wrote anew: one order for the whole file, proved or told, never guessed."""

from datetime import datetime
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from conftest import CALLNOTIFY_HEADER, SAMPLES, call_row, cases, table
from importer.formats.dates import DateOrder, is_rewritten, written_back
from importer.formats.detected import Detection
from importer.formats.detection import detect
from importer.formats.language import Source, TimeSpec
from importer.settings.options import Settings
from samples import catalogue, plan_for, prepared

CASES = cases("dates")

ISO = ("%Y-%m-%d %H:%M:%S",)
DAY, MONTH = DateOrder.DAY_MONTH, DateOrder.MONTH_DAY


@table(("order", "before", "texts"), CASES["written"])
def test_written_back(order: str, before: str, texts: tuple[str, ...]) -> None:
    """A date in the way of any machine becomes what the system wrote, but for seconds that are not shown."""
    assert {text: written_back(text, ISO, DateOrder(order)) for text in texts} == dict.fromkeys(texts, before)


def test_what_is_no_such_date() -> None:
    """What is no date and time of a spreadsheet, or no date at all, stays as it stands."""
    for text in (
        *("2026-03-02 09:14:07", "", "yesterday", "45718.38", "1772464447", "02/03/2026", "26-03-02 09:14:07"),
        *("31/31/2026 09:14:07", "0/3/2026 09:14", "02/03/2026 13:14 PM", "02/03-2026 09:14"),
    ):
        assert [written_back(text, ISO, order) for order in DateOrder] == [text, text]


@given(st.datetimes(min_value=datetime(1000, 1, 1)), st.sampled_from(list(DateOrder)), st.sampled_from("/.-"))
def test_any_date_is_written_back(moment: datetime, order: DateOrder, mark: str) -> None:
    """Written by a spreadsheet in an order and read in the same, every moment from 1000 on is itself."""
    year, month, day = f"{moment:%Y}", f"{moment:%m}", f"{moment:%d}"
    parts = (day, month) if order is DAY else (month, day)
    text = f"{mark.join((*parts, year))} {moment:%H:%M:%S}"
    assert is_rewritten(text, ISO)
    assert written_back(text, ISO, order) == f"{year}-{month}-{day} {moment:%H:%M:%S}"


def rows(*starts: str, ids: bool = True) -> str:
    """Return an export in the format `callnotify` with these starts."""
    made = [call_row(n, start_time=start, **({} if ids else {"id": ""})) for n, start in enumerate(starts)]
    return "\n".join([CALLNOTIFY_HEADER, *made]) + "\n"


def found_in(folder: Path, text: str, order: DateOrder | None = None) -> Detection:
    """Return how an export is read."""
    (folder / "export.csv").write_text(text, encoding="utf-8")
    found = detect(folder / "export.csv", list(catalogue().formats.values()), Settings(date_order=order))
    assert isinstance(found, Detection)
    return found


def starts(folder: Path, text: str, order: DateOrder | None = None) -> list[str]:
    """Return the starts of an export's calls."""
    return [call.start_time for call in prepared([found_in(folder, text, order)], plan_for("callnotify")).calls()]


@table("position", [0, 1, 300])
def test_one_row_proves_the_order_of_all(tmp_path: Path, position: int) -> None:
    """A day over 12, wherever it stands, decides for the whole file."""
    texts = ["02/03/2026 09:14:07"] * 301
    texts[position] = "25/03/2026 09:14:07"
    found = starts(tmp_path, rows(*texts))
    assert found[position] == "2026-03-25 09:14:07"
    assert {*found[:position], *found[position + 1 :]} == {"2026-03-02 09:14:07"}


def resaved_freepbx(*rows: tuple[str, str]) -> str:
    """Return a FreePBX report that a spreadsheet saved: start and id of each call."""
    header = (SAMPLES / "freepbx" / "release-2.11.csv").read_text(encoding="utf-8-sig").splitlines()[0]
    made = [
        f'{start},"Ann <101>",101,21255501{n},from-internal,PJSIP/101-000000{n},PJSIP/trunk-a-000001{n},Dial,'
        f'"PJSIP/21255501{n}@trunk-a,30",20,0,BUSY,3,,{made},'
        for n, (start, made) in enumerate(rows, 40)
    ]
    return "\n".join((header, *made)) + "\n"


MARCH_2 = "1772460420"
"""14:07:00 GMT on 2 March 2026."""


@table("made", [f"{MARCH_2}.4", MARCH_2])
@table(("first", "other", "start"), [("3/2/2026 9:07", MONTH, "2026-03-02"), ("2/3/2026 9:07", DAY, "2026-03-02")])
def test_ids_prove_the_order(tmp_path: Path, made: str, first: str, other: DateOrder, start: str) -> None:
    """The clock in an id, also one that a spreadsheet cut, settles the order of all rows, wherever it stands."""
    found = found_in(tmp_path, resaved_freepbx(("3/3/2026 9:07", ""), (first, made)))
    assert found.rewriting is not None
    assert found.rewriting[0] is other
    assert written_back(first, found.rewriting[1]["calldate"], other)[:10] == start


def test_ids_of_another_clock_prove_the_order(tmp_path: Path) -> None:
    """So do ids that count 100 ns since 1601, as those of 3CX."""
    header, row = (SAMPLES / "3cx-web" / "day.csv").read_text(encoding="utf-8-sig").splitlines()[:2]
    found = found_in(tmp_path, f"{header}\n{row.replace('2026-03-02T', '3/2/2026 ')}\n")
    assert found.rewriting is not None
    assert found.rewriting[0] is MONTH


def test_filetime_in_an_id() -> None:
    """Sixteen hexadecimal digits are ticks of 100 ns since 1601; any other text tells nothing."""
    texts = ("01dc-aa4f-2a1b-9380", "019DB1DED53E8000", "", "01dc-aa4f-2a1b-938", "0" * 15 + "g")
    spec = TimeSpec(columns=("start",), formats=ISO, evidence=Source(column="id"), evidence_clock="filetime")
    assert [spec.made_at(text, is_cut=False) for text in texts] == [1772460989, 0, None, None, None]
