"""The simulator over real sockets: every answer of the specification, every fault, and its own bookkeeping."""

import http.client
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from urllib.parse import quote_plus, urlencode

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from conftest import table
from importer.simulator import (
    FOREVER,
    ORDINARY,
    SANDBOX_CREDENTIALS,
    SANDBOX_USERS,
    Behaviour,
    Fault,
    SandboxCredentials,
    Simulator,
)
from importer.simulator.service import RollingLimit, most_in_any_window

CALLNOTIFY = "/phonebridge/v3/callnotify"
TOKEN_PATH = "/oauth/v2/token"
FORM = "application/x-www-form-urlencoded"
AGENT, CUSTOMER = "+12025550100", "+447700900123"
CALL = {
    "type": "dialed",
    "state": "noanswer",
    "id": "callid123456",
    "from": AGENT,
    "to": CUSTOMER,
    "start_time": "2026-01-20 15:09:10",
}
NOW = datetime(2026, 1, 20, 16, 0, 0, tzinfo=UTC).timestamp()


class Clock:
    """Seconds that pass when told to."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds

    def __call__(self) -> float:
        """Return the time it is told to be."""
        return self.seconds


@dataclass(frozen=True)
class Reply:
    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def content(self) -> dict[str, object]:
        """The body as a JSON object."""
        loaded = json.loads(self.body)
        assert isinstance(loaded, dict)
        return loaded

    @property
    def code(self) -> object:
        """The body's own word for the result."""
        return self.content.get("code")


