"""The commands `status`, `report`, `resolve` and `ledger`; none of them sends a call."""

import csv
import io
import json
import os
import re
import sys
import time
from dataclasses import asdict, replace
from datetime import datetime
from functools import partial
from pathlib import Path

import click

from importer.cli.options import PATH, Command, options
from importer.cli.output import (
    aligned,
    confirm,
    drop_typed_ahead,
    is_interactive,
    show,
    show_json,
    show_lines,
    show_message,
    table,
    wrapped,
)
from importer.errors import ConfigurationError, ExitCode, UsageError
from importer.private_files import user_name
from importer.requirements import FOUND_SQLITE, check_versions
from importer.settings.options import Settings
from schemas.vocabulary import E164, counted

SHOWN_UNCERTAIN = 20
_DAYS = re.compile(r"([1-9][0-9]{0,4})d")
_DAY_SECONDS = 86_400
_NAME_THE_CLOCK = "Name the time zone of the Zoho user who exported it: --timezone Europe/London."
_FORCE = click.option("--force", is_flag=True, help="Replace the page when it is there already.")


@click.command("status", cls=Command)
@options("ledger", "timezone", "json")
@click.option("--runs", is_flag=True, help="List the latest runs instead, the newest first.")
@click.option(
    "--last",
    type=click.IntRange(min=1),
    default=20,
    show_default=True,
    metavar="N",
    help="How many runs `--runs` lists.",
)
@click.option("--html", type=PATH, metavar="PATH", help="Write an HTML page of the ledger's history.")
@_FORCE
@click.option("--check", is_flag=True, help="Read the whole ledger first; end with 74 if it is damaged.")
@click.pass_obj
def status_command(
    flags: dict[str, str], /, settings: Settings, last: int, html: Path | None, **asked_for: bool
) -> int:
    """Count the calls by state and name the uncertain ones, or list the runs; works while a run goes on."""
    from importer.ledger.reader import open_reader

    check_versions(FOUND_SQLITE)
    if asked_for["check"]:
        with open_reader(settings.ledger) as ledger:
            ledger.check()
    if html is not None:
        _write_history(settings, html, force=asked_for["force"], shown_ledger=flags.get("ledger", ""))
        return ExitCode.OK
    if asked_for["runs"]:
        _show_runs(settings, last)
        return ExitCode.OK
    with open_reader(settings.ledger) as ledger:
        counts = {state.value: count for state, count in ledger.counts().items()}
        oldest = ledger.oldest_pending() or ""
        uncertain = ledger.uncertain_calls(SHOWN_UNCERTAIN)
        attended = ledger.attended_since()
        held = ledger.held_until() or ""
    if settings.json:
        facts = {"states": counts, "oldest_pending": oldest, "held_until": held, "checked": asked_for["check"]}
        uncertain_ids = [call.call_id for call, _, _ in uncertain]
        show_json({**facts, "uncertain": uncertain_ids, "attended_since": attended})
    else:
        show_lines(f"{state:<10} {count}" for state, count in counts.items())
        if asked_for["check"]:
            show("the ledger was read through and is whole")
        if oldest:
            show(f"oldest pending call: taken in {oldest} GMT")
        if held:
            show(f"the service asked to wait until {held} GMT")
        for call, fate, _ in uncertain:
            line = f"uncertain: {call.call_id}  {call.start_time} GMT  {fate.reason}"
            show_lines(wrapped(line, " " * 11) if sys.stdout.isatty() else [line])
            if sys.stdout.isatty():  # else it may be mailed or kept
                show(f"           to {call.customer_number}  by agent {call.agent_number}")
        if more := counts.get("uncertain", 0) - len(uncertain):
            calls = counted(more, "more uncertain call is", "more uncertain calls are")
            show(f"{calls} named here once these are settled")
        show_lines(f"attended since it was notified: {call_id}" for call_id in attended)
    return ExitCode.UNCERTAIN if counts.get("uncertain") else ExitCode.OK


def _show_runs(settings: Settings, last: int) -> None:
    """Print the latest runs; as JSON with their whole records."""
    from importer.ledger.reader import open_reader

    objects = []
    with open_reader(settings.ledger) as ledger:
        for run in ledger.runs(last):
            record = asdict(run)
            record |= {name: json.loads(record[name] or "null") for name in ("summary", "settings", "inputs")}
            objects.append({"run": record.pop("run_id"), "exit": record.pop("exit_code"), **record})
    if settings.json:
        show_json({"runs": objects})
        return
    rows = []
    for each in objects:
        began, ended, summary = each["started_at"], each["finished_at"], each["summary"] or {}
        took = datetime.fromisoformat(ended) - datetime.fromisoformat(began) if ended else "-"
        code = "-" if each["exit"] is None else each["exit"]
        counts = (summary.get("rows", "-"), summary.get("accepted", "-"))
        reason = summary.get("reason", "-" if ended else "not finished")
        row = (each["run"], each["command"].removeprefix("ledger ") or "-", took, code, *counts, reason)
        rows.append([*map(str, row)])
    show_lines(aligned(("run", "command", "took", "exit", "rows", "accepted", "reason"), rows))


