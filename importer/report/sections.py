"""A report in order and words: which sections a page has, with their pictures, tables and lines to paste.

Every text in here is plain: the template escapes it.
"""

import json
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from importer.ledger import RunRecord
from importer.report.data import Cause, Group, OpenCall, Report
from importer.report.pictures import Picture, bars, columns, heat_map, pace_picture, stacked_bars
from schemas.vocabulary import CallState, Outcome

MOST_AGENTS = 20
MOST_LISTED_RUNS = 20
_NEEDS_A_PERSON = (Outcome.UNCERTAIN, Outcome.REFUSED, Outcome.CONFLICT, Outcome.REJECTED)
_OVER_RUNS = " Added up over all runs: a row that was read by two runs counts in both."


@dataclass(frozen=True, slots=True)
class Table:
    """Rows under a header; the columns named in ``numbers`` (from 0) stand to the right."""

    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]
    numbers: frozenset[int] = frozenset()


@dataclass(frozen=True, slots=True)
class Section:
    """One part of the page; what is empty is left out."""

    title: str
    text: str = ""
    picture: Picture | None = None
    tables: tuple[Table, ...] = ()
    commands: tuple[str, ...] = ()


def facts_of(report: Report) -> tuple[tuple[str, str], ...]:
    """Return what the head of the page says: name and value."""
    facts = [("Source", report.source)]
    if report.run is not None:
        facts += _facts_of_run(report.run)
    return tuple(facts)


def _facts_of_run(run: RunRecord) -> Iterator[tuple[str, str]]:
    summary = json.loads(run.summary or "{}")
    yield "Command", f"{run.command} (version {run.version})"
    yield "Began", f"{run.started_at} GMT"
    yield "Ended", f"{run.finished_at} GMT" if run.finished_at else "not yet, or it died"
    code = "unknown" if run.exit_code is None else str(run.exit_code)
    yield "Exit code", f"{code} ({summary.get('reason', 'no reason kept')})"
    for each in json.loads(run.inputs):
        rows = "not usable" if each["rows"] is None else f"{each['rows']:,} rows"
        yield "Input", f"{each['file']}: {rows}, SHA-256 {each['sha256'] or 'unknown'}"


def needs_of(report: Report) -> tuple[str, ...]:
    """Return what a person has to do, one sentence each; empty when there is nothing."""
    advice = {
        Outcome.UNCERTAIN: "uncertain: nobody knows whether Zoho has them. Look, then paste a line below.",
        Outcome.REFUSED: "refused by the API: see the answers below.",
        Outcome.CONFLICT: "in conflict: known with other content, or attended since; the results say what to do.",
        Outcome.REJECTED: "rejected: mend the rows as the examples below say and import them again.",
    }
    counts = dict(report.outcomes)
    if report.ledger_states:
        counts = {Outcome.UNCERTAIN: report.uncertain_count}
    return tuple(f"{counts[each]:,} {advice[each]}" for each in _NEEDS_A_PERSON if counts.get(each))


def sections_of(report: Report) -> tuple[Section, ...]:
    """Return the sections of a page, those without content left out."""
    made = (
        _ledger_states(report),
        _uncertain(report),
        _funnel(report),
        _outcomes(report),
        _states(report),
        _hours(report),
        _agents(report),
        _causes("Rejected rows", "rejected", report.rejected),
        _refusals(report),
        _pace(report),
        _runs(report),
        _settings(report),
    )
    return tuple(section for section in made if section is not None)


def _ledger_states(report: Report) -> Section | None:
    if not report.ledger_states:
        return None
    counts = [
        (state.value, count) for state, count in report.ledger_states.items() if state is not CallState.SENDING
    ]
    return Section(
        "Where the calls stand",
        "Every call the ledger knows, once.",
        bars("ledger", "Calls of the ledger by state", counts),
    )


def _uncertain(report: Report) -> Section | None:
    if not report.uncertain:
        return None
    shown, more = report.uncertain, report.uncertain_count - len(report.uncertain)
    table = Table(
        ("Call id", "Started (GMT)", "Agent", "Customer", "Why", "Row"),
        tuple(
            (each.call_id, each.start_time, each.agent, each.customer, each.reason, _place(each.file, each.line))
            for each in shown
        ),
    )
    text = (
        "The answers of these calls were lost or meant nothing. Look for each in Zoho by number and time, then "
        "paste the line that is true; they are never sent again by themselves."
    )
    return Section(
        f"Uncertain calls ({report.uncertain_count:,})",
        text + (f" {more:,} more are not listed." if more > 0 else ""),
        tables=(table,),
        commands=tuple(_resolve_lines(shown, report.ledger)),
    )


