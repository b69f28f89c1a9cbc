"""The operator's only protection against a call lost or notified twice: a record of every call and its fate.

The only package that names its tables. `values` has what goes in and comes out, `beside` the ledger's place, the
files beside it and the locks that let one run in, `schema` makes and checks the file, `staging` takes calls in,
`reader` reads, `ledger` writes, `upkeep` has what is done between runs.
"""

from importer.ledger.beside import ledger_files
from importer.ledger.ledger import Ledger
from importer.ledger.reader import LedgerReader, held_in, open_reader
from importer.ledger.schema import create_ledger
from importer.ledger.values import Claimed, Decision, Fate, ReportedCall, RunInfo, RunRecord, Staged

__all__ = [
    "Claimed",
    "Decision",
    "Fate",
    "Ledger",
    "LedgerReader",
    "ReportedCall",
    "RunInfo",
    "RunRecord",
    "Staged",
    "create_ledger",
    "held_in",
    "ledger_files",
    "open_reader",
]
