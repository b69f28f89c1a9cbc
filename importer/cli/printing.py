"""What a person sees: progress on a terminal, the summary line, tables that fit 80 columns."""

import json
import logging
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from types import TracebackType
from typing import Any, Self

from tqdm import tqdm

from importer.cli.asking import is_somebody_there
from importer.cli.consent import agreed
from importer.cli.saying import complain, place_of, say, say_json, say_lines
from importer.cli.tables import aligned
from importer.errors import ExitCode, ImporterError
from importer.pipeline import Listener, Outlook, reason_of, summary_fields, summary_record
from importer.records import Receipt, RunSummary
from importer.settings import Settings
from schemas.vocabulary import Outcome

MOST_DETAIL_LINES = 8
"""With how many more there are, why rows were rejected, and the summary: at most ten lines and one."""
MOST_REASONS = 5


class Screen:
    """Shows one run: progress bars on a terminal, problems as they come, the summary at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._shows_progress = sys.stderr.isatty() and not settings.quiet
        self._bar: tqdm[Any] | None = None
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
        if self._settings.json_output:
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
        return agreed(outlook, self._settings.rate)

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
