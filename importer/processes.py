"""Tasks done side by side, and the processes of this machine that do them.

The seam is `concurrent.futures.Executor`: a task is a function with arguments that pickle, and returns what
pickles. A server that has loaded the libraries once forks the processes. It is started anew, since a fork of this
one would have its secrets, the lock on the ledger, and threads that stand still.
"""

import gc
import os
import signal
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import BrokenExecutor, CancelledError, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, TypeVar

from importer.errors import ImporterError
from importer.settings.options import ENVIRONMENT_PREFIX

POLL_SECONDS = 0.1
"""So often a signal is looked for while workers read."""

_LOADED_ONCE = ["importer.cli", "importer.prepare.preparation", "pandera.backends.pandas.register"]
"""Modules that every worker needs; the last is what pandera loads with the first schema."""

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


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
def _left_alone() -> Iterator[None]:
    """Start processes inside: they get none of our secrets, and a signal to all of them ends this one only."""
    from multiprocessing import resource_tracker

    ours = {name: os.environ.pop(name) for name in [*os.environ] if name.startswith(ENVIRONMENT_PREFIX)}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, ())
    try:
        resource_tracker.ensure_running()  # unblocks signals here when it starts
        # What is blocked here stays so there.
        signal.pthread_sigmask(signal.SIG_BLOCK, (signal.SIGHUP, signal.SIGINT, signal.SIGTERM))
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        os.environ.update(ours)


def begin_server() -> bool:
    """Start the server of `working`, which loads the libraries while this process does; return whether it runs.

    It does not where the system gives no further process, or `TMPDIR` is too long for the path of a socket.
    """
    from multiprocessing import forkserver

    forkserver.set_forkserver_preload(_LOADED_ONCE)
    with suppress(OSError), _left_alone():
        forkserver.ensure_running()
        return True
    return False


def _end_server() -> None:
    """End the server, if one was started: it has 100 MB, and calls may be sent for hours."""
    if server := sys.modules.get("multiprocessing.forkserver"):

        def stop() -> None:
            # The folder of its socket goes first where the program ends meanwhile.
            with suppress(FileNotFoundError):
                server._forkserver._stop()

        # CPython 3.11 to 3.14 have no public way. It waits until the workers have ended too.
        threading.Thread(target=stop, daemon=True).start()


@contextmanager
def working(count: int) -> Iterator[Workers | None]:
    """Give so many processes, none for fewer than two or without a server; they and it end with the context.

    Raises ImporterError for a BrokenExecutor, wherever one shows.
    """
    if count < 2 or not begin_server():
        yield None
        _end_server()  # where fewer are worth their start than it seemed
        return
    # Loaded where they are needed: a small file does without.
    import multiprocessing
    from concurrent.futures import ProcessPoolExecutor
    from multiprocessing.context import ForkServerProcess

    # Where one dies, CPython 3.12 and later end the others by a signal that is blocked in them, and hold
    # a lock that `submit` asks for until they have ended: the run would stand still for ever.
    ForkServerProcess.terminate = ForkServerProcess.kill  # type: ignore[method-assign]
    executor = ProcessPoolExecutor(count, multiprocessing.get_context("forkserver"), _begin)
    try:
        try:
            with _left_alone():  # also where the server is gone and begins anew
                # Starts all: CPython 3.11 notices the end of the last only when it has more to do.
                for _ in range(count + 1):
                    executor.submit(int)
        except (EOFError, OSError) as error:  # the server was killed meanwhile
            raise BrokenExecutor from error
        yield Workers(executor.submit, count)
    except BaseException as error:
        for child in multiprocessing.active_children():  # nobody needs what they have begun
            child.kill()
        if sys.version_info < (3, 11, 5):  # it would wait for ever to write a task that is larger than a pipe
            executor._call_queue._reader.close()  # type: ignore[attr-defined]
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
    _end_server()


def _begin() -> None:
    """End when the process ends that began this one, and collect no modules."""
    threading.Thread(target=_end_with_parent, daemon=True).start()
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def _end_with_parent() -> None:
    """Wait for the end of the process that began this one; the queue between them does not show it."""
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