@dataclass
class Client:
    """A plain client on one kept connection, signed in unless told otherwise."""

    simulator: Simulator
    token: str = ""
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.simulator.port, timeout=20)

    def send(
        self, method: str, path: str, body: str | bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Make one request and read its answer whole."""
        self.connection.request(method, path, body, dict(headers or {}))
        answer = self.connection.getresponse()
        content = answer.read()
        return Reply(answer.status, {name.lower(): value for name, value in answer.getheaders()}, content)

    def post_form(self, path: str, fields: Mapping[str, str], authorization: str | None = None) -> Reply:
        """Post an encoded form."""
        headers = {"Content-Type": FORM}
        if authorization is not None:
            headers["Authorization"] = authorization
        return self.send("POST", path, urlencode(fields), headers)

    def notify(self, **changes: str) -> Reply:
        """Post the sample call with some of its fields changed."""
        return self.post_form(CALLNOTIFY, {**CALL, **changes}, f"Zoho-oauthtoken {self.token}")

    def sign_in(self, **changes: str) -> Reply:
        """Ask the token endpoint with the sandbox's credentials."""
        return self.post_form(TOKEN_PATH, {**REFRESH, **changes})


REFRESH = {
    "grant_type": "refresh_token",
    "client_id": SANDBOX_CREDENTIALS.client_id,
    "client_secret": SANDBOX_CREDENTIALS.client_secret,
    "refresh_token": SANDBOX_CREDENTIALS.refresh_token,
}

Opener = Callable[..., Client]


@pytest.fixture
def open_client() -> Iterator[Opener]:
    """Start simulators and hand out signed-in clients; everything is stopped at the end."""
    started: list[Client] = []

    def opened(behaviour: Behaviour = Behaviour(), clock: Callable[[], float] = time.monotonic) -> Client:  # noqa: B008
        simulator = Simulator(behaviour, clock=clock, wall_clock=lambda: NOW).start()
        client = Client(simulator)
        started.append(client)
        client.token = str(client.sign_in().content.get("access_token", ""))
        return client

    yield opened
    for client in started:
        client.connection.close()
        client.simulator.stop()


def exchange(port: int, sent: bytes) -> bytes:
    """Send bytes on a connection of their own and return all that comes until it ends."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as connection:
        connection.sendall(sent)
        return b"".join(iter(lambda: connection.recv(65_536), b""))


def raw_call(client: Client, **changes: str) -> bytes:
    """Return the bytes of a whole callnotify request."""
    body = urlencode({**CALL, **changes})
    return (
        f"POST {CALLNOTIFY} HTTP/1.1\r\nHost: sandbox\r\nAuthorization: Zoho-oauthtoken {client.token}\r\n"
        f"Content-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


# --- callnotify: section 8.1, row by row -----------------------------------------------------------------------


def test_success(open_client: Opener) -> None:
    """A complete call gets 200 and exactly the documented body."""
    reply = open_client().notify()
    assert (reply.status, reply.content) == (200, {"status": "success", "code": "SUCCESS"})


def test_default_headers(open_client: Opener) -> None:
    """An answer names the sandbox as server, JSON as type, and no rate headers."""
    headers = open_client().notify().headers
    assert headers == {
        "server": "cdr-importer-sandbox",
        "date": "Tue, 20 Jan 2026 16:00:00 GMT",
        "content-type": "application/json;charset=UTF-8",
        "content-length": "40",
    }


def test_accepted_fields(open_client: Opener) -> None:
    """The accepted list holds the decoded fields, plus signs and further fields included."""
    client = open_client()
    client.notify(zohouser="90000000001", voiceuri="https://example.com/a?b=c&d=ä")
    assert client.simulator.accepted == (
        {**CALL, "zohouser": "90000000001", "voiceuri": "https://example.com/a?b=c&d=ä"},
    )


@pytest.mark.parametrize("state", ["busy", "invalid", "blocked", "notavailable", "noanswer", "rejected"])
def test_unattended_states(open_client: Opener, state: str) -> None:
    """All six unattended states are accepted."""
    assert open_client().notify(state=state).status == 200


@pytest.mark.parametrize("name", list(CALL))
@pytest.mark.parametrize("is_empty", [False, True])
def test_missing_parameter(open_client: Opener, name: str, is_empty: bool) -> None:
    """An absent or empty mandatory parameter is refused by its name."""
    client = open_client()
    fields = {**CALL, name: ""} if is_empty else {key: value for key, value in CALL.items() if key != name}
    reply = client.post_form(CALLNOTIFY, fields, f"Zoho-oauthtoken {client.token}")
    assert (reply.status, reply.content) == (
        400,
        {
            "code": "REQUIRED_PARAM_MISSING",
            "details": {"param": name},
            "message": "One of the expected parameter is missing",
            "status": "error",
        },
    )


def test_first_missing_parameter(open_client: Opener) -> None:
    """Of several missing parameters the first of the documented order is named."""
    client = open_client()
    reply = client.post_form(CALLNOTIFY, {"type": "dialed"}, f"Zoho-oauthtoken {client.token}")
    assert reply.content["details"] == {"param": "state"}


def test_terse_missing_parameter(open_client: Opener) -> None:
    """The variant of the documentation has two words and no details."""
    reply = open_client(Behaviour(terse_missing_parameter=True)).notify(id="")
    assert (reply.status, reply.content) == (400, {"status": "error", "code": "REQUIRED_PARAM_MISSING"})


REFUSED_VALUES = [
    (Behaviour(), {"type": "dailed"}, "type"),
    (Behaviour(), {"type": "DIALED"}, "type"),
    (Behaviour(), {"state": "ended"}, "state"),
    (Behaviour(), {"state": "NOANSWER"}, "state"),
    (Behaviour(refuse_unattended_states=True), {}, "state"),
    (Behaviour(), {"start_time": "2026-01-20T15:09:10"}, "start_time"),
    (Behaviour(), {"start_time": "2026-01-20T15:09:10Z"}, "start_time"),
    (Behaviour(), {"start_time": "2026-01-20 15:09:10.5"}, "start_time"),
    (Behaviour(), {"start_time": "2026-1-20 15:09:10"}, "start_time"),
    (Behaviour(), {"start_time": "2026-02-30 15:09:10"}, "start_time"),
    (Behaviour(), {"start_time": "20/01/2026 15:09:10"}, "start_time"),
    (Behaviour(reject_far_times=True), {"start_time": "2025-12-21 15:59:59"}, "start_time"),
    (Behaviour(reject_far_times=True), {"start_time": "2026-01-20 16:05:01"}, "start_time"),
    (Behaviour(reject_non_e164=True), {"from": "100"}, "from"),
    (Behaviour(reject_non_e164=True), {"to": "2025550100"}, "to"),
    (Behaviour(reject_non_e164=True), {"to": "+02025550100"}, "to"),
    (Behaviour(reject_non_e164=True), {"to": "+1 202 555 0100"}, "to"),
    (Behaviour(reject_odd_ids=True), {"id": "1316287873.1570"}, "id"),
    (Behaviour(reject_odd_ids=True), {"id": "out_1"}, "id"),
]


@pytest.mark.parametrize(("behaviour", "changes", "param"), REFUSED_VALUES)
def test_refused_value(open_client: Opener, behaviour: Behaviour, changes: dict[str, str], param: str) -> None:
    """A value that is not documented, or that a switch forbids, gets 400 and names its parameter."""
    reply = open_client(behaviour).notify(**changes)
    assert (reply.status, reply.code, reply.content["details"]) == (400, "INVALID_DATA", {"param": param})


@pytest.mark.parametrize(("behaviour", "changes", "param"), REFUSED_VALUES)
def test_refused_value_is_not_stored(
    open_client: Opener, behaviour: Behaviour, changes: dict[str, str], param: str
) -> None:
    """A refused call is not taken in."""
    client = open_client(behaviour)
    client.notify(**changes)
    assert client.simulator.accepted == ()


@pytest.mark.parametrize(
    "changes",
    [
        {"start_time": "1999-01-01 00:00:00"},
        {"start_time": "2036-01-01 00:00:00"},
        {"from": "100"},
        {"to": "020 7946 0000"},
        {"id": "1316287873.1570"},
        {"zohouser": "somebody"},
        {"zohouser": ""},
        {"duration": "0"},
    ],
)
def test_tolerated_value(open_client: Opener, changes: dict[str, str]) -> None:
    """What Zoho documents no rule for is taken in as received."""
    client = open_client()
    client.notify(**changes)
    assert client.simulator.accepted == ({**CALL, **changes},)


@pytest.mark.parametrize("start_time", ["2025-12-21 16:00:00", "2026-01-20 16:05:00"])
def test_far_times_border(open_client: Opener, start_time: str) -> None:
    """Thirty days back and five minutes ahead are not far yet."""
    assert open_client(Behaviour(reject_far_times=True)).notify(start_time=start_time).status == 200


def test_strict_switches_on_a_good_call(open_client: Opener) -> None:
    """With every strict switch on, a call of the documented shape is accepted."""
    strict = Behaviour(
        reject_far_times=True,
        reject_non_e164=True,
        reject_odd_ids=True,
        duplicate_id="refuse",
        known_zohousers=frozenset({"90000000001"}),
    )
    assert open_client(strict).notify(zohouser="90000000001").status == 200


def test_invalid_value_code(open_client: Opener) -> None:
    """The undocumented code of a refused value is a switch."""
    assert open_client(Behaviour(invalid_value_code="WHATEVER")).notify(state="x").code == "WHATEVER"


def test_raw_plus(open_client: Opener) -> None:
    """A plus sign sent as it is arrives as a space and is stored so."""
    client = open_client()
    body = urlencode(CALL).replace("%2B", "+")
    headers = {"Content-Type": FORM, "Authorization": f"Zoho-oauthtoken {client.token}"}
    client.send("POST", CALLNOTIFY, body, headers)
    assert client.simulator.accepted[0]["to"] == " 447700900123"


def test_repeated_parameter(open_client: Opener) -> None:
    """Of a parameter sent twice the first counts."""
    client = open_client()
    headers = {"Content-Type": FORM, "Authorization": f"Zoho-oauthtoken {client.token}"}
    client.send("POST", CALLNOTIFY, urlencode(CALL) + "&state=busy", headers)
    assert client.simulator.accepted[0]["state"] == "noanswer"


@given(
    fields=st.dictionaries(
        st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=8).filter(lambda n: n not in CALL),
        st.text(st.characters(exclude_categories=["Cs"]), max_size=12),
        max_size=4,
    )
)
def test_form_round_trip(shared_client: Client, fields: dict[str, str]) -> None:
    """Whatever text an encoded form carries is stored as it was."""
    shared_client.notify(**fields)
    assert shared_client.simulator.accepted[-1] == {**CALL, **fields}


@pytest.fixture(scope="module")
def shared_client() -> Iterator[Client]:
    """One simulator for many examples."""
    with Simulator() as simulator:
        client = Client(simulator)
        client.token = str(client.sign_in().content["access_token"])
        yield client
        client.connection.close()


@pytest.mark.parametrize(
    ("duplicate_id", "states"),
    [("accept", ["busy", "rejected"]), ("update", ["rejected"]), ("refuse", ["busy"])],
)
def test_duplicate_id(open_client: Opener, duplicate_id: str, states: list[str]) -> None:
    """The same id again makes a second record, replaces the first or changes nothing, as told."""
    client = open_client(Behaviour(duplicate_id=duplicate_id))  # type: ignore[arg-type]
    client.notify(state="busy")
    client.notify(state="rejected")
    assert [call["state"] for call in client.simulator.accepted] == states


@pytest.mark.parametrize(("duplicate_id", "status"), [("accept", 200), ("update", 200), ("refuse", 400)])
def test_duplicate_id_status(open_client: Opener, duplicate_id: str, status: int) -> None:
    """Only the refusing service says anything about a repeated id."""
    client = open_client(Behaviour(duplicate_id=duplicate_id))  # type: ignore[arg-type]
    client.notify()
    assert client.notify().status == status


def test_update_hits_its_own_record(open_client: Opener) -> None:
    """An update changes the record of its id and no other."""
    client = open_client(Behaviour(duplicate_id="update"))
    for call_id, state in (("a1", "busy"), ("b2", "busy"), ("b2", "rejected")):
        client.notify(id=call_id, state=state)
    assert [call["state"] for call in client.simulator.accepted] == ["busy", "rejected"]


def test_duplicate_flag(open_client: Opener) -> None:
    """A repeated id is flagged on the arrival, a first one is not."""
    client = open_client()
    for call_id in ("a1", "b2", "a1"):
        client.notify(id=call_id)
    assert [arrival.duplicate for arrival in client.simulator.arrivals] == [False, False, True]


@pytest.mark.parametrize(
    ("unknown_zohouser", "zohouser", "status"),
    [("refuse", "7", 400), ("refuse", "5", 200), ("refuse", "", 200), ("accept", "7", 200)],
)
def test_unknown_zohouser(open_client: Opener, unknown_zohouser: str, zohouser: str, status: int) -> None:
    """A user outside the known ones is refused unless the switch says otherwise."""
    behaviour = Behaviour(unknown_zohouser=unknown_zohouser, known_zohousers=frozenset({"5"}))  # type: ignore[arg-type]
    assert open_client(behaviour).notify(zohouser=zohouser).status == status


def test_unknown_zohouser_body(open_client: Opener) -> None:
    """An unknown user gets the body seen on the service."""
    reply = open_client(Behaviour(known_zohousers=frozenset())).notify(zohouser="7")
    assert reply.content == {
        "code": "INVALID_USER",
        "details": {},
        "message": "Please check the user configuration",
        "status": "error",
    }


@pytest.mark.parametrize(
    ("path", "body", "content_type"),
    [
        (CALLNOTIFY, json.dumps(CALL), "application/json"),
        (CALLNOTIFY, urlencode(CALL), "application/json"),
        (CALLNOTIFY, urlencode(CALL), "text/plain"),
        (f"{CALLNOTIFY}?{urlencode(CALL)}", "", FORM),
        (f"{CALLNOTIFY}?{urlencode(CALL)}", None, ""),
        (CALLNOTIFY, "", FORM),
    ],
)
def test_parameters_elsewhere(open_client: Opener, path: str, body: str | None, content_type: str) -> None:
    """Parameters in JSON, under another content type or in the query are not seen."""
    client = open_client()
    headers = {"Authorization": f"Zoho-oauthtoken {client.token}"}
    if content_type:
        headers["Content-Type"] = content_type
    reply = client.send("POST", path, body, headers)
    assert (reply.status, reply.content["details"]) == (400, {"param": "type"})


@pytest.mark.parametrize("content_type", [FORM + ";charset=UTF-8", FORM.upper(), FORM + " ; charset=utf-8"])
def test_form_content_types(open_client: Opener, content_type: str) -> None:
    """The form's content type is recognised with a charset and in capitals."""
    client = open_client()
    headers = {"Content-Type": content_type, "Authorization": f"Zoho-oauthtoken {client.token}"}
    assert client.send("POST", CALLNOTIFY, urlencode(CALL), headers).status == 200


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "OPTIONS", "NONSENSE"])
@pytest.mark.parametrize("status", [405, 400])
def test_wrong_method(open_client: Opener, method: str, status: int) -> None:
    """Another method gets the envelope with 405 or, by the switch, 400."""
    client = open_client(Behaviour(method_status=status))  # type: ignore[arg-type]
    reply = client.send(method, CALLNOTIFY)
    assert (reply.status, reply.content["status"], reply.headers["allow"]) == (status, "error", "POST")


