"""The commands of the first day: `init`, `auth` and `users`."""

import os
import time
from pathlib import Path

import click

from importer.cli.options import ACCOUNT, Command, options
from importer.cli.output import aligned, ask, ask_secret, is_interactive, show, show_lines
from importer.errors import ConfigurationError, ExitCode, UsageError
from importer.settings import (
    Credentials,
    Settings,
    config_path,
    is_secret,
    load_credentials,
    load_settings,
    save_credentials,
)

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


@click.command("init")
@options(*ACCOUNT, "ledger", "timezone", "country", "agents", "site", "rate")
def init_command(config: str | None, **flags: str | None) -> int:
    """Ask what does not change from run to run, write the config file and make the ledger.

    Without a terminal nothing is asked: what no option gives stays a comment in the file. The agents file and the
    ledger are made if they are not there.
    """
    from importer.ledger import create_ledger
    from importer.pipeline import check_apart, gmt_text
    from importer.setup.config_file import config_text, write_new

    path = Path(config or os.environ.get("CDR_IMPORTER_CONFIG") or config_path()).expanduser()
    if os.path.lexists(path):
        raise UsageError(f"{path} is there already", hint="Edit it, or move it away and run this again.")
    given = {name.replace("_", "-"): value for name, value in flags.items() if value is not None}
    _require_place(load_settings(given, {}).timezone)
    if is_interactive():
        given = _asked(given)
    for name in {"agents", "ledger"} & given.keys():
        # cron starts in another folder.
        given[name] = str(Path(given[name]).expanduser().absolute())
    settings = load_settings(given, {})
    check_apart(settings, outputs={"--config": path})
    made = [f"wrote  {path}"]
    write_new(path, config_text(given))
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
    show_lines((*made, *_next_steps(named, has_agents=settings.agents is not None)))
    return int(ExitCode.OK)


def _asked(given: dict[str, str]) -> dict[str, str]:
    """Ask for the values that no option gave, and return all values."""
    usual = Settings()
    defaults = {
        "data-center": "us",
        "timezone": _zone_here(),
        "rate": str(usual.rate),
        "ledger": str(usual.ledger),
    }
    for option, question in _QUESTIONS.items():
        if option in given:
            continue

        def check(text: str, name: str = option) -> None:
            _require_place(load_settings({name: text}, {}).timezone)

        value = ask(question, defaults.get(option), check)
        if value:
            given[option] = value
    return given


def _require_place(zone: str | None) -> None:
    """Raise UsageError for a zone without summer time: from spring to autumn its times would be an hour wrong."""
    from schemas.zones import fixed_advice, is_fixed

    if zone is not None and is_fixed(zone):
        raise UsageError(f"--timezone: {fixed_advice(zone)}", hint="Name a place of the IANA database.")


def _zone_here() -> str | None:
    """Return the zone of this machine as a proposal; it is never used without an answer."""
    target = str(_ZONE_LINK.resolve()) if _ZONE_LINK.is_symlink() else ""
    _, found, name = target.partition("/zoneinfo/")
    return name if found else None


def _next_steps(named: str, *, has_agents: bool) -> list[str]:
    steps = [
        f"cdr-importer auth login{named}",
        f"cdr-importer auth check{named}",
        f"cdr-importer users{named}" + (" --write agents-to-complete.csv" if has_agents else ""),
        f"cdr-importer check{named} EXPORT.csv",
        f"cdr-importer import{named} --limit 1 EXPORT.csv",
    ]
    return ["", "Next:", *(f"  {number}. {step}" for number, step in enumerate(steps, start=1))]


@click.group("auth")
def auth_group() -> None:
    """Sign in to Zoho, and see that calls would be taken."""


