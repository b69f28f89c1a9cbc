"""The command `detect`: what kind of file an export is, and how it is understood."""

import os
from collections.abc import Collection, Iterator
from itertools import chain, islice
from pathlib import Path
from typing import Any

import click

from importer.cli.options import CONFIG, FILES, PREPARING, READING, given, options
from importer.cli.saying import complain, say, say_lines
from importer.cli.tables import table, wrapped
from importer.errors import ExitCode, ImporterError, most_severe

SHOWN_ROWS = 3
LEAST_SHARE = 0.02
"""Offsets that fewer of the rows prove are those of later legs of long calls."""


@click.command("detect", short_help="Say what kind of file it is and how it is understood.")
@options(CONFIG, READING, PREPARING)
@FILES
def detect_command(files: tuple[Path, ...], **flags: Any) -> int:
    """Say which format, encoding and columns the exports FILE... have, with sample rows before and after."""
    from importer.files import named_files
    from importer.formats import OwnOutput, detect, load_catalogue
    from importer.formats.detection import UNKNOWN_TODO, UnknownFormatError
    from importer.pipeline import overrides_of
    from importer.settings import load_settings

    settings = load_settings(given(flags), os.environ)
    catalogue = load_catalogue()
    overrides = overrides_of(settings, catalogue)
    named = named_files(files)
    for problem in named.problems:
        complain(problem.message, problem.hint, problem.lines)
    codes = [ExitCode.OK, *(problem.exit_code for problem in named.problems)]
    for note in named.notes:
        say(note)
    for path in named.paths:
        try:
            found = detect(path, list(catalogue.formats.values()), overrides, catalogue.lookalikes)
        except UnknownFormatError as error:
            complain(error.message, UNKNOWN_TODO)
            codes.append(error.exit_code)
            say_lines(table(("nearest format", "what keeps the file from it"), _nearest(error)))
            continue
        except ImporterError as error:
            complain(error.message, error.hint, error.lines)
            codes.append(error.exit_code)
            continue
        if isinstance(found, OwnOutput):
            say(f"{path}: a results file of this program; import passes it over.")
            continue
        say_lines(_described(found, settings, catalogue))
    return int(most_severe(codes))


def _nearest(error: Any) -> list[tuple[str, str]]:
    """Return the nearest formats with what is missing or different for each."""
    return [(each.name, each.told()) for each in error.nearest] or [("(none)", "no format has a column in common")]


def _described(found: Any, settings: Any, catalogue: Any) -> Iterator[str]:
    """Yield what a file is, its columns with the first rows as they stand, and what becomes of those."""
    unpacked = [f"{found.file.packing}, unpacked"] if found.file.packing else []
    table_of = [f"sheet {found.file.sheet!r}" if found.file.sheet else "JSON"] if found.file.is_table else []
    how = ", ".join((*unpacked, *table_of))
    yield f"{found.path} ({how})" if how else f"{found.path}"
    yield from table((), [*_facts(found, settings, catalogue)])
    yield ""
    yield from _columns(found)
    rows, hints = _understood(found, settings, catalogue)
    if rows:
        yield ""
        yield from table(("line", "what it is", "from", "to", "start (GMT)"), rows)
        for hint in hints:
            yield from wrapped(hint, "  ")
    yield ""


def _facts(found: Any, settings: Any, catalogue: Any) -> Iterator[tuple[str, str]]:
    delimiter = {"\t": "tab", ",": "comma", ";": "semicolon"}.get(found.delimiter, found.delimiter)
    yield "format", f"{found.format.name}: {found.format.title} (sources: {found.format.certainty})"
    yield "encoding", found.encoding
    delimiter = "none, columns by position" if found.format.file.columns else delimiter
    yield "delimiter", f"{delimiter}, {found.field_count} cells per row"
    header = {None: "none", 0: "the keys of the objects"}
    yield "header", header.get(found.header_line, f"line {found.header_line}")
    is_told = found.format.needs_timezone(found.positions) and found.times_carry_offsets()
    zone = zone_text(found.format, settings.timezone, found.positions)
    yield "times", "each carries its offset from GMT" if is_told else zone
    yield from (("evidence", line) for line in _zone_evidence(found, settings, catalogue))
    yield from (("endpoints", line) for line in _endpoints(found, catalogue))
    yield from (("note", note) for note in found.format.notes)


