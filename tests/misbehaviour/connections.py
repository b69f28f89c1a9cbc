"""A server on loopback, each connection of which plays one behaviour, at the level of bytes."""

import contextlib
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Self

SUCCESS_BODY = b'{"status":"success","code":"SUCCESS"}'
PATIENCE_SECONDS = 10.0


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, over: threading.Event) -> None:
        self.sock = sock
        self.over = over
        self.received = b""
        self._rest = b""

    def read_head(self) -> bytes:
        """Read the head of a request, its blank line too; empty at the end of the connection."""
        data = self._rest
        while b"\r\n\r\n" not in data and (part := self._recv()):
            data += part
        head, end, self._rest = data.partition(b"\r\n\r\n")
        return head + end if head else b""

    def read_body(self, head: bytes) -> bytes | None:
        """Read the body that a head announces; None where the client leaves before its end."""
        lines = head.lower().split(b"\r\n")
        length = next((int(line[15:]) for line in lines if line[:15] == b"content-length:"), 0)
        data = self._rest
        while len(data) < length and (part := self._recv()):
            data += part
        self._rest = data[length:]
        return data[:length] if len(data) >= length else None

    def read_request(self) -> bytes:
        """Read one request and return it; empty at the end of the connection."""
        head = self.read_head()
        return head + (self.read_body(head) or b"")

    def send(self, data: bytes) -> None:
        """Send bytes; the client may have gone."""
        with contextlib.suppress(OSError):
            self.sock.sendall(data)

    def reset(self) -> None:
        """End the connection with RST instead of FIN."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def drip(self, data: bytes) -> None:
        """Send a byte every 20 ms."""
        for byte in data:
            if self.over.wait(0.02):
                return
            self.send(bytes([byte]))

    def wait(self) -> None:
        """Say nothing more."""
        self.over.wait(PATIENCE_SECONDS)

    def _recv(self) -> bytes:
        try:
            part = self.sock.recv(65536)
        except OSError:
            return b""
        self.received += part
        return part


Behaviour = Callable[[Peer], None]


class Server:
    """Listens on loopback; connection k plays behaviour k, the last one for ever."""

    def __init__(self, *behaviours: Behaviour) -> None:
        self.port = 0
        self.peers: list[Peer] = []
        self._behaviours = behaviours
        self._over = threading.Event()
        self._threads: list[threading.Thread] = []

    @property
    def base_url(self) -> str:
        """Scheme, host and port."""
        return f"http://127.0.0.1:{self.port}"

    @property
    def connections(self) -> int:
        """How many connections were taken."""
        return len(self.peers)

    def received(self) -> bytes:
        """Return all bytes of all connections, once they have ended."""
        self.stop()
        return b"".join(peer.received for peer in self.peers)

    def start(self) -> None:
        """Listen; after stop() again on the same port."""
        self._listener = socket.create_server(("127.0.0.1", self.port), backlog=128)
        self.port = self._listener.getsockname()[1]
        self._over = threading.Event()
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def stop(self) -> None:
        """End everything; a second time does nothing."""
        self._over.set()
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._threads[0].join(PATIENCE_SECONDS)
        for peer in self.peers:
            with contextlib.suppress(OSError):
                peer.sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(PATIENCE_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listener.accept()
            except OSError:
                return
            # Nagle's algorithm would keep back what is said unasked.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            peer = Peer(sock, self._over)
            behaviour = self._behaviours[min(self.connections, len(self._behaviours) - 1)]
            self.peers.append(peer)
            thread = threading.Thread(target=self._play, args=(behaviour, peer))
            self._threads.append(thread)
            thread.start()

    def _play(self, behaviour: Behaviour, peer: Peer) -> None:
        with contextlib.suppress(OSError):
            behaviour(peer)
        peer.sock.close()


@contextlib.contextmanager
def black_hole(host: str = "127.0.0.1", port: int = 0) -> Iterator[str]:
    """Give the address of a server that takes no connection and refuses none."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as listener, contextlib.ExitStack() as stack:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((host, port))
        listener.listen(0)
        for _ in range(4):
            filler = stack.enter_context(socket.socket(family))
            filler.setblocking(False)
            filler.connect_ex(listener.getsockname())
        yield f"http://{host}:{listener.getsockname()[1]}"


def http_answer(status: str = "200 OK", body: bytes = SUCCESS_BODY, **headers: str) -> bytes:
    """Write an answer with the right Content-Length; header names with _ for -."""
    given = [(name.replace("_", "-"), value) for name, value in headers.items()]
    return http_head(status, [("Content-Length", str(len(body))), *given]) + body


def http_head(status: str, headers: Iterable[tuple[str, str]]) -> bytes:
    """Write a status line and headers, with the blank line."""
    lines = [f"HTTP/1.1 {status}", *(f"{name}: {value}" for name, value in headers)]
    return "\r\n".join([*lines, "", ""]).encode("latin-1")


def in_turn(*acts: Callable[[Peer], object]) -> Behaviour:
    """Do one thing after the other."""

    def play(peer: Peer) -> None:
        for act in acts:
            act(peer)

    return play


def saying(data: bytes) -> Behaviour:
    """Send these bytes."""
    return lambda peer: peer.send(data)


def answering(*answers: bytes) -> Behaviour:
    """Answer the requests of one connection in turn, the last answer for ever."""

    def play(peer: Peer) -> None:
        turn = 0
        while peer.read_request():
            peer.send(answers[min(turn, len(answers) - 1)])
            turn += 1

    return play


def last_words(data: bytes) -> Behaviour:
    """Answer one request with these bytes and end the connection."""
    return in_turn(Peer.read_request, saying(data))


def drip(whole: bytes, *, kept: int) -> Behaviour:
    """Answer one request with a part of these bytes, then the rest a byte at a time."""
    return in_turn(Peer.read_request, saying(whole[:kept]), lambda peer: peer.drip(whole[kept:]))


def under_tls(context: ssl.SSLContext, behaviour: Behaviour) -> Behaviour:
    """Play a behaviour behind a handshake."""

    def play(peer: Peer) -> None:
        peer.sock = context.wrap_socket(peer.sock, server_side=True)
        behaviour(peer)

    return play


def https_url(server: Server) -> str:
    """Return the address by name, as the certificate has it."""
    return f"https://localhost:{server.port}"


def send_garbage(peer: Peer) -> None:
    """Send a TLS record that cannot be decrypted."""
    with socket.socket(fileno=peer.sock.detach()) as plain:
        plain.sendall(b"\x17\x03\x03\x00\x40" + b"\x00" * 64)
        peer.over.wait(0.2)
