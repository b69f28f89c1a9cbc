"""How a run ended: the fates of its calls, its counts, its exit code, and one word for the reason."""

import json
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from importer import __version__
from importer.errors import ExitCode, ImporterError, ending_of, most_severe
from importer.ledger.ledger import Ledger
from importer.ledger.reader import LedgerReader
from importer.ledger.values import Fate, RunInfo
from importer.pipeline.run import Run, gmt_text, lock_wait, new_run_id
from importer.records import Call, ResultRow, RunSummary, Stop
from importer.requirements import FOUND_SQLITE, check_versions
from importer.results.cells import FATE_COLUMNS
from importer.results.file import Finished
from importer.settings.options import Settings
from schemas.vocabulary import SEEN_BEFORE, Outcome

NEEDS_A_PERSON = frozenset({Outcome.REJECTED, Outcome.REFUSED, Outcome.CONFLICT})


@dataclass(slots=True)
class ReadSoFar:
    """What a run has read: errors that do not stop it, records, and rows by reason that no result row names."""

    is_dry: bool
    """It sends nothing, so calls that are `pending` are none that it left."""

    problems: list[ImporterError] = field(default_factory=list)
    rows: int = 0
    skipped: Mapping[str, int] = field(default_factory=dict)


def summary_of(
    run: Run, target: Path, read: ReadSoFar, finished: Finished, stop: Stop | None, ledger: LedgerReader | None
) -> RunSummary:
    """Return the counts and choose the exit code; counts that do not add up are a bug of ours (exit 70).

    Calls that the ledger holds uncertain count whatever run sent them.
    """
    uncertain, since = ledger.uncertain_since() if ledger else (0, "")
    outcomes = Counter(finished.outcomes)
    outcomes[Outcome.SKIPPED] += sum(read.skipped.values())
    codes = [problem.exit_code for problem in read.problems] + ([stop.exit_code] if stop else [])
    if outcomes[Outcome.UNCERTAIN] or uncertain:
        codes.append(ExitCode.UNCERTAIN)
    seen_before = Counter({Outcome.REJECTED: finished.rejected[SEEN_BEFORE]})
    needing = sorted(NEEDS_A_PERSON & (outcomes - seen_before).keys())
    if needing:
        codes.append(ExitCode.PARTIAL)
    if outcomes[Outcome.PENDING] and not (stop or read.is_dry or run.settings.limit is not None):
        codes.append(ExitCode.UNAVAILABLE)
    code = most_severe(codes)
    problem = next((problem for problem in read.problems if problem.exit_code == code), None)
    reason = {ExitCode.OK: "done", ExitCode.UNCERTAIN: "uncertain"}.get(code, "pending")
    if stop and stop.exit_code == code:
        reason = stop.reason
    elif problem is not None:
        _, reason = ending_of(problem)
    elif code is ExitCode.PARTIAL:
        reason = needing[0].value
    summary = RunSummary(
        run_id=run.run_id,
        exit_code=code,
        reason=reason,
        rows=read.rows,
        carried=finished.carried,
        outcomes=outcomes,
        skipped=Counter(finished.skipped) + Counter(read.skipped),
        results=target if finished.is_written else None,
        rejected=finished.rejected,
        held_uncertain=uncertain,
        uncertain_since=since,
    )
    if summary.adds_up():
        return summary
    return replace(summary, exit_code=ExitCode.INTERNAL, reason="counts_do_not_add_up")


def summary_record(summary: RunSummary) -> dict[str, object]:
    """Return the summary for JSON: the printed fields, rows by reason, calls that the ledger holds uncertain."""
    return {
        **summary_fields(summary),
        "skipped_by_reason": dict(sorted(summary.skipped.items())),
        "rejected_by_reason": dict(sorted(summary.rejected.items())),
        "held_uncertain": summary.held_uncertain,
        "uncertain_since": summary.uncertain_since,
    }


def summary_fields(summary: RunSummary) -> dict[str, object]:
    """Return the printed fields; rejected rows that an earlier run has listed are counted once more."""
    counts = {outcome.value: summary.outcomes.get(outcome, 0) for outcome in Outcome}
    return {
        "rows": summary.rows,
        "carried": summary.carried,
        **counts,
        **({SEEN_BEFORE: seen} if (seen := summary.rejected.get(SEEN_BEFORE)) else {}),
        "exit": int(summary.exit_code),
        "reason": summary.reason,
        "run": summary.run_id,
        "results": str(summary.results) if summary.results else "",
    }


def row_of(call: Call, outcome: Outcome, known: Fate) -> ResultRow:
    """Return the row of a call with its fate."""
    return ResultRow(
        place=call.place,
        outcome=outcome,
        call_id=call.call_id,
        state=call.state.value,
        agent_number=call.agent_number,
        customer_number=call.customer_number,
        start_time=call.start_time,
        zohouser=call.zohouser,
        source_id=call.source_id,
        **fate_fields(known),
    )


def fate_fields(known: Fate) -> dict[str, Any]:
    """Return a fate as fields of a result row."""
    return {name: getattr(known, name) for name in FATE_COLUMNS}


@contextmanager
def held_ledger(
    settings: Settings, command: str, note: Callable[[str], object], *, restored: bool = False
) -> Iterator[Ledger]:
    """Give a person's command the ledger, locked and recovered, and note the command in its runs.

    ``note`` gets for which run it waits. ``restored`` lets a ledger in that is older than its last run, for
    `ledger accept-restore` alone. Raises as `Ledger.open` does.
    """
    check_versions(FOUND_SQLITE)
    now = time.time()
    info = RunInfo(new_run_id(now), gmt_text(now), __version__, command)
    wait = lock_wait(settings, note)
    path, clock = settings.ledger, lambda: gmt_text(time.time())
    with Ledger.open(path, run=info, now=clock, restored=restored, wait=wait) as ledger:
        if not restored:
            ledger.recover()
        try:
            yield ledger
        except ImporterError as error:
            finish_by_error(ledger, error)
            raise
        ledger.finish_run(ExitCode.OK, json.dumps({"reason": "done"}))


def finish_by_error(ledger: Ledger, error: BaseException) -> None:
    """Note in the ledger that an error ended its run, unless the ledger takes no note any more."""
    code, reason = ending_of(error)
    with suppress(ImporterError):
        ledger.finish_run(code, json.dumps({"reason": reason}))
