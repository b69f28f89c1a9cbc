"""The lines that `detect` and `formats` print about a file, a format and a test of it."""

import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import replace
from itertools import chain, islice
from pathlib import Path

from importer.cli.output import table, wrapped
from importer.formats.catalogue import Catalogue
from importer.formats.detected import Detection
from importer.formats.language import CdrFormat, word_key
from importer.formats.sample import column_key
from importer.prepare.agents import AgentBook
from importer.prepare.file_evidence import shown_roles
from importer.prepare.plan import PreparePlan, policy_book, prepare_plan
from importer.prepare.preparation import Preparation
from importer.prepare.zones import shown_evidence
from importer.records import ResultRow
from importer.results.cells import Difference
from importer.settings.options import Settings
from schemas.vocabulary import Outcome, counted

SHOWN_ROWS = 3
SHOWN_WORDS = 12
SHOWN_DIFFERENCES = 60


def file_lines(found: Detection, settings: Settings, catalogue: Catalogue) -> Iterator[str]:
    """Yield the properties of a file, its columns with the first rows verbatim, and the outcomes of these."""
    unpacked = [f"{found.file.packing}, unpacked"] if found.file.packing else []
    table_of = [f"sheet {found.file.sheet!r}" if found.file.sheet else "JSON"] if found.file.is_table else []
    how = ", ".join((*unpacked, *table_of))
    yield f"{found.path} ({how})" if how else f"{found.path}"
    yield from table((), [*_facts(found, settings, catalogue)])
    yield ""
    used = set(found.format.used_columns())
    places = sorted((place, name) for name, place in found.positions.items() if name in used)
    rows = found.sample[:SHOWN_ROWS]
    lines = []
    for place, name in places:
        text = found.header[place] if found.header else ""
        read_as = (text or name) if column_key(text or name) == column_key(name) else f"{text} = {name}"
        lines.append([str(place + 1), read_as, *(row[place] if place < len(row) else "" for row in rows)])
    yield from table(("cell", "column", *(f"row {number}" for number in range(1, len(rows) + 1))), lines)
    others = found.field_count - len(places)
    if others > 0:
        yield f"{others} other cell{'s are' if others > 1 else ' is'} passed over"
    if not found.needs_timezone() or settings.timezone is not None:
        yield from row_lines(found, settings, catalogue)
    yield ""


def row_lines(found: Detection, settings: Settings, catalogue: Catalogue) -> Iterator[str]:
    """Yield the outcomes of the first rows of a file, as `check --all-rows` has them."""
    plan = prepare_plan(settings, catalogue, [found], time.time())
    with Preparation(catalogue.causes, replace(plan, all_rows=True)) as preparation:
        preparation.read(found, str(found.path), lambda _: None)
        first = list(islice(chain.from_iterable(preparation.results()), SHOWN_ROWS))
    lines, hints = [], []
    for each in first:
        outcome = str(each.state)
        if isinstance(each, ResultRow):
            # "rejected" is a customer's answer here.
            what = "unusable" if each.outcome is Outcome.REJECTED else each.outcome
            outcome = f"{what}: {each.reason or each.state}"
            hints += [f"line {each.place.line}: {each.hint}"] if each.hint else []
        line = str(each.place.line)
        lines.append([line, outcome, each.agent_number, each.customer_number, each.start_time])
    if lines:
        yield ""
        yield from table(("line", "what it is", "from", "to", "start (GMT)"), lines)
    for hint in hints:
        yield from wrapped(hint, "  ")


def _facts(found: Detection, settings: Settings, catalogue: Catalogue) -> Iterator[tuple[str, str]]:
    delimiter = {"\t": "tab", ",": "comma", ";": "semicolon"}.get(found.dialect.delimiter, found.dialect.delimiter)
    yield "format", f"{found.format.name}: {found.format.title} (sources: {found.format.certainty})"
    yield "encoding", found.encoding
    delimiter = "none, columns by position" if found.format.file.columns else delimiter
    yield "delimiter", f"{delimiter}, {found.field_count} cells per row"
    header = {None: "none", 0: "the keys of the objects"}
    yield "header", header.get(found.header_line, f"line {found.header_line}")
    carries_offset = found.format.needs_timezone(found.positions) and found.times_carry_offsets()
    zone = zone_text(found.format, settings.timezone, found.positions)
    yield "times", "each carries its offset from GMT" if carries_offset else zone
    if settings.country and found.format.numbers.plain_digits == "national":
        yield "numbers", f"without country code they are read as of {settings.country}"
    plan = PreparePlan(AgentBook(), int(time.time()), settings.timezone)
    with Preparation(catalogue.causes, plan) as preparation:
        evidence = preparation.evidence(found)
    if evidence.zone is not None:
        yield from (("evidence", line) for line in shown_evidence(evidence.zone))
        if evidence.zone.contradiction() is not None:
            yield "evidence", f"--timezone {evidence.zone.zone} is contradicted: import and check refuse it"
    yield from (("endpoints", line) for line in shown_roles(evidence.endpoints.roles()))
    yield from (("note", note) for note in found.format.notes)


