"""Log, metrics and pings of one run: opened before it begins, told while it goes on, closed with its exit code."""

import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from importer import __version__
from importer.client import Route
from importer.errors import ExitCode, ImporterError
from importer.events import Event, EventName, Level
from importer.ledger import open_reader
from importer.monitoring.log import LogFile
from importer.monitoring.metrics import LastRun, Standing, check_place, write_metrics
from importer.monitoring.ping import Ping
from importer.pipeline import Listener, epoch_of, reason_of, summary_fields
from importer.records import Receipt, RunSummary
from importer.settings import Settings

_NEXT_RUN_GOES_ON = frozenset(
    {ExitCode.UNAVAILABLE, ExitCode.TRY_LATER, ExitCode.HANGUP, ExitCode.INTERRUPTED, ExitCode.TERMINATED}
)


class Watch:
    """Tells machines about one run; does nothing where the settings ask for nothing.

    In the sandbox neither metrics are written nor pings sent: a trial must not pass for the night job.
    ``note`` is told what a person has to know of the watching itself.
    """

    def __init__(self, settings: Settings, command: str, run_id: str, *, note: Callable[[str], None]) -> None:
        self._settings = settings
        self._command = command
        self._run_id = run_id
        self._note = note
        self._began = time.time()
        self._ping: Ping | None = None
        self._log: LogFile | None = None
        self._metrics: Path | None = None

    def begin(self) -> None:
        """Open what is asked for and tell that the run begins.

        Raises ConfigurationError for a CA bundle that cannot be read, CannotCreateError when log or metrics could
        not be written; `finish` tells of that whoever is there by then.
        """
        settings = self._settings
        self._ping = _ping_of(settings, self._ping_failed)
        if settings.log is not None:
            least = Level.DEBUG if settings.verbose else Level.INFO
            self._log = LogFile(settings.log, self._run_id, least=least)
        if settings.metrics is not None and not settings.sandbox:
            check_place(settings.metrics)
            self._metrics = settings.metrics
        self._tell(EventName.RUN_STARTED, Level.INFO, command=self._command, version=__version__)
        if self._ping is not None:
            self._ping.start()

    def listener(self) -> Listener:
        """Return what takes the run's events into the log."""
        if self._settings.log is None:
            return Listener()
        return Listener(
            calls=lambda count: self._tell(EventName.CALLS_WAITING, Level.INFO, calls=count),
            note=lambda text: self._tell(EventName.RUN_NOTE, Level.WARN, text=text),
            problem=self._problem,
            unrecorded=self._unrecorded,
            event=self._write,
        )

    def finish(self, summary: RunSummary) -> None:
        """Tell how the run ended; never raises for what cannot be told."""
        fields = summary_fields(summary)
        shown = {name: value for name, value in fields.items() if name not in ("run", "results")}
        self._tell(EventName.RUN_FINISHED, _level(summary.exit_code), **shown)
        if self._metrics is not None:
            self._write_metrics(self._metrics, summary)
        if self._ping is not None:
            self._ping.finish(int(summary.exit_code), _counts(summary))
        if self._log is not None:
            if self._log.is_lost:
                self._note(f"The log {self._settings.log} could not be written to the end.")
            self._log.close()

    def _write_metrics(self, path: Path, summary: RunSummary) -> None:
        run = LastRun(self._command, self._settings.site, __version__, self._began, time.time(), summary)
        try:
            write_metrics(path, run, _standing(self._settings))
        except OSError as error:
            self._note(f"The metrics {path} could not be written: {error.strerror}.")

    def _problem(self, problem: ImporterError) -> None:
        code = int(problem.exit_code)
        self._tell(EventName.FILE_PROBLEM, Level.ERROR, exit=code, reason=reason_of(problem), text=problem.message)

    def _unrecorded(self, receipt: Receipt) -> None:
        self._tell(EventName.LEDGER_WRITE_FAILED, Level.ERROR, ref=receipt.call_id, outcome=receipt.state.value)

    def _ping_failed(self, why: str) -> None:
        self._tell(EventName.PING_FAILED, Level.WARN, reason=why)

    def _tell(self, name: EventName, level: Level, **fields: object) -> None:
        self._write(Event(name, level, fields))

    def _write(self, event: Event) -> None:
        if self._log is not None:
            self._log.write(event)


def _ping_of(settings: Settings, failed: Callable[[str], None]) -> Ping | None:
    if settings.ping_url is None or settings.sandbox:
        return None
    bundle = str(settings.ca_bundle) if settings.ca_bundle else None
    return Ping(settings.ping_url, Route(settings.proxy, bundle), failed=failed)


def _standing(settings: Settings) -> Standing | None:
    """Return how the ledger stands, None where it cannot be read: the exit code says why."""
    with suppress(ImporterError), open_reader(settings.ledger) as ledger:
        oldest = ledger.oldest_pending()
        return Standing(ledger.counts(), epoch_of(oldest) if oldest else None)
    return None


def _counts(summary: RunSummary) -> str:
    """Return the body of the last ping: how many, why and which run, nothing else."""
    return " ".join(f"{name}={value}" for name, value in summary_fields(summary).items() if name != "results")


def _level(code: ExitCode) -> Level:
    if code is ExitCode.OK:
        return Level.INFO
    return Level.WARN if code in _NEXT_RUN_GOES_ON else Level.ERROR
