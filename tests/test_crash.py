"""Kill -9 at any moment: no call is lost, none is sent twice, and few are left for a person."""

import json
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import datetime
from pathlib import Path

import pytest

from conftest import Ran, call_row, write_export
from importer.ledger import open_reader
from importer.simulator import Behaviour, Simulator

Program = Callable[..., Ran]

WORKERS = 4
KILLS = 20
CALLS = 600
RATE = 20
MEASURED_SECONDS = 10
WAIT_SECONDS = 20


def started(*arguments: str | Path) -> subprocess.Popen[bytes]:
    """Return the program running in another process."""
    command = [sys.executable, "-m", "importer", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def kill_after_calls(process: subprocess.Popen[bytes], simulator: Simulator, calls: int, seconds: float) -> bool:
    """Kill the process some seconds after so many requests of its own; say whether it was still running."""
    before = len(simulator.arrivals)
    with process:
        while process.poll() is None and len(simulator.arrivals) - before < calls:
            time.sleep(0.002)
        time.sleep(seconds)
        still_running = process.poll() is None
        process.send_signal(signal.SIGKILL)
    return still_running


def states(ledger: Path) -> dict[str, int]:
    """Return the calls of a ledger by state."""
    with open_reader(ledger) as reader:
        return {state.value: count for state, count in reader.counts().items()}


def integrity(ledger: Path) -> str:
    """Return what SQLite says of the file."""
    with closing(sqlite3.connect(ledger)) as connection:
        return str(connection.execute("PRAGMA integrity_check").fetchone()[0])


def assert_nothing_lost_or_doubled(simulator: Simulator, ledger: Path, calls: int, kills: int) -> None:
    """Check the promise of section 7 after everything was delivered."""
    counts = states(ledger)
    taken = Counter(call["id"] for call in simulator.accepted)
    assert integrity(ledger) == "ok"
    assert [call_id for call_id, times in taken.items() if times > 1] == []
    assert counts["accepted"] + counts["uncertain"] == calls
    assert counts["uncertain"] <= kills * WORKERS
    assert counts["accepted"] <= len(taken) <= counts["accepted"] + counts["uncertain"]


def test_kill_once(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A run killed with calls in flight leaves those uncertain and the rest pending, and `deliver` goes on."""
    account.behaviour = Behaviour(latency_seconds=0.05)
    path = write_export(tmp_path / "export.csv", (call_row(number) for number in range(60)))
    process = started("import", "--init-ledger", "--workers", str(WORKERS), path)
    assert kill_after_calls(process, account, calls=10, seconds=0.02)
    account.behaviour = Behaviour()
    ran = program("deliver")
    assert (ran.code, states(tmp_path / "ledger.sqlite")["uncertain"] > 0) == (4, True)
    assert_nothing_lost_or_doubled(account, tmp_path / "ledger.sqlite", calls=60, kills=1)


@pytest.mark.slow
def test_kill_again_and_again(program: Program, account: Simulator, tmp_path: Path) -> None:
    """Twenty kills at random moments of `import` and `deliver` lose no call and send none twice."""
    chance = random.Random(20261123)
    account.behaviour = Behaviour(latency_seconds=0.01)
    path = write_export(tmp_path / "export.csv", (call_row(number) for number in range(CALLS)))
    program("import", "--init-ledger", "--limit", "1", path)
    killed = 0
    for _ in range(KILLS):
        arguments = ("import", path) if chance.random() < 0.5 else ("deliver",)
        process = started(*arguments, "--workers", str(WORKERS), "--batch-size", "13")
        calls = chance.choice((0, 1, 1, 5, 20, 40))
        killed += kill_after_calls(process, account, calls, chance.random() * (1.0 if calls == 0 else 0.1))
    account.behaviour = Behaviour()
    while states(tmp_path / "ledger.sqlite")["pending"]:
        program("deliver")
    print(f"{killed} kills, {states(tmp_path / 'ledger.sqlite')}")
    assert killed >= KILLS // 2
    assert_nothing_lost_or_doubled(account, tmp_path / "ledger.sqlite", CALLS, killed)


@contextmanager
def sandbox(environment: dict[str, str]) -> Iterator[str]:
    """Run `cdr-importer sandbox` in a process of its own; give its base URL."""
    command = [sys.executable, "-u", "-m", "importer", "sandbox", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "export " in line:
                environment.update(word.split("=", 1) for word in line.split()[1:])
            if "Ctrl-C" in line:
                break
        try:
            yield environment["CDR_IMPORTER_API_URL"]
        finally:
            process.terminate()
            process.communicate(timeout=WAIT_SECONDS)


def worst_second(moments: list[float]) -> int:
    """Return the most arrivals in any half-open second."""
    return max(sum(start <= moment < start + 1 for moment in moments) for start in moments)


@pytest.mark.slow
def test_rate_is_kept_at_the_server(tmp_path: Path) -> None:
    """No second at the server sees more than the rate, and the mean stays near it."""
    path = write_export(tmp_path / "export.csv", (call_row(number) for number in range(RATE * MEASURED_SECONDS)))
    environment = {**os.environ, "CDR_IMPORTER_LEDGER": str(tmp_path / "ledger.sqlite")}
    with sandbox(environment) as base_url:
        arguments = ("import", "--init-ledger", "--rate", f"{RATE}/second", "--workers", str(WORKERS), str(path))
        subprocess.run([sys.executable, "-m", "importer", *arguments], env=environment, check=True)
        with urllib.request.urlopen(f"{base_url}/sandbox/calls") as answer:
            arrived = [call["arrived_at"] for call in json.load(answer)]
    moments = sorted(seconds_of(each) for each in arrived)
    mean = (len(moments) - RATE) / (moments[-1] - moments[0])
    print(f"worst second {worst_second(moments)}, mean {mean:.2f} of {RATE} in {moments[-1] - moments[0]:.1f} s")
    assert worst_second(moments) <= RATE
    assert mean >= 0.9 * RATE


def seconds_of(arrived_at: str | float) -> float:
    """Return the simulator's moment in seconds."""
    return arrived_at if isinstance(arrived_at, float) else datetime.fromisoformat(arrived_at).timestamp()
