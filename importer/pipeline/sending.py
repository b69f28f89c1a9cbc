"""Calls of the ledger to the API, in batches under one limiter; what each answer proves goes back at once.

Only what is proved not applied is tried again. Everything a person must decide stays `uncertain`. The run
stops by itself when going on would only cost more: a refusing account, an outage, too many errors.
"""

import math
import re
import threading
from collections import Counter, deque
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import takewhile
from pathlib import Path
from urllib.parse import urlsplit

import platformdirs

from importer import pacing
from importer.auth import SignIn, Token, TokenSource
from importer.client.api import Client, TokenTransport
from importer.client.classify import Judgement, Proof, Reaction, judge_failure
from importer.client.connection import Trust
from importer.client.failures import SendFailure
from importer.errors import ExitCode, ImporterError, LedgerError, TryLaterError, ending_of
from importer.ledger.ledger import Ledger
from importer.ledger.values import Claimed
from importer.pipeline.run import Outlook, Run, epoch_of, gmt_text
from importer.records import Call, Event, EventName, Level, Receipt, Stop
from importer.results.file import ResultsFile
from importer.settings.credentials import Credentials
from importer.settings.options import Settings
from importer.settings.values import DATA_CENTERS
from schemas.vocabulary import CallState, counted

_ROWS_AT_ONCE = 10_000

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

_WHAT_SENDS_IT = "pending still: the next run, or `cdr-importer deliver`, sends what is left."
_LOOK = "Look for the call in Zoho, then settle it with `cdr-importer resolve`."


def stop_of(judgement: Judgement) -> Stop:
    """Return the stop that a judgement makes; each that ends a run has an exit code."""
    return Stop(judgement.exit_code or ExitCode.PROTOCOL, judgement.reason, judgement.hint)


