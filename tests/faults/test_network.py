"""Section D of the list: what the network and those in the middle may do, played to whole runs."""

import json
import socket
import ssl
import threading
from collections import Counter
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest

from certificates import SHORT_KEY, Certificate, make_certificate, make_expired_certificate
from faults.night import Ended, Night, ids_in
from importer.records import Timeouts
from misbehaviour import ORDINARY, Fault
from misbehaviour.connections import (
    PATIENCE_SECONDS,
    SUCCESS_BODY,
    Behaviour,
    Peer,
    Server,
    answering,
    black_hole,
    close_handshake,
    drip_handshake,
    garbage_after_request,
    hang_handshake,
    http_answer,
    https_url,
    last_words,
    plain_handshake,
    reset_after_reading,
    reset_before_reading,
    reset_handshake,
    silent,
    under_tls,
)
from steps import Step, at

Serve = Callable[..., Server]
QUICK = Timeouts(connect_seconds=0.05, gap_seconds=5, deadline_seconds=10)
REFUSAL = http_answer("400 Bad Request", b'{"code":"INVALID_USER","status":"error"}')
TOKEN = http_answer(body=json.dumps({"access_token": "1000.aa.bb", "expires_in": 3600}).encode())


# nothing was sent --------------------------------------------------------------------------------------------


def nothing_sent(night: Night, ended: Ended, why: tuple[int, str]) -> None:
    """See that the run ended like that with every call pending."""
    assert (ended.why, set(night.states())) == (why, {"pending"})
    assert {row["attempts"] for row in ended.rows} == {""}


@pytest.mark.fault(55)
@pytest.mark.parametrize("kind", ["untrusted", "expired", "wrong-name", "weak"])
def test_bad_certificate(night: Night, serve: Serve, tmp_path: Path, kind: str) -> None:
    """A certificate that nobody vouches for, expired, of another name or too weak: 78 at once, no request."""
    made = {
        "untrusted": lambda: make_certificate(tmp_path, "localhost"),
        "expired": lambda: make_expired_certificate(tmp_path, "localhost"),
        "wrong-name": lambda: make_certificate(tmp_path, "other.example"),
        "weak": lambda: make_certificate(tmp_path, "localhost", key=SHORT_KEY),
    }[kind]()
    night.take_in(2)
    requests: list[bytes] = []
    server = serve(under_tls(made.server_context(), lambda peer: requests.append(peer.read_request())))
    trusted = {} if kind == "untrusted" else {"ca_bundle": made.path}
    ended = night.run(api_url=https_url(server), **trusted)
    nothing_sent(night, ended, (78, "tls_certificate"))
    server.stop()
    assert (server.connections, requests) == (1, [])


# one failure -------------------------------------------------------------------------------------------------


def drip(whole: bytes, *, kept: int) -> Behaviour:
    """Send a part of an answer, then the rest a byte at a time."""

    def play(peer: Peer) -> None:
        peer.read_request()
        peer.send(whole[:kept])
        peer.drip(whole[kept:])

    return play


