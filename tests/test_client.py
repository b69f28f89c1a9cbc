"""The form, the hooks, the connection and the judgement, against servers that misbehave on loopback."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
import requests

from certificates import Certificate
from conftest import Serve, cases, table
from importer import __version__
from importer.auth import SignIn, Token
from importer.client.api import Client, TokenTransport
from importer.client.classify import Judgement, Proof, Reaction, judge_failure
from importer.client.connection import Trust
from importer.client.failures import SendFailure
from importer.errors import ExitCode
from importer.records import Call, Place, Timeouts
from importer.settings.credentials import Credentials
from misbehaviour.connections import (
    PATIENCE_SECONDS,
    SUCCESS_BODY,
    Behaviour,
    Peer,
    answering,
    black_hole,
    drip,
    http_answer,
    https_url,
    last_words,
    under_tls,
)
from schemas.vocabulary import State

CASES = cases("client")

QUICK = Timeouts(connect_seconds=5, gap_seconds=5, deadline_seconds=10)
CALL = Call(
    call_id="call1",
    state=State.NOANSWER,
    agent_number="+12125550123",
    customer_number="+447700900123",
    start_time="2026-11-22 09:30:00",
    zohouser="",
    voiceuri="https://r.example/a.mp3?x=1&y=2%20z",
    source_id="1.1",
    place=Place("a.csv", 2),
)


@pytest.fixture
def clients() -> Iterator[Callable[..., Client]]:
    """Make clients that are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(proxy: str | None = None, limits: Timeouts = QUICK, trust: Trust | None = None) -> Client:
            return stack.enter_context(contextlib.closing(Client(proxy, limits=limits, trust=trust)))

        yield make


Clients = Callable[..., Client]


def notify(
    client: Client,
    url: str,
    events: list[str] | None = None,
    *,
    before: Callable[[], object] = lambda: None,
    after: Callable[[], object] = lambda: None,
) -> Judgement:
    """Notify one call; ``events`` gets the name of each hook that is called, which does what it is given."""
    called = [] if events is None else events
    hooks = lambda: (called.append("open"), before()), lambda: (called.append("write"), after())
    return client.notify(CALL, Token("1000.aa.bb", url, 0.0), *hooks, wall_clock=lambda: 0.0)


def failure_of(client: Client, url: str, events: list[str] | None = None) -> SendFailure:
    """Notify one call, which must fail."""
    with pytest.raises(SendFailure) as caught:
        notify(client, url, events)
    return caught.value


def raising(error: BaseException) -> Callable[[], None]:
    """Return a hook that raises this."""

    def hook() -> None:
        raise error

    return hook


def test_request(serve: Serve, clients: Clients) -> None:
    """The fields that a call has go to callnotify as a form with the token, uncompressed, with no cookie."""
    server, client = serve(answering(http_answer(Set_Cookie="phonebridgecsr=x; Path=/"))), clients()
    for _ in range(2):
        notify(client, server.base_url)
    received = server.received()
    head, body = (part.decode() for part in received.split(b"\r\n\r\n")[:2])
    assert head.startswith("POST /phonebridge/v3/callnotify HTTP/1.1\r\n")
    assert {
        "Authorization: Zoho-oauthtoken 1000.aa.bb",
        "Content-Type: application/x-www-form-urlencoded",
        "Accept-Encoding: identity",
        f"User-Agent: cdr-importer/{__version__}",
    } <= set(head.split("\r\n"))
    assert b"\r\nCookie:" not in received
    assert body.startswith("type=dialed&") and "from=%2B12125550123&to=%2B447700900123" in body
    assert dict(parse_qsl(body.partition("POST")[0], strict_parsing=True)) == {
        "type": "dialed",
        "state": "noanswer",
        "id": "call1",
        "from": "+12125550123",
        "to": "+447700900123",
        "start_time": "2026-11-22 09:30:00",
        "voiceuri": CALL.voiceuri,
    }


