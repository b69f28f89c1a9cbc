"""What every test stands on: loopback only, nothing of the machine's own, the real program and simulator."""

import contextlib
import csv
import functools
import gc
import hashlib
import inspect
import os
import re
import shutil
import signal
import socket
import time
import tomllib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from _pytest.mark import ParameterSet
from hypothesis import is_hypothesis_test, settings
from xdist.scheduler import LoadScopeScheduling, Scheduling

from certificates import Certificate, make_certificate
from importer.cli import run
from importer.ledger.ledger import Ledger
from importer.ledger.schema import create_ledger
from ledgers import CREATED, opened
from misbehaviour import Simulator
from misbehaviour.connections import Behaviour, Server
from terminal import PATIENCE_SECONDS, Terminal

ROOT = Path(__file__).parent.parent
MEMORY_FOLDER = Path("/dev/shm")
MEMORY_BYTES = 4 << 30
SAMPLES = ROOT / "sample_data"
CASE_FILES = ROOT / "tests" / "cases"


def sample_files() -> list[Path]:
    """Return every sample input, in order."""
    return [
        path
        for path in sorted(SAMPLES.glob("*/*.csv"))
        if not path.name.endswith(".expected.csv") and not path.name.startswith(".")
    ]


def sample_options(path: Path) -> list[str]:
    """Return the options of a sample's format, with the agents file as an absolute path."""
    table = (SAMPLES / "README.md").read_text(encoding="utf-8")
    row = re.search(rf"^\| `{re.escape(path.parent.name)}` \| `([^`]*)` \|$", table, re.MULTILINE)
    if row is None:
        raise AssertionError(f"sample_data/README.md does not say how {path.parent.name} is read")
    return row[1].replace("sample_data/agents.csv", str(SAMPLES / "agents.csv")).split()


def cases(name: str) -> dict[str, list[Any]]:
    """Return tables of tests that are words and figures only; an empty word stands for none."""
    return tomllib.loads((CASE_FILES / f"{name}.toml").read_text(encoding="utf-8"))


def expected_file(path: Path) -> Path:
    """Return where the expected results of a sample stand."""
    return path.with_name(f"{path.stem}.expected.csv")


CALLNOTIFY_HEADER = "type,state,id,from,to,start_time,zohouser,voiceuri"


def call_row(number: int, **changes: str) -> str:
    """Return one row of the format `callnotify` as text; ``changes`` are cells by column (`sender` is `from`)."""
    cells = {
        "type": "dialed",
        "state": "busy",
        "id": f"call{number:05}",
        "sender": "+12125550101",
        "to": f"+121255501{number % 100:02}",
        "start_time": f"2026-03-02 {14 + number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}",
        "zohouser": "",
        "voiceuri": "",
    }
    return ",".join((cells | changes).values())


def asterisk_row(
    made: datetime, shown: datetime, number: int = 0, *, agent: str = "101", customer: str = "2125550142"
) -> str:
    """Return one unattended call of an Asterisk export: when its id was made, and what its clock showed."""
    start = f"{shown:%Y-%m-%d %H:%M:%S}"
    return (
        f'"","{agent}","{customer}","from-internal","""Ann"" <{agent}>","PJSIP/{agent}-0000002b",'
        f'"PJSIP/trunk-a-0000002c","Dial","PJSIP/{customer}@trunk-a,30","{start}",,"{start}",28,0,'
        f'"NO ANSWER","DOCUMENTATION","{int(made.timestamp())}.{number}",""\n'
    )


def write_export(path: Path, rows: Iterable[str]) -> Path:
    """Write rows of the format `callnotify` under their header; the first row is line 2."""
    path.write_text("\n".join((CALLNOTIFY_HEADER, *rows)) + "\n", encoding="utf-8")
    return path


def read_results(path: Path | str) -> list[dict[str, str]]:
    """Return the rows of a results file by column."""
    with Path(path).open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def outcomes_in(path: Path | str) -> list[str]:
    """Return the outcomes of a results file in order."""
    return [row["outcome"] for row in read_results(path)]


