"""What ends a run early, or must not: signals, budgets, full disks, closed streams, old libraries."""

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from conftest import Begin, Program, call_row, read_results, wait_until, write_export
from importer.cli.screen import Screen
from importer.errors import ConfigurationError, ExitCode, StoppedError
from importer.pipeline.run import Listener
from importer.records import Receipt
from importer.requirements import NEEDED, check_versions
from importer.settings.options import Settings
from ledgers import make_waiting
from misbehaviour import Fault, Simulator
from runs import imported, ledger_counts
from schemas.vocabulary import CallState
from steps import Step

WAIT_SECONDS = 20


@pytest.fixture
def export(tmp_path: Path) -> Path:
    """Return an export of six good calls."""
    return write_export(tmp_path / "export.csv", (call_row(number) for number in range(6)))


Sending = Callable[..., tuple[int, Callable[[], int]]]


@pytest.fixture
def sending(account: Simulator, begin: Begin, server: Any) -> Sending:
    """Return a function that begins a command, and gives its process once so many requests came, and its code."""

    def start(calls: int, *arguments: str | Path) -> tuple[int, Callable[[], int]]:
        process = begin(*arguments)
        wait_until(lambda: len(account.arrivals) >= calls)
        return process, lambda: int(server.wait(process))

    return start


@pytest.mark.fault(92)
@pytest.mark.parametrize(
    ("command", "number", "code"), [("import", signal.SIGTERM, 143), ("deliver", signal.SIGINT, 130)]
)
def test_signal_ends_the_run(
    program: Program, account: Simulator, sending: Sending, tmp_path: Path, command: str, number: int, code: int
) -> None:
    """The call in flight is recorded, the rest pending and counted as `status` does; `deliver` sends that once."""
    results = tmp_path / "results.csv"
    make_waiting(tmp_path / "ledger.sqlite", 9)
    account.latency_seconds = 0.05
    rows = [call_row(own, id=f"own{own}") for own in range(2)]
    inputs = [write_export(tmp_path / "export.csv", rows)] if command == "import" else []
    process, ended = sending(4, command, "--batch-size", "3", "--results", results, *inputs)
    os.kill(process, number)
    assert ended() == code
    first, *_, last = (tmp_path / "output").read_text().splitlines()
    assert first.endswith("is pending still: the next run, or `cdr-importer deliver`, sends what is left.")
    counts = {key: int(value) for key, value in re.findall(r"\b(\w+)=(\d+)(?= )", last)}
    said = {name: counts[name] for name in ("accepted", "pending")}
    assert (said, f"exit={code} reason=signal" in last) == (ledger_counts(tmp_path), True)
    listed = [(row["call_id"], row["outcome"]) for row in read_results(results)]
    assert {one for one, outcome in listed if outcome == "accepted"} == {call["id"] for call in account.accepted}
    assert counts["rows"] + counts["carried"] == sum(said.values()) == len(listed)
    assert not list(tmp_path.glob("*.part"))
    account.latency_seconds = 0.0
    assert program("deliver").code == 0
    assert sorted(call["id"] for call in account.accepted) == sorted(one for one, _ in listed)


@pytest.mark.fault(93)
def test_two_signals(account: Simulator, sending: Sending, tmp_path: Path) -> None:
    """A second signal ends the wait for an answer: its call is uncertain, all is written, the first one's code."""
    account.script(Fault(delay_seconds=WAIT_SECONDS))
    make_waiting(tmp_path / "ledger.sqlite", 2)
    process, ended = sending(1, "deliver", "--results", "results.csv")
    # Python takes signals that wait together in the order of their numbers.
    for number in (signal.SIGHUP, signal.SIGTERM):
        os.kill(process, number)
    assert ended() == 129
    last = (tmp_path / "output").read_text().splitlines()[-1]
    assert "uncertain=1" in last and "exit=129 reason=signal" in last
    rows = read_results(tmp_path / "results.csv")
    assert [(row["outcome"], row["reason"]) for row in rows] == [("uncertain", "interrupted"), ("pending", "")]


