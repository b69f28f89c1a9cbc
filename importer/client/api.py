"""The requests of the program: to notify a call, to ask for a token, and to ask what the account is."""

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from urllib.parse import urlencode, urlsplit

import requests

from importer.auth import GarbledError, SignIn, Token
from importer.client.classify import FAILURES_BEFORE, Judgement, Proof, Reaction, classify, judge_failure
from importer.client.connection import Answer, HttpClient, Trust
from importer.client.failures import SendFailure
from importer.errors import (
    ConfigurationError,
    ExitCode,
    ImporterError,
    NotPermittedError,
    ProtocolError,
    TryLaterError,
    UnavailableError,
)
from importer.records import Call, Timeouts, ignore

CALLNOTIFY_PATH = "/phonebridge/v3/callnotify"
USERS_PATH = "/phonebridge/v3/users"
USERS_PER_PAGE = 200
"""A page of so many stays below the bound on an answer; the service allows 1,000 (zoho-user-list.html)."""
MOST_PAGES = 500

_KINDS: Mapping[ExitCode, type[ImporterError]] = {
    kind.exit_code: kind for kind in (NotPermittedError, ConfigurationError, TryLaterError, UnavailableError)
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


def request_to(
    method: str, path: str, token: Token, *, query: Mapping[str, int] | None = None
) -> requests.Request:
    """Return a request to the API with its token."""
    headers = {"Authorization": f"Zoho-oauthtoken {token.access_token}"}
    return requests.Request(method, token.api_url + path, params=query, headers=headers)


class Client(HttpClient):
    """Notifies calls, one at a time; one per worker thread, to be closed."""

    _token: Token | None = None
    _notification: requests.Request

    def notify(
        self,
        call: Call,
        token: Token,
        before_first_byte: Callable[[], object],
        after_write: Callable[[], object],
        *,
        wall_clock: Callable[[], float],
    ) -> Judgement:
        """Post one call, once, and judge the whole answer, with hooks as `HttpClient.exchange` has them.

        The connection is used again only after the documented success; anything else closes it. Raises
        SendFailure when no complete answer came.
        """
        if token != self._token:
            self._notification = request_to("POST", CALLNOTIFY_PATH, token)
            self._notification.headers["Content-Type"] = "application/x-www-form-urlencoded"
            self._token = token
        # Optional fields only where there is something: zoho.com/phonebridge/developer/v3/outgoing-unattended.html
        fields = {
            "type": "dialed",
            "state": call.state,
            "id": call.call_id,
            "from": call.agent_number,
            "to": call.customer_number,
            "start_time": call.start_time,
            "zohouser": call.zohouser,
            "voiceuri": call.voiceuri,
        }
        body = urlencode({name: value for name, value in fields.items() if value}).encode()
        answer = self.exchange(self._notification, before_first_byte, after_write, body=body)
        judgement = classify(answer, now_epoch=wall_clock())
        if judgement.proof is not Proof.TAKEN:
            self.close()
        return judgement


class TokenTransport(HttpClient):
    """What a TokenSource posts its form with: a fresh connection each time, with our bounds; for one thread."""

    def __init__(
        self,
        sign_in: SignIn,
        *,
        trust: Trust | None = None,
        limits: Timeouts | None = None,
        on_answer: Callable[[Answer], None] = ignore,
    ) -> None:
        super().__init__(sign_in.proxy, trust=trust or Trust(sign_in.ca_bundle), limits=limits)
        self._on_answer = on_answer

    def __call__(self, url: str, form: Mapping[str, str]) -> tuple[int, bytes]:
        """Post the form once, return status and body of the answer; raises as `importer.auth.Transport` does."""
        try:
            answer = self.exchange(requests.Request("POST", url, data=dict(form)))
            self._on_answer(answer)
            return answer.status, answer.body
        except SendFailure as failure:
            kind: type[ImporterError] = UnavailableError
            what = "network and the proxy of --proxy are" if self._proxy else "network is"
            hint = f"Nothing was lost; run again when the {what} back."
            if failure.kind in FAILURES_BEFORE and failure.kind != "other":
                kind, hint = ConfigurationError, "Check --accounts-url, --ca-bundle, --proxy and the clock."
            elif failure.kind in ("cut", "malformed"):
                kind, hint = GarbledError, "Check --accounts-url and --proxy: something else may be answering."
            message = f"{urlsplit(url).hostname} gave no answer to the sign-in ({failure.kind})"
            raise kind(message, hint=hint) from None
        finally:
            self.close()


class AccountClient(HttpClient):
    """Asks the API about the account, over a fresh connection each time; nothing it sends can become a call."""

    def users(self, token: Token) -> tuple[User, ...]:
        """Return all users of PhoneBridge, page by page; raises ImporterError."""
        # https://www.zoho.com/phonebridge/developer/v3/zoho-user-list.html
        known: dict[str, User] = {}
        for page in range(1, MOST_PAGES + 1):
            query = {"page": page, "perPage": USERS_PER_PAGE}
            answer = self._ask(request_to("GET", USERS_PATH, token, query=query))
            listed: list[User] = []
            try:
                for entry in json.loads(answer.body.decode("utf-8"))["users"]:
                    email, name = str(entry.get("email") or ""), str(entry.get("username") or "")
                    listed.append(User(str(entry["zohouser"]), email, name))
                if answer.status != 200 or not all(re.fullmatch("[0-9A-Za-z]+", user.zohouser) for user in listed):
                    raise ValueError
            except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
                raise self._error("the users cannot be listed", answer) from None
            new = {user.zohouser: user for user in listed if user.zohouser not in known}
            known |= new
            # A service without paging gives the same page for ever.
            if len(listed) < USERS_PER_PAGE or not new:
                break
        return tuple(known.values())

    def take_no_call(self, token: Token) -> None:
        """Check that a notification would be taken, by one without any field; raises ImporterError."""
        # It can only be refused for that: token, scope and integration are checked before (inferred).
        answer = self._ask(request_to("POST", CALLNOTIFY_PATH, token))
        if classify(answer, now_epoch=time.time()).reason != "parameter_missing":
            raise self._error("the service does not take notifications", answer)

    def _ask(self, request: requests.Request) -> Answer:
        try:
            return self.exchange(request)
        except SendFailure as failure:
            code = judge_failure(failure).exit_code or ExitCode.UNAVAILABLE
            kind = _KINDS.get(code, UnavailableError)
            hint = "Check the network, --proxy and --api-url."
            host = urlsplit(request.url).hostname
            raise kind(f"the API at {host} gave no answer ({failure.kind})", hint=hint) from None
        finally:
            self.close()

    def _error(self, what: str, answer: Answer) -> ImporterError:
        judgement = classify(answer, now_epoch=time.time())
        kind = _KINDS.get(judgement.exit_code or ExitCode.PROTOCOL, ProtocolError)
        shown = ", ".join(filter(None, (judgement.reason, f"status {answer.status}", judgement.code)))
        advice = _ADVICE.get(judgement.reason, "Something else than the API may be answering: check --api-url.")
        if judgement.reaction is Reaction.WAIT:
            advice = "Wait a while, then try again."
        return kind(f"{what}: {shown}", hint=advice)