@dataclass(frozen=True)
class Ran:
    """What one run of the program printed, and its exit code."""

    code: int
    stdout: str
    stderr: str

    def summary(self) -> dict[str, str]:
        """Return the fields of the summary line."""
        return dict(word.split("=", 1) for word in self.stderr.splitlines()[-1].split(" ") if "=" in word)


Program = Callable[..., Ran]
Test = Callable[..., None]


def table(names: str | tuple[str, ...], rows: Iterable[Any]) -> Callable[[Test], Test]:
    """Give one test all rows of a table, as `parametrize` gives a test for each; a failure names its row.

    What a test costs by itself is more than most rows do. Each row has a ``tmp_path`` of its own, and shares what
    other fixtures give.
    """
    keys, rows = (names,) if isinstance(names, str) else names, list(rows)
    assert rows, f"a table of {names} without rows"

    def decorate(test: Test) -> Test:
        @functools.wraps(test)
        def each_row(**given: Any) -> None:
            folder = given.get("tmp_path")
            for number, row in enumerate(rows):
                cells = row.values if isinstance(row, ParameterSet) else row if len(keys) > 1 else (row,)
                if folder is not None:
                    given["tmp_path"] = folder / str(number)
                    given["tmp_path"].mkdir()
                try:
                    test(**given, **dict(zip(keys, cells, strict=True)))
                except BaseException as error:
                    error.add_note(f"in the row {cells!r}")
                    raise

        own = inspect.signature(test)
        others = [each for name, each in own.parameters.items() if name not in keys]
        each_row.__signature__ = own.replace(parameters=others)  # type: ignore[attr-defined]
        return each_row

    return decorate


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """Run a worker a core: three on two were no faster, and each costs five seconds of processor time."""
    return max(2, os.cpu_count() or 1)


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Choose how many examples a property gets, and keep files in memory where there is room.

    The examples of the normal run are few and always the same; with ``-m slow`` they are many and others each
    time. Much of the time of tests was waiting for the disk.
    """
    # What a shell begins in its background ignores it, and so would the commands that tests begin and interrupt.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    is_slow = config.option.markexpr == "slow"
    settings.register_profile("normal", deadline=None, derandomize=True, max_examples=30)
    settings.register_profile("slow", deadline=None, max_examples=150)
    settings.load_profile("slow" if is_slow else "normal")
    if MEMORY_FOLDER.is_dir() and shutil.disk_usage(MEMORY_FOLDER).free >= MEMORY_BYTES:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY_FOLDER))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Let every property run again among the slow tests."""
    for item in items:
        if config.option.markexpr == "slow" and is_hypothesis_test(getattr(item, "obj", None)):
            item.add_marker("slow")


FORKING = (
    "/judge/",
    "calls_list",
    "test_cli",
    "dead_runs",
    "_done",
    "setting_up",
    "status",
    "stopping",
    "two_users",
)
"""Files of tests that need the fork server, which one process has."""


class WholeFiles(LoadScopeScheduling):
    """Deals out files, the largest first, since the tests of one share what a process makes once.

    The samples and cases of `test_golden.py` share nothing, and are dealt out last and one by one. Marks of
    groups would say this too, but xdist 3.8 puts them into what pytest 9.2 no longer reads.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.partition("::")[0]
        if any(name in file for name in FORKING):
            return "fork server"
        return nodeid if "test_golden" in file else file


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Scheduling | None:
    """Deal out whole files, but the slow tests, which are long, one by one."""
    return WholeFiles(config, log) if config.option.markexpr == "not slow" else None


def pytest_collection_finish() -> None:
    """Let the garbage collector pass over libraries and tests, which stay: a fifth of the time."""
    gc.freeze()
    gc.set_threshold(50_000, 20, 100)


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add the option that writes expected files which are missing."""
    parser.addoption("--write-missing-expected", action="store_true", help="write missing *.expected.csv files")


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait for it, but not for ever."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def closed_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


