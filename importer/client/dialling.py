"""From a host's name to a connection, within a time limit and awake to a cut."""

import contextlib
import socket
import threading
from collections.abc import Sequence
from typing import Any

from importer.client.wire import Wire

Found = tuple[int, int, int, str, Any]
"""One line of getaddrinfo: family, type, protocol, canonical name, address."""

Option = tuple[int, int, int | bytes]
"""What setsockopt takes."""


def look_up(host: str, port: int, *, wire: Wire, seconds: float) -> Sequence[Found]:
    """Return where a host may be reached, in the order to be tried.

    getaddrinfo has no time limit and cannot be ended (a resolver that is silent takes 5 s a try and a server,
    resolv.conf(5)), so that it is left behind in a thread of its own when ``seconds`` are over.

    Raises:
        OSError: the host has no address, or none in time (socket.gaierror), or the request was cut.
        UnicodeError: the text cannot be a host's name.
    """
    with contextlib.suppress(socket.gaierror):  # an address in figures needs no look-up
        return _found(host, port, socket.AI_NUMERICHOST)
    told: list[Sequence[Found] | Exception] = []
    done = threading.Event()

    def ask() -> None:
        try:
            told.append(_found(host, port, 0))
        except Exception as error:  # raised below, in the thread that wants to know
            told.append(error)
        done.set()

    threading.Thread(target=ask, name="look-up", daemon=True).start()
    wire.wait_for(done, seconds)
    outcome = told[0] if told else socket.gaierror(socket.EAI_AGAIN, "no answer in time")
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def _found(host: str, port: int, flags: int) -> Sequence[Found]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)


def dial(found: Found, *, wire: Wire, seconds: float, options: Sequence[Option]) -> socket.socket:
    """Connect to one address; the wire has the socket before it connects, so that a cut ends that too.

    Raises OSError.
    """
    family, kind, protocol, _, address = found
    sock = socket.socket(family, kind, protocol)
    try:
        for option in options:
            sock.setsockopt(*option)
        sock.settimeout(seconds)
        wire.adopt(sock)
        sock.connect(address)
    except BaseException:
        sock.close()
        raise
    return sock
