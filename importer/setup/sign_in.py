"""The sign-in of an account: a grant code to a refresh token, and what sends requests for it."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

from importer.auth import TOKEN_PATH, SignIn, TokenSource, Transport, check_base_url, read_token_answer
from importer.client import AccountClient, Answer, TokenTransport, Trust
from importer.errors import NotPermittedError, ProtocolError
from importer.events import ignore
from importer.pipeline.sending import sign_in_of
from importer.prepare.agents import AgentLine
from importer.records import ACT, LOOK, OK, Check
from importer.settings import Credentials, Settings, is_secret
from schemas.vocabulary import counted

SCOPE = "PhoneBridge.call.log,PhoneBridge.zohoone.search"
"""Both scopes of PhoneBridge (auth-request.html); which of them lists the users is not documented."""

ACCOUNT_CHECKS = ("sign-in", "data centre", "calls", "users")


def console_url(accounts_url: str) -> str:
    """Return the API console of the data centre whose sign-in host this is.

    Only https://api-console.zoho.com stands in Zoho's pages; the others are named like their sign-in hosts.
    """
    return accounts_url.replace("//accounts.", "//api-console.", 1)


def exchange_code(code: str, sign_in: SignIn, transport: Transport, clock: Callable[[], float]) -> str:
    """Return the refresh token that a grant code stands for; the code is used up, whatever the answer.

    Source: https://www.zoho.com/accounts/protocol/oauth/self-client/authorization-code-flow.html

    Raises:
        NotPermittedError: the code or the client is refused (77). Else as `importer.auth.TokenSource.token`.
    """
    form = {
        "grant_type": "authorization_code",
        "client_id": sign_in.client_id,
        "client_secret": sign_in.client_secret,
        "code": code,
    }
    asked_at = clock()
    status, body = transport(check_base_url(sign_in.accounts_url, "--accounts-url") + TOKEN_PATH, form)
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
    settings: Settings,
    credentials: Credentials,
    *,
    is_fresh: bool,
    on_answer: Callable[[Answer], None] = ignore,
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
    account: AccountClient, tokens: TokenSource, accounts_url: str, agents: Sequence[AgentLine] = ()
) -> Iterator[Check]:
    """Yield `ACCOUNT_CHECKS` in the order in which a run needs them, without a call being notified.

    It costs one token. Raises the ImporterError of the first that fails, for which there is no line then.
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
        yield Check(ACT, "users", found, "cdr-importer users   (shows who there is), then correct the agents file")
    else:
        yield Check(OK, "users", found)
