"""The simulator: every answer of the specification to a good account, and its HTTP over real sockets."""

import http.client
import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from urllib.parse import urlencode

import pytest
import requests

from conftest import cases, table
from importer.simulator.service import SANDBOX_CREDENTIALS, SANDBOX_USERS, Request, Response, Sandbox, Service
from misbehaviour import CALLS, TOKENS, USERS

CASES = cases("simulator")

FORM = "application/x-www-form-urlencoded"
CUSTOMER = "+447700900123"
CALL = {
    "type": "dialed",
    "state": "noanswer",
    "id": "callid123456",
    "from": "+12025550100",
    "to": CUSTOMER,
    "start_time": "2026-01-20 15:09:10",
}
NOW = datetime(2026, 1, 20, 16, 0, 0, tzinfo=UTC).timestamp()
REFRESH = {"grant_type": "refresh_token", **SANDBOX_CREDENTIALS}
SUCCESS = {"status": "success", "code": "SUCCESS"}


class Signed:
    """A client of the service itself, signed in, at a moment of its own."""

    def __init__(self, rate_limit: tuple[int, float] | None = None, *, knows_users: bool = False) -> None:
        self.seconds = 0.0
        self.service = Service(
            rate_limit=rate_limit, knows_users=knows_users, clock=lambda: self.seconds, wall_clock=lambda: NOW
        )
        self.service.base_url = "http://127.0.0.1:8080"
        self.token = str(content_of(self.sign_in())["access_token"])

    def ask(self, method: str, target: str, body: bytes = b"", content_type: str = FORM) -> Response:
        """Send one request with the token."""
        path, _, query = target.partition("?")
        authorization = f"Zoho-oauthtoken {self.token}"
        return self.service.answer(Request(method, path, query, authorization, content_type, body))

    def notify(self, **changes: str) -> Response:
        """Send the sample call with some of its fields changed."""
        return self.ask("POST", CALLS, urlencode(CALL | changes).encode())

    def sign_in(self, **changes: str) -> Response:
        """Ask the token endpoint with the sandbox's credentials."""
        body = urlencode(REFRESH | changes).encode()
        return self.service.answer(Request("POST", TOKENS, "", "", FORM, body))

    def accepted(self) -> list[dict[str, str]]:
        """Return the fields of the accepted calls."""
        return [dict(fields) for fields, _ in self.service.accepted]


def content_of(answer: Response) -> dict[str, object]:
    """Return the JSON object of an answer."""
    loaded = json.loads(answer.body)
    assert isinstance(loaded, dict)
    return loaded


def refusal(answer: Response) -> tuple[int, object, object]:
    """Return status, code and named parameter of the error envelope."""
    content = content_of(answer)
    assert (set(content), content["status"]) == ({"code", "details", "message", "status"}, "error")
    return answer.status, content["code"], dict(content["details"]).get("param")  # type: ignore[call-overload]


@pytest.fixture
def signed() -> Signed:
    """Return a client of a new service."""
    return Signed()


TAKEN = (200, None, None)
UNATTENDED = ("busy", "invalid", "blocked", "notavailable", "noanswer", "rejected")


@table(
    ("changes", "answered"),
    [
        *(({"state": state}, TAKEN) for state in UNATTENDED),
        *(({name: ""}, (400, "REQUIRED_PARAM_MISSING", name)) for name in CALL),
        *(({name: value}, (400, "INVALID_DATA", name)) for name, values in CASES["no_values"] for value in values),
        # What Zoho documents no rule for is taken as received.
        *(({"start_time": f"{year}-01-01 00:00:00"}, TAKEN) for year in (1999, 2036)),
        *((changes, TAKEN) for changes in ({"from": "100"}, {"to": "020 7946 0000"}, {"id": "1316287873.1570"})),
        ({"zohouser": "somebody", "voiceuri": "https://example.com/a?b=c&d=ä"}, TAKEN),
        ({"zohouser": ""}, TAKEN),
    ],
)
def test_call(changes: dict[str, str], answered: tuple[int, str | None, str | None]) -> None:
    """A call gets 200 with exactly the documented body and is kept, or is refused by its parameter and is not."""
    signed = Signed()
    answer = signed.notify(**changes)
    assert (TAKEN if content_of(answer) == SUCCESS else refusal(answer)) == answered
    assert (answer.status, signed.accepted()) == (answered[0], [CALL | changes] if answered is TAKEN else [])


