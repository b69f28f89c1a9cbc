"""The commands `auth`, `doctor`, `users` and `sandbox`."""

import os
import shlex
import signal
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path

import click

from importer.cli.options import ACCOUNT, PATH, Command, options
from importer.cli.output import aligned, ask_secret, escaped, show, show_json, show_lines, wrapped
from importer.errors import ConfigurationError, ExitCode, ImporterError, UsageError
from importer.private_files import write_new
from importer.records import ACT, OK, Check
from importer.settings.credentials import (
    CREDENTIALS_NAME,
    SECRETS,
    Credentials,
    credentials_path,
    load_credentials,
    save_credentials,
    system_keyring,
)
from importer.settings.loading import load_settings
from importer.settings.options import Settings, variable_of
from schemas.vocabulary import counted

auth_group = click.Group("auth", help="Sign in to Zoho, and see that calls would be taken.")


@auth_group.command("login", cls=Command, short_help="Turn a code of Zoho's console into a sign-in that lasts.")
@options(*ACCOUNT)
@click.option("--keyring", is_flag=True, help="Keep the secrets in the system's keyring.")
def login_command(settings: Settings, keyring: bool) -> None:
    """Ask for client id, client secret and a code of Zoho's API console, and keep the sign-in they give.

    Client id and secret are taken from the environment (CDR_IMPORTER_CLIENT_ID and CDR_IMPORTER_CLIENT_SECRET) if
    both are set. Without a terminal the lines of standard input answer the questions.
    """
    from importer.pipeline.sending import sign_in_of
    from importer.setup.sign_in import SCOPE, exchange_code

    if keyring:
        with system_keyring():  # whether there is one is found out before a code is used up
            pass
    accounts_url = sign_in_of(settings, Credentials("", "", "")).accounts_url
    # Only https://api-console.zoho.com stands in Zoho's pages; the others are named like their sign-in hosts.
    console_url = accounts_url.replace("//accounts.", "//api-console.", 1)
    steps = (
        f"1. Open {console_url} as a user with PhoneBridge rights,",
        "   choose Self Client (or ADD CLIENT, Self Client, CREATE).",
        "   The tab Client Secret shows id and secret.",
        "2. Tab Generate Code; scope:",
        f"     {SCOPE}",
        "   Time Duration 10 minutes, any description, CREATE;",
        "   choose your portal, CREATE.",
        "3. Copy the code and paste it below before the ten minutes are over.",
        "What you paste is not shown.",
        f"Id, secret and what the code gives are kept in {CREDENTIALS_NAME}.",
        "Runs take all three from one place: the environment, if any is there, else",
        "systemd's credentials, else that file; no option and no config file has them.",
    )
    show_lines(steps, err=True)
    client_id, client_secret = (os.environ.get(variable_of(name), "") for name in SECRETS[:2])
    if client_id and client_secret:
        show(f"Id and secret: {' and '.join(map(variable_of, SECRETS[:2]))}.", err=True)
    else:
        client_id, client_secret = ask_secret("Client id"), ask_secret("Client secret")
    _require_same_client(accounts_url, client_id)
    code = ask_secret("Code")
    sign_in = sign_in_of(settings, Credentials(client_id, client_secret, ""))
    refresh_token = exchange_code(code, sign_in)
    path = save_credentials(Credentials(client_id, client_secret, refresh_token), in_keyring=keyring)
    where = f"the system's keyring ({path} says so)" if keyring else str(path)
    show(f"Signed in; the secrets are in {where}.")
    if outranking := [name for name in map(variable_of, SECRETS) if os.environ.get(name)]:
        show(f"The environment outranks them: unset {' '.join(outranking)}")
    show("See that calls would be taken: cdr-importer auth check")


