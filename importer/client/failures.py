"""Why a request got no complete answer: the kind of the failure, by the exceptions of the libraries."""

import http.client
import re
import ssl

import requests
import urllib3
from urllib3.exceptions import ConnectTimeoutError, NameResolutionError, NewConnectionError


class SendFailure(Exception):  # noqa: N818 not an error of the program: one of the outcomes of sending
    """No complete answer. ``first_byte`` says whether bytes of the request may have left.

    ``kind`` is a slug: refused, dns, connect_timeout, tls_certificate, tls_client_certificate, tls_refused, tls,
    proxy, proxy_sign_in, reset, timeout, deadline, interrupted, cut, malformed, bad_address or other. ``classes``
    names the exception classes for a log line; their texts may hold addresses and are never kept.
    """

    def __init__(self, *, first_byte: bool, kind: str, classes: str = "") -> None:
        super().__init__(f"{kind}, {'after' if first_byte else 'before'} the first byte of the request")
        self.first_byte = first_byte
        self.kind = kind
        self.classes = classes


_TLS = ssl.SSLError
_KINDS: tuple[tuple[str, tuple[type[BaseException], ...], str], ...] = (
    ("tls_certificate", (ssl.SSLCertVerificationError,), ""),
    ("tls_client_certificate", (_TLS,), "CERTIFICATE_REQUIRED"),
    # Under TLS 1.2 a server that wants a client certificate sends the first of these and no more.
    ("tls_refused", (_TLS,), "HANDSHAKE_FAILURE|BAD_CERTIFICATE|CERTIFICATE_UNKNOWN|ACCESS_DENIED"),
    ("tls_refused", (_TLS,), "PROTOCOL_VERSION|UNSUPPORTED_PROTOCOL|INSUFFICIENT_SECURITY"),
    # CPython 3.11 gives the status of a refused CONNECT only in the text of an OSError.
    ("proxy_sign_in", (OSError,), "^Tunnel connection failed: 407"),
    ("proxy", (urllib3.exceptions.ProxyError,), ""),
    ("dns", (NameResolutionError,), ""),
    ("refused", (NewConnectionError,), ""),
    ("connect_timeout", (ConnectTimeoutError,), ""),
    ("tls", (_TLS, urllib3.exceptions.SSLError), ""),
    ("cut", (http.client.IncompleteRead,), ""),
    ("timeout", (TimeoutError, urllib3.exceptions.TimeoutError), ""),
    ("reset", (ConnectionError,), ""),
    ("bad_address", (requests.exceptions.InvalidURL, urllib3.exceptions.LocationValueError, UnicodeError), ""),
    ("bad_address", (requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema), ""),
    ("malformed", (http.client.HTTPException, urllib3.exceptions.InvalidHeader), ""),
    ("malformed", (requests.exceptions.InvalidHeader, urllib3.exceptions.DecodeError), ""),
)
"""First line that fits any exception of the chain decides."""


def kind_of(error: Exception) -> tuple[str, str]:
    """Return the kind of a failure, and the classes of the exceptions that it was made from."""
    # Without ``__context__``, which reaches into what the caller is doing.
    seen: dict[int, BaseException] = {}
    waiting: list[object] = [error]
    while waiting:
        link = waiting.pop(0)
        if isinstance(link, BaseException) and id(link) not in seen:
            seen[id(link)] = link
            waiting += [*link.args, getattr(link, "reason", None), link.__cause__]
    chain = list(seen.values())
    # requests' own exceptions are OSErrors too: only one with a number comes from the system (no route, ...).
    otherwise = "reset" if any(isinstance(link, OSError) and link.errno for link in chain) else "other"
    kinds = (
        kind
        for kind, classes, words in _KINDS
        for link in chain
        if isinstance(link, classes) and re.search(words, str(getattr(link, "reason", link)))
    )
    return next(kinds, otherwise), "/".join(type(link).__name__ for link in chain)
