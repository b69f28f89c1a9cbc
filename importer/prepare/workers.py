"""Who prepares files, and parts of large ones, side by side: processes of this machine, or a Dask cluster.

The seam is `concurrent.futures.Executor`: `prepare_part` is submitted with arguments that pickle and returns what
pickles, and reads the file by its path. The workers of a cluster (https://distributed.dask.org) get neither
secrets nor the ledger: they return of which calls it is to be asked, and prepare the parts of which it holds some
again.
"""

import gc
import logging
import os
import signal
import sys
import threading
import time
import warnings
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future, wait
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from importlib.metadata import PackageNotFoundError, version
from itertools import islice
from typing import Any, TypeVar

from importer.errors import ConfigurationError, ImporterError
from importer.formats import CauseTable, Detection
from importer.prepare.plan import PreparePlan
from importer.prepare.preparation import PreparedPart, prepare_part
from importer.settings.options import ENVIRONMENT_PREFIX
from schemas.vocabulary import Role

POLL_SECONDS = 0.1
"""So often a signal is looked for while workers read."""

CONNECT_SECONDS, FIRST_WORKER_SECONDS = 10, 20
ALONE_SECONDS = 30
"""A cluster without any worker for so long has none any more; one that was killed is started again sooner."""
LOOK_SECONDS = 10
DECIDING = ("cdr-importer", "distributed", "numpy", "pandas", "pandera", "phonenumberslite", "pyarrow", "tzdata")
"""Packages whose version must be the same here and there: each may decide about an outcome."""

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


# --- A cluster -------------------------------------------------------------------------------------------


