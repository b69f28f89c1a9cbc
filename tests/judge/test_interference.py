"""What the system may do to a run: stop it for a while, or fail to write."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from importer.errors import ExitCode
from judge.history import Death
from judge.trace import has_strace
from judge.world import ForkServer, World
from misbehaviour import Simulator

CALLS = 12


@pytest.mark.fault(99)
def test_stopped_and_continued(server: ForkServer, simulator: Simulator, tmp_path: Path) -> None:
    """A run that is stopped with a request in flight reads the answer when it goes on, and sends nothing twice."""
    simulator.latency_seconds = 0.1
    world = World(tmp_path / "world", simulator, server)
    run = world.start("import", world.add_file("a.csv", range(4)))
    while len(simulator.arrivals) < 2:
        time.sleep(0.005)
    world.send(run, signal.SIGSTOP)
    time.sleep(0.4)
    world.send(run, signal.SIGCONT)
    assert world.finish(run) == ExitCode.OK
    assert len(simulator.arrivals) == 4
    assert world.breaches() == []


@pytest.mark.fault(107)
@pytest.mark.slow
@pytest.mark.skipif(not has_strace(), reason="strace is missing or may not trace")
@pytest.mark.parametrize("number", [1, 4, 7, 8, 9, 14, 15])
def test_sync_fails_once(server: ForkServer, simulator: Simulator, tmp_path: Path, number: int) -> None:
    """The nth sync that fails ends the run with 74 at once; nothing that it sent is sent again."""
    world = World(tmp_path / "world", simulator, server)
    path = world.add_file("a.csv", range(CALLS))
    world.run("import", path, options=("--limit", "1"))
    job = world.job(("deliver", "--results", str(tmp_path / "r.csv")), 0, None)
    strace = ("strace", "-f", "-qq", "-o", "/dev/null", "-e", "trace=fdatasync")
    inject = ("-e", f"inject=fdatasync:error=EIO:when={number}")
    environment = job["environment"]
    assert isinstance(environment, dict)
    ran = subprocess.run(
        [*strace, *inject, sys.executable, "-m", "importer", "deliver", "--results", str(tmp_path / "r.csv")],
        env=os.environ | environment,
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    sent = len(simulator.arrivals)
    assert (ran.returncode, sent < CALLS) == (ExitCode.LEDGER, True), ran.stderr
    world.deaths.append(Death(time.monotonic()))  # the one in flight, as after a kill
    world.deliver_all()
    print(f"sync {number} failed: {sent} sent before, {len(world.in_state('uncertain'))} uncertain")
    assert world.breaches() == []
