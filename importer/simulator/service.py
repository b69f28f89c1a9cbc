"""Issues tokens, judges requests and keeps the calls that it accepted, by HTTP/1.1 on a socket of loopback."""

import ipaddress
import json
import math
import re
import secrets
import socket
import socketserver
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler
from typing import Any, Self
from urllib.parse import parse_qsl

CALLNOTIFY_PATH = "/phonebridge/v3/callnotify"
USERS_PATH = "/phonebridge/v3/users"
TOKEN_PATH = "/oauth/v2/token"  # noqa: S105 - a path, not a secret
MANDATORY = ("type", "state", "id", "from", "to", "start_time")
UNATTENDED_STATES = frozenset({"busy", "invalid", "blocked", "notavailable", "noanswer", "rejected"})
FORM_TYPE = "application/x-www-form-urlencoded"
USERS_PER_PAGE = 100
MOST_USERS_PER_PAGE = 1000
GRANT_CODE_SECONDS = 180.0
LIMIT_PERIOD_SECONDS = 600.0
TOKEN_SECONDS = 3600
STOP_POLL_SECONDS = 0.02

_START_TIME = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}")


SANDBOX_USERS: tuple[Mapping[str, str], ...] = (
    {"zohouser": "20068510101", "email": "ann.lee@example.com", "username": "Ann Lee"},
    {"zohouser": "20068510102", "email": "ben.ortiz@example.com", "username": "Ben Ortiz"},
    {"zohouser": "20068510103", "email": "cora.diaz@example.com", "username": "Cora Diaz"},
    {"zohouser": "20068510104", "email": "dev.shah@example.com", "username": "Dev Shah"},
    {"zohouser": "20068510105", "email": "emma.clarke@example.com", "username": "Emma Clarke"},
    {"zohouser": "20068510107", "email": "gina.moss@example.com", "username": "Gina Moss"},
)
"""Users as ``GET users`` lists them: of ``sample_data/agents.csv``, less one agent, and one who is no agent."""


SANDBOX_CREDENTIALS: Mapping[str, str] = {
    "client_id": "1000.SANDBOXCLIENTNOTREAL",
    "client_secret": "sandbox-secret-not-real",
    "refresh_token": "1000.sandbox.refresh-token-not-real",
}
"""What the token endpoint accepts."""


@dataclass(frozen=True, slots=True)
class Request:
    """One whole request."""

    method: str
    path: str
    query: str
    authorization: str
    content_type: str
    body: bytes

    def form(self) -> dict[str, str]:
        """Return the decoded form body; empty for any other kind of body."""
        is_form = self.content_type.partition(";")[0].strip().lower() == FORM_TYPE
        return _first_values(self.body.decode("utf-8", "replace")) if is_form else {}


def _first_values(text: str) -> dict[str, str]:
    fields: dict[str, str] = {}
    for name, value in parse_qsl(text, keep_blank_values=True):
        # A servlet's getParameter takes the first of several.
        fields.setdefault(name, value)
    return fields


@dataclass(frozen=True, slots=True)
class Response:
    """One answer; ``content`` is an object for JSON, or text for people."""

    status: int
    content: object
    headers: Mapping[str, str] = field(default_factory=dict)

    @property
    def content_type(self) -> str:
        """The Content-Type header."""
        return f"{'text/plain' if isinstance(self.content, str) else 'application/json'};charset=UTF-8"

    @property
    def body(self) -> bytes:
        """The content encoded."""
        return (self.content if isinstance(self.content, str) else json.dumps(self.content)).encode()


