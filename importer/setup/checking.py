"""Whether calls would be taken: token, data centre, scope and integration, without a call being notified."""

import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

from importer.auth import Token, TokenSource
from importer.client import AccountClient, Route, TokenTransport
from importer.errors import NotPermittedError
from importer.pipeline import sign_in_of
from importer.settings import Credentials, Settings


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``is_good`` None where it is good to know only."""

    subject: str
    is_good: bool | None
    words: str


def account_of(
    settings: Settings, credentials: Credentials, *, is_fresh: bool
) -> tuple[AccountClient, TokenSource, str]:
    """Return the account's client, its tokens (a fresh one past the cache, where wanted) and where it signs in."""
    sign_in = sign_in_of(settings, credentials)
    if is_fresh:
        sign_in = replace(sign_in, cache_path=None)
    tokens = TokenSource(sign_in, transport=TokenTransport(sign_in), clock=time.time, sleep=time.sleep)
    return AccountClient(Route(sign_in.proxy, sign_in.ca_bundle)), tokens, sign_in.accounts_url


def look_at_account(tokens: TokenSource, account: AccountClient, accounts_url: str) -> Iterator[Finding]:
    """Yield what is in order, in the order a run needs it.

    Raises ImporterError for the first thing that is not, with what to do.
    """
    token = tokens.token()
    yield Finding("sign-in", True, f"{accounts_url} gives a token for this client")
    yield Finding("data centre", True, f"the API is at {token.api_url}")
    account.take_no_call(token)
    yield Finding("calls", True, "scope and integration are right (tried without any field)")
    yield _users(account, token)


def _users(account: AccountClient, token: Token) -> Finding:
    try:
        count = len(account.users(token))
    except NotPermittedError as error:
        return Finding("users", None, f"{error.message}; calls can be sent all the same")
    return Finding("users", None, f"{count} PhoneBridge users; `cdr-importer users` lists them")
