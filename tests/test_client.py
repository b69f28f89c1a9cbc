"""The form, the hooks, the connection and the judgement, against servers that misbehave on loopback."""

import contextlib
import json
import socket
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certificates import Certificate
from conftest import table
from importer import __version__
from importer.auth import SignIn, Token, TokenSource
from importer.client import (
    Answer,
    Client,
    Judgement,
    Proof,
    Reaction,
    Route,
    SendFailure,
    SendHooks,
    Timeouts,
    TokenTransport,
    classify,
    form_of,
    judge_failure,
)
from importer.client.classify import BODY_DECIDES, NEEDS_NO_BODY, STATUSES
from importer.errors import ConfigurationError, ExitCode, ProtocolError, UnavailableError
from importer.records import Call, Place
from misbehaviour import Fault, Simulator
from misbehaviour.connections import (
    PATIENCE_SECONDS,
    SUCCESS_BODY,
    Behaviour,
    Peer,
    Server,
    answering,
    black_hole,
    http_answer,
    https_url,
    last_words,
    reset_after_reading,
    silent,
    under_tls,
)
from schemas.vocabulary import State

QUICK = Timeouts(connect_seconds=5, gap_seconds=5, deadline_seconds=10)
CALL = Call(
    call_id="call1",
    state=State.NOANSWER,
    agent_number="+12125550123",
    customer_number="+447700900123",
    start_time="2026-11-22 09:30:00",
    zohouser="",
    voiceuri="",
    source_id="1.1",
    place=Place("a.csv", 2),
)


@dataclass
class Hooks:
    """Counts what the connection tells it."""

    opened: int = 0
    writes: int = 0
    events: list[str] = field(default_factory=list)
    refusal: BaseException | None = None

    def before_first_byte(self) -> None:
        """Count, then refuse if so told."""
        self.opened += 1
        self.events.append("open")
        if self.refusal is not None:
            raise self.refusal

    def after_write(self) -> None:
        """Count."""
        self.writes += 1
        self.events.append("write")

    @property
    def send_hooks(self) -> SendHooks:
        """The hooks as the client takes it."""
        return SendHooks(self.before_first_byte, self.after_write)


@pytest.fixture
def clients() -> Iterator[Callable[..., Client]]:
    """Make clients that are closed at the end."""
    with contextlib.ExitStack() as stack:

        def make(route: Route | None = None, limits: Timeouts = QUICK) -> Client:
            return stack.enter_context(contextlib.closing(Client(route, limits=limits)))

        yield make


Serve = Callable[..., Server]
Clients = Callable[..., Client]


def token_for(url: str) -> Token:
    """Build a token for an API base."""
    return Token("1000.aa.bb", url, 0.0)


def notify(client: Client, url: str, hooks: Hooks | None = None, call: Call = CALL) -> Answer:
    """Notify one call."""
    return client.notify(call, token_for(url), (hooks or Hooks()).send_hooks)


def failure_of(client: Client, url: str, hooks: Hooks | None = None) -> SendFailure:
    """Notify one call, which must fail."""
    with pytest.raises(SendFailure) as caught:
        notify(client, url, hooks)
    return caught.value


# --- the form and the request ------------------------------------------------------------------------------------


def test_form_of() -> None:
    """A call becomes the six mandatory fields, under the API's names."""
    assert form_of(CALL) == {
        "type": "dialed",
        "state": "noanswer",
        "id": "call1",
        "from": "+12125550123",
        "to": "+447700900123",
        "start_time": "2026-11-22 09:30:00",
    }


@table(("name", "value"), [("zohouser", "20068512682"), ("voiceuri", "https://pbx.example/1.wav")])
def test_form_of_optional(name: str, value: str) -> None:
    """An optional field is there when it has a value."""
    fields = {slot: getattr(CALL, slot) for slot in CALL.__slots__}

    assert form_of(Call(**fields | {name: value}))[name] == value


def test_request_line_and_headers(serve: Serve, clients: Clients) -> None:
    """The request goes to callnotify with the token, as a form, uncompressed, under our name."""
    server = serve(answering(http_answer()))
    notify(clients(), server.base_url)
    head = server.received().split(b"\r\n\r\n")[0].decode().split("\r\n")

    assert head[0] == "POST /phonebridge/v3/callnotify HTTP/1.1"
    assert {
        "Authorization: Zoho-oauthtoken 1000.aa.bb",
        "Content-Type: application/x-www-form-urlencoded",
        "Accept-Encoding: identity",
        f"User-Agent: cdr-importer/{__version__}",
    } <= set(head)


def test_request_body(serve: Serve, clients: Clients) -> None:
    """The plus of a number is encoded, and the form decodes to the same fields."""
    server = serve(answering(http_answer()))
    notify(clients(), server.base_url)
    body = server.received().split(b"\r\n\r\n")[1].decode()

    assert "from=%2B12125550123&to=%2B447700900123" in body
    assert dict(parse_qsl(body, strict_parsing=True)) == form_of(CALL)


def test_answer(serve: Serve, clients: Clients) -> None:
    """An answer carries status, body and lower-case header names."""
    server = serve(answering(http_answer("400 Bad Request", b"{}", Retry_After="7")))
    answer = notify(clients(), server.base_url)

    assert (answer.status, answer.body, answer.headers["retry-after"]) == (400, b"{}", "7")


