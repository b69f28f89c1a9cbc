"""Calls of the ledger to the API, in batches under one limiter; what each answer proves goes back at once.

Only what is proved not applied is tried again. Everything a person must decide stays `uncertain`. The run
stops by itself when going on would only cost more: a refusing account, an outage, too many errors.
"""

import math
import re
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass, field, replace
from itertools import takewhile

from importer.auth import Token, TokenSource
from importer.client import Client, Judgement, Proof, Reaction, SendFailure, judge_failure
from importer.errors import ExitCode, ImporterError, LedgerError, TryLaterError
from importer.ledger import Claimed, Ledger
from importer.pacing import MOST_TRIES, RetryBudget, RollingLimiter, Slot, backoff_seconds, draw
from importer.records import Call, Event, EventName, Level, Receipt, Stop
from importer.settings import Settings
from schemas.vocabulary import WIRE_TIME_FORMAT, CallState, counted

UNANSWERED_IN_A_ROW = 5
"""So many calls in a row of which nothing came end the run; each uncertain one costs a person's time."""

LONGEST_WAIT_SECONDS = 600.0
"""A throttle that asks for more ends the run: the calls stay pending (exit 75)."""

THROTTLE_WAITS_SECONDS = (30.0, 60.0, 120.0)
"""Waits where a throttle names none."""

JITTER = 0.1
"""Up to so much of a wait is added to it, so that several hosts do not come back in one moment."""

MOST_WAITS = 10

SETTLE_TRIES = 6
"""So often the record of an answer is tried beside another program's hold on the ledger, waited for each time."""

LOOK_EVERY_SECONDS = 0.2

STATE_PROVED = {
    Proof.TAKEN: CallState.ACCEPTED,
    Proof.REFUSED: CallState.REFUSED,
    Proof.UNKNOWN: CallState.UNCERTAIN,
    Proof.NOT_SENT: CallState.PENDING,
    Proof.NOT_APPLIED: CallState.PENDING,
}

_ENDS_WITHOUT_RESULTS = frozenset({ExitCode.LEDGER, ExitCode.INTERNAL, ExitCode.CANNOT_CREATE})

# Whatever answers may put anything there, a number too; Zoho's own codes look like this.
_CODE = re.compile(r"[A-Z][A-Z_]{1,60}")

_LOOK = "Look for the call in Zoho, then settle it with `cdr-importer resolve`."


@dataclass(frozen=True, slots=True)
class Service:
    """The API as delivery uses it; clocks and sleep are passed in.

    ``clock`` is monotonic and shared with ``limiter``; ``wall_clock`` is epoch seconds; ``deadline`` is the moment
    of ``clock`` after which no request begins; ``interrupted`` returns the exit code of a signal that came in;
    ``is_cut`` whether the requests in flight are to end at once; ``cut_sign_in`` ends a sign-in in flight;
    ``account`` names the account, to which a ledger is bound.
    """

    clients: Callable[[], Client]
    tokens: TokenSource
    limiter: RollingLimiter
    clock: Callable[[], float]
    wall_clock: Callable[[], float]
    sleep: Callable[[float], None]
    deadline: float | None
    interrupted: Callable[[], ExitCode | None]
    is_cut: Callable[[], bool]
    cut_sign_in: Callable[[], None]
    account: str


@dataclass(frozen=True, slots=True)
class DeliveryListener:
    """What a delivery calls while it goes on.

    ``claimed`` gets each batch before anything of it is sent, from one sending thread at a time; ``receipt`` gets
    each receipt once, in the main thread; ``unrecorded`` what an answer proved that the ledger could not take, and
    ``event`` each request and each wait, from the thread that sends.
    """

    claimed: Callable[[Sequence[Claimed]], None]
    receipt: Callable[[Receipt], None]
    unrecorded: Callable[[Receipt], None]
    event: Callable[[Event], None]


@dataclass(frozen=True, slots=True)
class Delivered:
    """One call with the receipt that this run ends with for it, and the judgement behind it."""

    receipt: Receipt
    judgement: Judgement
    stop: Stop | None = None
    given_up: bool = False


def stop_of(judgement: Judgement) -> Stop:
    """Return the stop that a judgement makes; each that ends a run has an exit code."""
    return Stop(judgement.exit_code or ExitCode.PROTOCOL, judgement.reason, judgement.hint)


