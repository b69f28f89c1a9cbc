"""The command `report`, and the page that `status --html` writes."""

import sys
from pathlib import Path

import click

from importer.cli.options import Command, options
from importer.cli.output import show
from importer.errors import ExitCode, UsageError
from importer.settings import Settings

FORCE = click.option("--force", is_flag=True, help="Replace the page when it is there already.")


@click.command("report", cls=Command)
@options("ledger", "timezone")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="The page. Default: the results file's name and .html, beside it.",
)
@FORCE
@click.option("--run", "run_id", metavar="RUN", help="A run of the ledger instead, or `last`.")
@click.argument("results", required=False, type=click.Path(path_type=Path), metavar="[RESULTS.csv]")
@click.pass_obj
def report_command(
    flags: dict[str, str],
    settings: Settings,
    results: Path | None,
    run_id: str | None,
    output: Path | None,
    force: bool,
) -> int:
    """Write one self-contained HTML page about the results file RESULTS.csv, or about a run of the ledger.

    A run's page goes beside its results where they are, else into the working folder.
    """
    from importer.ledger import open_reader
    from importer.pipeline import check_apart
    from importer.report.data import found_run, results_report, run_report
    from importer.report.page import check_page_free, write_page

    if results is not None and run_id is None:
        path = output or results.with_name(results.name + ".html")
        check_apart(settings, [results], {"--output": path})
        check_page_free(path, replace=force)
        report = results_report(results, settings.timezone)
    elif results is None and run_id is not None:
        with open_reader(settings.ledger) as ledger:
            run = found_run(ledger, run_id)
            written = Path(run.results)
            beside = written.with_name(written.name + ".html") if written.is_file() else None
            path = output or beside or Path(f"cdr-importer.{run.run_id}.html")
            check_apart(settings, [written] if run.results else [], {"--output": path})
            check_page_free(path, replace=force)
            report = run_report(ledger, run, settings.timezone, flags.get("ledger", ""))
    else:
        raise UsageError("report: name either a results file or a run", hint="Runs: `cdr-importer status --runs`.")
    write_page(report, path, replace=force)
    show_where(path)
    return int(ExitCode.OK)


def write_history(settings: Settings, path: Path, *, force: bool, shown_ledger: str) -> None:
    """Write the page of the ledger's history."""
    from importer.ledger import open_reader
    from importer.pipeline import check_apart
    from importer.report.data import history_report
    from importer.report.page import check_page_free, write_page

    check_apart(settings, outputs={"--html": path})
    check_page_free(path, replace=force)
    with open_reader(settings.ledger) as ledger:
        report = history_report(ledger, settings.ledger, settings.timezone, shown_ledger)
    write_page(report, path, replace=force)
    show_where(path)


def show_where(path: Path) -> None:
    """Print where the page is, at a terminal only: cron mails whatever is printed."""
    if sys.stdout.isatty():
        show(f"The report is in {path}.")
