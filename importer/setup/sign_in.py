"""The account: a grant code to a refresh token, what sends requests, and its users beside the agents file."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from importer.auth import TOKEN_PATH, SignIn, TokenSource, read_token_answer
from importer.client.api import AccountClient, TokenTransport, User
from importer.client.connection import Answer, Trust
from importer.errors import NotPermittedError, ProtocolError
from importer.formats.cells import caseless
from importer.pipeline.sending import sign_in_of
from importer.prepare.agents import AgentLine
from importer.records import ACT, LOOK, OK, Check, ignore
from importer.settings.credentials import Credentials, is_secret
from importer.settings.options import Settings
from schemas.vocabulary import counted

SCOPE = "PhoneBridge.call.log,PhoneBridge.zohoone.search"
"""Both scopes of PhoneBridge (auth-request.html); which of them lists the users is not documented."""

ACCOUNT_CHECKS = ("sign-in", "data centre", "calls", "users")

Match = tuple[User, tuple[AgentLine, ...], str]
"""A user, the lines of the agents file that are theirs, and the column that they share, "" without any line."""


def exchange_code(code: str, sign_in: SignIn) -> str:
    """Return the refresh token that a grant code stands for; the code is used up, whatever the answer.

    Source: https://www.zoho.com/accounts/protocol/oauth/self-client/authorization-code-flow.html
    Raises NotPermittedError where code or client is refused (77), else as `importer.auth.TokenSource.token`.
    """
    form = {
        "grant_type": "authorization_code",
        "client_id": sign_in.credentials.client_id,
        "client_secret": sign_in.credentials.client_secret,
        "code": code,
    }
    asked_at = time.time()
    status, body = TokenTransport(sign_in)(sign_in.accounts_url + TOKEN_PATH, form)
    try:
        read_token_answer(status, body, sign_in, asked_at=asked_at)
    except NotPermittedError as error:
        if "invalid_code" in error.message:
            raise NotPermittedError(
                "the code is refused: used before, older than the minutes chosen, or of another data centre",
                hint="Make a new code in the console and paste it at once; see also --data-center.",
            ) from None
        raise
    token = json.loads(body.decode("utf-8")).get("refresh_token")
    if token is None:
        raise NotPermittedError(
            "the answer holds no refresh token",
            hint="Make the code with a Self Client, as described above; other clients need offline access.",
        )
    if not isinstance(token, str) or not is_secret(token):
        raise ProtocolError("the answer holds a refresh token that cannot be one", hint="Check --accounts-url.")
    return token


def account_of(
    settings: Settings, credentials: Credentials, *, is_fresh: bool, on_answer: Callable[[Answer], None] = ignore
) -> tuple[AccountClient, TokenSource, str]:
    """Return the account's client, its tokens (a fresh one past the cache, where wanted) and where it signs in."""
    sign_in = sign_in_of(settings, credentials)
    if is_fresh:
        sign_in = replace(sign_in, cache_path=None)
    tokens = TokenSource(
        sign_in, transport=TokenTransport(sign_in, on_answer=on_answer), clock=time.time, sleep=time.sleep
    )
    return AccountClient(sign_in.proxy, trust=Trust(sign_in.ca_bundle)), tokens, sign_in.accounts_url


def account_checks(
    account: AccountClient,
    tokens: TokenSource,
    accounts_url: str,
    agents: Sequence[AgentLine] = (),
    words: str = "",
) -> Iterator[Check]:
    """Yield `ACCOUNT_CHECKS` in order, without a call, for one token; raises the error of the first that fails.

    ``words`` name the config in the commands to run.
    """
    token = tokens.token()
    yield Check(OK, "sign-in", f"{accounts_url} gives a token for this client")
    yield Check(OK, "data centre", f"the API is at {token.api_url}")
    account.take_no_call(token)
    yield Check(OK, "calls", "scope and integration are right (tried without any field)")
    try:
        known = {user.zohouser for user in account.users(token)}
    except NotPermittedError as error:
        yield Check(LOOK, "users", f"{error.message}; calls can be sent all the same", error.hint)
        return
    found = f"{counted(len(known), 'PhoneBridge user')}; `cdr-importer users` lists them"
    if unknown := sorted({line.zohouser for line in agents if line.zohouser} - known):
        found = f"PhoneBridge has no {', '.join(unknown[:5])} of the agents file: calls would be refused"
        hint = f"cdr-importer users{words}   (shows who there is), then correct the agents file"
        yield Check(ACT, "users", found, hint)
    else:
        yield Check(OK, "users", found)


def match_users(users: Sequence[User], lines: Sequence[AgentLine]) -> list[Match]:
    """Return every user with their lines: those with their id, else with their e-mail, else with their name.

    The service lists id, e-mail and name only; a name may also be an extension or number of the agents file. The
    id in a line, if there is one, outranks every likeness.
    """
    matches: list[Match] = []
    for user in users:
        match: Match = (user, (), "")
        free = [line for line in lines if line.zohouser in ("", user.zohouser)]
        for key in ("zohouser", "email", "name", "extension", "number"):
            wanted = caseless(getattr(user, key, user.name))
            found = tuple(line for line in free if wanted and caseless(getattr(line, key)) == wanted)
            if found:
                match = (user, found, key)
                break
        matches.append(match)
    return matches


def with_users(lines: Sequence[AgentLine], matches: Sequence[Match]) -> list[AgentLine]:
    """Return the lines of the agents file with the ids of the users that they match, where they have none."""
    ids = {line: user.zohouser for user, theirs, _ in matches for line in theirs}
    return [line if line.zohouser else replace(line, zohouser=ids.get(line, "")) for line in lines]
