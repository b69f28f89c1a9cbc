"""A run from files to results.

`stages` has the order of a run, `run` its settings, time and listener; `inputs` the files that are read and may be
written; `intake` reads files into calls and takes these into the ledger; `outlook` puts calls in order and asks
before any is sent; `sending` sends them; `ending` has fates, counts and exit code; `dead_runs` the results that
runs left which died. `intake` loads pandas, half a second and 100 MB, and `sending` requests: a command that reads
no files or sends nothing goes without.
"""

from importer.pipeline.ending import held_ledger, summary_fields, summary_record
from importer.pipeline.inputs import check_apart
from importer.pipeline.run import Listener, Outlook, Run, epoch_of, gmt_text, new_run_id
from importer.pipeline.stages import check, deliver_pending, import_calls

__all__ = [
    "Listener",
    "Outlook",
    "Run",
    "check",
    "check_apart",
    "deliver_pending",
    "epoch_of",
    "gmt_text",
    "held_ledger",
    "import_calls",
    "new_run_id",
    "summary_fields",
    "summary_record",
]
