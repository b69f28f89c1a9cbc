"""One run: its id, settings, time and listener, the calls about to be sent, and the yes of a person to them.

Loads neither pandas nor the network.
"""

import os
import secrets
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from functools import partial
from typing import Any

from importer.errors import ConfigurationError, ExitCode, ImporterError, StoppedError, TryLaterError
from importer.formats.catalogue import Catalogue
from importer.ledger.ledger import Ledger
from importer.ledger.reader import LedgerReader
from importer.records import Event, Receipt, RunSummary, Timeouts, ignore
from importer.settings.options import Settings
from schemas.vocabulary import WIRE_TIME_FORMAT, CallState, counted

OLD_DAYS = 30
"""Older calls of a first import need `--since` or `--yes`: each can open a window on an agent's screen."""

_LOCK_POLL_SECONDS = 0.2
WORKER_BYTES = 32 << 20
"""To start a process that prepares files costs as much as to prepare a third of so many bytes."""


@dataclass(frozen=True, slots=True)
class Outlook:
    """The calls about to be sent: ``calls`` now, of which ``from_earlier`` were left by earlier runs.

    ``first`` and ``last`` are their earliest and latest start, GMT text; ``seconds`` is how long it takes at the
    rate. ``examples`` returns lines that show how the files were read.
    """

    calls: int
    left_pending: int
    from_earlier: int
    first: str
    last: str
    seconds: float
    examples: Callable[[], Iterable[str]] = tuple


@dataclass(frozen=True, slots=True)
class Listener:
    """The callbacks of a run: rows read, calls about to be sent, each receipt, notes for a person, problems.

    ``waiting`` gets what the run waits for before it begins; ``detail`` lines that are shown with `--verbose`;
    ``broke_off`` the counts of a run that an error ends after its calls were taken in, before that error is
    raised; ``ended`` those of one that came to its end. ``unrecorded`` gets a receipt that the ledger could not
    record, ``event`` the events of the log that have no callback of their own; these two and ``detail`` are also
    called from the threads that send. ``confirm`` is called before anything is taken in, and nothing is if it
    returns False.
    """

    rows: Callable[[int], None] = ignore
    calls: Callable[[int], None] = ignore
    receipt: Callable[[Receipt], None] = ignore
    note: Callable[[str], None] = ignore
    waiting: Callable[[str], None] = ignore
    problem: Callable[[ImporterError], None] = ignore
    detail: Callable[[str], None] = ignore
    unrecorded: Callable[[Receipt], None] = ignore
    confirm: Callable[[Outlook], bool] = lambda _: True
    broke_off: Callable[[RunSummary], None] = ignore
    ended: Callable[[RunSummary], None] = ignore
    event: Callable[[Event], None] = ignore

    def joined_by(self, other: "Listener") -> "Listener":
        """Return a listener that calls this one and then the other, and to confirm only this one."""

        def both(name: str, argument: object) -> None:
            getattr(self, name)(argument)
            getattr(other, name)(argument)

        joined: dict[str, Any] = {each.name: partial(both, each.name) for each in fields(self)}
        return Listener(**{**joined, "confirm": self.confirm})


