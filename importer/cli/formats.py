"""The commands under `formats`: list and explain formats, draft one of one's own, test one."""

import os
import shlex
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from importer.cli.looking import zone_text
from importer.cli.options import CONFIG, PREPARING, READING, given, options
from importer.cli.saying import say, say_lines
from importer.cli.tables import table, terminal_width, wrapped
from importer.errors import ExitCode, ImporterError, NoInputError

MOST_SHOWN = 60


class _Formats(click.Group):
    """Takes what is no command of its own for the name of a format."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, *self.get_help_option_names(ctx)}
        return super().parse_args(ctx, args if args[:1] and args[0] in known else ["list", *args])


@click.group(
    "formats",
    cls=_Formats,
    short_help="List the formats, explain one, draft or test one of your own.",
    subcommand_metavar="[NAME] | new EXPORT | test FORMAT SAMPLE",
    options_metavar="",
)
def formats_group() -> None:
    """List the built-in formats and your own; with NAME, explain one."""


@formats_group.command("list", short_help="List the formats, or explain NAME; `list` may be left out.")
@options(CONFIG)
@click.argument("name", required=False)
def list_command(name: str | None, **flags: Any) -> int:
    """List the built-in formats and your own; with NAME, explain one and the policies in force for it."""
    from importer.formats import load_catalogue, user_folder
    from importer.settings import load_settings

    catalogue = load_catalogue()
    if name is not None:
        cdr_format = catalogue.pick(name)
        say_lines(_explained(cdr_format, catalogue))
        say_lines(_policies(cdr_format, catalogue, load_settings(given(flags), os.environ)))
        return int(ExitCode.OK)
    rows = [
        (known, f"{cdr_format.title}{' (your own)' if known in catalogue.own else ''}")
        for known, cdr_format in sorted(catalogue.formats.items())
    ]
    say_lines(table((), rows))
    # Not wrapped: a path is there to be copied.
    say(f"Your own: formats/*.toml and causes/*.toml in {user_folder()}")
    return int(ExitCode.OK)


@formats_group.command("new", short_help="Draft a format of your own from an export.")
@options(CONFIG, READING[1:])
@click.option("--output", type=click.Path(path_type=Path), metavar="FILE", help="Default: named after the export.")
@click.argument("export", type=click.Path(path_type=Path), metavar="EXPORT")
def new_command(export: Path, output: Path | None, **flags: Any) -> int:
    """Draft a format for exports like EXPORT as a TOML file with comments; never overwrites a file.

    What the export shows is filled in with its evidence; what a person must decide is marked TODO, and the format
    is refused until no TODO is left. Then try it with `formats test`.
    """
    from importer.formats import load_catalogue
    from importer.formats.catalogue import RESERVED_NAMES
    from importer.formats.drafting import draft_of, format_name
    from importer.pipeline import check_apart
    from importer.settings import load_settings
    from importer.setup.config_file import write_new

    settings = load_settings(given(flags), os.environ)
    catalogue = load_catalogue()
    stem = (output or export).name.split(".")[0]
    name = format_name(stem, {*catalogue.formats, *RESERVED_NAMES})
    target = output or Path(f"{name}.toml")
    check_apart(settings, [export], {"--output": target})
    draft = draft_of(
        export, name, catalogue, encoding=settings.encoding, delimiter=settings.delimiter, sheet=settings.sheet
    )
    write_new(target, draft.text)
    say_lines(_about(draft, export, target, catalogue))
    return int(ExitCode.OK)


def _about(draft: Any, export: Path, target: Path, catalogue: Any) -> Iterator[str]:
    """Yield what a draft was made from, and what is left to do."""
    yield from wrapped(f"{target}: a draft from {draft.seen}.", "  ")
    if known := _formats_that_fit(export, catalogue):
        yield from wrapped(f"The export is of format {known}, too: use that one, or your own with --format.", "  ")
    count = len(draft.open_points)
    yield from wrapped(f"{count} open point{'' if count == 1 else 's'}:", "  ")
    for number, text in draft.open_points:
        yield from wrapped(f"  line {number}: {text}"[: 2 * terminal_width() - 4], "    ")
    yield from wrapped(f"Settle them, then: cdr-importer formats test {target} {export}", "  ")


def _formats_that_fit(export: Path, catalogue: Any) -> str:
    """Return the name of the format that the export is of already, "" without one."""
    from importer.formats import Detection, detect
    from importer.formats.detection import Overrides

    try:
        found = detect(export, list(catalogue.formats.values()), Overrides())
    except ImporterError:  # of none, of two, or standard input, which is read by now
        return ""
    return found.format.name if isinstance(found, Detection) else ""


@formats_group.command("test", short_help="Run a format against a sample and its expected results.")
@options(CONFIG, READING[1:], PREPARING)
@click.option(
    "--expected",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Default: SAMPLE.expected.csv beside SAMPLE.",
)
@click.argument("name", metavar="FORMAT")
@click.argument("sample", type=click.Path(path_type=Path), metavar="SAMPLE")
def test_command(name: str, sample: Path, expected: Path | None, **flags: Any) -> int:
    """Say whether FORMAT, a .toml file or a name, makes of SAMPLE what its expected results say.

    They are the results of `check --all-rows`, read through by a person. Paths, hints and the columns of delivery
    are not compared. Exit code 0: the same; 3: something differs; 66: there is no expected file yet.
    """
    from importer.files import temporary_writes
    from importer.formats import load_catalogue
    from importer.results import differences
    from importer.settings import load_settings

    settings = load_settings({**given(flags), "format": name}, os.environ)
    catalogue = load_catalogue()
    catalogue.pick(name)
    wanted = expected or sample.with_name(f"{sample.stem}.expected.csv")
    if not wanted.exists():
        raise NoInputError(
            f"there is no expected file {wanted}",
            hint="Write it with this command, then read every line of it, since it must be right:",
            lines=(_how_to_write(name, sample, wanted, flags),),
        )
    with temporary_writes():
        made = tempfile.TemporaryDirectory(prefix="cdr-importer-")
    with made as folder:
        results = Path(folder) / "results.csv"
        rows = _checked(settings.model_copy(update={"results": results}), catalogue, sample)
        different = differences(wanted, results)
    if not different:
        say_lines(wrapped(f"{sample}: {rows} rows, all as {wanted} expects them.", "  "))
        return int(ExitCode.OK)
    lines = len({each.line for each in different})
    say_lines(
        wrapped(f"{sample}: {rows} rows, {lines} line{'' if lines == 1 else 's'} not as {wanted} expects:", "  ")
    )
    shown = [
        (each.line, each.column, each.expected or '""', each.found or '""') for each in different[:MOST_SHOWN]
    ]
    say_lines(table(("line", "column", "expected", "found"), shown))
    if len(different) > MOST_SHOWN:
        say(f"and {len(different) - MOST_SHOWN} more")
    return int(ExitCode.PARTIAL)


def _checked(settings: Any, catalogue: Any, sample: Path) -> int:
    """Write what `check --all-rows` says of a sample and return how many rows it has.

    Raises the InputUnusableError or NoInputError of a sample that cannot be read.
    """
    from importer.pipeline import Listener, Run, check

    problems: list[ImporterError] = []
    chosen = settings.model_copy(update={"all_rows": True, "rejects": None})
    summary = check(Run(chosen, catalogue, Listener(problem=problems.append)), [sample])
    if problems:
        raise problems[0]
    return summary.rows


def _how_to_write(name: str, sample: Path, wanted: Path, flags: dict[str, Any]) -> str:
    """Return the command that writes the expected file, with the options that were given."""
    words = ["cdr-importer", "check", "--all-rows", "--format", name]
    for option, value in given(flags).items():
        # Numbers are never printed on stderr.
        words += [f"--{option.replace('_', '-')}", "NUMBER" if option == "default_agent_number" else str(value)]
    return shlex.join([*words, "--results", str(wanted), str(sample)])


def _explained(cdr_format: Any, catalogue: Any) -> Iterator[str]:
    """Yield what a format is made of, as lines."""
    for line in _facts(cdr_format, catalogue):
        yield from wrapped(line, "      ")


def _policies(cdr_format: Any, catalogue: Any, settings: Any) -> Iterator[str]:
    """Yield the policies in force for a format, and who says so."""
    from importer.pipeline.preparing import policy_book

    sources = policy_book(settings, {*catalogue.formats, cdr_format.name}).sources(cdr_format)
    shown = {
        name: ", ".join(value) or "none" if isinstance(value, tuple) else str(value) or "learned"
        for name, (value, _) in sources.items()
    }
    rows = [[f"--{name.replace('_', '-')}", shown[name], who] for name, (_, who) in sources.items()]
    call = cdr_format.call
    if call.ring_seconds is None:
        rest = ", only how long the whole call was" if call.duration_seconds or call.end_time else ""
        for row in rows[:2]:
            row[2] += f" (this export does not tell how long it rang{rest})"
    yield ""
    yield from table(("policy", "in force", "said by"), rows)


def _facts(cdr_format: Any, catalogue: Any) -> Iterator[str]:
    from importer.formats.language import word_key

    yield f"{cdr_format.name}: {cdr_format.title} (sources: {cdr_format.certainty})"
    for note in cdr_format.notes:
        yield f"  note: {note}"
    for layout in cdr_format.layouts:
        yield f"  no header, {len(layout.columns)} cells: {', '.join(layout.columns)}"
    if cdr_format.columns:
        yield f"  columns needed: {', '.join(names[0] for names in cdr_format.columns.values())}"
        optional = ", ".join(names[0] for names in cdr_format.optional_columns.values())
        yield f"  columns used if there: {optional or 'none'}"
    yield f"  times: {', '.join(cdr_format.time.formats)}; {zone_text(cdr_format, None)}"
    yield "  what became of the call:"
    for rule in cdr_format.outcome:
        if rule.column is None:
            yield f"    by rule: {rule.value}"
            continue
        known_by_table = catalogue.causes[rule.table].words if rule.table else {}
        words = {word_key(word): (word, verdict) for word, verdict in rule.words.items()}
        for word, cause in known_by_table.items():
            words.setdefault(word_key(word), (word, cause.otherwise.value))
        pairs = [f"{word} = {verdict}" for word, verdict in list(words.values())[:12]]
        more = f", and {len(words) - 12} more" if len(words) > 12 else ""
        own = f" (some your own, causes/{rule.table}.toml)" if rule.table in catalogue.own_causes else ""
        yield f"    column {cdr_format.shown(rule.column)}{own}: {', '.join(pairs)}{more}"