@contextmanager
def on_cluster(address: str) -> Iterator[Workers]:
    """Give the workers of the cluster with this scheduler; what they have not finished at the end is cancelled.

    Raises ConfigurationError when it cannot be used, ImporterError when a task has ended worker after worker
    (`distributed.scheduler.allowed-failures`), the scheduler is gone, or no worker is left.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="dask|distributed|tornado")
        client = _connected(address)
        from distributed.scheduler import KilledWorker

        try:
            try:
                client.wait_for_workers(1, timeout=FIRST_WORKER_SECONDS)
            except TimeoutError:
                raise _unusable(address, f"it has no worker, also after {FIRST_WORKER_SECONDS} s") from None
            here, cluster = installed(), client.get_versions(packages=DECIDING)
            # The scheduler reads every task before it passes it on.
            machines = {f"worker {each}": found for each, found in cluster["workers"].items()}
            for name, found in {"scheduler": cluster["scheduler"], **machines}.items():
                there = {**found["packages"], "Python": ".".join(found["host"]["python"].split(".")[:2])}
                other = [
                    f"{package} {there.get(package) or 'missing'} (here {mine})"
                    for package, mine in here.items()
                    if there.get(package) != mine
                ]
                if other:
                    raise _unusable(address, f"its {name} has other versions: {', '.join(other)}")
            submit, threads = client.get_executor(pure=False).submit, sum(client.nthreads().values())
            yield Workers(submit, threads, (KilledWorker, CancelledError), _watch(client))
        except BrokenExecutor as error:
            raise ImporterError(
                f"--scheduler {address}: its workers were killed or lost; nothing was taken in or sent",
                hint="Look into their logs, whether a machine was short of memory, then run again: without "
                "--scheduler this machine reads the files.",
                reason="worker_died",
            ) from error
        finally:
            with suppress(Exception):  # it may be gone
                client.close(timeout=CONNECT_SECONDS)


def _connected(address: str) -> Any:
    """Return the client of a cluster."""
    try:
        from distributed import Client
    except ImportError:
        raise ConfigurationError(
            f"--scheduler {address}: what speaks to a Dask cluster is not installed",
            hint="Install it into the environment of this program, pip install 'cdr-importer[cluster]'.",
        ) from None
    noisy = ("asyncio", "distributed", "distributed.client", "distributed.gc", "tornado", "tornado.application")
    for name in noisy:
        logging.getLogger(name).handlers = [logging.NullHandler()]  # only `cli` prints
    connected: Future[Any] = Future()

    def connect() -> None:
        try:
            connected.set_result(Client(address, timeout=CONNECT_SECONDS, set_as_default=False))
        except BaseException as error:
            connected.set_exception(error)

    # Its own limit does not end the wait for a server of another kind, or one that is stopped.
    threading.Thread(target=connect, daemon=True).start()
    try:
        return connected.result(2 * CONNECT_SECONDS)
    except Exception as error:
        fault = str(error) or f"no answer within {2 * CONNECT_SECONDS} s"
        raise _unusable(address, f"no scheduler can be reached there: {fault}") from error


def _unusable(address: str, fault: str) -> ConfigurationError:
    hint = "Mend the address or the cluster, or leave --scheduler out: then this machine reads the files."
    return ConfigurationError(f"--scheduler {address}: {fault}", hint=hint)


def _watch(client: Any) -> Callable[[], None]:
    """Return a function that raises BrokenExecutor when the cluster has had no worker for `ALONE_SECONDS`."""
    seen = looked = time.monotonic()

    def look() -> None:
        nonlocal seen, looked
        if time.monotonic() - looked < LOOK_SECONDS:
            return
        with suppress(OSError):
            if client.nthreads(callback_timeout=LOOK_SECONDS):
                seen = time.monotonic()
        looked = time.monotonic()
        if looked - seen > ALONE_SECONDS:
            raise BrokenExecutor

    return look


def installed() -> Mapping[str, str | None]:
    """Return the versions here of what decides about outcomes."""
    found: dict[str, str | None] = dict.fromkeys(DECIDING)
    for name in DECIDING:
        with suppress(PackageNotFoundError):
            found[name] = version(name)
    return {**found, "Python": ".".join(map(str, sys.version_info[:2]))}


def prepare_elsewhere(
    versions: Mapping[str, str | None],
    causes: Mapping[str, CauseTable],
    plan: PreparePlan,
    roles: Mapping[str, Role] | None,
    held: Mapping[str, bool] | None,
    detection: Detection,
) -> PreparedPart:
    """Prepare a part as `prepare_part` does, with what the ledger holds of the calls ``asked`` about before."""
    if installed() != versions:
        raise RuntimeError("a worker that came later has other versions of what decides about outcomes")
    asked: dict[str, None] = {}

    def held_of(call_ids: Sequence[str]) -> Mapping[str, bool]:
        asked.update(dict.fromkeys(call_ids))
        return held or {}

    plan = replace(plan, held=None if held is None else held_of)
    return replace(prepare_part(causes, plan, detection, roles), asked=[*asked])


def prepared_on(
    workers: Workers,
    prepare: Callable[[Mapping[str, bool] | None, Detection], PreparedPart],
    held: Callable[[Sequence[str]], Mapping[str, bool]] | None,
    parts: Iterable[Detection],
    poll: Callable[[], None],
) -> Iterator[tuple[Detection, "Future[PreparedPart]"]]:
    """Yield each part with what a worker has made of it, knowing of which of its calls the ledger holds what."""

    def begun(part: Detection, known: Mapping[str, bool] | None) -> "Future[PreparedPart]":
        # Another machine has another number for a disk, and may have one for a file.
        pin = part.file.pinned and (0, 0, *part.file.pinned[2:])
        file = replace(part.file, path=part.file.path.absolute(), pinned=pin)
        return workers.submit(prepare, known, replace(part, file=file))

    def known(done: tuple[Detection, "Future[PreparedPart]"]) -> "Future[PreparedPart]":
        part, future = done
        found = held(future.result().asked) if held and not future.exception() else {}
        return begun(part, found) if found else future

    first = in_order(workers, lambda part: begun(part, {} if held else None), parts, poll)
    for (part, _), future in in_order(workers, known, first, poll):
        yield part, future