def test_signal_that_asks(account: Simulator, sending: Sending, tmp_path: Path) -> None:
    """SIGUSR1 writes how far the run has come, as often as it comes, and ends nothing."""
    released = threading.Event()
    account.script(Fault(held=released))
    make_waiting(tmp_path / "ledger.sqlite", 2)
    process, ended = sending(1, "deliver")
    line = "cdr-importer: phase=sending done=0 per_minute=0 total=2 left=unknown"
    for times in range(1, 4):
        os.kill(process, signal.SIGUSR1)
        wait_until(lambda times=times: (tmp_path / "output").read_text().count("\n") == times)
    released.set()
    assert (ended(), (tmp_path / "output").read_text()) == (0, f"{line} uncertain=0\n" * 3)
    assert ledger_counts(tmp_path) == {"accepted": 2}


def unread() -> int:
    """Return the writing end of a pipe that is full and that nobody reads."""
    _, full = os.pipe()
    os.set_blocking(full, False)
    os.write(full, bytes(1 << 20))
    os.set_blocking(full, True)
    return full


def test_signal_that_asks_where_nobody_reads(account: Simulator, tmp_path: Path) -> None:
    """SIGUSR1 to a run whose standard error is full does not make it stand still."""
    released = threading.Event()
    account.script(Fault(held=released))
    make_waiting(tmp_path / "ledger.sqlite", 2)
    with subprocess.Popen([sys.executable, "-m", "importer", "deliver"], stderr=unread()) as process:
        try:
            wait_until(lambda: len(account.arrivals) == 1)
            process.send_signal(signal.SIGUSR1)
            released.set()
            assert process.wait(WAIT_SECONDS) == 0
        finally:
            process.kill()
    assert ledger_counts(tmp_path) == {"accepted": 2}


@pytest.mark.slow
def test_standard_error_that_is_read_again() -> None:
    """What comes after ten seconds in which nobody read is shown, with how much was left out."""
    code = "import sys; from importer.cli.output import open_standard_streams, show; open_standard_streams(); "
    code += "show('a', err=True); show('b', err=True); show('asks'); sys.stdin.readline(); show('c', err=True)"
    reading, full = os.pipe()
    os.set_blocking(full, False)
    size = os.write(full, bytes(1 << 20))
    os.set_blocking(full, True)
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True, "stderr": full}
    with subprocess.Popen([sys.executable, "-c", code], **pipes) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "asks\n"
        os.read(reading, size)
        process.communicate("go on\n", timeout=WAIT_SECONDS)
    assert os.read(reading, size) == b"cdr-importer: 2 lines were left out here, since nobody read them\nc\n"


@pytest.mark.parametrize("moment", [0.1, pytest.param(0.4, marks=pytest.mark.slow)])
def test_signal_that_asks_too_early(account: Simulator, tmp_path: Path, moment: float) -> None:
    """SIGUSR1 to a run that only begins does not end it either."""
    make_waiting(tmp_path / "ledger.sqlite", 1)
    code = "import os, signal; from importer.cli.app import main; import threading; "
    code += f"threading.Timer({moment}, os.kill, (os.getpid(), signal.SIGUSR1)).start(); main(['deliver'])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=WAIT_SECONDS)
    assert done.returncode == 0


@pytest.mark.fault(94)
@pytest.mark.parametrize("faults", [Fault.throttle(wait_seconds=300), Fault(status=429)])
def test_signal_ends_a_wait_at_once(account: Simulator, tmp_path: Path, export: Path, faults: Fault) -> None:
    """A signal while Retry-After is waited for ends the run with nothing uncertain."""
    account.script(faults)
    told: list[Step] = []
    summary = imported(
        export, step=told.append, interrupted=lambda: ExitCode.INTERRUPTED if told.count(Step.TOKEN) > 1 else None
    )
    assert (summary.exit_code, ledger_counts(tmp_path)) == (ExitCode.INTERRUPTED, {"pending": 6})


