"""The command `init`: the config file, the ledger and the agents file, asked for or proposed by an export."""

import json
import os
import shlex
import textwrap
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import astuple, replace
from pathlib import Path

import click

from importer.cli.explain import row_lines
from importer.cli.options import ACCOUNT, PATH, options
from importer.cli.output import BACK, ask, confirm, is_interactive, show, show_lines, show_message, table, wrapped
from importer.cli.questions import describe
from importer.errors import ConfigurationError, ImporterError, UsageError
from importer.formats.catalogue import load_catalogue
from importer.formats.detection import UnknownFormatError, detect
from importer.ledger.schema import create_ledger
from importer.pipeline.inputs import check_apart
from importer.pipeline.run import OLD_DAYS, gmt_text
from importer.prepare.agents import AGENT_COLUMNS, agents_text
from importer.private_files import write_new
from importer.settings.credentials import load_credentials
from importer.settings.loading import config_path, config_words, load_settings
from importer.settings.options import OPTIONS, Settings, variable_of
from importer.setup.proposal import Seen, seen_in
from importer.setup.sign_in import account_of, match_users, with_users
from schemas.zones import fixed_advice, is_fixed

YES = ("y", "yes")

_EXAMPLES = """
    data-center=us timezone=Europe/London country=GB extensions=2[0-9]{3} trunks=40001|40002 outside-prefix=9
    agents=agents.csv site=head-office rate=60/minute ledger=/srv/ledger.sqlite accounts-url=https://accounts.example
    api-url=https://api.example proxy=http://proxy.example:3128 ca-bundle=/etc/ssl/own.pem format=asterisk-csv
    encoding=cp1252 delimiter=; sheet=CDR date-order=day-month jobs=2 scheduler=tcp://hub:8786
    default-agent-number=+442079460123 default-zohouser=20068510101 since=30d until=yesterday limit=1000
    max-runtime=6h lock-wait=1h keep-results=90d
    results=/srv/results.csv rejects=/srv/rejects.csv done=/srv/cdr/done log=/var/log/cdr-importer/cdr-importer.log
    metrics=/srv/cdr.prom ping-url=https://hc-ping.com/your-uuid min-rows=40% max-gap=80h max-age=26h
    cancelled-ring-seconds=10 cancelled-unknown=noanswer voicemail=noanswer our-side=skip
"""
"""Examples for the commented lines of the config file, in its order; other options follow with their default."""
_QUESTIONS = {
    "data-center": "Your account's data centre: us eu in au jp ca cn sa uk ae",
    "format": "Format",
    "timezone": "Time zone, such as Europe/London",
    "country": "Region of numbers without country code, such as GB (empty: none)",
    "outside-prefix": "Dialled for a line",
    "agents": "Agents file, such as agents.csv (empty: none)",
    "default-agent-number": "Number to stand in for agents without one (empty: none)",
    "site": "Name of this telephone system, if several feed one account (empty: none)",
    "rate": "At most so many calls",
    "ledger": "Ledger",
}
_ONLY_SEEN = ("format", "outside-prefix", "default-agent-number")
"""Asked only where an export shows one, or an agent without a number."""


@click.command("init")
@options(*ACCOUNT, "ledger", "timezone", "country", "agents", "site", "rate")
@click.option("--from", "export", type=PATH, metavar="EXPORT", help="Propose what an export of yours shows.")
def init_command(config: str | None, export: Path | None, **flags: str | None) -> None:
    """Ask what does not change from run to run, write the config file and make the ledger.

    Without a terminal nothing is asked: what no option gives stays a comment in the file. With --from the file is
    only printed then, with what the export proves and by what. At a terminal an EXPORT that no format fits is
    described first: you say which column is which and what its words mean; its format goes among your own.
    """
    path = Path(config or os.environ.get("CDR_IMPORTER_CONFIG") or config_path()).expanduser()
    given = {name.replace("_", "-"): value for name, value in flags.items() if value is not None}
    taken = [
        name for name in ("accounts-url", "api-url") if name not in given and os.environ.get(variable_of(name))
    ]
    given |= {name: os.environ[variable_of(name)] for name in taken}
    settings, seen, is_described = _alone(given), None, False
    if export:
        try:
            seen = seen_in(export, settings)
        except UnknownFormatError:
            if not is_interactive():
                raise
            show(f"wrote  {describe(export, settings)}", err=True)
            is_described, seen = True, seen_in(export, settings)
            # Another export of the system is found by its columns, as this one is.
            seen = replace(seen, proved={name: value for name, value in seen.proved.items() if name != "format"})
            if os.path.lexists(path):
                show(f"Next: cdr-importer check{config_words(path)} {shlex.quote(str(export))}")
                return
    if not is_interactive() and seen:
        show_lines(config_text({**seen.proved, **given}, seen).splitlines())
        drafted = f"Agents file, to be completed:\n{_agents_text(seen, given)}"
        show_lines(f"# {line}" for line in drafted.splitlines())
        return
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already", hint="Edit it, or move it away and run this again.")
    if is_interactive():
        if not is_described:  # which says so
            show("Type < to go back to the question before.", err=True)
        given, seen = _asked(given, export, seen)
    made = [f"took   {name} from {variable_of(name)}" for name in taken] + _made(path, given, seen)
    if export and is_described:
        catalogue, settings = load_catalogue(), _alone(given)
        if found := detect(export, [*catalogue.formats.values()], settings):
            made += row_lines(found, settings, catalogue)
    show_lines((*made, "", *_next_steps(config_words(path), shlex.quote(str(export or "EXPORT.csv")), seen)))