class Service:
    """The state of one simulator under one lock.

    ``accepted`` has the decoded fields of each call that was accepted, and when that was (ISO 8601, UTC).
    ``base_url``, set once the port is found, is answered as the API's domain. ``rate_limit`` is requests and
    seconds of a rolling window of `callnotify`. ``clock`` counts seconds, ``wall_clock`` is seconds since 1970.
    ``most_per_period`` tokens are issued within ten minutes, and the oldest of ``most_active`` ends when another
    is issued, as Zoho documents. Only with ``knows_users`` a call of a user that is not in ``users`` is refused:
    an export tried out may name those of another account.
    """

    def __init__(
        self,
        *,
        rate_limit: tuple[int, float] | None = None,
        knows_users: bool = False,
        clock: Callable[[], float] = time.monotonic,
        wall_clock: Callable[[], float] = time.time,
    ) -> None:
        self.base_url = ""
        self.credentials = SANDBOX_CREDENTIALS
        self.most_per_period = 10
        self.most_active = 15
        self.users = SANDBOX_USERS
        self.accepted: list[tuple[Mapping[str, str], str]] = []
        self._rate_limit = rate_limit
        self._knows_users = knows_users
        self._clock = clock
        self._wall_clock = wall_clock
        self._lock = threading.Lock()
        self._passed: deque[float] = deque()
        self._expiries: dict[str, float] = {}
        self._issued: deque[float] = deque()
        self._grant_codes: dict[str, float] = {}
        self._routes: Mapping[str, tuple[str, Callable[[Request], Response]]] = {
            CALLNOTIFY_PATH: ("POST", self._notify),
            USERS_PATH: ("GET", self._users_page),
            TOKEN_PATH: ("POST", self._token),
            "/sandbox/calls": ("GET", self._calls_page),
            "/sandbox/code": ("GET", lambda _: Response(200, self.issue_grant_code() + "\n")),
        }

    def answer(self, request: Request) -> Response:
        """Judge one request, and accept its call if nothing is against it."""
        if request.path not in self._routes:
            message = "Please check if the URL trying to access is a correct one"
            return _envelope(404, "INVALID_URL_PATTERN", message)
        allowed, answer = self._routes[request.path]
        if request.method != allowed:
            message = "The http request method type is not a valid one"
            return _envelope(405, "INVALID_REQUEST_METHOD", message, headers={"Allow": allowed})
        with self._lock:
            if request.path in (CALLNOTIFY_PATH, USERS_PATH):
                scheme, _, token = request.authorization.strip().partition(" ")
                if not scheme:
                    return _envelope(401, "AUTHENTICATION_FAILURE", "Authentication failed")
                is_valid = self._expiries.get(token.strip(), 0.0) > self._clock()
                if scheme.lower() != "zoho-oauthtoken" or not is_valid:
                    return _envelope(401, "INVALID_TOKEN", "invalid oauth token")
            return answer(request)

    def _notify(self, request: Request) -> Response:
        """Accept a call, or refuse it: the first thing that is wrong decides."""
        if self._rate_limit is not None:
            # The answer beyond the limit is CRM's; a throttled request does not count.
            (most, period_seconds), now = self._rate_limit, self._clock()
            while self._passed and self._passed[0] <= now - period_seconds:
                self._passed.popleft()
            if len(self._passed) >= most:
                free_at = (self._passed[0] if self._passed else now) + period_seconds
                headers = {"Retry-After": str(max(1, math.ceil(free_at - now)))}
                message = "Too many requests, please try again later"
                return _envelope(429, "TOO_MANY_REQUESTS", message, headers=headers)
            self._passed.append(now)
        fields = request.form()
        missing = next((name for name in MANDATORY if not fields.get(name)), None)
        if missing is not None:
            message = "One of the expected parameter is missing"
            return _envelope(400, "REQUIRED_PARAM_MISSING", message, param=missing)
        try:
            datetime.strptime(fields["start_time"], "%Y-%m-%d %H:%M:%S").replace(tzinfo=UTC)
            is_start_time = _START_TIME.fullmatch(fields["start_time"]) is not None
        except ValueError:
            is_start_time = False
        is_documented = {
            "type": fields["type"] == "dialed",
            "state": fields["state"] in UNATTENDED_STATES,
            "start_time": is_start_time,
        }
        wrong = next((name for name, is_right in is_documented.items() if not is_right), None)
        if wrong is not None:
            # Zoho documents no code for a value that it refuses.
            return _envelope(400, "INVALID_DATA", "invalid value", param=wrong)
        user = fields.get("zohouser")
        if user and self._knows_users and all(user != each["zohouser"] for each in self.users):
            return _envelope(400, "INVALID_USER", "Please check the user configuration")
        arrived_at = datetime.fromtimestamp(self._wall_clock(), UTC).isoformat(timespec="milliseconds")
        self.accepted.append((fields, arrived_at.replace("+00:00", "Z")))
        return Response(200, {"status": "success", "code": "SUCCESS"})

    def issue_grant_code(self) -> str:
        """Return a grant code for one use within three minutes."""
        code = f"1000.{secrets.token_hex(16)}.{secrets.token_hex(16)}"
        self._grant_codes[code] = self._clock() + GRANT_CODE_SECONDS
        return code

    def _token(self, request: Request) -> Response:
        """Answer the token endpoint as Zoho: values of the query count, refusals have 200."""
        fields, known = _first_values(request.query) | request.form(), self.credentials
        more: dict[str, object] = {}
        if any(fields.get(name) != known[name] for name in ("client_id", "client_secret")):
            return Response(200, {"error": "invalid_client"})
        if fields.get("grant_type") == "refresh_token":
            is_granted = fields.get("refresh_token") == known["refresh_token"]
        elif fields.get("grant_type") == "authorization_code":
            is_granted = self._grant_codes.pop(fields.get("code", ""), 0.0) > self._clock()
            more["refresh_token"] = known["refresh_token"]
        else:
            return Response(200, {"error": "general_error"})
        if not is_granted:
            return Response(200, {"error": "invalid_code"})
        while self._issued and self._issued[0] <= self._clock() - LIMIT_PERIOD_SECONDS:
            self._issued.popleft()
        if len(self._issued) >= self.most_per_period:
            description = "You have made too many requests continuously. Please try again after some time."
            refusal = {"error_description": description, "error": "Access Denied", "status": "failure"}
            return Response(400, refusal)
        now, token = self._clock(), f"1000.{secrets.token_hex(16)}.{secrets.token_hex(16)}"
        self._issued.append(now)
        self._expiries = {each: expiry for each, expiry in self._expiries.items() if expiry > now}
        while len(self._expiries) >= self.most_active:
            del self._expiries[next(iter(self._expiries))]
        self._expiries[token] = now + TOKEN_SECONDS
        more |= {"token_type": "Bearer", "expires_in": TOKEN_SECONDS, "api_domain": self.base_url}
        return Response(200, {"access_token": token, **more})

    def _users_page(self, request: Request) -> Response:
        query, numbers = _first_values(request.query), dict[str, int]()
        for name, default, most in (("page", 1, 10**6), ("perPage", USERS_PER_PAGE, MOST_USERS_PER_PAGE)):
            text = query.get(name, str(default))
            if not re.fullmatch(r"[0-9]{1,7}", text) or not 1 <= int(text) <= most:
                return _envelope(400, "INVALID_DATA", "invalid value", param=name)
            numbers[name] = int(text)
        end = numbers["page"] * numbers["perPage"]
        listed = self.users[end - numbers["perPage"] : end]
        turns = {"next": end < len(self.users), "previous": numbers["page"] > 1}
        return Response(200, {"users": listed, "paging": numbers, "navigation": turns})

    def _calls_page(self, _: Request) -> Response:
        """List the accepted calls, decoded, for people and other programs."""
        listed, seen = list[Mapping[str, object]](), set[str]()
        for fields, arrived_at in self.accepted:
            listed.append({**fields, "arrived_at": arrived_at, "duplicate": fields["id"] in seen})
            seen.add(fields["id"])
        return Response(200, listed)