def leave_without_notice(data: bytes) -> Behaviour:
    """Answer under TLS and end the bare connection, without TLS's own word of farewell."""

    def play(peer: Peer) -> None:
        peer.read_request()
        peer.send(data)
        socket.socket(fileno=peer.sock.detach()).close()

    return play


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
REFUSED_HEAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n"
CUT = HEAD + b"\r\n" + SUCCESS_BODY[:-1]
ENDLESS = HEAD + b"\r\n" + SUCCESS_BODY + b" " * 4000
LONG = http_answer(body=SUCCESS_BODY + b" " * 4000)
PARTS = (
    HEAD[:11],
    HEAD,
    REFUSED_HEAD + b"X-Fo",
    REFUSED_HEAD,
    HEAD + b"Content-Length: 37\r\nX-Fo",
    HEAD + b"Content-Length: 37\r\n",
    http_answer()[:-1],
    http_answer("400 Bad Request", b"{}")[:-1],
    CHUNKED + b"25\r\n" + SUCCESS_BODY[:9],
    CHUNKED + b"25\r\n" + SUCCESS_BODY,
    CHUNKED + b"24\r\n" + SUCCESS_BODY[:-1] + b"\r\n",
    CHUNKED + b"xyz\r\n",
)
NOT_HTTP = (
    b"SSH-2.0-OpenSSH_9.9\r\n",
    b"<html>hello</html>\n",
    b"HTTP/1.1 99999 Odd\r\n\r\n",
    HEAD + b"X: " + b"x" * 70_000 + b"\r\n\r\n",
    HEAD + b"X: y\r\n" * 200 + b"\r\n",
    HEAD + b"Content-Length: 5\r\nContent-Length: 37\r\n\r\n" + SUCCESS_BODY,
    HEAD + b"Content-Length: -1\r\n\r\n" + SUCCESS_BODY,
    HEAD + b"Content-Length: many\r\n\r\n" + SUCCESS_BODY,
    http_answer(Transfer_Encoding="chunked").replace(SUCCESS_BODY, b"0\r\n\r\n"),
)
PATIENT = Timeouts(connect_seconds=5, gap_seconds=5, deadline_seconds=10)
HASTY = Timeouts(connect_seconds=5, gap_seconds=0.05, deadline_seconds=10)
SHORT = Timeouts(connect_seconds=5, gap_seconds=5, deadline_seconds=0.3)
PENDING, UNKNOWN = (69, "pending"), (4, "uncertain")
SIGN_IN, MALFORMED = (78, "proxy_sign_in"), (76, "malformed")

FAILURES: dict[str, tuple[str, Behaviour, tuple[int, str], str, Timeouts]] = {
    # nothing was sent
    "handshake is reset": ("https", reset_handshake, PENDING, "reset", PATIENT),
    "handshake is closed": ("https", close_handshake, PENDING, "tls reset", PATIENT),
    "handshake hangs": ("https", hang_handshake, PENDING, "timeout", QUICK),
    "handshake drips": ("https", drip_handshake, PENDING, "deadline timeout", SHORT),
    "handshake in plain HTTP": ("https", plain_handshake, PENDING, "tls", PATIENT),
    "proxy wants a sign-in": ("proxy", last_words(b"HTTP/1.1 407 No\r\n\r\n"), SIGN_IN, "proxy_sign_in", PATIENT),
    "proxy has no way": ("proxy", last_words(b"HTTP/1.1 502 No\r\n\r\n"), PENDING, "proxy", PATIENT),
    "proxy hangs": ("proxy", silent, PENDING, "timeout", QUICK),
    "proxy closes": ("proxy", last_words(b""), PENDING, "reset", PATIENT),
    "proxy resets": ("proxy", reset_after_reading, PENDING, "reset", PATIENT),
    "proxy speaks SSH": ("proxy", last_words(b"SSH-2.0-x\r\n"), PENDING, "malformed", PATIENT),
    # the request was sent, and no answer came
    "reset before reading": ("http", reset_before_reading, UNKNOWN, "reset", PATIENT),
    "reset after reading": ("http", reset_after_reading, UNKNOWN, "reset", PATIENT),
    "closed": ("http", last_words(b""), UNKNOWN, "reset", PATIENT),
    "silent": ("http", silent, UNKNOWN, "timeout", HASTY),
    "silent under TLS": ("tls", silent, UNKNOWN, "deadline timeout", SHORT),
    "garbage under TLS": ("tls", garbage_after_request, UNKNOWN, "tls", PATIENT),
    # the answer is not whole, whatever its status line says
    "head drips": ("http", drip(LONG, kept=0), UNKNOWN, "deadline", SHORT),
    "body drips": ("http", drip(LONG, kept=60), UNKNOWN, "deadline", SHORT),
    "body without a length drips": ("http", drip(ENDLESS, kept=60), UNKNOWN, "deadline", SHORT),
    "cut under TLS without notice": ("tls", leave_without_notice(CUT), UNKNOWN, "broken_answer", PATIENT),
    "cut without a length": ("http", last_words(CUT), UNKNOWN, "broken_answer", PATIENT),
    **{f"cut {n}": ("http", last_words(each), UNKNOWN, "cut", PATIENT) for n, each in enumerate(PARTS)},
    **{
        f"malformed {n}": ("http", last_words(each), MALFORMED, "malformed", PATIENT)
        for n, each in enumerate(NOT_HTTP)
    },
}
"""What one call meets: the way, the other end, the end of the run, the reasons it may have, and the timeouts."""


