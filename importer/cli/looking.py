"""The command `detect`: what kind of file an export is, and how it is understood."""

import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import click

from importer.cli.options import CONFIG, FILES, PREPARING, READING, given, options
from importer.cli.saying import complain, say, say_wrapped
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
        except ImporterError as error:
            complain(error.message, error.hint)
            codes.append(error.exit_code)
            continue
        if isinstance(found, OwnOutput):
            say(f"{path}: a results file of this program; import passes it over.")
            continue
        for line in _described(found, settings, catalogue):
            _show(line)
    return int(most_severe(codes))


def _show(line: str) -> None:
    """Print a line, broken to the width of the terminal, with what follows under its own column."""
    say_wrapped(line, shutil.get_terminal_size().columns, 13 if line.startswith("  ") else 4)


def _described(found: Any, settings: Any, catalogue: Any) -> Iterator[str]:
    """Yield what is known of one file, as lines."""
    delimiter = {"\t": "tab"}.get(found.delimiter, found.delimiter)
    yield f"{found.path}" + (f" ({found.file.packing}, unpacked)" if found.file.packing else "")
    yield f"  format     {found.format.name}: {found.format.title} (sources: {found.format.certainty})"
    yield f"  encoding   {found.encoding}    delimiter  {delimiter}    cells per row  {found.field_count}"
    yield f"  header     {f'line {found.header_line}' if found.header_line else 'none'}"
    yield f"  times      {zone_text(found.format, settings.timezone, found.positions)}"
    yield from (f"  evidence   {line}" for line in _zone_evidence(found, settings, catalogue))
    for note in found.format.notes:
        yield f"  note       {note}"
    yield "  columns    " + ", ".join(
        f"{name} = cell {position + 1}" for name, position in sorted(found.positions.items(), key=lambda p: p[1])
    )
    for cells in found.sample[:SHOWN_ROWS]:
        yield "  row        " + ("  " if found.delimiter == "\t" else found.delimiter).join(cells)
    yield from _understood(found, settings, catalogue)


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


def _understood(found: Any, settings: Any, catalogue: Any) -> Iterator[str]:
    """Yield what becomes of the first rows, as `check --all-rows` would say."""
    import time
    from dataclasses import replace

    from importer.pipeline import Run, inputs_of
    from importer.pipeline.preparing import prepare_plan
    from importer.prepare import Preparation
    from importer.records import Call

    if found.format.needs_timezone(found.positions) and settings.timezone is None:
        return
    run = Run(settings, catalogue, now=time.time())
    plan = replace(prepare_plan(run, inputs_of([found], [])), all_rows=True)
    shown = 0
    with Preparation(catalogue.causes, plan) as preparation:
        preparation.read(found, str(found.path), lambda _: None)
        for batch in preparation.results():
            for each in batch[: SHOWN_ROWS - shown]:
                shown += 1
                if isinstance(each, Call):
                    yield f"  line {each.place.line:<5} {each.state}: {each.agent_number} called " + (
                        f"{each.customer_number} at {each.start_time} GMT"
                    )
                else:
                    yield f"  line {each.place.line:<5} {each.outcome} {each.reason}"
            if shown >= SHOWN_ROWS:
                return