def _envelope(
    status: int, code: str, message: str, *, param: str = "", headers: Mapping[str, str] | None = None
) -> Response:
    """Return an error in the envelope seen on PhoneBridge."""
    details = {"param": param} if param else {}
    content = {"code": code, "details": details, "message": message, "status": "error"}
    return Response(status, content, headers or {})


class Handler(BaseHTTPRequestHandler):
    """One connection: reads whole requests and sends the service's answers."""

    protocol_version = "HTTP/1.1"
    server_version, sys_version = "cdr-importer-sandbox", ""
    # With Nagle's algorithm a kept connection costs 45 ms per POST.
    disable_nagle_algorithm = True
    # Head and body leave in one write.
    wbufsize = -1
    error_content_type = "application/json;charset=UTF-8"
    error_message_format = '{"code": "BAD_REQUEST", "details": {}, "message": "%(message)s", "status": "error"}'
    server: "Sandbox"

    def do_GET(self) -> None:
        """Answer one request of any method; none where the client left before its end."""
        lengths = set(self.headers.get_all("Content-Length", ["0"]))
        length = lengths.pop()
        if lengths or "Transfer-Encoding" in self.headers or not re.fullmatch("[0-9]{1,5}", length):
            self.send_error(411, "A body needs one Content-Length of at most five digits")
            return
        body = self.rfile.read(int(length))
        if len(body) < int(length):
            self.close_connection = True
            return
        path, _, query = self.path.partition("?")
        authorization, content_type = (self.headers.get(name, "") for name in ("Authorization", "Content-Type"))
        request = Request(self.command, path, query, authorization, content_type, body)
        answer = self.server.service.answer(request)
        self.send_response(answer.status)
        headers = {"Content-Type": answer.content_type, "Content-Length": str(len(answer.body)), **answer.headers}
        for name, value in (headers | ({"Connection": "close"} if self.close_connection else {})).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(answer.body)
        self.server.on_answer(request, answer)

    do_POST = do_PUT = do_DELETE = do_PATCH = do_OPTIONS = do_GET  # noqa: N815 - names of http.server

    def log_message(self, *arguments: Any) -> None:
        """Write nothing: the sandbox's terminal belongs to the importer."""


