"""The results of runs that died: finished by the next run from the parts they left and the ledger's fates."""

import json
from pathlib import Path

from importer.errors import ImporterError
from importer.ledger import Ledger, RunRecord
from importer.pipeline.fates import fate_row, fates_of
from importer.pipeline.run import Run
from importer.records import OUTCOME_OF_STATE
from importer.results import Completion, ResultsFile, complete
from schemas.vocabulary import Outcome


def finish_dead_runs(run: Run, ledger: Ledger) -> None:
    """Finish the results of every earlier run that died; what cannot be is told and never stops this run.

    Must come after recovery, which settles what a dead run was sending.
    """
    for dead in ledger.unfinished_runs():
        try:
            note = _finish(ledger, dead)
        except ImporterError as problem:
            run.listener.note(
                f"The results of the run {dead.run_id}, which died, cannot be completed: {problem.message}. "
                "The next run tries again."
            )
            continue
        ledger.finish_dead_run(dead.run_id, json.dumps({"reason": "died", "results": dead.results}))
        if note:
            run.listener.note(note)


def _finish(ledger: Ledger, dead: RunRecord) -> str:
    """Return what there is to say."""
    if not dead.results:
        return ""
    path = Path(dead.results)
    became = complete(path, lambda call_ids: fates_of(ledger, call_ids))
    if became is Completion.NO_PARTS:
        return _rebuild(ledger, dead, path)
    return {
        Completion.COMPLETED: f"The results of the run {dead.run_id}, which died, were completed: {path}.",
        Completion.WAS_THERE: "",
        Completion.PATH_TAKEN: f"The results of the run {dead.run_id}, which died, stand in {path}.final.part, "
        f"because something else is at {path} now.",
        Completion.NOT_TAKEN_IN: f"The run {dead.run_id} died before its calls were taken in; nothing of it was "
        "sent. Import its files again.",
    }[became]


def _rebuild(ledger: Ledger, dead: RunRecord, path: Path) -> str:
    """Write what the ledger knows of a run whose parts are gone: the calls it was the last to send."""
    fates = ledger.run_fates(dead.run_id)
    if not fates:
        return (
            f"The run {dead.run_id} died before it sent a call and left no results. Import its files again: "
            "what is known by then is not sent twice."
        )
    results = ResultsFile(path)
    try:
        rows = (fate_row(call_id, OUTCOME_OF_STATE[fate.state], fate) for call_id, fate in fates.items())
        results.add(rows, Outcome.PENDING)
        results.finish(lambda call_ids: fates_of(ledger, call_ids))
    except ImporterError:
        results.discard()
        raise
    return (
        f"The parts of the results of the run {dead.run_id}, which died, are gone; what the ledger knows of the "
        f"calls it sent is in {path}."
    )
