"""The requests of the program: to notify a call, to ask for a token, and to ask what the account is."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import requests

from importer.auth import SignIn, Token
from importer.client.classify import FAILURES_BEFORE, Judgement, Reaction, classify, is_success, judge_failure
from importer.client.connection import Answer, Line, Route, SendFailure, Timeouts, Trust, ZohoToken
from importer.client.wire import SendHooks
from importer.errors import (
    ConfigurationError,
    ExitCode,
    ImporterError,
    NotPermittedError,
    ProtocolError,
    TryLaterError,
    UnavailableError,
)
from importer.records import Call

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


def form_of(call: Call) -> dict[str, str]:
    """Return the fields of a call as the API names them; optional ones only where there is something.

    Source: https://www.zoho.com/phonebridge/developer/v3/outgoing-unattended.html
    """
    form = {
        "type": "dialed",
        "state": str(call.state),
        "id": call.call_id,
        "from": call.agent_number,
        "to": call.customer_number,
        "start_time": call.start_time,
    }
    optional = {"zohouser": call.zohouser, "voiceuri": call.voiceuri}
    return form | {name: value for name, value in optional.items() if value}


class Client:
    """Notifies calls, one at a time; one per worker thread, to be closed.

    ``trust`` is what the route trusts, where it is shared; ``fresh_only`` is as for `Line`.
    """

    def __init__(
        self,
        route: Route | None = None,
        *,
        trust: Trust | None = None,
        limits: Timeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
        fresh_only: threading.Event | None = None,
    ) -> None:
        route = route or Route()
        trust = trust or Trust(route.ca_bundle)
        self._line = Line(route, trust=trust, limits=limits or Timeouts(), clock=clock, fresh_only=fresh_only)

    def notify(self, call: Call, token: Token, hooks: SendHooks) -> Answer:
        """Post one call, once, and return the whole answer.

        The connection is used again only after the documented success; anything else closes it.

        Raises:
            SendFailure: no complete answer came.
        """
        request = requests.Request(
            "POST",
            token.api_url + CALLNOTIFY_PATH,
            data=form_of(call),
            auth=ZohoToken(token.access_token),
        )
        answer = self._line.exchange(request, hooks)
        if not is_success(answer):
            self._line.hang_up()
        return answer

    def cut(self) -> None:
        """End the request in flight at once, from any thread: `notify` raises SendFailure."""
        self._line.cut()

    def close(self) -> None:
        """Close the connection and end the deadline thread."""
        self._line.close()


class TokenTransport:
    """What a TokenSource posts its form with: a fresh connection each time, with all our bounds; for one thread.

    ``trust`` is as for `Client`. Raises ConfigurationError when the CA bundle cannot be read.
    """

    def __init__(
        self,
        sign_in: SignIn,
        *,
        trust: Trust | None = None,
        limits: Timeouts | None = None,
    ) -> None:
        self._route = Route(sign_in.proxy, sign_in.ca_bundle)
        self._trust = trust or Trust(sign_in.ca_bundle)
        self._limits = limits or Timeouts()
        self._guard = threading.Lock()
        self._line: Line | None = None

    def __call__(self, url: str, form: Mapping[str, str]) -> Answer:
        """Post the form once and return the answer; raises as `importer.auth.Transport` does."""
        line = Line(self._route, trust=self._trust, limits=self._limits, clock=time.monotonic)
        self._use(line)
        try:
            return line.exchange(requests.Request("POST", url, data=dict(form)))
        except SendFailure as failure:
            raise _sign_in_error(failure) from None
        finally:
            self._use(None)
            line.close()

    def cut(self) -> None:
        """End the request in flight at once, from any thread: UnavailableError."""
        with self._guard:
            if self._line is not None:
                self._line.cut()

    def _use(self, line: Line | None) -> None:
        with self._guard:
            self._line = line


class AccountClient:
    """Asks the API about the account; nothing it sends can become a call."""

    def __init__(self, route: Route) -> None:
        self._route = route
        self._trust = Trust(route.ca_bundle)

    def users(self, token: Token) -> tuple[User, ...]:
        """Return all users of PhoneBridge, page by page.

        Source: https://www.zoho.com/phonebridge/developer/v3/zoho-user-list.html

        Raises ImporterError with the exit code of what stands against it.
        """
        known: dict[str, User] = {}
        for page in range(1, MOST_PAGES + 1):
            listed = self._page(token, page)
            new = {user.zohouser: user for user in listed if user.zohouser not in known}
            known |= new
            # A service without paging gives the same page for ever.
            if len(listed) < USERS_PER_PAGE or not new:
                break
        return tuple(known.values())

    def take_no_call(self, token: Token) -> None:
        """See that a notification would be taken, by one without any field: it can only be refused for that.

        The service checks token, scope and integration before it looks at the fields (inferred, not documented).

        Raises ImporterError with the exit code of what stands against it.
        """
        answer = self._exchange(
            requests.Request("POST", token.api_url + CALLNOTIFY_PATH, auth=ZohoToken(token.access_token))
        )
        judgement = self._judged(answer)
        if judgement.reason != "parameter_missing":
            raise self._error("the service does not take notifications", judgement, answer)

    def _page(self, token: Token, page: int) -> tuple[User, ...]:
        query = {"page": page, "perPage": USERS_PER_PAGE}
        url, auth = token.api_url + USERS_PATH, ZohoToken(token.access_token)
        answer = self._exchange(requests.Request("GET", url, params=query, auth=auth))
        try:
            content = json.loads(answer.body.decode("utf-8"))
            if answer.status == 200:
                return tuple(_users_in(content))
        except (ValueError, KeyError, TypeError, RecursionError):
            pass
        raise self._error("the users cannot be listed", self._judged(answer), answer)

    def _exchange(self, request: requests.Request) -> Answer:
        line = Line(self._route, trust=self._trust, limits=Timeouts(), clock=time.monotonic)
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
        return classify(answer, now_epoch=time.time())

    def _error(self, what: str, judgement: Judgement, answer: Answer) -> ImporterError:
        kind = _KINDS.get(judgement.exit_code or ExitCode.PROTOCOL, ProtocolError)
        shown = ", ".join(filter(None, (judgement.reason, f"status {answer.status}", judgement.code)))
        advice = _ADVICE.get(judgement.reason, "Something else than the API may be answering: check --api-url.")
        if judgement.reaction is Reaction.WAIT:
            advice = "Wait a while, then try again."
        return kind(f"{what}: {shown}", hint=advice)


def _sign_in_error(failure: SendFailure) -> ConfigurationError | ProtocolError | UnavailableError:
    message = f"the token endpoint gave no answer ({failure.kind})"
    if failure.kind in FAILURES_BEFORE and failure.kind != "other":
        return ConfigurationError(message, hint="Check --accounts-url, --ca-bundle, --proxy and the clock.")
    if failure.kind in ("cut", "malformed"):
        return ProtocolError(message, hint="Check --accounts-url and --proxy: something else may be answering.")
    return UnavailableError(message, hint="Nothing was lost; run again when the network is back.")


def _users_in(content: Any) -> Iterator[User]:
    for entry in content["users"]:
        zohouser = str(entry["zohouser"])
        if not zohouser.isascii() or not zohouser.isalnum():
            raise ValueError("zohouser")
        yield User(zohouser, str(entry.get("email") or ""), str(entry.get("username") or ""))
