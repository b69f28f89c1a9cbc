"""The commands `import`, `check` and `deliver`."""

import gc
import os
import signal
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
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
    given,
    options,
)
from importer.cli.signals import STOPPING, Before, taken
from importer.errors import ExitCode


@click.command("import", short_help="Read exports and notify their unattended outgoing calls.")
@options(CONFIG, READING, PREPARING, ALARMS, STAGING, DELIVERY, LEDGER, RESULTS, ROWS, HOSTS, MONITORING, SANDBOX)
@FILES
def import_command(files: tuple[Path, ...], **flags: Any) -> int:
    """Read the exports FILE..., notify every outgoing call the customer did not attend, write a results CSV."""
    from importer.pipeline import import_calls
    from importer.settings import load_credentials, load_settings

    settings, inputs = load_settings(given(flags), os.environ), _inputs(flags, files)
    if settings.sandbox:
        return _import_to_sandbox(settings, inputs, files)
    return _run(settings, "import", inputs, lambda run: import_calls(run, files, load_credentials(os.environ)))


@click.command("check", short_help="Do the same up to sending; neither network nor ledger.")
@options(CONFIG, READING, PREPARING, ALARMS, RESULTS, ROWS)
@FILES
def check_command(files: tuple[Path, ...], **flags: Any) -> int:
    """Read and check the exports FILE... as `import` would; the results say `would_send`."""
    from importer.pipeline import check
    from importer.settings import load_settings

    settings = load_settings(given(flags), os.environ)
    unwatched = settings.model_copy(update={"log": None, "metrics": None, "ping_url": None})
    return _run(unwatched, "check", _inputs(flags, files), lambda run: check(run, files))


@click.command("deliver", short_help="Send what the ledger still holds.")
@options(CONFIG, DELIVERY, LEDGER, RESULTS, HOSTS, MONITORING)
def deliver_command(**flags: Any) -> int:
    """Send the calls that earlier runs left pending: after an outage, a limit or a kill."""
    from importer.pipeline import deliver_pending
    from importer.settings import load_credentials, load_settings

    settings = load_settings(given(flags), os.environ)
    return _run(
        settings, "deliver", _inputs(flags), lambda run: deliver_pending(run, load_credentials(os.environ))
    )


def _inputs(flags: dict[str, Any], files: tuple[Path, ...] = ()) -> tuple[Path | None, ...]:
    """Return the files that a run reads, beside those that its settings name."""
    from importer.files import named_files
    from importer.settings import config_in_use

    return *named_files(files).paths, config_in_use(given(flags), os.environ)


def _run(settings: Any, command: str, inputs: tuple[Path | None, ...], work: Any) -> int:
    """Do one run's work with a screen, signals that stop it in order, and whoever watches from outside."""
    from importer.cli.printing import Screen
    from importer.formats import load_catalogue
    from importer.pipeline import Run, check_apart, new_run_id
    from importer.requirements import check_versions, found_versions
    from importer.watching import Watch

    check_versions(found_versions())

    with Screen(settings) as screen, orderly_signals() as signals:
        run_id = new_run_id(time.time())
        watch = Watch(settings, command, run_id, note=screen.note)
        run = Run(
            settings,
            load_catalogue(),
            screen.listener().joined_by(watch.listener()),
            run_id=run_id,
            interrupted=signals.exit_code,
            is_cut=signals.is_cut,
        )
        _spare_the_collector()
        try:
            check_apart(settings, inputs)
            watch.begin()
            summary = work(run)
        except Exception as error:  # a bug too ends with the counts
            summary = screen.broken_off(run.run_id, error)
        watch.finish(summary)
        screen.finish(summary)
        return int(summary.exit_code)


def _spare_the_collector() -> None:
    """Keep the garbage collector from going over all modules again and again while rows stream by.

    CPython 3.11: one tenth of the time of `check` on a million rows; the rows make no reference cycles.
    """
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _import_to_sandbox(settings: Any, inputs: tuple[Path | None, ...], files: tuple[Path, ...]) -> int:
    """Import into a simulator that lives as long as the run, with its own credentials and ledger."""
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
        return _run(inside, "import", kept, lambda run: import_calls(run, files, credentials))


@dataclass(slots=True)
class Signals:
    """The signals that asked for a stop: the first in order, the second at once."""

    received: list[int] = field(default_factory=list)

    def exit_code(self) -> ExitCode | None:
        """Return 128 + the signal's number, None while none came."""
        return ExitCode(128 + self.received[0]) if self.received else None

    def is_cut(self) -> bool:
        """Say whether a second one came: the requests in flight are not to be waited for."""
        return len(self.received) > 1


@contextmanager
def orderly_signals() -> Iterator[Signals]:
    """Note SIGHUP, SIGINT and SIGTERM instead of dying.

    After the first the call in flight is finished and recorded; the second cuts it, which is recorded as
    uncertain; the third ends the process as it would without us, and the next run finds what it left.
    """
    signals = Signals()

    def note(before: Before, number: int, frame: FrameType | None) -> None:  # noqa: ARG001 as `taken` calls it
        signals.received.append(number)
        if signals.is_cut():
            for kind in STOPPING:
                signal.signal(kind, signal.SIG_DFL)

    with taken(note):
        yield signals
