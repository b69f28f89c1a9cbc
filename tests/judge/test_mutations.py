"""Proof of the judge: seeded bugs must each be caught, and the program as it is must pass the same scenarios."""

import re
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from certificates import make_certificate
from judge.history import Post
from judge.mutations import MUTATIONS, Mutation, mutated_copy
from judge.test_power_cut import power_cut_breaches, trace_of_import
from judge.trace import has_strace, unordered_requests
from judge.world import ForkServer, World
from misbehaviour import ORDINARY, Fault, Simulator
from misbehaviour.connections import Peer, Server, https_url, send_garbage, under_tls
from steps import Step

Scenario = Callable[[World, Simulator], None]


def lost_answers(world: World, simulator: Simulator) -> None:
    """Lose two answers, one of a call taken in; then deliver the rest."""
    simulator.script(ORDINARY, Fault(reset_after_reading=True), ORDINARY, Fault.lost_answer())
    world.run("import", world.add_file("a.csv", range(6)))
    world.run("deliver")


def lost_then_imported(world: World, simulator: Simulator) -> None:
    """Import a call again whose answer was lost."""
    simulator.script(Fault.lost_answer())
    path = world.add_file("a.csv", range(3))
    world.run("import", path)
    world.run("import", path)


def lost_then_more(world: World, simulator: Simulator) -> None:
    """Lose an answer, and deliver what was left after it."""
    simulator.script(Fault.lost_answer())
    world.run("import", world.add_file("a.csv", range(4)), options=("--limit", "2"))
    world.run("deliver")


def redirect(world: World, simulator: Simulator) -> None:
    """Send the client elsewhere."""
    simulator.script(ORDINARY, Fault.redirect(f"{simulator.base_url}/phonebridge/v3/callnotify"))
    world.run("import", world.add_file("a.csv", range(3)))


def early_hints(world: World, simulator: Simulator) -> None:
    """Give an interim answer first, and refuse the call after it."""
    simulator.script(Fault(early_hints=True, delay_seconds=0.2), Fault.refusal("INVALID_DATA"))
    world.run("import", world.add_file("a.csv", range(3)))


def odd_successes(world: World, simulator: Simulator) -> None:
    """Give answers that look like success and are none, each in a run of its own."""
    for number, fault in enumerate(
        (Fault(drops=("code",)), Fault(changes={"code": "PARTIAL"}), Fault.login_page())
    ):
        simulator.script(fault)
        world.run("import", world.add_file(f"{number}.csv", [number]))


def cut_answers(world: World, simulator: Simulator) -> None:
    """Cut an answer short."""
    simulator.script(ORDINARY, Fault.cut_answer())
    world.run("import", world.add_file("a.csv", range(3)))


def two_runs(world: World, simulator: Simulator) -> None:
    """Begin a second run while one is in the middle of a request."""
    simulator.latency_seconds = 0.8
    first = world.start("import", world.add_file("a.csv", range(4)))
    while len(simulator.arrivals) < 2:
        time.sleep(0.005)
    world.run("deliver")
    world.finish(first)
    world.deliver_all()


def kill_in_flight(world: World, simulator: Simulator) -> None:
    """Kill a run between an answer and its record."""
    world.run("import", world.add_file("a.csv", range(5)), at=(Step.ANSWERED, 2, signal.SIGKILL))
    world.run("deliver")


def kill_before_send(world: World, simulator: Simulator) -> None:
    """Kill a run between an intent and its first byte."""
    world.run("import", world.add_file("a.csv", range(5)), at=(Step.INTENT_DURABLE, 2, signal.SIGKILL))
    world.run("deliver")


def changed_content(world: World, simulator: Simulator) -> None:
    """Import known calls with another state."""
    world.run("import", world.add_file("a.csv", range(3)))
    world.run("import", world.add_file("b.csv", range(3), state="noanswer"))


def refused_again(world: World, simulator: Simulator) -> None:
    """Import a refused call again unchanged."""
    simulator.script(Fault.refusal("INVALID_DATA"))
    path = world.add_file("a.csv", range(3))
    world.run("import", path)
    world.run("import", path)


def attended_since(world: World, simulator: Simulator) -> None:
    """Show attended what was accepted, refused and left pending; then import the first export again."""
    simulator.script(ORDINARY, Fault.refusal("INVALID_DATA"))
    path = world.add_file("a.csv", range(3))
    world.run("import", path, options=("--limit", "2"))
    world.run("import", world.add_file("b.csv", range(4), state="answered"))
    world.run("import", path, options=("--retry-refused",))


