"""A death at every step of a run, a stop, a failed sync, a power cut: what is left, and what the next run does."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from conftest import wait_until
from importer.errors import ExitCode
from judge.history import Death, ledger_of
from judge.trace import has_strace, power_cut_breaches, requests, trace_of_import
from judge.world import ForkServer, World
from misbehaviour import Simulator
from steps import Step

CALLS = 12


@dataclass(frozen=True)
class Left:
    """What a death at a step must leave.

    ``in_flight`` calls are `sending`, so uncertain at the next start; ``taken_in``: the calls of the input are in
    the ledger, and the next run completes the results; ``per_call``: the step comes once for each call; ``sent``:
    how many requests the service has seen at the step's nth time, less n.
    """

    in_flight: int = 0
    taken_in: bool = True
    per_call: bool = False
    sent: int | None = None


LEFT = {
    Step.LOCKED: Left(taken_in=False, sent=-1),
    Step.RECOVERED: Left(taken_in=False, sent=-1),
    Step.RESULTS_CREATED: Left(taken_in=False, sent=-1),
    Step.ROWS_SYNCED: Left(taken_in=False, sent=-1),
    Step.STAGED: Left(sent=-1),
    Step.TOKEN: Left(per_call=True, sent=-1),
    Step.BEFORE_INTENT: Left(per_call=True, sent=-1),
    Step.INTENT_DURABLE: Left(in_flight=1, per_call=True, sent=-1),
    Step.WRITTEN: Left(in_flight=1, per_call=True),
    Step.ANSWERED: Left(in_flight=1, per_call=True, sent=0),
    Step.SETTLED: Left(per_call=True, sent=0),
    Step.NOTED: Left(per_call=True, sent=0),
    Step.RESULTS_PART_SYNCED: Left(),
    Step.RESULTS_LINKED: Left(),
    Step.REJECTS_WRITTEN: Left(),
    Step.RUN_FINISHED: Left(),
}
"""Every step; the words beside it in `steps` say the same."""

IMPORT_ONLY = frozenset({Step.ROWS_SYNCED, Step.STAGED, Step.REJECTS_WRITTEN})


assert set(LEFT) == set(Step), "a step without a row is a moment at which nobody tried a death"


@pytest.mark.fault(91, 101)
@pytest.mark.slow
@pytest.mark.parametrize("command", ["import", "deliver"])
def test_death_at_a_step(server: ForkServer, simulator: Simulator, tmp_path: Path, command: str) -> None:
    """A death leaves what the table says, and the next run completes the rest: nothing lost, nothing doubled.

    One ledger dies at every step in turn, each time with calls of an earlier run and, in an import, of its own.
    """
    world = World(tmp_path / "world", simulator, server)
    steps = {step: left for step, left in LEFT.items() if command == "import" or step not in IMPORT_ONLY}
    cases = [
        (step, left, nth)
        for step, left in steps.items()
        for nth in ((1, 3) if left.per_call else (1, 2) if step is Step.RESULTS_CREATED else (1,))
    ]
    exports: list[Path] = []
    for number, (step, left, nth) in enumerate(cases):
        first = CALLS * number
        earlier = world.add_file(f"earlier-{number}.csv", range(first, first + 6))
        world.run("import", earlier, options=("--limit", "1"))
        known, sent, uncertain = len(world.states()), len(simulator.arrivals), len(world.in_state("uncertain"))
        own = [world.add_file(f"own-{number}.csv", range(first + 6, first + CALLS))] if command == "import" else []
        exports += [earlier, *own]
        rejects = ("--rejects", str(tmp_path / f"rejects-{number}.csv")) if own else ()
        dead = world.start(command, *own, options=rejects, at=(step, nth, signal.SIGKILL))
        assert world.finish(dead) == -signal.SIGKILL, (step, nth)
        states = world.states()
        assert list(states.values()).count("sending") == left.in_flight, (step, nth)
        assert len(states) - known == (6 if own and left.taken_in else 0), (step, nth)
        if left.sent is not None:
            wanted = left.sent + nth if left.per_call else 0
            assert len(simulator.arrivals) - sent == wanted, (step, nth)
        world.run("deliver")
        assert len(world.in_state("uncertain")) - uncertain == left.in_flight, (step, nth)
        if own or left.taken_in:
            assert dead.results.exists() is left.taken_in, (step, nth)
        assert (world.breaches(), list(world.folder.glob("*.part"))) == ([], []), (step, nth)
    world.run("import", *exports)
    states = world.states()
    assert len(states) == 6 * len(exports) and set(states.values()) <= {"accepted", "uncertain"}
    assert world.breaches() == []


@pytest.mark.fault(100)
@pytest.mark.slow
def test_recovery_killed(server: ForkServer, simulator: Simulator, tmp_path: Path) -> None:
    """Recovery that is itself killed, again and again, comes to the same in the end."""
    world = World(tmp_path / "world", simulator, server)
    path = world.add_file("own.csv", range(6, 12))
    dead = world.start("import", path, at=(Step.WRITTEN, 3, signal.SIGKILL))
    assert world.finish(dead) == -signal.SIGKILL
    uncertain = [call_id for call_id, held in ledger_of(world.ledger)[0].items() if held.state == "sending"]
    for step in (Step.LOCKED, Step.RECOVERED, Step.RESULTS_CREATED, Step.RECOVERED):
        assert world.run("deliver", at=(step, 1, signal.SIGKILL)) == -signal.SIGKILL
    world.deliver_all()
    assert world.in_state("uncertain") == uncertain
    assert dead.results.exists()
    assert world.breaches() == []


def test_fork_server_has_one_thread(server: ForkServer) -> None:
    """No thread is lost in a fork: there is one, and jemalloc's, which starts again by itself in a child."""
    assert sorted(set(server.threads) - {"jemalloc_bg_thd"}) == server.threads[:1]


