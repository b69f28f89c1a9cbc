"""The request in flight, from a host's name to its end, as connection and owner share it."""

import contextlib
import functools
import socket
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from urllib3.util.wait import wait_for_read

from importer.records import ignore

Found = tuple[int, int, int, str, Any]
"""One line of getaddrinfo: family, type, protocol, canonical name, address."""

Option = tuple[int, int, int | bytes]
"""What setsockopt takes."""


_NEVER = float("inf")


class Halt(BaseException):
    """Ends a request through urllib3, which would swallow or wrap an OSError.

    Its argument is what a hook raised; None when the server closed a connection that rested, or talked on, before
    the first byte of the request.
    """


@dataclass(slots=True)
class Wire:
    """What a connection object and its owner share: the request in flight, its socket and its deadline.

    A thread, started when it is first needed, sleeps until the deadline and cuts the request then.
    """

    _clock: Callable[[], float]
    _changed: threading.Condition = field(default_factory=threading.Condition)
    _handle: socket.socket | None = None
    _awaited: threading.Event | None = None
    _before_first_byte: Callable[[], object] = ignore
    _after_write: Callable[[], object] = ignore
    _deadline: float = _NEVER
    _wakes_at: float = _NEVER
    _thread: threading.Thread | None = None
    _closed: bool = False
    _hook_ran: bool = False
    rested: bool = False
    first_byte: bool = False
    expired: bool = False
    why_cut: str = ""
    dialling: bool = False

    def begin(
        self, before_first_byte: Callable[[], object], after_write: Callable[[], object], deadline_seconds: float
    ) -> None:
        """Start a request, with the hooks that `Line.exchange` describes; it is cut after so many seconds."""
        with self._changed:
            self._before_first_byte, self._after_write = before_first_byte, after_write
            self._deadline = self._clock() + deadline_seconds
            self.rested = self._handle is not None
            self._hook_ran = self.first_byte = self.expired = False
            if self._thread is None:
                self._closed = False
                self._thread = threading.Thread(target=self._watch, name="deadline", daemon=True)
                self._thread.start()
            # The thread that still sleeps for an earlier request finds this one when it wakes: no switch per call.
            if self._deadline < self._wakes_at:
                self._changed.notify()

    def end(self) -> None:
        """Call off the deadline; once this returns, no cut by it is under way."""
        with self._changed:
            self._deadline = _NEVER

    def seconds_left(self, most_seconds: float) -> float:
        """Return how long the request in flight may still take, at most so long."""
        return min(most_seconds, self._deadline - self._clock())

    def look_up(self, host: str, port: int, seconds: float) -> Sequence[Found]:
        """Return where a host may be reached, in the order to be tried.

        getaddrinfo has no time limit and cannot be ended (a resolver that is silent takes 5 s a try and a server,
        resolv.conf(5)), so that it is left behind in a thread of its own when ``seconds`` are over.

        Raises OSError when the host has no address, or none in time (socket.gaierror), or the request was cut;
        UnicodeError when the text cannot be a host's name.
        """
        find = functools.partial(socket.getaddrinfo, host, port, type=socket.SOCK_STREAM)
        with contextlib.suppress(socket.gaierror):  # an address in figures needs no look-up
            return find(flags=socket.AI_NUMERICHOST)
        answers: list[Sequence[Found] | Exception] = []
        done = threading.Event()

        def ask() -> None:
            try:
                answers.append(find(flags=0))
            except Exception as error:  # raised below, in the thread that asked
                answers.append(error)
            done.set()

        threading.Thread(target=ask, name="look-up", daemon=True).start()
        with self._changed:
            if self.expired:
                raise TimeoutError
            self._awaited = done
        done.wait(seconds)
        with self._changed:
            self._awaited = None
            if self.expired:
                raise TimeoutError
        outcome = answers[0] if answers else socket.gaierror(socket.EAI_AGAIN, "no answer in time")
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def dial(self, found: Found, *, seconds: float, options: Sequence[Option]) -> socket.socket:
        """Connect to one address, in such a way that a cut ends that too; raises OSError."""
        family, kind, protocol, _, address = found
        sock = socket.socket(family, kind, protocol)
        try:
            for option in options:
                sock.setsockopt(*option)
            sock.settimeout(seconds)
            with self._changed:
                self.drop()
                if self.expired:
                    raise TimeoutError
                self.rested = False
                # A second handle: TLS takes the first one away from its socket object.
                self._handle = sock.dup()
            sock.connect(address)
        except BaseException:
            sock.close()
            raise
        return sock

    def begin_sending(self) -> None:
        """Run the hook before the first byte, once per request, and mark that byte; raises Halt."""
        if self.first_byte:
            return
        if not self._hook_ran:
            try:
                self._before_first_byte()
            except BaseException as refusal:
                raise Halt(refusal) from None
        self._hook_ran = True
        with self._changed:
            if self.expired:
                raise TimeoutError
            # The hook takes longer than anything else since the connection was last looked at.
            if self.rested and self._handle is not None and wait_for_read(self._handle, timeout=0):
                raise Halt(None)
            self.first_byte = True

    def wrote(self) -> None:
        """Run the hook after a write: bytes were handed to the network."""
        try:
            self._after_write()
        except BaseException as refusal:
            raise Halt(refusal) from None

    def cut(self, why: str = "deadline") -> None:
        """End the connection under whatever is reading or writing; ``why`` becomes the kind of the failure."""
        with self._changed:
            if not self.expired:
                self.why_cut = why
            self.expired = True
            if self._awaited is not None:
                self._awaited.set()
            if self._handle is not None:
                with contextlib.suppress(OSError):
                    self._handle.shutdown(socket.SHUT_RDWR)

    def drop(self) -> None:
        """Forget the connection."""
        with self._changed:
            if self._handle is not None:
                self._handle.close()
                self._handle = None

    def close(self) -> None:
        """End the thread, until the next request."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                self._wakes_at = self._deadline
                left_seconds = self._deadline - self._clock()
                if left_seconds <= 0:
                    self._deadline = _NEVER
                    self.cut()
                else:
                    self._changed.wait(None if left_seconds == _NEVER else left_seconds)
