"""Dates that a spreadsheet program wrote anew: one order for the whole file, proved or told, never guessed."""

from datetime import datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import CALLNOTIFY_HEADER, SAMPLES, call_row, table
from importer.errors import InputUnusableError
from importer.formats.dates import DateOrder, is_rewritten, written_back
from importer.formats.detected import Detection
from importer.formats.detection import detect
from importer.settings import Settings
from samples import catalogue, plan_for, prepared, prepared_text

ISO = ("%Y-%m-%d %H:%M:%S",)
DAY, MONTH = DateOrder.DAY_MONTH, DateOrder.MONTH_DAY


@table(
    ("order", "before", "texts"),
    [
        (DAY, "2026-03-02 09:14:07", ("02/03/2026 09:14:07", "02/03/2026, 09:14:07", "2. 3. 2026 9:14:07")),
        (DAY, "2026-03-02 09:14", ("02.03.2026 09:14", "02-03-2026 09:14")),
        (DAY, "1970-03-02 09:14:07", ("02/03/70 09:14:07",)),
        (MONTH, "2026-02-03 09:14:07", ("02/03/2026 09:14:07",)),
        (MONTH, "2026-03-02 09:14", ("3/2/2026 9:14",)),
        (MONTH, "2026-03-02 21:14", ("3/2/26 9:14 PM",)),
        (MONTH, "2026-03-02 00:05:06", ("3/2/2026 12:05:06 AM",)),
        (DAY, "2026-03-02 09:14:07", ("2026/3/2 9:14:07",)),
        (MONTH, "2026-03-02 09:14:07", ("2026.03.02 09:14:07",)),
    ],
)
def test_written_back(order: DateOrder, before: str, texts: tuple[str, ...]) -> None:
    """A date in the way of any machine becomes what the system wrote, but for seconds that are not shown."""
    assert {text: written_back(text, ISO, order) for text in texts} == dict.fromkeys(texts, before)


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


@table(("order", "start"), [(DAY, "2026-03-02 09:14:00"), (MONTH, "2026-02-03 09:14:00")])
def test_operator_says_the_order(tmp_path: Path, order: DateOrder, start: str) -> None:
    """Where no row tells, --date-order does."""
    assert starts(tmp_path, rows("02/03/2026 09:14", "05/03/2026 09:14"), order)[0] == start


@table("text", ["2026/3/2 9:14:07", '"02.03.2026 09:14:07"', '"2.3.26 9:14:07"', '"02.03.2026 09:14:07,250"'])
def test_dates_that_need_no_order(tmp_path: Path, text: str) -> None:
    """A date that begins with its year, or has dots, needs no proof and no answer."""
    assert starts(tmp_path, rows(text)) == ["2026-03-02 09:14:07"]


def test_one_date_of_another_kind(tmp_path: Path) -> None:
    """A single date of another kind among the system's own is its row's fault, not the file's."""
    found = prepared_text(tmp_path, rows("2026-03-02 09:14:07", "02/03/2026 09:14:07", "2026-03-04 09:14:07"))
    assert found.outcomes() == ["call", "unreadable_time", "call"]


def ringcentral(*dates: str) -> str:
    """Return a RingCentral log, whose dates have the month first, with calls on these dates."""
    sample = (SAMPLES / "ringcentral-call-log" / "detailed.csv").read_text(encoding="utf-8-sig")
    header, row = sample.splitlines()[:2]
    rows = [row.replace("03/02/2026", date).replace("0142", f"01{n}") for n, date in enumerate(dates, 50)]
    return "\n".join((header, *rows)) + "\n"


def test_format_with_an_order_of_its_own(tmp_path: Path) -> None:
    """A format that has the month first is read so without proof; a file that cannot have it so is refused."""
    found = prepared_text(tmp_path, ringcentral("3/2/26", "3/4/26"))
    assert [call.start_time[:10] for call in found.calls()] == ["2026-03-02", "2026-03-04"]
    with pytest.raises(InputUnusableError, match='"25/03/2026" has the day first, format ringcentral-call-log'):
        prepared_text(tmp_path, ringcentral("02/03/2026", "25/03/2026"))


