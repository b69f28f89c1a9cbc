"""The commands under `ledger`: backup, purge, forget, and taking up one that is not as the last run left it."""

import getpass
import os
import re
import time
from pathlib import Path
from typing import Any

import click

from importer.cli.options import CONFIG, LEDGER, given, options
from importer.cli.saying import say
from importer.errors import ExitCode, UsageError

_DAYS = re.compile(r"([1-9][0-9]{0,4})d")
_DAY_SECONDS = 86_400


@click.group("ledger", short_help="Keep the ledger: backup, purge, forget, accept-restore, accept-account.")
def ledger_group() -> None:
    """Keep the ledger: copy it, thin it out, and take it up again after a restore."""


@ledger_group.command("backup", short_help="Copy the ledger to a new file, also while a run goes on.")
@options(CONFIG, LEDGER)
@click.argument("target", type=click.Path(path_type=Path), metavar="TARGET")
def backup_command(target: Path, **flags: Any) -> int:
    """Copy the ledger to the new file TARGET; other tools would lose what is only in the -wal file beside it."""
    from importer.ledger import open_reader
    from importer.pipeline import check_apart
    from importer.settings import load_settings

    settings = load_settings(given(flags), os.environ)
    check_apart(settings, outputs={"TARGET": target})
    with open_reader(settings.ledger) as ledger:
        ledger.backup(target)
    say(f"The ledger as it stands now was copied to {target}.")
    return int(ExitCode.OK)


@ledger_group.command("purge", short_help="Delete calls settled long ago.")
@options(CONFIG, LEDGER)
@click.option("--older-than", default="400d", show_default=True, metavar="DAYS", help="Age in days, such as 400d.")
def purge_command(older_than: str, **flags: Any) -> int:
    """Delete what is settled and was last sent longer ago; calls from before that are `stale` from then on.

    Calls that are pending or uncertain stay, however old.
    """
    from importer.cli.holding import held_ledger
    from importer.pipeline import gmt_text
    from importer.settings import load_settings

    horizon = gmt_text(time.time() - _days(older_than) * _DAY_SECONDS)
    with held_ledger(load_settings(given(flags), os.environ), "ledger purge") as ledger:
        purged = ledger.purge(horizon)
    say(
        f"{purged.calls} calls last sent before {horizon} GMT were deleted, with {purged.decisions} decisions and "
        f"{purged.runs} runs."
    )
    return int(ExitCode.OK)


@ledger_group.command("forget", short_help="Close the open calls of a number and delete what they hold.")
@options(CONFIG, LEDGER)
@click.option("--number", metavar="+E164", help="The number; asked for without it, so that `ps` does not show it.")
def forget_command(number: str | None, **flags: Any) -> int:
    """Close every pending or uncertain call from or to a number and delete its content; none is ever sent."""
    from importer.cli.holding import held_ledger
    from importer.settings import load_settings
    from schemas.vocabulary import E164

    settings = load_settings(given(flags), os.environ)
    wanted = number or click.prompt("Number (international, with +)", err=True)
    if not re.fullmatch(E164, wanted):
        raise UsageError(
            "--number is not an international number", hint="Write it with + and country code, without spaces."
        )
    with held_ledger(settings, "ledger forget") as ledger:
        stood = ledger.forget(wanted, who=getpass.getuser())
    told = ", ".join(f"{count} {state}" for state, count in stood.items())
    say(f"{sum(stood.values())} calls were closed and scrubbed ({told}).")
    say("Results files, exports and backups still hold the number: delete it in what is yours; a backup put back")
    say("loses it with `ledger accept-restore`.")
    return int(ExitCode.OK)


@ledger_group.command("accept-restore", short_help="Take up a ledger restored from a backup.")
@options(CONFIG, LEDGER)
@click.argument("results", nargs=-1, type=click.Path(path_type=Path), metavar="[RESULTS.csv]...")
@click.option("--complete", is_flag=True, help="These are all results files since the backup was made.")
def accept_restore_command(results: tuple[Path, ...], complete: bool, **flags: Any) -> int:
    """Take up a ledger restored from a backup, by what the results files RESULTS.csv tell of the time since.

    Calls they tell accepted are never sent again. Without --complete every call still pending, and every unknown
    call from before now, becomes uncertain: it waits for a person. The .part files of a run that died may be given
    too, but make no complete results: each of its calls may have been sent. What was forgotten since the backup is
    forgotten again.
    """
    from importer.cli.holding import held_ledger
    from importer.pipeline.told import told_by
    from importer.settings import load_settings

    if complete and not results:
        raise UsageError("--complete needs the results files", hint="Name every results file since the backup.")
    told = told_by(results, complete=complete)
    settings = load_settings(given(flags), os.environ)
    with held_ledger(settings, "ledger accept-restore", restored=True) as ledger:
        counts = ledger.accept_restore(told, complete=complete)
    say(f"{counts.accepted} calls were made accepted, {counts.added} accepted ones added.")
    if counts.forgotten:
        say(f"{counts.forgotten} open calls were closed: their number was forgotten since the backup.")
    say(f"{counts.uncertain} calls are uncertain now: `cdr-importer status` lists them.")
    if counts.doubt_before:
        say(f"Unknown calls from before {counts.doubt_before} GMT will be uncertain, not sent.")
    return int(ExitCode.UNCERTAIN if counts.uncertain else ExitCode.OK)


@ledger_group.command("accept-account", short_help="Let the ledger go on with another client id.")
@options(CONFIG, LEDGER)
def accept_account_command(**flags: Any) -> int:
    """Let the next run bind the ledger to the account it signs in to: for a new client of the same account."""
    from importer.cli.holding import held_ledger
    from importer.settings import load_settings

    with held_ledger(load_settings(given(flags), os.environ), "ledger accept-account") as ledger:
        was_bound = ledger.forget_account()
    say("The next run binds the ledger to its account." if was_bound else "The ledger was bound to no account.")
    return int(ExitCode.OK)


def _days(text: str) -> int:
    match = _DAYS.fullmatch(text)
    if match is None:
        raise UsageError(f"--older-than: {text[:20]!r} is not a number of days", hint="Write it like 400d.")
    return int(match[1])
