"""Options that several commands share, as click decorators; values are checked by `importer.settings`."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import click

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

FILES = click.argument("files", nargs=-1, required=True, type=click.Path(path_type=Path), metavar="FILE...")

CONFIG = (
    click.option("--config", metavar="FILE", help="TOML file with options; default: the user's config folder."),
)

READING = (
    click.option(
        "--format", metavar="NAME", help="Format name, or path to a .toml of one's own. Default: detected."
    ),
    click.option("--encoding", metavar="NAME", help="Encoding of the files, over what detection finds."),
    click.option("--delimiter", metavar="CHAR", help="Delimiter of the files (`tab` for a tab)."),
    click.option(
        "--date-order",
        type=click.Choice(["day-month", "month-day"]),
        help="What comes first in dates that a spreadsheet program wrote anew.",
    ),
    click.option("--sheet", metavar="NAME", help="Sheet of a workbook. Default: the one that a format fits."),
)


def _one_list(_context: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> str | None:
    return ",".join(values) if values else None


ZONE = (click.option("--timezone", metavar="ZONE", help="IANA zone of local times, such as Europe/London."),)

PREPARING = (
    *ZONE,
    click.option("--country", metavar="CC", help="ISO 3166 region of national numbers, such as GB."),
    click.option("--agents", metavar="FILE", help="Agents file: CSV extension,number,zohouser,email,name."),
    click.option("--default-agent-number", metavar="NUMBER", help="Agent number where nothing else answers."),
    click.option("--default-zohouser", metavar="ID", help="PhoneBridge user where nothing else answers."),
    click.option("--site", metavar="NAME", help="Namespace of call ids when several systems feed one account."),
    click.option(
        "--since", metavar="WHEN", help="Only calls that start then or later: date, date-time, 2d, yesterday."
    ),
    click.option("--until", metavar="WHEN", help="Only calls that start before then."),
    click.option("--states", metavar="LIST", help="Send only these states, separated by commas."),
    click.option(
        "--cancelled-ring-seconds",
        metavar="N",
        type=int,
        help="A call the agent gave up counts as noanswer after ringing so long. Default: 10.",
    ),
    click.option(
        "--cancelled-unknown",
        metavar="noanswer|skip",
        help="What it counts as where the export does not tell how long it rang. Default: noanswer.",
    ),
    click.option(
        "--voicemail",
        metavar="WORD",
        help="What voicemail, machine or fax counts as: noanswer, notavailable, attended. Default: noanswer.",
    ),
    click.option(
        "--our-side", metavar="WORD", help="What failures on our side count as: skip or a state. Default: skip."
    ),
    click.option(
        "--extensions", metavar="PATTERN", help="Which names are our telephones. Default: learned from the file."
    ),
    click.option(
        "--trunks", metavar="PATTERN", help="Which names are lines to the outside. Default: learned from the file."
    ),
    click.option(
        "--outside-prefix",
        metavar="DIGITS",
        multiple=True,
        callback=_one_list,
        help="Digits dialled for a line that stand in front of numbers; several with commas, or the option again.",
    ),
)

DELIVERY = (
    click.option(
        "--rate", metavar="N/PERIOD", help="At most N requests in any rolling period. Default: 60/minute."
    ),
    click.option("--batch-size", metavar="N", type=int, help="Calls claimed at once. Default: 50."),
    click.option("--workers", metavar="N", type=int, help="Requests in flight at once. Default: 1."),
    click.option("--limit", metavar="N", type=int, help="Send at most N calls now; the rest stays pending."),
    click.option("--max-errors", metavar="N[%]", help="Stop after so many refusals. Default: 20."),
    click.option(
        "--max-uncertain",
        metavar="N",
        type=int,
        help="Stop after so many calls whose answer was lost. Default: 3.",
    ),
    click.option(
        "--max-runtime", metavar="DURATION", help="Begin nothing after so long (90m, 2h, seconds); the rest waits."
    ),
    click.option(
        "--on-uncertain",
        type=click.Choice(["hold", "resend"]),
        help="What to do with a call whose answer was lost. Default: hold.",
    ),
)

STAGING = (
    click.option("--retry-refused", is_flag=True, default=None, help="Send again what the API refused before."),
    click.option(
        "-y", "--yes", is_flag=True, default=None, help="Ask nothing; old calls of a first import are meant."
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
    click.option("--rejects", metavar="PATH", help="Write rejected and refused rows verbatim, to be mended."),
    click.option("--all-rows", is_flag=True, default=None, help="Results also list the rows skipped."),
)

HOSTS = (
    click.option("--data-center", metavar="DC", help="us eu in au jp ca cn sa uk ae. Default: us."),
    click.option("--accounts-url", metavar="URL", help="Another base for the sign-in."),
    click.option("--api-url", metavar="URL", help="Another base for the API, over what the sign-in answers."),
    click.option("--proxy", metavar="URL", help="Proxy to use; the environment's are ignored."),
    click.option("--ca-bundle", metavar="FILE", help="Further trusted certificates."),
)

ALARMS = (
    click.option(
        "--min-rows", metavar="N", type=int, help="Alarm (exit 66) when all files together have fewer rows."
    ),
    click.option(
        "--max-age",
        metavar="DURATION",
        help="Alarm (exit 66) when the newest file was written longer ago (26h, 2d).",
    ),
)

MONITORING = (
    click.option("--log", metavar="FILE", help="Append a line per event; with -v also per accepted call."),
    click.option("--metrics", metavar="FILE", help="Replace this file by metrics for Prometheus, at the end."),
    click.option("--ping-url", metavar="URL", help="Tell a dead man's switch: URL/start, URL/<exit code>."),
)

SANDBOX = (
    click.option(
        "--sandbox", is_flag=True, default=None, help="Send to a simulator inside, with a throw-away ledger."
    ),
)


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