def test_raw_plus(signed: Signed) -> None:
    """A plus sign sent as it is arrives as a space and is kept so; of a parameter sent twice the first counts."""
    signed.ask("POST", CALLS, (urlencode(CALL) + "&state=busy").replace("%2B", "+").encode())
    assert (signed.accepted()[0]["to"], signed.accepted()[0]["state"]) == (" 447700900123", "noanswer")


@table(("target", "body", "content_type", "missing"), CASES["parameters"])
def test_stray_parameters(signed: Signed, target: str, body: str, content_type: str, missing: str | None) -> None:
    """Parameters in JSON, under another content type or in the query are absent; a charset does no harm."""
    answer = signed.ask("POST", target, body.encode(), content_type)
    assert refusal(answer)[2] == missing if missing else answer.status == 200


def test_wrong_method(signed: Signed) -> None:
    """Another method gets the envelope with 405 and the method to use, any other path one with 404."""
    assert refusal(signed.ask("POST", f"{CALLS}/"))[0] == 404
    for method, path, allowed in (("GET", CALLS, "POST"), ("NONSENSE", USERS, "GET")):
        answer = signed.ask(method, path)
        assert (refusal(answer)[0], answer.headers) == (405, {"Allow": allowed})


@table(("authorization", "code"), CASES["authorizations"])
def test_authorization(signed: Signed, authorization: str, code: str | None) -> None:
    """Without a header, with another scheme or an unknown token calls and users get 401."""
    given = authorization.format(token=signed.token)
    for method, path in (("POST", CALLS), ("GET", USERS)):
        answer = signed.service.answer(Request(method, path, "", given, FORM, urlencode(CALL).encode()))
        assert answer.status == (401 if code else 200)
        assert not code or refusal(answer) == (401, code, None)


def test_order_of_checks() -> None:
    """The token is judged first, then the limit, then presence, then values."""
    signed = Signed(rate_limit=(2, 60.0))
    wrong, good_token = {"id": "", "state": "x"}, signed.token
    signed.token = "1000.00.00"
    answers = [signed.notify(**wrong)]
    signed.token = good_token
    answers += [signed.notify(**wrong), signed.notify(state="x"), signed.notify(**wrong)]
    codes = [refusal(answer)[1] for answer in answers]
    assert codes == ["INVALID_TOKEN", "REQUIRED_PARAM_MISSING", "INVALID_DATA", "TOO_MANY_REQUESTS"]


def test_throttle() -> None:
    """Beyond the limit comes 429 with the time until the oldest request leaves the window; no call is accepted."""
    signed, waits = Signed(rate_limit=(2, 10.0)), []
    for signed.seconds in (0.0, 3.0, 4.0, 9.5, 10.0, 10.5, 13.0):
        answer = signed.notify()
        waits.append(answer.headers.get("Retry-After"))
        assert answer.status == 200 or refusal(answer)[:2] == (429, "TOO_MANY_REQUESTS")
    assert (waits, len(signed.accepted())) == ([None, None, "6", "1", None, "3", None], 4)
    assert Signed(rate_limit=(0, 60.0)).notify().headers["Retry-After"] == "60"


def test_token_limit(signed: Signed) -> None:
    """The eleventh token within ten minutes is denied; refused sign-ins do not count."""
    statuses = {signed.sign_in(**changes).status for changes in ({}, {"client_id": "x"}) for _ in range(9)}
    signed.seconds = 599.9
    denied = signed.sign_in()
    assert (statuses, denied.status, content_of(denied)["error"]) == ({200}, 400, "Access Denied")
    signed.seconds = 600.0
    assert "access_token" in content_of(signed.sign_in())


