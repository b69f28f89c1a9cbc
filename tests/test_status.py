"""What `status` tells of runs and of uncertain calls, what a mail says of these, and a decision taken back."""

import hashlib
import json
import os
import pwd
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conftest import AtTerminal, Program, call_row, write_export
from importer.errors import UsageError
from importer.ledger.ledger import Ledger
from importer.ledger.values import Decision
from importer.private_files import user_name
from ledgers import AGENT, CUSTOMER, bring_to, call, opened
from misbehaviour import Fault, Simulator
from states import ACCEPTED, UNCERTAIN


def history(program: Program) -> list[dict[str, Any]]:
    """Return what `status --runs --json` tells, newest first."""
    return json.loads(program("status", "--runs", "--json").stdout)["runs"]


def test_run_is_told_whole(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A run has its command, version, start, end, exit code, counts, results path, settings and inputs."""
    path = write_export(tmp_path / "export.csv", [call_row(1), call_row(2, to="104")])
    program("import", "--init-ledger", "--batch-size", "7", "--results", tmp_path / "results.csv", path)
    (run,) = history(program)
    assert (run["command"], run["exit"], run["results"]) == ("import", 3, str(tmp_path / "results.csv"))
    assert run["started_at"] <= run["finished_at"]
    summary = run["summary"]
    assert (summary["rows"], summary["accepted"], summary["rejected"], summary["reason"]) == (2, 1, 1, "rejected")
    assert (run["settings"]["batch-size"], run["settings"]["workers"]) == (7, 1)
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert run["inputs"] == [{"file": str(path), "sha256": digest, "bytes": len(content), "rows": 2}]


def test_damaged_input_has_no_rows(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A file that turned out damaged stands among the inputs without rows; one of an unknown format does not."""
    good = write_export(tmp_path / "good.csv", [call_row(1)])
    damaged = write_export(tmp_path / "damaged.csv", [call_row(2, voiceuri='"open'), call_row(3)])
    unknown = tmp_path / "unknown.csv"
    unknown.write_text("a,b\n1,2\n")
    assert program("import", "--init-ledger", good, damaged, unknown).code == 65
    assert [(each["file"], each["rows"]) for each in history(program)[0]["inputs"]] == [
        (str(good), 1),
        (str(damaged), None),
    ]


def test_runs_fit_a_terminal(program: Program, account: Simulator, tmp_path: Path) -> None:
    """The table has one line per run, newest first, none wider than 80 columns, --last of them."""
    path = write_export(tmp_path / "export.csv", [call_row(1), call_row(2)])
    account.script(Fault.lost_answer())
    program("import", "--init-ledger", path)
    program("import", path)
    program("resolve", "call00001", "--sent", "--note", "seen")
    lines = program("status", "--runs").stdout.splitlines()
    assert lines[0].split() == ["run", "command", "took", "exit", "rows", "accepted", "reason"]
    assert [line.split()[1] for line in lines[1:]] == ["resolve", "import", "import"]
    assert [line.split()[3:] for line in lines[1:]] == [
        ["0", "-", "-", "done"],
        ["4", "2", "0", "uncertain"],
        ["4", "2", "1", "uncertain"],
    ]
    assert max(map(len, lines)) <= 80
    assert len(program("status", "--runs", "--last", "1").stdout.splitlines()) == 2


def test_status_hides_no_call(program: Program, account: Simulator, tmp_path: Path) -> None:
    """Of many uncertain calls twenty are named and the rest counted; of calls attended since each is named."""
    account.script(*[Fault.lost_answer(), Fault()] * 22)
    for state in ("busy", "answered"):
        calls = (call_row(number, state=state) for number in range(44))
        path = write_export(tmp_path / f"{state}.csv", calls)
        program("import", "--init-ledger", "--max-uncertain", "99", "--rate", "1000/second", path)
    lines = program("status").stdout.splitlines()
    named = Counter(line.partition(": ")[0] for line in lines if ": " in line)
    assert named == {"uncertain": 20, "attended since it was notified": 22}
    assert "2 more uncertain calls are named here once these are settled" in lines


def test_failed_command_has_its_end(program: Program, account: Simulator, tmp_path: Path) -> None:
    """A command that changed nothing stands there with its exit code and reason, not as one that died."""
    program("import", "--init-ledger", write_export(tmp_path / "export.csv", [call_row(1)]))
    program("resolve", "call00099", "--sent", "--note", "seen")
    run = history(program)[0]
    assert (run["command"], run["exit"], run["summary"]["reason"]) == ("resolve", 2, "usage")


def test_export_for_a_ledger(program: Program, tmp_path: Path) -> None:
    """Another file given as the ledger is called that (74), and no backup is to be put in its place."""
    export = write_export(tmp_path / "export.csv", [call_row(1)])
    export.chmod(0o600)
    ran = program("status", "--ledger", export)
    assert (ran.code, f"{export} is no ledger" in ran.stderr, "Correct --ledger" in ran.stderr) == (74, True, True)


def test_mail_of_uncertain_calls(program: Program, account: Simulator, tmp_path: Path) -> None:
    """It says how many, where they are listed and which commands settle them, in order and ready to be pasted."""
    account.script(Fault.lost_answer())
    config = tmp_path / "own.toml"
    config.touch()
    export = write_export(tmp_path / "export.csv", [call_row(1)])
    results = tmp_path / "r.csv"
    ran = program("import", "--init-ledger", "--config", config, "--results", results, export)
    _, where, *commands, _ = ran.stderr.splitlines()
    assert (ran.code, where) == (
        4,
        f"  1 of this run: {results}. Run these as {user_name(os.geteuid())}, in this order:",
    )
    assert [line.split("    # ")[0].strip() for line in commands] == [
        f"cdr-importer status --config {config}",
        f"cdr-importer resolve --config {config} ID --sent --note TEXT",
        f"cdr-importer deliver --config {config}",
    ]
    ran = program("deliver")
    assert f"    cdr-importer deliver --ledger {tmp_path}/ledger.sqlite    #" in ran.stderr
    assert "  Run these as " in ran.stderr


@pytest.mark.parametrize(("path", "name"), [("", "/opt/it/bin/cdr-importer"), ("{folder}", "cdr-importer")])
def test_commands_to_settle_can_be_pasted(
    program: Program, account: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, path: str, name: str
) -> None:
    """The commands start the program by its path where, as under cron, the shell does not find its name."""
    (tmp_path / "cdr-importer").touch(mode=0o755)
    monkeypatch.setenv("PATH", path.format(folder=tmp_path))
    monkeypatch.setattr("sys.argv", ["/opt/it/bin/cdr-importer"])
    account.script(Fault(reset_after_reading=True))
    ran = program("import", "--init-ledger", write_export(tmp_path / "export.csv", [call_row(1)]))
    commands = [line.split()[0] for line in ran.stderr.splitlines() if line.startswith("    ")]
    assert commands == [name] * 3


def test_numbers_at_a_terminal_only(
    at_terminal: AtTerminal, program: Program, account: Simulator, tmp_path: Path, path: Path
) -> None:
    """`status` shows who was called by whom at a terminal; what may be mailed has no number."""
    with opened(path) as ledger:
        bring_to(ledger, UNCERTAIN, call())
    terminal = at_terminal(["status"])
    assert (terminal.finish(), f"           to {CUSTOMER}  by agent {AGENT}" in terminal.lines()) == (4, True)
    ran = program("status")
    assert (ran.code, CUSTOMER in ran.stdout, "uncertain: a1" in ran.stdout) == (4, False, True)


@pytest.mark.parametrize("decision", Decision)
def test_decision_taken_back(path: Path, ledger: Ledger, decision: Decision) -> None:
    """A settled call is uncertain again with all that was to be posted of it, and can be settled otherwise."""
    bring_to(ledger, UNCERTAIN, call())
    before = ledger.uncertain_calls(9)[0][0]
    ledger.resolve(["a1"], decision, note="", who="ann")
    ledger.reopen(["a1"])
    ((again, fate, _),) = ledger.uncertain_calls(9)
    assert (again, fate.reason, ledger._rows("SELECT * FROM decisions")) == (before, "reopened", [])
    with pytest.raises(UsageError, match="nobody has settled call 'a1'"):
        ledger.reopen(["a1"])
    ledger.resolve(["a1"], Decision.SENT, note="", who="ann")
    assert ledger.fates(["a1"])["a1"].state is ACCEPTED


def test_decision_that_stands(path: Path, ledger: Ledger) -> None:
    """Nothing is taken back after the next send, and neither a number that was forgotten comes back."""
    for one in ("a1", "a2"):
        bring_to(ledger, UNCERTAIN, call(one))
    ledger.resolve(["a1", "a2"], Decision.SENT, note="", who="ann")
    with pytest.raises(UsageError):
        ledger.reopen(["a1", "b9"])
    assert ledger.fates(["a1"])["a1"].state is ACCEPTED
    ledger.forget(CUSTOMER, who="ann")
    with pytest.raises(UsageError):
        ledger.reopen(["a1"])
    assert ledger._rows("SELECT * FROM reopenable") == []


def test_nameless_user(
    program: Program, account: Simulator, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A user whom the system does not name, as in a container, settles calls too."""
    account.script(Fault.lost_answer())
    program("import", "--init-ledger", write_export(tmp_path / "export.csv", [call_row(1)]))
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(pwd, "getpwuid", {}.__getitem__)
    assert program("resolve", "call00001", "--sent", "--note", "seen").code == 0


def test_resolve_reopen(program: Program, account: Simulator, tmp_path: Path) -> None:
    """`resolve` settles all or none; --reopen needs no note, ends with 4, and is refused once a call was sent."""
    account.script(Fault.lost_answer())
    export = write_export(tmp_path / "export.csv", [call_row(1), call_row(2)])
    assert program("import", "--init-ledger", "--max-uncertain", "1", export).code == 4
    for wrong in (("call99999", "--sent"), ("--sent", "--close"), ()):
        assert program("resolve", "call00001", *wrong, "--note", "seen").code == 2
    assert program("status").code == 4
    assert "--reopen takes it back" in program("resolve", "call00001", "--close", "--note", "n").stdout
    ran = program("resolve", "call00001", "--reopen")
    assert (ran.code, ran.stdout) == (4, "1 call is uncertain again.\n")
    assert program("resolve", "call00001", "--not-sent", "--note", "n").code == 0
    assert program("deliver").code == 0
    assert [each["id"] for each in account.accepted].count("call00001") == 2
    assert program("resolve", "call00001", "--reopen").code == 2
