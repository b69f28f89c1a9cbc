"""A pseudo-terminal of 80 columns, with a child of the fork server in it: what a person sees and types."""

import os
import pty
import re
import select
import termios
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

PATIENCE_SECONDS = 60.0
_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


class Terminal:
    """One run of the program at a terminal; `expect` waits for words, `type` answers, `finish` gives the code."""

    def __init__(self, server: Any, arguments: Sequence[str | Path], folder: Path, typed_ahead: str = "") -> None:
        self._master, slave = pty.openpty()
        termios.tcsetwinsize(slave, (24, 80))
        if typed_ahead:
            self.type(typed_ahead)
        job = {"arguments": [*map(str, arguments)], "environment": dict(os.environ), "folder": str(folder)}
        self._server, self.process = server, server.start(job | {"terminal": os.ttyname(slave), "at": None})
        os.close(slave)
        self.shown = ""
        self._seen = 0

    def expect(self, words: str) -> None:
        """Wait until the words appear behind those expected before."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while words not in self.shown[self._seen :]:
            assert self._read(deadline), f"{words!r} never came; the terminal shows:\n{self.shown}"
        self._seen = self.shown.index(words, self._seen) + len(words)

    def type(self, line: str, end: str = "\n") -> None:
        """Type a line and press Enter."""
        os.write(self._master, f"{line}{end}".encode())

    def answer(self, answers: Mapping[str, str]) -> None:
        """Type an answer to each question, once it has been asked."""
        for question, answer in answers.items():
            self.expect(question)
            self.expect(": ")
            self.type(answer)

    def finish(self) -> int:
        """Read to the end and return the exit code."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._read(deadline):
            pass
        os.close(self._master)
        return int(self._server.wait(self.process))

    def lines(self) -> list[str]:
        """Return the lines as they stand on the screen, without colours; what a bar drew over counts as lines."""
        return re.split(r"\r\n|\r|\n", _ESCAPES.sub("", self.shown))

    def _read(self, deadline: float) -> bool:
        seen = select.poll()  # unlike select() it takes descriptors beyond 1023
        seen.register(self._master, select.POLLIN)
        if not seen.poll(1000 * max(0.0, deadline - time.monotonic())):
            return False
        try:
            data = os.read(self._master, 65_536)
        except OSError:  # EIO: the last program at the other end has gone
            return False
        self.shown += data.decode("utf-8", "replace")
        return bool(data)