def test_head_has_no_body(open_client: Opener) -> None:
    """An answer to HEAD is its head alone."""
    sent = f"HEAD {CALLNOTIFY} HTTP/1.1\r\nConnection: close\r\n\r\n".encode()
    assert exchange(open_client().simulator.port, sent).partition(b"\r\n\r\n")[2] == b""


@pytest.mark.parametrize("status", [401, 400])
def test_unknown_token(open_client: Opener, status: int) -> None:
    """An unknown token gets 401, or 400 as in Europe in 2019, with the same body."""
    client = open_client(Behaviour(invalid_token_status=status))  # type: ignore[arg-type]
    client.token = "1000.00.00"
    reply = client.notify()
    expected = {"code": "INVALID_TOKEN", "details": {}, "message": "invalid oauth token", "status": "error"}
    assert (reply.status, reply.content) == (status, expected)


def test_invalid_token_code(open_client: Opener) -> None:
    """The code other Zoho products use for an invalid token is a switch."""
    client = open_client(Behaviour(invalid_token_code="INVALID_OAUTHTOKEN"))
    client.token = "1000.00.00"
    assert client.notify().code == "INVALID_OAUTHTOKEN"


def test_expired_token(open_client: Opener) -> None:
    """A token is good until its last second and invalid from then on."""
    clock = Clock(1000.0)
    client = open_client(Behaviour(token_seconds=60), clock)
    clock.seconds += 59.9
    first = client.notify().status
    clock.seconds += 0.1
    assert (first, client.notify().status) == (200, 401)


def test_expire_tokens(open_client: Opener) -> None:
    """expire_tokens ends every token given out; a new one is good."""
    client = open_client()
    client.simulator.expire_tokens()
    refused = client.notify().status
    client.token = str(client.sign_in().content["access_token"])
    assert (refused, client.notify().status) == (401, 200)


@pytest.mark.parametrize("authorization", [None, "", " "])
def test_no_authorization(open_client: Opener, authorization: str | None) -> None:
    """Without the Authorization header the code is AUTHENTICATION_FAILURE."""
    reply = open_client().post_form(CALLNOTIFY, CALL, authorization)
    assert (reply.status, reply.code) == (401, "AUTHENTICATION_FAILURE")


@pytest.mark.parametrize(("accept_bearer", "status"), [(False, 401), (True, 200)])
def test_bearer(open_client: Opener, accept_bearer: bool, status: int) -> None:
    """The Bearer scheme is an invalid token unless the switch allows it."""
    client = open_client(Behaviour(accept_bearer=accept_bearer))
    assert client.post_form(CALLNOTIFY, CALL, f"Bearer {client.token}").status == status


ACCOUNTS = [
    (Behaviour(call_log_scope=False), 401, "OAUTH_SCOPE_MISMATCH", "invalid oauth scope to access this URL"),
    (Behaviour(integration_enabled=False), 401, "PBX_NOT_INTEGRATED", "Sandbox PBX Integration is not enabled"),
    (
        Behaviour(integration_enabled=False, integration_status=400),
        400,
        "PBX_NOT_INTEGRATED",
        "Sandbox PBX Integration is not enabled",
    ),
    (Behaviour(provider_registered=False), 400, "PROVIDER_NOT_REGISTERED", None),
    (Behaviour(other_provider_enabled=True), 403, "DIFFERENT_PROVIDER_ALREADY_ENABLED", None),
    (Behaviour(permitted=False), 403, "NO_PERMISSION", None),
]


@pytest.mark.parametrize(("behaviour", "status", "code", "message"), ACCOUNTS)
def test_account(open_client: Opener, behaviour: Behaviour, status: int, code: str, message: str | None) -> None:
    """An account that may not notify calls gets its documented refusal in the envelope."""
    content = open_client(behaviour).notify().content
    expected = {"code": code, "details": {}, "message": message or content["message"], "status": "error"}
    assert content == expected


@pytest.mark.parametrize(("behaviour", "status", "code", "message"), ACCOUNTS)
def test_account_status(
    open_client: Opener, behaviour: Behaviour, status: int, code: str, message: str | None
) -> None:
    """Each refusal of the account has its own status."""
    assert open_client(behaviour).notify().status == status


def test_order_of_checks(open_client: Opener) -> None:
    """The token is judged first, then the account, then presence, then values, then the user."""
    behaviour = Behaviour(integration_enabled=False, known_zohousers=frozenset())
    client = open_client(behaviour)
    good_token, wrong = client.token, {"id": "", "state": "x", "zohouser": "7"}
    client.token = "1000.00.00"
    codes = [client.notify(**wrong).code]
    client.token = good_token
    codes.append(client.notify(**wrong).code)
    client.simulator.behaviour = replace(behaviour, integration_enabled=True)
    codes.append(client.notify(**wrong).code)
    codes.append(client.notify(**{**wrong, "id": "a1"}).code)
    codes.append(client.notify(zohouser="7").code)
    assert codes == [
        "INVALID_TOKEN",
        "PBX_NOT_INTEGRATED",
        "REQUIRED_PARAM_MISSING",
        "INVALID_DATA",
        "INVALID_USER",
    ]


# --- callnotify: throttling ------------------------------------------------------------------------------------

THROTTLES = [
    (
        "A",
        429,
        "60",
        {
            "code": "TOO_MANY_REQUESTS",
            "details": {},
            "message": "Too many requests, please try again later",
            "status": "error",
        },
    ),
    (
        "B",
        400,
        "60",
        {
            "error": {
                "status_code": 400,
                "title": "URL_ROLLING_THROTTLES_LIMIT_EXCEEDED",
                "details": {
                    "message": "Cannot execute more than 2 requests per API in 2 minutes. "
                    "Try again after 1 minutes."
                },
            }
        },
    ),
    (
        "C",
        400,
        None,
        {"code": "request_limit_exceeded", "message": "You have exceeded the URL throttle limits."},
    ),
]


@pytest.mark.parametrize(("profile", "status", "retry_after", "content"), THROTTLES)
def test_throttle_profile(
    open_client: Opener, profile: str, status: int, retry_after: str | None, content: dict[str, object]
) -> None:
    """Beyond the limit the profile's status, header and body come."""
    behaviour = Behaviour(rate_limit=(2, 120.0), throttle_profile=profile, retry_after_seconds=60)  # type: ignore[arg-type]
    client = open_client(behaviour, Clock(0.0))
    client.notify(id="a1")
    client.notify(id="a2")
    reply = client.notify(id="a3")
    assert (reply.status, reply.headers.get("retry-after"), reply.content) == (status, retry_after, content)


def test_throttled_call_is_not_stored(open_client: Opener) -> None:
    """A throttled call is not taken in."""
    client = open_client(Behaviour(rate_limit=(1, 60.0)), Clock(0.0))
    client.notify(id="a1")
    client.notify(id="a2")
    assert [call["id"] for call in client.simulator.accepted] == ["a1"]


