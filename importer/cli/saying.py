"""The border at which text of others is shown: the only module that prints, and what it does to be safe there.

File names, cells of an export and answers of a server may hold terminal codes, line ends or letters that turn
the direction of reading: whoever looks at a screen or a mail of cron must not be told something by them.
"""

import json
import logging
from collections.abc import Iterable, Mapping

import click

LONGEST_LINE = 2000


def escaped(text: str) -> str:
    r"""Return text with everything that is no visible character written as Python writes it: ``\x1b``, ``\n``."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def say(text: str = "", *, err: bool = False) -> None:
    """Print one line, whatever is in it."""
    click.echo(_bounded(text), err=err)


def say_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print lines one by one."""
    for line in lines:
        say(line, err=err)


def say_json(facts: Mapping[str, object]) -> None:
    """Print one JSON object on one line, ASCII only."""
    click.echo(json.dumps(facts))


def complain(message: str, hint: str = "", lines: tuple[str, ...] = ()) -> None:
    """Print on stderr what is wrong, and below it what to do, with what needs lines of its own."""
    say(f"cdr-importer: {message}", err=True)
    if hint:
        say(f"  {hint}", err=True)
    for line in lines:
        say(f"    {line}", err=True)


def complain_of_usage(error: click.ClickException) -> None:
    """Print a wrong option as click does."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    if context is not None:
        click.echo(context.get_usage(), err=True)
        say(f"Try '{context.command_path} --help' for help.", err=True)
    say(f"Error: {error.format_message()}", err=True)


def place_of(error: BaseException) -> tuple[str, str]:
    """Return as message and hint where a bug showed itself, without any value: it could be a number or secret."""
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}" if trace is not None else "an unknown place"
    return (
        f"internal error: {type(error).__name__} in {place}",
        "This is a bug. The ledger is safe; report this line together with `cdr-importer --version`.",
    )


def hush_libraries() -> None:
    """Keep the libraries of the network out of any log, however logging is set up.

    urllib3 2.8 logs addresses at DEBUG and, as a warning that Python prints by itself, header lines that it could
    not read, as they came.
    """
    for name in ("urllib3", "requests"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False


def _bounded(text: str) -> str:
    shown = escaped(text)
    return shown if len(shown) <= LONGEST_LINE else f"{shown[:LONGEST_LINE]}..."