@pytest.mark.fault(90, 117)
def test_kill_once(server: ForkServer, simulator: Simulator, tmp_path: Path) -> None:
    """A run killed with calls in flight leaves those uncertain and the rest pending, and `deliver` goes on."""
    world = World(tmp_path / "world", simulator, server)
    simulator.latency_seconds = 0.05
    run = world.start("import", world.add_file("one.csv", range(60)), workers=4)
    wait_until(lambda: len(simulator.arrivals) >= 10)
    world.kill_after(run, 0.02)
    assert len(world.deaths) == 1
    world.deliver_all()
    assert world.breaches() == []
    assert 1 <= len(world.in_state("uncertain")) <= 4


@pytest.mark.fault(99)
def test_stopped_and_continued(server: ForkServer, simulator: Simulator, tmp_path: Path) -> None:
    """A run that is stopped with a request in flight reads the answer when it goes on, and sends nothing twice."""
    simulator.latency_seconds = 0.1
    world = World(tmp_path / "world", simulator, server)
    run = world.start("import", world.add_file("a.csv", range(4)))
    wait_until(lambda: len(simulator.arrivals) >= 2)
    world.send(run, signal.SIGSTOP)
    time.sleep(0.4)
    world.send(run, signal.SIGCONT)
    assert world.finish(run) == ExitCode.OK
    assert len(simulator.arrivals) == 4
    assert world.breaches() == []


@pytest.mark.fault(107, 114)
@pytest.mark.slow
@pytest.mark.skipif(not has_strace(), reason="strace is missing or may not trace")
@pytest.mark.parametrize(
    ("call", "failure"),
    [
        *(("fdatasync", f"EIO:when={number}") for number in (1, 4, 7, 8, 9, 14, 15)),
        *(("pwrite64", f"EDQUOT:when={number}+") for number in (3, 9, 14)),
    ],
)
def test_write_fails(server: ForkServer, simulator: Simulator, tmp_path: Path, call: str, failure: str) -> None:
    """A sync that fails once, or writes beyond a quota, end the run with 74 at once; nothing is sent twice."""
    world = World(tmp_path / "world", simulator, server)
    world.run("import", world.add_file("a.csv", range(CALLS)), options=("--limit", "1"))
    strace = f"strace -f -qq -o /dev/null -e trace={call} -e inject={call}:error={failure}".split()
    ran = subprocess.run(
        [*strace, sys.executable, "-m", "importer", "deliver", "--results", str(tmp_path / "r.csv")],
        env=os.environ | world.environment("deliver"),
        stderr=subprocess.PIPE,
        timeout=60,
        check=False,
    )
    assert (ran.returncode, len(simulator.arrivals) < CALLS) == (ExitCode.LEDGER, True), ran.stderr
    world.deaths.append(Death(time.monotonic()))  # the one in flight, as after a kill
    world.deliver_all()
    assert world.breaches() == []


@pytest.mark.fault(102)
@pytest.mark.slow
@pytest.mark.skipif(not has_strace(), reason="strace is missing or may not trace")
@pytest.mark.parametrize("workers", [1, 4])
def test_every_intent_is_durable_before_its_request(simulator: Simulator, tmp_path: Path, workers: int) -> None:
    """No byte of a request leaves before its intent is synced, and a power cut as it leaves hides none."""
    simulator.latency_seconds = 0.01
    trace = trace_of_import(tmp_path, simulator, 30, workers=workers)
    assert len(requests(trace)) == 30
    assert power_cut_breaches(trace, tmp_path, simulator) == []