@dataclass(slots=True)
class Attempts:
    """Sends call after call, each until something is proved or nothing more is to be tried; one per worker."""

    client: Client
    ledger: Ledger
    service: Service
    retries: RetryBudget
    listener: DeliveryListener
    is_stopping: Callable[[], bool]
    _claimed: Claimed = field(init=False)
    _attempt: int = 0
    _waits: int = 0
    _is_marked: bool = False

    def run(self, claimed: Claimed) -> Delivered | None:
        """Return what the run ends with for the call; None when no request was begun."""
        self._claimed, self._attempt, self._waits = claimed, 0, 0
        service, is_renewed = self.service, False
        last: Delivered | None = None
        while True:
            token = service.tokens.token()
            # Only now is it known that the credentials are right: a mistyped client id must not bind the ledger.
            self.ledger.bind_account(service.account)
            slot = service.limiter.acquire(self.is_stopping, deadline=service.deadline)
            if slot is None:
                return last
            judgement, receipt = self._send(token, slot)
            last = Delivered(receipt, judgement)
            if judgement.proof is Proof.TAKEN:
                self.retries.success()
            if judgement.reaction is Reaction.STOP:
                return Delivered(receipt, judgement, stop_of(judgement))
            if receipt.state is not CallState.PENDING:
                return last
            if judgement.reaction is Reaction.RENEW_TOKEN:
                if is_renewed:
                    return Delivered(receipt, judgement, stop_of(judgement))
                is_renewed = True
                service.tokens.token(token)
            elif judgement.reaction is Reaction.WAIT:
                stop = self._wait(judgement)
                if stop is not None:
                    return Delivered(receipt, judgement, stop)
            else:
                most_tries = judgement.most_tries or MOST_TRIES
                if self._attempt >= most_tries or not self.retries.spend():
                    return Delivered(receipt, judgement, given_up=True)
                left = backoff_seconds(self._attempt)
                while left > 0 and not self.is_stopping():
                    service.sleep(min(left, LOOK_EVERY_SECONDS))
                    left -= LOOK_EVERY_SECONDS

    def _wait(self, judgement: Judgement) -> Stop | None:
        """Slow everybody down for as long as the service asks, and keep that for a run after this one."""
        service = self.service
        asked = judgement.wait_seconds
        ran_out = self._waits >= (len(THROTTLE_WAITS_SECONDS) if asked is None else MOST_WAITS)
        if asked is None:
            asked = THROTTLE_WAITS_SECONDS[min(self._waits, len(THROTTLE_WAITS_SECONDS) - 1)]
        self._waits += 1
        now = service.clock()
        # Whole seconds are kept: rounded down, the next run would come back too early.
        moment = time.strftime(WIRE_TIME_FORMAT, time.gmtime(math.ceil(service.wall_clock() + asked)))
        self.ledger.hold_until(moment)
        deadline = service.deadline
        if ran_out or asked > LONGEST_WAIT_SECONDS or (deadline is not None and now + asked >= deadline):
            stop = stop_of(judgement)
            return replace(stop, message=f"{stop.message} Nothing is sent before {moment} GMT.")
        fields = {"seconds": round(asked, 1), "reason": judgement.reason}
        self.listener.event(Event(EventName.WAIT_BEGAN, Level.INFO, fields))
        service.limiter.pause_until(now + asked + draw(0.0, asked * JITTER))
        return None

    def _send(self, token: Token, slot: Slot) -> tuple[Judgement, Receipt]:
        """Send one request: the intent durable before its first byte, what it proves before anything else.

        Raises LedgerError, before the first byte or, with the receipt passed to ``unrecorded``, after the answer.
        """
        self._attempt += 1
        self._is_marked = False
        call, service = self._claimed.call, self.service
        attempts = self._claimed.attempts + self._attempt
        lost: SendFailure | None = None
        began = service.clock()
        try:
            judgement = self.client.notify(
                call, token, self._before_first_byte, slot.written, wall_clock=service.wall_clock
            )
        except SendFailure as failure:
            lost = failure
            judgement = judge_failure(failure)
            if not failure.first_byte:
                slot.release()
        except BaseException:
            slot.release()
            if self._is_marked:
                state, reason = CallState.UNCERTAIN, "internal_error"
                self._settle(Receipt(call.call_id, state, reason, _LOOK, attempts=attempts))
            raise
        milliseconds = (service.clock() - began) * 1000
        state, reason, hint = STATE_PROVED[judgement.proof], judgement.reason, judgement.hint
        receipt = Receipt(call.call_id, state, reason, hint, judgement.http_status, judgement.code, attempts)
        if self._is_marked:
            self._settle(receipt)
        else:
            self.ledger.note_unsent(call.call_id, reason=reason, hint=hint)
        self.listener.event(_request_event(call, receipt, milliseconds, lost))
        return judgement, receipt

    def _before_first_byte(self) -> None:
        self.ledger.mark_sending(self._claimed.call.call_id)
        self._is_marked = True

    def _settle(self, receipt: Receipt) -> None:
        """Record the answer, also beside another program that writes to the ledger for a while."""
        try:
            for left in reversed(range(SETTLE_TRIES)):
                try:
                    self.ledger.settle(receipt)
                    return
                except TryLaterError as busy:
                    if not left:
                        raise LedgerError(
                            f"an answer could not be recorded: {busy.message}",
                            hint="Close what has the ledger open, then settle the call with "
                            "`cdr-importer resolve`.",
                        ) from busy
        except LedgerError:
            # The only trace of what the answer was: a person needs it to resolve the call.
            self.listener.unrecorded(receipt)
            raise


