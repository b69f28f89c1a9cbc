"""The results file, the file of rejected rows, and the counts: what a run says afterwards.

While the run goes on, the rows as staged stand in a `.part` beside the results file, and those of calls that
earlier runs had left in a `.carried.part`, durable before the first of them is sent. What became of a call is the
ledger's to say: at the end the results are written in input order with its fates, and moved into place. A run
that died left its parts, from which the next one finishes its results in the same way.

`cells` is what a row looks like, `paths` where files go, `parts` the way from parts and fates to results, `file`
the results of the run that goes on, `comparison` what two results files differ in.
"""

from importer.results.cells import call_cells, cells_of, defused, fused
from importer.results.comparison import Difference, differences
from importer.results.file import Finished, ResultsFile
from importer.results.parts import CHUNK_ROWS, Completion, Fates, complete
from importer.results.paths import as_text, check_free, results_path, write_rejects

__all__ = [
    "CHUNK_ROWS",
    "Completion",
    "Difference",
    "Fates",
    "Finished",
    "ResultsFile",
    "as_text",
    "call_cells",
    "cells_of",
    "check_free",
    "complete",
    "defused",
    "differences",
    "fused",
    "results_path",
    "write_rejects",
]
