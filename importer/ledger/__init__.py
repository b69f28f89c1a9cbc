"""The operator's only protection against a call lost or notified twice: a record of every call and its fate.

The only module that knows its tables. `values` is what passes its door, `lock` lets one run in, `schema` makes
and checks the file, `staging` takes calls in, `ledger` is what a run does with it.
"""

from importer.ledger.ledger import BUSY_SECONDS, Ledger, LedgerReader, open_reader
from importer.ledger.lock import lock_path
from importer.ledger.schema import create_ledger
from importer.ledger.staging import Stage
from importer.ledger.values import (
    Claimed,
    Decision,
    Fate,
    KnownFate,
    LedgerInvariantError,
    RunInfo,
    RunRecord,
    Staged,
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
    "RunInfo",
    "RunRecord",
    "Stage",
    "Staged",
    "UncertainCall",
    "create_ledger",
    "lock_path",
    "open_reader",
]
