"""What preparing makes of a file, and the same file written down in other ways."""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import pytest

from conftest import SAMPLES, expected_file, read_results, sample_files, sample_options
from importer.files.export import ExportFile
from importer.formats.catalogue import Catalogue, load_catalogue
from importer.formats.cells import Quotes
from importer.formats.detected import Detection
from importer.formats.detection import detect
from importer.formats.language import CdrFormat
from importer.formats.sample import spilled
from importer.prepare.agents import load_agents
from importer.prepare.calls import Prepared
from importer.prepare.plan import PreparePlan
from importer.prepare.preparation import Preparation
from importer.reading.chunks import read_chunks
from importer.reading.scanning import scan, text_blocks
from importer.records import Call, Place, ResultRow
from importer.settings.options import Settings
from schemas.vocabulary import Outcome, State

INPUTS = sample_files()
REPRESENTATIVES = {
    "3cx-web/9-columns.csv",
    "asterisk-csv/day.csv",
    "callnotify/state-only.csv",
    "dialpad/calls.csv",
    "freepbx/release-2.11.csv",
    "genesys-cloud/day-first.csv",
    "ringcentral-call-log/detailed.csv",
    "twilio/title-case.csv",
    "vicidial/carrier.csv",
}
"""Samples that between them have what the language of formats can say: headers and positions, legs, agents' legs
and details, bare quotes and none, zones and countries in columns, dates written anew."""


def sample_name(path: Path) -> str:
    """Return folder and name of a sample."""
    return f"{path.parent.name}/{path.name}"


def largest_of_each(paths: Collection[Path]) -> list[Path]:
    """Return of each format the largest sample."""
    return list({path.parent: path for path in sorted(paths, key=lambda path: path.stat().st_size)}.values())


def for_each(paths: Collection[Path], always: Collection[str] = REPRESENTATIVES) -> list[Any]:
    """Return samples as parameters of a test: those named ``always``, with -m slow the largest of each format."""
    largest = largest_of_each(paths)
    return [
        pytest.param(path, id=name, marks=[] if name in always else pytest.mark.slow)
        for path, name in ((path, sample_name(path)) for path in paths)
        if name in always or path in largest
    ]


PER_SAMPLE = pytest.mark.parametrize("path", for_each(INPUTS))
NOW = 1_830_000_000
"""A run's start (2027-12-28): after every call of the samples."""


@cache
def catalogue() -> Catalogue:
    """Return the built-in formats and tables."""
    return load_catalogue(None, Path("/nonexistent"))


def plan_for(format_name: str, **changes: Any) -> PreparePlan:
    """Return the plan that the options of the sample README make for a format."""
    return replace(_plan_of(format_name), **changes)


@cache
def _plan_of(format_name: str) -> PreparePlan:
    words = sample_options(SAMPLES / format_name / "any.csv")
    options = dict(zip(words[::2], words[1::2], strict=True))
    country = options.get("--country")
    agents = load_agents(Path(options["--agents"]), country)
    agents = replace(agents, default_number=options.get("--default-agent-number", ""))
    return PreparePlan(agents, NOW, options.get("--timezone"), country, all_rows=True)


def detected(path: Path) -> Detection:
    """Return how a file is to be read; that of a sample is found once, among its own format alone."""
    return _sample_detection(path) if path in INPUTS else _detection(path, *catalogue().formats.values())


def _detection(path: Path, *formats: CdrFormat) -> Detection:
    found = detect(path, formats, Settings())
    assert isinstance(found, Detection)
    return found


def detected_as(path: Path, cdr_format: CdrFormat, **options: Any) -> Detection:
    """Return how a file is to be read in this format."""
    found = detect(path, [cdr_format], Settings(format=cdr_format.name, **options))
    assert isinstance(found, Detection)
    return found


@cache
def _sample_detection(path: Path) -> Detection:
    return _detection(path, catalogue().formats[path.parent.name])


