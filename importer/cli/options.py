"""Options that several commands share, and how `--help` lists them; values are checked by `importer.settings`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FILES = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")

CONFIG = (
    click.option("--config", metavar="FILE", help="TOML file with options. Default: in the user's config folder."),
)

READING = (
    click.option("--format", metavar="NAME", help="A format's name, or a .toml of your own."),
    click.option("--encoding", metavar="NAME", help="Encoding, over what detection finds."),
    click.option("--delimiter", metavar="CHAR", help="Delimiter, over what detection finds; or `tab`."),
    click.option(
        "--date-order",
        metavar="ORDER",
        help="Dates of a spreadsheet: day-month or month-day.",
    ),
    click.option("--sheet", metavar="NAME", help="Sheet of a workbook. Default: the one that fits."),
)


def _one_list(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> str | None:
    return ",".join(values) if values else None


ZONE = (click.option("--timezone", metavar="ZONE", help="IANA zone of local times, like Europe/London."),)

PREPARING = (
    *ZONE,
    click.option("--country", metavar="CC", help="ISO 3166 region of national numbers, like GB."),
    click.option("--agents", metavar="FILE", help="Agents file: CSV extension,number,zohouser,email,name."),
    click.option("--default-agent-number", metavar="NUMBER", help="Where nothing else names one."),
    click.option("--default-zohouser", metavar="ID", help="Where nothing else names one."),
    click.option("--site", metavar="NAME", help="Keeps the ids of several systems apart."),
    click.option("--since", metavar="WHEN", help="Only later calls: a date, 2d, yesterday."),
    click.option("--until", metavar="WHEN", help="Only calls that start before then."),
    click.option("--states", metavar="LIST", help="Only these, with commas. Default: all six."),
    click.option(
        "--cancelled-ring-seconds",
        metavar="N",
        type=int,
        help="A call given up counts from so many on.",
    ),
    click.option(
        "--cancelled-unknown",
        metavar="WORD",
        help="Ring time unknown: noanswer (default) or skip.",
    ),
    click.option(
        "--voicemail",
        metavar="WORD",
        help="noanswer (default), notavailable or attended.",
    ),
    click.option("--our-side", metavar="WORD", help="Our own failures: skip (default) or a state."),
    click.option("--extensions", metavar="PATTERN", help="Our telephones. Default: learned from the file."),
    click.option("--trunks", metavar="PATTERN", help="Outside lines. Default: learned from the file."),
    click.option(
        "--outside-prefix",
        metavar="DIGITS",
        multiple=True,
        callback=_one_list,
        help="Dialled for a line: 9, or 9,0 for several.",
    ),
)

DELIVERY = (
    click.option("--rate", metavar="N/PERIOD", help="Most requests in any period. Default: 60/minute."),
    click.option("--batch-size", metavar="N", type=int, help="Calls claimed at once. Default: 50."),
    click.option("--workers", metavar="N", type=int, help="Requests in flight at once. Default: 1."),
    click.option("--limit", metavar="N", type=int, help="Send at most N calls now; the rest stays pending."),
    click.option("--max-errors", metavar="N[%]", help="Stop after so many refusals. Default: 20."),
    click.option(
        "--max-uncertain",
        metavar="N",
        type=int,
        help="Stop after so many lost answers. Default: 3.",
    ),
    click.option("--max-runtime", metavar="DURATION", help="Begin nothing after so long (90m, 2h, seconds)."),
    click.option(
        "--on-uncertain",
        metavar="WORD",
        help="Calls with a lost answer: hold (default) or resend.",
    ),
)

STAGING = (
    click.option("--retry-refused", is_flag=True, default=None, help="Send again what the API refused before."),
    click.option(
        "-y", "--yes", is_flag=True, default=None, help="Ask nothing; old calls of a first import count."
    ),
    click.option("--init-ledger", is_flag=True, default=None, help="Create the ledger if it is not there."),
)

LEDGER = (click.option("--ledger", metavar="PATH", help="The ledger. Default: in the user's state folder."),)

RESULTS = (
    click.option("--results", metavar="PATH", help="The results file. Default: beside the first input."),
    click.option("-q", "--quiet", is_flag=True, default=None, help="Print nothing unless a person is needed."),
    click.option(
        "-v",
        "--verbose",
        is_flag=True,
        default=None,
        help="Print more: format and rows of each file, the rate.",
    ),
    click.option("--json", "json", is_flag=True, default=None, help="Print the summary as one JSON object."),
)

ROWS = (
    click.option("--rejects", metavar="PATH", help="Rejected and refused rows verbatim, to be mended."),
    click.option("--all-rows", is_flag=True, default=None, help="Results also list the rows skipped."),
)

HOSTS = (
    click.option("--data-center", metavar="DC", help="us eu in au jp ca cn sa uk ae. Default: us."),
    click.option("--accounts-url", metavar="URL", help="Another base for the sign-in."),
    click.option("--api-url", metavar="URL", help="Another base for the API."),
    click.option("--proxy", metavar="URL", help="Proxy to use; the environment's are ignored."),
    click.option("--ca-bundle", metavar="FILE", help="Further trusted certificates."),
)

ALARMS = (
    click.option("--min-rows", metavar="N", type=int, help="Exit 66 when all files together have fewer rows."),
    click.option(
        "--max-age",
        metavar="DURATION",
        help="Exit 66 when the newest file is older (26h, 2d).",
    ),
)

MONITORING = (
    click.option("--log", metavar="FILE", help="Append a line per event; with -v per call too."),
    click.option("--metrics", metavar="FILE", help="Write metrics for Prometheus at the end."),
    click.option("--ping-url", metavar="URL", help="Dead man's switch: URL/start, URL/<exit code>."),
)

SANDBOX = (
    click.option(
        "--sandbox", is_flag=True, default=None, help="Send to a simulator inside; nothing leaves this machine."
    ),
)


HEADINGS = {
    "Needed by everybody": ("timezone", "country", "agents", "limit", "sandbox"),
    "Input": ("format", "encoding", "delimiter", "date_order", "sheet"),
    "Calls": ("default_agent_number", "default_zohouser", "site", "since", "until", "states"),
    "Policies": (
        *("cancelled_ring_seconds", "cancelled_unknown", "voicemail", "our_side"),
        *("extensions", "trunks", "outside_prefix"),
    ),
    "Sending": (
        *("rate", "batch_size", "workers", "max_errors", "max_uncertain", "max_runtime"),
        *("on_uncertain", "retry_refused", "yes", "init_ledger"),
    ),
    "Output": ("results", "rejects", "all_rows", "ledger", "quiet", "verbose", "json"),
    "Account": ("data_center", "accounts_url", "api_url", "proxy", "ca_bundle"),
    "Watching": ("log", "metrics", "ping_url", "min_rows", "max_age"),
}
"""Heading of `--help` -> the options below it; all others stand under Options."""


class Command(click.Command):
    """A command with so many options that its help lists them under headings."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write each heading with the options that the command has of it."""
        records = {
            each.name: each.get_help_record(ctx) for each in self.get_params(ctx) if isinstance(each, click.Option)
        }
        named = {name for names in HEADINGS.values() for name in names}
        others = [name for name in records if name not in named]
        for heading, names in {**HEADINGS, "Options": others}.items():
            rows = [record for name in names if (record := records.get(name))]
            if rows:
                with formatter.section(heading):
                    formatter.write_dl(rows)


def options(*groups: tuple[Decorator, ...]) -> Decorator:
    """Return a decorator that adds all options of the groups, in their order."""

    def add(command: Callable[..., Any]) -> Callable[..., Any]:
        for option in reversed([option for group in groups for option in group]):
            command = option(command)
        return command

    return add


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options that were given on the command line."""
    return {name: value for name, value in flags.items() if value is not None}
