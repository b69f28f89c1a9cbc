"""One run as a person sees it: progress on a terminal, the question before sending, signals, the summary."""

import gc
import json
import logging
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import timedelta
from pathlib import Path
from types import FrameType, TracebackType
from typing import Never, Self

import click
from tqdm import tqdm

from importer.cli.output import aligned, complain, is_somebody_there, place_of, say, say_json, say_lines
from importer.errors import ExitCode, ImporterError
from importer.formats import load_catalogue
from importer.pipeline import (
    Listener,
    Outlook,
    Run,
    check_apart,
    new_run_id,
    reason_of,
    summary_fields,
    summary_record,
)
from importer.records import Receipt, RunSummary
from importer.requirements import check_versions, found_versions
from importer.settings import Settings
from importer.watching import Watch
from schemas.vocabulary import Outcome

MOST_DETAIL_LINES = 8
"""With how many more there are, why rows were rejected, and the summary: at most ten lines and one."""
MOST_REASONS = 5
STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

Before = Mapping[int, object]


def run_shown(
    settings: Settings, command: str, inputs: tuple[Path | None, ...], work: Callable[[Run], RunSummary]
) -> int:
    """Do one run's work with a screen, signals that stop it in order, and whoever watches from outside."""
    check_versions(found_versions())
    with Screen(settings) as screen, orderly_signals() as signals:
        run_id = new_run_id(time.time())
        watch = Watch(settings, command, run_id, note=screen.note)
        run = Run(
            settings,
            load_catalogue(),
            screen.listener().joined_by(watch.listener()),
            run_id=run_id,
            interrupted=signals.exit_code,
            is_cut=signals.is_cut,
        )
        # The collector would go over all modules again and again while rows stream by, which make no cycles:
        # a tenth of the time of `check` on a million rows with CPython 3.11.
        gc.freeze()
        gc.set_threshold(50_000, 20, 100)
        try:
            check_apart(settings, inputs)
            watch.begin()
            summary = work(run)
        except Exception as error:  # a bug too ends with the counts
            summary = screen.broken_off(run.run_id, error)
        watch.finish(summary)
        screen.finish(summary)
        return int(summary.exit_code)