def test_rolling_limit_window() -> None:
    """Without a fixed wait, the answer says when the oldest request leaves the window."""
    limit = RollingLimit()
    waits = [limit.wait_seconds(moment, (2, 10.0), None) for moment in (0.0, 3.0, 4.0, 9.5, 10.0, 10.5, 13.0)]
    assert waits == [0, 0, 6, 1, 0, 3, 0]


def test_rolling_limit_shut() -> None:
    """With a fixed wait, nothing goes through before it is over, whatever the window."""
    limit = RollingLimit()
    waits = [limit.wait_seconds(moment, (1, 10.0), 30) for moment in (0.0, 1.0, 12.0, 30.9, 31.0, 32.0)]
    assert waits == [0, 30, 19, 1, 0, 30]


@given(
    ticks=st.lists(st.integers(0, 60), max_size=40),
    requests_allowed=st.integers(1, 5),
    period=st.integers(1, 20),
)
def test_rolling_limit_holds(ticks: list[int], requests_allowed: int, period: int) -> None:
    """Never more than the allowed number goes through in any window."""
    limit = RollingLimit()
    passed = [
        tick for tick in sorted(ticks) if not limit.wait_seconds(tick, (requests_allowed, float(period)), None)
    ]
    assert most_in_any_window(passed, period) <= requests_allowed


# --- the token endpoint: section 8.2 ---------------------------------------------------------------------------


def test_token_answer(open_client: Opener) -> None:
    """A good refresh gets a token, the API's own base URL and no refresh token."""
    client = open_client()
    content = client.sign_in().content
    token = content.pop("access_token")
    assert content == {"api_domain": client.simulator.base_url, "token_type": "Bearer", "expires_in": 3600}
    assert isinstance(token, str)


def test_token_shape(open_client: Opener) -> None:
    """An access token is 1000 and two hexadecimal parts."""
    first, second, third = open_client().token.split(".")
    assert first == "1000" and len(bytes.fromhex(second)) == len(bytes.fromhex(third)) == 16


def test_tokens_differ(open_client: Opener) -> None:
    """Each refresh gives another token and both are good."""
    client = open_client()
    old, client.token = client.token, str(client.sign_in().content["access_token"])
    assert old != client.token and client.notify().status == 200


def test_legacy_token_answer(open_client: Opener) -> None:
    """The old form has seconds in expires_in_sec and milliseconds in expires_in."""
    content = open_client(Behaviour(legacy_token_answer=True)).sign_in().content
    assert (content["expires_in_sec"], content["expires_in"]) == (3600, 3_600_000)


def test_api_domain_override(open_client: Opener) -> None:
    """The api_domain answered can be another host's."""
    content = open_client(Behaviour(api_domain="https://www.zohoapis.eu")).sign_in().content
    assert content["api_domain"] == "https://www.zohoapis.eu"


@pytest.mark.parametrize(
    ("changes", "error"),
    [
        ({"refresh_token": "1000.wrong"}, "invalid_code"),
        ({"refresh_token": ""}, "invalid_code"),
        ({"client_id": "1000.OTHER"}, "invalid_client"),
        ({"client_secret": "wrong"}, "invalid_client"),
        ({"client_secret": ""}, "invalid_client"),
        ({"grant_type": "password"}, "general_error"),
        ({"grant_type": "authorization_code", "code": "1000.never.issued"}, "invalid_code"),
    ],
)
def test_token_error(open_client: Opener, changes: dict[str, str], error: str) -> None:
    """A refused sign-in comes with status 200 and nothing but an error word."""
    reply = open_client().sign_in(**changes)
    assert (reply.status, reply.content) == (200, {"error": error})


def test_own_credentials(open_client: Opener) -> None:
    """Credentials of a test's own replace the sandbox's."""
    own = SandboxCredentials("1000.OWN", "own-secret", "1000.own.refresh")
    client = open_client(Behaviour(credentials=own))
    changes = {"client_id": "1000.OWN", "client_secret": "own-secret", "refresh_token": "1000.own.refresh"}
    assert "access_token" in client.sign_in(**changes).content and client.simulator.credentials is own


def test_token_values_in_query(open_client: Opener) -> None:
    """Values in the query are taken as well, as Zoho's own pages show them."""
    reply = open_client().send("POST", f"{TOKEN_PATH}?{urlencode(REFRESH)}")
    assert "access_token" in reply.content


def test_token_by_get(open_client: Opener) -> None:
    """GET is no way to a token."""
    assert open_client().send("GET", f"{TOKEN_PATH}?{urlencode(REFRESH)}").status == 405


@pytest.mark.parametrize("status", [400, 200])
def test_token_limit(open_client: Opener, status: int) -> None:
    """The eleventh token within ten minutes is denied."""
    client = open_client(Behaviour(token_throttle_status=status), Clock(0.0))  # type: ignore[arg-type]
    statuses = {client.sign_in().status for _ in range(9)}
    reply = client.sign_in()
    description = "You have made too many requests continuously. Please try again after some time."
    denied = {"error_description": description, "error": "Access Denied", "status": "failure"}
    assert (statuses, reply.status, reply.content) == ({200}, status, denied)


def test_token_limit_ends(open_client: Opener) -> None:
    """Ten minutes after the first of ten tokens there is another."""
    clock = Clock(0.0)
    client = open_client(Behaviour(), clock)
    for _ in range(9):
        client.sign_in()
    clock.seconds = 599.9
    denied = "error" in client.sign_in().content
    clock.seconds = 600.0
    assert denied and "access_token" in client.sign_in().content


def test_refused_sign_in_does_not_count(open_client: Opener) -> None:
    """Only tokens given out count towards the limit."""
    client = open_client(Behaviour(token_limit_per_10_minutes=2))
    for _ in range(5):
        client.sign_in(refresh_token="1000.wrong")
    assert "access_token" in client.sign_in().content


def test_sixteenth_token(open_client: Opener) -> None:
    """The sixteenth active token makes the oldest invalid and leaves the second alone."""
    client = open_client(Behaviour(token_limit_per_10_minutes=100))
    tokens = [client.token, *(str(client.sign_in().content["access_token"]) for _ in range(15))]
    statuses = []
    for client.token in (tokens[0], tokens[1], tokens[15]):
        statuses.append(client.notify().status)
    assert statuses == [401, 200, 200]


def test_expired_tokens_do_not_fill_places(open_client: Opener) -> None:
    """A token past its life does not count as active and pushes nobody out."""
    clock = Clock(0.0)
    client = open_client(Behaviour(active_token_limit=2), clock)
    client.simulator.behaviour = replace(client.simulator.behaviour, token_seconds=1)
    client.sign_in()
    clock.seconds = 1.0
    client.sign_in()
    assert client.notify().status == 200


def test_grant_code(open_client: Opener) -> None:
    """A grant code brings a refresh token once, and invalid_code the second time."""
    client = open_client()
    exchange_form = {"grant_type": "authorization_code", "code": client.simulator.issue_grant_code()}
    first, second = client.sign_in(**exchange_form).content, client.sign_in(**exchange_form).content
    assert (first["refresh_token"], second) == (
        SANDBOX_CREDENTIALS.refresh_token,
        {"error": "invalid_code"},
    )


def test_grant_code_too_late(open_client: Opener) -> None:
    """A grant code is worth nothing after three minutes."""
    clock = Clock(0.0)
    client = open_client(Behaviour(), clock)
    code = client.simulator.issue_grant_code()
    clock.seconds = 180.0
    reply = client.sign_in(grant_type="authorization_code", code=code)
    assert reply.content == {"error": "invalid_code"}


def test_token_requests(open_client: Opener) -> None:
    """Every request to the token endpoint is counted, refused ones too."""
    client = open_client()
    client.sign_in()
    client.sign_in(client_id="x")
    assert client.simulator.token_requests == 3


@pytest.mark.parametrize(
    ("fault", "status"),
    [(Fault.gateway(503), 503), (Fault.login_page(), 200), (Fault.internal_error(), 500)],
)
def test_token_fault(open_client: Opener, fault: Fault, status: int) -> None:
    """The token endpoint plays its own script and then answers again."""
    client = open_client()
    client.simulator.script_tokens(fault)
    assert (client.sign_in().status, client.sign_in().status) == (status, 200)