class Sandbox(socketserver.ThreadingTCPServer):
    """The PhoneBridge API and its token endpoint on a loopback address; as a context it serves in a thread.

    ``port`` 0 takes a free one. ``on_answer`` gets each request with its answer, in the thread of its connection.
    Raises ValueError for a host that is not loopback, and OSError where the port is taken.
    """

    # Not http.server's own, which looks the host's name up.
    daemon_threads = allow_reuse_address = True
    request_queue_size = 128

    def __init__(
        self,
        service: Service | None = None,
        *,
        host: str = "127.0.0.1",
        port: int = 0,
        on_answer: Callable[[Request, Response], None] = lambda *_: None,
    ) -> None:
        address = "127.0.0.1" if host == "localhost" else host
        try:
            is_loopback = ipaddress.ip_address(address).is_loopback
        except ValueError:
            is_loopback = False
        if not is_loopback:
            raise ValueError(f"host {host!r} is not a loopback address; the simulator listens on no other")
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Handler)
        self.server_port = int(self.server_address[1])
        name = f"[{address}]" if ":" in address else address
        self.service = service or Service()
        self.service.base_url = self.base_url = f"http://{name}:{self.server_port}"
        self.on_answer = on_answer

    def __enter__(self) -> Self:
        target, arguments = self.serve_forever, (STOP_POLL_SECONDS,)
        threading.Thread(target=target, args=arguments, name="cdr-importer-sandbox", daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self.server_close()

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Show a bug; a client may end its connection at any time."""
        if not isinstance(sys.exc_info()[1], OSError):
            super().handle_error(request, client_address)
