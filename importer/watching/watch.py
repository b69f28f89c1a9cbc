"""Log, metrics and pings of one run: opened before it begins, closed with its exit code."""

import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

from importer import __version__
from importer.errors import CannotCreateError, ConfigurationError, ExitCode, ImporterError, ending_of
from importer.ledger.reader import open_reader
from importer.pipeline.ending import summary_fields
from importer.pipeline.run import Listener, epoch_of
from importer.private_files import check_ours, open_ours, os_errors_as, whose
from importer.records import Event, EventName, Level, Receipt, RunSummary
from importer.settings.options import Settings
from schemas.vocabulary import CallState

LONGEST_LINE = 300
_LONGEST_VALUE = 120
_BARE = re.compile(r"[A-Za-z0-9_.:/+-]+")
_NUMBER = re.compile(r"\+?[0-9]{9,}|\+[0-9]{5,}")
MOST_TRIES = 3
LOGGED_EVERY_SECONDS = 600.0
_NEXT_RUN_GOES_ON = frozenset(
    {ExitCode.UNAVAILABLE, ExitCode.TRY_LATER, ExitCode.HANGUP, ExitCode.INTERRUPTED, ExitCode.TERMINATED}
)


class LogFile:
    """Appends events to a file, from any thread; ``is_lost`` once a line could not be written.

    Each line is one write to a file opened for appending, so lines of several runs do not mix. The name is looked
    up before each line, so a rotated log is followed at once. No failure to write is raised.
    """

    def __init__(self, path: Path, run_id: str, *, least: Level) -> None:
        """Open the file, made with mode 0600 if it is not there; raises CannotCreateError, ConfigurationError."""
        self._path, self._run_id, self._least = path.absolute(), run_id, least
        self._lock = threading.Lock()
        self.is_lost = False
        hint = "Give --log a file in a folder where you may write; no link, pipe or device."
        with os_errors_as(CannotCreateError, f"log {path} cannot be written", path, hint):
            self._open()

    def _open(self) -> None:
        descriptor = open_ours(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        self.stream, self._facts = os.fdopen(descriptor, "ab", buffering=0), os.fstat(descriptor)

    def write(self, event: Event) -> None:
        """Write one event, if its level is wanted; nothing after `close`."""
        if event.level < self._least:
            return
        line = f"{line_of(event, self._run_id, time.time())}\n".encode()
        with self._lock:
            if self.stream.closed:
                return
            try:
                # After a rotation the name is opened anew; where no new file can be used the rotated one takes on.
                with suppress(OSError, ConfigurationError):
                    if not self._path.exists() or not os.path.samestat(self._path.stat(), self._facts):
                        rotated = self.stream
                        self._open()
                        rotated.close()
                self.is_lost |= self.stream.write(line) != len(line)
            except OSError:
                self.is_lost = True

    def close(self) -> None:
        """Close the file; raises OSError."""
        with self._lock:
            self.stream.close()


def line_of(event: Event, run_id: str, moment: float) -> str:
    """Return an event at an epoch second as a line of ASCII, with its end at most `LONGEST_LINE` characters."""
    stamp = datetime.fromtimestamp(moment, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    words = [stamp, event.level.name, f"run={run_id}", f"ev={event.name}"]
    for name, value in event.fields.items():
        text = str(value)[:_LONGEST_VALUE]
        words.append(f"{name}={text if _BARE.fullmatch(text) else json.dumps(text)}")
    return " ".join(words)[: LONGEST_LINE - 1]


class Watch:
    """Counts, logs, pings and measures one run; does nothing else where the settings ask for nothing.

    In the sandbox neither metrics are written nor pings sent: a trial must not pass for the night job.
    ``note`` gets the failures of log and metrics, for a person; ``clock`` gives monotonic seconds.
    """

    def __init__(
        self,
        settings: Settings,
        command: str,
        run_id: str,
        *,
        note: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._command, self._run_id = settings, command, run_id
        self._note, self._clock = note, clock
        self._began = time.time()
        self._phase, self._done, self._total, self._uncertain = "reading", 0, 0, 0
        self._phase_began = self._logged = clock()
        self._ping: partial[str] | None = None
        self._log: LogFile | None = None
        self._metrics: Path | None = None
        self.listener = Listener(
            rows=self._rows,
            receipt=self._receipt,
            calls=self._calls,
            note=lambda text: self._write(EventName.RUN_NOTE, Level.WARN, text=text),
            waiting=lambda text: self._write(EventName.RUN_NOTE, Level.WARN, text=text),
            problem=lambda error: self._write(
                EventName.FILE_PROBLEM,
                Level.ERROR,
                exit=int(error.exit_code),
                reason=ending_of(error)[1],
                text=error.message,
            ),
            unrecorded=lambda receipt: self._write(
                EventName.LEDGER_WRITE_FAILED, Level.ERROR, ref=receipt.call_id, outcome=receipt.state.value
            ),
            event=lambda event: self._write(event.name, event.level, **event.fields),
        )

    def begin(self) -> None:
        """Open log, metrics and ping as the settings name them, log the start of the run and ping.

        Raises ConfigurationError, and CannotCreateError when log or metrics could not be written; `finish` reports
        that through the ones that are open by then.
        """
        settings = self._settings
        if settings.ping_url is not None and not settings.sandbox:
            # requests comes in here and not on top: `check` and most runs ping nobody.
            from importer.client.connection import HttpClient, Trust
            from importer.watching.metrics import PING_LIMITS, ping

            trust, parts = Trust(settings.ca_bundle), urlsplit(settings.ping_url)
            # The id of this run pairs its two pings.
            url = urlunsplit(parts._replace(query=f"{parts.query}&rid={uuid.uuid4()}".lstrip("&")))
            self._ping = partial(ping, HttpClient(settings.proxy, trust=trust, limits=PING_LIMITS), url)
        if settings.log is not None:
            least = Level.DEBUG if settings.verbose else Level.INFO
            self._log = LogFile(settings.log, self._run_id, least=least)
        if settings.metrics is not None and not settings.sandbox:
            # The folder may be the collector's own: neither a number nor a secret stands in the metrics.
            path, folder = settings.metrics, settings.metrics.parent
            if (path.exists() and not path.is_file()) or not folder.is_dir() or not os.access(folder, os.W_OK):
                fault = f"it is a folder or a device, or its folder is missing or read-only; {whose(path)}"
                hint = "Give --metrics a file in the folder of the textfile collector, where this user may write."
                raise CannotCreateError(f"metrics file {path} cannot be written: {fault}", hint=hint)
            with suppress(FileNotFoundError):
                check_ours(path, path.lstat())
            self._metrics = path
        self._write(EventName.RUN_STARTED, Level.INFO, command=self._command, version=__version__)
        if self._ping is not None and (why := self._ping("start")):
            self._write(EventName.PING_FAILED, Level.WARN, reason=why)

    def finish(self, summary: RunSummary, closing: Iterable[str] = ()) -> None:
        """Log the end of the run, write metrics, ping with ``closing`` lines for a person; a failure is a note."""
        fields = summary_fields(summary)
        shown = {name: value for name, value in fields.items() if name not in ("run", "results")}
        failed = Level.WARN if summary.exit_code in _NEXT_RUN_GOES_ON else Level.ERROR
        self._write(EventName.RUN_FINISHED, failed if summary.exit_code else Level.INFO, **shown)
        if self._metrics is not None:
            from importer.watching.metrics import write_metrics

            calls: Mapping[CallState, int] = {}
            since = None
            with suppress(ImporterError), open_reader(self._settings.ledger) as ledger:  # the exit code says why
                calls, since = ledger.counts(), ledger.oldest_pending()
            labels, times = {"command": self._command, "site": self._settings.site}, (self._began, time.time())
            try:
                write_metrics(self._metrics, labels, summary, times, calls, epoch_of(since) if since else None)
            except OSError as error:
                self._note(f"The metrics {self._metrics} could not be written: {error.strerror}.")
        if self._ping is not None:
            counts = " ".join(f"{name}={value}" for name, value in fields.items() if name != "results")
            body = "\n".join([*(_NUMBER.sub("(number)", line) for line in closing), counts])
            if why := self._ping(str(int(summary.exit_code)), body, tries=MOST_TRIES):
                self._write(EventName.PING_FAILED, Level.WARN, reason=why)
        if self._log is not None:
            with suppress(OSError):
                self._log.close()
            if self._log.is_lost:
                self._note(f"Not every line could be written to the log {self._settings.log}.")

    def progress(self) -> dict[str, object]:
        """Return phase, counts, rate and, while calls are sent, the time left, unknown before the first."""
        seconds = max(1e-3, self._clock() - self._phase_began)
        facts = {"phase": self._phase, "done": self._done, "per_minute": round(self._done / seconds * 60)}
        if self._phase == "reading":
            return {**facts}
        shown: object = "unknown"
        if self._done:  # the first call goes at once, which says nothing of the others
            left, settings = self._total - self._done, self._settings
            least = settings.rate.seconds_for(left + 1, is_burst=settings.burst)
            shown = timedelta(seconds=round(max(least, left * seconds / self._done)))
        return {**facts, "total": self._total, "left": shown, "uncertain": self._uncertain}

    def _rows(self, count: int) -> None:
        self._done += count
        if self._clock() - self._logged >= LOGGED_EVERY_SECONDS:
            self._logged = self._clock()
            self._write(EventName.RUN_PROGRESS, Level.INFO, **self.progress())

    def _calls(self, total: int) -> None:
        self._phase, self._done, self._total, self._phase_began = "sending", 0, total, self._clock()
        self._write(EventName.CALLS_WAITING, Level.INFO, calls=total)

    def _receipt(self, receipt: Receipt) -> None:
        self._uncertain += receipt.state is CallState.UNCERTAIN
        self._rows(1)

    def _write(self, name: EventName, level: Level, /, **fields: object) -> None:
        if self._log is not None:
            self._log.write(Event(name, level, fields))
