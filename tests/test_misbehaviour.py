"""The misbehaving server of the tests does what its faults say, and its records are true."""

import http.client
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest

from conftest import table
from misbehaviour import CALLS, FOREVER, ORDINARY, TOKENS, USERS, Fault, Simulator

FORM = "application/x-www-form-urlencoded"
CALL = {
    "type": "dialed",
    "state": "noanswer",
    "id": "call1",
    "from": "+12025550100",
    "to": "+447700900123",
    "start_time": "2026-01-20 15:09:10",
}


@dataclass
class Client:
    """A plain client of an API of its own, on one kept connection."""

    api: Simulator
    token: str = ""
    connection: http.client.HTTPConnection = field(init=False)

    def __post_init__(self) -> None:
        self.connection = http.client.HTTPConnection("127.0.0.1", self.api.port, timeout=20)
        self.sign_in()

    def post(self, path: str, fields: dict[str, str]) -> tuple[int, bytes, http.client.HTTPMessage]:
        """Post a form; return status, body and headers."""
        headers = {"Content-Type": FORM, "Authorization": f"Zoho-oauthtoken {self.token}"}
        self.connection.request("POST", path, urlencode(fields), headers)
        answer = self.connection.getresponse()
        return answer.status, answer.read(), answer.headers

    def sign_in(self) -> tuple[int, bytes]:
        """Ask for a token, and use it if there is one."""
        known = self.api.credentials
        fields = {"client_id": known.client_id, "client_secret": known.client_secret}
        fields |= {"grant_type": "refresh_token", "refresh_token": known.refresh_token}
        status, body, _ = self.post(TOKENS, fields)
        self.token = body.decode("latin-1").partition('"access_token": "')[2].partition('"')[0]
        return status, body

    def notify(self, **changes: str) -> int:
        """Post the call; return the status."""
        return self.post(CALLS, CALL | changes)[0]

    def raw_call(self) -> bytes:
        """Return the call as bytes of a request."""
        body = urlencode(CALL)
        head = f"POST {CALLS} HTTP/1.1\r\nAuthorization: Zoho-oauthtoken {self.token}\r\n"
        return f"{head}Content-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n{body}".encode()


@pytest.fixture
def client(simulator: Simulator) -> Iterator[Client]:
    """Return a signed-in client."""
    made = Client(simulator)
    yield made
    made.connection.close()


@table(
    ("fault", "status", "words"),
    [
        (ORDINARY, 200, b'"SUCCESS"'),
        (Fault.throttle("A", 7), 429, b"TOO_MANY_REQUESTS"),
        (Fault.throttle("B"), 400, b"URL_ROLLING_THROTTLES_LIMIT_EXCEEDED"),
        (Fault.throttle("C"), 400, b"request_limit_exceeded"),
        (Fault.internal_error(), 500, b"INTERNAL_ERROR"),
        (Fault.internal_error(store=True), 500, b"INTERNAL_ERROR"),
        (Fault.gateway(504), 504, b"504 Bad Gateway"),
        (Fault.redirect("http://127.0.0.1:1/", 307), 307, b""),
        (Fault.login_page(), 200, b"<form>"),
        (Fault.refusal("SOMETHING_NEW", 422), 422, b"SOMETHING_NEW"),
        (Fault(status=200, body=b"\xff\xfe{"), 200, b"\xff\xfe{"),
        (Fault(status=204), 204, b""),
        (Fault(status=999, body=b"[]"), 999, b"[]"),
        (Fault(changes={"code": "success", "extra": 1}), 200, b'"code": "success", "extra": 1'),
        (Fault(drops=("code",)), 200, b'{"status": "success"}'),
        (Fault(headers=(("content-type", "text/plain"), ("X-A", "1"), ("X-A", "2"))), 200, b"SUCCESS"),
    ],
)
def test_answers(client: Client, fault: Fault, status: int, words: bytes) -> None:
    """A fault answers as it says, once, with its headers, and accepts the call where it should."""
    client.api.script(fault)
    before = len(client.api.accepted)
    given, body, headers = client.post(CALLS, CALL)
    arrival = client.api.arrivals[-1]
    assert (given, words in body, arrival.status, arrival.complete) == (status, True, status, True)
    assert (len(client.api.accepted) - before, arrival.stored) == (fault.takes_call, fault.takes_call)
    assert all(headers.get_all(name) == [v for n, v in fault.headers if n == name] for name, _ in fault.headers)
    assert (arrival.fields, arrival.raw_body) == (CALL, urlencode(CALL).encode())
    assert arrival.sent.endswith(body) and client.notify() == 200