def _request_event(call: Call, receipt: Receipt, milliseconds: float, failure: SendFailure | None) -> Event:
    """Return what one request for a call came to; ``failure`` is why no answer came."""
    fields: dict[str, object] = {
        "ref": receipt.call_id,
        "file": call.place.file.rpartition("/")[2],
        "line": call.place.line,
        "attempt": receipt.attempts,
        "reason": receipt.reason or "-",
        "http": "-" if receipt.http_status is None else receipt.http_status,
        "code": receipt.code if _CODE.fullmatch(receipt.code) else "-",
        "ms": round(milliseconds),
    }
    if failure is not None:
        fields |= {"phase": "after_first_byte" if failure.first_byte else "before_first_byte"}
        fields |= {"class": failure.classes or "-"}
    level = Level.DEBUG if receipt.state is CallState.ACCEPTED else Level.WARN
    return Event(EventName(f"call.{receipt.state}"), level, fields)


@dataclass(slots=True)
class Breaker:
    """Counts the calls of a run as they end; not for several threads at once."""

    _settings: Settings
    _states: Counter[CallState] = field(default_factory=Counter)
    _fruitless: int = 0
    _latest: deque[tuple[str, str]] = field(default_factory=lambda: deque(maxlen=16))

    def add(self, delivered: Delivered) -> Stop | None:
        """Count one call; return why the run stops, if it does."""
        receipt, judgement = delivered.receipt, delivered.judgement
        self._states[receipt.state] += 1
        refused, uncertain = self._states[CallState.REFUSED], self._states[CallState.UNCERTAIN]
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
                return stop_of(judgement)
        if self._fruitless >= UNANSWERED_IN_A_ROW:
            message = f"{self._fruitless} calls in a row could not be sent or got no answer; run again."
            return Stop(ExitCode.UNAVAILABLE, "unreachable", message)
        if uncertain >= self._settings.max_uncertain:
            message = f"{counted(uncertain, 'answer was', 'answers were')} lost; stopped."
            return Stop(ExitCode.UNCERTAIN, "max_uncertain", message)
        if self._settings.max_errors.exceeded(refused, self._states.total()):
            message = f"The API refused {counted(refused, 'call')}; stopped."
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

    def run(self) -> Stop | None:
        """Send what the ledger has lined up; return why the run stopped before the end, or None.

        Raises LedgerError, CannotCreateError and whatever is a bug, after the calls in flight are recorded.
        """
        clients = [self._service.clients() for _ in range(self._settings.workers)]
        try:
            with ThreadPoolExecutor(self._settings.workers, thread_name_prefix="deliver") as pool:
                working = {pool.submit(self._work, client) for client in clients}
                try:
                    while working:
                        _, working = wait(working, LOOK_EVERY_SECONDS)
                        if working and self._service.is_cut():
                            self._service.cut_sign_in()
                            for client in clients:
                                client.cut()
                        while self._ended:
                            self._listener.receipt(self._ended.popleft().receipt)
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

    def _pending(self) -> Iterator[Claimed]:
        """Yield the calls that the ledger has lined up, a batch claimed at a time."""
        after = 0
        while batch := self._ledger.claim(self._settings.batch_size, after=after):
            self._listener.claimed(batch)
            yield from batch
            after = batch[-1].turn
