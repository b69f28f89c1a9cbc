"""Questions to a person: a yes before anything is sent, and the answers that set-up needs."""

import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from types import FrameType

import click

from importer.errors import ImporterError
from importer.pipeline import Outlook


def is_somebody_there() -> bool:
    """Say whether a person at a terminal can be asked and can see the question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def agreed(outlook: Outlook, rate: str) -> bool:
    """Show what is about to be sent and return whether the person wants it; no answer is a no."""
    for line in outlook_lines(outlook, rate):
        click.echo(line, err=True)
    with _leaving_on_signals():
        try:
            return click.confirm("Send them?", default=False, err=True)
        except click.Abort:
            click.echo(err=True)
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


@contextmanager
def _leaving_on_signals() -> Iterator[None]:
    """Let a signal end the question; it is still noted by whoever handles it otherwise."""
    kinds = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)
    before = {kind: signal.getsignal(kind) for kind in kinds}

    def leave(number: int, frame: FrameType | None) -> None:
        noted = before[signal.Signals(number)]
        if callable(noted):
            noted(number, frame)
        raise click.Abort

    for kind in kinds:
        signal.signal(kind, leave)
    try:
        yield
    finally:
        for kind, handler in before.items():
            signal.signal(kind, handler)


def answer(question: str, default: str | None, check: Callable[[str], object]) -> str | None:
    """Ask for a value until ``check`` takes it; an empty answer is the default, None where there is none."""

    def checked(text: str) -> str:
        try:
            if text:
                check(text)
        except ImporterError as error:
            raise click.UsageError(f"{error.message}. {error.hint}") from None
        return text

    told = click.prompt(question, default=default or "", show_default=bool(default), value_proc=checked, err=True)
    return str(told) or None


def secret(question: str) -> str:
    """Ask for a secret, which does not show; without a terminal the next line of standard input is it."""
    if sys.stdin.isatty():
        return str(click.prompt(question, hide_input=True, err=True)).strip()
    return sys.stdin.readline().strip()
