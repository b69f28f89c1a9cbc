"""The commands under `auth`: sign in, and see that calls would be taken."""

import os
import time
from typing import Any

import click

from importer.cli.asking import secret
from importer.cli.options import CONFIG, HOSTS, given, options
from importer.cli.saying import say, say_lines
from importer.errors import ConfigurationError, ExitCode


@click.group("auth", short_help="Sign in to Zoho (`login`), and see that calls would be taken (`check`).")
def auth_group() -> None:
    """Sign in to Zoho, and see that calls would be taken."""


@auth_group.command("login", short_help="Turn a code of Zoho's console into a sign-in that lasts.")
@options(CONFIG, HOSTS)
@click.option("--keyring", is_flag=True, help="Keep the secrets in the system's keyring.")
def login_command(keyring: bool, **flags: Any) -> int:
    """Ask for client id, client secret and a code of Zoho's API console, and keep the sign-in they give.

    Client id and secret are taken from the environment (CDR_IMPORTER_CLIENT_ID and CDR_IMPORTER_CLIENT_SECRET) if
    both are set. Without a terminal the lines of standard input answer the questions.
    """
    from importer.client import TokenTransport
    from importer.pipeline import sign_in_of
    from importer.settings import Credentials, load_settings, save_credentials
    from importer.setup.grant import exchange_code

    settings = load_settings(given(flags), os.environ)
    unsigned = sign_in_of(settings, Credentials("", "", ""))
    say_lines(_console_steps(unsigned.accounts_url), err=True)
    client_id, client_secret = _client()
    code = _secret_text("Code")
    sign_in = sign_in_of(settings, Credentials(client_id, client_secret, ""))
    refresh_token = exchange_code(code, sign_in, TokenTransport(sign_in), time.time)
    path = save_credentials(Credentials(client_id, client_secret, refresh_token), in_keyring=keyring)
    where = f"the system's keyring ({path} says so)" if keyring else str(path)
    say(f"Signed in; the secrets are in {where}.")
    say("See that calls would be taken: cdr-importer auth check")
    return int(ExitCode.OK)


def _console_steps(accounts_url: str) -> list[str]:
    from importer.setup.grant import SCOPE, console_url

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


def _client() -> tuple[str, str]:
    names = ("CDR_IMPORTER_CLIENT_ID", "CDR_IMPORTER_CLIENT_SECRET")
    client_id, client_secret = (os.environ.get(name, "") for name in names)
    if client_id and client_secret:
        return client_id, client_secret
    return _secret_text("Client id"), _secret_text("Client secret")


def _secret_text(question: str) -> str:
    from importer.settings import is_secret

    text = secret(question)
    if not is_secret(text):
        raise ConfigurationError(
            f"{question}: nothing, or not what such a text looks like",
            hint="Copy it again, without quotes, blanks or line ends around it.",
        )
    return text


@auth_group.command("check", short_help="See that calls would be taken, without sending one.")
@options(CONFIG, HOSTS)
def check_command(**flags: Any) -> int:
    """Look at token, data centre, scope and integration, without a call being notified; it costs one token."""
    from importer.settings import load_settings
    from importer.setup.checking import look_at_account

    account, tokens, accounts_url = account_of(load_settings(given(flags), os.environ), is_fresh=True)
    marks = {True: "ok", False: "no", None: "-"}
    for finding in look_at_account(tokens, account, accounts_url):
        say(f"{marks[finding.is_good]:<3} {finding.subject:<12} {finding.words}")
    return int(ExitCode.OK)


def account_of(settings: Any, *, is_fresh: bool) -> tuple[Any, Any, str]:
    """Return the account's client, its tokens (a fresh one past the cache, where wanted) and where it signs in."""
    from dataclasses import replace

    from importer.auth import TokenSource
    from importer.client import AccountClient, Route, TokenTransport
    from importer.pipeline import sign_in_of
    from importer.settings import load_credentials

    sign_in = sign_in_of(settings, load_credentials(os.environ))
    if is_fresh:
        sign_in = replace(sign_in, cache_path=None)
    tokens = TokenSource(sign_in, transport=TokenTransport(sign_in), clock=time.time, sleep=time.sleep)
    return AccountClient(Route(sign_in.proxy, sign_in.ca_bundle)), tokens, sign_in.accounts_url
