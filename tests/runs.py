"""Imports in this process, the clock they may go by, and what they leave in the ledger."""

import os
import threading
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from dataclasses import fields
from pathlib import Path

from importer.files.export import named_files
from importer.formats.catalogue import load_catalogue
from importer.ledger.reader import open_reader
from importer.pipeline.run import Listener, Run
from importer.pipeline.stages import carry_out
from importer.records import RunSummary
from importer.settings.credentials import load_credentials
from importer.settings.loading import load_settings
from steps import Step, at_steps

OF_RUN = {each.name for each in fields(Run)}


class OwnTime:
    """A wall clock and a monotonic one that go on only when told, or while somebody waits."""

    def __init__(self, start: float = 1000.0, wall_start: float = 0.0) -> None:
        self.now = start
        self.waits: list[float] = []
        self._ahead = wall_start - start

    def __call__(self) -> float:
        """Return a monotonic moment."""
        return self.now

    def wall_clock(self) -> float:
        """Return epoch seconds."""
        return self.now + self._ahead

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.waits.append(seconds)
        self.now += seconds

    def wait_for(self, _changed: threading.Condition, seconds: float) -> None:
        """Let time pass where the limiter waits."""
        self.sleep(seconds)


def imported(
    export: Path, listener: Listener | None = None, *, step: Callable[[Step], object] | None = None, **more: object
) -> RunSummary:
    """Import into `results.csv` beside the export; what no field of a run has the name of is an option."""
    own = {name: more.pop(name) for name in OF_RUN & more.keys()}
    flags = {"results": str(export.parent / "results.csv"), "init_ledger": True, **more}
    settings = load_settings(flags, os.environ)
    run = Run(settings, load_catalogue(), listener or Listener(), **own)  # type: ignore[arg-type]
    with at_steps(step) if step else nullcontext():
        return carry_out(run, named_files([export]), load_credentials(os.environ))


def delivered(listener: Listener, options: Mapping[str, object], **own: object) -> RunSummary:
    """Deliver what is pending by these options; ``own`` are fields of a run."""
    run = Run(load_settings(options, os.environ), load_catalogue(), listener, **own)  # type: ignore[arg-type]
    return carry_out(run, None, load_credentials(os.environ))


def ledger_counts(folder: Path) -> dict[str, int]:
    """Return the calls by state of a folder's ledger, without empty ones."""
    with open_reader(folder / "ledger.sqlite") as ledger:
        return {state.value: count for state, count in ledger.counts().items() if count}