def attended_while_uncertain(world: World, simulator: Simulator) -> None:
    """Show attended a call whose answer was lost, and have uncertain calls sent again."""
    simulator.script(Fault.lost_answer())
    world.run("import", world.add_file("a.csv", range(2)))
    world.run("import", world.add_file("b.csv", range(2), state="answered"))
    world.run("deliver", options=("--on-uncertain", "resend"))


def restored_since(world: World, simulator: Simulator) -> None:
    """Put a backup back, and give the results of what was sent since."""
    world.run("import", world.add_file("a.csv", range(3)), options=("--limit", "1"))
    backup = world.folder / "backup.sqlite"
    world.other("ledger", "backup", str(backup))
    since = world.start("deliver")
    world.finish(since)
    shutil.copy(backup, world.ledger)
    world.other("ledger", "accept-restore", "--complete", str(since.results))
    world.run("deliver")


def tls_garbage(world: World, simulator: Simulator) -> None:
    """Break TLS after each request: urllib3 sends a POST again then, whatever methods it may repeat."""
    certificate = make_certificate(world.folder, "localhost")

    def play(peer: Peer) -> None:
        form = dict(parse_qsl(peer.read_request().partition(b"\r\n\r\n")[2].decode()))
        if not form:
            return
        world.other_posts.append(Post(time.monotonic(), form.pop("id"), tuple(sorted(form.items()))))
        send_garbage(peer)

    with Server(under_tls(certificate.server_context(), play)) as server:
        route = ("--api-url", https_url(server), "--ca-bundle", str(certificate.path))
        world.run("import", world.add_file("a.csv", range(2)), options=route)
        assert world.other_posts


def limit(world: World, simulator: Simulator) -> None:
    """Send one call as a canary and leave the rest."""
    world.run("import", world.add_file("a.csv", range(3)), options=("--limit", "1"))


SCENARIOS: dict[str, Scenario] = {
    each.__name__: each
    for each in (
        *(lost_answers, lost_then_imported, lost_then_more, redirect, early_hints, odd_successes, cut_answers),
        *(two_runs, kill_in_flight, kill_before_send, changed_content, refused_again, attended_since),
        *(attended_while_uncertain, restored_since, tls_garbage, limit),
    )
}


def judged(scenario: str, package_root: Path, folder: Path, server: ForkServer | None = None) -> list[str]:
    """Play a scenario on a copy of the program; return what the judge finds."""
    folder.mkdir(exist_ok=True)
    with Simulator() as account:
        if scenario == "power_cut":
            trace = trace_of_import(folder, account, package_root, calls=5)
            late = unordered_requests(trace, f"{folder / 'ledger.sqlite'}-wal")
            return late + power_cut_breaches(trace, folder, account)
        with nullcontext(server) if server else ForkServer(package_root) as running:
            world = World(folder, account, running)
            SCENARIOS[scenario](world, account)
            return world.breaches()


def skip_without_tools(scenario: str) -> None:
    """Skip a scenario whose tool this machine does not have."""
    if scenario == "power_cut" and not has_strace():
        pytest.skip("strace is missing or may not trace")


def caught_by(found: list[str]) -> str:
    """Return the rules that a list of breaches names."""
    heads = (re.search(r"rule \d+|bug|request \d+ (?:has|began)", sentence) for sentence in found)
    return ", ".join(sorted({"order" if "request" in head[0] else head[0] for head in heads if head}))


@pytest.fixture(scope="module")
def honest_copy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the program without a bug."""
    return mutated_copy(None, tmp_path_factory.mktemp("honest") / "copy")


@pytest.fixture(scope="module")
def honest(honest_copy: Path) -> Iterator[ForkServer]:
    """Return a process that forks the runs of the copy without a bug."""
    with ForkServer(honest_copy) as running:
        yield running


@pytest.mark.slow
@pytest.mark.parametrize("scenario", sorted({mutation.scenario for mutation in MUTATIONS}))
def test_honest_program(honest_copy: Path, honest: ForkServer, tmp_path: Path, scenario: str) -> None:
    """The copy without a bug passes the scenario that provokes one."""
    skip_without_tools(scenario)
    assert judged(scenario, honest_copy, tmp_path / "world", honest) == []


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_seeded_bug(tmp_path: Path, mutation: Mutation) -> None:
    """The copy with the bug is caught."""
    skip_without_tools(mutation.scenario)
    found = judged(mutation.scenario, mutated_copy(mutation, tmp_path / "copy"), tmp_path / "world")
    print(f"{mutation.name:45} {mutation.scenario:20} caught by {caught_by(found)}")
    assert found != []


@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_text_of_a_mutation(tmp_path: Path, mutation: Mutation) -> None:
    """Every seeded bug still has the one text that it changes, and the changed file compiles."""
    path = mutated_copy(mutation, tmp_path) / "importer" / mutation.file
    compile(path.read_text(encoding="utf-8"), str(path), "exec")