def _columns(found: Any) -> Iterator[str]:
    """Yield the columns that are read, by cell, with the first rows as they stand in the file."""
    from importer.formats.detection import column_key

    used = set(found.format.used_columns())
    places = sorted((place, name) for name, place in found.positions.items() if name in used)
    rows = found.sample[:SHOWN_ROWS]
    header = [f"row {number}" for number in range(1, len(rows) + 1)]
    lines = []
    for place, name in places:
        text = found.header[place] if found.header else ""
        read_as = (text or name) if column_key(text or name) == column_key(name) else f"{text} = {name}"
        lines.append([str(place + 1), read_as, *(row[place] if place < len(row) else "" for row in rows)])
    yield from table(("cell", "column", *header), lines)
    others = found.field_count - len(places)
    if others > 0:
        yield f"{others} other cell{'s are' if others > 1 else ' is'} passed over"


def zone_text(cdr_format: Any, timezone: str | None, columns: Collection[str] = ()) -> str:
    """Return whose clock the times of a format are, for a person."""
    if cdr_format.time.zone_column in columns:
        return f"local, zone in column {cdr_format.shown(cdr_format.time.zone_column)}"
    if cdr_format.needs_timezone():
        return f"local, read as {timezone}" if timezone else "local, zone unknown: give --timezone"
    own = cdr_format.time.zone
    return f"zone: {own if own not in ('option', 'value') else timezone or cdr_format.time.zone_default or own}"


def _zone_evidence(found: Any, settings: Any, catalogue: Any) -> Iterator[str]:
    """Yield what the ids of the file prove about the zone of its times."""
    from importer.pipeline import Run
    from importer.prepare import Preparation, PreparePlan, no_agents
    from importer.prepare.zones import offset_text, shown_zones

    run = Run(settings, catalogue)
    with Preparation(catalogue.causes, PreparePlan(no_agents(), int(run.now), settings.timezone)) as preparation:
        witness = preparation.zone_evidence(found)
    if witness is None:
        return
    rows = witness.counts.total()
    telling = sorted(offset for offset, count in witness.counts.items() if count >= LEAST_SHARE * rows)
    span = " to ".join(offset_text(offset) for offset in dict.fromkeys((telling[0], telling[-1])))
    each = ", ".join(f"{offset_text(offset)} in {witness.counts[offset]}" for offset in telling)
    yield f"the ids of {rows} rows prove that the clock stood at {span} ({each} rows)"
    yield f"zones that fit: {shown_zones(witness.proved())}"
    if witness.contradiction() is not None:
        yield f"--timezone {witness.zone} is contradicted: import and check refuse it"


def _endpoints(found: Any, catalogue: Any) -> list[str]:
    """Return what the rows of the file prove of the names at both ends of calls."""
    from importer.prepare import Preparation, PreparePlan, no_agents
    from importer.prepare.endpoints import shown_roles

    with Preparation(catalogue.causes, PreparePlan(no_agents(), now=0)) as preparation:
        return shown_roles(preparation.roles(found))


def _understood(found: Any, settings: Any, catalogue: Any) -> tuple[list[tuple[str, ...]], list[str]]:
    """Return what becomes of the first rows, as `check --all-rows` would say, and the hints of those of no use."""
    import time
    from dataclasses import replace

    from importer.pipeline import Run, inputs_of
    from importer.pipeline.preparing import prepare_plan
    from importer.prepare import Preparation

    if found.needs_timezone() and settings.timezone is None:
        return [], []
    run = Run(settings, catalogue, now=time.time())
    plan = replace(prepare_plan(run, inputs_of([found], [])), all_rows=True)
    with Preparation(catalogue.causes, plan) as preparation:
        preparation.read(found, str(found.path), lambda _: None)
        first: list[Any] = list(islice(chain.from_iterable(preparation.results()), SHOWN_ROWS))
    hints = [f"line {each.place.line}: {each.hint}" for each in first if getattr(each, "hint", "")]
    return [_row(each) for each in first], hints


def _row(each: Any) -> tuple[str, ...]:
    """Return a call or a row that is none as cells: its line, what it is, numbers and start."""
    outcome = getattr(each, "outcome", "")
    what = f"{outcome}: {each.reason or each.state}" if outcome else str(each.state)
    return str(each.place.line), what, each.agent_number, each.customer_number, each.start_time
