"""The requests for one call, one after the other, and what each of them makes durable before the next step.

What a delivery uses and calls while it goes on, and what comes out of it, is declared here too.
"""

import math
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from importer.auth import Token, TokenSource
from importer.client import Client, Judgement, Proof, Reaction, SendFailure, judge_failure
from importer.errors import ExitCode, LedgerError, TryLaterError
from importer.events import Event, EventName, Level
from importer.ledger import Claimed, Ledger
from importer.pacing import Backoff, RetryBudget, RollingLimiter, Slot
from importer.records import Call, Receipt, Stop
from schemas.vocabulary import WIRE_TIME_FORMAT, CallState

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
    backoff: Backoff = field(default_factory=Backoff)


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


def stop_of(judgement: Judgement, otherwise: ExitCode) -> Stop:
    """Return the stop that a judgement makes, with its own exit code if it has one."""
    return Stop(judgement.exit_code or otherwise, judgement.reason, judgement.hint)


@dataclass(slots=True)
class Attempts:
    """Sends call after call, each until something is proved or nothing more is to be tried; one per worker.

    The workers share all but the client; ``is_stopping`` says whether no further request is to be begun.
    """

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
                return Delivered(receipt, judgement, stop_of(judgement, ExitCode.PROTOCOL))
            if receipt.state is not CallState.PENDING:
                return last
            if judgement.reaction is Reaction.RENEW_TOKEN:
                if is_renewed:
                    return Delivered(receipt, judgement, stop_of(judgement, ExitCode.NOT_PERMITTED))
                is_renewed = True
                service.tokens.token(token)
            elif judgement.reaction is Reaction.WAIT:
                stop = self._wait(judgement)
                if stop is not None:
                    return Delivered(receipt, judgement, stop)
            else:
                most_tries = min(judgement.most_tries or service.backoff.attempts, service.backoff.attempts)
                if self._attempt >= most_tries or not self.retries.spend():
                    return Delivered(receipt, judgement, given_up=True)
                left = service.backoff.wait_seconds(self._attempt)
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
            stop = stop_of(judgement, ExitCode.TRY_LATER)
            return replace(stop, message=f"{stop.message} Nothing is sent before {moment} GMT.")
        fields = {"seconds": round(asked, 1), "reason": judgement.reason}
        self.listener.event(Event(EventName.WAIT_BEGAN, Level.INFO, fields))
        service.limiter.pause_until(now + asked + service.backoff.uniform(0.0, asked * JITTER))
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
