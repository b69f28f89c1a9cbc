"""The commands `detect`, which explains a file, and `formats`, which lists, drafts and tests formats."""

import shlex
from contextlib import suppress
from dataclasses import replace
from difflib import get_close_matches
from pathlib import Path

import click

from importer.cli.options import FILES, INPUT, PATH, PREPARING, Command, options
from importer.cli.output import error_text, show, show_lines, show_message, table, terminal_width, wrapped
from importer.errors import ExitCode, ImporterError, NoInputError, most_severe
from importer.private_files import write_new
from importer.settings.options import Settings
from schemas.vocabulary import counted


class _Formats(click.Group):
    """Takes a word that is no command for the name of a format."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        known = {*self.commands, *self.get_help_option_names(ctx)}
        return super().parse_args(ctx, args if args[:1] and args[0] in known else ["list", *args])


formats_group = _Formats(
    "formats",
    subcommand_metavar="[NAME] | new EXPORT | test FORMAT SAMPLE",
    options_metavar="",
    help="List the built-in formats and your own; with NAME, explain one.",
)


@formats_group.command(
    "list", cls=Command, short_help="List the formats, or explain NAME; `list` may be left out."
)
@options()
@click.argument("name", required=False)
def list_command(settings: Settings, name: str | None) -> None:
    """List the built-in formats and your own; with NAME, explain one and the policies in force for it."""
    from importer.formats.catalogue import load_catalogue, own_folders

    catalogue = load_catalogue(settings.config)
    if name is not None:
        from importer.cli.explain import format_lines

        if name not in catalogue.formats and (near := get_close_matches(name, ("new", "test"), n=1)):
            raise click.UsageError(f"No such format or command '{name}'. Did you mean 'formats {near[0]}'?")
        show_lines(format_lines(catalogue.pick(name), catalogue, settings))
        return
    rows = [
        (known, f"{cdr_format.title}{' (your own)' if known in catalogue.own else ''}")
        for known, cdr_format in sorted(catalogue.formats.items())
    ]
    show_lines(table((), rows))
    # Not wrapped: a path is there to be copied.
    show_lines(
        f"Your own: formats/*.toml and causes/*.toml in {folder}" for folder in own_folders(settings.config)
    )


@formats_group.command("new", cls=Command, short_help="Draft a format of your own from an export.")
@options(*INPUT[1:])
@click.option("--output", type=PATH, metavar="FILE", help="Default: named after the export.")
@click.argument("export", type=PATH, metavar="EXPORT")
def new_command(settings: Settings, export: Path, output: Path | None) -> None:
    """Draft a format for exports like EXPORT as a TOML file with comments; never overwrites a file.

    What the export shows is filled in with its evidence; what a person must decide is marked TODO, and the format
    is refused until no TODO is left. Then look at it with `detect --format`, and hold it with `formats test`. To
    answer questions instead: `init --from EXPORT`.
    """
    from importer.formats.catalogue import RESERVED_NAMES, load_catalogue
    from importer.formats.detection import detect
    from importer.formats.drafting import draft_of, format_name
    from importer.pipeline.inputs import check_apart

    catalogue = load_catalogue(settings.config)
    stem = (output or export).name.split(".")[0]
    name = format_name(stem, {*catalogue.formats, *RESERVED_NAMES})
    target = output or Path(f"{name}.toml")
    check_apart(settings, [export], {"--output": target})
    shown = draft_of(export, settings)
    draft = shown.text(name, catalogue.causes, {})
    write_new(target, draft.text)
    with suppress(ImporterError):
        if found := detect(export, [*catalogue.formats.values()], settings, catalogue.lookalikes):
            fits = found.format.name
            said = f"{export} is read by {fits} already: see `cdr-importer formats {fits}` first."
            show_lines(wrapped(said, "  "))
    show_lines(wrapped(f"{target}: a draft from {shown.seen}.", "  "))
    points = draft.open_points()
    show(f"{counted(len(points), 'open point')}:")
    for number, text in points:
        show_lines(wrapped(f"  line {number}: {text}"[: 2 * terminal_width() - 4], "    "))
    show("Columns are named by the left-hand name of their line. Settle all, then:")
    show(f"  {shlex.join(['cdr-importer', 'detect', '--format', str(target), str(export)])}")


@formats_group.command("test", cls=Command, short_help="Run a format against a sample and its expected results.")
@options(*INPUT[1:], *PREPARING)
@click.option("--expected", type=PATH, metavar="FILE", help="Default: SAMPLE.expected.csv beside SAMPLE.")
@click.argument("name", metavar="FORMAT")
@click.argument("sample", type=PATH, metavar="SAMPLE")
def test_command(settings: Settings, name: str, sample: Path, expected: Path | None) -> int:
    """Say whether FORMAT, a .toml file or a name, makes of SAMPLE what its expected results say.

    They are the results of `check --all-rows`, read through by a person. Paths, hints and the columns of delivery
    are not compared. Exit code 0: the same; 3: something differs; 66: there is no expected file yet.
    """
    from importer.cli.explain import difference_lines
    from importer.files.export import named_files
    from importer.files.spooling import temporary_folder
    from importer.formats.catalogue import load_catalogue
    from importer.pipeline.run import Listener, Run
    from importer.pipeline.stages import check
    from importer.results.cells import differences

    catalogue = load_catalogue(settings.config)
    catalogue.pick(name)
    wanted = expected or sample.with_name(f"{sample.stem}.expected.csv")
    if not wanted.exists():
        raise NoInputError(
            f"there is no expected file {wanted}",
            hint="Write it by `cdr-importer check --all-rows --results`, with the same format and options. Then "
            "read every line of it, since it must be right.",
        )
    problems: list[ImporterError] = []
    with temporary_folder() as folder:
        results = folder / "results.csv"
        # What a config file says of a night's files (alarms, --done, a cluster) holds nothing of a sample.
        names = [each.replace("-", "_") for each in (*INPUT, *PREPARING, "policies", "config")]
        reading = Settings(**{each: getattr(settings, each) for each in names})
        settings = replace(reading, format=name, results=results, all_rows=True)
        rows = check(Run(settings, catalogue, Listener(problem=problems.append)), named_files([sample])).rows
        if problems:
            raise problems[0]
        different = differences(wanted, results)
    show_lines(difference_lines(sample, rows, wanted, different))
    return ExitCode.PARTIAL if different else ExitCode.OK


@click.command("detect", cls=Command)
@options(*INPUT, *PREPARING)
@FILES
def detect_command(settings: Settings, files: tuple[Path, ...]) -> int:
    """Say which format, encoding and columns the exports FILE... have, with sample rows before and after."""
    from importer.cli.explain import file_lines
    from importer.files.export import named_files
    from importer.formats.catalogue import load_catalogue
    from importer.formats.detection import detect

    catalogue = load_catalogue(settings.config)
    formats = catalogue.candidates(settings.format)
    named = named_files(files)
    for problem in named.problems:
        show_message(*error_text(problem))
    codes = [ExitCode.OK, *(problem.exit_code for problem in named.problems)]
    show_lines(named.notes)
    for path in named.paths:
        try:
            found = detect(path, formats, settings, catalogue.lookalikes)
        except ImporterError as error:
            codes.append(error.exit_code)
            show_message(*error_text(error))
            continue
        if found is None:
            show(f"{path}: a results file of this program; import passes it over.")
        else:
            show_lines(file_lines(found, settings, catalogue))
    return int(most_severe(codes))
