"""How far a run has come, for whoever asks while it goes on."""

import time
from collections.abc import Callable
from datetime import timedelta

from importer.records import Receipt
from schemas.vocabulary import CallState

LOGGED_EVERY_SECONDS = 600.0


class Progress:
    """Counts the rows read, then the calls sent; ``clock`` gives monotonic seconds."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._began = self._logged = clock()
        self._phase, self._done, self._total, self._uncertain = "reading", 0, 0, 0

    def rows(self, count: int) -> None:
        """Count rows that were read."""
        self._done += count

    def calls(self, total: int) -> None:
        """Begin to count calls: so many are about to be sent."""
        self._phase, self._done, self._total, self._began = "sending", 0, total, self._clock()

    def receipt(self, receipt: Receipt) -> None:
        """Count a call that was sent."""
        self._done += 1
        self._uncertain += receipt.state is CallState.UNCERTAIN

    def fields(self) -> dict[str, object]:
        """Return phase, counts, rate and, while calls are sent, the time left, unknown before the first."""
        seconds = max(1e-3, self._clock() - self._began)
        facts = {"phase": self._phase, "done": self._done, "per_minute": round(self._done / seconds * 60)}
        if self._phase == "reading":
            return {**facts}
        left = round((self._total - self._done) * seconds / self._done) if self._done else None
        shown = "unknown" if left is None else timedelta(seconds=left)
        return {**facts, "total": self._total, "left": shown, "uncertain": self._uncertain}

    def is_due(self) -> bool:
        """Return whether the log is to have it, every ten minutes, and take note of that."""
        now = self._clock()
        is_due = now - self._logged >= LOGGED_EVERY_SECONDS
        self._logged = now if is_due else self._logged
        return is_due