@click.command("report", cls=Command)
@options("ledger", "timezone")
@click.option(
    "--output", type=PATH, metavar="PATH", help="The page. Default: the results file's name and .html, beside it."
)
@_FORCE
@click.option("--run", "run_id", metavar="RUN", help="A run of the ledger instead, or `last`.")
@click.argument("results", required=False, type=PATH, metavar="[RESULTS.csv]")
@click.pass_obj
def report_command(
    flags: dict[str, str],
    settings: Settings,
    results: Path | None,
    run_id: str | None,
    output: Path | None,
    force: bool,
) -> None:
    """Write one self-contained HTML page about the results file RESULTS.csv, or about a run of the ledger.

    A run's page goes beside its results where they are, else into the working folder.
    """
    from importer.ledger.reader import open_reader
    from importer.pipeline.inputs import check_apart
    from importer.report.data import found_run, results_report, run_report
    from importer.report.page import write_page

    if results is not None and run_id is None:
        path = output or results.with_name(results.name + ".html")
        check_apart(settings, [results], {"--output": path})
        write_page(path, partial(results_report, results, settings.timezone), replace=force)
    elif results is None and run_id is not None:
        with open_reader(settings.ledger) as ledger:
            run = found_run(ledger, run_id)
            written = Path(run.results)
            beside = written.with_name(written.name + ".html") if written.is_file() else None
            path = output or beside or Path(f"cdr-importer.{run.run_id}.html")
            check_apart(settings, [written] if run.results else [], {"--output": path})
            of_run = partial(run_report, ledger, run, settings.timezone, flags.get("ledger", ""))
            write_page(path, of_run, replace=force)
    else:
        raise UsageError("report: name either a results file or a run", hint="Runs: `cdr-importer status --runs`.")
    _show_where(path)


def _write_history(settings: Settings, path: Path, *, force: bool, shown_ledger: str) -> None:
    from importer.ledger.reader import open_reader
    from importer.pipeline.inputs import check_apart
    from importer.report.data import history_report
    from importer.report.page import write_page

    check_apart(settings, outputs={"--html": path})
    with open_reader(settings.ledger) as ledger:
        history = partial(history_report, ledger, settings.ledger, settings.timezone, shown_ledger)
        write_page(path, history, replace=force)
    _show_where(path)


def _show_where(path: Path) -> None:
    """Print where the page is, at a terminal only: cron mails whatever is printed."""
    if sys.stdout.isatty():
        show(f"The report is in {path}.")


@click.command("resolve", cls=Command)
@options("ledger", "lock-wait", "timezone", "country", "date-order", "encoding")
@click.argument("call_ids", nargs=-1, metavar="ID...")
@click.option("--sent", is_flag=True, help="Zoho has the call: never send it again.")
@click.option("--not-sent", is_flag=True, help="Zoho does not have it: send it with the next run.")
@click.option(
    "--close",
    is_flag=True,
    help="Never send it, whatever Zoho has; or: corrected in Zoho, for a call attended since it was notified.",
)
@click.option("--reopen", is_flag=True, help="Take a decision back, until the next send: uncertain again.")
@click.option("--note", help="How you know; kept with the call.")
@click.option(
    "--from", "calls_list", type=PATH, metavar="CALLS.csv", help="Look all up in an export of Zoho's Calls module."
)
@click.option("--columns", metavar="NAMES", help="Its columns: start=...,number=...,type=...,status=...")
def resolve_command(
    settings: Settings,
    call_ids: tuple[str, ...],
    note: str | None,
    calls_list: Path | None,
    columns: str | None,
    **decisions: bool,
) -> int | None:
    """Settle the calls ID..., uncertain or attended since, as you found them in Zoho; `status` names them.

    With --from the program looks for all uncertain ones, and asks before it settles those found as sent.
    """
    from importer.ledger.values import Decision
    from importer.pipeline.ending import held_ledger

    chosen = [name for name, is_chosen in decisions.items() if is_chosen]
    if calls_list is not None:
        if call_ids or chosen:
            raise UsageError("resolve: --from looks all uncertain calls up", hint="Leave ids and decisions out.")
        return _settle_found(settings, calls_list, columns or "", note)
    if not call_ids:
        raise UsageError("resolve: the ids of the calls are missing", hint="`cdr-importer status` lists them.")
    if not (note or "").strip() and chosen != ["reopen"]:
        raise UsageError("resolve: --note is missing", hint="Write how you know, as in --note 'seen in Zoho'.")
    if len(chosen) != 1:
        fault = "resolve: say one of --sent, --not-sent, --close and --reopen"
        raise UsageError(fault, hint="Look for the call in Zoho first.")
    (decision,) = chosen
    if decision == "reopen":
        with held_ledger(settings, "resolve", show_message) as ledger:
            ledger.reopen(call_ids)
        show(f"{counted(len(set(call_ids)), 'call is', 'calls are')} uncertain again.")
        return ExitCode.UNCERTAIN
    with held_ledger(settings, "resolve", show_message) as ledger:
        kept_back = ledger.resolve(call_ids, Decision(decision), note=note or "", who=user_name(os.geteuid()))
    settled = f"{counted(len(set(call_ids)), 'call')} settled by --{decision.replace('_', '-')}"
    show(f"{settled}; until the next send --reopen takes it back.")
    if kept_back:
        show(f"Not sent, since an export shows them attended: {', '.join(kept_back)}")
    return None


