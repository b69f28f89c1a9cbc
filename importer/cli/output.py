"""The terminal: the only module that prints or asks.

File names, cells of an export and answers of a server may hold terminal codes, line ends or letters that turn
the direction of reading. All of it is escaped here. Neither a closed stream nor a bug prints more than one line.
"""

import json
import os
import select
import shutil
import sys
import termios
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import TextIO

import click

from importer.errors import ConfigurationError, ImporterError, is_refusal
from importer.private_files import why
from importer.settings.credentials import is_secret
from importer.settings.options import Settings
from schemas.vocabulary import counted

LONGEST_LINE = 2000
NARROWEST = 6
PATIENCE_SECONDS = 10.0
GAP = "  "
BACK = "<"
"""The answer that goes back to the question before."""


def escaped(text: str) -> str:
    r"""Return text with everything that is no visible character written as Python writes it: ``\x1b``, ``\n``."""
    if text.isprintable():
        return text
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in text)


def show(text: str = "", *, err: bool = False) -> None:
    """Print one line, escaped and cut at `LONGEST_LINE`."""
    shown = escaped(text)
    click.echo(shown if len(shown) <= LONGEST_LINE else f"{shown[:LONGEST_LINE]}...", err=err)


def show_lines(lines: Iterable[str], *, err: bool = False) -> None:
    """Print lines one by one."""
    for line in lines:
        show(line, err=err)


def show_json(facts: Mapping[str, object]) -> None:
    """Print one JSON object on one line, ASCII only."""
    click.echo(json.dumps(facts))


def message_lines(message: str, hint: str = "", lines: tuple[str, ...] = ()) -> list[str]:
    """Return a message, its hint and ``lines`` escaped; at a terminal the first two fit, with paths whole."""
    shown = [escaped(f"cdr-importer: {message}"), *([escaped(f"  {hint}")] if hint else [])]
    if sys.stderr.isatty():
        shown = [part for line in shown for part in wrapped(line, "  ", is_cut=False)]
    return [*shown, *(escaped(f"    {line}") for line in lines)]


def show_message(message: str, hint: str = "", lines: tuple[str, ...] = ()) -> None:
    """Print a message on stderr, and its hint and further lines below it."""
    show_lines(message_lines(message, hint, lines), err=True)


def note_unused_proxy(settings: Settings, note: Callable[[str], object] = show_message) -> None:
    """Note that the environment's proxy is not used, where it names one and `--proxy` does not."""
    named = next((name for name in ("HTTPS_PROXY", "https_proxy") if os.environ.get(name)), "")
    if named and settings.proxy is None:
        note(f"{named} is set, but not used: a proxy is used only when --proxy names it.")


def error_text(error: BaseException) -> tuple[str, str, tuple[str, ...]]:
    """Return message, hint and lines of an error; a bug only by its place, since a value could be a secret."""
    if isinstance(error, ImporterError):
        return error.message, error.hint, error.lines
    if is_refusal(error):
        path = os.fsdecode(error.filename)
        hint = (
            "Let this user look there, name another place, or first `cd` into a folder of this user. "
            "`sudo -H` takes the user's own home, but stays in the folder."
        )
        return f"{path} cannot be looked at: {why(error, Path(path))}", hint, ()
    trace = error.__traceback__
    while trace is not None and trace.tb_next is not None:
        trace = trace.tb_next
    place = f"{trace.tb_frame.f_code.co_name}, line {trace.tb_lineno}" if trace is not None else "an unknown place"
    return (
        f"internal error: {type(error).__name__} in {place}",
        "This is a bug. The ledger is safe; report this line together with `cdr-importer --version`.",
        (),
    )


def terminal_width() -> int:
    """Return the columns of the terminal, 80 without one."""
    return max(40, shutil.get_terminal_size().columns)


