"""The yes of a person before anything is sent."""

from datetime import timedelta
from types import FrameType

import click

from importer.cli.saying import say, say_lines
from importer.cli.signals import Before, taken
from importer.pipeline import Outlook


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