@table(
    ("fault", "error", "is_complete", "is_stored"),
    [
        (Fault(reset_before_reading=True), ConnectionResetError, False, False),
        (Fault(close_after_reading=True), http.client.RemoteDisconnected, True, False),
        (Fault(reset_after_reading=True), ConnectionResetError, True, False),
        (Fault(reset_after_reading=True, store=True), ConnectionResetError, True, True),
        (Fault.lost_answer(), http.client.RemoteDisconnected, True, True),
        (Fault.cut_answer(3), http.client.IncompleteRead, True, True),
        (Fault(raw_answer=b"SSH-2.0-x\r\n"), http.client.BadStatusLine, True, False),
    ],
)
def test_lost_connections(
    client: Client, fault: Fault, error: type[Exception], is_complete: bool, is_stored: bool
) -> None:
    """A connection ends by FIN or RST as told, a new one works, and the record says how far the request came."""
    client.api.script(ORDINARY, fault)
    client.notify()
    before = len(client.api.accepted)
    with pytest.raises(error) as raised:
        client.notify()
    arrival = client.api.arrivals[-1]
    # RemoteDisconnected is a ConnectionResetError too; http.client makes it of a FIN.
    assert (type(raised.value), arrival.complete, arrival.stored) == (error, is_complete, is_stored)
    assert len(client.api.accepted) - before == is_stored
    assert arrival.fields == (CALL if is_complete else {})
    client.connection.close()
    assert client.notify() == 200


@table(
    "fault", [Fault(raw_answer=b"SSH-2.0-x\r\n"), Fault.cut_answer(3), Fault(early_hints=True, raw_answer=b"x")]
)
def test_sent_bytes_are_recorded(client: Client, fault: Fault) -> None:
    """The record holds the bytes of the answer that left, cut as they were."""
    client.sign_in()
    client.api.script(fault)
    raw = client.connection.sock
    raw.sendall(client.raw_call())
    assert b"".join(iter(lambda: raw.recv(65_536), b"")) == client.api.arrivals[-1].sent
    client.connection.close()


def test_order(client: Client) -> None:
    """Faults come in the order queued, as many times as told, each at its path, and then the ordinary answer."""
    client.api.script(ORDINARY.repeated(2), Fault.gateway(503).repeated(2), Fault.gateway(502))
    client.api.script(Fault.gateway(504), path=USERS)
    client.api.script_tokens(Fault(changes={"expires_in": 0}), Fault(drops=("expires_in", "api_domain")))
    statuses = [client.notify() for _ in range(6)]
    bodies = [client.sign_in()[1] for _ in range(3)]
    assert (statuses, client.notify()) == ([200, 200, 503, 503, 502, 200], 200)
    assert [body.count(b'"expires_in": 0') for body in bodies] == [1, 0, 0]
    assert [b"expires_in" in body for body in bodies] == [True, False, True]
    client.api.script(Fault.gateway(503).repeated(FOREVER))
    assert ({client.notify() for _ in range(9)}, client.post(USERS, {})[0]) == ({503}, 504)
    assert (len(client.api.arrivals), client.api.token_requests, client.api.connections) == (16, 4, 1)


def test_storing_fault_on_a_bad_call(client: Client) -> None:
    """A fault does not accept what the service would refuse."""
    client.api.script(Fault.internal_error(store=True))
    assert (client.notify(state="x"), client.api.accepted) == (500, ())


@table("status", [401, 400])
def test_expired_token(client: Client, status: int) -> None:
    """After the token expired by script, only a new one helps."""
    client.api.script(ORDINARY, Fault.expired_token(status))
    statuses = [client.notify() for _ in range(3)]
    client.sign_in()
    assert [*statuses, client.notify()] == [200, status, 401, 200]


@table(
    ("fault", "latency_seconds"),
    [
        (Fault(hang=True, early_hints=True, store=True), 0.0),
        (Fault(early_hints=True, delay_seconds=3600.0), 0.0),
        (Fault(early_hints=True), 3600.0),
    ],
)
def test_late_answer(fault: Fault, latency_seconds: float) -> None:
    """A call whose answer is late, or never comes, is accepted before the wait; stop does not wait for it."""
    with Simulator() as api:
        client = Client(api)
        api.script(fault)
        api.latency_seconds = latency_seconds
        raw = client.connection.sock
        raw.sendall(client.raw_call())
        assert raw.recv(65_536).startswith(b"HTTP/1.1 103 ")
        assert (api.arrivals[0].status, api.arrivals[0].stored) == (None, True)
        api.stop()
        assert (raw.recv(65_536), len(api.accepted)) == (b"", 1)
        client.connection.close()


def test_latency(client: Client) -> None:
    """With latency the ordinary answer comes, not before its time."""
    client.api.latency_seconds = 0.02
    before = time.monotonic()
    assert client.notify() == 200 and time.monotonic() - before >= 0.02


def test_restart(client: Client) -> None:
    """After a stop nobody listens and idle connections end; after a restart tokens and records are kept."""
    client.notify(id="a1")
    client.api.stop()
    with pytest.raises(ConnectionError):
        client.notify()
    client.connection.close()
    with pytest.raises(ConnectionRefusedError):
        client.notify()
    client.api.start()
    client.connection.close()
    client.notify(id="a2")
    assert [call["id"] for call in client.api.accepted] == ["a1", "a2"]
    assert client.api.connections == 2


def test_half_a_request(client: Client) -> None:
    """A client that goes away in the middle of its body leaves an incomplete arrival and no call."""
    with socket.create_connection(("127.0.0.1", client.api.port), timeout=20) as raw:
        raw.sendall(f"POST {CALLS} HTTP/1.1\r\nContent-Length: 50\r\n\r\nid=".encode())
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(65_536) == b""
    assert (client.api.arrivals[0].complete, client.api.accepted) == (False, ())
