"""The log of a run: one line per event, appended whole, into whatever file has the name at that moment."""

import errno
import json
import logging
import os
import re
from contextlib import suppress
from datetime import UTC, datetime
from io import TextIOWrapper
from logging.handlers import WatchedFileHandler
from pathlib import Path

from importer.errors import CannotCreateError, ConfigurationError
from importer.events import Event, Level
from importer.private_files import open_ours

LONGEST_LINE = 300
_LONGEST_VALUE = 120
_BARE = re.compile(r"[A-Za-z0-9_.:/+-]+")


class LogFile(WatchedFileHandler):
    """Appends events to a file, from any thread; ``is_lost`` once a line could not be written.

    Each line is one write to a file opened for appending, so lines of several runs do not mix. The name is looked
    up before each line, so a rotated log is followed at once. No failure to write is raised.
    """

    def __init__(self, path: Path, run_id: str, *, least: Level) -> None:
        """Open the file, made with mode 0600 if it is not there.

        Raises CannotCreateError, and ConfigurationError for one that others can change.
        """
        self._run_id = run_id
        self.is_lost = False
        try:
            super().__init__(path)
        except OSError as error:
            raise CannotCreateError(
                f"log {path} cannot be written: {error.strerror}",
                hint="Give --log a file in a folder where you may write; no link, pipe or device.",
            ) from error
        self.setLevel(least)

    def write(self, event: Event) -> None:
        """Write one event, if its level is wanted; nothing after `close`."""
        if event.level >= self.level:
            self.handle(logging.makeLogRecord({"event": event}))

    def format(self, record: logging.LogRecord) -> str:
        """Return the line of a record that `write` makes."""
        return log_line(record.__dict__["event"], self._run_id, record.created)

    def emit(self, record: logging.LogRecord) -> None:
        """Write a line into the file that has the name now."""
        try:
            super().emit(record)
        except OSError:
            self.handleError(record)

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 as logging calls it
        """Note that a line is lost, instead of printing it."""
        self.is_lost = True

    def reopenIfNeeded(self) -> None:  # noqa: N802 as logging calls it
        """Open the name anew after a rotation; where no new file can be used the rotated one takes the lines."""
        if self.stream is None:
            raise OSError(errno.EBADF, "the log is closed")
        rotated = os.dup(self.stream.fileno())
        with suppress(OSError, ConfigurationError):
            super().reopenIfNeeded()
        if self.stream is None:
            self.stream = os.fdopen(rotated, "a", encoding="ascii")
        else:
            os.close(rotated)

    def _open(self) -> TextIOWrapper:
        descriptor = open_ours(Path(self.baseFilename), os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        return os.fdopen(descriptor, "a", encoding="ascii")


def log_line(event: Event, run_id: str, now: float) -> str:
    """Return an event as one line of ASCII, with its end at most `LONGEST_LINE` characters."""
    moment = datetime.fromtimestamp(now, UTC)
    stamp = f"{moment:%Y-%m-%dT%H:%M:%S}.{moment.microsecond // 1000:03}Z"
    words = [stamp, event.level.name, f"run={run_id}", f"ev={event.name}"]
    for name, value in event.fields.items():
        text = str(value)[:_LONGEST_VALUE]
        words.append(f"{name}={text if _BARE.fullmatch(text) else json.dumps(text)}")
    return " ".join(words)[: LONGEST_LINE - 1]
