"""Call to form to POST to judgement: the only place that knows the words of the API.

`dialling` gets a connection, `wire` knows the request in flight and can end it, `connection` sends one request
and reads its answer within bounds, `classify` says what an answer proves; here are the two requests of a run,
notifying a call and asking for a token; `account` has those of setting up.
"""

import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Self

import requests

from importer.auth import SignIn, Token
from importer.client.account import CALLNOTIFY_PATH, AccountClient, User
from importer.client.classify import (
    FAILURES_BEFORE,
    Judgement,
    Proof,
    Reaction,
    classify,
    is_success,
    judge_failure,
)
from importer.client.connection import (
    Answer,
    Limits,
    Line,
    Route,
    SendFailure,
    Trust,
)
from importer.client.token_header import ZohoToken
from importer.client.wire import SendDoor
from importer.errors import ConfigurationError, ProtocolError, UnavailableError
from importer.records import Call

__all__ = [
    "AccountClient",
    "Answer",
    "Client",
    "Judgement",
    "Limits",
    "Line",
    "Proof",
    "Reaction",
    "Route",
    "SendDoor",
    "SendFailure",
    "TokenTransport",
    "Trust",
    "User",
    "classify",
    "form_of",
    "judge_failure",
]


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
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
        fresh_only: threading.Event | None = None,
    ) -> None:
        route = route or Route()
        trust = trust or Trust(route.ca_bundle)
        self._line = Line(route, trust=trust, limits=limits or Limits(), clock=clock, fresh_only=fresh_only)

    def notify(self, call: Call, token: Token, door: SendDoor) -> Answer:
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
        answer = self._line.exchange(request, door)
        if not is_success(answer):
            self._line.hang_up()
        return answer

    def cut(self) -> None:
        """End the request in flight at once, from any thread: `notify` raises SendFailure."""
        self._line.cut()

    def close(self) -> None:
        """Close the connection and end the deadline thread."""
        self._line.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class TokenTransport:
    """What a TokenSource posts its form with: a fresh connection each time, with all our bounds; for one thread.

    ``trust`` is as for `Client`. Raises ConfigurationError when the CA bundle cannot be read.
    """

    def __init__(
        self,
        sign_in: SignIn,
        *,
        trust: Trust | None = None,
        limits: Limits | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._route = Route(sign_in.proxy, sign_in.ca_bundle)
        self._trust = trust or Trust(sign_in.ca_bundle)
        self._limits = limits or Limits()
        self._clock = clock
        self._guard = threading.Lock()
        self._line: Line | None = None

    def __call__(self, url: str, form: Mapping[str, str]) -> Answer:
        """Post the form once and return the answer; raises as `importer.auth.Transport` says."""
        line = Line(self._route, trust=self._trust, limits=self._limits, clock=self._clock)
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


def _sign_in_error(failure: SendFailure) -> ConfigurationError | ProtocolError | UnavailableError:
    message = f"the token endpoint gave no answer ({failure.kind})"
    if failure.kind in FAILURES_BEFORE and failure.kind != "other":
        return ConfigurationError(message, hint="Check --accounts-url, --ca-bundle, --proxy and the clock.")
    if failure.kind in ("cut", "malformed"):
        return ProtocolError(message, hint="Check --accounts-url and --proxy: something else may be answering.")
    return UnavailableError(message, hint="Nothing was lost; run again when the network is back.")
