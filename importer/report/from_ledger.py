"""A run, or the whole history, out of the ledger -> what a report says of it."""

import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from importer.errors import UsageError
from importer.ledger import (
    LedgerReader,
    Refusals,
    RunRecord,
    UncertainCall,
    first_and_last_request,
    refusals,
    requests_over_time,
)
from importer.records import OUTCOME_OF_STATE
from importer.report.data import Cause, Example, OpenCall, Report
from importer.report.from_results import MOST_UNCERTAIN, results_report
from importer.report.tallies import SPANS_SECONDS, Timeline
from schemas.vocabulary import CallState, Outcome

LAST = "last"
MOST_RUNS = 60
_MOST_SPANS = 4000
# Every zone of today is whole quarters of an hour from GMT.
_QUARTER_SECONDS = 900
_HOUR_SECONDS = 3600
_SENDING_COMMANDS = ("import", "deliver")


def run_report(ledger: LedgerReader, run: RunRecord, timezone: str | None, shown_ledger: str = "") -> Report:
    """Return a report of one run: by its results file where that is still there, else by what the ledger knows.

    Raises InputUnusableError when something else stands where its results were.
    """
    results = Path(run.results) if run.results else None
    if results is not None and results.is_file():
        report = _with_skipped(results_report(results, timezone), _summary(run))
    else:
        report = _known_of(ledger, run)
    return replace(report, title=f"Run {run.run_id}", run=run, ledger=shown_ledger)


def history_report(ledger: LedgerReader, path: Path, timezone: str | None, shown_ledger: str = "") -> Report:
    """Return a report over all that the ledger holds; ``path`` is shown as its source."""
    states = ledger.counts()
    runs = ledger.runs(-1)
    timeline = Timeline(_HOUR_SECONDS)
    quarters = requests_over_time(ledger, _QUARTER_SECONDS)
    timeline.add(quarters)
    return Report(
        title="History of the ledger",
        source=str(path),
        outcomes=_outcomes_of(Counter(), *map(_summary, runs)),
        skipped=_skipped_of(*map(_summary, runs)),
        skipped_known=True,
        hours=_hours(quarters, timezone),
        hours_are_requests=True,
        zone=timezone or "GMT",
        rejected=_rejected_of(*map(_summary, runs)),
        refused=tuple(map(_cause, refusals(ledger))),
        uncertain=tuple(map(_open_call, ledger.uncertain_calls(MOST_UNCERTAIN))),
        uncertain_count=states[CallState.UNCERTAIN],
        pace=timeline.pace(),
        runs=tuple(runs[:MOST_RUNS]),
        ledger=shown_ledger,
        ledger_states=states,
    )


def found_run(ledger: LedgerReader, run_id: str) -> RunRecord:
    """Return a run of the ledger; ``run_id`` may be `last` for the latest import or delivery.

    Raises UsageError when it is not there.
    """
    runs = ledger.runs(-1)
    if run_id == LAST:
        found = next((run for run in runs if run.command in _SENDING_COMMANDS), None)
    else:
        found = next((run for run in runs if run.run_id == run_id), None)
    if found is None:
        raise UsageError(
            f"--run: the ledger has no run {run_id[:40]!r}", hint="`cdr-importer status --runs` lists them."
        )
    return found


def _summary(run: RunRecord) -> Mapping[str, Any]:
    kept = json.loads(run.summary) if run.summary else {}
    return kept if isinstance(kept, dict) else {}


def _with_skipped(report: Report, summary: Mapping[str, Any]) -> Report:
    """Add the skipped rows that only the run's own counts know of."""
    if report.skipped_known or not summary.get("skipped"):
        return replace(report, skipped_known=report.skipped_known or "skipped" in summary)
    outcomes = {**report.outcomes, Outcome.SKIPPED: int(summary["skipped"])}
    return replace(report, outcomes=outcomes, skipped=_skipped_of(summary), skipped_known=True)


def _known_of(ledger: LedgerReader, run: RunRecord) -> Report:
    """Return what the ledger alone knows of a run: no numbers and no rejected rows."""
    uncertain = [one for one in ledger.uncertain_calls(MOST_UNCERTAIN) if one.run_id == run.run_id]
    summary = _summary(run)
    states = Counter(fate.state for fate in ledger.run_fates(run.run_id).values())
    return Report(
        title="",
        source=f"the ledger; the results file {run.results or 'of this run'} is not there any more",
        outcomes=_outcomes_of(states, summary),
        skipped=_skipped_of(summary),
        skipped_known="skipped" in summary,
        rejected=_rejected_of(summary),
        refused=tuple(map(_cause, refusals(ledger, run.run_id))),
        uncertain=tuple(map(_open_call, uncertain)),
        uncertain_count=len(uncertain),
        pace=_timeline_of(ledger, run).pace(),
    )


def _timeline_of(ledger: LedgerReader, run: RunRecord) -> Timeline:
    """Return a run's requests over time, by SQLite's counts of spans as wide as its length asks for."""
    ends = first_and_last_request(ledger, run.run_id)
    if ends is None:
        return Timeline()
    seconds = (datetime.fromisoformat(ends[1]) - datetime.fromisoformat(ends[0])).total_seconds()
    span = next((span for span in SPANS_SECONDS if seconds / span <= _MOST_SPANS), SPANS_SECONDS[-1])
    timeline = Timeline(span)
    timeline.add(requests_over_time(ledger, span, run.run_id))
    return timeline


def _outcomes_of(states: Mapping[CallState, int], *summaries: Mapping[str, Any]) -> dict[Outcome, int]:
    """Return the counts that runs noted at their end; for one that noted none, where its calls stand now."""
    outcomes = {outcome: sum(int(each.get(outcome, 0)) for each in summaries) for outcome in Outcome}
    if any(outcomes.values()):
        return outcomes
    for state, count in states.items():
        outcomes[OUTCOME_OF_STATE[state]] += count
    return outcomes


def _skipped_of(*summaries: Mapping[str, Any]) -> dict[str, int]:
    return dict(_by_reason("skipped_by_reason", *summaries))


def _rejected_of(*summaries: Mapping[str, Any]) -> tuple[Cause, ...]:
    """Return the rejected rows by reason; only results files have examples."""
    return tuple(
        Cause(reason, count, ()) for reason, count in _by_reason("rejected_by_reason", *summaries).most_common()
    )


def _by_reason(name: str, *summaries: Mapping[str, Any]) -> Counter[str]:
    reasons: Counter[str] = Counter()
    for summary in summaries:
        reasons.update(summary.get(name, {}))
    return reasons


def _hours(quarters: Mapping[int, int], timezone: str | None) -> dict[datetime, int]:
    zone = ZoneInfo(timezone) if timezone else UTC
    hours: Counter[datetime] = Counter()
    for quarter, count in quarters.items():
        local = datetime.fromtimestamp(quarter, zone).replace(tzinfo=None, fold=0)
        hours[local.replace(minute=0)] += count
    return dict(hours)


def _cause(answer: Refusals) -> Cause:
    status = "" if answer.http_status is None else str(answer.http_status)
    return Cause(answer.reason, answer.count, (Example("", "", answer.hint),), status, answer.code)


def _open_call(one: UncertainCall) -> OpenCall:
    call = one.call
    return OpenCall(
        call.call_id,
        call.start_time,
        call.agent_number,
        call.customer_number,
        one.fate.reason,
        call.place.file,
        str(call.place.line),
    )