def test_sixteenth_token(signed: Signed) -> None:
    """The sixteenth active token makes the oldest invalid, not the second; each ends after its last second."""
    signed.service.most_per_period = 100
    tokens = [signed.token, *(str(content_of(signed.sign_in())["access_token"]) for _ in range(15))]
    statuses = []
    for signed.token in (tokens[0], tokens[1], tokens[15]):
        statuses.append(signed.notify().status)
    signed.seconds = 3599.9
    statuses.append(signed.notify().status)
    signed.seconds = 3600.0
    later = [str(content_of(signed.sign_in())["access_token"]) for _ in range(15)]
    for signed.token in (tokens[15], later[0]):
        statuses.append(signed.notify().status)
    assert statuses == [401, 200, 200, 200, 401, 200]


def test_token_error(signed: Signed) -> None:
    """A refused sign-in comes with status 200 and nothing but an error word; a query is read as a form is."""
    assert "access_token" in content_of(signed.ask("POST", f"{TOKENS}?{urlencode(REFRESH)}"))
    for changes, error in CASES["sign_ins"]:
        answer = signed.sign_in(**changes)
        assert (answer.status, content_of(answer)) == (200, {"error": error}), changes


def test_users(signed: Signed) -> None:
    """The users are listed with id, mail and name, and their page; a page that cannot be is refused."""
    content = content_of(signed.ask("GET", f"{USERS}?page=1&perPage=1"))
    assert content == {
        "users": [SANDBOX_USERS[0]],
        "paging": {"perPage": 1, "page": 1},
        "navigation": {"next": True, "previous": False},
    }
    pages = [content_of(signed.ask("GET", f"{USERS}?page={page}&perPage=4")) for page in (2, 3)]
    assert [len(list(page["users"])) for page in pages] == [2, 0]  # type: ignore[call-overload]
    assert pages[0]["navigation"] == {"next": False, "previous": True}
    for query in ("perPage=1001", "perPage=0", "perPage=x", "page=0", "page=-1", "page="):
        assert refusal(signed.ask("GET", f"{USERS}?{query}"))[2] == query.partition("=")[0]


@pytest.fixture(scope="module")
def sandbox() -> Iterator[Sandbox]:
    """Return a sandbox that serves, with many tokens to give."""
    with Sandbox() as running:
        running.service.most_per_period = 10_000
        yield running


@pytest.fixture
def connection(sandbox: Sandbox) -> Iterator[http.client.HTTPConnection]:
    """Return a kept connection to it."""
    made = http.client.HTTPConnection("127.0.0.1", sandbox.server_port, timeout=20)
    yield made
    made.close()


def exchange(port: int, *sent: bytes) -> bytes:
    """Send bytes on a connection of their own, end it and return all that comes."""
    with socket.create_connection(("127.0.0.1", port), timeout=20) as raw:
        for part in sent:
            raw.sendall(part)
        raw.shutdown(socket.SHUT_WR)
        return b"".join(iter(lambda: raw.recv(65_536), b""))


@table("method", ["GET", "PUT", "POST", "DELETE", "PATCH", "OPTIONS"])
def test_body_is_read_whatever_the_answer(connection: http.client.HTTPConnection, method: str) -> None:
    """The body of a refused request does not poison the next one on the connection."""
    for path in (CALLS, TOKENS, "/nowhere", USERS):
        connection.request(method, path, b"GET /poison HTTP/1.1\r\n\r\n" * 50)
        connection.getresponse().read()
        used = connection.sock
        connection.request("GET", "/sandbox/calls")
        answer = connection.getresponse()
        assert (answer.status, isinstance(json.loads(answer.read()), list), connection.sock) == (200, True, used)


@table("head", CASES["unreadable"])
def test_unreadable_body(sandbox: Sandbox, head: str) -> None:
    """A body whose end cannot be found is refused in the envelope and the connection ends."""
    answer = exchange(sandbox.server_port, f"POST /sandbox/code HTTP/1.1\r\n{head}\r\n\r\n".encode("latin-1"))
    first, _, body = answer.partition(b"\r\n\r\n")
    assert first.startswith(b"HTTP/1.1 411 ") and json.loads(body)["code"] == "BAD_REQUEST"


