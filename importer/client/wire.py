"""The request in flight, as connection, owner and watchdog share it: its door, its first byte, its end."""

import contextlib
import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass

from urllib3.util.wait import wait_for_read


@dataclass(frozen=True, slots=True)
class SendDoor:
    """What happens around the bytes of one request.

    ``before_first_byte`` is called once, after connect and TLS and before any byte of the request; if it raises,
    no byte leaves and the exception reaches the caller unchanged. ``after_write`` is called after each write.
    """

    before_first_byte: Callable[[], None]
    after_write: Callable[[], None]


class DoorShut(BaseException):
    """Carries what the door raised through urllib3 and requests, which would swallow or wrap an OSError."""

    def __init__(self, refusal: BaseException) -> None:
        super().__init__()
        self.refusal = refusal


class LeftBehind(Exception):  # noqa: N818 not an error: the request is sent over another connection
    """A connection that rested was closed, or talked on, by the server before the first byte of a request."""


class Wire:
    """What a connection object, its owner and the watchdog share: the request in flight and its socket."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._handle: socket.socket | None = None
        self._awaited: threading.Event | None = None
        self._door: SendDoor | None = None
        self._deadline = float("inf")
        self.rested = self._door_opened = False
        self.first_byte = False
        self.expired = False
        self.why_cut = ""
        self.dialling = False

    def begin(self, door: SendDoor | None, deadline_seconds: float) -> None:
        """Start a request."""
        self._door = door
        self._deadline = self._clock() + deadline_seconds
        self.rested = self._handle is not None
        self._door_opened = self.first_byte = self.expired = False

    def seconds_left(self) -> float:
        """Say how long the request in flight may still take."""
        return self._deadline - self._clock()

    def adopt(self, sock: socket.socket) -> None:
        """Keep a second handle on a new connection: TLS takes the first one away from its socket object.

        Raises TimeoutError when the request was cut before.
        """
        with self._lock:
            self._close_handle()
            if self.expired:
                raise TimeoutError
            self.rested = False
            self._handle = sock.dup()

    def wait_for(self, done: threading.Event, seconds: float) -> None:
        """Wait for so long at most until ``done``; raises TimeoutError when the request is cut meanwhile."""
        with self._lock:
            if self.expired:
                raise TimeoutError
            self._awaited = done
        done.wait(seconds)
        with self._lock:
            self._awaited = None
            if self.expired:
                raise TimeoutError

    def open_door(self) -> None:
        """Run the door, once per request, and mark the first byte.

        Raises LeftBehind when the server left a connection that rested: what the door does takes longer than
        anything else since the connection was last looked at.
        """
        if self.first_byte:
            return
        if self._door is not None and not self._door_opened:
            try:
                self._door.before_first_byte()
            except BaseException as refusal:
                raise DoorShut(refusal) from None
        self._door_opened = True
        with self._lock:
            if self.expired:
                raise TimeoutError
            if self.rested and self._handle is not None and wait_for_read(self._handle, timeout=0):
                raise LeftBehind
            self.first_byte = True

    def wrote(self) -> None:
        """Tell the door that bytes were handed to the network."""
        if self._door is not None:
            try:
                self._door.after_write()
            except BaseException as refusal:
                raise DoorShut(refusal) from None

    def cut(self, why: str = "deadline") -> None:
        """End the connection under whatever is reading or writing; ``why`` becomes the kind of the failure."""
        with self._lock:
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
        with self._lock:
            self._close_handle()

    def _close_handle(self) -> None:
        if self._handle is not None:
            self._handle.close()
            self._handle = None


class Watchdog:
    """Calls ``cut`` when an armed deadline passes; one sleeping thread, started at the first use."""

    def __init__(self, cut: Callable[[], None], clock: Callable[[], float]) -> None:
        self._cut = cut
        self._clock = clock
        self._changed = threading.Condition()
        self._due: float | None = None
        self._wakes_at = float("inf")
        self._thread: threading.Thread | None = None
        self._closed = False

    def arm(self, seconds: float) -> None:
        """Cut after so many seconds unless disarmed before."""
        with self._changed:
            self._due = self._clock() + seconds
            if self._thread is None:
                self._thread = threading.Thread(target=self._watch, name="deadline", daemon=True)
                self._thread.start()
            # The thread that still sleeps for an earlier request finds this one when it wakes: no switch per call.
            if self._due < self._wakes_at:
                self._changed.notify()

    def disarm(self) -> None:
        """Call off the cut; once this returns, none is under way."""
        with self._changed:
            self._due = None

    def close(self) -> None:
        """End the thread."""
        with self._changed:
            self._closed = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _watch(self) -> None:
        with self._changed:
            while not self._closed:
                if self._due is None:
                    self._wakes_at = float("inf")
                    self._changed.wait()
                elif (left_seconds := self._due - self._clock()) > 0:
                    self._wakes_at = self._due
                    self._changed.wait(left_seconds)
                else:
                    self._due = None
                    self._cut()
