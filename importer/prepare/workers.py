"""Processes in which files, and parts of large ones, are prepared side by side.

The seam is `concurrent.futures.Executor`: `prepare_part` is submitted with arguments that pickle and returns what
pickles, and reads the file by its path. So the executor of `cluster` fits in the place of these processes.
"""

import gc
import os
import signal
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from importer.errors import ImporterError
from importer.settings.options import ENVIRONMENT_PREFIX

POLL_SECONDS = 0.1
"""So often a signal is looked for while workers read."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def usable_cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass(frozen=True, slots=True)
class Workers:
    """So many workers of one executor: its ``submit``, and the errors by which it says that some are ``lost``.

    ``look`` is called while they are waited for, and raises BrokenExecutor when none of them will answer.
    """

    submit: Callable[..., "Future[Any]"]
    count: int
    lost: tuple[type[Exception], ...] = (BrokenExecutor,)
    look: Callable[[], None] = lambda: None


@contextmanager
def working(count: int) -> Iterator[Workers | None]:
    """Give so many processes, none for fewer than two; they end with the context.

    Each loads the libraries anew: this process may have threads, and where a server that forks them is ended by a
    signal to all, nobody learns of their end. Raises ImporterError for a BrokenExecutor, wherever one shows.
    """
    if count < 2:
        yield None
        return
    # Loaded where they are needed: a small file does without.
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor

    # They read what others wrote, and get none of our secrets.
    ours = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith(ENVIRONMENT_PREFIX)}
    # Begins the tracker of what they share too, which unblocks signals here.
    executor = ProcessPoolExecutor(count, multiprocessing.get_context("spawn"), _begin)
    # What is blocked here stays so there: the program decides what follows a signal to all, also while they start.
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))
    try:
        try:
            # Starts all: CPython 3.11 notices the end of the one that it started last only when it has more to do.
            for _ in range(count + 1):
                executor.submit(int)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
            os.environ.update(ours)
        yield Workers(executor.submit, count)
    except BaseException as error:
        for child in multiprocessing.active_children():  # nobody needs what they have begun
            child.kill()
        executor.shutdown(cancel_futures=True)
        if isinstance(error, BrokenExecutor):
            raise ImporterError(
                "a process that prepared files was killed or died; nothing was taken in or sent",
                hint="Look whether the machine was short of memory (`dmesg` names what it killed), then run "
                "again: --jobs 1 takes the least.",
                reason="worker_died",
            ) from None
        raise
    executor.shutdown(wait=False)


def _begin() -> None:
    """End when the process ends that began this one, and collect no modules."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _end_with_parent() -> None:
    """Wait for the end of the process that began this one; the queue between them does not tell it."""
    import multiprocessing

    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
    os._exit(1)


def in_order(
    workers: Workers,
    submit: Callable[[_Item], "Future[_Result]"],
    items: Iterable[_Item],
    poll: Callable[[], None],
) -> Iterator[tuple[_Item, "Future[_Result]"]]:
    """Yield each item with what a worker has made of it, in the order of the items; ``poll`` looks for signals.

    One more than there are workers is begun ahead: what they come to waits in memory. Raises BrokenExecutor when
    a worker is lost.
    """
    begun: deque[tuple[_Item, Future[_Result]]] = deque()
    waiting = iter(items)
    while True:
        for item in islice(waiting, workers.count + 2 - len(begun)):
            begun.append((item, submit(item)))
        if not begun:
            return
        future = begun[0][1]
        poll()
        while not wait([future], POLL_SECONDS).done:
            poll()
            workers.look()
        error = CancelledError() if future.cancelled() else future.exception()
        if isinstance(error, workers.lost):
            raise BrokenExecutor from error
        yield begun.popleft()
