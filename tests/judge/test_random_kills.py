"""Kill -9 once, with calls in flight: judged by the rules of delivery."""

import time
from pathlib import Path

import pytest

from judge.world import ForkServer, World
from misbehaviour import Simulator


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