@pytest.fixture
def netrc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Set up a .netrc that has a sign-in for every host."""
    path = tmp_path / "netrc"
    path.write_text("machine 127.0.0.1 login eve password other\ndefault login eve password other\n")
    path.chmod(0o600)
    monkeypatch.setenv("NETRC", str(path))


@pytest.mark.fault(135)
def test_netrc_is_ignored(netrc: None, serve: Serve, clients: Clients) -> None:
    """A .netrc entry for the host does not replace the token."""
    server = serve(answering(http_answer()))
    notify(clients(), server.base_url)

    assert b"Authorization: Zoho-oauthtoken 1000.aa.bb\r\n" in server.received()


@pytest.mark.fault(135)
def test_token_transport_ignores_netrc(netrc: None, serve: Serve) -> None:
    """A .netrc entry for the token endpoint is not sent to it."""
    server = serve(answering(http_answer(body=b"{}")))
    TokenTransport(sign_in_at(server.base_url))(server.base_url, {})

    assert b"Authorization" not in server.received()


@pytest.mark.fault(136)
@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"])
def test_environment_proxy_is_ignored(
    name: str, serve: Serve, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A proxy of the environment gets no byte."""
    proxy, server = serve(answering(http_answer())), serve(answering(http_answer()))
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.setenv(name, proxy.base_url)
    notify(clients(), server.base_url)

    assert (proxy.connections, server.connections) == (0, 1)


def test_cookies_are_not_sent_back(serve: Serve, clients: Clients) -> None:
    """A cookie of one answer does not come with the next request."""
    server = serve(answering(http_answer(Set_Cookie="phonebridgecsr=x; Path=/")))
    client = clients()
    notify(client, server.base_url)
    notify(client, server.base_url)

    assert b"\r\nCookie:" not in server.received()


# --- the hooks ---------------------------------------------------------------------------------------------------


def test_door_opens_once(serve: Serve, clients: Clients) -> None:
    """The first hook runs once per request, before the first write, the second after each write."""
    server, hooks = serve(answering(http_answer())), Hooks()
    notify(clients(), server.base_url, hooks)

    assert (hooks.opened, hooks.events[0], hooks.writes) == (1, "open", 2)


def test_door_opens_for_each_request(serve: Serve, clients: Clients) -> None:
    """A connection used again runs the hooks of the next request too."""
    server, client, all_hooks = serve(answering(http_answer())), clients(), [Hooks(), Hooks()]
    for hooks in all_hooks:
        notify(client, server.base_url, hooks)

    assert ([hooks.opened for hooks in all_hooks], server.connections) == ([1, 1], 1)


@pytest.mark.parametrize(
    "refusal",
    [
        RuntimeError("x"),
        OSError(5, "x"),
        BrokenPipeError(32, "x"),
        ConnectionResetError(104, "x"),
        TimeoutError(),
        KeyboardInterrupt(),
    ],
)
def test_door_raises(refusal: BaseException, serve: Serve, clients: Clients) -> None:
    """What a hook raises comes out unchanged, and no byte of the request has left."""
    server = serve(answering(http_answer()))

    with pytest.raises(type(refusal)) as caught:
        notify(clients(), server.base_url, Hooks(refusal=refusal))
    assert (caught.value, server.received()) == (refusal, b"")


def test_door_raises_on_used_connection(serve: Serve, clients: Clients) -> None:
    """The same holds on a connection that is used again; the next call gets a fresh one."""
    server, client = serve(answering(http_answer())), clients()
    notify(client, server.base_url)
    with pytest.raises(RuntimeError):
        notify(client, server.base_url, Hooks(refusal=RuntimeError()))
    answer = notify(client, server.base_url)

    assert (answer.status, server.connections, server.received().count(b"POST ")) == (200, 2, 2)


def test_door_after_write_raises(serve: Serve, clients: Clients) -> None:
    """What a hook raises after a write comes out unchanged too."""
    server = serve(answering(http_answer()))

    def fail() -> None:
        raise BrokenPipeError

    with pytest.raises(BrokenPipeError):
        clients().notify(CALL, token_for(server.base_url), SendHooks(lambda: None, fail))


@pytest.mark.fault(52)
@pytest.mark.parametrize("url", ["http://cdr-importer.invalid", "http://" + "a" * 64 + ".invalid"])
def test_unknown_host(url: str, clients: Clients) -> None:
    """A host that has no address never runs the hooks."""
    hooks = Hooks()
    failure = failure_of(clients(), url, hooks)

    assert (failure.kind, failure.first_byte, hooks.opened) == ("dns", False, 0)


@dataclass
class SilentResolver:
    """Tells when a look-up of a name has begun, and when it has ended after all."""

    begun: threading.Event = field(default_factory=threading.Event)
    ended: threading.Event = field(default_factory=threading.Event)


@pytest.fixture
def silent_resolver(monkeypatch: pytest.MonkeyPatch) -> Iterator[SilentResolver]:
    """Let every look-up of a name hang until the end."""
    resolver, over = SilentResolver(), threading.Event()
    real = socket.getaddrinfo

    def resolve(host: str, port: int, *args: Any, **options: Any) -> Any:
        if options["flags"] & socket.AI_NUMERICHOST:
            return real(host, port, *args, **options)
        resolver.begun.set()
        over.wait(PATIENCE_SECONDS)
        resolver.ended.set()
        raise socket.gaierror

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    yield resolver
    over.set()