@pytest.mark.fault(135, 136)
def test_ignored_environment(
    serve: Serve, clients: Clients, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment gets no byte, and a sign-in of .netrc goes to neither endpoint."""
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login eve password other\ndefault login eve password other\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    proxy, api, accounts = (serve(answering(http_answer())) for _ in range(3))
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"):
        monkeypatch.setenv(name, proxy.base_url)
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    notify(clients(), api.base_url)
    TokenTransport(SignIn(accounts.base_url, Credentials("c", "s", "r")))(accounts.base_url, {})
    assert (proxy.connections, api.connections, accounts.connections) == (0, 1, 1)
    assert b"Authorization: Zoho-oauthtoken 1000.aa.bb\r\n" in api.received()
    assert b"Authorization" not in accounts.received()


@table(
    "refusal",
    [
        *(RuntimeError("x"), OSError(5, "x"), BrokenPipeError(32, "x"), ConnectionResetError(104, "x")),
        *(TimeoutError(), KeyboardInterrupt()),
    ],
)
def test_door_raises(refusal: BaseException, serve: Serve, clients: Clients) -> None:
    """What a hook raises comes out unchanged, behind a write too; no byte leaves where it is the first."""
    server, other = (serve(answering(http_answer())) for _ in range(2))
    with pytest.raises(type(refusal)):
        notify(clients(), other.base_url, after=raising(refusal))
    with pytest.raises(type(refusal)) as caught:
        notify(clients(), server.base_url, before=raising(refusal))
    assert (caught.value, server.received()) == (refusal, b"")


def test_door_raises_on_used_connection(serve: Serve, clients: Clients) -> None:
    """The same holds on a connection that is used again; the next call gets a fresh one."""
    server, client = serve(answering(http_answer())), clients()
    notify(client, server.base_url)
    with pytest.raises(RuntimeError):
        notify(client, server.base_url, before=raising(RuntimeError()))
    answer = notify(client, server.base_url)
    assert (answer.http_status, server.connections, server.received().count(b"POST ")) == (200, 2, 2)


@pytest.mark.fault(52)
@table(
    ("url", "kind"),
    [
        ("http://cdr-importer.invalid", "dns"),
        (f"http://{'a' * 64}.invalid", "dns"),
        ("ftp://127.0.0.1", "bad_address"),
        ("http://[", "bad_address"),
        ("http://127.0.0.1:99999", "bad_address"),
    ],
)
def test_unknown_host(url: str, kind: str, clients: Clients) -> None:
    """A host that has no address, and an address that cannot be one, never run the hooks."""
    events: list[str] = []
    failure = failure_of(clients(), url, events)
    assert (failure.kind, failure.first_byte, events) == (kind, False, [])


def cut_when(begun: Callable[[], object], client: Client) -> None:
    """Cut the request in flight from another thread, once ``begun`` returns."""

    def cut() -> None:
        begun()
        client.cut()

    threading.Thread(target=cut).start()


@pytest.mark.fault(52)
def test_silent_resolver(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look-up that gets no answer ends with the time for connecting, or at a cut, before the hooks."""
    begun, over, real = threading.Event(), threading.Event(), socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **options: Any) -> Any:
        if options["flags"] & socket.AI_NUMERICHOST:
            return real(host, port, *args, **options)
        begun.set()
        assert over.wait(PATIENCE_SECONDS)
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    for seconds, kind in ((0.1, "dns"), (PATIENCE_SECONDS, "interrupted")):
        client, events = clients(limits=Timeouts(connect_seconds=seconds)), list[str]()
        if kind == "interrupted":
            begun.clear()
            cut_when(begun.wait, client)
        failure = failure_of(client, "https://api.invalid", events)
        assert (failure.kind, failure.first_byte, events) == (kind, False, [])
    over.set()