def zone_text(cdr_format: CdrFormat, timezone: str | None, columns: Collection[str] = ()) -> str:
    """Return whose clock the times of a format are, for a person."""
    if cdr_format.time.zone_column is not None and cdr_format.time.zone_column in columns:
        return f"local, zone in column {cdr_format.shown(cdr_format.time.zone_column)}"
    if cdr_format.needs_timezone():
        return f"local, read as {timezone}" if timezone else "local, zone unknown: give --timezone"
    own = cdr_format.time.zone
    return f"zone: {own if own not in ('option', 'value') else timezone or cdr_format.time.zone_default or own}"


def format_lines(cdr_format: CdrFormat, catalogue: Catalogue, settings: Settings) -> Iterator[str]:
    """Yield the layouts, columns, times and words of a format, and the policies in force for it with sources."""
    lines = [f"{cdr_format.name}: {cdr_format.title} (sources: {cdr_format.certainty})"]
    lines += [f"  note: {note}" for note in cdr_format.notes]
    for layout in cdr_format.layouts:
        lines.append(f"  no header, {len(layout.columns)} cells: {', '.join(layout.columns)}")
    if cdr_format.columns:
        lines.append(f"  columns needed: {', '.join(names[0] for names in cdr_format.columns.values())}")
        optional = ", ".join(names[0] for names in cdr_format.optional_columns.values())
        lines.append(f"  columns used if there: {optional or 'none'}")
    lines.append(f"  times: {', '.join(cdr_format.time.formats)}; {zone_text(cdr_format, settings.timezone)}")
    lines.append("  what became of the call:")
    for rule in cdr_format.outcome:
        if rule.column is None:
            lines.append(f"    by rule: {rule.value}")
            continue
        words = {word_key(word): (word, str(verdict)) for word, verdict in rule.words.items()}
        for word, cause in (catalogue.causes[rule.table].words if rule.table else {}).items():
            words.setdefault(word_key(word), (word, cause.otherwise.value))
        pairs = [f"{word} = {verdict}" for word, verdict in list(words.values())[:SHOWN_WORDS]]
        more = f", and {len(words) - SHOWN_WORDS} more" if len(words) > SHOWN_WORDS else ""
        own = f" (some your own, causes/{rule.table}.toml)" if rule.table in catalogue.own_causes else ""
        lines.append(f"    column {cdr_format.shown(rule.column)}{own}: {', '.join(pairs)}{more}")
    for line in lines:
        yield from wrapped(line, "      ")
    sources = policy_book(settings, {*catalogue.formats, cdr_format.name}).sources(cdr_format)
    rows = []
    for name, (value, who) in sources.items():
        shown = ", ".join(value) or "none" if isinstance(value, tuple) else str(value) or "learned"
        rows.append([f"--{name.replace('_', '-')}", shown, who])
    call = cdr_format.call
    if call.ring_seconds is None:
        rest = ", only how long the whole call was" if call.duration_seconds or call.end_time else ""
        for row in rows[:2]:
            row[2] += f" (this export does not tell how long it rang{rest})"
    yield ""
    yield from table(("policy", "in force", "said by"), rows)


def difference_lines(sample: Path, rows: int, expected: Path, different: Sequence[Difference]) -> Iterator[str]:
    """Yield how the results of a sample differ from the expected ones."""
    if not different:
        yield from wrapped(f"{sample}: {counted(rows, 'row')}, all as {expected} expects them.", "  ")
        return
    lines = len({line for line, *_ in different})
    yield from wrapped(
        f"{sample}: {counted(rows, 'row')}, {counted(lines, 'line')} not as {expected} expects:", "  "
    )
    cells = [[text or '""' for text in each] for each in different[:SHOWN_DIFFERENCES]]
    yield from table(("line", "column", "expected", "found"), cells)
    if len(different) > len(cells):
        yield f"and {len(different) - len(cells)} more"
