"""Results of runs that died, finished from their parts, and results files as evidence for a restored ledger."""

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from pathlib import Path

from importer.errors import ImporterError, InputUnusableError
from importer.ledger.ledger import Ledger
from importer.ledger.values import ReportedCall, RunRecord
from importer.pipeline.ending import fate_fields, row_of
from importer.pipeline.run import Run, epoch_of, gmt_text
from importer.private_files import check_ours
from importer.records import OUTCOME_OF_STATE, Call, Place, ResultRow
from importer.results.cells import PART, fused, no_results_file, read_rows
from importer.results.file import CHUNK_ROWS, OF_SANDBOX, SANDBOX, ResultsFile, complete_parts, results_path
from schemas.vocabulary import ATTENDED, RESULT_COLUMNS, CallState, Outcome, State

_OPEN = (CallState.PENDING, CallState.SENDING, CallState.UNCERTAIN)
_WRITTEN_SECONDS = 60
"""So far before or after its run a results file may have been written, by the clock of its disk."""
_TAKEN = frozenset({Outcome.ACCEPTED, Outcome.ALREADY_ACCEPTED})
_NEVER_TO_BE_SENT = frozenset({"closed", "forgotten", "resolved_sent", ATTENDED})


def finish_dead_runs(run: Run, ledger: Ledger) -> None:
    """Finish the results of runs that died, once `Ledger.recover` settled their calls; a failure is noted."""
    for dead in ledger.unfinished_runs():
        try:
            note = complete_parts(Path(dead.results), dead.run_id, ledger.fates) if dead.results else ""
            if note is None:
                note = _rebuild(run, ledger, dead)
        except ImporterError as problem:
            run.listener.note(
                f"The results of the run {dead.run_id}, which died, cannot be completed: {problem.message}. "
                "The next run tries again."
            )
            continue
        ledger.finish_dead_run(dead.run_id, json.dumps({"reason": "died", "results": dead.results}))
        if note:
            run.listener.note(note)


def drop_old_results(run: Run, ledger: Ledger, own: Path, keep_seconds: float) -> None:
    """Delete results that runs of this ledger wrote longer ago than that, if no call of them is open.

    What is no results file, was changed since, is another user's or this run's ``own`` stays; nothing is raised.
    """
    before = gmt_text(max(0, run.now - keep_seconds))
    for old in ledger.runs(-1):
        path = Path(old.results)
        with suppress(OSError, ImporterError):
            if not old.results or not old.finished_at or old.finished_at >= before or path == own.absolute():
                continue
            facts = path.lstat()
            check_ours(path, facts)
            first, last = epoch_of(old.started_at), epoch_of(old.finished_at)
            if not first - _WRITTEN_SECONDS < facts.st_mtime < last + _WRITTEN_SECONDS:
                continue
            rows = read_rows(path)
            while ids := [row["call_id"] for row in islice(rows, CHUNK_ROWS)]:
                if any(fate.state in _OPEN for fate in ledger.fates(ids).values()):
                    break
            else:
                path.unlink()
                run.listener.detail(f"{path} is deleted, as --keep-results says")


def _rebuild(run: Run, ledger: Ledger, dead: RunRecord) -> str:
    """Write the results of a run whose parts are gone: the calls that it was the last to send, by the ledger.

    Where the folder is gone too, they go where results without a name do.
    """
    fates = ledger.run_fates(dead.run_id)
    if not fates:
        return (
            f"The run {dead.run_id} died before it sent a call and left no results. Import its files again: "
            "no call is sent twice."
        )
    path = Path(dead.results)
    if not path.parent.is_dir():
        path = results_path(None, dead.run_id, None, run.settings.ledger)
    results = ResultsFile(path)
    rows = {
        call_id: ResultRow(Place("", 0), OUTCOME_OF_STATE[fate.state], call_id, **fate_fields(fate))
        for call_id, fate in fates.items()
    }
    for call, fate, _ in ledger.uncertain_calls(-1):
        if call.call_id in rows:  # whole, so that they are evidence after a restore
            rows[call.call_id] = row_of(call, Outcome.UNCERTAIN, fate)
    try:
        results.add(rows.values(), Outcome.PENDING)
        results.finish(ledger.fates)
    except ImporterError:
        results.discard()
        raise
    return (
        f"The parts of the results of the run {dead.run_id}, which died, are gone; the calls that it sent are in "
        f"{path}, as the ledger has them."
    )


def evidence_of(paths: Sequence[Path], *, complete: bool) -> list[ReportedCall]:
    """Return each call that results files show accepted or perhaps sent, once; accepted outranks.

    A call that a person settled counts as perhaps sent, so that it is not sent again; so does one that is pending
    in a part of results. The recording's address is not in a results file and stays empty.
    Raises NoInputError for a file that cannot be read, InputUnusableError for one that is no results file, or if
    they are to be ``complete`` with a part of results among or beside them.
    """
    header = ",".join(RESULT_COLUMNS).encode()
    looked_beside = paths if complete else ()
    beside = [part for path in looked_beside for part in (path, *sorted(path.parent.glob("*" + PART)))]
    for part in beside:
        begins = b""
        if part.suffix == PART and SANDBOX not in part.name and part.is_file():
            with suppress(OSError), part.open("rb") as stream:
                begins = stream.read(len(header))
        if begins == header:
            raise InputUnusableError(
                f"{part} is what a run that died left of its results: nobody knows what it had sent by then, "
                "so these files are not complete",
                hint="Give it too and leave --complete out; or have the run's results completed first, by "
                "`cdr-importer deliver` with the ledger that it used, if you still have that.",
            )
    found: dict[str, ReportedCall] = {}
    for path in paths:
        for row in read_rows(path):
            if SANDBOX in path.name or row["hint"] == OF_SANDBOX:
                said = f"{path} is of the sandbox: Zoho got none of its calls"
                raise InputUnusableError(said, hint="Leave out all files of trials.")
            one = _evidence_in(path, row)
            if one and (one.state is CallState.ACCEPTED or one.call_id not in found):
                found[one.call_id] = one
    return list(found.values())


def _evidence_in(path: Path, row: Mapping[str, str]) -> ReportedCall | None:
    outcome = Outcome(row["outcome"])
    # By the word of a person, who may have taken it back: the last word stands beside the ledger.
    settled = row["reason"] in _NEVER_TO_BE_SENT and outcome in (Outcome.SKIPPED, *_TAKEN) and row["state"]
    if outcome in _TAKEN and row["call_id"] and not settled:
        # No more of it is needed: a run whose parts are gone has left its id alone.
        return ReportedCall(row["call_id"], CallState.ACCEPTED, row["sent_at"])
    doubtful = outcome is Outcome.UNCERTAIN or (outcome is Outcome.PENDING and path.suffix == PART)
    if not row["call_id"] or not (settled or doubtful):
        return None
    try:
        call = Call(
            call_id=row["call_id"],
            state=State(row["state"]),
            agent_number=row["from"],
            customer_number=row["to"],
            start_time=row["start_time"],
            zohouser=fused(row["zohouser"]),
            voiceuri="",
            source_id=fused(row["source_id"]),
            place=Place(fused(row["file"]), int(row["line"] or 0)),
        )
    except ValueError as error:
        raise no_results_file(path, f"the row of {row['call_id'][:40]!r} has another state or line") from error
    return ReportedCall(call.call_id, CallState.UNCERTAIN, row["sent_at"], call)
