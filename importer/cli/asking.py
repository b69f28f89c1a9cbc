"""Questions to a person at a terminal, and to standard input where there is none."""

import sys
from collections.abc import Callable

import click

from importer.errors import ImporterError


def is_somebody_there() -> bool:
    """Say whether a person at a terminal can be asked and can see the question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


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