@pytest.fixture(autouse=True)
def _loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """Refuse every connection that would leave the machine."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: Any) -> None:
        host = address[0] if isinstance(address, tuple) else "127.0.0.1"
        if not (host.startswith("127.") or host in ("::1", "localhost")):
            raise AssertionError(f"a test tried to connect to {host}")
        connect(self, address)

    monkeypatch.setattr(socket.socket, "connect", guarded)


@pytest.fixture(autouse=True)
def _own_home(
    monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Give each test a home that is not there yet, none of the machine's own settings, and this very program."""
    home = tmp_path_factory.getbasetemp() / "homes" / hashlib.sha256(request.node.nodeid.encode()).hexdigest()[:16]
    for name in [name for name in os.environ if name.startswith(("CDR_IMPORTER_", "XDG_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def simulator() -> Iterator[Simulator]:
    """Return a running simulator of the API."""
    with Simulator() as running:
        yield running


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Return an export of three good calls."""
    return write_export(tmp_path / "export.csv", [call_row(number) for number in range(3)])


Serve = Callable[..., Server]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start servers that are closed at the end."""
    with contextlib.ExitStack() as stack:

        def start(*behaviours: Behaviour) -> Server:
            return stack.enter_context(Server(*behaviours))

        yield start


@pytest.fixture(scope="session")
def server() -> Iterator[Any]:
    """Return a process that forks the runs which are to be killed."""
    from judge.world import ForkServer  # which needs this module

    with ForkServer() as running:
        yield running


Begin = Callable[..., int]
Died = Callable[..., None]


@pytest.fixture
def begin(server: Any, tmp_path: Path) -> Begin:
    """Return a function that begins a command in a process of its own, writing to `output`, and returns its id."""

    def begin_command(*arguments: str | Path, at: tuple[str, int, int] | None = None, **more: str) -> int:
        own = {name: each for name, each in os.environ.items() if name.startswith(("CDR_IMPORTER_", "HOME"))}
        job = {"folder": str(tmp_path), "environment": own | more, "output": str(tmp_path / "output"), "at": at}
        return int(server.start(job | {"arguments": [*map(str, arguments)]}))

    return begin_command


@pytest.fixture
def died(server: Any, begin: Begin) -> Died:
    """Return a function that runs a command in a process of its own, which kills itself at a step."""

    def run_and_die(step: str, results: Path, *arguments: str | Path, time: int = 1) -> None:
        at = (step, time, signal.SIGKILL.value)
        assert server.wait(begin(*arguments, at=at, CDR_IMPORTER_RESULTS=str(results))) == -signal.SIGKILL

    return run_and_die


AtTerminal = Callable[..., Terminal]


@pytest.fixture
def at_terminal(server: Any, tmp_path: Path) -> AtTerminal:
    """Return a function that begins a command at a terminal."""
    return lambda arguments, typed_ahead="": Terminal(server, arguments, tmp_path, typed_ahead)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return one folder for all examples of a property."""
    return tmp_path_factory.mktemp("examples")


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Make a new empty ledger and return its path."""
    create_ledger(tmp_path / "ledger.sqlite", now=CREATED)
    return tmp_path / "ledger.sqlite"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    """Open a new ledger as a run does."""
    with opened(path) as one:
        yield one


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    """Give a certificate for localhost."""
    return make_certificate(tmp_path_factory.mktemp("tls"), "localhost")


@pytest.fixture
def program(capsys: pytest.CaptureFixture[str]) -> Program:
    """Return the program as a function of its arguments."""

    def call(*arguments: str | Path) -> Ran:
        capsys.readouterr()
        code = run([str(argument) for argument in arguments])
        out = capsys.readouterr()
        return Ran(code, out.out, out.err)

    return call


@pytest.fixture
def account(simulator: Simulator, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Simulator:
    """Point the program at the simulator through the environment, with a ledger that `--init-ledger` makes."""
    own = {"CDR_IMPORTER_LEDGER": str(tmp_path / "ledger.sqlite"), "CDR_IMPORTER_RATE": "1000/second"}
    for name, value in {**simulator.environment(), **own, "CDR_IMPORTER_YES": "true"}.items():
        monkeypatch.setenv(name, value)
    # Where results go that have no input to stand beside.
    monkeypatch.chdir(tmp_path)
    return simulator
