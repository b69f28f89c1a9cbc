"""The product's service behind a server that plays faults and records all that arrives."""

import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field
from email.parser import BytesHeaderParser
from urllib.request import urlopen

from importer.settings.credentials import Credentials
from importer.simulator.service import Request, Response, Service
from misbehaviour.connections import PATIENCE_SECONDS, Peer, Server
from misbehaviour.faults import ORDINARY, Fault

CALLS, TOKENS, USERS = "/phonebridge/v3/callnotify", "/oauth/v2/token", "/phonebridge/v3/users"
EARLY_HINTS = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"


@dataclass
class Arrival:
    """One request as it arrived.

    ``moment`` is the clock's seconds when the head had been read; ``fields`` the decoded form; ``complete`` says
    whether the whole body was read. ``status`` is that of the answer and None until it goes out, when nothing was
    answered, or when the bytes sent are a fault's ``raw_answer``. ``stored`` says that the call was accepted.
    ``sent`` are the bytes of the answer that the system took for the connection, whatever fault they show.
    """

    moment: float
    fields: Mapping[str, str] = field(default_factory=dict)
    raw_body: bytes = b""
    status: int | None = None
    stored: bool = False
    complete: bool = False
    sent: bytes = b""


class Simulator(Server):
    """The API and its token endpoint; every connection is in order until a scripted fault comes.

    ``clock`` counts seconds for tokens and arrivals; ``wall_clock`` is seconds since 1970. Delays are real time
    whatever the clock; ``latency_seconds`` delays the answer to each call that was accepted already. ``arrived``
    holds the requests to each path.
    """

    def __init__(
        self, *, clock: Callable[[], float] = time.monotonic, wall_clock: Callable[[], float] = time.time
    ) -> None:
        super().__init__(self._converse)
        self.service = Service(clock=clock, wall_clock=wall_clock)
        self.latency_seconds = 0.0
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self.arrived: dict[str, list[Arrival]] = {CALLS: [], TOKENS: []}
        self._faults: dict[str, deque[Fault]] = {}

    def start(self) -> None:
        """Listen; after stop() again on the same port, with all records kept."""
        super().start()
        self.service.base_url = self.base_url

    @property
    def credentials(self) -> Credentials:
        """What the token endpoint accepts."""
        return Credentials(**self.service.credentials)

    @credentials.setter
    def credentials(self, credentials: Credentials) -> None:
        self.service.credentials = asdict(credentials)

    def environment(self) -> dict[str, str]:
        """Return the environment variables that point the program at this account."""
        own = asdict(self.credentials) | {"accounts_url": self.base_url, "api_url": self.base_url}
        return {f"CDR_IMPORTER_{name.upper()}": value for name, value in own.items()}

    @property
    def accepted(self) -> tuple[Mapping[str, str], ...]:
        """The decoded fields of every accepted call, in order."""
        with self._lock:
            return tuple(fields for fields, _ in self.service.accepted)

    @property
    def arrivals(self) -> tuple[Arrival, ...]:
        """Every request to `callnotify`, in order of arrival."""
        return tuple(self.arrived[CALLS])

    @property
    def token_requests(self) -> int:
        """How many requests the token endpoint received."""
        return len(self.arrived[TOKENS])

    def script(self, *faults: Fault, path: str = CALLS) -> None:
        """Queue faults for the next requests to a path."""
        self._faults.setdefault(path, deque()).extend(faults)

    def wait_until_left(self) -> None:
        """Wait until all was judged that clients, gone by now, had sent."""
        urlopen(f"{self.base_url}/sandbox/calls").close()  # connections are taken in their order
        for thread in self._threads[1:]:
            thread.join(PATIENCE_SECONDS)

    def _converse(self, peer: Peer) -> None:
        while (head := peer.read_head()) and self._answer(peer, head):
            pass

    def _answer(self, peer: Peer, head: bytes) -> bool:
        """Play one request; say whether the connection stays."""
        first, _, rest = head.partition(b"\r\n")
        method, target, _ = first.decode("latin-1").split(" ")
        path, _, query = target.partition("?")
        headers = BytesHeaderParser().parsebytes(rest)
        arrival, fault = self._admit(path)
        if fault.reset_before_reading:
            peer.reset()
            return False
        body = peer.read_body(head)
        if body is None:
            return False
        authorization, content_type = headers.get("Authorization", ""), headers.get("Content-Type", "")
        answer = self._judge(Request(method, path, query, authorization, content_type, body), fault, arrival)
        if fault.early_hints:
            _send(peer, arrival, EARLY_HINTS)
        if fault.hang:
            peer.over.wait()
        if fault.reset_after_reading:
            peer.reset()
        if fault.is_silent:
            return False
        delay_seconds = fault.delay_seconds + (self.latency_seconds if path == CALLS else 0.0)
        if delay_seconds and peer.over.wait(delay_seconds):
            return False
        if fault.held:
            fault.held.wait(PATIENCE_SECONDS)
        if fault.raw_answer is not None:
            _send(peer, arrival, fault.raw_answer)
            return False
        status, data = fault.rendered(answer, self._wall_clock())
        _send(peer, arrival, data, status)
        return fault.cut_body_after is None

    def _admit(self, path: str) -> tuple[Arrival, Fault]:
        """Record a request whose head was read, and take the next fault."""
        with self._lock:
            arrival = Arrival(self._clock())
            self.arrived.setdefault(path, []).append(arrival)
            faults = self._faults.setdefault(path, deque())
            fault = faults.popleft() if faults else ORDINARY
            if fault.times > 1:
                faults.appendleft(fault.repeated(fault.times - 1))
            return arrival, fault

    def _judge(self, request: Request, fault: Fault, arrival: Arrival) -> Response:
        with self._lock:
            if fault.expire_tokens:
                self.service._expiries.clear()
            accepted = self.service.accepted
            before = len(accepted)
            answer = self.service.answer(request)
            if not fault.takes_call:
                del accepted[before:]
            arrival.fields, arrival.raw_body = request.form(), request.body
            arrival.stored, arrival.complete = len(accepted) > before, True
        return answer


def _send(peer: Peer, arrival: Arrival, data: bytes, status: int | None = None) -> None:
    """Send and record; recorded first, since the client may act on the answer before sendall returns."""
    before, arrival.sent, arrival.status = arrival.sent, arrival.sent + data, status
    try:
        peer.sock.sendall(data)
    except OSError:
        arrival.sent, arrival.status = before, None
        raise
