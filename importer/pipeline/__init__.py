"""A run from files to results: `stages` has its order, the other modules one subject each.

`run` is what a run is and whom it tells; `inputs` which files are usable, `outputs` which may be written;
`preparing` files to calls and into the ledger; `outlook` what is asked before that; `sending` the ledger to the
API; `fates` what the ledger knows as rows; `rejects` the rows to be mended; `ending` counts and exit code. Files
are read with pandas, which costs half a second and 100 MB: `preparing` and `rejects` are imported only where files
are read, so that `deliver` and `status` go without.
"""

from importer.pipeline.ending import ending_record, held_ledger, reason_of, summary_fields, summary_record
from importer.pipeline.inputs import detect_inputs, inputs_of, overrides_of
from importer.pipeline.outputs import check_apart
from importer.pipeline.run import Listener, Outlook, Run, Timing, epoch_of, gmt_text, new_run_id
from importer.pipeline.sending import sign_in_of
from importer.pipeline.stages import check, deliver_pending, import_calls

__all__ = [
    "Listener",
    "Outlook",
    "Run",
    "Timing",
    "check",
    "check_apart",
    "deliver_pending",
    "detect_inputs",
    "ending_record",
    "epoch_of",
    "gmt_text",
    "held_ledger",
    "import_calls",
    "inputs_of",
    "new_run_id",
    "overrides_of",
    "reason_of",
    "sign_in_of",
    "summary_fields",
    "summary_record",
]