@pytest.mark.parametrize("expires_in", [0, -1, "3600", 10**12, None])
def test_token_answer_changed(open_client: Opener, expires_in: object) -> None:
    """A fault can spoil one key of an answer whose token is good."""
    client = open_client()
    client.simulator.script_tokens(Fault(changes={"expires_in": expires_in}))
    content = client.sign_in().content
    client.token = str(content["access_token"])
    assert (content["expires_in"], client.notify().status) == (expires_in, 200)


def test_token_answer_without_a_key(open_client: Opener) -> None:
    """A fault can leave a key out."""
    client = open_client()
    client.simulator.script_tokens(Fault(drops=("api_domain", "expires_in")))
    assert set(client.sign_in().content) == {"access_token", "token_type"}


# --- other paths: section 8.3 and the sandbox's own ------------------------------------------------------------


def get(client: Client, path: str) -> Reply:
    """Read a path signed in."""
    return client.send("GET", path, headers={"Authorization": f"Zoho-oauthtoken {client.token}"})


def test_users(open_client: Opener) -> None:
    """The users are listed with id, mail and name, and the page they are on."""
    content = get(open_client(), "/phonebridge/v3/users?page=1&perPage=2").content
    assert content == {
        "users": [
            {"zohouser": user.zohouser, "email": user.email, "username": user.username}
            for user in SANDBOX_USERS[:2]
        ],
        "paging": {"perPage": 2, "page": 1},
        "navigation": {"next": True, "previous": False},
    }


def test_users_second_page(open_client: Opener) -> None:
    """The next page goes on where the first ended, and beyond the last there is nobody."""
    client = open_client()
    pages = [get(client, f"/phonebridge/v3/users?page={page}&perPage=4").content["users"] for page in (2, 3)]
    assert [len(page) for page in pages if isinstance(page, list)] == [2, 0]


def test_users_without_paging(open_client: Opener) -> None:
    """The form of the one real answer has users only."""
    assert set(get(open_client(Behaviour(users_paging=False)), "/phonebridge/v3/users").content) == {"users"}


@pytest.mark.parametrize("query", ["perPage=1001", "perPage=0", "perPage=x", "page=0", "page=-1", "page="])
def test_users_page_out_of_range(open_client: Opener, query: str) -> None:
    """A page that cannot be gets 400 and the envelope."""
    reply = get(open_client(), f"/phonebridge/v3/users?{query}")
    assert (reply.status, reply.content["status"]) == (400, "error")


@pytest.mark.parametrize(
    ("behaviour", "status", "code"),
    [
        (Behaviour(provider_registered=False), 400, "PROVIDER_NOT_REGISTERED"),
        (Behaviour(permitted=False), 403, "NO_PERMISSION"),
        (Behaviour(other_provider_enabled=True), 403, "DIFFERENT_PROVIDER_ALREADY_ENABLED"),
    ],
)
def test_users_refused(open_client: Opener, behaviour: Behaviour, status: int, code: str) -> None:
    """Listing users has the documented refusals."""
    reply = get(open_client(behaviour), "/phonebridge/v3/users")
    assert (reply.status, reply.code) == (status, code)


def test_users_without_token(open_client: Opener) -> None:
    """Listing users needs a token."""
    assert open_client().send("GET", "/phonebridge/v3/users").status == 401


def test_users_before_integration(open_client: Opener) -> None:
    """Users can be listed while the integration is not switched on yet."""
    reply = get(open_client(Behaviour(integration_enabled=False)), "/phonebridge/v3/users")
    assert reply.status == 200


def test_integrate(open_client: Opener) -> None:
    """Posting to integrate switches the integration on and says so."""
    client = open_client(Behaviour(integration_enabled=False))
    before = client.notify().code
    reply = client.post_form("/phonebridge/v3/integrate", {}, f"Zoho-oauthtoken {client.token}")
    assert (before, reply.content, client.notify().code) == (
        "PBX_NOT_INTEGRATED",
        {"message": "Sandbox Integration is successful", "status": "success", "code": "SUCCESS"},
        "SUCCESS",
    )


def test_integrate_off(open_client: Opener) -> None:
    """Deleting the integration switches it off."""
    client = open_client()
    client.send(
        "DELETE", "/phonebridge/v3/integrate", headers={"Authorization": f"Zoho-oauthtoken {client.token}"}
    )
    assert client.notify().code == "PBX_NOT_INTEGRATED"


def test_integrate_without_privilege(open_client: Opener) -> None:
    """Without privilege integrate answers 403 INTERNAL_ERROR, as documented."""
    client = open_client(Behaviour(permitted=False))
    reply = client.post_form("/phonebridge/v3/integrate", {}, f"Zoho-oauthtoken {client.token}")
    assert (reply.status, reply.code) == (403, "INTERNAL_ERROR")


def test_server_info(open_client: Opener) -> None:
    """The list of data centres names nobody but the simulator."""
    client = open_client()
    assert client.send("GET", "/oauth/serverinfo").content == {
        "result": "success",
        "locations": {"us": client.simulator.base_url},
    }


def test_unknown_path(open_client: Opener) -> None:
    """Any other path is 404 with the envelope."""
    reply = open_client().send("POST", "/phonebridge/v3/callnotify/", urlencode(CALL))
    assert (reply.status, reply.content["status"]) == (404, "error")


def test_calls_page(open_client: Opener) -> None:
    """The calls taken in can be read over HTTP, decoded, with the time of arrival."""
    client = open_client()
    client.notify()
    listed = json.loads(client.send("GET", "/sandbox/calls").body)
    assert listed == [{**CALL, "arrived_at": "2026-01-20T16:00:00.000Z", "duplicate": False}]


def test_status_page(open_client: Opener) -> None:
    """The status is a few lines of plain text for people."""
    client = open_client()
    client.notify()
    client.notify()
    reply = client.send("GET", "/sandbox")
    assert reply.headers["content-type"].startswith("text/plain")
    assert b"calls taken in       2\nof them duplicates   1\n" in reply.body


def test_status_page_is_read_only(open_client: Opener) -> None:
    """Nothing can be posted to the sandbox's own pages."""
    assert open_client().send("POST", "/sandbox/calls", "x=1").status == 405


# --- faults ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("fault", "status", "code"),
    [
        (Fault.throttle("A"), 429, "TOO_MANY_REQUESTS"),
        (Fault.throttle("B"), 400, "URL_ROLLING_THROTTLES_LIMIT_EXCEEDED"),
        (Fault.throttle("C"), 400, "request_limit_exceeded"),
        (Fault.internal_error(), 500, "INTERNAL_ERROR"),
        (Fault.gateway(), 502, ""),
        (Fault.gateway(504), 504, ""),
        (Fault.redirect("http://127.0.0.1:1/"), 302, ""),
        (Fault.redirect("http://127.0.0.1:1/", 307), 307, ""),
        (Fault.login_page(), 200, ""),
        (Fault.refusal("SOMETHING_NEW", 422), 422, "SOMETHING_NEW"),
        (Fault.expired_token(), 401, "INVALID_TOKEN"),
        (Fault(status=200, body=b"\xff\xfe{"), 200, ""),
        (Fault(status=200, body=b"[" * 100_000), 200, ""),
        (Fault(status=204), 204, ""),
        (Fault(status=999, body=b"[]"), 999, ""),
    ],
)
def test_answering_fault(open_client: Opener, fault: Fault, status: int, code: str) -> None:
    """A scripted answer goes out as told, is recorded so, and the call is not taken in."""
    client = open_client()
    client.simulator.script(fault)
    reply = client.notify()
    arrival = client.simulator.arrivals[0]
    assert (reply.status, arrival.status, arrival.code, arrival.stored, client.simulator.accepted) == (
        status,
        status,
        code,
        False,
        (),
    )


def test_retry_after_of_a_fault(open_client: Opener) -> None:
    """A scripted throttle says how long to wait."""
    client = open_client()
    client.simulator.script(Fault.throttle("A", 7))
    assert client.notify().headers["retry-after"] == "7"