@dataclass(frozen=True)
class Result:
    """What preparing gave: rows read, what became of those listed, and the counts of the others."""

    rows: int
    listed: list[Prepared]
    skipped: Counter[str]

    def calls(self) -> list[Call]:
        """Return the calls."""
        return [each for each in self.listed if isinstance(each, Call)]

    def ids(self) -> set[str]:
        """Return the ids of the calls."""
        return {call.call_id for call in self.calls()}

    def notified(self) -> Counter[tuple[str, ...]]:
        """Return the content of the calls."""
        return Counter(map(content_of, self.calls()))

    def outcomes(self) -> list[str]:
        """Return each row's outcome in input order: `call`, or its reason."""
        return ["call" if isinstance(each, Call) else each.reason for each in self.listed]

    def content(self) -> Counter[tuple[str, ...]]:
        """Return what became of the rows, without where they stood."""
        return Counter(content_of(each) for each in self.listed)


def content_of(each: Prepared) -> tuple[str, ...]:
    """Return everything of a call or result row that does not depend on its place in the input."""
    shared = (each.call_id, each.state, each.agent_number, each.customer_number, each.start_time, each.zohouser)
    own = (each.voiceuri,) if isinstance(each, Call) else (each.outcome, each.reason)
    return (*shared, each.source_id, *own)


def prepared(detections: Collection[Detection], plan: PreparePlan) -> Result:
    """Prepare files together."""
    plan = replace(plan, is_one_of_several=len(detections) > 1)
    with Preparation(catalogue().causes, plan) as preparation:
        for detection in detections:
            preparation.read(detection, detection.path.name, lambda _: None)
        listed = [each for batch in preparation.results() for each in batch]
        return Result(preparation.rows, listed, preparation.skipped)


def prepared_text(folder: Path, text: str, **changes: Any) -> Result:
    """Prepare a file of this text, with the options of its format."""
    path = folder / "export.csv"
    path.write_text(text, encoding="utf-8", newline="")
    detection = detected(path)
    return prepared([detection], plan_for(detection.format.name, **changes))


def rows_read(found: Detection) -> tuple[object, ...]:
    """Return all that preparing gets of a file, without lines: the same of two files gives the same outcomes."""
    chunks = [*read_chunks(found)]
    reasons = [bad.reason for each in chunks for bad in each.bad]
    frames = [frame.to_dict("list") for each in chunks for frame in (each.frame, each.guessed)]
    layout = (found.positions, found.field_count, found.open_end, found.header, found.titles, found.sample)
    changes = (found.rewriting, found.pointed, found.grouped)
    return *layout, *changes, [{**frame, "call.line": 0} for frame in frames], reasons


@cache
def as_it_is(path: Path) -> Result:
    """Return what becomes of a sample's rows by its expected file, without hints; `test_golden.py` proves it."""
    found, rows = detected(path), read_results(expected_file(path))
    if found.format.call.voiceuri in found.format.derived and b"http" in path.read_bytes():  # in no expected file
        return prepared([found], plan_for(path.parent.name))
    uri, delimiter, lines = (
        found.positions.get(found.format.call.voiceuri or ""),
        found.dialect.delimiter,
        _by_line(found),
    )
    listed: list[Prepared] = []
    for row in rows:
        place, columns = Place(path.name, int(row["line"])), ("from", "to", "start_time", "zohouser")
        call_id, texts, source_id = row["call_id"], [row[name] for name in columns], row["source_id"]
        if row["outcome"] == Outcome.WOULD_SEND:
            recording = "" if uri is None else next(csv.reader([lines[place.line]], delimiter=delimiter))[uri]
            listed.append(Call(call_id, State(row["state"]), *texts, recording, source_id, place))
        else:
            outcome, reason = Outcome(row["outcome"]), row["reason"]
            listed.append(ResultRow(place, outcome, call_id, row["state"], *texts, source_id, reason))
    return Result(len(rows), listed, Counter())


