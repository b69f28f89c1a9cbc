"""One run at a terminal or under cron: progress, the question before sending, signals, the summary."""

import json
import os
import select
import shlex
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import FrameType
from typing import Never

import click

from importer.cli import output
from importer.errors import ExitCode, ending_of
from importer.formats.catalogue import load_catalogue
from importer.pipeline.ending import summary_fields, summary_record
from importer.pipeline.inputs import check_apart
from importer.pipeline.run import Listener, Outlook, Run, new_run_id
from importer.private_files import user_name
from importer.records import Receipt, RunSummary, ignore
from importer.requirements import check_versions
from importer.settings.loading import config_words
from importer.settings.options import Settings
from importer.watching.watch import Watch
from schemas.vocabulary import SEEN_BEFORE, Outcome, counted, lasting

MOST_DETAIL_LINES = 8
"""With the count of further ones, the reasons of rejected rows, how to settle uncertain calls, and the summary: at
most sixteen lines."""
MOST_REASONS = 5
STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
ASKING = (signal.SIGUSR1, getattr(signal, "SIGINFO", signal.SIGUSR1))
"""Signals that ask how far the run has come; SIGINFO is Ctrl-T on BSD and macOS."""


def run_on_screen(
    settings: Settings, command: str, inputs: tuple[Path | None, ...], work: Callable[[Run], RunSummary]
) -> int:
    """Do the work of one run with its screen, signals, log, metrics and pings; return its exit code."""
    check_versions()
    screen, run_id = Screen(settings), new_run_id(time.time())
    watch = Watch(settings, command, run_id, note=screen.note)
    screen.progress = watch.progress
    with screen.signals_taken():
        run = Run(
            settings,
            load_catalogue(settings.config),
            screen.listener.joined_by(watch.listener),
            run_id=run_id,
            interrupted=lambda: ExitCode(128 + screen.signals[0]) if screen.signals else None,
            is_cut=lambda: len(screen.signals) > 1,
        )
        try:
            check_apart(settings, inputs)
            watch.begin()
            if command != "check" and not settings.sandbox:
                output.note_unused_proxy(settings, run.listener.note)
            summary = work(run)
        except Exception as error:  # a bug too ends with the counts
            summary = screen.broken_off(run_id, error)
        watch.finish(summary, screen.closing_lines(summary))
        screen.finish(summary)
        return int(summary.exit_code)


