"""The values of a report: counts of a results file or of a ledger, without HTML and without advice.

A results file is read row by row into counts, so memory grows with what is counted only: agents, hours, reasons.
"""

import heapq
import json
import re
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from importer.errors import UsageError
from importer.ledger.reader import LedgerReader
from importer.ledger.values import RunRecord
from importer.records import COMPLETE_EXIT_CODES, OUTCOME_OF_STATE
from importer.results.cells import read_rows
from importer.results.file import OF_SANDBOX
from importer.settings.options import OPTIONS
from schemas.vocabulary import CallState, Outcome, counted

_MOST_UNCERTAIN = 200
_MOST_EXAMPLES = 3
_MOST_RUNS = 60
_MOST_LATEST_DAYS = 14
_LONGEST_TEXT = 500
_OF_CALLS = frozenset(Outcome) - {Outcome.DUPLICATE, Outcome.REJECTED, Outcome.SKIPPED}
"""Outcomes of rows that are calls to be notified; rows of other outcomes have no state and no agent."""
_UNLISTED_AGENT = re.compile(r" the agent as (.+), which is no telephone number")
"""The names of an agent in the hint of `no_agent_number`."""
_SENDING = ("import", "deliver")
_OF_RUNS = (Outcome.ACCEPTED, Outcome.REFUSED, Outcome.UNCERTAIN, Outcome.REJECTED, Outcome.PENDING)

_SPANS_SECONDS = (*(1, 5, 10, 60, 300, 600, 3600, 21_600, 86_400, 604_800), *(604_800 * 52, 604_800 * 520))
_FIRST_YEAR, _LAST_YEAR = 1970, 2199
_MOST_BARS = 120
_MOST_WAITS = 5
_SHORTEST_WAIT_SECONDS = 10
# Every zone of today is whole quarters of an hour from GMT.
_QUARTER_SECONDS = 900

Group = tuple[str, int, Mapping[str, int], str]
"""Calls that share a state, an agent or a run: its name, their number, by outcome, and more about a run."""
Cause = tuple[str, str, str, str]
"""Why rows were rejected or calls refused: that outcome, reason, HTTP status and code."""
OpenCall = tuple[str, str, str, str, str, str]
"""An uncertain call to be looked for in Zoho: id, start as GMT text, agent, customer, reason, place of its row."""
Pace = tuple[datetime, int, tuple[int, ...], tuple[tuple[datetime, int], ...]]
"""Calls sent over time: counts from a moment (GMT) on of spans of so many seconds: moment, seconds, counts.

Then the longest times without a call: the last second before (GMT), and how many seconds.
"""


@dataclass(frozen=True, slots=True)
class Report:
    """All values of a page; the page leaves out the ones that are empty.

    The counters of a results file are filled row by row. ``states`` and ``agents`` count calls by name and
    outcome; ``examples`` has place and hint of a few rows of each of the ``causes``; ``unlisted`` are agents whose
    number the agents file does not have, with their rows. ``sent`` counts calls by epoch second, in a history
    requests. ``hours`` has the calls of each hour on the clock of ``zone``; in a history the requests.
    ``skipped_known``: the outcomes count the skipped rows though no row shows them. ``carried`` calls were of
    earlier runs. ``ledger`` is where the `resolve` lines lead, empty for the default. ``facts`` are names and
    values, ``settings`` options, values and what they mean. ``latest`` are the days of the latest runs on that
    clock: calls that were to be sent, those accepted, rows rejected. ``stopped`` is the exit code with its reason,
    of a run that did not come to its end. ``held`` calls of other runs were uncertain in the ledger at its end.
    """

    title: str = ""
    source: str = ""
    outcomes: Counter[str] = field(default_factory=Counter)
    skipped: Counter[str] = field(default_factory=Counter)
    skipped_known: bool = False
    carried: int = 0
    states: Counter[tuple[str, str]] = field(default_factory=Counter)
    agents: Counter[tuple[str, str]] = field(default_factory=Counter)
    hours: Counter[datetime] = field(default_factory=Counter)
    zone: str = "GMT"
    causes: Counter[Cause] = field(default_factory=Counter)
    examples: defaultdict[Cause, list[tuple[str, str]]] = field(default_factory=lambda: defaultdict(list))
    unlisted: Counter[str] = field(default_factory=Counter)
    uncertain: list[OpenCall] = field(default_factory=list)
    uncertain_count: int = 0
    sent: Counter[int] = field(default_factory=Counter)
    facts: tuple[tuple[str, str], ...] = ()
    settings: tuple[tuple[str, str, str], ...] = ()
    latest: tuple[tuple[str, int, int, int], ...] = ()
    stopped: str = ""
    held: int = 0
    ledger: str = ""
    is_history: bool = False
    ledger_states: Mapping[CallState, int] = field(default_factory=dict)
    runs: tuple[Group, ...] = ()


