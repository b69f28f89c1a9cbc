"""The command `report`, and the page that `status --html` writes."""

import os
import sys
from pathlib import Path
from typing import Any

import click

from importer.cli.options import CONFIG, LEDGER, ZONE, given, options
from importer.cli.output import say
from importer.errors import ExitCode, UsageError

OUTPUT = (
    click.option(
        "--output",
        type=click.Path(path_type=Path),
        metavar="PATH",
        help="The page. Default: the results file's name and .html, beside it.",
    ),
)
FORCE = (click.option("--force", is_flag=True, help="Replace the page when it is there already."),)


@click.command("report")
@options(CONFIG, LEDGER, ZONE, OUTPUT, FORCE)
@click.option("--run", "run_id", metavar="RUN", help="A run of the ledger instead, or `last`.")
@click.argument("results", required=False, type=click.Path(path_type=Path), metavar="[RESULTS.csv]")
def report_command(
    results: Path | None, run_id: str | None, output: Path | None, force: bool, **flags: Any
) -> int:
    """Write one self-contained HTML page about the results file RESULTS.csv, or about a run of the ledger."""
    from importer.settings import load_settings

    if (results is None) == (run_id is None):
        raise UsageError("report: name either a results file or a run", hint="Runs: `cdr-importer status --runs`.")
    settings = load_settings(given(flags), os.environ)
    if run_id is not None:
        _write_run(settings, run_id, output, force=force, shown_ledger=str(flags.get("ledger") or ""))
    elif results is not None:
        from importer.pipeline import check_apart
        from importer.report.data import results_report
        from importer.report.page import check_free

        path = output or _beside(results)
        check_apart(settings, [results], {"--output": path})
        check_free(path, replace=force)
        _write(results_report(results, settings.timezone), path, force=force)
    return int(ExitCode.OK)


def _beside(results: Path) -> Path:
    return results.with_name(results.name + ".html")


def _write_run(settings: Any, run_id: str, output: Path | None, *, force: bool, shown_ledger: str) -> None:
    """Write the page of one run: as asked, else beside its results where they are, else in the working folder."""
    from importer.ledger import open_reader
    from importer.pipeline import check_apart
    from importer.report.data import found_run, run_report
    from importer.report.page import check_free

    with open_reader(settings.ledger) as ledger:
        run = found_run(ledger, run_id)
        results = Path(run.results)
        path = output or (_beside(results) if results.is_file() else Path(f"cdr-importer.{run.run_id}.html"))
        check_apart(settings, [results] if run.results else [], {"--output": path})
        check_free(path, replace=force)
        report = run_report(ledger, run, settings.timezone, shown_ledger)
    _write(report, path, force=force)


def write_history(settings: Any, path: Path, *, force: bool, shown_ledger: str) -> None:
    """Write the page of the ledger's history."""
    from importer.ledger import open_reader
    from importer.pipeline import check_apart
    from importer.report.data import history_report
    from importer.report.page import check_free

    check_apart(settings, outputs={"--html": path})
    check_free(path, replace=force)
    with open_reader(settings.ledger) as ledger:
        report = history_report(ledger, settings.ledger, settings.timezone, shown_ledger)
    _write(report, path, force=force)


def _write(report: Any, path: Path, *, force: bool) -> None:
    from importer.report.page import write_page

    write_page(report, path, replace=force)
    # Cron mails whatever is printed.
    if sys.stdout.isatty():
        say(f"The report is in {path}.")