@pytest.mark.parametrize("moment", ["reading", Step.RESULTS_CREATED, Step.ROWS_SYNCED])
def test_signal_before_staging(account: Simulator, tmp_path: Path, export: Path, moment: str) -> None:
    """A signal while files are read or calls taken in leaves nothing: no call, no results, nothing sent."""
    told: list[str] = []
    listener = Listener(rows=lambda _: told.append("reading"))
    with pytest.raises(StoppedError) as stopped:
        interrupted = lambda: ExitCode.HANGUP if moment in told else None  # noqa: E731
        imported(export, listener, step=told.append, interrupted=interrupted)
    assert (stopped.value.exit_code, account.arrivals, ledger_counts(tmp_path)) == (ExitCode.HANGUP, (), {})
    assert [path.name for path in tmp_path.glob("results.csv*")] == []


@pytest.mark.fault(95, 96)
@pytest.mark.parametrize(
    ("command", "streams"),
    [
        ("import", ">&- 2>&-"),
        ("deliver", "2>&1 | true"),
        pytest.param("deliver", ">/dev/full 2>/dev/full", marks=pytest.mark.slow),
        pytest.param("deliver", "2>&0", marks=pytest.mark.slow),
    ],
)
def test_failing_streams(account: Simulator, tmp_path: Path, export: Path, command: str, streams: str) -> None:
    """Closed, full, broken or unread standard streams: everything is sent and recorded, the code is the run's."""
    write_export(export, [*(call_row(number) for number in range(2)), call_row(9, to="104")])
    results = tmp_path / "results.csv"
    if command == "deliver":
        make_waiting(tmp_path / "ledger.sqlite", 2)
    account.script(Fault.refusal("INVALID_DATA"))
    inputs = f"--init-ledger '{export}'" if command == "import" else ""
    words = f"{command} --json -v --results '{results}' {inputs}"
    script = f"{{ '{sys.executable}' -m importer {words}; echo $? >'{tmp_path}/code'; }} {streams}"
    subprocess.run(["/bin/sh", "-c", script], timeout=60, check=False, stdin=unread())
    assert (tmp_path / "code").read_text() == "3\n"
    bad_row = [("rejected", "")] if command == "import" else []
    listed = [(row["outcome"], row["attempts"]) for row in read_results(results)]
    assert listed == [("refused", "1"), ("accepted", "1"), *bad_row]
    assert ledger_counts(tmp_path) == {"refused": 1, "accepted": 1}


@pytest.mark.parametrize(("most", "reason", "lost"), [("1", "max_uncertain", 1), ("99", "uncertain", 3)])
def test_lost_answers(
    program: Program, account: Simulator, tmp_path: Path, export: Path, most: str, reason: str, lost: int
) -> None:
    """--max-uncertain or three lost answers in a row end a run; `deliver` resends the calls only when asked to."""
    account.script(Fault.lost_answer().repeated(lost))
    ran = program("import", "--init-ledger", "--max-uncertain", most, export)
    assert (ran.code, ran.summary()["reason"]) == (4, reason)
    assert ledger_counts(tmp_path) == {"uncertain": lost, "pending": 6 - lost}
    assert program("deliver").code == 4
    ran = program("deliver", "--on-uncertain", "resend", "-v")
    again = "1 uncertain call is sent again" if lost == 1 else f"{lost} uncertain calls are sent again"
    assert (ran.code, again in ran.stderr) == (0, True)
    assert [arrival.fields["id"] for arrival in account.arrivals].count("call00000") == 2
    assert ledger_counts(tmp_path) == {"accepted": 6}


def test_max_runtime_ends_in_order(program: Program, account: Simulator, tmp_path: Path, export: Path) -> None:
    """When the time is over the call in flight is recorded, the rest is pending and the exit code 75."""
    account.latency_seconds = 0.6
    ran = program("import", "--init-ledger", "--max-runtime", "1s", export)
    left = ledger_counts(tmp_path)
    assert (ran.code, ran.summary()["reason"]) == (75, "max_runtime")
    assert left["pending"] + left.get("accepted", 0) == 6
    assert len(account.accepted) == left.get("accepted", 0)


