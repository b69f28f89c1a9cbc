"""The times in which no row came: between two rows, in whatever order and file they stand, or up to the run."""

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
import numpy.typing as npt


class Gaps:
    """Finds gaps of more than ``most_seconds`` among the starts of rows; memory grows with such gaps only."""

    def __init__(self, most_seconds: float) -> None:
        self._most = most_seconds
        self._spans: list[tuple[int, int]] = []  # first and last start of rows that no such gap parts

    def add(self, starts: npt.NDArray[np.int64]) -> None:
        """Take the starts of some rows into account, as epoch seconds in any order."""
        if not len(starts):
            return
        ordered = np.sort(starts)
        ends = np.flatnonzero(np.diff(ordered) > self._most)
        firsts, lasts = ordered[[0, *(ends + 1)]].tolist(), ordered[[*ends, -1]].tolist()
        self._merge(zip(firsts, lasts, strict=True))

    def join(self, other: "Gaps | None") -> None:
        """Take the starts into account that another one has taken."""
        if other is not None:
            self._merge(other._spans)

    def _merge(self, spans: Iterable[tuple[int, int]]) -> None:
        merged: list[tuple[int, int]] = []
        for first, last in sorted([*self._spans, *spans]):
            if merged and first - merged[-1][1] <= self._most:
                merged[-1] = merged[-1][0], max(last, merged[-1][1])
            else:
                merged.append((first, last))
        self._spans = merged

    def until(self, now: int) -> list[tuple[int, int]]:
        """Return the gaps up to ``now`` as first and last second, the longest first; from 0 where no row came."""
        spans = [*(self._spans or [(0, 0)]), (now, now)]
        found = [(last, first) for (_, last), (first, _) in pairwise(spans) if first - last > self._most]
        return sorted(found, key=lambda gap: gap[0] - gap[1])
