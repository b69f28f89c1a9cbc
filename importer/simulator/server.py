"""The socket side: HTTP/1.1 with keep-alive on loopback, faults played at the byte level, and `Simulator`."""

import ipaddress
import json
import re
import selectors
import socket
import socketserver
import struct
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any, Self

from importer.simulator import answers
from importer.simulator.answers import Answer
from importer.simulator.behaviour import EARLY_HINTS, ORDINARY, Arrival, Behaviour, Fault, SandboxCredentials
from importer.simulator.service import Door, Request, Service, most_in_any_window

DOORS: Mapping[str, Door] = {"/phonebridge/v3/callnotify": "calls", "/oauth/v2/token": "tokens"}
BAD_REQUEST = "BAD_REQUEST"
MOST_BODY_BYTES = 64 * 1024
STOP_SECONDS = 5.0
RESET_ON_CLOSE = struct.pack("hh" if sys.platform == "win32" else "ii", 1, 0)


class _Server(ThreadingHTTPServer):
    """Accepts until woken up, knows its open connections and keeps what went wrong to itself."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, address: tuple[str, int], service: Service) -> None:
        self.address_family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.service = service
        self.stopping = threading.Event()
        self.connection_count = 0
        self.bugs: list[BaseException] = []
        self._open: set[socket.socket] = set()
        self._changed = threading.Condition()
        super().__init__(address, _Exchange)
        # A connection gone between select and accept must not block the loop.
        self.socket.settimeout(1.0)

    def server_bind(self) -> None:
        """Bind without the name look-up that HTTPServer makes here."""
        socketserver.TCPServer.server_bind(self)

    def accept_until(self, wakeup: socket.socket) -> None:
        """Serve until ``wakeup`` has something to read; unlike serve_forever this polls nothing."""
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ)
            selector.register(wakeup, selectors.EVENT_READ)
            while all(key.fileobj is not wakeup for key, _ in selector.select()):
                self._accept_one()

    def _accept_one(self) -> None:
        try:
            request, client_address = self.get_request()
        except OSError:
            return
        try:
            self.process_request(request, client_address)
        except RuntimeError:  # no thread to be had
            self.shutdown_request(request)

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve one connection in a thread of its own."""
        with self._changed:
            self.connection_count += 1
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """Close one connection."""
        super().shutdown_request(request)
        with self._changed:
            self._open.discard(request)
            self._changed.notify_all()

    def handle_error(self, request: Any, client_address: Any) -> None:  # noqa: ARG002 - socketserver's signature
        """Keep a bug for stop() to raise; a connection lost is a client's good right."""
        error = sys.exc_info()[1]
        if error is not None and not isinstance(error, OSError):
            self.bugs.append(error)

    def end_connections(self) -> None:
        """Shut every open connection and wait until their threads let go."""
        self.stopping.set()
        with self._changed:
            for connection in self._open:
                _shut(connection, socket.SHUT_RDWR)
            self._changed.wait_for(lambda: not self._open, STOP_SECONDS)


def _shut(connection: socket.socket, how: int) -> None:
    try:
        connection.shutdown(how)
    except OSError:
        return


