"""Calls of the ledger to the API, in batches under one limiter; what each answer proves goes back at once.

Only what is proved not applied is tried again. Everything a person must decide stays `uncertain`. The run
stops by itself when going on would only cost more: a refusing account, an outage, too many errors.
"""

import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field

from importer.auth import Token, TokenSource
from importer.client import Client, Judgement, Proof, Reaction, SendDoor, SendFailure, classify, judge_failure
from importer.errors import ExitCode, ImporterError
from importer.ledger import Claimed, Ledger
from importer.pacing import Backoff, RetryBudget, RollingLimiter, Slot
from importer.records import Receipt
from importer.settings import ErrorLimit
from importer.steps import Step, Told, tell_nobody
from schemas.vocabulary import WIRE_TIME_FORMAT, CallState

LONGEST_WAIT_SECONDS = 600.0
"""A throttle that asks for more ends the run: the calls stay pending (exit 75)."""

THROTTLE_WAITS_SECONDS = (30.0, 60.0, 120.0)
"""Waits where a throttle names none (reliability: 429 without Retry-After)."""

UNANSWERED_IN_A_ROW = 5
LOOK_EVERY_SECONDS = 0.2

STATE_PROVED = {
    Proof.TAKEN: CallState.ACCEPTED,
    Proof.REFUSED: CallState.REFUSED,
    Proof.UNKNOWN: CallState.UNCERTAIN,
    Proof.NOT_SENT: CallState.PENDING,
    Proof.NOT_APPLIED: CallState.PENDING,
}


@dataclass(frozen=True, slots=True)
class DeliveryPlan:
    """How much is sent at once and in all, and when to stop."""

    batch_size: int = 50
    workers: int = 1
    limit: int | None = None
    errors: ErrorLimit = field(default_factory=lambda: ErrorLimit.parse("20"))
    max_uncertain: int = 3


@dataclass(frozen=True, slots=True)
class Service:
    """The API as delivery sees it; clocks and sleep are passed in.

    ``clock`` is monotonic and shared with ``limiter``; ``wall_clock`` is epoch seconds; ``interrupted`` tells
    the exit code of a signal that came in, None without one.
    """

    clients: Callable[[], Client]
    tokens: TokenSource
    limiter: RollingLimiter
    backoff: Backoff = field(default_factory=Backoff)
    clock: Callable[[], float] = time.monotonic
    wall_clock: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep
    interrupted: Callable[[], ExitCode | None] = lambda: None


@dataclass(frozen=True, slots=True)
class Stop:
    """Why a run ended before all was sent."""

    exit_code: ExitCode
    reason: str
    message: str = ""


@dataclass(frozen=True, slots=True)
class Delivered:
    """One call with the receipt that this run ends with for it, and the judgement behind it."""

    claimed: Claimed
    receipt: Receipt
    judgement: Judgement | None
    stop: Stop | None = None


