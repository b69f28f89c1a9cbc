"""Preparing: rows in are outcomes out, whatever the order, the files and the chunks; nothing is invented."""

import csv
import random
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

import samples
from conftest import SAMPLES, call_row, cases, table, write_export
from importer.errors import InputUnusableError
from importer.prepare.keys import call_id_of
from importer.prepare.preparation import Preparation
from importer.reading.chunks import CHUNK_ROWS
from importer.records import ResultRow
from schemas.vocabulary import Outcome

CASES = cases("prepare")

HELD = {"3cx-web/9-columns.csv", "freepbx/release-2.11.csv"}
"""Samples in which the ledger's own word is tried each time."""
WRITTEN = {"asterisk-csv/day.csv", "dialpad/calls.csv", "ringcentral-call-log/detailed.csv"}
"""Samples in which the way of writing is tried each time: what ends prove, joined legs, and rows of details."""


@pytest.mark.fault(18)
@pytest.mark.parametrize("path", samples.for_each(samples.INPUTS, WRITTEN))
def test_way_of_writing_does_not_matter(path: Path, tmp_path: Path) -> None:
    """Columns turned, rows shuffled, read in chunks, dealt out into two files too: an export says the same."""
    detection, whole = samples.detected(path), samples.as_it_is(path).content()
    dice = random.Random(path.name)
    if detection.header:
        order = dice.sample(range(detection.field_count), detection.field_count)
        detection = samples.reordered(detection, tmp_path / "turned.csv", order)
    records = samples.split_records(detection)[1]
    dice.shuffle(records)
    plan = samples.plan_for(path.parent.name)
    assert (
        samples.prepared([samples.written(detection, tmp_path / "shuffled.csv", records)], plan).content() == whole
    )
    parts = [samples.written(detection, tmp_path / f"part{number}.csv", records[number::2]) for number in (0, 1)]
    dealt_out = samples.prepared(parts, replace(plan, chunk_rows=11)).content()
    other, missing = dealt_out - whole, whole - dealt_out
    if detection.format.endpoint:  # what stands behind a name is proved by the rows of one file alone
        assert {row[-1] for row in other} <= {"unknown_direction"}
        assert {row[-1] for row in missing} <= {"incoming", "internal", "attended"}
        other, missing = (Counter(row[-3] for row in rows.elements()) for rows in (other, missing))
    assert other == missing


@pytest.mark.parametrize("path", samples.for_each(samples.INPUTS, HELD))
def test_attended_calls_that_the_ledger_holds(path: Path) -> None:
    """A call that was attended, or came in, and that the ledger holds otherwise is one conflict, in its place."""
    plain = samples.prepared([samples.detected(path)], samples.plan_for(path.parent.name))
    chunk_rows = 1 if path.name == "state-only.csv" else 13
    plan = samples.plan_for(path.parent.name, held=lambda ids: dict.fromkeys(ids, True), chunk_rows=chunk_rows)
    shown = samples.prepared([samples.detected(path)], plan)
    pairs = [(was, now) for was, now in zip(plain.listed, shown.listed, strict=True) if was != now]
    conflicts = [now for _, now in pairs]
    reasons = {"attended"} | ({"incoming"} if samples.detected(path).format.call.incoming_decides else set())
    attended = [row for row in plain.listed if isinstance(row, ResultRow) and row.reason in reasons]
    assert {row.place for row in conflicts} <= {row.place for row in attended}
    assert {each.reason for each in conflicts if isinstance(each, ResultRow)} <= {"attended_since"}
    assert {row.source_id for row in conflicts} == {row.source_id for row in attended}
    assert len({row.call_id for row in conflicts} - {""}) == len(conflicts)
    few = samples.prepared([samples.detected(path)], replace(plan, all_rows=False, chunk_rows=CHUNK_ROWS))
    skipped = [row for row in shown.listed if isinstance(row, ResultRow) and row.outcome is Outcome.SKIPPED]
    assert few.listed == [row for row in shown.listed if row not in skipped]
    assert few.skipped == Counter(row.reason for row in skipped)


