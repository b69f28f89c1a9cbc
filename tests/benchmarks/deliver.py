"""What the ledger costs: calls per second of a real delivery against a bare pool of requests sessions.

Both post the same calls over loopback to the simulator in another process, with the same number of workers and no
limit of rate in effect. Prints the best of some rounds each, and what one sync of the disk takes, of which a call
needs two.

Usage: python tests/benchmarks/deliver.py [CALLS]     (default 1,000)
"""

import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import requests

from importer.client import form_of
from importer.errors import ExitCode
from importer.formats import load_catalogue
from importer.ledger import Ledger, RunInfo, create_ledger
from importer.pipeline import Run, deliver_pending
from importer.records import Call, Place
from importer.settings import Rate, Settings, load_credentials
from schemas.vocabulary import Outcome, State

CALLS = 1000
ROUNDS = 3
WORKERS = (1, 4, 16)
SYNCS = 200
NOW = "2026-03-02 15:00:00"


@contextmanager
def sandbox() -> Iterator[str]:
    """Run the simulator in a process of its own, put its account into the environment, give its base URL."""
    command = [sys.executable, "-u", "-m", "importer", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "export " in line:
                os.environ.update(word.split("=", 1) for word in line.split()[1:])
            if "Ctrl-C" in line:
                break
        try:
            yield os.environ["CDR_IMPORTER_API_URL"]
        finally:
            process.terminate()
            process.communicate(timeout=10)


def calls(round_name: str, count: int) -> list[Call]:
    """Return so many calls with ids of their own."""
    place = Place("export.csv", 2)
    return [
        Call(f"{round_name}c{number}", State.BUSY, "+12125550101", "+12125550102", NOW, "", "", "", place)
        for number in range(count)
    ]


def access_token(base_url: str) -> str:
    """Return a token of the simulator."""
    account = {name: os.environ[f"CDR_IMPORTER_{name.upper()}"] for name in ("client_id", "client_secret")}
    form = {**account, "refresh_token": os.environ["CDR_IMPORTER_REFRESH_TOKEN"], "grant_type": "refresh_token"}
    answer = requests.post(f"{base_url}/oauth/v2/token", data=form, timeout=10).json()
    return str(answer["access_token"])


def bare_rate(base_url: str, token: str, todo: list[Call], workers: int) -> float:
    """Return calls per second of one requests session per worker, nothing recorded."""
    headers = {"Authorization": f"Zoho-oauthtoken {token}"}

    def work(mine: list[Call]) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for call in mine:
                url = f"{base_url}/phonebridge/v3/callnotify"
                assert session.post(url, data=form_of(call), headers=headers, timeout=30).status_code == 200

    start = time.perf_counter()
    with ThreadPoolExecutor(workers) as pool:
        list(pool.map(work, [todo[number::workers] for number in range(workers)]))
    return len(todo) / (time.perf_counter() - start)


def our_rate(folder: Path, round_name: str, todo: list[Call], workers: int) -> float:
    """Return calls per second of `deliver` with all its records."""
    path = folder / f"{round_name}.sqlite"
    create_ledger(path, now=NOW)
    with Ledger.open(path, run=RunInfo("staging", NOW, "0"), now=lambda: NOW) as ledger:
        with ledger.staging() as staging:
            staging.add(todo, retry_refused=False, resend_uncertain=False)
        ledger.finish_run(ExitCode.OK, "{}")
    settings = Settings(
        ledger=path,
        results=folder / f"{round_name}.csv",
        workers=workers,
        rate=Rate(900_000_000, 1.0),
        accounts_url=os.environ["CDR_IMPORTER_ACCOUNTS_URL"],
        api_url=os.environ["CDR_IMPORTER_API_URL"],
    )
    credentials = load_credentials(os.environ)
    run = Run(settings, load_catalogue())
    start = time.perf_counter()
    summary = deliver_pending(run, credentials)
    seconds = time.perf_counter() - start
    assert summary.outcomes[Outcome.ACCEPTED] == len(todo)
    return len(todo) / seconds


def sync_seconds(folder: Path) -> float:
    """Return what making 8 KiB durable takes here."""
    with (folder / "synced").open("wb", buffering=0) as stream:
        start = time.perf_counter()
        for _ in range(SYNCS):
            stream.write(bytes(8192))
            os.fdatasync(stream.fileno())
        return (time.perf_counter() - start) / SYNCS


def main(count: int) -> None:
    """Print a line per number of workers."""
    with tempfile.TemporaryDirectory() as folder, sandbox() as base_url:
        os.environ["HOME"] = folder
        token = access_token(base_url)
        print(f"one sync {sync_seconds(Path(folder)) * 1000:.2f} ms")
        for workers in WORKERS:
            ours = bare = 0.0
            for number in range(ROUNDS):
                name = f"w{workers}r{number}"
                bare = max(bare, bare_rate(base_url, token, calls(f"{name}b", count), workers))
                ours = max(ours, our_rate(Path(folder), name, calls(f"{name}o", count), workers))
            print(f"{workers} workers: {ours:.0f} calls/s of {bare:.0f} bare, ratio {ours / bare:.2f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else CALLS)