def _settle_found(settings: Settings, path: Path, columns: str, note: str | None) -> int:
    """Show which uncertain calls the list has, and settle these if the person agrees; CSV without a terminal."""
    from importer.ledger.reader import open_reader
    from importer.ledger.values import Decision
    from importer.pipeline.calls_list import COLUMNS, LOOKED_UP, hours_apart, look_up, read_list
    from importer.pipeline.ending import held_ledger
    from importer.results.cells import defused

    names = dict(each.split("=", 1) for each in columns.split(",") if "=" in each)
    if columns and (columns.count(",") + 1 != len(names) or not names.keys() <= COLUMNS.keys()):
        raise UsageError(f"--columns: {columns!r} is not ROLE=NAME,...", hint=f"Roles: {', '.join(COLUMNS)}.")
    with open_reader(settings.ledger) as reader:
        calls = [call for call, _, _ in reader.uncertain_calls(-1)]
        latest = [json.loads(run.settings) for run in reader.runs(-1)]
    zone, country = (
        given or next(filter(None, (each.get(name) for each in latest)), None)
        for name, given in (("timezone", settings.timezone), ("country", settings.country))
    )
    if zone is None:
        raise ConfigurationError(
            f"resolve: nobody has said whose clock {path.name} shows",
            hint=_NAME_THE_CLOCK,
            reason="timezone",
        )
    listed = read_list(path, COLUMNS | names, zone, replace(settings, country=country))
    whose = "" if settings.timezone else ", as in the latest run"
    show_message(f"{path.name}: {counted(len(listed), 'call')}, read on the clock of {zone}{whose}")
    rows = look_up(calls, listed)
    if count := hours_apart(rows):
        apart = counted(count, "call was not found, and is", "calls were not found, and are")
        show_message(f"{apart} in the list hours apart: it may show another clock", _NAME_THE_CLOCK)
    found, left = [row[0] for row in rows if row[2] == "yes"], len(calls)
    if not is_interactive():
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(map(defused, row) for row in (LOOKED_UP, *rows))
        show_lines(text.getvalue().splitlines())
        return ExitCode.UNCERTAIN if left else ExitCode.OK
    show_lines(table(LOOKED_UP, rows))
    if found and confirm(f"Settle those found ({len(found)}) as sent?"):
        with held_ledger(settings, "resolve", show_message) as ledger:
            ledger.resolve(found, Decision.SENT, note=note or f"in {path.name}", who=user_name(os.geteuid()))
        left -= len(found)
    late = "; a call that is not in the list may come late: look again" if left else ""
    show_lines(wrapped(f"{counted(left, 'call is', 'calls are')} uncertain now{late}."))
    return ExitCode.UNCERTAIN if left else ExitCode.OK


ledger_group = click.Group(
    "ledger", help="Keep the ledger: copy it, thin it out, and take it up again after a restore."
)


@ledger_group.command("backup", cls=Command, short_help="Copy the ledger to a new file, also while a run goes on.")
@options("ledger")
@click.argument("target", type=PATH, metavar="TARGET")
def backup_command(settings: Settings, target: Path) -> None:
    """Copy the ledger to the new file TARGET; other tools would lose what is only in the -wal file beside it."""
    from importer.ledger.reader import open_reader
    from importer.pipeline.inputs import check_apart

    check_apart(settings, outputs={"TARGET": target})
    with open_reader(settings.ledger) as ledger:
        ledger.backup(target)
    if sys.stdout.isatty():
        show(f"The ledger as it stands now was copied to {target}.")