@pytest.mark.fault(54, 57, 58, 59, 60, 61, 62, 63, 64, 68)
@pytest.mark.parametrize("name", FAILURES)
def test_failure(night: Night, serve: Serve, certificate: Certificate, name: str) -> None:
    """Before the first byte a call stays pending, after it it is uncertain; it is sent once at most."""
    way, behaviour, why, reasons, limits = FAILURES[name]
    night.take_in(1)
    first = [last_words(TOKEN)] if way == "proxy" else []
    server = serve(*first, under_tls(certificate.server_context(), behaviour) if way == "tls" else behaviour)
    options = {
        "http": {"api_url": server.base_url},
        "https": {"api_url": https_url(server)},
        "tls": {"api_url": https_url(server), "ca_bundle": certificate.path},
        "proxy": {"api_url": "https://localhost:1", "proxy": server.base_url},
    }[way]
    ended = night.run(limits=limits, **options)
    (reason,) = ended.reasons()
    is_sent = way in ("http", "tls")
    assert (ended.why, night.states()) == (why, {"uncertain" if is_sent else "pending": 1})
    assert [row["attempts"] for row in ended.rows] == ["1" if is_sent else ""]
    assert reason in reasons.split()
    assert server.connections == len(first) + (4 if why == PENDING else 1)
    if behaviour is not reset_before_reading:
        assert ids_in(server.received()) == ["call000"] * is_sent


@pytest.mark.fault(53)
def test_connect_timeout(night: Night) -> None:
    """A host that takes no connection: 69, everything pending, and the host is named."""
    night.take_in(1)
    with black_hole() as url:
        ended = night.run(limits=QUICK, api_url=url)
    nothing_sent(night, ended, PENDING)
    assert ended.reasons() == {"connect_timeout"}
    assert ended.notes[0].startswith("1 call was not taken by 127.0.0.1 (connect_timeout), pending still:")


@pytest.mark.fault(68)
def test_proxy_that_is_gone(night: Night, serve: Serve) -> None:
    """A proxy that goes away after the sign-in: nothing was sent, nothing is uncertain."""
    night.take_in(1)
    proxy = serve(last_words(TOKEN), silent)
    step = at(Step.TOKEN, 1, proxy.stop)
    ended = night.run(limits=QUICK, step=step, proxy=proxy.base_url, api_url="https://localhost:1")
    nothing_sent(night, ended, PENDING)
    assert ended.reasons() == {"proxy"}


# sent, and no answer ----------------------------------------------------------------------------------------


def each_sent_once(server: Server, count: int) -> bool:
    """Say whether the first ``count`` calls arrived once each, and no other."""
    return ids_in(server.received()) == [f"call{number:03}" for number in range(count)]


@pytest.mark.fault(56)
def test_client_certificate_demanded(night: Night, serve: Serve, certificate: Certificate) -> None:
    """A server that wants to see a certificate of ours, and says so after the request: one uncertain, 78."""
    night.take_in(4)
    context = certificate.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate.path)
    ended = night.run(
        api_url=https_url(serve(under_tls(context, answering(http_answer())))), ca_bundle=certificate.path
    )
    assert (ended.why, night.states()) == ((78, "tls_client_certificate"), {"uncertain": 1, "pending": 3})


@pytest.mark.fault(56)
@pytest.mark.parametrize("what", ["TLSv1", "TLSv1_1", "cipher", "client certificate"])
def test_tls_that_we_do_not_speak(night: Night, serve: Serve, certificate: Certificate, what: str) -> None:
    """A server that wants an old TLS, an odd cipher or, under TLS 1.2, a certificate of ours: 78, nothing sent."""
    night.take_in(2)
    context = certificate.server_context()
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    if what == "cipher":
        context.set_ciphers("ECDHE-RSA-AES128-SHA")
    elif what == "client certificate":
        context.verify_mode = ssl.CERT_REQUIRED
    else:
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning):
            context.maximum_version = ssl.TLSVersion[what]
    server = serve(under_tls(context, silent))
    for endpoint, reason in (("accounts_url", "configuration"), ("api_url", "tls_refused")):
        ended = night.run(ca_bundle=certificate.path, **{endpoint: https_url(server)})
        nothing_sent(night, ended, (78, reason))
    assert server.connections == 2


