"""The commands of the first day: `init`, `auth`, `users` and `sandbox`."""

import json
import os
import signal
import time
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path

import click

from importer.cli.options import ACCOUNT, PATH, Command, options
from importer.cli.output import aligned, ask, ask_secret, is_interactive, show, show_json, show_lines, wrapped
from importer.errors import ExitCode, ImporterError, UsageError
from importer.private_files import write_new
from importer.records import ACT, OK, Check
from importer.settings import (
    Credentials,
    Settings,
    config_path,
    load_credentials,
    load_settings,
    save_credentials,
)
from schemas.vocabulary import counted

CONFIG_OPTIONS: Mapping[str, tuple[str, str]] = {
    "data-center": ("Zoho's data centre of the account: us eu in au jp ca cn sa uk ae.", "us"),
    "timezone": ("Whose clock the telephone system writes: an IANA zone.", "Europe/London"),
    "country": ("Region of national numbers; without it only numbers with + are understood.", "GB"),
    "extensions": ("Which names are our telephones, where the exports cannot prove it.", "2[0-9]{3}"),
    "trunks": ("Which names are lines to the outside, where the exports cannot prove it.", "40001|40002"),
    "outside-prefix": ("What is dialled for a line and stands in front of numbers in the exports.", "9"),
    "agents": ("Who is which extension: CSV extension,number,zohouser,email,name.", "agents.csv"),
    "site": ("A name for this telephone system when several feed one account; never change it.", "head-office"),
    "rate": ("Never more requests than this in any rolling period.", "60/minute"),
    "ledger": ("The record of every call and its fate: on a local disk, in your backups.", "ledger.sqlite"),
    "accounts-url": ("Another base for the sign-in.", "https://accounts.example"),
    "api-url": ("Another base for the API.", "https://api.example"),
    "proxy": ("The proxy to use; the environment's are ignored.", "http://proxy.example:3128"),
    "ca-bundle": ("Further trusted certificates, PEM.", "/etc/ssl/own.pem"),
}
"""Option -> what it is for, and an example for the commented line where it is not given."""
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
def init_command(config: str | None, **flags: str | None) -> None:
    """Ask what does not change from run to run, write the config file and make the ledger.

    Without a terminal nothing is asked: what no option gives stays a comment in the file. The agents file and the
    ledger are made if they are not there.
    """
    from importer.ledger import create_ledger
    from importer.pipeline import check_apart, gmt_text

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
    steps = (
        f"auth login{named}",
        f"auth check{named}",
        f"users{named}" + (" --write agents-to-complete.csv" if settings.agents else ""),
        f"check{named} EXPORT.csv",
        f"import{named} --limit 1 EXPORT.csv",
    )
    show_lines((*made, "", "Next:"))
    show_lines(f"  {number}. cdr-importer {step}" for number, step in enumerate(steps, start=1))


def config_text(given: Mapping[str, str]) -> str:
    """Return the config file: given options as they are, the others as examples in comments."""
    lines = [
        "# Options of cdr-importer that do not change from run to run. A flag or an environment variable",
        "# outranks what stands here. Secrets do not belong here: `cdr-importer auth login` keeps them apart.",
    ]
    for option, (meaning, example) in CONFIG_OPTIONS.items():
        value = given.get(option)
        line = f"{option} = {json.dumps(value or example, ensure_ascii=False)}"
        lines += ["", f"# {meaning}", line if value else f"# {line}"]
    return "\n".join((*lines, ""))


def _asked(given: dict[str, str]) -> dict[str, str]:
    """Ask for the values that no option gave, and return all values."""
    usual = Settings()
    defaults = {"data-center": "us", "rate": str(usual.rate), "ledger": str(usual.ledger)}
    # The zone of this machine is a proposal: it is never used without an answer.
    target = str(_ZONE_LINK.resolve()) if _ZONE_LINK.is_symlink() else ""
    _, found, zone = target.partition("/zoneinfo/")
    if found:
        defaults["timezone"] = zone
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