def test_headers_of_a_fault(open_client: Opener) -> None:
    """Headers of a fault replace the default ones and may stand twice."""
    client = open_client()
    client.simulator.script(
        Fault(headers=(("content-type", "text/plain"), ("Set-Cookie", "a=1"), ("Set-Cookie", "b=2")))
    )
    client.connection.request("GET", CALLNOTIFY)
    answer = client.connection.getresponse()
    answer.read()
    assert (answer.headers.get_all("Content-Type"), answer.headers.get_all("Set-Cookie")) == (
        ["text/plain"],
        ["a=1", "b=2"],
    )


def test_fault_then_ordinary(open_client: Opener) -> None:
    """Faults come in the order queued, as many times as told, and then the ordinary answer."""
    client = open_client()
    client.simulator.script(ORDINARY.repeated(2), Fault.gateway(503).repeated(2), Fault.gateway(502))
    assert [client.notify(id=f"a{n}").status for n in range(6)] == [200, 200, 503, 503, 502, 200]


def test_fault_for_ever(open_client: Opener) -> None:
    """A fault without end stays."""
    client = open_client()
    client.simulator.script(Fault.gateway(503).repeated(FOREVER))
    assert {client.notify().status for _ in range(20)} == {503}


def test_call_script_spares_tokens(open_client: Opener) -> None:
    """A fault for callnotify does not strike another path."""
    client = open_client()
    client.simulator.script(Fault.gateway())
    assert (client.sign_in().status, client.notify().status) == (200, 502)


def test_expired_token_fault_lasts(open_client: Opener) -> None:
    """After the token expired by script, only a new one helps."""
    client = open_client()
    client.simulator.script(ORDINARY, Fault.expired_token())
    statuses = [client.notify().status for _ in range(3)]
    client.token = str(client.sign_in().content["access_token"])
    assert [*statuses, client.notify().status] == [200, 401, 401, 200]


def test_stored_fault(open_client: Opener) -> None:
    """A fault after storing leaves the call taken in although the answer is an error."""
    client = open_client()
    client.simulator.script(Fault.internal_error(store=True))
    assert (client.notify().status, len(client.simulator.accepted)) == (500, 1)


def test_storing_fault_on_a_bad_call(open_client: Opener) -> None:
    """A fault does not store what the service would refuse."""
    client = open_client()
    client.simulator.script(Fault.internal_error(store=True))
    client.notify(state="x")
    assert client.simulator.accepted == ()


@pytest.mark.parametrize(
    ("fault", "error", "is_complete", "is_stored"),
    [
        (Fault(close_before_reading=True), http.client.RemoteDisconnected, False, False),
        (Fault(reset_before_reading=True), ConnectionResetError, False, False),
        (Fault(close_after_reading=True), http.client.RemoteDisconnected, True, False),
        (Fault(reset_after_reading=True), ConnectionResetError, True, False),
        (Fault(close_after_reading=True, store=True), http.client.RemoteDisconnected, True, True),
        (Fault(reset_after_reading=True, store=True), ConnectionResetError, True, True),
        (Fault.lost_answer(), http.client.RemoteDisconnected, True, True),
    ],
)
def test_dropping_fault(
    open_client: Opener, fault: Fault, error: type[Exception], is_complete: bool, is_stored: bool
) -> None:
    """A dropped connection ends by FIN or RST as told, and the record says how far the request came."""
    client = open_client()
    client.simulator.script(fault)
    with pytest.raises(error) as raised:
        client.notify()
    arrival = client.simulator.arrivals[0]
    # RemoteDisconnected is a ConnectionResetError too; http.client makes it of a FIN.
    assert (type(raised.value), arrival.status, arrival.complete, arrival.stored) == (
        error,
        None,
        is_complete,
        is_stored,
    )


@pytest.mark.parametrize(
    ("fault", "is_whole"),
    [
        (ORDINARY, True),
        (Fault(early_hints=True), True),
        (Fault(drip_seconds=0.0005), True),
        (Fault.cut_answer(3), False),
    ],
)
def test_sent_bytes_are_recorded(open_client: Opener, fault: Fault, is_whole: bool) -> None:
    """The record holds the bytes of the answer that left, cut as they were."""
    client = open_client(Behaviour(keep_alive=False))
    client.simulator.script(fault)
    received = exchange(client.simulator.port, raw_call(client))
    assert received == client.simulator.arrivals[0].sent
    assert client.simulator.arrivals[0].sent.endswith(b"}") is is_whole
    assert client.simulator.token_arrivals[0].sent.startswith(b"HTTP/1.1 200 OK")


def test_close_before_reading_is_orderly(open_client: Opener) -> None:
    """A close before a long body was read is a FIN, not the RST of unread bytes."""
    client = open_client()
    client.simulator.script(Fault(close_before_reading=True))
    assert exchange(client.simulator.port, raw_call(client, voiceuri="x" * 60_000)) == b""


@pytest.mark.parametrize("field_name", ["close_before_reading", "reset_before_reading"])
def test_unread_request_leaves_no_fields(open_client: Opener, field_name: str) -> None:
    """Of a request that was not read nothing but its arrival is known."""
    client = open_client()
    client.simulator.script(Fault(**{field_name: True}))  # type: ignore[arg-type]
    with pytest.raises(ConnectionError):
        client.notify()
    arrival = client.simulator.arrivals[0]
    assert (arrival.path, arrival.fields, arrival.raw_body) == (CALLNOTIFY, {}, b"")


def test_kept_connection_dropped(open_client: Opener) -> None:
    """The second request on a kept connection can meet its end; a new connection works."""
    client = open_client()
    client.simulator.script(ORDINARY, Fault(reset_before_reading=True))
    client.notify(id="a1")
    with pytest.raises(ConnectionResetError):
        client.notify(id="a2")
    client.connection.close()
    client.notify(id="a2")
    assert [call["id"] for call in client.simulator.accepted] == ["a1", "a2"]


def test_cut_answer(open_client: Opener) -> None:
    """A cut answer declares its whole length, sends less and ends; the call was taken in."""
    client = open_client()
    client.simulator.script(Fault.cut_answer(10))
    with pytest.raises(http.client.IncompleteRead) as raised:
        client.notify()
    assert (raised.value.partial, raised.value.expected) == (b'{"status":', 30)
    assert len(client.simulator.accepted) == 1


def test_hanging_fault(open_client: Opener) -> None:
    """A hanging request has arrived, gets no answer, and ends when the simulator stops."""
    client = open_client()
    client.simulator.script(Fault(hang=True, early_hints=True, store=True))
    with socket.create_connection(("127.0.0.1", client.simulator.port), timeout=20) as connection:
        connection.sendall(raw_call(client))
        assert connection.recv(65_536).startswith(b"HTTP/1.1 103 ")
        during = client.simulator.arrivals[0]
        client.simulator.stop()
        assert (connection.recv(65_536), during.status, during.complete, during.stored) == (b"", None, True, True)


@pytest.mark.parametrize(
    ("behaviour", "fault"),
    [
        (Behaviour(latency_seconds=3600.0), Fault(early_hints=True)),
        (Behaviour(), Fault(early_hints=True, delay_seconds=3600.0)),
    ],
)
def test_late_answer(open_client: Opener, behaviour: Behaviour, fault: Fault) -> None:
    """A late answer's call is taken in before the wait, and stop does not wait for it."""
    client = open_client(behaviour)
    client.simulator.script(fault)
    with socket.create_connection(("127.0.0.1", client.simulator.port), timeout=20) as connection:
        connection.sendall(raw_call(client))
        connection.recv(65_536)
        client.simulator.stop()
        assert (connection.recv(65_536), len(client.simulator.accepted)) == (b"", 1)


def test_latency(open_client: Opener) -> None:
    """With latency the ordinary answer comes, not before its time."""
    client = open_client(Behaviour(latency_seconds=0.02))
    before = time.monotonic()
    assert client.notify().status == 200 and time.monotonic() - before >= 0.02