@auth_group.command("login", cls=Command, short_help="Turn a code of Zoho's console into a sign-in that lasts.")
@options(*ACCOUNT)
@click.option("--keyring", is_flag=True, help="Keep the secrets in the system's keyring.")
def login_command(settings: Settings, keyring: bool) -> int:
    """Ask for client id, client secret and a code of Zoho's API console, and keep the sign-in they give.

    Client id and secret are taken from the environment (CDR_IMPORTER_CLIENT_ID and CDR_IMPORTER_CLIENT_SECRET) if
    both are set. Without a terminal the lines of standard input answer the questions.
    """
    from importer.client import TokenTransport
    from importer.pipeline import sign_in_of
    from importer.setup.sign_in import exchange_code

    unsigned = sign_in_of(settings, Credentials("", "", ""))
    show_lines(_console_steps(unsigned.accounts_url), err=True)
    names = ("CDR_IMPORTER_CLIENT_ID", "CDR_IMPORTER_CLIENT_SECRET")
    client_id, client_secret = (os.environ.get(name, "") for name in names)
    if not (client_id and client_secret):
        client_id, client_secret = _secret_text("Client id"), _secret_text("Client secret")
    code = _secret_text("Code")
    sign_in = sign_in_of(settings, Credentials(client_id, client_secret, ""))
    refresh_token = exchange_code(code, sign_in, TokenTransport(sign_in), time.time)
    path = save_credentials(Credentials(client_id, client_secret, refresh_token), in_keyring=keyring)
    where = f"the system's keyring ({path} says so)" if keyring else str(path)
    show(f"Signed in; the secrets are in {where}.")
    show("See that calls would be taken: cdr-importer auth check")
    return int(ExitCode.OK)


def _console_steps(accounts_url: str) -> list[str]:
    from importer.setup.sign_in import SCOPE, console_url

    return [
        f"1. Open {console_url(accounts_url)} as a user with PhoneBridge rights,",
        "   choose Self Client (or ADD CLIENT, Self Client, CREATE).",
        "   The tab Client Secret shows id and secret.",
        "2. Tab Generate Code; scope:",
        f"     {SCOPE}",
        "   Time Duration 10 minutes, any description, CREATE;",
        "   choose your portal, CREATE.",
        "3. Copy the code and paste it below before the ten minutes are over.",
    ]


def _secret_text(question: str) -> str:
    text = ask_secret(question)
    if not is_secret(text):
        raise ConfigurationError(
            f"{question}: nothing, or not what such a text looks like",
            hint="Copy it again, without quotes, blanks or line ends around it.",
        )
    return text


@auth_group.command("check", cls=Command, short_help="See that calls would be taken, without sending one.")
@options(*ACCOUNT)
def auth_check_command(settings: Settings) -> int:
    """Look at token, data centre, scope and integration, without a call being notified; it costs one token."""
    from importer.setup.sign_in import account_of, look_at_account

    account, tokens, accounts_url = account_of(settings, load_credentials(os.environ), is_fresh=True)
    show_lines(look_at_account(tokens, account, accounts_url))
    return int(ExitCode.OK)


@click.command("users", cls=Command)
@options(*ACCOUNT, "agents")
@click.option("--write", "target", type=click.Path(path_type=Path), help="Write an agents file to complete.")
def users_command(settings: Settings, target: Path | None) -> int:
    """List PhoneBridge's users and match them to the agents file, by id, e-mail or name.

    Ends with 3 if the agents file names a user that PhoneBridge does not list: those calls would be refused.
    """
    from importer.pipeline import check_apart
    from importer.prepare.agents import agent_lines, agents_text
    from importer.setup.config_file import write_new
    from importer.setup.matching import completed_agents, match_users, unknown_zohousers
    from importer.setup.sign_in import account_of

    check_apart(settings, outputs={"--write": target})
    lines = agent_lines(settings.agents, settings.encoding) if settings.agents else []
    account, tokens, _ = account_of(settings, load_credentials(os.environ), is_fresh=False)
    users = account.users(tokens.token())
    matches = match_users(users, lines)
    rows = []
    for match in matches:
        words = "+".join(line.extension or "?" for line in match.lines) or "none"
        words += f" by {match.by}" if match.by not in ("", "zohouser") else ""
        rows.append((match.user.zohouser, words, match.user.name, match.user.email))
    show_lines(aligned(("user", "agent", "name", "e-mail"), rows))
    for agent in (unknown := unknown_zohousers(users, lines)):
        show(f"not a user: {agent.zohouser} of extension {agent.extension or '-'}; calls would be refused")
    unmapped = sum(not match.lines for match in matches)
    show(f"{len(users)} users, {unmapped} without a line in the agents file")
    if target:
        write_new(target, agents_text(completed_agents(matches, lines)))
        show(f"wrote {target}: complete extension and number, then name it with --agents")
    return int(ExitCode.PARTIAL if unknown else ExitCode.OK)
