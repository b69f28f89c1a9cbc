"""The log of a run: one line per event, appended whole, into whatever file has the name at that moment."""

import json
import os
import re
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from importer.errors import CannotCreateError, ConfigurationError
from importer.events import Event, Level
from importer.private_files import open_ours

LONGEST_LINE = 300
_LONGEST_VALUE = 120
_FLAGS = os.O_WRONLY | os.O_APPEND | os.O_CREAT
_BARE = re.compile(r"[A-Za-z0-9_.:/+-]+")


class LogFile:
    """Appends events to a file; may be used from any thread.

    Each line is one write to a file opened for appending, so lines of several runs do not mix. The name is looked
    up before each line, so a rotated log is followed at once. When a line cannot be written the log is given up:
    it must never stop a run.
    """

    def __init__(self, path: Path, run_id: str, *, least: Level, now: Callable[[], float] = time.time) -> None:
        """Open the file, made with mode 0600 if it is not there.

        Raises CannotCreateError, and ConfigurationError for one that others can change.
        """
        self._path = path
        self._run_id = run_id
        self._least = least
        self._now = now
        self._guard = threading.Lock()
        self.is_lost = False
        try:
            self._descriptor = open_ours(path, _FLAGS)
        except OSError as error:
            raise CannotCreateError(
                f"log {path} cannot be written: {error.strerror}",
                hint="Give --log a file in a folder where you may write; no link, pipe or device.",
            ) from error

    def write(self, event: Event) -> None:
        """Write one event, if its level is wanted."""
        if event.level < self._least:
            return
        line = log_line(event, self._run_id, self._now())
        with self._guard:
            if self.is_lost:
                return
            try:
                self._follow_the_name()
                os.write(self._descriptor, line.encode("ascii"))
            except OSError:
                self.is_lost = True

    def close(self) -> None:
        """Close the file; harmless when nothing could be written."""
        with self._guard, suppress(OSError):
            self.is_lost = True
            os.close(self._descriptor)

    def _follow_the_name(self) -> None:
        """Open the file anew when the name leads to another one, or to none, after a rotation."""
        mine = os.fstat(self._descriptor)
        try:
            named = self._path.lstat()
        except FileNotFoundError:
            named = None
        if named is not None and (named.st_dev, named.st_ino) == (mine.st_dev, mine.st_ino):
            return
        # Where no new file can be made, the rotated one still takes the lines.
        with suppress(OSError, ConfigurationError):
            fresh = open_ours(self._path, _FLAGS)
            os.close(self._descriptor)
            self._descriptor = fresh


def log_line(event: Event, run_id: str, now: float) -> str:
    """Return an event as one line of ASCII, at most `LONGEST_LINE` characters with its end."""
    moment = datetime.fromtimestamp(now, UTC)
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
    words = [stamp, event.level.name, f"run={run_id}", f"ev={event.name}"]
    words += [f"{name}={_word(value)}" for name, value in event.fields.items()]
    return " ".join(words)[: LONGEST_LINE - 1] + "\n"


def _word(value: object) -> str:
    text = str(value)[:_LONGEST_VALUE]
    return text if _BARE.fullmatch(text) else json.dumps(text)
