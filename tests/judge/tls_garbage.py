"""An API under TLS that takes every request and then breaks the encryption, so that no answer can be read."""

import socket
import ssl
import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self
from urllib.parse import parse_qsl

from judge.history import Post

PATIENCE_SECONDS = 10


class GarbageServer:
    """Listens on loopback under TLS and keeps every whole request as a post without an answer."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.posts: list[Post] = []
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificate, key)
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._thread = threading.Thread(target=self._serve, daemon=True)
        self.port = int(self._listener.getsockname()[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE_SECONDS)
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            connection.settimeout(PATIENCE_SECONDS)
            with connection:
                self._take(connection)

    def _take(self, connection: socket.socket) -> None:
        raw = socket.socket(fileno=socket.dup(connection.fileno()))
        with raw, self._context.wrap_socket(connection, server_side=True) as tls:
            received = b""
            while b"start_time" not in received.partition(b"\r\n\r\n")[2]:
                more = tls.recv(65_536)
                if not more:
                    return
                received += more
            form = dict(parse_qsl(received.partition(b"\r\n\r\n")[2].decode()))
            self.posts.append(Post(time.monotonic(), form.pop("id"), tuple(sorted(form.items()))))
            raw.sendall(b"this is no record of TLS\r\n")
