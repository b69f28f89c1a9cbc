"""One request over one connection, never repeated, the bounds on its answer, and whom it trusts.

Exception classes prove nothing about what the server got: requests raises ReadTimeout when no byte was sent and
SSLError when the server has everything. So the connection object itself marks the first byte, and a failure
carries that mark.
"""

import functools
import http.client
import io
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.utils import DEFAULT_CA_BUNDLE_PATH, default_headers
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError
from urllib3.util.wait import wait_for_read

from importer import __version__
from importer.client.failures import SendFailure, kind_of
from importer.errors import ConfigurationError
from importer.private_files import open_small, why
from importer.records import Timeouts, ignore

BODY_LIMIT_BYTES = 64 * 1024

_HEADERS = {**default_headers(), "User-Agent": f"cdr-importer/{__version__}", "Accept-Encoding": "identity"}

Found = tuple[int, int, int, str, Any]
"""One row of getaddrinfo: family, type, protocol, canonical name, address."""

_LAST_WORD_SECONDS = 1.0

_KEEP_ALIVE = re.compile(r"(?:.*[,; ])?timeout *= *\"?([0-9]{1,6})", re.IGNORECASE)
_KEEP_ALIVE_MARGIN_SECONDS = 0.5  # the way there and back: the server counts from when it wrote its answer

_LENGTH = re.compile(r"0*[0-9]{1,9}")

# Their meaning is in the status line alone, so that a body cut short takes nothing from it (RFC 9110 15.5).
_CUT_BODY_IS_NO_LOSS = frozenset({401, 407, 429})


@dataclass(frozen=True, slots=True)
class Answer:
    """A complete answer, header names in lower case; a body over `BODY_LIMIT_BYTES` is cut one byte later."""

    status: int
    body: bytes
    headers: Mapping[str, str]


class _Halt(BaseException):
    """Ends a request through urllib3, which would swallow or wrap an OSError.

    Its argument is what a hook raised; None when the server closed a connection that rested, or sent something
    on it, before the first byte of the request.
    """


class _TimedReads(io.RawIOBase):
    """The bytes of a socket: a read waits no longer than a gap between bytes may last, nor past the deadline."""

    is_over = False

    def __init__(self, sock: socket.socket, client: "HttpClient") -> None:
        self._sock, self._client = sock, client
        self._bytes = sock.makefile("rb", buffering=0)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int | None:
        self._sock.settimeout(self._client.seconds_left())
        count = self._bytes.readinto(buffer)
        self.is_over = count == 0
        return count

    def close(self) -> None:
        self._bytes.close()
        super().close()


class _WatchedResponse(http.client.HTTPResponse):
    """Raises IncompleteRead for a header block cut short; CPython 3.11 to 3.14 hand it over as a whole answer."""

    def __init__(self, sock: socket.socket, *args: Any, client: "HttpClient", **kwargs: Any) -> None:
        super().__init__(sock, *args, **kwargs)
        self.fp.close()
        self._reads = _TimedReads(sock, client)
        self.fp = io.BufferedReader(self._reads)

    def begin(self) -> None:
        try:
            super().begin()
        except http.client.BadStatusLine as error:
            if not self._reads.is_over or isinstance(error, http.client.RemoteDisconnected):
                raise
        if self._reads.is_over:  # what comes after the last line of a whole block is not read
            raise http.client.IncompleteRead(b"")


