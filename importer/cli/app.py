"""The command line: options in, one exit code out; the only package that prints or exits.

Everything that costs (pandas, pandera, requests) is imported inside the command that needs it, so that
``--help`` and a wrong option answer at once.
"""

import os
import resource
import sys
import threading
from typing import Any

import click

from importer import __version__
from importer.cli.output import complain, complain_of_usage, hush_libraries, make_streams_last, place_of
from importer.errors import ExitCode, ImporterError

CONTEXT = {"help_option_names": ["-h", "--help"], "max_content_width": 100}

_COMMANDS = {
    "init": ("importer.cli.setup", "init_command"),
    "auth": ("importer.cli.setup", "auth_group"),
    "users": ("importer.cli.setup", "users_command"),
    "import": ("importer.cli.runs", "import_command"),
    "check": ("importer.cli.runs", "check_command"),
    "deliver": ("importer.cli.runs", "deliver_command"),
    "detect": ("importer.cli.formats", "detect_command"),
    "formats": ("importer.cli.formats", "formats_group"),
    "status": ("importer.cli.ledger", "status_command"),
    "report": ("importer.cli.report", "report_command"),
    "resolve": ("importer.cli.ledger", "resolve_command"),
    "ledger": ("importer.cli.ledger", "ledger_group"),
    "sandbox": ("importer.cli.sandbox", "sandbox_command"),
}
"""Command -> module and function, imported when it is used."""


class _Commands(click.Group):
    """Commands that are imported one at a time."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 click's signature
        return list(_COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        if cmd_name not in _COMMANDS:
            return None
        module, name = _COMMANDS[cmd_name]
        command = getattr(__import__(module, fromlist=[name]), name)
        assert isinstance(command, click.Command)  # noqa: S101 a table of our own
        return command


@click.group(cls=_Commands, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="cdr-importer")
def cli() -> None:
    """Notify the outgoing calls that nobody attended, from any telephone system's CDR export, to Zoho PhoneBridge.

    Try `cdr-importer import --sandbox FILE` first: nothing leaves this machine.
    """


def main(arguments: list[str] | None = None) -> None:
    """Run the program and exit with its code; anything that is not expected is a bug of ours (exit 70)."""
    os.umask(0o077)
    # No core file and no traceback: both hold numbers and secrets.
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    sys.excepthook = lambda _kind, error, _trace: complain(*place_of(error))
    threading.excepthook = lambda arguments: complain(*place_of(arguments.exc_value or arguments.exc_type()))
    make_streams_last()
    sys.exit(run(arguments))


def run(arguments: list[str] | None = None) -> int:
    """Run the program and return its exit code."""
    hush_libraries()
    try:
        result: Any = cli.main(arguments, prog_name="cdr-importer", standalone_mode=False)
        return int(result or 0)
    except ImporterError as error:
        complain(error.message, error.hint, error.lines)
        return int(error.exit_code)
    except click.exceptions.NoArgsIsHelpError as error:
        click.echo(error.format_message(), err=True)  # our own help
        return int(ExitCode.USAGE)
    except click.ClickException as error:
        complain_of_usage(error)
        return int(ExitCode.USAGE)
    except (click.Abort, KeyboardInterrupt):
        complain("interrupted")
        return int(ExitCode.INTERRUPTED)
    except Exception as error:  # the last resort: no text of a foreign exception is printed
        complain(*place_of(error))
        return int(ExitCode.INTERNAL)
