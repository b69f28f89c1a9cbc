"""The commands `import`, `check` and `deliver`."""

import os
import sys
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import click

from importer.cli.options import CHECK, DELIVER, FILES, IMPORT, Command, options
from importer.cli.output import show_message
from importer.errors import ConfigurationError
from importer.settings.credentials import Credentials, load_credentials
from importer.settings.options import Settings


@click.command("import", cls=Command)
@options(*IMPORT)
@FILES
@click.pass_obj
def import_command(given: Mapping[str, object], settings: Settings, files: tuple[Path, ...]) -> int:
    """Read the exports FILE..., notify every outgoing call the customer did not attend, write a results CSV."""
    from importer.cli.screen import run_on_screen
    from importer.files.export import named_files
    from importer.files.spooling import temporary_folder
    from importer.pipeline.stages import carry_out

    named = named_files(files)
    if not settings.sandbox:
        return run_on_screen(
            settings, "import", named.paths, lambda run: carry_out(run, named, load_credentials(os.environ))
        )
    from importer.ledger.beside import ledger_files
    from importer.simulator.service import SANDBOX_CREDENTIALS, Sandbox

    if "sandbox" not in given or sys.stderr.isatty():  # in a config file it would end every night with 0
        note = "the sandbox answers in place of Zoho, which gets no call of this run"
        show_message(note, "" if "sandbox" in given else "Take `sandbox` out of config file or environment.")
    with temporary_folder() as folder, Sandbox() as sandbox:
        inside = replace(
            settings,
            ledger=folder / "ledger.sqlite",
            init_ledger=True,
            accounts_url=sandbox.base_url,
            api_url=sandbox.base_url,
        )
        own = Credentials(**SANDBOX_CREDENTIALS)
        # The ledger of real runs is safe too.
        kept = (*named.paths, *ledger_files(settings.ledger))
        return run_on_screen(inside, "import", kept, lambda run: carry_out(run, named, own))


@click.command("check", cls=Command)
@options(*CHECK)
@FILES
@click.pass_obj
def check_command(given: Mapping[str, object], settings: Settings, files: tuple[Path, ...]) -> int:
    """Read and check the exports FILE... as `import` would, with --ledger by what that ledger, only read, has."""
    from importer.cli.screen import run_on_screen
    from importer.files.export import named_files
    from importer.pipeline.stages import check

    unwatched = replace(settings, log=settings.log if "log" in given else None, metrics=None, ping_url=None)
    named = named_files(files)
    return run_on_screen(
        unwatched, "check", named.paths, lambda run: check(run, named, with_ledger="ledger" in given)
    )


@click.command("deliver", cls=Command)
@options(*DELIVER)
def deliver_command(settings: Settings) -> int:
    """Send the calls that earlier runs left pending: after an outage, a limit or a kill.

    Its results go to cdr-importer.results-RUN.csv in the working folder, or beside the ledger where nothing can be
    written there, or where --results says.
    """
    from importer.cli.screen import run_on_screen
    from importer.pipeline.stages import carry_out

    if settings.sandbox:  # the calls of the ledger would go to Zoho, unasked, and into results as those of a trial
        fault = "sandbox is on, but `deliver` sends what the ledger holds to Zoho; nothing was sent"
        raise ConfigurationError(fault, hint="Take `sandbox` out of config file or environment.")
    return run_on_screen(settings, "deliver", (), lambda run: carry_out(run, None, load_credentials(os.environ)))
