"""Every option of a run with its name, rule and help, and all of them as one frozen value."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TypeVar

import platformdirs

from importer.settings import values
from importer.settings.values import Limit, Rate
from schemas.vocabulary import State

APPLICATION = "cdr-importer"
ENVIRONMENT_PREFIX = "CDR_IMPORTER_"
EVERY_FORMAT = "*"
"""Key of the policies that stand in the TOML file outside the tables of single formats."""

_Value = TypeVar("_Value")


@dataclass(frozen=True, slots=True)
class Option:
    """How an option is given and read.

    ``read`` returns the value of a text or TOML value and raises ValueError with the rule. ``metavar`` is empty
    for a switch; ``letter`` is its short form.
    """

    read: Callable[[object], object]
    metavar: str
    help: str
    letter: str = ""
    is_repeatable: bool = False


_OUTSIDE_PREFIX = Option(
    values.outside_prefixes, "DIGITS", "Dialled for a line: 9, or 9,0 for several.", is_repeatable=True
)


def _option(
    default: _Value, read: Callable[[object], _Value], metavar: str, help: str, *, repr: bool = True
) -> _Value:
    return field(default=default, repr=repr, metadata={"option": Option(read, metavar, help)})


def _switch(help: str, letter: str = "") -> bool:
    return field(default=False, metadata={"option": Option(values.switch, "", help, letter)})


@dataclass(frozen=True, kw_only=True)
class PolicyChoices:
    """The policies of one source, for rows that can be read in two ways; None where the source has none.

    ``cancelled_ring_seconds``: a call that the agent gave up while it rang counts as ``noanswer`` from so many
    seconds on, else it is skipped. ``cancelled_unknown``: its state where the export has no ring time.
    ``voicemail``: the state of a call that the system itself names voicemail, machine or fax. ``our_side``: the
    state of failures on our own side. ``outside_prefix``: the digits dialled for a line, which the system leaves
    in front of a number. ``extensions`` and ``trunks``: patterns of the names of our telephones and of lines to
    the outside, which outrank the proof in the file; "" for none.
    """

    cancelled_ring_seconds: int | None = _option(
        None, values.whole(0, 3600), "N", "A call given up counts from so many on."
    )
    cancelled_unknown: str | None = _option(
        None, values.one_of("noanswer", "skip"), "WORD", "Ring time unknown: noanswer (default) or skip."
    )
    voicemail: str | None = _option(
        None,
        values.one_of("noanswer", "notavailable", "attended"),
        "WORD",
        "noanswer (default), notavailable or attended.",
    )
    our_side: str | None = _option(
        None, values.one_of("skip", *State), "WORD", "Our own failures: skip (default) or a state."
    )
    outside_prefix: tuple[str, ...] | None = field(default=None, metadata={"option": _OUTSIDE_PREFIX})
    extensions: str | None = _option(
        None, values.pattern, "PATTERN", "Our telephones. Default: learned from the file."
    )
    trunks: str | None = _option(None, values.pattern, "PATTERN", "Outside lines. Default: learned from the file.")


@dataclass(frozen=True, kw_only=True)
class Settings(PolicyChoices):
    """Every option of a run, checked by `load_settings`; the README's table has the meaning of each.

    ``max_runtime``, ``keep_results``, ``max_age`` and ``max_gap`` are in seconds; ``since`` and ``until`` are for
    `parse_moment`; ``accounts_url`` and ``api_url`` are bases without a slash at the end, None for those of
    ``data_center`` in `DATA_CENTERS`. The policies are the options of this run; ``policies`` are the
    ones in the TOML file ``config``, by format and for `EVERY_FORMAT`.
    """

    format: str | None = _option(None, values.line, "NAME", "A format's name, or a .toml of your own.")
    encoding: str | None = _option(None, values.encoding, "NAME", "Encoding, over what detection finds.")
    delimiter: str | None = _option(
        None, values.delimiter, "CHAR", "Delimiter, over what detection finds; or `tab`."
    )
    date_order: str | None = _option(
        None, values.one_of("day-month", "month-day"), "ORDER", "Dates of a spreadsheet: day-month or month-day."
    )
    sheet: str | None = _option(None, values.line, "NAME", "Sheet of a workbook. Default: the one that fits.")
    jobs: int | None = _option(None, values.whole(1, 256), "N", "Processes that read files. Default: cores.")
    scheduler: str | None = _option(
        None, values.scheduler, "ADDRESS", "A Dask cluster that reads them: tcp://HOST:PORT."
    )
    timezone: str | None = _option(None, values.zone, "ZONE", "IANA zone of local times, like Europe/London.")
    country: str | None = _option(None, values.region, "CC", "ISO 3166 region of national numbers, like GB.")
    trust_country: bool = _switch("Take --country as right, whatever the numbers say.")
    agents: Path | None = _option(
        None, values.location, "FILE", "Agents file: CSV extension,number,zohouser,email,name."
    )
    default_agent_number: str | None = _option(
        None, values.agent_number, "NUMBER", "The agent's, where nothing else names one.", repr=False
    )
    default_zohouser: str | None = _option(None, values.line, "ID", "The user, where nothing else names one.")
    site: str = _option("", values.site, "NAME", "Keeps the ids of several systems apart; never change it.")
    since: str | None = _option(None, values.moment, "WHEN", "Only later calls: a date, 2d, yesterday.")
    until: str | None = _option(None, values.moment, "WHEN", "Only calls that start before then.")
    states: frozenset[State] = _option(
        frozenset(State), values.states, "LIST", "Only these, with commas. Default: all six."
    )
    rate: Rate = _option(
        Rate(60, 60.0), Rate.parse, "N/PERIOD", "Most requests in any period. Default: 60/minute."
    )
    burst: bool = _switch("Send a period's calls at once, then wait. Default: evenly.")
    batch_size: int = _option(50, values.whole(1, 10_000), "N", "Calls claimed at once. Default: 50.")
    workers: int = _option(1, values.whole(1, 64), "N", "Requests in flight at once. Default: 1.")
    limit: int | None = _option(None, values.whole(1), "N", "Send at most N calls now; the rest stays pending.")
    order: str = _option(
        "newest", values.one_of("newest", "oldest"), "WORD", "What goes first: newest (default) or oldest."
    )
    max_errors: Limit = _option(Limit(20, None), Limit.parse, "N[%]", "Stop after so many refusals. Default: 20.")
    max_uncertain: int = _option(3, values.whole(1), "N", "Stop after so many lost answers. Default: 3.")
    max_runtime: float | None = _option(
        None, values.duration, "DURATION", "Begin nothing after so long (90m, 2h, seconds)."
    )
    lock_wait: float | None = _option(
        None, values.duration, "DURATION", "Wait so long for the run that holds the ledger."
    )
    on_uncertain: str = _option(
        "hold", values.one_of("hold", "resend"), "WORD", "Calls with a lost answer: hold (default) or resend."
    )
    retry_refused: bool = _switch("Send again what the API refused before.")
    yes: bool = _switch("Ask nothing; old calls of a first import count.", "y")
    init_ledger: bool = _switch("Create the ledger if it is not there.")
    sandbox: bool = _switch("Send to a simulator inside; nothing leaves this machine.")
    ledger: Path = field(
        default_factory=lambda: platformdirs.user_state_path(APPLICATION, appauthor=False) / "ledger.sqlite",
        metadata={
            "option": Option(
                values.location, "PATH", "The ledger. Default: in the user's state folder; `check`: none."
            )
        },
    )
    results: Path | None = _option(
        None, values.location, "PATH", "The results file. Default: beside the input, else here."
    )
    keep_results: float | None = _option(
        None, values.retention, "DURATION", "Delete results of earlier runs that are older (90d)."
    )
    rejects: Path | None = _option(
        None, values.location, "PATH", "Rejected and refused rows verbatim, to be mended."
    )
    done: Path | None = _option(None, values.location, "DIR", "Move files there of which nothing is open.")
    all_rows: bool = _switch("Results also list the rows skipped.")
    quiet: bool = _switch("Print nothing unless a person is needed.", "q")
    verbose: bool = _switch("Print more: format and rows of each file, the rate.", "v")
    json: bool = _switch("Print the summary as one JSON object.")
    data_center: str = _option("us", values.data_center, "DC", "us eu in au jp ca cn sa uk ae. Default: us.")
    accounts_url: str | None = _option(None, values.base_url, "URL", "Another base for the sign-in.")
    api_url: str | None = _option(None, values.base_url, "URL", "Another base for the API.")
    proxy: str | None = _option(
        None, values.proxy_url, "URL", "Proxy to use; the environment's are ignored.", repr=False
    )
    ca_bundle: Path | None = _option(None, values.location, "FILE", "Further trusted certificates.")
    log: Path | None = _option(None, values.location, "FILE", "Append a line per event; with -v per call too.")
    metrics: Path | None = _option(None, values.location, "FILE", "Write metrics for Prometheus at the end.")
    ping_url: str | None = _option(
        None, values.ping_url, "URL", "Dead man's switch: URL/start, URL/<exit code>.", repr=False
    )
    min_rows: Limit | None = _option(
        None, Limit.parse, "N[%]", "Exit 66 for fewer rows, or less than N% of the usual."
    )
    max_gap: float | None = _option(
        None, values.long_duration, "DURATION", "Exit 66 when no row came for longer (20h)."
    )
    max_age: float | None = _option(
        None, values.long_duration, "DURATION", "Exit 66 when the newest file is older (26h, 2d)."
    )
    policies: Mapping[str, PolicyChoices] = field(default_factory=dict)
    config: Path | None = None

    def in_force(self) -> dict[str, object]:
        """Return all options as in a TOML file, except the ones that may hold a secret or a number."""
        kept: dict[str, object] = {}
        for each in fields(self):
            value = getattr(self, each.name)
            if each.repr and each.name != "config" and value is not None:
                value = (value.count or str(value)) if isinstance(value, Limit) else value
                kept[each.name.replace("_", "-")] = str(value) if isinstance(value, Path | Rate) else value
        policies = {
            name: {policy: value for policy in POLICIES if (value := getattr(choices, policy)) is not None}
            for name, choices in self.policies.items()
        }
        return {**kept, "states": sorted(self.states), "policies": policies}


POLICIES = tuple(each.name for each in fields(PolicyChoices))
"""The fields of the policies."""
OPTIONS: Mapping[str, Option] = {
    each.name.replace("_", "-"): each.metadata["option"] for each in fields(Settings) if each.metadata
}
"""Every option by its name as on the command line without ``--`` and in the TOML file."""


def variable_of(option: str) -> str:
    """Return the environment variable of the option or secret."""
    return ENVIRONMENT_PREFIX + option.replace("-", "_").upper()
