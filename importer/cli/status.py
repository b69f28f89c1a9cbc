"""The command `status`: how the ledger stands, and the runs it had."""

import json as json_module
import os
from collections.abc import Iterator, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import click

from importer.cli.options import CONFIG, LEDGER, ZONE, given, options
from importer.cli.reporting import FORCE, write_history
from importer.cli.saying import say, say_json, say_lines
from importer.cli.tables import aligned
from importer.errors import ExitCode

SHOWN_UNCERTAIN = 20


@click.command("status", short_help="Count the calls of the ledger by state, or list its runs.")
@options(CONFIG, LEDGER, ZONE)
@click.option("--runs", is_flag=True, help="List the latest runs instead, the newest first.")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="How many runs `--runs` lists.",
)
@click.option(
    "--html", type=click.Path(path_type=Path), metavar="PATH", help="Write an HTML page of the ledger's history."
)
@options(FORCE)
@click.option("--json", "json", is_flag=True, default=None, help="Print one JSON object.")
def status_command(runs: bool, last: int, html: Path | None, force: bool, **flags: Any) -> int:
    """Count the calls by state and name the uncertain ones, or list the runs; works while a run goes on."""
    from importer.ledger import open_reader
    from importer.requirements import check_versions, found_sqlite
    from importer.settings import load_settings

    check_versions(found_sqlite())
    settings = load_settings(given(flags), os.environ)
    if html is not None:
        write_history(settings, html, force=force, shown_ledger=str(flags.get("ledger") or ""))
        return int(ExitCode.OK)
    with open_reader(settings.ledger) as ledger:
        if runs:
            _show_runs(ledger.runs(last), as_json=settings.json_output)
            return int(ExitCode.OK)
        return _show_calls(ledger, as_json=settings.json_output)


def _show_calls(ledger: Any, *, as_json: bool) -> int:
    """Print where the calls stand; return UNCERTAIN while a person has to decide of any."""
    counts = {state.value: count for state, count in ledger.counts().items()}
    oldest = ledger.oldest_pending() or ""
    uncertain = ledger.uncertain_calls(SHOWN_UNCERTAIN)
    attended = ledger.attended_since(SHOWN_UNCERTAIN)
    held = ledger.held_until() or ""
    if as_json:
        facts = {"states": counts, "oldest_pending": oldest, "held_until": held}
        uncertain_ids = [each.call.call_id for each in uncertain]
        say_json({**facts, "uncertain": uncertain_ids, "attended_since": attended})
    else:
        for state, count in counts.items():
            say(f"{state:<10} {count}")
        if oldest:
            say(f"oldest pending call: taken in {oldest} GMT")
        if held:
            say(f"the service asked to wait until {held} GMT")
        for each in uncertain:
            say(f"uncertain: {each.call.call_id}  {each.call.start_time} GMT  {each.fate.reason}")
        for call_id in attended:
            say(f"attended since it was notified: {call_id}")
    return int(ExitCode.UNCERTAIN if counts.get("uncertain") else ExitCode.OK)


def _show_runs(runs: Sequence[Any], *, as_json: bool) -> None:
    if as_json:
        say_json({"runs": [_run_object(run) for run in runs]})
        return
    header = ("run", "command", "took", "exit", "rows", "accepted", "reason")
    say_lines(aligned(header, _run_rows(runs)))


def _run_object(run: Any) -> dict[str, object]:
    """Return all that is kept of a run, with its own JSON unpacked."""
    return {
        "run": run.run_id,
        "command": run.command,
        "version": run.version,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "exit": run.exit_code,
        "summary": json_module.loads(run.summary) if run.summary else None,
        "results": run.results,
        "settings": json_module.loads(run.settings),
        "inputs": json_module.loads(run.inputs),
    }


def _run_rows(runs: Sequence[Any]) -> Iterator[tuple[str, ...]]:
    for run in runs:
        summary = json_module.loads(run.summary or "{}")
        yield (
            run.run_id,
            run.command.removeprefix("ledger ") or "-",
            duration_text(run.started_at, run.finished_at),
            "-" if run.exit_code is None else str(run.exit_code),
            str(summary.get("rows", "-")),
            str(summary.get("accepted", "-")),
            str(summary.get("reason", "-" if run.finished_at else "not finished")),
        )


def duration_text(started_at: str, finished_at: str | None) -> str:
    """Return how long a run took, short: `48s`, `12m05s`, `3h20m`, `2d04h`; `-` without an end."""
    if finished_at is None:
        return "-"
    seconds = max(
        0, int((datetime.fromisoformat(finished_at) - datetime.fromisoformat(started_at)).total_seconds())
    )
    if seconds < 60:
        return f"{seconds}s"
    if seconds < 3600:
        return f"{seconds // 60}m{seconds % 60:02}s"
    if seconds < 86_400:
        return f"{seconds // 3600}h{seconds // 60 % 60:02}m"
    return f"{seconds // 86_400}d{seconds // 3600 % 24:02}h"
