"""Nothing is invented: what would be posted of a row stands in its text, whatever stands there."""

import re
from datetime import UTC, datetime
from email.utils import format_datetime
from pathlib import Path

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from importer.formats.detected import Detection
from importer.prepare.plan import PreparePlan
from importer.records import Call
from samples import INPUTS, PER_SAMPLE, as_it_is, detected, for_each, plan_for, prepared, split_records, written
from tracing import cells_of, has_number, ids, joins, record_of, starts, texts, untraced

NUMBERS = st.one_of(
    st.from_regex(r"\+1212555[01][0-9]{3}", fullmatch=True),
    st.from_regex(r"\+447700900[0-9]{3}", fullmatch=True),
    st.from_regex(r"(1|00|0)?212555[01][0-9]{3}", fullmatch=True),
    st.from_regex(r"\(212\) 555-0[0-9]{3}", fullmatch=True),
    st.from_regex(r"1\.21[0-9]{2}E\+10", fullmatch=True),
    st.text("+0123456789xX -()", max_size=16),
)
MOMENTS = st.datetimes(datetime(2005, 1, 1), datetime(2027, 12, 1))
# A printed line without a digit in number and start is a title to a format of fixed columns, and no row.
CHANGES = st.tuples(NUMBERS, st.one_of(MOMENTS, st.text("0123456789-:/ ", max_size=18))).filter(
    lambda change: any(map(str.isdigit, f"{change[0]}{change[1]}"))
)


def _rows(detection: Detection) -> dict[int, list[str]]:
    """Return the cells of each record by the line where it starts."""
    head, records = split_records(detection)
    line = head.count("\n") + 1
    rows = {}
    for record in records:
        rows[line] = cells_of(detection, record)
        line += max(record.count("\n"), 1)
    return rows


@PER_SAMPLE
def test_calls_of_a_sample_stand_in_its_text(path: Path) -> None:
    """Numbers, ids, users, recordings of a sample's calls are in their rows, starts in a row of the same call."""
    detection, plan = detected(path), plan_for(path.parent.name)
    rows, result = _rows(detection), as_it_is(path)
    if detection.format.call.voiceuri:  # which no expected file shows
        result = prepared([detection], plan)
    for call in result.calls():
        own = rows[call.place.line]
        assert (call.place.line, untraced(call, own, detection, plan)) == (call.place.line, [])
        legs = [cells for cells in rows.values() if call.source_id in ids(cells, detection)]
        legs += [cells for cells in rows.values() if joins(cells, detection) & joins(own, detection)]
        moments = set().union(*(starts(cells, detection, plan) for cells in [own, *legs]))
        assert (call.place.line, call.start_time) in {(call.place.line, moment) for moment in moments}


def _template(path: Path, detection: Detection, plan: PreparePlan) -> tuple[Call, list[str]] | None:
    """Return a call of the sample that is one row, with its cells; None where there is no such call."""
    listed = as_it_is(path).listed
    rows = _rows(detection)
    ids = [each.source_id for each in listed]
    for call in as_it_is(path).calls():
        cells = rows[call.place.line]
        is_alone = not call.source_id or ids.count(call.source_id) == 1
        if is_alone and call.start_time in starts(cells, detection, plan):
            return call, cells
    return None


def _changed(
    number: int, change: tuple[str, datetime | str], call: Call, cells: list[str], how: Detection
) -> list[str]:
    """Return the row with another customer, start, id and mark of the calls that it joins."""
    customer, start = change
    changed = [*cells]
    for mark in filter(None, {call.source_id, *joins(cells, how)}):
        changed = [cell.replace(mark, f"{mark[:-3]}{number:03}") for cell in changed]
    plan, names = plan_for(how.format.name), how.format.origins(how.format.call.customer)
    for place in (how.positions[name] for name in names if name in how.positions):
        if has_number(call.customer_number, [cells[place]], how, plan):
            changed[place] = re.sub(r"\+?\(?\d[\d ()./-]{4,}\d", lambda _: customer, changed[place], count=1)
            break
    return _with_start(changed, start, how)


def _with_start(cells: list[str], start: datetime | str, how: Detection) -> list[str]:
    """Return the row with another start, where it stands in one cell or in one for each of date and time."""
    spec = how.format.time
    places = [how.positions.get(how.format.origins(name)[0], -1) for name in spec.columns]
    if min(places) < 0 or how.rewriting is not None:
        return cells
    before = [cells[place] for place in places]
    if [texts(how, name, cells)[0] for name in spec.columns] != before:
        return cells
    text = start if isinstance(start, str) else _written(start, " ".join(before), spec.formats)
    changed = [*cells]
    for place, part in zip(places, [*(text.split(" ", 1) if len(places) > 1 else [text]), ""], strict=False):
        changed[place] = part
    return changed


def _written(moment: datetime, like: str, formats: tuple[str, ...]) -> str:
    for layout in formats:
        if layout == "iso8601" and re.match(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d", like):
            return moment.strftime(f"%Y-%m-%d{like[10]}%H:%M:%S") + like[19:]
        if layout == "rfc2822" and "," in like:
            return format_datetime(moment.replace(tzinfo=UTC, microsecond=0))
        if layout in {"epoch", "epoch_ms"} and like.isdigit():
            return str(int(moment.replace(tzinfo=UTC).timestamp()) * (1 if layout == "epoch" else 1000))
        if layout.startswith("%"):
            return moment.strftime(layout)
    return like


FEW = {
    *("asterisk-csv/day.csv", "3cx-web/9-columns.csv", "callnotify/day.csv"),
    *("genesys-cloud/day-first.csv", "twilio/title-case.csv"),
}


@pytest.mark.parametrize("path", for_each(INPUTS, FEW))
# Few examples of many rows: what an example costs is validation as such, whatever the rows.
@settings(max_examples=2, phases=[Phase.generate])
@given(changes=st.lists(CHANGES, min_size=12, max_size=24))
def test_changed_rows_stand_in_their_text(
    path: Path, folder: Path, changes: list[tuple[str, datetime | str]]
) -> None:
    """Whatever number and time a row holds, its call has these or there is no call: no cell is changed."""
    how, plan = detected(path), plan_for(path.parent.name, trust_country=True)
    found = _template(path, how, plan)
    if found is None:
        return
    call, cells = found
    rows = [_changed(number, change, call, cells, how) for number, change in enumerate(changes)]
    copy = written(how, folder / "changed.csv", [record_of(how, row) for row in rows])
    result = prepared([copy], plan)
    by_line = _rows(copy)
    assert result.rows == len(result.listed) == len(rows)
    for made in result.calls():
        row = by_line[made.place.line]
        assert (row, untraced(made, row, how, plan)) == (row, [])
        assert made.start_time in starts(row, how, plan), (row, made.start_time)