def _resolve_lines(calls: Sequence[OpenCall], ledger: str) -> Iterator[str]:
    """Yield what to paste: for each call both answers."""
    where = f" --ledger {shlex.quote(ledger)}" if ledger else ""
    for each in calls:
        command = f"cdr-importer resolve{where} {shlex.quote(each.call_id)}"
        yield f"{command} --sent --note 'seen in Zoho'"
        yield f"{command} --not-sent --note 'not in Zoho'"


def _funnel(report: Report) -> Section | None:
    steps = funnel_of(report)
    if len(steps) < 2 or not steps[0][1]:
        return None
    text = "What is left at each step."
    if report.runs:
        text += _OVER_RUNS
    if not report.skipped_known:
        text += (
            " Skipped rows (attended, incoming and so on) are not in this file: --all-rows lists them, and"
            " report --run knows their number."
        )
    return Section("From rows to accepted calls", text, bars("funnel", _alt(steps), steps, of_first=True))


def funnel_of(report: Report) -> list[tuple[str, int]]:
    """Return the steps from rows read to calls accepted, each with what is left there."""
    of = {outcome: report.outcomes.get(outcome, 0) for outcome in Outcome}
    rows = sum(of.values())
    unattended = rows - of[Outcome.SKIPPED]
    usable = unattended - of[Outcome.REJECTED] - of[Outcome.DUPLICATE] - of[Outcome.CONFLICT]
    new = usable - of[Outcome.ALREADY_ACCEPTED]
    steps = [("rows read" if report.skipped_known else "rows in the file", rows)]
    if report.skipped_known:
        steps.append(("unattended", unattended))
    steps += [("usable calls", usable), ("not yet accepted", new)]
    if of[Outcome.WOULD_SEND] and not of[Outcome.ACCEPTED]:
        return [*steps, ("would be sent", of[Outcome.WOULD_SEND])]
    return [*steps, ("accepted", of[Outcome.ACCEPTED])]


def _outcomes(report: Report) -> Section | None:
    counted = [(outcome, count) for outcome, count in report.outcomes.items() if count]
    if not counted:
        return None
    tables = [
        Table(("Outcome", "Rows"), tuple((each.value, f"{count:,}") for each, count in counted), frozenset({1}))
    ]
    if report.skipped:
        ranked = sorted(report.skipped.items(), key=lambda each: (-each[1], each[0]))
        rows = tuple((reason, f"{count:,}") for reason, count in ranked)
        tables.append(Table(("Skipped because", "Rows"), rows, frozenset({1})))
    text = "Every row has exactly one outcome." + (_OVER_RUNS if report.runs else "")
    return Section("Rows by outcome", text, tables=tuple(tables))


def _states(report: Report) -> Section | None:
    if not report.states:
        return None
    alt = _alt([(group.label, group.count) for group in report.states])
    return Section("Calls by state", picture=stacked_bars("states", alt, report.states))


def _hours(report: Report) -> Section | None:
    if not report.hours:
        return None
    what = "requests were sent" if report.hours_are_requests else "calls began"
    days = sorted({hour.date() for hour in report.hours})
    text = f"When {what}, from {days[0]} to {days[-1]}, by the clock of {report.zone}."
    by_hour = [0] * 24
    for hour, count in report.hours.items():
        by_hour[hour.hour] += count
    busiest = max(range(24), key=lambda hour: by_hour[hour])
    alt = f"{text} Most in the hour from {busiest}:00: {by_hour[busiest]:,}."
    title = "Requests by day and hour" if report.hours_are_requests else "Calls by day and hour"
    return Section(title, text, heat_map("hours", alt, report.hours))


def _agents(report: Report) -> Section | None:
    if not report.agents:
        return None
    shown, total = report.agents[:MOST_AGENTS], sum(group.count for group in report.states)
    rest = total - sum(group.count for group in shown)
    text = f"The {len(shown)} agents with the most calls; {rest:,} calls of others." if rest else ""
    alt = _alt([(group.label, group.count) for group in shown])
    return Section("Calls by agent", text, stacked_bars("agents", alt, shown))