def test_damaged_file_leaves_nothing_of_itself(tmp_path: Path) -> None:
    """A file that turns out damaged in its last line gives no row, call or count, and changes no other file's."""
    sound = samples.detected(write_export(tmp_path / "sound.csv", [call_row(1)]))
    rows = [call_row(1, state="rejected"), call_row(2), '"open', call_row(3)]
    damaged = samples.detected(write_export(tmp_path / "damaged.csv", rows))
    plan = samples.plan_for("callnotify", chunk_rows=1)
    alone = samples.prepared([sound], plan)
    with Preparation(samples.catalogue().causes, plan) as preparation:
        preparation.read(sound, "sound.csv", lambda _: None)
        with pytest.raises(InputUnusableError):
            preparation.read(damaged, "damaged.csv", lambda _: None)
        listed = [each for batch in preparation.results() for each in batch]
        assert (preparation.rows, preparation.skipped, listed) == (alone.rows, alone.skipped, alone.listed)


@pytest.mark.parametrize(("site", "source_id", "key", "call_id"), CASES["ids"])
def test_call_id_is_the_same_for_ever(site: str, source_id: str, key: str, call_id: str) -> None:
    """An id once given never changes: it is the key of the ledger and of what the API got."""
    assert call_id_of(site, source_id, key) == call_id


@table("name", ["table-26-columns", "16-columns"])
def test_table_gives_the_same_with_and_without_header(name: str, tmp_path: Path) -> None:
    """A format that has columns and layouts reads a table with its header, and without it, alike."""
    path = SAMPLES / "freepbx" / f"{name}.csv"
    as_sampled, text = samples.detected(path), path.read_text(encoding="utf-8")
    if as_sampled.header:
        other = text.split("\n", maxsplit=as_sampled.header_line or 0)[-1]
    else:
        header = ",".join(sorted(as_sampled.positions, key=as_sampled.positions.__getitem__))
        other = f"{header}\n{text}"
    assert samples.prepared_text(tmp_path, other).content() == samples.as_it_is(path).content()
    assert bool(as_sampled.header) is not bool(samples.detected(tmp_path / "export.csv").header)


@pytest.mark.slow
@table("sample", ["3cx-cdr/day.csv", "audiocodes-sbc/day.csv"])
def test_field_that_the_administrator_left_out(sample: str, tmp_path: Path) -> None:
    """Records without header and without one field are refused: their cells would be read under other names."""
    found = samples.detected(SAMPLES / sample)
    records = [record.split(found.dialect.delimiter) for record in samples.split_records(found)[1]]
    patterns = [*found.format.detect.patterns, *found.format.layouts[0].where]
    for place in range(1, max(found.positions[name] for name in patterns)):
        lines = [found.dialect.delimiter.join(cells[:place] + cells[place + 1 :]) for cells in records]
        (tmp_path / f"{place}.csv").write_text("".join(lines), encoding="utf-8")
        with pytest.raises(InputUnusableError):
            samples.detected(tmp_path / f"{place}.csv")


@table(("sample", "column"), CASES["emptied"])
def test_emptied_column(sample: str, column: str, tmp_path: Path) -> None:
    """Where a cell is missing that tells attended calls, or whose leg it was, no call is sent anew or skipped."""
    path = SAMPLES / sample
    whole, rows = samples.as_it_is(path), list(csv.reader(path.read_text(encoding="utf-8").splitlines()))
    place = rows[0].index(column)
    with (tmp_path / "export.csv").open("w", encoding="utf-8", newline="") as target:
        csv.writer(target).writerows([rows[0], *([*row[:place], "", *row[place + 1 :]] for row in rows[1:])])
    found = samples.detected_as(tmp_path / "export.csv", samples.catalogue().formats[path.parent.name])
    now = samples.prepared([found], samples.plan_for(path.parent.name))
    assert not now.notified() - whole.notified()
    sent = {call.place.line for call in whole.calls()}
    skipped = [each for each in now.listed if isinstance(each, ResultRow) and each.outcome is Outcome.SKIPPED]
    assert not sent & {row.place.line for row in skipped}