def _made(path: Path, given: dict[str, str], seen: Seen | None) -> list[str]:
    """Write the config file and, where they are not there, agents file and ledger; return what was made."""
    for name in {"agents", "ledger"} & given.keys():
        # cron starts in another folder.
        given[name] = str(Path(given[name]).expanduser().absolute())
    settings = _alone(given)
    check_apart(settings, outputs={"--config": path})
    made = [f"wrote  {path}"]
    if settings.agents and not settings.agents.exists():
        if not is_interactive():
            raise UsageError(f"--agents {settings.agents} is not there", hint="Correct the path, or leave it out.")
        write_new(settings.agents, _agents_text(seen, given))
        made.append(f"wrote  {settings.agents}, to be completed first")
    if settings.ledger.exists():
        made.append(f"kept   {settings.ledger}, which was there already")
    else:
        create_ledger(settings.ledger, now=gmt_text(time.time()))
        made.append(f"made   {settings.ledger}")
    write_new(path, config_text(given, seen), with_folder=True)  # last: with it there, `init` is not run again
    return made


def _next_steps(named: str, export: str, seen: Seen | None) -> list[str]:
    steps = (
        *([f"import{named} --sandbox --rate 20/second {export}"] if seen else ()),
        f"auth login{named}",
        f"users{named} --write agents-to-complete.csv",
        f"check{named} {export}",
        f"import{named} --limit 1 {export}",
        f"doctor{named}",
    )
    lines = (f"  {number}. cdr-importer {step}" for number, step in enumerate(steps, start=1))
    first = seen.first if seen else ""
    is_old = first < gmt_text(time.time() - OLD_DAYS * 86_400)  # also where nobody knows
    since = f"--since {first[:10] or 'DATE'}"
    advice = f"Calls older than {OLD_DAYS} days go at first only with {since}, or --yes."
    return ["Next, first a trial that sends nothing:" if seen else "Next:", *lines, *([advice] if is_old else [])]


def config_text(given: Mapping[str, str], seen: Seen | None) -> str:
    """Return the config file: given options as they are, the others as examples in comments; all explained."""
    lines = [
        "# Options of cdr-importer that do not change from run to run. A flag or an environment variable",
        "# outranks what stands here. Secrets do not belong here: `cdr-importer auth login` keeps them apart.",
    ]
    examples = dict(word.split("=", 1) for word in _EXAMPLES.split())
    usual = Settings().in_force() | examples
    for option in dict.fromkeys((*examples, *OPTIONS)):
        example, value = usual.get(option) or True, given.get(option)
        lines += ["", f"# {OPTIONS[option].help}"]
        if seen and option in seen.evidence:
            lines += (f"# {line}" for line in textwrap.wrap(seen.evidence[option], 96))
            example = "..."  # another site's would look like what was seen
        lines.append(f"{'' if value else '# '}{option} = {json.dumps(value or example, ensure_ascii=False)}")
    return "\n".join((*lines, ""))