def _by_line(found: Detection) -> dict[int, str]:
    """Return the records of a file by the lines on which they begin."""
    head, records = split_records(found)
    before = accumulate((record.count("\n") for record in records), initial=head.count("\n"))
    return {count + 1: record for count, record in zip(before, records, strict=False)}


def only_calls(path: Path) -> list[str]:
    """Return the records of a sample that are calls; the rejected ones cost most of the time of all."""
    lines = _by_line(detected(path))
    return [lines[call.place.line] for call in as_it_is(path).calls()]


def text_of_calls(path: Path) -> str:
    """Return the header and the calls of a sample."""
    return split_records(detected(path))[0] + "".join(only_calls(path))


NO_ROWS = re.compile(r'"?Totals|"?INTEGER[,;]|-[-+]+$|\(\d+ rows?\)$|Datum\||Call Start,|\f?STA  LINE|---- ---- ')
"""How the lines of the samples begin that are no rows: totals, a line of types, a printed table's frame."""


def is_no_row(record: str) -> bool:
    """Say whether a record of a sample is one that its format drops, or blank."""
    return not record.strip() or bool(NO_ROWS.match(record))


def split_records(detection: Detection) -> tuple[str, list[str]]:
    """Return the lines up to the header's end and the records below as they stand, line ends included."""
    text = detection.path.read_bytes().decode(detection.encoding)
    lines = io.StringIO(text, newline="").readlines()
    head = lines[: detection.header_line or 0]
    records: list[str] = []
    is_open = False
    for line in lines[len(head) :]:
        if is_open:
            records[-1] += line
        else:
            records.append(line)
        if detection.dialect.quotes is Quotes.DOUBLED:
            is_open ^= line.count('"') % 2 == 1
    return "".join(head), records


def written(detection: Detection, path: Path, records: Iterable[str]) -> Detection:
    """Write the header and these records to another file, read in the same way."""
    head, _ = split_records(detection)
    path.write_bytes((head + "".join(records)).encode(detection.encoding))
    return replace(detection, file=ExportFile(path))


def reordered(detection: Detection, path: Path, order: list[int]) -> Detection:
    """Write the export with its columns in another order; rows of another shape stay as they are."""
    head, records = split_records(detection)
    *title, header = head.splitlines(keepends=True)
    target = io.StringIO("".join(title), newline="")
    target.seek(0, io.SEEK_END)
    plain = detection.format.file.quotes is Quotes.NONE
    quoting = csv.QUOTE_NONE if plain else csv.QUOTE_MINIMAL
    writer = csv.writer(
        target, delimiter=detection.dialect.delimiter, quoting=quoting, quotechar=None if plain else '"'
    )
    for record in [header, *records]:
        source = io.StringIO(record, newline="")
        cells = next(csv.reader(source, delimiter=detection.dialect.delimiter, quoting=quoting))
        if is_no_row(record):
            continue
        cells = [*spilled(cells, len(order), detection.spill)]
        shown = cells if any(cells[len(order) :]) else cells[: len(order)]
        writer.writerow([shown[place] for place in order] if len(shown) == len(order) else cells)
    path.write_bytes(target.getvalue().encode(detection.encoding))
    return detected(path)


@cache
def cells_of(path: Path) -> list[list[str]]:
    """Return all records of a sample as cells, by its own quoting."""
    found = detected(path)
    rows: list[list[str]] = []
    for records in scan(text_blocks(ExportFile(path), found.encoding), found.dialect, path.name):
        for start, end in zip(records.starts.tolist(), records.ends.tolist(), strict=True):
            text = records.text[start:end].decode("utf-8")
            if found.dialect.quotes is Quotes.NONE:
                rows.append(text.split(found.dialect.delimiter))
            else:
                skip = found.format.file.skip_initial_space
                source = io.StringIO(text, newline="")
                rows.append(next(csv.reader(source, delimiter=found.dialect.delimiter, skipinitialspace=skip)))
    return rows