@click.group("auth")
def auth_group() -> None:
    """Sign in to Zoho, and see that calls would be taken."""


@auth_group.command("login", cls=Command, short_help="Turn a code of Zoho's console into a sign-in that lasts.")
@options(*ACCOUNT)
@click.option("--keyring", is_flag=True, help="Keep the secrets in the system's keyring.")
def login_command(settings: Settings, keyring: bool) -> None:
    """Ask for client id, client secret and a code of Zoho's API console, and keep the sign-in they give.

    Client id and secret are taken from the environment (CDR_IMPORTER_CLIENT_ID and CDR_IMPORTER_CLIENT_SECRET) if
    both are set. Without a terminal the lines of standard input answer the questions.
    """
    from importer.client import TokenTransport
    from importer.pipeline.sending import sign_in_of
    from importer.setup.sign_in import SCOPE, console_url, exchange_code

    accounts_url = sign_in_of(settings, Credentials("", "", "")).accounts_url
    steps = (
        f"1. Open {console_url(accounts_url)} as a user with PhoneBridge rights,",
        "   choose Self Client (or ADD CLIENT, Self Client, CREATE).",
        "   The tab Client Secret shows id and secret.",
        "2. Tab Generate Code; scope:",
        f"     {SCOPE}",
        "   Time Duration 10 minutes, any description, CREATE;",
        "   choose your portal, CREATE.",
        "3. Copy the code and paste it below before the ten minutes are over.",
    )
    show_lines(steps, err=True)
    names = ("CDR_IMPORTER_CLIENT_ID", "CDR_IMPORTER_CLIENT_SECRET")
    client_id, client_secret = (os.environ.get(name, "") for name in names)
    if not (client_id and client_secret):
        client_id, client_secret = ask_secret("Client id"), ask_secret("Client secret")
    code = ask_secret("Code")
    sign_in = sign_in_of(settings, Credentials(client_id, client_secret, ""))
    refresh_token = exchange_code(code, sign_in, TokenTransport(sign_in), time.time)
    path = save_credentials(Credentials(client_id, client_secret, refresh_token), in_keyring=keyring)
    where = f"the system's keyring ({path} says so)" if keyring else str(path)
    show(f"Signed in; the secrets are in {where}.")
    show("See that calls would be taken: cdr-importer auth check")


@auth_group.command("check", cls=Command, short_help="See that calls would be taken, without sending one.")
@options(*ACCOUNT)
def auth_check_command(settings: Settings) -> None:
    """Look at token, data centre, scope and integration, without a call being notified; it costs one token."""
    from importer.setup.sign_in import account_checks, account_of

    for check in account_checks(*account_of(settings, load_credentials(os.environ), is_fresh=True)):
        show_lines(_check_lines(check))


@click.command("doctor")
@options(*ACCOUNT, "ledger", "timezone", "country", "agents", "rate", "json")
def doctor_command(**flags: str | None) -> int:
    """Look at all that a night needs, sign-in and timer too, without sending a call; ends with 0 or 78.

    Each line is ok, look (a person should) or act (the night would fail or lose its purpose), with what to do.
    """
    from importer.setup.doctor import examine

    settings: Settings | ImporterError
    try:
        settings = load_settings(flags, os.environ)
    except ImporterError as error:
        settings = error
    is_json = settings.json if isinstance(settings, Settings) else bool(flags["json"])
    checks = []
    for check in examine(settings, os.environ):
        checks.append(check)
        if not is_json:
            show_lines(_check_lines(check))
    code = ExitCode.CONFIGURATION if any(check.state == ACT for check in checks) else ExitCode.OK
    if is_json:
        show_json({"exit": int(code), "checks": [asdict(check) for check in checks]})
    return code


def _check_lines(check: Check) -> list[str]:
    """Return a check as lines that fit the terminal, what to do below what was found."""
    first = wrapped(f"{check.state:<4}  {check.name:<11}  {check.found}", " " * 19)
    return first + (wrapped(f"      {check.hint}", "      ") if check.hint and check.state != OK else [])


