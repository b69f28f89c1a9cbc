"""Counts of bounded size: however long the file and whatever stands in it, memory stays flat."""

import heapq
from collections import Counter
from collections.abc import Hashable, Iterable, Mapping
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Generic, TypeVar

from importer.report.data import Pace, Wait

MOST_KEYS = 10_000
SPANS_SECONDS = (1, 5, 10, 60, 300, 600, 3600, 21_600, 86_400, 604_800)
"""Widths of the spans of time counted; each divides the next."""

_MOST_SPANS = 5000
_MOST_BARS = 120
_MOST_WAITS = 5
_SHORTEST_WAIT_SECONDS = 10

Key = TypeVar("Key", bound=Hashable)


class Tally(Generic[Key]):
    """Counts by key; when there are too many keys, the rarest are dropped."""

    def __init__(self, most_keys: int = MOST_KEYS) -> None:
        self._most_keys = most_keys
        self.counts: Counter[Key] = Counter()

    def add(self, counts: Mapping[Key, int]) -> None:
        """Add what another part of the file had."""
        self.counts.update(counts)
        if len(self.counts) > 2 * self._most_keys:
            self.counts = Counter(dict(self.counts.most_common(self._most_keys)))


class Timeline:
    """Moments counted in spans that grow wider as the time between first and last does.

    Spans are at least ``least_seconds`` wide (one of `SPANS_SECONDS`): as wide as the moments are apart when they
    are counts of spans themselves.
    """

    def __init__(self, least_seconds: int = SPANS_SECONDS[0]) -> None:
        self._width = SPANS_SECONDS.index(least_seconds)
        self._counts: Counter[int] = Counter()

    @property
    def span_seconds(self) -> int:
        """Return how wide a span is by now."""
        return SPANS_SECONDS[self._width]

    def add(self, moments: Mapping[int, int]) -> None:
        """Count moments (seconds since the epoch), so many of each."""
        width = self.span_seconds
        for moment, count in moments.items():
            self._counts[moment // width] += count
        while len(self._counts) > _MOST_SPANS and self._width < len(SPANS_SECONDS) - 1:
            self._widen()

    def pace(self) -> Pace | None:
        """Return the counts in some hundred spans at most, and the longest waits; None without any."""
        if not self._counts:
            return None
        waits = self._waits()
        while max(self._counts) - min(self._counts) >= _MOST_BARS and self._width < len(SPANS_SECONDS) - 1:
            self._widen()
        first, last = min(self._counts), max(self._counts)
        counts = tuple(self._counts[span] for span in range(first, last + 1))
        return Pace(_moment(first * self.span_seconds), self.span_seconds, counts[:10_000], waits)

    def _widen(self) -> None:
        factor = SPANS_SECONDS[self._width + 1] // SPANS_SECONDS[self._width]
        self._width += 1
        wider: Counter[int] = Counter()
        for span, count in self._counts.items():
            wider[span // factor] += count
        self._counts = wider

    def _waits(self) -> tuple[Wait, ...]:
        spans = sorted(self._counts)
        gaps: Iterable[tuple[int, int]] = (
            ((after - before) * self.span_seconds, before) for before, after in pairwise(spans)
        )
        longest = heapq.nlargest(_MOST_WAITS, (gap for gap in gaps if gap[0] >= _SHORTEST_WAIT_SECONDS))
        return tuple(Wait(_moment(span * self.span_seconds), seconds) for seconds, span in longest)


def _moment(epoch_seconds: int) -> datetime:
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(seconds=epoch_seconds)
