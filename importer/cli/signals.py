"""The signals that ask a run to stop, and who takes them for a while."""

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any

STOPPING = (signal.SIGHUP, signal.SIGINT, signal.SIGTERM)

Before = Mapping[int, Any]


@contextmanager
def taken(take: Callable[[Before, int, FrameType | None], None]) -> Iterator[None]:
    """Let ``take`` have the signals of `STOPPING`; it gets who had them before, the signal and the frame."""
    before = {int(kind): signal.getsignal(kind) for kind in STOPPING}
    for kind in STOPPING:
        signal.signal(kind, lambda number, frame: take(before, number, frame))
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
