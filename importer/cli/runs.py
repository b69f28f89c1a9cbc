"""The commands `import`, `check` and `deliver`."""

import os
from dataclasses import replace
from pathlib import Path

import click

from importer.cli.options import (
    ACCOUNT,
    ALARMS,
    FILES,
    INPUT,
    PACE,
    PREPARING,
    RESULTS,
    ROWS,
    STAGING,
    WATCHING,
    Command,
    options,
)
from importer.settings import Credentials, Settings, load_credentials


@click.command("import", cls=Command)
@options(
    *(*INPUT, *PREPARING, *ALARMS, *STAGING, *PACE, "limit", "ledger", *RESULTS, *ROWS, *ACCOUNT, *WATCHING),
    *("done", "sandbox"),
)
@FILES
def import_command(settings: Settings, files: tuple[Path, ...]) -> int:
    """Read the exports FILE..., notify every outgoing call the customer did not attend, write a results CSV."""
    from importer.cli.screen import run_on_screen
    from importer.files import named_files, temporary_folder
    from importer.pipeline import import_calls

    paths = named_files(files).paths
    if not settings.sandbox:
        return run_on_screen(
            settings, "import", paths, lambda run: import_calls(run, files, load_credentials(os.environ))
        )
    from importer.ledger import ledger_files
    from importer.simulator import SANDBOX_CREDENTIALS, Sandbox

    with temporary_folder() as folder, Sandbox() as sandbox:
        inside = replace(
            settings,
            ledger=folder / "ledger.sqlite",
            init_ledger=True,
            accounts_url=sandbox.base_url,
            api_url=sandbox.base_url,
        )
        account = SANDBOX_CREDENTIALS
        own = Credentials(account.client_id, account.client_secret, account.refresh_token)
        # The ledger of real runs is safe too.
        kept = (*paths, *ledger_files(settings.ledger))
        return run_on_screen(inside, "import", kept, lambda run: import_calls(run, files, own))


@click.command("check", cls=Command)
@options(*INPUT, *PREPARING, *ALARMS, *RESULTS, *ROWS)
@FILES
def check_command(settings: Settings, files: tuple[Path, ...]) -> int:
    """Read and check the exports FILE... as `import` would; the results say `would_send`."""
    from importer.cli.screen import run_on_screen
    from importer.files import named_files
    from importer.pipeline import check

    unwatched = replace(settings, log=None, metrics=None, ping_url=None)
    return run_on_screen(unwatched, "check", named_files(files).paths, lambda run: check(run, files))


@click.command("deliver", cls=Command)
@options(*PACE, "limit", "ledger", *RESULTS, *ACCOUNT, *WATCHING)
def deliver_command(settings: Settings) -> int:
    """Send the calls that earlier runs left pending: after an outage, a limit or a kill."""
    from importer.cli.screen import run_on_screen
    from importer.pipeline import deliver_pending

    return run_on_screen(settings, "deliver", (), lambda run: deliver_pending(run, load_credentials(os.environ)))