class _Exchange(BaseHTTPRequestHandler):
    """One connection: reads requests, has them judged, answers or misbehaves."""

    protocol_version = "HTTP/1.1"
    # With Nagle's algorithm a kept connection costs 45 ms per POST.
    disable_nagle_algorithm = True
    server: _Server
    recorded: tuple[Door, int] | None = None
    sent = b""

    def handle_one_request(self) -> None:
        """Read and answer one request; ``close_connection`` says whether another may follow."""
        self.close_connection = True
        self.command = ""
        self.raw_requestline = self.rfile.readline(65_537)
        if not self.raw_requestline.strip():
            return
        if len(self.raw_requestline) > 65_536:
            self.send_error(414, "Request line too long")
        elif self.parse_request():
            self._serve(self.server.service.clock())

    def _serve(self, moment: float) -> None:
        path, _, query = self.path.partition("?")
        service, door = self.server.service, DOORS.get(path)
        place, fault = (0, ORDINARY) if door is None else service.admit(door, moment, path)
        self.recorded, self.sent = (None if door is None else (door, place)), b""
        if fault.drops_unread:
            self._drop(reset=fault.reset_before_reading)
            return
        error = self._framing_error()
        if error is not None:
            if door is not None:
                service.record_answer(door, place, error[0], BAD_REQUEST)
            self.send_error(*error)
            return
        body = self._whole_body()
        if body is None:
            return
        request = self._request(path, query, body, moment)
        if door is None:
            self._send(self._other_answer(request))
        else:
            self._play(door, place, fault, request)

    def _request(self, path: str, query: str, body: bytes, moment: float) -> Request:
        authorization = self.headers.get("Authorization", "")
        content_type = self.headers.get("Content-Type", "")
        return Request(self.command, path, query, authorization, content_type, body, moment)

    def _other_answer(self, request: Request) -> Answer:
        service = self.server.service
        routes: dict[str, tuple[str, Callable[[], Answer]]] = {
            "/phonebridge/v3/users": ("GET", lambda: service.users(request)),
            "/phonebridge/v3/integrate": ("POST, DELETE", lambda: service.integrate(request)),
            "/oauth/serverinfo": ("GET", service.server_info),
            "/sandbox": ("GET", service.status_page),
            "/sandbox/calls": ("GET", service.calls_page),
            "/sandbox/code": ("GET", service.code_page),
        }
        if request.path not in routes:
            return answers.NO_SUCH_PATH
        allowed, answer = routes[request.path]
        if request.method not in allowed.split(", "):
            return answers.wrong_method(service.behaviour.method_status, allowed)
        return answer()

    def _content_length(self) -> str:
        lengths = set(self.headers.get_all("Content-Length", ["0"]))
        return lengths.pop() if len(lengths) == 1 else ""

    def _framing_error(self) -> tuple[int, str] | None:
        """Return status and message where the end of the request cannot be told or is too far away."""
        if "Transfer-Encoding" in self.headers:
            return 411, "Content-Length is needed"
        length = self._content_length()
        if not re.fullmatch("[0-9]{1,18}", length):
            return 400, "Content-Length is not one number"
        return (413, "Body too long") if int(length) > MOST_BODY_BYTES else None

    def _whole_body(self) -> bytes | None:
        """Return the whole body; None when the client went away in the middle of it."""
        length = int(self._content_length())
        body = self.rfile.read(length)
        if len(body) == length:
            return body
        self.close_connection = True
        return None

    def _play(self, door: Door, place: int, fault: Fault, request: Request) -> None:
        service, stopping = self.server.service, self.server.stopping
        judge = service.notify if door == "calls" else service.token
        answer = judge(place, request, fault)
        latency = service.behaviour.latency_seconds if door == "calls" else 0.0
        if fault.early_hints:
            self._hand_over(EARLY_HINTS)
        if fault.is_silent:
            if fault.hang:
                stopping.wait()
            self._drop(reset=fault.reset_after_reading)
            return
        delay = latency + fault.delay_seconds
        if delay > 0 and stopping.wait(delay):
            self.close_connection = True
            return
        if fault.raw_answer is not None:
            self.close_connection = True
            self._write(fault.raw_answer, fault.drip_seconds)
            return
        self._send_recorded(door, place, fault, _deviation(answer, fault))

    def _send_recorded(self, door: Door, place: int, fault: Fault, answer: Answer) -> None:
        service = self.server.service
        service.record_answer(door, place, answer.status, answer.code)
        try:
            self._send(answer, fault)
        except OSError:
            service.record_answer(door, place, None, "")
            raise

    def _send(self, answer: Answer, fault: Fault | None = None) -> None:
        """Send one answer in one write."""
        service = self.server.service
        if not service.behaviour.keep_alive:
            self.close_connection = True
        head = answers.render_head(answer, now=service.wall_clock(), close=self.close_connection)
        has_body = self.command != "HEAD" and answer.status not in answers.WITHOUT_BODY
        body = answer.body if has_body else b""
        if fault is None:
            self._hand_over(head + body)
            return
        self._write(head + body[: fault.cut_body_after] + fault.trailing, fault.drip_seconds)
        if fault.close_after_answer or fault.cut_body_after is not None:
            self.close_connection = True

    def _write(self, content: bytes, drip_seconds: float) -> None:
        if drip_seconds <= 0:
            self._hand_over(content)
            return
        for number in content:
            self._hand_over(bytes((number,)))
            if self.server.stopping.wait(drip_seconds):
                self.close_connection = True
                return

    def _hand_over(self, content: bytes) -> None:
        """Write and record; recorded first, since the client may act on the answer before write returns."""
        before = self.sent
        self._record_sent(before + content)
        try:
            self.wfile.write(content)
        except OSError:
            self._record_sent(before)
            raise

    def _record_sent(self, sent: bytes) -> None:
        self.sent = sent
        if self.recorded is not None:
            self.server.service.record_sent(*self.recorded, sent)

    def _drop(self, *, reset: bool) -> None:
        """End the connection now: with RST, or with FIN whatever the client is still sending."""
        self.close_connection = True
        if reset:
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
            # A shutdown, which socketserver would make first, sends FIN.
            socket.close(self.connection.detach())
            return
        _shut(self.connection, socket.SHUT_WR)
        # Closing with bytes unread would send RST after all.
        while self.rfile.read1(65_536):
            pass

    def send_error(self, code: int, message: str | None = None, explain: str | None = None) -> None:  # noqa: ARG002
        """Answer what is not HTTP, or not what this server reads, and close."""
        self.close_connection = True
        self._send(answers.envelope(code, BAD_REQUEST, message or "Bad request"))
        self._drop(reset=False)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing: the sandbox's terminal belongs to the importer."""