@dataclass(slots=True)
class Attempts:
    """Sends one call until something is proved or nothing more is to be tried.

    After that it has the ``receipt`` that the run ends with for it, the ``judgement`` behind that, the ``stop``
    if it ends the run, and whether the call is ``given_up``.
    """

    delivery: "Delivery"
    client: Client
    claimed: Claimed
    receipt: Receipt = field(init=False)
    judgement: Judgement = field(init=False)
    stop: Stop | None = None
    given_up: bool = False
    _tries: int = 0
    _waits: int = 0
    _is_marked: bool = False

    def run(self) -> bool:
        """Send the call, again where that is safe; return whether a request was begun."""
        delivery, is_renewed = self.delivery, False
        while self.stop is None and not self.given_up:
            token = delivery.tokens.token()
            # Only now is it known that the credentials are right: a mistyped client id must not bind the ledger.
            delivery.ledger.bind_account()
            slot = delivery.limiter.acquire(delivery.is_stopping, deadline=delivery.deadline)
            if slot is None:
                break
            self._send(token, slot)
            judgement = self.judgement
            if judgement.proof is Proof.TAKEN:
                delivery.retries.success()
            if judgement.reaction is Reaction.STOP or (judgement.reaction is Reaction.RENEW_TOKEN and is_renewed):
                self.stop = stop_of(judgement)
            elif self.receipt.state is not CallState.PENDING:
                break
            elif judgement.reaction is Reaction.RENEW_TOKEN:
                is_renewed = True
                delivery.tokens.token(token)
            elif judgement.reaction is Reaction.WAIT:
                self._wait()
            elif self._tries >= (judgement.most_tries or pacing.MOST_TRIES) or not delivery.retries.spend():
                self.given_up = True
            else:
                _sleep(delivery.run, delivery.is_stopping, pacing.backoff_seconds(self._tries))
        return self._tries > 0

    def _wait(self) -> None:
        """Pause all workers for as long as the service asks, or stop; keep the moment for later runs."""
        delivery, run, judgement = self.delivery, self.delivery.run, self.judgement
        asked = judgement.wait_seconds
        ran_out = self._waits >= (len(THROTTLE_WAITS_SECONDS) if asked is None else MOST_WAITS)
        if asked is None:
            asked = THROTTLE_WAITS_SECONDS[min(self._waits, len(THROTTLE_WAITS_SECONDS) - 1)]
        self._waits += 1
        now = run.clock()
        # Whole seconds are kept: rounded down, the next run would come back too early.
        moment = gmt_text(math.ceil(run.wall_clock() + asked))
        delivery.ledger.hold_until(moment)
        deadline = delivery.deadline
        if ran_out or asked > LONGEST_WAIT_SECONDS or (deadline is not None and now + asked >= deadline):
            stop = stop_of(judgement)
            self.stop = replace(stop, message=f"{stop.message} Nothing is sent before {moment} GMT.")
            return
        fields = {"seconds": round(asked, 1), "reason": judgement.reason}
        run.listener.event(Event(EventName.WAIT_BEGAN, Level.INFO, fields))
        delivery.limiter.pause_until(now + asked + pacing.draw(0.0, asked * JITTER))

    def _send(self, token: Token, slot: int) -> None:
        """Send one request: the intent durable before its first byte, what it proves before anything else.

        Raises LedgerError, before the first byte or, with the receipt passed to the listener, after the answer.
        """
        self._tries += 1
        self._is_marked = False
        call, run, limiter = self.claimed.call, self.delivery.run, self.delivery.limiter
        attempts = self.claimed.attempts + self._tries
        lost: SendFailure | None = None
        began = run.clock()
        try:
            judgement = self.client.notify(
                call, token, self._before_first_byte, partial(limiter.written, slot), wall_clock=run.wall_clock
            )
        except SendFailure as failure:
            lost = failure
            judgement = judge_failure(failure)
            if not failure.first_byte:
                limiter.release(slot)
        except BaseException:
            limiter.release(slot)
            if self._is_marked:
                state, reason = CallState.UNCERTAIN, "internal_error"
                self._settle(Receipt(call.call_id, state, reason, _LOOK, attempts=attempts))
            raise
        milliseconds = (run.clock() - began) * 1000
        state, reason, hint = STATE_PROVED[judgement.proof], judgement.reason, judgement.hint
        receipt = Receipt(call.call_id, state, reason, hint, judgement.http_status, judgement.code, attempts)
        if self._is_marked:
            self._settle(receipt)
        else:
            self.delivery.ledger.note_unsent(receipt)
        run.listener.event(_request_event(call, receipt, milliseconds, lost))
        self.judgement, self.receipt = judgement, receipt

    def _before_first_byte(self) -> None:
        self.delivery.ledger.mark_sending(self.claimed.call.call_id)
        self._is_marked = True

    def _settle(self, receipt: Receipt) -> None:
        """Record the answer, also beside another program that writes to the ledger for a while."""
        try:
            for left in reversed(range(SETTLE_TRIES)):
                try:
                    self.delivery.ledger.settle(receipt)
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
            self.delivery.run.listener.unrecorded(receipt)
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

    def add(self, delivered: Attempts) -> Stop | None:
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
    """The delivery of one run: what it needs is made before anything is taken in, then `send` is called once."""

    ledger: Ledger
    limiter: pacing.RollingLimiter
    _results: ResultsFile

    def __init__(self, run: Run, credentials: Credentials) -> None:
        """Make ready to send to the API that the settings name; ConfigurationError for an unreadable CA bundle."""
        settings, sign_in = run.settings, sign_in_of(run.settings, credentials)
        self.run = run
        self.account = f"{sign_in.accounts_url} {credentials.client_id}"
        self.deadline = None if settings.max_runtime is None else run.began + settings.max_runtime
        trust = Trust(sign_in.ca_bundle)
        self._transport = TokenTransport(
            sign_in,
            trust=trust,
            limits=run.limits,
            on_answer=lambda got: run.listener.event(Event(EventName.TOKEN_ASKED, fields={"http": got.status})),
        )
        self.tokens = TokenSource(
            sign_in,
            transport=self._transport,
            clock=run.wall_clock,
            sleep=partial(_sleep, run, run.stop_if_interrupted),
            note=run.listener.detail,
        )
        self._new_client = partial(
            Client, sign_in.proxy, trust=trust, limits=run.limits, fresh_only=threading.Event()
        )
        self.retries = pacing.RetryBudget()
        self._breaker = Breaker(settings)
        self._guard = threading.Lock()
        self._turn = threading.Lock()
        self._latest_turn, self._are_left = 0, True
        self._stopping = threading.Event()
        self._stop: Stop | None = None
        self._failure: BaseException | None = None
        self._ended: deque[Receipt] = deque()
        self._untaken: Counter[str] = Counter()

    def send(self, ledger: Ledger, results: ResultsFile, outlook: Outlook) -> Stop | None:
        """Send the calls lined up; return why the run stopped before all were sent, or None.

        Raises LedgerError, CannotCreateError and whatever is a bug, after the calls in flight are recorded.
        """
        run, self.ledger, self._results = self.run, ledger, results
        run.listener.calls(outlook.calls)
        run.listener.detail(
            f"ledger {run.settings.ledger}: {counted(outlook.calls + outlook.left_pending, 'call')} pending; at "
            f"most {run.settings.rate}, {run.settings.workers} at once"
        )
        if not outlook.calls:
            return None
        stop = self._take_over_pace()
        if stop is None:
            ledger.end_reopening()
            self._send_all()
            stop = self._why_stopped()
        # Each call lined up has its row, so that a run that ends early counts as pending what the ledger does.
        for _ in self._claimed(_ROWS_AT_ONCE) if stop else ():
            pass
        untaken = self._untaken
        if stop and stop.message:
            run.listener.note(stop.message)
        elif count := untaken.total():
            api_url, (_, hosts) = run.settings.api_url, DATA_CENTERS[run.settings.data_center]
            host = urlsplit(api_url).hostname if api_url else " or ".join(sorted(hosts))
            calls = counted(count, "call was", "calls were")
            run.listener.note(f"{calls} not taken by {host} ({', '.join(+untaken)}), {_WHAT_SENDS_IT}")
        if not stop and run.settings.limit is not None and not run.settings.sandbox and outlook.left_pending:
            what = "the call of this run" if outlook.calls == 1 else "the calls of this run"
            others = counted(outlook.left_pending, "call").removeprefix("1 ")
            run.listener.note(f"Look at {what} in Zoho, then `cdr-importer deliver` sends the other {others}.")
        return stop

    def _take_over_pace(self) -> Stop | None:
        """Count the requests of earlier runs against the rate, and keep to a wait that the service asked for.

        The clock may have been set since: a moment that is still to come counts as now, and a clock that was set
        forward makes nothing older.
        """
        boot = ""  # the id of this start of the machine, where the system has one
        with suppress(OSError):
            boot = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        run, ledger = self.run, self.ledger
        now, clock = run.wall_clock(), run.clock()
        set_forward = ledger.seconds_set_forward(boot, now - clock)
        rate = run.settings.rate
        since = gmt_text(now - rate.period_seconds - set_forward - 1)
        earlier = [epoch_of(text) for text in ledger.sent_since(since, gmt_text(now), rate.limit)]
        self.limiter = pacing.RollingLimiter(
            rate,
            clock=run.clock,
            wait_for=run.wait_for,
            is_burst=run.settings.burst,
            earlier=(clock - now + min(now, moment + set_forward + 1) for moment in earlier),
        )
        if max(earlier, default=now) > now:
            run.listener.note("The clock was ahead in an earlier run: its requests count as sent just now.")
        held = ledger.held_until()
        until = min(epoch_of(held) + set_forward, now + pacing.LONGEST_RETRY_AFTER_SECONDS) if held else now
        if held and gmt_text(until) != held:
            held = gmt_text(until)
            ledger.hold_until(held)
            run.listener.note(f"The clock was set since the service asked to wait: that ends at {held} GMT.")
        left = until - now
        if left > LONGEST_WAIT_SECONDS or (
            left > 0 and self.deadline is not None and clock + left >= self.deadline
        ):
            return Stop(
                ExitCode.TRY_LATER, "held", f"The service asked to wait until {held} GMT; nothing was sent."
            )
        if left > 0:
            self.limiter.pause_until(clock + left)
        elif held:
            ledger.hold_until(None)
        return None

    def _send_all(self) -> None:
        """Let each worker send call after call until none is left or the run stops."""
        clients = [self._new_client() for _ in range(self.run.settings.workers)]
        calls = self._claimed(self.run.settings.batch_size)
        try:
            with ThreadPoolExecutor(len(clients), thread_name_prefix="deliver") as pool:
                working = {pool.submit(self._work, client, calls) for client in clients}
                try:
                    while working:
                        _, working = wait(working, LOOK_EVERY_SECONDS)
                        if working and self.run.is_cut():
                            self._transport.cut()
                            for client in clients:
                                client.cut()
                        while self._ended:
                            receipt = self._ended.popleft()
                            self._untaken[receipt.reason] += receipt.state is CallState.PENDING
                            self.run.listener.receipt(receipt)
                finally:
                    self._stopping.set()
        finally:
            for client in clients:
                client.close()

    def _why_stopped(self) -> Stop | None:
        """Return the stop of this run, None where all was sent; raises a failure that leaves no results."""
        failure = self._failure
        if failure is not None and (
            not isinstance(failure, ImporterError) or failure.exit_code in _ENDS_WITHOUT_RESULTS
        ):
            raise failure
        code = self.run.interrupted()
        if code is not None:
            return Stop(code, "signal", f"Stopped by a signal; the rest is {_WHAT_SENDS_IT}")
        if isinstance(failure, ImporterError):
            text = ". ".join(filter(None, (failure.message, failure.hint)))
            return Stop(*ending_of(failure), text)
        is_timed = self.deadline is not None
        if self._stop is None and is_timed and self._are_left and self.ledger.pending_count() > 0:
            return Stop(ExitCode.TRY_LATER, "max_runtime", "The time of --max-runtime is over; run again.")
        return self._stop

    def is_stopping(self) -> bool:
        """Return whether no further request is to be begun."""
        is_late = self.deadline is not None and self.run.clock() >= self.deadline
        return is_late or self._stopping.is_set() or self.run.interrupted() is not None

    def _work(self, client: Client, calls: Iterator[Claimed]) -> None:
        """Send one call after the other; a failure ends the work of all."""
        try:
            while not self.is_stopping():
                with self._turn:
                    claimed = next(calls, None)
                    self._are_left = claimed is not None
                if claimed is None:
                    return
                attempts = Attempts(self, client, claimed)
                if not attempts.run():
                    return
                with self._guard:
                    self._stop = self._stop or self._breaker.add(attempts)
                if self._stop is not None:
                    self._stopping.set()
                self._ended.append(attempts.receipt)
        except BaseException as failure:
            with self._guard:
                self._failure = self._failure or failure
            self._stopping.set()

    def _claimed(self, size: int) -> Iterator[Claimed]:
        """Yield the calls that the ledger has lined up, as many claimed at a time, after those claimed before."""
        while batch := self.ledger.claim(size, after=self._latest_turn):
            # Their payload leaves the ledger with the answer, so the rows have to be safe before.
            if carried := [claimed.call for claimed in batch if not claimed.own_run]:
                self._results.take_up(carried)
            self._latest_turn = batch[-1].turn
            yield from batch


def _sleep(run: Run, is_over: Callable[[], bool | None], seconds: float) -> None:
    """Sleep, at most until ``is_over``, which is called again and again, returns true or raises."""
    end = run.clock() + seconds
    while (left := end - run.clock()) > 0 and not is_over():
        run.sleep(min(left, LOOK_EVERY_SECONDS))


def sign_in_of(settings: Settings, credentials: Credentials) -> SignIn:
    """Return how to sign in; the token is shared with other runs through a cache file, but not in the sandbox."""
    accounts_url, api_hosts = DATA_CENTERS[settings.data_center]
    cache = platformdirs.user_cache_path("cdr-importer") / "token.json"
    return SignIn(
        accounts_url=settings.accounts_url or accounts_url,
        credentials=credentials,
        api_url=settings.api_url,
        api_hosts=api_hosts,
        cache_path=None if settings.sandbox else cache,
        proxy=settings.proxy,
        ca_bundle=settings.ca_bundle,
    )
