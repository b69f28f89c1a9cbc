"""Section D of the list: what the network and those in the middle may do, played to whole runs."""

import json
import re
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
from conftest import Serve, wait_until
from faults.night import PATIENT, Ended, Night, ids_in
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
    drip,
    http_answer,
    https_url,
    in_turn,
    last_words,
    saying,
    send_garbage,
    under_tls,
)
from steps import Step, at

OK = http_answer()
REFUSAL = http_answer("400 Bad Request", b'{"code":"INVALID_USER","status":"error"}')
TOKEN = http_answer(body=json.dumps({"access_token": "1000.aa.bb", "expires_in": 3600}).encode())


def nothing_sent(night: Night, ended: Ended, why: tuple[int, str]) -> None:
    """See that the run ended like that with every call pending."""
    assert (ended.why, set(night.states())) == (why, {"pending"})
    assert {row["attempts"] for row in ended.rows} == {""}


CERTIFICATES: dict[str, Callable[[Path], Certificate]] = {
    "untrusted": lambda folder: make_certificate(folder, "localhost"),
    "expired": lambda folder: make_expired_certificate(folder, "localhost"),
    "wrong name": lambda folder: make_certificate(folder, "other.example"),
    "weak": lambda folder: make_certificate(folder, "localhost", key=SHORT_KEY),
}


@pytest.mark.fault(55, 56, 130)
@pytest.mark.parametrize("kind", [*CERTIFICATES, "TLSv1", "TLSv1_1", "cipher", "client certificate"])
def test_tls_refused(night: Night, serve: Serve, certificate: Certificate, tmp_path: Path, kind: str) -> None:
    """A bad certificate, an old TLS, an odd cipher, or one of ours demanded under TLS 1.2: 78, no request."""
    made = CERTIFICATES.get(kind, lambda _: certificate)(tmp_path)
    context = made.server_context()
    if kind not in CERTIFICATES:
        context.maximum_version = ssl.TLSVersion.TLSv1_2
    if kind == "cipher":
        context.set_ciphers("ECDHE-RSA-AES128-SHA")
    elif kind == "client certificate":
        context.verify_mode = ssl.CERT_REQUIRED
    elif kind not in CERTIFICATES:
        context.minimum_version = ssl.TLSVersion.MINIMUM_SUPPORTED
        with pytest.warns(DeprecationWarning):
            context.maximum_version = ssl.TLSVersion[kind]
    requests: list[bytes] = []
    server = serve(under_tls(context, lambda peer: requests.append(peer.read_request())))
    trusted = {} if kind == "untrusted" else {"ca_bundle": made.path}
    night.take_in(2)
    ended = night.run(accounts_url=https_url(server), **trusted)
    nothing_sent(night, ended, (78, "configuration"))
    assert "clock" in " ".join(ended.notes)
    ended = night.run(api_url=https_url(server), **trusted)
    nothing_sent(night, ended, (78, "tls_certificate" if kind in CERTIFICATES else "tls_refused"))
    server.stop()
    assert (server.connections, requests) == (2, [])


def begin_handshake(peer: Peer) -> None:
    """Take the client's first handshake message."""
    peer.sock.recv(65536)


def leave_without_notice(peer: Peer) -> None:
    """End the bare connection, without TLS's own word of farewell."""
    socket.socket(fileno=peer.sock.detach()).close()


HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
REFUSED_HEAD = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n"
CUT = HEAD + b"\r\n" + SUCCESS_BODY[:-1]
ENDLESS = HEAD + b"\r\n" + SUCCESS_BODY + b" " * 4000
LONG = http_answer(body=SUCCESS_BODY + b" " * 4000)
LONG_HANDSHAKE = b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc"
PARTS = (
    HEAD[:11],
    HEAD,
    REFUSED_HEAD + b"X-Fo",
    REFUSED_HEAD,
    HEAD + b"Content-Length: 37\r\nX-Fo",
    HEAD + b"Content-Length: 37\r\n",
    OK[:-1],
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
QUICK = Timeouts(connect_seconds=0.05, gap_seconds=5, deadline_seconds=10)
HASTY = Timeouts(connect_seconds=5, gap_seconds=0.2, deadline_seconds=10)
SHORT = Timeouts(connect_seconds=5, gap_seconds=5, deadline_seconds=0.4)
IN_TLS = Timeouts(connect_seconds=5, gap_seconds=5, deadline_seconds=0.6)
AFTER_TLS = Timeouts(connect_seconds=5, gap_seconds=5, deadline_seconds=1)
PENDING, UNKNOWN = (69, "pending"), (4, "uncertain")
SIGN_IN, MALFORMED = (78, "proxy_sign_in"), (76, "malformed")

silent = in_turn(Peer.read_request, Peer.wait)
reset_before_reading = in_turn(lambda peer: peer.sock.recv(1, socket.MSG_PEEK), Peer.reset)
reset_after_reading = in_turn(Peer.read_request, Peer.reset)
drip_handshake = in_turn(begin_handshake, saying(LONG_HANDSHAKE), lambda peer: peer.drip(b"\x03" * 4000))
plain_handshake = in_turn(begin_handshake, saying(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
cut_without_notice = in_turn(Peer.read_request, saying(CUT), leave_without_notice)

FAILURES: dict[str, tuple[str, Behaviour, tuple[int, str], str, Timeouts]] = {
    # nothing was sent
    "host takes no connection": ("nowhere", silent, PENDING, "connect_timeout", QUICK),
    "handshake is reset": ("https", in_turn(begin_handshake, Peer.reset), PENDING, "reset", PATIENT),
    "handshake is closed": ("https", begin_handshake, PENDING, "tls reset", PATIENT),
    "handshake hangs": ("https", Peer.wait, PENDING, "timeout", QUICK),
    "handshake drips": ("https", drip_handshake, PENDING, "deadline timeout", IN_TLS),
    "handshake in plain HTTP": ("https", plain_handshake, PENDING, "tls", PATIENT),
    "proxy wants a sign-in": ("proxy", last_words(b"HTTP/1.1 407 No\r\n\r\n"), SIGN_IN, "proxy_sign_in", PATIENT),
    "proxy has no way": ("proxy", last_words(b"HTTP/1.1 502 No\r\n\r\n"), PENDING, "proxy", PATIENT),
    "proxy hangs": ("proxy", silent, PENDING, "timeout", HASTY),
    "proxy closes": ("proxy", last_words(b""), PENDING, "reset", PATIENT),
    "proxy resets": ("proxy", reset_after_reading, PENDING, "reset", PATIENT),
    "proxy speaks SSH": ("proxy", last_words(b"SSH-2.0-x\r\n"), PENDING, "malformed", PATIENT),
    # the request was sent, and no answer came
    "reset before reading": ("http", reset_before_reading, UNKNOWN, "reset", PATIENT),
    "reset after reading": ("http", reset_after_reading, UNKNOWN, "reset", PATIENT),
    "closed": ("http", last_words(b""), UNKNOWN, "reset", PATIENT),
    "silent": ("http", silent, UNKNOWN, "timeout", HASTY),
    "silent under TLS": ("tls", silent, UNKNOWN, "deadline timeout", AFTER_TLS),
    "garbage under TLS": ("tls", in_turn(Peer.read_request, send_garbage), UNKNOWN, "tls", PATIENT),
    # the answer is not whole, whatever its status line says
    "head drips": ("http", drip(LONG, kept=0), UNKNOWN, "deadline", SHORT),
    "body drips": ("http", drip(LONG, kept=60), UNKNOWN, "deadline", SHORT),
    "body without a length drips": ("http", drip(ENDLESS, kept=60), UNKNOWN, "deadline", SHORT),
    "cut under TLS without notice": ("tls", cut_without_notice, UNKNOWN, "broken_answer", PATIENT),
    "cut without a length": ("http", last_words(CUT), UNKNOWN, "broken_answer", PATIENT),
    **{f"cut {n}": ("http", last_words(each), UNKNOWN, "cut", PATIENT) for n, each in enumerate(PARTS)},
    **{
        f"malformed {n}": ("http", last_words(each), MALFORMED, "malformed", PATIENT)
        for n, each in enumerate(NOT_HTTP)
    },
}
"""What one call meets: the way, the other end, the end of the run, the reasons it may have, and the timeouts."""


@pytest.mark.fault(53, 54, 57, 58, 59, 60, 61, 62, 63, 64, 68)
@pytest.mark.parametrize("name", FAILURES)
def test_failure(night: Night, serve: Serve, certificate: Certificate, name: str) -> None:
    """Before the first byte a call stays pending, after it it is uncertain; it is sent once at most."""
    way, behaviour, why, reasons, limits = FAILURES[name]
    night.take_in(1)
    first = [last_words(TOKEN)] if way == "proxy" else []
    server = serve(*first, under_tls(certificate.server_context(), behaviour) if way == "tls" else behaviour)
    with black_hole() as nowhere:
        options = {
            "http": {"api_url": server.base_url},
            "https": {"api_url": https_url(server)},
            "tls": {"api_url": https_url(server), "ca_bundle": certificate.path},
            "proxy": {"api_url": "https://localhost:1", "proxy": server.base_url},
            "nowhere": {"api_url": nowhere},
        }[way]
        ended = night.run(limits=limits, **options)
    (reason,) = ended.reasons()
    is_sent = way in ("http", "tls")
    assert (ended.why, night.states()) == (why, {"uncertain" if is_sent else "pending": 1})
    assert [row["attempts"] for row in ended.rows] == ["1" if is_sent else ""]
    assert reason in reasons.split()
    tries = (way != "nowhere") * (len(first) + (4 if why == PENDING else 1))
    wait_until(lambda: server.connections >= tries)  # the system takes them before the server does
    assert server.connections == tries
    if why == PENDING:
        told = r"1 call was not taken by (127.0.0.1|localhost) \((\w+)\), pending still: .*"
        assert re.fullmatch(told, ended.notes[0])[2] == reason
    if behaviour is not reset_before_reading:
        assert ids_in(server.received()) == ["call000"] * is_sent


@pytest.mark.fault(68)
def test_proxy_that_is_gone(night: Night, serve: Serve) -> None:
    """A proxy that goes away after the sign-in: nothing was sent, nothing is uncertain."""
    night.take_in(1)
    proxy = serve(last_words(TOKEN), silent)
    step = at(Step.TOKEN, 1, proxy.stop)
    ended = night.run(limits=QUICK, step=step, proxy=proxy.base_url, api_url="https://localhost:1")
    nothing_sent(night, ended, PENDING)
    assert ended.reasons() == {"proxy"}


@pytest.mark.fault(56)
def test_client_certificate_demanded(night: Night, serve: Serve, certificate: Certificate) -> None:
    """A server that wants to see a certificate of ours, and says so after the request: one uncertain, 78."""
    night.take_in(4)
    context = certificate.server_context()
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate.path)
    server = serve(under_tls(context, answering(OK)))
    ended = night.run(api_url=https_url(server), ca_bundle=certificate.path)
    assert (ended.why, night.states()) == ((78, "tls_client_certificate"), {"uncertain": 1, "pending": 3})


def each_sent_once(server: Server, count: int) -> bool:
    """Say whether the first ``count`` calls arrived once each, and no other."""
    return ids_in(server.received()) == [f"call{number:03}" for number in range(count)]


@pytest.mark.fault(65, 88)
@pytest.mark.parametrize(
    ("first", "limits", "reason"),
    [
        (b"HTTP/1.1 103 Early Hints\r\n\r\n", PATIENT, "informational_answer"),
        (b"", Timeouts(connect_seconds=5, gap_seconds=5, deadline_seconds=0.4), "deadline"),
    ],
)
def test_late_answer(night: Night, serve: Serve, first: bytes, limits: Timeouts, reason: str) -> None:
    """After a 103, or the deadline, a call is uncertain; its late answer is not taken for that of the next."""
    night.take_in(2)
    next_call = threading.Event()
    late = in_turn(
        Peer.read_request, saying(first), lambda _: next_call.wait(PATIENCE_SECONDS), saying(OK), Peer.wait
    )
    refuse = in_turn(
        Peer.read_request, lambda _: next_call.set(), lambda peer: peer.over.wait(0.05), saying(REFUSAL)
    )
    server = serve(late, refuse)
    ended = night.run(limits=limits, api_url=server.base_url)
    told = [(row["outcome"], row["reason"]) for row in ended.rows]
    assert told == [("uncertain", reason), ("refused", "invalid_user")]
    assert each_sent_once(server, 2)


@pytest.mark.fault(66)
def test_two_answers_to_one_request(night: Night, serve: Serve) -> None:
    """A second answer, with the first or a moment after it, is nobody's: each call gets its own."""
    night.take_in(4)
    said = threading.Event()
    talk_on = in_turn(
        *(Peer.read_request, saying(OK + REFUSAL), Peer.read_request, saying(OK)),
        *(lambda peer: peer.over.wait(0.01), saying(REFUSAL), lambda _: said.set(), answering(OK)),
    )
    server = serve(talk_on, answering(OK))
    step = at(Step.BEFORE_INTENT, 3, lambda: said.wait(PATIENCE_SECONDS))
    ended = night.run(api_url=server.base_url, step=step)
    assert (ended.why, night.states(), server.connections) == ((0, "done"), {"accepted": 4}, 2)
    assert each_sent_once(server, 4)


@pytest.mark.fault(67)
@pytest.mark.parametrize("moment", [Step.TOKEN, Step.BEFORE_INTENT])
def test_idle_connection_is_closed(night: Night, serve: Serve, moment: Step) -> None:
    """A server that closes each connection after its answer, at once or as the next call begins, costs no call."""
    night.take_in(5)
    closed, begun = threading.Semaphore(0), list[Step]()

    def end(peer: Peer) -> None:
        peer.sock.shutdown(socket.SHUT_WR)
        closed.release()
        peer.wait()

    def wait_for_close(step: Step) -> None:
        if step is moment:
            begun.append(step)
            assert len(begun) == 1 or closed.acquire(timeout=PATIENCE_SECONDS)

    server = serve(in_turn(last_words(OK), end))
    ended = night.run(api_url=server.base_url, step=wait_for_close)
    assert (ended.why, night.states(), server.connections) == ((0, "done"), {"accepted": 5}, 5)
    assert each_sent_once(server, 5)


@pytest.mark.fault(67)
@pytest.mark.parametrize("end", [Peer.reset, lambda peer: peer.sock.close()], ids=["reset", "closed"])
@pytest.mark.parametrize("is_tls", [False, True])
def test_closed_too_late(
    night: Night, serve: Serve, certificate: Certificate, end: Behaviour, is_tls: bool
) -> None:
    """A server that closes connections just as the next call comes costs one call: none is used again."""
    night.take_in(6)
    behaviour = in_turn(last_words(OK), lambda peer: peer.sock.recv(1), end)
    server = serve(under_tls(certificate.server_context(), behaviour) if is_tls else behaviour)
    ended = night.run(api_url=https_url(server) if is_tls else server.base_url, ca_bundle=certificate.path)
    assert (ended.why, night.states()) == ((4, "uncertain"), {"accepted": 5, "uncertain": 1})
    assert server.connections == 5


@pytest.mark.fault(67)
def test_idle_connection_is_closed_for_good(night: Night, serve: Serve) -> None:
    """A server that goes away as the next call begins leaves that call pending: not a byte of it was sent."""
    night.take_in(3)
    server = serve(answering(OK))
    ended = night.run(api_url=server.base_url, step=at(Step.BEFORE_INTENT, 2, server.stop))
    assert (ended.why, night.states()) == (PENDING, {"accepted": 1, "pending": 2})
    assert each_sent_once(server, 1)
    assert (night.run().why, night.states()) == ((0, "done"), {"accepted": 3})


@pytest.mark.fault(69)
def test_proxy_cuts_the_tunnel(night: Night, serve: Serve, certificate: Certificate) -> None:
    """A tunnel that breaks after the request leaves the call uncertain; it is sent once."""
    night.take_in(1)
    sent: list[bytes] = []
    inside = under_tls(certificate.server_context(), lambda peer: sent.append(peer.read_request()))
    connected = b"HTTP/1.1 200 Connection established\r\n\r\n"
    proxy = serve(last_words(TOKEN), in_turn(last_words(connected), inside, Peer.reset))
    ended = night.run(proxy=proxy.base_url, api_url="https://localhost:1", ca_bundle=certificate.path)
    assert (ended.why, night.states()) == (UNKNOWN, {"uncertain": 1})
    assert [ids_in(request) for request in sent] == [["call000"]]


@pytest.mark.fault(70)
def test_proxy_answers_itself(night: Night, serve: Serve) -> None:
    """A page of the proxy's own in answer to a call: one uncertain, 76."""
    night.take_in(3)
    proxy = serve(last_words(TOKEN), answering(http_answer(body=b"<html>Welcome to the hotel</html>")))
    ended = night.run(proxy=proxy.base_url, api_url="http://127.0.0.1:1")
    assert (ended.why, night.states()) == ((76, "web_page"), {"uncertain": 1, "pending": 2})
    assert each_sent_once(proxy, 1)


@pytest.mark.fault(71)
@pytest.mark.parametrize("is_refused", [False, True])
def test_bad_address_first(night: Night, serve: Serve, monkeypatch: pytest.MonkeyPatch, is_refused: bool) -> None:
    """Where IPv6 leads nowhere, or nobody listens there, and IPv4 works, each call goes once, by IPv4."""
    night.take_in(2)
    server = serve(answering(OK))
    look_up = socket.getaddrinfo
    found = [
        (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", server.port, 0, 0)),
        (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", server.port)),
    ]

    def resolve(host: str, *rest: Any, **more: Any) -> Any:
        return found if host == "localhost" else look_up(host, *rest, **more)

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
        assert night.run().why == UNKNOWN
    assert night.states() == {"accepted": 9, "uncertain": 1}
    assert Counter(night.posts()).most_common(1)[0][1] == 1
