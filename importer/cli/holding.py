"""The ledger held for one command of an operator, who settles or looks after calls and sends none."""

import time
from collections.abc import Iterator
from contextlib import contextmanager

from importer import __version__
from importer.errors import ExitCode
from importer.ledger import Ledger, RunInfo
from importer.pipeline import gmt_text, new_run_id
from importer.settings import Settings


@contextmanager
def held_ledger(settings: Settings, command: str, *, restored: bool = False) -> Iterator[Ledger]:
    """Give the ledger, locked, with the calls of a dead run made uncertain; the command stands in its runs.

    ``restored`` lets a ledger in that is older than its last run, for `ledger accept-restore` alone.
    Raises as `Ledger.open` does.
    """
    now = time.time()
    info = RunInfo(new_run_id(now), gmt_text(now), __version__, command)
    with Ledger.open(settings.ledger, run=info, now=lambda: gmt_text(time.time()), restored=restored) as ledger:
        if not restored:
            ledger.recover()
        yield ledger
        ledger.finish_run(ExitCode.OK, "{}")