def wrapped(text: str, indent: str = "", *, is_cut: bool = True) -> list[str]:
    """Return a text as lines no wider than the terminal, further lines under ``indent``; else long words whole."""
    return textwrap.wrap(
        text, terminal_width(), subsequent_indent=indent, break_on_hyphens=False, break_long_words=is_cut
    ) or [""]


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return aligned lines no wider than the terminal: the widest columns are narrowed, long cells go on below."""
    cells = [list(map(escaped, row)) for row in rows]
    lines = [list(header), *cells] if header else cells
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    room = terminal_width() - len(GAP) * (len(widths) - 1)
    while sum(widths) > room and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    if header:
        lines.insert(1, ["-" * size for size in widths])
    shown = []
    for line in lines:
        parts = [
            textwrap.wrap(cell, size, break_on_hyphens=False) for cell, size in zip(line, widths, strict=True)
        ]
        for row in zip_longest(*parts, fillvalue=""):
            shown.append(GAP.join(part.ljust(size) for part, size in zip(row, widths, strict=True)).rstrip())
    return shown


def aligned(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return aligned lines, one for each row, cut at 80 columns."""
    lines = [each for each in (header, *rows) if each]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    texts = (
        GAP.join(cell.ljust(size) for cell, size in zip(line, widths, strict=True)).rstrip() for line in lines
    )
    return [text if len(text) <= 80 else f"{text[:77]}..." for text in texts]


def is_interactive() -> bool:
    """Return whether a person at a terminal can see and answer a question."""
    return sys.stdin.isatty() and sys.stderr.isatty()


def drop_typed_ahead() -> None:
    """Drop what was typed at a terminal before a question is shown: it is no answer to it."""
    with suppress(OSError, ValueError, termios.error):
        termios.tcflush(sys.stdin, termios.TCIFLUSH)


def confirm(question: str) -> bool:
    """Return whether a person says yes to a question; raises click.Abort where the input ends."""
    drop_typed_ahead()
    return click.confirm(escaped(question), default=False, err=True)


def ask(question: str, default: str | None, check: Callable[[str], object]) -> str | None:
    """Ask for a value until ``check`` accepts it; an empty answer is the default, None without one."""
    drop_typed_ahead()
    shown = escaped(f"{question} [default: {default}]" if default else question)
    while given := str(click.prompt(shown, default=default or "", show_default=False, err=True)):
        try:
            check(given)
        except ImporterError as error:
            show_lines(wrapped(f"Error: {error.message}. {error.hint}"), err=True)
        else:
            return given
    return None


def ask_secret(question: str) -> str:
    """Return a secret, typed without an echo or the next line of input; raises ConfigurationError."""
    is_typed = sys.stdin.isatty()
    drop_typed_ahead()
    text = str(click.prompt(question, hide_input=True, err=True)) if is_typed else sys.stdin.readline()
    if not is_secret(text.strip()):
        raise ConfigurationError(
            f"{question}: nothing, or not what such a text looks like",
            hint="Copy it again, without quotes, blanks or line ends around it.",
        )
    return text.strip()


class StandardStream:
    """A standard stream that is silent once a write or flush of it has failed, so that the run goes on.

    A standard error that stays full for `PATIENCE_SECONDS`, as of a connection that hangs, gets nothing more until
    somebody reads it again: a journal or pager may only be slow. Standard output, which a pager may read, and a
    terminal, which a person may have stopped, are waited for.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self._left_out = 0

    def __getattr__(self, name: str) -> object:
        found = getattr(self._stream, name)
        return partial(self._attempt, found) if name in ("write", "flush") else found

    def _attempt(self, work: Callable[..., object], *texts: str) -> None:
        try:
            if any(texts) and self._stream.name == "<stderr>" and not self._stream.isatty():
                patience = 0.0 if self._left_out else PATIENCE_SECONDS
                if not select.select([], [self._stream], [], patience)[1]:
                    self._left_out += 1
                    return
                if self._left_out:
                    lines = counted(self._left_out, "line was", "lines were")
                    texts = (f"cdr-importer: {lines} left out here, since nobody read them\n{''.join(texts)}",)
                    self._left_out = 0
            work(*texts)
        except (OSError, ValueError):
            # Buffered text is dropped too; the interpreter would exit with 120 for it.
            with suppress(OSError, ValueError):
                nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
                os.dup2(nowhere, self._stream.fileno())
                os.close(nowhere)


def open_standard_streams() -> None:
    """Open standard descriptors that are closed and wrap the streams.

    Otherwise a ledger or a socket could get descriptor 2, and a library that writes to standard error damage it.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # takes the lowest free number, which is this one
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 a descriptor
        if hasattr(stream, "reconfigure"):
            # A letter that the terminal's encoding lacks must not silence the stream.
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, StandardStream(stream))
