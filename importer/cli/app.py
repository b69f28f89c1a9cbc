"""The command line: options in, one exit code out; the only package that prints or exits.

pandas, pandera and requests are imported inside the commands that need them, so that ``--help`` and the message of
a wrong option come at once.
"""

import gc
import importlib
import logging
import os
import resource
import signal
import sys
import threading
from contextlib import suppress
from difflib import get_close_matches
from pathlib import Path
from textwrap import shorten

import click

from importer.cli import output
from importer.errors import ConfigurationError, ExitCode, ending_of

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_COMMANDS = {
    "init": ("init", "Write the config file and make the ledger."),
    "auth": ("setup", "Sign in to Zoho (`login`), and see that calls would be taken (`check`)."),
    "doctor": ("setup", "Look at all that a night needs, without sending a call."),
    "users": ("setup", "List PhoneBridge's users and which lines of the agents file they are."),
    "import": ("runs", "Read exports and notify their unattended outgoing calls."),
    "check": ("runs", "Do the same up to sending, without the network."),
    "deliver": ("runs", "Send what the ledger still holds."),
    "detect": ("formats", "Say what kind of file it is and how it is understood."),
    "formats": ("formats", "List the formats, explain one, draft or test one of your own."),
    "status": ("ledger", "Count the calls of the ledger by state, or list its runs."),
    "report": ("ledger", "Write an HTML page with pictures of a run."),
    "resolve": ("ledger", "Settle uncertain calls: sent, not sent, or closed."),
    "ledger": ("ledger", "Keep the ledger: backup, purge, forget, accept-restore, accept-account."),
    "sandbox": ("setup", "Run the simulator of the API in the foreground."),
}
"""Command -> the module of `importer.cli` that has it, imported when it is used, and its line of `--help`."""


class _Commands(click.Group):
    """Commands that are imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module = importlib.import_module(f"importer.cli.{_COMMANDS[cmd_name][0]}")
        commands = (each for each in vars(module).values() if isinstance(each, click.Command))
        return next(each for each in commands if each.name == cmd_name)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Return the command that is named first; the error for an unknown one names the nearest."""
        if args[0] not in _COMMANDS and (near := get_close_matches(args[0], _COMMANDS, n=1)):
            ctx.fail(f"No such command '{args[0]}'. Did you mean '{near[0]}'?")
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, line) in _COMMANDS.items()])


def _show_version(context: click.Context, _option: click.Parameter, is_asked: bool) -> None:
    if is_asked:
        from importer import __version__

        output.show(f"cdr-importer, version {__version__}")
        context.exit()


@click.group(cls=_Commands, context_settings=CONTEXT)
@click.option(
    "--version", is_flag=True, is_eager=True, expose_value=False, callback=_show_version, help="Show the version."
)
def cli() -> None:
    """Notify the outgoing calls that nobody attended, from any telephone system's CDR export, to Zoho PhoneBridge.

    Try `cdr-importer import --sandbox FILE` first: nothing leaves this machine.
    """
    try:
        Path.home()  # below which settings and ledger stand
    except RuntimeError:
        fault = "nothing says where the home folder of this user is"
        raise ConfigurationError(fault, hint="Set HOME to a folder of this user.") from None


def _usage_text(error: click.UsageError, context: click.Context, arguments: list[str]) -> str:
    """Return what is wrong with a command line, and what to write instead."""
    command, message = context.command_path.partition(" ")[2], error.format_message()
    if isinstance(error, click.NoSuchOption):
        # Of `-limit` click names the first letter only.
        typed = next((each for each in arguments if each.startswith(error.option_name)), error.option_name)
        shown = typed.partition("=")[0]
        name = shown if len(shown) == 2 else f"--{shown.lstrip('-')}"  # -v, or -limit
        if not command:
            return f"Options stand behind the command: cdr-importer import {name} ..."
        near = get_close_matches(
            name, [each for one in context.command.params for each in one.opts], n=1, cutoff=0.8
        )
        meant = f" Did you mean {near[0]}?" if near else ""
        if "dry" in name:
            meant = " `check` tries all without sending."
        return f"'{command}' has no option {shown}.{meant}"
    if isinstance(error, click.MissingParameter) and error.param is not None:
        return f"{error.param.make_metavar(context)} is missing: name it at the end of the command."
    if message.startswith("Got unexpected extra argument"):
        return f"'{command}' does not take {shorten(message.partition('(')[2].rstrip(')'), 80)}."
    return message


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit with its code; an error that is not an ImporterError is a bug of ours (exit 70)."""
    os.umask(0o077)
    # No core file and no traceback: both hold numbers and secrets.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.excepthook = lambda _kind, error, _trace: output.show_message(*output.error_text(error))
    threading.excepthook = lambda arguments: output.show_message(
        *output.error_text(arguments.exc_value or arguments.exc_type())
    )
    output.open_standard_streams()
    # Nothing here multiplies matrices: the threads that NumPy's OpenBLAS starts for it cost 40 ms a core.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)  # asks how far a run has come, and must not end one that begins
    # Rows make no cycles, but with each of them the collector would go over all modules and formats again: a tenth
    # of the time of `check` on a million rows with CPython 3.11. To load them makes 150,000 objects.
    gc.set_threshold(200_000, 20, 100)
    code = run(arguments)
    # What is left lives until the end of the process: going over it once more costs 60 ms.
    gc.freeze()
    sys.exit(code)


def run(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    given = sys.argv[1:] if arguments is None else arguments
    # urllib3 2.8 logs addresses at DEBUG, and unreadable header lines as a warning that Python prints by itself:
    # the libraries of the network stay out of any log, however logging is set up.
    for name in ("urllib3", "requests"):
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False
    try:
        result: object = cli.main(given, prog_name="cdr-importer", standalone_mode=False)
        return int(result) if isinstance(result, int) else 0
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)  # our own help
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        message, hint = error.format_message(), ""
        if isinstance(error, click.UsageError) and error.ctx is not None:
            message = _usage_text(error, error.ctx, given)
            hint = f"Try '{error.ctx.command_path} --help' for help."
            output.show_lines([*error.ctx.get_usage().splitlines(), hint], err=True)
        elif isinstance(error, click.BadOptionUsage):
            must = "write a value behind it" if "requires" in message else "write it without a value"
            message = f"{error.option_name}: {must}."
        line = f"Error: {message}"
        output.show_lines(output.wrapped(line) if sys.stderr.isatty() else [line], err=True)
        code, reason = ExitCode.USAGE, "usage"
    except (click.Abort, KeyboardInterrupt):
        code, reason, message, hint = ExitCode.INTERRUPTED, "signal", "interrupted", ""
        if output.is_interactive():  # the question stands on the line
            output.show(err=True)
        output.show_message(message)
    except Exception as error:  # no text of a foreign exception is printed
        code, reason = ending_of(error)
        message, hint, lines = output.error_text(error)
        output.show_message(message, hint, lines)
    is_json = "--json" in given
    if variable := os.environ.get("CDR_IMPORTER_JSON"):
        from importer.settings.values import switch

        with suppress(ValueError):
            is_json |= switch(variable)
    if is_json:
        output.show_json({"exit": int(code), "reason": reason, "message": message, "hint": hint})
    return int(code)
