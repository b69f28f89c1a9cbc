"""How fast and how often: rate limit, back-off, retry budget, Retry-After. Clocks and sleeps are passed in."""

import re
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import count
from random import SystemRandom

from importer.settings.values import Rate

LONGEST_RETRY_AFTER_SECONDS = 6 * 3600.0
"""A service that asks for more is asked again after so long."""

_GUARD_SECONDS = 0.010
_LATE_SECONDS = 0.050
"""So late may a slot come, as sleeps end late, before the ones after it move too."""
_SHORTEST_WAIT_SECONDS = 1.0
_STOP_POLL_SECONDS = 0.2
_MOST_RETRIES = 20.0

MOST_TRIES = 4
"""So many requests for one call at most, where each proves that the call was not taken."""

draw = SystemRandom().uniform
"""Draws a number of seconds between two."""

_HTTP_DATE = re.compile(
    r"[A-Z][a-z]{2}, [0-9]{2} [A-Z][a-z]{2} [0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
    r"|[A-Z][a-z]{5,8}, [0-9]{2}-[A-Z][a-z]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2} GMT"
    r"|[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4}"
)


class RollingLimiter:
    """Keeps any number of threads under one rate, as the server sees it.

    A slot, known by its number, is the right to send one request. It comes back one period and a guard time after
    its bytes were *written*. Counting from the grant let 13 of 10 through on a busy machine, because a thread may
    stand still between grant and write; without the guard, network jitter lets 1 to 3 more through. Unless
    ``is_burst``, slots are granted evenly over the period: a window may open on somebody's screen for each call.
    """

    def __init__(
        self,
        rate: Rate,
        *,
        clock: Callable[[], float],
        wait_for: Callable[[threading.Condition, float], object] = threading.Condition.wait,
        is_burst: bool = False,
        earlier: Iterable[float] = (),
    ) -> None:
        """Make ready; requests of ``earlier`` runs, sent at these moments of the clock, count against the rate."""
        self._rate = rate
        self._clock = clock
        self._wait_for = wait_for
        self._hold_seconds = rate.period_seconds + _GUARD_SECONDS
        self._spacing_seconds = 0.0 if is_burst else self._hold_seconds / rate.limit
        self._changed = threading.Condition()
        self._numbers = count()
        self._unwritten: set[int] = set()
        self._written = OrderedDict(zip(self._numbers, sorted(earlier), strict=False))
        latest = max(self._written.values(), default=float("-inf"))
        self._next_turn = latest + self._spacing_seconds
        self._paused_until = float("-inf")

    def acquire(self, stop: Callable[[], bool], *, deadline: float | None = None) -> int | None:
        """Wait for a slot and take it; None once ``stop()`` is true, or ``deadline`` is over or within a pause."""
        with self._changed:
            while True:
                now = self._clock()
                if stop() or (deadline is not None and (now >= deadline or self._paused_until > deadline)):
                    return None
                while self._written and next(iter(self._written.values())) + self._hold_seconds <= now:
                    self._written.popitem(last=False)
                wait_seconds = max(self._paused_until, self._next_turn) - now
                if len(self._unwritten) + len(self._written) >= self._rate.limit:
                    oldest = next(iter(self._written.values()), now)
                    wait_seconds = max(wait_seconds, oldest + self._hold_seconds - now)
                if wait_seconds <= 0:
                    slot = next(self._numbers)
                    self._unwritten.add(slot)
                    self._next_turn = max(self._next_turn, now - _LATE_SECONDS) + self._spacing_seconds
                    return slot
                left_seconds = wait_seconds if deadline is None else min(wait_seconds, deadline - now)
                self._wait_for(self._changed, min(left_seconds, _STOP_POLL_SECONDS))

    def written(self, slot: int) -> None:
        """Stamp a slot: bytes were handed to the network now. The last stamp counts."""
        with self._changed:
            if slot in self._unwritten or slot in self._written:
                self._unwritten.discard(slot)
                self._written[slot] = self._clock()
                self._written.move_to_end(slot)
                self._changed.notify_all()

    def release(self, slot: int) -> None:
        """Give back a slot whose bytes never left; without effect on one that was written."""
        with self._changed:
            if slot in self._unwritten:
                self._unwritten.discard(slot)
                self._next_turn -= self._spacing_seconds
            self._changed.notify_all()

    def pause_until(self, moment: float) -> None:
        """Grant nothing before ``moment``; a throttle slows everybody and outranks our own schedule."""
        with self._changed:
            self._paused_until = max(self._paused_until, moment)
            self._changed.notify_all()


def backoff_seconds(attempt: int, draw: Callable[[float, float], float] = draw) -> float:
    """Return the wait after an attempt, counted from 1: 0 to 1, 2, 4, 8 ... seconds, at most 20 (full jitter).

    Source: AWS, "Exponential backoff and jitter"; the cap of 20 s is that of botocore's standard mode.
    """
    return draw(0.0, min(2.0 ** (attempt - 1), 20.0))


@dataclass(slots=True)
class RetryBudget:
    """A bucket shared by a run: a retry costs 1, a success returns 0.1, and an empty bucket ends retrying.

    Source: the retry quota of botocore's standard mode, in round figures.
    """

    _level: float = _MOST_RETRIES
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def spend(self) -> bool:
        """Take what one retry costs; False when there is not enough left."""
        with self._lock:
            if self._level < 1.0:
                return False
            self._level -= 1.0
            return True

    def success(self) -> None:
        """Return a little for one success."""
        with self._lock:
            self._level = min(_MOST_RETRIES, self._level + 0.1)


def parse_retry_after(value: str | None, *, response_date: str | None, now_epoch: float) -> float | None:
    """Read a Retry-After header as seconds to wait, between 1 s and 6 h; None when it says nothing usable.

    A date is taken against the answer's own Date header, since clocks differ; ``now_epoch`` stands in for a
    missing one. Source: RFC 9110 10.2.3. (urllib3 2.7's parser raises on ``-5``, ``1.5`` and the year 99999.)
    """
    text = (value or "").strip()
    if re.fullmatch(r"[0-9]+", text):
        seconds = float(text) if len(text) < 10 else LONGEST_RETRY_AFTER_SECONDS
    else:
        moment = _epoch_of(text)
        if moment is None:
            return None
        reference = _epoch_of((response_date or "").strip())
        seconds = moment - (now_epoch if reference is None else reference)
    return min(max(seconds, _SHORTEST_WAIT_SECONDS), LONGEST_RETRY_AFTER_SECONDS)


def _epoch_of(http_date: str) -> float | None:
    if not _HTTP_DATE.fullmatch(http_date):
        return None
    try:
        moment = parsedate_to_datetime(http_date)
        return moment.replace(tzinfo=moment.tzinfo or UTC).timestamp()
    except (ValueError, TypeError, OverflowError, IndexError):
        return None
