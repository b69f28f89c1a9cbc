"""What the ledger costs: calls per second of a real delivery against a bare pool of requests sessions.

Both post the same calls over loopback to the simulator in another process, with the same number of workers and no
limit of rate in effect. The processor's time is that of the posting process. A call needs two syncs of the disk.
"""

import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import requests

from importer.errors import ExitCode
from importer.formats.catalogue import load_catalogue
from importer.ledger.ledger import Ledger
from importer.ledger.reader import open_reader
from importer.ledger.schema import create_ledger
from importer.ledger.values import RunInfo
from importer.pipeline.run import Run
from importer.pipeline.stages import carry_out
from importer.records import Call, Place
from importer.settings.credentials import load_credentials
from importer.settings.options import Settings
from importer.settings.values import Rate
from schemas.vocabulary import CallState, State

CALLS = 1000
SYNCS = 200
NOW = "2026-03-02 15:00:00"

Seconds = tuple[float, float]


@contextmanager
def sandbox() -> Iterator[str]:
    """Run the simulator in a process of its own, put its account into the environment, give its base URL."""
    command = [sys.executable, "-u", "-m", "importer", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
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


def seconds_of(work: Callable[[], object]) -> Seconds:
    """Return what work takes: by the clock, and by the processor in this process."""
    clock, processor = time.perf_counter(), time.process_time()
    work()
    return time.perf_counter() - clock, time.process_time() - processor


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


def bare(base_url: str, token: str, todo: list[Call], workers: int) -> Seconds:
    """Return the seconds of one requests session per worker, nothing recorded."""
    headers = {"Authorization": f"Zoho-oauthtoken {token}"}

    def work(mine: list[Call]) -> None:
        with requests.Session() as session:
            session.trust_env = False
            for call in mine:
                url = f"{base_url}/phonebridge/v3/callnotify"
                form = {"type": "dialed", "state": call.state, "id": call.call_id, "start_time": call.start_time}
                form |= {"from": call.agent_number, "to": call.customer_number}
                assert session.post(url, data=form, headers=headers, timeout=30).status_code == 200

    def post() -> None:
        with ThreadPoolExecutor(workers) as pool:
            list(pool.map(work, [todo[number::workers] for number in range(workers)]))

    return seconds_of(post)


def ours(folder: Path, round_name: str, todo: list[Call], workers: int) -> Seconds:
    """Return the seconds of `deliver` with all its records, its start and end included."""
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
    seconds = seconds_of(lambda: carry_out(run, None, credentials))
    with open_reader(path) as ledger:
        assert ledger.counts()[CallState.ACCEPTED] == len(todo)
    return seconds


def sync_seconds(folder: Path) -> float:
    """Return what making 8 KiB durable takes here."""
    with (folder / "synced").open("wb", buffering=0) as stream:
        start = time.perf_counter()
        for _ in range(SYNCS):
            stream.write(bytes(8192))
            os.fdatasync(stream.fileno())
        return (time.perf_counter() - start) / SYNCS