class Delivery:
    """One run's delivery; `run` may be called once."""

    def __init__(self, ledger: Ledger, service: Service, plan: DeliveryPlan, step: Told = tell_nobody) -> None:
        self._ledger = ledger
        self.step = step
        self._service = service
        self._plan = plan
        self._retries = RetryBudget()
        self._stopping = threading.Event()
        self._clients: queue.SimpleQueue[Client] = queue.SimpleQueue()
        self._tally = _Tally(plan)

    def run(self, on_receipt: Callable[[Claimed, Receipt], None]) -> Stop | None:
        """Send what the ledger holds, oldest first; tell each receipt once, in the main thread.

        Returns why the run stopped before the end, or None. Raises LedgerError and whatever is a bug, after the
        calls in flight are recorded.
        """
        made = [self._service.clients() for _ in range(self._plan.workers)]
        for client in made:
            self._clients.put(client)
        try:
            with ThreadPoolExecutor(self._plan.workers, thread_name_prefix="deliver") as pool:
                return self._drive(pool, on_receipt)
        finally:
            for client in made:
                client.close()

    def _drive(self, pool: ThreadPoolExecutor, on_receipt: Callable[[Claimed, Receipt], None]) -> Stop | None:
        calls = self._calls()
        flying: set[Future[Delivered | None]] = set()
        stop: Stop | None = None
        failure: BaseException | None = None
        more = True
        while more or flying:
            stop = stop or self._interrupted()
            if stop or failure:
                self._stopping.set()
                more = False
            while more and len(flying) < self._plan.workers:
                claimed = next(calls, None)
                if claimed is None:
                    more = False
                else:
                    flying.add(pool.submit(self._deliver, claimed))
            done, flying = wait(flying, timeout=LOOK_EVERY_SECONDS, return_when=FIRST_COMPLETED)
            for future in done:
                error = future.exception()
                if error is not None:
                    failure = failure or error
                    continue
                delivered = future.result()
                if delivered is not None:
                    on_receipt(delivered.claimed, delivered.receipt)
                    stop = stop or self._tally.add(delivered)
        if isinstance(failure, ImporterError) and failure.exit_code not in (ExitCode.LEDGER, ExitCode.INTERNAL):
            return Stop(
                failure.exit_code, _slug(failure), "\n  ".join(filter(None, (failure.message, failure.hint)))
            )
        if failure is not None:
            raise failure
        return stop

    def _calls(self) -> Iterator[Claimed]:
        """Yield the pending calls, a batch at a time, up to the limit."""
        after, left = -1, self._plan.limit
        while batch := self._ledger.claim(self._plan.batch_size, after=after):
            for claimed in batch:
                if left is not None:
                    if left == 0:
                        return
                    left -= 1
                after = claimed.seq
                yield claimed

    def _interrupted(self) -> Stop | None:
        code = self._service.interrupted()
        return None if code is None else Stop(code, "signal", "Stopped by a signal; the rest stays pending.")

    def _deliver(self, claimed: Claimed) -> Delivered | None:
        """Send one call until something is proved or nothing more is to be tried; None when never begun."""
        client = self._clients.get()
        try:
            return _Attempts(self, claimed, client).run()
        finally:
            self._clients.put(client)

    @property
    def ledger(self) -> Ledger:
        """The ledger that calls come from."""
        return self._ledger

    @property
    def service(self) -> Service:
        """The API that calls go to."""
        return self._service

    @property
    def retries(self) -> RetryBudget:
        """What this run may still spend on trying again."""
        return self._retries

    def is_stopping(self) -> bool:
        """Say whether no further request is to be begun."""
        return self._stopping.is_set() or self._service.interrupted() is not None


class _Attempts:
    """The requests for one call, one after the other."""

    def __init__(self, delivery: Delivery, claimed: Claimed, client: Client) -> None:
        self._delivery = delivery
        self._claimed = claimed
        self._client = client
        self._attempt = 0
        self._waits = 0
        self._renewed = False
        self._given_up = False

    def run(self) -> Delivered | None:
        last: Delivered | None = None
        while True:
            token = self._delivery.service.tokens.token()
            self._delivery.step(Step.TOKEN)
            slot = self._delivery.service.limiter.acquire(self._delivery.is_stopping)
            if slot is None:
                return last
            self._attempt += 1
            judgement, receipt = self._send(token, slot)
            last = Delivered(self._claimed, receipt, judgement)
            if judgement.proof is Proof.TAKEN:
                self._delivery.retries.success()
            if judgement.reaction is Reaction.STOP:
                return _stopped(last, judgement)
            if receipt.state is not CallState.PENDING:
                return last
            stop = self._prepare_next(judgement, token)
            if stop is not None or self._given_up:
                return Delivered(self._claimed, receipt, judgement, stop)

    def _send(self, token: Token, slot: Slot) -> tuple[Judgement, Receipt]:
        """Send one request and record what it proves before anything else happens."""
        ledger, call, step = self._delivery.ledger, self._claimed.call, self._delivery.step
        marked = False

        def open_door() -> None:
            nonlocal marked
            step(Step.BEFORE_INTENT)
            ledger.mark_sending(call.call_id)
            marked = True
            step(Step.INTENT_DURABLE)

        def written() -> None:
            slot.written()
            step(Step.WRITTEN)

        try:
            answer = self._client.notify(call, token, SendDoor(open_door, written))
            judgement = classify(answer, now_epoch=self._delivery.service.wall_clock())
            status: int | None = answer.status
        except SendFailure as failure:
            judgement, status = judge_failure(failure), None
            if not failure.first_byte:
                slot.release()
        except BaseException:
            slot.release()
            if marked:
                ledger.settle(Receipt(call.call_id, CallState.UNCERTAIN, "internal_error", _LOOK))
            raise
        receipt = Receipt(
            call.call_id,
            STATE_PROVED[judgement.proof],
            judgement.reason,
            judgement.hint,
            status,
            judgement.code,
            self._claimed.attempts + self._attempt,
        )
        if marked:
            step(Step.ANSWERED)
            ledger.settle(receipt)
            step(Step.SETTLED)
        else:
            ledger.note_unsent(call.call_id, reason=judgement.reason, hint=judgement.hint)
        return judgement, receipt

    def _prepare_next(self, judgement: Judgement, token: Token) -> Stop | None:
        """Get ready to send again, or give the call up for this run; return why the run stops, if it does."""
        if judgement.reaction is Reaction.RENEW_TOKEN:
            if self._renewed:
                return _stop_of(judgement, ExitCode.NOT_PERMITTED)
            self._renewed = True
            self._delivery.service.tokens.renew(token)
            return None
        if judgement.reaction is Reaction.WAIT:
            return self._wait(judgement)
        if self._delivery.service.backoff.exhausted(self._attempt) or not self._delivery.retries.spend():
            self._given_up = True
            return None
        self._pause(self._delivery.service.backoff.wait_seconds(self._attempt))
        return None

    def _wait(self, judgement: Judgement) -> Stop | None:
        """Slow everybody down for as long as the service asks."""
        seconds = judgement.wait_seconds
        if seconds is None:
            if self._waits >= len(THROTTLE_WAITS_SECONDS):
                return _stop_of(judgement, ExitCode.TRY_LATER)
            seconds = THROTTLE_WAITS_SECONDS[self._waits]
        self._waits += 1
        service = self._delivery.service
        if seconds > LONGEST_WAIT_SECONDS or self._waits > 10:
            moment = time.strftime(WIRE_TIME_FORMAT, time.gmtime(service.wall_clock() + seconds))
            self._delivery.ledger.hold_until(moment)
            return _stop_of(judgement, ExitCode.TRY_LATER)
        service.limiter.pause_until(service.clock() + seconds)
        return None

    def _pause(self, seconds: float) -> None:
        """Wait before the next attempt, awake to a stop."""
        left = seconds
        while left > 0 and not self._delivery.is_stopping():
            self._delivery.service.sleep(min(left, LOOK_EVERY_SECONDS))
            left -= LOOK_EVERY_SECONDS