@pytest.mark.fault(52)
def test_silent_resolver(silent_resolver: SilentResolver, clients: Clients) -> None:
    """A look-up that gets no answer ends with the time for connecting, before the hooks."""
    hooks = Hooks()
    failure = failure_of(clients(limits=Timeouts(connect_seconds=0.1)), "https://api.invalid", hooks)

    assert (failure.kind, failure.first_byte, hooks.opened) == ("dns", False, 0)
    assert not silent_resolver.ended.is_set()


def cut_when(begun: Callable[[], object], client: Client) -> None:
    """Cut the request in flight from another thread, once ``begun`` returns."""

    def cut() -> None:
        begun()
        client.cut()

    threading.Thread(target=cut).start()


def test_cut_while_looking_up(silent_resolver: SilentResolver, clients: Clients) -> None:
    """A cut ends a look-up at once."""
    client, hooks = clients(limits=Timeouts(connect_seconds=60)), Hooks()
    cut_when(silent_resolver.begun.wait, client)
    failure = failure_of(client, "https://api.invalid", hooks)

    assert (failure.kind, failure.first_byte, hooks.opened) == ("interrupted", False, 0)
    assert not silent_resolver.ended.is_set()


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


@pytest.mark.parametrize("url", ["ftp://127.0.0.1", "http://[", "http://127.0.0.1:99999"])
def test_bad_address(url: str, clients: Clients) -> None:
    """An address that cannot be one never runs the hooks."""
    failure = failure_of(clients(), url)

    assert (failure.kind, failure.first_byte) == ("bad_address", False)


@pytest.mark.fault(71)
def test_second_address_is_tried(serve: Serve, clients: Clients, monkeypatch: pytest.MonkeyPatch) -> None:
    """When the first address of a host refuses, the next is tried."""
    server = serve(answering(http_answer()))
    real = socket.getaddrinfo

    def resolve(host: str, *args: object, **kwargs: object) -> object:
        if host == "api.invalid":
            return [
                (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", server.port, 0, 0)),
                (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)),
            ]
        return real(host, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)

    assert notify(clients(), f"http://api.invalid:{server.port}").status == 200


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


# --- answers that do not come whole ------------------------------------------------------------------------------


@pytest.mark.parametrize("status", ["401 Unauthorized", "429 Too Many Requests"])
def test_cut_body_that_is_no_loss(status: str, serve: Serve, clients: Clients) -> None:
    """A status that means not applied keeps its meaning when only its body is cut."""
    server = serve(last_words(http_answer(status, b"x" * 90)[:-10]))
    answer = notify(clients(), server.base_url)

    assert (answer.status, answer.body) == (int(status[:3]), b"")


@pytest.mark.fault(61)
def test_dripping_answer_in_time(serve: Serve, clients: Clients) -> None:
    """A slow answer that is whole before the deadline counts."""

    def drip(peer: Peer) -> None:
        peer.read_request()
        peer.send(http_answer()[:-5])
        peer.drip(http_answer()[-5:])

    assert notify(clients(), serve(drip).base_url).body == SUCCESS_BODY


def test_deadline_in_the_door(serve: Serve, clients: Clients) -> None:
    """When the deadline passes while the first hook runs, no byte leaves and the call is proved not sent."""
    server, cut = serve(answering(http_answer())), threading.Event()
    client = clients(limits=Timeouts(deadline_seconds=0.1))

    def wait() -> None:
        cut.wait(0.5)

    with pytest.raises(SendFailure) as caught:
        client.notify(CALL, token_for(server.base_url), SendHooks(wait, lambda: None))
    assert (caught.value.kind, caught.value.first_byte, server.received()) == ("deadline", False, b"")


def test_deadline_of_one_request_spares_the_next(serve: Serve, clients: Clients) -> None:
    """After a request was cut, the next one on the same client has its own deadline."""
    server, client = serve(silent, answering(http_answer())), clients(limits=Timeouts(deadline_seconds=0.2))
    failure_of(client, server.base_url)

    assert notify(client, server.base_url).status == 200


@pytest.mark.fault(86)
def test_body_is_bounded(serve: Serve, clients: Clients) -> None:
    """Of an endless body only 64 KiB and a byte are read."""

    def pour(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 OK\r\n\r\n")
        while not peer.over.is_set():
            peer.sock.sendall(b"x" * 65536)

    answer = notify(clients(), serve(pour).base_url)

    assert len(answer.body) == 64 * 1024 + 1
    assert classify(answer, now_epoch=0).reason == "oversized_answer"


@pytest.mark.fault(86)
def test_compressed_answer_stays_compressed(serve: Serve, clients: Clients) -> None:
    """A compressed answer is not unpacked, so that no bomb goes off."""
    server = serve(answering(http_answer(body=b"\x1f\x8b junk", Content_Encoding="gzip")))
    answer = notify(clients(), server.base_url)

    assert answer.body == b"\x1f\x8b junk"


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n25\r\n" + SUCCESS_BODY + b"\r\n0\r\n\r\n",
        b"HTTP/1.0 200 OK\r\n\r\n" + SUCCESS_BODY,
        b"HTTP/1.1 100 Continue\r\n\r\n" + http_answer(),
    ],
)
def test_whole_answer_in_other_forms(data: bytes, serve: Serve, clients: Clients) -> None:
    """Chunks, a body up to the end of the connection, and 100 Continue are read as HTTP has them."""
    assert notify(clients(), serve(last_words(data)).base_url).body == SUCCESS_BODY