def results_report(path: Path, timezone: str | None = None) -> Report:
    """Return the report of a results file, hours on the clock of ``timezone``, else GMT; raises as `read_rows`."""
    report = Report(f"Results {path.name}", str(path), zone=timezone or "GMT")
    is_trial = False
    for row in read_rows(path):
        is_trial |= row["hint"] == OF_SANDBOX
        # No program writes texts that long: one cell must not fill the page or the memory.
        for name in [each for each, text in row.items() if len(text) > _LONGEST_TEXT]:
            row[name] = row[name][: _LONGEST_TEXT - 1] + "\N{HORIZONTAL ELLIPSIS}"
        outcome, reason, place = row["outcome"], row["reason"], _place(row["file"], row["line"])
        report.outcomes[outcome] += 1
        if outcome in _OF_CALLS:
            report.states[row["state"], outcome] += 1
            report.agents[row["from"], outcome] += 1
            if start := _moment(row["start_time"]):
                report.hours[_hour(start, report.zone)] += 1
        if outcome == Outcome.SKIPPED:
            report.skipped[reason] += 1
        elif outcome == Outcome.UNCERTAIN and len(report.uncertain) < _MOST_UNCERTAIN:
            report.uncertain.append((row["call_id"], row["start_time"], row["from"], row["to"], reason, place))
        elif outcome in (Outcome.REJECTED, Outcome.REFUSED):
            if reason == "no_agent_number" and (named := _UNLISTED_AGENT.search(row["hint"])):
                report.unlisted[named[1]] += 1
            cause = (outcome, reason, row["http_status"], row["code"])
            report.causes[cause] += 1
            if len(report.examples[cause]) < _MOST_EXAMPLES:
                report.examples[cause].append((place, row["hint"]))
        # Only these were surely sent in this run: the others may have kept the time of an earlier one.
        elif outcome == Outcome.ACCEPTED and (sent := _moment(row["sent_at"])):
            report.sent[int(sent.timestamp())] += 1
    facts = (("A trial", "Zoho got nothing of these calls"),) if is_trial else ()
    return replace(report, uncertain_count=report.outcomes[Outcome.UNCERTAIN], facts=facts)


def _moment(text: str) -> datetime | None:
    """Return the moment of a GMT text; None for another text, or a year that would make too many spans."""
    try:
        moment = datetime.fromisoformat(text + "+00:00")
    except ValueError:
        return None
    return moment if _FIRST_YEAR <= moment.year <= _LAST_YEAR else None


def _hour(moment: datetime, zone: str) -> datetime:
    """Return the beginning of the hour that the clock of a zone shows at a moment."""
    return moment.astimezone(ZoneInfo(zone)).replace(minute=0, second=0, tzinfo=None, fold=0)


def _place(file: str, line: str | int) -> str:
    return f"{file}, line {line}" if file and line else ""


