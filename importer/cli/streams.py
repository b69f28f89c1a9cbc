"""Standard streams that cannot stop a run: closed, full or with nobody reading at the other end."""

import os
import sys
from contextlib import suppress
from typing import Any


class LastingStream:
    """A standard stream whose first failure makes it silent; what is recorded elsewhere goes on."""

    def __init__(self, stream: Any) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        """Write, or do nothing once writing failed."""
        try:
            return int(self._stream.write(text))
        except (OSError, ValueError):
            self._give_up()
            return len(text)

    def flush(self) -> None:
        """Flush, or do nothing once writing failed."""
        try:
            self._stream.flush()
        except (OSError, ValueError):
            self._give_up()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def _give_up(self) -> None:
        # What is still buffered goes nowhere too; the interpreter would exit with 120 for it.
        with suppress(OSError, ValueError):
            nowhere = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
            os.dup2(nowhere, self._stream.fileno())
            os.close(nowhere)


def make_streams_last() -> None:
    """Occupy standard descriptors that are closed and wrap the streams.

    A ledger or a socket that got descriptor 2 would take what some library writes to standard error.
    """
    for descriptor in (0, 1, 2):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the lowest free number, which is this one
    for name, descriptor in (("stdout", 1), ("stderr", 2)):
        stream = getattr(sys, name)
        if stream is None:
            stream = open(descriptor, "w", encoding="utf-8", closefd=False)  # noqa: SIM115 a descriptor
        if hasattr(stream, "reconfigure"):
            # A letter that the terminal's encoding lacks must not silence the stream.
            stream.reconfigure(errors="backslashreplace")
        setattr(sys, name, LastingStream(stream))
