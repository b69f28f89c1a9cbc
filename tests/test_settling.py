"""Uncertain calls: what a mail says of them, what a terminal shows, and a decision taken back."""

import os
from pathlib import Path

import pytest

from conftest import Program, call_row, write_export
from importer.errors import UsageError
from importer.ledger import Decision, Ledger
from ledgers import ACCEPTED, AGENT, CUSTOMER, UNCERTAIN, bring_to, call, opened
from misbehaviour import Fault, Simulator
from terminal import Terminal


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
        f"  1 of them in {results}, all by the first of these commands, to be done in this order:",
    )
    assert [line.split("    # ")[0].strip() for line in commands] == [
        f"cdr-importer status --config {config}",
        f"cdr-importer resolve --config {config} ID --sent --note TEXT",
        f"cdr-importer deliver --config {config}",
    ]
    ran = program("deliver")
    assert f"    cdr-importer deliver --ledger {tmp_path}/ledger.sqlite    #" in ran.stderr
    assert "  Listed by the first of these commands" in ran.stderr


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


def test_numbers_at_a_terminal_only(program: Program, account: Simulator, tmp_path: Path, path: Path) -> None:
    """`status` shows who was called by whom at a terminal; what may be mailed has no number."""
    with opened(path) as ledger:
        bring_to(ledger, UNCERTAIN, call())
    terminal = Terminal(["status"], os.environ, tmp_path)
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


def test_resolve_reopen(program: Program, account: Simulator, tmp_path: Path) -> None:
    """`resolve --reopen` needs no note, ends with 4, and is refused once a run has sent a call."""
    account.script(Fault.lost_answer())
    export = write_export(tmp_path / "export.csv", [call_row(1), call_row(2)])
    assert program("import", "--init-ledger", "--max-uncertain", "1", export).code == 4
    assert "--reopen takes it back" in program("resolve", "call00001", "--close", "--note", "n").stdout
    ran = program("resolve", "call00001", "--reopen")
    assert (ran.code, ran.stdout) == (4, "1 call is uncertain again.\n")
    assert program("resolve", "call00001", "--not-sent", "--note", "n").code == 0
    assert program("deliver").code == 0
    assert [each["id"] for each in account.accepted].count("call00001") == 2
    assert program("resolve", "call00001", "--reopen").code == 2
