"""Proof of the judge: seeded bugs must each be caught, and the program as it is must pass the same scenarios."""

import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import parse_qsl

import pytest

from certificates import make_certificate
from conftest import ROOT, wait_until
from judge.history import Post
from judge.test_mixed_kills import Operator, kill_until
from judge.trace import has_strace, power_cut_breaches, trace_of_import
from judge.world import At, ForkServer, World
from misbehaviour import ORDINARY, Fault, Simulator
from misbehaviour.connections import Peer, Server, https_url, send_garbage, under_tls
from steps import Step

KILLED_TO_BE_FOUND = ("recovery makes in-flight calls pending", "results since a backup not believed")
Scenario = Callable[[World, Simulator], None]
Act = Callable[[World], object]


@dataclass(frozen=True)
class Mutation:
    """One bug: ``old`` must stand in the file exactly once. ``scenario`` names what provokes it."""

    name: str
    scenario: str
    file: str
    old: str
    new: str


def _listed() -> Iterator[Mutation]:
    listed = Path(__file__).with_name("bugs.diff").read_text(encoding="utf-8")
    for bug in listed.split("\n@@ ")[1:]:
        head, *lines = bug.splitlines()
        old, new = ("\n".join(line[1:] for line in lines if line[0] == sign) for sign in "-+")
        yield Mutation(*head.split(" | "), old, new)


MUTATIONS = tuple(_listed())


def mutated(mutation: Mutation) -> str:
    """Return the text of the file with the bug."""
    text = (ROOT / "importer" / mutation.file).read_text(encoding="utf-8")
    times = text.count(mutation.old)
    assert times == 1, f"{mutation.name}: the text to change stands {times} times in {mutation.file}"
    return text.replace(mutation.old, mutation.new)


def mutated_copy(mutation: Mutation, target: Path) -> Path:
    """Copy the program and change the one text; return where the copy is."""
    for package in ("importer", "schemas"):
        shutil.copytree(ROOT / package, target / package)  # with what Python compiled
    (target / "importer" / mutation.file).write_text(mutated(mutation), encoding="utf-8")
    return target


def imports(calls: int, *options: str, name: str = "a", at: At | None = None, **changes: str) -> Act:
    """Return an import of an export of so many calls, which may be killed and may have other cells."""
    return lambda world: world.run(
        "import", world.add_file(f"{name}.csv", range(calls), **changes), options=options, at=at
    )


def delivers(*options: str) -> Act:
    """Return a delivery of what is left."""
    return lambda world: world.run("deliver", options=options)


def played(faults: tuple[Fault, ...], *acts: Act) -> Scenario:
    """Return a scenario: what the service does, request by request, and the runs meanwhile."""

    def play(world: World, simulator: Simulator) -> None:
        simulator.script(*faults)
        for act in acts:
            act(world)

    return play


def two_runs(world: World, simulator: Simulator) -> None:
    """Begin a second run while one is in the middle of a request."""
    simulator.latency_seconds = 0.8
    first = world.start("import", world.add_file("a.csv", range(4)))
    wait_until(lambda: len(simulator.arrivals) >= 2)
    world.run("deliver")
    world.finish(first)
    world.deliver_all()


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


LOST, INVALID = Fault.lost_answer(), Fault.refusal("INVALID_DATA")
AHEAD, PARTIAL = Fault(early_hints=True, delay_seconds=0.2), Fault(changes={"code": "PARTIAL"})
ELSEWHERE = Fault(status=302, headers=(("Location", "/phonebridge/v3/callnotify"),))
SCENARIOS: dict[str, Scenario] = {
    "lost_answers": played((ORDINARY, Fault(reset_after_reading=True), ORDINARY, LOST), imports(6), delivers()),
    "lost_then_imported": played((LOST,), imports(3), imports(3)),
    "lost_then_more": played((LOST,), imports(4, "--limit", "2"), delivers()),
    "redirect": played((ORDINARY, ELSEWHERE), imports(3)),
    "early_hints": played((AHEAD, INVALID), imports(3)),
    "odd_successes": played(
        (Fault(drops=("code",)), PARTIAL, Fault.login_page()),
        imports(1),
        imports(2, name="b"),
        imports(3, name="c"),
    ),
    "cut_answers": played((ORDINARY, Fault.cut_answer()), imports(3)),
    "kill_in_flight": played((), imports(5, at=(Step.ANSWERED, 2, signal.SIGKILL)), delivers()),
    "kill_before_send": played((), imports(5, at=(Step.INTENT_DURABLE, 2, signal.SIGKILL)), delivers()),
    "changed_content": played((), imports(3), imports(3, name="b", state="noanswer")),
    "refused_again": played((INVALID,), imports(3), imports(3)),
    # Accepted, refused and left pending, all are shown attended; then the first export comes again.
    "attended_since": played(
        (ORDINARY, INVALID),
        imports(3, "--limit", "2"),
        imports(4, name="b", state="answered"),
        imports(3, "--retry-refused"),
    ),
    "attended_while_uncertain": played(
        (LOST,), imports(2), imports(2, name="b", state="answered"), delivers("--on-uncertain", "resend")
    ),
    "limit": played((), imports(3, "--limit", "1")),
    **{each.__name__: each for each in (two_runs, restored_since, tls_garbage)},
}


def judged(scenario: str, package_root: Path, folder: Path, server: ForkServer) -> list[str]:
    """Play a scenario with the program of a folder; return what the judge finds."""
    folder.mkdir()
    with Simulator() as account:
        if scenario == "power_cut":
            if not has_strace():
                pytest.skip("strace is missing or may not trace")
            trace = trace_of_import(folder, account, 5, package_root=package_root)
            return power_cut_breaches(trace, folder, account)
        with nullcontext() if package_root == ROOT else server.program_of(package_root):
            world = World(folder, account, server)
            SCENARIOS[scenario](world, account)
            return world.breaches()


@pytest.mark.slow
@pytest.mark.parametrize("scenario", sorted({mutation.scenario for mutation in MUTATIONS}))
def test_honest_program(server: ForkServer, tmp_path: Path, scenario: str) -> None:
    """The program without a bug passes the scenario that provokes one."""
    assert judged(scenario, ROOT, tmp_path / "world", server) == []


@pytest.mark.slow
@pytest.mark.parametrize("mutation", MUTATIONS, ids=lambda mutation: mutation.name)
def test_seeded_bug(server: ForkServer, tmp_path: Path, mutation: Mutation) -> None:
    """The copy with the bug is caught."""
    found = judged(mutation.scenario, mutated_copy(mutation, tmp_path / "copy"), tmp_path / "world", server)
    assert found != []
    print(f"{mutation.name}: {found[0]}")


def test_text_of_a_mutation() -> None:
    """Every seeded bug still has the one text that it changes, and the changed file compiles."""
    for mutation in MUTATIONS:
        compile(mutated(mutation), mutation.file, "exec")


@pytest.mark.slow
@pytest.mark.parametrize("bug", KILLED_TO_BE_FOUND)
def test_seeded_bug_is_found_by_kills(server: ForkServer, simulator: Simulator, tmp_path: Path, bug: str) -> None:
    """A copy of the program with a bug sends a call twice before long."""
    mutation = next(each for each in MUTATIONS if each.name == bug)
    with server.program_of(mutated_copy(mutation, tmp_path / "copy")):
        world = Operator(tmp_path / "world", simulator, server, seed=1, workers=2)
        found = kill_until(world, 60, loses_ledgers=False)
        print(f"{bug}: {len(world.twice())} twice after {world.killed.total()} kills, {found[:1]}")
        assert world.twice()