class Screen:
    """Shows one run: progress bars on a terminal, problems as they come, the summary at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shows_progress = sys.stderr.isatty() and not settings.quiet
        self._bar: tqdm[Never] | None = None
        self._counts = {"accepted": 0, "refused": 0, "uncertain": 0}
        self._details: list[tuple[str, str, tuple[str, ...]]] = []
        self._broken_off: RunSummary | None = None
        self._noted = False
        self._log = _ToScreen(self._detail)

    def __enter__(self) -> Self:
        logging.getLogger("importer").addHandler(self._log)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        logging.getLogger("importer").removeHandler(self._log)
        self._close_bar()

    def listener(self) -> Listener:
        """Return the callables a run talks to."""
        return Listener(
            self._rows,
            self._calls,
            self._receipt,
            self._note,
            self._problem,
            self._detail,
            unrecorded=self._unrecorded,
            confirm=self._confirm,
            broke_off=self._broke_off,
        )

    def note(self, text: str) -> None:
        """Print at once what a person should know whatever the exit code."""
        self._noted = True
        self._close_bar()
        complain(text)

    def finish(self, summary: RunSummary) -> None:
        """Print the end of a run: nothing when cron runs it and nobody is needed."""
        self._close_bar()
        if self._settings.json:
            say_json(summary_record(summary))
        if self._is_silent(summary):
            return
        shown = self._fitting_details()
        for message, hint, lines in self._details[:shown]:
            complain(message, hint, lines)
        if len(self._details) > shown:
            complain(f"and {len(self._details) - shown} more like these")
        if sys.stderr.isatty():
            say_lines(summary_table(summary), err=True)
        elif summary.rejected:
            complain(rejected_line(summary))
        if summary.held_uncertain:
            complain(uncertain_line(summary))
        say(summary_line(summary), err=True)

    def broken_off(self, run_id: str, error: Exception) -> RunSummary:
        """Return the summary of a run that an error stopped; what it was is printed before the counts.

        A run that had taken nothing in counts no rows.
        """
        code = error.exit_code if isinstance(error, ImporterError) else ExitCode.INTERNAL
        if isinstance(error, ImporterError):
            self._details.insert(0, (error.message, error.hint, error.lines))
        else:
            self._details.insert(0, (*place_of(error), ()))
        summary = self._broken_off or RunSummary(run_id, code, "", rows=0, carried=0, outcomes={})
        code = code if summary.adds_up() else ExitCode.INTERNAL
        return replace(summary, exit_code=code, reason=reason_of(error))

    def _fitting_details(self) -> int:
        """Return how many of the details fit what is printed; the first is shown whole, however long."""
        left = MOST_DETAIL_LINES
        for count, (_, hint, lines) in enumerate(self._details):
            left -= 1 + bool(hint) + len(lines)
            if left < 0 and count:
                return count
        return len(self._details)

    def _is_silent(self, summary: RunSummary) -> bool:
        """Say whether nothing is to be printed: all is well, and nobody looks or asked for more."""
        asked = self._noted or self._settings.verbose or (sys.stderr.isatty() and not self._settings.quiet)
        return summary.exit_code is ExitCode.OK and not asked

    def _detail(self, line: str) -> None:
        if self._settings.verbose:
            self._close_bar()
            complain(line)

    def _confirm(self, outlook: Outlook) -> bool:
        if not is_somebody_there():
            return True
        self._close_bar()
        return agreed(outlook, str(self._settings.rate))

    def _unrecorded(self, receipt: Receipt) -> None:
        """Print what an answer was that the ledger could not take: the evidence for `resolve`."""
        status = "-" if receipt.http_status is None else receipt.http_status
        say(
            f"LEDGER-WRITE-FAILED call_id={receipt.call_id} outcome={receipt.state.value} "
            f"http_status={status} code={_word(receipt.code) or '-'}",
            err=True,
        )

    def _broke_off(self, summary: RunSummary) -> None:
        self._broken_off = summary

    def _rows(self, count: int) -> None:
        self._show("Reading", "rows", None)
        if self._bar is not None:
            self._bar.update(count)

    def _calls(self, total: int) -> None:
        self._close_bar()
        if total:
            self._show("Sending", "calls", total)

    def _receipt(self, receipt: Receipt) -> None:
        if receipt.state in self._counts:
            self._counts[receipt.state] += 1
        if self._bar is not None:
            self._bar.set_postfix(self._counts, refresh=False)
            self._bar.update()

    def _note(self, text: str) -> None:
        self._details.append((text, "", ()))

    def _problem(self, problem: ImporterError) -> None:
        self._details.append((problem.message, problem.hint, problem.lines))

    def _show(self, what: str, unit: str, total: int | None) -> None:
        if self._shows_progress and self._bar is None:
            self._bar = tqdm(desc=what, unit=f" {unit}", total=total, file=sys.stderr, dynamic_ncols=True)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class _ToScreen(logging.Handler):
    """Hands what our own modules log to whoever asked for more."""

    def __init__(self, show: Callable[[str], None]) -> None:
        super().__init__(logging.WARNING)
        self._show = show

    def emit(self, record: logging.LogRecord) -> None:
        """Show one line."""
        self._show(record.getMessage())


def summary_line(summary: RunSummary) -> str:
    """Return the one line of a run: `key=value`, the counts first."""
    return " ".join(f"{name}={_word(value)}" for name, value in summary_fields(summary).items())


def _word(value: object) -> str:
    text = str(value)
    return text if text.isprintable() and not set(text) & set(' "') else json.dumps(text)


def rejected_line(summary: RunSummary) -> str:
    """Return why rows were rejected, for the mail that cron makes of what is printed."""
    named = [f"{count} {reason}" for reason, count in _by_count(summary.rejected)]
    more = " and others" if len(named) > MOST_REASONS else ""
    return f"rejected: {', '.join(named[:MOST_REASONS])}{more}; the results say for each row what to do"


def uncertain_line(summary: RunSummary) -> str:
    """Return how many calls wait for a person, of this run or earlier ones, and since when."""
    count, since = summary.held_uncertain, f"{summary.uncertain_since[:16]} GMT"
    calls = f"{count} calls are uncertain, the oldest" if count > 1 else "1 call is uncertain"
    return f"{calls} since {since}: `cdr-importer status` names them, `cdr-importer resolve` settles them"


def _by_count(reasons: Mapping[str, int]) -> list[tuple[str, int]]:
    return sorted(reasons.items(), key=lambda each: (-each[1], each[0]))


def summary_table(summary: RunSummary) -> list[str]:
    """Return the counts of a run as lines for a person, rejected and skipped rows by reason as well."""
    reasons = {Outcome.REJECTED: summary.rejected, Outcome.SKIPPED: summary.skipped}
    rows = [("rows read", str(summary.rows))]
    if summary.carried:
        rows.append(("from earlier runs", str(summary.carried)))
    for outcome, count in summary.outcomes.items():
        if count:
            rows.append((outcome.value, str(count)))
            rows += [(f"  {reason}", str(each)) for reason, each in _by_count(reasons.get(outcome, {}))]
    return aligned((), rows)


def agreed(outlook: Outlook, rate: str) -> bool:
    """Show what is about to be sent and return whether the person wants it; no answer is a no."""
    say_lines(outlook_lines(outlook, rate), err=True)
    with taken(_leave):
        try:
            return click.confirm("Send them?", default=False, err=True)
        except click.Abort:
            say(err=True)
            return False


def outlook_lines(outlook: Outlook, rate: str) -> list[str]:
    """Return what is about to be sent as lines that fit 80 columns."""
    lines = [
        f"About to notify {outlook.calls:,} calls to Zoho, new ones from",
        f"{outlook.first} to {outlook.last} GMT.",
        f"At {rate} this takes {_duration(outlook.seconds)}.",
        "Each may open a window on its agent's screen.",
    ]
    if outlook.from_earlier:
        lines.append(f"{outlook.from_earlier:,} calls that earlier runs left pending go first.")
    if outlook.left_pending:
        lines.append(f"{outlook.left_pending:,} more stay pending, because of --limit.")
    return lines


def _duration(seconds: float) -> str:
    """Return a duration for a person: the next whole minute, or hours and minutes."""
    if seconds <= 60:
        return "up to a minute"
    minutes = -int(-seconds // 60)
    if minutes < 60:
        return f"about {minutes} minutes"
    whole = timedelta(minutes=minutes)
    hours, rest = divmod(whole.seconds // 60, 60)
    days = f"{whole.days} d " if whole.days else ""
    return f"about {days}{hours} h {rest:02} min"


def _leave(before: Before, number: int, frame: FrameType | None) -> None:
    """End the question on a signal, which is still noted by whoever takes it otherwise."""
    noted = before[number]
    if callable(noted):
        noted(number, frame)
    raise click.Abort


@dataclass(slots=True)
class Signals:
    """The signals that asked for a stop: the first in order, the second at once."""

    received: list[int] = field(default_factory=list)

    def exit_code(self) -> ExitCode | None:
        """Return 128 + the signal's number, None while none came."""
        return ExitCode(128 + self.received[0]) if self.received else None

    def is_cut(self) -> bool:
        """Say whether a second one came: the requests in flight are not to be waited for."""
        return len(self.received) > 1


@contextmanager
def orderly_signals() -> Iterator[Signals]:
    """Note SIGHUP, SIGINT and SIGTERM instead of dying.

    After the first the call in flight is finished and recorded; the second cuts it, which is recorded as
    uncertain; the third ends the process as it would without us, and the next run finds what it left.
    """
    signals = Signals()

    def note(before: Before, number: int, frame: FrameType | None) -> None:  # noqa: ARG001 as `taken` calls it
        signals.received.append(number)
        if signals.is_cut():
            for kind in STOPPING:
                signal.signal(kind, signal.SIG_DFL)

    with taken(note):
        yield signals


@contextmanager
def taken(take: Callable[[Before, int, FrameType | None], None]) -> Iterator[None]:
    """Let ``take`` have the signals of `STOPPING`; it gets who had them before, the signal and the frame."""
    before = {int(kind): signal.getsignal(kind) for kind in STOPPING}
    for kind in STOPPING:
        signal.signal(kind, lambda number, frame: take(before, number, frame))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