def _causes(title: str, name: str, causes: Sequence[Cause]) -> Section | None:
    if not causes:
        return None
    counts = [(cause.reason or "(none)", cause.count) for cause in causes[:MOST_AGENTS]]
    rows = tuple(
        (cause.reason, f"{cause.count:,}" if first else "", _place(each.file, each.line), each.hint)
        for cause in causes
        for first, each in zip((True, *[False] * len(cause.examples)), cause.examples, strict=False)
    )
    table = Table(("Reason", "Rows", "For example", "What to do"), rows, frozenset({1}))
    text = "" if rows else "The results file of the run says for each row what to do."
    return Section(title, text, bars(name, _alt(counts), counts), (table,) if rows else ())


def _refusals(report: Report) -> Section | None:
    if not report.refused:
        return None
    rows = tuple(
        (
            cause.status or "-",
            cause.code or "-",
            cause.reason,
            f"{cause.count:,}",
            "; ".join(filter(None, (_place(each.file, each.line) for each in cause.examples))) or "-",
            cause.examples[0].hint if cause.examples else "",
        )
        for cause in report.refused
    )
    header = ("Status", "Code", "Reason", "Calls", "For example", "What to do")
    return Section("Refused by the API", "By what it answered.", tables=(Table(header, rows, frozenset({3})),))


def _pace(report: Report) -> Section | None:
    pace = report.pace
    if pace is None:
        return None
    span = _span(pace.span_seconds)
    most = max(pace.counts)
    what = "Requests" if report.hours_are_requests else "Calls accepted"
    text = f"{what} in each {span} (GMT); at most {most:,}, {sum(pace.counts):,} in all."
    tables = []
    if pace.waits and not report.hours_are_requests:
        rows = tuple((_moment(wait.since), _span(wait.seconds)) for wait in pace.waits)
        tables.append(Table(("Longest waits, from (GMT)", "for"), rows))
    return Section("Throughput", text, pace_picture("pace", text, pace), tuple(tables))


def _runs(report: Report) -> Section | None:
    if not report.runs:
        return None
    groups = [_run_group(run) for run in reversed(report.runs)]
    rows = tuple(_run_row(run) for run in report.runs[:MOST_LISTED_RUNS])
    table = Table(("Run", "Command", "Exit", "Reason", "Rows", "Accepted"), rows, frozenset({2, 4, 5}))
    text = f"The latest {len(rows)}; cdr-importer status --runs lists more."
    with_calls = [group for group in groups if group.count]
    picture = columns("runs", "Calls of each run by outcome", with_calls) if with_calls else None
    return Section("Runs", text, picture, (table,))


def _run_group(run: RunRecord) -> Group:
    summary = json.loads(run.summary or "{}")
    shown = (Outcome.ACCEPTED, Outcome.REFUSED, Outcome.UNCERTAIN, Outcome.REJECTED, Outcome.PENDING)
    return Group(run.started_at[:16], {each: int(summary.get(each, 0)) for each in shown})


def _run_row(run: RunRecord) -> tuple[str, ...]:
    summary = json.loads(run.summary or "{}")
    return (
        run.run_id,
        run.command or "-",
        "-" if run.exit_code is None else str(run.exit_code),
        str(summary.get("reason", "-")),
        f"{int(summary['rows']):,}" if "rows" in summary else "-",
        f"{int(summary['accepted']):,}" if "accepted" in summary else "-",
    )


def _settings(report: Report) -> Section | None:
    kept = json.loads(report.run.settings) if report.run else {}
    if not kept:
        return None
    rows = tuple((name, _value(value)) for name, value in sorted(kept.items()))
    return Section(
        "Options of the run", "Without secrets and numbers.", tables=(Table(("Option", "Value"), rows),)
    )


def _value(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)


def _alt(counts: Sequence[tuple[str, int]]) -> str:
    return "; ".join(f"{label or '(none)'}: {count:,}" for label, count in counts)


def _place(file: str, line: str) -> str:
    return f"{file}, line {line}" if file and line else ""


def _moment(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def _span(seconds: int) -> str:
    for name, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length and seconds % length == 0:
            count = seconds // length
            return name if count == 1 else f"{count} {name}s"
    return "second" if seconds == 1 else f"{seconds:,} seconds"