def test_cut_while_connecting(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """A cut ends the wait for a server that does not take the connection."""
    client, begun, ends = clients(), threading.Event(), list[type[Exception]]()
    connect = socket.socket.connect

    def connecting(self: socket.socket, address: Any) -> None:
        threading.Timer(0.05, begun.set).start()
        try:
            connect(self, address)
        except OSError as error:
            ends.append(type(error))
            raise

    with black_hole() as url:
        monkeypatch.setattr(socket.socket, "connect", connecting)
        cut_when(begun.wait, client)
        failure = failure_of(client, url)
    assert (failure.kind, failure.first_byte, ends) == ("interrupted", False, [ConnectionResetError])


@pytest.mark.fault(71)
def test_addresses_that_lead_nowhere(clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many addresses of a host take no connection, the deadline is for all of them together."""
    tried: list[Any] = []
    connect, look_up = socket.socket.connect, socket.getaddrinfo

    def connecting(self: socket.socket, address: Any) -> None:
        tried.append(address)
        connect(self, address)

    with black_hole() as url:
        found = look_up("127.0.0.1", int(url.rsplit(":", 1)[1]), type=socket.SOCK_STREAM)
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found * 20)
        monkeypatch.setattr(socket.socket, "connect", connecting)
        failure = failure_of(clients(limits=Timeouts(connect_seconds=0.1, deadline_seconds=0.25)), url)
    assert (failure.first_byte, failure.kind in ("connect_timeout", "deadline")) == (False, True)
    assert 2 <= len(tried) <= 3


CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.fault(61)
@table(
    ("behaviour", "status", "body"),
    [
        (last_words(http_answer("401 Unauthorized", b"x" * 90)[:-10]), 401, b""),
        (last_words(http_answer("429 Too Many Requests", b"x" * 90)[:-10]), 429, b""),
        (last_words(CHUNKED + b"25\r\n" + SUCCESS_BODY + b"\r\n0\r\n\r\n"), 200, SUCCESS_BODY),
        (last_words(b"HTTP/1.0 200 OK\r\n\r\n" + SUCCESS_BODY), 200, SUCCESS_BODY),
        (last_words(b"HTTP/1.1 100 Continue\r\n\r\n" + http_answer()), 200, SUCCESS_BODY),
        (drip(http_answer(), kept=-5), 200, SUCCESS_BODY),
    ],
)
def test_whole_in_other_forms(
    behaviour: Behaviour, status: int, body: bytes, serve: Serve, clients: Clients
) -> None:
    """Chunks, a body up to the end, 100 Continue and drops are read; a cut body costs 401 and 429 no meaning."""
    answer = clients().exchange(requests.Request("POST", serve(behaviour).base_url))
    assert (answer.status, answer.body) == (status, body)


def test_deadline_in_the_door(serve: Serve, clients: Clients) -> None:
    """When the deadline passes while the first hook runs, no byte leaves and the call is proved not sent."""
    server = serve(answering(http_answer()))
    client = clients(limits=Timeouts(deadline_seconds=0.1))
    with pytest.raises(SendFailure) as caught:
        notify(client, server.base_url, before=lambda: time.sleep(0.5))
    assert (caught.value.kind, caught.value.first_byte, server.received()) == ("deadline", False, b"")


@table(
    "data",
    [
        *(http_answer(body=b'{"status":"success"}'), http_answer("201 Created")),
        *(http_answer(status, b"", Location="/") for status in ("204 No", "302 No", "401 No", "429 No", "503 No")),
        *(http_answer("400 No", b'{"code":"INVALID_USER"}'), b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n"),
    ],
)
def test_connection_is_closed_after_anything_else(data: bytes, serve: Serve, clients: Clients) -> None:
    """Any answer but success is the last on its connection."""
    server, client = serve(answering(data), answering(http_answer())), clients()
    notify(client, server.base_url)
    assert (notify(client, server.base_url).http_status, server.connections) == (200, 2)


@table(("said", "moments"), CASES["rests"])
def test_connection_that_rested(serve: Serve, said: str | None, moments: tuple[float, ...]) -> None:
    """A connection rests no longer than allowed, nor than half a second less than the server says it keeps it."""
    now = [0.0]
    server = serve(answering(http_answer(**({"Keep_Alive": said} if said else {}))))
    with contextlib.closing(Client(limits=Timeouts(idle_seconds=4), clock=lambda: now[0])) as client:
        for now[0] in moments:
            notify(client, server.base_url)
    assert server.connections == 2


@pytest.mark.fault(136)
def test_tls_environment_is_ignored(
    certificate: Certificate, serve: Serve, clients: Clients, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A CA file of the environment is not trusted, and SSLKEYLOGFILE does not make our keys known."""
    server = serve(under_tls(certificate.server_context(), answering(http_answer())))
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"):
        monkeypatch.setenv(name, str(certificate.path))
    assert failure_of(clients(), https_url(server)).kind == "tls_certificate"
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    notify(clients(trust=Trust(certificate.path)), https_url(server))
    assert not (tmp_path / "keys").exists()


def test_tls_through_a_tunnel(certificate: Certificate, serve: Serve, clients: Clients) -> None:
    """In a tunnel the hook runs once for each of two requests; its one CONNECT holds neither token nor call."""
    connects: list[bytes] = []

    def tunnel(peer: Peer) -> None:
        connects.append(peer.read_request())
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        under_tls(certificate.server_context(), answering(http_answer()))(peer)

    proxy, events = serve(tunnel), list[str]()
    client = clients(proxy.base_url, trust=Trust(certificate.path))
    assert [notify(client, "https://localhost:1", events).http_status for _ in range(2)] == [200, 200]
    assert events == ["open", "write", "write"] * 2
    assert len(connects) == proxy.connections == 1
    assert connects[0].startswith(b"CONNECT localhost:1 ") and b"1000.aa.bb" not in connects[0]


@table(
    ("first_byte", "kind", "expected"),
    [
        (False, "dns", (Proof.NOT_SENT, Reaction.RETRY, ExitCode.UNAVAILABLE, 0)),
        (False, "bad_address", (Proof.NOT_SENT, Reaction.STOP, ExitCode.CONFIGURATION, 1)),
        (False, "other", (Proof.NOT_SENT, Reaction.STOP, ExitCode.INTERNAL, 1)),
        (True, "proxy", (Proof.UNKNOWN, Reaction.GO_ON, ExitCode.UNAVAILABLE, 3)),
        (True, "other", (Proof.UNKNOWN, Reaction.STOP, ExitCode.INTERNAL, 1)),
    ],
)
def test_judge_failure(first_byte: bool, kind: str, expected: tuple[Proof, Reaction, ExitCode, int]) -> None:
    """The mark of the first byte decides what a failure proves, the kind how to go on; others are met in runs."""
    judgement = judge_failure(SendFailure(first_byte=first_byte, kind=kind))
    assert (judgement.proof, judgement.reaction, judgement.exit_code, judgement.stop_after) == expected
    assert judgement.reason and judgement.hint