class _Connection(HTTPConnection):
    """Calls its client's hooks around the bytes of a request; those for a proxy's CONNECT are none of them."""

    response_class: Any
    debuglevel = 0  # http.client would print token and call; whatever the class above was set to

    def __init__(self, *args: Any, client: "HttpClient", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.client = client
        self.response_class = functools.partial(_WatchedResponse, client=client)
        self._is_connecting = False

    def connect(self) -> None:
        self._is_connecting = True
        try:
            super().connect()
        finally:
            self._is_connecting = False

    def send(self, data: Any) -> None:
        if self.sock is None:
            # http.client connects inside send, which would run the hooks for a refused connection.
            self.connect()
        if self._is_connecting:
            super().send(data)
            return
        self.client.before_bytes(self.sock)
        try:
            super().send(data)
        finally:
            self.client.after_bytes()

    def _new_conn(self) -> socket.socket:
        """Try the host's addresses in turn; urllib3 2.8 would give each the full time, without a common end."""
        last: OSError | None = None
        try:
            places = self.client.look_up(self.host, int(self.port or 0))
        except (UnicodeError, socket.gaierror) as error:
            fault = error if isinstance(error, socket.gaierror) else socket.gaierror()
            raise NameResolutionError(self.host, self, fault) from error
        for found in places:
            try:
                return self.client.connect_to(found, self.socket_options or ())
            except OSError as error:
                last = error
        if last is None or isinstance(last, TimeoutError):
            raise ConnectTimeoutError(self, "no address answered in time") from last
        raise NewConnectionError(self, "no address took the connection") from last


class _TlsConnection(_Connection, HTTPSConnection):
    """The same under TLS, where the server may have sent why it ended the connection during our request."""

    def send(self, data: Any) -> None:
        try:
            super().send(data)
        except (ssl.SSLError, ConnectionError) as broken:
            if not self.client.first_byte or not isinstance(self.sock, ssl.SSLSocket):
                raise
            # TLS 1.3 says after the handshake that a client certificate is wanted (RFC 8446 6.2).
            try:
                self.sock.settimeout(_LAST_WORD_SECONDS)
                self.sock.recv(1)
            except OSError as word:
                if "CERTIFICATE_REQUIRED" in str(getattr(word, "reason", "")):
                    raise word from broken
            raise


class Trust:
    """What we trust: the CA list that ships with requests, and the operator's file; may be shared by threads.

    The environment (SSL_CERT_FILE, REQUESTS_CA_BUNDLE, SSLKEYLOGFILE) does not count. The list takes 40 ms, and
    is loaded when TLS is first wanted: a run that has nothing to send, or sends to loopback, goes without.
    Raises ConfigurationError when the file cannot be read or holds no certificate.
    """

    def __init__(self, ca_bundle: Path | None = None) -> None:
        self._guard = threading.Lock()
        self._is_whole = False
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.minimum_version = ssl.TLSVersion.TLSv1_2
        if ca_bundle is not None:
            try:
                open_small(ca_bundle).close()  # a pipe would be waited for
                self._context.load_verify_locations(ca_bundle)
            except OSError as error:
                is_read = isinstance(error, ssl.SSLError)
                fault = "holds no certificate" if is_read else f"cannot be read: {why(error, ca_bundle)}"
                raise ConfigurationError(
                    f"--ca-bundle {ca_bundle} {fault}", hint="Name a readable file of certificates in PEM form."
                ) from None

    def context(self) -> ssl.SSLContext:
        """Return the TLS context with all that is trusted loaded."""
        with self._guard:
            if not self._is_whole:
                self._context.load_verify_locations(DEFAULT_CA_BUNDLE_PATH)
                self._is_whole = True
        return self._context


class HttpClient:
    """At most one connection and one request in flight; for one thread.

    ``proxy`` and ``trust`` are the only ways that a proxy or a further trust root comes in; the environment's are
    ignored. ``trust`` may be shared by several clients, and so may ``fresh_only``: once set, no connection is used
    again. It is set when a request on a connection that rested gets no byte of an answer.
    """

    def __init__(
        self,
        proxy: str | None = None,
        *,
        trust: Trust | None = None,
        limits: Timeouts | None = None,
        clock: Callable[[], float] = time.monotonic,
        fresh_only: threading.Event | None = None,
    ) -> None:
        self._limits = limits or Timeouts()
        self._fresh_only = fresh_only or threading.Event()
        self._idle_seconds = self._limits.idle_seconds
        self._clock = clock
        self._proxy = proxy
        self._trust = trust or Trust()
        self._adapter = HTTPAdapter(pool_connections=1, pool_maxsize=1, max_retries=0)
        self._rests_since = clock()
        self._prepared: requests.Request | None = None
        self._send: Callable[..., urllib3.BaseHTTPResponse]
        # The request in flight: its connection is shared with whoever cuts it.
        self._changed = threading.Condition()
        self._handle: socket.socket | None = None
        self._is_cut = self._has_rested = self._is_asked = self.first_byte = False
        self._deadline = 0.0

    def exchange(
        self,
        request: requests.Request,
        before_first_byte: Callable[[], object] = ignore,
        after_write: Callable[[], object] = ignore,
        *,
        body: bytes | None = None,
    ) -> Answer:
        """Send one request and read its whole answer; redirects are not followed, nothing is repeated.

        ``before_first_byte`` is called once, after connect and TLS and before any byte of the request; if it
        raises, no byte leaves and the exception reaches the caller unchanged. ``after_write`` is called after each
        write. A request that is passed again is not prepared again; ``body`` takes the place of its own.
        Raises SendFailure when no complete answer came; the connection is closed then.
        """
        if self._fresh_only.is_set() or self._clock() - self._rests_since > self._idle_seconds:
            self.close()
        self._before_first_byte, self._after_write = before_first_byte, after_write
        self._deadline = self._clock() + self._limits.deadline_seconds
        self._is_cut = self._is_asked = self.first_byte = False
        self._has_rested = self._handle is not None
        try:
            try:
                return self._exchange(request, body)
            except _Halt as halt:
                if halt.args != (None,):
                    raise
                # Not a byte was sent, so that this repeats nothing.
                self.close()
                return self._exchange(request, body)
        except _Halt as halt:
            self.close()
            (refusal,) = halt.args
            raise refusal from refusal.__cause__
        except Exception as error:
            kind, classes = kind_of(error)
            kind = "deadline" if self._clock() >= self._deadline else kind
            kind = "interrupted" if self._is_cut else kind
            self.close()
            raise SendFailure(first_byte=self.first_byte, kind=kind, classes=classes) from None
        except BaseException:
            self.close()
            raise
        finally:
            self._rests_since = self._clock()

    def cut(self) -> None:
        """End the request in flight at once, from any thread; without one, the resting connection."""
        with self._changed:
            self._is_cut = True
            self._changed.notify_all()
            if self._handle is not None:
                with suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Close the connection; the next request opens another."""
        self._adapter.close()
        with self._changed:
            if self._handle is not None:
                self._handle.close()
            self._handle = self._prepared = None

    def seconds_left(self, *, connecting: bool = False) -> float:
        """Return how long to wait for the network now; raises TimeoutError when the request is late or cut."""
        left = self._deadline - self._clock()
        if left <= 0 or self._is_cut:
            raise TimeoutError
        return min(left, self._limits.connect_seconds if connecting else self._limits.gap_seconds)

    def before_bytes(self, sock: socket.socket) -> None:
        """Call the hook of the first byte once, before any leaves; raises _Halt with what the hook raises.

        Raises an empty _Halt where the server has closed a connection that rested, or has sent something on it.
        """
        if self.first_byte:
            return
        if not self._is_asked:
            try:
                self._before_first_byte()
            except BaseException as refusal:
                raise _Halt(refusal) from None
        self._is_asked = True
        with self._changed:
            sock.settimeout(self.seconds_left())
            # The hook takes longer than anything else since the connection was last looked at.
            if self._has_rested and self._handle is not None and wait_for_read(self._handle, timeout=0):
                raise _Halt(None)
            self.first_byte = True

    def after_bytes(self) -> None:
        """Call the hook of written bytes; raises _Halt with what the hook raises."""
        try:
            self._after_write()
        except BaseException as refusal:
            raise _Halt(refusal) from None

    def look_up(self, host: str, port: int) -> Sequence[Found]:
        """Return where a host may be reached, in the order to be tried.

        getaddrinfo has no time limit and cannot be ended (a resolver that is silent takes 5 s a try and a server,
        resolv.conf(5)), so that it is left behind in a thread of its own when the time for connecting is over.

        Raises OSError when the host has no address, or none in time (socket.gaierror), or the request was cut;
        UnicodeError when the text cannot be a host's name.
        """
        find = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        with suppress(socket.gaierror):  # an address in figures needs no look-up
            return find(flags=socket.AI_NUMERICHOST)
        answers: list[Sequence[Found] | Exception] = []

        def ask() -> None:
            try:
                answers.append(find(flags=0))
            except Exception as error:  # raised below, in the thread that asked
                answers.append(error)
            with self._changed:
                self._changed.notify_all()

        threading.Thread(target=ask, name="look-up", daemon=True).start()
        with self._changed:
            self._changed.wait_for(lambda: answers or self._is_cut, self.seconds_left(connecting=True))
        outcome = answers[0] if answers else socket.gaierror(socket.EAI_AGAIN, "no answer in time")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def connect_to(self, found: Found, options: Sequence[tuple[int, int, int | bytes]]) -> socket.socket:
        """Connect to one address, in such a way that a cut ends that too; raises OSError."""
        family, kind, protocol, _, address = found
        sock = socket.socket(family, kind, protocol)
        try:
            for option in options:
                sock.setsockopt(*option)
            with self._changed:
                if self._handle is not None:  # of an address that took no connection
                    self._handle.close()
                # A second handle: TLS takes the first one away from its socket object.
                self._handle = sock.dup()
                self._has_rested = False
                sock.settimeout(self.seconds_left(connecting=True))
            sock.connect(address)
            sock.settimeout(self.seconds_left(connecting=True))  # for the handshake of TLS
        except BaseException:
            sock.close()
            raise
        return sock

    def _exchange(self, request: requests.Request, body: bytes | None) -> Answer:
        if request is not self._prepared:
            # Not by a session: .netrc would replace the Authorization header, HTTPS_PROXY get the token, and even
            # with redirects off requests 2.34 reads a redirect's body without bound.
            prepared = request.prepare()
            headers = {**_HEADERS, **prepared.headers}
            url, proxy, manager = str(prepared.url), self._proxy, self._adapter.poolmanager
            if proxy is not None:  # which may stand under TLS itself
                context = self._trust.context() if proxy.lower().startswith("https:") else None
                manager = self._adapter.proxy_manager_for(proxy, proxy_ssl_context=context)
            tls = {}
            if url.startswith("https:"):
                tls = {"ssl_context": self._trust.context(), "cert_reqs": "CERT_REQUIRED"}
            pool = manager.connection_from_url(url, pool_kwargs=tls)
            kind = _TlsConnection if pool.scheme == "https" else _Connection
            pool.ConnectionCls = functools.partial(kind, client=self)
            self._send = functools.partial(
                pool.urlopen,
                prepared.method,
                self._adapter.request_url(prepared, {"all": proxy} if proxy else {}),
                body=prepared.body,
                headers={name: value for name, value in headers.items() if name != "Content-Length"},
                retries=self._adapter.max_retries,
                redirect=False,
                assert_same_host=False,
                timeout=urllib3.Timeout(connect=self._limits.connect_seconds, read=self._limits.gap_seconds),
                preload_content=False,
                decode_content=False,
            )
            self._prepared = request
        try:
            response = self._send() if body is None else self._send(body=body)
        except Exception:
            if self._has_rested and self.first_byte:
                self._fresh_only.set()
            raise
        try:
            return self._read(response)
        except BaseException:
            response.close()
            raise

    def _read(self, raw: urllib3.BaseHTTPResponse) -> Answer:
        headers = {name.lower(): value for name, value in raw.headers.items()}
        kept = _KEEP_ALIVE.match(headers.get("keep-alive", ""))
        promised_seconds = int(kept[1]) - _KEEP_ALIVE_MARGIN_SECONDS if kept else self._limits.idle_seconds
        self._idle_seconds = min(self._limits.idle_seconds, promised_seconds)
        parts, room = [], BODY_LIMIT_BYTES + 1
        try:
            while room > 0 and (part := raw.read(room, decode_content=False)):
                parts.append(part)
                room -= len(part)
        except (urllib3.exceptions.HTTPError, http.client.HTTPException, OSError):
            if self._is_cut or self._clock() >= self._deadline or raw.status not in _CUT_BODY_IS_NO_LOSS:
                raise
            raw.close()
            return Answer(raw.status, b"", headers)
        if self._is_cut:
            raise TimeoutError
        body, declared = b"".join(parts), headers.get("content-length")
        if len(body) > BODY_LIMIT_BYTES:
            raw.close()
        elif raw.status >= 200 and raw.status not in (204, 304) and declared is not None:
            # urllib3 2.8 ignores a length that it cannot read.
            values = {value.strip() for value in declared.split(",")}
            if "transfer-encoding" in headers or len(values) != 1 or not _LENGTH.fullmatch(min(values)):
                raise http.client.HTTPException
            if int(min(values)) != len(body):
                raise http.client.IncompleteRead(b"")
        return Answer(raw.status, body, headers)
