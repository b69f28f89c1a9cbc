"""What the judge relies on: the records that the misbehaving server keeps of requests and answers are true."""

import socket
from contextlib import suppress
from urllib.parse import urlencode
from urllib.request import urlopen

from conftest import table
from misbehaviour import CALLS, TOKENS, Fault, Simulator

CALL = {
    "type": "dialed",
    "state": "noanswer",
    "id": "call1",
    "from": "+12025550100",
    "to": "+447700900123",
    "start_time": "2026-01-20 15:09:10",
}


def exchange(api: Simulator, head: str, body: str, length: int) -> tuple[bytes, bool]:
    """Send a call as bytes and return all that comes, and whether the connection was reset."""
    received = b""
    with socket.create_connection(("127.0.0.1", api.port), timeout=20) as raw:
        raw.sendall(f"POST {CALLS} HTTP/1.1\r\n{head}Content-Length: {length}\r\n\r\n{body}".encode())
        with suppress(OSError):  # it may be reset already
            raw.shutdown(socket.SHUT_WR)
        try:
            while part := raw.recv(65_536):
                received += part
        except ConnectionResetError:
            return received, True
    return received, False


@table(
    ("fault", "is_reset", "is_complete", "is_stored"),
    [
        (Fault(), False, True, True),
        (Fault(reset_before_reading=True), True, False, False),
        (Fault(close_after_reading=True), False, True, False),
        (Fault(reset_after_reading=True), True, True, False),
        (Fault(reset_after_reading=True, store=True), True, True, True),
        (Fault.lost_answer(), False, True, True),
        (Fault.cut_answer(3), False, True, True),
        (Fault(raw_answer=b"SSH-2.0-x\r\n"), False, True, False),
        (Fault(early_hints=True, raw_answer=b"x"), False, True, False),
    ],
)
def test_records(simulator: Simulator, fault: Fault, is_reset: bool, is_complete: bool, is_stored: bool) -> None:
    """A connection ends by FIN or RST as told; the record has how far the request came and what left in answer."""
    known, before, body = simulator.credentials, len(simulator.accepted), urlencode(CALL)
    sign_in = {"client_id": known.client_id, "client_secret": known.client_secret, "grant_type": "refresh_token"}
    form = urlencode(sign_in | {"refresh_token": known.refresh_token}).encode()
    with urlopen(simulator.base_url + TOKENS, form) as answer:
        token = answer.read().decode().partition('"access_token": "')[2].partition('"')[0]
    simulator.script(fault)
    head = f"Authorization: Zoho-oauthtoken {token}\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    received, found = exchange(simulator, head, body, len(body))
    simulator.wait_until_left()
    arrival = simulator.arrivals[-1]
    assert (found, arrival.complete, arrival.stored) == (is_reset, is_complete, is_stored)
    assert (len(simulator.accepted) - before, arrival.sent) == (is_stored, received)
    assert (arrival.fields, arrival.raw_body) == ((CALL, body.encode()) if is_complete else ({}, b""))


def test_half_a_request(simulator: Simulator) -> None:
    """A client that goes away in the middle of its body leaves an incomplete arrival and no call."""
    assert exchange(simulator, "", "id=", 50) == (b"", False)
    assert (simulator.arrivals[0].complete, simulator.accepted) == (False, ())