class _Tally:
    """Counts what ends a run early: refusals, uncertain calls, silence, the same answer again and again."""

    def __init__(self, plan: DeliveryPlan) -> None:
        self._plan = plan
        self._sent = self._refused = self._uncertain = self._silent = 0
        self._latest: deque[tuple[str, str]] = deque(maxlen=16)

    def add(self, delivered: Delivered) -> Stop | None:
        """Count one call; return why the run stops, if it does."""
        self._sent += 1
        state = delivered.receipt.state
        self._refused += state is CallState.REFUSED
        self._uncertain += state is CallState.UNCERTAIN
        judgement = delivered.judgement
        silent = judgement is not None and judgement.proof is Proof.NOT_SENT
        self._silent = self._silent + 1 if silent else 0
        self._latest.append((delivered.receipt.reason, delivered.receipt.code))
        if delivered.stop is not None:
            return delivered.stop
        if judgement is not None and judgement.stop_after and self._in_a_row() >= judgement.stop_after:
            return _stop_of(judgement, ExitCode.PROTOCOL)
        return self._too_many()

    def _in_a_row(self) -> int:
        same = 0
        for each in reversed(self._latest):
            if each != self._latest[-1]:
                break
            same += 1
        return same

    def _too_many(self) -> Stop | None:
        if self._silent >= UNANSWERED_IN_A_ROW:
            return Stop(
                ExitCode.UNAVAILABLE, "unreachable", f"{self._silent} calls in a row could not be sent; run again."
            )
        if self._uncertain >= self._plan.max_uncertain:
            return Stop(
                ExitCode.UNCERTAIN, "max_uncertain", f"The answers of {self._uncertain} calls were lost; stopped."
            )
        if self._plan.errors.exceeded(self._refused, self._sent):
            return Stop(ExitCode.PARTIAL, "max_errors", f"The API refused {self._refused} calls; stopped.")
        return None


_LOOK = "Look for the call in Zoho, then settle it with `cdr-importer resolve`."


def _stopped(delivered: Delivered, judgement: Judgement) -> Delivered:
    stop = _stop_of(judgement, ExitCode.PROTOCOL)
    return Delivered(delivered.claimed, delivered.receipt, judgement, stop)


def _stop_of(judgement: Judgement, otherwise: ExitCode) -> Stop:
    return Stop(judgement.exit_code or otherwise, judgement.reason, judgement.hint)


def _slug(error: ImporterError) -> str:
    return type(error).__name__.removesuffix("Error").lower()
