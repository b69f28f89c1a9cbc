"""The misbehaving server of the tests does what its faults say, and its records are true."""

import http.client
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest

from conftest import table
from misbehaviour import CALLS, ORDINARY, TOKENS, Fault, Simulator

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


def test_half_a_request(client: Client) -> None:
    """A client that goes away in the middle of its body leaves an incomplete arrival and no call."""
    with socket.create_connection(("127.0.0.1", client.api.port), timeout=20) as raw:
        raw.sendall(f"POST {CALLS} HTTP/1.1\r\nContent-Length: 50\r\n\r\nid=".encode())
        raw.shutdown(socket.SHUT_WR)
        assert raw.recv(65_536) == b""
    assert (client.api.arrivals[0].complete, client.api.accepted) == (False, ())