# --- one connection, used again only after success ---------------------------------------------------------------


def test_connection_is_used_again_after_success(serve: Serve, clients: Clients) -> None:
    """Three accepted calls take one connection."""
    server, client = serve(answering(http_answer())), clients()
    for _ in range(3):
        notify(client, server.base_url)

    assert server.connections == 1


@pytest.mark.parametrize(
    "data",
    [
        http_answer(body=b'{"status":"success"}'),
        http_answer("201 Created"),
        http_answer("400 Bad Request", b'{"code":"INVALID_USER"}'),
        http_answer("401 Unauthorized", b""),
        http_answer("429 Too Many Requests", b""),
        http_answer("204 No Content", b""),
        http_answer("503 Service Unavailable", b""),
        http_answer("302 Found", b"", Location="/login"),
        b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n",
    ],
)
def test_connection_is_closed_after_anything_else(data: bytes, serve: Serve, clients: Clients) -> None:
    """Any other answer is the last on its connection."""
    server, client = serve(answering(data), answering(http_answer())), clients()
    notify(client, server.base_url)

    assert (notify(client, server.base_url).status, server.connections) == (200, 2)


def test_connection_that_rested(serve: Serve) -> None:
    """A connection that rested longer than allowed is not used again."""
    now = [0.0]
    server = serve(answering(http_answer()))
    with contextlib.closing(Client(limits=Timeouts(idle_seconds=4), clock=lambda: now[0])) as client:
        for moment in (0.0, 3.9, 7.0, 11.5):
            now[0] = moment
            notify(client, server.base_url)

    assert server.connections == 2


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        ("timeout=2", 1.5),
        ("Timeout = 3, max=100", 2.5),
        ('max=5,timeout="1"', 0.5),
        ("timeout=60", 4),
        ("max=9", 4),
    ],
)
def test_connection_that_the_server_keeps(serve: Serve, said: str, seconds: float) -> None:
    """A connection is used again for half a second less than the server says that it keeps it."""
    now = [0.0]
    server = serve(answering(http_answer(Keep_Alive=said)))
    with contextlib.closing(Client(limits=Timeouts(idle_seconds=4), clock=lambda: now[0])) as client:
        for moment in (0.0, seconds - 0.1, 2 * seconds):
            now[0] = moment
            notify(client, server.base_url)

    assert server.connections == 2


def test_connection_that_the_server_does_not_keep(serve: Serve) -> None:
    """After `Keep-Alive: timeout=0` each request has a connection of its own."""
    server = serve(answering(http_answer(Keep_Alive="timeout=0")))
    with contextlib.closing(Client(clock=lambda: 0.0)) as client:
        for _ in range(2):
            notify(client, server.base_url)

    assert server.connections == 2


@pytest.mark.fault(81, 82, 141)
@pytest.mark.parametrize(
    "status", ["301 Moved", "302 Found", "303 See Other", "307 Temporary Redirect", "308 Permanent"]
)
def test_redirect_is_not_followed(status: str, serve: Serve, clients: Clients) -> None:
    """A redirect is an answer like any other; its target gets no byte."""
    target = serve(answering(http_answer()))
    server = serve(answering(http_answer(status, b"", Location=target.base_url + "/x")))
    answer = notify(clients(), server.base_url)

    assert (answer.status, target.connections) == (int(status[:3]), 0)


# --- proxies -----------------------------------------------------------------------------------------------------


def test_proxy_forwards_plain_http(serve: Serve, clients: Clients) -> None:
    """For plain http the configured proxy gets the request with the whole address; the first hook runs once."""
    proxy, hooks = serve(answering(http_answer())), Hooks()
    answer = notify(clients(Route(proxy=proxy.base_url)), "http://127.0.0.1:1", hooks)

    assert (answer.status, hooks.opened) == (200, 1)
    assert proxy.received().startswith(b"POST http://127.0.0.1:1/phonebridge/v3/callnotify HTTP/1.1\r\n")


# --- TLS ---------------------------------------------------------------------------------------------------------


def test_tls(certificate: Certificate, serve: Serve, clients: Clients) -> None:
    """With the certificate in --ca-bundle calls go through TLS; the hook runs once, the connection is kept."""
    server, hooks = serve(under_tls(certificate.server_context(), answering(http_answer()))), Hooks()
    client = clients(Route(ca_bundle=str(certificate.path)))
    statuses = [notify(client, https_url(server), hooks).status, notify(client, https_url(server)).status]

    assert (statuses, hooks.opened, server.connections) == ([200, 200], 1, 1)