def _agents_text(seen: Seen | None, given: Mapping[str, str]) -> str:
    """Return the agents file that an export drafts, matched with PhoneBridge's users once there is a sign-in."""
    lines = seen.agents if seen else ()
    if not lines:
        return agents_text(())
    try:
        credentials = load_credentials(os.environ)
    except ConfigurationError:  # not signed in yet: `users` is among the next steps
        return agents_text(lines, is_draft=True)
    try:
        account, tokens, _ = account_of(load_settings(given, {}), credentials, is_fresh=False)
        matches = match_users(account.users(tokens.token()), lines)
    except ImporterError as error:
        matches = []
        show_message(f"the agents are not matched with PhoneBridge's users: {error.message}")
    return agents_text(with_users(lines, matches), is_draft=True)


def _asked(given: dict[str, str], export: Path | None, seen: Seen | None) -> tuple[dict[str, str], Seen | None]:
    """Ask for the values that no option gave; `<` goes back to the question before. Return all values."""
    usual = Settings()
    defaults = {"data-center": "us", "rate": str(usual.rate), "ledger": str(usual.ledger)}
    names = [name for name in _QUESTIONS if name not in given]
    asked: list[str] = []
    if seen and ";" in seen.evidence["extensions"]:  # the file names some
        show_lines(wrapped(f"  telephones and trunks: {seen.evidence['extensions']}", "  "), err=True)
    while len(asked) < len(names):
        option = names[len(asked)]
        proved = seen.proved.get(option, "") if seen else ""
        lacks = option == "default-agent-number" and seen and not all(line.number for line in seen.agents)
        if option in _ONLY_SEEN and not (proved or lacks):
            names.remove(option)
            continue
        if seen and option in seen.evidence:
            show_lines(wrapped(f"  {option}: {seen.evidence[option]}", "  "), err=True)
        if option == "agents" and seen and seen.agents:
            show("  agents that the export names; a name that is new below makes a file of them:", err=True)
            show_lines(table(AGENT_COLUMNS, map(astuple, seen.agents)), err=True)
        value = _answer(option, defaults.get(option), proved)
        if value == BACK:
            if asked:
                given.pop(asked.pop(), None)
            continue
        if option == "agents" and value and not _is_meant(Path(value).expanduser()):
            continue
        if value:
            given[option] = value
        try:
            if export and option == "timezone":  # whose numbers they are hangs on it
                seen = seen_in(export, _alone(given))
        except ImporterError as error:
            given.pop(option, None)
            show_lines(wrapped(error.message, "  "), err=True)
            continue
        asked.append(option)
    return given, seen


def _answer(option: str, default: str | None, proved: str) -> str | None:
    """Ask one question; what an export proves is taken only by a yes."""

    def check(text: str) -> None:
        is_yes = text.lower() in YES
        if is_yes and not proved:
            raise UsageError(
                f"'{text}' answers no question with a value", hint="Type the value, or only press Enter."
            )
        if text != BACK and not is_yes:
            settings = _alone({option: text})
            if settings.format:
                load_catalogue().pick(settings.format)
            if option != "ledger":
                return
            ledger = settings.ledger
            with suppress(PermissionError):  # of a folder above that cannot be looked at
                folder = next(each for each in ledger.absolute().parents if each.exists())
                if ledger.is_file() or (not ledger.exists() and os.access(folder, os.W_OK)):
                    return
            fault = f"no ledger can be made at {ledger}"
            raise UsageError(fault, hint="Name a file in a folder where you may write.")

    question = f"Take {option} = {proved}? y, another value, or Enter for none" if proved else _QUESTIONS[option]
    value = ask(question, None if proved else default, check)
    return proved if proved and value and value.lower() in YES else value


def _is_meant(agents: Path) -> bool:
    """Return whether the agents file is there, or can be made, and is to be by a yes."""
    if agents.exists():
        return True
    if not os.access(agents.parent, os.W_OK):
        fault = f"{agents} is not there, nor a folder for it in which you may write: put it there first."
        show_lines(wrapped(fault, "  ", is_cut=False), err=True)
        return False
    return confirm(f"{agents} is not there. Make it, to be completed?")


def _alone(given: Mapping[str, str]) -> Settings:
    """Return the options given without those of a config file, which is of another site.

    Raises UsageError for a zone without summer time: from spring to autumn its times would be an hour wrong.
    """
    settings = load_settings(given, {}, with_file=False)
    if settings.timezone is not None and is_fixed(settings.timezone):
        advice = fixed_advice(settings.timezone)
        raise UsageError(f"--timezone: {advice}", hint="Name a place of the IANA database.")
    return settings