@ledger_group.command("purge", cls=Command, short_help="Delete calls settled long ago.")
@options("ledger", "lock-wait")
@click.option("--older-than", default="400d", show_default=True, metavar="DAYS", help="Age in days, such as 400d.")
def purge_command(settings: Settings, older_than: str) -> None:
    """Delete what is settled and was last sent longer ago; calls from before that are `stale` from then on.

    Calls that are pending or uncertain stay, however old.
    """
    from importer.pipeline.ending import held_ledger
    from importer.pipeline.run import gmt_text

    days = _DAYS.fullmatch(older_than)
    if days is None:
        raise UsageError(f"--older-than: {older_than[:20]!r} is not a number of days", hint="Write it like 400d.")
    horizon = gmt_text(time.time() - int(days[1]) * _DAY_SECONDS)
    with held_ledger(settings, "ledger purge", show_message) as ledger:
        calls, decisions, runs = ledger.purge(horizon)
    deleted = f"{counted(calls, 'call')} last sent before {horizon} GMT deleted"
    show_lines(wrapped(f"{deleted}, with {counted(decisions, 'decision')} and {counted(runs, 'run')}."))


@ledger_group.command(
    "forget", cls=Command, short_help="Close the open calls of a number and delete what they hold."
)
@options("ledger", "lock-wait")
@click.option("--number", metavar="+E164", help="The number; asked for without it, so that `ps` does not show it.")
def forget_command(settings: Settings, number: str | None) -> None:
    """Close every pending or uncertain call from or to a number and delete its content; none is ever sent."""
    from importer.pipeline.ending import held_ledger

    drop_typed_ahead()
    wanted = number or click.prompt("Number (international, with +)", err=True)
    if not re.fullmatch(E164, wanted):
        raise UsageError(
            "--number is not an international number", hint="Write it with + and country code, without spaces."
        )
    with held_ledger(settings, "ledger forget", show_message) as ledger:
        stood = ledger.forget(wanted, who=user_name(os.geteuid()))
    by_state = ", ".join(f"{count} {state}" for state, count in stood.items())
    show(f"{counted(sum(stood.values()), 'call was', 'calls were')} closed and scrubbed ({by_state}).")
    show("Results files, exports and backups still hold the number: delete it there.")
    show("A backup put back loses it with `ledger accept-restore`.")


@ledger_group.command("accept-restore", cls=Command, short_help="Take up a ledger restored from a backup.")
@options("ledger", "lock-wait")
@click.argument("results", nargs=-1, type=PATH, metavar="[RESULTS.csv]...")
@click.option("--complete", is_flag=True, help="These are all results files since the backup was made.")
def accept_restore_command(settings: Settings, results: tuple[Path, ...], complete: bool) -> int:
    """Take up a ledger restored from a backup, by what the results files RESULTS.csv tell of the time since.

    Calls they tell accepted are never sent again. Without --complete every call still pending, and every unknown
    call from before now, becomes uncertain: it waits for a person. The .part files of a run that died may be given
    too, but make no complete results: each of its calls may have been sent. What was forgotten, or settled as sent
    or closed, since the backup is so again.
    """
    from importer.pipeline.dead_runs import evidence_of
    from importer.pipeline.ending import held_ledger

    if complete and not results:
        raise UsageError("--complete needs the results files", hint="Name every results file since the backup.")
    evidence = evidence_of(results, complete=complete)
    with held_ledger(settings, "ledger accept-restore", show_message, restored=True) as ledger:
        counts = ledger.accept_restore(evidence, complete=complete)
    made = counted(counts.accepted, "call was", "calls were")
    closed = f", {counts.closed} closed, as `resolve` said since the backup" if counts.closed else ""
    show_lines(wrapped(f"{made} made accepted, {counted(counts.added, 'accepted one')} added{closed}."))
    if counts.forgotten:
        closed = counted(counts.forgotten, "open call was", "open calls were")
        show(f"{closed} closed: their number was forgotten since the backup.")
    uncertain = counted(counts.uncertain, "call is", "calls are")
    show(f"{uncertain} uncertain now{': `cdr-importer status` lists them' if counts.uncertain else ''}.")
    if counts.doubt_before:
        show(f"Unknown calls from before {counts.doubt_before} GMT will be uncertain, not sent.")
    show("Import the exports since the backup again: what waited since is not in it.")
    return ExitCode.UNCERTAIN if counts.uncertain else ExitCode.OK


@ledger_group.command("accept-account", cls=Command, short_help="Let the ledger go on with another client id.")
@options("ledger", "lock-wait")
def accept_account_command(settings: Settings) -> None:
    """Let the next run bind the ledger to the account it signs in to: for a new client of the same account."""
    from importer.pipeline.ending import held_ledger

    with held_ledger(settings, "ledger accept-account", show_message) as ledger:
        was_bound = ledger.forget_account()
    show("The next run binds the ledger to its account." if was_bound else "The ledger was bound to no account.")