def test_early_hints(open_client: Opener) -> None:
    """A 103 goes out first and the ordinary answer after it on the same connection."""
    client = open_client()
    client.simulator.script(Fault(early_hints=True, close_after_answer=True))
    first, _, second = exchange(client.simulator.port, raw_call(client)).partition(b"\r\n\r\n")
    assert (first.split(b"\r\n")[0], second.split(b"\r\n")[0]) == (
        b"HTTP/1.1 103 Early Hints",
        b"HTTP/1.1 200 OK",
    )


def test_dripping_answer(open_client: Opener) -> None:
    """A dripped answer is the ordinary one."""
    client = open_client()
    client.simulator.script(Fault(drip_seconds=0.00001))
    assert client.notify().code == "SUCCESS"


def test_raw_answer(open_client: Opener) -> None:
    """Raw bytes go out as they are, and the record knows no status."""
    client = open_client()
    client.simulator.script(Fault(raw_answer=b"SSH-2.0-OpenSSH_9.6\r\n", store=True))
    answer = exchange(client.simulator.port, raw_call(client))
    arrival = client.simulator.arrivals[0]
    assert (answer, arrival.status, arrival.stored) == (b"SSH-2.0-OpenSSH_9.6\r\n", None, True)


def test_trailing_bytes(open_client: Opener) -> None:
    """Bytes can follow a whole answer."""
    client = open_client()
    client.simulator.script(Fault(trailing=b"HTTP/1.1 200 OK\r\n\r\n", close_after_answer=True))
    assert exchange(client.simulator.port, raw_call(client)).endswith(b'"SUCCESS"}HTTP/1.1 200 OK\r\n\r\n')


def test_unannounced_close(open_client: Opener) -> None:
    """A connection can end after an answer that did not say so."""
    client = open_client()
    client.simulator.script(Fault(close_after_answer=True))
    answer = exchange(client.simulator.port, raw_call(client))
    assert b"Connection" not in answer and answer.endswith(b"}")


def test_changed_answer(open_client: Opener) -> None:
    """Keys can be added to the success body, and the record keeps the code that went out."""
    client = open_client()
    client.simulator.script(Fault(changes={"code": "success", "extra": 1}))
    reply = client.notify()
    assert reply.content == {"status": "success", "code": "success", "extra": 1}
    assert client.simulator.arrivals[0].code == "success"


@table(
    "build",
    [
        lambda: Fault(times=0),
        lambda: Fault(hang=True, status=200),
        lambda: Fault(close_after_reading=True, close_before_reading=True),
        lambda: Fault(raw_answer=b"x", status=200),
    ],
)
def test_contradictory_fault(build: Callable[[], Fault]) -> None:
    """A fault that ends a request in two ways, or never comes, cannot be made."""
    with pytest.raises(ValueError, match="one way"):
        build()


# --- connections -----------------------------------------------------------------------------------------------


def test_keep_alive(open_client: Opener) -> None:
    """Many requests of every kind share one connection."""
    client = open_client()
    client.notify(id="a1")
    client.notify(state="x")
    client.send("GET", "/nowhere")
    client.send("GET", "/sandbox/calls")
    client.send("PUT", CALLNOTIFY, "left=over")
    client.notify(id="a2")
    assert client.simulator.connections == 1


@pytest.mark.parametrize("path", [CALLNOTIFY, TOKEN_PATH, "/nowhere", "/sandbox", "/phonebridge/v3/users"])
@pytest.mark.parametrize("method", ["GET", "PUT", "POST"])
def test_body_is_read_whatever_the_answer(open_client: Opener, path: str, method: str) -> None:
    """The body of a refused request does not poison the next one on the connection."""
    client = open_client()
    client.send(method, path, b"GET /poison HTTP/1.1\r\n\r\n" * 50)
    assert client.notify().code == "SUCCESS"


def test_pipelined_requests(open_client: Opener) -> None:
    """Requests sent in one packet are answered one after the other."""
    client = open_client()
    client.simulator.script(ORDINARY.repeated(2), Fault(close_after_answer=True))
    answer = exchange(client.simulator.port, b"".join(raw_call(client, id=f"a{n}") for n in range(3)))
    assert (answer.count(b"HTTP/1.1 200 OK"), len(client.simulator.accepted)) == (3, 3)


def test_keep_alive_off(open_client: Opener) -> None:
    """Without keep-alive every answer announces the end of its connection."""
    client = open_client(Behaviour(keep_alive=False))
    reply = client.notify()
    client.notify()
    assert (reply.headers["connection"], client.simulator.connections) == ("close", 3)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
def test_client_closes(open_client: Opener, version: str) -> None:
    """A client that asks for the end, or speaks HTTP/1.0, gets an announced one."""
    client = open_client()
    sent = f"GET /sandbox HTTP/{version}\r\nConnection: close\r\n\r\n".encode()
    assert b"\r\nConnection: close\r\n" in exchange(client.simulator.port, sent)


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"Transfer-Encoding: chunked", b"411"),
        (b"Content-Length: x", b"400"),
        (b"Content-Length: -1", b"400"),
        (b"Content-Length: \xb2", b"400"),
        (b"Content-Length: 1\r\nContent-Length: 2", b"400"),
        (b"Content-Length: 65537", b"413"),
    ],
)
def test_unreadable_body(open_client: Opener, head: bytes, status: bytes) -> None:
    """A body whose end cannot be told is refused and the connection ends."""
    client = open_client()
    sent = b"POST " + CALLNOTIFY.encode() + b" HTTP/1.1\r\n" + head + b"\r\n\r\n"
    with socket.create_connection(("127.0.0.1", client.simulator.port), timeout=20) as connection:
        connection.sendall(sent + b"1\r\nx\r\n0\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        answer = b"".join(iter(lambda: connection.recv(65_536), b""))
    assert answer.startswith(b"HTTP/1.1 " + status) and client.simulator.arrivals[0].status == int(status)


def test_half_a_request(open_client: Opener) -> None:
    """A client that goes away in the middle of its body leaves an incomplete arrival and no call."""
    client = open_client()
    with socket.create_connection(("127.0.0.1", client.simulator.port), timeout=20) as connection:
        connection.sendall(raw_call(client)[:-5])
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65_536) == b""
    arrival = client.simulator.arrivals[0]
    assert (arrival.complete, arrival.stored, client.simulator.accepted) == (False, False, ())