@pytest.mark.fault(136)
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE"])
def test_tls_environment_is_ignored(
    name: str, certificate: Certificate, serve: Serve, clients: Clients, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CA file of the environment is not trusted."""
    monkeypatch.setenv(name, str(certificate.path))
    server = serve(under_tls(certificate.server_context(), answering(http_answer())))

    assert failure_of(clients(), https_url(server)).kind == "tls_certificate"


@pytest.mark.fault(136)
def test_tls_key_log_is_ignored(
    certificate: Certificate, serve: Serve, clients: Clients, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """SSLKEYLOGFILE does not make the keys of our connections known."""
    context = certificate.server_context()
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "keys"))
    server = serve(under_tls(context, answering(http_answer())))
    notify(clients(Route(ca_bundle=str(certificate.path))), https_url(server))

    assert not (tmp_path / "keys").exists()


def test_tls_door_raises(certificate: Certificate, serve: Serve, clients: Clients) -> None:
    """Under TLS too, nothing of the request leaves when the hook raises."""
    seen: list[bytes] = []

    def record(peer: Peer) -> None:
        seen.append(peer.read_request())

    server = serve(under_tls(certificate.server_context(), record))
    with pytest.raises(BrokenPipeError):
        notify(
            clients(Route(ca_bundle=str(certificate.path))), https_url(server), Hooks(refusal=BrokenPipeError())
        )
    server.stop()

    assert seen == [b""]


def test_tls_through_a_tunnel(certificate: Certificate, serve: Serve, clients: Clients) -> None:
    """Through a proxy's tunnel the first hook runs once, after CONNECT, which carries neither token nor call."""
    connects: list[bytes] = []

    def tunnel(peer: Peer) -> None:
        connects.append(peer.read_request())
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        under_tls(certificate.server_context(), answering(http_answer()))(peer)

    proxy, hooks = serve(tunnel), Hooks()
    client = clients(Route(proxy=proxy.base_url, ca_bundle=str(certificate.path)))
    answer = notify(client, "https://localhost:1", hooks)

    assert (answer.status, hooks.opened, hooks.events[0], hooks.writes) == (200, 1, "open", 2)
    assert connects[0].startswith(b"CONNECT localhost:1 ") and b"1000.aa.bb" not in connects[0]


@table("content", [None, "", "no certificate"])
def test_ca_bundle_unusable(content: str | None, tmp_path: Path) -> None:
    """A CA bundle that is not there or holds no certificate is a matter of configuration."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)

    with pytest.raises(ConfigurationError, match="--ca-bundle"):
        Client(Route(ca_bundle=str(path)))


# --- what failures say -------------------------------------------------------------------------------------------


@pytest.mark.fault(138)
@pytest.mark.parametrize(
    ("behaviour", "kind"),
    [(reset_after_reading, "reset"), (last_words(b"1000.aa.bb +447700900123\r\n"), "malformed")],
)
def test_failure_shows_no_secret(behaviour: Behaviour, kind: str, serve: Serve, clients: Clients) -> None:
    """A failure carries class names only: neither text of third parties, nor address, number or token."""
    server = serve(behaviour)
    failure = failure_of(clients(), server.base_url)
    shown = f"{failure} {failure!r} {failure.classes}"

    assert failure.kind == kind
    assert not any(word in shown for word in ("1000.aa", "447700900123", "127.0.0.1", str(server.port)))


BEFORE_RETRY = (Proof.NOT_SENT, Reaction.RETRY, ExitCode.UNAVAILABLE, 0)
BEFORE_STOP = (Proof.NOT_SENT, Reaction.STOP, ExitCode.CONFIGURATION, 1)
AFTER_HOLD = (Proof.UNKNOWN, Reaction.GO_ON, ExitCode.UNAVAILABLE, 3)


@table(
    ("first_byte", "kind", "expected"),
    [
        *((False, kind, BEFORE_RETRY) for kind in ("refused", "dns", "connect_timeout", "tls", "proxy", "reset")),
        *((False, kind, BEFORE_RETRY) for kind in ("timeout", "deadline", "cut", "malformed")),
        *((False, kind, BEFORE_STOP) for kind in ("tls_certificate", "tls_client_certificate", "tls_refused")),
        *((False, kind, BEFORE_STOP) for kind in ("proxy_sign_in", "bad_address")),
        (False, "other", (Proof.NOT_SENT, Reaction.STOP, ExitCode.INTERNAL, 1)),
        *((True, kind, AFTER_HOLD) for kind in ("reset", "timeout", "deadline", "cut", "tls", "proxy")),
        (True, "malformed", (Proof.UNKNOWN, Reaction.STOP, ExitCode.PROTOCOL, 1)),
        (True, "tls_client_certificate", (Proof.UNKNOWN, Reaction.STOP, ExitCode.CONFIGURATION, 1)),
        (True, "other", (Proof.UNKNOWN, Reaction.STOP, ExitCode.INTERNAL, 1)),
    ],
)
def test_judge_failure(first_byte: bool, kind: str, expected: tuple[Proof, Reaction, ExitCode, int]) -> None:
    """The mark of the first byte decides what a failure proves; the kind only how to go on."""
    judgement = judge_failure(SendFailure(first_byte=first_byte, kind=kind))

    assert (judgement.proof, judgement.reaction, judgement.exit_code, judgement.stop_after) == expected
    assert judgement.reason and judgement.hint


# --- the token endpoint ------------------------------------------------------------------------------------------


def sign_in_at(url: str) -> SignIn:
    """Build a sign-in."""
    return SignIn(accounts_url=url, client_id="c", client_secret="s", refresh_token="r")


def test_token_transport(serve: Serve) -> None:
    """The token form goes as a body, never in the address, and the answer comes back."""
    server = serve(answering(http_answer(body=b"{}")))
    url = f"{server.base_url}/oauth/v2/token"
    reply = TokenTransport(sign_in_at(server.base_url))(url, {"client_secret": "a+b c"})
    head, _, body = server.received().partition(b"\r\n\r\n")

    assert (reply.status, reply.body) == (200, b"{}")
    assert head.startswith(b"POST /oauth/v2/token HTTP/1.1\r\n") and b"Authorization" not in head
    assert parse_qs(body.decode()) == {"client_secret": ["a+b c"]}


@pytest.mark.fault(44)
@pytest.mark.parametrize(
    ("behaviour", "error"),
    [
        (reset_after_reading, UnavailableError),
        (last_words(b""), UnavailableError),
        (silent, UnavailableError),
        (last_words(http_answer()[:-1]), ProtocolError),
        (last_words(b"SSH-2.0-x\r\n"), ProtocolError),
    ],
)
def test_token_transport_failure(behaviour: Behaviour, error: type[Exception], serve: Serve) -> None:
    """A token request that fails ends as the error the token source knows."""
    server = serve(behaviour)
    post = TokenTransport(sign_in_at(server.base_url), limits=Timeouts(gap_seconds=0.2))

    with pytest.raises(error):
        post(server.base_url, {})


def test_token_transport_not_trusted(certificate: Certificate, serve: Serve) -> None:
    """A token endpoint whose certificate is not trusted gets no secret."""
    server = serve(under_tls(certificate.server_context(), answering(http_answer())))

    with pytest.raises(ConfigurationError):
        TokenTransport(sign_in_at(https_url(server)))(https_url(server), {"client_secret": "s"})


@pytest.mark.fault(141)
def test_token_transport_redirect(serve: Serve) -> None:
    """A redirect of the token endpoint is handed over, not followed with the secret."""
    target = serve(answering(http_answer()))
    server = serve(answering(http_answer("307 Temporary Redirect", b"", Location=target.base_url)))
    reply = TokenTransport(sign_in_at(server.base_url))(server.base_url, {"client_secret": "s"})

    assert (reply.status, target.connections) == (307, 0)


# --- token source, client and judgement together, against the simulator ------------------------------------------


def tokens_of(simulator: Simulator) -> TokenSource:
    """Sign in at a simulator."""
    known = simulator.credentials
    sign_in = SignIn(
        accounts_url=simulator.base_url,
        client_id=known.client_id,
        client_secret=known.client_secret,
        refresh_token=known.refresh_token,
        api_url=simulator.base_url,
    )
    return TokenSource(sign_in, transport=TokenTransport(sign_in), clock=lambda: 0.0, sleep=lambda _: None)


def test_simulator_takes_a_call(clients: Clients) -> None:
    """A call arrives at the service field by field as it was meant, and is judged taken."""
    with Simulator() as simulator:
        answer = clients().notify(CALL, tokens_of(simulator).token(), Hooks().send_hooks)

        assert classify(answer, now_epoch=0).proof is Proof.TAKEN
        assert [dict(fields) for fields in simulator.accepted] == [form_of(CALL)]


@pytest.mark.fault(40)
@pytest.mark.parametrize("status", [401, 400])
def test_simulator_expired_token(status: int, clients: Clients) -> None:
    """A token that the service has forgotten is renewed once, and the call is taken with the new one."""
    with Simulator() as simulator:
        simulator.script(Fault.expired_token(status))
        tokens, client = tokens_of(simulator), clients()
        token = tokens.token()
        judgement = classify(client.notify(CALL, token, Hooks().send_hooks), now_epoch=0)
        answer = client.notify(CALL, tokens.renew(token), Hooks().send_hooks)

        assert (judgement.reaction, classify(answer, now_epoch=0).proof) == (Reaction.RENEW_TOKEN, Proof.TAKEN)
        assert simulator.token_requests == 2


@pytest.mark.parametrize(("profile", "waits"), [("A", True), ("B", True), ("C", False)])
def test_simulator_throttle(profile: str, waits: bool, clients: Clients) -> None:
    """Each dialect of a throttle is understood; A and B say how long."""
    with Simulator() as simulator:
        simulator.script(Fault.throttle(profile))  # type: ignore[arg-type]
        answer = clients().notify(CALL, tokens_of(simulator).token(), Hooks().send_hooks)
        judgement = classify(answer, now_epoch=0)

    assert (judgement.reaction, judgement.wait_seconds is not None) == (Reaction.WAIT, waits)


# --- judging answers: one table, a row per status and body -------------------------------------------------------


def service_error(code: str) -> bytes:
    """Write the service's error envelope."""
    return json.dumps({"code": code, "details": {}, "message": "m", "status": "error"}).encode()


def throttle_title(text: str = "Try again after 22 minutes.") -> bytes:
    """Write the throttle of the security filter that Zoho products share."""
    details = {"message": f"Cannot execute more than 100 requests per API in 2 minutes. {text}"}
    error = {"status_code": 400, "title": "URL_ROLLING_THROTTLES_LIMIT_EXCEEDED", "details": details}
    return json.dumps({"error": error}).encode()


UNKNOWN_CODE = service_error("SOMETHING_NEW")
HTML = b"<!DOCTYPE html><html>Sign in</html>"
BROKEN = SUCCESS_BODY[:-1]

TAKEN = (Proof.TAKEN, Reaction.GO_ON, None, 0)
RENEW = (Proof.NOT_APPLIED, Reaction.RENEW_TOKEN, 77, 0)
WAIT = (Proof.NOT_APPLIED, Reaction.WAIT, 75, 0)
REFUSED = (Proof.REFUSED, Reaction.GO_ON, 76, 3)
HOLD = (Proof.UNKNOWN, Reaction.GO_ON, 76, 3)
HOLD_STOP = (Proof.UNKNOWN, Reaction.STOP, 76, 1)
OUTAGE = (Proof.UNKNOWN, Reaction.GO_ON, 69, 2)

Expected = tuple[Proof, Reaction, int | None, int]

BODIES: Mapping[str, bytes] = {
    "success": SUCCESS_BODY,
    "unknown": UNKNOWN_CODE,
    "html": HTML,
    "empty": b"",
    "broken": BROKEN,
}


def verdict(judgement: Judgement) -> Expected:
    """Reduce a judgement to what the tables say."""
    return (judgement.proof, judgement.reaction, judgement.exit_code, judgement.stop_after)


def judged(status: int, body: bytes, **headers: str) -> Judgement:
    """Judge one answer; header names with _ for -."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return classify(Answer(status, body, named), now_epoch=0.0)


@pytest.mark.fault(87)
@table(
    "body",
    [
        SUCCESS_BODY,
        b'{"code":"SUCCESS","message":"done","details":{"a":[1,2.5,null,true]},"status":"success"}',
        b' \r\n{"status" : "success",\n"code" : "SUCCESS"}\n',
        b'{"status":"success","status":"success","code":"SUCCESS"}',
        b'{"status":"success","code":"SUCCESS","error":null}',
        b'{"status":"success","code":"\\u0053UCCESS"}',
    ],
)
def test_classify_success(body: bytes) -> None:
    """Under 200, the two words of success in one strict JSON object are success; further keys are allowed."""
    assert verdict(judged(200, body)) == TAKEN


@pytest.mark.fault(84, 85, 87)
@table(
    "body",
    [
        b'{"status":"SUCCESS","code":"SUCCESS"}',
        b'{"status":"success","code":"success"}',
        b'{"status":"success"}',
        b'{"code":"SUCCESS"}',
        b'{"status":"error","code":"SUCCESS"}',
        b'{"status":"success","code":"INVALID_TOKEN"}',
        b'{"status":"success","code":"INVALID_USER"}',
        b'{"status":"success","code":"SUCCESS","error":{"title":"URL_ROLLING_THROTTLES_LIMIT_EXCEEDED"}}',
        b'{"status":"success","code":"SUCCESS","code":"INVALID_USER"}',
        b'{"status":"error","status":"success","code":"SUCCESS"}',
        b'{"status":"success","code":"SUCCESS","a":1,"a":true}',
        b'{"status":"success","code":"SUCCESS","a":NaN}',
        b'{"status":"success","code":"SUCCESS","a":-Infinity}',
        b'{"status":"success","code":"SUCCESS","a":' + b"9" * 5000 + b"}",
        b'{"status":"success","code":"SUCCESS","a":' + b"[" * 20000 + b"]" * 20000 + b"}",
        b'{"a":' * 10000 + b"1" + b"}" * 10000,
        SUCCESS_BODY + b" trailing",
        SUCCESS_BODY + SUCCESS_BODY,
        SUCCESS_BODY + b"\x00",
        b"\xef\xbb\xbf" + SUCCESS_BODY,
        SUCCESS_BODY.decode().encode("utf-16"),
        SUCCESS_BODY.decode().encode("utf-16-le"),
        b'{"status":"success","code":"SUCCESS","a":"\xff"}',
        b"[" + SUCCESS_BODY + b"]",
        b'{"data":' + SUCCESS_BODY + b"}",
        b'"SUCCESS"',
        b"{}",
        b" ",
        b'{"status":["success"],"code":["SUCCESS"]}',
        b'{"status":{"a":1},"code":{"b":2},"error":"x"}',
    ],
)
def test_classify_almost_success(body: bytes) -> None:
    """What only looks like success is unknown: held, and the run stops at the third in a row."""
    assert verdict(judged(200, body)) == HOLD


@table("length", range(len(SUCCESS_BODY)))
def test_classify_cut_success(length: int) -> None:
    """No beginning of the success body is success."""
    assert judged(200, SUCCESS_BODY[:length]).proof is Proof.UNKNOWN


@table("body", [b"true", b"OK", b"SUCCESS", HTML, b"<?xml version='1.0'?>"])
def test_classify_page(body: bytes) -> None:
    """A page or text under 200 is not the API."""
    judgement = judged(200, body)

    assert (judgement.proof, judgement.exit_code) == (Proof.UNKNOWN, ExitCode.PROTOCOL)


@pytest.mark.fault(74, 78)
@table(
    ("status", "body", "headers", "wait_seconds"),
    [
        (429, b"", {"retry_after": "120"}, 120.0),
        (429, b"", {"retry_after": "0"}, 1.0),
        (429, b"", {"retry_after": "1" + "0" * 20}, 21600.0),
        (429, b"", {"retry_after": "-5"}, None),
        (429, b"", {"retry_after": "soon"}, None),
        (429, b"", {}, None),
        (429, HTML, {"retry_after": "5"}, 5.0),
        (
            429,
            b"",
            {"retry_after": "Mon, 23 Nov 2026 10:02:00 GMT", "date": "Mon, 23 Nov 2026 10:00:00 GMT"},
            120.0,
        ),
        (400, throttle_title(), {}, 1320.0),
        (200, throttle_title(), {}, 1320.0),
        (429, throttle_title("try again after 30 seconds"), {}, 30.0),
        (400, throttle_title("Try again after 900 hours"), {}, 21600.0),
        (400, throttle_title("Try again later"), {}, None),
        (400, throttle_title(), {"retry_after": "9"}, 9.0),
        (400, b'{"code":"request_limit_exceeded","message":"Try again after 2 minutes"}', {}, 120.0),
        (503, b"", {"retry_after": "10"}, 10.0),
        (503, HTML, {"retry_after": "10"}, 10.0),
    ],
)
def test_classify_wait(status: int, body: bytes, headers: dict[str, str], wait_seconds: float | None) -> None:
    """A throttle, in whatever dialect, waits as long as header or text ask."""
    judgement = judged(status, body, **headers)

    assert (verdict(judgement), judgement.wait_seconds) == (WAIT, wait_seconds)


@pytest.mark.fault(78)
@table("value", ["-5", "", "soon"])
def test_classify_503_with_junk(value: str) -> None:
    """A 503 whose Retry-After says nothing is an outage like any other."""
    assert verdict(judged(503, b"", retry_after=value)) == OUTAGE


def test_classify_wait_only_where_waiting() -> None:
    """A Retry-After on an answer that is no throttle is not a wait."""
    assert judged(404, b"", retry_after="10").wait_seconds is None


@table(
    ("status", "expected"),
    [
        (200, HOLD_STOP),
        (201, HOLD_STOP),
        (400, HOLD_STOP),
        (403, HOLD_STOP),
        (500, OUTAGE),
        (401, RENEW),
        (429, WAIT),
    ],
)
def test_classify_encoded(status: int, expected: Expected) -> None:
    """A compressed answer proves nothing but what its status does alone."""
    assert verdict(judged(status, SUCCESS_BODY, content_encoding="gzip")) == expected


@table(("status", "expected"), [(200, HOLD), (400, HOLD), (401, RENEW), (302, HOLD_STOP), (502, OUTAGE)])
def test_classify_oversized(status: int, expected: Expected) -> None:
    """An answer beyond 64 KiB proves nothing but what its status does alone."""
    assert verdict(judged(status, SUCCESS_BODY + b" " * 65536)) == expected


@table(
    ("code", "shown"),
    [
        ("INVALID_USER", "INVALID_USER"),
        ("=cmd()|x", "cmdx"),
        ("a\r\nb\x1b[2Jc", "ab2Jc"),
        ("x" * 500, "x" * 64),
        ("\u202eabc", "abc"),
    ],
)
def test_classify_code_is_clean(code: str, shown: str) -> None:
    """The service's code is reduced to plain characters, at most 64."""
    assert judged(400, service_error(code)).code == shown


def test_classify_code_in_title() -> None:
    """A code is also read from error.title."""
    assert judged(400, throttle_title()).code == "URL_ROLLING_THROTTLES_LIMIT_EXCEEDED"


def test_classify_has_words() -> None:
    """Whatever is not taken has a reason that is a slug and a hint that is a sentence."""
    judgements = [judged(status, body) for status in range(100, 600) for body in BODIES.values()]
    spoken = [judgement for judgement in judgements if judgement.proof is not Proof.TAKEN]

    assert all(judgement.reason.replace("_", "").islower() for judgement in spoken)
    assert all(judgement.hint.endswith((".", "?")) for judgement in spoken)


def test_classify_stop_is_at_once() -> None:
    """A reaction of stop is always at the first time and has an exit code."""
    judgements = [judged(status, body) for status in range(100, 600) for body in BODIES.values()]
    stops = [judgement for judgement in judgements if judgement.reaction is Reaction.STOP]

    assert {judgement.stop_after for judgement in stops} == {1}
    assert None not in {judgement.exit_code for judgement in stops}


def test_classify_tables_agree() -> None:
    """A status whose body decides has no line of its own."""
    assert not BODY_DECIDES & (set(STATUSES) | NEEDS_NO_BODY)


ANY_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["status", "code", "error", "title"]), inner)
    ),
    max_leaves=8,
)


@given(
    status=st.integers(0, 1000),
    body=st.binary(max_size=80) | ANY_JSON.map(lambda value: json.dumps(value).encode()),
    headers=st.dictionaries(st.sampled_from(["retry-after", "date", "content-encoding"]), st.text(max_size=12)),
)
def test_classify_never_raises(status: int, body: bytes, headers: dict[str, str]) -> None:
    """Whatever comes is judged, and only the documented success is taken."""
    judgement = classify(Answer(status, body, headers), now_epoch=0.0)

    if judgement.proof is Proof.TAKEN:
        fields = json.loads(body)
        assert (status, fields["status"], fields["code"]) == (200, "success", "SUCCESS")
