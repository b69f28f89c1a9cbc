"""What an account says of itself without a call being notified: its users, and whether calls would be taken."""

import json
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from importer.auth import Token
from importer.client.classify import Judgement, Reaction, classify, judge_failure
from importer.client.connection import Answer, Limits, Line, Route, SendFailure, Trust
from importer.client.token_header import ZohoToken
from importer.errors import (
    ConfigurationError,
    ExitCode,
    ImporterError,
    NotPermittedError,
    ProtocolError,
    TryLaterError,
    UnavailableError,
)

CALLNOTIFY_PATH = "/phonebridge/v3/callnotify"
USERS_PATH = "/phonebridge/v3/users"
USERS_PER_PAGE = 200
"""A page of so many stays below the bound on an answer; the service allows 1,000 (zoho-user-list.html)."""
MOST_PAGES = 500

_KINDS: Mapping[ExitCode, type[ImporterError]] = {
    ExitCode.NOT_PERMITTED: NotPermittedError,
    ExitCode.CONFIGURATION: ConfigurationError,
    ExitCode.TRY_LATER: TryLaterError,
    ExitCode.UNAVAILABLE: UnavailableError,
}
_ADVICE = {
    "token_refused": "Sign in again with `cdr-importer auth login`.",
    "scope_missing": "Sign in again with `cdr-importer auth login` and the scopes it names.",
    "integration_not_enabled": "Enable the PhoneBridge integration in Zoho for this account.",
    "provider_not_registered": "Check the client id: it must be that of a registered PhoneBridge provider.",
    "other_provider_enabled": "Disable the other telephony provider in Zoho, or use its client.",
    "not_permitted": "Sign in as a user with PhoneBridge rights; a Zoho administrator can give them.",
    "wrong_address": "Check --data-center and --api-url.",
}


@dataclass(frozen=True, slots=True)
class User:
    """One user of PhoneBridge as the service lists them; ``email`` and ``name`` may be empty."""

    zohouser: str
    email: str
    name: str


class AccountClient:
    """Asks the API about the account; nothing it sends can become a call."""

    def __init__(
        self,
        route: Route,
        *,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._route = route
        self._trust = Trust(route.ca_bundle)
        self._limits = limits or Limits()
        self._clock = clock
        self._wall_clock = wall_clock

    def users(self, token: Token) -> tuple[User, ...]:
        """Return all users that PhoneBridge knows, page by page.

        Source: https://www.zoho.com/phonebridge/developer/v3/zoho-user-list.html

        Raises ImporterError with the exit code of what stands against it.
        """
        known: dict[str, User] = {}
        for page in range(1, MOST_PAGES + 1):
            listed = self._page(token, page)
            new = {user.zohouser: user for user in listed if user.zohouser not in known}
            known |= new
            # A service that does not know paging gives the same page for ever.
            if len(listed) < USERS_PER_PAGE or not new:
                break
        return tuple(known.values())

    def take_no_call(self, token: Token) -> None:
        """See that a notification would be taken, by one without any field: it can only be refused for that.

        The service checks token, scope and integration before it looks at the fields (inferred, not documented).

        Raises ImporterError with the exit code of what stands against it.
        """
        answer = self._exchange(requests.Request("POST", token.api_url + CALLNOTIFY_PATH, auth=_auth(token)))
        judgement = self._judged(answer)
        if judgement.reason != "parameter_missing":
            raise self._error("the service does not take notifications", judgement, answer)

    def _page(self, token: Token, page: int) -> tuple[User, ...]:
        query = {"page": page, "perPage": USERS_PER_PAGE}
        url = token.api_url + USERS_PATH
        answer = self._exchange(requests.Request("GET", url, params=query, auth=_auth(token)))
        try:
            content = json.loads(answer.body.decode("utf-8"))
            if answer.status == 200:
                return tuple(_users_in(content))
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise self._error("the users cannot be listed", self._judged(answer), answer)

    def _exchange(self, request: requests.Request) -> Answer:
        line = Line(self._route, trust=self._trust, limits=self._limits, clock=self._clock)
        try:
            return line.exchange(request)
        except SendFailure as failure:
            code = judge_failure(failure).exit_code or ExitCode.UNAVAILABLE
            kind = _KINDS.get(code, UnavailableError)
            hint = "Check the network, --proxy and --api-url."
            raise kind(f"the API gave no answer ({failure.kind})", hint=hint) from None
        finally:
            line.close()

    def _judged(self, answer: Answer) -> Judgement:
        return classify(answer, now_epoch=self._wall_clock())

    def _error(self, what: str, judgement: Judgement, answer: Answer) -> ImporterError:
        kind = _KINDS.get(judgement.exit_code or ExitCode.PROTOCOL, ProtocolError)
        told = ", ".join(filter(None, (judgement.reason, f"status {answer.status}", judgement.code)))
        advice = _ADVICE.get(judgement.reason, "Something else than the API may be answering: check --api-url.")
        if judgement.reaction is Reaction.WAIT:
            advice = "Wait a while, then try again."
        return kind(f"{what}: {told}", hint=advice)


def _auth(token: Token) -> ZohoToken:
    return ZohoToken(token.access_token)


def _users_in(content: Any) -> Iterator[User]:
    for entry in content["users"]:
        zohouser = str(entry["zohouser"])
        if not zohouser.isascii() or not zohouser.isalnum():
            raise ValueError("zohouser")
        yield User(zohouser, str(entry.get("email") or ""), str(entry.get("username") or ""))
