"""Kill -9 at random moments, hundreds of times: judged by the rules of delivery."""

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from judge.world import ForkServer, World
from misbehaviour import ORDINARY, Fault, Simulator

KILLS_PER_SEED = 70
AMBIGUOUS = (
    Fault(reset_after_reading=True),
    Fault(reset_after_reading=True, store=True),
    Fault(reset_before_reading=True),
    Fault.cut_answer(),
)
CLEAR = (Fault.refusal("INVALID_DATA"), Fault(status=408))


def test_fork_server_has_one_thread(server: ForkServer) -> None:
    """No thread is lost in a fork: there is one, and jemalloc's, which starts again by itself in a child."""
    assert sorted(set(server.threads) - {"jemalloc_bg_thd"}) == server.threads[:1]


@pytest.mark.fault(90, 117)
def test_kill_once(server: ForkServer, simulator: Simulator, tmp_path: Path) -> None:
    """A run killed with calls in flight leaves those uncertain and the rest pending, and `deliver` goes on."""
    world = World(tmp_path / "world", simulator, server)
    simulator.latency_seconds = 0.05
    run = world.start("import", world.add_file("one.csv", range(60)), workers=4)
    while len(simulator.arrivals) < 10:
        time.sleep(0.002)
    world.kill_after(run, 0.02)
    assert len(world.deaths) == 1
    world.deliver_all()
    assert world.breaches() == []
    assert 1 <= len(world.in_state("uncertain")) <= 4


def faults(chance: random.Random) -> Iterator[Fault]:
    """Yield 3 % lost answers, half of those taken in, and some refusals."""
    while True:
        dice = chance.random()
        yield chance.choice(AMBIGUOUS) if dice < 0.03 else chance.choice(CLEAR) if dice < 0.035 else ORDINARY


@pytest.mark.fault(90)
@pytest.mark.slow
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_kill_again_and_again(server: ForkServer, simulator: Simulator, tmp_path: Path, seed: int) -> None:
    """Kills at random moments of `import` and `deliver` lose no call and send none twice."""
    began, chance = time.monotonic(), random.Random(seed)
    world = World(tmp_path / "world", simulator, server)
    simulator.latency_seconds = 0.008
    # The token is in the cache before the first kill: more than two sign-ins within ten minutes end a run.
    world.run("import", world.add_file("first.csv", range(29_000, 29_002)))
    source = faults(chance)
    simulator.script(*(next(source) for _ in range(6000)))
    files, numbers, checked = [], iter(range(10**6)), 0
    while len(world.deaths) < KILLS_PER_SEED:
        if not files or chance.random() < 0.4:
            files.append(world.add_file(f"day{len(files)}.csv", [next(numbers) for _ in range(30)]))
        command = ("import", chance.choice(files[-3:])) if chance.random() < 0.6 else ("deliver",)
        run = world.start(*command, workers=chance.choice((1, 4)), options=("--max-errors", "90%"))
        world.kill_after(run, chance.random() * 0.35)
        if len(world.deaths) // 20 > checked:
            checked = len(world.deaths) // 20
            assert world.breaches() == []
    for file in files:
        world.run("import", file, workers=4, options=("--max-errors", "90%"))
    world.deliver_all()
    states = world.states()
    uncertain = len(world.in_state("uncertain"))
    print(
        f"seed {seed}: {len(world.deaths)} kills, {uncertain} uncertain ({uncertain / len(world.deaths):.2f} a "
        f"kill), {len(world.in_state('accepted'))} of {len(states)} accepted, {len(simulator.arrivals)} requests, "
        f"{time.monotonic() - began:.0f} s"
    )
    assert world.breaches() == []
    assert len(states) == 30 * len(files) + 2