def _deviation(answer: Answer, fault: Fault) -> Answer:
    if fault.status is not None:
        return Answer(fault.status, fault.body, fault.headers, answers.code_in_body(fault.body))
    if fault.changes or fault.drops:
        content = {**json.loads(answer.body), **fault.changes}
        kept = {key: value for key, value in content.items() if key not in fault.drops}
        answer = answers.json_answer(answer.status, kept, *answer.headers)
    return replace(answer, headers=(*answer.headers, *fault.headers))


class Simulator:
    """The PhoneBridge API and its token endpoint on a loopback address.

    ``port`` 0 takes a free one. ``clock`` counts seconds for tokens, limits and arrivals; ``wall_clock`` is
    seconds since 1970. Delays are real time whatever the clock. Raises ValueError for a host that is not
    loopback.
    """

    def __init__(
        self,
        behaviour: Behaviour = Behaviour(),  # noqa: B008 - frozen
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self._host = _loopback(host)
        self._port = port
        self._service = Service(behaviour, clock, wall_clock)
        self._server: _Server | None = None
        self._thread: threading.Thread | None = None
        self._wakeup: socket.socket | None = None
        self._stopped = threading.Event()
        self._connections_before = 0

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()

    def start(self) -> Self:
        """Listen and serve in a daemon thread; after stop() again on the same port, with all records kept.

        Raises OSError when the port is taken and RuntimeError when it serves already.
        """
        if self._server is not None:
            raise RuntimeError("the simulator serves already")
        server = _Server((self._host, self._port), self._service)
        self._port = int(server.server_address[1])
        self._service.base_url = self.base_url
        self._wakeup, wakeup = socket.socketpair()
        self._stopped.clear()
        self._server = server
        self._thread = threading.Thread(
            target=_accept, args=(server, wakeup), name="cdr-importer-sandbox", daemon=True
        )
        self._thread.start()
        return self

    def stop(self) -> None:
        """Stop listening and end every connection, hanging ones too; a second stop does nothing.

        Raises RuntimeError from the first bug of the simulator's own, if there was one.
        """
        server, thread, wakeup = self._server, self._thread, self._wakeup
        if server is None or thread is None or wakeup is None:
            return
        self._server = None
        wakeup.sendall(b".")
        thread.join()
        wakeup.close()
        server.server_close()
        server.end_connections()
        self._connections_before += server.connection_count
        self._stopped.set()
        if server.bugs:
            raise RuntimeError("the simulator itself failed while answering") from server.bugs[0]

    def serve_forever(self) -> None:
        """Serve in the foreground until KeyboardInterrupt, or stop() from another thread; start if need be."""
        if self._server is None:
            self.start()
        try:
            # Without a limit Ctrl-C does not end the wait on Windows.
            while not self._stopped.wait(0.5):
                pass
        finally:
            self.stop()

    @property
    def port(self) -> int:
        """The port listened on; 0 before the first start where a free one is to be taken."""
        return self._port

    @property
    def base_url(self) -> str:
        """Scheme, host and port of API and token endpoint; RuntimeError before the port is known."""
        if self._port == 0:
            raise RuntimeError("the simulator has not been started: its port is not known yet")
        return f"http://[{self._host}]:{self._port}" if ":" in self._host else f"http://{self._host}:{self._port}"

    @property
    def credentials(self) -> SandboxCredentials:
        """What the token endpoint wants to see."""
        return self._service.behaviour.credentials

    @property
    def behaviour(self) -> Behaviour:
        """The switches; may be replaced while serving."""
        return self._service.behaviour

    @behaviour.setter
    def behaviour(self, behaviour: Behaviour) -> None:
        self._service.behaviour = behaviour

    @property
    def accepted(self) -> tuple[Mapping[str, str], ...]:
        """The decoded fields of every call taken in, in order of acceptance."""
        return tuple(call.fields for call in self._service.taken())

    @property
    def arrivals(self) -> tuple[Arrival, ...]:
        """Every request to ``callnotify``, in order of arrival."""
        return self._service.arrivals("calls")

    @property
    def token_arrivals(self) -> tuple[Arrival, ...]:
        """Every request to the token endpoint, in order of arrival."""
        return self._service.arrivals("tokens")

    @property
    def token_requests(self) -> int:
        """How many requests the token endpoint has seen."""
        return len(self.token_arrivals)

    @property
    def connections(self) -> int:
        """How many connections were accepted since the simulator was made."""
        server = self._server
        return self._connections_before + (0 if server is None else server.connection_count)

    def script(self, *faults: Fault) -> None:
        """Queue faults for the next requests to ``callnotify``."""
        self._service.script("calls", faults)

    def script_tokens(self, *faults: Fault) -> None:
        """Queue faults for the next requests to the token endpoint."""
        self._service.script("tokens", faults)

    def worst_window(self, period_seconds: float) -> int:
        """Return the most ``callnotify`` requests that arrived within any half-open window of that length."""
        return most_in_any_window((arrival.moment for arrival in self.arrivals), period_seconds)

    def expire_tokens(self) -> None:
        """Make every access token given out so far invalid."""
        self._service.expire_tokens()

    def issue_grant_code(self) -> str:
        """Return a grant code good for one exchange within three minutes."""
        return self._service.issue_grant_code()


def _accept(server: _Server, wakeup: socket.socket) -> None:
    with wakeup:
        server.accept_until(wakeup)


def _loopback(host: str) -> str:
    address = "127.0.0.1" if host == "localhost" else host
    try:
        is_loopback = ipaddress.ip_address(address).is_loopback
    except ValueError:
        is_loopback = False
    if not is_loopback:
        raise ValueError(f"host {host!r} is not a loopback address; the simulator listens on no other")
    return address
