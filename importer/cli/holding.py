"""The ledger held for one command of an operator, who settles or looks after calls and sends none."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from importer import __version__
from importer.errors import ExitCode, ImporterError
from importer.ledger import Ledger, RunInfo
from importer.pipeline import ending_record, gmt_text, new_run_id
from importer.requirements import check_versions, found_sqlite
from importer.settings import Settings


@contextmanager
def held_ledger(settings: Settings, command: str, *, restored: bool = False) -> Iterator[Ledger]:
    """Give the ledger, locked, with the calls of a dead run made uncertain; the command stands in its runs.

    ``restored`` lets a ledger in that is older than its last run, for `ledger accept-restore` alone.
    Raises as `Ledger.open` does.
    """
    check_versions(found_sqlite())
    now = time.time()
    info = RunInfo(new_run_id(now), gmt_text(now), __version__, command)
    with Ledger.open(settings.ledger, run=info, now=lambda: gmt_text(time.time()), restored=restored) as ledger:
        if not restored:
            ledger.recover()
        try:
            yield ledger
        except ImporterError as error:
            with suppress(ImporterError):
                ledger.finish_run(error.exit_code, json.dumps(ending_record(error)))
            raise
        ledger.finish_run(ExitCode.OK, json.dumps({"reason": "done"}))
