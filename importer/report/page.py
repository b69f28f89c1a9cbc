"""A report as one HTML file without links and scripts; its template escapes every text."""

import os
import shlex
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from importlib.resources import files
from pathlib import Path

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from importer import __version__
from importer.errors import CannotCreateError
from importer.private_files import os_errors_as, put_whole
from importer.report.data import Group, Report, pace_of
from schemas.vocabulary import CallState, Outcome, counted

_MOST_DAYS = 35
_HOUR_SECONDS = 3600
_HAPPENED = {
    Outcome.ACCEPTED: ("call was accepted", "calls were accepted"),
    Outcome.WOULD_SEND: ("call would be sent", "calls would be sent"),
    Outcome.PENDING: ("call waits to be sent", "calls wait to be sent"),
    Outcome.UNCERTAIN: ("call is uncertain", "calls are uncertain"),
    Outcome.REFUSED: ("call was refused", "calls were refused"),
    Outcome.CONFLICT: ("call is in conflict", "calls are in conflict"),
    Outcome.REJECTED: ("row was rejected", "rows were rejected"),
}
_TO_DO = {
    Outcome.UNCERTAIN: "look for the uncertain calls in Zoho and settle them with the lines below",
    Outcome.REFUSED: "see below what the API refused",
    Outcome.CONFLICT: "correct in Zoho what the results say of the calls in conflict",
    Outcome.REJECTED: "mend the rejected rows as shown below and import them again",
    Outcome.PENDING: "send what waits with `cdr-importer deliver` or the next import",
}
"""What a person does about an outcome, the first of these before all others."""
_WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")


def page_of(report: Report) -> str:
    """Return the page as HTML; every text of the report is escaped."""
    # Not the environment's own loader: it would read the template from a folder, which a zipped package has not.
    source = files("importer.report").joinpath("page.html").read_text(encoding="utf-8")
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, finalize=_visible, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(
        groups=_groups,
        # Those that any of the groups has.
        outcomes=lambda groups: [each for each in Outcome if any(group[2].get(each) for group in groups)],
        span=_span,
        clock=_clock,
        number="{:,}".format,
        quoted=shlex.quote,
    )
    counts, needed, sentence = _advice(report)
    # 24 counts for each day, or for each day of the week where there are too many days.
    days: list[tuple[str, list[int]]] = []
    if report.hours:
        first, last = min(report.hours).date(), max(report.hours).date()
        by_weekday = (last - first).days >= _MOST_DAYS
        span = range((last - first).days + 1)
        labels = _WEEKDAYS if by_weekday else [f"{first + timedelta(day):%a %Y-%m-%d}" for day in span]
        days = [(label, [0] * 24) for label in labels]
        for hour, count in report.hours.items():
            days[hour.weekday() if by_weekday else (hour.date() - first).days][1][hour.hour] += count
    html: str = environment.from_string(source).render(
        report=report,
        of={outcome: report.outcomes[outcome] for outcome in Outcome},
        counts=counts,
        needed=needed,
        sentence=sentence,
        causes=[(*cause, calls, report.examples[cause]) for cause, calls in report.causes.most_common()],
        days=days,
        by_hour=[sum(each) for each in zip(*(hours for _, hours in days), strict=True)],
        pace=pace_of(report.sent, _HOUR_SECONDS if report.is_history else 1),
        version=__version__,
        zip=zip,
    )
    return html


def _groups(tally: Mapping[tuple[str, str], int]) -> list[Group]:
    """Return counts by label and outcome as groups by label, the largest first."""
    labels: dict[str, dict[str, int]] = {}
    for (label, outcome), calls in tally.items():
        labels.setdefault(label, {})[outcome] = calls
    groups = [(label, sum(outcomes.values()), outcomes, "") for label, outcomes in labels.items()]
    return sorted(groups, key=lambda group: (-group[1], group[0]))


def _advice(report: Report) -> tuple[dict[Outcome, int], list[Outcome], str]:
    """Return the counts that matter to a person, the outcomes that need one, and a sentence about both."""
    counts = {each: report.outcomes[each] for each in _HAPPENED}
    needed = list(_TO_DO)
    if report.is_history:
        # What was refused or rejected in the past may long be mended.
        counts = {each: report.ledger_states[CallState(each)] for each in _HAPPENED if each in {*CallState}}
        needed = [Outcome.UNCERTAIN, Outcome.PENDING]
    needed = [each for each in needed if counts[each]]
    happened = [counted(counts[each], *words) for each, words in _HAPPENED.items() if counts.get(each)]
    text = " and ".join(filter(None, (", ".join(happened[:-1]), *happened[-1:]))) or "no call was to be sent"
    to_do = _TO_DO[needed[0]] if needed else "nothing in here needs a person"
    if report.held > 0 and not needed:
        to_do = f"settle the uncertain calls of earlier runs ({report.held:,}), which `cdr-importer status` names"
    if report.stopped.endswith("(declined)"):
        text = "a person said no to what was about to be sent"
    elif report.stopped:
        text = f"the run stopped early with exit code {report.stopped}; {text}"
        to_do = to_do if needed else "see the table of exit codes in README.md"
    return counts, needed, f"{text[:1].upper()}{text[1:]}: {to_do}."


def write_page(path: Path, report: Callable[[], Report], *, replace: bool = False) -> None:
    """Write the page whole or not at all, readable by its owner only; the path is looked at before all else.

    Raises CannotCreateError when it cannot be written, and, unless it may ``replace``, when something is there.
    """
    if not replace and os.path.lexists(path):
        hint = "Give the page another name, or replace this one with --force."
        raise CannotCreateError(f"{path} exists already", hint=hint)
    page = page_of(report()).encode()
    hint = "Name another file with --output, or with --html for `status`."
    with os_errors_as(CannotCreateError, f"the report {path} cannot be written", path, hint):
        put_whole(path, page, may_replace=replace)


def _visible(value: object) -> object:
    """Replace invisible characters: they could change the direction in which the page is read."""
    if not isinstance(value, str) or isinstance(value, Markup) or value.isprintable():
        return value
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in value)


def _clock(start: datetime, span_seconds: int, span: int, before: int | None = None) -> str:
    """Return the moment of a span; its date only where the label of the span ``before`` has another."""
    moment = start + timedelta(seconds=span * span_seconds)
    if span_seconds >= 86_400:
        return f"{moment:%Y-%m-%d}"
    time = f"{moment:%H:%M}" if span_seconds >= 60 else f"{moment:%H:%M:%S}"
    is_same_day = before is not None and (start + timedelta(seconds=before * span_seconds)).date() == moment.date()
    return time if is_same_day else f"{moment:%m-%d} {time}"


def _span(seconds: int) -> str:
    """Return a length of time in its largest whole unit: `hour`, `6 hours`, `95 seconds`."""
    units = (("day", 86_400), ("hour", 3600), ("minute", 60), ("second", 1))
    name, length = next(each for each in units if seconds % each[1] == 0)
    return name if seconds == length else f"{seconds // length:,} {name}s"
