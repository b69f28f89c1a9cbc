"""A run's delivery: workers that take calls from one place, and a main thread awake to signals."""

import threading
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

from importer.client import Client
from importer.deliver.attempts import LOOK_EVERY_SECONDS, Attempts, Means
from importer.deliver.breaker import Breaker
from importer.deliver.plan import Delivered, DeliveryListener, DeliveryPlan, Service, Stop
from importer.errors import ExitCode, ImporterError
from importer.ledger import Claimed, Ledger
from importer.pacing import RetryBudget

_ENDS_WITHOUT_RESULTS = frozenset({ExitCode.LEDGER, ExitCode.INTERNAL, ExitCode.CANNOT_CREATE})


class Delivery:
    """One run's delivery; `run` may be called once."""

    def __init__(
        self, ledger: Ledger, service: Service, plan: DeliveryPlan, listener: DeliveryListener | None = None
    ) -> None:
        self._service = service
        self._plan = plan
        self._listener = listener or DeliveryListener()
        self._means = Means(ledger, service, RetryBudget(), self._listener, self.is_stopping, plan.deadline)
        self._calls = self._pending()
        self._are_left = True
        self._guard = threading.Lock()
        self._turn = threading.Lock()
        self._breaker = Breaker(plan)
        self._stopping = threading.Event()
        self._stop: Stop | None = None
        self._failure: BaseException | None = None
        self._ended: deque[Delivered] = deque()
        self._working = plan.workers
        self._all_ended = threading.Event()

    def run(self) -> Stop | None:
        """Send what the ledger holds, oldest first.

        Returns why the run stopped before the end, or None. Raises LedgerError, CannotCreateError and whatever
        is a bug, after the calls in flight are recorded.
        """
        clients = [self._service.clients() for _ in range(self._plan.workers)]
        try:
            with ThreadPoolExecutor(self._plan.workers, thread_name_prefix="deliver") as pool:
                for client in clients:
                    pool.submit(self._work, client)
                self._look_on(clients)
        finally:
            for client in clients:
                client.close()
        return self._why_it_ended()

    def is_stopping(self) -> bool:
        """Return whether no further request is to be begun."""
        return self._stopping.is_set() or self._service.interrupted() is not None or self._is_out_of_time()

    def _work(self, client: Client) -> None:
        """Send one call after the other; a failure ends the work of everybody."""
        try:
            while not self.is_stopping():
                claimed = self._take()
                delivered = Attempts(self._means, claimed, client).run() if claimed else None
                if delivered is None:
                    return
                self._count(delivered)
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

    def _take(self) -> Claimed | None:
        """Return the next call; None when there is none or the limit is reached."""
        with self._turn:
            claimed = next(self._calls, None)
            self._are_left = claimed is not None
            return claimed

    def _pending(self) -> Iterator[Claimed]:
        """Yield the pending calls of the ledger, a batch claimed at a time, up to the limit."""
        left, after = self._plan.limit, -1
        while size := self._plan.batch_size if left is None else min(self._plan.batch_size, left):
            batch = self._means.ledger.claim(size, after=after)
            if not batch:
                return
            self._listener.claimed(batch)
            yield from batch
            after = batch[-1].seq
            left = None if left is None else left - len(batch)

    def _count(self, delivered: Delivered) -> None:
        with self._guard:
            self._stop = self._stop or self._breaker.add(delivered)
            if self._stop is not None:
                self._stopping.set()

    def _look_on(self, clients: Sequence[Client]) -> None:
        """Pass receipts on and watch for signals, five times a second, until every worker has ended."""
        try:
            while not self._all_ended.wait(LOOK_EVERY_SECONDS):
                if self._service.is_cut():
                    self._service.cut_sign_in()
                    for client in clients:
                        client.cut()
                self._pass_on()
            self._pass_on()
        finally:
            self._stopping.set()

    def _pass_on(self) -> None:
        while self._ended:
            self._listener.receipt(self._ended.popleft().receipt)

    def _is_out_of_time(self) -> bool:
        return self._plan.deadline is not None and self._service.clock() >= self._plan.deadline

    def _ran_out_of_time(self) -> bool:
        return self._plan.deadline is not None and self._are_left and self._means.ledger.pending_count() > 0

    def _why_it_ended(self) -> Stop | None:
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
        if self._stop is None and self._ran_out_of_time():
            return Stop(ExitCode.TRY_LATER, "max_runtime", "The time of --max-runtime is over; run again.")
        return self._stop
