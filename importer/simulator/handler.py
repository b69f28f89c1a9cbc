"""The socket side: HTTP/1.1 with keep-alive on loopback."""

import ipaddress
import re
import socket
import socketserver
import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler
from typing import Any, Self

from importer.simulator.service import Request, Response, Service

STOP_POLL_SECONDS = 0.02


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
