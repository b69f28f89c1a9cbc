"""Whether calls would be taken: token, data centre, scope and integration, without a call being notified."""

from collections.abc import Iterator
from dataclasses import dataclass

from importer.auth import Token, TokenSource
from importer.client import AccountClient
from importer.errors import NotPermittedError


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; ``is_good`` None where it is good to know only."""

    subject: str
    is_good: bool | None
    words: str


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
