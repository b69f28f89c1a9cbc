"""Rate, back-off, retry budget and Retry-After, on a clock that only moves when told."""

import threading
from collections.abc import Sequence
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import cases, table
from importer.pacing import Rate, RetryBudget, RollingLimiter, backoff_seconds, parse_retry_after
from runs import OwnTime

CASES = cases("pacing")

GUARD_SECONDS = 0.010
LONGEST_SECONDS = 6 * 3600.0


def never() -> bool:
    """Never tell to stop."""
    return False


def limiter_on(
    clock: OwnTime, rate: str = "1/second", *, is_burst: bool = True, earlier: Sequence[float] = ()
) -> RollingLimiter:
    """Build a limiter that lives on the clock."""
    return RollingLimiter(
        Rate.parse(rate), clock=clock, wait_for=clock.wait_for, is_burst=is_burst, earlier=earlier
    )


def taken(limiter: RollingLimiter) -> int:
    """Take a slot, waiting as long as it needs."""
    slot = limiter.acquire(never)
    assert slot is not None
    return slot


@table(("acts", "waited"), CASES["slots"])
def test_limiter_slot_comes_back(acts: str, waited: float) -> None:
    """A slot comes back a period and the guard after its last write, or once released; the longest pause wins."""
    clock = OwnTime()
    limiter = limiter_on(clock)
    slot = taken(limiter)
    for act in acts.split():
        if act in ("write", "release"):
            (limiter.written if act == "write" else limiter.release)(slot)
        elif act == "pass":
            clock.now += 0.3
        else:
            limiter.pause_until(clock.now + (30 if act == "pause" else 5))
    began = clock.now
    taken(limiter)
    assert clock.now - began == pytest.approx(waited)


@table("rate", ["1/second", "20/second", "1000/second", "60/minute", "1000/hour"])
def test_limiter_is_even(rate: str) -> None:
    """Slots come one by one over the period, in all at least 98.5 % of the rate, though each comes 5 ms late."""
    clock = OwnTime()
    limiter, allowed = limiter_on(clock, rate, is_burst=False), Rate.parse(rate)
    turns = []
    for _ in range(3 * allowed.limit):
        slot = taken(limiter)
        turns.append(clock.now)
        clock.now += 0.005 if allowed.limit < 200 * allowed.period_seconds else 0.0
        limiter.written(slot)
    even = allowed.period_seconds / allowed.limit
    gaps = [later - earlier for earlier, later in pairwise(turns)]
    assert min(gaps, default=even) >= even - 0.050
    assert (len(turns) - 1) / (turns[-1] - turns[0]) >= 0.985 / even


def test_limiter_is_even_after_earlier() -> None:
    """The first slot keeps its distance from the requests of an earlier run, and a released one gives its turn."""
    clock = OwnTime()
    limiter = limiter_on(clock, "2/minute", is_burst=False, earlier=[clock.now - 10])
    slot = taken(limiter)
    assert clock.now == pytest.approx(1000.0 - 10 + (60 + GUARD_SECONDS) / 2)
    limiter.release(slot)
    began = clock.now
    taken(limiter)
    assert clock.now == began


def test_limiter_gives_up() -> None:
    """Acquire looks five times a second whether to stop, and ends at its deadline or before a longer pause."""
    clock = OwnTime()
    limiter = limiter_on(clock)
    taken(limiter)
    assert limiter.acquire(lambda: clock.now >= 1001.0) is None
    assert max(clock.waits) <= 0.2
    assert limiter.acquire(never, deadline=1101.0) is None
    assert clock.now == pytest.approx(1101.0)
    limiter.pause_until(clock.now + 30)
    waits = len(clock.waits)
    assert (limiter.acquire(never, deadline=clock.now + 10), len(clock.waits)) == (None, waits)


@given(
    limit=st.integers(1, 5),
    steps=st.lists(
        st.tuples(st.floats(0, 2), st.floats(0, 0.5), st.sampled_from(["write", "write twice", "release"])),
        min_size=1,
        max_size=40,
    ),
)
def test_limiter_never_exceeds(limit: int, steps: list[tuple[float, float, str]]) -> None:
    """No rolling period holds more than N writes, whatever the gaps between grants, writes and releases."""
    clock = OwnTime()
    limiter = limiter_on(clock, f"{limit}/second")
    written = []
    for gap_seconds, hold_seconds, action in steps:
        clock.now += gap_seconds
        slot = taken(limiter)
        clock.now += hold_seconds
        if action == "release":
            limiter.release(slot)
            continue
        limiter.written(slot)
        if action == "write twice":
            clock.now += 0.05
            limiter.written(slot)
        written.append(clock.now)
    assert all(later - earlier > 1.0 for earlier, later in zip(written, written[limit:], strict=False))


def test_limiter_wakes_waiting_thread() -> None:
    """A thread that waits for a slot gets it as soon as another gives one back."""
    waiting = threading.Event()

    def wait_for(condition: threading.Condition, seconds: float) -> None:
        waiting.set()
        condition.wait(30)

    limiter = RollingLimiter(Rate.parse("1/hour"), clock=lambda: 0.0, wait_for=wait_for)
    slot = taken(limiter)
    granted: list[int | None] = []
    thread = threading.Thread(target=lambda: granted.append(limiter.acquire(never)))
    thread.start()
    assert waiting.wait(10)
    limiter.release(slot)
    thread.join(10)
    assert granted != [] and granted[0] is not None


@table(("attempt", "ceiling"), [(1, 1.0), (2, 2.0), (3, 4.0), (4, 8.0), (5, 16.0), (6, 20.0), (99, 20.0)])
def test_backoff_ceiling(attempt: int, ceiling: float) -> None:
    """The wait is drawn between 0 and a ceiling that doubles up to 20 s."""
    drawn: list[tuple[float, float]] = []

    def uniform(low: float, high: float) -> float:
        drawn.append((low, high))
        return high

    assert backoff_seconds(attempt, uniform) == ceiling
    assert drawn == [(0.0, ceiling)]


def test_retry_budget() -> None:
    """Twenty retries empty the bucket, and ten successes pay for one."""
    budget = RetryBudget()
    assert [budget.spend() for _ in range(21)] == [True] * 20 + [False]
    for _ in range(11):
        budget.success()
    assert [budget.spend(), budget.spend()] == [True, False]


@pytest.mark.fault(74)
@given(value=st.text(max_size=60), date=st.none() | st.text(max_size=40), now=st.floats(0, 4e9))
def test_retry_after_never_raises(value: str, date: str | None, now: float) -> None:
    """Whatever comes, the result is None or within 1 s and 6 h."""
    seconds = parse_retry_after(value, response_date=date, now_epoch=now)
    assert seconds is None or 1.0 <= seconds <= LONGEST_SECONDS
