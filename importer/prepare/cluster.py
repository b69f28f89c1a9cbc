"""Preparing files, and parts of large ones, on the workers of a Dask cluster (https://distributed.dask.org).

A worker reads the file by its path, and gets neither secrets nor the ledger. It returns the calls to be looked up
there; where the ledger has some of them, the part is prepared again.
"""

import logging
import sys
import threading
import time
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import BrokenExecutor, CancelledError, Future
from contextlib import contextmanager, suppress
from dataclasses import replace
from importlib.metadata import PackageNotFoundError, version
from typing import Any

from importer.errors import ConfigurationError, ImporterError
from importer.formats.detected import Detection
from importer.formats.language import CauseTable
from importer.prepare.plan import PreparePlan
from importer.prepare.preparation import PreparedPart, prepare_part
from importer.processes import Workers, in_order
from schemas.vocabulary import Role

CONNECT_SECONDS, FIRST_WORKER_SECONDS = 10, 20
ALONE_SECONDS = 30
"""A cluster without any worker for so long has none any more; one that was killed is started again sooner."""
LOOK_SECONDS = 10
DECIDING = ("cdr-importer", "distributed", "numpy", "pandas", "pandera", "phonenumberslite", "pyarrow", "tzdata")
"""Packages whose version must be the same here and there: each may decide about an outcome."""


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
                f"--scheduler {address}: scheduler or workers were killed or lost; nothing was taken in or sent",
                hint="Look into their logs, whether a machine was short of memory, then run again: without "
                "--scheduler this machine reads the files.",
                reason="worker_died",
            ) from error
        finally:
            with suppress(Exception):  # it may be gone
                client.close(timeout=CONNECT_SECONDS)


def _connected(address: str) -> Any:
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
        raise _unusable(address, "no scheduler can be reached there") from error


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
        raise ImporterError("a worker that came later has other versions of what decides about outcomes")
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
    """Yield each part with the result of a worker, prepared again where the ledger has calls of it."""

    def begun(part: Detection, known: Mapping[str, bool] | None) -> "Future[PreparedPart]":
        # Another machine has another number for a disk, and may have one for a file.
        pin = part.file.pinned and (0, 0, *part.file.pinned[2:])
        file = replace(part.file, path=part.file.path.absolute(), pinned=pin)
        return workers.submit(prepare, known, replace(part, file=file))

    def again(done: tuple[Detection, "Future[PreparedPart]"]) -> "Future[PreparedPart]":
        part, future = done
        found = held(future.result().asked) if held and not future.exception() else {}
        return begun(part, found) if found else future

    first = in_order(workers, lambda part: begun(part, {} if held else None), parts, poll)
    for (part, _), future in in_order(workers, again, first, poll):
        yield part, future