def test_broken_requests(sandbox: Sandbox, capfd: pytest.CaptureFixture[str]) -> None:
    """Garbage and lost connections end without a word on the terminal, and no call is accepted."""
    before = len(sandbox.service.accepted)
    body = urlencode(CALL).encode()
    head = f"POST {CALLS} HTTP/1.1\r\nContent-Type: {FORM}\r\nContent-Length: {len(body)}\r\n\r\n"
    half = head.encode() + body[:-5]
    sent = (b"\x16\x03\x01\x02\x00\r\n\r\n", b"GARBAGE\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\r\n", half)
    answers = [exchange(sandbox.server_port, each) for each in (*sent, b"HEAD /sandbox/code HTTP/1.1\r\n\r\n")]
    with socket.create_connection(("127.0.0.1", sandbox.server_port), timeout=20) as raw:
        raw.sendall(b"GET /sandbox/code HTTP/1.1\r\n\r\n" * 50)
    assert (answers[3], answers[4], answers[5].partition(b"\r\n\r\n")[2]) == (b"", b"", b"")
    long = exchange(sandbox.server_port, b"GET /" + b"x" * 66_000 + b" HTTP/1.1\r\n\r\n")
    assert long.startswith(b"HTTP/1.1 414 ")
    assert (len(sandbox.service.accepted), capfd.readouterr()) == (before, ("", ""))


def test_bug_is_shown(capfd: pytest.CaptureFixture[str]) -> None:
    """A failure inside the simulator is not taken for a network fault: it is written to the terminal."""
    with Sandbox() as broken:
        broken.service.accepted = None  # type: ignore[assignment]
        assert exchange(broken.server_port, b"GET /sandbox/calls HTTP/1.0\r\n\r\n") == b""
    assert "TypeError" in capfd.readouterr().err


def test_loopback_only(sandbox: Sandbox) -> None:
    """Any address but loopback is refused before anything listens; a port that is taken is an OSError."""
    for host in ("0.0.0.0", "", "::", "192.0.2.1", "example.com", "127.0.0.1.example.com"):
        with pytest.raises(ValueError, match="loopback"):
            Sandbox(host=host)
    with pytest.raises(OSError, match="in use"):
        Sandbox(port=sandbox.server_port)


def test_foreground_sandbox_prints_each_request() -> None:
    """`sandbox` names a ledger of its own, prints each request and answer in 80 columns, and looks at users."""
    command = [sys.executable, "-u", "-m", "importer", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        base = next(line for line in process.stdout if "answers at" in line).split()[4]
        exported = [*iter(process.stdout.readline, "Stop it with Ctrl-C.\n")]
        assert any("CDR_IMPORTER_LEDGER=" in line for line in exported)
        token = requests.post(base + TOKENS, data=REFRESH, timeout=20).json()["access_token"]
        for changes in ({}, {"zohouser": "1"}, {"to": ""}):
            headers = {"Authorization": f"Zoho-oauthtoken {token}"}
            requests.post(base + CALLS, data=CALL | changes, headers=headers, timeout=20)
        requests.get(f"{base}/{'x' * 99}%1b\x1b", timeout=20)
        process.terminate()
        _, printed = process.communicate(timeout=20)
    assert [line.split() for line in printed.splitlines()] == [
        ["POST", TOKENS, "200"],
        ["POST", CALLS, "noanswer", "200", "SUCCESS"],
        ["POST", CALLS, "noanswer", "400", "INVALID_USER"],
        ["POST", CALLS, "noanswer", "400", "REQUIRED_PARAM_MISSING"],
        ["GET", "/" + "x" * 31, "404", "INVALID_URL_PATTERN"],
    ]
    told = (line.rstrip() for line in exported if not line.startswith("  export "))
    assert max(map(len, (*told, *printed.splitlines()))) <= 80