@click.command("users", cls=Command)
@options(*ACCOUNT, "agents")
@click.option("--write", "target", type=PATH, help="Write an agents file to complete.")
def users_command(settings: Settings, target: Path | None) -> int:
    """List PhoneBridge's users and match them to the agents file, by id, e-mail or name.

    Ends with 3 if the agents file names a user that PhoneBridge does not list: those calls would be refused.
    """
    from importer.pipeline import check_apart
    from importer.prepare.agents import AgentLine, agent_lines, agents_text
    from importer.setup.matching import match_users
    from importer.setup.sign_in import account_of

    check_apart(settings, outputs={"--write": target})
    lines = agent_lines(settings.agents, settings.encoding) if settings.agents else []
    account, tokens, _ = account_of(settings, load_credentials(os.environ), is_fresh=False)
    users = account.users(tokens.token())
    matches = match_users(users, lines)
    rows = []
    for user, theirs, by in matches:
        words = "+".join(line.extension or "?" for line in theirs) or "none"
        words += f" by {by}" if by not in ("", "zohouser") else ""
        rows.append((user.zohouser, words, user.name, user.email))
    show_lines(aligned(("user", "agent", "name", "e-mail"), rows))
    known = {user.zohouser for user in users}
    unknown = [line for line in lines if line.zohouser and line.zohouser not in known]
    for agent in unknown:
        show(f"not a user: {agent.zohouser} of extension {agent.extension or '-'}; calls would be refused")
    unmapped = sum(not theirs for _, theirs, _ in matches)
    show(f"{counted(len(users), 'user')}, {unmapped} without a line in the agents file")
    if target:
        # The lines as they stand with the ids found, then the users without a line.
        ids = {line: user.zohouser for user, theirs, _ in matches for line in theirs}
        known_lines = [line if line.zohouser else replace(line, zohouser=ids.get(line, "")) for line in lines]
        missing = [AgentLine("", "", user.zohouser, user.email, user.name) for user, own, _ in matches if not own]
        write_new(target, agents_text([*known_lines, *missing]))
        show(f"wrote {target}: complete extension and number, then name it with --agents")
    return ExitCode.PARTIAL if unknown else ExitCode.OK


@click.command("sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks one.")
@click.option("--rate-limit", metavar="N/SECONDS", help="Throttle like the API might: N requests in SECONDS.")
def sandbox_command(host: str, port: int, rate_limit: str | None) -> None:
    """Run a simulator of the PhoneBridge API and its token endpoint until interrupted.

    It validates what it gets and lists what it accepted, decoded, under /sandbox/calls.
    """
    from importer.simulator import SANDBOX_CREDENTIALS, Sandbox

    limit = None
    if rate_limit is not None:
        count, _, seconds = rate_limit.partition("/")
        try:
            limit = int(count), float(seconds)
        except ValueError as error:
            raise UsageError(f"--rate-limit: {rate_limit!r} is not N/SECONDS, such as 60/60") from error
    try:
        sandbox = Sandbox(host=host, port=port, rate_limit=limit)
    except (ValueError, OSError) as error:
        raise UsageError(f"--host/--port: cannot listen on {host} port {port}", hint=str(error)) from error
    show(f"The sandbox answers at {sandbox.base_url} (accepted calls: {sandbox.base_url}/sandbox/calls).")
    show("Point an import at it from another terminal:")
    show(f"  export CDR_IMPORTER_ACCOUNTS_URL={sandbox.base_url} CDR_IMPORTER_API_URL={sandbox.base_url}")
    show_lines(f"  export CDR_IMPORTER_{name.upper()}={secret}" for name, secret in SANDBOX_CREDENTIALS.items())
    show(f"For `auth login`, a code that is good for three minutes: {sandbox.base_url}/sandbox/code")
    show("Stop it with Ctrl-C.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sandbox.serve_forever()
    except KeyboardInterrupt:
        show("Stopped.")
    finally:
        sandbox.server_close()