def test_seconds_that_tell_calls_apart(tmp_path: Path) -> None:
    """Where the start is part of what makes a call unique, a start without its seconds is no start."""
    found = prepared_text(tmp_path, rows("25/03/2026 09:14", "25/03/2026 09:14:07", ids=False))
    assert found.outcomes() == ["lost_seconds", "call"]


def test_call_without_id_has_one_id_in_every_export(tmp_path: Path) -> None:
    """A call known by its start has the same id with fraction, offset, `T`, dots or another order as without."""
    ids = {
        prepared_text(tmp_path, rows(start, ids=False)).calls()[0].call_id
        for start in (
            *("2026-03-25 14:14:07", "2026-03-25 14:14:07.123", "2026-03-25T14:14:07Z", "25.03.2026 14:14:07"),
            *("2026-03-25 09:14:07.5 -05:00", "3/25/2026 2:14:07 PM"),
        )
    }
    assert len(ids) == 1


@table("damaged", ["1.77246E+09", '"1,77246E+09"', "1E+12"])
def test_id_that_a_spreadsheet_cut(tmp_path: Path, damaged: str) -> None:
    """Calls whose ids were cut to the same text are rejected one by one, never taken for legs of one call."""
    answered = call_row(1).replace("call00001", damaged).replace("busy", "answered")
    others = [call_row(n).replace(f"call{n:05}", damaged) for n in (2, 3)]
    found = prepared_text(tmp_path, "\n".join([CALLNOTIFY_HEADER, answered, *others, call_row(4)]) + "\n")
    assert found.outcomes() == ["scientific_notation"] * 3 + ["call"]


@table(
    ("start", "made", "reason"),
    [
        (start, made, reason)
        for start in ("25.03.2026 09:14:07", "25.03.2026 09:14")
        for made, reason in (("1,77E+09", "scientific_notation"), ("1774448047,44", "decimal_comma"))
    ],
)
def test_id_of_an_export_without_header(tmp_path: Path, start: str, made: str, reason: str) -> None:
    """The id is what is damaged, whatever became of the seconds: no other column is taken for the one of ids."""
    row = (SAMPLES / "asterisk-csv" / "day.csv").read_text(encoding="utf-8").splitlines()[0]
    row = row.replace("2026-03-02 09:14:07", start).replace("2026-03-02 09:14:39", start)
    row = row.replace('"1772460847.44",""', f'"{made}",')
    found = prepared_text(tmp_path, f"{row}\n{row.replace('2125550142', '2125550143')}\n")
    assert found.outcomes() == [reason] * 2


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


CALL = ("3/2/2026 9:07", f"{MARCH_2}.4")


@table(
    ("text", "order", "words"),
    [
        (
            resaved_freepbx(CALL, ("2/3/2026 9:07", f"{MARCH_2}.5")),
            DAY,
            'ids of the rows disagree .* line 2 "3/2/2026 9:07" and line 3 "2/3/2026 9:07"',
        ),
        (
            resaved_freepbx(CALL, ("25/3/2026 9:07", "")),
            None,
            'disagree .* line 2 "3/2/2026 9:07" and line 3 "25/3/2026 9:07"',
        ),
        (resaved_freepbx((CALL[0], "1790000000.4")), None, "no row tells"),
        # Dots with the month first are as two rows that disagree.
        (rows("02.03.2026 09:14", "03/25/2026 09:14"), None, "disagree"),
        (rows("02.03.2026 09:14"), MONTH, "has the day first, --date-order says the month"),
    ],
)
def test_order_that_is_contradicted(tmp_path: Path, text: str, order: DateOrder | None, words: str) -> None:
    """Rows of which ids, dots or days contradict each other, or dots the operator, are refused."""
    with pytest.raises(InputUnusableError, match=words):
        found_in(tmp_path, text, order)


def test_ids_of_another_clock_prove_the_order(tmp_path: Path) -> None:
    """So do ids that count 100 ns since 1601, as those of 3CX."""
    header, row = (SAMPLES / "3cx-web" / "day.csv").read_text(encoding="utf-8-sig").splitlines()[:2]
    found = found_in(tmp_path, f"{header}\n{row.replace('2026-03-02T', '3/2/2026 ')}\n")
    assert found.rewriting is not None
    assert found.rewriting[0] is MONTH
