"""A run's delivery: workers that take calls from one place, and a main thread awake to signals.

Refusals, uncertain calls, silence, or the same answer again and again end it early.
"""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import takewhile

from importer.client import Client, Proof
from importer.deliver.attempts import (
    LOOK_EVERY_SECONDS,
    Attempts,
    Delivered,
    DeliveryListener,
    Service,
    stop_of,
)
from importer.errors import ExitCode, ImporterError
from importer.ledger import Claimed, Ledger
from importer.pacing import RetryBudget
from importer.records import Stop
from importer.settings import Settings
from schemas.vocabulary import CallState, counted

UNANSWERED_IN_A_ROW = 5
"""So many calls in a row of which nothing came end the run; each uncertain one costs a person's time."""

_ENDS_WITHOUT_RESULTS = frozenset({ExitCode.LEDGER, ExitCode.INTERNAL, ExitCode.CANNOT_CREATE})


@dataclass(slots=True)
class Breaker:
    """Counts the calls of a run as they end; not for several threads at once."""

    _settings: Settings
    _sent: int = 0
    _refused: int = 0
    _uncertain: int = 0
    _fruitless: int = 0
    _latest: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=16))

    def add(self, delivered: Delivered) -> Stop | None:
        """Count one call; return why the run stops, if it does."""
        receipt, judgement = delivered.receipt, delivered.judgement
        self._sent += 1
        self._refused += receipt.state is CallState.REFUSED
        self._uncertain += receipt.state is CallState.UNCERTAIN
        is_fruitless = delivered.given_up or receipt.http_status is None
        self._fruitless = self._fruitless + 1 if is_fruitless else 0
        # A failing service is the same whether it or its gateway says so: the code in the body does not count.
        failing = judgement.proof is Proof.UNKNOWN and (receipt.http_status or 0) >= 500
        self._latest.append((receipt.reason, "" if failing else receipt.code))
        if delivered.stop is not None:
            return delivered.stop
        if judgement.stop_after:
            in_a_row = len([*takewhile(self._latest[-1].__eq__, reversed(self._latest))])
            if in_a_row >= judgement.stop_after:
                return stop_of(judgement, ExitCode.PROTOCOL)
        if self._fruitless >= UNANSWERED_IN_A_ROW:
            message = f"{self._fruitless} calls in a row could not be sent or got no answer; run again."
            return Stop(ExitCode.UNAVAILABLE, "unreachable", message)
        if self._uncertain >= self._settings.max_uncertain:
            message = f"{counted(self._uncertain, 'answer was', 'answers were')} lost; stopped."
            return Stop(ExitCode.UNCERTAIN, "max_uncertain", message)
        if self._settings.max_errors.exceeded(self._refused, self._sent):
            message = f"The API refused {counted(self._refused, 'call')}; stopped."
            return Stop(ExitCode.PARTIAL, "max_errors", message)
        return None


class Delivery:
    """One run's delivery; `run` may be called once."""

    def __init__(self, ledger: Ledger, service: Service, settings: Settings, listener: DeliveryListener) -> None:
        self._service = service
        self._settings = settings
        self._listener = listener
        self._ledger = ledger
        self._retries = RetryBudget()
        self._calls = self._pending()
        self._are_left = True
        self._guard = threading.Lock()
        self._turn = threading.Lock()
        self._breaker = Breaker(settings)
        self._stopping = threading.Event()
        self._stop: Stop | None = None
        self._failure: BaseException | None = None
        self._ended: deque[Delivered] = deque()
        self._working = settings.workers
        self._all_ended = threading.Event()

    def run(self) -> Stop | None:
        """Send what the ledger has lined up.

        Returns why the run stopped before the end, or None. Raises LedgerError, CannotCreateError and whatever
        is a bug, after the calls in flight are recorded.
        """
        clients = [self._service.clients() for _ in range(self._settings.workers)]
        try:
            with ThreadPoolExecutor(self._settings.workers, thread_name_prefix="deliver") as pool:
                for client in clients:
                    pool.submit(self._work, client)
                try:
                    self._look_on(clients)
                finally:
                    self._stopping.set()
        finally:
            for client in clients:
                client.close()
        failure = self._failure
        if failure is not None and (
            not isinstance(failure, ImporterError) or failure.exit_code in _ENDS_WITHOUT_RESULTS
        ):
            raise failure
        code = self._service.interrupted()
        if code is not None:
            return Stop(code, "signal", "Stopped by a signal; the rest stays pending.")
        if isinstance(failure, ImporterError):
            text = ". ".join(filter(None, (failure.message, failure.hint)))
            return Stop(failure.exit_code, type(failure).__name__.removesuffix("Error").lower(), text)
        is_timed = self._service.deadline is not None
        if self._stop is None and is_timed and self._are_left and self._ledger.pending_count() > 0:
            return Stop(ExitCode.TRY_LATER, "max_runtime", "The time of --max-runtime is over; run again.")
        return self._stop

    def is_stopping(self) -> bool:
        """Return whether no further request is to be begun."""
        deadline = self._service.deadline
        is_late = deadline is not None and self._service.clock() >= deadline
        return is_late or self._stopping.is_set() or self._service.interrupted() is not None

    def _work(self, client: Client) -> None:
        """Send one call after the other; a failure ends the work of everybody."""
        attempts = Attempts(client, self._ledger, self._service, self._retries, self._listener, self.is_stopping)
        try:
            while not self.is_stopping():
                with self._turn:
                    claimed = next(self._calls, None)
                    self._are_left = claimed is not None
                delivered = attempts.run(claimed) if claimed else None
                if delivered is None:
                    return
                with self._guard:
                    self._stop = self._stop or self._breaker.add(delivered)
                if self._stop is not None:
                    self._stopping.set()
                self._ended.append(delivered)
        except BaseException as failure:
            with self._guard:
                self._failure = self._failure or failure
            self._stopping.set()
        finally:
            with self._guard:
                self._working -= 1
                if not self._working:
                    self._all_ended.set()

    def _pending(self) -> Iterator[Claimed]:
        """Yield the calls that the ledger has lined up, a batch claimed at a time."""
        after = 0
        while batch := self._ledger.claim(self._settings.batch_size, after=after):
            self._listener.claimed(batch)
            yield from batch
            after = batch[-1].turn

    def _look_on(self, clients: Sequence[Client]) -> None:
        """Pass receipts on and watch for signals, five times a second, until every worker has ended."""
        have_ended = False
        while not have_ended:
            have_ended = self._all_ended.wait(LOOK_EVERY_SECONDS)
            if not have_ended and self._service.is_cut():
                self._service.cut_sign_in()
                for client in clients:
                    client.cut()
            while self._ended:
                self._listener.receipt(self._ended.popleft().receipt)
