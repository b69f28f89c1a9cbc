"""The command `resolve`: a person settles calls whose answer was lost."""

import getpass
import os
from typing import Any

import click

from importer.cli.options import CONFIG, LEDGER, given, options
from importer.cli.saying import say
from importer.errors import ExitCode, UsageError


@click.command("resolve", short_help="Settle uncertain calls: sent, not sent, or closed.")
@options(CONFIG, LEDGER)
@click.argument("call_ids", nargs=-1, required=True, metavar="ID...")
@click.option("--sent", "decision", flag_value="sent", help="Zoho has the call: never send it again.")
@click.option(
    "--not-sent", "decision", flag_value="not_sent", help="Zoho does not have it: send it with the next run."
)
@click.option(
    "--close",
    "decision",
    flag_value="close",
    help="Never send it, whatever Zoho has; or: corrected in Zoho, for a call attended since it was notified.",
)
@click.option("--note", required=True, help="How you know; kept with the call.")
def resolve_command(call_ids: tuple[str, ...], decision: str | None, note: str, **flags: Any) -> int:
    """Settle the calls ID..., uncertain or attended since, as you found them in Zoho; `status` names them."""
    from importer.cli.holding import held_ledger
    from importer.ledger import Decision
    from importer.settings import load_settings

    if decision is None:
        raise UsageError("resolve: say --sent, --not-sent or --close", hint="Look for the call in Zoho first.")
    with held_ledger(load_settings(given(flags), os.environ), "resolve") as ledger:
        kept_back = ledger.resolve(call_ids, Decision(decision), note=note, who=getpass.getuser())
    say(f"{len(set(call_ids))} settled as {decision}.")
    if kept_back:
        say(f"Not sent, since an export shows them attended: {', '.join(kept_back)}")
    return int(ExitCode.OK)
