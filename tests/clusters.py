"""A Dask cluster on this machine: a scheduler and workers, each a process of its own."""

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path

LONGEST_SECONDS = 60
REASON = "" if find_spec("distributed") else "the extra `cluster` is not installed"
"""Why there can be no cluster; empty where there can."""


@dataclass
class Cluster:
    """A scheduler and its workers, whose files stand in ``folder``; ``environment`` are further variables."""

    folder: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    address: str = ""
    processes: list[subprocess.Popen[bytes]] = field(default_factory=list)

    def begin(self, *words: str, **variables: str) -> subprocess.Popen[bytes]:
        """Begin a process of it in its folder."""
        command = [sys.executable, "-m", "dask", *words, "--host", "127.0.0.1", "--no-dashboard"]
        environment = {**os.environ, **self.environment, **variables}
        process = subprocess.Popen(
            command, cwd=self.folder, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        self.processes.append(process)
        return process

    def worker(self, **variables: str) -> subprocess.Popen[bytes]:
        """Begin a worker that nothing starts again."""
        return self.begin("worker", self.address, "--nthreads", "1", "--no-nanny", **variables)


@contextmanager
def cluster(folder: Path, workers: int, **environment: str) -> Iterator[Cluster]:
    """Give a cluster of so many workers; ``processes`` are its scheduler and then these."""
    folder.mkdir()
    found, place = Cluster(folder, environment), folder / "scheduler.json"
    try:
        found.begin("scheduler", "--port", "0", "--scheduler-file", str(place))
        deadline = time.monotonic() + LONGEST_SECONDS
        while not found.address:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            if place.exists() and (written := place.read_text(encoding="utf-8")):
                found.address = json.loads(written)["address"]
        for _ in range(workers):
            found.worker()
        yield found
    finally:
        for process in found.processes:
            process.kill()
            process.wait()
