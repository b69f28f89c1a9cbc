"""The commands `import`, `check` and `deliver`."""

import os
import tempfile
from pathlib import Path
from typing import Any

import click

from importer.cli.options import (
    ALARMS,
    CONFIG,
    DELIVERY,
    FILES,
    HOSTS,
    LEDGER,
    MONITORING,
    PREPARING,
    READING,
    RESULTS,
    ROWS,
    SANDBOX,
    STAGING,
    Command,
    given,
    options,
)


@click.command("import", cls=Command)
@options(CONFIG, READING, PREPARING, ALARMS, STAGING, DELIVERY, LEDGER, RESULTS, ROWS, HOSTS, MONITORING, SANDBOX)
@FILES
def import_command(files: tuple[Path, ...], **flags: Any) -> int:
    """Read the exports FILE..., notify every outgoing call the customer did not attend, write a results CSV."""
    from importer.cli.screen import run_shown
    from importer.pipeline import import_calls
    from importer.settings import load_credentials, load_settings

    settings, inputs = load_settings(given(flags), os.environ), _inputs(flags, files)
    if settings.sandbox:
        return _import_to_sandbox(settings, inputs, files)
    return run_shown(
        settings, "import", inputs, lambda run: import_calls(run, files, load_credentials(os.environ))
    )


@click.command("check", cls=Command)
@options(CONFIG, READING, PREPARING, ALARMS, RESULTS, ROWS)
@FILES
def check_command(files: tuple[Path, ...], **flags: Any) -> int:
    """Read and check the exports FILE... as `import` would; the results say `would_send`."""
    from importer.cli.screen import run_shown
    from importer.pipeline import check
    from importer.settings import load_settings

    settings = load_settings(given(flags), os.environ)
    unwatched = settings.model_copy(update={"log": None, "metrics": None, "ping_url": None})
    return run_shown(unwatched, "check", _inputs(flags, files), lambda run: check(run, files))


@click.command("deliver", cls=Command)
@options(CONFIG, DELIVERY, LEDGER, RESULTS, HOSTS, MONITORING)
def deliver_command(**flags: Any) -> int:
    """Send the calls that earlier runs left pending: after an outage, a limit or a kill."""
    from importer.cli.screen import run_shown
    from importer.pipeline import deliver_pending
    from importer.settings import load_credentials, load_settings

    settings = load_settings(given(flags), os.environ)
    return run_shown(
        settings, "deliver", _inputs(flags), lambda run: deliver_pending(run, load_credentials(os.environ))
    )


def _inputs(flags: dict[str, Any], files: tuple[Path, ...] = ()) -> tuple[Path | None, ...]:
    """Return the files that a run reads, beside those that its settings name."""
    from importer.files import named_files
    from importer.settings import config_in_use

    return *named_files(files).paths, config_in_use(given(flags), os.environ)


def _import_to_sandbox(settings: Any, inputs: tuple[Path | None, ...], files: tuple[Path, ...]) -> int:
    """Import into a simulator that lives as long as the run, with its own credentials and ledger."""
    from importer.cli.screen import run_shown
    from importer.files import temporary_writes
    from importer.ledger import ledger_files
    from importer.pipeline import import_calls
    from importer.settings import Credentials
    from importer.simulator import Simulator

    with temporary_writes():
        made = tempfile.TemporaryDirectory(prefix="cdr-importer-")
    with made as folder, Simulator() as simulator:
        inside = settings.model_copy(
            update={
                "ledger": Path(folder) / "ledger.sqlite",
                "init_ledger": True,
                "accounts_url": simulator.base_url,
                "api_url": simulator.base_url,
            }
        )
        account = simulator.credentials
        credentials = Credentials(account.client_id, account.client_secret, account.refresh_token)
        # The ledger of real runs is safe too.
        kept = (*inputs, *ledger_files(settings.ledger))
        return run_shown(inside, "import", kept, lambda run: import_calls(run, files, credentials))