class Screen:
    """Shows one run: progress bars on a terminal, problems as they come, the summary at the end.

    After the first signal of `STOPPING` the call in flight is finished and recorded; the second cuts it, which is
    recorded as uncertain; the third ends the process by the default action, and the next run takes up its calls.
    """

    def __init__(self, settings: Settings) -> None:
        self.signals: list[int] = []
        self._is_asking = False
        self.progress: Callable[[], Mapping[str, object]] = dict
        self._settings = settings
        self._shows_progress = sys.stderr.isatty() and not settings.quiet
        if self._shows_progress:
            from tqdm import tqdm  # costs some 20 ms, which no run under cron needs
        self._bar: tqdm[Never] | None = None
        # A narrow terminal cuts the end of the line off: what nobody can do anything about stands last.
        self._counts = {"uncertain": 0, "refused": 0, "accepted": 0}
        self._problems: list[tuple[str, str, tuple[str, ...]]] = []
        self._details: list[str] = []
        self._broken_off: list[RunSummary] = []
        self._is_stopped = False
        self._notes = 0
        self._shown: tuple[RunSummary, int] | None = None
        self.listener = Listener(
            rows=lambda count: self._advance("Reading", "rows", count),
            calls=lambda total: self._advance("Sending", "calls", 0, total),
            receipt=self._receipt,
            note=self._details.append,
            waiting=output.show_message if self._shows_progress else self._details.append,
            problem=lambda problem: self._problems.append(output.error_text(problem)),
            detail=self.note if settings.verbose else ignore,
            # An answer that the ledger could not record: the evidence for `resolve`.
            unrecorded=lambda receipt: output.show(
                f"LEDGER-WRITE-FAILED call_id={receipt.call_id} outcome={receipt.state.value} http_status="
                f"{receipt.http_status or '-'} {_fields_line({'code': receipt.code or '-'})}",
                err=True,
            ),
            confirm=self._confirm,
            broke_off=self._broken_off.append,
            ended=self.finish,
        )

    @contextmanager
    def signals_taken(self) -> Iterator[None]:
        """Handle signals meanwhile; take the bar away at the end."""
        handlers = dict.fromkeys(STOPPING, self._on_signal) | dict.fromkeys(ASKING, self._show_progress)
        former = {kind: signal.signal(kind, handler) for kind, handler in handlers.items()}
        try:
            yield
        finally:
            for kind, handler in former.items():
                signal.signal(kind, handler)
            self._close_bar()

    def _on_signal(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 as `signal` calls it
        self.signals.append(number)
        if len(self.signals) > 1:
            for kind in STOPPING:
                signal.signal(kind, signal.SIG_DFL)
        if self._is_asking:
            raise click.Abort

    def note(self, text: str) -> None:
        """Print a line for a person at once, whatever the exit code."""
        self._notes += 1
        self._close_bar()
        output.show_message(text)

    def finish(self, summary: RunSummary) -> None:
        """Print the end of a run; nothing with exit 0, unless at a terminal, with `--verbose` or after a note.

        What was printed is not printed again, but for the last line where a note came below it.
        """
        self._close_bar()
        before, self._shown = self._shown, (summary, self._notes)
        if before == self._shown:
            return
        is_new = before is None or before[0] != summary
        if self._settings.json and is_new:
            output.show_json(summary_record(summary))
        asked = self._notes or self._settings.verbose or (sys.stderr.isatty() and not self._settings.quiet)
        if summary.exit_code is ExitCode.OK and not asked:
            return
        output.show_lines(self.closing_lines(summary) if is_new else (), err=True)
        if not (self._is_stopped and sys.stderr.isatty()):
            output.show(_fields_line(summary_fields(summary)), err=True)

    def closing_lines(self, summary: RunSummary) -> list[str]:
        """Return what a person has to know at the end of a run, without the counts of the last line."""
        closing: list[str] = []
        for (message, hint, below), (_, later, _) in pairwise([*self._problems, ("", "", ())]):
            closing += output.message_lines(message, "" if hint == later else hint, below)  # the same advice once
        if self._is_stopped and sys.stderr.isatty():
            return closing
        left = MOST_DETAIL_LINES
        for shown, detail in enumerate(self._details):
            lines = output.message_lines(detail)
            left -= len(lines)
            if left < 0 and shown:
                closing += output.message_lines(f"and {len(self._details) - shown} more like these")
                break
            closing += lines
        reasons_of = {
            outcome: sorted(reasons.items(), key=lambda each: (each[0] == SEEN_BEFORE, -each[1], each[0]))
            for outcome, reasons in ((Outcome.REJECTED, summary.rejected), (Outcome.SKIPPED, summary.skipped))
        }
        counts = ((each, summary.outcomes.get(each)) for each in (Outcome.REFUSED, Outcome.CONFLICT))
        to_mend = [f"{outcome}: {count}" for outcome, count in counts if count]
        if sys.stderr.isatty():
            if summary.rejected:
                to_mend.insert(0, f"rejected: {summary.outcomes[Outcome.REJECTED]}")
            rows = [("rows read", str(summary.rows))]
            if summary.carried:
                rows.append(("from earlier runs", str(summary.carried)))
            for outcome, count in summary.outcomes.items():
                if count:
                    rows.append((outcome.value, str(count)))
                    rows += [(f"  {reason}", str(each)) for reason, each in reasons_of.get(outcome, ())]
            closing += output.aligned((), rows)
        elif summary.rejected:
            named = [f"{count} {reason}" for reason, count in reasons_of[Outcome.REJECTED]]
            reasons = ", ".join(named[:MOST_REASONS]) + (" and others" if len(named) > MOST_REASONS else "")
            to_mend.insert(0, f"rejected: {reasons}")
        if to_mend:
            closing += output.message_lines(f"{'; '.join(to_mend)}; the results say for each row what to do")
        if count := summary.held_uncertain:
            calls = counted(count, "call is uncertain", "calls are uncertain, the oldest")
            message = f"{calls} since {summary.uncertain_since[:16]} GMT: Zoho may have what was sent, or not"
            closing += output.message_lines(message, *self._how_to_settle(summary))
        return closing

    def _how_to_settle(self, summary: RunSummary) -> tuple[str, tuple[str, ...]]:
        """Return where uncertain calls are listed, and the commands that settle them, in order."""
        settings, path = self._settings, Path(sys.argv[0]).absolute()
        is_found = path.name != "cdr-importer" or shutil.which(path.name) is not None
        name = "cdr-importer" if is_found else shlex.quote(str(path))
        words = config_words(settings.config)
        if not words and settings.ledger != Settings().ledger:
            words = f" --ledger {shlex.quote(str(settings.ledger))}"
        own = summary.outcomes.get(Outcome.UNCERTAIN, 0)
        listed = f"{own} of this run: {summary.results}. " if own and summary.results else ""
        return f"{listed}Run these as {user_name(os.geteuid())}, in this order:", (
            f"{name} status{words}    # all, at a terminal with numbers: look in Zoho",
            f"{name} resolve{words} ID --sent --note TEXT    # Zoho has it; else --not-sent",
            f"{name} deliver{words}    # sends what Zoho has not",
        )

    def broken_off(self, run_id: str, error: Exception) -> RunSummary:
        """Return the counts of a run that an error stopped, none of one that had taken nothing in."""
        code, reason = ending_of(error)
        self._problems.append(output.error_text(error))
        self._is_stopped = not self._broken_off
        nothing = RunSummary(run_id, code, "", rows=0, carried=0, outcomes={})
        summary = self._broken_off[-1] if self._broken_off else nothing
        code = code if summary.adds_up() else ExitCode.INTERNAL
        return replace(summary, exit_code=code, reason=reason)

    def _confirm(self, outlook: Outlook) -> bool:
        """Return whether the person at the terminal, if there is one, agrees; no answer is a no."""
        if not output.is_interactive():
            return True
        self._close_bar()
        output.show_lines(outlook_lines(outlook, str(self._settings.rate)), err=True)
        self._is_asking = True
        try:
            return output.confirm("Send them?")
        except click.Abort:
            output.show(err=True)
            return False
        finally:
            self._is_asking = False

    def _show_progress(self, number: int, frame: FrameType | None) -> None:  # noqa: ARG002 as `signal` calls it
        """Write how far the run has come past the stream: the signal may have come in the middle of its write.

        One that is full gets nothing: the run would stand still until somebody reads it.
        """
        below = "" if self._bar is None else "\n"
        with suppress(OSError):
            if select.select([], [2], [], 0)[1]:
                os.write(2, f"{below}cdr-importer: {_fields_line(self.progress())}\n".encode())

    def _receipt(self, receipt: Receipt) -> None:
        if receipt.state in self._counts:
            self._counts[receipt.state] += 1
        if self._bar is not None:
            self._bar.set_postfix(self._counts, refresh=False)
            self._bar.update()

    def _advance(self, task: str, unit: str, count: int, total: int | None = None) -> None:
        if total is not None:
            self._close_bar()
        if self._shows_progress and self._bar is None and total != 0:
            # No bar where calls are counted: at 80 columns it would push the counts off the line.
            layout = (
                None if total is None else "{desc}: {n_fmt}/{total_fmt}{unit} [{elapsed}<{remaining}{postfix}]"
            )
            from tqdm import tqdm

            self._bar = tqdm(
                desc=task, unit=f" {unit}", total=total, file=sys.stderr, dynamic_ncols=True, bar_format=layout
            )
        if self._bar is not None:
            self._bar.update(count)

    def _close_bar(self) -> None:
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _fields_line(fields: Mapping[str, object]) -> str:
    words = []
    for name, text in ((name, str(value)) for name, value in fields.items()):
        is_word = text.isprintable() and not set(text) & set(' "')
        words.append(f"{name}={text if is_word else json.dumps(text)}")
    return " ".join(words)


def outlook_lines(outlook: Outlook, rate: str) -> list[str]:
    """Return the calls about to be sent as lines that fit 80 columns."""
    lines = [
        f"About to notify {counted(outlook.calls, 'call')} to Zoho, from",
        f"{outlook.first} to {outlook.last} GMT.",
        f"At {rate} this takes {lasting(outlook.seconds)}.",
        "Each may open a window on its agent's screen.",
    ]
    if 0 < outlook.from_earlier < outlook.calls:
        lines.append(f"Among them: {counted(outlook.from_earlier, 'call')} that earlier runs left pending.")
    lines += (part for line in outlook.examples() for part in output.wrapped(line, "      "))
    if outlook.left_pending:
        lines.append(f"Left pending, because of --limit: {counted(outlook.left_pending, 'call')}.")
    return lines
