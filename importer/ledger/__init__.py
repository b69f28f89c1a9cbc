"""The operator's only protection against a call lost or notified twice: a record of every call and its fate.

The only module that knows its tables. `values` is what passes its door, `lock` lets one run in, `schema` makes
and checks the file, `staging` takes calls in, `ledger` is what a run does with it, `history` counts over
time.
"""

from importer.ledger.history import Refusals, refusals, requests_over_time
from importer.ledger.ledger import Ledger
from importer.ledger.lock import lock_path
from importer.ledger.place import ledger_files
from importer.ledger.reader import BUSY_SECONDS, LedgerReader, open_reader
from importer.ledger.schema import create_ledger
from importer.ledger.staging import Stage
from importer.ledger.values import (
    Claimed,
    Decision,
    Fate,
    KnownFate,
    LedgerInvariantError,
    Purged,
    Restored,
    RunInfo,
    RunRecord,
    Staged,
    Told,
    UncertainCall,
)

__all__ = [
    "BUSY_SECONDS",
    "Claimed",
    "Decision",
    "Fate",
    "KnownFate",
    "Ledger",
    "LedgerInvariantError",
    "LedgerReader",
    "Purged",
    "Refusals",
    "Restored",
    "RunInfo",
    "RunRecord",
    "Stage",
    "Staged",
    "Told",
    "UncertainCall",
    "create_ledger",
    "ledger_files",
    "lock_path",
    "open_reader",
    "refusals",
    "requests_over_time",
]