def pace_of(moments: Mapping[int, int], least_span_seconds: int = 1) -> Pace | None:
    """Return calls by moment (seconds since the epoch) in at most `_MOST_BARS` spans; None without any."""
    if not moments:
        return None
    gaps = ((after - before, before) for before, after in pairwise(sorted(moments)))
    waits = heapq.nlargest(_MOST_WAITS, (gap for gap in gaps if gap[0] >= _SHORTEST_WAIT_SECONDS))
    # The narrowest span of which so many reach from the first moment to the last.
    first, last = min(moments), max(moments)
    spans = (span for span in _SPANS_SECONDS if span >= least_span_seconds)
    span = next(span for span in spans if last // span - first // span < _MOST_BARS)
    counts: Counter[int] = Counter()
    for moment, each in moments.items():
        counts[moment // span * span] += each
    return (
        datetime.fromtimestamp(min(counts), UTC),
        span,
        tuple(counts[second] for second in range(min(counts), max(counts) + 1, span)),
        tuple((datetime.fromtimestamp(second, UTC), seconds) for seconds, second in waits),
    )


def run_report(ledger: LedgerReader, run: RunRecord, timezone: str | None, shown_ledger: str = "") -> Report:
    """Return a report of one run by its results file, else by the ledger; raises as `read_rows`."""
    results = Path(run.results)
    runs = [each for each in ledger.runs(-1) if each.started_at <= run.started_at]
    summaries = {each.run_id: _summary_of(ledger, each) for each in runs}
    summary = summaries[run.run_id]
    if results.is_file():
        report = results_report(results, timezone)
    else:
        source = f"the ledger; there is no results file {run.results}".rstrip()
        report = replace(_by_ledger(ledger, [summary], run.run_id), source=source)
    if "skipped" in summary and not report.skipped:
        # Results have these rows with --all-rows only; the run counted them all the same.
        report.outcomes[Outcome.SKIPPED] = int(summary["skipped"])
        report.skipped.update(summary.get("skipped_by_reason", {}))
    code = "unknown" if run.exit_code is None else str(run.exit_code)
    facts = [
        ("Command", f"{run.command} (version {run.version})"),
        ("Began", f"{run.started_at} GMT"),
        ("Ended", f"{run.finished_at} GMT" if run.finished_at else "not yet, or it died"),
        ("Exit code", f"{code} ({summary.get('reason', 'no reason kept')})"),
    ]
    for each in json.loads(run.inputs):
        rows = "not usable" if each["rows"] is None else counted(each["rows"], "row")
        facts.append(("Input", f"{each['file']}: {rows}, SHA-256 {each['sha256'] or 'unknown'}"))
    settings = [
        (name, _in_words(value), OPTIONS[name].help.partition(" Default: ")[0] if name in OPTIONS else "")
        for name, value in json.loads(run.settings).items()
        if value not in (False, "", {})
    ]
    return replace(
        report,
        carried=int(summary.get("carried", 0)),
        title=f"Run {run.run_id}",
        skipped_known="skipped" in summary,
        facts=tuple(facts),
        settings=tuple(sorted(settings)),
        latest=_latest_days(runs, summaries.values(), timezone),
        stopped="" if run.exit_code in COMPLETE_EXIT_CODES else facts[3][1],
        held=int(summary.get("held_uncertain", 0)) - int(summary.get("uncertain", 0)),
        ledger=shown_ledger,
    )


def history_report(ledger: LedgerReader, path: Path, timezone: str | None, shown_ledger: str = "") -> Report:
    """Return a report over all that the ledger holds; ``path`` is shown as its source."""
    states = ledger.counts()
    runs = ledger.runs(-1)
    summaries = [_summary_of(ledger, run) for run in runs]
    report = replace(_by_ledger(ledger, summaries), zone=timezone or "GMT")
    report.sent.update(ledger.requests_over_time(_QUARTER_SECONDS))
    for quarter, requests in report.sent.items():
        report.hours[_hour(datetime.fromtimestamp(quarter, UTC), report.zone)] += requests
    groups: list[Group] = []
    for run, summary in zip(runs[:_MOST_RUNS], summaries, strict=False):
        code = "no exit code" if run.exit_code is None else f"exit {run.exit_code}"
        note = f"{run.command or '-'}, {code} ({summary.get('reason', 'no reason kept')})"
        if "rows" in summary:
            note += f", {counted(int(summary['rows']), 'row')}"
        outcomes = {str(each): int(summary.get(each, 0)) for each in _OF_RUNS}
        groups.append((run.run_id, sum(outcomes.values()), outcomes, note))
    return replace(
        report,
        title="History of the ledger",
        source=str(path),
        carried=sum(int(summary.get("carried", 0)) for summary in summaries),
        skipped_known=True,
        uncertain_count=states[CallState.UNCERTAIN],
        ledger=shown_ledger,
        latest=_latest_days(runs, summaries, timezone),
        is_history=True,
        ledger_states=states,
        runs=tuple(groups),
    )


def _summary_of(ledger: LedgerReader, run: RunRecord) -> Mapping[str, Any]:
    """Return what a run wrote down at its end; of one that died, which has no counts, how its calls stand."""
    summary: dict[str, Any] = json.loads(run.summary or "{}")
    if Outcome.ACCEPTED in summary or run.command not in _SENDING:
        return summary
    return summary | Counter(OUTCOME_OF_STATE[fate.state] for fate in ledger.run_fates(run.run_id).values())


def _in_words(value: Any) -> str:
    """Return an option's value as text for people."""
    if isinstance(value, dict):
        return ", ".join(f"{name} ({_in_words(each)})" for name, each in value.items())
    return ", ".join(map(str, value)) if isinstance(value, list) else "yes" if value is True else str(value)


def _latest_days(
    runs: Iterable[RunRecord], summaries: Iterable[Mapping[str, Any]], timezone: str | None
) -> tuple[tuple[str, int, int, int], ...]:
    """Return the latest days on which an import or delivery began, the newest last, with what became of calls."""
    days: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for run, summary in zip(runs, summaries, strict=True):
        if run.command in _SENDING and (began := _moment(run.started_at)):
            days[f"{_hour(began, timezone or 'GMT'):%Y-%m-%d}"].update(
                {each: int(summary.get(each, 0)) for each in _OF_RUNS}
            )
    return tuple(
        (day, of.total() - of[Outcome.REJECTED], of[Outcome.ACCEPTED], of[Outcome.REJECTED])
        for day, of in sorted(days.items())[-_MOST_LATEST_DAYS:]
    )


def found_run(ledger: LedgerReader, run_id: str) -> RunRecord:
    """Return a run, the latest import or delivery where ``run_id`` is `last`; raises UsageError without one."""
    for run in ledger.runs(-1):
        if run.run_id == run_id or (run_id == "last" and run.command in _SENDING):
            return run
    raise UsageError(
        f"--run: the ledger has no run {run_id[:40]!r}", hint="`cdr-importer status --runs` lists them."
    )


def _by_ledger(ledger: LedgerReader, summaries: Sequence[Mapping[str, Any]], run_id: str | None = None) -> Report:
    """Return the counts that runs wrote down at their end, and the open and refused calls of one or of all runs.

    Only results files have the numbers of settled calls, and examples of rejected rows.
    """
    report = Report(sent=Counter(ledger.requests_over_time(1, run_id) if run_id else {}))
    # Of all runs the oldest, of one run all: a late run's stand behind those of earlier ones.
    for call, fate, sent_by in ledger.uncertain_calls(-1 if run_id else _MOST_UNCERTAIN):
        if run_id in (None, sent_by):
            place = _place(call.place.file, call.place.line)
            numbers = (call.agent_number, call.customer_number)
            report.uncertain.append((call.call_id, call.start_time, *numbers, fate.reason, place))
    for summary in summaries:
        report.outcomes.update({outcome: int(summary.get(outcome, 0)) for outcome in Outcome})
        report.skipped.update(summary.get("skipped_by_reason", {}))
        for reason, rows in summary.get("rejected_by_reason", {}).items():
            report.causes[Outcome.REJECTED, reason, "", ""] += rows
    for http_status, code, reason, hint, calls in ledger.refusals(run_id):
        cause = (Outcome.REFUSED, reason, str(http_status or ""), code)
        report.causes[cause] += calls
        report.examples[cause].append(("", hint))
    return replace(report, uncertain=report.uncertain[:_MOST_UNCERTAIN], uncertain_count=len(report.uncertain))