def test_silence(open_client: Opener, capfd: pytest.CaptureFixture[str]) -> None:
    """Garbage, unknown methods and lost connections write nothing to the terminal."""
    client = open_client()
    for sent in (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n"):
        with socket.create_connection(("127.0.0.1", client.simulator.port), timeout=20) as connection:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            b"".join(iter(lambda: connection.recv(65_536), b""))
    client.simulator.script(Fault(drip_seconds=0.0001, delay_seconds=0.001))
    with socket.create_connection(("127.0.0.1", client.simulator.port), timeout=20) as connection:
        connection.sendall(raw_call(client))
    client.notify()
    client.simulator.stop()
    assert capfd.readouterr() == ("", "")


def test_long_request_line(open_client: Opener) -> None:
    """A request line beyond 64 KiB is refused."""
    client = open_client()
    with socket.create_connection(("127.0.0.1", client.simulator.port), timeout=20) as connection:
        connection.sendall(b"GET /" + b"x" * 70_000 + b" HTTP/1.1\r\n\r\n")
        connection.shutdown(socket.SHUT_WR)
        assert connection.recv(65_536).startswith(b"HTTP/1.1 414 ")


def test_requests_library(open_client: Opener) -> None:
    """The library the importer posts with has its plus signs kept and its connection used again."""
    client = open_client()
    before = client.simulator.connections
    with requests.Session() as session:
        session.trust_env = False
        for number in range(5):
            session.post(
                client.simulator.base_url + CALLNOTIFY,
                data={**CALL, "id": f"a{number}"},
                headers={"Authorization": f"Zoho-oauthtoken {client.token}"},
                timeout=20,
            ).raise_for_status()
    assert (client.simulator.connections - before, [call["to"] for call in client.simulator.accepted]) == (
        1,
        [CUSTOMER] * 5,
    )


# --- the record ------------------------------------------------------------------------------------------------


def test_arrival(open_client: Opener) -> None:
    """An arrival holds the moment, the path, the body as sent and decoded, and what became of it."""
    clock = Clock(50.0)
    client = open_client(Behaviour(), clock)
    clock.seconds = 75.5
    client.notify()
    arrival = client.simulator.arrivals[0]
    assert (arrival.moment, arrival.path, arrival.fields, arrival.raw_body) == (
        75.5,
        CALLNOTIFY,
        CALL,
        urlencode(CALL).encode(),
    )
    assert (arrival.status, arrival.code, arrival.stored, arrival.complete) == (200, "SUCCESS", True, True)


def test_raw_body_shows_encoding(open_client: Opener) -> None:
    """The body as sent tells an encoded plus sign from a raw one."""
    client = open_client()
    client.notify()
    assert quote_plus(CUSTOMER).encode() in client.simulator.arrivals[0].raw_body


def test_arrivals_are_callnotify_only(open_client: Opener) -> None:
    """Token requests and other paths are no arrivals of calls."""
    client = open_client()
    client.send("GET", "/sandbox")
    assert (client.simulator.arrivals, len(client.simulator.token_arrivals)) == ((), 1)


def test_worst_window(open_client: Opener) -> None:
    """The worst window is the most arrivals within its length, its end not included."""
    clock = Clock(0.0)
    client = open_client(Behaviour(), clock)
    for clock.seconds in (0.0, 4.0, 8.0, 10.0, 11.0, 30.0):
        client.notify()
    assert [client.simulator.worst_window(period) for period in (1.0, 1.1, 4.0, 7.0, 10.0, 100.0)] == [
        1,
        2,
        3,
        3,
        4,
        6,
    ]


@given(
    moments=st.lists(st.integers(0, 100), max_size=30),
    period=st.integers(1, 50),
)
def test_worst_window_oracle(moments: list[int], period: int) -> None:
    """The worst window equals what counting from every arrival gives."""
    counts = [sum(start <= moment < start + period for moment in moments) for start in moments]
    assert most_in_any_window(moments, period) == max(counts, default=0)


def test_refused_requests_count_in_the_window(open_client: Opener) -> None:
    """Throttled, refused and dropped requests are arrivals too."""
    client = open_client(Behaviour(), Clock(0.0))
    client.simulator.script(Fault.throttle(), Fault(close_before_reading=True))
    client.notify()
    with pytest.raises(ConnectionError):
        client.notify()
    client.connection.close()
    client.notify(state="x")
    assert client.simulator.worst_window(1.0) == 3


def test_concurrent_clients(open_client: Opener) -> None:
    """Calls of several clients at once are all taken in, each once, each client's in its order."""
    client = open_client()

    def send(name: str) -> None:
        own = Client(client.simulator, client.token)
        for number in range(50):
            own.notify(id=f"{name}{number:02}")
        own.connection.close()

    threads = [threading.Thread(target=send, args=(name,)) for name in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    ids = [call["id"] for call in client.simulator.accepted]
    assert all([i for i in ids if i[0] == name] == [f"{name}{n:02}" for n in range(50)] for name in "abcd")
    assert len(ids) == 200


# --- life ------------------------------------------------------------------------------------------------------


@table("host", ["0.0.0.0", "", "::", "192.0.2.1", "example.com", "127.0.0.1.example.com"])
def test_loopback_only(host: str) -> None:
    """Any address but loopback is refused before anything listens."""
    with pytest.raises(ValueError, match="loopback"):
        Simulator(host=host)


@table("host", ["127.0.0.1", "127.0.0.2", "localhost"])
def test_loopback_hosts(host: str) -> None:
    """Loopback addresses and localhost are served."""
    with Simulator(host=host) as simulator:
        assert requests.get(simulator.base_url + "/sandbox", timeout=20).status_code == 200


def test_ipv6_loopback() -> None:
    """The IPv6 loopback is served where the machine has one."""
    try:
        simulator = Simulator(host="::1").start()
    except OSError:
        pytest.skip("no IPv6 loopback here")
    try:
        assert requests.get(simulator.base_url + "/sandbox", timeout=20).status_code == 200
    finally:
        simulator.stop()


def test_base_url_before_start() -> None:
    """The base URL is not known before a free port was taken."""
    with pytest.raises(RuntimeError, match="not been started"):
        _ = Simulator().base_url


def test_port_in_use() -> None:
    """A port that is taken is an OSError at the start."""
    with Simulator() as first, pytest.raises(OSError, match="in use"):
        Simulator(port=first.port).start()


def test_start_twice() -> None:
    """A simulator that serves cannot be started again."""
    with Simulator() as simulator, pytest.raises(RuntimeError, match="already"):
        simulator.start()


def test_stop_twice() -> None:
    """Stopping what is stopped, or never started, does nothing."""
    simulator = Simulator()
    simulator.stop()
    simulator.start().stop()
    simulator.stop()


def test_stopped_port_refuses(open_client: Opener) -> None:
    """After stop nobody listens."""
    client = open_client()
    client.simulator.stop()
    client.connection.close()
    with pytest.raises(ConnectionRefusedError):
        client.notify()


def test_stop_ends_idle_connections(open_client: Opener) -> None:
    """A kept idle connection ends when the simulator stops."""
    client = open_client()
    client.notify()
    client.simulator.stop()
    with pytest.raises(ConnectionError):
        client.notify()


def test_restart(open_client: Opener) -> None:
    """After a restart it serves on the same port, with tokens and records kept."""
    client = open_client()
    client.notify(id="a1")
    client.simulator.stop()
    client.simulator.start()
    client.connection.close()
    client.notify(id="a2")
    assert [call["id"] for call in client.simulator.accepted] == ["a1", "a2"]


def test_connections_are_counted_over_a_restart() -> None:
    """The count of connections goes on after a restart."""
    simulator = Simulator()
    for _ in range(2):
        with simulator:
            exchange(simulator.port, b"GET /sandbox HTTP/1.0\r\n\r\n")
    assert simulator.connections == 2


def test_serve_forever_ends_by_stop() -> None:
    """The foreground ends when another thread stops the simulator."""
    simulator = Simulator().start()
    thread = threading.Thread(target=simulator.serve_forever)
    thread.start()
    simulator.stop()
    thread.join(20)
    assert not thread.is_alive()


def test_serve_forever_ends_by_interrupt() -> None:
    """Ctrl-C ends the foreground, and until then other processes are served."""
    script = (
        "import signal\n"
        "from importer.simulator import Simulator\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # background jobs are born deaf to it
        "simulator = Simulator().start()\n"
        "try:\n    print(simulator.port, flush=True)\n    simulator.serve_forever()\n"
        "except KeyboardInterrupt:\n    print('ended', len(simulator.accepted))\n"
    )
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        assert exchange(port, b"GET /sandbox HTTP/1.0\r\n\r\n").startswith(b"HTTP/1.1 200 ")
        process.send_signal(signal.SIGINT)
        assert (process.stdout.read(), process.wait(20)) == ("ended 0\n", 0)


def test_bug_comes_to_light() -> None:
    """A failure inside the simulator is not taken for a network fault: stop raises it."""
    simulator = Simulator(wall_clock=lambda: 1 / 0).start()
    exchange(simulator.port, b"GET /sandbox HTTP/1.0\r\n\r\n")
    with pytest.raises(RuntimeError, match="itself failed"):
        simulator.stop()


@pytest.mark.slow
def test_throughput(open_client: Opener) -> None:
    """More than a thousand requests per second are served to several clients."""
    client = open_client()
    each, clients = 1500, 4

    def send(name: str) -> None:
        with socket.create_connection(("127.0.0.1", client.simulator.port), timeout=20) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            for number in range(each):
                connection.sendall(raw_call(client, id=f"{name}{number}"))
                assert connection.recv(65_536).endswith(b"}")

    threads = [threading.Thread(target=send, args=(name,)) for name in "abcd"]
    before = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    seconds = time.monotonic() - before
    assert len(client.simulator.accepted) == each * clients
    assert each * clients / seconds > 1000