# whose answer is it ------------------------------------------------------------------------------------------


@pytest.mark.fault(65)
def test_early_hints(night: Night, serve: Serve) -> None:
    """After a 103 the call is uncertain, and its late answer is not taken for that of the next call."""
    night.take_in(2)
    next_call = threading.Event()

    def hint(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 103 Early Hints\r\n\r\n")
        next_call.wait(PATIENCE_SECONDS)
        peer.send(http_answer())

    def refuse(peer: Peer) -> None:
        peer.read_request()
        next_call.set()
        peer.over.wait(0.05)
        peer.send(REFUSAL)

    server = serve(hint, refuse)
    ended = night.run(api_url=server.base_url)
    assert [(row["outcome"], row["reason"]) for row in ended.rows] == [
        ("uncertain", "informational_answer"),
        ("refused", "invalid_user"),
    ]
    assert each_sent_once(server, 2)


@pytest.mark.fault(66)
def test_two_answers_to_one_request(night: Night, serve: Serve) -> None:
    """A second answer, with the first or a moment after it, is nobody's: each call gets its own."""
    night.take_in(4)
    said = threading.Event()

    def talk_on(peer: Peer) -> None:
        peer.read_request()
        peer.send(http_answer() + REFUSAL)
        peer.read_request()
        peer.send(http_answer())
        peer.over.wait(0.01)
        peer.send(REFUSAL)
        said.set()
        answering(http_answer())(peer)

    server = serve(talk_on, answering(http_answer()))
    step = at(Step.BEFORE_INTENT, 3, lambda: said.wait(PATIENCE_SECONDS))
    ended = night.run(api_url=server.base_url, step=step)
    assert (ended.why, night.states(), server.connections) == ((0, "done"), {"accepted": 4}, 2)
    assert each_sent_once(server, 4)


@pytest.mark.fault(67)
@pytest.mark.parametrize("moment", [Step.TOKEN, Step.BEFORE_INTENT])
def test_idle_connection_is_closed(night: Night, serve: Serve, moment: Step) -> None:
    """A server that closes each connection after its answer, at once or as the next call begins, costs no call."""
    night.take_in(5)
    closed = threading.Semaphore(0)

    def close_after_answer(peer: Peer) -> None:
        peer.read_request()
        peer.send(http_answer())
        peer.sock.shutdown(socket.SHUT_WR)
        closed.release()
        peer.over.wait(PATIENCE_SECONDS)

    begun: list[Step] = []

    def wait_for_close(step: Step) -> None:
        if step is moment:
            begun.append(step)
            assert len(begun) == 1 or closed.acquire(timeout=PATIENCE_SECONDS)

    server = serve(close_after_answer)
    ended = night.run(api_url=server.base_url, step=wait_for_close)
    assert (ended.why, night.states(), server.connections) == ((0, "done"), {"accepted": 5}, 5)
    assert each_sent_once(server, 5)


@pytest.mark.fault(67)
@pytest.mark.parametrize("end", [Peer.reset, lambda peer: peer.sock.close()], ids=["reset", "closed"])
@pytest.mark.parametrize("is_tls", [False, True])
def test_idle_connection_is_closed_too_late(
    night: Night, serve: Serve, certificate: Certificate, end: Behaviour, is_tls: bool
) -> None:
    """A server that closes connections just as the next call comes costs one call: none is used again."""
    night.take_in(6)

    def close_under_the_second(peer: Peer) -> None:
        peer.read_request()
        peer.send(http_answer())
        peer.sock.recv(1)
        end(peer)

    context, behaviour = certificate.server_context(), close_under_the_second
    server = serve(under_tls(context, behaviour) if is_tls else behaviour)
    ended = night.run(api_url=https_url(server) if is_tls else server.base_url, ca_bundle=certificate.path)
    assert (ended.why, night.states()) == ((4, "uncertain"), {"accepted": 5, "uncertain": 1})
    assert server.connections == 5


@pytest.mark.fault(67)
def test_idle_connection_is_closed_for_good(night: Night, serve: Serve) -> None:
    """A server that goes away as the next call begins leaves that call pending: not a byte of it was sent."""
    night.take_in(3)
    server = serve(answering(http_answer()))
    ended = night.run(api_url=server.base_url, step=at(Step.BEFORE_INTENT, 2, server.stop))
    assert (ended.why, night.states()) == ((69, "pending"), {"accepted": 1, "pending": 2})
    assert each_sent_once(server, 1)
    assert (night.run().why, night.states()) == ((0, "done"), {"accepted": 3})


# proxies -----------------------------------------------------------------------------------------------------


@pytest.mark.fault(69)
def test_proxy_cuts_the_tunnel(night: Night, serve: Serve, certificate: Certificate) -> None:
    """A tunnel that breaks after the request leaves the call uncertain; it is sent once."""
    night.take_in(1)
    sent: list[bytes] = []

    def tunnel(peer: Peer) -> None:
        peer.read_request()
        peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
        under_tls(certificate.server_context(), lambda inside: sent.append(inside.read_request()))(peer)
        peer.reset()

    proxy = serve(last_words(TOKEN), tunnel)
    ended = night.run(proxy=proxy.base_url, api_url="https://localhost:1", ca_bundle=certificate.path)
    assert (ended.why, night.states()) == ((4, "uncertain"), {"uncertain": 1})
    assert [ids_in(request) for request in sent] == [["call000"]]


@pytest.mark.fault(70)
def test_proxy_answers_itself(night: Night, serve: Serve) -> None:
    """A page of the proxy's own in answer to a call: one uncertain, 76."""
    night.take_in(3)
    proxy = serve(last_words(TOKEN), answering(http_answer(body=b"<html>Welcome to the hotel</html>")))
    ended = night.run(proxy=proxy.base_url, api_url="http://127.0.0.1:1")
    assert (ended.why, night.states()) == ((76, "web_page"), {"uncertain": 1, "pending": 2})
    assert each_sent_once(proxy, 1)


# addresses and outages ---------------------------------------------------------------------------------------


@pytest.mark.fault(71)
@pytest.mark.parametrize("is_refused", [False, True])
def test_bad_address_before_a_good_one(
    night: Night, serve: Serve, monkeypatch: pytest.MonkeyPatch, is_refused: bool
) -> None:
    """Where IPv6 leads nowhere, or nobody listens there, and IPv4 works, each call goes once, by IPv4."""
    night.take_in(2)
    server = serve(answering(http_answer()))
    look_up = socket.getaddrinfo

    def resolve(host: str, *rest: Any, **more: Any) -> Any:
        if host != "localhost":
            return look_up(host, *rest, **more)
        return [
            (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", server.port, 0, 0)),
            (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)),
        ]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    try:
        with nullcontext() if is_refused else black_hole("::1", server.port):
            ended = night.run(limits=QUICK, api_url=f"http://localhost:{server.port}")
    except OSError:
        pytest.skip("there is no IPv6 here")
    assert (ended.why, night.states()) == ((0, "done"), {"accepted": 2})
    assert each_sent_once(server, 2)


@pytest.mark.fault(72)
@pytest.mark.parametrize("returns", [True, False])
def test_network_lost_in_mid_run(night: Night, returns: bool) -> None:
    """The network goes in the middle of a call: that one is uncertain, the others are accepted once at last."""
    night.take_in(10)
    night.api.script(ORDINARY.repeated(3), Fault(hang=True))
    sleep, back = night.time.sleep, list[bool]()

    def wait(seconds: float) -> None:
        sleep(seconds)
        if returns and sum(night.time.waits) > 0.5 and not back:
            back.append(True)
            night.api.start()

    night.time.sleep = wait
    ended = night.run(step=at(Step.WRITTEN, 8, night.api.stop))
    if not returns:
        assert (ended.code, night.states()) == (4, {"accepted": 3, "uncertain": 1, "pending": 6})
        night.time.sleep = sleep
        night.api.start()
        assert night.run().why == (4, "uncertain")
    assert night.states() == {"accepted": 9, "uncertain": 1}
    assert Counter(night.posts()).most_common(1)[0][1] == 1