def _require_same_client(accounts_url: str, client_id: str) -> None:
    """Raise ConfigurationError where a sign-in to a simulator would replace that of another client."""
    if not accounts_url.startswith("http:") or not credentials_path().exists():  # plain http is loopback
        return
    known = ""
    with suppress(ImporterError):  # one that cannot be read may still be wanted
        known = load_credentials({}).client_id
    if known != client_id:
        fault = f"a sign-in to {accounts_url} would replace that of another client in {credentials_path()}"
        hint = "Try it in another home folder: HOME=/tmp/trial cdr-importer auth login"
        raise ConfigurationError(fault, hint=hint)


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
    from importer.pipeline.inputs import check_apart
    from importer.prepare.agents import AgentLine, agent_lines, agents_text
    from importer.setup.sign_in import account_of, match_users, with_users

    check_apart(settings, outputs={"--write": target})
    # The config may name the file that is to be written here first.
    is_there = settings.agents is not None and (settings.agents.exists() or target is None)
    lines = agent_lines(settings.agents, settings.encoding) if settings.agents and is_there else []
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
        missing = [AgentLine("", "", user.zohouser, user.email, user.name) for user, own, _ in matches if not own]
        write_new(target, agents_text([*with_users(lines, matches), *missing]))
        show(f"wrote {target}: complete extension and number, then name it with --agents")
    return ExitCode.PARTIAL if unknown else ExitCode.OK


@click.command("sandbox")
@click.option("--host", default="127.0.0.1", show_default=True, help="Loopback address to listen on.")
@click.option("--port", default=8080, show_default=True, type=click.IntRange(0, 65535), help="Port; 0 picks one.")
@click.option("--rate-limit", metavar="N/SECONDS", help="Throttle like the API might: N requests in SECONDS.")
def sandbox_command(host: str, port: int, rate_limit: str | None) -> None:
    """Run a simulator of the PhoneBridge API and its token endpoint until interrupted.

    It validates what it gets, refuses users that `users` does not list, prints a line on stderr for each request
    and lists what it accepted, decoded, under /sandbox/calls.
    """
    from importer.simulator.service import SANDBOX_CREDENTIALS, Request, Response, Sandbox, Service

    def show_answer(request: Request, answer: Response) -> None:
        content = answer.content if isinstance(answer.content, dict) else {}
        code = content.get("code") or content.get("error") or ""
        state = escaped(request.form().get("state", ""))[:12]
        show(f"{request.method:<4} {escaped(request.path)[:32]:<32} {state:<12} {answer.status} {code}", err=True)

    limit = None
    if rate_limit is not None:
        count, _, seconds = rate_limit.partition("/")
        try:
            limit = int(count), float(seconds)
        except ValueError as error:
            raise UsageError(f"--rate-limit: {rate_limit!r} is not N/SECONDS, such as 60/60") from error
    try:
        service = Service(rate_limit=limit, knows_users=True)
        sandbox = Sandbox(service, host=host, port=port, on_answer=show_answer)
    except (ValueError, OSError) as error:
        fault = f"--host/--port: cannot listen on {host} port {port}: {getattr(error, 'strerror', None) or error}"
        raise UsageError(fault, hint="Name another with --port, such as --port 8081.") from error
    url = sandbox.base_url
    # In the ledger of real runs what the sandbox took would count as notified.
    ledger = shlex.quote(str(Settings().ledger.with_name("sandbox.sqlite")))
    values = {"accounts_url": url, "api_url": url, **SANDBOX_CREDENTIALS, "ledger": ledger, "init_ledger": "true"}
    show(f"The sandbox answers at {url}")
    show(f"Accepted calls: {url}/sandbox/calls")
    show("Point an import at it from another terminal:")
    show_lines(f"  export CDR_IMPORTER_{name.upper()}={value}" for name, value in values.items())
    show(f"A code for `auth login` (three minutes): {url}/sandbox/code")
    show("Stop it with Ctrl-C.")
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        sandbox.serve_forever()
    except KeyboardInterrupt:
        show("Stopped.")
    finally:
        sandbox.server_close()