def since_boot() -> float:
    """Return seconds since the machine was started, on Linux with the time in which it slept."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


@dataclass(frozen=True, slots=True)
class Run:
    """One run: its id, its start (epoch seconds and monotonic), its settings, its clocks and its listener.

    ``interrupted`` returns the exit code of a signal that came in; ``is_cut`` whether a second one did. ``clock``
    is monotonic, from run to run too, and ``wall_clock`` epoch seconds; ``sleep``, and ``wait_for`` of the
    limiter, let both go on, while the ``limits`` of one request are always in real time. ``worker_bytes`` is how
    many bytes of input each process has to read for which one is started.
    """

    settings: Settings
    catalogue: Catalogue
    listener: Listener = field(default_factory=Listener)
    run_id: str = field(default_factory=lambda: new_run_id(time.time()))
    now: float = field(default_factory=time.time)
    began: float = field(default_factory=since_boot)
    interrupted: Callable[[], ExitCode | None] = lambda: None
    is_cut: Callable[[], bool] = lambda: False
    limits: Timeouts = field(default_factory=Timeouts)
    clock: Callable[[], float] = since_boot
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    wait_for: Callable[[threading.Condition, float], object] = threading.Condition.wait
    worker_bytes: int = WORKER_BYTES

    def processes(self, files: int, plain_bytes: int) -> int:
        """Return how many processes are worth their start for so much input; by default one for a single file."""
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        jobs = self.settings.jobs or (cores if files > 1 else 1)
        return 1 if self.settings.scheduler else min(jobs, plain_bytes // self.worker_bytes)

    def stop_if_interrupted(self) -> None:
        """Raise StoppedError when a signal came in; only called before anything is sent."""
        code = self.interrupted()
        if code is not None:
            message = "stopped by a signal; nothing was taken in or sent"
            stopped = StoppedError(message, hint="Run again.", reason="signal")
            stopped.exit_code = code
            raise stopped


def lock_wait(
    settings: Settings,
    note: Callable[[str], object],
    check: Callable[[], None] = lambda: None,
    clock: Callable[[], float] = since_boot,
    sleep: Callable[[float], None] = time.sleep,
) -> Callable[[TryLaterError], bool]:
    """Return a function that waits for the run that holds the ledger, and returns whether to look again.

    ``note`` gets who holds it, once; ``check`` may end the wait.
    """
    seconds, began, noted = settings.lock_wait or 0.0, clock(), set[str]()

    def wait(held: TryLaterError) -> bool:
        check()
        left = began + seconds - clock()
        if left > 0 and not noted:
            noted.add(held.message)
            note(f"{held.message}; waiting for its end, {seconds:g} s at most")
        sleep(max(0.0, min(left, _LOCK_POLL_SECONDS)))
        return left > 0

    return wait


def new_run_id(now: float) -> str:
    """Return an id for a run: its start in GMT and four random hexadecimal digits."""
    return f"{datetime.fromtimestamp(now, UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"


def gmt_text(now: float) -> str:
    """Return a moment as GMT text to the second."""
    return datetime.fromtimestamp(now, UTC).isoformat(" ", "seconds")[:19]


def epoch_of(text: str) -> float:
    """Return the epoch second of a moment as `gmt_text` writes it."""
    return datetime.strptime(text, WIRE_TIME_FORMAT).replace(tzinfo=UTC).timestamp()


def ask_before_sending(run: Run, ledger: Ledger, examples: Callable[[], Iterable[str]] | None = None) -> Outlook:
    """Line up the calls to be sent, show them to a person and return them; raises StoppedError on a no.

    A run that has files, of which it gives ``examples``, sends their calls first, and with `--limit` no others.
    """
    has_files = examples is not None
    settings = run.settings
    order = "own" if has_files and settings.order == "newest" else settings.order
    is_cut = has_files and settings.limit is not None
    calls, from_earlier, first, last = ledger.line_up(order, own_only=is_cut, limit=settings.limit)
    seconds = settings.rate.seconds_for(calls, is_burst=settings.burst)
    pending = ledger.pending_count() - calls
    outlook = Outlook(calls, pending, from_earlier, first, last, seconds, examples or tuple)
    if calls and not (settings.yes or settings.sandbox):
        is_agreed = run.listener.confirm(outlook)
        run.stop_if_interrupted()
        if not is_agreed:
            raise StoppedError(
                "nothing was taken in or sent, as you said",
                hint="`cdr-importer check` shows what would be, `status` what is pending.",
                reason="declined",
            )
    return outlook


def ask_to_deliver(run: Run, ledger: Ledger) -> Outlook:
    """Ask before pending calls are sent, with `--on-uncertain resend` uncertain ones too, which a no leaves so."""
    resend = run.settings.on_uncertain == "resend"
    with ledger.staging() if resend else nullcontext() as staging:
        if staging and (count := staging.reopen_uncertain()):
            calls = counted(count, "uncertain call is", "uncertain calls are")
            run.listener.note(f"{calls} sent again, as --on-uncertain resend says.")
        return ask_before_sending(run, ledger)


def old_calls(run: Run, ledger: LedgerReader, new: int, first: str) -> ConfigurationError | None:
    """Return the error for old calls on a ledger that has sent nothing, unless meant; ``first`` is GMT text."""
    settings = run.settings
    is_meant = settings.yes or settings.sandbox or settings.since is not None
    if is_meant or not new or first >= gmt_text(run.now - OLD_DAYS * 86_400):
        return None
    # The ledger is counted whole, so only for calls that are old.
    if any(count for state, count in ledger.counts().items() if state is not CallState.PENDING):
        return None
    return ConfigurationError(
        f"the oldest of {counted(new, 'new call')} is from {first} GMT, and this ledger has sent nothing yet",
        hint="Each call can open a window on its agent's screen. "
        f"Give --since {OLD_DAYS}d to leave older calls out, or --yes if all of them are meant.",
        reason="old_calls",
    )
