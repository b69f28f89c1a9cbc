"""The command `init`: what is asked once."""

import os
import time
from pathlib import Path
from typing import Any

import click

from importer.cli.asking import answer, is_somebody_there
from importer.cli.options import CONFIG, HOSTS, LEDGER, given, options
from importer.cli.saying import say_lines
from importer.errors import ExitCode, UsageError

_QUESTIONS = {
    "data-center": "Zoho's data centre of your account (us eu in au jp ca cn sa uk ae)",
    "timezone": "Time zone of the telephone system (Europe/London)",
    "country": "Region of numbers without country code, such as GB (empty: none)",
    "agents": "Agents file (empty: none)",
    "site": "Name of this telephone system, if several feed one account (empty: none)",
    "rate": "At most so many calls",
    "ledger": "Ledger",
}
_ZONE_LINK = Path("/etc/localtime")


@click.command("init", short_help="Write the config file and make the ledger.")
@options(CONFIG, HOSTS, LEDGER)
@click.option("--timezone", metavar="ZONE", help="IANA zone of local times, such as Europe/London.")
@click.option("--country", metavar="CC", help="ISO 3166 region of national numbers, such as GB.")
@click.option("--agents", metavar="FILE", help="The agents file; made with its header if it is not there.")
@click.option("--site", metavar="NAME", help="Namespace of call ids when several systems feed one account.")
@click.option("--rate", metavar="N/PERIOD", help="At most N requests in any rolling period.")
def init_command(**flags: Any) -> int:
    """Ask what does not change from run to run, write the config file and make the ledger.

    Without a terminal nothing is asked: what no option gives stays a comment in the file.
    """
    from importer.ledger import create_ledger
    from importer.pipeline import check_apart, gmt_text
    from importer.settings import config_path, load_settings
    from importer.setup.config_file import config_text, write_new

    path = Path(flags.pop("config") or os.environ.get("CDR_IMPORTER_CONFIG") or config_path()).expanduser()
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already", hint="Edit it, or move it away and run this again.")
    told = {name.replace("_", "-"): value for name, value in given(flags).items()}
    _require_place(load_settings(told, {}).timezone)
    if is_somebody_there():
        told = _asked(told)
    told = {name: _absolute(value) if name in ("agents", "ledger") else value for name, value in told.items()}
    settings = load_settings(told, {})
    check_apart(settings, outputs={"--config": path})
    made = [f"wrote  {path}"]
    write_new(path, config_text(told))
    if settings.agents and not settings.agents.exists():
        from importer.prepare.agents import agents_text

        write_new(settings.agents, agents_text([]))
        made.append(f"wrote  {settings.agents} (the header only)")
    if settings.ledger.exists():
        made.append(f"kept   {settings.ledger}, which was there already")
    else:
        create_ledger(settings.ledger, now=gmt_text(time.time()))
        made.append(f"made   {settings.ledger}")
    named = "" if path == config_path() else f" --config {path}"
    say_lines((*made, *_next_steps(named, has_agents=settings.agents is not None)))
    return int(ExitCode.OK)


def _asked(told: dict[str, str]) -> dict[str, str]:
    """Ask for what no option gave, and return all of it."""
    from importer.settings import Settings, load_settings

    usual = Settings()
    defaults = {"data-center": "us", "timezone": _zone_here(), "rate": usual.rate, "ledger": str(usual.ledger)}
    for option, question in _QUESTIONS.items():
        if option in told:
            continue

        def check(text: str, name: str = option) -> None:
            _require_place(load_settings({name: text}, {}).timezone)

        value = answer(question, defaults.get(option), check)
        if value:
            told[option] = value
    return told


def _require_place(zone: str | None) -> None:
    """Raise UsageError for a zone without summer time: from spring to autumn its times would be an hour wrong."""
    from schemas.zones import fixed_advice, is_fixed

    if zone is not None and is_fixed(zone):
        raise UsageError(f"--timezone: {fixed_advice(zone)}", hint="Name a place of the IANA database.")


def _zone_here() -> str | None:
    """Return the zone of this machine, to be offered and never taken unasked."""
    target = str(_ZONE_LINK.resolve()) if _ZONE_LINK.is_symlink() else ""
    _, found, name = target.partition("/zoneinfo/")
    return name if found else None


def _absolute(path: str) -> str:
    """Return a path that means the same from every folder: cron starts in another one."""
    return str(Path(path).expanduser().absolute())


def _next_steps(named: str, *, has_agents: bool) -> list[str]:
    steps = [
        f"cdr-importer auth login{named}",
        f"cdr-importer auth check{named}",
        f"cdr-importer users{named}" + (" --write agents-to-complete.csv" if has_agents else ""),
        f"cdr-importer check{named} EXPORT.csv",
        f"cdr-importer import{named} --limit 1 EXPORT.csv",
    ]
    return ["", "Next:", *(f"  {number}. {step}" for number, step in enumerate(steps, start=1))]
