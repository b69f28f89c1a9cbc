"""The options of a run on the command line: which command offers which, and how `--help` lists them."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

import click

from importer.cli.output import note_unused_proxy
from importer.settings.loading import load_settings
from importer.settings.options import OPTIONS

_Callback = TypeVar("_Callback", bound=Callable[..., int | None])


class _Named(click.Path):
    """A path that is named: the empty text of an unset variable of the shell would be the working folder.

    Where it ``takes_addresses`` it may be that of a file elsewhere.
    """

    takes_addresses = False

    def convert(
        self, value: str | os.PathLike[str], param: click.Parameter | None, ctx: click.Context | None
    ) -> str | bytes | os.PathLike[str]:
        if not value:
            self.fail("the name is empty: is a variable not set?")
        if str(value).startswith(("\u2013", "\u2014")) and not os.path.lexists(value):
            # Without a word the run would go on without the option, perhaps without --limit.
            self.fail(f"a text program made one long dash of two: write --{str(value)[1:]}")
        if self.takes_addresses and "://" in str(value):
            from importer.files.remote import path_of  # loaded where it is needed

            return path_of(str(value))
        return super().convert(value, param, ctx)


PATH = _Named(readable=False, path_type=Path)  # what cannot be read ends as README says
EXPORT = _Named(readable=False, path_type=Path)
EXPORT.takes_addresses = True
FILES = click.argument("files", nargs=-1, required=True, type=EXPORT, metavar="FILE...")

MOST_NEEDED = ("timezone", "country", "agents", "limit", "sandbox")
INPUT = ("format", "encoding", "delimiter", "date-order", "sheet")
CALLS = ("trust-country", "default-agent-number", "default-zohouser", "site", "since", "until", "states")
POLICIES = (
    *("cancelled-ring-seconds", "cancelled-unknown", "voicemail", "our-side"),
    *("extensions", "trunks", "outside-prefix"),
)
PREPARING = ("timezone", "country", "agents", *CALLS, *POLICIES)
PACE = (
    *("rate", "burst", "batch-size", "workers", "order"),
    *("max-errors", "max-uncertain", "max-runtime", "on-uncertain"),
)
LEDGER = ("ledger", "lock-wait", "yes")
STAGING = ("retry-refused", "init-ledger")
RESULTS = ("results", "quiet", "verbose", "json")
ROWS = ("rejects", "all-rows")
ACCOUNT = ("data-center", "accounts-url", "api-url", "proxy", "ca-bundle")
WATCHING = ("log", "metrics", "ping-url")
ALARMS = ("min-rows", "max-age", "max-gap")

IMPORT = (
    *(*INPUT, "jobs", "scheduler", *PREPARING, *ALARMS, *LEDGER, *STAGING, *PACE, "limit"),
    *(*RESULTS, "keep-results", *ROWS, *ACCOUNT, *WATCHING, "done", "sandbox"),
)
CHECK = (*INPUT, "jobs", "scheduler", *PREPARING, *ALARMS, *RESULTS, *ROWS, "ledger", "log")
DELIVER = (*PACE, "limit", *LEDGER, *RESULTS, "keep-results", *ACCOUNT, *WATCHING)

HEADINGS = {
    "Needed by everybody": MOST_NEEDED,
    "Input": (*INPUT, "jobs", "scheduler"),
    "Calls": CALLS,
    "Policies": POLICIES,
    "Sending": PACE,
    "Ledger": (*LEDGER, *STAGING),
    "Output": ("results", "keep-results", "rejects", "done", "all-rows", "quiet", "verbose", "json"),
    "Account": ACCOUNT,
    "Watching": (*WATCHING, *ALARMS),
}
"""Heading of `--help` -> the options below it; all others are under Options."""
MOST_WITHOUT_HEADINGS = 12


def options(*names: str) -> Callable[[_Callback], _Callback]:
    """Return a decorator that adds --config and these settings, as texts that `importer.settings` reads."""

    def add(callback: _Callback) -> _Callback:
        for name in reversed(names):
            option = OPTIONS[name]
            decorate = click.option(
                *(f"--{name}", *([f"-{option.letter}"] if option.letter else [])),
                metavar=option.metavar or None,
                help=option.help,
                is_flag=not option.metavar,
                multiple=option.is_repeatable,
                default=None,
                callback=lambda _context, _option, value: value or None,
            )
            callback = decorate(callback)
        about_config = "TOML file with options. Default: in the user's config folder."
        return click.option("--config", metavar="FILE", help=about_config)(callback)

    return add


class Command(click.Command):
    """A command that gets all options of a run as ``settings``, also the ones that it does not offer.

    The options given on the command line are the context's ``obj``.
    """

    def invoke(self, ctx: click.Context) -> object:
        """Read all settings and call the command."""
        known = {"config", *(name.replace("-", "_") for name in OPTIONS)}
        names = [each.name for each in self.params if isinstance(each, click.Option) and each.name in known]
        ctx.obj = {name: value for name in names if (value := ctx.params.pop(name)) is not None}
        ctx.params["settings"] = settings = load_settings(ctx.obj, os.environ)
        if "proxy" in names and "results" not in names:  # a run says it at its end
            note_unused_proxy(settings)
        return super().invoke(ctx)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each heading with the options that the command has of it; few options need none."""
        records = {
            str(each.name).replace("_", "-"): each.get_help_record(ctx)
            for each in self.get_params(ctx)
            if isinstance(each, click.Option)
        }
        if len(records) <= MOST_WITHOUT_HEADINGS:
            super().format_options(ctx, formatter)
            return
        named = {name for names in HEADINGS.values() for name in names}
        others = tuple(name for name in records if name not in named)
        for heading, names in {**HEADINGS, "Options": others}.items():
            rows = [record for name in names if (record := records.get(name))]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)