def test_wait_beyond_the_time_left(program: Program, account: Simulator, tmp_path: Path, export: Path) -> None:
    """A Retry-After that ends after --max-runtime ends the run at once; the next one still keeps to it."""
    account.script(Fault.throttle(wait_seconds=300))
    ran = program("import", "--init-ledger", "--max-runtime", "1m", export)
    assert (ran.code, ran.summary()["reason"], ledger_counts(tmp_path)) == (75, "throttled", {"pending": 6})
    again = program("deliver", "--max-runtime", "1m")
    assert (again.code, again.summary()["reason"], len(account.arrivals)) == (75, "held", 1)


def test_evidence_line(capsys: pytest.CaptureFixture[str]) -> None:
    """What the ledger could not take is one line on stderr, without any number."""
    receipt = Receipt("call00000", CallState.UNCERTAIN, reason="timeout")
    Screen(Settings()).listener.unrecorded(receipt)
    line = "LEDGER-WRITE-FAILED call_id=call00000 outcome=uncertain http_status=- code=-\n"
    assert capsys.readouterr().err == line


@pytest.mark.fault(35)
def test_old_libraries() -> None:
    """A library that is too old is refused (78) by name with both versions; those here pass, and odd texts do."""
    for name in NEEDED:
        with pytest.raises(ConfigurationError, match=rf"{name} 1\.26\.20 is too old, [0-9.]+ is needed"):
            check_versions({name: "1.26.20"})
    check_versions()
    check_versions({"requests": "2.33.0rc1", "urllib3": "2.7.0.post1", "SQLite": "3.37"})


READING = ("pandas", "pandera", "pyarrow", "numpy")
SENDING = ("requests", "urllib3", "importer.client", "importer.pipeline.sending")
SHOWING = ("jinja2", "tqdm")
UNUSED_BY_HELP = (*READING, *SENDING, *SHOWING, "phonenumbers", "pydantic", "importer.ledger")
LOADED_BY = """
import sys
from importer.cli import run
for arguments, code, unused in {steps!r}:
    assert run([*arguments]) == code, arguments
    print("loaded:", [name for name in unused if name in sys.modules])
"""
LOOKING = (
    *((words, 0, UNUSED_BY_HELP) for words in (("--help",), ("--version",), ("ledger", "--help"))),
    (("import", "--no-such"), 2, UNUSED_BY_HELP),
    (("status",), 0, (*READING, *SENDING, *SHOWING, "phonenumbers", "pydantic")),
    (("formats",), 0, READING),
    (("check", "export.csv"), 0, (*SENDING, *SHOWING)),
)


@pytest.mark.parametrize("steps", [LOOKING, [(("deliver",), 0, (*READING, *SHOWING))]], ids=["looking", "sending"])
@pytest.mark.usefixtures("account", "export")
def test_commands_load_only_what_they_use(
    steps: Sequence[tuple[object, ...]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither help nor any command loads what it has no use for; a country costs `deliver` its rules alone."""
    make_waiting(tmp_path / "ledger.sqlite", 2)
    if steps is not LOOKING:
        monkeypatch.setenv("CDR_IMPORTER_COUNTRY", "GB")
    command = [sys.executable, "-c", LOADED_BY.format(steps=steps)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    found = [line for line in done.stdout.splitlines() if line.startswith("loaded: ")]
    assert found == ["loaded: []"] * len(steps)


def test_steps_in_order(account: Simulator, tmp_path: Path) -> None:
    """One call passes every step once, in the order of the enumeration."""
    path = write_export(tmp_path / "export.csv", [call_row(0), call_row(1, state="nonsense")])
    told: list[Step] = []
    imported(path, step=told.append, rejects=str(tmp_path / "rejects.csv"))
    assert list(dict.fromkeys(told)) == list(Step)
    assert {step for step in told if told.count(step) > 1} <= {Step.RESULTS_CREATED, Step.WRITTEN}
    assert len(account.accepted) == 1
